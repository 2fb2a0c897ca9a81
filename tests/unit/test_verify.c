/*
 * One message judged as the role does it: form, ranges, summary, the three checks together, time limits, and the lengths
 * and hash that deliver compares.
 */
#include "common/loop.h"
#include "common/mem.h"
#include "common/memfd.h"
#include "common/summary.h"
#include "smtpd/facts.h"
#include "smtpd/verdict.h"
#include "smtpd/verify.h"
#include "smtpd/verify_form.h"
#include "tests/unit/fake_dns.h"

#include <check.h>
#include <openssl/evp.h>
#include <unistd.h>

static struct fake_dns dns;
static struct loop *loop;
static struct verdict got;
static struct summary summary;
static struct err err;
static uint8_t sha256[32];
static bool ended;
static struct arena *arena;

static void
on_done(void *arg, const struct verify_result *r)
{
	struct slice encoded, kept;

	ck_assert(arg == &dns && !ended);
	ended = true;
	err = r->err;
	if (err.class != ERR_NONE)
		return;
	memcpy(sha256, r->sha256, 32);
	ck_assert(arena_copy(arena, r->encoded, &encoded) && arena_copy(arena, r->summary, &kept));
	ck_assert(verdict_decode(encoded, &got));
	ck_assert(summary_decode(kept, &summary));
}

static void
setup(void)
{
	fake_dns_init(&dns);
	verify_global_init();
	loop = loop_new();
	arena = arena_new(64u << 20);
}

static void
teardown(void)
{
	loop_free(&loop);
	arena_free(&arena);
}

static struct facts facts = {.helo = SLICE("mail.example.com"),
    .mail_from = SLICE("joe@example.com"),
    .hostname = SLICE("mx.demo.test"),
    .authserv_id = SLICE("mx.demo.test"),
    .client_ip = {[10] = 0xff, [11] = 0xff, 192, 0, 2, 1}};

static struct verify *
begin(struct slice message, bool full, int64_t bytes_off)
{
	struct verify_request q = {.full = full, .timeout_ms = 300};
	struct verify *v = verify_new(loop, &dns.asker, on_done, &dns);
	struct buf f;
	struct err e;

	buf_init(&f, FACTS_BYTES_MAX);
	facts.submission = !full;
	ck_assert(facts_encode(&facts, &f));
	q.facts = buf_slice(&f);
	q.message = memfd_of(message, &e);
	q.bytes = message.n + (uint64_t)bytes_off;
	ended = false;
	verify_start(v, &q);
	buf_fini(&f);
	close(q.message);
	return v;
}

static void
judge_slice(struct slice message, bool full)
{
	struct verify *v = begin(message, full, 0);
	uint8_t hash[32];
	unsigned n;

	fake_dns_run(&dns);
	ck_assert(ended);
	ck_assert_msg(err.class == ERR_NONE, "%s", err.detail);
	EVP_Digest(message.p, message.n, hash, &n, EVP_sha256(), NULL);
	ck_assert_mem_eq(sha256, hash, 32);
	verify_free(&v);
}

static void
judge(const char *message, bool full)
{
	judge_slice(slice_str(message), full);
}

/* ---- form ---- */

START_TEST(test_form)
{
	judge("Received: a\r\nReceived: b\r\nFrom: Joe <joe@example.com>, ann@example.com\r\nDate: x\r\nTo: a@b.example\r\n"
	      "Cc: c\r\nDelivered-To: me@here.example\r\nMessage-ID: <x@y>\r\nSubject: h\303\251\r\n\r\nbody \303\251\r\n", false);
	ck_assert_uint_eq(got.form.header_fields, 9);
	ck_assert_uint_eq(got.form.received_fields, 2);
	ck_assert_uint_eq(got.form.from_fields, 1);
	ck_assert_uint_eq(got.form.from_mailboxes, 2);
	ck_assert(!got.form.from_domains_differ);
	ck_assert(slice_eq(got.form.from_domain, SLICE("example.com")));
	ck_assert(slice_eq(got.form.from_address, SLICE("joe@example.com")));
	ck_assert_uint_eq(got.form.date_fields, 1);
	ck_assert_uint_eq(got.form.message_id_fields, 1);
	ck_assert_uint_eq(got.form.recipient_fields, 2);
	ck_assert(got.form.header_sane && got.form.header_8bit && got.form.header_utf8 && got.form.body_8bit);
	ck_assert(got.form.unqualified);
	ck_assert(!got.form.has_nul && !got.form.has_bare_cr && !got.form.has_bare_lf && !got.form.line_too_long);
	ck_assert(!got.full && got.authres.n == 0);
}
END_TEST

struct form_row {
	const char *message;
	const char *flags; /* s not sane, 8 header 8-bit, u not UTF-8, q unqualified, r CR, l LF, L long, b body 8-bit, d domains */
	unsigned from_fields, mailboxes;
	const char *address;
};

static const struct form_row forms[] = {
	{"From: a@b.example\r\n\r\n", "", 1, 1, "a@b.example"},
	{"From: \"a b\"@b.example\r\n\r\n", "", 1, 1, "\"a b\"@b.example"},
	{"From: \"a\\\"b\"@b.example\r\n\r\n", "", 1, 1, "\"a\\\"b\"@b.example"},
	{"From: a@b.example, c@d.example\r\n\r\n", "d", 1, 2, "a@b.example"},
	{"From: a@b.example\r\nFrom: c@b.example\r\n\r\n", "", 2, 2, "a@b.example"},
	{"From: g: ;\r\n\r\n", "", 1, 0, ""},
	{"From: joe\r\n\r\n", "q", 1, 1, ""},
	{"To: joe\r\n\r\n", "q", 0, 0, ""},
	{"Subject: joe\r\n\r\n", "", 0, 0, ""},
	{"From me Mon Jan\r\nSubject: x\r\n\r\n", "s", 0, 0, ""},
	{" folded first\r\nSubject: x\r\n\r\n", "s", 0, 0, ""},
	{"Subject: \377\r\n\r\n", "8u", 0, 0, ""},
	{"Subject: x\n\r\n", "l", 0, 0, ""},
	{"Subject: x\r\n\r\nbare\nlf\r\n", "l", 0, 0, ""},
	{"Subject: x\r\n\r\nbare\rcr\r\n", "r", 0, 0, ""},
	{"Subject: x\r\n\r\nends in cr\r", "r", 0, 0, ""},
	{"Subject: x\r\n\r\n\r\r\n", "r", 0, 0, ""},
	{"\r\nbody \200", "b", 0, 0, ""},
	{"", "", 0, 0, ""},
	{"Subject: no end", "", 0, 0, ""},
};

START_TEST(test_forms)
{
	const struct form_row *row = &forms[_i];
	char flags[16];

	judge(row->message, false);
	const struct verdict_form *f = &got.form;
	snprintf(flags, sizeof flags, "%s%s%s%s%s%s%s%s%s", f->header_sane ? "" : "s", f->header_8bit ? "8" : "",
	    f->header_utf8 ? "" : "u", f->unqualified ? "q" : "", f->has_bare_cr ? "r" : "", f->has_bare_lf ? "l" : "",
	    f->line_too_long ? "L" : "", f->body_8bit ? "b" : "", f->from_domains_differ ? "d" : "");
	ck_assert_msg(strcmp(flags, row->flags) == 0, "%s: %s", row->message, flags);
	ck_assert_uint_eq(f->from_fields, row->from_fields);
	ck_assert_uint_eq(f->from_mailboxes, row->mailboxes);
	ck_assert_msg(slice_eq(f->from_address, slice_str(row->address)), "%.*s", SLICE_ARG(f->from_address));
}
END_TEST

START_TEST(test_long_lines_and_nul)
{
	struct buf b;

	for (size_t n = OCTETS_LINE_MAX; n <= OCTETS_LINE_MAX + 1; n++) {
		buf_init(&b, 4096);
		buf_put_str(&b, "Subject: x\r\n\r\n");
		for (size_t i = 0; i < n; i++)
			buf_put_u8(&b, i == 5 && n > OCTETS_LINE_MAX ? 0 : 'x');
		buf_put_str(&b, "\r\n");
		judge_slice(buf_slice(&b), false);
		ck_assert_int_eq(got.form.line_too_long, n > OCTETS_LINE_MAX);
		ck_assert_int_eq(got.form.has_nul, n > OCTETS_LINE_MAX);
		buf_fini(&b);
	}
}
END_TEST

/* Where CR or LF alone and NUL may stand: in a body declared binary, by MAIL or by its MIME field (RFC 3030 3). */
START_TEST(test_stray_octets)
{
	static const struct {
		struct slice message;
		bool text, binary; /* stray without and with BODY=BINARYMIME */
	} rows[] = {
#define M(lit) {(const uint8_t *)(lit), sizeof(lit) - 1}
	    {M("Subject: x\r\n\r\nbody\r\n"), false, false},
	    {M("Subject: x\r\n\r\nbo\ndy\r\n"), true, false},
	    {M("Subject: x\r\n\r\nbo\rdy\r\n"), true, false},
	    {M("Subject: x\r\n\r\nbo\0dy\r\n"), true, false},
	    {M("Subject: x\r\n\r\nbody\r"), true, false},
	    {M("Content-Transfer-Encoding: BINARY\r\n\r\nbo\n\0dy\r"), false, false},
	    {M("Content-Transfer-Encoding: 8bit\r\n\r\nbo\ndy\r\n"), true, false},
	    {M("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b\r\nContent-Transfer-Encoding: binary\r\n\r\n"
	       "\n\0\r\n--b--\r\n"), false, false},
	    {M("Subject: x\n\r\nbody\r\n"), true, true},
	    {M("Subject: x\ry\r\n\r\nbody\r\n"), true, true},
	    {M("Subject: x\0\r\nContent-Transfer-Encoding: binary\r\n\r\nbody\r\n"), true, true},
	    {M("Content-Transfer-Encoding: binary\n\nbody\r\n"), true, true},
#undef M
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		facts.binary = false;
		judge_slice(rows[i].message, false);
		ck_assert_msg(got.form.stray_octets == rows[i].text, "row %zu", i);
		facts.binary = true;
		judge_slice(rows[i].message, true);
		ck_assert_msg(got.form.stray_octets == rows[i].binary, "row %zu, binary", i);
		facts.binary = false;
	}
}
END_TEST

/* ---- what is left out ---- */

static void
without_ranges(const char *message, char *to, size_t size)
{
	size_t n = 0, at = 0;

	for (uint16_t i = 0; i < got.range_count; i++) {
		n += (size_t)snprintf(to + n, size - n, "%.*s", (int)(got.ranges[i].offset - at), message + at);
		at = (size_t)(got.ranges[i].offset + got.ranges[i].octets);
	}
	snprintf(to + n, size - n, "%s", message + at);
}

START_TEST(test_ranges)
{
	const char *message =
	    "Authentication-Results: mx.demo.test; spf=pass\r\n"
	    "authentication-results :\r\n (x) MX.demo.test 1;\r\n\tdkim=pass\r\n"
	    "From: a@b.example\r\n"
	    "Bcc: secret@c.example,\r\n other@c.example\r\n"
	    "Authentication-Results: other.example; spf=fail\r\n"
	    "Resent-Bcc: x@y.example\r\n"
	    "Subject: x\r\n\r\nBcc: in the body\r\n";
	char left[1000];

	judge(message, true);
	without_ranges(message, left, sizeof left);
	ck_assert_str_eq(left,
	    "From: a@b.example\r\nBcc: secret@c.example,\r\n other@c.example\r\n"
	    "Authentication-Results: other.example; spf=fail\r\nResent-Bcc: x@y.example\r\nSubject: x\r\n\r\nBcc: in the body\r\n");
	ck_assert_uint_eq(got.range_count, 1);
	ck_assert_uint_eq(summary.octets, strlen(left));
	judge(message, false);
	without_ranges(message, left, sizeof left);
	ck_assert_str_eq(left,
	    "From: a@b.example\r\nAuthentication-Results: other.example; spf=fail\r\nSubject: x\r\n\r\nBcc: in the body\r\n");
	ck_assert_uint_eq(summary.octets, strlen(left));
	ck_assert(summary.bcc.n == 0);
}
END_TEST

/* RFC 8689 3: once, and nothing but No. */
START_TEST(test_tls_required)
{
	static const struct {
		const char *fields;
		bool want;
	} rows[] = {{"TLS-Required: No\r\n", true}, {"tls-required:no\r\n", true}, {"TLS-Required:\r\n No\r\n", true}, {"TLS-Required: Yes\r\n", false},
	    {"TLS-Required: No thanks\r\n", false}, {"TLS-Required:\r\n", false}, {"TLS-Required: No\r\nTLS-Required: No\r\n", false},
	    {"", false}, {"Subject: x\r\n\r\nTLS-Required: No\r\n", false}};
	char message[200];

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		(void)snprintf(message, sizeof message, "From: a@b.example\r\n%s\r\nx\r\n", rows[i].fields);
		judge(message, i % 2 == 0);
		ck_assert_msg(got.form.tls_optional == rows[i].want, "row %zu", i);
	}
}
END_TEST

/* How it would be 7 bits is planned of what is submitted, with octets that are left out in it. */
START_TEST(test_recoding)
{
	const char *message = "Bcc: x@y.example\r\nContent-Type: text/plain\r\nBcc: z@y.example\r\nFrom: a@b.example\r\n\r\na word \xff\r\n";

	judge(message, true);
	ck_assert_uint_eq(got.recoding.count, 0);
	judge(message, false);
	ck_assert_uint_eq(got.range_count, 2);
	ck_assert_uint_eq(got.recoding.count, 3);
	ck_assert_uint_eq(got.recoding.changes[1].offset, got.ranges[1].offset);
	ck_assert_int_eq(got.recoding.changes[1].kind, SEVENBIT_FIELD_QP);
	judge("From: a@b.example\r\n\r\na word\r\n", false);
	ck_assert_uint_eq(got.recoding.count, 0);
	judge("From: a@b.example\r\nContent-Type: message/partial\r\n\r\na word \xff\r\n", false);
	ck_assert_uint_eq(got.recoding.count, 0);
}
END_TEST

/* More ranges than fit are told, not cut off. */
START_TEST(test_ranges_overflow)
{
	struct buf b;

	for (unsigned n = VERDICT_RANGES_MAX; n <= VERDICT_RANGES_MAX + 1; n++) {
		buf_init(&b, 1 << 20);
		for (unsigned i = 0; i < n; i++)
			buf_put_str(&b, "X: y\r\nAuthentication-Results: mx.demo.test; a=b\r\n");
		buf_put_str(&b, "\r\nbody\r\n");
		judge_slice(buf_slice(&b), true);
		ck_assert_int_eq(got.form.ranges_overflow, n > VERDICT_RANGES_MAX);
		buf_fini(&b);
	}
}
END_TEST

/* A header block of any length up to the limit is read whole, wherever the reads end; past it the message is refused. */
START_TEST(test_header_lengths)
{
	static const size_t lengths[] = {65534, 65535, 65536, 65537, 131070, 131072, 131074, 1048570};
	struct buf b;

	for (size_t k = 0; k < sizeof lengths / sizeof lengths[0]; k++)
		for (size_t shift = 0; shift < 4; shift++) {
			buf_init(&b, 4 << 20);
			buf_put_str(&b, "X:\r\n");
			while (b.n < lengths[k] - 60 + shift)
				buf_put_str(&b, " x\r\n");
			while (b.n < lengths[k] - 52 + shift)
				buf_put_str(&b, " ");
			buf_put_str(&b, "\r\nAuthentication-Results: mx.demo.test; spf=pass\r\n\r\nbody\r\n");
			judge_slice(buf_slice(&b), false);
			ck_assert_uint_eq(got.range_count, 1);
			ck_assert(!got.form.ranges_overflow && got.form.header_sane);
			buf_fini(&b);
		}
	/* With the empty line an octet below the limit, and as long as it: whether that is all cannot be told. */
	for (size_t n = VERIFY_HEADER_BYTES_MAX - 1; n <= VERIFY_HEADER_BYTES_MAX + 1; n++) {
		buf_init(&b, 4 << 20);
		buf_put_str(&b, "X:\r\n");
		while (b.n < n - 64)
			buf_put_str(&b, " x\r\n");
		while (b.n < n - 4)
			buf_put_str(&b, " ");
		buf_put_str(&b, "\r\n\r\nbody\r\n");
		judge_slice(buf_slice(&b), false);
		ck_assert_int_eq(got.form.header_sane, n < VERIFY_HEADER_BYTES_MAX);
		buf_fini(&b);
	}
	buf_init(&b, 4 << 20);
	while (b.n <= VERIFY_HEADER_BYTES_MAX)
		buf_put_str(&b, "X: 345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678"
				"9012345678901234567890\r\n");
	buf_put_str(&b, "Authentication-Results: mx.demo.test; spf=pass\r\n\r\nbody\r\n");
	judge_slice(buf_slice(&b), true);
	ck_assert(got.form.ranges_overflow && !got.form.header_sane);
	buf_fini(&b);
}
END_TEST

/* ---- the checks ---- */

static void
usual_zone(void)
{
	fake_dns_init(&dns);
	fake_txt(&dns, "example.com", "v=spf1 ip4:192.0.2.1 -all");
	fake_txt(&dns, "_dmarc.example.com", "v=DMARC1; p=reject");
	fake_txt(&dns, "mail.example.com", "v=spf1 a -all");
	fake_row(&dns, "mail.example.com", DNS_A)->data = SLICE("\300\0\2\1");
}

START_TEST(test_pass)
{
	usual_zone();
	facts.mail_from = SLICE("joe@example.com");
	judge("From: joe@example.com\r\nSubject: x\r\n\r\nbody\r\n", true);
	ck_assert(got.full);
	ck_assert_int_eq(got.helo.result, SPF_RESULT_PASS);
	ck_assert_int_eq(got.mail_from.result, SPF_RESULT_PASS);
	ck_assert_int_eq(got.dmarc.result, DMARC_RESULT_PASS);
	ck_assert(got.dmarc.spf_aligned && got.dmarc.dkim_aligned == 0);
	ck_assert(slice_eq(got.authres, SLICE("Authentication-Results: mx.demo.test;\r\n"
					      "\tspf=pass reason=\"ip4:192.0.2.1\" smtp.mailfrom=example.com;\r\n"
					      "\tspf=pass reason=a smtp.helo=mail.example.com;\r\n"
					      "\tdkim=none;\r\n"
					      "\tdmarc=pass (p=reject) header.from=example.com policy.dmarc=reject\r\n")));
}
END_TEST

/* D-07: a pass of HELO alone authenticates nobody; with a null path it is the MAIL FROM identity. */
START_TEST(test_null_path)
{
	usual_zone();
	facts.mail_from = SLICE("joe@other.example");
	judge("From: joe@example.com\r\n\r\nbody\r\n", true);
	ck_assert_int_eq(got.helo.result, SPF_RESULT_PASS);
	ck_assert_int_eq(got.dmarc.result, DMARC_RESULT_FAIL);
	ck_assert_int_eq(got.dmarc.policy, DMARC_POLICY_REJECT);
	facts.mail_from = slice_of(NULL, 0);
	judge("From: joe@example.com\r\n\r\nbody\r\n", true);
	ck_assert_int_eq(got.mail_from.result, SPF_RESULT_PASS);
	ck_assert_int_eq(got.dmarc.result, DMARC_RESULT_PASS);
	facts.mail_from = SLICE("joe@example.com");
}
END_TEST

/* RFC 5321 4.1.2, RFC 7208 7.2: however the local part is quoted, %{l} is the same. */
START_TEST(test_quoted_local_part)
{
	static const struct {
		struct slice mail_from;
		const char *asked;
	} rows[] = {
	    {SLICE("joe@example.com"), "joe.l.example.com"},
	    {SLICE("\"joe\"@example.com"), "joe.l.example.com"},
	    {SLICE("\"j\\o\\\\e\"@example.com"), "jo\\e.l.example.com"},
	    {SLICE("\"a@b\\\"\"@example.com"), "a@b\".l.example.com"},
	    {SLICE("\"\"@example.com"), "postmaster.l.example.com"},
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		fake_dns_init(&dns);
		fake_txt(&dns, "example.com", "v=spf1 exists:%{l}.l.example.com -all");
		fake_row(&dns, rows[i].asked, DNS_A)->data = SLICE("\177\0\0\2");
		facts.mail_from = rows[i].mail_from;
		judge("From: joe@example.com\r\n\r\nbody\r\n", true);
		ck_assert_msg(got.mail_from.result == SPF_RESULT_PASS, "%s", rows[i].asked);
	}
	facts.mail_from = SLICE("joe@example.com");
}
END_TEST

/* D-08: no author, several: reported, not evaluated. */
START_TEST(test_authors)
{
	static const struct {
		const char *header, *reason;
	} rows[] = {
		{"Subject: x\r\n\r\n", "no From field"},
		{"From: a@example.com\r\nFrom: a@example.com\r\n\r\n", "several From fields"},
		{"From: g:;\r\n\r\n", "no author"},
		{"From: a@example.com, b@example.org\r\n\r\n", "authors of several domains"},
		{"From: a\r\n\r\n", "author has no domain"},
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		usual_zone();
		judge(rows[i].header, true);
		ck_assert_int_eq(got.dmarc.result, DMARC_RESULT_NONE);
		ck_assert(slice_eq(got.dmarc.reason, slice_str(rows[i].reason)));
	}
	usual_zone();
	judge("From: a@example.com, b@EXAMPLE.com\r\n\r\n", true);
	ck_assert_int_eq(got.dmarc.result, DMARC_RESULT_PASS);
}
END_TEST

/* Whatever size the field has, within what a header may have. */
START_TEST(test_large_author)
{
	static char header[VERIFY_HEADER_BYTES_MAX];
	static const struct {
		const char *begin, *end;
	} rows[] = {{"From: joe@example.org(", ")\r\n\r\n"}, {"From: \"", "\" <joe(c)@example.org>\r\n\r\n"}, {"From: (", ") joe@ example . org\r\n\r\n"}};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		size_t n = (size_t)snprintf(header, sizeof header, "%s", rows[i].begin), end = strlen(rows[i].end);

		for (; n + 2 + end < sizeof header; n += 2)
			memcpy(header + n, "\\x", 2);
		(void)snprintf(header + n, sizeof header - n, "%s", rows[i].end);
		usual_zone();
		judge(header, false);
		ck_assert_msg(slice_eq(got.form.from_domain, SLICE("example.org")), "row %zu", i);
	}
}
END_TEST

/* Temporary failures are results. */
START_TEST(test_temporary)
{
	fake_status(&dns, "*", DNS_TEMP);
	judge("DKIM-Signature: v=1; a=rsa-sha256; d=example.com; s=s; h=from; bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;"
	      " b=AAAA\r\nFrom: joe@example.com\r\n\r\nbody\r\n", true);
	ck_assert_int_eq(got.helo.result, SPF_RESULT_TEMPERROR);
	ck_assert_int_eq(got.mail_from.result, SPF_RESULT_TEMPERROR);
	ck_assert_uint_eq(got.dkim_count, 1);
	ck_assert_int_eq(got.dkim[0].result, DKIM_RESULT_TEMPERROR);
	ck_assert_int_eq(got.dmarc.result, DMARC_RESULT_TEMPERROR);
}
END_TEST

static void
stop_loop(void *arg)
{
	(void)arg;
	loop_stop(loop);
}

/* A resolver that never answers: both stages end in time, and nothing is left asked. */
START_TEST(test_time_limit)
{
	struct loop_timer *stop = loop_timer_new(loop, stop_loop, NULL);
	uint64_t began = clock_ms();

	struct verify *v = begin(SLICE("DKIM-Signature: v=1; a=rsa-sha256; d=example.com; s=s; h=from;"
				       " bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=; b=AAAA\r\n"
				       "From: joe@example.com\r\n\r\nbody\r\n"), true, 0);
	ck_assert(!ended);
	loop_timer_set(stop, 1000);
	loop_run(loop);
	ck_assert(ended);
	ck_assert_uint_ge(clock_ms() - began, 300);
	ck_assert_int_eq(got.mail_from.result, SPF_RESULT_TEMPERROR);
	ck_assert_int_eq(got.dkim[0].result, DKIM_RESULT_TEMPERROR);
	ck_assert_int_eq(got.dmarc.result, DMARC_RESULT_TEMPERROR);
	ck_assert_uint_eq(dns.pending_count, 0);
	verify_free(&v);
	v = begin(SLICE("From: joe@example.com\r\n\r\nbody\r\n"), true, 0);
	verify_free(&v);
	ck_assert_uint_eq(dns.pending_count, 0);
	loop_timer_free(&stop);
}
END_TEST

/* The file is not what was announced. */
START_TEST(test_wrong_size)
{
	for (int off = -1; off <= 1; off += 2) {
		struct verify *v = begin(SLICE("From: joe@example.com\r\n\r\nbody\r\n"), true, off);

		ck_assert(ended);
		ck_assert_int_eq(err.class, ERR_TEMP);
		ck_assert_uint_eq(dns.pending_count, 0);
		verify_free(&v);
	}
}
END_TEST

/* Every limit at once still fits the answer. */
START_TEST(test_largest_verdict)
{
	struct buf b;

	usual_zone();
	buf_init(&b, 2 << 20);
	for (int i = 0; i < 20; i++) {
		buf_put_str(&b, "DKIM-Signature: v=1; a=rsa-sha256; bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=; h=from; b=");
		for (int k = 0; k < 300; k++)
			buf_put_str(&b, "/");
		buf_put_str(&b, "; d=");
		for (int k = 0; k < 60; k++)
			buf_put_str(&b, "abc.");
		buf_put_str(&b, "example; s=");
		for (int k = 0; k < 60; k++)
			buf_put_str(&b, "def.");
		buf_put_str(&b, "s; i=\"\\\"\\\"\\\"@x\r\n");
	}
	buf_put_str(&b, "From: a@example.com\r\n\r\n");
	judge_slice(buf_slice(&b), true);
	ck_assert_uint_eq(got.dkim_count, DKIM_SIGNATURES_MAX);
	ck_assert(got.authres.n > 100);
	buf_fini(&b);
}
END_TEST

int
main(void)
{
	const TTest *const tests[] = {test_form, test_long_lines_and_nul, test_stray_octets, test_ranges, test_tls_required, test_recoding,
	    test_ranges_overflow, test_header_lengths, test_pass, test_null_path, test_quoted_local_part, test_authors, test_large_author, test_temporary,
	    test_time_limit, test_wrong_size, test_largest_verdict};
	Suite *s = suite_create("verify");
	TCase *t = tcase_create("verify");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++)
		tcase_add_test(t, tests[i]);
	tcase_add_loop_test(t, test_forms, 0, sizeof forms / sizeof forms[0]);
	tcase_set_timeout(t, 60);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
