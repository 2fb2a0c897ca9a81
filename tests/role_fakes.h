/*
 * What common/role.h gives a role, for a test that runs the SMTP front beside fakes of the processes that it asks, all in one process. The
 * test fills in loop, config and the edges, and has a role_exit() of its own. Included once in a program.
 */
#ifndef TESTS_ROLE_FAKES_H
#define TESTS_ROLE_FAKES_H

#include "common/ipc.h"
#include "common/role.h"

static struct loop *loop;
static struct config *config;
static struct edge *edges[ROLE_COUNT];	/* the session's ends */
static struct edge *fakes[ROLE_COUNT]; /* the others */
static struct edge_peer self = {ROLE_SMTP_FRONT, 0, 1};

struct loop *
role_loop(void)
{
	return loop;
}

const struct config *
role_config(void)
{
	return config;
}

struct edge *
role_edge(enum role peer, uint32_t instance)
{
	return instance == 0 ? edges[peer] : NULL;
}

unsigned
role_edge_count(enum role peer)
{
	return edges[peer] != NULL;
}

struct edge *
role_edge_at(enum role peer, unsigned i)
{
	return i == 0 ? edges[peer] : NULL;
}

const struct edge_peer *
role_self(void)
{
	return &self;
}

void
role_trace(struct slice session, const char *event, struct slice fields)
{
	(void)session;
	(void)event;
	(void)fields;
}

/* The last event that was recorded without being logged, and how many there were. */
static char recorded_event[64], recorded_fields[1024];
static unsigned recorded_count;

void
role_record(struct slice session, const char *event, struct slice fields)
{
	(void)session;
	snprintf(recorded_event, sizeof recorded_event, "%s", event);
	snprintf(recorded_fields, sizeof recorded_fields, "%.*s", SLICE_ARG(fields));
	recorded_count++;
}

#endif
