/*
 * store_tools: the commands that work on an account without its keeper, as the tests of failures and power cuts run them:
 * `mailstead store load, salvage, rebuild, dump`, and the keeper's account.dump. A place is a directory with
 * accounts/1, dump.txt and messages/ in it, as files in memory until it is made.
 *
 * The program that uses it is linked with --wrap for account_hold, which needs a server, and clock_wall_us.
 */
#ifndef TESTS_FAULT_STORE_TOOLS_H
#define TESTS_FAULT_STORE_TOOLS_H

#include "tests/unit/salvage_damage.h"

#include "admin/command.h"

struct tool {
	const char *name;
	void (*prepare)(const char *root); /* on what every place has */
	enum command_status (*run)(void);  /* in the place */
	bool damaged;			   /* the account does not open, or not as it was, before it was run */
	bool loses;			   /* and not all of it is known: what is left is in damaged.N afterwards */
	bool replaces;			   /* messages that the account had may be removed, and it goes back */
	bool loads;			   /* a dump with its messages */
	bool copies;			   /* it writes account.dump */
};
extern const struct tool store_tools[];
extern const size_t store_tools_count;

/* Makes the place of a tool and keeps it in *place_r. In a process that may end badly: exits with 2. */
void store_tools_prepare(const struct tool *tool, struct damage_account *place_r);
/* Runs it in the directory; entered is called once the account's directory is the working directory, or at once by those
 * that do more than work in it. What it says goes to the file root/said. In a process of its own. */
enum command_status store_tools_run(const struct tool *tool, const char *root, void (*entered)(void));
/* The account as text, without what every opening changes; NULL with e when it does not open or is not sound. */
char *store_tools_look(const char *root, struct err *e);
/* Are two such texts the same, but for numbers that may be new ones each time? */
bool store_tools_same(const struct tool *tool, const char *a, const char *b);
/* A small file of the place as text, or NULL when it is not there; for the caller to free(). */
char *store_tools_file(const char *root, const char *name);
/* The first message's file that was in the account and is neither there nor in damaged.N, as its name in place; or NULL. */
const char *store_tools_missing(const struct damage_account *place, const char *root);
/* The first base copy, whole or not, that the account had and that is in none of its indexes any more, nor in damaged.N; or NULL. */
const char *store_tools_index_missing(const struct damage_account *place, const char *root);
/* The first damaged file of a message that still is where it was; or NULL. */
const char *store_tools_torn(const struct damage_account *place, const char *root);
/* Is each message that the account knows there, and what its name says? 0, or -1 with e. */
int store_tools_objects(const char *root, struct err *e);
/* account.dump: 1: it is there and whole; 0: it is not there; -1 with e. */
int store_tools_copy(const char *root, struct err *e);
/* Changes an octet of the dump that is to be loaded, or of one of its messages. */
void store_tools_alter(struct damage_account *place, bool dump);

#endif
