/* Moving in and out, the pure parts: an mbox, its borders and its marks. */
#include "admin/mbox.h"
#include "store/store.h"

#include <check.h>
#include <stdio.h>

/* ---- From_ lines ---- */

START_TEST(from_lines)
{
	static const struct {
		const char *line;
		int64_t seconds; /* -1: none */
	} rows[] = {
	    {"From a@b.example Thu Feb 13 23:32:54 2003", 1045179174},
	    {"From a@b.example  Sat Feb  1 23:32:54 2003", 1044142374},
	    {"From a@b.example Thu Feb 13 23:32 2003", 1045179120},
	    {"From a@b.example Thu Feb 13 23:32:54 2003 +0100", 1045175574},
	    {"From a@b.example Thu Feb 13 23:32:54 EST 2003", 1045197174},
	    {"From a@b.example Thu Feb 13 23:32:54 2003 remote from x", 1045179174},
	    {"From \"a b\"@c.example Thu Feb 13 23:32:54 2003", 1045179174},
	    {"From - Thu Feb 13 23:32:54 2003", 1045179174},
	    {"From Thu Feb 13 23:32:54 2003", 1045179174},
	    {"From a@b.example", -1},
	    {"From the start of a sentence", -1},
	    {"From a@b.example Thu Feb 30 23:32:54 2003", -1},
	    {"From a@b.example Thu Feb 13 23:32:54", -1},
	    {"From a@b.example Feb 13 23:32:54 2003", -1},
	    {"From a@b.example Thu Feb 13 2332 2003", -1},
	    {">From a@b.example Thu Feb 13 23:32:54 2003", -1},
	    {"from a@b.example Thu Feb 13 23:32:54 2003", -1},
	    {"From: a@b.example Thu Feb 13 23:32:54 2003", -1},
	    {"From ", -1},
	    {"", -1},
	};
	struct date_time date;

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		bool ok = mbox_from_parse(slice_str(rows[i].line), &date);

		ck_assert_msg(ok == (rows[i].seconds >= 0), "%s", rows[i].line);
		if (ok)
			ck_assert_msg(date.seconds == rows[i].seconds, "%s: %lld", rows[i].line, (long long)date.seconds);
	}
}
END_TEST

/* ---- whole mboxes ---- */

static int64_t
read_slice(void *arg, uint64_t at, void *p, size_t n)
{
	struct slice s = *(struct slice *)arg;

	s = slice_sub(s, at < s.n ? (size_t)at : s.n, s.n);
	n = n < s.n ? n : s.n;
	if (n > 0)
		memcpy(p, s.p, n);
	return (int64_t)n;
}

static void
collect(void *arg, struct slice octets)
{
	buf_put_slice(arg, octets);
}

/* "[flags,uid,keywords|octets]" for each message, "!" when it ends in an error. */
static void
render(struct slice in, struct buf *out)
{
	static struct mbox m;
	struct mbox_message msg;
	struct buf octets;
	struct err e;
	int next;

	buf_init(&octets, 1 << 20);
	buf_init(&msg.keywords, MBOX_KEYWORDS_BYTES_MAX);
	mbox_init(&m, read_slice, &in);
	while ((next = mbox_next(&m, &msg, collect, &octets, &e)) == 1) {
		buf_putf(out, "[%u,%u,", msg.flags, msg.uid);
		for (size_t i = 0; i < msg.keywords.n; i++)
			buf_put_u8(out, msg.keywords.p[i] == '\n' ? ' ' : msg.keywords.p[i]);
		buf_putf(out, "%s|%.*s]", msg.internal ? "internal" : "", SLICE_ARG(buf_slice(&octets)));
		buf_reset(&octets);
	}
	if (m.uidvalidity != 0)
		buf_putf(out, "base %u %u", m.uidvalidity, m.last_uid);
	if (next < 0)
		buf_put_u8(out, '!');
	buf_fini(&msg.keywords);
	buf_fini(&octets);
}

#define FROM "From a@b.example Thu Feb 13 23:32:54 2003\n"

START_TEST(whole)
{
	static const struct {
		const char *name, *in, *want;
	} rows[] = {
	    {"nothing", "", ""},
	    {"one", FROM "A: b\n\ntext\n\n", "[0,0,|A: b\n\ntext\n]"},
	    {"no line at the end", FROM "A: b\n\ntext", "[0,0,|A: b\n\ntext]"},
	    {"two", FROM "A: b\n\ntext\n\n" FROM "C: d\n\nmore\n", "[0,0,|A: b\n\ntext\n][0,0,|C: d\n\nmore\n]"},
	    {"empty bodies", FROM "A: b\n\n" FROM "C: d\n\n\n" FROM "\n", "[0,0,|A: b\n\n][0,0,|C: d\n\n][0,0,|\n]"},
	    {"lines between", "\n\n" FROM "A: b\n\ntext\n\n\n\n" FROM "C: d\n\n", "[0,0,|A: b\n\ntext\n\n\n][0,0,|C: d\n\n]"},
	    {"not behind an empty line", FROM "A: b\n\ntext\n" FROM "more\n\n", "[0,0,|A: b\n\ntext\n" FROM "more\n]"},
	    {"no date", FROM "A: b\n\ntext\n\nFrom here on\n\n", "[0,0,|A: b\n\ntext\n\nFrom here on\n]"},
	    {"quoted", FROM "A: b\n\n>From x\n>>From y\n> From z\n>Fro\n\n", "[0,0,|A: b\n\nFrom x\n>From y\n> From z\n>Fro\n]"},
	    {"quoted in the header", FROM "A: b\n>From x\n\ntext\n\n", "[0,0,|A: b\n>From x\n\ntext\n]"},
	    {"CRLF", "From a@b.example Thu Feb 13 23:32:54 2003\r\nA: b\r\nStatus: RO\r\n\r\ntext\r\n\r\n" FROM "\n",
		"[1,0,|A: b\r\n\r\ntext\r\n][0,0,|\n]"},
	    {"marks", FROM "Status: RO\nA: b\nx-status: AFDT\nX-Keywords: one  $two \n a(b\nX-UID: 77\nC: d\n\ntext\n\n",
		"[31,77,one $two |A: b\nC: d\n\ntext\n]"},
	    {"marks of others", FROM "Status: ROX\nX-Status: R?\nStatusX: R\n Status: x\nX-UID: x\n\n",
		"[1,0,|StatusX: R\n Status: x\n\n]"},
	    {"Thunderbird", "From - Thu Feb 13 23:32:54 2003\nX-Mozilla-Status: 1003\nX-Mozilla-Status2: 00800000\nX-Mozilla-Keys: $label1 junk     \nA: b\n\n" FROM
			"X-Mozilla-Status: 000c\n\n" FROM "X-Mozilla-Status: 00ff1\nX-Mozilla-Status: 00g1\n\n",
		"[3,0,$Forwarded $label1 junk |A: b\n\n][12,0,|\n][0,0,|\n]"},
	    {"base", FROM "X-IMAPbase: 1234567890 0000000042 one two\n three\nA: b\n\n" FROM "X-IMAPbase: 9 9\n\n",
		"[0,0,|A: b\n\n][0,0,|\n]base 1234567890 42"},
	    {"internal", FROM "Subject: x\nX-IMAP: 1234567890 42\n\ndata\n\n" FROM "X-IMAP: 7 7\n\ntext\n\n",
		"[0,0,internal|Subject: x\n\ndata\n][0,0,|\ntext\n]base 1234567890 42"},
	    {"true length", FROM "Content-Length: 51\nA: b\n\n\n" FROM ">From x\n\n" FROM "\n",
		"[0,0,|A: b\n\n\n" FROM ">From x\n][0,0,|\n]"},
	    {"true length at the end", FROM "Content-Length: 4\n\ntext", "[0,0,|\ntext]"},
	    {"true length of nothing", FROM "Content-Length: 0\n\n\n" FROM "\n", "[0,0,|\n][0,0,|\n]"},
	    {"false length", FROM "Content-Length: 3\n\ntext\n\n" FROM "\n", "[0,0,|\ntext\n][0,0,|\n]"},
	    {"length past the end", FROM "Content-Length: 300\n\ntext\n\n", "[0,0,|\ntext\n]"},
	    {"greatest length", FROM "Content-Length: 9223372036854775807\n\ntext\n\n", "[0,0,|\ntext\n]"},
	    {"no mbox", "A: b\n\ntext\n", "!"},
	    {"no mbox", "From here on\n\ntext\n", "!"},
	    {"only its start", "From a@b.example Thu Feb 13 23:32:54 2003", "[0,0,|]"},
	};
	struct buf out;

	buf_init(&out, 1 << 20);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		buf_reset(&out);
		render(slice_str(rows[i].in), &out);
		ck_assert_msg(slice_eq(buf_slice(&out), slice_str(rows[i].want)), "%s: %.*s", rows[i].name,
		    SLICE_ARG(buf_slice(&out)));
	}
	buf_fini(&out);
}
END_TEST

/* The border, a quoted line, a header field and an empty line at each place around the edge of the window. */
START_TEST(window_edges)
{
	static const char tail[] = "y\n\n>From q\n\n" FROM "X-UID: 7\nC: d\n\nmore\n\n";
	struct buf in, out, want;

	buf_init(&in, 1 << 20);
	buf_init(&out, 1 << 20);
	buf_init(&want, 1 << 20);
	for (size_t shift = 0; shift < sizeof tail + 8; shift++) {
		size_t x = MBOX_WINDOW_BYTES - shift;

		buf_reset(&in);
		buf_reset(&out);
		buf_reset(&want);
		buf_put_str(&in, FROM "A: b\n\n");
		buf_put_str(&want, "[0,0,|A: b\n\n");
		/* One long line, and one that begins elsewhere. */
		for (size_t i = 0; i < x; i++) {
			uint8_t c = i == shift * 3 ? '\n' : 'x';

			buf_put_u8(&in, c);
			buf_put_u8(&want, c);
		}
		buf_put_str(&in, tail);
		buf_put_str(&want, "y\n\nFrom q\n][0,7,|C: d\n\nmore\n]");
		render(buf_slice(&in), &out);
		ck_assert_msg(slice_eq(buf_slice(&out), buf_slice(&want)), "%zu", shift);
	}
	buf_fini(&in);
	buf_fini(&out);
	buf_fini(&want);
}
END_TEST

/* Each limit at its edge. */
START_TEST(limits)
{
	struct buf in, out;
	struct date_time date;
	size_t n;

	buf_init(&in, 1 << 20);
	buf_init(&out, 1 << 20);
	/* A From_ line with its LF of exactly the most octets, and of one more. */
	for (unsigned more = 0; more < 2; more++) {
		buf_reset(&in);
		buf_reset(&out);
		buf_put_str(&in, "From ");
		while (in.n + sizeof " Thu Feb 13 23:32:54 2003\n" - 1 < MBOX_FROM_BYTES_MAX + more)
			buf_put_u8(&in, 'a');
		buf_put_str(&in, " Thu Feb 13 23:32:54 2003\n");
		ck_assert_uint_eq(in.n, MBOX_FROM_BYTES_MAX + more);
		ck_assert(mbox_from_parse(slice_sub(buf_slice(&in), 0, in.n - 1), &date));
		buf_put_str(&in, "\n");
		render(buf_slice(&in), &out);
		ck_assert_msg(slice_eq(buf_slice(&out), more ? SLICE("!") : SLICE("[0,0,|\n]")), "%.*s", SLICE_ARG(buf_slice(&out)));
	}
	/* Keywords up to the octets of a field; what is behind is left aside. */
	buf_reset(&in);
	buf_reset(&out);
	buf_put_str(&in, FROM "X-Keywords:");
	n = in.n;
	while (in.n - n + sizeof "X-Keywords:" - 1 < MBOX_FIELD_BYTES_MAX)
		buf_put_str(&in, " k1234567890123");
	buf_put_str(&in, " last\nA: b\n\n");
	render(buf_slice(&in), &out);
	ck_assert(slice_find(buf_slice(&out), SLICE("last")) == out.n);
	ck_assert(slice_ends_nocase(buf_slice(&out), SLICE("|A: b\n\n]")));
	buf_fini(&in);
	buf_fini(&out);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("mbox");
	TCase *c = tcase_create("mbox");

	tcase_add_test(c, from_lines);
	tcase_add_test(c, whole);
	tcase_add_test(c, window_edges);
	tcase_add_test(c, limits);
	suite_add_tcase(s, c);
	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed != 0;
}
