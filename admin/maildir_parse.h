/*
 * maildir_parse: the grammars of a Maildir, each over one name or line: file names with their info, Dovecot's
 * dovecot-uidlist (versions 1 and 3) and dovecot-keywords, its subscriptions (versions 1 and 2), the
 * names of folders. Pure: no file is touched here. What the owner of a Maildir wrote is hostile to who imports it.
 */
#ifndef ADMIN_MAILDIR_PARSE_H
#define ADMIN_MAILDIR_PARSE_H

#include "common/buf.h"

/* Keyword letters of a file name, 'a' to 'z'. */
#define MAILDIR_KEYWORDS_MAX 26

struct maildir_name {
	struct slice base; /* without the info: what dovecot-uidlist knows it by */
	uint32_t flags;	   /* STORE_FLAG_* for D, F, R, S and T */
	bool passed;	   /* P: $Forwarded */
	uint32_t letters;  /* bit i: 'a' + i, a name of dovecot-keywords */
	int64_t seconds;   /* that the name begins with; -1 when it does not */
};

/* Any octets make a name; what is no info of version 2 (":2,") says nothing. */
struct maildir_name maildir_name_parse(struct slice name);

struct maildir_uidlist_head {
	unsigned version; /* 1 or 3 */
	uint32_t uidvalidity;
	uint32_t uidnext;
};

/* The first line, without its LF. False when it is no such head, or has a number that is not one. */
bool maildir_uidlist_head_parse(struct slice line, struct maildir_uidlist_head *head_r) __attribute__((warn_unused_result));
/* Any other line. False when it is damaged; the base points into it. */
bool maildir_uidlist_line_parse(struct slice line, unsigned version, uint32_t *uid_r, struct slice *base_r)
    __attribute__((warn_unused_result));

/* A line of dovecot-keywords: the number of the letter and the name. False when it is none that a mailbox can have. */
bool maildir_keyword_line_parse(struct slice line, unsigned *index_r, struct slice *name_r)
    __attribute__((warn_unused_result));
/* Can a mailbox have a keyword of that name? An atom of RFC 9051 within STORE_KEYWORD_BYTES_MAX. */
bool maildir_keyword_ok(struct slice name);

/*
 * The name of a mailbox in UTF-8 with "/" between levels, appended to out, from a name whose levels are divided by
 * separator ('.', '/' or TAB) in modified UTF-7 or, when it is none, UTF-8. False (out is as before) when it can be no mailbox's.
 */
bool maildir_folder_decode(struct slice name, uint8_t separator, struct buf *out) __attribute__((warn_unused_result));
/* The reverse for a directory of Maildir++: "." before each level, modified UTF-7. False when a level has a "." or the name is too long. */
bool maildir_folder_encode(struct slice name, struct buf *out) __attribute__((warn_unused_result));

#endif
