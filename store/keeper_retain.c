/*
 * What was expunged, as the keeper sees it: it is listed, comes back or goes for
 * good as the command asks; and it is bounded. Past the limit the oldest go, in upkeep, and at
 * the latest before the next request that expunges is done: so whoever expunges as fast as
 * possible pays for the room himself, and there never is more than the limit and what one request let go.
 */
#include "store/keeper_retain.h"

#include "common/log.h"
#include "common/mem.h"
#include "common/memfd.h"

#include <assert.h>
#include <unistd.h>

/* Steps of removing files (index_purge_files()) for one RETAINED_FORGET. */
#define FILE_STEPS_MAX 16u

/* ---- the bounds ---- */

static uint64_t
bytes_max(const struct keeper *k)
{
	return k->settings.retention_s == 0 ? 0 : k->settings.retention_bytes;
}

static bool
is_over(const struct keeper *k)
{
	return index_retained_over(k->ix, bytes_max(k), 0);
}

static void
purge_failed(const struct err *e)
{
	log_event(LOG_WARN, NO_SESSION, "purge-failed", LOG_ERR(e), LOG_END);
}

int
keeper_purge_due(struct err *e)
{
	struct keeper *k = &the_keeper;
	uint64_t now = clock_wall_us() / 1000000;
	uint64_t before = now > k->settings.retention_s ? now - k->settings.retention_s : 0;
	int r;

	if (clock_ms() < k->purge_due_ms && !is_over(k))
		return 0;
	k->purged_ms = clock_ms();
	r = index_purge(k->ix, before, bytes_max(k), e);
	if (r <= 0)
		k->purge_due_ms = clock_ms() + KEEPER_PURGE_MS;
	return r;
}

void
keeper_make_room(void)
{
	struct keeper *k = &the_keeper;
	uint64_t soonest = k->purged_ms + KEEPER_PURGE_FIRST_MS;

	if (soonest < k->purge_due_ms)
		k->purge_due_ms = soonest;
	if (k->events->written != NULL && clock_ms() >= k->purge_due_ms)
		k->events->written(k->arg);
}

bool
keeper_retain_begin(struct edge *e, struct slice origin, uint64_t sequence, struct msg *reply)
{
	struct keeper *k = &the_keeper;
	struct err err;
	int r = 1;

	/* Asked again, it is answered again: then nothing else may happen. */
	if (!keeper_append_begin(e, origin, sequence, reply))
		return false;
	/* Which ones go follows from what is there, not from the time: so it does not matter how often this began. */
	while (r > 0 && is_over(k))
		r = index_purge(k->ix, 0, bytes_max(k), &err);
	if (r < 0)
		purge_failed(&err);
	return keeper_mutation_begin(e, origin, sequence, reply);
}

/* ---- the list ---- */

static int
list(const struct msg_RETAINED_LIST *m, struct index_retained_list *l, struct msg_RETAINED_LIST_REPLY *r, struct err *err)
{
	if (m->place.n != 0 && m->place.n != sizeof l->place)
		return err_set(err, ERR_PERM, ERR_CODE_MALFORMED, "internal error", "no place in a list of what is retained");
	if (m->place.n != 0)
		memcpy(l->place, m->place.p, sizeof l->place);
	if (index_retained_list(the_keeper.ix, l, err) < 0)
		return -1;
	r->records = memfd_of(buf_slice(l->records), err);
	if (r->records < 0) {
		for (uint32_t i = 0; i < l->object_count; i++)
			(void)close(l->objects[i]);
		return -1;
	}
	r->bytes = l->records->n;
	r->count = l->count;
	r->more = l->more;
	r->place = slice_of(l->place, sizeof l->place);
	r->objects.n = l->object_count;
	r->retained_bytes = index_retained(the_keeper.ix).bytes;
	r->retained_messages = index_retained(the_keeper.ix).messages;
	return 0;
}

void
keeper_on_retained_list(struct edge *e, struct msg_RETAINED_LIST *m)
{
	/* Static: the table of descriptors is large, and there is one request at a time. */
	static struct msg reply;
	struct msg_RETAINED_LIST_REPLY *r = &reply.u.RETAINED_LIST_REPLY;
	struct buf records;
	struct err err;

	if (!keeper_begin_request(e))
		return;
	reply = (struct msg){.type = MSG_RETAINED_LIST_REPLY, .u.RETAINED_LIST_REPLY = {.id = m->id, .records = -1}};
	buf_init(&records, STORE_RECORDS_BYTES_MAX);
	struct index_retained_list l = {.mailbox = m->mailbox, .since = m->since, .before = m->before, .want = m->want,
	    .records = &records, .objects = r->objects.fd};

	if (list(m, &l, r, &err) < 0) {
		*r = (struct msg_RETAINED_LIST_REPLY){.id = m->id, .class = err.class, .code = err.code, .records = -1};
		if (err.class == ERR_TEMP)
			log_event(LOG_WARN, NO_SESSION, "list-failed", LOG_ERR(&err), LOG_END);
	}
	keeper_send(e, &reply);
	buf_fini(&records);
}

/* ---- changes ---- */

/* The ids of a request; the caller frees them. */
static int
read_ids(int fd, struct store_retained_id **ids_r, size_t *n_r, struct err *e)
{
	struct memfd_map map;

	if (memfd_map(fd, MEMFD_ANY_SIZE, (uint64_t)STORE_RETAINED_IDS_MAX * STORE_RETAINED_ID_BYTES, &map, e) < 0)
		return -1;
	struct cursor c = cursor_of(map.octets);
	size_t n = map.octets.n / STORE_RETAINED_ID_BYTES;

	*ids_r = mem_new_array(n + 1, sizeof **ids_r);
	*n_r = n;
	for (size_t i = 0; i < n; i++) {
		(*ids_r)[i].mailbox = cursor_u32(&c);
		(*ids_r)[i].uid = cursor_u32(&c);
	}
	bool whole = cursor_done(&c);

	memfd_unmap(&map);
	return whole ? 0 : err_set(e, ERR_PERM, ERR_CODE_MALFORMED, "internal error", "not a list of messages");
}

void
keeper_on_undelete_messages(struct edge *e, struct msg_UNDELETE_MESSAGES *m)
{
	struct msg reply = {.type = MSG_UNDELETE_MESSAGES_REPLY, .u.UNDELETE_MESSAGES_REPLY = {.id = m->id}};
	struct store_retained_id *ids = NULL;
	struct err err = {0};
	size_t n = 0;
	int failed;

	if (!keeper_mutation_begin(e, m->origin, m->sequence, &reply))
		return;
	failed = read_ids(m->ids, &ids, &n, &err);
	if (failed == 0)
		failed = index_undelete(the_keeper.ix, ids, n, keeper_quota_limit(),
		    &reply.u.UNDELETE_MESSAGES_REPLY.count, &err);
	free(ids);
	if (!keeper_quota_put_back(e, failed, &err))
		keeper_mutation_end(e, m->origin, m->sequence, failed, &err, &reply);
}

void
keeper_on_undelete_mailbox(struct edge *e, struct msg_UNDELETE_MAILBOX *m)
{
	struct msg reply = {.type = MSG_UNDELETE_MAILBOX_REPLY, .u.UNDELETE_MAILBOX_REPLY = {.id = m->id}};
	struct msg_UNDELETE_MAILBOX_REPLY *r = &reply.u.UNDELETE_MAILBOX_REPLY;
	struct err err = {0};
	int failed;

	if (!keeper_mutation_begin(e, m->origin, m->sequence, &reply))
		return;
	failed = index_undelete_mailbox(the_keeper.ix, m->mailbox, m->name, keeper_quota_limit(), &r->uidvalidity, &err);
	if (failed == 0)
		r->messages = index_mailbox(the_keeper.ix, m->mailbox)->messages;
	if (!keeper_quota_put_back(e, failed, &err))
		keeper_mutation_end(e, m->origin, m->sequence, failed, &err, &reply);
}

/* Removes the files of what is forgotten already: 1 when some are left, 0, -1. */
static int
remove_files(struct err *e)
{
	int r = 1;

	for (unsigned i = 0; r == 1 && i < FILE_STEPS_MAX; i++)
		r = index_purge_files(the_keeper.ix, e);
	return r;
}

static int
forget(const struct msg_RETAINED_FORGET *m, struct msg_RETAINED_FORGET_REPLY *r, struct err *err)
{
	struct store_retained_id *ids = NULL;
	struct quota gone = {0};
	bool done = true;
	size_t n = 0;
	int failed = 0;

	if (m->ids >= 0)
		failed = read_ids(m->ids, &ids, &n, err) < 0 || index_forget(the_keeper.ix, ids, n, &gone, err) < 0;
	else if (m->mailbox != 0)
		failed = index_forget_mailbox(the_keeper.ix, m->mailbox, &done, err);
	free(ids);
	r->count = (uint32_t)gone.messages;
	r->bytes = gone.bytes;
	r->more = r->more || gone.messages > 0 || !done;
	return failed ? -1 : 0;
}

void
keeper_on_forget(struct edge *e, struct msg_RETAINED_FORGET *m)
{
	struct msg reply = {.type = MSG_RETAINED_FORGET_REPLY, .u.RETAINED_FORGET_REPLY = {.id = m->id}};
	struct err err = {0};
	int files;

	if (!keeper_append_begin(e, m->origin, m->sequence, &reply))
		return;
	files = remove_files(&err);
	reply.u.RETAINED_FORGET_REPLY.more = files > 0;
	if (!keeper_mutation_begin(e, m->origin, m->sequence, &reply))
		return;
	if (files == 0 || files == 1)
		files = forget(m, &reply.u.RETAINED_FORGET_REPLY, &err);
	keeper_mutation_end(e, m->origin, m->sequence, files < 0 ? -1 : 0, &err, &reply);
}
