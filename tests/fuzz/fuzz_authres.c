/* Field values that may claim to be our results; and the same octets as values in a field that we write. */
#include "smtpd/authres.h"
#include "smtpd/facts.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static struct verdict v;
	struct slice s = slice_of(data, n < 250 ? n : 250);
	struct facts f = {.authserv_id = SLICE("mx.demo.test"), .mail_from = SLICE("x"), .smtputf8 = n % 2};
	struct buf b;

	(void)authres_claims(SLICE("Authentication-Results"), slice_of(data, n), f.authserv_id);
	v.mail_from = v.helo = (struct verdict_spf){SPF_RESULT_FAIL, s, s, s};
	v.dkim_count = 1;
	v.dkim[0] = (struct dkim_signature){.domain = s, .selector = s, .algorithm = s, .identity = s, .b_prefix = s, .reason = s};
	v.dmarc.author = s;
	v.dmarc.reason = s;
	buf_init(&b, 65536);
	assert(authres_render(&f, &v, &b));
	/* One field of ours: every line but the first is folded. */
	for (size_t i = 0; i < b.n; i++) {
		assert(b.p[i] == '\r' || b.p[i] == '\n' || b.p[i] == '\t' || (b.p[i] >= 0x20 && b.p[i] != 0x7f));
		if (b.p[i] == '\r')
			assert(b.p[i + 1] == '\n' && (i + 2 == b.n || b.p[i + 2] == '\t'));
	}
	assert(authres_claims(SLICE("Authentication-Results"), slice_sub(buf_slice(&b), 23, b.n), f.authserv_id));
	buf_fini(&b);
	return 0;
}
