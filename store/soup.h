/*
 * soup: the records of an index gathered from damaged places. The same key may be found several times with several
 * values; which one is the newest is told by what it holds: UIDs and modseqs only go up.
 */
#ifndef STORE_SOUP_H
#define STORE_SOUP_H

#include "store/carve.h"
#include "store/env.h"

struct soup;

struct soup *soup_new(void);
void soup_free(struct soup **s);

/* Puts a record in the place of what is there. */
void soup_put(struct soup *s, struct slice key, struct slice value);
/* One that was found somewhere: joined with what is there. A key that a redo record took out stays out. */
void soup_merge(struct soup *s, struct slice key, struct slice value);

/* All records in the order of keys; fn gives false to end it. */
typedef bool soup_each_fn(void *arg, struct slice key, struct slice value);
void soup_each(const struct soup *s, soup_each_fn *fn, void *arg);

/*
 * The redo records of a log on top. exact: base holds all up to that serial, and the log all after it; false is returned
 * when that turns out not to be so (then the soup is of no use). Otherwise what fits is joined: always true.
 */
bool soup_apply(struct soup *s, const struct carve_log *log, bool exact, uint64_t base_serial, uint64_t *serial_r);

#endif
