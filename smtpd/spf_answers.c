/*
 * What an answer of the DNS means for the term that asked: addresses for a and mx (RFC 7208 5.3, 5.4), any address for
 * exists (5.7), names that are validated for ptr and %{p} (5.5), and the explanation of a fail (6.2).
 */
#include "smtpd/spf_private.h"

#include "common/dns_name.h"
#include "smtpd/spf_macro.h"

/* ---- addresses ---- */

static bool
prefix_equal(const uint8_t *a, const uint8_t *b, unsigned bits)
{
	unsigned whole = bits / 8, left = bits % 8;

	if (memcmp(a, b, whole) != 0)
		return false;
	return left == 0 || ((a[whole] ^ b[whole]) >> (8 - left)) == 0;
}

/* The client's address is in network/prefix, an IPv4 network of 4 or an IPv6 one of 16 octets. */
bool
spf_client_in(const struct spf_check *c, const uint8_t *network, bool ip4, const struct spf_term *t)
{
	if (ip4 != spf_ip_is_v4(c->query.ip))
		return false;
	return ip4 ? prefix_equal(c->query.ip + 12, network, t->prefix4)
		   : prefix_equal(c->query.ip, network, t->prefix6);
}

static bool
answer_has_client(const struct spf_check *c, const struct spf_term *t)
{
	bool ip4 = spf_ip_is_v4(c->query.ip);

	if (c->answer->status != DNS_OK)
		return false;
	for (unsigned i = 0; i < c->answer->count; i++) {
		struct slice data = c->answer->records[i].data;

		if (data.n == (ip4 ? 4 : 16) && spf_client_in(c, data.p, ip4, t))
			return true;
	}
	return false;
}

/* ---- answers ---- */

/* Counts a term without an answer; false when that was one too many. */
static bool
count_void(struct spf_check *c)
{
	bool is_void = c->answer->status == DNS_NXDOMAIN || c->answer->status == DNS_NODATA;

	return !is_void || ++c->outcome.void_lookups <= SPF_VOID_LOOKUPS_MAX;
}

/* The usual beginning of a step with a term's answer: false when that ended the check. */
static bool
answer_usable(struct spf_check *c)
{
	if (spf_answer_temporary(c)) {
		spf_fault(c, SPF_RESULT_TEMPERROR);
		return false;
	}
	if (!count_void(c)) {
		spf_fault(c, SPF_RESULT_PERMERROR);
		return false;
	}
	return true;
}

void
spf_step_addresses(struct spf_check *c)
{
	if (!answer_usable(c))
		return;
	if (answer_has_client(c, &spf_top(c)->term))
		spf_matched(c);
	else
		c->step = SPF_STEP_NEXT;
}

void
spf_step_exists(struct spf_check *c)
{
	if (!answer_usable(c))
		return;
	if (c->answer->status == DNS_OK)
		spf_matched(c);
	else
		c->step = SPF_STEP_NEXT;
}

static void
names_keep(struct spf_check *c, struct spf_names *names)
{
	*names = (struct spf_names){.n = 0};
	for (unsigned i = 0; i < c->answer->count && names->n < SPF_NAMES_MAX; i++) {
		struct slice name = spf_keep(c, c->answer->records[i].name);

		/* Empty is the null MX (RFC 7505), and no host. */
		if (name.n > 0)
			names->v[names->n++] = name;
	}
}

void
spf_step_mx(struct spf_check *c)
{
	if (!answer_usable(c))
		return;
	c->mx = (struct spf_names){.n = 0};
	if (c->answer->status == DNS_OK) {
		names_keep(c, &c->mx);
		/* Whichever order they came in: more than ten is an error (4.6.4). */
		if (c->answer->count > SPF_NAMES_MAX || c->limit) {
			spf_fault(c, SPF_RESULT_PERMERROR);
			return;
		}
	}
	c->step = SPF_STEP_MX_NEXT;
}

void
spf_step_mx_next(struct spf_check *c)
{
	if (c->mx.next == c->mx.n)
		c->step = SPF_STEP_NEXT;
	else
		spf_ask(c, c->mx.v[c->mx.next++], spf_address_type(c), SPF_STEP_MX_ADDRESSES);
}

void
spf_step_mx_addresses(struct spf_check *c)
{
	if (spf_answer_temporary(c))
		spf_fault(c, SPF_RESULT_TEMPERROR);
	else if (answer_has_client(c, &spf_top(c)->term))
		spf_matched(c);
	else
		c->step = SPF_STEP_MX_NEXT;
}

/* ---- the client's validated names (5.5); errors only mean fewer names ---- */

void
spf_step_ptr(struct spf_check *c)
{
	bool of_ptr = c->after_ptr == SPF_STEP_PTR_MATCH;

	c->ptr_known = true;
	if (of_ptr && !count_void(c)) {
		spf_fault(c, SPF_RESULT_PERMERROR);
		return;
	}
	if (c->answer->status == DNS_OK)
		names_keep(c, &c->ptr);
	c->step = SPF_STEP_PTR_NEXT;
}

void
spf_step_ptr_next(struct spf_check *c)
{
	if (c->ptr.next == c->ptr.n)
		c->step = c->after_ptr;
	else
		spf_ask(c, c->ptr.v[c->ptr.next++], spf_address_type(c), SPF_STEP_PTR_ADDRESSES);
}

void
spf_step_ptr_addresses(struct spf_check *c)
{
	const struct spf_term exact = {.prefix4 = 32, .prefix6 = 128};

	if (answer_has_client(c, &exact))
		c->validated.v[c->validated.n++] = c->ptr.v[c->ptr.next - 1];
	c->step = SPF_STEP_PTR_NEXT;
}

void
spf_step_ptr_match(struct spf_check *c)
{
	for (unsigned i = 0; i < c->validated.n; i++)
		if (dns_name_within(c->validated.v[i], c->target)) {
			spf_matched(c);
			return;
		}
	c->step = SPF_STEP_NEXT;
}

/* ---- the explanation (6.2); every error means none ---- */

void
spf_step_exp(struct spf_check *c)
{
	struct slice spec = spf_top(c)->record.exp;

	if (spf_needs_ptr(c, spec, SPF_STEP_EXP))
		return;
	if (!spf_make_target(c, spec))
		spf_finish(c, SPF_RESULT_FAIL);
	else
		spf_ask(c, c->target, DNS_TXT, SPF_STEP_EXP_ANSWER);
}

void
spf_step_exp_answer(struct spf_check *c)
{
	if (c->answer->status != DNS_OK || c->answer->count != 1 ||
	    !spf_macro_string_valid(c->answer->records[0].data, SPF_LETTERS_EXP, true)) {
		spf_finish(c, SPF_RESULT_FAIL);
		return;
	}
	c->exp_text = spf_keep(c, c->answer->records[0].data);
	c->step = SPF_STEP_EXP_TEXT;
}

void
spf_step_exp_text(struct spf_check *c)
{
	struct buf b;

	if (spf_needs_ptr(c, c->exp_text, SPF_STEP_EXP_TEXT))
		return;
	buf_init(&b, SPF_EXPANSION_BYTES_MAX);
	if (spf_expand(c, c->exp_text, &b))
		c->outcome.explanation =
		    spf_keep_printable(c, buf_slice(&b), SPF_EXPLANATION_BYTES_MAX);
	buf_fini(&b);
	spf_finish(c, SPF_RESULT_FAIL);
}
