/*
 * A base copy as a file. First octet: as it is; or its checksums and its number of records put right; or those of its
 * records, too. What is read whole has, record by record, the octets of its blocks; and then the salvage, which looks for
 * records octet by octet, finds those that are sound.
 */
#include "store/base.h"
#include "store/carve.h"
#include "store/file.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <zlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define FILE_BYTES_MAX 65536u
enum { PUT_SUMS = 1, PUT_RECORDS = 2 };

static char dir[64];
static int file;

static void
remove_dir(void)
{
	char path[FILE_PATH_BYTES_MAX];

	file_path(path, dir, "base");
	(void)unlink(path);
	(void)rmdir(dir);
}

static void
make_dir(void)
{
	char path[FILE_PATH_BYTES_MAX];

	(void)snprintf(dir, sizeof dir, "%s/mailstead-base-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	char *made = mkdtemp(dir);

	assert(made != NULL);
	file_path(path, dir, "base");
	file = open(path, O_RDWR | O_CREAT, 0600);
	assert(file >= 0);
	(void)atexit(remove_dir);
}

static void
put_number(uint8_t *p, uint64_t v, unsigned octets)
{
	for (unsigned i = 0; i < octets; i++)
		p[i] = (uint8_t)(v >> 8 * (octets - 1 - i));
}

static void
put_sum(uint8_t *to, const uint8_t *p, size_t n)
{
	put_number(to, crc32(0, p, (uInt)n), 4);
}

static uint64_t
put_records_right(uint8_t *p, size_t n, bool sums)
{
	struct cursor c = cursor_of(slice_of(p, n));
	struct slice key, value;
	uint64_t count = 0;

	for (; base_record_next(&c, &key, &value); count++) {
		uint8_t *v = p + (value.p - p);

		if (!sums || value.n < FORMAT_HEADER_BYTES)
			continue;
		put_number(v + 4, 0, 4);
		put_number(v + 4, crc32(crc32(0, key.p, (uInt)key.n), v, (uInt)value.n), 4);
	}
	return count;
}

/* Header, blocks and the count at the end; a length that leads out of the file is left to be met. */
static void
put_right(uint8_t *p, size_t n, bool records)
{
	uint64_t count = 0;

	if (n < BASE_HEADER_BYTES)
		return;
	put_sum(p + BASE_HEADER_BYTES - 4, p, BASE_HEADER_BYTES - 4);
	for (size_t at = BASE_HEADER_BYTES, length; n - at >= 8; at += 8 + length) {
		struct cursor c = cursor_of(slice_of(p + at, 4));

		length = cursor_u32(&c);
		if (length == 0 && n - at >= 16) {
			put_number(p + at + 8, count, 8);
			put_sum(p + at + 4, p + at + 8, 8);
		}
		if (length == 0 || length > n - at - 8)
			return;
		count += put_records_right(p + at + 8, length, records);
		put_sum(p + at + 4, p + at + 8, length);
	}
}

struct seen {
	struct buf all;
	struct buf sound;
	bool damaged;
};

static void
put_record(struct buf *b, struct slice key, struct slice value)
{
	put_u16(b, (uint16_t)key.n);
	buf_put_slice(b, key);
	put_slice(b, value);
}

static int
on_record(void *arg, struct slice key, struct slice value, struct err *e)
{
	struct seen *seen = arg;
	struct cursor payload;
	unsigned count;

	(void)e;
	put_record(&seen->all, key, value);
	if (format_check(key, value, &count, &payload))
		put_record(&seen->sound, key, value);
	else
		seen->damaged = true;
	return 0;
}

static void
on_carved(void *arg, struct slice key, struct slice value)
{
	put_record(arg, key, value);
}

/* The octets of all blocks of a copy that was read whole. */
static void
blocks(struct buf *b, struct slice in)
{
	for (size_t at = BASE_HEADER_BYTES, length;; at += 8 + length) {
		struct cursor c = cursor_of(slice_sub(in, at, in.n));

		length = cursor_u32(&c);
		if (length == 0)
			return;
		buf_put_slice(b, slice_sub(in, at + 8, at + 8 + length));
	}
}

static void
look(struct slice in)
{
	struct seen seen = {.damaged = false};
	struct base_info info, head;
	struct buf b;

	buf_init(&seen.all, 2 * FILE_BYTES_MAX);
	buf_init(&seen.sound, 2 * FILE_BYTES_MAX);
	buf_init(&b, 2 * FILE_BYTES_MAX);
	if (base_read(dir, on_record, &seen, &info, NULL) == 0) {
		int known = base_read_info(dir, &head, NULL);

		assert(known == 0 && head.serial == info.serial && head.bytes == in.n && info.bytes == in.n);
		blocks(&b, in);
		assert(slice_eq(buf_slice(&b), buf_slice(&seen.all)));
		buf_reset(&b);
		int carved = carve_base(dir, on_carved, &b, NULL);

		/* There may be more behind the end. */
		assert(carved == 0 && (seen.damaged || slice_starts(buf_slice(&b), buf_slice(&seen.sound))));
	} else {
		(void)carve_base(dir, on_carved, &b, NULL);
	}
	buf_fini(&seen.all);
	buf_fini(&seen.sound);
	buf_fini(&b);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	uint8_t *p;

	if (n < 1 || n > FILE_BYTES_MAX)
		return 0;
	if (dir[0] == '\0')
		make_dir();
	p = malloc(n);
	assert(p != NULL);
	memcpy(p, data + 1, --n);
	if (data[0] & (PUT_SUMS | PUT_RECORDS))
		put_right(p, n, (data[0] & PUT_RECORDS) != 0);
	if (ftruncate(file, 0) < 0 || pwrite(file, p, n, 0) != (ssize_t)n)
		abort();
	look(slice_of(p, n));
	free(p);
	return 0;
}
