/*
 * store: the words that the store and its clients share: verbs, flags, marks
 * and limits. The messages themselves are in common/msg/store.def.
 *
 * Mailbox names are UTF-8 in the store, with "/" between levels (modified
 * UTF-7 exists only at the edge of IMAP). "INBOX", in any case, is one name.
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include <stdint.h>

/* Octets of one name, and of one level of it; past it BAD_NAME. */
#define STORE_NAME_BYTES_MAX 1000
#define STORE_NAME_LEVEL_BYTES_MAX 255
#define STORE_NAME_LEVELS_MAX 32
/* Mailboxes of an account, remembered names of deleted ones included; past it ERR_LIMIT. */
#define STORE_MAILBOXES_MAX 10000
/* Deleted mailboxes of an account that may come back; past it the oldest go for good. */
#define STORE_DELETED_MAILBOXES_MAX 10000
/* Keywords of one mailbox: bits of a u64; past it ERR_LIMIT (NO [LIMIT]). */
#define STORE_KEYWORDS_MAX 64
#define STORE_KEYWORD_BYTES_MAX 200
/* Octets of one message and of its summary; past it TOO_BIG. */
#define STORE_MESSAGE_BYTES_MAX (UINT64_C(1) << 30)
#define STORE_SUMMARY_BYTES_MAX (1u << 20)
/* Messages answered by one MSG_FETCH when objects are wanted, and octets of records in any. */
#define STORE_OBJECTS_MAX 64
#define STORE_RECORDS_BYTES_MAX (4u << 20)
/* Octets of the table of mailboxes. */
#define STORE_LIST_BYTES_MAX (16u << 20)

/* The greatest UID and UIDVALIDITY that an import may bring along: enough is left above them. */
#define STORE_IMPORT_MAX 0xf0000000u

#define STORE_OBJECT_ID_BYTES 16
#define STORE_ORIGIN_BYTES 16
#define STORE_SHA256_BYTES 32

/* MBOX_CHANGE.verb */
enum mbox_verb {
	/* name; special_use. Superiors that do not exist are created too. */
	MBOX_CREATE = 1,
	/* name. With inferiors it stays as a name without messages; INBOX is refused. */
	MBOX_DELETE = 2,
	/* name, new_name: inferiors follow; INBOX's messages move and it stays. */
	MBOX_RENAME = 3,
	/* name, which need not exist (any more). */
	MBOX_SUBSCRIBE = 4,
	MBOX_UNSUBSCRIBE = 5,
};

/* MSG_FLAGS.mode */
enum store_flags_mode {
	STORE_FLAGS_ADD = 1,
	STORE_FLAGS_REMOVE = 2,
	STORE_FLAGS_REPLACE = 3,
};

/* MSG_FETCH.want: bits. Without any bit records have uid, flags, keywords and modseq only. */
enum store_want {
	STORE_WANT_DETAIL = 1,	/* dates, size, object and thread id */
	STORE_WANT_SUMMARY = 2, /* the summary; empty when it was lost and has to be made anew */
	STORE_WANT_OBJECT = 4,	/* descriptors, open for reading only */
};

/* MSG_APPEND.target, used when mailbox is 0: the mailbox with that special use, else INBOX. */
enum store_target {
	STORE_TARGET_INBOX = 0,
	STORE_TARGET_JUNK = 1,
	STORE_TARGET_SENT = 2,
	STORE_TARGET_DRAFTS = 3,
	STORE_TARGET_ARCHIVE = 4,
	STORE_TARGET_TRASH = 5,
};

/* Flags of a message; \Recent is not stored but follows from recent_uid. */
#define STORE_FLAG_SEEN 1u
#define STORE_FLAG_ANSWERED 2u
#define STORE_FLAG_FLAGGED 4u
#define STORE_FLAG_DELETED 8u
#define STORE_FLAG_DRAFT 16u
#define STORE_FLAGS_ALL 31u

/* Special uses of a mailbox, RFC 6154 section 2 ("\Important" is RFC 8457): bits. */
#define STORE_USE_ALL 1u
#define STORE_USE_ARCHIVE 2u
#define STORE_USE_DRAFTS 4u
#define STORE_USE_FLAGGED 8u
#define STORE_USE_JUNK 16u
#define STORE_USE_SENT 32u
#define STORE_USE_TRASH 64u
#define STORE_USE_IMPORTANT 128u
#define STORE_USES_ALL 255u

#endif
