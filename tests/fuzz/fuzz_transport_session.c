/*
 * What a server may say, at any moment: the input is its side of the dialogue. However it goes, a message is told to be over once, no
 * recipient is done without the end having been said, and nothing is said after the connection is closed.
 */
#include "common/memfd.h"
#include "smtpd/transport_session.h"

#include <stdlib.h>
#include <unistd.h>

#define RECIPIENTS 3
#define MESSAGES_MAX 3

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct play {
	struct transport_session *session;
	struct queue_item item;
	struct queue_recipient recipients[RECIPIENTS];
	struct transport_outcome outcomes[RECIPIENTS];
	struct transport_message message;
	unsigned messages, overs;
	bool closed, busy, dot, tls, full;
};

static void
need(bool ok)
{
	if (!ok)
		abort();
}

static void
play_write(void *ctx, struct slice octets)
{
	const struct play *p = ctx;

	need(!p->closed && octets.n < 1u << 20);
}

static bool
play_full(void *ctx)
{
	struct play *p = ctx;

	p->full = !p->full;
	return p->full;
}

static void
play_starttls(void *ctx)
{
	struct play *p = ctx;

	need(!p->tls);
	p->tls = true;
}

static void
play_deadline(void *ctx, uint64_t ms)
{
	const struct play *p = ctx;

	need(!p->closed && ms > 0);
}

static void
play_deadline_of_piece(void *ctx, uint64_t ms, uint64_t total_ms)
{
	(void)ctx;
	(void)ms;
	(void)total_ms;
}

static void
play_close(void *ctx)
{
	struct play *p = ctx;

	need(!p->closed);
	p->closed = true;
}

static void
take(struct play *p)
{
	struct transport_failure why;

	memset(p->outcomes, 0, sizeof p->outcomes);
	p->dot = false;
	p->busy = transport_session_take(p->session, &p->message, &why);
	if (!p->busy)
		transport_session_quit(p->session);
}

static void
on_open(void *arg)
{
	take(arg);
}

static void
on_dot(void *arg)
{
	struct play *p = arg;

	need(p->busy);
	p->dot = true;
}

static void
on_message(void *arg, const struct transport_failure *rest)
{
	struct play *p = arg;
	bool undecided = false;

	need(p->busy);
	p->busy = false;
	for (unsigned i = 0; i < RECIPIENTS; i++) {
		const struct transport_outcome *o = &p->outcomes[i];

		undecided = undecided || !o->decided;
		need(!o->decided || o->state != QUEUE_DONE || p->dot);
		need(!o->unsure || (p->dot && o->state == QUEUE_PENDING));
	}
	need(!undecided || rest != NULL);
	if (++p->messages < MESSAGES_MAX && transport_session_idle(p->session))
		take(p);
}

static void
on_over(void *arg, const struct transport_failure *why)
{
	struct play *p = arg;

	need(!p->busy && why->status[0] != '\0' && p->overs++ == 0);
}

static void
on_recoded(void *arg, unsigned bodies)
{
	(void)arg;
	need(bodies == 1);
}

static void
on_reply(void *arg, enum transport_stage stage, const struct smtp_reply *reply, struct slice recipient)
{
	const struct play *p = arg;

	(void)stage;
	(void)recipient;
	need(p->overs == 0 && reply->code >= 200);
}

static const struct transport_wire wire = {
    .write = play_write, .full = play_full, .starttls = play_starttls, .deadline = play_deadline,
    .deadline_of_piece = play_deadline_of_piece, .close = play_close};
static const struct transport_session_events events = {
    .on_open = on_open, .on_dot = on_dot, .on_message = on_message, .on_over = on_over, .on_recoded = on_recoded, .on_reply = on_reply};

/* The first octet says what the session is like, and what ends it. */
static void
begin(struct play *p, uint8_t how, int fd, size_t bytes)
{
	const struct transport_session_config config = {.helo = SLICE("me.example"), .mta = SLICE("mx[192.0.2.1]"),
	    .tls = (enum transport_tls)(how % 3), .user = how & 4 ? SLICE("me") : SLICE(""), .password = SLICE("x"), .mx_proven = true,
	    .command_ms = 1, .data_ms = 1, .data_rate = 1, .dot_ms = 1};

	memset(p, 0, sizeof *p);
	for (unsigned i = 0; i < RECIPIENTS; i++)
		p->recipients[i] = (struct queue_recipient){.sequence = i, .state = QUEUE_PENDING, .address = SLICE("r@x.example"), .notify = (uint8_t)i};
	p->recipients[2].flags = how & 8 ? QUEUE_FORWARDED : 0;
	p->item = (struct queue_item){.mail_from = SLICE("s@me.example"), .forward_from = SLICE("f@me.example"), .recipients = p->recipients,
	    .count = RECIPIENTS, .flags = how & 16 ? QUEUE_SMTPUTF8 | QUEUE_EIGHTBIT : 0};
	p->message = (struct transport_message){.item = &p->item, .fd = fd, .to = bytes, .outcomes = p->outcomes};
	p->session = transport_session_new(&config, &wire, p, &events, p);
	transport_session_begin(p->session);
}

static void
feed(struct play *p, struct slice in, size_t step)
{
	struct buf held;

	buf_init(&held, in.n + 1);
	for (size_t at = 0; at < in.n && !p->closed; at += step) {
		buf_put_slice(&held, slice_sub(in, at, at + step));
		buf_drop(&held, transport_session_input(p->session, buf_slice(&held)));
		if (p->tls) {
			/* Octets in clear are no octets under TLS. */
			buf_reset(&held);
			transport_session_secured(p->session, in.p[0] & 32);
			p->tls = false;
		}
		transport_session_writable(p->session);
	}
	transport_session_ended(p->session, "the end", buf_slice(&held));
	buf_fini(&held);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct play p;
	static const char message[] = "Subject: x\r\n\r\n.dot\r\n\xc3\xa9\r\n";
	struct err e;

	if (size < 2)
		return 0;
	int fd = memfd_of(slice_of(message, sizeof message - 1), &e);

	need(fd >= 0);
	for (size_t step = 1; step <= size; step += size > 1 ? size - 1 : 1) {
		begin(&p, data[0], fd, sizeof message - 1);
		feed(&p, slice_of(data + 1, size - 1), step);
		need(!p.busy && p.closed);
		transport_session_free(&p.session);
	}
	(void)close(fd);
	return 0;
}
