#include "smtpd/smtp_reply.h"

#include <assert.h>
#include <stdio.h>

/* Digits of a code. */
#define CODE_DIGITS 3

void
smtp_reply_reset(struct smtp_reply_parser *p)
{
	p->reply.code = 0;
	p->reply.status[0] = '\0';
	p->reply.text_n = 0;
	p->broken = NULL;
	p->state = SMTP_REPLY_CODE;
	p->digits = p->code = p->lines = 0;
	p->line_bytes = 0;
	p->more = false;
}

static void
broken(struct smtp_reply_parser *p, const char *why)
{
	p->state = SMTP_REPLY_BROKEN;
	p->broken = why;
}

static void
keep(struct smtp_reply_parser *p, uint8_t c)
{
	if (p->reply.text_n < SMTP_REPLY_TEXT_MAX)
		p->reply.text[p->reply.text_n++] = c;
}

/* A digit of the code: Reply-code = %x32-35 %x30-35 %x30-39; any digit in the second place. */
static void
take_digit(struct smtp_reply_parser *p, uint8_t c)
{
	if (!ascii_digit(c) || (p->digits == 0 && (c < '2' || c > '5'))) {
		broken(p, "no reply code");
		return;
	}
	p->code = p->code * 10 + (unsigned)(c - '0');
	if (++p->digits == CODE_DIGITS)
		p->state = SMTP_REPLY_MARK;
}

/* What stands behind the code. */
static void
take_mark(struct smtp_reply_parser *p, uint8_t c)
{
	if (p->lines > 0 && p->code / 100 != p->reply.code / 100) {
		broken(p, "lines of one reply contradict each other");
		return;
	}
	p->reply.code = p->code;
	p->more = c == '-';
	if (p->lines > 0)
		keep(p, '\n');
	if (c == '\r')
		p->state = SMTP_REPLY_CR;
	else if (c == ' ' || c == '-')
		p->state = SMTP_REPLY_LINE;
	else
		broken(p, "no space behind a reply code");
}

static void
take_text(struct smtp_reply_parser *p, uint8_t c)
{
	if (c == '\r')
		p->state = SMTP_REPLY_CR;
	else if (c == '\n')
		broken(p, "a line of a reply ends in LF alone");
	else
		keep(p, c == '\t' ? ' ' : c >= 0x20 && c < 0x7f ? c : '?');
}

/* A number of an enhanced code at *at, 1*3DIGIT; false when there is none. */
static bool
status_number(struct slice text, size_t *at)
{
	size_t begin = *at;

	while (*at < text.n && *at < begin + 3 && ascii_digit(text.p[*at]))
		(*at)++;
	return *at > begin;
}

/* The octets that an enhanced code of that class takes at the start of text (RFC 2034 4), 0 when there is none. */
static size_t
status_octets(struct slice text, unsigned class)
{
	size_t at = 2;

	if (text.n < 5 || text.p[0] != '0' + class || text.p[1] != '.' || !status_number(text, &at))
		return 0;
	if (at >= text.n || text.p[at++] != '.' || !status_number(text, &at))
		return 0;
	return at == text.n || text.p[at] == ' ' ? at : 0;
}

static struct slice
reply_text(const struct smtp_reply *r)
{
	return slice_of(r->text, r->text_n);
}

static void
find_status(struct smtp_reply *r)
{
	struct slice rest = reply_text(r), line;
	unsigned class = r->code / 100;

	if (class == 3 || !slice_cut(&rest, '\n', &line))
		return;
	size_t n = status_octets(line, class);

	assert(n < sizeof r->status);
	memcpy(r->status, line.p, n);
	r->status[n] = '\0';
}

static void
end_line(struct smtp_reply_parser *p)
{
	p->lines++;
	p->line_bytes = 0;
	p->digits = p->code = 0;
	if (!p->more) {
		p->state = SMTP_REPLY_ENDED;
		find_status(&p->reply);
	} else if (p->lines == SMTP_REPLY_LINES_MAX) {
		broken(p, "a reply of too many lines");
	} else {
		p->state = SMTP_REPLY_CODE;
	}
}

static void
take(struct smtp_reply_parser *p, uint8_t c)
{
	if (++p->line_bytes > SMTP_REPLY_LINE_BYTES_MAX) {
		broken(p, "a line of a reply is too long");
		return;
	}
	switch (p->state) {
	case SMTP_REPLY_CODE:
		take_digit(p, c);
		break;
	case SMTP_REPLY_MARK:
		take_mark(p, c);
		break;
	case SMTP_REPLY_LINE:
		take_text(p, c);
		break;
	case SMTP_REPLY_CR:
		if (c == '\n')
			end_line(p);
		else
			broken(p, "CR alone in a reply");
		break;
	case SMTP_REPLY_ENDED:
	case SMTP_REPLY_BROKEN:
		break;
	}
}

int
smtp_reply_feed(struct smtp_reply_parser *p, struct slice in, size_t *used_r)
{
	size_t i = 0;

	while (i < in.n && p->state != SMTP_REPLY_ENDED && p->state != SMTP_REPLY_BROKEN)
		take(p, in.p[i++]);
	*used_r = i;
	assert(p->reply.text_n <= SMTP_REPLY_TEXT_MAX);
	if (p->state == SMTP_REPLY_BROKEN)
		return -1;
	return p->state == SMTP_REPLY_ENDED ? 1 : 0;
}

bool
smtp_reply_print(const struct smtp_reply *r, struct buf *out)
{
	struct slice rest = reply_text(r), line;
	bool first = true;

	buf_putf(out, "%u", r->code);
	while (r->text_n > 0 && slice_cut(&rest, '\n', &line)) {
		if (!first)
			line = slice_sub(line, status_octets(line, r->code / 100), line.n);
		line = slice_trim(line);
		first = false;
		if (slice_empty(line))
			continue;
		buf_put_u8(out, ' ');
		buf_put_slice(out, line);
	}
	return !out->failed;
}

static struct slice
first_word(struct slice *rest)
{
	struct slice line = slice_trim(*rest), word;

	if (!slice_cut(&line, ' ', &word))
		word = slice_of(NULL, 0);
	*rest = slice_trim(line);
	return word;
}

/* "RCPTMAX=n" and others (RFC 9422 3). */
static void
take_limits(struct slice line, struct smtp_offer *o)
{
	for (struct slice word = first_word(&line); word.n > 0; word = first_word(&line)) {
		size_t at = slice_index(word, '=');
		struct slice name = slice_sub(word, 0, at), value = slice_sub(word, at + 1, word.n);
		uint64_t n;

		if (!slice_u64(value, UINT32_MAX, &n))
			continue;
		if (slice_eq_nocase(name, SLICE("RCPTMAX")))
			o->rcpt_max = n;
		else if (slice_eq_nocase(name, SLICE("MAILMAX")))
			o->mail_max = n;
	}
}

static void
take_keyword(struct slice line, struct smtp_offer *o)
{
	const struct {
		struct slice name;
		bool *flag;
	} flags[] = {{SLICE("STARTTLS"), &o->starttls}, {SLICE("PIPELINING"), &o->pipelining}, {SLICE("8BITMIME"), &o->eightbit},
	    {SLICE("SMTPUTF8"), &o->smtputf8}, {SLICE("CHUNKING"), &o->chunking}, {SLICE("BINARYMIME"), &o->binary},
	    {SLICE("DSN"), &o->dsn}, {SLICE("REQUIRETLS"), &o->requiretls}, {SLICE("MT-PRIORITY"), &o->priority},
	    {SLICE("SIZE"), &o->size}};
	struct slice word = first_word(&line);

	for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
		if (slice_eq_nocase(word, flags[i].name))
			*flags[i].flag = true;
	if (slice_eq_nocase(word, SLICE("SIZE")) && !slice_u64(line, UINT64_MAX, &o->size_max))
		o->size_max = 0;
	if (slice_eq_nocase(word, SLICE("LIMITS")))
		take_limits(line, o);
	if (slice_eq_nocase(word, SLICE("AUTH")))
		o->auth = line;
}

void
smtp_offer_parse(const struct smtp_reply *r, struct smtp_offer *offer_r)
{
	struct slice rest = reply_text(r), line;

	*offer_r = (struct smtp_offer){.size = false};
	if (r->text_n == 0 || !slice_cut(&rest, '\n', &line))
		return;
	offer_r->name = first_word(&line);
	while (slice_cut(&rest, '\n', &line))
		take_keyword(line, offer_r);
	/* BINARYMIME cannot be used without BDAT (RFC 3030 3). */
	offer_r->binary = offer_r->binary && offer_r->chunking;
}
