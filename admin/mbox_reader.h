/*
 * mbox_reader: mboxes read by a confined child (admin/confined.h): it is given a file's descriptor and answers with the octets and
 * marks of one message after the other, which are checked here.
 */
#ifndef ADMIN_MBOX_READER_H
#define ADMIN_MBOX_READER_H

#include "admin/confined.h"
#include "admin/mbox.h"

struct mbox_reader {
	struct confined child;
	uint64_t at; /* where in the file the next message begins */
};

enum command_status mbox_reader_open(struct mbox_reader *r);
void mbox_reader_close(struct mbox_reader *r);
/* What the first message of the file says of UIDs; 0 and 0 when it says nothing. fd stays the caller's. */
enum command_status mbox_reader_look(struct mbox_reader *r, int fd, uint32_t *uidvalidity_r, uint32_t *last_uid_r);
/* mbox_reader_next() gives that file's messages, until its end. */
enum command_status mbox_reader_begin(struct mbox_reader *r, int fd);
/* As mbox_next(), whose value is *next_r; else than COMMAND_OK there is no reader any more, and it was said why. */
enum command_status mbox_reader_next(struct mbox_reader *r, struct mbox_message *msg_r, mbox_octets_fn *out, void *out_arg,
    int *next_r, struct err *e);

#endif
