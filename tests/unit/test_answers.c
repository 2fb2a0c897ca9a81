/*
 * What a check was told, written down and played: the text form, its limits, and questions that had no answer. That the checks come to the
 * same is shown with all cases of tests/unit/test_spf.c and through admin/replay.c in tests/unit/test_explain.c.
 */
#include "common/mem.h"
#include "smtpd/answers.h"
#include "tests/unit/fake_dns.h"
#include "tests/unit/played.h"

#include <check.h>

static struct fake_dns dns;
static unsigned told;
static enum dns_status status;
static unsigned count;
static uint8_t first[65536];
static size_t first_n;

static void
on_answer(void *arg, const struct dns_answer *a)
{
	(void)arg;
	told++;
	status = a->status;
	count = a->count;
	first_n = 0;
	if (a->count > 0) {
		struct slice s = a->records[0].data.n > 0 ? a->records[0].data : a->records[0].name;

		ck_assert_uint_le(s.n, sizeof first);
		memcpy(first, s.p ? s.p : first, s.n);
		first_n = s.n;
	}
}

static bool
ask(struct answers *a, const char *name, uint16_t type, uint64_t *ticket)
{
	const struct dns_asker *asker = answers_asker(a);

	return asker->ask(asker->ctx, slice_str(name), type, on_answer, NULL, ticket);
}

START_TEST(test_escape)
{
	uint8_t all[256];
	struct buf text, back;

	for (unsigned i = 0; i < 256; i++)
		all[i] = (uint8_t)i;
	buf_init(&text, 1024);
	buf_init(&back, 1024);
	answers_escape(slice_of(all, 256), &text);
	for (size_t i = 0; i < text.n; i++)
		ck_assert(text.p[i] >= ' ' && text.p[i] < 0x7f && strchr("|\"\\", text.p[i]) == NULL);
	ck_assert(answers_unescape(buf_slice(&text), &back));
	ck_assert(slice_eq(buf_slice(&back), slice_of(all, 256)));
	ck_assert(!answers_unescape(SLICE("%"), &back) && !answers_unescape(SLICE("%4"), &back));
	ck_assert(!answers_unescape(SLICE("%4G"), &back) && !answers_unescape(SLICE("%4F"), &back));
	buf_fini(&text);
	buf_fini(&back);
}
END_TEST

START_TEST(test_status_names)
{
	for (unsigned s = 0; s < ANSWERS_STATUS_COUNT; s++)
		ck_assert_uint_eq(answers_status_named(slice_str(answers_status_name(s))), s);
	ck_assert_uint_eq(answers_status_named(SLICE("")), ANSWERS_STATUS_COUNT);
}
END_TEST

static const struct {
	const char *name;
	uint16_t type;
	const char *text;
} texts[] = {
    {"a.example", DNS_A, "192.0.2.1|192.0.2.2"},
    {"a.example", DNS_AAAA, "2001:db8::1"},
    {"a.example", DNS_TXT, "v=spf1 include:%25{d}.x -all||a%7cb%00%ff%22%5c"},
    {"a.example", DNS_MX, "10 m.example|0 |5 o%5c046dd.example"},
    {"a.example", DNS_PTR, "h.example"},
};

/* A text, played, gives what is written down as the same text. */
START_TEST(test_texts)
{
	struct answers *a = answers_new(NULL), *written = answers_new(answers_asker(a));
	struct answers_item item = {slice_str(texts[_i].name), texts[_i].type, DNS_OK, slice_str(texts[_i].text)};
	uint64_t ticket;

	told = 0;
	ck_assert(answers_add(a, &item));
	ck_assert(ask(written, "A.example", item.type, &ticket));
	answers_play(a);
	ck_assert(told == 1 && status == DNS_OK);
	item = answers_item(written, 0);
	ck_assert(slice_eq(item.text, slice_str(texts[_i].text)));
	answers_free(&written);
	answers_free(&a);
}
END_TEST

/* A record that cannot be read is no answer: what is played is hostile too. */
START_TEST(test_bad_texts)
{
	static const struct {
		uint16_t type;
		const char *text;
	} rows[] = {{DNS_A, ""}, {DNS_A, "192.0.2"}, {DNS_A, "::1"}, {DNS_AAAA, "192.0.2.1"}, {DNS_MX, "m.example"}, {DNS_MX, "65536 m"}, {DNS_TXT, "%"}};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct answers *a = answers_new(NULL);
		struct answers_item item = {SLICE("a.example"), rows[i].type, DNS_OK, slice_str(rows[i].text)};
		uint64_t ticket;

		ck_assert(answers_add(a, &item));
		ck_assert(ask(a, "a.example", rows[i].type, &ticket));
		answers_play(a);
		ck_assert_int_eq(status, DNS_TEMP);
		answers_free(&a);
	}
}
END_TEST

/* No answer, none in time, an error, the same question twice, and one that was never asked. */
START_TEST(test_no_answer)
{
	struct answers *written, *a;
	uint64_t ticket;

	fake_dns_init(&dns);
	fake_txt(&dns, "x.example", "one");
	fake_status(&dns, "bad.example", DNS_BOGUS);
	written = answers_new(&dns.asker);
	told = 0;
	ck_assert(ask(written, "gone.example", DNS_TXT, &ticket));
	answers_asker(written)->cancel(answers_asker(written)->ctx, ticket);
	ck_assert_uint_eq(dns.cancelled, 1);
	ck_assert(ask(written, "x.example", DNS_TXT, &ticket));
	ck_assert(ask(written, "bad.example", DNS_TXT, &ticket));
	fake_dns_run(&dns);
	dns.refuse_at = dns.asked + 1;
	ck_assert(!ask(written, "x.example", DNS_TXT, &ticket));
	ck_assert_uint_eq(told, 2);
	a = played(written);
	ck_assert(ask(a, "gone.example", DNS_TXT, &ticket));
	answers_play(a);
	ck_assert_uint_eq(told, 2);
	ck_assert(ask(a, "x.example", DNS_TXT, &ticket));
	answers_play(a);
	ck_assert(told == 3 && status == DNS_OK && count == 1 && slice_eq(slice_of(first, first_n), SLICE("one")));
	ck_assert(ask(a, "bad.example", DNS_TXT, &ticket));
	answers_play(a);
	ck_assert(told == 4 && status == DNS_BOGUS);
	ck_assert(!ask(a, "x.example", DNS_TXT, &ticket));
	/* Neither another type, nor one question too many, is answered. */
	ck_assert(ask(a, "x.example", DNS_A, &ticket) && ask(a, "x.example", DNS_TXT, &ticket));
	answers_play(a);
	ck_assert_uint_eq(told, 4);
	answers_free(&a);
	answers_free(&written);
}
END_TEST

/* So many questions and octets are kept; the check gets its answers past that too. */
START_TEST(test_limits)
{
	struct answers *a;
	uint64_t ticket;
	uint8_t *octets = mem_new_array(ANSWERS_BYTES_MAX, 1);

	fake_dns_init(&dns);
	fake_txt(&dns, "*", "x");
	a = answers_new(&dns.asker);
	told = 0;
	for (unsigned i = 0; i <= ANSWERS_MAX; i++) {
		ck_assert(!answers_cut(a));
		ck_assert(ask(a, "n.example", DNS_TXT, &ticket));
		fake_dns_run(&dns);
	}
	ck_assert(answers_cut(a) && answers_count(a) == ANSWERS_MAX && told == ANSWERS_MAX + 1);
	answers_free(&a);
	memset(octets, 'x', ANSWERS_BYTES_MAX);
	for (unsigned more = 0; more < 2; more++) {
		fake_dns_init(&dns);
		fake_row(&dns, "n.example", DNS_TXT)->data = slice_of(octets, ANSWERS_BYTES_MAX - 9 + more);
		a = answers_new(&dns.asker);
		ck_assert(ask(a, "n.example", DNS_TXT, &ticket));
		fake_dns_run(&dns);
		ck_assert_uint_eq(first_n, ANSWERS_BYTES_MAX - 9 + more);
		ck_assert(answers_cut(a) == (more > 0));
		ck_assert_uint_eq(answers_item(a, 0).text.n, more > 0 ? 0 : ANSWERS_BYTES_MAX - 9);
		answers_free(&a);
	}
	a = answers_new(NULL);
	ck_assert(!answers_add(a, &(struct answers_item){SLICE("n.example"), DNS_TXT, ANSWERS_STATUS_COUNT, SLICE("x")}));
	ck_assert(!answers_add(a, &(struct answers_item){SLICE("n.example"), DNS_TXT, DNS_OK, slice_of(octets, ANSWERS_BYTES_MAX)}));
	answers_free(&a);
	free(octets);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("answers");
	TCase *t = tcase_create("all");

	tcase_add_test(t, test_escape);
	tcase_add_test(t, test_status_names);
	tcase_add_loop_test(t, test_texts, 0, (int)(sizeof texts / sizeof texts[0]));
	tcase_add_test(t, test_bad_texts);
	tcase_add_test(t, test_no_answer);
	tcase_add_test(t, test_limits);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed != 0;
}
