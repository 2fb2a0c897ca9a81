/*
 * salvage: an account made again from whatever is left of it. In order of trust: base copy and log, when both are whole;
 * else every record with a good checksum that lies anywhere in base copy, log and database, joined; account.dump for
 * what these do not know; and for messages that nobody knows their files alone, which go into the mailbox Recovered.
 *
 * Every message whose file is intact is in the account afterwards. Nothing is removed: an index that was damaged, and
 * files that are not what their name says, are moved to "damaged.N" in the account's directory. The new index is put in
 * place as store/rebuild.h does; a salvage that was cut short is done again. The account must be the caller's alone.
 */
#ifndef STORE_SALVAGE_H
#define STORE_SALVAGE_H

#include "store/check.h"

/* Where messages go that nobody knows anything of. */
#define SALVAGE_MAILBOX "Recovered"

struct salvage_result {
	bool sound;	    /* base copy and log were whole: nothing but messages' files can have been lost */
	uint64_t messages;  /* in mailboxes now */
	uint64_t recovered; /* of those: put into Recovered by this run */
	uint64_t filled;    /* of those: known from account.dump only */
	uint64_t lost;	    /* known, and their files are missing or damaged */
	char aside[32];	    /* the directory with what was moved away; empty when nothing was */
};

struct salvage_events {
	/* Each loss and each doubt, in plain words. */
	void (*note)(void *arg, const struct check_finding *f);
	/* May be NULL. */
	void (*progress)(void *arg, uint64_t done, uint64_t total);
};

int salvage_account(const char *root, uint64_t now, const struct salvage_events *events, void *arg,
    struct salvage_result *result_r, struct err *e) __attribute__((warn_unused_result));

#endif
