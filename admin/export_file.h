/*
 * export_file: a file that is written for somebody else to read. It is made without a name (where the file system cannot do that, under
 * a temporary one), synced when that is asked for, and linked to its name: nothing that is there is ever overwritten, no link is
 * followed, and who is killed leaves nothing half behind. Errors are kept until export_file_place(), so that writing needs no checks.
 */
#ifndef ADMIN_EXPORT_FILE_H
#define ADMIN_EXPORT_FILE_H

#include "common/buf.h"
#include "common/err.h"

#define EXPORT_TEMPORARY_SIZE 96

struct export_file {
	int fd;
	char temporary[EXPORT_TEMPORARY_SIZE]; /* its name until it has the final one; "": none */
	int errnum; /* of the first failure */
	bool held_cr;
	uint8_t last;	  /* the octet that was put last */
	uint64_t bytes;	  /* as written */
	uint64_t bare_lf; /* LFs among them that no CR precedes: as many octets more has the message on the wire */
	struct buf room;
};

/* Makes a file in directory at; when it must have a name it begins with `temporary`. -1 and e. */
int export_file_make(struct export_file *f, int at, const char *temporary, struct err *e) __attribute__((warn_unused_result));
void export_file_put(struct export_file *f, struct slice octets);
/* The same with CR LF written as LF. */
void export_file_put_lf(struct export_file *f, struct slice octets);
/* What put_lf holds back (a CR at the end) is written too. */
void export_file_put_rest(struct export_file *f);
/* What was put behind the first so many octets is taken back. */
void export_file_cut(struct export_file *f, uint64_t bytes);
/*
 * Closes it and gives it its name in directory `to`, on the file system of `at`, where it was made; sync: only when its octets are on the
 * disk. date: its time, or -1. -1 and e when anything failed since it was made, or the name is taken. A temporary name is gone in any case.
 */
int export_file_place(struct export_file *f, int at, int to, const char *name, bool sync, int64_t date, struct err *e)
    __attribute__((warn_unused_result));
/* Gives it up. */
void export_file_drop(struct export_file *f, int at);

/* Makes a directory and opens it, or opens one that is there. made_r (may be NULL): it was made now. -1 and e. */
int export_directory(int at, const char *name, bool *made_r, struct err *e) __attribute__((warn_unused_result));
/* Is nothing in it? */
bool export_directory_empty(int fd);

#endif
