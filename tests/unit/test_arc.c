/* ARC without keys: canonical forms, what sealers say, the form of chains. Signatures: tests/instance/test_arc.py. */
#include "smtpd/arc_check.h"
#include "smtpd/dkim_canon.h"
#include "tests/unit/fake_dns.h"
#include "tests/unit/played.h"

#include <check.h>

#define DATE 1600000000
#define SIGNATURE "a=rsa-sha256; d=x.example; s=k; b=AAAA"
#define AAR(n) "ARC-Authentication-Results: i=" n "; x.example; none\r\n"
#define AMS(n) "ARC-Message-Signature: i=" n "; " SIGNATURE "; bh=AAAA; h=from\r\n"
#define AS(n, cv) "ARC-Seal: i=" n "; " SIGNATURE "; cv=" cv "\r\n"
#define SET(n, cv) AAR(n) AMS(n) AS(n, cv)

START_TEST(test_field)
{
	/* RFC 6376 3.4.5 */
	static const struct {
		const char *field, *simple, *relaxed;
	} rows[] = {
	    {"A: X\r\n", "A: X\r\n", "a:X\r\n"},
	    {"B : Y\t\r\n\tZ  \r\n", "B : Y\t\r\n\tZ  \r\n", "b:Y Z\r\n"},
	    {"C:", "C:\r\n", "c:\r\n"},
	    {"C:  \r\n  \r\n", "C:  \r\n  \r\n", "c:\r\n"},
	};
	static const struct {
		const char *field, *simple, *relaxed;
	} own[] = {
	    {"S: a=1; b=xx\r\n yy ; c=2\r\n", "S: a=1; b=; c=2", "s:a=1; b=; c=2"},
	    {"S: b=x", "S: b=", "s:b="},
	    {"S: bh=b=; b = x=\r\n", "S: bh=b=; b =", "s:bh=b=; b ="},
	    {"S: a=b; ", "S: a=b; ", "s:a=b;"},
	};
	struct buf b;

	buf_init(&b, 1000);
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		for (int relaxed = 0; relaxed < 2; relaxed++) {
			buf_reset(&b);
			dkim_canon_field(slice_str(rows[i].field), relaxed, &b);
			ck_assert_msg(slice_eq(buf_slice(&b), slice_str(relaxed ? rows[i].relaxed : rows[i].simple)), "field %zu %d", i, relaxed);
			buf_reset(&b);
			dkim_canon_own_field(slice_str(own[i].field), relaxed, &b);
			ck_assert_msg(slice_eq(buf_slice(&b), slice_str(relaxed ? own[i].relaxed : own[i].simple)), "own %zu %d: %.*s", i,
			    relaxed, (int)b.n, (char *)b.p);
		}
	buf_fini(&b);
}
END_TEST

static bool
hashes_as(const char *body, size_t piece, bool relaxed, const char *want)
{
	struct dkim_body b;
	uint8_t got[32], wanted[32];

	dkim_body_init(&b, relaxed);
	for (size_t at = 0; at < strlen(body); at += piece)
		dkim_body_feed(&b, slice_sub(slice_str(body), at, at + piece));
	dkim_body_end(&b, got);
	dkim_body_fini(&b);
	ck_assert_int_eq(EVP_Digest(want, strlen(want), wanted, NULL, EVP_sha256(), NULL), 1);
	return memcmp(got, wanted, 32) == 0;
}

START_TEST(test_body)
{
	static const struct {
		const char *body, *simple, *relaxed;
	} rows[] = {
	    {" C \r\nD \t E\r\n\r\n\r\n", " C \r\nD \t E\r\n", " C\r\nD E\r\n"}, /* RFC 6376 3.4.5 */
	    {"", "\r\n", ""},
	    {"\r\n\r\n", "\r\n", ""},
	    {" \t\r\n\r\n", " \t\r\n", ""},
	    {"a", "a\r\n", "a\r\n"},
	    {"a\r", "a\r\r\n", "a\r\r\n"}, /* a CR alone ends no line */
	    {"\r", "\r\r\n", "\r\r\n"},
	    {"a\r\n\r", "a\r\n\r\r\n", "a\r\n\r\r\n"},
	    {"a\n", "a\n\r\n", "a\n\r\n"},
	    {"a\r\n\r\n b", "a\r\n\r\n b\r\n", "a\r\n\r\n b\r\n"},
	    {"a\r\n  \r\nb\r\n", "a\r\n  \r\nb\r\n", "a\r\n\r\nb\r\n"},
	    {"a\rb\nc\r\r\n", "a\rb\nc\r\r\n", "a\rb\nc\r\r\n"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		for (size_t piece = 1; piece < 4; piece++) {
			ck_assert_msg(hashes_as(rows[i].body, piece, false, rows[i].simple), "row %zu simple", i);
			ck_assert_msg(hashes_as(rows[i].body, piece, true, rows[i].relaxed), "row %zu relaxed", i);
		}
}
END_TEST

START_TEST(test_results)
{
	static const struct {
		const char *text;
		bool want;
	} rows[] = {
	    {" x.example; dmarc=pass header.from=a.example", true},
	    {" x.example; spf=fail; DMARC = Pass (p=none) header.from = A.Example policy.x=y", true},
	    {"x.example 1;\r\n\tdmarc=pass\r\n\theader.from=\"a.example\"", true},
	    {"x.example; dmarc(c)=(c)pass (d) header.from(e)=(f) a.example;", true},
	    {"x.example; dmarc=fail header.from=a.example", false},
	    {"x.example; dmarc=pass header.from=b.example", false},
	    {"x.example; dmarc=pass header.from=xa.example", false},
	    {"x.example; dmarc=pass; spf=pass header.from=a.example", false},
	    {"x.example; xdmarc=pass header.from=a.example", false},
	    {"x.example; spf=pass dmarc=pass header.from=a.example", false},
	    {"dmarc=pass header.from=a.example", false},
	    {"x.example; spf=fail (; dmarc=pass header.from=a.example)", false},
	    {"x.example; spf=fail (\\); dmarc=pass header.from=a.example)", false},
	    {"x.example; spf=fail ((); dmarc=pass header.from=a.example", false},
	    {"x.example; spf=fail reason=\"; dmarc=pass header.from=a.example\"", false},
	    {"x.example; spf=fail reason=\"\\\"; dmarc=pass header.from=a.example", false},
	    {"x.example; dmarc=pass reason=\" header.from=a.example\"", false},
	    {"x.example; dmarc=pass reason=\"header.from=a.example\"", false},
	    {"x.example; \"dmarc=pass\" header.from=a.example", false},
	    {"x.example; dmarc=pass header.from=a.example\"", false},
	    {"", false},
	    {";;;", false},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		ck_assert_msg(arc_results_dmarc_pass(slice_str(rows[i].text), SLICE("a.example")) == rows[i].want, "row %zu", i);
	ck_assert(!arc_results_dmarc_pass(SLICE("x; dmarc=pass header.from="), SLICE("")));
}
END_TEST

static struct arc_outcome told;
static unsigned called, told_again;
static struct answers *written; /* what the DNS told; NULL: not judged again */

static void
on_again(void *arg, const struct arc_outcome *o)
{
	(void)arg;
	ck_assert(o->result == told.result && slice_eq(o->reason, told.reason) && o->sets == told.sets &&
	    o->oldest_pass == told.oldest_pass && o->sealer_count == told.sealer_count);
	told_again++;
}

/* From its evidence and what the DNS told it, the verdict comes out the same. */
static void
judge_again(const struct arc_evidence *e)
{
	struct answers *a = played(written);
	struct arc_check *c;

	told_again = 0;
	c = arc_check_again(answers_asker(a), DATE, e, SLICE("x.example"), on_again, NULL);
	arc_check_end(c);
	answers_play(a);
	arc_check_expire(c);
	ck_assert_uint_eq(told_again, 1);
	arc_check_free(&c);
	answers_free(&a);
}

static void
on_done(void *arg, const struct arc_outcome *o)
{
	(void)arg;
	told = *o;
	called++;
	if (written != NULL && !o->evidence->cut)
		judge_again(o->evidence);
}

static void
judge(struct fake_dns *dns, const char *header)
{
	written = answers_new(&dns->asker);

	struct arc_check *c = arc_check_new(answers_asker(written), DATE, on_done, NULL);

	called = 0;
	arc_check_header(c, slice_str(header), SLICE("x.example"));
	arc_check_body(c, SLICE("body\r\n"));
	arc_check_end(c);
	fake_dns_run(dns);
	ck_assert_uint_eq(called, 1);
	arc_check_free(&c);
	answers_free(&written);
}

/* As many octets of ARC fields are kept, no more. */
START_TEST(test_evidence_bound)
{
	static char header[ARC_EVIDENCE_BYTES_MAX + 65536];

	for (size_t extra = 0; extra < 2; extra++) {
		size_t n = (size_t)snprintf(header, sizeof(header), SET("1", "none") AMS("2"));
		struct fake_dns dns;
		struct arc_check *c;

		for (unsigned set = 2; n < ARC_EVIDENCE_BYTES_MAX - 12000; set++)
			n += (size_t)snprintf(header + n, sizeof(header) - n, "ARC-Authentication-Results: i=%u; x%*s\r\n", set, 10000, "");
		n += (size_t)snprintf(header + n, sizeof(header) - n, "ARC-Authentication-Results: i=9; x%*s\r\n",
		    (int)(ARC_EVIDENCE_BYTES_MAX + extra - n - 36), "");
		ck_assert_uint_eq(n, ARC_EVIDENCE_BYTES_MAX + extra);
		fake_dns_init(&dns);
		c = arc_check_new(&dns.asker, DATE, on_done, NULL);
		arc_check_header(c, slice_str(header), SLICE("x.example"));
		arc_check_end(c);
		ck_assert(told.evidence->cut == (extra == 1));
		ck_assert_uint_eq(told.evidence->fields.n == ARC_EVIDENCE_BYTES_MAX, extra == 0);
		arc_check_free(&c);
	}
}
END_TEST

/* RFC 8617 5.2 and the bounds: nothing is asked of the DNS for a chain whose form is wrong. */
START_TEST(test_structure)
{
	static const struct {
		const char *header;
		enum arc_result want;
		unsigned asked;
		const char *reason;
	} rows[] = {
	    {"From: a\r\n\r\n", ARC_RESULT_NONE, 0, ""},
	    {SET("1", "none"), ARC_RESULT_FAIL, 1, "no key"},
	    {SET("1", "none") SET("2", "pass"), ARC_RESULT_FAIL, 1, "no key"},
	    {SET("2", "pass") SET("1", "none"), ARC_RESULT_FAIL, 1, "no key"},
	    {SET("01", "none"), ARC_RESULT_FAIL, 1, "no key"},
	    {SET("1", "none") SET("50", "pass"), ARC_RESULT_FAIL, 0, "a set is not complete"},
	    {SET("1", "none") SET("51", "pass"), ARC_RESULT_FAIL, 0, "a field without instance"},
	    {SET("0", "none"), ARC_RESULT_FAIL, 0, "a field without instance"},
	    {SET("001", "none"), ARC_RESULT_FAIL, 0, "a field without instance"},
	    {SET("1", "pass"), ARC_RESULT_FAIL, 0, "cv= does not fit i="},
	    {SET("1", "none") SET("2", "none"), ARC_RESULT_FAIL, 0, "cv= does not fit i="},
	    {SET("1", "none") SET("2", "fail"), ARC_RESULT_FAIL, 0, "the chain was broken before"},
	    {SET("1", "none") AS("1", "none"), ARC_RESULT_FAIL, 0, "a field twice"},
	    {SET("1", "none") AAR("1"), ARC_RESULT_FAIL, 0, "a field twice"},
	    {AMS("1") AS("1", "none"), ARC_RESULT_FAIL, 0, "a set is not complete"},
	    {AAR("1") AS("1", "none"), ARC_RESULT_FAIL, 0, "a set is not complete"},
	    {AAR("1") AMS("1"), ARC_RESULT_FAIL, 0, "a set is not complete"},
	    {SET("2", "pass"), ARC_RESULT_FAIL, 0, "a set is not complete"},
	    {"ARC-Seal: x\r\n", ARC_RESULT_FAIL, 0, "malformed tag list"},
	    {AMS("1") AS("1", "none") "ARC-Authentication-Results: x.example; i=1; none\r\n", ARC_RESULT_FAIL, 0, "a field without instance"},
	    {AAR("1") AMS("1") "ARC-Seal: i=1; " SIGNATURE "; cv=none; h=from\r\n", ARC_RESULT_FAIL, 0, "a seal with h="},
	    {AAR("1") AS("1", "none") "ARC-Message-Signature: i=1; " SIGNATURE "; bh=AAAA; h=from:arc-seal\r\n", ARC_RESULT_FAIL, 0,
		"h= names ARC-Seal"},
	    {AAR("1") AS("1", "none") "ARC-Message-Signature: i=1; " SIGNATURE "; bh=AAAA; h=to\r\n", ARC_RESULT_FAIL, 0, "From is not signed"},
	    {AAR("1") AS("1", "none") "ARC-Message-Signature: i=1; l=5; " SIGNATURE "; bh=AAAA; h=from\r\n", ARC_RESULT_FAIL, 0,
		"a part of the body may be unsigned"},
	    {AAR("1") AS("1", "none") "ARC-Message-Signature: i=1; x=5; " SIGNATURE "; bh=AAAA; h=from\r\n", ARC_RESULT_FAIL, 0, "expired"},
	    {AAR("1") AS("1", "none") "ARC-Message-Signature: i=1; a=rsa-sha1; d=x; s=k; b=AAAA; bh=AAAA; h=from\r\n", ARC_RESULT_FAIL, 0,
		"rsa-sha1 is historic"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct fake_dns dns;

		fake_dns_init(&dns);
		judge(&dns, rows[i].header);
		ck_assert_msg(told.result == rows[i].want && dns.asked == rows[i].asked && slice_eq(told.reason, slice_str(rows[i].reason)),
		    "row %zu: %s, %u asked, %.*s", i, arc_result_name(told.result), dns.asked, (int)told.reason.n, (const char *)told.reason.p);
	}
}
END_TEST

/* Octets of all ARC fields at the bound and one over it; a header that is too large. */
START_TEST(test_bounds)
{
	static char header[ARC_BYTES_MAX + 65536];
	struct fake_dns dns;

	for (size_t extra = 0; extra < 2; extra++) {
		size_t n = 0, want = ARC_BYTES_MAX + extra;

		for (unsigned set = 1; set <= 12; set++)
			n += (size_t)snprintf(header + n, sizeof(header) - n, "ARC-Authentication-Results: i=%u; x%*s\r\n"
				"ARC-Message-Signature: i=%u; " SIGNATURE "; bh=AAAA; h=from\r\nARC-Seal: i=%u; " SIGNATURE "; cv=%s\r\n",
			    set, 10000, "", set, set, set == 1 ? "none" : "pass");
		n += (size_t)snprintf(header + n, sizeof(header) - n, "ARC-Seal: i=13; z=%*s\r\n", (int)(want - n - 20), "x");
		ck_assert_uint_eq(n, want);
		fake_dns_init(&dns);
		judge(&dns, header);
		ck_assert(told.result == ARC_RESULT_FAIL);
		ck_assert_msg(slice_eq(told.reason, SLICE("too much")) == (extra == 1), "%.*s", (int)told.reason.n, (const char *)told.reason.p);
	}
	size_t n = (size_t)snprintf(header, sizeof(header), "%s", SET("1", "none"));
	for (unsigned fields = 3; fields < DKIM_HEADER_FIELDS_MAX; fields++)
		n += (size_t)snprintf(header + n, sizeof(header) - n, "X: y\r\n");
	fake_dns_init(&dns);
	judge(&dns, header);
	ck_assert(slice_eq(told.reason, SLICE("no key")));
	(void)snprintf(header + n, sizeof(header) - n, "X: y\r\n");
	fake_dns_init(&dns);
	judge(&dns, header);
	ck_assert(slice_eq(told.reason, SLICE("header is too large")));
}
END_TEST

/* A key that cannot be had is no failure of the chain; freed while it waits. */
START_TEST(test_key_late)
{
	struct fake_dns dns;
	struct arc_check *c;

	fake_dns_init(&dns);
	fake_status(&dns, "k._domainkey.x.example", DNS_TEMP);
	judge(&dns, SET("1", "none"));
	ck_assert(told.result == ARC_RESULT_TEMPERROR);
	dns.refuse_at = dns.asked + 1;
	judge(&dns, SET("1", "none"));
	ck_assert(told.result == ARC_RESULT_TEMPERROR);
	fake_dns_init(&dns);
	c = arc_check_new(&dns.asker, DATE, on_done, NULL);
	arc_check_header(c, slice_str(SET("1", "none")), SLICE(""));
	arc_check_end(c);
	called = 0;
	arc_check_expire(c);
	ck_assert_uint_eq(called, 1);
	ck_assert(told.result == ARC_RESULT_TEMPERROR && dns.cancelled == 1);
	arc_check_free(&c);
	c = arc_check_new(&dns.asker, DATE, on_done, NULL);
	arc_check_header(c, slice_str(SET("1", "none")), SLICE(""));
	arc_check_free(&c);
	ck_assert_uint_eq(dns.cancelled, 2);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("arc");
	TCase *t = tcase_create("arc");
	SRunner *r;
	int failed;

	tcase_add_test(t, test_field);
	tcase_add_test(t, test_body);
	tcase_add_test(t, test_results);
	tcase_add_test(t, test_structure);
	tcase_add_test(t, test_bounds);
	tcase_add_test(t, test_evidence_bound);
	tcase_add_test(t, test_key_late);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? 0 : 1;
}
