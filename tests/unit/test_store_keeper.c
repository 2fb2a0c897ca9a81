/*
 * The keeper over real edges, in one process: what its peers ask, what each is
 * told and in which order, and that nothing is told before it is durable.
 */
#include "tests/unit/store_fixture.h"

#include "common/loop.h"
#include "common/mem.h"
#include "store/file.h"
#include "store/keeper_private.h"
#include "store/object.h"
#include "store/record.h"
#include "store/view.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

static char root[64];
static struct loop *loop;
static struct index *ix;
static struct err err;
static bool broken;
static uint32_t inbox;

/* What a peer heard, one letter a message: N F X M R events, a f c e o l t answers. */
struct heard {
	char text[256];
	size_t n;
	uint32_t class, code, uid, count;
	uint64_t modseq;
	struct store_view view;
	bool view_open;
	bool view_true;
	struct slice summary;
	char summary_text[64];
	char object_text[64];
};

struct peer {
	struct edge *client;
	struct edge *server;
	int fd; /* the client's end, to look at */
	struct heard h;
};
static struct peer imap1, imap2, pop3, deliver, admin;

static void
hear(struct edge *e, char c)
{
	struct heard *h = edge_arg(e);

	if (h->n + 1 < sizeof h->text)
		h->text[h->n++] = c;
	if (c >= 'a')
		loop_stop(loop);
}

static void
on_new(struct edge *e, struct msg_EVENT_NEW *m)
{
	struct heard *h = edge_arg(e);

	h->view_true = h->view_true && store_view_new(&h->view, m);
	hear(e, 'N');
}

static void
on_flags_event(struct edge *e, struct msg_EVENT_FLAGS *m)
{
	struct heard *h = edge_arg(e);

	h->view_true = h->view_true && store_view_flags(&h->view, m);
	hear(e, 'F');
}

static void
on_expunge_event(struct edge *e, struct msg_EVENT_EXPUNGE *m)
{
	struct heard *h = edge_arg(e);

	h->view_true = h->view_true && store_view_expunge(&h->view, m);
	hear(e, 'X');
}

static void
on_mailboxes(struct edge *e, struct msg_EVENT_MAILBOXES *m)
{
	(void)m;
	hear(e, 'M');
}

static void
on_resync(struct edge *e, struct msg_EVENT_RESYNC *m)
{
	(void)m;
	hear(e, 'R');
}

#define ANSWER(NAME, letter, extra)                                                                \
	static void on_##NAME(struct edge *e, struct msg_##NAME *m)                                \
	{                                                                                          \
		struct heard *h = edge_arg(e);                                                     \
		h->class = m->class;                                                               \
		h->code = m->code;                                                                 \
		extra;                                                                             \
		hear(e, letter);                                                                   \
	}
ANSWER(MSG_APPEND_REPLY, 'a', h->uid = m->uid)
ANSWER(MSG_FLAGS_REPLY, 'f', h->modseq = m->modseq)
ANSWER(MSG_COPY_REPLY, 'c', h->count = (uint32_t)(m->target_uids.n / 8))
ANSWER(MSG_EXPUNGE_REPLY, 'e', h->modseq = m->modseq)
ANSWER(MBOX_LIST_REPLY, 'l', h->count = (uint32_t)m->bytes)
ANSWER(MBOX_CHANGE_REPLY, 't', h->uid = m->mailbox)
ANSWER(STORE_OBJECTS_REPLY, 'b', (h->count = m->objects.n, h->modseq = m->missing))

static void
on_open_reply(struct edge *e, struct msg_MBOX_OPEN_REPLY *m)
{
	struct heard *h = edge_arg(e);

	h->class = m->class;
	h->code = m->code;
	if (m->class == ERR_NONE) {
		if (h->view_open)
			store_view_close(&h->view);
		h->view_open = h->view_true = store_view_open(&h->view, m, &err) == 0;
	}
	hear(e, 'o');
}

static void
on_fetch_reply(struct edge *e, struct msg_MSG_FETCH_REPLY *m)
{
	struct heard *h = edge_arg(e);
	struct store_record r;
	struct memfd_map map;

	h->class = m->class;
	h->code = m->code;
	h->count = m->count;
	if (m->class == ERR_NONE && m->count > 0 && memfd_map(m->records, m->bytes, m->bytes, &map, &err) == 0) {
		struct cursor c = cursor_of(map.octets);

		if (store_record_next(&c, &r) && !slice_cstr(r.summary, h->summary_text, sizeof h->summary_text))
			h->summary_text[0] = '\0';
		memfd_unmap(&map);
	}
	if (m->objects.n > 0) {
		ssize_t n = pread(m->objects.fd[0], h->object_text, sizeof h->object_text - 1, 0);

		h->object_text[n > 0 ? n : 0] = '\0';
	}
	hear(e, 'g');
}

static const struct ipc_dispatch from_keeper = {
    .EVENT_NEW = on_new,
    .EVENT_FLAGS = on_flags_event,
    .EVENT_EXPUNGE = on_expunge_event,
    .EVENT_MAILBOXES = on_mailboxes,
    .EVENT_RESYNC = on_resync,
    .MSG_APPEND_REPLY = on_MSG_APPEND_REPLY,
    .MSG_FLAGS_REPLY = on_MSG_FLAGS_REPLY,
    .MSG_COPY_REPLY = on_MSG_COPY_REPLY,
    .MSG_EXPUNGE_REPLY = on_MSG_EXPUNGE_REPLY,
    .MBOX_LIST_REPLY = on_MBOX_LIST_REPLY,
    .MBOX_CHANGE_REPLY = on_MBOX_CHANGE_REPLY,
    .MBOX_OPEN_REPLY = on_open_reply,
    .MSG_FETCH_REPLY = on_fetch_reply,
    .STORE_OBJECTS_REPLY = on_STORE_OBJECTS_REPLY,
};

static void
on_down(struct edge *e, void *arg)
{
	(void)e;
	(void)arg;
	loop_stop(loop);
}

static void
on_broken(void *arg)
{
	(void)arg;
	broken = true;
	loop_stop(loop);
}

static void
peer_open(struct peer *p, enum role role, const struct ipc_dispatch *dispatch)
{
	static const struct edge_events events = {.on_down = on_down};
	int pair[2];

	*p = (struct peer){.h = {.n = 0}};
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	p->fd = dup(pair[1]);
	p->server = edge_new(loop, pair[0], ROLE_KEEPER, (struct edge_peer){.role = role, .generation = 1}, dispatch, &events, NULL);
	keeper_peer_up(p->server);
	p->client = edge_new(loop, pair[1], role, (struct edge_peer){.role = ROLE_KEEPER}, &from_keeper, &events, &p->h);
	edge_set_arg(p->client, &p->h);
}

static void
peer_close(struct peer *p)
{
	if (p->server == NULL)
		return;
	keeper_peer_down(p->server);
	edge_free(&p->server);
	edge_free(&p->client);
	close(p->fd);
	if (p->h.view_open)
		store_view_close(&p->h.view);
	p->h.view_open = false;
}

/* What the parent was told and asked. */
static struct {
	unsigned ceilings, wants;
	struct quota ceiling, want;
	uint64_t id;
	bool last;
} parent;

static void
on_ceiling(void *arg, struct quota ceiling, bool last)
{
	(void)arg;
	parent.ceilings++;
	parent.ceiling = ceiling;
	parent.last = last;
}

static bool
on_want(void *arg, uint64_t id, struct quota total)
{
	(void)arg;
	parent.wants++;
	parent.id = id;
	parent.want = total;
	return true;
}

/* The parent has not said yet what the limits are. */
static void
setup_new(void)
{
	static const struct keeper_events events = {.broken = on_broken, .ceiling = on_ceiling, .want = on_want};
	static const struct keeper_settings settings = {
	    .retention_s = 1000, .quota_wait_ms = 200, .retention_bytes = UINT64_C(1) << 30};

	fixture_dir(root);
	loop = loop_new();
	broken = false;
	ck_assert_int_eq(index_open(root, FIXTURE_NOW, &ix, &err), 0);
	inbox = index_target(ix, STORE_TARGET_INBOX);
	keeper_start(loop, ix, root, &settings, &events, NULL);
	memset(&parent, 0, sizeof parent);
	peer_open(&imap1, ROLE_IMAP_WORKER, &keeper_from_imap);
	peer_open(&imap2, ROLE_IMAP_WORKER, &keeper_from_imap);
	peer_open(&pop3, ROLE_POP3_WORKER, &keeper_from_pop3);
	peer_open(&deliver, ROLE_DELIVER, &keeper_from_deliver);
	peer_open(&admin, ROLE_ADMIN, &keeper_from_admin);
}

static void
setup(void)
{
	setup_new();
	keeper_quota_set((struct quota){10000, QUOTA_NONE}, false);
}

static void
teardown(void)
{
	peer_close(&imap1);
	peer_close(&imap2);
	peer_close(&pop3);
	peer_close(&deliver);
	peer_close(&admin);
	keeper_stop();
	loop_free(&loop);
	(void)tree_remove(root);
}

static void
on_time(void *arg)
{
	*(bool *)arg = true;
	loop_stop(loop);
}

static void
run_for(struct loop_timer *t, bool *late, uint64_t ms)
{
	for (*late = false; !*late;) {
		loop_timer_set(t, ms);
		loop_run(loop);
	}
}

/* Runs the loop until it was quiet for a moment; and some rounds more, since the clock goes on while this process has to wait. */
static void
settle(void)
{
	bool late;
	struct loop_timer *t = loop_timer_new(loop, on_time, &late);

	run_for(t, &late, 30);
	for (int round = 0; round < 40; round++)
		run_for(t, &late, 0);
	loop_timer_free(&t);
}

static void
assert_heard(struct peer *p, const char *want)
{
	settle();
	p->h.text[p->h.n] = '\0';
	ck_assert_str_eq(p->h.text, want);
	p->h.n = 0;
}

static const uint8_t origin[] = "0123456789abcdef";

static void
send_append(struct peer *p, uint64_t sequence, const char *text, const char *claimed)
{
	uint8_t sha256[32];
	int fd = memfd_of(slice_str(text), &err), summary = memfd_of(SLICE("the summary"), &err);

	EVP_Digest(claimed, strlen(claimed), sha256, NULL, EVP_sha256(), NULL);
	ck_assert(IPC_SEND(p->client, MSG_APPEND, .id = 1, .origin = slice_of(origin, 16), .sequence = sequence,
	    .target = STORE_TARGET_INBOX, .bytes = strlen(text), .sha256 = slice_of(sha256, 32), .message = fd, .summary = summary));
	close(fd);
	close(summary);
}

static void
open_inbox(struct peer *p)
{
	settle();
	p->h.n = 0;
	ck_assert(IPC_SEND(p->client, MBOX_OPEN, .id = 2, .mailbox = inbox));
	assert_heard(p, "o");
	ck_assert(p->h.view_open);
}

static const uint8_t all[] = "\0\0\0\1\xff\xff\xff\xff";

/* Delivered once although asked three times; every watcher's view follows; deliver itself hears only answers. */
START_TEST(test_delivery)
{
	open_inbox(&imap1);
	open_inbox(&pop3);
	send_append(&deliver, 7, "a message", "a message");
	send_append(&deliver, 7, "a message", "a message");
	assert_heard(&deliver, "aa");
	ck_assert_uint_eq(deliver.h.class, ERR_NONE);
	ck_assert_uint_eq(deliver.h.uid, 1);
	send_append(&deliver, 7, "a message", "a message");
	assert_heard(&deliver, "a");
	ck_assert_uint_eq(deliver.h.uid, 1);
	assert_heard(&imap1, "NM");
	assert_heard(&pop3, "NM");
	assert_heard(&imap2, "M");
	ck_assert(imap1.h.view_true && imap1.h.view.count == 1 && pop3.h.view.count == 1);
	ck_assert_uint_eq(index_usage(ix).messages, 1);
	ck_assert_int_eq(index_check(ix, &err), 0);
}
END_TEST

/*
 * A reader asks whenever a sync begins, that is at the worst moment: it is answered before the next one does, whatever
 * the others want meanwhile.
 */
static struct {
	bool asked;
	unsigned questions;
	unsigned waited; /* syncs that began while the question stood and no answer was in the socket */
	unsigned longest;
} reader;

static int
counted_sync(int fd)
{
	static const uint8_t first[] = "\0\0\0\1\0\0\0\1";
	struct pollfd p = {.fd = imap2.fd, .events = POLLIN};

	if (!reader.asked) {
		reader.asked = true;
		reader.waited = 0;
		reader.questions++;
		ck_assert(IPC_SEND(imap2.client, MSG_FETCH, .id = 9, .mailbox = inbox, .uids = slice_of(first, 8), .uids_fd = -1));
	} else if (poll(&p, 1, 0) == 0 && ++reader.waited > reader.longest) {
		reader.longest = reader.waited;
	}
	return file_system_ops()->sync(fd);
}

/* Runs the loop until it was quiet for a moment, and notes the reader's answers as they come. */
static void
run_reader(void)
{
	bool late = false;
	struct loop_timer *t = loop_timer_new(loop, on_time, &late);

	while (!late) {
		loop_timer_set(t, 30);
		loop_run(loop);
		if (memchr(imap2.h.text, 'g', imap2.h.n) != NULL)
			reader.asked = false;
		imap2.h.n = 0;
	}
	loop_timer_free(&t);
}

START_TEST(test_reader_waits_one_sync)
{
	static const struct file_ops counting = {.sync = counted_sync};

	send_append(&deliver, 1, "the first", "the first");
	assert_heard(&deliver, "a");
	assert_heard(&imap2, "M"); /* and no more, since it does not ask for the table */
	file_use(&counting);
	for (uint64_t n = 2; n <= 9; n++) {
		send_append(&deliver, n, "another message", "another message");
		send_append(&imap1, n + 100, "and another", "and another");
		ck_assert(IPC_SEND(imap1.client, MSG_FLAGS, .id = 3, .origin = slice_of(origin, 16), .sequence = n + 200,
		    .mailbox = inbox, .mode = STORE_FLAGS_REPLACE, .flags = n % 2 ? STORE_FLAG_SEEN : 0,
		    .unchangedsince = UINT64_MAX, .uids = slice_of(all, 8), .uids_fd = -1));
	}
	run_reader();
	file_use(NULL);
	ck_assert_uint_gt(reader.questions, 5);
	ck_assert_uint_eq(reader.longest, 0);
	ck_assert_uint_eq(index_usage(ix).messages, 17);
	ck_assert_int_eq(index_check(ix, &err), 0);
}
END_TEST

/* More than wait at once: the rest waits in the sockets, and all are done, each once. */
START_TEST(test_more_than_wait)
{
	settle();
	for (uint64_t n = 1; n <= 220; n++) {
		send_append(&deliver, n, "one", "one");
		send_append(&imap1, n + 1000, "two", "two");
		send_append(&imap2, n + 2000, "three", "three");
	}
	/* A group takes longer than the moment of quiet that settle() waits for. */
	for (unsigned i = 0; i < 1000 && index_usage(ix).messages < 660; i++)
		settle();
	settle();
	ck_assert_uint_eq(index_usage(ix).messages, 660);
	ck_assert_int_eq(index_check(ix, &err), 0);
}
END_TEST

static double
processor_ms(void)
{
	struct timespec t;

	ck_assert_int_eq(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t), 0);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* What came with its descriptors and cannot be kept for want of others is tried again after pauses. */
START_TEST(test_no_descriptor_to_keep)
{
	struct rlimit old, few;
	bool late;
	int highest = 0;

	settle();
	send_append(&deliver, 1, "one", "one");
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &old), 0);
	/* Numbers for the message and its summary, and for no copy of either. */
	for (int left = 2; left > 0 || fcntl(highest, F_GETFD) >= 0; highest++)
		left -= fcntl(highest, F_GETFD) < 0;
	few = (struct rlimit){(rlim_t)highest, old.rlim_max};
	struct loop_timer *t = loop_timer_new(loop, on_time, &late);
	double before = processor_ms();

	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
	run_for(t, &late, 500);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &old), 0);
	loop_timer_free(&t);
	ck_assert_msg(processor_ms() - before < 20, "%.1f ms", processor_ms() - before);
	ck_assert_uint_eq(index_usage(ix).messages, 0);
	assert_heard(&deliver, "a");
	ck_assert_uint_eq(deliver.h.class, ERR_NONE);
	ck_assert_uint_eq(index_usage(ix).messages, 1);
}
END_TEST

START_TEST(test_append_refused)
{
	char big[20000];

	send_append(&deliver, 1, "one thing", "another!!");
	assert_heard(&deliver, "a");
	ck_assert_uint_eq(deliver.h.code, ERR_CODE_MALFORMED);
	memset(big, 'x', sizeof big - 1);
	big[sizeof big - 1] = '\0';
	send_append(&deliver, 2, big, big);
	assert_heard(&deliver, "a");
	ck_assert_uint_eq(deliver.h.code, ERR_CODE_OVER_QUOTA);
	ck_assert_uint_eq(index_usage(ix).messages, 0);
	/* Neither stands in the way of the next. */
	send_append(&deliver, 3, "good", "good");
	assert_heard(&deliver, "a");
	ck_assert_uint_eq(deliver.h.class, ERR_NONE);
	ck_assert_int_eq(index_check(ix, &err), 0);
}
END_TEST

static void
append_at(struct peer *p, uint64_t sequence, uint32_t mailbox, uint32_t uid)
{
	uint8_t sha256[32];
	int fd = memfd_of(SLICE("text"), &err);

	EVP_Digest("text", 4, sha256, NULL, EVP_sha256(), NULL);
	ck_assert(IPC_SEND(p->client, MSG_APPEND, .id = 1, .origin = slice_of(origin, 16), .sequence = sequence, .mailbox = mailbox,
	    .uid = uid, .bytes = 4, .sha256 = slice_of(sha256, 32), .message = fd, .summary = -1));
	close(fd);
}

/* Only the command says which UID; what it filled takes INBOX's place, and those who look at either have to open it again. */
START_TEST(test_import)
{
	uint32_t stage;

	append_at(&imap1, 1, inbox, 7);
	assert_heard(&imap1, "a");
	ck_assert_uint_eq(imap1.h.code, ERR_CODE_DENIED);
	append_at(&deliver, 2, inbox, 7);
	assert_heard(&deliver, "a");
	ck_assert_uint_eq(deliver.h.code, ERR_CODE_DENIED);
	ck_assert(IPC_SEND(admin.client, MBOX_CHANGE, .id = 7, .origin = slice_of(origin, 16), .sequence = 3, .verb = MBOX_CREATE,
	    .name = SLICE("stage")));
	assert_heard(&admin, "t");
	stage = admin.h.uid;
	append_at(&admin, 4, stage, 7);
	assert_heard(&admin, "a");
	ck_assert_uint_eq(admin.h.uid, 7);
	open_inbox(&imap1);
	ck_assert(IPC_SEND(imap2.client, MBOX_OPEN, .id = 2, .mailbox = stage));
	settle();
	imap1.h.n = imap2.h.n = 0;
	for (unsigned again = 0; again < 2; again++) {
		ck_assert(IPC_SEND(admin.client, MBOX_ADOPT, .id = 8, .origin = slice_of(origin, 16), .sequence = 5, .mailbox = stage,
		    .name = SLICE("INBOX"), .uidvalidity = 1234567890, .uidnext = 9));
		assert_heard(&admin, "t");
		ck_assert_uint_eq(admin.h.class, ERR_NONE);
		ck_assert_uint_eq(admin.h.uid, stage);
	}
	assert_heard(&imap1, "M");
	assert_heard(&imap2, "RM");
	ck_assert_uint_eq(index_target(ix, STORE_TARGET_INBOX), stage);
	ck_assert_int_eq(index_check(ix, &err), 0);
}
END_TEST

/* The events that a request causes come before its answer, and to all watchers. */
START_TEST(test_changes)
{
	for (uint64_t i = 0; i < 5; i++)
		send_append(&deliver, i, "m", "m");
	assert_heard(&deliver, "aaaaa");
	open_inbox(&imap1);
	open_inbox(&imap2);
	imap1.h.n = imap2.h.n = 0;
	ck_assert(IPC_SEND(imap1.client, MSG_FLAGS, .id = 3, .origin = slice_of(origin, 16), .sequence = 100, .mailbox = inbox,
	    .mode = STORE_FLAGS_ADD, .flags = STORE_FLAG_DELETED, .unchangedsince = UINT64_MAX,
	    .uids = slice_of("\0\0\0\2\0\0\0\3", 8), .uids_fd = -1));
	assert_heard(&imap1, "Ff");
	assert_heard(&imap2, "F");
	ck_assert_uint_gt(imap1.h.modseq, 0);
	ck_assert(IPC_SEND(imap1.client, MSG_EXPUNGE, .id = 4, .origin = slice_of(origin, 16), .sequence = 101, .mailbox = inbox,
	    .only_deleted = 1, .uids = slice_of(all, 8), .uids_fd = -1));
	assert_heard(&imap1, "Xe");
	assert_heard(&imap2, "X");
	ck_assert(imap2.h.view_true);
	ck_assert_uint_eq(imap2.h.view.count, 3);
	ck_assert(IPC_SEND(imap1.client, MSG_COPY, .id = 5, .origin = slice_of(origin, 16), .sequence = 102, .mailbox = inbox,
	    .target_mailbox = inbox, .move = 1, .uids = slice_of(all, 8), .uids_fd = -1));
	assert_heard(&imap1, "XNc");
	assert_heard(&imap2, "XN");
	ck_assert(imap1.h.view_true && imap2.h.view_true);
	ck_assert_uint_eq(imap2.h.view.entries[0].uid, 6);
	/* Asked again: answered, not done. */
	ck_assert(IPC_SEND(imap2.client, MSG_COPY, .id = 6, .origin = slice_of(origin, 16), .sequence = 102, .mailbox = inbox,
	    .target_mailbox = inbox, .move = 1, .uids = slice_of(all, 8), .uids_fd = -1));
	assert_heard(&imap2, "c");
	ck_assert_uint_eq(imap2.h.class, ERR_NONE);
	ck_assert_uint_eq(index_mailbox(ix, inbox)->uidnext, 9);
	/* The same sequence for something else is malformed. */
	ck_assert(IPC_SEND(imap2.client, MBOX_CHANGE, .id = 7, .origin = slice_of(origin, 16), .sequence = 102,
	    .verb = MBOX_CREATE, .name = SLICE("new")));
	assert_heard(&imap2, "t");
	ck_assert_uint_eq(imap2.h.code, ERR_CODE_MALFORMED);
}
END_TEST

START_TEST(test_fetch)
{
	send_append(&deliver, 1, "the object", "the object");
	assert_heard(&deliver, "a");
	ck_assert(IPC_SEND(pop3.client, MSG_FETCH, .id = 8, .mailbox = inbox, .want = STORE_WANT_SUMMARY | STORE_WANT_OBJECT,
	    .uids = slice_of(all, 8), .uids_fd = -1));
	assert_heard(&pop3, "Mg");
	ck_assert_uint_eq(pop3.h.count, 1);
	ck_assert_str_eq(pop3.h.summary_text, "the summary");
	ck_assert_str_eq(pop3.h.object_text, "the object");
	ck_assert(IPC_SEND(imap1.client, MSG_FETCH, .id = 9, .mailbox = 999, .uids = slice_of(all, 8), .uids_fd = -1));
	assert_heard(&imap1, "Mg");
	ck_assert_uint_eq(imap1.h.code, ERR_CODE_NOT_FOUND);
	ck_assert(IPC_SEND(imap1.client, MSG_FETCH, .id = 9, .mailbox = inbox, .uids = SLICE("bad"), .uids_fd = -1));
	assert_heard(&imap1, "g");
	ck_assert_uint_eq(imap1.h.code, ERR_CODE_MALFORMED);
}
END_TEST

static int
no_descriptor(const char *path, int flags, mode_t mode)
{
	(void)path;
	(void)flags;
	(void)mode;
	errno = EMFILE;
	return -1;
}

/* A file that is there but cannot be opened is not called missing: a copy would be made without it. */
START_TEST(test_objects)
{
	struct file_ops ops = *file_system_ops();
	uint8_t ids[2 * STORE_OBJECT_ID_BYTES], sha256[32];

	send_append(&deliver, 1, "the object", "the object");
	assert_heard(&deliver, "a");
	EVP_Digest("the object", 10, sha256, NULL, EVP_sha256(), NULL);
	object_id(index_object_next(ix) - 1, sha256, ids);
	object_id(12345, sha256, ids + STORE_OBJECT_ID_BYTES);
	ck_assert(IPC_SEND(admin.client, STORE_OBJECTS, .id = 1, .ids = slice_of(ids, sizeof ids)));
	assert_heard(&admin, "b");
	ck_assert_uint_eq(admin.h.class, ERR_NONE);
	ck_assert_uint_eq(admin.h.count, 1);
	ck_assert_uint_eq(admin.h.modseq, 2);
	ops.open = no_descriptor;
	file_use(&ops);
	ck_assert(IPC_SEND(admin.client, STORE_OBJECTS, .id = 2, .ids = slice_of(ids, sizeof ids)));
	assert_heard(&admin, "b");
	ck_assert_uint_eq(admin.h.class, ERR_TEMP);
	ck_assert_uint_eq(admin.h.count, 0);
	ck_assert_uint_eq(admin.h.modseq, 0);
	file_use(NULL);
}
END_TEST

/* POP3 has INBOX and nothing else. */
START_TEST(test_pop3_is_confined)
{
	uint32_t junk = index_target(ix, STORE_TARGET_JUNK);

	ck_assert(IPC_SEND(pop3.client, MBOX_OPEN, .id = 2, .mailbox = junk));
	assert_heard(&pop3, "o");
	ck_assert_uint_eq(pop3.h.code, ERR_CODE_DENIED);
	ck_assert(IPC_SEND(pop3.client, MSG_FETCH, .id = 2, .mailbox = junk, .uids = slice_of(all, 8), .uids_fd = -1));
	assert_heard(&pop3, "g");
	ck_assert_uint_eq(pop3.h.code, ERR_CODE_DENIED);
	ck_assert(IPC_SEND(pop3.client, MSG_EXPUNGE, .id = 4, .origin = slice_of(origin, 16), .sequence = 1, .mailbox = junk,
	    .uids = slice_of(all, 8), .uids_fd = -1));
	assert_heard(&pop3, "e");
	ck_assert_uint_eq(pop3.h.code, ERR_CODE_DENIED);
}
END_TEST

/* A watched mailbox goes; the others' table is old. */
START_TEST(test_mailbox_goes)
{
	uint32_t junk = index_target(ix, STORE_TARGET_JUNK);

	ck_assert(IPC_SEND(imap2.client, MBOX_OPEN, .id = 2, .mailbox = junk));
	assert_heard(&imap2, "o");
	ck_assert(IPC_SEND(imap1.client, MBOX_CHANGE, .id = 7, .origin = slice_of(origin, 16), .sequence = 1, .verb = MBOX_DELETE,
	    .name = SLICE("Junk")));
	assert_heard(&imap1, "Mt");
	assert_heard(&imap2, "M");
	/* Told once until it asks. */
	send_append(&deliver, 9, "m", "m");
	assert_heard(&imap1, "");
	ck_assert(IPC_SEND(imap1.client, MBOX_LIST, .id = 1));
	assert_heard(&imap1, "l");
	send_append(&deliver, 10, "m", "m");
	assert_heard(&imap1, "M");
}
END_TEST

/* ---- a sync that fails ---- */

static bool sync_fails;

static int
test_sync(int fd)
{
	if (!sync_fails)
		return file_system_ops()->sync(fd);
	errno = EIO;
	return -1;
}

START_TEST(test_failed_sync)
{
	struct file_ops ops = *file_system_ops();

	ops.sync = test_sync;
	file_use(&ops);
	sync_fails = false;
	send_append(&deliver, 1, "kept", "kept");
	assert_heard(&deliver, "a");
	open_inbox(&imap1);
	sync_fails = true;
	ck_assert(IPC_SEND(imap1.client, MSG_FLAGS, .id = 3, .origin = slice_of(origin, 16), .sequence = 100, .mailbox = inbox,
	    .mode = STORE_FLAGS_ADD, .flags = STORE_FLAG_SEEN, .unchangedsince = UINT64_MAX, .uids = slice_of(all, 8), .uids_fd = -1));
	settle();
	ck_assert(broken);
	/* Neither the event nor the answer left, and nothing is answered any more. */
	assert_heard(&imap1, "");
	ck_assert(IPC_SEND(imap1.client, MBOX_LIST, .id = 1));
	assert_heard(&imap1, "");
	file_use(NULL);
}
END_TEST

static unsigned syncs;

static int
sync_counted(int fd)
{
	struct pollfd answers = {.fd = deliver.fd, .events = POLLIN};

	/* What is synced behind the answers' back is nobody's wait. */
	syncs += poll(&answers, 1, 0) == 0;
	return file_system_ops()->sync(fd);
}

/* Until all of so many deliveries are answered; the syncs made until then. */
static unsigned
syncs_of_deliveries(unsigned n, uint64_t *sequence)
{
	syncs = 0;
	deliver.h.n = 0;
	for (unsigned i = 0; i < n; i++)
		send_append(&deliver, (*sequence)++, "a message", "a message");
	while (deliver.h.n < n)
		loop_run(loop);
	ck_assert_uint_eq(deliver.h.class, ERR_NONE);
	return syncs;
}

/* A delivery waits for three syncs, the first of an account and the first in a directory too; a batch of k for 2 + k. */
START_TEST(test_syncs)
{
	struct file_ops counting = *file_system_ops();
	uint64_t sequence = 1;

	keeper_quota_set((struct quota){QUOTA_NONE, QUOTA_NONE}, false);
	counting.sync = sync_counted;
	file_use(&counting);
	ck_assert_uint_eq(syncs_of_deliveries(1, &sequence), 3);
	ck_assert_uint_eq(syncs_of_deliveries(20, &sequence), 22);
	while (sequence < 240)
		ck_assert_uint_eq(syncs_of_deliveries(20, &sequence), 22);
	for (unsigned i = 0; i < 30; i++)
		ck_assert_uint_eq(syncs_of_deliveries(1, &sequence), 3);
	ck_assert_uint_gt(index_object_next(ix), OBJECT_SHARD_OBJECTS);
	file_use(NULL);
	settle();
}
END_TEST

static bool
collect_entries(void *arg, const struct store_entry *entries, size_t n)
{
	return store_entries_put(arg, entries, n);
}

/* What a second opening gives, and what the first one's view has become, is what the index has. */
static void
assert_views_are_true(void)
{
	struct buf b;

	buf_init(&b, 1 << 20);
	open_inbox(&imap2);
	ck_assert_int_eq(index_view(ix, inbox, collect_entries, &b, &err), 0);
	for (struct peer *p = &imap1; p != NULL; p = p == &imap1 ? &imap2 : NULL) {
		ck_assert(p->h.view_true);
		ck_assert_uint_eq(p->h.view.count, b.n / STORE_ENTRY_BYTES);
		ck_assert(b.n == 0 || memcmp(p->h.view.entries, b.p, b.n) == 0);
		ck_assert_uint_eq(p->h.view.uidnext, index_mailbox(ix, inbox)->uidnext);
	}
	buf_fini(&b);
}

static void
change_flags(uint64_t sequence, uint32_t first, uint32_t last, uint32_t flags)
{
	const uint8_t uids[] = {0, 0, (uint8_t)(first >> 8), (uint8_t)first, 0, 0, (uint8_t)(last >> 8), (uint8_t)last};

	ck_assert(IPC_SEND(imap1.client, MSG_FLAGS, .id = 3, .origin = slice_of(origin, 16), .sequence = sequence, .mailbox = inbox,
	    .mode = STORE_FLAGS_REPLACE, .flags = flags, .unchangedsince = UINT64_MAX, .uids = slice_of(uids, 8), .uids_fd = -1));
	settle();
	ck_assert_uint_eq(imap1.h.class, ERR_NONE);
}

/* A kept view with what has changed since is the mailbox, whatever the changes were; also when they are too many to keep. */
START_TEST(test_kept_view)
{
	uint64_t sequence = 1000;

	open_inbox(&imap1);
	assert_views_are_true();
	for (unsigned i = 0; i < 5; i++)
		send_append(&deliver, sequence++, "a message", "a message");
	settle();
	assert_views_are_true();
	change_flags(sequence++, 2, 4, STORE_FLAG_SEEN | STORE_FLAG_DELETED);
	assert_views_are_true();
	ck_assert(IPC_SEND(imap1.client, MSG_EXPUNGE, .id = 3, .origin = slice_of(origin, 16), .sequence = sequence++,
	    .mailbox = inbox, .only_deleted = 1, .uids = slice_of(all, 8), .uids_fd = -1));
	settle();
	assert_views_are_true();
	ck_assert_uint_eq(imap2.h.view.count, 2);
	send_append(&deliver, sequence++, "another", "another");
	settle();
	assert_views_are_true();
	/* Nobody watches; two entries and a header of 5 octets each time, until 64 KiB are full. */
	peer_close(&imap1);
	peer_close(&imap2);
	for (unsigned i = 0; i < 65536 / 53 + 2; i++) {
		struct err e;

		ck_assert_int_eq(fixture_flags(ix, inbox, STORE_FLAGS_REPLACE, i % 2 ? STORE_FLAG_SEEN : 0, "", 1, 5, &e), 0);
		keeper_tell();
	}
	peer_open(&imap1, ROLE_IMAP_WORKER, &keeper_from_imap);
	peer_open(&imap2, ROLE_IMAP_WORKER, &keeper_from_imap);
	open_inbox(&imap1);
	assert_views_are_true();
	ck_assert_uint_eq(imap2.h.view.count, 3);
}
END_TEST

/* The least recently given gives way; each is still right. */
START_TEST(test_many_kept_views)
{
	uint32_t numbers[KEEPER_VIEWS_MAX + 1];
	char name[16];

	for (unsigned i = 0; i <= KEEPER_VIEWS_MAX; i++) {
		(void)snprintf(name, sizeof name, "box%u", i);
		numbers[i] = fixture_mailbox(ix, MBOX_CREATE, name, "", &err);
		ck_assert_uint_ne(numbers[i], 0);
	}
	ck_assert_int_eq(index_flush(ix, &err), 0);
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i <= KEEPER_VIEWS_MAX; i++) {
			ck_assert(IPC_SEND(imap1.client, MBOX_OPEN, .id = 2, .mailbox = numbers[i]));
			settle();
			ck_assert_uint_eq(imap1.h.class, ERR_NONE);
			ck_assert_uint_eq(imap1.h.view.mailbox, numbers[i]);
		}
	}
}
END_TEST

/* ---- quotas ---- */

static size_t
answers(const struct peer *p)
{
	size_t n = 0;

	for (size_t i = 0; i < p->h.n; i++)
		n += p->h.text[i] >= 'a';
	return n;
}

/* The answers alone, without events, that a peer heard. */
#define assert_answers(p, want) assert_answers_at(p, want, __LINE__)
static void
assert_answers_at(struct peer *p, const char *want, int line)
{
	size_t n = 0;

	/* A slow disk takes longer than the moment of quiet that settle() waits for. */
	for (unsigned tries = 0; tries < 100 && (tries == 0 || answers(p) < strlen(want)); tries++)
		settle();
	for (size_t i = 0; i < p->h.n; i++)
		if (p->h.text[i] >= 'a')
			p->h.text[n++] = p->h.text[i];
	p->h.text[n] = '\0';
	ck_assert_msg(strcmp(p->h.text, want) == 0, "line %d: got \"%s\", class %u code %u", line, p->h.text, p->h.class, p->h.code);
	p->h.n = 0;
}

static void
say_limits(uint64_t bytes, uint64_t messages, bool shared)
{
	keeper_quota_set((struct quota){bytes, messages}, shared);
}

/* As long as the limits are not known a message waits, and its peer's messages after it; then they are judged in order. */
START_TEST(test_limits_come_later)
{
	send_append(&imap1, 1, "1234567890", "1234567890");
	ck_assert(IPC_SEND(imap1.client, MBOX_LIST, .id = 1));
	send_append(&imap1, 2, "x", "x");
	send_append(&deliver, 3, "y", "y");
	ck_assert(IPC_SEND(imap2.client, MBOX_LIST, .id = 1));
	assert_answers(&imap1, "l");
	assert_answers(&deliver, "");
	ck_assert(keeper_quota_waits());
	assert_answers(&imap2, "l");
	say_limits(9, 1, false);
	assert_answers(&imap1, "aa");
	ck_assert(imap1.h.code == ERR_CODE_NONE || imap1.h.code == ERR_CODE_OVER_QUOTA);
	assert_answers(&deliver, "a");
	/* One of the two small ones. */
	ck_assert(imap1.h.code == ERR_CODE_OVER_QUOTA || deliver.h.code == ERR_CODE_OVER_QUOTA);
	ck_assert_uint_eq(index_usage(ix).messages, 1);
	ck_assert(!keeper_quota_waits() && parent.wants == 0);
}
END_TEST

/* Not for ever, though, and then it is a matter of the moment. */
START_TEST(test_limits_do_not_come)
{
	send_append(&deliver, 1, "x", "x");
	send_append(&deliver, 2, "y", "y");
	settle();
	ck_assert_uint_eq(deliver.h.n, 0);
	assert_answers(&deliver, "aa");
	ck_assert(deliver.h.class == ERR_TEMP && index_usage(ix).messages == 0);
	say_limits(QUOTA_NONE, QUOTA_NONE, false);
	send_append(&deliver, 1, "x", "x");
	assert_answers(&deliver, "a");
	ck_assert(deliver.h.class == ERR_NONE);
}
END_TEST

/* In a domain with a limit all above the ceiling is asked for; what waits comes in, or is refused, by the answer. */
START_TEST(test_ceiling)
{
	say_limits(1000, QUOTA_NONE, true);
	ck_assert(parent.ceilings == 1 && parent.ceiling.bytes == 0 && parent.ceiling.messages == 0 && !parent.last);
	send_append(&deliver, 1, "1234567890", "1234567890");
	send_append(&imap1, 2, "12345", "12345");
	assert_answers(&imap1, "");
	assert_answers(&deliver, "");
	ck_assert(parent.wants == 1 && parent.want.messages == 1);
	keeper_quota_grant(parent.id, ERR_NONE, (struct quota){15, 2});
	assert_answers(&deliver, "a");
	assert_answers(&imap1, "a");
	ck_assert(deliver.h.class == ERR_NONE && imap1.h.class == ERR_NONE && parent.wants == 1);
	/* Full: n + 1 octets and messages. */
	send_append(&deliver, 3, "z", "z");
	settle();
	ck_assert(parent.wants == 2 && parent.want.bytes == 16 && parent.want.messages == 3);
	keeper_quota_grant(parent.id - 1, ERR_LIMIT, (struct quota){0, 0});
	settle();
	ck_assert_uint_eq(deliver.h.n, 0);
	keeper_quota_grant(parent.id, ERR_LIMIT, (struct quota){0, 0});
	assert_answers(&deliver, "a");
	ck_assert_uint_eq(deliver.h.code, ERR_CODE_OVER_QUOTA);
	/* The own limit needs no question; nor does what its own room holds after an expunge. */
	send_append(&deliver, 4, "z", "z");
	settle();
	keeper_quota_grant(parent.id, ERR_TEMP, (struct quota){0, 0});
	assert_answers(&deliver, "a");
	ck_assert(deliver.h.class == ERR_TEMP && parent.wants == 3);
	ck_assert(IPC_SEND(imap1.client, MSG_EXPUNGE, .id = 3, .origin = slice_of(origin, 16), .sequence = 50, .mailbox = inbox,
	    .uids = slice_of(all, 8), .uids_fd = -1));
	assert_answers(&imap1, "e");
	send_append(&deliver, 5, "z", "z");
	assert_answers(&deliver, "a");
	ck_assert(deliver.h.class == ERR_NONE && parent.wants == 3);
	/* Told again, the ceiling is what is used. */
	say_limits(3, QUOTA_NONE, true);
	ck_assert(parent.ceilings == 2 && parent.ceiling.bytes == 1 && parent.ceiling.messages == 1);
	send_append(&deliver, 6, "1234", "1234");
	assert_answers(&deliver, "a");
	ck_assert(deliver.h.code == ERR_CODE_OVER_QUOTA && parent.wants == 3);
	ck_assert_int_eq(index_check(ix, &err), 0);
}
END_TEST

/* What is used less while it waits is wanted less; a limit that goes lets everybody in; a copy waits as a message does. */
START_TEST(test_waiting)
{
	say_limits(QUOTA_NONE, QUOTA_NONE, false);
	send_append(&deliver, 1, "1234567890", "1234567890");
	assert_answers(&deliver, "a");
	say_limits(QUOTA_NONE, QUOTA_NONE, true);
	settle();
	imap1.h.n = 0;
	ck_assert(IPC_SEND(imap1.client, MSG_COPY, .id = 3, .origin = slice_of(origin, 16), .sequence = 20, .mailbox = inbox,
	    .target_mailbox = index_target(ix, STORE_TARGET_JUNK), .uids = slice_of(all, 8), .uids_fd = -1));
	send_append(&deliver, 2, "12345", "12345");
	assert_answers(&imap1, "");
	assert_answers(&deliver, "");
	ck_assert_uint_eq(parent.wants, 1);
	ck_assert(parent.want.bytes == 20 || parent.want.bytes == 15);
	ck_assert(IPC_SEND(imap2.client, MSG_EXPUNGE, .id = 3, .origin = slice_of(origin, 16), .sequence = 21, .mailbox = inbox,
	    .uids = slice_of(all, 8), .uids_fd = -1));
	settle();
	/* Refused for the figure of then: asked again, or there is nothing left to copy. */
	keeper_quota_grant(parent.id, ERR_LIMIT, (struct quota){0, 0});
	settle();
	if (deliver.h.n == 0 && parent.wants == 2)
		keeper_quota_grant(parent.id, ERR_LIMIT, (struct quota){0, 0});
	settle();
	ck_assert(index_usage(ix).messages <= 1);
	say_limits(QUOTA_NONE, QUOTA_NONE, false);
	assert_answers(&imap1, "c");
	assert_answers(&deliver, "a");
	ck_assert(!keeper_quota_waits());
	ck_assert_int_eq(index_check(ix, &err), 0);
}
END_TEST

/* A keeper that leaves says last what is used; a peer that goes while it waits leaves nothing behind. */
START_TEST(test_last_word)
{
	say_limits(QUOTA_NONE, QUOTA_NONE, true);
	send_append(&deliver, 1, "x", "x");
	send_append(&imap1, 2, "yy", "yy");
	settle();
	peer_close(&deliver);
	keeper_quota_grant(parent.id, ERR_NONE, (struct quota){100, 100});
	assert_answers(&imap1, "a");
	ck_assert_uint_eq(imap1.h.class, ERR_NONE);
	ck_assert_uint_eq(index_usage(ix).bytes, 2);
	peer_close(&imap1);
	peer_close(&imap2);
	peer_close(&pop3);
	keeper_stop();
	ck_assert(parent.last && parent.ceiling.bytes == 2 && parent.ceiling.messages == 1);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("store_keeper");
	TCase *t = tcase_create("all");
	TCase *q = tcase_create("quota");
	const TTest *quotas[] = {test_limits_come_later, test_limits_do_not_come, test_ceiling, test_waiting, test_last_word};
	SRunner *r = srunner_create(s);
	const TTest *tests[] = {test_delivery, test_append_refused, test_import, test_changes, test_fetch, test_objects,
	    test_pop3_is_confined, test_mailbox_goes, test_failed_sync, test_reader_waits_one_sync, test_more_than_wait, test_no_descriptor_to_keep,
	    test_kept_view, test_many_kept_views, test_syncs};

	log_init("test_store_keeper", LOG_BUG);
	file_hook_db();
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++)
		tcase_add_test(t, tests[i]);
	suite_add_tcase(s, t);
	tcase_add_checked_fixture(q, setup_new, teardown);
	tcase_set_timeout(q, 60);
	for (size_t i = 0; i < sizeof quotas / sizeof quotas[0]; i++)
		tcase_add_test(q, quotas[i]);
	suite_add_tcase(s, q);
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed != 0;
}
