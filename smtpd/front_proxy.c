/*
 * Connections of configured proxies (smtp.proxy_from): the PROXY header is read before there is a session, octet for octet and
 * nothing behind it; then the session begins with the address that it names, which counts for limits, SPF and the log.
 * Anything else closes the connection without a word: it is the operator's proxy that is wrong, and no mail server waits.
 */
#include "smtpd/front.h"

#include "common/mem.h"
#include "smtpd/proxy_header.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define PROXY_MS 5000 /* the whole header; the protocol's text wants three seconds at least */

struct proxied {
	struct proxied *next, *previous;
	int fd;
	struct client_address client;
	const struct front_port *port;
	struct loop_io *io;
	struct loop_timer *timer;
	size_t n;
	uint8_t header[PROXY_HEADER_BYTES_MAX];
};

static struct proxied *waiting;

static void
proxied_free(struct proxied *p)
{
	if (p->previous)
		p->previous->next = p->next;
	else
		waiting = p->next;
	if (p->next)
		p->next->previous = p->previous;
	loop_io_free(&p->io);
	loop_timer_free(&p->timer);
	free(p);
}

static void
give_up(struct proxied *p, enum log_level level, const char *why)
{
	log_event(level, NO_SESSION, "proxy-header-refused", LOG_CSTR("peer", p->client.text), LOG_CSTR("why", why), LOG_END);
	(void)close(p->fd);
	listener_done(p->port->group, &p->client);
	proxied_free(p);
}

/* The session begins, if its network has room for one more. */
static void
begin(struct proxied *p, const struct proxy_header *h)
{
	struct client_address a = p->client;
	int fd = p->fd;
	const struct front_port *port = p->port;

	if (h->has_address) {
		a.peer = h->peer;
		a.local = h->local;
		proxy_address_print(&a.peer, a.text);
		proxy_address_print(&a.local, a.local_text);
	}
	log_event(LOG_INFO, NO_SESSION, "proxied", LOG_CSTR("proxy", p->client.text), LOG_CSTR("peer", a.text),
	    LOG_NUM("port", ntohs(a.peer.sin6_port)), LOG_END);
	if (!listener_moved(port->group, &p->client, &a)) {
		proxied_free(p);
		smtpd_refuse_connection(fd, &a, port);
		return;
	}
	proxied_free(p);
	smtpd_accept(fd, &a, port);
}

static void
on_readable(void *arg, int events)
{
	struct proxied *p = arg;
	struct proxy_header h = {.more = 1};
	enum proxy_result got = proxy_header_parse(slice_of(p->header, p->n), &h);
	ssize_t n;

	(void)events;
	assert(got == PROXY_MORE && h.more > 0 && h.more <= sizeof(p->header) - p->n);
	n = read(p->fd, p->header + p->n, h.more);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		/* A proxy that only looks whether we are there says nothing. */
		give_up(p, p->n > 0 ? LOG_WARN : LOG_DEBUG, "the connection ended");
		return;
	}
	p->n += (size_t)n;
	got = proxy_header_parse(slice_of(p->header, p->n), &h);
	if (got == PROXY_BAD)
		give_up(p, LOG_WARN, "malformed");
	else if (got == PROXY_DONE)
		begin(p, &h);
}

static void
on_late(void *arg)
{
	give_up(arg, LOG_WARN, "timeout");
}

void
smtpd_proxied(int fd, const struct client_address *a, const struct front_port *port)
{
	struct proxied *p = MEM_NEW(struct proxied);

	p->fd = fd;
	p->client = *a;
	p->port = port;
	p->next = waiting;
	if (p->next)
		p->next->previous = p;
	waiting = p;
	p->io = loop_io_new(role_loop(), fd, LOOP_READ, on_readable, p);
	p->timer = loop_timer_new(role_loop(), on_late, p);
	loop_timer_set(p->timer, PROXY_MS);
}

void
smtpd_proxied_drain(void)
{
	while (waiting)
		give_up(waiting, LOG_DEBUG, "shutting down");
}
