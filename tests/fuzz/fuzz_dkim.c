/*
 * A whole message through the DKIM check, guards on: the first line is the key record, then a message. libopendkim is not
 * instrumented, but its allocations are the sanitizer's.
 */
#include "common/rfc5322.h"
#include "smtpd/dkim_check.h"
#include "tests/unit/fake_dns.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

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
	struct dkim_check *c = dkim_check_new(&d.asker, 1750000000, on_done, &ended);
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
	return 0;
}
