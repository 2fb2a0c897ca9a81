/* POP3's pure parts: lines, commands, the text of multi-line answers, the maildrop. */
#include "pop3d/maildrop.h"
#include "pop3d/pop3_command.h"
#include "pop3d/pop3_text.h"

#include <check.h>
#include <stdio.h>

/* ---- lines ---- */

/* Frames text, given in pieces of `step` octets, and writes down what comes. */
static void
frames(struct slice text, size_t step, struct buf *out)
{
	struct pop3_framer f = {0};
	struct buf in;

	buf_init(&in, 1 << 20);
	for (size_t at = 0; at < text.n; at += step) {
		buf_put_slice(&in, slice_sub(text, at, at + step));
		for (;;) {
			struct slice line;
			size_t used;
			enum pop3_frame frame = pop3_frame_next(
			    &f, buf_slice(&in), 20, &used, &line);

			switch (frame) {
			case POP3_FRAME_LINE:
				buf_put_u8(out, '[');
				buf_put_slice(out, line);
				buf_put_u8(out, ']');
				break;
			case POP3_FRAME_LONG:
				buf_put_str(out, "(long)");
				break;
			case POP3_FRAME_BARE:
				buf_put_str(out, "(bare)");
				break;
			case POP3_FRAME_MORE:
				break;
			}
			buf_drop(&in, used);
			if (frame == POP3_FRAME_MORE)
				break;
		}
		ck_assert_uint_lt(in.n, 20);
	}
	buf_fini(&in);
}

START_TEST(lines)
{
	static const struct {
		const char *in;
		size_t n;
		const char *want;
	} cases[] = {
#define CASE(in, want) {in, sizeof(in) - 1, want}
	    CASE("NOOP\r\nQUIT\r\n", "[NOOP][QUIT]"),
	    CASE("\r\n", "[]"),
	    CASE("NOOP\nQUIT\r\n", "(bare)[QUIT]"),
	    CASE("NO\rOP\r\nQUIT\r\n", "(bare)[QUIT]"),
	    CASE("NOOP\r\r\n", "(bare)"),
	    CASE("NO\0OP\r\n", "(bare)"),
	    CASE("half", ""),
	    CASE("123456789012345678\r\n", "[123456789012345678]"), /* 20 octets with CRLF */
	    CASE("1234567890123456789\r\nQUIT\r\n", "(long)[QUIT]"),
	    CASE("12345678901234567890\r\nQUIT\r\n", "(long)[QUIT]"),
	    CASE("1234567890123456789012345678901234567890\nQUIT\r\n", "(long)[QUIT]"),
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		for (size_t step = 1; step <= cases[i].n; step++) {
			struct buf out;

			buf_init(&out, 4096);
			frames(slice_of(cases[i].in, cases[i].n), step, &out);
			buf_put_u8(&out, 0);
			if (strcmp((const char *)out.p, cases[i].want) != 0)
				ck_abort_msg("case %zu, step %zu: %s, not %s", i, step,
				    (const char *)out.p, cases[i].want);
			buf_fini(&out);
		}
	}
}
END_TEST

START_TEST(longest_line)
{
	static char line[POP3_LINE_BYTES_MAX + 2];

	for (int over = -1; over <= 1; over++) {
		struct pop3_framer f = {0};
		size_t n = (size_t)(POP3_LINE_BYTES_MAX + over), used;
		struct slice got;

		memset(line, 'x', sizeof line);
		line[n - 2] = '\r';
		line[n - 1] = '\n';
		ck_assert_int_eq(
		    pop3_frame_next(&f, slice_of(line, n), POP3_LINE_BYTES_MAX, &used, &got),
		    over > 0 ? POP3_FRAME_LONG : POP3_FRAME_LINE);
		ck_assert_uint_eq(used, n);
	}
}
END_TEST

/* ---- commands ---- */

START_TEST(command_lines)
{
	static const struct {
		const char *line;
		enum pop3_verb verb;
		bool ok;
		unsigned args;
		const char *arg0, *arg1;
		uint32_t n0, n1;
	} cases[] = {
	    {"STAT", POP3_STAT, true, 0, "", "", 0, 0},
	    {"stat", POP3_STAT, true, 0, "", "", 0, 0},
	    {"sTaT ", POP3_STAT, true, 0, "", "", 0, 0},
	    {"STAT x", POP3_STAT, false, 0, "", "", 0, 0},
	    {"STATx", POP3_UNKNOWN, true, 0, "", "", 0, 0},
	    {"", POP3_UNKNOWN, true, 0, "", "", 0, 0},
	    {" STAT", POP3_UNKNOWN, true, 0, "", "", 0, 0},
	    {"XTND x", POP3_UNKNOWN, true, 0, "", "", 0, 0},
	    {"USER alice@demo.test", POP3_USER, true, 1, "alice@demo.test", "", 0, 0},
	    {"USER a b", POP3_USER, true, 1, "a b", "", 0, 0},
	    {"USER", POP3_USER, false, 0, "", "", 0, 0},
	    {"USER ", POP3_USER, false, 1, "", "", 0, 0},
	    {"PASS secret", POP3_PASS, true, 1, "secret", "", 0, 0},
	    {"PASS  two  words ", POP3_PASS, true, 1, " two  words ", "", 0, 0},
	    {"pass", POP3_PASS, false, 0, "", "", 0, 0},
	    {"AUTH", POP3_AUTH, false, 0, "", "", 0, 0},
	    {"AUTH PLAIN", POP3_AUTH, true, 1, "PLAIN", "", 0, 0},
	    {"AUTH PLAIN =", POP3_AUTH, true, 2, "PLAIN", "=", 0, 0},
	    {"AUTH PLAIN AGEAYg==", POP3_AUTH, true, 2, "PLAIN", "AGEAYg==", 0, 0},
	    {"AUTH PLAIN a b", POP3_AUTH, false, 2, "PLAIN", "a", 0, 0},
	    {"AUTH  PLAIN", POP3_AUTH, false, 0, "", "", 0, 0},
	    {"LIST", POP3_LIST, true, 0, "", "", 0, 0},
	    {"LIST 1", POP3_LIST, true, 1, "", "", 1, 0},
	    {"LIST 0", POP3_LIST, false, 0, "", "", 0, 0},
	    {"LIST -1", POP3_LIST, false, 0, "", "", 0, 0},
	    {"LIST +1", POP3_LIST, false, 0, "", "", 0, 0},
	    {"LIST 1x", POP3_LIST, false, 0, "", "", 0, 0},
	    {"LIST 4294967295", POP3_LIST, true, 1, "", "", UINT32_MAX, 0},
	    {"LIST 4294967296", POP3_LIST, false, 0, "", "", 0, 0},
	    {"LIST 99999999999999999999999999", POP3_LIST, false, 0, "", "", 0, 0},
	    {"LIST 1 2", POP3_LIST, false, 1, "", "", 1, 0},
	    {"UIDL 007", POP3_UIDL, true, 1, "", "", 7, 0},
	    {"RETR", POP3_RETR, false, 0, "", "", 0, 0},
	    {"RETR 3", POP3_RETR, true, 1, "", "", 3, 0},
	    {"DELE 3 ", POP3_DELE, true, 1, "", "", 3, 0},
	    {"TOP 1 0", POP3_TOP, true, 2, "", "", 1, 0},
	    {"TOP 1 10", POP3_TOP, true, 2, "", "", 1, 10},
	    {"TOP 1", POP3_TOP, false, 1, "", "", 1, 0},
	    {"TOP 0 1", POP3_TOP, false, 0, "", "", 0, 0},
	    {"TOP 1 -1", POP3_TOP, false, 1, "", "", 1, 0},
	    {"TOP 1 1 1", POP3_TOP, false, 2, "", "", 1, 1},
	    {"APOP x y", POP3_APOP, true, 0, "", "", 0, 0},
	    {"NOOP", POP3_NOOP, true, 0, "", "", 0, 0},
	    {"RSET", POP3_RSET, true, 0, "", "", 0, 0},
	    {"QUIT", POP3_QUIT, true, 0, "", "", 0, 0},
	    {"CAPA", POP3_CAPA, true, 0, "", "", 0, 0},
	    {"STLS", POP3_STLS, true, 0, "", "", 0, 0},
	    {"STLS now", POP3_STLS, false, 0, "", "", 0, 0},
	    {"UTF8", POP3_UTF8, true, 0, "", "", 0, 0},
	    {"utf8 ", POP3_UTF8, true, 0, "", "", 0, 0},
	    {"LANG", POP3_LANG, true, 0, "", "", 0, 0},
	    {"lang ", POP3_LANG, true, 0, "", "", 0, 0},
	    {"LANG en-GB", POP3_LANG, true, 1, "en-GB", "", 0, 0},
	    {"LANG en de", POP3_LANG, false, 2, "en", "de", 0, 0},
	    {"LANG  en", POP3_LANG, false, 0, "", "", 0, 0},
	    {"UTF8 USER", POP3_UTF8, false, 0, "", "", 0, 0},
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct pop3_command c;
		bool ok = pop3_command_parse(slice_str(cases[i].line), &c);

		if (ok != cases[i].ok || c.verb != cases[i].verb)
			ck_abort_msg("\"%s\": %d, verb %d", cases[i].line, ok, (int)c.verb);
		if (!ok)
			continue;
		if (c.args != cases[i].args || !slice_eq(c.arg[0], slice_str(cases[i].arg0)) ||
		    !slice_eq(c.arg[1], slice_str(cases[i].arg1)) || c.number[0] != cases[i].n0 ||
		    c.number[1] != cases[i].n1)
			ck_abort_msg("\"%s\": wrong arguments", cases[i].line);
	}
}
END_TEST

/* ---- text ---- */

START_TEST(texts)
{
	static const struct {
		const char *in;
		int lines; /* -1: RETR */
		const char *want;
	} cases[] = {
	    {"a: b\r\n\r\nbody\r\n", -1, "a: b\r\n\r\nbody\r\n.\r\n"},
	    {"a: b\r\n\r\nbody", -1, "a: b\r\n\r\nbody\r\n.\r\n"},
	    {"a: b\r\n\r\nbody\r", -1, "a: b\r\n\r\nbody\r\n.\r\n"},
	    {"a: b\r\n\r\nbody\n", -1, "a: b\r\n\r\nbody\n\r\n.\r\n"},
	    {"", -1, ".\r\n"},
	    {".\r\n", -1, "..\r\n.\r\n"},
	    {"..\r\n...\r\nx.\r\n", -1, "...\r\n....\r\nx.\r\n.\r\n"},
	    {"\r\n.\r\n", -1, "\r\n..\r\n.\r\n"},
	    {"x\n.\r\ny\r\n", -1, "x\n..\r\ny\r\n.\r\n"},
	    {"x\n.\ny\r\n", -1, "x\n..\ny\r\n.\r\n"},
	    {"x\r.\r\n", -1, "x\r.\r\n.\r\n"},
	    {".", -1, "..\r\n.\r\n"},
	    {"\n", -1, "\n\r\n.\r\n"},
	    {"a: b\r\n\r\n1\r\n2\r\n3\r\n", 0, "a: b\r\n\r\n.\r\n"},
	    {"a: b\r\n\r\n1\r\n2\r\n3\r\n", 1, "a: b\r\n\r\n1\r\n.\r\n"},
	    {"a: b\r\n\r\n1\r\n2\r\n3\r\n", 3, "a: b\r\n\r\n1\r\n2\r\n3\r\n.\r\n"},
	    {"a: b\r\n\r\n1\r\n2\r\n3\r\n", 9, "a: b\r\n\r\n1\r\n2\r\n3\r\n.\r\n"},
	    {"a: b\r\n\r\n1\r\n2", 2, "a: b\r\n\r\n1\r\n2\r\n.\r\n"},
	    {"a: b\r\n\r\n\r\n\r\nx\r\n", 2, "a: b\r\n\r\n\r\n\r\n.\r\n"},
	    {"\r\nbody\r\n", 0, "\r\n.\r\n"},
	    {"a: b\r\n", 5, "a: b\r\n.\r\n"},
	    {"a: b\n\nbody\n", 0, "a: b\n\n\r\n.\r\n"},
	    {"a: b\r\n\r\n.1\r\n2\r\n", 1, "a: b\r\n\r\n..1\r\n.\r\n"},
	    {"a: b\r\nx\r\r\n\r\ny\r\n", 0, "a: b\r\nx\r\r\n\r\n.\r\n"},
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct slice in = slice_str(cases[i].in);

		for (size_t step = 1; step <= in.n + 1; step++) {
			struct pop3_text t;
			struct buf out;

			buf_init(&out, 1024);
			if (cases[i].lines < 0)
				pop3_text_init(&t);
			else
				pop3_text_init_top(&t, (uint32_t)cases[i].lines);
			for (size_t at = 0; at < in.n; at += step)
				ck_assert(pop3_text_put(&t, slice_sub(in, at, at + step), &out));
			ck_assert(pop3_text_end(&t, &out));
			if (!slice_eq(buf_slice(&out), slice_str(cases[i].want)))
				ck_abort_msg("case %zu, step %zu: \"%.*s\"", i, step,
				    SLICE_ARG(buf_slice(&out)));
			buf_fini(&out);
		}
	}
}
END_TEST

/* ---- the maildrop ---- */

static struct store_record
record(uint32_t uid, uint64_t size, uint8_t object)
{
	struct store_record r = {.uid = uid, .size = size};

	memset(r.object_id, object, sizeof r.object_id);
	return r;
}

static bool
add(struct maildrop *d, uint32_t uid, uint64_t size, uint8_t object)
{
	struct store_record r = record(uid, size, object);

	return maildrop_add(d, &r, true);
}

START_TEST(maildrop_counts)
{
	struct maildrop d = {0};
	struct uidset set = {0};

	ck_assert(add(&d, 3, 100, 1));
	ck_assert(add(&d, 7, 20, 2));
	ck_assert(add(&d, 8, 3, 3));
	ck_assert(!add(&d, 8, 3, 4));
	ck_assert(!add(&d, 0, 3, 4));
	maildrop_complete(&d);
	maildrop_resize(&d, maildrop_get(&d, 2), 25);
	ck_assert_uint_eq(d.left_bytes, 128);
	maildrop_resize(&d, maildrop_get(&d, 2), 20);
	ck_assert_uint_eq(d.count, 3);
	ck_assert_uint_eq(d.left_bytes, 123);
	ck_assert_ptr_null(maildrop_get(&d, 0));
	ck_assert_ptr_null(maildrop_get(&d, 4));
	maildrop_delete(&d, maildrop_get(&d, 1));
	maildrop_delete(&d, maildrop_get(&d, 3));
	ck_assert_ptr_null(maildrop_get(&d, 1));
	ck_assert_uint_eq(d.left, 1);
	ck_assert_uint_eq(d.left_bytes, 20);
	ck_assert(maildrop_deleted(&d, &set));
	ck_assert_uint_eq(uidset_count(&set), 2);
	ck_assert(
	    uidset_contains(&set, 3) && uidset_contains(&set, 8) && !uidset_contains(&set, 7));
	maildrop_reset(&d);
	ck_assert_uint_eq(d.left, 3);
	ck_assert_uint_eq(d.left_bytes, 123);
	ck_assert_ptr_nonnull(maildrop_get(&d, 1));
	uidset_fini(&set);
	maildrop_fini(&d);
}
END_TEST

START_TEST(unique_ids)
{
	struct maildrop d = {0};
	char a[MAILDROP_UIDL_SIZE], b[MAILDROP_UIDL_SIZE];

	ck_assert(add(&d, 1, 1, 0xab));
	ck_assert(add(&d, 2, 1, 0x01));
	ck_assert(add(&d, 4294967295u, 1, 0xab));
	maildrop_complete(&d);
	maildrop_uidl(maildrop_get(&d, 1), a);
	ck_assert_str_eq(a, "abababababababababababababababab");
	maildrop_uidl(maildrop_get(&d, 2), b);
	ck_assert_str_eq(b, "01010101010101010101010101010101");
	maildrop_uidl(maildrop_get(&d, 3), b);
	ck_assert_str_eq(b, "abababababababababababababababab.4294967295");
	ck_assert_uint_le(strlen(b), 70);
	maildrop_fini(&d);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("pop3");
	TCase *c = tcase_create("pop3");

	tcase_add_test(c, lines);
	tcase_add_test(c, longest_line);
	tcase_add_test(c, command_lines);
	tcase_add_test(c, texts);
	tcase_add_test(c, maildrop_counts);
	tcase_add_test(c, unique_ids);
	suite_add_tcase(s, c);
	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed != 0;
}
