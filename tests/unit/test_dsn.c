/*
 * Delivery status notifications: what stands in them for what, and that they are well-formed whatever their input is. Each one that
 * is written here is read by Python's email package at the end (data/dsn_parse.py).
 */
#include "smtpd/dsn.h"

#include "smtpd/dsn_item.h"
#include "smtpd/dsn_words.h"

#include <check.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define WANTS_MAX 12

static int kept; /* a file of "8 length\n" or "7 length\n" and a report each: what data/dsn_parse.py takes */

static const char plain_original[] = "Return-Path: <alice@demo.test>\r\n"
				     "Received: from client.example by mail.demo.test; Thu, 01 Jan 1970 00:00:00 +0000\r\n"
				     "From: Alice <alice@demo.test>\r\n"
				     "To: bob@remote.test\r\n"
				     "Subject: Lunch on\r\n Friday\r\n"
				     "Date: Thu, 01 Jan 1970 00:00:00 +0000\r\n"
				     "Message-ID: <1@client.example>\r\n"
				     "\r\n"
				     "Shall we?\r\n";

static const char utf8_original[] = "From: \xc3\x84nne <alice@demo.test>\r\n"
				    "To: \xd0\xb8\xd0\xbc\xd1\x8f@remote.test\r\n"
				    "Subject: Gr\xc3\xbc\xc3\x9f"
				    "e\r\n"
				    "\r\n"
				    "J\xc3\xbcrgen\r\n";

static struct dsn_recipient
refused(void)
{
	return (struct dsn_recipient){
	    .action = DSN_FAILED,
	    .address = SLICE("bob@remote.test"),
	    .status = SLICE("5.1.1"),
	    .mta = SLICE("mx.remote.test[192.0.2.7]"),
	    .text = SLICE("550 5.1.1 No such user here"),
	};
}

static struct dsn_report
report_of(const struct dsn_recipient *v, uint32_t n)
{
	return (struct dsn_report){
	    .id = SLICE("0123456789abcdef"),
	    .hostname = SLICE("mail.demo.test"),
	    .postmaster = SLICE("postmaster@demo.test"),
	    .mail_from = SLICE("alice@demo.test"),
	    .now = 7200,
	    .arrived = 3600,
	    .last_attempt = 7100,
	    .until = 432000,
	    .original = slice_of(plain_original, sizeof(plain_original) - 1),
	    .original_whole = true,
	    .recipients = v,
	    .count = n,
	};
}

/* ---- writing, and keeping what was written ---- */

static void
keep(struct slice message, bool eightbit)
{
	char head[32];
	int n = snprintf(head, sizeof(head), "%d %zu\n", eightbit ? 8 : 7, message.n);

	ck_assert(n > 0 && write(kept, head, (size_t)n) == n && write(kept, message.p, message.n) == (ssize_t)message.n);
}

struct written {
	struct buf b;
	bool utf8;
	bool eightbit;
};

/* False when nothing is written. Twice gives the same. */
static bool
write_report(const struct dsn_report *r, struct written *w)
{
	struct arena *a = arena_new(DSN_ARENA_BYTES_MAX);
	struct buf again;
	bool utf8, eightbit, good;

	buf_init(&w->b, DSN_BYTES_MAX);
	buf_init(&again, DSN_BYTES_MAX);
	good = dsn_write(r, a, &w->b, &w->utf8, &w->eightbit);
	arena_reset(a);
	ck_assert(dsn_write(r, a, &again, &utf8, &eightbit) == good);
	ck_assert(!good || slice_eq(buf_slice(&w->b), buf_slice(&again)));
	if (good) {
		keep(buf_slice(&w->b), w->eightbit);
		ck_assert(w->eightbit == !slice_is_ascii(buf_slice(&w->b)));
	}
	buf_fini(&again);
	arena_free(&a);
	return good;
}

/* wants: substrings; those that begin with "!" may not occur. */
static void
check_wants(const char *name, const struct dsn_report *r, const char *const *wants)
{
	struct written w;

	ck_assert_msg(write_report(r, &w), "%s: not written", name);
	for (unsigned i = 0; i < WANTS_MAX && wants[i]; i++) {
		bool absent = wants[i][0] == '!';
		struct slice want = slice_str(wants[i] + absent);
		bool found = slice_find(buf_slice(&w.b), want) < w.b.n;
		ck_assert_msg(found != absent, "%s: %s \"%s\" in\n%.*s", name, absent ? "there is" : "no", wants[i] + absent, (int)w.b.n,
		    (const char *)w.b.p);
	}
	buf_fini(&w.b);
}

/* ---- one report, octet by octet ---- */

START_TEST(test_whole)
{
	static const char want[] =
	    "Date: Thu, 01 Jan 1970 02:00:00 +0000\r\n"
	    "From: Mail server <postmaster@demo.test>\r\n"
	    "To: <alice@demo.test>\r\n"
	    "Subject: Not delivered: bob@remote.test\r\n"
	    "Message-ID: <0123456789abcdef@mail.demo.test>\r\n"
	    "In-Reply-To: <1@client.example>\r\n"
	    "References: <1@client.example>\r\n"
	    "Auto-Submitted: auto-replied\r\n"
	    "MIME-Version: 1.0\r\n"
	    "Content-Type: multipart/report; report-type=delivery-status;\r\n"
	    "\tboundary=\"report-0123456789abcdef-0\"\r\n"
	    "\r\n"
	    "--report-0123456789abcdef-0\r\n"
	    "Content-Type: text/plain; charset=us-ascii\r\n"
	    "\r\n"
	    "Your message could not be delivered to one address.\r\n"
	    "\r\n"
	    "    Subject: Lunch on Friday\r\n"
	    "    Date: Thu, 01 Jan 1970 00:00:00 +0000\r\n"
	    "    Received here: Thu, 01 Jan 1970 01:00:00 +0000\r\n"
	    "\r\n"
	    "bob@remote.test\r\n"
	    "  Not delivered: there is no mailbox with this address.\r\n"
	    "  What you can do: Look at the address for a typing mistake and send the\r\n"
	    "  message again, or ask the person for the right one.\r\n"
	    "  The server mx.remote.test[192.0.2.7] said:\r\n"
	    "      550 5.1.1 No such user here\r\n"
	    "\r\n"
	    "The message is not tried again for an address that is named as not delivered\r\n"
	    "here. If it had other recipients, nothing changes for them.\r\n"
	    "\r\n"
	    "This was written by the mail server mail.demo.test by itself. Who looks\r\n"
	    "after it is reached at postmaster@demo.test.\r\n"
	    "\r\n"
	    "--report-0123456789abcdef-0\r\n"
	    "Content-Type: message/delivery-status\r\n"
	    "\r\n"
	    "Original-Envelope-Id: QQ314159\r\n"
	    "Reporting-MTA: dns; mail.demo.test\r\n"
	    "Arrival-Date: Thu, 01 Jan 1970 01:00:00 +0000\r\n"
	    "\r\n"
	    "Original-Recipient: rfc822; bob+tag@remote.test\r\n"
	    "Final-Recipient: rfc822; bob@remote.test\r\n"
	    "Action: failed\r\n"
	    "Status: 5.1.1\r\n"
	    "Remote-MTA: dns; mx.remote.test (192.0.2.7)\r\n"
	    "Diagnostic-Code: smtp; 550 5.1.1 No such user here\r\n"
	    "Last-Attempt-Date: Thu, 01 Jan 1970 01:58:20 +0000\r\n"
	    "\r\n"
	    "--report-0123456789abcdef-0\r\n"
	    "Content-Type: text/rfc822-headers\r\n"
	    "\r\n"
	    "Received: from client.example by mail.demo.test; Thu, 01 Jan 1970 00:00:00 +0000\r\n"
	    "From: Alice <alice@demo.test>\r\n"
	    "To: bob@remote.test\r\n"
	    "Subject: Lunch on\r\n"
	    " Friday\r\n"
	    "Date: Thu, 01 Jan 1970 00:00:00 +0000\r\n"
	    "Message-ID: <1@client.example>\r\n"
	    "\r\n"
	    "--report-0123456789abcdef-0--\r\n";
	struct dsn_recipient one = refused();
	struct dsn_report r = report_of(&one, 1);
	struct written w;

	one.orcpt = SLICE("rfc822;bob+2Btag@remote.test");
	r.envid = SLICE("QQ314159");
	ck_assert(write_report(&r, &w));
	/* The envelope id also stands in the text. */
	size_t at = slice_find(buf_slice(&w.b), SLICE("    Envelope id: QQ314159\r\n"));
	ck_assert(at < w.b.n);
	struct buf without;
	buf_init(&without, DSN_BYTES_MAX);
	buf_put_slice(&without, slice_sub(buf_slice(&w.b), 0, at));
	buf_put_slice(&without, slice_sub(buf_slice(&w.b), at + 27, w.b.n));
	ck_assert_msg(slice_eq(buf_slice(&without), slice_str(want)), "got:\n%.*s\nwant:\n%s", (int)without.n, (const char *)without.p, want);
	ck_assert(!w.utf8 && !w.eightbit);
	buf_fini(&without);
	buf_fini(&w.b);
}
END_TEST

/* ---- actions, status, dates ---- */

START_TEST(test_actions)
{
	static const struct {
		enum dsn_action action;
		const char *status;
		const char *wants[WANTS_MAX];
	} rows[] = {
	    {DSN_FAILED, "5.1.1", {"Action: failed\r\nStatus: 5.1.1\r\n", "Subject: Not delivered: bob@", "!Will-Retry-Until"}},
	    {DSN_FAILED, "4.4.1", {"Action: failed\r\nStatus: 4.4.1\r\n", "Not delivered, after several tries:", "!Will-Retry-Until"}},
	    {DSN_FAILED, "", {"Status: 5.0.0\r\n"}},
	    {DSN_FAILED, "2.0.0", {"Status: 5.0.0\r\n"}},
	    {DSN_FAILED, "5.1", {"Status: 5.0.0\r\n"}},
	    {DSN_FAILED, "5.1.1\r\nX: y", {"Status: 5.0.0\r\n", "!\r\nX: y"}},
	    {DSN_DELAYED, "4.4.1",
		{"Action: delayed\r\nStatus: 4.4.1\r\n", "Will-Retry-Until: Tue, 06 Jan 1970 00:00:00 +0000\r\n",
		    "Subject: Not delivered yet: bob@", "You need not do anything: we go on trying until Tue, 06 Jan 1970", "!Not delivered:",
		    "!What you can do"}},
	    {DSN_DELAYED, "5.1.1", {"Action: delayed\r\nStatus: 4.0.0\r\n"}},
	    {DSN_DELIVERED, "2.1.5", {"Action: delivered\r\nStatus: 2.1.5\r\n", "Subject: Delivered: bob@", "  Delivered: the message is in", "!said:"}},
	    {DSN_DELIVERED, "5.1.1", {"Action: delivered\r\nStatus: 2.0.0\r\n", "!not tried again"}},
	    {DSN_RELAYED, "2.0.0", {"Action: relayed\r\nStatus: 2.0.0\r\n", "Subject: Passed on: bob@", "does not report", "!Will-Retry"}},
	    {DSN_EXPANDED, "", {"Action: expanded\r\nStatus: 2.0.0\r\n", "several mailboxes"}},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct dsn_recipient one = refused();
		struct dsn_report r = report_of(&one, 1);
		one.action = rows[i].action;
		one.status = slice_str(rows[i].status);
		check_wants(rows[i].status, &r, rows[i].wants);
	}
}
END_TEST

/* Who wrote to an address that sends on can do nothing about where that leads. */
START_TEST(test_forwarded)
{
	struct dsn_recipient one = refused();
	struct dsn_report r = report_of(&one, 1);

	one.forwarded = true;
	check_wants("forwarded", &r, (const char *const[]){"  What comes for this address is sent on to another one.\r\n",
	    "  What you can do: Tell the person, in another way,", "!typing mistake", NULL});
}
END_TEST

/* The reply to the end of the message was lost: it may have arrived. */
START_TEST(test_unsure)
{
	struct dsn_recipient one = refused();
	struct dsn_report r = report_of(&one, 1);

	one.unsure = true;
	one.status = SLICE("4.4.2");
	one.text = SLICE("connection lost");
	check_wants("unsure", &r, (const char *const[]){"  Perhaps not delivered:", "Ask the person whether the message has arrived", "Action: failed", NULL});
}
END_TEST

START_TEST(test_status_grammar)
{
	static const char *const good[] = {"5.1.1", "4.0.0", "2.999.999", "5.7.133"};
	static const char *const bad[] = {
	    "", "5", "5.1", "5.1.", "5.1.1.", "5.1.1.1", "3.1.1", "5.01.1", "5.1.01", "5.1000.1", "5.1.1000", "5..1", "a.1.1", "5.1.a", "5.1.1 ", "55.1.1"};

	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++)
		ck_assert_msg(dsn_status_valid(slice_str(good[i])), "%s", good[i]);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		ck_assert_msg(!dsn_status_valid(slice_str(bad[i])), "%s", bad[i]);
}
END_TEST

/* As it was asked for (RFC 4865). */
START_TEST(test_future_release)
{
	static const char *const as_time[] = {"Future-Release-Request: until;1970-01-01T03:00:00Z\r\n", NULL};
	static const char *const as_interval[] = {"Future-Release-Request: for;7200\r\n", NULL};
	static const char *const no[] = {"!Future-Release-Request", NULL};
	struct dsn_recipient v = refused();
	struct dsn_report r = report_of(&v, 1);

	check_wants("not asked for", &r, no);
	r.release = 10800;
	check_wants("a time", &r, as_time);
	r.hold_for = 7200;
	check_wants("an interval", &r, as_interval);
}
END_TEST

/* What is not known is not said (RFC 3464 2.3.5, 2.3.7). */
START_TEST(test_unknown_is_left_out)
{
	static const char *const wants[] = {"!Remote-MTA", "!Last-Attempt-Date", "!Will-Retry-Until", "!Diagnostic-Code", "!Original-Recipient",
	    "!Original-Envelope-Id", "!said:", "!In detail", "we go on trying, and tell you", NULL};
	struct dsn_recipient one = refused();
	struct dsn_report r = report_of(&one, 1);

	one.action = DSN_DELAYED;
	one.mta = one.text = slice_of(NULL, 0);
	r.last_attempt = r.until = 0;
	check_wants("bare", &r, wants);
}
END_TEST

/* A reply of the remote server is one of type smtp; anything else are words of ours. */
START_TEST(test_diagnostics)
{
	static const struct {
		const char *mta;
		const char *text;
		const char *wants[WANTS_MAX];
	} rows[] = {
	    {"mx.a[192.0.2.1]", "550 no", {"Diagnostic-Code: smtp; 550 no\r\n", "Remote-MTA: dns; mx.a (192.0.2.1)\r\n"}},
	    {"mx.a[2001:db8::1]", "550-a 550 b", {"Diagnostic-Code: smtp; 550-a 550 b\r\n", "Remote-MTA: dns; mx.a (2001:db8::1)\r\n"}},
	    {"mx.a", "connection timed out", {"Diagnostic-Code: x-mailstead; connection timed out\r\n", "Remote-MTA: dns; mx.a\r\n"}},
	    {"", "550 no", {"Diagnostic-Code: x-mailstead; 550 no\r\n", "!Remote-MTA", "In detail:"}},
	    {"mx.a", "5500 no", {"x-mailstead; 5500 no"}},
	    {"mx.a", "650 no", {"x-mailstead; 650 no"}},
	    {"mx.a[x) (y]", "550", {"Remote-MTA: dns; mx.a[x) (y]\r\n", "smtp; 550\r\n"}},
	    {"[192.0.2.1]", "550", {"Remote-MTA: dns; [192.0.2.1]\r\n"}},
	    {"mx.a[]", "550", {"Remote-MTA: dns; mx.a[]\r\n"}},
	    {"[", "550", {"Remote-MTA: dns; [\r\n"}},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct dsn_recipient one = refused();
		struct dsn_report r = report_of(&one, 1);
		one.mta = slice_str(rows[i].mta);
		one.text = slice_str(rows[i].text);
		check_wants(rows[i].text, &r, rows[i].wants);
	}
}
END_TEST

/* ---- what hostile octets become ---- */

START_TEST(test_hostile)
{
	static const struct {
		const char *text;
		const char *wants[WANTS_MAX];
	} rows[] = {
	    {"550 a\r\nAction: delivered\r\n\r\n--report-0123456789abcdef-0--\r\n", {"!\r\nAction: delivered", "550 a  Action: delivered"}},
	    {"550 \x01\x1b[31m\x7f", {"550 ??[31m?", "!\x1b"}},
	    {"550 \xff\xfe\x80", {"550 ???"}},
	    {"550 \xe2\x80\xae" "evil\xe2\x81\xa6", {"550 ?evil?", "!\xe2\x80\xae"}},
	    {"550 \xc3\xa9t\xc3\xa9", {"smtp; 550 ?t?\r\n", "550 =C3=A9t=C3=A9\r\n", "charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable"}},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct dsn_recipient one = refused();
		struct dsn_report r = report_of(&one, 1);
		one.text = slice_str(rows[i].text);
		check_wants(rows[i].text, &r, rows[i].wants);
	}
}
END_TEST

START_TEST(test_long_values)
{
	static const char *const wants[] = {
	    "Diagnostic-Code: smtp; 550 word word word word word word word word word word\r\n word", "!word word\r\n\r\n word", NULL};
	struct dsn_recipient one = refused();
	struct dsn_report r = report_of(&one, 1);
	struct buf b;

	buf_init(&b, 8192);
	buf_put_str(&b, "550");
	for (unsigned i = 0; i < 60; i++)
		buf_put_str(&b, " word");
	one.text = buf_slice(&b);
	check_wants("words", &r, wants);
	/* A word that fits no line is cut. */
	buf_reset(&b);
	buf_put_str(&b, "550 ");
	for (unsigned i = 0; i < 4000; i++)
		buf_put_str(&b, "\xc3\xa9");
	one.text = buf_slice(&b);
	r.eightbit = true;
	check_wants("one word", &r, (const char *const[]){"message/global-delivery-status", NULL});
	buf_fini(&b);
}
END_TEST

START_TEST(test_no_sender)
{
	static const char *const senders[] = {"", "<>", "alice", "alice@", "alice@demo.test\r\nBcc: x@y", "a b@demo.test"};

	for (size_t i = 0; i < sizeof(senders) / sizeof(*senders); i++) {
		struct dsn_recipient one = refused();
		struct dsn_report r = report_of(&one, 1);
		struct written w;
		r.mail_from = slice_str(senders[i]);
		ck_assert_msg(!write_report(&r, &w), "%s", senders[i]);
		buf_fini(&w.b);
	}
}
END_TEST

/* ---- ENVID, ORCPT (RFC 3461 6.3, RFC 6533 3) ---- */

START_TEST(test_orcpt)
{
	static const struct {
		const char *orcpt;
		bool eightbit;
		const char *want;
	} rows[] = {
	    {"rfc822;Bob@Remote.test", false, "\r\nOriginal-Recipient: rfc822; Bob@Remote.test\r\n"},
	    {"RFC822;+22a+20b+22@remote.test", false, "\r\nOriginal-Recipient: RFC822; \"a b\"@remote.test\r\n"},
	    {"x400;/S=Bob/", false, "\r\nOriginal-Recipient: x400; /S=Bob/\r\n"},
	    {"rfc822;bad+zz", false, "\r\nOriginal-Recipient: rfc822; bad+zz\r\n"},
	    {"rfc822;a+0D+0AX:+20y", false, "\r\nOriginal-Recipient: rfc822; a  X: y\r\n"},
	    {"utf-8;\\x{438}\\x{43C}@remote.test", false, "\r\nOriginal-Recipient: utf-8; \\x{438}\\x{43C}@remote.test\r\n"},
	    {"utf-8;\xd0\xb8\\x{43C}@remote.test", false, "\r\nOriginal-Recipient: utf-8; \\x{438}\\x{43C}@remote.test\r\n"},
	    {"utf-8;\\x{438}\xd0\xbc@remote.test", true, "\r\nOriginal-Recipient: utf-8; \xd0\xb8\xd0\xbc@remote.test\r\n"},
	    {"utf-8;\\x{0D}\\x{0A}X@remote.test", true, "\r\nOriginal-Recipient: utf-8;   X@remote.test\r\n"},
	    {"utf-8;\\x{}\\x{1234567}\\x{zz}", true, "\r\nOriginal-Recipient: utf-8; \\x{}\\x{1234567}\\x{zz}\r\n"},
	    {"nonsense", false, "!Original-Recipient"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct dsn_recipient one = refused();
		struct dsn_report r = report_of(&one, 1);
		one.orcpt = slice_str(rows[i].orcpt);
		r.eightbit = rows[i].eightbit;
		check_wants(rows[i].orcpt, &r, (const char *const[]){rows[i].want, NULL});
	}
}
END_TEST

START_TEST(test_envid)
{
	static const struct {
		const char *envid;
		const char *want;
	} rows[] = {
	    {"abc+2Bdef", "\r\nOriginal-Envelope-Id: abc+def\r\n"},
	    {"a+20b", "\r\nOriginal-Envelope-Id: a b\r\n"},
	    {"a+0D+0Ab", "\r\nOriginal-Envelope-Id: a  b\r\n"},
	    {"bad+", "\r\nOriginal-Envelope-Id: bad+\r\n"},
	    {"", "!Original-Envelope-Id"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct dsn_recipient one = refused();
		struct dsn_report r = report_of(&one, 1);
		r.envid = slice_str(rows[i].envid);
		check_wants(rows[i].envid, &r, (const char *const[]){rows[i].want, NULL});
	}
}
END_TEST

/* ---- internationalised (RFC 6533) ---- */

START_TEST(test_utf8)
{
	static const char *const narrow[] = {"report-type=delivery-status", "Content-Type: message/delivery-status\r\n",
	    "Final-Recipient: utf-8; \\x{438}\\x{43C}\\x{44F}@remote.test", "Subject: Not delivered: your message to one address\r\n",
	    "Content-Type: message/global-headers\r\nContent-Transfer-Encoding: quoted-printable\r\n", "To: <alice@demo.test>", NULL};
	static const char *const wide[] = {"report-type=global-delivery-status",
	    "Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit\r\n",
	    "Final-Recipient: utf-8; \xd0\xb8\xd0\xbc\xd1\x8f@remote.test",
	    "Content-Type: message/global-headers\r\nContent-Transfer-Encoding: 8bit\r\n", NULL};
	struct dsn_recipient one = refused();
	struct dsn_report r = report_of(&one, 1);
	struct written w;

	one.address = SLICE("\xd0\xb8\xd0\xbc\xd1\x8f@remote.test");
	r.original = slice_of(utf8_original, sizeof(utf8_original) - 1);
	check_wants("narrow", &r, narrow);
	r.eightbit = true;
	check_wants("wide", &r, wide);
	ck_assert(write_report(&r, &w) && !w.utf8 && w.eightbit);
	buf_fini(&w.b);
	/* The sender's own address says that the way takes it. */
	r.eightbit = false;
	r.mail_from = SLICE("\xc3\xa4nne@demo.test");
	check_wants("sender", &r, wide);
	check_wants("sender", &r, (const char *const[]){"To: <\xc3\xa4nne@demo.test>", "Subject: Not delivered: \xd0\xb8", NULL});
	ck_assert(write_report(&r, &w) && w.utf8 && w.eightbit);
	buf_fini(&w.b);
}
END_TEST

/* Nothing but ASCII in the fields: the usual form, whatever the way takes. */
START_TEST(test_utf8_not_needed)
{
	struct dsn_recipient one = refused();
	struct dsn_report r = report_of(&one, 1);

	r.eightbit = true;
	check_wants("plain", &r, (const char *const[]){"report-type=delivery-status", "!8bit", "!global", NULL});
}
END_TEST

/* ---- the original ---- */

START_TEST(test_returned)
{
	static const struct {
		const char *name;
		enum smtp_ret ret;
		enum dsn_action action;
		bool requiretls, eightbit, cut;
		const char *original;
		const char *wants[WANTS_MAX];
	} rows[] = {
	    {"none", SMTP_RET_NONE, DSN_FAILED, false, false, false, plain_original, {"text/rfc822-headers", "!Shall we?", "!Return-Path"}},
	    {"hdrs", SMTP_RET_HDRS, DSN_FAILED, false, false, false, plain_original, {"text/rfc822-headers", "!Shall we?"}},
	    {"full", SMTP_RET_FULL, DSN_FAILED, false, false, false, plain_original, {"message/rfc822\r\n\r\n", "Shall we?"}},
	    {"full, delayed", SMTP_RET_FULL, DSN_DELAYED, false, false, false, plain_original, {"text/rfc822-headers", "!Shall we?"}},
	    {"full, delivered", SMTP_RET_FULL, DSN_DELIVERED, false, false, false, plain_original, {"text/rfc822-headers", "!Shall we?"}},
	    {"full, TLS", SMTP_RET_FULL, DSN_FAILED, true, false, false, plain_original, {"text/rfc822-headers", "!Shall we?"}},
	    {"full, cut", SMTP_RET_FULL, DSN_FAILED, false, false, true, plain_original, {"text/rfc822-headers", "!Shall we?"}},
	    {"full, UTF-8", SMTP_RET_FULL, DSN_FAILED, false, true, false, utf8_original, {"message/global\r\n", "J\xc3\xbcrgen", "8bit"}},
	    {"full, 7 bits", SMTP_RET_FULL, DSN_FAILED, false, false, false, utf8_original, {"message/global-headers\r\n", "!rgen", "=C3=84nne"}},
	    {"8-bit body", SMTP_RET_FULL, DSN_FAILED, false, true, false, "A: b\r\n\r\n\xe4\r\n", {"message/rfc822\r\n", "8bit", "\xe4"}},
	    {"8-bit body, 7 bits", SMTP_RET_FULL, DSN_FAILED, false, false, false, "A: b\r\n\r\n\xe4\r\n", {"text/rfc822-headers\r\n\r\nA: b", "!8bit"}},
	    {"header of no charset", SMTP_RET_NONE, DSN_FAILED, false, true, false, "A: \xe4\r\n\r\n", {"text/rfc822-headers\r\n", "8bit", "A: \xe4\r\n"}},
	    {"bare LF", SMTP_RET_FULL, DSN_FAILED, false, true, false, "A: b\r\n\r\nx\ny\r\n", {"text/rfc822-headers", "!\ny"}},
	    {"bare CR", SMTP_RET_FULL, DSN_FAILED, false, true, false, "A: b\rc\r\n\r\nx\r\n", {"text/rfc822-headers", "A: bc\r\n"}},
	    {"LF in header", SMTP_RET_NONE, DSN_FAILED, false, true, false, "A: b\n c\nD: e\n\nx", {"A: b\r\n c\r\nD: e\r\n"}},
	    {"no field", SMTP_RET_NONE, DSN_FAILED, false, false, false, "what is this\r\nA: b\r\n\r\n", {"!what is", "A: b"}},
	    {"nothing", SMTP_RET_FULL, DSN_FAILED, false, false, false, "", {"Final-Recipient"}},
	    {"boundary", SMTP_RET_FULL, DSN_FAILED, false, false, false, "A: b\r\n\r\n--report-0123456789abcdef-0--\r\n",
		{"boundary=\"report-0123456789abcdef-1\"", "\r\n--report-0123456789abcdef-1--\r\n"}},
	    {"boundary in header", SMTP_RET_NONE, DSN_FAILED, false, false, false, "A: b\r\n --report-0123456789abcdef-0--\r\n\r\n",
		{"boundary=\"report-0123456789abcdef-1\""}},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct dsn_recipient one = refused();
		struct dsn_report r = report_of(&one, 1);
		one.action = rows[i].action;
		r.ret = rows[i].ret;
		r.requiretls = rows[i].requiretls;
		r.eightbit = rows[i].eightbit;
		r.original = slice_str(rows[i].original);
		r.original_whole = !rows[i].cut;
		check_wants(rows[i].name, &r, rows[i].wants);
	}
}
END_TEST

/* At n - 1, n and n + 1 of the limits. */
static void
check_limit(size_t original_bytes, enum smtp_ret ret, bool whole, const char *want)
{
	struct dsn_recipient one = refused();
	struct dsn_report r = report_of(&one, 1);
	struct buf b;

	buf_init(&b, DSN_FULL_BYTES_MAX * 2);
	buf_put_str(&b, ret == SMTP_RET_FULL ? "A: b\r\n\r\n" : "A: b\r\n");
	while (b.n < original_bytes) {
		size_t left = original_bytes - b.n;
		size_t n = left > 70 + 64 ? 70 : left;
		buf_put_str(&b, ret == SMTP_RET_FULL ? "xxxx" : "X: x");
		for (size_t i = 0; i < n - 6; i++)
			buf_put_u8(&b, 'x');
		buf_put_str(&b, "\r\n");
	}
	ck_assert_uint_eq(b.n, original_bytes);
	if (ret != SMTP_RET_FULL)
		buf_put_str(&b, "\r\nbody\r\n");
	r.original = buf_slice(&b);
	r.original_whole = whole;
	r.ret = ret;
	check_wants("limit", &r, (const char *const[]){want, NULL});
	buf_fini(&b);
}

START_TEST(test_limits)
{
	check_limit(DSN_FULL_BYTES_MAX - 1, SMTP_RET_FULL, true, "message/rfc822");
	check_limit(DSN_FULL_BYTES_MAX, SMTP_RET_FULL, true, "message/rfc822");
	check_limit(DSN_FULL_BYTES_MAX + 1, SMTP_RET_FULL, true, "!message/rfc822");
	/* A header that is too long loses its last fields. */
	check_limit(DSN_HEADER_BYTES_MAX * 2, SMTP_RET_HDRS, true, "text/rfc822-headers\r\n\r\nA: b\r\nX: x");
	/* The last field of what was read may be half a field. */
	struct dsn_recipient one = refused();
	struct dsn_report r = report_of(&one, 1);
	r.original = SLICE("A: b\r\nC: d\r\n");
	r.original_whole = false;
	check_wants("cut", &r, (const char *const[]){"A: b\r\n\r\n--", "!C: d", NULL});
}
END_TEST

START_TEST(test_many_recipients)
{
	static struct dsn_recipient many[1000];
	struct dsn_report r = report_of(many, 1000);
	struct written w;

	for (size_t i = 0; i < 1000; i++) {
		many[i] = refused();
		many[i].orcpt = SLICE("rfc822;bob+2Btag@remote.test");
	}
	check_wants("many", &r, (const char *const[]){"Subject: Not delivered: your message to 1000 addresses",
	    "950 more addresses are named in the details below.", NULL});
	r.count = DSN_TEXT_RECIPIENTS_MAX;
	check_wants("all", &r, (const char *const[]){"!more addresses", NULL});
	r.count++;
	check_wants("one more", &r, (const char *const[]){"1 more addresses", NULL});
	many[1].action = DSN_DELAYED;
	many[2].action = DSN_DELIVERED;
	many[3].action = DSN_RELAYED;
	r.count = 4;
	check_wants("mixed", &r, (const char *const[]){"could not be delivered to one address. Your message", "Subject: Not delivered: your message to 4",
	    "\r\nAction: relayed\r\n", NULL});
	ck_assert(write_report(&r, &w));
	buf_fini(&w.b);
}
END_TEST

/* ---- what a status and a reply mean ---- */

START_TEST(test_words)
{
	static const struct {
		const char *status, *reply, *want;
	} rows[] = {
	    {"5.1.1", "550 5.1.1 <bob@a.test>: Recipient address rejected: User unknown in local recipient table", "unknown-address"},
	    {"5.1.1", "550-5.1.1 The email account that you tried to reach does not exist. Please try again", "unknown-address"},
	    {"5.1.10", "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup", "unknown-address"},
	    {"5.4.1", "550 5.4.1 Recipient address rejected: Access denied.", "unknown-address"},
	    {"5.0.0", "550 No such user here", "unknown-address"},
	    {"5.7.1", "550 5.7.1 No such user!", "unknown-address"},
	    {"5.2.1", "550 5.2.1 The mailbox does not exist any more", "unknown-address"},
	    {"5.1.6", "551 moved", "moved"},
	    {"5.1.2", "domain does not exist", "no-domain"},
	    {"5.1.10", "domain takes no mail", "no-mail"},
	    {"5.2.1", "550 5.2.1 The email account is disabled", "disabled"},
	    {"5.2.2", "552 5.2.2 Over quota", "full"},
	    {"4.2.2", "452 4.2.2 Mailbox full", "full"},
	    {"5.0.0", "552 Quota exceeded", "full"},
	    {"5.2.1", "550 mailbox is full", "full"},
	    {"5.3.4", "552 5.3.4 Message size exceeds fixed limit", "too-big"},
	    {"5.0.0", "552 message too large", "too-big"},
	    {"5.7.1", "550 5.7.1 Message rejected as spam by Content Filtering.", "spam"},
	    {"5.7.0", "550 virus found", "spam"},
	    {"5.7.1", "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org", "reputation"},
	    {"5.7.25", "550 no reverse", "reputation"},
	    {"5.0.0", "554 Your IP is on our blacklist", "reputation"},
	    {"5.7.26", "550-5.7.26 This mail has been blocked because the sender is unauthenticated.", "not-proven"},
	    {"5.7.1", "550 5.7.1 DMARC policy violation", "not-proven"},
	    {"5.7.23", "550 5.7.23 SPF validation failed", "not-proven"},
	    {"5.1.8", "550 5.1.8 sender domain does not exist", "sender"},
	    {"5.7.1", "554 5.7.1 <bob@a.test>: Relay access denied", "relay"},
	    {"5.0.0", "550 relay not permitted", "relay"},
	    {"5.7.10", "the server offers no TLS", "tls"},
	    {"5.6.7", "the server does not take such letters", "letters"},
	    {"5.6.1", "554 5.6.1 no such type here", "form"},
	    {"5.4.6", "554 5.4.6 Too many hops", "loop"},
	    {"4.7.28", "421 4.7.28 unusual rate of unsolicited mail", "too-many"},
	    {"4.5.3", "452 4.5.3 Too many recipients", "too-many"},
	    {"4.7.1", "450 4.7.1 Greylisted, please come back later", "later"},
	    {"4.1.1", "450 4.1.1 unverified address: try again later", "later"},
	    {"4.4.3", "no answer from DNS", "no-route"},
	    {"4.4.1", "connection timed out", "no-answer"},
	    {"4.4.2", "connection lost", "no-answer"},
	    {"5.4.7", "delivery time expired", "no-answer"},
	    {"4.3.0", "451 4.3.0 internal error", "fault"},
	    {"5.7.1", "550 5.7.1 no", "policy"},
	    {"5.7.1", "The postmaster of this server has taken it out of the queue", "given-up"},
	    {"5.0.0", "554 no", "other"},
	    {"", "", "other"},
	    {"5.1.1\r\n", "554 no", "other"},
	    /* A word begins at the beginning of a word. */
	    {"5.0.0", "550 marble", "other"},
	    {"5.0.0", "550 rbl", "reputation"},
	};
	unsigned used[64] = {0};
	unsigned kinds = 0;

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		const struct dsn_words *w = dsn_words_of(slice_str(rows[i].status), slice_str(rows[i].reply));
		ck_assert_msg(strcmp(w->name, rows[i].want) == 0, "%s %s: %s, want %s", rows[i].status, rows[i].reply, w->name, rows[i].want);
		ck_assert_int_eq(dsn_words_reputation(slice_str(rows[i].status), slice_str(rows[i].reply)), strcmp(w->name, "reputation") == 0);
		for (unsigned k = 0; dsn_words_at(k); k++)
			used[k] += dsn_words_at(k) == w;
	}
	for (; dsn_words_at(kinds); kinds++) {
		const struct dsn_words *w = dsn_words_at(kinds);
		ck_assert_msg(used[kinds] > 0, "no row for %s", w->name);
		/* A clause behind a colon, and sentences. */
		ck_assert_msg(w->what[0] >= 'a' && w->what[strlen(w->what) - 1] != '.' && w->advice[0] < 'a' && w->advice[strlen(w->advice) - 1] == '.',
		    "%s", w->name);
	}
	ck_assert_uint_gt(kinds, 20);
}
END_TEST

/* ---- who is told what of an item (RFC 3461 5.2) ---- */

START_TEST(test_due)
{
	enum { LOCAL = 7, REMOTE = 0 };
	static const struct {
		uint64_t account;
		enum queue_state state;
		uint8_t notify, flags;
		bool late;
		enum dsn_action want;
	} rows[] = {
	    /* 5.2.6, 5.2.2 */
	    {REMOTE, QUEUE_FAILED, 0, 0, false, DSN_FAILED},
	    {LOCAL, QUEUE_FAILED, 0, 0, true, DSN_FAILED},
	    {REMOTE, QUEUE_FAILED, SMTP_NOTIFY_FAILURE, 0, false, DSN_FAILED},
	    {REMOTE, QUEUE_FAILED, SMTP_NOTIFY_SUCCESS | SMTP_NOTIFY_FAILURE, QUEUE_REPORTED_DELAY, false, DSN_FAILED},
	    {REMOTE, QUEUE_FAILED, SMTP_NOTIFY_SUCCESS | SMTP_NOTIFY_DELAY, 0, true, DSN_NONE},
	    {REMOTE, QUEUE_FAILED, SMTP_NOTIFY_NEVER, 0, true, DSN_NONE},
	    {REMOTE, QUEUE_FAILED, 0, QUEUE_REPORTED_FAILURE, true, DSN_NONE},
	    /* 5.2.5 */
	    {REMOTE, QUEUE_PENDING, 0, 0, true, DSN_DELAYED},
	    {REMOTE, QUEUE_PENDING, 0, 0, false, DSN_NONE},
	    {LOCAL, QUEUE_PENDING, SMTP_NOTIFY_DELAY, 0, true, DSN_DELAYED},
	    {REMOTE, QUEUE_PENDING, SMTP_NOTIFY_FAILURE, 0, true, DSN_NONE},
	    {REMOTE, QUEUE_PENDING, SMTP_NOTIFY_NEVER, 0, true, DSN_NONE},
	    {REMOTE, QUEUE_PENDING, 0, QUEUE_REPORTED_DELAY, true, DSN_NONE},
	    /* 5.2.3, 5.2.2 b and e, 5.2.1 */
	    {LOCAL, QUEUE_DONE, SMTP_NOTIFY_SUCCESS, 0, false, DSN_DELIVERED},
	    {LOCAL, QUEUE_DONE, 0, 0, false, DSN_NONE},
	    {LOCAL, QUEUE_DONE, SMTP_NOTIFY_FAILURE | SMTP_NOTIFY_DELAY, 0, true, DSN_NONE},
	    {LOCAL, QUEUE_DONE, SMTP_NOTIFY_NEVER, 0, true, DSN_NONE},
	    {LOCAL, QUEUE_DONE, SMTP_NOTIFY_SUCCESS, QUEUE_REPORTED_SUCCESS, false, DSN_NONE},
	    {REMOTE, QUEUE_DONE, SMTP_NOTIFY_SUCCESS | SMTP_NOTIFY_FAILURE, 0, false, DSN_RELAYED},
	    {REMOTE, QUEUE_DONE, SMTP_NOTIFY_SUCCESS, QUEUE_DSN_PASSED, false, DSN_NONE},
	    {REMOTE, QUEUE_DONE, 0, 0, true, DSN_NONE},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct queue_recipient r = {.account = rows[i].account, .state = rows[i].state, .notify = rows[i].notify, .flags = rows[i].flags,
		    .address = SLICE("bob@remote.test")};
		struct queue_item item = {.mail_from = SLICE("alice@demo.test"), .recipients = &r, .count = 1};
		ck_assert_msg(dsn_due(&item, 0, rows[i].late) == rows[i].want, "row %zu", i);
		/* Nobody is told of a report (RFC 5321 4.5.5). */
		item.mail_from = SLICE("");
		ck_assert_msg(dsn_due(&item, 0, rows[i].late) == DSN_NONE, "row %zu", i);
	}
}
END_TEST

/* One word for all mailboxes behind an address, and a word more for each that fails (5.2.7.3 c). */
START_TEST(test_due_alias)
{
	struct queue_recipient v[4] = {
	    {.account = 1, .state = QUEUE_PENDING, .address = SLICE("team@demo.test")},
	    {.account = 2, .state = QUEUE_DONE, .address = SLICE("team@demo.test")},
	    {.account = 3, .state = QUEUE_DONE, .address = SLICE("team@demo.test")},
	    {.account = 4, .state = QUEUE_DONE, .address = SLICE("carol@demo.test")},
	};
	struct queue_item item = {.mail_from = SLICE("alice@demo.test"), .recipients = v, .count = 4};

	for (size_t i = 0; i < 4; i++)
		v[i].notify = SMTP_NOTIFY_SUCCESS | SMTP_NOTIFY_FAILURE;
	ck_assert(dsn_due(&item, 0, true) == DSN_NONE);
	ck_assert(dsn_due(&item, 1, true) == DSN_EXPANDED);
	ck_assert(dsn_due(&item, 2, true) == DSN_NONE);
	ck_assert(dsn_due(&item, 3, true) == DSN_DELIVERED);
	v[1].flags = dsn_told_flag(DSN_EXPANDED);
	v[0].state = QUEUE_DONE;
	for (uint16_t i = 0; i < 3; i++)
		ck_assert(dsn_due(&item, i, true) == DSN_NONE);
	v[0].state = QUEUE_FAILED;
	ck_assert(dsn_due(&item, 0, true) == DSN_FAILED);
	/* Named twice on another server they are no alias of ours. */
	v[0] = v[1] = (struct queue_recipient){.state = QUEUE_DONE, .notify = SMTP_NOTIFY_SUCCESS, .address = SLICE("bob@remote.test")};
	ck_assert(dsn_due(&item, 0, false) == DSN_RELAYED && dsn_due(&item, 1, false) == DSN_RELAYED);
	/* Somewhere else, for one of ours. */
	v[0].flags = v[1].flags = QUEUE_FORWARDED;
	ck_assert(dsn_due(&item, 0, false) == DSN_EXPANDED && dsn_due(&item, 1, false) == DSN_NONE);
	v[1].address = SLICE("carol@third.test");
	ck_assert(dsn_due(&item, 0, false) == DSN_RELAYED && dsn_due(&item, 1, false) == DSN_RELAYED);
	v[0].orcpt = v[1].orcpt = SLICE("rfc822;list@demo.test");
	ck_assert(dsn_due(&item, 0, false) == DSN_EXPANDED && dsn_due(&item, 1, false) == DSN_NONE);
}
END_TEST

START_TEST(test_report_of_item)
{
	struct queue_recipient v[5] = {
	    {.account = 1, .state = QUEUE_FAILED, .flags = QUEUE_REPORTED_DELAY | QUEUE_REPORTED_FAILURE | QUEUE_IN_REPORT,
		.address = SLICE("a@demo.test"), .status = SLICE("5.2.1"), .text = SLICE("gone")},
	    {.state = QUEUE_DONE, .flags = QUEUE_REPORTED_SUCCESS | QUEUE_IN_REPORT, .address = SLICE("b@remote.test")},
	    /* Failed since the report of its delay began. */
	    {.state = QUEUE_FAILED, .flags = QUEUE_REPORTED_DELAY | QUEUE_IN_REPORT | QUEUE_UNSURE, .address = SLICE("c@remote.test")},
	    {.state = QUEUE_FAILED, .flags = QUEUE_REPORTED_FAILURE, .address = SLICE("d@remote.test")},
	    {.account = 2, .state = QUEUE_DONE, .flags = QUEUE_REPORTED_SUCCESS | QUEUE_IN_REPORT, .address = SLICE("e@demo.test"),
		.orcpt = SLICE("rfc822;e")},
	};
	struct queue_item item = {.mail_from = SLICE("alice@demo.test"), .envid = SLICE("x"), .ret = SMTP_RET_FULL, .internal_date = 5,
	    .flags = QUEUE_REQUIRETLS, .release_ms = 7000, .hold_for = 2, .recipients = v, .count = 5};
	struct arena *a = arena_new(1u << 16);
	struct dsn_report r;

	ck_assert(dsn_report_begin(&item, a, &r));
	ck_assert(slice_eq(r.mail_from, item.mail_from) && slice_eq(r.envid, item.envid) && r.ret == SMTP_RET_FULL && r.requiretls && r.arrived == 5);
	ck_assert(r.release == 7 && r.hold_for == 2);
	ck_assert_uint_eq(r.count, 4);
	ck_assert(r.recipients[0].action == DSN_FAILED && slice_eq(r.recipients[0].text, SLICE("gone")) &&
	    slice_eq(r.recipients[0].status, SLICE("5.2.1")));
	ck_assert(r.recipients[1].action == DSN_RELAYED && r.recipients[2].action == DSN_DELAYED && r.recipients[2].unsure);
	ck_assert(r.recipients[3].action == DSN_DELIVERED && slice_eq(r.recipients[3].orcpt, SLICE("rfc822;e")));
	item.recipients = &v[3];
	item.count = 1;
	ck_assert(!dsn_report_begin(&item, a, &r));
	arena_free(&a);
}
END_TEST

/* What one of ours sent on is about that address, and says nothing of where it leads. */
START_TEST(test_report_of_forwarded)
{
	static const struct {
		const char *orcpt, *address;
	} rows[] = {{"rfc822;list@demo.test", "list@demo.test"}, {"RFC822;li+2Bst@demo.test", "li+st@demo.test"},
	    {"utf-8;b\xc3\xbc@demo.test", "b\xc3\xbc@demo.test"}, {"", "undisclosed"}, {"x400;c+3Dde", "undisclosed"},
	    {"rfc822;", "undisclosed"}, {"utf-8;", "undisclosed"}, {"rfc822;a+b", "undisclosed"}};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct queue_recipient v = {.state = QUEUE_FAILED, .flags = QUEUE_REPORTED_FAILURE | QUEUE_IN_REPORT | QUEUE_FORWARDED,
		    .address = SLICE("secret@remote.test"), .orcpt = slice_str(rows[i].orcpt), .mta = SLICE("mx.remote.test"),
		    .text = SLICE("550 no secret@ here"), .status = SLICE("5.1.1")};
		struct queue_item item = {.mail_from = SLICE("alice@demo.test"), .recipients = &v, .count = 1};
		struct arena *a = arena_new(1u << 16);
		struct dsn_report r;

		ck_assert(dsn_report_begin(&item, a, &r));
		ck_assert_msg(slice_eq(r.recipients[0].address, slice_str(rows[i].address)), "%s", rows[i].orcpt);
		ck_assert(r.recipients[0].forwarded && r.recipients[0].text.n == 0 && r.recipients[0].mta.n == 0);
		ck_assert(slice_eq(r.recipients[0].status, v.status));
		/* The same address of another server, of itself, has all of it. */
		v.flags &= (uint8_t)~QUEUE_FORWARDED;
		ck_assert(dsn_report_begin(&item, a, &r));
		ck_assert(slice_eq(r.recipients[0].address, v.address) && slice_eq(r.recipients[0].text, v.text));
		arena_free(&a);
	}
}
END_TEST

/* ---- when there is no room ---- */

START_TEST(test_full)
{
	struct dsn_recipient one = refused();
	struct dsn_report r = report_of(&one, 1);
	struct arena *a = arena_new(DSN_ARENA_BYTES_MAX);
	struct written w;
	size_t bytes;

	ck_assert(write_report(&r, &w));
	bytes = w.b.n;
	buf_fini(&w.b);
	for (size_t max = 0; max < bytes; max += 97) {
		buf_init(&w.b, max);
		arena_reset(a);
		ck_assert(!dsn_write(&r, a, &w.b, &w.utf8, &w.eightbit));
		buf_fini(&w.b);
	}
	arena_free(&a);
}
END_TEST

/* ---- random octets everywhere: well-formed all the same ---- */

static struct slice
noise(struct arena *a, unsigned *seed, size_t max)
{
	static const char letters[] = "ab .;+\\x{}@<>()\"=-:\r\n\t\x01\x7f\xc3\xa9\xe2\x80\xae\xd0\xff" "550report";
	size_t n = (size_t)rand_r(seed) % max;
	uint8_t *p = arena_alloc(a, n + 1);

	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)letters[(size_t)rand_r(seed) % (sizeof(letters) - 1)];
	return slice_of(p, n);
}

START_TEST(test_noise)
{
	struct arena *a = arena_new(1u << 20);

	for (unsigned i = 0; i < 400; i++) {
		unsigned seed = i + 1;
		struct dsn_recipient v[3];
		struct dsn_report r = report_of(v, 1 + i % 3);
		struct written w;
		arena_reset(a);
		for (unsigned k = 0; k < 3; k++)
			v[k] = (struct dsn_recipient){
			    .action = (enum dsn_action)(1 + (i + k) % DSN_ACTION_LAST),
			    .unsure = k == 1,
			    .forwarded = k == 2,
			    .address = noise(a, &seed, 320),
			    .orcpt = noise(a, &seed, 500),
			    .status = noise(a, &seed, 12),
			    .mta = noise(a, &seed, 100),
			    .text = noise(a, &seed, 2000),
			};
		r.envid = noise(a, &seed, 100);
		r.original = noise(a, &seed, 6000);
		r.ret = i % 2 ? SMTP_RET_FULL : SMTP_RET_HDRS;
		r.eightbit = i % 4 > 1;
		ck_assert_msg(write_report(&r, &w), "seed %u", i);
		buf_fini(&w.b);
	}
	arena_free(&a);
}
END_TEST

/* ---- and Python reads them all ---- */

static int
read_by_python(void)
{
	pid_t child = fork();
	int status = 1;

	if (child == 0) {
		if (lseek(kept, 0, SEEK_SET) == 0 && dup2(kept, STDIN_FILENO) == STDIN_FILENO)
			execl("/usr/bin/python3", "python3", "tests/unit/data/dsn_parse.py", (char *)NULL);
		_exit(127);
	}
	return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int
main(void)
{
	Suite *s = suite_create("dsn");
	TCase *t = tcase_create("all");

	FILE *f = tmpfile();

	if (f == NULL)
		return 1;
	kept = fileno(f);
	tcase_add_test(t, test_whole);
	tcase_add_test(t, test_actions);
	tcase_add_test(t, test_forwarded);
	tcase_add_test(t, test_unsure);
	tcase_add_test(t, test_status_grammar);
	tcase_add_test(t, test_future_release);
	tcase_add_test(t, test_unknown_is_left_out);
	tcase_add_test(t, test_diagnostics);
	tcase_add_test(t, test_hostile);
	tcase_add_test(t, test_long_values);
	tcase_add_test(t, test_no_sender);
	tcase_add_test(t, test_orcpt);
	tcase_add_test(t, test_envid);
	tcase_add_test(t, test_utf8);
	tcase_add_test(t, test_utf8_not_needed);
	tcase_add_test(t, test_returned);
	tcase_add_test(t, test_limits);
	tcase_add_test(t, test_many_recipients);
	tcase_add_test(t, test_words);
	tcase_add_test(t, test_due);
	tcase_add_test(t, test_due_alias);
	tcase_add_test(t, test_report_of_item);
	tcase_add_test(t, test_report_of_forwarded);
	tcase_add_test(t, test_full);
	tcase_add_test(t, test_noise);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed || read_by_python() != 0 ? 1 : 0;
}
