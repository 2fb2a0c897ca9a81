/*
 * One function per command, each the ABNF in order. A word of a fixed list is looked up in a table
 * that its option parser shares with nobody, so that adding an extension is adding a row.
 */
#include "imapd/imap_args.h"

struct word_bit {
	const char *word;
	uint32_t bit;
};

static uint32_t
word_lookup(const struct word_bit *rows, size_t n, struct slice word)
{
	for (size_t i = 0; i < n; i++)
		if (slice_eq_nocase(word, slice_str(rows[i].word)))
			return rows[i].bit;
	return 0;
}
#define LOOKUP(rows, word) word_lookup((rows), sizeof(rows) / sizeof *(rows), (word))

/* command = tag SP name; uid = "UID" SP name */
bool
imap_head(struct imap_scan *s, struct imap_head *head_r)
{
	*head_r = (struct imap_head){0};
	if (!imap_tag(s, &head_r->tag)) {
		head_r->tag = slice_of(NULL, 0);
		return false;
	}
	if (imap_scan_left(s) > 0 && imap_scan_peek(s) != ' ') {
		head_r->tag = slice_of(NULL, 0);
		return imap_scan_fail(s, "Malformed tag");
	}
	if (!imap_sp(s) || !imap_atom(s, &head_r->name))
		return imap_scan_fail(s, "Missing command");
	if (!slice_eq_nocase(head_r->name, SLICE("UID")))
		return true;
	head_r->uid = true;
	return imap_sp(s) && imap_atom(s, &head_r->name);
}

bool
imap_no_args(struct imap_scan *s)
{
	return imap_scan_end(s);
}

bool
imap_login_args(struct imap_scan *s, struct imap_login *login_r)
{
	return imap_sp(s) && imap_astring(s, &login_r->user) && imap_sp(s) &&
	    imap_astring(s, &login_r->password) && imap_scan_end(s);
}

/* The rest is not checked for base64 here: bad base64 has its own answer. */
bool
imap_authenticate_args(struct imap_scan *s, struct imap_authenticate *auth_r)
{
	auth_r->initial = slice_of(NULL, 0);
	if (!imap_sp(s) || !imap_atom(s, &auth_r->mechanism))
		return false;
	if (!imap_try_char(s, ' '))
		return imap_scan_end(s);
	auth_r->initial = slice_of(s->p, imap_scan_left(s));
	s->p = s->end;
	if (auth_r->initial.n == 0)
		return imap_scan_fail(s, "Missing initial response");
	return true;
}

bool
imap_mailbox_args(struct imap_scan *s, struct imap_mailbox *mailbox_r)
{
	return imap_sp(s) && imap_astring(s, &mailbox_r->name) && imap_scan_end(s);
}

static const struct word_bit use_words[] = {
    {"\\All", STORE_USE_ALL},
    {"\\Archive", STORE_USE_ARCHIVE},
    {"\\Drafts", STORE_USE_DRAFTS},
    {"\\Flagged", STORE_USE_FLAGGED},
    {"\\Important", STORE_USE_IMPORTANT},
    {"\\Junk", STORE_USE_JUNK},
    {"\\Sent", STORE_USE_SENT},
    {"\\Trash", STORE_USE_TRASH},
};

/* use-attr = "\" atom */
static bool
use_attr(struct imap_scan *s, uint32_t *bits)
{
	const uint8_t *from = s->p;
	struct slice name;
	uint32_t bit;

	if (!imap_char(s, '\\') || !imap_atom(s, &name))
		return false;
	bit = LOOKUP(use_words, slice_of(from, (size_t)(s->p - from)));
	*bits |= bit ? bit : IMAP_USE_UNKNOWN;
	return true;
}

/* "(" "USE" SP "(" [use-attr *(SP use-attr)] ")" ")" */
static bool
create_use(struct imap_scan *s, uint32_t *bits)
{
	if (!imap_char(s, '(') || !imap_try_word(s, SLICE("USE (")))
		return imap_scan_fail(s, "Unknown CREATE parameter");
	if (imap_try_char(s, ')'))
		return imap_char(s, ')');
	do {
		if (!use_attr(s, bits))
			return false;
	} while (imap_try_char(s, ' '));
	return imap_char(s, ')') && imap_char(s, ')');
}

bool
imap_create_args(struct imap_scan *s, struct imap_create *create_r)
{
	create_r->special_use = 0;
	if (!imap_sp(s) || !imap_astring(s, &create_r->name))
		return false;
	if (imap_try_char(s, ' ') && !create_use(s, &create_r->special_use))
		return false;
	return imap_scan_end(s);
}

bool
imap_rename_args(struct imap_scan *s, struct imap_rename *rename_r)
{
	return imap_sp(s) && imap_astring(s, &rename_r->from) && imap_sp(s) &&
	    imap_astring(s, &rename_r->to) && imap_scan_end(s);
}

static const struct word_bit status_words[] = {
    {"MESSAGES", IMAP_STATUS_MESSAGES},
    {"RECENT", IMAP_STATUS_RECENT},
    {"UIDNEXT", IMAP_STATUS_UIDNEXT},
    {"UIDVALIDITY", IMAP_STATUS_UIDVALIDITY},
    {"UNSEEN", IMAP_STATUS_UNSEEN},
};

/* "(" status-att *(SP status-att) ")" */
static bool
status_items(struct imap_scan *s, uint32_t *items_r)
{
	*items_r = 0;
	if (!imap_char(s, '('))
		return false;
	do {
		struct slice word;
		uint32_t bit = imap_atom(s, &word) ? LOOKUP(status_words, word) : 0;

		if (bit == 0)
			return imap_scan_fail(s, "Unknown STATUS item");
		*items_r |= bit;
	} while (imap_try_char(s, ' '));
	return imap_char(s, ')');
}

bool
imap_status_args(struct imap_scan *s, struct imap_status *status_r)
{
	return imap_sp(s) && imap_astring(s, &status_r->name) && imap_sp(s) &&
	    status_items(s, &status_r->items) && imap_scan_end(s);
}

/* ---- LIST ---- */

static bool
patterns_room(struct imap_scan *s, struct imap_list *list, size_t n)
{
	list->patterns = arena_array(s->arena, n, sizeof *list->patterns);
	list->patterns_n = 0;
	s->limit |= list->patterns == NULL;
	return list->patterns ? true : imap_scan_fail(s, "Command is too long");
}

/* list-mailbox / "(" list-mailbox *(SP list-mailbox) ")" (RFC 5258 6: mbox-or-pat) */
static bool
mbox_or_pat(struct imap_scan *s, struct imap_list *list)
{
	if (!imap_try_char(s, '(')) {
		if (!patterns_room(s, list, 1) || !imap_list_mailbox(s, &list->patterns[0]))
			return false;
		list->patterns_n = 1;
		return true;
	}
	list->extended = true;
	if (!patterns_room(s, list, IMAP_LIST_PATTERNS_MAX))
		return false;
	do {
		if (list->patterns_n == IMAP_LIST_PATTERNS_MAX) {
			s->limit = true;
			return imap_scan_fail(s, "Too many patterns");
		}
		if (!imap_list_mailbox(s, &list->patterns[list->patterns_n]))
			return false;
		list->patterns_n++;
	} while (imap_try_char(s, ' '));
	return imap_char(s, ')');
}

static const struct word_bit select_words[] = {
    {"SUBSCRIBED", IMAP_LIST_SUBSCRIBED},
    {"REMOTE", IMAP_LIST_REMOTE},
    {"RECURSIVEMATCH", IMAP_LIST_RECURSIVEMATCH},
    {"SPECIAL-USE", IMAP_LIST_SPECIAL_USE},
};

/* "(" [option *(SP option)] ")"; RECURSIVEMATCH needs another one (RFC 5258 3.1) */
static bool
select_options(struct imap_scan *s, struct imap_list *list)
{
	list->extended = true;
	if (imap_try_char(s, ')'))
		return true;
	do {
		struct slice word;
		uint32_t bit = imap_atom(s, &word) ? LOOKUP(select_words, word) : 0;

		if (bit == 0)
			return imap_scan_fail(s, "Unknown LIST option");
		list->select |= bit;
	} while (imap_try_char(s, ' '));
	if ((list->select & IMAP_LIST_RECURSIVEMATCH) &&
	    !(list->select & (IMAP_LIST_SUBSCRIBED | IMAP_LIST_SPECIAL_USE)))
		return imap_scan_fail(s, "RECURSIVEMATCH needs another option");
	return imap_char(s, ')');
}

static const struct word_bit return_words[] = {
    {"SUBSCRIBED", IMAP_LIST_SUBSCRIBED},
    {"CHILDREN", IMAP_LIST_CHILDREN},
    {"SPECIAL-USE", IMAP_LIST_SPECIAL_USE},
    {"STATUS", IMAP_LIST_STATUS},
};

/* "(" [option *(SP option)] ")" behind "RETURN" SP */
static bool
return_options(struct imap_scan *s, struct imap_list *list)
{
	list->extended = true;
	if (!imap_char(s, '('))
		return false;
	if (imap_try_char(s, ')'))
		return true;
	do {
		struct slice word;
		uint32_t bit = imap_atom(s, &word) ? LOOKUP(return_words, word) : 0;

		if (bit == 0)
			return imap_scan_fail(s, "Unknown LIST return option");
		if (bit == IMAP_LIST_STATUS && !(imap_sp(s) && status_items(s, &list->status_items)))
			return false;
		list->return_ |= bit;
	} while (imap_try_char(s, ' '));
	return imap_char(s, ')');
}

bool
imap_lsub_args(struct imap_scan *s, struct imap_list *list_r)
{
	*list_r = (struct imap_list){0};
	if (!imap_sp(s) || !imap_astring(s, &list_r->reference) || !imap_sp(s) ||
	    !patterns_room(s, list_r, 1) || !imap_list_mailbox(s, &list_r->patterns[0]))
		return false;
	list_r->patterns_n = 1;
	return imap_scan_end(s);
}

bool
imap_list_args(struct imap_scan *s, struct imap_list *list_r)
{
	*list_r = (struct imap_list){0};
	if (!imap_sp(s))
		return false;
	if (imap_try_char(s, '(') && !(select_options(s, list_r) && imap_sp(s)))
		return false;
	if (!imap_astring(s, &list_r->reference) || !imap_sp(s) || !mbox_or_pat(s, list_r))
		return false;
	if (imap_try_word(s, SLICE(" RETURN ")) && !return_options(s, list_r))
		return false;
	return imap_scan_end(s);
}

/* ---- messages ---- */

bool
imap_append_args(struct imap_scan *s, bool whole, struct imap_append *append_r)
{
	bool utf8;

	*append_r = (struct imap_append){0};
	if (!imap_sp(s) || !imap_astring(s, &append_r->name) || !imap_sp(s))
		return false;
	if (imap_scan_peek(s) == '(' && !(imap_flag_list(s, &append_r->flags) && imap_sp(s)))
		return false;
	append_r->has_date = imap_scan_peek(s) == '"';
	if (append_r->has_date && !(imap_date_time(s, &append_r->date) && imap_sp(s)))
		return false;
	utf8 = imap_try_word(s, SLICE("UTF8 (~"));
	return imap_literal_head(s, &append_r->octets, &append_r->sync) &&
	    (!whole || !utf8 || imap_char(s, ')')) && imap_scan_end(s);
}

/* store-att-flags = (["+" / "-"] "FLAGS" [".SILENT"]) SP (flag-list / (flag *(SP flag))) */
bool
imap_store_args(struct imap_scan *s, struct imap_store *store_r)
{
	*store_r = (struct imap_store){.mode = IMAP_STORE_REPLACE};
	if (!imap_sp(s) || !imap_sequence_set(s, &store_r->set) || !imap_sp(s))
		return false;
	if (imap_try_char(s, '+'))
		store_r->mode = IMAP_STORE_ADD;
	else if (imap_try_char(s, '-'))
		store_r->mode = IMAP_STORE_REMOVE;
	if (!imap_try_word(s, SLICE("FLAGS")))
		return imap_scan_fail(s, "Unknown STORE item");
	store_r->silent = imap_try_word(s, SLICE(".SILENT"));
	if (!imap_sp(s))
		return false;
	if (imap_scan_peek(s) == '(')
		return imap_flag_list(s, &store_r->flags) && imap_scan_end(s);
	return imap_flags_bare(s, &store_r->flags) && imap_scan_end(s);
}

bool
imap_copy_args(struct imap_scan *s, struct imap_copy *copy_r)
{
	return imap_sp(s) && imap_sequence_set(s, &copy_r->set) && imap_sp(s) &&
	    imap_astring(s, &copy_r->name) && imap_scan_end(s);
}

bool
imap_uid_expunge_args(struct imap_scan *s, struct imap_expunge *expunge_r)
{
	return imap_sp(s) && imap_sequence_set(s, &expunge_r->set) && imap_scan_end(s);
}

/* ---- ID, ENABLE ---- */

/* nstring = string / "NIL" */
static bool
nstring(struct imap_scan *s, struct slice *value_r)
{
	*value_r = slice_of(NULL, 0);
	return imap_try_word(s, SLICE("NIL")) || imap_string(s, value_r);
}

bool
imap_id_args(struct imap_scan *s, struct imap_id *id_r)
{
	id_r->n = 0;
	if (!imap_sp(s))
		return false;
	if (imap_try_word(s, SLICE("NIL")) || imap_try_word(s, SLICE("()")))
		return imap_scan_end(s);
	if (!imap_char(s, '('))
		return false;
	do {
		size_t n = id_r->n;

		if (n == IMAP_ID_PAIRS_MAX)
			return imap_scan_fail(s, "Too many ID fields");
		if (!imap_string(s, &id_r->names[n]) || !imap_sp(s) || !nstring(s, &id_r->values[n]))
			return false;
		id_r->n++;
	} while (imap_try_char(s, ' '));
	return imap_char(s, ')') && imap_scan_end(s);
}

bool
imap_enable_args(struct imap_scan *s, struct imap_enable *enable_r)
{
	*enable_r = (struct imap_enable){0};
	do {
		struct slice name;

		if (!imap_sp(s) || !imap_atom(s, &name))
			return false;
		enable_r->utf8_accept |= slice_eq_nocase(name, SLICE("UTF8=ACCEPT"));
	} while (s->p != s->end);
	return true;
}
