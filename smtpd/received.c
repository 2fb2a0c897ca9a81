#include "smtpd/received.h"

#include "common/date.h"
#include "smtpd/smtp_grammar.h"

#include <arpa/inet.h>
#include <assert.h>

void
received_ip_text(const uint8_t ip[16], char out[46])
{
	static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
	const char *got = memcmp(ip, mapped, sizeof(mapped)) == 0 ? inet_ntop(AF_INET, ip + 12, out, 46)
								   : inet_ntop(AF_INET6, ip, out, 46);

	assert(got != NULL);
}

/* address-literal of RFC 5321 4.1.3 */
static void
put_literal(struct buf *b, const uint8_t ip[16])
{
	char text[46];

	received_ip_text(ip, text);
	buf_putf(b, "[%s%s]", strchr(text, ':') ? "IPv6:" : "", text);
}

bool
received_ip_known(const uint8_t ip[16])
{
	static const uint8_t none[16];

	return memcmp(ip, none, sizeof(none)) != 0;
}

/*
 * From-domain: what the client called itself when that is a name, else its address; then TCP-info, if it came over TCP. Where a user
 * is, and what his machine is called, is nobody's business but the operator's, who finds it in the time line.
 */
static void
put_from(struct buf *b, const struct received_facts *f)
{
	const struct envelope *e = f->envelope;
	bool tcp = received_ip_known(e->client_ip) && !f->authenticated;

	buf_put_str(b, "from ");
	if (f->authenticated)
		buf_put_str(b, "localhost");
	else if (smtp_helo_valid(e->helo))
		buf_put_slice(b, e->helo);
	else if (tcp)
		put_literal(b, e->client_ip);
	else
		buf_put_str(b, "localhost");
	if (!tcp) {
		buf_put_str(b, "\r\n\t");
		return;
	}
	buf_put_str(b, " (");
	if (smtp_domain_valid(e->rdns, false)) {
		buf_put_slice(b, e->rdns);
		buf_put_u8(b, ' ');
	}
	put_literal(b, e->client_ip);
	buf_put_str(b, ")\r\n\t");
}

/* RFC 3848, RFC 6531 4.3: S for TLS, A for authenticated; neither ever follows plain SMTP. */
static void
put_protocol(struct buf *b, const struct received_facts *f)
{
	const struct envelope *e = f->envelope;
	bool extended = e->esmtp || e->tls || f->authenticated;

	if (e->smtputf8)
		buf_put_str(b, e->lmtp ? "UTF8LMTP" : "UTF8SMTP");
	else if (e->lmtp)
		buf_put_str(b, "LMTP");
	else
		buf_put_str(b, extended ? "ESMTP" : "SMTP");
	buf_put_str(b, e->tls ? "S" : "");
	buf_put_str(b, f->authenticated ? "A" : "");
}

/* The cipher suite's name of "TLS1.3 TLS_AES_256_GCM_SHA384", if it is one. */
static struct slice
cipher(struct slice tls_text)
{
	struct slice name = slice_sub(tls_text, slice_index(tls_text, ' ') + 1, tls_text.n);

	for (size_t i = 0; i < name.n; i++)
		if (!ascii_alpha(name.p[i]) && !ascii_digit(name.p[i]) && name.p[i] != '_' && name.p[i] != '-')
			return slice_of(NULL, 0);
	return name;
}

bool
received_return_path(const struct received_facts *f, struct buf *b)
{
	buf_putf(b, "Return-Path: <%.*s>\r\n", SLICE_ARG(f->envelope->mail_from));
	return !b->failed;
}

bool
received_print(const struct received_facts *f, struct buf *b)
{
	const struct envelope *e = f->envelope;
	char date[DATE_RFC5322_SIZE];

	date_rfc5322_print((struct date_time){.seconds = f->now}, date);
	buf_put_slice(b, f->authres);
	buf_put_str(b, "Received: ");
	put_from(b, f);
	buf_putf(b, "by %.*s with ", SLICE_ARG(f->hostname));
	put_protocol(b, f);
	buf_putf(b, " id %.*s", SLICE_ARG(f->queue_id));
	/* With several recipients it would tell each of them about another (RFC 5321 7.2). */
	if (e->recipient_count == 1)
		buf_putf(b, "\r\n\tfor <%.*s>", SLICE_ARG(e->recipients[0]));
	if (e->priority != 0)
		buf_putf(b, "\r\n\tpriority %d", e->priority);
	if (e->tls && cipher(e->tls_text).n > 0)
		buf_putf(b, "\r\n\ttls %.*s", SLICE_ARG(cipher(e->tls_text)));
	buf_putf(b, ";\r\n\t%s\r\n", date);
	return !b->failed;
}

bool
received_complete(const struct received_facts *f, bool date, bool message_id, struct buf *b)
{
	char text[DATE_RFC5322_SIZE];

	date_rfc5322_print((struct date_time){.seconds = f->now}, text);
	if (date)
		buf_putf(b, "Date: %s\r\n", text);
	if (message_id)
		buf_putf(b, "Message-ID: <%.*s@%.*s>\r\n", SLICE_ARG(f->queue_id), SLICE_ARG(f->hostname));
	return !b->failed;
}
