/*
 * Cuts the power of an account at moments of a seeded history, opens what
 * is left, and compares it: it must be what it was after one of the
 * transactions, not before the last one that anybody was told of, not after the
 * last one begun. Then requests are asked again, and the history goes on.
 *
 * With --states the moments of a history are chosen, STATES_PER_SEED of them, and at each what of that which was not synced is
 * there: all of it, nothing, or a seeded part. With --whole each history is cut after every single operation, zeros in a log too,
 * once with all of that and once with nothing of it, and nothing else is chosen. A state that is the same as the one an operation
 * before, octet by octet and in what it may be, is opened once.
 *
 * Some of the chosen states go on for longer, recorded again from the opening on: there
 * processes are killed and syncs fail, the next keeper finds the page cache as it is; and
 * the power is cut again, in a recovery too, up to CUTS_MAX times in a row. In some states the databases or the base
 * copy are damaged before the opening.
 *
 *   store_crash [--states N] [--seed S] [--jobs J] [--steps N]   explores
 *   store_crash --whole N [--seed S] [--jobs J] [--steps N]      explores all of N histories
 *   store_crash --replay SEED:STEPS:CUT.VARIANT/CUT.VARIANT…     one state again
 *   store_crash_mutants --mutant NAME|all [--states N]           each mutant until it is caught, N states at most
 * With --replay, --mutant NAME is the mutant to use, and --keep DIR leaves a copy of the state, before any damage, in DIR below /dev/shm.
 * What a replay does not show again, the whole seed does: --seed S --jobs 1 [--verbose 1].
 */
#include "tests/crash/crash_damage.h"
#include "tests/crash/crash_fs.h"
#include "tests/crash/crash_keeper.h"
#include "tests/crash/crash_mutant.h"
#include "tests/crash/crash_run.h"
#include "tests/crash/crash_same.h"
#include "tests/crash/crash_steps.h"

#include "common/log.h"
#include "common/mem.h"
#include "store/account.h"

#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define CUTS_MAX 3
#define STATES_PER_SEED 100
/* Of a record that goes on after a cut. */
#define STATES_PER_RECORD 12
#define STEPS_PER_RECORD 14
/* Of a moment that is chosen: one in eight has all, one nothing that was not synced. */
#define VARIANTS 4096
/* Two more, of which nothing else is chosen: no damage, no going on. */
enum { WHOLE_ALL = VARIANTS, WHOLE_NONE };
/* Of a history; every fourth seed has a short one, so that the account's first steps are seen often. */
#define STEPS 110
#define STEPS_SHORT 20
#define RESTARTS_MAX 3
#define NAMES_TO_KILL 12

/* An environment of Berkeley DB that panicked keeps its memory when it is closed; what is ours is still looked for. */
const char *__lsan_default_suppressions(void);
const char *
__lsan_default_suppressions(void)
{
	return "leak:libdb-5.3";
}

/*
 * Recovery makes a page that a file cut short does not have any more out of whatever lies in the cache, and reads past its end;
 * what it gives then is refused by its record's checksum.
 */
const char *__asan_default_suppressions(void);
const char *
__asan_default_suppressions(void)
{
	return "interceptor_via_lib:libdb-5.3";
}

/* What a state may be, by serial. */
struct bounds {
	uint64_t told;
	uint64_t begun;
	size_t branch;
};

/* What was recorded from one opening on. */
struct session {
	struct crash_record *record;
	char root[CRASH_DIR_BYTES];
	struct bounds now;
	struct bounds *moments; /* by number of operations */
	size_t base_good;	/* from so many operations on the base copy is whole */
	size_t index_good;	/* and the databases, which the cut before may have torn */
	size_t old_branches;	/* of the history */
	bool latent;		/* a database was damaged before it began */
	bool log_damaged;	/* or the log */
	bool refused;		/* a sync failed while the base copy was damaged: nobody can open it any more */
	size_t removal;		/* the account's removal began after so many operations; SIZE_MAX: it did not */
	size_t moment_count, moment_cap;
};

static struct session *running; /* NULL: nothing is recorded */
static unsigned steps_max = STEPS;
static bool whole;	    /* histories are cut at every moment */
static unsigned deep_every; /* how many states to one that goes on, of those that were not damaged */
static uint64_t seed_now;
static char replay_text[256];
/* When one state is seen again: its cuts. */
static struct {
	size_t cut;
	unsigned variant;
} wanted[CUTS_MAX];
static unsigned wanted_count;
static const char *kept; /* a directory for a copy of it, beside those of the states */
static enum crash_damage damage; /* of the state that is looked at */
static bool latent;		 /* or of one that it came from, and not yet found */

static uint64_t
mix(uint64_t a, uint64_t b)
{
	uint64_t x = a * UINT64_C(0x9e3779b97f4a7c15) ^ (b + UINT64_C(0x7f4a7c15)) * UINT64_C(0xff51afd7ed558ccd);

	x ^= x >> 29;
	x *= UINT64_C(0xc4ceb9fe1a85ec53);
	return x ^ x >> 32;
}

/* ---- what is durable by promise ---- */

static void
on_operation(void *arg)
{
	struct session *s = arg;
	size_t n = crash_record_count(s->record);

	if (n >= s->moment_cap) {
		s->moment_cap = 2 * n + 4096;
		s->moments = mem_resize(s->moments, s->moment_cap, sizeof *s->moments);
	}
	for (; s->moment_count <= n; s->moment_count++)
		s->moments[s->moment_count] = s->now;
}

static void
on_told(void)
{
	struct session *s = running;

	if (s == NULL || crash_record_died(s->record))
		return;
	/* One more than what is committed may be on its way. */
	s->now.told = s->now.begun - 1;
	on_operation(s);
	s->moments[s->moment_count - 1] = s->now;
}

static void
on_committed(struct index *ix)
{
	/* What a process does after its end comes to nothing. */
	if (running != NULL && (crash_record_died(running->record) || file_lost()))
		return;
	if (running != NULL) {
		running->now.begun = index_serial(ix) + 1;
		on_operation(running);
		running->moments[running->moment_count - 1] = running->now;
	}
	crash_steps_committed(ix);
}

static const struct crash_keeper_events keeper_events = {.committed = on_committed, .told = on_told};

/* ---- looking at an account ---- */

static bool
damages_database(void)
{
	return damage >= DAMAGE_INDEX_FLIP && damage <= DAMAGE_SUMMARY_CUT;
}

/* Damage is found when it is read, of a free page when that is used: then the keeper ends, and the next one has the index
 * made anew. True when that came to pass. */
static bool
gave_up_on_damage(void)
{
	return latent && crash_keeper_index() != NULL && crash_keeper_broken();
}

static int
open_repaired(const char *root, struct err *e)
{
	if (crash_keeper_open(root, CRASH_NOW, &keeper_events, e) < 0)
		return -1;
	if (!latent || index_check(crash_keeper_index(), e) == 0)
		return 0;
	/* The check only tells. A request that comes to such a record is refused. */
	(void)env_refuse(crash_keeper_index()->env, "a record that the check found", e);
	crash_keeper_close(true);
	return crash_keeper_open(root, CRASH_NOW, &keeper_events, e);
}

/* Opens it and leaves it open. NULL when it is what it may be. */
static const char *
open_account(const char *root, struct bounds may, struct err *e)
{
	struct index *ix;

	if (open_repaired(root, e) < 0)
		return "it does not open";
	ix = crash_keeper_index();
	if (index_serial(ix) < may.told)
		return "a transaction that somebody was told of is lost";
	if (index_serial(ix) > may.begun)
		return "a transaction that was never begun";
	(void)crash_steps_enter(may.branch, index_serial(ix));
	return crash_steps_compare(ix, e);
}

/* The same, then some requests again, and the next step. */
static const char *
look(const char *root, struct bounds may, uint64_t seed, struct err *e)
{
	const char *why = open_account(root, may, e);

	if (why == NULL)
		why = crash_steps_ask_again(2, seed);
	if (why == NULL && crash_steps_count() > 0 && !crash_steps_do(crash_steps_after(index_serial(crash_keeper_index())), root, e))
		why = "it does not open again";
	if (why == NULL)
		why = crash_steps_wrong();
	if (gave_up_on_damage()) {
		crash_keeper_close(true);
		latent = false;
		why = open_account(root, may, e);
	}
	if (why == NULL && crash_keeper_broken())
		why = "the keeper gave up on it";
	crash_keeper_close(false);
	return why;
}

static bool
is_empty(const char *root)
{
	DIR *dir = opendir(root);
	unsigned names = 0;

	for (struct dirent *d; dir != NULL && (d = readdir(dir)) != NULL;)
		names += strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0;
	if (dir != NULL)
		closedir(dir);
	return names == 0;
}

/* After its removal began an account has its index or is a new one, it opens (else nobody could go on with it), and the removal
 * can be done again. */
static const char *
look_removed(const char *root, struct bounds may, struct err *e)
{
	const char *why = NULL;
	struct index *ix;

	if (crash_keeper_open(root, CRASH_NOW, &keeper_events, e) < 0)
		return "it does not open, so nobody can go on with its removal";
	ix = crash_keeper_index();
	if (index_serial(ix) == 1 && index_usage(ix).messages != 0)
		why = "a new account is not empty";
	else if (index_serial(ix) > 1 && index_serial(ix) < may.told)
		why = "it is neither there nor gone";
	crash_keeper_close(false);
	if (why == NULL && (account_remove(root, e) < 0 || !is_empty(root)))
		why = "its removal cannot be done again";
	return why;
}

/* ---- a session ---- */

static struct session *
session_start(const char *root, struct bounds may)
{
	struct session *s = MEM_NEW(struct session);

	(void)snprintf(s->root, sizeof s->root, "%s", root);
	s->now = may;
	s->removal = SIZE_MAX;
	s->record = crash_record_start(root);
	crash_record_watch(s->record, on_operation, s);
	on_operation(s);
	running = s;
	return s;
}

static void
session_stop(struct session *s)
{
	crash_record_stop();
	on_operation(s);
	running = NULL;
}

static void
session_free(struct session **session)
{
	struct session *s = *session;

	crash_record_free(&s->record);
	free(s->moments);
	MEM_FREE(session);
}

static const char *
remove_it(struct session *s, struct err *e)
{
	s->removal = crash_record_count(s->record);
	return account_remove(s->root, e) < 0 || !is_empty(s->root) ? "it is not removed" : NULL;
}

/* Whatever a rebuild has left there: by a keeper that opened it before. */
static const char *
open_and_remove(struct session *s, struct err *e)
{
	crash_record_fail_sync(s->record, 0, 0);
	if (crash_keeper_open(s->root, CRASH_NOW, &keeper_events, e) < 0)
		return "it does not open to be removed";
	crash_keeper_close(true);
	return remove_it(s, e);
}

/* The first one of a seed: makes the history. */
static const char *
make_history(struct session *s, struct err *e)
{
	crash_steps_begin(seed_now);
	if (crash_keeper_open(s->root, CRASH_NOW, &keeper_events, e) < 0)
		return "the new account does not open";
	s->now.told = index_serial(crash_keeper_index());
	s->now.begun = s->now.told + 1;
	crash_steps_committed(crash_keeper_index());
	on_told();
	unsigned steps_done = seed_now % 4 == 1 && steps_max > STEPS_SHORT ? STEPS_SHORT : steps_max;

	for (unsigned i = 0; i < steps_done; i++) {
		const char *why;

		crash_steps_make();
		if (!crash_steps_do(i, s->root, e))
			return "it does not open again";
		if ((why = crash_steps_wrong()) != NULL)
			return why;
		if (crash_keeper_broken())
			return "the keeper gave up";
	}
	/* Nothing would be found in a history of refusals. */
	if (steps_done > STEPS_SHORT && crash_keeper_index()->account.next_object < steps_done / 10)
		return "the history has hardly any messages";
	crash_keeper_close(true);
	return seed_now % 4 == 1 || seed_now % 4 == 2 ? remove_it(s, e) : NULL;
}

/* Arms a fault of the process, or none. What follows one that ended so does its work every second time. */
static void
arm(struct session *s, bool follows, uint64_t dice)
{
	crash_record_revive(s->record);
	crash_record_fail_sync(s->record, 0, 0);
	if (follows && dice >> 60 & 1)
		return;
	uint64_t n = dice >> 16;

	/* A new base copy is made at once: its name may be there and not be durable. */
	if (s->base_good == SIZE_MAX && dice >> 59 & 1) {
		crash_record_kill_at_name(s->record, 1 + (unsigned)n % 2);
		return;
	}

	switch (dice % 8) {
	case 0:
		/* An opening has some hundreds of operations, a request some tens. */
		crash_record_kill(s->record, 1 + n % (dice >> 8 & 1 ? 1200 : 100));
		break;
	case 1:
	case 2:
		crash_record_kill_by_sort(s->record, 4u << 2 * (n & 1), n);
		break;
	case 3:
	case 4:
		crash_record_kill_at_sort(s->record, 1 + (n >> 8) % 2, n);
		break;
	case 5:
	case 6:
		crash_record_fail_sync(s->record, 1 + (unsigned)n % 30, n);
		break;
	default:
		crash_record_kill_at_name(s->record, 1 + (unsigned)n % NAMES_TO_KILL);
		break;
	}
}

/* The next step of the account that is open: a known one, or one that is made now. */
static size_t
next_step(struct session *s, size_t step, uint64_t dice)
{
	if (step < crash_steps_count())
		return step;
	/* A branch that was there before stays as it was. */
	if (s->now.branch < s->old_branches || !crash_steps_can_make())
		s->now.branch = crash_steps_fork(dice);
	crash_steps_make();
	return crash_steps_count() - 1;
}

/* Some steps, until the process ends. NULL while all is right. */
static const char *
run_steps(struct session *s, unsigned steps, uint64_t dice, struct err *e)
{
	const char *why = NULL;

	/* A damaged page that nobody has met yet could make a new history wrong, and nobody would know. */
	if (dice >> 44 & 1 && !latent)
		s->now.branch = crash_steps_fork(dice);
	size_t step = dice >> 44 & 1 && !latent ? crash_steps_count() : crash_steps_after(index_serial(crash_keeper_index()));

	for (unsigned i = 0; i < steps && why == NULL; i++, step++) {
		if (latent && step >= crash_steps_count())
			break;
		step = next_step(s, step, mix(dice, i));
		if (!crash_steps_do(step, s->root, e))
			why = "it does not open again";
		else if (crash_keeper_broken() || crash_record_died(s->record))
			break;
		else
			why = crash_steps_wrong();
	}
	return why;
}

/* One process of a session: opens the account and goes on with the history. why_r: NULL while all is right. True when the
 * process was ended by a fault. */
static bool
run_process(struct session *s, unsigned steps, uint64_t dice, const char **why_r, struct err *e)
{
	bool ended;

	*why_r = open_account(s->root, s->now, e);
	/* What it shows it may tell. */
	if (*why_r == NULL) {
		if (s->base_good == SIZE_MAX)
			s->base_good = crash_record_count(s->record);
		if (s->index_good == SIZE_MAX)
			s->index_good = crash_record_count(s->record);
		s->now.begun = index_serial(crash_keeper_index()) + 1;
		s->now.branch = crash_steps_enter(s->now.branch, index_serial(crash_keeper_index()));
		*why_r = crash_steps_ask_again(1, dice);
	}
	if (*why_r == NULL && !crash_keeper_broken())
		*why_r = run_steps(s, steps, dice, e);
	ended = crash_record_died(s->record) || crash_record_failed(s->record) || gave_up_on_damage();
	if (*why_r == NULL && !ended && crash_keeper_index() != NULL && crash_keeper_broken())
		*why_r = "the keeper gave up on it";
	if (ended) {
		*why_r = NULL;
		(void)crash_steps_wrong();
	}
	if (gave_up_on_damage())
		crash_keeper_close(true);
	crash_keeper_close(dice >> 40 & 1 && !crash_record_died(s->record));
	crash_record_revive(s->record);
	file_lost_reset();
	file_error_reset();
	return ended;
}

/* Goes on with an account, with processes that are killed and syncs that fail. */
static const char *
go_on(struct session *s, uint64_t seed, struct err *e)
{
	const char *why = NULL;

	for (unsigned i = 0; i < RESTARTS_MAX && why == NULL; i++) {
		arm(s, i > 0, mix(seed, i));
		if (!run_process(s, STEPS_PER_RECORD, mix(seed, 100 + i), &why, e))
			break;
	}
	s->refused = why != NULL && crash_keeper_index() == NULL && e->code == ERR_CODE_CORRUPT && s->base_good == SIZE_MAX &&
	    crash_record_has_failure(s->record, crash_record_count(s->record));
	return s->refused ? NULL : why;
}

/* ---- states ---- */

static bool explore_record(struct session *s, unsigned depth, size_t states);
static bool explore_moments(struct session *s, unsigned depth, size_t first, size_t last, size_t states);

static bool
report(const struct session *s, size_t cut, const char *why, const struct err *e)
{
	char what[300], text[1024];

	crash_record_describe(s->record, cut, what, sizeof what);
	(void)snprintf(text, sizeof text, "%s (%s %s), after: %s; told %llu, begun %llu %s", why, e->client, e->detail, what,
	    (unsigned long long)s->moments[cut].told, (unsigned long long)s->moments[cut].begun, crash_damage_name(damage));
	crash_run_wrong(text);
	return false;
}

/* Is the base copy damaged in that state? */
static bool
base_is_damaged(const struct session *s, size_t cut)
{
	return crash_damages_base(damage) || cut < s->base_good;
}

/*
 * May an account be refused as damaged? When the base copy is, and the databases are too, or may be from the cut or from a sync that
 * failed; and when a transaction may be lost with a sector of the log.
 */
static bool
may_refuse(const struct session *s, size_t cut, enum crash_mode mode, const struct err *e)
{
	/* Of two bits that flip one after the other, before the log was made anew, one is not put right. */
	if (damage == DAMAGE_LOG_SECTOR || (damage == DAMAGE_LOG_FLIP && (cut < s->base_good || (s->log_damaged && cut < s->index_good))))
		return e->code == ERR_CODE_CORRUPT;
	return e->code == ERR_CODE_CORRUPT && base_is_damaged(s, cut) &&
	    (damage == DAMAGE_INDEX_AND_BASE || latent || mode == CRASH_RANDOM || cut < s->index_good || crash_record_has_failure(s->record, cut));
}

static enum crash_damage
choose_damage(const struct session *s, size_t cut, unsigned variant, unsigned depth, uint64_t seed)
{
	bool none = variant >= VARIANTS || (seed >> 20 & 3) > depth || cut > s->removal;

	return none ? DAMAGE_NONE : (enum crash_damage)((seed >> 24) % DAMAGE_KINDS);
}

/* Makes the state and looks at it; some go on. True when all is right. */
static bool
try_state(struct session *s, size_t cut, unsigned variant, unsigned depth)
{
	uint64_t seed = mix(mix(seed_now, depth), mix(cut, variant));
	enum crash_mode mode = variant % 8 == 0 ? CRASH_ALL : variant % 8 == 1 ? CRASH_NONE : CRASH_RANDOM;
	size_t length = strlen(replay_text);
	char target[CRASH_DIR_BYTES];
	const struct err corrupt = {.code = ERR_CODE_CORRUPT};
	struct err e = {0};
	const char *why;
	bool good = true;

	/* What was done until then. */
	for (size_t i = 1; crash_verbose && i <= cut && depth + 1 == wanted_count; i++) {
		char what[300];

		crash_record_describe(s->record, i, what, sizeof what);
		fprintf(stderr, "operation %zu: %s\n", i, what);
	}
	(void)snprintf(replay_text + length, sizeof replay_text - length, "%s%zu.%u", depth ? "/" : "", cut, variant);
	crash_run_at(replay_text);
	crash_dir_make(target);
	crash_record_make(s->record, cut, mode, seed, target);
	if (kept != NULL && depth + 1 == wanted_count) {
		(void)mkdir(kept, 0700);
		crash_record_make(s->record, cut, mode, seed, kept);
	}
	damage = choose_damage(s, cut, variant, depth, seed);
	bool log_lost = crash_log_damaged(target);

	if (!crash_damage(target, damage, mix(seed, 1)))
		damage = DAMAGE_NONE;
	latent = s->latent || damages_database();
	if (crash_verbose)
		fprintf(stderr, "state %s %s\n", replay_text, crash_damage_name(damage));
	/* What an index that is made anew goes through is seen in few states: most of what was damaged goes on. */
	unsigned to_one = damage != DAMAGE_NONE ? 2 : deep_every << depth;

	if (log_lost && !s->log_damaged && cut <= s->removal) {
		good = report(s, cut, "what was never synced is taken for damage of the log", &e);
	} else if (variant < VARIANTS && depth + 1 < CUTS_MAX && seed % to_one == 0 && cut <= s->removal && !may_refuse(s, cut, mode, &corrupt)) {
		struct session *next = session_start(target, s->moments[cut]);
		struct crash_steps_mark mark = crash_steps_mark();

		next->latent = latent;
		next->log_damaged = s->log_damaged || damage == DAMAGE_LOG_FLIP || damage == DAMAGE_LOG_SECTOR;
		next->index_good = SIZE_MAX;
		next->old_branches = mark.branches;
		next->base_good = base_is_damaged(s, cut) ? SIZE_MAX : 0;
		why = go_on(next, seed, &e);
		if (why == NULL && !next->refused && (seed >> 52 & 3) == 0)
			why = open_and_remove(next, &e);
		session_stop(next);
		crash_fs_plain();
		if (why != NULL)
			good = report(s, cut, why, &e);
		else
			good = explore_record(next, depth + 1, base_is_damaged(s, cut) ? 4 * STATES_PER_RECORD : STATES_PER_RECORD);
		crash_steps_back(mark);
		session_free(&next);
	} else {
		if (cut > s->removal && cut == crash_record_count(s->record) && !is_empty(target))
			why = "it was removed, and not all of it is gone";
		else if (cut > s->removal)
			why = look_removed(target, s->moments[cut], &e);
		else
			why = look(target, s->moments[cut], seed, &e);
		if (why != NULL && !(crash_keeper_index() == NULL && may_refuse(s, cut, mode, &e)))
			good = report(s, cut, why, &e);
	}
	if (good)
		crash_run_good();
	crash_dir_remove(target);
	replay_text[length] = '\0';
	return good;
}

/* Cuts at moments spread over the record, in order. */
static bool
explore_record(struct session *s, unsigned depth, size_t states)
{
	size_t n = crash_record_count(s->record);

	/* A removal is short: it has a third of the states. */
	if (s->removal < n && depth == 0 && wanted_count == 0)
		return explore_moments(s, depth, 0, s->removal, states - states / 3) &&
		    explore_moments(s, depth, s->removal, n, states / 3);
	return explore_moments(s, depth, 0, n, states);
}

struct moment {
	size_t cut;
	unsigned variant;
};

static int
by_cut(const void *a, const void *b)
{
	const struct moment *m = a, *n = b;

	return m->cut != n->cut ? (m->cut > n->cut) - (m->cut < n->cut) : (m->variant > n->variant) - (m->variant < n->variant);
}

/* One of so many: every second one by the time, the others by the sort of operation. */
static struct moment
choose_moment(const struct session *s, size_t first, size_t last, size_t i, size_t states, uint64_t dice)
{
	size_t from = (last - first) * i / states, width = (last - first) * (i + 1) / states - from + 1;
	struct moment m = {.cut = first + from + dice % width, .variant = (unsigned)(dice >> 32) % VARIANTS};

	if (i % 2)
		m.cut = crash_record_moment_by_sort(s->record, first, last, dice);
	/* Few of the moments among zeros. */
	while (m.cut < last && crash_record_is_filler(s->record, m.cut) && (dice >> 48) % 16 != 0)
		m.cut++;
	return m;
}

/* Those between two moments. */
static bool
explore_moments(struct session *s, unsigned depth, size_t first, size_t last, size_t states)
{
	size_t n = last - first;

	if (wanted_count > 0)
		return depth >= wanted_count || try_state(s, wanted[depth].cut, wanted[depth].variant, depth);
	struct moment *m = mem_new_array(states + 1, sizeof *m);
	bool good = true;

	for (size_t i = 0; i < states; i++)
		m[i] = choose_moment(s, first, last, i, states, mix(mix(seed_now, n), mix(i, depth)));
	qsort(m, states, sizeof *m, by_cut);
	for (size_t i = 0; i < states && good; i++)
		good = try_state(s, m[i].cut, m[i].variant, depth);
	free(m);
	return good;
}

/* Would that state be the same as the one a moment before, and judged by the same? */
static bool
was_tried(const struct session *s, size_t cut, enum crash_mode mode)
{
	const struct bounds *may = &s->moments[cut];

	return crash_record_is_same(s->record, cut, mode) && cut != s->removal + 1 && may[0].told == may[-1].told &&
	    may[0].begun == may[-1].begun && may[0].branch == may[-1].branch;
}

/* Cuts at every moment: once all that was done is there, once only what was synced. */
static bool
explore_whole(struct session *s)
{
	bool good = true;

	for (size_t cut = 0; good && cut <= crash_record_count(s->record); cut++) {
		if (!was_tried(s, cut, CRASH_ALL))
			good = try_state(s, cut, WHOLE_ALL, 0);
		if (good && !was_tried(s, cut, CRASH_NONE))
			good = try_state(s, cut, WHOLE_NONE, 0);
	}
	return good;
}

/* All of one seed. */
static int
explore(uint64_t seed)
{
	char root[CRASH_DIR_BYTES];
	struct session *s;
	struct err e = {0};
	const char *why;
	bool good;

	crash_same_begin();
	seed_now = seed;
	deep_every = 3;
	(void)snprintf(replay_text, sizeof replay_text, "%llu:%u:", (unsigned long long)seed, steps_max);
	crash_run_at(replay_text);
	crash_dir_make(root);
	s = session_start(root, (struct bounds){.begun = 1});
	why = make_history(s, &e);
	session_stop(s);
	crash_fs_plain();
	if (why != NULL)
		good = report(s, 0, why, &e);
	else
		good = whole ? explore_whole(s) : explore_record(s, 0, STATES_PER_SEED);
	session_free(&s);
	crash_dir_remove(root);
	crash_steps_begin(0);
	return good ? 0 : 1;
}

static int
replay(const char *text)
{
	char *at;

	crash_verbose = true;
	seed_now = strtoull(text, &at, 10);
	if (*at != ':')
		return 2;
	steps_max = (unsigned)strtoul(at + 1, &at, 10);
	for (; *at != '\0' && wanted_count < CUTS_MAX; wanted_count++) {
		wanted[wanted_count].cut = strtoul(at + 1, &at, 10);
		if (*at != '.')
			return 2;
		wanted[wanted_count].variant = (unsigned)strtoul(at + 1, &at, 10);
	}
	int status = explore(seed_now);

	printf("store_crash: %s is %s\n", text, status == 0 ? "right" : "wrong");
	return status;
}

int
main(int argc, char **argv)
{
	struct crash_options o = {.name = "store_crash", .states = 600, .seed = 1};
	long processors = sysconf(_SC_NPROCESSORS_ONLN);
	const char *again = NULL, *mutant = NULL;

	crash_same_places(argv);
	o.jobs = processors > 1 ? 2 : 1;
	log_init("store_crash", LOG_BUG);
	file_hook_db();
	crash_steps_events = &keeper_events;
	for (int i = 1; i + 1 < argc; i += 2) {
		unsigned long value = strtoul(argv[i + 1], NULL, 10);

		if (strcmp(argv[i], "--replay") == 0)
			again = argv[i + 1];
		else if (strcmp(argv[i], "--mutant") == 0)
			mutant = argv[i + 1];
		else if (strcmp(argv[i], "--states") == 0)
			o.states = (unsigned)value;
		else if (strcmp(argv[i], "--keep") == 0)
			kept = argv[i + 1];
		else if (strcmp(argv[i], "--verbose") == 0)
			crash_verbose = value;
		else if (strcmp(argv[i], "--seed") == 0)
			o.seed = value;
		else if (strcmp(argv[i], "--steps") == 0)
			steps_max = (unsigned)value;
		else if (strcmp(argv[i], "--jobs") == 0)
			o.jobs = (unsigned)value;
		else if (strcmp(argv[i], "--whole") == 0)
			o.whole = (unsigned)value;
	}
	if (o.whole > 0) {
		o.name = "store_crash_whole";
		whole = true;
	}
	if (again != NULL) {
		crash_mutant_use(mutant);
		return replay(again);
	}
	if (mutant != NULL)
		return crash_mutant_try(&o, explore, mutant);
	return crash_run_main(&o, argv[0], explore);
}
