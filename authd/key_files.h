/*
 * key_files: the files that the key role reads before its sandbox closes. Blocks on the disk.
 */
#ifndef AUTHD_KEY_FILES_H
#define AUTHD_KEY_FILES_H

#include "authd/key_dkim.h"
#include "common/buf.h"

#define KEY_FILE_BYTES_MAX 65536u
/* Domains with DKIM keys that are looked at. */
#define KEY_FILES_DOMAINS_MAX 1024u

/* A buffer for one key file, its room taken at once: growing would leave copies of a key in freed memory. */
void key_files_buf_init(struct buf *b);
/* Wipes and frees. */
void key_files_buf_fini(struct buf *b);
/* Appends a whole file to b. -1 and e. */
int key_files_read(const char *path, struct buf *b, struct err *e);

/*
 * Adds all keys below STATE/keys/dkim that sign or will (common/dkim_selector.h). What cannot be read or used is an error in the log, and
 * the others are taken all the same: mail of that domain then goes unsigned or with one signature.
 */
void key_files_load_dkim(struct key_dkim *ks, const char *state_dir, uint64_t now);

#endif
