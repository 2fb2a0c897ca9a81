/*
 * A DMARC evaluation: the first two lines are the author and an identifier, the others records, from the author's domain up; "!" is one that
 * cannot be looked up. When the last line is "?", time is up before the last answer.
 */
#include "smtpd/dmarc.h"
#include "tests/unit/fake_dns.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define LINES_MAX 12

static void
on_done(void *arg, const struct dmarc_outcome *o)
{
	bool *ended = arg;

	assert(!*ended);
	*ended = true;
	assert(o->result < DMARC_RESULT_COUNT && o->policy <= o->published && o->published < DMARC_POLICY_COUNT);
	assert(o->result != DMARC_RESULT_PASS || o->spf_aligned || o->dkim_aligned > 0);
	for (size_t i = 0; i < o->record.n; i++)
		assert(o->record.p[i] >= 0x20 && o->record.p[i] < 0x7f);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static struct fake_dns d;
	static char names[LINES_MAX][300];
	struct slice lines[LINES_MAX], rest = slice_of(data, n), name;
	struct dmarc_identifier ids[2];
	struct dmarc_query q = {.identifiers = ids, .count = 2};
	struct dmarc_record record;
	unsigned count = 0;
	bool ended = false;

	if (n > 8192)
		return 0;
	(void)dmarc_record_parse(rest, &record);
	while (count < LINES_MAX && slice_cut(&rest, '\n', &lines[count]))
		count++;
	if (count < 2)
		return 0;
	fake_dns_init(&d);
	name = lines[0];
	for (unsigned i = 2; i < count && name.n > 0 && name.n < 200; i++) {
		snprintf(names[i], sizeof names[i], "_dmarc.%.*s", SLICE_ARG(name));
		if (slice_eq(lines[i], SLICE("!")))
			fake_status(&d, names[i], DNS_TEMP);
		else if (lines[i].n > 0)
			fake_row(&d, names[i], DNS_TXT)->data = lines[i];
		if (lines[i].n == 0 || lines[i].p[lines[i].n - 1] == '+')
			name = slice_sub(name, slice_index(name, '.') + 1, name.n);
	}
	q.author = lines[0];
	ids[0] = (struct dmarc_identifier){lines[1], true, false};
	ids[1] = (struct dmarc_identifier){lines[1], false, count % 2 == 1};
	struct dmarc_check *c = dmarc_check_new(&d.asker, &q, on_done, &ended);
	dmarc_check_start(c);
	if (slice_eq(lines[count - 1], SLICE("?"))) {
		for (unsigned i = 2; i + 1 < count; i++)
			(void)fake_dns_step(&d);
		dmarc_check_expire(c);
	}
	fake_dns_run(&d);
	assert(ended && d.pending_count == 0);
	assert(d.asked <= 2 * DMARC_WALK_QUERIES_MAX + 1);
	dmarc_check_free(&c);
	return 0;
}
