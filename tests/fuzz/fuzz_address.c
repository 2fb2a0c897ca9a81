/* Header framing, address lists, From, message ids: bounds, counts and groups that close. */
#include "common/rfc5322.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void
check_list(const struct address_list *l)
{
	size_t open = 0;
	size_t mailboxes = 0;

	for (size_t i = 0; i < l->n; i++) {
		const struct address *x = &l->v[i];

		open += x->kind == ADDRESS_GROUP_START;
		open -= x->kind == ADDRESS_GROUP_END;
		mailboxes += x->kind == ADDRESS_MAILBOX;
		assert(open <= 1);
		assert(x->kind != ADDRESS_MAILBOX || x->local.p != NULL);
		assert(!x->malformed || l->malformed);
	}
	assert(open == 0 && mailboxes == l->mailboxes);
}

static void
check_headers(struct slice in)
{
	struct header_iter it;
	struct header_field f;
	size_t octets = 0;

	header_iter_init(&it, in);
	while (header_next(&it, &f)) {
		assert(f.raw.p == in.p + octets && f.raw.n > 0);
		octets += f.raw.n;
	}
	size_t block = header_block_length(in);

	assert(octets <= block && block - octets <= 2);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct slice in = slice_of(data, n);
	struct arena *a = arena_new(n % 7 == 0 ? 4096 : 1 << 20);
	struct address_list list;
	struct from_info from;
	struct msgid_list ids;
	struct slice local, domain;

	address_list_parse(in, n % 5 == 0 ? 3 : ADDRESSES_MAX, a, &list);
	check_list(&list);
	from_examine(in, a, &from);
	check_list(&from.list);
	msgid_list_parse(in, MSGIDS_MAX, a, &ids);
	for (size_t i = 0; i < ids.n; i++)
		assert(ids.v[i].n > 0 && ids.v[i].n <= MSGID_BYTES_MAX);
	if (addr_spec_split(in, &local, &domain))
		assert(local.n + 1 + domain.n == n);
	check_headers(in);
	arena_free(&a);
	return 0;
}
