#include "smtpd/deliver_notice.h"

#include "smtpd/deliver.h"
#include "smtpd/deliver_report.h"

#include "common/config.h"
#include "common/date.h"

static struct slice
domain_of(struct slice address)
{
	return slice_sub(address, slice_rindex(address, '@') + 1, address.n);
}

/* To the account, and to the postmaster who can do something about it. */
static bool
address_notice(struct job *j, struct slice login)
{
	struct slice *to = arena_array(j->arena, 2, sizeof(*to));
	struct envelope_dsn *dsn = arena_array(j->arena, 2, sizeof(*dsn));
	struct buf b;
	bool good;

	if (to == NULL || dsn == NULL)
		return false;
	buf_init(&b, ENVELOPE_ADDRESS_BYTES_MAX);
	buf_putf(&b, "postmaster@%.*s", SLICE_ARG(domain_of(login)));
	good = !b.failed && arena_copy(j->arena, login, &to[0]) && arena_copy(j->arena, buf_slice(&b), &to[1]);
	buf_fini(&b);
	dsn[0] = dsn[1] = (struct envelope_dsn){.notify = SMTP_NOTIFY_NEVER};
	j->envelope = (struct envelope){.received_us = clock_wall_us(), .recipients = to, .dsn = dsn, .recipient_count = 2,
	    .smtputf8 = !slice_is_ascii(login), .eightbit = !slice_is_ascii(login)};
	return good;
}

void
deliver_notice_held(const struct job *about, uint32_t addresses)
{
	struct job *j = deliver_job_new();
	struct report *r = j ? ARENA_NEW(j->arena, struct report) : NULL;

	if (r == NULL || !address_notice(j, about->login)) {
		log_event(LOG_WARN, slice_str(about->session), "no-notice", LOG_STR("login", about->login), LOG_END);
		if (j != NULL)
			deliver_job_end(j);
		return;
	}
	*r = (struct report){.notice = true, .addresses = addresses, .dsn.mail_from = j->envelope.recipients[0]};
	memcpy(r->of, about->queue_id, sizeof(r->of));
	memcpy(j->session, about->session, sizeof(j->session));
	smtp_queue_id(clock_wall_us() / 1000, j->queue_id);
	j->report = r;
	j->from_queue = true; /* no client waits for it */
	deliver_resolve(j);
}

bool
deliver_notice_write(const struct job *j, struct buf *b)
{
	struct slice login = j->envelope.recipients[0], postmaster = j->envelope.recipients[1];
	char date[DATE_RFC5322_SIZE];

	date_rfc5322_print((struct date_time){.seconds = (int64_t)(j->envelope.received_us / 1000000)}, date);
	buf_putf(b, "Date: %s\r\nFrom: Mail server <%.*s>\r\nTo: <%.*s>\r\nCc: <%.*s>\r\n", date, SLICE_ARG(postmaster), SLICE_ARG(login),
	    SLICE_ARG(postmaster));
	buf_putf(b, "Subject: Mail of %.*s is held\r\nMessage-ID: <%s@%s>\r\n", SLICE_ARG(login), j->queue_id,
	    config_string(role_config(), OPT_HOSTNAME));
	buf_putf(b, "Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
		    "Content-Transfer-Encoding: %s\r\n\r\n", slice_is_ascii(login) ? "7bit" : "8bit");
	buf_putf(b, "The account %.*s has sent mail within a day to more than\r\n"
		    "%u addresses of other servers that it has not written to lately. That\r\n"
		    "looks as if somebody else had its password.\r\n\r\n", SLICE_ARG(login), j->report->addresses);
	buf_putf(b, "What it sends to other servers is held from now on for the rest of the\r\n"
		    "day; the first message that is has the id %s.\r\n"
		    "Mail within this server is not concerned.\r\n\r\n", j->report->of);
	buf_put_str(b, "If you have sent this mail, ask the postmaster to release it. If not,\r\n"
		       "change your password at once, and tell the postmaster.\r\n\r\n");
	buf_putf(b, "For the postmaster: mailstead queue list state=held, mailstead queue\r\n"
		    "release or discard ID, mailstead account passwd %.*s;\r\n"
		    "the limit is the setting submission.day_addresses.\r\n", SLICE_ARG(login));
	return !b->failed;
}
