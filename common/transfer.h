/*
 * transfer: content transfer encodings (RFC 2045 6) as resumable decoders and encoders, and
 * base64 for protocols (RFC 4648 4). Fed in chunks of any size with the same result.
 */
#ifndef COMMON_TRANSFER_H
#define COMMON_TRANSFER_H

#include "common/buf.h"
#include "common/slice.h"

/* Stable numbers: they are stored in summaries. */
enum transfer_encoding {
	TRANSFER_7BIT = 0, /* also when the field is absent */
	TRANSFER_8BIT = 1,
	TRANSFER_BINARY = 2,
	TRANSFER_QUOTED_PRINTABLE = 3,
	TRANSFER_BASE64 = 4,
	TRANSFER_UNKNOWN = 5, /* an extension that we cannot decode: [UNKNOWN-CTE] */
};

/* Of a Content-Transfer-Encoding token; the empty slice gives TRANSFER_7BIT. */
enum transfer_encoding transfer_encoding_of(struct slice token);

#define TRANSFER_QP_HELD_MAX 1024 /* white space and a half "=XX" held at a line's end */

struct transfer_decoder {
	enum transfer_encoding encoding;
	uint64_t octets;    /* decoded so far */
	bool damaged;	    /* something was no valid encoding; it was skipped or passed on */
	uint32_t bits;	    /* base64: bits not yet given out */
	uint8_t bits_count; /* base64: how many */
	bool ended;	    /* base64: padding was seen */
	uint16_t held_n;    /* quoted-printable: octets in held */
	uint8_t held[TRANSFER_QP_HELD_MAX];
};

/* Caller's struct, nothing to release. TRANSFER_UNKNOWN passes octets through like BINARY. */
void transfer_decoder_init(struct transfer_decoder *d, enum transfer_encoding encoding);
/*
 * Appends the decoded form of in to out; out may be NULL to count only. False when
 * out's maximum was reached; the decoder is then good for nothing more.
 */
bool transfer_decode(struct transfer_decoder *d, struct slice in, struct buf *out);
/* The end of the part: gives out what was held. */
bool transfer_decode_end(struct transfer_decoder *d, struct buf *out);

/*
 * Quoted-printable (RFC 2045 6.7): lines of at most 76 characters; a CRLF is a line's end, CR and LF by themselves are encoded. A line that
 * begins behind a soft line break never begins with "-": it would be taken for a boundary that the text only contains. Base64: lines of
 * 76 characters. Any other encoding: as it is.
 */
struct transfer_encoder {
	enum transfer_encoding encoding;
	uint64_t octets; /* encoded so far */
	uint8_t column;
	bool broken;	 /* quoted-printable: the line begins behind a soft break */
	uint8_t held[2]; /* base64: of an incomplete group; else white space and CR that may end a line */
	uint8_t held_n;
};

/* Octets that come of n at most, texts at the end included. */
#define TRANSFER_ENCODED_MAX(n) ((n) * 4 + 16)

/* Caller's struct, nothing to release. */
void transfer_encoder_init(struct transfer_encoder *e, enum transfer_encoding encoding);
/* Appends the encoded form of in to out; out may be NULL to count only. False when out is full. */
bool transfer_encode(struct transfer_encoder *e, struct slice in, struct buf *out);
/* The end: gives out what was held. line_end: a last line that has no end gets one, which means nothing. False when out is full. */
bool transfer_encode_end(struct transfer_encoder *e, bool line_end, struct buf *out);

/* Appends all of a text as quoted-printable. False when out is full. */
bool quoted_printable_encode(struct slice in, struct buf *out);

/*
 * Appends base64 with padding; line_chars is the length of lines, each ended with CRLF (a multiple
 * of 4, e.g. 76), or 0 for one line without an end. False when out is full.
 */
bool base64_encode(struct slice in, size_t line_chars, struct buf *out);
/*
 * Strict, for SASL and the like: only the alphabet, right padding, no white space, zero
 * trailing bits. False (out is as before) when it is not that, or when out is full.
 */
bool base64_decode(struct slice in, struct buf *out) __attribute__((warn_unused_result));

#endif
