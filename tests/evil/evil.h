/*
 * What the evil fronts share: a front that was taken over and does what a line from its client tells it. Test programs only:
 * tests/instance/test_evil.py puts them in the place of the real fronts. They are linked with an ipc.c whose assertions
 * are off, so that they can send what the message table does not allow them.
 */
#ifndef EVIL_H
#define EVIL_H

#include "common/role.h"

#define EVIL_LINE_BYTES_MAX 1024

/* Does what one line says; answers through evil_say(), now or later. */
typedef void evil_fn(char *line);

/* Takes one client at a time on fd and calls fn for each of its lines. */
void evil_listen(int fd, evil_fn *fn);
/* A line to the client of the moment. */
void evil_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
