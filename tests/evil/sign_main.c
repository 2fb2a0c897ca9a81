/*
 * A sign role that wants more than it may have: for each message to be signed it asks the key role for certificates and for a signature by a
 * certificate's key, and logs what it gets. Messages of authors at good.test it answers after a while, without signatures; one of an author
 * at poison.test ends it before that.
 */
#include "common/log.h"
#include "common/loop.h"
#include "common/mem.h"
#include "tests/evil/evil.h"

#include <stdlib.h>
#include <unistd.h>

#define POISON_MS 300
#define GOOD_MS 600

struct waiting {
	struct edge *edge;
	uint64_t id;
	struct loop_timer *timer;
};

static void
got(const char *what)
{
	log_event(LOG_BUG, NO_SESSION, "evil-got", LOG_CSTR("what", what), LOG_END);
}

static void
on_cert(struct edge *e, struct msg_KEY_CERT *m)
{
	(void)e;
	(void)m;
	got("certificate");
}

static void
on_signed(struct edge *e, struct msg_KEY_SIGNED *m)
{
	(void)e;
	(void)m;
	got("signature");
}

static void
die(void *arg)
{
	(void)arg;
	_exit(1);
}

static void
reply(void *arg)
{
	struct waiting *w = arg;

	(void)!IPC_SEND(w->edge, SIGN_REPLY, .id = w->id);
	loop_timer_free(&w->timer);
	free(w);
}

static void
wait_for(struct edge *e, uint64_t id, uint64_t ms, void (*then)(void *))
{
	struct waiting *w = MEM_NEW(struct waiting);

	w->edge = e;
	w->id = id;
	w->timer = loop_timer_new(role_loop(), then, w);
	loop_timer_set(w->timer, ms);
}

static void
on_message(struct edge *e, struct msg_SIGN_MESSAGE *m)
{
	struct edge *key = role_edge(ROLE_KEY, 0);
	static const uint8_t digest[32];

	if (slice_eq(m->domain, SLICE("good.test")))
		wait_for(e, m->id, GOOD_MS, reply);
	else if (slice_eq(m->domain, SLICE("poison.test")))
		wait_for(e, m->id, POISON_MS, die);
	/* Each process tries one thing: it is ended for it. */
	else if (key != NULL && m->bytes % 2 == 0)
		(void)!IPC_SEND(key, KEY_CERTS, .id = 1);
	else if (key != NULL)
		(void)!IPC_SEND(key, KEY_SIGN, .id = 2, .key = 0, .scheme = SLICE("ecdsa"), .digest_name = SLICE("SHA2-256"),
		    .digest = slice_of(digest, sizeof digest));
}

int
main(int argc, char **argv)
{
	static const struct ipc_dispatch from_deliver = {.SIGN_MESSAGE = on_message};
	static const struct ipc_dispatch from_key = {.KEY_CERT = on_cert, .KEY_SIGNED = on_signed};
	static const struct ipc_dispatch nothing;
	static const struct role_spec spec = {
	    .role = ROLE_SIGN,
	    .dispatch = {[ROLE_DELIVER] = &from_deliver, [ROLE_KEY] = &from_key, [ROLE_RECORDER] = &nothing},
	};

	return role_main(argc, argv, &spec);
}
