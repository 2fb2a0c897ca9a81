/*
 * What is undone after a failed sync is kept while the program runs: of each
 * write and truncation the octets that were there before, of each new or
 * renamed entry its name, until a sync covers it.
 */
#include "tests/fault/fault_fs.h"

#include "common/mem.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#define FDS_MAX 1024
#define EVICTED_MAX 256
#define FILL_EVERY 64

enum call {
	CALL_OPEN,
	CALL_CREATE, /* an open that makes a file */
	CALL_CLOSE,
	CALL_PREAD,
	CALL_READ,
	CALL_PWRITE,
	CALL_FTRUNCATE,
	CALL_ALLOCATE,
	CALL_SYNC,
	CALL_RENAME,
	CALL_UNLINK,
	CALL_MKDIR,
	CALL_RMDIR,
	CALL_EXISTS,
	CALL_LIST,
	CALLS
};

#define BIT(call) (1u << (call))
#define BITS_IO (BIT(CALL_PREAD) | BIT(CALL_READ) | BIT(CALL_PWRITE))
#define BITS_ROOM                                                                                  \
	(BIT(CALL_CREATE) | BIT(CALL_PWRITE) | BIT(CALL_FTRUNCATE) | BIT(CALL_ALLOCATE) | BIT(CALL_RENAME) | BIT(CALL_MKDIR))

static const char *const call_names[CALLS] = {"open", "create", "close", "pread", "read", "pwrite", "ftruncate", "allocate",
    "sync", "rename", "unlink", "mkdir", "rmdir", "exists", "list"};

static const struct {
	const char *name;
	int error;
	unsigned calls;
} kinds[FAULT_KINDS] = {
    [FAULT_EIO] = {"eio", EIO, BIT(CALLS) - 1},
    [FAULT_ENOSPC] = {"enospc", ENOSPC, BITS_ROOM},
    [FAULT_EDQUOT] = {"edquot", EDQUOT, BITS_ROOM},
    [FAULT_EMFILE] = {"emfile", EMFILE, BIT(CALL_OPEN) | BIT(CALL_CREATE) | BIT(CALL_LIST)},
    [FAULT_EINTR] = {"eintr", EINTR, BITS_IO | BIT(CALL_OPEN) | BIT(CALL_CREATE)},
    [FAULT_SHORT] = {"short", 0, BITS_IO},
    [FAULT_SYNC] = {"sync", 0, BIT(CALL_SYNC)},
    [FAULT_SECTOR] = {"sector", EIO, BIT(CALL_PREAD) | BIT(CALL_READ)},
};

struct undo {
	struct undo *before;
	ino_t file; /* whose octets these are; or of the directory */
	int fd;	    /* a descriptor of the file; -1: an entry */
	off_t size; /* that it had */
	off_t at;
	uint8_t *octets;
	size_t n;
	char *made;	/* an entry: its name now, */
	char *was;	/* and before; NULL: there was none */
	bool lost;
};

/* The first failure; shared with processes that are forked while calls fail. */
struct shot {
	bool fired;
	char where[FILE_PATH_BYTES_MAX + 32];
};

static struct {
	char root[FILE_PATH_BYTES_MAX];
	enum fault_kind kind;
	unsigned at, calls, reads, fills;
	bool on, from_then_on, paused, sync_failed, full_next;
	struct shot *shot;
	char *path_of_fd[FDS_MAX];
	ino_t bad_file; /* the sector's, whatever its name is; 0: none */
	off_t bad_at;
	struct undo *undo;
	char *evicted[EVICTED_MAX];
	size_t evicted_count;
	bool read_early;
} f;

const char *
fault_kind_name(enum fault_kind kind)
{
	return kinds[kind].name;
}

bool
fault_only_once(enum fault_kind kind)
{
	return kind == FAULT_EINTR || kind == FAULT_SECTOR;
}

unsigned
fault_stride(enum fault_kind kind, unsigned every)
{
	return kind == FAULT_SYNC || kind == FAULT_EMFILE ? 1 + every / 16 : every;
}

enum fault_kind
fault_kind_of(const char *name)
{
	enum fault_kind kind = 0;

	while (kind < FAULT_KINDS && strcmp(kinds[kind].name, name) != 0)
		kind++;
	return kind;
}

bool
fault_part_parse(int argc, char **argv, struct fault_part *part_r)
{
	struct fault_part *p = part_r;
	bool ok = true;

	*p = (struct fault_part){.every = 1, .shares = 1};
	for (int i = 1; ok && i < argc; i += 2) {
		if (i + 1 == argc)
			return false;
		if (strcmp(argv[i], "--every") == 0)
			ok = sscanf(argv[i + 1], "%u", &p->every) == 1;
		else if (strcmp(argv[i], "--kind") == 0)
			ok = snprintf(p->kind, sizeof p->kind, "%s", argv[i + 1]) < (int)sizeof p->kind;
		else
			ok = strcmp(argv[i], "--share") == 0 && sscanf(argv[i + 1], "%u/%u", &p->share, &p->shares) == 2;
	}
	return ok && p->every > 0 && p->share < p->shares;
}

bool
fault_part_has(const struct fault_part *p, const char *kind_name)
{
	return p->kind[0] == '\0' || strcmp(p->kind, kind_name) == 0;
}

void
fault_time_limit(unsigned seconds)
{
	const struct itimerval limit = {.it_value = {.tv_sec = (time_t)seconds}};

	if (setitimer(ITIMER_PROF, &limit, NULL) < 0)
		abort();
	(void)alarm(seconds * TIME_LIMIT_TIMES);
}

/* ---- which call fails ---- */

static const char *
path_of(int fd)
{
	return fd >= 0 && fd < FDS_MAX && f.path_of_fd[fd] != NULL ? f.path_of_fd[fd] : NULL;
}

/*
 * What the failing call says. A sync may find out only then that there is no room: it says each of three in turn, by the number of
 * the call that fails first, and another one when all from there on fail. The number is mixed, since it may be tried in steps of three.
 */
static int
error_now(void)
{
	static const int of_syncs[] = {EIO, ENOSPC, EDQUOT};

	return f.kind == FAULT_SYNC ? of_syncs[((f.at * 2654435761u >> 16) + f.from_then_on) % 3] : kinds[f.kind].error;
}

/* Counts a call; true, with errno, when it is to fail. */
static bool
fails(enum call call, const char *path)
{
	if (!f.on || f.paused || (kinds[f.kind].calls & BIT(call)) == 0)
		return false;
	f.calls++;
	if (f.calls != f.at && !(f.from_then_on && f.calls > f.at))
		return false;
	if (!f.shot->fired)
		(void)snprintf(f.shot->where, sizeof f.shot->where, "%s %s%s%s", call_names[call], path != NULL ? path : "?",
		    f.kind == FAULT_SYNC ? ": " : "", f.kind == FAULT_SYNC ? strerrorname_np(error_now()) : "");
	f.shot->fired = true;
	errno = error_now();
	return true;
}

/* ---- what a failed sync loses ---- */

static struct undo *
undo_new(const char *dir_or_null, int fd)
{
	struct undo *u = MEM_NEW(struct undo);
	struct stat st;
	int found = dir_or_null != NULL ? stat(dir_or_null, &st) : fstat(fd, &st);

	assert(found == 0);
	u->file = st.st_ino;
	u->size = st.st_size;
	u->fd = -1;
	u->before = f.undo;
	f.undo = u;
	return u;
}

/* Nothing is lost where no sync fails. */
static bool
may_be_lost(void)
{
	return f.on && (kinds[f.kind].calls & BIT(CALL_SYNC)) != 0;
}

static void
note_octets(int fd, off_t at, size_t n)
{
	struct undo *u = undo_new(NULL, fd);
	size_t there = at < u->size ? (size_t)(u->size - at) : 0;
	ssize_t got;

	u->fd = fcntl(fd, F_DUPFD_CLOEXEC, FDS_MAX);
	assert(u->fd >= 0);
	u->at = at;
	u->n = n < there ? n : there;
	u->octets = mem_new_array(u->n + 1, 1);
	got = pread(fd, u->octets, u->n, at);
	/* A descriptor for writing only has nothing to read: new files of ours. */
	u->n = got > 0 ? (size_t)got : 0;
}

static void
note_entry(const char *made, const char *was)
{
	char dir[FILE_PATH_BYTES_MAX];
	const char *slash = strrchr(made, '/');

	assert(slash != NULL);
	memcpy(dir, made, (size_t)(slash - made));
	dir[slash - made] = '\0';
	struct undo *u = undo_new(dir, -1);

	u->made = mem_copy_str(made, strlen(made));
	u->was = was != NULL ? mem_copy_str(was, strlen(was)) : NULL;
}

static void
undo_free(struct undo *u)
{
	if (u->fd >= 0)
		(void)close(u->fd);
	free(u->octets);
	free(u->made);
	free(u->was);
	free(u);
}

/* A sync of that file or directory: good, or not. */
static void
note_sync(int fd, bool good)
{
	struct undo **link = &f.undo;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return;
	f.sync_failed |= !good;
	while (*link != NULL) {
		struct undo *u = *link;

		/* What a sync has lost no later one brings back. */
		if (u->file == st.st_ino && good && !u->lost) {
			*link = u->before;
			undo_free(u);
			continue;
		}
		u->lost |= u->file == st.st_ino;
		link = &u->before;
	}
}

static void
take_back(const struct undo *u)
{
	if (u->made != NULL) {
		if (u->was != NULL ? rename(u->made, u->was) < 0 : remove(u->made) < 0)
			assert(errno == ENOENT || errno == ENOTEMPTY || errno == EEXIST);
		return;
	}
	if (u->n > 0 && pwrite(u->fd, u->octets, u->n, u->at) != (ssize_t)u->n)
		assert(false);
	if (ftruncate(u->fd, u->size) < 0)
		assert(false);
}

bool
fault_die(void)
{
	bool failed = f.sync_failed;

	f.on = false;
	f.bad_file = 0;
	for (unsigned fd = 0; fd < FDS_MAX; fd++)
		MEM_FREE(&f.path_of_fd[fd]);
	while (f.undo != NULL) {
		struct undo *u = f.undo;

		f.undo = u->before;
		if (u->lost)
			take_back(u);
		undo_free(u);
	}
	for (size_t i = 0; i < f.evicted_count; i++)
		MEM_FREE(&f.evicted[i]);
	f.evicted_count = 0;
	f.sync_failed = false;
	return failed;
}

/* ---- the calls ---- */

static int
f_open(const char *path, int flags, mode_t mode)
{
	bool creates = (flags & O_CREAT) != 0 && access(path, F_OK) != 0;

	if (fails(creates ? CALL_CREATE : CALL_OPEN, path))
		return -1;
	int fd = file_system_ops()->open(path, flags & ~O_TRUNC, mode);

	if (fd < 0 || strncmp(path, f.root, strlen(f.root)) != 0)
		return fd;
	assert(fd < FDS_MAX);
	MEM_FREE(&f.path_of_fd[fd]);
	f.path_of_fd[fd] = mem_copy_str(path, strlen(path));
	if (!f.on)
		return fd;
	if (creates && may_be_lost())
		note_entry(path, NULL);
	if (flags & O_TRUNC) {
		if (may_be_lost())
			note_octets(fd, 0, SIZE_MAX / 2);
		if (ftruncate(fd, 0) < 0)
			assert(false);
	}
	return fd;
}

static int
f_close(int fd)
{
	bool bad = fails(CALL_CLOSE, path_of(fd));

	if (fd >= 0 && fd < FDS_MAX)
		MEM_FREE(&f.path_of_fd[fd]);
	int r = file_system_ops()->close(fd);

	if (bad)
		errno = kinds[f.kind].error;
	return bad ? -1 : r;
}

static void
note_read(int fd)
{
	const char *path = path_of(fd);

	if (path != NULL && f.evicted_count == 0 && strstr(path, "/index/") != NULL)
		f.read_early = true;
}

/* Is a read of n octets at `at` to fail? */
static bool
read_fails(enum call call, int fd, size_t n, off_t at)
{
	const char *path = path_of(fd);
	bool bad = fails(call, path);
	struct stat st;

	if (f.kind != FAULT_SECTOR || !f.on || f.paused || path == NULL || fstat(fd, &st) < 0)
		return bad;
	if (bad && f.bad_file == 0) {
		f.bad_file = st.st_ino;
		f.bad_at = at;
	}
	errno = EIO;
	return f.bad_file == st.st_ino && at <= f.bad_at && f.bad_at < at + (off_t)n;
}

static ssize_t
f_pread(int fd, void *p, size_t n, off_t at)
{
	bool bad = read_fails(CALL_PREAD, fd, n, at);

	note_read(fd);
	if (bad && f.kind != FAULT_SHORT)
		return -1;
	return file_system_ops()->pread(fd, p, bad && n > 1 ? n / 2 : n, at);
}

/* Berkeley DB's, and whoever else's in this process. */
ssize_t read(int fd, void *p, size_t n);
ssize_t
read(int fd, void *p, size_t n)
{
	const char *path = path_of(fd);

	if (path != NULL) {
		bool bad = read_fails(CALL_READ, fd, n, lseek(fd, 0, SEEK_CUR));

		f.reads++;
		note_read(fd);
		if (bad && f.kind != FAULT_SHORT)
			return -1;
		if (bad && n > 1)
			n /= 2;
	}
	return syscall(SYS_read, fd, p, n);
}

/*
 * Recovery fills the last log with zeros, hundreds of calls in a row: one is like another, so that of each row every
 * FILL_EVERY-th can fail.
 */
static bool
is_fill(int fd, const uint8_t *p, size_t n)
{
	const char *path = path_of(fd);
	bool fill = path != NULL && strstr(path, "/log.") != NULL && n > 1 && p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;

	f.fills = fill ? f.fills + 1 : 0;
	return f.fills % FILL_EVERY != 0;
}

static ssize_t
f_pwrite(int fd, const void *p, size_t n, off_t at)
{
	bool after = f.full_next;

	f.full_next = false;
	if (after && f.on && !f.paused) {
		errno = kinds[f.kind].error;
		return -1;
	}
	bool bad = !is_fill(fd, p, n) && fails(CALL_PWRITE, path_of(fd));
	struct stat st;
	bool extends = fstat(fd, &st) == 0 && at + (off_t)n > st.st_size;
	/* What a file has already, a full disk does not tear. */
	bool half = bad && n > 1 && (f.kind == FAULT_SHORT || ((f.kind == FAULT_ENOSPC || f.kind == FAULT_EDQUOT) && extends));
	ssize_t r;

	if (bad && !half && f.kind != FAULT_SHORT)
		return -1;
	if (half)
		n /= 2;
	if (may_be_lost() && path_of(fd) != NULL)
		note_octets(fd, at, n);
	r = file_system_ops()->pwrite(fd, p, n, at);
	/* As a disk that fills up does it: a short write, then the error. */
	if (bad && f.kind != FAULT_SHORT && r > 0)
		f.full_next = true;
	return r;
}

static int
f_ftruncate(int fd, off_t n)
{
	struct stat st;

	/* To make a file shorter needs no room. */
	if ((f.kind == FAULT_EIO || fstat(fd, &st) < 0 || n > st.st_size) && fails(CALL_FTRUNCATE, path_of(fd)))
		return -1;
	if (may_be_lost() && path_of(fd) != NULL)
		note_octets(fd, n, SIZE_MAX / 2);
	return file_system_ops()->ftruncate(fd, n);
}

static int
f_allocate(int fd, off_t n)
{
	return fails(CALL_ALLOCATE, path_of(fd)) ? -1 : file_system_ops()->allocate(fd, n);
}

static int
f_sync(int fd)
{
	bool bad = fails(CALL_SYNC, path_of(fd));

	if (f.on)
		note_sync(fd, !bad);
	return bad ? -1 : 0;
}

static int
f_rename(const char *from, const char *to)
{
	if (fails(CALL_RENAME, to))
		return -1;
	bool replaces = access(to, F_OK) == 0;
	int r = file_system_ops()->rename(from, to);

	if (r == 0 && may_be_lost() && !replaces)
		note_entry(to, from);
	return r;
}

static int
f_unlink(const char *path)
{
	return fails(CALL_UNLINK, path) ? -1 : file_system_ops()->unlink(path);
}

static int
f_mkdir(const char *path, mode_t mode)
{
	if (fails(CALL_MKDIR, path))
		return -1;
	int r = file_system_ops()->mkdir(path, mode);

	if (r == 0 && may_be_lost())
		note_entry(path, NULL);
	return r;
}

static int
f_rmdir(const char *path)
{
	return fails(CALL_RMDIR, path) ? -1 : file_system_ops()->rmdir(path);
}

static int
f_exists(const char *path)
{
	return fails(CALL_EXISTS, path) ? -1 : file_system_ops()->exists(path);
}

struct half {
	file_name_fn *fn;
	void *arg;
	unsigned left;
};

static bool
count_name(void *arg, const char *name)
{
	(void)name;
	++*(unsigned *)arg;
	return true;
}

static bool
half_name(void *arg, const char *name)
{
	struct half *h = arg;

	return h->left-- > 0 && h->fn(h->arg, name);
}

/* Fails at its beginning, or in the middle. */
static int
f_list(const char *path, file_name_fn *fn, void *arg)
{
	struct half h = {.fn = fn, .arg = arg};
	unsigned names = 0;

	if (fails(CALL_LIST, path))
		return -1;
	if (f.kind != FAULT_EIO || !fails(CALL_LIST, path))
		return file_system_ops()->list(path, fn, arg);
	(void)file_system_ops()->list(path, count_name, &names);
	h.left = names / 2;
	(void)file_system_ops()->list(path, half_name, &h);
	errno = EIO;
	return -1;
}

static void
f_evict(const char *path)
{
	if (f.evicted_count < EVICTED_MAX)
		f.evicted[f.evicted_count++] = mem_copy_str(path, strlen(path));
	file_system_ops()->evict(path);
}

static uint64_t
f_space(const char *path)
{
	(void)path;
	return UINT64_MAX;
}

void
fault_start(const char *root, enum fault_kind kind, unsigned at, bool from_then_on)
{
	static const struct file_ops table = {.open = f_open, .close = f_close, .pread = f_pread, .pwrite = f_pwrite,
	    .ftruncate = f_ftruncate, .allocate = f_allocate, .sync = f_sync, .rename = f_rename, .unlink = f_unlink,
	    .mkdir = f_mkdir, .rmdir = f_rmdir, .exists = f_exists, .list = f_list, .evict = f_evict, .space = f_space};

	(void)snprintf(f.root, sizeof f.root, "%s", root);
	f.kind = kind;
	f.at = at;
	f.from_then_on = from_then_on && !fault_only_once(kind);
	f.bad_file = 0;
	f.on = true;
	if (f.shot == NULL)
		f.shot = mmap(NULL, sizeof *f.shot, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert(f.shot != MAP_FAILED);
	*f.shot = (struct shot){.fired = false};
	f.paused = f.sync_failed = f.read_early = f.full_next = false;
	f.calls = f.reads = f.fills = 0;
	f.evicted_count = 0;
	file_use(&table);
}

void
fault_pause(bool paused)
{
	f.paused = paused;
}

bool
fault_fired(void)
{
	return f.shot->fired;
}

const char *
fault_where(void)
{
	return f.shot->where;
}

unsigned
fault_calls(void)
{
	return f.calls;
}

unsigned
fault_reads(void)
{
	return f.reads;
}

/* By what the kernel says: objects that are handed out are closed by those who got them. */
unsigned
fault_open_count(void)
{
	char link[32], path[FILE_PATH_BYTES_MAX];
	unsigned n = 0;

	for (unsigned fd = 0; fd < FDS_MAX; fd++) {
		(void)snprintf(link, sizeof link, "/proc/self/fd/%u", fd);
		ssize_t got = readlink(link, path, sizeof path);

		n += got > (ssize_t)strlen(f.root) && memcmp(path, f.root, strlen(f.root)) == 0;
	}
	return n;
}

bool
fault_evicted(const char *dir)
{
	size_t n = strlen(dir);
	bool found = false;

	for (size_t i = 0; i < f.evicted_count; i++)
		found |= strncmp(f.evicted[i], dir, n) == 0 && f.evicted[i][n] == '/';
	return found && !f.read_early;
}
