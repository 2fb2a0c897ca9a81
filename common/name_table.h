/*
 * name_table: finding what has a name, among many. The links are part of what they find, so nothing here owns anything
 * but the table itself, which grows with what is in it.
 */
#ifndef COMMON_NAME_TABLE_H
#define COMMON_NAME_TABLE_H

#include "common/slice.h"

struct name_link {
	struct name_link *next;
	uint64_t hash;
	struct slice name;
};

struct name_table {
	struct name_link **buckets;
	size_t bucket_count; /* a power of two */
	size_t count;
	uint64_t seed;
};

void name_table_init(struct name_table *t);
/* Frees the table alone. */
void name_table_fini(struct name_table *t);
/* NULL when there is none. */
struct name_link *name_table_find(const struct name_table *t, struct slice name);
/* name must not be in the table, and its octets must stay where they are as long as link is in it. */
void name_table_add(struct name_table *t, struct name_link *link, struct slice name);
/* Takes every link out and gives it to fn, which may free what it is part of. */
void name_table_drain(struct name_table *t, void (*fn)(struct name_link *link));
/* link is in the table. */
void name_table_remove(struct name_table *t, struct name_link *link);

#endif
