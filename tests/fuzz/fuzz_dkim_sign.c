/*
 * The signer over a message: octet by octet it makes the same field as at once, the field is one that a verifier takes, and the file
 * of selectors that the same octets may be is read and written back.
 */
#include "smtpd/dkim_sign.h"
#include "smtpd/dkim_tags.h"

#include <assert.h>

#define NOW 1750000000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char *
sign(struct slice message, size_t chunk, struct buf *field)
{
	struct dkim_signer key = {DKIM_ED25519_SHA256, SLICE("example.com"), SLICE("e1")};
	struct dkim_sign *s = dkim_sign_new();
	uint8_t hash[32];
	const char *why;

	for (size_t at = 0; at < message.n; at += chunk)
		dkim_sign_feed(s, slice_sub(message, at, at + chunk));
	why = dkim_sign_end(s);
	if (why == NULL) {
		bool good = dkim_sign_prepare(s, &key, NOW, field, hash) && dkim_sign_finish(slice_of(hash, sizeof hash), field);

		assert(good);
	}
	dkim_sign_free(&s);
	return why;
}

static void
check_field(struct slice field)
{
	struct slice value = slice_sub(field, slice_index(field, ':') + 1, field.n);
	enum dkim_result result;
	struct dkim_fields tags;

	for (size_t i = 0; i < field.n; i++) {
		assert(field.p[i] < 0x7f && (field.p[i] >= ' ' || field.p[i] == '\r' || field.p[i] == '\n' || field.p[i] == '\t'));
		assert((field.p[i] == '\n') == (i > 0 && field.p[i - 1] == '\r'));
	}
	assert(dkim_signature_check(value, NOW, &tags, &result) == NULL);
	assert(dkim_list_has(tags.h, ':', SLICE("from")) && !tags.has_l && slice_eq(tags.d, SLICE("example.com")));
}

static void
check_selectors(struct slice text)
{
	static struct dkim_selectors list, again;
	struct buf b;
	bool good;

	if (!dkim_selectors_parse(text, &list))
		return;
	buf_init(&b, DKIM_SELECTOR_FILE_BYTES_MAX);
	good = dkim_selectors_print(&list, &b) && dkim_selectors_parse(buf_slice(&b), &again);
	assert(good && again.n == list.n);
	buf_fini(&b);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct slice message = slice_of(data, n);
	struct buf whole, bytes;
	const char *why, *again;

	if (n > 65536)
		return 0;
	buf_init(&whole, DKIM_SIGN_FIELD_BYTES_MAX);
	buf_init(&bytes, DKIM_SIGN_FIELD_BYTES_MAX);
	why = sign(message, n, &whole);
	again = sign(message, 1, &bytes);
	assert(why == again || (why != NULL && again != NULL && strcmp(why, again) == 0));
	assert(slice_eq(buf_slice(&whole), buf_slice(&bytes)));
	if (why == NULL)
		check_field(buf_slice(&whole));
	check_selectors(message);
	buf_fini(&whole);
	buf_fini(&bytes);
	return 0;
}
