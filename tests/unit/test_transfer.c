/* RFC 2045 6.7 and 6.8, RFC 4648: decoders whole and octet by octet, strict base64. */
#include "common/transfer.h"

#include <check.h>

static void
decode(enum transfer_encoding encoding, struct slice in, size_t chunk, struct buf *out,
    struct transfer_decoder *d)
{
	buf_reset(out);
	transfer_decoder_init(d, encoding);
	for (size_t i = 0; i < in.n; i += chunk)
		ck_assert(transfer_decode(d, slice_sub(in, i, i + chunk), out));
	ck_assert(transfer_decode_end(d, out));
}

struct row {
	const char *in;
	const char *want;
	bool damaged;
};

static void
check_rows(enum transfer_encoding encoding, const struct row *rows, size_t n)
{
	struct buf out;
	struct transfer_decoder d, count;

	buf_init(&out, 65536);
	for (size_t i = 0; i < n; i++)
		for (size_t chunk = 1; chunk < 9; chunk++) {
			struct slice in = slice_str(rows[i].in);

			decode(encoding, in, chunk == 8 ? 100000 : chunk, &out, &d);
			ck_assert_msg(slice_eq(buf_slice(&out), slice_str(rows[i].want)),
			    "%s: got '%.*s'", rows[i].in, (int)out.n, (char *)out.p);
			ck_assert_msg(d.damaged == rows[i].damaged, "%s: damaged", rows[i].in);
			ck_assert_uint_eq(d.octets, out.n);
			transfer_decoder_init(&count, encoding);
			ck_assert(transfer_decode(&count, in, NULL));
			ck_assert(transfer_decode_end(&count, NULL));
			ck_assert_uint_eq(count.octets, d.octets);
		}
	buf_fini(&out);
}

START_TEST(test_quoted_printable)
{
	static const struct row rows[] = {
	    {"Now's the time =\r\nfor all folk to come=\r\n to the aid of their country.",
		"Now's the time for all folk to come to the aid of their country.", false},
	    {"a=3Db", "a=b", false},
	    {"a=3db", "a=b", false},
	    {"a=\nb", "ab", false},
	    {"a= \t\r\nb", "ab", false},
	    {"a  \t\r\nb", "a\r\nb", false},
	    {"a \nb ", "a\nb", false},
	    {"a  b", "a  b", false},
	    {"a\r\r\nb", "a\r\r\nb", false},
	    {"a\rb", "a\rb", false},
	    {"a=ZZb", "a=ZZb", true},
	    {"a=4", "a=4", true},
	    {"a=4\r\nb", "a=4\r\nb", true},
	    {"a==41", "a=A", true},
	    {"a=", "a", false},
	    {"=41=42=43", "ABC", false},
	    {"", "", false},
	};

	check_rows(TRANSFER_QUOTED_PRINTABLE, rows, sizeof rows / sizeof rows[0]);
}
END_TEST

/* What is encoded comes back, in lines of at most 76. */
START_TEST(test_quoted_printable_encode)
{
	static const struct {
		const char *plain, *encoded;
	} rows[] = {
	    {"", ""},
	    {"plain\r\n", "plain\r\n"},
	    {"a=b", "a=3Db"},
	    {"\xc3\xa9\r\n", "=C3=A9\r\n"},
	    {"a \r\nb\t", "a=20\r\nb=09"},
	    {"a\rb\nc", "a=0Db=0Ac"},
	    {"\x7f\x01", "=7F=01"},
	    {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa=b",
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa=\r\n=3Db"},
	};
	struct buf out, back;

	buf_init(&out, 4096);
	buf_init(&back, 4096);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct transfer_decoder d;
		buf_reset(&out);
		buf_reset(&back);
		ck_assert(quoted_printable_encode(slice_str(rows[i].plain), &out));
		ck_assert_msg(slice_eq(buf_slice(&out), slice_str(rows[i].encoded)), "%s: %.*s", rows[i].plain, (int)out.n, (const char *)out.p);
		transfer_decoder_init(&d, TRANSFER_QUOTED_PRINTABLE);
		ck_assert(transfer_decode(&d, buf_slice(&out), &back) && transfer_decode_end(&d, &back) && !d.damaged);
		ck_assert(slice_eq(buf_slice(&back), slice_str(rows[i].plain)));
	}
	buf_fini(&out);
	buf_init(&out, 5);
	ck_assert(!quoted_printable_encode(SLICE("==="), &out));
	buf_fini(&out);
	buf_fini(&back);
}
END_TEST

START_TEST(test_base64)
{
	static const struct row rows[] = {
	    {"Zm9vYmFy", "foobar", false},
	    {"Zm9v\r\nYmFy\r\n", "foobar", false},
	    {"Zm9vYg==", "foob", false},
	    {"Zm9vYmE=", "fooba", false},
	    {"Zm9vYmE", "fooba", false},
	    {"Zm9*v", "foo", true},
	    {"Zg==Zg==", "ff", true},
	    {"Zm9vY", "foo", true},
	    {"", "", false},
	};

	check_rows(TRANSFER_BASE64, rows, sizeof rows / sizeof rows[0]);
}
END_TEST

START_TEST(test_identity)
{
	static const struct row rows[] = {{"a=3D\r\n b ", "a=3D\r\n b ", false}};

	check_rows(TRANSFER_7BIT, rows, 1);
	check_rows(TRANSFER_BINARY, rows, 1);
	check_rows(TRANSFER_UNKNOWN, rows, 1);
}
END_TEST

START_TEST(test_names)
{
	ck_assert_int_eq(transfer_encoding_of(SLICE("")), TRANSFER_7BIT);
	ck_assert_int_eq(transfer_encoding_of(SLICE("BASE64")), TRANSFER_BASE64);
	ck_assert_int_eq(transfer_encoding_of(SLICE("Quoted-Printable")),
	    TRANSFER_QUOTED_PRINTABLE);
	ck_assert_int_eq(transfer_encoding_of(SLICE("x-uuencode")), TRANSFER_UNKNOWN);
}
END_TEST

/* White space may be held only so long: more of it comes out, none is lost. */
START_TEST(test_held_white_space)
{
	static uint8_t spaces[3 * TRANSFER_QP_HELD_MAX];
	struct transfer_decoder d;

	memset(spaces, ' ', sizeof spaces);
	spaces[sizeof spaces - 1] = 'x';
	transfer_decoder_init(&d, TRANSFER_QUOTED_PRINTABLE);
	ck_assert(transfer_decode(&d, slice_of(spaces, sizeof spaces), NULL));
	ck_assert_uint_eq(d.octets, sizeof spaces);
}
END_TEST

START_TEST(test_full)
{
	struct transfer_decoder d;
	struct buf out;

	buf_init(&out, 2);
	transfer_decoder_init(&d, TRANSFER_BASE64);
	ck_assert(!transfer_decode(&d, SLICE("Zm9vYmFy"), &out));
	buf_fini(&out);
}
END_TEST

/* RFC 4648 10, and what a SASL exchange must refuse. */
START_TEST(test_strict)
{
	static const struct {
		const char *plain;
		const char *encoded;
	} good[] = {{"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foob", "Zm9vYg=="},
	    {"fooba", "Zm9vYmE="}, {"foobar", "Zm9vYmFy"}};
	static const char *const bad[] = {"Z", "Zg", "Zg=", "Zg= =", "Zh==", "Zm9=", "====", "=Zg=",
	    "Zg==Zg==", "Zm9v\r\n", "Zm-v", " Zm9", "Zg=a"};
	struct buf out;

	buf_init(&out, 100);
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		buf_reset(&out);
		ck_assert(base64_encode(slice_str(good[i].plain), 0, &out));
		ck_assert(slice_eq(buf_slice(&out), slice_str(good[i].encoded)));
		buf_reset(&out);
		ck_assert(base64_decode(slice_str(good[i].encoded), &out));
		ck_assert(slice_eq(buf_slice(&out), slice_str(good[i].plain)));
	}
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		buf_reset(&out);
		ck_assert_msg(!base64_decode(slice_str(bad[i]), &out), "%s", bad[i]);
		ck_assert_uint_eq(out.n, 0);
	}
	buf_reset(&out);
	ck_assert(base64_encode(SLICE("foobar"), 4, &out));
	ck_assert(slice_eq(buf_slice(&out), SLICE("Zm9v\r\nYmFy\r\n")));
	buf_fini(&out);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("transfer");
	TCase *t = tcase_create("transfer");

	tcase_add_test(t, test_quoted_printable);
	tcase_add_test(t, test_quoted_printable_encode);
	tcase_add_test(t, test_base64);
	tcase_add_test(t, test_identity);
	tcase_add_test(t, test_names);
	tcase_add_test(t, test_held_white_space);
	tcase_add_test(t, test_full);
	tcase_add_test(t, test_strict);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed != 0;
}
