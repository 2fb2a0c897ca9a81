/*
 * Two layouts, told apart by what is there: Maildir++ has all folders in the Maildir itself under names that begin with "." and
 * divide levels by "."; the other one nests directories. Directories without cur/ and new/ are only levels of names.
 */
#include "admin/maildir.h"

#include "common/mem.h"
#include "store/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define FLAGS_DIRECTORY (O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)
#define PATH_BYTES_MAX 4096u
#define NO_NAME "its name can be no mailbox's"

static bool
is_maildir(int at)
{
	int fd = openat(at, "cur", FLAGS_DIRECTORY);

	if (fd < 0)
		return false;
	close(fd);
	return true;
}

static void
leave_aside(struct maildir_folders *f, const char *path, const char *why)
{
	size_t before = f->left_aside.n;

	if (!buf_put(&f->left_aside, path, strlen(path) + 1) || !buf_put(&f->left_aside, why, strlen(why) + 1))
		f->left_aside.n = before;
}

/* Takes a folder whose name on the disk is `name`; one that can be no mailbox is counted. */
static int
add_folder(struct maildir_folders *f, struct slice path, struct slice name, uint8_t separator, struct err *e)
{
	struct buf mailbox;

	buf_init(&mailbox, STORE_NAME_BYTES_MAX * 2);
	if (!maildir_folder_decode(name, separator, &mailbox)) {
		leave_aside(f, (const char *)path.p, NO_NAME);
		buf_fini(&mailbox);
		return 0;
	}
	if (f->count == MAILDIR_FOLDERS_MAX) {
		buf_fini(&mailbox);
		return err_set(e, ERR_LIMIT, ERR_CODE_NONE, "too many folders", "more than %u folders", MAILDIR_FOLDERS_MAX);
	}
	if (f->count == f->cap) {
		f->cap = f->cap ? f->cap * 2 : 16;
		f->folders = mem_resize(f->folders, f->cap, sizeof *f->folders);
	}
	f->folders[f->count++] = (struct maildir_folder){
	    .path = mem_copy_str(path.p, path.n), .mailbox = mem_copy_str(mailbox.p, mailbox.n)};
	buf_fini(&mailbox);
	return 0;
}

static bool
is_part_of_maildir(const char *name)
{
	static const char *const names[] = {".", "..", "cur", "new", "tmp"};

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (strcmp(names[i], name) == 0)
			return true;
	return false;
}

/* Looks through one directory; path (of PATH_BYTES_MAX) is where it lies below the Maildir, "" at first. */
static int
look_through(struct maildir_folders *f, int at, char *path, unsigned depth, struct err *e);

static int
look_at(struct maildir_folders *f, int at, const char *name, char *path, unsigned depth, struct err *e)
{
	int fd = openat(at, name, FLAGS_DIRECTORY);
	size_t before = strlen(path);
	bool dotted = name[0] == '.';
	int n, failed = 0;

	f->dotted = f->dotted || (dotted && fd >= 0);
	/* What is no directory, or a link, is none of ours. */
	if (fd < 0 && errno == EACCES)
		leave_aside(f, name, strerror(errno));
	if (fd < 0)
		return errno == ENOTDIR || errno == ELOOP || errno == ENOENT || errno == EACCES ? 0 : err_sys(e, errno, name);
	n = snprintf(path + before, PATH_BYTES_MAX - before, "%s%s", before > 0 ? "/" : "", name);
	if (n < 0 || (size_t)n >= PATH_BYTES_MAX - before || depth > STORE_NAME_LEVELS_MAX)
		leave_aside(f, name, NO_NAME);
	else if (is_maildir(fd) && dotted)
		failed = add_folder(f, slice_str(path), slice_str(name + 1), '.', e);
	else if (is_maildir(fd))
		failed = add_folder(f, slice_str(path), slice_str(path), '/', e);
	if (failed == 0 && !dotted && depth <= STORE_NAME_LEVELS_MAX && n > 0 && (size_t)n < PATH_BYTES_MAX - before)
		failed = look_through(f, fd, path, depth + 1, e);
	path[before] = '\0';
	close(fd);
	return failed;
}

static int
look_through(struct maildir_folders *f, int at, char *path, unsigned depth, struct err *e)
{
	int copy = openat(at, ".", FLAGS_DIRECTORY);
	DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;
	int failed = 0;

	if (dir == NULL)
		return err_sys(e, errno, path);
	for (const struct dirent *entry; failed == 0 && (entry = readdir(dir)) != NULL;)
		/* Names with "." are folders only in the Maildir itself. */
		if (!is_part_of_maildir(entry->d_name) && (depth == 1 || entry->d_name[0] != '.'))
			failed = look_at(f, at, entry->d_name, path, depth, e);
	(void)closedir(dir);
	return failed;
}

/* ---- subscriptions ---- */

static void
take_subscription(void *arg, uint32_t number, struct slice name)
{
	struct maildir_folders *f = arg;
	size_t before = f->subscriptions.n;

	(void)number;
	if (slice_index(name, '\n') < name.n || !buf_put_slice(&f->subscriptions, name) || !buf_put_u8(&f->subscriptions, '\n'))
		f->subscriptions.n = before;
}

static int
find_subscriptions(struct maildir_folders *f, int at, struct maildir_lists *lists, struct err *e)
{
	int fd = openat(at, "subscriptions", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	enum maildir_list which = f->dotted ? MAILDIR_LIST_SUBSCRIPTIONS_DOTTED : MAILDIR_LIST_SUBSCRIPTIONS;
	struct stat st;
	int failed = 0;

	if (fd < 0)
		return 0;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size <= MAILDIR_FILE_BYTES_MAX)
		failed = maildir_lists_read(lists, which, fd, take_subscription, f, e);
	close(fd);
	return failed;
}

/* ---- all of it ---- */

static int
by_mailbox(const void *a, const void *b)
{
	const struct maildir_folder *x = a, *y = b;
	int c = strcmp(x->mailbox, y->mailbox);

	return c != 0 ? c : strcmp(x->path, y->path);
}

int
maildir_folders_open(struct maildir_folders *f, const char *path, struct maildir_lists *lists, struct err *e)
{
	char below[PATH_BYTES_MAX] = "";
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int failed;

	*f = (struct maildir_folders){0};
	buf_init(&f->subscriptions, MAILDIR_FILE_BYTES_MAX * 2);
	buf_init(&f->left_aside, MAILDIR_FILE_BYTES_MAX);
	if (fd < 0)
		return err_sys(e, errno, path);
	failed = look_through(f, fd, below, 1, e);
	if (failed == 0 && f->count > 1)
		qsort(f->folders, f->count, sizeof *f->folders, by_mailbox);
	if (failed == 0 && is_maildir(fd)) {
		failed = add_folder(f, SLICE("."), SLICE("INBOX"), '/', e);
		if (failed == 0) {
			struct maildir_folder inbox = f->folders[f->count - 1];

			memmove(f->folders + 1, f->folders, (f->count - 1) * sizeof *f->folders);
			f->folders[0] = inbox;
		}
	}
	if (failed == 0 && f->count == 0)
		failed = err_set(e, ERR_PERM, ERR_CODE_NOT_FOUND, "no Maildir", "%s is no Maildir", path);
	if (failed == 0)
		failed = find_subscriptions(f, fd, lists, e);
	close(fd);
	if (failed)
		maildir_folders_close(f);
	return failed;
}

void
maildir_folders_close(struct maildir_folders *f)
{
	for (size_t i = 0; i < f->count; i++) {
		free(f->folders[i].path);
		free(f->folders[i].mailbox);
	}
	MEM_FREE(&f->folders);
	f->count = f->cap = 0;
	buf_fini(&f->subscriptions);
	buf_fini(&f->left_aside);
}
