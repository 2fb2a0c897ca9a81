/*
 * As plain as SMTP can be: one command, one answer. The client's address goes ahead of it by the PROXY protocol, which the
 * lab's own server takes from 127.0.0.1.
 */
#include "admin/lab.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define ANSWER_SECONDS 120
#define CLIENT_PORT 40000u

struct dialogue {
	int fd;
	struct buf in;
	struct buf *reply;
	struct err *e;
};

static int
say(struct dialogue *d, struct slice text)
{
	while (text.n > 0) {
		ssize_t n = send(d->fd, text.p, text.n, MSG_NOSIGNAL);

		if (n < 0)
			return err_sys(d->e, errno, "sending");
		text = slice_sub(text, (size_t)n, text.n);
	}
	return 0;
}

/* The next line into d->reply: 1 for the last one of an answer, 0 for others, -1. */
static int
hear_line(struct dialogue *d)
{
	size_t end;

	while ((end = slice_index(buf_slice(&d->in), '\n')) == d->in.n) {
		uint8_t *to = buf_room(&d->in, 1024);
		ssize_t n = to != NULL ? recv(d->fd, to, 1024, 0) : 0;

		if (n <= 0)
			return n < 0 ? err_sys(d->e, errno, "an answer")
				     : err_set(d->e, ERR_TEMP, ERR_CODE_UNAVAILABLE, "", "the server said no more");
		buf_added(&d->in, (size_t)n);
	}
	struct slice line = slice_sub(buf_slice(&d->in), 0, end);

	buf_reset(d->reply);
	buf_put_slice(d->reply, slice_trim(line));
	buf_drop(&d->in, end + 1);
	return d->reply->n < 4 || d->reply->p[3] != '-';
}

/* Its answer is in d->reply. 1 when it begins with that digit, 0 when not, -1. */
static int
ask(struct dialogue *d, const char *command, uint8_t digit)
{
	int r = command != NULL ? say(d, slice_str(command)) : 0;

	for (int last = 0; r == 0 && last != 1;)
		r = (last = hear_line(d)) < 0 ? -1 : 0;
	return r < 0 ? -1 : d->reply->n > 0 && d->reply->p[0] == digit;
}

static int
send_message(struct dialogue *d, struct slice message)
{
	struct slice line;

	while (message.n > 0 && slice_cut(&message, '\n', &line)) {
		if (line.n > 0 && line.p[0] == '.' && say(d, SLICE(".")) < 0)
			return -1;
		if (say(d, slice_of(line.p, line.n + 1)) < 0)
			return -1;
	}
	return ask(d, ".\r\n", '2');
}

static int
talk(struct dialogue *d, const struct lab *lab)
{
	const char *const commands[][3] = {
	    {"EHLO ", lab->helo, ""}, {"MAIL FROM:<", lab->sender, ">"}, {"RCPT TO:<", lab->recipient, ">"}};
	char line[1024];
	int r;

	(void)snprintf(line, sizeof line, "PROXY TCP%c %s %s %u %u\r\n", strchr(lab->from, ':') ? '6' : '4', lab->from,
	    strchr(lab->from, ':') ? "::1" : "127.0.0.1", CLIENT_PORT, lab->port);
	r = ask(d, line, '2');
	for (size_t i = 0; r == 1 && i < sizeof commands / sizeof commands[0]; i++) {
		int n = snprintf(line, sizeof line, "%s%s%s\r\n", commands[i][0], commands[i][1], commands[i][2]);

		if (n < 0 || (size_t)n >= sizeof line)
			return err_set(d->e, ERR_PERM, ERR_CODE_TOO_BIG, "", "%s: too long", commands[i][1]);
		r = ask(d, line, '2');
	}
	if (r == 1)
		r = ask(d, "DATA\r\n", '3');
	return r == 1 ? send_message(d, buf_slice(&lab->message)) : r;
}

int
lab_send(const struct lab *lab, struct buf *reply, struct err *e)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(lab->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct timeval wait = {.tv_sec = ANSWER_SECONDS};
	struct dialogue d = {.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), .reply = reply, .e = e};
	int r;

	if (d.fd < 0 || setsockopt(d.fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait) < 0 ||
	    connect(d.fd, (struct sockaddr *)&to, sizeof to) < 0) {
		err_sys(e, errno, "the lab's server");
		if (d.fd >= 0)
			(void)close(d.fd);
		return -1;
	}
	buf_init(&d.in, LAB_REPLY_BYTES_MAX);
	r = talk(&d, lab);
	if (r >= 0)
		(void)say(&d, SLICE("QUIT\r\n"));
	buf_fini(&d.in);
	(void)close(d.fd);
	return r < 0 ? -1 : 0;
}
