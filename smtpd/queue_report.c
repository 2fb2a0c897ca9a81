#include "smtpd/queue.h"

#include "smtpd/dsn_item.h"

unsigned
queue_report_mark(struct queue_item *item, bool delay)
{
	unsigned n = 0;

	if (item->report_id.n > 0)
		return 0;
	for (uint16_t i = 0; i < item->count; i++) {
		uint8_t news = dsn_told_flag(dsn_due(item, i, delay));
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
