/*
 * Arguments by verb (name, value, password):
 *   domain-add      DOMAIN
 *   domain-delete   DOMAIN, "" or "with-accounts"
 *   domain-set      DOMAIN, lines "separators=CHARS", "case=ascii" or "case=unicode", "dots=keep" or "dots=ignore"; what is not named stays
 *   domain-list     DOMAIN or "", where to go on
 *   account-add     ADDRESS, display name, hash
 *   account-passwd  ADDRESS, "", hash
 *   account-suspend, account-resume, account-delete  ADDRESS
 *   account-find    ADDRESS: its row of the list
 *   account-list    DOMAIN or "", where to go on
 *   quota-set       ADDRESS or DOMAIN, lines "bytes=N" and "messages=N", N a number, "none" or "default"; what is not named stays
 *   alias-add       ADDRESS or @DOMAIN, targets one a line: added to those that the alias has
 *   alias-delete    ADDRESS or @DOMAIN, targets one a line to take away; "": all of it
 *   alias-list      DOMAIN or "", where to go on
 *   alias-resolve   ADDRESS: where mail for it goes
 *   sender-grant    ADDRESS or @DOMAIN, accounts or aliases one a line: they may send as that account or alias, besides those that may
 *   sender-revoke   ADDRESS or @DOMAIN, those that may not any more, one a line; "": nobody else
 *   sender-list     DOMAIN or "", where to go on
 *   srs-list        "": the secrets of forwarding, without themselves
 *   srs-rotate      "", "" or "force"
 */
#include "authd/directory_admin.h"

#include "authd/directory_forward.h"
#include "authd/directory_resolve.h"
#include "common/cursor.h"
#include "common/date.h"
#include "common/mem.h"
#include "common/password.h"

#include <assert.h>
#include <jansson.h>
#include <utf8proc.h>

struct request {
	struct directory *d;
	const struct msg_DIR_ADMIN *m;
	uint64_t now;
	bool outside; /* aliases may lead to other servers */
	struct dir_admin_reply *reply;
};

struct verb {
	const char *name;
	int (*run)(struct request *q, struct err *e);
};

/* ---- names ---- */

static int
domain_of(struct slice in, char domain_r[ADDRESS_DOMAIN_BYTES_MAX + 1], struct err *e)
{
	if (!address_domain(in, domain_r))
		return err_set(e, ERR_PERM, ERR_CODE_BAD_NAME, "not a domain name", NULL);
	return 0;
}

/* The domain that a list is limited to; empty for all. */
static int
domain_filter(struct request *q, char domain_r[ADDRESS_DOMAIN_BYTES_MAX + 1], struct err *e)
{
	struct dir_domain record;
	int r;

	domain_r[0] = '\0';
	if (q->m->name.n == 0)
		return 0;
	if (domain_of(q->m->name, domain_r, e) != 0)
		return -1;
	r = directory_domain_find(q->d, domain_r, &record, e);
	if (r == 0)
		return err_set(e, ERR_PERM, ERR_CODE_NOT_FOUND, "there is no such domain", NULL);
	return r < 0 ? -1 : 0;
}

static int
login_of(struct request *q, struct address_name *name_r, struct err *e)
{
	return address_admin_parse(q->m->name, false, name_r, e);
}

/* A new account's name: a separator would make its mail somebody else's with a detail. */
static int
new_login_of(struct request *q, struct address_name *name_r, struct err *e)
{
	struct dir_domain domain = {.rules = ADDRESS_RULES_DEFAULT};

	if (login_of(q, name_r, e) != 0 || directory_domain_find(q->d, name_r->domain, &domain, e) < 0)
		return -1;
	if (strpbrk(name_r->local, domain.rules.separators) != NULL)
		return err_set(e, ERR_PERM, ERR_CODE_BAD_NAME,
		    "an account's name has no separator of its domain: what follows it is a detail", "%s",
		    domain.rules.separators);
	return 0;
}

static bool
display_acceptable(struct slice s)
{
	if (s.n > DIR_DISPLAY_BYTES_MAX)
		return false;
	for (size_t at = 0; at < s.n;) {
		utf8proc_int32_t c;
		utf8proc_ssize_t n = utf8proc_iterate(s.p + at, (utf8proc_ssize_t)(s.n - at), &c);

		if (n <= 0 || c < 0x20 || (c >= 0x7f && c < 0xa0))
			return false;
		at += (size_t)n;
	}
	return true;
}

/* ---- JSON lines ---- */

/* Appends object (stolen) as a line; false when the page is full. */
static bool
page_add(struct buf *page, json_t *object)
{
	char *text = json_dumps(object, JSON_COMPACT);
	bool ok;

	json_decref(object);
	assert(text != NULL);
	ok = page->n + strlen(text) + 1 <= DIR_ADMIN_PAGE_BYTES_MAX && buf_put_str(page, text) &&
	     buf_put_u8(page, '\n');
	free(text);
	return ok;
}

static json_t *
json_slice(struct slice s)
{
	json_t *j = json_stringn((const char *)s.p, s.n);

	return j != NULL ? j : json_string("?");
}

static json_t *
json_time(uint64_t seconds)
{
	char text[DATE_RFC3339_SIZE];

	date_rfc3339_print((int64_t)seconds, text);
	return json_string(text);
}

/*
 * A list's page: the object goes into it, or, when it is full, is left for the next one, which
 * begins after the last key that went in.
 */
static bool
page_take(struct request *q, struct slice key, json_t *object)
{
	struct dir_admin_reply *r = q->reply;

	if (!page_add(&r->json, object)) {
		r->more = true;
		return false;
	}
	buf_reset(&r->text);
	return buf_put_slice(&r->text, key);
}

/* The text is where to go on only when there is more. */
static int
page_end(struct request *q, int r)
{
	if (!q->reply->more)
		buf_reset(&q->reply->text);
	return r;
}

/* ---- limits ---- */

/* A domain's row as it stands, to be told. */
static int
row_of_domain(struct request *q, const char *domain, struct err *e)
{
	struct dir_domain record;
	int r = directory_domain_find(q->d, domain, &record, e);

	if (r == 0)
		return err_set(e, ERR_PERM, ERR_CODE_NOT_FOUND, "there is no such domain", NULL);
	if (r > 0)
		q->reply->row = (struct dir_quota_row){0, record.order, record.limit};
	return r < 0 ? -1 : 0;
}

static int
row_of_account(struct request *q, const struct address_name *login, struct err *e)
{
	struct dir_account a;
	int r = row_of_domain(q, login->domain, e) != 0 ? -1 : directory_account_find(q->d, login, &a, e);

	if (r == 0)
		return err_set(e, ERR_PERM, ERR_CODE_NOT_FOUND, "there is no such account", NULL);
	if (r < 0)
		return -1;
	q->reply->row.account = a.id;
	q->reply->row.limit = a.limit;
	return 0;
}

/* "none", "default" or a number, in which 0 is none as in the settings. */
static bool
limit_parse(struct slice text, uint64_t *limit_r)
{
	struct slice digits = text;
	uint64_t n = 0;

	if (slice_eq(text, SLICE("none")) || slice_eq(text, SLICE("default"))) {
		*limit_r = text.n == 4 ? QUOTA_NONE : QUOTA_DEFAULT;
		return true;
	}
	for (; digits.n > 0 && *digits.p >= '0' && *digits.p <= '9' && n < QUOTA_LIMIT_MAX; digits = slice_sub(digits, 1, digits.n))
		n = n * 10 + (uint64_t)(*digits.p - '0');
	*limit_r = n > 0 ? n : QUOTA_NONE;
	return text.n > 0 && digits.n == 0 && n <= QUOTA_LIMIT_MAX;
}

static int
limits_parse(struct slice lines, struct quota *limit, struct err *e)
{
	struct slice line, name;

	while (slice_cut(&lines, '\n', &line)) {
		bool named = slice_cut(&line, '=', &name);
		bool bytes = slice_eq(name, SLICE("bytes"));

		if (!named || (!bytes && !slice_eq(name, SLICE("messages"))) ||
		    !limit_parse(line, bytes ? &limit->bytes : &limit->messages))
			return err_set(e, ERR_PERM, ERR_CODE_MALFORMED, "a limit is a number, none or default", NULL);
	}
	return 0;
}

static int
quota_set(struct request *q, struct err *e)
{
	struct dir_quota_row *row = &q->reply->row;
	char domain[ADDRESS_DOMAIN_BYTES_MAX + 1];
	struct address_name login;
	int r;

	if (slice_index(q->m->name, '@') < q->m->name.n)
		r = login_of(q, &login, e) != 0 || row_of_account(q, &login, e) != 0;
	else
		r = domain_of(q->m->name, domain, e) != 0 || row_of_domain(q, domain, e) != 0;
	if (r != 0 || limits_parse(q->m->value, &row->limit, e) != 0)
		return -1;
	q->reply->wait = true;
	return row->account != 0 ? directory_account_set_limit(q->d, row->account, row->limit, e)
				 : directory_domain_set_limit(q->d, domain, row->limit, e);
}

/* What is not the default, as the store's numbers of octets and messages; 0: none. */
static void
json_limit(json_t *row, struct quota limit, uint64_t usual)
{
	if (limit.bytes != usual && limit.bytes != QUOTA_DEFAULT)
		(void)json_object_set_new(row, "quota_bytes", json_integer(limit.bytes == QUOTA_NONE ? 0 : (json_int_t)limit.bytes));
	if (limit.messages != usual && limit.messages != QUOTA_DEFAULT)
		(void)json_object_set_new(
		    row, "quota_messages", json_integer(limit.messages == QUOTA_NONE ? 0 : (json_int_t)limit.messages));
}

/* ---- domains ---- */

static int
domain_add(struct request *q, struct err *e)
{
	char domain[ADDRESS_DOMAIN_BYTES_MAX + 1];

	if (domain_of(q->m->name, domain, e) != 0)
		return -1;
	return directory_domain_add(q->d, domain, q->now, e);
}

static int
domain_delete(struct request *q, struct err *e)
{
	char domain[ADDRESS_DOMAIN_BYTES_MAX + 1];

	if (domain_of(q->m->name, domain, e) != 0)
		return -1;
	if (row_of_domain(q, domain, e) != 0 ||
	    directory_domain_delete(q->d, domain, slice_eq(q->m->value, SLICE("with-accounts")), e) != 0)
		return -1;
	q->reply->row.limit = (struct quota){QUOTA_NONE, QUOTA_NONE};
	return 0;
}

/* One line of domain-set; false when it is none. */
static bool
rule_parse(struct slice line, struct address_rules *rules)
{
	struct slice name;

	if (!slice_cut(&line, '=', &name))
		return false;
	if (slice_eq(name, SLICE("separators")))
		return address_separators_good(line) && slice_cstr(line, rules->separators, sizeof rules->separators);
	if (slice_eq(name, SLICE("case"))) {
		rules->fold_letters = slice_eq(line, SLICE("unicode"));
		return rules->fold_letters || slice_eq(line, SLICE("ascii"));
	}
	rules->dots_ignored = slice_eq(line, SLICE("ignore"));
	return slice_eq(name, SLICE("dots")) && (rules->dots_ignored || slice_eq(line, SLICE("keep")));
}

static int
domain_set(struct request *q, struct err *e)
{
	char domain[ADDRESS_DOMAIN_BYTES_MAX + 1];
	struct slice lines = q->m->value;
	struct dir_domain record;
	struct slice line;
	int r = domain_of(q->m->name, domain, e) != 0 ? -1 : directory_domain_find(q->d, domain, &record, e);

	if (r == 0)
		return err_set(e, ERR_PERM, ERR_CODE_NOT_FOUND, "there is no such domain", NULL);
	while (r == 1 && slice_cut(&lines, '\n', &line))
		if (line.n > 0 && !rule_parse(line, &record.rules))
			return err_set(e, ERR_PERM, ERR_CODE_MALFORMED,
			    "separators are up to 8 different signs of !#$%&'*+-/=?^_`{|}~, case is ascii or unicode, dots is keep or "
			    "ignore",
			    NULL);
	return r < 0 ? -1 : directory_domain_set_rules(q->d, domain, &record.rules, e);
}

static void
json_rules(json_t *row, const struct address_rules *rules)
{
	(void)json_object_set_new(row, "separators", json_string(rules->separators));
	(void)json_object_set_new(row, "case", json_string(rules->fold_letters ? "unicode" : "ascii"));
	(void)json_object_set_new(row, "dots", json_string(rules->dots_ignored ? "ignore" : "keep"));
}

static bool
domain_row(struct slice key, const char *domain, const struct dir_domain *record, void *arg)
{
	json_t *row = json_pack("{s:s, s:I, s:o}", "domain", domain, "id", (json_int_t)record->order, "created",
	    json_time(record->created));

	json_rules(row, &record->rules);
	json_limit(row, record->limit, QUOTA_NONE);
	return page_take(arg, key, row);
}

static int
domain_list(struct request *q, struct err *e)
{
	char domain[ADDRESS_DOMAIN_BYTES_MAX + 1];
	struct dir_domain record;

	if (domain_filter(q, domain, e) != 0)
		return -1;
	if (domain[0] != '\0') {
		if (directory_domain_find(q->d, domain, &record, e) < 0)
			return -1;
		(void)domain_row(SLICE(""), domain, &record, q);
		return page_end(q, 0);
	}
	return page_end(q, directory_domain_each(q->d, q->m->value, domain_row, q, e));
}

/* ---- accounts ---- */

static int
hash_check(const struct request *q, struct err *e)
{
	if (!password_hash_valid(q->m->password))
		return err_set(e, ERR_PERM, ERR_CODE_MALFORMED, "not a password hash", NULL);
	return 0;
}

static int
account_add(struct request *q, struct err *e)
{
	struct address_name login;
	uint64_t id;

	if (new_login_of(q, &login, e) != 0 || hash_check(q, e) != 0)
		return -1;
	if (!display_acceptable(q->m->value))
		return err_set(e, ERR_PERM, ERR_CODE_BAD_NAME,
		    "a display name is up to 128 octets of text", NULL);
	if (directory_account_add(q->d, &login, q->m->value, q->m->password, q->now, &id, e) != 0)
		return -1;
	return row_of_account(q, &login, e);
}

static int
account_passwd(struct request *q, struct err *e)
{
	struct address_name login;

	if (login_of(q, &login, e) != 0 || hash_check(q, e) != 0)
		return -1;
	return directory_account_set_hash(q->d, &login, q->m->password, e);
}

static int
account_state(struct request *q, enum dir_account_state state, struct err *e)
{
	struct address_name login;

	if (login_of(q, &login, e) != 0)
		return -1;
	return directory_account_set_state(q->d, &login, state, e);
}

static int
account_suspend(struct request *q, struct err *e)
{
	return account_state(q, DIR_ACCOUNT_SUSPENDED, e);
}

static int
account_resume(struct request *q, struct err *e)
{
	return account_state(q, DIR_ACCOUNT_ACTIVE, e);
}

static int
account_delete(struct request *q, struct err *e)
{
	struct address_name login;

	if (login_of(q, &login, e) != 0)
		return -1;
	return directory_account_delete(q->d, &login, e);
}

static json_t *
account_json(const struct dir_account *a)
{
	json_t *row = json_pack("{s:o, s:o, s:I, s:s, s:o}", "address", json_slice(a->login),
	    "name", json_slice(a->display), "id", (json_int_t)a->id, "state",
	    a->state == DIR_ACCOUNT_ACTIVE ? "active" : "suspended", "created",
	    json_time(a->created));

	json_limit(row, a->limit, QUOTA_DEFAULT);
	return row;
}

static bool
account_row(struct slice key, const struct dir_account *a, void *arg)
{
	return page_take(arg, key, account_json(a));
}

static int
account_find(struct request *q, struct err *e)
{
	struct address_name login;
	struct dir_account record;
	int r;

	if (login_of(q, &login, e) != 0)
		return -1;
	r = directory_account_find(q->d, &login, &record, e);
	if (r == 0)
		return err_set(e, ERR_PERM, ERR_CODE_NOT_FOUND, "there is no such account", NULL);
	if (r > 0)
		(void)page_add(&q->reply->json, account_json(&record));
	return r < 0 ? -1 : 0;
}

static int
account_list(struct request *q, struct err *e)
{
	char domain[ADDRESS_DOMAIN_BYTES_MAX + 1];

	if (domain_filter(q, domain, e) != 0)
		return -1;
	return page_end(q, directory_account_each(q->d, domain, q->m->value, account_row, q, e));
}

/* ---- aliases, and who may send as an address ---- */

/* What has targets. */
struct targets_kind {
	int (*find)(struct directory *d, const struct address_name *name, struct dir_alias *had_r, struct err *e);
	int (*check)(struct request *q, const struct address_name *name, const struct dir_alias *next, struct err *e);
	int (*set)(struct directory *d, const struct address_name *name, const struct dir_alias *next, struct err *e);
	int (*delete)(struct directory *d, const struct address_name *name, struct err *e);
};

/* Alias records while they are put together: their targets' text lives beside them. */
struct alias_work {
	const struct targets_kind *kind;
	struct address_name name;
	struct dir_alias had; /* n = 0: a new one; its slices point into old */
	struct buf old;
	struct dir_alias next;
	char text[DIR_ALIAS_TARGETS_MAX][ADDRESS_BYTES_MAX + 1];
};

static bool
alias_has(const struct dir_alias *a, struct slice target)
{
	for (uint32_t i = 0; i < a->n; i++) {
		if (slice_eq(a->target[i], target))
			return true;
	}
	return false;
}

/* The record as it is, copied out of the directory's memory. */
static int
alias_load(struct request *q, struct alias_work *w, struct err *e)
{
	int r;

	if (address_admin_parse(q->m->name, true, &w->name, e) != 0)
		return -1;
	r = w->kind->find(q->d, &w->name, &w->had, e);
	if (r != 1) {
		w->had = (struct dir_alias){.created = q->now, .n = 0};
		return r;
	}
	/* Encoding and decoding again is the simplest copy that cannot be shallow. */
	if (!dir_alias_encode(&w->had, &w->old) || !dir_alias_decode(buf_slice(&w->old), &w->had))
		return err_set(e, ERR_BUG, ERR_CODE_NONE, "internal error", "alias copy");
	return 1;
}

/* Of another server's addresses only that one knows which are the same: the local part stays as it is. */
static int
target_parse(struct request *q, struct slice line, struct address_name *name_r, struct err *e)
{
	struct dir_domain domain;
	int r = address_admin_parse(line, false, name_r, e) != 0 ? -1 : directory_domain_find(q->d, name_r->domain, &domain, e);

	if (r == 0 && !slice_cstr(slice_sub(line, 0, slice_rindex(line, '@')), name_r->local, sizeof name_r->local))
		return err_set(e, ERR_PERM, ERR_CODE_BAD_NAME, "the name before the @ is too long (64 octets)", NULL);
	return r < 0 ? -1 : 0;
}

/* The targets in the request, in normal form, into text; the number of them or -1. */
static int
targets_parse(struct request *q, struct alias_work *w, struct err *e)
{
	struct slice rest = q->m->value;
	struct slice line;
	int n = 0;

	while (slice_cut(&rest, '\n', &line)) {
		struct address_name name;

		if (line.n == 0)
			continue;
		if (n == DIR_ALIAS_TARGETS_MAX)
			return err_set(
			    e, ERR_PERM, ERR_CODE_TOO_BIG, "1 to 100 may be named", NULL);
		if (target_parse(q, line, &name, e) != 0)
			return -1;
		address_print(&name, w->text[n++]);
	}
	return n;
}

static int
alias_add_work(struct request *q, struct alias_work *w, struct err *e)
{
	int n = alias_load(q, w, e);

	if (n < 0 || (n = targets_parse(q, w, e)) < 0)
		return -1;
	if (n == 0)
		return err_set(e, ERR_PERM, ERR_CODE_MALFORMED, "nobody is named that it is to lead to, or that is to send", NULL);
	w->next = w->had;
	for (int i = 0; i < n; i++) {
		struct slice target = slice_str(w->text[i]);

		if (alias_has(&w->next, target))
			continue;
		if (w->next.n == DIR_ALIAS_TARGETS_MAX)
			return err_set(
			    e, ERR_PERM, ERR_CODE_TOO_BIG, "1 to 100 may be named", NULL);
		w->next.target[w->next.n++] = target;
	}
	if (w->kind->check(q, &w->name, &w->next, e) != 0)
		return -1;
	return w->kind->set(q->d, &w->name, &w->next, e);
}

static int
alias_delete_work(struct request *q, struct alias_work *w, struct err *e)
{
	int found = alias_load(q, w, e);
	int n = found < 0 ? -1 : targets_parse(q, w, e);

	if (n < 0)
		return -1;
	if (found == 0 || n == 0)
		return w->kind->delete(q->d, &w->name, e);
	w->next = (struct dir_alias){.created = w->had.created, .n = 0};
	for (int i = 0; i < n; i++) {
		if (!alias_has(&w->had, slice_str(w->text[i])))
			return err_set(e, ERR_PERM, ERR_CODE_NOT_FOUND,
			    "it is not one of them", "%s", w->text[i]);
	}
	for (uint32_t i = 0; i < w->had.n; i++) {
		bool gone = false;

		for (int j = 0; j < n; j++)
			gone = gone || slice_eq(w->had.target[i], slice_str(w->text[j]));
		if (!gone)
			w->next.target[w->next.n++] = w->had.target[i];
	}
	if (w->next.n == 0)
		return w->kind->delete(q->d, &w->name, e);
	return w->kind->set(q->d, &w->name, &w->next, e);
}

static int
alias_work_run(struct request *q, const struct targets_kind *kind, int (*run)(struct request *, struct alias_work *, struct err *),
    struct err *e)
{
	struct alias_work *w = MEM_NEW(struct alias_work);
	int r;

	w->kind = kind;
	buf_init(&w->old, DIR_RECORD_BYTES_MAX);
	r = run(q, w, e);
	buf_fini(&w->old);
	free(w);
	return r;
}

static int
alias_check(struct request *q, const struct address_name *name, const struct dir_alias *next, struct err *e)
{
	return directory_alias_check(q->d, name, next, q->outside, e);
}

static int
sender_check(struct request *q, const struct address_name *name, const struct dir_alias *next, struct err *e)
{
	return directory_sender_check(q->d, name, next, e);
}

static const struct targets_kind aliases = {directory_alias_find, alias_check, directory_alias_set, directory_alias_delete};
static const struct targets_kind senders = {directory_sender_find, sender_check, directory_sender_set, directory_sender_delete};

static int
alias_add(struct request *q, struct err *e)
{
	return alias_work_run(q, &aliases, alias_add_work, e);
}

static int
alias_delete(struct request *q, struct err *e)
{
	return alias_work_run(q, &aliases, alias_delete_work, e);
}

static int
sender_grant(struct request *q, struct err *e)
{
	return alias_work_run(q, &senders, alias_add_work, e);
}

static int
sender_revoke(struct request *q, struct err *e)
{
	return alias_work_run(q, &senders, alias_delete_work, e);
}

static bool
alias_row(struct slice key, const struct address_name *name, const struct dir_alias *a, void *arg)
{
	char text[ADDRESS_BYTES_MAX + 1];
	json_t *targets = json_array();

	for (uint32_t i = 0; i < a->n; i++)
		(void)json_array_append_new(targets, json_slice(a->target[i]));
	address_print(name, text);
	return page_take(arg, key,
	    json_pack("{s:s, s:o, s:o}", "address", text, "targets", targets, "created",
		json_time(a->created)));
}

static int
alias_list(struct request *q, struct err *e)
{
	char domain[ADDRESS_DOMAIN_BYTES_MAX + 1];

	if (domain_filter(q, domain, e) != 0)
		return -1;
	return page_end(q, directory_alias_each(q->d, domain, q->m->value, alias_row, q, e));
}

static int
sender_list(struct request *q, struct err *e)
{
	char domain[ADDRESS_DOMAIN_BYTES_MAX + 1];

	if (domain_filter(q, domain, e) != 0)
		return -1;
	return page_end(q, directory_sender_each(q->d, domain, q->m->value, alias_row, q, e));
}

/* The login addresses of what an address leads to. */
static int
json_accounts(struct request *q, const struct dir_resolved *found, json_t *list, struct err *e)
{
	struct dir_account a;

	for (unsigned i = 0; i < found->n; i++) {
		if (directory_account_get(q->d, found->account[i], &a, e) < 0)
			return -1;
		(void)json_array_append_new(list, json_slice(a.login));
	}
	return 0;
}

/* The addresses on other servers. */
static json_t *
json_outside(const struct dir_resolved *found)
{
	struct cursor c = cursor_of(slice_of(found->outside, found->outside_bytes));
	json_t *list = json_array();

	while (cursor_left(&c) > 0)
		(void)json_array_append_new(list, json_slice(cursor_slice(&c, ADDRESS_BYTES_MAX)));
	return list;
}

static int
alias_resolve(struct request *q, struct err *e)
{
	static const char *const answers[] = {[DIR_LOCAL] = "local",
	    [DIR_UNKNOWN] = "unknown",
	    [DIR_NOT_OURS] = "not ours",
	    [DIR_DISABLED] = "suspended",
	    [DIR_TEMP] = "temporary failure"};
	struct dir_resolved *found = MEM_NEW(struct dir_resolved);
	json_t *list = json_array();
	int r;

	directory_resolve(q->d, q->m->name, "", found);
	r = json_accounts(q, found, list, e);
	(void)page_add(&q->reply->json, json_pack("{s:o, s:s, s:o, s:o, s:s}", "address", json_slice(q->m->name), "answer",
	    answers[found->status], "accounts", list, "outside", json_outside(found), "detail", found->detail));
	free(found);
	return r;
}

/* ---- the door ---- */

/* ---- forwarding ---- */

static int
srs_list(struct request *q, struct err *e)
{
	struct dir_srs_state state;

	if (directory_srs_state(q->d, &state, e) != 0)
		return -1;
	if (state.any)
		(void)page_take(q, SLICE("1"), json_pack("{s:s, s:o, s:s}", "secret", "newest", "since",
		    state.since > 0 ? json_time(state.since) : json_string(""), "until", ""));
	if (state.older_until > 0)
		(void)page_take(q, SLICE("2"), json_pack("{s:s, s:s, s:o}", "secret", "older", "since", "", "until",
		    json_time(state.older_until)));
	return page_end(q, 0);
}

static int
srs_rotate(struct request *q, struct err *e)
{
	return directory_srs_rotate(q->d, q->now, slice_eq(q->m->value, SLICE("force")), e);
}

static const struct verb verbs[] = {
    {"domain-add", domain_add},
    {"domain-delete", domain_delete},
    {"domain-set", domain_set},
    {"domain-list", domain_list},
    {"account-add", account_add},
    {"account-passwd", account_passwd},
    {"account-suspend", account_suspend},
    {"account-resume", account_resume},
    {"account-delete", account_delete},
    {"account-find", account_find},
    {"account-list", account_list},
    {"quota-set", quota_set},
    {"alias-add", alias_add},
    {"alias-delete", alias_delete},
    {"alias-list", alias_list},
    {"alias-resolve", alias_resolve},
    {"sender-grant", sender_grant},
    {"sender-revoke", sender_revoke},
    {"sender-list", sender_list},
    {"srs-list", srs_list},
    {"srs-rotate", srs_rotate},
};

void
dir_admin_reply_init(struct dir_admin_reply *r)
{
	r->class = ERR_NONE;
	r->code = ERR_CODE_NONE;
	r->more = false;
	r->row = (struct dir_quota_row){0};
	r->wait = false;
	buf_init(&r->text, DIR_ADMIN_TEXT_BYTES_MAX);
	buf_init(&r->json, DIR_ADMIN_PAGE_BYTES_MAX);
}

void
dir_admin_reply_fini(struct dir_admin_reply *r)
{
	buf_fini(&r->text);
	buf_fini(&r->json);
}

static void
reply_error(struct dir_admin_reply *r, const struct err *e)
{
	buf_reset(&r->text);
	buf_reset(&r->json);
	r->more = false;
	r->row = (struct dir_quota_row){0};
	r->wait = false;
	r->class = e->class;
	r->code = e->code;
	(void)buf_put_str(&r->text, e->client);
	/* Who reaches this socket may see details. */
	if (e->detail[0] != '\0')
		(void)buf_putf(&r->text, " (%s)", e->detail);
}

void
directory_admin(struct directory *d, const struct msg_DIR_ADMIN *m, uint64_t now, bool outside, struct dir_admin_reply *r)
{
	struct request q = {d, m, now, outside, r};
	struct err e;

	buf_reset(&r->text);
	buf_reset(&r->json);
	r->more = false;
	r->class = ERR_NONE;
	r->code = ERR_CODE_NONE;
	r->row = (struct dir_quota_row){0};
	r->wait = false;
	err_clear(&e);
	for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
		if (!slice_eq(m->verb, slice_str(verbs[i].name)))
			continue;
		if (verbs[i].run(&q, &e) != 0)
			reply_error(r, &e);
		return;
	}
	(void)err_set(&e, ERR_PERM, ERR_CODE_MALFORMED, "no such request", NULL);
	reply_error(r, &e);
}
