/*
 * logfile: Berkeley DB's log, read as octets, without Berkeley DB and without changing anything. Berkeley DB takes the first
 * record that is not whole for the end of its log, and writes zeros over what lies behind it; here that place is a break, and what
 * follows is found again. Whether a break is just where the writing had come to, or damage, is told by our records behind it
 * (store/redo.h): they know how far the log had been synced. All that is read is hostile.
 */
#ifndef STORE_LOGFILE_H
#define STORE_LOGFILE_H

#include "common/err.h"
#include "store/env.h"
#include "store/redo.h"

/* A file that is longer is read no further. */
#define LOGFILE_BYTES_MAX (64u << 20)
/* Berkeley DB's header before each record. */
#define LOGFILE_HEADER_BYTES 12u

/* Where a reading is: all 0 before the first file. */
struct logfile_chain {
	uint32_t file;	 /* being read */
	uint32_t last;	 /* the last record that was whole */
	uint32_t end;	 /* behind it; 0: the file has none */
	bool linked;	 /* the file has one */
	bool broken;	 /* there was a break */
	bool stopped;	 /* a function had enough */
	uint64_t search; /* octets summed in looking for records behind breaks */
	struct redo_pages pages; /* what the mark behind the last checkpoint tells; all 0: there is none */
};
struct logfile_fns {
	/* A redo record of ours or a mark, whole or mended; false ends the reading. */
	bool (*redo)(void *arg, const struct redo *r, struct slice record);
	/* The octets from there on are no record, and not all zeros to the last file's end; false ends the reading. */
	bool (*broken)(void *arg, struct env_log_place place);
	void *arg;
	bool behind; /* redo is only called for records behind a break: the others need not be looked into */
};

/* One file's octets, which may be mended; the next one gets the same chain. */
void logfile_octets(struct logfile_chain *c, uint32_t number, uint8_t *p, size_t n, const struct logfile_fns *fns);
/* A file's octets into b (reset first; its maximum is LOGFILE_BYTES_MAX at least), without the zeros at its end. */
int logfile_read(const char *dir, uint32_t number, struct buf *b, struct err *e) __attribute__((warn_unused_result));
/* The numbers of a directory's log files, ascending, for the caller to free(). */
int logfile_numbers(const char *dir, uint32_t **numbers_r, size_t *count_r, struct err *e)
    __attribute__((warn_unused_result));

struct logfile_look {
	struct redo_durable durable; /* what was synced, as records behind breaks tell it; those before tell of what lies before them */
	bool damaged;		     /* the log ends before that, or breaks */
	bool end_damaged;	     /* and so in its last file: Berkeley DB would take that for the end */
	struct env_log_place place;  /* where: the first of them */
	struct redo_pages pages;     /* what the mark behind the last checkpoint tells; all 0: there is none */
};
/*
 * Was what had been synced damaged since? all: of the whole log, else only of its last file with a record, which is enough to
 * know whether Berkeley DB will find the log's end. look_r->durable is what is known from elsewhere, and filled.
 */
int logfile_look(const char *dir, bool all, struct logfile_look *look_r, struct err *e) __attribute__((warn_unused_result));
/* Up to where the log tells to have been synced, damaged or not: raises *durable. */
int logfile_durable(const char *dir, struct redo_durable *durable, struct err *e) __attribute__((warn_unused_result));
/* Gives the transactions' redo records in order, those behind damage too, until fn gives false. durable: from a look at all of it. */
typedef bool logfile_redo_fn(void *arg, const struct redo *r, struct slice record);
int logfile_redo(const char *dir, const struct redo_durable *durable, logfile_redo_fn *fn, void *arg, struct err *e)
    __attribute__((warn_unused_result));

#endif
