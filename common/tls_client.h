/*
 * tls_client: the client's side of TLS, under a stream. Who the server must prove to be is told per connection: nobody in
 * particular, a name by a certificate of a known authority, or what TLSA records say (RFC 7672).
 */
#ifndef COMMON_TLS_CLIENT_H
#define COMMON_TLS_CLIENT_H

#include "common/err.h"
#include "common/slice.h"

struct stream;
struct tls_client;

enum tls_client_check {
	TLS_CLIENT_ANY,	 /* encrypted, with whoever it is; whether it could have proved its name is noted */
	/* A chain to a known authority, and one of the names (RFC 6125) as a DNS-ID: a common name does not count (RFC 8461 4.2). */
	TLS_CLIENT_NAME,
	TLS_CLIENT_DANE, /* one of the TLSA records; without a usable one as TLS_CLIENT_ANY (RFC 7672 2.2) */
};

/* Names that a certificate may have, the server name sent included. */
#define TLS_CLIENT_NAMES_MAX 3
#define TLS_CLIENT_NAME_BYTES_MAX 253
/* Records of one host that are looked at. */
#define TLS_CLIENT_TLSA_MAX 32

struct tls_client_want {
	enum tls_client_check check;
	/* names[0] is also the server name that is sent, and the TLSA base domain; without one nothing is sent. A-labels. */
	struct slice names[TLS_CLIENT_NAMES_MAX];
	unsigned name_count;
	/* The RDATA of TLSA records. Certificate usages 2 and 3 count, others are unusable (RFC 7672 3.1.3). */
	const struct slice *tlsa;
	unsigned tlsa_count;
};

enum tls_client_proof {
	TLS_PROOF_NONE,
	TLS_PROOF_CA,	   /* a chain to a known authority, and the name */
	TLS_PROOF_DANE_TA, /* usage 2 */
	TLS_PROOF_DANE_EE, /* usage 3: neither name nor dates counted (RFC 7672 3.1.1) */
};

struct tls_client_facts {
	enum tls_client_proof proof;
	const char *why; /* why there is no proof; "" when there is one. Static. */
	unsigned usable; /* TLSA records that counted */
};

/* The word for the time line: "none", "ca", "dane-ta", "dane-ee". */
const char *tls_client_proof_name(enum tls_client_proof p);

/*
 * The process's client side; to be called before the sandbox closes. ca_file: certificates of the known authorities, PEM, "": none.
 * A file that cannot be read is logged: nobody can prove a name by an authority then. NULL and e when OpenSSL fails. Blocks on
 * that file.
 */
struct tls_client *tls_client_new(const char *ca_file, struct err *e);
void tls_client_free(struct tls_client **c);
/* Whether want has a TLSA record that counts: a host with only others must have TLS, but proves nothing (RFC 7672 2.2). */
bool tls_client_tlsa_usable(struct tls_client *c, const struct tls_client_want *want);

/*
 * Begins TLS 1.2 or 1.3 on s, which is open and in clear. Input buffered in clear is discarded, after queued output was flushed in
 * clear. on_ready follows when the handshake is done; failure ends the stream, stream_error() says why. want is not kept.
 */
void tls_client_start(struct stream *s, struct tls_client *c, const struct tls_client_want *want);
/* After the handshake, or a failed one, until the stream is freed. All zero on a stream where none was begun. */
void tls_client_facts(const struct stream *s, struct tls_client_facts *facts_r);

#endif
