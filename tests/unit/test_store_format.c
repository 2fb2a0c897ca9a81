/*
 * The numbers of docs/format.md are those of the code, octet by octet; and
 * damage anywhere in a record is seen.
 */
#include "store/base.h"
#include "store/format.h"
#include "store/object.h"
#include "store/redo.h"

#include <check.h>
#include <stdio.h>

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

/* The page says the same numbers. */
START_TEST(test_page)
{
	static const struct {
		const char *before;
		unsigned long value;
		const char *after;
	} rows[] = {
	    {"at most ", FORMAT_ENTRIES_MAX, " entries"},
	    {"at worst ", FORMAT_HEADER_BYTES + FORMAT_COLUMNS_BYTES + FORMAT_ENTRIES_MAX * STORE_ENTRY_BYTES, " octets"},
	    {"at most ", FORMAT_DETAILS_MAX, " of 56 octets"},
	    {"each of ", FORMAT_REFS_MAX, " objects"},
	    {"at most ", FORMAT_TOMBSTONE_RANGES_MAX, " ranges"},
	    {"at most ", FORMAT_EXPUNGED_MAX, " expunged"},
	    {"u32 type ", REDO_TYPE, ""},
	    {"operations from octet ", REDO_HEADER_BYTES, " on"},
	};
	static char page[65536];
	char want[128];
	FILE *f = fopen("docs/format.md", "r");

	ck_assert_ptr_nonnull(f);
	size_t n = fread(page, 1, sizeof page - 1, f);

	fclose(f);
	page[n] = '\0';
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		(void)snprintf(want, sizeof want, "%s%lu%s", rows[i].before, rows[i].value, rows[i].after);
		ck_assert_msg(strstr(page, want) != NULL, "docs/format.md does not say \"%s\"", want);
	}
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
	const TTest *tests[] = {test_octets, test_page, test_damage, test_columns, test_columns_refused,
	    test_redo_patch_is_small, test_object_ids};

	for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++)
		tcase_add_test(t, tests[i]);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed != 0;
}
