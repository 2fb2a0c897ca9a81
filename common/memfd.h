/*
 * memfd: how a message or a table rests between two processes: a sealed memory file that nobody can
 * change any more. A received descriptor is mapped only after its seals and its size were checked;
 * a file that is not sealed (spool/) is never mapped, only read with pread().
 */
#ifndef COMMON_MEMFD_H
#define COMMON_MEMFD_H

#include "common/buf.h"
#include "common/err.h"
#include "common/slice.h"

/* A sealed memory file with those octets; the caller owns the descriptor. -1 and e when the kernel
 * refuses. */
int memfd_of(struct slice octets, struct err *e) __attribute__((warn_unused_result));

/* An empty memory file to be written with write(2) or memfd_write(), then sealed. The caller owns
 * it. -1 and e on failure. */
int memfd_new(struct err *e) __attribute__((warn_unused_result));
/* Appends all of octets at the file's position; works for spool files too. 0, or -1 and e. */
int memfd_write(int fd, struct slice octets, struct err *e) __attribute__((warn_unused_result));
/* Seals it against any change for ever. 0, or -1 and e. */
int memfd_seal(int fd, struct err *e) __attribute__((warn_unused_result));

/* True when fd is a memory file sealed against shrinking, growing and writing. */
bool memfd_sealed(int fd);

struct memfd_map {
	struct slice octets;
};

/*
 * Maps a received memory file for reading. -1 with ERR_CODE_MALFORMED when it is not fully sealed
 * or its size is not exactly bytes (pass MEMFD_ANY_SIZE to take any size up to bytes_max), ERR_TEMP
 * when the kernel refuses. fd stays the caller's and may be closed at once. The empty file gives an
 * empty slice.
 */
#define MEMFD_ANY_SIZE UINT64_MAX
int memfd_map(int fd, uint64_t bytes, uint64_t bytes_max, struct memfd_map *map_r, struct err *e)
    __attribute__((warn_unused_result));
void memfd_unmap(struct memfd_map *map);

/*
 * Maps a received memory file as private memory: what is written there nobody else sees, and only pages that are written take
 * memory of this process. Behind the file's octets lie spare ones of 0, to grow into. bytes: the file's size, not 0; errors
 * as for memfd_map(). Give back with memfd_unmap_private().
 */
struct memfd_private {
	void *p;
	size_t n; /* octets mapped, at least bytes + spare */
};
int memfd_map_private(int fd, size_t bytes, size_t spare, struct memfd_private *map_r, struct err *e)
    __attribute__((warn_unused_result));
void memfd_unmap_private(struct memfd_private *map);

/*
 * Reads up to n octets at offset into p from any file, sealed or not: the octets read now may be
 * others than those read before when the file is not sealed, so whoever judges must copy first or
 * compare a hash. Gives the number read (less than n only at the end of the file), or -1 and e.
 */
int64_t memfd_read(int fd, uint64_t offset, void *p, size_t n, struct err *e)
    __attribute__((warn_unused_result));

/* Appends the whole file to b by memfd_read(); -1 and ERR_LIMIT when b's maximum is passed. Blocks
 * on disk for spool files. */
int memfd_read_all(int fd, struct buf *b, struct err *e) __attribute__((warn_unused_result));

/* Size of any regular or memory file; -1 and e for anything else. */
int64_t memfd_size(int fd, struct err *e) __attribute__((warn_unused_result));

#endif
