/*
 * mailstead store load: the dump is judged first, by a child without rights; then the account is taken out of use, the dump is read
 * by its owner, the messages that it lacks are copied in, and the new index is built beside the old one and put in its place by renames.
 */
#include "admin/cmd_store.h"

#include "admin/directory_request.h"
#include "admin/dump_objects.h"
#include "admin/opener.h"
#include "admin/progress.h"
#include "common/loop.h"
#include "common/mutant.h"
#include "store/dump.h"
#include "store/load.h"
#include "store/object.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

struct load_call {
	const struct command_call *call;
	struct opener messages; /* pid 0: the messages are in the account already */
	bool replace;
	int dump;
	struct image image;
	struct load_object *objects;
	size_t object_count;
	uint64_t now;
	struct progress progress;
};

static enum command_status
failed(const struct err *e)
{
	command_error("%s (%s)", e->client, e->detail);
	return e->class == ERR_TEMP ? COMMAND_TEMPORARY : COMMAND_REFUSED;
}

/* ---- the dump ---- */

static enum command_status
open_dump(struct load_call *l, const char *path)
{
	struct load_object *list = NULL;
	enum command_status status;
	size_t n;

	l->dump = open(path, O_RDONLY | O_CLOEXEC);
	if (l->dump < 0) {
		command_error("%s: %s", path, strerror(errno));
		return COMMAND_REFUSED;
	}
	status = dump_objects(path, l->dump, &list, &n);
	free(list);
	return status;
}

/* ---- what is there already ---- */

/*
 * An account that goes back to an earlier state gives UIDs and modseqs again that clients have seen: then they must
 * learn that by another UIDVALIDITY.
 */
static enum command_status
meet_old(struct load_call *l)
{
	struct index *ix = NULL;
	struct err e;

	file_shortage_reset();
	if (index_open(".", l->now, &ix, &e) < 0) {
		if (!l->replace || file_shortage() != 0)
			return failed(&e);
		command_error("the old index cannot be read (%s): every mailbox gets a new UIDVALIDITY", e.detail);
		image_outdate(&l->image, NULL, l->now);
		return COMMAND_OK;
	}
	bool empty = index_is_empty(ix);

	if (!empty)
		image_outdate(&l->image, ix, l->now);
	index_close(&ix);
	if (empty || l->replace)
		return COMMAND_OK;
	command_error("the account is not empty; --replace puts the dump in the place of what it has");
	return COMMAND_REFUSED;
}

/* ---- messages ---- */

/* Is it in its place already? A load that was cut short may have left it there with other octets, or not synced. 1, 0 or -1. */
static int
is_in_place(const struct load_object *o, struct err *e)
{
	uint8_t sha256[STORE_SHA256_BYTES];
	uint64_t bytes;
	int fd = object_open(".", o->id, o->size, NULL), r;

	if (fd < 0)
		return 0;
	r = object_hash(fd, sha256, &bytes, e);
	if (r == 0)
		r = object_id_fits(o->id, sha256) || MUTANT(LOAD_PLACE_HASH);
	if (r == 1 && file_sync(fd, e) < 0)
		r = -1;
	(void)close(fd);
	return r;
}

/* 1: it is in its place; 0: nowhere, or not what its name says; -1. */
static int
bring_object(struct load_call *l, const struct load_object *o, struct err *e)
{
	uint8_t sha256[STORE_SHA256_BYTES];
	uint64_t bytes;
	int fd, r = is_in_place(o, e);

	if (r != 0 || l->messages.pid == 0)
		return r;
	fd = opener_get(&l->messages, o->id);
	if (fd < 0)
		return errno == ENOENT || errno == ELOOP ? 0 : err_sys(e, errno, "--messages");
	if (object_hash(fd, sha256, &bytes, e) < 0)
		r = -1;
	else if (MUTANT(LOAD_HASH) || (bytes == o->size && object_id_fits(o->id, sha256)))
		r = object_write(".", object_number(o->id), fd, bytes, sha256, e) < 0 ? -1 : 1;
	(void)close(fd);
	return r;
}

static enum command_status
bring_objects(struct load_call *l)
{
	bool touched[OBJECT_SHARDS] = {false};
	size_t missing = 0;
	struct err e;

	for (size_t i = 0; i < l->object_count; i++) {
		int r = bring_object(l, &l->objects[i], &e);

		if (r < 0)
			return failed(&e);
		missing += r == 0;
		touched[object_shard(object_number(l->objects[i].id))] |= r == 1;
		progress_step(&l->progress, "messages", i, l->object_count);
	}
	progress_end(&l->progress);
	if (missing > 0) {
		command_error("%zu of %zu messages of the dump are missing or damaged; nothing was changed", missing, l->object_count);
		return COMMAND_REFUSED;
	}
	for (unsigned shard = 0; shard < OBJECT_SHARDS; shard++)
		if (touched[shard] && !MUTANT(LOAD_SHARD_SYNC) && object_sync_shard(".", shard, &e) < 0)
			return failed(&e);
	return COMMAND_OK;
}

static bool
is_wanted(const struct load_call *l, const uint8_t id[STORE_OBJECT_ID_BYTES])
{
	size_t low = 0, high = l->object_count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (memcmp(l->objects[mid].id, id, STORE_OBJECT_ID_BYTES) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low < l->object_count && memcmp(l->objects[low].id, id, STORE_OBJECT_ID_BYTES) == 0;
}

static int
drop_other(void *arg, const uint8_t id[STORE_OBJECT_ID_BYTES], struct err *e)
{
	return is_wanted(arg, id) ? 0 : object_remove(".", id, e);
}

/* ---- all of it ---- */

static enum command_status
finish(struct load_call *l)
{
	struct index *ix;
	struct err e;

	if (MUTANT(LOAD_ORDER) && l->replace && object_each(".", drop_other, l, &e) < 0)
		return failed(&e);
	if (load_image(".", &l->image, l->now, &e) < 0)
		return failed(&e);
	/* What the account had and the dump does not name; after a crash here, check --deep finds it. */
	if (l->replace && object_each(".", drop_other, l, &e) < 0)
		return failed(&e);
	if (index_open(".", l->now, &ix, &e) < 0)
		return failed(&e);
	int r = index_check(ix, &e);
	struct quota usage = index_usage(ix);

	index_close(&ix);
	return r == 0 ? store_usage_print(l->call, "", usage) : failed(&e);
}

static enum command_status
load_here(struct load_call *l)
{
	enum command_status status = COMMAND_OK;
	struct err e;

	if (dump_read(l->dump, &l->image, &e) < 0)
		return failed(&e);
	file_hook_db();
	l->objects = load_objects(&l->image, &l->object_count);
	if (object_init(".", &e) < 0)
		status = failed(&e);
	if (status == COMMAND_OK)
		status = meet_old(l);
	if (status == COMMAND_OK)
		status = bring_objects(l);
	return status == COMMAND_OK ? finish(l) : status;
}

enum command_status
store_load(const struct command_call *call)
{
	struct load_call l = {.call = call, .now = clock_wall_us() / 1000000, .dump = -1};
	const char *messages;
	struct command_link *hold = NULL;
	int argc = call->argc;
	enum command_status status;

	progress_begin(&l.progress, call);
	l.replace = option_flag(&argc, call->argv, "--replace");
	if (!option_value(&argc, call->argv, "--messages", &messages))
		return command_usage(call, "--messages takes a directory");
	status = option_end(call, argc, call->argv, 2, 2);
	if (status == COMMAND_OK)
		status = open_dump(&l, call->argv[1]);
	if (status == COMMAND_OK && messages != NULL)
		status = opener_begin(&l.messages, messages);
	if (status == COMMAND_OK)
		status = account_hold(call, call->argv[0], &hold);
	if (status == COMMAND_OK)
		status = load_here(&l);
	command_disconnect(&hold);
	opener_end(&l.messages);
	if (l.dump >= 0)
		(void)close(l.dump);
	free(l.objects);
	image_fini(&l.image);
	return status;
}
