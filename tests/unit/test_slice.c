/*
 * Slices: numbers at their edges, pieces, strings with a NUL, hexadecimal both ways.
 */
#include "common/slice.h"

#include "common/buf.h"

#include <check.h>

START_TEST(numbers_have_an_edge)
{
	static const struct {
		const char *text;
		uint64_t max;
		bool good;
	} rows[] = {{"", 9, false}, {"0", 0, true}, {"1", 0, false}, {"007", 7, true}, {"8", 7, false}, {"-1", 9, false}, {"1 ", 9, false},
	    {"18446744073709551615", UINT64_MAX, true}, {"18446744073709551616", UINT64_MAX, false}};
	uint64_t v = 0;

	ck_assert_int_eq(slice_u64(slice_str(rows[_i].text), rows[_i].max, &v), rows[_i].good);
	if (rows[_i].good && _i == 7)
		ck_assert_uint_eq(v, UINT64_MAX);
}
END_TEST

START_TEST(pieces_are_all_there)
{
	struct slice rest = SLICE("a,,b,"), piece;
	static const char *const pieces[] = {"a", "", "b", ""};
	unsigned n = 0;

	while (slice_cut(&rest, ',', &piece)) {
		ck_assert_uint_lt(n, 4);
		ck_assert(slice_eq(piece, slice_str(pieces[n++])));
	}
	ck_assert_uint_eq(n, 4);
}
END_TEST

START_TEST(strings_end_at_no_nul_of_the_peer)
{
	char text[4];

	ck_assert(slice_cstr(SLICE("abc"), text, sizeof text));
	ck_assert_str_eq(text, "abc");
	ck_assert(!slice_cstr(SLICE("abcd"), text, sizeof text));
	ck_assert(!slice_cstr(slice_of("a\0b", 3), text, sizeof text));
}
END_TEST

START_TEST(hexadecimal_goes_and_comes)
{
	static const uint8_t octets[] = {0x00, 0x0f, 0xa5, 0xff};
	uint8_t again[sizeof octets];
	char text[2 * sizeof octets];
	struct buf b;

	slice_hex(slice_of(octets, sizeof octets), text);
	ck_assert(slice_eq(slice_of(text, sizeof text), SLICE("000fa5ff")));
	ck_assert(slice_unhex(slice_of(text, sizeof text), again, sizeof again));
	ck_assert_mem_eq(again, octets, sizeof octets);
	ck_assert(slice_unhex(SLICE(""), again, 0));

	buf_init(&b, 10);
	ck_assert(buf_put_hex(&b, SLICE("")));
	ck_assert(buf_put_hex(&b, slice_of(octets, sizeof octets)));
	ck_assert(slice_eq(buf_slice(&b), SLICE("000fa5ff")));
	ck_assert(!buf_put_hex(&b, slice_of(octets, 2)));
	ck_assert(b.failed);
	buf_fini(&b);
}
END_TEST

START_TEST(other_texts_are_no_hexadecimal)
{
	static const char *const texts[] = {"", "0", "000", "00000", "000G", "00A0", "0 00", "00:0"};
	uint8_t octets[2];

	ck_assert(!slice_unhex(slice_str(texts[_i]), octets, sizeof octets));
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("slice");
	TCase *t = tcase_create("all");

	tcase_add_loop_test(t, numbers_have_an_edge, 0, 9);
	tcase_add_test(t, pieces_are_all_there);
	tcase_add_test(t, strings_end_at_no_nul_of_the_peer);
	tcase_add_test(t, hexadecimal_goes_and_comes);
	tcase_add_loop_test(t, other_texts_are_no_hexadecimal, 0, 8);
	suite_add_tcase(s, t);

	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? 0 : 1;
}
