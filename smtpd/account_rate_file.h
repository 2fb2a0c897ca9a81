/*
 * account_rate_file: what account_rate.h counts, kept in two files of STATE/deliver, `counts.0` and `counts.1`, by turns. Each is
 * "MSRATE1\n", u64 number of the turn, u64 octets of the image, the image, SHA-256 of all before; what is behind that is of no account.
 * The good one of the later turn holds, so that a cut while one is written leaves the other. What cannot be read is as if nothing were
 * known.
 */
#ifndef SMTPD_ACCOUNT_RATE_FILE_H
#define SMTPD_ACCOUNT_RATE_FILE_H

#include "common/err.h"
#include "smtpd/account_rate.h"

struct account_rate_file;

/*
 * Opens both in dir and reads them: *r_r is what they hold, or new. The caller owns both. What cannot be opened, as on a full disk, is
 * kept nowhere: account_rate_file_keep() says so. No path is needed afterwards.
 */
struct account_rate_file *account_rate_file_open(const char *dir, struct account_rates **r_r);
/* Writes r in the file whose turn it is, durable. -1 and e: what was kept before holds. Blocks on the disk. */
int account_rate_file_keep(struct account_rate_file *f, const struct account_rates *r, struct err *e);
void account_rate_file_close(struct account_rate_file **f);

#endif
