/*
 * A set is a growing array of ranges. Additions only append (or widen the last
 * range), so that hostile input in any order costs one sort and never a shift
 * of the array for each addition.
 */
#include "store/uidset.h"

#include "common/cursor.h"
#include "common/mem.h"
#include "common/memfd.h"

#include <assert.h>

void
uidset_fini(struct uidset *set)
{
	free(set->ranges);
	*set = (struct uidset){0};
}

void
uidset_reset(struct uidset *set)
{
	set->n = 0;
	set->unsorted = false;
}

bool
uidset_add(struct uidset *set, uint32_t first, uint32_t last)
{
	if (first > last) {
		uint32_t swap = first;

		first = last;
		last = swap;
	}
	if (first == 0)
		first = 1;
	if (last == 0)
		return true;
	if (set->n > 0) {
		struct uid_range *tail = &set->ranges[set->n - 1];

		if (first >= tail->first && first - 1 <= tail->last) {
			if (last > tail->last)
				tail->last = last;
			return true;
		}
		if (first <= tail->last)
			set->unsorted = true;
	}
	if (set->n == UIDSET_RANGES_MAX)
		return false;
	if (set->n == set->cap) {
		set->cap = set->cap ? set->cap * 2 : 8;
		set->ranges = mem_resize(set->ranges, set->cap, sizeof *set->ranges);
	}
	set->ranges[set->n++] = (struct uid_range){first, last};
	return true;
}

static int
range_cmp(const void *a, const void *b)
{
	const struct uid_range *x = a, *y = b;

	if (x->first != y->first)
		return x->first < y->first ? -1 : 1;
	return x->last < y->last ? -1 : x->last > y->last;
}

void
uidset_sort(struct uidset *set)
{
	size_t out = 0;

	if (!set->unsorted)
		return;
	qsort(set->ranges, set->n, sizeof *set->ranges, range_cmp);
	for (size_t i = 1; i < set->n; i++) {
		struct uid_range *tail = &set->ranges[out];

		if (set->ranges[i].first - 1 <= tail->last) {
			if (set->ranges[i].last > tail->last)
				tail->last = set->ranges[i].last;
		} else {
			set->ranges[++out] = set->ranges[i];
		}
	}
	set->n = out + 1;
	set->unsorted = false;
}

size_t
uidset_seek(const struct uidset *set, uint32_t uid)
{
	size_t low = 0, high = set->n;

	assert(!set->unsorted);
	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (set->ranges[mid].last < uid)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

bool
uidset_contains(const struct uidset *set, uint32_t uid)
{
	size_t i = uidset_seek(set, uid);

	return i < set->n && set->ranges[i].first <= uid;
}

uint64_t
uidset_count(const struct uidset *set)
{
	uint64_t count = 0;

	assert(!set->unsorted);
	for (size_t i = 0; i < set->n; i++)
		count += (uint64_t)set->ranges[i].last - set->ranges[i].first + 1;
	return count;
}

bool
uidset_next(const struct uidset *set, size_t *at, uint32_t *uid)
{
	assert(!set->unsorted);
	if (*at >= set->n)
		return false;
	if (*uid < set->ranges[*at].first) {
		*uid = set->ranges[*at].first;
		return true;
	}
	if (*uid < set->ranges[*at].last) {
		++*uid;
		return true;
	}
	if (++*at >= set->n)
		return false;
	*uid = set->ranges[*at].first;
	return true;
}

bool
uidset_equal(const struct uidset *a, const struct uidset *b)
{
	assert(!a->unsorted && !b->unsorted);
	return a->n == b->n && (a->n == 0 || memcmp(a->ranges, b->ranges, a->n * sizeof *a->ranges) == 0);
}

bool
uidset_put(struct buf *b, const struct uidset *set)
{
	assert(!set->unsorted);
	for (size_t i = 0; i < set->n; i++) {
		put_u32(b, set->ranges[i].first);
		put_u32(b, set->ranges[i].last);
	}
	return !b->failed;
}

bool
uidset_get(struct slice in, struct uidset *set_r)
{
	struct cursor c = cursor_of(in);

	uidset_reset(set_r);
	if (in.n % UIDSET_RANGE_BYTES != 0 || in.n / UIDSET_RANGE_BYTES > UIDSET_RANGES_MAX)
		return false;
	while (cursor_left(&c) > 0) {
		uint32_t first = cursor_u32(&c);
		uint32_t last = cursor_u32(&c);
		uint64_t least = set_r->n ? (uint64_t)set_r->ranges[set_r->n - 1].last + 2 : 1;

		if (first < least || last < first || !uidset_add(set_r, first, last)) {
			uidset_reset(set_r);
			return false;
		}
	}
	return true;
}

int
uidset_send(const struct uidset *set, struct buf *b, struct slice *field_r, int *fd_r, struct err *e)
{
	*field_r = slice_of(NULL, 0);
	*fd_r = -1;
	buf_reset(b);
	if (!uidset_put(b, set))
		return err_set(e, ERR_LIMIT, ERR_CODE_NONE, "too many ranges", NULL);
	if (b->n <= UIDSET_FIELD_BYTES_MAX) {
		*field_r = buf_slice(b);
		return 0;
	}
	*fd_r = memfd_of(buf_slice(b), e);
	return *fd_r < 0 ? -1 : 0;
}

int
uidset_receive(struct slice field, int fd, struct uidset *set_r, struct err *e)
{
	struct memfd_map map;
	bool ok;

	if (fd < 0) {
		ok = field.n <= UIDSET_FIELD_BYTES_MAX && uidset_get(field, set_r);
	} else {
		if (memfd_map(fd, MEMFD_ANY_SIZE, (uint64_t)UIDSET_RANGES_MAX * UIDSET_RANGE_BYTES, &map, e) < 0)
			return -1;
		ok = slice_empty(field) && uidset_get(map.octets, set_r);
		memfd_unmap(&map);
	}
	return ok ? 0 : err_set(e, ERR_PERM, ERR_CODE_MALFORMED, "internal error", "not a set of UIDs");
}
