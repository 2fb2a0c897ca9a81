/*
 * One encoder and one decoder per message, all made from the table, so that
 * the two cannot disagree. Layout: u16 type, then the fields in table order;
 * integers big-endian; STR, BLOB and SECRET a u32 length and the octets; FD an
 * octet 0/1 and FDS an octet count, with the descriptors beside the message.
 */
#include "common/msg.h"

#include <assert.h>
#include <openssl/evp.h>

#define R(NAME) ROLE_BIT(ROLE_##NAME)
#define R_ALL UINT32_MAX
#define R_FRONTS (R(SMTP_FRONT) | R(SUBMISSION) | R(IMAP_FRONT) | R(POP3_FRONT))
#define R_AUTH_FRONTS (R(SUBMISSION) | R(IMAP_FRONT) | R(POP3_FRONT))
#define R_STORE_CLIENTS (R(DELIVER) | R(IMAP_WORKER) | R(POP3_WORKER) | R(ADMIN))

const struct msg_info *
msg_info(enum msg_type type)
{
	static const struct msg_info table[MSG_TYPE_COUNT] = {
	    [MSG_NONE] = {"NONE", 0, 0},
#define MSG(NAME, from, to, fields) [MSG_##NAME] = {#NAME, from, to},
#include "common/messages.def"
#undef MSG
	};

	assert((unsigned)type < MSG_TYPE_COUNT);
	return &table[type];
}

bool
msg_allowed(enum msg_type type, enum role from, enum role to)
{
	const struct msg_info *row = msg_info(type);

	return (row->from & ROLE_BIT(from)) != 0 && (row->to & ROLE_BIT(to)) != 0;
}

struct encoder {
	struct buf *b;
	struct msg_fds *fds;
	bool bad;
};

struct decoder {
	struct cursor c;
	const struct msg_fds *fds;
	unsigned fds_used;
};

static void
encode_slice(struct encoder *e, struct slice s, size_t max)
{
	if (s.n > max)
		e->bad = true;
	else
		put_slice(e->b, s);
}

static void
encode_fds(struct encoder *e, const int *fd, unsigned n, unsigned max)
{
	if (n > max || n > MSG_FDS_MAX - e->fds->n) {
		e->bad = true;
		return;
	}
	put_u8(e->b, (uint8_t)n);
	for (unsigned i = 0; i < n; i++)
		e->fds->fd[e->fds->n++] = fd[i];
}

static void
decode_fds(struct decoder *d, int *fd, unsigned *n_r, unsigned max)
{
	unsigned n = cursor_u8(&d->c);

	*n_r = 0;
	if (n > max || n > d->fds->n - d->fds_used) {
		d->c.bad = true;
		return;
	}
	for (unsigned i = 0; i < n; i++)
		fd[i] = d->fds->fd[d->fds_used++];
	*n_r = n;
}

static void
decode_fd(struct decoder *d, int *fd)
{
	unsigned n;

	*fd = -1;
	decode_fds(d, fd, &n, 1);
}

#define U8(name) put_u8(e->b, m->name);
#define U16(name) put_u16(e->b, m->name);
#define U32(name) put_u32(e->b, m->name);
#define U64(name) put_u64(e->b, m->name);
#define STR(name, max) encode_slice(e, m->name, max);
#define BLOB(name, max) encode_slice(e, m->name, max);
#define SECRET(name, max) encode_slice(e, m->name, max);
#define FD(name) encode_fds(e, &m->name, m->name >= 0, 1);
#define FDS(name, max) encode_fds(e, m->name.fd, m->name.n, max);
#define MSG(NAME, from, to, fields)                                                                \
	static void encode_##NAME(struct encoder *e, const struct msg_##NAME *m)                   \
	{                                                                                          \
		(void)e;                                                                           \
		(void)m;                                                                           \
		fields                                                                             \
	}
#include "common/messages.def"
#include "common/msg/undef.def"

#define U8(name) m->name = cursor_u8(&d->c);
#define U16(name) m->name = cursor_u16(&d->c);
#define U32(name) m->name = cursor_u32(&d->c);
#define U64(name) m->name = cursor_u64(&d->c);
#define STR(name, max) m->name = cursor_slice(&d->c, max);
#define BLOB(name, max) m->name = cursor_slice(&d->c, max);
#define SECRET(name, max) m->name = cursor_slice(&d->c, max);
#define FD(name) decode_fd(d, &m->name);
#define FDS(name, max) decode_fds(d, m->name.fd, &m->name.n, max);
#define MSG(NAME, from, to, fields)                                                                \
	static void decode_##NAME(struct decoder *d, struct msg_##NAME *m)                         \
	{                                                                                          \
		(void)d;                                                                           \
		m->msg_unused = 0;                                                                 \
		fields                                                                             \
	}
#include "common/messages.def"
#include "common/msg/undef.def"

bool
msg_encode(const struct msg *m, struct buf *b, struct msg_fds *fds_r)
{
	struct encoder e = {b, fds_r, false};

	fds_r->n = 0;
	buf_reset(b);
	put_u16(b, (uint16_t)m->type);
	switch (m->type) {
#define MSG(NAME, from, to, fields)                                                                \
	case MSG_##NAME:                                                                           \
		encode_##NAME(&e, &m->u.NAME);                                                     \
		break;
#include "common/messages.def"
#undef MSG
	default:
		return false;
	}
	return !e.bad && !b->failed;
}

bool
msg_decode(struct slice in, const struct msg_fds *fds, struct msg *m)
{
	struct decoder d = {cursor_of(in), fds, 0};
	unsigned type = cursor_u16(&d.c);

	if (d.c.bad || type == MSG_NONE || type >= MSG_TYPE_COUNT)
		return false;
	m->type = (enum msg_type)type;
	switch (m->type) {
#define MSG(NAME, from, to, fields)                                                                \
	case MSG_##NAME:                                                                           \
		decode_##NAME(&d, &m->u.NAME);                                                     \
		break;
#include "common/messages.def"
#undef MSG
	default:
		return false;
	}
	return cursor_done(&d.c) && d.fds_used == fds->n;
}

void
msg_table_hash(uint8_t hash_r[32])
{
	static const char text[] =
#define MSG(NAME, from, to, fields) #NAME "|" #from "|" #to "|" #fields "\n"
#include "common/messages.def"
#undef MSG
#define ROLE(NAME, program, name, daemon, instances) #NAME "|" name "\n"
#include "common/roles.def"
#undef ROLE
	    ;
	int ok = EVP_Digest(text, sizeof text - 1, hash_r, NULL, EVP_sha256(), NULL);

	assert(ok == 1);
}
