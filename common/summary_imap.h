/*
 * summary_imap: ENVELOPE, BODY and BODYSTRUCTURE as IMAP text (RFC 3501 and
 * RFC 9051 7.5.2), for summaries.
 */
#ifndef COMMON_SUMMARY_IMAP_H
#define COMMON_SUMMARY_IMAP_H

#include "common/arena.h"
#include "common/buf.h"
#include "common/mime.h"
#include "common/slice.h"

/* How much of a header an envelope shows. */
struct envelope_limits {
	size_t addresses_max; /* of each of the six lists */
	size_t value_bytes_max;
};

/*
 * Appends the ENVELOPE of a header block. Address fields that occur more than once are joined, of
 * the others the first counts. scratch is used and reset. out's `failed` says whether it fitted.
 */
void summary_imap_envelope(struct buf *out, struct slice header,
    const struct envelope_limits *limits, struct arena *scratch);

/*
 * Appends BODY (extended false) or BODYSTRUCTURE of part and what is in it. The
 * recursion is as deep as the tree, which mime_limits bounds.
 */
void summary_imap_body(struct buf *out, const struct mime_part *part, bool extended,
    const struct envelope_limits *limits, struct arena *scratch);

/*
 * True when s is one parenthesised list of IMAP data and nothing else: balanced, strings closed,
 * literals complete, no line end or NUL outside a literal. For text that comes back from disk.
 */
bool summary_imap_valid(struct slice s);

#endif
