/*
 * The opening, and what every stage needs. A reply is handled whole before the next is read, and whoever is told of something is told
 * at the very end of a step: what is called may begin the next message.
 *
 * Input behind the reply to STARTTLS cannot come from the server that will prove itself: it ends the session (RFC 3207 6).
 */
#include "smtpd/transport_session_private.h"

#include "common/mem.h"
#include "common/transfer.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

const char *
transport_stage_name(enum transport_stage s)
{
	static const char *const names[] = {[TRANSPORT_AT_CONNECT] = "connect", [TRANSPORT_AT_GREETING] = "greeting",
	    [TRANSPORT_AT_HELLO] = "hello", [TRANSPORT_AT_TLS] = "tls", [TRANSPORT_AT_MAIL] = "mail", [TRANSPORT_AT_RCPT] = "rcpt",
	    [TRANSPORT_AT_DATA] = "data", [TRANSPORT_AT_BODY] = "body", [TRANSPORT_AT_DOT] = "dot", [TRANSPORT_AT_IDLE] = "idle"};

	return names[s];
}

void
transport_failure_set(struct transport_failure *f, enum transport_stage stage, bool permanent, const char *status, const char *text)
{
	*f = (struct transport_failure){.stage = stage, .permanent = permanent};
	snprintf(f->status, sizeof f->status, "%s", status);
	snprintf(f->text, sizeof f->text, "%s", text);
}

void
session_status(const struct smtp_reply *r, char status_r[TRANSPORT_STATUS_MAX])
{
	if (r->status[0] != '\0')
		snprintf(status_r, TRANSPORT_STATUS_MAX, "%s", r->status);
	else
		snprintf(status_r, TRANSPORT_STATUS_MAX, "%c.0.0", (char)('0' + r->code / 100));
}

void
session_reply_text(const struct smtp_reply *r, char text_r[TRANSPORT_TEXT_MAX])
{
	struct buf b;
	size_t n;

	buf_init(&b, SMTP_REPLY_TEXT_MAX + TRANSPORT_TEXT_MAX);
	(void)smtp_reply_print(r, &b);
	n = b.n < TRANSPORT_TEXT_MAX ? b.n : TRANSPORT_TEXT_MAX - 1;
	memcpy(text_r, b.p, n);
	text_r[n] = '\0';
	buf_fini(&b);
}

struct transport_session *
transport_session_new(const struct transport_session_config *config, const struct transport_wire *wire, void *ctx,
    const struct transport_session_events *ev, void *arg)
{
	struct transport_session *t = MEM_NEW(struct transport_session);

	t->wire = wire;
	t->ctx = ctx;
	t->ev = ev;
	t->arg = arg;
	t->config = *config;
	if (!slice_cstr(config->helo, t->helo, sizeof t->helo))
		t->helo[0] = '\0';
	if (!slice_cstr(config->mta, t->mta, sizeof t->mta))
		t->mta[0] = '\0';
	smtp_reply_reset(&t->parser);
	buf_init(&t->recoded, SEVENBIT_WRITTEN_MAX(TRANSPORT_PIECE_BYTES));
	return t;
}

void
transport_session_free(struct transport_session **tp)
{
	struct transport_session *t = *tp;

	if (t == NULL)
		return;
	*tp = NULL;
	free(t->phases);
	free(t->recoding);
	buf_fini(&t->recoded);
	free(t);
}

bool
transport_session_idle(const struct transport_session *t)
{
	return t->state == SESSION_IDLE && !t->busy;
}

bool
transport_session_spent(const struct transport_session *t)
{
	return t->offer.mail_max > 0 && t->mails >= t->offer.mail_max;
}

void
session_write(struct transport_session *t, struct slice octets)
{
	if (!t->gone)
		t->wire->write(t->ctx, octets);
}

/* ---- the end ---- */

void
session_fail(struct transport_session *t, const struct transport_failure *why, bool quit)
{
	if (t->state == SESSION_OVER)
		return;
	if (quit)
		session_write(t, SLICE("QUIT\r\n"));
	if (t->busy)
		send_lost(t, why);
	t->state = SESSION_OVER;
	t->wire->close(t->ctx);
	if (t->busy) {
		t->busy = false;
		t->ev->on_message(t->arg, why);
	}
	if (!t->over_told) {
		t->over_told = true;
		t->ev->on_over(t->arg, why);
	}
}

/* Where TLS is required, what is said in clear may be anybody's who would like the mail to come back (RFC 7672 2.2, RFC 8461 5). */
static bool
may_be_final(const struct transport_session *t)
{
	return t->secured || t->config.tls != TRANSPORT_TLS_MUST;
}

void
session_refused(struct transport_session *t, enum transport_stage stage, const struct smtp_reply *r)
{
	struct transport_failure f = {.stage = stage, .permanent = r->code / 100 == 5 && may_be_final(t), .said = true};

	session_status(r, f.status);
	if (!f.permanent && f.status[0] == '5')
		f.status[0] = '4';
	session_reply_text(r, f.text);
	t->ev->on_reply(t->arg, stage, r, slice_of(NULL, 0));
	session_fail(t, &f, r->code != 421);
}

void
session_lost(struct transport_session *t, enum transport_stage stage, const char *why)
{
	struct transport_failure f;

	transport_failure_set(&f, stage, false, "4.4.2", why);
	session_fail(t, &f, false);
}

static enum transport_stage
stage_now(const struct transport_session *t)
{
	switch (t->state) {
	case SESSION_NEW:
		return TRANSPORT_AT_CONNECT;
	case SESSION_GREETING:
		return TRANSPORT_AT_GREETING;
	case SESSION_EHLO:
	case SESSION_HELO:
		return t->secured ? TRANSPORT_AT_TLS : TRANSPORT_AT_HELLO;
	case SESSION_STARTTLS:
	case SESSION_HANDSHAKE:
		return TRANSPORT_AT_TLS;
	case SESSION_AUTH:
	case SESSION_AUTH_USER:
	case SESSION_AUTH_PASSWORD:
		return TRANSPORT_AT_HELLO;
	default:
		return t->busy ? send_stage(t) : TRANSPORT_AT_IDLE;
	}
}

void
transport_session_ended(struct transport_session *t, const char *why, struct slice pending)
{
	struct transport_failure f;

	if (t->state == SESSION_OVER)
		return;
	/* What the server said before it went counts as if it had been read in time. */
	t->gone = true;
	(void)transport_session_input(t, pending);
	if (t->state == SESSION_OVER)
		return;
	enum transport_stage stage = stage_now(t);
	const char *status = stage == TRANSPORT_AT_CONNECT ? "4.4.1" : stage == TRANSPORT_AT_TLS ? "4.7.5" : "4.4.2";

	transport_failure_set(&f, stage, false, status, why);
	f.tls = stage == TRANSPORT_AT_TLS;
	f.idle = stage == TRANSPORT_AT_IDLE || (t->busy && t->got == 0);
	session_fail(t, &f, false);
}

void
transport_session_quit(struct transport_session *t)
{
	if (t->state == SESSION_OVER)
		return;
	t->over_told = true;
	if (t->state == SESSION_IDLE)
		session_write(t, SLICE("QUIT\r\n"));
	t->state = SESSION_OVER;
	t->wire->close(t->ctx);
}

/* ---- the opening ---- */

void
session_command(struct transport_session *t, enum session_state then, const char *line, uint64_t ms)
{
	session_write(t, slice_str(line));
	t->state = then;
	t->wire->deadline(t->ctx, ms);
}

static void
hello(struct transport_session *t, bool extended)
{
	char line[TRANSPORT_HELO_MAX + 16];

	snprintf(line, sizeof line, "%s %s\r\n", extended ? "EHLO" : "HELO", t->helo);
	session_command(t, extended ? SESSION_EHLO : SESSION_HELO, line, t->config.command_ms);
}

static void
open_for_messages(struct transport_session *t)
{
	t->state = SESSION_IDLE;
	t->ev->on_open(t->arg);
}

/* ---- login (RFC 4954) ---- */

/* Longest line: AUTH PLAIN with name and password of 255 octets each, in base64. */
#define AUTH_BYTES_MAX 1024

static void
say_base64(struct transport_session *t, const char *before, struct slice text, enum session_state then)
{
	struct buf line;

	buf_init(&line, AUTH_BYTES_MAX);
	buf_put_str(&line, before);
	if (!base64_encode(text, 0, &line) || !buf_put_str(&line, "\r\n")) {
		session_lost(t, TRANSPORT_AT_HELLO, "name or password are too long to log in with");
	} else {
		session_write(t, buf_slice(&line));
		t->state = then;
		t->wire->deadline(t->ctx, t->config.command_ms);
	}
	if (line.p != NULL)
		mem_wipe(line.p, line.n);
	buf_fini(&line);
}

static void
say_plain(struct transport_session *t)
{
	struct buf b;

	buf_init(&b, AUTH_BYTES_MAX);
	buf_put_u8(&b, 0);
	buf_put_slice(&b, t->config.user);
	buf_put_u8(&b, 0);
	buf_put_slice(&b, t->config.password);
	say_base64(t, "AUTH PLAIN ", buf_slice(&b), SESSION_AUTH);
	mem_wipe(b.p, b.n);
	buf_fini(&b);
}

static void
log_in(struct transport_session *t)
{
	struct transport_failure f;

	if (!t->secured || !t->proven)
		transport_failure_set(&f, TRANSPORT_AT_HELLO, false, "4.7.5", "the password is for a server that has proved its name");
	else if (!t->auth_plain && !t->auth_login)
		transport_failure_set(&f, TRANSPORT_AT_HELLO, false, "4.7.4", "the server offers neither AUTH PLAIN nor LOGIN");
	else if (t->auth_plain) {
		say_plain(t);
		return;
	} else {
		session_command(t, SESSION_AUTH_USER, "AUTH LOGIN\r\n", t->config.command_ms);
		return;
	}
	session_fail(t, &f, true);
}

/* A wrong password is for the operator to mend: mail waits for that. */
static void
on_auth(struct transport_session *t, const struct smtp_reply *r)
{
	struct transport_failure f;

	if (t->state == SESSION_AUTH && r->code / 100 == 2) {
		open_for_messages(t);
	} else if (t->state == SESSION_AUTH_USER && r->code == 334) {
		say_base64(t, "", t->config.user, SESSION_AUTH_PASSWORD);
	} else if (t->state == SESSION_AUTH_PASSWORD && r->code == 334) {
		say_base64(t, "", t->config.password, SESSION_AUTH);
	} else {
		transport_failure_set(&f, TRANSPORT_AT_HELLO, false, "4.7.8", "");
		f.said = true;
		session_reply_text(r, f.text);
		t->ev->on_reply(t->arg, TRANSPORT_AT_HELLO, r, slice_of(NULL, 0));
		session_fail(t, &f, r->code != 421);
	}
}

static void
ready_or_log_in(struct transport_session *t)
{
	if (t->config.user.n > 0)
		log_in(t);
	else
		open_for_messages(t);
}

static void
note_auth(struct transport_session *t)
{
	struct slice rest = t->offer.auth, one;

	t->auth_plain = t->auth_login = false;
	while (slice_cut(&rest, ' ', &one)) {
		t->auth_plain = t->auth_plain || slice_eq_nocase(one, SLICE("PLAIN"));
		t->auth_login = t->auth_login || slice_eq_nocase(one, SLICE("LOGIN"));
	}
}

static void
refuse_tls(struct transport_session *t, bool tls, const char *status, const char *text)
{
	struct transport_failure f;

	transport_failure_set(&f, TRANSPORT_AT_TLS, false, status, text);
	f.tls = tls;
	session_fail(t, &f, true);
}

static void
on_ehlo(struct transport_session *t, const struct smtp_reply *r)
{
	struct transport_failure f;

	if (r->code / 100 == 5 && !t->secured && t->config.tls != TRANSPORT_TLS_MUST) {
		hello(t, false);
		return;
	}
	if (r->code / 100 != 2) {
		session_refused(t, TRANSPORT_AT_HELLO, r);
		return;
	}
	smtp_offer_parse(r, &t->offer);
	t->esmtp = true;
	if (may_be_final(t) && slice_eq_nocase(t->offer.name, slice_str(t->helo))) {
		transport_failure_set(&f, TRANSPORT_AT_HELLO, true, "5.4.6", "mail for this domain leads back to this server");
		session_fail(t, &f, true);
		return;
	}
	note_auth(t);
	/* They point into a reply that goes. */
	t->offer.name = t->offer.auth = slice_of(NULL, 0);
	if (t->secured || t->config.tls == TRANSPORT_TLS_NONE)
		ready_or_log_in(t);
	else if (t->offer.starttls)
		session_command(t, SESSION_STARTTLS, "STARTTLS\r\n", t->config.command_ms);
	else if (t->config.tls == TRANSPORT_TLS_MAY)
		ready_or_log_in(t);
	else
		refuse_tls(t, false, "4.7.4", "TLS is required, and the server does not offer it");
}

static void
on_starttls(struct transport_session *t, const struct smtp_reply *r)
{
	if (r->code / 100 == 2) {
		t->state = SESSION_HANDSHAKE;
		t->offer = (struct smtp_offer){.size = false};
		t->wire->deadline(t->ctx, t->config.command_ms);
		if (!t->gone)
			t->wire->starttls(t->ctx);
	} else if (r->code == 421 || t->config.tls == TRANSPORT_TLS_MUST) {
		struct transport_failure f = {.stage = TRANSPORT_AT_TLS, .tls = true, .said = true};

		snprintf(f.status, sizeof f.status, "4.7.4");
		session_reply_text(r, f.text);
		t->ev->on_reply(t->arg, TRANSPORT_AT_TLS, r, slice_of(NULL, 0));
		session_fail(t, &f, r->code != 421);
	} else {
		t->ev->on_reply(t->arg, TRANSPORT_AT_TLS, r, slice_of(NULL, 0));
		ready_or_log_in(t);
	}
}

void
transport_session_begin(struct transport_session *t)
{
	assert(t->state == SESSION_NEW);
	t->state = SESSION_GREETING;
	t->wire->deadline(t->ctx, t->config.command_ms);
}

void
transport_session_begin_secured(struct transport_session *t, bool proven)
{
	t->secured = true;
	t->proven = proven;
	transport_session_begin(t);
}

void
transport_session_secured(struct transport_session *t, bool proven)
{
	if (t->state != SESSION_HANDSHAKE)
		return;
	t->secured = true;
	t->proven = proven;
	smtp_reply_reset(&t->parser);
	hello(t, true);
}

static void
on_reply(struct transport_session *t, const struct smtp_reply *r)
{
	switch (t->state) {
	case SESSION_GREETING:
		if (r->code / 100 == 2)
			hello(t, true);
		else
			session_refused(t, TRANSPORT_AT_GREETING, r);
		break;
	case SESSION_EHLO:
		on_ehlo(t, r);
		break;
	case SESSION_HELO:
		if (r->code / 100 == 2)
			ready_or_log_in(t);
		else
			session_refused(t, TRANSPORT_AT_HELLO, r);
		break;
	case SESSION_STARTTLS:
		on_starttls(t, r);
		break;
	case SESSION_AUTH:
	case SESSION_AUTH_USER:
	case SESSION_AUTH_PASSWORD:
		on_auth(t, r);
		break;
	case SESSION_NEW:
	case SESSION_HANDSHAKE:
	case SESSION_IDLE:
		if (r->code == 421)
			session_refused(t, TRANSPORT_AT_IDLE, r);
		else
			session_lost(t, TRANSPORT_AT_IDLE, "a reply to nothing");
		break;
	default:
		send_step(t, r);
		break;
	}
}

/* One reply out of in, and what it leads to; gives the octets used. */
static size_t
input_step(struct transport_session *t, struct slice in)
{
	size_t used;
	int result = smtp_reply_feed(&t->parser, in, &used);

	if (result < 0) {
		session_lost(t, stage_now(t), t->parser.broken);
		return in.n;
	}
	if (result == 0)
		return in.n;
	if (t->state == SESSION_STARTTLS && t->parser.reply.code / 100 == 2 && used < in.n) {
		refuse_tls(t, true, "4.7.5", "octets in clear behind the reply to STARTTLS");
		return in.n;
	}
	on_reply(t, &t->parser.reply);
	smtp_reply_reset(&t->parser);
	return used;
}

size_t
transport_session_input(struct transport_session *t, struct slice in)
{
	size_t used = 0;

	while (used < in.n && t->state != SESSION_OVER && t->state != SESSION_HANDSHAKE)
		used += input_step(t, slice_sub(in, used, in.n));
	return t->state == SESSION_OVER ? in.n : used;
}

void
transport_session_writable(struct transport_session *t)
{
	if (t->state == SESSION_BODY)
		send_step(t, NULL);
}
