#include "imapd/search_eval.h"

#include "common/text.h"
#include "common/search_text.h"

#include <assert.h>

/* ---- making ready ---- */

struct prepare {
	const struct search_context *context;
	struct search_needs *needs;
	unsigned body_keys;
	struct err *e;
};

static int
limit(struct prepare *p, const char *text)
{
	return err_set(p->e, ERR_LIMIT, ERR_CODE_NONE, text, NULL);
}

static int
fold(struct prepare *p, struct imap_search_key *k)
{
	struct buf b;
	bool ok;

	buf_init(&b, TEXT_NEEDLE_BYTES_MAX);
	ok = text_fold(k->text, &b) && arena_copy(p->context->arena, buf_slice(&b), &k->text);
	buf_fini(&b);
	return ok ? 0 : limit(p, "Search text is too long");
}

static int prepare_key(struct prepare *p, struct imap_search_key *k, unsigned depth);

static int
prepare_children(struct prepare *p, struct imap_search_key *k, unsigned depth)
{
	for (struct imap_search_key *c = k->first; c; c = c->next)
		if (prepare_key(p, c, depth + 1) != 0)
			return -1;
	return 0;
}

/* A keyword becomes its bit; UINT32_MAX when the mailbox has none of that name. */
static void
prepare_keyword(struct prepare *p, struct imap_search_key *k)
{
	int bit = store_keyword_find(p->context->keywords, k->text);

	k->number = bit < 0 ? UINT32_MAX : (uint32_t)bit;
}

static int
prepare_text(struct prepare *p, struct imap_search_key *k)
{
	p->needs->summary = true;
	if (k->op == IMAP_SEARCH_HEADER || k->op == IMAP_SEARCH_BODY || k->op == IMAP_SEARCH_TEXT)
		p->needs->object = true;
	if ((k->op == IMAP_SEARCH_BODY || k->op == IMAP_SEARCH_TEXT) &&
	    ++p->body_keys > SEARCH_BODY_KEYS_MAX)
		return limit(p, "Too many BODY and TEXT keys");
	return fold(p, k);
}

static int
prepare_key(struct prepare *p, struct imap_search_key *k, unsigned depth)
{
	assert(depth <= IMAP_SEARCH_DEPTH_MAX + 2);
	switch (k->op) {
	case IMAP_SEARCH_AND:
	case IMAP_SEARCH_OR:
	case IMAP_SEARCH_NOT:
		return prepare_children(p, k, depth);
	case IMAP_SEARCH_SET:
		imap_set_resolve(&k->set, p->context->exists);
		return 0;
	case IMAP_SEARCH_UID:
		imap_set_resolve(&k->set, p->context->last_uid);
		return 0;
	case IMAP_SEARCH_KEYWORD:
		prepare_keyword(p, k);
		return 0;
	case IMAP_SEARCH_FLAG:
	case IMAP_SEARCH_RECENT:
		return 0;
	case IMAP_SEARCH_BEFORE:
	case IMAP_SEARCH_ON:
	case IMAP_SEARCH_SINCE:
	case IMAP_SEARCH_LARGER:
	case IMAP_SEARCH_SMALLER:
		p->needs->detail = true;
		return 0;
	case IMAP_SEARCH_SENTBEFORE:
	case IMAP_SEARCH_SENTON:
	case IMAP_SEARCH_SENTSINCE:
		p->needs->summary = true;
		return 0;
	case IMAP_SEARCH_BCC:
	case IMAP_SEARCH_CC:
	case IMAP_SEARCH_FROM:
	case IMAP_SEARCH_SUBJECT:
	case IMAP_SEARCH_TO:
	case IMAP_SEARCH_HEADER:
	case IMAP_SEARCH_BODY:
	case IMAP_SEARCH_TEXT:
		break;
	}
	return prepare_text(p, k);
}

int
search_prepare(struct imap_search *search, const struct search_context *context, struct search_needs *needs_r,
    struct err *e)
{
	struct prepare p = {.context = context, .needs = needs_r, .e = e};

	*needs_r = (struct search_needs){0};
	return prepare_key(&p, search->root, 0);
}

/* ---- evaluating ---- */

static enum search_truth
truth(bool b)
{
	return b ? SEARCH_YES : SEARCH_NO;
}

static bool
set_has(const struct imap_set *set, uint32_t value)
{
	size_t low = 0;
	size_t high = set->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (set->v[mid].high < value)
			low = mid + 1;
		else
			high = mid;
	}
	return low < set->n && set->v[low].low <= value;
}

static enum search_truth
eval_date(const struct imap_search_key *k, enum imap_search_op before, enum imap_search_op on, int64_t day)
{
	if (k->op == before)
		return truth(day < k->day);
	return truth(k->op == on ? day == k->day : day >= k->day);
}

static enum search_truth
eval_detail(const struct imap_search_key *k, const struct store_record *r)
{
	struct date_time date;

	if (r == NULL)
		return SEARCH_MAYBE;
	if (k->op == IMAP_SEARCH_LARGER)
		return truth(r->size > k->number);
	if (k->op == IMAP_SEARCH_SMALLER)
		return truth(r->size < k->number);
	date = (struct date_time){.seconds = r->internal_date, .zone_minutes = r->zone_minutes};
	return eval_date(k, IMAP_SEARCH_BEFORE, IMAP_SEARCH_ON, date_local_day(date));
}

/* SENTBEFORE, SENTON, SENTSINCE: a message without a valid Date matches none of them. */
static enum search_truth
eval_sent(const struct imap_search_key *k, const struct summary *sum)
{
	if (sum == NULL)
		return SEARCH_MAYBE;
	if (!sum->has_date)
		return SEARCH_NO;
	return eval_date(k, IMAP_SEARCH_SENTBEFORE, IMAP_SEARCH_SENTON, date_local_day(sum->date));
}

static enum search_truth
eval_address(const struct imap_search_key *k, const struct summary *sum)
{
	if (sum == NULL)
		return SEARCH_MAYBE;
	switch (k->op) {
	case IMAP_SEARCH_BCC:
		return truth(text_contains(sum->bcc, k->text));
	case IMAP_SEARCH_CC:
		return truth(text_contains(sum->cc, k->text));
	case IMAP_SEARCH_FROM:
		return truth(text_contains(sum->from, k->text));
	case IMAP_SEARCH_TO:
		return truth(text_contains(sum->to, k->text));
	default:
		return truth(text_contains(sum->subject, k->text));
	}
}

static enum search_truth
eval_object(const struct imap_search_key *k, const struct search_message *m)
{
	if (m->fd < 0 || m->summary == NULL)
		return SEARCH_MAYBE;
	if (k->op == IMAP_SEARCH_HEADER)
		return truth(search_header_field(m->fd, m->summary, k->name, k->text));
	if (k->op == IMAP_SEARCH_TEXT && search_header_text(m->fd, m->summary, k->text))
		return SEARCH_YES;
	return truth(search_body(m->fd, m->summary, k->text));
}

static enum search_truth eval(const struct imap_search_key *k, const struct search_message *m, unsigned depth);

/* The cheap keys decide before the costly ones are looked at: two rounds, the first without the object. */
static enum search_truth
eval_and(const struct imap_search_key *k, const struct search_message *m, unsigned depth)
{
	struct search_message cheap = *m;
	enum search_truth all = SEARCH_YES;

	cheap.fd = -1;
	for (const struct imap_search_key *c = k->first; c; c = c->next) {
		enum search_truth t = eval(c, &cheap, depth + 1);

		if (t < all)
			all = t;
		if (all == SEARCH_NO)
			return SEARCH_NO;
	}
	if (all == SEARCH_YES || m->fd < 0)
		return all;
	for (const struct imap_search_key *c = k->first; c; c = c->next)
		if (eval(c, m, depth + 1) == SEARCH_NO)
			return SEARCH_NO;
	return SEARCH_YES;
}

static enum search_truth
eval_or(const struct imap_search_key *k, const struct search_message *m, unsigned depth)
{
	enum search_truth any = SEARCH_NO;

	for (const struct imap_search_key *c = k->first; c && any != SEARCH_YES; c = c->next) {
		enum search_truth t = eval(c, m, depth + 1);

		if (t > any)
			any = t;
	}
	return any;
}

static enum search_truth
eval(const struct imap_search_key *k, const struct search_message *m, unsigned depth)
{
	enum search_truth t;

	assert(depth <= IMAP_SEARCH_DEPTH_MAX + 2);
	switch (k->op) {
	case IMAP_SEARCH_AND:
		return eval_and(k, m, depth);
	case IMAP_SEARCH_OR:
		return eval_or(k, m, depth);
	case IMAP_SEARCH_NOT:
		t = eval(k->first, m, depth + 1);
		return t == SEARCH_MAYBE ? t : truth(t == SEARCH_NO);
	case IMAP_SEARCH_SET:
		return truth(set_has(&k->set, m->number));
	case IMAP_SEARCH_UID:
		return truth(set_has(&k->set, m->entry->uid));
	case IMAP_SEARCH_FLAG:
		return truth(m->entry->flags & k->number);
	case IMAP_SEARCH_KEYWORD:
		return truth(k->number < STORE_KEYWORDS_MAX && (m->entry->keywords >> k->number & 1));
	case IMAP_SEARCH_RECENT:
		return truth(m->recent);
	case IMAP_SEARCH_BEFORE:
	case IMAP_SEARCH_ON:
	case IMAP_SEARCH_SINCE:
	case IMAP_SEARCH_LARGER:
	case IMAP_SEARCH_SMALLER:
		return eval_detail(k, m->record);
	case IMAP_SEARCH_SENTBEFORE:
	case IMAP_SEARCH_SENTON:
	case IMAP_SEARCH_SENTSINCE:
		return eval_sent(k, m->summary);
	case IMAP_SEARCH_HEADER:
	case IMAP_SEARCH_BODY:
	case IMAP_SEARCH_TEXT:
		return eval_object(k, m);
	default:
		return eval_address(k, m->summary);
	}
}

enum search_truth
search_eval(const struct imap_search *search, const struct search_message *m)
{
	assert(m->entry != NULL);
	return eval(search->root, m, 0);
}
