/*
 * Edges: every message of the table goes through a real socket with random fields and descriptors;
 * what is garbage closes the edge; queues, deadlines and descriptors are bounded and counted.
 */
#include "common/ipc.h"

#include "common/loop.h"
#include "common/mem.h"
#include "common/memfd.h"

#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static uint64_t seed = 88172645463325252u;

static uint64_t
rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static unsigned
open_descriptors(void)
{
	unsigned n = 0;
	DIR *d = opendir("/proc/self/fd");

	ck_assert_ptr_nonnull(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static int log_file;

/* What is logged from here on goes to a file: each test has a process of its own. */
static void
log_to_file(void)
{
	log_file = memfd_create("log", MFD_CLOEXEC);
	ck_assert_int_ge(log_file, 0);
	ck_assert_int_eq(dup2(log_file, STDERR_FILENO), STDERR_FILENO);
}

static const char *
logged(void)
{
	static char text[4096];
	ssize_t n = pread(log_file, text, sizeof text - 1, 0);

	ck_assert_int_ge(n, 0);
	text[n] = '\0';
	return text;
}

/* ---- random messages ---- */

static uint8_t octets[65536];
static int some_fd;

static struct slice
random_slice(size_t max)
{
	/* Often the extremes. */
	size_t n = rnd() % 4 == 0 ? max : rnd() % 4 == 0 ? 0 : rnd() % (max + 1);

	return slice_of(octets + rnd() % (sizeof octets - n + 1), n);
}

static int
random_fd(void)
{
	return rnd() % 2 ? some_fd : -1;
}

static struct msg_fds
random_fds(unsigned max)
{
	struct msg_fds f = {.n = (unsigned)(rnd() % (max + 1))};

	for (unsigned i = 0; i < f.n; i++)
		f.fd[i] = some_fd;
	return f;
}

#define U8(name) m->name = (uint8_t)rnd();
#define U16(name) m->name = (uint16_t)rnd();
#define U32(name) m->name = (uint32_t)rnd();
#define U64(name) m->name = rnd();
#define STR(name, max) m->name = random_slice(max);
#define BLOB(name, max) m->name = random_slice(max);
#define SECRET(name, max) m->name = random_slice(max);
#define FD(name) m->name = random_fd();
#define FDS(name, max) m->name = random_fds(max);
#define MSG(NAME, from, to, fields)                                                                \
	static void fill_##NAME(struct msg_##NAME *m)                                              \
	{                                                                                          \
		(void)m;                                                                           \
		fields                                                                             \
	}
#include "common/messages.def"
#include "common/msg/undef.def"

static void
fill(struct msg *m, enum msg_type type)
{
	m->type = type;
	switch (type) {
#define MSG(NAME, from, to, fields)                                                                \
	case MSG_##NAME:                                                                           \
		fill_##NAME(&m->u.NAME);                                                           \
		break;
#include "common/messages.def"
#undef MSG
	default:
		ck_abort();
	}
}

/* ---- two ends ---- */

static struct msg sent;
static unsigned got, downs, drains;
static struct loop *loop;
static struct edge *end_a, *end_b;

static void
same_fd(int got_fd, int sent_fd)
{
	struct stat a, b;

	ck_assert_int_eq(got_fd < 0, sent_fd < 0);
	if (got_fd < 0)
		return;
	ck_assert_int_ne(got_fd, sent_fd);
	ck_assert_int_eq(fcntl(got_fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	ck_assert(fstat(got_fd, &a) == 0 && fstat(sent_fd, &b) == 0);
	ck_assert(a.st_ino == b.st_ino && a.st_dev == b.st_dev);
}

static void
same_fds(const struct msg_fds *a, const struct msg_fds *b)
{
	ck_assert_uint_eq(a->n, b->n);
	for (unsigned i = 0; i < a->n; i++)
		same_fd(a->fd[i], b->fd[i]);
}

#define U8(name) ck_assert_uint_eq(m->name, w->name);
#define U16(name) ck_assert_uint_eq(m->name, w->name);
#define U32(name) ck_assert_uint_eq(m->name, w->name);
#define U64(name) ck_assert_uint_eq(m->name, w->name);
#define STR(name, max) ck_assert(slice_eq(m->name, w->name));
#define BLOB(name, max) ck_assert(slice_eq(m->name, w->name));
#define SECRET(name, max) ck_assert(slice_eq(m->name, w->name));
#define FD(name) same_fd(m->name, w->name);
#define FDS(name, max) same_fds(&m->name, &w->name);
#define MSG(NAME, from, to, fields)                                                                \
	static void got_##NAME(struct edge *e, struct msg_##NAME *m)                               \
	{                                                                                          \
		const struct msg_##NAME *w = &sent.u.NAME;                                         \
                                                                                                   \
		(void)e;                                                                           \
		(void)m;                                                                           \
		(void)w;                                                                           \
		ck_assert_int_eq(sent.type, MSG_##NAME);                                           \
		fields got++;                                                                      \
	}
#include "common/messages.def"
#include "common/msg/undef.def"

static const struct ipc_dispatch all = {
#define MSG(NAME, from, to, fields) .NAME = got_##NAME,
#include "common/messages.def"
#undef MSG
};

static const struct ipc_dispatch nothing;

static void
on_down(struct edge *e, void *arg)
{
	struct edge **end = arg;

	ck_assert_ptr_eq(e, *end);
	downs++;
	edge_free(end);
}

static void
on_drained(struct edge *e, void *arg)
{
	(void)e;
	(void)arg;
	drains++;
}

static const struct edge_events events = {on_down, on_drained};

static void
stop(void *arg)
{
	(void)arg;
	loop_stop(loop);
}

static void
run_for(unsigned ms)
{
	struct loop_timer *t = loop_timer_new(loop, stop, NULL);

	loop_timer_set(t, ms);
	loop_run(loop);
	loop_timer_free(&t);
}

static int
open_ends(enum role a, enum role b, const struct ipc_dispatch *at_b)
{
	int fd[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd), 0);
	end_b = edge_new(
	    loop, fd[1], b, (struct edge_peer){.role = a, .instance = 3}, at_b, &events, &end_b);
	return fd[0];
}

static void
join_ends(enum role a, enum role b)
{
	int fd = open_ends(a, b, &all);

	end_a = edge_new(loop, fd, a, (struct edge_peer){.role = b}, &all, &events, &end_a);
}

static void
set_up(void)
{
	loop = loop_new();
	got = downs = drains = 0;
	for (size_t i = 0; i < sizeof octets; i++)
		octets[i] = (uint8_t)rnd();
	some_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	ck_assert_int_ge(some_fd, 0);
}

static void
tear_down(void)
{
	edge_free(&end_a);
	edge_free(&end_b);
	close(some_fd);
	loop_free(&loop);
}

/* Two different roles that the table lets speak so. */
static void
find_pair(enum msg_type type, enum role *from_r, enum role *to_r)
{
	for (unsigned from = 0; from < ROLE_COUNT; from++)
		for (unsigned to = 0; to < ROLE_COUNT; to++)
			if (from != to && msg_allowed(type, from, to)) {
				*from_r = from;
				*to_r = to;
				return;
			}
	ck_abort_msg("nobody may send %s", msg_info(type)->name);
}

START_TEST(every_message_arrives_whole)
{
	enum msg_type type = (enum msg_type)_i;
	const struct msg_info *info = msg_info(type);
	enum role from, to;

	set_up();
	find_pair(type, &from, &to);
	join_ends(from, to);
	unsigned before = open_descriptors();

	for (unsigned round = 0; round < 40; round++) {
		fill(&sent, type);
		ck_assert_msg(ipc_send(end_a, &sent), "%s", info->name);
		run_for(0);
		while (got <= round && end_b)
			run_for(1);
		ck_assert_uint_eq(got, round + 1);
		/* The sender's stays open, the receiver's copies are closed. */
		ck_assert_uint_eq(open_descriptors(), before);
	}
	ck_assert_uint_eq(downs, 0);
	tear_down();
}
END_TEST

/* ---- garbage ---- */

static void
send_raw(int fd, const void *p, size_t n, int with_fds)
{
	union {
		struct cmsghdr align;
		uint8_t room[CMSG_SPACE(sizeof(int) * 128)];
	} control = {0};
	struct iovec iov = {(void *)(uintptr_t)p, n};
	struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};

	if (with_fds) {
		h.msg_control = &control;
		h.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)with_fds);
		struct cmsghdr *c = CMSG_FIRSTHDR(&h);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)with_fds);
		for (int i = 0; i < with_fds; i++)
			memcpy(CMSG_DATA(c) + (size_t)i * sizeof(int), &some_fd, sizeof some_fd);
	}
	ck_assert_int_eq(sendmsg(fd, &h, 0), (ssize_t)n);
}

static void
is_garbage(const void *p, size_t n, int with_fds, enum role from, const struct ipc_dispatch *d)
{
	unsigned before = open_descriptors();
	int fd = open_ends(from, ROLE_STORE, d);

	downs = 0;
	send_raw(fd, p, n, with_fds);
	run_for(5);
	ck_assert_uint_eq(downs, 1);
	ck_assert_ptr_null(end_b);
	close(fd);
	ck_assert_uint_eq(open_descriptors(), before);
	ck_assert_uint_eq(got, 0);
}

START_TEST(garbage_ends_the_edge)
{
	static uint8_t big[MSG_BYTES_MAX + 1];
	const uint8_t unknown[] = {0xff, 0xff}, none[] = {0, 0}, one[] = {0},
		      event[] = {0, MSG_STORE_STATUS};
	const uint8_t status[] = {0, MSG_STORE_STATUS, 0, 0, 0, 0, 0, 0, 0, 1};
	uint8_t longer[11] = {0};

	set_up();
	memcpy(longer, status, sizeof status);
	is_garbage(unknown, sizeof unknown, 0, ROLE_ADMIN, &all);
	is_garbage(none, sizeof none, 0, ROLE_ADMIN, &all);
	is_garbage(one, sizeof one, 0, ROLE_ADMIN, &all);
	is_garbage(event, sizeof event, 0, ROLE_ADMIN, &all);	/* no id */
	is_garbage(longer, sizeof longer, 0, ROLE_ADMIN, &all); /* an octet too many */
	is_garbage(status, sizeof status, 1, ROLE_ADMIN, &all); /* a descriptor nobody asked for */
	is_garbage(status, sizeof status, 64, ROLE_ADMIN, &all);
	is_garbage(status, sizeof status, 65, ROLE_ADMIN, &all); /* more than a message may carry */
	is_garbage(status, sizeof status, 0, ROLE_VERIFY, &all); /* a role that may not say this */
	is_garbage(status, sizeof status, 0, ROLE_ADMIN, &nothing); /* no handler */
	is_garbage(big, sizeof big, 0, ROLE_ADMIN, &all);
	tear_down();
}
END_TEST

/* The same octets from the right role are no garbage: the cases above fail for their own reason. */
START_TEST(well_formed_is_no_garbage)
{
	const uint8_t status[] = {0, MSG_STORE_STATUS, 0, 0, 0, 0, 0, 0, 0, 1};

	set_up();
	_Static_assert(MSG_STORE_STATUS < 256, "the type fits an octet");
	int fd = open_ends(ROLE_ADMIN, ROLE_STORE, &all);

	sent = (struct msg){.type = MSG_STORE_STATUS, .u.STORE_STATUS = {.id = 1}};
	send_raw(fd, status, sizeof status, 0);
	run_for(5);
	ck_assert_uint_eq(got, 1);
	ck_assert_uint_eq(downs, 0);
	/* The peer leaves: that is an end, not garbage. */
	ck_assert(!edge_sent_garbage(end_b));
	close(fd);
	run_for(5);
	ck_assert_uint_eq(downs, 1);
	tear_down();
}
END_TEST

START_TEST(the_wrong_direction_is_a_bug)
{
	set_up();
	join_ends(ROLE_VERIFY, ROLE_STORE);
	(void)!IPC_SEND(end_a, STORE_STATUS, .id = 1);
}
END_TEST

START_TEST(a_field_too_long_is_not_sent)
{
	set_up();
	join_ends(ROLE_ADMIN, ROLE_QUEUE);
	ck_assert(!IPC_SEND(end_a, QUEUE_ADMIN, .id = 1, .verb = slice_of(octets, 33)));
	run_for(2);
	ck_assert_uint_eq(got + downs, 0);
	tear_down();
}
END_TEST

/* ---- queues ---- */

START_TEST(the_queue_is_bounded_and_drains)
{
	unsigned taken = 0;

	set_up();
	log_to_file();
	int fd = open_ends(ROLE_QUEUE, ROLE_ADMIN, &all);

	edge_free(&end_b);
	ck_assert_int_ne(fcntl(fd, F_GETFD), -1);
	close(fd);

	int pair[2];
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	end_a = edge_new(loop, pair[0], ROLE_QUEUE, (struct edge_peer){.role = ROLE_ADMIN}, &all,
	    &events, &end_a);
	sent = (struct msg){.type = MSG_QUEUE_ADMIN_REPLY,
	    .u.QUEUE_ADMIN_REPLY = {.json = slice_of(octets, 65536)}};
	/* Nobody reads at the other end. */
	while (ipc_send(end_a, &sent))
		ck_assert_uint_lt(++taken, 200);
	ck_assert_uint_ge(taken, IPC_QUEUE_BYTES_MAX / 66000);
	ck_assert(!ipc_tell(end_a, &sent));
	ck_assert_ptr_nonnull(strstr(logged(), "level=warn event=message-unsent message=QUEUE_ADMIN_REPLY peer=admin\n"));
	ck_assert_uint_eq(drains, 0);

	end_b = edge_new(loop, pair[1], ROLE_ADMIN, (struct edge_peer){.role = ROLE_QUEUE}, &all,
	    &events, &end_b);
	for (unsigned i = 0; i < 200 && got < taken; i++)
		run_for(2);
	ck_assert_uint_eq(got, taken);
	ck_assert_uint_eq(drains, 1);
	ck_assert(ipc_send(end_a, &sent));
	tear_down();
}
END_TEST

START_TEST(queued_descriptors_are_bounded_and_closed)
{
	unsigned taken = 0, before;

	set_up();
	before = open_descriptors();
	int pair[2];
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	end_a = edge_new(loop, pair[0], ROLE_KEEPER, (struct edge_peer){.role = ROLE_IMAP_WORKER},
	    &all, &events, &end_a);
	sent = (struct msg){.type = MSG_MSG_FETCH_REPLY,
	    .u.MSG_FETCH_REPLY = {.records = -1, .objects = {.n = 64}}};
	for (unsigned i = 0; i < 64; i++)
		sent.u.MSG_FETCH_REPLY.objects.fd[i] = some_fd;
	while (ipc_send(end_a, &sent))
		ck_assert_uint_lt(++taken, 2000);
	ck_assert_uint_le(open_descriptors(), before + 3 + IPC_QUEUE_FDS_MAX);
	edge_free(&end_a);
	close(pair[1]);
	ck_assert_uint_eq(open_descriptors(), before);
	tear_down();
}
END_TEST

/* ---- what is put back ---- */

static void
got_mailboxes(struct edge *e, struct msg_EVENT_MAILBOXES *m)
{
	(void)e;
	(void)m;
}

static const struct ipc_dispatch deaf = {.EVENT_MAILBOXES = got_mailboxes};
static unsigned refusals;
static char heard[16];

static void
put_back_second(struct edge *e, struct msg_MSG_SUMMARY *m)
{
	ck_assert_int_ge(m->summary, 0);
	if (m->uid == 2 && refusals > 0) {
		refusals--;
		ipc_put_back(e);
		return;
	}
	heard[got++] = (char)('0' + m->uid);
	if (m->uid == 4)
		edge_free(&end_b);
}

/* Kept whole and in order however often it is put back; its descriptors are closed once, also when the edge goes meanwhile. */
START_TEST(what_is_put_back_comes_again)
{
	static const struct ipc_dispatch d = {.MSG_SUMMARY = put_back_second};

	set_up();
	unsigned before = open_descriptors();
	int fd = open_ends(ROLE_IMAP_WORKER, ROLE_KEEPER, &d);

	end_a = edge_new(loop, fd, ROLE_IMAP_WORKER, (struct edge_peer){.role = ROLE_KEEPER}, &deaf, &events, &end_a);
	memset(heard, 0, sizeof heard);
	refusals = 3;
	for (uint32_t uid = 1; uid <= 3; uid++)
		ck_assert(IPC_SEND(end_a, MSG_SUMMARY, .uid = uid, .summary = some_fd));
	run_for(5);
	ck_assert_str_eq(heard, "1");
	ck_assert(ipc_is_put_back(end_b));
	/* Writing does not begin the reading again. */
	ck_assert(IPC_SEND(end_b, EVENT_MAILBOXES, .deleted = 1));
	ck_assert_uint_eq(refusals, 2);
	run_for(5);
	ck_assert_str_eq(heard, "1");
	ipc_retry(end_b);
	ipc_retry(end_b);
	ck_assert(ipc_is_put_back(end_b));
	ipc_retry(end_b);
	ck_assert(!ipc_is_put_back(end_b));
	run_for(5);
	ck_assert_str_eq(heard, "123");
	ipc_retry(end_b);
	refusals = 1;
	ck_assert(IPC_SEND(end_a, MSG_SUMMARY, .uid = 2, .summary = some_fd));
	ck_assert(IPC_SEND(end_a, MSG_SUMMARY, .uid = 4, .summary = some_fd));
	run_for(5);
	ipc_retry(end_b);
	run_for(5);
	ck_assert_str_eq(heard, "12324");
	ck_assert_ptr_null(end_b);
	edge_free(&end_a);
	ck_assert_uint_le(open_descriptors(), before);
	tear_down();
}
END_TEST

START_TEST(what_is_put_back_goes_with_its_edge)
{
	static const struct ipc_dispatch d = {.MSG_SUMMARY = put_back_second};

	set_up();
	unsigned before = open_descriptors();
	int fd = open_ends(ROLE_IMAP_WORKER, ROLE_KEEPER, &d);

	end_a = edge_new(loop, fd, ROLE_IMAP_WORKER, (struct edge_peer){.role = ROLE_KEEPER}, &deaf, &events, &end_a);
	refusals = 9;
	ck_assert(IPC_SEND(end_a, MSG_SUMMARY, .uid = 2, .summary = some_fd));
	run_for(5);
	ck_assert(ipc_is_put_back(end_b));
	edge_free(&end_b);
	edge_free(&end_a);
	ck_assert_uint_le(open_descriptors(), before);
	tear_down();
}
END_TEST

/* ---- no descriptor left ---- */

static void
heard_summary(struct edge *e, struct msg_MSG_SUMMARY *m)
{
	(void)e;
	heard[got++] = (char)('0' + m->uid);
	same_fd(m->summary, m->uid == 2 ? -1 : some_fd);
}

static void
heard_objects(struct edge *e, struct msg_MSG_FETCH_REPLY *m)
{
	(void)e;
	heard[got++] = 'f';
	same_fds(&m->objects, &sent.u.MSG_FETCH_REPLY.objects);
}

/* Leaves so many numbers free for new descriptors. */
static void
leave_free(unsigned room, struct rlimit *old_r)
{
	struct rlimit few;
	int n = 0;

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, old_r), 0);
	for (; room > 0 || fcntl(n, F_GETFD) >= 0; n++)
		if (fcntl(n, F_GETFD) < 0)
			room--;
	few = (struct rlimit){(rlim_t)n, old_r->rlim_max};
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
}

static void
send_objects(unsigned count)
{
	sent = (struct msg){.type = MSG_MSG_FETCH_REPLY, .u.MSG_FETCH_REPLY = {.records = -1, .objects = {.n = count}}};
	for (unsigned i = 0; i < count; i++)
		sent.u.MSG_FETCH_REPLY.objects.fd[i] = some_fd;
	ck_assert(ipc_send(end_a, &sent));
}

static const unsigned rooms[] = {0, 1, 2, 63};

/* What has no room for its descriptors waits with what follows it, however far the room goes; then all is heard once, in order, whole. */
START_TEST(without_descriptors_a_message_waits)
{
	static const struct ipc_dispatch d = {.MSG_FETCH_REPLY = heard_objects};
	struct rlimit old;

	set_up();
	unsigned before = open_descriptors();
	int fd = open_ends(ROLE_KEEPER, ROLE_IMAP_WORKER, &d);

	end_a = edge_new(loop, fd, ROLE_KEEPER, (struct edge_peer){.role = ROLE_IMAP_WORKER}, &all, &events, &end_a);
	unsigned with_ends = open_descriptors();

	memset(heard, 0, sizeof heard);
	send_objects(64);
	leave_free(rooms[_i], &old);
	run_for(60);
	ck_assert_uint_eq(got, 0);
	ck_assert_uint_eq(downs, 0);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &old), 0);
	ck_assert_uint_eq(open_descriptors(), with_ends);
	run_for(60);
	ck_assert_str_eq(heard, "f");
	ck_assert_uint_eq(open_descriptors(), with_ends);
	send_objects(rooms[_i]);
	leave_free(rooms[_i], &old);
	run_for(5);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &old), 0);
	ck_assert_str_eq(heard, "ff");
	ck_assert_uint_eq(downs, 0);
	edge_free(&end_a);
	edge_free(&end_b);
	ck_assert_uint_eq(open_descriptors(), before);
	tear_down();
}
END_TEST

/* Others go on meanwhile; a peer that has gone is heard to its end. */
START_TEST(without_descriptors_others_go_on)
{
	static const struct ipc_dispatch d = {.MSG_SUMMARY = heard_summary};
	struct edge *other_a, *other_b;
	struct rlimit old;
	int pair[2];

	set_up();
	int fd = open_ends(ROLE_IMAP_WORKER, ROLE_KEEPER, &d);

	end_a = edge_new(loop, fd, ROLE_IMAP_WORKER, (struct edge_peer){.role = ROLE_KEEPER}, &deaf, &events, &end_a);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	other_a = edge_new(loop, pair[0], ROLE_IMAP_WORKER, (struct edge_peer){.role = ROLE_KEEPER}, &deaf, &events, &other_a);
	other_b = edge_new(loop, pair[1], ROLE_KEEPER, (struct edge_peer){.role = ROLE_IMAP_WORKER}, &d, &events, &other_b);
	memset(heard, 0, sizeof heard);
	for (uint32_t uid = 1; uid <= 3; uid++)
		ck_assert(IPC_SEND(end_a, MSG_SUMMARY, .uid = uid, .summary = uid == 2 ? -1 : some_fd));
	edge_free(&end_a);
	leave_free(0, &old);
	ck_assert(IPC_SEND(other_a, MSG_SUMMARY, .uid = 2, .summary = -1));
	run_for(60);
	ck_assert_str_eq(heard, "2");
	ck_assert_uint_eq(downs, 0);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &old), 0);
	run_for(60);
	ck_assert_str_eq(heard, "2123");
	ck_assert_uint_eq(downs, 1);
	ck_assert_ptr_null(end_b);
	edge_free(&other_a);
	edge_free(&other_b);
	tear_down();
}
END_TEST

/* ---- the end of an edge ---- */

static void
free_in_handler(struct edge *e, struct msg_STORE_STATUS *m)
{
	(void)m;
	got++;
	ck_assert_ptr_eq(e, end_b);
	edge_free(&end_b);
}

START_TEST(a_handler_may_free_its_edge)
{
	static const struct ipc_dispatch d = {.STORE_STATUS = free_in_handler};
	const uint8_t status[] = {0, MSG_STORE_STATUS, 0, 0, 0, 0, 0, 0, 0, 1};

	set_up();
	int fd = open_ends(ROLE_ADMIN, ROLE_STORE, &d);

	send_raw(fd, status, sizeof status, 0);
	send_raw(fd, status, sizeof status, 0);
	run_for(5);
	ck_assert_uint_eq(got, 1);
	ck_assert_uint_eq(downs, 0);
	close(fd);
	tear_down();
}
END_TEST

START_TEST(what_was_said_before_the_end_is_heard)
{
	const uint8_t status[] = {0, MSG_STORE_STATUS, 0, 0, 0, 0, 0, 0, 0, 1};

	set_up();
	sent = (struct msg){.type = MSG_STORE_STATUS, .u.STORE_STATUS = {.id = 1}};
	int fd = open_ends(ROLE_ADMIN, ROLE_STORE, &all);

	/* More than are taken in one turn. */
	for (unsigned i = 0; i < 3 * IPC_MESSAGES_PER_WAKE; i++)
		send_raw(fd, status, sizeof status, 0);
	close(fd);
	/* A write that fails must not hide what is still to be read, nor call back at once. */
	(void)!IPC_SEND(end_b, STORE_STATUS_REPLY, .id = 1);
	ck_assert_uint_eq(downs, 0);
	run_for(5);
	ck_assert_uint_eq(got, 3 * IPC_MESSAGES_PER_WAKE);
	ck_assert_uint_eq(downs, 1);
	tear_down();
}
END_TEST

/* ---- requests ---- */

static unsigned gone_count;
static enum err_code gone_code;
static void *gone_obj;

static void
on_gone(void *obj, const struct err *e)
{
	gone_count++;
	gone_code = e->code;
	gone_obj = obj;
	ck_assert_int_eq(e->class, ERR_TEMP);
}

START_TEST(requests_meet_their_deadline)
{
	int x, y;

	set_up();
	gone_count = 0;
	join_ends(ROLE_DELIVER, ROLE_STORE);
	uint64_t late = ipc_expect(end_a, 20, on_gone, &x),
		 answered = ipc_expect(end_a, 10, on_gone, &y);

	ck_assert(late && answered && late != answered);
	ck_assert_ptr_null(ipc_answered(end_b, answered)); /* another edge's */
	ck_assert_ptr_eq(ipc_answered(end_a, answered), &y);
	ck_assert_ptr_null(ipc_answered(end_a, answered));
	run_for(40);
	ck_assert_uint_eq(gone_count, 1);
	ck_assert_ptr_eq(gone_obj, &x);
	ck_assert_int_eq(gone_code, ERR_CODE_TIMEOUT);
	ck_assert_ptr_null(ipc_answered(end_a, late));
	tear_down();
}
END_TEST

START_TEST(nobody_is_told_in_silence)
{
	set_up();
	log_to_file();
	join_ends(ROLE_QUEUE, ROLE_DELIVER);
	ck_assert(IPC_TELL(end_a, QUEUE_DUE, ));
	edge_free(&end_b);
	/* It has ended, which on_down has not told yet. */
	ck_assert(!IPC_TELL(end_a, QUEUE_DUE, ));
	ck_assert(!IPC_TELL(end_a, QUEUE_DUE, ));
	ck_assert(!IPC_TELL(NULL, QUEUE_DUE, ));
	ck_assert_str_eq(logged(), "");
	ck_assert_uint_eq(downs, 0);
	run_for(5);
	ck_assert_uint_eq(downs, 1);
	tear_down();
}
END_TEST

START_TEST(the_end_fails_all_requests)
{
	int x;

	set_up();
	gone_count = 0;
	join_ends(ROLE_DELIVER, ROLE_STORE);
	for (unsigned i = 0; i < 100; i++)
		ck_assert(ipc_expect(end_a, 60000, on_gone, &x));
	uint64_t dropped = ipc_expect(end_a, 60000, on_gone, &x);

	ipc_forget(end_a, dropped);
	edge_free(&end_b);
	run_for(5);
	ck_assert_uint_eq(gone_count, 100);
	ck_assert_int_eq(gone_code, ERR_CODE_UNAVAILABLE);
	ck_assert_uint_eq(downs, 1);
	tear_down();
}
END_TEST

START_TEST(requests_are_counted)
{
	int x;
	unsigned n = 0;

	set_up();
	join_ends(ROLE_DELIVER, ROLE_STORE);
	while (ipc_expect(end_a, 60000 + (uint32_t)(rnd() % 1000), on_gone, &x))
		n++;
	ck_assert_uint_eq(n, IPC_PENDING_MAX);
	gone_count = 0;
	edge_free(&end_a);
	ck_assert_uint_eq(gone_count, IPC_PENDING_MAX);
	tear_down();
}
END_TEST

/* ---- memory files ---- */

START_TEST(only_sealed_memory_files_are_mapped)
{
	struct memfd_map map;
	struct err e;

	set_up();
	int sealed = memfd_of(slice_of(octets, 10000), &e), open_one = memfd_new(&e),
	    empty = memfd_of(slice_of(NULL, 0), &e);

	ck_assert_int_eq(memfd_write(open_one, slice_of(octets, 10000), &e), 0);
	ck_assert(memfd_sealed(sealed) && !memfd_sealed(open_one) && !memfd_sealed(some_fd));
	ck_assert_int_eq(memfd_map(open_one, 10000, 10000, &map, &e), -1);
	ck_assert_int_eq(e.code, ERR_CODE_MALFORMED);
	ck_assert_int_eq(memfd_map(some_fd, MEMFD_ANY_SIZE, 10000, &map, &e), -1);
	ck_assert_int_eq(memfd_map(sealed, 9999, 10000, &map, &e), -1);
	ck_assert_int_eq(memfd_map(sealed, MEMFD_ANY_SIZE, 9999, &map, &e), -1);
	ck_assert_int_eq(memfd_map(sealed, 10000, 10000, &map, &e), 0);
	ck_assert(slice_eq(map.octets, slice_of(octets, 10000)));
	memfd_unmap(&map);
	ck_assert_int_eq(memfd_map(empty, 0, 0, &map, &e), 0);
	ck_assert_uint_eq(map.octets.n, 0);
	/* Nobody can write to it, grow it or shrink it. */
	ck_assert_int_eq(pwrite(sealed, "x", 1, 0), -1);
	ck_assert_int_eq(ftruncate(sealed, 0), -1);
	close(sealed);
	close(open_one);
	close(empty);
	tear_down();
}
END_TEST

START_TEST(files_are_read_within_bounds)
{
	struct buf b;
	struct err e;
	uint8_t part[100];

	set_up();
	int fd = memfd_of(slice_of(octets, 65536), &e);

	ck_assert_int_eq(memfd_read(fd, 65500, part, sizeof part, &e), 36);
	ck_assert_int_eq(memcmp(part, octets + 65500, 36), 0);
	ck_assert_int_eq(memfd_read(fd, 70000, part, sizeof part, &e), 0);
	buf_init(&b, 65535);
	ck_assert_int_eq(memfd_read_all(fd, &b, &e), -1);
	ck_assert_int_eq(e.class, ERR_LIMIT);
	buf_fini(&b);
	buf_init(&b, 65536);
	ck_assert_int_eq(memfd_read_all(fd, &b, &e), 0);
	ck_assert(slice_eq(buf_slice(&b), slice_of(octets, 65536)));
	buf_fini(&b);
	close(fd);
	tear_down();
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("ipc");
	TCase *t = tcase_create("edges");

	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, every_message_arrives_whole, 1, MSG_TYPE_COUNT);
	tcase_add_test(t, garbage_ends_the_edge);
	tcase_add_test(t, well_formed_is_no_garbage);
	tcase_add_test_raise_signal(t, the_wrong_direction_is_a_bug, SIGABRT);
	tcase_add_test(t, a_field_too_long_is_not_sent);
	tcase_add_test(t, the_queue_is_bounded_and_drains);
	tcase_add_test(t, queued_descriptors_are_bounded_and_closed);
	tcase_add_test(t, what_is_put_back_comes_again);
	tcase_add_test(t, what_is_put_back_goes_with_its_edge);
	tcase_add_loop_test(t, without_descriptors_a_message_waits, 0, (int)(sizeof rooms / sizeof rooms[0]));
	tcase_add_test(t, without_descriptors_others_go_on);
	tcase_add_test(t, a_handler_may_free_its_edge);
	tcase_add_test(t, what_was_said_before_the_end_is_heard);
	tcase_add_test(t, requests_meet_their_deadline);
	tcase_add_test(t, nobody_is_told_in_silence);
	tcase_add_test(t, the_end_fails_all_requests);
	tcase_add_test(t, requests_are_counted);
	tcase_add_test(t, only_sealed_memory_files_are_mapped);
	tcase_add_test(t, files_are_read_within_bounds);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed != 0;
}
