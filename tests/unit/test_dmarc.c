/*
 * DMARC: records, tree walks, policies and alignment as RFC 9989 has them, each case a zone, an author and what SPF
 * and DKIM authenticated.
 */
#include "smtpd/dmarc.h"
#include "tests/unit/fake_dns.h"

#include <check.h>

static struct fake_dns dns;
static bool ended;
static struct dmarc_outcome got;
static char got_org[256], got_at[256], got_reason[128];
static char asked[64][256];
static unsigned asked_n;

static void
on_done(void *arg, const struct dmarc_outcome *o)
{
	ck_assert(arg == &dns && !ended);
	ended = true;
	got = *o;
	ck_assert(slice_cstr(o->org, got_org, sizeof got_org));
	ck_assert(slice_cstr(o->policy_domain, got_at, sizeof got_at));
	ck_assert(slice_cstr(o->reason, got_reason, sizeof got_reason));
}

/* ids: words "spf:NAME" and "dkim:NAME", "?" in front of one whose check ended in a temporary error. */
static void
evaluate(const char *author, const char *ids)
{
	struct dmarc_identifier list[32];
	struct dmarc_query q = {.author = slice_str(author), .identifiers = list};
	struct slice rest = slice_str(ids), word;

	while (slice_cut(&rest, ' ', &word)) {
		size_t colon = slice_index(word, ':');
		bool uncertain = word.n > 0 && word.p[0] == '?';

		if (colon < word.n)
			list[q.count++] = (struct dmarc_identifier){slice_sub(word, colon + 1, word.n),
			    word.p[uncertain] == 'd', uncertain};
	}
	ended = false;
	asked_n = 0;
	dns.asked = 0;
	dns.tickets = 0;
	struct dmarc_check *c = dmarc_check_new(&dns.asker, &q, on_done, &dns);
	dmarc_check_start(c);
	do {
		if (dns.pending_count > 0)
			memcpy(asked[asked_n++], dns.pending[0].name, 256);
		ck_assert_uint_le(dns.pending_count, 1);
	} while (fake_dns_step(&dns));
	ck_assert(ended);
	dmarc_check_free(&c);
}

/* ---- records ---- */

struct record_row {
	const char *text;
	bool is_record;
	const char *p, *sp, *np; /* NULL: absent */
	const char *flags;	 /* b bad policy, d strict DKIM, s strict SPF, t testing, y psd=y, n psd=n, r rua usable */
};

static const struct record_row record_rows[] = {
	{"v=DMARC1; p=reject", true, "reject", NULL, NULL, ""},
	{"v=DMARC1;p=none;sp=quarantine;np=reject", true, "none", "quarantine", "reject", ""},
	{"V = DMARC1 ; P = Reject ;", true, "reject", NULL, NULL, ""},
	{"v=DMARC1", true, NULL, NULL, NULL, "b"},
	{"v=DMARC1;", true, NULL, NULL, NULL, "b"},
	{"v=dmarc1; p=reject", false, NULL, NULL, NULL, ""},
	{"v=DMARC12; p=reject", false, NULL, NULL, NULL, ""},
	{"p=reject; v=DMARC1", false, NULL, NULL, NULL, ""},
	{" v=DMARC1; p=reject", false, NULL, NULL, NULL, ""},
	{"v=spf1 -all", false, NULL, NULL, NULL, ""},
	{"", false, NULL, NULL, NULL, ""},
	{"v", false, NULL, NULL, NULL, ""},
	{"v=DMARC1 p=reject", false, NULL, NULL, NULL, ""},
	{"v=DMARC1; p=maybe", true, NULL, NULL, NULL, "b"},
	{"v=DMARC1; p=reject; sp=x", true, "reject", NULL, NULL, "b"},
	{"v=DMARC1; p=reject; np=", true, "reject", NULL, NULL, "b"},
	{"v=DMARC1; p=reject; adkim=s; aspf=s; t=y", true, "reject", NULL, NULL, "dst"},
	{"v=DMARC1; p=reject; adkim=S; aspf=x; t=maybe", true, "reject", NULL, NULL, "d"},
	{"v=DMARC1; p=reject; psd=y", true, "reject", NULL, NULL, "y"},
	{"v=DMARC1; p=reject; psd=n", true, "reject", NULL, NULL, "n"},
	{"v=DMARC1; p=reject; psd=u", true, "reject", NULL, NULL, ""},
	/* removed tags and unknown ones are ignored */
	{"v=DMARC1; p=reject; pct=0; rf=afrf; ri=1; x=y; ;=; junk", true, "reject", NULL, NULL, ""},
	{"v=DMARC1; p=none; p=reject", true, "none", NULL, NULL, ""},
	{"v=DMARC1; p=none; rua=mailto:a@b.example!10m", true, "none", NULL, NULL, "r"},
	{"v=DMARC1; p=none; rua=bad,https://b.example/x", true, "none", NULL, NULL, "r"},
	{"v=DMARC1; p=none; rua=mailto:nobody", true, "none", NULL, NULL, ""},
	{"v=DMARC1; p=none; rua=a@b.example", true, "none", NULL, NULL, ""},
};

static void
check_policy(const char *want, bool has, enum dmarc_policy p, const char *text)
{
	if (want == NULL)
		ck_assert_msg(!has, "%s", text);
	else
		ck_assert_msg(has && strcmp(dmarc_policy_name(p), want) == 0, "%s", text);
}

START_TEST(test_records)
{
	const struct record_row *row = &record_rows[_i];
	struct dmarc_record r;
	char flags[8] = "";

	ck_assert_msg(dmarc_record_parse(slice_str(row->text), &r) == row->is_record, "%s", row->text);
	if (!row->is_record)
		return;
	check_policy(row->p, r.has_p, r.p, row->text);
	check_policy(row->sp, r.has_sp, r.sp, row->text);
	check_policy(row->np, r.has_np, r.np, row->text);
	snprintf(flags, sizeof flags, "%s%s%s%s%s%s", r.bad_policy ? "b" : "", r.strict_dkim ? "d" : "",
	    r.strict_spf ? "s" : "", r.testing ? "t" : "",
	    r.psd == DMARC_PSD_Y ? "y" : r.psd == DMARC_PSD_N ? "n" : "", r.rua_usable ? "r" : "");
	ck_assert_msg(strcmp(flags, row->flags) == 0, "%s: %s", row->text, flags);
}
END_TEST

/* ---- evaluation ---- */

struct row {
	const char *zone; /* NAME=RECORD, lines; the name without "_dmarc."; "!" temporary error, "+" the name exists */
	const char *author, *ids;
	const char *result, *policy, *org, *at;
};

#define REJECT "example.com=v=DMARC1; p=reject\n"
static const struct row rows[] = {
	/* no record, no DMARC */
	{"", "example.com", "spf:example.com", "none", "none", "example.com", ""},
	{"example.com=v=spf1 -all\n", "example.com", "spf:example.com", "none", "none", "example.com", ""},
	/* exact match needs no more than the record */
	{REJECT, "example.com", "spf:example.com", "pass", "reject", "", "example.com"},
	{REJECT, "example.com", "dkim:example.com", "pass", "reject", "", "example.com"},
	{REJECT, "EXAMPLE.com", "dkim:example.COM", "pass", "reject", "", "example.com"},
	{REJECT, "example.com", "", "fail", "reject", "", "example.com"},
	{REJECT, "example.com", "dkim:other.org", "fail", "reject", "example.com", "example.com"},
	{REJECT, "example.com", "dkim:badexample.com", "fail", "reject", "example.com", "example.com"},
	/* D-07: relaxed is the same organisational domain, either way */
	{REJECT, "example.com", "dkim:mail.example.com", "pass", "reject", "example.com", "example.com"},
	{REJECT, "a.example.com", "dkim:example.com", "pass", "reject", "example.com", "example.com"},
	{REJECT, "a.example.com", "spf:b.c.example.com", "pass", "reject", "example.com", "example.com"},
	{"example.com=v=DMARC1; p=reject; adkim=s\n", "a.example.com", "dkim:example.com", "fail", "reject",
	    "example.com", "example.com"},
	/* the fault of libopendmarc: strict, identifier is the organisational domain, own record */
	{"a.example.com=v=DMARC1; p=reject; adkim=s\n" REJECT, "a.example.com", "dkim:example.com", "fail", "reject", "",
	    "a.example.com"},
	{"example.com=v=DMARC1; p=reject; aspf=s\n", "example.com", "spf:mail.example.com dkim:x.example.com", "pass",
	    "reject", "example.com", "example.com"},
	/* and public suffixes without a list: co.uk has no record, so the fewest labels decide */
	{"a.co.uk=v=DMARC1; p=reject\n", "a.co.uk", "dkim:b.co.uk", "fail", "reject", "a.co.uk", "a.co.uk"},
	{"a.co.uk=v=DMARC1; p=reject\n", "a.co.uk", "dkim:x.a.co.uk", "pass", "reject", "a.co.uk", "a.co.uk"},
	/* D-03: psd=n is the organisational domain */
	{"b.example.com=v=DMARC1; p=none; psd=n\n" REJECT, "a.b.example.com", "dkim:c.b.example.com", "pass", "none",
	    "b.example.com", "b.example.com"},
	{"b.example.com=v=DMARC1; p=none; psd=n\n" REJECT, "a.b.example.com", "dkim:example.com", "fail", "none",
	    "b.example.com", "b.example.com"},
	{"b.example.com=v=DMARC1; p=none; psd=n\n" REJECT, "a.example.com", "dkim:b.example.com", "fail", "reject",
	    "example.com", "example.com"},
	/* psd=y: one label below it */
	{"com=v=DMARC1; p=reject; psd=y\n", "a.example.com", "dkim:b.example.com", "pass", "reject", "example.com", "com"},
	{"com=v=DMARC1; p=reject; psd=y\n", "a.example.com", "dkim:b.other.com", "fail", "reject", "example.com", "com"},
	{"com=v=DMARC1; p=reject; psd=y\nexample.com=v=DMARC1; p=none\n", "a.example.com", "", "fail", "none",
	    "example.com", "example.com"},
	{"example.com=v=DMARC1; p=reject; psd=y\n", "example.com", "dkim:a.example.com", "fail", "reject", "example.com",
	    "example.com"},
	/* across the jump: more than eight labels (D-01) */
	{"com=v=DMARC1; p=reject; psd=y\n", "a.b.c.d.e.f.g.h.i.j.example.com", "dkim:z.y.x.w.v.u.t.s.r.q.example.com",
	    "pass", "reject", "example.com", "com"},
	{"d.e.f.g.h.i.example.com=v=DMARC1; p=reject\n", "a.b.c.d.e.f.g.h.i.example.com", "", "none", "none",
	    "a.b.c.d.e.f.g.h.i.example.com", ""},
	/* the record in the middle is not the one, the organisational domain's is */
	{"m.example.com=v=DMARC1; p=none\n" REJECT, "a.m.example.com", "", "fail", "reject", "example.com", "example.com"},
	{"m.example.com=v=DMARC1; p=none\n" REJECT, "m.example.com", "", "fail", "none", "", "m.example.com"},
	/* sp, np (the author's existence decides) */
	{"example.com=v=DMARC1; p=reject; sp=none\n", "a.example.com", "", "fail", "none", "example.com", "example.com"},
	{"example.com=v=DMARC1; p=reject; sp=none\n", "example.com", "", "fail", "reject", "", "example.com"},
	{"example.com=v=DMARC1; p=none; np=reject\n+a.example.com\n", "a.example.com", "", "fail", "none", "example.com",
	    "example.com"},
	{"example.com=v=DMARC1; p=none; np=reject\n", "a.example.com", "", "fail", "reject", "example.com", "example.com"},
	{"example.com=v=DMARC1; p=none; sp=quarantine; np=reject\n+a.example.com\n", "a.example.com", "", "fail",
	    "quarantine", "example.com", "example.com"},
	{"example.com=v=DMARC1; p=none; np=reject\n", "example.com", "", "fail", "none", "", "example.com"},
	/* D-05 */
	{"example.com=v=DMARC1; p=reject; t=y\n", "example.com", "", "fail", "quarantine", "", "example.com"},
	{"example.com=v=DMARC1; p=quarantine; t=y\n", "example.com", "", "fail", "none", "", "example.com"},
	{"example.com=v=DMARC1; p=none; t=y\n", "example.com", "", "fail", "none", "", "example.com"},
	/* D-04 */
	{REJECT REJECT, "example.com", "spf:example.com", "none", "none", "example.com", ""},
	{REJECT "example.com=v=spf1 -all\nexample.com=junk\n", "example.com", "", "fail", "reject", "", "example.com"},
	{"example.com=p=reject; v=DMARC1\n", "example.com", "", "none", "none", "example.com", ""},
	/* 4.10.1: no valid policy */
	{"example.com=v=DMARC1\n", "example.com", "", "fail", "none", "", "example.com"},
	{"example.com=v=DMARC1; p=x\n", "example.com", "", "permerror", "none", "", "example.com"},
	{"example.com=v=DMARC1; p=x; rua=mailto:a@b.example\n", "example.com", "", "fail", "none", "", "example.com"},
	{"example.com=v=DMARC1; p=reject; sp=x; rua=mailto:a@b.example\n", "example.com", "", "fail", "none", "",
	    "example.com"},
	{"example.com=v=DMARC1; p=reject; sp=x\n", "example.com", "", "permerror", "none", "", "example.com"},
	/* D-09 */
	{"!example.com\n", "example.com", "spf:example.com", "temperror", "none", "", ""},
	{"!example.com\n", "a.example.com", "spf:a.example.com", "temperror", "none", "", ""},
	{"!com\nexample.com=v=DMARC1; p=reject\n", "example.com", "dkim:a.example.com", "temperror", "reject", "",
	    "example.com"},
	{"!com\nexample.com=v=DMARC1; p=reject\n", "example.com", "dkim:a.example.com spf:example.com", "pass", "reject", "",
	    "example.com"},
	{REJECT "!a.example.com\n", "example.com", "dkim:a.example.com", "temperror", "reject", "example.com", "example.com"},
	{REJECT "!a.example.com\n", "example.com", "dkim:a.example.com dkim:b.example.com", "pass", "reject", "example.com",
	    "example.com"},
	{REJECT "!other.org\n", "example.com", "dkim:other.org", "fail", "reject", "example.com", "example.com"},
	{REJECT, "example.com", "?dkim:example.com spf:other.org", "temperror", "reject", "example.com", "example.com"},
	{REJECT, "example.com", "?spf:a.example.com", "temperror", "reject", "example.com", "example.com"},
	{REJECT, "example.com", "?dkim:example.com spf:example.com", "pass", "reject", "", "example.com"},
	/* a failing look-up of somebody else's does not save a forged message from its fail */
	{REJECT, "example.com", "?dkim:evil.org ?spf:evil.org", "fail", "reject", "example.com", "example.com"},
	/* D-08: names */
	{"xn--bcher-kva.example=v=DMARC1; p=reject\n", "b\303\274cher.example", "spf:XN--bcher-kva.example", "pass",
	    "reject", "", "xn--bcher-kva.example"},
	{REJECT, "", "spf:example.com", "permerror", "none", "", ""},
	{REJECT, "[192.0.2.1]", "spf:example.com", "permerror", "none", "", ""},
	{REJECT, "example..com", "spf:example.com", "permerror", "none", "", ""},
	{REJECT, "example.com", "spf:example..com", "fail", "reject", "", "example.com"},
};

static void
load_zone(const char *zone)
{
	static char names[64][300];
	static char texts[64][300];
	struct slice rest = slice_str(zone), line;
	unsigned n = 0;

	fake_dns_init(&dns);
	while (slice_cut(&rest, '\n', &line)) {
		if (line.n == 0)
			continue;
		size_t equals = slice_index(line, '=');

		if (line.p[0] == '+') {
			ck_assert(slice_cstr(slice_sub(line, 1, line.n), names[n], 300));
			fake_status(&dns, names[n++], DNS_NODATA);
			continue;
		}
		bool temporary = line.p[0] == '!';
		snprintf(names[n], 300, "_dmarc.%.*s", (int)((temporary ? line.n : equals) - temporary),
		    (const char *)line.p + temporary);
		ck_assert(slice_cstr(slice_sub(line, equals + 1, line.n), texts[n], 300));
		if (temporary)
			fake_status(&dns, names[n], DNS_TEMP);
		else
			fake_txt(&dns, names[n], texts[n]);
		n++;
	}
}

START_TEST(test_evaluation)
{
	const struct row *r = &rows[_i];

	load_zone(r->zone);
	evaluate(r->author, r->ids);
	ck_assert_msg(strcmp(dmarc_result_name(got.result), r->result) == 0 &&
		strcmp(dmarc_policy_name(got.policy), r->policy) == 0 && strcmp(got_org, r->org) == 0 &&
		strcmp(got_at, r->at) == 0,
	    "row %d: %s, %s with\n%swanted %s %s org %s at %s\n   got %s %s org %s at %s (%s)", _i, r->author, r->ids,
	    r->zone, r->result, r->policy, r->org, r->at, dmarc_result_name(got.result), dmarc_policy_name(got.policy),
	    got_org, got_at, got_reason);
	/* The check has one name per question, and none twice. */
	for (unsigned i = 0; i < asked_n; i++)
		for (unsigned k = 0; k < i; k++)
			ck_assert_str_ne(asked[i], asked[k]);
}
END_TEST

/* 4.10's own example: eight questions. */
START_TEST(test_walk_questions)
{
	static const char *const want[] = {"_dmarc.a.b.c.d.e.f.g.h.i.j.mail.example.com", "_dmarc.g.h.i.j.mail.example.com",
	    "_dmarc.h.i.j.mail.example.com", "_dmarc.i.j.mail.example.com", "_dmarc.j.mail.example.com",
	    "_dmarc.mail.example.com", "_dmarc.example.com", "_dmarc.com"};

	load_zone("");
	evaluate("a.b.c.d.e.f.g.h.i.j.mail.example.com", "");
	ck_assert_uint_eq(asked_n, 8);
	for (unsigned i = 0; i < 8; i++)
		ck_assert_str_eq(asked[i], want[i]);
	/* With eight labels the second question has seven. */
	evaluate("a.b.c.d.e.f.g.h", "");
	ck_assert_uint_eq(asked_n, 8);
	ck_assert_str_eq(asked[1], "_dmarc.b.c.d.e.f.g.h");
}
END_TEST

/* Far-away identifiers cost nothing; many near ones share their walk. */
START_TEST(test_question_budget)
{
	load_zone(REJECT);
	evaluate("example.com", "dkim:a.b.c.d.e.f.g.evil.org dkim:b.c.d.e.f.g.evil.org dkim:c.d.evil.net");
	ck_assert_uint_eq(asked_n, 2);
	evaluate("example.com", "dkim:a.example.com dkim:b.example.com spf:a.example.com dkim:a.example.com");
	ck_assert_uint_eq(asked_n, 4);
	ck_assert_uint_eq(got.dkim_aligned, 3);
	ck_assert(got.spf_aligned);
	evaluate("a.b.c.d.e.f.g.h.example.com",
	    "dkim:1.b.c.d.e.f.g.h.example.com dkim:2.c.d.e.f.g.h.example.com dkim:3.d.e.f.g.h.example.com "
	    "dkim:4.e.f.g.h.example.com dkim:5.x.y.z.g.h.example.com dkim:6.example.com dkim:7.example.com "
	    "dkim:8.example.com dkim:9.example.com dkim:10.example.com dkim:11.example.com dkim:12.example.com");
	ck_assert_uint_le(asked_n, DMARC_WALK_QUERIES_MAX * (DMARC_IDENTIFIERS_MAX + 1));
	ck_assert_uint_eq(got.dkim_aligned, DMARC_IDENTIFIERS_MAX);
}
END_TEST

/* The longest name there is: "_dmarc." does not fit in front, so it has no record, its parents may. */
START_TEST(test_long_name)
{
	char name[254];

	for (size_t i = 0; i < 241; i++)
		name[i] = i % 2 ? '.' : 'a';
	memcpy(name + 241, ".example.com", 13);
	load_zone(REJECT);
	evaluate(name, "spf:example.com");
	ck_assert_int_eq(got.result, DMARC_RESULT_PASS);
}
END_TEST

/* Each question fails in turn, or cannot be asked: temperror, or a pass that did not need it. */
START_TEST(test_every_question_fails)
{
	for (unsigned refuse = 0; refuse < 2; refuse++)
		for (unsigned k = 1;; k++) {
			load_zone("example.com=v=DMARC1; p=none; np=reject\n");
			*(refuse ? &dns.refuse_at : &dns.fail_at) = k;
			evaluate("a.example.com", "dkim:b.example.com");
			if (dns.asked < k) {
				ck_assert_uint_gt(k, 4);
				ck_assert_int_eq(got.result, DMARC_RESULT_PASS);
				break;
			}
			ck_assert_int_eq(got.result, DMARC_RESULT_TEMPERROR);
		}
}
END_TEST

START_TEST(test_expire)
{
	struct dmarc_query q = {.author = SLICE("a.example.com")};

	for (unsigned k = 0; k < 3; k++) {
		load_zone(REJECT);
		ended = false;
		struct dmarc_check *c = dmarc_check_new(&dns.asker, &q, on_done, &dns);

		dmarc_check_start(c);
		for (unsigned i = 0; i < k; i++)
			fake_dns_step(&dns);
		if (k < 2) {
			dmarc_check_expire(c);
			ck_assert_int_eq(got.result, DMARC_RESULT_TEMPERROR);
			dmarc_check_expire(c);
		}
		dmarc_check_free(&c);
		ck_assert_uint_eq(dns.pending_count, 0);
	}
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("dmarc");
	TCase *t = tcase_create("dmarc");
	SRunner *r;
	int failed;

	tcase_add_loop_test(t, test_records, 0, sizeof record_rows / sizeof record_rows[0]);
	tcase_add_loop_test(t, test_evaluation, 0, sizeof rows / sizeof rows[0]);
	tcase_add_test(t, test_walk_questions);
	tcase_add_test(t, test_question_budget);
	tcase_add_test(t, test_long_name);
	tcase_add_test(t, test_every_question_fails);
	tcase_add_test(t, test_expire);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
