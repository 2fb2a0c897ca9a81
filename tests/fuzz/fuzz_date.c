/* Dates: what is parsed can be printed and parsed again to the same instant. */
#include "common/date.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct slice in = slice_of(data, n);
	struct date_time d, again;
	char out[DATE_RFC5322_SIZE];
	int64_t day, day_again;

	if (date_rfc5322_parse(in, &d)) {
		date_rfc5322_print(d, out);
		if (date_rfc5322_parse(slice_str(out), &again) && d.seconds > -2208902400 &&
		    d.seconds < 253402214400)
			assert(again.seconds == d.seconds && again.zone_minutes == d.zone_minutes);
		date_rfc3339_print(d.seconds, out);
	}
	if (date_imap_parse(in, &d)) {
		date_imap_print(d, out);
		if (date_imap_parse(slice_str(out), &again) && d.seconds > -62135500000 &&
		    d.seconds < 253402214400)
			assert(again.seconds == d.seconds);
	}
	if (date_rfc3339_parse(in, &day)) {
		date_rfc3339_print(day, out);
		bool ok = date_rfc3339_parse(slice_str(out), &day_again);

		assert(ok && day == day_again);
	}
	if (date_day_parse(in, &day)) {
		date_day_print(day, out);
		bool ok = date_day_parse(slice_str(out), &day_again);

		assert(ok && day == day_again);
	}
	return 0;
}
