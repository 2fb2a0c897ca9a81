/*
 * text: comparison of UTF-8 text the way i;unicode-casemap does it (RFC 5051):
 * full compatibility decomposition and case folding, by utf8proc.
 */
#ifndef COMMON_TEXT_H
#define COMMON_TEXT_H

#include "common/buf.h"
#include "common/slice.h"

/*
 * Appends the folded form of s to out; octets that are no UTF-8 are folded to
 * U+FFFD. Folding each of several chunks cut at character boundaries gives the fold of
 * the whole. Linear; at most TEXT_FOLD_GROWTH_MAX octets per octet of s.
 * False when out's maximum was reached (out holds a prefix of the fold).
 */
#define TEXT_FOLD_GROWTH_MAX 24
bool text_fold(struct slice s, struct buf *out);

/*
 * True for UTF-8 as RFC 5198 2 wants text on a line, and RFC 6855 3 a name: in Unicode's normalization form C, without
 * controls, DEL, and the separators of lines and paragraphs. s has at most TEXT_NET_UNICODE_BYTES_MAX octets, else false.
 */
#define TEXT_NET_UNICODE_BYTES_MAX 65536
bool text_is_net_unicode(struct slice s);

/* True when needle, folded, occurs in hay, folded. `needle_folded` is the output of text_fold(). */
bool text_contains(struct slice hay, struct slice needle_folded);

#define TEXT_NEEDLE_BYTES_MAX 65536

/*
 * Search in a stream: feed folded chunks of any size; `found` tells whether the
 * needle occurred, across chunk ends too. An empty needle is found at once.
 */
struct text_finder {
	struct slice needle; /* the caller's, must outlive the finder */
	uint32_t *fail;	     /* for each prefix, the length of its longest proper border */
	size_t matched;
	bool found;
};

/* needle_folded.n must be at most TEXT_NEEDLE_BYTES_MAX. */
void text_finder_init(struct text_finder *f, struct slice needle_folded);
/* Starts over with another text, same needle. */
void text_finder_reset(struct text_finder *f);
void text_finder_fini(struct text_finder *f);
/* Linear in folded, whatever the needle. */
void text_finder_feed(struct text_finder *f, struct slice folded);

#endif
