/*
 * What is asked about messages. A message to append is copied from its file and
 * compared with the length and hash that its judge gave; the summary is octets
 * to the keeper, bounded and nothing more.
 */
#include "store/keeper_retain.h"

#include "common/log.h"
#include "common/memfd.h"
#include "store/object.h"
#include "store/record.h"

#include <assert.h>
#include <unistd.h>

static int
denied(struct err *e)
{
	return err_set(e, ERR_PERM, ERR_CODE_DENIED, "not allowed", NULL);
}

void
keeper_on_flags(struct edge *e, struct msg_MSG_FLAGS *m)
{
	struct msg reply = {.type = MSG_MSG_FLAGS_REPLY, .u.MSG_FLAGS_REPLY = {.id = m->id, .modified_fd = -1}};
	struct msg_MSG_FLAGS_REPLY *r = &reply.u.MSG_FLAGS_REPLY;
	struct uidset uids = {0}, modified = {0};
	struct index_flags f = {.mailbox = m->mailbox, .mode = m->mode, .flags = m->flags, .keywords = m->keywords,
	    .unchangedsince = m->unchangedsince, .uids = &uids};
	struct err err = {0};
	struct buf b;
	int failed;

	if (!keeper_mutation_begin(e, m->origin, m->sequence, &reply))
		return;
	buf_init(&b, (size_t)UIDSET_RANGES_MAX * UIDSET_RANGE_BYTES);
	failed = uidset_receive(m->uids, m->uids_fd, &uids, &err);
	if (failed == 0)
		failed = index_flags(the_keeper.ix, &f, &r->modseq, &modified, &err);
	if (failed == 0)
		failed = uidset_send(&modified, &b, &r->modified, &r->modified_fd, &err);
	keeper_mutation_end(e, m->origin, m->sequence, failed, &err, &reply);
	buf_fini(&b);
	uidset_fini(&uids);
	uidset_fini(&modified);
}

void
keeper_on_copy(struct edge *e, struct msg_MSG_COPY *m)
{
	struct msg reply = {.type = MSG_MSG_COPY_REPLY, .u.MSG_COPY_REPLY = {.id = m->id, .source_fd = -1}};
	struct msg_MSG_COPY_REPLY *r = &reply.u.MSG_COPY_REPLY;
	struct uidset uids = {0}, source = {0}, target = {0};
	struct err err = {0};
	struct buf b, t;
	int failed;

	if (!keeper_mutation_begin(e, m->origin, m->sequence, &reply))
		return;
	buf_init(&b, (size_t)UIDSET_RANGES_MAX * UIDSET_RANGE_BYTES);
	/* New UIDs are consecutive: one range. */
	buf_init(&t, UIDSET_FIELD_BYTES_MAX);
	failed = uidset_receive(m->uids, m->uids_fd, &uids, &err);
	if (failed == 0)
		failed = index_copy(the_keeper.ix, m->mailbox, m->target_mailbox, m->move, &uids,
		    keeper_quota_limit(), &source, &target, &err);
	if (failed == 0) {
		uidset_put(&t, &target);
		r->target_uids = buf_slice(&t);
		r->uidvalidity = index_mailbox(the_keeper.ix, m->target_mailbox)->uidvalidity;
		failed = uidset_send(&source, &b, &r->source_uids, &r->source_fd, &err);
	}
	if (!keeper_quota_put_back(e, failed, &err))
		keeper_mutation_end(e, m->origin, m->sequence, failed, &err, &reply);
	buf_fini(&b);
	buf_fini(&t);
	uidset_fini(&uids);
	uidset_fini(&source);
	uidset_fini(&target);
}

void
keeper_on_expunge(struct edge *e, struct msg_MSG_EXPUNGE *m)
{
	struct msg reply = {.type = MSG_MSG_EXPUNGE_REPLY, .u.MSG_EXPUNGE_REPLY = {.id = m->id}};
	struct uidset uids = {0};
	struct err err = {0};
	int failed;

	if (!keeper_retain_begin(e, m->origin, m->sequence, &reply))
		return;
	failed = keeper_allowed(e, m->mailbox) ? uidset_receive(m->uids, m->uids_fd, &uids, &err) : denied(&err);
	if (failed == 0)
		failed = index_expunge(the_keeper.ix, m->mailbox, m->only_deleted, &uids,
		    &reply.u.MSG_EXPUNGE_REPLY.modseq, &err);
	keeper_mutation_end(e, m->origin, m->sequence, failed, &err, &reply);
	uidset_fini(&uids);
}

/* ---- append ---- */

/* Is the same request waiting already? Then its answer will be this one's too. */
static bool
is_pending(const struct msg_MSG_APPEND *m)
{
	const struct keeper *k = &the_keeper;

	for (size_t i = 0; i < k->pending_count; i++)
		if (k->pending[i].sequence == m->sequence &&
		    slice_eq(m->origin, slice_of(k->pending[i].origin, STORE_ORIGIN_BYTES)))
			return true;
	return false;
}

static int
read_summary(int fd, struct buf *b, struct err *e)
{
	return fd < 0 ? 0 : memfd_read_all(fd, b, e);
}

/* What can be refused before any octet is written: 1 when it is good, 0 when it was put back, -1. */
static int
check_append(struct edge *edge, const struct msg_MSG_APPEND *m, uint32_t mailbox, struct err *e)
{
	if (index_mailbox(the_keeper.ix, mailbox) == NULL)
		return err_set(e, ERR_PERM, ERR_CODE_NOT_FOUND, "no such mailbox", NULL);
	if (m->bytes > STORE_MESSAGE_BYTES_MAX)
		return err_set(e, ERR_PERM, ERR_CODE_TOO_BIG, "too big", NULL);
	if (m->message < 0 || m->sha256.n != STORE_SHA256_BYTES)
		return err_set(e, ERR_PERM, ERR_CODE_MALFORMED, "internal error", "an append without its message");
	if (m->uid != 0 && edge_peer(edge)->role != ROLE_ADMIN)
		return denied(e);
	if (!index_has_space(the_keeper.ix, m->bytes))
		return err_set(e, ERR_TEMP, ERR_CODE_NO_SPACE, "no space left", "the disk is nearly full");
	return keeper_quota_admit(edge, (struct quota){m->bytes, 1}, e);
}

static int
write_append(struct keeper_append *p, const struct msg_MSG_APPEND *m, struct err *e)
{
	uint64_t number = index_object_reserve(the_keeper.ix);

	object_id(number, m->sha256.p, p->a.object_id);
	return object_write(the_keeper.root, number, m->message, m->bytes, m->sha256.p, e);
}

static void
refuse_append(struct edge *e, uint64_t id, const struct err *err)
{
	struct msg reply = {.type = MSG_MSG_APPEND_REPLY, .u.MSG_APPEND_REPLY = {.id = id}};

	log_event(LOG_INFO, NO_SESSION, "append-refused", LOG_ERR(err), LOG_END);
	keeper_reply_error(&reply, err);
	keeper_send(e, &reply);
	if (err->code == ERR_CODE_NO_SPACE)
		keeper_make_room();
}

void
keeper_on_append(struct edge *e, struct msg_MSG_APPEND *m)
{
	struct keeper *k = &the_keeper;
	struct msg reply = {.type = MSG_MSG_APPEND_REPLY, .u.MSG_APPEND_REPLY = {.id = m->id}};
	uint32_t mailbox = m->mailbox != 0 ? m->mailbox : index_target(k->ix, m->target);
	struct err err = {0};

	if (is_pending(m)) {
		if (!keeper_pending_sync())
			return;
		keeper_pending_do();
	}
	if (!keeper_append_begin(e, m->origin, m->sequence, &reply))
		return;
	assert(k->pending_count < KEEPER_PENDING_MAX);
	struct keeper_append *p = &k->pending[k->pending_count];
	int checked = check_append(e, m, mailbox, &err);

	if (checked == 0)
		return;
	*p = (struct keeper_append){.edge = e, .id = m->id, .sequence = m->sequence};
	memcpy(p->origin, m->origin.p, sizeof p->origin);
	p->a = (struct index_append){.mailbox = mailbox, .uid = m->uid, .flags = m->flags, .internal_date = (int64_t)m->internal_date,
	    .zone_minutes = (int16_t)m->zone_minutes, .size = m->bytes};
	buf_init(&p->keywords, 8192);
	buf_init(&p->summary, STORE_SUMMARY_BYTES_MAX);
	buf_put_slice(&p->keywords, m->keywords);
	if (checked < 0 || read_summary(m->summary, &p->summary, &err) < 0 ||
	    write_append(p, m, &err) < 0) {
		buf_fini(&p->keywords);
		buf_fini(&p->summary);
		if (k->pending_count == 0)
			index_object_unreserve(k->ix);
		if (keeper_begin_request(e))
			refuse_append(e, m->id, &err);
		return;
	}
	k->pending_count++;
	k->pending_synced = false;
}

void
keeper_on_summary(struct edge *e, struct msg_MSG_SUMMARY *m)
{
	struct err err = {0};
	struct buf b;

	if (!keeper_begin_request(e) || m->sha256.n != STORE_SHA256_BYTES)
		return;
	buf_init(&b, STORE_SUMMARY_BYTES_MAX);
	if (read_summary(m->summary, &b, &err) == 0 && b.n > 0 && index_begin(the_keeper.ix, &err) == 0)
		(void)keeper_commit(index_summary(the_keeper.ix, m->mailbox, m->uid, m->sha256.p, buf_slice(&b), &err));
	buf_fini(&b);
}

/* ---- fetch ---- */

static int
fetch(struct edge *e, const struct msg_MSG_FETCH *m, struct index_fetch *f, struct uidset *uids,
    struct msg_MSG_FETCH_REPLY *r, struct err *err)
{
	if (!keeper_allowed(e, m->mailbox))
		return denied(err);
	if (uidset_receive(m->uids, m->uids_fd, uids, err) < 0 || index_fetch(the_keeper.ix, f, err) < 0)
		return -1;
	r->records = memfd_of(buf_slice(f->records), err);
	if (r->records < 0) {
		for (uint32_t i = 0; (m->want & STORE_WANT_OBJECT) && i < f->count; i++)
			(void)close(f->objects[i]);
		return -1;
	}
	r->bytes = f->records->n;
	r->count = f->count;
	r->next_uid = f->next_uid;
	r->objects.n = m->want & STORE_WANT_OBJECT ? f->count : 0;
	return 0;
}

void
keeper_on_fetch(struct edge *e, struct msg_MSG_FETCH *m)
{
	/* Static: the table of descriptors is large, and there is one request at a time. */
	static struct msg reply;
	struct msg_MSG_FETCH_REPLY *r = &reply.u.MSG_FETCH_REPLY;
	struct uidset uids = {0};
	struct buf records;
	struct err err;

	if (!keeper_begin_request(e))
		return;
	reply = (struct msg){.type = MSG_MSG_FETCH_REPLY, .u.MSG_FETCH_REPLY = {.id = m->id, .records = -1}};
	buf_init(&records, STORE_RECORDS_BYTES_MAX);
	struct index_fetch f = {.mailbox = m->mailbox, .want = m->want, .uids = &uids, .records = &records,
	    .objects = r->objects.fd};

	if (fetch(e, m, &f, &uids, r, &err) < 0) {
		*r = (struct msg_MSG_FETCH_REPLY){.id = m->id, .class = err.class, .code = err.code, .records = -1};
		if (err.class == ERR_TEMP)
			log_event(LOG_WARN, NO_SESSION, "fetch-failed", LOG_ERR(&err), LOG_END);
	}
	keeper_send(e, &reply);
	buf_fini(&records);
	uidset_fini(&uids);
}
