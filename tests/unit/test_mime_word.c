/* RFC 2047: encoded words as the RFC shows them and as senders write them. */
#include "common/charset.h"
#include "common/mime_word.h"

#include <check.h>

START_TEST(test_decode)
{
	static const struct {
		struct slice in;
		const char *want;
	} rows[] = {
	    /* RFC 2047 8, the table of white space */
	    {SLICE("(=?ISO-8859-1?Q?a?=)"), "(a)"},
	    {SLICE("(=?ISO-8859-1?Q?a?= b)"), "(a b)"},
	    {SLICE("(=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=)"), "(ab)"},
	    {SLICE("(=?ISO-8859-1?Q?a?=  =?ISO-8859-1?Q?b?=)"), "(ab)"},
	    {SLICE("(=?ISO-8859-1?Q?a?=\r\n   =?ISO-8859-1?Q?b?=)"), "(ab)"},
	    {SLICE("(=?ISO-8859-1?Q?a_b?=)"), "(a b)"},
	    {SLICE("(=?ISO-8859-1?Q?a?= =?ISO-8859-2?Q?_b?=)"), "(a b)"},
	    {SLICE("=?ISO-8859-1?Q?Keld_J=F8rn_Simonsen?= <keld@dkuug.dk>"),
		"Keld Jørn Simonsen <keld@dkuug.dk>"},
	    {SLICE("=?ISO-8859-1?B?SWYgeW91IGNhbiByZWFkIHRoaXMgeW8=?=\r\n"
		   " =?ISO-8859-2?B?dSB1bmRlcnN0YW5kIHRoZSBleGFtcGxlLg==?="),
		"If you can read this you understand the example."},
	    /* RFC 2231 5: a language */
	    {SLICE("=?US-ASCII*EN?Q?Keith_Moore?="), "Keith Moore"},
	    /* a character split between two words, in both encodings */
	    {SLICE("=?utf-8?Q?a=E2=82?= =?UTF-8?Q?=AC?="), "a€"},
	    {SLICE("=?utf-8?B?4oI=?= =?utf-8?Q?=AC?="), "€"},
	    {SLICE("plain\r\n folded\ttext "), "plain folded\ttext"},
	    {SLICE("=?utf-8?q?with space?="), "with space"},
	    {SLICE("=?utf-8?q?=ZZ=4?="), "=ZZ=4"},
	    {SLICE("a =?utf-8?q?b?="), "a b"},
	    {SLICE("=?utf-8?q?a?=b"), "ab"},
	    {SLICE("=?utf-8?x?a?="), "=?utf-8?x?a?="},
	    {SLICE("=?utf-8?q?a"), "=?utf-8?q?a"},
	    {SLICE("=?utf-8?q?"), "=?utf-8?q?"},
	    {SLICE("=?"), "=?"},
	    {SLICE("=?" "?q?a?="), "=?" "?q?a?="},
	    {SLICE("=?utf-8?q?" "?="), ""},
	    {SLICE("=?x-unheard-of?q?=E9?="), "é"},
	    /* raw octets: UTF-8 when they are, else windows-1252 */
	    {SLICE("Fr\xF6sche"), "Frösche"},
	    {SLICE("Fr\xC3\xB6sche"), "Frösche"},
	    /* no line end and no NUL comes out */
	    {SLICE("=?utf-8?q?a=0D=0AX-Evil:_b=00c?="), "a  X-Evil: b c"},
	    {SLICE("=?utf-16be?q?=00a=00=0A=00b?="), "a b"},
	    {SLICE("a\0b"), "a b"},
	    {SLICE(""), ""},
	};
	struct buf out;

	buf_init(&out, 1000);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		buf_reset(&out);
		ck_assert(mime_word_decode(rows[i].in, &out));
		struct slice want = slice_str(rows[i].want);

		ck_assert_msg(slice_eq(buf_slice(&out), want), "%.*s: '%.*s'",
		    SLICE_ARG(rows[i].in), (int)out.n, (char *)out.p);
	}
	buf_fini(&out);
}
END_TEST

/* A word of MIME_WORD_BYTES_MAX octets is one, of one octet more is text. */
START_TEST(test_word_length)
{
	static uint8_t word[MIME_WORD_BYTES_MAX + 1];
	struct buf out;

	buf_init(&out, 4096);
	for (size_t n = MIME_WORD_BYTES_MAX - 1; n <= MIME_WORD_BYTES_MAX + 1; n++) {
		memset(word, 'x', n);
		memcpy(word, "=?utf-8?q?", 10);
		memcpy(word + n - 2, "?=", 2);
		buf_reset(&out);
		ck_assert(mime_word_decode(slice_of(word, n), &out));
		ck_assert_uint_eq(out.n, n <= MIME_WORD_BYTES_MAX ? n - 12 : n);
	}
	buf_fini(&out);
}
END_TEST

START_TEST(test_full)
{
	struct slice in = SLICE("a\xC3\xA9 =?iso-8859-1?q?=E9=E9?= =?utf-8?b?w6k=?= \xE9");
	struct buf out;

	for (size_t max = 0; max < 12; max++) {
		buf_init(&out, max);
		ck_assert(mime_word_decode(in, &out) == (max >= 13));
		ck_assert(utf8_valid(buf_slice(&out)));
		buf_fini(&out);
	}
	buf_init(&out, 13);
	ck_assert(mime_word_decode(in, &out));
	ck_assert_uint_eq(out.n, 13);
	buf_fini(&out);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("mime_word");
	TCase *t = tcase_create("mime_word");

	tcase_add_unchecked_fixture(t, charset_init, charset_fini);
	tcase_add_test(t, test_decode);
	tcase_add_test(t, test_word_length);
	tcase_add_test(t, test_full);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed != 0;
}
