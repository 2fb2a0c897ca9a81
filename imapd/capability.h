/*
 * capability: what IMAP says it can, in each state (RFC 3501 7.2.1). The front speaks before login, the worker after it.
 */
#ifndef IMAPD_CAPABILITY_H
#define IMAPD_CAPABILITY_H

#define CAPABILITY_COMMON "IMAP4rev1 LITERAL+ ID ENABLE"
/* In clear: nothing that carries a password (RFC 3501 11.2). */
#define CAPABILITY_CLEAR CAPABILITY_COMMON " STARTTLS LOGINDISABLED"
#define CAPABILITY_CLEAR_NO_TLS CAPABILITY_COMMON " LOGINDISABLED"
#define CAPABILITY_TLS CAPABILITY_COMMON " SASL-IR AUTH=PLAIN AUTH=LOGIN"
#define CAPABILITY_LOGGED_IN                                                                       \
	CAPABILITY_COMMON                                                                          \
	" IDLE NAMESPACE UIDPLUS CHILDREN UNSELECT MOVE SPECIAL-USE CREATE-SPECIAL-USE"             \
	" LIST-EXTENDED LIST-STATUS UTF8=ACCEPT"

/* The answer to ID: our name, without a version before anyone has logged in. */
#define IMAP_ID_TEXT "(\"name\" \"Mailstead\")"

#endif
