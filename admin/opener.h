/*
 * opener: message objects below a directory that the operator names, opened by a child that stays who the command was when it
 * began. The command itself becomes the account's owner, who need not be able to read what root may.
 */
#ifndef ADMIN_OPENER_H
#define ADMIN_OPENER_H

#include "admin/command.h"
#include "store/store.h"

struct opener {
	int fd;
	int pid; /* 0: there is none */
};

/* dir has mail/, as an account's directory. Else than COMMAND_OK it was said why. */
enum command_status opener_begin(struct opener *o, const char *dir);
/* All zero is fine. */
void opener_end(struct opener *o);
/* That object's file, for reading; -1 and errno, which is ENOENT when it is not there. */
int opener_get(struct opener *o, const uint8_t id[STORE_OBJECT_ID_BYTES]);

#endif
