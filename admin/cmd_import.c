/*
 * mailstead import: mail from elsewhere into an account, while the server runs.
 */
#include "admin/mail_format.h"
#include "admin/maildir_import.h"
#include "admin/mbox_import.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define PATH_BYTES_MAX 512

typedef enum command_status import_fn(struct import *im, const char *path, const char *mailbox);

static import_fn *const formats[] = {[MAIL_FORMAT_MAILDIR] = maildir_import, [MAIL_FORMAT_MBOX] = mbox_import};

static enum command_status
print_counts(const struct command_call *call, const struct import_counts *c)
{
	if (call->json) {
		json_t *row = json_pack("{sI sI sI sI sI sI sI}", "mailboxes", (json_int_t)c->mailboxes, "messages",
		    (json_int_t)c->messages, "bytes", (json_int_t)c->bytes, "present", (json_int_t)c->present, "failed",
		    (json_int_t)c->failed, "keywords_lost", (json_int_t)c->keywords_lost, "uids_kept", (json_int_t)c->uids_kept);
		enum command_status status = command_print_json(row);

		json_decref(row);
		return status;
	}
	printf("%llu messages (%llu octets) put into %llu mailboxes, of which %llu have their old UIDs; %llu were there already, "
	       "%llu failed\n",
	    (unsigned long long)c->messages, (unsigned long long)c->bytes, (unsigned long long)c->mailboxes,
	    (unsigned long long)c->uids_kept, (unsigned long long)c->present, (unsigned long long)c->failed);
	if (c->keywords_lost > 0)
		printf("%llu keywords of messages could not be kept\n", (unsigned long long)c->keywords_lost);
	return command_output_end();
}

static enum command_status
run_import(const struct command_call *call, struct command_link *keeper, import_fn *run, const char *mailbox)
{
	struct import im;
	struct progress p;

	progress_begin(&p, call);
	enum command_status status = import_open(&im, keeper, &p);

	if (status == COMMAND_OK)
		status = run(&im, call->argv[2], mailbox);
	if (status != COMMAND_UNREACHABLE) {
		enum command_status last = import_flush(&im);

		status = status == COMMAND_OK ? last : status;
	}
	progress_end(&p);
	if (status == COMMAND_OK && im.counts.failed > 0)
		status = COMMAND_REFUSED;
	if (status != COMMAND_OK && im.counts.mailboxes == 0 && im.counts.failed == 0 && !call->json) {
		/* It did not even begin, and it was said why. */
		import_close(&im);
		return status;
	}
	if (status != COMMAND_OK)
		command_error("not all was imported; what was is safe, and running the command again does not double it");
	if (im.place != NULL)
		command_error("until it is whole, what there is of %s is in %s" IMPORT_SUFFIX, im.place, im.place);
	enum command_status printed = print_counts(call, &im.counts);

	import_close(&im);
	return status == COMMAND_OK ? printed : status;
}

/*
 * Two at once would each see that a message is not there yet. The lock is one octet of a file for each account, and goes with this
 * process (none of its children has it).
 */
static enum command_status
take_turn(const struct command_call *call, uint64_t account, int *fd_r)
{
	struct flock octet = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)(account & INT64_MAX), .l_len = 1};
	char path[PATH_BYTES_MAX];

	(void)snprintf(path, sizeof path, "%s/import", config_string(call->config, OPT_RUN_DIR));
	*fd_r = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (*fd_r >= 0 && fcntl(*fd_r, F_SETLK, &octet) == 0)
		return COMMAND_OK;
	if (*fd_r >= 0 && (errno == EAGAIN || errno == EACCES))
		command_error("another import into that account runs; what it puts in would be doubled");
	else
		command_error("%s: %s", path, strerror(errno));
	if (*fd_r >= 0)
		(void)close(*fd_r);
	return COMMAND_TEMPORARY;
}

static enum command_status
import(const struct command_call *call)
{
	struct command_link *keeper;
	const char *mailbox;
	enum mail_format format;
	uint64_t account;
	int turn;
	enum command_status status = mail_format_words(call, &format, &mailbox, &account, &keeper);

	if (status == COMMAND_OK && (status = take_turn(call, account, &turn)) == COMMAND_OK) {
		status = run_import(call, keeper, formats[format], mailbox);
		(void)close(turn);
	}
	command_disconnect(&keeper);
	return status;
}

const struct command commands_import[] = {
    {
	.name = "import",
	.args = "ADDRESS maildir|mbox PATH [--mailbox NAME]",
	.help = "put the messages of a Maildir or an mbox into an account",
	.more =
	    "maildir: PATH with all its folders (Maildir++ or nested directories), flags, keywords, dates and subscriptions;\n"
	    "with --mailbox only PATH itself, into that mailbox. Dovecot's dovecot-uidlist and dovecot-keywords are understood.\n"
	    "mbox: a file, into INBOX or the mailbox that is named; or a directory of them, each into the mailbox of its name (without\n"
	    "\".mbox\"). Status, X-Status, X-Keywords, X-UID and X-Mozilla-Status are understood and left out.\n"
	    "The server must be running. Messages that a mailbox has already are not put into it again, so that an import that was\n"
	    "interrupted can be run again.\n",
	.args_min = 3,
	.args_max = 5,
	.needs_config = true,
	.run = import,
    },
    {.name = NULL},
};
