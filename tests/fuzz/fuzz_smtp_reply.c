/*
 * Replies of servers: fed whole and in pieces the result is the same; what is kept is printable, and what is offered lies in it.
 */
#include "smtpd/smtp_reply.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int
feed(struct smtp_reply_parser *p, struct slice in, size_t step, size_t *at)
{
	int result = 0;
	size_t used;

	smtp_reply_reset(p);
	while (result == 0 && *at < in.n) {
		result = smtp_reply_feed(p, slice_sub(in, *at, *at + step), &used);
		*at += used;
	}
	return result;
}

static bool
lies_in(struct slice part, const struct smtp_reply *r)
{
	return part.n == 0 || (part.p >= r->text && part.p + part.n <= r->text + r->text_n);
}

static void
check_reply(const struct smtp_reply *r)
{
	struct smtp_offer offer;
	struct buf b;

	if (r->code < 200 || r->code > 599)
		abort();
	buf_init(&b, 4 + SMTP_REPLY_TEXT_MAX);
	if (!smtp_reply_print(r, &b))
		abort();
	for (size_t i = 0; i < b.n; i++)
		if (b.p[i] < 0x20 || b.p[i] > 0x7e)
			abort();
	buf_fini(&b);
	smtp_offer_parse(r, &offer);
	if (!lies_in(offer.name, r) || !lies_in(offer.auth, r))
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct smtp_reply_parser whole, octets;
	struct slice in = slice_of(data, size);
	size_t at = 0, at_whole, at_octets;

	/* One reply after another, as in a dialogue. */
	do {
		at_whole = at_octets = at;
		int result = feed(&whole, in, size + 1, &at_whole);

		if (feed(&octets, in, 1, &at_octets) != result || at_octets != at_whole)
			abort();
		if (result <= 0)
			break;
		if (whole.reply.text_n != octets.reply.text_n || whole.reply.code != octets.reply.code ||
		    memcmp(whole.reply.text, octets.reply.text, whole.reply.text_n) != 0)
			abort();
		check_reply(&whole.reply);
		at = at_whole;
	} while (at < size);
	return 0;
}
