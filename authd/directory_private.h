/* directory_private: what the directory's own files share; no other file includes it. */
#ifndef AUTHD_DIRECTORY_PRIVATE_H
#define AUTHD_DIRECTORY_PRIVATE_H

#include "authd/directory.h"
#include "authd/directory_db.h"

struct directory {
	struct directory_db *db;
	struct dir_meta meta;
	struct buf value; /* the record last found */
	struct buf index; /* values of index entries and of encodings */
	struct buf key;
	bool has_secrets; /* of authd/srs.h, read already */
	struct srs_secrets secrets;
};

/* Keys; each is valid until the next one is made. */
struct slice directory_key_secret(struct directory *d);
struct slice directory_key_domain(struct directory *d, const char *domain);
/* letter, domain, NUL, local. */
struct slice directory_key_name(struct directory *d, uint8_t letter, const struct address_name *name);
/* The prefix of all of a domain's keys with that letter; all domains for NULL or the empty name. */
struct slice directory_key_of_domain(struct directory *d, uint8_t letter, const char *domain);
/* Splits "letter domain NUL local". */
bool directory_key_split(struct slice key, struct address_name *name_r);

/* Ends a change: all of its writes (r == 0) become durable, or none does. */
int directory_change_end(struct directory *d, int r, struct err *e);

/*
 * The index of folded names (authd/directory_fold.c), within a change: a name comes, a name goes. free: no other name of
 * the domain is the same to it; else -1 and e, ERR_CODE_EXISTS.
 */
int directory_fold_free(struct directory *d, const struct address_name *name, struct err *e);
int directory_fold_put(struct directory *d, const struct address_name *name, struct err *e);
int directory_fold_delete(struct directory *d, const struct address_name *name, struct err *e);
/* All of a domain's entries go. */
int directory_fold_clear(struct directory *d, const char *domain, struct err *e);

#endif
