/* RFC 2045, 2046, 2049: the structure of messages, sound and broken, whole and in pieces. */
#include "common/mime.h"

#include "common/buf.h"

#include <check.h>

#define ARENA_BYTES (8 << 20)

static void
parse(struct slice m, size_t chunk, const struct mime_limits *limits, struct arena *a,
    struct mime_tree *tree)
{
	struct mime_parser *p = mime_parser_new(a, limits);

	for (size_t i = 0; i < m.n; i += chunk)
		mime_parser_feed(p, slice_sub(m, i, i + chunk));
	mime_parser_finish(p, tree);
	mime_parser_free(&p);
	ck_assert_ptr_null(p);
}

static const struct mime_part *
next_part(const struct mime_part *part)
{
	if (part->first_child)
		return part->first_child;
	while (part && part->next == NULL)
		part = part->parent;
	return part ? part->next : NULL;
}

/* One part a line: ". " per depth, type, number, [body] of a leaf (cut to 60 octets). */
static void
render(const struct mime_tree *tree, struct slice m, struct buf *b)
{
	buf_reset(b);
	for (const struct mime_part *p = tree->root; p; p = next_part(p)) {
		for (uint32_t i = 0; i < p->depth; i++)
			buf_put_str(b, ". ");
		buf_put_slice(b, p->type);
		buf_put_str(b, "/");
		buf_put_slice(b, p->subtype);
		buf_putf(b, " %u", p->number);
		if (p->kind == MIME_LEAF) {
			buf_put_str(b, " [");
			buf_put_slice(b, slice_sub(m, p->body_start,
					     p->body_end < p->body_start + 60 ? p->body_end
									      : p->body_start + 60));
			buf_put_str(b, "]");
		}
		buf_put_str(b, "\n");
	}
}

static uint64_t
count_lines(struct slice m, uint64_t from, uint64_t to)
{
	uint64_t lines = 0;

	for (uint64_t i = from; i < to; i++)
		lines += m.p[i] == '\n';
	return lines;
}

/* What must hold for every tree (mime.h). */
static void
check_tree(const struct mime_tree *tree, struct slice m)
{
	uint32_t count = 0;

	ck_assert_uint_eq(tree->octets, m.n);
	for (const struct mime_part *p = tree->root; p; p = next_part(p)) {
		ck_assert_uint_eq(p->index, count);
		count++;
		ck_assert_uint_le(p->header_start, p->body_start);
		ck_assert_uint_le(p->body_start, p->body_end);
		ck_assert_uint_le(p->body_end, m.n);
		ck_assert((p->kind == MIME_LEAF) == (p->first_child == NULL));
		if (p->kind == MIME_MESSAGE)
			ck_assert_uint_eq(p->first_child->header_start, p->body_start);
		ck_assert_uint_eq(p->header_lines, count_lines(m, p->header_start, p->body_start));
		ck_assert_uint_eq(p->body_lines, count_lines(m, p->body_start, p->body_end));
		if (p->parent) {
			ck_assert_uint_ge(p->header_start, p->parent->body_start);
			ck_assert_uint_le(p->body_end, p->parent->body_end);
		}
	}
	ck_assert_uint_eq(count, tree->parts);
}

#define MULTI(b) "Content-Type: multipart/mixed; boundary=\"" b "\"\r\n\r\n"

static const struct {
	const char *in;
	const char *want;
} rows[] = {
    {"", "text/plain 1 []\n"},
    {"\r\n", "text/plain 1 []\n"},
    {"\r\nbody", "text/plain 1 [body]\n"},
    {"A: b\r\n", "text/plain 1 []\n"},
    {"A: b\r\n\r\nx\r\ny\r\n", "text/plain 1 [x\r\ny\r\n]\n"},
    {"A: b\n\nx\ny", "text/plain 1 [x\ny]\n"},
    {"A: b\r\n\r\n\0", "text/plain 1 []\n"},
    {"Content-Type: image/png\r\n\r\n--a\r\n", "image/png 1 [--a\r\n]\n"},
    /* RFC 2046 5.1.1: preamble, epilogue, a part without header, the line end of the boundary */
    {MULTI("simple boundary") "pre\r\n--simple boundary\r\n\r\nno line end\r\n"
			      "--simple boundary\r\nContent-type: text/plain; charset=us-ascii\r\n\r\n"
			      "with one\r\n\r\n--simple boundary--\r\nepilogue\r\n--simple boundary\r\n",
	"multipart/mixed 1\n. text/plain 1 [no line end]\n"
	". text/plain 2 [with one\r\n]\n"},
    /* 5.1.2: an outer boundary ends the inner multipart that was not closed */
    {MULTI("o") "--o\r\n" MULTI("i") "--i\r\n\r\na\r\n--o\r\n\r\nb\r\n--o--\r\n",
	"multipart/mixed 1\n. multipart/mixed 1\n. . text/plain 1 [a]\n"
	". text/plain 2 [b]\n"},
    /* boundaries that begin with each other, in both orders */
    {MULTI("a") "--a\r\n" MULTI("ab") "--ab\r\n\r\nx\r\n--ab--\r\n--a--\r\n",
	"multipart/mixed 1\n. multipart/mixed 1\n. . text/plain 1 [x]\n"},
    {MULTI("ab") "--ab\r\n" MULTI("a") "--a\r\n\r\nx\r\n--a--\r\n--ab--\r\n",
	"multipart/mixed 1\n. multipart/mixed 1\n. . text/plain 1 [x]\n"},
    {MULTI("a") "--a\r\n" MULTI("a--") "--a----\r\n--a--\r\n",
	"multipart/mixed 1\n. text/plain 1 [--a----]\n"},
    /* 5.1.5: the default of a digest's parts */
    {"Content-Type: multipart/digest; boundary=d\r\n\r\n--d\r\n\r\nSubject: x\r\n\r\nbody\r\n--d--",
	"multipart/digest 1\n. message/rfc822 1\n. . text/plain 1 [body]\n"},
    {"Content-Type: message/rfc822\r\n\r\nA: b\r\n\r\nx", "message/rfc822 1\n. text/plain 1 [x]\n"},
    {"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nQQ==",
	"application/octet-stream 1 [QQ==]\n"},
    {MULTI("b") "--b\r\nContent-Type: message/rfc822\r\n\r\n--b--\r\n",
	"multipart/mixed 1\n. message/rfc822 1\n. . text/plain 1 []\n"},
    /* broken: no closing delimiter; none at the end of the line; none at all; no boundary */
    {MULTI("b") "--b\r\n\r\nx\r\n", "multipart/mixed 1\n. text/plain 1 [x\r\n]\n"},
    {MULTI("b") "--b\r\n\r\nx\r\n--b--", "multipart/mixed 1\n. text/plain 1 [x]\n"},
    {MULTI("b") "x\r\n", "text/plain 1 [x\r\n]\n"},
    {MULTI("b") "--b--\r\n", "text/plain 1 [--b--\r\n]\n"},
    {"Content-Type: multipart/mixed\r\n\r\n--\r\nx", "text/plain 1 [--\r\nx]\n"},
    {"Content-Type: multipart/mixed; boundary=\"\"\r\n\r\n--\r\nx", "text/plain 1 [--\r\nx]\n"},
    /* a delimiter in the middle of a header, and right after another */
    {MULTI("b") "--b\r\nContent-Type: image/png\r\n--b\r\n--b\r\n\r\n--b--\r\n",
	"multipart/mixed 1\n. image/png 1 []\n. text/plain 2 []\n"
	". text/plain 3 []\n"},
    /* bare LF, white space behind a boundary, lines that only look like one */
    {"Content-Type: multipart/mixed; boundary=b\n\n--b \t\n\nx\n--b--\n",
	"multipart/mixed 1\n. text/plain 1 [x]\n"},
    {MULTI("b") "--b\r\n\r\n-\r\n--\r\n--c\r\n--bb\r\n --b\r\n-- b\r\n--b-\r\n--b--x\r\n--b--\r\n",
	"multipart/mixed 1\n. text/plain 1 [-\r\n--\r\n--c\r\n--bb\r\n --b\r\n-- b\r\n--b-\r\n"
	"--b--x]\n"},
    {MULTI("b") "--b\r\n\r\na\rb\r--b\r\n--b--\r\n",
	"multipart/mixed 1\n. text/plain 1 [a\rb\r--b]\n"},
    /* the same boundary inside: the inner one is closed first */
    {MULTI("b") "--b\r\n" MULTI("b") "--b\r\n\r\nx\r\n--b--\r\n--b\r\n\r\ny\r\n--b--\r\n",
	"multipart/mixed 1\n. multipart/mixed 1\n. . text/plain 1 [x]\n"
	". text/plain 2 [y]\n"},
    /* of two Content-Type fields the first counts; one that cannot be read is the default */
    {"Content-Type: text/html\r\nContent-Type: image/png\r\n\r\n", "text/html 1 []\n"},
    {"Content-Type: nonsense\r\n\r\n", "text/plain 1 []\n"},
    {"Content-Type: text/html", "text/html 1 []\n"},
};

/* Every row whole, octet by octet and in chunks of 2 to 7 octets. */
START_TEST(test_rows)
{
	const struct mime_limits limits = MIME_LIMITS_DEFAULT;
	struct arena *a = arena_new(ARENA_BYTES);
	struct buf b;

	buf_init(&b, 65536);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		for (size_t chunk = 1; chunk <= 8; chunk++) {
			struct slice m = slice_str(rows[i].in);
			struct mime_tree tree;

			parse(m, chunk == 8 ? m.n + 1 : chunk, &limits, a, &tree);
			render(&tree, m, &b);
			ck_assert_msg(slice_eq(buf_slice(&b), slice_str(rows[i].want)),
			    "%s\n---\n%.*swant\n%s", rows[i].in, (int)b.n, (char *)b.p, rows[i].want);
			check_tree(&tree, m);
			ck_assert(!tree.overflow && !tree.header_truncated);
			arena_reset(a);
		}
	buf_fini(&b);
	arena_free(&a);
}
END_TEST

START_TEST(test_fields)
{
	static const char m[] = "Content-Type: text/plain; charset=\"utf-8\"\r\n"
				"Content-Transfer-Encoding: (c) Quoted-Printable\r\n"
				"Content-ID: <a@b>\r\nContent-Description: two\r\n lines\r\n"
				"Content-MD5: Q2hlY2s=\r\nContent-Language: en, de\r\n"
				"Content-Location: http://x/\r\n"
				"Content-Disposition: attachment; filename=f\r\n\r\nbody=\r\n";
	const struct mime_limits limits = MIME_LIMITS_DEFAULT;
	struct arena *a = arena_new(ARENA_BYTES);
	struct mime_tree tree;

	parse(slice_str(m), 1, &limits, a, &tree);
	const struct mime_part *p = tree.root;

	ck_assert_int_eq(p->encoding, TRANSFER_QUOTED_PRINTABLE);
	ck_assert(slice_eq(p->encoding_name, SLICE("Quoted-Printable")));
	ck_assert(slice_eq(p->id, SLICE("<a@b>")));
	ck_assert(slice_eq(p->description, SLICE("two lines")));
	ck_assert(slice_eq(p->md5, SLICE("Q2hlY2s=")));
	ck_assert(slice_eq(p->location, SLICE("http://x/")));
	ck_assert(slice_eq(p->disposition, SLICE("attachment")));
	ck_assert_uint_eq(p->disposition_params.n, 1);
	ck_assert_uint_eq(p->languages_n, 2);
	ck_assert(slice_eq(p->languages[1], SLICE("de")));
	ck_assert(slice_eq(p->sample, SLICE("body=\r\n")));
	ck_assert_uint_eq(p->header.n, p->body_start);
	arena_free(&a);
}
END_TEST

/* depth nested multiparts, each the only part of the one before. */
static void
nest(struct buf *b, size_t depth)
{
	buf_reset(b);
	for (size_t i = 0; i < depth; i++)
		buf_putf(b, "Content-Type: multipart/mixed; boundary=b%zu\r\n\r\n--b%zu\r\n", i, i);
	buf_put_str(b, "\r\nbody\r\n");
}

START_TEST(test_depth)
{
	struct mime_limits limits = MIME_LIMITS_DEFAULT;
	struct arena *a = arena_new(ARENA_BYTES);
	struct buf b;

	limits.depth_max = 5;
	buf_init(&b, 1 << 20);
	for (size_t depth = 4; depth <= 6; depth++) {
		struct mime_tree tree;

		nest(&b, depth);
		parse(buf_slice(&b), 7, &limits, a, &tree);
		check_tree(&tree, buf_slice(&b));
		ck_assert_uint_eq(tree.parts, depth < 5 ? depth + 1 : 6);
		const struct mime_part *p = tree.root;
		while (p->first_child)
			p = p->first_child;
		ck_assert(slice_eq(p->type, depth <= 5 ? SLICE("text") : SLICE("application")));
		arena_reset(a);
	}
	/* Far too deep costs no more. */
	nest(&b, 10000);
	struct mime_tree tree;
	parse(buf_slice(&b), 1000, &limits, a, &tree);
	ck_assert_uint_eq(tree.parts, 6);
	buf_fini(&b);
	arena_free(&a);
}
END_TEST

START_TEST(test_parts)
{
	struct mime_limits limits = MIME_LIMITS_DEFAULT;
	struct arena *a = arena_new(ARENA_BYTES);
	struct mime_tree tree;
	struct buf b;

	limits.parts_max = 10;
	buf_init(&b, 4 << 20);
	for (size_t parts = 9; parts <= 11; parts++) {
		buf_reset(&b);
		buf_put_str(&b, MULTI("b"));
		for (size_t i = 1; i < parts; i++)
			buf_put_str(&b, "--b\r\n\r\nx\r\n");
		parse(buf_slice(&b), 13, &limits, a, &tree);
		check_tree(&tree, buf_slice(&b));
		ck_assert_uint_eq(tree.parts, parts < 10 ? parts : 10);
		ck_assert(tree.overflow == (parts > 10));
		arena_reset(a);
	}
	/* 200,000 parts (a message of this kind took another library 399 MB). */
	limits = MIME_LIMITS_DEFAULT;
	for (size_t i = 0; i < 200000; i++)
		buf_put_str(&b, "--b\r\n\r\nx\r\n");
	parse(buf_slice(&b), 65536, &limits, a, &tree);
	ck_assert(tree.overflow && tree.parts == limits.parts_max);
	ck_assert_uint_lt(arena_used(a), 1 << 20);
	buf_fini(&b);
	arena_free(&a);
}
END_TEST

START_TEST(test_header_limits)
{
	struct mime_limits limits = MIME_LIMITS_DEFAULT;
	struct arena *a = arena_new(ARENA_BYTES);
	struct slice m = SLICE("Content-Type: message/rfc822\r\n\r\nA: 1234567890\r\n\r\nx");
	struct mime_tree tree;

	for (size_t max = 16; max <= 18; max++)
		for (size_t chunk = 1; chunk <= 100; chunk += 99) {
			limits.part_header_bytes = max;
			parse(m, chunk, &limits, a, &tree);
			ck_assert(tree.header_truncated == (max < 17));
			ck_assert_uint_eq(tree.root->first_child->header.n, max < 17 ? max : 17);
			check_tree(&tree, m);
			arena_reset(a);
		}
	arena_free(&a);
}
END_TEST

/* An arena that is too small at any point gives overflow, not a fault. */
START_TEST(test_arena_cap)
{
	const struct mime_limits limits = MIME_LIMITS_DEFAULT;
	struct slice m = SLICE(MULTI("b") "--b\r\nContent-Type: message/rfc822\r\n"
					  "Content-Language: en\r\nContent-ID: a\r\n b\r\n\r\n"
					  "A: b\r\n\r\nx\r\n--b\r\n\r\ny\r\n--b--\r\n");
	bool whole = false;

	for (size_t bytes = 0; !whole; bytes += 16) {
		struct arena *a = arena_new(bytes);
		struct mime_tree tree;

		parse(m, 5, &limits, a, &tree);
		if (tree.root)
			check_tree(&tree, m);
		whole = tree.root && !tree.overflow && tree.parts == 4 &&
		    tree.root->first_child->languages_n == 1;
		ck_assert_uint_lt(bytes, 100000);
		arena_free(&a);
	}
}
END_TEST

START_TEST(test_boundary_length)
{
	const struct mime_limits limits = MIME_LIMITS_DEFAULT;
	struct arena *a = arena_new(ARENA_BYTES);
	char boundary[MIME_BOUNDARY_BYTES_MAX + 2];
	struct mime_tree tree;
	struct buf b;

	buf_init(&b, 65536);
	for (size_t n = MIME_BOUNDARY_BYTES_MAX - 1; n <= MIME_BOUNDARY_BYTES_MAX + 1; n++) {
		memset(boundary, 'b', n);
		boundary[n] = '\0';
		buf_reset(&b);
		buf_putf(&b, "Content-Type: multipart/mixed; boundary=%s\r\n\r\n--%s\r\n\r\nx\r\n--%s--",
		    boundary, boundary, boundary);
		parse(buf_slice(&b), 3, &limits, a, &tree);
		ck_assert_uint_eq(tree.parts, n <= MIME_BOUNDARY_BYTES_MAX ? 2 : 1);
	}
	buf_fini(&b);
	arena_free(&a);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("mime");
	TCase *t = tcase_create("mime");

	tcase_set_timeout(t, 30);
	tcase_add_test(t, test_rows);
	tcase_add_test(t, test_fields);
	tcase_add_test(t, test_depth);
	tcase_add_test(t, test_parts);
	tcase_add_test(t, test_header_limits);
	tcase_add_test(t, test_arena_cap);
	tcase_add_test(t, test_boundary_length);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed != 0;
}
