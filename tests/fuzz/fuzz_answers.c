/* A recorded DNS answer: an octet for the type, then its text. What is played is written down as what plays the same. */
#include "smtpd/answers.h"

#include <assert.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct buf first, second;

static void
on_answer(void *arg, const struct dns_answer *a)
{
	(void)arg;
	assert(a->status != DNS_OK || a->count > 0);
}

/* Plays the text, writes it down again into out. False when it was none. */
static bool
play(struct slice text, uint16_t type, struct buf *out)
{
	struct answers *a = answers_new(NULL), *written = answers_new(answers_asker(a));
	const struct dns_asker *asker = answers_asker(written);
	struct answers_item item = {SLICE("n.example"), type, DNS_OK, text};
	uint64_t ticket;
	bool good = answers_add(a, &item) && asker->ask(asker->ctx, item.name, type, on_answer, NULL, &ticket);

	buf_reset(out);
	if (good) {
		answers_play(a);
		item = answers_item(written, 0);
		good = item.status == DNS_OK && !answers_cut(written);
		buf_put_slice(out, item.text);
	}
	answers_free(&written);
	answers_free(&a);
	return good;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const uint16_t types[] = {DNS_A, DNS_AAAA, DNS_TXT, DNS_MX, DNS_PTR, DNS_NS};
	uint16_t type;

	if (n < 1 || n > ANSWERS_BYTES_MAX)
		return 0;
	if (first.max == 0) {
		buf_init(&first, 4 * ANSWERS_BYTES_MAX);
		buf_init(&second, 4 * ANSWERS_BYTES_MAX);
	}
	type = types[data[0] % (sizeof types / sizeof types[0])];
	if (!play(slice_of(data + 1, n - 1), type, &first))
		return 0;
	assert(play(buf_slice(&first), type, &second));
	assert(slice_eq(buf_slice(&first), buf_slice(&second)));
	return 0;
}
