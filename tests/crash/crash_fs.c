/*
 * Each operation of the program is done for real and noted. Played in order,
 * the notes make a model: a tree of nodes with two faces, the visible one and
 * the durable one. One model goes along with the recording: it knows which file
 * a path names, and what an evicted file shows. Another one goes along with
 * the cuts: a state is its durable face and a choice of what it has pending.
 */
#include "tests/crash/crash_fs.h"
#include "tests/crash/crash_run.h"

#include "common/mem.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECTOR 512u
#define FDS_MAX 1024
#define HOLE_OCTETS 4096u
#define PATH_BYTES (2 * FILE_PATH_BYTES_MAX)
#define SORTS 512u
#define SORTS_TO_CHOSEN 48u

enum kind {
	OP_CREATE,
	OP_MKDIR,
	OP_WRITE,
	OP_TRUNCATE,
	OP_SYNC,
	OP_SYNC_FAILED,
	OP_SYNC_DIR,
	OP_SYNC_DIR_FAILED,
	OP_RENAME,
	OP_UNLINK,
	OP_RMDIR,
};

struct op {
	enum kind kind;
	char *path; /* relative to root */
	char *to;
	unsigned file; /* number of the file, from 1 */
	uint64_t at;
	uint8_t *octets; /* NULL: zeros */
	size_t n;
	uint64_t seed;
	unsigned sort;
};

/* ---- the model ---- */

struct entry {
	char *name;
	struct node *node; /* NULL: no such entry any more */
};

struct entries {
	struct entry *e;
	size_t n, cap;
};

struct node {
	bool is_dir;
	size_t number; /* in its model */
	unsigned file;
	uint8_t *octets; /* a file's, when durable */
	size_t n, cap;
	const struct op **pending; /* writes and truncations since its last sync */
	size_t pending_n, pending_cap;
	bool lost;	      /* the page cache shows more than will ever be durable */
	uint64_t version;     /* of octets */
	uint64_t made;	      /* version when a state was last made, */
	uint64_t linked;      /* and that of its file in the pool */
	struct entries seen;
	struct entries durable;
	struct entries out; /* while a state is made */
};

/* One or two entries that change together. */
struct change {
	unsigned parts;
	struct {
		struct node *dir;
		char *name;
		struct node *node;
	} part[2];
	bool chosen;
};

struct model {
	struct node **nodes; /* the first one is the root */
	size_t node_count, node_cap;
	struct node **files; /* by number */
	size_t file_cap;
	struct change *changes; /* since the syncs of their directories */
	size_t change_count, change_cap;
	size_t at; /* operations played */
};

struct crash_record {
	char root[FILE_PATH_BYTES_MAX];
	struct op *ops;
	size_t n, cap;
	size_t first; /* the operations before it describe what was there */
	unsigned files;
	struct model live, cuts;
	char pool[CRASH_DIR_BYTES];
	unsigned fail_sync;
	uint64_t fail_seed;
	bool failed;
	size_t kill_after; /* operations; 0: not */
	unsigned kill_odds; /* 0: not */
	unsigned kill_nth;  /* of the chosen sorts; 0: not */
	unsigned kill_name; /* of the changes of names; 0: not */
	uint64_t kill_random;
	unsigned sort_count[SORTS];
	unsigned *file_sort; /* by number of the file */
	bool dead;
	void (*watch)(void *);
	void *watch_arg;
};

static struct crash_record *rec; /* the one that is being made */
static struct {
	unsigned file;
	char *dir;
} fds[FDS_MAX];

static uint64_t
next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static uint64_t
random_of(uint64_t seed)
{
	uint64_t state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;

	(void)next_random(&state);
	return state ? state : 1;
}

static struct node *
node_new(struct model *m, bool is_dir)
{
	struct node *n = MEM_NEW(struct node);

	n->is_dir = is_dir;
	n->number = m->node_count;
	n->version = 1;
	if (m->node_count == m->node_cap) {
		m->node_cap = m->node_cap ? m->node_cap * 2 : 64;
		m->nodes = mem_resize(m->nodes, m->node_cap, sizeof(struct node *));
	}
	m->nodes[m->node_count++] = n;
	return n;
}

static struct entry *
entry_find(const struct entries *list, const char *name, size_t n)
{
	for (size_t i = 0; i < list->n; i++)
		if (strncmp(list->e[i].name, name, n) == 0 && list->e[i].name[n] == '\0')
			return &list->e[i];
	return NULL;
}

static void
entry_set(struct entries *list, const char *name, struct node *node)
{
	struct entry *e = entry_find(list, name, strlen(name));

	if (e == NULL) {
		if (list->n == list->cap) {
			list->cap = list->cap ? list->cap * 2 : 16;
			list->e = mem_resize(list->e, list->cap, sizeof *list->e);
		}
		e = &list->e[list->n++];
		e->name = mem_copy_str(name, strlen(name));
	}
	e->node = node;
}

static void
entries_free(struct entries *list)
{
	for (size_t i = 0; i < list->n; i++)
		free(list->e[i].name);
	free(list->e);
	*list = (struct entries){0};
}

static struct node *
seen(const struct node *dir, const char *name, size_t n)
{
	struct entry *e = entry_find(&dir->seen, name, n);

	return e != NULL ? e->node : NULL;
}

static struct node *
root_of(struct model *m)
{
	return m->node_count > 0 ? m->nodes[0] : node_new(m, true);
}

/* The directory of a path and its last component. */
static struct node *
walk(struct model *m, const char *path, const char **last_r)
{
	struct node *dir = root_of(m);

	for (const char *slash; (slash = strchr(path, '/')) != NULL; path = slash + 1) {
		dir = seen(dir, path, (size_t)(slash - path));
		assert(dir != NULL && dir->is_dir);
	}
	*last_r = path;
	return dir;
}

static struct node *
node_at(struct model *m, const char *path)
{
	const char *last;
	struct node *dir = walk(m, path, &last);

	return *path == '\0' ? dir : seen(dir, last, strlen(last));
}

static struct change *
change_add(struct model *m)
{
	if (m->change_count == m->change_cap) {
		m->change_cap = m->change_cap ? m->change_cap * 2 : 16;
		m->changes = mem_resize(m->changes, m->change_cap, sizeof *m->changes);
	}
	m->changes[m->change_count] = (struct change){.parts = 0};
	return &m->changes[m->change_count++];
}

static void
change_part(struct change *c, struct node *dir, const char *name, struct node *node)
{
	entry_set(&dir->seen, name, node);
	c->part[c->parts].dir = dir;
	c->part[c->parts].name = mem_copy_str(name, strlen(name));
	c->part[c->parts++].node = node;
}

static bool
share_name(const struct change *a, const struct change *b)
{
	for (unsigned i = 0; i < a->parts; i++)
		for (unsigned k = 0; k < b->parts; k++)
			if (a->part[i].dir == b->part[k].dir && strcmp(a->part[i].name, b->part[k].name) == 0)
				return true;
	return false;
}

/* All of a directory's changes become durable, with what they stand on in others. */
static void
sync_dir(struct model *m, const struct node *dir)
{
	size_t kept = 0;

	for (size_t i = m->change_count; i-- > 0;) {
		struct change *c = &m->changes[i];

		c->chosen = c->part[0].dir == dir || (c->parts > 1 && c->part[1].dir == dir);
		for (size_t k = i + 1; k < m->change_count && !c->chosen; k++)
			c->chosen = m->changes[k].chosen && share_name(c, &m->changes[k]);
	}
	for (size_t i = 0; i < m->change_count; i++) {
		struct change *c = &m->changes[i];

		if (!c->chosen) {
			m->changes[kept++] = *c;
			continue;
		}
		for (unsigned k = 0; k < c->parts; k++) {
			entry_set(&c->part[k].dir->durable, c->part[k].name, c->part[k].node);
			free(c->part[k].name);
		}
	}
	m->change_count = kept;
}

static void
write_octets(struct node *f, uint64_t at, const uint8_t *p, size_t n)
{
	if (n == 0)
		return;
	if (at + n > f->cap) {
		f->cap = 2 * ((size_t)at + n);
		f->octets = mem_resize(f->octets, f->cap, 1);
	}
	if (at > f->n)
		memset(f->octets + f->n, 0, (size_t)at - f->n);
	if (at + n > f->n)
		f->n = (size_t)at + n;
	if (p != NULL)
		memcpy(f->octets + at, p, n);
	else
		memset(f->octets + at, 0, n);
}

static void
set_length(struct node *f, uint64_t length)
{
	if (length < f->n)
		f->n = (size_t)length;
	else if (length > f->n)
		write_octets(f, f->n, NULL, (size_t)length - f->n);
}

/* ---- what of the pending is there ---- */

enum fate { FATE_GONE, FATE_TORN, FATE_THERE };

/* Strategies of a seeded choice. */
enum { EACH_BY_ITSELF, WHOLE_FILES, ALL_BUT_ONE, THE_LATER_HALF, THE_LAST, STRATEGIES };

struct choice {
	enum crash_mode mode;
	unsigned strategy;
	uint64_t random;
	uint64_t salt;
	size_t count; /* of everything that is pending */
	size_t spared;
	size_t asked;
};

static struct choice
choice_of(enum crash_mode mode, uint64_t seed, size_t count)
{
	struct choice c = {.mode = mode, .random = random_of(seed), .count = count};

	c.strategy = (unsigned)(next_random(&c.random) % STRATEGIES);
	c.salt = next_random(&c.random);
	c.spared = count ? (size_t)(next_random(&c.random) % count) : 0;
	return c;
}

/* group: a number of the file or directory that it belongs to. */
static enum fate
choose(struct choice *c, uint64_t group)
{
	uint64_t mixed = random_of(c->salt ^ group);
	size_t number = c->asked++;

	if (c->mode != CRASH_RANDOM)
		return c->mode == CRASH_ALL ? FATE_THERE : FATE_GONE;
	switch (c->strategy) {
	case WHOLE_FILES:
		return mixed % 2 ? FATE_THERE : FATE_GONE;
	case ALL_BUT_ONE:
		return number != c->spared ? FATE_THERE : next_random(&c->random) % 2 ? FATE_GONE : FATE_TORN;
	case THE_LAST:
		return number + 1 == c->count ? FATE_THERE : FATE_GONE;
	case THE_LATER_HALF:
		return number > c->spared ? FATE_THERE : number == c->spared ? FATE_TORN : FATE_GONE;
	default:
		mixed = next_random(&c->random) % 4;
		return mixed == 0 ? FATE_GONE : mixed == 1 ? FATE_TORN : FATE_THERE;
	}
}

/* A write, sector by sector. frozen: sectors that stayed as they were before an earlier write stay so. */
static void
settle_write(struct choice *c, const struct op *op, enum fate fate, struct node *to, uint8_t *frozen)
{
	uint64_t how = next_random(&c->random), end = op->at + op->n;
	uint64_t first = op->at / SECTOR, sectors = (end - 1) / SECTOR - first + 1;
	uint64_t edge = next_random(&c->random) % sectors;

	for (uint64_t i = 0; i < sectors; i++) {
		uint64_t from = i == 0 ? op->at : (first + i) * SECTOR;
		uint64_t until = (first + i + 1) * SECTOR < end ? (first + i + 1) * SECTOR : end;
		bool there = fate == FATE_THERE;

		if (fate == FATE_TORN)
			there = how % 3 == 0 ? i < edge : how % 3 == 1 ? i > edge : next_random(&c->random) % 2;
		if (!there || frozen[first + i])
			frozen[first + i] = 1;
		else
			write_octets(to, from, op->octets ? op->octets + (from - op->at) : NULL, (size_t)(until - from));
	}
	/* Grown, with zeros for what is not there. */
	if (c->mode == CRASH_RANDOM && how / 3 % 2 && end > to->n)
		set_length(to, end);
}

/* What the file may be, into to, which is as it was durable. */
static void
settle_file(struct choice *c, const struct node *f, struct node *to)
{
	uint64_t end = 0;
	uint8_t *frozen;

	for (size_t i = 0; i < f->pending_n; i++)
		if (f->pending[i]->at + f->pending[i]->n > end)
			end = f->pending[i]->at + f->pending[i]->n;
	frozen = mem_new_array((size_t)(end / SECTOR) + 2, 1);
	for (size_t i = 0; i < f->pending_n; i++) {
		const struct op *op = f->pending[i];
		enum fate fate = choose(c, f->number);

		if (op->kind == OP_WRITE)
			settle_write(c, op, fate, to, frozen);
		else if (fate == FATE_THERE)
			set_length(to, op->at);
	}
	free(frozen);
}

static void
sync_file(struct node *f)
{
	for (size_t i = 0; i < f->pending_n; i++) {
		const struct op *op = f->pending[i];

		if (op->kind == OP_WRITE)
			write_octets(f, op->at, op->octets, op->n);
		else
			set_length(f, op->at);
	}
	f->version += f->pending_n > 0;
	f->pending_n = 0;
}

static void
sync_file_failed(struct node *f, uint64_t seed)
{
	struct choice c = choice_of(CRASH_RANDOM, seed, f->pending_n);

	settle_file(&c, f, f);
	f->lost = f->lost || f->pending_n > 0;
	f->version++;
	f->pending_n = 0;
}

/* ---- playing the notes ---- */

static void
file_pending(struct node *f, const struct op *op)
{
	if (f->pending_n == f->pending_cap) {
		f->pending_cap = f->pending_cap ? f->pending_cap * 2 : 16;
		f->pending = mem_resize(f->pending, f->pending_cap, sizeof(struct op *));
	}
	f->pending[f->pending_n++] = op;
}

static struct node *
file_new(struct model *m, unsigned number)
{
	if (number >= m->file_cap) {
		size_t cap = 2 * (size_t)number + 64;

		m->files = mem_resize(m->files, cap, sizeof(struct node *));
		m->file_cap = cap;
	}
	m->files[number] = node_new(m, false);
	m->files[number]->file = number;
	return m->files[number];
}

static void
play_name(struct model *m, const struct op *op)
{
	const char *last, *last_to;
	struct node *dir = walk(m, op->path, &last), *to_dir, *node;
	struct change *c = change_add(m);

	switch (op->kind) {
	case OP_CREATE:
		change_part(c, dir, last, file_new(m, op->file));
		break;
	case OP_MKDIR:
		change_part(c, dir, last, node_new(m, true));
		break;
	case OP_RENAME:
		to_dir = walk(m, op->to, &last_to);
		node = seen(dir, last, strlen(last));
		change_part(c, dir, last, NULL);
		change_part(c, to_dir, last_to, node);
		break;
	default:
		change_part(c, dir, last, NULL);
	}
}

static void
play(struct model *m, const struct op *op)
{
	switch (op->kind) {
	case OP_WRITE:
	case OP_TRUNCATE:
		file_pending(m->files[op->file], op);
		break;
	case OP_SYNC:
		sync_file(m->files[op->file]);
		break;
	case OP_SYNC_FAILED:
		sync_file_failed(m->files[op->file], op->seed);
		break;
	case OP_SYNC_DIR:
		sync_dir(m, node_at(m, op->path));
		break;
	case OP_SYNC_DIR_FAILED:
		break;
	default:
		play_name(m, op);
	}
	m->at++;
}

static void
model_free(struct model *m)
{
	for (size_t i = 0; i < m->node_count; i++) {
		struct node *n = m->nodes[i];

		entries_free(&n->seen);
		entries_free(&n->durable);
		free(n->octets);
		free(n->pending);
		free(n);
	}
	for (size_t i = 0; i < m->change_count; i++)
		for (unsigned k = 0; k < m->changes[i].parts; k++)
			free(m->changes[i].part[k].name);
	free(m->nodes);
	free(m->files);
	free(m->changes);
	*m = (struct model){.at = 0};
}

/* ---- recording ---- */

static const char *
relative(const char *path)
{
	size_t n = rec != NULL ? strlen(rec->root) : 0;

	if (rec == NULL || strncmp(path, rec->root, n) != 0)
		return NULL;
	return path[n] == '/' ? path + n + 1 : path[n] == '\0' ? "" : NULL;
}

static char *
copy(const char *text)
{
	return text != NULL ? mem_copy_str(text, strlen(text)) : NULL;
}

/* What a name is, but for the numbers in it. */
static uint64_t
name_sort(const char *path)
{
	bool mail = strncmp(path, "mail", 4) == 0;
	const char *base = strstr(path, "__db");
	uint64_t h = 5381;

	for (; *path != '\0' && path != base; path++)
		if (*path == '/' || (!mail && (*path < '0' || *path > '9')))
			h = h * 33 + (uint64_t)*path;
	return h + mail + (base != NULL ? 2 : 0);
}

static unsigned
sort_of(struct crash_record *r, const struct op *op)
{
	uint64_t name = op->path != NULL ? name_sort(op->path) : r->file_sort[op->file];

	if (op->to != NULL)
		name = name * 31 + name_sort(op->to);
	return (unsigned)(random_of(name * 64 + op->kind * 2u + (op->kind == OP_WRITE && op->octets == NULL)) % SORTS);
}

static bool
is_sync(const struct op *op)
{
	return op->kind >= OP_SYNC && op->kind <= OP_SYNC_DIR_FAILED;
}

/* Beside messages, whose names are many. */
static bool
changes_name(const struct op *op)
{
	return op->path != NULL && strncmp(op->path, "mail", 4) != 0 &&
	    (op->kind == OP_CREATE || op->kind == OP_RENAME || op->kind == OP_UNLINK || op->kind == OP_MKDIR || op->kind == OP_RMDIR);
}

/* Is this the operation that the process dies at? */
static bool
strikes(struct crash_record *r, const struct op *op)
{
	unsigned sort = sort_of(r, op);

	if (r->kill_after > 0)
		return --r->kill_after == 0;
	if (r->kill_name > 0)
		return changes_name(op) && --r->kill_name == 0;
	if (r->kill_nth > 0)
		return random_of(r->kill_random ^ sort) % SORTS_TO_CHOSEN == 0 && --r->kill_nth == 0;
	return r->kill_odds > 0 && next_random(&r->kill_random) % (++r->sort_count[sort] * (uint64_t)r->kill_odds) == 0;
}

/* The models keep pointers to notes; nothing is noted any more when the cuts' one is made. */
static void
note(struct op op)
{
	struct crash_record *r = rec;

	if (r->n == r->cap) {
		struct op *old = r->ops;
		size_t cap = r->cap ? r->cap * 2 : 4096;

		r->ops = mem_new_array(cap, sizeof *r->ops);
		if (old != NULL)
			memcpy(r->ops, old, r->n * sizeof *old);
		for (size_t i = 0; i < r->live.node_count; i++)
			for (size_t k = 0; k < r->live.nodes[i]->pending_n; k++)
				r->live.nodes[i]->pending[k] = r->ops + (r->live.nodes[i]->pending[k] - old);
		free(old);
		r->cap = cap;
	}
	if (op.kind == OP_CREATE) {
		r->file_sort = mem_resize(r->file_sort, op.file + 1, sizeof *r->file_sort);
		r->file_sort[op.file] = (unsigned)name_sort(op.path);
	}
	op.sort = sort_of(r, &op);
	r->dead = r->dead || (!is_sync(&op) && strikes(r, &op));
	op.path = copy(op.path);
	op.to = copy(op.to);
	r->ops[r->n] = op;
	play(&r->live, &r->ops[r->n++]);
	if (r->watch != NULL)
		r->watch(r->watch_arg);
}

static void
note_write(unsigned file, uint64_t at, const void *p, size_t n)
{
	struct op op = {.kind = OP_WRITE, .file = file, .at = at, .n = n};

	if (!mem_is_zero(p, n)) {
		op.octets = mem_resize(NULL, n, 1);
		memcpy(op.octets, p, n);
	}
	note(op);
}

/* False when the process is dead: then nothing is done. */
static bool
alive(void)
{
	if (rec == NULL)
		return true;
	if (rec->dead)
		errno = EIO;
	return !rec->dead;
}

/* A link that a state was made with becomes a file of its own. */
void
crash_fs_unshare(const char *path)
{
	static uint8_t room[1 << 16];
	struct stat st;
	ssize_t n;

	if (lstat(path, &st) != 0 || !S_ISREG(st.st_mode) || st.st_nlink < 2)
		return;
	int from = open(path, O_RDONLY | O_CLOEXEC);
	int gone = unlink(path);
	int to = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	assert(from >= 0 && gone == 0 && to >= 0);
	while ((n = read(from, room, sizeof room)) > 0)
		assert(write(to, room, (size_t)n) == n);
	close(from);
	close(to);
}

static int
rec_open(const char *path, int flags, mode_t mode)
{
	const char *name = relative(path);
	bool exists = access(path, F_OK) == 0, writes = (flags & O_ACCMODE) != O_RDONLY;
	int fd;

	if (((flags & O_CREAT && !exists) || flags & O_TRUNC) && !alive())
		return -1;
	if (writes && exists)
		crash_fs_unshare(path);
	fd = file_system_ops()->open(path, flags, mode);
	if (fd < 0 || name == NULL)
		return fd;
	assert(fd < FDS_MAX);
	fds[fd].file = 0;
	MEM_FREE(&fds[fd].dir);
	if (flags & O_DIRECTORY) {
		fds[fd].dir = copy(name);
		return fd;
	}
	if (!exists)
		note((struct op){.kind = OP_CREATE, .path = (char *)(uintptr_t)name, .file = ++rec->files});
	struct node *node = node_at(&rec->live, name);

	assert(node != NULL && !node->is_dir);
	if (exists && flags & O_TRUNC)
		note((struct op){.kind = OP_TRUNCATE, .file = node->file});
	fds[fd].file = node->file;
	return fd;
}

static unsigned
file_of(int fd)
{
	return rec != NULL && fd >= 0 && fd < FDS_MAX ? fds[fd].file : 0;
}

static ssize_t
rec_pwrite(int fd, const void *p, size_t n, off_t at)
{
	if (!alive())
		return -1;
	ssize_t r = file_system_ops()->pwrite(fd, p, n, at);

	if (r > 0 && file_of(fd) != 0)
		note_write(file_of(fd), (uint64_t)at, p, (size_t)r);
	return r;
}

static int
rec_ftruncate(int fd, off_t length)
{
	if (!alive())
		return -1;
	int r = file_system_ops()->ftruncate(fd, length);

	if (r == 0 && file_of(fd) != 0)
		note((struct op){.kind = OP_TRUNCATE, .file = file_of(fd), .at = (uint64_t)length});
	return r;
}

static int
rec_allocate(int fd, off_t length)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		return -1;
	return st.st_size >= length ? 0 : rec_ftruncate(fd, length);
}

/* The record alone says what is durable; the real sync would only cost time. */
static int
rec_sync(int fd)
{
	char *dir = fd >= 0 && fd < FDS_MAX ? fds[fd].dir : NULL;

	if (!alive())
		return -1;
	if (rec == NULL || (dir == NULL && file_of(fd) == 0))
		return 0;
	bool fails = rec->fail_sync > 0 && --rec->fail_sync == 0;
	struct op op = {.kind = fails ? OP_SYNC_FAILED : OP_SYNC, .file = file_of(fd), .seed = rec->fail_seed};

	if (dir != NULL)
		op = (struct op){.kind = fails ? OP_SYNC_DIR_FAILED : OP_SYNC_DIR, .path = dir};
	bool dies = strikes(rec, &op);

	if (dies && next_random(&rec->kill_random) % 2) {
		rec->dead = true;
		return alive() ? 0 : -1;
	}
	rec->failed = rec->failed || fails;
	note(op);
	rec->dead = dies;
	if (fails)
		errno = EIO;
	return fails ? -1 : 0;
}

static int
rec_close(int fd)
{
	if (fd >= 0 && fd < FDS_MAX) {
		fds[fd].file = 0;
		MEM_FREE(&fds[fd].dir);
	}
	return file_system_ops()->close(fd);
}

static int
rec_rename(const char *from, const char *to)
{
	if (!alive())
		return -1;
	int r = file_system_ops()->rename(from, to);

	if (r == 0 && relative(from) != NULL)
		note((struct op){.kind = OP_RENAME, .path = (char *)(uintptr_t)relative(from),
		    .to = (char *)(uintptr_t)relative(to)});
	return r;
}

static int
rec_name(int (*fn)(const char *), enum kind kind, const char *path)
{
	if (!alive())
		return -1;
	int r = fn(path);

	if (r == 0 && relative(path) != NULL)
		note((struct op){.kind = kind, .path = (char *)(uintptr_t)relative(path)});
	return r;
}

static int
rec_unlink(const char *path)
{
	return rec_name(file_system_ops()->unlink, OP_UNLINK, path);
}

static int
rec_rmdir(const char *path)
{
	return rec_name(file_system_ops()->rmdir, OP_RMDIR, path);
}

static int
rec_mkdir(const char *path, mode_t mode)
{
	if (!alive())
		return -1;
	int r = file_system_ops()->mkdir(path, mode);

	if (r == 0 && relative(path) != NULL)
		note((struct op){.kind = OP_MKDIR, .path = (char *)(uintptr_t)relative(path)});
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

/* What is dirty stays in the cache; what a failed sync left as clean is read from the disk again. */
static void
rec_evict(const char *path)
{
	struct node *f = relative(path) != NULL ? node_at(&rec->live, relative(path)) : NULL;
	struct node now = {.is_dir = false};

	if (f == NULL || f->is_dir || !f->lost)
		return;
	write_octets(&now, 0, f->octets, f->n);
	now.pending = f->pending;
	now.pending_n = f->pending_n;
	sync_file(&now);
	int to = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);

	assert(to >= 0 && pwrite(to, now.octets, now.n, 0) == (ssize_t)now.n);
	close(to);
	free(now.octets);
	f->lost = false;
}

static const struct file_ops ops = {.open = rec_open, .close = rec_close, .pread = rec_pread, .pwrite = rec_pwrite,
    .ftruncate = rec_ftruncate, .allocate = rec_allocate, .sync = rec_sync, .rename = rec_rename, .unlink = rec_unlink,
    .mkdir = rec_mkdir, .rmdir = rec_rmdir, .space = rec_space, .evict = rec_evict};

/* Notes what is there already, as durable. */
static void
note_tree(const char *path)
{
	const char *name = relative(path);
	struct dirent **list;
	int n = scandir(path, &list, NULL, alphasort);

	assert(n >= 0);
	for (int i = 0; i < n; i++) {
		char below[PATH_BYTES];
		struct stat st;
		bool dots = strcmp(list[i]->d_name, ".") == 0 || strcmp(list[i]->d_name, "..") == 0;

		(void)snprintf(below, sizeof below, "%s/%s", path, list[i]->d_name);
		free(list[i]);
		if (dots)
			continue;
		int failed = lstat(below, &st);

		assert(failed == 0);
		if (S_ISDIR(st.st_mode)) {
			note((struct op){.kind = OP_MKDIR, .path = (char *)(uintptr_t)relative(below)});
			note_tree(below);
			continue;
		}
		uint8_t *octets = mem_resize(NULL, (size_t)st.st_size + 1, 1);
		int fd = open(below, O_RDONLY | O_CLOEXEC);
		ssize_t got = pread(fd, octets, (size_t)st.st_size, 0);

		assert(got == st.st_size);
		close(fd);
		note((struct op){.kind = OP_CREATE, .path = (char *)(uintptr_t)relative(below), .file = ++rec->files});
		note_write(rec->files, 0, octets, (size_t)got);
		note((struct op){.kind = OP_SYNC, .file = rec->files});
		free(octets);
	}
	free(list);
	note((struct op){.kind = OP_SYNC_DIR, .path = (char *)(uintptr_t)name});
}

struct crash_record *
crash_record_start(const char *root)
{
	struct crash_record *r = MEM_NEW(struct crash_record);

	assert(rec == NULL && strlen(root) < sizeof r->root);
	(void)snprintf(r->root, sizeof r->root, "%s", root);
	rec = r;
	note_tree(root);
	r->first = r->n;
	file_use(&ops);
	return r;
}

void
crash_record_stop(void)
{
	rec = NULL;
}

void
crash_fs_plain(void)
{
	assert(rec == NULL);
	file_use(&ops);
}

size_t
crash_record_count(const struct crash_record *r)
{
	return r->n - r->first;
}

void
crash_record_watch(struct crash_record *r, void (*fn)(void *arg), void *arg)
{
	r->watch = fn;
	r->watch_arg = arg;
}

void
crash_record_fail_sync(struct crash_record *r, unsigned n, uint64_t seed)
{
	r->fail_sync = n;
	r->fail_seed = seed;
	r->failed = false;
}

bool
crash_record_failed(const struct crash_record *r)
{
	return r->failed;
}

void
crash_record_kill(struct crash_record *r, size_t n)
{
	r->kill_after = n;
	r->kill_random = random_of(n);
}

void
crash_record_kill_by_sort(struct crash_record *r, unsigned odds, uint64_t seed)
{
	r->kill_odds = odds;
	r->kill_random = random_of(seed);
	memset(r->sort_count, 0, sizeof r->sort_count);
}

void
crash_record_kill_at_sort(struct crash_record *r, unsigned nth, uint64_t seed)
{
	r->kill_nth = nth;
	r->kill_random = random_of(seed);
}

void
crash_record_kill_at_name(struct crash_record *r, unsigned nth)
{
	r->kill_name = nth;
}

bool
crash_record_died(const struct crash_record *r)
{
	return r->dead;
}

void
crash_record_revive(struct crash_record *r)
{
	r->dead = false;
	r->kill_after = r->kill_odds = r->kill_nth = r->kill_name = 0;
}

/* ---- the state after a cut ---- */

/* Long runs of zeros, which logs are full of, stay holes. */
static void
write_file(const char *path, const struct node *n)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	assert(fd >= 0);
	for (size_t at = 0; at < n->n; at += HOLE_OCTETS) {
		size_t step = n->n - at < HOLE_OCTETS ? n->n - at : HOLE_OCTETS;

		if (!mem_is_zero(n->octets + at, step))
			assert(pwrite(fd, n->octets + at, step, (off_t)at) == (ssize_t)step);
	}
	assert(ftruncate(fd, (off_t)n->n) == 0);
	assert(close(fd) == 0);
}

static void
pool_path(const struct crash_record *r, unsigned file, char *path, size_t size)
{
	(void)snprintf(path, size, "%s/%u", r->pool, file);
}

/* A file that stays as it is from state to state is written once and linked. */
static void
put_durable(struct crash_record *r, struct node *n, const char *path)
{
	char pooled[PATH_BYTES];

	if (n->made != n->version) {
		n->made = n->version;
		write_file(path, n);
		return;
	}
	if (r->pool[0] == '\0')
		crash_dir_make(r->pool);
	pool_path(r, n->file, pooled, sizeof pooled);
	if (n->linked != n->version) {
		(void)unlink(pooled);
		write_file(pooled, n);
		n->linked = n->version;
	}
	int failed = link(pooled, path);

	assert(failed == 0);
}

static void
put_settled(struct choice *c, const struct node *n, const char *path)
{
	struct node to = {.is_dir = false};

	write_octets(&to, 0, n->octets, n->n);
	settle_file(c, n, &to);
	write_file(path, &to);
	free(to.octets);
}

static void
put_node(struct crash_record *r, struct choice *c, struct node *n, const char *path)
{
	char below[PATH_BYTES];

	if (!n->is_dir) {
		if (n->pending_n > 0)
			put_settled(c, n, path);
		else
			put_durable(r, n, path);
		return;
	}
	(void)mkdir(path, 0700);
	for (size_t i = 0; i < n->out.n; i++) {
		if (n->out.e[i].node == NULL)
			continue;
		(void)snprintf(below, sizeof below, "%s/%s", path, n->out.e[i].name);
		put_node(r, c, n->out.e[i].node, below);
	}
}

/* The entries that are there: the durable ones, and of the changes those that were chosen with all that they stand on. */
static void
settle_dirs(struct model *m, struct choice *c)
{
	for (size_t i = 0; i < m->node_count; i++) {
		struct node *n = m->nodes[i];

		for (size_t k = 0; k < n->durable.n; k++)
			entry_set(&n->out, n->durable.e[k].name, n->durable.e[k].node);
	}
	for (size_t i = 0; i < m->change_count; i++) {
		struct change *change = &m->changes[i];

		change->chosen = choose(c, change->part[0].dir->number) == FATE_THERE;
		for (size_t k = 0; k < i && change->chosen; k++)
			change->chosen = m->changes[k].chosen || !share_name(change, &m->changes[k]);
		for (unsigned k = 0; k < change->parts && change->chosen; k++)
			entry_set(&change->part[k].dir->out, change->part[k].name, change->part[k].node);
	}
}

void
crash_record_make(struct crash_record *r, size_t count, enum crash_mode mode, uint64_t seed, const char *target)
{
	struct model *m = &r->cuts;
	size_t pending = 0;

	assert(rec == NULL && count + r->first <= r->n);
	if (m->at > count + r->first)
		model_free(m);
	while (m->at < count + r->first)
		play(m, &r->ops[m->at]);
	for (size_t i = 0; i < m->node_count; i++)
		pending += m->nodes[i]->pending_n;
	struct choice c = choice_of(mode, seed, pending + m->change_count);

	settle_dirs(m, &c);
	put_node(r, &c, root_of(m), target);
	for (size_t i = 0; i < m->node_count; i++)
		entries_free(&m->nodes[i]->out);
}

void
crash_record_free(struct crash_record **record)
{
	struct crash_record *r = *record;
	char path[PATH_BYTES];

	if (r == NULL)
		return;
	assert(rec != r);
	for (unsigned i = 1; i <= r->files && r->pool[0] != '\0'; i++) {
		pool_path(r, i, path, sizeof path);
		(void)unlink(path);
	}
	if (r->pool[0] != '\0')
		(void)rmdir(r->pool);
	model_free(&r->live);
	model_free(&r->cuts);
	for (size_t i = 0; i < r->n; i++) {
		free(r->ops[i].path);
		free(r->ops[i].to);
		free(r->ops[i].octets);
	}
	free(r->ops);
	free(r->file_sort);
	MEM_FREE(record);
}

/* What is there to be seen changes with all but syncs, what is durable with syncs only. */
bool
crash_record_is_same(const struct crash_record *r, size_t count, enum crash_mode mode)
{
	const struct op *op = count > 0 ? &r->ops[r->first + count - 1] : NULL;

	if (op == NULL || op->kind == OP_SYNC_FAILED)
		return false;
	return mode == CRASH_ALL ? is_sync(op) : mode == CRASH_NONE && !is_sync(op);
}

size_t
crash_record_moment_by_sort(const struct crash_record *r, size_t first, size_t last, uint64_t seed)
{
	unsigned count[SORTS] = {0}, sorts = 0, chosen = 0;
	uint64_t random = random_of(seed);

	for (size_t i = first; i < last; i++)
		sorts += count[r->ops[r->first + i].sort]++ == 0;
	if (sorts == 0)
		return first;
	for (uint64_t k = next_random(&random) % sorts + 1; k > 0; chosen++)
		k -= count[chosen] > 0;
	chosen--;
	uint64_t nth = next_random(&random) % count[chosen];
	size_t at = first;

	for (;; at++)
		if (r->ops[r->first + at].sort == chosen && nth-- == 0)
			break;
	return at + (next_random(&random) % 4 != 0);
}

bool
crash_record_has_failure(const struct crash_record *r, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (r->ops[r->first + i].kind == OP_SYNC_FAILED)
			return true;
	return false;
}

bool
crash_record_is_filler(const struct crash_record *r, size_t count)
{
	const struct op *op = count > 0 ? &r->ops[r->first + count - 1] : NULL;

	return op != NULL && op->kind == OP_WRITE && op->octets == NULL;
}

void
crash_record_describe(const struct crash_record *r, size_t count, char *text_r, size_t size)
{
	static const char *const names[] = {"create", "mkdir", "write", "truncate", "sync", "failed sync", "sync of directory",
	    "failed sync of directory", "rename", "unlink", "rmdir"};
	const struct op *op = count > 0 ? &r->ops[r->first + count - 1] : NULL;

	if (op == NULL)
		(void)snprintf(text_r, size, "nothing");
	else
		(void)snprintf(text_r, size, "%s %s%s%s file %u at %llu, %zu octets", names[op->kind],
		    op->path ? op->path : "", op->to ? " to " : "", op->to ? op->to : "", op->file,
		    (unsigned long long)op->at, op->n);
}
