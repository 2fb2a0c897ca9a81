/*
 * The account's life: open (recover, or rebuild), transactions, remembered
 * requests, and the upkeep that bounds the log.
 *
 * A transaction that is undone leaves the tables in memory wrong; they are read
 * again from the database. That is rare, and cannot be forgotten in some path.
 */
#include "store/index_private.h"

#include "common/log.h"
#include "common/mem.h"
#include "store/logfile.h"
#include "common/mutant.h"
#include "store/object.h"
#include "store/rebuild.h"

#include <assert.h>
#include <fcntl.h>

#define CLEAN_FILE "clean"
/* A checkpoint after so much log. */
#define CHECKPOINT_LOG_BYTES (4u << 20)
#define BASE_STEP_BYTES (512u * 1024)

int
index_failed(struct index *ix)
{
	if (env_dead(ix->env) || file_lost())
		ix->broken = true;
	return -1;
}

bool
index_broken(const struct index *ix)
{
	return ix->broken || env_dead(ix->env) || file_lost();
}

/* ---- remembered requests ---- */

static unsigned
slot_head(const uint8_t *origin, uint64_t sequence)
{
	uint64_t h = sequence * UINT64_C(0x9e3779b97f4a7c15);

	for (unsigned i = 0; i < STORE_ORIGIN_BYTES; i++)
		h = (h ^ origin[i]) * UINT64_C(0x100000001b3);
	return (unsigned)(h >> 32) % INDEX_SLOT_HEADS;
}

static void
slot_forget(struct index *ix, uint32_t number)
{
	struct index_slot *slot = &ix->slots[number];
	uint32_t *link;

	if (!slot->used)
		return;
	link = &ix->slot_heads[slot_head(slot->origin, slot->sequence)];
	while (*link != number + 1)
		link = &ix->slots[*link - 1].next;
	*link = slot->next;
	slot->used = false;
}

static void
slot_set(struct index *ix, uint32_t number, const uint8_t *origin, uint64_t sequence)
{
	struct index_slot *slot = &ix->slots[number];
	uint32_t *head = &ix->slot_heads[slot_head(origin, sequence)];

	slot_forget(ix, number);
	memcpy(slot->origin, origin, STORE_ORIGIN_BYTES);
	slot->sequence = sequence;
	slot->used = true;
	slot->next = *head;
	*head = number + 1;
}

static struct format_key
slot_key(uint32_t number)
{
	if (number < INDEX_RING_DELIVERY_SLOTS)
		return format_key_request(INDEX_RING_DELIVERY, number);
	return format_key_request(INDEX_RING_WORKER, number - INDEX_RING_DELIVERY_SLOTS);
}

int
index_request_find(struct index *ix, const uint8_t origin[STORE_ORIGIN_BYTES], uint64_t sequence,
    struct buf *reply, struct err *e)
{
	struct format_request found;
	uint32_t at = ix->slot_heads[slot_head(origin, sequence)];

	while (at != 0 && (ix->slots[at - 1].sequence != sequence ||
			      memcmp(ix->slots[at - 1].origin, origin, STORE_ORIGIN_BYTES) != 0))
		at = ix->slots[at - 1].next;
	if (at == 0)
		return 0;
	struct format_key key = slot_key(at - 1);
	int r = env_get(ix->env, format_key_slice(&key), &ix->value, e);

	if (r < 0)
		return index_failed(ix);
	if (r == 0 || !format_request_get(format_key_slice(&key), buf_slice(&ix->value), &found))
		return env_refuse(ix->env, "a remembered request", e);
	buf_reset(reply);
	buf_put_slice(reply, found.reply);
	return 1;
}

int
index_request_done(struct index *ix, enum index_ring ring, const uint8_t origin[STORE_ORIGIN_BYTES],
    uint64_t sequence, struct slice reply, struct err *e)
{
	uint32_t slots = ring == INDEX_RING_DELIVERY ? INDEX_RING_DELIVERY_SLOTS : INDEX_RING_WORKER_SLOTS;
	uint32_t slot = (uint32_t)(ix->account.ring_next[ring]++ % slots);
	struct format_key key = format_key_request((uint8_t)ring, slot);
	struct format_request r = {.sequence = sequence, .reply = reply};

	assert(reply.n <= FORMAT_REPLY_BYTES_MAX);
	memcpy(r.origin, origin, sizeof r.origin);
	if (!format_request_put(&ix->value, format_key_slice(&key), &r))
		return err_set(e, ERR_BUG, ERR_CODE_TOO_BIG, "internal error", "an answer to remember is too long");
	slot_set(ix, slot + (ring == INDEX_RING_WORKER ? INDEX_RING_DELIVERY_SLOTS : 0), origin, sequence);
	return index_put(ix, &key, &ix->value, e);
}

static int
load_slot(struct index *ix, struct slice key, struct slice value, struct err *e)
{
	struct format_request r;
	struct cursor c = cursor_of(key);
	uint32_t ring, slot;

	(void)cursor_u8(&c);
	ring = cursor_u8(&c);
	slot = cursor_u32(&c);
	if (!cursor_done(&c) || !format_request_get(key, value, &r) || ring >= FORMAT_RINGS ||
	    slot >= (ring ? INDEX_RING_WORKER_SLOTS : INDEX_RING_DELIVERY_SLOTS))
		return env_refuse(ix->env, "a remembered request", e);
	slot_set(ix, slot + (ring ? INDEX_RING_DELIVERY_SLOTS : 0), r.origin, r.sequence);
	return 0;
}

/* ---- reading the tables that are held in memory ---- */

static int
load_mailbox(struct index *ix, struct slice key, struct slice value, struct err *e)
{
	struct format_mailbox m;

	if (!format_mailbox_get(key, value, &m))
		return env_refuse(ix->env, "a mailbox", e);
	return index_mailbox_load(ix, &m, e);
}

static int
load_keywords(struct index *ix, struct slice key, struct slice value, struct err *e)
{
	struct cursor k = cursor_of(slice_sub(key, 1, key.n)), c;
	struct index_mailbox *mb = index_mailbox_get(ix, cursor_u32(&k));
	unsigned count;

	if (mb == NULL || !format_check(key, value, &count, &c) || cursor_left(&c) > INDEX_KEYWORDS_BYTES_MAX)
		return env_refuse(ix->env, "the keywords of a mailbox", e);
	buf_reset(&mb->keywords);
	buf_put(&mb->keywords, c.p, cursor_left(&c));
	return 0;
}

typedef int load_fn(struct index *ix, struct slice key, struct slice value, struct err *e);

static int
load_table(struct index *ix, enum format_table table, load_fn *fn, struct err *e)
{
	struct format_key prefix = format_key(table);
	struct env_cursor c;
	int r = env_cursor_open(ix->env, &c, e) < 0 ? -1 : env_cursor_seek(&c, format_key_slice(&prefix), e);

	while (r == 1 && c.key.p[0] == (uint8_t)table) {
		r = fn(ix, c.key, c.value, e) < 0 ? -1 : env_cursor_next(&c, e);
	}
	env_cursor_close(&c);
	return r < 0 ? -1 : 0;
}

static int
load(struct index *ix, struct err *e)
{
	struct format_key key = format_key(FORMAT_ACCOUNT);
	int r = env_get(ix->env, format_key_slice(&key), &ix->value, e);

	index_mailboxes_free(ix);
	memset(ix->slot_heads, 0, sizeof ix->slot_heads);
	memset(ix->slots, 0, INDEX_SLOTS * sizeof *ix->slots);
	if (r < 0)
		return -1;
	if (r == 0 || !format_account_get(buf_slice(&ix->value), &ix->account))
		return env_refuse(ix->env, "the account", e);
	ix->reserve_object = ix->account.next_object;
	if (load_table(ix, FORMAT_MAILBOX, load_mailbox, e) < 0 ||
	    load_table(ix, FORMAT_KEYWORDS, load_keywords, e) < 0 ||
	    load_table(ix, FORMAT_REQUEST, load_slot, e) < 0)
		return -1;
	return 0;
}

/* ---- open and close ---- */

static struct index *
new_index(const char *root, uint64_t now)
{
	struct index *ix = MEM_NEW(struct index);

	assert(strlen(root) < sizeof ix->root);
	memcpy(ix->root, root, strlen(root));
	file_path(ix->dir, root, "index");
	ix->now = now;
	ix->slots = mem_new_array(INDEX_SLOTS, sizeof *ix->slots);
	buf_init(&ix->value, FORMAT_VALUE_BYTES_MAX);
	buf_init(&ix->old, FORMAT_VALUE_BYTES_MAX);
	return ix;
}

static void
free_index(struct index **index)
{
	struct index *ix = *index;

	base_abandon(&ix->base_writer);
	env_close(&ix->env);
	index_changes_reset(ix);
	free(ix->changes);
	index_mailboxes_free(ix);
	free(ix->mailboxes);
	free(ix->slots);
	buf_fini(&ix->value);
	buf_fini(&ix->old);
	MEM_FREE(index);
}

/* The first transaction of an account. */
static int
fill_new(void *arg, struct env *env, struct err *e)
{
	struct index *ix = arg;

	ix->env = env;
	ix->account = (struct format_account){
	    .created = ix->now,
	    .next_mailbox = 1,
	    .next_uidvalidity = (uint32_t)ix->now ? (uint32_t)ix->now : 1,
	};
	int failed = index_begin(ix, e) < 0 || index_mailboxes_default(ix, e) < 0 || index_commit(ix, e) < 0;

	ix->env = NULL;
	return failed ? -1 : 0;
}

static int
create(const char *root, uint64_t now, struct err *e)
{
	struct index *ix = new_index(root, now);
	int failed = rebuild_create(root, fill_new, ix, 1, now, e);

	free_index(&ix);
	return failed;
}

/* Was it left in order by a process on this boot? Then what the page cache holds is what the disk holds. */
static int
take_clean_mark(const char *root, bool *clean_r, struct err *e)
{
	char dir[FILE_PATH_BYTES_MAX], path[FILE_PATH_BYTES_MAX];

	file_path(dir, root, "index");
	file_path(path, dir, CLEAN_FILE);
	int exists = file_exists(path, e);

	*clean_r = exists == 1;
	return exists == 1 && !MUTANT(INDEX_CLEAN_MARK) ? file_unlink(path, e) : exists < 0 ? -1 : 0;
}

/* Makes sure that the account is on the disk as it is seen, before anything is built on that. */
static int
settle(const char *root, bool clean, bool *exists_r, struct err *e)
{
	char dir[FILE_PATH_BYTES_MAX];

	if (!clean && !MUTANT(INDEX_ROOT_SYNC) && file_sync_dir(root, e) < 0)
		return -1;
	if (object_init(root, e) < 0 || rebuild_settle(root, exists_r, e) < 0)
		return -1;
	if (clean || !*exists_r)
		return 0;
	file_path(dir, root, "index");
	return file_settle_dir(dir, e) < 0 ? -1 : object_settle(root, e);
}

static void
leave_clean_mark(const struct index *ix)
{
	char path[FILE_PATH_BYTES_MAX];

	file_path(path, ix->dir, CLEAN_FILE);
	int fd = file_open(path, O_WRONLY | O_CREAT, NULL);

	if (fd >= 0)
		(void)file_close(fd, NULL);
}

/* The databases are sound but the base copy is not there or damaged: a whole new one. */
static int
renew_base(struct index *ix, struct err *e)
{
	if (base_begin(ix->env, ix->dir, ix->account.serial, ix->now, &ix->base_writer, e) < 0)
		return -1;
	return base_step(&ix->base_writer, SIZE_MAX / 2, &ix->base, e);
}

/* After a keeper that ended badly all of it is read: what was damaged is renewed while the databases can still do it. */
static int
check_base(struct index *ix, struct err *e)
{
	int failed = ix->clean ? base_read_info(ix->dir, &ix->base, e) : base_read(ix->dir, NULL, NULL, &ix->base, e);

	return failed == 0 || MUTANT(BASE_RENEW) ? 0 : renew_base(ix, e);
}

/* Pages may be whole and old. Recovery believes them, and objects of later transactions would be cleared away. */
static int
check_age(struct index *ix, struct err *e)
{
	uint64_t serial;

	if (env_log_serial(ix->env, &serial, e) < 0)
		return -1;
	if (serial > ix->account.serial)
		return env_refuse(ix->env, "the index is older than its log", e);
	return 0;
}

static int
open_env(struct index *ix, const struct redo_pages *pages, struct err *e)
{
	if (env_open(ix->dir, false, pages, &ix->env, e) < 0)
		return -1;
	ix->checkpoint = env_log_end(ix->env);
	if (load(ix, e) < 0 || check_age(ix, e) < 0) {
		env_close(&ix->env);
		return -1;
	}
	env_recovered(ix->env, ix->account.serial);
	if (check_base(ix, e) < 0) {
		env_close(&ix->env);
		return -1;
	}
	return 0;
}

static bool
on_old_summary(void *arg, uint64_t object, struct slice summary)
{
	struct index *ix = arg;

	if (object >= ix->account.next_object || summary.n > STORE_SUMMARY_BYTES_MAX)
		return true;
	if (env_begin(ix->env, ix->account.serial, NULL) < 0)
		return false;
	if (env_summary_put(ix->env, object, summary, NULL) < 0) {
		env_abort(ix->env);
		return false;
	}
	return env_commit(ix->env, NULL) == 0;
}

/* Has the log lost what was durable? Berkeley DB would not tell, and write zeros over what follows. */
static int
look_at_log(struct index *ix, struct logfile_look *look_r, struct err *e)
{
	struct base_info base;

	*look_r = (struct logfile_look){.damaged = false};
	if (base_read_info(ix->dir, &base, NULL) == 0)
		look_r->durable = (struct redo_durable){base.serial, base.log.file, base.log.offset};
	if (!MUTANT(LOG_LOOK) && logfile_look(ix->dir, !ix->clean, look_r, e) < 0)
		return -1;
	if (look_r->damaged)
		log_event(LOG_ERROR, NO_SESSION, "log-damaged", LOG_NUM("file", look_r->place.file),
		    LOG_NUM("offset", look_r->place.offset), LOG_NUM("durable", look_r->durable.serial), LOG_END);
	return 0;
}

/* What to do when base copy and log are not enough: sound databases need no rebuild. */
static int
open_without_base(struct index *ix, bool marked, const struct logfile_look *look, struct err *e)
{
	bool no_base = e->code == ERR_CODE_NOT_FOUND;

	/* Berkeley DB finds the log's end, and reads nothing of what was damaged or tells it. */
	if (look->damaged && !look->end_damaged && !marked)
		return open_env(ix, &look->pages, e) < 0 ? -1 : renew_base(ix, e);
	/* Without a base copy a new one is made at once, which reads every record. */
	if (!marked || look->damaged || !no_base || open_env(ix, &look->pages, e) < 0)
		return -1;
	return rebuild_unmark(ix->root, e);
}

/* A refused page or a damaged log is answered by one rebuild; a full disk or a broken device by an error. */
static int
open_or_rebuild(struct index *ix, struct err *e)
{
	bool marked = rebuild_marked(ix->root);
	const char *why = "a page or a record of the index was refused";
	struct logfile_look look;
	enum env_cut cut;

	if (look_at_log(ix, &look, e) < 0 || env_look_at_index(ix->dir, &look.pages, &cut, e) < 0)
		return -1;
	if (cut != ENV_WHOLE)
		why = "the last pages of the index are missing";
	if (marked)
		why = "the index is marked as damaged";
	if (look.damaged)
		why = "the log is damaged";
	if (!marked && !look.damaged && cut == ENV_WHOLE) {
		if (open_env(ix, &look.pages, e) == 0)
			return 0;
		if (e->code != ERR_CODE_CORRUPT)
			return -1;
	}
	/* Pages that became free were perhaps cut off by a keeper that died before it could say so. */
	bool damage = marked || look.damaged || cut == ENV_WHOLE;

	if (rebuild_from_log(ix->root, damage, why, ix->account.serial, ix->now, e) < 0) {
		if (e->code != ERR_CODE_NOT_FOUND && e->code != ERR_CODE_CORRUPT)
			return -1;
		if (!damage && cut == ENV_MAYBE_CUT)
			return open_env(ix, &look.pages, e);
		return cut == ENV_CUT ? -1 : open_without_base(ix, marked, &look, e);
	}
	if (open_env(ix, &(struct redo_pages){0, 0}, e) < 0)
		return -1;
	rebuild_take_summaries(ix->root, on_old_summary, ix);
	if (!index_broken(ix))
		return 0;
	if (file_error() != 0)
		return err_sys(e, file_error(), "the old summaries");
	return err_set(e, ERR_TEMP, ERR_CODE_UNAVAILABLE, "temporary failure", "the new index failed while it took over summaries");
}

static int
on_object(void *arg, const uint8_t id[STORE_OBJECT_ID_BYTES], struct err *e)
{
	(void)arg;
	(void)id;
	return err_set(e, ERR_TEMP, ERR_CODE_CORRUPT, "temporary failure", "there are messages and no index: salvage");
}

/* An account with messages is not a new one: its index was lost, and a new one would count from the beginning. */
static int
refuse_messages(const char *root, struct err *e)
{
	return object_each(root, on_object, NULL, e);
}

int
index_open(const char *root, uint64_t now, struct index **index_r, struct err *e)
{
	struct err ignored;
	struct index *ix;
	bool clean, exists;

	e = e != NULL ? e : &ignored;
	*index_r = NULL;
	if (take_clean_mark(root, &clean, e) < 0 || settle(root, clean, &exists, e) < 0)
		return -1;
	if (!exists && (refuse_messages(root, e) < 0 || create(root, now, e) < 0))
		return -1;
	ix = new_index(root, now);
	ix->clean = clean;
	if (open_or_rebuild(ix, e) < 0 || object_clean(root, ix->account.next_object, e) < 0) {
		free_index(&ix);
		return -1;
	}
	*index_r = ix;
	return 0;
}

/* Is there much log since the base copy, in itself and beside the copy's own size? */
static bool
base_is_due(const struct index *ix, uint64_t least)
{
	uint64_t since = env_log_since(ix->env, ix->base.log);

	return since >= least && since >= ix->base.bytes / 2;
}

void
index_close(struct index **index)
{
	struct index *ix = *index;
	struct base_info info;
	int r = -1;

	if (ix == NULL)
		return;
	index_abort(ix);
	if (MUTANT(INDEX_CLEAN_ORDER))
		leave_clean_mark(ix);
	if (!index_broken(ix) && env_checkpoint(ix->env, NULL) == 0) {
		r = 0;
		if (ix->base_writer == NULL && base_is_due(ix, INDEX_BASE_LOG_BYTES_IDLE))
			r = base_begin(ix->env, ix->dir, ix->account.serial, ix->now, &ix->base_writer, NULL);
		if (r == 0 && ix->base_writer != NULL && base_step(&ix->base_writer, SIZE_MAX / 2, &info, NULL) == 0)
			r = env_log_trim(ix->env, info.log.file, NULL);
	}
	if (env_damaged(ix->env) && !file_lost())
		rebuild_mark(ix->root);
	/* Closing may sync, so the mark comes after it. */
	if (index_broken(ix))
		r = -1;
	env_close(&ix->env);
	if (r == 0 && !file_lost())
		leave_clean_mark(ix);
	free_index(index);
}

void
index_set_now(struct index *ix, uint64_t now)
{
	if (now > ix->now)
		ix->now = now;
}

/* ---- transactions ---- */

int
index_begin(struct index *ix, struct err *e)
{
	if (env_begin(ix->env, ix->account.serial + 1, e) < 0)
		return index_failed(ix);
	ix->account.serial++;
	return 0;
}

static int
save_account(struct index *ix, struct err *e)
{
	struct format_key key = format_key(FORMAT_ACCOUNT);
	bool ok = format_account_put(&ix->value, &ix->account);

	assert(ok);
	return index_put(ix, &key, &ix->value, e);
}

int
index_commit(struct index *ix, struct err *e)
{
	if (index_mailboxes_save(ix, e) < 0 || save_account(ix, e) < 0) {
		index_abort(ix);
		return -1;
	}
	if (env_commit(ix->env, e) < 0) {
		index_abort(ix);
		return index_failed(ix);
	}
	return 0;
}

void
index_abort(struct index *ix)
{
	uint64_t reserved = ix->reserve_object;

	if (!env_in_transaction(ix->env))
		return;
	env_abort(ix->env);
	index_changes_reset(ix);
	(void)index_failed(ix);
	if (!index_broken(ix) && load(ix, NULL) < 0)
		ix->broken = true;
	/* Objects written for appends that still wait keep their numbers. */
	if (reserved > ix->reserve_object)
		ix->reserve_object = reserved;
}

int
index_flush(struct index *ix, struct err *e)
{
	if (env_flush(ix->env, e) == 0)
		return 0;
	/* What was committed is visible here and not durable: no way back but a new process. */
	ix->broken = true;
	return -1;
}

int
index_put(struct index *ix, const struct format_key *key, struct buf *value, struct err *e)
{
	int r = env_get(ix->env, format_key_slice(key), &ix->old, e);

	if (r < 0)
		return index_failed(ix);
	if (env_put(ix->env, format_key_slice(key), buf_slice(value), buf_slice(&ix->old), e) < 0)
		return index_failed(ix);
	return 0;
}

struct quota
index_usage(const struct index *ix)
{
	return (struct quota){ix->account.bytes, ix->account.messages};
}

bool
index_is_empty(const struct index *ix)
{
	/* Every message that was ever there had an object. */
	return ix->account.next_object == 0;
}

uint64_t
index_modseq(const struct index *ix)
{
	return ix->account.modseq;
}

uint64_t
index_serial(const struct index *ix)
{
	return ix->account.serial;
}

uint64_t
index_modseq_next(struct index *ix)
{
	return ++ix->account.modseq;
}

uint64_t
index_object_reserve(struct index *ix)
{
	return ix->reserve_object++;
}

void
index_object_unreserve(struct index *ix)
{
	ix->reserve_object = ix->account.next_object;
}

uint64_t
index_object_next(const struct index *ix)
{
	return ix->reserve_object;
}

bool
index_quota_fits(const struct index *ix, struct quota limit, struct quota more)
{
	return quota_fits(limit, index_usage(ix), more);
}

int
index_quota_check(struct index *ix, struct quota limit, struct quota more, struct err *e)
{
	ix->quota_wanted = more;
	return index_quota_fits(ix, limit, more) ? 0 : err_set(e, ERR_LIMIT, ERR_CODE_OVER_QUOTA, "over quota", NULL);
}

struct quota
index_quota_wanted(const struct index *ix)
{
	return ix->quota_wanted;
}

bool
index_has_space(const struct index *ix, uint64_t more)
{
	return file_has_room(ix->root, more);
}

/* ---- changes ---- */

struct buf *
index_change_add(struct index *ix, enum index_change_kind kind, uint32_t mailbox)
{
	struct index_change *change;

	if (ix->change_count == ix->change_cap) {
		ix->change_cap = ix->change_cap ? ix->change_cap * 2 : 8;
		ix->changes = mem_resize(ix->changes, ix->change_cap, sizeof *ix->changes);
	}
	change = &ix->changes[ix->change_count++];
	*change = (struct index_change){.kind = kind, .mailbox = mailbox};
	buf_init(&change->octets, INDEX_CHANGE_BYTES_MAX);
	return &change->octets;
}

const struct index_change *
index_changes(const struct index *ix, size_t *count_r)
{
	*count_r = ix->change_count;
	return ix->changes;
}

void
index_changes_reset(struct index *ix)
{
	for (size_t i = 0; i < ix->change_count; i++)
		buf_fini(&ix->changes[i].octets);
	ix->change_count = 0;
}

/* ---- upkeep ---- */

static bool
wants_base(const struct index *ix)
{
	return ix->base_writer != NULL || base_is_due(ix, INDEX_BASE_LOG_BYTES_MIN);
}

static bool
wants_checkpoint(const struct index *ix)
{
	return env_log_since(ix->env, ix->checkpoint) >= CHECKPOINT_LOG_BYTES;
}

bool
index_wants_upkeep(const struct index *ix)
{
	if (index_broken(ix))
		return false;
	return wants_base(ix) || wants_checkpoint(ix);
}

static int
upkeep_base(struct index *ix, struct err *e)
{
	if (ix->base_writer == NULL &&
	    base_begin(ix->env, ix->dir, ix->account.serial, ix->now, &ix->base_writer, e) < 0)
		return -1;
	int r = base_step(&ix->base_writer, BASE_STEP_BYTES, &ix->base, e);

	if (r == 0)
		r = env_log_trim(ix->env, ix->base.log.file, e);
	return r;
}

int
index_upkeep(struct index *ix, struct err *e)
{
	int r = 0;

	if (wants_checkpoint(ix)) {
		ix->checkpoint = env_log_end(ix->env);
		r = env_checkpoint(ix->env, e);
	} else if (wants_base(ix)) {
		r = upkeep_base(ix, e);
	}
	if (r < 0)
		return index_failed(ix);
	return index_wants_upkeep(ix);
}

int
index_upkeep_now(struct index *ix, struct err *e)
{
	base_abandon(&ix->base_writer);
	if (env_checkpoint(ix->env, e) < 0 || renew_base(ix, e) < 0 || env_log_trim(ix->env, ix->base.log.file, e) < 0)
		return index_failed(ix);
	return 0;
}
