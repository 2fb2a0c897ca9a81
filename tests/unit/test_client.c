/* What the DNS says of a client's address: zones of settings, names to ask, answers that count, time; and rates. */
#include "common/loop.h"
#include "smtpd/client_check.h"
#include "smtpd/front_rate.h"
#include "tests/unit/fake_dns.h"

#include <arpa/inet.h>
#include <check.h>

static struct fake_dns dns;
static struct loop *loop;
static unsigned done;

static void
setup(void)
{
	fake_dns_init(&dns);
	loop = loop_new();
	done = 0;
}

static void
teardown(void)
{
	loop_free(&loop);
}

static void
address(const char *text, uint8_t ip[16])
{
	memset(ip, 0, 16);
	if (inet_pton(AF_INET6, text, ip) == 1)
		return;
	ip[10] = ip[11] = 0xff;
	ck_assert_int_eq(inet_pton(AF_INET, text, ip + 12), 1);
}

static void
on_done(void *arg)
{
	(void)arg;
	done++;
	loop_stop(loop);
}

static struct client_check *
begin(const char *ip, const char *black, const char *white)
{
	struct client_query q = {.black = slice_str(black), .white = slice_str(white), .timeout_ms = 100};

	address(ip, q.ip);
	return client_check_new(loop, &dns.asker, &q, on_done, NULL);
}

/* Asks, answers, and ends; the facts are checked by the caller. */
static struct client_check *
judge(const char *ip, const char *black, const char *white)
{
	struct client_check *c = begin(ip, black, white);

	ck_assert(!client_check_ended(c));
	fake_dns_run(&dns);
	ck_assert(client_check_ended(c));
	ck_assert_uint_eq(done, 1);
	done = 0;
	return c;
}

START_TEST(test_zones)
{
	static const struct {
		const char *word;
		int want;
		unsigned weight;
		unsigned last; /* an octet that counts */
		unsigned not;  /* one that does not; 256: all count */
	} rows[] = {
	    {"bl.example", 1, 2, 0, 256},
	    {"BL.Example:5", 1, 5, 255, 256},
	    {"bl.example=2", 1, 2, 2, 3},
	    {"bl.example=2,4-11:100", 1, 100, 11, 12},
	    {"bl.example=4-4", 1, 2, 4, 3},
	    {"bl.example=0,255", 1, 2, 255, 1},
	    {"bl.example=", -1, 0, 0, 0},
	    {"bl.example=2,", -1, 0, 0, 0},
	    {"bl.example=256", -1, 0, 0, 0},
	    {"bl.example=5-4", -1, 0, 0, 0},
	    {"bl.example=4-", -1, 0, 0, 0},
	    {"bl.example=x", -1, 0, 0, 0},
	    {"bl.example:0", -1, 0, 0, 0},
	    {"bl.example:101", -1, 0, 0, 0},
	    {"bl.example:", -1, 0, 0, 0},
	    {"bl..example", -1, 0, 0, 0},
	    {"=2", -1, 0, 0, 0},
	    {":2", -1, 0, 0, 0},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct slice text = slice_str(rows[i].word);
		struct client_zone z;

		ck_assert_msg(client_zone_next(&text, &z) == rows[i].want, "%s", rows[i].word);
		if (rows[i].want < 0)
			continue;
		ck_assert_msg(z.weight == rows[i].weight, "%s", rows[i].word);
		ck_assert_msg(client_zone_lists(&z, (uint8_t[]){127, 0, 0, (uint8_t)rows[i].last}), "%s", rows[i].word);
		ck_assert_msg(rows[i].not == 256 || !client_zone_lists(&z, (uint8_t[]){127, 0, 0, (uint8_t)rows[i].not}), "%s", rows[i].word);
		ck_assert(client_zone_next(&text, &z) == 0);
	}
	struct slice text = SLICE("  a.example  b.example:1 ");
	struct client_zone z;

	ck_assert(client_zone_next(&text, &z) == 1 && client_zone_next(&text, &z) == 1 && z.weight == 1);
	ck_assert(client_zone_next(&text, &z) == 0);
	/* What is no listing. */
	ck_assert(!client_zone_lists(&z, (uint8_t[]){127, 255, 255, 254}));
	ck_assert(!client_zone_lists(&z, (uint8_t[]){128, 0, 0, 2}));
	ck_assert(!client_zone_lists(&z, (uint8_t[]){192, 0, 2, 1}));
	ck_assert(client_zone_lists(&z, (uint8_t[]){127, 255, 254, 2}));
}
END_TEST

START_TEST(test_names)
{
	static const struct {
		const char *ip, *want;
	} rows[] = {
	    {"192.0.2.99", "99.2.0.192.z"},
	    /* RFC 5782 2.4 */
	    {"2001:db8:1:2:3:4:567:89ab", "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2.z"},
	};
	uint8_t ip[16];
	struct buf b;

	buf_init(&b, 512);
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		buf_reset(&b);
		address(rows[i].ip, ip);
		ck_assert(client_reverse_name(ip, SLICE("z"), &b));
		ck_assert(slice_eq(buf_slice(&b), slice_str(rows[i].want)));
	}
	buf_fini(&b);
}
END_TEST

START_TEST(test_lists)
{
	struct client_check *c;
	const struct client_facts *f;

	fake_row(&dns, "2.2.0.192.bl.example", DNS_A)->data = slice_of("\x7f\0\0\x02", 4);
	fake_row(&dns, "2.2.0.192.two.example", DNS_A)->data = slice_of("\xc0\0\x02\x02", 4);
	fake_row(&dns, "2.2.0.192.two.example", DNS_A)->data = slice_of("\x7f\0\0\x09", 4);
	fake_row(&dns, "2.2.0.192.refuses.example", DNS_A)->data = slice_of("\x7f\xff\xff\xfe", 4);
	fake_status(&dns, "2.2.0.192.slow.example", DNS_TEMP);
	fake_status(&dns, "2.2.0.192.bogus.example", DNS_BOGUS);
	fake_row(&dns, "2.2.0.192.wl.example", DNS_A)->data = slice_of("\x7f\0\x0a\x03", 4);
	c = judge("192.0.2.2", "bl.example two.example=9:3 refuses.example slow.example bogus.example absent.example not..one",
	    "wl.example=2-3:5 bl.example=9");
	f = client_check_facts(c);
	ck_assert_uint_eq(f->count, 3);
	ck_assert_uint_eq(client_facts_weight(f, false), 2 + 3);
	ck_assert_uint_eq(client_facts_weight(f, true), 5);
	ck_assert_int_eq(f->iprev, CLIENT_IPREV_PERMERROR);
	client_check_free(&c);

	/* No more zones than CLIENT_LISTS_MAX, of both settings together. */
	struct buf black;

	buf_init(&black, 1000);
	for (unsigned i = 0; i < CLIENT_LISTS_MAX - 1; i++)
		buf_putf(&black, "b%u.example ", i);
	buf_put_u8(&black, 0);
	dns.asked = 0;
	c = judge("192.0.2.2", (const char *)black.p, "w1.example w2.example");
	ck_assert_uint_eq(dns.asked, 1 + CLIENT_LISTS_MAX);
	client_check_free(&c);
	buf_fini(&black);
}
END_TEST

START_TEST(test_iprev)
{
	static const struct {
		const char *ip;
		enum client_iprev want;
		const char *name;
	} rows[] = {
	    {"192.0.2.1", CLIENT_IPREV_PASS, "mail.example"},
	    {"192.0.2.2", CLIENT_IPREV_PERMERROR, ""},
	    {"192.0.2.3", CLIENT_IPREV_FAIL, ""},
	    {"192.0.2.4", CLIENT_IPREV_TEMPERROR, ""},
	    {"192.0.2.5", CLIENT_IPREV_TEMPERROR, ""},
	    {"192.0.2.6", CLIENT_IPREV_FAIL, ""},
	    {"192.0.2.7", CLIENT_IPREV_PASS, "second.example"},
	    {"2001:db8::1", CLIENT_IPREV_PASS, "six.example"},
	};
	char many[32][32];

	fake_row(&dns, "1.2.0.192.in-addr.arpa", DNS_PTR)->target = "MAIL.example";
	fake_row(&dns, "mail.example", DNS_A)->data = slice_of("\xc0\0\x02\x01", 4);
	fake_row(&dns, "3.2.0.192.in-addr.arpa", DNS_PTR)->target = "mail.example";
	fake_status(&dns, "4.2.0.192.in-addr.arpa", DNS_TEMP);
	fake_row(&dns, "5.2.0.192.in-addr.arpa", DNS_PTR)->target = "slow.example";
	fake_status(&dns, "slow.example", DNS_TEMP);
	fake_row(&dns, "6.2.0.192.in-addr.arpa", DNS_PTR)->target = "not\\032a.name.example";
	fake_row(&dns, "7.2.0.192.in-addr.arpa", DNS_PTR)->target = "slow.example";
	fake_row(&dns, "7.2.0.192.in-addr.arpa", DNS_PTR)->target = "second.example";
	fake_row(&dns, "second.example", DNS_A)->data = slice_of("\xc0\0\x02\x07", 4);
	fake_row(&dns, "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa", DNS_PTR)->target = "six.example";
	fake_row(&dns, "six.example", DNS_AAAA)->data = slice_of("\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01", 16);
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct client_check *c = judge(rows[i].ip, "", "");
		const struct client_facts *f = client_check_facts(c);

		ck_assert_msg(f->iprev == rows[i].want, "%s: %s", rows[i].ip, client_iprev_name(f->iprev));
		ck_assert(slice_eq(f->name, slice_str(rows[i].name)));
		client_check_free(&c);
	}
	/* Only so many names are followed. */
	for (unsigned i = 0; i < 32; i++) {
		(void)snprintf(many[i], sizeof(many[i]), "n%u.example", i);
		fake_row(&dns, "8.2.0.192.in-addr.arpa", DNS_PTR)->target = many[i];
	}
	dns.asked = 0;
	struct client_check *c = judge("192.0.2.8", "", "");
	ck_assert_uint_eq(dns.asked, 1 + CLIENT_NAMES_MAX);
	client_check_free(&c);
}
END_TEST

/* Time is up; the resolver is away; freed under way. */
START_TEST(test_time)
{
	struct client_check *c = begin("192.0.2.1", "bl.example", "");

	loop_run(loop);
	ck_assert(client_check_ended(c) && dns.cancelled == 2);
	ck_assert_int_eq(client_check_facts(c)->iprev, CLIENT_IPREV_TEMPERROR);
	client_check_free(&c);
	c = begin("192.0.2.1", "bl.example", "");
	client_check_free(&c);
	ck_assert_uint_eq(dns.cancelled, 4);
	done = 0;
	dns.refuse_at = dns.asked + 1;
	c = begin("192.0.2.1", "", "");
	ck_assert(client_check_ended(c) && done == 0);
	ck_assert_int_eq(client_check_facts(c)->iprev, CLIENT_IPREV_TEMPERROR);
	client_check_free(&c);
}
END_TEST

START_TEST(test_facts)
{
	struct client_facts f = {.iprev = CLIENT_IPREV_PASS, .name = SLICE("a.example"), .count = 1}, out;
	struct buf b;

	f.lists[0] = (struct client_list){SLICE("bl.example"), false, 7, {127, 0, 0, 2}};
	buf_init(&b, CLIENT_FACTS_BYTES_MAX);
	ck_assert(client_facts_encode(&f, &b));
	ck_assert(client_facts_decode(buf_slice(&b), &out));
	ck_assert(out.iprev == f.iprev && slice_eq(out.name, f.name) && out.count == 1 && out.lists[0].weight == 7);
	for (size_t n = 1; n < b.n; n++)
		ck_assert(!client_facts_decode(slice_of(b.p, n), &out));
	ck_assert(client_facts_decode(SLICE(""), &out) && out.iprev == CLIENT_IPREV_NONE);
	b.p[1] = CLIENT_IPREV_COUNT;
	ck_assert(!client_facts_decode(buf_slice(&b), &out));
	f.name = SLICE("a example");
	buf_reset(&b);
	ck_assert(client_facts_encode(&f, &b) && !client_facts_decode(buf_slice(&b), &out));
	buf_fini(&b);
}
END_TEST

START_TEST(test_rate)
{
	struct front_rate *r = front_rate_new();
	const uint64_t now = 1000ull * FRONT_RATE_WINDOW_MS;
	uint8_t ip[16], near[16], six[16], six_near[16];

	address("192.0.2.1", ip);
	for (unsigned i = 0; i < 9; i++)
		front_rate_add(r, ip, FRONT_RATE_MESSAGES, now);
	ck_assert(!front_rate_spent(r, ip, FRONT_RATE_MESSAGES, 10, now));
	front_rate_add(r, ip, FRONT_RATE_MESSAGES, now);
	ck_assert(front_rate_spent(r, ip, FRONT_RATE_MESSAGES, 10, now));
	ck_assert(!front_rate_spent(r, ip, FRONT_RATE_MESSAGES, 11, now));
	ck_assert(!front_rate_spent(r, ip, FRONT_RATE_MESSAGES, 0, now));
	ck_assert(!front_rate_spent(r, ip, FRONT_RATE_UNKNOWN, 10, now));
	/* Its neighbours share the network's room, four times as much. */
	address("192.0.2.255", near);
	ck_assert(!front_rate_spent(r, near, FRONT_RATE_MESSAGES, 3, now));
	ck_assert(front_rate_spent(r, near, FRONT_RATE_MESSAGES, 2, now));
	address("192.0.3.1", near);
	ck_assert(!front_rate_spent(r, near, FRONT_RATE_MESSAGES, 1, now));
	/* What is older than a window fades. */
	ck_assert(front_rate_spent(r, ip, FRONT_RATE_MESSAGES, 5, now + FRONT_RATE_WINDOW_MS + FRONT_RATE_WINDOW_MS / 2));
	ck_assert(!front_rate_spent(r, ip, FRONT_RATE_MESSAGES, 6, now + FRONT_RATE_WINDOW_MS + FRONT_RATE_WINDOW_MS / 2));
	ck_assert(!front_rate_spent(r, ip, FRONT_RATE_MESSAGES, 1, now + 2 * FRONT_RATE_WINDOW_MS));
	address("2001:db8:1:2::1", six);
	address("2001:db8:1:2:ffff::", six_near);
	front_rate_add(r, six, FRONT_RATE_UNKNOWN, now);
	ck_assert(front_rate_spent(r, six_near, FRONT_RATE_UNKNOWN, 1, now));
	address("2001:db8:1:3::1", six_near);
	ck_assert(!front_rate_spent(r, six_near, FRONT_RATE_UNKNOWN, 1, now));
	/* More networks than there is room for: nothing breaks, and the ones of now are remembered. */
	for (unsigned i = 0; i < 3 * FRONT_RATE_ENTRIES; i++) {
		memcpy(six + 2, &i, sizeof(i));
		front_rate_add(r, six, FRONT_RATE_MESSAGES, now + i);
	}
	ck_assert(front_rate_spent(r, six, FRONT_RATE_MESSAGES, 1, now));
	front_rate_free(&r);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("client");
	TCase *t = tcase_create("client");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, test_zones);
	tcase_add_test(t, test_names);
	tcase_add_test(t, test_lists);
	tcase_add_test(t, test_iprev);
	tcase_add_test(t, test_time);
	tcase_add_test(t, test_facts);
	tcase_add_test(t, test_rate);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? 0 : 1;
}
