/*
 * The SMTP session against fakes of the processes that it asks, in one process behind a real socket: what
 * is answered when they say no, say nothing, or die. The dialogue with a whole server is tests/instance/test_smtp.py.
 */
#include "smtpd/front.h"
#include "smtpd/front_service.h"

#include "common/auth_proto.h"
#include "common/config.h"
#include "common/memfd.h"
#include "tests/role_fakes.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* How far the server's clock, which does not go back, is ahead. */
static uint64_t *ahead_ms;

int
clock_gettime(clockid_t id, struct timespec *now)
{
	int r = (int)syscall(SYS_clock_gettime, id, now);

	if (ahead_ms != NULL && id != CLOCK_REALTIME)
		now->tv_sec += (time_t)(*ahead_ms / 1000);
	return r;
}

void
role_exit(int status)
{
	_exit(status);
}

/* ---- the fakes: what they answer is told by the first word of the address ---- */

static bool
begins(struct slice s, const char *word)
{
	return slice_starts(s, slice_str(word));
}

static void
end_edge(enum role role)
{
	edge_free(&fakes[role]);
}

static void
fake_resolve(struct edge *e, struct msg_DIR_RESOLVE *m)
{
	uint8_t account[8] = {[7] = 1};
	uint8_t status = DIR_LOCAL;

	if (begins(m->address, "unknown"))
		status = DIR_UNKNOWN;
	else if (begins(m->address, "outside"))
		status = DIR_NOT_OURS;
	else if (begins(m->address, "disabled"))
		status = DIR_DISABLED;
	else if (begins(m->address, "temp"))
		status = DIR_TEMP;
	else if (begins(m->address, "strange"))
		status = 99;
	else if (begins(m->address, "kill")) {
		end_edge(ROLE_DIRECTORY);
		return;
	}
	ck_assert(IPC_SEND(e, DIR_RESOLVE_REPLY, .id = m->id, .status = status,
	    .accounts = slice_of(account, status == DIR_LOCAL ? sizeof(account) : 0)));
}

static const char *listener_name = "smtp";
static const char *store_is; /* "full", "full-552", "away" */

static void
fake_usage(struct edge *e, struct msg_STORE_USAGE *m)
{
	if (strcmp(store_is, "away") == 0)
		end_edge(ROLE_STORE);
	else
		ck_assert(IPC_SEND(e, STORE_USAGE_REPLY, .id = m->id, .full = begins(slice_str(store_is), "full") || m->bytes > 1000));
}

/* LMTP: an answer for each recipient by its first word, as far as there are any. */
static void
answer_recipients(struct edge *e, uint64_t id, const struct envelope *env)
{
	for (uint32_t i = 0; i < env->recipient_count; i++) {
		struct slice to = env->recipients[i];

		if (begins(to, "rest"))
			break;
		ck_assert(IPC_SEND(e, DELIVER_RECIPIENT, .id = id, .recipient = begins(to, "swap") ? i + 1 : i,
		    .code = begins(to, "later") ? 452 : begins(to, "odd") ? 77 : 250, .enhanced = SLICE("8.8.8"),
		    .text = begins(to, "split") ? SLICE("a\r\n250 b") : to));
	}
}

static void
fake_deliver(struct edge *e, struct msg_DELIVER_MESSAGE *m)
{
	struct arena *a = arena_new(65536);
	struct buf b;
	struct err err;
	struct envelope env;
	uint16_t code = 250;

	buf_init(&b, ENVELOPE_BYTES_MAX);
	if (memfd_read_all(m->envelope, &b, &err) < 0 || !envelope_decode(buf_slice(&b), a, &env))
		abort();
	if (env.lmtp)
		answer_recipients(e, m->id, &env);
	if (begins(env.mail_from, "kill")) {
		end_edge(ROLE_DELIVER);
	} else if (begins(env.mail_from, "echo")) {
		/* What has come: how many octets, and the first of them. */
		uint8_t text[40];
		int64_t n = memfd_read(m->message, 0, text, sizeof(text), &err);
		buf_reset(&b);
		buf_putf(&b, "%llu%s %.*s", (unsigned long long)m->bytes, env.binary ? " binary" : "", (int)n, (char *)text);
		if (env.envid.n > 0)
			buf_putf(&b, " %d %.*s %u %.*s %u", (int)env.ret, SLICE_ARG(env.envid), env.dsn[0].notify, SLICE_ARG(env.dsn[0].orcpt),
			    env.dsn[env.recipient_count - 1].notify);
		ck_assert(n >= 0 && IPC_SEND(e, DELIVER_REPLY, .id = m->id, .code = 250, .enhanced = SLICE("9.9.9"),
		    .text = buf_slice(&b)));
	} else {
		if (begins(env.mail_from, "refuse"))
			code = 550;
		else if (begins(env.mail_from, "close"))
			code = 421;
		else if (begins(env.mail_from, "strange"))
			code = 7;
		/* A reply that would end its line is none of ours, but must not break the dialogue either. */
		ck_assert(IPC_SEND(e, DELIVER_REPLY, .id = m->id, .code = code, .enhanced = SLICE("9.9.9"),
		    .text = begins(env.mail_from, "split") ? SLICE("a\r\n250 b") : SLICE("fake")));
	}
	buf_fini(&b);
	arena_free(&a);
}

static void
fake_spool(struct edge *e, struct msg_SPOOL_OPEN *m)
{
	static bool once;
	int fd = -1;
	struct err err;

	/* The first file is given, then the spool is full. */
	if (!once)
		fd = memfd_new(&err);
	ck_assert(IPC_SEND(e, SPOOL_REPLY, .id = m->id, .class = once ? ERR_LIMIT : ERR_NONE, .fd = fd));
	if (fd >= 0)
		close(fd);
	once = true;
}

static void
fake_spool_done(struct edge *e, struct msg_SPOOL_DONE *m)
{
	(void)e;
	(void)m;
}

static void
session_edge_down(struct edge *e, void *arg)
{
	(void)arg;
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
join(enum role role, const struct ipc_dispatch *ours, const struct ipc_dispatch *theirs)
{
	static const struct edge_events down = {.on_down = session_edge_down};
	static const struct edge_events fake_down = {.on_down = fake_edge_down};
	int fd[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd) < 0)
		abort();
	edges[role] = edge_new(loop, fd[0], ROLE_SMTP_FRONT, (struct edge_peer){role, 0, 1}, ours, &down, NULL);
	fakes[role] = edge_new(loop, fd[1], role, self, theirs, &fake_down, NULL);
}

/* The server: listens on a port of its own choice, tells it through the pipe, runs until killed. */
static void
serve(int tell)
{
	static const struct ipc_dispatch directory = {.DIR_RESOLVE = fake_resolve};
	static const struct ipc_dispatch store = {.STORE_USAGE = fake_usage};
	static const struct ipc_dispatch deliver = {.DELIVER_MESSAGE = fake_deliver};
	static const struct ipc_dispatch queue = {.SPOOL_OPEN = fake_spool, .SPOOL_DONE = fake_spool_done};
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(to);
	struct err e;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	log_init("test", LOG_BUG);
	loop = loop_new();
	config = config_new();
	if (config_set(config, OPT_HOSTNAME, SLICE("mail.test"), &e) < 0 || config_set(config, OPT_TRANSPORT_ENABLED, SLICE("yes"), &e) < 0 ||
	    config_set(config, OPT_SMTP_MESSAGE_BYTES, SLICE("3M"), &e) < 0 ||
	    (ahead_ms != NULL && config_set(config, OPT_SMTP_TIMEOUT, SLICE("1h"), &e) < 0) ||
	    config_set(config, OPT_POLICY_QUOTA_REFUSE, strcmp(store_is, "full-552") == 0 ? SLICE("yes") : SLICE("no"), &e) < 0 || smtpd_init(&e) < 0)
		abort();
	join(ROLE_DIRECTORY, &smtpd_from_port25_directory, &directory);
	join(ROLE_STORE, &smtpd_from_store, &store);
	join(ROLE_DELIVER, &smtpd_from_deliver, &deliver);
	join(ROLE_QUEUE, &smtpd_from_queue, &queue);
	smtpd_service.name = "smtp";
	if (bind(fd, (struct sockaddr *)&to, size) < 0 || listen(fd, 16) < 0 ||
	    getsockname(fd, (struct sockaddr *)&to, &size) < 0 || write(tell, &to.sin_port, 2) != 2)
		abort();
	smtpd_on_listener(listener_name, fd);
	loop_run(loop);
	_exit(0);
}

/* ---- the client ---- */

static pid_t server;
static int client;
static char input[65536];
static size_t input_n;

static void
start_server(const char *store)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct timeval patience = {.tv_sec = 10};
	int tell[2];

	ck_assert_int_eq(pipe(tell), 0);
	store_is = store;
	server = fork();
	ck_assert_int_ge(server, 0);
	if (server == 0)
		serve(tell[1]);
	ck_assert_int_eq(read(tell[0], &to.sin_port, 2), 2);
	client = socket(AF_INET, SOCK_STREAM, 0);
	ck_assert_int_eq(setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
	ck_assert_int_eq(connect(client, (struct sockaddr *)&to, sizeof(to)), 0);
	input_n = 0;
}

static void
stop_server(void)
{
	int status;

	close(client);
	kill(server, SIGKILL);
	ck_assert_int_eq(waitpid(server, &status, 0), server);
	/* Still running until now: nothing the client said ended it. */
	ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "the server ended by itself: %d", status);
}

/* The next line without CRLF into line; false at the end. */
static bool
read_line(char *line, size_t size)
{
	for (;;) {
		char *lf = memchr(input, '\n', input_n);
		if (lf) {
			size_t n = (size_t)(lf - input) + 1;
			ck_assert(n >= 2 && n - 2 < size && lf[-1] == '\r');
			memcpy(line, input, n - 2);
			line[n - 2] = '\0';
			memmove(input, input + n, input_n - n);
			input_n -= n;
			return true;
		}
		ssize_t got = read(client, input + input_n, sizeof(input) - input_n);
		if (got <= 0)
			return false;
		input_n += (size_t)got;
	}
}

/* "> text" sends a line; "+ text" sends just that; "< begin" takes a reply that begins so (all its lines); "!" waits for the end. */
static void
talk(const char *const *script)
{
	char line[1024];

	for (; *script; script++) {
		const char *s = *script;
		if (s[0] == '>') {
			struct buf b;
			buf_init(&b, 65536);
			buf_putf(&b, "%s\r\n", s + 2);
			ck_assert_int_eq(write(client, b.p, b.n), (ssize_t)b.n);
			buf_fini(&b);
			continue;
		}
		if (s[0] == '+') {
			ck_assert_int_eq(write(client, s + 2, strlen(s + 2)), (ssize_t)strlen(s + 2));
			continue;
		}
		if (s[0] == '!') {
			ck_assert_msg(!read_line(line, sizeof(line)), "more: %s", line);
			continue;
		}
		do
			ck_assert_msg(read_line(line, sizeof(line)), "no answer, want %s", s);
		while (line[3] == '-');
		ck_assert_msg(strncmp(line, s + 2, strlen(s + 2)) == 0, "got \"%s\", want \"%s\"", line, s + 2);
	}
}

#define HELLO "< 220 mail.test", "> EHLO x.example", "< 250 SIZE"
#define SEND(from) "> MAIL FROM:<" from "@x.example>", "< 250", "> RCPT TO:<a@test>", "< 250", "> DATA", "< 354", "> hi", "> ."

START_TEST(test_recipients)
{
	static const char *const script[] = {HELLO, "> MAIL FROM:<a@x.example>", "< 250 2.1.0", "> RCPT TO:<unknown@test>",
	    "< 550 5.1.1", "> RCPT TO:<outside@test>", "< 550 5.7.1", "> RCPT TO:<disabled@test>", "< 550 5.2.1",
	    "> RCPT TO:<temp@test>", "< 451 4.3.0", "> RCPT TO:<strange@test>", "< 451 4.3.0", "> RCPT TO:<good@test>",
	    "< 250 2.1.5", "> RCPT TO:<kill@test>", "< 451 4.3.0", "> RCPT TO:<good@test>", "< 451 4.3.0", "> DATA", "< 354",
	    "> x", "> .", "< 250 9.9.9 fake", "> QUIT", "< 221", "!", NULL};

	start_server("");
	talk(script);
	stop_server();
}
END_TEST

/* Full, or too full for what MAIL declared; a store that does not answer stops nobody. */
START_TEST(test_quota)
{
	static const char *const full[] = {
	    HELLO, "> MAIL FROM:<a@x.example>", "< 250", "> RCPT TO:<good@test>", "< 452 4.2.2", "> DATA", "< 554 5.5.1", NULL};
	static const char *const refuse[] = {HELLO, "> MAIL FROM:<a@x.example>", "< 250", "> RCPT TO:<good@test>", "< 552 5.2.2", NULL};
	static const char *const room[] = {HELLO, "> MAIL FROM:<a@x.example> SIZE=1001", "< 250", "> RCPT TO:<good@test>", "< 452 4.2.2",
	    "> RSET", "< 250", "> MAIL FROM:<a@x.example> SIZE=1000", "< 250", "> RCPT TO:<good@test>", "< 250 2.1.5", NULL};
	static const char *const away[] = {HELLO, "> MAIL FROM:<a@x.example>", "< 250", "> RCPT TO:<good@test>", "< 250 2.1.5",
	    "> RCPT TO:<good@test>", "< 250 2.1.5", NULL};

	start_server("full");
	talk(full);
	stop_server();
	start_server("full-552");
	talk(refuse);
	stop_server();
	start_server("");
	talk(room);
	stop_server();
	start_server("away");
	talk(away);
	stop_server();
}
END_TEST

START_TEST(test_outcomes)
{
	static const char *const script[] = {HELLO, SEND("good"), "< 250 9.9.9 fake", SEND("refuse"), "< 550 9.9.9 fake",
	    SEND("strange"), "< 451 4.3.0", SEND("split"), "< 250 9.9.9 a??250 b", SEND("kill"), "< 451 4.3.0", SEND("good"),
	    "< 451 4.3.0", "> NOOP", "< 250", NULL};
	static const char *const closed[] = {HELLO, SEND("close"), "< 421 9.9.9 fake", "!", NULL};

	start_server("");
	talk(script);
	stop_server();
	start_server("");
	talk(closed);
	stop_server();
}
END_TEST

#define LHELLO "< 220 mail.test LMTP", "> LHLO x.example", "< 250 SIZE"
#define LSEND(from, a, b, c)                                                                       \
	"> MAIL FROM:<" from "@x.example>", "< 250", "> RCPT TO:<" a "@test>", "< 250", "> RCPT TO:<" b "@test>", "< 250",                \
	    "> RCPT TO:<" c "@test>", "< 250", "> DATA", "< 354", "> hi", "> ."

/* RFC 2033 4.2: one reply for each, whatever deliver says, does not say, says wrongly, or dies before it said. */
START_TEST(test_lmtp_outcomes)
{
	static const char *const script[] = {LHELLO, LSEND("good", "a", "later", "b"), "< 250 8.8.8 a@test", "< 452 8.8.8 later@test", "< 250 8.8.8 b@test",
	    LSEND("refuse", "a", "rest", "b"), "< 250 8.8.8 a@test", "< 550 9.9.9 fake", "< 550 9.9.9 fake",
	    LSEND("refuse", "rest", "a", "b"), "< 550 9.9.9", "< 550 9.9.9", "< 550 9.9.9",
	    /* what is not the next one's answer is nobody's */
	    LSEND("refuse", "a", "swap", "b"), "< 250 8.8.8 a@test", "< 550 9.9.9", "< 550 9.9.9",
	    LSEND("good", "odd", "split", "a"), "< 451 4.3.0", "< 250 8.8.8 a??250 b", "< 250 8.8.8 a@test",
	    LSEND("kill", "a", "rest", "b"), "< 250 8.8.8 a@test", "< 451 4.3.0", "< 451 4.3.0",
	    LSEND("good", "a", "b", "c"), "< 451 4.3.0", "< 451 4.3.0", "< 451 4.3.0", "> NOOP", "< 250 2.0.0 OK", NULL};

	listener_name = "lmtp";
	start_server("");
	talk(script);
	stop_server();
}
END_TEST

/* On port 25 nothing of this is believed: one reply. */
START_TEST(test_one_reply)
{
	static const char *const script[] = {HELLO, LSEND("good", "a", "later", "b"), "< 250 9.9.9 fake", "> LHLO x.example", "< 500 5.5.1",
	    "> NOOP", "< 250 2.0.0 OK", NULL};

	start_server("");
	talk(script);
	stop_server();
}
END_TEST

/* Commands that arrive while an answer is due are run after it, in order. */
START_TEST(test_held_commands)
{
	static const char *const script[] = {HELLO, "> MAIL FROM:<a@x.example>", "> RCPT TO:<good@test>", "> RCPT TO:<unknown@test>",
	    "> RCPT TO:<good@test>", "> DATA", "< 250 2.1.0", "< 250 2.1.5", "< 550 5.1.1", "< 250 2.1.5", "< 354", "> x", "> .",
	    "> MAIL FROM:<b@x.example>", "> RSET", "> QUIT", "< 250 9.9.9", "< 250 2.1.0", "< 250 2.0.0", "< 221", "!", NULL};

	start_server("");
	talk(script);
	stop_server();
}
END_TEST

static void
send_big(size_t bytes)
{
	static char line[1002];

	memset(line, 'y', 1000);
	line[1000] = '\r';
	line[1001] = '\n';
	for (size_t n = 0; n < bytes; n += sizeof(line))
		ck_assert_int_eq(write(client, line, sizeof(line)), (ssize_t)sizeof(line));
}

START_TEST(test_spool)
{
	static const char *const begin[] = {"> MAIL FROM:<a@x.example>", "< 250", "> RCPT TO:<a@test>", "< 250", "> DATA", "< 354", NULL};
	static const char *const hello[] = {HELLO, NULL};
	static const char *const taken[] = {"> .", "< 250 9.9.9", NULL};
	static const char *const full[] = {"> .", "< 452 4.3.1", NULL};
	static const char *const too_big[] = {"> .", "< 552 5.3.4", NULL};

	start_server("");
	talk(hello);
	talk(begin);
	send_big(2000000); /* in the one file that there is */
	talk(taken);
	talk(begin);
	send_big(1000000); /* in memory */
	talk(taken);
	talk(begin);
	send_big(2000000);
	talk(full);
	talk(begin);
	send_big(4000000);
	talk(too_big);
	stop_server();
}
END_TEST

/* What MAIL and RCPT said of notifications is handed over. */
START_TEST(test_dsn)
{
	static const char *const script[] = {HELLO, "> MAIL FROM:<echo@x.example> RET=HDRS ENVID=e+2B1", "< 250",
	    "> RCPT TO:<a@test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b@test", "< 250", "> RCPT TO:<a@test> NOTIFY=NEVER,DELAY", "< 501 5.5.4",
	    "> RCPT TO:<c@test> NOTIFY=NEVER", "< 250", "> DATA", "< 354", "> .", "< 250 9.9.9 0  2 e+2B1 5 rfc822;b@test 8",
	    /* of the next message nothing was said */
	    "> MAIL FROM:<echo@x.example> ENVID=f", "< 250", "> RCPT TO:<a@test>", "< 250", "> BDAT 1 LAST", "+ x", "< 250 9.9.9 1 x 0 f 0  0",
	    "> HELO x.example", "< 250", "> MAIL FROM:<echo@x.example> ENVID=f", "< 555", NULL};

	start_server("");
	talk(script);
	stop_server();
}
END_TEST

/* RFC 6531 3.4, 3.5: UTF-8 in addresses when MAIL said so, and each time anew. */
START_TEST(test_smtputf8)
{
	static const char *const script[] = {HELLO, "> MAIL FROM:<\xc3\xb6@x.example>", "< 550 5.6.7", "> MAIL FROM:<\xc3\xb6@x.example> SMTPUTF8=1",
	    "< 501 5.5.4", "> MAIL FROM:<\xc3@x.example> SMTPUTF8", "< 501 5.1.7", "> MAIL FROM:<a@\xe2\x80\xa8.example> SMTPUTF8", "< 501 5.1.7",
	    "> MAIL FROM:<a@-\xc3\xb6.example> SMTPUTF8", "< 501 5.1.7", "> MAIL FROM:<\xc3\xb6@b\xc3\xbc" "cher.example> SMTPUTF8 BODY=8BITMIME", "< 250",
	    "> RCPT TO:<\xc3\xa4@test>", "< 250", "> RCPT TO:<\xff@test>", "< 501 5.1.3", "> DATA", "< 354", "> .", "< 250",
	    "> MAIL FROM:<a@x.example>", "< 250", "> RCPT TO:<\xc3\xa4@test>", "< 553 5.6.7", "> RSET", "< 250", "> HELO x.example", "< 250",
	    "> MAIL FROM:<a@x.example> SMTPUTF8", "< 555 5.5.4", NULL};

	start_server("");
	talk(script);
	stop_server();
}
END_TEST

/* Text behind a DATA that is refused, whyever, is no command (RFC 2920 3.1). Without any the session goes on. */
START_TEST(test_refused_data)
{
#define TEXT "DATA\r\nRSET\r\nMAIL FROM:<evil@x.example>\r\n.\r\n"
	static const char *const scripts[][20] = {
	    {"< 220", "+ " TEXT, "< 554 5.5.1 More", "!", NULL},
	    {HELLO, "+ " TEXT, "< 554 5.5.1 More", "!", NULL},
	    {HELLO, "+ MAIL FROM:<bad>\r\nRCPT TO:<a@test>\r\n" TEXT, "< 501", "< 503", "< 554 5.5.1 More", "!", NULL},
	    {HELLO, "> MAIL FROM:<a@x.example>", "< 250", "> RCPT TO:<a@test>", "< 250", "+ DATA now\r\nRSET\r\n", "< 554 5.5.1 More", "!", NULL},
	    {HELLO, "> MAIL FROM:<a@x.example>", "< 250", "> RCPT TO:<a@test>", "< 250", "> BDAT 1", "+ x", "< 250", "+ " TEXT,
		"< 554 5.5.1 More", "!", NULL},
	    {HELLO, "> DATA", "< 503", "> NOOP", "< 250", NULL},
	};
#undef TEXT

	for (size_t i = 0; i < sizeof(scripts) / sizeof(*scripts); i++) {
		start_server("");
		talk(scripts[i]);
		stop_server();
	}
}
END_TEST

/* ---- BDAT ---- */

#define X50 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define X450 X50 X50 X50 X50 X50 X50 X50 X50 X50
#define ECHO "> MAIL FROM:<echo@x.example>", "< 250", "> RCPT TO:<a@test>", "< 250"

START_TEST(test_chunks)
{
	static const char *const script[] = {HELLO,
	    /* pieces, an empty one, an empty last one, and what would end DATA */
	    ECHO, "> BDAT 5", "+ 12345", "< 250 2.0.0 5 octets", "> BDAT 0", "< 250", "> BDAT 7 LAST", "+ \r\n.\r\n67", "< 250 9.9.9 12 12345??.??67",
	    ECHO, "> BDAT 3", "+ abc", "< 250", "> BDAT 0 LAST", "< 250 9.9.9 3 abc", ECHO, "> BDAT 0 LAST", "< 250 9.9.9 0",
	    /* all at once; the commands between are commands again */
	    "+ MAIL FROM:<echo@x.example>\r\nRCPT TO:<a@test>\r\nBDAT 8\r\nQUITNOOPHELP\r\nHELP a\r\nBDAT 6 LAST\r\nRSET\r\nNOOP\r\n", "< 250 2.1.0",
	    "< 250 2.1.5", "< 250 2.0.0 8 octets", "< 214", "< 214", "< 250 9.9.9 14 QUITNOOPRSET??", "< 250 2.0.0 OK",
	    /* RSET and EHLO clear what came */
	    ECHO, "> BDAT 3", "+ abc", "< 250", "> RSET", "< 250", "> BDAT 2 LAST", "+ de", "< 503 5.5.1", ECHO, "> BDAT 3", "+ abc", "< 250",
	    "> EHLO x.example", "< 250", ECHO, "> BDAT 2 LAST", "+ de", "< 250 9.9.9 2 de", "> QUIT", "< 221", "!", NULL};

	start_server("");
	talk(script);
	stop_server();
}
END_TEST

/* A refused BDAT's octets are never commands, wherever it comes. */
START_TEST(test_refused_chunks)
{
	static const char *const script[] = {"< 220 mail.test", "> BDAT 6", "+ QUIT\r\n", "< 503 5.5.1 EHLO", "> HELO x.example", "< 250",
	    "> MAIL FROM:<echo@x.example>", "< 250", "> RCPT TO:<a@test>", "< 250", "> BDAT 6 LAST", "+ QUIT\r\n", "< 503 5.5.1 BDAT needs EHLO",
	    "> EHLO x.example", "< 250", "> BDAT 6", "+ QUIT\r\n", "< 503 5.5.1 Bad sequence", "> MAIL FROM:<echo@x.example>", "< 250",
	    /* no recipient: the message cannot begin later either */
	    "> BDAT 6", "+ QUIT\r\n", "< 554 5.5.1", "> RCPT TO:<a@test>", "< 503", "> BDAT 2", "+ xx", "< 503 5.5.1 A chunk", "> DATA", "< 503",
	    "> MAIL FROM:<echo@x.example>", "< 503", "> BDAT 2 LAST", "+ xx", "< 503 5.5.1 A chunk", ECHO, "> BDAT 2 LAST", "+ ab", "< 250 9.9.9 2 ab",
	    /* after LAST */
	    "> BDAT 6", "+ QUIT\r\n", "< 503 5.5.1", ECHO,
	    /* DATA and BDAT do not mix */
	    "> BDAT 2", "+ ab", "< 250", "> DATA", "< 503 5.5.1", "> RCPT TO:<a@test>", "< 503", "> RSET", "< 250",
	    /* BINARYMIME and DATA neither */
	    "> MAIL FROM:<echo@x.example> BODY=BINARYMIME", "< 250", "> RCPT TO:<a@test>", "< 250", "> DATA", "< 503 5.5.1", "> BDAT 3 LAST", "+ a\nb",
	    "< 250 9.9.9 3 binary a?b", NULL};
	static const char *const no_count[] = {HELLO, ECHO, "+ BDAT x\r\nRSET\r\nMAIL FROM:<evil@x.example>\r\n", "< 501 5.5.4", "< 421 4.7.0", "!", NULL};

	start_server("");
	talk(script);
	stop_server();
	start_server("");
	talk(no_count);
	stop_server();
}
END_TEST

/* The limit is 3 MiB: told after the first chunk that passes it. */
START_TEST(test_chunk_limits)
{
	static const char *const first[] = {HELLO, ECHO, "> BDAT 3006000", NULL};
	static const char *const second[] = {"< 250", "> BDAT 139278", NULL};
	static const char *const over[] = {"< 250", "> BDAT 450", "+ " X450, "< 250", "> BDAT 1", "+ a", "< 552 5.3.4", "> BDAT 2 LAST", "+ ab",
	    "< 503 5.5.1", "> NOOP", "< 250", NULL};
	static const char *const no_file[] = {ECHO, "> BDAT 2004000", NULL};
	static const char *const huge[] = {"< 452 4.3.1", "> BDAT 2 LAST", "+ ab", "< 503", ECHO, "> BDAT 99999999999999999999999", "< 552 5.3.4",
	    "< 421 4.3.4", "!", NULL};

	start_server("");
	talk(first);
	send_big(3006000);
	talk(second);
	send_big(139278);
	talk(over);
	talk(no_file);
	send_big(2004000);
	talk(huge);
	stop_server();
}
END_TEST

/* What is thrown away is counted, in all chunks together: 3 MiB and 64 MiB. */
START_TEST(test_wasted_chunks)
{
	static const char *const hello[] = {HELLO, NULL};
	static const char *const chunk[] = {"> BDAT 8016000", NULL};
	static const char *const refused[] = {"< 503 5.5.1", NULL};
	static const char *const closed[] = {"> BDAT 8016000", "< 503 5.5.1", "< 421 4.3.4", "!", NULL};

	start_server("");
	talk(hello);
	for (unsigned i = 0; i < 8; i++) {
		talk(chunk);
		send_big(8016000);
		talk(refused);
	}
	talk(closed);
	stop_server();
}
END_TEST

/* Says the same n times; each time the answers must begin so. */
static void
repeat(unsigned n, const char *const *script)
{
	while (n-- > 0)
		talk(script);
}

/* Each limit of one session: n is good, n + 1 is not. */
START_TEST(test_session_limits)
{
	static const char *const hello[] = {HELLO, NULL};
	static const char *const mail[] = {"> MAIL FROM:<a@x.example>", "< 250", NULL};
	static const char *const rset[] = {"> RSET", "< 250", NULL};
	static const char *const unknown[] = {"> RCPT TO:<unknown@test>", "< 550", NULL};
	static const char *const bad[] = {"> FOO", "< 500", NULL};
	static const char *const noop[] = {"> NOOP", "< 250", NULL};
	static const char *const closed[] = {"< 421 4.7.0", "!", NULL};
	static const char *const no_mail[] = {"> MAIL FROM:<a@x.example>", "< 421 4.7.0", "!", NULL};

	start_server("");
	talk(hello);
	talk(mail);
	repeat(FRONT_REFUSED_RECIPIENTS_MAX - 1, unknown);
	talk(noop);
	talk(unknown);
	talk(closed);
	stop_server();

	start_server("");
	talk(hello);
	repeat(FRONT_BAD_COMMANDS_MAX - 1, bad);
	talk(noop);
	talk(bad);
	talk(closed);
	stop_server();

	start_server("");
	talk(hello);
	repeat(FRONT_COMMANDS_MAX - 2, noop);
	talk((const char *const[]){"> NOOP", "< 250", "< 421 4.7.0", "!", NULL});
	stop_server();

	start_server("");
	talk(hello);
	for (unsigned i = 0; i < FRONT_TRANSACTIONS_MAX; i++) {
		talk(mail);
		talk(rset);
	}
	talk(no_mail);
	stop_server();
}
END_TEST

/* Lines that are too long, in all exactly as many octets as are thrown away, and one octet more. */
START_TEST(test_thrown)
{
	static const char *const hello[] = {HELLO, NULL};
	static const char *const answered[] = {"< 500 5.5.2", "> NOOP", "< 250", NULL};
	static const char *const closed[] = {"< 500 5.5.2", "< 421 4.7.0", "!", NULL};
	static char line[FRONT_THROWN_BYTES_MAX + 1];

	for (size_t over = 0; over <= 1; over++) {
		size_t n = FRONT_THROWN_BYTES_MAX + over;

		start_server("");
		talk(hello);
		memset(line, 'x', n);
		memcpy(line + n - 2, "\r\n", 2);
		for (size_t at = 0; at < n;) {
			ssize_t wrote = write(client, line + at, n - at);

			ck_assert_int_gt(wrote, 0);
			at += (size_t)wrote;
		}
		talk(over ? closed : answered);
		stop_server();
	}
}
END_TEST

/* What EHLO tells of them is what test_session_limits and test_recipients_limit find (RFC 9422). */
START_TEST(test_limits_told)
{
	static const char want[] = "250-LIMITS MAILMAX=1000 RCPTMAX=100";
	static const char *const hello[] = {"< 220 mail.test", "> EHLO x.example", NULL};
	char line[1024];

	ck_assert_uint_eq(FRONT_TRANSACTIONS_MAX, 1000);
	start_server("");
	talk(hello);
	do
		ck_assert(read_line(line, sizeof(line)) && line[3] == '-');
	while (strcmp(line, want) != 0);
	stop_server();
}
END_TEST

START_TEST(test_recipients_limit)
{
	static const char *const hello[] = {HELLO, "> MAIL FROM:<a@x.example>", "< 250", NULL};
	static const char *const good[] = {"> RCPT TO:<good@test>", "< 250", NULL};
	static const char *const over[] = {"> RCPT TO:<good@test>", "< 452 4.5.3", "> DATA", "< 354", "> x", "> .", "< 250", NULL};

	start_server("");
	talk(hello);
	repeat(100, good); /* smtp.recipients */
	talk(over);
	stop_server();
}
END_TEST

/* A client that goes away while its answer is due. */
/* The data of a message, by DATA and by BDAT, has an hour: a minute before its end all is well. The longest silence, also an hour, is broken off halfway. */
START_TEST(test_data_time)
{
	static const char *const data[] = {HELLO, "> MAIL FROM:<a@x.example>", "< 250", "> RCPT TO:<a@test>", "< 250", "> DATA", "< 354", "> hi", NULL};
	static const char *const chunk[] = {HELLO, "> MAIL FROM:<a@x.example>", "< 250", "> RCPT TO:<a@test>", "< 250", "> BDAT 6", "+ hi", NULL};
	static const char *const good[] = {">  x", "> .", "< 250 9.9.9 fake", NULL}, *const good_chunk[] = {"+ hoo", "< 250", "> RSET", "< 250", NULL};
	static const char *const late[] = {"+ x", "< 421 4.4.2", "!", NULL};

	ahead_ms = mmap(NULL, sizeof *ahead_ms, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert(ahead_ms != MAP_FAILED);
	for (size_t chunked = 0; chunked < 2; chunked++)
		for (uint64_t over = 0; over < 2; over++) {
			*ahead_ms = 0;
			start_server("");
			talk(chunked ? chunk : data);
			/* What was sent has been read when the server sleeps again. */
			usleep(200000);
			*ahead_ms = FRONT_DATA_MS_MAX / 2;
			talk((const char *const[]){"+ h", NULL});
			usleep(200000);
			*ahead_ms = FRONT_DATA_MS_MAX - (over ? 0 : 60000);
			if (over)
				talk(late);
			else
				talk(chunked ? good_chunk : good);
			stop_server();
		}
	ahead_ms = NULL;
}
END_TEST

START_TEST(test_gone_client)
{
	static const char *const script[] = {HELLO, "> MAIL FROM:<a@x.example>", "< 250", NULL};
	static const char half[] = "RCPT TO:<good@test>\r\nRCPT TO:<good@test>\r\nDATA\r\nxyz";

	start_server("");
	talk(script);
	ck_assert_int_gt(write(client, half, sizeof(half) - 1), 0);
	struct linger hard = {1, 0};
	ck_assert_int_eq(setsockopt(client, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)), 0);
	close(client);
	usleep(100000);
	client = socket(AF_INET, SOCK_STREAM, 0);
	stop_server();
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("front");
	TCase *t = tcase_create("all");

	signal(SIGPIPE, SIG_IGN);
	tcase_set_timeout(t, 30);
	tcase_add_test(t, test_recipients);
	tcase_add_test(t, test_quota);
	tcase_add_test(t, test_outcomes);
	tcase_add_test(t, test_lmtp_outcomes);
	tcase_add_test(t, test_one_reply);
	tcase_add_test(t, test_held_commands);
	tcase_add_test(t, test_spool);
	tcase_add_test(t, test_dsn);
	tcase_add_test(t, test_smtputf8);
	tcase_add_test(t, test_refused_data);
	tcase_add_test(t, test_chunks);
	tcase_add_test(t, test_refused_chunks);
	tcase_add_test(t, test_chunk_limits);
	tcase_add_test(t, test_wasted_chunks);
	tcase_add_test(t, test_session_limits);
	tcase_add_test(t, test_recipients_limit);
	tcase_add_test(t, test_thrown);
	tcase_add_test(t, test_limits_told);
	tcase_add_test(t, test_gone_client);
	tcase_add_test(t, test_data_time);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
