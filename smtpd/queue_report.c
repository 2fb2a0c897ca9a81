#include "smtpd/queue.h"

/* What the sender is to be told of r now, as the flag that says he was. 0: nothing. Without NOTIFY it is what RFC 3461 4.1 has for that. */
static uint8_t
news_of(const struct queue_recipient *r, bool delay)
{
	uint8_t wish = r->notify != 0 ? r->notify : SMTP_NOTIFY_FAILURE | SMTP_NOTIFY_DELAY;
	uint8_t news = 0;

	if (r->state == QUEUE_FAILED && (wish & SMTP_NOTIFY_FAILURE))
		news = QUEUE_REPORTED_FAILURE;
	else if (r->state == QUEUE_DONE && (wish & SMTP_NOTIFY_SUCCESS) && !(r->flags & QUEUE_DSN_PASSED))
		news = QUEUE_REPORTED_SUCCESS;
	else if (r->state == QUEUE_PENDING && delay && (wish & SMTP_NOTIFY_DELAY))
		news = QUEUE_REPORTED_DELAY;
	return (uint8_t)(news & ~r->flags);
}

unsigned
queue_report_mark(struct queue_item *item, bool delay)
{
	unsigned n = 0;

	/* RFC 5321 6.1: nobody is behind it. */
	if (item->mail_from.n == 0 || item->report_id.n > 0)
		return 0;
	for (uint16_t i = 0; i < item->count; i++) {
		uint8_t news = news_of(&item->recipients[i], delay);
		if (news == 0)
			continue;
		item->recipients[i].flags |= (uint8_t)(news | QUEUE_IN_REPORT);
		n++;
	}
	return n;
}

void
queue_report_end(struct queue_item *item)
{
	item->report_id = slice_of(NULL, 0);
	for (uint16_t i = 0; i < item->count; i++)
		item->recipients[i].flags &= (uint8_t)~QUEUE_IN_REPORT;
}
