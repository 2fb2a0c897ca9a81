/* How a message that was sent on is known again. */
#include "smtpd/forward_mark.h"

#include <check.h>

static struct buf b, marks;

static void
setup(void)
{
	buf_init(&b, 2000);
	buf_init(&marks, FORWARD_MARKS_BYTES_MAX);
}

static void
teardown(void)
{
	buf_fini(&b);
	buf_fini(&marks);
}

/* The value of a field as it stands in a message. */
static struct slice
value(const char *address, bool plain)
{
	buf_reset(&b);
	ck_assert(forward_mark_field(slice_str(address), plain, &b));
	ck_assert(slice_starts(buf_slice(&b), SLICE("Delivered-To: ")) && slice_ends_nocase(buf_slice(&b), SLICE("\r\n")));
	return slice_sub(buf_slice(&b), strlen("Delivered-To:"), b.n - 2);
}

START_TEST(test_found)
{
	static const char *const others[] = {"", " ", "@", "b@ours.example", "a@ours.exampl", "a@ours.example x", "aa@ours.example", "@forwarded.invalid",
	    "a@forwarded.invalid", "aaaaaaaaaaaaaaaaaaaa@forwarded.invalid"};

	forward_mark_put(SLICE("a@ours.example"), &marks);
	ck_assert_uint_eq(marks.n, FORWARD_MARK_CHARS);
	forward_mark_put(SLICE("c@ours.example"), &marks);
	for (unsigned plain = 0; plain < 2; plain++) {
		ck_assert(forward_mark_found(buf_slice(&marks), value("a@ours.example", plain)));
		ck_assert(forward_mark_found(buf_slice(&marks), value("C@Ours.Example", plain)));
		ck_assert(!forward_mark_found(buf_slice(&marks), value("b@ours.example", plain)));
		ck_assert(!forward_mark_found(SLICE(""), value("a@ours.example", plain)));
	}
	ck_assert(forward_mark_found(buf_slice(&marks), SLICE("\r\n\ta@OURS.example \r\n")));
	for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
		ck_assert_msg(!forward_mark_found(buf_slice(&marks), slice_str(others[i])), "%s", others[i]);
	/* Nothing between two marks is one. */
	ck_assert(!forward_mark_found(buf_slice(&marks), slice_sub(buf_slice(&marks), 10, 30)));
	/* Half a mark is none. */
	ck_assert(!forward_mark_found(slice_sub(buf_slice(&marks), 0, FORWARD_MARK_CHARS - 1), SLICE("a@ours.example")));
}
END_TEST

/* A mark does not tell the address. */
START_TEST(test_hidden)
{
	struct slice hidden = value("a@ours.example", false);

	ck_assert_uint_eq(slice_find(hidden, SLICE("ours")), hidden.n);
	ck_assert_uint_eq(hidden.n, 1 + FORWARD_MARK_CHARS + strlen("@forwarded.invalid"));
}
END_TEST

/* At the limit, and no room. */
START_TEST(test_limits)
{
	struct buf small;
	char address[32];

	for (unsigned i = 0; i < FORWARD_ADDRESSES_MAX; i++) {
		(void)snprintf(address, sizeof address, "a%u@ours.example", i);
		forward_mark_put(slice_str(address), &marks);
	}
	ck_assert(!marks.failed && marks.n == FORWARD_MARKS_BYTES_MAX);
	ck_assert(forward_mark_found(buf_slice(&marks), slice_str(address)));
	buf_init(&small, 20);
	ck_assert(!forward_mark_field(SLICE("a@ours.example"), true, &small));
	buf_fini(&small);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("forward_mark");
	TCase *t = tcase_create("all");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, test_found);
	tcase_add_test(t, test_hidden);
	tcase_add_test(t, test_limits);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
