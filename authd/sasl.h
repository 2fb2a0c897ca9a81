/*
 * sasl: the server's side of the mechanisms that hand over a password: PLAIN
 * (RFC 4616) and LOGIN (draft-murchison-sasl-login, for old devices). Pure: octets
 * in, a challenge or a credential out; base64 is the protocol's, not ours.
 */
#ifndef AUTHD_SASL_H
#define AUTHD_SASL_H

#include "common/slice.h"

#define SASL_LOGIN_BYTES_MAX 320
/* RFC 4616 2 wants 255 octets taken; what is longer is no password that could be set. */
#define SASL_PASSWORD_BYTES_MAX 256

enum sasl_state {
	SASL_IDLE,
	SASL_PLAIN_MESSAGE,  /* waits for the one message of PLAIN */
	SASL_LOGIN_NAME,     /* waits for the name */
	SASL_LOGIN_PASSWORD, /* waits for the password */
};

enum sasl_outcome {
	SASL_CHALLENGE = 1, /* send `challenge` */
	SASL_CREDENTIAL,    /* login and password are there */
	SASL_REFUSED,	    /* no usable credential: fails as a wrong password does */
	SASL_OUT_OF_ORDER,  /* a response without an exchange */
	SASL_UNKNOWN,	    /* a mechanism that we do not have */
};

/* Caller's struct; wipe it with sasl_reset() whatever the outcome was. */
struct sasl {
	enum sasl_state state;
	struct slice challenge; /* static text */
	size_t login_bytes;
	size_t password_bytes;
	uint8_t login[SASL_LOGIN_BYTES_MAX];
	uint8_t password[SASL_PASSWORD_BYTES_MAX];
};

void sasl_init(struct sasl *s);
/* Wipes everything; idle again. */
void sasl_reset(struct sasl *s);

/* Begins an exchange, after a reset. has_response tells an absent initial response from an empty
 * one. */
enum sasl_outcome sasl_start(
    struct sasl *s, struct slice mechanism, bool has_response, struct slice response);
/* The client's answer to the last challenge. */
enum sasl_outcome sasl_step(struct sasl *s, struct slice response);

static inline struct slice
sasl_login(const struct sasl *s)
{
	return slice_of(s->login, s->login_bytes);
}

static inline struct slice
sasl_password(const struct sasl *s)
{
	return slice_of(s->password, s->password_bytes);
}

#endif
