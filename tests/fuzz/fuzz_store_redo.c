/*
 * Redo records, whose checksum is put right; every operation is read, patches
 * are applied to a value of some length. And the diff: from one half of the
 * input to the other, applying it gives the other.
 */
#include "store/redo.h"

#include <assert.h>
#include <zlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void
read_record(const uint8_t *data, size_t n)
{
	uint8_t *p = malloc(n);
	uint32_t type = REDO_TYPE;
	uint8_t value[900] = {0};
	struct redo r;
	struct redo_op op;

	if (p == NULL)
		return;
	memcpy(p, data, n);
	memcpy(p, &type, sizeof type);
	uint32_t crc = (uint32_t)crc32(0, p + 16, (uInt)(n - 20));

	for (unsigned i = 0; i < 4; i++)
		p[n - 4 + i] = (uint8_t)(crc >> (24 - 8 * i));
	if (redo_open(slice_of(p, n), &r))
		while (redo_next(&r, &op))
			if (op.kind == REDO_PATCH)
				redo_patch(&op, value, sizeof value);
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
	redo_begin(&b, 7, 0);
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
