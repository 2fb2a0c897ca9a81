/*
 * When what is done. Questions are answered as they come, on what is durable; what changes something waits until the
 * loop has read what else there is, and is then done in steps. A step waits for the disk once and ends with nothing that
 * could be seen and is not durable:
 *
 *   all changes that wait, and one sync of the log for them;
 *   one message to append: written and synced;
 *   when all of a group of messages are written: the sync of their directory (a group has one);
 *   then their entries in the index, and one sync of the log for them.
 *
 * Between two steps the loop reads. So who asks waits for the step that runs just then, and for no other; many
 * changes share a sync; and a row of long appends does not hold up a change of flags. Changes and appends take turns.
 */
#include "store/keeper_retain.h"

#include "common/log.h"
#include "common/mem.h"
#include "store/object.h"

#include <assert.h>
#include <fcntl.h>
#include <unistd.h>

/* ---- what waits ---- */

static void
apply(struct edge *e, struct msg *m)
{
	switch (m->type) {
	case MSG_MBOX_CHANGE:
		keeper_on_change(e, &m->u.MBOX_CHANGE);
		break;
	case MSG_MBOX_ADOPT:
		keeper_on_adopt(e, &m->u.MBOX_ADOPT);
		break;
	case MSG_MBOX_RECENT:
		keeper_on_recent(e, &m->u.MBOX_RECENT);
		break;
	case MSG_MSG_FLAGS:
		keeper_on_flags(e, &m->u.MSG_FLAGS);
		break;
	case MSG_MSG_APPEND:
		keeper_on_append(e, &m->u.MSG_APPEND);
		break;
	case MSG_MSG_COPY:
		keeper_on_copy(e, &m->u.MSG_COPY);
		break;
	case MSG_MSG_EXPUNGE:
		keeper_on_expunge(e, &m->u.MSG_EXPUNGE);
		break;
	case MSG_MSG_SUMMARY:
		keeper_on_summary(e, &m->u.MSG_SUMMARY);
		break;
	case MSG_UNDELETE_MESSAGES:
		keeper_on_undelete_messages(e, &m->u.UNDELETE_MESSAGES);
		break;
	case MSG_UNDELETE_MAILBOX:
		keeper_on_undelete_mailbox(e, &m->u.UNDELETE_MAILBOX);
		break;
	case MSG_RETAINED_FORGET:
		keeper_on_forget(e, &m->u.RETAINED_FORGET);
		break;
	default:
		assert(false); /* no change */
	}
}

/* One whose peer has a request that was put back waits behind it. */
static bool
may_run(const struct keeper_out *out)
{
	const struct keeper_peer *p = out->edge != NULL ? keeper_peer_of(out->edge) : NULL;

	return p == NULL || p->held_no == 0 || (p->retry && out->type == p->held_type);
}

static size_t
may_run_count(const struct keeper_line *line)
{
	size_t n = 0;

	for (size_t i = 0; i < line->n; i++)
		n += may_run(&line->v[i]);
	return n;
}

/* Does one that waited, unless its peer has gone, and gives it back. False when it was put back. */
static bool
run(struct keeper_out *out)
{
	static struct msg m;
	struct msg_fds fds = {.n = out->fd_count};
	struct keeper *k = &the_keeper;
	struct keeper_peer *p;

	if (out->edge == NULL) {
		keeper_out_free(out);
		return true;
	}
	p = keeper_peer_of(out->edge);
	bool held = p->held_no != 0;

	p->retry = false;
	k->put_back = false;
	memcpy(fds.fd, out->fds, out->fd_count * sizeof fds.fd[0]);
	bool decoded = msg_decode(buf_slice(&out->octets), &fds, &m);

	assert(decoded);
	apply(out->edge, &m);
	p->verdict = ERR_NONE;
	if (k->put_back) {
		p->held_type = out->type;
		return false;
	}
	keeper_out_free(out);
	if (held) {
		p->held_no = 0;
		keeper_quota_next();
	}
	return true;
}

/* Encodes m with descriptors of its own; false when there are none to be had. */
static bool
keep(struct edge *e, const struct msg *m, struct keeper_out *out)
{
	struct msg_fds fds;

	*out = (struct keeper_out){.edge = e, .type = m->type};
	buf_init(&out->octets, MSG_BYTES_MAX);
	bool encoded = msg_encode(m, &out->octets, &fds);

	assert(encoded);
	out->fds = mem_new_array(fds.n + 1, sizeof *out->fds);
	for (unsigned i = 0; i < fds.n; i++) {
		out->fds[i] = fcntl(fds.fd[i], F_DUPFD_CLOEXEC, 0);
		if (out->fds[i] < 0) {
			keeper_out_free(out);
			return false;
		}
		out->fd_count++;
	}
	return true;
}

/* False when there is no room for one more, or no descriptors. */
static bool
put(struct edge *e, const struct msg *m, struct keeper_line *line)
{
	loop_timer_set(the_keeper.step_timer, 0);
	if (line->n == KEEPER_LATER_MAX || !keep(e, m, &line->v[line->n]))
		return false;
	line->n++;
	return true;
}

static void
later(struct edge *e, const struct msg *m, struct keeper_line *line)
{
	/* The peer's further messages wait in its socket. */
	if (keeper_begin_request(e) && !put(e, m, line))
		ipc_put_back(e);
}

#define LATER(NAME, line)                                                                          \
	void keeper_later_##NAME(struct edge *e, struct msg_##NAME *in)                            \
	{                                                                                          \
		static struct msg m;                                                               \
		m.type = MSG_##NAME;                                                               \
		m.u.NAME = *in;                                                                    \
		later(e, &m, &the_keeper.line);                                                    \
	}
LATER(MBOX_CHANGE, changes)
LATER(MBOX_ADOPT, changes)
LATER(MBOX_RECENT, changes)
LATER(MSG_FLAGS, changes)
LATER(MSG_COPY, changes)
LATER(MSG_EXPUNGE, changes)
LATER(MSG_SUMMARY, changes)
LATER(UNDELETE_MESSAGES, changes)
LATER(UNDELETE_MAILBOX, changes)
LATER(RETAINED_FORGET, changes)
LATER(MSG_APPEND, appends)

void
keeper_later_claim(struct edge *e, uint32_t mailbox, uint32_t uid)
{
	struct msg m = {.type = MSG_MBOX_RECENT, .u.MBOX_RECENT = {.mailbox = mailbox, .uid = uid}};

	if (!put(e, &m, &the_keeper.changes))
		log_event(LOG_DEBUG, NO_SESSION, "recent-not-claimed", LOG_END);
}

uint32_t
keeper_later_recent(uint32_t mailbox)
{
	const struct keeper_line *line = &the_keeper.changes;
	const struct msg_fds none = {.n = 0};
	static struct msg m;
	uint32_t uid = 0;

	for (size_t i = 0; i < line->n; i++)
		if (line->v[i].type == MSG_MBOX_RECENT && msg_decode(buf_slice(&line->v[i].octets), &none, &m) &&
		    m.u.MBOX_RECENT.mailbox == mailbox && m.u.MBOX_RECENT.uid > uid)
			uid = m.u.MBOX_RECENT.uid;
	return uid;
}

static void
line_forget(struct keeper_line *line, const struct edge *e)
{
	for (size_t i = 0; i < line->n; i++)
		if (line->v[i].edge == e)
			line->v[i].edge = NULL;
}

void
keeper_later_peer_down(const struct edge *e)
{
	line_forget(&the_keeper.changes, e);
	line_forget(&the_keeper.appends, e);
}

/* ---- steps ---- */

static void
do_changes(struct keeper *k)
{
	struct keeper_line *line = &k->changes;
	size_t left = 0;

	for (size_t i = 0; i < line->n; i++)
		if (k->stopped || !may_run(&line->v[i]) || !run(&line->v[i]))
			line->v[left++] = line->v[i];
	line->n = left;
}

static void
write_append(struct keeper *k)
{
	struct keeper_line *line = &k->appends;
	size_t i = 0;

	while (i < line->n && !may_run(&line->v[i]))
		i++;
	k->group--;
	if (i == line->n || !run(&line->v[i]))
		return;
	line->n--;
	memmove(line->v + i, line->v + i + 1, (line->n - i) * sizeof *line->v);
}

static size_t
group_size(const struct keeper *k)
{
	size_t ready = may_run_count(&k->appends);
	size_t room = (size_t)(OBJECT_SHARD_OBJECTS - index_object_next(k->ix) % OBJECT_SHARD_OBJECTS);

	room = room < KEEPER_PENDING_MAX ? room : KEEPER_PENDING_MAX;
	return ready < room ? ready : room;
}

static void
step_append(struct keeper *k)
{
	if (k->group == 0 && k->pending_count == 0)
		k->group = group_size(k);
	if (k->group > 0)
		write_append(k);
	else if (!k->pending_synced)
		(void)keeper_pending_sync();
	else
		keeper_pending_do();
}

static bool
has_appends(const struct keeper *k)
{
	return k->pending_count > 0 || may_run_count(&k->appends) > 0;
}

static bool
has_work(const struct keeper *k)
{
	return !k->stopped && (may_run_count(&k->changes) > 0 || has_appends(k));
}

static void
step(struct keeper *k)
{
	bool appends = has_appends(k);

	if (may_run_count(&k->changes) > 0 && !(appends && k->appends_turn)) {
		do_changes(k);
		k->appends_turn = true;
	} else if (appends) {
		step_append(k);
		k->appends_turn = false;
	}
	keeper_sync();
}

/* There may be room again for what was put back into its socket. After one that was put back again this pauses, whatever put() said. */
static void
retry_edges(struct keeper *k)
{
	struct keeper_peer *next;

	for (struct keeper_peer *p = k->peers; p != NULL; p = next) {
		next = p->next;
		if (!ipc_is_put_back(p->edge))
			continue;
		ipc_retry(p->edge);
		loop_timer_set(k->step_timer, has_work(k) ? 0 : KEEPER_SHORTAGE_MS);
	}
}

void
keeper_step(void *arg)
{
	struct keeper *k = &the_keeper;

	(void)arg;
	if (k->stopped)
		return;
	step(k);
	if (has_work(k))
		loop_timer_set(k->step_timer, 0);
	retry_edges(k);
}

void
keeper_flush(void)
{
	struct keeper *k = &the_keeper;

	loop_timer_stop(k->step_timer);
	while (has_work(k))
		step(k);
	keeper_sync();
}
