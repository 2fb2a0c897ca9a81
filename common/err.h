/*
 * err: an error as a value. `class` decides the protocol's answer (one
 * function per daemon maps it to 4yz/5yz, NO/BAD, -ERR); `client` is safe to
 * show to anyone (never a path, never an account's existence); `detail` goes
 * to the log once, where the error is first known.
 */
#ifndef COMMON_ERR_H
#define COMMON_ERR_H

#include <stdbool.h>

enum err_class {
	ERR_NONE = 0,
	ERR_TEMP,  /* the environment's fault: may work later */
	ERR_PERM,  /* the request cannot succeed as it is */
	ERR_LIMIT, /* a documented limit was reached */
	ERR_BUG,   /* our own fault */
};

/* Finer reasons that a protocol has a word for. Stable numbers: they cross edges. */
enum err_code {
	ERR_CODE_NONE = 0,
	ERR_CODE_NOT_FOUND = 1,	     /* mailbox, account, message: NONEXISTENT */
	ERR_CODE_EXISTS = 2,	     /* ALREADYEXISTS */
	ERR_CODE_OVER_QUOTA = 3,     /* OVERQUOTA, 4.2.2 */
	ERR_CODE_NO_SPACE = 4,	     /* disk full: 4.3.1 */
	ERR_CODE_DENIED = 5,	     /* NOPERM, 5.7.1 */
	ERR_CODE_UNAVAILABLE = 6,    /* a peer process is away: UNAVAILABLE, SYS/TEMP */
	ERR_CODE_IN_USE = 7,	     /* INUSE, IN-USE */
	ERR_CODE_BAD_NAME = 8,	     /* CANNOT */
	ERR_CODE_TOO_BIG = 9,	     /* TOOBIG, 5.3.4 */
	ERR_CODE_TIMEOUT = 10,	     /* a deadline passed */
	ERR_CODE_CORRUPT = 11,	     /* damaged on disk: CORRUPTION */
	ERR_CODE_MALFORMED = 12,     /* input that its grammar refuses */
	ERR_CODE_HAS_CHILDREN = 13,  /* HASCHILDREN */
	ERR_CODE_AUTH_FAILED = 14,   /* AUTHENTICATIONFAILED, 5.7.8 */
	ERR_CODE_EXPIRED = 15,	     /* a lease or credential is no longer good */
	ERR_CODE_UNCERTAIN = 16,     /* asked and never answered: it was done, or it was not; never crosses an edge */
};

struct err {
	enum err_class class;
	enum err_code code;
	char client[128];
	char detail[256];
};

/*
 * Fills *e and returns -1, so that a function can `return err_set(...)`.
 * client is a literal; detail is printf-like and may be NULL. e may be NULL.
 */
int err_set(struct err *e, enum err_class class, enum err_code code, const char *client,
    const char *detail, ...) __attribute__((format(printf, 5, 6)));

/* As err_set with class ERR_TEMP, and strerror(errnum) at the end of detail; ENOSPC and EDQUOT
 * become ERR_CODE_NO_SPACE. what names the failed call and object. */
int err_sys(struct err *e, int errnum, const char *what);

void err_clear(struct err *e);
const char *err_class_name(enum err_class class);

#endif
