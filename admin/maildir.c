#include "admin/maildir.h"

#include "common/mem.h"
#include "store/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FLAGS_DIRECTORY (O_RDONLY | O_DIRECTORY | O_CLOEXEC)
/* A FIFO must not make us wait. */
#define FLAGS_FILE (O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)
#define UIDLIST_BYTES_MAX (1u << 30)

/* No part of the name may be a link, and none may lead out of the directory. */
static int
open_directory(int at, const char *name)
{
	struct open_how how = {.flags = FLAGS_DIRECTORY, .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};

	return (int)syscall(SYS_openat2, at, name, &how, sizeof how);
}

/* The size and time of a regular file; -1 and errno for anything else. */
static int
open_file(int at, const char *name, struct stat *st)
{
	int fd = openat(at, name, FLAGS_FILE);

	if (fd < 0)
		return -1;
	if (fstat(fd, st) == 0 && S_ISREG(st->st_mode))
		return fd;
	close(fd);
	errno = EINVAL;
	return -1;
}

/* ---- messages ---- */

static int
add_message(struct maildir *d, int at, const char *name, bool in_new, struct err *e)
{
	struct maildir_name parsed = maildir_name_parse(slice_str(name));
	struct stat st;

	if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
		return 0;
	if (d->count == MAILDIR_MESSAGES_MAX)
		return err_set(e, ERR_LIMIT, ERR_CODE_NONE, "too many messages", "more than %u messages in one folder",
		    MAILDIR_MESSAGES_MAX);
	if (d->count == d->cap) {
		d->cap = d->cap ? d->cap * 2 : 64;
		d->messages = mem_resize(d->messages, d->cap, sizeof *d->messages);
	}
	/* A copy that lost its time is later than its name; one that was put in with an old date is earlier. */
	int64_t date = parsed.seconds >= 0 && parsed.seconds < st.st_mtime ? parsed.seconds : st.st_mtime;

	d->messages[d->count++] =
	    (struct maildir_message){.name = mem_copy_str(name, strlen(name)), .in_new = in_new, .date = date};
	return 0;
}

static int
read_messages(struct maildir *d, int at, bool in_new, struct err *e)
{
	int copy = at >= 0 ? openat(at, ".", FLAGS_DIRECTORY) : -1;
	DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;
	int failed = 0;

	if (at < 0)
		return 0;
	if (dir == NULL)
		return err_sys(e, errno, in_new ? "new" : "cur");
	for (const struct dirent *entry; failed == 0 && (entry = readdir(dir)) != NULL;)
		if (entry->d_name[0] != '.')
			failed = add_message(d, at, entry->d_name, in_new, e);
	(void)closedir(dir);
	return failed;
}

/* ---- the order ---- */

static int
by_name(const void *a, const void *b)
{
	const struct maildir_message *x = a, *y = b;

	return slice_cmp(maildir_name_parse(slice_str(x->name)).base, maildir_name_parse(slice_str(y->name)).base);
}

static int
by_uid(const void *a, const void *b)
{
	const struct maildir_message *x = a, *y = b;

	if (x->uid != y->uid)
		/* 0, no UID, comes last. */
		return x->uid - 1 < y->uid - 1 ? -1 : 1;
	if (x->date != y->date)
		return x->date < y->date ? -1 : 1;
	return strcmp(x->name, y->name);
}

static struct maildir_message *
find_base(struct maildir *d, struct slice base)
{
	size_t low = 0, high = d->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int c = slice_cmp(maildir_name_parse(slice_str(d->messages[middle].name)).base, base);

		if (c == 0)
			return &d->messages[middle];
		if (c < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

struct taking {
	struct maildir *d;
	unsigned heads; /* UIDVALIDITY and next UID, which come first */
	uint32_t uidvalidity;
	uint32_t uidnext;
	uint32_t last;
};

static void
take_uid(void *arg, uint32_t number, struct slice base)
{
	struct taking *t = arg;
	struct maildir_message *m;

	if (t->heads < 2) {
		*(t->heads++ == 0 ? &t->uidvalidity : &t->uidnext) = number;
		return;
	}
	m = number > t->last ? find_base(t->d, base) : NULL;
	if (m != NULL && m->uid == 0)
		m->uid = t->last = number;
}

static int
read_uidlist(struct maildir *d, struct maildir_lists *lists, struct err *e)
{
	struct taking t = {.d = d};
	struct stat st;
	int fd = open_file(d->fd, "dovecot-uidlist", &st), failed = 0;

	if (fd < 0)
		return 0;
	if (st.st_size <= UIDLIST_BYTES_MAX)
		failed = maildir_lists_read(lists, MAILDIR_LIST_UIDS, fd, take_uid, &t, e);
	close(fd);
	/* Behind the last possible UID there is none for what comes next. */
	if (failed || t.heads < 2 || t.last == UINT32_MAX)
		return failed;
	d->uidvalidity = t.uidvalidity;
	d->uidnext = t.uidnext > t.last ? t.uidnext : t.last + 1;
	return 0;
}

static void
take_keyword(void *arg, uint32_t number, struct slice name)
{
	struct maildir *d = arg;

	if (number < MAILDIR_KEYWORDS_MAX && maildir_keyword_ok(name)) {
		free(d->keyword[number]);
		d->keyword[number] = mem_copy_str(name.p, name.n);
	}
}

static int
read_keywords(struct maildir *d, struct maildir_lists *lists, struct err *e)
{
	struct stat st;
	int fd = open_file(d->fd, "dovecot-keywords", &st), failed = 0;

	if (fd < 0)
		return 0;
	if (st.st_size <= MAILDIR_FILE_BYTES_MAX)
		failed = maildir_lists_read(lists, MAILDIR_LIST_KEYWORDS, fd, take_keyword, d, e);
	close(fd);
	return failed;
}

int
maildir_open(struct maildir *d, int at, const char *path, struct maildir_lists *lists, struct err *e)
{
	*d = (struct maildir){.fd_cur = -1, .fd_new = -1};
	d->fd = at == AT_FDCWD ? open(path, FLAGS_DIRECTORY) : open_directory(at, path);
	if (d->fd < 0)
		return err_sys(e, errno, path);
	d->fd_cur = open_directory(d->fd, "cur");
	d->fd_new = open_directory(d->fd, "new");
	int failed = d->fd_cur < 0 ? err_set(e, ERR_PERM, ERR_CODE_NOT_FOUND, "no Maildir", "%s is no Maildir: it has no cur/", path)
				   : read_messages(d, d->fd_cur, false, e);

	if (failed == 0)
		failed = read_messages(d, d->fd_new, true, e);
	if (d->count > 1)
		qsort(d->messages, d->count, sizeof *d->messages, by_name);
	if (failed == 0)
		failed = read_uidlist(d, lists, e);
	if (d->count > 1)
		qsort(d->messages, d->count, sizeof *d->messages, by_uid);
	if (failed == 0)
		failed = read_keywords(d, lists, e);
	if (failed)
		maildir_close(d);
	return failed ? -1 : 0;
}

static void
close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void
maildir_close(struct maildir *d)
{
	close_fd(&d->fd);
	close_fd(&d->fd_cur);
	close_fd(&d->fd_new);
	for (size_t i = 0; i < d->count; i++)
		free(d->messages[i].name);
	MEM_FREE(&d->messages);
	d->count = d->cap = 0;
	for (size_t i = 0; i < MAILDIR_KEYWORDS_MAX; i++)
		MEM_FREE(&d->keyword[i]);
}

int
maildir_message_open(const struct maildir *d, const struct maildir_message *m, struct err *e)
{
	struct stat st;
	int fd = open_file(m->in_new ? d->fd_new : d->fd_cur, m->name, &st);

	return fd >= 0 ? fd : err_sys(e, errno, "it cannot be opened");
}
