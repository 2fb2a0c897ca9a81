/*
 * The index goes first: then nothing refers to messages any more, and an
 * account of which only part is left opens as an empty one.
 */
#include "store/account.h"

#include "store/file.h"
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

int
account_remove(const char *root, struct err *e)
{
	static const char *const directories[] = {"index", "index.new", "index.old"};
	static const char *const files[] = {"account.dump", "account.dump.new", "reserve"};
	char path[FILE_PATH_BYTES_MAX], name[16];

	for (size_t i = 0; i < sizeof directories / sizeof directories[0]; i++) {
		file_path(path, root, directories[i]);
		if (file_remove_dir(path, e) < 0)
			return -1;
	}
	if (file_sync_dir(root, e) < 0)
		return -1;
	for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
		file_path(path, root, files[i]);
		if (file_unlink(path, e) < 0)
			return -1;
	}
	for (unsigned shard = 0; shard < OBJECT_SHARDS; shard++) {
		(void)snprintf(name, sizeof name, "mail/%02x", shard);
		file_path(path, root, name);
		if (file_remove_dir(path, e) < 0)
			return -1;
	}
	file_path(path, root, "mail");
	return file_remove_dir(path, e) < 0 || file_sync_dir(root, e) < 0 ? -1 : 0;
}
