/*
 * mailstead lab: what this server would do with a message if a zone were published as a file has it.
 *
 * The supervisor runs here; once all roles are ready, a process of its own sends the message and prints what was recorded,
 * and then the supervisor ends everything. What the roles log goes to a file, of which the end is shown when something fails.
 */
#include "admin/config_file.h"
#include "admin/directory_request.h"
#include "admin/explain.h"
#include "admin/lab.h"
#include "admin/lab_spf2.h"
#include "admin/supervisor.h"
#include "admin/whole_file.h"

#include "common/arena.h"
#include "common/loop.h"
#include "common/rfc5322.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#define DEFAULT_FROM "192.0.2.1"
#define RECIPIENT "alice@" DEMO_DOMAIN
#define ARENA_BYTES_MAX (1u << 20)
/* Events come from several processes: they are all there when so long no other one came. */
#define QUIET_MS 200
#define QUIET_TRIES_MAX 50
#define LOG_SHOWN_BYTES 4096

struct lab_call {
	const struct command_call *call;
	struct lab lab;
	const char *origin;
	char sender[LAB_NAME_SIZE];
	char helo[LAB_NAME_SIZE];
	int terminal; /* the stderr of who called */
	bool *ready;  /* shared with the process that sends the message: there is a server */
};

/* ---- in the running server ---- */

static enum command_status
wait_for_events(const struct config *config, json_t **rows_r)
{
	enum command_status status = COMMAND_OK;
	size_t before = 0;
	bool cut;

	*rows_r = NULL;
	for (unsigned i = 0; i < QUIET_TRIES_MAX && status == COMMAND_OK; i++) {
		json_decref(*rows_r);
		*rows_r = json_array();
		status = explain_fetch(config, RECIPIENT, 0, *rows_r, &cut);
		if (before > 0 && json_array_size(*rows_r) == before)
			break;
		before = json_array_size(*rows_r);
		(void)usleep(QUIET_MS * 1000);
	}
	return status;
}

/* How many receivers read the SPF record. */
static bool
read_spf2(const struct lab *lab, const struct config *config, struct lab_spf2 *read_r)
{
	struct spf2_query q = {.ip = {[10] = 0xff, [11] = 0xff}, .helo = lab->helo, .sender = lab->sender};

	if (inet_pton(AF_INET, lab->from, q.ip + 12) != 1 && inet_pton(AF_INET6, lab->from, q.ip) != 1)
		return false;
	return lab_spf2_read(config, &q, read_r);
}

static enum command_status
print_answer(const struct lab_call *c, const struct buf *reply, const struct lab_spf2 *spf2, json_t *rows)
{
	const struct lab *lab = &c->lab;

	if (c->call->json) {
		json_t *answer = json_pack("{s:s, s:s, s:s, s:o, s:{s:s, s:s}, s:O}", "from", lab->from, "helo", lab->helo, "sender",
		    lab->sender, "answer", command_text(buf_slice(reply)), "libspf2", "result", spf2->result, "reason", spf2->reason,
		    "events", rows);
		enum command_status status = command_print_json(answer);

		json_decref(answer);
		return status;
	}
	printf("from %s, which says EHLO %s, MAIL FROM:<%s>\n\n", lab->from, lab->helo, lab->sender);
	explain_print(rows);
	printf("\nA receiver that runs libspf2 reads the sender's SPF record as: %s%s%s\n", spf2->result, spf2->reason[0] ? ": " : "",
	    spf2->reason);
	printf("The answer: %.*s\n", SLICE_ARG(buf_slice(reply)));
	return command_output_end();
}

/* For supervisor_options.when_ready. */
static int
run_message(const struct config *config, void *arg)
{
	struct lab_call *c = arg;
	enum command_status status = (enum command_status)demo_accounts(config, &c->lab.demo);
	struct lab_spf2 spf2 = {.questions = 0};
	json_t *rows = NULL;
	struct buf reply;
	struct err e;

	*c->ready = true;
	buf_init(&reply, LAB_REPLY_BYTES_MAX);
	if (status == COMMAND_OK && lab_send(&c->lab, &reply, &e) < 0) {
		command_error("%s", e.detail);
		status = COMMAND_TEMPORARY;
	}
	if (status == COMMAND_OK)
		status = wait_for_events(config, &rows);
	if (status == COMMAND_OK && !read_spf2(&c->lab, config, &spf2))
		status = COMMAND_TEMPORARY;
	if (status == COMMAND_OK)
		status = print_answer(c, &reply, &spf2, rows);
	json_decref(rows);
	buf_fini(&reply);
	return (int)status;
}

/* For supervisor_options.announce: that was all. */
static void
end_server(const struct config *config, void *arg)
{
	(void)config;
	(void)arg;
	(void)raise(SIGTERM);
}

/* ---- around it ---- */

/* What the processes say goes to the log, and comes back when it is of interest. */
static int
log_open(struct lab_call *c, struct err *e)
{
	char path[PATH_MAX];
	int fd;

	(void)snprintf(path, sizeof path, "%s/log", c->lab.demo.directory);
	fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	c->terminal = fd >= 0 ? fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0) : -1;
	if (c->terminal < 0 || dup2(fd, STDERR_FILENO) < 0)
		return err_sys(e, errno, path);
	(void)close(fd);
	return 0;
}

static void
log_close(const struct lab_call *c, bool show)
{
	char text[LOG_SHOWN_BYTES];
	off_t end = lseek(STDERR_FILENO, 0, SEEK_END);
	ssize_t n = pread(STDERR_FILENO, text, sizeof text, end > LOG_SHOWN_BYTES ? end - LOG_SHOWN_BYTES : 0);

	if (dup2(c->terminal, STDERR_FILENO) >= 0 && show && n > 0)
		(void)fwrite(text, 1, (size_t)n, stderr);
}

static enum command_status
serve(struct lab_call *c)
{
	struct supervisor_options options = {.config_path = c->lab.demo.config_path, .demo = true, .when_ready = run_message,
	    .announce = end_server, .arg = c};
	struct config *config;
	struct err e;

	if (config_file_load(c->lab.demo.config_path, &config, &e) < 0 || log_open(c, &e) < 0) {
		command_error("%s", e.detail);
		return COMMAND_REFUSED;
	}
	int status = supervisor_run(config, &options);

	log_close(c, status != 0);
	config_free(&config);
	if (status == 0 || *c->ready)
		return status == 0 ? COMMAND_OK : COMMAND_TEMPORARY;
	command_error("no server starts with %s: above is what is wrong; a line that is named there is a few lines further up in it",
	    c->call->argv[0]);
	return COMMAND_REFUSED;
}

static enum command_status
in_directory(struct lab_call *c, struct slice zone)
{
	const char *tmp = getenv("TMPDIR");
	struct err e;
	enum command_status status;

	(void)snprintf(c->lab.demo.directory, sizeof c->lab.demo.directory, "%.60s/mailstead-lab-XXXXXX", tmp != NULL ? tmp : "/tmp");
	if (mkdtemp(c->lab.demo.directory) == NULL) {
		command_error("%s: %s", c->lab.demo.directory, strerror(errno));
		return COMMAND_TEMPORARY;
	}
	char directory[sizeof c->lab.demo.directory];

	memcpy(directory, c->lab.demo.directory, sizeof directory);
	if (lab_prepare(&c->lab, zone, c->origin, &e) < 0) {
		command_error("%s", e.detail);
		status = COMMAND_REFUSED;
	} else {
		status = serve(c);
	}
	lab_remove(directory);
	return status;
}

/* ---- words ---- */

/* Who wrote it, unless it was said; and the name of the host, unless that was. */
static void
choose_names(struct lab_call *c)
{
	struct arena *a = arena_new(ARENA_BYTES_MAX);
	struct slice message = buf_slice(&c->lab.message), local, domain;
	struct from_info from;

	if (c->lab.sender == NULL) {
		from_examine(slice_sub(message, 0, header_block_length(message)), a, &from);
		for (size_t i = 0; c->sender[0] == '\0' && i < from.list.n; i++)
			if (from.list.v[i].kind == ADDRESS_MAILBOX && from.list.v[i].domain.n > 0)
				(void)snprintf(c->sender, sizeof c->sender, "%.*s@%.*s", SLICE_ARG(from.list.v[i].local),
				    SLICE_ARG(from.list.v[i].domain));
		c->lab.sender = c->sender;
	}
	if (c->lab.helo == NULL) {
		bool has = addr_spec_split(slice_str(c->lab.sender), &local, &domain);

		(void)snprintf(c->helo, sizeof c->helo, "mail.%.*s", SLICE_ARG(has ? domain : SLICE("invalid")));
		c->lab.helo = c->helo;
	}
	arena_free(&a);
}

static bool
is_address(const char *text)
{
	uint8_t octets[16];

	return inet_pton(AF_INET, text, octets) == 1 || inet_pton(AF_INET6, text, octets) == 1;
}

static enum command_status
read_and_run(struct lab_call *c)
{
	struct buf zone, file;
	struct err e;
	enum command_status status = COMMAND_REFUSED;

	buf_init(&zone, 2 * LAB_ZONE_BYTES_MAX);
	buf_init(&file, 2 * LAB_MESSAGE_BYTES_MAX);
	buf_init(&c->lab.message, 3 * (size_t)LAB_MESSAGE_BYTES_MAX);
	if (whole_file_read(c->call->argv[0], LAB_ZONE_BYTES_MAX, &zone, &e) < 0 ||
	    whole_file_read(c->call->argv[1], LAB_MESSAGE_BYTES_MAX, &file, &e) < 0) {
		command_error("%s", e.detail);
	} else {
		lab_put_lines(&c->lab.message, buf_slice(&file));
		choose_names(c);
		status = in_directory(c, buf_slice(&zone));
	}
	buf_fini(&zone);
	buf_fini(&file);
	buf_fini(&c->lab.message);
	return status;
}

static enum command_status
lab(const struct command_call *call)
{
	int argc = call->argc;
	struct lab_call c = {.call = call, .lab = {.from = NULL}};
	bool known = option_value(&argc, call->argv, "--from", &c.lab.from) && option_value(&argc, call->argv, "--helo", &c.lab.helo) &&
	    option_value(&argc, call->argv, "--sender", &c.lab.sender) && option_value(&argc, call->argv, "--dns", &c.lab.dns) &&
	    option_value(&argc, call->argv, "--origin", &c.origin);
	enum command_status status;

	if (!known)
		return command_usage(call, "a word is missing behind an option");
	status = option_end(call, argc, call->argv, 2, 2);
	if (status != COMMAND_OK)
		return status;
	if (c.lab.from == NULL)
		c.lab.from = DEFAULT_FROM;
	if (!is_address(c.lab.from))
		return command_usage(call, "%s: --from takes an address as 192.0.2.1 or 2001:db8::1", c.lab.from);
	c.lab.recipient = RECIPIENT;
	c.ready = mmap(NULL, sizeof *c.ready, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (c.ready == MAP_FAILED) {
		command_error("memory: %s", strerror(errno));
		return COMMAND_TEMPORARY;
	}
	status = read_and_run(&c);
	(void)munmap(c.ready, sizeof *c.ready);
	return status;
}

const struct command commands_lab[] = {
    {
	.name = "lab",
	.args = "ZONEFILE [--origin NAME] [--from ADDRESS] [--helo NAME] [--sender ADDRESS] [--dns SERVER] MESSAGE",
	.help = "try a message against a zone that is not published",
	.more = "Runs a server of its own for a moment, gives it the message as if it came from that address, and prints the\n"
		"explanation. The names of the zone are answered from ZONEFILE (master file format; what it does not have does not\n"
		"exist), all others by the DNS, or by SERVER (ADDRESS or ADDRESS@PORT). NAME is the zone's, unless ZONEFILE begins\n"
		"with $ORIGIN. --from is the client's address (default " DEFAULT_FROM "), --sender the reverse-path (default: the\n"
		"author's address; '' for none). Nothing is sent anywhere; nothing of a server that runs is used.\n",
	.args_min = 2,
	.args_max = 12,
	.run = lab,
    },
    {.name = NULL},
};
