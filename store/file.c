/*
 * Berkeley DB takes its functions without an argument, so the table is one per
 * process. Its write() at the file's position becomes a pwrite() here: one kind
 * of write is enough for whoever stands behind the door. Its read() is not
 * hooked: through a hook it takes the short read at the end of a file for an error.
 *
 * Why the reserve is one file per directory that a process owns, and not one
 * for the whole server: the process that meets the full disk gives it up within
 * the call that failed, without asking anybody; and it counts to the same file
 * system, project and user whose quota is spent.
 */
#include "store/file.h"

#include "common/log.h"
#include "common/mem.h"
#include "common/mutant.h"

#include <assert.h>
#include <db.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define FILE_MODE 0600
#define DIR_MODE 0700
#define RESERVE_FILE "reserve"
/* Of a page of Berkeley DB's: its place in the log and its number come first. */
#define PAGE_PLACE_BYTES 12
#define PAGE_TYPE_AT 25

static int
system_open(const char *path, int flags, mode_t mode)
{
	return open(path, flags | O_CLOEXEC, mode);
}

static int
system_sync(int fd)
{
	struct stat st;

	if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode))
		return fsync(fd);
	return fdatasync(fd);
}

static uint64_t
system_space(const char *path)
{
	struct statvfs s;

	if (statvfs(path, &s) != 0)
		return UINT64_MAX;
	return (uint64_t)s.f_bavail * s.f_frsize;
}

static int
system_allocate(int fd, off_t length)
{
	int error = posix_fallocate(fd, 0, length);

	errno = error;
	return error == 0 ? 0 : -1;
}

static int
system_exists(const char *path)
{
	struct stat st;

	if (lstat(path, &st) == 0)
		return 1;
	return errno == ENOENT || errno == ENOTDIR ? 0 : -1;
}

static int
system_list(const char *path, file_name_fn *fn, void *arg)
{
	DIR *dir = opendir(path);
	bool more = true;
	int error = 0;

	if (dir == NULL)
		return -1;
	while (more) {
		errno = 0;
		const struct dirent *d = readdir(dir);

		error = errno;
		if (d == NULL)
			break;
		if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
			more = fn(arg, d->d_name);
	}
	(void)closedir(dir);
	errno = error;
	return error == 0 ? 0 : -1;
}

static void
system_evict(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return;
	/* Advice only: an octet that could not be dropped is one that was never written back. */
	(void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	(void)close(fd);
}

/* The calls of the table, in its order. */
#define OPS(X)                                                                                     \
	X(open, system_open) X(close, close) X(pread, pread) X(pwrite, pwrite) X(ftruncate, ftruncate) \
	X(allocate, system_allocate) X(sync, system_sync) X(rename, rename) X(unlink, unlink) X(mkdir, mkdir) \
	X(rmdir, rmdir) X(exists, system_exists) X(list, system_list) X(evict, system_evict) X(space, system_space)

static const struct file_ops system_ops = {
#define X(name, function) .name = function,
    OPS(X)
#undef X
};

static struct file_ops used;
static const struct file_ops *ops = &system_ops;
static bool lost;
static int last_error;
static int shortage;
static uint32_t log_bytes = FILE_LOG_BYTES;
static size_t written_page_bytes; /* 0: not known yet */
static bool hole_met;
static char reserve_dir[FILE_PATH_BYTES_MAX];
static char reserve_path[FILE_PATH_BYTES_MAX];
static bool reserve_whole;

void
file_use(const struct file_ops *new_ops)
{
	ops = &system_ops;
	if (new_ops == NULL)
		return;
	used = *new_ops;
#define X(name, function)                                                                          \
	if (used.name == NULL)                                                                     \
		used.name = system_ops.name;
	OPS(X)
#undef X
	ops = &used;
}

const struct file_ops *
file_system_ops(void)
{
	return &system_ops;
}

bool
file_lost(void)
{
	return lost;
}

void
file_lost_reset(void)
{
	lost = false;
}

int
file_error(void)
{
	return last_error;
}

void
file_error_reset(void)
{
	last_error = 0;
}

int
file_shortage(void)
{
	return shortage;
}

void
file_shortage_reset(void)
{
	shortage = 0;
}

uint32_t
file_log_bytes(void)
{
	return log_bytes;
}

void
file_set_log_bytes(uint32_t bytes)
{
	log_bytes = bytes;
}

void
file_pages_written(size_t bytes)
{
	written_page_bytes = bytes;
	if (bytes == 0)
		hole_met = false;
}

bool
file_hole_met(void)
{
	return hole_met;
}

/* Notes a failure and passes r on. */
static int
noted(int r)
{
	if (r < 0 && errno != ENOENT && errno != EEXIST)
		last_error = errno;
	if (r < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == EINTR))
		shortage = errno;
	return r;
}

static bool
refused(void)
{
	if (lost)
		errno = last_error = EIO;
	return lost;
}

static int
do_sync(int fd)
{
	if (refused())
		return -1;
	int r = ops->sync(fd);

	if (r < 0) {
		last_error = errno;
		lost = !MUTANT(FILE_LOST);
	}
	return r;
}

static int
do_sync_dir(const char *path)
{
	int fd = noted(ops->open(path, O_RDONLY | O_DIRECTORY, 0));

	if (fd < 0)
		return -1;
	int r = do_sync(fd);
	int error = errno;

	(void)ops->close(fd);
	errno = error;
	return r;
}

static int
do_sync_parent(const char *path)
{
	char dir[FILE_PATH_BYTES_MAX];
	const char *slash = strrchr(path, '/');
	size_t n = slash != NULL ? (size_t)(slash - path) : 0;

	if (slash == NULL)
		return do_sync_dir(".");
	if (n >= sizeof dir) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(dir, path, n);
	dir[n] = '\0';
	return do_sync_dir(n ? dir : "/");
}

/*
 * After a call that failed: true when that was for want of room and the reserve
 * was there to be given up, so that the call is worth trying again.
 */
static bool
reserve_given(void)
{
	int error = errno;

	if ((error != ENOSPC && error != EDQUOT) || !reserve_whole)
		return false;
	reserve_whole = false;
	bool given = ops->unlink(reserve_path) == 0;

	log_event(LOG_WARN, NO_SESSION, "reserve-given", LOG_CSTR("path", reserve_path), LOG_END);
	errno = error;
	return given;
}

static int
do_open(const char *path, int flags, mode_t mode)
{
	int fd;

	do
		fd = ops->open(path, flags, mode);
	while (fd < 0 && reserve_given());
	return noted(fd);
}

static int
do_rename(const char *from, const char *to)
{
	int r;

	if (refused())
		return -1;
	do
		r = ops->rename(from, to);
	while (r < 0 && reserve_given());
	return noted(r);
}

static int
do_unlink(const char *path)
{
	int r;

	if (refused())
		return -1;
	do
		r = ops->unlink(path);
	while (r < 0 && reserve_given());
	return noted(r);
}

/*
 * Of a write behind the end of the file that ended in the middle nothing stays:
 * Berkeley DB does not open a database that ends within a page.
 */
static void
cut_back(int fd, off_t at, size_t done)
{
	int error = errno;
	struct stat st;

	if (done > 0 && fstat(fd, &st) == 0 && st.st_size == at + (off_t)done)
		(void)ops->ftruncate(fd, at);
	errno = error;
}

/* All n octets; use_reserve: rather than fail for want of room. The number written is n, or -1. */
static ssize_t
write_all(int fd, const void *p, size_t n, off_t at, bool use_reserve)
{
	size_t done = 0;

	if (refused())
		return -1;
	while (done < n) {
		ssize_t r = ops->pwrite(fd, (const uint8_t *)p + done, n - done, at + (off_t)done);

		if (r > 0) {
			done += (size_t)r;
			continue;
		}
		if (r == 0)
			errno = EIO;
		if (errno == EINTR || (use_reserve && reserve_given()))
			continue;
		cut_back(fd, at, done);
		return noted(-1);
	}
	return (ssize_t)n;
}

/* Up to n octets, fewer only at the end of the file. */
static ssize_t
read_all(int fd, void *p, size_t n, off_t at)
{
	size_t done = 0;

	while (done < n) {
		ssize_t r = ops->pread(fd, (uint8_t *)p + done, n - done, at + (off_t)done);

		if (r < 0 && errno == EINTR)
			continue;
		/* Not noted: a database that cannot be read is a damaged one, and made anew from base and log. */
		if (r < 0)
			return -1;
		if (r == 0)
			break;
		done += (size_t)r;
	}
	return (ssize_t)done;
}

/* ---- what Berkeley DB calls ---- */

/* Which descriptors are of log files. */
static bool *log_fds;
static int log_fd_count;

static void
note_log_fd(int fd, bool log)
{
	if (fd >= log_fd_count) {
		log_fds = mem_resize(log_fds, (size_t)fd + 1, sizeof *log_fds);
		while (log_fd_count <= fd)
			log_fds[log_fd_count++] = false;
	}
	log_fds[fd] = log;
}

bool
file_is_hole(const uint8_t *page, size_t n)
{
	return n > PAGE_TYPE_AT && mem_is_zero(page, PAGE_PLACE_BYTES) && page[PAGE_TYPE_AT] == 0;
}

/* It sees another page then, which its sum refuses; after a call that failed it would read again, past the hook. */
static void
look_at_page(uint8_t *p, size_t n)
{
	if (!file_is_hole(p, n))
		return;
	if (written_page_bytes == 0)
		hole_met = true;
	else if (n == written_page_bytes && !MUTANT(FILE_HOLE))
		memset(p, 0xff, n);
}

static ssize_t
hook_pread(int fd, void *p, size_t n, off_t at)
{
	ssize_t got = read_all(fd, p, n, at);
	bool log = fd < log_fd_count && log_fds[fd];

	/* Of a log Berkeley DB takes a place that it cannot read for the end, and would write zeros over what lies behind it. */
	if (got < 0 && log) {
		last_error = errno;
		lost = true;
	}
	if (got > 0 && (size_t)got == n && !log)
		look_at_page(p, n);
	return got;
}

static bool
is_log(const char *path)
{
	const char *slash = strrchr(path, '/');

	return strncmp(slash != NULL ? slash + 1 : path, "log.", 4) == 0;
}

static int
give_room(int fd)
{
	int r;

	do
		r = ops->allocate(fd, log_bytes);
	while (r < 0 && reserve_given());
	return noted(r);
}

static int
hook_open(const char *path, int flags, ...)
{
	va_list ap;
	mode_t mode = 0;

	if (flags & O_CREAT) {
		va_start(ap, flags);
		mode = (mode_t)va_arg(ap, int);
		va_end(ap);
	}
	int exists = flags & O_CREAT ? noted(ops->exists(path)) : 1;
	bool creates = exists == 0;

	if (exists < 0 || (creates && refused()))
		return -1;
	int fd = do_open(path, flags, mode);

	if (fd >= 0)
		note_log_fd(fd, is_log(path));
	if (fd < 0 || !creates ||
	    ((!is_log(path) || give_room(fd) == 0) && (MUTANT(FILE_CREATE_SYNC) || do_sync_parent(path) == 0)))
		return fd;
	int error = errno;

	(void)ops->close(fd);
	/* As if it had never been: a log file that is there is one to go on with. */
	(void)ops->unlink(path);
	errno = error;
	return -1;
}

/* What has to last was synced; and Berkeley DB uses a handle that it could not close again after it freed it. */
static int
hook_close(int fd)
{
	(void)noted(ops->close(fd));
	return 0;
}

/* Short reads and writes end here: through a hook Berkeley DB takes one for an error, and errno for its reason. */
static ssize_t
hook_pwrite(int fd, const void *p, size_t n, off_t at)
{
	return write_all(fd, p, n, at, true);
}

static ssize_t
hook_write(int fd, const void *p, size_t n)
{
	off_t at = lseek(fd, 0, SEEK_CUR);
	ssize_t r = at < 0 ? -1 : hook_pwrite(fd, p, n, at);

	if (r > 0 && lseek(fd, at + r, SEEK_SET) < 0)
		return -1;
	return r;
}

static int
hook_ftruncate(int fd, off_t length)
{
	int r;

	if (refused())
		return -1;
	do
		r = ops->ftruncate(fd, length);
	while (r < 0 && reserve_given());
	return noted(r);
}

static int
hook_rename(const char *from, const char *to)
{
	if (do_rename(from, to) < 0)
		return -1;
	return MUTANT(FILE_RENAME_SYNC) ? 0 : do_sync_parent(to);
}

struct name_list {
	char **names;
	int n;
};

static bool
on_name(void *arg, const char *name)
{
	struct name_list *l = arg;

	l->names = mem_resize(l->names, (size_t)l->n + 1, sizeof *l->names);
	l->names[l->n++] = mem_copy_str(name, strlen(name));
	return true;
}

static void
hook_dirfree(char **names, int n)
{
	for (int i = 0; i < n; i++)
		free(names[i]);
	free(names);
}

/* Its own takes a directory that cannot be read to the end for a shorter one: log files would be missing. */
static int
hook_dirlist(const char *dir, char ***names_r, int *count_r)
{
	struct name_list l = {.n = 0};

	*names_r = NULL;
	*count_r = 0;
	if (noted(ops->list(dir, on_name, &l)) < 0) {
		int error = errno;

		hook_dirfree(l.names, l.n);
		return error;
	}
	*names_r = l.names;
	*count_r = l.n;
	return 0;
}

void
file_hook_db(void)
{
	int bad = db_env_set_func_open(hook_open) | db_env_set_func_close(hook_close) |
	    db_env_set_func_pread(hook_pread) | db_env_set_func_pwrite(hook_pwrite) |
	    db_env_set_func_write(hook_write) | db_env_set_func_ftruncate(hook_ftruncate) |
	    db_env_set_func_fsync(do_sync) | db_env_set_func_dirlist(hook_dirlist) | db_env_set_func_dirfree(hook_dirfree) |
	    db_env_set_func_rename(hook_rename) | db_env_set_func_unlink(do_unlink);

	assert(bad == 0);
}

/* ---- what the store calls ---- */

int
file_open(const char *path, int flags, struct err *e)
{
	if ((flags & (O_CREAT | O_TRUNC)) && refused())
		return err_sys(e, EIO, "open after a failed sync");
	int fd = do_open(path, flags, FILE_MODE);

	return fd >= 0 ? fd : err_sys(e, errno, path);
}

int
file_close(int fd, struct err *e)
{
	return ops->close(fd) == 0 ? 0 : err_sys(e, errno, "close");
}

int
file_write(int fd, uint64_t at, struct slice octets, struct err *e)
{
	return write_all(fd, octets.p, octets.n, (off_t)at, false) < 0 ? err_sys(e, errno, "write") : 0;
}

int64_t
file_read(int fd, uint64_t at, void *p, size_t n, struct err *e)
{
	ssize_t got = read_all(fd, p, n, (off_t)at);

	return got < 0 ? err_sys(e, errno, "read") : got;
}

void
file_write_out(int fd)
{
	(void)sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
}

int
file_sync(int fd, struct err *e)
{
	return do_sync(fd) == 0 ? 0 : err_sys(e, errno, "sync");
}

int
file_sync_dir(const char *path, struct err *e)
{
	return do_sync_dir(path) == 0 ? 0 : err_sys(e, errno, "sync of a directory");
}

int
file_rename(const char *from, const char *to, struct err *e)
{
	return do_rename(from, to) == 0 ? 0 : err_sys(e, errno, "rename");
}

int
file_unlink(const char *path, struct err *e)
{
	return do_unlink(path) == 0 || errno == ENOENT ? 0 : err_sys(e, errno, "unlink");
}

int
file_mkdir(const char *path, bool *made_r, struct err *e)
{
	int r;

	*made_r = false;
	if (refused())
		return err_sys(e, errno, "mkdir");
	do
		r = ops->mkdir(path, DIR_MODE);
	while (r < 0 && reserve_given());
	*made_r = noted(r) == 0;
	return *made_r || errno == EEXIST ? 0 : err_sys(e, errno, "mkdir");
}

int
file_exists(const char *path, struct err *e)
{
	int r = noted(ops->exists(path));

	return r >= 0 ? r : err_sys(e, errno, path);
}

void
file_path(char *path_r, const char *dir, const char *name)
{
	int n = snprintf(path_r, FILE_PATH_BYTES_MAX, "%s/%s", dir, name);

	assert(n > 0 && n < FILE_PATH_BYTES_MAX);
}

/* ---- directories ---- */

struct each {
	char dir[FILE_PATH_BYTES_MAX];
	file_each_fn *fn;
	void *arg;
	struct err *e;
	int failed;
};

static bool
on_each(void *arg, const char *name)
{
	struct each *each = arg;
	char path[FILE_PATH_BYTES_MAX];

	file_path(path, each->dir, name);
	each->failed = each->fn(each->arg, path, name, each->e);
	return each->failed == 0;
}

int
file_each(const char *path, file_each_fn *fn, void *arg, struct err *e)
{
	struct each each = {.fn = fn, .arg = arg, .e = e};

	assert(strlen(path) < sizeof each.dir);
	memcpy(each.dir, path, strlen(path));
	if (noted(ops->list(path, on_each, &each)) < 0 && errno != ENOENT)
		return err_sys(e, errno, path);
	return each.failed;
}

static int
remove_one(void *arg, const char *path, const char *name, struct err *e)
{
	(void)arg;
	(void)name;
	return file_unlink(path, e);
}

int
file_remove_dir(const char *path, struct err *e)
{
	int exists = file_exists(path, e);

	if (exists <= 0)
		return exists;
	if (file_each(path, remove_one, NULL, e) < 0)
		return -1;
	if (refused() || noted(ops->rmdir(path)) < 0)
		return err_sys(e, errno, "rmdir");
	return 0;
}

static int
settle_one(void *arg, const char *path, const char *name, struct err *e)
{
	int fd = file_open(path, O_RDONLY | O_NOFOLLOW, e);

	(void)arg;
	(void)name;
	if (fd < 0)
		return -1;
	int failed = MUTANT(FILE_SETTLE_SYNC) ? 0 : file_sync(fd, e);

	if (file_close(fd, failed ? NULL : e) < 0)
		failed = -1;
	if (!MUTANT(FILE_SETTLE_EVICT))
		ops->evict(path);
	return failed;
}

int
file_settle_dir(const char *path, struct err *e)
{
	if (file_each(path, settle_one, NULL, e) < 0)
		return -1;
	return MUTANT(FILE_SETTLE_DIR) ? 0 : file_sync_dir(path, e);
}

/* ---- the reserve ---- */

/* What cannot be made now is tried again when somebody asks the next time. */
static bool
reserve_fill(void)
{
	if (reserve_whole || reserve_dir[0] == '\0')
		return true;
	if (lost || ops->space(reserve_dir) < (uint64_t)FILE_RESERVE_BYTES + FILE_SPACE_BYTES_MIN)
		return false;
	int fd = ops->open(reserve_path, O_WRONLY | O_CREAT, FILE_MODE);

	if (fd < 0)
		return false;
	reserve_whole = ops->allocate(fd, FILE_RESERVE_BYTES) == 0;
	(void)ops->close(fd);
	if (!reserve_whole)
		(void)ops->unlink(reserve_path);
	return reserve_whole;
}

void
file_reserve(const char *dir)
{
	struct stat st;

	assert(strlen(dir) < sizeof reserve_dir);
	memcpy(reserve_dir, dir, strlen(dir) + 1);
	file_path(reserve_path, dir, RESERVE_FILE);
	reserve_whole = stat(reserve_path, &st) == 0 && (uint64_t)st.st_blocks * 512 >= FILE_RESERVE_BYTES;
	(void)reserve_fill();
}

bool
file_has_room(const char *path, uint64_t more)
{
	/* First, because it takes room. */
	bool whole = reserve_fill();
	uint64_t space = ops->space(path);

	return whole && space >= FILE_SPACE_BYTES_MIN && more <= space - FILE_SPACE_BYTES_MIN;
}
