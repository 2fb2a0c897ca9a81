/*
 * The verifier role, one of a small pool: it takes one credential at a time,
 * asks the directory for the hash, and computes. Computing blocks the process
 * on purpose: it is the bound on what a crowd of guessers can cost, and nobody else waits here.
 *
 * An exchange goes through: CLIENT (its answer is awaited), ASKING (the
 * directory's hash), HELD (its network has failed too often lately), QUEUED (for the
 * hash), LEASING (the directory opens the lease). Unknown logins go the same
 * way with a hash of nobody's, so that neither text nor time tells them apart. A password that
 * was right within the last minutes skips HELD and QUEUED.
 *
 * No paths, no network, no secret outside an exchange: each is wiped with it.
 */
#include "authd/sasl.h"
#include "authd/verifier_cache.h"
#include "authd/verifier_limit.h"
#include "common/auth_proto.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/mem.h"
#include "common/password.h"
#include "common/role.h"

#include <assert.h>

#define EXCHANGES_MAX 4096 /* at once; past it AUTH_TEMP */
#define BUCKETS 1024	   /* of the table of exchanges; a power of two */
#define HELD_MAX 512	   /* exchanges that wait out a delay; past it AUTH_TEMP */
#define QUEUE_MAX 64 /* passwords that wait for their hash: two seconds' work; past it AUTH_TEMP   \
		      */
#define DIRECTORY_MS 8000    /* for one answer of the directory */
#define CLIENT_MS 120000     /* for the client's next response */
#define SWEEP_MS 10000	     /* between two looks for clients that stay silent */
#define SESSION_BYTES_MAX 64 /* as AUTH_STEP has them */
#define SERVICE_BYTES_MAX 16
#define IP_BYTES_MAX 64

enum exchange_state {
	EXCHANGE_CLIENT,
	EXCHANGE_ASKING,
	EXCHANGE_HELD,
	EXCHANGE_QUEUED,
	EXCHANGE_LEASING,
};

struct exchange {
	struct exchange *next_in_bucket;
	struct exchange *next_in_queue;
	struct edge *front;
	uint64_t conn;
	uint64_t step;	/* the AUTH_STEP that waits for its answer */
	uint64_t asked; /* the request to the directory that is open; 0: none */
	uint64_t since_ms;
	uint64_t account;
	enum exchange_state state;
	bool found; /* the login is an account's */
	struct loop_timer *hold;
	struct sasl sasl;
	char session[SESSION_BYTES_MAX + 1];
	char service[SERVICE_BYTES_MAX + 1];
	char ip[IP_BYTES_MAX + 1];
	size_t name_bytes;
	uint8_t name[SASL_LOGIN_BYTES_MAX]; /* canonical, from the directory */
	size_t hash_bytes;
	uint8_t hash[PASSWORD_HASH_SIZE];
};

static struct {
	struct exchange *bucket[BUCKETS];
	unsigned exchanges;
	unsigned held;
	struct exchange *queue_first, *queue_last;
	unsigned queued;
	struct loop_timer *work;
	struct loop_timer *sweep;
	struct verifier_cache *cache;
	struct verifier_limit *limit;
} me;

/* ---- the table ---- */

static struct exchange **
bucket_of(const struct edge *front, uint64_t conn)
{
	uint64_t h = (conn ^ (uint64_t)(uintptr_t)front >> 4) * UINT64_C(0x9e3779b97f4a7c15);

	return &me.bucket[h >> 54];
}
_Static_assert(BUCKETS == 1 << (64 - 54), "the hash's upper bits number the buckets");

static struct exchange *
exchange_find(const struct edge *front, uint64_t conn)
{
	struct exchange *x = *bucket_of(front, conn);

	while (x != NULL && (x->front != front || x->conn != conn))
		x = x->next_in_bucket;
	return x;
}

static struct slice
hash_of(const struct exchange *x)
{
	return slice_of(x->hash, x->hash_bytes);
}

static struct slice
name_of(const struct exchange *x)
{
	return slice_of(x->name, x->name_bytes);
}

static void
queue_remove(struct exchange *x)
{
	struct exchange **at = &me.queue_first;
	struct exchange *before = NULL;

	while (*at != x) {
		before = *at;
		assert(before != NULL);
		at = &before->next_in_queue;
	}
	*at = x->next_in_queue;
	if (me.queue_last == x)
		me.queue_last = before;
	x->next_in_queue = NULL;
	me.queued--;
}

/* Leaves whatever it waits for, wipes and frees it. */
static void
exchange_free(struct exchange *x)
{
	struct exchange **at = bucket_of(x->front, x->conn);
	struct edge *directory = role_edge(ROLE_DIRECTORY, 0);

	while (*at != x)
		at = &(*at)->next_in_bucket;
	*at = x->next_in_bucket;
	if (x->state == EXCHANGE_QUEUED)
		queue_remove(x);
	if (x->state == EXCHANGE_HELD)
		me.held--;
	if (x->asked != 0 && directory != NULL)
		ipc_forget(directory, x->asked);
	loop_timer_free(&x->hold);
	sasl_reset(&x->sasl);
	mem_wipe(x, sizeof *x);
	free(x);
	me.exchanges--;
}

/* NULL when there are too many. */
static struct exchange *
exchange_new(struct edge *front, const struct msg_AUTH_STEP *m)
{
	struct exchange **at = bucket_of(front, m->conn);
	struct exchange *x;

	if (me.exchanges == EXCHANGES_MAX)
		return NULL;
	x = MEM_NEW(struct exchange);
	x->front = front;
	x->conn = m->conn;
	x->since_ms = clock_ms();
	sasl_init(&x->sasl);
	if (!slice_cstr(m->session, x->session, sizeof x->session) ||
	    !slice_cstr(m->service, x->service, sizeof x->service) ||
	    !slice_cstr(m->client_ip, x->ip, sizeof x->ip)) {
		free(x);
		return NULL;
	}
	x->next_in_bucket = *at;
	*at = x;
	me.exchanges++;
	return x;
}

/* ---- answers ---- */

static void
answer(struct edge *front, uint64_t step, uint64_t conn, enum auth_status status,
    struct slice challenge)
{
	IPC_TELL(front, AUTH_RESULT, .id = step, .conn = conn, .status = (uint8_t)status,
	    .challenge = challenge);
}

static void
trace(const struct exchange *x, const char *result)
{
	struct slice login = x->name_bytes > 0 ? name_of(x) : sasl_login(&x->sasl);
	struct buf b;

	buf_init(&b, LOG_LINE_BYTES_MAX);
	log_put_fields(
	    &b, (const struct log_field[]){LOG_CSTR("service", x->service), LOG_STR("login", login),
		    LOG_CSTR("client", x->ip), LOG_CSTR("result", result), LOG_END});
	role_trace(slice_str(x->session), "login", buf_slice(&b));
	buf_fini(&b);
}

/* The end of an exchange that did not succeed. */
static void
exchange_fail(struct exchange *x, enum auth_status status)
{
	trace(x, status == AUTH_TEMP ? "temporary" : "failed");
	answer(x->front, x->step, x->conn, status, slice_of(NULL, 0));
	exchange_free(x);
}

static void
exchange_refuse(struct exchange *x)
{
	verifier_limit_failed(me.limit, slice_str(x->ip), clock_ms());
	exchange_fail(x, AUTH_FAILED);
}

/* ---- the lease ---- */

static void
on_directory_gone(void *obj, const struct err *e)
{
	struct exchange *x = obj;

	log_event(LOG_WARN, slice_str(x->session), "directory-silent", LOG_ERR(e), LOG_END);
	x->asked = 0;
	exchange_fail(x, AUTH_TEMP);
}

/* A new request to the directory; 0 after the exchange has ended because there can be none. */
static struct edge *
directory_ask(struct exchange *x)
{
	struct edge *directory = role_edge(ROLE_DIRECTORY, 0);

	x->asked = directory == NULL ? 0
				     : ipc_expect(directory, DIRECTORY_MS, on_directory_gone, x);
	return x->asked == 0 ? NULL : directory;
}

/* The password was right. */
static void
lease_ask(struct exchange *x)
{
	const struct edge_peer *front = edge_peer(x->front);
	struct edge *directory = directory_ask(x);

	x->state = EXCHANGE_LEASING;
	if (directory == NULL ||
	    !IPC_SEND(directory, DIR_AUTHENTICATED, .id = x->asked, .account = x->account,
		.front_role = front->role, .front_instance = front->instance,
		.front_generation = front->generation, .conn = x->conn,
		.service = slice_str(x->service), .hash = hash_of(x)))
		exchange_fail(x, AUTH_TEMP);
}

static void
on_authenticated(struct edge *e, struct msg_DIR_AUTHENTICATED_REPLY *m)
{
	struct exchange *x = ipc_answered(e, m->id);

	if (x == NULL)
		return;
	x->asked = 0;
	if (m->class != ERR_NONE) {
		/* ERR_PERM: changed or suspended since the hash was read. */
		exchange_fail(x, m->class == ERR_PERM ? AUTH_FAILED : AUTH_TEMP);
		return;
	}
	trace(x, "ok");
	IPC_TELL(x->front, AUTH_RESULT, .id = x->step, .conn = x->conn, .status = AUTH_OK,
	    .account = x->account, .login = name_of(x));
	exchange_free(x);
}

/* ---- the hash ---- */

static void
queue_add(struct exchange *x)
{
	if (me.queued == QUEUE_MAX) {
		exchange_fail(x, AUTH_TEMP);
		return;
	}
	x->state = EXCHANGE_QUEUED;
	if (me.queue_last != NULL)
		me.queue_last->next_in_queue = x;
	else
		me.queue_first = x;
	me.queue_last = x;
	if (me.queued++ == 0)
		loop_timer_set(me.work, 0);
}

/* One hash, then the loop's other work, then the next. */
static void
on_work(void *arg)
{
	struct exchange *x = me.queue_first;
	bool right;

	(void)arg;
	if (x == NULL)
		return;
	queue_remove(x);
	x->state = EXCHANGE_LEASING;
	right = password_matches(sasl_password(&x->sasl), hash_of(x));
	if (right && x->found) {
		verifier_cache_add(
		    me.cache, x->account, hash_of(x), sasl_password(&x->sasl), clock_ms());
		lease_ask(x);
	} else {
		exchange_refuse(x);
	}
	if (me.queue_first != NULL)
		loop_timer_set(me.work, 0);
}

static void
on_hold_over(void *arg)
{
	struct exchange *x = arg;

	me.held--;
	x->state = EXCHANGE_ASKING;
	queue_add(x);
}

static void
hold_or_queue(struct exchange *x)
{
	uint32_t ms = verifier_limit_delay(me.limit, slice_str(x->ip), clock_ms());

	if (ms == 0) {
		queue_add(x);
	} else if (me.held == HELD_MAX) {
		exchange_fail(x, AUTH_TEMP);
	} else {
		me.held++;
		x->state = EXCHANGE_HELD;
		x->hold = loop_timer_new(role_loop(), on_hold_over, x);
		loop_timer_set(x->hold, ms);
	}
}

static void
on_credential(struct edge *e, struct msg_DIR_CREDENTIAL_REPLY *m)
{
	struct exchange *x = ipc_answered(e, m->id);

	if (x == NULL)
		return;
	x->asked = 0;
	if (m->class != ERR_NONE || m->hash.n > sizeof x->hash || m->login.n > sizeof x->name) {
		exchange_fail(x, AUTH_TEMP);
		return;
	}
	x->found = m->found == 1;
	x->account = m->account;
	x->hash_bytes = m->hash.n;
	memcpy(x->hash, m->hash.p, m->hash.n);
	x->name_bytes = m->login.n;
	if (m->login.n > 0)
		memcpy(x->name, m->login.p, m->login.n);
	if (verifier_cache_has(
		me.cache, x->account, hash_of(x), sasl_password(&x->sasl), clock_ms()) &&
	    x->found)
		lease_ask(x);
	else
		hold_or_queue(x);
}

/* ---- the dialogue ---- */

static void
credential_ask(struct exchange *x)
{
	struct edge *directory = directory_ask(x);

	x->state = EXCHANGE_ASKING;
	if (directory == NULL ||
	    !IPC_SEND(directory, DIR_CREDENTIAL, .id = x->asked, .login = sasl_login(&x->sasl)))
		exchange_fail(x, AUTH_TEMP);
}

static void
outcome_act(struct exchange *x, enum sasl_outcome outcome)
{
	switch (outcome) {
	case SASL_CHALLENGE:
		x->state = EXCHANGE_CLIENT;
		answer(x->front, x->step, x->conn, AUTH_CONTINUE, x->sasl.challenge);
		break;
	case SASL_CREDENTIAL:
		credential_ask(x);
		break;
	case SASL_REFUSED:
		exchange_refuse(x);
		break;
	case SASL_OUT_OF_ORDER:
		exchange_fail(x, AUTH_MALFORMED);
		break;
	case SASL_UNKNOWN:
		exchange_fail(x, AUTH_UNSUPPORTED);
		break;
	}
}

/* A new mechanism ends what the connection had begun. */
static void
step_first(struct edge *front, const struct msg_AUTH_STEP *m)
{
	struct exchange *x = exchange_find(front, m->conn);

	if (x != NULL && x->state != EXCHANGE_LEASING) {
		exchange_free(x);
		x = NULL;
	}
	/* One that is about to have its lease is not left: the front has to hear of that lease. */
	x = x == NULL ? exchange_new(front, m) : NULL;
	if (x == NULL) {
		answer(front, m->id, m->conn, AUTH_TEMP, slice_of(NULL, 0));
		return;
	}
	x->step = m->id;
	outcome_act(x, sasl_start(&x->sasl, m->mechanism, m->has_response != 0, m->response));
}

static void
on_step(struct edge *front, struct msg_AUTH_STEP *m)
{
	struct exchange *x;

	if (m->mechanism.n > 0) {
		step_first(front, m);
		return;
	}
	x = exchange_find(front, m->conn);
	if (x == NULL || x->state != EXCHANGE_CLIENT) {
		answer(front, m->id, m->conn, AUTH_MALFORMED, slice_of(NULL, 0));
		return;
	}
	x->step = m->id;
	outcome_act(x, sasl_step(&x->sasl, m->response));
}

static void
on_abort(struct edge *front, struct msg_AUTH_ABORT *m)
{
	struct exchange *x = exchange_find(front, m->conn);

	/* Too late once the lease is asked for: the front learns that it is open, and closes it. */
	if (x != NULL && x->state != EXCHANGE_LEASING)
		exchange_free(x);
}

/* ---- the role ---- */

/* Frees the exchanges of that front (NULL: of all), those alone that wait for a silent client when
 * silent_only. */
static void
exchanges_drop(const struct edge *front, bool silent_only)
{
	uint64_t now = clock_ms();

	for (unsigned i = 0; i < BUCKETS; i++) {
		for (struct exchange *x = me.bucket[i], *next; x != NULL; x = next) {
			bool silent = x->state == EXCHANGE_CLIENT && now - x->since_ms > CLIENT_MS;

			next = x->next_in_bucket;
			if ((front == NULL || x->front == front) && (silent || !silent_only))
				exchange_free(x);
		}
	}
}

static void
on_sweep(void *arg)
{
	(void)arg;
	exchanges_drop(NULL, true);
	loop_timer_set(me.sweep, SWEEP_MS);
}

static void
on_edge_down(struct edge *e)
{
	exchanges_drop(e, false);
}

static int
init(struct err *e)
{
	me.cache = verifier_cache_new(e);
	if (me.cache == NULL)
		return -1;
	me.limit = verifier_limit_new();
	me.work = loop_timer_new(role_loop(), on_work, NULL);
	me.sweep = loop_timer_new(role_loop(), on_sweep, NULL);
	loop_timer_set(me.sweep, SWEEP_MS);
	return 0;
}

int
main(int argc, char **argv)
{
	static const struct ipc_dispatch from_front = {
	    .AUTH_STEP = on_step,
	    .AUTH_ABORT = on_abort,
	};
	static const struct ipc_dispatch from_directory = {
	    .DIR_CREDENTIAL_REPLY = on_credential,
	    .DIR_AUTHENTICATED_REPLY = on_authenticated,
	};
	static const struct ipc_dispatch nothing = {.TRACE_EVENT = NULL};
	static const struct role_spec spec = {
	    .role = ROLE_VERIFIER,
	    .dispatch =
		{
		    [ROLE_SUBMISSION] = &from_front,
		    [ROLE_IMAP_FRONT] = &from_front,
		    [ROLE_POP3_FRONT] = &from_front,
		    [ROLE_DIRECTORY] = &from_directory,
		    [ROLE_RECORDER] = &nothing,
		},
	    .init = init,
	    .on_edge_down = on_edge_down,
	};
	int status = role_main(argc, argv, &spec);

	verifier_cache_free(&me.cache);
	verifier_limit_free(&me.limit);
	return status;
}
