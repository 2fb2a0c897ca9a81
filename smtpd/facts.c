/* The encoded form stands in smtpd/facts.h; both directions are here, so that they cannot differ. */
#include "smtpd/facts.h"

#include "common/cursor.h"

enum { FLAG_SMTPUTF8 = 1, FLAG_SUBMISSION = 2, FLAG_BINARY = 4, FLAGS_KNOWN = 7 };

bool
facts_encode(const struct facts *f, struct buf *b)
{
	const struct slice texts[] = {f->helo, f->mail_from, f->hostname, f->authserv_id, f->client_name};

	put_u8(b, FACTS_VERSION);
	put_u8(b, (uint8_t)((f->smtputf8 ? FLAG_SMTPUTF8 : 0) | (f->submission ? FLAG_SUBMISSION : 0) |
		      (f->binary ? FLAG_BINARY : 0)));
	buf_put(b, f->client_ip, sizeof f->client_ip);
	put_u8(b, (uint8_t)f->iprev);
	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
		if (texts[i].n > FACTS_TEXT_BYTES_MAX)
			return false;
		put_slice(b, texts[i]);
	}
	put_slice(b, f->marks);
	return !b->failed && f->marks.n <= FORWARD_MARKS_BYTES_MAX;
}

bool
facts_decode(struct slice in, struct facts *facts_r)
{
	struct cursor c = cursor_of(in);
	struct slice *texts[] = {&facts_r->helo, &facts_r->mail_from, &facts_r->hostname,
	    &facts_r->authserv_id, &facts_r->client_name};
	struct slice ip;
	uint8_t iprev;
	uint8_t version = cursor_u8(&c), flags = cursor_u8(&c);

	*facts_r = (struct facts){.smtputf8 = flags & FLAG_SMTPUTF8, .submission = flags & FLAG_SUBMISSION,
	    .binary = flags & FLAG_BINARY};
	ip = cursor_take(&c, sizeof facts_r->client_ip);
	if (ip.n == sizeof facts_r->client_ip)
		memcpy(facts_r->client_ip, ip.p, ip.n);
	iprev = cursor_u8(&c);
	if (iprev >= CLIENT_IPREV_COUNT)
		return false;
	facts_r->iprev = (enum client_iprev)iprev;
	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
		*texts[i] = cursor_slice(&c, FACTS_TEXT_BYTES_MAX);
	facts_r->marks = cursor_slice(&c, FORWARD_MARKS_BYTES_MAX);
	return cursor_done(&c) && version == FACTS_VERSION && (flags & ~FLAGS_KNOWN) == 0;
}
