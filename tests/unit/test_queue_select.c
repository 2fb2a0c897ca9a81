/* Which messages of the queue an operator's words mean. */
#include "admin/queue_select.h"
#include "common/date.h"
#include "common/loop.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

#define ID "0123456789abcdef"
#define HOUR 3600

static json_t *row;

static json_t *
recipient(const char *address, const char *state, int attempts)
{
	return json_pack("{s:s, s:s, s:b, s:i, s:s, s:s, s:s, s:b, s:b, s:[s]}", "address", address, "state", state, "here", 0, "attempts",
	    attempts, "status", "4.7.1", "by", "mx.a.example[192.0.2.1]", "text", "Greylisted", "forwarded", 0, "unsure", 1, "told", "delay");
}

static void
set_time(json_t *object, const char *key, int64_t from_now)
{
	char text[DATE_RFC3339_SIZE];

	date_rfc3339_print((int64_t)(clock_wall_us() / 1000000) + from_now, text);
	(void)json_object_set_new(object, key, json_string(text));
}

static void
setup(void)
{
	json_t *to = json_array();

	(void)json_array_append_new(to, recipient("b@A.example", "pending", 7));
	(void)json_array_append_new(to, recipient("\"x@y\"@b.example", "done", 1));
	set_time(json_array_get(to, 0), "next", 2 * HOUR);
	row = json_pack("{s:s, s:s, s:i, s:i, s:i, s:s, s:s, s:s, s:b, s:b, s:s, s:o}", "id", ID, "state", "waiting", "bytes", 5000000, "attempts",
	    8, "priority", -4, "session", "s1", "sender", "a@ours.example", "forward_from", "", "requiretls", 0, "tls_optional", 1, "report", "",
	    "recipients", to);
	set_time(row, "added", -3 * 24 * HOUR);
	set_time(row, "next", 2 * HOUR);
}

static void
teardown(void)
{
	json_decref(row);
}

static bool
meant(const char *text)
{
	char copy[256], *words[8], *rest = copy;
	int n = 0;

	(void)snprintf(copy, sizeof copy, "%s", text);
	while ((words[n] = strsep(&rest, " ")) != NULL && *words[n] != '\0')
		n++;
	ck_assert_msg(queue_select_check(n, words) == NULL, "%s", text);
	return queue_select(row, n, words);
}

/* Whatever is listed of a message or recipient chooses. */
START_TEST(test_fields)
{
	static const char *const good[] = {"", ID, ID " state=waiting", "zzzzzzzzzzzzzzzz " ID, "id=0123*", "state=wait*", "sender=A@*", "session=s?",
	    "report=", "forward_from=", "bytes=5000000", "bytes>4M", "bytes<5M", "bytes>4999999", "attempts=8", "attempts>7", "attempts<9",
	    "priority=-4", "priority<-3", "priority>-5", "added<2d", "added>4d", "added>2000-01-01", "added=20*", "next>1h", "next<3h",
	    "next>2020-01-01T00:00:00Z", "requiretls=no", "tls_optional=yes", "release=", "to=b@*", "domain=a.example", "domain=B.EXAMPLE",
	    "status=4.7.*", "by=mx.a.*", "text=*grey*", "recipient=done", "here=no", "forwarded=no", "unsure=yes", "told=delay",
	    "recipient.attempts=7", "recipient.attempts>6", "recipient.next<3h", "domain=a.example recipient=pending attempts>3"};
	static const char *const other[] = {"zzzzzzzzzzzzzzzz", ID " state=held", "id=1*", "bytes>5M", "bytes<5000000", "bytes=5M", "attempts>8",
	    "attempts<8", "priority>-4", "added<4d", "added>2d", "next<1h", "next>3h", "release>1h", "release<1h", "release=2*", "requiretls=yes",
	    "domain=y", "told=failure", "told=", "unsure=no", "recipient.attempts>7", "recipient.attempts=7 recipient=done",
	    "to=b@* domain=b.example"};

	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		ck_assert_msg(meant(good[i]), "%s", good[i]);
	for (size_t i = 0; i < sizeof other / sizeof *other; i++)
		ck_assert_msg(!meant(other[i]), "%s", other[i]);
}
END_TEST

START_TEST(test_wrong)
{
	static const char *const wrong[] = {"", "=", "colour=red", "state", "states=held", "stat=held", "state<held", "to>a", "bytes>", "bytes>x", "bytes>1T",
	    "bytes>99999999999999999G", "bytes>-1", "attempts>1K", "attempts<<1", "priority<-", "added<yesterday", "next>", "here>no", ID "0",
	    "0123456789ABCDEF", "recipient.text=x"};

	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		char word[64];
		char *words[] = {word};

		(void)snprintf(word, sizeof word, "%s", wrong[i]);
		ck_assert_msg(queue_select_check(1, words) == words[0], "%s", wrong[i]);
	}
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("queue_select");
	TCase *t = tcase_create("queue_select");
	SRunner *r;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, test_fields);
	tcase_add_test(t, test_wrong);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
