/*
 * fetch_section: one BODY[...] or RFC822... item of a FETCH response, from the message's object.
 */
#ifndef IMAPD_FETCH_SECTION_H
#define IMAPD_FETCH_SECTION_H

#include "common/summary.h"
#include "imapd/imap_fetch.h"

struct session;

/* Octets of a header that HEADER.FIELDS looks at; what is beyond is as if it were not there. */
#define FETCH_HEADER_BYTES_MAX (1u << 20)
/* A text up to so long goes through memory; a longer one goes from its file. */
#define FETCH_INLINE_BYTES_MAX (64u * 1024)
/* Stands for NUL in what is sent: a literal must not have it (RFC 3501 9, CHAR8), and lengths must stay. */
#define FETCH_NUL_REPLACEMENT 0x80

/*
 * Says `label NIL`, `label ""` or `label {n}` and the octets. sum may be NULL when the item is the whole message. False when the
 * object is not what the records say: the session has ended.
 */
bool fetch_section(struct session *s, const struct imap_fetch_item *item, const struct summary *sum, int fd,
    uint64_t size);
/* True when the item needs the summary to be found. */
bool fetch_section_needs_summary(const struct imap_fetch_item *item);

#endif
