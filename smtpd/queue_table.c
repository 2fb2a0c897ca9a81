/* The table of states in queue.h is what this file follows. */
#include "common/mem.h"
#include "common/mutant.h"
#include "smtpd/queue.h"
#include "smtpd/queue_record.h"
#include "store/env.h"
#include "store/file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

/* Log that may grow before a checkpoint shortens the next start. */
#define CHECKPOINT_BYTES (4u << 20)
#define REMOVED_MAX 1000

static struct env *env;
static uint64_t serial;
static struct env_log_place checkpointed;
static char queue_dir[FILE_PATH_BYTES_MAX];
static char index_dir[FILE_PATH_BYTES_MAX];
static char messages_dir[FILE_PATH_BYTES_MAX];
static bool unflushed;
static struct queue_files_of removed[REMOVED_MAX]; /* since the last flush */
static unsigned removed_count;
static bool failed; /* a change is neither known to be durable nor known to be undone */

bool
queue_table_failed(void)
{
	return failed || file_lost() || (env && env_dead(env));
}

void
queue_table_free(struct queue_message **m)
{
	if (*m)
		free((*m)->item);
	MEM_FREE(m);
}

static struct slice
key_of(const struct queue_message *m)
{
	return slice_of(m->id, SMTP_QUEUE_ID_CHARS);
}

/* ---- the index ---- */

/* Ends the transaction; a flush makes it durable. */
static int
commit(struct err *e)
{
	if (env_commit(env, e) < 0) {
		failed = true;
		return -1;
	}
	unflushed = true;
	return 0;
}

static int
put_record(const struct queue_message *m, struct err *e)
{
	struct buf b;
	int r = -1;

	buf_init(&b, QUEUE_RECORD_BYTES_MAX);
	if (!queue_record_encode(m, &b))
		err_set(e, ERR_LIMIT, ERR_CODE_TOO_BIG, "too big", "a queue item does not fit its record");
	else if (env_begin(env, ++serial, e) == 0) {
		r = env_put(env, key_of(m), buf_slice(&b), slice_of(NULL, 0), e);
		if (r < 0)
			env_abort(env);
		else
			r = commit(e);
	}
	buf_fini(&b);
	return r;
}

int
queue_table_update(const struct queue_message *m, struct err *e)
{
	return put_record(m, e);
}

int
queue_table_flush(struct err *e)
{
	if (!unflushed)
		return 0;
	if (!MUTANT(QUEUE_FLUSH) && env_flush(env, e) < 0) {
		failed = true;
		return -1;
	}
	unflushed = false;
	/* Their files are of no use only now. */
	for (unsigned i = 0; i < removed_count; i++)
		queue_files_remove(&removed[i]);
	removed_count = 0;
	if (env_log_since(env, checkpointed) > CHECKPOINT_BYTES) {
		checkpointed = env_log_end(env);
		if (env_checkpoint(env, e) < 0 || env_log_trim(env, checkpointed.file, e) < 0)
			log_event(LOG_WARN, NO_SESSION, "queue-checkpoint", LOG_ERR(e), LOG_END);
	}
	return 0;
}

int
queue_table_remove(const struct queue_message *m, struct err *e)
{
	if (removed_count == REMOVED_MAX && queue_table_flush(e) < 0)
		return -1;
	if (env_begin(env, ++serial, e) < 0)
		return -1;
	if (env_delete(env, key_of(m), e) < 0) {
		env_abort(env);
		return -1;
	}
	if (commit(e) < 0)
		return -1;
	removed[removed_count++] = queue_files_of(m);
	if (MUTANT(QUEUE_REMOVE_ORDER))
		queue_files_remove(&removed[--removed_count]);
	return 0;
}

int
queue_table_read(struct queue_message *m, struct err *e)
{
	struct queue_message now;
	struct slice item;
	struct buf b;
	int r = -1;

	buf_init(&b, QUEUE_RECORD_BYTES_MAX);
	if (env_get(env, key_of(m), &b, e) == 1) {
		if (queue_record_decode(buf_slice(&b), &now, &item)) {
			free(m->item);
			m->item = mem_new_array(item.n ? item.n : 1, 1);
			m->item_bytes = item.n;
			memcpy(m->item, item.p, item.n);
			r = 0;
		} else {
			err_set(e, ERR_TEMP, ERR_CODE_CORRUPT, "temporary failure", "the record of %s is damaged", m->id);
		}
	}
	buf_fini(&b);
	return r;
}

/* ---- new messages ---- */

void
queue_table_add(struct queue_add *adds, unsigned count)
{
	struct queue_files_of written[QUEUE_ADDS_MAX];
	bool is_written[QUEUE_ADDS_MAX];
	struct err e = {0};

	queue_files_write(adds, count);
	for (unsigned i = 0; i < count; i++) {
		is_written[i] = adds[i].result == 0;
		written[i] = queue_files_of(adds[i].message);
		if (is_written[i])
			adds[i].result = put_record(adds[i].message, &adds[i].error);
	}
	if (queue_table_flush(&e) < 0)
		queue_adds_fail(adds, count, &e);
	/* After a failed commit the record may be there all the same: the files are left for the next start. */
	for (unsigned i = 0; i < count && !queue_table_failed(); i++)
		if (adds[i].result < 0 && is_written[i])
			queue_files_remove(&written[i]);
}

int
queue_table_file(const struct queue_message *m, int *message_r, struct err *e)
{
	return queue_files_text(m, message_r, e);
}

int
queue_table_files(const struct queue_message *m, int *message_r, int *summary_r, struct err *e)
{
	if (queue_files_text(m, message_r, e) < 0)
		return -1;
	if (queue_files_summary(m, summary_r, e) == 0)
		return 0;
	(void)close(*message_r);
	*message_r = -1;
	return -1;
}

/* ---- start ---- */

/* A record as a message in memory; NULL when it is damaged. */
static struct queue_message *
message_of(struct slice key, struct slice record)
{
	struct queue_message *m = MEM_NEW(struct queue_message);
	struct slice item;

	if (!smtp_queue_id_valid(key) || !queue_record_decode(record, m, &item)) {
		free(m);
		return NULL;
	}
	m->item = mem_new_array(item.n ? item.n : 1, 1);
	m->item_bytes = item.n;
	memcpy(m->item, item.p, item.n);
	memcpy(m->id, key.p, SMTP_QUEUE_ID_CHARS);
	return m;
}

/* Hands out every record. -1 when one of them is damaged. */
static int
load(queue_found_fn *found, struct err *e)
{
	struct env_cursor c;
	int r;

	if (env_cursor_open(env, &c, e) < 0)
		return -1;
	for (r = env_cursor_seek(&c, SLICE(""), e); r == 1; r = env_cursor_next(&c, e)) {
		struct queue_message *m = message_of(c.key, c.value);
		if (m == NULL) {
			r = env_refuse(env, "queue", e);
			break;
		}
		found(m);
	}
	env_cursor_close(&c);
	return r;
}

/* A message whose files are there and whose record is not was never acknowledged, or is done with. What cannot be looked up stays. */
static bool
has_record(const char *id)
{
	struct buf b;
	struct err e;

	buf_init(&b, QUEUE_RECORD_BYTES_MAX);
	int there = env_get(env, slice_str(id), &b, &e);

	buf_fini(&b);
	return there != 0;
}

static void
restore(void *arg, const char *id, struct queue_spot spot, struct slice record)
{
	unsigned *count = arg;
	struct queue_message *m = message_of(slice_str(id), record);
	struct err e = {0};

	if (m != NULL)
		m->spot = spot;
	/* What was being added at a power cut may have its record and not its text. */
	if (m != NULL && (MUTANT(QUEUE_TEXT_HASH) || queue_files_check(m, &e) == 0) && put_record(m, &e) == 0)
		++*count;
	else
		log_event(LOG_ERROR, NO_SESSION, "queue-unrestored", LOG_CSTR("id", id), LOG_ERR(&e), LOG_END);
	queue_table_free(&m);
}

/* Makes the directory path in parent, when it is not there; durable also when a process made it that was killed then. */
static int
make_dir(const char *path, const char *parent, struct err *e)
{
	bool made;

	return file_mkdir(path, &made, e) < 0 ? -1 : file_sync_dir(parent, e);
}

/* Was it opened since the machine was started? */
static bool
opened_in(struct slice boot)
{
	char path[FILE_PATH_BYTES_MAX];
	uint8_t known[QUEUE_BOOT_BYTES_MAX + 1];
	int64_t n = -1;
	int fd;

	file_path(path, queue_dir, "boot");
	fd = file_open(path, O_RDONLY | O_CLOEXEC, NULL);
	if (fd >= 0) {
		n = file_read(fd, 0, known, sizeof known, NULL);
		(void)file_close(fd, NULL);
	}
	return boot.n > 0 && n > 0 && slice_eq(slice_of(known, (size_t)n), boot);
}

/* Not synced: after a power cut it is another one's time. */
static void
note_boot(struct slice boot)
{
	char path[FILE_PATH_BYTES_MAX];
	struct err e = {0};
	int fd = -1;

	file_path(path, queue_dir, "boot");
	if (file_unlink(path, &e) == 0)
		fd = file_open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, &e);
	if (fd < 0 || file_write(fd, 0, boot, &e) < 0)
		log_event(LOG_WARN, NO_SESSION, "queue-boot", LOG_ERR(&e), LOG_END);
	if (fd >= 0)
		(void)file_close(fd, NULL);
}

/* It is not there, although there are messages, or it was being made again when the process ended: -1 with ERR_CODE_CORRUPT. */
static int
look_for_index(struct err *e)
{
	char path[FILE_PATH_BYTES_MAX];
	int there, begun;

	file_path(path, index_dir, "index.db");
	there = file_exists(path, e);
	file_path(path, queue_dir, "rebuild");
	begun = there < 0 ? -1 : file_exists(path, e);
	if (begun < 0)
		return -1;
	if ((there == 0 && !MUTANT(QUEUE_MISSING) && queue_files_any()) || begun == 1)
		return err_set(e, ERR_TEMP, ERR_CODE_CORRUPT, "temporary failure", "the queue's index is %s",
		    begun == 1 ? "half made" : "missing");
	return 0;
}

static int
open_index(bool same_boot, struct err *e)
{
	struct redo_pages pages;
	enum env_cut cut;

	if (make_dir(index_dir, queue_dir, e) < 0 || file_settle_dir(index_dir, e) < 0 || env_log_check(index_dir, &pages, e) < 0 ||
	    env_look_at_index(index_dir, &pages, &cut, e) < 0)
		return -1;
	if (cut != ENV_WHOLE && !same_boot)
		return err_set(e, ERR_TEMP, ERR_CODE_CORRUPT, "temporary failure", "the last pages of the queue's index are missing");
	if (env_open(index_dir, true, &pages, &env, e) < 0)
		return -1;
	checkpointed = env_log_end(env);
	return 0;
}

/* While this file is there the index is being made again, and not to be believed. */
static int
mark_rebuild(struct err *e)
{
	char path[FILE_PATH_BYTES_MAX];
	int fd;

	file_path(path, queue_dir, "rebuild");
	fd = file_open(path, O_WRONLY | O_CREAT | O_CLOEXEC, e);
	if (fd < 0 || file_close(fd, e) < 0)
		return -1;
	return file_sync_dir(queue_dir, e);
}

static int
unmark_rebuild(struct err *e)
{
	char path[FILE_PATH_BYTES_MAX];

	file_path(path, queue_dir, "rebuild");
	return file_unlink(path, e) < 0 ? -1 : file_sync_dir(queue_dir, e);
}

/* Throws the index away and makes it again. */
static int
rebuild(struct err *e)
{
	unsigned count = 0;

	log_event(LOG_ERROR, NO_SESSION, "queue-rebuild", LOG_ERR(e), LOG_END);
	env_close(&env);
	if ((!MUTANT(QUEUE_REBUILD_MARK) && mark_rebuild(e) < 0) || file_remove_dir(index_dir, e) < 0 || open_index(false, e) < 0 ||
	    queue_files_each(restore, &count, e) < 0 || queue_table_flush(e) < 0 || unmark_rebuild(e) < 0)
		return -1;
	log_event(LOG_WARN, NO_SESSION, "queue-rebuilt", LOG_NUM("messages", count), LOG_END);
	return 0;
}

/* A walk that finds nothing to keep: is every record readable? */
static void
forget(struct queue_message *m)
{
	queue_table_free(&m);
}

static queue_found_fn *tell;

static void
count_and_tell(struct queue_message *m)
{
	queue_files_count(m);
	tell(m);
}

int
queue_table_open(const char *state_dir, struct slice boot, queue_found_fn *found, struct err *e)
{
	file_hook_db();
	file_path(queue_dir, state_dir, "queue");
	file_path(index_dir, queue_dir, "index");
	file_path(messages_dir, queue_dir, "messages");
	if (make_dir(messages_dir, queue_dir, e) < 0)
		return -1;
	file_reserve(queue_dir);
	if (queue_files_open(messages_dir, e) < 0)
		return -1;
	if ((look_for_index(e) < 0 || open_index(opened_in(boot), e) < 0 || load(forget, e) < 0) &&
	    (e->code != ERR_CODE_CORRUPT || rebuild(e) < 0))
		return -1;
	tell = found;
	if (load(count_and_tell, e) < 0 || queue_files_sweep(has_record, e) < 0)
		return -1;
	note_boot(boot);
	return 0;
}

void
queue_table_close(void)
{
	env_close(&env);
	queue_files_close();
}
