#include "imapd/imap_print.h"

#include "common/charset.h"
#include "common/date.h"
#include "common/mutf7.h"
#include "imapd/imap_scan.h"

/* Text that a quoted string can carry: QUOTED-CHAR with quoted pairs, no octet over `last`, no CR, LF, NUL. */
static bool
is_quotable(struct slice s, uint8_t last)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] == 0 || s.p[i] == '\r' || s.p[i] == '\n' || s.p[i] > last)
			return false;
	return true;
}

static void
put_literal(struct buf *b, struct slice s)
{
	size_t nuls = 0;

	for (size_t i = 0; i < s.n; i++)
		nuls += s.p[i] == 0;
	imap_put_literal_head(b, s.n - nuls);
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] != 0)
			buf_put_u8(b, s.p[i]);
}

void
imap_put_astring(struct buf *b, struct slice s)
{
	if (imap_is_atom(s) && !slice_eq_nocase(s, SLICE("NIL")))
		buf_put_slice(b, s);
	else if (is_quotable(s, 0x7e))
		buf_put_quoted(b, s);
	else
		put_literal(b, s);
}

void
imap_put_mailbox(struct buf *b, struct slice name, bool utf8)
{
	struct buf wire;

	if (utf8 && !slice_is_ascii(name) && is_quotable(name, 0xff) && utf8_valid(name)) {
		buf_put_quoted(b, name);
		return;
	}
	if (utf8) {
		imap_put_astring(b, name);
		return;
	}
	buf_init(&wire, (size_t)STORE_NAME_BYTES_MAX * 4);
	if (mutf7_encode(name, &wire))
		imap_put_astring(b, buf_slice(&wire));
	else
		imap_put_astring(b, name); /* no UTF-8: the store never has such a name */
	buf_fini(&wire);
}

void
imap_put_literal_head(struct buf *b, uint64_t octets)
{
	buf_putf(b, "{%llu}\r\n", (unsigned long long)octets);
}

static const struct {
	uint32_t bit;
	const char *name;
} flag_names[] = {
    {STORE_FLAG_ANSWERED, "\\Answered"},
    {STORE_FLAG_FLAGGED, "\\Flagged"},
    {STORE_FLAG_DELETED, "\\Deleted"},
    {STORE_FLAG_SEEN, "\\Seen"},
    {STORE_FLAG_DRAFT, "\\Draft"},
};

/* One of the words in a list. */
static void
put_word(struct buf *b, bool *first, struct slice word)
{
	if (!*first)
		buf_put_u8(b, ' ');
	*first = false;
	buf_put_slice(b, word);
}

void
imap_put_flags(struct buf *b, uint32_t flags, uint64_t keywords, struct slice keyword_lines, bool recent)
{
	bool first = true;

	buf_put_u8(b, '(');
	for (size_t i = 0; i < sizeof flag_names / sizeof *flag_names; i++)
		if (flags & flag_names[i].bit)
			put_word(b, &first, slice_str(flag_names[i].name));
	if (recent)
		put_word(b, &first, SLICE("\\Recent"));
	for (unsigned bit = 0; keywords >> bit != 0; bit++) {
		struct slice name;

		if (keywords >> bit & 1) {
			name = store_keyword_name(keyword_lines, bit);
			if (name.n > 0)
				put_word(b, &first, name);
		}
		if (bit == STORE_KEYWORDS_MAX - 1)
			break;
	}
	buf_put_u8(b, ')');
}

void
imap_put_all_flags(struct buf *b, struct slice keyword_lines, bool any)
{
	struct slice name;
	bool first = true;

	buf_put_u8(b, '(');
	for (size_t i = 0; i < sizeof flag_names / sizeof *flag_names; i++)
		put_word(b, &first, slice_str(flag_names[i].name));
	while (slice_cut(&keyword_lines, '\n', &name))
		if (name.n > 0)
			put_word(b, &first, name);
	if (any)
		put_word(b, &first, SLICE("\\*"));
	buf_put_u8(b, ')');
}

void
imap_put_date_time(struct buf *b, int64_t seconds, int16_t zone_minutes)
{
	char text[DATE_IMAP_SIZE];

	date_imap_print((struct date_time){.seconds = seconds, .zone_minutes = zone_minutes}, text);
	buf_put_u8(b, '"');
	buf_put_str(b, text);
	buf_put_u8(b, '"');
}

void
imap_put_uidset(struct buf *b, const struct uidset *set)
{
	for (size_t i = 0; i < set->n; i++) {
		const struct uid_range *r = &set->ranges[i];

		if (i > 0)
			buf_put_u8(b, ',');
		if (r->first == r->last)
			buf_putf(b, "%u", r->first);
		else
			buf_putf(b, "%u:%u", r->first, r->last);
	}
}

static const struct {
	uint32_t bit;
	const char *name;
} use_names[] = {
    {STORE_USE_ALL, "\\All"},	      {STORE_USE_ARCHIVE, "\\Archive"},
    {STORE_USE_DRAFTS, "\\Drafts"},   {STORE_USE_FLAGGED, "\\Flagged"},
    {STORE_USE_JUNK, "\\Junk"},	      {STORE_USE_SENT, "\\Sent"},
    {STORE_USE_TRASH, "\\Trash"},     {STORE_USE_IMPORTANT, "\\Important"},
};

void
imap_put_special_use(struct buf *b, uint32_t special_use)
{
	for (size_t i = 0; i < sizeof use_names / sizeof *use_names; i++)
		if (special_use & use_names[i].bit)
			buf_putf(b, " %s", use_names[i].name);
}
