/*
 * The client's side of a dialogue that the program waits for: nothing else is to be done meanwhile. What the server says is bounded and
 * only its codes are acted upon; its words go to standard error when something is refused.
 */
#include "admin/sendmail.h"

#include "common/mem.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define REPLY_BYTES_MAX 8192
#define COMMAND_BYTES_MAX 2048
#define COPY_BYTES 65536

struct sendmail_client {
	int fd;
	uint8_t input[REPLY_BYTES_MAX]; /* read, from `at` on not taken yet */
	size_t at, n;
	struct buf reply; /* all lines of the last one */
	unsigned code;	  /* 0: the connection is gone */
	char account[SENDMAIL_ADDRESS_BYTES_MAX + 1];
	bool dsn;
};

/* ---- octets ---- */

static bool
put(int fd, struct slice s)
{
	while (s.n > 0) {
		ssize_t n = write(fd, s.p, s.n);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		s = slice_sub(s, (size_t)n, s.n);
	}
	return true;
}

/* The next line with its line end, in the reply. */
static bool
take_line(struct sendmail_client *c, struct slice *line_r)
{
	size_t from = c->reply.n;

	for (;;) {
		struct slice there = slice_of(c->input + c->at, c->n - c->at);
		size_t end = slice_index(there, '\n');
		size_t got = end < there.n ? end + 1 : there.n;

		buf_put(&c->reply, there.p, got);
		c->at += got;
		if (end < there.n || c->reply.failed)
			break;
		ssize_t n = read(c->fd, c->input, sizeof c->input);

		if (n < 0 && errno == EINTR)
			n = 0;
		else if (n <= 0)
			return false;
		c->at = 0;
		c->n = (size_t)n;
	}
	*line_r = slice_sub(buf_slice(&c->reply), from, c->reply.n);
	return !c->reply.failed;
}

/* What is said of an extension. */
static void
note_line(struct sendmail_client *c, struct slice line)
{
	struct slice word = slice_trim(slice_sub(line, 4, line.n));

	if (slice_eq_nocase(word, SLICE("DSN")))
		c->dsn = true;
	if (slice_starts_nocase(word, SLICE("XACCOUNT ")) &&
	    !slice_cstr(slice_sub(word, 9, word.n), c->account, sizeof c->account))
		c->account[0] = '\0';
}

/* The whole reply; its code, or 0. */
static unsigned
reply(struct sendmail_client *c)
{
	struct slice line;
	uint64_t code;

	buf_reset(&c->reply);
	c->code = 0;
	do {
		if (!take_line(c, &line) || line.n < 4 || !slice_u64(slice_sub(line, 0, 3), 599, &code))
			return 0;
		note_line(c, line);
	} while (line.p[3] == '-');
	return c->code = (unsigned)code;
}

static unsigned
command(struct sendmail_client *c, const struct buf *b)
{
	if (b->failed || !put(c->fd, buf_slice(b))) {
		c->code = 0;
		buf_reset(&c->reply);
		return 0;
	}
	return reply(c);
}

static unsigned
say(struct sendmail_client *c, const char *text)
{
	struct buf b;
	unsigned code;

	buf_init(&b, COMMAND_BYTES_MAX);
	buf_put_str(&b, text);
	code = command(c, &b);
	buf_fini(&b);
	return code;
}

/* ---- what comes of it ---- */

static void
complain(const struct sendmail_client *c, struct slice what)
{
	struct slice words = slice_trim(buf_slice(&c->reply));

	if (c->code == 0)
		words = SLICE("the mail server has gone away");
	(void)fprintf(stderr, "sendmail: %.*s%s%.*s\n", SLICE_ARG(what), what.n > 0 ? ": " : "", SLICE_ARG(words));
}

/* permanent: what a 5yz reply here means to the program that called. */
static int
status_of(const struct sendmail_client *c, int permanent)
{
	/* 530 is not the user's fault: the lease ended. */
	return c->code < 500 || c->code == 530 ? EX_TEMPFAIL : permanent;
}

static int
refused(const struct sendmail_client *c, const char *what, int permanent)
{
	complain(c, slice_str(what));
	return status_of(c, permanent);
}

/* ---- a connection ---- */

static int
connect_to(const char *path)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd >= 0 && slice_cstr(slice_str(path), to.sun_path, sizeof to.sun_path) &&
	    connect(fd, (const struct sockaddr *)&to, sizeof to) == 0)
		return fd;
	(void)fprintf(stderr, "sendmail: cannot reach the mail server at %s: %s\n", path, strerror(errno));
	if (fd >= 0)
		(void)close(fd);
	return -1;
}

int
sendmail_client_open(const char *path, struct sendmail_client **c_r)
{
	struct sendmail_client *c;
	int fd = connect_to(path);

	*c_r = NULL;
	if (fd < 0)
		return EX_TEMPFAIL;
	*c_r = c = MEM_NEW(struct sendmail_client);
	c->fd = fd;
	buf_init(&c->reply, REPLY_BYTES_MAX);
	if (reply(c) != 220)
		return refused(c, "", EX_NOPERM);
	if (say(c, "EHLO localhost\r\n") != 250)
		return refused(c, "", EX_PROTOCOL);
	if (c->account[0] != '\0')
		return 0;
	(void)fprintf(stderr, "sendmail: %s is not the mail server's\n", path);
	return EX_PROTOCOL;
}

void
sendmail_client_close(struct sendmail_client **cp)
{
	struct sendmail_client *c = *cp;

	if (c == NULL)
		return;
	if (c->code != 0 && put(c->fd, SLICE("QUIT\r\n")))
		(void)reply(c);
	(void)close(c->fd);
	buf_fini(&c->reply);
	MEM_FREE(cp);
}

struct slice
sendmail_client_account(const struct sendmail_client *c)
{
	return slice_str(c->account);
}

/* ---- transactions ---- */

static int
mail(struct sendmail_client *c, const struct sendmail_wish *w, const struct sendmail_envelope *e)
{
	struct buf b;
	unsigned code;

	buf_init(&b, COMMAND_BYTES_MAX);
	buf_putf(&b, "MAIL FROM:<%.*s>%s%s", SLICE_ARG(e->sender), e->eight_bit ? " BODY=8BITMIME" : "", e->utf8 ? " SMTPUTF8" : "");
	if (c->dsn && w->ret)
		buf_putf(&b, " RET=%s", w->ret);
	if (c->dsn && w->envid)
		buf_putf(&b, " ENVID=%s", w->envid);
	buf_put_str(&b, "\r\n");
	code = command(c, &b);
	buf_fini(&b);
	return code == 250 ? 0 : refused(c, "the sender is refused", EX_NOPERM);
}

static unsigned
rcpt(struct sendmail_client *c, const struct sendmail_wish *w, struct slice recipient)
{
	struct buf b;
	unsigned code;

	buf_init(&b, COMMAND_BYTES_MAX);
	buf_putf(&b, "RCPT TO:<%.*s>", SLICE_ARG(recipient));
	if (c->dsn && w->notify)
		buf_putf(&b, " NOTIFY=%s", w->notify);
	buf_put_str(&b, "\r\n");
	code = command(c, &b);
	buf_fini(&b);
	return code;
}

/* A dot more before each that begins a line (RFC 5321 4.5.2); every line of the message ends in CRLF. */
static bool
put_data(int fd, struct slice message)
{
	bool good = true;

	if (message.n > 0 && message.p[0] == '.')
		good = put(fd, SLICE("."));
	while (good && message.n > 0) {
		size_t next = slice_find(message, SLICE("\r\n."));

		next = next < message.n ? next + 2 : message.n;
		good = put(fd, slice_sub(message, 0, next)) && (next == message.n || put(fd, SLICE(".")));
		message = slice_sub(message, next, message.n);
	}
	return good && put(fd, SLICE(".\r\n"));
}

static int
data(struct sendmail_client *c, struct slice message)
{
	if (say(c, "DATA\r\n") != 354)
		return refused(c, "", EX_UNAVAILABLE);
	if (!put_data(c->fd, message))
		c->code = 0;
	else
		(void)reply(c);
	return c->code == 250 ? 0 : refused(c, "the message is refused", EX_DATAERR);
}

/* Recipients from *at on, as many as one transaction takes. */
static int
transaction(struct sendmail_client *c, const struct sendmail_wish *w, const struct sendmail_envelope *e, struct slice message, unsigned *at)
{
	int status = mail(c, w, e);
	unsigned taken = 0;
	unsigned code;

	if (status != 0)
		return status;
	for (; *at < e->recipient_count; (*at)++) {
		code = rcpt(c, w, e->recipients[*at]);
		if (code == 452 && taken > 0) /* no more in this one (RFC 5321 4.5.3.1.10) */
			break;
		if (code == 250) {
			taken++;
			continue;
		}
		complain(c, e->recipients[*at]);
		if (status == 0)
			status = status_of(c, EX_NOUSER);
		if (code == 0 || code == 421)
			return status;
	}
	if (taken > 0) {
		int sent = data(c, message);

		return status != 0 ? status : sent;
	}
	(void)say(c, "RSET\r\n");
	return status;
}

int
sendmail_client_submit(struct sendmail_client *c, const struct sendmail_wish *wish, const struct sendmail_envelope *envelope,
    struct slice message)
{
	unsigned at = 0;
	int status = 0;

	while (at < envelope->recipient_count) {
		unsigned before = at;
		int now = transaction(c, wish, envelope, message, &at);

		if (status == 0)
			status = now;
		/* Nothing more will come of it. */
		if (at == before || c->code == 0 || c->code == 421)
			break;
	}
	return status;
}

/* ---- -bs ---- */

/* False at the end of from. */
static bool
copy(int from, int to)
{
	static uint8_t octets[COPY_BYTES];
	ssize_t n = read(from, octets, sizeof octets);

	return (n < 0 && errno == EINTR) || (n > 0 && put(to, slice_of(octets, (size_t)n)));
}

int
sendmail_client_relay(const char *path)
{
	int fd = connect_to(path);
	struct pollfd watch[2] = {{.fd = fd, .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};

	if (fd < 0)
		return EX_TEMPFAIL;
	for (;;) {
		if (poll(watch, 2, -1) < 0 && errno != EINTR)
			return EX_OSERR;
		if (watch[0].revents != 0 && !copy(fd, STDOUT_FILENO))
			break;
		if (watch[1].revents != 0 && !copy(STDIN_FILENO, fd)) {
			watch[1].fd = -1;
			(void)shutdown(fd, SHUT_WR);
		}
	}
	(void)close(fd);
	return EX_OK;
}
