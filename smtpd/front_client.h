/*
 * front_client: who the client of a session is (port 25 only): what the DNS says of its address, and how much came from it lately.
 */
#ifndef SMTPD_FRONT_CLIENT_H
#define SMTPD_FRONT_CLIENT_H

#include "smtpd/front_rate.h"
#include "smtpd/smtp_grammar.h"

struct front;

/* The client has connected, or its address (f->client) is another one now: what was asked about the former is forgotten. */
void smtpd_client_begin(struct front *f);
/* True: what the DNS says of it is not known yet, and smtpd_data_give() will be called when it is. */
bool smtpd_client_wait(struct front *f);
/* Its address, or its network, has begun messages lately: it has waited for greetings before. */
bool smtpd_client_is_known(const struct front *f);
/* One more of that kind came from it. */
void smtpd_rate_add(struct front *f, enum front_rate_kind kind);
/* No more of that kind is taken from it for the moment. */
bool smtpd_rate_spent(const struct front *f, enum front_rate_kind kind);

#endif
