/*
 * mailstead quota: how much mail an account, and all accounts of a domain together, may hold.
 * The limits are the directory's, what is used is the store's to say.
 */
#include "admin/directory_request.h"

#include "common/cursor.h"
#include "common/mem.h"
#include "store/quota.h"

#include <stdio.h>
#include <time.h>

#define QUOTA_WORDS_MAX 5
#define LIMIT_TEXT_BYTES 32
/* Accounts in one question to the store. */
#define QUESTION_ACCOUNTS 400u
/* What the store does not know yet is asked again, so often and after such a pause. */
#define ASK_AGAIN_MAX 50u
#define ASK_AGAIN_MS 200u
#define PERCENT 100.0

/* ---- quota set ---- */

/* A size with a unit, or a number, as the settings take them, as the directory takes it. */
static bool
limit_text(const char *word, enum option like, char text_r[LIMIT_TEXT_BYTES])
{
	struct config *c = config_new();
	struct err e;
	bool ok = true;

	if (strcmp(word, "none") == 0 || strcmp(word, "default") == 0)
		(void)snprintf(text_r, LIMIT_TEXT_BYTES, "%s", word);
	else if (config_set(c, like, slice_str(word), &e) == 0)
		(void)snprintf(text_r, LIMIT_TEXT_BYTES, "%llu", (unsigned long long)config_number(c, like));
	else {
		command_error("%s: %s", word, e.detail[0] != '\0' ? e.detail : e.client);
		ok = false;
	}
	config_free(&c);
	return ok;
}

static enum command_status
quota_set(const struct command_call *call)
{
	char octets[LIMIT_TEXT_BYTES], number[LIMIT_TEXT_BYTES], value[3 * LIMIT_TEXT_BYTES];
	const char *bytes, *messages;
	int argc = call->argc;
	enum command_status status;

	if (!option_value(&argc, call->argv, "--bytes", &bytes) || !option_value(&argc, call->argv, "--messages", &messages))
		return command_usage(call, "--bytes and --messages take a limit");
	status = option_end(call, argc, call->argv, 1, 1);
	if (status != COMMAND_OK)
		return status;
	if (bytes == NULL && messages == NULL)
		return command_usage(call, "which limit? --bytes, --messages or both");
	if ((bytes != NULL && !limit_text(bytes, OPT_QUOTA_BYTES, octets)) ||
	    (messages != NULL && !limit_text(messages, OPT_QUOTA_MESSAGES, number)))
		return COMMAND_USAGE;
	(void)snprintf(value, sizeof value, "%s%s%s%s%s", bytes != NULL ? "bytes=" : "", bytes != NULL ? octets : "",
	    bytes != NULL && messages != NULL ? "\n" : "", messages != NULL ? "messages=" : "", messages != NULL ? number : "");
	return directory_change(call, "quota-set", call->argv[0], slice_str(value), "");
}

/* ---- quota list ---- */

static void
set_figure(json_t *row, const char *name, uint64_t n)
{
	(void)json_object_set_new(row, name, n == QUOTA_NONE ? json_null() : json_integer((json_int_t)n));
}

/* The greater of the two parts, in percent; without a limit there is none. */
static void
set_percent(json_t *row, struct quota used, struct quota limit)
{
	double bytes = limit.bytes != QUOTA_NONE && limit.bytes > 0 ? (double)used.bytes * PERCENT / (double)limit.bytes : -1;
	double messages =
	    limit.messages != QUOTA_NONE && limit.messages > 0 ? (double)used.messages * PERCENT / (double)limit.messages : -1;
	double most = bytes > messages ? bytes : messages;

	(void)json_object_set_new(row, "percent", most < 0 ? json_null() : json_integer((json_int_t)most));
}

/* The next of the store's rows goes into row; false when it is not known yet. */
static bool
take_row(struct cursor *c, json_t *row)
{
	bool known = cursor_u8(c) != 0;
	struct quota used = {.bytes = cursor_u64(c)}, limit;

	used.messages = cursor_u64(c);
	limit.bytes = cursor_u64(c);
	limit.messages = cursor_u64(c);
	set_figure(row, "limit_bytes", limit.bytes);
	set_figure(row, "limit_messages", limit.messages);
	if (!known)
		return false;
	set_figure(row, "bytes", used.bytes);
	set_figure(row, "messages", used.messages);
	set_percent(row, used, limit);
	return true;
}

/* One question about n rows from first on, all accounts or one domain; *known_r: nothing is missing. */
static enum command_status
ask(struct command_link *l, json_t *rows, size_t first, size_t n, bool domain, bool *known_r)
{
	static struct msg reply;
	json_int_t number = domain ? json_integer_value(json_object_get(json_array_get(rows, first), "id")) : 0;
	enum command_status status;
	struct buf accounts;

	buf_init(&accounts, QUESTION_ACCOUNTS * sizeof(uint64_t));
	for (size_t i = first; !domain && i < first + n; i++)
		put_u64(&accounts, (uint64_t)json_integer_value(json_object_get(json_array_get(rows, i), "id")));
	status = COMMAND_SEND(l, STORE_QUOTA, .id = command_id(), .domain = (uint64_t)number, .accounts = buf_slice(&accounts));
	buf_fini(&accounts);
	if (status == COMMAND_OK)
		status = command_receive(l, MSG_STORE_QUOTA_REPLY, &reply);
	if (status != COMMAND_OK)
		return status;
	struct cursor c = cursor_of(reply.u.STORE_QUOTA_REPLY.rows);

	for (size_t i = first; i < first + n; i++)
		*known_r = take_row(&c, json_array_get(rows, i)) && *known_r;
	return COMMAND_OK;
}

/* The same until all is known, for a while. */
static enum command_status
ask_until_known(struct command_link *l, json_t *rows, size_t first, size_t n, bool domain)
{
	const struct timespec pause = {.tv_nsec = ASK_AGAIN_MS * 1000000L};

	for (unsigned tries = 0; tries < ASK_AGAIN_MAX; tries++) {
		bool known = true;
		enum command_status status = ask(l, rows, first, n, domain, &known);

		if (status != COMMAND_OK || known)
			return status;
		(void)nanosleep(&pause, NULL);
	}
	return COMMAND_OK;
}

static enum command_status
add_usage(const struct command_call *call, json_t *domains, json_t *accounts)
{
	struct command_link *l = command_connect(call->config, ROLE_STORE);
	enum command_status status = l != NULL ? COMMAND_OK : COMMAND_UNREACHABLE;
	size_t n = json_array_size(accounts);

	for (size_t at = 0; at < n && status == COMMAND_OK; at += QUESTION_ACCOUNTS)
		status = ask_until_known(l, accounts, at, n - at < QUESTION_ACCOUNTS ? n - at : QUESTION_ACCOUNTS, false);
	for (size_t at = 0; at < json_array_size(domains) && status == COMMAND_OK; at++)
		status = ask_until_known(l, domains, at, 1, true);
	command_disconnect(&l);
	return status;
}

/* Domains before accounts, each with its name under "name". */
static json_t *
merged(json_t *domains, json_t *accounts)
{
	static const char *const keys[] = {"bytes", "limit_bytes", "messages", "limit_messages", "percent"};
	json_t *rows = json_array(), *lists[] = {domains, accounts};

	for (unsigned l = 0; l < 2; l++) {
		const char *key = l == 0 ? "domain" : "address";
		json_t *row;
		size_t i;

		json_array_foreach(lists[l], i, row)
		{
			json_t *out = json_object();

			(void)json_object_set(out, "name", json_object_get(row, key));
			for (unsigned k = 0; k < sizeof keys / sizeof keys[0]; k++) {
				json_t *v = json_object_get(row, keys[k]);

				(void)json_object_set_new(out, keys[k], v != NULL ? json_incref(v) : json_null());
			}
			(void)json_array_append_new(rows, out);
		}
	}
	return rows;
}

static enum command_status
quota_list(const struct command_call *call)
{
	static const struct command_column columns[] = {{"name", "NAME"}, {"bytes", "OCTETS"}, {"limit_bytes", "LIMIT"},
	    {"messages", "MESSAGES"}, {"limit_messages", "LIMIT"}, {"percent", "PERCENT"}, {NULL, NULL}};
	json_t *domains = json_array(), *accounts = json_array();
	enum command_status status = option_end(call, call->argc, call->argv, 0, 1);
	const char *domain = call->argc > 0 ? call->argv[0] : NULL;

	if (status == COMMAND_OK)
		status = directory_rows(call, "account-list", domain != NULL ? domain : "", accounts);
	if (status == COMMAND_OK)
		status = directory_rows(call, "domain-list", domain != NULL ? domain : "", domains);
	if (status == COMMAND_OK)
		status = add_usage(call, domains, accounts);
	if (status == COMMAND_OK) {
		json_t *rows = merged(domains, accounts);

		status = command_print_list(call, rows, columns);
		json_decref(rows);
	}
	json_decref(domains);
	json_decref(accounts);
	return status;
}

const struct command commands_quota[] = {
    {
	.name = "quota set",
	.args = "ADDRESS|DOMAIN [--bytes SIZE|none|default] [--messages N|none|default]",
	.help = "limit the mail of an account, or of all accounts of a domain together",
	.more = "SIZE is a number of octets, or has a unit (500M, 2G). \"default\" is for an account what quota.bytes and quota.messages\n"
		"say, for a domain none. Done when the limit is in force. A limit\n"
		"below what is used deletes nothing; new mail is refused until there is room.\n",
	.args_min = 1,
	.args_max = QUOTA_WORDS_MAX,
	.needs_config = true,
	.run = quota_set,
    },
    {
	.name = "quota list",
	.args = "[DOMAIN]",
	.help = "what domains and accounts use of their limits",
	.more = "Domains first. What an account uses that nobody has opened since the server was started is looked up.\n",
	.args_max = 1,
	.needs_config = true,
	.run = quota_list,
    },
    {.name = NULL},
};
