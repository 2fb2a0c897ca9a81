/*
 * progress: how far a long command is, as one line on the terminal that stderr is. Elsewhere, and with --json, nothing is shown.
 */
#ifndef ADMIN_PROGRESS_H
#define ADMIN_PROGRESS_H

#include "admin/command.h"

struct progress {
	bool shown;
	bool open; /* a line is there */
	uint64_t next_ms;
};

void progress_begin(struct progress *p, const struct command_call *call);
/* what: a few words, printable. total 0: not known. Draws a few times a second, however often it is called. */
void progress_step(struct progress *p, const char *what, uint64_t done, uint64_t total);
/* Takes the line away: before anything else is printed. */
void progress_end(struct progress *p);

#endif
