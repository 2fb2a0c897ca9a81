/*
 * BDAT (RFC 3030 2): message octets by count. Nothing in them can end them, and whatever is wrong, they are never read as
 * commands: the octets of a chunk that is refused are thrown away before the refusal is said, in every state, so that
 * what was sent ahead of the answer does no harm. Only a BDAT whose count cannot be read, or is more than is ever
 * thrown away, ends the connection: it is not known, or does not matter any more, where the next command begins.
 *
 * A transaction in which a chunk was refused stays so until RSET, EHLO or the chunk that says LAST: it never becomes a
 * message of which a part is missing.
 */
#include "smtpd/front.h"
#include "smtpd/front_room.h"

#include "common/config.h"

#include <stdio.h>

/* ---- the end of a chunk ---- */

static bool
in_transaction(const struct front_chunk *c)
{
	return c->back != FRONT_STATE_HELO && c->back != FRONT_STATE_READY;
}

/* The last chunk's answer is the message's: on LMTP one for each recipient, so none when there is none (RFC 2033 4.3). */
static void
say_refusal(struct front *f, const struct front_chunk *c)
{
	if (c->last && in_transaction(c))
		smtpd_reply_message(f, c->refusal);
	else
		smtpd_reply_words(f, c->refusal);
}

static void
chunk_refused(struct front *f)
{
	const struct front_chunk *c = &f->chunk;

	smtpd_trace(f, "chunk-refused", LOG_NUM("bytes", c->bytes), LOG_NUM("code", c->refusal->code),
	    LOG_CSTR("text", c->refusal->text), LOG_END);
	say_refusal(f, c);
	if (!in_transaction(c)) {
		smtpd_set_state(f, c->back);
	} else if (c->last) {
		smtpd_transaction_reset(f);
	} else {
		smtpd_data_drop(f);
		f->t.failed = true;
		smtpd_set_state(f, FRONT_STATE_CHUNKED);
	}
}

static void
chunk_ended(struct front *f)
{
	struct front_chunk *c = &f->chunk;
	char text[64];

	if (c->refusal == NULL)
		c->refusal = smtpd_data_refusal(f, 0);
	if (c->refusal != NULL) {
		chunk_refused(f);
	} else if (c->last) {
		smtpd_data_end(f);
	} else {
		smtpd_set_state(f, FRONT_STATE_CHUNKED);
		(void)snprintf(text, sizeof(text), "%llu octets received", (unsigned long long)c->bytes);
		smtpd_reply(f, 250, "2.0.0", text);
	}
}

bool
smtpd_chunk_step(struct front *f)
{
	struct front_chunk *c = &f->chunk;
	struct slice in = slice_sub(stream_input(f->stream), 0, FRONT_INPUT_BYTES_MAX);

	if (in.n > c->left)
		in = slice_sub(in, 0, (size_t)c->left);
	if (in.n == 0 && c->left > 0)
		return false;
	c->left -= in.n;
	if (c->refusal == NULL)
		smtpd_data_keep(f, in, c->left == 0 && c->last);
	smtpd_consume(f, in.n);
	if (c->left == 0)
		chunk_ended(f);
	return true;
}

/* ---- its beginning ---- */

/* Why a chunk of so many octets is not kept, or NULL: then there is a file for it. */
static const struct smtp_reply_words *
why_not(struct front *f, uint64_t bytes)
{
	static const struct smtp_reply_words no_recipients = {554, "5.5.1", "No valid recipients"};
	static const struct smtp_reply_words failed = {503, "5.5.1", "A chunk of this message was refused; RSET first"};
	static const struct smtp_reply_words hello = {503, "5.5.1", "BDAT needs EHLO"};
	const struct smtp_reply_words *w;

	if (!f->esmtp)
		return &hello;
	if (f->t.failed)
		return &failed;
	if (f->state == FRONT_STATE_MAIL)
		return &no_recipients;
	w = smtpd_data_refusal(f, bytes);
	return w == NULL && f->state == FRONT_STATE_RCPT ? smtpd_data_begin(f) : w;
}

/* The octets of a refused chunk are read only as far as a session may waste them. */
static bool
worth_swallowing(struct front *f, uint64_t bytes)
{
	uint64_t most = config_number(role_config(), OPT_SMTP_MESSAGE_BYTES) + FRONT_SWALLOW_BYTES_MAX;

	if (bytes > most || f->swallowed > most - bytes)
		return false;
	f->swallowed += bytes;
	return true;
}

void
smtpd_bdat(struct front *f, struct slice args, const struct smtp_reply_words *refusal)
{
	struct front_chunk c = {.refusal = refusal, .back = f->state, .began_ms = clock_ms()};
	enum smtp_syntax syntax = smtp_bdat_parse(args, &c.bytes, &c.last);

	if (syntax != SMTP_SYNTAX_OK) {
		smtpd_reply_words(f, smtp_syntax_reply(syntax));
		smtpd_close(f, "4.7.0", "The end of the chunk is not known");
		return;
	}
	if (c.refusal == NULL)
		c.refusal = why_not(f, c.bytes);
	if (c.refusal != NULL && !worth_swallowing(f, c.bytes)) {
		say_refusal(f, &c);
		smtpd_close(f, "4.3.4", "Too many octets that are not wanted");
		return;
	}
	c.left = c.bytes;
	f->chunk = c;
	smtpd_set_state(f, FRONT_STATE_CHUNK);
	if (c.bytes == 0)
		chunk_ended(f);
}
