/*
 * Command lines: no octets harm; what is accepted prints to something that is accepted and prints the same.
 */
#include "smtpd/smtp_grammar.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_path(const struct smtp_path *path, bool utf8)
{
	struct arena *a = arena_new(65536);
	struct buf once, twice;
	struct smtp_path again;

	buf_init(&once, 4096);
	buf_init(&twice, 4096);
	if (!smtp_path_print(path, &once))
		abort();
	if (!path->null && !path->postmaster) {
		if (!smtp_mailbox_parse(buf_slice(&once), utf8, a, &again) || !smtp_path_print(&again, &twice) ||
		    !slice_eq(buf_slice(&once), buf_slice(&twice)))
			abort();
		if (path->local.n > SMTP_LOCAL_BYTES_MAX || path->domain.n > SMTP_DOMAIN_BYTES_MAX)
			abort();
	}
	for (size_t i = 0; i < once.n; i++)
		if (once.p[i] < 32 || once.p[i] == 127)
			abort();
	buf_fini(&once);
	buf_fini(&twice);
	arena_free(&a);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct smtp_offered all = {.size = true, .eightbit = true, .binary = true, .smtputf8 = true, .auth = true, .dsn = true, .requiretls = true,
	    .future_release = true, .priority = true};
	struct arena *a = arena_new(65536);
	struct slice line = slice_of(data, size < 16384 ? size : 16384);
	struct slice verb, args;
	struct smtp_mail mail;
	struct smtp_rcpt rcpt;
	uint64_t bytes;
	bool last;

	if (!smtp_command_split(line, &verb, &args))
		args = line;
	if (smtp_mail_parse(args, &all, a, &mail) == SMTP_SYNTAX_OK)
		check_path(&mail.path, mail.smtputf8);
	for (int utf8 = 0; utf8 < 2; utf8++)
		if (smtp_rcpt_parse(args, &all, utf8, a, &rcpt) == SMTP_SYNTAX_OK) {
			check_path(&rcpt.path, utf8);
			if (rcpt.notify > SMTP_NOTIFY_ALL || rcpt.orcpt.n > SMTP_ORCPT_CHARS_MAX)
				abort();
		}
	if (smtp_bdat_parse(args, &bytes, &last) == SMTP_SYNTAX_OK && (args.n == 0 || !ascii_digit(args.p[0])))
		abort();
	if (smtp_helo_valid(args) && !smtp_helo_valid_lax(args))
		abort();
	if (smtp_literal_valid(line) && (line.p[0] != '[' || line.p[line.n - 1] != ']'))
		abort();
	arena_free(&a);
	return 0;
}
