/*
 * A hash table by id and a binary heap by deadline over the same entries; each entry knows its
 * place in the heap, so that an answer takes it out of both. Ids count up, so the low bits spread
 * them evenly and no peer chooses them.
 */
#include "common/pending.h"

#include "common/mem.h"

#include <assert.h>

#define BUCKETS_FIRST 16u

struct item {
	uint64_t id;
	uint64_t deadline_ms;
	struct pending_entry entry;
	struct item *next; /* in its bucket */
	unsigned place;	   /* in the heap */
};

struct pending {
	struct item **heap;
	struct item **buckets;
	unsigned bucket_count; /* a power of two, also the heap's capacity */
	unsigned n;
	unsigned max;
};

static uint64_t last_id;

struct pending *
pending_new(unsigned entries_max)
{
	struct pending *p = MEM_NEW(struct pending);

	p->max = entries_max;
	return p;
}

void
pending_free(struct pending **pp)
{
	struct pending *p = *pp;

	if (p == NULL)
		return;
	for (unsigned i = 0; i < p->n; i++)
		free(p->heap[i]);
	free(p->heap);
	free(p->buckets);
	MEM_FREE(pp);
}

static struct item **
bucket_of(const struct pending *p, uint64_t id)
{
	return &p->buckets[id & (p->bucket_count - 1)];
}

static void
grow(struct pending *p)
{
	unsigned count = p->bucket_count ? p->bucket_count * 2 : BUCKETS_FIRST;

	free(p->buckets);
	p->buckets = mem_new_array(count, sizeof *p->buckets);
	p->heap = mem_resize(p->heap, count, sizeof *p->heap);
	p->bucket_count = count;
	for (unsigned i = 0; i < p->n; i++) {
		struct item **bucket = bucket_of(p, p->heap[i]->id);

		p->heap[i]->next = *bucket;
		*bucket = p->heap[i];
	}
}

static void
place(struct pending *p, struct item *it, unsigned at)
{
	p->heap[at] = it;
	it->place = at;
}

static void
sift_up(struct pending *p, struct item *it, unsigned at)
{
	while (at > 0) {
		unsigned parent = (at - 1) / 2;

		if (p->heap[parent]->deadline_ms <= it->deadline_ms)
			break;
		place(p, p->heap[parent], at);
		at = parent;
	}
	place(p, it, at);
}

static void
sift_down(struct pending *p, struct item *it, unsigned at)
{
	for (;;) {
		unsigned child = at * 2 + 1;

		if (child >= p->n)
			break;
		if (child + 1 < p->n &&
		    p->heap[child + 1]->deadline_ms < p->heap[child]->deadline_ms)
			child++;
		if (it->deadline_ms <= p->heap[child]->deadline_ms)
			break;
		place(p, p->heap[child], at);
		at = child;
	}
	place(p, it, at);
}

uint64_t
pending_add(struct pending *p, uint64_t deadline_ms, struct pending_entry entry)
{
	if (p->n >= p->max)
		return 0;
	if (p->n == p->bucket_count)
		grow(p);
	struct item *it = MEM_NEW(struct item);

	it->id = ++last_id;
	it->deadline_ms = deadline_ms;
	it->entry = entry;
	struct item **bucket = bucket_of(p, it->id);
	it->next = *bucket;
	*bucket = it;
	p->n++;
	sift_up(p, it, p->n - 1);
	return it->id;
}

static void
remove_item(struct pending *p, struct item *it, struct pending_entry *entry_r)
{
	struct item **link = bucket_of(p, it->id);

	while (*link != it)
		link = &(*link)->next;
	*link = it->next;

	struct item *last = p->heap[--p->n];

	if (last != it) {
		sift_up(p, last, it->place);
		sift_down(p, last, last->place);
	}
	*entry_r = it->entry;
	free(it);
}

bool
pending_take(struct pending *p, uint64_t id, struct pending_entry *entry_r)
{
	if (p->n == 0)
		return false;
	for (struct item *it = *bucket_of(p, id); it; it = it->next)
		if (it->id == id) {
			remove_item(p, it, entry_r);
			return true;
		}
	return false;
}

void *
pending_find(const struct pending *p, uint64_t id)
{
	if (p->n == 0)
		return NULL;
	for (struct item *it = *bucket_of(p, id); it; it = it->next)
		if (it->id == id)
			return it->entry.obj;
	return NULL;
}

bool
pending_take_due(struct pending *p, uint64_t now_ms, struct pending_entry *entry_r)
{
	if (p->n == 0 || p->heap[0]->deadline_ms > now_ms)
		return false;
	remove_item(p, p->heap[0], entry_r);
	return true;
}

uint64_t
pending_next_deadline(const struct pending *p)
{
	return p->n ? p->heap[0]->deadline_ms : UINT64_MAX;
}

unsigned
pending_count(const struct pending *p)
{
	return p->n;
}
