/*
 * Berkeley DB 5.3's own forms, as far as they are needed here, all in the byte order of the machine:
 *
 * A page: LSN (u32 file, u32 offset), u32 number, u32 previous, u32 next, u16 entries, u16 high free byte, u8 level, u8
 * type (5: leaf of a B-tree, 7: overflow), 2 octets, u32 checksum; then u16 offsets of the items: key, value, key, … An
 * item is u16 length, u8 type (1: the octets follow; 3: overflow: u8, u32 page, u32 length; 128: deleted). An overflow
 * page has as many octets as its high free byte says. The checksum is taken over the page with that field as zero.
 */
#include "store/carve.h"

#include "common/mem.h"
#include "common/mutant.h"
#include "store/base.h"
#include "store/file.h"

#include <assert.h>
#include <fcntl.h>

#define PAGE_ITEMS_AT 32u
#define PAGE_SUM_AT 28u
#define PAGE_LEAF 5u
#define PAGE_OVERFLOW 7u
#define ITEM_HEADER_BYTES 3u
#define ITEM_OVERFLOW_BYTES 12u
#define WINDOW_BYTES (1u << 20)

static uint16_t
u16_at(const uint8_t *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof v);
	return v;
}

static uint32_t
u32_at(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof v);
	return v;
}

/* Opens dir/name for reading; -1 with no error set when it is not there. */
static int
open_file(const char *dir, const char *name, bool *missing_r, struct err *e)
{
	char path[FILE_PATH_BYTES_MAX];
	int exists;

	file_path(path, dir, name);
	exists = file_exists(path, e);
	*missing_r = exists == 0;
	return exists == 1 ? file_open(path, O_RDONLY | O_NOFOLLOW, e) : -1;
}

/* ---- base copy ---- */

size_t
carve_match(struct slice in, struct slice *key_r, struct slice *value_r)
{
	struct cursor c = cursor_of(in), payload;
	unsigned count;

	*key_r = cursor_take(&c, cursor_u16(&c));
	if (c.bad || key_r->n == 0 || key_r->n > FORMAT_KEY_BYTES_MAX)
		return 0;
	*value_r = cursor_slice(&c, FORMAT_VALUE_BYTES_MAX);
	if (c.bad || value_r->n < FORMAT_HEADER_BYTES || value_r->p[0] != key_r->p[0] ||
	    !format_check(*key_r, *value_r, &count, &payload))
		return 0;
	return in.n - cursor_left(&c);
}

static void
scan_records(struct slice window, size_t until, size_t *at, carve_record_fn *fn, void *arg)
{
	struct slice key, value;

	while (*at < until) {
		size_t n = carve_match(slice_sub(window, *at, window.n), &key, &value);

		if (n > 0)
			fn(arg, key, value);
		*at += n > 0 ? n : 1;
	}
}

int
carve_base(const char *dir, carve_record_fn *fn, void *arg, struct err *e)
{
	const size_t overlap = 2 + FORMAT_KEY_BYTES_MAX + 4 + FORMAT_VALUE_BYTES_MAX;
	uint8_t *room;
	uint64_t at = 0;
	int64_t got;
	bool missing;
	int fd = open_file(dir, "base", &missing, e);

	if (fd < 0)
		return missing ? 0 : -1;
	room = mem_resize(NULL, WINDOW_BYTES + overlap, 1);
	while ((got = file_read(fd, at, room, WINDOW_BYTES + overlap, e)) > 0 && at < CARVE_FILE_BYTES_MAX) {
		/* What begins in the overlap is found in the next window. */
		size_t n = (size_t)got, until = n > WINDOW_BYTES ? WINDOW_BYTES : n, done = 0;

		scan_records(slice_of(room, n), until, &done, fn, arg);
		at += done;
	}
	free(room);
	(void)file_close(fd, NULL);
	return got < 0 ? -1 : 0;
}

/* ---- pages ---- */

static bool
page_is_sound(const uint8_t *page, uint32_t number)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < CARVE_PAGE_BYTES; i++)
		sum = (sum << 5) + sum + (i >= PAGE_SUM_AT && i < PAGE_SUM_AT + 4 ? 0 : page[i]);
	return (MUTANT(CARVE_PAGE_SUM) || sum == u32_at(page + PAGE_SUM_AT)) && u32_at(page + 8) == number;
}

/* The octets of an item that lie on the page; empty when there are none. */
static struct slice
item(const uint8_t *page, size_t slot)
{
	size_t at = PAGE_ITEMS_AT + 2 * slot, item_at, n;

	if (at + 2 > CARVE_PAGE_BYTES)
		return slice_of(NULL, 0);
	item_at = u16_at(page + at);
	if (item_at < PAGE_ITEMS_AT || item_at + ITEM_HEADER_BYTES > CARVE_PAGE_BYTES || page[item_at + 2] != 1)
		return slice_of(NULL, 0);
	n = u16_at(page + item_at);
	if (n > CARVE_PAGE_BYTES - ITEM_HEADER_BYTES - item_at)
		return slice_of(NULL, 0);
	return slice_of(page + item_at + ITEM_HEADER_BYTES, n);
}

/* A value that lies on other pages, into b. */
static bool
overflow(const uint8_t *page, size_t slot, int fd, struct buf *b)
{
	uint8_t other[CARVE_PAGE_BYTES];
	size_t at = PAGE_ITEMS_AT + 2 * slot, item_at, n;
	uint32_t next, length;

	buf_reset(b);
	if (fd < 0 || at + 2 > CARVE_PAGE_BYTES)
		return false;
	item_at = u16_at(page + at);
	if (item_at < PAGE_ITEMS_AT || item_at + ITEM_OVERFLOW_BYTES > CARVE_PAGE_BYTES || page[item_at + 2] != 3)
		return false;
	next = u32_at(page + item_at + 4);
	length = u32_at(page + item_at + 8);
	if (length > FORMAT_VALUE_BYTES_MAX)
		return false;
	while (b->n < length) {
		if (file_read(fd, (uint64_t)next * CARVE_PAGE_BYTES, other, sizeof other, NULL) != sizeof other ||
		    other[25] != PAGE_OVERFLOW)
			return false;
		n = u16_at(other + 22);
		if (n == 0 || n > CARVE_PAGE_BYTES - PAGE_ITEMS_AT)
			return false;
		buf_put(b, other + PAGE_ITEMS_AT, n);
		next = u32_at(other + 16);
	}
	return b->n == length && !b->failed;
}

void
carve_page(const uint8_t page[CARVE_PAGE_BYTES], int fd, carve_record_fn *fn, void *arg)
{
	size_t entries = u16_at(page + 20);
	struct cursor payload;
	unsigned count;
	struct buf b;

	if (page[25] != PAGE_LEAF)
		return;
	buf_init(&b, FORMAT_VALUE_BYTES_MAX + CARVE_PAGE_BYTES);
	for (size_t i = 0; i + 1 < entries && PAGE_ITEMS_AT + 2 * i < CARVE_PAGE_BYTES; i += 2) {
		struct slice key = item(page, i), value = item(page, i + 1);

		if (value.n == 0 && key.n > 0 && overflow(page, i + 1, fd, &b))
			value = buf_slice(&b);
		if (key.n > 0 && key.n <= FORMAT_KEY_BYTES_MAX && value.n >= FORMAT_HEADER_BYTES &&
		    format_check(key, value, &count, &payload))
			fn(arg, key, value);
	}
	buf_fini(&b);
}

static bool
is_later(struct env_log_place a, struct env_log_place b)
{
	return a.file > b.file || (a.file == b.file && a.offset > b.offset);
}

int
carve_pages(const char *dir, carve_record_fn *fn, void *arg, struct env_log_place *end_r, struct err *e)
{
	uint8_t page[CARVE_PAGE_BYTES];
	uint32_t number = 0;
	int64_t got;
	bool missing;
	int fd = open_file(dir, "index.db", &missing, e);

	*end_r = (struct env_log_place){0};
	if (fd < 0)
		return missing ? 0 : -1;
	for (; (got = file_read(fd, (uint64_t)number * sizeof page, page, sizeof page, e)) == sizeof page; number++) {
		struct env_log_place place = {u32_at(page), u32_at(page + 4)};

		if (page[25] == PAGE_LEAF && page_is_sound(page, number) && is_later(place, *end_r))
			*end_r = place;
		carve_page(page, fd, fn, arg);
		if ((uint64_t)number * sizeof page >= CARVE_FILE_BYTES_MAX)
			break;
	}
	(void)file_close(fd, NULL);
	return got < 0 ? -1 : 0;
}

/* ---- log ---- */

static bool
on_redo(void *arg, const struct redo *r, struct slice record)
{
	struct carve_log *log = arg;

	if (r->mark)
		return true;
	if (log->n == log->cap) {
		log->cap = log->cap ? log->cap * 2 : 256;
		log->list = mem_resize(log->list, log->cap, sizeof *log->list);
	}
	log->list[log->n++] = (struct carve_redo){r->serial, r->part, r->last, record};
	log->sure += !log->ended;
	return true;
}

static bool
on_broken(void *arg, struct env_log_place place)
{
	struct carve_log *log = arg;

	if (log->ended || is_later((struct env_log_place){log->durable.file, log->durable.offset}, place))
		return true;
	log->ended = true;
	log->end = (struct env_log_place){log->chain.file, log->chain.last};
	return true;
}

void
carve_log_file(struct carve_log *log, uint32_t number, uint8_t *p, size_t n)
{
	const struct logfile_fns fns = {on_redo, on_broken, log, false};

	logfile_octets(&log->chain, number, p, n, &fns);
	if (!log->ended)
		log->end = (struct env_log_place){log->chain.file, log->chain.last};
}

int
carve_log(const char *dir, struct redo_durable durable, struct carve_log *log_r, struct err *e)
{
	uint32_t *numbers;
	size_t n;
	int unknown = logfile_durable(dir, &durable, e), failed = logfile_numbers(dir, &numbers, &n, e);

	*log_r = (struct carve_log){.durable = durable, .files = mem_new_array(n + 1, sizeof *log_r->files)};
	for (size_t i = 0; failed == 0 && i < n; i++) {
		struct buf *b = &log_r->files[log_r->file_count++];

		log_r->first = numbers[0];
		buf_init(b, LOGFILE_BYTES_MAX);
		failed = logfile_read(dir, numbers[i], b, e);
		carve_log_file(log_r, numbers[i], b->p, b->n);
	}
	free(numbers);
	return failed < 0 || unknown < 0 ? -1 : 0;
}

void
carve_log_free(struct carve_log *log)
{
	for (size_t i = 0; i < log->file_count; i++)
		buf_fini(&log->files[i]);
	free(log->files);
	free(log->list);
	*log = (struct carve_log){.n = 0};
}
