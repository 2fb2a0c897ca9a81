/*
 * Making a summary. The message is hashed and taken apart as it streams by;
 * all else is made at the end from the tree and the header blocks it kept.
 *
 * The encoded form must always fit, whatever the message: bytes_max is shared out among
 * the fields (the shares below add up to less than all of it). What passes its
 * share is cut (text), shown with fewer addresses (ENVELOPE) or flat (structure).
 */
#include "common/summary.h"

#include "common/arena.h"
#include "common/charset.h"
#include "common/cursor.h"
#include "common/mem.h"
#include "common/mime_word.h"
#include "common/rfc5322.h"
#include "common/summary_imap.h"
#include "common/summary_private.h"

#include <assert.h>
#include <openssl/evp.h>

#define TREE_BYTES_MAX (4 * 1024 * 1024)
#define SCRATCH_BYTES_MAX (1024 * 1024)
#define CHARSET_BYTES_MAX 64 /* of a part's charset name */
#define MESSAGE_ID_BYTES_MAX 1000

/* Shares of bytes_max, in 1/32. */
#define SHARE_ENVELOPE 8
#define SHARE_BODY 3
#define SHARE_BODYSTRUCTURE 4
#define SHARE_PARTS 4
#define SHARE_TEXT 2 /* each of five */
#define SHARE_IDS 1  /* each of two */
_Static_assert(SHARE_ENVELOPE + SHARE_BODY + SHARE_BODYSTRUCTURE + SHARE_PARTS + 5 * SHARE_TEXT +
	    2 * SHARE_IDS < 32,
    "the shares leave room for the fixed fields, Message-ID and preview");
_Static_assert(SUMMARY_BYTES_MIN / 32 >
	SUMMARY_FIXED_BYTES + MESSAGE_ID_BYTES_MAX + SUMMARY_PREVIEW_CHARS_MAX * 4 + 14 * 4,
    "one share holds the fixed fields, Message-ID, preview and lengths");

struct summary_builder {
	struct arena *arena;
	struct arena *scratch;
	struct mime_parser *parser;
	EVP_MD_CTX *sha;
	size_t bytes_max;
	bool flat;
	bool text_cut;
};

struct summary_builder *
summary_builder_new(size_t bytes_max)
{
	struct summary_builder *b = MEM_NEW(struct summary_builder);
	struct mime_limits limits = MIME_LIMITS_DEFAULT;

	b->bytes_max = bytes_max ? bytes_max : SUMMARY_BYTES_MAX;
	assert(b->bytes_max >= SUMMARY_BYTES_MIN && b->bytes_max <= SUMMARY_BYTES_MAX);
	b->arena = arena_new(TREE_BYTES_MAX);
	b->scratch = arena_new(SCRATCH_BYTES_MAX);
	b->parser = mime_parser_new(b->arena, &limits);
	b->sha = EVP_MD_CTX_new();
	bool ok = b->sha != NULL && EVP_DigestInit_ex(b->sha, EVP_sha256(), NULL) == 1;

	assert(ok);
	return b;
}

void
summary_builder_free(struct summary_builder **b)
{
	if (*b == NULL)
		return;
	EVP_MD_CTX_free((*b)->sha);
	mime_parser_free(&(*b)->parser);
	arena_free(&(*b)->scratch);
	arena_free(&(*b)->arena);
	MEM_FREE(b);
}

void
summary_builder_feed(struct summary_builder *b, struct slice in)
{
	if (in.n == 0)
		return;
	bool ok = EVP_DigestUpdate(b->sha, in.p, in.n) == 1;

	assert(ok);
	mime_parser_feed(b->parser, in);
}

static size_t
share(const struct summary_builder *b, size_t parts)
{
	return b->bytes_max / 32 * parts;
}

/* ---- IMAP text ---- */

static void
put_envelope(struct summary_builder *b, struct slice header, struct buf *out)
{
	static const struct envelope_limits most = {ADDRESSES_MAX, 64 * 1024};
	static const struct envelope_limits least = {16, 1024};
	struct buf text;

	buf_init(&text, share(b, SHARE_ENVELOPE));
	summary_imap_envelope(&text, header, &most, b->scratch);
	if (text.failed) {
		b->text_cut = true;
		buf_reset(&text);
		summary_imap_envelope(&text, header, &least, b->scratch);
		assert(!text.failed);
	}
	put_slice(out, buf_slice(&text));
	buf_fini(&text);
}

/* BODY and BODYSTRUCTURE into two bufs; false when they pass their shares. */
static bool
render_bodies(struct summary_builder *b, const struct mime_part *root, struct buf *body,
    struct buf *structure)
{
	static const struct envelope_limits limits = {ADDRESSES_MAX, 64 * 1024};

	summary_imap_body(body, root, false, &limits, b->scratch);
	summary_imap_body(structure, root, true, &limits, b->scratch);
	return !body->failed && !structure->failed;
}

/* ---- parts ---- */

struct part_table {
	struct buf strings;
	struct buf parts;
};

static uint32_t
clamp_u32(uint64_t v)
{
	return v > UINT32_MAX ? UINT32_MAX : (uint32_t)v;
}

static void
put_part(struct part_table *t, const struct mime_part *part)
{
	const struct mime_param *charset = mime_param_find(&part->params, SLICE("charset"));
	struct slice name = slice_of(NULL, 0);

	if (part->kind == MIME_LEAF && charset && slice_eq_nocase(part->type, SLICE("text")))
		name = slice_sub(charset->value, 0, CHARSET_BYTES_MAX);
	put_u8(&t->parts, (uint8_t)part->kind);
	put_u8(&t->parts, (uint8_t)part->encoding);
	put_u16(&t->parts, (uint16_t)name.n);
	put_u32(&t->parts, (uint32_t)t->strings.n);
	put_u32(&t->parts, part->next ? part->next->index : 0);
	put_u64(&t->parts, part->header_start);
	put_u64(&t->parts, part->body_start);
	put_u64(&t->parts, part->body_end - part->body_start);
	put_u32(&t->parts, clamp_u32(part->header_lines));
	put_u32(&t->parts, clamp_u32(part->body_lines));
	put_u32(&t->parts, part->parent ? part->parent->index : UINT32_MAX);
	buf_put_slice(&t->strings, name);
}

/* The part after this one in order of appearance, or NULL. */
static const struct mime_part *
next_in_order(const struct mime_part *part)
{
	if (part->first_child)
		return part->first_child;
	while (part && part->next == NULL)
		part = part->parent;
	return part ? part->next : NULL;
}

static bool
fill_parts(struct part_table *t, const struct mime_part *root)
{
	uint32_t index = 0;

	for (const struct mime_part *part = root; part; part = next_in_order(part)) {
		assert(part->index == index);
		index++;
		put_part(t, part);
	}
	return !t->strings.failed && !t->parts.failed;
}

/* ---- text for search ---- */

static void
keep_text(struct summary_builder *b, struct buf *text, struct buf *out)
{
	b->text_cut |= text->failed;
	put_slice(out, utf8_cut(buf_slice(text), text->max));
	buf_fini(text);
}

/* All fields of that name as UTF-8, ", " between them. */
static void
put_text(struct summary_builder *b, struct slice header, const char *name, struct buf *out)
{
	struct header_iter it;
	struct header_field f;
	struct buf text;
	bool ok = true;

	buf_init(&text, share(b, SHARE_TEXT));
	header_iter_init(&it, header);
	while (ok && header_next(&it, &f)) {
		if (!slice_eq_nocase(f.name, slice_str(name)))
			continue;
		if (text.n > 0)
			ok = buf_put_str(&text, ", ");
		ok = ok && mime_word_decode(f.value, &text);
	}
	keep_text(b, &text, out);
}

/* The id of Message-ID; without angle brackets the whole of a value in one piece. */
static void
put_message_id(struct summary_builder *b, struct slice header, struct buf *out)
{
	struct header_field f;
	struct msgid_list list = {0};
	struct slice id = slice_of(NULL, 0);

	if (header_find(header, SLICE("Message-ID"), &f)) {
		msgid_list_parse(f.value, 1, b->scratch, &list);
		id = list.n > 0 ? list.v[0] : slice_trim(f.value);
		for (size_t i = 0; i < id.n; i++)
			if (id.p[i] <= ' ')
				id.n = 0;
	}
	put_slice(out, slice_sub(id, 0, id.n <= MESSAGE_ID_BYTES_MAX ? id.n : 0));
	arena_reset(b->scratch);
}

/* Whole ids only; the last ones matter most for threads, but what comes first is kept. */
static void
put_ids(struct summary_builder *b, struct slice header, struct slice name, struct buf *out)
{
	struct header_field f;
	struct msgid_list list = {0};
	struct buf text;

	buf_init(&text, share(b, SHARE_IDS));
	if (header_find(header, name, &f))
		msgid_list_parse(f.value, MSGIDS_MAX, b->scratch, &list);
	for (size_t i = 0; i < list.n; i++) {
		if (list.v[i].n + 1 > text.max - text.n) {
			b->text_cut = true;
			break;
		}
		buf_put_slice(&text, list.v[i]);
		buf_put_u8(&text, '\n');
	}
	b->text_cut |= list.truncated;
	put_slice(out, buf_slice(&text));
	buf_fini(&text);
	arena_reset(b->scratch);
}

/* ---- putting it together ---- */

/* A copy of the root that shows the message as one part of unknown content. */
static struct mime_part
flat_root(const struct mime_part *root)
{
	struct mime_part flat = *root;

	flat.kind = MIME_LEAF;
	flat.first_child = flat.last_child = NULL;
	flat.children = 0;
	flat.type = SLICE("application");
	flat.subtype = SLICE("octet-stream");
	flat.params = flat.disposition_params = (struct mime_params){0};
	flat.id = flat.description = flat.md5 = flat.location = flat.disposition =
	    flat.encoding_name = slice_of(NULL, 0);
	flat.languages_n = 0;
	flat.encoding = TRANSFER_7BIT;
	return flat;
}

struct structure {
	struct buf body;
	struct buf bodystructure;
	struct part_table table;
};

static bool
structure_fill(struct summary_builder *b, const struct mime_part *root, struct structure *s)
{
	buf_init(&s->body, share(b, SHARE_BODY));
	buf_init(&s->bodystructure, share(b, SHARE_BODYSTRUCTURE));
	buf_init(&s->table.parts, share(b, SHARE_PARTS) / 2);
	buf_init(&s->table.strings, share(b, SHARE_PARTS) / 2);
	return render_bodies(b, root, &s->body, &s->bodystructure) && fill_parts(&s->table, root);
}

static void
structure_fini(struct structure *s)
{
	buf_fini(&s->body);
	buf_fini(&s->bodystructure);
	buf_fini(&s->table.parts);
	buf_fini(&s->table.strings);
}

/* A header of which only the beginning was kept counts as one that may have anything. */
static bool
headers_are_ascii(const struct mime_tree *tree)
{
	if (tree->overflow || tree->header_truncated)
		return false;
	for (const struct mime_part *part = tree->root; part; part = next_in_order(part))
		if (!slice_is_ascii(part->header))
			return false;
	return true;
}

static void
put_fixed(struct summary_builder *b, const struct mime_tree *tree, struct buf *out)
{
	uint8_t digest[EVP_MAX_MD_SIZE];
	unsigned digest_n = 0;
	struct header_field f;
	struct date_time date = {0};
	bool has_date = header_find(tree->root->header, SLICE("Date"), &f) &&
	    date_rfc5322_parse(f.value, &date);
	bool ok = EVP_DigestFinal_ex(b->sha, digest, &digest_n) == 1;

	assert(ok && digest_n == SUMMARY_SHA256_BYTES);
	put_u8(out, SUMMARY_VERSION);
	put_u8(out, (uint8_t)((b->flat ? SUMMARY_FLAG_FLAT : 0) |
	    (has_date ? SUMMARY_FLAG_DATE : 0) |
	    (headers_are_ascii(tree) ? SUMMARY_FLAG_ASCII_HEADERS : 0)));
	put_u64(out, 0);
	put_u64(out, 0);
	put_u64(out, tree->octets);
	put_u64(out, tree->lines);
	put_u64(out, tree->root->body_start);
	put_u64(out, tree->root->header_lines);
	buf_put(out, digest, digest_n);
	put_u64(out, has_date ? (uint64_t)date.seconds : 0);
	put_u16(out, has_date ? (uint16_t)date.zone_minutes : 0);
}

bool
summary_builder_finish(struct summary_builder *b, struct buf *out)
{
	static const char *const texts[] = {"Subject", "From", "To", "Cc", "Bcc"};
	struct mime_tree tree;
	struct structure s;
	struct mime_part flat;
	size_t from = out->n;

	mime_parser_finish(b->parser, &tree);
	assert(tree.root != NULL);
	struct slice header = tree.root->header;

	b->text_cut = tree.header_truncated;
	b->flat = tree.overflow || !structure_fill(b, tree.root, &s);
	if (b->flat) {
		if (!tree.overflow)
			structure_fini(&s);
		flat = flat_root(tree.root);
		bool ok = structure_fill(b, &flat, &s);

		assert(ok);
	}
	put_fixed(b, &tree, out);
	put_envelope(b, header, out);
	put_slice(out, buf_slice(&s.body));
	put_slice(out, buf_slice(&s.bodystructure));
	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
		put_text(b, header, texts[i], out);
	put_message_id(b, header, out);
	put_ids(b, header, SLICE("In-Reply-To"), out);
	put_ids(b, header, SLICE("References"), out);
	summary_put_preview(tree.root, out);
	put_slice(out, buf_slice(&s.table.strings));
	put_slice(out, buf_slice(&s.table.parts));
	structure_fini(&s);
	if (b->text_cut && !out->failed)
		out->p[from + SUMMARY_FLAGS_AT] |= SUMMARY_FLAG_CUT;
	assert(out->failed || out->n - from <= b->bytes_max);
	return !out->failed;
}
