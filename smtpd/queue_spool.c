/*
 * Spool files: without a name, so that they end with their holders, and counted at the size they may reach,
 * so that the total is never passed by messages that grow at the same time.
 */
#include "common/config.h"
#include "common/mem.h"
#include "smtpd/queue.h"
#include "store/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* A share of the spool, held by one edge under the id of its request. */
struct share {
	const struct edge *edge;
	uint64_t id;
	uint64_t bytes;
};

static struct share shares[QUEUE_SPOOL_FILES_MAX];
static unsigned share_count;
static uint64_t total;
static char spool_dir[FILE_PATH_BYTES_MAX];

int
queue_spool_init(const char *state_dir, struct err *e)
{
	bool made;

	file_path(spool_dir, state_dir, "spool");
	return file_mkdir(spool_dir, &made, e);
}

static enum err_class
open_share(struct edge *edge, const struct msg_SPOOL_OPEN *m, int *fd_r)
{
	uint64_t most = config_number(role_config(), OPT_SPOOL_BYTES);

	if (share_count == QUEUE_SPOOL_FILES_MAX || m->bytes_max > most || total > most - m->bytes_max)
		return ERR_LIMIT;
	*fd_r = open(spool_dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (*fd_r < 0) {
		log_event(LOG_ERROR, NO_SESSION, "spool-open", LOG_CSTR("error", strerror(errno)), LOG_END);
		return ERR_TEMP;
	}
	shares[share_count++] = (struct share){edge, m->id, m->bytes_max};
	total += m->bytes_max;
	return ERR_NONE;
}

void
queue_on_spool_open(struct edge *e, struct msg_SPOOL_OPEN *m)
{
	int fd = -1;
	enum err_class class = open_share(e, m, &fd);

	if (class == ERR_LIMIT)
		log_event(LOG_WARN, NO_SESSION, "spool-full", LOG_NUM("files", share_count), LOG_NUM("bytes", total), LOG_END);
	IPC_TELL(e, SPOOL_REPLY, .id = m->id, .class = class, .fd = fd);
	if (fd >= 0)
		(void)close(fd);
}

static void
drop(unsigned i)
{
	total -= shares[i].bytes;
	shares[i] = shares[--share_count];
}

void
queue_on_spool_done(struct edge *e, struct msg_SPOOL_DONE *m)
{
	for (unsigned i = 0; i < share_count; i++)
		if (shares[i].edge == e && shares[i].id == m->id) {
			drop(i);
			return;
		}
}

void
queue_spool_edge_down(const struct edge *e)
{
	for (unsigned i = share_count; i-- > 0;)
		if (shares[i].edge == e)
			drop(i);
}
