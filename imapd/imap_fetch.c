/*
 * The response repeats the section as the client asked for it, but not with its own octets: a header name
 * may have come as a literal or with quotes. `label` is built anew from what was parsed.
 */
#include "imapd/imap_fetch.h"

struct items {
	struct imap_fetch *fetch;
	size_t max;
};

static bool
limit(struct imap_scan *s, const char *why)
{
	s->limit = true;
	return imap_scan_fail(s, why);
}

static struct imap_fetch_item *
item_add(struct imap_scan *s, struct items *items, enum imap_fetch_item_kind kind)
{
	struct imap_fetch *f = items->fetch;

	if (f->items_n == items->max) {
		limit(s, "Too many items");
		return NULL;
	}
	f->items[f->items_n] = (struct imap_fetch_item){.kind = kind};
	f->want_flags |= kind == IMAP_FETCH_FLAGS;
	f->want_uid |= kind == IMAP_FETCH_UID;
	return &f->items[f->items_n++];
}

/* Room for one more name: the array doubles in the arena. */
static struct slice *
names_room(struct imap_scan *s, struct slice *names, size_t n, size_t *max)
{
	struct slice *more;

	if (n < *max)
		return names;
	if (n == IMAP_HEADER_NAMES_MAX) {
		limit(s, "Too many header names");
		return NULL;
	}
	*max = n == 0 ? 8 : n * 2;
	more = arena_array(s->arena, *max, sizeof *more);
	if (more == NULL)
		limit(s, "Command is too long");
	else if (n > 0)
		memcpy(more, names, n * sizeof *more);
	return more;
}

/* header-list = "(" header-fld-name *(SP header-fld-name) ")" */
static bool
header_list(struct imap_scan *s, struct imap_fetch_item *item)
{
	struct slice *names = NULL;
	size_t max = 0;
	size_t n = 0;

	if (!imap_char(s, '('))
		return false;
	do {
		names = names_room(s, names, n, &max);
		if (names == NULL || !imap_astring(s, &names[n]))
			return false;
		n++;
	} while (imap_try_char(s, ' '));
	item->names = names;
	item->names_n = n;
	return imap_char(s, ')');
}

/* section-msgtext / "MIME" */
static bool
section_text(struct imap_scan *s, struct imap_fetch_item *item)
{
	item->section = SUMMARY_SECTION_HEADER;
	if (imap_try_word(s, SLICE("HEADER.FIELDS.NOT ")))
		item->filter = IMAP_HEADER_FIELDS_NOT;
	else if (imap_try_word(s, SLICE("HEADER.FIELDS ")))
		item->filter = IMAP_HEADER_FIELDS;
	else if (imap_try_word(s, SLICE("HEADER")))
		return true;
	else if (imap_try_word(s, SLICE("TEXT")))
		item->section = SUMMARY_SECTION_TEXT;
	else if (item->numbers_n > 0 && imap_try_word(s, SLICE("MIME")))
		item->section = SUMMARY_SECTION_MIME;
	else
		return imap_scan_fail(s, "Unknown section");
	return item->filter == IMAP_HEADER_ALL ? true : header_list(s, item);
}

/* How many numbers a section-part here can have at most. */
static size_t
count_numbers(const struct imap_scan *s)
{
	size_t n = 1;

	for (const uint8_t *p = s->p; p < s->end && (ascii_digit(*p) || *p == '.'); p++)
		n += *p == '.';
	return n < IMAP_SECTION_NUMBERS_MAX ? n : IMAP_SECTION_NUMBERS_MAX;
}

/* section-part = nz-number *("." nz-number); a "." before a section-text is taken too. */
static bool
section_part(struct imap_scan *s, struct imap_fetch_item *item, bool *text_r)
{
	size_t max = count_numbers(s);
	uint32_t *numbers = arena_array(s->arena, max, sizeof *numbers);
	size_t n = 0;

	if (numbers == NULL)
		return limit(s, "Command is too long");
	*text_r = false;
	do {
		if (!ascii_digit(imap_scan_peek(s))) {
			*text_r = true;
			break;
		}
		if (n == max)
			return limit(s, "Section is too deep");
		if (!imap_nz_number(s, &numbers[n]))
			return false;
		n++;
	} while (imap_try_char(s, '.'));
	item->numbers = numbers;
	item->numbers_n = n;
	return true;
}

/* section = "[" [section-spec] "]"; section-spec = section-msgtext / (section-part ["." section-text]) */
static bool
section(struct imap_scan *s, struct imap_fetch_item *item)
{
	bool text = true;

	item->section = SUMMARY_SECTION_BODY;
	if (imap_try_char(s, ']'))
		return true;
	if (ascii_digit(imap_scan_peek(s)) && !section_part(s, item, &text))
		return false;
	if (text && !section_text(s, item))
		return false;
	return imap_try_char(s, ']') ? true : imap_scan_fail(s, "Section without ]");
}

/* ["<" number "." nz-number ">"] */
static bool
partial(struct imap_scan *s, struct imap_fetch_item *item)
{
	if (!imap_try_char(s, '<'))
		return true;
	item->partial = true;
	if (imap_number(s, &item->partial_from) && imap_try_char(s, '.') &&
	    imap_nz_number(s, &item->partial_octets) && imap_try_char(s, '>'))
		return true;
	return imap_scan_fail(s, "Malformed partial");
}

static void
label_name(struct buf *b, struct slice name)
{
	if (imap_is_astring_bare(name)) {
		buf_put_slice(b, name);
		return;
	}
	buf_put_u8(b, '"');
	for (size_t i = 0; i < name.n; i++) {
		if (name.p[i] == '"' || name.p[i] == '\\')
			buf_put_u8(b, '\\');
		buf_put_u8(b, name.p[i]);
	}
	buf_put_u8(b, '"');
}

static void
label_text(struct buf *b, const struct imap_fetch_item *item)
{
	static const char *const filters[] = {"HEADER", "HEADER.FIELDS", "HEADER.FIELDS.NOT"};

	if (item->section == SUMMARY_SECTION_TEXT)
		buf_put_str(b, "TEXT");
	else if (item->section == SUMMARY_SECTION_MIME)
		buf_put_str(b, "MIME");
	else
		buf_put_str(b, filters[item->filter]);
	if (item->filter == IMAP_HEADER_ALL)
		return;
	for (size_t i = 0; i < item->names_n; i++) {
		buf_put_str(b, i == 0 ? " (" : " ");
		label_name(b, item->names[i]);
	}
	buf_put_u8(b, ')');
}

#define LABEL_BYTES_MAX (256u * 1024)

/* "BODY[" section-spec "]" ["<" origin ">"] */
static bool
label(struct imap_scan *s, struct imap_fetch_item *item)
{
	struct buf b;
	bool ok;

	buf_init(&b, LABEL_BYTES_MAX);
	buf_put_str(&b, "BODY[");
	for (size_t i = 0; i < item->numbers_n; i++)
		buf_putf(&b, i == 0 ? "%u" : ".%u", item->numbers[i]);
	if (item->section != SUMMARY_SECTION_BODY) {
		buf_put_str(&b, item->numbers_n > 0 ? "." : "");
		label_text(&b, item);
	}
	buf_put_u8(&b, ']');
	if (item->partial)
		buf_putf(&b, "<%u>", item->partial_from);
	ok = !b.failed && arena_copy(s->arena, buf_slice(&b), &item->label);
	buf_fini(&b);
	return ok ? true : limit(s, "Command is too long");
}

/* A name that goes into a response must not carry line ends or 8-bit: no header has such a name. */
static bool
names_are_text(const struct imap_fetch_item *item)
{
	for (size_t i = 0; i < item->names_n; i++)
		for (size_t k = 0; k < item->names[i].n; k++)
			if (item->names[i].p[k] < 0x20 || item->names[i].p[k] > 0x7e)
				return false;
	return true;
}

/* "BODY" ["STRUCTURE"] / "BODY" section [partial] / "BODY.PEEK" section [partial] */
static bool
body_item(struct imap_scan *s, struct items *items)
{
	bool peek = imap_try_word(s, SLICE(".PEEK"));
	struct imap_fetch_item *item;

	if (!imap_try_char(s, '[')) {
		if (peek)
			return imap_scan_fail(s, "BODY.PEEK without a section");
		return item_add(s, items, IMAP_FETCH_BODY_STRUCT) != NULL;
	}
	item = item_add(s, items, IMAP_FETCH_SECTION);
	if (item == NULL || !section(s, item) || !partial(s, item))
		return false;
	if (!names_are_text(item))
		return imap_scan_fail(s, "Malformed header name");
	item->peek = peek;
	items->fetch->sets_seen |= !peek;
	return label(s, item);
}

/* "RFC822" [".HEADER" / ".SIZE" / ".TEXT"] */
static bool
rfc822_item(struct imap_scan *s, struct items *items)
{
	struct imap_fetch_item *item;

	if (imap_try_word(s, SLICE(".SIZE")))
		return item_add(s, items, IMAP_FETCH_RFC822_SIZE) != NULL;
	item = item_add(s, items, IMAP_FETCH_SECTION);
	if (item == NULL)
		return false;
	if (imap_try_word(s, SLICE(".HEADER"))) {
		item->section = SUMMARY_SECTION_HEADER;
		item->peek = true;
		item->label = SLICE("RFC822.HEADER");
	} else if (imap_try_word(s, SLICE(".TEXT"))) {
		item->section = SUMMARY_SECTION_TEXT;
		item->label = SLICE("RFC822.TEXT");
	} else {
		item->section = SUMMARY_SECTION_BODY;
		item->label = SLICE("RFC822");
	}
	items->fetch->sets_seen |= !item->peek;
	return true;
}

static const struct {
	const char *word;
	enum imap_fetch_item_kind kind;
} plain_items[] = {
    {"ENVELOPE", IMAP_FETCH_ENVELOPE},
    {"FLAGS", IMAP_FETCH_FLAGS},
    {"INTERNALDATE", IMAP_FETCH_INTERNALDATE},
    {"BODYSTRUCTURE", IMAP_FETCH_BODYSTRUCTURE},
    {"UID", IMAP_FETCH_UID},
};

/* fetch-att, ended by SP, ")" or the end of the command */
static bool
fetch_att(struct imap_scan *s, struct items *items)
{
	uint8_t next;
	bool ok = false;
	bool known = false;

	for (size_t i = 0; i < sizeof plain_items / sizeof *plain_items && !known; i++) {
		known = imap_try_word(s, slice_str(plain_items[i].word));
		ok = known && item_add(s, items, plain_items[i].kind) != NULL;
	}
	if (!known && imap_try_word(s, SLICE("BODY")))
		ok = body_item(s, items);
	else if (!known && imap_try_word(s, SLICE("RFC822")))
		ok = rfc822_item(s, items);
	else if (!known)
		return imap_scan_fail(s, "Unknown FETCH item");
	next = imap_scan_peek(s);
	if (ok && next != ' ' && next != ')' && s->p != s->end)
		return imap_scan_fail(s, "Unknown FETCH item");
	return ok;
}

/* "(" fetch-att *(SP fetch-att) ")" */
static bool
fetch_list(struct imap_scan *s, struct items *items)
{
	do {
		if (!fetch_att(s, items))
			return false;
	} while (imap_try_char(s, ' '));
	return imap_char(s, ')');
}

/* "ALL" / "FULL" / "FAST" stand alone (RFC 3501 6.4.5); they are no fetch-att. */
static bool
macro(struct imap_scan *s, struct items *items)
{
	static const enum imap_fetch_item_kind kinds[] = {IMAP_FETCH_FLAGS, IMAP_FETCH_INTERNALDATE,
	    IMAP_FETCH_RFC822_SIZE, IMAP_FETCH_ENVELOPE, IMAP_FETCH_BODY_STRUCT};
	struct slice word = slice_of(s->p, imap_scan_left(s));
	size_t n;

	if (slice_eq_nocase(word, SLICE("FAST")))
		n = 3;
	else if (slice_eq_nocase(word, SLICE("ALL")))
		n = 4;
	else if (slice_eq_nocase(word, SLICE("FULL")))
		n = 5;
	else
		return false;
	for (size_t i = 0; i < n; i++)
		(void)item_add(s, items, kinds[i]);
	s->p = s->end;
	return true;
}

/* An upper bound of the items in the text that is left. */
static size_t
count_items(const struct imap_scan *s)
{
	size_t n = 5;

	for (const uint8_t *p = s->p; p < s->end && n < IMAP_FETCH_ITEMS_MAX; p++)
		n += *p == ' ';
	return n;
}

bool
imap_fetch_args(struct imap_scan *s, struct imap_fetch *fetch_r)
{
	struct items items = {.fetch = fetch_r};

	*fetch_r = (struct imap_fetch){0};
	if (!imap_sp(s) || !imap_sequence_set(s, &fetch_r->set) || !imap_sp(s))
		return false;
	items.max = count_items(s);
	fetch_r->items = arena_array(s->arena, items.max, sizeof *fetch_r->items);
	if (fetch_r->items == NULL)
		return limit(s, "Command is too long");
	if (macro(s, &items))
		return true;
	if (imap_try_char(s, '('))
		return fetch_list(s, &items) && imap_scan_end(s);
	return fetch_att(s, &items) && imap_scan_end(s);
}
