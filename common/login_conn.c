/*
 * Connections: accepted, greeted, ended. All of a process are in one list, for drains and for edges
 * that go down. A connection waits for one thing at a time, `state`; which state may follow which
 * is in one table.
 */
#include "common/log.h"
#include "common/login_private.h"
#include "common/mem.h"
#include "common/role.h"
#include "common/tls.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define LISTENERS_MAX 16
/* A drain that is not done by then is over all the same. */
#define DRAIN_MS 3000

static struct {
	const struct login_protocol *protocol;
	struct listener_group *group;
	struct listener *listeners[LISTENERS_MAX];
	size_t listeners_n;
	struct login_conn *conns;
	struct loop_timer *drain_timer;
	uint64_t last_conn;
	bool draining;
} service;

static void on_ready(struct stream *s, void *arg);
static void on_end(struct stream *s, void *arg, enum stream_end why);
static const struct stream_events events = {.on_ready = on_ready, .on_end = on_end};

static const uint32_t next_states[LOGIN_STATE_COUNT] = {
    [LOGIN_HANDSHAKE] = 1u << LOGIN_READY | 1u << LOGIN_CLOSING,
    [LOGIN_READY] = 1u << LOGIN_READY | 1u << LOGIN_HANDSHAKE | 1u << LOGIN_VERIFYING |
		    1u << LOGIN_CLOSING,
    [LOGIN_LINE] = 1u << LOGIN_READY | 1u << LOGIN_VERIFYING | 1u << LOGIN_CLOSING,
    [LOGIN_VERIFYING] = 1u << LOGIN_READY | 1u << LOGIN_LINE | 1u << LOGIN_DELAYING |
			1u << LOGIN_ATTACHING | 1u << LOGIN_CLOSING,
    [LOGIN_DELAYING] = 1u << LOGIN_READY | 1u << LOGIN_CLOSING,
    [LOGIN_ATTACHING] = 1u << LOGIN_READY | 1u << LOGIN_RELAYING | 1u << LOGIN_CLOSING,
};

void
login_set_state(struct login_conn *c, enum login_state state)
{
	assert(next_states[c->state] & 1u << state);
	c->state = state;
}

/* ---- for the protocol ---- */

bool
login_takes_input(const struct login_conn *c)
{
	return (c->state == LOGIN_READY || c->state == LOGIN_LINE) && !stream_full(c->stream);
}

void
login_bad(struct login_conn *c)
{
	if (++c->bad >= LOGIN_BAD_MAX)
		login_bye(c, c->protocol->too_many_errors);
}

void
login_bye(struct login_conn *c, const char *line)
{
	if (c->state == LOGIN_CLOSING || c->state == LOGIN_RELAYING)
		return;
	login_forget(c);
	if (c->state != LOGIN_HANDSHAKE && line) {
		stream_write_str(c->stream, line);
		stream_write(c->stream, SLICE("\r\n"));
	}
	login_set_state(c, LOGIN_CLOSING);
	stream_close(c->stream);
}

void
login_starttls(struct login_conn *c)
{
	login_set_state(c, LOGIN_HANDSHAKE);
	stream_starttls(c->stream, tls_server());
}

void
login_trace(struct login_conn *c, const char *event, const struct log_field *fields)
{
	struct buf b;

	buf_init(&b, LOG_LINE_BYTES_MAX);
	log_put_fields(&b, fields);
	role_trace(slice_str(c->session), event, buf_slice(&b));
	buf_fini(&b);
}

/* ---- the life of a connection ---- */

static void
greet(struct login_conn *c)
{
	c->greeted = true;
	c->protocol->greet(c);
}

static void
on_ready(struct stream *s, void *arg)
{
	struct login_conn *c = arg;

	if (c->state == LOGIN_HANDSHAKE && stream_is_tls(s)) {
		login_set_state(c, LOGIN_READY);
		if (!c->greeted) /* there is no second greeting */
			greet(c);
	}
	c->protocol->step(c);
}

static void
conn_free(struct login_conn *c)
{
	login_forget(c);
	login_lease_close(c);
	*c->link = c->next;
	if (c->next)
		c->next->link = c->link;
	listener_done(service.group, &c->client);
	loop_timer_free(&c->login_timer);
	loop_timer_free(&c->delay_timer);
	stream_free(&c->stream);
	mem_wipe(c, c->protocol->conn_bytes);
	free(c);
	if (service.draining && service.conns == NULL)
		role_exit(0);
}

static void
on_end(struct stream *s, void *arg, enum stream_end why)
{
	struct login_conn *c = arg;

	if (why == STREAM_ERROR)
		log_event(LOG_INFO, slice_str(c->session), c->protocol->failed_event,
		    LOG_CSTR("client", c->client.text), LOG_CSTR("error", stream_error(s)),
		    LOG_END);
	c->protocol->closed(c);
	conn_free(c);
}

static void
too_late(void *arg)
{
	struct login_conn *c = arg;

	login_bye(c, c->protocol->too_late);
}

static struct login_conn *
conn_new(int fd, const struct client_address *a)
{
	struct login_conn *c = mem_new_array(1, service.protocol->conn_bytes);

	c->protocol = service.protocol;
	c->conn = ++service.last_conn;
	c->began_ms = clock_ms();
	c->client = *a;
	c->next = service.conns;
	c->link = &service.conns;
	if (c->next)
		c->next->link = &c->next;
	service.conns = c;
	c->stream = stream_new(role_loop(), fd, c->protocol->input_bytes_max, &events, c);
	c->login_timer = loop_timer_new(role_loop(), too_late, c);
	loop_timer_set(c->login_timer, config_number(role_config(), OPT_LOGIN_TIMEOUT));
	return c;
}

static void
accepted_clear(void *arg, int fd, const struct client_address *a)
{
	struct login_conn *c = conn_new(fd, a);

	(void)arg;
	c->state = LOGIN_READY;
	c->protocol->opened(c, false);
	greet(c);
}

static void
accepted_tls(void *arg, int fd, const struct client_address *a)
{
	struct login_conn *c = conn_new(fd, a);

	(void)arg;
	c->state = LOGIN_HANDSHAKE;
	c->protocol->opened(c, true);
	stream_starttls(c->stream, tls_server());
}

static void
refused_clear(void *arg, int fd, const struct client_address *a)
{
	char line[256];
	int n = snprintf(line, sizeof line, "%s\r\n", service.protocol->too_many_connections);

	(void)arg;
	assert(n > 0 && (size_t)n < sizeof line);
	if (send(fd, line, (size_t)n, MSG_NOSIGNAL) < 0)
		log_event(LOG_DEBUG, NO_SESSION, "refusal-not-told", LOG_CSTR("client", a->text),
		    LOG_END);
	(void)close(fd);
}

static void
refused_tls(void *arg, int fd, const struct client_address *a)
{
	(void)arg;
	(void)a;
	(void)close(fd);
}

/* ---- all places are taken ---- */

/* Whose login is at work, or done, stays. */
static bool
may_be_ended(const struct login_conn *c)
{
	return c->state == LOGIN_HANDSHAKE || c->state == LOGIN_READY || c->state == LOGIN_LINE ||
	       c->state == LOGIN_CLOSING;
}

/* A listener_room_fn. */
static bool
make_room(void)
{
	struct login_conn *worst = NULL;
	uint64_t worst_burden = 0, now = clock_ms();

	for (struct login_conn *c = service.conns; c; c = c->next) {
		if (!may_be_ended(c))
			continue;
		uint64_t burden = listener_burden(service.group, &c->client, now - c->began_ms);

		if (burden > 0 && burden >= worst_burden) {
			worst = c;
			worst_burden = burden;
		}
	}
	if (worst == NULL)
		return false;
	login_bye(worst, worst->protocol->no_room);
	stream_flush_now(worst->stream);
	worst->protocol->closed(worst);
	conn_free(worst);
	return true;
}

/* ---- the role's hooks ---- */

int
login_init(const struct login_protocol *p, struct err *e)
{
	assert(p->conn_bytes >= sizeof(struct login_conn));
	service.protocol = p;
	return tls_server_new(e) ? 0 : -1;
}

static struct listener_limits
limits(void)
{
	return (struct listener_limits){
	    .total_max = (unsigned)config_number(role_config(), OPT_LOGIN_CONNECTIONS),
	    .per_network_max = (unsigned)config_number(
		role_config(), OPT_LOGIN_CONNECTIONS_PER_ADDRESS),
	};
}

void
login_on_listener(const char *name, int fd)
{
	bool tls = slice_eq(slice_str(name), slice_str(service.protocol->tls_listener));

	assert(service.listeners_n < LISTENERS_MAX);
	if (service.group == NULL) {
		service.group = listener_group_new(role_loop(), limits());
		listener_group_on_full(service.group, make_room);
	}
	service.listeners[service.listeners_n++] = listener_new(service.group, fd,
	    tls ? accepted_tls : accepted_clear, tls ? refused_tls : refused_clear, NULL);
}

void
login_on_reload(void)
{
	if (service.group)
		listener_group_limits(service.group, limits());
}

void
login_on_edge_up(struct edge *e)
{
	if (edge_peer(e)->role == ROLE_KEY)
		tls_server_key_edge(tls_server(), e);
}

void
login_on_edge_down(struct edge *e)
{
	if (edge_peer(e)->role == ROLE_KEY)
		tls_server_key_edge(tls_server(), NULL);
	for (struct login_conn *c = service.conns; c; c = c->next) {
		if (c->request_edge == e)
			c->request_edge = NULL;
	}
}

static void
drain_over(void *arg)
{
	(void)arg;
	role_exit(0);
}

void
login_on_drain(void)
{
	struct login_conn *next;

	service.draining = true;
	for (size_t i = 0; i < service.listeners_n; i++)
		listener_free(&service.listeners[i]);
	service.listeners_n = 0;
	for (struct login_conn *c = service.conns; c; c = next) {
		next = c->next;
		login_bye(c, c->protocol->draining);
	}
	if (service.conns == NULL) {
		role_exit(0);
		return;
	}
	service.drain_timer = loop_timer_new(role_loop(), drain_over, NULL);
	loop_timer_set(service.drain_timer, DRAIN_MS);
}
