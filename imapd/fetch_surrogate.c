#include "imapd/fetch_surrogate.h"

#include "common/mem.h"
#include "common/surrogate.h"
#include "imapd/session.h"

#include <assert.h>
#include <stdlib.h>

struct fetch_surrogate {
	uint32_t uid;
	bool kept; /* its octets are counted */
	struct surrogate made;
};

void
fetch_surrogate_forget(struct session *s)
{
	struct fetch_surrogate *f = s->surrogate;

	s->surrogate = NULL;
	if (f == NULL)
		return;
	if (f->kept)
		s->worker->surrogate_bytes -= f->made.octets;
	surrogate_fini(&f->made);
	free(f);
}

void
fetch_surrogate_keep(struct session *s)
{
	struct fetch_surrogate *f = s->surrogate;

	if (f == NULL || f->kept)
		return;
	if (f->made.octets > FETCH_SURROGATES_BYTES_MAX - s->worker->surrogate_bytes) {
		fetch_surrogate_forget(s);
		return;
	}
	f->kept = true;
	s->worker->surrogate_bytes += f->made.octets;
}

static int
make(struct session *s, const struct fetch_message *m, struct err *e)
{
	struct surrogate made;
	int got = surrogate_make(m->fd, &m->summary, &made, e);

	if (got <= 0)
		return got;
	fetch_surrogate_forget(s);
	s->surrogate = MEM_NEW(struct fetch_surrogate);
	*s->surrogate = (struct fetch_surrogate){.uid = m->record.uid, .made = made};
	return 1;
}

int
fetch_surrogate(struct session *s, struct fetch_message *m, struct err *e)
{
	assert(m->has_summary && m->fd >= 0);
	if (s->surrogate == NULL || s->surrogate->uid != m->record.uid) {
		int got = make(s, m, e);

		if (got <= 0)
			return got;
	}
	m->fd = s->surrogate->made.fd;
	m->record.size = s->surrogate->made.octets;
	m->summary = s->surrogate->made.summary;
	return 0;
}
