/* Moving in and out, the pure parts: names and lists of a Maildir. */
#include "admin/maildir_parse.h"
#include "store/store.h"

#include <check.h>

/* ---- file names ---- */

START_TEST(file_names)
{
	static const struct {
		const char *name, *base;
		uint32_t flags;
		bool passed;
		uint32_t letters;
		int64_t seconds;
	} rows[] = {
	    {"1000000300.M3P1.host:2,FRS", "1000000300.M3P1.host", 4 | 2 | 1, false, 0, 1000000300},
	    {"1.x,S=12,W=13:2,DTPaz", "1.x,S=12,W=13", 16 | 8, true, 1 | 1u << 25, 1},
	    {"1.x", "1.x", 0, false, 0, 1},
	    {"1.x:2,", "1.x", 0, false, 0, 1},
	    {"1.x:1,S", "1.x", 0, false, 0, 1},
	    {"1.x:2,S,T", "1.x", 1, false, 0, 1},
	    {"1.x:2,S:2,T", "1.x", 1, false, 0, 1},
	    {"1.x:2,?-9S", "1.x", 1, false, 0, 1},
	    {"x1.y:2,S", "x1.y", 1, false, 0, -1},
	    {"100000000000.y", "100000000000.y", 0, false, 0, -1},
	    {"99999999999.y", "99999999999.y", 0, false, 0, INT64_C(99999999999)},
	    {"", "", 0, false, 0, -1},
	    {":2,S", "", 1, false, 0, -1},
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct maildir_name n = maildir_name_parse(slice_str(rows[i].name));

		ck_assert_msg(slice_eq(n.base, slice_str(rows[i].base)), "%s: %.*s", rows[i].name, SLICE_ARG(n.base));
		ck_assert_msg(n.flags == rows[i].flags && n.passed == rows[i].passed && n.letters == rows[i].letters,
		    "%s: %u %d %x", rows[i].name, n.flags, n.passed, n.letters);
		ck_assert_msg(n.seconds == rows[i].seconds, "%s: %lld", rows[i].name, (long long)n.seconds);
	}
}
END_TEST

/* ---- dovecot-uidlist ---- */

START_TEST(uidlist_heads)
{
	static const struct {
		const char *line;
		unsigned version; /* 0: refused */
		uint32_t uidvalidity, uidnext;
	} rows[] = {
	    {"3 V1234567890 N42 G0123456789abcdef", 3, 1234567890, 42},
	    {"3 N42 V1", 3, 1, 42},
	    {"3 V4294967295 N4294967295 Zmore", 3, 4294967295, 4294967295},
	    {"1 1234567890 42", 1, 1234567890, 42},
	    {"3 V4294967296 N42", 0, 0, 0},
	    {"3 V0 N42", 0, 0, 0},
	    {"3 V1 N0", 0, 0, 0},
	    {"3 V1", 0, 0, 0},
	    {"3 Vx N1", 0, 0, 0},
	    {"3", 0, 0, 0},
	    {"2 V1 N1", 0, 0, 0},
	    {"1 1", 0, 0, 0},
	    {"1 1 2 3", 0, 0, 0},
	    {"", 0, 0, 0},
	    {" 3 V1 N1", 0, 0, 0},
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct maildir_uidlist_head h;
		bool ok = maildir_uidlist_head_parse(slice_str(rows[i].line), &h);

		ck_assert_msg(ok == (rows[i].version != 0), "%s", rows[i].line);
		if (ok)
			ck_assert_msg(h.version == rows[i].version && h.uidvalidity == rows[i].uidvalidity &&
				h.uidnext == rows[i].uidnext, "%s", rows[i].line);
	}
}
END_TEST

START_TEST(uidlist_lines)
{
	static const struct {
		const char *line;
		unsigned version;
		uint32_t uid; /* 0: refused */
		const char *base;
	} rows[] = {
	    {"7 W100 S90 :1000.x,S=90", 3, 7, "1000.x,S=90"},
	    {"7 :1000.x", 3, 7, "1000.x"},
	    {"7 Gabc P:x :1000.x", 3, 7, "1000.x"},
	    {"7 :1000.x:2,S", 3, 7, "1000.x"},
	    {"4294967295 :x y", 3, 4294967295, "x y"},
	    {"7 1000.x", 1, 7, "1000.x"},
	    {"7 1000.x:2,S", 1, 7, "1000.x"},
	    {"7 W100", 3, 0, ""},
	    {"7 :", 3, 0, ""},
	    {"7", 3, 0, ""},
	    {"7 ", 3, 0, ""},
	    {"0 :x", 3, 0, ""},
	    {"4294967296 :x", 3, 0, ""},
	    {"-1 :x", 3, 0, ""},
	    {"", 3, 0, ""},
	    {"7 ", 1, 0, ""},
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct slice base;
		uint32_t uid;
		bool ok = maildir_uidlist_line_parse(slice_str(rows[i].line), rows[i].version, &uid, &base);

		ck_assert_msg(ok == (rows[i].uid != 0), "%s", rows[i].line);
		if (ok)
			ck_assert_msg(uid == rows[i].uid && slice_eq(base, slice_str(rows[i].base)), "%s", rows[i].line);
	}
}
END_TEST

/* ---- dovecot-keywords ---- */

START_TEST(keyword_lines)
{
	char longest[STORE_KEYWORD_BYTES_MAX + 4] = "0 ";
	struct slice name;
	unsigned index;

	ck_assert(maildir_keyword_line_parse(SLICE("0 $Label1"), &index, &name));
	ck_assert(index == 0 && slice_eq(name, SLICE("$Label1")));
	ck_assert(maildir_keyword_line_parse(SLICE("25 z"), &index, &name) && index == 25);
	static const char *const wrong[] = {"26 z", "x z", "1", "1 ", "", "1 a b", "1 a(b", "1 \\Seen", "1 caf\xc3\xa9", "-1 z"};

	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
		ck_assert_msg(!maildir_keyword_line_parse(slice_str(wrong[i]), &index, &name), "%s", wrong[i]);
	memset(longest + 2, 'a', STORE_KEYWORD_BYTES_MAX + 1);
	ck_assert(!maildir_keyword_line_parse(slice_of(longest, STORE_KEYWORD_BYTES_MAX + 3), &index, &name));
	ck_assert(maildir_keyword_line_parse(slice_of(longest, STORE_KEYWORD_BYTES_MAX + 2), &index, &name));
}
END_TEST

/* ---- folders ---- */

START_TEST(folder_names)
{
	static const struct {
		const char *wire;
		uint8_t separator;
		const char *name; /* NULL: refused */
	} rows[] = {
	    {"Sent", '.', "Sent"},
	    {"Lists.dev", '.', "Lists/dev"},
	    {"Lists/dev.v2", '/', "Lists/dev.v2"},
	    {"Lists\tdev.v2", '\t', "Lists/dev.v2"},
	    {"Caf&AOk-.Inner", '.', "Caf\xc3\xa9/Inner"},
	    {"A &- B", '.', "A & B"},
	    {"A & B", '.', "A & B"},
	    {"Caf\xc3\xa9", '.', "Caf\xc3\xa9"},
	    {"Caf\xe9", '.', NULL},
	    {"a/b", '.', NULL},
	    {"", '.', NULL},
	};
	struct buf out;

	buf_init(&out, 4096);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		buf_reset(&out);
		bool ok = maildir_folder_decode(slice_str(rows[i].wire), rows[i].separator, &out);

		ck_assert_msg(ok == (rows[i].name != NULL), "%s", rows[i].wire);
		if (ok)
			ck_assert_msg(slice_eq(buf_slice(&out), slice_str(rows[i].name)), "%s: %.*s", rows[i].wire,
			    SLICE_ARG(buf_slice(&out)));
		else
			ck_assert(out.n == 0);
	}
	ck_assert(!maildir_folder_decode(slice_of("a\0b", 3), '.', &out) && out.n == 0);
	buf_reset(&out);
	ck_assert(maildir_folder_encode(SLICE("Caf\xc3\xa9/In & out"), &out));
	ck_assert(slice_eq(buf_slice(&out), SLICE(".Caf&AOk-.In &- out")));
	ck_assert(!maildir_folder_encode(SLICE("dev.v2"), &out));
	ck_assert(!maildir_folder_encode(SLICE("a//b"), &out));
	ck_assert(slice_eq(buf_slice(&out), SLICE(".Caf&AOk-.In &- out")));
	buf_fini(&out);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("maildir");
	TCase *c = tcase_create("maildir");

	tcase_add_test(c, file_names);
	tcase_add_test(c, uidlist_heads);
	tcase_add_test(c, uidlist_lines);
	tcase_add_test(c, keyword_lines);
	tcase_add_test(c, folder_names);
	suite_add_tcase(s, c);
	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed != 0;
}
