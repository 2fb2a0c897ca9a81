/*
 * mailstead export: an account's mail for other programs, while the server runs.
 */
#include "admin/mail_format.h"
#include "admin/maildir_export.h"
#include "admin/mbox_export.h"

#include <stdio.h>

typedef enum command_status export_fn(struct export *x, const char *path, const char *mailbox);

static export_fn *const formats[] = {[MAIL_FORMAT_MAILDIR] = maildir_export, [MAIL_FORMAT_MBOX] = mbox_export};

static enum command_status
print_counts(const struct command_call *call, const struct export_counts *c)
{
	if (call->json) {
		json_t *row = json_pack("{sI sI sI sI sI}", "mailboxes", (json_int_t)c->mailboxes, "messages",
		    (json_int_t)c->messages, "bytes", (json_int_t)c->bytes, "failed", (json_int_t)c->failed, "keywords_lost",
		    (json_int_t)c->keywords_lost);
		enum command_status status = command_print_json(row);

		json_decref(row);
		return status;
	}
	printf("%llu messages (%llu octets) written from %llu mailboxes; %llu failed\n", (unsigned long long)c->messages,
	    (unsigned long long)c->bytes, (unsigned long long)c->mailboxes, (unsigned long long)c->failed);
	if (c->keywords_lost > 0)
		printf("%llu keywords of messages could not be kept\n", (unsigned long long)c->keywords_lost);
	return command_output_end();
}

static enum command_status
run_export(const struct command_call *call, struct command_link *keeper, export_fn *run, const char *mailbox)
{
	struct progress p;
	struct export x = {.keeper = keeper, .progress = &p};

	progress_begin(&p, call);
	enum command_status status = run(&x, call->argv[2], mailbox);

	progress_end(&p);
	if (status == COMMAND_OK && x.counts.failed > 0)
		status = COMMAND_REFUSED;
	/* It did not even begin, and it was said why. */
	if (status != COMMAND_OK && x.counts.mailboxes == 0 && x.counts.failed == 0 && !call->json)
		return status;
	if (status != COMMAND_OK)
		command_error("not all was exported");
	enum command_status printed = print_counts(call, &x.counts);

	return status == COMMAND_OK ? printed : status;
}

static enum command_status
export(const struct command_call *call)
{
	struct command_link *keeper;
	const char *mailbox;
	enum mail_format format;
	enum command_status status = mail_format_words(call, &format, &mailbox, NULL, &keeper);

	if (status != COMMAND_OK)
		return status;
	status = run_export(call, keeper, formats[format], mailbox);
	command_disconnect(&keeper);
	return status;
}

const struct command commands_export[] = {
    {
	.name = "export",
	.args = "ADDRESS maildir|mbox PATH [--mailbox NAME]",
	.help = "write an account's messages as a Maildir or mboxes",
	.more = "maildir: PATH, which must not be there or be empty, becomes a Maildir++ with all mailboxes, as Dovecot reads it:\n"
		"UIDs, flags, keywords, dates, subscriptions. With --mailbox it holds that mailbox alone.\n"
		"mbox: PATH becomes a directory with a file for each mailbox; with --mailbox it is the file.\n"
		"The server must be running. Nothing is ever overwritten.\n",
	.args_min = 3,
	.args_max = 5,
	.needs_config = true,
	.run = export,
    },
    {.name = NULL},
};
