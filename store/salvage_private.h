/*
 * salvage_private: what the files of the salvage share.
 */
#ifndef STORE_SALVAGE_PRIVATE_H
#define STORE_SALVAGE_PRIVATE_H

#include "store/file.h"
#include "store/image.h"
#include "store/salvage.h"
#include "store/soup.h"

/* A message's file. */
struct salvage_object {
	uint8_t id[STORE_OBJECT_ID_BYTES];
	uint64_t size;
	int64_t time; /* of the file */
	bool intact;  /* its octets are those that its name tells */
	bool used;    /* a message of the image refers to it */
	bool known;   /* one of the index does */
	bool garbage; /* the index had it down for removal */
};

struct salvage {
	const char *root;
	uint64_t now;
	const struct salvage_events *events;
	void *arg;
	struct salvage_result *result;
	struct image im;
	struct image dump; /* account.dump, as far as it can be read */
	uint64_t serial;   /* the highest that was met */
	bool account_known;
	char source[FILE_PATH_BYTES_MAX]; /* the index directory that is whole, when the result is sound */
	struct salvage_object *objects; /* ascending by id */
	size_t object_count;
	uint8_t (*garbage)[STORE_OBJECT_ID_BYTES];
	size_t garbage_count;
};

void salvage_note(const struct salvage *s, const char *code, const struct image_mailbox *mb, uint32_t uid, uint64_t object,
    const char *fmt, ...) __attribute__((format(printf, 6, 7)));

/* ---- salvage_index.c: what the index knew ---- */

/* Gathers the records and makes the image of them. */
int salvage_index(struct salvage *s, struct err *e);
/* The image's messages of a mailbox in order of UIDs, each once. */
void salvage_sort(struct image_mailbox *mb);

/* ---- salvage_objects.c: what is there ---- */

/* Looks at every file of mail/. */
int salvage_objects(struct salvage *s, struct err *e);
struct salvage_object *salvage_object(const struct salvage *s, const uint8_t id[STORE_OBJECT_ID_BYTES]);
/* Seconds since 1970 and zone that a message says of itself: its topmost Received, or Date; else the file's. */
void salvage_date(const struct salvage *s, const struct salvage_object *o, struct format_detail *d);

#endif
