/*
 * confined: octets that others wrote (mail, above all) are not parsed by the command itself, which may be root, but by a child
 * of it without rights: the sandbox of ROLE_ADMIN (common/sandbox_table.c; as root it becomes nobody), no descriptor but its end of
 * this link and those that it is given, nothing to write to but the link. The two talk in packets, each of which the command judges as it
 * judges any peer's. Whatever the octets do to the child, they can make it lie about themselves, no more.
 */
#ifndef ADMIN_CONFINED_H
#define ADMIN_CONFINED_H

#include "admin/command.h"

#define CONFINED_PACKET_BYTES_MAX (64u * 1024)
/* For one answer. */
#define CONFINED_WAIT_MS 60000

struct confined {
	int fd;
	int pid; /* 0: there is none */
	uint8_t *in;
};

/* The child's work, until confined_take() gives false. It may use what was in memory when the child began. */
typedef void confined_fn(int fd, void *arg);

/* Starts the child. Else than COMMAND_OK it was said why, here and below. */
enum command_status confined_begin(struct confined *c, confined_fn *work, void *arg);
/* Ends the child, whatever it does. All zero is fine. */
void confined_end(struct confined *c);
/* A packet of at most CONFINED_PACKET_BYTES_MAX, with copies of n descriptors (at most MSG_FDS_MAX). */
enum command_status confined_ask(struct confined *c, struct slice packet, const int *fds, unsigned n);
/* The next packet of the child, not empty; valid until the next call. A child that has ended or takes too long is an error. */
enum command_status confined_answer(struct confined *c, struct slice *packet_r);
/* The child's answer makes no sense. */
enum command_status confined_nonsense(void);

/* ---- the child's side ---- */

/* The next packet, valid until the next call; its descriptors are the child's to close. False at the end. */
bool confined_take(int fd, struct slice *packet_r, struct msg_fds *fds_r);
/* Ends the child when nobody is there any more. */
void confined_give(int fd, struct slice packet);

#endif
