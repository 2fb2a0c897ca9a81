/*
 * msg: the messages between processes as C structs, made from the one table
 * common/messages.def. struct msg_NAME has the fields; struct msg is any one
 * of them with its type.
 */
#ifndef COMMON_MSG_H
#define COMMON_MSG_H

#include "common/cursor.h"
#include "common/roles.h"

/* As MSG_FETCH_REPLY has: 64 objects, and the file of their records. */
#define MSG_FDS_MAX 65
/* Octets of one encoded message, its two-octet type included. */
#define MSG_BYTES_MAX (160 * 1024)

struct msg_fds {
	int fd[MSG_FDS_MAX];
	unsigned n;
};

/* The structs. */
#define U8(name) uint8_t name;
#define U16(name) uint16_t name;
#define U32(name) uint32_t name;
#define U64(name) uint64_t name;
#define STR(name, max) struct slice name;
#define BLOB(name, max) struct slice name;
#define SECRET(name, max) struct slice name;
#define FD(name) int name;
#define FDS(name, max) struct msg_fds name;
#define MSG(NAME, from, to, fields)                                                                \
	struct msg_##NAME {                                                                        \
		uint8_t msg_unused;                                                                \
		fields                                                                             \
	};
#include "common/messages.def"
#include "common/msg/undef.def"

enum msg_type {
	MSG_NONE,
#define MSG(NAME, from, to, fields) MSG_##NAME,
#include "common/messages.def"
#undef MSG
	MSG_TYPE_COUNT
};

struct msg {
	enum msg_type type;
	union {
#define MSG(NAME, from, to, fields) struct msg_##NAME NAME;
#include "common/messages.def"
#undef MSG
	} u;
};

struct msg_info {
	const char *name;
	uint32_t from; /* set of ROLE_BIT */
	uint32_t to;
};

/* The row of a type; type < MSG_TYPE_COUNT. */
const struct msg_info *msg_info(enum msg_type type);
/* True when the table lets `from` send this type to `to`. */
bool msg_allowed(enum msg_type type, enum role from, enum role to);

/*
 * Encodes m into b (reset first) and lists its descriptors (borrowed, not duplicated) in fds_r. False when a
 * field passes its maximum: our own fault, so the callers assert it, save where a field comes from outside.
 */
bool msg_encode(const struct msg *m, struct buf *b, struct msg_fds *fds_r)
    __attribute__((warn_unused_result));
/*
 * Decodes hostile octets. On success m's slices point into `in`, and its FD fields hold the descriptors of
 * fds (still owned by the caller until it says otherwise). False for an unknown type, a field out of bounds,
 * left-over octets or the wrong number of descriptors.
 */
bool msg_decode(struct slice in, const struct msg_fds *fds, struct msg *m)
    __attribute__((warn_unused_result));

/* SHA-256 over the table's text as compiled in: equal in programs that speak the same messages. */
void msg_table_hash(uint8_t hash_r[32]);

#endif
