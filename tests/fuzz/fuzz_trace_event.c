/* The recorder's records and the fields in them, as read from disk, and the same octets as a payload with a right head. */
#include "common/cursor.h"
#include "traced/event.h"

#include <assert.h>
#include <zlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void
check_fields(struct slice fields, struct slice session)
{
	struct event v = {1, ROLE_STORE, 0, session, SLICE("e"), fields};
	size_t count = 0;
	struct slice key;
	struct buf b;

	buf_init(&b, 1 << 20);
	while (event_field(&fields, &key, &b)) {
		assert(key.n > 0 && b.n <= EVENT_FIELDS_BYTES_MAX);
		count++;
	}
	assert(count <= EVENT_FIELDS_BYTES_MAX);
	(void)event_mentions(&v, slice_sub(v.fields, 2, 12));
	(void)event_mentions(&v, SLICE("<a@b>"));
	buf_reset(&b);
	assert(event_json(&v, &b) && b.p[b.n - 1] == '\n');
	buf_fini(&b);
}

static void
check_records(struct slice in)
{
	struct event v;
	struct buf b;

	buf_init(&b, EVENT_BYTES_MAX);
	for (size_t before = in.n; event_decode(&in, &v); before = in.n) {
		assert(in.n < before);
		buf_reset(&b);
		assert(event_encode(&v, &b) && b.n == before - in.n);
		check_fields(v.fields, v.session);
	}
	buf_fini(&b);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct slice in = slice_of(data, n);
	struct buf b;

	check_records(in);
	check_fields(slice_sub(in, 0, EVENT_FIELDS_BYTES_MAX), SLICE("s"));
	buf_init(&b, EVENT_BYTES_MAX);
	put_u32(&b, (uint32_t)n);
	put_u32(&b, (uint32_t)crc32(crc32(0, NULL, 0), data, (uInt)n));
	(void)buf_put_slice(&b, in);
	if (!b.failed)
		check_records(buf_slice(&b));
	buf_fini(&b);
	return 0;
}
