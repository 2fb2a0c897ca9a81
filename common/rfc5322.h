/*
 * rfc5322: header blocks, address lists and message ids (RFC 5322 with its
 * obsolete syntax, and RFC 6532 for UTF-8). Pure and bounded: slices in,
 * slices or an array in the caller's arena out. Lenient, as a reader of other
 * people's mail must be; the strict paths of SMTP have their own grammar.
 */
#ifndef COMMON_RFC5322_H
#define COMMON_RFC5322_H

#include "common/arena.h"
#include "common/slice.h"

#define HEADER_FIELDS_MAX 10000	       /* header_next() stops after so many */
#define ADDRESSES_MAX 1000	       /* default bound of address_list_parse() */
#define ADDRESS_COMMENT_DEPTH_MAX 50   /* deeper comments end the parse of that item */
#define MSGID_BYTES_MAX 1000
#define MSGIDS_MAX 1000		       /* default bound of msgid_list_parse() */

/* ---- header block (RFC 5322 2.2, 3.5) ---- */

struct header_field {
	struct slice raw;   /* the whole field as it stands, with its line ends */
	struct slice name;  /* without white space before the colon; empty for a line without colon */
	struct slice value; /* after the colon, still folded, without the last line end */
};

struct header_iter {
	struct slice rest;
	size_t fields_left;
};

/*
 * Octets of the header block at the start of message, with the empty line
 * that ends it. Lines end in CRLF or bare LF. Without an empty line it is all of message.
 */
size_t header_block_length(struct slice message);

/* Iterates over the fields of a block or message; ends at the empty line. Block must outlive it. */
void header_iter_init(struct header_iter *it, struct slice block);
/*
 * The next field, or false at the end of the block or after HEADER_FIELDS_MAX.
 * A line that is neither a field nor a continuation is given with an empty
 * name; a continuation line before any field belongs to such a line.
 */
bool header_next(struct header_iter *it, struct header_field *field_r);

/* The first field of that name (ASCII case-insensitive); false when absent. */
bool header_find(struct slice block, struct slice name, struct header_field *field_r);
/* How many fields of that name there are. */
size_t header_count(struct slice block, struct slice name);

/*
 * The value without line ends, white space trimmed at both ends: a view of it
 * when it is not folded, a copy in a when it is. False at the arena's cap.
 */
bool header_unfold(struct slice value, struct arena *a, struct slice *text_r)
    __attribute__((warn_unused_result));

/* ---- addresses (RFC 5322 3.4, 4.4) ---- */

enum address_kind {
	ADDRESS_MAILBOX,
	ADDRESS_GROUP_START, /* `name` is the group's name */
	ADDRESS_GROUP_END,
};

struct address {
	enum address_kind kind;
	bool malformed;	     /* something had to be skipped or guessed */
	struct slice name;   /* display name: unquoted, runs of white space as one space, encoded words
				as they are; of `addr (Name)` the comment. p == NULL: none */
	struct slice route;  /* obs-route "@a,@b" without its colon; p == NULL: none */
	struct slice local;  /* unquoted; never p == NULL in a mailbox */
	struct slice domain; /* as written, white space and comments removed; p == NULL: none */
};

struct address_list {
	struct address *v;
	size_t n;
	size_t mailboxes;
	size_t groups;
	bool truncated; /* more than max items, or the arena's cap: the rest was left out */
	bool malformed; /* any item is */
};

/*
 * Parses an address-list as lenient as can be: never fails, every octet is
 * consumed in linear time. At most max items (group ends count) in a; slices
 * point into value or into a. GROUP_END always follows its GROUP_START.
 */
void address_list_parse(struct slice value, size_t max, struct arena *a,
    struct address_list *list_r);

/*
 * Splits addr-spec text at the last "@" outside a quoted string; the parts
 * are views, the local part keeps its quotes. False without "@" or with an empty part.
 */
bool addr_spec_split(struct slice addr, struct slice *local_r, struct slice *domain_r);

/* What DMARC asks of the author (RFC 9989 5.3.1): how many, and which domains. */
struct from_info {
	size_t fields;		  /* From fields in the block */
	struct address_list list; /* of all of them together, groups included */
	bool domains_differ;	  /* two mailboxes with different domains (ASCII case-insensitive) */
	struct slice domain;	  /* of the first mailbox; empty when there is none */
};

/* Looks at every From field of the block. Items in a, at most ADDRESSES_MAX. */
void from_examine(struct slice block, struct arena *a, struct from_info *info_r);

/* ---- message ids (RFC 5322 3.6.4) ---- */

struct msgid_list {
	struct slice *v; /* without the angle brackets, white space removed */
	size_t n;
	bool truncated;
};

/*
 * All `<...>` of a Message-ID, In-Reply-To or References value; what stands between
 * them is skipped (obs-references), comments too. Keeps the first max; an id
 * of more than MSGID_BYTES_MAX octets is left out.
 */
void msgid_list_parse(struct slice value, size_t max, struct arena *a, struct msgid_list *list_r);

#endif
