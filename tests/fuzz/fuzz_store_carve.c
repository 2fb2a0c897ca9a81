/*
 * Damaged files of an index as the salvage reads them: a base copy's octets, a page of the database, a log file. First
 * octet: which; for pages and logs its other bits put checksums right. What is found is a record.
 */
#include "store/soup.h"

#include <assert.h>
#include <zlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

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
	(void)arg;
	on_record(arg, key, value);
	return true;
}

static void
base(struct soup *s, struct slice in)
{
	struct slice key, value;

	for (size_t at = 0; at < in.n;) {
		size_t took = carve_match(slice_sub(in, at, in.n), &key, &value);

		assert(took <= in.n - at);
		if (took > 0)
			on_record(s, key, value);
		at += took > 0 ? took : 1;
	}
}

static void
page(struct soup *s, struct slice in)
{
	uint8_t p[CARVE_PAGE_BYTES] = {0};

	memcpy(p, in.p, in.n < sizeof p ? in.n : sizeof p);
	carve_page(p, -1, on_record, s);
}

/* A redo record around the input, its checksum right, in a log of two. */
static void
log_file(struct soup *s, struct slice in, bool put_right)
{
	struct carve_log log = {.n = 0};
	uint32_t end, head[3] = {0}, type = REDO_TYPE;
	uint64_t serial;
	struct buf b;

	buf_init(&b, 1 << 20);
	if (put_right && in.n >= REDO_HEADER_BYTES + 4 && in.n <= 65536) {
		for (unsigned i = 0; i < 2; i++) {
			size_t at = b.n + sizeof head;

			/* The first record has none before it, and the second one the first, at 0. */
			head[0] = 0;
			head[1] = (uint32_t)(in.n + sizeof head);
			buf_put(&b, head, sizeof head);
			buf_put_slice(&b, in);
			memset(b.p + at, 0, 16);
			memcpy(b.p + at, &type, sizeof type);
			uint32_t crc = (uint32_t)crc32(0, b.p + at + 16, (uInt)(in.n - 20));

			for (unsigned k = 0; k < 4; k++)
				b.p[at + in.n - 4 + k] = (uint8_t)(crc >> (24 - 8 * k));
		}
	} else {
		buf_put_slice(&b, in);
	}
	(void)carve_log_file(buf_slice(&b), &log, &end);
	(void)soup_apply(s, &log, false, 0, &serial);
	free(log.list);
	buf_fini(&b);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct slice in = slice_of(data + 1, n > 0 ? n - 1 : 0);
	struct soup *s;

	if (n < 1 || n > (1 << 20) - 256)
		return 0;
	s = soup_new();
	switch (data[0] & 3) {
	case 0:
		base(s, in);
		break;
	case 1:
		page(s, in);
		break;
	default:
		log_file(s, in, (data[0] & 4) != 0);
	}
	struct soup *copy = soup_new();

	soup_each(s, on_each, copy);
	soup_free(&copy);
	soup_free(&s);
	return 0;
}
