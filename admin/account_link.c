#include "admin/account_link.h"

#include "admin/directory_request.h"
#include "store/account.h"

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_BYTES_MAX 512

/* The number of the account of that address. */
static enum command_status
account_id(const struct command_call *call, const char *address, uint64_t *id_r)
{
	json_t *row;
	enum command_status status = directory_account(call, address, &row);

	if (status == COMMAND_OK)
		*id_r = (uint64_t)json_integer_value(json_object_get(row, "id"));
	json_decref(row);
	return status;
}

/* ---- by the keeper ---- */

static enum command_status
connect_keeper(struct command_link *store, uint64_t id, struct command_link **link_r)
{
	static struct msg reply;
	const struct msg_STORE_CONNECTED *r = &reply.u.STORE_CONNECTED;
	enum command_status status = COMMAND_SEND(store, STORE_CONNECT, .id = command_id(), .account = id);

	if (status == COMMAND_OK)
		status = command_receive_fds(store, MSG_STORE_CONNECTED, &reply);
	if (status == COMMAND_OK)
		status = command_outcome(r->class, SLICE("the account cannot be opened just now; the log says why"));
	if (status == COMMAND_OK && r->fd < 0) {
		command_error("the store gave no way to the account");
		status = COMMAND_TEMPORARY;
	}
	if (status == COMMAND_OK)
		*link_r = command_link_over(r->fd, ROLE_KEEPER);
	return status;
}

enum command_status
account_keeper(const struct command_call *call, const char *address, uint64_t *id_r, struct command_link **link_r)
{
	struct command_link *store;
	uint64_t id;
	enum command_status status = account_id(call, address, &id);

	*link_r = NULL;
	if (status != COMMAND_OK)
		return status;
	store = command_connect(call->config, ROLE_STORE);
	status = store != NULL ? connect_keeper(store, id, link_r) : COMMAND_UNREACHABLE;
	command_disconnect(&store);
	if (id_r != NULL)
		*id_r = id;
	return status;
}

/* ---- by its directory ---- */

/* Root would leave files behind that the keeper cannot open. */
static bool
become_owner(const struct stat *st)
{
	if (geteuid() != 0 || st->st_uid == 0)
		return true;
	return setgroups(0, NULL) == 0 && setresgid(st->st_gid, st->st_gid, st->st_gid) == 0 &&
	    setresuid(st->st_uid, st->st_uid, st->st_uid) == 0;
}

/* False when it is too long; then the cut name is only good for saying so. */
static bool
account_path(const struct command_call *call, uint64_t id, char path_r[PATH_BYTES_MAX])
{
	int n = snprintf(path_r, PATH_BYTES_MAX, "%s/accounts/%llu", config_string(call->config, OPT_STATE_DIR),
	    (unsigned long long)id);

	return n > 0 && n < PATH_BYTES_MAX;
}

static enum command_status
enter(const struct command_call *call, uint64_t id)
{
	char path[PATH_BYTES_MAX];
	struct stat st;
	struct err e;

	if (!account_path(call, id, path) || chdir(path) < 0 || stat(".", &st) < 0 || !become_owner(&st)) {
		command_error("%s: %s", path, strerror(errno));
		return COMMAND_REFUSED;
	}
	if (account_lock(".", &e) == 0)
		return COMMAND_OK;
	command_error("%s: %s", path, e.detail);
	return COMMAND_TEMPORARY;
}

static enum command_status
hold(struct command_link *store, uint64_t id)
{
	static struct msg reply;
	enum command_status status = COMMAND_SEND(store, STORE_HOLD, .id = command_id(), .account = id);

	if (status == COMMAND_OK)
		status = command_receive_any(store, ACCOUNT_HOLD_WAIT_MS, &reply);
	if (status == COMMAND_OK && reply.type != MSG_STORE_HELD)
		return COMMAND_UNREACHABLE;
	return status == COMMAND_OK ? command_outcome(reply.u.STORE_HELD.class, reply.u.STORE_HELD.text) : status;
}

/* An account that was never used has no directory; its keeper makes one with the right owner. */
static enum command_status
make_directory(const struct command_call *call, struct command_link *store, uint64_t id)
{
	struct command_link *keeper = NULL;
	enum command_status status = COMMAND_OK;
	char path[PATH_BYTES_MAX];
	struct stat st;

	if (account_path(call, id, path) && stat(path, &st) < 0 && errno == ENOENT)
		status = connect_keeper(store, id, &keeper);
	command_disconnect(&keeper);
	return status;
}

enum command_status
account_hold(const struct command_call *call, const char *address, struct command_link **link_r)
{
	uint64_t id;
	enum command_status status;

	*link_r = NULL;
	if (slice_u64(slice_str(address), UINT64_MAX, &id))
		return enter(call, id);
	status = account_id(call, address, &id);
	if (status == COMMAND_OK && (*link_r = command_connect(call->config, ROLE_STORE)) == NULL)
		status = COMMAND_UNREACHABLE;
	if (status == COMMAND_OK)
		status = make_directory(call, *link_r, id);
	if (status == COMMAND_OK)
		status = hold(*link_r, id);
	if (status == COMMAND_OK)
		status = enter(call, id);
	if (status != COMMAND_OK)
		command_disconnect(link_r);
	return status;
}
