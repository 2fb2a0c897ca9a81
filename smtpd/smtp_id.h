/*
 * smtp_id: the names of sessions and of messages on their way, from the kernel's
 * random numbers, in lower-case letters and digits without i, l, o, u.
 */
#ifndef SMTPD_SMTP_ID_H
#define SMTPD_SMTP_ID_H

#include "common/slice.h"

#define SMTP_SESSION_ID_CHARS 10 /* 50 random bits */
/*
 * A queue id is 16 characters and at the same time the 16 octets of the origin under which keepers know the
 * delivery: 45 bits of milliseconds (so that ids sort by time until the year 3084) and 35 random bits.
 */
#define SMTP_QUEUE_ID_CHARS 16

/* Both write a NUL behind the characters. */
void smtp_session_id(char out[SMTP_SESSION_ID_CHARS + 1]);
/* Never gives the same id twice in a row, wherever the clock goes. */
void smtp_queue_id(uint64_t wall_ms, char out[SMTP_QUEUE_ID_CHARS + 1]);
/* True for what smtp_queue_id() could have made. */
bool smtp_queue_id_valid(struct slice id);
/* The wall_ms that it was made with. id is valid. */
uint64_t smtp_queue_id_ms(struct slice id);

#endif
