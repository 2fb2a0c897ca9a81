#include "smtpd/octets.h"

static void
look_at(struct octets *o, uint8_t c)
{
	if (o->cr && c != '\n') {
		o->bare_cr = true;
		o->line++;
	}
	if (c == '\n') {
		o->bare_lf |= !o->cr;
		o->line = 0;
	} else if (c != '\r') {
		o->line++;
		o->nul |= c == '\0';
		o->eightbit |= c >= 0x80;
	}
	o->line_too_long |= o->line > OCTETS_LINE_MAX;
	o->cr = c == '\r';
}

void
octets_look(struct octets *o, struct slice chunk)
{
	for (size_t i = 0; i < chunk.n; i++)
		look_at(o, chunk.p[i]);
}

void
octets_end(struct octets *o)
{
	o->bare_cr |= o->cr;
	o->cr = false;
}
