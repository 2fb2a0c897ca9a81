/*
 * The message is read once, in order: its header block into memory (a MiB at most),
 * which tells the ranges that will be left out; then everything through the hash, the scan, the summary
 * (without those ranges: it describes what will be stored), DKIM and ARC (with them: signers signed what came).
 * Keys and policies are fetched meanwhile. DMARC begins when SPF, DKIM and ARC have ended.
 *
 * A temporary failure of the DNS is a result like any other; an error is only what keeps the message from being read.
 */
#include "smtpd/verify.h"

#include "common/arena.h"
#include "common/charset.h"
#include "common/loop.h"
#include "common/mem.h"
#include "common/memfd.h"
#include "common/rfc5322.h"
#include "common/summary.h"
#include "smtpd/answers.h"
#include "smtpd/authres.h"
#include "smtpd/facts.h"
#include "smtpd/verify_form.h"

#include <assert.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

#define CHUNK_BYTES (64 * 1024)
#define ARENA_BYTES_MAX (3 * 1024 * 1024)

struct verify {
	struct loop *loop;
	const struct dns_asker *dns;
	verify_done_fn *done;
	void *arg;
	struct arena *arena;
	struct verify_request request;
	struct facts facts;
	struct verdict verdict;
	struct verify_result result;
	struct buf encoded;
	struct buf summary;
	struct buf header;
	struct verify_scan scan;
	EVP_MD_CTX *hash;
	struct summary_builder *builder;
	struct spf_check *helo;
	struct spf_check *mail_from;
	struct dkim_check *dkim;
	struct dkim_outcome dkim_outcome;
	struct arc_check *arc;
	struct dmarc_check *dmarc;
	struct loop_timer *timer;
	unsigned open; /* of SPF, DKIM and ARC, those that run; and one while they are being started */
	bool dmarc_begun;
	bool ended;
};

void
verify_global_init(void)
{
	uint8_t hash[EVP_MAX_MD_SIZE];

	/* Reads openssl.cnf and fetches what is used later, while files can be opened. */
	OPENSSL_init_crypto(OPENSSL_INIT_LOAD_CONFIG, NULL);
	(void)!EVP_Digest("", 0, hash, NULL, EVP_sha256(), NULL);
	dkim_check_global_init();
	charset_init();
}

/* The asker for a check: what it is told is written down. */
static const struct dns_asker *
written(struct verify *v, enum verdict_check c)
{
	v->result.answers[c] = answers_new(v->dns);
	return answers_asker(v->result.answers[c]);
}

/* A copy in the arena; empty at its cap (nothing here comes near it). */
static struct slice
keep(struct verify *v, struct slice s)
{
	struct slice copy;

	return arena_copy(v->arena, s, &copy) ? copy : slice_of(NULL, 0);
}

/* ---- the end ---- */

static void
finish(struct verify *v)
{
	assert(!v->ended);
	v->ended = true;
	loop_timer_free(&v->timer);
	v->result.verdict = &v->verdict;
	v->result.facts = &v->facts;
	v->result.encoded = buf_slice(&v->encoded);
	v->result.summary = buf_slice(&v->summary);
	v->done(v->arg, &v->result);
}

/* Signatures are dropped from the field, last first, until it fits. */
static void
render(struct verify *v)
{
	struct verdict *copy = MEM_NEW(struct verdict);
	struct buf b;

	*copy = v->verdict;
	buf_init(&b, VERDICT_AUTHRES_BYTES_MAX);
	while (!authres_render(&v->facts, copy, &b)) {
		buf_reset(&b);
		if (copy->dkim_count == 0)
			break;
		copy->dkim_count--;
		copy->dkim_skipped++;
	}
	v->verdict.authres = keep(v, buf_slice(&b));
	buf_fini(&b);
	free(copy);
}

static void
conclude(struct verify *v)
{
	if (v->verdict.full)
		render(v);
	if (!verdict_encode(&v->verdict, &v->encoded))
		err_set(&v->result.err, ERR_BUG, ERR_CODE_TOO_BIG, "the message could not be checked", "verdict too big");
	finish(v);
}

/* ---- DMARC ---- */

static void
on_dmarc(void *arg, const struct dmarc_outcome *o)
{
	struct verify *v = arg;

	v->verdict.dmarc = (struct verdict_dmarc){
		.result = o->result,
		.policy = o->policy,
		.published = o->published,
		.testing = o->testing,
		.spf_aligned = o->spf_aligned,
		.dkim_aligned = o->dkim_aligned,
		.author = o->author,
		.org = o->org,
		.policy_domain = o->policy_domain,
		.record = o->record,
		.reason = o->reason,
	};
	conclude(v);
}

/* Why DMARC is not evaluated (RFC 9989 5.3.1), or NULL. */
static const char *
author_unusable(const struct verdict_form *form)
{
	if (form->from_fields == 0)
		return "no From field";
	if (form->from_fields > 1)
		return "several From fields";
	if (form->from_mailboxes == 0)
		return "no author";
	if (form->from_domains_differ)
		return "authors of several domains";
	return form->from_domain.n == 0 ? "author has no domain" : NULL;
}

static void
begin_dmarc(struct verify *v)
{
	struct dmarc_identifier ids[DMARC_IDENTIFIERS_MAX];
	struct dmarc_query q = {.author = v->verdict.form.from_domain, .identifiers = ids};
	const char *why = author_unusable(&v->verdict.form);

	v->dmarc_begun = true;
	if (why != NULL) {
		v->verdict.dmarc.reason = slice_str(why);
		conclude(v);
		return;
	}
	q.count = verdict_identifiers(&v->verdict, ids);
	v->dmarc = dmarc_check_new(written(v, VERDICT_CHECK_DMARC), &q, on_dmarc, v);
	dmarc_check_start(v->dmarc);
}

static void
one_ended(struct verify *v)
{
	assert(v->open > 0);
	if (--v->open > 0)
		return;
	/* A null reverse-path has the HELO identity (RFC 7208 2.4). */
	if (v->facts.mail_from.n == 0)
		v->verdict.mail_from = v->verdict.helo;
	begin_dmarc(v);
}

/* ---- SPF, DKIM, ARC ---- */

static void
take_spf(struct verify *v, struct verdict_spf *to, const struct spf_outcome *o)
{
	*to = (struct verdict_spf){o->result, slice_sub(o->domain, 0, VERDICT_TEXT_BYTES_MAX), o->explanation,
	    o->mechanism};
	one_ended(v);
}

static void
on_helo(void *arg, const struct spf_outcome *o)
{
	struct verify *v = arg;

	take_spf(v, &v->verdict.helo, o);
}

static void
on_mail_from(void *arg, const struct spf_outcome *o)
{
	struct verify *v = arg;

	take_spf(v, &v->verdict.mail_from, o);
}

static void
on_dkim(void *arg, const struct dkim_outcome *o)
{
	struct verify *v = arg;

	v->dkim_outcome = *o;
	v->result.dkim = &v->dkim_outcome;
	v->verdict.dkim_count = (uint16_t)o->count;
	v->verdict.dkim_skipped = o->skipped;
	for (unsigned i = 0; i < o->count; i++)
		v->verdict.dkim[i] = o->signatures[i];
	one_ended(v);
}

static void
on_arc(void *arg, const struct arc_outcome *o)
{
	struct verify *v = arg;

	v->verdict.arc = *o;
	v->result.arc = o->evidence;
	one_ended(v);
}

/* The quotes are no part of a local part (RFC 5322 3.2.4): macros have what is quoted. */
static struct slice
without_quotes(struct verify *v, struct slice local)
{
	uint8_t *to = local.n >= 2 && local.p[0] == '"' && local.p[local.n - 1] == '"' ? arena_alloc(v->arena, local.n) : NULL;
	size_t n = 0;

	if (to == NULL)
		return local;
	for (size_t i = 1; i + 1 < local.n; i++) {
		if (local.p[i] == '\\' && i + 2 < local.n)
			i++;
		to[n++] = local.p[i];
	}
	return slice_of(to, n);
}

static void
begin_spf(struct verify *v)
{
	struct spf_query q = {.domain = v->facts.helo, .helo = v->facts.helo, .receiver = v->facts.hostname};
	struct slice local, domain;

	memcpy(q.ip, v->facts.client_ip, sizeof q.ip);
	v->helo = spf_check_new(written(v, VERDICT_CHECK_HELO), &q, on_helo, v);
	v->open++;
	spf_check_start(v->helo);
	if (v->facts.mail_from.n == 0)
		return;
	if (addr_spec_split(v->facts.mail_from, &local, &domain)) {
		q.local = without_quotes(v, local);
		q.domain = domain;
	} else {
		q.domain = v->facts.mail_from;
	}
	v->result.local = q.local;
	v->mail_from = spf_check_new(written(v, VERDICT_CHECK_MAIL_FROM), &q, on_mail_from, v);
	v->open++;
	spf_check_start(v->mail_from);
}

static void
on_timer(void *arg)
{
	struct verify *v = arg;

	if (v->dmarc_begun) {
		dmarc_check_expire(v->dmarc);
		return;
	}
	/* DMARC has the last third. */
	loop_timer_set(v->timer, v->request.timeout_ms / 3);
	spf_check_expire(v->helo);
	if (v->mail_from != NULL)
		spf_check_expire(v->mail_from);
	dkim_check_expire(v->dkim);
	arc_check_expire(v->arc);
}

/* ---- reading ---- */

static bool
put_hash(struct verify *v, struct slice s)
{
	return EVP_DigestUpdate(v->hash, s.p, s.n) == 1;
}

/* The next n octets at offset. False (v->result.err) unless all are there. */
static bool
read_exactly(struct verify *v, uint64_t offset, uint8_t *p, size_t n)
{
	int64_t got = memfd_read(v->request.message, offset, p, n, &v->result.err);

	if (got == (int64_t)n)
		return true;
	if (got >= 0)
		err_set(&v->result.err, ERR_TEMP, ERR_CODE_MALFORMED, "the message could not be read",
		    "message is shorter than announced");
	return false;
}

/* True when b holds the empty line that ends a header block. */
static bool
header_complete(const struct buf *b)
{
	size_t n = header_block_length(buf_slice(b));
	struct slice block = slice_sub(buf_slice(b), 0, n);

	return n < b->n || slice_eq(block, SLICE("\n")) || slice_eq(block, SLICE("\r\n")) ||
	    slice_ends_nocase(block, SLICE("\n\n")) || slice_ends_nocase(block, SLICE("\n\r\n"));
}

/* Reads until the header block is complete or VERIFY_HEADER_BYTES_MAX; what is read of the body stays behind it. */
static bool
read_header(struct verify *v)
{
	uint64_t most = v->request.bytes < VERIFY_HEADER_BYTES_MAX ? v->request.bytes : VERIFY_HEADER_BYTES_MAX;

	/* Each round doubles what was read, so that looking for the end again costs no more than the first time. */
	for (size_t want = CHUNK_BYTES; v->header.n < most; want = v->header.n) {
		size_t n = most - v->header.n < want ? (size_t)(most - v->header.n) : want;
		uint8_t *to = buf_room(&v->header, n);

		assert(to != NULL);
		if (!read_exactly(v, v->header.n, to, n))
			return false;
		buf_added(&v->header, n);
		if (header_complete(&v->header))
			break;
	}
	return true;
}

/* Feeds the header to the summary, without the ranges. */
static void
summarise_header(struct verify *v, struct slice block)
{
	uint64_t at = 0;

	for (uint16_t i = 0; i < v->verdict.range_count; i++) {
		const struct verdict_range *r = &v->verdict.ranges[i];

		summary_builder_feed(v->builder, slice_sub(block, (size_t)at, (size_t)r->offset));
		at = r->offset + r->octets;
	}
	summary_builder_feed(v->builder, slice_sub(block, (size_t)at, block.n));
}

static void
give_dkim_header(struct verify *v, struct slice block)
{
	struct header_field field;
	struct header_iter it;

	v->dkim = dkim_check_new(written(v, VERDICT_CHECK_DKIM), v->result.now, on_dkim, v);
	v->open++;
	header_iter_init(&it, block);
	while (header_next(&it, &field))
		dkim_check_header(v->dkim, field.raw);
	dkim_check_header_end(v->dkim);
}

/*
 * CR or LF alone, and NUL, are no text (RFC 5321 2.3.8, 4.5.2) and never belong in a header. They may stand in a
 * binary message's body (RFC 3030 3), and in the body of one that only its Content-Transfer-Encoding calls binary, which
 * "MUST be accepted" as well.
 */
static bool
has_stray_octets(struct verify *v, bool in_header)
{
	const struct verdict_form *f = &v->verdict.form;
	struct summary s;
	struct summary_part part;

	if (!f->has_nul && !f->has_bare_cr && !f->has_bare_lf)
		return false;
	if (in_header || (!v->facts.binary && !summary_decode(buf_slice(&v->summary), &s)))
		return true;
	for (uint32_t i = 0; !v->facts.binary; i++) {
		if (i == s.parts_count)
			return true;
		summary_part_get(&s, i, &part);
		if (part.encoding == TRANSFER_BINARY)
			break;
	}
	return false;
}

static void
give_arc_header(struct verify *v, struct slice block)
{
	v->arc = arc_check_new(written(v, VERDICT_CHECK_ARC), v->result.now, on_arc, v);
	v->open++;
	arc_check_header(v->arc, block, v->verdict.form.from_domain);
}

static bool
take_header(struct verify *v, struct slice block)
{
	verify_form_header(block, &v->facts, v->arena, &v->verdict);
	if (v->header.n == VERIFY_HEADER_BYTES_MAX && block.n == v->header.n && v->request.bytes > block.n) {
		v->verdict.form.header_sane = false;
		v->verdict.form.ranges_overflow = true;
	}
	v->scan.in_header = true;
	verify_scan_feed(&v->scan, block, &v->verdict.form);
	v->scan.in_header = false;
	v->verdict.form.stray_octets = has_stray_octets(v, true);
	summarise_header(v, block);
	if (v->verdict.full) {
		give_dkim_header(v, block);
		give_arc_header(v, block);
	}
	return put_hash(v, block);
}

static bool
take_body(struct verify *v, struct slice chunk)
{
	verify_scan_feed(&v->scan, chunk, &v->verdict.form);
	summary_builder_feed(v->builder, chunk);
	if (v->verdict.full) {
		dkim_check_body(v->dkim, chunk);
		arc_check_body(v->arc, chunk);
	}
	return put_hash(v, chunk);
}

static bool
read_body(struct verify *v)
{
	uint8_t *chunk = mem_new_array(CHUNK_BYTES, 1);
	uint64_t at = v->header.n;
	bool ok = true;

	while (ok && at < v->request.bytes) {
		uint64_t left = v->request.bytes - at;
		size_t n = left < CHUNK_BYTES ? (size_t)left : CHUNK_BYTES;

		ok = read_exactly(v, at, chunk, n) && take_body(v, slice_of(chunk, n));
		at += n;
	}
	free(chunk);
	return ok;
}

static bool
size_as_announced(struct verify *v)
{
	int64_t size = memfd_size(v->request.message, &v->result.err);

	if (size >= 0 && (uint64_t)size == v->request.bytes)
		return true;
	if (size >= 0)
		err_set(&v->result.err, ERR_TEMP, ERR_CODE_MALFORMED, "the message could not be read",
		    "message is not as long as announced");
	return false;
}

/* What has to be 7 bits on its way is best made so before it is signed (RFC 6376 5.3). */
static void
plan_recoding(struct verify *v)
{
	const struct verdict_form *f = &v->verdict.form;

	if (v->facts.submission && (f->body_8bit || f->has_nul || f->has_bare_cr || f->has_bare_lf || f->line_too_long))
		(void)sevenbit_plan(v->request.message, 0, v->request.bytes, &v->verdict.recoding);
}

static bool
read_message(struct verify *v)
{
	struct slice block;
	unsigned n = sizeof v->result.sha256;
	size_t header_n;

	if (!size_as_announced(v) || EVP_DigestInit_ex(v->hash, EVP_sha256(), NULL) != 1 || !read_header(v))
		return false;
	header_n = header_block_length(buf_slice(&v->header));
	block = slice_sub(buf_slice(&v->header), 0, header_n);
	if (!take_header(v, block) || !take_body(v, slice_sub(buf_slice(&v->header), header_n, v->header.n)) ||
	    !read_body(v))
		return false;
	verify_scan_end(&v->scan, &v->verdict.form);
	if (EVP_DigestFinal_ex(v->hash, v->result.sha256, &n) != 1 || !summary_builder_finish(v->builder, &v->summary))
		return false;
	v->verdict.form.stray_octets |= has_stray_octets(v, false);
	plan_recoding(v);
	return true;
}

/* ---- life ---- */

struct verify *
verify_new(struct loop *loop, const struct dns_asker *dns, verify_done_fn *done, void *arg)
{
	struct verify *v = MEM_NEW(struct verify);

	v->loop = loop;
	v->dns = dns;
	v->done = done;
	v->arg = arg;
	v->arena = arena_new(ARENA_BYTES_MAX);
	v->hash = EVP_MD_CTX_new();
	assert(v->hash != NULL);
	v->builder = summary_builder_new(0);
	v->timer = loop_timer_new(loop, on_timer, v);
	buf_init(&v->encoded, VERDICT_BYTES_MAX);
	buf_init(&v->summary, SUMMARY_BYTES_MAX);
	buf_init(&v->header, VERIFY_HEADER_BYTES_MAX);
	return v;
}

void
verify_start(struct verify *v, const struct verify_request *q)
{
	struct slice facts = keep(v, q->facts);

	v->request = *q;
	v->result.now = q->now ? q->now : (uint64_t)time(NULL);
	v->open = 1;
	if (!facts_decode(facts, &v->facts)) {
		err_set(&v->result.err, ERR_PERM, ERR_CODE_MALFORMED, "the message could not be checked", "facts");
		finish(v);
		return;
	}
	v->verdict.full = q->full;
	if (!read_message(v)) {
		if (v->result.err.class == ERR_NONE)
			err_set(&v->result.err, ERR_TEMP, ERR_CODE_NONE, "the message could not be checked", "hash or summary");
		/* What has been asked for is not wanted any more. */
		dkim_check_free(&v->dkim);
		arc_check_free(&v->arc);
		finish(v);
		return;
	}
	if (!q->full) {
		conclude(v);
		return;
	}
	loop_timer_set(v->timer, q->timeout_ms - q->timeout_ms / 3);
	begin_spf(v);
	dkim_check_end(v->dkim);
	arc_check_end(v->arc);
	one_ended(v);
}

void
verify_free(struct verify **v)
{
	if (*v == NULL)
		return;
	spf_check_free(&(*v)->helo);
	spf_check_free(&(*v)->mail_from);
	dkim_check_free(&(*v)->dkim);
	arc_check_free(&(*v)->arc);
	dmarc_check_free(&(*v)->dmarc);
	for (unsigned c = 0; c < VERDICT_CHECKS; c++)
		answers_free(&(*v)->result.answers[c]);
	loop_timer_free(&(*v)->timer);
	summary_builder_free(&(*v)->builder);
	EVP_MD_CTX_free((*v)->hash);
	buf_fini(&(*v)->encoded);
	buf_fini(&(*v)->summary);
	buf_fini(&(*v)->header);
	arena_free(&(*v)->arena);
	free(*v);
	*v = NULL;
}
