/*
 * Whole sessions over a socketpair, with a keeper made here that knows one mailbox: what a client says, in one block and
 * octet by octet, and what it reads; a keeper that dies in the middle; changes that come by themselves.
 */
#include "imapd/fetch_surrogate.h"
#include "imapd/session.h"

#include "common/mem.h"
#include "common/memfd.h"
#include "common/summary.h"
#include "store/record.h"

#include <check.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/socket.h>
#include <unistd.h>

#define MESSAGE "From: a@b.example\r\nSubject: s\r\n\r\nhello\r\n"
#define MESSAGES_MAX 16

/* ---- the fake keeper ---- */

static struct {
	struct loop *loop;
	struct edge *edge; /* the keeper's end */
	struct edge *worker_edge;
	struct store_entry entries[MESSAGES_MAX];
	size_t n;
	uint64_t modseq;
	uint32_t uidvalidity;
	unsigned dies_at; /* that request from now kills it; 0: never */
	bool deadly;	  /* every STORE kills it */
	bool deadly_list; /* every question for the table kills it */
	unsigned connects;
	unsigned opens;	   /* views that were asked for */
	uint32_t on_its_way; /* the expunge of this UID is told before the next fence is answered */
	enum err_code refuse; /* mutations are answered with it */
} keeper;

static struct worker worker;

static void keeper_start(void);

/* The edges end from the loop, as they do when a process dies. */
static void
keeper_down(struct edge *e, void *arg)
{
	(void)arg;
	if (e == keeper.worker_edge) {
		worker_keeper_down(&worker, e);
		edge_free(&keeper.worker_edge);
	} else {
		edge_free(&keeper.edge);
	}
}

static bool
keeper_dies(void)
{
	if (keeper.dies_at == 0 || --keeper.dies_at > 0)
		return false;
	edge_free(&keeper.edge);
	return true;
}

static void
must(bool ok)
{
	ck_assert(ok);
}

static void
on_list(struct edge *e, struct msg_MBOX_LIST *m)
{
	struct store_mailbox box = {.number = 1, .selectable = true, .subscribed = true,
	    .uidvalidity = keeper.uidvalidity, .uidnext = (uint32_t)keeper.n + 1,
	    .messages = (uint32_t)keeper.n, .name = SLICE("INBOX")};
	struct buf b;
	struct err why;
	int fd;

	if (keeper.deadly_list)
		keeper.dies_at = 1;
	if (keeper_dies())
		return;
	buf_init(&b, 1000);
	must(store_mailbox_put(&b, &box));
	fd = memfd_of(buf_slice(&b), &why);
	must(IPC_SEND(e, MBOX_LIST_REPLY, .id = m->id, .bytes = b.n, .table = fd));
	close(fd);
	buf_fini(&b);
}

static void
on_open(struct edge *e, struct msg_MBOX_OPEN *m)
{
	struct buf b;
	struct err why;
	int fd;

	if (keeper_dies())
		return;
	keeper.opens++;
	buf_init(&b, 10000);
	must(store_entries_put(&b, keeper.entries, keeper.n));
	fd = memfd_of(buf_slice(&b), &why);
	must(IPC_SEND(e, MBOX_OPEN_REPLY, .id = m->id, .mailbox = 1, .uidvalidity = keeper.uidvalidity,
	    .uidnext = MESSAGES_MAX + 1, .highestmodseq = keeper.modseq, .recent_uid = MESSAGES_MAX + 1,
	    .count = (uint32_t)keeper.n, .view = fd, .changes = -1));
	close(fd);
	buf_fini(&b);
}

static struct store_entry *
entry_find(uint32_t uid)
{
	for (size_t i = 0; i < keeper.n; i++)
		if (keeper.entries[i].uid == uid)
			return &keeper.entries[i];
	return NULL;
}

/* One change of flags, told as the keeper tells it: event, then reply. */
static void
flags_changed(struct edge *e, uint32_t uid, uint32_t flags)
{
	struct store_entry *entry = entry_find(uid);
	struct buf b;

	if (entry == NULL)
		return;
	entry->flags = flags;
	entry->modseq = keeper.modseq;
	buf_init(&b, 1000);
	must(store_entries_put(&b, entry, 1));
	must(IPC_SEND(e, EVENT_FLAGS, .mailbox = 1, .highestmodseq = keeper.modseq, .entries = buf_slice(&b)));
	buf_fini(&b);
}

static void
on_flags(struct edge *e, struct msg_MSG_FLAGS *m)
{
	struct uidset set = {0};
	struct err why;
	uint32_t uid = 0;
	size_t at = 0;

	if (keeper.deadly)
		keeper.dies_at = 1;
	if (keeper_dies())
		return;
	if (keeper.refuse) {
		must(IPC_SEND(e, MSG_FLAGS_REPLY, .id = m->id, .class = ERR_PERM, .code = keeper.refuse));
		return;
	}
	must(uidset_receive(m->uids, m->uids_fd, &set, &why) == 0);
	keeper.modseq++;
	while (uidset_next(&set, &at, &uid) && uid <= MESSAGES_MAX) {
		struct store_entry *entry = entry_find(uid);

		if (entry)
			flags_changed(e, uid,
			    m->mode == STORE_FLAGS_ADD	    ? entry->flags | m->flags
				: m->mode == STORE_FLAGS_REMOVE ? entry->flags & ~m->flags
								: m->flags);
	}
	uidset_fini(&set);
	must(IPC_SEND(e, MSG_FLAGS_REPLY, .id = m->id, .modseq = keeper.modseq));
}

static void
expunge(struct edge *e, uint32_t uid)
{
	struct store_entry *entry = entry_find(uid);
	struct uidset set = {0};
	struct buf b;

	keeper.modseq++;
	must(entry && uidset_add(&set, uid, uid));
	memmove(entry, entry + 1, (size_t)(keeper.entries + keeper.n - entry - 1) * sizeof *entry);
	keeper.n--;
	buf_init(&b, 1000);
	must(uidset_put(&b, &set));
	must(IPC_SEND(e, EVENT_MAILBOXES, .deleted = 0));
	must(IPC_SEND(e, EVENT_EXPUNGE, .mailbox = 1, .highestmodseq = keeper.modseq, .uids = buf_slice(&b)));
	buf_fini(&b);
	uidset_fini(&set);
}

static void
on_fence(struct edge *e, struct msg_MBOX_FENCE *m)
{
	if (keeper_dies())
		return;
	if (keeper.on_its_way != 0)
		expunge(e, keeper.on_its_way);
	must(IPC_SEND(e, MBOX_FENCE_REPLY, .id = m->id));
}

static void
on_expunge(struct edge *e, struct msg_MSG_EXPUNGE *m)
{
	if (keeper_dies())
		return;
	for (uint32_t uid = MESSAGES_MAX; uid > 0; uid--) {
		struct store_entry *entry = entry_find(uid);

		if (entry && (entry->flags & STORE_FLAG_DELETED))
			expunge(e, uid);
	}
	must(IPC_SEND(e, MSG_EXPUNGE_REPLY, .id = m->id, .modseq = keeper.modseq));
}

static int
object(void)
{
	struct err why;

	return memfd_of(SLICE(MESSAGE), &why);
}

static void
on_fetch(struct edge *e, struct msg_MSG_FETCH *m)
{
	struct msg reply = {.type = MSG_MSG_FETCH_REPLY};
	struct uidset set = {0};
	struct buf b;
	struct err why;

	if (keeper_dies())
		return;
	must(uidset_receive(m->uids, m->uids_fd, &set, &why) == 0);
	buf_init(&b, 10000);
	reply.u.MSG_FETCH_REPLY.id = m->id;
	for (size_t i = 0; i < keeper.n; i++) {
		struct store_record r = {.uid = keeper.entries[i].uid, .flags = keeper.entries[i].flags,
		    .modseq = keeper.entries[i].modseq, .size = sizeof MESSAGE - 1};

		if (!uidset_contains(&set, r.uid))
			continue;
		must(store_record_put(&b, &r)); /* without a summary: the worker has to make it */
		reply.u.MSG_FETCH_REPLY.count++;
		if (m->want & STORE_WANT_OBJECT)
			reply.u.MSG_FETCH_REPLY.objects.fd[reply.u.MSG_FETCH_REPLY.objects.n++] = object();
	}
	reply.u.MSG_FETCH_REPLY.bytes = b.n;
	reply.u.MSG_FETCH_REPLY.records = memfd_of(buf_slice(&b), &why);
	must(ipc_send(e, &reply));
	close(reply.u.MSG_FETCH_REPLY.records);
	for (unsigned i = 0; i < reply.u.MSG_FETCH_REPLY.objects.n; i++)
		close(reply.u.MSG_FETCH_REPLY.objects.fd[i]);
	buf_fini(&b);
	uidset_fini(&set);
}

static void
on_append(struct edge *e, struct msg_MSG_APPEND *m)
{
	if (keeper_dies())
		return;
	must(m->bytes == sizeof MESSAGE - 1 && memfd_sealed(m->message) && memfd_sealed(m->summary));
	must(IPC_SEND(e, MSG_APPEND_REPLY, .id = m->id, .mailbox = 1, .uidvalidity = keeper.uidvalidity,
	    .uid = 9));
}

/* The summary that the worker had to make comes back. */
static void
on_summary(struct edge *e, struct msg_MSG_SUMMARY *m)
{
	uint8_t sha256[STORE_SHA256_BYTES];
	struct memfd_map map;
	struct summary s;
	struct err why;

	(void)e;
	must(EVP_Digest(MESSAGE, sizeof MESSAGE - 1, sha256, NULL, EVP_sha256(), NULL) == 1);
	must(m->uid != 0 && slice_eq(m->sha256, slice_of(sha256, sizeof sha256)));
	must(memfd_map(m->summary, MEMFD_ANY_SIZE, STORE_SUMMARY_BYTES_MAX, &map, &why) == 0);
	must(summary_decode(map.octets, &s) && s.octets == sizeof MESSAGE - 1);
	memfd_unmap(&map);
}

static void
on_close_box(struct edge *e, struct msg_MBOX_CLOSE *m)
{
	(void)e;
	(void)m;
}

static void
on_recent(struct edge *e, struct msg_MBOX_RECENT *m)
{
	(void)e;
	(void)m;
}

static const struct ipc_dispatch from_worker = {
    .MBOX_LIST = on_list,
    .MBOX_OPEN = on_open,
    .MBOX_FENCE = on_fence,
    .MBOX_CLOSE = on_close_box,
    .MBOX_RECENT = on_recent,
    .MSG_FLAGS = on_flags,
    .MSG_EXPUNGE = on_expunge,
    .MSG_FETCH = on_fetch,
    .MSG_APPEND = on_append,
    .MSG_SUMMARY = on_summary,
};
static const struct edge_events edge_events = {.on_down = keeper_down};

static void
keeper_start(void)
{
	int fds[2];

	must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0);
	keeper.connects++;
	keeper.edge = edge_new(keeper.loop, fds[0], ROLE_KEEPER, (struct edge_peer){.role = ROLE_IMAP_WORKER},
	    &from_worker, &edge_events, NULL);
	keeper.worker_edge = edge_new(keeper.loop, fds[1], ROLE_IMAP_WORKER,
	    (struct edge_peer){.role = ROLE_KEEPER}, &worker_from_keeper, &edge_events, NULL);
	worker_keeper_up(&worker, keeper.worker_edge);
}

/* The store's parent answers from the loop. */
static struct loop_timer *start_timer;

static void
start_now(void *arg)
{
	(void)arg;
	if (keeper.worker_edge == NULL)
		keeper_start();
}

static void
want_keeper(void *arg)
{
	(void)arg;
	loop_timer_set(start_timer, 1);
}

static unsigned ended;

static void
session_ended(void *arg, uint64_t number)
{
	(void)arg;
	(void)number;
	ended++;
}

static const struct worker_hooks hooks = {.connect = want_keeper, .session_ended = session_ended};

/* ---- the client ---- */

static struct loop_timer *stop_timer;

static void
stop(void *arg)
{
	loop_stop(arg);
}

static void
run_for(uint64_t ms)
{
	loop_timer_set(stop_timer, ms);
	loop_run(keeper.loop);
}

static void
setup(void)
{
	memset(&keeper, 0, sizeof keeper);
	keeper.loop = loop_new();
	keeper.uidvalidity = 7;
	keeper.modseq = 1;
	for (uint32_t i = 0; i < 4; i++)
		keeper.entries[keeper.n++] = (struct store_entry){.uid = i + 1, .modseq = 1};
	start_timer = loop_timer_new(keeper.loop, start_now, NULL);
	stop_timer = loop_timer_new(keeper.loop, stop, keeper.loop);
	worker_init(&worker, keeper.loop, &hooks, NULL);
	worker_set_current(&worker);
	worker.message_bytes_max = 1000;
	worker.idle_ms = 60000;
	ended = 0;
}

static void
teardown(void)
{
	worker_fini(&worker);
	edge_free(&keeper.edge);
	edge_free(&keeper.worker_edge);
	loop_timer_free(&start_timer);
	loop_timer_free(&stop_timer);
	loop_free(&keeper.loop);
}

static int
connect_client(void)
{
	int fds[2];

	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0);
	session_new(&worker, 1, SLICE("test"), fds[1]);
	return fds[0];
}

/* Runs until the output ends in a line that begins with `tag`. */
static struct slice
read_until(int fd, const char *tag)
{
	static uint8_t text[65536];
	size_t n = 0;
	uint64_t end = clock_ms() + 5000;

	while (clock_ms() < end) {
		ssize_t got = read(fd, text + n, sizeof text - n);
		struct slice all;
		size_t line;

		if (got > 0)
			n += (size_t)got;
		all = slice_of(text, n);
		line = n > 1 ? slice_rindex(slice_sub(all, 0, n - 1), '\n') : 0;
		line = n > 1 && line < n - 1 ? line + 1 : 0;
		if (n > 0 && text[n - 1] == '\n' && slice_starts(slice_sub(all, line, n), slice_str(tag)))
			return all;
		run_for(1);
	}
	ck_abort_msg("no answer %s in: %.*s", tag, (int)n, (const char *)text);
	return slice_of(NULL, 0);
}

/* One command; says the answer. */
static struct slice
ask(int fd, const char *text, const char *tag)
{
	must(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	return read_until(fd, tag);
}

static void
check(int fd, const char *text, const char *tag, const char *want)
{
	struct slice got = ask(fd, text, tag);

	ck_assert_msg(slice_eq(got, slice_str(want)), "%s\ngave: %.*s\nwant: %s", text, SLICE_ARG(got), want);
}

/* ---- tests ---- */

#define SELECTED                                                                                   \
	"* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft)\r\n"                               \
	"* OK [PERMANENTFLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft \\*)] Flags permitted\r\n"      \
	"* 4 EXISTS\r\n* 0 RECENT\r\n* OK [UNSEEN 1] First unseen\r\n"                              \
	"* OK [UIDVALIDITY 7] UIDs valid\r\n* OK [UIDNEXT 17] Predicted next UID\r\n"

static const char *const dialogue[][3] = {
    {"a SELECT inbox\r\n", "a ", SELECTED "a OK [READ-WRITE] SELECT completed\r\n"},
    {"b FETCH 2 (FLAGS)\r\n", "b ", "* 2 FETCH (FLAGS ())\r\nb OK FETCH completed\r\n"},
    {"c FETCH 1:9 (FLAGS)\r\n", "c ", "c BAD No message with that number\r\n"},
    {"d STORE 1:2 +FLAGS (\\Deleted)\r\n", "d ",
	"* 1 FETCH (FLAGS (\\Deleted))\r\n* 2 FETCH (FLAGS (\\Deleted))\r\nd OK STORE completed\r\n"},
    {"e STORE 4 +FLAGS.SILENT (\\Seen)\r\n", "e ", "e OK STORE completed\r\n"},
    {"f UID STORE 3 FLAGS (\\Draft)\r\n", "f ",
	"* 3 FETCH (FLAGS (\\Draft) UID 3)\r\nf OK UID STORE completed\r\n"},
    {"g FETCH 3 (BODY[] UID)\r\n", "g ",
	"* 3 FETCH (FLAGS (\\Seen \\Draft) BODY[] {40}\r\n" MESSAGE " UID 3)\r\ng OK FETCH completed\r\n"},
    /* Its summary was lost: it is made from the object, which is asked for then. */
    {"h FETCH 3:4 (BODY.PEEK[TEXT] RFC822.SIZE)\r\n", "h ",
	"* 3 FETCH (BODY[TEXT] {7}\r\nhello\r\n RFC822.SIZE 40)\r\n"
	"* 4 FETCH (BODY[TEXT] {7}\r\nhello\r\n RFC822.SIZE 40)\r\nh OK FETCH completed\r\n"},
    {"i UID FETCH 4 BODY.PEEK[HEADER.FIELDS (Subject)]\r\n", "i ",
	"* 4 FETCH (UID 4 BODY[HEADER.FIELDS (Subject)] {14}\r\nSubject: s\r\n\r\n)\r\ni OK UID FETCH completed\r\n"},
    {"j SEARCH DELETED\r\n", "j ", "* SEARCH 1 2\r\nj OK SEARCH completed\r\n"},
    {"k SEARCH NOT DELETED BODY hello\r\n", "k ", "* SEARCH 3 4\r\nk OK SEARCH completed\r\n"},
    {"l APPEND INBOX (\\Seen) {40+}\r\n" MESSAGE "\r\n", "l ", "l OK [APPENDUID 7 9] APPEND completed\r\n"},
    {"m APPEND INBOX {1001}\r\n", "m ", "m NO [TOOBIG] Message is too big\r\n"},
    {"n EXPUNGE\r\n", "n ", "* 2 EXPUNGE\r\n* 1 EXPUNGE\r\nn OK EXPUNGE completed\r\n"},
    {"o FETCH 1:* (UID)\r\n", "o ", "* 1 FETCH (UID 3)\r\n* 2 FETCH (UID 4)\r\no OK FETCH completed\r\n"},
    {"p STATUS {5+}\r\nINBOX (MESSAGES)\r\n", "p ", "* STATUS INBOX (MESSAGES 2)\r\np OK STATUS completed\r\n"},
    {"q LOGOUT\r\n", "q ", "* BYE Logging out\r\nq OK LOGOUT completed\r\n"},
};

START_TEST(test_dialogue)
{
	int fd = connect_client();

	for (size_t i = 0; i < sizeof dialogue / sizeof *dialogue; i++)
		check(fd, dialogue[i][0], dialogue[i][1], dialogue[i][2]);
	close(fd);
	run_for(20);
	ck_assert_uint_eq(ended, 1);
}
END_TEST

START_TEST(test_octet_by_octet)
{
	int fd = connect_client();

	for (size_t i = 0; i < sizeof dialogue / sizeof *dialogue; i++) {
		const char *text = dialogue[i][0];
		struct slice got;

		for (size_t k = 0; text[k]; k++) {
			must(write(fd, text + k, 1) == 1);
			run_for(0);
		}
		got = read_until(fd, dialogue[i][1]);
		ck_assert_msg(slice_eq(got, slice_str(dialogue[i][2])), "%s: %.*s", text, SLICE_ARG(got));
	}
	close(fd);
}
END_TEST

START_TEST(test_pipelined)
{
	struct buf in;
	struct buf want;
	struct slice got;
	int fd = connect_client();
	size_t n = sizeof dialogue / sizeof *dialogue;

	buf_init(&in, 65536);
	buf_init(&want, 65536);
	for (size_t i = 0; i < n; i++) {
		buf_put_str(&in, dialogue[i][0]);
		buf_put_str(&want, dialogue[i][2]);
	}
	must(write(fd, in.p, in.n) == (ssize_t)in.n);
	got = read_until(fd, dialogue[n - 1][1]);
	ck_assert_msg(slice_eq(got, buf_slice(&want)), "%.*s", SLICE_ARG(got));
	buf_fini(&in);
	buf_fini(&want);
	close(fd);
}
END_TEST

/* The keeper dies at its n-th request from here, whichever that is: every answer is as if it had not. */
START_TEST(test_keeper_dies)
{
	for (unsigned n = 1; n <= 12; n++) {
		int fd;

		teardown();
		setup();
		fd = connect_client();
		keeper.dies_at = n;
		for (size_t i = 0; i < sizeof dialogue / sizeof *dialogue; i++) {
			/* A change that the dead keeper made and did not answer is told twice by this simple one. */
			struct slice got = ask(fd, dialogue[i][0], dialogue[i][1]);
			struct slice want = slice_str(dialogue[i][2]);

			ck_assert_msg(slice_eq(got, want), "dies at %u: %s: %.*s", n, dialogue[i][0],
			    SLICE_ARG(got));
		}
		ck_assert_uint_le(keeper.connects, 2);
		close(fd);
		run_for(5);
	}
}
END_TEST

/* It may have been done before it killed each of them: neither OK nor NO would be true. */
START_TEST(test_never_answered)
{
	int fd = connect_client();

	check(fd, "a SELECT INBOX\r\n", "a ", SELECTED "a OK [READ-WRITE] SELECT completed\r\n");
	keeper.deadly = true;
	check(fd, "b STORE 1 +FLAGS (\\Seen)\r\n", "* BYE",
	    "* BYE [UNAVAILABLE] It is not known whether the last command was done\r\n");
	ck_assert_uint_eq(keeper.connects, KEEPER_TRIES_MAX);
	close(fd);
}
END_TEST

/* A message that found no table of mailboxes is given back: the next one has its place. */
START_TEST(test_append_without_table)
{
	int fd = connect_client();

	keeper.deadly_list = true;
	check(fd, "a APPEND INBOX {40+}\r\n" MESSAGE "\r\n", "a ", "a NO [UNAVAILABLE] Temporary failure\r\n");
	keeper.deadly_list = false;
	check(fd, "b APPEND INBOX {40+}\r\n" MESSAGE "\r\n", "b ", "b OK [APPENDUID 7 9] APPEND completed\r\n");
	ck_assert_uint_eq(worker.spool_bytes, 0);
	close(fd);
}
END_TEST

START_TEST(test_changes_by_others)
{
	int fd = connect_client();

	check(fd, "a SELECT INBOX\r\n", "a ", SELECTED "a OK [READ-WRITE] SELECT completed\r\n");
	keeper.modseq++;
	flags_changed(keeper.edge, 4, STORE_FLAG_FLAGGED);
	expunge(keeper.edge, 2);
	run_for(10);
	/* Flags are told by any command, EXPUNGE not by these three. */
	check(fd, "b FETCH 1 (UID)\r\n", "b ",
	    "* 1 FETCH (UID 1)\r\n* 4 FETCH (FLAGS (\\Flagged))\r\nb OK FETCH completed\r\n");
	check(fd, "c FETCH 2 (FLAGS)\r\n", "c ", "c OK [EXPUNGEISSUED] Some of the messages no longer exist\r\n");
	check(fd, "d SEARCH ALL\r\n", "d ", "* SEARCH 1 3 4\r\nd OK [EXPUNGEISSUED] Some of the messages no longer exist\r\n");
	check(fd, "e NOOP\r\n", "e ", "* 2 EXPUNGE\r\ne OK NOOP completed\r\n");
	check(fd, "f IDLE\r\n", "+ ", "+ idling\r\n");
	keeper.modseq++;
	flags_changed(keeper.edge, 1, STORE_FLAG_SEEN);
	ck_assert(slice_eq(read_until(fd, "* 1 FETCH"), SLICE("* 1 FETCH (FLAGS (\\Seen))\r\n")));
	expunge(keeper.edge, 3);
	ck_assert(slice_eq(read_until(fd, "* 2 EXPUNGE"), SLICE("* 2 EXPUNGE\r\n")));
	check(fd, "DONE\r\n", "f ", "f OK IDLE terminated\r\n");
	close(fd);
}
END_TEST

START_TEST(test_changes_while_the_keeper_was_away)
{
	int fd = connect_client();

	check(fd, "a SELECT INBOX\r\n", "a ", SELECTED "a OK [READ-WRITE] SELECT completed\r\n");
	edge_free(&keeper.edge);
	keeper.entries[0].flags = STORE_FLAG_SEEN;
	keeper.entries[0].modseq = 9;
	keeper.entries[2] = keeper.entries[3]; /* UID 3 is gone */
	keeper.n = 3;
	keeper.entries[keeper.n++] = (struct store_entry){.uid = 16, .modseq = 10};
	run_for(50);
	ck_assert_uint_eq(keeper.connects, 2);
	check(fd, "b NOOP\r\n", "b ",
	    "* 3 EXPUNGE\r\n* 1 FETCH (FLAGS (\\Seen))\r\nb OK NOOP completed\r\n");
	/* Another UIDVALIDITY: nothing said so far is true. */
	edge_free(&keeper.edge);
	keeper.uidvalidity = 8;
	ck_assert(slice_eq(read_until(fd, "* BYE"), SLICE("* BYE UIDVALIDITY of the mailbox has changed\r\n")));
	close(fd);
}
END_TEST

#define SELECTED_THREE                                                                             \
	"* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft)\r\n"                               \
	"* OK [PERMANENTFLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft \\*)] Flags permitted\r\n"      \
	"* 3 EXISTS\r\n* 0 RECENT\r\n* OK [UNSEEN 2] First unseen\r\n"                              \
	"* OK [UIDVALIDITY 7] UIDs valid\r\n* OK [UIDNEXT 17] Predicted next UID\r\n"

/* A view that nobody has selected is kept true: who comes back is shown what has happened, to the last. */
START_TEST(test_select_again)
{
	int fd = connect_client(), other;

	check(fd, "a SELECT INBOX\r\n", "a ", SELECTED "a OK [READ-WRITE] SELECT completed\r\n");
	check(fd, "b UNSELECT\r\n", "b ", "b OK UNSELECT completed\r\n");
	keeper.modseq++;
	flags_changed(keeper.edge, 1, STORE_FLAG_SEEN);
	run_for(10);
	keeper.on_its_way = 3;
	check(fd, "c SELECT INBOX\r\n", "c ", SELECTED_THREE "c OK [READ-WRITE] SELECT completed\r\n");
	keeper.on_its_way = 0;
	check(fd, "d FETCH 1:* (FLAGS)\r\n", "d ",
	    "* 1 FETCH (FLAGS (\\Seen))\r\n* 2 FETCH (FLAGS ())\r\n* 3 FETCH (FLAGS ())\r\nd OK FETCH completed\r\n");
	/* Without leaving it; and by a session that comes when all have left. */
	check(fd, "e SELECT INBOX\r\n", "e ", SELECTED_THREE "e OK [READ-WRITE] SELECT completed\r\n");
	close(fd);
	run_for(10);
	other = connect_client();
	check(other, "a SELECT INBOX\r\n", "a ", SELECTED_THREE "a OK [READ-WRITE] SELECT completed\r\n");
	ck_assert_uint_eq(keeper.opens, 1);
	close(other);
}
END_TEST

/* Nobody waits for a keeper because of it, and after another one came it is not believed. */
START_TEST(test_idle_view_goes_with_its_keeper)
{
	int fd = connect_client();

	check(fd, "a SELECT INBOX\r\n", "a ", SELECTED "a OK [READ-WRITE] SELECT completed\r\n");
	check(fd, "b UNSELECT\r\n", "b ", "b OK UNSELECT completed\r\n");
	edge_free(&keeper.edge);
	run_for(50);
	ck_assert_uint_eq(keeper.connects, 1);
	keeper.entries[0].flags = STORE_FLAG_SEEN;
	keeper.entries[2] = keeper.entries[3];
	keeper.n = 3;
	check(fd, "c SELECT INBOX\r\n", "c ", SELECTED_THREE "c OK [READ-WRITE] SELECT completed\r\n");
	ck_assert_uint_eq(keeper.opens, 2);
	/* It dies while it is asked whether that is all. */
	for (unsigned n = 1; n <= 3; n++) {
		keeper.dies_at = n;
		check(fd, "d SELECT INBOX\r\n", "d ", SELECTED_THREE "d OK [READ-WRITE] SELECT completed\r\n");
		keeper.dies_at = 0;
	}
	check(fd, "e UNSELECT\r\n", "e ", "e OK UNSELECT completed\r\n");
	must(IPC_SEND(keeper.edge, EVENT_MAILBOXES, .deleted = 1));
	run_for(10);
	ck_assert_ptr_null(worker.boxes);
	close(fd);
}
END_TEST

START_TEST(test_refused)
{
	int fd = connect_client();

	check(fd, "a SELECT INBOX\r\n", "a ", SELECTED "a OK [READ-WRITE] SELECT completed\r\n");
	keeper.refuse = ERR_CODE_OVER_QUOTA;
	check(fd, "b STORE 1 +FLAGS (\\Seen)\r\n", "b ", "b NO [OVERQUOTA] Quota exceeded\r\n");
	/* Without \Seen a message can be read all the same. */
	check(fd, "c FETCH 1 (BODY[])\r\n", "c ",
	    "* 1 FETCH (BODY[] {40}\r\n" MESSAGE ")\r\nc OK FETCH completed\r\n");
	check(fd, "d SELECT nope\r\n", "d ", "d NO [NONEXISTENT] No such mailbox\r\n");
	check(fd, "e FETCH 1 (UID)\r\n", "e ", "e BAD No mailbox is selected\r\n");
	close(fd);
}
END_TEST

START_TEST(test_autologout)
{
	int fd;

	worker.idle_ms = 30;
	fd = connect_client();
	ck_assert(slice_eq(read_until(fd, "* BYE"),
	    SLICE("* BYE Autologout, nothing was heard for too long\r\n")));
	close(fd);
}
END_TEST

/* The last surrogate is kept between commands as long as all kept ones have room; who has the next message gets another. */
START_TEST(test_kept_surrogates)
{
	static const char text[] = "Subject: \xc3\xb6\r\n\r\nx\r\n";
	struct worker w = {0};
	struct session s = {.worker = &w};
	struct fetch_message m = {.record = {.uid = 5}, .has_summary = true};
	struct buf encoded;
	struct err e;
	uint64_t octets;
	int kept;

	buf_init(&encoded, SUMMARY_BYTES_MAX);
	m.fd = memfd_of(slice_of(text, sizeof text - 1), &e);
	must(summary_of_file(m.fd, &encoded) && summary_decode(buf_slice(&encoded), &m.summary));
	for (int over = 0; over < 2; over++) {
		struct fetch_message got = m;

		must(fetch_surrogate(&s, &got, &e) == 0);
		octets = got.record.size;
		kept = got.fd;
		ck_assert_uint_eq(octets, got.summary.octets);
		w.surrogate_bytes = FETCH_SURROGATES_BYTES_MAX - octets + (unsigned)over;
		fetch_surrogate_keep(&s);
		ck_assert((s.surrogate == NULL) == (over == 1));
		if (over == 0) {
			ck_assert_uint_eq(w.surrogate_bytes, FETCH_SURROGATES_BYTES_MAX);
			fetch_surrogate_keep(&s);
			got = m;
			must(fetch_surrogate(&s, &got, &e) == 0 && got.fd == kept);
			got = m;
			got.record.uid = 6;
			must(fetch_surrogate(&s, &got, &e) == 0 && s.surrogate != NULL);
		}
		ck_assert_uint_eq(w.surrogate_bytes, FETCH_SURROGATES_BYTES_MAX - octets + (unsigned)over);
	}
	fetch_surrogate_forget(&s);
	close(m.fd);
	buf_fini(&encoded);
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("imap_session");
	TCase *tc = tcase_create("all");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_dialogue);
	tcase_add_test(tc, test_octet_by_octet);
	tcase_add_test(tc, test_pipelined);
	tcase_add_test(tc, test_keeper_dies);
	tcase_add_test(tc, test_append_without_table);
	tcase_add_test(tc, test_never_answered);
	tcase_add_test(tc, test_changes_by_others);
	tcase_add_test(tc, test_changes_while_the_keeper_was_away);
	tcase_add_test(tc, test_select_again);
	tcase_add_test(tc, test_idle_view_goes_with_its_keeper);
	tcase_add_test(tc, test_refused);
	tcase_add_test(tc, test_autologout);
	tcase_add_test(tc, test_kept_surrogates);
	suite_add_tcase(suite, tc);
	sr = srunner_create(suite);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
