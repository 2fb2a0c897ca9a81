/* The table of states in queue.h is what this file follows. */
#include "common/mem.h"
#include "common/memfd.h"
#include "common/summary.h"
#include "smtpd/queue.h"
#include "store/env.h"
#include "store/file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <unistd.h>

#define BLOCK_BYTES (64 * 1024)
/* Log that may grow before a checkpoint shortens the next start. */
#define CHECKPOINT_BYTES (4u << 20)
#define REMOVED_MAX 1000
#define RECORD_BYTES_MAX (QUEUE_ITEM_BYTES_MAX + 256)

static struct env *env;
static uint64_t serial;
static struct env_log_place checkpointed;
static char queue_dir[FILE_PATH_BYTES_MAX];
static char index_dir[FILE_PATH_BYTES_MAX];
static char messages_dir[FILE_PATH_BYTES_MAX];
static bool unflushed;
static char removed[REMOVED_MAX][SMTP_QUEUE_ID_CHARS + 1]; /* since the last flush */
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

static void
name_of(const char *id, const char *suffix, char *path_r)
{
	char name[SMTP_QUEUE_ID_CHARS + 8];

	(void)snprintf(name, sizeof(name), "%s%s", id, suffix);
	file_path(path_r, messages_dir, name);
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

	buf_init(&b, RECORD_BYTES_MAX);
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

static void
remove_files(const char *id)
{
	char path[FILE_PATH_BYTES_MAX];
	struct err e;

	/* What stays behind is found and removed at the next start. */
	name_of(id, ".msg", path);
	if (file_unlink(path, &e) < 0)
		log_event(LOG_WARN, NO_SESSION, "queue-unlink", LOG_ERR(&e), LOG_END);
	name_of(id, ".meta", path);
	if (file_unlink(path, &e) < 0)
		log_event(LOG_WARN, NO_SESSION, "queue-unlink", LOG_ERR(&e), LOG_END);
}

int
queue_table_flush(struct err *e)
{
	if (!unflushed)
		return 0;
	if (env_flush(env, e) < 0) {
		failed = true;
		return -1;
	}
	unflushed = false;
	/* Their files are of no use only now. */
	for (unsigned i = 0; i < removed_count; i++)
		remove_files(removed[i]);
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
	memcpy(removed[removed_count++], m->id, sizeof removed[0]);
	return 0;
}

int
queue_table_read(struct queue_message *m, struct err *e)
{
	struct queue_message now;
	struct slice item;
	struct buf b;
	int r = -1;

	buf_init(&b, RECORD_BYTES_MAX);
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

/* ---- the files of a message ---- */

/* Copies message into to, comparing its length and hash with what m says. */
static int
copy_message(const struct queue_message *m, int message, int to, struct err *e)
{
	static uint8_t block[BLOCK_BYTES];
	EVP_MD_CTX *h = EVP_MD_CTX_new();
	uint8_t hash[32];
	uint64_t at = 0;
	int64_t n = 0;
	bool good = h && EVP_DigestInit_ex(h, EVP_sha256(), NULL) == 1;

	while (good && at <= m->bytes && (n = memfd_read(message, at, block, sizeof(block), e)) > 0) {
		struct slice s = slice_of(block, (size_t)n);
		good = EVP_DigestUpdate(h, s.p, s.n) == 1 && file_write(to, at, s, e) == 0;
		at += (uint64_t)n;
	}
	good = good && n == 0 && EVP_DigestFinal_ex(h, hash, NULL) == 1;
	EVP_MD_CTX_free(h);
	if (!good)
		return -1;
	if (at != m->bytes || memcmp(hash, m->sha256, sizeof(hash)) != 0)
		return err_set(e, ERR_PERM, ERR_CODE_CORRUPT, "message changed", "queued message has another length or hash");
	return 0;
}

/* A new file of m, open; -1 when there is none. */
static int
create(const struct queue_message *m, const char *suffix, struct err *e)
{
	char path[FILE_PATH_BYTES_MAX];

	name_of(m->id, suffix, path);
	return file_open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, e);
}

static int
write_meta(const struct queue_message *m, struct slice summary, int fd, struct err *e)
{
	struct buf record;
	struct buf meta;
	int r = -1;

	buf_init(&record, RECORD_BYTES_MAX);
	buf_init(&meta, QUEUE_META_BYTES_MAX);
	if (!queue_record_encode(m, &record) || !queue_meta_encode(buf_slice(&record), summary, &meta))
		err_set(e, ERR_LIMIT, ERR_CODE_TOO_BIG, "too big", "a queue item does not fit its file");
	else
		r = file_write(fd, 0, buf_slice(&meta), e);
	buf_fini(&record);
	buf_fini(&meta);
	return r;
}

/* The files of one message, written and not synced yet. */
struct written {
	int msg;
	int meta;
};

static int
write_files(struct queue_add *a, struct written *w, struct err *e)
{
	struct memfd_map map;
	int r = -1;

	*w = (struct written){-1, -1};
	if (!file_has_room(queue_dir, a->message->bytes))
		return err_set(e, ERR_TEMP, ERR_CODE_NO_SPACE, "no space left", "the disk is nearly full");
	if (memfd_map(a->summary, MEMFD_ANY_SIZE, SUMMARY_BYTES_MAX, &map, e) < 0)
		return -1;
	w->msg = create(a->message, ".msg", e);
	if (w->msg >= 0) {
		err_set(e, ERR_TEMP, ERR_CODE_NONE, "temporary failure", "hashing a message");
		r = copy_message(a->message, a->text, w->msg, e);
	}
	if (r == 0)
		w->meta = create(a->message, ".meta", e);
	if (r == 0)
		r = w->meta < 0 ? -1 : write_meta(a->message, map.octets, w->meta, e);
	memfd_unmap(&map);
	return r;
}

static int
sync_files(struct written *w, int so_far, struct err *e)
{
	int r = so_far;

	if (r == 0)
		r = file_sync(w->msg, e);
	if (r == 0)
		r = file_sync(w->meta, e);
	if (w->msg >= 0 && file_close(w->msg, r == 0 ? e : NULL) < 0)
		r = -1;
	if (w->meta >= 0 && file_close(w->meta, r == 0 ? e : NULL) < 0)
		r = -1;
	return r;
}

/* All that have come so far fail for the same reason. */
static void
fail_rest(struct queue_add *adds, unsigned count, const struct err *e)
{
	for (unsigned i = 0; i < count; i++)
		if (adds[i].result == 0) {
			adds[i].result = -1;
			adds[i].error = *e;
		}
}

void
queue_table_add(struct queue_add *adds, unsigned count)
{
	struct written w[QUEUE_ADDS_MAX];
	struct err e = {0};
	bool any = false;

	assert(count <= QUEUE_ADDS_MAX);
	for (unsigned i = 0; i < count; i++)
		adds[i].result = write_files(&adds[i], &w[i], &adds[i].error);
	for (unsigned i = 0; i < count; i++)
		if (adds[i].result == 0) {
			file_write_out(w[i].msg);
			file_write_out(w[i].meta);
		}
	for (unsigned i = 0; i < count; i++) {
		adds[i].result = sync_files(&w[i], adds[i].result, &adds[i].error);
		any = any || adds[i].result == 0;
	}
	if (any && file_sync_dir(messages_dir, &e) < 0)
		fail_rest(adds, count, &e);
	for (unsigned i = 0; i < count; i++)
		if (adds[i].result == 0)
			adds[i].result = put_record(adds[i].message, &adds[i].error);
	if (queue_table_flush(&e) < 0)
		fail_rest(adds, count, &e);
	/* After a failed commit the record may be there all the same: the files are left for the next start. */
	for (unsigned i = 0; i < count && !queue_table_failed(); i++)
		if (adds[i].result < 0 && w[i].msg >= 0)
			remove_files(adds[i].message->id);
}

static int
read_meta(const char *id, struct buf *b, struct err *e)
{
	char path[FILE_PATH_BYTES_MAX];
	int fd;
	int r;

	name_of(id, ".meta", path);
	fd = file_open(path, O_RDONLY | O_CLOEXEC, e);
	if (fd < 0)
		return -1;
	r = memfd_read_all(fd, b, e);
	(void)file_close(fd, NULL);
	return r;
}

int
queue_table_file(const struct queue_message *m, int *message_r, struct err *e)
{
	char path[FILE_PATH_BYTES_MAX];

	name_of(m->id, ".msg", path);
	*message_r = file_open(path, O_RDONLY | O_CLOEXEC, e);
	return *message_r < 0 ? -1 : 0;
}

int
queue_table_files(const struct queue_message *m, int *message_r, int *summary_r, struct err *e)
{
	struct buf b;
	struct slice record;
	struct slice summary;

	*summary_r = -1;
	if (queue_table_file(m, message_r, e) < 0)
		return -1;
	buf_init(&b, QUEUE_META_BYTES_MAX);
	if (read_meta(m->id, &b, e) == 0) {
		if (queue_meta_decode(buf_slice(&b), &record, &summary))
			*summary_r = memfd_of(summary, e);
		else
			err_set(e, ERR_TEMP, ERR_CODE_CORRUPT, "temporary failure", "%s.meta is damaged", m->id);
	}
	buf_fini(&b);
	if (*summary_r < 0) {
		(void)close(*message_r);
		*message_r = -1;
		return -1;
	}
	return 0;
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

struct wanted {
	const char *suffix;
	void (*fn)(const char *id, void *arg);
	void *arg;
};

static int
on_file(void *arg, const char *path, const char *file, struct err *e)
{
	const struct wanted *w = arg;
	struct slice name = slice_str(file);
	struct slice id = slice_sub(name, 0, SMTP_QUEUE_ID_CHARS);
	char text[SMTP_QUEUE_ID_CHARS + 1];

	(void)path;
	(void)e;
	if (smtp_queue_id_valid(id) && slice_eq(slice_sub(name, id.n, name.n), slice_str(w->suffix)) &&
	    slice_cstr(id, text, sizeof(text)))
		w->fn(text, w->arg);
	return 0;
}

/* Calls fn for each message that has a file of that suffix. */
static int
each_file(const char *suffix, void (*fn)(const char *id, void *arg), void *arg, struct err *e)
{
	struct wanted w = {suffix, fn, arg};

	return file_each(messages_dir, on_file, &w, e);
}

/* A file whose message has no record was never acknowledged, or is done with. */
static void
remove_orphan(const char *id, void *arg)
{
	struct buf b;
	struct err e;

	(void)arg;
	buf_init(&b, RECORD_BYTES_MAX);
	if (env_get(env, slice_str(id), &b, &e) == 0) {
		log_event(LOG_INFO, NO_SESSION, "queue-orphan", LOG_CSTR("id", id), LOG_END);
		remove_files(id);
	}
	buf_fini(&b);
}

static void
restore(const char *id, void *arg)
{
	unsigned *count = arg;
	struct queue_message *m = NULL;
	struct slice record;
	struct slice summary;
	struct buf b;
	struct err e = {0};

	buf_init(&b, QUEUE_META_BYTES_MAX);
	if (read_meta(id, &b, &e) == 0 && queue_meta_decode(buf_slice(&b), &record, &summary))
		m = message_of(slice_str(id), record);
	if (m && put_record(m, &e) == 0)
		++*count;
	else
		log_event(LOG_ERROR, NO_SESSION, "queue-unrestored", LOG_CSTR("id", id), LOG_ERR(&e), LOG_END);
	queue_table_free(&m);
	buf_fini(&b);
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

/* Throws the index away and makes it again. */
static int
rebuild(struct err *e)
{
	unsigned count = 0;

	log_event(LOG_ERROR, NO_SESSION, "queue-rebuild", LOG_ERR(e), LOG_END);
	env_close(&env);
	if (file_remove_dir(index_dir, e) < 0 || open_index(false, e) < 0 || each_file(".meta", restore, &count, e) < 0 ||
	    queue_table_flush(e) < 0)
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
	if ((open_index(opened_in(boot), e) < 0 || load(forget, e) < 0) && (e->code != ERR_CODE_CORRUPT || rebuild(e) < 0))
		return -1;
	if (each_file(".msg", remove_orphan, NULL, e) < 0 || each_file(".meta", remove_orphan, NULL, e) < 0)
		return -1;
	if (load(found, e) < 0)
		return -1;
	note_boot(boot);
	return 0;
}

void
queue_table_close(void)
{
	env_close(&env);
}
