/*
 * The header is read whole when it is there: the sets are collected, and what is wrong with their form ends the chain
 * before anything is asked. Then the newest message signature is verified; only when it holds are the other keys
 * asked for, all at once, so that a made-up chain of fifty costs one question. The body is hashed meanwhile, in the
 * forms that are asked for, at most two.
 *
 * Bounds: fields and octets of the header as for DKIM, ARC_BYTES_MAX of ARC fields (the seals hash them again for each set),
 * DKIM_SIGNED_NAMES_MAX names in an h=, ARC_SETS_MAX sets, so at most 100 keys, each asked for once.
 *
 * Hashes of what only the message has, its body and its signed fields, are kept when they are made. Judged again, the same code takes
 * them from there; seals sign ARC fields alone, which are kept themselves.
 */
#include "smtpd/arc_check.h"

#include "common/buf.h"
#include "common/dns_name.h"
#include "common/mem.h"
#include "common/rfc5322.h"
#include "smtpd/dkim_canon.h"
#include "smtpd/dkim_key.h"

#include <assert.h>
#include <stdlib.h>

#define ARENA_BYTES_MAX (512 * 1024)
#define KEYS_MAX (2 * ARC_SETS_MAX)

enum kind { KIND_RESULTS, KIND_MESSAGE, KIND_SEAL, KIND_COUNT };

struct field {
	struct slice name;
	struct slice raw;
	unsigned taken; /* by which signature it was selected last */
};

/* One key, for all signatures that name it. */
struct key {
	struct arc_check *check;
	struct slice selector, domain;
	bool waiting;
	bool temporary; /* it could not be looked up */
	uint64_t ticket;
	struct slice text; /* empty: there is none */
	const char *why;
};

struct signature {
	struct arc_fields fields;
	const char *wrong; /* with its form; only of older message signatures, else the chain has failed */
	struct key *key;
};

struct set {
	struct slice raw[KIND_COUNT];
	struct slice results; /* the value behind i=N; */
	struct signature message, seal;
};

struct arc_check {
	const struct dns_asker *dns;
	uint64_t now;
	arc_done_fn *done;
	void *arg;
	struct arena *arena;
	struct slice author;
	struct field *fields;
	size_t field_count;
	struct set *sets; /* by instance - 1; NULL like fields while there is no ARC field */
	unsigned count;
	size_t arc_bytes;
	unsigned selections;
	struct key keys[KEYS_MAX];
	unsigned key_count;
	struct dkim_body body[2]; /* simple, relaxed */
	struct arc_evidence evidence;
	struct buf evidence_fields;
	const struct arc_evidence *again; /* NULL: the message is there */
	enum arc_result result;
	const char *why; /* the chain's end is known */
	bool rest_asked;
	bool ended, finished;
	struct arc_outcome outcome;
};

const char *
arc_result_name(enum arc_result r)
{
	static const char *const names[ARC_RESULT_COUNT] = {"none", "pass", "fail", "temperror"};

	assert(r < ARC_RESULT_COUNT);
	return names[r];
}

static void
fail(struct arc_check *c, enum arc_result result, const char *why)
{
	if (c->why != NULL)
		return;
	c->result = result;
	c->why = why;
}

/* ---- hashes ---- */

static void
hash_feed(EVP_MD_CTX *h, struct buf *b)
{
	int ok = EVP_DigestUpdate(h, b->p, b->n);

	assert(ok == 1 && !b->failed);
	buf_reset(b);
}

static void
hash_field(EVP_MD_CTX *h, struct slice raw, bool relaxed, bool own)
{
	struct buf b;

	buf_init(&b, raw.n + 16);
	if (own)
		dkim_canon_own_field(raw, relaxed, &b);
	else
		dkim_canon_field(raw, relaxed, &b);
	hash_feed(h, &b);
	buf_fini(&b);
}

static EVP_MD_CTX *
hash_new(void)
{
	EVP_MD_CTX *h = EVP_MD_CTX_new();
	int ok = h != NULL && EVP_DigestInit_ex(h, EVP_sha256(), NULL) == 1;

	assert(ok);
	return h;
}

static void
hash_end(EVP_MD_CTX *h, uint8_t hash_r[32])
{
	unsigned n = 0;
	int ok = EVP_DigestFinal_ex(h, hash_r, &n);

	assert(ok == 1 && n == 32);
	EVP_MD_CTX_free(h);
}

/* The lowest field of that name that this selection has not taken (RFC 6376 5.4.2), or NULL. */
static struct field *
select_field(struct arc_check *c, struct slice name, unsigned selection)
{
	for (size_t i = c->field_count; i-- > 0;) {
		struct field *f = &c->fields[i];

		if (f->taken != selection && slice_eq_nocase(f->name, name)) {
			f->taken = selection;
			return f;
		}
	}
	return NULL;
}

static void
hash_message_fields(struct arc_check *c, const struct set *s, uint8_t hash_r[32])
{
	const struct arc_fields *f = &s->message.fields;
	struct slice names = f->h, name;
	unsigned selection = ++c->selections;
	EVP_MD_CTX *h = hash_new();

	while (slice_cut(&names, ':', &name)) {
		struct field *found = select_field(c, slice_trim(name), selection);

		if (found != NULL)
			hash_field(h, found->raw, f->header_relaxed, false);
	}
	hash_field(h, s->raw[KIND_MESSAGE], f->header_relaxed, true);
	hash_end(h, hash_r);
}

/* False: judged again, and it was not kept. */
static bool
hash_message(struct arc_check *c, const struct set *s)
{
	size_t i = (size_t)(s - c->sets);

	if (c->again == NULL) {
		hash_message_fields(c, s, c->evidence.message[i]);
		c->evidence.has_message[i] = true;
	}
	return c->evidence.has_message[i];
}

/* All sets up to this one, in the order of RFC 8617 5.1.1, always relaxed. */
static void
hash_seal(struct arc_check *c, const struct set *s, uint8_t hash_r[32])
{
	EVP_MD_CTX *h = hash_new();

	for (const struct set *at = c->sets; at <= s; at++)
		for (unsigned k = 0; k < KIND_COUNT; k++)
			hash_field(h, at->raw[k], true, at == s && k == KIND_SEAL);
	hash_end(h, hash_r);
}

/* ---- verifying ---- */

/* NULL: the signature of that hash holds. */
static const char *
verify(struct signature *s, const uint8_t hash[32])
{
	struct dkim_key key;
	enum dkim_result result;
	struct buf record;
	const char *why;

	if (s->wrong != NULL)
		return s->wrong;
	if (s->key->text.n == 0)
		return s->key->why;
	buf_init(&record, DKIM_KEY_BYTES_MAX);
	why = dkim_key_read(s->key->text, s->fields.a, &key, &record, &result);
	if (why == NULL && !dkim_key_verifies(buf_slice(&record), hash, s->fields.b))
		why = "signature does not match";
	buf_fini(&record);
	return why;
}

static const char *
verify_message(struct arc_check *c, struct set *s)
{
	if (s->message.wrong != NULL)
		return s->message.wrong;
	return hash_message(c, s) ? verify(&s->message, c->evidence.message[s - c->sets]) : ARC_NOT_KEPT;
}

/* Once the body is complete. */
static bool
body_matches(const struct arc_check *c, const struct set *s)
{
	bool relaxed = s->message.fields.body_relaxed;

	return c->evidence.has_body[relaxed] && dkim_base64_is(s->message.fields.bh, c->evidence.body[relaxed], 32);
}

static void
verify_newest(struct arc_check *c)
{
	struct set *newest = &c->sets[c->count - 1];
	const char *why = verify_message(c, newest);

	if (why != NULL)
		fail(c, newest->message.key->temporary ? ARC_RESULT_TEMPERROR : ARC_RESULT_FAIL, why);
}

static void
verify_seals(struct arc_check *c)
{
	uint8_t hash[32];

	for (unsigned i = c->count; i-- > 0 && c->why == NULL;) {
		struct set *s = &c->sets[i];
		const char *why;

		hash_seal(c, s, hash);
		why = verify(&s->seal, hash);
		if (why != NULL)
			fail(c, s->seal.key->temporary ? ARC_RESULT_TEMPERROR : ARC_RESULT_FAIL, why);
	}
}

/* The newest one holds. */
static unsigned
oldest_pass(struct arc_check *c)
{
	unsigned i = c->count;

	while (i > 1 && verify_message(c, &c->sets[i - 2]) == NULL && body_matches(c, &c->sets[i - 2]))
		i--;
	return i > 1 ? i : 0;
}

/* ---- the end ---- */

static void
report_sealers(struct arc_check *c)
{
	struct arc_outcome *o = &c->outcome;

	for (unsigned i = c->count; i-- > 0 && o->sealer_count < ARC_SEALERS_MAX;) {
		const struct set *s = &c->sets[i];

		o->sealers[o->sealer_count++] =
		    (struct arc_sealer){s->seal.fields.d, arc_results_dmarc_pass(s->results, c->author)};
	}
}

static void
conclude(struct arc_check *c)
{
	struct arc_outcome *o = &c->outcome;

	if (c->count > 0 && c->why == NULL && !c->evidence.has_body[c->sets[c->count - 1].message.fields.body_relaxed])
		fail(c, ARC_RESULT_FAIL, ARC_NOT_KEPT);
	if (c->count > 0 && c->why == NULL && !body_matches(c, &c->sets[c->count - 1]))
		fail(c, ARC_RESULT_FAIL, "body hash does not match");
	if (c->count > 0)
		verify_seals(c);
	o->sets = c->count;
	o->result = c->why != NULL ? c->result : c->count > 0 ? ARC_RESULT_PASS : ARC_RESULT_NONE;
	o->reason = slice_str(c->why != NULL ? c->why : "");
	if (o->result == ARC_RESULT_PASS) {
		o->oldest_pass = oldest_pass(c);
		report_sealers(c);
	}
	c->evidence.fields = buf_slice(&c->evidence_fields);
	o->evidence = c->again != NULL ? c->again : &c->evidence;
	c->finished = true;
	c->done(c->arg, o);
}

static void ask_rest(struct arc_check *c);

/* Goes on as far as keys and body allow. */
static void
advance(struct arc_check *c)
{
	if (c->finished)
		return;
	for (unsigned i = 0; i < c->key_count; i++)
		if (c->keys[i].waiting && c->why == NULL)
			return;
	if (c->why == NULL && c->count > 0 && !c->rest_asked) {
		c->rest_asked = true;
		verify_newest(c);
		if (c->why == NULL) {
			ask_rest(c);
			advance(c);
			return;
		}
	}
	if (c->ended)
		conclude(c);
}

/* ---- keys ---- */

static void
on_key(void *arg, const struct dns_answer *answer)
{
	struct key *k = arg;
	bool several = false;

	assert(k->waiting);
	k->waiting = false;
	k->temporary = answer->status == DNS_TEMP || answer->status == DNS_BOGUS;
	k->why = k->temporary ? "key could not be looked up" : "no key";
	if (answer->status == DNS_OK) {
		struct slice text = dkim_key_pick(answer, &several);

		if (several)
			k->why = "several keys";
		else if (text.n <= DKIM_KEY_BYTES_MAX && !arena_copy(k->check->arena, text, &k->text))
			k->why = "too much";
	}
	advance(k->check);
}

static struct key *
key_find(struct arc_check *c, const struct arc_fields *f)
{
	for (unsigned i = 0; i < c->key_count; i++)
		if (slice_eq_nocase(c->keys[i].selector, f->s) && slice_eq_nocase(c->keys[i].domain, f->d))
			return &c->keys[i];
	return NULL;
}

static void
ask(struct arc_check *c, struct signature *s)
{
	struct buf name;

	s->key = key_find(c, &s->fields);
	if (s->key != NULL)
		return;
	assert(c->key_count < KEYS_MAX);
	s->key = &c->keys[c->key_count++];
	*s->key = (struct key){.check = c, .selector = s->fields.s, .domain = s->fields.d};
	buf_init(&name, DNS_NAME_BYTES_MAX);
	if (!dkim_key_name(s->fields.s, s->fields.d, &name)) {
		s->key->why = "d= or s= is no domain name";
	} else if (c->dns->ask(c->dns->ctx, buf_slice(&name), DNS_TXT, on_key, s->key, &s->key->ticket)) {
		s->key->waiting = true;
	} else {
		s->key->temporary = true;
		s->key->why = "key could not be looked up";
	}
	buf_fini(&name);
}

static void
ask_rest(struct arc_check *c)
{
	for (unsigned i = 0; i < c->count; i++) {
		ask(c, &c->sets[i].seal);
		if (c->sets[i].message.wrong == NULL)
			ask(c, &c->sets[i].message);
	}
}

/* ---- the header ---- */

static bool
kind_of(struct slice name, enum kind *kind_r)
{
	static const char *const names[KIND_COUNT] = {"ARC-Authentication-Results", "ARC-Message-Signature", "ARC-Seal"};

	for (unsigned k = 0; k < KIND_COUNT; k++)
		if (slice_eq_nocase(name, slice_str(names[k]))) {
			*kind_r = (enum kind)k;
			return true;
		}
	return false;
}

/* Reads a field of a set; the instance, or 0. */
static unsigned
read_field(struct arc_check *c, enum kind kind, struct slice value, struct set *to)
{
	const char *why;

	if (kind == KIND_RESULTS)
		return arc_results_instance(value, &to->results);
	if (kind == KIND_MESSAGE) {
		/* One that is not the newest may be wrong: that is what oldest-pass tells. */
		to->message.wrong = arc_message_check(value, c->now, &to->message.fields);
		return to->message.fields.instance;
	}
	why = arc_seal_check(value, &to->seal.fields);
	if (why != NULL)
		fail(c, ARC_RESULT_FAIL, why);
	return to->seal.fields.instance;
}

static void
keep_field(struct arc_check *c, struct slice raw)
{
	if (c->again != NULL)
		return;
	c->evidence.cut |= raw.n > ARC_EVIDENCE_BYTES_MAX - c->evidence_fields.n;
	if (!c->evidence.cut)
		buf_put_slice(&c->evidence_fields, raw);
}

static void
take_arc_field(struct arc_check *c, enum kind kind, const struct header_field *field)
{
	struct set read = {.results = {NULL, 0}};
	struct set *to;
	unsigned n;

	/* Also of what is wrong: that there are ARC fields. */
	c->count = c->count > 0 ? c->count : 1;
	c->arc_bytes += field->raw.n;
	keep_field(c, field->raw);
	if (c->arc_bytes > ARC_BYTES_MAX) {
		fail(c, ARC_RESULT_FAIL, "too much");
		return;
	}
	n = read_field(c, kind, field->value, &read);
	if (n == 0 || c->sets[n - 1].raw[kind].n > 0) {
		fail(c, ARC_RESULT_FAIL, n == 0 ? "a field without instance" : "a field twice");
		return;
	}
	c->count = n > c->count ? n : c->count;
	to = &c->sets[n - 1];
	to->raw[kind] = field->raw;
	if (kind == KIND_RESULTS)
		to->results = read.results;
	else if (kind == KIND_MESSAGE)
		to->message = read.message;
	else
		to->seal = read.seal;
}

static bool
has_arc(struct slice block)
{
	struct header_field field;
	struct header_iter it;
	enum kind kind;

	header_iter_init(&it, block);
	while (header_next(&it, &field))
		if (kind_of(field.name, &kind))
			return true;
	return false;
}

static void
collect(struct arc_check *c, struct slice block)
{
	struct header_field field;
	struct header_iter it;
	enum kind kind;

	header_iter_init(&it, block);
	while (header_next(&it, &field)) {
		if (field.name.n == 0)
			continue;
		if (c->field_count < DKIM_HEADER_FIELDS_MAX)
			c->fields[c->field_count] = (struct field){.name = field.name, .raw = field.raw};
		c->field_count++;
		if (c->why == NULL && kind_of(field.name, &kind))
			take_arc_field(c, kind, &field);
	}
}

/* RFC 8617 5.2: sets from 1 to the highest, each of one field of each kind. */
static void
check_structure(struct arc_check *c)
{
	for (unsigned i = 0; i < c->count; i++)
		for (unsigned k = 0; k < KIND_COUNT; k++)
			if (c->sets[i].raw[k].n == 0)
				fail(c, ARC_RESULT_FAIL, "a set is not complete");
}

static void
begin_bodies(struct arc_check *c)
{
	for (unsigned i = 0; i < c->count; i++) {
		const struct arc_fields *f = &c->sets[i].message.fields;

		if (c->sets[i].message.wrong == NULL && c->body[f->body_relaxed].hash == NULL)
			dkim_body_init(&c->body[f->body_relaxed], f->body_relaxed);
	}
}

void
arc_check_header(struct arc_check *c, struct slice block, struct slice author)
{
	c->author = author;
	if (!has_arc(block))
		return;
	c->fields = mem_new_array(DKIM_HEADER_FIELDS_MAX, sizeof(*c->fields));
	c->sets = mem_new_array(ARC_SETS_MAX, sizeof(*c->sets));
	collect(c, block);
	if (c->again == NULL)
		c->evidence.large = c->field_count > DKIM_HEADER_FIELDS_MAX || block.n > DKIM_HEADER_BYTES_MAX;
	if (c->evidence.large)
		fail(c, ARC_RESULT_FAIL, "header is too large");
	check_structure(c);
	if (c->why == NULL && c->sets[c->count - 1].message.wrong != NULL)
		fail(c, ARC_RESULT_FAIL, c->sets[c->count - 1].message.wrong);
	if (c->why != NULL)
		return;
	if (c->again == NULL)
		begin_bodies(c);
	ask(c, &c->sets[c->count - 1].message);
}

/* ---- body, end, life ---- */

void
arc_check_body(struct arc_check *c, struct slice chunk)
{
	for (unsigned i = 0; i < 2 && c->why == NULL; i++)
		if (c->body[i].hash != NULL)
			dkim_body_feed(&c->body[i], chunk);
}

void
arc_check_end(struct arc_check *c)
{
	assert(!c->ended);
	c->ended = true;
	for (unsigned i = 0; i < 2; i++)
		if (c->body[i].hash != NULL) {
			dkim_body_end(&c->body[i], c->evidence.body[i]);
			c->evidence.has_body[i] = c->why == NULL;
		}
	advance(c);
}

static void
cancel_all(struct arc_check *c)
{
	for (unsigned i = 0; i < c->key_count; i++)
		if (c->keys[i].waiting) {
			c->dns->cancel(c->dns->ctx, c->keys[i].ticket);
			c->keys[i].waiting = false;
		}
}

void
arc_check_expire(struct arc_check *c)
{
	cancel_all(c);
	if (!c->finished && c->count > 0)
		fail(c, ARC_RESULT_TEMPERROR, "time was up");
	advance(c);
}

struct arc_check *
arc_check_new(const struct dns_asker *dns, uint64_t now, arc_done_fn *done, void *arg)
{
	struct arc_check *c = MEM_NEW(struct arc_check);

	c->dns = dns;
	c->now = now;
	c->done = done;
	c->arg = arg;
	c->arena = arena_new(ARENA_BYTES_MAX);
	buf_init(&c->evidence_fields, ARC_EVIDENCE_BYTES_MAX);
	return c;
}

struct arc_check *
arc_check_again(const struct dns_asker *dns, uint64_t now, const struct arc_evidence *evidence, struct slice author, arc_done_fn *done,
    void *arg)
{
	struct arc_check *c = arc_check_new(dns, now, done, arg);

	c->again = evidence;
	c->evidence = *evidence;
	arc_check_header(c, evidence->fields, author);
	return c;
}

void
arc_check_free(struct arc_check **cp)
{
	struct arc_check *c = *cp;

	if (c == NULL)
		return;
	cancel_all(c);
	for (unsigned i = 0; i < 2; i++)
		dkim_body_fini(&c->body[i]);
	arena_free(&c->arena);
	buf_fini(&c->evidence_fields);
	free(c->fields);
	free(c->sets);
	MEM_FREE(cp);
}
