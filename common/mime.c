/*
 * The parser goes line by line without ever holding a line: of each only
 * what may be a boundary delimiter ("--" at its start while a multipart is open)
 * is kept, up to LINE_HELD_MAX octets, and header lines go to one buffer that
 * is reused for all entities.
 *
 * A delimiter is a whole line: "--", the boundary, perhaps "--", then white space
 * (RFC 2046 5.1.1). Comparing only the line's beginning, as that section also
 * allows, would take "--foobar" for the boundary "foo" of an outer multipart.
 * The innermost open boundary wins; one further out closes all that is inside it,
 * also in the middle of a header.
 */
#include "common/mime.h"

#include "common/mem.h"
#include "common/rfc5322.h"

#include <assert.h>
#include <stdlib.h>

#define LINE_HELD_MAX 512
_Static_assert(LINE_HELD_MAX > MIME_BOUNDARY_BYTES_MAX + 6, "a delimiter line must fit");

enum line_state {
	LINE_START, /* at its first octet */
	LINE_HELD,  /* may be a delimiter; its octets are in held */
	LINE_TEXT,  /* is none */
};

/* A multipart whose boundary is looked for. */
struct level {
	struct mime_part *part;
	struct slice boundary;
};

struct mime_parser {
	struct arena *arena;
	struct mime_limits limits;
	struct mime_tree tree;
	struct mime_part *cur; /* the innermost open entity */
	bool in_header;	       /* of cur */
	struct buf header;     /* of cur, as far as it came */
	struct level *levels;
	size_t levels_n;
	enum line_state line;
	uint8_t held[LINE_HELD_MAX];
	size_t held_n;
	uint64_t line_start; /* offset of the current line; held octets are not counted yet */
	uint8_t last;	     /* the octet read last */
	uint8_t before_lf;   /* the octet before it */
	uint8_t eol_octets;  /* of the line before the current one; 0 at the start */
	bool sampled_plain;
	bool sampled_html;
};

static const struct mime_param default_charset = {
    .name = {(const uint8_t *)"charset", 7}, .value = {(const uint8_t *)"us-ascii", 8}};

/* ---- entities ---- */

static void
set_type(struct mime_part *part, struct slice type, struct slice subtype)
{
	part->type = type;
	part->subtype = subtype;
	part->params = (struct mime_params){0};
}

/* text/plain; charset=us-ascii (RFC 2045 5.2) */
static void
set_default_type(struct mime_part *part)
{
	set_type(part, SLICE("text"), SLICE("plain"));
	/* The cast takes away const: nobody writes to the parameters of a finished tree. */
	part->params.v = (struct mime_param *)(uintptr_t)&default_charset;
	part->params.n = 1;
}

/* A new last child of parent (NULL for the root) whose header starts here; NULL at a cap. */
static struct mime_part *
open_entity(struct mime_parser *p, struct mime_part *parent)
{
	struct mime_part *part = NULL;

	if (p->tree.parts < p->limits.parts_max && !p->tree.overflow)
		part = ARENA_NEW(p->arena, struct mime_part);
	if (part == NULL) {
		p->tree.overflow = true;
		return NULL;
	}
	part->parent = parent;
	part->index = p->tree.parts++;
	part->number = 1;
	part->header_start = p->tree.octets;
	part->header_lines = p->tree.lines;
	set_default_type(part);
	if (parent) {
		struct mime_part **link = &parent->first_child;

		part->depth = parent->depth + 1;
		part->number = ++parent->children;
		if (*link == NULL)
			*link = part;
		else
			parent->last_child->next = part;
		parent->last_child = part;
	}
	p->cur = part;
	p->in_header = true;
	buf_reset(&p->header);
	return part;
}

/* ---- header fields ---- */

static void
keep_text(struct mime_parser *p, struct slice value, struct slice *text_r)
{
	if (!header_unfold(value, p->arena, text_r))
		p->tree.overflow = true;
	*text_r = slice_sub(*text_r, 0, MIME_FIELD_BYTES_MAX);
	if (text_r->p == NULL)
		*text_r = SLICE("");
}

static void
field_type(struct mime_parser *p, struct mime_part *part, struct slice value)
{
	struct mime_value v;

	if (!mime_type_parse(value, p->arena, &v))
		return;
	part->type = v.type;
	part->subtype = v.subtype;
	part->params = v.params;
}

static void
field_encoding(struct mime_parser *p, struct mime_part *part, struct slice value)
{
	(void)p;
	part->encoding_name = mime_token_parse(value);
	part->encoding = transfer_encoding_of(part->encoding_name);
	if (part->encoding_name.n == 0)
		part->encoding_name.p = NULL;
}

static void
field_disposition(struct mime_parser *p, struct mime_part *part, struct slice value)
{
	struct mime_value v;

	if (!mime_disposition_parse(value, p->arena, &v))
		return;
	part->disposition = v.type;
	part->disposition_params = v.params;
}

static void
field_language(struct mime_parser *p, struct mime_part *part, struct slice value)
{
	struct slice tags[MIME_LANGUAGES_MAX];
	size_t n = mime_language_parse(value, MIME_LANGUAGES_MAX, tags);

	if (n == 0)
		return;
	part->languages = arena_array(p->arena, n, sizeof tags[0]);
	if (part->languages == NULL) {
		p->tree.overflow = true;
		return;
	}
	memcpy(part->languages, tags, n * sizeof tags[0]);
	part->languages_n = n;
}

static void
field_id(struct mime_parser *p, struct mime_part *part, struct slice value)
{
	keep_text(p, value, &part->id);
}

static void
field_description(struct mime_parser *p, struct mime_part *part, struct slice value)
{
	keep_text(p, value, &part->description);
}

static void
field_md5(struct mime_parser *p, struct mime_part *part, struct slice value)
{
	keep_text(p, value, &part->md5);
}

static void
field_location(struct mime_parser *p, struct mime_part *part, struct slice value)
{
	keep_text(p, value, &part->location);
}

static const struct {
	const char *name; /* behind "Content-" */
	void (*take)(struct mime_parser *p, struct mime_part *part, struct slice value);
} fields[] = {
    {"Type", field_type},
    {"Transfer-Encoding", field_encoding},
    {"ID", field_id},
    {"Description", field_description},
    {"MD5", field_md5},
    {"Disposition", field_disposition},
    {"Language", field_language},
    {"Location", field_location},
};
#define FIELDS (sizeof fields / sizeof fields[0])

/* Of a field that occurs twice the first counts. */
static void
take_fields(struct mime_parser *p, struct mime_part *part)
{
	struct slice prefix = SLICE("Content-");
	bool seen[FIELDS] = {false};
	struct header_iter it;
	struct header_field f;

	if (!arena_copy(p->arena, buf_slice(&p->header), &part->header)) {
		p->tree.overflow = true;
		return;
	}
	header_iter_init(&it, part->header);
	while (header_next(&it, &f)) {
		if (!slice_starts_nocase(f.name, prefix))
			continue;
		struct slice name = slice_sub(f.name, prefix.n, f.name.n);

		for (size_t i = 0; i < FIELDS; i++) {
			if (seen[i] || !slice_eq_nocase(name, slice_str(fields[i].name)))
				continue;
			seen[i] = true;
			fields[i].take(p, part, f.value);
		}
	}
}

/* ---- from header to body ---- */

static bool
type_is(const struct mime_part *part, struct slice type, struct slice subtype)
{
	return slice_eq_nocase(part->type, type) && slice_eq_nocase(part->subtype, subtype);
}

static bool
is_message(const struct mime_part *part)
{
	return type_is(part, SLICE("message"), SLICE("rfc822")) ||
	    type_is(part, SLICE("message"), SLICE("global"));
}

static void
start_multipart(struct mime_parser *p, struct mime_part *part)
{
	const struct mime_param *param = mime_param_find(&part->params, SLICE("boundary"));
	struct slice boundary = param ? slice_trim(param->value) : slice_of(NULL, 0);

	if (part->depth >= p->limits.depth_max) {
		set_type(part, SLICE("application"), SLICE("octet-stream"));
		return;
	}
	if (boundary.n == 0 || boundary.n > MIME_BOUNDARY_BYTES_MAX) {
		set_default_type(part);
		return;
	}
	part->kind = MIME_MULTIPART;
	p->levels[p->levels_n++] = (struct level){part, boundary};
	assert(p->levels_n <= p->limits.depth_max);
}

static void
start_message(struct mime_parser *p, struct mime_part *part)
{
	bool plain = part->encoding <= TRANSFER_BINARY;

	if (plain && part->depth < p->limits.depth_max && open_entity(p, part) != NULL)
		part->kind = MIME_MESSAGE;
	else
		set_type(part, SLICE("application"), SLICE("octet-stream"));
}

static void
start_sample(struct mime_parser *p, struct mime_part *part)
{
	bool plain = type_is(part, SLICE("text"), SLICE("plain"));
	bool html = type_is(part, SLICE("text"), SLICE("html"));
	bool *sampled = plain ? &p->sampled_plain : &p->sampled_html;

	if ((!plain && !html) || *sampled || p->limits.sample_bytes == 0)
		return;
	part->sample = slice_of(arena_alloc(p->arena, p->limits.sample_bytes), 0);
	*sampled = part->sample.p != NULL;
}

/* Ends cur's header; its body starts at body_start. Opens the embedded message, if it is one. */
static void
end_header(struct mime_parser *p, uint64_t body_start)
{
	struct mime_part *part = p->cur;
	struct mime_part *parent = part->parent;

	p->in_header = false;
	part->body_start = body_start;
	part->body_end = body_start;
	part->header_lines = p->tree.lines - part->header_lines;
	part->body_lines = p->tree.lines;
	if (parent && type_is(parent, SLICE("multipart"), SLICE("digest")))
		set_type(part, SLICE("message"), SLICE("rfc822"));
	take_fields(p, part);
	if (slice_eq_nocase(part->type, SLICE("multipart")))
		start_multipart(p, part);
	else if (is_message(part))
		start_message(p, part);
	else
		start_sample(p, part);
}

/* ---- ends of bodies ---- */

/*
 * Ends part's body at `end`, or where its header or last child ended when that is later. `lines`
 * counts the LFs before `at`, where the line that ends it begins: one less are before `end`
 * when a line end lies between.
 */
static void
close_entity(struct mime_part *part, uint64_t end, uint64_t at, uint64_t lines)
{
	if (end < part->body_start)
		end = part->body_start;
	if (part->last_child && end < part->last_child->body_end)
		end = part->last_child->body_end;
	assert(end <= at);
	part->body_end = end;
	part->body_lines = lines - (end < at) - part->body_lines;
	if (part->sample.n > end - part->body_start)
		part->sample.n = (size_t)(end - part->body_start);
	if (part->kind == MIME_MULTIPART && part->children == 0) {
		part->kind = MIME_LEAF;
		set_default_type(part);
	}
}

/*
 * A delimiter line of level k begins at p->line_start: closes all inside it, headers that
 * stopped short first.
 */
static void
close_inside(struct mime_parser *p, size_t k)
{
	uint64_t at = p->line_start;

	while (p->in_header)
		end_header(p, at);
	for (; p->cur != p->levels[k].part; p->cur = p->cur->parent)
		close_entity(p->cur, at - p->eol_octets, at, p->tree.lines);
	p->levels_n = k + 1;
}

/* The level whose delimiter the held line is; levels_n when it is none. */
static size_t
match_delimiter(const struct mime_parser *p, bool *closing_r)
{
	struct slice line = slice_of(p->held, p->held_n);

	while (line.n > 0 && memchr(" \t\r\n", line.p[line.n - 1], 4) != NULL)
		line.n--;
	if (!slice_starts(line, SLICE("--")))
		return p->levels_n;
	line = slice_sub(line, 2, line.n);
	for (size_t k = p->levels_n; k-- > 0;) {
		struct slice boundary = p->levels[k].boundary;

		if (line.n != boundary.n && line.n != boundary.n + 2)
			continue;
		if (!slice_starts(line, boundary))
			continue;
		*closing_r = line.n == boundary.n + 2;
		if (!*closing_r || slice_eq(slice_sub(line, boundary.n, line.n), SLICE("--")))
			return k;
	}
	return p->levels_n;
}

/* ---- octets ---- */

static void
keep_header(struct mime_parser *p, struct slice s)
{
	size_t max = p->cur->parent ? p->limits.part_header_bytes : p->limits.root_header_bytes;
	size_t room = p->header.n < max ? max - p->header.n : 0;

	buf_put_slice(&p->header, slice_sub(s, 0, room));
	p->tree.header_truncated |= s.n > room;
}

static void
keep_sample(struct mime_parser *p, struct slice s)
{
	struct slice *sample = &p->cur->sample;
	size_t room = sample->p ? p->limits.sample_bytes - sample->n : 0;
	size_t n = s.n < room ? s.n : room;

	if (n == 0)
		return;
	memcpy((uint8_t *)(uintptr_t)sample->p + sample->n, s.p, n);
	sample->n += n;
}

/* Counts octets of one line as read; a LF may only be the last. */
static void
advance(struct mime_parser *p, struct slice s)
{
	if (s.n == 0)
		return;
	p->before_lf = s.n > 1 ? s.p[s.n - 2] : p->last;
	p->last = s.p[s.n - 1];
	p->tree.octets += s.n;
	p->tree.lines += p->last == '\n';
}

/* After a LF. Returns whether the line was empty. */
static bool
next_line(struct mime_parser *p)
{
	uint64_t n = p->tree.octets - p->line_start;

	p->eol_octets = n > 1 && p->before_lf == '\r' ? 2 : 1;
	p->line_start = p->tree.octets;
	p->line = LINE_START;
	p->held_n = 0;
	return n == p->eol_octets;
}

/* Octets of one line that is no delimiter. An empty line ends a header. */
static void
take_text(struct mime_parser *p, struct slice s)
{
	if (p->in_header)
		keep_header(p, s);
	else
		keep_sample(p, s);
	advance(p, s);
	if (s.n > 0 && s.p[s.n - 1] == '\n' && next_line(p) && p->in_header)
		end_header(p, p->tree.octets);
}

/* The held line is complete, with its LF or by the end of the message. */
static void
end_held(struct mime_parser *p)
{
	struct slice line = slice_of(p->held, p->held_n);
	bool closing = false;
	size_t k = match_delimiter(p, &closing);

	if (k == p->levels_n) {
		p->line = LINE_TEXT;
		take_text(p, line);
		return;
	}
	close_inside(p, k);
	advance(p, line);
	next_line(p);
	if (closing)
		p->levels_n = k;
	else
		open_entity(p, p->cur);
}

/* Holds octets of a line, up to its LF or to where it is known to be no delimiter; returns how many. */
static size_t
hold(struct mime_parser *p, struct slice s)
{
	size_t n = s.n < LINE_HELD_MAX - p->held_n ? s.n : LINE_HELD_MAX - p->held_n;

	memcpy(p->held + p->held_n, s.p, n);
	p->held_n += n;
	if (p->held[p->held_n - 1] == '\n')
		end_held(p);
	else if (p->held_n == LINE_HELD_MAX || (p->held_n > 1 && p->held[1] != '-')) {
		p->line = LINE_TEXT;
		take_text(p, slice_of(p->held, p->held_n));
	}
	return n;
}

/* ---- the parser ---- */

struct mime_parser *
mime_parser_new(struct arena *a, const struct mime_limits *limits)
{
	struct mime_parser *p = MEM_NEW(struct mime_parser);
	size_t header_max = limits->root_header_bytes > limits->part_header_bytes
	    ? limits->root_header_bytes
	    : limits->part_header_bytes;

	p->arena = a;
	p->limits = *limits;
	p->levels = mem_new_array(limits->depth_max, sizeof *p->levels);
	buf_init(&p->header, header_max);
	p->tree.root = open_entity(p, NULL);
	return p;
}

void
mime_parser_free(struct mime_parser **p)
{
	if (*p == NULL)
		return;
	buf_fini(&(*p)->header);
	free((*p)->levels);
	MEM_FREE(p);
}

void
mime_parser_feed(struct mime_parser *p, struct slice in)
{
	while (p->tree.root != NULL && in.n > 0) {
		size_t lf = slice_index(in, '\n');
		size_t n = lf < in.n ? lf + 1 : in.n;

		if (p->line == LINE_START)
			p->line = p->levels_n > 0 && in.p[0] == '-' ? LINE_HELD : LINE_TEXT;
		if (p->line == LINE_HELD)
			n = hold(p, slice_sub(in, 0, n));
		else
			take_text(p, slice_sub(in, 0, n));
		in = slice_sub(in, n, in.n);
	}
}

void
mime_parser_finish(struct mime_parser *p, struct mime_tree *tree_r)
{
	if (p->tree.root != NULL) {
		if (p->line == LINE_HELD)
			end_held(p);
		while (p->in_header)
			end_header(p, p->tree.octets);
		for (struct mime_part *part = p->cur; part; part = part->parent)
			close_entity(part, p->tree.octets, p->tree.octets, p->tree.lines);
	}
	p->cur = NULL;
	*tree_r = p->tree;
}
