/*
 * imap_search: the keys of SEARCH (RFC 3501 6.4.4, 9: search-key) as a tree. Pure.
 */
#ifndef IMAPD_IMAP_SEARCH_H
#define IMAPD_IMAP_SEARCH_H

#include "imapd/imap_scan.h"

#define IMAP_SEARCH_DEPTH_MAX 32 /* of parentheses, NOT and OR together */
#define IMAP_SEARCH_KEYS_MAX 1024

enum imap_search_op {
	IMAP_SEARCH_AND, /* of `first` and its siblings; ALL is an AND without any */
	IMAP_SEARCH_OR,	 /* of two */
	IMAP_SEARCH_NOT, /* of one */
	IMAP_SEARCH_SET, /* sequence numbers */
	IMAP_SEARCH_UID,
	IMAP_SEARCH_FLAG,	  /* `number` is the STORE_FLAG_ bit */
	IMAP_SEARCH_KEYWORD,	  /* `text` */
	IMAP_SEARCH_RECENT,
	IMAP_SEARCH_BEFORE,	  /* internal date; `day`, likewise: */
	IMAP_SEARCH_ON,
	IMAP_SEARCH_SINCE,
	IMAP_SEARCH_SENTBEFORE,	  /* Date: field */
	IMAP_SEARCH_SENTON,
	IMAP_SEARCH_SENTSINCE,
	IMAP_SEARCH_LARGER,	  /* `number` octets; likewise: */
	IMAP_SEARCH_SMALLER,
	IMAP_SEARCH_BCC,	  /* `text`; likewise: */
	IMAP_SEARCH_CC,
	IMAP_SEARCH_FROM,
	IMAP_SEARCH_SUBJECT,
	IMAP_SEARCH_TO,
	IMAP_SEARCH_HEADER,	  /* `name`, `text` */
	IMAP_SEARCH_BODY,
	IMAP_SEARCH_TEXT,
};

struct imap_search_key {
	enum imap_search_op op;
	uint32_t number;
	int64_t day;
	struct slice name;
	struct slice text; /* as sent, in the charset of the command */
	struct imap_set set;
	struct imap_search_key *first; /* AND, OR, NOT */
	struct imap_search_key *next;  /* sibling */
};

struct imap_search {
	struct slice charset; /* p == NULL: none was given */
	struct imap_search_key *root; /* an AND */
	bool has_text;		      /* some key has a text: the charset matters */
};

/* What follows "SEARCH": [SP "CHARSET" SP astring] 1*(SP search-key). */
bool imap_search_args(struct imap_scan *s, struct imap_search *search_r);

#endif
