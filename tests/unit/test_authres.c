/*
 * Authentication-Results: what we write cannot be bent by what it reports, and forged ones are recognised in every
 * form (RFC 8601 5). Facts and verdicts survive their encoding, and nothing else is one.
 */
#include "smtpd/authres.h"
#include "smtpd/facts.h"
#include "tests/unit/each.h"


static char text[VERDICT_AUTHRES_BYTES_MAX + 1];

static const char *
render(const struct facts *f, const struct verdict *v)
{
	struct buf b;

	buf_init(&b, VERDICT_AUTHRES_BYTES_MAX);
	ck_assert(authres_render(f, v, &b));
	ck_assert(slice_cstr(buf_slice(&b), text, sizeof text));
	buf_fini(&b);
	return text;
}

static const struct facts facts = {.authserv_id = SLICE("mx.demo.test"),
    .hostname = SLICE("mx.demo.test"),
    .helo = SLICE("mail.example.com"),
    .mail_from = SLICE("joe@example.com")};

START_TEST(test_render)
{
	struct verdict v = {.full = true,
		.mail_from = {.result = SPF_RESULT_PASS, .domain = SLICE("example.com"), .mechanism = SLICE("ip4:192.0.2.0/24")},
		.helo = {.result = SPF_RESULT_NONE, .domain = SLICE("mail.example.com")},
		.dkim = {{.result = DKIM_RESULT_PASS,
			     .domain = SLICE("example.com"),
			     .selector = SLICE("s1"),
			     .algorithm = SLICE("rsa-sha256"),
			     .identity = SLICE("@example.com"),
			     .b_prefix = SLICE("aB3/+x==")},
		    {.result = DKIM_RESULT_FAIL, .reason = SLICE("body hash does not match"), .domain = SLICE("list.example")}},
		.dkim_count = 2,
		.dmarc = {.result = DMARC_RESULT_PASS,
		    .policy = DMARC_POLICY_REJECT,
		    .published = DMARC_POLICY_REJECT,
		    .author = SLICE("example.com"),
		    .policy_domain = SLICE("example.com")}};

	ck_assert_str_eq(render(&facts, &v),
	    "Authentication-Results: mx.demo.test;\r\n"
	    "\tspf=pass reason=\"ip4:192.0.2.0/24\" smtp.mailfrom=example.com;\r\n"
	    "\tspf=none smtp.helo=mail.example.com;\r\n"
	    "\tdkim=pass header.d=example.com header.s=s1 header.a=rsa-sha256\r\n"
	    "\theader.i=@example.com header.b=\"aB3/+x==\";\r\n"
	    "\tdkim=fail reason=\"body hash does not match\" header.d=list.example;\r\n"
	    "\tdmarc=pass (p=reject) header.from=example.com policy.dmarc=reject\r\n");
}
END_TEST

START_TEST(test_render_none)
{
	struct facts null_path = facts;
	struct verdict v = {.helo = {.result = SPF_RESULT_FAIL, .domain = SLICE("h.example"), .mechanism = SLICE("-all")},
		.dkim_skipped = 3,
		.dmarc = {.result = DMARC_RESULT_NONE, .reason = SLICE("no record")}};

	null_path.mail_from = slice_of(NULL, 0);
	ck_assert_str_eq(render(&null_path, &v),
	    "Authentication-Results: mx.demo.test;\r\n"
	    "\tspf=fail reason=-all smtp.helo=h.example;\r\n"
	    "\tdkim=none;\r\n"
	    "\tdkim=neutral reason=\"there are more signatures than are verified\";\r\n"
	    "\tdmarc=none reason=\"no record\"\r\n");
}
END_TEST

/* Values with all octets there are: still one field, of lines within limits, in printable ASCII. */
START_TEST(test_render_hostile)
{
	uint8_t all[255], quotes[255];
	struct verdict v = {.full = true, .dkim_count = DKIM_SIGNATURES_MAX};
	size_t column = 0;

	for (size_t i = 0; i < sizeof all; i++) {
		all[i] = (uint8_t)(i + (size_t)_i);
		quotes[i] = i % 2 ? '"' : '\\';
	}
	struct slice s = _i == 256 ? slice_of(quotes, 255) : slice_of(all, 255);
	v.mail_from = (struct verdict_spf){.result = SPF_RESULT_FAIL, .domain = s, .mechanism = s};
	v.helo = v.mail_from;
	for (int i = 0; i < DKIM_SIGNATURES_MAX; i++)
		v.dkim[i] = (struct dkim_signature){.domain = s, .selector = s, .identity = s, .b_prefix = s};
	v.dmarc.author = s;
	struct facts f = facts;
	f.smtputf8 = _i % 2;
	struct buf b;
	buf_init(&b, 1 << 20);
	ck_assert(authres_render(&f, &v, &b));
	for (size_t i = 0; i < b.n; i++) {
		uint8_t c = b.p[i];

		each_assert(c == '\r' || c == '\n' || c == '\t' || (c >= 0x20 && c < 0x7f));
		if (c == '\r') {
			ck_assert(b.p[i + 1] == '\n' && (i + 2 == b.n || b.p[i + 2] == '\t'));
			ck_assert_uint_le(column, 998);
			column = 0;
		} else {
			column++;
		}
	}
	ck_assert(b.p[b.n - 1] == '\n');
	buf_fini(&b);
}
END_TEST

struct claim_row {
	const char *value;
	bool ours;
};

static const struct claim_row claims[] = {
	{" mx.demo.test; spf=pass", true},
	{" MX.Demo.TEST ;none", true},
	{"mx.demo.test", true},
	{" mx.demo.test 1; dkim=pass", true},
	{" mx.demo.test (v) 1 (c);dkim=pass", true},
	{"\r\n\tmx.demo.test\r\n\t; dkim=pass", true},
	{" (a (nested) comment \\) still) mx.demo.test; x=y", true},
	{" \"mx.demo.test\"; x=y", true},
	{" \"mx.\\demo.test\"; x=y", true},
	{" \"mx.demo\r\n .test\"; x=y", false},
	{" \" mx.demo.test \"; x=y", true},
	{" mx.demo.test.; x=y", true},
	{" mx.demo.test(c); x=y", true},
	{" mx.demo.test=pass", true},
	{" mx.demo.test/1; x=y", true},
	/* cannot be read: taken for ours */
	{"", true},
	{" ;spf=pass", true},
	{" (unfinished mx.demo.test; x=y", true},
	{" \"unfinished; x=y", true},
	{" mx(c).demo.test; x=y", true},
	{" mx .demo.test; x=y", true},
	{" \"mx\".demo.test; x=y", true},
	{" mx\\.demo.test; x=y", true},
	/* others' */
	{" other.example; spf=pass", false},
	{" demo.test; spf=pass", false},
	{" xmx.demo.test; spf=pass", false},
	{" mx.demo.test.evil.example; spf=pass", false},
	{" (mx.demo.test) other.example; spf=pass", false},
	{" other.example 1; spf=pass", false},
	{" other.example (c) spf=pass", false},
	{" spf=pass (sender IP is 192.0.2.1) smtp.mailfrom=mx.demo.test", false},
};

START_TEST(test_claims)
{
	const struct claim_row *row = &claims[_i];

	ck_assert_msg(authres_claims(SLICE("authentication-RESULTS"), slice_str(row->value), SLICE("mx.demo.test")) == row->ours,
	    "%s", row->value);
	ck_assert(!authres_claims(SLICE("ARC-Authentication-Results"), slice_str(row->value), SLICE("mx.demo.test")));
}
END_TEST

START_TEST(test_claims_names)
{
	ck_assert(authres_claims(SLICE("Authentication-Results"), SLICE("b\303\274cher.example; x=y"), SLICE("xn--bcher-kva.example")));
	/* Deep comments are bounded. */
	char deep[4000];

	memset(deep, '(', sizeof deep);
	ck_assert(authres_claims(SLICE("Authentication-Results"), slice_of(deep, sizeof deep), SLICE("a.example")));
	/* What we write ourselves is ours. */
	struct verdict v = {.full = true};
	const char *own = render(&facts, &v);
	ck_assert(authres_claims(SLICE("Authentication-Results"), slice_str(own + 23), facts.authserv_id));
}
END_TEST

/* ---- encodings ---- */

START_TEST(test_facts)
{
	struct facts f = facts, g;
	struct buf b;

	f.smtputf8 = true;
	f.client_ip[15] = 7;
	buf_init(&b, FACTS_BYTES_MAX);
	ck_assert(facts_encode(&f, &b));
	ck_assert(facts_decode(buf_slice(&b), &g));
	ck_assert(slice_eq(f.helo, g.helo) && slice_eq(f.mail_from, g.mail_from) && slice_eq(f.hostname, g.hostname) &&
	    slice_eq(f.authserv_id, g.authserv_id) && g.smtputf8 && !g.submission && g.client_ip[15] == 7);
	for (size_t n = 0; n < b.n; n++)
		ck_assert(!facts_decode(slice_sub(buf_slice(&b), 0, n), &g));
	b.p[0]++;
	ck_assert(!facts_decode(buf_slice(&b), &g));
	b.p[0]--;
	b.p[1] |= 128;
	ck_assert(!facts_decode(buf_slice(&b), &g));
	static uint8_t longer[FACTS_TEXT_BYTES_MAX + 1];
	f.helo = slice_of(longer, FACTS_TEXT_BYTES_MAX);
	buf_reset(&b);
	ck_assert(facts_encode(&f, &b));
	f.helo.n++;
	buf_reset(&b);
	ck_assert(!facts_encode(&f, &b));
	buf_fini(&b);
}
END_TEST

static void
fill(struct verdict *v)
{
	memset(v, 0, sizeof *v);
	v->full = true;
	v->form = (struct verdict_form){.header_fields = 9, .from_fields = 1, .from_mailboxes = 2, .from_domain = SLICE("a.example"),
	    .from_address = SLICE("x@a.example"), .header_sane = true, .body_8bit = true};
	v->mail_from = (struct verdict_spf){SPF_RESULT_FAIL, SLICE("d.example"), SLICE("why not"), SLICE("-all")};
	v->dkim[0] = (struct dkim_signature){.result = DKIM_RESULT_POLICY, .domain = SLICE("e"), .partial = true, .key_bits = 2048};
	v->dkim_count = 1;
	v->dmarc = (struct verdict_dmarc){.result = DMARC_RESULT_FAIL, .policy = DMARC_POLICY_REJECT, .org = SLICE("o"),
	    .record = SLICE("v=DMARC1; p=reject")};
	v->authres = SLICE("Authentication-Results: x\r\n");
	v->ranges[0] = (struct verdict_range){10, 5};
	v->ranges[1] = (struct verdict_range){20, 1};
	v->range_count = 2;
}

START_TEST(test_verdict)
{
	static struct verdict v, w;
	struct buf b, again;

	fill(&v);
	buf_init(&b, VERDICT_BYTES_MAX);
	buf_init(&again, VERDICT_BYTES_MAX);
	ck_assert(verdict_encode(&v, &b));
	ck_assert(verdict_decode(buf_slice(&b), &w));
	ck_assert(verdict_encode(&w, &again));
	ck_assert(slice_eq(buf_slice(&b), buf_slice(&again)));
	ck_assert(w.full && w.form.from_mailboxes == 2 && w.dkim[0].key_bits == 2048 && w.ranges[1].offset == 20);
	ck_assert(slice_eq(w.dmarc.record, v.dmarc.record));
	for (size_t n = 0; n < b.n; n++)
		ck_assert(!verdict_decode(slice_sub(buf_slice(&b), 0, n), &w));
	buf_fini(&b);
	buf_fini(&again);
}
END_TEST

/* Every list full and every text at its maximum. */
static void
fill_all(struct verdict *v)
{
	static uint8_t octets[VERDICT_AUTHRES_BYTES_MAX + 1];
#define OF(n) slice_of(octets, (n))
	struct slice name = OF(VERDICT_TEXT_BYTES_MAX), tag = OF(DKIM_TAG_BYTES_MAX);

	memset(octets, 'x', sizeof octets);
	fill(v);
	v->form.from_domain = v->form.from_address = name;
	v->helo = v->mail_from = (struct verdict_spf){SPF_RESULT_FAIL, name, OF(SPF_EXPLANATION_BYTES_MAX), OF(SPF_MECHANISM_BYTES_MAX)};
	v->dkim_count = DKIM_SIGNATURES_MAX;
	for (unsigned i = 0; i < DKIM_SIGNATURES_MAX; i++)
		v->dkim[i] = (struct dkim_signature){.domain = tag, .selector = tag, .algorithm = tag, .identity = tag, .b_prefix = tag, .reason = tag};
	v->arc = (struct arc_outcome){.reason = name, .sealer_count = ARC_SEALERS_MAX};
	for (unsigned i = 0; i < ARC_SEALERS_MAX; i++)
		v->arc.sealers[i].domain = tag;
	v->dmarc = (struct verdict_dmarc){.author = name, .org = name, .policy_domain = name, .record = OF(DMARC_RECORD_BYTES_MAX), .reason = name};
	v->authres = OF(VERDICT_AUTHRES_BYTES_MAX);
	v->range_count = VERDICT_RANGES_MAX;
	for (unsigned i = 0; i < VERDICT_RANGES_MAX; i++)
		v->ranges[i] = (struct verdict_range){10 * i, 5};
	memset(&v->recoding, 0, sizeof v->recoding);
	v->recoding.count = SEVENBIT_CHANGES_MAX;
	for (unsigned i = 0; i < SEVENBIT_CHANGES_MAX; i++) {
		v->recoding.changes[i].offset = 10 * i;
		v->recoding.changes[i].become = i;
		v->recoding.changes[i].kind = (enum sevenbit_kind)(i % SEVENBIT_KINDS);
	}
}

/* Whatever is found of a message can be told; one octet more of a text cannot. */
START_TEST(test_largest_verdict)
{
	static struct verdict v, w;
	struct buf b;

	buf_init(&b, VERDICT_BYTES_MAX);
	fill_all(&v);
	ck_assert(verdict_encode(&v, &b));
	ck_assert(verdict_decode(buf_slice(&b), &w));
	ck_assert(w.range_count == VERDICT_RANGES_MAX && w.authres.n == VERDICT_AUTHRES_BYTES_MAX);
	ck_assert(w.recoding.count == SEVENBIT_CHANGES_MAX && memcmp(w.recoding.changes, v.recoding.changes, sizeof v.recoding.changes) == 0);
	buf_reset(&b);
	v.authres.n++;
	ck_assert(!verdict_encode(&v, &b));
	buf_fini(&b);
}
END_TEST

/* Ranges that overlap, touch, are empty or out of order are no verdict. */
START_TEST(test_verdict_ranges)
{
	static const struct verdict_range bad[][2] = {
	    {{10, 5}, {12, 1}}, {{10, 5}, {15, 1}}, {{10, 0}, {20, 1}}, {{20, 1}, {10, 1}}, {{10, UINT64_MAX}, {20, 1}},
	    {{10, UINT64_MAX - 5}, {20, 1}}};
	static struct verdict v;
	struct buf b;

	buf_init(&b, VERDICT_BYTES_MAX);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		fill(&v);
		memcpy(v.ranges, bad[i], sizeof bad[i]);
		buf_reset(&b);
		ck_assert(!verdict_encode(&v, &b));
		ck_assert(!verdict_decode(buf_slice(&b), &v));
	}
	fill(&v);
	v.recoding = (struct sevenbit_plan){.changes = {{20, 1, 0, SEVENBIT_BODY_QP}, {20, 1, 0, SEVENBIT_BODY_QP}}, .count = 2};
	buf_reset(&b);
	ck_assert(!verdict_encode(&v, &b));
	ck_assert(!verdict_decode(buf_slice(&b), &v));
	buf_fini(&b);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("authres");
	TCase *t = tcase_create("authres");
	SRunner *r;
	int failed;

	tcase_add_test(t, test_render);
	tcase_add_test(t, test_render_none);
	tcase_add_loop_test(t, test_render_hostile, 0, 257);
	tcase_add_loop_test(t, test_claims, 0, sizeof claims / sizeof claims[0]);
	tcase_add_test(t, test_claims_names);
	tcase_add_test(t, test_facts);
	tcase_add_test(t, test_verdict);
	tcase_add_test(t, test_largest_verdict);
	tcase_add_test(t, test_verdict_ranges);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
