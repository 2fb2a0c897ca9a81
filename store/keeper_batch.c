/*
 * The order that makes group commit true: the changes of one step (keeper_later.c) are done one
 * after the other; each answer and event goes to the outbox; then one sync is made for all of them, and the
 * outbox is emptied in order.
 *
 * If the sync fails, nothing of the outbox leaves and the process ends; the
 * peers ask its successor again, with the same {origin, sequence}.
 */
#include "store/keeper_retain.h"

#include "common/log.h"
#include "common/mem.h"
#include "common/mutant.h"
#include "store/object.h"

#include <assert.h>
#include <fcntl.h>
#include <unistd.h>

struct keeper the_keeper;

/* The directory of the objects so far ahead is there before a delivery needs it: none pays for that. */
static void
prepare_objects(struct keeper *k, unsigned ahead)
{
	uint64_t number = index_object_next(k->ix) + ahead;
	struct err e;

	if (k->prepared == number / OBJECT_SHARD_OBJECTS + 1)
		return;
	k->prepared = number / OBJECT_SHARD_OBJECTS + 1;
	if (object_prepare(k->root, number, &e) < 0)
		log_event(LOG_DEBUG, NO_SESSION, "objects-unprepared", LOG_ERR(&e), LOG_END);
}

void
keeper_start(struct loop *l, struct index *ix, const char *root, const struct keeper_settings *settings,
    const struct keeper_events *events, void *arg)
{
	struct keeper *k = &the_keeper;

	*k = (struct keeper){.loop = l, .ix = ix, .root = root, .settings = *settings, .events = events, .arg = arg};
	k->pending = mem_new_array(KEEPER_PENDING_MAX, sizeof *k->pending);
	k->step_timer = loop_timer_new(l, keeper_step, NULL);
	k->job_timer = loop_timer_new(l, keeper_job_step, NULL);
	keeper_quota_init(k);
	prepare_objects(k, 0);
	k->last_request_ms = clock_ms();
	k->purge_due_ms = k->last_request_ms + KEEPER_PURGE_FIRST_MS;
}

void
keeper_set(const struct keeper_settings *settings)
{
	the_keeper.settings = *settings;
}

uint64_t
keeper_quiet_ms(void)
{
	return clock_ms() - the_keeper.last_request_ms;
}

static void
end_broken(void)
{
	struct keeper *k = &the_keeper;

	if (k->stopped)
		return;
	k->stopped = true;
	log_event(LOG_ERROR, NO_SESSION, "keeper-broken", LOG_NUM("unanswered", k->outbox_count), LOG_END);
	k->events->broken(k->arg);
}

bool
keeper_begin_request(struct edge *e)
{
	struct keeper *k = &the_keeper;

	(void)e;
	if (!k->stopped && index_broken(k->ix))
		end_broken();
	if (k->stopped)
		return false;
	k->last_request_ms = clock_ms();
	index_set_now(k->ix, clock_wall_us() / 1000000);
	return true;
}

/* ---- the outbox ---- */

void
keeper_out_free(struct keeper_out *out)
{
	for (unsigned i = 0; i < out->fd_count; i++)
		(void)close(out->fds[i]);
	free(out->fds);
	buf_fini(&out->octets);
}

static void
out_send(struct keeper_out *out)
{
	struct msg_fds fds = {.n = out->fd_count};
	struct msg m;

	if (out->edge == NULL)
		return;
	if (out->fd_count > 0)
		memcpy(fds.fd, out->fds, out->fd_count * sizeof fds.fd[0]);
	bool decoded = msg_decode(buf_slice(&out->octets), &fds, &m);

	assert(decoded);
	if (!out->is_event)
		(void)ipc_tell(out->edge, &m);
	else if (!ipc_send(out->edge, &m))
		keeper_owe_resync(out->edge, out->event_mailbox);
}

static void
put_out(struct edge *e, const struct msg *m, bool is_event, uint32_t mailbox)
{
	struct keeper *k = &the_keeper;
	struct keeper_out out = {.edge = e, .type = m->type, .is_event = is_event, .event_mailbox = mailbox};
	struct msg_fds fds;

	buf_init(&out.octets, MSG_BYTES_MAX);
	bool encoded = msg_encode(m, &out.octets, &fds);

	assert(encoded);
	out.fd_count = fds.n;
	out.fds = mem_new_array(fds.n + 1, sizeof *out.fds);
	memcpy(out.fds, fds.fd, fds.n * sizeof fds.fd[0]);
	if ((!k->unflushed && k->outbox_count == 0) || MUTANT(KEEPER_OUTBOX)) {
		out_send(&out);
		keeper_out_free(&out);
		return;
	}
	if (k->outbox_count == k->outbox_cap) {
		k->outbox_cap = k->outbox_cap ? k->outbox_cap * 2 : 64;
		k->outbox = mem_resize(k->outbox, k->outbox_cap, sizeof *k->outbox);
	}
	k->outbox[k->outbox_count++] = out;
}

void
keeper_send(struct edge *e, const struct msg *m)
{
	put_out(e, m, false, 0);
}

void
keeper_send_event(struct edge *e, const struct msg *m, uint32_t mailbox)
{
	put_out(e, m, true, mailbox);
}

static void
tell_usage(struct keeper *k)
{
	struct quota now = index_usage(k->ix);

	if (k->events->usage == NULL || (now.bytes == k->told.bytes && now.messages == k->told.messages))
		return;
	k->told = now;
	k->events->usage(k->arg, now);
}

void
keeper_sync(void)
{
	struct keeper *k = &the_keeper;
	struct err e;
	size_t n;

	if (k->stopped)
		return;
	if (k->unflushed && !MUTANT(KEEPER_FLUSH) && index_flush(k->ix, &e) < 0) {
		log_event(LOG_ERROR, NO_SESSION, "sync-failed", LOG_ERR(&e), LOG_END);
		end_broken();
		return;
	}
	if (k->unflushed && k->events->written != NULL)
		k->events->written(k->arg);
	k->unflushed = false;
	/* Before who freed room hears of it and sends more. */
	tell_usage(k);
	n = k->outbox_count;
	for (size_t i = 0; i < n; i++) {
		out_send(&k->outbox[i]);
		keeper_out_free(&k->outbox[i]);
	}
	k->outbox_count -= n;
	assert(k->outbox_count == 0);
	if (k->pending_count == 0)
		prepare_objects(k, OBJECT_SHARD_OBJECTS / 2);
}

void
keeper_stop(void)
{
	struct keeper *k = &the_keeper;

	if (k->loop == NULL)
		return;
	keeper_job_stop(NULL);
	keeper_copy_stop();
	if (!k->stopped)
		keeper_flush();
	if (!k->stopped)
		keeper_quota_tell(true);
	while (k->peers != NULL)
		keeper_peer_down(k->peers->edge);
	for (size_t i = 0; i < k->outbox_count; i++)
		keeper_out_free(&k->outbox[i]);
	for (size_t i = 0; i < k->changes.n; i++)
		keeper_out_free(&k->changes.v[i]);
	for (size_t i = 0; i < k->appends.n; i++)
		keeper_out_free(&k->appends.v[i]);
	for (size_t i = 0; i < k->pending_count; i++) {
		buf_fini(&k->pending[i].keywords);
		buf_fini(&k->pending[i].summary);
	}
	keeper_views_forget();
	free(k->outbox);
	free(k->pending);
	loop_timer_free(&k->step_timer);
	loop_timer_free(&k->job_timer);
	keeper_quota_fini(k);
	index_close(&k->ix);
	*k = (struct keeper){.stopped = true};
}

bool
keeper_upkeep(void)
{
	struct keeper *k = &the_keeper;
	struct err e;
	int r;

	if (k->stopped || index_broken(k->ix))
		return false;
	index_set_now(k->ix, clock_wall_us() / 1000000);
	r = keeper_purge_due(&e);
	if (r == 0 && index_wants_upkeep(k->ix))
		r = index_upkeep(k->ix, &e);
	if (r >= 0)
		return r > 0;
	log_event(LOG_WARN, NO_SESSION, "upkeep-failed", LOG_ERR(&e), LOG_END);
	if (index_broken(k->ix))
		end_broken();
	return false;
}

/* ---- mutations ---- */

#define REPLIES(X)                                                                                 \
	X(MBOX_CHANGE_REPLY) X(MSG_FLAGS_REPLY) X(MSG_APPEND_REPLY) X(MSG_COPY_REPLY) X(MSG_EXPUNGE_REPLY) \
	X(UNDELETE_MESSAGES_REPLY) X(UNDELETE_MAILBOX_REPLY) X(RETAINED_FORGET_REPLY)

void
keeper_reply_error(struct msg *reply, const struct err *e)
{
	switch (reply->type) {
#define X(NAME)                                                                                    \
	case MSG_##NAME:                                                                           \
		reply->u.NAME.class = e->class;                                                    \
		reply->u.NAME.code = e->code;                                                      \
		reply->u.NAME.text = slice_str(e->client);                                         \
		break;
		REPLIES(X)
#undef X
	default:
		assert(false); /* a reply to no mutation */
	}
}

void
keeper_reply_id(struct msg *reply, uint64_t id)
{
	switch (reply->type) {
#define X(NAME)                                                                                    \
	case MSG_##NAME:                                                                           \
		reply->u.NAME.id = id;                                                             \
		break;
		REPLIES(X)
#undef X
	default:
		assert(false); /* a reply to no mutation */
	}
}

static uint64_t
reply_id(const struct msg *reply)
{
	switch (reply->type) {
#define X(NAME)                                                                                    \
	case MSG_##NAME:                                                                           \
		return reply->u.NAME.id;
		REPLIES(X)
#undef X
	default:
		assert(false); /* a reply to no mutation */
		return 0;
	}
}

static void
refuse(struct edge *e, struct msg *reply, const struct err *err)
{
	if (err->class == ERR_TEMP || err->class == ERR_BUG)
		log_event(LOG_WARN, NO_SESSION, "keeper-refused", LOG_CSTR("reply", msg_info(reply->type)->name),
		    LOG_ERR(err), LOG_END);
	if (!keeper_begin_request(e))
		return;
	keeper_reply_error(reply, err);
	keeper_send(e, reply);
}

/* Answers again what was answered before. 1: it did; 0: the request is new; -1. */
static int
answer_again(struct edge *e, struct slice origin, uint64_t sequence, const struct msg *reply, struct err *err)
{
	const struct msg_fds none = {.n = 0};
	struct msg again;
	struct buf b;
	int r;

	buf_init(&b, FORMAT_REPLY_BYTES_MAX);
	r = MUTANT(KEEPER_AGAIN) ? 0 : index_request_find(the_keeper.ix, origin.p, sequence, &b, err);
	if (r == 1 && (!msg_decode(buf_slice(&b), &none, &again) || again.type != reply->type))
		r = err_set(err, ERR_PERM, ERR_CODE_MALFORMED, "internal error", "a sequence used for another request");
	if (r == 1) {
		keeper_reply_id(&again, reply_id(reply));
		keeper_send(e, &again);
	}
	buf_fini(&b);
	return r;
}

bool
keeper_append_begin(struct edge *e, struct slice origin, uint64_t sequence, struct msg *reply)
{
	struct err err;
	int r;

	if (!keeper_begin_request(e))
		return false;
	if (origin.n != STORE_ORIGIN_BYTES)
		r = err_set(&err, ERR_PERM, ERR_CODE_MALFORMED, "internal error", "an origin of %zu octets", origin.n);
	else
		r = answer_again(e, origin, sequence, reply, &err);
	if (r < 0)
		refuse(e, reply, &err);
	return r == 0;
}

bool
keeper_mutation_begin(struct edge *e, struct slice origin, uint64_t sequence, struct msg *reply)
{
	struct err err;

	if (!keeper_append_begin(e, origin, sequence, reply))
		return false;
	if (index_begin(the_keeper.ix, &err) == 0)
		return true;
	refuse(e, reply, &err);
	return false;
}

/* The reply as it is to be remembered: without id and descriptors. */
static int
remember(struct edge *e, struct slice origin, uint64_t sequence, const struct msg *reply, struct err *err)
{
	enum index_ring ring = edge_peer(e)->role == ROLE_DELIVER ? INDEX_RING_DELIVERY : INDEX_RING_WORKER;
	struct msg copy = *reply;
	struct msg_fds fds;
	struct buf b;
	int failed;

	keeper_reply_id(&copy, 0);
	if (copy.type == MSG_MSG_COPY_REPLY && copy.u.MSG_COPY_REPLY.source_fd >= 0)
		/* Too long to remember: asked again, it is answered without telling which UIDs were given. */
		copy.u.MSG_COPY_REPLY = (struct msg_MSG_COPY_REPLY){
		    .uidvalidity = copy.u.MSG_COPY_REPLY.uidvalidity, .source_fd = -1};
	if (copy.type == MSG_MSG_FLAGS_REPLY)
		copy.u.MSG_FLAGS_REPLY.modified_fd = -1;
	buf_init(&b, MSG_BYTES_MAX);
	bool encoded = msg_encode(&copy, &b, &fds);

	if (encoded && b.n <= FORMAT_REPLY_BYTES_MAX)
		failed = index_request_done(the_keeper.ix, ring, origin.p, sequence, buf_slice(&b), err);
	else
		failed = err_set(err, ERR_LIMIT, ERR_CODE_TOO_BIG, "too many messages at once", NULL);
	buf_fini(&b);
	return failed;
}

bool
keeper_commit(int failed)
{
	struct keeper *k = &the_keeper;
	struct err err;

	if (failed)
		index_abort(k->ix);
	else if (index_commit(k->ix, &err) < 0)
		failed = -1;
	if (failed)
		return false;
	k->unflushed = true;
	keeper_tell();
	return true;
}

void
keeper_mutation_end(struct edge *e, struct slice origin, uint64_t sequence, int failed, const struct err *error,
    struct msg *reply)
{
	struct keeper *k = &the_keeper;
	struct err err = *error;

	if (failed == 0)
		failed = remember(e, origin, sequence, reply, &err);
	if (failed)
		index_abort(k->ix);
	else
		failed = index_commit(k->ix, &err);
	if (failed) {
		refuse(e, reply, &err);
		return;
	}
	k->unflushed = true;
	keeper_tell();
	keeper_send(e, reply);
	if (k->outbox_count > KEEPER_OUTBOX_MAX)
		keeper_sync();
}

/* ---- appends that wait ---- */

static int
sync_shards(struct keeper *k, struct err *e)
{
	unsigned last = OBJECT_SHARDS;

	for (size_t i = 0; i < k->pending_count; i++) {
		unsigned shard = object_shard(object_number(k->pending[i].a.object_id));

		/* Numbers are consecutive, so a change of directory comes once. */
		if (shard != last && !MUTANT(KEEPER_SHARD_SYNC) && object_sync_shard(k->root, shard, e) < 0)
			return -1;
		last = shard;
	}
	return 0;
}

/*
 * The object of an append that did not come to pass: no entry refers to it, and no quota counts it. When it cannot be removed this process
 * ends, before there is an entry with a higher number: its successor looks for such objects as it opens the account, and nobody does later.
 */
static void
drop_object(struct keeper *k, const struct keeper_append *p)
{
	struct err e;

	k->pending_dropped = true;
	if (object_remove(k->root, p->a.object_id, &e) < 0 && !k->stopped) {
		log_event(LOG_ERROR, NO_SESSION, "object-left-behind", LOG_ERR(&e), LOG_END);
		end_broken();
	}
}

/* Before there is an entry with a higher number: from then on nobody would look for an object that came back. */
static bool
settle_dropped(struct keeper *k)
{
	struct err e;

	if (k->stopped)
		return false;
	if (k->pending_dropped && !MUTANT(KEEPER_DROP_SYNC) && sync_shards(k, &e) < 0) {
		log_event(LOG_ERROR, NO_SESSION, "sync-failed", LOG_ERR(&e), LOG_END);
		end_broken();
		return false;
	}
	k->pending_dropped = false;
	return true;
}

static void
do_append(struct keeper *k, struct keeper_append *p)
{
	struct slice origin = slice_of(p->origin, sizeof p->origin);
	struct msg reply = {.type = MSG_MSG_APPEND_REPLY, .u.MSG_APPEND_REPLY = {.id = p->id}};
	struct msg_MSG_APPEND_REPLY *r = &reply.u.MSG_APPEND_REPLY;
	const struct format_mailbox *m;
	struct err err = {0};
	int failed;

	p->a.keywords = buf_slice(&p->keywords);
	p->a.summary = buf_slice(&p->summary);
	p->a.limit = keeper_quota_limit();
	if (index_begin(k->ix, &err) < 0) {
		drop_object(k, p);
		refuse(p->edge, &reply, &err);
		return;
	}
	failed = index_append(k->ix, &p->a, &r->uid, &err);
	if (failed)
		drop_object(k, p);
	m = index_mailbox(k->ix, p->a.mailbox);
	r->mailbox = p->a.mailbox;
	r->uidvalidity = m != NULL ? m->uidvalidity : 0;
	keeper_mutation_end(p->edge, origin, p->sequence, failed, &err, &reply);
}

bool
keeper_pending_sync(void)
{
	struct keeper *k = &the_keeper;
	struct err e;

	if (!k->pending_synced && !MUTANT(KEEPER_ORDER) && sync_shards(k, &e) < 0) {
		log_event(LOG_ERROR, NO_SESSION, "sync-failed", LOG_ERR(&e), LOG_END);
		end_broken();
		return false;
	}
	k->pending_synced = true;
	return true;
}

void
keeper_pending_do(void)
{
	struct keeper *k = &the_keeper;

	assert(k->pending_synced);
	for (size_t i = 0; i < k->pending_count; i++) {
		if (k->pending[i].edge == NULL)
			drop_object(k, &k->pending[i]);
		else if (settle_dropped(k))
			do_append(k, &k->pending[i]);
		buf_fini(&k->pending[i].keywords);
		buf_fini(&k->pending[i].summary);
	}
	if (MUTANT(KEEPER_ORDER) && (index_flush(k->ix, NULL) < 0 || sync_shards(k, NULL) < 0))
		end_broken();
	k->pending_dropped = false;
	k->pending_count = 0;
	index_object_unreserve(k->ix);
}
