/*
 * event: one recorded decision, its octets on disk and its text. On disk:
 *   u32 payload octets, u32 CRC-32 of the payload, payload:
 *   u8 version (1), u64 time (microseconds since 1970), u8 role, u32 instance, session, event,
 * fields in the encoding of common/cursor.h. fields is text as common/log.h makes it: " key=value"
 * pairs, the value bare or in quotes with \", \\ and \xHH. All of it is hostile when it is read
 * back.
 */
#ifndef TRACED_EVENT_H
#define TRACED_EVENT_H

#include "common/buf.h"
#include "common/roles.h"
#include "common/slice.h"

#define EVENT_SESSION_BYTES_MAX 64
#define EVENT_NAME_BYTES_MAX 64
#define EVENT_FIELDS_BYTES_MAX 4096
#define EVENT_HEAD_BYTES 8
#define EVENT_BYTES_MAX                                                                            \
	(EVENT_HEAD_BYTES + 1 + 8 + 1 + 4 + 3 * 4 + EVENT_SESSION_BYTES_MAX +                      \
	    EVENT_NAME_BYTES_MAX + EVENT_FIELDS_BYTES_MAX)

struct event {
	uint64_t time_us;
	enum role role;
	uint32_t instance;
	struct slice session; /* may be empty */
	struct slice name;
	struct slice fields;
};

/* Appends the record to b; false, with b as it was, when it does not fit or a slice is too long. */
bool event_encode(const struct event *v, struct buf *b);
/*
 * Takes the first record of *in: true and *in behind it. False at the end and at the first octet
 * that is no whole, right record (a torn tail): *in stays there.
 */
bool event_decode(struct slice *in, struct event *v_r);

/*
 * Takes the first field of *fields; value is unescaped into value_r (reset first). False when there
 * is none left; what is no field is skipped up to the next space.
 */
bool event_field(struct slice *fields, struct slice *key_r, struct buf *value_r);

/*
 * Does the event mention key: as its session, or in a field's value, whole (not as a part of a
 * longer address, number or id)? ASCII case is ignored; angle brackets around key are.
 */
bool event_mentions(const struct event *v, struct slice key);

/* Appends the event as one line of JSON: time, role, session, event, and the fields as an object.
 * False when b is full. */
bool event_json(const struct event *v, struct buf *b);

#endif
