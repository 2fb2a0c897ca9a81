/*
 * Records of an index as damaged disks give them. First octet: length of the
 * key; then key and value. The checksum is put right, so that what lies behind
 * it is reached. What decodes must encode to the same octets.
 */
#include "store/entry.h"
#include "store/format.h"
#include "store/uidset.h"

#include <assert.h>
#include <zlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void
put_right(struct slice key, uint8_t *value, size_t n)
{
	uLong crc = crc32(0, key.p, (uInt)key.n);

	memset(value + 4, 0, 4);
	crc = crc32(crc, value, (uInt)n);
	for (unsigned i = 0; i < 4; i++)
		value[4 + i] = (uint8_t)(crc >> (24 - 8 * i));
}

/* Tables whose payload has no decoder of its own in store/format.h: as those who read them do. */
static void
decode_plain(struct slice key, struct slice value, struct buf *b)
{
	struct cursor payload;
	unsigned count;

	if (!format_check(key, value, &count, &payload))
		return;
	struct slice rest = slice_of(payload.p, cursor_left(&payload)), back;
	struct uidset set = {.n = 0};

	assert(rest.n == value.n - FORMAT_HEADER_BYTES && key.p[0] == value.p[0]);
	if (key.p[0] == FORMAT_TOMBSTONES && uidset_get(rest, &set)) {
		format_begin(b, FORMAT_TOMBSTONES, count);
		assert(uidset_put(b, &set) && format_end(b, key) && slice_eq(buf_slice(b), value));
	}
	uidset_fini(&set);
	if (key.p[0] == FORMAT_KEYWORDS)
		for (unsigned bit = 0; bit < STORE_KEYWORDS_MAX; bit++) {
			back = store_keyword_name(rest, bit);
			assert(back.n <= rest.n && (back.n == 0 || store_keyword_find(rest, back) <= (int)bit));
		}
	if (key.p[0] == FORMAT_GARBAGE || key.p[0] == FORMAT_SUMMARY) {
		format_begin(b, (enum format_table)key.p[0], count);
		buf_put_slice(b, rest);
		assert(format_end(b, key) && slice_eq(buf_slice(b), value));
	}
}

static void
decode_all(struct slice key, struct slice value)
{
	struct format_account account;
	struct format_mailbox mailbox;
	struct format_entries entries;
	struct format_details details;
	struct format_refs refs;
	struct format_expunged expunged;
	struct format_request request;
	struct buf b;

	buf_init(&b, FORMAT_VALUE_BYTES_MAX);
	if (format_account_get(value, &account))
		assert(format_account_put(&b, &account) && slice_eq(buf_slice(&b), value));
	if (format_mailbox_get(key, value, &mailbox))
		assert(format_mailbox_put(&b, &mailbox) && slice_eq(buf_slice(&b), value));
	if (format_entries_get(key, value, &entries))
		assert(format_entries_put(&b, key, &entries) && slice_eq(buf_slice(&b), value));
	if (format_details_get(key, value, &details))
		assert(format_details_put(&b, key, &details) && slice_eq(buf_slice(&b), value));
	if (format_refs_get(key, value, &refs))
		assert(format_refs_put(&b, key, &refs) && slice_eq(buf_slice(&b), value));
	if (format_expunged_get(key, value, &expunged))
		assert(format_expunged_put(&b, key, &expunged) && slice_eq(buf_slice(&b), value));
	if (format_request_get(key, value, &request))
		assert(format_request_put(&b, key, &request) && slice_eq(buf_slice(&b), value));
	decode_plain(key, value, &b);
	buf_fini(&b);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	size_t key_n = n > 0 ? data[0] % (FORMAT_KEY_BYTES_MAX + 1) : 0;

	if (n < 1 + key_n || n - 1 - key_n > FORMAT_VALUE_BYTES_MAX)
		return 0;
	struct slice key = slice_of(data + 1, key_n);
	size_t value_n = n - 1 - key_n;
	uint8_t *value = malloc(value_n + 1);

	if (value == NULL)
		return 0;
	memcpy(value, data + 1 + key_n, value_n);
	decode_all(key, slice_of(value, value_n));
	if (value_n >= FORMAT_HEADER_BYTES && key_n > 0) {
		put_right(key, value, value_n);
		decode_all(key, slice_of(value, value_n));
	}
	free(value);
	return 0;
}
