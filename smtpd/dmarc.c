/*
 * The order of questions keeps them few:
 *
 * 1. _dmarc of the author's domain, then, when there is no record or alignment needs it, the rest of the
 *    tree walk (RFC 9989 4.10), which gives the record to be used and the organisational domain O.
 * 2. The author's domain itself, when the policy depends on whether it exists (np).
 * 3. For relaxed alignment, the walk of each identifier. An identifier's organisational domain is itself or above it, so
 *    only one at or below O can have O: the others are not aligned without a single question, and whoever adds
 *    signatures of far-away domains cannot make us walk their trees.
 *
 * Walks share their names through `seen`, so each name is asked once.
 */
#include "smtpd/dmarc.h"

#include "common/dns_name.h"
#include "common/mem.h"

#include <assert.h>

#define ARENA_BYTES_MAX (512 * 1024) /* the records of all names that may be asked fit */
#define SEEN_MAX (DMARC_WALK_QUERIES_MAX * (DMARC_IDENTIFIERS_MAX + 1))

/* One name that was asked for its record. */
struct seen {
	struct slice name;
	struct slice text; /* empty: no record */
	struct dmarc_record record;
	bool temporary; /* it could not be asked */
};

struct walk {
	struct slice start;
	struct slice at; /* name to be asked next; empty: the walk is over */
	const struct seen *found[DMARC_WALK_QUERIES_MAX]; /* records, from the longest name to the shortest */
	unsigned count;
	bool temporary;
};

enum step { STEP_AUTHOR, STEP_EXISTS, STEP_IDENTIFIER };

struct dmarc_check {
	const struct dns_asker *dns;
	dmarc_done_fn *done;
	void *arg;
	struct arena *arena;
	struct dmarc_identifier ids[DMARC_IDENTIFIERS_MAX];
	bool aligned[DMARC_IDENTIFIERS_MAX];
	unsigned id_count;
	unsigned id_next;
	bool undecided;
	bool author_valid;
	struct dmarc_outcome outcome;
	struct seen seen[SEEN_MAX];
	unsigned seen_count;
	struct walk walk;
	const struct seen *own;	 /* the author domain's own record */
	const struct seen *used; /* the record to be applied */
	struct dmarc_record record;
	enum step step;
	bool waiting;
	bool ended;
	uint64_t ticket;
};

static struct slice
keep(struct dmarc_check *c, struct slice s)
{
	struct slice copy;

	return arena_copy(c->arena, s, &copy) ? copy : slice_of(NULL, 0);
}

/* A name in A-labels; empty when it is none. */
static struct slice
keep_name(struct dmarc_check *c, struct slice name)
{
	struct buf b;
	struct slice kept = {NULL, 0};

	buf_init(&b, DNS_NAME_BYTES_MAX);
	if (dns_name_to_ascii(name, &b))
		kept = keep(c, buf_slice(&b));
	buf_fini(&b);
	return kept;
}

static struct slice
keep_printable(struct dmarc_check *c, struct slice s)
{
	struct slice from = slice_sub(s, 0, DMARC_RECORD_BYTES_MAX);
	uint8_t *to = arena_alloc(c->arena, from.n ? from.n : 1);

	if (to == NULL)
		return slice_of(NULL, 0);
	for (size_t i = 0; i < from.n; i++)
		to[i] = from.p[i] >= 0x20 && from.p[i] < 0x7f ? from.p[i] : '?';
	return slice_of(to, from.n);
}

/* ---- the end ---- */

static void
finish(struct dmarc_check *c, enum dmarc_result result, const char *reason)
{
	assert(!c->ended && !c->waiting);
	c->ended = true;
	c->outcome.result = result;
	c->outcome.reason = slice_str(reason);
	c->done(c->arg, &c->outcome);
}

static void
decide(struct dmarc_check *c)
{
	for (unsigned i = 0; i < c->id_count; i++) {
		if (!c->aligned[i])
			continue;
		if (c->ids[i].uncertain)
			c->undecided = true;
		else if (c->ids[i].is_dkim)
			c->outcome.dkim_aligned++;
		else
			c->outcome.spf_aligned = true;
	}
	if (c->outcome.dkim_aligned > 0 || c->outcome.spf_aligned)
		finish(c, DMARC_RESULT_PASS, "");
	else if (c->undecided)
		finish(c, DMARC_RESULT_TEMPERROR, "a check ended in a temporary error");
	else
		finish(c, DMARC_RESULT_FAIL, c->id_count > 0 ? "no identifier is aligned" : "no identifier is authenticated");
}

/* ---- names and look-ups ---- */

/* The name without its first label; empty when it had one. */
static struct slice
parent_of(struct slice name)
{
	size_t dot = slice_index(name, '.');

	return slice_sub(name, dot + 1, name.n);
}

/* The next name of a walk (4.10 steps 4 and 7). */
static struct slice
next_target(struct slice name)
{
	unsigned labels = dns_name_labels(name);

	name = parent_of(name);
	while (labels-- > DMARC_LABELS_MAX)
		name = parent_of(name);
	return name;
}

static const struct seen *
find_seen(const struct dmarc_check *c, struct slice name)
{
	for (unsigned i = 0; i < c->seen_count; i++)
		if (slice_eq(c->seen[i].name, name))
			return &c->seen[i];
	return NULL;
}

/* What the TXT answer for _dmarc.name says: one record, or none (4.10 step 2). */
static void
read_records(struct dmarc_check *c, struct seen *s, const struct dns_answer *answer)
{
	struct dmarc_record record;
	unsigned n = 0;

	if (answer->status == DNS_TEMP || answer->status == DNS_BOGUS) {
		s->temporary = true;
		return;
	}
	for (unsigned i = 0; answer->status == DNS_OK && i < answer->count; i++) {
		struct slice text = answer->records[i].data;

		if (!dmarc_record_parse(text, &record) || n++ > 0)
			continue;
		record.rua = record.ruf = slice_of(NULL, 0);
		s->record = record;
		s->text = keep(c, slice_sub(text, 0, DMARC_RECORD_BYTES_MAX));
	}
	if (n != 1)
		s->text = slice_of(NULL, 0);
}

static struct seen *
new_seen(struct dmarc_check *c, struct slice name)
{
	assert(c->seen_count < SEEN_MAX);
	c->seen[c->seen_count] = (struct seen){.name = name};
	return &c->seen[c->seen_count++];
}

static void pump(struct dmarc_check *c);

static void
on_record(void *arg, const struct dns_answer *answer)
{
	struct dmarc_check *c = arg;

	assert(c->waiting && !c->ended);
	c->waiting = false;
	read_records(c, &c->seen[c->seen_count - 1], answer);
	pump(c);
}

/* Asks for the record of name; what comes of it stands in `seen`. */
static void
ask_record(struct dmarc_check *c, struct slice name)
{
	struct seen *s = new_seen(c, name);
	struct buf b;

	buf_init(&b, DNS_NAME_BYTES_MAX);
	/* A name too long for the label in front has no record. */
	if (buf_put_str(&b, "_dmarc.") && buf_put_slice(&b, name)) {
		c->outcome.queries++;
		c->waiting = c->dns->ask(c->dns->ctx, buf_slice(&b), DNS_TXT, on_record, c, &c->ticket);
		s->temporary = !c->waiting;
	}
	buf_fini(&b);
}

/* ---- the tree walk ---- */

static void
walk_begin(struct walk *w, struct slice start)
{
	*w = (struct walk){.start = start, .at = start};
}

/* Goes on as far as what is known allows. True when the walk is over. */
static bool
walk_step(struct dmarc_check *c)
{
	struct walk *w = &c->walk;

	while (w->at.n > 0) {
		const struct seen *s = find_seen(c, w->at);

		if (s == NULL) {
			ask_record(c, w->at);
			return false;
		}
		if (s->temporary) {
			w->temporary = true;
			w->at = slice_of(NULL, 0);
			return true;
		}
		w->at = next_target(w->at);
		if (s->text.n == 0)
			continue;
		assert(w->count < DMARC_WALK_QUERIES_MAX);
		w->found[w->count++] = s;
		if (s->record.psd != DMARC_PSD_U)
			w->at = slice_of(NULL, 0);
	}
	return true;
}

/* The last n labels of name. */
static struct slice
last_labels(struct slice name, unsigned n)
{
	for (unsigned have = dns_name_labels(name); have > n; have--)
		name = parent_of(name);
	return name;
}

/* The organisational domain that a finished walk shows (4.10.2). */
static struct slice
walk_org(const struct walk *w)
{
	for (unsigned i = 0; i < w->count; i++) {
		struct slice name = w->found[i]->name;

		if (w->found[i]->record.psd == DMARC_PSD_N)
			return name;
		if (w->found[i]->record.psd == DMARC_PSD_Y && !slice_eq(name, w->start))
			return last_labels(w->start, dns_name_labels(name) + 1);
	}
	return w->count > 0 ? w->found[w->count - 1]->name : w->start;
}

/* ---- the policy ---- */

/* The record for the author's domain: its own, its organisational domain's, its public suffix's (4.10.1). */
static const struct seen *
pick_record(const struct dmarc_check *c)
{
	const struct walk *w = &c->walk;

	if (c->own != NULL)
		return c->own;
	for (unsigned i = 0; i < w->count; i++)
		if (slice_eq(w->found[i]->name, c->outcome.org))
			return w->found[i];
	for (unsigned i = 0; i < w->count; i++)
		if (w->found[i]->record.psd == DMARC_PSD_Y)
			return w->found[i];
	return NULL;
}

static void
set_policy(struct dmarc_check *c, bool author_exists)
{
	const struct dmarc_record *r = &c->record;
	enum dmarc_policy policy = r->p;

	if (c->own == NULL && r->has_sp)
		policy = r->sp;
	if (c->own == NULL && !author_exists && r->has_np)
		policy = r->np;
	if (r->bad_policy)
		policy = DMARC_POLICY_NONE;
	c->outcome.published = policy;
	c->outcome.testing = r->testing;
	/* t=y: one level below (4.7). */
	if (r->testing && policy != DMARC_POLICY_NONE)
		policy--;
	c->outcome.policy = policy;
}

/* ---- alignment ---- */

static bool
is_strict(const struct dmarc_check *c, unsigned i)
{
	return c->ids[i].is_dkim ? c->record.strict_dkim : c->record.strict_spf;
}

/* True when some identifier's alignment depends on the author's organisational domain. */
static bool
org_needed(const struct dmarc_check *c)
{
	for (unsigned i = 0; i < c->id_count; i++)
		if (!is_strict(c, i) && !slice_eq(c->ids[i].domain, c->outcome.author))
			return true;
	return false;
}

/* Identifiers one after the other, from id_next on; returns to wait for a walk. */
static void
align_identifiers(struct dmarc_check *c)
{
	for (; c->id_next < c->id_count; c->id_next++) {
		struct slice id = c->ids[c->id_next].domain;
		bool *aligned = &c->aligned[c->id_next];

		if (slice_eq(id, c->outcome.author)) {
			*aligned = true;
			continue;
		}
		if (is_strict(c, c->id_next) || !dns_name_within(id, c->outcome.org))
			continue;
		if (slice_eq(id, c->outcome.org)) {
			*aligned = true;
			continue;
		}
		if (!slice_eq(c->walk.start, id))
			walk_begin(&c->walk, id);
		if (!walk_step(c))
			return;
		c->undecided |= c->walk.temporary;
		*aligned = !c->walk.temporary && slice_eq(walk_org(&c->walk), c->outcome.org);
	}
	decide(c);
}

/* ---- steps ---- */

static void
on_exists(void *arg, const struct dns_answer *answer)
{
	struct dmarc_check *c = arg;

	assert(c->waiting && !c->ended);
	c->waiting = false;
	if (answer->status == DNS_TEMP || answer->status == DNS_BOGUS) {
		finish(c, DMARC_RESULT_TEMPERROR, "existence of the domain is not known");
		return;
	}
	set_policy(c, answer->status != DNS_NXDOMAIN);
	c->step = STEP_IDENTIFIER;
	pump(c);
}

static void
ask_exists(struct dmarc_check *c)
{
	c->step = STEP_EXISTS;
	c->outcome.queries++;
	c->waiting = c->dns->ask(c->dns->ctx, c->outcome.author, DNS_A, on_exists, c, &c->ticket);
	if (!c->waiting)
		finish(c, DMARC_RESULT_TEMPERROR, "existence of the domain is not known");
}

/* The record is known: what it wants. */
static void
apply_record(struct dmarc_check *c)
{
	c->used = pick_record(c);
	if (c->used == NULL) {
		finish(c, DMARC_RESULT_NONE, "no record");
		return;
	}
	c->record = c->used->record;
	c->outcome.policy_domain = c->used->name;
	c->outcome.record = keep_printable(c, c->used->text);
	if (c->record.bad_policy && !c->record.p_missing && !c->record.rua_usable) {
		finish(c, DMARC_RESULT_PERMERROR, "record has no valid policy");
		return;
	}
	if (c->own == NULL && c->record.has_np && !c->record.bad_policy) {
		ask_exists(c);
		return;
	}
	set_policy(c, true);
	c->step = STEP_IDENTIFIER;
}

/* The author's own record, then the walk as far as it is needed. */
static void
step_author(struct dmarc_check *c)
{
	const struct seen *own = find_seen(c, c->outcome.author);

	if (own == NULL) {
		ask_record(c, c->outcome.author);
		return;
	}
	if (own->text.n > 0) {
		c->own = own;
		c->record = own->record;
	}
	if (c->own == NULL || org_needed(c)) {
		if (!walk_step(c))
			return;
		if (c->walk.temporary && c->own == NULL) {
			finish(c, DMARC_RESULT_TEMPERROR, "record could not be looked up");
			return;
		}
		/* Without it only an identifier that is the author's domain itself is sure. */
		if (c->walk.temporary)
			c->undecided = true;
		else
			c->outcome.org = walk_org(&c->walk);
	}
	apply_record(c);
}

static void
pump(struct dmarc_check *c)
{
	while (!c->ended && !c->waiting) {
		if (c->step == STEP_AUTHOR)
			step_author(c);
		else if (c->step == STEP_IDENTIFIER)
			align_identifiers(c);
		else
			break;
	}
}

/* ---- life ---- */

struct dmarc_check *
dmarc_check_new(const struct dns_asker *dns, const struct dmarc_query *q, dmarc_done_fn *done, void *arg)
{
	struct dmarc_check *c = MEM_NEW(struct dmarc_check);

	c->dns = dns;
	c->done = done;
	c->arg = arg;
	c->arena = arena_new(ARENA_BYTES_MAX);
	c->outcome.author = keep_name(c, q->author);
	c->author_valid = c->outcome.author.n > 0;
	if (!c->author_valid)
		c->outcome.author = keep_printable(c, slice_sub(q->author, 0, DNS_NAME_BYTES_MAX));
	for (unsigned i = 0; i < q->count && c->id_count < DMARC_IDENTIFIERS_MAX; i++) {
		struct slice domain = keep_name(c, q->identifiers[i].domain);

		if (domain.n == 0)
			continue;
		c->ids[c->id_count] = q->identifiers[i];
		c->ids[c->id_count++].domain = domain;
	}
	return c;
}

void
dmarc_check_start(struct dmarc_check *c)
{
	if (!c->author_valid) {
		finish(c, DMARC_RESULT_PERMERROR, "author has no domain name");
		return;
	}
	walk_begin(&c->walk, c->outcome.author);
	pump(c);
}

void
dmarc_check_expire(struct dmarc_check *c)
{
	if (c->ended)
		return;
	if (c->waiting)
		c->dns->cancel(c->dns->ctx, c->ticket);
	c->waiting = false;
	finish(c, DMARC_RESULT_TEMPERROR, "time was up");
}

void
dmarc_check_free(struct dmarc_check **c)
{
	if (*c == NULL)
		return;
	if ((*c)->waiting)
		(*c)->dns->cancel((*c)->dns->ctx, (*c)->ticket);
	arena_free(&(*c)->arena);
	free(*c);
	*c = NULL;
}
