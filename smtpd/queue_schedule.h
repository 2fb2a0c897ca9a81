/*
 * queue_schedule: when a message is tried again. Pure.
 */
#ifndef SMTPD_QUEUE_SCHEDULE_H
#define SMTPD_QUEUE_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

/* RFC 5321 4.5.4.1 asks remote senders for half an hour; a local mailbox is never left alone longer than that. */
#define QUEUE_PAUSE_MS_MAX (30u * 60 * 1000)

/*
 * The pause after `attempts` tries (the first one counts, so at least 1): base, doubled each time up to
 * QUEUE_PAUSE_MS_MAX (or base, when that is longer), then shortened or lengthened by up to a quarter, as random says, so
 * that what failed together is not tried together.
 */
uint64_t queue_pause_ms(uint64_t base_ms, uint32_t attempts, uint32_t random);

#endif
