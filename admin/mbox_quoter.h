/*
 * mbox_quoter: a message as an mbox can hold it: without the header fields that would be taken for marks, and with one ">" more
 * before lines that would be taken for From_ lines (mboxrd). A confined child (admin/confined.h) reads the message.
 */
#ifndef ADMIN_MBOX_QUOTER_H
#define ADMIN_MBOX_QUOTER_H

#include "admin/confined.h"
#include "admin/mbox.h"

struct mbox_quoter {
	struct confined child;
};

enum command_status mbox_quoter_open(struct mbox_quoter *q);
void mbox_quoter_close(struct mbox_quoter *q);
/*
 * The message in file fd, which stays the caller's, to out; line ends are as they were. in_header_r: it ended before the empty
 * line behind the header. -1 and e when it cannot be read.
 */
int mbox_quoter_message(struct mbox_quoter *q, int fd, mbox_octets_fn *out, void *out_arg, bool *in_header_r, struct err *e)
    __attribute__((warn_unused_result));

#endif
