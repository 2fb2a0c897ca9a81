/*
 * mailstead store check: the keeper compares, this prints.
 */
#include "admin/cmd_store.h"

#include "admin/directory_request.h"
#include "admin/progress.h"
#include "common/loop.h"
#include "common/memfd.h"
#include "store/check.h"

#include <stdio.h>
#include <unistd.h>

#define CHECK_STEP_MS 50u

struct checking {
	const struct command_call *call;
	bool deep;
	struct progress progress;
	json_t *rows;	   /* one for each account */
	json_t *findings;  /* of the account at hand */
	uint64_t accounts; /* with contradictions */
};

json_t *
store_finding_json(const struct check_finding *f)
{
	json_t *row = json_object();

	(void)json_object_set_new(row, "code", command_text(f->code));
	(void)json_object_set_new(row, "text", command_text(f->text));
	if (f->mailbox.n > 0)
		(void)json_object_set_new(row, "mailbox", command_text(f->mailbox));
	if (f->uid != 0)
		(void)json_object_set_new(row, "uid", json_integer(f->uid));
	if (f->object != UINT64_MAX)
		(void)json_object_set_new(row, "object", json_integer((json_int_t)f->object));
	return row;
}

void
store_finding_print(const char *address, const json_t *row)
{
	const char *mailbox = json_string_value(json_object_get(row, "mailbox"));
	const json_t *uid = json_object_get(row, "uid");

	printf("%s: ", address);
	if (mailbox != NULL) {
		command_print_text(mailbox);
		printf(": ");
	}
	if (uid != NULL)
		printf("UID %lld: ", (long long)json_integer_value(uid));
	command_print_text(json_string_value(json_object_get(row, "text")));
	printf(" (%s)\n", json_string_value(json_object_get(row, "code")));
}

static void
on_finding(void *arg, const struct check_finding *f)
{
	struct checking *c = arg;

	(void)json_array_append_new(c->findings, store_finding_json(f));
}

static void
print_account(const struct checking *c, const char *address, uint64_t messages, uint64_t count)
{
	json_t *row;
	size_t i;

	json_array_foreach(c->findings, i, row) store_finding_print(address, row);
	if (count > json_array_size(c->findings))
		printf("%s: and %llu more\n", address, (unsigned long long)(count - json_array_size(c->findings)));
	printf("%s: %llu messages, %llu contradictions\n", address, (unsigned long long)messages, (unsigned long long)count);
}

static void
account_checked(struct checking *c, const char *address, uint64_t messages, uint64_t count)
{
	progress_end(&c->progress);
	c->accounts += count > 0;
	if (!c->call->json)
		print_account(c, address, messages, count);
	(void)json_array_append_new(c->rows, json_pack("{ss sI sI so}", "address", address, "messages", (json_int_t)messages,
						"contradictions", (json_int_t)count, "findings", c->findings));
	c->findings = json_array();
}

/* ---- by the keeper ---- */

static enum command_status
take_reply(struct checking *c, const char *address, const struct msg_STORE_CHECK_REPLY *r)
{
	enum command_status status = command_outcome(r->class, r->text);
	struct check_finding f;
	struct memfd_map map;
	struct cursor at;
	struct err e;

	if (status != COMMAND_OK)
		return status;
	if (memfd_map(r->findings, r->bytes, CHECK_FINDINGS_BYTES_MAX, &map, &e) < 0)
		return command_outcome(e.class, slice_str(e.detail));
	at = cursor_of(map.octets);
	while (check_finding_next(&at, &f))
		on_finding(c, &f);
	memfd_unmap(&map);
	account_checked(c, address, r->messages, r->found);
	return COMMAND_OK;
}

static enum command_status
check_online(struct checking *c, const char *address)
{
	static struct msg reply;
	struct command_link *keeper;
	enum command_status status = account_keeper(c->call, address, NULL, &keeper);

	if (status == COMMAND_OK)
		status = COMMAND_SEND(keeper, STORE_CHECK, .id = command_id(), .deep = c->deep);
	while (status == COMMAND_OK) {
		status = command_receive_any(keeper, COMMAND_WAIT_MS, &reply);
		if (status != COMMAND_OK || reply.type != MSG_STORE_PROGRESS)
			break;
		progress_step(&c->progress, address, reply.u.STORE_PROGRESS.done, reply.u.STORE_PROGRESS.total);
	}
	progress_end(&c->progress);
	if (status == COMMAND_OK && reply.type != MSG_STORE_CHECK_REPLY) {
		status = COMMAND_UNREACHABLE;
	} else if (status == COMMAND_OK) {
		status = take_reply(c, address, &reply.u.STORE_CHECK_REPLY);
		if (reply.u.STORE_CHECK_REPLY.findings >= 0)
			(void)close(reply.u.STORE_CHECK_REPLY.findings);
	}
	command_disconnect(&keeper);
	return status;
}

/* ---- without a server ---- */

static enum command_status
check_offline(struct checking *c, const char *number)
{
	struct command_link *hold;
	struct index *ix;
	struct check *check;
	struct err e;
	uint64_t total;
	int r;
	enum command_status status = account_hold(c->call, number, &hold);

	if (status != COMMAND_OK)
		return status;
	file_hook_db();
	if (index_open(".", clock_wall_us() / 1000000, &ix, &e) < 0) {
		command_error("the index cannot be opened: %s; `mailstead store salvage` makes it anew", e.detail);
		return COMMAND_REFUSED;
	}
	check = check_begin(ix, c->deep, on_finding, c);
	while ((r = check_step(check, CHECK_STEP_MS, &e)) > 0)
		progress_step(&c->progress, number, check_done(check, &total), total);
	if (r == 0)
		account_checked(c, number, check_messages(check), check_found(check));
	else
		status = command_outcome(e.class, slice_str(e.detail));
	check_free(&check);
	index_close(&ix);
	command_disconnect(&hold);
	return status;
}

/* ---- which ---- */

static enum command_status
check_all(struct checking *c)
{
	json_t *accounts = json_array(), *row;
	enum command_status status = directory_rows(c->call, "account-list", "", accounts), worst = COMMAND_OK;
	size_t i;

	json_array_foreach(accounts, i, row)
	{
		const char *address = json_string_value(json_object_get(row, "address"));

		if (status != COMMAND_OK || address == NULL)
			continue;
		enum command_status one = check_online(c, address);

		/* One account that cannot be had does not keep us from the others. */
		worst = one != COMMAND_OK ? one : worst;
	}
	json_decref(accounts);
	return status != COMMAND_OK ? status : worst;
}

enum command_status
store_check(const struct command_call *call)
{
	struct checking c = {.call = call};
	int argc = call->argc;
	bool all = option_flag(&argc, call->argv, "--all");
	uint64_t number;
	enum command_status status, printed = COMMAND_OK;

	c.deep = option_flag(&argc, call->argv, "--deep");
	status = option_end(call, argc, call->argv, all ? 0 : 1, all ? 0 : 1);
	if (status != COMMAND_OK)
		return status;
	c.rows = json_array();
	c.findings = json_array();
	progress_begin(&c.progress, call);
	if (all)
		status = check_all(&c);
	else if (slice_u64(slice_str(call->argv[0]), UINT64_MAX, &number))
		status = check_offline(&c, call->argv[0]);
	else
		status = check_online(&c, call->argv[0]);
	if (call->json)
		printed = command_print_json(c.rows);
	json_decref(c.rows);
	json_decref(c.findings);
	if (status == COMMAND_OK)
		status = printed;
	return status == COMMAND_OK && c.accounts > 0 ? COMMAND_REFUSED : status;
}
