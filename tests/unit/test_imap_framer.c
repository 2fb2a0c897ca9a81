/* The framer: the same events whatever the chunks; literals, limits and what must never be taken for a command. */
#include "imapd/imap_framer.h"
#include "common/loop.h"
#include "imapd/list_match.h"
#include "common/mutf7.h"

#include <check.h>
#include <stdio.h>

/* How the driver answers literals. */
enum policy {
	ACCEPT,
	SPOOL,
	REFUSE,
};

/* Runs the input through a framer in chunks of n; what happened is written down as text. */
static void
run(struct slice in, size_t n, enum policy policy, struct imap_framer_limits limits, struct buf *log)
{
	struct imap_framer f;
	bool in_spool = false;

	imap_framer_init(&f, limits);
	buf_reset(log);
	while (in.n > 0) {
		struct slice piece = slice_sub(in, 0, n);
		size_t used;
		enum imap_frame got = imap_framer_feed(&f, piece, &used);

		ck_assert(used > 0 && used <= piece.n);
		if (in_spool && got != IMAP_FRAME_SPOOL && got != IMAP_FRAME_MORE) {
			buf_put_str(log, "]");
			in_spool = false;
		}
		switch (got) {
		case IMAP_FRAME_MORE:
			break;
		case IMAP_FRAME_SPOOL:
			if (!in_spool)
				buf_put_str(log, "[");
			in_spool = true;
			buf_put_slice(log, f.spool);
			break;
		case IMAP_FRAME_LITERAL:
			buf_putf(log, "<%llu%s>", (unsigned long long)f.literal_octets, f.literal_sync ? "" : "+");
			if (policy == SPOOL)
				imap_framer_spool(&f);
			else if ((policy == REFUSE || !imap_framer_accept(&f)) && !imap_framer_refuse(&f))
				buf_put_str(log, "bye");
			break;
		case IMAP_FRAME_COMMAND:
			buf_put_str(log, "(");
			buf_put_slice(log, imap_framer_command(&f));
			buf_put_str(log, ")");
			imap_framer_next(&f);
			break;
		case IMAP_FRAME_ERROR:
			buf_putf(log, "!%.4s", (const char *)imap_framer_command(&f).p);
			imap_framer_next(&f);
			break;
		case IMAP_FRAME_FATAL:
			buf_put_str(log, "fatal");
			imap_framer_fini(&f);
			return;
		}
		in = slice_sub(in, used, in.n);
	}
	imap_framer_fini(&f);
}

START_TEST(test_events)
{
	static const struct {
		enum policy policy;
		struct slice in;
		const char *want;
	} rows[] = {
#define ROW(policy, in, want) {policy, {(const uint8_t *)(in), sizeof(in) - 1}, want}
	    ROW(ACCEPT, "a NOOP\r\nb NOOP\r\n", "(a NOOP)(b NOOP)"),
	    ROW(ACCEPT, "a LOGIN {1}\r\nx {2}\r\nyz\r\n", "<1><2>(a LOGIN {1}\r\nx {2}\r\nyz)"),
	    ROW(ACCEPT, "a LOGIN {1+}\r\nx {0+}\r\n\r\n", "<1+><0+>(a LOGIN {1+}\r\nx {0+}\r\n)"),
	    ROW(ACCEPT, "a X {4}\r\n\r\n\r\n\r\n", "<4>(a X {4}\r\n\r\n\r\n)"),
	    ROW(ACCEPT, "a X \"{3}\"\r\n", "(a X \"{3}\")"),
	    ROW(ACCEPT, "a X {x}\r\nb\r\n", "(a X {x})(b)"),
	    ROW(ACCEPT, "a X {}\r\n", "(a X {})"),
	    ROW(ACCEPT, "a X {+}\r\n", "(a X {+})"),
	    ROW(SPOOL, "a APPEND x {5}\r\nhel\0o\r\nb NOOP\r\n", "<5>[hel\0o](a APPEND x {5})(b NOOP)"),
	    /* A refused synchronising literal is not sent: what follows is a command. */
	    ROW(REFUSE, "a X {5}\r\nb NOOP\r\n", "<5>(b NOOP)"),
	    /* A refused non-synchronising one is dropped with its command, and its octets are never executed. */
	    ROW(REFUSE, "a X {8+}\r\nb NOOP\r\n tail\r\nc NOOP\r\n", "<8+>(c NOOP)"),
	    ROW(REFUSE, "a X {3+}\r\nxyz {8+}\r\nb NOOP\r\n\r\nc NOOP\r\n", "<3+>(c NOOP)"),
	    /* Bare LF, bare CR, NUL: the line is an error, the next one is not. */
	    ROW(ACCEPT, "abcd X\nb NOOP\r\n", "!abcd(b NOOP)"),
	    ROW(ACCEPT, "abcd \rX\r\nb NOOP\r\n", "!abcd(b NOOP)"),
	    ROW(ACCEPT, "abcd \0X\r\nb NOOP\r\n", "!abcd(b NOOP)"),
	    ROW(ACCEPT, "abcd \0 {8+}\r\nx NOOP\r\n\r\nb NOOP\r\n", "!abcd(b NOOP)"),
	    ROW(ACCEPT, "abcd \0 {8}\r\nb NOOP\r\n", "!abcd(b NOOP)"),
#undef ROW
	};
	struct imap_framer_limits limits = {100, 200, 1u << 20};
	struct buf log;
	struct buf whole;

	buf_init(&log, 1000);
	buf_init(&whole, 1000);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		run(rows[i].in, rows[i].in.n, rows[i].policy, limits, &whole);
		if (i != 8) /* its text has a NUL */
			ck_assert_msg(slice_eq(buf_slice(&whole), slice_str(rows[i].want)), "row %zu: %.*s", i,
			    (int)whole.n, (const char *)whole.p);
		for (size_t n = 1; n <= rows[i].in.n; n++) {
			run(rows[i].in, n, rows[i].policy, limits, &log);
			ck_assert_msg(slice_eq(buf_slice(&log), buf_slice(&whole)), "row %zu in pieces of %zu: %.*s",
			    i, n, (int)log.n, (const char *)log.p);
		}
	}
	buf_fini(&log);
	buf_fini(&whole);
}
END_TEST

START_TEST(test_line_limit)
{
	struct imap_framer_limits limits = {100, 200, 1u << 20};
	struct buf in;
	struct buf log;

	buf_init(&in, 4096);
	buf_init(&log, 4096);
	for (size_t n = 99; n <= 101; n++) { /* the CRLF counts */
		buf_reset(&in);
		for (size_t i = 0; i + 2 < n; i++)
			buf_put_u8(&in, 'x');
		buf_put_str(&in, "\r\nb\r\n");
		run(buf_slice(&in), 7, ACCEPT, limits, &log);
		ck_assert_msg((log.p[0] == '(') == (n <= 100), "%zu", n);
		ck_assert(slice_find(buf_slice(&log), SLICE("(b)")) < log.n);
	}
	buf_fini(&in);
	buf_fini(&log);
}
END_TEST

START_TEST(test_long_line_keeps_its_literal)
{
	/* Of a line that is far too long the literal at its end is still seen: its octets are no commands. */
	struct imap_framer_limits limits = {100, 200, 1u << 20};
	struct buf in;
	struct buf log;

	buf_init(&in, 1u << 16);
	buf_init(&log, 4096);
	for (size_t n = 90; n < 700; n++) {
		buf_reset(&in);
		buf_put_str(&in, "abcd ");
		for (size_t i = 0; i < n; i++)
			buf_put_u8(&in, 'x');
		buf_put_str(&in, "{8+}\r\nx NOOP\r\n\r\nb NOOP\r\n");
		run(buf_slice(&in), 13, ACCEPT, limits, &log);
		ck_assert_msg(slice_find(buf_slice(&log), SLICE("(x NOOP)")) == log.n, "%zu: %.*s", n, (int)log.n,
		    (const char *)log.p);
		ck_assert_msg(slice_find(buf_slice(&log), SLICE("(b NOOP)")) < log.n, "%zu: %.*s", n, (int)log.n,
		    (const char *)log.p);
	}
	buf_fini(&in);
	buf_fini(&log);
}
END_TEST

START_TEST(test_literal_limits)
{
	struct imap_framer_limits limits = {100, 200, 1u << 20};
	struct buf log;

	buf_init(&log, 4096);
	/* "a X {189}" is 9 octets, CRLF 2, and 189 more make 200. */
	run(SLICE("a X {189}\r\nb\r\n"), 50, ACCEPT, limits, &log);
	ck_assert(slice_eq(buf_slice(&log), SLICE("<189>")));
	run(SLICE("a X {190}\r\nb\r\n"), 50, ACCEPT, limits, &log);
	ck_assert(slice_eq(buf_slice(&log), SLICE("<190>(b)")));
	/* Dropping has its limit too. */
	run(SLICE("a X {1048576+}\r\nb\r\n"), 50, ACCEPT, limits, &log);
	ck_assert(slice_eq(buf_slice(&log), SLICE("<1048576+>")));
	run(SLICE("a X {1048577+}\r\n"), 50, ACCEPT, limits, &log);
	ck_assert(slice_eq(buf_slice(&log), SLICE("<1048577+>bye")));
	run(SLICE("abcd \r X {1048577+}\r\n"), 50, ACCEPT, limits, &log);
	ck_assert(slice_eq(buf_slice(&log), SLICE("fatal")));
	buf_fini(&log);
}
END_TEST

START_TEST(test_plain)
{
	struct imap_framer f;
	size_t used;

	imap_framer_init(&f, (struct imap_framer_limits){100, 200, 1u << 20});
	imap_framer_plain(&f, true);
	ck_assert_int_eq(imap_framer_feed(&f, SLICE("x{5}\r\n"), &used), IMAP_FRAME_COMMAND);
	ck_assert(slice_eq(imap_framer_command(&f), SLICE("x{5}")));
	imap_framer_next(&f);
	ck_assert(imap_framer_idle(&f));
	imap_framer_fini(&f);
}
END_TEST

/* ---- names ---- */

START_TEST(test_mutf7)
{
	static const struct {
		const char *wire;
		const char *text; /* NULL: the wire form is refused */
	} rows[] = {
	    {"INBOX", "INBOX"},
	    {"", ""},
	    {"a&-b", "a&b"},
	    {"&-", "&"},
	    {"&AOQ-", "\xc3\xa4"},
	    {"~peter/mail/&U,BTFw-/&ZeVnLIqe-", "~peter/mail/\xe5\x8f\xb0\xe5\x8c\x97/\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e"},
	    {"&2D3eAA-", "\xf0\x9f\x98\x80"},
	    {"&AAE-", "\x01"},
	    {"&AOQ-&-", "\xc3\xa4&"},
	    {"&AOQ-x&AOQ-", "\xc3\xa4x\xc3\xa4"},
	    {"&", NULL},
	    {"&AOQ", NULL},
	    {"&AOQ-&AOQ-", NULL}, /* superfluous shift */
	    {"&AEE-", NULL},	  /* an encoded A */
	    {"&ACY-", NULL},	  /* an encoded & */
	    {"&AOR-", NULL},	  /* bits left over */
	    {"&AOQA-", NULL},
	    {"&A-", NULL},
	    {"&AOQ=-", NULL},
	    {"&AO/-", NULL},
	    {"&2D0-", NULL},	 /* half of a pair */
	    {"&3gA-", NULL},	 /* the other half */
	    {"&2D0AOQ-", NULL},
	    {"&AAA-", NULL},	 /* NUL */
	    {"a\xc3\xa4", NULL},
	    {"a\x7f", NULL},
	    {"a\tb", NULL},
	};
	struct buf b;

	buf_init(&b, 1000);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		bool ok;

		buf_reset(&b);
		ok = mutf7_decode(slice_str(rows[i].wire), &b);
		ck_assert_msg(ok == (rows[i].text != NULL), "%s", rows[i].wire);
		if (!ok) {
			ck_assert_uint_eq(b.n, 0);
			continue;
		}
		ck_assert_msg(slice_eq(buf_slice(&b), slice_str(rows[i].text)), "%s", rows[i].wire);
		buf_reset(&b);
		ck_assert(mutf7_encode(slice_str(rows[i].text), &b));
		ck_assert_msg(slice_eq(buf_slice(&b), slice_str(rows[i].wire)), "%s: %.*s", rows[i].wire, (int)b.n,
		    (const char *)b.p);
	}
	buf_reset(&b);
	ck_assert(!mutf7_encode(SLICE("\xff"), &b));
	buf_fini(&b);
}
END_TEST

START_TEST(test_list_match)
{
	static const struct {
		const char *pattern;
		const char *name;
		bool want;
	} rows[] = {
	    {"*", "a/b/c", true},	{"%", "a", true},	  {"%", "a/b", false},
	    {"a/%", "a/b", true},	{"a/%", "a/b/c", false},  {"a/%", "a", false},
	    {"a*", "a", true},		{"a*", "a/b", true},	  {"a%", "ab", true},
	    {"%/%", "a/b", true},	{"%/%", "a", false},	  {"*b", "a/b", true},
	    {"%b", "a/b", false},	{"inbox", "INBOX", true}, {"INBOX", "INBOX", true},
	    {"iNb%", "INBOX", true},	{"inbox/x", "INBOX/x", false},
	    {"abc", "ABC", false},	{"", "", true},		  {"", "a", false},
	    {"**", "a", true},		{"%%", "", true},	  {"*%*%b", "xxb", true},
	    {"%a%b", "xaxxb", true},	{"%a%b", "xa/xb", false}, {"*a%b", "x/a/xb", false},
	    {"*a%b", "x/axb", true},
	};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		ck_assert_msg(list_match(slice_str(rows[i].pattern), slice_str(rows[i].name)) == rows[i].want,
		    "%s against %s", rows[i].pattern, rows[i].name);
}
END_TEST

/* Wildcards by their definition (RFC 3501 6.3.8), with all the backtracking that it invites. */
static bool
match_slowly(const char *pattern, const char *name)
{
	if (*pattern == '\0')
		return *name == '\0';
	if (*pattern != '*' && *pattern != '%')
		return *pattern == *name && match_slowly(pattern + 1, name + 1);
	if (match_slowly(pattern + 1, name))
		return true;
	return *name != '\0' && (*pattern == '*' || *name != '/') && match_slowly(pattern, name + 1);
}

static void
put_random(struct buf *b, unsigned *seed, const char *from, unsigned max)
{
	unsigned n = (unsigned)rand_r(seed) % (max + 1);

	for (unsigned i = 0; i < n; i++)
		buf_put_u8(b, (uint8_t)from[(unsigned)rand_r(seed) % strlen(from)]);
	buf_put_u8(b, 0);
}

START_TEST(test_list_match_by_definition)
{
	unsigned seed = 1;
	unsigned matched = 0;

	for (unsigned i = 0; i < 20000; i++) {
		struct buf b;

		buf_init(&b, 1000);
		/* Some start beyond the first word of places. */
		for (unsigned k = 0; i % 2 == 0 && k < 62; k++)
			buf_put_u8(&b, 'c');
		put_random(&b, &seed, "ab/*%", 7);
		size_t at = b.n;
		for (unsigned k = 0; i % 2 == 0 && k < 62; k++)
			buf_put_u8(&b, 'c');
		put_random(&b, &seed, "ab/", 7);
		const char *pattern = (const char *)b.p;
		const char *name = pattern + at;
		bool want = match_slowly(pattern, name);

		matched += want;
		ck_assert_msg(list_match(slice_str(pattern), slice_str(name)) == want, "%s against %s", pattern, name);
		buf_fini(&b);
	}
	ck_assert_uint_gt(matched, 1000);
}
END_TEST

START_TEST(test_list_match_cost)
{
	/* What would be exponential with backtracking. */
	struct buf pattern;
	struct buf name;

	buf_init(&pattern, LIST_PATTERN_BYTES_MAX);
	buf_init(&name, 1000);
	while (pattern.n + 3 <= LIST_PATTERN_BYTES_MAX)
		buf_put_str(&pattern, "%*a");
	while (name.n < 1000)
		buf_put_str(&name, "aaaa/aaaaa");
	uint64_t start = clock_ms();
	for (unsigned i = 0; i < 1000; i++)
		ck_assert(!list_match(buf_slice(&pattern), buf_slice(&name)));
	buf_reset(&pattern);
	for (unsigned i = 0; i < 999; i++)
		buf_put_str(&pattern, "%a");
	buf_put_str(&pattern, "*b");
	for (unsigned i = 0; i < 1000; i++)
		ck_assert(!list_match(buf_slice(&pattern), buf_slice(&name)));
	/* Octet by octet of the pattern it took 10 s; instrumented, this has to stay below. */
	ck_assert_uint_lt(clock_ms() - start, 3000);
	buf_fini(&pattern);
	buf_fini(&name);
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("imap_framer");
	TCase *tc = tcase_create("all");
	SRunner *sr;
	int failed;

	tcase_add_test(tc, test_events);
	tcase_add_test(tc, test_line_limit);
	tcase_add_test(tc, test_long_line_keeps_its_literal);
	tcase_add_test(tc, test_literal_limits);
	tcase_add_test(tc, test_plain);
	tcase_add_test(tc, test_mutf7);
	tcase_add_test(tc, test_list_match);
	tcase_add_test(tc, test_list_match_by_definition);
	tcase_add_test(tc, test_list_match_cost);
	suite_add_tcase(suite, tc);
	sr = srunner_create(suite);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
