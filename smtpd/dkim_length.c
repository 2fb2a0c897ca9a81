/* The empty body counts as 0 octets in both forms; simple's single CRLF for it is no matter of l=. */
#include "smtpd/dkim_length.h"

static void
count_octet(struct dkim_length_form *f, uint8_t octet, bool relaxed)
{
	if (octet == '\n') {
		if (f->line_begun)
			f->octets += 2;
		else
			f->blank_lines++;
		f->line_begun = f->white = false;
	} else if (relaxed && (octet == ' ' || octet == '\t')) {
		f->white = true;
	} else if (octet != '\r') {
		f->octets += 2 * f->blank_lines + f->white + 1;
		f->blank_lines = 0;
		f->white = false;
		f->line_begun = true;
	}
}

void
dkim_length_feed(struct dkim_length *l, struct slice chunk)
{
	for (size_t i = 0; i < chunk.n; i++) {
		count_octet(&l->simple, chunk.p[i], false);
		count_octet(&l->relaxed, chunk.p[i], true);
	}
}
