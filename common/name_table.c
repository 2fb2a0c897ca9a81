#include "common/name_table.h"

#include "common/mem.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/random.h>

#define BUCKETS_MIN 64

/* FNV-1a from a start that nobody outside knows, mixed at the end, so that names cannot be chosen to meet in one bucket. */
static uint64_t
hash_of(const struct name_table *t, struct slice name)
{
	uint64_t h = t->seed;

	for (size_t i = 0; i < name.n; i++)
		h = (h ^ name.p[i]) * UINT64_C(0x100000001b3);
	h ^= t->seed >> 32;
	h = (h ^ (h >> 33)) * UINT64_C(0xff51afd7ed558ccd);
	return h ^ (h >> 33);
}

static struct name_link **
bucket_of(const struct name_table *t, uint64_t hash)
{
	return &t->buckets[hash & (t->bucket_count - 1)];
}

static struct name_link **
buckets_new(size_t count)
{
	struct name_link **b = mem_new_array(count, sizeof(struct name_link *));

	memset(b, 0, count * sizeof(struct name_link *));
	return b;
}

void
name_table_init(struct name_table *t)
{
	*t = (struct name_table){.bucket_count = BUCKETS_MIN, .buckets = buckets_new(BUCKETS_MIN)};
	if (getrandom(&t->seed, sizeof t->seed, 0) != (ssize_t)sizeof t->seed)
		abort();
}

void
name_table_fini(struct name_table *t)
{
	free(t->buckets);
	*t = (struct name_table){0};
}

struct name_link *
name_table_find(const struct name_table *t, struct slice name)
{
	uint64_t hash = hash_of(t, name);
	struct name_link *l = *bucket_of(t, hash);

	while (l != NULL && (l->hash != hash || !slice_eq(l->name, name)))
		l = l->next;
	return l;
}

static void
grow(struct name_table *t)
{
	struct name_link **old = t->buckets;
	size_t old_count = t->bucket_count;

	t->bucket_count *= 2;
	t->buckets = buckets_new(t->bucket_count);
	for (size_t i = 0; i < old_count; i++)
		while (old[i] != NULL) {
			struct name_link *l = old[i];
			struct name_link **to = bucket_of(t, l->hash);
			old[i] = l->next;
			l->next = *to;
			*to = l;
		}
	free(old);
}

void
name_table_add(struct name_table *t, struct name_link *link, struct slice name)
{
	struct name_link **to;

	if (t->count == t->bucket_count)
		grow(t);
	link->hash = hash_of(t, name);
	link->name = name;
	to = bucket_of(t, link->hash);
	link->next = *to;
	*to = link;
	t->count++;
}

void
name_table_remove(struct name_table *t, struct name_link *link)
{
	struct name_link **at = bucket_of(t, link->hash);

	while (*at != NULL && *at != link)
		at = &(*at)->next;
	assert(*at == link);
	*at = link->next;
	t->count--;
}

void
name_table_drain(struct name_table *t, void (*fn)(struct name_link *link))
{
	for (size_t i = 0; i < t->bucket_count; i++)
		while (t->buckets[i] != NULL) {
			struct name_link *l = t->buckets[i];

			t->buckets[i] = l->next;
			t->count--;
			fn(l);
		}
}
