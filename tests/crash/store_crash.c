/*
 * Cuts the power of an account at every moment of a seeded workload, opens what
 * is left, and compares it with what the account was after one of the
 * transactions: not before the last one that was acknowledged, not after the last one begun.
 *
 *   store_crash [--states N] [--seed S] [--operations N]     explores
 *   store_crash --replay SEED:OPERATIONS:CUT:VARIANT          one state again
 *
 * Variants of a cut: 0 all that was done is there, 1 only what was synced, from
 * 2 on seeded choices with torn writes.
 */
#include "tests/crash/crash_fs.h"
#include "tests/unit/store_digest.h"

#include "common/log.h"
#include "common/mem.h"
#include "store/index_private.h"

#include <stdio.h>

/* After an operation of the file layer: what was durable by promise, and what could be. */
struct moment {
	uint64_t acked;
	uint64_t begun;
};

static struct moment *moments;
static size_t moment_cap;
static char **digests; /* by serial */
static size_t digest_cap;
static uint64_t acked, begun;
static uint64_t random_state;
static bool verbose;

static uint64_t
dice(uint64_t sides)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state % sides;
}

/* ---- the workload ---- */

static void
note_moments(void)
{
	size_t n = crash_fs_count();
	static size_t noted;

	if (n + 1 < noted)
		noted = 0;
	if (n + 1 > moment_cap) {
		moment_cap = n + 4096;
		moments = mem_resize(moments, moment_cap, sizeof *moments);
	}
	for (; noted <= n; noted++)
		moments[noted] = (struct moment){acked, begun};
}

static void
note_commit(struct index *ix)
{
	uint64_t serial = index_serial(ix);
	struct err e;

	if (serial >= digest_cap) {
		size_t cap = (size_t)serial + 256;

		digests = mem_resize(digests, cap, sizeof *digests);
		memset(digests + digest_cap, 0, (cap - digest_cap) * sizeof *digests);
		digest_cap = cap;
	}
	free(digests[serial]);
	digests[serial] = store_digest(ix, &e);
	assert(digests[serial] != NULL);
	/* Only housekeeping makes several transactions in one call, and none of them changes what is seen. */
	for (uint64_t gap = serial - 1; gap > 0 && digests[gap] == NULL; gap--)
		digests[gap] = mem_copy_str(digests[serial], strlen(digests[serial]));
}

static uint32_t
any_mailbox(struct index *ix)
{
	for (;;) {
		uint32_t number = (uint32_t)dice(16) + 1;

		if (index_mailbox(ix, number) != NULL)
			return number;
	}
}

static int
do_append(struct index *ix, const char *root, struct err *e)
{
	static const uint8_t summary[120000];
	char text[512];
	size_t n = 20 + dice(400);
	uint32_t uid;

	/* Long summaries, so that the log goes through several files. */
	fixture_summary = slice_of(summary, dice(8) ? 100 : sizeof summary);
	memset(text, 'a' + (int)dice(26), n);
	text[n] = '\0';
	return fixture_append(ix, root, any_mailbox(ix), text, &uid, e);
}

static int
do_mailbox(struct index *ix, struct err *e)
{
	static const char *const names[] = {"a", "a/b", "c", "c/d/e", "Old"};
	static const unsigned verbs[] = {MBOX_CREATE, MBOX_CREATE, MBOX_DELETE, MBOX_RENAME, MBOX_SUBSCRIBE};
	const char *name = names[dice(5)], *other = dice(6) ? names[dice(5)] : "INBOX";

	(void)fixture_mailbox(ix, verbs[dice(5)], dice(8) ? name : "INBOX", other, e);
	return e->class == ERR_TEMP || e->class == ERR_BUG ? -1 : 0;
}

static int
do_one(struct index *ix, const char *root, struct err *e)
{
	uint32_t mailbox = any_mailbox(ix), first = (uint32_t)dice(40) + 1, last = first + (uint32_t)dice(30);

	switch (dice(10)) {
	case 0:
		return fixture_flags(ix, mailbox, 1 + (unsigned)dice(3), (uint32_t)dice(32), dice(2) ? "x\ny\n" : "", first, last, e);
	case 1:
		return fixture_copy(ix, mailbox, any_mailbox(ix), dice(2), first, last, e);
	case 2:
		return fixture_expunge(ix, mailbox, first, first + (uint32_t)dice(5), e);
	case 3:
		return do_mailbox(ix, e);
	default:
		return do_append(ix, root, e);
	}
}

/* Housekeeping that makes Berkeley DB write pages, and base copies. */
static int
do_upkeep(struct index **ix, const char *root, struct err *e)
{
	int r;

	switch (dice(5)) {
	case 0:
		while ((r = index_purge(*ix, FIXTURE_NOW + 1000, e)) == 1)
			note_commit(*ix);
		note_commit(*ix);
		return r;
	case 1:
		index_close(ix);
		return index_open(root, FIXTURE_NOW, ix, e);
	case 2:
		return index_upkeep_now(*ix, e);
	default:
		/* A base copy that goes on while requests are done. */
		if ((*ix)->base_writer == NULL)
			return base_begin((*ix)->env, (*ix)->dir, index_serial(*ix), FIXTURE_NOW, &(*ix)->base_writer, e);
		return base_step(&(*ix)->base_writer, 1, &(*ix)->base, e) < 0 ? -1 : 0;
	}
}

static void
die(const char *what, const struct err *e)
{
	fprintf(stderr, "store_crash: the workload itself failed: %s: %s / %s\n", what, e->client, e->detail);
	exit(2);
}

static void
run_workload(const char *root, uint64_t seed, unsigned operations)
{
	struct index *ix;
	struct err e = {0};

	random_state = seed * 2654435761u + 88172645463325252u;
	acked = begun = 0;
	for (size_t i = 0; i < digest_cap; i++)
		MEM_FREE(&digests[i]);
	crash_fs_start(root);
	/* Until the account is there, it is new or not there. */
	begun = 1;
	if (index_open(root, FIXTURE_NOW, &ix, &e) < 0)
		die("open", &e);
	acked = begun = index_serial(ix);
	note_commit(ix);
	note_moments();
	for (unsigned i = 0; i < operations; i++) {
		/* Whatever a file operation of it did, the transaction may be there after a cut. */
		begun = index_serial(ix) + 1;
		if (dice(8) == 0) {
			begun += 20;
			if (do_upkeep(&ix, root, &e) < 0)
				die("upkeep", &e);
		} else if (do_one(ix, root, &e) < 0 && e.class != ERR_PERM && e.class != ERR_LIMIT) {
			die("operation", &e);
		}
		begun = index_serial(ix);
		note_commit(ix);
		index_changes_reset(ix);
		note_moments();
		if (dice(3) != 0) {
			if (index_flush(ix, &e) < 0)
				die("flush", &e);
			note_moments();
			acked = index_serial(ix);
			moments[crash_fs_count()].acked = acked;
		}
	}
	index_close(&ix);
	note_moments();
	crash_fs_stop();
	file_use(NULL);
}

/* ---- one state ---- */

/* NULL when the state is good, else why not. */
static const char *
judge(const char *root, size_t cut, struct err *e)
{
	struct index *ix;
	const char *why = NULL;
	char *found;
	uint64_t serial;

	if (index_open(root, FIXTURE_NOW, &ix, e) < 0)
		return "it does not open";
	serial = index_serial(ix);
	found = store_digest(ix, e);
	if (found == NULL)
		why = "it cannot be read";
	else if (serial < moments[cut].acked)
		why = "an acknowledged transaction is lost";
	else if (serial > moments[cut].begun)
		why = "a transaction that was never begun";
	else if (serial >= digest_cap || digests[serial] == NULL || strcmp(found, digests[serial]) != 0)
		why = "it is not what it was after that transaction";
	else if (index_check(ix, e) < 0)
		why = "it contradicts itself";
	if (why != NULL && verbose && found != NULL)
		fprintf(stderr, "found (serial %llu):\n%s\nwanted:\n%s\n", (unsigned long long)serial, found,
		    serial < digest_cap && digests[serial] ? digests[serial] : "-");
	free(found);
	index_close(&ix);
	return why;
}

static bool
try_state(uint64_t seed, unsigned operations, size_t cut, unsigned variant)
{
	enum crash_mode mode = variant == 0 ? CRASH_ALL : variant == 1 ? CRASH_NONE : CRASH_RANDOM;
	char target[64], what[256];
	struct err e = {0};
	const char *why;

	fixture_dir(target);
	crash_fs_make(cut, mode, seed * 1000003 + cut * 131 + variant, target);
	why = judge(target, cut, &e);
	fixture_remove(target);
	if (why == NULL)
		return true;
	crash_fs_describe(cut, what, sizeof what);
	fprintf(stderr, "store_crash: %s (%s %s), after: %s; acknowledged %llu, begun %llu\n  again: --replay %llu:%u:%zu:%u\n", why,
	    e.client, e.detail, what, (unsigned long long)moments[cut].acked, (unsigned long long)moments[cut].begun,
	    (unsigned long long)seed, operations, cut, variant);
	return false;
}

static unsigned
explore(uint64_t seed, unsigned operations, unsigned states, unsigned *explored)
{
	char root[64];
	unsigned failures = 0;
	uint64_t choice = seed + 77;

	fixture_dir(root);
	run_workload(root, seed, operations);
	for (unsigned i = 0; i < states && failures < 5; i++) {
		size_t cut;

		do {
			choice = choice * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
			cut = (size_t)((choice >> 33) % (crash_fs_count() + 1));
		} while (crash_fs_is_filler(cut) && choice >> 60 != 0);
		failures += !try_state(seed, operations, cut, (unsigned)(i % 8));
		++*explored;
	}
	fixture_remove(root);
	return failures;
}

static int
replay(const char *text)
{
	unsigned long long seed;
	unsigned operations, variant;
	size_t cut;
	char root[64];

	if (sscanf(text, "%llu:%u:%zu:%u", &seed, &operations, &cut, &variant) != 4)
		return 2;
	verbose = true;
	fixture_dir(root);
	run_workload(root, seed, operations);
	bool good = try_state(seed, operations, cut, variant);

	fixture_remove(root);
	return good ? 0 : 1;
}

int
main(int argc, char **argv)
{
	unsigned long states = 400, seed = 1, operations = 120;
	unsigned explored = 0, failures = 0;

	log_init("store_crash", LOG_BUG);
	file_hook_db();
	for (int i = 1; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--replay") == 0)
			return replay(argv[i + 1]);
		unsigned long value = strtoul(argv[i + 1], NULL, 10);

		if (strcmp(argv[i], "--states") == 0)
			states = value;
		else if (strcmp(argv[i], "--seed") == 0)
			seed = value;
		else if (strcmp(argv[i], "--operations") == 0)
			operations = value;
	}
	for (unsigned long s = seed; explored < states && failures == 0; s++)
		failures += explore(s, (unsigned)operations, (unsigned)(states - explored < 200 ? states - explored : 200),
		    &explored);
	printf("store_crash: %u states explored, %u wrong\n", explored, failures);
	return failures != 0;
}
