/*
 * Keepers and workers, ordered by the store's parent. Of one role an account has one process at a time: an order that comes
 * while the predecessor still ends (killed, leaving, or left over by a store that died) waits here for its end, so that
 * the store can write to the successor at once and never has to ask again. What waits ends with the store that
 * ordered it.
 */
#include "admin/supervisor_private.h"

#include "common/log.h"
#include "common/mem.h"
#include "common/role.h"

#include <signal.h>
#include <unistd.h>

struct spawn_order {
	struct spawn_order *next;
	uint64_t id;
	enum role role;
	uint64_t account;
	int fd;
};

void
supervisor_tell_spawn_exit(struct supervisor *s, uint64_t id, int status)
{
	struct child *store = supervisor_find(s, ROLE_STORE, 0);

	if (store &&
	    !IPC_SEND(store->control, CTL_SPAWN_EXIT, .id = id, .status = (uint32_t)status))
		/*
		 * A store that has just ended itself, as at shutdown. Only the reason is lost: that the
		 * process is gone, the end of its own edge to the store says too.
		 */
		log_event(LOG_INFO, NO_SESSION, "spawn-exit-lost", LOG_END);
}

static bool
may_spawn(const struct supervisor *s, const struct msg_CTL_SPAWN *m)
{
	if (m->role != ROLE_KEEPER && m->role != ROLE_IMAP_WORKER && m->role != ROLE_POP3_WORKER)
		return false;
	if (m->account == 0 || m->fd < 0 || s->spawned + s->order_count >= SPAWNED_MAX)
		return false;
	return s->state != SUPERVISOR_DRAINING || s->phase < 2;
}

static bool
has_predecessor(const struct supervisor *s, enum role role, uint64_t account)
{
	for (const struct child *c = s->children; c; c = c->next)
		if (c->role == role && c->account == account)
			return true;
	return false;
}

static bool
spawn(struct supervisor *s, const struct child *store, const struct spawn_order *o)
{
	struct err e;

	if (o->role == ROLE_KEEPER && supervisor_make_account(s, o->account, &e) < 0) {
		log_event(LOG_ERROR, NO_SESSION, "no-account-directory", LOG_ERR(&e), LOG_END);
		return false;
	}
	struct child *c = child_new(s, o->role, 0, o->account);

	c->generation = o->id;
	if (!child_start(c)) {
		child_remove(c);
		return false;
	}
	s->spawned++;
	supervisor_join(c);
	if (!IPC_SEND(c->control, CTL_EDGE, .peer_role = ROLE_STORE,
		.peer_generation = store->generation, .fd = o->fd))
		child_kill(c, SIGKILL);
	child_go(c);
	return true;
}

static void
refuse(struct supervisor *s, const struct spawn_order *o)
{
	log_event(LOG_WARN, NO_SESSION, "spawn-refused", LOG_NUM("role", o->role),
	    LOG_NUM("account", o->account), LOG_END);
	supervisor_tell_spawn_exit(s, o->id, ROLE_EXIT_REFUSED);
}

static void
order_put(struct supervisor *s, const struct spawn_order *o)
{
	struct spawn_order *kept = MEM_NEW(struct spawn_order);

	*kept = *o;
	kept->next = s->orders;
	s->orders = kept;
	s->order_count++;
}

void
supervisor_on_spawn(struct edge *e, struct msg_CTL_SPAWN *m)
{
	struct child *store = edge_arg(e);
	struct supervisor *s = store->s;
	struct spawn_order o = {.id = m->id, .role = m->role, .account = m->account, .fd = m->fd};

	if (!may_spawn(s, m)) {
		refuse(s, &o);
	} else if (has_predecessor(s, o.role, o.account)) {
		m->fd = -1;
		order_put(s, &o);
	} else if (!spawn(s, store, &o)) {
		refuse(s, &o);
	}
}

/* The order of that (role, account), taken out of the list; NULL when there is none. */
static struct spawn_order *
order_take(struct supervisor *s, enum role role, uint64_t account)
{
	for (struct spawn_order **at = &s->orders; *at; at = &(*at)->next) {
		struct spawn_order *o = *at;

		if (o->role != role || o->account != account)
			continue;
		*at = o->next;
		s->order_count--;
		return o;
	}
	return NULL;
}

static void
order_free(struct spawn_order *o)
{
	close(o->fd);
	free(o);
}

void
supervisor_spawn_next(struct supervisor *s, enum role role, uint64_t account)
{
	struct child *store = supervisor_find(s, ROLE_STORE, 0);
	struct spawn_order *o = order_take(s, role, account);

	if (o == NULL)
		return;
	if (store == NULL || s->state == SUPERVISOR_DRAINING || !spawn(s, store, o))
		refuse(s, o);
	order_free(o);
}

void
supervisor_spawn_forget(struct supervisor *s)
{
	while (s->orders) {
		struct spawn_order *o = s->orders;

		s->orders = o->next;
		s->order_count--;
		order_free(o);
	}
}
