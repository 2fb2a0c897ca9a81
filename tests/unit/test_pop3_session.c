/*
 * POP3 sessions over socketpairs, with a store and a keeper played by this program over real edges:
 * every command, pipelining, [IN-USE], UPDATE only at QUIT, a keeper that dies, a client that
 * leaves.
 */
#include "common/memfd.h"
#include "common/role.h"
#include "common/summary.h"
#include "pop3d/keeper.h"
#include "pop3d/session.h"
#include "store/mailbox_list.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define MESSAGES_MAX 3000

static struct loop *loop;
static struct config *config;
/* This process as worker, and the ends that it plays. */
static struct edge *worker_store, *store_worker, *worker_keeper, *keeper_worker;

static struct {
	uint32_t uid;
	char text[64];
	bool gone;
	bool lost; /* its summary */
} mail[MESSAGES_MAX];
static uint32_t mail_n;
static unsigned fetches, expunges, connects, overs;
static uint32_t expunged_n;
static unsigned die_on_fetch, die_on_expunge, refuse_expunge;
static uint64_t last_sequence;
static unsigned batch; /* messages in one answer */

/* ---- what common/role.c gives ---- */

struct loop *
role_loop(void)
{
	return loop;
}

const struct config *
role_config(void)
{
	return config;
}

uint64_t
role_account(void)
{
	return 7;
}

struct edge *
role_edge(enum role peer, uint32_t instance)
{
	(void)instance;
	return peer == ROLE_STORE ? worker_store : NULL;
}

void
role_trace(struct slice session, const char *event, struct slice fields)
{
	(void)session;
	(void)event;
	(void)fields;
}

static void
down(struct edge *e, void *arg)
{
	struct edge **at = arg;

	if (e == worker_keeper)
		keeper_edge_down(e);
	*at = NULL;
	edge_free(&e);
}

static const struct edge_events edge_events = {.on_down = down};

struct edge *
role_edge_add(int fd, struct edge_peer peer)
{
	worker_keeper = edge_new(
	    loop, fd, ROLE_POP3_WORKER, peer, &keeper_dispatch, &edge_events, &worker_keeper);
	return worker_keeper;
}

/* ---- the keeper ---- */

static void
on_list(struct edge *e, struct msg_MBOX_LIST *m)
{
	struct buf b;
	struct err why;
	const struct store_mailbox boxes[] = {
	    {.number = 4, .selectable = true, .name = SLICE("Archive")},
	    {.number = 9, .selectable = true, .name = SLICE("INBOX")},
	};

	buf_init(&b, 4096);
	ck_assert(store_mailbox_put(&b, &boxes[0]) && store_mailbox_put(&b, &boxes[1]));
	int fd = memfd_of(buf_slice(&b), &why);

	ck_assert(IPC_SEND(e, MBOX_LIST_REPLY, .id = m->id, .bytes = b.n, .table = fd));
	close(fd);
	buf_fini(&b);
}

static void
die(void)
{
	edge_free(&keeper_worker);
}

static void
summarise(const char *text, struct buf *b)
{
	struct summary_builder *builder = summary_builder_new(0);

	summary_builder_feed(builder, slice_str(text));
	ck_assert(summary_builder_finish(builder, b));
	summary_builder_free(&builder);
}

static void
on_fetch(struct edge *e, struct msg_MSG_FETCH *m)
{
	struct uidset set = {0};
	struct msg_fds fds = {.n = 0};
	struct buf b, summary;
	struct err why;
	uint32_t count = 0, next = 0;
	bool objects = m->want & STORE_WANT_OBJECT;

	fetches++;
	ck_assert_uint_eq(m->mailbox, 9);
	if (die_on_fetch && die_on_fetch-- > 0) {
		die();
		return;
	}
	ck_assert_int_eq(uidset_receive(m->uids, m->uids_fd, &set, &why), 0);
	buf_init(&b, STORE_RECORDS_BYTES_MAX);
	buf_init(&summary, SUMMARY_BYTES_MAX);
	for (uint32_t i = 0; i < mail_n; i++) {
		if (mail[i].gone || !uidset_contains(&set, mail[i].uid))
			continue;
		if (count == (objects ? STORE_OBJECTS_MAX : batch)) {
			next = mail[i].uid;
			break;
		}
		struct store_record r = {.uid = mail[i].uid, .size = strlen(mail[i].text)};

		memcpy(r.object_id, &mail[i].uid, sizeof mail[i].uid);
		buf_reset(&summary);
		if ((m->want & STORE_WANT_SUMMARY) && !mail[i].lost)
			summarise(mail[i].text, &summary);
		r.summary = buf_slice(&summary);
		r.ascii_headers = !mail[i].lost && slice_is_ascii(slice_str(mail[i].text));
		ck_assert(store_record_put(&b, &r));
		count++;
		if (objects)
			fds.fd[fds.n++] = memfd_of(slice_str(mail[i].text), &why);
	}
	int fd = memfd_of(buf_slice(&b), &why);

	ck_assert(IPC_SEND(e, MSG_FETCH_REPLY, .id = m->id, .count = count, .next_uid = next,
	    .bytes = b.n, .records = fd, .objects = fds));
	close(fd);
	for (unsigned i = 0; i < fds.n; i++)
		close(fds.fd[i]);
	buf_fini(&b);
	buf_fini(&summary);
	uidset_fini(&set);
}

static void
on_expunge(struct edge *e, struct msg_MSG_EXPUNGE *m)
{
	struct uidset set = {0};
	struct err why;

	expunges++;
	ck_assert_uint_eq(m->mailbox, 9);
	ck_assert_uint_eq(m->only_deleted, 0);
	ck_assert_uint_eq(m->origin.n, STORE_ORIGIN_BYTES);
	/* Asked again it has the same number. */
	ck_assert(expunges == 1 || m->sequence == last_sequence);
	last_sequence = m->sequence;
	if (die_on_expunge && die_on_expunge-- > 0) {
		die();
		return;
	}
	if (refuse_expunge) {
		ck_assert(IPC_SEND(e, MSG_EXPUNGE_REPLY, .id = m->id, .class = ERR_TEMP));
		return;
	}
	ck_assert_int_eq(uidset_receive(m->uids, m->uids_fd, &set, &why), 0);
	expunged_n = (uint32_t)uidset_count(&set);
	for (uint32_t i = 0; i < mail_n; i++)
		mail[i].gone = mail[i].gone || uidset_contains(&set, mail[i].uid);
	ck_assert(IPC_SEND(e, MSG_EXPUNGE_REPLY, .id = m->id));
	uidset_fini(&set);
}

static const struct ipc_dispatch from_worker = {
    .MBOX_LIST = on_list, .MSG_FETCH = on_fetch, .MSG_EXPUNGE = on_expunge};

static void
edge_pair(int fds[2])
{
	ck_assert_int_eq(
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
}

static void
on_connect(struct edge *e, struct msg_STORE_CONNECT *m)
{
	int fds[2];

	connects++;
	ck_assert_uint_eq(m->account, 7);
	edge_pair(fds);
	keeper_worker = edge_new(loop, fds[0], ROLE_KEEPER,
	    (struct edge_peer){.role = ROLE_POP3_WORKER}, &from_worker, &edge_events,
	    &keeper_worker);
	ck_assert(IPC_SEND(e, STORE_CONNECTED, .id = m->id, .account = m->account, .fd = fds[1]));
	close(fds[1]);
}

/* ---- the client ---- */

static void
stop(void *arg)
{
	(void)arg;
	loop_stop(loop);
}

static void
turn(void)
{
	struct loop_timer *t = loop_timer_new(loop, stop, NULL);

	loop_timer_set(t, 1);
	loop_run(loop);
	loop_timer_free(&t);
}

static void
on_over(uint64_t number)
{
	(void)number;
	overs++;
}

static void
on_none_left(void)
{
}

static int
client_that(bool utf8)
{
	static uint64_t number;
	int fds[2];

	ck_assert_int_eq(
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
	session_new(fds[1], ++number, SLICE("test"), utf8);
	return fds[0];
}

static int
client(void)
{
	return client_that(false);
}

static void
say(int fd, const char *text)
{
	ck_assert_int_eq(send(fd, text, strlen(text), 0), (ssize_t)strlen(text));
}

/* Reads until the text seen ends in `end`. */
static const char *
until(int fd, const char *end)
{
	static char got[1 << 20];
	size_t n = 0;
	uint64_t deadline = clock_ms() + 8000;

	for (;;) {
		ssize_t r = recv(fd, got + n, sizeof got - 1 - n, 0);

		if (r > 0)
			n += (size_t)r;
		got[n] = '\0';
		if (n >= strlen(end) && strcmp(got + n - strlen(end), end) == 0)
			return got;
		if (r == 0 || clock_ms() > deadline)
			ck_abort_msg("\"%s\" instead of \"...%s\"", got, end);
		turn();
	}
}

static void
expect(int fd, const char *want)
{
	const char *got = until(fd, want);

	ck_assert_str_eq(got, want);
}

static bool
closed(int fd)
{
	char c;

	for (int i = 0; i < 500; i++) {
		if (recv(fd, &c, 1, 0) == 0)
			return true;
		turn();
	}
	return false;
}

static void
setup(void)
{
	static const struct ipc_dispatch from_store = {.STORE_CONNECTED = keeper_on_connected};
	static const struct session_events events = {.over = on_over, .none_left = on_none_left};
	static const struct ipc_dispatch store_side = {.STORE_CONNECT = on_connect};
	int fds[2];

	loop = loop_new();
	config = config_new();
	edge_pair(fds);
	worker_store = edge_new(loop, fds[0], ROLE_POP3_WORKER,
	    (struct edge_peer){.role = ROLE_STORE}, &from_store, &edge_events, &worker_store);
	store_worker = edge_new(loop, fds[1], ROLE_STORE,
	    (struct edge_peer){.role = ROLE_POP3_WORKER}, &store_side, &edge_events, &store_worker);
	session_set_events(&events);
	batch = 50000;
	mail_n = 3;
	for (uint32_t i = 0; i < mail_n; i++) {
		mail[i].uid = 10 * (i + 1);
		snprintf(mail[i].text, sizeof mail[i].text,
		    "Subject: %u\r\n\r\n.dot\r\nline\r\nend\r\n", i + 1);
	}
}

static void
many(uint32_t n)
{
	mail_n = n;
	for (uint32_t i = 0; i < n; i++) {
		mail[i].uid = 2 * i + 1;
		snprintf(mail[i].text, sizeof mail[i].text, "n: %05u\r\n\r\nx\r\n", i + 1);
	}
}

#define GREETING "+OK 3 messages (93 octets)\r\n"

START_TEST(every_command)
{
	static const struct {
		const char *say, *want;
	} steps[] = {
	    {"STAT\r\n", "+OK 3 93\r\n"},
	    {"LIST\r\n", "+OK Message numbers and octets\r\n1 31\r\n2 31\r\n3 31\r\n.\r\n"},
	    {"LIST 2\r\n", "+OK 2 31\r\n"},
	    {"LIST 4\r\n", "-ERR No such message\r\n"},
	    {"UIDL 1\r\n", "+OK 1 0a000000000000000000000000000000\r\n"},
	    {"RETR 2\r\n", "+OK 31 octets\r\nSubject: 2\r\n\r\n..dot\r\nline\r\nend\r\n.\r\n"},
	    {"TOP 1 0\r\n", "+OK 31 octets\r\nSubject: 1\r\n\r\n.\r\n"},
	    {"TOP 1 2\r\n", "+OK 31 octets\r\nSubject: 1\r\n\r\n..dot\r\nline\r\n.\r\n"},
	    {"NOOP\r\n", "+OK\r\n"},
	    {"DELE 1\r\n", "+OK Message 1 marked\r\n"},
	    {"DELE 1\r\n", "-ERR No such message\r\n"},
	    {"RETR 1\r\n", "-ERR No such message\r\n"},
	    {"STAT\r\n", "+OK 2 62\r\n"},
	    {"LIST\r\n", "+OK Message numbers and octets\r\n2 31\r\n3 31\r\n.\r\n"},
	    {"UIDL\r\n",
		"+OK Message numbers and unique-ids\r\n2 14000000000000000000000000000000\r\n"
		"3 1e000000000000000000000000000000\r\n.\r\n"},
	    {"RSET\r\n", "+OK 3 messages (93 octets)\r\n"},
	    {"STAT\r\n", "+OK 3 93\r\n"},
	    {"USER x\r\n", "-ERR Already logged in\r\n"},
	    {"UTF8\r\n", "-ERR Already logged in\r\n"},
	    {"LANG\r\n", "+OK Languages\r\nen English\r\n.\r\n"},
	    {"LANG *\r\n", "+OK en English it is\r\n"},
	    {"LANG sv\r\n", "-ERR There is only English\r\n"},
	    {"XYZ\r\n", "-ERR Unknown command\r\n"},
	    {"RETR x\r\n", "-ERR Wrong arguments\r\n"},
	    {"NOOP\n", "-ERR Lines end in CRLF\r\n"},
	    {"CAPA\r\n",
		"+OK Capability list follows\r\nTOP\r\nUIDL\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING\r\n"
		"EXPIRE NEVER\r\nLANG\r\nUTF8 USER\r\nUSER\r\nSASL PLAIN LOGIN\r\nIMPLEMENTATION Mailstead\r\n.\r\n"},
	    {"QUIT\r\n", "+OK Bye\r\n"},
	};
	int fd = client();

	expect(fd, GREETING);
	for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
		say(fd, steps[i].say);
		expect(fd, steps[i].want);
	}
	ck_assert(closed(fd));
	ck_assert_uint_eq(expunges, 0);
	close(fd);
}
END_TEST

/* RFC 6856 2.1: the sizes are those of what is sent; TOP counts its lines. Without a summary only the size told before is another. */
START_TEST(utf8_and_surrogates)
{
#define MESSAGE "Subject: \xc3\xb6\r\nX: \xc3\xb6\r\nY: z\r\n\r\n.\xc3\xb6\r\n"
#define SURROGATE "Subject: =?UTF-8?B?w7Y=?=\r\nY: z\r\n\r\n..\xc3\xb6\r\n.\r\n"
	int fd;

	for (unsigned lost = 0; lost < 2; lost++) {
		snprintf(mail[1].text, sizeof mail[1].text, "%s", MESSAGE);
		mail[1].lost = mail[2].lost = lost > 0;
		fetches = expunges = 0;
		fd = client_that(true);
		expect(fd, "+OK 3 messages (95 octets)\r\n");
		ck_assert_uint_eq(fetches, 1);
		say(fd, "LIST\r\nRETR 2\r\nQUIT\r\n");
		expect(fd, "+OK Message numbers and octets\r\n1 31\r\n2 33\r\n3 31\r\n.\r\n+OK 33 octets\r\n"
			   "Subject: \xc3\xb6\r\nX: \xc3\xb6\r\nY: z\r\n\r\n..\xc3\xb6\r\n.\r\n+OK Bye\r\n");
		close(fd);
		fd = client();
		expect(fd, lost ? "+OK 3 messages (95 octets)\r\n" : "+OK 3 messages (102 octets)\r\n");
		say(fd, "STAT\r\nLIST 2\r\n");
		expect(fd, lost ? "+OK 3 95\r\n+OK 2 33\r\n" : "+OK 3 102\r\n+OK 2 40\r\n");
		say(fd, "RETR 2\r\nTOP 2 0\r\nRETR 1\r\nDELE 2\r\nSTAT\r\nQUIT\r\n");
		expect(fd, "+OK 40 octets\r\n" SURROGATE "+OK 40 octets\r\nSubject: =?UTF-8?B?w7Y=?=\r\n"
			   "Y: z\r\n\r\n.\r\n+OK 31 octets\r\nSubject: 1\r\n\r\n..dot\r\nline\r\nend\r\n.\r\n"
			   "+OK Message 2 marked\r\n+OK 2 62\r\n+OK Bye\r\n");
		ck_assert(mail[1].gone);
		mail[1].gone = false;
		close(fd);
	}
}
END_TEST

/* More of them than are asked for at once, some gone meanwhile. */
START_TEST(many_surrogates)
{
	int fd;

	many(100);
	for (uint32_t i = 0; i < mail_n; i += 2)
		snprintf(mail[i].text, sizeof mail[i].text, "Subject: \xc3\xb6\r\n\r\n%u\r\n", 1000 + i);
	fd = client();
	/* 50 of 35 octets and 50 of 15 */
	expect(fd, "+OK 100 messages (2500 octets)\r\n");
	say(fd, "LIST 99\r\nQUIT\r\n");
	expect(fd, "+OK 99 35\r\n+OK Bye\r\n");
	close(fd);
}
END_TEST

START_TEST(removed_at_quit_only)
{
	int fd = client();

	expect(fd, GREETING);
	say(fd, "DELE 1\r\nDELE 3\r\n");
	expect(fd, "+OK Message 1 marked\r\n+OK Message 3 marked\r\n");
	/* The connection is lost: nothing happens. */
	close(fd);
	for (int i = 0; i < 20 && overs == 0; i++)
		turn();
	ck_assert_uint_eq(overs, 1);
	ck_assert_uint_eq(expunges, 0);
	fd = client();
	expect(fd, GREETING);
	say(fd, "DELE 1\r\nDELE 3\r\nQUIT\r\n");
	expect(fd, "+OK Message 1 marked\r\n+OK Message 3 marked\r\n+OK Bye\r\n");
	ck_assert(closed(fd));
	ck_assert_uint_eq(expunges, 1);
	ck_assert(mail[0].gone && !mail[1].gone && mail[2].gone);
	close(fd);
	fd = client();
	expect(fd, "+OK 1 messages (31 octets)\r\n");
	close(fd);
}
END_TEST

START_TEST(removal_that_fails_is_told)
{
	int fd = client();

	refuse_expunge = 1;
	expect(fd, GREETING);
	say(fd, "DELE 1\r\nQUIT\r\n");
	expect(fd,
	    "+OK Message 1 marked\r\n-ERR [SYS/TEMP] Some deleted messages were not removed\r\n");
	ck_assert(closed(fd));
	close(fd);
}
END_TEST

START_TEST(client_that_does_not_wait_for_quit)
{
	int fd = client();

	expect(fd, GREETING);
	say(fd, "DELE 2\r\nQUIT\r\n");
	close(fd);
	for (int i = 0; i < 50 && overs == 0; i++)
		turn();
	ck_assert_uint_eq(overs, 1);
	ck_assert_uint_eq(expunges, 1);
	ck_assert(mail[1].gone);
	/* Half closed: the answer still comes. */
	mail[1].gone = false;
	expunges = 0;
	fd = client();
	expect(fd, GREETING);
	say(fd, "DELE 2\r\nQUIT\r\n");
	shutdown(fd, SHUT_WR);
	expect(fd, "+OK Message 2 marked\r\n+OK Bye\r\n");
	close(fd);
}
END_TEST

START_TEST(one_session_at_a_time)
{
	int fd = client(), other;

	expect(fd, GREETING);
	other = client();
	expect(other, "-ERR [IN-USE] Another session has this maildrop\r\n");
	ck_assert(closed(other));
	close(other);
	say(fd, "QUIT\r\n");
	expect(fd, "+OK Bye\r\n");
	other = client();
	expect(other, GREETING);
	close(fd);
	close(other);
}
END_TEST

START_TEST(new_mail_is_for_the_next_session)
{
	int fd = client();

	expect(fd, GREETING);
	mail[3] = mail[2];
	mail[3].uid = 99;
	mail_n = 4;
	say(fd, "STAT\r\nRETR 4\r\n");
	expect(fd, "+OK 3 93\r\n-ERR No such message\r\n");
	/* And one that IMAP removed keeps its number. */
	mail[1].gone = true;
	say(fd, "STAT\r\nRETR 2\r\nTOP 3 0\r\n");
	expect(fd,
	    "+OK 3 93\r\n-ERR The message is no longer there\r\n+OK 31 octets\r\nSubject: 3\r\n\r\n.\r\n");
	close(fd);
}
END_TEST

START_TEST(pipelined_by_the_thousand)
{
	const uint32_t n = 1000;
	char *commands = malloc(1 << 20), *want = malloc(1 << 20);
	size_t at = 0, w = 0, sent = 0, got = 0;
	char *seen = malloc(1 << 20);

	many(n);
	batch = 300;
	int fd = client();

	expect(fd, "+OK 1000 messages (15000 octets)\r\n");
	for (uint32_t i = 1; i <= n; i++) {
		at += (size_t)snprintf(commands + at, 64, "RETR %u\r\nDELE %u\r\n", i, i);
		w += (size_t)snprintf(want + w, 128,
		    "+OK 15 octets\r\nn: %05u\r\n\r\nx\r\n.\r\n+OK Message %u marked\r\n", i, i);
	}
	at += (size_t)snprintf(commands + at, 64, "QUIT\r\n");
	w += (size_t)snprintf(want + w, 64, "+OK Bye\r\n");
	uint64_t deadline = clock_ms() + 20000;

	while (got < w && clock_ms() < deadline) {
		ssize_t k = sent < at ? send(fd, commands + sent, at - sent, 0) : 0;

		if (k > 0)
			sent += (size_t)k;
		turn();
		k = recv(fd, seen + got, (1 << 20) - got, 0);
		if (k > 0)
			got += (size_t)k;
	}
	ck_assert_uint_eq(got, w);
	ck_assert(memcmp(seen, want, w) == 0);
	ck_assert_uint_eq(expunged_n, n);
	/* Objects came many at a time. */
	ck_assert_uint_le(fetches, 4 + 1000 / SESSION_OBJECTS_MAX + 2);
	close(fd);
	free(commands);
	free(want);
	free(seen);
}
END_TEST

START_TEST(long_listing_waits_for_the_reader)
{
	many(MESSAGES_MAX);
	int fd = client();
	char last[80];

	until(fd, "octets)\r\n");
	say(fd, "UIDL\r\nUIDL\r\nUIDL\r\nSTAT\r\n");
	for (int i = 0; i < 30; i++)
		turn();
	snprintf(last, sizeof last, ".\r\n+OK %u %u\r\n", MESSAGES_MAX, MESSAGES_MAX * 15);
	const char *got = until(fd, last);

	ck_assert_uint_gt(strlen(got), 3 * MESSAGES_MAX * 36);
	close(fd);
}
END_TEST

START_TEST(keeper_dies)
{
	int fd = client();

	expect(fd, GREETING);
	die_on_fetch = 1;
	say(fd, "RETR 1\r\n");
	expect(fd, "+OK 31 octets\r\nSubject: 1\r\n\r\n..dot\r\nline\r\nend\r\n.\r\n");
	ck_assert_uint_eq(connects, 2);
	/* Between two commands. */
	die();
	turn();
	say(fd, "TOP 2 0\r\n");
	until(fd, ".\r\n");
	die();
	die_on_expunge = 1;
	say(fd, "DELE 3\r\nQUIT\r\n");
	expect(fd, "+OK Message 3 marked\r\n+OK Bye\r\n");
	ck_assert_uint_eq(expunges, 2);
	ck_assert(mail[2].gone);
	close(fd);
}
END_TEST

START_TEST(keeper_that_always_dies)
{
	int fd = client();

	expect(fd, GREETING);
	die_on_fetch = 100;
	say(fd, "RETR 1\r\nSTAT\r\n");
	expect(fd, "-ERR [SYS/TEMP] The message cannot be read, try again later\r\n+OK 3 93\r\n");
	close(fd);
	turn();
	turn();
	fd = client();
	expect(fd, "-ERR [SYS/TEMP] The maildrop cannot be opened, try again later\r\n");
	ck_assert(closed(fd));
	close(fd);
}
END_TEST

/* It may have removed them before it died. */
START_TEST(removal_that_kills_every_keeper)
{
	int fd = client();

	expect(fd, GREETING);
	die_on_expunge = 100;
	say(fd, "DELE 1\r\nQUIT\r\n");
	expect(fd, "+OK Message 1 marked\r\n"
		   "-ERR [SYS/TEMP] It is not known whether the deleted messages were removed\r\n");
	ck_assert(closed(fd));
	close(fd);
}
END_TEST

START_TEST(client_leaves_in_the_middle)
{
	int fd = client();

	/*
	 * While the maildrop is loading, and while an object is on its way: the next session is not
	 * disturbed.
	 */
	close(fd);
	for (int i = 0; i < 20 && overs < 1; i++)
		turn();
	fd = client();
	expect(fd, GREETING);
	say(fd, "RETR 1\r\n");
	close(fd);
	for (int i = 0; i < 20 && overs < 2; i++)
		turn();
	ck_assert_uint_eq(overs, 2);
	fd = client();
	expect(fd, GREETING);
	say(fd, "RETR 3\r\n");
	until(fd, "\r\n.\r\n");
	close(fd);
}
END_TEST

START_TEST(silence_ends_without_update)
{
	struct err e;

	ck_assert_int_eq(config_set(config, OPT_POP3_TIMEOUT, SLICE("1m"), &e), 0);
	int fd = client();

	expect(fd, GREETING);
	say(fd, "DELE 1\r\n");
	expect(fd, "+OK Message 1 marked\r\n");
	/* The stream's clock is tested on its own; here only what its end does. */
	session_end_all();
	ck_assert(closed(fd));
	for (int i = 0; i < 20; i++)
		turn();
	ck_assert_uint_eq(expunges, 0);
	close(fd);
}
END_TEST

START_TEST(errors_have_an_end)
{
	int fd = client();
	char *all = malloc(65536);
	size_t n = 0;

	expect(fd, GREETING);
	for (int i = 0; i < SESSION_BAD_MAX + 5; i++)
		n += (size_t)snprintf(all + n, 64, "garbage\r\n");
	say(fd, all);
	until(fd, "-ERR Too many errors\r\n");
	ck_assert(closed(fd));
	close(fd);
	free(all);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("pop3_session");
	TCase *c = tcase_create("pop3_session");

	tcase_set_timeout(c, 40);
	tcase_add_checked_fixture(c, setup, NULL);
	tcase_add_test(c, every_command);
	tcase_add_test(c, utf8_and_surrogates);
	tcase_add_test(c, many_surrogates);
	tcase_add_test(c, removed_at_quit_only);
	tcase_add_test(c, removal_that_fails_is_told);
	tcase_add_test(c, client_that_does_not_wait_for_quit);
	tcase_add_test(c, one_session_at_a_time);
	tcase_add_test(c, new_mail_is_for_the_next_session);
	tcase_add_test(c, pipelined_by_the_thousand);
	tcase_add_test(c, long_listing_waits_for_the_reader);
	tcase_add_test(c, keeper_dies);
	tcase_add_test(c, keeper_that_always_dies);
	tcase_add_test(c, removal_that_kills_every_keeper);
	tcase_add_test(c, client_leaves_in_the_middle);
	tcase_add_test(c, silence_ends_without_update);
	tcase_add_test(c, errors_have_an_end);
	suite_add_tcase(s, c);
	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed != 0;
}
