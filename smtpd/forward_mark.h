/*
 * forward_mark: how a message that was sent on is known again when it comes back. It carries Delivered-To fields with the addresses that
 * sent it on; with several recipients, none of whom is to learn of another, a mark of the address stands there instead. Pure.
 */
#ifndef SMTPD_FORWARD_MARK_H
#define SMTPD_FORWARD_MARK_H

#include "common/buf.h"
#include "common/slice.h"

#define FORWARD_MARK_CHARS 20
#define FORWARD_ADDRESSES_MAX 100 /* addresses of one message that send it on */
#define FORWARD_MARKS_BYTES_MAX (FORWARD_ADDRESSES_MAX * FORWARD_MARK_CHARS)

/* Appends the mark of an address: 100 bits of SHA-256 over it, ASCII letters without case. */
void forward_mark_put(struct slice address, struct buf *b);
/* Appends the field, with its CRLF: plain, with the address itself. False when b is full. */
bool forward_mark_field(struct slice address, bool plain, struct buf *b);
/* The value of a Delivered-To field (hostile) names an address of which marks has the mark; marks is one behind the other. */
bool forward_mark_found(struct slice marks, struct slice value);

#endif
