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
	    .next_mailbox = 7, .next_uidvalidity = 8, .retired_uidvalidity = 9, .ring_next = {10, 11}};
	struct format_mailbox m = {.number = 1, .uidvalidity = 2, .uidnext = 3, .messages = 4, .unseen = 5, .deleted = 6,
	    .recent_uid = 3, .special_use = 8, .subscribed = true, .selectable = true, .highestmodseq = 9, .bytes = 10,
	    .tombstone_floor = 11, .gone_at = 12, .name = SLICE("ab")};
	struct format_entries e = {.n = 1, .e = {{.uid = 1, .flags = 2, .keywords = 3, .modseq = 4}}};
	struct format_details d = {.n = 1, .d = {{.uid = 1, .zone_minutes = -60, .internal_date = 2, .save_date = 3, .size = 4,
	    .thread = 5, .object_id = "0123456789abcde"}}};
	struct format_key key = format_key_u32_u32(FORMAT_ENTRIES, 1, 1);

	buf_init(&b, 4096);
	ck_assert(format_account_put(&b, &a));
	assert_octets("41010000" "00000000" "0000000000000001" "0000000000000002" "0000000000000003" "0000000000000004"
		      "0000000000000005" "0000000000000006" "00000007" "00000008" "00000009" "00000000" "000000000000000a"
		      "000000000000000b");
	ck_assert(format_mailbox_put(&b, &m));
	assert_octets("4d010000" "00000000" "00000002" "00000003" "00000004" "00000005" "00000006" "00000003" "00000008" "00000003"
		      "0000000000000009" "000000000000000a" "000000000000000b" "000000000000000c" "00000002" "6162");
	ck_assert(format_entries_put(&b, format_key_slice(&key), &e));
	assert_octets("45010001" "00000000" "00000001" "00000002" "0000000000000003" "0000000000000004");
	key.p[0] = FORMAT_DETAILS;
	ck_assert(format_details_put(&b, format_key_slice(&key), &d));
	assert_octets("44010001" "00000000" "00000001" "ffc4" "0000" "0000000000000002" "0000000000000003" "0000000000000004"
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
	    {"at most ", FORMAT_ENTRIES_MAX, " of 24 octets"},
	    {"at most ", FORMAT_DETAILS_MAX, " of 56 octets"},
	    {"each of ", FORMAT_REFS_MAX, " objects"},
	    {"at most ", FORMAT_TOMBSTONE_RANGES_MAX, " ranges"},
	    {"at most ", FORMAT_EXPUNGED_MAX, " expunged"},
	    {"u32 type ", REDO_TYPE, ""},
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

START_TEST(test_redo_patch_is_small)
{
	uint8_t old[872], value[872];

	memset(old, 7, sizeof old);
	memcpy(value, old, sizeof old);
	value[5] ^= 1;
	value[300] ^= 1;
	buf_init(&b, REDO_BYTES_MAX);
	redo_begin(&b, 1, 0);
	redo_change(&b, SLICE("E12345678"), slice_of(old, sizeof old), slice_of(value, sizeof value));
	ck_assert(redo_end(&b, true));
	ck_assert_uint_le(b.n, 64);
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
	const TTest *tests[] = {test_octets, test_page, test_damage, test_redo_patch_is_small, test_object_ids};

	for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++)
		tcase_add_test(t, tests[i]);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed != 0;
}
