/*
 * The text for the person who sent the message: what happened to which address, whether there is something to do, and what.
 * Who reads it knows nothing of mail servers and did nothing wrong.
 */
#include "smtpd/dsn_private.h"

#include "common/date.h"
#include "common/mime_word.h"
#include "common/rfc5322.h"
#include "smtpd/dsn_words.h"

#define SUBJECT_BYTES_MAX 300
#define REPLY_BYTES_MAX 600 /* of a server's reply, as it is shown */
#define PARAGRAPH_BYTES_MAX 4096

struct text {
	const struct dsn_report *report;
	struct buf line; /* a paragraph that is put together */
	struct buf *out;
};

/* ---- pieces ---- */

static void
flush(struct text *t, unsigned indent)
{
	dsn_put_wrapped(t->out, indent, buf_slice(&t->line));
	buf_reset(&t->line);
}

static void
gap(struct text *t)
{
	buf_put_str(t->out, "\r\n");
}

static void
add(struct text *t, const char *s)
{
	buf_put_str(&t->line, s);
}

static void
add_safe(struct text *t, struct slice s, size_t max)
{
	dsn_put_safe(&t->line, slice_sub(s, 0, max), true);
}

static void
add_date(struct text *t, int64_t seconds)
{
	char text[DATE_RFC5322_SIZE];

	date_rfc5322_print((struct date_time){.seconds = seconds}, text);
	add(t, text);
}

static uint32_t
count(const struct dsn_report *r, enum dsn_action a)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < r->count; i++)
		n += r->recipients[i].action == a;
	return n;
}

/* ---- the beginning ---- */

/* What this is about, for those whom the report has no more to say: one sentence for each action that occurs. */
static void
put_news(struct text *t)
{
	static const struct {
		enum dsn_action action;
		const char *before;
		const char *after;
	} news[] = {
	    {DSN_FAILED, "Your message could not be delivered to ", "."},
	    {DSN_DELAYED, "Your message is on its way, but has not been delivered to ", " yet."},
	    {DSN_DELIVERED, "Your message was delivered to ", "."},
	    {DSN_RELAYED, "Your message was passed on to the mail server of ", "."},
	    {DSN_EXPANDED, "Your message was passed on to those behind ", "."},
	};

	for (size_t i = 0; i < sizeof(news) / sizeof(*news); i++) {
		uint32_t n = count(t->report, news[i].action);
		if (n == 0)
			continue;
		add(t, t->line.n > 0 ? " " : "");
		add(t, news[i].before);
		if (n == 1)
			add(t, "one address");
		else
			buf_putf(&t->line, "%u addresses", n);
		add(t, news[i].after);
	}
	flush(t, 0);
}

/* Which message it is: what a person knows it by. */
static void
put_message(struct text *t, struct slice header, struct arena *a)
{
	struct header_field f;
	struct slice id = slice_of(NULL, 0);
	struct buf raw;
	struct slice value;

	buf_init(&raw, PARAGRAPH_BYTES_MAX);
	gap(t);
	if (header_find(header, SLICE("Subject"), &f)) {
		(void)mime_word_decode(slice_sub(f.value, 0, PARAGRAPH_BYTES_MAX / 2), &raw);
		add(t, "Subject: ");
		add_safe(t, slice_trim(buf_slice(&raw)), SUBJECT_BYTES_MAX);
		flush(t, 4);
	}
	if (header_find(header, SLICE("Date"), &f) && header_unfold(f.value, a, &value)) {
		add(t, "Date: ");
		add_safe(t, value, SUBJECT_BYTES_MAX);
		flush(t, 4);
	}
	buf_reset(&raw);
	if (t->report->envid.n > 0 && smtp_xtext_decode(t->report->envid, &raw))
		id = buf_slice(&raw);
	if (id.n > 0) {
		add(t, "Envelope id: ");
		add_safe(t, id, SUBJECT_BYTES_MAX);
		flush(t, 4);
	}
	add(t, "Received here: ");
	add_date(t, t->report->arrived);
	flush(t, 4);
	buf_fini(&raw);
}

/* ---- a recipient ---- */

static void
put_reply(struct text *t, const struct dsn_recipient *r)
{
	if (slice_trim(r->text).n == 0)
		return;
	if (r->mta.n > 0) {
		add(t, "The server ");
		add_safe(t, r->mta, SUBJECT_BYTES_MAX);
		add(t, " said:");
	} else {
		add(t, "In detail:");
	}
	flush(t, 2);
	add_safe(t, r->text, REPLY_BYTES_MAX);
	flush(t, 6);
}

static const char *
advice_of(const struct dsn_recipient *r, const struct dsn_words *w)
{
	if (r->unsure)
		return "Ask the person whether the message has arrived before you send it again.";
	if (r->forwarded)
		return "Tell the person, in another way, that what is sent on from this address does not arrive.";
	return w->advice;
}

static void
put_failed(struct text *t, const struct dsn_recipient *r, const struct dsn_words *w)
{
	if (r->unsure)
		add(t, "Perhaps not delivered: the connection broke before the receiving server could say whether it has the message");
	else
		buf_putf(&t->line, "Not delivered%s: %s", r->status.n > 0 && r->status.p[0] == '4' ? ", after several tries" : "", w->what);
	add(t, ".");
	flush(t, 2);
	add(t, "What you can do: ");
	add(t, advice_of(r, w));
	if (w->ask && !r->unsure) {
		add(t, " Please tell ");
		add_safe(t, t->report->postmaster, SUBJECT_BYTES_MAX);
		add(t, ".");
	}
	flush(t, 2);
	put_reply(t, r);
}

static void
put_delayed(struct text *t, const struct dsn_recipient *r, const struct dsn_words *w)
{
	buf_putf(&t->line, "Not delivered yet: %s.", w->what);
	flush(t, 2);
	add(t, "You need not do anything: we go on trying");
	if (t->report->until != 0) {
		add(t, " until ");
		add_date(t, t->report->until);
	}
	add(t, ", and tell you if that does not help. Please do not send the message again meanwhile.");
	flush(t, 2);
	put_reply(t, r);
}

static void
put_success(struct text *t, const struct dsn_recipient *r)
{
	if (r->action == DSN_DELIVERED)
		add(t, "Delivered: the message is in the mailbox. This does not say that it has been read.");
	else if (r->action == DSN_EXPANDED)
		add(t, "Passed on: several mailboxes stand behind this address, and the message is on its way to them. You will hear of it "
		       "again only if it cannot be delivered to one of them.");
	else
		add(t, "Passed on: the next mail server has taken the message, but does not report what becomes of it there. You will hear "
		       "of it again only if that server cannot deliver it.");
	flush(t, 2);
	if (r->action == DSN_RELAYED)
		put_reply(t, r);
}

static void
put_recipient(struct text *t, const struct dsn_recipient *r)
{
	const struct dsn_words *w = dsn_words_of(r->status, r->text);

	gap(t);
	add_safe(t, r->address, SUBJECT_BYTES_MAX + SMTP_MAILBOX_BYTES_MAX);
	flush(t, 0);
	if (r->forwarded) {
		add(t, "What comes for this address is sent on to another one.");
		flush(t, 2);
	}
	if (r->action == DSN_FAILED)
		put_failed(t, r, w);
	else if (r->action == DSN_DELAYED)
		put_delayed(t, r, w);
	else
		put_success(t, r);
}

/* ---- the end ---- */

static void
put_end(struct text *t)
{
	const struct dsn_report *r = t->report;

	gap(t);
	if (r->count > DSN_TEXT_RECIPIENTS_MAX) {
		buf_putf(&t->line, "%u more addresses are named in the details below.", r->count - DSN_TEXT_RECIPIENTS_MAX);
		flush(t, 0);
		gap(t);
	}
	if (count(r, DSN_FAILED) > 0) {
		add(t, "The message is not tried again for an address that is named as not delivered here. If it had other recipients, "
		       "nothing changes for them.");
		flush(t, 0);
		gap(t);
	}
	add(t, "This was written by the mail server ");
	add_safe(t, r->hostname, SUBJECT_BYTES_MAX);
	add(t, " by itself. Who looks after it is reached at ");
	add_safe(t, r->postmaster, SUBJECT_BYTES_MAX);
	add(t, ".");
	flush(t, 0);
}

void
dsn_text_write(const struct dsn_report *r, struct slice header, struct arena *a, struct buf *b)
{
	struct text t = {.report = r, .out = b};

	buf_init(&t.line, PARAGRAPH_BYTES_MAX);
	put_news(&t);
	put_message(&t, header, a);
	for (uint32_t i = 0; i < r->count && i < DSN_TEXT_RECIPIENTS_MAX; i++)
		put_recipient(&t, &r->recipients[i]);
	put_end(&t);
	buf_fini(&t.line);
}
