/*
 * docs/format.md is what the code does: its layouts are read, and octets that the code makes are compared with them, as the
 * other numbers are with the code's constants. And damage anywhere in a record is seen.
 */
#include "tests/unit/store_fixture.h"

#include "common/mime.h"
#include "common/summary.h"
#include "common/summary_private.h"
#include "common/transfer.h"
#include "store/carve.h"
#include "store/dump.h"
#include "store/index_private.h"
#include "store/keeper_private.h"

#include <check.h>
#include <endian.h>
#include <stdio.h>
#include <zlib.h>

static struct buf b;

static void
assert_octets(const char *want_hex)
{
	char got[2048];
	size_t n = 0;

	/* The checksum has its own test. */
	memset(b.p + 4, 0, 4);
	for (size_t i = 0; i < b.n; i++)
		n += (size_t)snprintf(got + n, sizeof got - n, "%02x", b.p[i]);
	ck_assert_str_eq(got, want_hex);
}

START_TEST(test_octets)
{
	struct format_account a = {.serial = 1, .modseq = 2, .next_object = 3, .bytes = 4, .messages = 5, .created = 6,
	    .next_mailbox = 7, .next_uidvalidity = 8, .retired_uidvalidity = 9, .ring_next = {10, 11},
	    .retained_bytes = 12, .retained_messages = 13};
	struct format_mailbox m = {.number = 1, .uidvalidity = 2, .uidnext = 3, .messages = 4, .unseen = 5, .deleted = 6,
	    .recent_uid = 3, .special_use = 8, .retained = 13, .subscribed = true, .selectable = true, .highestmodseq = 9, .bytes = 10,
	    .tombstone_floor = 11, .gone_at = 12, .name = SLICE("ab")};
	struct format_entries e = {.n = 1, .e = {{.uid = 1, .flags = 2, .keywords = 3, .modseq = 4}}};
	struct format_details d = {.n = 1, .d = {{.uid = 1, .zone_minutes = -60, .internal_date = 2, .save_date = 3, .size = 4,
	    .thread = 5, .object_id = "0123456789abcde"}}};
	struct format_key key = format_key_u32_u32(FORMAT_ENTRIES, 1, 1);

	buf_init(&b, 4096);
	ck_assert(format_account_put(&b, &a));
	assert_octets("41010000" "00000000" "0000000000000001" "0000000000000002" "0000000000000003" "0000000000000004"
		      "0000000000000005" "0000000000000006" "00000007" "00000008" "00000009" "00000000" "000000000000000a"
		      "000000000000000b" "000000000000000c" "000000000000000d");
	ck_assert(format_mailbox_put(&b, &m));
	assert_octets("4d010000" "00000000" "00000002" "00000003" "00000004" "00000005" "00000006" "00000003" "00000008" "00000003" "0000000d"
		      "0000000000000009" "000000000000000a" "000000000000000b" "000000000000000c" "00000002" "6162");
	ck_assert(format_entries_put(&b, format_key_slice(&key), &e));
	assert_octets("45010001" "00000000" "0000000001" "0000000002" "000000000000000003" "000000000000000004");
	key.p[0] = FORMAT_DETAILS;
	ck_assert(format_details_put(&b, format_key_slice(&key), &d));
	assert_octets("44010001" "00000000" "00000001" "ffc4" "0000" "0000000000000002" "0000000000000003" "0000000000000004"
		      "0000000000000005" "30313233343536373839616263646500");
	d.d[0].ascii_headers = true;
	ck_assert(format_details_put(&b, format_key_slice(&key), &d));
	assert_octets("44010001" "00000000" "00000001" "ffc4" "0001" "0000000000000002" "0000000000000003" "0000000000000004"
		      "0000000000000005" "30313233343536373839616263646500");
	buf_fini(&b);
}
END_TEST

/* ---- the page ---- */

static const char *
page_text(void)
{
	static char page[131072];
	FILE *f = fopen("docs/format.md", "r");

	ck_assert_ptr_nonnull(f);
	size_t n = fread(page, 1, sizeof page - 1, f);

	fclose(f);
	ck_assert_uint_lt(n, sizeof page - 1);
	page[n] = '\0';
	return page;
}

/* A number as so many octets, the first of them the highest; more than eight: each is one more than the one before, or all are 0. */
static void
assert_field(const char *name, size_t at, size_t size, const uint8_t *p, uint64_t value)
{
	uint64_t got = 0;

	for (size_t i = 0; i < size; i++)
		if (size > 8)
			ck_assert_msg(p[i] == (value == 0 ? 0 : (uint8_t)(value + i)), "%s, octet %zu", name, at + i);
		else
			got = got << 8 | p[i];
	if (size <= 8)
		ck_assert_msg(got == value, "%s, octet %zu: %llx instead of %llx", name, at, (unsigned long long)got,
		    (unsigned long long)value);
}

/* The octets begin with these numbers, each where the page's layout of that name has its next field. How many octets that
 * is; what the layout has as "…" follows. */
static size_t
assert_layout(const char *name, struct slice octets, const uint64_t *values, size_t n)
{
	char head[64];
	unsigned at, size;
	size_t end = 0, i = 0;

	(void)snprintf(head, sizeof head, "\n```\n%s", name);
	const char *line = strstr(page_text(), head);

	ck_assert_msg(line != NULL, "docs/format.md has no layout \"%s\"", name);
	line = strchr(line + strlen(head), '\n') + 1;
	for (; sscanf(line, "%u %u", &at, &size) == 2; line = strchr(line, '\n') + 1, i++) {
		ck_assert_msg(i < n && at == end && at + size <= octets.n, "%s: field %zu, octet %u", name, i, at);
		assert_field(name, at, size, octets.p + at, values[i]);
		end = at + size;
	}
	ck_assert_msg(i == n, "%s: %zu fields instead of %zu", name, i, n);
	if (strncmp(line, "```", 3) != 0) {
		ck_assert_msg(sscanf(line, "%u", &at) == 1 && at == end && strstr(line, "…") != NULL, "%s: the rest", name);
	} else {
		ck_assert_msg(end <= octets.n, "%s: the end", name);
	}
	return end;
}
#define LAYOUT(name, octets, ...)                                                                                      \
	assert_layout(name, octets, (const uint64_t[]){__VA_ARGS__}, sizeof(uint64_t[]){__VA_ARGS__} / sizeof(uint64_t))

/* The key has the numbers 1, 2, … as the page's table of records has their sizes. */
static void
assert_key(char table, struct format_key key)
{
	char head[16];
	uint8_t want[64] = {(uint8_t)table};
	size_t n = 1;
	unsigned bits, value = 0;

	(void)snprintf(head, sizeof head, "\n| `%c` | ", table);
	const char *at = strstr(page_text(), head);

	ck_assert_msg(at != NULL, "no row of %c", table);
	for (at += strlen(head); *at != '|'; at++)
		if (*at == 'u' && sscanf(at, "u%u ", &bits) == 1) {
			n += bits / 8;
			ck_assert_uint_le(n, sizeof want);
			want[n - 1] = (uint8_t)++value;
		}
	ck_assert_msg(key.n == n && memcmp(key.p, want, n) == 0, "the key of %c", table);
	ck_assert_uint_le(n, FORMAT_KEY_BYTES_MAX);
}

START_TEST(test_keys)
{
	assert_key('A', format_key(FORMAT_ACCOUNT));
	assert_key('M', format_key_u32(FORMAT_MAILBOX, 1));
	assert_key('K', format_key_u32(FORMAT_KEYWORDS, 1));
	assert_key('E', format_key_u32_u32(FORMAT_ENTRIES, 1, 2));
	assert_key('D', format_key_u32_u32(FORMAT_DETAILS, 1, 2));
	assert_key('O', format_key_u64(FORMAT_REFS, 1));
	assert_key('T', format_key_tombstones(1, 2, 3));
	assert_key('X', format_key_expunged(1, 2, 3));
	assert_key('G', format_key_u64(FORMAT_GARBAGE, 1));
	assert_key('R', format_key_request(1, 2));
}
END_TEST

/* What follows the header of the value in b, which is one of that table. */
static struct slice
payload_of(enum format_table table, unsigned count)
{
	struct cursor c = cursor_of(slice_sub(buf_slice(&b), 4, b.n));
	size_t at = LAYOUT("value", buf_slice(&b), (uint8_t)table, FORMAT_VERSION, count, cursor_u32(&c));

	return slice_sub(buf_slice(&b), at, b.n);
}

START_TEST(test_layouts)
{
	struct format_account a = {.serial = 1, .modseq = 2, .next_object = 3, .bytes = 4, .messages = 5, .created = 6,
	    .next_mailbox = 7, .next_uidvalidity = 8, .retired_uidvalidity = 9, .ring_next = {10, 11},
	    .retained_bytes = 12, .retained_messages = 13};
	struct format_mailbox m = {.number = 1, .uidvalidity = 2, .uidnext = 3, .messages = 4, .unseen = 5, .deleted = 6,
	    .recent_uid = 3, .special_use = 8, .retained = 13, .selectable = true, .highestmodseq = 9, .bytes = 10,
	    .tombstone_floor = 11, .gone_at = 12, .name = SLICE("ab")};
	struct format_expunged x = {.mailbox = 77, .n = 2, .m = {{.entry = {1, 2, 3, 4}, .detail = {.uid = 1}},
	    {.entry = {5, 6, 7, 8}, .detail = {.uid = 5, .zone_minutes = -1, .ascii_headers = true, .internal_date = -2, .save_date = 9,
		.size = 10, .thread = 11, .object_id = {50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63, 64, 65}}}}};
	struct format_request r = {.origin = {20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35}, .sequence = 4,
	    .reply = SLICE("answer")};
	static struct format_refs refs = {.count = {1, 0, 0x12345678}};
	struct format_key key = format_key_expunged(1, 2, 3);
	struct slice octets;

	buf_init(&b, 4096);
	ck_assert(format_account_put(&b, &a));
	octets = payload_of(FORMAT_ACCOUNT, 0);
	ck_assert_uint_eq(LAYOUT("A, ", octets, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 10, 11, 12, 13), octets.n);
	ck_assert(format_mailbox_put(&b, &m));
	octets = payload_of(FORMAT_MAILBOX, 0);
	ck_assert_uint_eq(LAYOUT("M, ", octets, 2, 3, 4, 5, 6, 3, 8, 2, 13, 9, 10, 11, 12, 2), octets.n - 2);
	ck_assert(format_expunged_put(&b, format_key_slice(&key), &x));
	octets = payload_of(FORMAT_EXPUNGED, 2);
	size_t at = LAYOUT("X, ", octets, 77);

	at += LAYOUT("entry, ", slice_sub(octets, at, octets.n), 1, 2, 3, 4) + FORMAT_DETAIL_BYTES;
	at += LAYOUT("entry, ", slice_sub(octets, at, octets.n), 5, 6, 7, 8);
	at += LAYOUT("detail, ", slice_sub(octets, at, octets.n), 5, 0xffff, 1, UINT64_MAX - 1, 9, 10, 11, 50);
	ck_assert_uint_eq(at, octets.n);
	key = format_key_request(0, 1);
	ck_assert(format_request_put(&b, format_key_slice(&key), &r));
	octets = payload_of(FORMAT_REQUEST, 0);
	at = LAYOUT("R, ", octets, 20, 4, 6);
	ck_assert(slice_eq(slice_sub(octets, at, octets.n), SLICE("answer")));
	key = format_key_u64(FORMAT_REFS, 0);
	ck_assert(format_refs_put(&b, format_key_slice(&key), &refs));
	octets = payload_of(FORMAT_REFS, FORMAT_REFS_MAX);
	for (at = 0; at < FORMAT_REFS_MAX; at++)
		ck_assert_uint_eq(LAYOUT("O, ", slice_sub(octets, 4 * at, octets.n), refs.count[at]), 4);
	ck_assert_uint_eq(octets.n, 4 * at);
	buf_fini(&b);
}
END_TEST

START_TEST(test_redo_layout)
{
	const uint64_t type = htobe32(REDO_TYPE);
	uint8_t old[64] = {0}, value[64] = {0};
	struct slice octets;

	value[9] = value[10] = 1;
	value[50] = 2;
	buf_init(&b, REDO_BYTES_MAX);
	redo_begin(&b, 5, 3, &(struct redo_durable){4, 7, 8});
	redo_put(&b, SLICE("key"), SLICE("value"));
	redo_delete(&b, SLICE("gone"));
	redo_change(&b, SLICE("E"), slice_of(old, sizeof old), slice_of(value, sizeof value));
	ck_assert(redo_end(&b, true));
	octets = buf_slice(&b);
	size_t at = LAYOUT("redo record", octets, type, 0, 1, 1, 3, 5, 4, 7, 8);

	ck_assert(slice_eq(slice_sub(octets, at, octets.n - 4), SLICE("\1\0\3key\0\0\0\5value" "\2\0\4gone"
								      "\3\0\1E\0\2" "\0\11\0\2\1\1" "\0\62\0\1\2")));
	assert_field("the record's sum", octets.n - 4, 4, octets.p + octets.n - 4, crc32(0, octets.p + 16, (uInt)octets.n - 20));
	redo_mark(&b, &(struct redo_durable){4, 7, 8}, &(struct redo_pages){9, 10});
	octets = buf_slice(&b);
	at = LAYOUT("redo record", octets, type, 0, 1, 2, 0, 0, 4, 7, 8);
	at += LAYOUT("mark, ", slice_sub(octets, at, octets.n), 9, 10);
	ck_assert_uint_eq(at, octets.n - 4);
	buf_fini(&b);
}
END_TEST

/* ---- what only a whole account has ---- */

static struct index *ix;
static char root[64];
static struct err err;

static void
make_account(void)
{
	uint32_t uid, inbox;

	fixture_dir(root);
	ck_assert_int_eq(index_open(root, FIXTURE_NOW, &ix, &err), 0);
	inbox = index_target(ix, STORE_TARGET_INBOX);
	for (unsigned i = 0; i < 9; i++)
		ck_assert_int_eq(fixture_append(ix, root, inbox, "a message", &uid, &err), 0);
	ck_assert_int_eq(fixture_flags(ix, inbox, STORE_FLAGS_ADD, 0, "one\ntwo\n", 1, 2, &err), 0);
	ck_assert_int_eq(fixture_expunge(ix, inbox, 3, 5, &err), 0);
}

static void
remove_account(void)
{
	index_close(&ix);
	(void)tree_remove(root);
}

/* The payload of the first record of a table; its key in *key_r. */
static struct slice
first_of(enum format_table table, unsigned count_wanted, struct format_key *key_r)
{
	struct format_key first = format_key(table);
	struct env_cursor c;
	struct cursor payload;
	unsigned count;

	ck_assert_int_eq(env_cursor_open(ix->env, &c, &err), 0);
	ck_assert_int_eq(env_cursor_seek(&c, format_key_slice(&first), &err), 1);
	ck_assert_int_eq(c.key.p[0], (int)table);
	ck_assert(format_check(c.key, c.value, &count, &payload));
	ck_assert_uint_eq(count, count_wanted);
	memcpy(key_r->p, c.key.p, c.key.n);
	key_r->n = c.key.n;
	buf_reset(&b);
	buf_put_slice(&b, c.value);
	env_cursor_close(&c);
	return payload_of(table, count);
}

START_TEST(test_written)
{
	struct format_key key;
	struct slice octets;
	uint8_t id[STORE_OBJECT_ID_BYTES];

	make_account();
	buf_init(&b, FORMAT_VALUE_BYTES_MAX);
	ck_assert(slice_eq(first_of(FORMAT_KEYWORDS, 0, &key), SLICE("one\ntwo\n")));
	octets = first_of(FORMAT_TOMBSTONES, 1, &key);
	ck_assert_uint_eq(LAYOUT("T, ", octets, 3, 5), octets.n);
	assert_field("T", 1, 4, key.p + 1, index_target(ix, STORE_TARGET_INBOX));
	assert_field("T", 5, 8, key.p + 5, index_modseq(ix));
	(void)first_of(FORMAT_EXPUNGED, 3, &key);
	assert_field("X", 1, 8, key.p + 1, FIXTURE_NOW);
	assert_field("X", 9, 8, key.p + 9, ix->account.serial);
	/* The object of UID 3 has nobody any more. */
	ck_assert_int_ge(index_purge(ix, UINT64_MAX, UINT64_MAX, &err), 0);
	octets = first_of(FORMAT_GARBAGE, 0, &key);
	ck_assert_uint_eq(octets.n, sizeof id);
	for (size_t i = 0; i < sizeof id; i++)
		id[i] = (uint8_t)(i + 1);
	uint64_t number = object_number(octets.p);

	assert_field("G", 1, 8, key.p + 1, number);
	memcpy(b.p + 8, id, sizeof id);
	ck_assert_uint_eq(LAYOUT("G, ", octets, 1), octets.n);
	/* A value's header, and what its sum covers. */
	ck_assert(format_end(&b, format_key_slice(&key)));
	uint64_t sum = (uint64_t)b.p[4] << 24 | (uint64_t)b.p[5] << 16 | (uint64_t)b.p[6] << 8 | b.p[7];

	memset(b.p + 4, 0, 4);
	ck_assert_uint_eq(sum, crc32(crc32(0, key.p, (uInt)key.n), b.p, (uInt)b.n));
	buf_fini(&b);
	remove_account();
}
END_TEST

/* A base copy as the page has it, read by nothing of the store's. */
START_TEST(test_base_layout)
{
	struct env_log_place end;
	char path[128];
	uint64_t records = 0;
	size_t at;

	make_account();
	ck_assert_int_eq(index_flush(ix, &err), 0);
	end = env_log_end(ix->env);
	ck_assert_int_eq(index_upkeep_now(ix, &err), 0);
	(void)snprintf(path, sizeof path, "%s/index/base", root);
	FILE *f = fopen(path, "r");

	ck_assert_ptr_nonnull(f);
	buf_init(&b, 65536);
	buf_added(&b, fread(buf_room(&b, 65536), 1, 65536, f));
	fclose(f);
	struct slice all = buf_slice(&b);
	struct cursor c = cursor_of(slice_sub(all, 12, all.n));
	uint64_t file = cursor_u32(&c), offset = cursor_u32(&c);

	ck_assert(file == end.file && offset >= end.offset);
	at = LAYOUT("base copy", all, 0x4d41494c42415345, 1, file, offset, 0, ix->account.serial, FIXTURE_NOW, crc32(0, all.p, 40));
	ck_assert_uint_eq(at, BASE_HEADER_BYTES);
	c = cursor_of(slice_sub(all, at, all.n));
	uint32_t length = cursor_u32(&c);

	ck_assert(length > 0 && at + 8 + length < all.n);
	at += LAYOUT("block of records", slice_sub(all, at, all.n), length, crc32(0, all.p + at + 8, length));
	c = cursor_of(slice_sub(all, at, at + length));
	for (struct slice key, value; cursor_left(&c) > 0; records++) {
		struct cursor payload;
		unsigned count;

		key = cursor_take(&c, cursor_u16(&c));
		value = cursor_take(&c, cursor_u32(&c));
		ck_assert(!c.bad && format_check(key, value, &count, &payload));
	}
	at += length;
	ck_assert_uint_eq(at + 16, all.n);
	LAYOUT("block behind", slice_sub(all, at, all.n), 0, crc32(0, all.p + at + 8, 8), records);
	ck_assert_uint_gt(records, 5);
	buf_fini(&b);
	remove_account();
}
END_TEST

/* ---- summaries ---- */

#define HEADER "Date: Thu, 1 Jan 1970 01:00:16 +0100\r\nSubject: s\r\nTo: a@b\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n"
#define PART_HEADER "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n"
#define MESSAGE HEADER "--x\r\n" PART_HEADER "YQ==\r\n--x--\r\n"

START_TEST(test_summary_layout)
{
	struct summary_builder *builder = summary_builder_new(0);
	uint8_t sha256[SUMMARY_SHA256_BYTES];
	struct slice slices[14], octets;
	const uint64_t first = sizeof HEADER - 1;

	buf_init(&b, SUMMARY_BYTES_MAX);
	summary_builder_feed(builder, SLICE(MESSAGE));
	ck_assert(summary_builder_finish(builder, &b));
	summary_builder_free(&builder);
	ck_assert(summary_set_prefix(b.p, b.n, 100, 3, true));
	EVP_Digest(MESSAGE, sizeof MESSAGE - 1, sha256, NULL, EVP_sha256(), NULL);
	ck_assert(memcmp(b.p + 50, sha256, sizeof sha256) == 0);
	for (size_t i = 0; i < sizeof sha256; i++)
		b.p[50 + i] = (uint8_t)(i + 1);
	octets = buf_slice(&b);
	size_t at = LAYOUT("summary", octets, 1, 2 | 8, 100, 3, sizeof MESSAGE - 1, 12, first, 6, 1, 16, 60);
	struct cursor c = cursor_of(slice_sub(octets, at, octets.n));

	for (size_t i = 0; i < 14; i++)
		slices[i] = cursor_slice(&c, octets.n);
	ck_assert(cursor_done(&c));
	ck_assert(slice_eq(slices[3], SLICE("s")) && slice_eq(slices[5], SLICE("a@b")) && slices[4].n == 0);
	ck_assert_uint_eq(slices[13].n, 2 * 48);
	LAYOUT("part of a summary", slices[13], 1, 0, 0, 0, 0, 0, first, sizeof MESSAGE - 1 - first, 6, 6, UINT32_MAX);
	octets = slice_sub(slices[13], 48, 96);
	at = LAYOUT("part of a summary", octets, 0, 4, 5, 0, 0, first + 5, first + 5 + sizeof PART_HEADER - 1, 4, 3, 0, 0);
	ck_assert_uint_eq(at, octets.n);
	ck_assert(slice_eq(slice_sub(slices[12], 0, 5), SLICE("utf-8")));
	buf_fini(&b);
}
END_TEST

/* ---- numbers ---- */

#define KIB 1024u
#define MIB (1024u * 1024)

/* The page says the same numbers. */
static const struct {
	const char *before;
	unsigned long value;
	const char *after;
} page_rows[] = {
    {"at most ", FORMAT_ENTRIES_MAX, " entries"},
    {"at worst ", FORMAT_HEADER_BYTES + FORMAT_COLUMNS_BYTES + FORMAT_ENTRIES_MAX * STORE_ENTRY_BYTES, " octets"},
    {"a chunk of ", FORMAT_ENTRIES_MAX, " has"},
    {"has ", FORMAT_HEADER_BYTES + FORMAT_COLUMNS_BYTES, " octets in the best case"},
    {"best case, ", FORMAT_HEADER_BYTES + FORMAT_COLUMNS_BYTES + FORMAT_ENTRIES_MAX, " when each"},
    {"rewrites 2,", (100000 + FORMAT_ENTRIES_MAX - 1) / FORMAT_ENTRIES_MAX - 2000, " chunks"},
    {"at most ", FORMAT_DETAILS_MAX, " of 56 octets"},
    {"of ", FORMAT_DETAIL_BYTES, " octets, ascending by UID |"},
    {"each of ", FORMAT_REFS_MAX, " objects"},
    {"objects: ", FORMAT_REFS_MAX, " of u32"},
    {"references: ", FORMAT_REFS_MAX, " of these"},
    {"at most ", FORMAT_TOMBSTONE_RANGES_MAX, " ranges (u32"},
    {"`1:4,7`: at most ", FORMAT_TOMBSTONE_RANGES_MAX, " ranges |"},
    {"at most ", FORMAT_EXPUNGED_MAX, " expunged"},
    {"entry (", STORE_ENTRY_BYTES, ") and"},
    {"detail (", FORMAT_DETAIL_BYTES, ") |"},
    {"| ", STORE_OBJECT_ID_BYTES, " octets id of an object"},
    {"The id is ", STORE_OBJECT_ID_BYTES, " octets, written as 32"},
    {"written as ", 2 * STORE_OBJECT_ID_BYTES, " hexadecimal"},
    {"origin (", STORE_ORIGIN_BYTES, ")"},
    {"length of the answer, at most ", FORMAT_REPLY_BYTES_MAX, "\n"},
    {"order of their bits; at most ", STORE_KEYWORDS_MAX, " |"},
    {"levels joined by /, at most ", STORE_NAME_BYTES_MAX, " octets"},
    {"A value begins with ", FORMAT_HEADER_BYTES, " octets"},
    {"1   1  version, ", FORMAT_VERSION, "; any other"},
    {"(deliveries, ", INDEX_RING_DELIVERY_SLOTS, " slots)"},
    {"(workers, ", INDEX_RING_WORKER_SLOTS, " slots)"},
    {"flags: ", STORE_FLAG_SEEN, " \\Seen"},
    {", ", STORE_FLAG_ANSWERED, " \\Answered"},
    {", ", STORE_FLAG_FLAGGED, " \\Flagged, 8 \\Deleted"},
    {", ", STORE_FLAG_DELETED, " \\Deleted"},
    {", ", STORE_FLAG_DRAFT, " \\Draft\n"},
    {"special uses: ", STORE_USE_ALL, " \\All"},
    {", ", STORE_USE_ARCHIVE, " \\Archive"},
    {", ", STORE_USE_DRAFTS, " \\Drafts"},
    {", ", STORE_USE_FLAGGED, " \\Flagged, 16 \\Junk"},
    {", ", STORE_USE_JUNK, " \\Junk"},
    {", ", STORE_USE_SENT, " \\Sent"},
    {", ", STORE_USE_TRASH, " \\Trash"},
    {", ", STORE_USE_IMPORTANT, " \\Important"},
    {"pages of ", CARVE_PAGE_BYTES, " octets with checksums"},
    {"Berkeley DB's log, ", FILE_LOG_BYTES / MIB, " MiB each"},
    {"log files get their ", FILE_LOG_BYTES / MIB, " MiB"},
    {"reserve                  ", FILE_RESERVE_BYTES / MIB, " MiB set aside"},
    {"a reserve of ", FILE_RESERVE_BYTES / MIB, " MiB"},
    {"or less than ", FILE_SPACE_BYTES_MIN / MIB, " MiB plus"},
    {"room for it and ", FILE_SPACE_BYTES_MIN / MIB, " MiB more"},
    {"the purge looks at once (every ", KEEPER_PURGE_FIRST_MS / 1000, " s at most)"},
    {"  ", REDO_TYPE, ", Berkeley DB's type"},
    {"16   1  version, ", REDO_VERSION, "\n  17"},
    {"  ", REDO_HEADER_BYTES, "   …  operations"},
    {"mark, from octet ", REDO_HEADER_BYTES, " of the record"},
    {"ours (`store/redo.h`), each at most ", REDO_BYTES_MAX / KIB, " KiB"},
    {"closed once it is longer than ", REDO_FULL_BYTES / KIB, " KiB"},
    {"| ", REDO_PUT, " | put |"},
    {"| ", REDO_DELETE, " | delete |"},
    {"| ", REDO_PATCH, " | patch |"},
    {"   8   4  version, ", BASE_VERSION, "\n  12"},
    {"  ", BASE_HEADER_BYTES, "   …  blocks"},
    {"   ", BASE_BLOCK_HEADER_BYTES, "   …  records, none"},
    {"its octets, at most ", BASE_BLOCK_BYTES_MAX / KIB, " KiB"},
    {"closed once it has ", BASE_BLOCK_FULL_BYTES / KIB, " KiB"},
    {"the last one is over ", INDEX_BASE_LOG_BYTES_MIN / MIB, " MiB and half"},
    {"a keeper leaves, from ", INDEX_BASE_LOG_BYTES_IDLE / MIB, " MiB on"},
    {"   0   1  version, ", SUMMARY_VERSION, "\n"},
    {"more of its fields). At most ", SUMMARY_BYTES_MAX / MIB, " MiB"},
    {"  50  ", SUMMARY_SHA256_BYTES, "  SHA-256"},
    {"bits: ", SUMMARY_FLAG_FLAT, " the structure"},
    {", ", SUMMARY_FLAG_DATE, " the date is valid"},
    {", ", SUMMARY_FLAG_CUT, " text was cut"},
    {", ", SUMMARY_FLAG_ASCII_HEADERS, " no header has"},
    {"kind: ", MIME_LEAF, " a leaf"},
    {"leaf, ", MIME_MULTIPART, " a multipart"},
    {"multipart, ", MIME_MESSAGE, " a message\n"},
    {"encoding: ", TRANSFER_7BIT, " 7bit"},
    {", ", TRANSFER_8BIT, " 8bit"},
    {", ", TRANSFER_BINARY, " binary"},
    {", ", TRANSFER_QUOTED_PRINTABLE, " quoted-printable"},
    {", ", TRANSFER_BASE64, " base64"},
    {", ", TRANSFER_UNKNOWN, " not known"},
    {"| `mailstead-dump ", DUMP_VERSION, "` |"},
    {"one second for each ", KEEPER_COPY_BYTES_PER_S, " octets"},
    {"octets, and 4,0", INDEX_RETAINED_MESSAGE_BYTES - 4000, " more for each message"},
    {"there are at most ", STORE_DELETED_MAILBOXES_MAX / 1000, ",000 deleted mailboxes"},
    {"steps of at most ", INDEX_PURGE_MESSAGES, " messages"},
    {"messages or ", INDEX_PURGE_RECORDS, " files"},
};

/* Where the page breaks its lines and aligns its columns means nothing: each run of white space is one blank. */
static void
squeeze(char *text)
{
	char *to = text;

	for (const char *at = text; *at != '\0'; at++)
		if (*at != ' ' && *at != '\n')
			*to++ = *at;
		else if (to == text || to[-1] != ' ')
			*to++ = ' ';
	*to = '\0';
}

START_TEST(test_page)
{
	char want[128], *page = strdup(page_text());

	squeeze(page);

	for (size_t i = 0; i < sizeof page_rows / sizeof page_rows[0]; i++) {
		(void)snprintf(want, sizeof want, "%s%lu%s", page_rows[i].before, page_rows[i].value, page_rows[i].after);
		squeeze(want);
		ck_assert_msg(strstr(page, want) != NULL, "docs/format.md does not say \"%s\"", want);
	}
	free(page);
}
END_TEST

/* Each flipped bit, each cut, each other key: refused. */
START_TEST(test_damage)
{
	struct format_entries e = {.n = 3, .e = {{.uid = 5}, {.uid = 6}, {.uid = 9}}}, back;
	struct format_key key = format_key_u32_u32(FORMAT_ENTRIES, 1, 5), other = format_key_u32_u32(FORMAT_ENTRIES, 2, 5);

	buf_init(&b, 4096);
	ck_assert(format_entries_put(&b, format_key_slice(&key), &e));
	ck_assert(format_entries_get(format_key_slice(&key), buf_slice(&b), &back));
	ck_assert(!format_entries_get(format_key_slice(&other), buf_slice(&b), &back));
	for (size_t n = 0; n < b.n; n++)
		ck_assert(!format_entries_get(format_key_slice(&key), slice_sub(buf_slice(&b), 0, n), &back));
	for (size_t bit = 0; bit < 8 * b.n; bit++) {
		b.p[bit / 8] ^= (uint8_t)(1 << bit % 8);
		ck_assert_msg(!format_entries_get(format_key_slice(&key), buf_slice(&b), &back), "bit %zu", bit);
		b.p[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	buf_fini(&b);
}
END_TEST

/* Octets of a chunk of three whose modseqs lie so far apart. */
static size_t
chunk_bytes(uint64_t least, uint64_t apart)
{
	struct format_key key = format_key_u32_u32(FORMAT_ENTRIES, 1, 5);
	struct format_entries e = {.n = 3, .e = {{.uid = 5, .modseq = least}, {.uid = 6, .modseq = least + apart},
	    {.uid = 7, .modseq = least}}}, back;

	ck_assert(format_entries_put(&b, format_key_slice(&key), &e));
	ck_assert(format_entries_get(format_key_slice(&key), buf_slice(&b), &back));
	ck_assert_uint_eq(back.n, 3);
	ck_assert(memcmp(back.e, e.e, 3 * sizeof e.e[0]) == 0);
	return b.n;
}

/* A column is as wide as its greatest difference, and no wider. */
START_TEST(test_columns)
{
	static const struct {
		uint64_t apart;
		size_t width;
	} rows[] = {{0, 0}, {1, 1}, {255, 1}, {256, 2}, {65535, 2}, {65536, 4}, {UINT32_MAX, 4}, {UINT64_C(1) << 32, 8},
	    {UINT64_MAX, 8}};
	size_t fixed = FORMAT_HEADER_BYTES + FORMAT_COLUMNS_BYTES;
	struct format_entries worst = {.n = FORMAT_ENTRIES_MAX}, back;
	struct format_key key = format_key_u32_u32(FORMAT_ENTRIES, 1, 1);

	buf_init(&b, 4096);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		ck_assert_uint_eq(chunk_bytes(UINT64_MAX - rows[i].apart, rows[i].apart), fixed + 3 * rows[i].width);
	for (unsigned i = 0; i < worst.n; i++)
		worst.e[i] = (struct store_entry){.uid = i == 0 ? 1 : UINT32_MAX - worst.n + 1 + i, .flags = i == 0 ? 0 : UINT32_MAX,
		    .keywords = i == 0 ? 0 : UINT64_MAX, .modseq = i == 0 ? 0 : UINT64_MAX};
	ck_assert(format_entries_put(&b, format_key_slice(&key), &worst));
	ck_assert_uint_eq(b.n, fixed + FORMAT_ENTRIES_MAX * STORE_ENTRY_BYTES);
	ck_assert(format_entries_get(format_key_slice(&key), buf_slice(&b), &back));
	ck_assert(memcmp(back.e, worst.e, sizeof worst.e) == 0);
	buf_fini(&b);
}
END_TEST

/* What the encoder would not have made is refused, although its checksum is right. */
START_TEST(test_columns_refused)
{
	static const struct {
		const char *what;
		const char *columns;
		size_t n;
		bool good;
	} rows[] = {
#define ROW(what, columns, good) {what, columns, sizeof columns - 1, good}
#define REST "\0" "\0\0\0\0" "\0" "\0\0\0\0\0\0\0\0" "\0" "\0\0\0\0\0\0\0\0"
	    ROW("two entries", "\0\0\0\0\5" REST, true),
	    ROW("a gap", "\1\0\0\0\5\0\3" REST, true),
	    ROW("wider than needed", "\2\0\0\0\5\0\0\0\3" REST, false),
	    ROW("all differences 0", "\1\0\0\0\5\0\0" REST, false),
	    ROW("no difference 0", "\1\0\0\0\4\1\3" REST, false),
	    ROW("a width of three", "\3\0\0\0\5\0\0\0\1\0\0" REST, false),
	    ROW("a width beyond the number's", "\10\0\0\0\5\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\0" REST, false),
	    ROW("beyond the greatest number", "\1\377\377\377\377\0\1" REST, false),
	    ROW("a UID beyond the greatest", "\0\377\377\377\377" REST, false),
	    ROW("UIDs that go back", "\1\0\0\0\5\3\0" REST, false),
	    ROW("a UID below the key's", "\0\0\0\0\4" REST, false),
	    ROW("a column cut short", "\0\0\0\0\5", false),
	    ROW("an octet left over", "\0\0\0\0\5" REST "x", false),
#undef ROW
#undef REST
	};
	struct format_key key = format_key_u32_u32(FORMAT_ENTRIES, 1, 5);
	struct format_entries back;

	buf_init(&b, 4096);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		format_begin(&b, FORMAT_ENTRIES, 2);
		buf_put(&b, rows[i].columns, rows[i].n);
		ck_assert(format_end(&b, format_key_slice(&key)));
		ck_assert_msg(format_entries_get(format_key_slice(&key), buf_slice(&b), &back) == rows[i].good, "%s",
		    rows[i].what);
	}
	format_begin(&b, FORMAT_ENTRIES, 0);
	ck_assert(format_end(&b, format_key_slice(&key)));
	ck_assert(!format_entries_get(format_key_slice(&key), buf_slice(&b), &back));
	buf_fini(&b);
}
END_TEST

START_TEST(test_redo_patch_is_small)
{
	uint8_t old[872], value[872];

	memset(old, 7, sizeof old);
	memcpy(value, old, sizeof old);
	value[5] ^= 1;
	value[300] ^= 1;
	buf_init(&b, REDO_BYTES_MAX);
	redo_begin(&b, 1, 0, &(struct redo_durable){.serial = 0});
	redo_change(&b, SLICE("E12345678"), slice_of(old, sizeof old), slice_of(value, sizeof value));
	ck_assert(redo_end(&b, true));
	ck_assert_uint_le(b.n, 80);
	buf_fini(&b);
}
END_TEST

START_TEST(test_object_ids)
{
	uint8_t sha256[32] = {0xaa, 0xbb}, id[16];

	object_id(0x1234567890, sha256, id);
	ck_assert_uint_eq(object_number(id), 0x1234567890);
	ck_assert_uint_eq(id[8], 0xaa);
	ck_assert_uint_eq(object_shard(0x1234567890), 0x78);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("store_format");
	TCase *t = tcase_create("all");
	SRunner *r = srunner_create(s);
	const TTest *tests[] = {test_octets, test_keys, test_layouts, test_redo_layout, test_written, test_base_layout,
	    test_summary_layout, test_page, test_damage, test_columns, test_columns_refused,
	    test_redo_patch_is_small, test_object_ids};

	for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++)
		tcase_add_test(t, tests[i]);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed != 0;
}
