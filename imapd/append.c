/*
 * The decision whether a literal is an APPEND's message falls when it is announced: the text so far must be a whole APPEND
 * up to the literal's head. A message that is too big, or whose mailbox is known to be missing, is refused right there, before
 * a synchronising client has sent it.
 *
 * Messages are stored octet for octet: no line end is changed and no NUL removed, so that what a client uploads
 * is what it and every other client gets back.
 */
#include "imapd/append.h"

#include "common/log.h"
#include "common/mem.h"
#include "common/memfd.h"
#include "common/summary.h"
#include "imapd/session.h"

#include <assert.h>
#include <unistd.h>

#define READ_BYTES (64u * 1024)

struct append {
	int fd;
	uint64_t octets;   /* announced: what is counted against the budget */
	uint64_t received;
	struct summary_builder *builder;
	bool failed; /* the memory file could not be written: it is in the log */
};

void
append_free(struct session *s)
{
	struct append *a = s->append;

	s->append = NULL;
	if (a == NULL)
		return;
	s->worker->spool_bytes -= a->octets;
	if (a->fd >= 0)
		close(a->fd);
	summary_builder_free(&a->builder);
	free(a);
}

static void
note_failure(struct session *s, const struct err *e)
{
	s->append->failed = true;
	log_event(LOG_ERROR, slice_str(s->name), "append-failed", LOG_ERR(e), LOG_END);
}

static void
begin(struct session *s, uint64_t octets)
{
	struct append *a = MEM_NEW(struct append);
	struct err e;

	s->append = a;
	s->worker->spool_bytes += octets;
	a->octets = octets;
	a->builder = summary_builder_new(0);
	a->fd = memfd_new(&e);
	if (a->fd < 0)
		note_failure(s, &e);
}

/* True when that mailbox is surely not there; a stale table says nothing. */
static bool
surely_missing(struct session *s, struct slice wire)
{
	struct mailbox_list *l = mailbox_table_peek(s->worker->table);
	const struct store_mailbox *m;
	struct slice name;

	if (l == NULL || mailbox_table_is_stale(s->worker->table) || !imap_is_astring_bare(wire))
		return false;
	name = wire;
	if (slice_index(name, '&') < name.n)
		return false;
	m = mailbox_list_find(l, name);
	return m == NULL || !m->selectable;
}

/* NULL when the message may be sent. */
static const char *
refusal(struct session *s, const struct imap_append *append)
{
	struct worker *w = s->worker;

	if (append->octets > w->message_bytes_max)
		return "NO [TOOBIG] Message is too big";
	if (append->octets == 0)
		return "NO Message is empty";
	if (append->octets > WORKER_SPOOL_BYTES_MAX - w->spool_bytes)
		return "NO [LIMIT] Too many uploads at once";
	if (append->flags.unknown)
		return "NO [CANNOT] Unknown system flag";
	if (surely_missing(s, append->name))
		return "NO [TRYCREATE] No such mailbox";
	return NULL;
}

bool
append_literal(struct session *s, struct slice text)
{
	struct imap_scan scan = imap_scan_of(text, s->arena);
	struct imap_append append;
	struct imap_head head;
	const char *why;

	if (s->append || !imap_head(&scan, &head) || head.uid ||
	    !slice_eq_nocase(head.name, SLICE("APPEND")) || !imap_append_args(&scan, false, &append))
		return false;
	why = refusal(s, &append);
	if (why) {
		session_refuse(s, why);
		return true;
	}
	begin(s, append.octets);
	if (append.sync)
		buf_put_str(&s->out, "+ OK\r\n");
	imap_framer_spool(&s->framer);
	return true;
}

void
append_feed(struct session *s, struct slice octets)
{
	struct append *a = s->append;
	struct err e;

	if (a == NULL)
		return;
	a->received += octets.n;
	if (a->failed)
		return;
	summary_builder_feed(a->builder, octets);
	if (memfd_write(a->fd, octets, &e) != 0)
		note_failure(s, &e);
}

/* Looks through the header at the file's start; what cannot be read has none: it fails later. */
static bool
header_has_8bit(int fd, const struct summary *summary)
{
	static uint8_t scratch[READ_BYTES];
	uint64_t left = summary->ascii_headers ? 0 : summary->header_octets;

	for (uint64_t at = 0; left > 0;) {
		size_t n = left < sizeof scratch ? (size_t)left : sizeof scratch;

		if (memfd_read(fd, at, scratch, n, NULL) != (int64_t)n)
			return false;
		if (!slice_is_ascii(slice_of(scratch, n)))
			return true;
		at += n;
		left -= n;
	}
	return false;
}

int
append_take(struct session *s, struct append_message *message_r, struct err *e)
{
	struct append *a = s->append;
	struct buf encoded;
	struct summary summary;
	int rc = -1;

	*message_r = (struct append_message){.message = -1, .summary = -1};
	if (a->failed)
		return err_set(e, ERR_TEMP, ERR_CODE_NO_SPACE, "Out of storage", NULL);
	assert(a->received == a->octets);
	buf_init(&encoded, SUMMARY_BYTES_MAX);
	if (!summary_builder_finish(a->builder, &encoded) || !summary_decode(buf_slice(&encoded), &summary)) {
		err_set(e, ERR_BUG, ERR_CODE_NONE, "Server bug", "summary of an APPEND is not one");
	} else if (memfd_seal(a->fd, e) == 0) {
		message_r->summary = memfd_of(buf_slice(&encoded), e);
		if (message_r->summary >= 0) {
			message_r->message = a->fd;
			message_r->octets = a->received;
			message_r->utf8_header = header_has_8bit(a->fd, &summary);
			memcpy(message_r->sha256, summary.sha256, sizeof message_r->sha256);
			a->fd = -1;
			rc = 0;
		}
	}
	buf_fini(&encoded);
	return rc;
}
