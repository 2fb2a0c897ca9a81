/*
 * mailstead-sendmail: what programs call as /usr/sbin/sendmail. It connects to the submission front's Unix socket, which knows by the
 * kernel's word who that is (smtpd/front_local.c), and submits there: no privilege, no queue of its own. When the server is away it says
 * so (EX_TEMPFAIL).
 */
#include "admin/sendmail.h"

#include "common/local_users.h"

#include <errno.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define READ_BYTES 65536
#define SOCKET_PATH "/run/mailstead/" LOCAL_SOCKET_NAME

enum mode {
	MODE_MESSAGE, /* -bm */
	MODE_SMTP,    /* -bs */
	MODE_QUEUE,   /* -bp */
	MODE_NOTHING, /* -bi, -I, -q: there is nothing to build, and the queue runs by itself */
	MODE_UNKNOWN,
};

static int
usage(const char *why)
{
	(void)fprintf(stderr,
	    "sendmail: %s\nusage: sendmail [-t] [-i] [-f SENDER] [-F NAME] [-N NOTIFY] [-R RET] [-V ENVID] [--] RECIPIENT...\n"
	    "       sendmail -bs | -bp\n",
	    why);
	return EX_USAGE;
}

static enum mode
mode_of(const char *word)
{
	static const struct {
		const char *word;
		enum mode mode;
	} modes[] = {{"m", MODE_MESSAGE}, {"s", MODE_SMTP}, {"p", MODE_QUEUE}, {"i", MODE_NOTHING}};

	for (size_t i = 0; i < sizeof(modes) / sizeof(*modes); i++)
		if (strcmp(word, modes[i].word) == 0)
			return modes[i].mode;
	return MODE_UNKNOWN;
}

/* Goes into a command as it is. */
static bool
is_word(const char *text)
{
	size_t n = strlen(text);

	for (size_t i = 0; i < n; i++)
		if (text[i] <= ' ' || text[i] >= 0x7f)
			return false;
	return n > 0 && n <= SENDMAIL_WORD_BYTES_MAX;
}

static bool
take_dsn(int option, const char *text, struct sendmail_wish *w)
{
	const char **word = option == 'N' ? &w->notify : option == 'R' ? &w->ret : &w->envid;

	*word = text;
	return is_word(text);
}

/* One option; what other sendmails have and does not matter here is passed over. 0, or a status. */
static int
take_option(int option, const char *text, struct sendmail_wish *w, enum mode *mode)
{
	switch (option) {
	case 'b':
		*mode = mode_of(text);
		return *mode == MODE_UNKNOWN ? usage("that mode is not known") : 0;
	case 'f':
	case 'r':
		w->sender = text;
		return 0;
	case 'F':
		w->full_name = text;
		return 0;
	case 'i':
		w->dots_are_text = true;
		return 0;
	case 'o':
		w->dots_are_text |= strcmp(text, "i") == 0;
		return 0;
	case 'I':
	case 'q':
		*mode = MODE_NOTHING;
		return 0;
	case 't':
		w->from_header = true;
		return 0;
	case 'N':
	case 'R':
	case 'V':
		return take_dsn(option, text, w) ? 0 : usage("-N, -R and -V take one word");
	case '?':
		return usage("that option is not known");
	default:
		return 0;
	}
}

static int
take_options(int argc, char **argv, struct sendmail_wish *w, enum mode *mode)
{
	int option, status;

	opterr = 0;
	/* "+": what stands behind a recipient is one, too. */
	while ((option = getopt(argc, argv, "+A:B:b:C:D:d::e:F:f:Gh:IiL:mN:nO:o:p:q::R:r:sTtUV:vX:")) != -1) {
		status = take_option(option, optarg ? optarg : "", w, mode);
		if (status != 0)
			return status;
	}
	w->recipients = argv + optind;
	w->recipient_count = argc - optind;
	return 0;
}

static const char *
socket_path(void)
{
	const char *path = getenv("MAILSTEAD_SUBMIT");

	return path != NULL && *path != '\0' ? path : SOCKET_PATH;
}

static bool
read_all(int fd, struct buf *b)
{
	for (;;) {
		uint8_t *room = buf_room(b, READ_BYTES);
		ssize_t n = room ? read(fd, room, READ_BYTES) : -1;

		if (n == 0)
			return true;
		if (room != NULL && n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return false;
		buf_added(b, (size_t)n);
	}
}

static int
submit(struct sendmail_client *c, const struct sendmail_wish *w, struct slice raw)
{
	const struct passwd *user = getpwuid(getuid());
	const struct sendmail_user who = {.name = slice_str(user ? user->pw_name : ""), .account = sendmail_client_account(c)};
	static struct sendmail_envelope envelope;
	struct arena *a = arena_new(SENDMAIL_RECIPIENTS_MAX * (SENDMAIL_ADDRESS_BYTES_MAX + 16));
	const char *why;
	struct buf message;
	int status;

	buf_init(&message, SENDMAIL_MESSAGE_BYTES_MAX);
	status = sendmail_message_make(w, &who, raw, a, &message, &envelope, &why);
	if (status == 0)
		status = sendmail_client_submit(c, w, &envelope, buf_slice(&message));
	else
		(void)fprintf(stderr, "sendmail: %s\n", why);
	buf_fini(&message);
	arena_free(&a);
	return status;
}

static int
send_message(const struct sendmail_wish *w)
{
	struct sendmail_client *c;
	struct buf raw;
	int status;

	if (!w->from_header && w->recipient_count == 0)
		return usage("no recipients");
	buf_init(&raw, SENDMAIL_MESSAGE_BYTES_MAX);
	if (read_all(STDIN_FILENO, &raw)) {
		status = sendmail_client_open(socket_path(), &c);
		if (status == 0)
			status = submit(c, w, buf_slice(&raw));
		sendmail_client_close(&c);
	} else {
		status = raw.failed ? EX_DATAERR : EX_IOERR;
		(void)fprintf(stderr, "sendmail: %s\n", raw.failed ? "the message is too big" : "the message cannot be read");
	}
	buf_fini(&raw);
	return status;
}

/* The command beside this program tells it, to those who may ask. */
static int
show_queue(void)
{
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof path - sizeof "/mailstead");
	char *slash;

	if (n > 0) {
		path[n] = '\0';
		slash = strrchr(path, '/');
		if (slash != NULL) {
			memcpy(slash, "/mailstead", sizeof "/mailstead");
			(void)execl(path, "mailstead", "queue", "list", (char *)NULL);
		}
	}
	(void)fprintf(stderr, "sendmail: mailstead queue list: %s\n", strerror(errno));
	return EX_UNAVAILABLE;
}

int
main(int argc, char **argv)
{
	struct sendmail_wish wish = {.from_header = false};
	enum mode mode = MODE_MESSAGE;
	const char *name = strrchr(argv[0] ? argv[0] : "", '/');
	int status;

	/* A server that goes away is a failed write. */
	(void)signal(SIGPIPE, SIG_IGN);
	name = name ? name + 1 : argv[0] ? argv[0] : "";
	status = take_options(argc, argv, &wish, &mode);
	if (status != 0)
		return status;
	if (strcmp(name, "mailq") == 0)
		mode = MODE_QUEUE;
	if (strcmp(name, "newaliases") == 0)
		mode = MODE_NOTHING;
	switch (mode) {
	case MODE_SMTP:
		return sendmail_client_relay(socket_path());
	case MODE_QUEUE:
		return show_queue();
	case MODE_NOTHING:
		return EX_OK;
	default:
		return send_message(&wish);
	}
}
