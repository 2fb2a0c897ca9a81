/*
 * spf_private: the inside of a check, shared by spf.c (its life and results), spf_terms.c (records, terms,
 * target names) and spf_answers.c (what DNS answers mean for each term).
 */
#ifndef SMTPD_SPF_PRIVATE_H
#define SMTPD_SPF_PRIVATE_H

#include "common/buf.h"
#include "smtpd/spf.h"
#include "smtpd/spf_record.h"

/* A name is kept within 253 octets by dropping what stands left, so more of an expansion is of no use. */
#define SPF_EXPANSION_BYTES_MAX (16 * 1024)
/* One record per include that was counted, and the first. */
#define SPF_FRAMES_MAX (SPF_LOOKUPS_MAX + 1)

enum spf_step {
	SPF_STEP_RECORD,	 /* the TXT answer for the top frame */
	SPF_STEP_NEXT,	 /* the next term of the top frame */
	SPF_STEP_TARGET,	 /* its target name, then its query */
	SPF_STEP_ADDRESSES,	 /* the answer of "a" */
	SPF_STEP_MX,	 /* the MX answer */
	SPF_STEP_MX_NEXT,
	SPF_STEP_MX_ADDRESSES,
	SPF_STEP_EXISTS,
	SPF_STEP_PTR,	 /* the PTR answer, then each name's addresses, then `after_ptr` */
	SPF_STEP_PTR_NEXT,
	SPF_STEP_PTR_ADDRESSES,
	SPF_STEP_PTR_MATCH,
	SPF_STEP_EXP,	 /* the result is fail: its explanation, if it can be had */
	SPF_STEP_EXP_ANSWER,
	SPF_STEP_EXP_TEXT,
};

struct spf_frame {
	struct slice domain;
	struct spf_record record;
	struct slice rest;	 /* terms to come */
	struct spf_term term;	 /* the current one */
	bool redirected;
};

struct spf_names {
	struct slice v[SPF_NAMES_MAX];
	unsigned n;
	unsigned next;
};

struct spf_check {
	const struct dns_asker *dns;
	spf_done_fn *done;
	void *arg;
	struct arena *arena;
	struct spf_query query;
	struct slice sender_domain; /* A-labels */
	struct spf_outcome outcome;
	struct spf_frame frames[SPF_FRAMES_MAX];
	unsigned depth; /* frames in use */
	enum spf_step step;
	enum spf_step after_ptr;
	const struct dns_answer *answer; /* for the step that it wakes */
	uint64_t ticket;
	bool waiting;
	bool ended;
	bool limit; /* the arena's cap was reached */
	struct spf_names mx;
	struct spf_names ptr;	/* to be validated */
	struct spf_names validated;
	bool ptr_known;
	struct slice target;
	struct slice exp_text;
};

/* ---- spf.c ---- */

/* The frame of the record that is being evaluated. */
struct spf_frame *spf_top(struct spf_check *c);
/* A copy in the arena; empty, and c->limit set, at its cap. */
struct slice spf_keep(struct spf_check *c, struct slice s);
/* The same of what may be shown: printable US-ASCII, other octets as "?", at most max of them. */
struct slice spf_keep_printable(struct spf_check *c, struct slice s, size_t max);
/* Asks; the answer, or the lack of one, wakes `step`. */
void spf_ask(struct spf_check *c, struct slice name, uint16_t type, enum spf_step step);
bool spf_answer_temporary(const struct spf_check *c);
/* A or AAAA, as the client's address is. */
uint16_t spf_address_type(const struct spf_check *c);
/* The end of the whole check. */
void spf_finish(struct spf_check *c, enum spf_result result);
/* The record of the top frame has come to a result (RFC 7208 5.2: what include makes of it). */
void spf_frame_result(struct spf_check *c, enum spf_result result);
/* The current term is the fault: temperror or permerror. */
void spf_fault(struct spf_check *c, enum spf_result result);
/* The current directive matches. */
void spf_matched(struct spf_check *c);

/* ---- spf_terms.c ---- */

/* Appends the expansion of spec for the top frame; false when out is full. */
bool spf_expand(struct spf_check *c, struct slice spec, struct buf *out);
/* Sets c->target from spec. False when no name comes of it. */
bool spf_make_target(struct spf_check *c, struct slice spec);
/* True when spec needs %{p} and the names are not known yet: they are looked up, then `step` runs again. */
bool spf_needs_ptr(struct spf_check *c, struct slice spec, enum spf_step step);

/* Asks for the record of the top frame. */
void spf_ask_record(struct spf_check *c);

/* ---- spf_answers.c ---- */

/* The client's address is in the network, of 4 octets or of 16, with the term's prefix length. */
bool spf_client_in(const struct spf_check *c, const uint8_t *network, bool ip4, const struct spf_term *t);

/* ---- the steps, by the names of enum spf_step ---- */

void spf_step_record(struct spf_check *c);
void spf_step_next(struct spf_check *c);
void spf_step_target(struct spf_check *c);
void spf_step_addresses(struct spf_check *c);
void spf_step_exists(struct spf_check *c);
void spf_step_mx(struct spf_check *c);
void spf_step_mx_next(struct spf_check *c);
void spf_step_mx_addresses(struct spf_check *c);
void spf_step_ptr(struct spf_check *c);
void spf_step_ptr_next(struct spf_check *c);
void spf_step_ptr_addresses(struct spf_check *c);
void spf_step_ptr_match(struct spf_check *c);
void spf_step_exp(struct spf_check *c);
void spf_step_exp_answer(struct spf_check *c);
void spf_step_exp_text(struct spf_check *c);

#endif
