/*
 * sevenbit: a message made fit for servers that take 7 bits alone (RFC 6152 3, RFC 3030 3, RFC 2045 6): bodies with octets over 127, NUL,
 * CR or LF alone, or a line over OCTETS_LINE_MAX octets become quoted-printable, or base64 where that is shorter or the part is
 * no text; their Content-Transfer-Encoding is written anew, and what was labelled 8bit or binary around them becomes 7bit. Everything else
 * stays octet for octet, and each body decodes to what it was.
 *
 * First sevenbit_plan() reads the message and says what is to be changed; then a writer does it while the message streams by. The plan
 * is a list of ranges, so that who writes need not parse.
 *
 * Not changed, and so refused when it would have to be: what is inside multipart/signed and multipart/encrypted (RFC 1847 2.1, 2.2), in
 * message/partial and other kinds of message/ and multipart/ that are not taken apart (RFC 2046 5.2.2.1), what is encoded already; headers
 * and what stands between parts.
 */
#ifndef SMTPD_SEVENBIT_H
#define SMTPD_SEVENBIT_H

#include "common/buf.h"
#include "common/slice.h"
#include "common/transfer.h"

#define SEVENBIT_CHANGES_MAX 256 /* a message that needs more is refused */
/* Memory of a plan while it is made. */
#define SEVENBIT_ARENA_BYTES (4u << 20)

/* Stable numbers within one start: they cross between processes. */
enum sevenbit_kind {
	SEVENBIT_LEAVE_OUT,
	SEVENBIT_MIME_VERSION, /* these four: a field that is put there */
	SEVENBIT_FIELD_7BIT,
	SEVENBIT_FIELD_QP,
	SEVENBIT_FIELD_BASE64,
	SEVENBIT_BODY_QP,
	SEVENBIT_BODY_BASE64,
	SEVENBIT_KINDS,
};

struct sevenbit_change {
	uint64_t offset; /* from the message's first octet */
	uint64_t octets; /* that go */
	uint64_t become; /* that come instead */
	enum sevenbit_kind kind;
};

/* Ascending, not overlapping; of two at one place the first has no octets. */
struct sevenbit_plan {
	struct sevenbit_change changes[SEVENBIT_CHANGES_MAX];
	uint16_t count;
	bool needed; /* there are octets over 127, or NUL */
	const char *why; /* it is refused */
};

enum sevenbit_result {
	SEVENBIT_IS,	 /* nothing is to be done */
	SEVENBIT_CAN,	 /* by the plan */
	SEVENBIT_CANNOT, /* plan->why */
	SEVENBIT_UNREAD, /* the file is not that long, or cannot be read */
};

/* The message is the octets [from, to) of fd. Blocks on the file, which is read twice. */
enum sevenbit_result sevenbit_plan(int fd, uint64_t from, uint64_t to, struct sevenbit_plan *plan_r);
/* Octets of a message of so many once it is changed; -1 when the changes do not lie within it. */
int64_t sevenbit_octets(const struct sevenbit_change *changes, size_t count, uint64_t octets);
/* How many bodies are encoded. */
unsigned sevenbit_bodies(const struct sevenbit_plan *plan);

/* Octets that a writer may append for n. */
#define SEVENBIT_WRITTEN_MAX(n) (TRANSFER_ENCODED_MAX(n) + SEVENBIT_CHANGES_MAX * 64)

struct sevenbit_writer {
	const struct sevenbit_change *changes;
	size_t count;
	size_t index; /* the next or the one under way */
	uint64_t at;
	uint64_t end; /* octets of the message */
	bool begun; /* the change at index */
	struct transfer_encoder encoder;
};

/* changes stay where they are; they lie within the message of so many octets. */
void sevenbit_write_begin(struct sevenbit_writer *w, const struct sevenbit_change *changes, size_t count, uint64_t octets);
/* The next octets of the message; appends what they become. With the last of them all is written; a message of none needs one call. */
void sevenbit_write(struct sevenbit_writer *w, struct slice in, struct buf *out);

#endif
