/* Charsets to UTF-8, whole and in pieces; validation; folding and search. */
#include "common/charset.h"
#include "common/mem.h"
#include "common/text.h"
#include "tests/unit/each.h"


static const struct {
	const char *charset;
	struct slice in;
	const char *want;
	enum charset_result result;
} rows[] = {
    {"us-ascii", SLICE("abc"), "abc", CHARSET_OK},
    {"", SLICE("a\xC3\xA9"), "a\xC3\xA9", CHARSET_OK},
    {"us-ascii", SLICE("a\xE9"), "a\xC3\xA9", CHARSET_UNKNOWN},
    {"utf-8", SLICE("\xE2\x82\xAC"), "\xE2\x82\xAC", CHARSET_OK},
    {"UTF-8", SLICE("a\xE2\x82z"), "a\xEF\xBF\xBDz", CHARSET_REPLACED},
    {"utf-8", SLICE("a\xE2\x82"), "a\xEF\xBF\xBD", CHARSET_REPLACED},
    {"utf-8", SLICE("\xC0\x80"), "\xEF\xBF\xBD\xEF\xBF\xBD", CHARSET_REPLACED},
    {"utf-8", SLICE("\xED\xA0\x80"), "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD", CHARSET_REPLACED},
    {"utf-8", SLICE("\xF4\x8F\xBF\xBF"), "\xF4\x8F\xBF\xBF", CHARSET_OK},
    {"iso-8859-1", SLICE("Fr\xF6sche \x80"), "Fr\xC3\xB6sche \xE2\x82\xAC", CHARSET_OK},
    {"windows-1252", SLICE("\x93q\x94"), "\xE2\x80\x9Cq\xE2\x80\x9D", CHARSET_OK},
    {"iso-8859-15", SLICE("\xA4"), "\xE2\x82\xAC", CHARSET_OK},
    {"koi8-r", SLICE("\xF0\xD2\xC9\xD7\xC5\xD4"), "Привет", CHARSET_OK},
    {"windows-1251", SLICE("\xCF\xF0\xE8\xE2\xE5\xF2"), "Привет", CHARSET_OK},
    {"iso-2022-jp", SLICE("\x1B$B$3$s\x1B(B!"), "こん!", CHARSET_OK},
    {"shift_jis", SLICE("\x82\xB1\x82\xF1"), "こん", CHARSET_OK},
    {"gb2312", SLICE("\xC4\xE3\xBA\xC3"), "你好", CHARSET_OK},
    {"big5", SLICE("\xA7\x41\xA6\x6E"), "你好", CHARSET_OK},
    {"euc-kr", SLICE("\xBE\xC8"), "안", CHARSET_OK},
    {"utf-7", SLICE("Fr+APY-sche"), "Frösche", CHARSET_OK},
    {"utf-16be", SLICE("\0a\x20\xAC"), "a€", CHARSET_OK},
    {"big5", SLICE("a\xFF"), "a\xEF\xBF\xBD", CHARSET_REPLACED},
    {"shift_jis", SLICE("a\x82"), "a\xEF\xBF\xBD", CHARSET_REPLACED},
    {"x-unheard-of", SLICE("\xE9"), "\xC3\xA9", CHARSET_UNKNOWN},
    {"x-unheard-of", SLICE("\xC3\xA9"), "\xC3\xA9", CHARSET_UNKNOWN},
    {"utf-8//translit", SLICE("a"), "a", CHARSET_UNKNOWN},
    {"../../etc/x", SLICE("a"), "a", CHARSET_UNKNOWN},
};
#define ROWS (sizeof rows / sizeof rows[0])

START_TEST(test_whole)
{
	struct buf out;

	buf_init(&out, 1000);
	for (size_t i = 0; i < ROWS; i++) {
		buf_reset(&out);
		enum charset_result r = charset_to_utf8(slice_str(rows[i].charset), rows[i].in, &out);

		ck_assert_msg(slice_eq(buf_slice(&out), slice_str(rows[i].want)),
		    "%s row %zu: '%.*s'", rows[i].charset, i, (int)out.n, (char *)out.p);
		ck_assert_msg(r == rows[i].result, "%s row %zu: result %d", rows[i].charset, i, r);
	}
	buf_fini(&out);
}
END_TEST

/* The same octets one by one and in threes give the same text. */
START_TEST(test_stream)
{
	struct buf out;

	buf_init(&out, 1000);
	for (size_t i = 0; i < 2 * ROWS; i++) {
		size_t chunk = i % 2 ? 3 : 1;
		struct slice in = rows[i / 2].in;
		struct charset_stream *s = charset_stream_new(slice_str(rows[i / 2].charset));

		buf_reset(&out);
		for (size_t at = 0; at < in.n; at += chunk)
			charset_stream_feed(s, slice_sub(in, at, at + chunk), &out);
		enum charset_result r = charset_stream_end(s, &out);

		ck_assert_msg(slice_eq(buf_slice(&out), slice_str(rows[i / 2].want)),
		    "%s row %zu: '%.*s'", rows[i / 2].charset, i / 2, (int)out.n, (char *)out.p);
		ck_assert_int_eq(r, rows[i / 2].result);
		charset_stream_free(&s);
		ck_assert_ptr_null(s);
	}
	buf_fini(&out);
}
END_TEST

/* A full buf never holds half a character. */
START_TEST(test_full)
{
	static const char *const names[] = {"utf-8", "us-ascii", "x-none", "iso-8859-1", "koi8-r"};
	static const char in[] = "a\xC3\xA9\xE2\x82\xAC\xC3\xA9";
	struct buf out;

	for (size_t k = 0; k < 5; k++)
		for (size_t max = 0; max < 8; max++) {
			buf_init(&out, max);
			enum charset_result r =
			    charset_to_utf8(slice_str(names[k]), slice_str(in), &out);

			ck_assert_int_eq(r, CHARSET_FULL);
			ck_assert(out.n <= max && utf8_valid(buf_slice(&out)));
			buf_fini(&out);
		}
}
END_TEST

START_TEST(test_known)
{
	ck_assert(charset_known(SLICE("UTF-8")));
	ck_assert(charset_known(SLICE("us-ascii")));
	ck_assert(charset_known(SLICE("KOI8-R")));
	ck_assert(!charset_known(SLICE("X-NONE")));
	ck_assert(!charset_known(SLICE("UTF-8 ")));
}
END_TEST

START_TEST(test_utf8)
{
	uint32_t cp;
	struct buf out;

	ck_assert(utf8_valid(SLICE("")));
	ck_assert(utf8_valid(SLICE("\0a")));
	ck_assert(!utf8_valid(SLICE("\xC1\xBF")));
	ck_assert(!utf8_valid(SLICE("\xE0\x9F\xBF")));
	ck_assert(!utf8_valid(SLICE("\xF0\x8F\xBF\xBF")));
	ck_assert(!utf8_valid(SLICE("\xF4\x90\x80\x80")));
	ck_assert(!utf8_valid(SLICE("\xED\xBF\xBF")));
	ck_assert(!utf8_valid(SLICE("\x80")));
	ck_assert(!utf8_valid(SLICE("\xF5\x80\x80\x80")));
	ck_assert_uint_eq(utf8_cut(SLICE("a\xE2\x82\xAC"), 4).n, 4);
	ck_assert_uint_eq(utf8_cut(SLICE("a\xE2\x82\xAC"), 3).n, 1);
	ck_assert_uint_eq(utf8_cut(SLICE("a\xE2\x82\xAC"), 1).n, 1);
	ck_assert_uint_eq(utf8_cut(SLICE("\x80\x80\x80\x80\x80\x80"), 5).n, 5);
	ck_assert_uint_eq(utf8_next(SLICE("\xF0\x9F\x98\x80z"), &cp), 4);
	ck_assert_uint_eq(cp, 0x1F600);
	buf_init(&out, 10);
	/* Each valid code point's octets decode to it; surrogates are refused. */
	for (uint32_t c = 0; c <= 0x10FFFF; c += c < 0x3000 ? 1 : 61) {
		buf_reset(&out);
		each_assert(utf8_put(&out, c));
		each_assert(utf8_next(buf_slice(&out), &cp) == out.n);
		each_assert(cp == (c >= 0xD800 && c <= 0xDFFF ? 0xFFFD : c));
	}
	buf_fini(&out);
}
END_TEST

static bool
contains(const char *hay, const char *needle)
{
	struct buf folded;

	buf_init(&folded, 1000);
	ck_assert(text_fold(slice_str(needle), &folded));
	bool found = text_contains(slice_str(hay), buf_slice(&folded));

	buf_fini(&folded);
	return found;
}

START_TEST(test_fold)
{
	ck_assert(contains("Die Häsin", "HÄSIN"));
	ck_assert(contains("Straße", "STRASSE"));
	ck_assert(contains("ПРИВЕТ", "привет"));
	ck_assert(contains("e\xCC\x81t\xC3\xA9", "\xC3\xA9T"));
	ck_assert(contains("ﬁne", "FINE"));
	ck_assert(contains("x", ""));
	ck_assert(!contains("", "x"));
	ck_assert(!contains("abc", "abd"));
	ck_assert(contains("\xFFzz", "ZZ"));
}
END_TEST

/* No code point grows by more than the documented factor. */
START_TEST(test_net_unicode)
{
	static const struct {
		const char *in;
		bool is;
	} names[] = {
	    {"", true}, {"a b", true}, {"\u00e4", true}, {"a\u0308", false}, {"\u212b", false}, /* ANGSTROM SIGN is U+00C5 */
	    {"\U0001f600", true}, {"\ufb01", true},					/* a ligature is not NFKC's */
	    {"\xc3", false}, {"\xed\xa0\x80", false}, {"a\tb", false}, {"\x7f", false}, {"\xc2\x80", false}, {"\xc2\x9f", false}, {"\u00a0", true},
	    {"\u2028", false}, {"\u2029", false}, {"\u2027", true},
	};
	uint8_t *most = mem_new_array(TEXT_NET_UNICODE_BYTES_MAX + 1, 1);

	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		ck_assert_msg(text_is_net_unicode(slice_str(names[i].in)) == names[i].is, "row %zu", i);
	memset(most, 'x', TEXT_NET_UNICODE_BYTES_MAX + 1);
	ck_assert(text_is_net_unicode(slice_of(most, TEXT_NET_UNICODE_BYTES_MAX)));
	ck_assert(!text_is_net_unicode(slice_of(most, TEXT_NET_UNICODE_BYTES_MAX + 1)));
	free(most);
}
END_TEST

START_TEST(test_fold_growth)
{
	struct buf in, out;

	buf_init(&in, 8);
	buf_init(&out, 1000);
	for (uint32_t c = 0; c <= 0x10FFFF; c++) {
		buf_reset(&in);
		buf_reset(&out);
		utf8_put(&in, c);
		each_assert(text_fold(buf_slice(&in), &out));
		each_assert(out.n <= in.n * TEXT_FOLD_GROWTH_MAX);
	}
	buf_fini(&in);
	buf_fini(&out);
}
END_TEST

/* The finder agrees with a plain search, however the text is cut. */
START_TEST(test_finder)
{
	static const char *const hays[] = {"", "a", "ababac", "aaaaaaab", "abcabcabd", "xxabab"};
	static const char *const needles[] = {"", "a", "abac", "aab", "abcabd", "abab", "zz"};

	for (size_t h = 0; h < 6; h++)
		for (size_t k = 0; k < 7; k++)
			for (size_t chunk = 1; chunk < 5; chunk++) {
				struct slice hay = slice_str(hays[h]);
				struct text_finder f;

				text_finder_init(&f, slice_str(needles[k]));
				for (int round = 0; round < 2; round++) {
					for (size_t at = 0; at < hay.n; at += chunk)
						text_finder_feed(&f,
						    slice_sub(hay, at, at + chunk));
					ck_assert_int_eq(f.found,
					    strstr(hays[h], needles[k]) != NULL);
					text_finder_reset(&f);
				}
				text_finder_fini(&f);
			}
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("charset");
	TCase *t = tcase_create("charset");

	tcase_add_unchecked_fixture(t, charset_init, charset_fini);
	tcase_add_test(t, test_whole);
	tcase_add_test(t, test_stream);
	tcase_add_test(t, test_full);
	tcase_add_test(t, test_known);
	tcase_add_test(t, test_utf8);
	tcase_add_test(t, test_fold);
	tcase_add_test(t, test_net_unicode);
	tcase_add_test(t, test_fold_growth);
	tcase_add_test(t, test_finder);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed != 0;
}
