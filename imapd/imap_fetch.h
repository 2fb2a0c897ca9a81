/*
 * imap_fetch: the data items of FETCH (RFC 3501 6.4.5, 9: fetch-att, section). Pure.
 */
#ifndef IMAPD_IMAP_FETCH_H
#define IMAPD_IMAP_FETCH_H

#include "common/summary.h"
#include "imapd/imap_scan.h"

#define IMAP_FETCH_ITEMS_MAX 1024
#define IMAP_SECTION_NUMBERS_MAX 64
#define IMAP_HEADER_NAMES_MAX 1024

enum imap_fetch_item_kind {
	IMAP_FETCH_ENVELOPE,
	IMAP_FETCH_FLAGS,
	IMAP_FETCH_INTERNALDATE,
	IMAP_FETCH_RFC822_SIZE,
	IMAP_FETCH_BODY_STRUCT, /* BODY without a section */
	IMAP_FETCH_BODYSTRUCTURE,
	IMAP_FETCH_UID,
	IMAP_FETCH_SECTION, /* BODY[...], and RFC822, RFC822.HEADER, RFC822.TEXT */
};

enum imap_header_filter {
	IMAP_HEADER_ALL,
	IMAP_HEADER_FIELDS,
	IMAP_HEADER_FIELDS_NOT,
};

struct imap_fetch_item {
	enum imap_fetch_item_kind kind;
	/* SECTION only: */
	struct slice label; /* what the response names it: "RFC822", or "BODY[...]" in canonical form */
	const uint32_t *numbers;
	size_t numbers_n;
	enum summary_section section;
	enum imap_header_filter filter;
	const struct slice *names; /* of the filter */
	size_t names_n;
	bool partial;
	uint32_t partial_from;
	uint32_t partial_octets;
	bool peek; /* does not set \Seen */
};

struct imap_fetch {
	struct imap_set set;
	struct imap_fetch_item *items;
	size_t items_n;
	bool sets_seen;	  /* some item does */
	bool want_flags;  /* some item is FLAGS; likewise: */
	bool want_uid;
};

/* What follows "FETCH": SP sequence-set SP (macro / fetch-att / list). */
bool imap_fetch_args(struct imap_scan *s, struct imap_fetch *fetch_r);

#endif
