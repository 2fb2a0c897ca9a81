/*
 * mime: the structure of a message (RFC 2045, 2046, 2049), found while it
 * streams by in chunks of any size. Memory is bounded by the limits whatever comes; the
 * tree lives in the caller's arena. Offsets are octets from the first octet fed.
 */
#ifndef COMMON_MIME_H
#define COMMON_MIME_H

#include "common/arena.h"
#include "common/mime_param.h"
#include "common/slice.h"
#include "common/transfer.h"

struct mime_limits {
	uint32_t parts_max;	   /* over it: `overflow`, no more parts are opened */
	uint32_t depth_max;	   /* a multipart or message that deep is a leaf */
	size_t root_header_bytes;  /* more of the message's own header is not looked at */
	size_t part_header_bytes;  /* the same for each part's and embedded message's header */
	size_t sample_bytes;	   /* of the first text/plain and text/html bodies; 0: none */
};

#define MIME_LIMITS_DEFAULT                                                                        \
	((struct mime_limits){                                                                     \
	    .parts_max = 1000,                                                                     \
	    .depth_max = 50,                                                                       \
	    .root_header_bytes = 256 * 1024,                                                       \
	    .part_header_bytes = 64 * 1024,                                                        \
	    .sample_bytes = 4096,                                                                  \
	})

#define MIME_BOUNDARY_BYTES_MAX 250 /* RFC 2046 5.1.1 allows 70; a longer one makes a leaf */
#define MIME_FIELD_BYTES_MAX 2048   /* Content-ID, -Description, -MD5, -Location: longer is cut */
#define MIME_LANGUAGES_MAX 16

/* Stable numbers: they are stored in summaries. */
enum mime_kind {
	MIME_LEAF = 0,
	MIME_MULTIPART = 1, /* has one child or more */
	MIME_MESSAGE = 2,   /* message/rfc822 or message/global: its one child is the embedded message */
};

/*
 * An entity: the message itself, a part of a multipart, or an embedded message. header_start
 * <= body_start <= body_end; a multipart's children lie in its body. Lines are counted by
 * their LF. The line end before a boundary belongs to the boundary.
 */
struct mime_part {
	struct mime_part *parent;
	struct mime_part *first_child;
	struct mime_part *last_child;
	struct mime_part *next;
	uint32_t index;	 /* in order of appearance, the root is 0 */
	uint32_t number; /* among its siblings, from 1 */
	uint32_t depth;	 /* the root is 0 */
	uint32_t children;
	enum mime_kind kind;
	uint64_t header_start;
	uint64_t body_start;
	uint64_t body_end;
	uint64_t header_lines; /* with the empty line */
	uint64_t body_lines;
	/*
	 * As written; the default of RFC 2045 5.2 or 2046 5.1.5 when absent. A leaf never says
	 * multipart or message/rfc822: what could not be taken apart is application/octet-stream.
	 */
	struct slice type;
	struct slice subtype;
	struct mime_params params;
	enum transfer_encoding encoding;
	struct slice encoding_name; /* as written; p == NULL: absent. The same for those below */
	struct slice id;
	struct slice description;
	struct slice md5;
	struct slice location;
	struct slice disposition;
	struct mime_params disposition_params;
	struct slice *languages;
	size_t languages_n;
	struct slice header; /* the block as it stands, as far as the limit allows */
	struct slice sample; /* the first octets of the body, still encoded; of few parts only */
};

struct mime_tree {
	struct mime_part *root;
	uint32_t parts;
	uint64_t octets;
	uint64_t lines;	       /* LFs of the whole message */
	bool overflow;	       /* a cap or the arena was passed: the tree is not the whole structure */
	bool header_truncated; /* a header was longer than its limit */
};

struct mime_parser;

/* A parser that builds into a; a must outlive the tree. limits is copied. */
struct mime_parser *mime_parser_new(struct arena *a, const struct mime_limits *limits)
    __attribute__((warn_unused_result));
void mime_parser_free(struct mime_parser **p);
/* Takes the next octets; never fails. */
void mime_parser_feed(struct mime_parser *p, struct slice in);
/*
 * The end of the message. The tree's root is NULL only when the arena could not hold even
 * that. A multipart without a boundary, or in which no part was found, is a leaf of type text/plain.
 */
void mime_parser_finish(struct mime_parser *p, struct mime_tree *tree_r);

#endif
