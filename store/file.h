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
 * door fails with EIO. The process must end; its successor begins with file_settle_dir(). The same goes for a log of
 * Berkeley DB's that it cannot read, which it would take for one that ends there.
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
/* The size of Berkeley DB's log files, which get their room when they are made: so what is written into one cannot fail for
 * want of it, nor recovery, which fills the last one with zeros. */
#define FILE_LOG_BYTES (2u << 20)
/* Set aside in each directory that a process owns, for what must go on when the disk is full: another log file, and pages. */
#define FILE_RESERVE_BYTES (3u << 20)
/* What new mail leaves free beside it. */
#define FILE_SPACE_BYTES_MIN (4u << 20)

typedef bool file_name_fn(void *arg, const char *name);

/* Each as the system call of that name: -1 and errno on failure. */
struct file_ops {
	int (*open)(const char *path, int flags, mode_t mode);
	int (*close)(int fd);
	ssize_t (*pread)(int fd, void *p, size_t n, off_t at);
	ssize_t (*pwrite)(int fd, const void *p, size_t n, off_t at);
	int (*ftruncate)(int fd, off_t length);
	int (*allocate)(int fd, off_t length); /* posix_fallocate(3) from 0 on */
	int (*sync)(int fd); /* fdatasync(2), of directories fsync(2) */
	int (*rename)(const char *from, const char *to);
	int (*unlink)(const char *path);
	int (*mkdir)(const char *path, mode_t mode);
	int (*rmdir)(const char *path);
	int (*exists)(const char *path); /* 1, 0, or -1 when that cannot be told */
	/* Calls fn for each name but "." and ".." until it gives false. */
	int (*list)(const char *path, file_name_fn *fn, void *arg);
	void (*evict)(const char *path); /* drops what the page cache holds of a file */
	/* Octets that a file system has left for us. */
	uint64_t (*space)(const char *path);
};

/* Puts a table behind the door (copied; an entry that is NULL is the system's); NULL: the system's own. */
void file_use(const struct file_ops *ops);
/* The system's own table, for a table that only adds to it. */
const struct file_ops *file_system_ops(void);
/* Sends Berkeley DB through the door. Once per process, before the first environment. */
void file_hook_db(void);
/* Is that the beginning of a page that Berkeley DB takes for a hole in its file: without a place in the log, a number, a type? It does
 * not look at its sum. */
bool file_is_hole(const uint8_t *page, size_t n);
/* Each page that Berkeley DB reads from now on was written once, so that a hole is damage. They have so many octets; 0: that is
 * not so, as during recovery, which meets pages that a power cut left without their octets. */
void file_pages_written(size_t bytes);
/* Has it read a hole since file_pages_written(0)? It may have been kept, and then no hook sees it again. */
bool file_hole_met(void);
/* Octets of a log file: FILE_LOG_BYTES, or what a test makes of it so that a short history has many. */
uint32_t file_log_bytes(void);
void file_set_log_bytes(uint32_t bytes);
bool file_lost(void);
/* Forgets the loss: for tests, which play the next process. */
void file_lost_reset(void);
/* errno of the last call but reads that failed since file_error_reset(), but ENOENT and EEXIST; 0 when none did. Tells a full disk
 * or a broken device from a damaged file when Berkeley DB's own answer does not. */
int file_error(void);
void file_error_reset(void);
/* errno of the last call since file_shortage_reset() that failed for want of descriptors or memory, or was interrupted; 0 when
 * none did. What could not be looked at for that is not damaged: it may be looked at later. */
int file_shortage(void);
void file_shortage_reset(void);

/* fd or -1 and e. */
int file_open(const char *path, int flags, struct err *e) __attribute__((warn_unused_result));
int file_close(int fd, struct err *e);
/* All n octets at `at`; -1 and e. */
int file_write(int fd, uint64_t at, struct slice octets, struct err *e) __attribute__((warn_unused_result));
/* Up to n octets, less only at the end of the file; the number read, or -1 and e. */
int64_t file_read(int fd, uint64_t at, void *p, size_t n, struct err *e) __attribute__((warn_unused_result));
/* Begins to write a file out, so that the syncs of several find their data under way and their metadata in one commit. Only file_sync()
 * tells what came of it. */
void file_write_out(int fd);
int file_sync(int fd, struct err *e) __attribute__((warn_unused_result));
int file_sync_dir(const char *path, struct err *e) __attribute__((warn_unused_result));
int file_rename(const char *from, const char *to, struct err *e) __attribute__((warn_unused_result));
/* A file that is not there counts as removed. */
int file_unlink(const char *path, struct err *e);
/* A directory that is there counts as made; made_r tells whether it was made now. */
int file_mkdir(const char *path, bool *made_r, struct err *e) __attribute__((warn_unused_result));
/* 1, 0, or -1 and e: what cannot be looked for is not taken for missing. */
int file_exists(const char *path, struct err *e) __attribute__((warn_unused_result));
/* fn for each name in a directory (none in one that is not there), until it gives other than 0. path is dir/name. */
typedef int file_each_fn(void *arg, const char *path, const char *name, struct err *e);
int file_each(const char *dir, file_each_fn *fn, void *arg, struct err *e) __attribute__((warn_unused_result));
/* Removes a directory with its files (one level). One that is not there counts as removed. */
int file_remove_dir(const char *path, struct err *e);
/*
 * Takes a directory over from a process that may have been killed, or whose sync failed: its entries and its files are
 * synced, because what such a process did is visible and not durable; then the page cache is dropped, because after a
 * failed sync it shows what the disk does not have.
 */
int file_settle_dir(const char *path, struct err *e) __attribute__((warn_unused_result));

/*
 * The reserve of the directory that this process owns: the file dir/reserve of FILE_RESERVE_BYTES. When the disk or a
 * quota is full, every call through this door but file_write() gives it up and goes on with its room. file_reserve()
 * names the directory, and makes the reserve when there is room for it; without that call there is none.
 */
void file_reserve(const char *dir);
/* May that many octets more be brought in: is the reserve whole (it is made so again when there is room for it and
 * FILE_SPACE_BYTES_MIN beside it), and is FILE_SPACE_BYTES_MIN left beside them? */
bool file_has_room(const char *path, uint64_t more);

/* dir/name into path_r (FILE_PATH_BYTES_MAX octets); a name that does not fit is our own fault. */
void file_path(char *path_r, const char *dir, const char *name);

#endif
