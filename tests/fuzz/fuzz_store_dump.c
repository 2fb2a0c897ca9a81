/*
 * Dumps as somebody gives them. The end is put right, so that what lies before it is reached. What is taken strictly is
 * written and read again to the same text; a lenient reader takes anything.
 */
#include "store/dump.h"

#include <assert.h>
#include <openssl/evp.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define TEXT_BYTES_MAX (4u << 20)

static bool
parse(struct slice text, size_t step, bool lenient, struct image *im)
{
	struct dump_reader *r = dump_reader_new(im, lenient);
	bool ok = true;

	for (size_t at = 0; ok && at < text.n; at += step)
		ok = dump_reader_feed(r, slice_sub(text, at, at + step), NULL) == 0;
	ok = ok && dump_reader_end(r, NULL) == 0;
	assert(!lenient || ok);
	assert(!ok || lenient || (dump_reader_whole(r) && dump_reader_bad(r) == 0));
	dump_reader_free(&r);
	return ok;
}

static void
put_end(struct buf *b)
{
	uint8_t sum[EVP_MAX_MD_SIZE];
	uint64_t lines = 0;

	for (size_t i = 0; i < b->n; i++)
		lines += b->p[i] == '\n';
	EVP_Digest(b->p, b->n, sum, NULL, EVP_sha256(), NULL);
	dump_put_end(b, lines, sum);
}

static void
print_mailbox(struct buf *b, const struct image_mailbox *mb)
{
	dump_put_mailbox(b, &mb->m);
	dump_put_keywords(b, mb->m.number, buf_slice(&mb->keywords));
	for (size_t i = 0; i < mb->tombstone_count; i++) {
		struct uid_range range = mb->tombstones[i].uids;
		struct uidset set = {.ranges = &range, .n = 1};

		dump_put_tombstones(b, mb->m.number, mb->tombstones[i].modseq, &set);
	}
	for (size_t i = 0; i < mb->message_count; i++)
		dump_put_message(b, mb->m.number, &mb->messages[i], buf_slice(&mb->keywords));
}

static void
print(const struct image *im, struct buf *b)
{
	dump_put_head(b);
	dump_put_account(b, &im->account);
	for (size_t i = 0; i < im->mailbox_count; i++)
		print_mailbox(b, &im->mailboxes[i]);
	for (size_t i = 0; i < im->expunged_count; i++) {
		const struct image_expunged *x = &im->expunged[i];
		const struct image_mailbox *mb = image_mailbox(im, x->mailbox);

		dump_put_expunged(b, x->time, x->mailbox, &x->m, mb != NULL ? buf_slice(&mb->keywords) : SLICE(""));
	}
	put_end(b);
}

/* Printed, parsed and printed again it is the same. */
static void
round_trip(const struct image *im)
{
	struct image again;
	struct buf one, two;

	buf_init(&one, TEXT_BYTES_MAX);
	buf_init(&two, TEXT_BYTES_MAX);
	print(im, &one);
	if (!one.failed) {
		bool ok = parse(buf_slice(&one), one.n, false, &again);

		assert(ok);
		print(&again, &two);
		assert(slice_eq(buf_slice(&one), buf_slice(&two)));
		image_fini(&again);
	}
	buf_fini(&one);
	buf_fini(&two);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct image im, other;
	struct buf b;

	if (n > 65536)
		return 0;
	parse(slice_of(data, n), n + 1, true, &im);
	image_fini(&im);
	buf_init(&b, TEXT_BYTES_MAX);
	buf_put(&b, data, n);
	put_end(&b);
	bool ok = parse(buf_slice(&b), b.n, false, &im), same = parse(buf_slice(&b), 1, false, &other);

	assert(ok == same);
	if (ok)
		round_trip(&im);
	image_fini(&im);
	image_fini(&other);
	buf_fini(&b);
	return 0;
}
