#include "tests/crash/crash_steps.h"
#include "tests/crash/crash_keeper.h"

#include "common/memfd.h"
#include "common/mem.h"
#include "store/object.h"

#include <assert.h>
#include <dirent.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <unistd.h>
#include <zlib.h>

#define MAILBOX_NUMBERS 24
#define BATCH_MAX 6u
#define SEQUENCES_PER_STEP 8u
#define LONG_SUMMARY_BYTES 120000u
#define TEXT_BYTES_MAX 600u
#define OBJECTS_MAX 4096u

enum verb {
	APPENDS, FLAGS, COPY, MOVE, EXPUNGE, UNDELETE, UNDELETE_MAILBOX, FORGET, FORGET_MAILBOX, MAILBOX, /* requests */
	OPEN, RECENT, SUMMARY, PURGE, CHECKPOINT, BASE, BASE_STEP, REOPEN, LIE
};

struct step {
	enum verb verb;
	enum role role;
	uint32_t mailbox, other;
	uint32_t first, last;
	uint32_t flags;
	unsigned mode; /* of flags, or the verb of a mailbox */
	unsigned count;
	const char *name, *new_name;
	uint64_t seed;
	bool flush;
	uint64_t before; /* serial when it began */
	uint64_t object; /* the least number of the first object that it makes */
	bool leaves;	 /* every second message is of a worker that goes before it is stored */
	size_t branch;
};

struct state {
	uint64_t hash; /* 0: not known */
	char *text;
};

/* Leaves another one after a transaction; the first one leaves none. */
struct branch {
	size_t from_branch;
	uint64_t from;	      /* serial of that transaction */
	struct state *states; /* by serial, from that one on */
	size_t cap;
};

/* A step on the way to the end of a branch, and up to which serial it counts for that branch. */
struct way {
	size_t step;
	uint64_t until;
};

static struct step *steps; /* of all branches */
static size_t step_count, step_cap;
static struct branch *branches;
static size_t branch_count;
static size_t branch; /* that the account is in */
static struct way *way;
static size_t way_count;
static uint64_t random_state;
static const char *wrong;
static unsigned long_every; /* how many summaries to a long one */
bool crash_verbose;
const struct crash_keeper_events *crash_steps_events;

static uint32_t
dice(uint32_t sides)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t)((random_state >> 20) % sides);
}

static uint64_t
sequence_of(size_t step, unsigned i)
{
	return step * SEQUENCES_PER_STEP + i + 1;
}

/* ---- what an account is ---- */

static void
describe(struct buf *b, struct slice key, struct slice value)
{
	buf_putf(b, "%c", key.p[0]);
	for (size_t i = 1; i < key.n; i++)
		buf_putf(b, "%02x", key.p[i]);
	buf_putf(b, " =");
	for (size_t i = 0; i < value.n; i++)
		buf_putf(b, "%s%02x", i % 8 ? "" : " ", value.p[i]);
	buf_putf(b, "\n");
}

/* All records of the index; false and e when they cannot be read. */
static bool
take_state(struct index *ix, struct state *state_r, struct err *e)
{
	uint64_t sum = 0xcbf29ce484222325;
	struct env_cursor c;
	struct buf text;
	int r = env_cursor_open(ix->env, &c, e) < 0 ? -1 : env_cursor_seek(&c, slice_of(NULL, 0), e);

	buf_init(&text, 64u << 20);
	for (; r == 1; r = env_cursor_next(&c, e)) {
		sum = (sum ^ crc32(crc32(0, c.key.p, (uInt)c.key.n), c.value.p, (uInt)c.value.n)) * 0x100000001b3;
		sum ^= sum >> 29;
		if (crash_verbose)
			describe(&text, c.key, c.value);
	}
	env_cursor_close(&c);
	*state_r = (struct state){.hash = sum ? sum : 1, .text = crash_verbose ? mem_copy_str(text.p, text.n) : NULL};
	buf_fini(&text);
	return r == 0;
}

/* The branch that a serial belongs to for who is in that branch. */
static size_t
branch_of(size_t in, uint64_t serial)
{
	while (in > 0 && serial < branches[in].from)
		in = branches[in].from_branch;
	return in;
}

static struct state *
state_of(uint64_t serial)
{
	size_t in = branch_of(branch, serial);

	/* The transaction after which it leaves is the other one's. */
	while (in > 0 && serial == branches[in].from)
		in = branches[in].from_branch;
	struct branch *b = &branches[in];
	size_t at = (size_t)(serial - b->from);

	if (at >= b->cap) {
		size_t cap = at + 64;

		b->states = mem_resize(b->states, cap, sizeof *b->states);
		memset(b->states + b->cap, 0, (cap - b->cap) * sizeof *b->states);
		b->cap = cap;
	}
	return &b->states[at];
}

/* The lines that only one of them has. */
static void
print_difference(const char *found, const char *wanted)
{
	for (unsigned side = 0; side < 2; side++) {
		const char *a = side ? wanted : found, *b = side ? found : wanted;

		for (const char *end; a != NULL && (end = strchr(a, '\n')) != NULL; a = end + 1) {
			char *line = mem_copy_str(a, (size_t)(end - a) + 1);

			if (b == NULL || strstr(b, line) == NULL)
				fprintf(stderr, "%s %s", side ? "wanted" : "found ", line);
			free(line);
		}
	}
}

void
crash_steps_committed(struct index *ix)
{
	struct state *known = state_of(index_serial(ix)), now;
	struct err e;

	/* The summary alone has no record in the index; then the serial moves and nothing else. */
	if (!take_state(ix, &now, &e)) {
		wrong = "it cannot be read after a transaction";
		free(now.text);
	} else if (known->hash == 0) {
		*known = now;
	} else {
		if (known->hash != now.hash) {
			wrong = "the same step did not have the same result";
			if (crash_verbose)
				print_difference(now.text, known->text);
		}
		free(now.text);
	}
}

const char *
crash_steps_wrong(void)
{
	const char *why = wrong;

	wrong = NULL;
	return why;
}

/* ---- objects ---- */

struct objects {
	struct index *ix;
	bool known[OBJECTS_MAX];
	struct err *e;
};

static const char *
check_object(struct objects *o, const uint8_t *id, uint64_t size)
{
	uint64_t number = object_number(id);
	uint8_t octets[TEXT_BYTES_MAX + 1], sum[EVP_MAX_MD_SIZE];
	int fd;

	if (number >= OBJECTS_MAX || size > TEXT_BYTES_MAX)
		return "an object that was never stored";
	if (o->known[number])
		return NULL;
	o->known[number] = true;
	fd = object_open(o->ix->root, id, size, o->e);
	if (fd < 0)
		return "an object is lost";
	ssize_t n = pread(fd, octets, sizeof octets, 0);

	close(fd);
	EVP_Digest(octets, n > 0 ? (size_t)n : 0, sum, NULL, EVP_sha256(), NULL);
	return n == (ssize_t)size && memcmp(sum, id + 8, 8) == 0 ? NULL : "an object is not what was stored";
}

static const char *
check_record(struct objects *o, struct slice key, struct slice value)
{
	struct format_details d;
	struct format_expunged x;
	const char *why = NULL;
	struct cursor c;
	unsigned count;

	switch (key.p[0]) {
	case FORMAT_DETAILS:
		if (!format_details_get(key, value, &d))
			return "details that cannot be read";
		for (unsigned i = 0; i < d.n && why == NULL; i++)
			why = check_object(o, d.d[i].object_id, d.d[i].size);
		break;
	case FORMAT_EXPUNGED:
		if (!format_expunged_get(key, value, &x))
			return "expunged messages that cannot be read";
		for (unsigned i = 0; i < x.n && why == NULL; i++)
			why = check_object(o, x.m[i].detail.object_id, x.m[i].detail.size);
		break;
	case FORMAT_GARBAGE:
		if (!format_check(key, value, &count, &c))
			return "garbage that cannot be read";
		/* Its file may be there or not. */
		struct slice id = cursor_take(&c, STORE_OBJECT_ID_BYTES);

		if (!c.bad && object_number(id.p) < OBJECTS_MAX)
			o->known[object_number(id.p)] = true;
		break;
	default:
		break;
	}
	return why;
}

/* Is there a file that nothing knows? */
static const char *
check_leftovers(const struct objects *o)
{
	const char *why = NULL;

	for (unsigned shard = 0; shard < OBJECTS_MAX / OBJECT_SHARD_OBJECTS; shard++) {
		char path[2 * FILE_PATH_BYTES_MAX];
		DIR *dir;

		(void)snprintf(path, sizeof path, "%s/mail/%02x", o->ix->root, shard);
		dir = opendir(path);
		for (struct dirent *d; dir != NULL && (d = readdir(dir)) != NULL;) {
			char number[17] = "";

			if (d->d_name[0] == '.' && strcmp(d->d_name, ".new") != 0)
				continue;
			memcpy(number, d->d_name, strnlen(d->d_name, 16));
			unsigned long long n = strtoull(number, NULL, 16);

			if (strlen(d->d_name) != 32 || n >= OBJECTS_MAX || !o->known[n])
				why = "a file is left that nothing knows";
		}
		if (dir != NULL)
			closedir(dir);
	}
	return why;
}

static const char *
check_objects(struct index *ix, struct err *e)
{
	struct objects o = {.ix = ix, .e = e};
	const char *why = NULL;
	struct env_cursor c;
	int r = env_cursor_open(ix->env, &c, e) < 0 ? -1 : env_cursor_seek(&c, slice_of(NULL, 0), e);

	for (; r == 1 && why == NULL; r = env_cursor_next(&c, e))
		why = check_record(&o, c.key, c.value);
	env_cursor_close(&c);
	if (why == NULL && r < 0)
		why = "it cannot be read";
	return why != NULL ? why : check_leftovers(&o);
}

const char *
crash_steps_compare(struct index *ix, struct err *e)
{
	const struct state *known = state_of(index_serial(ix));
	const char *why = NULL;
	struct state now;

	err_clear(e);
	if (!take_state(ix, &now, e))
		why = "it cannot be read";
	else if (known->hash != now.hash)
		why = "it is not what it was after that transaction";
	else if (index_check(ix, e) < 0)
		why = "it contradicts itself";
	else
		why = check_objects(ix, e);
	if (crash_verbose && known->hash != now.hash) {
		fprintf(stderr, "serial %llu:\n", (unsigned long long)index_serial(ix));
		print_difference(now.text, known->text);
	}
	free(now.text);
	return why;
}

/* ---- making steps ---- */

static void
way_find(size_t in, uint64_t until)
{
	if (in > 0)
		way_find(branches[in].from_branch, until < branches[in].from ? until : branches[in].from);
	for (size_t i = 0; i < step_count; i++)
		if (steps[i].branch == in && steps[i].before < until)
			way[way_count++] = (struct way){i, until};
}

static void
enter(size_t in)
{
	branch = in;
	way = mem_resize(way, step_count + 1, sizeof *way);
	way_count = 0;
	way_find(in, UINT64_MAX);
}

static size_t
branch_add(size_t from_branch, uint64_t from)
{
	branches = mem_resize(branches, branch_count + 1, sizeof *branches);
	branches[branch_count] = (struct branch){.from_branch = from_branch, .from = from};
	return branch_count++;
}

static void
seed_dice(uint64_t seed)
{
	random_state = seed * 2654435761u + 88172645463325252u;
}

void
crash_steps_back(struct crash_steps_mark mark)
{
	for (; branch_count > mark.branches; branch_count--) {
		struct branch *b = &branches[branch_count - 1];

		for (size_t i = 0; i < b->cap; i++)
			free(b->states[i].text);
		free(b->states);
	}
	step_count = mark.steps;
	crash_requests_forget(sequence_of(step_count, 0));
	if (branch_count > 0)
		enter(0);
}

struct crash_steps_mark
crash_steps_mark(void)
{
	return (struct crash_steps_mark){branch_count, step_count};
}

void
crash_steps_begin(uint64_t seed)
{
	crash_steps_back((struct crash_steps_mark){0, 0});
	wrong = NULL;
	seed_dice(seed);
	long_every = seed % 3 == 0 ? 3 : 16;
	enter(branch_add(0, 0));
}

size_t
crash_steps_fork(uint64_t seed)
{
	seed_dice(seed);
	enter(branch_add(branch, index_serial(crash_keeper_index())));
	return branch;
}

size_t
crash_steps_enter(size_t in, uint64_t serial)
{
	size_t to = branch_of(in, serial);

	if (to != branch)
		enter(to);
	return to;
}

static uint32_t
any_mailbox(struct index *ix)
{
	/* INBOX is always there. */
	for (unsigned i = 0; i < 100; i++) {
		uint32_t number = dice(MAILBOX_NUMBERS) + 1;

		if (index_mailbox(ix, number) != NULL)
			return number;
	}
	return index_target(ix, STORE_TARGET_INBOX);
}

/* One that was deleted, or of which messages are retained, when there is one. */
static uint32_t
any_retained(struct index *ix)
{
	for (unsigned i = 0; i < 100; i++) {
		const struct index_mailbox *mb = index_mailbox_get(ix, dice(MAILBOX_NUMBERS) + 1);

		if (mb != NULL && (mb->m.gone_at != 0 || mb->m.retained > 0))
			return mb->m.number;
	}
	return index_target(ix, STORE_TARGET_INBOX);
}

static enum verb
any_verb(void)
{
	static const enum verb verbs[] = {APPENDS, APPENDS, APPENDS, APPENDS, APPENDS, APPENDS, FLAGS, FLAGS, COPY, COPY, MOVE,
	    EXPUNGE, EXPUNGE, EXPUNGE, UNDELETE, UNDELETE, UNDELETE_MAILBOX, FORGET, FORGET_MAILBOX, MAILBOX, MAILBOX,
	    OPEN, RECENT, SUMMARY, PURGE, PURGE, CHECKPOINT, BASE, BASE_STEP, BASE_STEP, REOPEN,
	    LIE};

	return verbs[dice(sizeof verbs / sizeof verbs[0])];
}

void
crash_steps_make(void)
{
	static const char *const names[] = {"a", "a/b", "c", "c/d/e", "Old", "INBOX"};
	static const unsigned mailbox_verbs[] = {
	    MBOX_CREATE, MBOX_CREATE, MBOX_DELETE, MBOX_RENAME, MBOX_SUBSCRIBE, MBOX_UNSUBSCRIBE};
	struct index *ix = crash_keeper_index();
	struct step s = {.verb = any_verb(), .role = ROLE_IMAP_WORKER};

	s.mailbox = any_mailbox(ix);
	s.other = any_mailbox(ix);
	s.first = dice(40) + 1;
	s.last = s.first + dice(s.verb == EXPUNGE ? 6 : 30);
	s.flags = dice(32);
	s.count = 1 + dice(BATCH_MAX);
	s.seed = random_state;
	s.flush = dice(3) != 0;
	s.mode = s.verb == MAILBOX ? mailbox_verbs[dice(6)] : 1 + dice(3);
	s.name = names[dice(dice(8) ? 5 : 6)];
	s.new_name = names[dice(6)];
	if (s.verb >= UNDELETE && s.verb <= FORGET_MAILBOX) {
		s.role = ROLE_ADMIN;
		s.mailbox = any_retained(ix);
		s.other = dice(2) ? any_retained(ix) : s.mailbox;
	}
	if (s.verb == APPENDS && dice(2))
		s.role = ROLE_DELIVER;
	s.leaves = s.verb == APPENDS && s.role == ROLE_DELIVER && dice(4) == 0;
	if (s.verb == EXPUNGE && dice(4) == 0) {
		s.role = ROLE_POP3_WORKER;
		s.mailbox = index_target(ix, STORE_TARGET_INBOX);
	}
	s.before = index_serial(ix);
	s.branch = branch;
	s.object = index_object_next(ix);
	/* As if messages with the numbers between had come and gone. So more of the history is about new directories. */
	if (s.verb == APPENDS && dice(4) == 0 && s.object < OBJECTS_MAX - 1024)
		s.object += dice(OBJECT_SHARD_OBJECTS - BATCH_MAX);
	if (step_count == step_cap) {
		step_cap = step_cap ? step_cap * 2 : 256;
		steps = mem_resize(steps, step_cap, sizeof *steps);
	}
	steps[step_count++] = s;
	enter(branch);
}

size_t
crash_steps_count(void)
{
	return way_count;
}

size_t
crash_steps_after(uint64_t serial)
{
	size_t i = 0;

	while (i + 1 < way_count && steps[way[i + 1].step].before <= serial)
		i++;
	return i;
}

bool
crash_steps_can_make(void)
{
	return branch + 1 == branch_count;
}

/* ---- doing them ---- */

static const uint8_t origins[4][STORE_ORIGIN_BYTES] = {
    "deliver's origin", "a worker's origi", "POP3's origin...", "the command's..."};

static struct slice
origin_of(enum role role)
{
	unsigned i = role == ROLE_DELIVER ? 0 : role == ROLE_IMAP_WORKER ? 1 : role == ROLE_POP3_WORKER ? 2 : 3;

	return slice_of(origins[i], STORE_ORIGIN_BYTES);
}

static void
skip_objects(struct index *ix, uint64_t object)
{
	struct err e;

	if (index_object_next(ix) >= object)
		return;
	/* What was pending in the directory and in the log became durable long before it was full. */
	crash_keeper_flush();
	if (object_sync_shard(ix->root, object_shard(index_object_next(ix)), &e) < 0)
		return;
	while (index_object_next(ix) < object)
		(void)index_object_reserve(ix);
}

static void
do_append(const struct step *s, uint64_t sequence, unsigned i)
{
	enum role role = s->leaves && i % 2 ? ROLE_IMAP_WORKER : s->role;
	uint8_t text[TEXT_BYTES_MAX], sha256[EVP_MAX_MD_SIZE];
	static uint8_t summary[LONG_SUMMARY_BYTES];
	size_t n = 20 + (s->seed >> i) % 400;
	struct err e;

	memset(text, 'a' + (int)(sequence % 26), n);
	(void)snprintf((char *)text, n, "%llu", (unsigned long long)sequence);
	memset(summary, 's', sizeof summary);
	/* Long ones, so that the log goes through several files. */
	struct slice about = slice_of(summary, (s->seed >> 40) % long_every == i ? sizeof summary : 100);
	struct msg m = {.type = MSG_MSG_APPEND, .u.MSG_APPEND = {.id = sequence, .sequence = sequence, .mailbox = s->mailbox,
	    .flags = s->flags & ~STORE_FLAG_DELETED, .keywords = s->flags & 1 ? SLICE("x\n") : SLICE(""), .internal_date = 1234567890,
	    .zone_minutes = 60, .bytes = n}};

	EVP_Digest(text, n, sha256, NULL, EVP_sha256(), NULL);
	/* Not the message that was judged: to be refused. */
	if (s->verb == LIE)
		sha256[0] ^= 1;
	m.u.MSG_APPEND.origin = origin_of(role);
	m.u.MSG_APPEND.sha256 = slice_of(sha256, STORE_SHA256_BYTES);
	int message = memfd_of(slice_of(text, n), &e), summary_fd = memfd_of(about, &e);

	assert(message >= 0 && summary_fd >= 0);
	m.u.MSG_APPEND.message = message;
	m.u.MSG_APPEND.summary = summary_fd;
	crash_keeper_ask(role, &m);
	close(message);
	close(summary_fd);
}

static void
do_appends(const struct step *s, size_t step)
{
	struct index *ix = crash_keeper_index();
	bool again = index_serial(ix) > s->before;

	for (unsigned i = 0; i < s->count; i++) {
		/* When a part of them is stored already, the others get the numbers that they got before. */
		if (s->leaves && again && i % 2)
			continue;
		while (s->leaves && index_object_next(ix) < s->object + i)
			(void)index_object_reserve(ix);
		do_append(s, sequence_of(step, i), i);
	}
}

/* A request that is no append, with its sequence. */
static void
do_request(const struct step *s, uint64_t sequence)
{
	struct uid_range range = {s->first, s->last};
	struct uidset set = {.ranges = &range, .n = 1, .cap = 1};
	struct slice origin = origin_of(s->role);
	struct buf uids;
	struct msg m = {.type = MSG_NONE};

	buf_init(&uids, 64);
	uidset_put(&uids, &set);
	switch (s->verb) {
	case FLAGS:
		m = (struct msg){.type = MSG_MSG_FLAGS, .u.MSG_FLAGS = {.id = sequence, .origin = origin, .sequence = sequence,
		    .mailbox = s->mailbox, .mode = (uint8_t)s->mode, .flags = s->flags, .unchangedsince = UINT64_MAX,
		    .keywords = s->seed & 1 ? SLICE("x\ny\n") : SLICE(""), .uids = buf_slice(&uids), .uids_fd = -1}};
		break;
	case COPY:
	case MOVE:
		m = (struct msg){.type = MSG_MSG_COPY, .u.MSG_COPY = {.id = sequence, .origin = origin, .sequence = sequence,
		    .mailbox = s->mailbox, .target_mailbox = s->other, .move = s->verb == MOVE, .uids = buf_slice(&uids),
		    .uids_fd = -1}};
		break;
	case EXPUNGE:
		m = (struct msg){.type = MSG_MSG_EXPUNGE, .u.MSG_EXPUNGE = {.id = sequence, .origin = origin,
		    .sequence = sequence, .mailbox = s->mailbox, .only_deleted = s->seed % 4 == 0, .uids = buf_slice(&uids),
		    .uids_fd = -1}};
		break;
	default:
		m = (struct msg){.type = MSG_MBOX_CHANGE, .u.MBOX_CHANGE = {.id = sequence, .origin = origin,
		    .sequence = sequence, .verb = (uint8_t)s->mode, .name = slice_str(s->name),
		    .new_name = slice_str(s->mode == MBOX_RENAME ? s->new_name : "")}};
	}
	crash_keeper_ask(s->role, &m);
	buf_fini(&uids);
}

/* Messages of one mailbox and the first one of another, in a file as the command sends them. */
static int
ids_file(const struct step *s)
{
	struct buf b;
	struct err e;
	int fd;

	buf_init(&b, 64 * STORE_RETAINED_ID_BYTES);
	for (uint32_t uid = s->first; uid <= s->last; uid++) {
		put_u32(&b, s->mailbox);
		put_u32(&b, uid);
	}
	put_u32(&b, s->other);
	put_u32(&b, 1);
	fd = memfd_of(buf_slice(&b), &e);
	assert(fd >= 0);
	buf_fini(&b);
	return fd;
}

/* What the command asks of what was expunged or deleted. */
static void
do_retained(const struct step *s, uint64_t sequence)
{
	struct slice origin = origin_of(s->role);
	int fd = ids_file(s);
	struct msg m = {.type = MSG_NONE};

	switch (s->verb) {
	case UNDELETE:
		m = (struct msg){.type = MSG_UNDELETE_MESSAGES,
		    .u.UNDELETE_MESSAGES = {.id = sequence, .origin = origin, .sequence = sequence, .ids = fd}};
		break;
	case UNDELETE_MAILBOX:
		m = (struct msg){.type = MSG_UNDELETE_MAILBOX, .u.UNDELETE_MAILBOX = {.id = sequence, .origin = origin,
		    .sequence = sequence, .mailbox = s->mailbox, .name = slice_str(s->seed & 1 ? s->name : "")}};
		break;
	default:
		m = (struct msg){.type = MSG_RETAINED_FORGET, .u.RETAINED_FORGET = {.id = sequence, .origin = origin,
		    .sequence = sequence, .mailbox = s->mailbox, .ids = s->verb == FORGET ? fd : -1}};
	}
	crash_keeper_ask(s->role, &m);
	close(fd);
}

static void
ask(const struct step *s, uint64_t sequence)
{
	if (s->verb >= UNDELETE && s->verb <= FORGET_MAILBOX)
		do_retained(s, sequence);
	else
		do_request(s, sequence);
}

/* Requests without an answer to remember. */
static void
do_small(const struct step *s)
{
	struct msg m = {.type = MSG_MBOX_OPEN, .u.MBOX_OPEN = {.id = 0, .mailbox = s->mailbox, .claim_recent = s->seed & 1}};

	if (s->verb == RECENT)
		m = (struct msg){.type = MSG_MBOX_RECENT, .u.MBOX_RECENT = {.mailbox = s->mailbox, .uid = s->first}};
	crash_keeper_ask(s->role, &m);
}

/* A summary comes back for the first message of the range. */
static void
do_summary(const struct step *s)
{
	struct uid_range range = {s->first, s->last};
	struct uidset set = {.ranges = &range, .n = 1, .cap = 1};
	struct message_list l = {0};
	uint8_t summary[100], sha256[STORE_SHA256_BYTES] = {0};
	struct err e;

	if (messages_collect(crash_keeper_index(), s->mailbox, &set, &l, &e) == 0 && l.n > 0) {
		memset(summary, 's', sizeof summary);
		memcpy(sha256, l.m[0].detail.object_id + 8, 8);
		int fd = memfd_of(slice_of(summary, sizeof summary), &e);
		struct msg m = {.type = MSG_MSG_SUMMARY, .u.MSG_SUMMARY = {.mailbox = s->mailbox, .uid = l.m[0].entry.uid,
		    .sha256 = slice_of(sha256, sizeof sha256), .summary = fd}};

		assert(fd >= 0);
		crash_keeper_ask(s->role, &m);
		close(fd);
	}
	message_list_fini(&l);
}

/* Housekeeping that makes Berkeley DB write pages, and base copies. What of it fails is seen in the keeper. */
static void
do_upkeep(const struct step *s)
{
	struct index *ix = crash_keeper_index();
	struct err e;

	if (s->flush)
		crash_keeper_flush();
	if (crash_keeper_broken())
		return;
	if (s->verb == CHECKPOINT) {
		if (env_checkpoint(ix->env, &e) < 0)
			ix->broken = true;
	} else if (s->verb == BASE) {
		if (index_upkeep_now(ix, &e) < 0)
			ix->broken = true;
	} else if (ix->base_writer == NULL) {
		/* A base copy that goes on while requests are done. */
		if (base_begin(ix->env, ix->dir, index_serial(ix), CRASH_NOW, &ix->base_writer, &e) < 0)
			ix->broken = true;
	} else {
		int r = base_step(&ix->base_writer, 1, &ix->base, &e);

		if (r < 0 || (r == 0 && env_log_trim(ix->env, ix->base.log.file, &e) < 0))
			ix->broken = true;
	}
}

bool
crash_steps_do(size_t at, const char *root, struct err *e)
{
	size_t step = way[at].step;
	const struct step *s = &steps[step];

	if (crash_verbose)
		fprintf(stderr, "step %zu verb %d flush %d serial %llu\n", step, s->verb, s->flush,
		    (unsigned long long)index_serial(crash_keeper_index()));
	crash_keeper_time(CRASH_NOW + step);
	switch (s->verb) {
	case APPENDS:
		skip_objects(crash_keeper_index(), s->object);
		do_appends(s, step);
		if (s->leaves)
			crash_keeper_leave(ROLE_IMAP_WORKER);
		crash_keeper_settle();
		break;
	case OPEN:
	case RECENT:
		do_small(s);
		break;
	case SUMMARY:
		do_summary(s);
		break;
	case PURGE:
		crash_keeper_purge();
		break;
	case CHECKPOINT:
	case BASE:
	case BASE_STEP:
		do_upkeep(s);
		break;
	case LIE:
		do_append(s, sequence_of(step, 0), 0);
		/* The number that it took is given away again by the next keeper. */
		/* fall through */
	case REOPEN:
		crash_keeper_close(true);
		return crash_keeper_open(root, CRASH_NOW + step, crash_steps_events, e) == 0;
	default:
		ask(s, sequence_of(step, 0));
	}
	if (s->flush)
		crash_keeper_flush();
	return true;
}

const char *
crash_steps_ask_again(unsigned count, uint64_t seed)
{
	uint64_t serial = index_serial(crash_keeper_index());
	size_t at = crash_steps_after(serial);

	for (unsigned i = 0; i < count; i++) {
		size_t back = (size_t)(seed >> (8 * i) & 0xff) % (i % 2 ? 60 : 4);

		if (way_count == 0)
			break;
		const struct way *w = &way[at > back ? at - back : 0];
		size_t step = w->step;
		const struct step *s = &steps[step];

		if (s->verb > MAILBOX)
			continue;
		unsigned part = s->verb == APPENDS ? (unsigned)(seed >> 50) % s->count : 0;
		struct crash_request *r = crash_request(sequence_of(step, part));
		unsigned before = r->answers;

		if (r->serial == 0 || r->serial > serial || r->serial > w->until)
			continue;
		if (s->verb == APPENDS)
			do_append(s, sequence_of(step, part), part);
		else
			ask(s, sequence_of(step, part));
		crash_keeper_flush();
		if (crash_keeper_broken())
			return NULL;
		if (index_serial(crash_keeper_index()) != serial)
			return "a request that was asked again was done again";
		if (r->answers != before + 1)
			return "a request that was asked again was not answered";
		if (r->contradicts)
			return "a request that was asked again was answered otherwise";
	}
	return NULL;
}
