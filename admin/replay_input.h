/*
 * replay_input: what signatures were judged from, read back from the time line: the events "dkim-input", "arc-input" and "arc-hash" of one
 * message, as smtpd/verify_main.c writes them.
 */
#ifndef ADMIN_REPLAY_INPUT_H
#define ADMIN_REPLAY_INPUT_H

#include "admin/event_row.h"
#include "common/buf.h"
#include "smtpd/verdict.h"

/* Of the fields of one check. */
#define REPLAY_FIELDS_BYTES_MAX (24 * 1024)

struct replay_input {
	uint64_t now;
	unsigned dkim_count;
	struct dkim_evidence dkim[DKIM_SIGNATURES_MAX];
	enum dkim_broken broken;
	bool has_arc;
	struct arc_evidence arc;
	struct slice author;
	bool dkim_bad, arc_bad; /* it is recorded, but not as it was written */
	/* what the slices are of */
	struct buf dkim_octets, arc_octets, author_octets;
	size_t dkim_at[DKIM_SIGNATURES_MAX];
};

void replay_input_init(struct replay_input *in);
void replay_input_fini(struct replay_input *in);
/* The next event of the message, in their order; one that is none of these is ignored. */
void replay_input_take(struct replay_input *in, const json_t *row);
/* After the last. */
void replay_input_end(struct replay_input *in);

#endif
