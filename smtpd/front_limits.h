/* What one session and all of them may cost, and how long they may take (smtpd/front.h). */
#ifndef SMTPD_FRONT_LIMITS_H
#define SMTPD_FRONT_LIMITS_H

/* Limits. Each has its reply in brackets. */
#define FRONT_LINE_BYTES_MAX 4096	  /* a command line with CRLF [500 5.5.2]; RFC 5321 4.5.3.1.4 asks 512 */
#define FRONT_AUTH_LINE_BYTES_MAX 12290	  /* RFC 4954 4: 12288 and CRLF [500 5.5.2] */
#define FRONT_THROWN_BYTES_MAX (1u << 20) /* of over-long lines in one session [421 4.7.0] */
#define FRONT_BAD_COMMANDS_MAX 20	  /* [421 4.7.0] */
#define FRONT_REFUSED_RECIPIENTS_MAX 200  /* in one session [421 4.7.0] */
#define FRONT_FAILED_LOGINS_MAX 3	  /* [421 4.7.0] */
#define FRONT_COMMANDS_MAX 20000	  /* in one session [421 4.7.0] */
#define FRONT_TRANSACTIONS_MAX 1000	  /* in one session [421 4.7.0] */
#define FRONT_INPUT_BYTES_MAX (64u * 1024)
#define FRONT_TRANSACTION_BYTES_MAX (4u << 20) /* memory for the envelope [452 4.5.3] */
#define FRONT_MEMFD_BYTES_MAX (1u << 20)       /* of a message; what is longer goes to a spool file */
#define FRONT_MEMORY_BYTES_MAX (256u << 20)    /* of all messages in memory files; past it even small ones go to spool files */
/* Octets of a message that is too big, and of chunks that were refused, in one session: more than that over the
 * size limit is not read to its end [421 4.3.4]. */
#define FRONT_SWALLOW_BYTES_MAX (64u << 20)
#define FRONT_ORCPT_BYTES_MAX 16000 /* of all ORCPT in a transaction: they must fit a record of the queue [452 4.5.3] */
#define FRONT_STEP_COMMANDS_MAX 64	       /* then other sessions have their turn */

/* Times. */
/* Who talks before the greeting is no mail server [554 5.5.1]. None for whom smtpd_client_is_known(). */
#define FRONT_GREET_DELAY_MS 20
#define FRONT_ASK_MS 20000		 /* for directory, store and queue [451 4.3.0] */
#define FRONT_DELIVER_MS 110000		 /* RFC 6409 4: every command is answered within two minutes */
#define FRONT_DATA_MS_MAX (60u * 60 * 1000) /* for one message's data [421 4.4.2] */
#define FRONT_STREAM_GRACE_MS 10000

#endif
