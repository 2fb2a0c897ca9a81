/*
 * Two readings of SPF side by side: check_host() of this server and libspf2, over zones, clients and senders that are made by chance.
 * Where they differ a rule of RFC 7208 must say why. Each zone may have one oddity of the list below; made by the same chance but without
 * it, and within the limits of 4.6.4, the two must agree: so a difference is put down to that oddity alone.
 *
 *   spf_diff [--count N] [--seed S] [--show]    the last line counts differences by rule; exit status 1: one is not explained
 */
#include "admin/spf2.h"
#include "common/buf.h"
#include "smtpd/spf.h"
#include "tests/unit/fake_dns.h"

#include <stdio.h>

#define NAMES 6u
#define TERMS_MAX 7u
#define TEXT_BYTES 512u
#define UNEXPLAINED_MAX 10u
#define LABEL "abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz01"

enum oddity {
	ODD_CIDR_ZERO,
	ODD_CIDR_LEADING_ZERO,
	ODD_REDIRECT_FIRST,
	ODD_MODIFIER_NAME,
	ODD_MODIFIER_TWICE,
	ODD_TOP_LABEL,
	ODD_MACRO,
	ODD_EMPTY_DOMAIN,
	ODD_OCTET,
	ODD_LONG_NAME,
	ODD_COUNT
};
static const char *const rules[] = {
    [ODD_CIDR_ZERO] = "5.6, 12: a prefix length of 0",
    [ODD_CIDR_LEADING_ZERO] = "12: a prefix length has no leading zero",
    [ODD_REDIRECT_FIRST] = "6.1: redirect= may stand anywhere",
    [ODD_MODIFIER_NAME] = "12: name of a modifier",
    [ODD_MODIFIER_TWICE] = "6: redirect= and exp= once at most",
    [ODD_TOP_LABEL] = "7.1: toplabel",
    [ODD_MACRO] = "7.1: macro-string",
    [ODD_EMPTY_DOMAIN] = "7.1: a domain-spec is not empty",
    [ODD_OCTET] = "12: visible octets of US-ASCII",
    [ODD_LONG_NAME] = "7.3: 253 octets of an expanded name",
};

/* ---- chance ---- */

static uint64_t state;

static unsigned
below(unsigned n)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)((state >> 33) % n);
}

/* ---- a zone ---- */

struct zone {
	struct fake_dns dns;
	char names[NAMES][32];
	char texts[NAMES][TEXT_BYTES];
	enum oddity may; /* ODD_COUNT: none */
	bool odd;	 /* it has it */
};

/* True once in a while, when the zone may have it. The same chance is taken either way. */
static bool
oddly(struct zone *z, enum oddity o)
{
	bool now = below(6) == 0 && z->may == o;

	z->odd |= now;
	return now;
}

static const char *
name_of(struct zone *z)
{
	static const char *const odd_top[] = {"x.test.1", "example.t-", "1"};
	static const char *const odd_macro[] = {"%{x}.test", "a%b.test", "%{d.test", "%{l"};
	static char text[TEXT_BYTES];
	unsigned which = below(NAMES + 3), odd = below(3);
	bool top = oddly(z, ODD_TOP_LABEL), macro = oddly(z, ODD_MACRO), empty = oddly(z, ODD_EMPTY_DOMAIN), longer = oddly(z, ODD_LONG_NAME),
	     octet = oddly(z, ODD_OCTET);

	(void)snprintf(text, sizeof text, "%s", which < NAMES ? z->names[which] : which == NAMES ? "none.test" : "%{d}");
	if (which == NAMES + 1)
		(void)snprintf(text, sizeof text, "%%{ir}.%%{v}.test");
	if (octet)
		return odd == 0 ? "n0.test\226x" : odd == 1 ? "n1.test\001" : "\303\251.test";
	if (top)
		return odd_top[odd];
	if (macro)
		return odd_macro[odd];
	if (longer)
		(void)snprintf(text, sizeof text, LABEL "." LABEL "." LABEL "." LABEL ".%s", z->names[0]);
	return empty ? "" : text;
}

static const char *
prefix_of(struct zone *z, bool six)
{
	static const char *const plain4[] = {"", "/24", "/32", "/8"}, *const plain6[] = {"", "/32", "/64", "/128"};
	unsigned i = below(4);
	bool zero = oddly(z, ODD_CIDR_ZERO), leading = oddly(z, ODD_CIDR_LEADING_ZERO);

	return zero ? "/0" : leading ? "/032" : six ? plain6[i] : plain4[i];
}

static void
put_term(struct zone *z, struct buf *b)
{
	static const char *const qualifiers[] = {"", "+", "-", "~", "?"};
	const char *q = qualifiers[below(5)];

	switch (below(8)) {
	case 0:
		buf_putf(b, " %sip4:192.0.2.%u%s", q, below(3), prefix_of(z, false));
		break;
	case 1:
		buf_putf(b, " %sip6:2001:db8::%u%s", q, below(3), prefix_of(z, true));
		break;
	case 2:
		buf_putf(b, " %sa:%s", q, name_of(z));
		buf_put_str(b, prefix_of(z, false));
		break;
	case 3:
		buf_putf(b, " %smx:%s", q, name_of(z));
		break;
	case 4:
		buf_putf(b, " %sinclude:%s", q, name_of(z));
		break;
	case 5:
		buf_putf(b, " %sexists:%s", q, name_of(z));
		break;
	case 6:
		buf_putf(b, " %s%s", q, below(2) ? "a" : "mx");
		break;
	default:
		buf_putf(b, " %s=%s", oddly(z, ODD_MODIFIER_NAME) ? "x-y.z_w" : "xyz", "v");
		break;
	}
}

static void
make_record(struct zone *z, unsigned at)
{
	unsigned terms = below(TERMS_MAX), end = below(4);
	bool first = oddly(z, ODD_REDIRECT_FIRST), twice = oddly(z, ODD_MODIFIER_TWICE);
	struct buf b;

	buf_init(&b, TEXT_BYTES - 1);
	buf_put_str(&b, "v=spf1");
	if (first)
		buf_putf(&b, " redirect=%s", z->names[0]);
	for (unsigned i = 0; i < terms; i++)
		put_term(z, &b);
	if (end == 0)
		buf_put_str(&b, below(2) ? " -all" : " ~all");
	if (end == 1 && !first)
		buf_putf(&b, " redirect=%s", name_of(z));
	if (twice)
		buf_putf(&b, " exp=%s exp=%s", z->names[1], z->names[1]);
	memcpy(z->texts[at], b.p, b.n);
	z->texts[at][b.n] = '\0';
	buf_fini(&b);
}

static void
make_zone(struct zone *z, uint64_t seed, enum oddity may)
{
	static const struct slice addresses[] = {{(const uint8_t *)"\300\0\2\0", 4}, {(const uint8_t *)"\300\0\2\1", 4}, {(const uint8_t *)"\312\0\161\5", 4}};

	state = seed * 0x9e3779b97f4a7c15u + 1;
	fake_dns_init(&z->dns);
	z->odd = false;
	z->may = may;
	for (unsigned i = 0; i < NAMES; i++)
		(void)snprintf(z->names[i], sizeof z->names[i], "n%u.test", i);
	for (unsigned i = 0; i < NAMES; i++) {
		make_record(z, i);
		if (below(8) != 0)
			fake_txt(&z->dns, z->names[i], z->texts[i]);
		if (below(3) != 0)
			fake_row(&z->dns, z->names[i], DNS_A)->data = addresses[below(3)];
		if (below(3) != 0) {
			struct fake_row *r = fake_row(&z->dns, z->names[i], DNS_MX);

			r->preference = 10;
			r->target = z->names[below(NAMES)];
		}
		if (below(12) == 0)
			fake_status(&z->dns, z->names[i], DNS_TEMP);
	}
}

/* ---- the two readings ---- */

static void
on_done(void *arg, const struct spf_outcome *o)
{
	struct spf_outcome *to = arg;

	*to = *o;
}

static struct spf_outcome
read_ours(struct zone *z, const uint8_t ip[16], const char *sender)
{
	struct spf_query q = {.helo = SLICE("helo.test"), .receiver = SLICE("receiver.invalid")};
	struct spf_outcome o = {.result = SPF_RESULT_COUNT};
	struct slice from = slice_str(sender);
	size_t at = slice_rindex(from, '@');

	memcpy(q.ip, ip, sizeof q.ip);
	q.local = slice_sub(from, 0, at);
	q.domain = slice_sub(from, at + 1, from.n);
	struct spf_check *c = spf_check_new(&z->dns.asker, &q, on_done, &o);

	spf_check_start(c);
	fake_dns_run(&z->dns);
	assert(o.result != SPF_RESULT_COUNT);
	spf_check_free(&c);
	return o;
}

static void
lookup(void *arg, const char *name, uint16_t type, struct dns_answer *answer_r)
{
	static struct dns_record records[DNS_RECORDS_MAX];
	struct zone *z = arg;
	struct dns_answer a = {.records = records};

	a.status = fake_lookup(&z->dns, slice_str(name), type, 0, &a);
	*answer_r = a;
}

struct case_of {
	uint8_t ip[16];
	const char *sender;
};

static struct case_of
choose_case(const struct zone *z)
{
	static char sender[64];
	struct case_of c = {.ip = {[10] = 0xff, [11] = 0xff, [12] = 192, [14] = 2}};

	c.ip[15] = (uint8_t)below(4);
	if (below(4) == 0)
		memcpy(c.ip, (const uint8_t[16]){0x20, 1, 0xd, 0xb8, [15] = (uint8_t)below(3)}, 16);
	(void)snprintf(sender, sizeof sender, "user@%s", z->names[below(NAMES)]);
	c.sender = sender;
	return c;
}

struct both {
	struct spf_outcome ours;
	struct spf2_outcome theirs;
	bool agree;
	bool limits; /* 4.6.4 ended ours */
};

static struct both
read_both(struct zone *z, uint64_t seed, enum oddity may)
{
	struct both b;

	make_zone(z, seed, may);
	state = seed ^ 0x5deece66d;
	struct case_of c = choose_case(z);
	struct spf2_query q = {.helo = "helo.test", .sender = c.sender};

	memcpy(q.ip, c.ip, sizeof q.ip);
	b.ours = read_ours(z, c.ip, c.sender);
	spf2_check(&q, lookup, z, &b.theirs);
	b.agree = strcmp(spf_result_name(b.ours.result), b.theirs.result) == 0;
	b.limits = b.ours.lookups >= SPF_LOOKUPS_MAX || b.ours.void_lookups > SPF_VOID_LOOKUPS_MAX;
	return b;
}

static void
show(const struct zone *z, uint64_t seed, const struct both *b)
{
	printf("seed %llu: ours %s, libspf2 %s (%s)\n", (unsigned long long)seed, spf_result_name(b->ours.result), b->theirs.result,
	    b->theirs.reason);
	for (unsigned i = 0; i < NAMES; i++)
		printf("  %s  %s\n", z->names[i], z->texts[i]);
}

/* How often, of all cases and of those that differ. */
static struct {
	uint64_t cases, differ, unexplained;
	uint64_t results[SPF_RESULT_COUNT];
	uint64_t limits;
	uint64_t rule[ODD_COUNT];
} counts;

static void
judge(struct zone *z, uint64_t seed, bool verbose)
{
	enum oddity may = (enum oddity)(seed % (ODD_COUNT + 1));
	struct both b = read_both(z, seed, may);
	bool odd = z->odd;

	counts.cases++;
	counts.results[b.ours.result]++;
	if (b.agree)
		return;
	counts.differ++;
	if (verbose)
		show(z, seed, &b);
	if (b.limits) {
		counts.limits++;
		return;
	}
	struct both plain = read_both(z, seed, ODD_COUNT);

	if (odd && (plain.agree || plain.limits)) {
		counts.rule[may]++;
		return;
	}
	show(z, seed, &plain);
	counts.unexplained++;
}

static void
print_counts(void)
{
	printf("results:");
	for (unsigned r = 0; r < SPF_RESULT_COUNT; r++)
		printf(" %s %llu", spf_result_name((enum spf_result)r), (unsigned long long)counts.results[r]);
	printf("\ndifferences by the rule that libspf2 departs from:\n");
	for (unsigned o = 0; o < ODD_COUNT; o++)
		printf("  %8llu  RFC 7208 %s\n", (unsigned long long)counts.rule[o], rules[o]);
	printf("  %8llu  RFC 7208 4.6.4: a limit ended ours\n", (unsigned long long)counts.limits);
	printf("spf_diff: %llu cases, %llu differ, %llu of them not explained\n", (unsigned long long)counts.cases,
	    (unsigned long long)counts.differ, (unsigned long long)counts.unexplained);
}

int
main(int argc, char **argv)
{
	static struct zone z;
	uint64_t count = 100000, seed = 1;
	bool verbose = false;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--show") == 0)
			verbose = true;
		else if (i + 1 < argc && strcmp(argv[i], "--count") == 0)
			(void)slice_u64(slice_str(argv[++i]), UINT32_MAX, &count);
		else if (i + 1 < argc && strcmp(argv[i], "--seed") == 0)
			(void)slice_u64(slice_str(argv[++i]), UINT32_MAX, &seed);
	}
	for (uint64_t i = seed; i < seed + count && counts.unexplained < UNEXPLAINED_MAX; i++)
		judge(&z, i, verbose);
	print_counts();
	return counts.unexplained != 0;
}
