/* The PROXY header, octet by octet as it is read, and the networks that may send one. */
#include "smtpd/proxy_header.h"

#include <arpa/inet.h>
#include <check.h>
#include <stdio.h>

/* Reads in as the front does: never more than is known to be the header's. *left_r: what stays behind it. */
static enum proxy_result
feed(struct slice in, size_t most, struct proxy_header *h, size_t *left_r)
{
	enum proxy_result got;
	size_t n = 0;

	while ((got = proxy_header_parse(slice_sub(in, 0, n), h)) == PROXY_MORE && n < in.n) {
		ck_assert_uint_gt(h->more, 0);
		n += h->more < most ? h->more : most;
		if (n > in.n)
			n = in.n;
	}
	*left_r = in.n - n;
	return got;
}

#define S(lit) {(const uint8_t *)(lit), sizeof(lit) - 1}
#define SIG "\r\n\r\n\0\r\nQUIT\n"
#define V4 "\xc0\0\2\7\xc0\0\2\1\xdd\xd5\0\x19"
#define V6 "\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\7\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1\xdd\xd5\0\x19"

static const struct {
	struct slice in;
	enum proxy_result want;
	const char *peer; /* "address port"; NULL: none was told */
	size_t left;
} rows[] = {
    {S("PROXY TCP4 192.0.2.7 192.0.2.1 56789 25\r\n"), PROXY_DONE, "::ffff:192.0.2.7 56789", 0},
    {S("PROXY TCP4 192.0.2.7 192.0.2.1 56789 25\r\nEHLO x\r\n"), PROXY_DONE, "::ffff:192.0.2.7 56789", 8},
    {S("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n\r\n"), PROXY_DONE, "::ffff:255.255.255.255 65535", 2},
    {S("PROXY TCP6 2001:db8::7 2001:db8::1 1 0\r\nx"), PROXY_DONE, "2001:db8::7 1", 1},
    {S("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"), PROXY_DONE,
	"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535", 0},
    {S("PROXY UNKNOWN\r\nx"), PROXY_DONE, NULL, 1},
    {S("PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"), PROXY_DONE, NULL, 0},
    {S("PROXY UNKNOWN any thing\r\n"), PROXY_DONE, NULL, 0},
    /* not the protocol */
    {S("EHLO client.example\r\n"), PROXY_BAD, NULL, 0},
    {S("\x16\x03\x01\x02\x00\x01"), PROXY_BAD, NULL, 0},
    {S("PROXX TCP4 192.0.2.7 192.0.2.1 1 2\r\n"), PROXY_BAD, NULL, 0},
    {S("PROXY  TCP4 192.0.2.7 192.0.2.1 1 2\r\n"), PROXY_BAD, NULL, 0},
    {S("PROXY TCP4  192.0.2.7 192.0.2.1 1 2\r\n"), PROXY_BAD, NULL, 0},
    {S("PROXY TCP4 192.0.2.7 192.0.2.1 1 2 \r\n"), PROXY_BAD, NULL, 0},
    {S("PROXY TCP4 192.0.2.7 192.0.2.1 1\r\n"), PROXY_BAD, NULL, 0},
    {S("PROXY TCP4 192.0.2.7 192.0.2.1 1 2 3\r\n"), PROXY_BAD, NULL, 0},
    {S("PROXY tcp4 192.0.2.7 192.0.2.1 1 2\r\n"), PROXY_BAD, NULL, 0},
    {S("PROXY TCP5 192.0.2.7 192.0.2.1 1 2\r\n"), PROXY_BAD, NULL, 0},
    {S("PROXY UDP4 192.0.2.7 192.0.2.1 1 2\r\n"), PROXY_BAD, NULL, 0},
    {S("PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n"), PROXY_BAD, NULL, 0},
    {S("PROXY TCP6 192.0.2.7 192.0.2.1 1 2\r\n"), PROXY_BAD, NULL, 0},
    {S("PROXY TCP4 192.0.2.07 192.0.2.1 1 2\r\n"), PROXY_BAD, NULL, 0},
    {S("PROXY TCP4 192.0.2.256 192.0.2.1 1 2\r\n"), PROXY_BAD, NULL, 0},
    {S("PROXY TCP4 192.0.2 192.0.2.1 1 2\r\n"), PROXY_BAD, NULL, 0},
    {S("PROXY TCP4 192.0.2.7 192.0.2.1 65536 2\r\n"), PROXY_BAD, NULL, 0},
    {S("PROXY TCP4 192.0.2.7 192.0.2.1 01 2\r\n"), PROXY_BAD, NULL, 0},
    {S("PROXY TCP4 192.0.2.7 192.0.2.1 -1 2\r\n"), PROXY_BAD, NULL, 0},
    {S("PROXY TCP4 192.0.2.7 192.0.2.1 1 2\n"), PROXY_BAD, NULL, 0},
    {S("PROXY TCP4 192.0.2.7 192.0.2.1 1 2\rx"), PROXY_BAD, NULL, 0},
    {S("PROXY UNKNOWNX\r\n"), PROXY_BAD, NULL, 0},
    {S("PROXY UNKNOWN \0\r\n"), PROXY_BAD, NULL, 0},
    {S("PROXY UNKNOWN xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n"), PROXY_DONE, NULL, 0},
    {S("PROXY UNKNOWN xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n"), PROXY_BAD, NULL, 0},
    /* version 2 */
    {S(SIG "\x21\x11\0\x0c" V4 "EHLO"), PROXY_DONE, "::ffff:192.0.2.7 56789", 4},
    {S(SIG "\x21\x21\0\x24" V6), PROXY_DONE, "2001:db8::7 56789", 0},
    {S(SIG "\x21\x11\0\x0f" V4 "\4\0\0x"), PROXY_DONE, "::ffff:192.0.2.7 56789", 1}, /* with an extension */
    {S(SIG "\x20\x11\0\x0c" V4), PROXY_DONE, NULL, 0},  /* LOCAL */
    {S(SIG "\x20\xff\0\0x"), PROXY_DONE, NULL, 1},	      /* its family is ignored */
    {S(SIG "\x21\0\0\0x"), PROXY_DONE, NULL, 1},	      /* UNSPEC */
    {S(SIG "\x21\0\0\1xx"), PROXY_DONE, NULL, 1},
    {S(SIG "\x21\x12\0\x0c" V4), PROXY_DONE, NULL, 0},  /* UDP: as UNSPEC */
    {S(SIG "\x21\x31\0\1/"), PROXY_DONE, NULL, 0},     /* UNIX: the same */
    {S(SIG "\x21\x11\0\x0b" V4), PROXY_BAD, NULL, 0},   /* too short for its addresses */
    {S(SIG "\x21\x21\0\x0c" V4), PROXY_BAD, NULL, 0},
    {S(SIG "\x11\x11\0\x0c" V4), PROXY_BAD, NULL, 0},   /* another version */
    {S(SIG "\x22\x11\0\x0c" V4), PROXY_BAD, NULL, 0},   /* another command */
    {S(SIG "\x21\x41\0\x0c" V4), PROXY_BAD, NULL, 0},   /* another family */
    {S(SIG "\x21\x13\0\x0c" V4), PROXY_BAD, NULL, 0},   /* another transport */
    {S(SIG "\x21\x11\x0f\xf1" V4), PROXY_BAD, NULL, 0}, /* 4097 octets in all */
    {S("\r\n\r\n\0\r\nQUIX\n" "\x21\x11\0\x0c" V4), PROXY_BAD, NULL, 0},
};

START_TEST(test_headers)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		for (size_t most = 1; most <= 16384; most *= 128) {
			struct proxy_header h;
			char ip[INET6_ADDRSTRLEN], text[80] = "";
			size_t left;
			enum proxy_result got = feed(rows[i].in, most, &h, &left);
			ck_assert_msg(got == rows[i].want, "row %zu by %zu: %d", i, most, got);
			if (got == PROXY_BAD)
				continue;
			ck_assert_msg(left == rows[i].left, "row %zu: %zu octets left", i, left);
			ck_assert_int_eq(h.has_address, rows[i].peer != NULL);
			if (!h.has_address)
				continue;
			ck_assert(inet_ntop(AF_INET6, &h.peer.sin6_addr, ip, sizeof(ip)) != NULL);
			snprintf(text, sizeof(text), "%s %u", ip, ntohs(h.peer.sin6_port));
			ck_assert_str_eq(text, rows[i].peer);
		}
}
END_TEST

/* Every beginning of a good one is incomplete, and nothing else. */
START_TEST(test_cut)
{
	struct proxy_header h;

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		for (size_t n = 0; rows[i].want == PROXY_DONE && n + rows[i].left < rows[i].in.n; n++)
			ck_assert_msg(proxy_header_parse(slice_sub(rows[i].in, 0, n), &h) == PROXY_MORE, "row %zu, %zu octets", i, n);
}
END_TEST

START_TEST(test_longest)
{
	static uint8_t header[PROXY_HEADER_BYTES_MAX];
	struct proxy_header h;
	size_t left;

	memcpy(header, SIG "\x21\x11\x0f\xf0" V4, 28);
	ck_assert_int_eq(feed(slice_of(header, sizeof(header)), 1000, &h, &left), PROXY_DONE);
	ck_assert(left == 0 && h.has_address);
}
END_TEST

START_TEST(test_networks)
{
	static const struct {
		const char *list, *ip;
		bool valid, has;
	} nets[] = {
	    {"", "::ffff:127.0.0.1", true, false},
	    {"127.0.0.1", "::ffff:127.0.0.1", true, true},
	    {"127.0.0.1", "::ffff:127.0.0.2", true, false},
	    {" 10.0.0.0/8  192.0.2.0/25 ", "::ffff:192.0.2.127", true, true},
	    {"10.0.0.0/8 192.0.2.0/25", "::ffff:192.0.2.128", true, false},
	    {"10.0.0.0/8", "::ffff:10.255.0.1", true, true},
	    {"10.0.0.0/8", "::a00:1", true, false},
	    {"0.0.0.0/0", "::ffff:9.9.9.9", true, true},
	    {"0.0.0.0/0", "2001:db8::1", true, false},
	    {"::/0", "2001:db8::1", true, true},
	    {"2001:db8::/33", "2001:db8:7fff::1", true, true},
	    {"2001:db8::/33", "2001:db8:8000::1", true, false},
	    {"::1", "::1", true, true},
	    {"10.0.0.0/33", "::ffff:10.0.0.0", false, false},
	    {"10.0.0.0/", "::ffff:10.0.0.0", false, false},
	    {"10.0.0.0/8/8", "::ffff:10.0.0.0", false, false},
	    {"10.0.0", "::ffff:10.0.0.0", false, false},
	    {"localhost", "::1", false, false},
	    {"10.0.0.1,10.0.0.2", "::ffff:10.0.0.1", false, false},
	    {"x 10.0.0.1", "::ffff:10.0.0.1", false, true},
	};

	for (size_t i = 0; i < sizeof(nets) / sizeof(*nets); i++) {
		struct in6_addr ip;
		ck_assert_int_eq(inet_pton(AF_INET6, nets[i].ip, &ip), 1);
		ck_assert_msg(proxy_networks_valid(slice_str(nets[i].list)) == nets[i].valid, "%s", nets[i].list);
		ck_assert_msg(proxy_networks_have(slice_str(nets[i].list), &ip) == nets[i].has, "%s", nets[i].list);
	}
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("proxy_header");
	TCase *t = tcase_create("all");

	tcase_add_test(t, test_headers);
	tcase_add_test(t, test_cut);
	tcase_add_test(t, test_longest);
	tcase_add_test(t, test_networks);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
