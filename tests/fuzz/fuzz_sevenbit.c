/*
 * Messages for servers that take 7 bits: what comes out has no octet over 127, no NUL and no long line, is as long as was said, has the
 * same structure, every body decodes to what it was, and nothing is left to do; written in pieces it is the same.
 */
#include "common/memfd.h"
#include "common/mime.h"
#include "smtpd/octets.h"
#include "smtpd/sevenbit.h"

#include <assert.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void
write_all(const struct sevenbit_plan *plan, struct slice in, size_t piece, struct buf *out)
{
	struct sevenbit_writer w;

	sevenbit_write_begin(&w, plan->changes, plan->count, in.n);
	for (size_t i = 0; i < in.n; i += piece)
		sevenbit_write(&w, slice_sub(in, i, i + piece), out);
}

static void
parse(struct slice in, struct arena *a, struct mime_tree *tree_r)
{
	struct mime_parser *p = mime_parser_new(a, &MIME_LIMITS_DEFAULT);

	mime_parser_feed(p, in);
	mime_parser_finish(p, tree_r);
	mime_parser_free(&p);
	assert(tree_r->root != NULL);
}

static void
decode(const struct mime_part *part, struct slice in, struct buf *out)
{
	struct slice body = slice_sub(in, (size_t)part->body_start, (size_t)part->body_end);
	struct transfer_decoder d;

	buf_reset(out);
	transfer_decoder_init(&d, part->encoding);
	bool ok = transfer_decode(&d, body, out) && transfer_decode_end(&d, out);

	assert(ok);
}

/* Which one line end more is nothing: the last line of a message gets one. */
static void
check_bodies(const struct mime_part *was, struct slice in, const struct mime_part *is, struct slice out, size_t max)
{
	struct buf a, b;

	buf_init(&a, max);
	buf_init(&b, max);
	for (; was != NULL; was = was->next, is = is->next) {
		assert(is != NULL && was->kind == is->kind && slice_eq(was->type, is->type) && slice_eq(was->subtype, is->subtype));
		if (was->kind == MIME_LEAF) {
			decode(was, in, &a);
			decode(is, out, &b);
			assert(slice_eq(buf_slice(&a), buf_slice(&b)));
		}
		check_bodies(was->first_child, in, is->first_child, out, max);
	}
	assert(is == NULL);
	buf_fini(&a);
	buf_fini(&b);
}

static void
check_changed(struct slice in, const struct sevenbit_plan *plan, struct arena *a)
{
	int64_t said = sevenbit_octets(plan->changes, plan->count, in.n);
	size_t max = SEVENBIT_WRITTEN_MAX(in.n) + 1;
	struct octets look = {.eightbit = false};
	struct mime_tree was, is;
	struct sevenbit_plan again;
	struct buf out, pieces;
	struct err e;

	buf_init(&out, max);
	buf_init(&pieces, max);
	write_all(plan, in, in.n, &out);
	write_all(plan, in, 1 + in.n % 7, &pieces);
	assert(said == (int64_t)out.n && slice_eq(buf_slice(&out), buf_slice(&pieces)));
	octets_look(&look, buf_slice(&out));
	assert(!look.eightbit && !look.nul && !look.line_too_long);
	parse(in, a, &was);
	parse(buf_slice(&out), a, &is);
	check_bodies(was.root, in, is.root, buf_slice(&out), max);
	int fd = memfd_of(buf_slice(&out), &e);

	assert(fd >= 0 && sevenbit_plan(fd, 0, out.n, &again) == SEVENBIT_IS && !again.needed);
	(void)close(fd);
	buf_fini(&out);
	buf_fini(&pieces);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct slice in = slice_of(data, n);
	struct sevenbit_plan plan;
	struct err e;
	int fd = memfd_of(in, &e);
	enum sevenbit_result r;

	if (n > 100000 || fd < 0)
		return 0;
	r = sevenbit_plan(fd, 0, n, &plan);
	(void)close(fd);
	assert(r != SEVENBIT_UNREAD && (r == SEVENBIT_CANNOT) == (plan.why != NULL));
	if (r == SEVENBIT_IS)
		assert(!plan.needed);
	if (r == SEVENBIT_CAN) {
		struct arena *a = arena_new(64u << 20);

		check_changed(in, &plan, a);
		arena_free(&a);
	}
	return 0;
}
