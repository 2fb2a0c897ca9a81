/*
 * queue_select: which messages of the queue an operator means. Pure.
 *
 * Words are ids, or FIELD=PATTERN, where a pattern may have * and ? (fnmatch(3), letters of either case), or of what has an order
 * FIELD<VALUE and FIELD>VALUE. A message is meant when it has one of the ids (if there are any) and all fields match; of a recipient's
 * fields it is enough that one recipient matches all of those that are given. A field is whatever `mailstead queue list --json` tells of
 * a message, or of a recipient:
 *
 *   of a message    id, state, sender, session, report, forward_from, bytes, attempts, priority, added, next, release, requiretls,
 *                   tls_optional
 *   of a recipient  to (its address), domain, status, by, text, recipient (its state), here, forwarded, unsure, told,
 *                   recipient.attempts, recipient.next
 *
 * A value is a number, one of octets with K, M or G behind it (bytes), or a time: as 2026-11-29T12:00:00Z, a day, or so long ago (added)
 * or ahead (next, release) as 90s, 15m, 2h, 3d say. What is not there has no order. Of yes and no the pattern is "yes" or "no".
 */
#ifndef ADMIN_QUEUE_SELECT_H
#define ADMIN_QUEUE_SELECT_H

#include <jansson.h>
#include <stdbool.h>

#define QUEUE_SELECT_WORDS_MAX 1000

/* The first of the words that is neither an id nor such a condition; NULL: all are good. */
const char *queue_select_check(int count, char **words);
/* The word is an id. */
bool queue_select_is_id(const char *word);
/* row: one message as "mailstead queue list --json" has it. No words: every message. The words are good. */
bool queue_select(json_t *row, int count, char **words);

#endif
