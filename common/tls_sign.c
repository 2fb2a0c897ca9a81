/*
 * How a handshake waits for a signature without anybody waiting with it. OpenSSL runs each step of
 * the handshake as a job on a stack of its own (SSL_MODE_ASYNC). When the provider needs a
 * signature, tls_sign() sends KEY_SIGN and pauses the job; the step returns SSL_ERROR_WANT_ASYNC,
 * and the next step, after the answer, goes on inside tls_sign().
 *
 * A paused job is never just dropped: OpenSSL would lose its stack. tls_sign_abandon() lets it run
 * to its (failing) end.
 */
#include "common/tls_private.h"

#include "common/mem.h"
#include "common/role.h"

#include <assert.h>
#include <openssl/async.h>
#include <openssl/err.h>
#include <stdlib.h>

struct tls_signing {
	struct tls_waiter *waiter; /* NULL once abandoned */
	struct edge *edge;
	uint64_t id;
	bool done;
	bool ok;
	size_t n;
	uint8_t sig[TLS_SIGNATURE_BYTES_MAX];
};

/* Whose step runs now. */
static struct tls_waiter *current;
/* Those without a job, first come first served. */
static struct tls_waiter *queue_first, *queue_last;

static void
queue_add(struct tls_waiter *w)
{
	assert(!w->queued);
	w->queued = true;
	w->next = NULL;
	w->prev = queue_last;
	if (queue_last)
		queue_last->next = w;
	else
		queue_first = w;
	queue_last = w;
}

static void
queue_remove(struct tls_waiter *w)
{
	if (!w->queued)
		return;
	if (w->prev)
		w->prev->next = w->next;
	else
		queue_first = w->next;
	if (w->next)
		w->next->prev = w->prev;
	else
		queue_last = w->prev;
	w->queued = false;
}

/* A job has ended: somebody else may have it. */
static void
wake_queued(void)
{
	struct tls_waiter *w = queue_first;

	if (w == NULL)
		return;
	queue_remove(w);
	w->wake(w->arg);
}

int
tls_sign_handshake(struct tls_waiter *w, SSL *ssl)
{
	bool had_job = w->paused;

	assert(current == NULL && !w->queued);
	current = w;
	w->paused = false;
	ERR_clear_error();
	int result = SSL_do_handshake(ssl);
	int what = result == 1 ? SSL_ERROR_NONE : SSL_get_error(ssl, result);

	current = NULL;
	assert(w->paused == (what == SSL_ERROR_WANT_ASYNC));
	if (what == SSL_ERROR_WANT_ASYNC_JOB)
		queue_add(w);
	if (had_job && !w->paused)
		wake_queued();
	return what;
}

void
tls_sign_abandon(struct tls_waiter *w, SSL *ssl)
{
	queue_remove(w);
	for (int i = 0; w->paused && i < 4; i++) {
		struct tls_signing *op = w->signing;

		assert(op != NULL);
		if (!op->done && op->edge)
			ipc_forget(op->edge, op->id);
		op->done = true;
		op->ok = false;
		/*
		 * The step sees a failed signature, tells the peer so as far as the socket takes
		 * it, and ends the job.
		 */
		(void)tls_sign_handshake(w, ssl);
	}
	ERR_clear_error();
}

static void
finish(struct tls_signing *op)
{
	op->done = true;
	op->waiter->wake(op->waiter->arg);
}

static void
on_gone(void *obj, const struct err *e)
{
	struct tls_signing *op = obj;

	op->ok = false;
	op->edge = NULL;
	op->waiter->error = e->code == ERR_CODE_TIMEOUT ? "the key role did not answer in time"
							: "the key role is away";
	finish(op);
}

void
tls_sign_answer(struct edge *e, struct msg_KEY_SIGNED *m)
{
	struct tls_signing *op = ipc_answered(e, m->id);

	if (op == NULL)
		return;
	op->ok = m->class == ERR_NONE && m->signature.n > 0 && m->signature.n <= sizeof op->sig;
	if (op->ok) {
		memcpy(op->sig, m->signature.p, m->signature.n);
		op->n = m->signature.n;
	} else {
		op->waiter->error = "the key role refused to sign";
	}
	finish(op);
}

static bool
request(struct tls_signing *op, uint32_t key, const char *scheme, const char *digest_name,
    struct slice digest)
{
	op->edge = role_edge(ROLE_KEY, 0);
	if (op->edge == NULL)
		return false;
	op->id = ipc_expect(op->edge, TLS_SIGN_MS_MAX, on_gone, op);
	if (op->id == 0)
		return false;
	if (IPC_SEND(op->edge, KEY_SIGN, .id = op->id, .key = key, .scheme = slice_str(scheme),
		.digest_name = slice_str(digest_name), .digest = digest))
		return true;
	ipc_forget(op->edge, op->id);
	return false;
}

/* Returns when the answer is there, possibly many turns of the loop later. */
static void
suspend(struct tls_waiter *w, struct tls_signing *op)
{
	while (!op->done) {
		w->paused = true;
		w->signing = op;
		if (ASYNC_pause_job() != 1 || w->paused) {
			/* It could not be paused here: then there is no answer. */
			ipc_forget(op->edge, op->id);
			w->paused = false;
			w->error = "the handshake could not be suspended";
			op->ok = false;
			break;
		}
	}
	w->signing = NULL;
}

bool
tls_sign(uint32_t key, const char *scheme, const char *digest_name, struct slice digest,
    size_t sig_size, uint8_t *sig_r, size_t *sig_n_r)
{
	struct tls_waiter *w = current;

	if (w == NULL || ASYNC_get_current_job() == NULL)
		return false;
	struct tls_signing *op = MEM_NEW(struct tls_signing);

	op->waiter = w;
	if (request(op, key, scheme, digest_name, digest))
		suspend(w, op);
	else
		w->error = "the key role is away";
	bool ok = op->ok && op->n <= sig_size;

	if (ok) {
		memcpy(sig_r, op->sig, op->n);
		*sig_n_r = op->n;
	}
	free(op);
	return ok;
}
