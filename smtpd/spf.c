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
#include "smtpd/spf_private.h"

#include "common/dns_name.h"
#include "common/mem.h"
#include "smtpd/spf_macro.h"

#include <assert.h>

#define ARENA_BYTES_MAX (256 * 1024)

static const struct dns_answer no_answer = {.status = DNS_TEMP};

const char *
spf_result_name(enum spf_result r)
{
	static const char *const names[SPF_RESULT_COUNT] = {"none", "neutral", "pass", "fail",
	    "softfail", "temperror", "permerror"};

	assert(r < SPF_RESULT_COUNT);
	return names[r];
}

struct spf_frame *
spf_top(struct spf_check *c)
{
	assert(c->depth > 0);
	return &c->frames[c->depth - 1];
}

/* A copy in the arena; empty and c->limit set at its cap. */
struct slice
spf_keep(struct spf_check *c, struct slice s)
{
	struct slice copy;

	if (!arena_copy(c->arena, s, &copy)) {
		c->limit = true;
		return slice_of(NULL, 0);
	}
	return copy;
}

/* The part of s that may be shown: printable US-ASCII, others as "?", at most max octets. */
struct slice
spf_keep_printable(struct spf_check *c, struct slice s, size_t max)
{
	struct slice from = slice_sub(s, 0, max);
	uint8_t *to = arena_alloc(c->arena, from.n ? from.n : 1);

	if (to == NULL)
		return slice_of(NULL, 0);
	for (size_t i = 0; i < from.n; i++)
		to[i] = from.p[i] >= 0x20 && from.p[i] < 0x7f ? from.p[i] : '?';
	return slice_of(to, from.n);
}

void
spf_finish(struct spf_check *c, enum spf_result result)
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
void
spf_ask(struct spf_check *c, struct slice name, uint16_t type, enum spf_step step)
{
	struct buf text;

	c->step = step;
	c->answer = &no_answer;
	buf_init(&text, 4 * SPF_NAME_BYTES_MAX);
	c->waiting = put_name_text(name, &text) &&
	    c->dns->ask(c->dns->ctx, buf_slice(&text), type, on_answer, c, &c->ticket);
	buf_fini(&text);
}

bool
spf_answer_temporary(const struct spf_check *c)
{
	return c->answer->status == DNS_TEMP || c->answer->status == DNS_BOGUS;
}

uint16_t
spf_address_type(const struct spf_check *c)
{
	return spf_ip_is_v4(c->query.ip) ? DNS_A : DNS_AAAA;
}

/* ---- results ---- */

/* The record of the top frame has come to a result (RFC 7208 5.2: what include makes of it). */
void
spf_frame_result(struct spf_check *c, enum spf_result result)
{
	for (;;) {
		struct spf_frame *f = spf_top(c);
		bool error = result == SPF_RESULT_TEMPERROR || result == SPF_RESULT_PERMERROR;

		if (c->depth == 1 || error) {
			c->outcome.mechanism = spf_keep_printable(c, f->term.text, SPF_MECHANISM_BYTES_MAX);
			if (result == SPF_RESULT_FAIL && f->record.exp.p != NULL)
				c->step = SPF_STEP_EXP;
			else
				spf_finish(c, result);
			return;
		}
		c->depth--;
		if (result != SPF_RESULT_PASS) {
			c->step = SPF_STEP_NEXT;
			return;
		}
		result = spf_top(c)->term.result;
	}
}

/* The current term is the fault. */
void
spf_fault(struct spf_check *c, enum spf_result result)
{
	assert(result == SPF_RESULT_TEMPERROR || result == SPF_RESULT_PERMERROR);
	spf_frame_result(c, result);
}

void
spf_matched(struct spf_check *c)
{
	spf_frame_result(c, spf_top(c)->term.result);
}

static void
pump(struct spf_check *c)
{
	static void (*const steps[])(struct spf_check *) = {
		[SPF_STEP_RECORD] = spf_step_record,
		[SPF_STEP_NEXT] = spf_step_next,
		[SPF_STEP_TARGET] = spf_step_target,
		[SPF_STEP_ADDRESSES] = spf_step_addresses,
		[SPF_STEP_MX] = spf_step_mx,
		[SPF_STEP_MX_NEXT] = spf_step_mx_next,
		[SPF_STEP_MX_ADDRESSES] = spf_step_mx_addresses,
		[SPF_STEP_EXISTS] = spf_step_exists,
		[SPF_STEP_PTR] = spf_step_ptr,
		[SPF_STEP_PTR_NEXT] = spf_step_ptr_next,
		[SPF_STEP_PTR_ADDRESSES] = spf_step_ptr_addresses,
		[SPF_STEP_PTR_MATCH] = spf_step_ptr_match,
		[SPF_STEP_EXP] = spf_step_exp,
		[SPF_STEP_EXP_ANSWER] = spf_step_exp_answer,
		[SPF_STEP_EXP_TEXT] = spf_step_exp_text,
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
	c->query.domain = spf_keep(c, q->domain);
	c->query.local = spf_keep(c, q->local.n ? q->local : SLICE("postmaster"));
	c->query.helo = spf_keep(c, q->helo);
	c->query.receiver = spf_keep(c, q->receiver.n ? q->receiver : SLICE("unknown"));
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
	c->sender_domain = spf_keep(c, buf_slice(&name));
	buf_fini(&name);
	c->depth = 1;
	c->outcome.domain = ok ? c->sender_domain : c->query.domain;
	if (c->limit) {
		spf_finish(c, SPF_RESULT_PERMERROR);
		return;
	}
	/* Malformed, or not of several labels (4.3). */
	if (!ok || dns_name_labels(c->sender_domain) < 2) {
		spf_finish(c, SPF_RESULT_NONE);
		return;
	}
	spf_top(c)->domain = c->sender_domain;
	spf_top(c)->term.text = SLICE("record");
	spf_ask_record(c);
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
	bool failed = c->step == SPF_STEP_EXP_ANSWER ||
	    (c->step >= SPF_STEP_PTR && c->step <= SPF_STEP_PTR_ADDRESSES && c->after_ptr >= SPF_STEP_EXP);

	spf_finish(c, failed ? SPF_RESULT_FAIL : SPF_RESULT_TEMPERROR);
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
