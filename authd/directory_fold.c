/*
 * Names that are the same to a domain though they are written differently. Every name is kept under its normal form
 * (authd/address.h); a domain whose rules say more than that has beside it, for each name, a key "F" with the
 * folded form, which leads to the name. Whoever looks a name up asks for the normal form first. So what an account is
 * called never depends on rules, and rules can be changed at any time: the domain's keys "F" are made anew in
 * that transaction, which fails when two names would become the same.
 */
#include "authd/directory_private.h"

#include "common/mem.h"

#include <stdlib.h>

#define FOLD_BATCH 256 /* names that are taken per scan */

static bool
rules_fold(const struct address_rules *r)
{
	return r->fold_letters || r->dots_ignored;
}

/* The name's folded form: 1; 0 when the domain's rules ask for none or it has none. */
static int
folded(struct directory *d, const struct address_name *name, struct address_name *fold_r, struct err *e)
{
	struct dir_domain domain;
	int r = directory_domain_find(d, name->domain, &domain, e);

	if (r != 1 || !rules_fold(&domain.rules) || !address_fold(name->local, &domain.rules, fold_r->local))
		return r < 0 ? -1 : 0;
	memcpy(fold_r->domain, name->domain, sizeof(fold_r->domain));
	return 1;
}

/* Whose the folded form is, as it is written: 1, 0 or -1. */
static int
owner_of(struct directory *d, const struct address_name *fold, struct address_name *owner_r, struct err *e)
{
	int r = directory_db_get(d->db, directory_key_name(d, 'F', fold), &d->value, e);

	if (r != 1)
		return r;
	memcpy(owner_r->domain, fold->domain, sizeof(owner_r->domain));
	if (!slice_cstr(buf_slice(&d->value), owner_r->local, sizeof(owner_r->local)) || owner_r->local[0] == '\0')
		return err_set(e, ERR_TEMP, ERR_CODE_CORRUPT, "directory damaged", "a folded name");
	return 1;
}

static int
fold_free(struct directory *d, const struct address_name *name, const struct address_name *fold, struct err *e)
{
	struct address_name owner;
	int r = owner_of(d, fold, &owner, e);

	if (r == 1 && strcmp(owner.local, name->local) != 0)
		return err_set(e, ERR_PERM, ERR_CODE_EXISTS, "by the domain's rules that is the same as another name",
		    "%s and %s", name->local, owner.local);
	return r < 0 ? -1 : 0;
}

int
directory_fold_free(struct directory *d, const struct address_name *name, struct err *e)
{
	struct address_name fold;
	int r = folded(d, name, &fold, e);

	return r == 1 ? fold_free(d, name, &fold, e) : r;
}

static int
fold_put(struct directory *d, const struct address_name *name, const struct address_name *fold, struct err *e)
{
	return directory_db_put(d->db, directory_key_name(d, 'F', fold), slice_str(name->local), e);
}

int
directory_fold_put(struct directory *d, const struct address_name *name, struct err *e)
{
	struct address_name fold;
	int r = folded(d, name, &fold, e);

	return r == 1 ? fold_put(d, name, &fold, e) : r;
}

int
directory_fold_delete(struct directory *d, const struct address_name *name, struct err *e)
{
	struct address_name fold;
	int r = folded(d, name, &fold, e);

	return r == 1 ? directory_db_delete(d->db, directory_key_name(d, 'F', &fold), e) : r;
}

int
directory_name_meant(struct directory *d, struct address_name *name, struct err *e)
{
	struct address_name fold;
	int r = folded(d, name, &fold, e);

	return r == 1 ? owner_of(d, &fold, name, e) : r;
}

/* ---- all names of a domain ---- */

struct batch {
	struct address_name name[FOLD_BATCH];
	unsigned n;
	struct buf last; /* the key where the next one goes on */
};

static bool
batch_visit(struct slice key, struct slice value, void *arg)
{
	struct batch *b = arg;

	(void)value;
	buf_reset(&b->last);
	(void)buf_put_slice(&b->last, key);
	if (directory_key_split(key, &b->name[b->n]) && b->name[b->n].local[0] != '\0')
		b->n++;
	return b->n < FOLD_BATCH;
}

/* The names that follow those of the last batch. */
static int
batch_next(struct directory *d, const char *domain, uint8_t letter, struct batch *b, struct err *e)
{
	uint8_t after[ADDRESS_BYTES_MAX + 16];
	size_t n = b->last.n;

	if (n > sizeof(after))
		return err_set(e, ERR_BUG, ERR_CODE_NONE, "internal error", "key length");
	if (n > 0)
		memcpy(after, b->last.p, n);
	b->n = 0;
	return directory_db_scan(
	    d->db, directory_key_of_domain(d, letter, domain), slice_of(after, n), batch_visit, b, e);
}

static struct batch *
batch_new(void)
{
	struct batch *b = MEM_NEW(struct batch);

	buf_init(&b->last, ADDRESS_BYTES_MAX + 16);
	return b;
}

static void
batch_free(struct batch *b)
{
	buf_fini(&b->last);
	free(b);
}

int
directory_fold_clear(struct directory *d, const char *domain, struct err *e)
{
	struct batch *b = batch_new();
	int r;

	do {
		r = batch_next(d, domain, 'F', b, e);
		for (unsigned i = 0; r == 0 && i < b->n; i++)
			r = directory_db_delete(d->db, directory_key_name(d, 'F', &b->name[i]), e);
	} while (r == 0 && b->n == FOLD_BATCH);
	batch_free(b);
	return r;
}

/* Makes the entries of all of the domain's names with that letter. */
static int
fold_all(struct directory *d, const char *domain, uint8_t letter, const struct address_rules *rules, struct err *e)
{
	struct batch *b = batch_new();
	struct address_name fold;
	int r;

	do {
		r = batch_next(d, domain, letter, b, e);
		for (unsigned i = 0; r == 0 && i < b->n; i++) {
			if (!address_fold(b->name[i].local, rules, fold.local))
				continue;
			memcpy(fold.domain, b->name[i].domain, sizeof(fold.domain));
			r = fold_free(d, &b->name[i], &fold, e);
			if (r == 0)
				r = fold_put(d, &b->name[i], &fold, e);
		}
	} while (r == 0 && b->n == FOLD_BATCH);
	batch_free(b);
	return r;
}

static int
rules_write(struct directory *d, const char *domain, const struct dir_domain *record, struct err *e)
{
	bool encoded = dir_domain_encode(record, &d->index);

	if (!encoded)
		return err_set(e, ERR_PERM, ERR_CODE_TOO_BIG, "too many separators", NULL);
	if (directory_db_put(d->db, directory_key_domain(d, domain), buf_slice(&d->index), e) != 0 ||
	    directory_fold_clear(d, domain, e) != 0)
		return -1;
	if (!rules_fold(&record->rules))
		return 0;
	if (fold_all(d, domain, 'L', &record->rules, e) != 0)
		return -1;
	return fold_all(d, domain, 'X', &record->rules, e);
}

int
directory_domain_set_rules(
    struct directory *d, const char *domain, const struct address_rules *rules, struct err *e)
{
	struct dir_domain record;
	int r = directory_domain_find(d, domain, &record, e);

	if (r == 0)
		return err_set(e, ERR_PERM, ERR_CODE_NOT_FOUND, "there is no such domain", NULL);
	if (r < 0 || directory_db_begin(d->db, e) != 0)
		return -1;
	record.rules = *rules;
	return directory_change_end(d, rules_write(d, domain, &record, e), e);
}
