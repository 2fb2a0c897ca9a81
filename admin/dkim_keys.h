/*
 * dkim_keys: the DKIM keys of a domain on disk (common/dkim_selector.h), as the command changes them: one process at a time, each
 * file replaced whole and synced, 0600 and of the user that STATE/keys belongs to, which is the key role's. A key stands in its file
 * before the list names it. All of it blocks on the disk, and says on stderr what went wrong.
 */
#ifndef ADMIN_DKIM_KEYS_H
#define ADMIN_DKIM_KEYS_H

#include "admin/command.h"
#include "common/dkim_selector.h"
#include "common/dns_name.h"

#define DKIM_KEYS_RSA_BITS 2048 /* RFC 8301 3.2; its record still fits one DNS answer of 512 octets */
#define DKIM_KEYS_RECORD_BYTES_MAX 1000

struct dkim_keys {
	char domain[DNS_NAME_BYTES_MAX + 1]; /* A-labels */
	char directory[512];
	int lock;
	uint32_t uid, gid; /* whose the files are */
	struct dkim_selectors list;
};

/* Takes the lock and reads the list, which is empty for a domain without keys. domain: as a person writes it. */
enum command_status dkim_keys_open(const struct config *config, const char *domain, struct dkim_keys *k);
/* Of what dkim_keys_open() gave COMMAND_OK for. */
void dkim_keys_close(struct dkim_keys *k);
/* Calls fn for the name of each domain that has keys, in order, until it gives other than COMMAND_OK. */
enum command_status dkim_keys_each(const struct config *config, enum command_status (*fn)(void *arg, const char *domain), void *arg);

/* Writes the list. */
enum command_status dkim_keys_save(const struct dkim_keys *k);
/* A new key in a file of its own, and its selector at the end of the list (not saved yet). name is free, and the list not full. */
enum command_status dkim_keys_make(struct dkim_keys *k, const char *name, enum dkim_algorithm a, uint64_t now);
/* Takes the selector out of the list, saves it, and removes the key. s lies in the list. */
enum command_status dkim_keys_remove(struct dkim_keys *k, struct dkim_selector *s);
/* Appends the text of the selector's TXT record (RFC 6376 3.6.1, RFC 8463 4.2). */
enum command_status dkim_keys_record(const struct dkim_keys *k, const struct dkim_selector *s, struct buf *record);

#endif
