/*
 * A whole message through the DKIM check, guards on: the first line is the key record, then a message. libopendkim is not
 * instrumented, but its allocations are the sanitizer's. Judged again by code of our own, from what was kept, it comes to the same.
 */
#include "common/rfc5322.h"
#include "smtpd/dkim_check.h"
#include "tests/unit/fake_dns.h"
#include "tests/unit/played.h"

#define NOW 1750000000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct answers *written;
static const struct dkim_outcome *first;

static void
on_again(void *arg, const struct dkim_outcome *o)
{
	bool *ended = arg;

	assert(!*ended && o->count == first->count);
	*ended = true;
	for (unsigned i = 0; i < o->count; i++) {
		const struct dkim_signature *a = &o->signatures[i], *b = &first->signatures[i];

		assert(a->result == b->result && slice_eq(a->reason, b->reason) && a->key_bits == b->key_bits);
		assert(a->partial == b->partial && a->testing == b->testing);
	}
}

static void
judge_again(const struct dkim_outcome *o)
{
	struct answers *a = played(written);
	struct dkim_check *c;
	bool ended = false;

	first = o;
	c = dkim_check_again(answers_asker(a), NOW, o->evidence, o->count, o->broken, on_again, &ended);
	dkim_check_end(c);
	answers_play(a);
	dkim_check_expire(c);
	assert(ended);
	dkim_check_free(&c);
	answers_free(&a);
}

static void
on_done(void *arg, const struct dkim_outcome *o)
{
	bool *ended = arg;

	assert(!*ended);
	*ended = true;
	assert(o->count <= DKIM_SIGNATURES_MAX);
	for (unsigned i = 0; i < o->count; i++) {
		assert(o->signatures[i].result < DKIM_RESULT_COUNT && o->signatures[i].result != DKIM_RESULT_NONE);
		assert(o->signatures[i].domain.n <= DKIM_TAG_BYTES_MAX && o->signatures[i].b_prefix.n <= DKIM_TAG_BYTES_MAX);
		assert((o->signatures[i].result == DKIM_RESULT_PASS) == (o->signatures[i].reason.n == 0));
	}
	if (!answers_cut(written))
		judge_again(o);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static struct fake_dns d;
	struct slice rest = slice_of(data, n), key, block;
	struct header_field field;
	struct header_iter it;
	bool ended = false;

	if (n > 65536 || !slice_cut(&rest, '\n', &key))
		return 0;
	fake_dns_init(&d);
	fake_row(&d, "*", DNS_TXT)->data = key;
	block = slice_sub(rest, 0, header_block_length(rest));
	written = answers_new(&d.asker);
	struct dkim_check *c = dkim_check_new(answers_asker(written), NOW, on_done, &ended);
	header_iter_init(&it, block);
	while (header_next(&it, &field))
		dkim_check_header(c, field.raw);
	dkim_check_header_end(c);
	fake_dns_run(&d);
	dkim_check_body(c, slice_sub(rest, block.n, (block.n + rest.n) / 2));
	dkim_check_body(c, slice_sub(rest, (block.n + rest.n) / 2, rest.n));
	dkim_check_end(c);
	assert(ended);
	dkim_check_free(&c);
	answers_free(&written);
	return 0;
}
