/*
 * Who the client is: what the DNS says of its address, asked from the moment it connects and waited for only when a message is
 * complete; and how much came from it lately. Port 25 only: submission knows its users, and who speaks LMTP brings what it got from others.
 */
#include "smtpd/front_client.h"

#include "common/config.h"
#include "common/dns.h"
#include "smtpd/front.h"

static void
trace_lists(struct front *f, const struct client_facts *facts)
{
	for (uint16_t i = 0; i < facts->count; i++) {
		const struct client_list *l = &facts->lists[i];
		char answer[16];

		(void)snprintf(answer, sizeof(answer), "%u.%u.%u.%u", l->answer[0], l->answer[1], l->answer[2], l->answer[3]);
		smtpd_trace(f, "listed", LOG_STR("zone", l->zone), LOG_CSTR("answer", answer),
		    LOG_CSTR("list", l->white ? "white" : "black"), LOG_NUM("weight", l->weight), LOG_END);
	}
}

static void
trace_client(struct front *f)
{
	const struct client_facts *facts = client_check_facts(f->check);

	smtpd_trace(f, "client", LOG_CSTR("iprev", client_iprev_name(facts->iprev)), LOG_STR("name", facts->name),
	    LOG_NUM("lists", facts->count), LOG_NUM("ms", clock_ms() - f->began_ms), LOG_END);
	trace_lists(f, facts);
}

static void
on_known(void *arg)
{
	struct front *f = arg;

	trace_client(f);
	/* A drain may have closed the session meanwhile. */
	if (f->wait != FRONT_WAIT_CLIENT || f->state == FRONT_STATE_CLOSING)
		return;
	smtpd_gone(f);
	smtpd_data_give(f);
	smtpd_step(f);
}

void
smtpd_client_begin(struct front *f)
{
	const struct config *c = role_config();
	struct client_query q = {
	    .black = slice_str(config_string(c, OPT_POLICY_DNSBL)),
	    .white = slice_str(config_string(c, OPT_POLICY_DNSWL)),
	    .timeout_ms = config_number(c, OPT_POLICY_CLIENT_TIMEOUT),
	};

	client_check_free(&f->check);
	if (!smtpd_outside(f))
		return;
	memcpy(q.ip, &f->client.peer.sin6_addr, sizeof(q.ip));
	smtpd_xclient_names(f, &q);
	f->check = client_check_new(role_loop(), dns_client(), &q, on_known, f);
	if (client_check_ended(f->check))
		trace_client(f);
}

bool
smtpd_client_wait(struct front *f)
{
	if (f->check == NULL || client_check_ended(f->check))
		return false;
	f->wait = FRONT_WAIT_CLIENT;
	f->asked_at_ms = clock_ms();
	stream_set_timeout(f->stream, 0);
	return true;
}

/* ---- rates ---- */

static const uint8_t *
address_of(const struct front *f)
{
	return f->client.peer.sin6_addr.s6_addr;
}

void
smtpd_rate_add(struct front *f, enum front_rate_kind kind)
{
	if (smtpd_outside(f))
		front_rate_add(smtpd_service.rates, address_of(f), kind, clock_ms());
}

bool
smtpd_rate_spent(const struct front *f, enum front_rate_kind kind)
{
	static const enum option limits[FRONT_RATE_COUNT] = {
	    [FRONT_RATE_MESSAGES] = OPT_SMTP_RATE_MESSAGES,
	    [FRONT_RATE_RECIPIENTS] = OPT_SMTP_RATE_RECIPIENTS,
	    [FRONT_RATE_UNKNOWN] = OPT_SMTP_RATE_UNKNOWN,
	};

	return smtpd_outside(f) &&
	    front_rate_spent(smtpd_service.rates, address_of(f), kind, config_number(role_config(), limits[kind]), clock_ms());
}

bool
smtpd_client_is_known(const struct front *f)
{
	return front_rate_spent(smtpd_service.rates, address_of(f), FRONT_RATE_MESSAGES, 1, clock_ms());
}
