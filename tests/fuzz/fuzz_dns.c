/* DNS answer messages: octet 0 chooses the type, the rest is the packet; the name asked is the question's guess. */
#include "common/dns.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const uint16_t types[] = {DNS_A, DNS_NS, DNS_CNAME, DNS_SOA, DNS_PTR, DNS_MX, DNS_TXT, DNS_AAAA, DNS_TLSA};
	static const struct slice names[] = {SLICE("a.example"), SLICE("A.Example."), SLICE("x\\046y.example"), SLICE("")};
	struct dns_answer answer;
	struct arena *a;

	if (n == 0)
		return 0;
	a = arena_new(512 * 1024);
	if (dns_answer_parse(slice_of(data + 1, n - 1), names[data[0] >> 6], types[(data[0] & 63) % 9], a, &answer)) {
		assert((answer.status == DNS_OK) == (answer.count > 0));
		assert(answer.count <= DNS_RECORDS_MAX);
		assert(answer.alias.n <= 4 * 255);
		for (unsigned i = 0; i < answer.count; i++)
			assert(answer.records[i].name.n <= 4 * 255);
	}
	arena_free(&a);
	return 0;
}
