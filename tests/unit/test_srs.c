/* Rewritten senders: there, back, and what nobody else can make. */
#include "authd/srs.h"

#include <check.h>

#define DAY 86400
#define NOW (20000u * DAY + 12345)
#define OURS SLICE("ours.example")
#define L64 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static const uint8_t secret[SRS_SECRET_BYTES] = "not so secret, but 32 octets....";
static const uint8_t another[SRS_SECRET_BYTES] = "not so secret, and another one..";
static struct buf there, back;

static void
setup(void)
{
	buf_init(&there, SRS_ADDRESS_BYTES_MAX);
	buf_init(&back, SRS_ADDRESS_BYTES_MAX);
}

static void
teardown(void)
{
	buf_fini(&there);
	buf_fini(&back);
}

static unsigned times;

/* The reverse-path of what leaves for the n-th time. */
static bool
forward_at(const char *sender, unsigned n, uint64_t now)
{
	const struct srs_message m = {.sender = slice_str(sender), .domain = OURS, .times = n, .now = now};

	buf_reset(&there);
	return srs_forward(secret, &m, &there);
}

static void
forward(const char *sender)
{
	ck_assert_msg(forward_at(sender, 1, NOW), "%s", sender);
}

static enum srs_result
reverse_at(struct slice address, uint64_t now)
{
	buf_reset(&back);
	times = 0;
	return srs_reverse(secret, address, now, &back, &times);
}

#define CK_IS(b, text) ck_assert_msg(slice_eq(buf_slice(b), slice_str(text)), "%.*s, not %s", (int)(b)->n, (const char *)(b)->p, (text))

START_TEST(test_there_and_back)
{
	static const char *const senders[] = {
	    "alice@client.example",
	    "Alice.B+tag=x@Client.Example",
	    "a=b=c@client.example",
	    "a@[192.0.2.1]",
	    "a@[IPv6:2001:db8::1]",
	    "\"a b\"@client.example",
	    "\"a\\\"b\\\\c\"@client.example",
	    "\"a@b\"@client.example",
	    "\"\"@client.example",
	    "\".a.\"@client.example",
	    "gr\xc3\xb6\xc3\x9f" "e@b\xc3\xbc" "cher.example",
	    "SRS0foo@client.example",
	    L64 "@" L64 ".example",
	};

	for (size_t i = 0; i < sizeof(senders) / sizeof(*senders); i++) {
		forward(senders[i]);
		ck_assert(slice_ends_nocase(buf_slice(&there), SLICE("@ours.example")));
		ck_assert_msg(reverse_at(buf_slice(&there), NOW) == SRS_GOOD, "%s", senders[i]);
		CK_IS(&back, senders[i]);
		ck_assert_uint_eq(times, 1);
	}
}
END_TEST

START_TEST(test_form)
{
	forward("alice@client.example");
	ck_assert(slice_starts(buf_slice(&there), SLICE("SRS0=")));
	ck_assert_uint_eq(there.n, strlen("SRS0=hhhhhhhh=tt=client.example=alice@ours.example"));
	ck_assert(slice_ends_nocase(buf_slice(&there), SLICE("=client.example=alice@ours.example")));
	forward("\"a b\"@client.example");
	ck_assert(slice_starts(buf_slice(&there), SLICE("\"SRS0=")));
	ck_assert(slice_ends_nocase(buf_slice(&there), SLICE("=client.example=a b\"@ours.example")));
}
END_TEST

/* A sender that another forwarder has rewritten is one like any other. */
START_TEST(test_second)
{
	static const char *const senders[] = {"SRS0=hhhh=tt=client.example=alice@second.example", "SRS0+hhhh=tt=client.example=alice@second.example",
	    "srs1=theirs=second.example==hhhh=tt=client.example=alice@third.example", "SRS1=x@third.example", "SRS1=x=y@third.example", "SRS1==@third.example",
	    "SRS1=x=y=z@third.example", "\"SRS1=x=y@z==a\"@third.example", "\"SRS1=x=y z==a\"@third.example"};

	for (size_t i = 0; i < sizeof(senders) / sizeof(*senders); i++) {
		forward(senders[i]);
		ck_assert(slice_starts(slice_sub(buf_slice(&there), senders[i][0] == '"', there.n), SLICE("SRS0=")));
		ck_assert_int_eq(reverse_at(buf_slice(&there), NOW), SRS_GOOD);
		CK_IS(&back, senders[i]);
	}
	forward(senders[0]);
	ck_assert(slice_ends_nocase(buf_slice(&there), SLICE("=second.example=SRS0=hhhh=tt=client.example=alice@ours.example")));
	ck_assert_int_eq(reverse_at(SLICE("SRS0=x@ours.example"), NOW), SRS_FORGED);
}
END_TEST

/* A server on the way may have changed the case. */
START_TEST(test_case)
{
	forward("Alice@Client.Example");
	for (size_t i = 0; i < there.n; i++)
		there.p[i] = ascii_lower(there.p[i]);
	ck_assert_int_eq(reverse_at(buf_slice(&there), NOW), SRS_GOOD);
	CK_IS(&back, "alice@client.example");
	for (size_t i = 0; i < there.n; i++)
		if (there.p[i] >= 'a' && there.p[i] <= 'z')
			there.p[i] = (uint8_t)(there.p[i] - 'a' + 'A');
	ck_assert_int_eq(reverse_at(buf_slice(&there), NOW), SRS_GOOD);
	CK_IS(&back, "ALICE@CLIENT.EXAMPLE");
}
END_TEST

START_TEST(test_expiry)
{
	static const struct {
		int64_t days;
		enum srs_result want;
	} rows[] = {{0, SRS_GOOD}, {1, SRS_GOOD}, {-1, SRS_GOOD}, {-2, SRS_EXPIRED}, {SRS_DAYS_MAX, SRS_GOOD}, {SRS_DAYS_MAX + 1, SRS_EXPIRED},
	    {400, SRS_EXPIRED}, {1022, SRS_EXPIRED}};

	forward("alice@client.example");
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		ck_assert_msg(reverse_at(buf_slice(&there), (uint64_t)((int64_t)NOW + rows[i].days * DAY)) == rows[i].want, "%zu", i);
	/* The day is counted round. */
	ck_assert(forward_at("a@b.example", 1, 1023u * DAY));
	ck_assert_int_eq(reverse_at(buf_slice(&there), 1024u * DAY), SRS_GOOD);
	ck_assert_int_eq(reverse_at(buf_slice(&there), (1023u + SRS_DAYS_MAX + 1) * DAY), SRS_EXPIRED);
}
END_TEST

/* No octet can be another one, none be missing; nor does it hold in another domain, or by another secret. */
START_TEST(test_forged)
{
	static const char *const sender[] = {"alice@client.example", "SRS0=hhhh=tt=client.example=alice@second.example"};
	uint8_t text[SRS_ADDRESS_BYTES_MAX];

	for (size_t s = 0; s < 2; s++) {
		forward(sender[s]);
		for (size_t i = 5; i < there.n; i++) {
			memcpy(text, there.p, there.n);
			text[i] ^= 1;
			ck_assert_msg(reverse_at(slice_of(text, there.n), NOW) != SRS_GOOD, "octet %zu", i);
			ck_assert_uint_eq(back.n, 0);
			memmove(text + i, there.p + i + 1, there.n - i - 1);
			memcpy(text, there.p, i);
			ck_assert_msg(reverse_at(slice_of(text, there.n - 1), NOW) != SRS_GOOD, "without octet %zu", i);
		}
		for (size_t n = 0; n < there.n; n++)
			ck_assert_int_ne(reverse_at(slice_of(there.p, n), NOW), SRS_GOOD);
		buf_reset(&back);
		ck_assert_int_eq(srs_reverse(another, buf_slice(&there), NOW, &back, &times), SRS_FORGED);
		/* The kinds are not each other's. */
		memcpy(text, there.p, there.n);
		text[3] ^= 1;
		ck_assert_int_eq(reverse_at(slice_of(text, there.n), NOW), SRS_FORGED);
	}
}
END_TEST

START_TEST(test_other)
{
	static const char *const addresses[] = {"", "@", "a", "a@", "@ours.example", "alice@ours.example", "SRS0@ours.example", "SRS2=a=b=c=d@ours.example",
	    "SRS0a=b=c=d@ours.example", "SRS@ours.example", "\"@ours.example", "\"\"@ours.example"};
	static const char *const forged[] = {"SRS0=@ours.example", "SRS0==@ours.example", "SRS0====@ours.example", "SRS0=hhhhhhhh=tt=a.example=b@ours.example",
	    "SRS1=hhhhhhhh=a.example==x@ours.example", "SRS1===@ours.example", "srs0-hhhhhhhh=tt=a.example=b@ours.example"};

	for (size_t i = 0; i < sizeof(addresses) / sizeof(*addresses); i++)
		ck_assert_msg(reverse_at(slice_str(addresses[i]), NOW) == SRS_OTHER, "%s", addresses[i]);
	for (size_t i = 0; i < sizeof(forged) / sizeof(*forged); i++)
		ck_assert_msg(reverse_at(slice_str(forged[i]), NOW) == SRS_FORGED, "%s", forged[i]);
}
END_TEST

START_TEST(test_limits)
{
	static const char *const refused[] = {"", "a", "@b.example", "a@", "a@[tag:x=y]"};
	char sender[SRS_ADDRESS_BYTES_MAX + 2];
	size_t most = SRS_ADDRESS_BYTES_MAX - 1 - strlen("SRS0=hhhhhhhh=tt==@ours.example") - strlen("b.example");

	for (size_t i = 0; i < sizeof(refused) / sizeof(*refused); i++)
		ck_assert_msg(!forward_at(refused[i], 1, NOW), "%s", refused[i]);
	memset(sender, 'a', most + 1);
	memcpy(sender + most, "@b.example", sizeof "@b.example");
	forward(sender);
	ck_assert_uint_eq(there.n, SRS_ADDRESS_BYTES_MAX - 1);
	ck_assert_int_eq(reverse_at(buf_slice(&there), NOW), SRS_GOOD);
	CK_IS(&back, sender);
	ck_assert(forward_at(sender, 2, NOW));
	ck_assert_uint_eq(there.n, SRS_ADDRESS_BYTES_MAX);
	ck_assert_int_eq(reverse_at(buf_slice(&there), NOW), SRS_GOOD);
	memcpy(sender + most, "a@b.example", sizeof "a@b.example");
	ck_assert(!forward_at(sender, 1, NOW));
	ck_assert_uint_eq(there.n, 0);
}
END_TEST

/* Each time has its sign, which nobody can change. */
START_TEST(test_times)
{
	static const char *const senders[] = {"alice@client.example", "SRS0=hhhh=tt=client.example=alice@second.example"};

	for (size_t s = 0; s < 2; s++)
		for (unsigned n = 1; n <= SRS_TIMES_MAX; n++) {
			ck_assert(forward_at(senders[s], n, NOW));
			ck_assert_uint_eq(slice_index(slice_sub(buf_slice(&there), 5, there.n), '='), n == 1 ? SRS_HASH_CHARS : SRS_HASH_CHARS + 1);
			ck_assert_int_eq(reverse_at(buf_slice(&there), NOW), SRS_GOOD);
			CK_IS(&back, senders[s]);
			ck_assert_uint_eq(times, n);
			for (const char *c = "abcdefghijklmnopqrstuvwxyz234567=@\x01\xff"; n > 1 && *c; c++) {
				if (there.p[5 + SRS_HASH_CHARS] == (uint8_t)*c)
					continue;
				uint8_t was = there.p[5 + SRS_HASH_CHARS];

				there.p[5 + SRS_HASH_CHARS] = (uint8_t)*c;
				ck_assert_int_ne(reverse_at(buf_slice(&there), NOW), SRS_GOOD);
				there.p[5 + SRS_HASH_CHARS] = was;
			}
		}
}
END_TEST

/* What another server made of ours, in either way, is known again. */
START_TEST(test_within)
{
	char ours[SRS_ADDRESS_BYTES_MAX + 1], theirs[400];
	static const char *const other[] = {"", "a@b.example", "SRS0=x@b.example", "SRS1=x=y=z@b.example", "SRS2=x=y==z@b.example", "SRS0=h=t=a b=c@b.example"};

	forward("alice@client.example");
	ck_assert(slice_cstr(buf_slice(&there), ours, sizeof ours));
	(void)snprintf(theirs, sizeof theirs, "SRS1=hash=ours.example=%.*s@third.example", (int)(strcspn(ours, "@") - 4), ours + 4);
	buf_reset(&back);
	ck_assert(srs_within(slice_str(theirs), &back));
	CK_IS(&back, ours);
	(void)snprintf(theirs, sizeof theirs, "SRS0=hash=tt=ours.example=%.*s@third.example", (int)strcspn(ours, "@"), ours);
	buf_reset(&back);
	ck_assert(srs_within(slice_str(theirs), &back));
	CK_IS(&back, ours);
	buf_reset(&back);
	for (size_t i = 0; i < sizeof(other) / sizeof(*other); i++)
		ck_assert_msg(!srs_within(slice_str(other[i]), &back), "%s", other[i]);
	ck_assert_uint_eq(back.n, 0);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("srs");
	TCase *t = tcase_create("all");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, test_there_and_back);
	tcase_add_test(t, test_form);
	tcase_add_test(t, test_second);
	tcase_add_test(t, test_case);
	tcase_add_test(t, test_expiry);
	tcase_add_test(t, test_forged);
	tcase_add_test(t, test_other);
	tcase_add_test(t, test_limits);
	tcase_add_test(t, test_times);
	tcase_add_test(t, test_within);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
