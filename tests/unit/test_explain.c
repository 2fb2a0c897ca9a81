/*
 * explain --replay: the same decision from what was recorded, and every way in which it is not.
 */
#include "admin/replay.h"

#include "common/err.h"
#include "common/slice.h"
#include "smtpd/policy.h"

#include <check.h>

static json_t *
row(const char *event, const char *table, const char *rule, const char *action, const char *code, const char *inputs)
{
	return json_pack("{s:s, s:{s:s, s:s, s:s, s:s, s:s}}", "event", event, "fields", "table", table, "rule", rule, "action", action,
	    "code", code, "inputs", inputs);
}

static const struct {
	const char *event, *table, *rule, *action, *code, *inputs;
	bool counts, same;
} rows[] = {
    {"decision", "incoming", "default", "accept", "250", "from_fields=1 from_mailboxes=1 from_domain=1 spf=2", true, true},
    {"decision", "incoming", "from-fields", "refuse", "550", "from_fields=2 from_mailboxes=2 from_domain=1", true, true},
    {"decision", "submission", "from-fields", "refuse", "554", "from_fields=2 from_mailboxes=2 from_domain=1", true, true},
    {"decision", "lmtp", "from-fields", "junk", "250", "from_fields=2 from_mailboxes=2 from_domain=1", true, true},
    {"decision", "lmtp", "from-fields", "refuse", "550", "from_fields=2 from_mailboxes=2 from_domain=1", true, false},
    {"verdict", "", "", "", "", "", false, false},
    /* Another table, rule, action or code; inputs that cannot be read. */
    {"decision", "submission", "from-fields", "refuse", "550", "from_fields=2 from_mailboxes=2 from_domain=1", true, false},
    {"decision", "incoming", "dmarc-reject", "refuse", "550", "from_fields=2 from_mailboxes=2 from_domain=1", true, false},
    {"decision", "incoming", "default", "junk", "250", "from_fields=1 from_mailboxes=1 from_domain=1", true, false},
    {"decision", "incoming", "default", "accept", "251", "from_fields=1 from_mailboxes=1 from_domain=1", true, false},
    {"decision", "incoming", "default", "accept", "250", "from_fields=1 nonsense=3", true, false},
    {"decision", "incoming", "unreadable", "", "0", "nonsense=3", true, false},
};

START_TEST(test_rows)
{
	json_t *list = json_array(), *again;
	size_t differ, counts = rows[_i].counts;

	ck_assert_int_eq(json_array_append_new(list, row(rows[_i].event, rows[_i].table, rows[_i].rule, rows[_i].action, rows[_i].code,
							  rows[_i].inputs)), 0);
	ck_assert_uint_eq(replay(list, &differ), counts);
	ck_assert_uint_eq(differ, rows[_i].counts && !rows[_i].same);
	again = json_object_get(json_array_get(list, 0), "again");
	ck_assert_int_eq(again != NULL, rows[_i].counts);
	ck_assert_int_eq(json_is_true(json_object_get(again, "same")), rows[_i].same);
	json_decref(list);
}
END_TEST

/* A decision without fields, as a damaged record may be. */
START_TEST(test_no_fields)
{
	json_t *list = json_pack("[{s:s}]", "event", "decision");
	size_t differ;

	ck_assert_uint_eq(replay(list, &differ), 1);
	ck_assert_uint_eq(differ, 1);
	json_decref(list);
}
END_TEST

/* ---- SPF and DMARC on what was recorded ---- */

static json_t *
event(const char *name, const char *fields)
{
	struct slice rest = slice_str(fields), one, key;
	json_t *object = json_object();
	char k[64];

	while (slice_cut(&rest, '~', &one)) {
		(void)slice_cut(&one, '=', &key);
		ck_assert(slice_cstr(key, k, sizeof k));
		(void)json_object_set_new(object, k, json_stringn(one.p ? (const char *)one.p : "", one.n));
	}
	return json_pack("{s:s, s:s, s:o}", "session", "s1", "event", name, "fields", object);
}

#define HELO_ROWS                                                                                                       \
	{"dns", "check=helo~name=h.example~type=16~status=nxdomain~answer=~more=0"},                                     \
	    {"spf", "identity=helo~domain=h.example~result=none~mechanism=~check=helo~ip=192.0.2.1~local=~helo=h.example~receiver=r"}
#define INPUTS "inputs=from_fields=1 from_mailboxes=1 from_domain=1 dns_defer=1 "

#define RFC8463_HEADER "48ce9a2c710ece1710ff156996b836a7f45470e43efe5643074d6e1690ed62e7"
#define OTHER_HEADER "48ce9a2c710ece1710ff156996b836a7f45470e43efe5643074d6e1690ed62e8"
#define RFC8463_BODY "da3512387f4d86d54609058dafd06b2003eb78a4233ba4a7ed72247c954eceff"
#define RFC8463_BEGIN " v=1; a=ed25519-sha256; c=relaxed/relaxed;%0d%0a d=football.example.com; i=@football.exam"
#define RFC8463_REST                                                                                                    \
	"ple.com;%0d%0a q=dns/txt; s=brisbane; t=1528637909; h=from : to :%0d%0a subject : date : message-id : from : subject : date;%0d%0a" \
	" bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;%0d%0a"                                                          \
	" b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus%0d%0a Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==%0d%0a"
#define RFC8463_KEY                                                                                                     \
	{"dns", "check=dkim~name=brisbane._domainkey.football.example.com~type=16~status=ok~"                             \
		"answer=v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=~more=0"}
#define ONE_SET                                                                                                         \
	"ARC-Authentication-Results: i=1; x.example; none%0d%0a"                                                           \
	"ARC-Message-Signature: i=1; a=ed25519-sha256; d=x.example; s=k; b=AAAA; bh=AAAA; h=from%0d%0a"                   \
	"ARC-Seal: i=1; a=ed25519-sha256; d=x.example; s=k; b=AAAA; cv=none%0d%0a"
#define ONE_SET_KEY                                                                                                     \
	{"dns", "check=arc~name=k._domainkey.x.example~type=16~status=ok~"                                                \
		"answer=v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=~more=0"}
#define KEPT(number, header) "number=" number "~at=1800000000~broken=~too_long=0~header=" header "~body=" RFC8463_BODY "~body_octets=0"

/* Fields with ~ between them. "!": judged again, it comes out otherwise. */
struct row {
	const char *event, *fields;
};

/* Each is one message; what differs stands in the row. */
static const struct {
	struct row rows[14];
	size_t differ;
} messages[] = {
    /* the same */
    {{{"message", ""}, HELO_ROWS,
	 {"dns", "check=mailfrom~name=d.example~type=16~status=ok~answer=v=spf1 a:%25{i}.d.example -all|other~more=0"},
	 {"dns", "check=mailfrom~name=192.0.2.1.d.example~type=1~status=ok~answer=192.0.2.1~more=0"},
	 {"spf", "identity=mailfrom~domain=d.example~result=pass~mechanism=a:%{i}.d.example~check=mailfrom~ip=192.0.2.1~local=a~helo=h.example~receiver=r"},
	 {"dns", "check=dmarc~name=_dmarc.d.example~type=16~status=ok~answer=v=DMARC1; p=rej~more=1"},
	 {"dns", "check=dmarc~name=_dmarc.d.example~type=16~status=ok~answer=ect~more=0"},
	 {"dmarc", "author=d.example~result=pass~policy=reject~spf_aligned=1~dkim_aligned=0~org=~policy_domain=d.example~reason="},
	 {"decision", "table=incoming~rule=default~action=accept~code=250~" INPUTS "spf=2 dmarc=1 dmarc_policy=2"}}, 0},
    /* another address: SPF fails, DMARC with it, and so the message is refused */
    {{{"message", ""}, HELO_ROWS,
	 {"dns", "check=mailfrom~name=d.example~type=16~status=ok~answer=v=spf1 a:x.d.example -all~more=0"},
	 {"dns", "check=mailfrom~name=x.d.example~type=1~status=ok~answer=192.0.2.7~more=0"},
	 {"!spf", "identity=mailfrom~domain=d.example~result=pass~mechanism=a:x.d.example~check=mailfrom~ip=192.0.2.1~local=a~helo=h.example~receiver=r"},
	 {"dns", "check=dmarc~name=_dmarc.d.example~type=16~status=ok~answer=v=DMARC1; p=reject~more=0"},
	 {"!dmarc", "author=d.example~result=pass~policy=reject~spf_aligned=1~dkim_aligned=0~org=~policy_domain=d.example~reason="},
	 {"!decision", "table=incoming~rule=default~action=accept~code=250~" INPUTS "spf=2 dmarc=1 dmarc_policy=2"}}, 1},
    /* what DKIM said is taken from the record; a null path is the check of HELO */
    {{{"message", ""}, HELO_ROWS,
	 {"spf", "identity=mailfrom~domain=h.example~result=none~mechanism=~check=helo"},
	 {"dkim", "domain=d.example~result=pass"}, {"dkim", "domain=other.example~result=fail"},
	 {"dns", "check=dmarc~name=_dmarc.d.example~type=16~status=ok~answer=v=DMARC1; p=reject~more=0"},
	 {"dmarc", "author=d.example~result=pass~policy=reject~spf_aligned=0~dkim_aligned=1~org=~policy_domain=d.example~reason="},
	 {"decision", "table=incoming~rule=default~action=accept~code=250~" INPUTS "dmarc=1 dmarc_policy=2"}}, 0},
    /* a signature whose hashes are recorded: RFC 8463, appendix A */
    {{{"message", ""}, HELO_ROWS,
	 {"dkim-input", KEPT("0", RFC8463_HEADER) "~field= v=1; a=ed25519-sha256; c=relaxed/relaxed;%0d%0a d=football.example.com; i=@football.exam~more=1"},
	 {"dkim-input", KEPT("0", RFC8463_HEADER) "~field=" RFC8463_REST "~more=0"}, RFC8463_KEY,
	 {"spf", "identity=mailfrom~domain=h.example~result=none~mechanism=~check=helo"},
	 {"dkim", "domain=football.example.com~result=pass~reason=~key_bits=256"},
	 {"dns", "check=dmarc~name=_dmarc.football.example.com~type=16~status=ok~answer=v=DMARC1; p=reject~more=0"},
	 {"dmarc", "author=football.example.com~result=pass~policy=reject~spf_aligned=0~dkim_aligned=1~org=~policy_domain=football.example.com~reason="},
	 {"decision", "table=incoming~rule=default~action=accept~code=250~" INPUTS "dmarc=1 dmarc_policy=2"}}, 0},
    /* another header was signed: the signature fails, DMARC with it */
    {{{"message", ""}, HELO_ROWS, {"dkim-input", KEPT("0", "00" RFC8463_HEADER) "~field=" RFC8463_BEGIN RFC8463_REST "~more=0"}, RFC8463_KEY,
	 {"spf", "identity=mailfrom~domain=h.example~result=none~mechanism=~check=helo"},
	 {"!dkim", "domain=football.example.com~result=pass~reason=~key_bits=256"},
	 {"decision", "table=incoming~rule=default~action=accept~code=250~" INPUTS}}, 1},
    {{{"message", ""}, HELO_ROWS, {"dkim-input", KEPT("0", OTHER_HEADER) "~field=" RFC8463_BEGIN RFC8463_REST "~more=0"}, RFC8463_KEY,
	 {"spf", "identity=mailfrom~domain=h.example~result=none~mechanism=~check=helo"},
	 {"!dkim", "domain=football.example.com~result=pass~reason=~key_bits=256"},
	 {"dns", "check=dmarc~name=_dmarc.football.example.com~type=16~status=ok~answer=v=DMARC1; p=reject~more=0"},
	 {"!dmarc", "author=football.example.com~result=pass~policy=reject~spf_aligned=0~dkim_aligned=1~org=~policy_domain=football.example.com~reason="},
	 {"!decision", "table=incoming~rule=default~action=accept~code=250~" INPUTS "dmarc=1 dmarc_policy=2"}}, 1},
    /* a field that is longer than may be has no value */
    {{{"message", ""}, HELO_ROWS, {"dkim-input", "number=0~at=1800000000~broken=~too_long=1~header=~body=~body_octets=0~field=~more=0"},
	 {"spf", "identity=mailfrom~domain=h.example~result=none~mechanism=~check=helo"}, {"dkim", "domain=~result=permerror~reason=too long~key_bits=0"},
	 {"decision", "table=incoming~rule=default~action=accept~code=250~" INPUTS}}, 0},
    /* not whole, or no such thing: taken from the record; of a chain the same */
    {{{"message", ""}, HELO_ROWS, {"input-cut", "check=dkim"}, {"input-cut", "check=arc"}, {"dkim", "domain=d.example~result=pass~reason=~key_bits=1024"},
	 {"arc", "result=pass~sets=1"}, {"decision", "table=incoming~rule=default~action=accept~code=250~" INPUTS "arc=1 arc_override=1 dmarc=2"}}, 0},
    {{{"message", ""}, HELO_ROWS, {"dkim-input", "number=1~at=1~broken=~too_long=1~field="}, {"dkim", "domain=d.example~result=pass~reason=~key_bits=1024"},
	 {"decision", "table=incoming~rule=default~action=accept~code=250~" INPUTS}}, 0},
    {{{"message", ""}, HELO_ROWS, {"dkim-input", "number=0~at=1~broken=what~too_long=1~field="}, {"dkim", "domain=d.example~result=pass~reason=~key_bits=1024"},
	 {"decision", "table=incoming~rule=default~action=accept~code=250~" INPUTS}}, 0},
    {{{"message", ""}, HELO_ROWS, {"arc-input", "at=1~author=%4~large=0~fields="}, {"arc", "result=pass~sets=1"},
	 {"decision", "table=incoming~rule=default~action=accept~code=250~" INPUTS "arc=1"}}, 0},
    {{{"message", ""}, HELO_ROWS, {"arc-hash", "of=51~hash="}, {"arc-input", "at=1~author=~large=0~fields=ARC-Seal: x%0d%0a"}, {"arc", "result=fail~sets=1"},
	 {"decision", "table=incoming~rule=default~action=accept~code=250~" INPUTS "arc=2"}}, 0},
    /* a chain that fails by its form; and one whose record says otherwise */
    {{{"message", ""}, HELO_ROWS, {"arc-input", "at=1~author=~large=0~fields=ARC-Seal: x%0d%0a~more=0"},
	 {"spf", "identity=mailfrom~domain=h.example~result=none~mechanism=~check=helo"},
	 {"arc", "result=fail~sets=1~oldest_pass=0~sealers=~reason=malformed tag list"},
	 {"decision", "table=incoming~rule=default~action=accept~code=250~" INPUTS "arc=2"}}, 0},
    {{{"message", ""}, HELO_ROWS, {"arc-input", "at=1~author=~large=1~fields=ARC-Seal: x%0d%0a~more=0"},
	 {"spf", "identity=mailfrom~domain=h.example~result=none~mechanism=~check=helo"}, {"!arc", "result=pass~sets=1~oldest_pass=0~sealers=x.example~reason="},
	 {"decision", "table=incoming~rule=default~action=accept~code=250~" INPUTS "arc=1"}}, 1},
    /* a chain of whose hashes one was lost on the way to the record */
    {{{"message", ""}, HELO_ROWS, {"arc-input", "at=1800000000~author=~large=0~fields=" ONE_SET "~more=0"}, ONE_SET_KEY,
	 {"spf", "identity=mailfrom~domain=h.example~result=none~mechanism=~check=helo"},
	 {"arc", "result=pass~sets=1~oldest_pass=0~sealers=x.example~reason="},
	 {"decision", "table=incoming~rule=default~action=accept~code=250~" INPUTS "arc=1"}}, 0},
    {{{"message", ""}, HELO_ROWS, {"arc-hash", "of=1~hash=" RFC8463_BODY}, {"arc-hash", "of=simple~hash=" RFC8463_BODY},
	 {"arc-input", "at=1800000000~author=~large=0~fields=" ONE_SET "~more=0"}, ONE_SET_KEY,
	 {"spf", "identity=mailfrom~domain=h.example~result=none~mechanism=~check=helo"},
	 {"arc", "result=fail~sets=1~oldest_pass=0~sealers=~reason=signature does not match"},
	 {"decision", "table=incoming~rule=default~action=accept~code=250~" INPUTS "arc=2"}}, 0},
    /* a question without an answer: its time was up */
    {{{"message", ""}, HELO_ROWS,
	 {"dns", "check=mailfrom~name=d.example~type=16~status=none~answer=~more=0"},
	 {"spf", "identity=mailfrom~domain=d.example~result=temperror~mechanism=~check=mailfrom~ip=192.0.2.1~local=a~helo=h.example~receiver=r"},
	 {"dns", "check=dmarc~name=_dmarc.d.example~type=16~status=none~answer=~more=0"},
	 {"dmarc", "author=d.example~result=temperror~policy=none~spf_aligned=0~dkim_aligned=0~org=~policy_domain=~reason=time was up"},
	 {"decision", "table=incoming~rule=dmarc-temperror~action=defer~code=451~" INPUTS "spf=5 dmarc=4"}}, 0},
    /* what was cut is taken from the record */
    {{{"message", ""}, HELO_ROWS, {"dns-cut", "check=mailfrom"}, {"dns-cut", "check=dmarc"},
	 {"spf", "identity=mailfrom~domain=d.example~result=pass~mechanism=a~check=mailfrom~ip=192.0.2.1~local=a~helo=h.example~receiver=r"},
	 {"dmarc", "author=d.example~result=pass~policy=reject"},
	 {"decision", "table=incoming~rule=default~action=accept~code=250~" INPUTS "spf=2 dmarc=1 dmarc_policy=2"}}, 0},
    /* an answer is missing, one is no answer, one question is none of ours: nothing of them is believed */
    {{{"message", ""}, {"!spf", "identity=helo~domain=h.example~result=none~mechanism=~check=helo~ip=192.0.2.1~local=~helo=h.example~receiver=r"},
	 {"decision", "table=incoming~rule=default~action=accept~code=250~" INPUTS}}, 1},
    {{{"message", ""}, {"dns", "check=helo~name=h.example~type=16~status=never~answer=~more=0"},
	 {"spf", "identity=helo~domain=h.example~result=none~mechanism=~check=helo~ip=192.0.2.1~local=~helo=h.example~receiver=r"},
	 {"decision", "table=incoming~rule=default~action=accept~code=250~" INPUTS}}, 1},
    {{{"message", ""}, {"dns", "check=what~name=h.example~type=16~status=ok~answer=v=spf1 +all~more=0"}, HELO_ROWS,
	 {"decision", "table=incoming~rule=default~action=accept~code=250~" INPUTS}}, 0},
};

START_TEST(test_checks_again)
{
	json_t *list = json_array();
	const struct row *told = messages[_i].rows;
	size_t differ;

	/* What stands before is another message of the session. */
	(void)json_array_append_new(list, event("spf", "identity=mailfrom~result=fail~check=mailfrom~domain=z.example"));
	for (size_t i = 0; told[i].event != NULL; i++)
		(void)json_array_append_new(list, event(told[i].event + (told[i].event[0] == '!'), told[i].fields));
	ck_assert_uint_eq(replay(list, &differ), 1);
	ck_assert_uint_eq(differ, messages[_i].differ);
	for (size_t i = 0; told[i].event != NULL; i++) {
		const json_t *again = json_object_get(json_array_get(list, i + 1), "again");

		if (again != NULL && json_object_get(again, "why") == NULL)
			ck_assert_msg(json_is_true(json_object_get(again, "same")) == (told[i].event[0] != '!'), "%s", told[i].fields);
		else
			ck_assert(told[i].event[0] != '!');
	}
	ck_assert(json_object_get(json_array_get(list, 0), "again") == NULL);
	json_decref(list);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("explain");
	TCase *t = tcase_create("all");

	tcase_add_loop_test(t, test_rows, 0, (int)(sizeof rows / sizeof rows[0]));
	tcase_add_test(t, test_no_fields);
	tcase_add_loop_test(t, test_checks_again, 0, (int)(sizeof messages / sizeof messages[0]));
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed != 0;
}
