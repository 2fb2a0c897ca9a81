/*
 * demo: a whole server for one user in one directory (`mailstead run --demo DIR`): settings,
 * certificate, domain, accounts.
 */
#ifndef ADMIN_DEMO_H
#define ADMIN_DEMO_H

#include "common/config.h"
#include "common/err.h"

#define DEMO_DOMAIN "demo.test"
#define DEMO_PORT_OFFSET_MAX 60000

struct demo {
	char directory[200]; /* absolute */
	char config_path[240];
	unsigned port_offset;
};

/*
 * Makes the directory with mailstead.conf and the certificate, as far as they are missing. Settings
 * written by hand outside the marked block of mailstead.conf are kept and win. 0, or -1 and e.
 * Blocks on the disk.
 */
int demo_prepare(struct demo *d, const char *directory, unsigned port_offset, struct err *e);
/* Replaces a file of the demo whole, mode 0600: a crash leaves the old one or the new one. 0, or -1 and e. */
int demo_write_file(const char *path, struct slice text, struct err *e) __attribute__((warn_unused_result));
/*
 * For supervisor_options.when_ready, arg is a struct demo: makes the domain and the accounts
 * through the running directory and writes DIR/passwords. Nothing changes when they exist. Blocks;
 * gives an exit status.
 */
int demo_accounts(const struct config *config, void *arg);
/* For supervisor_options.announce: says on stdout how to connect. */
void demo_announce(const struct config *config, void *arg);

#endif
