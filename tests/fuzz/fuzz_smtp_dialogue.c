/*
 * Whole dialogues with the SMTP front: its session behind a real socket, the processes that it asks faked by the words of the
 * addresses. Whatever a client sends, all at once or in pieces, it gets the same answers, each of them well-formed; deliver
 * gets the same messages, each with recipients that the directory knew, within the limit, its lines ended by CRLF alone; and in the end
 * nothing is left of the session. Over LMTP every recipient has a reply, whatever deliver says of some of them. The submission front is one
 * of them, as a user of this machine meets it: there is no TLS here, without which nobody logs in.
 *
 * The first four octets say how the server is set up, in which pieces the second run sends, and whether the client waits for replies; the rest is what the client sends.
 */
#include "smtpd/front.h"
#include "smtpd/front_service.h"

#include "common/auth_proto.h"
#include "common/config.h"
#include "common/mem.h"
#include "common/memfd.h"
#include "tests/role_fakes.h"

#include <event2/event.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SETUP_OCTETS 4
#define MESSAGE_BYTES "64K"
#define MESSAGE_BYTES_MAX (64u << 10)
#define INPUT_OCTETS_MAX (80u << 10)
#define OUTCOME_BYTES_MAX (8u << 20)
/* A question takes two rounds of the loop, and an answer. */
#define IDLE_ROUNDS 8

enum {
	SETUP_FULL = 1,	    /* the account is */
	SETUP_NO_SPOOL = 2, /* with SETUP_SPOOL: the queue has no room */
	SETUP_NO_DSN = 4,
	SETUP_XCLIENT = 8,
	SETUP_PROXY = 16, /* what comes begins with a PROXY header */
	SETUP_LMTP = 32,
	SETUP_LOCAL = 64, /* the submission front's socket; with SETUP_XCLIENT the user may not, with SETUP_PROXY the directory dies */
	SETUP_SPOOL = 128, /* as if others' messages had taken all memory: this one's go to files */
};

/* What the server's TLS context holds is looked for when OpenSSL has ended already, and is not found; what is ours is. */
const char *__lsan_default_suppressions(void);
const char *
__lsan_default_suppressions(void)
{
	return "leak:libcrypto";
}

#define MUST(what)                                                                                 \
	do {                                                                                       \
		if (!(what))                                                                       \
			abort();                                                                   \
	} while (0)

void
role_exit(int status)
{
	(void)status;
	abort();
}

/* Where the front listens: places without names in the file system. */
#define PLACES 3
static const char *const place_names[PLACES] = {"smtp", "lmtp", "local"};
static struct sockaddr_un places[PLACES];
static socklen_t place_bytes[PLACES];

/* ---- the fakes ---- */

static uint8_t setup;
static bool eager; /* on port 25: does not wait for replies */
static struct buf *messages;   /* what deliver got */
static struct buf known;       /* the recipients that the directory knew, each with a line's end */
static unsigned events;	       /* something happened */
static bool chunked;	       /* a BDAT may be among what the client sends */

static bool
begins(struct slice s, const char *word)
{
	return slice_starts(s, slice_str(word));
}

static void
fake_resolve(struct edge *e, struct msg_DIR_RESOLVE *m)
{
	static const struct {
		const char *word;
		uint8_t status;
	} rows[] = {{"unknown", DIR_UNKNOWN}, {"outside", DIR_NOT_OURS}, {"disabled", DIR_DISABLED}, {"temp", DIR_TEMP}, {"strange", 99}};
	uint8_t account[8] = {[7] = 1}, status = DIR_LOCAL;

	events++;
	if (begins(m->address, "kill")) {
		edge_free(&fakes[ROLE_DIRECTORY]);
		return;
	}
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (begins(m->address, rows[i].word))
			status = rows[i].status;
	if (status == DIR_LOCAL || (status == DIR_NOT_OURS && (setup & SETUP_LOCAL))) {
		buf_put_slice(&known, m->address);
		buf_put_u8(&known, '\n');
	}
	MUST(IPC_SEND(e, DIR_RESOLVE_REPLY, .id = m->id, .status = status,
	    .accounts = slice_of(account, status == DIR_LOCAL ? sizeof(account) : 0)));
}

static void
fake_local(struct edge *e, struct msg_DIR_LOCAL *m)
{
	bool refused = (setup & SETUP_XCLIENT) != 0;

	events++;
	if (setup & SETUP_PROXY)
		edge_free(&fakes[ROLE_DIRECTORY]);
	else
		MUST(IPC_SEND(e, DIR_LOCAL_REPLY, .id = m->id, .class = refused ? ERR_PERM : ERR_NONE, .account = refused ? 0 : 7,
		    .login = SLICE("alice@mail.test"), .user = 1000));
}

static void
fake_sender(struct edge *e, struct msg_DIR_SENDER *m)
{
	events++;
	if (begins(m->address, "die"))
		edge_free(&fakes[ROLE_DIRECTORY]);
	else
		MUST(IPC_SEND(e, DIR_SENDER_REPLY, .id = m->id, .class = begins(m->address, "temp") ? ERR_TEMP : ERR_NONE,
		    .allowed = !begins(m->address, "foreign")));
}

static void
fake_lease_close(struct edge *e, struct msg_LEASE_CLOSE *m)
{
	(void)e;
	(void)m;
	events++;
}

static void
fake_usage(struct edge *e, struct msg_STORE_USAGE *m)
{
	events++;
	MUST(IPC_SEND(e, STORE_USAGE_REPLY, .id = m->id, .full = (setup & SETUP_FULL) != 0));
}

static bool
was_known(struct slice address)
{
	struct slice left = buf_slice(&known);

	while (left.n > 0) {
		size_t n = slice_index(left, '\n');

		if (slice_eq_nocase(slice_sub(left, 0, n), address))
			return true;
		left = slice_sub(left, n + 1, left.n);
	}
	return false;
}

/* No line ends but CRLF, and no NUL, unless the client declared it binary. */
static void
look_at_text(struct slice s)
{
	for (size_t i = 0; i < s.n; i++) {
		MUST(s.p[i] != '\0');
		MUST(s.p[i] != '\n' || (i > 0 && s.p[i - 1] == '\r'));
		MUST(s.p[i] != '\r' || (i + 1 < s.n && s.p[i + 1] == '\n'));
	}
}

static void
look_at_message(const struct envelope *env, struct slice message)
{
	MUST(env->recipient_count > 0 && message.n <= MESSAGE_BYTES_MAX);
	buf_putf(messages, "message from <%.*s> to", SLICE_ARG(env->mail_from));
	for (uint32_t i = 0; i < env->recipient_count; i++) {
		MUST(was_known(env->recipients[i]));
		buf_putf(messages, " <%.*s>", SLICE_ARG(env->recipients[i]));
	}
	/* Of what came in chunks verify looks at the lines. */
	if (!chunked)
		look_at_text(message);
	buf_putf(messages, " %d %d %d: ", env->smtputf8, env->eightbit, env->binary);
	buf_put_slice(messages, message);
	buf_put_u8(messages, '\n');
}

/* LMTP: an answer for some recipients, in order or not; the rest get that of the message. */
static void
answer_recipients(struct edge *e, uint64_t id, const struct envelope *env)
{
	for (uint32_t i = 0; i < env->recipient_count; i++) {
		struct slice to = env->recipients[i];

		if (begins(to, "rest"))
			break;
		MUST(IPC_SEND(e, DELIVER_RECIPIENT, .id = id, .recipient = begins(to, "swap") ? i + 1 : i,
		    .code = begins(to, "later") ? 452 : begins(to, "odd") ? 77 : 250, .enhanced = SLICE("8.8.8"), .text = to));
	}
}

static void
fake_deliver(struct edge *e, struct msg_DELIVER_MESSAGE *m)
{
	struct arena *a = arena_new(1 << 20);
	struct buf envelope, message;
	struct envelope env;
	struct err err;

	events++;
	buf_init(&envelope, ENVELOPE_BYTES_MAX);
	buf_init(&message, 2 * MESSAGE_BYTES_MAX);
	MUST(memfd_read_all(m->envelope, &envelope, &err) == 0 && envelope_decode(buf_slice(&envelope), a, &env));
	MUST(memfd_read_all(m->message, &message, &err) == 0 && message.n == m->bytes);
	look_at_message(&env, buf_slice(&message));
	MUST(env.lmtp == ((setup & (SETUP_LMTP | SETUP_LOCAL)) == SETUP_LMTP));
	if (env.lmtp)
		answer_recipients(e, m->id, &env);
	if (begins(env.mail_from, "kill"))
		edge_free(&fakes[ROLE_DELIVER]);
	else
		MUST(IPC_SEND(e, DELIVER_REPLY, .id = m->id, .code = begins(env.mail_from, "refuse") ? 550 : begins(env.mail_from, "close") ? 421 : 250,
		    .enhanced = SLICE("9.9.9"), .text = begins(env.mail_from, "split") ? SLICE("a\r\n250 b") : SLICE("fake")));
	buf_fini(&envelope);
	buf_fini(&message);
	arena_free(&a);
}

static void
fake_spool(struct edge *e, struct msg_SPOOL_OPEN *m)
{
	bool none = (setup & SETUP_NO_SPOOL) != 0;
	struct err err;
	int fd = none ? -1 : memfd_new(&err);

	events++;
	MUST(IPC_SEND(e, SPOOL_REPLY, .id = m->id, .class = none ? ERR_LIMIT : ERR_NONE, .fd = fd));
	if (fd >= 0)
		(void)close(fd);
}

static void
fake_spool_done(struct edge *e, struct msg_SPOOL_DONE *m)
{
	(void)e;
	(void)m;
	events++;
}

static void
session_edge_down(struct edge *e, void *arg)
{
	(void)arg;
	events++;
	edges[edge_peer(e)->role] = NULL;
	smtpd_on_edge_down(e);
	edge_free(&e);
}

static void
fake_edge_down(struct edge *e, void *arg)
{
	(void)arg;
	fakes[edge_peer(e)->role] = NULL;
	edge_free(&e);
}

static void
part(enum role role)
{
	if (edges[role] != NULL)
		edge_free(&edges[role]);
	if (fakes[role] != NULL)
		edge_free(&fakes[role]);
}

static void
join(enum role role, const struct ipc_dispatch *ours, const struct ipc_dispatch *theirs)
{
	static const struct edge_events down = {.on_down = session_edge_down};
	static const struct edge_events fake_down = {.on_down = fake_edge_down};
	int fd[2];

	if (edges[role] != NULL && fakes[role] != NULL)
		return;
	part(role);
	MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd) == 0);
	edges[role] = edge_new(loop, fd[0], self.role, (struct edge_peer){role, 0, 1}, ours, &down, NULL);
	fakes[role] = edge_new(loop, fd[1], role, self, theirs, &fake_down, NULL);
}

static void
join_all(void)
{
	static const struct ipc_dispatch directory = {.DIR_RESOLVE = fake_resolve, .DIR_LOCAL = fake_local, .DIR_SENDER = fake_sender};
	static const struct ipc_dispatch store = {.STORE_USAGE = fake_usage, .LEASE_CLOSE = fake_lease_close};
	static const struct ipc_dispatch deliver = {.DELIVER_MESSAGE = fake_deliver};
	static const struct ipc_dispatch queue = {.SPOOL_OPEN = fake_spool, .SPOOL_DONE = fake_spool_done};

	const enum role role = setup & SETUP_LOCAL ? ROLE_SUBMISSION : ROLE_SMTP_FRONT;

	/* Another role has other edges. */
	for (unsigned r = 0; role != self.role && r < ROLE_COUNT; r++)
		part((enum role)r);
	self.role = role;
	smtpd_service.submission = role == ROLE_SUBMISSION;
	join(ROLE_DIRECTORY, smtpd_service.submission ? &smtpd_from_directory : &smtpd_from_port25_directory, &directory);
	join(ROLE_STORE, &smtpd_from_store, &store);
	join(ROLE_DELIVER, &smtpd_from_deliver, &deliver);
	join(ROLE_QUEUE, &smtpd_from_queue, &queue);
}

static void
set(enum option option, struct slice value)
{
	struct err e;

	MUST(config_set(config, option, value, &e) == 0);
}

static void
begin_once(void)
{
	struct err e;

	if (loop != NULL)
		return;
	log_init("fuzz", LOG_BUG);
	loop = loop_new();
	config = config_new();
	buf_init(&known, OUTCOME_BYTES_MAX);
	set(OPT_HOSTNAME, SLICE("mail.test"));
	set(OPT_SMTP_MESSAGE_BYTES, SLICE(MESSAGE_BYTES));
	set(OPT_SMTP_RATE_UNKNOWN, SLICE("0"));
	MUST(smtpd_init(&e) == 0);
	smtpd_service.name = "smtp";
	for (unsigned i = 0; i < PLACES; i++) {
		places[i].sun_family = AF_UNIX;
		place_bytes[i] = sizeof(places[i]);
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

		MUST(bind(fd, (struct sockaddr *)&places[i], sizeof(places[i].sun_family)) == 0 && listen(fd, 4) == 0 &&
		    getsockname(fd, (struct sockaddr *)&places[i], &place_bytes[i]) == 0);
		smtpd_on_listener(place_names[i], fd);
	}
}

/* ---- one run ---- */

static int client;

/* What the server has to say; every line of it is a reply's. */
static void
take_answers(struct buf *out)
{
	uint8_t block[4096];
	ssize_t n;

	while ((n = recv(client, block, sizeof(block), MSG_DONTWAIT)) > 0) {
		events++;
		buf_put(out, block, (size_t)n);
	}
}

/* Until nothing happens any more; the greeting does not wait for its time. */
static void
settle(struct buf *out)
{
	struct event_base *base = loop_event_base(loop);

	for (unsigned idle = 0; idle < IDLE_ROUNDS; idle++) {
		struct front *f = smtpd_service.sessions;
		const unsigned before = events;

		if (f != NULL && f->state == FRONT_STATE_GREETING && !f->port->local) {
			smtpd_greet(f);
			smtpd_step(f);
			events++;
		}
		(void)event_base_loop(base, EVLOOP_NONBLOCK);
		take_answers(out);
		if (events != before)
			idle = 0;
	}
}

static bool
is_digit(uint8_t c, uint8_t from, uint8_t to)
{
	return c >= from && c <= to;
}

static void
look_at_answers(struct slice s)
{
	while (s.n > 0) {
		size_t n = slice_index(s, '\n');

		MUST(n < s.n && n >= 5 && s.p[n - 1] == '\r');
		MUST(is_digit(s.p[0], '2', '5') && is_digit(s.p[1], '0', '5') && is_digit(s.p[2], '0', '9') && (s.p[3] == ' ' || s.p[3] == '-'));
		for (size_t i = 0; i + 1 < n; i++)
			MUST(s.p[i] >= ' ' && s.p[i] != 127);
		s = slice_sub(s, n + 1, s.n);
	}
}

/* Until when a message may be held (RFC 4865) is told in seconds of the clock. */
static void
forget_times(struct buf *answers)
{
	const struct slice word = SLICE("250-FUTURERELEASE ");
	size_t at = 0;

	while ((at += slice_find(slice_sub(buf_slice(answers), at, answers->n), word)) < answers->n)
		for (at += word.n; answers->p[at] != '\r'; at++)
			answers->p[at] = 'x';
}

struct outcome {
	struct buf answers;
	struct buf messages;
};

/* Sends what fits; false when nobody takes it any more. */
static bool
send_piece(struct slice piece, struct buf *out)
{
	while (piece.n > 0) {
		ssize_t n = send(client, piece.p, piece.n, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n > 0)
			piece = slice_sub(piece, (size_t)n, piece.n);
		settle(out);
		if (n <= 0 && smtpd_service.sessions == NULL)
			return false;
	}
	return true;
}

/* How much of in comes in one piece: on port 25 a client waits for the reply to each command, unless eager. */
static size_t
piece_of(struct slice in, uint32_t seed)
{
	const struct front *f = smtpd_service.sessions;
	size_t n = seed == 0 || 1 + seed % 61 > in.n ? in.n : 1 + seed % 61;
	size_t line = slice_index(in, '\n') + 1;

	if ((setup & (SETUP_LMTP | SETUP_LOCAL)) || eager || f == NULL || f->state == FRONT_STATE_DATA || f->state == FRONT_STATE_CHUNK)
		return n;
	return n < line ? n : line < in.n ? line : in.n;
}

/* All at once when seed is 0. */
static void
run(struct slice in, uint32_t seed, struct outcome *out)
{
	join_all();
	buf_reset(&known);
	buf_init(&out->answers, OUTCOME_BYTES_MAX);
	buf_init(&out->messages, OUTCOME_BYTES_MAX);
	messages = &out->messages;
	client = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	unsigned port = setup & SETUP_LOCAL ? 2 : setup & SETUP_LMTP ? 1 : 0;

	const uint64_t taken = setup & SETUP_SPOOL ? FRONT_MEMORY_BYTES_MAX : 0;

	smtpd_service.memory_bytes += taken;
	MUST(connect(client, (struct sockaddr *)&places[port], place_bytes[port]) == 0);
	settle(&out->answers);
	while (in.n > 0) {
		size_t n = piece_of(in, seed);

		seed = seed == 0 ? 0 : (seed * 1103515245u + 12345u) & 0x7fffffffu;
		if (!send_piece(slice_sub(in, 0, n), &out->answers))
			break;
		in = slice_sub(in, n, in.n);
		if (seed != 0)
			settle(&out->answers);
	}
	settle(&out->answers);
	(void)shutdown(client, SHUT_WR);
	settle(&out->answers);
	(void)close(client);
	smtpd_proxied_drain();
	smtpd_service.memory_bytes -= taken;
	MUST(listener_group_count(smtpd_service.group) == 0 && listener_group_count(smtpd_service.lmtp_group) == 0 &&
	    listener_group_count(smtpd_service.local_group) == 0 && smtpd_service.sessions == NULL && smtpd_service.memory_bytes == 0);
	look_at_answers(buf_slice(&out->answers));
	forget_times(&out->answers);
}

static void
free_outcome(struct outcome *o)
{
	buf_fini(&o->answers);
	buf_fini(&o->messages);
}

static bool
has_word(const uint8_t *data, size_t size, const char *word)
{
	size_t n = strlen(word);

	for (size_t i = 0; i + n <= size; i++)
		if (slice_eq_nocase(slice_of(data + i, n), slice_str(word)))
			return true;
	return false;
}

/* A client that talks before the greeting (behind a proxy's header) or a reply, or has sent more behind a DATA that is refused, is told so:
 * that depends on what has come. So does whether a message needs a file (one that comes at once with its end needs none), and what is
 * answered before the session of a user ends with deliver. */
static bool
is_same_by_pieces(struct slice answers)
{
	if ((setup & SETUP_SPOOL) && (setup & SETUP_NO_SPOOL))
		return false;
	return (!(setup & SETUP_PROXY) || (setup & SETUP_LOCAL)) && slice_find(answers, SLICE("behind a DATA")) == answers.n &&
	    slice_find(answers, SLICE("RFC 2920")) == answers.n &&
	    slice_find(answers, SLICE("Restarting")) == answers.n;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct outcome whole, pieces;

	if (size < SETUP_OCTETS || size > INPUT_OCTETS_MAX)
		return 0;
	begin_once();
	setup = data[0];
	eager = (data[3] & 0x80) != 0;
	chunked = has_word(data, size, "BDAT");
	set(OPT_SMTP_DSN, setup & SETUP_NO_DSN ? SLICE("no") : SLICE("yes"));
	set(OPT_TRANSPORT_ENABLED, SLICE("yes"));
	set(OPT_SMTP_XCLIENT_FROM, setup & SETUP_XCLIENT ? SLICE("::/0") : SLICE(""));
	set(OPT_SMTP_PROXY_FROM, setup & SETUP_PROXY ? SLICE("::/0") : SLICE(""));
	struct slice in = slice_of(data + SETUP_OCTETS, size - SETUP_OCTETS);

	run(in, 0, &whole);
	run(in, 1 + (uint32_t)(data[1] | data[2] << 8 | data[3] << 16), &pieces);
	if (is_same_by_pieces(buf_slice(&whole.answers))) {
		MUST(slice_eq(buf_slice(&whole.messages), buf_slice(&pieces.messages)));
		MUST(slice_eq(buf_slice(&whole.answers), buf_slice(&pieces.answers)));
	}
	free_outcome(&whole);
	free_outcome(&pieces);
	return 0;
}
