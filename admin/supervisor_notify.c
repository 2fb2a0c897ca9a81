/*
 * sd_notify(3) is one datagram: not worth a library. Type=notify-reload of newer systemd wants
 * MONOTONIC_USEC with RELOADING.
 */
#include "admin/supervisor_private.h"

#include "common/log.h"

#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static size_t
address_of(const char *name, struct sockaddr_un *to_r)
{
	size_t n = strlen(name);

	*to_r = (struct sockaddr_un){.sun_family = AF_UNIX};
	if ((name[0] != '/' && name[0] != '@') || n >= sizeof to_r->sun_path)
		return 0;
	memcpy(to_r->sun_path, name, n);
	if (name[0] == '@')
		to_r->sun_path[0] = '\0';
	return offsetof(struct sockaddr_un, sun_path) + n;
}

void
supervisor_notify(const char *state)
{
	struct sockaddr_un to;
	const char *name = getenv("NOTIFY_SOCKET");
	char text[160];
	size_t size = name ? address_of(name, &to) : 0;

	if (size == 0)
		return;
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int n = snprintf(text, sizeof text, "%s\nMONOTONIC_USEC=%llu\n", state,
	    (unsigned long long)clock_ms() * 1000);

	if (fd < 0)
		return;
	if (sendto(fd, text, (size_t)n, MSG_NOSIGNAL, (struct sockaddr *)&to, (socklen_t)size) < 0)
		log_event(LOG_WARN, NO_SESSION, "notify-failed", LOG_END);
	close(fd);
}
