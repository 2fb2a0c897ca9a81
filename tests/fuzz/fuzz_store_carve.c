/*
 * Damaged files of an index as the salvage reads them: a base copy's octets, pages of the database, a log file. First
 * octet: which, and PUT_RIGHT: the checksums of what looks like a record, and of redo records, are put right. What is found
 * is a record; found again it changes nothing.
 */
#include "common/memfd.h"
#include "store/soup.h"

#include <assert.h>
#include <unistd.h>
#include <zlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { BASE, PAGES, LOG, LOG_EXACT, WHATS, PUT_RIGHT = 4 };
#define INPUT_BYTES_MAX 65536u

static void
on_record(void *arg, struct slice key, struct slice value)
{
	struct cursor payload;
	unsigned count;
	bool ok = format_check(key, value, &count, &payload);

	assert(ok);
	soup_merge(arg, key, value);
}

static bool
on_each(void *arg, struct slice key, struct slice value)
{
	on_record(arg, key, value);
	return true;
}

/* ---- checksums ---- */

static void
put_u32_at(uint8_t *p, uint32_t v)
{
	for (unsigned k = 0; k < 4; k++)
		p[k] = (uint8_t)(v >> (24 - 8 * k));
}

static void
put_value_right(struct slice key, uint8_t *value, size_t n)
{
	if (n < FORMAT_HEADER_BYTES)
		return;
	put_u32_at(value + 4, 0);
	put_u32_at(value + 4, (uint32_t)crc32(crc32(0, key.p, (uInt)key.n), value, (uInt)n));
}

/* Records one behind the other. */
static void
put_records_right(uint8_t *p, size_t n)
{
	struct cursor c = cursor_of(slice_of(p, n));

	while (!c.bad && cursor_left(&c) > 0) {
		struct slice key = cursor_take(&c, cursor_u16(&c)), value = cursor_slice(&c, FORMAT_VALUE_BYTES_MAX);

		if (!c.bad)
			put_value_right(key, p + (value.p - p), value.n);
	}
}

static void
put_redo_right(uint8_t *p, size_t n)
{
	uint32_t type = REDO_TYPE;
	struct redo_op op;
	struct redo r = {.ops = cursor_of(slice_of(p + REDO_HEADER_BYTES, n - REDO_HEADER_BYTES - 4))};

	memcpy(p, &type, sizeof type);
	while (redo_next(&r, &op))
		if (op.kind == REDO_PUT)
			put_value_right(op.key, p + (op.value.p - p), op.value.n);
	put_u32_at(p + n - 4, (uint32_t)crc32(0, p + 16, (uInt)(n - 20)));
}

/* Berkeley DB's own sum of a log record of n octets with its header. */
static void
put_log_right(uint8_t *p, size_t n)
{
	uint32_t sum = 0, head[2];

	for (size_t i = 12; i < n; i++)
		sum = sum * 33 + p[i];
	memcpy(head, p, sizeof head);
	sum ^= head[0] ^ head[1];
	memcpy(p + 8, &sum, sizeof sum);
}

/* The value of each pair of items of a page, when both lie on it. */
static void
put_page_right(uint8_t page[CARVE_PAGE_BYTES])
{
	uint16_t at[2], length[2];

	for (size_t slot = 32; slot + 4 <= CARVE_PAGE_BYTES; slot += 4) {
		memcpy(at, page + slot, sizeof at);
		if (at[0] + 3 > (int)CARVE_PAGE_BYTES || at[1] + 3 > (int)CARVE_PAGE_BYTES)
			return;
		for (unsigned i = 0; i < 2; i++)
			memcpy(&length[i], page + at[i], sizeof length[i]);
		if (at[0] + 3 + length[0] <= (int)CARVE_PAGE_BYTES && at[1] + 3 + length[1] <= (int)CARVE_PAGE_BYTES)
			put_value_right(slice_of(page + at[0] + 3, length[0]), page + at[1] + 3, length[1]);
	}
}

/* ---- what is read ---- */

static void
base(struct soup *s, uint8_t *p, size_t n, bool put_right)
{
	struct slice key, value;

	if (put_right)
		put_records_right(p, n);
	for (size_t at = 0; at < n;) {
		size_t took = carve_match(slice_of(p + at, n - at), &key, &value);

		assert(took <= n - at);
		if (took > 0)
			on_record(s, key, value);
		at += took > 0 ? took : 1;
	}
}

/* A file of pages: overflow values are on others. */
static void
pages(struct soup *s, uint8_t *p, size_t n, bool put_right)
{
	struct err e;

	for (size_t at = 0; put_right && at + CARVE_PAGE_BYTES <= n; at += CARVE_PAGE_BYTES)
		put_page_right(p + at);
	int fd = memfd_of(slice_of(p, n), &e);

	assert(fd >= 0);
	for (size_t at = 0; at < n; at += CARVE_PAGE_BYTES) {
		uint8_t page[CARVE_PAGE_BYTES] = {0};

		memcpy(page, p + at, n - at < sizeof page ? n - at : sizeof page);
		carve_page(page, fd, on_record, s);
	}
	(void)close(fd);
}

/* The input as it is; or cut into redo records (u16 length, octets), each with Berkeley DB's header before it. */
static void
log_file(struct soup *s, uint8_t *p, size_t n, bool put_right, bool exact)
{
	struct carve_log log = {.n = 0};
	struct cursor c = cursor_of(slice_of(p, n));
	uint32_t head[3] = {0}, before = 0;
	uint64_t serial;
	struct buf b;

	buf_init(&b, 4 * INPUT_BYTES_MAX);
	while (put_right && cursor_left(&c) > 1) {
		size_t length = cursor_u16(&c), left = cursor_left(&c);
		struct slice record = cursor_take(&c, length < left ? length : left);

		head[0] = before;
		head[1] = (uint32_t)(record.n + sizeof head);
		before = (uint32_t)b.n;
		buf_put(&b, head, sizeof head);
		buf_put_slice(&b, record);
		if (record.n >= REDO_HEADER_BYTES + 4)
			put_redo_right(b.p + b.n - record.n, record.n);
		put_log_right(b.p + b.n - record.n - sizeof head, record.n + sizeof head);
	}
	if (!put_right)
		buf_put(&b, p, n);
	carve_log_file(&log, 1, b.p, b.n);
	assert(log.chain.end <= b.n);
	uint64_t first = log.n > 0 ? log.list[0].serial : 1;

	(void)soup_apply(s, &log, exact, exact ? first - 1 : 0, &serial);
	free(log.list);
	buf_fini(&b);
}

/* ---- */

static bool
on_text(void *arg, struct slice key, struct slice value)
{
	put_slice(arg, key);
	put_slice(arg, value);
	return true;
}

static void
same(const struct soup *s, const struct soup *other)
{
	struct buf one, two;

	buf_init(&one, 1 << 24);
	buf_init(&two, 1 << 24);
	soup_each(s, on_text, &one);
	soup_each(other, on_text, &two);
	assert(slice_eq(buf_slice(&one), buf_slice(&two)));
	buf_fini(&one);
	buf_fini(&two);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct soup *s, *copy;
	uint8_t *p;

	if (n < 2 || n > INPUT_BYTES_MAX)
		return 0;
	p = malloc(--n);
	assert(p != NULL);
	memcpy(p, data + 1, n);
	s = soup_new();
	copy = soup_new();
	bool put_right = (data[0] & PUT_RIGHT) != 0;

	switch (data[0] % WHATS) {
	case BASE:
		base(s, p, n, put_right);
		break;
	case PAGES:
		pages(s, p, n, put_right);
		break;
	default:
		log_file(s, p, n, put_right, data[0] % WHATS == LOG_EXACT);
	}
	if (data[0] % WHATS < LOG) {
		soup_each(s, on_each, copy);
		same(s, copy);
		soup_each(s, on_each, copy);
		same(s, copy);
	}
	soup_free(&copy);
	soup_free(&s);
	free(p);
	return 0;
}
