/*
 * Passwords are hashed here, in the command: it is slow on purpose, and the
 * directory has others to answer. The clear text never leaves this process.
 */
#include "admin/directory_request.h"

#include "common/mem.h"
#include "common/password.h"

#include <assert.h>
#include <stdio.h>

/* Rows of a list altogether; a page's objects are at most some hundred octets each. */
#define PAGES_MAX 100000
#define POSITION_BYTES_MAX 512

static enum command_status
ask(struct command_link *l, const char *verb, struct slice name, struct slice value,
    struct slice hash, struct msg *reply)
{
	enum command_status status = COMMAND_SEND(l, DIR_ADMIN, .id = command_id(),
	    .verb = slice_str(verb), .name = name, .value = value, .password = hash);

	if (status == COMMAND_OK)
		status = command_receive(l, MSG_DIR_ADMIN_REPLY, reply);
	if (status == COMMAND_OK && reply->u.DIR_ADMIN_REPLY.class != ERR_NONE)
		status = command_outcome(
		    reply->u.DIR_ADMIN_REPLY.class, reply->u.DIR_ADMIN_REPLY.text);
	return status;
}

enum command_status
directory_change(const struct command_call *call, const char *verb, const char *name,
    struct slice value, const char *hash)
{
	static struct msg reply;
	struct command_link *l = command_connect(call->config, ROLE_DIRECTORY);
	enum command_status status;

	if (l == NULL)
		return COMMAND_UNREACHABLE;
	status = ask(l, verb, slice_str(name), value, slice_str(hash), &reply);
	command_disconnect(&l);
	return status;
}

/* Adds the objects of a page (one a line) to rows. */
static enum command_status
page_parse(struct slice page, json_t *rows)
{
	struct slice line;

	while (slice_cut(&page, '\n', &line)) {
		json_t *row = line.n > 0 ? command_parse_json(line) : NULL;

		if (line.n > 0 && row == NULL)
			return COMMAND_TEMPORARY;
		if (row != NULL && json_array_append_new(rows, row) != 0)
			return COMMAND_TEMPORARY;
	}
	return COMMAND_OK;
}

/* All pages; where the next one begins is the server's word, handed back as it came. */
static enum command_status
pages_fetch(struct command_link *l, const char *verb, struct slice name, json_t *rows)
{
	static struct msg reply;
	char position[POSITION_BYTES_MAX];
	size_t n = 0;

	for (unsigned i = 0; i < PAGES_MAX; i++) {
		const struct msg_DIR_ADMIN_REPLY *m = &reply.u.DIR_ADMIN_REPLY;
		enum command_status status = ask(
		    l, verb, name, slice_of(position, n), slice_of(NULL, 0), &reply);

		if (status == COMMAND_OK)
			status = page_parse(m->json, rows);
		if (status != COMMAND_OK || !m->more)
			return status;
		assert(m->text.n <= sizeof position);
		n = m->text.n;
		memcpy(position, m->text.p, n);
	}
	command_error("the list does not end");
	return COMMAND_TEMPORARY;
}

enum command_status
directory_account(const struct command_call *call, const char *address, json_t **json_r)
{
	static struct msg reply;
	struct command_link *l = command_connect(call->config, ROLE_DIRECTORY);
	enum command_status status = COMMAND_UNREACHABLE;

	*json_r = NULL;
	if (l != NULL)
		status = ask(l, "account-find", slice_str(address), SLICE(""), SLICE(""), &reply);
	if (status == COMMAND_OK && (*json_r = command_parse_json(reply.u.DIR_ADMIN_REPLY.json)) == NULL)
		status = COMMAND_TEMPORARY;
	command_disconnect(&l);
	return status;
}

enum command_status
directory_rows(const struct command_call *call, const char *verb, const char *name, json_t *rows)
{
	struct command_link *l = command_connect(call->config, ROLE_DIRECTORY);
	enum command_status status = COMMAND_UNREACHABLE;

	if (l != NULL)
		status = pages_fetch(l, verb, slice_str(name), rows);
	command_disconnect(&l);
	return status;
}

enum command_status
directory_list(const struct command_call *call, const char *verb, const char *name,
    const struct command_column *columns)
{
	json_t *rows = json_array();
	enum command_status status = directory_rows(call, verb, name, rows);

	if (status == COMMAND_OK)
		status = command_print_list(call, rows, columns);
	json_decref(rows);
	return status;
}

enum command_status
directory_new_password(char *hash_r)
{
	char password[COMMAND_PASSWORD_SIZE];
	struct err e = {.class = ERR_NONE};
	bool read = command_password("new password: ", password);
	bool ok = read && password_hash(slice_str(password), hash_r, &e) == 0;

	mem_wipe(password, sizeof password);
	if (read && !ok)
		command_error("%s", e.detail[0] != '\0' ? e.detail : e.client);
	return ok ? COMMAND_OK : COMMAND_USAGE;
}

/* ---- options ---- */

static void
words_remove(int *argc, char **argv, int at, int n)
{
	*argc -= n;
	for (int i = at; i < *argc; i++)
		argv[i] = argv[i + n];
}

bool
option_flag(int *argc, char **argv, const char *word)
{
	for (int i = 0; i < *argc; i++) {
		if (strcmp(argv[i], word) == 0) {
			words_remove(argc, argv, i, 1);
			return true;
		}
	}
	return false;
}

bool
option_value(int *argc, char **argv, const char *word, const char **value_r)
{
	*value_r = NULL;
	for (int i = 0; i < *argc; i++) {
		if (strcmp(argv[i], word) != 0)
			continue;
		if (i + 1 == *argc)
			return false;
		*value_r = argv[i + 1];
		words_remove(argc, argv, i, 2);
		return true;
	}
	return true;
}

enum command_status
option_end(const struct command_call *call, int argc, char **argv, int least, int most)
{
	for (int i = 0; i < argc; i++) {
		if (strncmp(argv[i], "--", 2) == 0)
			return command_usage(call, "%s: no such option here", argv[i]);
	}
	if (argc < least)
		return command_usage(call, "too few words");
	if (argc > most)
		return command_usage(call, "%s: one word too many", argv[most]);
	return COMMAND_OK;
}
