/*
 * whole_file: a small file read at once.
 */
#ifndef ADMIN_WHOLE_FILE_H
#define ADMIN_WHOLE_FILE_H

#include "common/buf.h"
#include "common/err.h"

/* All of it, at most max octets, into b (initialised, of twice as many at least). 0, or -1 and e. Blocks. */
int whole_file_read(const char *path, size_t max, struct buf *b, struct err *e) __attribute__((warn_unused_result));

#endif
