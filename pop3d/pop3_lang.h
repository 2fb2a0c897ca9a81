/*
 * pop3_lang: LANG (RFC 6856 3). The words of replies are English, in ASCII, and so it is the only language to choose; the front and the
 * worker answer alike.
 */
#ifndef POP3D_POP3_LANG_H
#define POP3D_POP3_LANG_H

#include "pop3d/pop3_command.h"

/* The answer, without the last CRLF: the list, or the language that the range chooses ("en" and "*" do); -ERR for any other. Static. */
const char *pop3_lang_answer(const struct pop3_command *c);

#endif
