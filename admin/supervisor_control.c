/*
 * What children and the command say to the supervisor. A child can at most report itself ready, ask
 * for the restart of a peer that it has an edge to (paced by the restarts' pauses), and, if it is
 * the store's parent, ask for keepers and workers.
 */
#include "admin/supervisor_private.h"

#include "common/log.h"
#include "common/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#define STATUS_BYTES_MAX 65536
/* Rows of the status; with more processes than that the rest is only counted. */
#define STATUS_ROWS_MAX 250

/* ---- from children ---- */

struct child *
supervisor_find(struct supervisor *s, enum role role, uint32_t instance)
{
	for (struct child *c = s->children; c; c = c->next)
		if (c->role == role && c->instance == instance && child_is_static(c) && c->control)
			return c;
	return NULL;
}

static void
on_ready(struct edge *e, struct msg_CTL_READY *m)
{
	struct child *c = edge_arg(e);

	(void)m;
	if (!c->ready)
		supervisor_child_ready(c);
}

/* Roles that read octets from outside: the first that an attacker would have taken over. */
static bool
faces_outside(enum role role)
{
	const uint32_t outside = ROLE_BIT(ROLE_SMTP_FRONT) | ROLE_BIT(ROLE_SUBMISSION) |
				 ROLE_BIT(ROLE_IMAP_FRONT) | ROLE_BIT(ROLE_POP3_FRONT) |
				 ROLE_BIT(ROLE_IMAP_WORKER) | ROLE_BIT(ROLE_POP3_WORKER) |
				 ROLE_BIT(ROLE_VERIFY) | ROLE_BIT(ROLE_SIGN) | ROLE_BIT(ROLE_TRANSPORT) |
				 ROLE_BIT(ROLE_STS) | ROLE_BIT(ROLE_RESOLVER);

	return (outside & ROLE_BIT(role)) != 0;
}

/* Of the two ends of an edge that broke, the one that is trusted less is replaced: a front cannot
 * have the directory restarted. */
static void
replace_one(struct child *sender, struct child *reporter)
{
	bool blame_reporter = faces_outside(reporter->role) && !faces_outside(sender->role);
	struct child *c = blame_reporter ? reporter : sender;

	log_event(LOG_ERROR, NO_SESSION, "role-sent-garbage",
	    LOG_CSTR("name", role_info(sender->role)->name),
	    LOG_CSTR("to", role_info(reporter->role)->name),
	    LOG_CSTR("replaced", role_info(c->role)->name), LOG_NUM("pid", c->pid), LOG_END);
	child_kill(c, SIGKILL);
}

static void
on_garbage(struct edge *e, struct msg_CTL_GARBAGE *m)
{
	struct child *reporter = edge_arg(e);

	for (struct child *c = reporter->s->children; c; c = c->next) {
		if (c->role != m->peer_role || c->instance != m->peer_instance ||
		    c->generation != m->peer_generation)
			continue;
		if (child_is_static(c) && !supervisor_edge_wanted(c->role, reporter->role))
			continue;
		replace_one(c, reporter);
	}
}

const struct ipc_dispatch *
supervisor_child_dispatch(void)
{
	static const struct ipc_dispatch dispatch = {
	    .CTL_READY = on_ready,
	    .CTL_GARBAGE = on_garbage,
	    .CTL_SPAWN = supervisor_on_spawn,
	};

	return &dispatch;
}

/* ---- from the command ---- */

static long
resident_kilobytes(pid_t pid)
{
	char path[40], text[100];
	long pages = 0;

	snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;

	if (fd >= 0)
		close(fd);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	if (sscanf(text, "%*s %ld", &pages) != 1)
		return 0;
	return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static json_t *
status_row(const struct child *c, uint64_t now)
{
	const char *state = c->pid == 0 ? "waiting" : c->ready ? "running" : "starting";
	json_t *row = json_pack("{s:s, s:I, s:s, s:i, s:I, s:i, s:I}", "role",
	    role_info(c->role)->name, "instance", (json_int_t)c->instance, "state", state, "pid",
	    (int)c->pid, "uptime_s", (json_int_t)(c->pid ? (now - c->started_ms) / 1000 : 0),
	    "restarts", (int)c->restarts, "rss_kb",
	    (json_int_t)(c->pid ? resident_kilobytes(c->pid) : 0));

	if (c->account)
		json_object_set_new(row, "account", json_integer((json_int_t)c->account));
	return row;
}

static char *
status_json(struct supervisor *s)
{
	static const char *const states[] = {"starting", "running", "draining"};
	uint64_t now = clock_ms();
	json_t *rows = json_array();
	json_int_t left_out = 0;

	for (struct child *c = s->children; c; c = c->next) {
		if (json_array_size(rows) < STATUS_ROWS_MAX)
			json_array_append_new(rows, status_row(c, now));
		else
			left_out++;
	}
	json_t *all = json_pack("{s:s, s:s, s:i, s:I, s:I, s:I, s:o}", "version", MAILSTEAD_VERSION,
	    "state", states[s->state], "pid", (int)getpid(), "uptime_s",
	    (json_int_t)((now - s->started_ms) / 1000), "rss_kb",
	    (json_int_t)resident_kilobytes(getpid()), "left_out", left_out, "roles", rows);
	char *text = json_dumps(all, JSON_COMPACT);

	json_decref(all);
	return text;
}

static void
on_status(struct edge *e, struct msg_SUP_STATUS *m)
{
	char *text = status_json(control_arg(e));
	struct slice json = slice_str(text);

	if (json.n > STATUS_BYTES_MAX)
		json = SLICE("{}");
	IPC_TELL(e, SUP_STATUS_REPLY, .id = m->id, .json = json);
	free(text);
}

static void
on_reload(struct edge *e, struct msg_SUP_RELOAD *m)
{
	char text[400];
	int rc = supervisor_reload(control_arg(e), text, sizeof text);

	IPC_TELL(e, SUP_REPLY, .id = m->id, .class = rc == 0 ? ERR_NONE : ERR_PERM,
	    .text = slice_str(text));
}

void
supervisor_serve(struct supervisor *s, int fd)
{
	static const struct ipc_dispatch dispatch = {
	    .SUP_STATUS = on_status, .SUP_RELOAD = on_reload};

	s->control = control_new(s->loop, fd, ROLE_SUPERVISOR, &dispatch, NULL, s);
}
