/*
 * Berkeley DB takes its functions without an argument, so the table is one per
 * process. Its write() at the file's position becomes a pwrite() here: one kind
 * of write is enough for whoever stands behind the door. Its read() is not
 * hooked: through a hook it takes the short read at the end of a file for an error.
 */
#include "store/file.h"

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

static const struct file_ops system_ops = {
    .open = system_open,
    .close = close,
    .pread = pread,
    .pwrite = pwrite,
    .ftruncate = ftruncate,
    .sync = system_sync,
    .rename = rename,
    .unlink = unlink,
    .mkdir = mkdir,
    .rmdir = rmdir,
    .space = system_space,
};

static const struct file_ops *ops = &system_ops;
static bool lost;
static int last_error;

void
file_use(const struct file_ops *new_ops)
{
	ops = new_ops != NULL ? new_ops : &system_ops;
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

/* Notes a failure and passes r on. */
static int
noted(int r)
{
	if (r < 0 && errno != ENOENT && errno != EEXIST)
		last_error = errno;
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
		lost = true;
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

static ssize_t
do_pwrite(int fd, const void *p, size_t n, off_t at)
{
	if (refused())
		return -1;
	ssize_t r = ops->pwrite(fd, p, n, at);

	if (r < 0)
		last_error = errno;
	return r;
}

/* ---- what Berkeley DB calls ---- */

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
	bool creates = (flags & O_CREAT) != 0 && !file_exists(path);

	if (creates && refused())
		return -1;
	int fd = noted(ops->open(path, flags, mode));

	if (fd >= 0 && creates && do_sync_parent(path) < 0) {
		int error = errno;

		(void)ops->close(fd);
		errno = error;
		return -1;
	}
	return fd;
}

static int
hook_close(int fd)
{
	return ops->close(fd);
}

static ssize_t
hook_pread(int fd, void *p, size_t n, off_t at)
{
	ssize_t r = ops->pread(fd, p, n, at);

	if (r < 0)
		last_error = errno;
	return r;
}

static ssize_t
hook_write(int fd, const void *p, size_t n)
{
	off_t at = lseek(fd, 0, SEEK_CUR);
	ssize_t r = at < 0 ? -1 : do_pwrite(fd, p, n, at);

	if (r > 0 && lseek(fd, at + r, SEEK_SET) < 0)
		return -1;
	return r;
}

static int
hook_ftruncate(int fd, off_t length)
{
	return refused() ? -1 : noted(ops->ftruncate(fd, length));
}

static int
hook_rename(const char *from, const char *to)
{
	if (refused() || noted(ops->rename(from, to)) < 0)
		return -1;
	return do_sync_parent(to);
}

static int
hook_unlink(const char *path)
{
	return refused() ? -1 : noted(ops->unlink(path));
}

void
file_hook_db(void)
{
	int bad = db_env_set_func_open(hook_open) | db_env_set_func_close(hook_close) |
	    db_env_set_func_pread(hook_pread) | db_env_set_func_pwrite(do_pwrite) |
	    db_env_set_func_write(hook_write) | db_env_set_func_ftruncate(hook_ftruncate) |
	    db_env_set_func_fsync(do_sync) |
	    db_env_set_func_rename(hook_rename) | db_env_set_func_unlink(hook_unlink);

	assert(bad == 0);
}

/* ---- what the store calls ---- */

int
file_open(const char *path, int flags, struct err *e)
{
	if ((flags & (O_CREAT | O_TRUNC)) && refused())
		return err_sys(e, EIO, "open after a failed sync");
	int fd = noted(ops->open(path, flags, FILE_MODE));

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
	size_t done = 0;

	while (done < octets.n) {
		ssize_t n = do_pwrite(fd, octets.p + done, octets.n - done, (off_t)(at + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_sys(e, n < 0 ? errno : EIO, "write");
		done += (size_t)n;
	}
	return 0;
}

int64_t
file_read(int fd, uint64_t at, void *p, size_t n, struct err *e)
{
	size_t done = 0;

	while (done < n) {
		ssize_t got = hook_pread(fd, (uint8_t *)p + done, n - done, (off_t)(at + done));

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return err_sys(e, errno, "read");
		if (got == 0)
			break;
		done += (size_t)got;
	}
	return (int64_t)done;
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
	if (refused() || noted(ops->rename(from, to)) < 0)
		return err_sys(e, errno, "rename");
	return 0;
}

int
file_unlink(const char *path, struct err *e)
{
	if (refused())
		return err_sys(e, errno, "unlink");
	if (noted(ops->unlink(path)) < 0 && errno != ENOENT)
		return err_sys(e, errno, "unlink");
	return 0;
}

int
file_mkdir(const char *path, bool *made_r, struct err *e)
{
	*made_r = false;
	if (refused())
		return err_sys(e, errno, "mkdir");
	if (noted(ops->mkdir(path, DIR_MODE)) == 0)
		*made_r = true;
	else if (errno != EEXIST)
		return err_sys(e, errno, "mkdir");
	return 0;
}

bool
file_exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

uint64_t
file_space(const char *path)
{
	return ops->space(path);
}

void
file_path(char *path_r, const char *dir, const char *name)
{
	int n = snprintf(path_r, FILE_PATH_BYTES_MAX, "%s/%s", dir, name);

	assert(n > 0 && n < FILE_PATH_BYTES_MAX);
}

int
file_remove_dir(const char *path, struct err *e)
{
	char name[FILE_PATH_BYTES_MAX];
	DIR *dir = opendir(path);
	int failed = 0;

	if (dir == NULL)
		return errno == ENOENT ? 0 : err_sys(e, errno, "opendir");
	for (struct dirent *d; failed == 0 && (d = readdir(dir)) != NULL;) {
		if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
			continue;
		file_path(name, path, d->d_name);
		failed = file_unlink(name, e);
	}
	(void)closedir(dir);
	if (failed == 0 && ops->rmdir(path) < 0)
		failed = err_sys(e, errno, "rmdir");
	return failed;
}

void
file_evict_dir(const char *path)
{
	char name[FILE_PATH_BYTES_MAX];
	DIR *dir = opendir(path);

	if (dir == NULL)
		return;
	for (struct dirent *d; (d = readdir(dir)) != NULL;) {
		if (d->d_name[0] == '.')
			continue;
		file_path(name, path, d->d_name);
		int fd = open(name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

		if (fd < 0)
			continue;
		/* Advice only: an octet that could not be dropped is one that was never written back. */
		(void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
		(void)close(fd);
	}
	(void)closedir(dir);
}
