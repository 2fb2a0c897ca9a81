/*
 * A record of Berkeley DB 5.3's log, in the byte order of the machine: u32 offset of the one before it (of a file's first: in
 * the file before), u32 length with these 12 octets, u32 checksum; the next one lies right behind it. The checksum is h = 33 h + octet
 * over the octets behind the header, exclusive-or the two other fields. Files are filled with zeros in advance.
 */
#include "store/logfile.h"

#include "common/mem.h"
#include "common/mutant.h"
#include "store/file.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>

#define RECORD_BYTES_MAX (LOGFILE_HEADER_BYTES + REDO_BYTES_MAX)
#define PIECE_BYTES (64u << 10)
/* Of Berkeley DB's own records, that of a checkpoint (its txn_ckp). */
#define LOG_CHECKPOINT_TYPE 11u
/* So much of summing bounds what an ill-made file costs. */
#define SEARCH_BYTES_MAX (UINT64_C(64) << 20)

static uint32_t
u32_at(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof v);
	return v;
}

/* ---- records ---- */

#define P2 (33u * 33u)
#define P3 (P2 * 33u)
#define P4 (P2 * P2)

/* Eight octets a turn: their products do not wait for each other. */
static uint32_t
sum(const uint8_t *p, size_t n)
{
	uint32_t h = 0;

	for (; n >= 8; n -= 8, p += 8) {
		uint32_t high = p[0] * P3 + p[1] * P2 + p[2] * 33u + p[3], low = p[4] * P3 + p[5] * P2 + p[6] * 33u + p[7];

		h = h * (P4 * P4) + (high * P4 + low);
	}
	for (; n > 0; n--)
		h = h * 33u + *p++;
	return h;
}

/* The length that the header at `at` gives its record; 0 when none can have it. */
static size_t
length_at(const uint8_t *p, size_t n, size_t at)
{
	size_t length = n - at > LOGFILE_HEADER_BYTES ? u32_at(p + at + 4) : 0;

	return length > LOGFILE_HEADER_BYTES && length <= n - at && length <= RECORD_BYTES_MAX ? length : 0;
}

static bool
is_whole(const uint8_t *p, size_t at, size_t length)
{
	uint32_t body = sum(p + at + LOGFILE_HEADER_BYTES, length - LOGFILE_HEADER_BYTES);

	return MUTANT(LOG_SUM) || (body ^ u32_at(p + at) ^ (uint32_t)length) == u32_at(p + at + 8);
}

/* The first record that is whole behind `at`, of which the one before begins at `at` or behind it; n when there is none. */
static size_t
find_next(struct logfile_chain *c, const uint8_t *p, size_t n, size_t at)
{
	for (size_t b = at + 1; n - b > LOGFILE_HEADER_BYTES; b++) {
		uint32_t previous = u32_at(p + b);
		size_t length = length_at(p, n, b);

		if (length == 0 || previous < at || previous >= b)
			continue;
		c->search += length;
		if (c->search > SEARCH_BYTES_MAX)
			break;
		if (is_whole(p, b, length))
			return b;
	}
	return n;
}

/* What lies from at to next is one record that is not whole: if it is one of ours with a flipped bit, that is put right. */
static bool
mend(const struct logfile_chain *c, uint8_t *p, size_t at, size_t next)
{
	size_t n = next - at - LOGFILE_HEADER_BYTES;
	const uint8_t *body = p + at + LOGFILE_HEADER_BYTES;
	struct redo r;
	uint8_t *copy;
	bool mended = redo_open(slice_of(body, n), &r); /* only the header was damaged */

	if (mended)
		return true;
	copy = mem_resize(NULL, n, 1);
	memcpy(copy, body, n);
	/* Both sums must be right: one alone would be right by chance of some octets that are none of ours. */
	mended = redo_mend(copy, n) && (sum(copy, n) ^ c->last ^ (uint32_t)(next - at)) == u32_at(p + at + 8);
	if (mended)
		memcpy(p + at + LOGFILE_HEADER_BYTES, copy, n);
	free(copy);
	return mended;
}

static void
give_record(struct logfile_chain *c, const uint8_t *p, size_t at, size_t length, const struct logfile_fns *fns)
{
	struct slice record = slice_of(p + at + LOGFILE_HEADER_BYTES, length - LOGFILE_HEADER_BYTES);
	struct redo r;

	if (record.n >= sizeof(uint32_t) && u32_at(record.p) == LOG_CHECKPOINT_TYPE)
		c->pages = (struct redo_pages){0, 0};
	else if (redo_is_mark(record) && redo_open(record, &r))
		c->pages = r.pages;
	if ((c->broken || !fns->behind) && redo_is_ours(record) && redo_open(record, &r) && !fns->redo(fns->arg, &r, record))
		c->stopped = true;
	c->last = (uint32_t)at;
}

static void
give_break(struct logfile_chain *c, uint32_t file, size_t at, const struct logfile_fns *fns)
{
	c->broken = true;
	if (!fns->broken(fns->arg, (struct env_log_place){file, (uint32_t)at}))
		c->stopped = true;
}

/* Past a break at `at` to where a record is whole again; n when there is none. */
static size_t
pass_break(struct logfile_chain *c, uint8_t *p, size_t n, size_t at, const struct logfile_fns *fns)
{
	size_t next;

	give_break(c, c->file, at, fns);
	if (c->stopped)
		return n;
	next = find_next(c, p, n, at);
	/* The last one of a file has only its own word for its length. */
	if (next == n && length_at(p, n, at) > 0 && mem_is_zero(p + at + length_at(p, n, at), n - at - length_at(p, n, at)))
		next = at + length_at(p, n, at);
	else if (next == n || u32_at(p + next) != at)
		return next;
	if (next - at > LOGFILE_HEADER_BYTES && mend(c, p, at, next)) {
		give_record(c, p, at, next - at, fns);
		c->end = (uint32_t)next;
	}
	return next;
}

void
logfile_octets(struct logfile_chain *c, uint32_t number, uint8_t *p, size_t n, const struct logfile_fns *fns)
{
	size_t at = 0;
	bool anew = !c->linked; /* the record before is not known */

	if (c->file != 0 && (!c->linked || number != c->file + 1 || n <= LOGFILE_HEADER_BYTES || u32_at(p) != c->last)) {
		give_break(c, c->file, c->end, fns);
		anew = true;
	}
	c->file = number;
	c->end = 0;
	c->linked = false;
	while (!c->stopped && n - at > LOGFILE_HEADER_BYTES) {
		size_t length = length_at(p, n, at);

		if (length == 0 && mem_is_zero(p + at, n - at))
			break;
		if (length == 0 || !(anew || u32_at(p + at) == c->last) || !is_whole(p, at, length)) {
			at = pass_break(c, p, n, at, fns);
			anew = true;
			continue;
		}
		give_record(c, p, at, length, fns);
		anew = false;
		c->linked = true;
		at += length;
		c->end = (uint32_t)at;
	}
}

/* ---- files ---- */

struct names {
	uint32_t *numbers;
	size_t n;
};

static int
on_name(void *arg, const char *path, const char *name, struct err *e)
{
	struct names *l = arg;
	struct slice s = slice_str(name);
	uint64_t number;

	(void)path;
	(void)e;
	if (s.n != 14 || !slice_starts(s, SLICE("log.")) || !slice_u64(slice_sub(s, 4, s.n), UINT32_MAX, &number) || number == 0)
		return 0;
	l->numbers = mem_resize(l->numbers, l->n + 1, sizeof *l->numbers);
	l->numbers[l->n++] = (uint32_t)number;
	return 0;
}

static int
number_cmp(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

int
logfile_numbers(const char *dir, uint32_t **numbers_r, size_t *count_r, struct err *e)
{
	struct names names = {.n = 0};
	int failed = file_each(dir, on_name, &names, e);

	if (names.n > 0)
		qsort(names.numbers, names.n, sizeof *names.numbers, number_cmp);
	*numbers_r = names.numbers;
	*count_r = names.n;
	return failed;
}

int
logfile_read(const char *dir, uint32_t number, struct buf *b, struct err *e)
{
	static uint8_t piece[PIECE_BYTES];
	char name[32], path[FILE_PATH_BYTES_MAX];
	uint64_t at = 0;
	int64_t got;

	buf_reset(b);
	(void)snprintf(name, sizeof name, "log.%010u", number);
	file_path(path, dir, name);
	int fd = file_open(path, O_RDONLY | O_NOFOLLOW, e);

	if (fd < 0)
		return -1;
	do {
		got = file_read(fd, at, piece, sizeof piece, e);
		/* Mostly zeros to the end: they take room only when something follows. */
		if (got > 0 && !mem_is_zero(piece, (size_t)got)) {
			size_t zeros = (size_t)at - b->n;
			uint8_t *to = buf_room(b, zeros + (size_t)got);

			assert(to != NULL);
			memset(to, 0, zeros);
			memcpy(to + zeros, piece, (size_t)got);
			buf_added(b, zeros + (size_t)got);
		}
		at += got > 0 ? (uint64_t)got : 0;
	} while (got == PIECE_BYTES && at < LOGFILE_BYTES_MAX);
	(void)file_close(fd, NULL);
	return got < 0 ? -1 : 0;
}

/* The first file to read. Of several that were removed at once a power cut may bring back some and not those behind them: what lies
 * before a gap is no part of the log, unless it is needed. */
static size_t
first_of(const uint32_t *numbers, size_t n, uint32_t needed)
{
	size_t i = n - 1;

	while (i > 0 && numbers[i - 1] + 1 == numbers[i])
		i--;
	return numbers[i] <= needed || needed == 0 ? i : 0;
}

/* Where the log's end is looked for: in the last file, or in the one before when that one was just begun. */
static int
find_last(const char *dir, const uint32_t *numbers, size_t n, struct buf *b, size_t *i_r, struct err *e)
{
	size_t length;

	*i_r = n - 1;
	if (n == 1)
		return 0;
	if (logfile_read(dir, numbers[n - 1], b, e) < 0)
		return -1;
	length = length_at(b->p, b->n, 0);
	if (length == 0 || !is_whole(b->p, 0, length))
		*i_r = n - 2;
	return 0;
}

/* All files, or those where its end may be. needed: the first one that has to be there; 0: not known. chain: filled. */
static int
read_all(const char *dir, bool all, uint32_t needed, const struct logfile_fns *fns, struct logfile_chain *chain, struct err *e)
{
	uint32_t *numbers;
	size_t n, i = 0;
	struct buf b;
	int failed = logfile_numbers(dir, &numbers, &n, e);

	*chain = (struct logfile_chain){.file = 0};
	buf_init(&b, LOGFILE_BYTES_MAX);
	if (failed == 0 && n > 0 && all)
		i = first_of(numbers, n, needed);
	else if (failed == 0 && n > 0)
		failed = find_last(dir, numbers, n, &b, &i, e);
	for (; failed == 0 && !chain->stopped && i < n; i++) {
		failed = logfile_read(dir, numbers[i], &b, e);
		if (failed == 0)
			logfile_octets(chain, numbers[i], b.p, b.n, fns);
	}
	buf_fini(&b);
	free(numbers);
	return failed;
}

/* ---- was it damaged? ---- */

static bool
is_before(struct env_log_place place, const struct redo_durable *durable)
{
	return place.file < durable->file || (place.file == durable->file && place.offset < durable->offset);
}

struct look {
	struct logfile_look *to;
	struct env_log_place first;   /* break of all */
	struct env_log_place in_last; /* break of the file that was read last */
};

static bool
on_durable(void *arg, const struct redo *r, struct slice record)
{
	struct redo_durable *most = arg;

	(void)record;
	if (r->durable.serial > most->serial)
		most->serial = r->durable.serial;
	if (is_before((struct env_log_place){most->file, most->offset}, &r->durable)) {
		most->file = r->durable.file;
		most->offset = r->durable.offset;
	}
	return true;
}

static bool
on_look_redo(void *arg, const struct redo *r, struct slice record)
{
	return on_durable(&((struct look *)arg)->to->durable, r, record);
}

static bool
on_look_broken(void *arg, struct env_log_place place)
{
	struct look *look = arg;

	if (look->first.file == 0)
		look->first = place;
	if (look->in_last.file != place.file)
		look->in_last = place;
	return true;
}

int
logfile_look(const char *dir, bool all, struct logfile_look *look_r, struct err *e)
{
	struct look look = {.to = look_r};
	const struct logfile_fns fns = {on_look_redo, on_look_broken, &look, true};
	struct logfile_chain chain;

	if (read_all(dir, all, look_r->durable.file, &fns, &chain, e) < 0)
		return -1;
	const struct env_log_place end = {chain.file, chain.end};

	/* A last file without a record is one that was just begun: Berkeley DB looks for the end in the one before. */
	if (look.in_last.file != end.file && (end.offset != 0 || look.in_last.file + 1 != end.file))
		look.in_last = end;
	if (look.first.file == 0)
		look.first = end;
	look_r->pages = chain.pages;
	look_r->place = look.first;
	look_r->damaged = is_before(look.first, &look_r->durable);
	look_r->end_damaged = is_before(look.in_last, &look_r->durable);
	return 0;
}

static bool
on_any_break(void *arg, struct env_log_place place)
{
	(void)arg;
	(void)place;
	return true;
}

int
logfile_durable(const char *dir, struct redo_durable *durable, struct err *e)
{
	const struct logfile_fns fns = {on_durable, on_any_break, durable, false};
	struct logfile_chain chain;

	return read_all(dir, true, durable->file, &fns, &chain, e);
}

struct redo_arg {
	logfile_redo_fn *fn;
	void *arg;
	const struct redo_durable *durable;
};

static bool
on_redo(void *arg, const struct redo *r, struct slice record)
{
	struct redo_arg *a = arg;

	return r->mark || a->fn(a->arg, r, record);
}

/* What lies behind a break counts only when it is known that the log had got there. */
static bool
on_redo_broken(void *arg, struct env_log_place place)
{
	return is_before(place, ((struct redo_arg *)arg)->durable);
}

int
logfile_redo(const char *dir, const struct redo_durable *durable, logfile_redo_fn *fn, void *arg, struct err *e)
{
	struct redo_arg a = {fn, arg, durable};
	const struct logfile_fns fns = {on_redo, on_redo_broken, &a, false};
	struct logfile_chain chain;

	return read_all(dir, true, durable->file, &fns, &chain, e);
}
