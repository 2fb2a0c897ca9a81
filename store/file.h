/*
 * file: the one door from the store to the file system, for its own calls and
 * for Berkeley DB's (through db_env_set_func_*, in production too). Tests put
 * their own table behind it to record, to inject faults, to cut the power.
 *
 * Berkeley DB never syncs a directory. Here the directory of a file that was
 * created or renamed by it is synced before the call returns.
 *
 * A sync that failed means that what it covered is lost, whatever a later sync
 * says: from then on file_lost() is true and every write and sync through this
 * door fails with EIO. The process must end; its successor evicts what the page cache claims.
 *
 * All of it blocks on the disk.
 */
#ifndef STORE_FILE_H
#define STORE_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/err.h"
#include "common/slice.h"

#define FILE_PATH_BYTES_MAX 512

/* Each as the system call of that name: -1 and errno on failure. */
struct file_ops {
	int (*open)(const char *path, int flags, mode_t mode);
	int (*close)(int fd);
	ssize_t (*pread)(int fd, void *p, size_t n, off_t at);
	ssize_t (*pwrite)(int fd, const void *p, size_t n, off_t at);
	int (*ftruncate)(int fd, off_t length);
	int (*sync)(int fd); /* fdatasync(2), of directories fsync(2) */
	int (*rename)(const char *from, const char *to);
	int (*unlink)(const char *path);
	int (*mkdir)(const char *path, mode_t mode);
	int (*rmdir)(const char *path);
	/* Octets that a file system has left for us. */
	uint64_t (*space)(const char *path);
};

/* Puts a table behind the door; NULL: the system's own. */
void file_use(const struct file_ops *ops);
/* The system's own table, for a table that only adds to it. */
const struct file_ops *file_system_ops(void);
/* Sends Berkeley DB through the door. Once per process, before the first environment. */
void file_hook_db(void);
bool file_lost(void);
/* Forgets the loss: for tests, which play the next process. */
void file_lost_reset(void);
/* errno of the last call that failed since file_error_reset(), but ENOENT and EEXIST; 0 when none did. Tells a full disk
 * or a broken device from a damaged file when Berkeley DB's own answer does not. */
int file_error(void);
void file_error_reset(void);

/* fd or -1 and e. */
int file_open(const char *path, int flags, struct err *e) __attribute__((warn_unused_result));
int file_close(int fd, struct err *e);
/* All n octets at `at`; -1 and e. */
int file_write(int fd, uint64_t at, struct slice octets, struct err *e) __attribute__((warn_unused_result));
/* Up to n octets, less only at the end of the file; the number read, or -1 and e. */
int64_t file_read(int fd, uint64_t at, void *p, size_t n, struct err *e) __attribute__((warn_unused_result));
int file_sync(int fd, struct err *e) __attribute__((warn_unused_result));
int file_sync_dir(const char *path, struct err *e) __attribute__((warn_unused_result));
int file_rename(const char *from, const char *to, struct err *e) __attribute__((warn_unused_result));
/* A file that is not there counts as removed. */
int file_unlink(const char *path, struct err *e);
/* A directory that is there counts as made; made_r tells whether it was made now. */
int file_mkdir(const char *path, bool *made_r, struct err *e) __attribute__((warn_unused_result));
bool file_exists(const char *path);
uint64_t file_space(const char *path);
/* Removes a directory with its files (one level). One that is not there counts as removed. */
int file_remove_dir(const char *path, struct err *e);
/* Drops what the page cache holds of the files of a directory, so that they are read from the disk. */
void file_evict_dir(const char *path);

/* dir/name into path_r (FILE_PATH_BYTES_MAX octets); a name that does not fit is our own fault. */
void file_path(char *path_r, const char *dir, const char *name);

#endif
