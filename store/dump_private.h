/*
 * dump_private: the words that the two directions of the dump share.
 */
#ifndef STORE_DUMP_PRIVATE_H
#define STORE_DUMP_PRIVATE_H

#include "store/dump.h"

/* The bit of a special use or flag by its name; 0 for any other. */
uint32_t dump_use(struct slice name);
uint32_t dump_flag(struct slice name);

#endif
