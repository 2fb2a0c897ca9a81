/*
 * Two readings of SPF side by side: check_host() of this server and libspf2, over zones, clients and senders that are made by chance.
 * Where they differ a rule of RFC 7208 must say why, and the rule is tried: each zone may have one oddity of the list below, and is made
 * a second time, by the same chance, with something else in its place that the rule says is the same and libspf2 can read. Then libspf2
 * must come to what we read in the zone as it was. Beside that only the limits of 4.6.4 explain anything: when ours ended past one of
 * them, and libspf2 asked for more than is allowed.
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
#define TEXT_BYTES 4096u
#define UNEXPLAINED_MAX 10u
#define LABEL "abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz0"
#define LABEL_53 "abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopq"
#define LONG_NAME LABEL_53 "." LABEL "." LABEL "." LABEL ".n0.test"
#define TARGETS 14u /* hosts of MX and PTR records, of which some are the client's */
/* RFC 7208 4.6.4, whatever ours has for it. */
#define LOOKUPS 10u
#define VOID_LOOKUPS 2u
#define HOSTS 10u
#define BAD_TERM " ip4:bad" /* what both read as an error of syntax */

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
	ODD_PTR_NAMES,
	ODD_P_MACRO,
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
    [ODD_PTR_NAMES] = "4.6.4: of the client's names ten are looked at",
    [ODD_P_MACRO] = "7.3: %{p} is the domain itself if it is validated, or one below it",
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
	char targets[TARGETS][32];
	char arpa[128];
	uint8_t ip[16]; /* of the client */
	bool four;
	enum oddity may; /* ODD_COUNT: none */
	bool odd;	 /* it has it */
	bool as_ruled;	 /* what the rule says is the same stands in its place */
	bool bad;	 /* that is an error of syntax in the term being made */
	bool many_mx;	 /* libspf2 was told of more hosts than are allowed */
	unsigned at;	 /* the name whose record is being made */
	unsigned ptr_n;
	unsigned ptr[TARGETS];
};

/* True once in a while, when the zone may have it. The same chance is taken either way. */
static bool
oddly(struct zone *z, enum oddity o)
{
	bool now = below(6) == 0 && z->may == o;

	z->odd |= now;
	return now;
}

/* What is an error by the rules: as it is, or one that libspf2 sees, too. */
static const char *
error_of(struct zone *z, const char *text)
{
	z->bad |= z->as_ruled;
	return z->as_ruled ? z->names[0] : text;
}

/* The records of a target: those with even numbers are the client's. */
static bool
target_is_client(unsigned t)
{
	return t % 2 == 0;
}

/* RFC 7208 5.5, 7.3: "p" for the record that is being made. */
static const char *
p_of(const struct zone *z)
{
	const char *any = NULL, *below_it = NULL;
	const char *domain = z->names[z->at];
	size_t n = strlen(domain);

	for (unsigned i = 0; i < z->ptr_n && i < HOSTS; i++) {
		const char *name = z->targets[z->ptr[i]];
		size_t have = strlen(name);

		if (!target_is_client(z->ptr[i]))
			continue;
		if (any == NULL)
			any = name;
		if (below_it == NULL && have > n && strcmp(name + have - n, domain) == 0 && name[have - n - 1] == '.')
			below_it = name;
	}
	return below_it ? below_it : any ? any : "unknown";
}

static const char *
name_of(struct zone *z)
{
	static const char *const odd_top[] = {"x.test.1", "example.t-", "1", "test"};
	static const char *const odd_macro[] = {"%{x}.test", "a%b.test", "%{d.test", "%{l"};
	static const char *const odd_octet[] = {"n0.test\226x", "n1.test\001", "\303\251.test", "\177.test"};
	static const char *const plain[] = {"none.test", "%{d}", "%{ir}.%{v}.test", "%{l}.%{o}", "%{d1r}.test", "six.test"};
	static char text[TEXT_BYTES];
	unsigned which = below(NAMES + 6), odd = below(4);
	bool top = oddly(z, ODD_TOP_LABEL), macro = oddly(z, ODD_MACRO), empty = oddly(z, ODD_EMPTY_DOMAIN), longer = oddly(z, ODD_LONG_NAME),
	     octet = oddly(z, ODD_OCTET), p = oddly(z, ODD_P_MACRO);

	if (octet)
		return error_of(z, odd_octet[odd]);
	if (top)
		return error_of(z, odd_top[odd]);
	if (macro)
		return error_of(z, odd_macro[odd]);
	if (empty)
		return error_of(z, "");
	if (longer)
		return z->as_ruled ? "long.test" : LABEL "." LONG_NAME;
	if (!p)
		return which < NAMES ? z->names[which] : plain[which - NAMES];
	(void)snprintf(text, sizeof text, "%s.ok.test", z->as_ruled ? p_of(z) : "%{p}");
	return text;
}

static const char *
prefix_of(struct zone *z, bool six)
{
	static const char *const plain4[] = {"", "/24", "/32", "/8"}, *const plain6[] = {"", "/32", "/64", "/128"};
	unsigned i = below(4);

	if (oddly(z, ODD_CIDR_LEADING_ZERO))
		return error_of(z, six ? "/064" : "/032");
	return z->bad ? "" : six ? plain6[i] : plain4[i];
}

/* A network, and its prefix length of 0 as two halves. */
static void
put_network(struct zone *z, struct buf *b, const char *q, bool six)
{
	unsigned host = below(3);
	const char *prefix = prefix_of(z, six);
	bool zero = oddly(z, ODD_CIDR_ZERO);

	if (zero && z->as_ruled)
		buf_putf(b, six ? " %sip6:::/1 %sip6:8000::/1" : " %sip4:0.0.0.0/1 %sip4:128.0.0.0/1", q, q);
	else
		buf_putf(b, six ? " %sip6:2001:db8::%u%s" : " %sip4:192.0.2.%u%s", q, host, zero ? "/0" : prefix);
}

/* "a" with a prefix length of 0 is any IPv4 address of the name, to a client with one. */
static void
put_a(struct zone *z, struct buf *b, const char *q)
{
	const char *name = name_of(z), *prefix4 = prefix_of(z, false);
	bool both = below(3) == 0;
	const char *prefix6 = both ? prefix_of(z, true) : "";
	bool zero = oddly(z, ODD_CIDR_ZERO);

	if (zero && z->as_ruled)
		buf_putf(b, z->four ? " %sexists:%s" : " %sa:%s", q, name);
	else if (zero)
		buf_putf(b, " %sa:%s/0", q, name);
	else
		buf_putf(b, " %sa:%s%s%s%s", q, name, prefix4, *prefix6 ? "/" : "", prefix6);
}

static void
put_term(struct zone *z, struct buf *b)
{
	static const char *const qualifiers[] = {"", "+", "-", "~", "?"}, *const own[] = {"a", "mx", "ptr", "a/24", "mx/24//64", "ptr:n2.test"};
	const char *q = qualifiers[below(5)];

	z->bad = false;
	switch (below(11)) {
	case 0:
		put_network(z, b, q, false);
		break;
	case 1:
		put_network(z, b, q, true);
		break;
	case 2:
		put_a(z, b, q);
		break;
	case 3:
		buf_putf(b, " %smx:%s", q, name_of(z));
		buf_put_str(b, prefix_of(z, false));
		break;
	case 4:
		buf_putf(b, " %sinclude:%s", q, name_of(z));
		break;
	case 5:
	case 6:
		buf_putf(b, " %sexists:%s", q, name_of(z));
		break;
	case 7:
		buf_putf(b, " %sptr:%s", q, name_of(z));
		break;
	case 8:
	case 9:
		buf_putf(b, " %s%s", q, own[below(6)]);
		break;
	default:
		buf_putf(b, " %s=%s", oddly(z, ODD_MODIFIER_NAME) && !z->as_ruled ? "x-y.z_w" : "xyz", "v");
		break;
	}
	if (z->bad)
		buf_put_str(b, BAD_TERM);
}

static void
make_record(struct zone *z, unsigned at)
{
	unsigned terms = below(TERMS_MAX) + (below(5) == 0 ? 6 : 0), end = below(5);
	bool first = oddly(z, ODD_REDIRECT_FIRST), twice = oddly(z, ODD_MODIFIER_TWICE);
	struct buf b;

	z->at = at;
	buf_init(&b, TEXT_BYTES - 1);
	buf_put_str(&b, "v=spf1");
	if (first && !z->as_ruled)
		buf_putf(&b, " redirect=%s", z->names[0]);
	for (unsigned i = 0; i < terms; i++)
		put_term(z, &b);
	if (end == 0)
		buf_put_str(&b, below(2) ? " -all" : " ~all");
	z->bad = false;
	if (end == 1 && !first)
		buf_putf(&b, " redirect=%s", name_of(z));
	if (end == 2)
		buf_putf(&b, " exp=%s", z->names[1]);
	if (first && z->as_ruled)
		buf_putf(&b, " redirect=%s", z->names[0]);
	if (twice)
		buf_putf(&b, " exp=%s exp=%s", z->names[1], z->names[1]);
	if (z->bad || (twice && z->as_ruled))
		buf_put_str(&b, BAD_TERM);
	assert(b.n < TEXT_BYTES);
	memcpy(z->texts[at], b.p, b.n);
	z->texts[at][b.n] = '\0';
	buf_fini(&b);
}

static void
put_address(struct zone *z, const char *name, const uint8_t *ip, bool four)
{
	fake_row(&z->dns, name, four ? DNS_A : DNS_AAAA)->data = slice_of(ip, four ? 4 : 16);
}

/* Hosts: half of them are the client's. Its names are some of them. */
static void
make_hosts(struct zone *z)
{
	static const uint8_t other4[4] = {202, 0, 113, 5}, other6[16] = {0x20, 1, 0xd, 0xb9, [15] = 5};
	unsigned n = below(5), more = below(3);

	for (unsigned t = 0; t < TARGETS; t++) {
		const uint8_t *own = z->four ? z->ip + 12 : z->ip;

		(void)snprintf(z->targets[t], sizeof z->targets[t], t < 6 ? "h%u.n%u.test" : "h%u.example", t, t % NAMES);
		put_address(z, z->targets[t], target_is_client(t) ? own : z->four ? other4 : other6, z->four);
	}
	if (oddly(z, ODD_PTR_NAMES))
		n = z->as_ruled ? HOSTS : HOSTS + 1 + more;
	z->ptr_n = n;
	for (unsigned i = 0, from = below(TARGETS); i < n; i++) {
		z->ptr[i] = (from + i) % TARGETS;
		fake_row(&z->dns, z->arpa, DNS_PTR)->target = z->targets[z->ptr[i]];
	}
}

static void
make_arpa(struct zone *z)
{
	struct buf b;

	buf_init(&b, sizeof z->arpa - 1);
	if (z->four)
		buf_putf(&b, "%u.2.0.192.in-addr.arpa", z->ip[15]);
	for (unsigned i = 16; !z->four && i > 0; i--)
		buf_putf(&b, "%x.%x.", z->ip[i - 1] & 15u, z->ip[i - 1] >> 4u);
	if (!z->four)
		buf_put_str(&b, "ip6.arpa");
	memcpy(z->arpa, b.p, b.n);
	z->arpa[b.n] = '\0';
	buf_fini(&b);
}

static void
make_name(struct zone *z, unsigned i)
{
	static const uint8_t addresses[][4] = {{192, 0, 2, 0}, {192, 0, 2, 1}, {202, 0, 113, 5}};
	static const uint8_t addresses6[][16] = {{0x20, 1, 0xd, 0xb8}, {0x20, 1, 0xd, 0xb8, [15] = 1}, {0x20, 1, 0xd, 0xb9}};
	unsigned mx = below(24);

	if (below(8) != 0)
		fake_txt(&z->dns, z->names[i], z->texts[i]);
	for (unsigned n = below(3); n > 0; n--)
		put_address(z, z->names[i], addresses[below(3)], true);
	for (unsigned n = below(3); n > 0; n--)
		put_address(z, z->names[i], addresses6[below(3)], false);
	/* Once in a while one more than is allowed. */
	for (unsigned n = mx == 0 ? HOSTS + 1 : mx % 4; n > 0; n--) {
		struct fake_row *r = fake_row(&z->dns, z->names[i], DNS_MX);

		r->preference = (uint16_t)n;
		r->target = below(2) ? z->names[below(NAMES)] : z->targets[below(TARGETS)];
	}
	if (below(12) == 0)
		fake_status(&z->dns, z->names[i], DNS_TEMP);
}

_Static_assert(sizeof LONG_NAME - 1 == 253, "the longest name there is");

static void
make_zone(struct zone *z, uint64_t seed, enum oddity may, bool as_ruled)
{
	static const uint8_t yes[4] = {127, 0, 0, 2}, six[16] = {0x20, 1, 0xd, 0xb8, [15] = 1};

	state = seed * 0x9e3779b97f4a7c15u + 1;
	fake_dns_init(&z->dns);
	z->odd = z->many_mx = false;
	z->may = may;
	z->as_ruled = as_ruled;
	z->four = z->ip[0] == 0;
	make_arpa(z);
	make_hosts(z);
	for (unsigned i = 0; i < NAMES; i++)
		(void)snprintf(z->names[i], sizeof z->names[i], "n%u.test", i);
	for (unsigned i = 0; i < NAMES; i++) {
		make_record(z, i);
		make_name(z, i);
	}
	/* Of records with several names as long libspf2 reads but the beginning: it has another name for the same. */
	fake_row(&z->dns, LONG_NAME, DNS_CNAME)->target = z->names[0];
	fake_row(&z->dns, LABEL_53 ".test", DNS_CNAME)->target = z->names[0];
	fake_row(&z->dns, "long.test", DNS_CNAME)->target = z->names[0];
	put_address(z, "six.test", six, false);
	put_address(z, "h0.n0.test.ok.test", yes, true);
	put_address(z, "h2.n2.test.ok.test", yes, true);
	put_address(z, "h8.example.ok.test", yes, true);
	put_address(z, "unknown.ok.test", yes, true);
}

/* ---- the two readings ---- */

/* Of ours, whose texts end with its check. */
struct reading {
	enum spf_result result;
	unsigned lookups, void_lookups;
	char mechanism[SPF_MECHANISM_BYTES_MAX + 1];
};

static void
on_done(void *arg, const struct spf_outcome *o)
{
	struct reading *to = arg;

	*to = (struct reading){o->result, o->lookups, o->void_lookups, ""};
	(void)!slice_cstr(o->mechanism, to->mechanism, sizeof to->mechanism);
}

static struct reading
read_ours(struct zone *z, const uint8_t ip[16], const char *sender)
{
	struct spf_query q = {.helo = SLICE("helo.test"), .receiver = SLICE("receiver.invalid")};
	struct reading o = {.result = SPF_RESULT_COUNT};
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
	z->many_mx |= type == DNS_MX && a.count > HOSTS;
	*answer_r = a;
}

/* The client, and who it says the sender is. */
static const char *
choose_case(struct zone *z, uint64_t seed)
{
	static char sender[64];

	state = seed ^ 0x5deece66d;
	memcpy(z->ip, (const uint8_t[16]){[10] = 0xff, [11] = 0xff, [12] = 192, [14] = 2}, 16);
	z->ip[15] = (uint8_t)below(4);
	if (below(4) == 0)
		memcpy(z->ip, (const uint8_t[16]){0x20, 1, 0xd, 0xb8, [15] = (uint8_t)below(3)}, 16);
	(void)snprintf(sender, sizeof sender, "user@n%u.test", below(NAMES));
	return sender;
}

struct both {
	struct reading ours;
	struct spf2_outcome theirs;
};

static bool
agree(const struct reading *ours, const struct spf2_outcome *theirs)
{
	return strcmp(spf_result_name(ours->result), theirs->result) == 0;
}

static struct both
read_both(struct zone *z, uint64_t seed, enum oddity may, bool as_ruled)
{
	struct both b;
	const char *sender = choose_case(z, seed);
	struct spf2_query q = {.helo = "helo.test", .sender = sender};

	make_zone(z, seed, may, as_ruled);
	memcpy(q.ip, z->ip, sizeof q.ip);
	b.ours = read_ours(z, z->ip, sender);
	spf2_check(&q, lookup, z, &b.theirs);
	return b;
}

static void
show(const struct zone *z, uint64_t seed, const struct both *b)
{
	printf("seed %llu%s: ours %s (%s, %u look-ups, %u void), libspf2 %s (%s, %u questions)\n", (unsigned long long)seed,
	    z->as_ruled ? " by the rule" : "", spf_result_name(b->ours.result), b->ours.mechanism, b->ours.lookups, b->ours.void_lookups,
	    b->theirs.result, b->theirs.reason, b->theirs.questions);
	for (unsigned i = 0; i < NAMES; i++)
		printf("  %s  %s\n", z->names[i], z->texts[i]);
}

/* How often, of all cases and of those that differ. */
static struct {
	uint64_t cases, differ, unexplained;
	uint64_t results[SPF_RESULT_COUNT];
	uint64_t lookups, void_lookups, mx_names;
	uint64_t rule[ODD_COUNT];
} counts;

/* 4.6.4: one term more than is allowed is an error. libspf2 did ask for the record and for each of those terms. */
static bool
past_lookups(const struct reading *ours, const struct spf2_outcome *theirs)
{
	return ours->result == SPF_RESULT_PERMERROR && ours->lookups > LOOKUPS && theirs->questions > LOOKUPS;
}

static bool
past_void_lookups(const struct reading *ours, const struct spf2_outcome *theirs)
{
	return ours->result == SPF_RESULT_PERMERROR && ours->void_lookups > VOID_LOOKUPS && theirs->questions > VOID_LOOKUPS + 1;
}

/* 4.6.4: more than ten hosts of an mx are an error. */
static bool
past_mx_names(const struct zone *z, const struct reading *ours)
{
	return ours->result == SPF_RESULT_PERMERROR && z->many_mx && strncmp(ours->mechanism + (strchr("+-~?", ours->mechanism[0]) != NULL), "mx", 2) == 0;
}

static void
judge(struct zone *z, uint64_t seed, bool verbose)
{
	enum oddity may = (enum oddity)(seed % (ODD_COUNT + 1));
	struct both b = read_both(z, seed, may, false);
	bool odd = z->odd;

	counts.cases++;
	counts.results[b.ours.result]++;
	if (agree(&b.ours, &b.theirs))
		return;
	counts.differ++;
	if (verbose)
		show(z, seed, &b);
	struct both ruled = read_both(z, seed, may, true);

	if (odd && ruled.ours.result == b.ours.result && agree(&b.ours, &ruled.theirs)) {
		counts.rule[may]++;
	} else if (past_lookups(&b.ours, &ruled.theirs)) {
		counts.lookups++;
	} else if (past_void_lookups(&b.ours, &ruled.theirs)) {
		counts.void_lookups++;
	} else if (past_mx_names(z, &b.ours)) {
		counts.mx_names++;
	} else {
		counts.unexplained++;
		show(z, seed, &ruled);
		(void)read_both(z, seed, may, false);
		show(z, seed, &b);
	}
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
	printf("  %8llu  RFC 7208 4.6.4: ten terms that ask\n", (unsigned long long)counts.lookups);
	printf("  %8llu  RFC 7208 4.6.4: two look-ups without an answer\n", (unsigned long long)counts.void_lookups);
	printf("  %8llu  RFC 7208 4.6.4: ten hosts of an mx\n", (unsigned long long)counts.mx_names);
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
