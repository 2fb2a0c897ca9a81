/*
 * What the command asks of a keeper that takes long: done a step at a time, each in a round of the loop of its own, so
 * that the account's clients are served meanwhile. One such work at a time: it holds the snapshot of the index.
 */
#include "store/keeper_private.h"

#include "common/log.h"
#include "common/memfd.h"
#include "store/check.h"
#include "store/dump.h"
#include "store/object.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* Text written in one step: about 500 messages, a millisecond. */
#define DUMP_STEP_BYTES (64u * 1024)
#define PROGRESS_MS 200u

#define CHECK_STEP_MS 2u

static struct {
	struct edge *edge; /* NULL: no work */
	uint64_t id;
	struct dump *dump;
	int fd;
	struct check *check;
	struct buf findings;
	uint64_t told_ms;
} job = {.fd = -1};

static void
job_end(void)
{
	dump_free(&job.dump);
	check_free(&job.check);
	buf_fini(&job.findings);
	if (job.fd >= 0)
		(void)close(job.fd);
	job.fd = -1;
	job.edge = NULL;
}

void
keeper_job_stop(struct edge *e)
{
	if (job.edge != NULL && (e == NULL || e == job.edge))
		job_end();
}

static void
tell_progress(uint64_t done, uint64_t total)
{
	uint64_t now = clock_ms();

	if (now - job.told_ms < PROGRESS_MS)
		return;
	job.told_ms = now;
	if (!IPC_SEND(job.edge, STORE_PROGRESS, .id = job.id, .done = done, .total = total))
		log_event(LOG_DEBUG, NO_SESSION, "progress-untold", LOG_END);
}

/* ---- dump ---- */

static void
answer_dump(struct edge *e, uint64_t id, const struct err *err)
{
	struct msg reply = {.type = MSG_STORE_DUMP_REPLY, .u.STORE_DUMP_REPLY = {.id = id}};
	struct msg_STORE_DUMP_REPLY *r = &reply.u.STORE_DUMP_REPLY;

	if (err != NULL) {
		r->class = err->class;
		r->code = err->code;
		r->text = slice_str(err->client);
		log_event(LOG_WARN, NO_SESSION, "dump-failed", LOG_ERR(err), LOG_END);
	} else {
		r->messages = dump_done(job.dump, &r->bytes);
		r->bytes = dump_octets(job.dump);
	}
	keeper_send(e, &reply);
}

static void
dump_more(void)
{
	struct err err;
	uint64_t total, done;
	int r = dump_step(job.dump, DUMP_STEP_BYTES, &err);

	if (r > 0) {
		done = dump_done(job.dump, &total);
		tell_progress(done, total);
		loop_timer_set(the_keeper.job_timer, 0);
		return;
	}
	answer_dump(job.edge, job.id, r < 0 ? &err : NULL);
	job_end();
}

/* A pipe could make the keeper wait for whoever reads it. */
static int
check_file(int fd, struct err *e)
{
	struct stat st;
	int mode = fd >= 0 ? fcntl(fd, F_GETFL) : -1;

	if (mode < 0 || (mode & O_ACCMODE) == O_RDONLY || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return err_set(e, ERR_PERM, ERR_CODE_MALFORMED, "not a file to be written", NULL);
	return 0;
}

/* Is no other work under way? What can be seen is durable between two steps. */
static int
job_ready(struct err *e)
{
	if (job.edge != NULL)
		return err_set(e, ERR_TEMP, ERR_CODE_IN_USE, "another such work on this account is under way", NULL);
	keeper_copy_stop();
	return 0;
}

void
keeper_on_dump(struct edge *e, struct msg_STORE_DUMP *m)
{
	struct err err;

	if (!keeper_begin_request(e))
		return;
	if (check_file(m->file, &err) < 0 || job_ready(&err) < 0) {
		answer_dump(e, m->id, &err);
		return;
	}
	job.edge = e;
	job.id = m->id;
	job.fd = m->file;
	m->file = -1;
	job.told_ms = clock_ms();
	job.dump = dump_begin(the_keeper.ix, job.fd);
	loop_timer_set(the_keeper.job_timer, 0);
}

/* ---- check ---- */

static void
on_finding(void *arg, const struct check_finding *f)
{
	size_t before = job.findings.n;

	(void)arg;
	if (check_finding_put(&job.findings, f))
		return;
	/* Full: what follows is only counted. */
	job.findings.n = before;
	job.findings.failed = false;
}

static void
answer_check(struct edge *e, uint64_t id, const struct err *error)
{
	struct msg reply = {.type = MSG_STORE_CHECK_REPLY, .u.STORE_CHECK_REPLY = {.id = id, .findings = -1}};
	struct msg_STORE_CHECK_REPLY *r = &reply.u.STORE_CHECK_REPLY;
	struct err err = error != NULL ? *error : (struct err){.class = ERR_NONE};

	if (error == NULL)
		r->findings = memfd_of(buf_slice(&job.findings), &err);
	if (r->findings < 0) {
		r->class = err.class;
		r->code = err.code;
		r->text = slice_str(err.client);
		log_event(LOG_WARN, NO_SESSION, "check-failed", LOG_ERR(&err), LOG_END);
	} else {
		r->messages = check_messages(job.check);
		r->found = check_found(job.check);
		r->bytes = job.findings.n;
		if (r->found > 0)
			log_event(LOG_WARN, NO_SESSION, "check", LOG_NUM("contradictions", r->found), LOG_END);
	}
	keeper_send(e, &reply);
}

static void
check_more(void)
{
	struct err err;
	uint64_t total, done;
	int r = check_step(job.check, CHECK_STEP_MS, &err);

	if (r > 0) {
		done = check_done(job.check, &total);
		tell_progress(done, total);
		loop_timer_set(the_keeper.job_timer, 0);
		return;
	}
	answer_check(job.edge, job.id, r < 0 ? &err : NULL);
	job_end();
}

void
keeper_on_check(struct edge *e, struct msg_STORE_CHECK *m)
{
	struct err err;

	if (!keeper_begin_request(e))
		return;
	if (job_ready(&err) < 0) {
		answer_check(e, m->id, &err);
		return;
	}
	job.edge = e;
	job.id = m->id;
	job.told_ms = clock_ms();
	buf_init(&job.findings, CHECK_FINDINGS_BYTES_MAX);
	job.check = check_begin(the_keeper.ix, m->deep != 0, on_finding, NULL);
	loop_timer_set(the_keeper.job_timer, 0);
}

void
keeper_job_step(void *arg)
{
	(void)arg;
	if (the_keeper.stopped || job.edge == NULL)
		return;
	if (job.dump != NULL)
		dump_more();
	else
		check_more();
}

/* ---- objects ---- */

static int
open_objects(struct slice ids, struct msg_STORE_OBJECTS_REPLY *r, struct err *e)
{
	uint8_t id[STORE_OBJECT_ID_BYTES];

	if (ids.n % sizeof id != 0)
		return err_set(e, ERR_PERM, ERR_CODE_MALFORMED, "internal error", "ids of %zu octets", ids.n);
	for (size_t i = 0; i < ids.n / sizeof id; i++) {
		memcpy(id, ids.p + i * sizeof id, sizeof id);
		int fd = object_open_any(the_keeper.root, id, e);

		if (fd >= 0)
			r->objects.fd[r->objects.n++] = fd;
		else if (errno == ENOENT)
			r->missing |= UINT64_C(1) << i;
		else
			return -1;
	}
	return 0;
}

void
keeper_on_objects(struct edge *e, struct msg_STORE_OBJECTS *m)
{
	static struct msg reply;
	struct msg_STORE_OBJECTS_REPLY *r = &reply.u.STORE_OBJECTS_REPLY;
	struct err err;

	if (!keeper_begin_request(e))
		return;
	reply = (struct msg){.type = MSG_STORE_OBJECTS_REPLY, .u.STORE_OBJECTS_REPLY = {.id = m->id}};
	if (open_objects(m->ids, r, &err) < 0) {
		while (r->objects.n > 0)
			(void)close(r->objects.fd[--r->objects.n]);
		r->class = err.class;
		r->code = err.code;
		r->missing = 0;
		log_event(LOG_WARN, NO_SESSION, "objects-unread", LOG_ERR(&err), LOG_END);
	}
	keeper_send(e, &reply);
}
