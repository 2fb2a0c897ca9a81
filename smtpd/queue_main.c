/* Role QUEUE: the only process with the queue's directory and the spool. No network, no parsing of mail. */
#include "common/control.h"
#include "smtpd/queue.h"
#include "smtpd/queue_items.h"

#include <string.h>
#include <unistd.h>

static const struct ipc_dispatch from_front = {
    .SPOOL_OPEN = queue_on_spool_open,
    .SPOOL_DONE = queue_on_spool_done,
};
static const struct ipc_dispatch from_deliver = {
    .SPOOL_OPEN = queue_on_spool_open,
    .SPOOL_DONE = queue_on_spool_done,
    .QUEUE_ADD = queue_on_add,
    .QUEUE_NEXT = queue_on_next,
    .QUEUE_RESULT = queue_on_result,
};
static const struct ipc_dispatch from_recorder;

static void
edge_drained(struct edge *e)
{
	if (edge_peer(e)->role == ROLE_TRANSPORT)
		queue_settle_soon();
	else if (edge_peer(e)->role == ROLE_DELIVER)
		queue_deliver_up();
}

static int
init(struct err *e)
{
	if (queue_spool_init(role_state_dir(), e) < 0)
		return -1;
	return queue_items_init(e);
}

static void
on_listener(const char *name, int fd)
{
	if (strcmp(name, "control") == 0)
		(void)control_new(role_loop(), fd, ROLE_QUEUE, &queue_from_admin, NULL, NULL);
	else
		(void)close(fd);
}

static void
edge_up(struct edge *e)
{
	if (edge_peer(e)->role == ROLE_DELIVER)
		queue_deliver_up();
}

static void
edge_down(struct edge *e)
{
	queue_spool_edge_down(e);
	queue_add_edge_down(e);
	if (edge_peer(e)->role == ROLE_DELIVER)
		queue_deliver_down();
	else if (edge_peer(e)->role == ROLE_TRANSPORT)
		queue_transport_down();
}

int
main(int argc, char **argv)
{
	static const struct role_spec spec = {
	    .role = ROLE_QUEUE,
	    .dispatch = {[ROLE_SMTP_FRONT] = &from_front,
		[ROLE_SUBMISSION] = &from_front,
		[ROLE_DELIVER] = &from_deliver,
		[ROLE_TRANSPORT] = &queue_from_transport,
		[ROLE_RECORDER] = &from_recorder},
	    .init = init,
	    .on_listener = on_listener,
	    .on_edge_up = edge_up,
	    .on_edge_down = edge_down,
	    .on_edge_drained = edge_drained,
	};

	int status = role_main(argc, argv, &spec);

	/* What is not written comes again: transport keeps it, or does it again. */
	(void)queue_changes_write();
	queue_table_close();
	queue_items_fini();
	return status;
}
