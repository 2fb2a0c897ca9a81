/*
 * DNS answers as they come from the wire, built here octet by octet: chains, loops, compression, malformed and oversized
 * ones; and the names that mail uses.
 */
#include "common/buf.h"
#include "common/dns.h"
#include "common/dns_name.h"

#include <check.h>

static struct buf packet;
static struct arena *arena;
static struct dns_answer answer;
static unsigned answers;

static void
u16(unsigned v)
{
	buf_put_u8(&packet, (uint8_t)(v >> 8));
	buf_put_u8(&packet, (uint8_t)v);
}

/* "a.b" as labels; "@N" as a pointer to octet N; "" as the root. */
static void
name(const char *text)
{
	struct slice rest = slice_str(text), label;

	if (text[0] == '@') {
		u16(0xC000 | (unsigned)strtoul(text + 1, NULL, 10));
		return;
	}
	while (*text != '\0' && slice_cut(&rest, '.', &label)) {
		buf_put_u8(&packet, (uint8_t)label.n);
		buf_put_slice(&packet, label);
	}
	buf_put_u8(&packet, 0);
}

/* The header and the question a.example; the first answer will be at octet 27. */
static void
begin(unsigned rcode)
{
	buf_reset(&packet);
	u16(1);
	u16(0x8180 | rcode);
	for (int i = 0; i < 4; i++)
		u16(i == 0);
	answers = 0;
	name("a.example");
	u16(DNS_A);
	u16(1);
}

static void
record(const char *owner, unsigned type, const void *data, size_t n)
{
	name(owner);
	u16(type);
	u16(1);
	u16(0);
	u16(300 + answers);
	u16((unsigned)n);
	buf_put(&packet, data, n);
	packet.p[6] = (uint8_t)(++answers >> 8);
	packet.p[7] = (uint8_t)answers;
}

static void
record_name(const char *owner, unsigned type, const char *target)
{
	struct buf whole = packet;
	struct buf data;

	buf_init(&packet, 1000);
	if (type == DNS_MX)
		u16(10);
	name(target);
	data = packet;
	packet = whole;
	record(owner, type, data.p, data.n);
	buf_fini(&data);
}

static enum dns_status
parse(const char *asked, uint16_t type)
{
	arena_reset(arena);
	ck_assert(dns_answer_parse(buf_slice(&packet), slice_str(asked), type, arena, &answer));
	ck_assert((answer.status == DNS_OK) == (answer.count > 0));
	return answer.status;
}

static void
setup(void)
{
	buf_init(&packet, 65535);
	arena = arena_new(512 * 1024);
}

static void
teardown(void)
{
	buf_fini(&packet);
	arena_free(&arena);
}

START_TEST(test_types)
{
	begin(0);
	record("@12", DNS_A, "\1\2\3\4", 4);
	record("A.EXAMPLE", DNS_A, "\1\2\3\5", 4);
	record("other", DNS_A, "\1\2\3\6", 4);
	ck_assert_int_eq(parse("a.example", DNS_A), DNS_OK);
	ck_assert_uint_eq(answer.count, 2);
	ck_assert_uint_eq(answer.ttl, 300);
	ck_assert(slice_eq(answer.records[1].data, SLICE("\1\2\3\5")));
	ck_assert_int_eq(parse("A.Example.", DNS_A), DNS_OK);
	ck_assert_int_eq(parse("a.example", DNS_AAAA), DNS_NODATA);
	begin(0);
	record("@12", DNS_TXT, "\3one\0\4 two", 10);
	record("@12", DNS_TXT, "", 0);
	ck_assert_int_eq(parse("a.example", DNS_TXT), DNS_OK);
	ck_assert(slice_eq(answer.records[0].data, SLICE("one two")));
	ck_assert_uint_eq(answer.records[1].data.n, 0);
	begin(0);
	record_name("@12", DNS_MX, "MX.b.example");
	record_name("@12", DNS_MX, "");
	ck_assert_int_eq(parse("a.example", DNS_MX), DNS_OK);
	ck_assert_uint_eq(answer.records[0].preference, 10);
	ck_assert(slice_eq(answer.records[0].name, SLICE("mx.b.example")));
	ck_assert_uint_eq(answer.records[1].name.n, 0);
	begin(0);
	record_name("@12", DNS_PTR, "o d\\d.\303\274.example");
	ck_assert_int_eq(parse("a.example", DNS_PTR), DNS_OK);
	ck_assert(slice_eq(answer.records[0].name, SLICE("o\\032d\\092d.\\195\\188.example")));
}
END_TEST

START_TEST(test_statuses)
{
	static const struct {
		unsigned rcode;
		enum dns_status want;
	} rows[] = {{0, DNS_NODATA}, {1, DNS_TEMP}, {2, DNS_TEMP}, {3, DNS_NXDOMAIN}, {4, DNS_TEMP}, {5, DNS_TEMP}};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		begin(rows[i].rcode);
		ck_assert_int_eq(parse("a.example", DNS_A), rows[i].want);
	}
}
END_TEST

START_TEST(test_chains)
{
	char owner[16], target[16];

	begin(0);
	record_name("@12", DNS_CNAME, "b.example");
	record("b.example", DNS_A, "\1\2\3\4", 4);
	ck_assert_int_eq(parse("a.example", DNS_A), DNS_OK);
	ck_assert(slice_eq(answer.alias, SLICE("b.example")));
	ck_assert_int_eq(parse("a.example", DNS_CNAME), DNS_OK);
	ck_assert(answer.alias.n == 0);
	ck_assert(slice_eq(answer.records[0].name, SLICE("b.example")));
	begin(3);
	record_name("@12", DNS_CNAME, "b.example");
	ck_assert_int_eq(parse("a.example", DNS_A), DNS_NXDOMAIN);
	begin(0);
	record_name("@12", DNS_CNAME, "b.example");
	record_name("b.example", DNS_CNAME, "a.example");
	ck_assert_int_eq(parse("a.example", DNS_A), DNS_TEMP);
	for (unsigned length = 16; length <= 17; length++) {
		begin(0);
		record_name("@12", DNS_CNAME, "n1");
		for (unsigned i = 1; i < length; i++) {
			snprintf(owner, sizeof owner, "n%u", i);
			snprintf(target, sizeof target, "n%u", i + 1);
			record_name(owner, DNS_CNAME, target);
		}
		snprintf(owner, sizeof owner, "n%u", length);
		record(owner, DNS_A, "\1\2\3\4", 4);
		ck_assert_int_eq(parse("a.example", DNS_A), length == 16 ? DNS_OK : DNS_TEMP);
	}
}
END_TEST

/* Escapes of the name asked mean octets (common/dns.h). */
START_TEST(test_escaped_names)
{
	begin(0);
	record("x y.example", DNS_A, "\1\2\3\4", 4);
	ck_assert_int_eq(parse("x\\032y.example", DNS_A), DNS_OK);
	ck_assert_int_eq(parse("X\\ Y.example", DNS_A), DNS_OK);
	ck_assert_int_eq(parse("x\\", DNS_A), DNS_NODATA);
	ck_assert_int_eq(parse("xy.example", DNS_A), DNS_NODATA);
}
END_TEST

/* Each is no message: a temporary failure. */
START_TEST(test_malformed)
{
	static const char *const owners[] = {"@27", "@28", "@65535", "@12"};

	for (size_t i = 0; i < sizeof owners / sizeof owners[0]; i++) {
		begin(0);
		record(owners[i], DNS_A, "\1\2\3\4", 4);
		ck_assert_int_eq(parse("a.example", DNS_A), i == 3 ? DNS_OK : DNS_TEMP);
	}
	begin(0);
	record("@12", DNS_A, "\1\2\3", 3);
	ck_assert_int_eq(parse("a.example", DNS_A), DNS_TEMP);
	begin(0);
	record("@12", DNS_AAAA, "\1\2\3\4", 4);
	ck_assert_int_eq(parse("a.example", DNS_AAAA), DNS_TEMP);
	begin(0);
	record("@12", DNS_TXT, "\5one", 4);
	ck_assert_int_eq(parse("a.example", DNS_TXT), DNS_TEMP);
	begin(0);
	record("@12", DNS_MX, "\0", 1);
	ck_assert_int_eq(parse("a.example", DNS_MX), DNS_TEMP);
	begin(0);
	record("@12", DNS_MX, "\0\1\1x\0y", 6);
	ck_assert_int_eq(parse("a.example", DNS_MX), DNS_TEMP);
	begin(0);
	record("@12", DNS_CNAME, "\100xyz", 4);
	ck_assert_int_eq(parse("a.example", DNS_A), DNS_TEMP);
	/* More records are announced than there are. */
	begin(0);
	record("@12", DNS_A, "\1\2\3\4", 4);
	packet.p[7] = 2;
	ck_assert_int_eq(parse("a.example", DNS_A), DNS_TEMP);
}
END_TEST

/* Cut anywhere, a good message is a temporary failure. */
START_TEST(test_cut)
{
	begin(0);
	record_name("@12", DNS_CNAME, "b.example");
	record("b.example", DNS_A, "\1\2\3\4", 4);
	for (size_t n = packet.n; n-- > 0;) {
		packet.n = n;
		ck_assert_int_eq(parse("a.example", DNS_A), DNS_TEMP);
	}
}
END_TEST

/* A name of 255 octets is read, one of 256 is not. */
START_TEST(test_limits)
{
	for (unsigned last = 61; last <= 62; last++) {
		char owner[300];

		snprintf(owner, sizeof owner, "%063d.%063d.%063d.%0*d", 1, 2, 3, (int)last, 4);
		begin(0);
		record(owner, DNS_A, "\1\2\3\4", 4);
		ck_assert_int_eq(parse(owner, DNS_A), last == 61 ? DNS_OK : DNS_TEMP);
	}
	/* As many records as a message holds; the last one is there as well. */
	begin(0);
	for (unsigned i = 0; i < 4093; i++)
		record("@12", DNS_A, i == 4092 ? "\1\2\3\5" : "\1\2\3\4", 4);
	ck_assert_uint_le(packet.n, 65535);
	ck_assert_int_eq(parse("a.example", DNS_A), DNS_OK);
	ck_assert_uint_eq(answer.count, 4093);
	ck_assert_uint_eq(answer.records[4092].data.p[3], 5);
	/* Pointers to pointers, each further back: bounded, not followed for ever. */
	begin(0);
	for (unsigned i = 0; i < 400; i++)
		record(i == 0 ? "@12" : "@27", 99, "", 0);
	ck_assert_int_eq(parse("a.example", DNS_A), DNS_NODATA);
	/* An arena that is too small is the only failure. */
	struct arena *small = arena_new(100);
	ck_assert(!dns_answer_parse(buf_slice(&packet), SLICE("a.example"), DNS_A, small, &answer));
	arena_free(&small);
}
END_TEST

START_TEST(test_names)
{
	static const struct {
		const char *in, *out;
	} rows[] = {
		{"Example.COM", "example.com"},
		{"example.com.", "example.com"},
		{"_dmarc.example.com", "_dmarc.example.com"},
		{"b\303\274cher.example", "xn--bcher-kva.example"},
		{"B\303\234CHER.example", "xn--bcher-kva.example"},
		{"xn--bcher-kva.example", "xn--bcher-kva.example"},
		{"fa\303\237.example", "xn--fa-hia.example"},
		{"\346\227\245\346\234\254.example", "xn--wgv71a.example"},
		{"1.2.3.4", "1.2.3.4"},
		{"", NULL},
		{".", NULL},
		{"a..b", NULL},
		{"a.b..", NULL},
		{".a", NULL},
		{"-a.b", NULL},
		{"a-.b", NULL},
		{"a b.c", NULL},
		{"[1.2.3.4]", NULL},
		{"a\342\200\256b.example", NULL},
		{"a\200.example", NULL},
		{"a@b", NULL},
		{"a123456789012345678901234567890123456789012345678901234567890123.x", NULL},
	};
	struct buf b;

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		buf_init(&b, DNS_NAME_BYTES_MAX);
		bool ok = dns_name_to_ascii(slice_str(rows[i].in), &b);
		ck_assert_msg(ok == (rows[i].out != NULL), "%s", rows[i].in);
		ck_assert(!ok || slice_eq(buf_slice(&b), slice_str(rows[i].out)));
		ck_assert(ok || b.n == 0);
		buf_fini(&b);
	}
	ck_assert(dns_name_within(SLICE("a.Example.com"), SLICE("example.COM")));
	ck_assert(dns_name_within(SLICE("example.com"), SLICE("example.com")));
	ck_assert(!dns_name_within(SLICE("badexample.com"), SLICE("example.com")));
	ck_assert(!dns_name_within(SLICE("com"), SLICE("example.com")));
	ck_assert(!dns_name_within(SLICE("com"), SLICE("")));
	ck_assert_uint_eq(dns_name_labels(SLICE("a.b.c")), 3);
	ck_assert_uint_eq(dns_name_labels(SLICE("")), 0);
}
END_TEST

int
main(void)
{
	const TTest *const tests[] = {test_types, test_statuses, test_chains, test_escaped_names, test_malformed, test_cut,
	    test_limits, test_names};
	Suite *s = suite_create("dns");
	TCase *t = tcase_create("dns");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++)
		tcase_add_test(t, tests[i]);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
