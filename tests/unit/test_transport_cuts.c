/*
 * The connection ends after every octet of the dialogue: of what the server says, and of what it is told. A small server is played beside
 * the client; whom it has not decided, or put off, is tried again over a connection that holds, as the queue does it. In the end who is taken
 * has the message once, or twice when the outcome before said that it may be so, and who is refused is known to be and has it never.
 */
#include "common/memfd.h"
#include "smtpd/transport_session.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define RECIPIENTS 3 /* a and c are taken, n is nobody */
#define NEVER SIZE_MAX
#define TRIES_MAX 4

struct dialogue {
	const char *name;
	const char *offers; /* lines of the reply to EHLO; NULL: HELO alone */
	bool tls;	    /* offered before */
	unsigned room;	    /* recipients that one transaction may have */
	size_t bytes;	    /* of the message's text */
};

static const struct dialogue dialogues[] = {
    {.name = "HELO", .room = RECIPIENTS},
    {.name = "plain", .offers = "SIZE", .room = RECIPIENTS},
    {.name = "PIPELINING", .offers = "PIPELINING", .room = RECIPIENTS},
    {.name = "CHUNKING", .offers = "CHUNKING", .room = RECIPIENTS},
    {.name = "CHUNKING and PIPELINING", .offers = "CHUNKING PIPELINING", .room = RECIPIENTS},
    {.name = "STARTTLS", .offers = "PIPELINING DSN", .tls = true, .room = RECIPIENTS},
    {.name = "two transactions", .offers = "SIZE", .room = 1},
    {.name = "two transactions, PIPELINING", .offers = "PIPELINING", .room = 1},
    {.name = "two chunks", .offers = "CHUNKING PIPELINING", .room = RECIPIENTS, .bytes = TRANSPORT_CHUNK_BYTES},
};

/* ---- the server ---- */

struct server {
	const struct dialogue *d;
	struct buf in, out;
	bool tls, mail, data, last;
	size_t chunk_left;
	unsigned taken;
	bool has[RECIPIENTS]; /* of this transaction */
	unsigned delivered[RECIPIENTS];
	size_t told_at[RECIPIENTS]; /* octets of out that end with the word that it is */
};

static void
say(struct server *s, const char *line)
{
	buf_putf(&s->out, "%s\r\n", line);
}

static void
say_offers(struct server *s)
{
	struct slice rest = slice_str(s->d->offers), one;

	say(s, "250-mx.example");
	while (slice_cut(&rest, ' ', &one))
		buf_putf(&s->out, "250-%.*s\r\n", SLICE_ARG(one));
	say(s, s->d->tls && !s->tls ? "250 STARTTLS" : "250 8BITMIME");
}

static void
on_rcpt(struct server *s, char who)
{
	unsigned i = who == 'a' ? 0 : 2;

	if (!s->mail)
		say(s, "503 5.5.1 MAIL first");
	else if (who == 'n')
		say(s, "550 5.1.1 nobody");
	else if (s->taken >= s->d->room)
		say(s, "452 4.5.3 too many");
	else {
		s->has[i] = true;
		s->taken++;
		say(s, "250 2.1.5 ok");
	}
}

static void
forget(struct server *s)
{
	s->mail = s->data = false;
	s->taken = 0;
	memset(s->has, 0, sizeof s->has);
}

static void
arrived(struct server *s)
{
	say(s, "250 2.0.0 taken");
	for (unsigned i = 0; i < RECIPIENTS; i++)
		if (s->has[i]) {
			s->delivered[i]++;
			s->told_at[i] = s->out.n;
		}
	forget(s);
}

static void
on_chunk(struct server *s)
{
	if (s->last)
		arrived(s);
	else
		say(s, "250 2.0.0 chunk");
}

static void
on_bdat(struct server *s, const char *line)
{
	s->chunk_left = strtoul(line + 5, NULL, 10);
	s->last = strstr(line, "LAST") != NULL;
	if (s->chunk_left == 0)
		on_chunk(s);
}

static void
on_line(struct server *s, const char *line)
{
	if (strncmp(line, "EHLO", 4) == 0 && s->d->offers == NULL)
		say(s, "502 5.5.1 what");
	else if (strncmp(line, "EHLO", 4) == 0)
		say_offers(s);
	else if (strcmp(line, "STARTTLS") == 0) {
		say(s, "220 go");
		s->tls = true;
	} else if (strncmp(line, "RCPT TO:<", 9) == 0)
		on_rcpt(s, line[9]);
	else if (strcmp(line, "DATA") == 0) {
		s->data = s->taken > 0;
		say(s, s->data ? "354 go" : "503 5.5.1 no recipients");
	} else if (strncmp(line, "BDAT ", 5) == 0)
		on_bdat(s, line);
	else if (strcmp(line, "QUIT") == 0)
		say(s, "221 bye");
	else {
		forget(s);
		s->mail = strncmp(line, "MAIL", 4) == 0;
		say(s, "250 ok");
	}
}

/* One line, a chunk or a whole text out of what has come; false when there is none. */
static bool
server_step(struct server *s)
{
	struct slice in = buf_slice(&s->in);
	char line[1024];

	if (s->chunk_left > 0) {
		size_t n = in.n < s->chunk_left ? in.n : s->chunk_left;

		buf_drop(&s->in, n);
		s->chunk_left -= n;
		if (n > 0 && s->chunk_left == 0)
			on_chunk(s);
		return n > 0;
	}
	size_t n = slice_find(in, s->data ? SLICE("\r\n.\r\n") : SLICE("\r\n"));

	if (n == in.n)
		return false;
	if (s->data) {
		buf_drop(&s->in, n + 5);
		arrived(s);
		return true;
	}
	ck_assert(slice_cstr(slice_sub(in, 0, n), line, sizeof line));
	buf_drop(&s->in, n + 2);
	on_line(s, line);
	return true;
}

/* ---- the client ---- */

struct client {
	struct transport_session *session;
	struct server *server;
	struct buf out;
	size_t up, down; /* octets that have come to the other end */
	struct transport_message message;
	struct transport_outcome outcomes[RECIPIENTS];
	bool taken, tls, closed, over;
	unsigned dots, messages;
};

static void
client_write(void *ctx, struct slice octets)
{
	struct client *c = ctx;

	ck_assert(!c->closed && buf_put_slice(&c->out, octets));
}

static bool
client_full(void *ctx)
{
	(void)ctx;
	return false;
}

static void
client_starttls(void *ctx)
{
	((struct client *)ctx)->tls = true;
}

static void
client_deadline(void *ctx, uint64_t ms)
{
	(void)ctx;
	(void)ms;
}

static void
client_deadline_of_piece(void *ctx, uint64_t ms, uint64_t total_ms)
{
	(void)ctx;
	ck_assert(total_ms >= ms);
}

static void
client_close(void *ctx)
{
	((struct client *)ctx)->closed = true;
}

static void
on_open(void *arg)
{
	struct client *c = arg;
	struct transport_failure why;

	c->taken = transport_session_take(c->session, &c->message, &why);
	ck_assert(c->taken);
}

static void
on_dot(void *arg)
{
	((struct client *)arg)->dots++;
}

static void
on_message(void *arg, const struct transport_failure *rest)
{
	(void)rest;
	((struct client *)arg)->messages++;
}

static void
on_over(void *arg, const struct transport_failure *why)
{
	struct client *c = arg;

	(void)why;
	ck_assert(!c->over);
	c->over = true;
}

static void
on_reply(void *arg, enum transport_stage stage, const struct smtp_reply *reply, struct slice recipient)
{
	(void)arg;
	(void)stage;
	(void)reply;
	(void)recipient;
}

static const struct transport_wire wire = {
    .write = client_write, .full = client_full, .starttls = client_starttls, .deadline = client_deadline,
    .deadline_of_piece = client_deadline_of_piece, .close = client_close};
static const struct transport_session_events events = {
    .on_open = on_open, .on_dot = on_dot, .on_message = on_message, .on_over = on_over, .on_reply = on_reply};

/* ---- the way between them ---- */

/* Where it ends, and what of it is known then. */
struct cut {
	size_t up, down;
	bool deaf;    /* what the server answers to the last octets is lost too */
	bool at_once; /* its last octets are seen together with the end */
};

/* Up to most octets for the server; false when there are none. */
static bool
carry_up(struct client *c, const struct cut *cut)
{
	size_t to = c->out.n < cut->up ? c->out.n : cut->up;
	bool more = to > c->up;

	buf_put_slice(&c->server->in, slice_of(c->out.p + c->up, to - c->up));
	c->up = to;
	while (server_step(c->server))
		;
	return more;
}

static bool
carry_down(struct client *c, const struct cut *cut)
{
	size_t to = c->server->out.n < cut->down ? c->server->out.n : cut->down;
	struct slice octets = slice_of(c->server->out.p + c->down, to - c->down);

	if (octets.n == 0 || (cut->at_once && to == cut->down))
		return false;
	c->down = to;
	size_t used = transport_session_input(c->session, octets);

	ck_assert_uint_eq(used, octets.n);
	if (c->tls) {
		c->tls = false;
		transport_session_secured(c->session, false);
	}
	return true;
}

/* Until the cut, or until nobody has anything to say any more. */
static void
talk(struct client *c, const struct cut *cut)
{
	bool more = true;

	while (more && c->messages == 0) {
		more = carry_up(c, cut);
		if (cut->deaf && c->up == cut->up)
			return;
		more = carry_down(c, cut) || more;
	}
}

static struct slice
last_octets(const struct client *c, const struct cut *cut)
{
	size_t to = c->server->out.n < cut->down ? c->server->out.n : cut->down;

	return cut->at_once ? slice_of(c->server->out.p + c->down, to - c->down) : slice_of(NULL, 0);
}

static void
server_reset(struct server *s)
{
	buf_reset(&s->in);
	buf_reset(&s->out);
	forget(s);
	s->tls = s->last = false;
	s->chunk_left = 0;
}

static void
connect_and_talk(struct client *c, const struct cut *cut)
{
	const struct transport_session_config config = {.helo = SLICE("me.example"), .mta = SLICE("mx[192.0.2.1]"), .tls = TRANSPORT_TLS_MAY,
	    .command_ms = 1, .data_ms = 1, .data_rate = 1, .dot_ms = 1};

	server_reset(c->server);
	buf_reset(&c->out);
	c->up = c->down = 0;
	c->taken = c->tls = c->closed = c->over = false;
	c->dots = c->messages = 0;
	say(c->server, "220 mx.example ESMTP");
	c->session = transport_session_new(&config, &wire, c, &events, c);
	transport_session_begin(c->session);
	talk(c, cut);
	transport_session_ended(c->session, "reset", last_octets(c, cut));
	ck_assert(c->over);
	ck_assert_uint_eq(c->messages, c->taken);
	transport_session_free(&c->session);
}

/* ---- what must be so ---- */

static struct client *
client_new(const struct dialogue *d)
{
	static struct queue_recipient recipients[RECIPIENTS];
	static struct queue_item item;
	static const char *const addresses[RECIPIENTS] = {"a@x.example", "n@x.example", "c@x.example"};
	struct client *c = calloc(1, sizeof *c);
	struct buf text;
	struct err e;

	ck_assert_ptr_nonnull(c);
	for (unsigned i = 0; i < RECIPIENTS; i++)
		recipients[i] = (struct queue_recipient){.sequence = i, .state = QUEUE_PENDING, .address = slice_str(addresses[i])};
	item = (struct queue_item){.mail_from = SLICE("s@me.example"), .recipients = recipients, .count = RECIPIENTS};
	buf_init(&text, d->bytes + 100);
	buf_put_str(&text, "Subject: x\r\n\r\n.dot\r\n");
	for (size_t i = 0; i < d->bytes; i += 64)
		buf_put_str(&text, "sixty-four octets of text, with the end of the line, in a row.\r\n");
	c->message = (struct transport_message){.item = &item, .fd = memfd_of(buf_slice(&text), &e), .to = text.n, .outcomes = c->outcomes};
	ck_assert_int_ge(c->message.fd, 0);
	buf_fini(&text);
	c->server = calloc(1, sizeof *c->server);
	ck_assert_ptr_nonnull(c->server);
	c->server->d = d;
	buf_init(&c->server->in, d->bytes + 65536);
	buf_init(&c->server->out, 65536);
	buf_init(&c->out, d->bytes + 65536);
	return c;
}

static void
client_free(struct client *c)
{
	(void)close(c->message.fd);
	buf_fini(&c->server->in);
	buf_fini(&c->server->out);
	buf_fini(&c->out);
	free(c->server);
	free(c);
}

/* What is left for another time; false when nothing is. */
static bool
try_again(struct client *c)
{
	bool left = false;

	for (unsigned i = 0; i < RECIPIENTS; i++)
		if (!c->outcomes[i].decided || c->outcomes[i].state == QUEUE_PENDING) {
			c->outcomes[i] = (struct transport_outcome){.decided = false};
			left = true;
		}
	return left;
}

static void
judge(const struct client *c, const bool *unsure, const struct cut *cut)
{
	const struct server *s = c->server;

	for (unsigned i = 0; i < RECIPIENTS; i++) {
		const struct transport_outcome *o = &c->outcomes[i];
		unsigned most = i == 1 ? 0 : 1 + unsure[i];

		ck_assert_msg(o->decided && o->state == (i == 1 ? QUEUE_FAILED : QUEUE_DONE),
		    "%s: %zu up, %zu down, %d%d: recipient %u: %s %s", s->d->name, cut->up, cut->down, cut->deaf, cut->at_once, i, o->status, o->text);
		ck_assert_msg(s->delivered[i] >= (i != 1) && s->delivered[i] <= most, "%s: %zu up, %zu down, %d%d: recipient %u has it %u times, unsure %d",
		    s->d->name, cut->up, cut->down, cut->deaf, cut->at_once, i, s->delivered[i], unsure[i]);
	}
	ck_assert_str_eq(c->outcomes[1].status, "5.1.1");
}

/* One dialogue that ends at the cut, and what follows. Gives the octets that have gone each way before. */
static struct cut
run(const struct dialogue *d, const struct cut *cut)
{
	static const struct cut whole = {.up = NEVER, .down = NEVER};
	struct client *c = client_new(d);
	bool unsure[RECIPIENTS];
	unsigned tries = 1;

	connect_and_talk(c, cut);
	const struct cut gone = {.up = c->up, .down = c->server->out.n};

	for (unsigned i = 0; i < RECIPIENTS; i++) {
		const struct transport_outcome *o = &c->outcomes[i];
		bool told = c->server->told_at[i] > 0 && c->server->told_at[i] <= cut->down && !cut->deaf;

		unsure[i] = o->unsure;
		ck_assert_msg(!o->unsure || c->dots > 0, "%s: %zu up, %zu down: unsure before its end", d->name, cut->up, cut->down);
		ck_assert_msg(!told || (o->decided && o->state == QUEUE_DONE), "%s: %zu up, %zu down, %d: recipient %u was told taken", d->name, cut->up,
		    cut->down, cut->at_once, i);
	}
	while (try_again(c)) {
		ck_assert_uint_lt(tries++, TRIES_MAX);
		connect_and_talk(c, &whole);
	}
	judge(c, unsure, cut);
	client_free(c);
	return gone;
}

/* Of a dialogue with a long text: where one chunk ends and the next begins, and the end. */
static bool
is_of_interest(const struct dialogue *d, size_t at, size_t length)
{
	size_t in_chunk = at % TRANSPORT_CHUNK_BYTES;

	return d->bytes == 0 || at + 60 > length || (at > TRANSPORT_CHUNK_BYTES && in_chunk > 150 && in_chunk < 400 && at % 3 == 0);
}

START_TEST(test_cuts)
{
	const struct dialogue *d = &dialogues[_i];
	const struct cut whole = run(d, &(struct cut){.up = NEVER, .down = NEVER});

	ck_assert_uint_gt(whole.up, 100);
	for (size_t at = 0; at <= whole.down; at++)
		for (unsigned at_once = 0; at_once < 2 && is_of_interest(d, at, whole.down); at_once++)
			run(d, &(struct cut){.up = NEVER, .down = at, .at_once = at_once});
	for (size_t at = 0; at <= whole.up; at++)
		for (unsigned deaf = 0; deaf < 2 && is_of_interest(d, at, whole.up); deaf++)
			run(d, &(struct cut){.up = at, .down = NEVER, .deaf = deaf});
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("transport_cuts");
	TCase *t = tcase_create("transport_cuts");

	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, test_cuts, 0, sizeof dialogues / sizeof *dialogues);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed != 0;
}
