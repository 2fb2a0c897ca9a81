/* Texts may come in several events, each with the other fields again, of which the last count. */
#include "admin/replay_input.h"

#include "smtpd/answers.h"

#include <string.h>

#define AUTHOR_BYTES_MAX 1024

void
replay_input_init(struct replay_input *in)
{
	memset(in, 0, sizeof *in);
	buf_init(&in->dkim_octets, REPLAY_FIELDS_BYTES_MAX);
	buf_init(&in->arc_octets, REPLAY_FIELDS_BYTES_MAX);
	buf_init(&in->author_octets, AUTHOR_BYTES_MAX);
}

void
replay_input_fini(struct replay_input *in)
{
	buf_fini(&in->dkim_octets);
	buf_fini(&in->arc_octets);
	buf_fini(&in->author_octets);
}

/* DKIM_BROKEN_COUNT for a text that is none. */
static enum dkim_broken
broken_named(struct slice text)
{
	enum dkim_broken b = DKIM_BROKEN_NOT;

	while (b < DKIM_BROKEN_COUNT && !slice_eq(text, slice_str(dkim_broken_text(b))))
		b++;
	return b;
}

static void
take_dkim(struct replay_input *in, const json_t *row)
{
	uint64_t number = event_row_number(row, "number");
	bool next = number == in->dkim_count && number < DKIM_SIGNATURES_MAX;
	struct dkim_evidence *e;

	if (!next && number + 1 != in->dkim_count) {
		in->dkim_bad = true;
		return;
	}
	e = &in->dkim[number];
	if (next) {
		in->dkim_count++;
		in->dkim_at[number] = in->dkim_octets.n;
	}
	in->now = event_row_number(row, "at");
	in->broken = broken_named(event_row_slice(row, "broken"));
	in->dkim_bad |= in->broken == DKIM_BROKEN_COUNT || !answers_unescape(event_row_slice(row, "field"), &in->dkim_octets);
	e->too_long = event_row_number(row, "too_long") != 0;
	e->body_octets = event_row_number(row, "body_octets");
	e->hashed = slice_unhex(event_row_slice(row, "header"), e->header, 32) && slice_unhex(event_row_slice(row, "body"), e->body, 32);
}

static void
take_arc(struct replay_input *in, const json_t *row)
{
	in->has_arc = true;
	in->now = event_row_number(row, "at");
	in->arc.large = event_row_number(row, "large") != 0;
	buf_reset(&in->author_octets);
	in->arc_bad |= !answers_unescape(event_row_slice(row, "author"), &in->author_octets) ||
	    !answers_unescape(event_row_slice(row, "fields"), &in->arc_octets);
}

static void
take_hash(struct replay_input *in, const json_t *row)
{
	struct slice of = event_row_slice(row, "of"), hash = event_row_slice(row, "hash");
	uint64_t instance = event_row_number(row, "of");

	if (slice_eq(of, SLICE("simple")) || slice_eq(of, SLICE("relaxed"))) {
		bool relaxed = slice_eq(of, SLICE("relaxed"));

		in->arc.has_body[relaxed] = slice_unhex(hash, in->arc.body[relaxed], 32);
	} else if (instance >= 1 && instance <= ARC_SETS_MAX) {
		in->arc.has_message[instance - 1] = slice_unhex(hash, in->arc.message[instance - 1], 32);
	} else {
		in->arc_bad = true;
	}
}

void
replay_input_take(struct replay_input *in, const json_t *row)
{
	const char *event = event_row_text(row, "event");

	if (strcmp(event, "dkim-input") == 0)
		take_dkim(in, row);
	else if (strcmp(event, "arc-input") == 0)
		take_arc(in, row);
	else if (strcmp(event, "arc-hash") == 0)
		take_hash(in, row);
}

void
replay_input_end(struct replay_input *in)
{
	for (unsigned i = 0; i < in->dkim_count; i++)
		in->dkim[i].field = slice_sub(buf_slice(&in->dkim_octets), in->dkim_at[i],
		    i + 1 < in->dkim_count ? in->dkim_at[i + 1] : in->dkim_octets.n);
	in->arc.fields = buf_slice(&in->arc_octets);
	in->author = buf_slice(&in->author_octets);
}
