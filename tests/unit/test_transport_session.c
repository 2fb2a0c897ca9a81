/*
 * The client's dialogue, with both its sides played: a script of lines that the server says (S:) and the client must say (C:), and what
 * must have come of each recipient in the end. Every script runs with the server's octets in one piece a line, one by one, and as
 * many lines at once as there are before the client's next.
 */
#include "common/memfd.h"
#include "smtpd/transport_body.h"
#include "smtpd/transport_session.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define LINES_MAX 64
#define RECIPIENTS_MAX 260

struct row {
	const char *name;
	const char *script[LINES_MAX];
	const char *recipients; /* separated by spaces; NULL: one, r1@x.example */
	const char *outcome;	/* of each: "done 2.0.0", ...; "-": undecided */
	const char *rest;	/* "stage status" of what is left undecided; NULL: nothing is */
	const char *over;	/* the same of the session; NULL: not looked at */
	const char *message;	/* NULL: the usual one */
	const char *mail_from;	/* NULL: s@me.example */
	unsigned recoded;	/* bodies encoded */
	uint8_t flags;
	int8_t priority;
	enum transport_tls tls;
	bool unproven;
	const char *user;
};

static const char usual[] = "Subject: x\r\n\r\n.dot\r\ntext\r\n";

struct play {
	const struct row *row;
	struct transport_session *session;
	struct buf out;
	struct slice said; /* of out, not compared yet */
	struct queue_item item;
	struct queue_recipient recipients[RECIPIENTS_MAX];
	struct transport_outcome outcomes[RECIPIENTS_MAX];
	struct transport_message message;
	char rest[64], over[64];
	unsigned dots, messages, opens, overs, recoded;
	size_t said_at;
	bool closed, tls, taken, refused;
	int fd;
	unsigned want_messages;
};

static void
play_write(void *ctx, struct slice octets)
{
	struct play *p = ctx;

	ck_assert_msg(!p->closed, "%s: written after the end", p->row->name);
	ck_assert(buf_put_slice(&p->out, octets));
}

static bool
play_full(void *ctx)
{
	(void)ctx;
	return false;
}

static void
play_starttls(void *ctx)
{
	((struct play *)ctx)->tls = true;
}

static void
play_deadline(void *ctx, uint64_t ms)
{
	(void)ctx;
	ck_assert_uint_gt(ms, 0);
}

static void
play_deadline_of_piece(void *ctx, uint64_t ms, uint64_t total_ms)
{
	(void)ctx;
	ck_assert(total_ms >= ms);
}

static void
play_close(void *ctx)
{
	struct play *p = ctx;

	ck_assert(!p->closed);
	p->closed = true;
}

static void
failure_text(const struct transport_failure *f, char text_r[64])
{
	snprintf(text_r, 64, "%s %s%s%s%s", transport_stage_name(f->stage), f->status, f->permanent ? " permanent" : "", f->tls ? " tls" : "",
	    f->idle ? " idle" : "");
}

static void
take(struct play *p)
{
	struct transport_failure why;

	if (transport_session_take(p->session, &p->message, &why)) {
		p->taken = true;
		return;
	}
	p->refused = true;
	failure_text(&why, p->rest);
	ck_assert(transport_session_idle(p->session));
	transport_session_quit(p->session);
}

static void
on_open(void *arg)
{
	struct play *p = arg;

	p->opens++;
	take(p);
}

static void
on_dot(void *arg)
{
	((struct play *)arg)->dots++;
}

static void
on_message(void *arg, const struct transport_failure *rest)
{
	struct play *p = arg;

	p->messages++;
	if (rest != NULL)
		failure_text(rest, p->rest);
	if (p->messages < p->want_messages && transport_session_idle(p->session)) {
		memset(p->outcomes, 0, sizeof p->outcomes);
		take(p);
	}
}

static void
on_over(void *arg, const struct transport_failure *why)
{
	struct play *p = arg;

	p->overs++;
	failure_text(why, p->over);
}

static void
on_recoded(void *arg, unsigned bodies)
{
	((struct play *)arg)->recoded += bodies;
}

static void
on_reply(void *arg, enum transport_stage stage, const struct smtp_reply *reply, struct slice recipient)
{
	(void)arg;
	(void)stage;
	(void)recipient;
	ck_assert_uint_ge(reply->code, 200);
}

static const struct transport_wire wire = {
    .write = play_write, .full = play_full, .starttls = play_starttls, .deadline = play_deadline,
    .deadline_of_piece = play_deadline_of_piece, .close = play_close};
static const struct transport_session_events events = {
    .on_open = on_open, .on_dot = on_dot, .on_message = on_message, .on_over = on_over, .on_recoded = on_recoded, .on_reply = on_reply};

static void
play_recipients(struct play *p, const char *text)
{
	struct slice rest = slice_str(text), one;

	p->item.count = 0;
	while (slice_cut(&rest, ' ', &one)) {
		struct queue_recipient *r = &p->recipients[p->item.count++];

		ck_assert_uint_le(p->item.count, RECIPIENTS_MAX);
		*r = (struct queue_recipient){.sequence = p->item.count, .state = QUEUE_PENDING, .address = one, .notify = SMTP_NOTIFY_FAILURE | SMTP_NOTIFY_DELAY,
		    .orcpt = SLICE("rfc822;o@x.example")};
	}
	p->item.recipients = p->recipients;
}

static void
play_begin(struct play *p, const struct row *row)
{
	const char *message = row->message != NULL ? row->message : usual;
	struct buf b;
	struct err e;

	memset(p, 0, sizeof *p);
	p->row = row;
	buf_init(&p->out, 4u << 20);
	p->item = (struct queue_item){.mail_from = slice_str(row->mail_from != NULL ? row->mail_from : "s@me.example"), .flags = row->flags, .priority = row->priority,
	    .ret = SMTP_RET_HDRS, .envid = SLICE("e+3Did")};
	play_recipients(p, row->recipients != NULL ? row->recipients : "r1@x.example");
	buf_init(&b, 1u << 20);
	buf_put_str(&b, "Return-Path: <>\r\n");
	p->message.from = b.n;
	buf_put_str(&b, message);
	p->message.to = b.n;
	p->fd = memfd_of(buf_slice(&b), &e);
	ck_assert_int_ge(p->fd, 0);
	buf_fini(&b);
	p->message.fd = p->fd;
	p->message.item = &p->item;
	p->message.outcomes = p->outcomes;
	const struct transport_session_config config = {.helo = SLICE("me.example"), .mta = SLICE("mx[192.0.2.1]"), .tls = row->tls,
	    .mx_proven = true, .user = slice_str(row->user), .password = SLICE("secret"), .command_ms = 1, .data_ms = 1, .data_rate = 1, .dot_ms = 1};

	p->want_messages = 1;
	p->session = transport_session_new(&config, &wire, p, &events, p);
	transport_session_begin(p->session);
}

static void
feed(struct play *p, struct slice in, size_t step)
{
	struct buf held;

	buf_init(&held, 1u << 20);
	for (size_t at = 0; at < in.n; at += step) {
		buf_put_slice(&held, slice_sub(in, at, at + step));
		buf_drop(&held, transport_session_input(p->session, buf_slice(&held)));
	}
	ck_assert_msg(held.n == 0, "%s: %zu octets not used", p->row->name, held.n);
	buf_fini(&held);
}

static void
expect_line(struct play *p, const char *want)
{
	char text[4096];
	struct slice left = slice_of(p->out.p + p->said_at, p->out.n - p->said_at);
	size_t n = slice_find(left, SLICE("\r\n"));

	ck_assert_msg(n < left.n, "%s: nothing said, not \"%s\"", p->row->name, want);
	ck_assert(slice_cstr(slice_sub(left, 0, n), text, sizeof text));
	ck_assert_msg(strcmp(text, want) == 0, "%s: \"%s\" instead of \"%s\"", p->row->name, text, want);
	p->said_at += n + 2;
}

static void
event_line(struct play *p, const char *what)
{
	if (strcmp(what, "close") == 0) {
		transport_session_ended(p->session, "the connection was closed", slice_of(NULL, 0));
	} else if (strcmp(what, "tls") == 0) {
		ck_assert(p->tls);
		transport_session_secured(p->session, !p->row->unproven);
	} else if (strncmp(what, "close ", 6) == 0) {
		transport_session_ended(p->session, "reset", slice_str(what + 6));
	} else {
		ck_abort_msg("%s", what);
	}
}

static void
play_script(struct play *p, size_t step, bool together)
{
	struct buf held;

	buf_init(&held, 1u << 20);
	for (unsigned i = 0; i < LINES_MAX && p->row->script[i] != NULL; i++) {
		const char *line = p->row->script[i];
		const char *next = i + 1 < LINES_MAX ? p->row->script[i + 1] : NULL;

		if (line[0] == 'C') {
			expect_line(p, line + 2);
		} else if (line[0] == '!') {
			event_line(p, line + 2);
		} else {
			buf_put_str(&held, line + 2);
			buf_put_str(&held, "\r\n");
			if (together && next != NULL && next[0] == 'S')
				continue;
			feed(p, buf_slice(&held), step > 0 ? step : held.n);
			buf_reset(&held);
		}
	}
	buf_fini(&held);
}

static void
compare(struct play *p)
{
	const struct row *w = p->row;
	struct slice rest = slice_str(w->outcome), want;

	ck_assert_msg(p->said_at == p->out.n, "%s: also said \"%.*s\"", w->name, (int)(p->out.n - p->said_at), (char *)p->out.p + p->said_at);
	for (unsigned i = 0; slice_cut(&rest, ',', &want); i++) {
		const struct transport_outcome *o = &p->outcomes[i];
		char text[64] = "-";

		ck_assert_uint_lt(i, p->item.count);
		if (o->decided)
			snprintf(text, sizeof text, "%s %s%s", queue_state_name(o->state), o->status, o->unsure ? " unsure" : "");
		ck_assert_msg(slice_eq(slice_str(text), want), "%s: recipient %u: \"%s\", not \"%.*s\" (%s)", w->name, i, text, SLICE_ARG(want), o->text);
	}
	ck_assert_msg(strcmp(p->rest, w->rest != NULL ? w->rest : "") == 0, "%s: rest \"%s\"", w->name, p->rest);
	ck_assert_msg(p->messages == (p->taken ? 1 : 0), "%s: %u messages", w->name, p->messages);
	ck_assert_msg(p->recoded == w->recoded, "%s: %u bodies encoded", w->name, p->recoded);
	ck_assert_uint_le(p->overs, 1);
	if (w->over != NULL)
		ck_assert_msg(strcmp(p->over, w->over) == 0, "%s: over \"%s\"", w->name, p->over);
}

static void
run(const struct row *w, size_t step, bool together)
{
	static struct play p;

	play_begin(&p, w);
	play_script(&p, step, together);
	compare(&p);
	transport_session_free(&p.session);
	buf_fini(&p.out);
	close(p.fd);
}

#define HELLO "S:220 mx.example ESMTP", "C:EHLO me.example"
#define PLAIN HELLO, "S:250 mx.example"
#define PIPE HELLO, "S:250-mx.example", "S:250 PIPELINING"
#define MAIL "C:MAIL FROM:<s@me.example>"
#define RCPT1 "C:RCPT TO:<r1@x.example>"
#define BODY "C:Subject: x", "C:", "C:..dot", "C:text", "C:."

#define TWENTY "12345678901234567890"
#define HUNDRED TWENTY TWENTY TWENTY TWENTY TWENTY
#define LONG HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED

static const struct row rows[] = {
    {.name = "plain", .script = {PLAIN, MAIL, "S:250 ok", RCPT1, "S:250 ok", "C:DATA", "S:354 go", BODY, "S:250 2.0.0 taken"}, .outcome = "done 2.0.0"},
    {.name = "pipelined", .script = {PIPE, MAIL, RCPT1, "C:DATA", "S:250 ok", "S:250 ok", "S:354 go", BODY, "S:250 taken"}, .outcome = "done 2.0.0"},
    {.name = "HELO", .script = {HELLO, "S:502 what", "C:HELO me.example", "S:250 mx", MAIL, "S:250 ok", RCPT1, "S:251 forwards", "C:DATA", "S:354 go", BODY, "S:250 ok"},
	.outcome = "done 2.0.0"},
    {.name = "greeting 421", .script = {"S:421 4.3.2 busy"}, .outcome = "-"},
    {.name = "greeting 554", .script = {"S:554 no SMTP here", "C:QUIT"}, .outcome = "-"},
    {.name = "EHLO 421", .script = {HELLO, "S:421 busy"}, .outcome = "-"},
    {.name = "HELO 550", .script = {HELLO, "S:500 what", "C:HELO me.example", "S:550 5.7.1 no", "C:QUIT"}, .outcome = "-"},
    {.name = "EHLO 450", .script = {HELLO, "S:450 later", "C:QUIT"}, .outcome = "-"},
    {.name = "no SMTP", .script = {"S:HTTP/1.1 400 what"}, .outcome = "-"},
    {.name = "ourselves", .script = {HELLO, "S:250-ME.example hi", "S:250 SIZE", "C:QUIT"}, .outcome = "-"},
    {.name = "extensions", .script = {HELLO, "S:250-mx.example", "S:250-PIPELINING", "S:250-SIZE 1000", "S:250-8BITMIME", "S:250-DSN", "S:250-SMTPUTF8", "S:250 X",
	"C:MAIL FROM:<s@me.example> SIZE=26 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=e+3Did",
	"C:RCPT TO:<r1@x.example> NOTIFY=FAILURE,DELAY ORCPT=rfc822;o@x.example", "C:DATA", "S:250 ok", "S:250 ok", "S:354 go", BODY, "S:250 2.6.0 ok"},
	.flags = QUEUE_SMTPUTF8 | QUEUE_EIGHTBIT, .outcome = "done 2.6.0"},
    {.name = "priority", .script = {HELLO, "S:250-mx.example", "S:250 MT-PRIORITY MIXER", "C:MAIL FROM:<s@me.example> MT-PRIORITY=-9", "!:close"},
	.priority = -9, .outcome = "-", .rest = "mail 4.4.2 idle"},
    {.name = "no priority", .script = {HELLO, "S:250-mx.example", "S:250 MT-PRIORITY", "C:MAIL FROM:<s@me.example> MT-PRIORITY=0", "!:close"}, .outcome = "-",
	.rest = "mail 4.4.2 idle"},
    {.name = "priority, not offered", .script = {PLAIN, MAIL, "!:close"}, .priority = 9, .outcome = "-", .rest = "mail 4.4.2 idle"},
    {.name = "too large", .script = {HELLO, "S:250-mx.example", "S:250 SIZE 25", "C:QUIT"}, .outcome = "-", .rest = "mail 5.3.4 permanent"},
    {.name = "large enough", .script = {HELLO, "S:250-mx.example", "S:250 SIZE 26", "C:MAIL FROM:<s@me.example> SIZE=26", "!:close"}, .outcome = "-",
	.rest = "mail 4.4.2 idle"},
    {.name = "null path", .script = {PLAIN, "C:MAIL FROM:<>", "S:250 ok", RCPT1, "S:250 ok", "C:DATA", "S:354 go", BODY, "S:250 ok"}, .mail_from = "", .outcome = "done 2.0.0"},
    /* MAIL */
    {.name = "MAIL 550", .script = {PLAIN, MAIL, "S:550 5.7.1 not you", "C:RSET", "S:250 ok"}, .recipients = "a@x b@x", .outcome = "failed 5.7.1,failed 5.7.1"},
    {.name = "MAIL 451", .script = {PLAIN, MAIL, "S:451 later", "C:RSET", "S:250 ok"}, .outcome = "pending 4.0.0"},
    {.name = "MAIL 421", .script = {PLAIN, MAIL, "S:421 4.7.0 bye"}, .outcome = "-", .rest = "mail 4.7.0"},
    {.name = "MAIL lost", .script = {PLAIN, MAIL, "!:close"}, .outcome = "-", .rest = "mail 4.4.2 idle"},
    {.name = "MAIL refused, pipelined", .script = {PIPE, MAIL, RCPT1, "C:DATA", "S:550 no", "S:503 x", "S:503 x", "C:RSET", "S:250 ok"}, .outcome = "failed 5.0.0"},
    {.name = "MAIL refused, 354", .script = {PIPE, MAIL, RCPT1, "C:DATA", "S:450 no", "S:503 x", "S:354 x", "C:.", "S:554 no", }, .outcome = "pending 4.0.0"},
    {.name = "MAIL refused, the rest taken", .script = {PIPE, MAIL, RCPT1, "C:DATA", "S:450 no", "S:250 x", "S:354 x"}, .outcome = "pending 4.0.0", .rest = "data 4.4.2"},
    {.name = "MAIL 354", .script = {PLAIN, MAIL, "S:354 what", "C:RSET", "S:250 ok"}, .outcome = "pending 3.0.0"},
    /* RCPT */
    {.name = "RCPT each its own", .script = {PLAIN, MAIL, "S:250 ok", "C:RCPT TO:<a@x>", "S:550 5.1.1 who", "C:RCPT TO:<b@x>", "S:250 ok", "C:RCPT TO:<c@x>", "S:450 4.2.1 grey",
	"C:DATA", "S:354 go", BODY, "S:250 ok"}, .recipients = "a@x b@x c@x", .outcome = "failed 5.1.1,done 2.0.0,pending 4.2.1"},
    {.name = "all refused", .script = {PLAIN, MAIL, "S:250 ok", RCPT1, "S:550 no", "C:RSET", "S:250 ok"}, .outcome = "failed 5.0.0"},
    {.name = "all refused, pipelined", .script = {PIPE, MAIL, RCPT1, "C:DATA", "S:250 ok", "S:550 5.1.1 no", "S:554 no recipients", "C:RSET", "S:250 ok"}, .outcome = "failed 5.1.1"},
    {.name = "all refused, but 354", .script = {PIPE, MAIL, RCPT1, "C:DATA", "S:250 ok", "S:550 5.1.1 no", "S:354 go", "C:.", "S:250 ok"}, .outcome = "failed 5.1.1"},
    {.name = "RCPT 421", .script = {PLAIN, MAIL, "S:250 ok", "C:RCPT TO:<a@x>", "S:550 no", "C:RCPT TO:<b@x>", "S:421 bye"}, .recipients = "a@x b@x",
	.outcome = "failed 5.0.0,-", .rest = "rcpt 4.0.0"},
    {.name = "RCPT lost", .script = {PLAIN, MAIL, "S:250 ok", RCPT1, "!:close"}, .outcome = "-", .rest = "rcpt 4.4.2"},
    {.name = "too many", .script = {PIPE, MAIL, "C:RCPT TO:<a@x>", "C:RCPT TO:<b@x>", "C:DATA", "S:250 ok", "S:250 ok", "S:452 4.5.3 too many", "S:354 go", BODY, "S:250 ok",
	MAIL, "C:RCPT TO:<b@x>", "C:DATA", "S:250 ok", "S:250 ok", "S:354 go", BODY, "S:250 2.9.9 ok"}, .recipients = "a@x b@x", .outcome = "done 2.0.0,done 2.9.9"},
    {.name = "too many at once", .script = {PLAIN, MAIL, "S:250 ok", RCPT1, "S:452 4.5.3 too many", "C:RSET", "S:250 ok"}, .outcome = "pending 4.5.3"},
    {.name = "RCPTMAX", .script = {HELLO, "S:250-x", "S:250-PIPELINING", "S:250 LIMITS RCPTMAX=1", MAIL, "C:RCPT TO:<a@x>", "C:DATA", "S:250 ok", "S:250 ok", "S:354 go", BODY, "S:250 ok",
	MAIL, "C:RCPT TO:<b@x>", "C:DATA", "S:250 ok", "S:250 ok", "S:354 go", BODY, "S:250 2.9.9 ok"}, .recipients = "a@x b@x", .outcome = "done 2.0.0,done 2.9.9"},
    {.name = "mailbox full", .script = {PLAIN, MAIL, "S:250 ok", "C:RCPT TO:<a@x>", "S:250 ok", "C:RCPT TO:<b@x>", "S:552 5.2.2 full", "C:DATA", "S:354 go", BODY, "S:250 ok"},
	.recipients = "a@x b@x", .outcome = "done 2.0.0,failed 5.2.2"},
    /* DATA */
    {.name = "DATA 451", .script = {PLAIN, MAIL, "S:250 ok", RCPT1, "S:250 ok", "C:DATA", "S:451 4.3.0 no", "C:RSET", "S:250 ok"}, .outcome = "pending 4.3.0"},
    {.name = "DATA 550", .script = {PLAIN, MAIL, "S:250 ok", RCPT1, "S:250 ok", "C:DATA", "S:554 5.7.1 no", "C:RSET", "S:250 ok"}, .outcome = "failed 5.7.1"},
    {.name = "DATA 250", .script = {PLAIN, MAIL, "S:250 ok", RCPT1, "S:250 ok", "C:DATA", "S:250 what"}, .outcome = "-", .rest = "data 4.4.2"},
    {.name = "DATA 421", .script = {PLAIN, MAIL, "S:250 ok", RCPT1, "S:250 ok", "C:DATA", "S:421 x"}, .outcome = "-", .rest = "data 4.0.0"},
    {.name = "DATA lost", .script = {PLAIN, MAIL, "S:250 ok", RCPT1, "S:250 ok", "C:DATA", "!:close"}, .outcome = "-", .rest = "data 4.4.2"},
    {.name = "dot 451", .script = {PLAIN, MAIL, "S:250 ok", RCPT1, "S:250 ok", "C:DATA", "S:354 go", BODY, "S:451 4.3.1 full"}, .outcome = "pending 4.3.1"},
    {.name = "dot 554", .script = {PLAIN, MAIL, "S:250 ok", RCPT1, "S:250 ok", "C:DATA", "S:354 go", BODY, "S:554 5.7.1 spam"}, .outcome = "failed 5.7.1"},
    {.name = "dot 421", .script = {PLAIN, MAIL, "S:250 ok", RCPT1, "S:250 ok", "C:DATA", "S:354 go", BODY, "S:421 4.3.2 bye"}, .outcome = "pending 4.3.2", .rest = "dot 4.3.2"},
    {.name = "dot 354", .script = {PLAIN, MAIL, "S:250 ok", RCPT1, "S:250 ok", "C:DATA", "S:354 go", BODY, "S:354 go"}, .outcome = "pending 4.4.2 unsure", .rest = "dot 4.4.2"},
    {.name = "dot lost", .script = {PLAIN, MAIL, "S:250 ok", RCPT1, "S:250 ok", "C:DATA", "S:354 go", BODY, "!:close"}, .outcome = "pending 4.4.2 unsure", .rest = "dot 4.4.2"},
    {.name = "dot garbage", .script = {PLAIN, MAIL, "S:250 ok", RCPT1, "S:250 ok", "C:DATA", "S:354 go", BODY, "S:ok"}, .outcome = "pending 4.4.2 unsure", .rest = "dot 4.4.2"},
    {.name = "RSET 500", .script = {PLAIN, MAIL, "S:550 no", "C:RSET", "S:500 what"}, .outcome = "failed 5.0.0", .rest = "idle 4.4.2"},
    /* the message */
    {.name = "no line end", .script = {PLAIN, MAIL, "S:250 ok", RCPT1, "S:250 ok", "C:DATA", "S:354 go", "C:a", "C:", "C:x", "C:.", "S:250 ok"}, .message = "a\r\n\r\nx", .outcome = "done 2.0.0"},
    {.name = "smuggling", .script = {HELLO, "S:250-x", "S:250 8BITMIME", MAIL, "S:250 ok", RCPT1, "S:250 ok", "C:DATA", "S:354 go", "C:a", "C:", "C:b", "C:..", "C:c", "C:..", "C:MAIL", "C:.", "S:250 ok"},
	.message = "a\r\n\r\nb\n.\nc\r.\r\nMAIL\r\n", .outcome = "done 2.0.0"},
    {.name = "empty", .script = {PLAIN, MAIL, "S:250 ok", RCPT1, "S:250 ok", "C:DATA", "S:354 go", "C:.", "S:250 ok"}, .message = "", .outcome = "done 2.0.0"},
    {.name = "BDAT", .script = {HELLO, "S:250-x", "S:250-CHUNKING", "S:250 PIPELINING", MAIL, RCPT1, "S:250 ok", "S:250 ok", "C:BDAT 26 LAST", "C:Subject: x", "C:", "C:.dot", "C:text",
	"S:250 ok"}, .outcome = "done 2.0.0"},
    {.name = "BDAT, one by one", .script = {HELLO, "S:250-x", "S:250 CHUNKING", MAIL, "S:250 ok", RCPT1, "S:250 ok", "C:BDAT 26 LAST", "C:Subject: x", "C:", "C:.dot", "C:text",
	"S:554 no", "C:RSET", "S:250 ok"}, .outcome = "failed 5.0.0"},
    {.name = "BDAT, not now", .script = {HELLO, "S:250-x", "S:250 CHUNKING", MAIL, "S:250 ok", RCPT1, "S:250 ok", "C:BDAT 26 LAST", "C:Subject: x", "C:", "C:.dot", "C:text",
	"S:450 no", "C:RSET", "S:250 ok"}, .outcome = "pending 4.0.0"},
    {.name = "BDAT, all refused", .script = {HELLO, "S:250-x", "S:250-CHUNKING", "S:250 PIPELINING", MAIL, RCPT1, "S:250 ok", "S:550 no", "C:RSET", "S:250 ok"}, .outcome = "failed 5.0.0"},
    {.name = "BDAT, empty", .script = {HELLO, "S:250-x", "S:250 CHUNKING", MAIL, "S:250 ok", RCPT1, "S:250 ok", "C:BDAT 0 LAST", "S:250 ok"}, .message = "", .outcome = "done 2.0.0"},
    {.name = "BINARYMIME", .script = {HELLO, "S:250-x", "S:250-CHUNKING", "S:250 BINARYMIME", "C:MAIL FROM:<s@me.example> BODY=BINARYMIME", "S:250 ok", RCPT1, "S:250 ok",
	"C:BDAT 26 LAST", "C:Subject: x", "C:", "C:.dot", "C:text", "S:250 ok"}, .flags = QUEUE_BINARY, .outcome = "done 2.0.0"},
    {.name = "no BINARYMIME", .script = {HELLO, "S:250-x", "S:250-SIZE", "S:250-8BITMIME", "S:250 CHUNKING", "C:MAIL FROM:<s@me.example> SIZE=62", "S:250 ok", RCPT1,
	"S:250 ok", "C:BDAT 62 LAST", "C:Content-Transfer-Encoding: base64", "C:MIME-Version: 1.0", "C:", "C:YQ1i", "S:250 ok"}, .flags = QUEUE_BINARY,
	.message = "MIME-Version: 1.0\r\n\r\na\rb", .recoded = 1, .outcome = "done 2.0.0"},
    {.name = "no BINARYMIME, signed", .script = {HELLO, "S:250-x", "S:250 8BITMIME", "C:QUIT"}, .flags = QUEUE_BINARY,
	.message = "Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\na\rb\r\n--b--\r\n", .outcome = "-", .rest = "mail 5.6.3 permanent"},
    {.name = "8 bit to 7 bit", .script = {PLAIN, MAIL, "S:250 ok", RCPT1, "S:250 ok", "C:DATA", "S:354 go", "C:Content-Transfer-Encoding: quoted-printable",
	"C:MIME-Version: 1.0", "C:", "C:..a line =C3=A9", "C:.", "S:250 ok"}, .flags = QUEUE_EIGHTBIT,
	.message = "MIME-Version: 1.0\r\n\r\n.a line \xc3\xa9\r\n", .recoded = 1, .outcome = "done 2.0.0"},
    {.name = "8 bit to 7 bit, not announced", .script = {PLAIN, MAIL, "S:250 ok", RCPT1, "S:250 ok", "C:DATA", "S:354 go", "C:MIME-Version: 1.0",
	"C:Content-Transfer-Encoding: quoted-printable", "C:a: b", "C:", "C:a line =C3=A9", "C:.", "S:250 ok"},
	.message = "a: b\r\n\r\na line \xc3\xa9\r\n", .recoded = 1, .outcome = "done 2.0.0"},
    {.name = "8 bit to 7 bit, too large then", .script = {HELLO, "S:250-x", "S:250 SIZE 60", "C:QUIT"}, .flags = QUEUE_EIGHTBIT,
	.message = "a: b\r\n\r\na line \xc3\xa9\r\n", .outcome = "-", .rest = "mail 5.3.4 permanent"},
    {.name = "8 bit to 7 bit, part of a message", .script = {PLAIN, "C:QUIT"}, .flags = QUEUE_EIGHTBIT,
	.message = "Content-Type: message/partial\r\n\r\n\xc3\xa9\r\n", .outcome = "-", .rest = "mail 5.6.3 permanent"},
    {.name = "8 bit in a header", .script = {PLAIN, "C:QUIT"}, .flags = QUEUE_EIGHTBIT, .message = "a: \xe9\r\n\r\n", .outcome = "-",
	.rest = "mail 5.6.3 permanent"},
    {.name = "7 bit with a line that is too long", .script = {PLAIN, MAIL, "!:close"}, .message = "a: " LONG "\r\n\r\n", .outcome = "-", .rest = "mail 4.4.2 idle"},
    {.name = "8 bit announced only", .script = {PLAIN, MAIL, "!:close"}, .flags = QUEUE_EIGHTBIT, .outcome = "-", .rest = "mail 4.4.2 idle"},
    {.name = "UTF-8 header", .script = {HELLO, "S:250-x", "S:250 8BITMIME", "C:QUIT"}, .flags = QUEUE_SMTPUTF8, .message = "a: \xc3\xa9\r\n\r\nx\r\n", .outcome = "-",
	.rest = "mail 5.6.7 permanent"},
    {.name = "UTF-8 body only", .script = {HELLO, "S:250-x", "S:250 8BITMIME", "C:MAIL FROM:<s@me.example> BODY=8BITMIME", "!:close"}, .flags = QUEUE_SMTPUTF8,
	.message = "a: b\r\n\r\n\xc3\xa9\r\n", .outcome = "-", .rest = "mail 4.4.2 idle"},
    {.name = "UTF-8 sender", .script = {PLAIN, "C:QUIT"}, .flags = QUEUE_SMTPUTF8, .mail_from = "\xc3\xa9@me.example", .outcome = "-", .rest = "mail 5.6.7 permanent"},
    {.name = "UTF-8 domains", .script = {PLAIN, "C:MAIL FROM:<s@xn--9ca.example>", "S:250 ok", "C:RCPT TO:<r@xn--9ca.example>", "S:250 ok", "C:DATA", "S:354 go", BODY, "S:250 ok"},
	.flags = QUEUE_SMTPUTF8, .mail_from = "s@\xc3\xa9.example", .recipients = "r@\xc3\xa9.example", .outcome = "done 2.0.0"},
    {.name = "UTF-8 of one recipient", .script = {PLAIN, MAIL, "S:250 ok", RCPT1, "S:250 ok", "C:DATA", "S:354 go", BODY, "S:250 ok"}, .flags = QUEUE_SMTPUTF8,
	.recipients = "\xc3\xa9@x.example r1@x.example", .outcome = "-,done 2.0.0", .rest = "mail 5.6.7 permanent"},
    {.name = "an address with a line end", .script = {PLAIN, MAIL, "S:250 ok", RCPT1, "S:250 ok", "C:DATA", "S:354 go", BODY, "S:250 ok"},
	.recipients = "a\r\nRSET@x r1@x.example", .outcome = "failed 5.1.3,done 2.0.0"},
    /* TLS */
    {.name = "STARTTLS", .tls = TRANSPORT_TLS_MAY, .script = {HELLO, "S:250-x", "S:250-STARTTLS", "S:250 SIZE", "C:STARTTLS", "S:220 go", "!:tls", "C:EHLO me.example", "S:250-x", "S:250 PIPELINING",
	MAIL, RCPT1, "C:DATA", "S:250 ok", "S:250 ok", "S:354 go", BODY, "S:250 ok"}, .outcome = "done 2.0.0"},
    {.name = "STARTTLS not offered", .tls = TRANSPORT_TLS_MAY, .script = {PLAIN, MAIL, "!:close"}, .outcome = "-", .rest = "mail 4.4.2 idle"},
    {.name = "STARTTLS refused", .tls = TRANSPORT_TLS_MAY, .script = {HELLO, "S:250-x", "S:250 STARTTLS", "C:STARTTLS", "S:454 no", MAIL, "!:close"}, .outcome = "-", .rest = "mail 4.4.2 idle"},
    {.name = "STARTTLS refused, required", .tls = TRANSPORT_TLS_MUST, .script = {HELLO, "S:250-x", "S:250 STARTTLS", "C:STARTTLS", "S:454 no", "C:QUIT"}, .outcome = "-"},
    {.name = "STARTTLS missing, required", .tls = TRANSPORT_TLS_MUST, .script = {HELLO, "S:250 x", "C:QUIT"}, .outcome = "-"},
    {.name = "no EHLO, required", .tls = TRANSPORT_TLS_MUST, .script = {HELLO, "S:500 x", "C:QUIT"}, .outcome = "-"},
    /* Said in clear it is nobody's word. */
    {.name = "refused in clear, required", .tls = TRANSPORT_TLS_MUST, .script = {"S:554 5.7.1 go away", "C:QUIT"}, .outcome = "-", .over = "greeting 4.7.1"},
    {.name = "refused in clear", .tls = TRANSPORT_TLS_MAY, .script = {"S:554 5.7.1 go away", "C:QUIT"}, .outcome = "-", .over = "greeting 5.7.1 permanent"},
    {.name = "EHLO refused in clear, required", .tls = TRANSPORT_TLS_MUST, .script = {HELLO, "S:550 5.7.1 x", "C:QUIT"}, .outcome = "-", .over = "hello 4.7.1"},
    {.name = "a loop in clear, required", .tls = TRANSPORT_TLS_MUST, .script = {HELLO, "S:250-me.example", "S:250 STARTTLS", "C:STARTTLS", "S:220 go", "!:tls",
	"C:EHLO me.example", "S:250 me.example", "C:QUIT"}, .outcome = "-", .over = "hello 5.4.6 permanent"},
    {.name = "a loop in clear, no TLS, required", .tls = TRANSPORT_TLS_MUST, .script = {HELLO, "S:250 me.example", "C:QUIT"}, .outcome = "-", .over = "tls 4.7.4"},
    {.name = "clear octets behind STARTTLS", .tls = TRANSPORT_TLS_MAY, .script = {HELLO, "S:250-x", "S:250 STARTTLS", "C:STARTTLS", "S:220 go", "!:tls", "C:EHLO me.example", "!:close"}, .outcome = "-"},
    {.name = "REQUIRETLS", .tls = TRANSPORT_TLS_MAY, .flags = QUEUE_REQUIRETLS, .script = {HELLO, "S:250-x", "S:250 STARTTLS", "C:STARTTLS", "S:220 go", "!:tls", "C:EHLO me.example", "S:250-x",
	"S:250 REQUIRETLS", "C:MAIL FROM:<s@me.example> REQUIRETLS", "!:close"}, .outcome = "-", .rest = "mail 4.4.2 idle"},
    {.name = "REQUIRETLS, not offered", .tls = TRANSPORT_TLS_MAY, .flags = QUEUE_REQUIRETLS, .script = {HELLO, "S:250-x", "S:250 STARTTLS", "C:STARTTLS", "S:220 go", "!:tls", "C:EHLO me.example",
	"S:250 x", "C:QUIT"}, .outcome = "-", .rest = "mail 5.7.30 permanent"},
    {.name = "REQUIRETLS, unproven", .tls = TRANSPORT_TLS_MAY, .unproven = true, .flags = QUEUE_REQUIRETLS, .script = {HELLO, "S:250-x", "S:250 STARTTLS", "C:STARTTLS", "S:220 go", "!:tls",
	"C:EHLO me.example", "S:250-x", "S:250 REQUIRETLS", "C:QUIT"}, .outcome = "-", .rest = "mail 5.7.10 permanent"},
    {.name = "AUTH PLAIN", .tls = TRANSPORT_TLS_MUST, .user = "me", .script = {HELLO, "S:250-x", "S:250 STARTTLS", "C:STARTTLS", "S:220 go", "!:tls", "C:EHLO me.example", "S:250-x",
	"S:250 AUTH LOGIN PLAIN", "C:AUTH PLAIN AG1lAHNlY3JldA==", "S:235 2.7.0 welcome", MAIL, "!:close"}, .outcome = "-", .rest = "mail 4.4.2 idle"},
    {.name = "AUTH LOGIN", .tls = TRANSPORT_TLS_MUST, .user = "me", .script = {HELLO, "S:250-x", "S:250 STARTTLS", "C:STARTTLS", "S:220 go", "!:tls", "C:EHLO me.example", "S:250-x",
	"S:250 AUTH CRAM-MD5 LOGIN", "C:AUTH LOGIN", "S:334 VXNlcm5hbWU6", "C:bWU=", "S:334 UGFzc3dvcmQ6", "C:c2VjcmV0", "S:235 welcome", MAIL, "!:close"}, .outcome = "-",
	.rest = "mail 4.4.2 idle"},
    {.name = "AUTH refused", .tls = TRANSPORT_TLS_MUST, .user = "me", .script = {HELLO, "S:250-x", "S:250 STARTTLS", "C:STARTTLS", "S:220 go", "!:tls", "C:EHLO me.example", "S:250-x",
	"S:250 AUTH PLAIN", "C:AUTH PLAIN AG1lAHNlY3JldA==", "S:535 5.7.8 no", "C:QUIT"}, .outcome = "-"},
    {.name = "AUTH not offered", .tls = TRANSPORT_TLS_MUST, .user = "me", .script = {HELLO, "S:250-x", "S:250 STARTTLS", "C:STARTTLS", "S:220 go", "!:tls", "C:EHLO me.example", "S:250 x",
	"C:QUIT"}, .outcome = "-"},
    {.name = "AUTH, unproven", .tls = TRANSPORT_TLS_MUST, .user = "me", .unproven = true, .script = {HELLO, "S:250-x", "S:250 STARTTLS", "C:STARTTLS", "S:220 go", "!:tls",
	"C:EHLO me.example", "S:250-x", "S:250 AUTH PLAIN", "C:QUIT"}, .outcome = "-"},
    {.name = "AUTH in clear", .tls = TRANSPORT_TLS_MAY, .user = "me", .script = {HELLO, "S:250-x", "S:250 AUTH PLAIN", "C:QUIT"}, .outcome = "-"},
    {.name = "AUTH after HELO", .tls = TRANSPORT_TLS_MAY, .user = "me", .script = {HELLO, "S:502 x", "C:HELO me.example", "S:250 x", "C:QUIT"}, .outcome = "-"},
    {.name = "REQUIRETLS in clear", .flags = QUEUE_REQUIRETLS, .script = {HELLO, "S:250-x", "S:250 REQUIRETLS", "C:QUIT"}, .outcome = "-", .rest = "mail 5.7.10 permanent"},
};

START_TEST(test_scripts)
{
	run(&rows[_i], 0, false);
	run(&rows[_i], 1, false);
	run(&rows[_i], 1, true);
}
END_TEST

START_TEST(test_octets_behind_starttls)
{
	static const struct row row = {.name = "octets behind STARTTLS", .tls = TRANSPORT_TLS_MAY, .outcome = "-",
	    .script = {HELLO, "S:250-x", "S:250 STARTTLS", "C:STARTTLS", "S:220 go\r\n250 injected", "C:QUIT"}};
	struct play *p = malloc(sizeof *p);

	play_begin(p, &row);
	play_script(p, 0, false);
	compare(p);
	ck_assert(p->closed && !p->tls);
	ck_assert_str_eq(p->over, "tls 4.7.5 tls");
	transport_session_free(&p->session);
	buf_fini(&p->out);
	free(p);
}
END_TEST

/* A connection takes one message after the other. */
START_TEST(test_reuse)
{
	static const struct row row = {.name = "two messages", .outcome = "done 2.0.1",
	    .script = {PIPE, MAIL, RCPT1, "C:DATA", "S:250 ok", "S:250 ok", "S:354 go", BODY, "S:250 ok", MAIL, RCPT1, "C:DATA", "S:250 ok", "S:250 ok", "S:354 go", BODY,
		"S:250 2.0.1 ok"}};
	struct play *p = malloc(sizeof *p);

	play_begin(p, &row);
	p->want_messages = 2;
	play_script(p, 0, false);
	ck_assert_uint_eq(p->messages, 2);
	ck_assert_uint_eq(p->dots, 2);
	ck_assert_str_eq(p->outcomes[0].status, "2.0.1");
	ck_assert_str_eq(p->outcomes[0].mta, "mx[192.0.2.1]");
	/* What an idle server says ends it. */
	feed(p, SLICE("421 4.4.2 idle too long\r\n"), 100);
	ck_assert(p->closed);
	ck_assert_str_eq(p->over, "idle 4.4.2");
	transport_session_free(&p->session);
	buf_fini(&p->out);
	free(p);
}
END_TEST

/* What was said before the connection broke counts, read before or not. */
static const struct row last_words[] = {
    {.name = "MAIL, last words", .outcome = "failed 5.7.1", .rest = "data 4.4.2", .script = {PLAIN, MAIL, "!:close 550 5.7.1 go away\r\n"}},
    {.name = "MAIL, not all of them", .outcome = "-", .rest = "mail 4.4.2 idle", .script = {PLAIN, MAIL, "!:close 550 5.7.1 go away\r"}},
    {.name = "RCPT, last words", .outcome = "failed 5.1.1,-", .rest = "rcpt 4.4.2", .recipients = "a@x b@x",
	.script = {PLAIN, MAIL, "S:250 ok", "C:RCPT TO:<a@x>", "!:close 550 5.1.1 who\r\n"}},
    {.name = "354, last words", .outcome = "-", .rest = "body 4.4.2", .script = {PLAIN, MAIL, "S:250 ok", RCPT1, "S:250 ok", "C:DATA", "!:close 354 go\r\n"}},
    {.name = "250, last words", .outcome = "done 2.0.0",
	.script = {PLAIN, MAIL, "S:250 ok", RCPT1, "S:250 ok", "C:DATA", "S:354 go", BODY, "!:close 250 2.0.0 taken\r\n"}},
    {.name = "554, last words", .outcome = "failed 5.7.1",
	.script = {PLAIN, MAIL, "S:250 ok", RCPT1, "S:250 ok", "C:DATA", "S:354 go", BODY, "!:close 554 5.7.1 no\r\n221 bye\r\n"}},
    {.name = "421, last words", .outcome = "pending 4.3.2", .rest = "dot 4.3.2",
	.script = {PLAIN, MAIL, "S:250 ok", RCPT1, "S:250 ok", "C:DATA", "S:354 go", BODY, "!:close 421 4.3.2 bye\r\n"}},
    {.name = "STARTTLS, last words", .tls = TRANSPORT_TLS_MAY, .outcome = "-", .script = {HELLO, "S:250-x", "S:250 STARTTLS", "C:STARTTLS", "!:close 220 go\r\n"}},
};

START_TEST(test_last_words)
{
	run(&last_words[_i], 0, false);
}
END_TEST

START_TEST(test_many_recipients)
{
	static const struct row row = {.name = "many", .outcome = "done 2.0.0", .script = {PIPE}};
	struct play *p = malloc(sizeof *p);
	char list[250 * 8 + 1] = "", one[32];
	const unsigned batches[] = {TRANSPORT_RCPTS_MAX, TRANSPORT_RCPTS_MAX, 1};
	size_t n = 0;

	play_begin(p, &row);
	for (unsigned i = 0; i < 2 * TRANSPORT_RCPTS_MAX + 1; i++)
		n += (size_t)snprintf(list + n, sizeof list - n, "%sr%03u@x", i > 0 ? " " : "", i);
	play_recipients(p, list);
	play_script(p, 0, false);
	unsigned at = 0;

	for (unsigned b = 0; b < 3; b++) {
		expect_line(p, "MAIL FROM:<s@me.example>");
		for (unsigned i = 0; i < batches[b]; i++, at++) {
			snprintf(one, sizeof one, "RCPT TO:<r%03u@x>", at);
			expect_line(p, one);
		}
		expect_line(p, "DATA");
		for (unsigned i = 0; i < batches[b] + 1; i++)
			feed(p, SLICE("250 ok\r\n"), 100);
		feed(p, SLICE("354 go\r\n"), 100);
		p->said_at = p->out.n;
		feed(p, SLICE("250 ok\r\n"), 100);
	}
	ck_assert_uint_eq(p->messages, 1);
	for (unsigned i = 0; i < p->item.count; i++)
		ck_assert(p->outcomes[i].decided && p->outcomes[i].state == QUEUE_DONE);
	transport_session_free(&p->session);
	buf_fini(&p->out);
	free(p);
}
END_TEST

START_TEST(test_stuffing)
{
	static const struct {
		const char *in, *out;
	} cases[] = {{"", ".\r\n"}, {"a\r\n", "a\r\n.\r\n"}, {".\r\n", "..\r\n.\r\n"}, {"a", "a\r\n.\r\n"}, {"a\r", "a\r\n.\r\n"}, {"a\r\n.", "a\r\n..\r\n.\r\n"},
	    {"a\n.\n", "a\r\n..\r\n.\r\n"}, {"a\r.\r", "a\r\n..\r\n.\r\n"}, {"\r\r\n.\r\n", "\r\n\r\n..\r\n.\r\n"}, {"\n\n", "\r\n\r\n.\r\n"}, {"a.b\r\n..\r\n", "a.b\r\n...\r\n.\r\n"}};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		for (size_t step = 1; step <= strlen(cases[i].in) + 1; step++) {
			enum transport_stuff_state state = TRANSPORT_STUFF_START;
			struct slice in = slice_str(cases[i].in);
			struct buf b;

			buf_init(&b, 100);
			for (size_t at = 0; at < in.n; at += step)
				transport_stuff(&state, slice_sub(in, at, at + step), &b);
			transport_stuff_end(&state, &b);
			ck_assert_msg(slice_eq(buf_slice(&b), slice_str(cases[i].out)), "%s: %.*s", cases[i].in, (int)b.n, (char *)b.p);
			buf_fini(&b);
		}
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("transport_session");
	TCase *t = tcase_create("transport_session");

	tcase_add_loop_test(t, test_scripts, 0, sizeof rows / sizeof *rows);
	tcase_add_test(t, test_octets_behind_starttls);
	tcase_add_test(t, test_reuse);
	tcase_add_loop_test(t, test_last_words, 0, sizeof last_words / sizeof *last_words);
	tcase_add_test(t, test_many_recipients);
	tcase_add_test(t, test_stuffing);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed != 0;
}
