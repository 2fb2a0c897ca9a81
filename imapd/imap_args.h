/*
 * imap_args: the arguments of all commands but FETCH and SEARCH (RFC 3501 9 and the extensions named at
 * each). Each function takes what follows the command's name, to the end of the command. Pure.
 */
#ifndef IMAPD_IMAP_ARGS_H
#define IMAPD_IMAP_ARGS_H

#include "imapd/imap_scan.h"

/* tag SP name: *uid_r when the name was "UID" SP name. */
struct imap_head {
	struct slice tag;
	struct slice name;
	bool uid;
};
/* On false tag is set when that much was right. */
bool imap_head(struct imap_scan *s, struct imap_head *head_r);

bool imap_no_args(struct imap_scan *s);

/* LOGIN: SP astring SP astring */
struct imap_login {
	struct slice user;
	struct slice password;
};
bool imap_login_args(struct imap_scan *s, struct imap_login *login_r);

/* AUTHENTICATE: SP auth-type [SP (base64 / "=")] (RFC 4959 3). initial.p == NULL: none; "=" gives the empty one. */
struct imap_authenticate {
	struct slice mechanism;
	struct slice initial;
};
bool imap_authenticate_args(struct imap_scan *s, struct imap_authenticate *auth_r);

/* SELECT, EXAMINE, DELETE, SUBSCRIBE, UNSUBSCRIBE: SP mailbox */
struct imap_mailbox {
	struct slice name;
};
bool imap_mailbox_args(struct imap_scan *s, struct imap_mailbox *mailbox_r);

/* Stands for any special use that has no STORE_USE_ bit. */
#define IMAP_USE_UNKNOWN (STORE_USES_ALL + 1)

/* CREATE: SP mailbox [SP "(" "USE" SP "(" [use-attr *(SP use-attr)] ")" ")"] (RFC 6154 6) */
struct imap_create {
	struct slice name;
	uint32_t special_use; /* STORE_USE_ bits, IMAP_USE_UNKNOWN */
};
bool imap_create_args(struct imap_scan *s, struct imap_create *create_r);

/* RENAME: SP mailbox SP mailbox */
struct imap_rename {
	struct slice from;
	struct slice to;
};
bool imap_rename_args(struct imap_scan *s, struct imap_rename *rename_r);

/* status-att */
enum {
	IMAP_STATUS_MESSAGES = 1,
	IMAP_STATUS_RECENT = 2,
	IMAP_STATUS_UIDNEXT = 4,
	IMAP_STATUS_UIDVALIDITY = 8,
	IMAP_STATUS_UNSEEN = 16,
};

/* STATUS: SP mailbox SP "(" status-att *(SP status-att) ")" */
struct imap_status {
	struct slice name;
	uint32_t items;
};
bool imap_status_args(struct imap_scan *s, struct imap_status *status_r);

/* Options of extended LIST (RFC 5258 6, RFC 5819, RFC 6154). */
enum {
	IMAP_LIST_SUBSCRIBED = 1,
	IMAP_LIST_REMOTE = 2,
	IMAP_LIST_RECURSIVEMATCH = 4,
	IMAP_LIST_SPECIAL_USE = 8,
	IMAP_LIST_CHILDREN = 16,
	IMAP_LIST_STATUS = 32,
};

#define IMAP_LIST_PATTERNS_MAX 32

struct imap_list {
	bool extended;
	uint32_t select;
	uint32_t return_;
	uint32_t status_items;
	struct slice reference;
	struct slice *patterns;
	size_t patterns_n;
};
/* LSUB: SP mailbox SP list-mailbox */
bool imap_lsub_args(struct imap_scan *s, struct imap_list *list_r);
/* LIST: the same, or extended: [SP select-opts] SP mailbox SP mbox-or-pat [SP "RETURN" SP return-opts] */
bool imap_list_args(struct imap_scan *s, struct imap_list *list_r);

/*
 * APPEND: SP mailbox [SP flag-list] [SP date-time] SP (literal / "UTF8" SP "(" literal8 ")") (RFC 6855 4), of whose message only the
 * literal's head is in the text. whole: the message was read, and what stands behind it is there; else the text ends with the head.
 */
struct imap_append {
	struct slice name;
	struct imap_flags flags;
	bool has_date;
	struct date_time date;
	uint64_t octets;
	bool sync;
};
bool imap_append_args(struct imap_scan *s, bool whole, struct imap_append *append_r);

/* STORE: SP sequence-set SP ["+" / "-"] "FLAGS" [".SILENT"] SP (flag-list / flags) */
enum imap_store_mode {
	IMAP_STORE_REPLACE,
	IMAP_STORE_ADD,
	IMAP_STORE_REMOVE,
};

struct imap_store {
	struct imap_set set;
	enum imap_store_mode mode;
	bool silent;
	struct imap_flags flags;
};
bool imap_store_args(struct imap_scan *s, struct imap_store *store_r);

/* COPY, MOVE: SP sequence-set SP mailbox */
struct imap_copy {
	struct imap_set set;
	struct slice name;
};
bool imap_copy_args(struct imap_scan *s, struct imap_copy *copy_r);

/* UID EXPUNGE: SP sequence-set (RFC 4315 2.1) */
struct imap_expunge {
	struct imap_set set;
};
bool imap_uid_expunge_args(struct imap_scan *s, struct imap_expunge *expunge_r);

/* ID: SP (NIL / "(" string SP nstring *(SP string SP nstring) ")"), at most 30 pairs (RFC 2971 3.3) */
#define IMAP_ID_PAIRS_MAX 30
struct imap_id {
	struct slice names[IMAP_ID_PAIRS_MAX];
	struct slice values[IMAP_ID_PAIRS_MAX]; /* p == NULL: NIL */
	size_t n;
};
bool imap_id_args(struct imap_scan *s, struct imap_id *id_r);

/* ENABLE: 1*(SP capability) (RFC 5161 4); names that are not known are passed over. */
struct imap_enable {
	bool utf8_accept; /* RFC 6855 */
};
bool imap_enable_args(struct imap_scan *s, struct imap_enable *enable_r);

#endif
