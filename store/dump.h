/*
 * dump: an account's index as plain text: docs/format.md explains every line. It is UTF-8, one record a line, fields
 * separated by one space; the last line holds the number of lines before it and the SHA-256 of their octets, so that a
 * dump that was cut or changed is recognised.
 */
#ifndef STORE_DUMP_H
#define STORE_DUMP_H

#include "store/image.h"
#include "store/index.h"

#define DUMP_VERSION 1
/* The longest line: a message with all of a mailbox's keywords. */
#define DUMP_LINE_BYTES_MAX 32768u

/* ---- lines; each appends one, with its LF ---- */

void dump_put_head(struct buf *b);
void dump_put_account(struct buf *b, const struct format_account *a);
void dump_put_mailbox(struct buf *b, const struct format_mailbox *m);
void dump_put_keywords(struct buf *b, uint32_t mailbox, struct slice keywords);
void dump_put_tombstones(struct buf *b, uint32_t mailbox, uint64_t modseq, const struct uidset *uids);
/* keywords: of that mailbox. */
void dump_put_message(struct buf *b, uint32_t mailbox, const struct format_message *m, struct slice keywords);
void dump_put_expunged(struct buf *b, uint64_t time, uint32_t mailbox, const struct format_message *m,
    struct slice keywords);
/* lines and hash: of all before it. */
void dump_put_end(struct buf *b, uint64_t lines, const uint8_t sha256[STORE_SHA256_BYTES]);

/* ---- writing the dump of an index, in steps between its transactions: of its state at the beginning ---- */

struct dump;

/* Outside of transactions, with nothing unflushed. fd, for writing from its beginning, stays the caller's; no other
 * snapshot of the index may be open. Never NULL. */
struct dump *dump_begin(struct index *ix, int fd);
/* About octets more of text: 1 when there is more, 0 when all is written (not synced), -1 when it is given up. */
int dump_step(struct dump *d, size_t octets, struct err *e) __attribute__((warn_unused_result));
/* Messages in mailboxes that were written, and all of them; octets written. */
uint64_t dump_done(const struct dump *d, uint64_t *total_r);
uint64_t dump_octets(const struct dump *d);
void dump_free(struct dump **d);

/* ---- reading one ---- */

struct dump_reader;

/*
 * Takes a dump in pieces of any size and fills *im_r, which image_fini() ends. lenient: lines that cannot be read, or do
 * not fit what came before, are passed over and counted, and the end may be missing.
 */
struct dump_reader *dump_reader_new(struct image *im_r, bool lenient);
/* -1 with ERR_CODE_MALFORMED and the line's number. */
int dump_reader_feed(struct dump_reader *r, struct slice octets, struct err *e) __attribute__((warn_unused_result));
/* After the last piece: 0 when the dump was whole and its image fits together (not looked for when lenient). */
int dump_reader_end(struct dump_reader *r, struct err *e) __attribute__((warn_unused_result));
/* Lines that were passed over; was the end there, with the right hash? */
uint64_t dump_reader_bad(const struct dump_reader *r);
bool dump_reader_whole(const struct dump_reader *r);
void dump_reader_free(struct dump_reader **r);

/* All of a file, from its beginning. */
int dump_read(int fd, struct image *im_r, struct err *e) __attribute__((warn_unused_result));

#endif
