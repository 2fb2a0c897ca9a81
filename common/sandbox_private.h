/*
 * The rows of the sandbox table, for common/sandbox*.c and the test of the sandbox alone.
 */
#ifndef COMMON_SANDBOX_PRIVATE_H
#define COMMON_SANDBOX_PRIVATE_H

#include "common/sandbox.h"

#include <stdbool.h>

/* Groups of system calls beyond those that every role has (memory, clocks, signals to itself, the
 * event loop, messages). */
enum sandbox_calls {
	CALLS_ACCEPT =
	    1 << 0, /* accept4, getpeername, getsockname, shutdown on listeners and clients */
	CALLS_NETWORK =
	    1 << 1,	      /* socket, connect, bind, sendto ... for AF_INET and AF_INET6 only */
	CALLS_FILES = 1 << 2, /* open, create, rename, unlink, sync: Landlock says where */
	CALLS_MEMFD = 1 << 3, /* memfd_create and its seals */
	CALLS_PAIR = 1 << 4,  /* socketpair of AF_UNIX */
};

struct sandbox_row {
	const char *user;	/* its own; the group has the same name */
	const char *directory;	/* below the state directory, readable and writable; "%" is the
				   account; NULL: none */
	const char *directory2; /* a second one, or NULL */
	unsigned calls;
	unsigned files_max;	     /* RLIMIT_NOFILE */
	unsigned data_megabytes_max; /* RLIMIT_DATA */
	int oom_score;		     /* -1000 ... 1000: the higher, the sooner it is killed */
};

/* NULL for the supervisor, which is not confined. */
const struct sandbox_row *sandbox_row(enum role role);

/* The three walls, each 0 or -1 and e. */
int sandbox_landlock(
    const struct sandbox_place *place, const struct sandbox_row *row, struct err *e);
int sandbox_seccomp(const struct sandbox_row *row, struct err *e);

/* The path of a row's directory (which: 0 or 1) in dst; false when it has none or it does not fit.
 */
bool sandbox_path(const struct sandbox_place *place, const struct sandbox_row *row, unsigned which,
    char *dst, size_t size);

#endif
