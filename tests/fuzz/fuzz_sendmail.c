/* What a program hands to mailstead-sendmail. The first octet: -t, -i. */
#include "admin/sendmail.h"
#include "common/rfc5322.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const struct sendmail_user user = {.name = {(const uint8_t *)"root", 4}, .account = {(const uint8_t *)"admin@ours.example", 18}};
static struct sendmail_envelope envelope;

static void
check(struct slice message)
{
	assert(slice_ends_nocase(message, SLICE("\r\n")));
	assert(header_count(message, SLICE("Bcc")) == 0);
	assert(envelope.recipient_count > 0 && envelope.recipient_count <= SENDMAIL_RECIPIENTS_MAX);
	for (unsigned i = 0; i < envelope.recipient_count; i++) {
		struct slice to = envelope.recipients[i];

		assert(slice_index(to, '@') < to.n);
		for (size_t k = 0; k < to.n; k++)
			assert(to.p[k] >= ' ');
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	char *to[] = {(char[]){"bob"}};
	struct sendmail_wish wish = {.recipients = to, .recipient_count = 1};
	struct arena *a = arena_new(SENDMAIL_RECIPIENTS_MAX * (SENDMAIL_ADDRESS_BYTES_MAX + 16));
	struct buf message;
	const char *why;

	if (n > 0) {
		wish.from_header = data[0] & 1;
		wish.dots_are_text = data[0] & 2;
		data++;
		n--;
	}
	buf_init(&message, SENDMAIL_MESSAGE_BYTES_MAX);
	if (sendmail_message_make(&wish, &user, slice_of(data, n), a, &message, &envelope, &why) == 0)
		check(buf_slice(&message));
	buf_fini(&message);
	arena_free(&a);
	return 0;
}
