/*
 * check_host(): the input's lines are TXT records; every name has the first, names below "x" the others in turn. The
 * other types answer with addresses and names made of the input.
 */
#include "smtpd/spf.h"
#include "tests/unit/fake_dns.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define LINES_MAX 8
/* 11 records, 10 PTR names, 10 MX names for each of ten terms, an explanation. */
#define QUESTIONS_MAX 140

static void
on_done(void *arg, const struct spf_outcome *o)
{
	bool *ended = arg;

	assert(!*ended);
	*ended = true;
	assert(o->result < SPF_RESULT_COUNT);
	assert(o->explanation.n == 0 || o->result == SPF_RESULT_FAIL);
	assert(o->explanation.n <= SPF_EXPLANATION_BYTES_MAX && o->mechanism.n <= SPF_MECHANISM_BYTES_MAX);
	for (size_t i = 0; i < o->explanation.n; i++)
		assert(o->explanation.p[i] >= 0x20 && o->explanation.p[i] < 0x7f);
}

static void
make_zone(struct fake_dns *d, struct slice lines[LINES_MAX], unsigned count)
{
	static const char *const names[LINES_MAX] = {"*", "a.x", "b.x", "c.x", "d.x", "e.x", "f.x", "g.x"};

	fake_dns_init(d);
	for (unsigned i = 0; i < count; i++)
		fake_row(d, names[i], DNS_TXT)->data = lines[i];
	fake_row(d, "*", DNS_A)->data = SLICE("\300\0\2\1");
	fake_row(d, "*", DNS_AAAA)->data = SLICE("\40\1\15\270\0\0\0\0\0\0\0\0\0\0\0\1");
	fake_row(d, "*", DNS_MX)->target = "mx.x";
	fake_row(d, "*", DNS_PTR)->target = "host.a.x";
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static struct fake_dns d;
	struct slice lines[LINES_MAX], rest = slice_of(data, n);
	struct spf_query q = {.local = SLICE("l.o-c"), .helo = SLICE("h e"), .receiver = SLICE("r")};
	unsigned count = 0;
	bool ended = false;

	if (n < 17 || n > 8192)
		return 0;
	memcpy(q.ip, data, 16);
	rest = slice_sub(rest, 16, n);
	while (count < LINES_MAX && slice_cut(&rest, '\n', &lines[count]))
		count++;
	make_zone(&d, lines, count);
	q.domain = count > 1 ? SLICE("a.x") : SLICE("z.example");
	struct spf_check *c = spf_check_new(&d.asker, &q, on_done, &ended);
	spf_check_start(c);
	fake_dns_run(&d);
	assert(ended);
	assert(d.asked <= QUESTIONS_MAX);
	spf_check_free(&c);
	return 0;
}
