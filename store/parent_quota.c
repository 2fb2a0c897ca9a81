/*
 * The room of a domain is escrow. Each of its accounts has a ceiling: what it uses is at most that, whatever its
 * keeper does or however it ends. The sum of the ceilings never grows past the domain's limit. A
 * keeper that needs more asks (KEEPER_WANT) and gets it from what is free; when that is not enough, ceilings
 * that stand above what their accounts use come down first: a running keeper is told its limits again, by which its
 * ceiling falls to its usage (KEEPER_LIMITS, KEEPER_CEILING); an account without one gets a keeper that tells
 * it. Only when every keeper has answered since the question came, and there is still no room, "over quota" is true: what
 * somebody expunged before counts, whichever edge tells of it first.
 *
 * All of it is in memory. After a restart no usage is known, so the accounts of domains with a limit are all asked, a few at a
 * time, and nothing is granted in a domain before it is through. While something cannot be asked (an account that does not
 * open, one that the command has for itself), nobody is told "over quota" on its account: the answer is a temporary error.
 *
 * Rules of the books:
 * - ceiling_known: usage <= ceiling, for sure. A keeper of a domain without a limit has no bound, so its account is not known.
 * - asked (of a keeper): how many KEEPER_LIMITS with shared it was sent and has not answered; it gets no grant meanwhile, because
 *   the answer would cross it, and only the last answer counts.
 * - tight: known, and the ceiling is what was told as used last.
 */
#include "store/parent_quota.h"

#include "common/cursor.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/role.h"

#include <assert.h>

#define DOMAIN_HEADS 1024u
#define QUOTA_ANSWER_BYTES_MAX 17000u

struct parent_domain {
	uint64_t id;
	struct quota limit; /* QUOTA_NONE: no limit */
	bool told;	    /* in the telling that goes on */
	struct parent_account *accounts;
	struct parent_account *wants_first; /* those that wait for a grant, in order */
	struct parent_domain *next;
};

static struct parent_domain *domains[DOMAIN_HEADS];
/* A telling from beginning to end was taken: a domain's accounts are all known. */
static bool complete;
static uint64_t wants_ever;
static unsigned surveyed; /* keepers that were started to be asked, and have not answered */

static bool
is_shared(const struct parent_domain *d)
{
	return d->limit.bytes != QUOTA_NONE || d->limit.messages != QUOTA_NONE;
}

static bool
same(struct quota a, struct quota b)
{
	return a.bytes == b.bytes && a.messages == b.messages;
}

/* ---- an account's own limit ---- */

static uint64_t
in_force(uint64_t told, enum option setting)
{
	uint64_t n = config_number(role_config(), setting);

	if (told != QUOTA_DEFAULT)
		return told;
	return n > 0 ? n : QUOTA_NONE;
}

static struct quota
limit_of(const struct parent_account *a)
{
	return (struct quota){in_force(a->limit.bytes, OPT_QUOTA_BYTES), in_force(a->limit.messages, OPT_QUOTA_MESSAGES)};
}

/* By which a shared keeper's ceiling comes down too. */
static void
tell_keeper(struct parent_account *a)
{
	struct quota limit = limit_of(a);
	bool shared = is_shared(a->domain);

	if (a->keeper == NULL)
		return;
	if (!IPC_SEND(a->keeper->edge, KEEPER_LIMITS, .bytes = limit.bytes, .messages = limit.messages, .shared = shared)) {
		/* One whose socket and queue are full is beyond use. */
		log_event(LOG_ERROR, NO_SESSION, "limits-untold", LOG_NUM("account", a->id), LOG_END);
		parent_process_leave(a->keeper);
		return;
	}
	a->keeper->asked += shared;
	a->keeper->asked_no = wants_ever;
	if (!shared)
		a->ceiling_known = false;
}

void
parent_quota_keeper_up(struct parent_process *keeper)
{
	struct parent_account *a = keeper->account;

	assert(a->keeper == keeper);
	if (a->domain != NULL)
		tell_keeper(a);
	else
		a->ceiling_known = false;
}

/* ---- domains ---- */

static struct parent_domain *
domain_of(uint64_t id)
{
	struct parent_domain **head = &domains[id % DOMAIN_HEADS];
	struct parent_domain *d = *head;

	while (d != NULL && d->id != id)
		d = d->next;
	if (d == NULL) {
		d = MEM_NEW(struct parent_domain);
		*d = (struct parent_domain){.id = id, .limit = {QUOTA_NONE, QUOTA_NONE}, .next = *head};
		*head = d;
	}
	return d;
}

static void
each_domain(void (*fn)(struct parent_domain *d))
{
	for (unsigned i = 0; i < DOMAIN_HEADS; i++)
		for (struct parent_domain *d = domains[i]; d != NULL; d = d->next)
			fn(d);
}

static bool
is_tight(const struct parent_account *a)
{
	return a->ceiling_known && a->usage_known && quota_within(a->ceiling, a->usage);
}

/* ---- wants ---- */

static void
want_remove(struct parent_account *a)
{
	struct parent_account **link;

	if (!a->wants)
		return;
	for (link = &a->domain->wants_first; *link != a; link = &(*link)->wants_next)
		continue;
	*link = a->wants_next;
	a->wants = false;
	a->wants_next = NULL;
}

static void
want_answer(struct parent_account *a, enum err_class class)
{
	want_remove(a);
	IPC_TELL(a->keeper->edge, KEEPER_GRANT, .id = a->want_id, .class = class, .bytes = a->ceiling.bytes,
	    .messages = a->ceiling.messages);
}

enum tightened { TIGHT, WAITS, STUCK };

/* An account without a keeper gets one, which says what it uses. */
static enum tightened
find_out(struct parent_account *a)
{
	struct err e;

	/* One that is at its end has a last word. */
	if (a->keepers > 0 || surveyed >= PARENT_SURVEY_MAX)
		return WAITS;
	if (parent_process(a, ROLE_KEEPER, &e) == NULL) {
		log_event(LOG_WARN, NO_SESSION, "usage-unknown", LOG_NUM("account", a->id), LOG_ERR(&e), LOG_END);
		return STUCK;
	}
	a->keeper->surveyed = true;
	surveyed++;
	return WAITS;
}

/* Has the account's ceiling brought down to what it uses, for the want of that number. */
static enum tightened
tighten(struct parent_account *a, uint64_t want_no)
{
	if (is_tight(a) && (a->keeper == NULL || a->keeper->confirmed_no >= want_no))
		return TIGHT;
	if (a->keeper != NULL) {
		if (!a->keeper->asked)
			tell_keeper(a);
		return a->keeper != NULL ? WAITS : STUCK;
	}
	return find_out(a);
}

/* What a domain with a limit needs to know is asked before somebody waits for it. One that failed is tried when it matters. */
static void
survey(struct parent_domain *d)
{
	if (!complete || !is_shared(d))
		return;
	for (struct parent_account *a = d->accounts; a != NULL && surveyed < PARENT_SURVEY_MAX; a = a->domain_next)
		if (!a->ceiling_known && a->keeper == NULL && a->failures == 0 && a->holder == NULL)
			(void)find_out(a);
}

/* What the ceilings of a domain amount to. *unknown_r: how many accounts have none. */
static struct quota
ceilings(const struct parent_domain *d, unsigned *unknown_r)
{
	struct quota sum = {0, 0};

	*unknown_r = 0;
	for (const struct parent_account *a = d->accounts; a != NULL; a = a->domain_next) {
		if (a->ceiling_known)
			sum = quota_add(sum, a->ceiling);
		else
			++*unknown_r;
	}
	return sum;
}

static uint64_t
with_share(uint64_t ceiling, uint64_t need, uint64_t room, uint64_t most)
{
	uint64_t more = (room - need) / PARENT_GRANT_SHARE;

	return ceiling + need + (more < most ? more : most);
}

/* Gives the account what it wants, if the ceilings leave it: true. */
static bool
grant(struct parent_domain *d, struct parent_account *a)
{
	unsigned unknown;
	struct quota sum = ceilings(d, &unknown);
	struct quota room = quota_above(d->limit, sum), need = quota_above(a->want, a->ceiling);

	if (unknown > 0 || a->keeper->asked || !quota_within(need, room))
		return false;
	if (need.bytes > 0)
		a->ceiling.bytes = with_share(a->ceiling.bytes, need.bytes, room.bytes, PARENT_GRANT_BYTES_MAX);
	if (need.messages > 0)
		a->ceiling.messages = with_share(a->ceiling.messages, need.messages, room.messages, PARENT_GRANT_MESSAGES_MAX);
	want_answer(a, ERR_NONE);
	return true;
}

/* Serves those that want, one after the other, as far as it goes now. */
static void
step(struct parent_domain *d)
{
	struct parent_account *a;

	while (complete && (a = d->wants_first) != NULL) {
		bool waits = false, stuck = false;

		if (grant(d, a))
			continue;
		for (struct parent_account *other = d->accounts; other != NULL; other = other->domain_next) {
			enum tightened t = other == a && a->ceiling_known && !a->keeper->asked ? TIGHT : tighten(other, a->want_no);

			waits = waits || t == WAITS;
			stuck = stuck || t == STUCK;
		}
		/* tighten() may have ended what it asked. */
		if (d->wants_first != a)
			continue;
		if (waits)
			return;
		want_answer(a, stuck ? ERR_TEMP : ERR_LIMIT);
	}
}

void
parent_quota_on_want(struct edge *e, struct msg_KEEPER_WANT *m)
{
	struct parent_process *p = parent_process_of(e);
	struct parent_account *a = p->account, **link;

	/* One that was told to leave gets no more: who waits there asks its successor. */
	if (a->keeper != p || a->domain == NULL)
		return;
	/* One that waits already says how much it is now, and keeps its place. */
	a->want = (struct quota){m->bytes, m->messages};
	a->want_id = m->id;
	if (!is_shared(a->domain)) {
		/* The limit went meanwhile; what says so is on its way. */
		want_answer(a, ERR_NONE);
		return;
	}
	if (!a->wants) {
		for (link = &a->domain->wants_first; *link != NULL; link = &(*link)->wants_next)
			continue;
		*link = a;
		a->want_no = ++wants_ever;
		a->wants = true;
		a->wants_next = NULL;
	}
	step(a->domain);
}

/* ---- what keepers tell ---- */

/* One survey less: another domain may have waited for the place. */
static void
survey_end(struct parent_process *p)
{
	if (!p->surveyed)
		return;
	p->surveyed = false;
	surveyed--;
	/* It has said what it was started for, and nobody else came. */
	if (p->account->keeper == p && p->peers_sent == 0)
		parent_process_leave(p);
	each_domain(step);
	each_domain(survey);
}

/* What one says that has left already is old when another one runs. */
static bool
is_stale(const struct parent_process *p)
{
	return p->account->keeper != NULL && p->account->keeper != p;
}

void
parent_quota_on_ceiling(struct edge *e, struct msg_KEEPER_CEILING *m)
{
	struct parent_process *p = parent_process_of(e);
	struct parent_account *a = p->account;

	if (m->last)
		p->asked = 0;
	else if (p->asked > 0)
		p->asked--;
	if (p->asked > 0 || is_stale(p))
		return;
	p->confirmed_no = p->asked_no;
	a->ceiling = a->usage = (struct quota){m->bytes, m->messages};
	a->usage_known = true;
	/* One that goes on in a domain without a limit has no bound. */
	a->ceiling_known = m->last || (a->domain != NULL && is_shared(a->domain));
	survey_end(p);
	if (a->domain != NULL)
		step(a->domain);
}

void
parent_quota_used(struct parent_process *p, struct quota usage)
{
	struct parent_account *a = p->account;

	if (is_stale(p))
		return;
	a->usage = usage;
	a->usage_known = true;
	if (p->asked == 0 && a->domain != NULL)
		survey_end(p);
	if (a->domain != NULL)
		step(a->domain);
}

void
parent_quota_keeper_leaves(struct parent_process *p)
{
	if (p->account->domain != NULL)
		want_remove(p->account);
}

void
parent_quota_keeper_down(struct parent_process *p)
{
	struct parent_account *a = p->account;

	assert(a->keeper != p);
	if (a->keeper == NULL && a->domain != NULL)
		want_remove(a);
	survey_end(p);
	if (a->domain != NULL)
		step(a->domain);
}

/* ---- what the directory tells ---- */

static void
leave_domain(struct parent_account *a)
{
	struct parent_account **link;

	if (a->domain == NULL)
		return;
	want_remove(a);
	for (link = &a->domain->accounts; *link != a; link = &(*link)->domain_next)
		continue;
	*link = a->domain_next;
	a->domain = NULL;
}

void
parent_quota_account_gone(struct parent_account *a)
{
	struct parent_domain *d = a->domain;

	leave_domain(a);
	a->usage_known = a->ceiling_known = false;
	if (d != NULL)
		step(d);
}

void
parent_quota_unsure(struct parent_account *a)
{
	a->usage_known = a->ceiling_known = false;
	if (a->domain != NULL)
		step(a->domain);
}

static void
set_limit(struct parent_domain *d, struct quota limit)
{
	if (same(d->limit, limit))
		return;
	d->limit = limit;
	for (struct parent_account *a = d->accounts; a != NULL; a = a->domain_next)
		tell_keeper(a);
	while (!is_shared(d) && d->wants_first != NULL)
		want_answer(d->wants_first, ERR_NONE);
	step(d);
	survey(d);
}

static void
take_account(uint64_t id, struct parent_domain *d, struct quota limit)
{
	struct parent_account *a = parent_account(id);

	if (a == NULL) {
		log_event(LOG_ERROR, NO_SESSION, "too-many-accounts", LOG_NUM("account", id), LOG_END);
		return;
	}
	if (a->domain == d && same(a->limit, limit))
		return;
	if (a->domain != d) {
		leave_domain(a);
		a->domain = d;
		a->domain_next = d->accounts;
		d->accounts = a;
	}
	a->limit = limit;
	tell_keeper(a);
}

static struct quota
domain_limit(struct quota told)
{
	return (struct quota){told.bytes == QUOTA_DEFAULT ? QUOTA_NONE : told.bytes,
	    told.messages == QUOTA_DEFAULT ? QUOTA_NONE : told.messages};
}

static void
take_rows(struct slice rows)
{
	struct cursor c = cursor_of(rows);

	while (cursor_left(&c) >= QUOTA_ROW_BYTES) {
		uint64_t account = cursor_u64(&c), domain = cursor_u64(&c);
		struct quota limit = {.bytes = cursor_u64(&c)};
		struct parent_domain *d = domain_of(domain);

		limit.messages = cursor_u64(&c);
		if (account != 0) {
			take_account(account, d, limit);
			continue;
		}
		d->told = true;
		set_limit(d, domain_limit(limit));
	}
}

static void
begin_telling(struct parent_domain *d)
{
	d->told = false;
}

static void
end_telling(struct parent_domain *d)
{
	if (!d->told)
		set_limit(d, (struct quota){QUOTA_NONE, QUOTA_NONE});
}

void
parent_quota_on_rows(struct edge *e, struct msg_QUOTA_ROWS *m)
{
	if (m->part == QUOTA_FIRST)
		each_domain(begin_telling);
	take_rows(m->rows);
	if (m->part == QUOTA_LAST) {
		each_domain(end_telling);
		complete = true;
		each_domain(step);
		each_domain(survey);
	}
	IPC_TELL(e, QUOTA_TAKEN, .id = m->id);
}

static void
tell_settings(const struct parent_account *a, void *arg)
{
	(void)arg;
	if (a->domain != NULL)
		tell_keeper(parent_account_find(a->id));
}

void
parent_quota_reload(void)
{
	parent_account_each(tell_settings, NULL);
}

/* ---- what others ask ---- */

/* What a domain's accounts use; false when that is not known of all. */
static bool
usage_of(const struct parent_domain *d, struct quota *sum_r)
{
	*sum_r = (struct quota){0, 0};
	for (const struct parent_account *a = d->accounts; a != NULL; a = a->domain_next) {
		if (!a->usage_known)
			return false;
		*sum_r = quota_add(*sum_r, a->usage);
	}
	return complete;
}

/* An answer in time is worth more than a right one here: what is not known is not full. */
static bool
is_full(const struct parent_account *a, struct quota more)
{
	struct quota sum;

	if (a == NULL || a->domain == NULL || !a->usage_known)
		return false;
	if (!quota_fits(limit_of(a), a->usage, more))
		return true;
	return is_shared(a->domain) && usage_of(a->domain, &sum) && !quota_fits(a->domain->limit, sum, more);
}

void
parent_quota_on_usage(struct edge *e, struct msg_STORE_USAGE *m)
{
	struct cursor c = cursor_of(m->accounts);
	bool full = m->accounts.n > 0;

	while (full && cursor_left(&c) >= sizeof(uint64_t))
		full = is_full(parent_account_find(cursor_u64(&c)), (struct quota){m->bytes, 1});
	IPC_TELL(e, STORE_USAGE_REPLY, .id = m->id, .full = full);
}

static void
put_row(struct buf *b, bool known, struct quota usage, struct quota limit)
{
	put_u8(b, known);
	put_u64(b, usage.bytes);
	put_u64(b, usage.messages);
	put_u64(b, limit.bytes);
	put_u64(b, limit.messages);
}

static void
put_account(struct buf *b, struct parent_account *a)
{
	const struct quota none = {QUOTA_NONE, QUOTA_NONE};

	if (a != NULL && !a->usage_known)
		(void)find_out(a);
	put_row(b, a != NULL && a->usage_known, a != NULL ? a->usage : none, a != NULL && a->domain != NULL ? limit_of(a) : none);
}

static void
put_domain(struct buf *b, struct parent_domain *d)
{
	struct quota sum;
	bool known = usage_of(d, &sum);

	for (struct parent_account *a = d->accounts; !known && a != NULL; a = a->domain_next)
		if (!a->usage_known)
			(void)find_out(a);
	put_row(b, known, sum, d->limit);
}

void
parent_quota_on_question(struct edge *e, struct msg_STORE_QUOTA *m)
{
	struct cursor c = cursor_of(m->accounts);
	struct buf rows;

	buf_init(&rows, QUOTA_ANSWER_BYTES_MAX);
	if (m->domain != 0)
		put_domain(&rows, domain_of(m->domain));
	while (cursor_left(&c) >= sizeof(uint64_t))
		put_account(&rows, parent_account_find(cursor_u64(&c)));
	IPC_TELL(e, STORE_QUOTA_REPLY, .id = m->id, .rows = buf_slice(&rows));
	buf_fini(&rows);
}
