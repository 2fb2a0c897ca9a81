/* What a session has of the message that it is being given (smtpd/front.h). */
#ifndef SMTPD_FRONT_MESSAGE_H
#define SMTPD_FRONT_MESSAGE_H

#include "common/arena.h"
#include "smtpd/envelope.h"
#include "smtpd/policy.h"
#include "smtpd/smtp_framer.h"

/* What a message's data has become so far. */
struct front_data {
	struct smtp_data_framer framer;
	int fd;		       /* memory file or spool file; -1: none */
	uint64_t bytes;	       /* of the message, also those that were not kept */
	uint64_t memory_bytes; /* of them, those in the memory file */
	uint64_t began_ms;
	uint64_t spool_id;     /* of SPOOL_OPEN; 0: a memory file */
	bool spool_lost;       /* queue, which counted it, has ended: it is not told of the end */
	bool too_big;
	bool no_space;	       /* the spool has no room, or could not be written */
};

struct front_transaction {
	struct arena *arena; /* all of it; reset when it ends */
	struct slice mail_from;
	enum smtp_body body;
	bool smtputf8;
	bool requiretls;
	bool failed; /* a chunk was refused: only RSET helps (RFC 3030 2) */
	uint64_t size; /* as MAIL declared it; 0: it did not */
	enum smtp_ret ret;
	struct slice envid;
	uint64_t release;  /* seconds since 1970; 0: at once (RFC 4865) */
	uint32_t hold_for; /* as MAIL had it */
	int8_t priority;   /* RFC 6710 */
	bool lowered;	   /* that is less than MAIL had */
	struct slice *recipients;
	struct envelope_dsn *dsn; /* of each of them */
	size_t answered;	  /* of them, from the first on (LMTP) */
	size_t recipient_count;
	size_t recipient_cap;
	size_t orcpt_bytes;
	struct envelope_dsn asked_dsn; /* with asked */
	struct slice asked; /* the address that the directory or store is asked about */
	/* What is known of the sender, and of the recipient that is asked about (smtpd/policy.h). */
	struct policy_input mail, rcpt;
	struct front_data data;
};

#endif
