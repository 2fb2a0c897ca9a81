#include "smtpd/policy.h"

#include "common/dns_name.h"
#include "smtpd/proxy_header.h"
#include "smtpd/smtp_grammar.h"

#include <arpa/inet.h>
#include <assert.h>

/* ---- the client's name for itself ---- */

const char *
policy_helo_name(enum policy_helo h)
{
	static const char *const names[POLICY_HELO_COUNT] = {"name", "literal", "other-literal", "unqualified", "ours"};

	assert(h < POLICY_HELO_COUNT);
	return names[h];
}

/* "[192.0.2.1]" or "[IPv6:2001:db8::1]" as 16 octets. */
static bool
literal_address(struct slice helo, uint8_t ip[16])
{
	struct slice text = slice_sub(helo, 1, helo.n - 1);
	char buffer[INET6_ADDRSTRLEN];

	memset(ip, 0, 16);
	if (slice_starts_nocase(text, SLICE("IPv6:")))
		return slice_cstr(slice_sub(text, 5, text.n), buffer, sizeof(buffer)) && inet_pton(AF_INET6, buffer, ip) == 1;
	ip[10] = ip[11] = 0xff;
	return slice_cstr(text, buffer, sizeof(buffer)) && inet_pton(AF_INET, buffer, ip + 12) == 1;
}

enum policy_helo
policy_helo_of(struct slice helo, const uint8_t ip[16], struct slice hostname)
{
	uint8_t said[16];

	if (helo.n > 2 && helo.p[0] == '[' && helo.p[helo.n - 1] == ']')
		return literal_address(helo, said) && memcmp(said, ip, sizeof(said)) == 0 ? POLICY_HELO_LITERAL
											   : POLICY_HELO_OTHER_LITERAL;
	if (helo.n > 0 && helo.p[helo.n - 1] == '.')
		helo.n--;
	if (slice_eq_nocase(helo, hostname))
		return POLICY_HELO_OURS;
	return slice_index(helo, '.') < helo.n ? POLICY_HELO_NAME : POLICY_HELO_UNQUALIFIED;
}

/* ---- ARC ---- */

static bool
is_trusted(struct slice domain, struct slice trusted)
{
	struct slice one;

	while (slice_cut(&trusted, ' ', &one))
		if (one.n > 0 && slice_eq_nocase(one, domain))
			return true;
	return false;
}

bool
policy_arc_overrides(const struct verdict *v, const struct policy_settings *s)
{
	if (v->dmarc.result != DMARC_RESULT_FAIL || v->arc.result != ARC_RESULT_PASS)
		return false;
	for (unsigned i = 0; i < v->arc.sealer_count && is_trusted(v->arc.sealers[i].domain, s->arc_trusted); i++)
		if (v->arc.sealers[i].dmarc_pass)
			return true;
	return false;
}

/* ---- the author ---- */

/*
 * A domain that can be looked up, or the address of a machine, and one "@" before it. Anything else is none, whatever it looks like to a
 * reader.
 */
static bool
has_domain(const struct verdict_form *f)
{
	struct buf b;
	bool good;

	buf_init(&b, DNS_NAME_BYTES_MAX);
	good = dns_name_to_ascii(f->from_domain, &b) || smtp_literal_valid(f->from_domain);
	buf_fini(&b);
	return good && slice_index(f->from_address, '@') == slice_rindex(f->from_address, '@');
}

/* ---- exceptions ---- */

/* The A-labels of a word that is a domain's name: the last label of one begins with no digit. */
static bool
except_domain(struct slice word, struct buf *name)
{
	size_t dot;

	if (!dns_name_to_ascii(word, name))
		return false;
	dot = slice_rindex(buf_slice(name), '.');
	return !ascii_digit(name->p[dot < name->n ? dot + 1 : 0]);
}

bool
policy_except_valid(struct slice word)
{
	struct buf name;
	bool valid;

	buf_init(&name, DNS_NAME_BYTES_MAX);
	valid = (word.n > 0 && proxy_networks_valid(word)) || except_domain(word, &name);
	buf_fini(&name);
	return valid;
}

static bool
is_of_domain(struct slice author, struct slice word)
{
	struct buf name;
	bool is;

	buf_init(&name, DNS_NAME_BYTES_MAX);
	is = except_domain(word, &name) && dns_name_within(author, buf_slice(&name));
	buf_fini(&name);
	return is;
}

static bool
is_excepted(struct slice list, const uint8_t ip[16], struct slice author)
{
	struct in6_addr address;
	struct slice one;

	memcpy(&address, ip, sizeof address);
	while (slice_cut(&list, ' ', &one))
		if (one.n > 0 && (proxy_networks_valid(one) ? proxy_networks_have(one, &address) : is_of_domain(author, one)))
			return true;
	return false;
}

/* ---- gathering ---- */

struct policy_input
policy_input_submission(const struct verdict *v)
{
	const struct verdict_form *f = &v->form;

	return (struct policy_input){
	    .unreadable = f->ranges_overflow,
	    .header_broken = !f->header_sane,
	    .stray_octets = f->stray_octets,
	    .received_fields = f->received_fields,
	    .from_fields = f->from_fields,
	    .from_mailboxes = f->from_mailboxes,
	    .from_domains_differ = f->from_domains_differ,
	    .from_domain = has_domain(f),
	    .unqualified = f->unqualified,
	};
}

struct policy_input
policy_input_lmtp(const struct verdict *v, const struct policy_settings *s)
{
	struct policy_input in = policy_input_submission(v);

	in.header_junk = s->header_junk;
	return in;
}

/* 127.0.0.1 or ::1; the rest of 127.0.0.0/8 is who an operator makes it. */
static bool
is_local(const uint8_t ip[16])
{
	static const uint8_t four[16] = {[10] = 0xff, [11] = 0xff, 127, 0, 0, 1}, six[16] = {[15] = 1};

	return memcmp(ip, four, 16) == 0 || memcmp(ip, six, 16) == 0;
}

struct policy_input
policy_input_incoming(const struct verdict *v, const struct policy_client *c, const struct policy_settings *s)
{
	struct policy_input in = policy_input_submission(v);

	assert(v->full);
	in.spf = v->mail_from.result;
	in.dmarc = v->dmarc.result;
	in.dmarc_policy = v->dmarc.policy;
	in.arc = v->arc.result;
	in.arc_override = policy_arc_overrides(v, s);
	in.dmarc_except = is_excepted(s->dmarc_except, c->ip, v->dmarc.author);
	in.iprev = c->facts->iprev;
	in.helo = c->helo;
	in.local = is_local(c->ip);
	in.black = client_facts_weight(c->facts, false);
	in.white = client_facts_weight(c->facts, true);
	in.postmaster_only = c->postmaster_only;
	in.dns_defer = s->dns_defer;
	in.spf_reject = s->spf_reject;
	in.arc_used = s->arc_trusted.n > 0;
	in.helo_refuse = s->helo_refuse;
	in.iprev_junk = s->iprev_junk;
	in.header_junk = s->header_junk;
	in.dnsbl_refuse = s->dnsbl_refuse;
	in.dnsbl_junk = s->dnsbl_junk;
	return in;
}

static bool
related(struct slice a, struct slice b)
{
	return dns_name_within(a, b) || dns_name_within(b, a);
}

bool
policy_domains_related(struct slice a, struct slice b)
{
	struct buf x, y;
	bool same;

	buf_init(&x, DNS_NAME_BYTES_MAX);
	buf_init(&y, DNS_NAME_BYTES_MAX);
	same = dns_name_to_ascii(a, &x) && dns_name_to_ascii(b, &y) && related(buf_slice(&x), buf_slice(&y));
	buf_fini(&y);
	buf_fini(&x);
	return same;
}

struct policy_input
policy_input_forward(const struct verdict *v, bool is_junk, bool author_ours)
{
	bool shown = v->dmarc.result == DMARC_RESULT_PASS || v->dmarc.spf_aligned || v->dmarc.dkim_aligned > 0;

	return (struct policy_input){
	    .looped = v->form.looped, .dmarc = v->dmarc.result, .junk = is_junk, .author_ours = author_ours && !shown};
}

/* In A-labels, of at least two labels, and not all digits at the end, as what is meant for an IPv4 address is. */
static bool
routable(struct slice domain)
{
	struct slice name, last;
	uint64_t number;
	struct buf b;
	bool good;

	buf_init(&b, DNS_NAME_BYTES_MAX);
	good = dns_name_to_ascii(domain, &b) && dns_name_labels(buf_slice(&b)) > 1;
	name = buf_slice(&b);
	last = slice_sub(name, slice_rindex(name, '.') + 1, name.n);
	good = good && !slice_u64(last, UINT64_MAX, &number);
	buf_fini(&b);
	return good;
}

void
policy_input_outside(struct policy_input *in, struct slice address, bool relaying, bool literals)
{
	struct slice domain = slice_sub(address, slice_rindex(address, '@') + 1, address.n);

	in->relaying = relaying;
	in->literals = literals;
	in->literal = domain.n > 0 && domain.p[0] == '[';
	in->unroutable = !in->literal && !routable(domain);
}

/* ---- as text ---- */

struct named {
	const char *name;
	size_t offset;
};

static const struct named inputs[] = {
#define INPUT(name, what) {#name, offsetof(struct policy_input, name)},
#include "smtpd/policy_inputs.def"
#undef INPUT
};
#define INPUT_COUNT (sizeof(inputs) / sizeof(*inputs))

_Static_assert(sizeof(struct policy_input) == INPUT_COUNT * sizeof(uint32_t), "every input is printed");

void
policy_input_print(const struct policy_input *in, struct buf *b)
{
	const char *space = "";

	for (size_t i = 0; i < INPUT_COUNT; i++) {
		uint32_t value;

		memcpy(&value, (const uint8_t *)in + inputs[i].offset, sizeof(value));
		if (value == 0)
			continue;
		buf_putf(b, "%s%s=%u", space, inputs[i].name, value);
		space = " ";
	}
}

bool
policy_input_parse(struct slice text, struct policy_input *in_r)
{
	struct slice word, name;

	*in_r = (struct policy_input){.unreadable = 0};
	while (text.n > 0 && slice_cut(&text, ' ', &word)) {
		uint64_t number = 0;
		uint32_t value;
		size_t i = 0;

		if (!slice_cut(&word, '=', &name) || !slice_u64(word, UINT32_MAX, &number))
			return false;
		while (i < INPUT_COUNT && !slice_eq(name, slice_str(inputs[i].name)))
			i++;
		if (i == INPUT_COUNT)
			return false;
		value = (uint32_t)number;
		memcpy((uint8_t *)in_r + inputs[i].offset, &value, sizeof(value));
	}
	return true;
}

void
policy_fields(enum policy_table t, const struct policy_decision *d, const struct policy_input *in, struct buf *printed,
    struct log_field fields[POLICY_FIELDS])
{
	policy_input_print(in, printed);
	const struct log_field all[POLICY_FIELDS] = {LOG_CSTR("table", policy_table_name(t)), LOG_CSTR("rule", d->rule),
	    LOG_CSTR("action", policy_action_name(d->action)), LOG_NUM("code", d->reply.code),
	    LOG_STR("inputs", buf_slice(printed)), LOG_END};

	memcpy(fields, all, sizeof(all));
}
