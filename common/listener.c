/*
 * Accepting is paused, never refused, when the process itself is at its limit and nobody may be ended:
 * the kernel's queue then holds the clients. Room is made for one client a wake-up, since only of the first
 * it is known that it waits. Descriptors running short pauses it for LISTENER_PAUSE_MS. The counts per
 * network live in an open hash table whose size follows from total_max; an entry whose count falls
 * to zero is removed by shifting back its cluster, so the table never fills up with the dead.
 *
 * An IPv6 client owns at least a /64, so that is what counts; IPv4 counts by address.
 */
#include "common/listener.h"

#include "common/log.h"
#include "common/mem.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

/* Connections accepted in one wake-up of one listener. */
#define LISTENER_ACCEPTS_PER_WAKE 32

struct network {
	uint8_t key[8];
	unsigned count; /* 0: empty slot */
};

struct listener_group {
	struct loop *loop;
	struct listener_limits limits;
	struct network *table;
	size_t slots; /* a power of two, over twice the entries */
	unsigned count;
	unsigned networks; /* that have any */
	uint64_t hash_seed;
	listener_room_fn *make_room; /* NULL: nobody is ended */
	struct listener *listeners;
};

struct listener {
	struct listener_group *group;
	struct listener *next;
	int fd;
	struct loop_io *io;
	struct loop_timer *pause;
	bool paused;
	bool for_room; /* paused because nobody may be ended: over when somebody has gone */
	listener_accept_fn *accepted;
	listener_accept_fn *refused;
	void *arg;
	bool *gone; /* set when the listener is freed inside its own accepting */
};

/* The octets that stand for a client's network. */
static void
network_key(const struct client_address *a, uint8_t key_r[8])
{
	const struct in6_addr *ip = &a->peer.sin6_addr;

	if (IN6_IS_ADDR_V4MAPPED(ip)) {
		memset(key_r, 0xff, 4);
		memcpy(key_r + 4, ip->s6_addr + 12, 4);
	} else {
		memcpy(key_r, ip->s6_addr, 8);
	}
}

/* Seeded, so that nobody can choose addresses that collide. */
static size_t
home_slot(const struct listener_group *g, const uint8_t key[8])
{
	uint64_t x;

	memcpy(&x, key, sizeof x);
	x ^= g->hash_seed;
	x = (x ^ (x >> 33)) * UINT64_C(0xff51afd7ed558ccd);
	x = (x ^ (x >> 33)) * UINT64_C(0xc4ceb9fe1a85ec53);
	return (size_t)(x ^ (x >> 33)) & (g->slots - 1);
}

/* The slot of key, or the empty one where it would go. */
static size_t
find_slot(const struct listener_group *g, const uint8_t key[8])
{
	size_t i = home_slot(g, key);

	while (g->table[i].count && memcmp(g->table[i].key, key, 8) != 0)
		i = (i + 1) & (g->slots - 1);
	return i;
}

static void
remove_slot(struct listener_group *g, size_t hole)
{
	size_t mask = g->slots - 1;

	for (size_t i = (hole + 1) & mask; g->table[i].count; i = (i + 1) & mask) {
		size_t home = home_slot(g, g->table[i].key);

		/* The entry may move into the hole unless its home lies between the two. */
		if (((i - home) & mask) >= ((i - hole) & mask)) {
			g->table[hole] = g->table[i];
			hole = i;
		}
	}
	g->table[hole].count = 0;
}

/* Makes the table fit for n entries; what it holds moves. */
static void
table_resize(struct listener_group *g, unsigned n)
{
	struct network *old = g->table;
	size_t old_slots = g->slots;

	g->slots = 16;
	while (g->slots < 2 * ((size_t)n + 1))
		g->slots *= 2;
	g->table = mem_new_array(g->slots, sizeof *g->table);
	for (size_t i = 0; i < old_slots; i++) {
		if (old[i].count)
			g->table[find_slot(g, old[i].key)] = old[i];
	}
	free(old);
}

struct listener_group *
listener_group_new(struct loop *l, struct listener_limits limits)
{
	struct listener_group *g = MEM_NEW(struct listener_group);

	assert(limits.total_max > 0 && limits.per_network_max > 0);
	g->loop = l;
	g->limits = limits;
	if (getrandom(&g->hash_seed, sizeof g->hash_seed, 0) != sizeof g->hash_seed)
		abort();
	table_resize(g, limits.total_max);
	return g;
}

unsigned
listener_group_count(const struct listener_group *g)
{
	return g->count;
}

void
listener_group_on_full(struct listener_group *g, listener_room_fn *make_room)
{
	g->make_room = make_room;
}

uint64_t
listener_burden(const struct listener_group *g, const struct client_address *a, uint64_t waited_ms)
{
	uint8_t key[8];
	uint64_t burden;

	network_key(a, key);
	uint64_t count = g->table[find_slot(g, key)].count;

	if (waited_ms < LISTENER_YOUNG_MS && 2 * count * g->networks <= g->count)
		return 0;
	return __builtin_mul_overflow(waited_ms + 1, count, &burden) ? UINT64_MAX : burden;
}

static bool
is_full(const struct listener_group *g)
{
	return g->count >= g->limits.total_max;
}

/* Watches the socket or not, by the group's count. */
static void
settle(struct listener *ln)
{
	if (ln->for_room && !is_full(ln->group)) {
		ln->for_room = ln->paused = false;
		loop_timer_stop(ln->pause);
	}
	bool may = !ln->paused && (ln->group->make_room != NULL || !is_full(ln->group));

	loop_io_set(ln->io, may ? LOOP_READ : 0);
}

static void
settle_all(struct listener_group *g)
{
	for (struct listener *ln = g->listeners; ln; ln = ln->next)
		settle(ln);
}

void
listener_group_limits(struct listener_group *g, struct listener_limits limits)
{
	assert(limits.total_max > 0 && limits.per_network_max > 0);
	g->limits = limits;
	table_resize(g, limits.total_max > g->count ? limits.total_max : g->count);
	settle_all(g);
}

static bool
count_in(struct listener_group *g, const struct client_address *a)
{
	uint8_t key[8];

	network_key(a, key);
	struct network *n = &g->table[find_slot(g, key)];

	if (n->count >= g->limits.per_network_max)
		return false;
	memcpy(n->key, key, sizeof key);
	if (n->count++ == 0)
		g->networks++;
	g->count++;
	return true;
}

void
listener_done(struct listener_group *g, const struct client_address *a)
{
	uint8_t key[8];

	network_key(a, key);
	size_t i = find_slot(g, key);

	assert(g->count > 0 && g->table[i].count > 0);
	g->count--;
	if (--g->table[i].count == 0) {
		g->networks--;
		remove_slot(g, i);
	}
	if (g->count + 1 == g->limits.total_max)
		settle_all(g);
}

bool
listener_moved(struct listener_group *g, const struct client_address *from, const struct client_address *to)
{
	/* In this order, so that a session that moves within its network finds its own place. */
	listener_done(g, from);
	return count_in(g, to);
}

/* IPv4 addresses as v4-mapped ones; who comes through a Unix socket has none. */
static void
take_address(const struct sockaddr_storage *from, struct sockaddr_in6 *to_r, char text_r[64])
{
	memset(to_r, 0, sizeof *to_r);
	to_r->sin6_family = AF_INET6;
	if (from->ss_family == AF_INET6) {
		memcpy(to_r, from, sizeof *to_r);
	} else if (from->ss_family == AF_INET) {
		struct sockaddr_in v4;

		memcpy(&v4, from, sizeof v4);
		to_r->sin6_port = v4.sin_port;
		memset(to_r->sin6_addr.s6_addr + 10, 0xff, 2);
		memcpy(to_r->sin6_addr.s6_addr + 12, &v4.sin_addr, 4);
	}
	const char *ok = text_r;

	if (from->ss_family == AF_UNIX)
		memcpy(text_r, "local", sizeof "local");
	else if (IN6_IS_ADDR_V4MAPPED(&to_r->sin6_addr))
		ok = inet_ntop(AF_INET, to_r->sin6_addr.s6_addr + 12, text_r, 64);
	else
		ok = inet_ntop(AF_INET6, &to_r->sin6_addr, text_r, 64);
	assert(ok != NULL);
}

static void
resume(void *arg)
{
	struct listener *ln = arg;

	ln->paused = ln->for_room = false;
	settle(ln);
}

static void
pause_accepting(struct listener *ln)
{
	ln->paused = true;
	loop_timer_set(ln->pause, LISTENER_PAUSE_MS);
}

/* Errors that concern only the connection that was to be accepted (accept(2)). */
static bool
is_passing_error(int errnum)
{
	switch (errnum) {
	case EINTR:
	case ECONNABORTED:
	case EPROTO:
	case EPERM:
	case ENETDOWN:
	case ENOPROTOOPT:
	case EHOSTDOWN:
	case ENONET:
	case EHOSTUNREACH:
	case EOPNOTSUPP:
	case ENETUNREACH:
		return true;
	default:
		return false;
	}
}

/* Accepts one connection; false when there is none left or accepting has to pause. */
static bool
accept_one(struct listener *ln)
{
	struct sockaddr_storage peer = {0}, local = {0};
	socklen_t n = sizeof peer;
	struct client_address a;
	int fd = accept4(ln->fd, (struct sockaddr *)&peer, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0) {
		if (errno == EAGAIN || errno == EWOULDBLOCK)
			return false;
		if (is_passing_error(errno))
			return true;
		log_event(LOG_WARN, NO_SESSION, "accept-paused", LOG_CSTR("error", strerrordesc_np(errno)),
		    LOG_NUM("connections", ln->group->count), LOG_END);
		pause_accepting(ln);
		return false;
	}
	n = sizeof local;
	if (getsockname(fd, (struct sockaddr *)&local, &n) != 0) {
		(void)close(fd);
		return true;
	}
	take_address(&peer, &a.peer, a.text);
	take_address(&local, &a.local, a.local_text);
	if (count_in(ln->group, &a))
		ln->accepted(ln->arg, fd, &a);
	else
		ln->refused(ln->arg, fd, &a);
	return true;
}

/* False when the client that waits has to go on waiting. */
static bool
has_room(struct listener *ln)
{
	if (!is_full(ln->group))
		return true;
	if (ln->group->make_room == NULL)
		return false;
	if (ln->group->make_room())
		return true;
	ln->for_room = true;
	pause_accepting(ln);
	return false;
}

static void
on_connection(void *arg, int events)
{
	struct listener *ln = arg;
	bool gone = false;

	(void)events;
	if (!has_room(ln)) {
		settle(ln);
		return;
	}
	ln->gone = &gone;
	for (int i = 0; i < LISTENER_ACCEPTS_PER_WAKE && !is_full(ln->group); i++) {
		bool more = accept_one(ln);

		if (gone)
			return;
		if (!more)
			break;
	}
	ln->gone = NULL;
	settle(ln);
}

struct listener *
listener_new(struct listener_group *g, int fd, listener_accept_fn *accepted,
    listener_accept_fn *refused, void *arg)
{
	struct listener *ln = MEM_NEW(struct listener);

	assert(fd >= 0 && accepted != NULL && refused != NULL);
	ln->group = g;
	ln->fd = fd;
	ln->accepted = accepted;
	ln->refused = refused;
	ln->arg = arg;
	ln->io = loop_io_new(g->loop, fd, 0, on_connection, ln);
	ln->pause = loop_timer_new(g->loop, resume, ln);
	ln->next = g->listeners;
	g->listeners = ln;
	settle(ln);
	return ln;
}

void
listener_free(struct listener **lnp)
{
	struct listener *ln = *lnp;

	if (ln == NULL)
		return;
	*lnp = NULL;
	if (ln->gone)
		*ln->gone = true;
	struct listener **at = &ln->group->listeners;

	while (*at != ln)
		at = &(*at)->next;
	*at = ln->next;
	loop_io_free(&ln->io);
	loop_timer_free(&ln->pause);
	(void)close(ln->fd);
	free(ln);
}
