/*
 * The index goes last: an account with messages and without an index is one
 * that was damaged, and is not opened; one with an index opens, to be removed again.
 */
#include "store/account.h"

#include "store/file.h"
#include "common/mutant.h"
#include "store/object.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

/* The one before may still be writing its checkpoint. */
#define LOCK_TRIES 200
#define LOCK_PAUSE_US 50000

int
account_lock(const char *root, struct err *e)
{
	char path[FILE_PATH_BYTES_MAX];

	file_path(path, root, "lock");
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0)
		return err_sys(e, errno, "lock");
	for (int i = 0; i < LOCK_TRIES; i++) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return 0;
		if (errno != EWOULDBLOCK && errno != EINTR)
			break;
		(void)usleep(LOCK_PAUSE_US);
	}
	int error = errno;

	(void)close(fd);
	return err_sys(e, error, "the account is locked by another process");
}

static const char *const directories[] = {"index", "index.new", "index.old"};
static const char *const files[] = {"account.dump", "account.dump.new", "reserve"};

/* The index directories that lie in dir. */
static int
remove_indexes(const char *dir, struct err *e)
{
	char path[FILE_PATH_BYTES_MAX];

	for (size_t i = 0; i < sizeof directories / sizeof directories[0]; i++) {
		file_path(path, dir, directories[i]);
		if (file_remove_dir(path, e) < 0)
			return -1;
	}
	return 0;
}

/* What salvages moved away. */
static int
remove_aside(void *arg, const char *path, const char *name, struct err *e)
{
	(void)arg;
	if (strncmp(name, "damaged.", 8) != 0)
		return 0;
	return remove_indexes(path, e) < 0 || file_remove_dir(path, e) < 0 ? -1 : 0;
}

static int
remove_mail(const char *root, struct err *e)
{
	char path[FILE_PATH_BYTES_MAX], name[16];

	for (unsigned shard = 0; shard < OBJECT_SHARDS; shard++) {
		(void)snprintf(name, sizeof name, "mail/%02x", shard);
		file_path(path, root, name);
		if (file_remove_dir(path, e) < 0)
			return -1;
	}
	file_path(path, root, "mail");
	return file_remove_dir(path, e);
}

/* The index goes by one rename to the name of one that is not finished: in pieces it would not open, and no keeper could go
 * on with the removal. */
static int
remove_index(const char *root, struct err *e)
{
	char now[FILE_PATH_BYTES_MAX], fresh[FILE_PATH_BYTES_MAX], old[FILE_PATH_BYTES_MAX];

	file_path(now, root, "index");
	file_path(fresh, root, "index.new");
	file_path(old, root, "index.old");
	/* An old one would take the place of the one that goes, and messages without an index are no account that can be opened. */
	if (file_remove_dir(fresh, e) < 0 || file_remove_dir(old, e) < 0 || (!MUTANT(ACCOUNT_SYNC) && file_sync_dir(root, e) < 0))
		return -1;
	int exists = file_exists(now, e);

	if (exists < 0 || (exists && (file_rename(now, fresh, e) < 0 || (!MUTANT(ACCOUNT_RENAME_SYNC) && file_sync_dir(root, e) < 0))))
		return -1;
	return file_remove_dir(fresh, e);
}

int
account_remove(const char *root, struct err *e)
{
	char path[FILE_PATH_BYTES_MAX];

	if (MUTANT(ACCOUNT_ORDER) && remove_index(root, e) < 0)
		return -1;
	if (remove_mail(root, e) < 0 || file_each(root, remove_aside, NULL, e) < 0)
		return -1;
	for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
		file_path(path, root, files[i]);
		if (file_unlink(path, e) < 0)
			return -1;
	}
	return remove_index(root, e) < 0 || (!MUTANT(ACCOUNT_END_SYNC) && file_sync_dir(root, e) < 0) ? -1 : 0;
}
