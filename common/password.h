/*
 * password: hashes of passwords by libcrypt (yescrypt, crypt(5)). Slow on
 * purpose: only the mailstead command and the verifier pool call the functions
 * that compute; the directory only stores and compares what they made.
 */
#ifndef COMMON_PASSWORD_H
#define COMMON_PASSWORD_H

#include "common/err.h"
#include "common/slice.h"

/* A password is UTF-8 without control characters, of so many octets, compared in NFC (RFC
 * 8265 4.2.2). */
#define PASSWORD_BYTES_MIN 1
#define PASSWORD_BYTES_MAX 255
/* With NUL. libcrypt's own CRYPT_OUTPUT_SIZE is 384. */
#define PASSWORD_HASH_SIZE 384

/*
 * The cost of new hashes, as crypt(5) counts it for yescrypt: 5 means 16 MiB and some 25 ms of one
 * idle core; each step up doubles both. A verifier process needs that memory once.
 */
#define PASSWORD_COST 5

/* May this be set as a new password? On false e says what is wrong, in words for the one who sets
 * it. */
bool password_acceptable(struct slice password, struct err *e);

/*
 * Hashes an acceptable password with a new random salt; blocks for its cost. -1 and e when libcrypt
 * or the kernel's random numbers fail. hash_r is NUL-terminated.
 */
int password_hash(struct slice password, char hash_r[PASSWORD_HASH_SIZE], struct err *e)
    __attribute__((warn_unused_result));

/*
 * True when password is the one hash was made of; hash may be any method that libcrypt knows.
 * Blocks for the hash's cost whatever the answer is; compares in constant time. What is not
 * acceptable as a password is hashed as some other one, and fails.
 */
bool password_matches(struct slice password, struct slice hash);

/* Has hash the form of a crypt(5) hash that libcrypt can compute, and a method that is not of the
 * past (DES, MD5)? */
bool password_hash_valid(struct slice hash);

/*
 * A hash of the usual cost that no password matches, for logins that do not exist: checking against
 * it takes as long as checking a real one. Does not compute anything.
 */
int password_hash_nobody(char hash_r[PASSWORD_HASH_SIZE], struct err *e)
    __attribute__((warn_unused_result));

#endif
