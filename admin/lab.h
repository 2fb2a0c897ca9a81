/*
 * lab: one message through the real processes, against a zone that need not be published: a demo
 * (admin/demo.h) in a directory of its own, whose resolver answers that zone from a file.
 */
#ifndef ADMIN_LAB_H
#define ADMIN_LAB_H

#include "admin/demo.h"
#include "common/buf.h"

#define LAB_MESSAGE_BYTES_MAX (25u << 20)
#define LAB_ZONE_BYTES_MAX (1u << 20)
#define LAB_NAME_SIZE 256
#define LAB_REPLY_BYTES_MAX 4096

struct lab {
	struct demo demo;
	const char *from;      /* the client's address */
	const char *helo;      /* the name it gives */
	const char *sender;    /* the reverse-path; "" is the null one */
	const char *recipient; /* at DEMO_DOMAIN */
	const char *dns;       /* who is asked for other names, or NULL */
	struct buf message;    /* lines end in CRLF */
	uint16_t port;	       /* of SMTP */
};

/*
 * Makes demo.directory (which exists) ready: the zone, the resolver's settings, mailstead.conf. origin: the zone's name,
 * or NULL when zone says it by $ORIGIN. A zone without SOA gets one. 0, or -1 and e. Blocks on the disk.
 */
int lab_prepare(struct lab *lab, struct slice zone, const char *origin, struct err *e) __attribute__((warn_unused_result));
/* Appends text to b with CRLF at the end of each line, the last one included. */
void lab_put_lines(struct buf *b, struct slice text);
/* Removes the directory and what is in it. */
void lab_remove(const char *directory);

/*
 * Sends the message by SMTP to 127.0.0.1. What the server said last, to a command that it refused or to the end of the message, goes
 * to reply (reset first) without its line end. 0, or -1 and e: there was no such dialogue. Blocks, two minutes at most for each answer.
 */
int lab_send(const struct lab *lab, struct buf *reply, struct err *e) __attribute__((warn_unused_result));

#endif
