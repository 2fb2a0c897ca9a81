/*
 * check: does an account contradict itself? Every record of the index is read, all that follows from others is computed
 * again and compared, and every message's file is looked for. It goes in steps over a snapshot of the index
 * (store/snapshot.h), so that the account is served meanwhile and what changes meanwhile makes no false alarm.
 */
#ifndef STORE_CHECK_H
#define STORE_CHECK_H

#include "common/cursor.h"
#include "store/index.h"

/* One contradiction. */
struct check_finding {
	struct slice code; /* a word: "object-missing"; docs/operations.md lists them */
	struct slice text; /* plain words */
	struct slice mailbox; /* its name; empty when it is about none */
	uint32_t uid;	      /* 0: about no message */
	uint64_t object;      /* number of the object; UINT64_MAX: about none */
};
/* Octets of findings that a keeper tells. */
#define CHECK_FINDINGS_BYTES_MAX (16u << 20)
/* Findings as they pass from the keeper to the command. */
bool check_finding_put(struct buf *b, const struct check_finding *f);
/* The next one; false at the end or when the octets are none (then c->bad). Slices point into the input. */
bool check_finding_next(struct cursor *c, struct check_finding *finding_r) __attribute__((warn_unused_result));

typedef void check_found_fn(void *arg, const struct check_finding *f);

struct check;
/* Outside of transactions; no other snapshot of the index may be open. deep: read every object and compare its hash,
 * read the summaries, look for files that nothing refers to. Never NULL. */
struct check *check_begin(struct index *ix, bool deep, check_found_fn *found, void *arg);
/* About ms milliseconds of work: 1 when there is more, 0 when all was looked at, -1 when it could not be. */
int check_step(struct check *c, unsigned ms, struct err *e) __attribute__((warn_unused_result));
/* Messages looked at, expunged ones too, and all of them; those in mailboxes, once all was looked at; how many
 * contradictions were found. */
uint64_t check_done(const struct check *c, uint64_t *total_r);
uint64_t check_messages(const struct check *c);
uint64_t check_found(const struct check *c);
void check_free(struct check **c);

#endif
