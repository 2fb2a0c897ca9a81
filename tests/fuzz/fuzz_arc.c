/*
 * A whole message through the ARC check: the first line is the key record of every signature, then a message. Reading what sealers
 * say is tried with the whole input besides, and the canonical forms must not depend on how the body is cut. Judged again from what
 * was kept, the chain comes to the same.
 */
#include "common/rfc5322.h"
#include "smtpd/arc_check.h"
#include "smtpd/dkim_canon.h"
#include "tests/unit/fake_dns.h"
#include "tests/unit/played.h"

#define NOW 1750000000
#define AUTHOR SLICE("a.example")

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct answers *written;
static const struct arc_outcome *first;

static void
on_again(void *arg, const struct arc_outcome *o)
{
	bool *ended = arg;

	assert(!*ended);
	*ended = true;
	assert(o->result == first->result && slice_eq(o->reason, first->reason) && o->sets == first->sets);
	assert(o->oldest_pass == first->oldest_pass && o->sealer_count == first->sealer_count);
	for (unsigned i = 0; i < o->sealer_count; i++)
		assert(slice_eq(o->sealers[i].domain, first->sealers[i].domain) && o->sealers[i].dmarc_pass == first->sealers[i].dmarc_pass);
}

static void
judge_again(const struct arc_outcome *o)
{
	struct answers *a = played(written);
	struct arc_check *c;
	bool ended = false;

	first = o;
	c = arc_check_again(answers_asker(a), NOW, o->evidence, AUTHOR, on_again, &ended);
	arc_check_end(c);
	answers_play(a);
	arc_check_expire(c);
	assert(ended);
	arc_check_free(&c);
	answers_free(&a);
}

static void
on_done(void *arg, const struct arc_outcome *o)
{
	bool *ended = arg;

	assert(!*ended);
	*ended = true;
	assert(o->result < ARC_RESULT_COUNT && o->sets <= ARC_SETS_MAX && o->oldest_pass <= o->sets);
	assert(o->sealer_count <= ARC_SEALERS_MAX && (o->sealer_count > 0) == (o->result == ARC_RESULT_PASS));
	assert((o->reason.n > 0) == (o->result == ARC_RESULT_FAIL || o->result == ARC_RESULT_TEMPERROR));
	if (!answers_cut(written) && !o->evidence->cut)
		judge_again(o);
}

static void
check_body(struct slice body, bool relaxed)
{
	struct dkim_body whole, pieces;
	uint8_t one[32], other[32];

	dkim_body_init(&whole, relaxed);
	dkim_body_init(&pieces, relaxed);
	dkim_body_feed(&whole, body);
	for (size_t i = 0; i < body.n; i++)
		dkim_body_feed(&pieces, slice_sub(body, i, i + 1));
	dkim_body_end(&whole, one);
	dkim_body_end(&pieces, other);
	assert(memcmp(one, other, sizeof(one)) == 0);
	dkim_body_fini(&whole);
	dkim_body_fini(&pieces);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static struct fake_dns d;
	struct slice rest = slice_of(data, n), key, block;
	bool ended = false;

	if (n > 65536 || !slice_cut(&rest, '\n', &key))
		return 0;
	(void)arc_results_dmarc_pass(rest, SLICE("a.example"));
	fake_dns_init(&d);
	fake_row(&d, "*", DNS_TXT)->data = key;
	block = slice_sub(rest, 0, header_block_length(rest));
	written = answers_new(&d.asker);
	struct arc_check *c = arc_check_new(answers_asker(written), NOW, on_done, &ended);
	arc_check_header(c, block, AUTHOR);
	arc_check_body(c, slice_sub(rest, block.n, (block.n + rest.n) / 2));
	arc_check_body(c, slice_sub(rest, (block.n + rest.n) / 2, rest.n));
	arc_check_end(c);
	fake_dns_run(&d);
	assert(ended);
	arc_check_free(&c);
	answers_free(&written);
	check_body(rest, false);
	check_body(rest, true);
	return 0;
}
