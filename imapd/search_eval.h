/*
 * search_eval: a SEARCH tree and one message, with as much of the message as is at hand. Three values: what cannot
 * be decided yet is MAYBE, so that nothing is fetched for messages that flags or dates decide.
 */
#ifndef IMAPD_SEARCH_EVAL_H
#define IMAPD_SEARCH_EVAL_H

#include "common/err.h"
#include "common/summary.h"
#include "imapd/imap_search.h"
#include "store/entry.h"
#include "store/record.h"

/* BODY and TEXT keys of one command: each reads the whole message. */
#define SEARCH_BODY_KEYS_MAX 16

enum search_truth {
	SEARCH_NO,
	SEARCH_MAYBE,
	SEARCH_YES,
};

/* The message. What is NULL, or -1, is not at hand. */
struct search_message {
	uint32_t number;
	const struct store_entry *entry;
	bool recent;
	const struct store_record *record; /* with detail */
	const struct summary *summary;
	int fd; /* only with summary */
};

/* What a tree may need, and what is needed to get it ready. */
struct search_needs {
	bool detail;
	bool summary;
	bool object;
};

struct search_context {
	struct arena *arena;
	uint32_t exists;
	uint32_t last_uid;
	struct slice keywords; /* the mailbox's lines */
};

/*
 * Makes the tree ready: sets resolved, keywords looked up, texts folded. -1 with ERR_LIMIT when it is too costly or the
 * arena is full.
 */
int search_prepare(struct imap_search *search, const struct search_context *context, struct search_needs *needs_r,
    struct err *e) __attribute__((warn_unused_result));

/* Never MAYBE when everything is at hand. */
enum search_truth search_eval(const struct imap_search *search, const struct search_message *m);

#endif
