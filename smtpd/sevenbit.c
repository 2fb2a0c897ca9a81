/*
 * A plan is made in two readings: the first finds the structure, the second looks at the octets of each header, body and what
 * lies between, and counts what a body takes in either encoding. The parser does not tell when a body begins, and where it ends is
 * known only when the boundary behind it has come: so one reading would have to hold bodies back.
 */
#include "smtpd/sevenbit.h"

#include "common/mem.h"
#include "common/memfd.h"
#include "common/mime.h"
#include "common/rfc5322.h"
#include "smtpd/octets.h"

#include <assert.h>
#include <stdlib.h>

#define READ_BYTES (64u * 1024)

static const char *const texts[SEVENBIT_KINDS] = {
    [SEVENBIT_MIME_VERSION] = "MIME-Version: 1.0\r\n",
    [SEVENBIT_FIELD_7BIT] = "Content-Transfer-Encoding: 7bit\r\n",
    [SEVENBIT_FIELD_QP] = "Content-Transfer-Encoding: quoted-printable\r\n",
    [SEVENBIT_FIELD_BASE64] = "Content-Transfer-Encoding: base64\r\n",
};

struct planner {
	int fd;
	uint64_t from, octets;
	uint8_t *block;
	struct arena *arena;
	struct mime_tree tree;
	struct sevenbit_plan *plan;
	bool unread;
};

/* What a body is, and what it would become. */
struct body_look {
	struct octets octets;
	struct transfer_encoder qp, base64;
};

static void
refuse(struct planner *p, const char *why)
{
	if (p->plan->why == NULL)
		p->plan->why = why;
}

/* ---- reading ---- */

/* The next octets of [*at, end), as many as fit; empty at the end and when they cannot be read. */
static struct slice
read_block(struct planner *p, uint64_t *at, uint64_t end)
{
	size_t n = end - *at < READ_BYTES ? (size_t)(end - *at) : READ_BYTES;

	if (n > 0 && memfd_read(p->fd, p->from + *at, p->block, n, NULL) != (int64_t)n) {
		p->unread = true;
		n = 0;
	}
	*at += n;
	return slice_of(p->block, n);
}

static void
parse(struct planner *p)
{
	struct mime_parser *parser = mime_parser_new(p->arena, &MIME_LIMITS_DEFAULT);
	struct slice block;
	uint64_t at = 0;

	while ((block = read_block(p, &at, p->octets)).n > 0)
		mime_parser_feed(parser, block);
	mime_parser_finish(parser, &p->tree);
	mime_parser_free(&parser);
	if (p->tree.root == NULL || p->tree.overflow || p->tree.header_truncated)
		refuse(p, "its structure is too large to be looked through");
	p->plan->needed = p->tree.root == NULL;
}

/* The octets [at, end): what they are and, of a body, what they would be. */
static void
look(struct planner *p, uint64_t at, uint64_t end, bool body, struct body_look *look_r)
{
	bool last = end == p->octets;
	struct slice block;

	*look_r = (struct body_look){.octets = {.eightbit = false}};
	transfer_encoder_init(&look_r->qp, TRANSFER_QUOTED_PRINTABLE);
	transfer_encoder_init(&look_r->base64, TRANSFER_BASE64);
	while ((block = read_block(p, &at, end)).n > 0) {
		octets_look(&look_r->octets, block);
		if (!body)
			continue;
		(void)transfer_encode(&look_r->qp, block, NULL);
		(void)transfer_encode(&look_r->base64, block, NULL);
	}
	octets_end(&look_r->octets);
	(void)transfer_encode_end(&look_r->qp, last, NULL);
	(void)transfer_encode_end(&look_r->base64, last, NULL);
	p->plan->needed |= look_r->octets.eightbit || look_r->octets.nul;
}

/* Headers and what stands between parts cannot be encoded. */
static void
look_outside(struct planner *p, uint64_t at, uint64_t end, const char *why)
{
	struct body_look l;

	look(p, at, end, false, &l);
	if (l.octets.eightbit || l.octets.nul || l.octets.line_too_long)
		refuse(p, why);
}

/* ---- changes ---- */

static void
change(struct planner *p, uint64_t offset, uint64_t octets, uint64_t become, enum sevenbit_kind kind)
{
	struct sevenbit_plan *plan = p->plan;

	if (plan->count == SEVENBIT_CHANGES_MAX)
		refuse(p, "it has too many parts that would have to be encoded");
	else
		plan->changes[plan->count++] = (struct sevenbit_change){offset, octets, become, kind};
}

/* Its field takes the place of the one there is, or stands behind Content-Type, or first. */
static void
change_field(struct planner *p, const struct mime_part *part, enum sevenbit_kind kind)
{
	struct header_field f;
	uint64_t at = part->header_start, octets = 0;

	if (header_count(part->header, SLICE("Content-Transfer-Encoding")) > 1 || header_count(part->header, SLICE("Content-Type")) > 1)
		refuse(p, "a part says twice what it is");
	if (header_find(part->header, SLICE("Content-Transfer-Encoding"), &f)) {
		at += (uint64_t)(f.raw.p - part->header.p);
		octets = f.raw.n;
	} else if (header_find(part->header, SLICE("Content-Type"), &f)) {
		at += (uint64_t)(f.raw.p - part->header.p) + f.raw.n;
	}
	change(p, at, octets, strlen(texts[kind]), kind);
}

/* A body that is encoded belongs to a MIME message (RFC 2045 4). */
static void
say_mime_version(struct planner *p)
{
	struct sevenbit_plan *plan = p->plan;

	if (header_count(p->tree.root->header, SLICE("MIME-Version")) > 0)
		return;
	change(p, 0, 0, strlen(texts[SEVENBIT_MIME_VERSION]), SEVENBIT_MIME_VERSION);
	if (plan->why != NULL)
		return;
	struct sevenbit_change first = plan->changes[plan->count - 1];

	memmove(plan->changes + 1, plan->changes, (plan->count - 1u) * sizeof first);
	plan->changes[0] = first;
}

/* ---- parts ---- */

static bool
is_plain(const struct mime_part *part)
{
	return part->encoding <= TRANSFER_BINARY;
}

/* What is inside must stay as it is. */
static bool
seals(const struct mime_part *part)
{
	return (part->kind == MIME_MULTIPART &&
		   (slice_eq_nocase(part->subtype, SLICE("signed")) || slice_eq_nocase(part->subtype, SLICE("encrypted")))) ||
	    (part->kind != MIME_LEAF && !is_plain(part));
}

static bool
is_sealed(const struct mime_part *part)
{
	while ((part = part->parent) != NULL)
		if (seals(part))
			return true;
	return false;
}

/* A leaf that says it is a message or multipart may have no encoding (RFC 2045 6.4). */
static bool
may_be_encoded(const struct planner *p, const struct mime_part *part)
{
	struct mime_value v;
	struct header_field f;

	if (!is_plain(part))
		return false;
	if (!header_find(part->header, SLICE("Content-Type"), &f) || !mime_type_parse(f.value, p->arena, &v))
		return part->parent == NULL || !slice_eq_nocase(part->parent->subtype, SLICE("digest"));
	return !slice_eq_nocase(v.type, SLICE("message")) && !slice_eq_nocase(v.type, SLICE("multipart"));
}

static void
encode(struct planner *p, const struct mime_part *part, const struct body_look *l)
{
	bool qp = slice_eq_nocase(part->type, SLICE("text")) && l->qp.octets <= l->base64.octets;

	if (is_sealed(part))
		refuse(p, "what would have to be encoded is signed or encrypted");
	else if (!may_be_encoded(p, part))
		refuse(p, "what would have to be encoded is encoded already, or may not be");
	change_field(p, part, qp ? SEVENBIT_FIELD_QP : SEVENBIT_FIELD_BASE64);
	change(p, part->body_start, part->body_end - part->body_start, qp ? l->qp.octets : l->base64.octets,
	    qp ? SEVENBIT_BODY_QP : SEVENBIT_BODY_BASE64);
}

static void
plan_part(struct planner *p, const struct mime_part *part)
{
	bool labelled = part->encoding == TRANSFER_8BIT || part->encoding == TRANSFER_BINARY;
	struct body_look l;

	if (part->kind == MIME_LEAF) {
		look(p, part->body_start, part->body_end, true, &l);
		if (l.octets.eightbit || l.octets.nul || l.octets.bare_cr || l.octets.bare_lf || l.octets.line_too_long) {
			encode(p, part, &l);
			return;
		}
	}
	if (labelled && !seals(part) && !is_sealed(part))
		change_field(p, part, SEVENBIT_FIELD_7BIT);
}

/* In order of appearance. */
static const struct mime_part *
next_part(const struct mime_part *part)
{
	if (part->first_child != NULL)
		return part->first_child;
	while (part != NULL && part->next == NULL)
		part = part->parent;
	return part != NULL ? part->next : NULL;
}

static void
plan_parts(struct planner *p)
{
	static const char *const between = "there is such text outside of its parts";
	uint64_t at = 0;

	for (const struct mime_part *part = p->tree.root; part != NULL; part = next_part(part)) {
		look_outside(p, at, part->header_start, between);
		look_outside(p, part->header_start, part->body_start, "there is such text in a header");
		plan_part(p, part);
		at = part->kind == MIME_LEAF ? part->body_end : part->body_start;
	}
	look_outside(p, at, p->octets, between);
	if (sevenbit_bodies(p->plan) > 0)
		say_mime_version(p);
}

enum sevenbit_result
sevenbit_plan(int fd, uint64_t from, uint64_t to, struct sevenbit_plan *plan_r)
{
	struct planner p = {.fd = fd, .from = from, .octets = to - from, .plan = plan_r};

	*plan_r = (struct sevenbit_plan){.count = 0};
	p.block = mem_new_array(READ_BYTES, 1);
	p.arena = arena_new(SEVENBIT_ARENA_BYTES);
	parse(&p);
	if (p.tree.root != NULL && !p.unread)
		plan_parts(&p);
	free(p.block);
	arena_free(&p.arena);
	if (!p.unread && plan_r->why == NULL && sevenbit_bodies(plan_r) > 0)
		return SEVENBIT_CAN;
	plan_r->count = 0;
	return p.unread ? SEVENBIT_UNREAD : plan_r->why != NULL ? SEVENBIT_CANNOT : SEVENBIT_IS;
}

unsigned
sevenbit_bodies(const struct sevenbit_plan *plan)
{
	unsigned n = 0;

	for (uint16_t i = 0; i < plan->count; i++)
		n += plan->changes[i].kind >= SEVENBIT_BODY_QP;
	return n;
}

int64_t
sevenbit_octets(const struct sevenbit_change *changes, size_t count, uint64_t octets)
{
	uint64_t at = 0, sum = octets;

	for (size_t i = 0; i < count; i++) {
		const struct sevenbit_change *c = &changes[i];

		if (c->offset < at || c->offset > octets || c->octets > octets - c->offset || c->become > INT64_MAX - sum)
			return -1;
		sum = sum - c->octets + c->become;
		at = c->offset + c->octets;
	}
	return (int64_t)sum;
}

/* ---- writing ---- */

void
sevenbit_write_begin(struct sevenbit_writer *w, const struct sevenbit_change *changes, size_t count, uint64_t octets)
{
	*w = (struct sevenbit_writer){.changes = changes, .count = count, .end = octets};
}

static void
change_begins(struct sevenbit_writer *w, const struct sevenbit_change *c, struct buf *out)
{
	w->begun = true;
	transfer_encoder_init(&w->encoder, c->kind == SEVENBIT_BODY_BASE64 ? TRANSFER_BASE64 : TRANSFER_QUOTED_PRINTABLE);
	if (texts[c->kind] != NULL)
		buf_put_str(out, texts[c->kind]);
}

static void
change_ends(struct sevenbit_writer *w, const struct sevenbit_change *c, struct buf *out)
{
	if (c->kind >= SEVENBIT_BODY_QP)
		(void)transfer_encode_end(&w->encoder, w->at == w->end, out);
	w->begun = false;
	w->index++;
}

/* Octets from the front of in that are one thing; gives how many. */
static size_t
write_run(struct sevenbit_writer *w, const struct sevenbit_change *c, struct slice in, struct buf *out)
{
	bool inside = c != NULL && w->at >= c->offset;
	uint64_t until = c == NULL ? w->end : inside ? c->offset + c->octets : c->offset;
	struct slice run = slice_sub(in, 0, until - w->at < in.n ? (size_t)(until - w->at) : in.n);

	if (!inside)
		buf_put_slice(out, run);
	else if (c->kind >= SEVENBIT_BODY_QP)
		(void)transfer_encode(&w->encoder, run, out);
	return run.n;
}

void
sevenbit_write(struct sevenbit_writer *w, struct slice in, struct buf *out)
{
	assert(in.n <= w->end - w->at);
	for (;;) {
		const struct sevenbit_change *c = w->index < w->count ? &w->changes[w->index] : NULL;

		if (c != NULL && w->at == c->offset && !w->begun)
			change_begins(w, c, out);
		if (c != NULL && w->begun && w->at == c->offset + c->octets) {
			change_ends(w, c, out);
			continue;
		}
		if (in.n == 0)
			break;
		size_t n = write_run(w, c, in, out);

		w->at += n;
		in = slice_sub(in, n, in.n);
	}
	assert(!out->failed);
}
