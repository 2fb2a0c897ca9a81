#include "tests/evil/evil.h"

#include <stdarg.h>
#include <sys/socket.h>
#include <unistd.h>

static struct {
	int listen_fd;
	int client;
	struct loop_io *io;
	struct loop_io *client_io;
	evil_fn *fn;
	char line[EVIL_LINE_BYTES_MAX];
	size_t n;
} evil = {.client = -1};

void
evil_say(const char *fmt, ...)
{
	char text[EVIL_LINE_BYTES_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (evil.client >= 0)
		(void)!send(evil.client, text, strlen(text), MSG_NOSIGNAL);
}

static void
end_client(void)
{
	loop_io_free(&evil.client_io);
	close(evil.client);
	evil.client = -1;
	evil.n = 0;
}

static void
on_client(void *arg, int events)
{
	ssize_t got = recv(evil.client, evil.line + evil.n, sizeof evil.line - 1 - evil.n, MSG_DONTWAIT);

	(void)arg;
	(void)events;
	if (got <= 0) {
		end_client();
		return;
	}
	evil.n += (size_t)got;
	evil.line[evil.n] = '\0';
	for (char *end; evil.client >= 0 && (end = strchr(evil.line, '\n')) != NULL;) {
		size_t used = (size_t)(end - evil.line) + 1;

		*end = '\0';
		evil.fn(evil.line);
		memmove(evil.line, evil.line + used, evil.n - used + 1);
		evil.n -= used;
	}
}

static void
on_connection(void *arg, int events)
{
	int fd = accept4(evil.listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)arg;
	(void)events;
	if (fd < 0)
		return;
	if (evil.client >= 0)
		end_client();
	evil.client = fd;
	evil.client_io = loop_io_new(role_loop(), fd, LOOP_READ, on_client, NULL);
}

void
evil_listen(int fd, evil_fn *fn)
{
	evil.listen_fd = fd;
	evil.fn = fn;
	evil.io = loop_io_new(role_loop(), fd, LOOP_READ, on_connection, NULL);
}
