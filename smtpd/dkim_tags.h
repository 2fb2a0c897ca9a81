/*
 * dkim_tags: tag lists (RFC 6376 3.2) and what a DKIM-Signature field must be
 * before libopendkim sees it. Pure and linear.
 */
#ifndef SMTPD_DKIM_TAGS_H
#define SMTPD_DKIM_TAGS_H

#include "smtpd/dkim_check.h"

#define DKIM_TAGS_MAX 64

struct dkim_tag {
	struct slice name;
	struct slice value; /* without white space at its ends; may be folded inside */
};

struct dkim_tag_list {
	struct dkim_tag v[DKIM_TAGS_MAX];
	unsigned n;
};

/* False when text is no tag-list, has a tag twice (3.2) or more than DKIM_TAGS_MAX. */
bool dkim_tags_parse(struct slice text, struct dkim_tag_list *list_r);
/* The value of a tag (names are case-sensitive), or p == NULL. */
struct slice dkim_tags_get(const struct dkim_tag_list *list, const char *name);

/* A base64 value with folding white space inside (base64string, 2.10); at least one octet of it. */
bool dkim_base64_valid(struct slice s);
/* True when word is an element of a list separated by sep, white space around elements, ASCII case-insensitive. */
bool dkim_list_has(struct slice list, uint8_t sep, struct slice word);

struct dkim_fields {
	struct slice d, s, a, i, b, bh, h;
	bool body_relaxed; /* c= */
	bool has_i;
	bool has_l;
	uint64_t l;
};

/*
 * Reads the value of a DKIM-Signature field and checks it (3.5, 6.1.1) as of `now`. Fills what could be read of
 * *fields_r in any case. NULL when it is good, else a fixed text; *result_r is what the signature comes to then.
 */
const char *dkim_signature_check(struct slice value, uint64_t now, struct dkim_fields *fields_r,
    enum dkim_result *result_r);

/* The fields of an ARC set that are signatures (RFC 8617 4.1.2, 4.1.3). */
#define ARC_SETS_MAX 50

struct arc_fields {
	unsigned instance; /* i=, 1 to ARC_SETS_MAX; 0: it could not be read */
	struct slice d, s, a, b;
	struct slice bh, h; /* of a message signature */
	struct slice cv;    /* of a seal */
	bool header_relaxed, body_relaxed;
};

/* As dkim_signature_check(), for the values of ARC-Message-Signature and ARC-Seal. */
const char *arc_message_check(struct slice value, uint64_t now, struct arc_fields *fields_r);
const char *arc_seal_check(struct slice value, struct arc_fields *fields_r);
/* i=, which begins the value of ARC-Authentication-Results; 0 when it does not. *rest_r is what follows its ";". */
unsigned arc_results_instance(struct slice value, struct slice *rest_r);

#endif
