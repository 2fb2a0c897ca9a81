/* The policy table: each condition alone, and which of several decides. */
#include "smtpd/policy.h"

#include <check.h>

static struct verdict
good(void)
{
	return (struct verdict){
	    .full = true,
	    .form = {.from_fields = 1, .from_mailboxes = 1, .from_domain = SLICE("a.example"), .header_sane = true},
	    .mail_from = {.result = SPF_RESULT_NONE},
	    .dmarc = {.result = DMARC_RESULT_NONE},
	};
}

static const struct policy_settings usual = {.dns_defer = true, .spf_reject = false};

static struct client_facts facts; /* of the client in use */
static struct policy_client client = {.facts = &facts, .ip = {[10] = 0xff, [11] = 0xff, 192, 0, 2, 1}};

/* What was decided, and that what is recorded of it decides the same again. */
static void
check(const struct verdict *v, const struct policy_settings *s, const char *rule, enum policy_action action, unsigned code)
{
	struct policy_input in = policy_input_incoming(v, &client, s), again;
	const struct policy_decision *d = policy_decide(POLICY_INCOMING, &in);
	struct buf b;

	ck_assert_msg(strcmp(d->rule, rule) == 0, "%s, wanted %s", d->rule, rule);
	ck_assert_msg(d->action == action, "%s: %s", rule, policy_action_name(d->action));
	ck_assert_uint_eq(d->reply.code, code);
	buf_init(&b, POLICY_INPUT_BYTES_MAX);
	policy_input_print(&in, &b);
	ck_assert(!b.failed && policy_input_parse(buf_slice(&b), &again));
	ck_assert_mem_eq(&in, &again, sizeof(in));
	ck_assert_ptr_eq(policy_decide(POLICY_INCOMING, &again), d);
	buf_fini(&b);
}

static const struct policy_decision *
submit(const struct verdict *v)
{
	struct policy_input in = policy_input_submission(v);

	return policy_decide(POLICY_SUBMISSION, &in);
}

/* Over LMTP what has an odd form goes to Junk, and only what cannot be kept, and loops, are refused. */
START_TEST(test_lmtp)
{
	static const struct {
		struct verdict_form form;
		const char *rule;
		enum policy_action action;
		unsigned code;
	} rows[] = {
	    {{.from_fields = 1, .from_mailboxes = 1, .header_sane = true}, "default", POLICY_ACCEPT, 250}, /* "From: cron" */
	    {{.from_fields = 1, .from_mailboxes = 1, .header_sane = true, .received_fields = 99}, "default", POLICY_ACCEPT, 250},
	    {{.from_fields = 1, .from_mailboxes = 1, .header_sane = true, .received_fields = 100}, "hops", POLICY_REFUSE, 554},
	    {{.from_fields = 1, .from_mailboxes = 1, .header_sane = true, .stray_octets = true}, "stray-octets", POLICY_REFUSE, 550},
	    {{.from_fields = 1, .from_mailboxes = 1, .header_sane = true, .ranges_overflow = true}, "unreadable", POLICY_REFUSE, 550},
	    {{.from_fields = 2, .from_mailboxes = 2, .header_sane = true}, "from-fields", POLICY_JUNK, 250},
	    {{.header_sane = true}, "from-fields", POLICY_JUNK, 250},
	    {{.from_fields = 1, .header_sane = true}, "from-empty", POLICY_JUNK, 250},
	    {{.from_fields = 1, .from_mailboxes = 2, .from_domains_differ = true, .header_sane = true}, "from-domains", POLICY_JUNK, 250},
	    {{.from_fields = 1, .from_mailboxes = 1}, "header-broken", POLICY_JUNK, 250},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		for (unsigned junk = 0; junk < 2; junk++) {
			struct verdict v = {.form = rows[i].form};
			struct policy_settings s = {.header_junk = junk != 0};
			struct policy_input in = policy_input_lmtp(&v, &s);
			const struct policy_decision *d = policy_decide(POLICY_LMTP, &in);
			bool off = junk == 0 && strcmp(rows[i].rule, "header-broken") == 0;

			ck_assert_str_eq(d->rule, off ? "default" : rows[i].rule);
			ck_assert_int_eq(d->action, off ? POLICY_ACCEPT : rows[i].action);
			ck_assert_uint_eq(d->reply.code, rows[i].code);
		}
}
END_TEST

/* The operator's exceptions: networks of clients, domains of authors and what is below them. */
START_TEST(test_dmarc_except)
{
	static const struct {
		const char *list, *author;
		bool excepted;
	} rows[] = {
	    {"", "a.example", false},
	    {"192.0.2.1", "a.example", true},
	    {"192.0.2.2", "a.example", false},
	    {"198.51.100.0/24  192.0.2.0/24 ", "a.example", true},
	    {"2001:db8::/32", "a.example", false},
	    {"A.example", "a.Example", true},
	    {"b.example a.example", "x.a.example", true},
	    {"a.example", "xa.example", false},
	    {"x.a.example", "a.example", false},
	    {"example", "a.example", true},
	    {"a.example", "", false},
	    {"b\303\274cher.example", "xn--bcher-kva.example", true},
	    {"B\303\234CHER.example", "a.xn--bcher-kva.example", true},
	    {"xn--bcher-kva.example", "xn--bcher-kva.example", true},
	    {"300.1.2.3", "300.1.2.3", false},
	    {"192.0.2.0/33", "a.example", false},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct policy_settings s = usual;
		struct verdict v = good();

		s.dmarc_except = slice_str(rows[i].list);
		v.dmarc = (struct verdict_dmarc){.result = DMARC_RESULT_FAIL, .policy = DMARC_POLICY_REJECT, .author = slice_str(rows[i].author)};
		check(&v, &s, rows[i].excepted ? "default" : "dmarc-reject", rows[i].excepted ? POLICY_ACCEPT : POLICY_REFUSE,
		    rows[i].excepted ? 250 : 550);
		v.dmarc.result = DMARC_RESULT_TEMPERROR;
		check(&v, &s, rows[i].excepted ? "default" : "dmarc-temperror", rows[i].excepted ? POLICY_ACCEPT : POLICY_DEFER,
		    rows[i].excepted ? 250 : 451);
		/* It excuses from nothing else. */
		v.form.from_fields = 2;
		check(&v, &s, "from-fields", POLICY_REFUSE, 550);
	}
}
END_TEST

START_TEST(test_dmarc_except_words)
{
	static const char *const good_words[] = {"192.0.2.1", "192.0.2.0/24", "2001:db8::/32", "a.example", "example", "a.example.", "b\303\274cher.example"};
	static const char *const bad_words[] = {"", "192.0.2.0/33", "300.1.2.3", "192.0.2", "1", "2001:db8::/129", "a..example", "a example", "@a.example", "*.example"};

	for (size_t i = 0; i < sizeof(good_words) / sizeof(*good_words); i++)
		ck_assert_msg(policy_except_valid(slice_str(good_words[i])), "%s", good_words[i]);
	for (size_t i = 0; i < sizeof(bad_words) / sizeof(*bad_words); i++)
		ck_assert_msg(!policy_except_valid(slice_str(bad_words[i])), "%s", bad_words[i]);
}
END_TEST

START_TEST(test_dmarc)
{
	static const struct {
		enum dmarc_result result;
		enum dmarc_policy policy;
		const char *rule;
		enum policy_action action;
		unsigned code;
	} rows[] = {
	    {DMARC_RESULT_NONE, DMARC_POLICY_NONE, "default", POLICY_ACCEPT, 250},
	    {DMARC_RESULT_PASS, DMARC_POLICY_REJECT, "default", POLICY_ACCEPT, 250},
	    {DMARC_RESULT_PASS, DMARC_POLICY_QUARANTINE, "default", POLICY_ACCEPT, 250},
	    {DMARC_RESULT_FAIL, DMARC_POLICY_NONE, "default", POLICY_ACCEPT, 250},
	    {DMARC_RESULT_FAIL, DMARC_POLICY_QUARANTINE, "dmarc-quarantine", POLICY_JUNK, 250},
	    {DMARC_RESULT_FAIL, DMARC_POLICY_REJECT, "dmarc-reject", POLICY_REFUSE, 550},
	    {DMARC_RESULT_TEMPERROR, DMARC_POLICY_NONE, "dmarc-temperror", POLICY_DEFER, 451},
	    {DMARC_RESULT_PERMERROR, DMARC_POLICY_REJECT, "default", POLICY_ACCEPT, 250},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct verdict v = good();
		v.dmarc.result = rows[i].result;
		v.dmarc.policy = rows[i].policy;
		check(&v, &usual, rows[i].rule, rows[i].action, rows[i].code);
	}
}
END_TEST

/* A chain that holds: the sealers from the newest on. */
static void
seal(struct verdict *v, const char *const *domains, unsigned pass)
{
	v->dmarc.result = DMARC_RESULT_FAIL;
	v->dmarc.policy = DMARC_POLICY_REJECT;
	v->arc = (struct arc_outcome){.result = ARC_RESULT_PASS};
	for (unsigned i = 0; domains[i] != NULL; i++)
		v->arc.sealers[v->arc.sealer_count++] = (struct arc_sealer){slice_str(domains[i]), i + 1 == pass};
}

START_TEST(test_arc)
{
	static const struct {
		const char *sealers[4];
		unsigned pass; /* which of them says that DMARC passed; 0: none */
		bool want;
	} rows[] = {
	    {{"a.example"}, 1, true},
	    {{"A.Example"}, 1, true},
	    {{"a.example"}, 0, false},
	    {{"x.a.example"}, 1, false},
	    {{"x.example"}, 1, false},
	    {{""}, 1, false},
	    {{"b.example", "a.example"}, 2, true},
	    {{"b.example", "a.example", "x.example"}, 2, true},
	    {{"b.example", "x.example", "a.example"}, 3, false},
	    {{"b.example", "x.example"}, 2, false},
	    {{"x.example", "a.example"}, 2, false},
	    {{NULL}, 0, false},
	};
	struct policy_settings s = {.dns_defer = true, .arc_trusted = SLICE("  a.example b.example ")};
	struct verdict v;

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		v = good();
		seal(&v, rows[i].sealers, rows[i].pass);
		ck_assert_msg(policy_arc_overrides(&v, &s) == rows[i].want, "row %zu", i);
		check(&v, &s, rows[i].want ? "default" : "dmarc-reject", rows[i].want ? POLICY_ACCEPT : POLICY_REFUSE, rows[i].want ? 250 : 550);
		check(&v, &usual, "dmarc-reject", POLICY_REFUSE, 550);
	}
	v = good();
	seal(&v, rows[0].sealers, 1);
	v.dmarc.policy = DMARC_POLICY_QUARANTINE;
	check(&v, &s, "default", POLICY_ACCEPT, 250);
	/* What is not passed, and what needs no help. */
	v.arc.result = ARC_RESULT_FAIL;
	check(&v, &s, "dmarc-quarantine", POLICY_JUNK, 250);
	v.arc.result = ARC_RESULT_TEMPERROR;
	check(&v, &s, "dmarc-quarantine", POLICY_JUNK, 250);
	v.dmarc.policy = DMARC_POLICY_REJECT;
	check(&v, &s, "arc-temperror", POLICY_DEFER, 451);
	check(&v, &usual, "dmarc-reject", POLICY_REFUSE, 550);
	s.dns_defer = false;
	check(&v, &s, "dmarc-reject", POLICY_REFUSE, 550);
	v.arc.result = ARC_RESULT_PASS;
	v.dmarc.result = DMARC_RESULT_PASS;
	ck_assert(!policy_arc_overrides(&v, &s));
	s.spf_reject = true;
	v.dmarc.result = DMARC_RESULT_FAIL;
	v.mail_from.result = SPF_RESULT_FAIL;
	check(&v, &s, "spf-fail", POLICY_REFUSE, 550);
}
END_TEST

START_TEST(test_form)
{
	struct verdict v = good();

	v.form.received_fields = POLICY_RECEIVED_FIELDS_MAX - 1;
	check(&v, &usual, "default", POLICY_ACCEPT, 250);
	v.form.received_fields = POLICY_RECEIVED_FIELDS_MAX;
	check(&v, &usual, "hops", POLICY_REFUSE, 554);
	v.form.received_fields = POLICY_RECEIVED_FIELDS_MAX + 1;
	check(&v, &usual, "hops", POLICY_REFUSE, 554);
	v = good();
	v.form.from_fields = 0;
	check(&v, &usual, "from-fields", POLICY_REFUSE, 550);
	v.form.from_fields = 2;
	check(&v, &usual, "from-fields", POLICY_REFUSE, 550);
	v = good();
	v.form.from_mailboxes = 0;
	check(&v, &usual, "from-empty", POLICY_REFUSE, 550);
	v = good();
	v.form.from_mailboxes = 2;
	check(&v, &usual, "default", POLICY_ACCEPT, 250);
	v.form.from_domains_differ = true;
	check(&v, &usual, "from-domains", POLICY_REFUSE, 550);
	v = good();
	static const char *const none[] = {"", "a.example>", "a..example", "[a.example]", "=?utf-8?q?a?=.example", "a b.example"};
	static const char *const some[] = {"a.example.", "[192.0.2.1]", "[IPv6:2001:db8::1]", "b\303\274cher.example", "_a.example"};
	for (size_t i = 0; i < sizeof(none) / sizeof(*none); i++) {
		v.form.from_domain = slice_str(none[i]);
		check(&v, &usual, "from-unqualified", POLICY_JUNK, 250);
	}
	v.form.from_domain = SLICE("a.example");
	v.form.from_address = SLICE("\"x@b.example\"@a.example");
	check(&v, &usual, "from-unqualified", POLICY_JUNK, 250);
	v.form.from_address = SLICE("x@a.example");
	for (size_t i = 0; i < sizeof(some) / sizeof(*some); i++) {
		v.form.from_domain = slice_str(some[i]);
		check(&v, &usual, "default", POLICY_ACCEPT, 250);
	}
	v = good();
	v.form.ranges_overflow = true;
	check(&v, &usual, "unreadable", POLICY_REFUSE, 550);
	v = good();
	v.form.has_nul = v.form.has_bare_cr = v.form.has_bare_lf = true;
	check(&v, &usual, "default", POLICY_ACCEPT, 250);
	v.form.stray_octets = true;
	check(&v, &usual, "stray-octets", POLICY_REFUSE, 550);
}
END_TEST

/* SPF alone never refuses, unless the operator wants it; DMARC's pass does not outweigh that wish. */
START_TEST(test_spf)
{
	static const struct policy_settings strict = {.dns_defer = true, .spf_reject = true};
	struct verdict v = good();

	v.mail_from.result = SPF_RESULT_FAIL;
	check(&v, &usual, "default", POLICY_ACCEPT, 250);
	check(&v, &strict, "spf-fail", POLICY_REFUSE, 550);
	v.mail_from.result = SPF_RESULT_SOFTFAIL;
	check(&v, &strict, "default", POLICY_ACCEPT, 250);
	v.mail_from.result = SPF_RESULT_TEMPERROR;
	check(&v, &strict, "default", POLICY_ACCEPT, 250);
}
END_TEST

START_TEST(test_order)
{
	static const struct policy_settings patient = {.dns_defer = false};
	struct verdict v = good();

	v.dmarc.result = DMARC_RESULT_TEMPERROR;
	check(&v, &patient, "default", POLICY_ACCEPT, 250);

	v.dmarc.result = DMARC_RESULT_TEMPERROR;
	v.form.from_fields = 2;
	check(&v, &usual, "from-fields", POLICY_REFUSE, 550);
	v = good();
	v.dmarc.result = DMARC_RESULT_FAIL;
	v.dmarc.policy = DMARC_POLICY_QUARANTINE;
	v.form.from_domain = SLICE("");
	check(&v, &usual, "dmarc-quarantine", POLICY_JUNK, 250);
}
END_TEST

START_TEST(test_submission)
{
	struct verdict v = good();

	v.full = false;
	ck_assert_str_eq(submit(&v)->rule, "default");
	v.form.unqualified = true;
	ck_assert_str_eq(submit(&v)->rule, "unqualified");
	ck_assert_uint_eq(submit(&v)->reply.code, 554);
	v = good();
	v.form.from_fields = 0;
	ck_assert_str_eq(submit(&v)->rule, "from-fields");
	v = good();
	v.form.received_fields = POLICY_RECEIVED_FIELDS_MAX;
	ck_assert_str_eq(submit(&v)->reply.enhanced, "5.4.6");
}
END_TEST

static void
on_list(bool white, unsigned weight)
{
	facts.lists[facts.count++] = (struct client_list){.zone = SLICE("l.example"), .white = white, .weight = (uint8_t)weight};
}

START_TEST(test_lists)
{
	struct policy_settings s = {.dnsbl_refuse = 3, .dnsbl_junk = 2};
	struct verdict v = good();

	facts.count = 0;
	check(&v, &s, "default", POLICY_ACCEPT, 250);
	on_list(false, 1);
	check(&v, &s, "default", POLICY_ACCEPT, 250);
	on_list(false, 1);
	check(&v, &s, "dnsbl-junk", POLICY_JUNK, 250);
	on_list(false, 1);
	check(&v, &s, "dnsbl-refuse", POLICY_REFUSE, 550);
	on_list(true, 1);
	check(&v, &s, "dnsbl-junk", POLICY_JUNK, 250);
	on_list(true, 100);
	check(&v, &s, "default", POLICY_ACCEPT, 250);
	facts.count = 3;
	client.postmaster_only = true;
	check(&v, &s, "default", POLICY_ACCEPT, 250);
	client.postmaster_only = false;
	s.dnsbl_refuse = 0;
	check(&v, &s, "dnsbl-junk", POLICY_JUNK, 250);
	s.dnsbl_junk = 0;
	check(&v, &s, "default", POLICY_ACCEPT, 250);
	facts.count = 0;
}
END_TEST

START_TEST(test_client)
{
	struct policy_settings s = {.iprev_junk = true};
	struct verdict v = good();
	static const struct {
		enum client_iprev iprev;
		bool junk;
	} rows[] = {{CLIENT_IPREV_NONE, false}, {CLIENT_IPREV_PASS, false}, {CLIENT_IPREV_FAIL, true}, {CLIENT_IPREV_TEMPERROR, false},
	    {CLIENT_IPREV_PERMERROR, true}};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		facts.iprev = rows[i].iprev;
		check(&v, &usual, "default", POLICY_ACCEPT, 250);
		check(&v, &s, rows[i].junk ? "iprev" : "default", rows[i].junk ? POLICY_JUNK : POLICY_ACCEPT, 250);
	}
	facts.iprev = CLIENT_IPREV_NONE;
	s = (struct policy_settings){.helo_refuse = true};
	client.helo = POLICY_HELO_OURS;
	check(&v, &s, "helo-ours", POLICY_REFUSE, 550);
	check(&v, &usual, "default", POLICY_ACCEPT, 250);
	memcpy(client.ip + 12, (uint8_t[]){127, 0, 0, 1}, 4);
	check(&v, &s, "default", POLICY_ACCEPT, 250);
	memcpy(client.ip + 12, (uint8_t[]){192, 0, 2, 1}, 4);
	for (unsigned h = 0; h < POLICY_HELO_OURS; h++) {
		client.helo = h;
		check(&v, &s, "default", POLICY_ACCEPT, 250);
	}
	client.helo = POLICY_HELO_NAME;
	s.header_junk = true;
	v.form.header_sane = false;
	check(&v, &s, "header-broken", POLICY_JUNK, 250);
	check(&v, &usual, "default", POLICY_ACCEPT, 250);
}
END_TEST

START_TEST(test_helo)
{
	static const struct {
		const char *helo;
		enum policy_helo want;
	} rows[] = {
	    {"client.example", POLICY_HELO_NAME},
	    {"client", POLICY_HELO_UNQUALIFIED},
	    {"client.", POLICY_HELO_UNQUALIFIED},
	    {"MX.Ours.example", POLICY_HELO_OURS},
	    {"mx.ours.example.", POLICY_HELO_OURS},
	    {"x.mx.ours.example", POLICY_HELO_NAME},
	    {"[192.0.2.1]", POLICY_HELO_LITERAL},
	    {"[192.0.2.2]", POLICY_HELO_OTHER_LITERAL},
	    {"[IPv6:::ffff:192.0.2.1]", POLICY_HELO_LITERAL},
	    {"[IPv6:2001:db8::1]", POLICY_HELO_OTHER_LITERAL},
	    {"[nonsense]", POLICY_HELO_OTHER_LITERAL},
	    {"[]", POLICY_HELO_UNQUALIFIED},
	    {"", POLICY_HELO_UNQUALIFIED},
	    {".", POLICY_HELO_UNQUALIFIED},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		enum policy_helo got = policy_helo_of(slice_str(rows[i].helo), client.ip, SLICE("mx.ours.example"));

		ck_assert_msg(got == rows[i].want, "%s: %s", rows[i].helo, policy_helo_name(got));
	}
}
END_TEST

/* Everything at its largest fits where it is recorded; what is none is refused. */
START_TEST(test_record)
{
	struct policy_input in, again;
	struct buf b;

	memset(&in, 0xff, sizeof(in));
	buf_init(&b, POLICY_INPUT_BYTES_MAX);
	policy_input_print(&in, &b);
	ck_assert(!b.failed && policy_input_parse(buf_slice(&b), &again));
	/* With the other fields of the event it is no longer than a line. */
	ck_assert_uint_le(b.n, LOG_LINE_BYTES_MAX - 256);
	ck_assert_mem_eq(&in, &again, sizeof(in));
	ck_assert(policy_input_parse(SLICE(""), &again));
	ck_assert(!policy_input_parse(SLICE("no_such=1"), &again));
	ck_assert(!policy_input_parse(SLICE("spf"), &again));
	ck_assert(!policy_input_parse(SLICE("spf="), &again));
	ck_assert(!policy_input_parse(SLICE("spf=4294967296"), &again));
	ck_assert(!policy_input_parse(SLICE("spf=1  dmarc=2"), &again));
	buf_fini(&b);
}
END_TEST

/* Each row of the dialogue's tables, and which of several decides. */
START_TEST(test_dialogue)
{
	static const struct {
		enum policy_table table;
		const char *inputs, *rule;
		unsigned code;
	} rows[] = {
	    {POLICY_CONNECT, "", "default", 250},
	    {POLICY_CONNECT, "connections_spent=1", "connections", 421},
	    {POLICY_CONNECT, "early_talker=1", "early-talker", 554},
	    {POLICY_CONNECT, "early_talker=1 messages_spent=1 connections_spent=1", "connections", 421},
	    {POLICY_COMMAND, "", "default", 250},
	    {POLICY_COMMAND, "early_commands=1", "early-commands", 554},
	    {POLICY_COMMAND, "early_commands=1 bare_line_end=1", "bare-line-end", 521},
	    {POLICY_COMMAND, "bare_line_end=1 submission=1", "bare-line-end", 500},
	    {POLICY_MAIL, "", "default", 250},
	    {POLICY_MAIL, "recipients_spent=1 mailbox_full=1", "default", 250},
	    {POLICY_MAIL, "messages_spent=1", "rate-messages", 450},
	    {POLICY_MAIL, "messages_spent=1 unknown_spent=1 size_over=1", "rate-unknown", 421},
	    {POLICY_MAIL, "messages_spent=1 size_over=1", "rate-messages", 450},
	    {POLICY_MAIL, "size_over=1 sender=2", "size-declared", 552},
	    {POLICY_MAIL, "sender=1", "default", 250},
	    {POLICY_MAIL, "sender=2", "sender-foreign", 550},
	    {POLICY_MAIL, "sender=3", "sender-undecided", 451},
	    {POLICY_RCPT, "", "default", 250},
	    {POLICY_RCPT, "recipient=1", "default", 250},
	    {POLICY_RCPT, "recipients_full=1 unknown_spent=1", "recipients", 452},
	    {POLICY_RCPT, "unknown_spent=1 recipients_spent=1", "rate-unknown", 421},
	    {POLICY_RCPT, "recipients_spent=1 recipient=2", "rate-recipients", 450},
	    {POLICY_RCPT, "recipient=2", "recipient-unknown", 550},
	    {POLICY_RCPT, "recipient=3", "relay", 550},
	    {POLICY_RCPT, "recipient=3 submission=1", "recipient-outside", 550},
	    {POLICY_RCPT, "recipient=3 relaying=1", "relay", 550},
	    {POLICY_RCPT, "recipient=3 submission=1 relaying=1", "default", 250},
	    {POLICY_RCPT, "recipient=3 submission=1 relaying=1 literal=1", "recipient-literal", 550},
	    {POLICY_RCPT, "recipient=3 submission=1 relaying=1 literal=1 literals=1", "default", 250},
	    {POLICY_RCPT, "recipient=3 submission=1 literal=1 literals=1", "recipient-outside", 550},
	    {POLICY_RCPT, "recipient=3 submission=1 relaying=1 unroutable=1", "recipient-unroutable", 550},
	    {POLICY_RCPT, "recipient=1 submission=1 unroutable=1 literal=1", "default", 250},
	    {POLICY_RCPT, "recipient=4 mailbox_full=1", "recipient-disabled", 550},
	    {POLICY_RCPT, "recipient=5", "recipient-undecided", 451},
	    {POLICY_RCPT, "recipient=77", "recipient-undecided", 451},
	    {POLICY_RCPT, "recipient=1 mailbox_full=1", "quota", 452},
	    {POLICY_RCPT, "recipient=1 mailbox_full=1 quota_refuse=1", "quota-refuse", 552},
	    {POLICY_RCPT, "recipient=1 quota_refuse=1", "default", 250},
	    {POLICY_SUBMISSION, "from_fields=1 from_mailboxes=1", "default", 250},
	    {POLICY_SUBMISSION, "from_fields=1 from_mailboxes=1 account_spent=1", "account-messages", 450},
	    {POLICY_SUBMISSION, "from_fields=1 from_mailboxes=1 account_spent=2", "account-recipients", 450},
	    {POLICY_SUBMISSION, "from_fields=1 from_mailboxes=1 account_spent=3", "account-held", 250},
	    {POLICY_SUBMISSION, "from_fields=1 from_mailboxes=1 unqualified=1 account_spent=3", "unqualified", 554},
	    {POLICY_FORWARD, "", "default", 250},
	    {POLICY_FORWARD, "dmarc=1 spf=3 received_fields=200", "default", 250},
	    {POLICY_FORWARD, "looped=1 dmarc=2 junk=1 author_ours=1", "forward-loop", 554},
	    {POLICY_FORWARD, "dmarc=2 junk=1 author_ours=1", "forward-dmarc", 550},
	    {POLICY_FORWARD, "dmarc=2 arc_override=1", "default", 250},
	    {POLICY_FORWARD, "dmarc=2 dmarc_except=1", "default", 250},
	    {POLICY_FORWARD, "dmarc=2 arc_override=1 author_ours=1 junk=1", "forward-ours", 550},
	    {POLICY_FORWARD, "junk=1", "forward-junk", 550},
	    {POLICY_DATA, "", "default", 250},
	    {POLICY_DATA, "bare_line_end=1 nul=1", "bare-line-end", 521},
	    {POLICY_DATA, "nul=1 data_over=1", "nul", 521},
	    {POLICY_DATA, "nul=1 submission=1", "nul", 550},
	    {POLICY_DATA, "data_over=1 no_space=1", "size", 552},
	    {POLICY_DATA, "no_space=1", "spool", 452},
	};
	const struct policy_decision *d;
	struct policy_input in;

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		ck_assert(policy_input_parse(slice_str(rows[i].inputs), &in));
		d = policy_decide(rows[i].table, &in);
		ck_assert_msg(strcmp(d->rule, rows[i].rule) == 0, "%s: %s", rows[i].inputs, d->rule);
		ck_assert_uint_eq(d->reply.code, rows[i].code);
		bool held = strcmp(d->rule, "account-held") == 0;

		ck_assert_int_eq(d->action,
		    held ? POLICY_HOLD : rows[i].code == 250 ? POLICY_ACCEPT : rows[i].code < 500 ? POLICY_DEFER : POLICY_REFUSE);
	}
}
END_TEST

START_TEST(test_outside)
{
	static const struct {
		const char *address;
		uint32_t literal, unroutable;
	} rows[] = {
	    {"a@b.example", 0, 0},
	    {"a@B.Example", 0, 0},
	    {"\"a@localhost\"@b.example", 0, 0},
	    {"a@xn--bcher-kva.example", 0, 0},
	    {"a@b\xc3\xbc" "cher.example", 0, 0},
	    {"a@1.2.3.example", 0, 0},
	    {"a@3com.4a", 0, 0},
	    {"a@example", 0, 1},
	    {"a@192.0.2.1", 0, 1},
	    {"a@b.example.7", 0, 1},
	    {"a@b\xe2\x80\xae.example", 0, 1},
	    {"a@[192.0.2.1]", 1, 0},
	    {"a@[IPv6:2001:db8::1]", 1, 0},
	    {"a", 0, 1},
	    {"a@", 0, 1},
	    {"", 0, 1},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct policy_input in = {.submission = true};

		policy_input_outside(&in, slice_str(rows[i].address), true, false);
		ck_assert_msg(in.literal == rows[i].literal && in.unroutable == rows[i].unroutable, "%s", rows[i].address);
		ck_assert(in.relaying && !in.literals);
		policy_input_outside(&in, slice_str(rows[i].address), false, true);
		ck_assert(!in.relaying && in.literals);
	}
}
END_TEST

START_TEST(test_forward)
{
	static const struct {
		const char *a, *b;
		bool related;
	} rows[] = {{"a.example", "A.example", true}, {"x.a.example", "a.example", true}, {"a.example", "x.y.a.example", true},
	    {"xa.example", "a.example", false}, {"b.example", "a.example", false}, {"b\xc3\xbc" "cher.example", "x.xn--bcher-kva.example", true},
	    {"", "a.example", false}, {"..", "a.example", false}};
	struct verdict v = {.full = true, .form.looped = true, .dmarc.result = DMARC_RESULT_NONE};
	struct policy_input in = policy_input_forward(&v, true, true);

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		ck_assert_msg(policy_domains_related(slice_str(rows[i].a), slice_str(rows[i].b)) == rows[i].related, "%s", rows[i].a);
	ck_assert(in.looped && in.junk && in.author_ours && in.dmarc == DMARC_RESULT_NONE);
	ck_assert(!policy_input_forward(&v, false, false).author_ours);
	/* Any of them shows that the author's domain is behind it, also when it publishes no policy. */
	v.dmarc.spf_aligned = true;
	ck_assert(!policy_input_forward(&v, true, true).author_ours);
	v.dmarc = (struct verdict_dmarc){.result = DMARC_RESULT_NONE, .dkim_aligned = 1};
	ck_assert(!policy_input_forward(&v, true, true).author_ours);
	v.dmarc = (struct verdict_dmarc){.result = DMARC_RESULT_PASS};
	ck_assert(!policy_input_forward(&v, true, true).author_ours);
}
END_TEST

START_TEST(test_tables)
{
	enum policy_table t;

	for (unsigned i = 0; i < POLICY_TABLE_COUNT; i++)
		ck_assert(policy_table_named(slice_str(policy_table_name((enum policy_table)i)), &t) && t == i);
	ck_assert(!policy_table_named(SLICE("inbox"), &t));
	ck_assert(!policy_table_named(SLICE(""), &t));
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("policy");
	TCase *t = tcase_create("all");

	tcase_add_test(t, test_lmtp);
	tcase_add_test(t, test_dmarc);
	tcase_add_test(t, test_dmarc_except);
	tcase_add_test(t, test_dmarc_except_words);
	tcase_add_test(t, test_arc);
	tcase_add_test(t, test_lists);
	tcase_add_test(t, test_client);
	tcase_add_test(t, test_helo);
	tcase_add_test(t, test_record);
	tcase_add_test(t, test_form);
	tcase_add_test(t, test_spf);
	tcase_add_test(t, test_order);
	tcase_add_test(t, test_submission);
	tcase_add_test(t, test_dialogue);
	tcase_add_test(t, test_outside);
	tcase_add_test(t, test_forward);
	tcase_add_test(t, test_tables);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
