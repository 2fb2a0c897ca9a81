/*
 * Messages: flags, copies, expunges, and reading. Each change is one transaction with one recorded answer.
 */
#include "store/kept.h"

#include "common/memfd.h"

#include <unistd.h>

/* What one request needs of sets; kept between requests. */
static struct {
	struct uidset uids;
	struct uidset source; /* or what was refused as modified */
	struct uidset target;
	struct buf field;
	struct buf field2;
} work;

/* The set of a request, when its mailbox may be used. */
static bool
take_uids(struct edge *e, uint32_t mailbox, struct slice field, int fd, struct err *why)
{
	if (work.field.max == 0) {
		buf_init(&work.field, UIDSET_FIELD_BYTES_MAX);
		buf_init(&work.field2, UIDSET_FIELD_BYTES_MAX);
	}
	buf_reset(&work.field);
	buf_reset(&work.field2);
	if (!keeper_may_use(e, mailbox, why))
		return false;
	if (index_mailbox(keeper.index, mailbox) == NULL) {
		err_set(why, ERR_PERM, ERR_CODE_NOT_FOUND, "no such mailbox", "mailbox %u", mailbox);
		return false;
	}
	return uidset_receive(field, fd, &work.uids, why) == 0;
}

void
keeper_on_flags(struct edge *e, struct msg_MSG_FLAGS *m)
{
	struct msg answer = {.type = MSG_MSG_FLAGS_REPLY};
	struct msg_MSG_FLAGS_REPLY *r = &answer.u.MSG_FLAGS_REPLY;
	struct err why = {0};

	if (keeper_answered_before(e, m->id, m->origin, m->sequence, &why))
		return;
	if (why.class == ERR_NONE && take_uids(e, m->mailbox, m->uids, m->uids_fd, &why) && keeper_begin(&why)) {
		struct index_flags f = {.mailbox = m->mailbox, .mode = m->mode, .flags = m->flags, .keywords = m->keywords,
		    .unchangedsince = m->unchangedsince, .uids = &work.uids};

		if (index_flags(keeper.index, &f, &r->modseq, &work.source, &why) < 0) {
			keeper_abort();
		} else if (!uidset_put(&work.field, &work.source)) {
			err_set(&why, ERR_LIMIT, ERR_CODE_TOO_BIG, "too many messages changed meanwhile", "%zu ranges", work.source.n);
			keeper_abort();
		} else {
			r->modified = buf_slice(&work.field);
			(void)keeper_commit(e, m->origin, m->sequence, &answer, &why);
		}
	}
	r->id = m->id;
	r->class = why.class;
	r->code = why.code;
	r->text = slice_str(why.client);
	keeper_say(e, &answer);
}

/* The two sets correspond member by member, so either both are told or none: COPYUID is then left out. */
static void
put_copied(struct msg_MSG_COPY_REPLY *r)
{
	if (!uidset_put(&work.field, &work.source) || !uidset_put(&work.field2, &work.target))
		return;
	r->source_uids = buf_slice(&work.field);
	r->target_uids = buf_slice(&work.field2);
}

void
keeper_on_copy(struct edge *e, struct msg_MSG_COPY *m)
{
	struct msg answer = {.type = MSG_MSG_COPY_REPLY};
	struct msg_MSG_COPY_REPLY *r = &answer.u.MSG_COPY_REPLY;
	struct err why = {0};

	if (keeper_answered_before(e, m->id, m->origin, m->sequence, &why))
		return;
	const struct format_mailbox *target = index_mailbox(keeper.index, m->target_mailbox);

	if (why.class == ERR_NONE && target == NULL)
		err_set(&why, ERR_PERM, ERR_CODE_NOT_FOUND, "no such mailbox", "target mailbox %u", m->target_mailbox);
	if (why.class == ERR_NONE && take_uids(e, m->mailbox, m->uids, m->uids_fd, &why) && keeper_begin(&why)) {
		r->uidvalidity = target->uidvalidity;
		if (index_copy(keeper.index, m->mailbox, m->target_mailbox, m->move != 0, &work.uids, keeper_quota(), &work.source,
			&work.target, &why) < 0) {
			keeper_abort();
		} else {
			put_copied(r);
			(void)keeper_commit(e, m->origin, m->sequence, &answer, &why);
		}
	}
	r->id = m->id;
	r->class = why.class;
	r->code = why.code;
	r->text = slice_str(why.client);
	keeper_say(e, &answer);
}

void
keeper_on_expunge(struct edge *e, struct msg_MSG_EXPUNGE *m)
{
	struct msg answer = {.type = MSG_MSG_EXPUNGE_REPLY};
	struct msg_MSG_EXPUNGE_REPLY *r = &answer.u.MSG_EXPUNGE_REPLY;
	struct err why = {0};

	if (keeper_answered_before(e, m->id, m->origin, m->sequence, &why))
		return;
	if (why.class == ERR_NONE && take_uids(e, m->mailbox, m->uids, m->uids_fd, &why) && keeper_begin(&why)) {
		if (index_expunge(keeper.index, m->mailbox, m->only_deleted != 0, &work.uids, &r->modseq, &why) < 0)
			keeper_abort();
		else
			(void)keeper_commit(e, m->origin, m->sequence, &answer, &why);
	}
	r->id = m->id;
	r->class = why.class;
	r->code = why.code;
	r->text = slice_str(why.client);
	keeper_say(e, &answer);
}

static void
fetch(struct msg_MSG_FETCH_REPLY *r, const struct msg_MSG_FETCH *m, struct err *why)
{
	struct buf records;
	struct index_fetch f = {.mailbox = m->mailbox, .want = m->want, .uids = &work.uids, .records = &records,
	    .objects = r->objects.fd};

	buf_init(&records, STORE_RECORDS_BYTES_MAX);
	if (index_fetch(keeper.index, &f, why) == 0) {
		r->count = f.count;
		r->next_uid = f.next_uid;
		r->bytes = records.n;
		r->objects.n = m->want & STORE_WANT_OBJECT ? f.count : 0;
		r->records = memfd_of(buf_slice(&records), why);
	}
	buf_fini(&records);
}

void
keeper_on_fetch(struct edge *e, struct msg_MSG_FETCH *m)
{
	static struct msg answer;
	struct msg_MSG_FETCH_REPLY *r = &answer.u.MSG_FETCH_REPLY;
	struct err why = {0};

	answer = (struct msg){.type = MSG_MSG_FETCH_REPLY};
	r->records = -1;
	if (take_uids(e, m->mailbox, m->uids, m->uids_fd, &why))
		fetch(r, m, &why);
	r->id = m->id;
	r->class = why.class;
	r->code = why.code;
	int records = r->records;
	struct msg_fds objects = r->objects;

	keeper_say(e, &answer);
	if (records >= 0)
		close(records);
	for (unsigned i = 0; i < objects.n; i++)
		close(objects.fd[i]);
}
