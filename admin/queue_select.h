/*
 * queue_select: which messages of the queue an operator means. Pure.
 *
 * Words are ids, or FIELD=PATTERN, where a pattern may have * and ? (fnmatch(3), letters of either case). A message is meant when it
 * has one of the ids (if there are any) and all fields match; of a recipient's fields it is enough that one recipient matches all of
 * those that are given.
 * Fields of a message: id, state, sender, session, report; of a recipient: to, domain, status, by, text, recipient (its state).
 */
#ifndef ADMIN_QUEUE_SELECT_H
#define ADMIN_QUEUE_SELECT_H

#include <jansson.h>
#include <stdbool.h>

/* The first of the words that is neither an id nor a field that there is; NULL: all are good. */
const char *queue_select_check(int count, char **words);
/* row: one message as "mailstead queue list --json" has it. No words: every message. */
bool queue_select(json_t *row, int count, char **words);

#endif
