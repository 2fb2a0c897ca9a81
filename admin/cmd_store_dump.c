/*
 * mailstead store dump: the keeper writes the text into a file of ours between its other requests; a copy of the
 * messages is made from the descriptors that it gives. Without a server a child reads the account's directory itself.
 */
#include "admin/cmd_store.h"

#include "admin/directory_request.h"
#include "admin/dump_objects.h"
#include "admin/progress.h"
#include "common/loop.h"
#include "common/memfd.h"
#include "store/dump.h"
#include "store/file.h"
#include "store/load.h"
#include "store/object.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATH_BYTES_MAX FILE_PATH_BYTES_MAX
#define COPY_BYTES 65536u
#define DUMP_STEP_BYTES (4u << 20)

struct dump_call {
	const struct command_call *call;
	const char *address;
	const char *to;	      /* NULL: standard output */
	const char *messages; /* NULL: no copy of them */
	char part[PATH_BYTES_MAX];
	int fd;
	uint64_t count;
	struct progress progress;
};

static enum command_status
failed(const struct err *e)
{
	command_error("%s (%s)", e->client, e->detail);
	return e->class == ERR_TEMP ? COMMAND_TEMPORARY : COMMAND_REFUSED;
}

static enum command_status
failed_file(const char *path)
{
	command_error("%s: %s", path, strerror(errno));
	return COMMAND_REFUSED;
}

/* ---- where the text goes ---- */

static enum command_status
open_output(struct dump_call *d)
{
	struct stat st;

	if (d->to == NULL) {
		FILE *f = tmpfile();

		d->fd = f != NULL ? fcntl(fileno(f), F_DUPFD_CLOEXEC, 3) : -1;
		if (f != NULL)
			(void)fclose(f);
		return d->fd >= 0 ? COMMAND_OK : failed_file("a temporary file");
	}
	/* What gives way to the dump is a dump: no device, no link. */
	if (lstat(d->to, &st) == 0 && !S_ISREG(st.st_mode)) {
		command_error("%s: is there, and no file; without FILE the dump goes to standard output", d->to);
		return COMMAND_REFUSED;
	}
	if ((size_t)snprintf(d->part, sizeof d->part, "%s.part", d->to) >= sizeof d->part) {
		command_error("%s: the name is too long", d->to);
		return COMMAND_REFUSED;
	}
	/* Of a run that was killed, or put there by somebody else. */
	(void)unlink(d->part);
	d->fd = open(d->part, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	return d->fd >= 0 ? COMMAND_OK : failed_file(d->part);
}

static enum command_status
print_output(const struct dump_call *d)
{
	uint8_t room[COPY_BYTES];
	uint64_t at = 0;
	int64_t got;
	struct err e;

	while ((got = memfd_read(d->fd, at, room, sizeof room, &e)) > 0) {
		if (fwrite(room, 1, (size_t)got, stdout) != (size_t)got)
			break;
		at += (uint64_t)got;
	}
	if (got < 0)
		return failed(&e);
	return command_output_end();
}

/* Puts the file in place, or takes it away. */
static enum command_status
close_output(struct dump_call *d, enum command_status status)
{
	if (status == COMMAND_OK && d->to == NULL)
		status = print_output(d);
	if (status == COMMAND_OK && d->to != NULL && (fsync(d->fd) < 0 || rename(d->part, d->to) < 0))
		status = failed_file(d->to);
	if (status != COMMAND_OK && d->to != NULL && d->fd >= 0)
		(void)unlink(d->part);
	if (d->fd >= 0)
		(void)close(d->fd);
	return status;
}

/* ---- online ---- */

static enum command_status
ask_dump(struct dump_call *d, struct command_link *keeper)
{
	static struct msg reply;
	enum command_status status = COMMAND_SEND(keeper, STORE_DUMP, .id = command_id(), .file = d->fd);

	while (status == COMMAND_OK) {
		status = command_receive_any(keeper, COMMAND_WAIT_MS, &reply);
		if (status != COMMAND_OK || reply.type != MSG_STORE_PROGRESS)
			break;
		progress_step(&d->progress, "dump", reply.u.STORE_PROGRESS.done, reply.u.STORE_PROGRESS.total);
	}
	progress_end(&d->progress);
	if (status == COMMAND_OK && reply.type != MSG_STORE_DUMP_REPLY)
		return COMMAND_UNREACHABLE;
	if (status != COMMAND_OK)
		return status;
	d->count = reply.u.STORE_DUMP_REPLY.messages;
	return command_outcome(reply.u.STORE_DUMP_REPLY.class, reply.u.STORE_DUMP_REPLY.text);
}

/* Where the objects of a copy come from: the keeper, or the account's directory. */
struct object_source {
	struct command_link *keeper;
	const char *directory;
};

/* Descriptors of n objects, at most 64; -1 for one that is not there. */
static enum command_status
get_objects(const struct object_source *source, const struct load_object *list, size_t n, int *fds_r)
{
	static struct msg reply;
	const struct msg_STORE_OBJECTS_REPLY *r = &reply.u.STORE_OBJECTS_REPLY;
	uint8_t ids[64 * STORE_OBJECT_ID_BYTES];
	enum command_status status;
	unsigned next = 0;

	if (source->keeper == NULL) {
		for (size_t i = 0; i < n; i++)
			fds_r[i] = object_open_any(source->directory, list[i].id, NULL);
		return COMMAND_OK;
	}
	for (size_t i = 0; i < n; i++)
		memcpy(ids + i * STORE_OBJECT_ID_BYTES, list[i].id, STORE_OBJECT_ID_BYTES);
	status = COMMAND_SEND(source->keeper, STORE_OBJECTS, .id = command_id(), .ids = slice_of(ids, n * STORE_OBJECT_ID_BYTES));
	if (status == COMMAND_OK)
		status = command_receive_fds(source->keeper, MSG_STORE_OBJECTS_REPLY, &reply);
	if (status == COMMAND_OK)
		status = command_outcome(r->class, SLICE("the messages cannot be read; the log says why"));
	for (size_t i = 0; i < n; i++)
		fds_r[i] = status == COMMAND_OK && !(r->missing >> i & 1) && next < r->objects.n ? r->objects.fd[next++] : -1;
	return status;
}

/* One object into the copy. 1: done; 0: it is not there or not what its name says; -1. */
static int
copy_object(const char *to, const struct load_object *o, int fd, struct err *e)
{
	uint8_t sha256[STORE_SHA256_BYTES];
	uint64_t bytes;

	if (fd < 0)
		return 0;
	if (object_hash(fd, sha256, &bytes, e) < 0)
		return -1;
	if (bytes != o->size || !object_id_fits(o->id, sha256))
		return 0;
	return object_write(to, object_number(o->id), fd, bytes, sha256, e) < 0 ? -1 : 1;
}

static int
sync_copy(const char *to, struct err *e)
{
	char mail[PATH_BYTES_MAX];

	file_path(mail, to, "mail");
	for (unsigned shard = 0; shard < OBJECT_SHARDS; shard++) {
		char dir[PATH_BYTES_MAX], name[8];

		(void)snprintf(name, sizeof name, "%02x", shard);
		file_path(dir, mail, name);
		if (access(dir, F_OK) == 0 && object_sync_shard(to, shard, e) < 0)
			return -1;
	}
	return file_sync_dir(mail, e) < 0 || file_sync_dir(to, e) < 0 ? -1 : 0;
}

static enum command_status
copy_objects(struct dump_call *d, const struct object_source *source, const struct load_object *list, size_t n)
{
	enum command_status status = COMMAND_OK;
	size_t missing = 0;
	struct err e;
	int fds[64];

	for (size_t at = 0; status == COMMAND_OK && at < n; at += 64) {
		size_t batch = n - at < 64 ? n - at : 64;

		progress_step(&d->progress, "messages", at, n);
		status = get_objects(source, list + at, batch, fds);
		for (size_t i = 0; i < batch; i++) {
			int r = status == COMMAND_OK ? copy_object(d->messages, &list[at + i], fds[i], &e) : 1;

			if (fds[i] >= 0)
				(void)close(fds[i]);
			if (r < 0)
				status = failed(&e);
			missing += r == 0;
		}
	}
	progress_end(&d->progress);
	if (status == COMMAND_OK && sync_copy(d->messages, &e) < 0)
		status = failed(&e);
	if (status == COMMAND_OK && missing > 0) {
		command_error("%zu messages of the dump are missing or damaged; `mailstead store check --deep` names them", missing);
		status = COMMAND_REFUSED;
	}
	return status;
}

static enum command_status
make_copy(const char *to)
{
	struct err e;
	bool made;

	if (file_mkdir(to, &made, &e) == 0 && object_init(to, &e) == 0)
		return COMMAND_OK;
	command_error("%s: %s", to, e.detail);
	return COMMAND_REFUSED;
}

static enum command_status
copy_messages(struct dump_call *d, const struct object_source *source)
{
	struct load_object *list = NULL;
	size_t n;
	enum command_status status = dump_objects("the dump", d->fd, &list, &n);

	if (status == COMMAND_OK)
		status = make_copy(d->messages);
	if (status == COMMAND_OK)
		status = copy_objects(d, source, list, n);
	free(list);
	return status;
}

static enum command_status
dump_online(struct dump_call *d)
{
	struct object_source source = {.keeper = NULL};
	enum command_status status = account_keeper(d->call, d->address, NULL, &source.keeper);

	if (status == COMMAND_OK)
		status = ask_dump(d, source.keeper);
	if (status == COMMAND_OK && d->messages != NULL)
		status = copy_messages(d, &source);
	command_disconnect(&source.keeper);
	return status;
}

/* ---- without a server ---- */

static enum command_status
dump_index(struct dump_call *c, struct index *ix)
{
	struct dump *d = dump_begin(ix, c->fd);
	uint64_t total;
	struct err e;
	int r;

	while ((r = dump_step(d, DUMP_STEP_BYTES, &e)) > 0)
		progress_step(&c->progress, "dump", dump_done(d, &total), total);
	progress_end(&c->progress);
	c->count = dump_done(d, &total);
	dump_free(&d);
	return r == 0 ? COMMAND_OK : failed(&e);
}

/* In the account's directory, as its owner. */
static enum command_status
dump_as_owner(struct dump_call *d)
{
	struct command_link *hold;
	struct index *ix = NULL;
	struct err e;
	enum command_status status = account_hold(d->call, d->address, &hold);

	if (status != COMMAND_OK)
		return status;
	file_hook_db();
	if (index_open(".", clock_wall_us() / 1000000, &ix, &e) < 0)
		return failed(&e);
	status = dump_index(d, ix);
	index_close(&ix);
	return status;
}

/* By a child, which becomes the account's owner: this process may have to be root to put files where the operator wants them. */
static enum command_status
dump_by_child(struct dump_call *d)
{
	uint64_t *count = mmap(NULL, sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	enum command_status status = COMMAND_TEMPORARY;
	int ended = 0;
	pid_t pid;

	if (count == MAP_FAILED)
		return failed_file("memory");
	(void)fflush(NULL);
	pid = fork();
	if (pid == 0) {
		status = dump_as_owner(d);
		*count = d->count;
		_exit((int)status);
	}
	while (pid > 0 && waitpid(pid, &ended, 0) < 0 && errno == EINTR)
		continue;
	if (pid > 0 && WIFEXITED(ended))
		status = (enum command_status)WEXITSTATUS(ended);
	else
		command_error("the dump was not written");
	d->count = *count;
	(void)munmap(count, sizeof *count);
	return status;
}

static enum command_status
dump_offline(struct dump_call *d)
{
	char directory[PATH_BYTES_MAX];
	struct object_source source = {.directory = directory};
	enum command_status status = dump_by_child(d);
	int n = snprintf(directory, sizeof directory, "%s/accounts/%s", config_string(d->call->config, OPT_STATE_DIR), d->address);

	if (n < 0 || (size_t)n >= sizeof directory)
		status = COMMAND_REFUSED;
	return status == COMMAND_OK && d->messages != NULL ? copy_messages(d, &source) : status;
}

static enum command_status
print_count(const struct dump_call *d)
{
	enum command_status status = COMMAND_OK;

	if (d->call->json) {
		json_t *row = json_pack("{sI}", "messages", (json_int_t)d->count);

		status = command_print_json(row);
		json_decref(row);
	} else {
		printf("%llu messages\n", (unsigned long long)d->count);
	}
	return status;
}

enum command_status
store_dump(const struct command_call *call)
{
	struct dump_call d = {.call = call, .fd = -1};
	enum command_status status;
	uint64_t number;
	int argc = call->argc;

	if (!option_value(&argc, call->argv, "--with-messages", &d.messages))
		return command_usage(call, "--with-messages takes a directory");
	status = option_end(call, argc, call->argv, 1, 2);
	d.address = call->argv[0];
	if (status != COMMAND_OK)
		return status;
	d.to = argc > 1 ? call->argv[1] : NULL;
	progress_begin(&d.progress, call);
	status = open_output(&d);
	if (status == COMMAND_OK)
		status = slice_u64(slice_str(d.address), UINT64_MAX, &number) ? dump_offline(&d) : dump_online(&d);
	status = close_output(&d, status);
	return status == COMMAND_OK && d.to != NULL ? print_count(&d) : status;
}
