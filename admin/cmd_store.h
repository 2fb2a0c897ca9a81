/*
 * cmd_store: what the files of `mailstead store` share: the rows' functions, and small helpers. Each says on stderr what
 * went wrong and gives the exit status.
 */
#ifndef ADMIN_CMD_STORE_H
#define ADMIN_CMD_STORE_H

#include "admin/account_link.h"
#include "store/check.h"
#include "store/file.h"
#include "store/quota.h"

enum command_status store_check(const struct command_call *call);
enum command_status store_dump(const struct command_call *call);
enum command_status store_salvage(const struct command_call *call);
enum command_status store_load(const struct command_call *call);

/* What an account has, as a line that begins with `what`, or as JSON. */
enum command_status store_usage_print(const struct command_call *call, const char *what, struct quota usage);
/* One finding as JSON, for the caller to release; and such a row as a line. */
json_t *store_finding_json(const struct check_finding *f);
void store_finding_print(const char *address, const json_t *row);

#endif
