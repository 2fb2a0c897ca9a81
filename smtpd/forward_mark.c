#include "smtpd/forward_mark.h"

#include <assert.h>
#include <openssl/evp.h>

#define ADDRESS_BYTES_MAX 1024
#define DOMAIN "forwarded.invalid"

static const char base32[] = "abcdefghijklmnopqrstuvwxyz234567";

void
forward_mark_put(struct slice address, struct buf *b)
{
	uint8_t hash[EVP_MAX_MD_SIZE], lower[ADDRESS_BYTES_MAX];
	size_t n = address.n < sizeof lower ? address.n : sizeof lower;
	int good;

	for (size_t i = 0; i < n; i++)
		lower[i] = ascii_lower(address.p[i]);
	good = EVP_Digest(lower, n, hash, NULL, EVP_sha256(), NULL);
	assert(good == 1);
	for (unsigned i = 0; i < FORWARD_MARK_CHARS; i++)
		buf_put_u8(b, (uint8_t)base32[hash[i] & 31]);
}

bool
forward_mark_field(struct slice address, bool plain, struct buf *b)
{
	buf_put_str(b, "Delivered-To: ");
	if (plain) {
		buf_put_slice(b, address);
	} else {
		forward_mark_put(address, b);
		buf_put_str(b, "@" DOMAIN);
	}
	buf_put_str(b, "\r\n");
	return !b->failed;
}

static bool
has_mark(struct slice marks, struct slice mark)
{
	for (size_t at = 0; at + FORWARD_MARK_CHARS <= marks.n; at += FORWARD_MARK_CHARS)
		if (slice_eq_nocase(slice_sub(marks, at, at + FORWARD_MARK_CHARS), mark))
			return true;
	return false;
}

bool
forward_mark_found(struct slice marks, struct slice value)
{
	struct slice address = slice_trim(value);
	size_t at = slice_rindex(address, '@');
	struct buf mark;
	bool found;

	if (marks.n == 0 || address.n == 0)
		return false;
	if (slice_eq_nocase(slice_sub(address, at + 1, address.n), SLICE(DOMAIN)))
		return has_mark(marks, slice_sub(address, 0, at));
	buf_init(&mark, FORWARD_MARK_CHARS);
	forward_mark_put(address, &mark);
	found = has_mark(marks, buf_slice(&mark));
	buf_fini(&mark);
	return found;
}
