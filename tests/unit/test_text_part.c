/* RFC 9051 6.4.4: what a search finds in encoded bodies, whole and octet by octet. */
#include "common/charset.h"
#include "common/text_part.h"

#include <check.h>

static bool
finds(enum transfer_encoding encoding, const char *charset, struct slice body, const char *needle,
    size_t chunk)
{
	struct text_part *t = text_part_new(encoding, slice_str(charset));
	struct text_finder f[2];
	struct buf folded;

	buf_init(&folded, 1000);
	ck_assert(text_fold(slice_str(needle), &folded));
	text_finder_init(&f[0], SLICE("never there"));
	text_finder_init(&f[1], buf_slice(&folded));
	for (size_t i = 0; i < body.n; i += chunk)
		text_part_feed(t, slice_sub(body, i, i + chunk), f, 2);
	text_part_end(t, f, 2);
	bool found = f[1].found;

	ck_assert(!f[0].found);
	text_finder_fini(&f[0]);
	text_finder_fini(&f[1]);
	text_part_free(&t);
	buf_fini(&folded);
	return found;
}

START_TEST(test_finds)
{
	static const struct {
		enum transfer_encoding encoding;
		const char *charset;
		const char *body;
		const char *needle;
		bool want;
	} rows[] = {
	    {TRANSFER_7BIT, "", "Hello World", "o wOr", true},
	    {TRANSFER_7BIT, "", "Hello World", "xyz", false},
	    {TRANSFER_QUOTED_PRINTABLE, "iso-8859-1", "Die H=E4s=\r\nin", "HÄSIN", true},
	    {TRANSFER_QUOTED_PRINTABLE, "utf-8", "caf=C3=A9 au lait", "CAFÉ", true},
	    {TRANSFER_QUOTED_PRINTABLE, "utf-8", "caf=C3=A9", "=C3", false},
	    {TRANSFER_BASE64, "utf-8", "SGVs\r\nbG8gV29y\r\nbGQ=", "LO WOR", true},
	    {TRANSFER_BASE64, "koi8-r", "8NLJ18XU", "привет", true},
	    {TRANSFER_7BIT, "iso-2022-jp", "\x1B$B$3$s\x1B(B", "こん", true},
	    {TRANSFER_8BIT, "x-none", "Fr\xF6sche", "frösche", true},
	    {TRANSFER_QUOTED_PRINTABLE, "", "half =4", "half =4", true},
	    {TRANSFER_7BIT, "", "", "", true},
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		for (size_t chunk = 1; chunk < 101; chunk += 9)
			ck_assert_msg(finds(rows[i].encoding, rows[i].charset,
					  slice_str(rows[i].body), rows[i].needle,
					  chunk) == rows[i].want,
			    "%s in %s by %zu", rows[i].needle, rows[i].body, chunk);
}
END_TEST

/* The worst growth at each stage fits: all octets become the longest fold there is. */
START_TEST(test_growth)
{
	struct buf body;

	buf_init(&body, 1 << 20);
	for (int i = 0; i < 50000; i++)
		buf_put_str(&body, "\xEF\xB7\xBA");
	buf_put_str(&body, "end");
	ck_assert(finds(TRANSFER_8BIT, "utf-8", buf_slice(&body), "END", 100000));
	memset(body.p, 0x80, body.n - 3);
	ck_assert(finds(TRANSFER_8BIT, "utf-8", buf_slice(&body), "END", 100000));
	memset(body.p, ' ', body.n - 3);
	ck_assert(finds(TRANSFER_QUOTED_PRINTABLE, "utf-16", buf_slice(&body), "", 100000));
	buf_fini(&body);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("text_part");
	TCase *t = tcase_create("text_part");

	tcase_add_unchecked_fixture(t, charset_init, charset_fini);
	tcase_add_test(t, test_finds);
	tcase_add_test(t, test_growth);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed != 0;
}
