/* The productions of IMAP commands: what is taken, what is refused, and what comes out. */
#include "imapd/imap_args.h"
#include "imapd/imap_fetch.h"
#include "imapd/imap_print.h"
#include "imapd/imap_search.h"

#include <check.h>
#include <stdio.h>

static struct arena *arena;

static void
setup(void)
{
	arena = arena_new(1u << 20);
}

static void
teardown(void)
{
	arena_free(&arena);
}

static struct imap_scan
scan(const char *text)
{
	return imap_scan_of(slice_str(text), arena);
}

/* ---- strings ---- */

struct string_row {
	const char *in;
	const char *want; /* NULL: refused */
};

static void
check_strings(const struct string_row *rows, size_t n, bool (*parse)(struct imap_scan *, struct slice *))
{
	for (size_t i = 0; i < n; i++) {
		struct imap_scan s = scan(rows[i].in);
		struct slice got;
		bool ok = parse(&s, &got) && imap_scan_end(&s);

		ck_assert_msg(ok == (rows[i].want != NULL), "row %zu: %s", i, rows[i].in);
		if (ok)
			ck_assert_msg(slice_eq(got, slice_str(rows[i].want)), "row %zu: %s", i, rows[i].in);
		else
			ck_assert_ptr_nonnull(s.why);
	}
}
#define CHECK_STRINGS(rows, parse) check_strings((rows), sizeof(rows) / sizeof *(rows), (parse))

START_TEST(test_astring)
{
	static const struct string_row rows[] = {
	    {"INBOX", "INBOX"},
	    {"NIL", "NIL"},
	    {"a]b", "a]b"},
	    {"a[b", "a[b"},
	    {"&AOQ-", "&AOQ-"},
	    {"\"\"", ""},
	    {"\"a b\"", "a b"},
	    {"\"a\\\"b\\\\\"", "a\"b\\"},
	    {"{3}\r\nabc", "abc"},
	    {"{3+}\r\na\rb", "a\rb"},
	    {"{0}\r\n", ""},
	    {"{3}\r\n\xc3\xa4x", "\xc3\xa4x"},
	    {"", NULL},
	    {"a b", NULL},
	    {"a%", NULL},
	    {"a*", NULL},
	    {"a(", NULL},
	    {"a{", NULL},
	    {"a\\b", NULL},
	    {"a\"b", NULL},
	    {"a\x7f", NULL},
	    {"\"\xc3\xa4\"", "\xc3\xa4"}, /* RFC 6855 3 */
	    {"\"\xf0\x9f\x98\x80\\\"\"", "\xf0\x9f\x98\x80\""},
	    {"\xc3\xa4", NULL},
	    {"\"\xc3\"", NULL},
	    {"\"\xc3\\\xa4\"", NULL},
	    {"\"\xed\xa0\x80\"", NULL},
	    {"\"\xc0\xaf\"", NULL},
	    {"\"a", NULL},
	    {"\"a\\", NULL},
	    {"\"a\\b\"", NULL},
	    {"\"a\rb\"", NULL},
	    {"\"a\nb\"", NULL},
	    {"{3}\r\nab", NULL},
	    {"{3}\nabc", NULL},
	    {"{}\r\n", NULL},
	    {"{-1}\r\n", NULL},
	    {"{99999999999999999999}\r\nabc", NULL},
	    {"{3++}\r\nabc", NULL},
	};

	CHECK_STRINGS(rows, imap_astring);
}
END_TEST

START_TEST(test_literal_nul)
{
	struct imap_scan s = imap_scan_of(SLICE("{3}\r\na\0b"), arena);
	struct slice got;

	ck_assert(!imap_astring(&s, &got));
}
END_TEST

START_TEST(test_atom_and_pattern)
{
	static const struct string_row atoms[] = {
	    {"a+b.c", "a+b.c"}, {"a]", NULL}, {"\"a\"", NULL}, {"a%", NULL}, {"", NULL}, {"$Junk", "$Junk"},
	};
	static const struct string_row patterns[] = {
	    {"%", "%"}, {"a/*", "a/*"}, {"\"a b*\"", "a b*"}, {"\"\"", ""}, {"a(", NULL}, {"", NULL},
	    {"*]%", "*]%"},
	};

	CHECK_STRINGS(atoms, imap_atom);
	CHECK_STRINGS(patterns, imap_list_mailbox);
}
END_TEST

START_TEST(test_every_octet)
{
	/* The classes of RFC 3501 9, written down once more and compared for each octet. */
	for (unsigned c = 0; c < 256; c++) {
		uint8_t octet = (uint8_t)c;
		struct slice one = slice_of(&octet, 1);
		struct imap_scan s = imap_scan_of(one, arena);
		struct slice got;
		bool special = c <= 0x20 || c >= 0x7f || memchr("(){%*\"\\]", (int)c, 8) != NULL;
		bool atom = !special || c == '}';

		ck_assert_msg(imap_atom(&s, &got) == atom || c == ')', "octet %u", c);
		ck_assert_msg(imap_is_astring_bare(one) == (atom || c == ']') || c == ')', "octet %u", c);
	}
	ck_assert(!imap_is_atom(SLICE(")")));
	ck_assert(!imap_is_atom(SLICE("")));
}
END_TEST

START_TEST(test_numbers)
{
	struct imap_scan s = scan("4294967295");
	uint32_t n;

	ck_assert(imap_number(&s, &n));
	ck_assert_uint_eq(n, UINT32_MAX);
	s = scan("4294967296");
	ck_assert(!imap_number(&s, &n));
	s = scan("0");
	ck_assert(!imap_nz_number(&s, &n));
	s = scan("01");
	ck_assert(!imap_nz_number(&s, &n));
	s = scan("007");
	ck_assert(imap_number(&s, &n));
	ck_assert_uint_eq(n, 7);
}
END_TEST

/* ---- sets ---- */

START_TEST(test_sets)
{
	static const struct {
		const char *in;
		uint32_t largest;
		const char *want;
	} rows[] = {
	    {"1", 10, "1"},
	    {"*", 10, "10"},
	    {"1:*", 10, "1:10"},
	    {"*:4", 10, "4:10"},
	    {"559:*", 500, "500:559"},
	    {"4:2", 10, "2:4"},
	    {"*:*", 7, "7"},
	    {"2,4:7,9,12:*", 15, "2,4:7,9,12:15"},
	    {"*:4,5:7", 10, "4:10"},
	    {"3,2,1", 9, "1:3"},
	    {"1,1,1", 9, "1"},
	    {"4294967295,1:4294967295", 9, "1:4294967295"},
	    {"1:*", 0, "0:1"},
	    {"", 9, NULL},
	    {"0", 9, NULL},
	    {"0:1", 9, NULL},
	    {"1,", 9, NULL},
	    {",1", 9, NULL},
	    {"1:", 9, NULL},
	    {"1::2", 9, NULL},
	    {"1 2", 9, NULL},
	    {"a", 9, NULL},
	    {"4294967296", 9, NULL},
	};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct imap_scan s = scan(rows[i].in);
		struct imap_set set;
		char text[200] = "";
		bool ok = imap_sequence_set(&s, &set) && imap_scan_end(&s);

		ck_assert_msg(ok == (rows[i].want != NULL), "%s", rows[i].in);
		if (!ok)
			continue;
		imap_set_resolve(&set, rows[i].largest);
		for (size_t k = 0; k < set.n; k++) {
			size_t at = strlen(text);
			const char *comma = k ? "," : "";

			if (set.v[k].low == set.v[k].high)
				snprintf(text + at, sizeof text - at, "%s%u", comma, set.v[k].low);
			else
				snprintf(text + at, sizeof text - at, "%s%u:%u", comma, set.v[k].low,
				    set.v[k].high);
		}
		ck_assert_msg(strcmp(text, rows[i].want) == 0, "%s: %s, not %s", rows[i].in, text,
		    rows[i].want);
	}
}
END_TEST

START_TEST(test_set_cost)
{
	/* 32,000 ranges, descending: one sort, not a shift for each. */
	struct buf b;
	struct imap_set set;
	struct imap_scan s;

	buf_init(&b, 1u << 20);
	for (unsigned i = 32000; i > 0; i--)
		buf_putf(&b, "%s%u", i == 32000 ? "" : ",", i * 2);
	s = imap_scan_of(buf_slice(&b), arena);
	ck_assert(imap_sequence_set(&s, &set));
	imap_set_resolve(&set, 5);
	ck_assert_uint_eq(set.n, 32000);
	ck_assert_uint_eq(set.v[0].low, 2);
	buf_fini(&b);
}
END_TEST

/* ---- flags and dates ---- */

START_TEST(test_flags)
{
	static const struct {
		const char *in;
		bool ok;
		uint32_t basic;
		size_t keywords;
		bool recent;
		bool unknown;
	} rows[] = {
	    {"()", true, 0, 0, false, false},
	    {"(\\Seen)", true, STORE_FLAG_SEEN, 0, false, false},
	    {"(\\sEEN \\Deleted \\Answered \\Flagged \\Draft)", true, STORE_FLAGS_ALL, 0, false, false},
	    {"(\\Recent)", true, 0, 0, true, false},
	    {"(\\Foo)", true, 0, 0, false, true},
	    {"(a B $c)", true, 0, 3, false, false},
	    {"(a A a)", true, 0, 1, false, false},
	    {"(a", false, 0, 0, false, false},
	    {"( a)", false, 0, 0, false, false},
	    {"(a )", false, 0, 0, false, false},
	    {"(\\)", false, 0, 0, false, false},
	    {"(\\*)", false, 0, 0, false, false},
	    {"(a  b)", false, 0, 0, false, false},
	    {"(a])", false, 0, 0, false, false},
	};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct imap_scan s = scan(rows[i].in);
		struct imap_flags f;

		ck_assert_msg((imap_flag_list(&s, &f) && imap_scan_end(&s)) == rows[i].ok, "%s", rows[i].in);
		if (!rows[i].ok)
			continue;
		ck_assert_uint_eq(f.basic, rows[i].basic);
		ck_assert_uint_eq(f.keywords_n, rows[i].keywords);
		ck_assert(f.recent == rows[i].recent && f.unknown == rows[i].unknown);
	}
}
END_TEST

START_TEST(test_keyword_limit)
{
	for (unsigned n = IMAP_KEYWORDS_PER_COMMAND_MAX - 1; n <= IMAP_KEYWORDS_PER_COMMAND_MAX + 1; n++) {
		struct imap_flags f;
		struct imap_scan s;
		struct buf b;

		buf_init(&b, 1u << 16);
		buf_put_u8(&b, '(');
		for (unsigned i = 0; i < n; i++)
			buf_putf(&b, "%sk%u", i ? " " : "", i);
		buf_put_u8(&b, ')');
		s = imap_scan_of(buf_slice(&b), arena);
		ck_assert(imap_flag_list(&s, &f) == (n <= IMAP_KEYWORDS_PER_COMMAND_MAX));
		ck_assert(s.limit == (n > IMAP_KEYWORDS_PER_COMMAND_MAX));
		buf_fini(&b);
	}
}
END_TEST

/* ---- arguments ---- */

static bool
append_ok(struct imap_scan *s)
{
	struct imap_append a;

	return imap_append_args(s, true, &a);
}

static bool
append_announced_ok(struct imap_scan *s)
{
	struct imap_append a;

	return imap_append_args(s, false, &a);
}

static bool
enable_ok(struct imap_scan *s)
{
	struct imap_enable a;

	return imap_enable_args(s, &a) && a.utf8_accept;
}

static bool
store_ok(struct imap_scan *s)
{
	struct imap_store a;

	return imap_store_args(s, &a);
}

static bool
list_ok(struct imap_scan *s)
{
	struct imap_list a;

	return imap_list_args(s, &a);
}

static bool
status_ok(struct imap_scan *s)
{
	struct imap_status a;

	return imap_status_args(s, &a);
}

static bool
create_ok(struct imap_scan *s)
{
	struct imap_create a;

	return imap_create_args(s, &a);
}

static bool
id_ok(struct imap_scan *s)
{
	struct imap_id a;

	return imap_id_args(s, &a);
}

static bool
fetch_ok(struct imap_scan *s)
{
	struct imap_fetch a;

	return imap_fetch_args(s, &a);
}

static bool
search_ok(struct imap_scan *s)
{
	struct imap_search a;

	return imap_search_args(s, &a);
}

START_TEST(test_arguments)
{
	static const struct {
		bool (*parse)(struct imap_scan *);
		const char *in;
		bool ok;
	} rows[] = {
	    {append_ok, " INBOX {5}", true},
	    {append_ok, " INBOX {5+}", true},
	    {append_ok, " {5}\r\nINBOX {5}", true},
	    {append_ok, " INBOX (\\Seen k) \"17-Jul-1996 02:44:25 -0700\" {5}", true},
	    {append_ok, " INBOX \" 7-Jul-1996 02:44:25 -0700\" {5}", true},
	    {append_ok, " INBOX \"31-Feb-2026 02:44:25 -0700\" {5}", false},
	    {append_ok, " INBOX \"7-Jul-1996 02:44:25 -0700\" {5}", false},
	    {append_ok, " INBOX (\\Seen)", false},
	    {append_ok, " INBOX \"text\"", false},
	    {append_ok, " {5}", false},
	    {append_ok, " INBOX {5} ", false},
	    {append_ok, " INBOX {5})", false},
	    {append_announced_ok, " INBOX {5}", true},
	    {append_announced_ok, " INBOX {5})", false},
	    {append_announced_ok, " INBOX (\\Seen) UTF8 (~{5+}", true},
	    {append_announced_ok, " INBOX utf8 (~{5}", true},
	    {append_announced_ok, " INBOX UTF8 (~{5})", false},
	    {append_announced_ok, " INBOX UTF8 ({5}", false},
	    {append_announced_ok, " INBOX UTF8 ~{5}", false},
	    {append_announced_ok, " INBOX ~{5}", false},
	    {append_ok, " INBOX UTF8 (~{5})", true},
	    {append_ok, " INBOX UTF8 (~{5}", false},
	    {append_ok, " INBOX UTF8 (~{5}))", false},
	    {enable_ok, " UTF8=ACCEPT", true},
	    {enable_ok, " CONDSTORE utf8=accept X", true},
	    {enable_ok, " UTF8=ACCEPTED", false},
	    {enable_ok, "", false},
	    {enable_ok, " UTF8=ACCEPT ", false},
	    {store_ok, " 1 FLAGS (\\Seen)", true},
	    {store_ok, " 1:* +FLAGS.SILENT \\Seen k", true},
	    {store_ok, " 1 -flags ()", true},
	    {store_ok, " 1 FLAGS", false},
	    {store_ok, " 1 FLAG (\\Seen)", false},
	    {store_ok, " 1 FLAGS.LOUD (\\Seen)", false},
	    {store_ok, " 1 FLAGS (\\Seen) x", false},
	    {list_ok, " \"\" *", true},
	    {list_ok, " \"\" \"\"", true},
	    {list_ok, " a/ \"%\"", true},
	    {list_ok, " (SPECIAL-USE) \"\" *", true},
	    {list_ok, " () \"\" *", true},
	    {list_ok, " (SUBSCRIBED RECURSIVEMATCH) \"\" (a b*) RETURN (CHILDREN SPECIAL-USE)", true},
	    {list_ok, " \"\" % RETURN (STATUS (MESSAGES UNSEEN) SUBSCRIBED)", true},
	    {list_ok, " \"\" % RETURN ()", true},
	    {list_ok, " (RECURSIVEMATCH) \"\" *", false},
	    {list_ok, " (NONSENSE) \"\" *", false},
	    {list_ok, " \"\"", false},
	    {list_ok, " \"\" % RETURN", false},
	    {list_ok, " \"\" () ", false},
	    {status_ok, " INBOX (MESSAGES)", true},
	    {status_ok, " INBOX (MESSAGES RECENT UIDNEXT UIDVALIDITY UNSEEN)", true},
	    {status_ok, " INBOX ()", false},
	    {status_ok, " INBOX MESSAGES", false},
	    {status_ok, " INBOX (HIGHESTMODSEQ)", false},
	    {create_ok, " a", true},
	    {create_ok, " a (USE (\\Drafts \\Sent))", true},
	    {create_ok, " a (USE ())", true},
	    {create_ok, " a (USE (\\Everything))", true},
	    {create_ok, " a (USE \\Drafts)", false},
	    {create_ok, " a ()", false},
	    {id_ok, " NIL", true},
	    {id_ok, " (\"name\" \"x\" \"version\" NIL)", true},
	    {id_ok, " ()", true},
	    {id_ok, "", false},
	    {id_ok, " (\"name\")", false},
	    {fetch_ok, " 1 ALL", true},
	    {fetch_ok, " 1 fast", true},
	    {fetch_ok, " 1 (ALL)", false},
	    {fetch_ok, " 1 ALL FLAGS", false},
	    {fetch_ok, " 1 FLAGS", true},
	    {fetch_ok, " 1 FLAGS UID", false},
	    {fetch_ok, " 1 (FLAGS UID)", true},
	    {fetch_ok, " 1 ()", false},
	    {fetch_ok, " 1 (FLAGS UID", false},
	    {fetch_ok, " 1 FLAGSX", false},
	    {fetch_ok, " 1 BODY", true},
	    {fetch_ok, " 1 BODY[]", true},
	    {fetch_ok, " 1 BODY[TEXT]", true},
	    {fetch_ok, " 1 BODY[MIME]", false},
	    {fetch_ok, " 1 BODY[1.MIME]", true},
	    {fetch_ok, " 1 BODY[1.2.3]", true},
	    {fetch_ok, " 1 BODY[0]", false},
	    {fetch_ok, " 1 BODY[1.]", false},
	    {fetch_ok, " 1 BODY[1.2.HEADER]", true},
	    {fetch_ok, " 1 BODY[HEADER.FIELDS (a \"b\")]", true},
	    {fetch_ok, " 1 BODY[HEADER.FIELDS ()]", false},
	    {fetch_ok, " 1 BODY[HEADER.FIELDS]", false},
	    {fetch_ok, " 1 BODY[HEADER.FIELDS.NOT (a)]<0.10>", true},
	    {fetch_ok, " 1 BODY[HEADER.FIELDS (\"a\tb\")]", false},
	    {fetch_ok, " 1 BODY.PEEK", false},
	    {fetch_ok, " 1 BODY.PEEK[]<0.0>", false},
	    {fetch_ok, " 1 BODY.PEEK[]<5.7>", true},
	    {fetch_ok, " 1 BODY[]<5>", false},
	    {fetch_ok, " 1 BODY[", false},
	    {fetch_ok, " 1 RFC822", true},
	    {fetch_ok, " 1 RFC822.SIZE", true},
	    {fetch_ok, " 1 RFC822.HEADERS", false},
	    {search_ok, " ALL", true},
	    {search_ok, " 1:5 UID 3 NOT SEEN", true},
	    {search_ok, " (OR (A B) C)", false},
	    {search_ok, " OR (SEEN DRAFT) NEW", true},
	    {search_ok, " OR SEEN", false},
	    {search_ok, " NOT", false},
	    {search_ok, " CHARSET UTF-8 TEXT {3}\r\nabc", true},
	    {search_ok, " CHARSET UTF-8", false},
	    {search_ok, " HEADER X \"\"", true},
	    {search_ok, " HEADER X", false},
	    {search_ok, " SINCE 1-Feb-1994", true},
	    {search_ok, " SINCE \"1-Feb-1994\"", true},
	    {search_ok, " ON 31-Feb-1994", false},
	    {search_ok, " SENTON 01-Feb-1994 SENTBEFORE 1-Mar-1994 SENTSINCE 1-Jan-1994", true},
	    {search_ok, " KEYWORD a UNKEYWORD $b", true},
	    {search_ok, " KEYWORD \"a\"", false},
	    {search_ok, " LARGER 100 SMALLER 4294967295", true},
	    {search_ok, " LARGER 4294967296", false},
	    {search_ok, " FROM a TO b CC c BCC d SUBJECT e BODY f TEXT g", true},
	    {search_ok, " FROM", false},
	    {search_ok, " ALL ", false},
	    {search_ok, "", false},
	    {search_ok, " NONSENSE", false},
	    {search_ok, " ()", false},
	};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct imap_scan s = scan(rows[i].in);

		ck_assert_msg(rows[i].parse(&s) == rows[i].ok, "row %zu: %s", i, rows[i].in);
		arena_reset(arena);
	}
}
END_TEST

START_TEST(test_search_depth)
{
	for (unsigned depth = IMAP_SEARCH_DEPTH_MAX - 2; depth <= IMAP_SEARCH_DEPTH_MAX; depth++) {
		struct imap_search search;
		struct imap_scan s;
		struct buf b;

		buf_init(&b, 4096);
		buf_put_u8(&b, ' ');
		for (unsigned i = 0; i < depth; i++)
			buf_put_u8(&b, '(');
		buf_put_str(&b, "SEEN");
		for (unsigned i = 0; i < depth; i++)
			buf_put_u8(&b, ')');
		s = imap_scan_of(buf_slice(&b), arena);
		ck_assert_msg(imap_search_args(&s, &search) == (depth < IMAP_SEARCH_DEPTH_MAX), "depth %u", depth);
		ck_assert(s.limit == (depth >= IMAP_SEARCH_DEPTH_MAX));
		buf_fini(&b);
	}
}
END_TEST

START_TEST(test_fetch_items)
{
	static const struct {
		const char *in;
		const char *label;
		bool peek;
		bool seen;
	} rows[] = {
	    {" 1 BODY[]", "BODY[]", false, true},
	    {" 1 body.peek[]", "BODY[]", true, false},
	    {" 1 RFC822", "RFC822", false, true},
	    {" 1 RFC822.TEXT", "RFC822.TEXT", false, true},
	    {" 1 RFC822.HEADER", "RFC822.HEADER", true, false},
	    {" 1 BODY[]<7.9>", "BODY[]<7>", false, true},
	    {" 1 BODY.PEEK[1.2.mime]", "BODY[1.2.MIME]", true, false},
	    {" 1 BODY[header]", "BODY[HEADER]", false, true},
	    {" 1 BODY.PEEK[Header.Fields ({4}\r\nDate \"a b\" x)]<0.5>",
		"BODY[HEADER.FIELDS (Date \"a b\" x)]<0>", true, false},
	    {" 1 BODY.PEEK[3.HEADER.FIELDS.NOT (a)]", "BODY[3.HEADER.FIELDS.NOT (a)]", true, false},
	};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct imap_scan s = scan(rows[i].in);
		struct imap_fetch f;

		ck_assert_msg(imap_fetch_args(&s, &f), "%s", rows[i].in);
		ck_assert_uint_eq(f.items_n, 1);
		ck_assert_msg(slice_eq(f.items[0].label, slice_str(rows[i].label)), "%s: %.*s", rows[i].in,
		    SLICE_ARG(f.items[0].label));
		ck_assert(f.items[0].peek == rows[i].peek && f.sets_seen == rows[i].seen);
	}
}
END_TEST

START_TEST(test_head)
{
	struct imap_scan s = scan("a1 UID FETCH 1 FLAGS");
	struct imap_head h;

	ck_assert(imap_head(&s, &h));
	ck_assert(slice_eq(h.tag, SLICE("a1")) && slice_eq(h.name, SLICE("FETCH")) && h.uid);
	s = scan("a+ NOOP");
	ck_assert(!imap_head(&s, &h));
	ck_assert_uint_eq(h.tag.n, 0);
	s = scan("a1");
	ck_assert(!imap_head(&s, &h));
	ck_assert(slice_eq(h.tag, SLICE("a1")));
	s = scan("");
	ck_assert(!imap_head(&s, &h));
}
END_TEST

/* ---- responses ---- */

START_TEST(test_put_astring)
{
	static const struct {
		const char *in;
		const char *want;
	} rows[] = {
	    {"INBOX", "INBOX"},
	    {"", "\"\""},
	    {"NIL", "\"NIL\""},
	    {"a b", "\"a b\""},
	    {"a\"b\\", "\"a\\\"b\\\\\""},
	    {"a%", "\"a%\""},
	    {"a\r\nb", "{4}\r\na\r\nb"},
	    {"\xc3\xa4", "{2}\r\n\xc3\xa4"},
	};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct slice back;
		struct imap_scan s;
		struct buf b;

		buf_init(&b, 100);
		imap_put_astring(&b, slice_str(rows[i].in));
		ck_assert_msg(slice_eq(buf_slice(&b), slice_str(rows[i].want)), "%s", rows[i].in);
		s = imap_scan_of(buf_slice(&b), arena);
		ck_assert(imap_astring(&s, &back) && slice_eq(back, slice_str(rows[i].in)));
		buf_fini(&b);
	}
}
END_TEST

START_TEST(test_put_mailbox)
{
	static const struct {
		const char *in;
		const char *utf7;
		const char *utf8;
	} rows[] = {
	    {"INBOX", "INBOX", "INBOX"},
	    {"NIL", "\"NIL\"", "\"NIL\""},
	    {"a&b c", "\"a&-b c\"", "\"a&b c\""},
	    {"\xc3\xa4\"", "\"&AOQ-\\\"\"", "\"\xc3\xa4\\\"\""},
	    {"\xc3\xa4", "&AOQ-", "\"\xc3\xa4\""},
	};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		for (int utf8 = 0; utf8 < 2; utf8++) {
			struct buf b;

			buf_init(&b, 100);
			imap_put_mailbox(&b, slice_str(rows[i].in), utf8);
			ck_assert_msg(slice_eq(buf_slice(&b), slice_str(utf8 ? rows[i].utf8 : rows[i].utf7)), "%s: %.*s", rows[i].in,
			    SLICE_ARG(buf_slice(&b)));
			buf_fini(&b);
		}
	}
}
END_TEST

START_TEST(test_put_flags)
{
	struct slice lines = SLICE("$Junk\nwork\n");
	struct buf b;

	buf_init(&b, 1000);
	imap_put_flags(&b, STORE_FLAG_SEEN | STORE_FLAG_ANSWERED, 2, lines, true);
	imap_put_flags(&b, 0, 0, lines, false);
	imap_put_flags(&b, 0, UINT64_C(1) << 63 | 1, lines, false);
	imap_put_all_flags(&b, lines, true);
	ck_assert(slice_eq(buf_slice(&b),
	    SLICE("(\\Answered \\Seen \\Recent work)()($Junk)"
		  "(\\Answered \\Flagged \\Deleted \\Seen \\Draft $Junk work \\*)")));
	buf_fini(&b);
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("imap_grammar");
	TCase *tc = tcase_create("all");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_astring);
	tcase_add_test(tc, test_literal_nul);
	tcase_add_test(tc, test_atom_and_pattern);
	tcase_add_test(tc, test_every_octet);
	tcase_add_test(tc, test_numbers);
	tcase_add_test(tc, test_sets);
	tcase_add_test(tc, test_set_cost);
	tcase_add_test(tc, test_flags);
	tcase_add_test(tc, test_keyword_limit);
	tcase_add_test(tc, test_arguments);
	tcase_add_test(tc, test_search_depth);
	tcase_add_test(tc, test_fetch_items);
	tcase_add_test(tc, test_head);
	tcase_add_test(tc, test_put_astring);
	tcase_add_test(tc, test_put_flags);
	tcase_add_test(tc, test_put_mailbox);
	suite_add_tcase(suite, tc);
	sr = srunner_create(suite);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
