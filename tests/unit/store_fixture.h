/*
 * What the store's tests share: an account directory that goes away, and
 * requests in one line each.
 */
#ifndef TESTS_UNIT_STORE_FIXTURE_H
#define TESTS_UNIT_STORE_FIXTURE_H

#include "common/log.h"
#include "common/memfd.h"
#include "store/index.h"
#include "store/object.h"
#include "tests/unit/tree.h"

#include <assert.h>
#include <openssl/evp.h>
#include <sys/wait.h>
#include <unistd.h>

/* An environment of Berkeley DB that panicked keeps its memory when it is closed; what is ours is still looked for. */
const char *__lsan_default_suppressions(void) __attribute__((weak));
const char *
__lsan_default_suppressions(void)
{
	return "leak:libdb-5.3";
}

#define FIXTURE_NOW UINT64_C(1700000000)

/* A new directory; path has at least 64 octets. */
static inline void
fixture_dir(char *path)
{
	const char *base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";

	(void)snprintf(path, 64, "%s/mailstead-store-XXXXXX", base);
	char *made = mkdtemp(path);

	assert(made != NULL);
}

/* Runs a command of the shell; its exit status, or -1. */
static inline int
fixture_shell(const char *command)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		execl("/bin/sh", "sh", "-c", command, (char *)NULL);
		_exit(127);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* The summary that appended messages get. */
static struct slice fixture_summary = {(const uint8_t *)"summary", 7};
/* The least UID of what is appended next, as an import gives it. */
static uint32_t fixture_uid;

/* Writes text as an object and appends it to mailbox in a transaction of its own; 0 or -1 with e. Not flushed. */
static inline int
fixture_append_request(struct index *ix, const char *root, uint32_t mailbox, const char *text,
    const uint8_t *origin, uint64_t sequence, uint32_t *uid_r, struct err *e)
{
	uint8_t sha256[32];
	uint64_t number = index_object_reserve(ix);
	struct index_append a = {.mailbox = mailbox, .uid = fixture_uid, .size = strlen(text), .internal_date = 1234567890,
	    .zone_minutes = 60, .summary = fixture_summary, .limit = {QUOTA_NONE, QUOTA_NONE}};
	int fd = memfd_of(slice_str(text), e);
	int failed;

	assert(fd >= 0);
	EVP_Digest(text, strlen(text), sha256, NULL, EVP_sha256(), NULL);
	object_id(number, sha256, a.object_id);
	failed = object_write(root, number, fd, a.size, sha256, e) < 0 ||
	    object_sync_shard(root, object_shard(number), e) < 0;
	close(fd);
	if (failed || index_begin(ix, e) < 0)
		return -1;
	if (index_append(ix, &a, uid_r, e) < 0 ||
	    (origin != NULL &&
		index_request_done(ix, INDEX_RING_DELIVERY, origin, sequence, slice_of(uid_r, sizeof *uid_r), e) < 0)) {
		index_abort(ix);
		return -1;
	}
	return index_commit(ix, e);
}

static inline int
fixture_append(struct index *ix, const char *root, uint32_t mailbox, const char *text, uint32_t *uid_r, struct err *e)
{
	return fixture_append_request(ix, root, mailbox, text, NULL, 0, uid_r, e);
}

static inline int
fixture_flags(struct index *ix, uint32_t mailbox, unsigned mode, uint32_t flags, const char *keywords, uint32_t first,
    uint32_t last, struct err *e)
{
	struct uid_range range = {first, last};
	struct uidset set = {.ranges = &range, .n = 1, .cap = 1}, modified = {0};
	struct index_flags f = {.mailbox = mailbox, .mode = mode, .flags = flags, .keywords = slice_str(keywords),
	    .unchangedsince = UINT64_MAX, .uids = &set};
	uint64_t modseq;
	int failed;

	if (index_begin(ix, e) < 0)
		return -1;
	failed = index_flags(ix, &f, &modseq, &modified, e);
	uidset_fini(&modified);
	if (failed) {
		index_abort(ix);
		return -1;
	}
	return index_commit(ix, e);
}

static inline int
fixture_expunge(struct index *ix, uint32_t mailbox, uint32_t first, uint32_t last, struct err *e)
{
	struct uid_range range = {first, last};
	struct uidset set = {.ranges = &range, .n = 1, .cap = 1};
	uint64_t modseq;

	if (index_begin(ix, e) < 0)
		return -1;
	if (index_expunge(ix, mailbox, false, &set, &modseq, e) < 0) {
		index_abort(ix);
		return -1;
	}
	return index_commit(ix, e);
}

static inline int
fixture_copy(struct index *ix, uint32_t mailbox, uint32_t target, bool move, uint32_t first, uint32_t last, struct err *e)
{
	struct uid_range range = {first, last};
	struct uidset set = {.ranges = &range, .n = 1, .cap = 1}, source = {0}, made = {0};
	int failed;

	if (index_begin(ix, e) < 0)
		return -1;
	failed = index_copy(ix, mailbox, target, move, &set, (struct quota){QUOTA_NONE, QUOTA_NONE}, &source, &made, e);
	uidset_fini(&source);
	uidset_fini(&made);
	if (failed) {
		index_abort(ix);
		return -1;
	}
	return index_commit(ix, e);
}

/* Brings back messages first..last of what was in mailbox; how many in *count_r. */
static inline int
fixture_undelete(struct index *ix, uint32_t mailbox, uint32_t first, uint32_t last, uint32_t *count_r, struct err *e)
{
	const struct quota none = {QUOTA_NONE, QUOTA_NONE};
	struct store_retained_id ids[256];
	size_t n = 0;

	assert(first <= last && last - first < 256);
	for (uint32_t uid = first; uid <= last; uid++)
		ids[n++] = (struct store_retained_id){mailbox, uid};
	if (index_begin(ix, e) < 0)
		return -1;
	if (index_undelete(ix, ids, n, none, count_r, e) < 0) {
		index_abort(ix);
		return -1;
	}
	return index_commit(ix, e);
}

static inline int
fixture_forget(struct index *ix, uint32_t mailbox, uint32_t first, uint32_t last, struct quota *usage_r,
    struct err *e)
{
	struct store_retained_id ids[256];
	size_t n = 0;

	assert(first <= last && last - first < 256);
	for (uint32_t uid = first; uid <= last; uid++)
		ids[n++] = (struct store_retained_id){mailbox, uid};
	if (index_begin(ix, e) < 0)
		return -1;
	if (index_forget(ix, ids, n, usage_r, e) < 0) {
		index_abort(ix);
		return -1;
	}
	return index_commit(ix, e);
}

static inline int
fixture_undelete_mailbox(struct index *ix, uint32_t mailbox, const char *name, uint32_t *uidvalidity_r, struct err *e)
{
	const struct quota none = {QUOTA_NONE, QUOTA_NONE};

	if (index_begin(ix, e) < 0)
		return -1;
	if (index_undelete_mailbox(ix, mailbox, slice_str(name), none, uidvalidity_r, e) < 0) {
		index_abort(ix);
		return -1;
	}
	return index_commit(ix, e);
}

/* Gives the class and code of the outcome in e; the number of the mailbox made or renamed. */
static inline uint32_t
fixture_mailbox(struct index *ix, unsigned verb, const char *name, const char *new_name, struct err *e)
{
	uint32_t number = 0, uidvalidity;

	err_clear(e);
	if (index_begin(ix, e) < 0)
		return 0;
	if (index_mailbox_change(ix, verb, slice_str(name), slice_str(new_name), 0, &number, &uidvalidity, e) < 0) {
		index_abort(ix);
		return 0;
	}
	return index_commit(ix, e) == 0 ? number : 0;
}

#endif
