/*
 * To the child: 'n'; 'a', u8 check, u16 type, u8 status, slice name, slice text; 's', u8 check, 16 octets address, slices domain, local,
 * helo, receiver; 'd', slice author, u16 count and for each identifier: slice domain, u8 DKIM, u8 uncertain; 'k', u64 time, u8 broken,
 * u8 count and for each signature: slice field, u8 too long, u8 hashed, 32 octets header, 32 octets body, u64 octets of the body; 'r', u64
 * time, u8 large, slices fields, author, then 2 + ARC_SETS_MAX times: u8 there is one, 32 octets hash.
 *
 * From it, after 's': u8 result, slice mechanism; after 'd': u8 result, u8 policy, u8 SPF aligned, u32 DKIM aligned, slices org, policy
 * domain, reason; after 'k', for each signature: u8 result, u32 bits, slices domain, reason; after 'r': u8 result, u32 sets, u32 oldest
 * pass, slices sealers, reason.
 */
#include "admin/replay_check.h"

#include "common/cursor.h"

#include <unistd.h>

#define NEW 'n'
#define ANSWER 'a'
#define SPF 's'
#define DMARC 'd'
#define DKIM_KIND 'k'
#define ARC 'r'
#define TEXT_BYTES_MAX 1024u
#define SEALERS_BYTES_MAX (ARC_SEALERS_MAX * (DKIM_TAG_BYTES_MAX + 2))

_Static_assert(ANSWERS_BYTES_MAX + 2048 <= CONFINED_PACKET_BYTES_MAX, "an answer fits a packet");
_Static_assert(REPLAY_FIELDS_BYTES_MAX + 2048 + ARC_SETS_MAX * 33 <= CONFINED_PACKET_BYTES_MAX, "and what signatures are judged from");

/* ---- the child ---- */

struct child {
	int link;
	struct answers *answers[VERDICT_CHECKS];
	struct buf reply;
};

static void
forget(struct child *c)
{
	for (unsigned i = 0; i < VERDICT_CHECKS; i++) {
		answers_free(&c->answers[i]);
		c->answers[i] = answers_new(NULL);
	}
}

static enum verdict_check
take_check(struct cursor *from)
{
	uint8_t check = cursor_u8(from);

	from->bad |= check >= VERDICT_CHECKS;
	return check < VERDICT_CHECKS ? (enum verdict_check)check : VERDICT_CHECK_HELO;
}

static bool
take_answer(struct child *c, struct cursor *from)
{
	enum verdict_check check = take_check(from);
	struct answers_item item = {.type = cursor_u16(from)};

	item.status = cursor_u8(from);
	item.name = cursor_slice(from, TEXT_BYTES_MAX);
	item.text = cursor_slice(from, ANSWERS_BYTES_MAX);
	return cursor_done(from) && answers_add(c->answers[check], &item);
}

static void
on_spf(void *arg, const struct spf_outcome *o)
{
	struct child *c = arg;

	put_u8(&c->reply, (uint8_t)o->result);
	put_slice(&c->reply, o->mechanism);
}

static bool
run_spf(struct child *c, struct cursor *from)
{
	struct answers *a = c->answers[take_check(from)];
	struct slice ip = cursor_take(from, 16);
	struct spf_query q = {.domain = cursor_slice(from, TEXT_BYTES_MAX)};
	struct spf_check *check;

	q.local = cursor_slice(from, TEXT_BYTES_MAX);
	q.helo = cursor_slice(from, TEXT_BYTES_MAX);
	q.receiver = cursor_slice(from, TEXT_BYTES_MAX);
	if (!cursor_done(from))
		return false;
	memcpy(q.ip, ip.p, sizeof(q.ip));
	check = spf_check_new(answers_asker(a), &q, on_spf, c);
	spf_check_start(check);
	answers_play(a);
	/* What waits for an answer that did not come then ends as it did then. */
	spf_check_expire(check);
	spf_check_free(&check);
	return true;
}

static void
on_dmarc(void *arg, const struct dmarc_outcome *o)
{
	struct child *c = arg;

	put_u8(&c->reply, (uint8_t)o->result);
	put_u8(&c->reply, (uint8_t)o->policy);
	put_u8(&c->reply, o->spf_aligned);
	put_u32(&c->reply, o->dkim_aligned);
	put_slice(&c->reply, o->org);
	put_slice(&c->reply, o->policy_domain);
	put_slice(&c->reply, o->reason);
}

static bool
run_dmarc(struct child *c, struct cursor *from)
{
	struct answers *a = c->answers[VERDICT_CHECK_DMARC];
	struct dmarc_identifier ids[DMARC_IDENTIFIERS_MAX];
	struct dmarc_query q = {.author = cursor_slice(from, TEXT_BYTES_MAX), .identifiers = ids};
	struct dmarc_check *check;

	q.count = cursor_u16(from);
	from->bad |= q.count > DMARC_IDENTIFIERS_MAX;
	for (unsigned i = 0; i < q.count && !from->bad; i++) {
		ids[i].domain = cursor_slice(from, TEXT_BYTES_MAX);
		ids[i].is_dkim = cursor_u8(from) != 0;
		ids[i].uncertain = cursor_u8(from) != 0;
	}
	if (!cursor_done(from))
		return false;
	check = dmarc_check_new(answers_asker(a), &q, on_dmarc, c);
	dmarc_check_start(check);
	answers_play(a);
	dmarc_check_expire(check);
	dmarc_check_free(&check);
	return true;
}

static void
take_octets(struct cursor *from, uint8_t *to, size_t n)
{
	struct slice octets = cursor_take(from, n);

	if (!from->bad)
		memcpy(to, octets.p, n);
}

static void
on_dkim(void *arg, const struct dkim_outcome *o)
{
	struct child *c = arg;

	for (unsigned i = 0; i < o->count; i++) {
		put_u8(&c->reply, (uint8_t)o->signatures[i].result);
		put_u32(&c->reply, o->signatures[i].key_bits);
		put_slice(&c->reply, o->signatures[i].domain);
		put_slice(&c->reply, o->signatures[i].reason);
	}
}

static bool
run_dkim(struct child *c, struct cursor *from)
{
	struct answers *a = c->answers[VERDICT_CHECK_DKIM];
	struct dkim_evidence evidence[DKIM_SIGNATURES_MAX];
	uint64_t now = cursor_u64(from);
	uint8_t broken = cursor_u8(from), count = cursor_u8(from);
	struct dkim_check *check;

	from->bad |= count > DKIM_SIGNATURES_MAX || broken >= DKIM_BROKEN_COUNT;
	for (unsigned i = 0; i < count && !from->bad; i++) {
		struct dkim_evidence *e = &evidence[i];

		*e = (struct dkim_evidence){.field = cursor_slice(from, REPLAY_FIELDS_BYTES_MAX)};
		e->too_long = cursor_u8(from) != 0;
		e->hashed = cursor_u8(from) != 0;
		take_octets(from, e->header, sizeof e->header);
		take_octets(from, e->body, sizeof e->body);
		e->body_octets = cursor_u64(from);
	}
	if (!cursor_done(from))
		return false;
	check = dkim_check_again(answers_asker(a), now, evidence, count, (enum dkim_broken)broken, on_dkim, c);
	dkim_check_end(check);
	answers_play(a);
	dkim_check_expire(check);
	dkim_check_free(&check);
	return true;
}

static void
on_arc(void *arg, const struct arc_outcome *o)
{
	struct child *c = arg;
	struct buf sealers;

	buf_init(&sealers, SEALERS_BYTES_MAX);
	arc_sealers_text(o, &sealers);
	put_u8(&c->reply, (uint8_t)o->result);
	put_u32(&c->reply, o->sets);
	put_u32(&c->reply, o->oldest_pass);
	put_slice(&c->reply, buf_slice(&sealers));
	put_slice(&c->reply, o->reason);
	buf_fini(&sealers);
}

static bool
take_hash(struct cursor *from, uint8_t hash_r[32])
{
	bool is_there = cursor_u8(from) != 0;

	take_octets(from, hash_r, 32);
	return is_there;
}

static bool
run_arc(struct child *c, struct cursor *from)
{
	struct answers *a = c->answers[VERDICT_CHECK_ARC];
	struct arc_evidence e = {.cut = false};
	uint64_t now = cursor_u64(from);
	struct arc_check *check;
	struct slice author;

	e.large = cursor_u8(from) != 0;
	e.fields = cursor_slice(from, REPLAY_FIELDS_BYTES_MAX);
	author = cursor_slice(from, TEXT_BYTES_MAX);
	for (unsigned i = 0; i < 2; i++)
		e.has_body[i] = take_hash(from, e.body[i]);
	for (unsigned i = 0; i < ARC_SETS_MAX; i++)
		e.has_message[i] = take_hash(from, e.message[i]);
	if (!cursor_done(from))
		return false;
	check = arc_check_again(answers_asker(a), now, &e, author, on_arc, c);
	arc_check_end(check);
	answers_play(a);
	arc_check_expire(check);
	arc_check_free(&check);
	return true;
}

static bool
run_check(struct child *c, uint8_t kind, struct cursor *from)
{
	switch (kind) {
	case SPF:
		return run_spf(c, from);
	case DMARC:
		return run_dmarc(c, from);
	case DKIM_KIND:
		return run_dkim(c, from);
	case ARC:
		return run_arc(c, from);
	default:
		return false;
	}
}

static void
work(int link, void *arg)
{
	struct child c = {.link = link};
	struct slice packet;
	struct msg_fds fds;
	bool good = true;

	(void)arg;
	buf_init(&c.reply, CONFINED_PACKET_BYTES_MAX);
	forget(&c);
	while (good && confined_take(link, &packet, &fds)) {
		struct cursor from = cursor_of(packet);
		uint8_t kind = cursor_u8(&from);

		buf_reset(&c.reply);
		if (kind == NEW)
			forget(&c);
		else if (kind == ANSWER)
			good = take_answer(&c, &from);
		else
			good = run_check(&c, kind, &from);
		if (good && c.reply.n > 0)
			confined_give(link, buf_slice(&c.reply));
	}
}

/* ---- the command ---- */

enum command_status
replay_check_open(struct replay_check *r)
{
	return confined_begin(&r->child, work, NULL);
}

void
replay_check_close(struct replay_check *r)
{
	confined_end(&r->child);
}

enum command_status
replay_check_begin(struct replay_check *r)
{
	return confined_ask(&r->child, SLICE("n"), NULL, 0);
}

static enum command_status
ask(struct replay_check *r, struct buf *b)
{
	enum command_status status = b->failed ? confined_nonsense() : confined_ask(&r->child, buf_slice(b), NULL, 0);

	buf_fini(b);
	return status;
}

enum command_status
replay_check_answer(struct replay_check *r, enum verdict_check c, const struct answers_item *item)
{
	struct buf b;

	buf_init(&b, CONFINED_PACKET_BYTES_MAX);
	put_u8(&b, ANSWER);
	put_u8(&b, (uint8_t)c);
	put_u16(&b, item->type);
	put_u8(&b, (uint8_t)item->status);
	put_slice(&b, item->name);
	put_slice(&b, item->text);
	return ask(r, &b);
}

/* The child's answer, as far as the command must understand it. */
static enum command_status
reply(struct replay_check *r, struct buf *question, struct cursor *from_r)
{
	enum command_status status = ask(r, question);
	struct slice packet;

	if (status == COMMAND_OK)
		status = confined_answer(&r->child, &packet);
	*from_r = cursor_of(status == COMMAND_OK ? packet : slice_of(NULL, 0));
	return status;
}

enum command_status
replay_check_spf(struct replay_check *r, enum verdict_check c, const struct spf_query *q, struct replay_spf *spf_r)
{
	enum command_status status;
	struct cursor from;
	struct buf b;
	uint8_t result;

	buf_init(&b, CONFINED_PACKET_BYTES_MAX);
	put_u8(&b, SPF);
	put_u8(&b, (uint8_t)c);
	buf_put(&b, q->ip, sizeof(q->ip));
	put_slice(&b, q->domain);
	put_slice(&b, q->local);
	put_slice(&b, q->helo);
	put_slice(&b, q->receiver);
	status = reply(r, &b, &from);
	if (status != COMMAND_OK)
		return status;
	result = cursor_u8(&from);
	*spf_r = (struct replay_spf){(enum spf_result)result, cursor_slice(&from, SPF_MECHANISM_BYTES_MAX)};
	return cursor_done(&from) && result < SPF_RESULT_COUNT ? COMMAND_OK : confined_nonsense();
}

enum command_status
replay_check_dmarc(struct replay_check *r, const struct dmarc_query *q, struct replay_dmarc *dmarc_r)
{
	enum command_status status;
	struct cursor from;
	struct buf b;
	uint8_t result, policy;

	buf_init(&b, CONFINED_PACKET_BYTES_MAX);
	put_u8(&b, DMARC);
	put_slice(&b, q->author);
	put_u16(&b, (uint16_t)q->count);
	for (unsigned i = 0; i < q->count; i++) {
		put_slice(&b, q->identifiers[i].domain);
		put_u8(&b, q->identifiers[i].is_dkim);
		put_u8(&b, q->identifiers[i].uncertain);
	}
	status = reply(r, &b, &from);
	if (status != COMMAND_OK)
		return status;
	result = cursor_u8(&from);
	policy = cursor_u8(&from);
	*dmarc_r = (struct replay_dmarc){.result = (enum dmarc_result)result, .policy = (enum dmarc_policy)policy};
	dmarc_r->spf_aligned = cursor_u8(&from) != 0;
	dmarc_r->dkim_aligned = cursor_u32(&from);
	dmarc_r->org = cursor_slice(&from, TEXT_BYTES_MAX);
	dmarc_r->policy_domain = cursor_slice(&from, TEXT_BYTES_MAX);
	dmarc_r->reason = cursor_slice(&from, TEXT_BYTES_MAX);
	return cursor_done(&from) && result < DMARC_RESULT_COUNT && policy < DMARC_POLICY_COUNT ? COMMAND_OK : confined_nonsense();
}

enum command_status
replay_check_dkim(struct replay_check *r, const struct replay_input *in, struct replay_dkim dkim_r[DKIM_SIGNATURES_MAX])
{
	enum command_status status;
	struct cursor from;
	struct buf b;

	buf_init(&b, CONFINED_PACKET_BYTES_MAX);
	put_u8(&b, DKIM_KIND);
	put_u64(&b, in->now);
	put_u8(&b, (uint8_t)in->broken);
	put_u8(&b, (uint8_t)in->dkim_count);
	for (unsigned i = 0; i < in->dkim_count; i++) {
		const struct dkim_evidence *e = &in->dkim[i];

		put_slice(&b, e->field);
		put_u8(&b, e->too_long);
		put_u8(&b, e->hashed);
		buf_put(&b, e->header, sizeof e->header);
		buf_put(&b, e->body, sizeof e->body);
		put_u64(&b, e->body_octets);
	}
	status = reply(r, &b, &from);
	for (unsigned i = 0; status == COMMAND_OK && i < in->dkim_count; i++) {
		uint8_t result = cursor_u8(&from);

		from.bad |= result >= DKIM_RESULT_COUNT;
		dkim_r[i] = (struct replay_dkim){.result = from.bad ? DKIM_RESULT_NONE : (enum dkim_result)result};
		dkim_r[i].key_bits = cursor_u32(&from);
		dkim_r[i].domain = cursor_slice(&from, TEXT_BYTES_MAX);
		dkim_r[i].reason = cursor_slice(&from, TEXT_BYTES_MAX);
	}
	if (status != COMMAND_OK)
		return status;
	return cursor_done(&from) ? COMMAND_OK : confined_nonsense();
}

static void
put_hash(struct buf *b, bool is_there, const uint8_t hash[32])
{
	put_u8(b, is_there);
	buf_put(b, hash, 32);
}

enum command_status
replay_check_arc(struct replay_check *r, const struct replay_input *in, struct replay_arc *arc_r)
{
	const struct arc_evidence *e = &in->arc;
	enum command_status status;
	struct cursor from;
	struct buf b;
	uint8_t result;

	buf_init(&b, CONFINED_PACKET_BYTES_MAX);
	put_u8(&b, ARC);
	put_u64(&b, in->now);
	put_u8(&b, e->large);
	put_slice(&b, e->fields);
	put_slice(&b, in->author);
	for (unsigned i = 0; i < 2; i++)
		put_hash(&b, e->has_body[i], e->body[i]);
	for (unsigned i = 0; i < ARC_SETS_MAX; i++)
		put_hash(&b, e->has_message[i], e->message[i]);
	status = reply(r, &b, &from);
	if (status != COMMAND_OK)
		return status;
	result = cursor_u8(&from);
	*arc_r = (struct replay_arc){.result = (enum arc_result)result, .sets = cursor_u32(&from)};
	arc_r->oldest_pass = cursor_u32(&from);
	arc_r->sealers = cursor_slice(&from, SEALERS_BYTES_MAX);
	arc_r->reason = cursor_slice(&from, TEXT_BYTES_MAX);
	return cursor_done(&from) && result < ARC_RESULT_COUNT ? COMMAND_OK : confined_nonsense();
}
