/*
 * Summaries: ENVELOPE and BODYSTRUCTURE as IMAP shows them (RFC 9051 7.5.2,
 * 6.4.5.1), sections, the prefix, hostile input, and a walk through real mail.
 */
#include "common/charset.h"
#include "common/rfc5322.h"
#include "common/summary.h"
#include "common/summary_imap.h"
#include "tests/unit/each.h"

#include <dirent.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

static void
summarise_with(struct slice m, size_t chunk, size_t bytes_max, struct buf *out)
{
	struct summary_builder *b = summary_builder_new(bytes_max);

	buf_reset(out);
	for (size_t i = 0; i < m.n; i += chunk)
		summary_builder_feed(b, slice_sub(m, i, i + chunk));
	ck_assert(summary_builder_finish(b, out));
	summary_builder_free(&b);
	ck_assert_ptr_null(b);
}

static void
summarise(const char *m, struct buf *out, struct summary *s)
{
	summarise_with(slice_str(m), SIZE_MAX / 2, 0, out);
	ck_assert(summary_decode(buf_slice(out), s));
}

#define ck_assert_slice(got, want)                                                                 \
	ck_assert_msg(slice_eq((got), slice_str(want)), "got  %.*s\nwant %s", SLICE_ARG(got), want)

/* ---- ENVELOPE ---- */

START_TEST(test_envelope)
{
	static const struct {
		const char *in;
		const char *want;
	} rows[] = {
	    /* the example of RFC 9051 8 */
	    {"Date: Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\r\n"
	     "From: Terry Gray <gray@cac.washington.edu>\r\n"
	     "Subject: IMAP4rev2 WG mtg summary and minutes\r\nTo: imap@cac.washington.edu\r\n"
	     "cc: minutes@CNRI.Reston.VA.US, John Klensin <KLENSIN@MIT.EDU>\r\n"
	     "Message-Id: <B27397-0100000@cac.washington.edu>\r\n\r\n",
		"(\"Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\" "
		"\"IMAP4rev2 WG mtg summary and minutes\" "
		"((\"Terry Gray\" NIL \"gray\" \"cac.washington.edu\")) "
		"((\"Terry Gray\" NIL \"gray\" \"cac.washington.edu\")) "
		"((\"Terry Gray\" NIL \"gray\" \"cac.washington.edu\")) "
		"((NIL NIL \"imap\" \"cac.washington.edu\")) "
		"((NIL NIL \"minutes\" \"CNRI.Reston.VA.US\")"
		"(\"John Klensin\" NIL \"KLENSIN\" \"MIT.EDU\")) NIL NIL "
		"\"<B27397-0100000@cac.washington.edu>\")"},
	    /* nothing there; empty is not missing; groups; defaults from From */
	    {"\r\n", "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)"},
	    {"Date:\r\nSubject: \r\nFrom:\r\nMessage-ID:\r\nIn-Reply-To:\r\n\r\n",
		"(\"\" \"\" NIL NIL NIL NIL NIL NIL \"\" \"\")"},
	    {"To: Undisclosed:;\r\n\r\n",
		"(NIL NIL NIL NIL NIL ((NIL NIL \"Undisclosed\" NIL)(NIL NIL NIL NIL)) "
		"NIL NIL NIL NIL)"},
	    {"From: a@b\r\nSender: \r\nReply-To: c@d\r\n\r\n",
		"(NIL NIL ((NIL NIL \"a\" \"b\")) ((NIL NIL \"a\" \"b\")) "
		"((NIL NIL \"c\" \"d\")) NIL NIL NIL NIL NIL)"},
	    {"To: <@r.test:a@b>\r\nTo: root\r\n\r\n",
		"(NIL NIL NIL NIL NIL ((NIL \"@r.test\" \"a\" \"b\")(NIL NIL \"root\" \"\")) "
		"NIL NIL NIL NIL)"},
	    /* quoting, folding, literals */
	    {"Subject: a \"q\" \\\r\n b\r\nSubject: second\r\n\r\n",
		"(NIL \"a \\\"q\\\" \\\\ b\" NIL NIL NIL NIL NIL NIL NIL NIL)"},
	    {"Subject: \xC3\xA9\r\n\r\n",
		"(NIL {2}\r\n\xC3\xA9 NIL NIL NIL NIL NIL NIL NIL NIL)"},
	    {"Bcc: x@y\r\nIn-Reply-To: <a@b> (c)\r\n\r\n",
		"(NIL NIL NIL NIL NIL NIL NIL ((NIL NIL \"x\" \"y\")) \"<a@b> (c)\" NIL)"},
	};
	struct buf out;
	struct summary s;

	buf_init(&out, SUMMARY_BYTES_MAX);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		summarise(rows[i].in, &out, &s);
		ck_assert_slice(s.envelope, rows[i].want);
	}
	buf_fini(&out);
}
END_TEST

START_TEST(test_nul)
{
	struct buf out;
	struct summary s;

	buf_init(&out, SUMMARY_BYTES_MAX);
	summarise_with(SLICE("Subject: a\0b\r\n\r\n\0"), 3, 0, &out);
	ck_assert(summary_decode(buf_slice(&out), &s));
	ck_assert_slice(s.envelope, "(NIL \"a?b\" NIL NIL NIL NIL NIL NIL NIL NIL)");
	ck_assert_slice(s.subject, "a b");
	ck_assert_uint_eq(s.octets, 17);
	buf_fini(&out);
}
END_TEST

/* ---- BODY and BODYSTRUCTURE ---- */

#define INNER "Subject: in\r\nFrom: i@n\r\n\r\ninner\r\nbody\r\n"

START_TEST(test_structure)
{
	static const struct {
		const char *in;
		const char *body;
		const char *bodystructure;
	} rows[] = {
	    {"\r\nx\r\n", "(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7BIT\" 3 1)",
		"(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7BIT\" 3 1 "
		"NIL NIL NIL NIL)"},
	    {"Content-Type: TEXT/PLAIN; CHARSET=US-ASCII; NAME=\"cc.diff\"\r\n"
	     "Content-ID: <960723163407.20117h@cac.washington.edu>\r\n"
	     "Content-Description: Compiler diff\r\nContent-Transfer-Encoding: BASE64\r\n\r\nQQ==\r\n",
		"(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\" \"NAME\" \"cc.diff\") "
		"\"<960723163407.20117h@cac.washington.edu>\" \"Compiler diff\" \"BASE64\" 6 1)",
		NULL},
	    {"Content-Type: application/pdf; name*0=a; name*1=b; x*=utf-8''%C3%A9\r\n"
	     "Content-MD5: abc\r\nContent-Disposition: attachment; filename=\"a \\\"b\\\"\"\r\n"
	     "Content-Language: en, de\r\nContent-Location: l\r\n\r\n",
		"(\"application\" \"pdf\" (\"name\" \"ab\" \"x*\" \"utf-8''%C3%A9\") NIL NIL \"7BIT\" 0)",
		"(\"application\" \"pdf\" (\"name\" \"ab\" \"x*\" \"utf-8''%C3%A9\") NIL NIL \"7BIT\" 0 "
		"\"abc\" (\"attachment\" (\"filename\" \"a \\\"b\\\"\")) (\"en\" \"de\") \"l\")"},
	    {"Content-Type: multipart/mixed; boundary=b\r\nContent-Disposition: inline\r\n\r\n"
	     "--b\r\n\r\nx\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n" INNER "\r\n--b--\r\n",
		"((\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7BIT\" 1 0)"
		"(\"message\" \"rfc822\" NIL NIL NIL \"7BIT\" 39 "
		"(NIL \"in\" ((NIL NIL \"i\" \"n\")) ((NIL NIL \"i\" \"n\")) ((NIL NIL \"i\" \"n\")) "
		"NIL NIL NIL NIL NIL) "
		"(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7BIT\" 13 2) 5) \"mixed\")",
		"((\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7BIT\" 1 0 NIL NIL NIL NIL)"
		"(\"message\" \"rfc822\" NIL NIL NIL \"7BIT\" 39 "
		"(NIL \"in\" ((NIL NIL \"i\" \"n\")) ((NIL NIL \"i\" \"n\")) ((NIL NIL \"i\" \"n\")) "
		"NIL NIL NIL NIL NIL) "
		"(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7BIT\" 13 2 NIL NIL NIL NIL) 5 "
		"NIL NIL NIL NIL) \"mixed\" (\"boundary\" \"b\") (\"inline\" NIL) NIL NIL)"},
	};
	struct buf out;
	struct summary s;

	buf_init(&out, SUMMARY_BYTES_MAX);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		summarise(rows[i].in, &out, &s);
		ck_assert_slice(s.body, rows[i].body);
		if (rows[i].bodystructure)
			ck_assert_slice(s.bodystructure, rows[i].bodystructure);
	}
	buf_fini(&out);
}
END_TEST

/* ---- sections ---- */

/* "1.2" into numbers. */
static size_t
numbers_of(const char *text, uint32_t *numbers)
{
	struct slice rest = slice_str(text);
	struct slice one;
	size_t n = 0;

	while (rest.n > 0 && slice_cut(&rest, '.', &one)) {
		uint64_t v;

		ck_assert(slice_u64(one, UINT32_MAX, &v));
		numbers[n++] = (uint32_t)v;
	}
	return n;
}

/* The tree of RFC 9051 6.4.5.1, small. */
static const char sections[] =
    "Subject: top\r\nContent-Type: multipart/mixed; boundary=o\r\n\r\npre\r\n"
    "--o\r\n\r\none\r\n"
    "--o\r\nContent-Type: application/octet-stream\r\n\r\ntwo\r\n"
    "--o\r\nContent-Type: message/rfc822\r\n\r\n"
    "Subject: third\r\nContent-Type: multipart/mixed; boundary=i\r\n\r\n"
    "--i\r\n\r\nthree-one\r\n--i\r\nContent-Type: text/html\r\n\r\nthree-two\r\n--i--\r\n"
    "--o\r\nContent-Type: multipart/mixed; boundary=f\r\n\r\n"
    "--f\r\nContent-Type: image/gif\r\n\r\nfour-one\r\n"
    "--f\r\nContent-Type: message/rfc822\r\n\r\nSubject: four-two\r\n\r\nfour-two-one\r\n--f--\r\n"
    "--o--\r\n";

START_TEST(test_sections)
{
	static const struct {
		const char *numbers;
		enum summary_section section;
		const char *want; /* NULL: no such section */
	} rows[] = {
	    {"1", SUMMARY_SECTION_BODY, "one"},
	    {"1", SUMMARY_SECTION_MIME, "\r\n"},
	    {"1", SUMMARY_SECTION_HEADER, NULL},
	    {"1", SUMMARY_SECTION_TEXT, NULL},
	    {"1.1", SUMMARY_SECTION_BODY, NULL},
	    {"2", SUMMARY_SECTION_BODY, "two"},
	    {"2", SUMMARY_SECTION_MIME, "Content-Type: application/octet-stream\r\n\r\n"},
	    {"3", SUMMARY_SECTION_HEADER,
		"Subject: third\r\nContent-Type: multipart/mixed; boundary=i\r\n\r\n"},
	    {"3", SUMMARY_SECTION_TEXT,
		"--i\r\n\r\nthree-one\r\n--i\r\nContent-Type: text/html\r\n\r\nthree-two\r\n--i--"},
	    {"3", SUMMARY_SECTION_MIME, "Content-Type: message/rfc822\r\n\r\n"},
	    {"3.1", SUMMARY_SECTION_BODY, "three-one"},
	    {"3.2", SUMMARY_SECTION_BODY, "three-two"},
	    {"3.2", SUMMARY_SECTION_MIME, "Content-Type: text/html\r\n\r\n"},
	    {"3.3", SUMMARY_SECTION_BODY, NULL},
	    {"4", SUMMARY_SECTION_MIME, "Content-Type: multipart/mixed; boundary=f\r\n\r\n"},
	    {"4", SUMMARY_SECTION_HEADER, NULL},
	    {"4.1", SUMMARY_SECTION_BODY, "four-one"},
	    {"4.2", SUMMARY_SECTION_BODY, "Subject: four-two\r\n\r\nfour-two-one"},
	    {"4.2", SUMMARY_SECTION_HEADER, "Subject: four-two\r\n\r\n"},
	    {"4.2", SUMMARY_SECTION_TEXT, "four-two-one"},
	    {"4.2.1", SUMMARY_SECTION_BODY, "four-two-one"},
	    {"4.2.1", SUMMARY_SECTION_MIME, "Subject: four-two\r\n\r\n"},
	    {"4.2.2", SUMMARY_SECTION_BODY, NULL},
	    {"5", SUMMARY_SECTION_BODY, NULL},
	    {"0", SUMMARY_SECTION_BODY, NULL},
	    {"4294967295", SUMMARY_SECTION_BODY, NULL},
	    {"", SUMMARY_SECTION_BODY, sections},
	    {"", SUMMARY_SECTION_HEADER,
		"Subject: top\r\nContent-Type: multipart/mixed; boundary=o\r\n\r\n"},
	    {"", SUMMARY_SECTION_MIME, NULL},
	};
	struct slice m = slice_str(sections);
	struct buf out;
	struct summary s;

	buf_init(&out, SUMMARY_BYTES_MAX);
	summarise(sections, &out, &s);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		uint32_t numbers[8];
		struct summary_range r;
		size_t n = numbers_of(rows[i].numbers, numbers);
		bool found = summary_find_section(&s, numbers, n, rows[i].section, &r);

		ck_assert_msg(found == (rows[i].want != NULL), "%s %d", rows[i].numbers,
		    rows[i].section);
		if (found)
			ck_assert_slice(slice_sub(m, r.offset, r.offset + r.octets), rows[i].want);
		ck_assert(!found || r.whole == (n == 0 && rows[i].section == SUMMARY_SECTION_BODY));
	}
	buf_fini(&out);
}
END_TEST

/* Part 1 of a message that is no multipart is its body, and absent parts. */
START_TEST(test_sections_of_simple)
{
	static const char *const messages[] = {
	    "Subject: x\r\n\r\nbody", "Content-Type: message/rfc822\r\n\r\nSubject: y\r\n\r\nin"};
	const uint32_t one[] = {1, 1};
	const uint32_t two[] = {2};
	struct buf out;
	struct summary s;
	struct summary_range r;

	buf_init(&out, SUMMARY_BYTES_MAX);
	summarise(messages[0], &out, &s);
	ck_assert(summary_find_section(&s, one, 1, SUMMARY_SECTION_BODY, &r));
	ck_assert(r.offset == 14 && r.octets == 4 && r.part == 0);
	ck_assert(summary_find_section(&s, one, 1, SUMMARY_SECTION_MIME, &r));
	ck_assert(r.offset == 0 && r.octets == 14);
	ck_assert(summary_find_section(&s, NULL, 0, SUMMARY_SECTION_TEXT, &r));
	ck_assert(r.offset == 14 && r.octets == 4);
	ck_assert(!summary_find_section(&s, one, 2, SUMMARY_SECTION_BODY, &r));
	ck_assert(!summary_find_section(&s, two, 1, SUMMARY_SECTION_BODY, &r));
	summarise(messages[1], &out, &s);
	ck_assert(summary_find_section(&s, one, 1, SUMMARY_SECTION_BODY, &r));
	ck_assert(r.offset == 32 && r.octets == 16);
	ck_assert(summary_find_section(&s, one, 1, SUMMARY_SECTION_HEADER, &r));
	ck_assert(r.offset == 32 && r.octets == 14);
	ck_assert(summary_find_section(&s, one, 2, SUMMARY_SECTION_BODY, &r));
	ck_assert(r.offset == 46 && r.octets == 2);
	buf_fini(&out);
}
END_TEST

START_TEST(test_prefix)
{
	const uint32_t one[] = {3, 1};
	struct buf out;
	struct summary s, t;
	struct summary_part p;
	struct summary_range r;

	buf_init(&out, SUMMARY_BYTES_MAX);
	summarise(sections, &out, &s);
	for (int round = 0; round < 2; round++)
		ck_assert(summary_set_prefix(out.p, out.n, 1000, 20, true));
	ck_assert(summary_decode(buf_slice(&out), &t));
	ck_assert_uint_eq(t.prefix_octets, 1000);
	ck_assert_uint_eq(t.octets, s.octets + 1000);
	ck_assert_uint_eq(t.lines, s.lines + 20);
	ck_assert_uint_eq(t.header_octets, s.header_octets + 1000);
	ck_assert_uint_eq(t.header_lines, s.header_lines + 20);
	summary_part_get(&t, 0, &p);
	ck_assert(p.header_start == 0 && p.body_start == t.header_octets);
	ck_assert_uint_eq(p.body_start + p.body_octets, t.octets);
	ck_assert(summary_find_section(&t, one, 2, SUMMARY_SECTION_BODY, &r));
	ck_assert(slice_eq(slice_sub(slice_str(sections), r.offset - 1000, r.offset - 1000 + r.octets),
	    SLICE("three-one")));
	ck_assert(summary_find_section(&t, NULL, 0, SUMMARY_SECTION_HEADER, &r));
	ck_assert(r.offset == 0 && r.octets == t.header_octets);
	ck_assert(!summary_set_prefix(out.p, 91, 1, 1, true));
	ck_assert(!summary_set_prefix(out.p, out.n, 1, 2, true));
	ck_assert(!summary_set_prefix(out.p, out.n, UINT64_MAX, 2, true));
	out.p[0]++;
	ck_assert(!summary_set_prefix(out.p, out.n, 1, 1, true));
	buf_fini(&out);
}
END_TEST

/* Set only when every header is known to have no octet over 127: of the message, of parts, of what was put before it. */
START_TEST(test_ascii_headers)
{
#define HEAD "Content-Type: multipart/mixed; boundary=x\r\n\r\n"
	static const struct {
		const char *message;
		bool ascii;
	} rows[] = {
	    {"Subject: a\r\n\r\n\xc3\xb6\r\n", true},
	    {"Subject: \xc3\xb6\r\n\r\nx\r\n", false},
	    {"\xe9", false},
	    {"", true},
	    {HEAD "\xc3\xb6\r\n--x\r\nA: b\r\n\r\n\xc3\xb6\r\n--x--\r\n", true},
	    {HEAD "--x\r\nA: \xc3\xb6\r\n\r\nb\r\n--x--\r\n", false},
	    {HEAD "--x\r\nContent-Type: message/rfc822\r\n\r\nA: \xc3\xb6\r\n\r\nb\r\n--x--\r\n", false},
	};
	struct summary s;
	struct buf out;

	buf_init(&out, SUMMARY_BYTES_MAX);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		buf_reset(&out);
		summarise(rows[i].message, &out, &s);
		ck_assert_msg(s.ascii_headers == rows[i].ascii, "%s", rows[i].message);
		ck_assert(summary_headers_ascii(buf_slice(&out)) == rows[i].ascii);
	}
	ck_assert(!summary_headers_ascii(slice_of(out.p, 91)));
	buf_reset(&out);
	summarise(rows[0].message, &out, &s);
	ck_assert(summary_set_prefix(out.p, out.n, 10, 1, true) && summary_headers_ascii(buf_slice(&out)));
	ck_assert(summary_set_prefix(out.p, out.n, 10, 1, false) && !summary_headers_ascii(buf_slice(&out)));
	ck_assert(summary_decode(buf_slice(&out), &s) && !s.ascii_headers);
	out.p[1] = 16;
	ck_assert(!summary_decode(buf_slice(&out), &s));
	buf_fini(&out);
}
END_TEST

/* ---- text ---- */

START_TEST(test_text)
{
	static const char m[] =
	    "Subject: =?utf-8?q?caf=C3=A9?=\r\n =?utf-8?q?_au_lait?=\r\n"
	    "From: =?iso-8859-1?q?J=F6e?= <j@x.test>\r\nTo: a@b\r\nTo: c@d\r\nCc: e@f\r\nBcc: g@h\r\n"
	    "Date: Fri, 21 Nov 1997 23:55:06 -0600\r\nMessage-ID: <id@x>\r\n"
	    "In-Reply-To: <p@x>\r\nReferences: <r1@x> <r2@x>\r\n"
	    "Content-Type: text/html; charset=iso-8859-1\r\n"
	    "Content-Transfer-Encoding: quoted-printable\r\n\r\n"
	    "<html><head><title>no</title><style>p { x: y }</style></head><!-- no > -->\r\n"
	    "<body><p class=3D\"a\">Fr=F6sche &amp;&nbsp;&lt;M=E4use&gt; &#8364; &bad;</p>\r\n"
	    "<p>two</p>";
	struct buf out;
	struct summary s;

	buf_init(&out, SUMMARY_BYTES_MAX);
	summarise(m, &out, &s);
	ck_assert_slice(s.subject, "café au lait");
	ck_assert_slice(s.from, "Jöe <j@x.test>");
	ck_assert_slice(s.to, "a@b, c@d");
	ck_assert_slice(s.cc, "e@f");
	ck_assert_slice(s.bcc, "g@h");
	ck_assert_slice(s.message_id, "id@x");
	ck_assert_slice(s.in_reply_to, "p@x\n");
	ck_assert_slice(s.references, "r1@x\nr2@x\n");
	ck_assert_slice(s.preview, "Frösche & <Mäuse> € &bad; two");
	ck_assert(s.has_date && s.date.seconds == 880178106 && s.date.zone_minutes == -360);
	ck_assert(!s.flat && !s.text_cut);
	buf_fini(&out);
}
END_TEST

START_TEST(test_preview_length)
{
	struct buf m, out;
	struct summary s;

	buf_init(&m, 10000);
	buf_init(&out, SUMMARY_BYTES_MAX);
	for (size_t n = SUMMARY_PREVIEW_CHARS_MAX - 1; n <= SUMMARY_PREVIEW_CHARS_MAX + 1; n++) {
		buf_reset(&m);
		buf_put_str(&m, "Content-Type: text/plain; charset=utf-8\r\n\r\n \r\n");
		for (size_t i = 0; i < n; i++)
			buf_put_str(&m, "é");
		summarise_with(buf_slice(&m), 7, 0, &out);
		ck_assert(summary_decode(buf_slice(&out), &s));
		ck_assert_uint_eq(s.preview.n,
		    2 * (n < SUMMARY_PREVIEW_CHARS_MAX ? n : SUMMARY_PREVIEW_CHARS_MAX));
	}
	buf_fini(&out);
	buf_fini(&m);
}
END_TEST

/* ---- caps ---- */

/* Messages that are too much of one thing still have a summary within the cap. */
START_TEST(test_caps)
{
	static const struct {
		const char *head;
		const char *repeated;
		size_t times;
		bool flat, cut;
	} rows[] = {
	    {"Content-Type: multipart/mixed; boundary=b\r\n\r\n", "--b\r\n\r\n", 200000, true, false},
	    {"Content-Type: multipart/mixed; boundary=b\r\n\r\n",
		"--b\r\nContent-Description: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
		"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
		"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n\r\n",
		900, true, false},
	    {"To: a@b", ",\"\\\"\\\"\\\"\\\"\\\"\\\"\\\"\\\"\" <a@b>", 100000, false, true},
	    {"From: ", "\xE9,", 100000, false, true},
	    {"", "From: \xE9@b\r\n", 25000, false, true},
	    {"Subject: ", "\xE9", 300000, false, true},
	    {"References: ", "<a@b>", 100000, false, true},
	    {"Content-Type: a/b", "; \x01=\xE9", 30000, false, false},
	    {"Content-Type: multipart/mixed; boundary=b\r\n\r\n", "--b\r\nContent-Type: message/rfc822\r\n\r\n",
		5000, true, false},
	    {"", "Content-Type: message/rfc822\r\n\r\n", 5000, false, false},
	};
	static const size_t maxima[] = {SUMMARY_BYTES_MIN, 0};
	struct buf m, out;
	struct summary s;

	buf_init(&m, 4 << 20);
	buf_init(&out, SUMMARY_BYTES_MAX);
	for (size_t i = 0; i < 2 * sizeof rows / sizeof rows[0]; i++) {
		buf_reset(&m);
		buf_put_str(&m, rows[i / 2].head);
		for (size_t k = 0; k < rows[i / 2].times; k++)
			buf_put_str(&m, rows[i / 2].repeated);
		ck_assert(!m.failed);
		summarise_with(buf_slice(&m), 4096, maxima[i % 2], &out);
		ck_assert_uint_le(out.n, maxima[i % 2] ? maxima[i % 2] : SUMMARY_BYTES_MAX);
		ck_assert(summary_decode(buf_slice(&out), &s));
		ck_assert_msg(s.flat == rows[i / 2].flat && s.text_cut == rows[i / 2].cut,
		    "row %zu: flat %d cut %d", i, s.flat, s.text_cut);
		ck_assert_uint_eq(s.octets, m.n);
	}
	buf_fini(&m);
	buf_fini(&out);
}
END_TEST

START_TEST(test_out_too_small)
{
	struct summary_builder *b = summary_builder_new(0);
	struct buf out;

	buf_init(&out, 200);
	summary_builder_feed(b, SLICE("Subject: x\r\n\r\n"));
	ck_assert(!summary_builder_finish(b, &out));
	summary_builder_free(&b);
	buf_fini(&out);
}
END_TEST

/* ---- hostile input ---- */

START_TEST(test_imap_valid)
{
	static const char *const good[] = {"()", "(NIL 12 \"a\\\"b\" (x))", "({3}\r\n)(\" NIL)",
	    "({0}\r\n)"};
	static const char *const bad[] = {"", "x", "(", ")", "()()", "() ", "(\"a)", "(\"a\r\n\")",
	    "(\r\n)", "({3}\r\nab)", "({3}ab)", "({x}\r\n)", "(\"\\\r\")", "(\xE9)", "(\"\xE9\")",
	    "({99999999999999999999}\r\n)", "(*)", "({3"};

	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
		ck_assert_msg(summary_imap_valid(slice_str(good[i])), "%s", good[i]);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		ck_assert_msg(!summary_imap_valid(slice_str(bad[i])), "%s", bad[i]);
	ck_assert(!summary_imap_valid(SLICE("({1}\r\n\0)")));
}
END_TEST

/* Uses all that a decoded summary gives, so that a sanitizer sees a bad index. */
static void
use(const struct summary *s)
{
	for (uint32_t i = 0; i < s->parts_count; i++) {
		struct summary_part p;

		summary_part_get(s, i, &p);
		each_assert(p.body_start + p.body_octets <= s->octets);
		each_assert(p.header_start <= p.body_start);
	}
	for (uint32_t i = 0; i < 64; i++) {
		const uint32_t numbers[] = {i & 3, i >> 2 & 3, i >> 4};
		struct summary_range r;

		for (size_t n = 0; n <= 3; n++)
			for (int k = SUMMARY_SECTION_BODY; k <= SUMMARY_SECTION_MIME; k++)
				if (summary_find_section(s, numbers, n, (enum summary_section)k, &r))
					each_assert(r.offset + r.octets <= s->octets);
	}
}

/* Cut anywhere it is refused; with any octet changed it is refused or harmless. */
START_TEST(test_damaged)
{
	struct buf out;
	struct summary s;

	buf_init(&out, SUMMARY_BYTES_MAX);
	summarise(sections, &out, &s);
	for (size_t n = 0; n < out.n; n++)
		each_assert(!summary_decode(slice_of(out.p, n), &s));
	for (size_t i = 0; i < out.n; i++)
		for (unsigned bit = 0; bit < 8; bit++) {
			out.p[i] ^= (uint8_t)(1U << bit);
			if (summary_decode(buf_slice(&out), &s))
				use(&s);
			out.p[i] ^= (uint8_t)(1U << bit);
		}
	ck_assert(buf_put_u8(&out, 0));
	ck_assert(!summary_decode(buf_slice(&out), &s));
	buf_fini(&out);
}
END_TEST

/* ---- real mail ---- */

static void
read_file(const char *path, struct buf *b)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	ck_assert_msg(fd >= 0, "%s", path);
	buf_reset(b);
	for (;;) {
		uint8_t *to = buf_room(b, 65536);
		ssize_t got = to ? read(fd, to, 65536) : 0;

		if (got <= 0)
			break;
		buf_added(b, (size_t)got);
	}
	close(fd);
}

static void
check_message(const char *path, struct slice m, struct buf *out, struct buf *again)
{
	uint8_t digest[EVP_MAX_MD_SIZE];
	struct summary s;
	uint64_t lines = 0;

	summarise_with(m, m.n + 1, 0, out);
	summarise_with(m, 1, 0, again);
	ck_assert_msg(slice_eq(buf_slice(out), buf_slice(again)), "%s octet by octet", path);
	ck_assert_msg(summary_decode(buf_slice(out), &s), "%s", path);
	ck_assert(!s.flat && !s.text_cut);
	ck_assert(EVP_Digest(m.p, m.n, digest, NULL, EVP_sha256(), NULL) == 1);
	ck_assert_mem_eq(s.sha256, digest, SUMMARY_SHA256_BYTES);
	for (size_t i = 0; i < m.n; i++)
		lines += m.p[i] == '\n';
	ck_assert_uint_eq(s.lines, lines);
	ck_assert_uint_eq(s.octets, m.n);
	ck_assert_uint_eq(s.header_octets, header_block_length(m));
	ck_assert_msg(utf8_valid(s.subject) && utf8_valid(s.from) && utf8_valid(s.preview), "%s", path);
	use(&s);
}

static unsigned
check_dir(const char *path, struct buf *message, struct buf *out, struct buf *again)
{
	DIR *dir = opendir(path);
	unsigned n = 0;

	ck_assert_msg(dir != NULL, "%s", path);
	for (struct dirent *d; (d = readdir(dir)) != NULL;) {
		char name[512];
		struct stat st;

		if (d->d_name[0] == '.')
			continue;
		snprintf(name, sizeof name, "%s/%s", path, d->d_name);
		if (stat(name, &st) == 0 && S_ISDIR(st.st_mode)) {
			n += check_dir(name, message, out, again);
			continue;
		}
		read_file(name, message);
		check_message(name, buf_slice(message), out, again);
		n++;
	}
	closedir(dir);
	return n;
}

START_TEST(test_corpus)
{
	static const char *const dirs[] = {"ham", "list", "mime"};
	const char *corpus = getenv("MAILSTEAD_CORPUS");
	struct buf message, out, again;
	struct stat st;

	if (corpus == NULL)
		corpus = "../shared/corpus";
	if (stat(corpus, &st) < 0) {
		printf("summary: no corpus at %s, 0 messages checked\n", corpus);
		return;
	}
	buf_init(&message, 64 << 20);
	buf_init(&out, SUMMARY_BYTES_MAX);
	buf_init(&again, SUMMARY_BYTES_MAX);
	unsigned n = 0;
	for (size_t i = 0; i < 3; i++) {
		char path[512];

		snprintf(path, sizeof path, "%s/%s", corpus, dirs[i]);
		n += check_dir(path, &message, &out, &again);
	}
	printf("summary: %u messages of %s checked\n", n, corpus);
	ck_assert_uint_gt(n, 0);
	buf_fini(&message);
	buf_fini(&out);
	buf_fini(&again);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("summary");
	TCase *t = tcase_create("summary");

	tcase_set_timeout(t, 120);
	tcase_add_unchecked_fixture(t, charset_init, charset_fini);
	tcase_add_test(t, test_envelope);
	tcase_add_test(t, test_nul);
	tcase_add_test(t, test_structure);
	tcase_add_test(t, test_sections);
	tcase_add_test(t, test_sections_of_simple);
	tcase_add_test(t, test_prefix);
	tcase_add_test(t, test_ascii_headers);
	tcase_add_test(t, test_text);
	tcase_add_test(t, test_preview_length);
	tcase_add_test(t, test_caps);
	tcase_add_test(t, test_out_too_small);
	tcase_add_test(t, test_imap_valid);
	tcase_add_test(t, test_damaged);
	tcase_add_test(t, test_corpus);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed != 0;
}
