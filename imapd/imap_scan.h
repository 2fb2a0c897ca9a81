/*
 * imap_scan: the productions that IMAP commands are made of (RFC 3501 9), over one whole command: its
 * lines with their literals in place (`{5}` CRLF and five octets), without the last CRLF, as imap_framer
 * gives it. Pure: slices in, slices or structs in the caller's arena out; no I/O.
 *
 * Each function that takes a struct imap_scan matches its production at the current place and moves
 * behind it; otherwise it returns false, and *why says what was expected. After a false the scan is
 * good for nothing but its `why` and `limit`.
 */
#ifndef IMAPD_IMAP_SCAN_H
#define IMAPD_IMAP_SCAN_H

#include "common/arena.h"
#include "common/date.h"
#include "common/slice.h"
#include "store/store.h"

struct imap_scan {
	const uint8_t *p;
	const uint8_t *end;
	struct arena *arena;
	const char *why; /* a few words for a BAD; NULL while nothing failed */
	bool limit;	 /* it failed at the arena's cap, not at the grammar */
};

struct imap_scan imap_scan_of(struct slice command, struct arena *a);
/* Records why and returns false. The first reason wins. */
bool imap_scan_fail(struct imap_scan *s, const char *why);
/* Nothing is left. */
bool imap_scan_end(struct imap_scan *s);

static inline size_t
imap_scan_left(const struct imap_scan *s)
{
	return (size_t)(s->end - s->p);
}

/* The next octet without moving, or 0 at the end (NUL is in no production but literals). */
static inline uint8_t
imap_scan_peek(const struct imap_scan *s)
{
	return s->p < s->end ? *s->p : 0;
}

/* Exactly the octet c; exactly one SP. */
bool imap_char(struct imap_scan *s, uint8_t c);
bool imap_sp(struct imap_scan *s);
/* Moves behind c when it comes next; never fails. */
bool imap_try_char(struct imap_scan *s, uint8_t c);
/* Moves behind word (ASCII case-insensitive) when the text goes on with it; never fails. */
bool imap_try_word(struct imap_scan *s, struct slice word);

/* tag = 1*<any ASTRING-CHAR except "+">, at most IMAP_TAG_BYTES_MAX. */
#define IMAP_TAG_BYTES_MAX 256
bool imap_tag(struct imap_scan *s, struct slice *tag_r);
bool imap_atom(struct imap_scan *s, struct slice *atom_r);
/* A quoted string's value is copied when it has quoted pairs; a literal's is a view. */
bool imap_string(struct imap_scan *s, struct slice *value_r);
bool imap_astring(struct imap_scan *s, struct slice *value_r);
/* list-mailbox = 1*list-char / string */
bool imap_list_mailbox(struct imap_scan *s, struct slice *value_r);
/* number: 32 bits, any leading zeros; nz-number: no leading zero, not 0. */
bool imap_number(struct imap_scan *s, uint32_t *value_r);
bool imap_nz_number(struct imap_scan *s, uint32_t *value_r);
/* literal's head, "{" number ["+"] "}", of a literal that is not in the text. */
bool imap_literal_head(struct imap_scan *s, uint64_t *octets_r, bool *sync_r);

/* ---- sequence-set ---- */

/* As written: 0 stands for "*", low and high in any order. */
struct imap_range {
	uint32_t low;
	uint32_t high;
};

struct imap_set {
	struct imap_range *v;
	size_t n;
};

bool imap_sequence_set(struct imap_scan *s, struct imap_set *set_r);
/*
 * Makes the set concrete in place: "*" becomes `largest`, ends are put in order, ranges sorted and merged
 * (RFC 3501 9, seq-range: `*:4` is `4:*`). O(n log n).
 */
void imap_set_resolve(struct imap_set *set, uint32_t largest);

/* ---- flags ---- */

struct imap_flags {
	uint32_t basic;	/* STORE_FLAG_ bits */
	struct slice *keywords; /* atoms, ASCII case-insensitively distinct */
	size_t keywords_n;
	bool recent;  /* \Recent was named: it cannot be stored */
	bool unknown; /* another flag-extension was named */
};

#define IMAP_KEYWORDS_PER_COMMAND_MAX 128

/* flag-list = "(" [flag *(SP flag)] ")" */
bool imap_flag_list(struct imap_scan *s, struct imap_flags *flags_r);
/* flag *(SP flag) without parentheses, as STORE also takes. */
bool imap_flags_bare(struct imap_scan *s, struct imap_flags *flags_r);

/* ---- dates ---- */

/* date-time = DQUOTE ... DQUOTE, of APPEND; 31-Feb is refused. */
bool imap_date_time(struct imap_scan *s, struct date_time *date_r);
/* date = date-text / DQUOTE date-text DQUOTE: days since 1970. */
bool imap_date(struct imap_scan *s, int64_t *day_r);

/* True when s is an atom, or an astring that needs no quotes: what a response may send bare. */
bool imap_is_atom(struct slice s);
bool imap_is_astring_bare(struct slice s);

#endif
