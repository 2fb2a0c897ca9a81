/*
 * Where lines and messages end. Every sequence is fed whole, one octet at a time,
 * and cut in two at every place: the result must be the same.
 */
#include "smtpd/smtp_framer.h"

#include "common/buf.h"

#include <check.h>

struct result {
	struct buf out;
	size_t used; /* octets up to and with the end */
	bool ended, bare, nul;
};

/* Feeds in[0, n) in pieces: first of `first` octets, then of `step`. */
static void
run(struct slice in, enum smtp_bare rule, size_t first, size_t step, struct result *r)
{
	struct smtp_data_framer f;
	size_t at = 0;

	buf_init(&r->out, 65536);
	smtp_data_init(&f, rule);
	r->used = 0;
	while (at < in.n && f.state != SMTP_DATA_END) {
		size_t to = at + (at == 0 ? first : step);
		struct slice piece = slice_sub(in, at, to);
		size_t used = 0;
		while (used < piece.n && f.state != SMTP_DATA_END) {
			size_t n;
			struct slice got = smtp_data_next(&f, slice_sub(piece, used, piece.n), &n);
			ck_assert(n > 0 || got.n > 0);
			buf_put_slice(&r->out, got);
			used += n;
		}
		r->used += used;
		at = to;
	}
	r->ended = f.state == SMTP_DATA_END;
	r->bare = f.bare;
	r->nul = f.nul;
}

struct row {
	const char *name;
	struct slice in;
	bool ended;
	size_t left; /* octets behind the end */
	bool bare, nul;
	struct slice out;
};
#define S(lit) {(const uint8_t *)(lit), sizeof(lit) - 1}
#define SMUGGLED "MAIL FROM:<x@y>\r\nRCPT TO:<z@y>\r\nDATA\r\nx\r\n.\r\n"

static const struct row rows[] = {
    {"plain", S("a\r\nb\r\n.\r\n"), true, 0, false, false, S("a\r\nb\r\n")},
    {"empty", S(".\r\n"), true, 0, false, false, S("")},
    {"stuffed", S("..\r\n...x\r\n.y\r\n.\r\n"), true, 0, false, false, S(".\r\n..x\r\ny\r\n")},
    {"dot inside", S("a.\r\n .\r\n.\r\n"), true, 0, false, false, S("a.\r\n .\r\n")},
    {"what follows is left", S("a\r\n.\r\nQUIT\r\n"), true, 6, false, false, S("a\r\n")},
    {"LF . LF", S("a\n.\n" SMUGGLED), true, 0, true, false,
	S("a\n.\nMAIL FROM:<x@y>\r\nRCPT TO:<z@y>\r\nDATA\r\nx\r\n")},
    {"LF . CRLF", S("a\n.\r\nM\r\n.\r\n"), true, 0, true, false, S("a\n.\r\nM\r\n")},
    {"CR . CR", S("a\r.\rM\r\n.\r\n"), true, 0, true, false, S("a\r.\rM\r\n")},
    {"CR . LF", S("a\r.\nM\r\n.\r\n"), true, 0, true, false, S("a\r.\nM\r\n")},
    {"CR . CRLF", S("a\r.\r\nM\r\n.\r\n"), true, 0, true, false, S("a\r.\r\nM\r\n")},
    {"CRLF . LF", S("a\r\n.\nM\r\n.\r\n"), true, 0, true, false, S("a\r\n\nM\r\n")},
    {"CRLF . CR", S("a\r\n.\rM\r\n.\r\n"), true, 0, true, false, S("a\r\n\rM\r\n")},
    {"LF . CR", S("a\n.\rM\r\n.\r\n"), true, 0, true, false, S("a\n.\rM\r\n")},
    {"CR CRLF . CR CRLF", S("a\r\r\n.\r\r\nM\r\n.\r\n"), true, 0, true, false, S("a\r\r\n\r\r\nM\r\n")},
    {"CRLF . CR CRLF", S("a\r\n.\r\r\nM\r\n.\r\n"), true, 0, true, false, S("a\r\n\r\r\nM\r\n")},
    {"CR CRLF . CRLF ends, and is refused", S("a\r\r\n.\r\nM\r\n"), true, 3, true, false, S("a\r\r\n")},
    {"NUL CRLF . CRLF", S("a\0\r\n.\r\nM\r\n"), true, 3, false, true, S("a\0\r\n")},
    {"CRLF NUL . CRLF", S("a\r\n\0.\r\nM\r\n.\r\n"), true, 0, false, true, S("a\r\n\0.\r\nM\r\n")},
    {"CRLF . NUL CRLF", S("a\r\n.\0\r\nM\r\n.\r\n"), true, 0, false, true, S("a\r\n\0\r\nM\r\n")},
    {"CRLF . CR NUL LF", S("a\r\n.\r\0\nM\r\n.\r\n"), true, 0, true, true, S("a\r\n\r\0\nM\r\n")},
    {"CR NUL LF . CRLF", S("a\r\0\n.\r\nM\r\n.\r\n"), true, 0, true, true, S("a\r\0\n.\r\nM\r\n")},
    {"8 bit look-alikes", S("a\x8d\x8a.\x8d\x8aM\r\n.\r\n"), true, 0, false, false, S("a\x8d\x8a.\x8d\x8aM\r\n")},
    {"dot and space", S("a\r\n. \r\nM\r\n.\r\n"), true, 0, false, false, S("a\r\n \r\nM\r\n")},
    {"two dots alone", S("..\r\n"), false, 0, false, false, S(".\r\n")},
    {"no end", S("a\r\nb\r\n"), false, 0, false, false, S("a\r\nb\r\n")},
    {"half an end", S("a\r\n.\r"), false, 0, false, false, S("a\r\n")},
};

static void
compare(const struct row *w, const struct result *r, const char *how, size_t cut)
{
	ck_assert_msg(r->ended == w->ended, "%s (%s %zu): ended %d", w->name, how, cut, r->ended);
	ck_assert_msg(r->used == w->in.n - w->left, "%s (%s %zu): used %zu", w->name, how, cut, r->used);
	ck_assert_msg(r->bare == w->bare, "%s (%s %zu): bare %d", w->name, how, cut, r->bare);
	ck_assert_msg(r->nul == w->nul, "%s (%s %zu): nul %d", w->name, how, cut, r->nul);
	ck_assert_msg(slice_eq(buf_slice(&r->out), w->out), "%s (%s %zu): \"%.*s\"", w->name, how, cut,
	    (int)r->out.n, (const char *)r->out.p);
}

START_TEST(test_data)
{
	struct result r;

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		run(rows[i].in, SMTP_BARE_REFUSE, rows[i].in.n, 1, &r);
		compare(&rows[i], &r, "whole", 0);
		buf_fini(&r.out);
		run(rows[i].in, SMTP_BARE_REFUSE, 1, 1, &r);
		compare(&rows[i], &r, "octets", 0);
		buf_fini(&r.out);
		for (size_t cut = 1; cut < rows[i].in.n; cut++) {
			run(rows[i].in, SMTP_BARE_REFUSE, cut, rows[i].in.n, &r);
			compare(&rows[i], &r, "cut", cut);
			buf_fini(&r.out);
		}
	}
}
END_TEST

START_TEST(test_fix)
{
	static const struct row fixes[] = {
	    {"LF", S("a\nb\n.\n\r\n.\r\n"), true, 0, true, false, S("a\r\nb\r\n.\r\n\r\n")},
	    {"CR", S("a\rb\r\n.\r\n"), true, 0, true, false, S("a\r\nb\r\n")},
	    {"CR CR LF", S("a\r\r\n.\r\n"), true, 0, true, false, S("a\r\n\r\n")},
	    {"LF . CRLF is no end", S("a\n.\r\nb\r\n.\r\n"), true, 0, true, false, S("a\r\n.\r\nb\r\n")},
	    {"CRLF . LF is no end", S("a\r\n.\nb\r\n.\r\n"), true, 0, true, false, S("a\r\n\r\nb\r\n")},
	    {"CRLF . CR CRLF", S("a\r\n.\r\r\nb\r\n.\r\n"), true, 0, true, false, S("a\r\n\r\n\r\nb\r\n")},
	};
	struct result r;

	for (size_t i = 0; i < sizeof(fixes) / sizeof(*fixes); i++)
		for (size_t cut = 1; cut <= fixes[i].in.n; cut++) {
			run(fixes[i].in, SMTP_BARE_FIX, cut, 1, &r);
			compare(&fixes[i], &r, "fix", cut);
			buf_fini(&r.out);
		}
}
END_TEST

/*
 * All sequences of up to nine octets over the five that matter: the end is
 * where CRLF "." CRLF (the first CRLF given by DATA) stands first, by a search that knows no states.
 */
START_TEST(test_data_exhaustive)
{
	static const uint8_t alphabet[] = {'\r', '\n', '.', 'a', '\0'};
	uint8_t text[2 + 9] = "\r\n";

	for (size_t n = 1; n <= 9; n++) {
		size_t total = 1;
		for (size_t i = 0; i < n; i++)
			total *= sizeof(alphabet);
		for (size_t v = 0; v < total; v++) {
			size_t x = v;
			for (size_t i = 0; i < n; i++, x /= sizeof(alphabet))
				text[2 + i] = alphabet[x % sizeof(alphabet)];
			struct slice whole = slice_of(text, n + 2);
			size_t at = slice_find(whole, SLICE("\r\n.\r\n"));
			struct smtp_data_framer f;
			size_t used = 0;
			smtp_data_init(&f, SMTP_BARE_REFUSE);
			while (used < n && f.state != SMTP_DATA_END) {
				size_t took;
				struct slice got =
				    smtp_data_next(&f, slice_sub(whole, 2 + used, n + 2), &took);
				if (took == 0 && got.n == 0)
					ck_abort_msg("no progress in sequence %zu of %zu octets", v, n);
				used += took;
			}
			/* The library's assertions are too slow to be passed millions of times. */
			if ((f.state == SMTP_DATA_END) != (at < whole.n) || (at < whole.n && used != at + 3))
				ck_abort_msg("sequence %zu of %zu octets ends at %zu", v, n, used);
		}
	}
}
END_TEST

START_TEST(test_lines)
{
	static const struct {
		struct slice in;
		size_t max;
		enum smtp_frame want;
		struct slice line;
	} lines[] = {
	    {S("QUIT\r\n"), 512, SMTP_FRAME_LINE, S("QUIT")},
	    {S("\r\n"), 512, SMTP_FRAME_LINE, S("")},
	    {S("QUIT\r\nNOOP\r\n"), 512, SMTP_FRAME_LINE, S("QUIT")},
	    {S("QUIT\r"), 512, SMTP_FRAME_MORE, S("")},
	    {S("QUIT\n"), 512, SMTP_FRAME_BAD, S("")},
	    {S("QU\rIT\r\n"), 512, SMTP_FRAME_BAD, S("")},
	    {S("QUIT\r\r\n"), 512, SMTP_FRAME_BAD, S("")},
	    {S("QU\0IT\r\n"), 512, SMTP_FRAME_BAD, S("")},
	    {S("QU\nIT\r\n"), 512, SMTP_FRAME_BAD, S("")},
	    {S("12345678\r\n"), 10, SMTP_FRAME_LINE, S("12345678")},
	    {S("123456789\r\n"), 10, SMTP_FRAME_LONG, S("")},
	    {S("12345678901234567890123456789012\r\n"), 10, SMTP_FRAME_LONG, S("")},
	};

	for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++) {
		/* pieces of every size; what is not used stands before the next piece */
		for (size_t step = 1; step <= lines[i].in.n; step++) {
			struct smtp_line_framer f = {0};
			enum smtp_frame got = SMTP_FRAME_MORE;
			struct slice line = SLICE("");
			size_t from = 0, to = 0, used;
			while (got == SMTP_FRAME_MORE && to < lines[i].in.n) {
				to = to + step < lines[i].in.n ? to + step : lines[i].in.n;
				got = smtp_line_next(&f, slice_sub(lines[i].in, from, to), lines[i].max, &line, &used);
				from += used;
				ck_assert(to - from < lines[i].max || got != SMTP_FRAME_MORE);
			}
			ck_assert_msg(got == lines[i].want, "row %zu step %zu: got %d", i, step, got);
			ck_assert_msg(slice_eq(line, lines[i].line), "row %zu step %zu", i, step);
		}
	}
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("smtp_framer");
	TCase *t = tcase_create("all");

	tcase_set_timeout(t, 60);
	tcase_add_test(t, test_data);
	tcase_add_test(t, test_fix);
	tcase_add_test(t, test_data_exhaustive);
	tcase_add_test(t, test_lines);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
