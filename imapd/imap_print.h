/*
 * imap_print: the productions of IMAP's responses (RFC 3501 9) into a buffer. The buffer's `failed` says
 * whether all fitted.
 */
#ifndef IMAPD_IMAP_PRINT_H
#define IMAPD_IMAP_PRINT_H

#include "common/buf.h"
#include "store/entry.h"
#include "store/mailbox_list.h"
#include "store/uidset.h"

/* astring: bare, quoted or a literal, whichever s needs; NUL in s is left out. */
void imap_put_astring(struct buf *b, struct slice s);
/* mailbox: a store name (UTF-8) as an astring: in modified UTF-7, or as it is for a client with UTF8=ACCEPT (RFC 6855 3). */
void imap_put_mailbox(struct buf *b, struct slice name, bool utf8);
/* "{n}" CRLF, to be followed by n octets. */
void imap_put_literal_head(struct buf *b, uint64_t octets);
/* "(" flag *(SP flag) ")", keywords by the mailbox's lines; \Recent when recent. */
void imap_put_flags(struct buf *b, uint32_t flags, uint64_t keywords, struct slice keyword_lines, bool recent);
/* The names alone, for FLAGS and PERMANENTFLAGS: all system flags and all keywords; `any` adds \*. */
void imap_put_all_flags(struct buf *b, struct slice keyword_lines, bool any);
/* DQUOTE date-time DQUOTE */
void imap_put_date_time(struct buf *b, int64_t seconds, int16_t zone_minutes);
/* uid-set of RFC 4315 4: "3:5,7"; the set is sorted. */
void imap_put_uidset(struct buf *b, const struct uidset *set);
/* LIST attributes of a special use, each with a SP before it. */
void imap_put_special_use(struct buf *b, uint32_t special_use);

#endif
