#include "tests/bench/bench_keeper.h"

#include "common/config.h"
#include "common/memfd.h"
#include "common/role.h"
#include "store/quota.h"
#include "store/record.h"
#include "store/uidset.h"

#include <limits.h>
#include <openssl/evp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NO_MAILBOX 0x7fffffffu

static struct loop *the_loop;
static uint64_t sequence; /* of requests; origins are random for each process */
static uint8_t origin[STORE_ORIGIN_BYTES];

double
bench_now(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

void
bench_die(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	(void)fputs("store_bench: ", stderr);
	(void)vfprintf(stderr, format, ap);
	(void)fputc('\n', stderr);
	va_end(ap);
	exit(1);
}

struct loop *
bench_loop(void)
{
	if (the_loop == NULL) {
		the_loop = loop_new();
		if (getentropy(origin, sizeof origin) != 0)
			bench_die("no random numbers");
	}
	return the_loop;
}

/* ---- what the keeper says ---- */

static void
answered(struct bench_keeper *k, uint32_t class)
{
	k->class = class;
	if (k->waiting > 0 && --k->waiting == 0)
		loop_stop(the_loop);
}

static void
on_ready(struct edge *e, struct msg_CTL_READY *m)
{
	struct bench_keeper *k = edge_arg(e);

	(void)m;
	k->ready = true;
	loop_stop(the_loop);
}

static void
on_usage(struct edge *e, struct msg_KEEPER_USAGE *m)
{
	(void)e;
	(void)m;
}

static void
on_idle(struct edge *e, struct msg_PROCESS_IDLE *m)
{
	(void)e;
	(void)m;
}

static void
on_open(struct edge *e, struct msg_MBOX_OPEN_REPLY *m)
{
	struct bench_keeper *k = edge_arg(e);
	struct err err;

	if (m->class == ERR_NONE) {
		if (store_view_open(&k->view, m, &err) < 0)
			bench_die("the view is refused: %s", err.detail);
		k->view_open = true;
		k->uidvalidity = m->uidvalidity;
	}
	answered(k, m->class);
}

static void
on_new(struct edge *e, struct msg_EVENT_NEW *m)
{
	struct bench_keeper *k = edge_arg(e);

	if (k->view_open && k->view.mailbox == m->mailbox && !store_view_new(&k->view, m))
		bench_die("new messages do not fit the view");
}

static void
on_flags_event(struct edge *e, struct msg_EVENT_FLAGS *m)
{
	struct bench_keeper *k = edge_arg(e);

	if (k->view_open && k->view.mailbox == m->mailbox && !store_view_flags(&k->view, m))
		bench_die("flags do not fit the view");
}

static void
on_expunge_event(struct edge *e, struct msg_EVENT_EXPUNGE *m)
{
	struct bench_keeper *k = edge_arg(e);

	if (k->view_open && k->view.mailbox == m->mailbox && !store_view_expunge(&k->view, m))
		bench_die("expunged messages do not fit the view");
}

static void
on_mailboxes(struct edge *e, struct msg_EVENT_MAILBOXES *m)
{
	(void)e;
	(void)m;
}

static void
on_resync(struct edge *e, struct msg_EVENT_RESYNC *m)
{
	(void)e;
	(void)m;
}

static void
on_flags(struct edge *e, struct msg_MSG_FLAGS_REPLY *m)
{
	answered(edge_arg(e), m->class);
}

static void
on_copy(struct edge *e, struct msg_MSG_COPY_REPLY *m)
{
	answered(edge_arg(e), m->class);
}

static void
on_expunge(struct edge *e, struct msg_MSG_EXPUNGE_REPLY *m)
{
	answered(edge_arg(e), m->class);
}

static void
on_fetch(struct edge *e, struct msg_MSG_FETCH_REPLY *m)
{
	struct bench_keeper *k = edge_arg(e);
	struct store_record r;
	struct memfd_map map;
	struct err err;

	if (m->class == ERR_NONE && m->count > 0) {
		if (memfd_map(m->records, m->bytes, m->bytes, &map, &err) < 0)
			bench_die("records are refused: %s", err.detail);
		struct cursor c = cursor_of(map.octets);

		while (store_record_next(&c, &r))
			k->got++;
		memfd_unmap(&map);
	}
	k->next_uid = m->next_uid;
	answered(k, m->class);
}

static void send_append(struct bench_keeper *k);

static void
on_append(struct edge *e, struct msg_MSG_APPEND_REPLY *m)
{
	struct bench_keeper *k = edge_arg(e);

	if (m->class != ERR_NONE)
		bench_die("a delivery was refused: code %u", m->code);
	k->got = m->uid;
	if (k->to_send > 0)
		send_append(k);
	answered(k, m->class);
}

static void
on_down(struct edge *e, void *arg)
{
	(void)arg;
	bench_die("the keeper ended an edge (%s)", role_info(edge_peer(e)->role)->name);
}

static const struct ipc_dispatch dispatch = {
    .CTL_READY = on_ready,
    .KEEPER_USAGE = on_usage,
    .PROCESS_IDLE = on_idle,
    .MBOX_OPEN_REPLY = on_open,
    .EVENT_NEW = on_new,
    .EVENT_FLAGS = on_flags_event,
    .EVENT_EXPUNGE = on_expunge_event,
    .EVENT_MAILBOXES = on_mailboxes,
    .EVENT_RESYNC = on_resync,
    .MSG_FLAGS_REPLY = on_flags,
    .MSG_COPY_REPLY = on_copy,
    .MSG_EXPUNGE_REPLY = on_expunge,
    .MSG_FETCH_REPLY = on_fetch,
    .MSG_APPEND_REPLY = on_append,
};

/* ---- its life ---- */

/* As seen from build/tests/bench/. */
static void
keeper_program(char *path, size_t size)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

	if (n <= 0)
		bench_die("readlink of /proc/self/exe");
	self[n] = '\0';
	for (int up = 0; up < 3; up++)
		*strrchr(self, '/') = '\0';
	(void)snprintf(path, size, "%s/libexec/%s", self, role_info(ROLE_KEEPER)->program);
}

static int
pair(int fds[2])
{
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds);
}

static struct edge *
edge_to(struct bench_keeper *k, enum role self, int fd)
{
	static const struct edge_events events = {.on_down = on_down};

	return edge_new(bench_loop(), fd, self, (struct edge_peer){ROLE_KEEPER, 0, 1}, &dispatch, &events, k);
}

static void
say_hello(struct bench_keeper *k, const char *state)
{
	struct config *c = config_new();
	uint8_t hash[32];
	struct buf b;
	struct err e;

	buf_init(&b, 65536);
	if (config_set(c, OPT_HOSTNAME, SLICE("bench.demo.test"), &e) < 0)
		bench_die("settings: %s", e.detail);
	config_encode(c, &b);
	msg_table_hash(hash);
	if (!IPC_SEND(k->control, CTL_HELLO, .table_hash = slice_of(hash, sizeof hash), .role = ROLE_KEEPER,
		.generation = 1, .account = k->account, .state_dir = slice_str(state), .config = buf_slice(&b),
		.demo = 1))
		bench_die("CTL_HELLO was not sent");
	buf_fini(&b);
	config_free(&c);
}

static struct edge *
peer(struct bench_keeper *k, enum role role)
{
	int fds[2];

	if (pair(fds) != 0 ||
	    !IPC_SEND(k->store, KEEPER_PEER, .peer_role = role, .peer_generation = 1, .fd = fds[1]))
		bench_die("no edge to the keeper");
	(void)close(fds[1]);
	return edge_to(k, role, fds[0]);
}

void
bench_keeper_start(struct bench_keeper *k, const char *state, uint64_t account)
{
	char path[PATH_MAX + 64];
	int control[2], store[2];

	*k = (struct bench_keeper){.account = account};
	keeper_program(path, sizeof path);
	if (pair(control) != 0 || pair(store) != 0)
		bench_die("socketpair");
	k->pid = fork();
	if (k->pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGTERM);
		(void)dup2(control[1], ROLE_CONTROL_FD);
		(void)execl(path, path, (char *)NULL);
		_exit(127);
	}
	(void)close(control[1]);
	k->control = edge_to(k, ROLE_SUPERVISOR, control[0]);
	say_hello(k, state);
	if (!IPC_SEND(k->control, CTL_EDGE, .peer_role = ROLE_STORE, .peer_generation = 1, .fd = store[1]) ||
	    !IPC_SEND(k->control, CTL_START, ))
		bench_die("the keeper was not started");
	(void)close(store[1]);
	k->store = edge_to(k, ROLE_STORE, store[0]);
	if (!IPC_SEND(k->store, KEEPER_LIMITS, .bytes = QUOTA_NONE, .messages = QUOTA_NONE))
		bench_die("KEEPER_LIMITS was not sent");
	while (!k->ready)
		loop_run(bench_loop());
	k->deliver = peer(k, ROLE_DELIVER);
	k->worker = peer(k, ROLE_IMAP_WORKER);
}

void
bench_keeper_stop(struct bench_keeper *k)
{
	bench_keeper_close(k);
	if (!IPC_SEND(k->control, CTL_DRAIN, ))
		bench_die("CTL_DRAIN was not sent");
	if (waitpid(k->pid, NULL, 0) != k->pid)
		bench_die("waitpid");
	edge_free(&k->worker);
	edge_free(&k->deliver);
	edge_free(&k->store);
	edge_free(&k->control);
	k->pid = 0;
}

void
bench_keeper_wait(struct bench_keeper *k)
{
	while (k->waiting > 0)
		loop_run(bench_loop());
}

/* ---- requests ---- */

static void
sent(struct bench_keeper *k, bool ok, uint32_t class)
{
	if (!ok)
		bench_die("a request was not sent");
	k->waiting++;
	bench_keeper_wait(k);
	if (k->class != class)
		bench_die("a request was answered with class %u", k->class);
}

void
bench_keeper_close(struct bench_keeper *k)
{
	if (!k->view_open)
		return;
	store_view_close(&k->view);
	k->view_open = false;
	if (!IPC_SEND(k->worker, MBOX_CLOSE, .mailbox = k->mailbox))
		bench_die("MBOX_CLOSE was not sent");
}

void
bench_keeper_open(struct bench_keeper *k, uint32_t mailbox)
{
	k->mailbox = mailbox;
	sent(k, IPC_SEND(k->worker, MBOX_OPEN, .id = ++sequence, .mailbox = mailbox), ERR_NONE);
}

void
bench_keeper_hop(struct bench_keeper *k)
{
	sent(k, IPC_SEND(k->worker, MBOX_OPEN, .id = ++sequence, .mailbox = NO_MAILBOX), ERR_PERM);
}

/* The range as a uids field. */
static struct slice
range_field(struct buf *b, uint32_t first, uint32_t last)
{
	struct uid_range range = {first, last};
	struct uidset set = {.ranges = &range, .n = 1, .cap = 1};

	buf_init(b, UIDSET_FIELD_BYTES_MAX);
	if (!uidset_put(b, &set))
		bench_die("a range that does not fit");
	return buf_slice(b);
}

void
bench_keeper_flags(struct bench_keeper *k, unsigned mode, uint32_t flags, uint32_t first, uint32_t last)
{
	struct buf b;
	struct slice uids = range_field(&b, first, last);

	sent(k,
	    IPC_SEND(k->worker, MSG_FLAGS, .id = ++sequence, .origin = slice_of(origin, sizeof origin),
		.sequence = sequence, .mailbox = 1, .mode = (uint8_t)mode, .flags = flags,
		.unchangedsince = UINT64_MAX, .uids = uids, .uids_fd = -1),
	    ERR_NONE);
	buf_fini(&b);
}

void
bench_keeper_copy(struct bench_keeper *k, uint32_t target, uint32_t first, uint32_t last)
{
	struct buf b;
	struct slice uids = range_field(&b, first, last);

	sent(k,
	    IPC_SEND(k->worker, MSG_COPY, .id = ++sequence, .origin = slice_of(origin, sizeof origin),
		.sequence = sequence, .mailbox = 1, .target_mailbox = target, .uids = uids, .uids_fd = -1),
	    ERR_NONE);
	buf_fini(&b);
}

void
bench_keeper_expunge(struct bench_keeper *k, uint32_t mailbox, uint32_t first, uint32_t last)
{
	struct buf b;
	struct slice uids = range_field(&b, first, last);

	sent(k,
	    IPC_SEND(k->worker, MSG_EXPUNGE, .id = ++sequence, .origin = slice_of(origin, sizeof origin),
		.sequence = sequence, .mailbox = mailbox, .uids = uids, .uids_fd = -1),
	    ERR_NONE);
	buf_fini(&b);
}

uint64_t
bench_keeper_fetch(struct bench_keeper *k, uint32_t first, uint32_t last)
{
	struct buf b;

	k->got = 0;
	k->next_uid = first;
	while (k->next_uid != 0) {
		struct slice uids = range_field(&b, k->next_uid, last);

		sent(k,
		    IPC_SEND(k->worker, MSG_FETCH, .id = ++sequence, .mailbox = 1,
			.want = STORE_WANT_DETAIL | STORE_WANT_SUMMARY, .uids = uids, .uids_fd = -1),
		    ERR_NONE);
		buf_fini(&b);
	}
	return k->got;
}

static void
send_append(struct bench_keeper *k)
{
	k->to_send--;
	if (!IPC_SEND(k->deliver, MSG_APPEND, .id = ++sequence, .origin = slice_of(origin, sizeof origin),
		.sequence = sequence, .mailbox = 0, .internal_date = 1700000000, .bytes = k->message.n,
		.sha256 = slice_of(k->sha256, sizeof k->sha256), .message = k->message_fd, .summary = k->summary_fd))
		bench_die("MSG_APPEND was not sent");
}

void
bench_keeper_deliver(struct bench_keeper *k, unsigned count, bool batch, int message, struct slice octets, int summary)
{
	k->message = octets;
	EVP_Digest(octets.p, octets.n, k->sha256, NULL, EVP_sha256(), NULL);
	k->message_fd = message;
	k->summary_fd = summary;
	k->to_send = count;
	k->waiting += count;
	do
		send_append(k);
	while (batch && k->to_send > 0);
}
