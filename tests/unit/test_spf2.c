/*
 * The guards around libspf2 (admin/spf2.h), by what each of them stops. The library dies of some of it, or takes all the memory there is:
 * each reading is in a child with a limit of both, which says by its exit status how it went.
 */
#include "admin/spf2.h"
#include "common/buf.h"

#include <check.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define MEMORY_MAX (256u << 20) /* the bomb of test_growing_names takes 4.6 GB */
#define SECONDS_MAX 10u

/* Of one name. */
struct row {
	const char *name; /* NULL: any */
	uint16_t type;
	struct slice data;
};

struct zone {
	const struct row *rows;
	unsigned asked, longest;
	bool asked_exp;
};

static void
lookup(void *arg, const char *name, uint16_t type, struct dns_answer *answer_r)
{
	static struct dns_record records[16];
	struct zone *z = arg;

	z->asked++;
	z->asked_exp |= strcmp(name, "exp.test") == 0;
	if (strlen(name) > z->longest)
		z->longest = (unsigned)strlen(name);
	*answer_r = (struct dns_answer){.status = DNS_NXDOMAIN, .records = records};
	for (const struct row *r = z->rows; r->type != 0 && answer_r->count < 16; r++)
		if (r->type == type && (r->name == NULL || strcmp(r->name, name) == 0))
			records[answer_r->count++] = (struct dns_record){.data = r->data, .name = r->data};
	if (answer_r->count > 0)
		answer_r->status = DNS_OK;
}

static void
read_it(struct zone *z, struct spf2_outcome *o)
{
	const struct spf2_query q = {.ip = {[10] = 0xff, [11] = 0xff, 192, 0, 2, 1}, .helo = "helo.test", .sender = "joe@d.test"};

	spf2_check(&q, lookup, z, o);
}

/* In a child: true when it lives and `good` says so of what came. */
static bool
good_in_a_child(const struct row *rows, bool (*good)(const struct zone *z, const struct spf2_outcome *o))
{
	const struct rlimit core = {0, 0};
	int status = 0;
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		struct zone z = {.rows = rows};
		struct spf2_outcome o;

#ifndef __SANITIZE_ADDRESS__
		(void)setrlimit(RLIMIT_AS, &(const struct rlimit){MEMORY_MAX, MEMORY_MAX});
#endif
		(void)setrlimit(RLIMIT_CORE, &core);
		alarm(SECONDS_MAX);
		read_it(&z, &o);
		if (!good(&z, &o))
			fprintf(stderr, "%s (%s), %u questions, %u asked, of at most %u octets\n", o.result, o.reason, o.questions, z.asked, z.longest);
		_exit(good(&z, &o) ? 0 : 1);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFEXITED(status), "it died of signal %d", WTERMSIG(status));
	return WEXITSTATUS(status) == 0;
}

static bool
is(const struct spf2_outcome *o, const char *result)
{
	return strcmp(o->result, result) == 0;
}

/* ---- CVE-2023-42118 ---- */

static bool
good_explanation(const struct zone *z, const struct spf2_outcome *o)
{
	return is(o, "fail") && !z->asked_exp;
}

/* 127 times "%{d}" and 30 letters, 538 octets, and around that. */
START_TEST(test_explanation)
{
	for (unsigned letters = 1; letters < 40; letters++) {
		struct buf b;

		buf_init(&b, 1024);
		for (unsigned i = 0; i < 127; i++)
			buf_put_str(&b, "%{d}");
		for (unsigned i = 0; i < letters; i++)
			buf_put_str(&b, "x");
		const struct row rows[] = {{"d.test", DNS_TXT, SLICE("v=spf1 -all exp=exp.test")}, {"exp.test", DNS_TXT, buf_slice(&b)}, {NULL, 0, {0}}};

		ck_assert_msg(good_in_a_child(rows, good_explanation), "%u letters", letters);
		buf_fini(&b);
	}
}
END_TEST

/* ---- names ---- */

static bool
good_growth(const struct zone *z, const struct spf2_outcome *o)
{
	return is(o, "permerror") && z->longest <= SPF2_NAME_BYTES_MAX && o->questions < 10;
}

/* Any name answers with a record that asks for one three times as long. */
START_TEST(test_growing_names)
{
	const struct row rows[] = {{NULL, DNS_TXT, SLICE("v=spf1 include:%{d}.%{d}.%{d} -all")}, {NULL, 0, {0}}};

	ck_assert(good_in_a_child(rows, good_growth));
}
END_TEST

#define L50 "abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmn"
#define EXISTS "v=spf1 exists:" L50 "." L50 "." L50 "." L50 ".%{l}" A40 /* with joe for %{l} these are 247 octets */
#define A40 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static bool
good_not_asked(const struct zone *z, const struct spf2_outcome *o)
{
	return is(o, "fail") && o->questions == 2 && z->asked == 1;
}

static bool
good_asked(const struct zone *z, const struct spf2_outcome *o)
{
	return is(o, "pass") && o->questions == 2 && z->asked == 2 && z->longest == SPF2_NAME_BYTES_MAX;
}

START_TEST(test_long_names)
{
	const struct slice a = SLICE("\300\0\2\1");
	const struct row edge[] = {{"d.test", DNS_TXT, SLICE(EXISTS "a.test -all")}, {NULL, DNS_A, a}, {NULL, 0, {0}}};
	const struct row over[] = {{"d.test", DNS_TXT, SLICE(EXISTS "aa.test -all")}, {NULL, DNS_A, a}, {NULL, 0, {0}}};

	ck_assert(good_in_a_child(edge, good_asked));
	ck_assert(good_in_a_child(over, good_not_asked));
}
END_TEST

/* ---- the number of questions ---- */

static bool
good_count(const struct zone *z, const struct spf2_outcome *o)
{
	return is(o, "temperror") && z->asked == SPF2_QUESTIONS_MAX && o->questions == SPF2_QUESTIONS_MAX + 1;
}

static bool
good_under(const struct zone *z, const struct spf2_outcome *o)
{
	return is(o, "fail") && z->asked == 1 + 9 * 11 && o->questions == z->asked;
}

/* Nine or ten terms of eleven questions each, which is all that the library itself allows. */
START_TEST(test_questions)
{
	struct row rows[13] = {{"d.test", DNS_TXT, SLICE("v=spf1 mx mx mx mx mx mx mx mx mx -all")}, {NULL, DNS_A, SLICE("\300\0\2\2")}};

	for (unsigned i = 0; i < 10; i++)
		rows[2 + i] = (struct row){"d.test", DNS_MX, SLICE("h.test")};
	ck_assert(good_in_a_child(rows, good_under));
	rows[0].data = SLICE("v=spf1 mx mx mx mx mx mx mx mx mx mx -all");
	ck_assert(good_in_a_child(rows, good_count));
}
END_TEST

/* ---- what an answer may have ---- */

static bool
good_fail(const struct zone *z, const struct spf2_outcome *o)
{
	(void)z;
	return is(o, "fail");
}

static bool
good_none(const struct zone *z, const struct spf2_outcome *o)
{
	(void)z;
	return is(o, "none");
}

START_TEST(test_texts)
{
	static char text[SPF2_TEXT_BYTES_MAX + 1];
	struct row rows[] = {{"d.test", DNS_TXT, slice_of((const uint8_t *)text, SPF2_TEXT_BYTES_MAX)}, {NULL, 0, {0}}};

	memset(text, ' ', sizeof text);
	memcpy(text, "v=spf1 -all", 11);
	ck_assert(good_in_a_child(rows, good_fail));
	rows[0].data.n++;
	ck_assert(good_in_a_child(rows, good_none));
	rows[0].data = SLICE("v=spf1 -all\0x");
	ck_assert(good_in_a_child(rows, good_none));
}
END_TEST

static bool
good_dropped(const struct zone *z, const struct spf2_outcome *o)
{
	(void)z;
	return is(o, "fail") && o->questions == 2;
}

static bool
good_host(const struct zone *z, const struct spf2_outcome *o)
{
	(void)z;
	return is(o, "pass") && o->questions == 3;
}

/* A host of more octets than a name has is none, and an address has four octets. */
START_TEST(test_records)
{
	static char host[SPF2_NAME_BYTES_MAX + 1];
	struct row rows[] = {{"d.test", DNS_TXT, SLICE("v=spf1 mx -all")},
	    {"d.test", DNS_MX, slice_of((const uint8_t *)host, SPF2_NAME_BYTES_MAX)}, {NULL, DNS_A, SLICE("\300\0\2\1")}, {NULL, 0, {0}}};

	memset(host, 'h', sizeof host);
	ck_assert(good_in_a_child(rows, good_host));
	rows[1].data.n++;
	ck_assert(good_in_a_child(rows, good_dropped));
	rows[0].data = SLICE("v=spf1 a -all");
	rows[2].data = SLICE("\300\0\2");
	ck_assert(good_in_a_child(rows, good_dropped));
	rows[2].data = SLICE("\300\0\2\1\1");
	ck_assert(good_in_a_child(rows, good_dropped));
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("spf2");
	TCase *t = tcase_create("spf2");

	tcase_add_test(t, test_explanation);
	tcase_add_test(t, test_growing_names);
	tcase_add_test(t, test_long_names);
	tcase_add_test(t, test_questions);
	tcase_add_test(t, test_texts);
	tcase_add_test(t, test_records);
	tcase_set_timeout(t, 60);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
