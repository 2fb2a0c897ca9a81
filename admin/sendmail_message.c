/*
 * Programs hand over mail as they do since 1980: lines end in LF, an address may be a user's name, and half of the fields are missing.
 * The server takes only what RFC 5322 lets be (RFC 6409 4.2), so what can be known is completed here: a name without a domain is in the
 * domain of the account, and the user's own name is the account's address. Date and Message-ID are the server's to add.
 */
#include "admin/sendmail.h"

#include "common/charset.h"
#include "common/rfc5322.h"

#include <assert.h>

#define FIELD_ARENA_BYTES (1u << 20)
#define WORD_OCTETS_MAX 20 /* of three characters each, and 12 around them */

struct maker {
	const struct sendmail_wish *wish;
	const struct sendmail_user *user;
	struct arena *kept;    /* the envelope's addresses */
	struct arena *scratch; /* of one field */
	struct buf *out;
	struct sendmail_envelope *envelope;
	bool has_from;
	bool resent; /* it says who is sent it once more: those are its recipients (RFC 5322 3.6.6) */
	bool overflow;
	const char *why;
};

/* ---- lines ---- */

/* CRLF for every line end, and nothing behind a line with a dot alone. */
static bool
put_lines(struct slice raw, bool dots_are_text, struct buf *out)
{
	struct slice line;

	while (raw.n > 0) {
		size_t end = slice_index(raw, '\n');

		line = slice_sub(raw, 0, end);
		raw = slice_sub(raw, end + 1, raw.n);
		if (line.n > 0 && line.p[line.n - 1] == '\r')
			line.n--;
		if (!dots_are_text && slice_eq(line, SLICE(".")))
			break;
		buf_put_slice(out, line);
		buf_put_str(out, "\r\n");
	}
	return !out->failed;
}

/* The line that an mbox has before a message. */
static struct slice
without_mbox_line(struct slice text)
{
	if (!slice_starts(text, SLICE("From ")) && !slice_starts(text, SLICE(">From ")))
		return text;
	return slice_sub(text, slice_index(text, '\n') + 1, text.n);
}

/* ---- addresses ---- */

static bool
is_atext(uint8_t c)
{
	return ascii_alpha(c) || ascii_digit(c) || c >= 0x80 || (c != '\0' && strchr("!#$%&'*+-/=?^_`{|}~", c) != NULL);
}

/* Atoms with dots between them, or (words) with spaces. */
static bool
is_plain(struct slice s, uint8_t between)
{
	bool after = true;

	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] == between ? after : !is_atext(s.p[i]))
			return false;
		after = s.p[i] == between;
	}
	return !after;
}

static void
put_word(struct buf *b, struct slice s, uint8_t between)
{
	if (is_plain(s, between))
		buf_put_slice(b, s);
	else
		buf_put_quoted(b, s);
}

static bool
has_control(struct slice s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] < ' ' || s.p[i] == 0x7f)
			return true;
	return false;
}

static struct slice
account_domain(const struct maker *m)
{
	return slice_sub(m->user->account, slice_rindex(m->user->account, '@') + 1, m->user->account.n);
}

/* "local@domain", complete. */
static void
put_mailbox(const struct maker *m, const struct address *a, struct buf *b)
{
	if (a->domain.n == 0 && m->user->name.n > 0 && slice_eq_nocase(a->local, m->user->name)) {
		buf_put_slice(b, m->user->account);
		return;
	}
	put_word(b, a->local, '.');
	buf_put_u8(b, '@');
	buf_put_slice(b, a->domain.n > 0 ? a->domain : account_domain(m));
}

/* The complete address, kept; empty when it is none. */
static struct slice
address_of(struct maker *m, const struct address *a)
{
	struct slice kept = {NULL, 0};
	struct buf b;

	buf_init(&b, SENDMAIL_ADDRESS_BYTES_MAX);
	put_mailbox(m, a, &b);
	if (a->local.n == 0 || b.failed || has_control(buf_slice(&b)) || slice_index(a->domain, '>') < a->domain.n)
		m->why = "that is no address";
	else if (!arena_copy(m->kept, buf_slice(&b), &kept))
		m->overflow = true;
	m->envelope->utf8 |= !slice_is_ascii(kept);
	buf_fini(&b);
	return kept;
}

static void
add_recipient(struct maker *m, const struct address *a)
{
	struct sendmail_envelope *e = m->envelope;
	struct slice address = address_of(m, a);

	for (unsigned i = 0; i < e->recipient_count; i++)
		if (slice_eq(e->recipients[i], address))
			return;
	if (e->recipient_count == SENDMAIL_RECIPIENTS_MAX)
		m->overflow = true;
	else if (address.n > 0)
		e->recipients[e->recipient_count++] = address;
}

/* "<>" names nobody. */
static bool
is_address(const struct address *a)
{
	return a->kind == ADDRESS_MAILBOX && (a->local.n > 0 || a->domain.n > 0);
}

static void
add_recipients(struct maker *m, const struct address_list *list)
{
	for (size_t i = 0; i < list->n; i++)
		if (is_address(&list->v[i]))
			add_recipient(m, &list->v[i]);
	m->overflow |= list->truncated;
}

/* ---- fields ---- */

static void
put_item(const struct maker *m, const struct address *a, struct buf *b)
{
	if (a->name.n > 0) {
		put_word(b, a->name, ' ');
		buf_put_str(b, a->kind == ADDRESS_GROUP_START ? ":" : " <");
	}
	if (a->kind == ADDRESS_MAILBOX)
		put_mailbox(m, a, b);
	if (a->name.n > 0 && a->kind == ADDRESS_MAILBOX)
		buf_put_u8(b, '>');
}

/* The field again, with all of its addresses complete, one a line. */
static void
put_field(struct maker *m, const struct header_field *f, const struct address_list *list)
{
	bool first = true;

	buf_put_slice(m->out, f->name);
	buf_put_u8(m->out, ':');
	for (size_t i = 0; i < list->n; i++) {
		const struct address *a = &list->v[i];

		if (a->kind == ADDRESS_GROUP_END) {
			buf_put_u8(m->out, ';');
			continue;
		}
		buf_put_str(m->out, first ? " " : list->v[i - 1].kind == ADDRESS_GROUP_START ? "\r\n\t" : ",\r\n\t");
		put_item(m, a, m->out);
		first = false;
	}
	buf_put_str(m->out, "\r\n");
}

static bool
incomplete(const struct address_list *list)
{
	for (size_t i = 0; i < list->n; i++)
		if (is_address(&list->v[i]) && list->v[i].domain.n == 0)
			return true;
	return false;
}

enum kind { KIND_OTHER, KIND_FROM, KIND_ADDRESSES, KIND_RECIPIENTS, KIND_HIDDEN, KIND_RESENT, KIND_RESENT_HIDDEN };

static enum kind
kind_of(struct slice name)
{
	static const struct {
		const char *name;
		enum kind kind;
	} kinds[] = {{"From", KIND_FROM}, {"Sender", KIND_ADDRESSES}, {"Reply-To", KIND_ADDRESSES}, {"To", KIND_RECIPIENTS},
	    {"Cc", KIND_RECIPIENTS}, {"Bcc", KIND_HIDDEN}, {"Resent-From", KIND_ADDRESSES}, {"Resent-Sender", KIND_ADDRESSES},
	    {"Resent-To", KIND_RESENT}, {"Resent-Cc", KIND_RESENT}, {"Resent-Bcc", KIND_RESENT_HIDDEN}};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
		if (slice_eq_nocase(name, slice_str(kinds[i].name)))
			return kinds[i].kind;
	return KIND_OTHER;
}

/* Whether fields of that kind name those who get the message. */
static bool
names_recipients(const struct maker *m, enum kind k)
{
	return m->resent ? k == KIND_RESENT || k == KIND_RESENT_HIDDEN : k == KIND_RECIPIENTS || k == KIND_HIDDEN;
}

static void
take_field(struct maker *m, const struct header_field *f)
{
	enum kind kind = kind_of(f->name);
	struct address_list list;

	if (kind == KIND_OTHER) {
		buf_put_slice(m->out, f->raw);
		return;
	}
	arena_reset(m->scratch);
	address_list_parse(f->value, ADDRESSES_MAX, m->scratch, &list);
	m->has_from |= kind == KIND_FROM;
	if (m->wish->from_header && names_recipients(m, kind))
		add_recipients(m, &list);
	if (kind == KIND_HIDDEN || kind == KIND_RESENT_HIDDEN)
		return;
	if (incomplete(&list) && !list.truncated)
		put_field(m, f, &list);
	else
		buf_put_slice(m->out, f->raw);
}

/* In encoded words of at most 75 characters, with whole characters in each (RFC 2047 5). */
static void
put_encoded(struct buf *b, struct slice text)
{
	while (text.n > 0) {
		struct slice word = utf8_cut(text, WORD_OCTETS_MAX);

		buf_put_str(b, "=?utf-8?q?");
		for (size_t i = 0; i < word.n; i++)
			if (ascii_alpha(word.p[i]) || ascii_digit(word.p[i]))
				buf_put_u8(b, word.p[i]);
			else
				buf_putf(b, "=%02X", word.p[i]);
		text = slice_sub(text, word.n, text.n);
		buf_put_str(b, text.n > 0 ? "?=\r\n\t" : "?=");
	}
}

static void
put_from(struct maker *m)
{
	struct slice name = slice_str(m->wish->full_name ? m->wish->full_name : "");

	buf_put_str(m->out, "From: ");
	if (name.n > 0 && !has_control(name) && utf8_valid(name)) {
		if (slice_is_ascii(name))
			put_word(m->out, name, ' ');
		else
			put_encoded(m->out, name);
		buf_put_u8(m->out, ' ');
	}
	buf_putf(m->out, "<%.*s>\r\n", SLICE_ARG(m->user->account));
}

static bool
is_resent(struct slice text)
{
	struct header_iter it;
	struct header_field f;

	header_iter_init(&it, text);
	while (header_next(&it, &f) && f.name.n > 0)
		if (kind_of(f.name) == KIND_RESENT || kind_of(f.name) == KIND_RESENT_HIDDEN)
			return true;
	return false;
}

/* The header, up to what is no field, completed; then an empty line and the rest. */
static void
put_message(struct maker *m, struct slice text)
{
	struct header_iter it;
	struct header_field f;
	size_t taken = 0;

	m->resent = is_resent(text);
	header_iter_init(&it, text);
	while (header_next(&it, &f) && f.name.n > 0) {
		taken += f.raw.n;
		take_field(m, &f);
	}
	if (!m->has_from)
		put_from(m);
	struct slice header = buf_slice(m->out), rest = slice_sub(text, taken, text.n);

	m->envelope->utf8 |= !slice_is_ascii(header) && utf8_valid(header);
	if (!slice_starts(rest, SLICE("\r\n")))
		buf_put_str(m->out, "\r\n");
	buf_put_slice(m->out, rest);
	m->envelope->eight_bit = !slice_is_ascii(buf_slice(m->out));
}

/* ---- the envelope ---- */

static void
take_arguments(struct maker *m)
{
	struct address_list list;

	for (int i = 0; i < m->wish->recipient_count; i++) {
		arena_reset(m->scratch);
		/* To the grammar of a header an argument with line ends would be a folded one. */
		if (has_control(slice_str(m->wish->recipients[i])))
			m->why = "that is no address";
		address_list_parse(slice_str(m->wish->recipients[i]), ADDRESSES_MAX, m->scratch, &list);
		add_recipients(m, &list);
	}
}

static void
take_sender(struct maker *m)
{
	const char *sender = m->wish->sender;
	struct address_list list;

	m->envelope->sender = m->user->account;
	if (sender == NULL)
		return;
	if (*sender == '\0' || strcmp(sender, "<>") == 0) {
		m->envelope->sender = slice_of(NULL, 0);
		return;
	}
	arena_reset(m->scratch);
	address_list_parse(slice_str(sender), ADDRESSES_MAX, m->scratch, &list);
	if (list.n == 1 && list.v[0].kind == ADDRESS_MAILBOX && !has_control(slice_str(sender)))
		m->envelope->sender = address_of(m, &list.v[0]);
	else
		m->why = "the sender is no address";
}

static int
outcome(struct maker *m, const char **why_r)
{
	*why_r = m->why;
	if (m->why != NULL)
		return EX_DATAERR;
	*why_r = m->overflow ? "too many recipients" : m->out->failed ? "the message is too big" : NULL;
	if (*why_r != NULL)
		return EX_DATAERR;
	if (m->envelope->recipient_count > 0)
		return 0;
	*why_r = "no recipients";
	return m->wish->from_header ? EX_DATAERR : EX_USAGE;
}

int
sendmail_message_make(const struct sendmail_wish *wish, const struct sendmail_user *user, struct slice raw, struct arena *a,
    struct buf *message_r, struct sendmail_envelope *envelope_r, const char **why_r)
{
	struct maker m = {.wish = wish, .user = user, .kept = a, .out = message_r, .envelope = envelope_r};
	struct buf text;
	int status;

	assert(message_r->n == 0);
	*envelope_r = (struct sendmail_envelope){.recipient_count = 0};
	m.scratch = arena_new(FIELD_ARENA_BYTES);
	buf_init(&text, SENDMAIL_MESSAGE_BYTES_MAX);
	if (!put_lines(without_mbox_line(raw), wish->dots_are_text, &text))
		m.out->failed = true;
	take_arguments(&m);
	take_sender(&m);
	put_message(&m, buf_slice(&text));
	status = outcome(&m, why_r);
	buf_fini(&text);
	arena_free(&m.scratch);
	return status;
}
