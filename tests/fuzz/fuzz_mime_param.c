/* Content-Type and Content-Disposition values: caps hold, text is UTF-8; both decoders of transfer.h. */
#include "common/charset.h"
#include "common/mime_param.h"
#include "common/transfer.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void
check_params(const struct mime_params *params)
{
	struct buf text;

	assert(params->n <= MIME_PARAMS_MAX);
	buf_init(&text, 1 << 20);
	for (size_t i = 0; i < params->n; i++) {
		buf_reset(&text);
		assert(params->v[i].name.n > 0 && params->v[i].value.n <= MIME_PARAM_BYTES_MAX);
		assert(mime_param_find(params, params->v[i].name) != NULL);
		bool ok = mime_param_text(&params->v[i], &text);

		assert(ok && utf8_valid(buf_slice(&text)));
	}
	buf_fini(&text);
}

static void
check_transfer(struct slice in, enum transfer_encoding encoding)
{
	struct transfer_decoder whole, pieces;
	struct buf a, b;
	size_t chunk = 1 + in.n % 3;

	buf_init(&a, 1 << 20);
	buf_init(&b, 1 << 20);
	transfer_decoder_init(&whole, encoding);
	transfer_decode(&whole, in, &a);
	transfer_decode_end(&whole, &a);
	transfer_decoder_init(&pieces, encoding);
	for (size_t i = 0; i < in.n; i += chunk)
		transfer_decode(&pieces, slice_sub(in, i, i + chunk), &b);
	transfer_decode_end(&pieces, &b);
	assert(slice_eq(buf_slice(&a), buf_slice(&b)));
	assert(whole.octets == a.n && a.n <= in.n + 1);
	buf_reset(&b);
	if (base64_decode(in, &b)) {
		struct buf again;

		buf_init(&again, 1 << 20);
		base64_encode(buf_slice(&b), 0, &again);
		assert(slice_eq(buf_slice(&again), in));
		buf_fini(&again);
	}
	buf_fini(&a);
	buf_fini(&b);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct slice in = slice_of(data, n);
	struct arena *a = arena_new(n % 7 == 0 ? 2048 : 1 << 20);
	struct mime_value v;

	if (n > 100000)
		in.n = 100000;
	charset_init();
	if (mime_type_parse(in, a, &v))
		check_params(&v.params);
	if (mime_disposition_parse(in, a, &v))
		check_params(&v.params);
	check_transfer(in, TRANSFER_BASE64);
	check_transfer(in, TRANSFER_QUOTED_PRINTABLE);
	arena_free(&a);
	return 0;
}
