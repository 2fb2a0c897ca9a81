/*
 * explain: what the recorder knows of a message or a session, asked for and printed.
 */
#ifndef ADMIN_EXPLAIN_H
#define ADMIN_EXPLAIN_H

#include "admin/command.h"

/*
 * Appends to rows, an array, every event not before since_us (microseconds since 1970) of every session that mentions key,
 * oldest first; *cut_r: more is recorded than an answer holds. Blocks.
 */
enum command_status explain_fetch(const struct config *config, const char *key, uint64_t since_us, json_t *rows, bool *cut_r);
/*
 * One line for each event, on stdout, and one for each that was judged again (admin/replay.h); what a peer put into it cannot play
 * with the terminal.
 */
void explain_print(const json_t *rows);

#endif
