/*
 * front_room: who is ended when all places are taken. front.waited_since_ms is when the session began, later by the time that it
 * waited for our own processes, and by what it sent (LISTENER_OCTETS_PER_MS).
 */
#ifndef SMTPD_FRONT_ROOM_H
#define SMTPD_FRONT_ROOM_H

#include <stdbool.h>
#include <stddef.h>

struct front;

/* A listener_room_fn: nobody is ended for whom our own processes are at work, nor who has logged in. */
bool smtpd_make_room(void);

/* ---- front_session.c ---- */

/* The client's octets are used up, and it has been waited for that much less. */
void smtpd_consume(struct front *f, size_t n);
/* Says it at once, as far as the client takes it at once, and ends the session: its memory is gone. */
void smtpd_end_now(struct front *f, const char *enhanced, const char *text);

#endif
