#include "admin/export_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROOM_BYTES (64u * 1024)
#define FILE_MODE 0600
#define DIRECTORY_MODE 0700

/* A name of this process alone, where a file cannot be without one. */
static bool
temporary_name(const char *temporary, char name_r[EXPORT_TEMPORARY_SIZE])
{
	int n = snprintf(name_r, EXPORT_TEMPORARY_SIZE, "%s.%d", temporary, (int)getpid());

	return n > 0 && n < EXPORT_TEMPORARY_SIZE;
}

int
export_file_make(struct export_file *f, int at, const char *temporary, struct err *e)
{
	*f = (struct export_file){.fd = openat(at, ".", O_WRONLY | O_TMPFILE | O_CLOEXEC, FILE_MODE)};
	if (f->fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL) && temporary_name(temporary, f->temporary))
		f->fd = openat(at, f->temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, FILE_MODE);
	if (f->fd < 0)
		return err_sys(e, errno, temporary);
	buf_init(&f->room, ROOM_BYTES);
	return 0;
}

static void
write_room(struct export_file *f)
{
	size_t done = 0;

	while (f->errnum == 0 && done < f->room.n) {
		ssize_t n = write(f->fd, f->room.p + done, f->room.n - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			f->errnum = n < 0 ? errno : EIO;
		else
			done += (size_t)n;
	}
	buf_reset(&f->room);
}

void
export_file_put(struct export_file *f, struct slice octets)
{
	for (size_t i = 0; i < octets.n; i++) {
		f->bare_lf += octets.p[i] == '\n' && f->last != '\r';
		f->last = octets.p[i];
	}
	f->bytes += octets.n;
	while (octets.n > 0) {
		size_t n = ROOM_BYTES - f->room.n;

		n = n < octets.n ? n : octets.n;
		buf_put(&f->room, octets.p, n);
		octets = slice_sub(octets, n, octets.n);
		if (f->room.n == ROOM_BYTES)
			write_room(f);
	}
}

void
export_file_put_rest(struct export_file *f)
{
	if (f->held_cr)
		export_file_put(f, SLICE("\r"));
	f->held_cr = false;
}

void
export_file_put_lf(struct export_file *f, struct slice octets)
{
	while (octets.n > 0) {
		size_t cr = slice_index(octets, '\r');

		if (f->held_cr && octets.p[0] != '\n')
			export_file_put(f, SLICE("\r"));
		f->held_cr = cr < octets.n;
		export_file_put(f, slice_sub(octets, 0, cr));
		octets = slice_sub(octets, cr + 1, octets.n);
	}
}

void
export_file_cut(struct export_file *f, uint64_t bytes)
{
	f->held_cr = false;
	write_room(f);
	if (f->errnum == 0 && (ftruncate(f->fd, (off_t)bytes) < 0 || lseek(f->fd, (off_t)bytes, SEEK_SET) < 0))
		f->errnum = errno;
	f->bytes = bytes;
}

static void
finish(struct export_file *f, int at)
{
	if (close(f->fd) < 0 && f->errnum == 0)
		f->errnum = errno;
	if (f->temporary[0] != '\0' && unlinkat(at, f->temporary, 0) < 0 && f->errnum == 0)
		f->errnum = errno;
	buf_fini(&f->room);
}

static int
give_name(const struct export_file *f, int at, int to, const char *name)
{
	char path[40];

	if (f->temporary[0] != '\0')
		return linkat(at, f->temporary, to, name, 0);
	(void)snprintf(path, sizeof path, "/proc/self/fd/%d", f->fd);
	return linkat(AT_FDCWD, path, to, name, AT_SYMLINK_FOLLOW);
}

int
export_file_place(struct export_file *f, int at, int to, const char *name, bool sync, int64_t date, struct err *e)
{
	struct timespec times[2] = {{.tv_sec = date}, {.tv_sec = date}};

	export_file_put_rest(f);
	write_room(f);
	if (f->errnum == 0 && date >= 0 && futimens(f->fd, times) < 0)
		f->errnum = errno;
	if (f->errnum == 0 && sync && fsync(f->fd) < 0)
		f->errnum = errno;
	if (f->errnum == 0 && give_name(f, at, to, name) < 0)
		f->errnum = errno;
	finish(f, at);
	return f->errnum == 0 ? 0 : err_sys(e, f->errnum, name);
}

void
export_file_drop(struct export_file *f, int at)
{
	finish(f, at);
}

int
export_directory(int at, const char *name, bool *made_r, struct err *e)
{
	bool made = mkdirat(at, name, DIRECTORY_MODE) == 0;
	int fd;

	if (made_r != NULL)
		*made_r = made;
	if (!made && errno != EEXIST)
		return err_sys(e, errno, name);
	fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd >= 0 ? fd : err_sys(e, errno, name);
}

bool
export_directory_empty(int fd)
{
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;
	unsigned names = 0;

	if (dir == NULL)
		return false;
	while (names <= 2 && readdir(dir) != NULL)
		names++;
	(void)closedir(dir);
	/* Itself and the one above it. */
	return names <= 2;
}
