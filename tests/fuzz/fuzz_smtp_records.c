/*
 * Envelopes, queue items, results, records, metas and rows: hostile octets are safe, and what decodes encodes to the same.
 * Records and metas are read with a right checksum put before them, too.
 */
#include "common/cursor.h"
#include "smtpd/client_facts.h"
#include "smtpd/envelope.h"
#include "smtpd/queue.h"
#include "smtpd/queue_record.h"

#include <stdlib.h>
#include <zlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
same(const struct buf *b, struct slice in)
{
	if (!slice_eq(buf_slice(b), in))
		abort();
}

static void
client(struct slice in, struct buf *b)
{
	struct client_facts f;
	struct client_zone z;

	buf_reset(b);
	if (client_facts_decode(in, &f) && in.n > 0) {
		if (!client_facts_encode(&f, b))
			abort();
		same(b, in);
	}
	while (client_zone_next(&in, &z) != 0)
		if (z.zone.n == 0 && z.weight > 0)
			abort();
}

static void
records(struct slice in, struct buf *b)
{
	struct queue_message m;
	struct slice one, two;

	buf_reset(b);
	if (queue_record_decode(in, &m, &one)) {
		m.item = (uint8_t *)(uintptr_t)one.p;
		m.item_bytes = one.n;
		if (!queue_record_encode(&m, b))
			abort();
		/* An older version is written as the present one. */
		if (in.p[4] == QUEUE_RECORD_VERSION)
			same(b, in);
	}
	buf_reset(b);
	if (queue_meta_decode(in, &one, &two)) {
		if (!queue_meta_encode(one, two, b))
			abort();
		same(b, in);
	}
}

/* The input as what stands behind the checksum of a row. */
static void
rows(struct slice in)
{
	uint8_t again[QUEUE_ROW_BYTES];
	struct queue_row row;
	uint8_t head[QUEUE_BATCH_HEAD_BYTES];
	uint32_t bytes;
	unsigned count;
	struct buf b;

	buf_init(&b, QUEUE_ROW_BYTES);
	put_u8(&b, QUEUE_ROW_WAITING);
	put_u32(&b, (uint32_t)crc32(0, in.p, (uInt)in.n));
	buf_put_slice(&b, in);
	if (!b.failed && queue_row_decode(buf_slice(&b), &row)) {
		queue_row_encode(&row, again);
		same(&b, slice_of(again, sizeof again));
	}
	buf_fini(&b);
	if (queue_row_decode(in, &row) && in.n != QUEUE_ROW_BYTES)
		abort();
	if (queue_batch_head_decode(in, &count, &bytes)) {
		queue_batch_head_encode(count, bytes, head);
		same(&(struct buf){.p = head, .n = sizeof head}, in);
	}
}

/* The input behind what a record, or a meta, begins with. */
static void
records_put_right(struct slice in, const char *magic, struct buf *b)
{
	struct buf whole;

	buf_init(&whole, QUEUE_META_BYTES_MAX);
	buf_put_str(&whole, magic);
	put_u32(&whole, (uint32_t)crc32(0, in.p, (uInt)in.n));
	buf_put_slice(&whole, in);
	if (!whole.failed)
		records(buf_slice(&whole), b);
	buf_fini(&whole);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice in = slice_of(data, size);
	struct arena *a = arena_new(8u << 20);
	struct buf b;
	struct envelope e;
	struct queue_item item;
	struct queue_results results;

	rows(in);
	buf_init(&b, ENVELOPE_BYTES_MAX);
	if (envelope_decode(in, a, &e)) {
		if (!envelope_encode(&e, &b))
			abort();
		same(&b, in);
		client(e.client, &b);
	}
	client(in, &b);
	buf_reset(&b);
	if (queue_item_decode(in, a, &item)) {
		/* An older version is written as the present one. */
		if (!queue_item_encode(&item, &b) && in.p[0] == QUEUE_ITEM_VERSION)
			abort();
		if (in.p[0] == QUEUE_ITEM_VERSION)
			same(&b, in);
		else if (!b.failed && b.n <= QUEUE_ITEM_BYTES_MAX && !queue_item_decode(buf_slice(&b), a, &item))
			abort();
		if (queue_results_decode(in, a, &results))
			(void)queue_item_apply(&item, &results);
	}
	buf_reset(&b);
	if (queue_results_decode(in, a, &results)) {
		if (!queue_results_encode(&results, &b))
			abort();
		same(&b, in);
	}
	records(in, &b);
	records_put_right(in, "", &b);
	records_put_right(in, "MSQMETA1", &b);
	buf_fini(&b);
	arena_free(&a);
	return 0;
}
