#include "store/base.h"

#include "common/mem.h"
#include "store/file.h"
#include "common/mutant.h"

#include <assert.h>
#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>

#define BASE_FILE "base"
#define BASE_NEW_FILE "base.new"
#define INFO_BYTES (BASE_HEADER_BYTES - 4)

static const uint8_t magic[8] = "MAILBASE";

struct base_writer {
	struct env *env;
	char dir[FILE_PATH_BYTES_MAX];
	struct base_info info;
	int fd;
	uint64_t at;
	uint64_t records;
	struct buf block;
	struct buf last_key; /* empty before the first record */
};

static uint32_t
sum(struct slice s)
{
	return (uint32_t)crc32(0, s.p, (uInt)s.n);
}

/* ---- writing ---- */

void
base_abandon(struct base_writer **writer)
{
	struct base_writer *w = *writer;
	char path[FILE_PATH_BYTES_MAX];

	if (w == NULL)
		return;
	if (w->fd >= 0)
		(void)file_close(w->fd, NULL);
	file_path(path, w->dir, BASE_NEW_FILE);
	(void)file_unlink(path, NULL);
	buf_fini(&w->block);
	buf_fini(&w->last_key);
	MEM_FREE(writer);
}

static int
write_header(struct base_writer *w, struct err *e)
{
	struct buf b;

	buf_init(&b, BASE_HEADER_BYTES);
	buf_put(&b, magic, sizeof magic);
	put_u32(&b, BASE_VERSION);
	put_u32(&b, w->info.log.file);
	put_u32(&b, w->info.log.offset);
	put_u32(&b, 0);
	put_u64(&b, w->info.serial);
	put_u64(&b, w->info.time);
	put_u32(&b, sum(buf_slice(&b)));
	assert(b.n == BASE_HEADER_BYTES);
	int failed = file_write(w->fd, 0, buf_slice(&b), e);

	w->at = b.n;
	buf_fini(&b);
	return failed;
}

int
base_begin(struct env *env, const char *dir, uint64_t serial, uint64_t time, struct base_writer **writer_r,
    struct err *e)
{
	struct base_writer *w = MEM_NEW(struct base_writer);
	char path[FILE_PATH_BYTES_MAX];

	assert(!env_in_transaction(env) && strlen(dir) < sizeof w->dir);
	w->env = env;
	memcpy(w->dir, dir, strlen(dir));
	w->info = (struct base_info){.log = env_log_end(env), .serial = serial, .time = time};
	buf_init(&w->block, BASE_BLOCK_BYTES_MAX);
	buf_init(&w->last_key, FORMAT_KEY_BYTES_MAX + 1);
	file_path(path, dir, BASE_NEW_FILE);
	w->fd = file_open(path, O_RDWR | O_CREAT | O_TRUNC, e);
	if (w->fd < 0 || write_header(w, e) < 0)
		base_abandon(&w);
	*writer_r = w;
	return w != NULL ? 0 : -1;
}

/* The octets summed are those of the block, or the number of records when it has none. */
static int
write_block(struct base_writer *w, struct slice octets, uint32_t length, struct err *e)
{
	struct buf head;
	int failed;

	buf_init(&head, BASE_BLOCK_HEADER_BYTES);
	put_u32(&head, length);
	put_u32(&head, sum(octets));
	failed = file_write(w->fd, w->at, buf_slice(&head), e);
	if (failed == 0)
		failed = file_write(w->fd, w->at + head.n, octets, e);
	w->at += head.n + octets.n;
	buf_fini(&head);
	return failed;
}

/* Copies records after last_key into the block. 1: stopped because it is full; 0: no more; -1. */
static int
fill_block(struct base_writer *w, struct err *e)
{
	struct env_cursor c;
	struct cursor payload;
	unsigned count;
	int r;

	buf_reset(&w->block);
	if (env_cursor_open(w->env, &c, e) < 0) {
		env_cursor_close(&c);
		return -1;
	}
	/* The least key above the last one is that with a zero octet behind it. */
	for (r = env_cursor_seek(&c, buf_slice(&w->last_key), e); r == 1; r = env_cursor_next(&c, e)) {
		/* What is damaged would be the truth from now on. */
		if (!format_check(c.key, c.value, &count, &payload)) {
			r = env_refuse(w->env, "a record for the base copy", e);
			break;
		}
		put_u16(&w->block, (uint16_t)c.key.n);
		buf_put_slice(&w->block, c.key);
		put_slice(&w->block, c.value);
		w->records++;
		buf_reset(&w->last_key);
		buf_put_slice(&w->last_key, c.key);
		if (w->block.n >= BASE_BLOCK_FULL_BYTES)
			break;
	}
	buf_put_u8(&w->last_key, 0);
	env_cursor_close(&c);
	return r;
}

static int
finish(struct base_writer *w, struct err *e)
{
	char from[FILE_PATH_BYTES_MAX], to[FILE_PATH_BYTES_MAX];
	int failed;

	buf_reset(&w->block);
	put_u64(&w->block, w->records);
	if (write_block(w, buf_slice(&w->block), 0, e) < 0)
		return -1;
	/* The copy may hold what the log does not yet: it may not be found before the log has it. */
	if ((!MUTANT(BASE_FLUSH) && env_flush(w->env, e) < 0) || (!MUTANT(BASE_SYNC) && !MUTANT(BASE_ORDER) && file_sync(w->fd, e) < 0))
		return -1;
	file_path(from, w->dir, BASE_NEW_FILE);
	file_path(to, w->dir, BASE_FILE);
	if (MUTANT(BASE_ORDER) && (file_rename(from, to, e) < 0 || file_sync_dir(w->dir, e) < 0 || file_sync(w->fd, e) < 0))
		return -1;
	failed = file_close(w->fd, e);
	w->fd = -1;
	if (failed || MUTANT(BASE_ORDER))
		return failed;
	if (file_rename(from, to, e) < 0)
		return -1;
	return MUTANT(BASE_DIR_SYNC) ? 0 : file_sync_dir(w->dir, e);
}

int
base_step(struct base_writer **writer, size_t bytes, struct base_info *info_r, struct err *e)
{
	struct base_writer *w = *writer;
	uint64_t until = w->at + bytes;
	int r = 1;

	assert(!env_in_transaction(w->env));
	while (r == 1 && w->at < until) {
		r = fill_block(w, e);
		if (r >= 0 && w->block.n > 0 && write_block(w, buf_slice(&w->block), (uint32_t)w->block.n, e) < 0)
			r = -1;
	}
	if (r == 1)
		return 1;
	if (r == 0)
		r = finish(w, e);
	w->info.bytes = w->at;
	if (r == 0) {
		*info_r = w->info;
		buf_fini(&w->block);
		buf_fini(&w->last_key);
		MEM_FREE(writer);
		return 0;
	}
	base_abandon(writer);
	return -1;
}

/* ---- reading ---- */

static int
corrupt(const char *what, struct err *e)
{
	return err_set(e, ERR_TEMP, ERR_CODE_CORRUPT, "temporary failure", "the base copy is damaged: %s", what);
}

static int
read_exactly(int fd, uint64_t at, void *p, size_t n, struct err *e)
{
	int64_t got = file_read(fd, at, p, n, e);

	if (got < 0)
		return -1;
	return (size_t)got == n ? 0 : corrupt("it ends early", e);
}

static int
read_info(int fd, struct base_info *info_r, struct err *e)
{
	uint8_t p[BASE_HEADER_BYTES];
	struct cursor c = cursor_of(slice_of(p, sizeof p));

	if (read_exactly(fd, 0, p, sizeof p, e) < 0)
		return -1;
	struct slice found = cursor_take(&c, sizeof magic);
	uint32_t version = cursor_u32(&c);

	*info_r = (struct base_info){.bytes = 0};
	info_r->log.file = cursor_u32(&c);
	info_r->log.offset = cursor_u32(&c);
	(void)cursor_u32(&c);
	info_r->serial = cursor_u64(&c);
	info_r->time = cursor_u64(&c);
	if (!MUTANT(BASE_HEADER_SUM) &&
	    (memcmp(found.p, magic, sizeof magic) != 0 || cursor_u32(&c) != sum(slice_of(p, INFO_BYTES))))
		return corrupt("its header", e);
	if (version != BASE_VERSION)
		return corrupt("its version is not known", e);
	info_r->bytes = (uint64_t)lseek(fd, 0, SEEK_END);
	return 0;
}

static int
open_base(const char *dir, struct err *e)
{
	char path[FILE_PATH_BYTES_MAX];

	file_path(path, dir, BASE_FILE);
	int exists = file_exists(path, e);

	if (exists == 0)
		return err_set(e, ERR_TEMP, ERR_CODE_NOT_FOUND, "temporary failure", "there is no base copy");
	return exists < 0 ? -1 : file_open(path, O_RDONLY, e);
}

int
base_read_info(const char *dir, struct base_info *info_r, struct err *e)
{
	int fd = open_base(dir, e);

	if (fd < 0)
		return -1;
	int failed = read_info(fd, info_r, e);

	(void)file_close(fd, NULL);
	return failed;
}

bool
base_record_next(struct cursor *c, struct slice *key_r, struct slice *value_r)
{
	if (c->bad || cursor_left(c) == 0)
		return false;
	*key_r = cursor_take(c, cursor_u16(c));
	*value_r = cursor_slice(c, FORMAT_VALUE_BYTES_MAX);
	if (key_r->n == 0 || key_r->n > FORMAT_KEY_BYTES_MAX)
		c->bad = true;
	return !c->bad;
}

static int
read_records(struct slice octets, base_record_fn *fn, void *arg, uint64_t *records, struct err *e)
{
	struct cursor c = cursor_of(octets);
	struct slice key, value;

	while (base_record_next(&c, &key, &value)) {
		if (fn != NULL && fn(arg, key, value, e) < 0)
			return -1;
		++*records;
	}
	return c.bad ? corrupt("a record", e) : 0;
}

/* One block at *at. 1: there are more; 0: it was the end, and all is there; -1. */
static int
read_block(int fd, uint64_t *at, uint8_t *room, base_record_fn *fn, void *arg, uint64_t *records, struct err *e)
{
	uint8_t p[BASE_BLOCK_HEADER_BYTES];
	struct cursor c = cursor_of(slice_of(p, sizeof p));

	if (read_exactly(fd, *at, p, sizeof p, e) < 0)
		return -1;
	uint32_t length = cursor_u32(&c), crc = cursor_u32(&c);
	uint32_t octets = length ? length : 8;

	if (length > BASE_BLOCK_BYTES_MAX)
		return corrupt("a block's length", e);
	if (read_exactly(fd, *at + sizeof p, room, octets, e) < 0)
		return -1;
	if (!MUTANT(BASE_BLOCK_SUM) && crc != sum(slice_of(room, octets)))
		return corrupt("a block's checksum", e);
	*at += sizeof p + octets;
	if (length)
		return read_records(slice_of(room, length), fn, arg, records, e) < 0 ? -1 : 1;
	c = cursor_of(slice_of(room, octets));
	return cursor_u64(&c) == *records ? 0 : corrupt("its number of records", e);
}

int
base_read(const char *dir, base_record_fn *fn, void *arg, struct base_info *info_r, struct err *e)
{
	uint64_t at = BASE_HEADER_BYTES, records = 0;
	uint8_t *room;
	int fd = open_base(dir, e), r = 1;

	if (fd < 0)
		return -1;
	if (read_info(fd, info_r, e) < 0)
		r = -1;
	room = mem_resize(NULL, BASE_BLOCK_BYTES_MAX, 1);
	while (r == 1)
		r = read_block(fd, &at, room, fn, arg, &records, e);
	free(room);
	(void)file_close(fd, NULL);
	return r;
}
