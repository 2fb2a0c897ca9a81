/*
 * load: makes the index of an account from an image, and puts it in place as store/rebuild.h does: until then the old
 * one stands, and a crash leaves the one or the other. The account must be the caller's alone.
 */
#ifndef STORE_LOAD_H
#define STORE_LOAD_H

#include "store/image.h"

/* An object that a message of an image refers to. */
struct load_object {
	uint8_t id[STORE_OBJECT_ID_BYTES];
	uint64_t size;
	uint32_t count; /* how many messages do, those kept for undelete included */
};
/* Each once, ascending by id, for the caller to free(). */
struct load_object *load_objects(const struct image *im, size_t *count_r);

/* The image was image_check()ed, and every object of it is there. time: now. */
int load_image(const char *root, const struct image *im, uint64_t time, struct err *e) __attribute__((warn_unused_result));

#endif
