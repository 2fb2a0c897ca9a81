/*
 * A record carries its own length and checksum, so that a file needs no index and
 * a torn end no repair: reading stops there.
 */
#include "traced/event.h"

#include "common/cursor.h"
#include "common/date.h"

#include <assert.h>
#include <jansson.h>
#include <zlib.h>

#define EVENT_VERSION 1
/* One field's value, unescaped. */
#define VALUE_BYTES_MAX EVENT_FIELDS_BYTES_MAX

static uint32_t
checksum(struct slice s)
{
	return (uint32_t)crc32(crc32(0, NULL, 0), s.p, (uInt)s.n);
}

bool
event_encode(const struct event *v, struct buf *b)
{
	struct buf payload;
	size_t before = b->n;

	if (v->session.n > EVENT_SESSION_BYTES_MAX || v->name.n > EVENT_NAME_BYTES_MAX ||
	    v->fields.n > EVENT_FIELDS_BYTES_MAX || b->failed)
		return false;
	buf_init(&payload, EVENT_BYTES_MAX);
	put_u8(&payload, EVENT_VERSION);
	put_u64(&payload, v->time_us);
	put_u8(&payload, (uint8_t)v->role);
	put_u32(&payload, v->instance);
	put_slice(&payload, v->session);
	put_slice(&payload, v->name);
	put_slice(&payload, v->fields);
	assert(!payload.failed);
	put_u32(b, (uint32_t)payload.n);
	put_u32(b, checksum(buf_slice(&payload)));
	(void)buf_put_slice(b, buf_slice(&payload));
	buf_fini(&payload);
	if (!b->failed)
		return true;
	b->n = before;
	b->failed = false;
	return false;
}

bool
event_decode(struct slice *in, struct event *v_r)
{
	struct cursor c = cursor_of(*in);
	uint32_t n = cursor_u32(&c);
	uint32_t sum = cursor_u32(&c);
	struct slice payload;
	unsigned role;

	if (c.bad || n > EVENT_BYTES_MAX - EVENT_HEAD_BYTES)
		return false;
	payload = cursor_take(&c, n);
	if (c.bad || checksum(payload) != sum)
		return false;
	c = cursor_of(payload);
	if (cursor_u8(&c) != EVENT_VERSION)
		return false;
	v_r->time_us = cursor_u64(&c);
	role = cursor_u8(&c);
	v_r->instance = cursor_u32(&c);
	v_r->session = cursor_slice(&c, EVENT_SESSION_BYTES_MAX);
	v_r->name = cursor_slice(&c, EVENT_NAME_BYTES_MAX);
	v_r->fields = cursor_slice(&c, EVENT_FIELDS_BYTES_MAX);
	if (!cursor_done(&c) || role >= ROLE_COUNT)
		return false;
	v_r->role = (enum role)role;
	*in = slice_sub(*in, EVENT_HEAD_BYTES + n, in->n);
	return true;
}

/* ---- fields ---- */

/* Reads what follows an opening quote; *s ends up behind the closing one, or at the end when it was
 * cut off. */
static void
quoted_read(struct slice *s, struct buf *value_r)
{
	size_t i = 0;
	uint8_t high, low;

	for (; i < s->n && s->p[i] != '"'; i++) {
		if (s->p[i] != '\\' || i + 1 == s->n) {
			(void)buf_put_u8(value_r, s->p[i]);
		} else if (s->p[i + 1] == 'x' && i + 3 < s->n && ascii_hex_value(s->p[i + 2], &high) &&
			   ascii_hex_value(s->p[i + 3], &low)) {
			(void)buf_put_u8(value_r, (uint8_t)(high << 4 | low));
			i += 3;
		} else {
			(void)buf_put_u8(value_r, s->p[++i]);
		}
	}
	*s = slice_sub(*s, i + 1, s->n);
}

bool
event_field(struct slice *fields, struct slice *key_r, struct buf *value_r)
{
	buf_reset(value_r);
	while (fields->n > 0) {
		size_t space = slice_index(*fields, ' ');
		size_t equals = slice_index(*fields, '=');

		if (equals > space || equals == 0 || equals == fields->n) {
			*fields = slice_sub(*fields, space + 1, fields->n);
			continue;
		}
		*key_r = slice_sub(*fields, 0, equals);
		*fields = slice_sub(*fields, equals + 1, fields->n);
		if (fields->n > 0 && fields->p[0] == '"') {
			*fields = slice_sub(*fields, 1, fields->n);
			quoted_read(fields, value_r);
		} else {
			space = slice_index(*fields, ' ');
			(void)buf_put_slice(value_r, slice_sub(*fields, 0, space));
			*fields = slice_sub(*fields, space + 1, fields->n);
		}
		return true;
	}
	return false;
}

/* Octets that make an id, an address or a word longer. */
static bool
octet_continues(uint8_t c)
{
	return ascii_alpha(c) || ascii_digit(c) || c >= 0x80 ||
	       (c != '\0' && strchr("._+-@%$!#/=~^&*", c) != NULL);
}

static bool
text_mentions(struct slice text, struct slice key)
{
	for (size_t at = 0; at + key.n <= text.n; at++) {
		if (!slice_eq_nocase(slice_sub(text, at, at + key.n), key))
			continue;
		if (at > 0 && octet_continues(text.p[at - 1]))
			continue;
		if (at + key.n == text.n || !octet_continues(text.p[at + key.n]))
			return true;
		/* "key." at a sentence's end is the key; "key.more" is not. */
		if (text.p[at + key.n] == '.' && at + key.n + 1 == text.n)
			return true;
	}
	return false;
}

bool
event_mentions(const struct event *v, struct slice key)
{
	struct slice rest = v->fields;
	struct slice name;
	struct buf value;
	bool found = false;

	if (key.n >= 2 && key.p[0] == '<' && key.p[key.n - 1] == '>')
		key = slice_sub(key, 1, key.n - 1);
	if (key.n == 0)
		return false;
	if (slice_eq_nocase(v->session, key))
		return true;
	buf_init(&value, VALUE_BYTES_MAX);
	while (!found && event_field(&rest, &name, &value))
		found = text_mentions(buf_slice(&value), key);
	buf_fini(&value);
	return found;
}

/* ---- JSON ---- */

/* JSON is Unicode: octets that are none of it are shown as such. */
static json_t *
json_text(struct slice s)
{
	json_t *j = json_stringn((const char *)s.p, s.n);
	struct buf b;

	if (j != NULL)
		return j;
	buf_init(&b, 4 * s.n);
	for (size_t i = 0; i < s.n; i++)
		(void)(s.p[i] < 0x80 ? buf_put_u8(&b, s.p[i]) : buf_putf(&b, "\\x%02x", s.p[i]));
	j = json_stringn((const char *)b.p, b.n);
	buf_fini(&b);
	return j;
}

static json_t *
json_fields(struct slice fields)
{
	json_t *object = json_object();
	char name[EVENT_NAME_BYTES_MAX + 1];
	struct slice key;
	struct buf value;

	buf_init(&value, VALUE_BYTES_MAX);
	while (event_field(&fields, &key, &value)) {
		if (slice_cstr(key, name, sizeof name))
			(void)json_object_set_new(object, name, json_text(buf_slice(&value)));
	}
	buf_fini(&value);
	return object;
}

/* With microseconds: a time line's order is in them. */
static json_t *
json_time(uint64_t time_us)
{
	char seconds[DATE_RFC3339_SIZE];
	char text[DATE_RFC3339_SIZE + 8];

	date_rfc3339_print((int64_t)(time_us / 1000000), seconds);
	seconds[sizeof seconds - 2] = '\0'; /* its "Z" */
	(void)snprintf(text, sizeof text, "%s.%06uZ", seconds, (unsigned)(time_us % 1000000));
	return json_string(text);
}

bool
event_json(const struct event *v, struct buf *b)
{
	json_t *line = json_pack("{s:o, s:s, s:o, s:o, s:o}", "time", json_time(v->time_us), "role",
	    role_info(v->role)->name, "session", json_text(v->session), "event", json_text(v->name),
	    "fields", json_fields(v->fields));
	char *text = line != NULL ? json_dumps(line, JSON_COMPACT) : NULL;
	size_t before = b->n;
	bool ok;

	json_decref(line);
	ok = text != NULL && buf_put_str(b, text) && buf_put_u8(b, '\n');
	free(text);
	if (!ok) {
		b->n = before;
		b->failed = false;
	}
	return ok;
}
