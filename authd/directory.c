/*
 * Keys are built by one function each; values go through directory_record.
 * A change reads what it needs, checks, and writes all its keys in one
 * transaction, so that an account never stands half in the indices.
 */
#include "authd/directory_private.h"

#include "common/cursor.h"
#include "common/log.h"
#include "common/mem.h"

#include <assert.h>

/* 'L', domain, NUL, local or an id. */
#define KEY_BYTES_MAX (ADDRESS_BYTES_MAX + 16)
/* Suspended accounts that are passed over in the search for a domain's first active one. */
#define FIRST_ACTIVE_TRIES_MAX 100
/* Keys that are taken per scan of a deletion. */
#define DELETE_BATCH 256

/* ---- keys ---- */

static struct slice
key_begin(struct directory *d, uint8_t letter)
{
	buf_reset(&d->key);
	put_u8(&d->key, letter);
	return buf_slice(&d->key);
}

struct slice
directory_key_domain(struct directory *d, const char *domain)
{
	(void)key_begin(d, 'D');
	(void)buf_put_str(&d->key, domain);
	return buf_slice(&d->key);
}

static struct slice
key_account(struct directory *d, uint64_t id)
{
	(void)key_begin(d, 'A');
	put_u64(&d->key, id);
	return buf_slice(&d->key);
}

struct slice
directory_key_of_domain(struct directory *d, uint8_t letter, const char *domain)
{
	(void)key_begin(d, letter);
	if (domain != NULL && domain[0] != '\0') {
		(void)buf_put_str(&d->key, domain);
		put_u8(&d->key, 0);
	}
	return buf_slice(&d->key);
}

struct slice
directory_key_name(struct directory *d, uint8_t letter, const struct address_name *name)
{
	(void)directory_key_of_domain(d, letter, name->domain);
	(void)buf_put_str(&d->key, name->local);
	return buf_slice(&d->key);
}

struct slice
directory_key_secret(struct directory *d)
{
	return key_begin(d, 'S');
}

static struct slice
key_order(struct directory *d, const char *domain, uint64_t id)
{
	(void)directory_key_of_domain(d, 'O', domain);
	put_u64(&d->key, id);
	return buf_slice(&d->key);
}

static struct slice
key_effect(struct directory *d, enum dir_effect effect, uint64_t id)
{
	(void)key_begin(d, 'E');
	put_u8(&d->key, (uint8_t)effect);
	put_u64(&d->key, id);
	return buf_slice(&d->key);
}

static int
damaged(struct err *e, const char *what)
{
	return err_set(
	    e, ERR_TEMP, ERR_CODE_CORRUPT, "directory damaged", "%s does not decode", what);
}

/* ---- open and close ---- */

static int
meta_put(struct directory *d, struct err *e)
{
	bool ok = dir_meta_encode(&d->meta, &d->index);

	assert(ok);
	return directory_db_put(d->db, key_begin(d, 'V'), buf_slice(&d->index), e);
}

static int
meta_make(struct directory *d, struct err *e)
{
	d->meta = (struct dir_meta){DIR_FORMAT_VERSION, 1, 1};
	if (directory_db_begin(d->db, e) != 0)
		return -1;
	if (meta_put(d, e) != 0) {
		directory_db_abort(d->db);
		return -1;
	}
	return directory_db_commit(d->db, e);
}

static int
meta_load(struct directory *d, struct err *e)
{
	int r = directory_db_get(d->db, key_begin(d, 'V'), &d->value, e);

	if (r == 0)
		return meta_make(d, e);
	if (r < 0)
		return -1;
	if (!dir_meta_decode(buf_slice(&d->value), &d->meta))
		return damaged(e, "the version");
	if (d->meta.version != DIR_FORMAT_VERSION)
		return err_set(e, ERR_PERM, ERR_CODE_CORRUPT, "directory of another version",
		    "format %u, this program knows %u", d->meta.version, DIR_FORMAT_VERSION);
	return 0;
}

int
directory_open(const char *path, struct directory **d_r, bool *rebuilt_r, struct err *e)
{
	struct directory *d = MEM_NEW(struct directory);

	buf_init(&d->value, DIR_RECORD_BYTES_MAX);
	buf_init(&d->index, DIR_RECORD_BYTES_MAX);
	buf_init(&d->key, KEY_BYTES_MAX);
	*d_r = d;
	if (directory_db_open(path, &d->db, rebuilt_r, e) != 0 || meta_load(d, e) != 0) {
		directory_close(d_r);
		return -1;
	}
	return 0;
}

void
directory_close(struct directory **dp)
{
	struct directory *d = *dp;

	if (d == NULL)
		return;
	directory_db_close(&d->db);
	buf_fini(&d->value);
	buf_fini(&d->index);
	buf_fini(&d->key);
	mem_wipe(&d->secrets, sizeof d->secrets);
	MEM_FREE(dp);
}

bool
directory_failed(const struct directory *d)
{
	return directory_db_failed(d->db);
}

/* ---- look-ups ---- */

int
directory_domain_find(
    struct directory *d, const char *domain, struct dir_domain *domain_r, struct err *e)
{
	int r = directory_db_get(d->db, directory_key_domain(d, domain), &d->value, e);

	if (r == 1 && !dir_domain_decode(buf_slice(&d->value), domain_r))
		return damaged(e, domain);
	return r;
}

struct first_domain {
	bool found;
	uint64_t order;
	char *domain_r;
};

static bool
first_domain_visit(struct slice key, const char *domain, const struct dir_domain *record, void *arg)
{
	struct first_domain *f = arg;

	(void)key;
	if (!f->found || record->order < f->order) {
		f->found = slice_cstr(slice_str(domain), f->domain_r, ADDRESS_DOMAIN_BYTES_MAX + 1);
		f->order = record->order;
	}
	return true;
}

int
directory_domain_first(
    struct directory *d, char domain_r[ADDRESS_DOMAIN_BYTES_MAX + 1], struct err *e)
{
	struct first_domain f = {false, 0, domain_r};

	if (directory_domain_each(d, slice_of(NULL, 0), first_domain_visit, &f, e) != 0)
		return -1;
	return f.found;
}

int
directory_account_get(
    struct directory *d, uint64_t id, struct dir_account *account_r, struct err *e)
{
	int r = directory_db_get(d->db, key_account(d, id), &d->value, e);

	if (r == 1 && (!dir_account_decode(buf_slice(&d->value), account_r) || account_r->id != id))
		return damaged(e, "an account");
	return r;
}

int
directory_account_find(struct directory *d, const struct address_name *name,
    struct dir_account *account_r, struct err *e)
{
	int r = directory_db_get(d->db, directory_key_name(d, 'L', name), &d->index, e);
	struct cursor c;
	uint64_t id;

	if (r != 1)
		return r;
	c = cursor_of(buf_slice(&d->index));
	id = cursor_u64(&c);
	if (!cursor_done(&c))
		return damaged(e, "a login");
	r = directory_account_get(d, id, account_r, e);
	return r == 0 ? damaged(e, "a login without its account") : r;
}

/* The record of targets under that letter. */
static int
targets_find(struct directory *d, uint8_t letter, const struct address_name *name, struct dir_alias *alias_r, struct err *e)
{
	int r = directory_db_get(d->db, directory_key_name(d, letter, name), &d->value, e);

	if (r == 1 && !dir_alias_decode(buf_slice(&d->value), alias_r))
		return damaged(e, "an alias");
	return r;
}

int
directory_alias_find(
    struct directory *d, const struct address_name *name, struct dir_alias *alias_r, struct err *e)
{
	return targets_find(d, 'X', name, alias_r, e);
}

int
directory_sender_find(struct directory *d, const struct address_name *name, struct dir_alias *targets_r, struct err *e)
{
	return targets_find(d, 'G', name, targets_r, e);
}

struct first_account {
	uint64_t id[FIRST_ACTIVE_TRIES_MAX];
	unsigned n;
};

/* The id is the end of the key: of "A" id and of "O" domain NUL id. */
static bool
first_account_visit(struct slice key, struct slice value, void *arg)
{
	struct first_account *f = arg;
	struct cursor c;

	(void)value;
	if (key.n < 1 + sizeof(uint64_t))
		return true;
	c = cursor_of(slice_sub(key, key.n - sizeof(uint64_t), key.n));
	f->id[f->n++] = cursor_u64(&c);
	return f->n < FIRST_ACTIVE_TRIES_MAX;
}

int
directory_account_first(
    struct directory *d, const char *domain, struct dir_account *account_r, struct err *e)
{
	struct first_account f = {.n = 0};
	struct slice prefix = domain != NULL ? directory_key_of_domain(d, 'O', domain) : key_begin(d, 'A');

	if (directory_db_scan(d->db, prefix, slice_of(NULL, 0), first_account_visit, &f, e) != 0)
		return -1;
	for (unsigned i = 0; i < f.n; i++) {
		int r = directory_account_get(d, f.id[i], account_r, e);

		if (r < 0)
			return -1;
		if (r == 1 && account_r->state == DIR_ACCOUNT_ACTIVE)
			return 1;
	}
	return f.n == 0 ? 0 : directory_account_get(d, f.id[0], account_r, e);
}

/* ---- changes ---- */

int
directory_change_end(struct directory *d, int r, struct err *e)
{
	if (r == 0)
		return directory_db_commit(d->db, e);
	directory_db_abort(d->db);
	return -1;
}

static int
account_put(struct directory *d, const struct dir_account *a, struct err *e)
{
	if (!dir_account_encode(a, &d->index))
		return err_set(e, ERR_PERM, ERR_CODE_TOO_BIG,
		    "the account's name, display name or hash is too long", NULL);
	return directory_db_put(d->db, key_account(d, a->id), buf_slice(&d->index), e);
}

static int
effect_put(struct directory *d, enum dir_effect effect, uint64_t account, struct err *e)
{
	return directory_db_put(d->db, key_effect(d, effect, account), slice_of("", 0), e);
}

static int
not_found(struct err *e, const char *words)
{
	return err_set(e, ERR_PERM, ERR_CODE_NOT_FOUND, words, NULL);
}

int
directory_domain_add(struct directory *d, const char *domain, uint64_t now, struct err *e)
{
	struct dir_domain record;
	int r = directory_domain_find(d, domain, &record, e);
	bool encoded;

	if (r < 0)
		return -1;
	if (r == 1)
		return err_set(e, ERR_PERM, ERR_CODE_EXISTS, "the domain is there already", NULL);
	record = (struct dir_domain){d->meta.next_order, now, {QUOTA_NONE, QUOTA_NONE}, ADDRESS_RULES_DEFAULT};
	if (directory_db_begin(d->db, e) != 0)
		return -1;
	d->meta.next_order++;
	r = meta_put(d, e);
	encoded = dir_domain_encode(&record, &d->index);
	assert(encoded);
	if (r == 0)
		r = directory_db_put(d->db, directory_key_domain(d, domain), buf_slice(&d->index), e);
	return directory_change_end(d, r, e);
}

int
directory_name_free(
    struct directory *d, const struct address_name *name, bool alias_may_be, struct err *e)
{
	struct dir_domain domain;
	int r = directory_domain_find(d, name->domain, &domain, e);

	if (r == 0)
		return not_found(e, "the domain is not one of ours: add it first (domain add)");
	if (r > 0)
		r = directory_db_get(d->db, directory_key_name(d, 'L', name), &d->index, e);
	if (r == 1)
		return err_set(
		    e, ERR_PERM, ERR_CODE_EXISTS, "there is an account of that name", NULL);
	if (r == 0 && !alias_may_be)
		r = directory_db_get(d->db, directory_key_name(d, 'X', name), &d->index, e);
	if (r == 1)
		return err_set(
		    e, ERR_PERM, ERR_CODE_EXISTS, "there is an alias of that name", NULL);
	return r < 0 ? -1 : directory_fold_free(d, name, e);
}

static int
account_add_writes(struct directory *d, const struct dir_account *a,
    const struct address_name *login, struct err *e)
{
	uint8_t octets[sizeof a->id];
	struct buf id;
	int r;

	if (meta_put(d, e) != 0 || account_put(d, a, e) != 0)
		return -1;
	if (directory_db_put(d->db, key_order(d, login->domain, a->id), slice_of("", 0), e) != 0 ||
	    directory_fold_put(d, login, e) != 0)
		return -1;
	buf_init(&id, sizeof octets);
	put_u64(&id, a->id);
	r = directory_db_put(d->db, directory_key_name(d, 'L', login), buf_slice(&id), e);
	buf_fini(&id);
	return r;
}

int
directory_account_add(struct directory *d, const struct address_name *login, struct slice display,
    struct slice hash, uint64_t now, uint64_t *id_r, struct err *e)
{
	char text[ADDRESS_BYTES_MAX + 1];
	struct dir_account a = {.id = d->meta.next_account,
	    .state = DIR_ACCOUNT_ACTIVE,
	    .created = now,
	    .limit = {QUOTA_DEFAULT, QUOTA_DEFAULT},
	    .display = display,
	    .hash = hash};

	if (directory_name_free(d, login, false, e) != 0 || directory_db_begin(d->db, e) != 0)
		return -1;
	address_print(login, text);
	a.login = slice_str(text);
	/* Counted up even when the change fails: a hole does no harm, a second use would. */
	d->meta.next_account++;
	*id_r = a.id;
	return directory_change_end(d, account_add_writes(d, &a, login, e), e);
}

/* The account's keys go; the store is to be told. */
static int
account_delete_writes(
    struct directory *d, const struct address_name *login, uint64_t id, struct err *e)
{
	if (directory_db_delete(d->db, key_account(d, id), e) != 0 ||
	    directory_db_delete(d->db, directory_key_name(d, 'L', login), e) != 0 ||
	    directory_db_delete(d->db, directory_key_name(d, 'G', login), e) != 0 ||
	    directory_db_delete(d->db, key_order(d, login->domain, id), e) != 0 ||
	    directory_fold_delete(d, login, e) != 0)
		return -1;
	if (effect_put(d, DIR_EFFECT_REVOKE, id, e) != 0)
		return -1;
	return effect_put(d, DIR_EFFECT_DELETE, id, e);
}

static int
account_must_find(
    struct directory *d, const struct address_name *login, struct dir_account *a_r, struct err *e)
{
	int r = directory_account_find(d, login, a_r, e);

	if (r == 0)
		return not_found(e, "there is no such account");
	return r < 0 ? -1 : 0;
}

int
directory_account_delete(struct directory *d, const struct address_name *login, struct err *e)
{
	struct dir_account a;

	if (account_must_find(d, login, &a, e) != 0 || directory_db_begin(d->db, e) != 0)
		return -1;
	return directory_change_end(d, account_delete_writes(d, login, a.id, e), e);
}

/* Writes the changed record; its sessions are to end. */
static int
account_change(struct directory *d, const struct dir_account *a, struct err *e)
{
	int r;

	if (directory_db_begin(d->db, e) != 0)
		return -1;
	r = account_put(d, a, e);
	if (r == 0)
		r = effect_put(d, DIR_EFFECT_REVOKE, a->id, e);
	return directory_change_end(d, r, e);
}

int
directory_account_set_hash(
    struct directory *d, const struct address_name *login, struct slice hash, struct err *e)
{
	struct dir_account a;

	if (account_must_find(d, login, &a, e) != 0)
		return -1;
	a.hash = hash;
	return account_change(d, &a, e);
}

int
directory_account_set_state(struct directory *d, const struct address_name *login,
    enum dir_account_state state, struct err *e)
{
	struct dir_account a;

	if (account_must_find(d, login, &a, e) != 0)
		return -1;
	if (a.state == state)
		return 0;
	a.state = state;
	return account_change(d, &a, e);
}

/* Its sessions go on: the limit is not theirs to know. */
int
directory_account_set_limit(struct directory *d, uint64_t id, struct quota limit, struct err *e)
{
	struct dir_account a;
	int r = directory_account_get(d, id, &a, e);

	if (r == 0)
		return not_found(e, "there is no such account");
	if (r < 0 || directory_db_begin(d->db, e) != 0)
		return -1;
	a.limit = limit;
	return directory_change_end(d, account_put(d, &a, e), e);
}

int
directory_domain_set_limit(struct directory *d, const char *domain, struct quota limit, struct err *e)
{
	struct dir_domain record;
	int r = directory_domain_find(d, domain, &record, e);

	if (r == 0)
		return not_found(e, "there is no such domain");
	if (r < 0 || directory_db_begin(d->db, e) != 0)
		return -1;
	record.limit = limit;
	bool encoded = dir_domain_encode(&record, &d->index);

	assert(encoded);
	return directory_change_end(d, directory_db_put(d->db, directory_key_domain(d, domain), buf_slice(&d->index), e), e);
}

int
directory_alias_set(struct directory *d, const struct address_name *name,
    const struct dir_alias *alias, struct err *e)
{
	int r;

	if (directory_name_free(d, name, true, e) != 0)
		return -1;
	if (!dir_alias_encode(alias, &d->index))
		return err_set(
		    e, ERR_PERM, ERR_CODE_TOO_BIG, "an alias has 1 to 100 targets", NULL);
	if (directory_db_begin(d->db, e) != 0)
		return -1;
	r = directory_db_put(d->db, directory_key_name(d, 'X', name), buf_slice(&d->index), e);
	if (r == 0)
		r = directory_fold_put(d, name, e);
	return directory_change_end(d, r, e);
}

int
directory_alias_delete(struct directory *d, const struct address_name *name, struct err *e)
{
	int r = directory_db_get(d->db, directory_key_name(d, 'X', name), &d->value, e);

	if (r < 0)
		return -1;
	if (r == 0)
		return not_found(e, "there is no such alias");
	if (directory_db_begin(d->db, e) != 0)
		return -1;
	r = directory_db_delete(d->db, directory_key_name(d, 'X', name), e);
	if (r == 0)
		r = directory_db_delete(d->db, directory_key_name(d, 'G', name), e);
	if (r == 0)
		r = directory_fold_delete(d, name, e);
	return directory_change_end(d, r, e);
}

int
directory_sender_set(struct directory *d, const struct address_name *name, const struct dir_alias *targets, struct err *e)
{
	if (!dir_alias_encode(targets, &d->index))
		return err_set(e, ERR_PERM, ERR_CODE_TOO_BIG, "1 to 100 may be named", NULL);
	if (directory_db_begin(d->db, e) != 0)
		return -1;
	return directory_change_end(d, directory_db_put(d->db, directory_key_name(d, 'G', name), buf_slice(&d->index), e), e);
}

int
directory_sender_delete(struct directory *d, const struct address_name *name, struct err *e)
{
	int r = directory_db_get(d->db, directory_key_name(d, 'G', name), &d->value, e);

	if (r == 0)
		return not_found(e, "nobody else may send as that address");
	if (r < 0 || directory_db_begin(d->db, e) != 0)
		return -1;
	return directory_change_end(d, directory_db_delete(d->db, directory_key_name(d, 'G', name), e), e);
}

/* ---- a whole domain ---- */

struct name_batch {
	struct address_name name[DELETE_BATCH];
	uint64_t id[DELETE_BATCH]; /* of accounts */
	unsigned n;
};

bool
directory_key_split(struct slice key, struct address_name *name_r)
{
	struct slice rest = slice_sub(key, 1, key.n);
	struct slice domain;

	return slice_cut(&rest, '\0', &domain) &&
	       slice_cstr(domain, name_r->domain, sizeof name_r->domain) &&
	       slice_cstr(rest, name_r->local, sizeof name_r->local);
}

static bool
batch_visit(struct slice key, struct slice value, void *arg)
{
	struct name_batch *b = arg;
	struct cursor c = cursor_of(value);

	if (!directory_key_split(key, &b->name[b->n]))
		return true;
	b->id[b->n++] = key.p[0] == 'L' ? cursor_u64(&c) : 0;
	return b->n < DELETE_BATCH;
}

/* Deletes all of the domain's names with that letter, a batch after the other. */
static int
domain_names_delete(
    struct directory *d, const char *domain, uint8_t letter, struct name_batch *b, struct err *e)
{
	do {
		b->n = 0;
		if (directory_db_scan(d->db, directory_key_of_domain(d, letter, domain), slice_of(NULL, 0),
			batch_visit, b, e) != 0)
			return -1;
		for (unsigned i = 0; i < b->n; i++) {
			int r = letter == 'L'
				    ? account_delete_writes(d, &b->name[i], b->id[i], e)
				    : directory_db_delete(d->db, directory_key_name(d, letter, &b->name[i]), e);

			if (r != 0)
				return -1;
		}
	} while (b->n == DELETE_BATCH);
	return 0;
}

static int
domain_is_empty(struct directory *d, const char *domain, struct name_batch *b, struct err *e)
{
	b->n = 0;
	if (directory_db_scan(
		d->db, directory_key_of_domain(d, 'L', domain), slice_of(NULL, 0), batch_visit, b, e) != 0)
		return -1;
	if (b->n == 0 && directory_db_scan(d->db, directory_key_of_domain(d, 'X', domain), slice_of(NULL, 0),
			     batch_visit, b, e) != 0)
		return -1;
	if (b->n > 0)
		return err_set(e, ERR_PERM, ERR_CODE_IN_USE,
		    "the domain has accounts or aliases: delete them first, or say --with-accounts",
		    NULL);
	return 0;
}

int
directory_domain_delete(struct directory *d, const char *domain, bool all, struct err *e)
{
	struct name_batch *b;
	struct dir_domain record;
	int r = directory_domain_find(d, domain, &record, e);

	if (r < 0)
		return -1;
	if (r == 0)
		return not_found(e, "there is no such domain");
	b = MEM_NEW(struct name_batch);
	r = all ? 0 : domain_is_empty(d, domain, b, e);
	if (r == 0 && directory_db_begin(d->db, e) == 0) {
		r = domain_names_delete(d, domain, 'L', b, e);
		if (r == 0)
			r = domain_names_delete(d, domain, 'X', b, e);
		if (r == 0)
			r = domain_names_delete(d, domain, 'G', b, e);
		if (r == 0)
			r = directory_fold_clear(d, domain, e);
		if (r == 0)
			r = directory_db_delete(d->db, directory_key_domain(d, domain), e);
		r = directory_change_end(d, r, e);
	} else {
		r = -1;
	}
	free(b);
	return r;
}

/* ---- effects ---- */

struct effect_each {
	directory_effect_visit *visit;
	void *arg;
};

static bool
effect_visit(struct slice key, struct slice value, void *arg)
{
	struct effect_each *each = arg;
	struct cursor c = cursor_of(slice_sub(key, 1, key.n));
	unsigned effect = cursor_u8(&c);
	uint64_t id = cursor_u64(&c);

	(void)value;
	if (!cursor_done(&c) || (effect != DIR_EFFECT_REVOKE && effect != DIR_EFFECT_DELETE))
		return true;
	return each->visit((enum dir_effect)effect, id, each->arg);
}

int
directory_effect_each(struct directory *d, directory_effect_visit *visit, void *arg, struct err *e)
{
	struct effect_each each = {visit, arg};

	return directory_db_scan(
	    d->db, key_begin(d, 'E'), slice_of(NULL, 0), effect_visit, &each, e);
}

int
directory_effect_done(struct directory *d, enum dir_effect effect, uint64_t account, struct err *e)
{
	if (directory_db_begin(d->db, e) != 0)
		return -1;
	return directory_change_end(d, directory_db_delete(d->db, key_effect(d, effect, account), e), e);
}

/* ---- lists ---- */

struct each {
	directory_domain_visit *domain;
	directory_account_visit *account;
	directory_alias_visit *alias;
	struct directory *d;
	void *arg;
};

static void
log_damaged(const char *what)
{
	log_event(
	    LOG_ERROR, NO_SESSION, "directory-record-damaged", LOG_CSTR("kind", what), LOG_END);
}

static bool
domain_visit(struct slice key, struct slice value, void *arg)
{
	struct each *each = arg;
	char domain[ADDRESS_DOMAIN_BYTES_MAX + 1];
	struct dir_domain record;

	if (!slice_cstr(slice_sub(key, 1, key.n), domain, sizeof domain) ||
	    !dir_domain_decode(value, &record)) {
		log_damaged("domain");
		return true;
	}
	return each->domain(key, domain, &record, each->arg);
}

int
directory_domain_each(struct directory *d, struct slice after, directory_domain_visit *visit,
    void *arg, struct err *e)
{
	struct each each = {.domain = visit, .arg = arg};

	return directory_db_scan(d->db, key_begin(d, 'D'), after, domain_visit, &each, e);
}

static bool
account_visit(struct slice key, struct slice value, void *arg)
{
	struct each *each = arg;
	struct cursor c = cursor_of(value);
	struct dir_account record;
	struct err e;

	if (directory_account_get(each->d, cursor_u64(&c), &record, &e) != 1) {
		log_damaged("account");
		return true;
	}
	return each->account(key, &record, each->arg);
}

int
directory_account_each(struct directory *d, const char *domain, struct slice after,
    directory_account_visit *visit, void *arg, struct err *e)
{
	struct each each = {.account = visit, .d = d, .arg = arg};

	return directory_db_scan(
	    d->db, directory_key_of_domain(d, 'L', domain), after, account_visit, &each, e);
}

static bool
alias_visit(struct slice key, struct slice value, void *arg)
{
	struct each *each = arg;
	struct address_name name;
	struct dir_alias *record = MEM_NEW(struct dir_alias);
	bool more = true;

	if (directory_key_split(key, &name) && dir_alias_decode(value, record))
		more = each->alias(key, &name, record, each->arg);
	else
		log_damaged("alias");
	free(record);
	return more;
}

int
directory_alias_each(struct directory *d, const char *domain, struct slice after,
    directory_alias_visit *visit, void *arg, struct err *e)
{
	struct each each = {.alias = visit, .arg = arg};

	return directory_db_scan(
	    d->db, directory_key_of_domain(d, 'X', domain), after, alias_visit, &each, e);
}

int
directory_sender_each(struct directory *d, const char *domain, struct slice after,
    directory_alias_visit *visit, void *arg, struct err *e)
{
	struct each each = {.alias = visit, .arg = arg};

	return directory_db_scan(d->db, directory_key_of_domain(d, 'G', domain), after, alias_visit, &each, e);
}
