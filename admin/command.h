/*
 * command: what the subcommands of `mailstead` have in common: their rows, the connection to a
 * running server, printing, passwords. A subcommand is a row of a table; admin/mailstead_main.c
 * lists the tables, parses the words common to all, and calls it.
 */
#ifndef ADMIN_COMMAND_H
#define ADMIN_COMMAND_H

#include "common/config.h"
#include "common/msg.h"

#include <jansson.h>

/* The exit statuses, documented in mailstead(8). */
enum command_status {
	COMMAND_OK = 0,
	COMMAND_REFUSED = 1,	 /* the request was understood and refused */
	COMMAND_USAGE = 2,	 /* the words make no sense */
	COMMAND_UNREACHABLE = 3, /* the server does not run or does not answer */
	COMMAND_TEMPORARY = 4,	 /* may work later */
};

struct command_call {
	const char *config_path;
	const struct config *config; /* NULL when the row says needs_config = false */
	bool json;
	const struct command *command;
	int argc; /* words behind the subcommand's name, without --config, --json and --help */
	char **argv;
};

struct command {
	const char *name; /* "status", "account add"; NULL ends a table */
	const char *args; /* "ADDRESS [--quota BYTES]", "" */
	const char *help; /* one line, for the list */
	const char *more; /* further paragraphs of --help, or NULL */
	int args_min;
	int args_max;
	bool needs_config; /* read and check the configuration file first */
	enum command_status (*run)(const struct command_call *call);
};

/* The tables; a new one is also listed in admin/mailstead_main.c. */
extern const struct command commands_run[];
extern const struct command commands_server[];
extern const struct command commands_config[];
extern const struct command commands_domain[];
extern const struct command commands_account[];
extern const struct command commands_alias[];
extern const struct command commands_sender[];
extern const struct command commands_quota[];
extern const struct command commands_mailbox[];
extern const struct command commands_import[];
extern const struct command commands_export[];
extern const struct command commands_store[];
extern const struct command commands_undelete[];
extern const struct command commands_explain[];
extern const struct command commands_lab[];
extern const struct command commands_queue[];
extern const struct command commands_dkim[];
extern const struct command commands_srs[];

/* Says what is wrong with the words on stderr, with the subcommand's usage; gives COMMAND_USAGE. */
enum command_status command_usage(const struct command_call *call, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* "mailstead: ..." on stderr. */
void command_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* ---- talking to the server (blocks, up to COMMAND_WAIT_MS for one answer) ---- */

#define COMMAND_WAIT_MS 30000

struct command_link;

/*
 * Connects to the control socket of that role (supervisor, directory, store, queue or recorder) in
 * run.directory. NULL after it has said on stderr why not: return COMMAND_UNREACHABLE then.
 */
struct command_link *command_connect(const struct config *config, enum role role);
/* NULL is fine; sets *l to NULL. */
void command_disconnect(struct command_link **l);
/* A new id for a request. */
uint64_t command_id(void);
/* Sends m. COMMAND_OK, COMMAND_REFUSED when a field is too long (said on stderr), or
 * COMMAND_UNREACHABLE (said too). */
enum command_status command_send(struct command_link *l, const struct msg *m);
/*
 * Waits for the next message, which must be of that type. Its slices are valid until the next call
 * or command_disconnect(); descriptors are closed. COMMAND_OK, or COMMAND_UNREACHABLE after it has
 * said why.
 */
enum command_status command_receive(struct command_link *l, enum msg_type type, struct msg *m_r);
/* The same with the message's descriptors, which are the caller's to close. */
enum command_status command_receive_fds(struct command_link *l, enum msg_type type, struct msg *m_r);
/*
 * The next message of whatever type, for requests that are answered by several: COMMAND_OK, or COMMAND_UNREACHABLE after
 * it has said why. wait_ms: the longest wait; its descriptors are the caller's.
 */
enum command_status command_receive_any(struct command_link *l, int wait_ms, struct msg *m_r);
/* A link over fd, which it owns, to a process of that role: its errors name it. */
struct command_link *command_link_over(int fd, enum role role);
#define COMMAND_SEND(link, NAME, ...)                                                              \
	command_send((link), &(struct msg){.type = MSG_##NAME,                                     \
				 .u.NAME = (struct msg_##NAME){.msg_unused = 0, __VA_ARGS__}})

/* The exit status for the class of a reply; when it is not ERR_NONE says `text` on stderr. */
enum command_status command_outcome(uint32_t class, struct slice text);

/* The running server reads its settings and its keys again; what it says is printed on demand. */
enum command_status command_reload(const struct command_call *call, bool print);

/* ---- times ---- */

/* "90s", "15m", "2h", "3d", at most ten years. */
bool command_duration(const char *text, uint64_t *seconds_r) __attribute__((warn_unused_result));
/* A moment, in seconds since 1970: "2026-11-29", "2026-11-29T12:00:00Z", or so long ago: "2h". */
bool command_when(const char *text, uint64_t *time_r) __attribute__((warn_unused_result));
#define COMMAND_WHEN_HELP "WHEN is a time as 2026-11-29T12:00:00Z (UTC), a day, or so long ago: 90s, 15m, 2h, 3d.\n"

/* ---- printing ---- */

struct command_column {
	const char *key;   /* of each object; an array of strings is joined with ", " */
	const char *title; /* NULL ends the list */
};

/* An array of objects: as JSON with --json (all keys), else as a table with these columns. Takes a
 * borrowed reference. */
enum command_status command_print_list(
    const struct command_call *call, const json_t *rows, const struct command_column *columns);
/* Text from outside on stdout, without what a terminal would obey. */
void command_print_text(const char *text);
/* Text from outside as a JSON string: what is no UTF-8 becomes U+FFFD. NULL when there is no memory. */
json_t *command_text(struct slice text);
/*
 * The end of a command, and of a process of it that prints: all that was printed is out, else COMMAND_TEMPORARY after
 * saying so, once.
 */
enum command_status command_output_end(void) __attribute__((warn_unused_result));
/* Any JSON value, indented, on stdout. */
enum command_status command_print_json(const json_t *value);
/* Parses JSON that came from the server; NULL after saying so on stderr. The caller owns it. */
json_t *command_parse_json(struct slice text);

/* ---- passwords ---- */

#define COMMAND_PASSWORD_SIZE 1025

/*
 * A password: typed twice without echo when stdin is a terminal, else the first line of stdin. dst
 * (of COMMAND_PASSWORD_SIZE) must be wiped by the caller with mem_wipe(). False after saying what
 * is wrong on stderr: return COMMAND_USAGE then.
 */
bool command_password(const char *prompt, char dst[COMMAND_PASSWORD_SIZE])
    __attribute__((warn_unused_result));

#endif
