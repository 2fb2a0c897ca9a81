/*
 * APPEND and delivery. A message is copied to its object when it comes, compared with the length and hash that its judge gave, and
 * synced; the index refers to it at the end of the round, after one sync of each directory that got objects (usually
 * one). So the cost of a delivery falls with the number that come together, and the order on the disk is always: object, its name,
 * then the record that refers to it.
 */
#include "store/kept.h"

#include "common/log.h"
#include "common/mem.h"
#include "common/memfd.h"
#include "store/object.h"

#include <stdlib.h>

struct append {
	struct append *next;
	struct edge *edge; /* NULL: its edge ended; nobody was told, so it is not stored */
	uint64_t id;
	uint8_t origin[STORE_ORIGIN_BYTES];
	uint64_t sequence;
	uint8_t sha256[STORE_SHA256_BYTES];
	struct index_append what;
	char *keywords;
	struct memfd_map summary;
};

static struct append *first;
static struct append **last = &first;

static void
answer(struct edge *e, uint64_t id, const struct msg_MSG_APPEND_REPLY *done, const struct err *why)
{
	KEEPER_SAY(e, MSG_APPEND_REPLY, .id = id, .class = why->class, .code = why->code, .text = slice_str(why->client),
	    .mailbox = done->mailbox, .uidvalidity = done->uidvalidity, .uid = done->uid);
}

static void
append_free(struct append *a)
{
	memfd_unmap(&a->summary);
	free(a->keywords);
	free(a);
}

static int
check(struct edge *e, const struct msg_MSG_APPEND *m, uint32_t mailbox, struct err *why)
{
	if (m->sha256.n != STORE_SHA256_BYTES || m->message < 0)
		return err_set(why, ERR_PERM, ERR_CODE_MALFORMED, "bad request", "no message or no hash");
	if (m->bytes > STORE_MESSAGE_BYTES_MAX)
		return err_set(why, ERR_LIMIT, ERR_CODE_TOO_BIG, "message too big", "%llu octets", (unsigned long long)m->bytes);
	if (!keeper_may_use(e, mailbox, why))
		return -1;
	if (index_mailbox(keeper.index, mailbox) == NULL)
		return err_set(why, ERR_PERM, ERR_CODE_NOT_FOUND, "no such mailbox", "mailbox %u", mailbox);
	if (!index_quota_fits(keeper.index, keeper_quota(), m->bytes))
		return err_set(why, ERR_PERM, ERR_CODE_OVER_QUOTA, "mailbox full", "over quota");
	return 0;
}

static int
write_object(struct append *a, const struct msg_MSG_APPEND *m, struct err *why)
{
	uint64_t number = index_object_reserve(keeper.index);

	memcpy(a->origin, m->origin.p, sizeof a->origin);
	memcpy(a->sha256, m->sha256.p, sizeof a->sha256);
	object_id(number, a->sha256, a->what.object_id);
	if (m->summary >= 0 && memfd_map(m->summary, MEMFD_ANY_SIZE, STORE_SUMMARY_BYTES_MAX, &a->summary, why) < 0)
		return -1;
	return object_write(keeper.root, number, m->message, m->bytes, a->sha256, why);
}

void
keeper_on_append(struct edge *e, struct msg_MSG_APPEND *m)
{
	uint32_t mailbox = m->mailbox ? m->mailbox : index_target(keeper.index, m->target);
	struct err why = {0};

	if (keeper_answered_before(e, m->id, m->origin, m->sequence, &why))
		return;
	struct append *a = MEM_NEW(struct append);

	if (why.class != ERR_NONE || check(e, m, mailbox, &why) < 0 || write_object(a, m, &why) < 0) {
		append_free(a);
		answer(e, m->id, &(struct msg_MSG_APPEND_REPLY){0}, &why);
		return;
	}
	a->edge = e;
	a->id = m->id;
	a->sequence = m->sequence;
	a->keywords = mem_copy_str(m->keywords.p, m->keywords.n);
	a->what.mailbox = mailbox;
	a->what.flags = m->flags;
	a->what.keywords = slice_of(a->keywords, m->keywords.n);
	a->what.internal_date = (int64_t)m->internal_date;
	a->what.zone_minutes = (int16_t)m->zone_minutes;
	a->what.size = m->bytes;
	a->what.summary = a->summary.octets;
	a->what.quota_bytes = keeper_quota();
	*last = a;
	last = &a->next;
	keeper_flush_soon();
}

/* One sync for each directory that got objects. */
static int
sync_shards(struct err *why)
{
	bool done[OBJECT_SHARDS] = {false};

	for (const struct append *a = first; a; a = a->next) {
		unsigned shard = object_shard(object_number(a->what.object_id));

		if (!done[shard] && object_sync_shard(keeper.root, shard, why) < 0)
			return -1;
		done[shard] = true;
	}
	return 0;
}

static int
store(const struct append *a, struct msg *reply, struct err *why)
{
	struct msg_MSG_APPEND_REPLY *r = &reply->u.MSG_APPEND_REPLY;

	if (!keeper_begin(why))
		return -1;
	if (index_append(keeper.index, &a->what, &r->uid, why) < 0) {
		keeper_abort();
		return -1;
	}
	r->mailbox = a->what.mailbox;
	r->uidvalidity = index_mailbox(keeper.index, a->what.mailbox)->uidvalidity;
	return keeper_commit(a->edge, slice_of(a->origin, sizeof a->origin), a->sequence, reply, why) ? 0 : -1;
}

static void
append_one(const struct append *a, struct err why)
{
	struct msg reply = {.type = MSG_MSG_APPEND_REPLY};
	struct err ignored = {0};

	/* The same request may have come twice in this round, over an edge that ended and its successor. */
	if (a->edge == NULL ||
	    keeper_answered_before(a->edge, a->id, slice_of(a->origin, sizeof a->origin), a->sequence, &ignored)) {
		(void)object_remove(keeper.root, a->what.object_id, &ignored);
		return;
	}
	if (why.class != ERR_NONE || store(a, &reply, &why) < 0) {
		log_event(LOG_WARN, NO_SESSION, "append-failed", LOG_NUM("account", role_account()), LOG_ERR(&why), LOG_END);
		(void)object_remove(keeper.root, a->what.object_id, &ignored);
	}
	answer(a->edge, a->id, &reply.u.MSG_APPEND_REPLY, &why);
}

void
keeper_append_all(void)
{
	struct err why = {0};

	if (first)
		(void)sync_shards(&why);
	while (first) {
		struct append *a = first;

		first = a->next;
		if (first == NULL)
			last = &first;
		append_one(a, why);
		append_free(a);
	}
}

void
keeper_append_forget(const struct edge *e)
{
	for (struct append *a = first; a; a = a->next)
		if (a->edge == e)
			a->edge = NULL;
}
