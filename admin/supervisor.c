/*
 * The life of the tree: start all, become ready, keep all alive, drain.
 *
 * While nothing has been ready yet, a role that cannot initialise ends the whole start with its
 * reason in the log: that is a mistake of the operator's (a key that cannot be read, a port in
 * use). Later the same end is met with restarts and growing pauses.
 *
 * The drain goes in phases, so that nobody loses the peer it needs to finish: fronts; then those
 * who work for them; then the stores; then the recorder. A phase that takes too long is ended with
 * SIGKILL, which every store survives by design.
 */
#include "admin/supervisor_private.h"

#include "admin/config_file.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/role.h"
#include "common/sandbox.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- readiness ---- */

static void
announce(struct supervisor *s)
{
	s->state = SUPERVISOR_READY;
	supervisor_notify("READY=1");
	log_event(LOG_INFO, NO_SESSION, "serving", LOG_NUM("start_ms", clock_ms() - s->started_ms),
	    LOG_END);
	if (s->options.announce)
		s->options.announce(s->config, s->options.arg);
}

/* In a process of its own: it talks to roles that may need the supervisor to answer. */
static void
run_helper(struct supervisor *s)
{
	fflush(NULL);
	s->helper = fork();
	if (s->helper == 0) {
		sigset_t none;

		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		sigemptyset(&none);
		(void)sigprocmask(SIG_SETMASK, &none, NULL);
		_exit(s->options.when_ready(s->config, s->options.arg));
	}
	if (s->helper < 0) {
		s->helper = 0;
		log_event(LOG_ERROR, NO_SESSION, "fork-failed", LOG_CSTR("error", strerror(errno)),
		    LOG_END);
		supervisor_drain(s, 1);
	}
}

void
supervisor_child_ready(struct child *c)
{
	struct supervisor *s = c->s;

	c->ready = c->was_ready = true;
	c->ready_ms = clock_ms();
	loop_timer_stop(c->timer);
	log_event(LOG_DEBUG, NO_SESSION, "role-up", LOG_CSTR("name", role_info(c->role)->name),
	    LOG_NUM("instance", c->instance), LOG_NUM("account", c->account),
	    LOG_NUM("pid", c->pid), LOG_NUM("start_ms", c->ready_ms - c->started_ms), LOG_END);
	if (s->state != SUPERVISOR_STARTING || s->helper)
		return;
	for (const struct child *o = s->children; o; o = o->next)
		if (child_is_static(o) && !o->ready)
			return;
	if (s->options.when_ready)
		run_helper(s);
	else
		announce(s);
}

/* ---- the end of a child ---- */

/* A role that ends by itself with 0 has no more to do (keepers, workers) or wants a fresh start
 * (the key role reads new keys so). */
static bool
renews_itself(const struct child *c, int status)
{
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 && c->ready_ms >= c->started_ms;
}

static void
log_end(const struct child *c, int status)
{
	bool wanted = c->s->state == SUPERVISOR_DRAINING || renews_itself(c, status);
	const char *role = role_info(c->role)->name;
	bool forbidden = WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;

	log_event(wanted ? LOG_DEBUG : LOG_ERROR, NO_SESSION,
	    forbidden ? "role-broke-sandbox" : "role-ended", LOG_CSTR("name", role),
	    LOG_NUM("instance", c->instance), LOG_NUM("account", c->account),
	    LOG_NUM("pid", c->pid),
	    WIFSIGNALED(status) ? LOG_NUM("signal", WTERMSIG(status))
				: LOG_NUM("status", WEXITSTATUS(status)),
	    LOG_END);
}

static bool
spares_no_restart(const struct child *c, int status)
{
	int code = WIFEXITED(status) ? WEXITSTATUS(status) : 0;

	return c->s->state == SUPERVISOR_STARTING && !c->was_ready &&
	       (code == ROLE_EXIT_MISMATCH || code == ROLE_EXIT_INIT || code == ROLE_EXIT_NO_SPACE || code == 127);
}

/*
 * The keepers and workers of a store that has died belong to nobody: its successor starts with
 * none. Workers hold nothing that is worth waiting for; a keeper may finish its commit.
 */
static void
end_orphans(struct supervisor *s)
{
	for (struct child *c = s->children; c; c = c->next) {
		if (child_is_static(c))
			continue;
		c->orphan = true;
		if (c->role != ROLE_KEEPER || c->control == NULL ||
		    !IPC_SEND(c->control, CTL_DRAIN, ))
			child_kill(c, SIGKILL);
	}
	if (s->spawned)
		loop_timer_set(s->orphan_timer, ORPHAN_MS_MAX);
}

static void
on_orphan_timer(void *arg)
{
	struct supervisor *s = arg;

	/* Not those that the new store has ordered meanwhile. */
	for (struct child *c = s->children; c; c = c->next)
		if (c->orphan)
			child_kill(c, SIGKILL);
}

static void drain_step(struct supervisor *s);

static void
plan_restart(struct child *c, int status)
{
	uint64_t now = clock_ms();
	uint64_t pause = child_restart_pause(c, now);

	if (renews_itself(c, status)) {
		loop_timer_set(c->timer, pause ? RENEWAL_PAUSE_MS : 0);
		return;
	}

	if (pause)
		log_event(LOG_WARN, NO_SESSION, "restart-later",
		    LOG_CSTR("name", role_info(c->role)->name), LOG_NUM("pause_ms", pause),
		    LOG_END);
	c->quick_ends = pause == 0 && c->ready_ms >= c->started_ms && now - c->ready_ms >= STABLE_MS
			    ? 1
			    : c->quick_ends + 1;
	loop_timer_set(c->timer, pause);
}

void
supervisor_child_ended(struct child *c, int status)
{
	struct supervisor *s = c->s;

	log_end(c, status);
	edge_free(&c->control);
	c->pid = 0;
	c->ready = false;
	loop_timer_stop(c->timer);
	if (!child_is_static(c)) {
		uint64_t id = c->generation, account = c->account;
		enum role role = c->role;

		child_remove(c);
		s->spawned--;
		supervisor_tell_spawn_exit(
		    s, id, WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
		supervisor_spawn_next(s, role, account);
	} else if (s->state != SUPERVISOR_DRAINING) {
		if (spares_no_restart(c, status)) {
			supervisor_drain(s, 1);
			return;
		}
		if (c->role == ROLE_STORE) {
			supervisor_spawn_forget(s);
			end_orphans(s);
		}
		plan_restart(c, status);
	}
	if (s->state == SUPERVISOR_DRAINING)
		drain_step(s);
}

static void
helper_ended(struct supervisor *s, int status)
{
	s->helper = 0;
	if (s->state != SUPERVISOR_STARTING)
		return;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		announce(s);
	else
		supervisor_drain(s, 1);
}

static void
collect(struct supervisor *s)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		struct child *c = s->children;

		while (c && c->pid != pid)
			c = c->next;
		if (c)
			supervisor_child_ended(c, status);
		else if (pid == s->helper)
			helper_ended(s, status);
	}
}

/* ---- drain ---- */

static unsigned
phase_of(enum role role)
{
	switch (role) {
	case ROLE_SMTP_FRONT:
	case ROLE_SUBMISSION:
	case ROLE_IMAP_FRONT:
	case ROLE_POP3_FRONT:
		return 0;
	case ROLE_STORE:
	case ROLE_KEEPER:
	case ROLE_QUEUE:
	case ROLE_DIRECTORY:
		return 2;
	case ROLE_RECORDER:
		return 3;
	default:
		return 1;
	}
}

static bool
phase_done(const struct supervisor *s)
{
	for (const struct child *c = s->children; c; c = c->next)
		if (c->pid && phase_of(c->role) <= s->phase)
			return false;
	return true;
}

static void
drain_phase(struct supervisor *s)
{
	for (struct child *c = s->children; c; c = c->next)
		if (c->pid && phase_of(c->role) == s->phase &&
		    (c->control == NULL || !IPC_SEND(c->control, CTL_DRAIN, )))
			child_kill(c, SIGKILL);
	loop_timer_set(s->drain_timer, DRAIN_PHASE_MS_MAX);
}

static void
drain_step(struct supervisor *s)
{
	while (phase_done(s)) {
		if (++s->phase >= DRAIN_PHASES) {
			loop_stop(s->loop);
			return;
		}
		drain_phase(s);
	}
}

static void
on_drain_timer(void *arg)
{
	struct supervisor *s = arg;

	for (struct child *c = s->children; c; c = c->next)
		if (c->pid && phase_of(c->role) <= s->phase) {
			log_event(LOG_INFO, NO_SESSION, "drain-took-too-long",
			    LOG_CSTR("name", role_info(c->role)->name), LOG_NUM("pid", c->pid),
			    LOG_END);
			child_kill(c, SIGKILL);
		}
}

static void
kill_all(struct supervisor *s)
{
	for (struct child *c = s->children; c; c = c->next)
		child_kill(c, SIGKILL);
}

void
supervisor_drain(struct supervisor *s, int status)
{
	if (s->state == SUPERVISOR_DRAINING) {
		kill_all(s);
		return;
	}
	s->state = SUPERVISOR_DRAINING;
	s->status = status;
	log_event(LOG_INFO, NO_SESSION, "draining", LOG_END);
	supervisor_notify("STOPPING=1");
	supervisor_unlisten(s->config);
	if (s->control)
		control_stop(s->control);
	if (s->helper)
		(void)kill(s->helper, SIGKILL);
	drain_phase(s);
	drain_step(s);
}

/* ---- reload ---- */

/* Takes over what a reload may change and names in text_r the rest that differs. */
static void
merge(struct config *fresh, const struct config *old, char *text_r, size_t size)
{
	size_t n = (size_t)snprintf(text_r, size, "the settings are in effect");
	const char *mark = "; a restart is needed for ";

	for (unsigned o = 0; o < OPTION_COUNT; o++) {
		const char *now = config_string(old, o), *next = config_string(fresh, o);
		struct err e;

		if (option_info(o)->reload || strcmp(now, next) == 0)
			continue;
		if (n < size)
			n += (size_t)snprintf(
			    text_r + n, size - n, "%s%s", mark, option_info(o)->name);
		mark = ", ";
		if (config_set(fresh, o, slice_str(now), &e) < 0)
			log_event(LOG_BUG, NO_SESSION, "reload", LOG_ERR(&e), LOG_END);
	}
}

static void
send_settings(struct supervisor *s)
{
	struct buf b;

	buf_init(&b, 65536);
	config_encode(s->config, &b);
	for (struct child *c = s->children; c; c = c->next)
		if (c->control && !IPC_SEND(c->control, CTL_RELOAD, .config = buf_slice(&b)))
			log_event(LOG_ERROR, NO_SESSION, "reload-unsent",
			    LOG_CSTR("name", role_info(c->role)->name), LOG_END);
	buf_fini(&b);
}

int
supervisor_reload(struct supervisor *s, char *text_r, size_t size)
{
	struct config *fresh;
	struct err e;

	if (config_file_load(s->options.config_path, &fresh, &e) < 0) {
		snprintf(text_r, size, "%s", e.detail);
		log_event(LOG_ERROR, NO_SESSION, "reload-refused", LOG_ERR(&e), LOG_END);
		return -1;
	}
	supervisor_notify("RELOADING=1");
	merge(fresh, s->config, text_r, size);
	config_free(&s->config);
	s->config = fresh;
	log_init("supervisor", config_bool(fresh, OPT_LOG_DEBUG) ? LOG_DEBUG : LOG_INFO);
	send_settings(s);
	log_event(LOG_INFO, NO_SESSION, "reloaded", LOG_CSTR("result", text_r), LOG_END);
	supervisor_notify("READY=1");
	return 0;
}

/* ---- start ---- */

static bool
terminal_is_there(void)
{
	int fd = open("/dev/tty", O_RDONLY | O_NOCTTY | O_CLOEXEC);

	if (fd < 0)
		return false;
	close(fd);
	return true;
}

/* SIGHUP reloads; but when the terminal was closed that a demo was started in, it is the end. */
static void
on_hangup(struct supervisor *s)
{
	char text[400];

	if (s->had_terminal && !terminal_is_there())
		supervisor_drain(s, 0);
	else
		(void)supervisor_reload(s, text, sizeof text);
}

static void
on_signal(void *arg, int events)
{
	struct supervisor *s = arg;
	struct signalfd_siginfo info;

	(void)events;
	while (read(s->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
		if (info.ssi_signo == SIGCHLD)
			collect(s);
		else if (info.ssi_signo == SIGHUP)
			on_hangup(s);
		else
			supervisor_drain(s, 0);
	}
}

static int
watch_signals(struct supervisor *s, struct err *e)
{
	static const int wanted[] = {SIGCHLD, SIGHUP, SIGINT, SIGTERM};
	sigset_t set;

	s->had_terminal = terminal_is_there();
	sigemptyset(&set);
	for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++)
		sigaddset(&set, wanted[i]);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return err_sys(e, errno, "sigprocmask");
	s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s->signal_fd < 0)
		return err_sys(e, errno, "signalfd");
	s->signal_io = loop_io_new(s->loop, s->signal_fd, LOOP_READ, on_signal, s);
	return 0;
}

/* ../libexec beside the build tree's bin, ../lib/mailstead beside the installed one. */
static int
find_programs(struct supervisor *s, struct err *e)
{
	static const char *const places[] = {"libexec", "lib/mailstead"};
	const char *set = secure_getenv("MAILSTEAD_LIBEXEC");
	char self[400], probe[600];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

	if (set) {
		snprintf(s->libexec, sizeof s->libexec, "%s", set);
		return 0;
	}
	if (n <= 0)
		return err_sys(e, n < 0 ? errno : EINVAL, "/proc/self/exe");
	self[n] = '\0';
	for (unsigned up = 0; up < 2; up++)
		if (strrchr(self, '/'))
			*strrchr(self, '/') = '\0';
	for (size_t i = 0; i < 2; i++) {
		snprintf(s->libexec, sizeof s->libexec, "%s/%s", self, places[i]);
		snprintf(
		    probe, sizeof probe, "%s/%s", s->libexec, role_info(ROLE_RECORDER)->program);
		if (access(probe, X_OK) == 0)
			return 0;
	}
	return err_set(e, ERR_PERM, ERR_CODE_NOT_FOUND, "not installed",
	    "the programs of the roles are neither in %s/libexec nor in %s", self, s->libexec);
}

static int
check_programs(const struct supervisor *s, struct err *e)
{
	char path[640];

	for (unsigned r = 0; r < ROLE_COUNT; r++) {
		if (r == ROLE_SUPERVISOR || r == ROLE_ADMIN)
			continue;
		snprintf(path, sizeof path, "%s/%s", s->libexec, role_info(r)->program);
		if (access(path, X_OK) < 0)
			return err_set(e, ERR_PERM, ERR_CODE_NOT_FOUND, "not installed",
			    "the program of the %s is missing: %s: %s", role_info(r)->name, path,
			    strerror(errno));
	}
	return 0;
}

/* Descriptors: as many as we may have, for the children too. Standard input is nobody's. */
static void
prepare_process(void)
{
	struct rlimit files;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null >= 0) {
		(void)dup2(null, STDIN_FILENO);
		if (null > STDERR_FILENO)
			close(null);
	}
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
}

static int
start_all(struct supervisor *s, struct err *e)
{
	for (unsigned r = 0; r < ROLE_COUNT; r++)
		for (unsigned i = 0; r != ROLE_SUPERVISOR && i < role_info(r)->instances; i++)
			(void)child_new(s, r, i, 0);
	for (struct child *c = s->children; c; c = c->next) {
		if (!child_start(c))
			return err_set(e, ERR_TEMP, ERR_CODE_UNAVAILABLE, "temporary failure",
			    "cannot start the %s", role_info(c->role)->name);
		supervisor_join(c);
	}
	for (struct child *c = s->children; c; c = c->next)
		child_go(c);
	return 0;
}

static int
set_up(struct supervisor *s, struct err *e)
{
	prepare_process();
	if (sandbox_landlock_abi() == 0)
		log_event(LOG_WARN, NO_SESSION, "no-landlock",
		    LOG_CSTR("means", "roles with files of their own can open others"), LOG_END);
	if (find_programs(s, e) < 0 || check_programs(s, e) < 0 ||
	    supervisor_make_state(s, e) < 0 || watch_signals(s, e) < 0 ||
	    supervisor_listen(s, e) < 0)
		return -1;
	return start_all(s, e);
}

static void
give_back(struct supervisor *s)
{
	while (s->children)
		child_remove(s->children);
	control_free(&s->control);
	loop_io_free(&s->signal_io);
	loop_timer_free(&s->drain_timer);
	loop_timer_free(&s->orphan_timer);
	if (s->signal_fd >= 0)
		close(s->signal_fd);
	if (s->lock_fd >= 0)
		close(s->lock_fd);
	loop_free(&s->loop);
	config_free(&s->config);
}

int
supervisor_run(const struct config *config, const struct supervisor_options *options)
{
	struct supervisor s = {.options = *options, .signal_fd = -1, .lock_fd = -1};
	struct err e;

	s.config = config_copy(config);
	s.loop = loop_new();
	s.children_end = &s.children;
	s.started_ms = clock_ms();
	/* Session ids are made of generations, and the recorder remembers them: no two are equal, not
	 * after a restart either, however quick. No run starts a process every microsecond. */
	s.last_generation = clock_wall_us();
	s.own_users = geteuid() == 0 && !options->demo;
	s.drain_timer = loop_timer_new(s.loop, on_drain_timer, &s);
	s.orphan_timer = loop_timer_new(s.loop, on_orphan_timer, &s);
	log_init("supervisor", config_bool(config, OPT_LOG_DEBUG) ? LOG_DEBUG : LOG_INFO);
	if (set_up(&s, &e) < 0) {
		log_event(LOG_ERROR, NO_SESSION, "start-failed", LOG_ERR(&e), LOG_END);
		s.status = 1;
		kill_all(&s);
	} else {
		loop_run(s.loop);
	}
	int status = s.status;

	give_back(&s);
	return status;
}
