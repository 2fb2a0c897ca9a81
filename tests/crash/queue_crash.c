/*
 * Power cuts at moments of the queue's life, seeded ones or (--whole) every one: messages are added, changed and removed on a
 * recorded file layer, then the directory is made as a cut would have left it, opened by a new process, and compared: it must be
 * what it was after some change between the last acknowledged and the last begun one, and every message's files must be whole. Some
 * of the chosen states lose their index too, and have another cut while it is made again.
 *
 *   queue_crash [--states N] [--seed S]      explores moments that are chosen, and parts of what was not synced
 *   queue_crash --whole N [--seed S]         all of N lives: every moment, with all of that and with nothing of it
 *   queue_crash --replay SEED:CUT.VARIANT [--mutant NAME]
 *   queue_crash_mutants --mutant NAME|all [--states N]
 */
#include "common/log.h"
#include "common/mem.h"
#include "common/memfd.h"
#include "smtpd/queue.h"
#include "store/file.h"
#include "tests/crash/crash_fs.h"
#include "tests/crash/crash_mutant.h"
#include "tests/crash/crash_run.h"
#include "tests/crash/crash_same.h"

#include <errno.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define IDS 6
#define OPERATIONS 40
#define CHANGES_AT_ONCE 4
#define TEXT_BYTES 3000
/* Of the last id: it has a file of its own. */
#define LONG_TEXT_BYTES (QUEUE_TEXT_TOGETHER_MAX + 2000)
#define STATES_PER_SEED 100
/* So that some messages are in packs that are ended. */
#define PACK_BYTES 12000
/* Ways to try a moment: the last two lose the index as well. */
#define VARIANTS 9

/* attempts per id after each change; 0: not there */
static uint32_t versions[OPERATIONS * CHANGES_AT_ONCE + 1][IDS];
static unsigned version_count; /* of changes begun */
/* For each number of file operations: the changes acknowledged, and those begun, at that moment. */
static struct moment {
	unsigned acked, begun;
} *moments;
static size_t moments_n;

static uint64_t random_state;
static struct crash_record *record;
static struct queue_spot spots[IDS];

static unsigned
dice(unsigned sides)
{
	random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (unsigned)((random_state >> 33) % sides);
}

static void
die(const char *what, const struct err *e)
{
	fprintf(stderr, "queue_crash: %s: %s\n", what, e ? e->detail : "");
	exit(2);
}

/* ---- messages ---- */

static struct slice
text_of(unsigned id)
{
	static uint8_t text[LONG_TEXT_BYTES];

	memset(text, 'a' + (int)id, sizeof(text));
	return slice_of(text, (id == IDS - 1 ? LONG_TEXT_BYTES : TEXT_BYTES) - id);
}

static void
name(unsigned id, char out[SMTP_QUEUE_ID_CHARS + 1])
{
	(void)snprintf(out, SMTP_QUEUE_ID_CHARS + 1, "%016u", id);
}

static struct queue_message *
message(unsigned id, uint32_t attempts)
{
	struct queue_message *m = MEM_NEW(struct queue_message);
	struct queue_recipient r = {.account = id, .state = QUEUE_PENDING, .address = SLICE("a@b")};
	struct queue_item item = {.session = SLICE("s"), .mail_from = SLICE("x@y"), .recipients = &r, .count = 1};
	struct buf b;

	buf_init(&b, QUEUE_ITEM_BYTES_MAX);
	if (!queue_item_encode(&item, &b))
		die("item", NULL);
	m->item = b.p;
	m->item_bytes = b.n;
	name(id, m->id);
	m->attempts = attempts;
	m->spot = spots[id];
	m->bytes = text_of(id).n;
	SHA256(text_of(id).p, text_of(id).n, m->sha256);
	return m;
}

/* ---- the workload ---- */

static void
note(unsigned acked)
{
	size_t now = crash_record_count(record);

	if (now >= moments_n) {
		moments = mem_resize(moments, now + 1, sizeof(*moments));
		/* Operations since the last note happened while the newest change was being made. */
		for (size_t i = moments_n; i <= now; i++)
			moments[i] = (struct moment){acked, version_count};
		moments_n = now + 1;
	}
	moments[now] = (struct moment){acked, version_count};
}

/* Messages that are new, together. Each is a change of its own: a cut may leave the first of them. */
static void
add(unsigned first, unsigned count)
{
	struct queue_message *m[IDS];
	struct queue_add adds[IDS];
	struct err e;

	for (unsigned i = 0; i < count; i++) {
		m[i] = message(first + i, versions[version_count][first + i]);
		adds[i] = (struct queue_add){
		    .message = m[i], .text = memfd_of(text_of(first + i), &e), .summary = memfd_of(SLICE("summary"), &e)};
	}
	queue_table_add(adds, count);
	for (unsigned i = 0; i < count; i++) {
		if (adds[i].result < 0)
			die("add", &adds[i].error);
		spots[first + i] = m[i]->spot;
		close(adds[i].text);
		close(adds[i].summary);
		queue_table_free(&m[i]);
	}
}

/* A version is known before its change begins. */
static void
begin_version(unsigned id, uint32_t attempts)
{
	memcpy(versions[version_count + 1], versions[version_count], sizeof(versions[0]));
	versions[++version_count][id] = attempts;
}

/* One of a message that is there; it is not durable yet. */
static void
change_one(unsigned id)
{
	bool removes = dice(3) == 0;
	struct queue_message *m;
	struct err e;

	begin_version(id, removes ? 0 : versions[version_count][id] + 1);
	m = message(id, versions[version_count][id]);
	if ((removes ? queue_table_remove(m, &e) : queue_table_update(m, &e)) < 0)
		die("change", &e);
	queue_table_free(&m);
}

/* A few changes of messages that are there, or as many new ones as are side by side, and then all of them are durable. */
static void
change(void)
{
	unsigned acked = version_count;
	unsigned id = dice(IDS);
	unsigned count = 1 + dice(CHANGES_AT_ONCE);
	struct err e;

	note(acked);
	if (versions[version_count][id] > 0) {
		for (unsigned i = 0; i < count; i++)
			if (versions[version_count][(id + i) % IDS] > 0)
				change_one((id + i) % IDS);
		if (queue_table_flush(&e) < 0)
			die("flush", &e);
	} else {
		unsigned n = 0;
		for (; n < count && id + n < IDS && versions[version_count][id + n] == 0; n++)
			begin_version(id + n, 1);
		add(id, n);
	}
	/* What was done during it was done with the one before acknowledged. */
	note(acked);
	moments[crash_record_count(record)].acked = version_count;
}

static uint32_t found[IDS];
static bool strange;

static void
on_found(struct queue_message *m)
{
	unsigned id = (unsigned)strtoul(m->id, NULL, 10);
	int text, summary;
	struct buf b;
	struct err e;

	buf_init(&b, LONG_TEXT_BYTES);
	if (id >= IDS || found[id] != 0 || queue_table_files(m, &text, &summary, &e) < 0) {
		strange = true;
	} else {
		found[id] = m->attempts;
		strange = strange || memfd_read_all(text, &b, &e) < 0 || !slice_eq(buf_slice(&b), text_of(id));
		buf_reset(&b);
		strange = strange || memfd_read_all(summary, &b, &e) < 0 || !slice_eq(buf_slice(&b), SLICE("summary"));
		close(text);
		close(summary);
	}
	buf_fini(&b);
	queue_table_free(&m);
}

static void
forget(struct queue_message *m)
{
	queue_table_free(&m);
}

static void
run_workload(const char *root, uint64_t seed)
{
	char path[FILE_PATH_BYTES_MAX];
	struct err e;

	random_state = seed;
	version_count = 0;
	moments_n = 0;
	file_path(path, root, "queue");
	if (mkdir(path, 0700) < 0)
		die("mkdir", NULL);
	record = crash_record_start(root);
	note(0);
	if (queue_table_open(root, SLICE("before"), forget, &e) < 0)
		die("open", &e);
	note(0);
	for (unsigned i = 0; i < OPERATIONS; i++)
		change();
	crash_record_stop();
	crash_fs_plain();
}

/* ---- one state ---- */

/* Made anew without its index: what all changes may agree on is there, as it was first added; and not what is gone in all, when all
 * that was written is there. */
static int
judge_rebuilt(const struct moment *at, bool all_written)
{
	for (unsigned id = 0; id < IDS; id++) {
		bool always = true, never = all_written;

		for (unsigned v = at->acked; v <= at->begun; v++) {
			always = always && versions[v][id] > 0;
			never = never && versions[v][id] == 0;
		}
		if ((always && found[id] != 1) || (never && found[id] != 0)) {
			fprintf(stderr, "queue_crash: message %u is %s when the index is made anew\n", id, always ? "not there" : "there again");
			return 1;
		}
	}
	return 0;
}

static int
judge_index(const struct moment *at)
{
	for (unsigned v = at->acked; v <= at->begun; v++)
		if (memcmp(found, versions[v], sizeof(found)) == 0)
			return 0;
	fprintf(stderr, "queue_crash: not what it was after any change from %u to %u: found", at->acked, at->begun);
	for (unsigned i = 0; i < IDS; i++)
		fprintf(stderr, " %u (acknowledged %u)", found[i], versions[at->acked][i]);
	fprintf(stderr, "\n");
	return 1;
}

/* Opens it, in a new process. False when what is there is not right in itself. */
static bool
open_state(const char *target)
{
	struct err e = {0};

	if (queue_table_open(target, SLICE("after"), on_found, &e) < 0)
		fprintf(stderr, "queue_crash: it does not open: %s\n", e.detail);
	else if (strange)
		fprintf(stderr, "queue_crash: a message is not whole\n");
	else
		return true;
	return false;
}

/* One state: a moment, what is there of it, and whether the index is lost as well. */
struct state {
	uint64_t seed;
	size_t cut;
	enum crash_mode mode;
	bool without_index;
	char target[CRASH_DIR_BYTES];
	char second[CRASH_DIR_BYTES]; /* what a cut while the index was made again has left */
};

static int
judge(const struct state *s)
{
	return open_state(s->target) ? judge_index(&moments[s->cut]) : 1;
}

/* And cuts the power while the index is being made again. */
static int
judge_without_index(const struct state *s)
{
	char index[FILE_PATH_BYTES_MAX];

	file_path(index, s->target, "queue/index/index.db");
	if (unlink(index) < 0 && errno != ENOENT)
		die("unlink", NULL);
	record = crash_record_start(s->target);
	if (!open_state(s->target) || judge_rebuilt(&moments[s->cut], s->mode == CRASH_ALL) != 0)
		return 1;
	crash_record_stop();
	random_state = s->seed;
	crash_record_make(record, dice((unsigned)crash_record_count(record) + 1), CRASH_RANDOM, s->seed, s->second);
	return 0;
}

static int
judge_second(const struct state *s)
{
	return open_state(s->second) ? judge_rebuilt(&moments[s->cut], false) : 1;
}

static bool
in_process(int (*fn)(const struct state *s), const struct state *s)
{
	int status = 1;
	pid_t pid = fork();

	if (pid == 0)
		_exit(fn(s));
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		die("fork", NULL);
	return status == 0;
}

/* Which of the ways to try a moment a variant is. */
static struct state
state_of(uint64_t seed, size_t cut, unsigned variant)
{
	return (struct state){.seed = seed * 1000003 + cut * 131 + variant,
	    .cut = cut,
	    .mode = variant == 0 || variant == VARIANTS - 1 ? CRASH_ALL : variant == 1 ? CRASH_NONE : CRASH_RANDOM,
	    .without_index = variant >= VARIANTS - 2};
}

static bool
try_state(uint64_t seed, size_t cut, unsigned variant)
{
	struct state s = state_of(seed, cut, variant);
	char what[256], text[400];

	(void)snprintf(text, sizeof(text), "%llu:%zu.%u", (unsigned long long)seed, cut, variant);
	crash_run_at(text);
	crash_dir_make(s.target);
	crash_dir_make(s.second);
	crash_record_make(record, cut, s.mode, s.seed, s.target);
	bool good = s.without_index ? in_process(judge_without_index, &s) && in_process(judge_second, &s) : in_process(judge, &s);

	crash_dir_remove(s.target);
	crash_dir_remove(s.second);
	if (good) {
		crash_run_good();
		return true;
	}
	crash_record_describe(record, cut, what, sizeof(what));
	(void)snprintf(text, sizeof(text), "the queue is not what it may be, after: %s", what);
	crash_run_wrong(text);
	return false;
}

static size_t wanted_cut;
static unsigned wanted_variant;
static bool is_replay;
static bool whole;

/* Every moment, with all that was done and with only what was synced; what would be the same as a moment before, and judged by
 * the same, is not tried again. */
static bool
explore_whole(uint64_t seed)
{
	static const enum crash_mode modes[] = {CRASH_ALL, CRASH_NONE};
	bool good = true;

	for (size_t cut = 0; cut <= crash_record_count(record); cut++)
		for (unsigned variant = 0; variant < 2 && good; variant++)
			if (!crash_record_is_same(record, cut, modes[variant]) || moments[cut].acked != moments[cut - 1].acked ||
			    moments[cut].begun != moments[cut - 1].begun)
				good = try_state(seed, cut, variant);
	return good;
}

static bool
explore_some(uint64_t seed)
{
	bool good = true;

	for (unsigned i = 0; i < STATES_PER_SEED && good; i++) {
		size_t n = crash_record_count(record), cut = n * i / STATES_PER_SEED + dice(2 + (unsigned)(n / STATES_PER_SEED));

		while (cut < n && crash_record_is_filler(record, cut) && dice(16) != 0)
			cut++;
		good = try_state(seed, cut < n ? cut : n, i % VARIANTS);
	}
	return good;
}

/* The table is opened once in a process; so each state has one of its own, and the workload too. */
static int
explore(uint64_t seed)
{
	char root[CRASH_DIR_BYTES];
	bool good;

	crash_same_begin();
	crash_dir_make(root);
	run_workload(root, seed);
	if (is_replay)
		good = try_state(seed, wanted_cut, wanted_variant);
	else
		good = whole ? explore_whole(seed) : explore_some(seed);
	crash_record_free(&record);
	crash_dir_remove(root);
	return good ? 0 : 1;
}

int
main(int argc, char **argv)
{
	struct crash_options o = {.name = "queue_crash", .states = 200, .seed = 1, .jobs = 2};
	const char *again = NULL, *mutant = NULL;
	unsigned long long seed;

	crash_same_places(argv);
	queue_files_set_pack_bytes(PACK_BYTES);
	for (int i = 1; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--replay") == 0)
			again = argv[i + 1];
		else if (strcmp(argv[i], "--mutant") == 0)
			mutant = argv[i + 1];
		else if (strcmp(argv[i], "--states") == 0)
			o.states = (unsigned)strtoul(argv[i + 1], NULL, 10);
		else if (strcmp(argv[i], "--seed") == 0)
			o.seed = strtoul(argv[i + 1], NULL, 10);
		else if (strcmp(argv[i], "--whole") == 0)
			o.whole = (unsigned)strtoul(argv[i + 1], NULL, 10);
	}
	whole = o.whole > 0;
	if (whole)
		o.name = "queue_crash_whole";
	/* Without its index a queue says so. */
	log_init("queue_crash", again != NULL ? LOG_INFO : LOG_BUG);
	if (again != NULL) {
		crash_mutant_use(mutant);
		if (sscanf(again, "%llu:%zu.%u", &seed, &wanted_cut, &wanted_variant) != 3)
			return 2;
		is_replay = true;
		return explore(seed);
	}
	return mutant != NULL ? crash_mutant_try(&o, explore, mutant) : crash_run_main(&o, argv[0], explore);
}
