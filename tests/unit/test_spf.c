/*
 * SPF: the cases of the RFC 7208 suite, and what they leave out: limits, macros of section 7.4, errors of the
 * DNS at every look-up, names outside ASCII.
 */
#include "common/mem.h"
#include "smtpd/answers.h"
#include "smtpd/spf.h"
#include "smtpd/spf_macro.h"
#include "smtpd/spf_record.h"
#include "tests/unit/fake_dns.h"

#include <arpa/inet.h>
#include <check.h>
#include <jansson.h>

#define CASES_PATH "../shared/spf/rfc7208-cases.json"

struct run {
	struct fake_dns dns;
	bool ended;
	bool played;
	enum spf_result result;
	char explanation[1024];
	char mechanism[512];
	unsigned lookups;
};

static struct run run;
static struct buf pool[FAKE_ROWS_MAX];
static unsigned pool_n;

static void
on_done(void *arg, const struct spf_outcome *o)
{
	struct run *r = arg;

	ck_assert(!r->ended);
	r->ended = true;
	r->result = o->result;
	r->lookups = o->lookups;
	ck_assert(slice_cstr(o->explanation, r->explanation, sizeof r->explanation));
	ck_assert(slice_cstr(o->mechanism, r->mechanism, sizeof r->mechanism));
}

static void
parse_ip(const char *text, uint8_t ip[16])
{
	memset(ip, 0, 16);
	if (strchr(text, ':') != NULL) {
		ck_assert_int_eq(inet_pton(AF_INET6, text, ip), 1);
		return;
	}
	ip[10] = ip[11] = 0xff;
	ck_assert_int_eq(inet_pton(AF_INET, text, ip + 12), 1);
}

static void
on_again(void *arg, const struct spf_outcome *o)
{
	(void)arg;
	ck_assert_str_eq(spf_result_name(o->result), spf_result_name(run.result));
	ck_assert(slice_eq(o->mechanism, slice_str(run.mechanism)));
	ck_assert(slice_eq(o->explanation, slice_str(run.explanation)));
	run.played = true;
}

/* What was written down of the answers leads to the same. */
static void
play_again(const struct answers *written, const struct spf_query *q)
{
	struct answers *a;
	struct spf_check *c;

	/* Only one that is longer than all that is kept. */
	if (answers_cut(written))
		return;
	a = answers_new(NULL);
	run.played = false;
	for (unsigned i = 0; i < answers_count(written); i++) {
		struct answers_item item = answers_item(written, i);

		ck_assert(answers_add(a, &item));
	}
	c = spf_check_new(answers_asker(a), q, on_again, NULL);
	spf_check_start(c);
	answers_play(a);
	spf_check_expire(c);
	ck_assert(run.played);
	spf_check_free(&c);
	answers_free(&a);
}

static const char *
check(const char *ip, const char *helo, const char *mail_from)
{
	struct spf_query q = {.helo = slice_str(helo), .receiver = SLICE("mx.receiver.example")};
	struct slice from = slice_str(mail_from);
	size_t at = slice_rindex(from, '@');

	parse_ip(ip, q.ip);
	q.local = at < from.n ? slice_sub(from, 0, at) : slice_of(NULL, 0);
	q.domain = from.n == 0 ? slice_str(helo) : at < from.n ? slice_sub(from, at + 1, from.n) : from;
	run.ended = false;
	run.dns.asked = 0;
	run.dns.tickets = 0;
	struct answers *written = answers_new(&run.dns.asker);
	struct spf_check *c = spf_check_new(answers_asker(written), &q, on_done, &run);
	spf_check_start(c);
	fake_dns_run(&run.dns);
	ck_assert(run.ended);
	spf_check_free(&c);
	play_again(written, &q);
	answers_free(&written);
	return spf_result_name(run.result);
}

static void
reset(void)
{
	for (unsigned i = 0; i < pool_n; i++)
		buf_fini(&pool[i]);
	pool_n = 0;
	fake_dns_init(&run.dns);
}

/* ---- the suite ---- */

/* Code points up to 255 stand for octets. */
static struct slice
octets(const json_t *text)
{
	struct buf *b = &pool[pool_n++];
	const uint8_t *p = (const uint8_t *)json_string_value(text);
	size_t n = json_string_length(text);

	ck_assert_uint_le(pool_n, FAKE_ROWS_MAX);
	buf_init(b, 65536);
	for (size_t i = 0; i < n; i++)
		if (p[i] < 0x80) {
			buf_put_u8(b, p[i]);
		} else {
			buf_put_u8(b, (uint8_t)((p[i] & 3) << 6 | (p[i + 1] & 0x3f)));
			i++;
		}
	return buf_slice(b);
}

static struct slice
txt_octets(const json_t *value)
{
	size_t i;
	json_t *part;

	if (json_is_string(value))
		return octets(value);
	struct buf *b = &pool[pool_n++];
	buf_init(b, 65536);
	json_array_foreach(value, i, part) {
		struct slice s = octets(part);
		buf_put_slice(b, s);
	}
	return buf_slice(b);
}

static const char *
no_dot(const json_t *name)
{
	struct buf *b = &pool[pool_n++];
	struct slice s = slice_str(json_string_value(name));

	buf_init(b, 1024);
	if (s.n > 0 && s.p[s.n - 1] == '.')
		s.n--;
	buf_put_slice(b, s);
	buf_put_u8(b, 0);
	return (const char *)b->p;
}

static void
add_address(const char *name, const json_t *value, uint16_t type)
{
	struct buf *b = &pool[pool_n++];
	uint8_t ip[16];

	ck_assert_int_eq(inet_pton(type == DNS_A ? AF_INET : AF_INET6, json_string_value(value), ip), 1);
	buf_init(b, 16);
	buf_put(b, ip, type == DNS_A ? 4 : 16);
	fake_row(&run.dns, name, type)->data = buf_slice(b);
}

static void
add_record(const char *name, const char *kind, const json_t *value, bool has_txt)
{
	if (strcmp(kind, "SPF") == 0 || strcmp(kind, "TXT") == 0) {
		bool none = json_is_string(value) && strcmp(json_string_value(value), "NONE") == 0;
		bool shown = strcmp(kind, "TXT") == 0 ? !none : !has_txt;

		fake_row(&run.dns, name, shown ? DNS_TXT : 99)->data = txt_octets(value);
	} else if (strcmp(kind, "A") == 0) {
		add_address(name, value, DNS_A);
	} else if (strcmp(kind, "AAAA") == 0) {
		add_address(name, value, DNS_AAAA);
	} else if (strcmp(kind, "MX") == 0) {
		struct fake_row *r = fake_row(&run.dns, name, DNS_MX);

		r->preference = (uint16_t)json_integer_value(json_array_get(value, 0));
		r->target = no_dot(json_array_get(value, 1));
	} else {
		bool cname = strcmp(kind, "CNAME") == 0;

		ck_assert(cname || strcmp(kind, "PTR") == 0);
		fake_row(&run.dns, name, cname ? DNS_CNAME : DNS_PTR)->target = no_dot(value);
	}
}

static bool
has_kind(const json_t *records, const char *kind)
{
	size_t i;
	json_t *r;

	json_array_foreach(records, i, r)
		if (json_object_get(r, kind) != NULL)
			return true;
	return false;
}

static void
load_zone(json_t *zone)
{
	const char *name, *kind;
	json_t *records, *r, *value;
	size_t i;

	reset();
	json_object_foreach(zone, name, records) {
		bool has_txt = has_kind(records, "TXT");

		json_array_foreach(records, i, r) {
			if (json_is_string(r)) {
				ck_assert_str_eq(json_string_value(r), "TIMEOUT");
				fake_status(&run.dns, name, DNS_TEMP);
				continue;
			}
			json_object_foreach(r, kind, value)
				add_record(name, kind, value, has_txt);
		}
	}
}

static bool
result_wanted(const json_t *want, const char *got)
{
	size_t i;
	json_t *w;

	if (json_is_string(want))
		return strcmp(json_string_value(want), got) == 0;
	json_array_foreach(want, i, w)
		if (strcmp(json_string_value(w), got) == 0)
			return true;
	return false;
}

/* True when the case went as it should. */
static bool
run_case(const char *name, json_t *test)
{
	const char *host = json_string_value(json_object_get(test, "host"));
	const char *got = check(host, json_string_value(json_object_get(test, "helo")),
	    json_string_value(json_object_get(test, "mailfrom")));
	const char *exp = json_string_value(json_object_get(test, "explanation"));
	bool ok = result_wanted(json_object_get(test, "result"), got);

	if (exp != NULL && ok && strcmp(got, "fail") == 0)
		ok = strcmp(run.explanation, strcmp(exp, "DEFAULT") == 0 ? "" : exp) == 0;
	if (!ok) {
		char *want = json_dumps(json_object_get(test, "result"), JSON_ENCODE_ANY);

		printf("%s: wanted %s \"%s\", got %s \"%s\" (%s)\n", name, want, exp ? exp : "", got,
		    run.explanation, run.mechanism);
		free(want);
	}
	return ok;
}

START_TEST(test_suite)
{
	json_error_t e;
	json_t *suite = json_load_file(CASES_PATH, JSON_ALLOW_NUL, &e), *scenario, *test;
	unsigned cases = 0, wrong = 0;
	const char *name;
	size_t i;

	ck_assert_msg(suite != NULL, "%s: %s", CASES_PATH, e.text);
	json_array_foreach(suite, i, scenario) {
		load_zone(json_object_get(scenario, "zonedata"));
		json_object_foreach(json_object_get(scenario, "tests"), name, test) {
			cases++;
			wrong += !run_case(name, test);
		}
	}
	reset();
	json_decref(suite);
	printf("spf: %u cases of RFC 7208, %u wrong\n", cases, wrong);
	ck_assert_uint_gt(cases, 100);
	ck_assert_uint_eq(wrong, 0);
}
END_TEST

/* ---- what the suite's file leaves open ---- */

static void
add_ip(const char *name, uint16_t type, const char *text)
{
	json_t *value = json_string(text);

	add_address(name, value, type);
	json_decref(value);
}

struct policy_row {
	const char *record;
	const char *ip;
	const char *want;
};

/* The records stand at d.example; see policy_zone(). */
static const struct policy_row policies[] = {
	/* versions (4.5) */
	{"v=spf1", "1.2.3.4", "neutral"},
	{"v=spf10 -all", "1.2.3.4", "none"},
	{"v=spf1-all", "1.2.3.4", "none"},
	{"V=SPF1 -ALL", "1.2.3.4", "fail"},
	{" v=spf1 -all", "1.2.3.4", "none"},
	/* the grammar of terms (4.6.1) */
	{"v=spf1 -all?", "1.2.3.4", "permerror"},
	{"v=spf1 all.", "1.2.3.4", "permerror"},
	{"v=spf1 all:x.example", "1.2.3.4", "permerror"},
	{"v=spf1 all/8", "1.2.3.4", "permerror"},
	{"v=spf1 ++all", "1.2.3.4", "permerror"},
	{"v=spf1 -all -", "1.2.3.4", "permerror"},
	{"v=spf1 ?redirect=r.example", "1.2.3.4", "permerror"},
	{"v=spf1 -all\tall", "1.2.3.4", "permerror"},
	{"v=spf1 foo", "1.2.3.4", "permerror"},
	{"v=spf1 foo:x.example -all", "1.2.3.4", "permerror"},
	{"v=spf1 default=pass -all", "1.2.3.4", "fail"},
	{"v=spf1 moo.cow-far_out=man:dog/cat ip4:1.2.3.4 -all", "1.2.3.4", "pass"},
	{"v=spf1 moo=%abc ip4:1.2.3.4 -all", "1.2.3.4", "permerror"},
	{"v=spf1 =x -all", "1.2.3.4", "permerror"},
	{"v=spf1 1x=y -all", "1.2.3.4", "permerror"},
	{"v=spf1 ip4:1.2.3.4 -all foo", "1.2.3.4", "permerror"},
	/* ip4, ip6 (5.6) */
	{"v=spf1 ip4:1.2.3.4/32 -all", "1.2.3.4", "pass"},
	{"v=spf1 ip4:1.2.3.0/24 -all", "1.2.3.4", "pass"},
	{"v=spf1 ip4:1.2.2.0/23 -all", "1.2.3.4", "pass"},
	{"v=spf1 ip4:1.2.4.0/23 -all", "1.2.3.4", "fail"},
	{"v=spf1 ip4:9.9.9.9/0 -all", "1.2.3.4", "pass"},
	{"v=spf1 ip4:1.2.3.4/032 -all", "1.2.3.4", "permerror"},
	{"v=spf1 ip4:1.2.3.4/33 -all", "1.2.3.4", "permerror"},
	{"v=spf1 ip4:1.2.3.4/ -all", "1.2.3.4", "permerror"},
	{"v=spf1 ip4:1.2.3.4//32 -all", "1.2.3.4", "permerror"},
	{"v=spf1 ip4:1.2.3 -all", "1.2.3.4", "permerror"},
	{"v=spf1 ip4:1.2.3.04 -all", "1.2.3.4", "permerror"},
	{"v=spf1 ip4 -all", "1.2.3.4", "permerror"},
	{"v=spf1 ip4/8 -all", "1.2.3.4", "permerror"},
	{"v=spf1 ip4: -all", "1.2.3.4", "permerror"},
	{"v=spf1 ip4:1.2.3.4 -all", "::ffff:1.2.3.4", "pass"},
	{"v=spf1 ip6:::/0 -all", "1.2.3.4", "fail"},
	{"v=spf1 ip6:::/0 -all", "::ffff:1.2.3.4", "fail"},
	{"v=spf1 ip6:2001:db8::/32 -all", "2001:db8::7", "pass"},
	{"v=spf1 ip6:2001:db8::/33 -all", "2001:db8:8000::7", "fail"},
	{"v=spf1 ip6:2001:db8::7 -all", "2001:db8::7", "pass"},
	{"v=spf1 ip6:2001:db8::/129 -all", "2001:db8::7", "permerror"},
	{"v=spf1 ip6:2001:db8::/00 -all", "2001:db8::7", "permerror"},
	{"v=spf1 ip6::CAFE::BABE -all", "2001:db8::7", "permerror"},
	{"v=spf1 ip4:9.9.9.9/0 ?all", "2001:db8::7", "neutral"},
	/* a (5.3) */
	{"v=spf1 a -all", "1.2.3.4", "pass"},
	{"v=spf1 a:h.example -all", "1.2.3.4", "fail"},
	{"v=spf1 a:h.example/24 -all", "1.2.3.4", "pass"},
	{"v=spf1 a:h.example/24//64 -all", "2001:db8::7", "pass"},
	{"v=spf1 a:h.example//128 -all", "2001:db8::7", "fail"},
	{"v=spf1 a:h.example/0 -all", "200.1.1.1", "pass"},
	{"v=spf1 a:h.example//0 -all", "1.2.3.4", "fail"},
	{"v=spf1 a:gone.example/0 -all", "1.2.3.4", "fail"},
	{"v=spf1 a:temp.example -all", "1.2.3.4", "temperror"},
	{"v=spf1 a:bogus.example -all", "1.2.3.4", "temperror"},
	{"v=spf1 a:h.example/ -all", "1.2.3.4", "permerror"},
	{"v=spf1 a:h.example/x -all", "1.2.3.4", "permerror"},
	{"v=spf1 a/24/64 -all", "1.2.3.4", "permerror"},
	{"v=spf1 a//129 -all", "1.2.3.4", "permerror"},
	{"v=spf1 a/-1 -all", "1.2.3.4", "permerror"},
	{"v=spf1 a:abc.123 -all", "1.2.3.4", "permerror"},
	{"v=spf1 a:museum. -all", "1.2.3.4", "permerror"},
	{"v=spf1 a:foo.example.xn--zckzah -all", "1.2.3.4", "fail"},
	{"v=spf1 a: -all", "1.2.3.4", "permerror"},
	{"v=spf1 a:.example -all", "1.2.3.4", "fail"},
	/* mx (5.4) */
	{"v=spf1 mx -all", "1.2.3.9", "pass"},
	{"v=spf1 mx -all", "1.2.3.4", "fail"},
	{"v=spf1 mx:eleven.example -all", "1.2.3.9", "permerror"},
	{"v=spf1 mx:ten.example -all", "1.2.3.9", "pass"},
	{"v=spf1 mx:tempmx.example -all", "1.2.3.9", "temperror"},
	{"v=spf1 mx:nullmx.example -all", "1.2.3.9", "fail"},
	/* hosts without an IPv6 address are no void look-ups of their own */
	{"v=spf1 mx:ten.example mx:ten.example mx:ten.example -all", "2001:db8::7", "fail"},
	/* include (5.2) */
	{"v=spf1 include:pass.example -all", "1.2.3.4", "pass"},
	{"v=spf1 -include:pass.example +all", "1.2.3.4", "fail"},
	{"v=spf1 include:fail.example ~all", "1.2.3.4", "softfail"},
	{"v=spf1 include:softfail.example ?all", "1.2.3.4", "neutral"},
	{"v=spf1 include:neutral.example -all", "1.2.3.4", "fail"},
	{"v=spf1 include:temp.example all", "1.2.3.4", "temperror"},
	{"v=spf1 include:perm.example all", "1.2.3.4", "permerror"},
	{"v=spf1 include:h.example all", "1.2.3.4", "permerror"},
	{"v=spf1 include:gone.example all", "1.2.3.4", "permerror"},
	{"v=spf1 include all", "1.2.3.4", "permerror"},
	{"v=spf1 include: all", "1.2.3.4", "permerror"},
	{"v=spf1 include:pass.example/24 all", "1.2.3.4", "permerror"},
	{"v=spf1 include:%{d}..example all", "1.2.3.4", "permerror"},
	/* redirect (6.1) */
	{"v=spf1 redirect=pass.example", "1.2.3.4", "pass"},
	{"v=spf1 redirect=fail.example", "1.2.3.4", "fail"},
	{"v=spf1 redirect=pass.example -all", "1.2.3.4", "fail"},
	{"v=spf1 redirect=pass.example ip4:9.9.9.9", "1.2.3.4", "pass"},
	{"v=spf1 redirect=gone.example", "1.2.3.4", "permerror"},
	{"v=spf1 redirect=h.example", "1.2.3.4", "permerror"},
	{"v=spf1 redirect=temp.example", "1.2.3.4", "temperror"},
	{"v=spf1 redirect=pass.example redirect=pass.example", "1.2.3.4", "permerror"},
	{"v=spf1 redirect=", "1.2.3.4", "permerror"},
	{"v=spf1 redirect:pass.example", "1.2.3.4", "permerror"},
	{"v=spf1 exp=e.example exp=e.example -all", "1.2.3.4", "permerror"},
	{"v=spf1 exp= -all", "1.2.3.4", "permerror"},
	{"v=spf1 exp=%{c}.example -all", "1.2.3.4", "permerror"},
	{"v=spf1 exp=temp.example -all", "1.2.3.4", "fail"},
	/* exists (5.7), ptr (5.5) */
	{"v=spf1 exists:h.example -all", "2001:db8::7", "pass"},
	{"v=spf1 exists:six.example -all", "2001:db8::9", "fail"},
	{"v=spf1 exists:temp.example -all", "1.2.3.4", "temperror"},
	{"v=spf1 exists:%{l1r-}.%{t}.example -all", "1.2.3.4", "permerror"},
	{"v=spf1 ptr:example -all", "1.2.3.4", "permerror"},
	{"v=spf1 ptr -all", "1.2.3.4", "pass"},
	{"v=spf1 ptr:h.example -all", "1.2.3.4", "fail"},
	{"v=spf1 ptr/0 -all", "1.2.3.4", "permerror"},
	{"v=spf1 ptr -all", "1.2.3.5", "fail"},
	/* of eleven names of the client ten are looked at, so the last is none of them (4.6.4) */
	{"v=spf1 ptr:tenth.example -all", "1.2.3.7", "pass"},
	{"v=spf1 ptr:eleventh.example -all", "1.2.3.7", "fail"},
	{"v=spf1 exists:%{p}.ok.example -all", "1.2.3.4", "pass"},
	{"v=spf1 exists:%{p}.ok.example -all", "1.2.3.5", "fail"},
	/* limits (4.6.4) */
	{"v=spf1 a:h.example a:h.example a:h.example a:h.example a:h.example a:h.example a:h.example a:h.example "
	 "a:h.example a:h.example ip4:1.2.3.4 -all", "1.2.3.4", "pass"},
	{"v=spf1 a:h.example a:h.example a:h.example a:h.example a:h.example a:h.example a:h.example a:h.example "
	 "a:h.example a:h.example a:h.example ip4:1.2.3.4 -all", "1.2.3.4", "permerror"},
	{"v=spf1 a:h.example a:h.example a:h.example a:h.example a:h.example a:h.example a:h.example a:h.example "
	 "a:h.example a:h.example redirect=pass.example", "1.2.3.4", "permerror"},
	{"v=spf1 a:h.example a:h.example a:h.example a:h.example a:h.example include:eight.example "
	 "ip4:1.2.3.4 -all", "1.2.3.4", "permerror"},
	{"v=spf1 redirect=d.example", "1.2.3.4", "permerror"},
	{"v=spf1 include:d.example", "1.2.3.4", "permerror"},
	{"v=spf1 a:gone.example a:gone2.example ip4:1.2.3.4 -all", "1.2.3.4", "pass"},
	{"v=spf1 a:gone.example a:gone2.example a:gone3.example ip4:1.2.3.4 -all", "1.2.3.4", "permerror"},
	{"v=spf1 a:gone.example mx:h.example exists:gone3.example ip4:1.2.3.4 -all", "1.2.3.4", "permerror"},
	/* macros that cannot be (7) */
	{"v=spf1 exists:%{a}.example -all", "1.2.3.4", "permerror"},
	{"v=spf1 exists:%{d0}.example -all", "1.2.3.4", "permerror"},
	{"v=spf1 exists:%{d.example -all", "1.2.3.4", "permerror"},
	{"v=spf1 exists:%d.example -all", "1.2.3.4", "permerror"},
	{"v=spf1 exists:x.example% -all", "1.2.3.4", "permerror"},
	{"v=spf1 exists:%{d2rr}.example -all", "1.2.3.4", "permerror"},
	{"v=spf1 exists:%{d!}.example -all", "1.2.3.4", "permerror"},
	{"v=spf1 a:%{h} -all", "1.2.3.4", "fail"},
};

static void
policy_zone(const char *record)
{
	static const char *const hosts[] = {"m0.example", "m1.example", "m2.example", "m3.example",
	    "m4.example", "m5.example", "m6.example", "m7.example", "m8.example", "m9.example", "m10.example"};
	struct fake_dns *d = &run.dns;

	reset();
	fake_txt(d, "d.example", "some other text");
	fake_txt(d, "d.example", record);
	add_ip("d.example", DNS_A, "1.2.3.4");
	fake_row(d, "d.example", DNS_MX)->target = "m9.example";
	add_ip("h.example", DNS_A, "1.2.3.200");
	add_ip("h.example", DNS_AAAA, "2001:db8::8");
	add_ip("six.example", DNS_AAAA, "2001:db8::8");
	fake_txt(d, "pass.example", "v=spf1 ip4:1.2.3.4 -all");
	fake_txt(d, "fail.example", "v=spf1 -all");
	fake_txt(d, "softfail.example", "v=spf1 ~all");
	fake_txt(d, "neutral.example", "v=spf1 ?all");
	fake_txt(d, "perm.example", "v=spf1 nonsense");
	fake_txt(d, "eight.example", "v=spf1 a:h.example a:h.example a:h.example a:h.example a:h.example");
	fake_status(d, "temp.example", DNS_TEMP);
	fake_status(d, "bogus.example", DNS_BOGUS);
	fake_row(d, "tempmx.example", DNS_MX)->target = "temp.example";
	fake_row(d, "nullmx.example", DNS_MX)->target = "";
	for (unsigned i = 0; i < 11; i++) {
		fake_row(d, "eleven.example", DNS_MX)->target = hosts[i];
		if (i < 10)
			fake_row(d, "ten.example", DNS_MX)->target = hosts[i];
		add_ip(hosts[i], DNS_A, i == 9 ? "1.2.3.9" : "9.9.9.9");
		fake_row(d, "7.3.2.1.in-addr.arpa", DNS_PTR)->target = i == 9 ? "h.tenth.example" : i == 10 ? "h.eleventh.example" : hosts[i];
	}
	add_ip("h.tenth.example", DNS_A, "1.2.3.7");
	add_ip("h.eleventh.example", DNS_A, "1.2.3.7");
	fake_row(d, "4.3.2.1.in-addr.arpa", DNS_PTR)->target = "temp.example";
	fake_row(d, "4.3.2.1.in-addr.arpa", DNS_PTR)->target = "h.example";
	fake_row(d, "4.3.2.1.in-addr.arpa", DNS_PTR)->target = "mail.d.example";
	add_ip("mail.d.example", DNS_A, "1.2.3.4");
	fake_row(d, "5.3.2.1.in-addr.arpa", DNS_PTR)->target = "mail.d.example";
	add_ip("mail.d.example.ok.example", DNS_A, "127.0.0.2");
}

START_TEST(test_policies)
{
	const struct policy_row *p = &policies[_i];

	policy_zone(p->record);
	const char *got = check(p->ip, "not a name", "user@d.example");
	ck_assert_msg(strcmp(got, p->want) == 0, "\"%s\" from %s: wanted %s, got %s (%s)", p->record, p->ip,
	    p->want, got, run.mechanism);
}
END_TEST

/* A name error, an empty answer, a temporary error for the record itself; names that are none (4.3, 4.4). */
START_TEST(test_initial)
{
	static const struct {
		const char *mail_from, *want;
	} rows[] = {
		{"a@gone.example", "none"},
		{"a@h.example", "none"},
		{"a@temp.example", "temperror"},
		{"a@bogus.example", "temperror"},
		{"a@localhost", "none"},
		{"a@d..example", "none"},
		{"a@[1.2.3.4]", "none"},
		{"a@d.example.", "fail"},
		{"a@b\303\274cher.example", "pass"},
		{"a@x\342\200\256y.example", "none"},
		{"@d.example", "fail"},
	};

	policy_zone("v=spf1 -all");
	fake_txt(&run.dns, "xn--bcher-kva.example", "v=spf1 exists:%{o}.seen.example -all");
	add_ip("xn--bcher-kva.example.seen.example", DNS_A, "127.0.0.2");
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		ck_assert_msg(strcmp(check("1.2.3.4", "h.example", rows[i].mail_from), rows[i].want) == 0,
		    "%s: wanted %s, got %s", rows[i].mail_from, rows[i].want, spf_result_name(run.result));
	ck_assert_str_eq(check("1.2.3.4", "d.example", ""), "fail");
}
END_TEST

/* RFC 8616 4: no term with %{l} or %{s} matches a local part outside ASCII. */
START_TEST(test_eai_local_part)
{
	policy_zone("v=spf1 exists:%{l}.x.example -all");
	fake_row(&run.dns, "*", DNS_A)->data = SLICE("\177\0\0\2");
	ck_assert_str_eq(check("1.2.3.4", "h.example", "joe@d.example"), "pass");
	ck_assert_str_eq(check("1.2.3.4", "h.example", "j\303\266e@d.example"), "fail");
	ck_assert_uint_eq(run.lookups, 1);
}
END_TEST

struct expansion_row {
	const char *macro, *want;
	bool v6;
};

/* RFC 7208 7.4, and delimiters, escaping, too many digits. */
static const struct expansion_row expansions[] = {
	{"%{s}", "strong-bad@email.example.com", false},
	{"%{o}", "email.example.com", false},
	{"%{d}", "email.example.com", false},
	{"%{d4}", "email.example.com", false},
	{"%{d3}", "email.example.com", false},
	{"%{d2}", "example.com", false},
	{"%{d1}", "com", false},
	{"%{dr}", "com.example.email", false},
	{"%{d2r}", "example.email", false},
	{"%{l}", "strong-bad", false},
	{"%{l-}", "strong.bad", false},
	{"%{lr}", "strong-bad", false},
	{"%{lr-}", "bad.strong", false},
	{"%{l1r-}", "strong", false},
	{"%{ir}.%{v}._spf.%{d2}", "3.2.0.192.in-addr._spf.example.com", false},
	{"%{lr-}.lp._spf.%{d2}", "bad.strong.lp._spf.example.com", false},
	{"%{ir}.%{v}.%{l1r-}.lp._spf.%{d2}", "3.2.0.192.in-addr.strong.lp._spf.example.com", false},
	{"%{ir}.%{v}._spf.%{d2}",
	    "1.0.B.C.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.B.D.0.1.0.0.2.ip6._spf.example.com", true},
	{"%{c}", "192.0.2.3", false},
	{"%{c}", "2001:db8::cb01", true},
	{"%{p}", "mx.example.org", false},
	{"%{S}", "strong-bad%40email.example.com", false},
	{"%{d99999999999999}", "email.example.com", false},
	{"%{D-.+}%%%_%-", "email.example.com% %20", false},
	{"%{t}", "12345", false},
	{"%{r} %{h}", "mx.receiver.example h e l o", false},
	{"100%%", "100%", false},
};

START_TEST(test_expansion)
{
	const struct expansion_row *row = &expansions[_i];
	uint8_t ip[16];
	struct spf_macro_values v = {.ip = ip,
		.local = SLICE("strong-bad"),
		.sender_domain = SLICE("email.example.com"),
		.domain = SLICE("email.example.com"),
		.validated = SLICE("mx.example.org"),
		.helo = SLICE("h e l o"),
		.receiver = SLICE("mx.receiver.example"),
		.now = 12345};
	struct buf b;
	char got[512];

	parse_ip(row->v6 ? "2001:db8::cb01" : "192.0.2.3", ip);
	buf_init(&b, 4096);
	ck_assert(spf_macro_string_valid(slice_str(row->macro), SPF_LETTERS_EXP, true));
	ck_assert(spf_macro_expand(slice_str(row->macro), &v, &b));
	ck_assert(slice_cstr(buf_slice(&b), got, sizeof got));
	/* The nibbles in the middle of the IPv6 example are as many as there are. */
	if (row->v6 && strstr(row->macro, "ir") != NULL) {
		ck_assert_uint_eq(strlen(got), strlen("1.0.B.C.") + 2 * 20 + strlen("8.B.D.0.1.0.0.2.ip6._spf.example.com"));
		ck_assert(strncmp(got, row->want, 8) == 0);
	} else {
		ck_assert_str_eq(got, row->want);
	}
	buf_fini(&b);
}
END_TEST

/* The explanation: whose it is, what it may contain, how long it may be (6.2, 11.5). */
START_TEST(test_explanation)
{
	static char longer[1200];

	policy_zone("v=spf1 exp=e.example include:inner.example -all");
	fake_txt(&run.dns, "inner.example", "v=spf1 exp=wrong.example -all");
	fake_txt(&run.dns, "wrong.example", "not me");
	fake_txt(&run.dns, "e.example", "%{i} is %{p}%_%{r}");
	ck_assert_str_eq(check("1.2.3.6", "x", "u@d.example"), "fail");
	ck_assert_str_eq(run.explanation, "1.2.3.6 is unknown mx.receiver.example");
	ck_assert_str_eq(run.mechanism, "-all");
	policy_zone("v=spf1 redirect=r.example exp=wrong.example");
	fake_txt(&run.dns, "r.example", "v=spf1 -all exp=e.example");
	fake_txt(&run.dns, "wrong.example", "not me");
	fake_txt(&run.dns, "e.example", "of %{d} for %{o}");
	ck_assert_str_eq(check("1.2.3.6", "x", "u@d.example"), "fail");
	ck_assert_str_eq(run.explanation, "of r.example for d.example");
	/* CVE-2023-42118 was an overflow here. */
	for (unsigned i = 0; i < 127; i++)
		memcpy(longer + 4 * i, "%{d}", 4);
	memset(longer + 508, 'x', 30);
	policy_zone("v=spf1 -all exp=e.example");
	fake_txt(&run.dns, "e.example", longer);
	ck_assert_str_eq(check("1.2.3.6", "x", "u@d.example"), "fail");
	ck_assert_uint_eq(strlen(run.explanation), SPF_EXPLANATION_BYTES_MAX);
	/* A local part cannot end a line of the reply. */
	policy_zone("v=spf1 -all exp=e.example");
	fake_txt(&run.dns, "e.example", "%{l}");
	ck_assert_str_eq(check("1.2.3.6", "x", "a\r\n250 ok\303\274@d.example"), "fail");
	ck_assert_str_eq(run.explanation, "a??250 ok??");
}
END_TEST

/* A memory bomb: names are cut to 253 octets, so the look-ups end it. */
START_TEST(test_growing_include)
{
	policy_zone("v=spf1 include:%{d}.%{d}.%{d} -all");
	fake_txt(&run.dns, "*", "v=spf1 include:%{d}.%{d}.%{d} -all");
	ck_assert_str_eq(check("1.2.3.6", "x", "u@other.example"), "permerror");
	ck_assert_uint_le(run.dns.asked, SPF_LOOKUPS_MAX + 1);
	ck_assert_uint_le(strlen(run.dns.last_name), SPF_NAME_BYTES_MAX);
}
END_TEST

/* Each question in turn is refused, then fails: never a pass or fail that depends on what was not known. */
START_TEST(test_every_lookup_fails)
{
	const char *record = "v=spf1 a:h.example mx:ten.example include:pass.example exists:%{p}.ok.example -all exp=e.example";

	for (unsigned refuse = 0; refuse < 2; refuse++)
		for (unsigned k = 1;; k++) {
			policy_zone(record);
			*(refuse ? &run.dns.refuse_at : &run.dns.fail_at) = k;
			const char *got = check("1.2.3.6", "x", "u@d.example");

			if (run.dns.asked < k) {
				ck_assert_uint_gt(k, 14);
				ck_assert_str_eq(got, "fail");
				break;
			}
			/* What follows the record itself, a, mx and include is about names only. */
			ck_assert_msg(strcmp(got, "temperror") == 0 || k > 14, "question %u: %s", k, got);
		}
}
END_TEST

/* Time is up at each question: temperror, nothing is left behind. */
START_TEST(test_expire)
{
	struct spf_query q = {.domain = SLICE("d.example")};

	for (unsigned k = 0; k < 12; k++) {
		policy_zone("v=spf1 a:h.example mx:ten.example -all exp=e.example");
		fake_txt(&run.dns, "e.example", "why");
		run.ended = false;
		struct spf_check *c = spf_check_new(&run.dns.asker, &q, on_done, &run);

		spf_check_start(c);
		for (unsigned i = 0; i < k; i++)
			fake_dns_step(&run.dns);
		ck_assert(!run.ended);
		if (k % 2 == 0) {
			spf_check_expire(c);
			ck_assert(run.ended);
			ck_assert_int_eq(run.result, SPF_RESULT_TEMPERROR);
		}
		spf_check_free(&c);
		ck_assert_uint_eq(run.dns.pending_count, 0);
	}
}
END_TEST

/* A record of 64 KiB is walked in no time; one more octet of memory than there is ends as permerror. */
START_TEST(test_large_record)
{
	char *text = mem_new_array(65536, 1);

	memcpy(text, "v=spf1", 6);
	for (size_t n = 6; n + 13 < 65535; n += 13)
		memcpy(text + n, " ip4:10.1.1.1", 13);
	policy_zone(text);
	ck_assert_str_eq(check("1.2.3.6", "x", "u@d.example"), "neutral");
	reset();
	for (unsigned i = 0; i < 6; i++)
		memcpy(text + 6 + 25 * i, " include:%{d1r}.d.example ", 25);
	fake_txt(&run.dns, "*", text);
	ck_assert_str_eq(check("1.2.3.6", "x", "u@d.example"), "permerror");
	free(text);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("spf");
	TCase *t = tcase_create("spf");
	SRunner *r;
	int failed;

	tcase_add_test(t, test_suite);
	tcase_add_loop_test(t, test_policies, 0, sizeof policies / sizeof policies[0]);
	tcase_add_test(t, test_initial);
	tcase_add_test(t, test_eai_local_part);
	tcase_add_loop_test(t, test_expansion, 0, sizeof expansions / sizeof expansions[0]);
	tcase_add_test(t, test_explanation);
	tcase_add_test(t, test_growing_include);
	tcase_add_test(t, test_every_lookup_fails);
	tcase_add_test(t, test_expire);
	tcase_add_test(t, test_large_record);
	tcase_set_timeout(t, 60);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
