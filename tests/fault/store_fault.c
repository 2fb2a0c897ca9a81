/*
 * Lets every call of the file layer fail in turn, once and from then on, in
 * several lives of an account, and looks each time:
 *   - every answer was right, or an error of the right class; nothing that was
 *     answered is missing afterwards, nothing is half there;
 *   - a fresh process opens the account, finds it consistent and goes on with it;
 *   - no descriptor is left open (and under AddressSanitizer no memory).
 *
 *   store_fault [--every N] [--share K/N] [--kind K] each N-th call (1: all); the K-th of N parts, from 0 on; one kind of failure
 *   store_fault --replay SCENARIO:KIND:CALL:once|on   one run again, with its log
 */
#include "tests/fault/fault_fs.h"
#include "tests/unit/store_digest.h"

#include "store/account.h"
#include "store/rebuild.h"
#include "store/uidset.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define SERIALS_MAX 512
/* Transactions that one call of housekeeping may make. */
#define HOUSEKEEPING_MAX 16
#define FAILURES_SHOWN 8
/* A process of a run that takes so much of the processor counts as hanging. */
#define RUN_SECONDS_MAX 20

/* What a run tells the one that looks at it, in shared memory. */
struct told {
	bool opened, broken, sync_failed, removed, fired;
	uint64_t acked; /* serial that was acknowledged last */
	uint64_t top;	/* highest serial that was seen */
	uint32_t digests[SERIALS_MAX]; /* 0: not known */
	unsigned calls, reads;
	char where[FILE_PATH_BYTES_MAX + 32];
	char complaint[1024];
};

struct run {
	const char *root;
	struct told *told;
	struct index *ix;
	struct err e;
	enum fault_kind kind;
};

static struct told *told;
static struct told prepared; /* what the account was before the failure */

static void __attribute__((format(printf, 2, 3)))
complain(struct told *t, const char *format, ...)
{
	va_list ap;

	if (t->complaint[0] != '\0')
		return;
	va_start(ap, format);
	(void)vsnprintf(t->complaint, sizeof t->complaint, format, ap);
	va_end(ap);
}

static uint32_t
sum(const char *text)
{
	uint32_t h = 2166136261u;

	while (*text != '\0')
		h = (h ^ (uint8_t)*text++) * 16777619u;
	return h != 0 ? h : 1;
}

/* ---- what is noted of a run ---- */

/* The account as it is seen now, under its serial. What was acknowledged may not change any more. */
static void
note_state(struct run *r)
{
	struct told *t = r->told;
	uint64_t serial = index_serial(r->ix);
	char *text;

	fault_pause(true);
	text = store_digest(r->ix, &r->e);
	fault_pause(false);
	if (text == NULL) {
		if (!index_broken(r->ix))
			complain(t, "it cannot be read while it runs: %s", r->e.detail);
		return;
	}
	assert(serial < SERIALS_MAX);
	if (serial <= t->acked && t->digests[serial] != 0 && t->digests[serial] != sum(text))
		complain(t, "what was acknowledged changed: serial %llu", (unsigned long long)serial);
	t->digests[serial] = sum(text);
	/* Only housekeeping makes several transactions in one call, and none of them changes what is seen. */
	for (uint64_t gap = serial - 1; gap > 0 && t->digests[gap] == 0; gap--)
		t->digests[gap] = sum(text);
	t->top = serial > t->top ? serial : t->top;
	free(text);
}

static void
judge_error(struct run *r, const char *what)
{
	bool room = r->kind == FAULT_ENOSPC || r->kind == FAULT_EDQUOT;

	if (r->e.class != ERR_TEMP)
		complain(r->told, "%s: class %d code %d: %s", what, (int)r->e.class, (int)r->e.code, r->e.detail);
	else if (room && r->e.code != ERR_CODE_NO_SPACE)
		complain(r->told, "%s: a full disk is told as code %d: %s", what, (int)r->e.code, r->e.detail);
	else if (r->kind == FAULT_EMFILE && r->e.code == ERR_CODE_CORRUPT)
		complain(r->told, "%s: no descriptor is told as damage: %s", what, r->e.detail);
}

/* After an operation: makes it durable. False when the process has to end. */
static bool
done(struct run *r, const char *what, int failed)
{
	if (failed)
		judge_error(r, what);
	if (index_broken(r->ix)) {
		r->told->broken = true;
		return false;
	}
	note_state(r);
	index_changes_reset(r->ix);
	if (failed)
		return true;
	if (index_flush(r->ix, &r->e) < 0) {
		judge_error(r, "flush");
		if (!index_broken(r->ix))
			complain(r->told, "a failed flush leaves the index in use");
		r->told->broken = true;
		return false;
	}
	r->told->acked = index_serial(r->ix);
	return true;
}

/* ---- the operations ---- */

static uint32_t
inbox(const struct run *r)
{
	return index_target(r->ix, STORE_TARGET_INBOX);
}

static int
do_append(struct run *r)
{
	uint32_t uid;

	fixture_summary = SLICE("summary");
	return fixture_append(r->ix, r->root, inbox(r), "a message", &uid, &r->e);
}

/* A long summary: the log goes on to its next file within a life. */
static int
do_append_long(struct run *r)
{
	static const uint8_t summary[700000];
	uint32_t uid;

	fixture_summary = slice_of(summary, sizeof summary);
	return fixture_append(r->ix, r->root, inbox(r), "one with a long summary", &uid, &r->e);
}

/* Some of them are longer than what Berkeley DB reads of a log at once. */
static int
do_append_medium(struct run *r)
{
	static const uint8_t summary[40000];
	uint32_t uid;

	fixture_summary = slice_of(summary, sizeof summary);
	return fixture_append(r->ix, r->root, inbox(r), "one with a summary", &uid, &r->e);
}

static int
do_request(struct run *r)
{
	static const uint8_t origin[] = "0123456789abcdef";
	struct buf reply;
	uint32_t uid;
	int found;

	buf_init(&reply, FORMAT_REPLY_BYTES_MAX);
	found = index_request_find(r->ix, origin, 7, &reply, &r->e);
	buf_fini(&reply);
	if (found != 0)
		return found < 0 ? -1 : 0;
	fixture_summary = SLICE("summary");
	return fixture_append_request(r->ix, r->root, inbox(r), "asked again", origin, 7, &uid, &r->e);
}

static int
do_flags(struct run *r)
{
	return fixture_flags(r->ix, inbox(r), STORE_FLAGS_ADD, STORE_FLAG_SEEN, "$Work\nx\n", 1, 3, &r->e);
}

static int
do_copy(struct run *r)
{
	return fixture_copy(r->ix, inbox(r), index_target(r->ix, STORE_TARGET_JUNK), false, 1, 2, &r->e);
}

static int
do_move(struct run *r)
{
	return fixture_copy(r->ix, inbox(r), index_target(r->ix, STORE_TARGET_JUNK), true, 3, 3, &r->e);
}

static int
do_expunge(struct run *r)
{
	return fixture_expunge(r->ix, inbox(r), 1, 1, &r->e);
}

/* A name that is there already, or is not there: because the step before failed. */
static int
mailbox(struct run *r, unsigned verb, const char *name, const char *new_name)
{
	(void)fixture_mailbox(r->ix, verb, name, new_name, &r->e);
	return r->e.class == ERR_NONE || r->e.class == ERR_PERM ? 0 : -1;
}

static int
do_create(struct run *r)
{
	return mailbox(r, MBOX_CREATE, "one/two", "");
}

static int
do_rename(struct run *r)
{
	return mailbox(r, MBOX_RENAME, "one", "other");
}

static int
do_subscribe(struct run *r)
{
	return mailbox(r, MBOX_SUBSCRIBE, "other/two", "");
}

static int
do_delete(struct run *r)
{
	return mailbox(r, MBOX_DELETE, "Junk", "");
}

static bool
on_view(void *arg, const struct store_entry *entries, size_t n)
{
	(void)entries;
	*(size_t *)arg += n;
	return true;
}

static int
do_view(struct run *r)
{
	struct buf list;
	size_t n = 0;
	int failed;

	buf_init(&list, STORE_LIST_BYTES_MAX);
	failed = index_list(r->ix, &list, &r->e);
	buf_fini(&list);
	if (failed || index_view(r->ix, inbox(r), on_view, &n, &r->e) < 0)
		return -1;
	if (n != index_mailbox(r->ix, inbox(r))->messages)
		complain(r->told, "a view of %zu messages", n);
	return 0;
}

static int
do_fetch(struct run *r)
{
	struct uid_range range = {1, UINT32_MAX};
	const struct uidset set = {.ranges = &range, .n = 1, .cap = 1};
	int objects[STORE_OBJECTS_MAX], failed;
	struct buf records;
	struct index_fetch f = {.mailbox = inbox(r), .want = STORE_WANT_DETAIL | STORE_WANT_SUMMARY | STORE_WANT_OBJECT,
	    .uids = &set, .records = &records, .objects = objects};
	uint32_t count = 0;

	buf_init(&records, STORE_RECORDS_BYTES_MAX);
	do {
		failed = index_fetch(r->ix, &f, &r->e);
		for (uint32_t i = 0; failed == 0 && i < f.count; i++)
			(void)file_close(objects[i], NULL);
		count += f.count;
		range.first = f.next_uid;
	} while (failed == 0 && f.next_uid != 0);
	if (failed == 0 && count != index_mailbox(r->ix, inbox(r))->messages)
		complain(r->told, "a fetch of %u messages", count);
	buf_fini(&records);
	return failed;
}

static int
do_summary(struct run *r)
{
	static const uint8_t sha256[STORE_SHA256_BYTES];

	if (index_begin(r->ix, &r->e) < 0)
		return -1;
	/* Of another message: refused without a word. */
	if (index_summary(r->ix, inbox(r), 2, sha256, SLICE("made anew"), &r->e) < 0) {
		index_abort(r->ix);
		return r->e.class == ERR_PERM ? 0 : -1;
	}
	return index_commit(r->ix, &r->e);
}

static int
do_purge(struct run *r)
{
	int more;

	do
		more = index_purge(r->ix, FIXTURE_NOW + 1000, UINT64_MAX, &r->e);
	while (more > 0);
	return more;
}

static int
do_upkeep(struct run *r)
{
	return index_upkeep_now(r->ix, &r->e);
}

/* Its end in order; what goes wrong there was promised to nobody. */
static bool
reopen(struct run *r)
{
	index_close(&r->ix);
	if (file_lost())
		return false;
	if (index_open(r->root, FIXTURE_NOW, &r->ix, &r->e) == 0)
		return true;
	judge_error(r, "open");
	return false;
}

static const struct step {
	const char *name;
	int (*fn)(struct run *r);
} steps[] = {{"append", do_append}, {"append", do_append}, {"append", do_append}, {"request", do_request}, {"flags", do_flags},
    {"create", do_create}, {"copy", do_copy}, {"move", do_move}, {"view", do_view}, {"fetch", do_fetch}, {"rename", do_rename},
    {"subscribe", do_subscribe}, {"summary", do_summary}, {"append long", do_append_long}, {"append long", do_append_long},
    {"append long", do_append_long}, {"append medium", do_append_medium}, {"append medium", do_append_medium},
    {"append medium", do_append_medium}, {"expunge", do_expunge}, {"delete", do_delete}, {"request", do_request},
    {"purge", do_purge}, {"upkeep", do_upkeep}, {"append", do_append}, {"flags", do_flags}};
#define STEPS (sizeof steps / sizeof steps[0])

/* Opens the account and does so many steps from the first-th on; true when it is still in use. */
static bool
live(struct run *r, size_t first, size_t count)
{
	if (r->ix == NULL && index_open(r->root, FIXTURE_NOW, &r->ix, &r->e) < 0) {
		judge_error(r, "open");
		return false;
	}
	r->told->opened = true;
	note_state(r);
	r->told->acked = index_serial(r->ix);
	for (size_t i = first; i < first + count && i < STEPS; i++)
		if (!done(r, steps[i].name, steps[i].fn(r)))
			return false;
	return true;
}

/* ---- the scenarios ---- */

/* A new account through everything, closed, opened again, and left without a word. */
static void
scenario_life(struct run *r)
{
	file_reserve(r->root);
	if (live(r, 0, STEPS) && reopen(r))
		(void)live(r, 0, 6);
}

/* The same without a reserve: a full disk is met by every call. */
static void
scenario_bare(struct run *r)
{
	if (live(r, 0, STEPS))
		index_close(&r->ix);
}

/* What a killed process left: recovery, a few steps, an end in order. */
static void
scenario_recover(struct run *r)
{
	file_reserve(r->root);
	if (live(r, 8, STEPS - 8))
		index_close(&r->ix);
}

static void
scenario_remove(struct run *r)
{
	if (account_remove(r->root, &r->e) == 0)
		r->told->removed = true;
	else
		judge_error(r, "removal");
}

/* ---- what is prepared for them, without failures ---- */

static void
prepare_nothing(struct run *r)
{
	(void)r;
}

static void
prepare_killed(struct run *r)
{
	if (!live(r, 0, 21))
		complain(r->told, "the preparation failed: %s", r->e.detail);
}

static void
prepare_damaged(struct run *r)
{
	prepare_killed(r);
	rebuild_mark(r->root);
}

static void
prepare_without_base(struct run *r)
{
	char path[FILE_PATH_BYTES_MAX];

	prepare_killed(r);
	file_path(path, r->root, "index/base");
	if (unlink(path) < 0)
		complain(r->told, "there is no base copy");
}

static void
prepare_closed(struct run *r)
{
	prepare_killed(r);
	index_close(&r->ix);
}

static const struct scenario {
	const char *name;
	void (*prepare)(struct run *r);
	void (*fn)(struct run *r);
	bool removes;
} scenarios[] = {
    {"life", prepare_nothing, scenario_life, false},
    {"bare", prepare_nothing, scenario_bare, false},
    {"recover", prepare_killed, scenario_recover, false},
    {"rebuild", prepare_damaged, scenario_recover, false},
    {"base", prepare_without_base, scenario_recover, false},
    {"remove", prepare_closed, scenario_remove, true},
};
#define SCENARIOS (sizeof scenarios / sizeof scenarios[0])

/* ---- one run: a process that meets the failure, a process that looks ---- */

static int
in_process(void (*fn)(struct run *r, const struct scenario *s, unsigned at, bool on), struct run *r, const struct scenario *s,
    unsigned at, bool on)
{
	int status;
	pid_t pid = fork();

	assert(pid >= 0);
	if (pid == 0) {
		fault_time_limit(RUN_SECONDS_MAX);
		fn(r, s, at, on);
		(void)fflush(NULL);
		exit(0);
	}
	while (waitpid(pid, &status, 0) < 0)
		assert(errno == EINTR);
	if (status != 0)
		complain(r->told, "the process ended with status %d", status);
	return status;
}

static void
prepare_process(struct run *r, const struct scenario *s, unsigned at, bool on)
{
	(void)at;
	(void)on;
	s->prepare(r);
	_exit(0); /* as if killed: nothing is closed */
}

static void
failing_process(struct run *r, const struct scenario *s, unsigned at, bool on)
{
	struct told *t = r->told;

	fault_start(r->root, r->kind, at, on);
	s->fn(r);
	bool killed = r->ix != NULL && !t->broken;

	if (t->broken)
		index_close(&r->ix);
	t->fired = fault_fired();
	t->calls = fault_calls();
	t->reads = fault_reads();
	(void)snprintf(t->where, sizeof t->where, "%s", fault_where());
	if (!killed && fault_open_count() > 0)
		complain(t, "%u descriptors are left open", fault_open_count());
	t->sync_failed = fault_die();
	file_use(NULL);
	if (killed)
		_exit(0);
}

static void
looking_process(struct run *r, const struct scenario *s, unsigned at, bool on)
{
	struct told *t = r->told;
	char dir[FILE_PATH_BYTES_MAX];
	char *text;

	(void)s;
	(void)at;
	(void)on;
	fault_start(r->root, FAULT_EIO, 0, false);
	if (index_open(r->root, FIXTURE_NOW, &r->ix, &r->e) < 0) {
		complain(t, "it does not open afterwards: %s", r->e.detail);
		return;
	}
	file_path(dir, r->root, "index");
	if (t->sync_failed && t->opened && !fault_evicted(dir))
		complain(t, "a sync had failed, and the page cache was believed");
	uint64_t serial = index_serial(r->ix);

	text = store_digest(r->ix, &r->e);
	if (text == NULL)
		complain(t, "it cannot be read afterwards: %s", r->e.detail);
	else if (serial < t->acked)
		complain(t, "an acknowledged transaction is lost: serial %llu of %llu", (unsigned long long)serial,
		    (unsigned long long)t->acked);
	else if (serial > t->top + HOUSEKEEPING_MAX || (serial > t->top && !t->broken && t->opened))
		complain(t, "a transaction that was never begun: serial %llu of %llu", (unsigned long long)serial,
		    (unsigned long long)t->top);
	else if (serial <= t->top && t->digests[serial] != sum(text))
		complain(t, "it is not what it was after serial %llu", (unsigned long long)serial);
	free(text);
	if (index_check(r->ix, &r->e) < 0)
		complain(t, "it contradicts itself: %s", r->e.detail);
	t->acked = serial;
	t->top = serial + 1;
	if (do_append(r) < 0 || index_flush(r->ix, &r->e) < 0 || index_check(r->ix, &r->e) < 0)
		complain(t, "it cannot be used afterwards: %s", r->e.detail);
	index_close(&r->ix);
	(void)fault_die();
	file_use(NULL);
}

static void
looking_for_nothing(struct run *r, const struct scenario *s, unsigned at, bool on)
{
	static const char *const names[] = {"index", "index.new", "index.old", "mail", "reserve"};
	char path[FILE_PATH_BYTES_MAX];

	(void)s;
	(void)at;
	(void)on;
	for (unsigned round = 0; round < 2; round++) {
		for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
			file_path(path, r->root, names[i]);
			if ((round == 1 || r->told->removed) && access(path, F_OK) == 0)
				complain(r->told, "%s is left", names[i]);
		}
		if (account_remove(r->root, &r->e) < 0)
			complain(r->told, "it cannot be removed afterwards: %s", r->e.detail);
	}
}

static void
copy_template(const char *template, const char *root)
{
	char command[256];

	(void)snprintf(command, sizeof command, "cp -a %s/. %s", template, root);
	if (fixture_shell(command) != 0)
		abort();
}

/* True when all was right. */
static bool
run_one(const struct scenario *s, const char *template, enum fault_kind kind, unsigned at, bool on)
{
	char root[64];
	struct run r = {.root = root, .told = told, .kind = kind};

	fixture_dir(root);
	if (s->prepare != prepare_nothing)
		copy_template(template, root);
	*told = prepared;
	(void)in_process(failing_process, &r, s, at, on);
	(void)in_process(s->removes ? looking_for_nothing : looking_process, &r, s, at, on);
	(void)tree_remove(root);
	if (told->complaint[0] == '\0')
		return true;
	fprintf(stderr, "store_fault: %s\n  at: %s\n  again: --replay %s:%s:%u:%s\n", told->complaint, told->where, s->name,
	    fault_kind_name(kind), at, on ? "on" : "once");
	return false;
}

static void
make_template(const struct scenario *s, char *template)
{
	struct run r = {.root = template, .told = told, .kind = FAULT_EIO};

	fixture_dir(template);
	memset(told, 0, sizeof *told);
	(void)in_process(prepare_process, &r, s, 0, false);
	prepared = *told;
	prepared.opened = false;
	if (told->complaint[0] != '\0') {
		fprintf(stderr, "store_fault: %s\n", told->complaint);
		exit(2);
	}
}

/* ---- the loop ---- */

struct count {
	unsigned runs[FAULT_KINDS];
	unsigned wrong;
	unsigned reads;
	unsigned long calls;
};

static void
loop(const struct scenario *s, const char *template, enum fault_kind kind, bool on, const struct fault_part *p, struct count *c)
{
	unsigned stride = fault_stride(kind, p->every), first = 1 + (unsigned)(kind * 37 + (s - scenarios) * 11) % stride;

	for (unsigned at = first + p->share * stride; c->wrong < FAILURES_SHOWN; at += p->shares * stride) {
		bool good = run_one(s, template, kind, at, on);

		c->wrong += !good;
		if (!told->fired)
			break;
		c->runs[kind]++;
		c->calls += told->calls;
		c->reads = told->reads > c->reads ? told->reads : c->reads;
	}
}

static int
explore(const struct fault_part *p)
{
	struct count c = {.wrong = 0};
	unsigned total = 0;
	char template[64];

	for (size_t i = 0; i < SCENARIOS; i++) {
		make_template(&scenarios[i], template);
		for (enum fault_kind kind = 0; kind < FAULT_KINDS; kind++)
			for (int on = 0; fault_part_has(p, fault_kind_name(kind)) && on < (fault_only_once(kind) ? 1 : 2); on++)
				loop(&scenarios[i], template, kind, on != 0, p, &c);
		(void)tree_remove(template);
	}
	printf("store_fault: ");
	for (enum fault_kind kind = 0; kind < FAULT_KINDS; kind++) {
		printf("%s %u, ", fault_kind_name(kind), c.runs[kind]);
		total += c.runs[kind];
	}
	printf("%u runs over %zu lives, %lu calls, up to %u read() of Berkeley DB in one, %u wrong\n", total, SCENARIOS, c.calls,
	    c.reads, c.wrong);
	if (c.reads == 0 || total == 0)
		printf("store_fault: nothing was tried\n");
	return c.wrong != 0 || c.reads == 0 || total == 0;
}

static int
replay(const char *text)
{
	char name[16], kind[16], mode[8], template[64];
	unsigned at;

	if (sscanf(text, "%15[^:]:%15[^:]:%u:%7s", name, kind, &at, mode) != 4 || fault_kind_of(kind) == FAULT_KINDS)
		return 2;
	for (size_t i = 0; i < SCENARIOS; i++) {
		if (strcmp(scenarios[i].name, name) != 0)
			continue;
		make_template(&scenarios[i], template);
		log_init("store_fault", LOG_DEBUG);
		bool good = run_one(&scenarios[i], template, fault_kind_of(kind), at, strcmp(mode, "on") == 0);

		(void)tree_remove(template);
		printf("store_fault: %s at %s\n", good ? "good" : "wrong", told->where);
		return good ? 0 : 1;
	}
	return 2;
}

int
main(int argc, char **argv)
{
	struct rlimit limit;
	struct fault_part part;

	told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert(told != MAP_FAILED);
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
	log_init("store_fault", LOG_BUG);
	file_hook_db();
	if (argc == 3 && strcmp(argv[1], "--replay") == 0)
		return replay(argv[2]);
	return fault_part_parse(argc, argv, &part) ? explore(&part) : 2;
}
