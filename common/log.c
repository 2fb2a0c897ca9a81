/*
 * A line is built in one buffer on the stack and written by one write(2), so that lines of several
 * processes on one stderr never mix (LOG_LINE_BYTES_MAX is below PIPE_BUF). Values come from peers:
 * whatever is not printable ASCII is escaped, so that no line break, terminal sequence or false
 * field can be smuggled in.
 */
#include "common/log.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <unistd.h>

_Static_assert(LOG_LINE_BYTES_MAX <= PIPE_BUF, "a line must be written in one piece");

static const char *log_role = "mailstead";
static enum log_level log_least = LOG_INFO;

static const char *const level_names[] = {
    [LOG_DEBUG] = "debug",
    [LOG_INFO] = "info",
    [LOG_WARN] = "warn",
    [LOG_ERROR] = "error",
    [LOG_BUG] = "bug",
};

void
log_init(const char *role, enum log_level least)
{
	assert(role != NULL && least <= LOG_BUG);
	log_role = role;
	log_least = least;
}

/* Octets that need no quotes around them. */
static bool
is_bare(uint8_t c)
{
	return c > ' ' && c < 0x7f && c != '"' && c != '\\' && c != '=';
}

static void
put_quoted(struct buf *b, struct slice text)
{
	static const char hex[] = "0123456789abcdef";

	buf_put_u8(b, '"');
	for (size_t i = 0; i < text.n && !b->failed; i++) {
		uint8_t c = text.p[i];

		if (c == '"' || c == '\\') {
			buf_put_u8(b, '\\');
			buf_put_u8(b, c);
		} else if (c >= ' ' && c < 0x7f) {
			buf_put_u8(b, c);
		} else {
			const char escape[4] = {'\\', 'x', hex[c >> 4], hex[c & 15]};

			buf_put(b, escape, sizeof escape);
		}
	}
	buf_put_u8(b, '"');
}

static void
put_text(struct buf *b, const char *key, struct slice text)
{
	bool bare = text.n > 0;

	for (size_t i = 0; i < text.n && bare; i++)
		bare = is_bare(text.p[i]);
	buf_put_u8(b, ' ');
	buf_put_str(b, key);
	buf_put_u8(b, '=');
	if (bare)
		buf_put_slice(b, text);
	else
		put_quoted(b, text);
}

void
log_put_fields(struct buf *b, const struct log_field *fields)
{
	for (const struct log_field *f = fields; f->key != NULL; f++) {
		if (f->is_number)
			buf_putf(b, " %s=%lld", f->key, (long long)f->number);
		else
			put_text(b, f->key, f->text);
	}
}

/* Makes the line end in its newline; one that was cut ends in "...". */
static void
end_line(struct buf *b)
{
	static const char cut[] = "...\n";

	if (!b->failed && buf_put_u8(b, '\n'))
		return;
	if (b->n > LOG_LINE_BYTES_MAX - (sizeof cut - 1))
		b->n = LOG_LINE_BYTES_MAX - (sizeof cut - 1);
	b->failed = false;
	buf_put(b, cut, sizeof cut - 1);
}

/* Starts a line; false when its level is not wanted. */
static bool
start_line(struct buf *b, enum log_level level, struct slice session, const char *event)
{
	assert(level <= LOG_BUG && event != NULL);
	if (level < log_least)
		return false;
	buf_init(b, LOG_LINE_BYTES_MAX);
	if (!slice_empty(session)) {
		put_text(b, "session", session);
		buf_drop(b, 1);
		buf_put_u8(b, ' ');
	}
	buf_putf(b, "role=%s level=%s event=%s", log_role, level_names[level], event);
	return true;
}

/* A log that nobody can take is lost; there is no one else to tell. */
static void
write_line(struct buf *b)
{
	int saved = errno;
	ssize_t n;

	end_line(b);
	do
		n = write(STDERR_FILENO, b->p, b->n);
	while (n < 0 && errno == EINTR);
	buf_fini(b);
	errno = saved;
}

void
log_event_fields(
    enum log_level level, struct slice session, const char *event, const struct log_field *fields)
{
	struct buf b;

	if (!start_line(&b, level, session, event))
		return;
	log_put_fields(&b, fields);
	write_line(&b);
}

void
log_event_text(enum log_level level, struct slice session, const char *event, struct slice fields)
{
	struct buf b;

	if (!start_line(&b, level, session, event))
		return;
	(void)buf_put_slice(&b, fields);
	write_line(&b);
}
