/*
 * An entry is the message as it would cross the edge, so there is one way to copy every message. Order is kept across edges too:
 * it does not matter to anyone, and costs nothing.
 */
#include "store/outbox.h"

#include "common/mem.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

struct waiting {
	struct waiting *next;
	struct edge *edge; /* NULL: forgotten */
	struct msg_fds fds;
	size_t n;
	uint8_t octets[];
};

struct outbox {
	struct waiting *head;
	struct waiting **tail;
	struct buf packet;
};

struct outbox *
outbox_new(void)
{
	struct outbox *o = MEM_NEW(struct outbox);

	o->tail = &o->head;
	buf_init(&o->packet, MSG_BYTES_MAX);
	return o;
}

static void
waiting_free(struct waiting *w)
{
	for (unsigned i = 0; i < w->fds.n; i++)
		close(w->fds.fd[i]);
	free(w);
}

void
outbox_free(struct outbox **op)
{
	struct outbox *o = *op;

	if (o == NULL)
		return;
	for (struct waiting *w = o->head, *next; w; w = next) {
		next = w->next;
		waiting_free(w);
	}
	buf_fini(&o->packet);
	MEM_FREE(op);
}

bool
outbox_put(struct outbox *o, struct edge *e, const struct msg *m)
{
	struct msg_fds fds;

	if (!msg_encode(m, &o->packet, &fds))
		return false;
	struct waiting *w = mem_new_array(1, size_add(sizeof *w, o->packet.n));

	for (unsigned i = 0; i < fds.n; i++) {
		int fd = fcntl(fds.fd[i], F_DUPFD_CLOEXEC, 0);

		if (fd < 0) {
			waiting_free(w);
			return false;
		}
		w->fds.fd[w->fds.n++] = fd;
	}
	w->edge = e;
	w->n = o->packet.n;
	memcpy(w->octets, o->packet.p, o->packet.n);
	*o->tail = w;
	o->tail = &w->next;
	return true;
}

void
outbox_forget(struct outbox *o, const struct edge *e)
{
	for (struct waiting *w = o->head; w; w = w->next)
		if (w->edge == e)
			w->edge = NULL;
}

void
outbox_send(struct outbox *o, void (*failed)(struct edge *e, enum msg_type type))
{
	static struct msg m;

	while (o->head) {
		struct waiting *w = o->head;

		o->head = w->next;
		if (o->head == NULL)
			o->tail = &o->head;
		struct edge *e = w->edge;

		if (e && msg_decode(slice_of(w->octets, w->n), &w->fds, &m) && !ipc_send(e, &m)) {
			outbox_forget(o, e);
			failed(e, m.type);
		}
		waiting_free(w);
	}
}

bool
outbox_empty(const struct outbox *o)
{
	return o->head == NULL;
}
