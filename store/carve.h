/*
 * carve: what can be read of an index directory that nobody may open any more, without Berkeley DB and without changing
 * anything: records with a good checksum of their own (store/format.h), wherever they lie, and redo records. All that is
 * read is hostile.
 */
#ifndef STORE_CARVE_H
#define STORE_CARVE_H

#include "common/err.h"
#include "store/logfile.h"

/* A file that is longer is read no further. */
#define CARVE_FILE_BYTES_MAX (UINT64_C(4) << 30)
#define CARVE_PAGE_BYTES 4096u

typedef void carve_record_fn(void *arg, struct slice key, struct slice value);

/* The record at the beginning of in, as a base copy has it; its length, or 0 when there is none. */
size_t carve_match(struct slice in, struct slice *key_r, struct slice *value_r);
/* Every record of a base copy, whatever of it is damaged. -1 when the file cannot be read to its end. */
int carve_base(const char *dir, carve_record_fn *fn, void *arg, struct err *e);

/* Every record on the leaves of the index database. *end_r: the highest place in the log that a sound page names. */
int carve_pages(const char *dir, carve_record_fn *fn, void *arg, struct env_log_place *end_r, struct err *e);
/* The same for one page; overflow values are read from fd. */
void carve_page(const uint8_t page[CARVE_PAGE_BYTES], int fd, carve_record_fn *fn, void *arg);

/* A redo record with a good checksum. */
struct carve_redo {
	uint64_t serial;
	unsigned part;
	bool last;
	struct slice record; /* for redo_open() */
};
struct carve_log {
	struct carve_redo *list; /* in the order of the log */
	size_t n;
	size_t cap;
	uint32_t first; /* number of the first file; 0: there is none */
	struct redo_durable durable; /* what is known to have been synced */
	size_t sure;		     /* so many of the list lie before the first break behind that: what follows was never durable */
	struct env_log_place end;    /* the last record before that break */
	bool ended;		     /* there was one */
	struct logfile_chain chain;
	struct buf *files; /* what the records point into */
	size_t file_count;
};
/* durable: what is known besides what the log tells itself. */
int carve_log(const char *dir, struct redo_durable durable, struct carve_log *log_r, struct err *e);
/* The redo records in the octets of one log file, appended; log->durable is filled before the first. */
void carve_log_file(struct carve_log *log, uint32_t number, uint8_t *p, size_t n);
void carve_log_free(struct carve_log *log);

#endif
