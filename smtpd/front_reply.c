#include "smtpd/front.h"

#include <assert.h>
#include <stdio.h>

#define REPLY_BYTES_MAX 512 /* RFC 5321 4.5.3.1.5 */

void
smtpd_reply(struct front *f, unsigned code, const char *enhanced, const char *text)
{
	struct buf b;

	assert(code >= 200 && code <= 599);
	buf_init(&b, REPLY_BYTES_MAX);
	if (enhanced)
		buf_putf(&b, "%u %s ", code, enhanced);
	else
		buf_putf(&b, "%u ", code);
	for (const char *p = text; *p != '\0' && b.n < REPLY_BYTES_MAX - 2; p++)
		/* A reply's words may quote what a peer sent: nothing of it may end the line. */
		buf_put_u8(&b, *p >= 32 && *p < 127 ? (uint8_t)*p : '?');
	buf_put_str(&b, "\r\n");
	stream_write(f->stream, buf_slice(&b));
	buf_fini(&b);
}

void
smtpd_reply_words(struct front *f, const struct smtp_reply_words *w)
{
	smtpd_reply(f, w->code, w->enhanced, w->text);
}

void
smtpd_reply_message(struct front *f, const struct smtp_reply_words *w)
{
	struct front_transaction *t = &f->t;

	if (!f->port->lmtp)
		smtpd_reply_words(f, w);
	else
		for (; t->answered < t->recipient_count; t->answered++)
			smtpd_reply_words(f, w);
}

void
smtpd_trace_fields(struct front *f, const char *event, const struct log_field *fields)
{
	struct buf b;

	buf_init(&b, LOG_LINE_BYTES_MAX);
	log_put_fields(&b, fields);
	role_trace(slice_str(f->id), event, buf_slice(&b));
	buf_fini(&b);
}
