/*
 * auth_proto: the small numbers of authd's messages, shared by those who ask it.
 */
#ifndef COMMON_AUTH_PROTO_H
#define COMMON_AUTH_PROTO_H

enum auth_status {
	AUTH_CONTINUE = 1, /* send the challenge, relay the answer */
	AUTH_OK,	   /* a lease is open for this connection */
	AUTH_FAILED,	   /* wrong, whoever it was: same text, same time */
	AUTH_MALFORMED,	   /* the exchange itself is wrong (RFC 4954 4: 501) */
	AUTH_UNSUPPORTED,  /* mechanism not offered (504) */
	AUTH_TEMP,	   /* try later (454) */
};

/* Stable numbers: decisions are recorded with them (smtpd/policy_inputs.def). */
enum dir_status {
	DIR_LOCAL = 1,	   /* accounts[] has at least one */
	DIR_UNKNOWN,	   /* our domain, no such address: 550 5.1.1 */
	DIR_NOT_OURS,	   /* not a domain of ours: 550 5.7.1 on port 25 */
	DIR_DISABLED,	   /* suspended: 550 5.2.1 */
	DIR_TEMP,	   /* 451 4.3.0 */
};

#endif
