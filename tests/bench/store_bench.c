/*
 * The store's half of `make bench-store`: reads commands from its input, one a
 * line, and answers each with one line of numbers; tests/bench/bench_store.py gives
 * them, alternates them with those to Dovecot, and judges. argv[1] is a state directory.
 *
 *   fill ACCOUNT COUNT FILES   a mailbox of COUNT messages (no keeper may run), and as many files in mail/ as FILES
 *   start ACCOUNT | stop ACCOUNT             the keeper; stop all for every one
 *   pid ACCOUNT
 *   open ACCOUNT | hop ACCOUNT COUNT         microseconds; of one
 *   view ACCOUNT | unview ACCOUNT            opens and keeps it; closes it
 *   store ACCOUNT FLAGS FIRST LAST           flags > 0 are added, < 0 taken away
 *   copy ACCOUNT TARGET FIRST LAST           microseconds
 *   expunge ACCOUNT MAILBOX
 *   fetch ACCOUNT FIRST LAST                 microseconds
 *   deliver ACCOUNT COUNT BYTES | batch ACCOUNT COUNT BYTES
 *   spread FIRST N COUNT BYTES               microseconds of COUNT deliveries to each of N accounts at once
 *   syncs COUNT | writers N COUNT BYTES | trip COUNT | memory | read BYTES     the limits
 */
#include "tests/bench/bench_keeper.h"
#include "tests/bench/bench_limits.h"

#include "common/log.h"
#include "common/memfd.h"
#include "store/file.h"
#include "store/index.h"
#include "store/object.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/evp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEEPERS_MAX 256
#define ARGS_MAX 5
#define COPY_STEP 50000u
#define SUMMARY_BYTES 600u
#define INBOX 1u
#define NO_LIMIT ((struct quota){QUOTA_NONE, QUOTA_NONE})

static const char *state;
static struct bench_keeper keepers[KEEPERS_MAX];

static struct bench_keeper *
keeper_of(long long account)
{
	if (account < 0 || account >= KEEPERS_MAX)
		bench_die("no account %lld", account);
	return &keepers[account];
}

/* ---- content ---- */

static struct slice
content(size_t bytes)
{
	static char *octets;

	free(octets);
	octets = malloc(bytes + 1);
	if (octets == NULL || bytes < 64)
		bench_die("a message of %zu octets", bytes);
	for (size_t i = 0; i < bytes; i++)
		octets[i] = i % 78 == 76 ? '\r' : i % 78 == 77 ? '\n' : (char)('a' + i % 26);
	memcpy(octets, "Subject: bench\r\n\r\n", 18);
	return slice_of(octets, bytes);
}

static int
file_of(struct slice octets)
{
	struct err e;
	int fd = memfd_of(octets, &e);

	if (fd < 0)
		bench_die("%s", e.detail);
	return fd;
}

/* ---- filling ---- */

static void
must(int failed, const struct err *e)
{
	if (failed)
		bench_die("filling: %s: %s", e->client, e->detail);
}

static void
append_first(struct index *ix, const char *root, struct err *e)
{
	struct slice octets = content(1024), summary = content(SUMMARY_BYTES);
	struct index_append a = {.mailbox = INBOX, .size = octets.n, .internal_date = 1700000000, .summary = summary,
	    .limit = NO_LIMIT};
	uint64_t number = index_object_reserve(ix);
	int fd = file_of(octets);
	uint8_t sha256[32];
	uint32_t uid;

	EVP_Digest(octets.p, octets.n, sha256, NULL, EVP_sha256(), NULL);
	object_id(number, sha256, a.object_id);
	must(object_write(root, number, fd, a.size, sha256, e), e);
	must(object_sync_shard(root, object_shard(number), e), e);
	must(index_begin(ix, e) < 0 || index_append(ix, &a, &uid, e) < 0 || index_commit(ix, e) < 0, e);
	(void)close(fd);
}

static void
copy_more(struct index *ix, uint32_t target, uint32_t count, struct err *e)
{
	struct uid_range range = {1, count};
	struct uidset set = {.ranges = &range, .n = 1, .cap = 1}, source = {0}, made = {0};

	must(index_begin(ix, e) < 0, e);
	must(index_copy(ix, INBOX, target, false, &set, NO_LIMIT, &source, &made, e) < 0 || index_commit(ix, e) < 0, e);
	index_changes_reset(ix);
	uidset_fini(&source);
	uidset_fini(&made);
	for (int r = 1; r == 1 && index_wants_upkeep(ix);)
		must((r = index_upkeep(ix, e)) < 0, e);
}

/* Empty files with the names of the numbers before, so that the directories are as full as those of a mailbox of that size. */
static void
fill_files(const char *root, long long files)
{
	char path[PATH_MAX + 256];

	for (long long i = 0; i < files; i++) {
		unsigned shard = object_shard((uint64_t)i);

		(void)snprintf(path, sizeof path, "%s/mail/%02x", root, shard);
		if (i % OBJECT_SHARD_OBJECTS == 0 && mkdir(path, 0700) != 0 && errno != EEXIST)
			bench_die("mkdir %s", path);
		(void)snprintf(path, sizeof path, "%s/mail/%02x/%016llx%016llx", root, shard, (unsigned long long)i,
		    (unsigned long long)i * 0x9e3779b97f4a7c15ull);
		int fd = open(path, O_WRONLY | O_CREAT, 0600);

		if (fd < 0 || close(fd) != 0)
			bench_die("%s", path);
	}
}

static void
fill(long long account, long long count, long long files)
{
	char root[PATH_MAX + 64];
	struct index *ix;
	uint32_t have = 1;
	struct err e;

	(void)snprintf(root, sizeof root, "%s/accounts", state);
	(void)mkdir(root, 0700);
	(void)snprintf(root, sizeof root, "%s/accounts/%lld", state, account);
	(void)mkdir(root, 0700);
	must(index_open(root, 1700000000, &ix, &e), &e);
	fill_files(root, files);
	for (long long i = 0; i < files; i++)
		(void)index_object_reserve(ix);
	append_first(ix, root, &e);
	while (have < count) {
		uint32_t step = have < COPY_STEP ? have : COPY_STEP;

		step = step < count - have ? step : (uint32_t)(count - have);
		copy_more(ix, INBOX, step, &e);
		have += step;
	}
	must(index_flush(ix, &e), &e);
	must(index_upkeep_now(ix, &e), &e);
	index_close(&ix);
}

/* ---- deliveries ---- */

static double
deliver(struct bench_keeper **list, unsigned n, unsigned count, bool batch, size_t bytes)
{
	struct slice octets = content(bytes);
	int message = file_of(octets), summary = file_of(slice_of(octets.p, bytes < SUMMARY_BYTES ? bytes : SUMMARY_BYTES));
	double began = bench_now();

	for (unsigned i = 0; i < n; i++)
		bench_keeper_deliver(list[i], count, batch, message, octets, summary);
	for (unsigned i = 0; i < n; i++)
		bench_keeper_wait(list[i]);
	double us = bench_now() - began;

	(void)close(message);
	(void)close(summary);
	return us;
}

static double
spread(long long first, long long n, unsigned count, size_t bytes)
{
	struct bench_keeper *list[KEEPERS_MAX];

	if (n > KEEPERS_MAX)
		bench_die("too many keepers");
	for (long long i = 0; i < n; i++)
		list[i] = keeper_of(first + i);
	return deliver(list, (unsigned)n, count, false, bytes);
}

/* ---- commands ---- */

static double
took(double began)
{
	return bench_now() - began;
}

static void
stop_all(void)
{
	for (unsigned i = 0; i < KEEPERS_MAX; i++)
		if (keepers[i].pid != 0)
			bench_keeper_stop(&keepers[i]);
}

static double
hops(struct bench_keeper *k, long long count)
{
	double began = bench_now();

	for (long long i = 0; i < count; i++)
		bench_keeper_hop(k);
	return took(began) / (double)count;
}

/* Of requests to one keeper; false when it is none. */
static bool
ask(struct bench_keeper *k, const char *verb, const long long *a, double *answer)
{
	double began = bench_now();

	if (strcmp(verb, "pid") == 0) {
		*answer = k->pid;
	} else if (strcmp(verb, "open") == 0 || strcmp(verb, "view") == 0) {
		bench_keeper_open(k, INBOX);
		*answer = took(began);
		if (verb[0] == 'o')
			bench_keeper_close(k);
	} else if (strcmp(verb, "unview") == 0) {
		bench_keeper_close(k);
	} else if (strcmp(verb, "hop") == 0) {
		*answer = hops(k, a[1]);
	} else if (strcmp(verb, "store") == 0) {
		bench_keeper_flags(k, a[1] > 0 ? STORE_FLAGS_ADD : STORE_FLAGS_REMOVE, (uint32_t)llabs(a[1]),
		    (uint32_t)a[2], (uint32_t)a[3]);
		*answer = took(began);
	} else if (strcmp(verb, "copy") == 0) {
		bench_keeper_copy(k, (uint32_t)a[1], (uint32_t)a[2], (uint32_t)a[3]);
		*answer = took(began);
	} else if (strcmp(verb, "expunge") == 0) {
		bench_keeper_expunge(k, (uint32_t)a[1], 1, UINT32_MAX);
		*answer = took(began);
	} else if (strcmp(verb, "fetch") == 0) {
		if (bench_keeper_fetch(k, (uint32_t)a[1], (uint32_t)a[2]) != (uint64_t)(a[2] - a[1] + 1))
			bench_die("not all were fetched");
		*answer = took(began);
	} else if (strcmp(verb, "deliver") == 0 || strcmp(verb, "batch") == 0) {
		*answer = deliver(&k, 1, (unsigned)a[1], verb[0] == 'b', (size_t)a[2]);
	} else {
		return false;
	}
	return true;
}

static bool
ask_limit(const char *verb, const long long *a, double *answer)
{
	if (strcmp(verb, "syncs") == 0)
		*answer = limit_syncs(state, (unsigned)a[0]);
	else if (strcmp(verb, "writers") == 0)
		*answer = limit_writers(state, (unsigned)a[0], (unsigned)a[1], (size_t)a[2]);
	else if (strcmp(verb, "trip") == 0)
		*answer = limit_round_trip((unsigned)a[0]);
	else if (strcmp(verb, "memory") == 0)
		*answer = limit_memory();
	else if (strcmp(verb, "read") == 0)
		*answer = limit_read(state, (size_t)a[0]);
	else
		return false;
	return true;
}

static double
run(const char *verb, const long long *a)
{
	double answer = 0;

	if (strcmp(verb, "fill") == 0)
		fill(a[0], a[1], a[2]);
	else if (strcmp(verb, "start") == 0)
		bench_keeper_start(keeper_of(a[0]), state, (uint64_t)a[0]);
	else if (strcmp(verb, "stop") == 0)
		bench_keeper_stop(keeper_of(a[0]));
	else if (strcmp(verb, "spread") == 0)
		answer = spread(a[0], a[1], (unsigned)a[2], (size_t)a[3]);
	else if (!ask_limit(verb, a, &answer) && !ask(keeper_of(a[0]), verb, a, &answer))
		bench_die("unknown: %s", verb);
	return answer;
}

int
main(int argc, char **argv)
{
	char line[256], verb[32];

	if (argc != 2)
		bench_die("usage: store_bench STATE-DIRECTORY");
	state = argv[1];
	log_init("bench", LOG_ERROR);
	(void)signal(SIGPIPE, SIG_IGN);
	file_hook_db();
	(void)bench_loop();
	while (fgets(line, sizeof line, stdin) != NULL) {
		long long a[ARGS_MAX] = {0};

		if (sscanf(line, "%31s %lld %lld %lld %lld %lld", verb, &a[0], &a[1], &a[2], &a[3], &a[4]) < 1)
			continue;
		(void)printf("%.3f\n", run(verb, a));
		(void)fflush(stdout);
	}
	stop_all();
	return 0;
}
