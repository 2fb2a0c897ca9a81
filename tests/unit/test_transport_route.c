/*
 * Which servers, in which order, at which addresses: a table of zones as rows of text, and what must be found.
 */
#include "common/loop.h"
#include "smtpd/transport_route.h"
#include "tests/unit/fake_dns.h"

#include <arpa/inet.h>
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#define ROWS_MAX 24

struct row {
	const char *name;
	const char *zone[ROWS_MAX]; /* "owner TYPE data", TYPE in small letters: not proved; "owner servfail", "owner bogus" */
	const char *want;	    /* hosts as "name address address"; those of one preference in any order when sorted is set */
	const char *destination;    /* NULL: x.example */
	const char *relay;
	bool secure, sorted, loopback, no_dane;
};

struct play {
	struct fake_dns dns;
	struct loop *loop;
	char found[4096];
	bool sorted, ended;
};

static uint8_t data[ROWS_MAX][40];

static void
zone_row(struct fake_dns *d, unsigned n, const char *text)
{
	static char words[ROWS_MAX][3][128];
	char(*w)[128] = words[n];
	uint16_t type = 0;
	unsigned preference = 0;

	memset(w, 0, sizeof words[n]);
	ck_assert_int_ge(sscanf(text, "%127s %127s %127s", w[0], w[1], w[2]), 2);
	if (strcmp(w[1], "servfail") == 0 || strcmp(w[1], "bogus") == 0) {
		fake_status(d, w[0], w[1][0] == 's' ? DNS_TEMP : DNS_BOGUS);
		return;
	}
	if (strcmp(w[1], "nodata") == 0) {
		fake_status(d, w[0], DNS_NODATA);
		return;
	}
	const char *kinds[] = {"A", "AAAA", "MX", "CNAME", "TLSA"};
	const uint16_t types[] = {DNS_A, DNS_AAAA, DNS_MX, DNS_CNAME, DNS_TLSA};

	for (unsigned i = 0; i < 5; i++)
		if (slice_eq_nocase(slice_str(w[1]), slice_str(kinds[i])))
			type = types[i];
	ck_assert_uint_ne(type, 0);
	struct fake_row *r = fake_row(d, w[0], type);

	r->insecure = w[1][0] >= 'a';
	if (type == DNS_A)
		ck_assert_int_eq(inet_pton(AF_INET, w[2], data[n]), 1);
	else if (type == DNS_AAAA)
		ck_assert_int_eq(inet_pton(AF_INET6, w[2], data[n]), 1);
	else if (type == DNS_TLSA)
		memcpy(data[n], "\3\1\1", 3);
	r->data = slice_of(data[n], type == DNS_A ? 4 : type == DNS_AAAA ? 16 : 35);
	r->target = w[2];
	if (type == DNS_MX) {
		const char *host = strchr(w[2], '/');

		ck_assert_int_eq(sscanf(w[2], "%u", &preference), 1);
		r->preference = (uint16_t)preference;
		r->target = host + 1;
	}
}

static int
compare_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void
host_text(const struct transport_route *route, const struct transport_host *h, char *text_r, size_t size)
{
	int n = snprintf(text_r, size, "%.*s", SLICE_ARG(h->name));

	for (unsigned i = 0; i < h->address_count; i++) {
		char ip[TRANSPORT_IP_TEXT_MAX];

		transport_address_text(&h->addresses[i], ip);
		n += snprintf(text_r + n, size - (size_t)n, " %s", ip);
		if (h->addresses[i].port != 25)
			n += snprintf(text_r + n, size - (size_t)n, "@%u", h->addresses[i].port);
	}
	if (h->tlsa == TRANSPORT_TLSA_RECORDS)
		n += snprintf(text_r + n, size - (size_t)n, " tlsa=%u", h->tlsa_count);
	if (!slice_eq(h->base, h->name))
		snprintf(text_r + n, size - (size_t)n, " of %.*s", SLICE_ARG(h->base));
	ck_assert(route->mx_secure || h->tlsa == TRANSPORT_TLSA_NONE);
}

static void
on_done(void *arg, const struct transport_route *route)
{
	struct play *p = arg;
	static char hosts[TRANSPORT_HOSTS_MAX][512];
	char *list[TRANSPORT_HOSTS_MAX];

	ck_assert(!p->ended);
	p->ended = true;
	if (!route->ok)
		snprintf(p->found, sizeof p->found, "%s %s", route->failure.permanent ? "permanent" : "later", route->failure.status);
	for (unsigned i = 0; route->ok && i < route->host_count; i++) {
		host_text(route, route->hosts[i], hosts[i], sizeof hosts[i]);
		list[i] = hosts[i];
	}
	if (p->sorted)
		qsort(list, route->host_count, sizeof *list, compare_text);
	for (unsigned i = 0, n = 0; route->ok && i < route->host_count; i++)
		n += (unsigned)snprintf(p->found + n, sizeof p->found - n, "%s%s", i > 0 ? "; " : "", list[i]);
	loop_stop(p->loop);
}

static void
play(const struct row *w, struct play *p, unsigned fail_at, unsigned refuse_at)
{
	const struct transport_route_config config = {
	    .own_name = SLICE("me.example"), .port = 25, .relay = slice_str(w->relay), .loopback = w->loopback,
	    .no_dane = w->no_dane};

	fake_dns_init(&p->dns);
	p->dns.secure = w->secure;
	p->dns.fail_at = fail_at;
	p->dns.refuse_at = refuse_at;
	p->ended = false;
	p->found[0] = '\0';
	p->sorted = w->sorted;
	for (unsigned i = 0; i < ROWS_MAX && w->zone[i] != NULL; i++)
		zone_row(&p->dns, i, w->zone[i]);
	p->loop = loop_new();
	struct transport_search *s = transport_search_new(
	    p->loop, &p->dns.asker, &config, slice_str(w->destination != NULL ? w->destination : "x.example"), on_done, p);

	ck_assert(!p->ended);
	fake_dns_run(&p->dns);
	ck_assert(!p->ended);
	loop_run(p->loop);
	ck_assert(p->ended);
	transport_search_free(&s);
	loop_free(&p->loop);
}

static const struct row rows[] = {
    {.name = "one", .zone = {"x.example MX 10/a.example", "a.example A 192.0.2.1"}, .want = "a.example 192.0.2.1"},
    {.name = "by preference", .zone = {"x.example MX 20/b.example", "x.example MX 5/a.example", "x.example MX 30/c.example", "a.example A 192.0.2.1", "b.example A 192.0.2.2", "c.example A 192.0.2.3"}, .want = "a.example 192.0.2.1; b.example 192.0.2.2; c.example 192.0.2.3"},
    {.name = "by turns", .zone = {"x.example MX 10/a.example", "a.example A 192.0.2.1", "a.example A 192.0.2.2", "a.example AAAA 2001:db8::1", "a.example A 192.0.2.3"}, .want = "a.example 2001:db8::1 192.0.2.1 192.0.2.2 192.0.2.3"},
    {.name = "many of one kind", .zone = {"x.example MX 10/a.example", "a.example AAAA 2001:db8::1", "a.example AAAA 2001:db8::2", "a.example AAAA 2001:db8::3",
	"a.example AAAA 2001:db8::4", "a.example AAAA 2001:db8::5", "a.example AAAA 2001:db8::6", "a.example AAAA 2001:db8::7",
	"a.example AAAA 2001:db8::8", "a.example AAAA 2001:db8::9", "a.example A 192.0.2.1"}, .want = "a.example 2001:db8::1 192.0.2.1 2001:db8::2 2001:db8::3 "
	"2001:db8::4 2001:db8::5 2001:db8::6 2001:db8::7"},
    {.name = "implicit", .zone = {"x.example A 192.0.2.9"}, .want = "x.example 192.0.2.9"},
    {.name = "null MX", .zone = {"x.example MX 0/", "x.example A 192.0.2.1"}, .want = "permanent 5.1.10"},
    {.name = "null MX beside another", .zone = {"x.example MX 0/", "x.example MX 5/a.example", "a.example A 192.0.2.1"}, .want = "a.example 192.0.2.1"},
    {.name = "no such domain", .zone = {"y.example A 192.0.2.1"}, .want = "permanent 5.1.2"},
    {.name = "nothing but a name", .zone = {"x.example nodata"}, .want = "permanent 5.4.4"},
    {.name = "servfail", .zone = {"x.example servfail"}, .want = "later 4.4.3"},
    {.name = "bogus", .zone = {"x.example bogus"}, .want = "later 4.4.3"},
    {.name = "CNAME of the domain", .zone = {"x.example CNAME y.example", "y.example MX 10/a.example", "a.example A 192.0.2.1"}, .want = "a.example 192.0.2.1"},
    {.name = "CNAME of the host", .zone = {"x.example MX 10/a.example", "a.example CNAME b.example", "b.example A 192.0.2.1"}, .want = "a.example 192.0.2.1"},
    {.name = "CNAME in a circle", .zone = {"x.example CNAME y.example", "y.example CNAME x.example"}, .want = "later 4.4.3"},
    {.name = "an address as host", .zone = {"x.example MX 10/192.0.2.1"}, .want = "permanent 5.4.4"},
    {.name = "an address beside a host", .zone = {"x.example MX 10/192.0.2.1", "x.example MX 20/a.example", "a.example A 192.0.2.1"}, .want = "a.example 192.0.2.1"},
    {.name = "a host without address", .zone = {"x.example MX 10/gone.example", "x.example MX 20/a.example", "a.example A 192.0.2.1"}, .want = "a.example 192.0.2.1"},
    {.name = "no host has an address", .zone = {"x.example MX 10/gone.example", "x.example MX 20/b.example", "b.example nodata"}, .want = "permanent 5.4.4"},
    {.name = "a host's address fails", .zone = {"x.example MX 10/b.example", "b.example servfail"}, .want = "later 4.4.3"},
    {.name = "a host's address fails, another has none", .zone = {"x.example MX 10/b.example", "x.example MX 10/gone.example", "b.example bogus"}, .want = "later 4.4.3"},
    {.name = "a host's address fails, another is there", .zone = {"x.example MX 10/b.example", "x.example MX 20/a.example", "b.example servfail", "a.example A 192.0.2.1"}, .want = "a.example 192.0.2.1"},
    {.name = "own name last", .zone = {"x.example MX 10/a.example", "x.example MX 20/me.example", "x.example MX 20/b.example", "x.example MX 30/c.example", "a.example A 192.0.2.1", "b.example A 192.0.2.2",
	"c.example A 192.0.2.3"}, .want = "a.example 192.0.2.1"},
    {.name = "own name first", .zone = {"x.example MX 10/ME.example", "x.example MX 20/a.example", "a.example A 192.0.2.1"}, .want = "permanent 5.4.6"},
    {.name = "own name, implicit", .zone = {"me.example A 192.0.2.1"}, .want = "permanent 5.4.6", .destination = "me.example"},
    {.name = "loopback", .zone = {"x.example MX 10/a.example", "a.example A 127.0.0.1", "a.example A 0.0.0.0", "a.example AAAA ::1", "a.example AAAA ::ffff:127.0.0.1", "a.example AAAA fe80::1",
	"a.example A 224.0.0.1", "a.example AAAA ff02::1"}, .want = "permanent 5.4.4"},
    {.name = "loopback allowed", .zone = {"x.example MX 10/a.example", "a.example A 127.0.0.1"}, .want = "a.example 127.0.0.1", .loopback = true},
    {.name = "literal", .zone = {NULL}, .want = "[192.0.2.7] 192.0.2.7", .destination = "[192.0.2.7]"},
    {.name = "literal of IPv6", .zone = {NULL}, .want = "[IPv6:2001:db8::7] 2001:db8::7", .destination = "[IPv6:2001:db8::7]"},
    {.name = "literal of this machine", .zone = {NULL}, .want = "permanent 5.4.4", .destination = "[127.0.0.1]"},
    {.name = "relay", .zone = {"x.example MX 10/a.example", "relay.example A 127.0.0.1", "relay.example MX 10/a.example"}, .want = "relay.example 127.0.0.1@2525", .relay = "relay.example@2525"},
    {.name = "relay at an address", .zone = {NULL}, .want = "127.0.0.1 127.0.0.1", .relay = "127.0.0.1"},
    {.name = "TLSA", .zone = {"x.example MX 10/a.example", "a.example A 192.0.2.1", "_25._tcp.a.example TLSA x", "_25._tcp.a.example TLSA x"}, .want = "a.example 192.0.2.1 tlsa=2", .secure = true},
    {.name = "TLSA of the implicit MX", .zone = {"x.example A 192.0.2.1", "_25._tcp.x.example TLSA x"}, .want = "x.example 192.0.2.1 tlsa=1", .secure = true},
    {.name = "TLSA of a relay", .zone = {"relay.example A 192.0.2.1", "_587._tcp.relay.example TLSA x"}, .want = "relay.example 192.0.2.1@587 tlsa=1", .relay = "relay.example@587", .secure = true},
    {.name = "no TLSA", .zone = {"x.example MX 10/a.example", "a.example A 192.0.2.1"}, .want = "a.example 192.0.2.1", .secure = true},
    {.name = "TLSA that does not count", .zone = {"x.example MX 10/a.example", "a.example A 192.0.2.1", "_25._tcp.a.example servfail"}, .want = "a.example 192.0.2.1", .secure = true, .no_dane = true},
    {.name = "one address is enough when TLSA does not count", .zone = {"x.example MX 10/a.example", "a.example A 192.0.2.1", "_25._tcp.a.example TLSA x"}, .want = "a.example 192.0.2.1", .secure = true, .no_dane = true},
    {.name = "TLSA not proved", .zone = {"x.example MX 10/a.example", "a.example A 192.0.2.1", "_25._tcp.a.example tlsa x"}, .want = "a.example 192.0.2.1", .secure = true},
    {.name = "MX not proved", .zone = {"x.example mx 10/a.example", "a.example A 192.0.2.1", "_25._tcp.a.example TLSA x"}, .want = "a.example 192.0.2.1", .secure = true},
    {.name = "address not proved", .zone = {"x.example MX 10/a.example", "a.example a 192.0.2.1", "_25._tcp.a.example servfail"}, .want = "a.example 192.0.2.1", .secure = true},
    /* A host with a CNAME (RFC 7672 2.2.2). */
    {.name = "TLSA behind the CNAME", .zone = {"x.example MX 10/a.example", "a.example CNAME b.example", "b.example A 192.0.2.1", "_25._tcp.b.example TLSA x"},
	.want = "a.example 192.0.2.1 tlsa=1 of b.example", .secure = true},
    {.name = "TLSA behind two", .zone = {"x.example MX 10/a.example", "a.example CNAME b.example", "b.example CNAME c.example", "c.example A 192.0.2.1", "_25._tcp.b.example TLSA x",
	"_25._tcp.c.example TLSA x", "_25._tcp.c.example TLSA x"}, .want = "a.example 192.0.2.1 tlsa=2 of c.example", .secure = true},
    {.name = "TLSA at both", .zone = {"x.example MX 10/a.example", "a.example CNAME b.example", "b.example A 192.0.2.1", "_25._tcp.b.example TLSA x", "_25._tcp.b.example TLSA x",
	"_25._tcp.a.example TLSA x"}, .want = "a.example 192.0.2.1 tlsa=2 of b.example", .secure = true},
    {.name = "TLSA at the host's own name", .zone = {"x.example MX 10/a.example", "a.example CNAME b.example", "b.example A 192.0.2.1", "_25._tcp.a.example TLSA x"},
	.want = "a.example 192.0.2.1 tlsa=1", .secure = true},
    {.name = "TLSA behind it not proved", .zone = {"x.example MX 10/a.example", "a.example CNAME b.example", "b.example A 192.0.2.1", "_25._tcp.b.example tlsa x",
	"_25._tcp.b.example tlsa x", "_25._tcp.a.example TLSA x"}, .want = "a.example 192.0.2.1 tlsa=1", .secure = true},
    {.name = "TLSA behind it fails", .zone = {"x.example MX 10/a.example", "a.example CNAME b.example", "b.example A 192.0.2.1", "_25._tcp.b.example bogus",
	"_25._tcp.a.example TLSA x"}, .want = "later 4.4.3", .secure = true},
    {.name = "CNAME to what is not proved", .zone = {"x.example MX 10/a.example", "a.example CNAME b.example", "b.example a 192.0.2.1", "_25._tcp.b.example TLSA x",
	"_25._tcp.b.example TLSA x", "_25._tcp.a.example TLSA x"}, .want = "a.example 192.0.2.1 tlsa=1", .secure = true},
    {.name = "CNAME not proved", .zone = {"x.example MX 10/a.example", "a.example cname b.example", "b.example A 192.0.2.1", "_25._tcp.b.example TLSA x", "_25._tcp.a.example servfail"},
	.want = "a.example 192.0.2.1", .secure = true},
    {.name = "CNAME without TLSA", .zone = {"x.example MX 10/a.example", "a.example CNAME b.example", "b.example A 192.0.2.1"}, .want = "a.example 192.0.2.1", .secure = true},
    {.name = "TLSA fails", .zone = {"x.example MX 10/a.example", "a.example A 192.0.2.1", "_25._tcp.a.example servfail"}, .want = "later 4.4.3", .secure = true},
    {.name = "TLSA bogus, another host", .zone = {"x.example MX 10/a.example", "x.example MX 20/b.example", "a.example A 192.0.2.1", "b.example A 192.0.2.2", "_25._tcp.a.example bogus"}, .want = "b.example 192.0.2.2", .secure = true},
};

START_TEST(test_routes)
{
	static struct play p;

	play(&rows[_i], &p, 0, 0);
	ck_assert_msg(strcmp(p.found, rows[_i].want) == 0, "%s: \"%s\"", rows[_i].name, p.found);
}
END_TEST

/* Each question fails in turn, then cannot be asked: nothing permanent may come of it, and no host whose TLSA records are not known. */
START_TEST(test_failing_dns)
{
	static struct play p;
	unsigned questions;

	play(&rows[_i], &p, 0, 0);
	questions = p.dns.asked;
	for (unsigned i = 1; i <= questions; i++)
		for (unsigned refuse = 0; refuse < 2; refuse++) {
			play(&rows[_i], &p, refuse ? 0 : i, refuse ? i : 0);
			ck_assert_msg(i > 1 || strcmp(p.found, "later 4.4.3") == 0, "%s: question %u fails: %s", rows[_i].name, i, p.found);
			if (strstr(rows[_i].want, "permanent") == NULL)
				ck_assert_msg(strstr(p.found, "permanent") == NULL, "%s: question %u fails: %s", rows[_i].name, i, p.found);
			if (strstr(rows[_i].want, "tlsa=") != NULL)
				ck_assert_msg(strcmp(p.found, "later 4.4.3") == 0, "%s: question %u fails: %s", rows[_i].name, i, p.found);
		}
}
END_TEST

/* Hosts of one preference come in each order. */
START_TEST(test_shuffle)
{
	static const struct row two = {.name = "two", .zone = {"x.example MX 10/a.example", "x.example MX 10/b.example", "a.example A 192.0.2.1", "b.example A 192.0.2.2"}};
	static struct play p;
	unsigned first[2] = {0};

	for (unsigned i = 0; i < 64; i++) {
		play(&two, &p, 0, 0);
		first[p.found[0] - 'a']++;
	}
	ck_assert_uint_gt(first[0], 0);
	ck_assert_uint_gt(first[1], 0);
}
END_TEST

START_TEST(test_limits)
{
	static struct play p;
	static char names[300][32];

	for (unsigned n = TRANSPORT_HOSTS_MAX - 1; n <= TRANSPORT_HOSTS_MAX + 1; n++) {
		const struct transport_route_config config = {.own_name = SLICE("me.example"), .port = 25};
		unsigned hosts = 0;

		fake_dns_init(&p.dns);
		for (unsigned i = 0; i < n; i++) {
			snprintf(names[i], sizeof names[i], "h%u.example", i);
			struct fake_row *r = fake_row(&p.dns, "x.example", DNS_MX);

			r->target = names[i];
			r->preference = (uint16_t)i;
			for (unsigned k = 0; k < 2 * TRANSPORT_ADDRESSES_MAX; k++)
				fake_row(&p.dns, names[i], DNS_A)->data = SLICE("\300\0\2\1");
		}
		p.loop = loop_new();
		p.ended = false;
		struct transport_search *s = transport_search_new(p.loop, &p.dns.asker, &config, SLICE("x.example"), on_done, &p);

		fake_dns_run(&p.dns);
		loop_run(p.loop);
		for (const char *at = p.found; (at = strstr(at, "h")) != NULL; at++)
			hosts++;
		ck_assert_uint_eq(hosts, n < TRANSPORT_HOSTS_MAX ? n : TRANSPORT_HOSTS_MAX);
		transport_search_free(&s);
		loop_free(&p.loop);
	}
}
END_TEST

START_TEST(test_freed_early)
{
	const struct transport_route_config config = {.own_name = SLICE("me.example"), .port = 25};
	struct fake_dns *d = malloc(sizeof *d);
	struct play p = {.loop = loop_new()};

	fake_dns_init(d);
	fake_row(d, "x.example", DNS_MX)->target = "a.example";
	struct transport_search *s = transport_search_new(p.loop, &d->asker, &config, SLICE("x.example"), on_done, &p);

	ck_assert(fake_dns_step(d));
	ck_assert_uint_eq(d->pending_count, 2);
	transport_search_free(&s);
	ck_assert_uint_eq(d->pending_count, 0);
	ck_assert(!p.ended);
	loop_free(&p.loop);
	free(d);
}
END_TEST

START_TEST(test_relay_setting)
{
	static const char *const good[] = {"relay.example", "relay.example@25", "192.0.2.1@587", "2001:db8::1@25", "[192.0.2.1]"};
	static const char *const bad[] = {"", "@25", "relay.example@", "relay.example@0", "relay.example@65536", "relay.example@x", "a b", "relay.example:25"};

	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		ck_assert_msg(transport_relay_valid(slice_str(good[i])), "%s", good[i]);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		ck_assert_msg(!transport_relay_valid(slice_str(bad[i])), "%s", bad[i]);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("transport_route");
	TCase *t = tcase_create("transport_route");

	tcase_add_loop_test(t, test_routes, 0, sizeof rows / sizeof *rows);
	tcase_add_loop_test(t, test_failing_dns, 0, sizeof rows / sizeof *rows);
	tcase_add_test(t, test_shuffle);
	tcase_add_test(t, test_limits);
	tcase_add_test(t, test_freed_early);
	tcase_add_test(t, test_relay_setting);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed != 0;
}
