/*
 * dkim_selector: the DKIM keys of one domain as they lie on disk, in STATE/keys/dkim/DOMAIN: SELECTOR.rsa.pem or
 * SELECTOR.ed25519.pem for each key, and the file "selectors" with what is known of each. The command writes them, the key role
 * reads them as it starts. Pure: this is the grammar of that file, and what it means at a moment.
 *
 * The file: a line "mailstead-dkim 1", then one line per selector, fields parted by one space: name, "rsa" or "ed25519", and five
 * times in seconds since 1970, 0 for never: created, published, use_from, retire_at, remove_at. Each line ends in LF.
 */
#ifndef COMMON_DKIM_SELECTOR_H
#define COMMON_DKIM_SELECTOR_H

#include "common/buf.h"
#include "common/slice.h"

#define DKIM_SELECTOR_DIR "keys/dkim" /* below the state directory */
#define DKIM_SELECTOR_FILE "selectors"
#define DKIM_SELECTOR_BYTES_MAX 63
#define DKIM_SELECTORS_MAX 32 /* of one domain, retired ones included */
#define DKIM_SELECTOR_FILE_BYTES_MAX 8192

/* RFC 6376 3.3, RFC 8301, RFC 8463; rsa-sha1 is not made (8301 3.1). */
enum dkim_algorithm { DKIM_RSA_SHA256, DKIM_ED25519_SHA256, DKIM_ALGORITHMS };

/* As in a=: "rsa-sha256". */
const char *dkim_algorithm_name(enum dkim_algorithm a);
/* As in k= of a key record: "rsa", "ed25519". */
const char *dkim_algorithm_key_type(enum dkim_algorithm a);
/* False when text is no key type. */
bool dkim_algorithm_of(struct slice key_type, enum dkim_algorithm *a_r);

struct dkim_selector {
	char name[DKIM_SELECTOR_BYTES_MAX + 1]; /* lower-case letters, digits and hyphens within */
	enum dkim_algorithm algorithm;
	uint64_t created;
	uint64_t published; /* its record was seen in the DNS */
	uint64_t use_from;  /* signs from then on, until retire_at */
	uint64_t retire_at;
	uint64_t remove_at; /* its record need not stay in the DNS any longer */
};

/* What the times come to. */
enum dkim_selector_state { DKIM_SELECTOR_CREATED, DKIM_SELECTOR_PUBLISHED, DKIM_SELECTOR_ACTIVE, DKIM_SELECTOR_RETIRED };

enum dkim_selector_state dkim_selector_state(const struct dkim_selector *s, uint64_t now);
const char *dkim_selector_state_name(enum dkim_selector_state state);
bool dkim_selector_name_valid(struct slice name);

struct dkim_selectors {
	struct dkim_selector v[DKIM_SELECTORS_MAX];
	unsigned n;
};

/* False when text is not such a file. Two selectors of one name are none. */
bool dkim_selectors_parse(struct slice text, struct dkim_selectors *list_r) __attribute__((warn_unused_result));
/* Appends the file's text. False when b is full. */
bool dkim_selectors_print(const struct dkim_selectors *list, struct buf *b) __attribute__((warn_unused_result));
/* The selector of that name, or NULL. */
struct dkim_selector *dkim_selectors_find(struct dkim_selectors *list, struct slice name);

#endif
