#include "admin/account_link.h"

#include "admin/directory_request.h"
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
