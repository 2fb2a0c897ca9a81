/*
 * explain --replay: the same decision from what was recorded, and every way in which it is not.
 */
#include "admin/explain.h"

#include "common/err.h"
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
	ck_assert_uint_eq(explain_replay(list, &differ), counts);
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

	ck_assert_uint_eq(explain_replay(list, &differ), 1);
	ck_assert_uint_eq(differ, 1);
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
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed != 0;
}
