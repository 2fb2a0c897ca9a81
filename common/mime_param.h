/*
 * mime_param: the values of Content-Type, Content-Disposition and their kin
 * (RFC 2045 5.1, RFC 2183), with the parameter continuations and charsets of RFC 2231.
 * Lenient and bounded; everything lives in the caller's arena or input.
 */
#ifndef COMMON_MIME_PARAM_H
#define COMMON_MIME_PARAM_H

#include "common/arena.h"
#include "common/buf.h"
#include "common/slice.h"

#define MIME_PARAMS_MAX 64	     /* parameters of one field; the rest is ignored */
#define MIME_PARAM_PIECES_MAX 64     /* RFC 2231 continuations over all parameters of one field */
#define MIME_PARAM_BYTES_MAX 8192    /* one value, joined */

struct mime_param {
	struct slice name;  /* as written, without the marks of RFC 2231 ("filename*0*" -> "filename") */
	struct slice value; /* unquoted and joined; extended: charset'language'%-encoded text */
	bool extended;	    /* RFC 2231 4: IMAP shows the name with "*" behind it */
};

struct mime_params {
	struct mime_param *v;
	size_t n;
	bool truncated; /* a cap was passed */
};

struct mime_value {
	struct slice type;    /* of Content-Type; of others the token before the first ";" */
	struct slice subtype; /* of Content-Type only */
	struct mime_params params;
};

/*
 * Parses a Content-Type value, still folded or not. False when there is no type/subtype
 * (the caller takes the default of RFC 2045 5.2) or at the arena's cap.
 */
bool mime_type_parse(struct slice value, struct arena *a, struct mime_value *value_r);
/* The same for Content-Disposition: one token in `type`. False without one. */
bool mime_disposition_parse(struct slice value, struct arena *a, struct mime_value *value_r);
/* The first token of a value, comments skipped (Content-Transfer-Encoding); empty when none. */
struct slice mime_token_parse(struct slice value);
/*
 * The tokens of a comma-separated list (Content-Language), at most max, into tags_r (room
 * for max); returns how many.
 */
size_t mime_language_parse(struct slice value, size_t max, struct slice *tags_r);

/* The parameter of that name (ASCII case-insensitive), or NULL. */
const struct mime_param *mime_param_find(const struct mime_params *params, struct slice name);
/*
 * Appends the value as UTF-8 text: an extended one decoded and converted, a plain one
 * with encoded words decoded as well (wrong by RFC 2047 5, and common). False when out is full.
 */
bool mime_param_text(const struct mime_param *param, struct buf *out);

#endif
