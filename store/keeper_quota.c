/*
 * What may still come in. Two bounds: the account's own limit, which its keeper knows, and, when its domain has a limit as
 * well, a ceiling: the part of the domain's room that the store's parent has given to this account
 * (store/parent_quota.c). Below both nothing is asked; above the limit a request is refused; between them
 * the request is put back, so that its peer's order stays, the parent is asked, and it is handed over again when the
 * answer is there. As long as the parent has not said which limits there are, the ceiling is nothing: a
 * keeper that was just started refuses and admits alike only what it knows to be right.
 *
 * A ceiling is told after a flush: what it gives back must not be needed by what a crash would undo.
 */
#include "store/keeper_private.h"

#include "common/log.h"

#include <assert.h>

/* What is in mailboxes, with what is written and about to be there. */
static struct quota
used(const struct keeper *k)
{
	struct quota sum = index_usage(k->ix);

	for (size_t i = 0; i < k->pending_count; i++)
		sum = quota_add(sum, (struct quota){k->pending[i].a.size, 1});
	return sum;
}

struct quota
keeper_quota_limit(void)
{
	const struct keeper_quota *q = &the_keeper.quota;

	if (!q->known)
		return (struct quota){0, 0};
	return q->shared ? quota_min(q->limit, q->ceiling) : q->limit;
}

/* ---- requests that wait ---- */

/* The one that waits longest. */
static struct keeper_peer *
first_held(void)
{
	struct keeper_peer *first = NULL;

	for (struct keeper_peer *p = the_keeper.peers; p != NULL; p = p->next)
		if (p->held_no > 0 && (first == NULL || p->held_no < first->held_no))
			first = p;
	return first;
}

bool
keeper_quota_waits(void)
{
	return first_held() != NULL;
}

static void
want(struct keeper *k, const struct keeper_peer *p)
{
	struct keeper_quota *q = &k->quota;
	struct quota total = quota_add(used(k), p->more);

	/* Untold, it is asked again with the next request, or the wait has its end. */
	if (k->events->want == NULL || !k->events->want(k->arg, ++q->asked_id, total))
		return;
	q->asked_for = p->held_no;
	q->asked = total;
}

/* Asks for what the first one needs, unless it is about to try again; the others have their turn when it is through. */
static void
ask(struct keeper *k)
{
	const struct keeper_peer *first = first_held();

	if (first != NULL && !first->retry && k->quota.known && k->quota.shared && k->quota.asked_for == 0)
		want(k, first);
}

/* The one that the parent was asked for, while it waits. */
static struct keeper_peer *
asked_peer(const struct keeper *k)
{
	struct keeper_peer *p = k->peers;

	while (p != NULL && (p->held_no == 0 || p->held_no != k->quota.asked_for))
		p = p->next;
	return p;
}

static void
set_deadline(struct keeper *k)
{
	const struct keeper_peer *first = first_held();
	uint64_t now = clock_ms(), due;

	/* One that is refused already is about to be told so; what comes after it has its turn then. */
	if (first == NULL || first->verdict != ERR_NONE) {
		loop_timer_stop(k->quota.deadline_timer);
		return;
	}
	due = first->held_since_ms + k->settings.quota_wait_ms;
	loop_timer_set(k->quota.deadline_timer, due > now ? due - now : 0);
}

static void
hold(struct keeper *k, struct edge *e, struct quota more)
{
	struct keeper_peer *p = keeper_peer_of(e);

	p->more = more;
	if (p->held_no == 0) {
		p->held_no = ++k->quota.last_held_no;
		p->held_since_ms = clock_ms();
		set_deadline(k);
	}
	k->put_back = true;
	ask(k);
}

/* Every request that waits may be done again, in the order in which they came. */
static void
retry(void *arg)
{
	struct keeper *k = arg;

	for (struct keeper_peer *p = k->peers; p != NULL; p = p->next)
		p->retry = p->held_no != 0;
	loop_timer_set(k->step_timer, 0);
}

void
keeper_quota_next(void)
{
	ask(&the_keeper);
	set_deadline(&the_keeper);
}

static void
on_deadline(void *arg)
{
	struct keeper *k = arg;
	bool late = false;

	for (struct keeper_peer *p = k->peers; p != NULL; p = p->next) {
		if (p->held_no == 0 || p->verdict != ERR_NONE || clock_ms() - p->held_since_ms < k->settings.quota_wait_ms)
			continue;
		p->verdict = ERR_TEMP;
		late = true;
	}
	if (late) {
		log_event(LOG_WARN, NO_SESSION, "quota-unknown", LOG_NUM("told", k->quota.known), LOG_END);
		retry(k);
	}
	/* Timers and the clock differ by a little. */
	set_deadline(k);
}

int
keeper_quota_admit(struct edge *e, struct quota more, struct err *err)
{
	struct keeper *k = &the_keeper;
	const struct keeper_quota *q = &k->quota;
	enum err_class verdict = keeper_peer_of(e)->verdict;

	/* The limit is judged for good when the message is put in; a message that waits before this one may yet fail. */
	if (q->known && !quota_fits(q->limit, index_usage(k->ix), more))
		return err_set(err, ERR_LIMIT, ERR_CODE_OVER_QUOTA, "over quota", NULL);
	if (q->known && (!q->shared || quota_fits(q->ceiling, used(k), more)))
		return 1;
	if (verdict == ERR_LIMIT)
		return err_set(err, ERR_LIMIT, ERR_CODE_OVER_QUOTA, "over quota", "the domain's");
	if (verdict != ERR_NONE)
		return err_set(err, ERR_TEMP, ERR_CODE_UNAVAILABLE, "the quota is not known at the moment", NULL);
	hold(k, e, more);
	return 0;
}

bool
keeper_quota_put_back(struct edge *e, int failed, struct err *err)
{
	struct keeper *k = &the_keeper;

	if (!failed || err->code != ERR_CODE_OVER_QUOTA || keeper_quota_admit(e, index_quota_wanted(k->ix), err) != 0)
		return false;
	index_abort(k->ix);
	return true;
}

/* ---- what the parent says ---- */

void
keeper_quota_init(struct keeper *k)
{
	k->quota = (struct keeper_quota){
	    .retry_timer = loop_timer_new(k->loop, retry, k),
	    .deadline_timer = loop_timer_new(k->loop, on_deadline, k),
	};
}

void
keeper_quota_fini(struct keeper *k)
{
	loop_timer_free(&k->quota.retry_timer);
	loop_timer_free(&k->quota.deadline_timer);
}

void
keeper_quota_tell(bool last)
{
	struct keeper *k = &the_keeper;

	if (k->events->ceiling != NULL)
		k->events->ceiling(k->arg, index_usage(k->ix), last);
}

void
keeper_quota_set(struct quota limit, bool shared)
{
	struct keeper *k = &the_keeper;

	/* What is written comes in, and what was done is durable. */
	if (k->pending_count > 0 && keeper_pending_sync())
		keeper_pending_do();
	keeper_sync();
	if (k->stopped)
		return;
	k->quota.known = true;
	k->quota.limit = limit;
	k->quota.shared = shared;
	if (shared) {
		assert(k->pending_count == 0);
		k->quota.ceiling = index_usage(k->ix);
		keeper_quota_tell(false);
		/* What was asked for was reckoned from what was used then. */
		if (asked_peer(k) != NULL)
			want(k, asked_peer(k));
	}
	loop_timer_set(k->quota.retry_timer, 0);
}

void
keeper_quota_grant(uint64_t id, enum err_class class, struct quota ceiling)
{
	struct keeper *k = &the_keeper;
	struct keeper_peer *p = asked_peer(k);

	if (k->stopped)
		return;
	/* Whatever it answers: the parent reckons with it. */
	if (class == ERR_NONE)
		k->quota.ceiling = ceiling;
	if (id == k->quota.asked_id) {
		/* When less is used by now, less is wanted: that is another question. */
		if (p != NULL && quota_within(k->quota.asked, quota_add(used(k), p->more)))
			p->verdict = class;
		k->quota.asked_for = 0;
	}
	loop_timer_set(k->quota.retry_timer, 0);
}
