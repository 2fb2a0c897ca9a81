/*
 * One child process: fork + exec with the control edge on descriptor 3 and nothing else inherited
 * but stderr for the log. Each has a process group of its own, so that Ctrl-C reaches the
 * supervisor alone and the tree ends in order.
 */
#include "admin/supervisor_private.h"

#include "common/log.h"
#include "common/mem.h"
#include "common/role.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

bool
child_is_static(const struct child *c)
{
	return role_info(c->role)->instances > 0;
}

static void on_timer(void *arg);
static void on_control_down(struct edge *e, void *arg);
static void on_control_drained(struct edge *e, void *arg);

struct child *
child_new(struct supervisor *s, enum role role, uint32_t instance, uint64_t account)
{
	struct child *c = MEM_NEW(struct child);

	c->s = s;
	c->role = role;
	c->instance = instance;
	c->account = account;
	c->timer = loop_timer_new(s->loop, on_timer, c);
	*s->children_end = c;
	s->children_end = &c->next;
	return c;
}

void
child_remove(struct child *c)
{
	struct child **link = &c->s->children;

	while (*link != c)
		link = &(*link)->next;
	*link = c->next;
	if (c->s->children_end == &c->next)
		c->s->children_end = link;
	loop_timer_free(&c->timer);
	edge_free(&c->control);
	free(c);
}

static void
name_process(const struct child *c, char *dst, size_t size)
{
	const struct role_info *info = role_info(c->role);

	if (c->account)
		snprintf(dst, size, "account=%llu", (unsigned long long)c->account);
	else
		snprintf(dst, size, "%s.%u", info->name, c->instance);
}

/* In the child: only what is safe after fork. */
static _Noreturn void
exec_program(const char *path, const char *name, int control)
{
	char *argv[] = {(char *)(uintptr_t)path, (char *)(uintptr_t)name, NULL};
	sigset_t none;

	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)setpgid(0, 0);
	if (control != ROLE_CONTROL_FD)
		control = dup2(control, ROLE_CONTROL_FD);
	else
		(void)fcntl(control, F_SETFD, 0);
	/* All others are close-on-exec; this makes it certain. */
	if (control == ROLE_CONTROL_FD && close_range(ROLE_CONTROL_FD + 1, ~0u, 0) == 0)
		execv(path, argv);
	dprintf(STDERR_FILENO, "%s: %s\n", path, strerror(errno));
	_exit(127);
}

static pid_t
fork_program(struct child *c, int control)
{
	char path[640], name[48];

	snprintf(path, sizeof path, "%s/%s", c->s->libexec, role_info(c->role)->program);
	name_process(c, name, sizeof name);
	pid_t pid = fork();

	if (pid == 0)
		exec_program(path, name, control);
	return pid;
}

static bool
send_hello(struct child *c)
{
	uint8_t hash[32];
	struct buf config;

	msg_table_hash(hash);
	buf_init(&config, 65536);
	config_encode(c->s->config, &config);
	bool ok = !config.failed &&
		  IPC_SEND(c->control, CTL_HELLO, .table_hash = slice_of(hash, sizeof hash),
		      .role = c->role, .instance = c->instance, .generation = c->generation,
		      .account = c->account,
		      .state_dir = slice_str(config_string(c->s->config, OPT_STATE_DIR)),
		      .config = buf_slice(&config), .demo = c->s->options.demo);

	buf_fini(&config);
	return ok;
}

bool
child_start(struct child *c)
{
	static const struct edge_events events = {on_control_down, on_control_drained};
	int fd[2];

	assert(c->pid == 0 && c->control == NULL);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd) < 0) {
		log_event(LOG_ERROR, NO_SESSION, "no-control-edge",
		    LOG_CSTR("error", strerror(errno)), LOG_END);
		return false;
	}
	c->pid = fork_program(c, fd[1]);
	close(fd[1]);
	if (c->pid < 0) {
		log_event(LOG_ERROR, NO_SESSION, "fork-failed", LOG_CSTR("error", strerror(errno)),
		    LOG_END);
		c->pid = 0;
		close(fd[0]);
		return false;
	}
	if (child_is_static(c))
		c->generation = ++c->s->last_generation;
	c->ready = false;
	c->recorder = 0;
	c->started_ms = clock_ms();
	c->control = edge_new(c->s->loop, fd[0], ROLE_SUPERVISOR,
	    (struct edge_peer){c->role, c->instance, c->generation}, supervisor_child_dispatch(),
	    &events, c);
	if (!send_hello(c))
		child_kill(c, SIGKILL);
	supervisor_send_listeners(c);
	return true;
}

void
child_go(struct child *c)
{
	if (c->control && !IPC_SEND(c->control, CTL_START, ))
		child_kill(c, SIGKILL);
	loop_timer_set(c->timer, START_MS_MAX);
}

void
child_kill(struct child *c, int signal_number)
{
	if (c->pid > 0)
		(void)kill(c->pid, signal_number);
}

/* The process is about to be collected; if it closed its edge and goes on living, it has no place
 * here. */
static void
on_control_down(struct edge *e, void *arg)
{
	struct child *c = arg;

	assert(c->control == e);
	if (edge_sent_garbage(e))
		child_kill(c, SIGKILL);
	edge_free(&c->control);
	c->ready = false;
	loop_timer_set(c->timer, ORPHAN_MS_MAX);
}

static void
on_control_drained(struct edge *e, void *arg)
{
	struct child *c = arg;

	(void)e;
	if (c->role == ROLE_RECORDER)
		supervisor_join(c);
}

uint64_t
child_restart_pause(const struct child *c, uint64_t now_ms)
{
	unsigned ends = c->quick_ends;
	bool stable = c->ready_ms >= c->started_ms && c->ready_ms != 0 &&
		      now_ms - c->ready_ms >= STABLE_MS;

	if (stable || ends == 0)
		return 0;
	if (ends > 6)
		return RESTART_PAUSE_MS_MAX;
	uint64_t pause = UINT64_C(1000) << (ends - 1);

	return pause < RESTART_PAUSE_MS_MAX ? pause : RESTART_PAUSE_MS_MAX;
}

static void
restart(struct child *c)
{
	/* A new store must not find keepers of the old one. */
	if (c->role == ROLE_STORE && c->s->spawned > 0) {
		loop_timer_set(c->timer, 10);
		return;
	}
	c->restarts++;
	if (!child_start(c)) {
		loop_timer_set(c->timer, 1000);
		return;
	}
	supervisor_join(c);
	child_go(c);
}

/* A process that runs without an edge, or is not ready in time, is killed; one that does not run is
 * started. */
static void
on_timer(void *arg)
{
	struct child *c = arg;

	if (c->pid == 0) {
		if (c->s->state != SUPERVISOR_DRAINING)
			restart(c);
	} else if (!c->ready) {
		log_event(LOG_ERROR, NO_SESSION, "role-stuck",
		    LOG_CSTR("name", role_info(c->role)->name), LOG_NUM("pid", c->pid), LOG_END);
		child_kill(c, SIGKILL);
	}
}
