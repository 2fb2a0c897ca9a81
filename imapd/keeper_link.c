/*
 * A request keeps the message as it goes over the edge: encoded octets would have to be decoded and encoded again
 * for a new id, so it keeps the struct with slices into one copied block. The list is in order of asking, and is sent again
 * in that order.
 */
#include "imapd/keeper_link.h"

#include "common/log.h"
#include "common/loop.h"
#include "common/mem.h"
#include "store/store.h"

#include <assert.h>
#include <fcntl.h>
#include <sys/random.h>
#include <unistd.h>

/* Pause before asking for a keeper again when none could be had. */
#define AGAIN_MS 500

struct keeper_request {
	struct keeper_request *next;
	struct keeper_request **prev;
	struct keeper_link *link;
	struct msg msg;
	struct buf octets; /* what msg's slices point into */
	uint8_t origin[STORE_ORIGIN_BYTES];
	uint64_t id; /* on the present edge; 0: not sent */
	uint64_t since_ms;
	unsigned tries;
	keeper_done_fn *done; /* NULL: forgotten, but a mutation is under way */
	void *owner;
};

struct keeper_link {
	struct loop *loop;
	const struct keeper_link_events *ev;
	void *arg;
	struct edge *edge;
	bool asked; /* for an edge */
	struct loop_timer *timer;
	struct keeper_request *first;
	struct keeper_request **last;
	unsigned waiting;
	uint8_t origin[STORE_ORIGIN_BYTES];
	uint64_t sequence;
};

/* ---- a request's message ---- */

/* The fields that requests share, found by type. */
struct parts {
	uint64_t *id;
	struct slice *origin;
	uint64_t *sequence;
	struct slice *slices[4];
	int *fds[2];
};

static struct parts
parts_of(struct msg *m)
{
	switch (m->type) {
	case MSG_MBOX_LIST:
		return (struct parts){.id = &m->u.MBOX_LIST.id};
	case MSG_MBOX_OPEN:
		return (struct parts){.id = &m->u.MBOX_OPEN.id};
	case MSG_MBOX_FENCE:
		return (struct parts){.id = &m->u.MBOX_FENCE.id};
	case MSG_MBOX_CHANGE:
		return (struct parts){.id = &m->u.MBOX_CHANGE.id,
		    .origin = &m->u.MBOX_CHANGE.origin,
		    .sequence = &m->u.MBOX_CHANGE.sequence,
		    .slices = {&m->u.MBOX_CHANGE.name, &m->u.MBOX_CHANGE.new_name}};
	case MSG_MSG_FLAGS:
		return (struct parts){.id = &m->u.MSG_FLAGS.id,
		    .origin = &m->u.MSG_FLAGS.origin,
		    .sequence = &m->u.MSG_FLAGS.sequence,
		    .slices = {&m->u.MSG_FLAGS.keywords, &m->u.MSG_FLAGS.uids},
		    .fds = {&m->u.MSG_FLAGS.uids_fd}};
	case MSG_MSG_APPEND:
		return (struct parts){.id = &m->u.MSG_APPEND.id,
		    .origin = &m->u.MSG_APPEND.origin,
		    .sequence = &m->u.MSG_APPEND.sequence,
		    .slices = {&m->u.MSG_APPEND.keywords, &m->u.MSG_APPEND.sha256},
		    .fds = {&m->u.MSG_APPEND.message, &m->u.MSG_APPEND.summary}};
	case MSG_MSG_COPY:
		return (struct parts){.id = &m->u.MSG_COPY.id,
		    .origin = &m->u.MSG_COPY.origin,
		    .sequence = &m->u.MSG_COPY.sequence,
		    .slices = {&m->u.MSG_COPY.uids},
		    .fds = {&m->u.MSG_COPY.uids_fd}};
	case MSG_MSG_EXPUNGE:
		return (struct parts){.id = &m->u.MSG_EXPUNGE.id,
		    .origin = &m->u.MSG_EXPUNGE.origin,
		    .sequence = &m->u.MSG_EXPUNGE.sequence,
		    .slices = {&m->u.MSG_EXPUNGE.uids},
		    .fds = {&m->u.MSG_EXPUNGE.uids_fd}};
	case MSG_MSG_FETCH:
		return (struct parts){.id = &m->u.MSG_FETCH.id,
		    .slices = {&m->u.MSG_FETCH.uids},
		    .fds = {&m->u.MSG_FETCH.uids_fd}};
	default: /* no request of the keeper: our own fault */
		abort();
	}
}

#define SLICES_MAX (sizeof((struct parts *)0)->slices / sizeof(struct slice *))
#define FDS_MAX (sizeof((struct parts *)0)->fds / sizeof(int *))

/* Makes the request own what its message points to. False when descriptors have run out. */
static bool
own_parts(struct keeper_request *r, struct parts *p)
{
	size_t bytes = 0;
	bool ok = true;

	for (size_t i = 0; i < SLICES_MAX && p->slices[i]; i++)
		bytes += p->slices[i]->n;
	buf_init(&r->octets, bytes + 1);
	(void)buf_room(&r->octets, bytes + 1); /* no move later */
	for (size_t i = 0; i < SLICES_MAX && p->slices[i]; i++) {
		struct slice s = *p->slices[i];

		*p->slices[i] = slice_of(r->octets.p + r->octets.n, s.n);
		(void)buf_put_slice(&r->octets, s);
	}
	for (size_t i = 0; i < FDS_MAX && p->fds[i]; i++) {
		if (*p->fds[i] < 0)
			continue;
		*p->fds[i] = fcntl(*p->fds[i], F_DUPFD_CLOEXEC, 0);
		ok = ok && *p->fds[i] >= 0;
	}
	return ok;
}

static void
request_free(struct keeper_request *r)
{
	struct parts p = parts_of(&r->msg);

	for (size_t i = 0; i < FDS_MAX && p.fds[i]; i++)
		if (*p.fds[i] >= 0)
			close(*p.fds[i]);
	*r->prev = r->next;
	if (r->next)
		r->next->prev = r->prev;
	else
		r->link->last = r->prev;
	r->link->waiting--;
	buf_fini(&r->octets);
	free(r);
}

/* The end of a request, told to its owner if there still is one. */
static void
request_done(struct keeper_request *r, void *reply, const struct err *e)
{
	keeper_done_fn *done = r->done;
	void *owner = r->owner;

	request_free(r);
	if (done)
		done(owner, reply, e);
}

/* Given up. Whoever was asked for a change and died may have made it. */
static void
request_failed(struct keeper_request *r, const struct err *e)
{
	struct err uncertain;

	if (parts_of(&r->msg).origin && r->tries > 0) {
		err_set(&uncertain, ERR_TEMP, ERR_CODE_UNCERTAIN, "Temporary failure", "%s", e->detail);
		e = &uncertain;
	}
	request_done(r, NULL, e);
}

/* ---- sending ---- */

static void request_gone(void *obj, const struct err *e);

static void
want_edge(struct keeper_link *k)
{
	if (k->asked || k->edge)
		return;
	k->asked = true;
	k->ev->wanted(k->arg);
}

/* Sends it now when it can be; else the timer or the next edge does. */
static void
request_send(struct keeper_request *r)
{
	struct keeper_link *k = r->link;

	if (k->edge == NULL) {
		want_edge(k);
		return;
	}
	r->id = ipc_expect(k->edge, KEEPER_REQUEST_MS, request_gone, r);
	*parts_of(&r->msg).id = r->id;
	if (r->id != 0 && ipc_send(k->edge, &r->msg)) {
		r->tries++;
		return;
	}
	if (r->id != 0)
		ipc_forget(k->edge, r->id);
	r->id = 0;
	loop_timer_set(k->timer, AGAIN_MS);
}

/* Fails what has waited too long, and sends what could not be sent. */
static void
look_again(void *arg)
{
	struct keeper_link *k = arg;
	struct keeper_request *next;
	struct err late;

	err_set(&late, ERR_TEMP, ERR_CODE_UNAVAILABLE, "Temporary failure", "no keeper in time");
	for (struct keeper_request *r = k->first; r; r = next) {
		next = r->next;
		if (r->id == 0 && clock_ms() - r->since_ms >= KEEPER_REQUEST_MS) {
			request_failed(r, &late);
			next = k->first; /* the owner may have forgotten others */
		}
	}
	for (struct keeper_request *r = k->first; r && k->edge; r = r->next)
		if (r->id == 0)
			request_send(r);
	if (k->edge == NULL)
		want_edge(k);
	if (k->first)
		loop_timer_set(k->timer, AGAIN_MS);
}

/* The edge ended, or the keeper did not answer in time. */
static void
request_gone(void *obj, const struct err *e)
{
	struct keeper_request *r = obj;

	r->id = 0;
	if (e->code != ERR_CODE_TIMEOUT) /* the edge is ending: nothing more is sent over it */
		r->link->edge = NULL;
	if (r->tries < KEEPER_TRIES_MAX && e->code != ERR_CODE_TIMEOUT)
		loop_timer_set(r->link->timer, AGAIN_MS);
	else
		request_failed(r, e);
}

struct keeper_request *
keeper_ask(struct keeper_link *k, struct msg *m, keeper_done_fn *done, void *owner)
{
	struct keeper_request *r = MEM_NEW(struct keeper_request);
	struct parts p;
	bool ok;

	r->msg = *m;
	r->link = k;
	r->done = done;
	r->owner = owner;
	r->since_ms = clock_ms();
	r->prev = k->last;
	*k->last = r;
	k->last = &r->next;
	k->waiting++;
	p = parts_of(&r->msg);
	ok = own_parts(r, &p) && k->waiting <= KEEPER_REQUESTS_MAX;
	if (p.origin) {
		memcpy(r->origin, k->origin, sizeof r->origin);
		*p.origin = slice_of(r->origin, sizeof r->origin);
		*p.sequence = ++k->sequence;
	}
	if (ok) {
		request_send(r);
	} else { /* told from the loop, as everything is */
		r->since_ms -= KEEPER_REQUEST_MS;
		loop_timer_set(k->timer, 0);
	}
	return r;
}

void
keeper_forget(struct keeper_request **r)
{
	struct keeper_request *gone = *r;

	*r = NULL;
	if (gone == NULL)
		return;
	gone->done = NULL;
	gone->owner = NULL;
	/* What was never sent need not be; a mutation that was sent is seen to its end. */
	if (gone->id == 0 && gone->tries == 0)
		request_free(gone);
}

void
keeper_answered(struct edge *e, uint64_t id, void *reply, uint32_t class, uint32_t code, struct slice text)
{
	struct keeper_request *r = ipc_answered(e, id);
	struct err why;

	if (r == NULL)
		return;
	r->id = 0;
	if (class == ERR_NONE) {
		request_done(r, reply, NULL);
		return;
	}
	err_set(&why, (enum err_class)class, (enum err_code)code, "", NULL);
	if (!slice_cstr(slice_sub(text, 0, sizeof why.client - 1), why.client, sizeof why.client))
		why.client[0] = '\0';
	request_done(r, NULL, &why);
}

/* ---- the link ---- */

struct keeper_link *
keeper_link_new(struct loop *l, const struct keeper_link_events *ev, void *arg)
{
	struct keeper_link *k = MEM_NEW(struct keeper_link);

	k->loop = l;
	k->ev = ev;
	k->arg = arg;
	k->last = &k->first;
	k->timer = loop_timer_new(l, look_again, k);
	if (getrandom(k->origin, sizeof k->origin, 0) != (ssize_t)sizeof k->origin)
		abort(); /* the kernel gives so few octets whole, or not at all */
	return k;
}

void
keeper_link_free(struct keeper_link **kp)
{
	struct keeper_link *k = *kp;

	*kp = NULL;
	if (k == NULL)
		return;
	while (k->first) {
		if (k->edge && k->first->id != 0)
			ipc_forget(k->edge, k->first->id);
		request_free(k->first);
	}
	loop_timer_free(&k->timer);
	free(k);
}

void
keeper_link_up(struct keeper_link *k, struct edge *e)
{
	k->asked = false;
	k->edge = e;
	k->ev->up(k->arg);
	for (struct keeper_request *r = k->first; r && k->edge; r = r->next)
		if (r->id == 0)
			request_send(r);
}

void
keeper_link_down(struct keeper_link *k, const struct edge *e, bool again)
{
	if (k->edge != NULL && k->edge != e)
		return;
	k->edge = NULL;
	if (again || k->first)
		want_edge(k);
}

void
keeper_link_refused(struct keeper_link *k)
{
	k->asked = false;
	loop_timer_set(k->timer, AGAIN_MS);
}

struct edge *
keeper_link_edge(const struct keeper_link *k)
{
	return k->edge;
}
