/*
 * Each operation of the program is done for real and noted. To make a state,
 * the notes are played into a tree of nodes with two faces, the visible one and
 * the durable one, and the durable one is written out.
 */
#include "tests/crash/crash_fs.h"

#include "common/mem.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEAR_OCTETS 512u
#define FDS_MAX 1024
#define HOLE_OCTETS 4096u

enum kind {
	OP_CREATE,
	OP_MKDIR,
	OP_WRITE,
	OP_TRUNCATE,
	OP_SYNC,
	OP_SYNC_DIR,
	OP_RENAME,
	OP_UNLINK,
	OP_RMDIR,
};

struct op {
	enum kind kind;
	char *path; /* relative to root; of a file: its path when it was opened */
	char *to;
	unsigned file; /* number of the file, from 1 */
	uint64_t at;
	uint8_t *octets;
	size_t n;
};

static struct {
	char root[FILE_PATH_BYTES_MAX];
	struct op *ops;
	size_t n, cap;
	unsigned files;
	unsigned file_of_fd[FDS_MAX];
	char *dir_of_fd[FDS_MAX];
	struct {
		char *path;
		unsigned file;
	} names[65536];
	size_t name_count;
	bool recording;
	unsigned syncs, fail_sync;
} rec;

static const char *
relative(const char *path)
{
	size_t n = strlen(rec.root);

	if (strncmp(path, rec.root, n) != 0)
		return NULL;
	return path[n] == '/' ? path + n + 1 : path[n] == '\0' ? "" : NULL;
}

static struct op *
note(enum kind kind, const char *path)
{
	if (rec.n == rec.cap) {
		rec.cap = rec.cap ? rec.cap * 2 : 1024;
		rec.ops = mem_resize(rec.ops, rec.cap, sizeof *rec.ops);
	}
	rec.ops[rec.n] = (struct op){.kind = kind, .path = path ? mem_copy_str(path, strlen(path)) : NULL};
	return &rec.ops[rec.n++];
}

/* The file that a path names now; 0: none. */
static unsigned *
name_slot(const char *path)
{
	for (size_t i = 0; i < rec.name_count; i++)
		if (strcmp(rec.names[i].path, path) == 0)
			return &rec.names[i].file;
	assert(rec.name_count < sizeof rec.names / sizeof rec.names[0]);
	rec.names[rec.name_count].path = mem_copy_str(path, strlen(path));
	rec.names[rec.name_count].file = 0;
	return &rec.names[rec.name_count++].file;
}

/* A renamed directory takes the names below it along. */
static void
rename_names(const char *from, const char *to)
{
	size_t n = strlen(from), count = rec.name_count;

	for (size_t i = 0; i < count; i++) {
		char path[2 * FILE_PATH_BYTES_MAX];
		unsigned file = rec.names[i].file;

		if (file == 0 || strncmp(rec.names[i].path, from, n) != 0 ||
		    (rec.names[i].path[n] != '/' && rec.names[i].path[n] != '\0'))
			continue;
		(void)snprintf(path, sizeof path, "%s%s", to, rec.names[i].path + n);
		rec.names[i].file = 0;
		*name_slot(path) = file;
	}
}

static int
rec_open(const char *path, int flags, mode_t mode)
{
	const char *name = relative(path);
	bool exists = file_system_ops()->exists(path) == 1;
	int fd = file_system_ops()->open(path, flags, mode);

	if (fd < 0 || name == NULL || !rec.recording)
		return fd;
	assert(fd < FDS_MAX);
	rec.file_of_fd[fd] = 0;
	MEM_FREE(&rec.dir_of_fd[fd]);
	if (flags & O_DIRECTORY) {
		rec.dir_of_fd[fd] = mem_copy_str(name, strlen(name));
		return fd;
	}
	unsigned *slot = name_slot(name);

	if (!exists) {
		*slot = ++rec.files;
		note(OP_CREATE, name)->file = *slot;
	} else if (flags & O_TRUNC) {
		note(OP_TRUNCATE, NULL)->file = *slot;
	}
	rec.file_of_fd[fd] = *slot;
	return fd;
}

static ssize_t
rec_pwrite(int fd, const void *p, size_t n, off_t at)
{
	ssize_t r = file_system_ops()->pwrite(fd, p, n, at);

	if (r > 0 && rec.recording && rec.file_of_fd[fd] != 0) {
		struct op *op = note(OP_WRITE, NULL);

		op->file = rec.file_of_fd[fd];
		op->at = (uint64_t)at;
		op->n = (size_t)r;
		op->octets = mem_new_array((size_t)r, 1);
		memcpy(op->octets, p, (size_t)r);
	}
	return r;
}

static int
rec_ftruncate(int fd, off_t length)
{
	int r = file_system_ops()->ftruncate(fd, length);

	if (r == 0 && rec.recording && rec.file_of_fd[fd] != 0) {
		struct op *op = note(OP_TRUNCATE, NULL);

		op->file = rec.file_of_fd[fd];
		op->at = (uint64_t)length;
	}
	return r;
}

/* The record alone says what is durable; the real sync would only cost time. */
static int
rec_sync(int fd)
{
	if (!rec.recording)
		return 0;
	if (++rec.syncs == rec.fail_sync) {
		errno = EIO;
		return -1;
	}
	if (rec.dir_of_fd[fd] != NULL)
		(void)note(OP_SYNC_DIR, rec.dir_of_fd[fd]);
	else if (rec.file_of_fd[fd] != 0)
		note(OP_SYNC, NULL)->file = rec.file_of_fd[fd];
	return 0;
}

static int
rec_close(int fd)
{
	if (fd >= 0 && fd < FDS_MAX) {
		rec.file_of_fd[fd] = 0;
		MEM_FREE(&rec.dir_of_fd[fd]);
	}
	return file_system_ops()->close(fd);
}

static int
rec_rename(const char *from, const char *to)
{
	int r = file_system_ops()->rename(from, to);

	if (r == 0 && rec.recording && relative(from) != NULL) {
		struct op *op = note(OP_RENAME, relative(from));

		op->to = mem_copy_str(relative(to), strlen(relative(to)));
		rename_names(relative(from), relative(to));
	}
	return r;
}

static int
rec_unlink(const char *path)
{
	int r = file_system_ops()->unlink(path);

	if (r == 0 && rec.recording && relative(path) != NULL) {
		(void)note(OP_UNLINK, relative(path));
		*name_slot(relative(path)) = 0;
	}
	return r;
}

static int
rec_mkdir(const char *path, mode_t mode)
{
	int r = file_system_ops()->mkdir(path, mode);

	if (r == 0 && rec.recording && relative(path) != NULL)
		(void)note(OP_MKDIR, relative(path));
	return r;
}

static int
rec_rmdir(const char *path)
{
	int r = file_system_ops()->rmdir(path);

	if (r == 0 && rec.recording && relative(path) != NULL)
		(void)note(OP_RMDIR, relative(path));
	return r;
}

static ssize_t
rec_pread(int fd, void *p, size_t n, off_t at)
{
	return file_system_ops()->pread(fd, p, n, at);
}

static uint64_t
rec_space(const char *path)
{
	(void)path;
	return UINT64_MAX;
}

void
crash_fs_start(const char *root)
{
	static const struct file_ops ops = {.open = rec_open, .close = rec_close, .pread = rec_pread,
	    .pwrite = rec_pwrite, .ftruncate = rec_ftruncate, .sync = rec_sync, .rename = rec_rename,
	    .unlink = rec_unlink, .mkdir = rec_mkdir, .rmdir = rec_rmdir, .space = rec_space};

	assert(strlen(root) < sizeof rec.root);
	(void)snprintf(rec.root, sizeof rec.root, "%s", root);
	for (size_t i = 0; i < rec.n; i++) {
		free(rec.ops[i].path);
		free(rec.ops[i].to);
		free(rec.ops[i].octets);
	}
	for (size_t i = 0; i < rec.name_count; i++)
		free(rec.names[i].path);
	rec.n = rec.name_count = 0;
	rec.files = rec.syncs = 0;
	rec.recording = true;
	file_use(&ops);
}

void
crash_fs_stop(void)
{
	rec.recording = false;
}

size_t
crash_fs_count(void)
{
	return rec.n;
}

void
crash_fs_fail_sync(unsigned n)
{
	rec.fail_sync = n;
}

/* ---- the state after a cut ---- */

struct change {
	char *name;
	struct node *node; /* NULL: the entry goes */
};

struct node {
	bool is_dir;
	uint8_t *octets; /* a file's, when durable */
	size_t n;
	const struct op **pending; /* writes and truncations since its last sync */
	size_t pending_n, pending_cap;
	struct change *seen; /* a directory's entries as the program sees them */
	size_t seen_n, seen_cap;
	struct change *durable;
	size_t durable_n, durable_cap;
	struct change *changes; /* since its last sync */
	size_t changes_n, changes_cap;
};

static struct node **nodes;
static size_t node_count;

static struct node *
node_new(bool is_dir)
{
	struct node *n = MEM_NEW(struct node);

	n->is_dir = is_dir;
	nodes = mem_resize(nodes, node_count + 1, sizeof(struct node *));
	nodes[node_count++] = n;
	return n;
}

static void
list_set(struct change **list, size_t *n, size_t *cap, const char *name, struct node *node, bool append)
{
	size_t i = append ? *n : 0;

	while (i < *n && strcmp((*list)[i].name, name) != 0)
		i++;
	if (i == *n) {
		if (*n == *cap) {
			*cap = *cap ? *cap * 2 : 16;
			*list = mem_resize(*list, *cap, sizeof **list);
		}
		(*list)[(*n)++].name = mem_copy_str(name, strlen(name));
	}
	(*list)[i].node = node;
}

static void
entry_set(struct node *dir, const char *name, struct node *node)
{
	list_set(&dir->seen, &dir->seen_n, &dir->seen_cap, name, node, false);
	list_set(&dir->changes, &dir->changes_n, &dir->changes_cap, name, node, true);
}

static struct node *
entry_get(const struct node *dir, const char *name, size_t n)
{
	for (size_t i = 0; i < dir->seen_n; i++)
		if (strlen(dir->seen[i].name) == n && memcmp(dir->seen[i].name, name, n) == 0)
			return dir->seen[i].node;
	return NULL;
}

/* The directory of a path and its last component. */
static struct node *
walk(struct node *root, const char *path, const char **last_r)
{
	struct node *dir = root;

	for (const char *slash; (slash = strchr(path, '/')) != NULL; path = slash + 1) {
		dir = entry_get(dir, path, (size_t)(slash - path));
		assert(dir != NULL && dir->is_dir);
	}
	*last_r = path;
	return dir;
}

static uint64_t
next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static void
write_octets(struct node *f, uint64_t at, const uint8_t *p, size_t n)
{
	if (n == 0)
		return;
	if (at + n > f->n) {
		f->octets = mem_resize(f->octets, (size_t)at + n, 1);
		if (at > f->n)
			memset(f->octets + f->n, 0, (size_t)at - f->n);
		f->n = (size_t)at + n;
	}
	memcpy(f->octets + at, p, n);
}

static void
apply_data(struct node *f, const struct op *op, size_t octets)
{
	if (op->kind == OP_WRITE) {
		write_octets(f, op->at, op->octets, octets);
	} else if (op->at < f->n) {
		f->n = (size_t)op->at;
	} else if (op->at > f->n) {
		uint8_t zero = 0;

		write_octets(f, op->at - 1, &zero, 1);
	}
}

static void
sync_file(struct node *f)
{
	for (size_t i = 0; i < f->pending_n; i++)
		apply_data(f, f->pending[i], f->pending[i]->n);
	f->pending_n = 0;
}

static void
sync_dir(struct node *d, size_t count)
{
	for (size_t i = 0; i < count; i++)
		list_set(&d->durable, &d->durable_n, &d->durable_cap, d->changes[i].name, d->changes[i].node, false);
	for (size_t i = 0; i < d->changes_n; i++)
		free(d->changes[i].name);
	d->changes_n = 0;
}

static void
play(struct node *root, struct node **files, const struct op *op)
{
	const char *last, *last_to;
	struct node *dir = op->path ? walk(root, op->path, &last) : NULL;

	switch (op->kind) {
	case OP_CREATE:
		entry_set(dir, last, files[op->file] = node_new(false));
		break;
	case OP_MKDIR:
		entry_set(dir, last, node_new(true));
		break;
	case OP_WRITE:
	case OP_TRUNCATE: {
		struct node *f = files[op->file];

		if (f->pending_n == f->pending_cap) {
			f->pending_cap = f->pending_cap ? f->pending_cap * 2 : 16;
			f->pending = mem_resize(f->pending, f->pending_cap, sizeof(struct op *));
		}
		f->pending[f->pending_n++] = op;
		break;
	}
	case OP_SYNC:
		sync_file(files[op->file]);
		break;
	case OP_SYNC_DIR:
		if (*op->path != '\0')
			dir = entry_get(dir, last, strlen(last));
		sync_dir(dir, dir->changes_n);
		break;
	case OP_RENAME: {
		struct node *to_dir = walk(root, op->to, &last_to);

		entry_set(to_dir, last_to, entry_get(dir, last, strlen(last)));
		entry_set(dir, last, NULL);
		break;
	}
	case OP_UNLINK:
	case OP_RMDIR:
		entry_set(dir, last, NULL);
		break;
	}
}

/* What of the unsynced is there after all. */
static void
settle_file(struct node *f, enum crash_mode mode, uint64_t *random)
{
	for (size_t i = 0; i < f->pending_n && mode != CRASH_NONE; i++) {
		const struct op *op = f->pending[i];
		uint64_t dice = next_random(random) % 4;
		uint64_t cut = (op->at / TEAR_OCTETS + 1 + next_random(random) % 16) * TEAR_OCTETS;

		if (mode == CRASH_ALL || dice >= 2)
			apply_data(f, op, op->n);
		else if (dice == 1 && op->kind == OP_WRITE)
			apply_data(f, op, cut - op->at < op->n ? (size_t)(cut - op->at) : op->n);
	}
	f->pending_n = 0;
}

/* A rename is one change in two entries: never half. */
static size_t
settle_count(const struct node *d, enum crash_mode mode, uint64_t *random)
{
	size_t count = mode == CRASH_ALL ? d->changes_n : mode == CRASH_NONE ? 0 : next_random(random) % (d->changes_n + 1);

	if (count > 0 && count < d->changes_n && d->changes[count].node == NULL &&
	    d->changes[count - 1].node != NULL && strcmp(d->changes[count].name, d->changes[count - 1].name) != 0)
		count++;
	return count;
}

/* Long runs of zeros, which logs are full of, stay holes. */
static void
write_file(int fd, const struct node *n)
{
	static const uint8_t zeros[HOLE_OCTETS];

	assert(fd >= 0);
	for (size_t at = 0; at < n->n; at += HOLE_OCTETS) {
		size_t step = n->n - at < HOLE_OCTETS ? n->n - at : HOLE_OCTETS;

		if (memcmp(n->octets + at, zeros, step) != 0)
			assert(pwrite(fd, n->octets + at, step, (off_t)at) == (ssize_t)step);
	}
	assert(ftruncate(fd, (off_t)n->n) == 0);
	assert(close(fd) == 0);
}

static void
write_out(const struct node *n, const char *path)
{
	char below[2 * FILE_PATH_BYTES_MAX];

	if (!n->is_dir) {
		int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

		write_file(fd, n);
		return;
	}
	(void)mkdir(path, 0700);
	for (size_t i = 0; i < n->durable_n; i++) {
		if (n->durable[i].node == NULL)
			continue;
		(void)snprintf(below, sizeof below, "%s/%s", path, n->durable[i].name);
		write_out(n->durable[i].node, below);
	}
}

static void
nodes_free(void)
{
	for (size_t i = 0; i < node_count; i++) {
		struct node *n = nodes[i];

		for (size_t k = 0; k < n->seen_n; k++)
			free(n->seen[k].name);
		for (size_t k = 0; k < n->durable_n; k++)
			free(n->durable[k].name);
		for (size_t k = 0; k < n->changes_n; k++)
			free(n->changes[k].name);
		free(n->seen);
		free(n->durable);
		free(n->changes);
		free(n->octets);
		free(n->pending);
		free(n);
	}
	node_count = 0;
}

void
crash_fs_make(size_t count, enum crash_mode mode, uint64_t seed, const char *target)
{
	struct node **files = mem_new_array(rec.files + 1, sizeof(struct node *));
	struct node *root = node_new(true);
	uint64_t random = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;

	assert(count <= rec.n);
	for (size_t i = 0; i < count; i++)
		play(root, files, &rec.ops[i]);
	for (size_t i = 0; i < node_count; i++) {
		if (nodes[i]->is_dir)
			sync_dir(nodes[i], settle_count(nodes[i], mode, &random));
		else
			settle_file(nodes[i], mode, &random);
	}
	write_out(root, target);
	nodes_free();
	MEM_FREE(&nodes);
	free(files);
}

bool
crash_fs_is_filler(size_t count)
{
	const struct op *op = count > 0 ? &rec.ops[count - 1] : NULL;

	if (op == NULL || op->kind != OP_WRITE)
		return false;
	for (size_t i = 0; i < op->n; i++)
		if (op->octets[i] != 0)
			return false;
	return true;
}

void
crash_fs_describe(size_t count, char *text_r, size_t size)
{
	static const char *const names[] = {"create", "mkdir", "write", "truncate", "sync", "sync-dir", "rename", "unlink",
	    "rmdir"};
	const struct op *op = count > 0 ? &rec.ops[count - 1] : NULL;

	if (op == NULL)
		(void)snprintf(text_r, size, "nothing");
	else
		(void)snprintf(text_r, size, "%s %s file %u at %llu, %zu octets", names[op->kind], op->path ? op->path : "",
		    op->file, (unsigned long long)op->at, op->n);
}
