#include "smtpd/queue_files.h"

#include "common/log.h"
#include "common/mem.h"
#include "common/memfd.h"
#include "common/mutant.h"
#include "common/name_table.h"
#include "common/summary.h"
#include "smtpd/queue.h"
#include "smtpd/queue_record.h"
#include "store/file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <unistd.h>

#define BLOCK_BYTES (64 * 1024)
#define NUMBER_CHARS 16

/* A file in which messages wait. */
struct pack {
	struct name_link link; /* by number */
	uint64_t number;
	uint32_t end;	  /* of the last batch that was written */
	unsigned waiting; /* messages in it that the index has */
};

static char messages_dir[FILE_PATH_BYTES_MAX];
static struct name_table packs;
static uint32_t pack_bytes = QUEUE_PACK_BYTES_MAX;
static uint64_t last_number;
static struct pack *current; /* where the next batch goes; NULL: into a new one */
static bool names_unsynced;  /* in the directory */
static bool old_found;	     /* at the start: messages in .meta files */

void
queue_files_set_pack_bytes(uint32_t bytes)
{
	pack_bytes = bytes;
}

/* ---- names ---- */

static void
path_of(const char *id, const char *suffix, char *path_r)
{
	char name[SMTP_QUEUE_ID_CHARS + 8];

	(void)snprintf(name, sizeof(name), "%s%s", id, suffix);
	file_path(path_r, messages_dir, name);
}

static void
pack_path(uint64_t number, char *path_r)
{
	char name[NUMBER_CHARS + 8];

	(void)snprintf(name, sizeof(name), "%016llx.pack", (unsigned long long)number);
	file_path(path_r, messages_dir, name);
}

/* 0: it is not the name of a pack. */
static uint64_t
number_of(struct slice name)
{
	uint64_t number = 0;

	if (name.n != NUMBER_CHARS + 5 || !slice_eq(slice_sub(name, NUMBER_CHARS, name.n), SLICE(".pack")))
		return 0;
	for (size_t i = 0; i < NUMBER_CHARS; i++) {
		uint8_t value;

		if (!ascii_hex_value(name.p[i], &value))
			return 0;
		number = number << 4 | value;
	}
	return number;
}

/* ---- which packs there are ---- */

static struct slice
key_of(const uint64_t *number)
{
	return slice_of((const uint8_t *)number, sizeof *number);
}

static struct pack *
pack_of(struct name_link *l)
{
	return (struct pack *)((uint8_t *)l - offsetof(struct pack, link));
}

static struct pack *
pack_find(uint64_t number)
{
	struct name_link *l = name_table_find(&packs, key_of(&number));

	return l != NULL ? pack_of(l) : NULL;
}

static struct pack *
pack_add(uint64_t number)
{
	struct pack *p = MEM_NEW(struct pack);

	last_number = number > last_number ? number : last_number;
	p->number = number;
	name_table_add(&packs, &p->link, key_of(&p->number));
	return p;
}

static void
pack_forget(struct pack *p)
{
	name_table_remove(&packs, &p->link);
	free(p);
}

/* ---- reading ---- */

/* Exactly n octets at that place into b. */
static int
read_exactly(int fd, uint64_t at, size_t n, struct buf *b, struct err *e)
{
	uint8_t *room = buf_room(b, n);

	if (room == NULL)
		return err_set(e, ERR_TEMP, ERR_CODE_CORRUPT, "temporary failure", "a message in a pack of the queue is too long");
	int64_t got = file_read(fd, at, room, n, e);

	if (got < 0)
		return -1;
	if ((size_t)got != n)
		return err_set(e, ERR_TEMP, ERR_CODE_CORRUPT, "temporary failure", "a pack of the queue is too short");
	buf_added(b, n);
	return 0;
}

/* Opens the pack of a message and reads its row: the descriptor, or -1. */
static int
open_row(const char *id, struct queue_spot spot, int flags, struct queue_row *row_r, struct err *e)
{
	char path[FILE_PATH_BYTES_MAX];
	struct buf b;
	bool good = false;

	pack_path(spot.pack, path);
	int fd = file_open(path, flags | O_CLOEXEC, e);

	if (fd < 0)
		return -1;
	buf_init(&b, QUEUE_ROW_BYTES);
	if (read_exactly(fd, spot.at, QUEUE_ROW_BYTES, &b, e) == 0) {
		good = queue_row_decode(buf_slice(&b), row_r) && strcmp(row_r->id, id) == 0;
		if (!good)
			err_set(e, ERR_TEMP, ERR_CODE_CORRUPT, "temporary failure", "the row of %s in its pack is damaged", id);
	}
	buf_fini(&b);
	if (good)
		return fd;
	(void)file_close(fd, NULL);
	return -1;
}

int
queue_files_text(const struct queue_message *m, int *text_r, struct err *e)
{
	char path[FILE_PATH_BYTES_MAX];
	struct queue_row row;
	struct buf b;

	*text_r = -1;
	if (queue_files_of(m).own) {
		path_of(m->id, ".msg", path);
		*text_r = file_open(path, O_RDONLY | O_CLOEXEC, e);
		return *text_r < 0 ? -1 : 0;
	}
	int fd = open_row(m->id, m->spot, O_RDONLY, &row, e);

	if (fd < 0)
		return -1;
	buf_init(&b, QUEUE_TEXT_TOGETHER_MAX);
	if (read_exactly(fd, (uint64_t)row.at + row.meta_bytes, row.text_bytes, &b, e) == 0)
		*text_r = memfd_of(buf_slice(&b), e);
	buf_fini(&b);
	(void)file_close(fd, NULL);
	return *text_r < 0 ? -1 : 0;
}

/* Record and summary, as octets. */
static int
read_meta(const char *id, struct queue_spot spot, struct buf *b, struct err *e)
{
	char path[FILE_PATH_BYTES_MAX];
	struct queue_row row;
	int fd, r;

	if (spot.pack == 0) {
		path_of(id, ".meta", path);
		fd = file_open(path, O_RDONLY | O_CLOEXEC, e);
		r = fd < 0 ? -1 : memfd_read_all(fd, b, e);
	} else {
		fd = open_row(id, spot, O_RDONLY, &row, e);
		r = fd < 0 ? -1 : read_exactly(fd, row.at, row.meta_bytes, b, e);
	}
	if (fd >= 0)
		(void)file_close(fd, NULL);
	return r;
}

int
queue_files_summary(const struct queue_message *m, int *summary_r, struct err *e)
{
	struct slice record, summary;
	struct buf b;

	*summary_r = -1;
	buf_init(&b, QUEUE_META_BYTES_MAX);
	if (read_meta(m->id, m->spot, &b, e) == 0) {
		if (queue_meta_decode(buf_slice(&b), &record, &summary))
			*summary_r = memfd_of(summary, e);
		else
			err_set(e, ERR_TEMP, ERR_CODE_CORRUPT, "temporary failure", "record and summary of %s are damaged", m->id);
	}
	buf_fini(&b);
	return *summary_r < 0 ? -1 : 0;
}

/* Reads a text, gives its blocks to fn, and compares its length and hash with what the message says. */
typedef int block_fn(void *arg, uint64_t at, struct slice block, struct err *e);

static int
hash_text(const struct queue_message *m, int text, block_fn *fn, void *arg, struct err *e)
{
	static uint8_t block[BLOCK_BYTES];
	EVP_MD_CTX *h = EVP_MD_CTX_new();
	uint8_t hash[32];
	uint64_t at = 0;
	int64_t n = 0;
	bool good = h != NULL && EVP_DigestInit_ex(h, EVP_sha256(), NULL) == 1;

	err_set(e, ERR_TEMP, ERR_CODE_NONE, "temporary failure", "hashing a message");
	while (good && at <= m->bytes && (n = memfd_read(text, at, block, sizeof(block), e)) > 0) {
		struct slice s = slice_of(block, (size_t)n);
		good = EVP_DigestUpdate(h, s.p, s.n) == 1 && (fn == NULL || at + s.n > m->bytes || fn(arg, at, s, e) == 0);
		at += s.n;
	}
	good = good && n == 0 && EVP_DigestFinal_ex(h, hash, NULL) == 1;
	EVP_MD_CTX_free(h);
	if (!good && at <= m->bytes)
		return -1;
	if (at != m->bytes || memcmp(hash, m->sha256, sizeof(hash)) != 0)
		return err_set(e, ERR_PERM, ERR_CODE_CORRUPT, "message changed", "queued message has another length or hash");
	return 0;
}

int
queue_files_check(const struct queue_message *m, struct err *e)
{
	int text;

	if (queue_files_text(m, &text, e) < 0)
		return -1;
	int r = hash_text(m, text, NULL, NULL, e);

	(void)close(text);
	return r;
}

/* ---- removing ---- */

struct queue_files_of
queue_files_of(const struct queue_message *m)
{
	struct queue_files_of f = {.spot = m->spot, .own = m->spot.pack == 0 || m->bytes > QUEUE_TEXT_TOGETHER_MAX};

	memcpy(f.id, m->id, sizeof f.id);
	return f;
}

static void
remove_file(const char *path)
{
	struct err e;

	/* What stays behind is found and removed at the next start. */
	if (file_unlink(path, &e) < 0)
		log_event(LOG_WARN, NO_SESSION, "queue-unlink", LOG_ERR(&e), LOG_END);
}

static void
remove_own(const char *id, const char *suffix)
{
	char path[FILE_PATH_BYTES_MAX];

	path_of(id, suffix, path);
	remove_file(path);
}

/* Without this mark an index that has to be made anew would have the message again. */
static void
mark_done(const char *id, struct queue_spot spot)
{
	static const uint8_t done[1] = {QUEUE_ROW_DONE};
	struct queue_row row;
	struct err e = {0};
	int fd = MUTANT(QUEUE_DONE) ? -1 : open_row(id, spot, O_RDWR, &row, &e);
	bool good = fd >= 0 && file_write(fd, spot.at, slice_of(done, 1), &e) == 0;

	if (fd >= 0 && file_close(fd, good ? &e : NULL) < 0)
		good = false;
	if (!good)
		log_event(LOG_WARN, NO_SESSION, "queue-mark", LOG_CSTR("id", id), LOG_ERR(&e), LOG_END);
}

static void
remove_pack(struct pack *p)
{
	char path[FILE_PATH_BYTES_MAX];

	pack_path(p->number, path);
	remove_file(path);
	pack_forget(p);
}

/* Nothing more is written into the current pack. */
static void
close_pack(void)
{
	struct pack *p = current;

	current = NULL;
	if (p != NULL && p->waiting == 0)
		remove_pack(p);
}

static void
leave_pack(const char *id, struct queue_spot spot)
{
	struct pack *p = pack_find(spot.pack);

	if (p == NULL)
		return;
	p->waiting -= p->waiting > 0;
	if (p == current || (p->waiting > 0 && !MUTANT(QUEUE_LEFT)))
		mark_done(id, spot);
	else
		remove_pack(p);
}

void
queue_files_remove(const struct queue_files_of *f)
{
	if (f->own)
		remove_own(f->id, ".msg");
	if (f->spot.pack == 0)
		remove_own(f->id, ".meta");
	else
		leave_pack(f->id, f->spot);
}

/* ---- writing ---- */

/* A batch that is being written to the end of a pack. */
struct batch {
	struct pack *pack;
	int fd;
	struct queue_add *adds;
	unsigned count;
	int own[QUEUE_ADDS_MAX]; /* the file of a text; -1: none */
};

void
queue_adds_fail(struct queue_add *adds, unsigned count, const struct err *e)
{
	for (unsigned i = 0; i < count; i++)
		if (adds[i].result == 0) {
			adds[i].result = -1;
			adds[i].error = *e;
		}
}

/* A new file, open; -1 when there is none. */
static int
create(const char *path, struct err *e)
{
	return file_open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, e);
}

/* Copies the text into b, or into the file `to` when that is one. */
struct copying {
	struct buf *b;
	int to;
};

static int
copy_block(void *arg, uint64_t at, struct slice s, struct err *e)
{
	struct copying *c = arg;

	if (c->to >= 0)
		return file_write(c->to, at, s, e);
	return buf_put_slice(c->b, s) ? 0 : err_set(e, ERR_LIMIT, ERR_CODE_TOO_BIG, "too big", "a text does not fit its batch");
}

/* Record and summary behind what is in b. */
static int
put_meta(const struct queue_add *a, struct buf *b, struct err *e)
{
	struct memfd_map summary;
	struct buf record, meta;
	bool good;

	if (memfd_map(a->summary, MEMFD_ANY_SIZE, SUMMARY_BYTES_MAX, &summary, e) < 0)
		return -1;
	buf_init(&record, QUEUE_RECORD_BYTES_MAX);
	buf_init(&meta, QUEUE_META_BYTES_MAX);
	good = queue_record_encode(a->message, &record) && queue_meta_encode(buf_slice(&record), summary.octets, &meta) &&
	    buf_put_slice(b, buf_slice(&meta));
	buf_fini(&record);
	buf_fini(&meta);
	memfd_unmap(&summary);
	return good ? 0 : err_set(e, ERR_LIMIT, ERR_CODE_TOO_BIG, "too big", "a queue item does not fit its file");
}

/* One message into the batch b, which will be at `at` in its pack, and its row. */
static int
put_entry(struct queue_add *a, uint32_t at, int *own_r, struct buf *b, struct queue_row *row_r, struct err *e)
{
	struct queue_message *m = a->message;
	bool own = queue_files_of(m).own;
	char path[FILE_PATH_BYTES_MAX];

	*row_r = (struct queue_row){.state = QUEUE_ROW_WAITING, .at = at + (uint32_t)b->n, .text_bytes = own ? 0 : (uint32_t)m->bytes};
	memcpy(row_r->id, m->id, sizeof row_r->id);
	if (!file_has_room(messages_dir, m->bytes))
		return err_set(e, ERR_TEMP, ERR_CODE_NO_SPACE, "no space left", "the disk is nearly full");
	if (put_meta(a, b, e) < 0)
		return -1;
	row_r->meta_bytes = at + (uint32_t)b->n - row_r->at;
	if (own) {
		path_of(m->id, ".msg", path);
		*own_r = create(path, e);
		names_unsynced = true;
		if (*own_r < 0)
			return -1;
	}
	struct copying c = {b, *own_r};

	return hash_text(m, a->text, copy_block, &c, e);
}

/* The octets that a message brings into a batch, or a few more. */
static size_t
entry_bytes(const struct queue_add *a)
{
	int64_t summary = memfd_size(a->summary, NULL);

	return a->message->item_bytes + 256 + (summary > 0 ? (size_t)summary : 0) +
	    (a->message->bytes > QUEUE_TEXT_TOGETHER_MAX ? 0 : a->message->bytes);
}

/* How many of them fit into a batch. */
static unsigned
batch_count(const struct queue_add *adds, unsigned count)
{
	unsigned n = 0;
	size_t bytes = 0;

	do
		bytes += entry_bytes(&adds[n++]);
	while (n < count && bytes + entry_bytes(&adds[n]) <= pack_bytes);
	return n;
}

/* Opens the pack that has room, or a new one. */
static int
open_pack(struct batch *w, struct err *e)
{
	bool fresh = current == NULL || current->end >= pack_bytes;
	char path[FILE_PATH_BYTES_MAX];

	pack_path(fresh ? last_number + 1 : current->number, path);
	w->fd = fresh ? create(path, e) : file_open(path, O_RDWR | O_CLOEXEC, e);
	if (w->fd < 0)
		return -1;
	if (fresh) {
		names_unsynced = true;
		close_pack();
		current = pack_add(last_number + 1);
	}
	w->pack = current;
	return 0;
}

/* Fills b with the batch; a message that fails leaves its row empty. */
static void
compose(struct batch *w, struct buf *b)
{
	static const uint8_t empty[QUEUE_BATCH_HEAD_BYTES + QUEUE_ADDS_MAX * QUEUE_ROW_BYTES];
	struct queue_row row;

	buf_put(b, empty, queue_row_at(w->count));
	for (unsigned i = 0; i < w->count; i++) {
		struct queue_add *a = &w->adds[i];
		size_t before = b->n;

		if (a->result < 0)
			continue;
		a->message->spot = (struct queue_spot){w->pack->number, w->pack->end + queue_row_at(i)};
		a->result = put_entry(a, w->pack->end, &w->own[i], b, &row, &a->error);
		b->failed = false;
		if (a->result < 0)
			b->n = before;
		else
			queue_row_encode(&row, b->p + queue_row_at(i));
	}
	queue_batch_head_encode(w->count, (uint32_t)b->n, b->p);
}

static unsigned
good_count(const struct queue_add *adds, unsigned count)
{
	unsigned n = 0;

	for (unsigned i = 0; i < count; i++)
		n += adds[i].result == 0;
	return n;
}

/* Writes the batch, which is not synced yet. */
static void
put_batch(struct batch *w)
{
	struct err e = {0};
	struct buf b;

	if (open_pack(w, &e) < 0) {
		queue_adds_fail(w->adds, w->count, &e);
		return;
	}
	buf_init(&b, QUEUE_PACK_BYTES_MAX + QUEUE_ENTRY_BYTES_MAX);
	compose(w, &b);
	if (good_count(w->adds, w->count) > 0) {
		uint32_t at = w->pack->end;

		w->pack->end += (uint32_t)b.n;
		if (file_write(w->fd, at, buf_slice(&b), &e) < 0) {
			queue_adds_fail(w->adds, w->count, &e);
			/* What of it is there may not come to stand behind a shorter one. */
			w->pack->end = pack_bytes;
		}
	}
	buf_fini(&b);
}

/* Syncs a file, if what was written into it is good so far, and closes it. */
static int
finish(int fd, bool good, struct err *e)
{
	int r = good && file_sync(fd, e) < 0 ? -1 : 0;

	return file_close(fd, r == 0 ? e : NULL) < 0 ? -1 : r;
}

static void
sync_batch(struct batch *w)
{
	struct err e = {0};

	for (unsigned i = 0; i < w->count; i++)
		if (w->own[i] >= 0)
			file_write_out(w->own[i]);
	for (unsigned i = 0; i < w->count; i++)
		if (w->own[i] >= 0 && finish(w->own[i], w->adds[i].result == 0 && !MUTANT(QUEUE_TEXT_SYNC), &w->adds[i].error) < 0)
			w->adds[i].result = -1;
	if (w->fd >= 0 && finish(w->fd, good_count(w->adds, w->count) > 0 && !MUTANT(QUEUE_PACK_SYNC), &e) < 0)
		queue_adds_fail(w->adds, w->count, &e);
}

/* Gives how many of them were in it. */
static unsigned
write_batch(struct queue_add *adds, unsigned count)
{
	struct batch w = {.fd = -1, .adds = adds, .count = batch_count(adds, count)};

	for (unsigned i = 0; i < w.count; i++)
		w.own[i] = -1;
	put_batch(&w);
	sync_batch(&w);
	/* Nobody has been told of what failed, and the index knows nothing of it. */
	for (unsigned i = 0; i < w.count; i++)
		if (adds[i].result < 0 && w.own[i] >= 0)
			remove_own(adds[i].message->id, ".msg");
	if (w.pack != NULL)
		w.pack->waiting += good_count(adds, w.count);
	return w.count;
}

void
queue_files_write(struct queue_add *adds, unsigned count)
{
	struct err e = {0};

	assert(count <= QUEUE_ADDS_MAX);
	for (unsigned i = 0; i < count;)
		i += write_batch(adds + i, count - i);
	if (!names_unsynced || good_count(adds, count) == 0 || MUTANT(QUEUE_NAMES_SYNC))
		return;
	if (file_sync_dir(messages_dir, &e) < 0)
		queue_adds_fail(adds, count, &e);
	else
		names_unsynced = false;
}

/* ---- all of them ---- */

/* Calls fn for each row that waits, up to where a batch cannot be read: what was being written when the process ended, or damage. */
typedef void row_fn(void *arg, struct queue_spot spot, const struct queue_row *row);

struct row_walk {
	row_fn *fn;
	void *arg;
};

/* The batch at `at`: its octets. -1 and e when it cannot be read. */
static int64_t
each_row_of(uint64_t number, int fd, uint64_t at, const struct row_walk *walk, struct buf *b, struct err *e)
{
	struct queue_row row;
	uint32_t bytes;
	unsigned count;

	buf_reset(b);
	if (read_exactly(fd, at, QUEUE_BATCH_HEAD_BYTES, b, e) < 0)
		return -1;
	if (!queue_batch_head_decode(buf_slice(b), &count, &bytes))
		return err_set(e, ERR_TEMP, ERR_CODE_CORRUPT, "temporary failure", "a batch of the queue is damaged");
	if (read_exactly(fd, at + QUEUE_BATCH_HEAD_BYTES, count * QUEUE_ROW_BYTES, b, e) < 0)
		return -1;
	for (unsigned i = 0; i < count; i++)
		if (queue_row_decode(slice_sub(buf_slice(b), queue_row_at(i), queue_row_at(i + 1)), &row) && row.state == QUEUE_ROW_WAITING)
			walk->fn(walk->arg, (struct queue_spot){number, (uint32_t)at + queue_row_at(i)}, &row);
	return bytes;
}

static int
each_row(uint64_t number, const struct row_walk *walk, struct err *e)
{
	char path[FILE_PATH_BYTES_MAX];
	struct buf b;

	pack_path(number, path);
	int fd = file_open(path, O_RDONLY | O_CLOEXEC, e);

	if (fd < 0)
		return -1;
	int64_t size = memfd_size(fd, e), n = size < 0 ? -1 : 0;

	buf_init(&b, QUEUE_BATCH_HEAD_BYTES + QUEUE_ADDS_MAX * QUEUE_ROW_BYTES);
	for (int64_t at = 0; n >= 0 && at < size; at += n)
		n = each_row_of(number, fd, (uint64_t)at, walk, &b, e);
	buf_fini(&b);
	(void)file_close(fd, NULL);
	return n < 0 ? -1 : 0;
}

/* The id in the name of a file with that suffix. */
static bool
id_of(struct slice name, const char *suffix, char id_r[SMTP_QUEUE_ID_CHARS + 1])
{
	struct slice id = slice_sub(name, 0, SMTP_QUEUE_ID_CHARS);

	return smtp_queue_id_valid(id) && slice_eq(slice_sub(name, id.n, name.n), slice_str(suffix)) &&
	    slice_cstr(id, id_r, SMTP_QUEUE_ID_CHARS + 1);
}

struct visit {
	queue_files_fn *fn;
	void *arg;
};

static void
visit_one(const struct visit *v, const char *id, struct queue_spot spot)
{
	struct slice record, summary;
	struct err e = {0};
	struct buf b;

	buf_init(&b, QUEUE_META_BYTES_MAX);
	if (read_meta(id, spot, &b, &e) == 0 && queue_meta_decode(buf_slice(&b), &record, &summary))
		v->fn(v->arg, id, spot, record);
	else
		log_event(LOG_ERROR, NO_SESSION, "queue-unrestored", LOG_CSTR("id", id), LOG_ERR(&e), LOG_END);
	buf_fini(&b);
}

static void
visit_row(void *arg, struct queue_spot spot, const struct queue_row *row)
{
	visit_one(arg, row->id, spot);
}

static int
visit_file(void *arg, const char *path, const char *name, struct err *e)
{
	uint64_t number = number_of(slice_str(name));
	char id[SMTP_QUEUE_ID_CHARS + 1];

	(void)e;
	if (id_of(slice_str(name), ".meta", id))
		visit_one(arg, id, (struct queue_spot){0, 0});
	struct row_walk walk = {visit_row, arg};
	struct err why = {0};

	if (number != 0 && each_row(number, &walk, &why) < 0)
		log_event(LOG_WARN, NO_SESSION, "queue-pack", LOG_CSTR("file", path), LOG_ERR(&why), LOG_END);
	return 0;
}

int
queue_files_each(queue_files_fn *fn, void *arg, struct err *e)
{
	struct visit v = {fn, arg};

	return file_each(messages_dir, visit_file, &v, e);
}

static void
sweep_row(void *arg, struct queue_spot spot, const struct queue_row *row)
{
	queue_files_has *const *has = arg;

	if (!(*has)(row->id))
		mark_done(row->id, spot);
}

/* Whatever is behind a batch that cannot be read, nobody will ask for it. */
static void
sweep_pack(struct pack *p, queue_files_has *has)
{
	struct row_walk walk = {sweep_row, &has};
	struct err e;

	if (p->waiting == 0)
		remove_pack(p);
	else
		(void)each_row(p->number, &walk, &e);
}

static int
sweep_file(void *arg, const char *path, const char *name, struct err *e)
{
	queue_files_has *const *has = arg;
	struct pack *p = pack_find(number_of(slice_str(name)));
	char id[SMTP_QUEUE_ID_CHARS + 1];

	(void)e;
	if (p != NULL) {
		sweep_pack(p, *has);
	} else if ((id_of(slice_str(name), ".msg", id) || id_of(slice_str(name), ".meta", id)) && !(*has)(id)) {
		log_event(LOG_INFO, NO_SESSION, "queue-orphan", LOG_CSTR("file", path), LOG_END);
		remove_file(path);
	}
	return 0;
}

int
queue_files_sweep(queue_files_has *has, struct err *e)
{
	return file_each(messages_dir, sweep_file, &has, e);
}

void
queue_files_count(const struct queue_message *m)
{
	struct pack *p = pack_find(m->spot.pack);

	if (p != NULL)
		p->waiting++;
}

static int
find_pack(void *arg, const char *path, const char *name, struct err *e)
{
	uint64_t number = number_of(slice_str(name));
	char id[SMTP_QUEUE_ID_CHARS + 1];

	(void)arg;
	(void)path;
	(void)e;
	if (number != 0)
		(void)pack_add(number);
	old_found = old_found || id_of(slice_str(name), ".meta", id);
	return 0;
}

int
queue_files_open(const char *dir, struct err *e)
{
	memcpy(messages_dir, dir, strlen(dir) + 1);
	queue_files_close();
	name_table_init(&packs);
	return file_each(messages_dir, find_pack, NULL, e);
}

bool
queue_files_any(void)
{
	return packs.count > 0 || old_found;
}

static void
free_pack(struct name_link *l)
{
	free(pack_of(l));
}

void
queue_files_close(void)
{
	name_table_drain(&packs, free_pack);
	name_table_fini(&packs);
	current = NULL;
	last_number = 0;
	names_unsynced = old_found = false;
}
