/*
 * Redo records, whose checksum is put right; every operation is read and written again, to the same octets, patches
 * are applied to a value of some length. And the diff: from one half of the
 * input to the other, applying it gives the other.
 */
#include "store/redo.h"

#include <assert.h>
#include <zlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* One operation as it was read. */
static void
put_op(struct buf *b, const struct redo_op *op)
{
	struct cursor patches = op->patches;

	if (op->kind == REDO_PUT) {
		redo_put(b, op->key, op->value);
		return;
	}
	if (op->kind == REDO_DELETE) {
		redo_delete(b, op->key);
		return;
	}
	put_u8(b, REDO_PATCH);
	put_u16(b, (uint16_t)op->key.n);
	buf_put_slice(b, op->key);
	put_u16(b, (uint16_t)op->patch_count);
	for (unsigned i = 0; i < op->patch_count; i++) {
		put_u16(b, cursor_u16(&patches));
		uint16_t length = cursor_u16(&patches);

		put_u16(b, length);
		buf_put_slice(b, cursor_take(&patches, length));
	}
	assert(!patches.bad);
}

/* All of a record again; the octets for Berkeley DB are not compared. */
static void
read_ops(struct slice record, struct redo *r)
{
	uint8_t value[900] = {0};
	struct redo_op op;
	struct buf b;

	buf_init(&b, 2 * REDO_BYTES_MAX);
	if (r->mark) {
		redo_mark(&b, &r->durable, &r->pages);
		assert(slice_eq(slice_sub(buf_slice(&b), 16, b.n), slice_sub(record, 16, record.n)));
		buf_fini(&b);
		return;
	}
	redo_begin(&b, r->serial, r->part, &r->durable);
	while (redo_next(r, &op)) {
		put_op(&b, &op);
		if (op.kind == REDO_PATCH)
			redo_patch(&op, value, sizeof value);
	}
	if (!r->ops.bad) {
		bool ended = redo_end(&b, r->last);

		assert(ended && slice_eq(slice_sub(buf_slice(&b), 16, b.n), slice_sub(record, 16, record.n)));
	}
	buf_fini(&b);
}

static void
read_record(const uint8_t *data, size_t n)
{
	uint8_t *p = malloc(n);
	uint32_t type = REDO_TYPE;
	struct redo r;

	if (p == NULL)
		return;
	memcpy(p, data, n);
	memcpy(p, &type, sizeof type);
	uint32_t crc = (uint32_t)crc32(0, p + 16, (uInt)(n - 20));

	for (unsigned i = 0; i < 4; i++)
		p[n - 4 + i] = (uint8_t)(crc >> (24 - 8 * i));
	if (redo_open(slice_of(p, n), &r))
		read_ops(slice_of(p, n), &r);
	free(p);
}

static void
diff(const uint8_t *data, size_t n)
{
	struct slice old = slice_of(data, n / 2), value = slice_of(data + n / 2, n / 2);
	uint8_t *copy = malloc(n / 2 + 1);
	struct redo r;
	struct redo_op op;
	struct buf b;

	if (copy == NULL)
		return;
	buf_init(&b, REDO_BYTES_MAX);
	redo_begin(&b, 7, 0, &(struct redo_durable){.serial = 6, .file = 1, .offset = 28});
	redo_change(&b, SLICE("key"), old, value);
	if (redo_end(&b, true)) {
		bool opened = redo_open(buf_slice(&b), &r);

		assert(opened && r.serial == 7 && r.part == 0 && r.last);
		bool got = redo_next(&r, &op);

		assert(got && slice_eq(op.key, SLICE("key")));
		memcpy(copy, old.p, old.n);
		if (op.kind == REDO_PATCH)
			redo_patch(&op, copy, old.n);
		else
			memcpy(copy, op.value.p, op.value.n);
		assert(memcmp(copy, value.p, value.n) == 0);
		got = redo_next(&r, &op);
		assert(!got && !r.ops.bad);
	}
	buf_fini(&b);
	free(copy);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	if (n >= REDO_HEADER_BYTES + 4 && n <= REDO_BYTES_MAX)
		read_record(data, n);
	if (n >= 2 && n <= 65536)
		diff(data, n);
	return 0;
}
