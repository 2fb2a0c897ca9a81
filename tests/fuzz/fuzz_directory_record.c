/* The directory's records as read from disk, as they are and with a right checksum put behind; what decodes encodes to the same. */
#include "authd/directory_record.h"
#include "common/cursor.h"

#include <assert.h>
#include <zlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* One that ends before its rules has the default ones, and is written with them. */
static void
check_domain(struct slice in, const struct dir_domain *domain, struct buf *b)
{
	const size_t sum = 4;

	assert(dir_domain_encode(domain, b));
	if (slice_eq(buf_slice(b), in))
		return;
	assert(in.n < b->n && slice_starts(buf_slice(b), slice_sub(in, 0, in.n - sum)));
	assert(strcmp(domain->rules.separators, ADDRESS_RULES_DEFAULT.separators) == 0);
}

static void
check(struct slice in, struct buf *b)
{
	static struct dir_alias alias;
	struct dir_account account;
	struct dir_domain domain;
	struct srs_secrets secrets;
	struct dir_meta meta;

	if (dir_meta_decode(in, &meta))
		assert(dir_meta_encode(&meta, b) && slice_eq(buf_slice(b), in));
	if (dir_domain_decode(in, &domain))
		check_domain(in, &domain, b);
	if (dir_account_decode(in, &account)) {
		assert(account.id != 0 && account.login.n <= ADDRESS_BYTES_MAX);
		assert(dir_account_encode(&account, b) && slice_eq(buf_slice(b), in));
	}
	/* One that has the newest alone is written with more. */
	if (dir_secrets_decode(in, &secrets))
		assert(dir_secrets_encode(&secrets, b) && (slice_eq(buf_slice(b), in) || in.n < b->n));
	if (dir_alias_decode(in, &alias)) {
		assert(alias.n > 0 && alias.n <= DIR_ALIAS_TARGETS_MAX);
		assert(dir_alias_encode(&alias, b) && slice_eq(buf_slice(b), in));
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct buf b, summed;

	buf_init(&b, DIR_RECORD_BYTES_MAX);
	buf_init(&summed, DIR_RECORD_BYTES_MAX);
	check(slice_of(data, n), &b);
	if (buf_put(&summed, data, n)) {
		put_u32(&summed, (uint32_t)crc32(crc32(0, NULL, 0), data, (uInt)n));
		if (!summed.failed)
			check(buf_slice(&summed), &b);
	}
	buf_fini(&b);
	buf_fini(&summed);
	return 0;
}
