/*
 * mailstead: the one command. Finds the subcommand's row, takes away the words common to all, reads
 * the configuration file when the row wants it, and calls.
 */
#include "admin/command.h"
#include "admin/config_file.h"

#include <stdarg.h>
#include <stdio.h>

static const struct command *const tables[] = {
    commands_run,
    commands_server,
    commands_config,
    commands_domain,
    commands_account,
    commands_alias,
    commands_sender,
    commands_quota,
    commands_mailbox,
    commands_import,
    commands_export,
    commands_store,
    commands_undelete,
    commands_explain,
    commands_lab,
    commands_queue,
    commands_dkim,
    commands_srs,
};

#define TABLES (sizeof tables / sizeof tables[0])

/* The words of a row's name that argv begins with: 0, or how many. */
static int
matches(const struct command *c, int argc, char **argv)
{
	struct slice rest = slice_str(c->name), word;
	int n = 0;

	while (slice_cut(&rest, ' ', &word)) {
		if (n >= argc || !slice_eq(slice_str(argv[n]), word))
			return 0;
		n++;
	}
	return n;
}

static const struct command *
find(int argc, char **argv, int *words_r)
{
	for (size_t t = 0; t < TABLES; t++)
		for (const struct command *c = tables[t]; c->name; c++) {
			*words_r = matches(c, argc, argv);
			if (*words_r)
				return c;
		}
	return NULL;
}

/* Is the row's name that word and more? */
static bool
begins_with(const struct command *c, const char *word)
{
	size_t n = strlen(word);

	return strncmp(c->name, word, n) == 0 && c->name[n] == ' ';
}

/* All commands, or those that begin with the word when there are any. */
static void
print_list(FILE *out, const char *word)
{
	bool some = false;

	fputs("Usage: mailstead [--config FILE] COMMAND ...\n\nCommands:\n", out);
	for (size_t t = 0; t < TABLES && word != NULL; t++)
		for (const struct command *c = tables[t]; c->name; c++)
			some = some || begins_with(c, word);
	for (size_t t = 0; t < TABLES; t++)
		for (const struct command *c = tables[t]; c->name; c++)
			if (!some || begins_with(c, word))
				fprintf(out, "  %-18s %s\n", c->name, c->help);
	fputs("\n`mailstead COMMAND --help` explains one. Common to all:\n"
	      "  --config FILE      the server's configuration file (default " CONFIG_FILE_DEFAULT
	      ")\n"
	      "  --json             print JSON\n"
	      "  --version          print the version\n"
	      "Exit status: 0 done, 1 refused, 2 wrong usage, 3 the server does not run, 4 try "
	      "again later.\n",
	    out);
}

static void
print_help(const struct command *c, FILE *out)
{
	fprintf(out, "Usage: mailstead [--config FILE] %s%s%s [--json]\n\n%s.\n", c->name,
	    *c->args ? " " : "", c->args, c->help);
	if (c->more)
		fprintf(out, "%s", c->more);
}

enum command_status
command_usage(const struct command_call *call, const char *fmt, ...)
{
	va_list ap;

	fputs("mailstead: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\nUsage: mailstead %s %s\n", call->command->name, call->command->args);
	return COMMAND_USAGE;
}

struct words {
	const char *config_path;
	bool json;
	bool help;
	bool version;
	bool bad; /* --config without a file */
};

/* Takes the common words out of argv wherever they stand; behind "--" all is left. Gives the new
 * argc. */
static int
take_common(int argc, char **argv, struct words *w)
{
	int n = 0;

	for (int i = 0; i < argc; i++) {
		if (strcmp(argv[i], "--") == 0) {
			while (++i < argc)
				argv[n++] = argv[i];
		} else if (strcmp(argv[i], "--json") == 0) {
			w->json = true;
		} else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
			w->help = true;
		} else if (strcmp(argv[i], "--version") == 0) {
			w->version = true;
		} else if (strcmp(argv[i], "--config") == 0) {
			w->bad = i + 1 == argc;
			w->config_path = w->bad ? "" : argv[++i];
		} else {
			argv[n++] = argv[i];
		}
	}
	return n;
}

static enum command_status
call_command(struct command_call *call)
{
	const struct command *c = call->command;
	struct config *config = NULL;
	struct err e;

	if (call->argc < c->args_min)
		return command_usage(call, "too few words");
	if (call->argc > c->args_max)
		return command_usage(call, "%s: one word too many", call->argv[c->args_max]);
	if (c->needs_config && config_file_load(call->config_path, &config, &e) < 0) {
		command_error("%s", e.detail);
		return COMMAND_REFUSED;
	}
	call->config = config;
	enum command_status status = c->run(call), printed = command_output_end();

	config_free(&config);
	return status == COMMAND_OK ? printed : status;
}

int
main(int argc, char **argv)
{
	struct words w = {.config_path = CONFIG_FILE_DEFAULT};
	int words = 0;

	argc = take_common(argc - 1, argv + 1, &w);
	argv++;
	if (w.version) {
		puts("mailstead " MAILSTEAD_VERSION);
		return (int)command_output_end();
	}
	const struct command *c = argc > 0 ? find(argc, argv, &words) : NULL;

	if (w.help || (argc == 1 && strcmp(argv[0], "help") == 0)) {
		if (c)
			print_help(c, stdout);
		else
			print_list(stdout, argc > 0 ? argv[0] : NULL);
		return (int)command_output_end();
	}
	if (c == NULL || w.bad) {
		if (w.bad)
			command_error("--config takes a file");
		else if (argc > 0)
			command_error("%s: no such command", argv[0]);
		print_list(stderr, argc > 0 ? argv[0] : NULL);
		return COMMAND_USAGE;
	}
	struct command_call call = {
	    .config_path = w.config_path,
	    .json = w.json,
	    .command = c,
	    .argc = argc - words,
	    .argv = argv + words,
	};
	return (int)call_command(&call);
}
