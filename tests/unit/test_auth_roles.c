/*
 * The directory and the verifier as processes, every peer of theirs played by the test: what is
 * asked of whom, in which order, and what happens when a peer is silent, leaves, or comes back.
 */
#include "common/auth_proto.h"
#include "common/config.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/mem.h"
#include "common/password.h"
#include "common/role.h"
#include "store/quota.h"

#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define WAIT_MS 15000
#define NOTES_MAX 512

/* What the played peers were sent, in order. */
struct note {
	enum msg_type type;
	enum role self; /* the played role that got it */
	bool taken;
	uint64_t id, account, conn;
	uint32_t class, code;
	unsigned status, found;
	char text[400]; /* challenge, login or hash */
};

static struct loop *loop;
static struct loop_timer *timer;
static struct note notes[NOTES_MAX];
static unsigned noted;
static char state[64];
static char nobody[PASSWORD_HASH_SIZE];
static uint64_t generation = 100;

struct process {
	pid_t pid;
	enum role role;
	struct edge *control;
	struct edge *peer[ROLE_COUNT];
};

static struct note *
note(struct edge *e, enum msg_type type, enum role self)
{
	struct note *n = &notes[noted++];

	ck_assert_uint_lt(noted, NOTES_MAX);
	(void)e;
	*n = (struct note){.type = type, .self = self};
	loop_stop(loop);
	return n;
}

static void
keep(struct note *n, struct slice text)
{
	ck_assert(slice_cstr(text, n->text, sizeof n->text));
}

static enum role
self_of(struct edge *e)
{
	return (enum role)(uintptr_t)edge_arg(e);
}

static void
on_ready(struct edge *e, struct msg_CTL_READY *m)
{
	(void)m;
	(void)note(e, MSG_CTL_READY, ROLE_SUPERVISOR);
}

static void
on_result(struct edge *e, struct msg_AUTH_RESULT *m)
{
	struct note *n = note(e, MSG_AUTH_RESULT, self_of(e));

	n->id = m->id;
	n->conn = m->conn;
	n->status = m->status;
	n->account = m->account;
	keep(n, m->status == AUTH_CONTINUE ? m->challenge : m->login);
}

static void
on_credential(struct edge *e, struct msg_DIR_CREDENTIAL *m)
{
	struct note *n = note(e, MSG_DIR_CREDENTIAL, self_of(e));

	n->id = m->id;
	keep(n, m->login);
}

static void
on_authenticated(struct edge *e, struct msg_DIR_AUTHENTICATED *m)
{
	struct note *n = note(e, MSG_DIR_AUTHENTICATED, self_of(e));

	n->id = m->id;
	n->account = m->account;
	n->conn = m->conn;
	keep(n, m->service);
}

static void
on_credential_reply(struct edge *e, struct msg_DIR_CREDENTIAL_REPLY *m)
{
	struct note *n = note(e, MSG_DIR_CREDENTIAL_REPLY, self_of(e));

	n->id = m->id;
	n->class = m->class;
	n->found = m->found;
	n->account = m->account;
	keep(n, m->hash);
}

static void
on_authenticated_reply(struct edge *e, struct msg_DIR_AUTHENTICATED_REPLY *m)
{
	struct note *n = note(e, MSG_DIR_AUTHENTICATED_REPLY, self_of(e));

	n->id = m->id;
	n->class = m->class;
	n->code = m->code;
}

static void
on_lease_open(struct edge *e, struct msg_LEASE_OPEN *m)
{
	struct note *n = note(e, MSG_LEASE_OPEN, self_of(e));

	n->id = m->id;
	n->account = m->account;
	n->conn = m->conn;
	keep(n, m->login);
}

static void
on_lease_revoke(struct edge *e, struct msg_LEASE_REVOKE *m)
{
	note(e, MSG_LEASE_REVOKE, self_of(e))->account = m->account;
}

static void
on_account_delete(struct edge *e, struct msg_STORE_ACCOUNT_DELETE *m)
{
	struct note *n = note(e, MSG_STORE_ACCOUNT_DELETE, self_of(e));

	n->id = m->id;
	n->account = m->account;
}

static void
on_admin_reply(struct edge *e, struct msg_DIR_ADMIN_REPLY *m)
{
	struct note *n = note(e, MSG_DIR_ADMIN_REPLY, self_of(e));

	n->id = m->id;
	n->class = m->class;
	n->code = m->code;
}

/* What the store was told of limits: the last row, how many, and the parts of a whole telling so far. It takes them unless it is mute. */
static struct {
	uint64_t account, domain, bytes, messages;
	unsigned rows;
	char parts[16];
	bool mute;
} quota;

static void
on_quota_rows(struct edge *e, struct msg_QUOTA_ROWS *m)
{
	struct cursor c = cursor_of(m->rows);
	size_t n = strlen(quota.parts);

	for (; cursor_left(&c) > 0; quota.rows++) {
		quota.account = cursor_u64(&c);
		quota.domain = cursor_u64(&c);
		quota.bytes = cursor_u64(&c);
		quota.messages = cursor_u64(&c);
	}
	ck_assert(cursor_done(&c));
	if (n + 1 < sizeof quota.parts)
		quota.parts[n] = (char)('0' + m->part);
	if (!quota.mute)
		ck_assert(IPC_SEND(e, QUOTA_TAKEN, .id = m->id));
}

static void
on_garbage(struct edge *e, struct msg_CTL_GARBAGE *m)
{
	note(e, MSG_CTL_GARBAGE, ROLE_SUPERVISOR)->account = m->peer_role;
}

static const struct ipc_dispatch dispatch = {
    .CTL_READY = on_ready,
    .CTL_GARBAGE = on_garbage,
    .AUTH_RESULT = on_result,
    .DIR_CREDENTIAL = on_credential,
    .DIR_AUTHENTICATED = on_authenticated,
    .DIR_CREDENTIAL_REPLY = on_credential_reply,
    .DIR_AUTHENTICATED_REPLY = on_authenticated_reply,
    .LEASE_OPEN = on_lease_open,
    .LEASE_REVOKE = on_lease_revoke,
    .STORE_ACCOUNT_DELETE = on_account_delete,
    .QUOTA_ROWS = on_quota_rows,
    .DIR_ADMIN_REPLY = on_admin_reply,
};

static void
on_down(struct edge *e, void *arg)
{
	(void)e;
	(void)arg;
}

static const struct edge_events events = {.on_down = on_down};

static void
on_timer(void *arg)
{
	(void)arg;
	loop_stop(loop);
}

/* The first of what came that satisfies type and self (MSG_NONE: anything); messages on different
 * edges have no order. */
static struct note *
find(enum msg_type type, enum role self)
{
	for (unsigned i = 0; i < noted; i++) {
		struct note *n = &notes[i];

		if (!n->taken && (type == MSG_NONE || (n->type == type && n->self == self)))
			return n;
	}
	return NULL;
}

static struct note *
find_within(enum msg_type type, enum role self, uint64_t ms)
{
	uint64_t until = clock_ms() + ms;
	struct note *n;

	while ((n = find(type, self)) == NULL && clock_ms() < until) {
		loop_timer_set(timer, until - clock_ms());
		loop_run(loop);
	}
	loop_timer_stop(timer);
	if (n != NULL)
		n->taken = true;
	return n;
}

static struct note *
expect(enum msg_type type, enum role self)
{
	struct note *n = find_within(type, self, WAIT_MS);

	ck_assert_msg(
	    n != NULL, "waited in vain for %s at %s", msg_info(type)->name, role_info(self)->name);
	return n;
}

static void
expect_nothing(uint64_t ms)
{
	struct note *n = find_within(MSG_NONE, ROLE_COUNT, ms);

	ck_assert_msg(n == NULL, "%s came", msg_info(n->type)->name);
}

/* ---- processes ---- */

static void
program_path(enum role role, char *out, size_t size)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

	ck_assert_int_gt(n, 0);
	self[n] = '\0';
	for (int up = 0; up < 3; up++)
		*strrchr(self, '/') = '\0';
	(void)snprintf(out, size, "%s/libexec/%s", self, role_info(role)->program);
}

static int
pair(int fds[2])
{
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds);
}

static void
spawn(struct process *p, enum role role)
{
	char path[PATH_MAX + 64];
	uint8_t hash[32];
	int fds[2];
	struct config *c = config_new();
	struct buf b;
	struct err e;

	*p = (struct process){.role = role};
	program_path(role, path, sizeof path);
	ck_assert_int_eq(pair(fds), 0);
	p->pid = fork();
	if (p->pid == 0) {
		(void)dup2(fds[1], ROLE_CONTROL_FD);
		(void)execl(path, path, (char *)NULL);
		_exit(127);
	}
	(void)close(fds[1]);
	p->control = edge_new(loop, fds[0], ROLE_SUPERVISOR, (struct edge_peer){role, 0, 1},
	    &dispatch, &events, (void *)(uintptr_t)ROLE_SUPERVISOR);
	msg_table_hash(hash);
	ck_assert_int_eq(config_set(c, OPT_HOSTNAME, SLICE("mail.one.test"), &e), 0);
	buf_init(&b, 65536);
	config_encode(c, &b);
	ck_assert(IPC_SEND(p->control, CTL_HELLO, .table_hash = slice_of(hash, sizeof hash),
	    .role = role, .generation = 1, .state_dir = slice_str(state), .config = buf_slice(&b),
	    .demo = 1));
	buf_fini(&b);
	config_free(&c);
}

/* The process gets an edge to a peer that is played here. */
static void
play(struct process *p, enum role peer)
{
	int fds[2];

	ck_assert_int_eq(pair(fds), 0);
	edge_free(&p->peer[peer]);
	ck_assert(IPC_SEND(p->control, CTL_EDGE, .peer_role = peer, .peer_generation = ++generation,
	    .fd = fds[1]));
	(void)close(fds[1]);
	p->peer[peer] = edge_new(loop, fds[0], peer, (struct edge_peer){p->role, 0, 1}, &dispatch,
	    &events, (void *)(uintptr_t)peer);
}

static void
start(struct process *p)
{
	ck_assert(IPC_SEND(p->control, CTL_START, ));
	(void)expect(MSG_CTL_READY, ROLE_SUPERVISOR);
}

static void
stop(struct process *p, int how)
{
	for (unsigned r = 0; r < ROLE_COUNT; r++)
		edge_free(&p->peer[r]);
	ck_assert_int_eq(kill(p->pid, how), 0);
	edge_free(&p->control);
	ck_assert_int_eq(waitpid(p->pid, NULL, 0), p->pid);
	noted = 0;
}

static void
setup(void)
{
	char path[128];

	log_init("test", LOG_BUG);
	memcpy(state, "/tmp/test_auth_roles.XXXXXX", sizeof "/tmp/test_auth_roles.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(state));
	(void)snprintf(path, sizeof path, "%s/directory", state);
	ck_assert_int_eq(mkdir(path, 0700), 0);
	ck_assert_int_eq(password_hash_nobody(nobody, NULL), 0);
	noted = 0;
	loop = loop_new();
	timer = loop_timer_new(loop, on_timer, NULL);
}

static void
remove_tree(const char *path)
{
	char name[512];
	struct dirent *entry;
	DIR *list = opendir(path);

	while (list != NULL && (entry = readdir(list)) != NULL) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		(void)snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
		if (unlink(name) != 0)
			remove_tree(name);
	}
	if (list != NULL)
		(void)closedir(list);
	(void)rmdir(path);
}

static void
teardown(void)
{
	loop_timer_free(&timer);
	loop_free(&loop);
	remove_tree(state);
}

/* ---- the verifier ---- */

static void
verifier(struct process *p)
{
	spawn(p, ROLE_VERIFIER);
	play(p, ROLE_IMAP_FRONT);
	play(p, ROLE_DIRECTORY);
	start(p);
}

static void
step_from(struct process *p, uint64_t id, uint64_t conn, const char *ip, const char *mechanism,
    struct slice response)
{
	ck_assert(IPC_SEND(p->peer[ROLE_IMAP_FRONT], AUTH_STEP, .id = id, .conn = conn,
	    .service = SLICE("imap"), .session = SLICE("s-1"), .client_ip = slice_str(ip),
	    .mechanism = slice_str(mechanism), .has_response = response.p != NULL,
	    .response = response));
}

static void
step(struct process *p, uint64_t id, uint64_t conn, const char *mechanism, struct slice response)
{
	step_from(p, id, conn, "192.0.2.1", mechanism, response);
}

static void
credential(struct process *p, const struct note *asked, uint64_t account, const char *hash)
{
	ck_assert(IPC_SEND(p->peer[ROLE_DIRECTORY], DIR_CREDENTIAL_REPLY, .id = asked->id,
	    .found = account != 0, .account = account,
	    .login = account != 0 ? SLICE("alice@one.test") : SLICE(""), .hash = slice_str(hash)));
}

static void
result(uint64_t id, unsigned status)
{
	struct note *n = expect(MSG_AUTH_RESULT, ROLE_IMAP_FRONT);

	ck_assert_uint_eq(n->id, id);
	ck_assert_uint_eq(n->status, status);
}

START_TEST(test_verifier_success)
{
	struct process p;
	struct note *n;
	char hash[PASSWORD_HASH_SIZE];

	ck_assert_int_eq(password_hash(SLICE("secret"), hash, NULL), 0);
	verifier(&p);
	step(&p, 1, 7, "PLAIN", SLICE("\0Alice@one.test\0secret"));
	n = expect(MSG_DIR_CREDENTIAL, ROLE_DIRECTORY);
	ck_assert_str_eq(n->text, "Alice@one.test");
	credential(&p, n, 42, hash);
	n = expect(MSG_DIR_AUTHENTICATED, ROLE_DIRECTORY);
	ck_assert_uint_eq(n->account, 42);
	ck_assert_uint_eq(n->conn, 7);
	ck_assert_str_eq(n->text, "imap");
	ck_assert(IPC_SEND(p.peer[ROLE_DIRECTORY], DIR_AUTHENTICATED_REPLY, .id = n->id));
	n = expect(MSG_AUTH_RESULT, ROLE_IMAP_FRONT);
	ck_assert_uint_eq(n->status, AUTH_OK);
	ck_assert_uint_eq(n->account, 42);
	ck_assert_str_eq(n->text, "alice@one.test");
	/* A wrong password against the same hash is refused, the cache notwithstanding; so is a
	 * hash that was changed. */
	step(&p, 2, 7, "PLAIN", SLICE("\0alice@one.test\0Secret"));
	credential(&p, expect(MSG_DIR_CREDENTIAL, ROLE_DIRECTORY), 42, hash);
	result(2, AUTH_FAILED);
	step(&p, 3, 7, "PLAIN", SLICE("\0alice@one.test\0secret"));
	credential(&p, expect(MSG_DIR_CREDENTIAL, ROLE_DIRECTORY), 42, nobody);
	result(3, AUTH_FAILED);
	/* Suspended or changed between the two questions. */
	step(&p, 4, 7, "PLAIN", SLICE("\0alice@one.test\0secret"));
	credential(&p, expect(MSG_DIR_CREDENTIAL, ROLE_DIRECTORY), 42, hash);
	n = expect(MSG_DIR_AUTHENTICATED, ROLE_DIRECTORY);
	ck_assert(IPC_SEND(p.peer[ROLE_DIRECTORY], DIR_AUTHENTICATED_REPLY, .id = n->id,
	    .class = ERR_PERM, .code = ERR_CODE_EXPIRED));
	result(4, AUTH_FAILED);
	stop(&p, SIGKILL);
}
END_TEST

START_TEST(test_verifier_login)
{
	struct process p;
	struct note *n;

	verifier(&p);
	step(&p, 1, 1, "LOGIN", slice_of(NULL, 0));
	n = expect(MSG_AUTH_RESULT, ROLE_IMAP_FRONT);
	ck_assert_uint_eq(n->status, AUTH_CONTINUE);
	ck_assert_str_eq(n->text, "Username:");
	/* Another connection's response is not this one's. */
	step(&p, 2, 2, "", SLICE("alice"));
	result(2, AUTH_MALFORMED);
	step(&p, 3, 1, "", SLICE("alice"));
	n = expect(MSG_AUTH_RESULT, ROLE_IMAP_FRONT);
	ck_assert_str_eq(n->text, "Password:");
	step(&p, 4, 1, "", SLICE("secret"));
	n = expect(MSG_DIR_CREDENTIAL, ROLE_DIRECTORY);
	/* One exchange per connection: while it runs nothing else is its continuation. */
	step(&p, 5, 1, "", SLICE("more"));
	result(5, AUTH_MALFORMED);
	credential(&p, n, 0, nobody);
	result(4, AUTH_FAILED);
	step(&p, 6, 1, "GSSAPI", slice_of(NULL, 0));
	result(6, AUTH_UNSUPPORTED);
	step(&p, 7, 1, "PLAIN", SLICE("nonsense"));
	result(7, AUTH_FAILED);
	stop(&p, SIGKILL);
}
END_TEST

/* A connection that goes away takes its exchange along; so does the whole front. */
START_TEST(test_verifier_abort)
{
	struct process p;
	struct note *n;

	verifier(&p);
	step(&p, 1, 1, "PLAIN", SLICE("\0alice\0secret"));
	n = expect(MSG_DIR_CREDENTIAL, ROLE_DIRECTORY);
	ck_assert(IPC_SEND(p.peer[ROLE_IMAP_FRONT], AUTH_ABORT, .conn = 1));
	ck_assert(IPC_SEND(p.peer[ROLE_IMAP_FRONT], AUTH_ABORT, .conn = 99));
	step(&p, 2, 2, "PLAIN", slice_of(NULL, 0));
	result(2, AUTH_CONTINUE);
	credential(&p, n, 0, nobody);
	expect_nothing(300);
	step(&p, 3, 3, "PLAIN", SLICE("\0alice\0secret"));
	n = expect(MSG_DIR_CREDENTIAL, ROLE_DIRECTORY);
	play(&p, ROLE_IMAP_FRONT);
	credential(&p, n, 0, nobody);
	expect_nothing(300);
	step(&p, 4, 3, "", SLICE("x"));
	result(4, AUTH_MALFORMED);
	stop(&p, SIGKILL);
}
END_TEST

START_TEST(test_verifier_directory_away)
{
	struct process p;

	verifier(&p);
	step(&p, 1, 1, "PLAIN", SLICE("\0alice\0secret"));
	(void)expect(MSG_DIR_CREDENTIAL, ROLE_DIRECTORY);
	play(&p, ROLE_DIRECTORY);
	result(1, AUTH_TEMP);
	step(&p, 2, 1, "PLAIN", SLICE("\0alice\0secret"));
	ck_assert(IPC_SEND(p.peer[ROLE_DIRECTORY], DIR_CREDENTIAL_REPLY,
	    .id = expect(MSG_DIR_CREDENTIAL, ROLE_DIRECTORY)->id, .class = ERR_TEMP));
	result(2, AUTH_TEMP);
	stop(&p, SIGKILL);
}
END_TEST

/* A crowd: what the queue of hashes cannot hold is told to come later, at once; the rest is
 * answered. */
START_TEST(test_verifier_crowd)
{
	struct process p;
	unsigned failed = 0, temporary = 0;
	uint64_t asked[100];
	char ip[32];

	verifier(&p);
	for (unsigned i = 0; i < 100; i++) {
		(void)snprintf(ip, sizeof ip, "10.0.0.%u", i);
		step_from(&p, i + 1, i + 1, ip, "PLAIN", SLICE("\0alice\0secret"));
	}
	for (unsigned i = 0; i < 100; i++)
		asked[i] = expect(MSG_DIR_CREDENTIAL, ROLE_DIRECTORY)->id;
	for (unsigned i = 0; i < 100; i++)
		credential(&p, &(struct note){.id = asked[i]}, 0, nobody);
	for (unsigned i = 0; i < 100; i++) {
		struct note *n = expect(MSG_AUTH_RESULT, ROLE_IMAP_FRONT);

		failed += n->status == AUTH_FAILED;
		temporary += n->status == AUTH_TEMP;
	}
	ck_assert_uint_eq(failed + temporary, 100);
	ck_assert_uint_ge(failed, 64);
	ck_assert_uint_ge(temporary, 1);
	stop(&p, SIGKILL);
}
END_TEST

/* The third failure of a network waits, the fourth twice as long; another network's does not. */
START_TEST(test_verifier_delay)
{
	struct process p;
	uint64_t began, took = 0;

	verifier(&p);
	for (unsigned i = 1; i <= 4; i++) {
		began = clock_ms();
		step(&p, i, 1, "PLAIN", SLICE("\0alice\0secret"));
		credential(&p, expect(MSG_DIR_CREDENTIAL, ROLE_DIRECTORY), 0, nobody);
		result(i, AUTH_FAILED);
		took = clock_ms() - began;
		ck_assert_uint_ge(took, i < 3 ? 0 : i == 3 ? 500 : 1000);
	}
	began = clock_ms();
	step_from(&p, 5, 1, "2001:db8::1", "PLAIN", SLICE("\0alice\0secret"));
	credential(&p, expect(MSG_DIR_CREDENTIAL, ROLE_DIRECTORY), 0, nobody);
	result(5, AUTH_FAILED);
	/* The hash takes its time in both. */
	ck_assert_uint_lt(clock_ms() - began, took);
	stop(&p, SIGKILL);
}
END_TEST

/* A front has no message for a verifier but its two: anything else ends its edge and is reported.
 */
START_TEST(test_verifier_garbage)
{
	struct process p;
	struct note *n;
	int fds[2];

	verifier(&p);
	ck_assert_int_eq(pair(fds), 0);
	ck_assert(IPC_SEND(
	    p.control, CTL_EDGE, .peer_role = ROLE_POP3_FRONT, .peer_generation = 7, .fd = fds[1]));
	(void)close(fds[1]);
	ck_assert_int_eq(send(fds[0], "\0\0garbage", 9, 0), 9);
	n = expect(MSG_CTL_GARBAGE, ROLE_SUPERVISOR);
	ck_assert_uint_eq(n->account, ROLE_POP3_FRONT);
	(void)close(fds[0]);
	step(&p, 1, 1, "PLAIN", slice_of(NULL, 0));
	result(1, AUTH_CONTINUE);
	stop(&p, SIGKILL);
}
END_TEST

/* ---- the directory ---- */

static struct edge *
admin_connect(struct process *p)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	(void)snprintf(at.sun_path, sizeof at.sun_path, "%s/control", state);
	(void)unlink(at.sun_path);
	ck_assert_int_eq(bind(listener, (struct sockaddr *)&at, sizeof at), 0);
	ck_assert_int_eq(listen(listener, 8), 0);
	ck_assert(IPC_SEND(p->control, CTL_LISTEN, .name = SLICE("control"), .fd = listener));
	(void)close(listener);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
	ck_assert_int_eq(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	return edge_new(loop, fd, ROLE_ADMIN, (struct edge_peer){ROLE_DIRECTORY, 0, 1}, &dispatch,
	    &events, (void *)(uintptr_t)ROLE_ADMIN);
}

static struct edge *
directory(struct process *p)
{
	spawn(p, ROLE_DIRECTORY);
	play(p, ROLE_VERIFIER);
	play(p, ROLE_STORE);
	p->peer[ROLE_ADMIN] = admin_connect(p);
	start(p);
	return p->peer[ROLE_ADMIN];
}

static void
tell(struct edge *admin, const char *verb, const char *name, const char *hash)
{
	ck_assert(IPC_SEND(admin, DIR_ADMIN, .id = 5, .verb = slice_str(verb),
	    .name = slice_str(name), .password = slice_str(hash)));
}

static void
told(void)
{
	struct note *n = expect(MSG_DIR_ADMIN_REPLY, ROLE_ADMIN);

	ck_assert_uint_eq(n->id, 5);
	ck_assert_uint_eq(n->class, ERR_NONE);
}

static void
accounts_make(struct edge *admin, const char *hash)
{
	tell(admin, "domain-add", "one.test", "");
	told();
	tell(admin, "account-add", "alice@one.test", hash);
	told();
}

static void
authenticated(
    struct process *p, uint64_t id, enum role front, const char *service, const char *hash)
{
	ck_assert(IPC_SEND(p->peer[ROLE_VERIFIER], DIR_AUTHENTICATED, .id = id, .account = 1,
	    .front_role = front, .front_generation = 3, .conn = 9, .service = slice_str(service),
	    .hash = slice_str(hash)));
}

static void
authenticated_reply(uint64_t id, uint32_t class)
{
	struct note *n = expect(MSG_DIR_AUTHENTICATED_REPLY, ROLE_VERIFIER);

	ck_assert_uint_eq(n->id, id);
	ck_assert_uint_eq(n->class, class);
}

START_TEST(test_directory_credential)
{
	struct process p;
	struct edge *admin = directory(&p);
	struct note *n;
	char unknown[400];

	accounts_make(admin, nobody);
	ck_assert(IPC_SEND(
	    p.peer[ROLE_VERIFIER], DIR_CREDENTIAL, .id = 1, .login = SLICE("ALICE@one.test")));
	n = expect(MSG_DIR_CREDENTIAL_REPLY, ROLE_VERIFIER);
	ck_assert(n->found == 1 && n->account == 1);
	ck_assert_str_eq(n->text, nobody);
	ck_assert(IPC_SEND(
	    p.peer[ROLE_VERIFIER], DIR_CREDENTIAL, .id = 2, .login = SLICE("bob@one.test")));
	n = expect(MSG_DIR_CREDENTIAL_REPLY, ROLE_VERIFIER);
	ck_assert(n->found == 0 && n->account == 0 && n->class == ERR_NONE);
	/* It costs as much as a real one, and is the same for every unknown login. */
	ck_assert(
	    strncmp(n->text, nobody, strlen("$y$j9T$")) == 0 && strlen(n->text) == strlen(nobody));
	memcpy(unknown, n->text, sizeof unknown);
	tell(admin, "account-suspend", "alice@one.test", "");
	(void)expect(MSG_LEASE_REVOKE, ROLE_STORE);
	told();
	ck_assert(IPC_SEND(
	    p.peer[ROLE_VERIFIER], DIR_CREDENTIAL, .id = 3, .login = SLICE("alice@one.test")));
	n = expect(MSG_DIR_CREDENTIAL_REPLY, ROLE_VERIFIER);
	ck_assert(n->found == 0 && n->account == 0);
	ck_assert_str_eq(n->text, unknown);
	stop(&p, SIGKILL);
}
END_TEST

START_TEST(test_directory_lease)
{
	struct process p;
	struct edge *admin = directory(&p);
	struct note *n;

	accounts_make(admin, nobody);
	authenticated(&p, 1, ROLE_IMAP_FRONT, "imap", nobody);
	n = expect(MSG_LEASE_OPEN, ROLE_STORE);
	ck_assert(n->account == 1 && n->conn == 9);
	ck_assert_str_eq(n->text, "alice@one.test");
	ck_assert(IPC_SEND(p.peer[ROLE_STORE], LEASE_OPENED, .id = n->id));
	authenticated_reply(1, ERR_NONE);
	authenticated(&p, 2, ROLE_SUBMISSION, "submission", nobody);
	n = expect(MSG_LEASE_OPEN, ROLE_STORE);
	ck_assert(IPC_SEND(p.peer[ROLE_STORE], LEASE_OPENED, .id = n->id, .class = ERR_TEMP));
	authenticated_reply(2, ERR_TEMP);
	/* Another front's service, one that has none, a hash that is not the account's. */
	authenticated(&p, 3, ROLE_IMAP_FRONT, "submission", nobody);
	authenticated_reply(3, ERR_PERM);
	authenticated(&p, 4, ROLE_SMTP_FRONT, "imap", nobody);
	authenticated_reply(4, ERR_PERM);
	authenticated(&p, 5, ROLE_POP3_FRONT, "pop3", "$y$j9T$other");
	authenticated_reply(5, ERR_PERM);
	/* The store leaves before it answers. */
	authenticated(&p, 6, ROLE_POP3_FRONT, "pop3", nobody);
	(void)expect(MSG_LEASE_OPEN, ROLE_STORE);
	play(&p, ROLE_STORE);
	authenticated_reply(6, ERR_TEMP);
	stop(&p, SIGKILL);
}
END_TEST

/* What a change obliges to tell is told before the command hears of success, and after a crash
 * again until it was. */
START_TEST(test_directory_effects)
{
	struct process p;
	struct edge *admin = directory(&p);
	struct note *n;

	accounts_make(admin, nobody);
	edge_free(&p.peer[ROLE_STORE]);
	tell(admin, "account-passwd", "alice@one.test", nobody);
	told();
	stop(&p, SIGKILL);
	/* The store never heard of it: the successor tells. */
	admin = directory(&p);
	n = expect(MSG_LEASE_REVOKE, ROLE_STORE);
	ck_assert_uint_eq(n->account, 1);
	tell(admin, "account-delete", "alice@one.test", "");
	(void)expect(MSG_LEASE_REVOKE, ROLE_STORE);
	(void)expect(MSG_STORE_ACCOUNT_DELETE, ROLE_STORE);
	told();
	stop(&p, SIGKILL);
	/* The store had not answered. */
	(void)directory(&p);
	n = expect(MSG_STORE_ACCOUNT_DELETE, ROLE_STORE);
	ck_assert_uint_eq(n->account, 1);
	ck_assert(IPC_SEND(p.peer[ROLE_STORE], STORE_ACCOUNT_REPLY, .id = n->id));
	expect_nothing(300);
	stop(&p, SIGTERM);
	(void)directory(&p);
	expect_nothing(300);
	stop(&p, SIGKILL);
}
END_TEST

static void
set_limit(struct edge *admin, const char *name, const char *value, uint32_t class)
{
	ck_assert(IPC_SEND(admin, DIR_ADMIN, .id = 6, .verb = SLICE("quota-set"), .name = slice_str(name), .value = slice_str(value)));
	ck_assert_uint_eq(expect(MSG_DIR_ADMIN_REPLY, ROLE_ADMIN)->class, class);
}

static void
assert_row(uint64_t account, uint64_t bytes, uint64_t messages)
{
	ck_assert_uint_eq(quota.account, account);
	ck_assert_uint_eq(quota.domain, 1);
	ck_assert_uint_eq(quota.bytes, bytes);
	ck_assert_uint_eq(quota.messages, messages);
}

/* The store hears of every limit before the command hears of success, and of all of them when it is new. */
START_TEST(test_directory_quota)
{
	struct process p;
	struct edge *admin;
	uint64_t began;

	memset(&quota, 0, sizeof quota);
	admin = directory(&p);
	accounts_make(admin, nobody);
	ck_assert_str_eq(quota.parts, "130");
	assert_row(1, QUOTA_DEFAULT, QUOTA_DEFAULT);
	set_limit(admin, "alice@one.test", "bytes=1000\nmessages=none", ERR_NONE);
	assert_row(1, 1000, QUOTA_NONE);
	set_limit(admin, "ONE.test", "messages=7", ERR_NONE);
	assert_row(0, QUOTA_NONE, 7);
	set_limit(admin, "alice@one.test", "bytes=0", ERR_NONE);
	assert_row(1, QUOTA_NONE, QUOTA_NONE);
	set_limit(admin, "one.test", "bytes=1125899906842624", ERR_NONE);
	assert_row(0, QUOTA_LIMIT_MAX, 7);
	quota.rows = 0;
	set_limit(admin, "one.test", "bytes=1125899906842625", ERR_PERM);
	set_limit(admin, "one.test", "bytes=-1", ERR_PERM);
	set_limit(admin, "one.test", "bytes=", ERR_PERM);
	set_limit(admin, "one.test", "octets=1", ERR_PERM);
	set_limit(admin, "two.test", "bytes=1", ERR_PERM);
	set_limit(admin, "bob@one.test", "bytes=1", ERR_PERM);
	ck_assert_uint_eq(quota.rows, 0);
	/* A store that does not take it: the limit is stored, and the next one hears of it. */
	quota.mute = true;
	began = clock_ms();
	set_limit(admin, "alice@one.test", "messages=3", ERR_TEMP);
	ck_assert_uint_ge(clock_ms() - began, 4000);
	memset(&quota, 0, sizeof quota);
	play(&p, ROLE_STORE);
	expect_nothing(300);
	ck_assert_uint_eq(quota.rows, 2);
	ck_assert_str_eq(quota.parts, "13");
	assert_row(1, QUOTA_NONE, 3);
	edge_free(&p.peer[ROLE_STORE]);
	set_limit(admin, "alice@one.test", "messages=default", ERR_TEMP);
	stop(&p, SIGKILL);
}
END_TEST

/* Many accounts: in pages, each when the one before was taken; also when they end with a page. */
START_TEST(test_directory_quota_pages)
{
	struct process p;
	struct edge *admin = directory(&p);
	char name[64];

	tell(admin, "domain-add", "one.test", "");
	told();
	for (unsigned i = 0; i < 2 * QUOTA_ROWS_MAX + 1; i++) {
		(void)snprintf(name, sizeof name, "u%u@one.test", i);
		tell(admin, "account-add", name, nobody);
		told();
		noted = 0;
	}
	for (unsigned extra = 1;; extra--) {
		memset(&quota, 0, sizeof quota);
		play(&p, ROLE_STORE);
		for (unsigned i = 0; i < 100 && strchr(quota.parts, '3') == NULL; i++)
			expect_nothing(50);
		ck_assert_str_eq(quota.parts, "1223");
		ck_assert_uint_eq(quota.rows, 1 + 2 * QUOTA_ROWS_MAX + extra);
		if (extra == 0)
			break;
		tell(admin, "account-delete", "u0@one.test", "");
		told();
		for (unsigned i = 0; i < 10; i++)
			(void)find_within(MSG_NONE, ROLE_COUNT, 20);
		noted = 0;
	}
	stop(&p, SIGKILL);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("auth_roles");
	TCase *t = tcase_create("auth_roles");
	SRunner *r;
	int failed;

	tcase_set_timeout(t, 120);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, test_verifier_success);
	tcase_add_test(t, test_verifier_login);
	tcase_add_test(t, test_verifier_abort);
	tcase_add_test(t, test_verifier_directory_away);
	tcase_add_test(t, test_verifier_crowd);
	tcase_add_test(t, test_verifier_delay);
	tcase_add_test(t, test_verifier_garbage);
	tcase_add_test(t, test_directory_credential);
	tcase_add_test(t, test_directory_lease);
	tcase_add_test(t, test_directory_effects);
	tcase_add_test(t, test_directory_quota);
	tcase_add_test(t, test_directory_quota_pages);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? 0 : 1;
}
