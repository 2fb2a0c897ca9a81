/*
 * summary: what is known of a message once and for all, computed while it
 * streams by at delivery or APPEND, stored beside it, and served by FETCH and
 * SEARCH without parsing the message again.
 *
 * The encoded form, version 1. Integers are big-endian; "slice" is a u32
 * length and that many octets.
 *
 *   at  size
 *    0     1  version, 1
 *    1     1  flags: 1 flat (the structure passed a cap and is given as one
 *             application/octet-stream), 2 date is valid, 4 some text was cut,
 *             8 no header, of the message or in it, has an octet over 127
 *             (without it: some has, or it is not known)
 *    2     8  prefix: octets put before the message after the summary was made
 *   10     8  prefix lines
 *   18     8  message octets, without the prefix
 *   26     8  message lines (LFs), without the prefix
 *   34     8  header octets with the empty line, without the prefix
 *   42     8  header lines, without the prefix
 *   50    32  SHA-256 of the message without the prefix
 *   82     8  Date: seconds since 1970 UTC, two's complement (0 when not valid)
 *   90     2  Date: zone in minutes east of UTC, two's complement
 *   92        slice: ENVELOPE, IMAP text with its parentheses
 *             slice: BODY, the same
 *             slice: BODYSTRUCTURE, the same
 *             slice: Subject, UTF-8, decoded (RFC 2047), unfolded
 *             slice: From, the same     slice: To     slice: Cc     slice: Bcc
 *             slice: Message-ID without "<>"
 *             slice: ids of In-Reply-To without "<>", one LF after each
 *             slice: ids of References, the same
 *             slice: preview, UTF-8
 *             slice: strings, to which parts refer
 *             slice: parts, 48 octets each, in order of appearance:
 *               0  1  kind (enum mime_kind)
 *               1  1  encoding (enum transfer_encoding)
 *               2  2  octets of the charset's name
 *               4  4  where it begins in strings
 *               8  4  index of the next sibling, 0 for none
 *              12  8  header start     20  8  body start     28  8  body octets
 *              36  4  header lines     40  4  body lines     (0xFFFFFFFF: that many or more)
 *              44  4  index of the parent; 0xFFFFFFFF for part 0, the message itself
 *
 * A part that is not a leaf has its first child at the next index. Offsets
 * of parts are stored without the prefix and given out with it; part 0's
 * header always starts at 0. Nothing follows the parts.
 */
#ifndef COMMON_SUMMARY_H
#define COMMON_SUMMARY_H

#include "common/buf.h"
#include "common/date.h"
#include "common/mime.h"
#include "common/slice.h"

#define SUMMARY_VERSION 1
#define SUMMARY_BYTES_MAX (1024 * 1024) /* an encoded summary is never longer */
#define SUMMARY_BYTES_MIN (128 * 1024)	/* the least maximum that may be asked for */
#define SUMMARY_SHA256_BYTES 32
#define SUMMARY_PREVIEW_CHARS_MAX 200

/* ---- making one ---- */

struct summary_builder;

/*
 * Never NULL. bytes_max bounds the encoded form (SUMMARY_BYTES_MIN..MAX; 0 means MAX): a structure
 * that does not fit is given flat, text is cut. Memory in use is bounded by a few MiB.
 */
struct summary_builder *summary_builder_new(size_t bytes_max) __attribute__((warn_unused_result));
void summary_builder_free(struct summary_builder **b);
/* The next octets of the message; any chunk size. Octets that will be dropped are just not fed. */
void summary_builder_feed(struct summary_builder *b, struct slice in);
/* Appends the encoded summary to out. False only when out's maximum is smaller than it. Once. */
bool summary_builder_finish(struct summary_builder *b, struct buf *out)
    __attribute__((warn_unused_result));

/* Appends the summary of the message in a file. False when it cannot be read, or out is full. Blocks on the disk. */
bool summary_of_file(int fd, struct buf *out) __attribute__((warn_unused_result));

/*
 * Records that octets (lines of them) of trace header were put before the message, ascii or not; replaces an earlier
 * value. encoded is the whole summary. False when it is not a summary of this version.
 */
bool summary_set_prefix(uint8_t *encoded, size_t n, uint64_t octets, uint64_t lines, bool ascii)
    __attribute__((warn_unused_result));

/* ---- reading one ---- */

/* Slices point into the encoded octets. Numbers include the prefix, but for sha256. */
struct summary {
	bool flat;
	bool text_cut;
	bool has_date;
	bool ascii_headers; /* surely; else a client without UTF-8 may need a surrogate (common/downgrade.h) */
	struct date_time date;
	uint64_t prefix_octets;
	uint64_t prefix_lines;
	uint64_t octets; /* RFC822.SIZE */
	uint64_t lines;
	uint64_t header_octets;
	uint64_t header_lines;
	const uint8_t *sha256; /* SUMMARY_SHA256_BYTES, of the message without the prefix */
	struct slice envelope;
	struct slice body;
	struct slice bodystructure;
	struct slice subject;
	struct slice from;
	struct slice to;
	struct slice cc;
	struct slice bcc;
	struct slice message_id;
	struct slice in_reply_to; /* ids, LF after each */
	struct slice references;
	struct slice preview;
	struct slice strings;
	struct slice parts;
	uint32_t parts_count; /* at least 1 */
};

/* False when encoded is not a valid summary. Hostile octets are safe, here and in what follows. */
bool summary_decode(struct slice encoded, struct summary *summary_r)
    __attribute__((warn_unused_result));

/* What ascii_headers would be, from the encoded form's beginning alone: no more of it is checked; false for what is none. */
bool summary_headers_ascii(struct slice encoded);

struct summary_part {
	enum mime_kind kind;
	enum transfer_encoding encoding;
	struct slice charset; /* of text parts, as written; empty when absent */
	uint64_t header_start;
	uint64_t body_start;
	uint64_t body_octets;
	uint64_t header_lines;
	uint64_t body_lines;
	uint32_t parent; /* UINT32_MAX for part 0 */
	uint32_t next;	 /* 0: none */
};

/* Part index (below parts_count) with the prefix added in. */
void summary_part_get(const struct summary *s, uint32_t index, struct summary_part *part_r);

/* What follows the numbers in a section (RFC 9051 6.4.5.1, section-spec). */
enum summary_section {
	SUMMARY_SECTION_BODY,	/* BODY[], BODY[1.2], BINARY[1.2] */
	SUMMARY_SECTION_HEADER, /* BODY[HEADER], BODY[1.2.HEADER]; HEADER.FIELDS filters it */
	SUMMARY_SECTION_TEXT,
	SUMMARY_SECTION_MIME, /* needs numbers */
};

struct summary_range {
	uint64_t offset; /* from the message's first octet, prefix included */
	uint64_t octets;
	uint32_t part; /* index of the entity meant; its encoding is the body's */
	bool whole;    /* BODY[]: the whole message */
};

/*
 * Resolves numbers[0..n) and a section. False when there is no such part (the
 * answer is NIL), or when HEADER or TEXT is asked of a part that is no message.
 * Part 1 of a message that is not a multipart is its body.
 */
bool summary_find_section(const struct summary *s, const uint32_t *numbers, size_t n,
    enum summary_section section, struct summary_range *range_r)
    __attribute__((warn_unused_result));

#endif
