/*
 * check_host() as a machine of steps. A step either goes on at once to another
 * step or asks the DNS one question, whose answer wakes the step named with it; pump()
 * runs steps until there is something to wait for. So there is no recursion: include
 * pushes a frame, redirect replaces the record of its frame (RFC 7208 6.1), and the look-up
 * limit bounds the frames.
 *
 * Void look-ups are counted as section 4.6.4 has it: terms whose own query had no answer. The
 * address look-ups below an mx or ptr do not count, so that an IPv6 client does not turn a
 * domain of IPv4 mail hosts into a permerror.
 *
 * The names that an address is validated for (5.5) do not depend on the record: they are looked up
 * once per check, for the first ptr or %{p}.
 */
#include "smtpd/spf.h"

#include "common/dns_name.h"
#include "common/mem.h"
#include "smtpd/spf_macro.h"
#include "smtpd/spf_record.h"

#include <assert.h>

#define ARENA_BYTES_MAX (256 * 1024)
/* A name is kept within 253 octets by dropping what stands left, so more of an expansion is of no use. */
#define EXPANSION_BYTES_MAX (16 * 1024)
/* One record per include that was counted, and the first. */
#define FRAMES_MAX (SPF_LOOKUPS_MAX + 1)

enum step {
	STEP_RECORD,	 /* the TXT answer for the top frame */
	STEP_NEXT,	 /* the next term of the top frame */
	STEP_TARGET,	 /* its target name, then its query */
	STEP_ADDRESSES,	 /* the answer of "a" */
	STEP_MX,	 /* the MX answer */
	STEP_MX_NEXT,
	STEP_MX_ADDRESSES,
	STEP_EXISTS,
	STEP_PTR,	 /* the PTR answer, then each name's addresses, then `after_ptr` */
	STEP_PTR_NEXT,
	STEP_PTR_ADDRESSES,
	STEP_PTR_MATCH,
	STEP_EXP,	 /* the result is fail: its explanation, if it can be had */
	STEP_EXP_ANSWER,
	STEP_EXP_TEXT,
};

struct frame {
	struct slice domain;
	struct spf_record record;
	struct slice rest;	 /* terms to come */
	struct spf_term term;	 /* the current one */
	bool redirected;
};

struct names {
	struct slice v[SPF_NAMES_MAX];
	unsigned n;
	unsigned next;
};

struct spf_check {
	const struct dns_asker *dns;
	spf_done_fn *done;
	void *arg;
	struct arena *arena;
	struct spf_query query;
	struct slice sender_domain; /* A-labels */
	struct spf_outcome outcome;
	struct frame frames[FRAMES_MAX];
	unsigned depth; /* frames in use */
	enum step step;
	enum step after_ptr;
	const struct dns_answer *answer; /* for the step that it wakes */
	uint64_t ticket;
	bool waiting;
	bool ended;
	bool limit; /* the arena's cap was reached */
	struct names mx;
	struct names ptr;	/* to be validated */
	struct names validated;
	bool ptr_known;
	struct slice target;
	struct slice exp_text;
};

static const struct dns_answer no_answer = {.status = DNS_TEMP};

const char *
spf_result_name(enum spf_result r)
{
	static const char *const names[SPF_RESULT_COUNT] = {"none", "neutral", "pass", "fail",
	    "softfail", "temperror", "permerror"};

	assert(r < SPF_RESULT_COUNT);
	return names[r];
}

static struct frame *
top(struct spf_check *c)
{
	assert(c->depth > 0);
	return &c->frames[c->depth - 1];
}

/* A copy in the arena; empty and c->limit set at its cap. */
static struct slice
keep(struct spf_check *c, struct slice s)
{
	struct slice copy;

	if (!arena_copy(c->arena, s, &copy)) {
		c->limit = true;
		return slice_of(NULL, 0);
	}
	return copy;
}

/* The part of s that may be shown: printable US-ASCII, others as "?", at most max octets. */
static struct slice
keep_printable(struct spf_check *c, struct slice s, size_t max)
{
	struct slice from = slice_sub(s, 0, max);
	uint8_t *to = arena_alloc(c->arena, from.n ? from.n : 1);

	if (to == NULL)
		return slice_of(NULL, 0);
	for (size_t i = 0; i < from.n; i++)
		to[i] = from.p[i] >= 0x20 && from.p[i] < 0x7f ? from.p[i] : '?';
	return slice_of(to, from.n);
}

static void
finish(struct spf_check *c, enum spf_result result)
{
	assert(!c->ended && !c->waiting);
	c->ended = true;
	c->outcome.result = result;
	if (result != SPF_RESULT_FAIL)
		c->outcome.explanation = slice_of(NULL, 0);
	c->done(c->arg, &c->outcome);
}

static void pump(struct spf_check *c);

static void
on_answer(void *arg, const struct dns_answer *answer)
{
	struct spf_check *c = arg;

	assert(c->waiting && !c->ended);
	c->waiting = false;
	c->answer = answer;
	pump(c);
}

/* The text form that struct dns_asker takes: octets that are not visible ASCII, and "\", escaped. */
static bool
put_name_text(struct slice name, struct buf *b)
{
	for (size_t i = 0; i < name.n; i++) {
		uint8_t ch = name.p[i];
		bool plain = ch > 0x20 && ch < 0x7f && ch != '\\';

		if (!(plain ? buf_put_u8(b, ch) : buf_putf(b, "\\%03u", ch)))
			return false;
	}
	return true;
}

/* Asks; the answer, or the lack of one, wakes `step`. */
static void
ask(struct spf_check *c, struct slice name, uint16_t type, enum step step)
{
	struct buf text;

	c->step = step;
	c->answer = &no_answer;
	buf_init(&text, 4 * SPF_NAME_BYTES_MAX);
	c->waiting = put_name_text(name, &text) &&
	    c->dns->ask(c->dns->ctx, buf_slice(&text), type, on_answer, c, &c->ticket);
	buf_fini(&text);
}

static bool
answer_temporary(const struct spf_check *c)
{
	return c->answer->status == DNS_TEMP || c->answer->status == DNS_BOGUS;
}

static uint16_t
address_type(const struct spf_check *c)
{
	return spf_ip_is_v4(c->query.ip) ? DNS_A : DNS_AAAA;
}

/* ---- results ---- */

/* The record of the top frame has come to a result (RFC 7208 5.2: what include makes of it). */
static void
frame_result(struct spf_check *c, enum spf_result result)
{
	for (;;) {
		struct frame *f = top(c);
		bool error = result == SPF_RESULT_TEMPERROR || result == SPF_RESULT_PERMERROR;

		if (c->depth == 1 || error) {
			c->outcome.mechanism = keep_printable(c, f->term.text, SPF_MECHANISM_BYTES_MAX);
			if (result == SPF_RESULT_FAIL && f->record.exp.p != NULL)
				c->step = STEP_EXP;
			else
				finish(c, result);
			return;
		}
		c->depth--;
		if (result != SPF_RESULT_PASS) {
			c->step = STEP_NEXT;
			return;
		}
		result = top(c)->term.result;
	}
}

/* The current term is the fault. */
static void
fault(struct spf_check *c, enum spf_result result)
{
	assert(result == SPF_RESULT_TEMPERROR || result == SPF_RESULT_PERMERROR);
	frame_result(c, result);
}

static void
matched(struct spf_check *c)
{
	frame_result(c, top(c)->term.result);
}

/* Counts a term without an answer; false when that was one too many. */
static bool
count_void(struct spf_check *c)
{
	bool is_void = c->answer->status == DNS_NXDOMAIN || c->answer->status == DNS_NODATA;

	return !is_void || ++c->outcome.void_lookups <= SPF_VOID_LOOKUPS_MAX;
}

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
static bool
client_in(const struct spf_check *c, const uint8_t *network, bool ip4, const struct spf_term *t)
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

		if (data.n == (ip4 ? 4 : 16) && client_in(c, data.p, ip4, t))
			return true;
	}
	return false;
}

/* ---- target names ---- */

/* %{p}: the domain itself, else a name below it, else any, else "unknown" (7.3). */
static struct slice
validated_name(const struct spf_check *c, struct slice domain)
{
	struct slice below = slice_of(NULL, 0);

	for (unsigned i = 0; i < c->validated.n; i++) {
		if (slice_eq_nocase(c->validated.v[i], domain))
			return c->validated.v[i];
		if (below.p == NULL && dns_name_within(c->validated.v[i], domain))
			below = c->validated.v[i];
	}
	if (below.p != NULL)
		return below;
	return c->validated.n > 0 ? c->validated.v[0] : SLICE("unknown");
}

static bool
expand(struct spf_check *c, struct slice spec, struct buf *out)
{
	struct spf_macro_values v = {
		.ip = c->query.ip,
		.local = c->query.local,
		.sender_domain = c->sender_domain,
		.domain = top(c)->domain,
		.validated = validated_name(c, top(c)->domain),
		.helo = c->query.helo,
		.receiver = c->query.receiver,
		.now = (uint64_t)time(NULL),
	};

	return spf_macro_expand(spec, &v, out);
}

/* Labels of 1 to 63 octets. */
static bool
labels_valid(struct slice name)
{
	struct slice label;

	if (name.n == 0 || name.p[name.n - 1] == '.')
		return false;
	while (slice_cut(&name, '.', &label))
		if (label.n == 0 || label.n > DNS_LABEL_BYTES_MAX)
			return false;
	return true;
}

/* A name of at most 253 octets: labels are dropped from the left (7.3). */
static struct slice
shorten(struct slice name)
{
	if (name.n > 0 && name.p[name.n - 1] == '.')
		name.n--;
	while (name.n > SPF_NAME_BYTES_MAX) {
		size_t dot = slice_index(name, '.');

		if (dot == name.n)
			break;
		name = slice_sub(name, dot + 1, name.n);
	}
	return name;
}

/* Sets c->target from spec. False when no name comes of it. */
static bool
make_target(struct spf_check *c, struct slice spec)
{
	struct buf b;
	bool ok;

	/* RFC 8616 4: a term with %{s} or %{l} matches no local part outside ASCII. */
	if (!slice_is_ascii(c->query.local) && spf_macro_uses(spec, "sl"))
		return false;
	buf_init(&b, EXPANSION_BYTES_MAX);
	ok = expand(c, spec, &b);
	if (ok) {
		c->target = keep(c, shorten(buf_slice(&b)));
		ok = c->target.n <= SPF_NAME_BYTES_MAX && labels_valid(c->target);
	}
	buf_fini(&b);
	return ok;
}

/* True when spec needs %{p} and the names are not known yet: they are looked up, then `step` runs again. */
static bool
needs_ptr(struct spf_check *c, struct slice spec, enum step step)
{
	struct buf name;

	if (c->ptr_known || !spf_macro_uses(spec, "p"))
		return false;
	c->after_ptr = step;
	buf_init(&name, SPF_NAME_BYTES_MAX);
	(void)!spf_ip_arpa(c->query.ip, &name);
	ask(c, buf_slice(&name), DNS_PTR, STEP_PTR);
	buf_fini(&name);
	return true;
}

/* ---- records and terms ---- */

static void
ask_record(struct spf_check *c)
{
	ask(c, top(c)->domain, DNS_TXT, STEP_RECORD);
}

/* No record, for the top frame (4.3, 4.5, 5.2, 6.1). */
static void
no_record(struct spf_check *c)
{
	if (c->depth == 1 && !top(c)->redirected)
		finish(c, SPF_RESULT_NONE);
	else
		fault(c, SPF_RESULT_PERMERROR);
}

static void
step_record(struct spf_check *c)
{
	struct frame *f = top(c);
	struct slice terms = {NULL, 0}, found, bad;
	unsigned n = 0;

	if (answer_temporary(c)) {
		fault(c, SPF_RESULT_TEMPERROR);
		return;
	}
	for (unsigned i = 0; c->answer->status == DNS_OK && i < c->answer->count; i++)
		if (spf_record_is(c->answer->records[i].data, &found)) {
			terms = found;
			n++;
		}
	if (n == 0) {
		no_record(c);
		return;
	}
	terms = keep(c, terms);
	if (n > 1 || c->limit || !spf_record_parse(terms, &f->record, &bad)) {
		f->term.text = n > 1 ? SLICE("several records") : c->limit ? SLICE("too long") : bad;
		fault(c, SPF_RESULT_PERMERROR);
		return;
	}
	f->rest = terms;
	c->step = STEP_NEXT;
}

static void
step_next(struct spf_check *c)
{
	struct frame *f = top(c);
	int got = spf_term_next(&f->rest, &f->term);

	assert(got >= 0);
	if (got == 0) {
		if (f->record.redirect.p == NULL || f->record.has_all) {
			f->term.text = SLICE("default");
			frame_result(c, SPF_RESULT_NEUTRAL);
			return;
		}
		f->term = (struct spf_term){.kind = SPF_KIND_REDIRECT,
			.domain_spec = f->record.redirect,
			.text = SLICE("redirect")};
	} else if (f->term.kind == SPF_KIND_ALL) {
		matched(c);
		return;
	} else if (f->term.kind == SPF_KIND_IP4 || f->term.kind == SPF_KIND_IP6) {
		if (client_in(c, f->term.ip, f->term.kind == SPF_KIND_IP4, &f->term))
			matched(c);
		return;
	} else if (f->term.kind >= SPF_KIND_REDIRECT) {
		return;
	}
	if (++c->outcome.lookups > SPF_LOOKUPS_MAX)
		fault(c, SPF_RESULT_PERMERROR);
	else
		c->step = STEP_TARGET;
}

/* include: another record in a frame of its own. redirect: another record in this one's place. */
static void
go_to_record(struct spf_check *c, bool redirect)
{
	if (!redirect) {
		assert(c->depth < FRAMES_MAX);
		c->depth++;
	}
	*top(c) = (struct frame){.domain = c->target, .redirected = redirect};
	top(c)->term.text = redirect ? SLICE("redirect") : SLICE("include");
	ask_record(c);
}

static void
query_target(struct spf_check *c)
{
	switch (top(c)->term.kind) {
	case SPF_KIND_INCLUDE:
		go_to_record(c, false);
		break;
	case SPF_KIND_REDIRECT:
		go_to_record(c, true);
		break;
	case SPF_KIND_A:
		ask(c, c->target, address_type(c), STEP_ADDRESSES);
		break;
	case SPF_KIND_MX:
		ask(c, c->target, DNS_MX, STEP_MX);
		break;
	case SPF_KIND_EXISTS:
		/* Always A, whatever the client's family (5.7). */
		ask(c, c->target, DNS_A, STEP_EXISTS);
		break;
	default:
		assert(top(c)->term.kind == SPF_KIND_PTR);
		if (!needs_ptr(c, SLICE("%{p}"), STEP_PTR_MATCH))
			c->step = STEP_PTR_MATCH;
	}
}

static void
step_target(struct spf_check *c)
{
	const struct spf_term *t = &top(c)->term;
	bool other_record = t->kind == SPF_KIND_INCLUDE || t->kind == SPF_KIND_REDIRECT;

	if (t->domain_spec.p == NULL) {
		c->target = top(c)->domain;
	} else if (needs_ptr(c, t->domain_spec, STEP_TARGET)) {
		return;
	} else if (!make_target(c, t->domain_spec)) {
		/* A name that cannot exist: no match, or no record (4.8, 5.2, 6.1). */
		if (other_record || c->limit)
			fault(c, SPF_RESULT_PERMERROR);
		else
			c->step = STEP_NEXT;
		return;
	}
	query_target(c);
}

/* ---- answers ---- */

/* The usual beginning of a step with a term's answer: false when that ended the check. */
static bool
answer_usable(struct spf_check *c)
{
	if (answer_temporary(c)) {
		fault(c, SPF_RESULT_TEMPERROR);
		return false;
	}
	if (!count_void(c)) {
		fault(c, SPF_RESULT_PERMERROR);
		return false;
	}
	return true;
}

static void
step_addresses(struct spf_check *c)
{
	if (!answer_usable(c))
		return;
	if (answer_has_client(c, &top(c)->term))
		matched(c);
	else
		c->step = STEP_NEXT;
}

static void
step_exists(struct spf_check *c)
{
	if (!answer_usable(c))
		return;
	if (c->answer->status == DNS_OK)
		matched(c);
	else
		c->step = STEP_NEXT;
}

static void
names_keep(struct spf_check *c, struct names *names)
{
	*names = (struct names){.n = 0};
	for (unsigned i = 0; i < c->answer->count && names->n < SPF_NAMES_MAX; i++)
		if (c->answer->records[i].name.n > 0)
			names->v[names->n++] = keep(c, c->answer->records[i].name);
}

static void
step_mx(struct spf_check *c)
{
	if (!answer_usable(c))
		return;
	c->mx = (struct names){.n = 0};
	if (c->answer->status == DNS_OK) {
		names_keep(c, &c->mx);
		/* Whichever order they came in: more than ten is an error (4.6.4). */
		if (c->answer->count > SPF_NAMES_MAX || c->limit) {
			fault(c, SPF_RESULT_PERMERROR);
			return;
		}
	}
	c->step = STEP_MX_NEXT;
}

static void
step_mx_next(struct spf_check *c)
{
	if (c->mx.next == c->mx.n)
		c->step = STEP_NEXT;
	else
		ask(c, c->mx.v[c->mx.next++], address_type(c), STEP_MX_ADDRESSES);
}

static void
step_mx_addresses(struct spf_check *c)
{
	if (answer_temporary(c))
		fault(c, SPF_RESULT_TEMPERROR);
	else if (answer_has_client(c, &top(c)->term))
		matched(c);
	else
		c->step = STEP_MX_NEXT;
}

/* ---- the client's validated names (5.5); errors only mean fewer names ---- */

static void
step_ptr(struct spf_check *c)
{
	bool of_ptr = c->after_ptr == STEP_PTR_MATCH;

	c->ptr_known = true;
	if (of_ptr && !count_void(c)) {
		fault(c, SPF_RESULT_PERMERROR);
		return;
	}
	if (c->answer->status == DNS_OK)
		names_keep(c, &c->ptr);
	c->step = STEP_PTR_NEXT;
}

static void
step_ptr_next(struct spf_check *c)
{
	if (c->ptr.next == c->ptr.n)
		c->step = c->after_ptr;
	else
		ask(c, c->ptr.v[c->ptr.next++], address_type(c), STEP_PTR_ADDRESSES);
}

static void
step_ptr_addresses(struct spf_check *c)
{
	const struct spf_term exact = {.prefix4 = 32, .prefix6 = 128};

	if (answer_has_client(c, &exact))
		c->validated.v[c->validated.n++] = c->ptr.v[c->ptr.next - 1];
	c->step = STEP_PTR_NEXT;
}

static void
step_ptr_match(struct spf_check *c)
{
	for (unsigned i = 0; i < c->validated.n; i++)
		if (dns_name_within(c->validated.v[i], c->target)) {
			matched(c);
			return;
		}
	c->step = STEP_NEXT;
}

/* ---- the explanation (6.2); every error means none ---- */

static void
step_exp(struct spf_check *c)
{
	struct slice spec = top(c)->record.exp;

	if (needs_ptr(c, spec, STEP_EXP))
		return;
	if (!make_target(c, spec))
		finish(c, SPF_RESULT_FAIL);
	else
		ask(c, c->target, DNS_TXT, STEP_EXP_ANSWER);
}

static void
step_exp_answer(struct spf_check *c)
{
	if (c->answer->status != DNS_OK || c->answer->count != 1 ||
	    !spf_macro_string_valid(c->answer->records[0].data, SPF_LETTERS_EXP, true)) {
		finish(c, SPF_RESULT_FAIL);
		return;
	}
	c->exp_text = keep(c, c->answer->records[0].data);
	c->step = STEP_EXP_TEXT;
}

static void
step_exp_text(struct spf_check *c)
{
	struct buf b;

	if (needs_ptr(c, c->exp_text, STEP_EXP_TEXT))
		return;
	buf_init(&b, EXPANSION_BYTES_MAX);
	if (expand(c, c->exp_text, &b))
		c->outcome.explanation =
		    keep_printable(c, buf_slice(&b), SPF_EXPLANATION_BYTES_MAX);
	buf_fini(&b);
	finish(c, SPF_RESULT_FAIL);
}

static void
pump(struct spf_check *c)
{
	static void (*const steps[])(struct spf_check *) = {
		[STEP_RECORD] = step_record,
		[STEP_NEXT] = step_next,
		[STEP_TARGET] = step_target,
		[STEP_ADDRESSES] = step_addresses,
		[STEP_MX] = step_mx,
		[STEP_MX_NEXT] = step_mx_next,
		[STEP_MX_ADDRESSES] = step_mx_addresses,
		[STEP_EXISTS] = step_exists,
		[STEP_PTR] = step_ptr,
		[STEP_PTR_NEXT] = step_ptr_next,
		[STEP_PTR_ADDRESSES] = step_ptr_addresses,
		[STEP_PTR_MATCH] = step_ptr_match,
		[STEP_EXP] = step_exp,
		[STEP_EXP_ANSWER] = step_exp_answer,
		[STEP_EXP_TEXT] = step_exp_text,
	};

	while (!c->ended && !c->waiting)
		steps[c->step](c);
}

/* ---- life ---- */

struct spf_check *
spf_check_new(const struct dns_asker *dns, const struct spf_query *q, spf_done_fn *done, void *arg)
{
	struct spf_check *c = MEM_NEW(struct spf_check);

	c->dns = dns;
	c->done = done;
	c->arg = arg;
	c->arena = arena_new(ARENA_BYTES_MAX);
	c->query = *q;
	c->query.domain = keep(c, q->domain);
	c->query.local = keep(c, q->local.n ? q->local : SLICE("postmaster"));
	c->query.helo = keep(c, q->helo);
	c->query.receiver = keep(c, q->receiver.n ? q->receiver : SLICE("unknown"));
	return c;
}

void
spf_check_start(struct spf_check *c)
{
	struct buf name;
	bool ok;

	assert(c->depth == 0 && !c->ended);
	buf_init(&name, SPF_NAME_BYTES_MAX);
	ok = dns_name_to_ascii(c->query.domain, &name);
	c->sender_domain = keep(c, buf_slice(&name));
	buf_fini(&name);
	c->depth = 1;
	c->outcome.domain = ok ? c->sender_domain : c->query.domain;
	if (c->limit) {
		finish(c, SPF_RESULT_PERMERROR);
		return;
	}
	/* Malformed, or not of several labels (4.3). */
	if (!ok || dns_name_labels(c->sender_domain) < 2) {
		finish(c, SPF_RESULT_NONE);
		return;
	}
	top(c)->domain = c->sender_domain;
	top(c)->term.text = SLICE("record");
	ask_record(c);
	pump(c);
}

void
spf_check_expire(struct spf_check *c)
{
	if (c->ended)
		return;
	if (c->waiting)
		c->dns->cancel(c->dns->ctx, c->ticket);
	c->waiting = false;
	/* A fail stands, whatever became of its explanation. */
	bool failed = c->step == STEP_EXP_ANSWER ||
	    (c->step >= STEP_PTR && c->step <= STEP_PTR_ADDRESSES && c->after_ptr >= STEP_EXP);

	finish(c, failed ? SPF_RESULT_FAIL : SPF_RESULT_TEMPERROR);
}

void
spf_check_free(struct spf_check **c)
{
	if (*c == NULL)
		return;
	if ((*c)->waiting)
		(*c)->dns->cancel((*c)->dns->ctx, (*c)->ticket);
	arena_free(&(*c)->arena);
	free(*c);
	*c = NULL;
}
