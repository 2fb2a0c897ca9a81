/*
 * DATA: octets go from the stream through the framer into a memory file, and beyond FRONT_MEMFD_BYTES_MAX
 * into a file that queue opened for us. A message that must be refused is read to its end
 * all the same (there is no other way to answer), but nothing of it is kept, and a client that goes on
 * for ever is cut off. The reply to the final dot is deliver's.
 */
#include "smtpd/front.h"
#include "smtpd/front_room.h"

#include "common/config.h"
#include "common/memfd.h"
#include "smtpd/front_client.h"
#include "smtpd/front_policy.h"

#include <assert.h>
#include <unistd.h>

/* The framer may put two octets for one (SMTP_BARE_FIX). */
#define STAGE_BYTES_MAX (2 * FRONT_INPUT_BYTES_MAX)

static const struct smtp_reply_words later = {451, "4.3.0", "Not possible for the moment, try again later"};

/* ---- DATA ---- */

/*
 * With more input behind it that is message text, sent without waiting for 354 (RFC 2920 3.1: DATA ends a group), and must
 * never be taken for commands.
 */
void
smtpd_refuse_data(struct front *f, const struct smtp_reply_words *w)
{
	smtpd_reply_words(f, w);
	if (stream_input(f->stream).n > 0)
		smtpd_close(f, "4.7.0", "Input behind a DATA that was refused");
}

const struct smtp_reply_words *
smtpd_data_begin(struct front *f)
{
	struct err e;

	f->t.data.began_ms = clock_ms();
	f->t.data.fd = memfd_new(&e);
	if (f->t.data.fd >= 0)
		return NULL;
	log_event(LOG_ERROR, slice_str(f->id), "memfd", LOG_ERR(&e), LOG_END);
	return &later;
}

void
smtpd_data(struct front *f, struct slice args)
{
	static const struct smtp_reply_words no_recipients = {554, "5.5.1", "No valid recipients"};
	static const struct smtp_reply_words none_lmtp = {503, "5.5.1", "No valid recipients"}; /* RFC 2033 4.2 */
	static const struct smtp_reply_words binary = {503, "5.5.1", "BODY=BINARYMIME goes with BDAT only (RFC 3030 3)"};
	const struct smtp_reply_words *w = NULL;

	(void)args;
	if (f->state == FRONT_STATE_MAIL)
		w = f->port->lmtp ? &none_lmtp : &no_recipients;
	else if (f->t.body == SMTP_BODY_BINARYMIME)
		w = &binary;
	if (w == NULL)
		w = smtpd_data_begin(f);
	if (w != NULL) {
		smtpd_refuse_data(f, w);
		return;
	}
	smtp_data_init(&f->t.data.framer, smtpd_service.submission ? SMTP_BARE_FIX : SMTP_BARE_REFUSE);
	smtpd_set_state(f, FRONT_STATE_DATA);
	smtpd_reply(f, 354, NULL, "Go ahead, end with <CRLF>.<CRLF>");
}

/* ---- keeping the octets ---- */

static void
close_file(struct front_data *d)
{
	if (d->fd >= 0)
		(void)close(d->fd);
	d->fd = -1;
	smtpd_service.memory_bytes -= d->memory_bytes;
	d->memory_bytes = 0;
}

/* True when the memory file has grown too big, or all of them together have. */
static bool
needs_file(struct front_data *d, size_t added)
{
	if (d->spool_id != 0)
		return false;
	d->memory_bytes += added;
	smtpd_service.memory_bytes += added;
	return d->memory_bytes > FRONT_MEMFD_BYTES_MAX || smtpd_service.memory_bytes > FRONT_MEMORY_BYTES_MAX;
}

/* Nothing of it is needed any more: the file, and its share of the spool. */
void
smtpd_data_drop(struct front *f)
{
	struct front_data *d = &f->t.data;
	struct edge *queue = role_edge(ROLE_QUEUE, 0);

	close_file(d);
	if (d->spool_id != 0 && !d->spool_lost)
		IPC_TELL(queue, SPOOL_DONE, .id = d->spool_id);
	d->spool_id = 0;
}

static void
lose_space(struct front *f, const char *why)
{
	log_event(LOG_WARN, slice_str(f->id), "spool-refused", LOG_CSTR("why", why), LOG_END);
	f->t.data.no_space = true;
	smtpd_data_drop(f);
}

static void
spool_gone(void *obj, const struct err *e)
{
	struct front *f = obj;

	smtpd_gone(f);
	lose_space(f, e->client);
	smtpd_step(f);
}

/* The memory file is full: a file is needed. Its content is copied once that is there. */
static void
ask_spool(struct front *f)
{
	struct edge *queue = role_edge(ROLE_QUEUE, 0);
	uint64_t id = queue ? ipc_expect(queue, FRONT_ASK_MS, spool_gone, f) : 0;
	uint64_t bytes_max = config_number(role_config(), OPT_SMTP_MESSAGE_BYTES);

	if (id != 0 && IPC_SEND(queue, SPOOL_OPEN, .id = id, .bytes_max = bytes_max)) {
		smtpd_wait_for(f, FRONT_WAIT_SPOOL, queue, id);
		return;
	}
	if (id != 0)
		ipc_forget(queue, id);
	lose_space(f, "queue is away");
}

/* Copies the memory file into the spool file, which takes its place. */
static bool
move_to_file(struct front_data *d, int fd, struct err *e)
{
	static uint8_t block[64 * 1024];
	uint64_t at = 0;
	int64_t n;

	while ((n = memfd_read(d->fd, at, block, sizeof(block), e)) > 0) {
		if (memfd_write(fd, slice_of(block, (size_t)n), e) < 0)
			return false;
		at += (uint64_t)n;
	}
	if (n < 0)
		return false;
	close_file(d);
	d->fd = fd;
	return true;
}

void
smtpd_on_spool(struct edge *edge, struct msg_SPOOL_REPLY *m)
{
	struct front *f = smtpd_answered(edge, m->id, FRONT_WAIT_SPOOL);
	struct err e = {0};

	if (f == NULL) {
		/* Nobody waits: give the share back, the descriptor is closed by the caller. */
		if (m->fd >= 0)
			IPC_TELL(edge, SPOOL_DONE, .id = m->id);
		return;
	}
	if (m->class != ERR_NONE || m->fd < 0) {
		lose_space(f, "no share of the spool left");
	} else {
		f->t.data.spool_id = m->id;
		if (move_to_file(&f->t.data, m->fd, &e))
			m->fd = -1;
		else
			lose_space(f, e.detail);
	}
	smtpd_step(f);
}

void
smtpd_data_keep(struct front *f, struct slice octets, bool at_end)
{
	struct front_data *d = &f->t.data;
	struct err e;

	d->bytes += octets.n;
	if (d->bytes > config_number(role_config(), OPT_SMTP_MESSAGE_BYTES) && !d->too_big) {
		d->too_big = true;
		smtpd_data_drop(f);
	}
	if (d->fd < 0 || octets.n == 0)
		return;
	if (memfd_write(d->fd, octets, &e) < 0) {
		lose_space(f, e.detail);
		return;
	}
	if (needs_file(d, octets.n) && !at_end)
		ask_spool(f);
}

/* ---- the end ---- */

const struct smtp_reply_words *
smtpd_data_refusal(struct front *f, uint64_t more)
{
	const struct front_data *d = &f->t.data;
	uint64_t most = config_number(role_config(), OPT_SMTP_MESSAGE_BYTES);
	/* What came in chunks has no framer: verify looks at its lines. */
	const struct policy_input in = {.submission = smtpd_service.submission,
	    .bare_line_end = d->framer.bare && d->framer.bare_rule == SMTP_BARE_REFUSE,
	    .nul = d->framer.nul,
	    .data_over = d->too_big || more > most || d->bytes > most - more,
	    .no_space = d->no_space};

	return smtpd_judge(f, POLICY_DATA, &in);
}

static void
data_refused(struct front *f, const struct smtp_reply_words *w)
{
	smtpd_trace(f, "data-refused", LOG_NUM("bytes", f->t.data.bytes), LOG_NUM("code", w->code),
	    LOG_CSTR("text", w->text), LOG_END);
	smtpd_reply_message(f, w);
	smtpd_transaction_reset(f);
	/* 521: the two ends do not agree on what a line is, so nothing behind it may be read as a command. */
	if (w->code == 521)
		smtpd_close(f, NULL, NULL);
}

static bool
write_envelope(struct front *f, struct buf *b)
{
	static const struct client_facts nothing;
	const struct client_facts *known = f->check ? client_check_facts(f->check) : &nothing;
	struct front_transaction *t = &f->t;
	struct buf client;
	bool good;

	buf_init(&client, CLIENT_FACTS_BYTES_MAX);
	good = client_facts_encode(known, &client);
	struct envelope e = {
	    .esmtp = smtpd_xclient_esmtp(f),
	    .tls = stream_is_tls(f->stream),
	    .lmtp = f->port->lmtp,
	    .eightbit = t->body != SMTP_BODY_7BIT,
	    .binary = t->body == SMTP_BODY_BINARYMIME,
	    .smtputf8 = t->smtputf8,
	    .requiretls = t->requiretls,
	    .received_us = clock_wall_us(),
	    .client_port = ntohs(f->client.peer.sin6_port),
	    .helo = slice_str(f->helo),
	    .rdns = known->iprev == CLIENT_IPREV_PASS ? known->name : SLICE("unknown"),
	    .client = buf_slice(&client),
	    .tls_text = stream_is_tls(f->stream) ? slice_str(stream_tls_text(f->stream)) : SLICE(""),
	    .mail_from = t->mail_from,
	    .ret = t->ret,
	    .envid = t->envid,
	    .release = t->release,
	    .hold_for = t->hold_for,
	    .priority = t->priority,
	    .recipients = t->recipients,
	    .dsn = t->dsn,
	    .recipient_count = (uint32_t)t->recipient_count,
	};

	memcpy(e.client_ip, &f->client.peer.sin6_addr, sizeof(e.client_ip));
	good = good && envelope_encode(&e, b);
	buf_fini(&client);
	return good;
}

static void
deliver_gone(void *obj, const struct err *e)
{
	struct front *f = obj;

	smtpd_gone(f);
	smtpd_trace(f, "outcome", LOG_NUM("code", later.code), LOG_CSTR("error", e->client), LOG_END);
	smtpd_reply_message(f, &later);
	smtpd_transaction_reset(f);
	smtpd_step(f);
}

/* Sends what is complete now; false when it cannot be asked. */
static bool
hand_over(struct front *f, int envelope)
{
	struct edge *deliver = role_edge(ROLE_DELIVER, 0);
	uint64_t id = deliver ? ipc_expect(deliver, FRONT_DELIVER_MS, deliver_gone, f) : 0;

	if (id == 0)
		return false;
	if (!IPC_SEND(deliver, DELIVER_MESSAGE, .id = id, .conn = f->conn, .session = slice_str(f->id),
		.bytes = f->t.data.bytes, .envelope = envelope, .message = f->t.data.fd)) {
		ipc_forget(deliver, id);
		return false;
	}
	smtpd_set_state(f, FRONT_STATE_HANDED);
	smtpd_wait_for(f, FRONT_WAIT_DELIVER, deliver, id);
	return true;
}

void
smtpd_data_end(struct front *f)
{
	const struct smtp_reply_words *w = smtpd_data_refusal(f, 0);

	smtpd_trace(f, "data", LOG_NUM("bytes", f->t.data.bytes), LOG_END);
	if (w)
		data_refused(f, w);
	else if (!smtpd_client_wait(f))
		smtpd_data_give(f);
}

void
smtpd_data_give(struct front *f)
{
	struct err e;
	struct buf b;
	int envelope;

	buf_init(&b, ENVELOPE_BYTES_MAX);
	envelope = write_envelope(f, &b) ? memfd_of(buf_slice(&b), &e) : -1;
	buf_fini(&b);
	bool sealed = f->t.data.spool_id != 0 || memfd_seal(f->t.data.fd, &e) == 0;
	if (envelope < 0 || !sealed || !hand_over(f, envelope))
		data_refused(f, &later);
	if (envelope >= 0)
		(void)close(envelope);
}

/* What deliver says, as words in the strings given: it is trusted more than we are, but a reply that is none would break the dialogue. */
static struct smtp_reply_words
reply_of(unsigned code, struct slice enhanced, struct slice text, char enhanced_r[17], char text_r[401])
{
	bool good = code >= 200 && code <= 599 && slice_cstr(enhanced, enhanced_r, 17) && slice_cstr(text, text_r, 401);

	return good ? (struct smtp_reply_words){code, enhanced_r, text_r} : later;
}

void
smtpd_on_recipient(struct edge *e, struct msg_DELIVER_RECIPIENT *m)
{
	struct front *f = ipc_waits(e, m->id);
	struct front_transaction *t = f ? &f->t : NULL;
	char enhanced[17];
	char text[401];

	/* An answer that is not the next one's is nobody's: that recipient gets what is said of the rest. */
	if (f == NULL || !f->port->lmtp || t->answered >= t->recipient_count || m->recipient != t->answered)
		return;
	struct smtp_reply_words w = reply_of(m->code, m->enhanced, m->text, enhanced, text);
	smtpd_trace(f, "outcome", LOG_STR("to", t->recipients[t->answered]), LOG_NUM("code", w.code), LOG_CSTR("text", w.text), LOG_END);
	smtpd_reply_words(f, &w);
	t->answered++;
}

void
smtpd_on_deliver(struct edge *e, struct msg_DELIVER_REPLY *m)
{
	struct front *f = smtpd_answered(e, m->id, FRONT_WAIT_DELIVER);
	char enhanced[17];
	char text[401];

	if (f == NULL)
		return;
	struct smtp_reply_words w = reply_of(m->code, m->enhanced, m->text, enhanced, text);
	if (!f->port->lmtp || f->t.answered < f->t.recipient_count)
		smtpd_trace(f, "outcome", LOG_NUM("code", m->code), LOG_STR("text", m->text), LOG_END);
	if (w.code == 421)
		smtpd_close(f, w.enhanced, w.text);
	else
		smtpd_reply_message(f, &w);
	if (f->state != FRONT_STATE_CLOSING) {
		smtpd_transaction_reset(f);
		smtpd_step(f);
	}
}

bool
smtpd_data_step(struct front *f)
{
	static uint8_t stage[STAGE_BYTES_MAX];
	struct front_data *d = &f->t.data;
	struct slice in = stream_input(f->stream);
	size_t used = 0;
	size_t out = 0;

	if (in.n == 0)
		return false;
	in = slice_sub(in, 0, FRONT_INPUT_BYTES_MAX);
	while (used < in.n && d->framer.state != SMTP_DATA_END) {
		size_t n;
		struct slice got = smtp_data_next(&d->framer, slice_sub(in, used, in.n), &n);
		used += n;
		assert(got.n <= sizeof(stage) - out);
		if (got.n > 0)
			memcpy(stage + out, got.p, got.n);
		out += got.n;
	}
	smtpd_consume(f, used);
	smtpd_data_keep(f, slice_of(stage, out), d->framer.state == SMTP_DATA_END);
	if (d->framer.state == SMTP_DATA_END)
		smtpd_data_end(f);
	else if (d->bytes > config_number(role_config(), OPT_SMTP_MESSAGE_BYTES) + FRONT_SWALLOW_BYTES_MAX)
		smtpd_close(f, "4.3.4", "Message too big");
	return true;
}
