/*
 * libopendkim verifies; this file keeps it from harm. What it was measured to do
 * wrong, and what stands against it:
 *
 * - Eight octets are written past an array when h= names every field of the message and one
 *   more. A last field of an unguessable name is always added, so that no h= names every one.
 * - i= ending in "=" is read past its end; tags twice, key records and more are taken as they
 *   come. dkim_tags.c and dkim_key.c let only well-formed signatures and keys through, keys rewritten.
 * - The cost grows with signatures, fields and names in h=: all three are capped.
 * - Malformed signatures vanish without DKIM_LIBFLAGS_BADSIGHANDLES, and then a verdict would be of the
 *   wrong signature. That flag is on, and the library's list is compared with ours.
 * - Keys: processing is delayed (DELAYSIGPROC) until dkim_eom(), when all keys are here; the library
 *   goes through the signatures in order (out of order it reads past a key). It asks no DNS: its resolver hooks are dummies.
 * - A bare LF is left out of the simple body (where a chunk begins), a bare CR out of the relaxed one: what was signed as one line
 *   passes as two. A body that has any is not judged.
 * - A pass is the library's PASSED flag, a matching body hash and no error, all three. dkim_ohdrs() (it writes past
 *   its buffer) and dkim_sig_process() are poisoned. rsa-sha1 and short keys do not pass.
 *
 * Each of these is shown by tests/unit/test_dkim_guards.c: the fault without the guard, and none with it.
 *
 * The library's two hashes of each signature are kept. With them dkim_check_again() comes to the same, by code of our own.
 */
#include "smtpd/dkim_check.h"

#include "common/dns_name.h"
#include "common/mem.h"
#include "smtpd/dkim_key.h"
#include "smtpd/dkim_length.h"
#include "smtpd/dkim_tags.h"

#include <assert.h>
#include <opendkim/dkim.h>
#include <sys/random.h>

#pragma GCC poison dkim_ohdrs dkim_diffheaders dkim_sig_process

#define ARENA_BYTES_MAX (512 * 1024)
#define B_PREFIX_OCTETS 8

struct signature {
	struct dkim_check *check;
	struct dkim_signature out;
	struct dkim_evidence evidence;
	struct dkim_fields fields;
	bool decided; /* whatever the library says */
	bool handed;  /* the library has it, as number `at` */
	int at;
	bool waiting;
	uint64_t ticket;
	struct slice key; /* for the library; empty: none */
};

struct dkim_check {
	const struct dns_asker *dns;
	uint64_t now;
	dkim_done_fn *done;
	void *arg;
	struct arena *arena;
	DKIM *dkim; /* NULL: judged again, by evidence */
	struct signature sig[DKIM_SIGNATURES_MAX];
	struct dkim_signature results[DKIM_SIGNATURES_MAX];
	struct dkim_evidence evidence[DKIM_SIGNATURES_MAX];
	unsigned count, skipped, handed;
	unsigned fields;
	size_t header_bytes;
	bool too_large;
	bool has_l; /* a signature has l= */
	uint8_t tail[2]; /* the last octets of the body */
	struct dkim_length length;
	enum dkim_broken broken;
	DKIM_SIGINFO **list;
	bool header_ended, ended, finished;
};

static DKIM_LIB *library;

const char *
dkim_result_name(enum dkim_result r)
{
	static const char *const names[DKIM_RESULT_COUNT] = {"none", "pass", "fail", "policy", "neutral",
	    "temperror", "permerror"};

	assert(r < DKIM_RESULT_COUNT);
	return names[r];
}

const char *
dkim_broken_text(enum dkim_broken b)
{
	static const char *const texts[DKIM_BROKEN_COUNT] = {[DKIM_BROKEN_NOT] = "",
	    [DKIM_BROKEN_LARGE] = "header is too large",
	    [DKIM_BROKEN_HEADER] = "header could not be processed",
	    [DKIM_BROKEN_OTHERS] = "library sees other signatures",
	    [DKIM_BROKEN_BODY] = "body could not be processed",
	    [DKIM_BROKEN_LINE_ENDS] = "body has bare CR or LF",
	    [DKIM_BROKEN_LIBRARY] = "error of the library"};

	assert(b < DKIM_BROKEN_COUNT);
	return texts[b];
}

/* ---- the library's hooks ---- */

static struct signature *
signature_of(struct dkim_check *c, const DKIM_SIGINFO *info)
{
	for (unsigned i = 0; c->list != NULL && i < c->count; i++)
		if (c->sig[i].handed && c->list[c->sig[i].at] == info)
			return &c->sig[i];
	return NULL;
}

static DKIM_CBSTAT
on_key_wanted(DKIM *dkim, DKIM_SIGINFO *info, unsigned char *to, size_t size)
{
	struct signature *s = signature_of(dkim_get_user_context(dkim), info);

	if (s == NULL || s->key.n == 0 || s->key.n >= size)
		return DKIM_CBSTAT_NOTFOUND;
	memcpy(to, s->key.p, s->key.n);
	to[s->key.n] = '\0';
	return DKIM_CBSTAT_CONTINUE;
}

static int
no_dns_init(void **service)
{
	*service = NULL;
	return 0;
}

static void
no_dns_close(void *service)
{
	(void)service;
}

static int
no_dns_start(void *service, int type, unsigned char *query, unsigned char *buf, size_t size, void **handle)
{
	(void)service, (void)type, (void)query, (void)buf, (void)size, (void)handle;
	return DKIM_DNS_ERROR;
}

static int
no_dns_cancel(void *service, void *handle)
{
	(void)service, (void)handle;
	return DKIM_DNS_SUCCESS;
}

static int
no_dns_wait(void *service, void *handle, struct timeval *timeout, size_t *bytes, int *error, int *dnssec)
{
	(void)service, (void)handle, (void)timeout, (void)bytes, (void)error, (void)dnssec;
	return DKIM_DNS_ERROR;
}

void
dkim_check_global_init(void)
{
	unsigned flags = DKIM_LIBFLAGS_DELAYSIGPROC | DKIM_LIBFLAGS_BADSIGHANDLES;

	if (library != NULL)
		return;
	library = dkim_init(NULL, NULL);
	assert(library != NULL);
	dkim_options(library, DKIM_OP_SETOPT, DKIM_OPTS_FLAGS, &flags, sizeof flags);
	dkim_set_key_lookup(library, on_key_wanted);
	dkim_dns_set_init(library, no_dns_init);
	dkim_dns_set_close(library, no_dns_close);
	dkim_dns_set_query_start(library, no_dns_start);
	dkim_dns_set_query_cancel(library, no_dns_cancel);
	dkim_dns_set_query_waitreply(library, no_dns_wait);
	dkim_dns_init(library);
}

/* ---- results ---- */

static void
decide(struct signature *s, enum dkim_result result, const char *reason)
{
	if (s->decided)
		return;
	s->decided = true;
	s->out.result = result;
	s->out.reason = slice_str(reason);
}

/* Some signature still depends on what the library finds. */
static bool
library_needed(const struct dkim_check *c)
{
	if (c->broken != DKIM_BROKEN_NOT)
		return false;
	for (unsigned i = 0; i < c->count; i++)
		if (!c->sig[i].decided)
			return true;
	return false;
}

/* Of a signature that the library has not gone through it has no hashes, and dies when it is asked for them. */
static void
keep_evidence(struct dkim_check *c, struct signature *s)
{
	struct dkim_evidence *e = &s->evidence;
	size_t header_n = 0, body_n = 0;
	void *header = NULL, *body = NULL;
	DKIM_SIGINFO *info = c->list[s->at];

	e->body_octets = (s->fields.body_relaxed ? c->length.relaxed : c->length.simple).octets;
	if ((dkim_sig_getflags(info) & DKIM_SIGFLAG_PROCESSED) != 0 &&
	    dkim_sig_gethashes(info, &header, &header_n, &body, &body_n) == DKIM_STAT_OK)
		e->hashed = header_n == sizeof e->header && body_n == sizeof e->body;
	if (e->hashed) {
		memcpy(e->header, header, sizeof e->header);
		memcpy(e->body, body, sizeof e->body);
	}
}

static bool
l_too_long(const struct signature *s)
{
	return s->fields.has_l && s->fields.l > s->evidence.body_octets;
}

/* The signature holds, for as much of the body as it is of. */
static void
decide_good(struct signature *s)
{
	s->out.partial = s->fields.has_l && s->fields.l < s->evidence.body_octets;
	if (s->out.partial)
		decide(s, DKIM_RESULT_POLICY, "a part of the body is not signed");
	else
		decide(s, DKIM_RESULT_PASS, "");
}

/* What a signature comes to that the library was given and that had its key. */
static void
read_result(struct dkim_check *c, struct signature *s)
{
	DKIM_SIGINFO *info = c->list[s->at];
	unsigned flags = dkim_sig_getflags(info);
	DKIM_SIGERROR error = dkim_sig_geterror(info);

	keep_evidence(c, s);
	if (l_too_long(s)) {
		decide(s, DKIM_RESULT_PERMERROR, "l= is longer than the body");
	} else if ((flags & DKIM_SIGFLAG_PROCESSED) == 0) {
		decide(s, DKIM_RESULT_PERMERROR, "not processed");
	} else if (dkim_sig_getbh(info) == DKIM_SIGBH_MISMATCH) {
		decide(s, DKIM_RESULT_FAIL, "body hash does not match");
	} else if (error == DKIM_SIGERROR_BADSIG || (error == DKIM_SIGERROR_OK && !DKIM_SIG_CHECK(info))) {
		decide(s, DKIM_RESULT_FAIL, "signature does not match");
	} else if (error != DKIM_SIGERROR_OK) {
		const char *text = dkim_sig_geterrorstr(error);

		decide(s, DKIM_RESULT_PERMERROR, text != NULL ? text : "error of the library");
	} else {
		decide_good(s);
	}
}

static void
run_library(struct dkim_check *c)
{
	_Bool testing = false;
	DKIM_STAT status;

	if (library_needed(c)) {
		status = dkim_eom(c->dkim, &testing);
		if (status == DKIM_STAT_SYNTAX)
			c->broken = DKIM_BROKEN_LINE_ENDS;
		else if (status == DKIM_STAT_INTERNAL || status == DKIM_STAT_NORESOURCE)
			c->broken = DKIM_BROKEN_LIBRARY;
	}
}

/* From what was kept; like the library, the body's hash last. */
static void
judge_again(struct signature *s)
{
	const struct dkim_evidence *e = &s->evidence;

	if (l_too_long(s))
		decide(s, DKIM_RESULT_PERMERROR, "l= is longer than the body");
	else if (!e->hashed)
		decide(s, DKIM_RESULT_PERMERROR, "not processed");
	else if (!dkim_key_verifies(s->key, e->header, s->fields.b))
		decide(s, DKIM_RESULT_FAIL, "signature does not match");
	else if (!dkim_base64_is(s->fields.bh, e->body, sizeof e->body))
		decide(s, DKIM_RESULT_FAIL, "body hash does not match");
	else
		decide_good(s);
}

static void
judge_all(struct dkim_check *c)
{
	if (c->dkim != NULL)
		run_library(c);
	for (unsigned i = 0; i < c->count; i++) {
		struct signature *s = &c->sig[i];

		if (s->decided)
			continue;
		if (c->broken != DKIM_BROKEN_NOT)
			decide(s, DKIM_RESULT_PERMERROR, dkim_broken_text(c->broken));
		else if (c->dkim != NULL)
			read_result(c, s);
		else
			judge_again(s);
	}
}

/* Everything is here: the message and the keys. */
static void
finish_if_complete(struct dkim_check *c)
{
	struct dkim_outcome o = {.signatures = c->results, .evidence = c->evidence, .count = c->count, .skipped = c->skipped};

	if (!c->ended || c->finished)
		return;
	for (unsigned i = 0; i < c->count; i++)
		if (c->sig[i].waiting)
			return;
	c->finished = true;
	judge_all(c);
	for (unsigned i = 0; i < c->count; i++) {
		assert(c->sig[i].decided);
		c->results[i] = c->sig[i].out;
		c->evidence[i] = c->sig[i].evidence;
	}
	o.broken = c->broken;
	c->done(c->arg, &o);
}

/* ---- keys ---- */

/* t=s: the domain of i= must be d= itself (3.6.1). */
static bool
strict_holds(const struct signature *s)
{
	struct slice i = s->fields.i;

	if (!s->fields.has_i)
		return true;
	return slice_eq_nocase(slice_sub(i, slice_rindex(i, '@') + 1, i.n), s->fields.d);
}

static void
take_key(struct signature *s, struct slice text)
{
	struct dkim_key key;
	struct buf record;
	enum dkim_result result;
	const char *why;

	buf_init(&record, DKIM_KEY_BYTES_MAX);
	why = dkim_key_read(text, s->fields.a, &key, &record, &result);
	s->out.key_bits = key.bits;
	s->out.testing = key.testing;
	if (why == NULL && key.strict && !strict_holds(s)) {
		why = "key is for d= itself only";
		result = DKIM_RESULT_PERMERROR;
	}
	if (why != NULL)
		decide(s, result, why);
	else if (!arena_copy(s->check->arena, buf_slice(&record), &s->key))
		decide(s, DKIM_RESULT_PERMERROR, "too much");
	buf_fini(&record);
}

static void
on_key(void *arg, const struct dns_answer *answer)
{
	struct signature *s = arg;
	bool several;

	assert(s->waiting);
	s->waiting = false;
	s->out.secure = answer->secure;
	if (answer->status == DNS_OK) {
		struct slice text = dkim_key_pick(answer, &several);

		if (several)
			decide(s, DKIM_RESULT_PERMERROR, "several keys");
		else
			take_key(s, text);
	} else if (answer->status == DNS_BOGUS) {
		decide(s, DKIM_RESULT_TEMPERROR, "DNSSEC of the key is bogus");
	} else if (answer->status == DNS_TEMP) {
		decide(s, DKIM_RESULT_TEMPERROR, "key could not be looked up");
	} else {
		decide(s, DKIM_RESULT_PERMERROR, "no key");
	}
	finish_if_complete(s->check);
}

static void
ask_key(struct signature *s)
{
	const struct dns_asker *dns = s->check->dns;
	struct buf name;

	buf_init(&name, DNS_NAME_BYTES_MAX);
	if (!dkim_key_name(s->fields.s, s->fields.d, &name))
		decide(s, DKIM_RESULT_PERMERROR, "d= or s= is no domain name");
	else if (dns->ask(dns->ctx, buf_slice(&name), DNS_TXT, on_key, s, &s->ticket))
		s->waiting = true;
	else
		decide(s, DKIM_RESULT_TEMPERROR, "key could not be looked up");
	buf_fini(&name);
}

/* ---- header ---- */

static struct slice
keep(struct dkim_check *c, struct slice s)
{
	struct slice copy;

	return arena_copy(c->arena, slice_sub(s, 0, DKIM_TAG_BYTES_MAX), &copy) ? copy : slice_of(NULL, 0);
}

/* The first octets of b= without white space (RFC 6008), all of them different where they can be. */
static void
set_b_prefix(struct dkim_check *c, struct signature *s)
{
	struct slice b = s->fields.b;
	uint8_t *to = arena_alloc(c->arena, b.n ? b.n : 1);
	size_t n = 0, want = B_PREFIX_OCTETS;

	if (to == NULL)
		return;
	for (size_t i = 0; i < b.n; i++)
		if (b.p[i] > ' ')
			to[n++] = b.p[i];
	for (struct signature *other = c->sig; other < s; other++)
		while (want < n && slice_eq(slice_sub(other->out.b_prefix, 0, want), slice_of(to, want)))
			want += B_PREFIX_OCTETS;
	s->out.b_prefix = slice_of(to, want < n ? want : n);
	if (s->out.b_prefix.n > DKIM_TAG_BYTES_MAX)
		s->out.b_prefix.n = DKIM_TAG_BYTES_MAX;
}

static void
keep_tags(struct dkim_check *c, struct signature *s)
{
	s->out.domain = keep(c, s->fields.d);
	s->out.selector = keep(c, s->fields.s);
	s->out.algorithm = keep(c, s->fields.a);
	s->out.identity = keep(c, s->fields.i);
	if (!s->fields.has_i && s->fields.d.n > 0 && s->fields.d.n < DKIM_TAG_BYTES_MAX) {
		uint8_t *to = arena_alloc(c->arena, s->fields.d.n + 1);

		if (to != NULL) {
			to[0] = '@';
			memcpy(to + 1, s->fields.d.p, s->fields.d.n);
			s->out.identity = slice_of(to, s->fields.d.n + 1);
		}
	}
	set_b_prefix(c, s);
}

static struct signature *
add_signature(struct dkim_check *c)
{
	struct signature *s = &c->sig[c->count++];

	s->check = c;
	return s;
}

/* True when the library is to have this field too. */
static bool
take_signature(struct dkim_check *c, struct signature *s, struct slice value)
{
	enum dkim_result result;
	struct slice own;
	const char *why;

	/* The fields are slices of it until the end. */
	if (s->evidence.too_long || value.n > DKIM_SIGNATURE_BYTES_MAX || !arena_copy(c->arena, value, &own)) {
		s->evidence.too_long = true;
		decide(s, DKIM_RESULT_PERMERROR, "too long");
		return false;
	}
	s->evidence.field = own;
	why = dkim_signature_check(own, c->now, &s->fields, &result);
	keep_tags(c, s);
	if (why != NULL)
		decide(s, result, why);
	/* A failed but well-formed one stays, since another signature may cover it. */
	s->handed = why == NULL || result == DKIM_RESULT_FAIL;
	c->has_l |= s->fields.has_l;
	if (s->handed)
		s->at = (int)c->handed++;
	return s->handed;
}

static bool
note_signature(struct dkim_check *c, struct slice value)
{
	if (c->count == DKIM_SIGNATURES_MAX) {
		c->skipped++;
		return false;
	}
	return take_signature(c, add_signature(c), value);
}

static void
give_field(struct dkim_check *c, struct slice field)
{
	/* The interface lacks const; the library copies. */
	union {
		const uint8_t *from;
		unsigned char *to;
	} p = {.from = field.p};

	if (c->broken == DKIM_BROKEN_NOT && dkim_header(c->dkim, p.to, field.n) != DKIM_STAT_OK)
		c->broken = DKIM_BROKEN_HEADER;
}

void
dkim_check_header(struct dkim_check *c, struct slice field)
{
	size_t colon = slice_index(field, ':');
	struct slice name = slice_sub(field, 0, colon);

	assert(!c->header_ended);
	while (field.n > 0 && (field.p[field.n - 1] == '\n' || field.p[field.n - 1] == '\r'))
		field.n--;
	while (name.n > 0 && (name.p[name.n - 1] == ' ' || name.p[name.n - 1] == '\t'))
		name.n--;
	/* A line that is no field cannot be signed. */
	if (name.n == 0 || colon >= field.n)
		return;
	for (size_t i = 0; i < name.n; i++)
		if (name.p[i] <= 0x20 || name.p[i] >= 0x7f)
			return;
	c->fields++;
	c->header_bytes += field.n;
	c->too_large |= c->fields > DKIM_HEADER_FIELDS_MAX || c->header_bytes > DKIM_HEADER_BYTES_MAX;
	if (slice_eq_nocase(name, SLICE("DKIM-Signature")) &&
	    !note_signature(c, slice_sub(field, colon + 1, field.n)))
		return;
	if (!c->too_large)
		give_field(c, field);
}

/* The field that no h= can name. */
static void
give_last_field(struct dkim_check *c)
{
	uint8_t nonce[8];
	struct buf b;

	if (getrandom(nonce, sizeof nonce, 0) != (ssize_t)sizeof nonce)
		memset(nonce, 0x5a, sizeof nonce);
	buf_init(&b, 64);
	buf_put_str(&b, "X-Pad-");
	buf_put_hex(&b, slice_of(nonce, sizeof nonce));
	buf_put_str(&b, ": x");
	give_field(c, buf_slice(&b));
	buf_fini(&b);
}

static void
end_library_header(struct dkim_check *c)
{
	DKIM_SIGINFO **list = NULL;
	int n = 0;

	if (c->too_large)
		c->broken = DKIM_BROKEN_LARGE;
	give_last_field(c);
	if (c->broken == DKIM_BROKEN_NOT && dkim_eoh(c->dkim) != DKIM_STAT_OK)
		c->broken = DKIM_BROKEN_HEADER;
	if (c->broken == DKIM_BROKEN_NOT &&
	    (dkim_getsiglist(c->dkim, &list, &n) != DKIM_STAT_OK || n != (int)c->handed))
		c->broken = DKIM_BROKEN_OTHERS;
	c->list = list;
}

static void
ask_keys(struct dkim_check *c)
{
	for (unsigned i = 0; i < c->count; i++)
		if (!c->sig[i].decided)
			ask_key(&c->sig[i]);
}

void
dkim_check_header_end(struct dkim_check *c)
{
	assert(!c->header_ended);
	c->header_ended = true;
	if (c->handed == 0)
		return;
	end_library_header(c);
	if (c->broken == DKIM_BROKEN_NOT)
		ask_keys(c);
}

/* ---- body and end ---- */

/* CR or LF alone, which has no canonical form; the library leaves some of them out. The last of a chunk is seen with the next one. */
static bool
line_ends_bare(const struct dkim_check *c, struct slice chunk)
{
	bool bare = (c->tail[1] == '\r') != (chunk.p[0] == '\n');

	for (size_t i = 1; i < chunk.n; i++)
		bare |= (chunk.p[i - 1] == '\r') != (chunk.p[i] == '\n');
	return bare;
}

void
dkim_check_body(struct dkim_check *c, struct slice chunk)
{
	union {
		const uint8_t *from;
		unsigned char *to;
	} p = {.from = chunk.p};

	assert(c->header_ended && !c->ended);
	if (chunk.n == 0 || !library_needed(c))
		return;
	if (line_ends_bare(c, chunk))
		c->broken = DKIM_BROKEN_LINE_ENDS;
	else if (dkim_body(c->dkim, p.to, chunk.n) != DKIM_STAT_OK)
		c->broken = DKIM_BROKEN_BODY;
	if (c->has_l)
		dkim_length_feed(&c->length, chunk);
	c->tail[0] = chunk.n > 1 ? chunk.p[chunk.n - 2] : c->tail[1];
	c->tail[1] = chunk.p[chunk.n - 1];
}

/* Both canonical forms end an unfinished last line with CRLF (3.4.3, 3.4.4); the library calls it an error in the relaxed one. */
static void
finish_last_line(struct dkim_check *c)
{
	if (c->tail[1] != '\0' && (c->tail[0] != '\r' || c->tail[1] != '\n'))
		dkim_check_body(c, SLICE("\r\n"));
}

void
dkim_check_end(struct dkim_check *c)
{
	assert(c->header_ended && !c->ended);
	finish_last_line(c);
	c->ended = true;
	finish_if_complete(c);
}

static void
cancel_all(struct dkim_check *c)
{
	for (unsigned i = 0; i < c->count; i++)
		if (c->sig[i].waiting) {
			c->dns->cancel(c->dns->ctx, c->sig[i].ticket);
			c->sig[i].waiting = false;
			decide(&c->sig[i], DKIM_RESULT_TEMPERROR, "time was up");
		}
}

void
dkim_check_expire(struct dkim_check *c)
{
	cancel_all(c);
	finish_if_complete(c);
}

static struct dkim_check *
check_new(const struct dns_asker *dns, uint64_t now, dkim_done_fn *done, void *arg)
{
	struct dkim_check *c = MEM_NEW(struct dkim_check);

	c->dns = dns;
	c->now = now ? now : (uint64_t)time(NULL);
	c->done = done;
	c->arg = arg;
	c->arena = arena_new(ARENA_BYTES_MAX);
	return c;
}

struct dkim_check *
dkim_check_new(const struct dns_asker *dns, uint64_t now, dkim_done_fn *done, void *arg)
{
	struct dkim_check *c = check_new(dns, now, done, arg);
	static const unsigned char id[] = "check";
	DKIM_STAT status;

	dkim_check_global_init();
	c->dkim = dkim_verify(library, id, NULL, &status);
	assert(c->dkim != NULL);
	dkim_set_user_context(c->dkim, c);
	return c;
}

struct dkim_check *
dkim_check_again(const struct dns_asker *dns, uint64_t now, const struct dkim_evidence *evidence, unsigned count, enum dkim_broken broken,
    dkim_done_fn *done, void *arg)
{
	struct dkim_check *c = check_new(dns, now, done, arg);

	assert(count <= DKIM_SIGNATURES_MAX);
	for (unsigned i = 0; i < count; i++) {
		struct signature *s = add_signature(c);

		s->evidence = evidence[i];
		(void)take_signature(c, s, evidence[i].field);
	}
	c->header_ended = true;
	c->broken = broken;
	if (broken == DKIM_BROKEN_NOT || broken >= DKIM_BROKEN_BODY)
		ask_keys(c);
	return c;
}

void
dkim_check_free(struct dkim_check **c)
{
	if (*c == NULL)
		return;
	cancel_all(*c);
	if ((*c)->dkim != NULL)
		dkim_free((*c)->dkim);
	arena_free(&(*c)->arena);
	free(*c);
	*c = NULL;
}
