#include "admin/mbox.h"

#include "admin/maildir_parse.h"
#include "store/store.h"

#include <assert.h>

/* Words of a From_ line that are looked at. */
#define WORDS_MAX 32u
#define FIELD_NAME_BYTES_MAX 32u

/* ---- the From_ line ---- */

static bool
is_one_of(struct slice word, const char *names)
{
	struct slice all = slice_str(names);

	return word.n == 3 && slice_find(all, word) % 3 == 0 && slice_find(all, word) < all.n;
}

/* "23:32" or "23:32:54" */
static bool
is_time(struct slice word)
{
	for (size_t i = 0; i < word.n; i++)
		if (i % 3 == 2 ? word.p[i] != ':' : !ascii_digit(word.p[i]))
			return false;
	return word.n == 5 || word.n == 8;
}

static bool
is_year(struct slice word)
{
	uint64_t year;

	return word.n == 4 && slice_u64(word, 9999, &year);
}

/* The date in the words from "Thu" on, n of them. The zone stands before the year or behind it. */
static bool
date_words(const struct slice *w, size_t n, struct date_time *date_r)
{
	char text[128];
	uint64_t day;
	size_t year;
	struct slice zone;

	if (n < 5 || !is_one_of(w[0], "MonTueWedThuFriSatSun") || !is_one_of(w[1], "JanFebMarAprMayJunJulAugSepOctNovDec") ||
	    !slice_u64(w[2], 31, &day) || !is_time(w[3]))
		return false;
	year = is_year(w[4]) ? 4 : 5;
	if (year >= n || !is_year(w[year]))
		return false;
	zone = year == 5 ? w[4] : n > 5 ? w[5] : SLICE("+0000");
	if (zone.n > 5)
		zone = SLICE("+0000");
	int k = snprintf(text, sizeof text, "%u %.*s %.*s %.*s %.*s", (unsigned)day, SLICE_ARG(w[1]), SLICE_ARG(w[year]),
	    SLICE_ARG(w[3]), SLICE_ARG(zone));

	return k > 0 && (size_t)k < sizeof text && date_rfc5322_parse(slice_str(text), date_r);
}

bool
mbox_from_parse(struct slice line, struct date_time *date_r)
{
	struct slice words[WORDS_MAX], word;
	size_t n = 0;

	if (!slice_starts(line, SLICE("From ")) || slice_index(line, 0) < line.n)
		return false;
	line = slice_sub(line, 5, line.n);
	while (n < WORDS_MAX && slice_cut(&line, ' ', &word))
		if (word.n > 0)
			words[n++] = word;
	for (size_t i = 0; i < n; i++)
		if (date_words(words + i, n - i, date_r))
			return true;
	return false;
}

/* ---- reading ---- */

void
mbox_init(struct mbox *m, mbox_read_fn *read, void *arg)
{
	m->read = read;
	m->arg = arg;
	m->at = m->window_at = 0;
	m->window_n = 0;
	m->failed = false;
	m->first = true;
	m->uidvalidity = m->last_uid = 0;
}

/* Are n octets from `at` on in the window, or all that there are? One that is not full goes up to the end. */
static bool
in_window(const struct mbox *m, uint64_t at, size_t n)
{
	return at >= m->window_at && at - m->window_at <= m->window_n &&
	    (at - m->window_at + n <= m->window_n || (m->window_n > 0 && m->window_n < MBOX_WINDOW_BYTES));
}

/* At least n octets from `at` on, if there are as many; n is at most a window. */
static struct slice
look(struct mbox *m, uint64_t at, size_t n)
{
	assert(n <= MBOX_WINDOW_BYTES);
	if (!in_window(m, at, n)) {
		int64_t got = m->failed ? -1 : m->read(m->arg, at, m->window, MBOX_WINDOW_BYTES);

		m->failed = got < 0;
		m->window_at = at;
		m->window_n = got < 0 ? 0 : (size_t)got;
	}
	return slice_sub(slice_of(m->window, m->window_n), (size_t)(at - m->window_at), m->window_n);
}

/* The line at `at` with its LF, or as much of it as a From_ line may have; empty at the end. */
static struct slice
look_line(struct mbox *m, uint64_t at)
{
	struct slice s = look(m, at, MBOX_FROM_BYTES_MAX);

	s = slice_sub(s, 0, MBOX_FROM_BYTES_MAX);
	return slice_sub(s, 0, slice_index(s, '\n') + 1);
}

static struct slice
without_end(struct slice line)
{
	if (line.n > 0 && line.p[line.n - 1] == '\n')
		line.n--;
	if (line.n > 0 && line.p[line.n - 1] == '\r')
		line.n--;
	return line;
}

static bool
is_empty_line(struct slice line)
{
	return line.n > 0 && line.n <= 2 && line.p[line.n - 1] == '\n' && without_end(line).n == 0;
}

/* A From_ line as a whole, the last one of the file perhaps without its LF. */
static bool
is_from_line(struct slice line, struct date_time *date_r)
{
	return line.n > 0 && (line.p[line.n - 1] == '\n' || line.n < MBOX_FROM_BYTES_MAX) &&
	    mbox_from_parse(without_end(line), date_r);
}

/* Does a message begin at `at`, or the file end? */
static bool
is_border(struct mbox *m, uint64_t at)
{
	struct slice line = look_line(m, at);
	struct date_time date;

	return line.n == 0 || is_from_line(line, &date);
}

/* ---- our header fields ---- */

bool
mbox_field_is_ours(struct slice name)
{
	static const char *const names[] = {
	    "Status", "X-Status", "X-Keywords", "X-UID", "X-IMAP", "X-IMAPbase", "Content-Length", "X-Mozilla-Status",
	    "X-Mozilla-Status2", "X-Mozilla-Keys"};

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (slice_eq_nocase(slice_str(names[i]), name))
			return true;
	return false;
}

static void
take_letters(struct mbox_message *msg, struct slice letters, bool x_status)
{
	static const struct {
		uint8_t letter;
		bool x_status;
		uint32_t flag;
	} rows[] = {{'R', false, STORE_FLAG_SEEN}, {'A', true, STORE_FLAG_ANSWERED}, {'F', true, STORE_FLAG_FLAGGED},
	    {'D', true, STORE_FLAG_DELETED}, {'T', true, STORE_FLAG_DRAFT}};

	for (size_t i = 0; i < letters.n; i++)
		for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++)
			if (rows[k].letter == letters.p[i] && rows[k].x_status == x_status)
				msg->flags |= rows[k].flag;
}

/* The words of s, divided by white space of any kind. */
static bool
next_word(struct slice *s, struct slice *word_r)
{
	size_t n = 0;

	*s = slice_trim(*s);
	while (n < s->n && s->p[n] != ' ' && s->p[n] != '\t' && s->p[n] != '\r' && s->p[n] != '\n')
		n++;
	*word_r = slice_sub(*s, 0, n);
	*s = slice_sub(*s, n, s->n);
	return n > 0;
}

static void
take_keywords(struct mbox_message *msg, struct slice value)
{
	struct slice word;

	while (next_word(&value, &word)) {
		if (!maildir_keyword_ok(word) || msg->keywords.n + word.n + 1 > msg->keywords.max) {
			msg->keywords_lost++;
			continue;
		}
		buf_put_slice(&msg->keywords, word);
		buf_put_u8(&msg->keywords, '\n');
	}
}

/* "UIDVALIDITY LAST-UID [KEYWORD ...]" */
static void
take_base(struct mbox *m, struct slice value)
{
	struct slice word;
	uint64_t uidvalidity, last;

	if (!m->first || !next_word(&value, &word) || !slice_u64(word, UINT32_MAX, &uidvalidity) || !next_word(&value, &word) ||
	    !slice_u64(word, UINT32_MAX - 1, &last))
		return;
	m->uidvalidity = (uint32_t)uidvalidity;
	m->last_uid = (uint32_t)last;
}

/*
 * Four hexadecimal digits. A message that is deleted there stays in the file until that is compacted: it comes with \Deleted, since
 * a field of its own is no reason to lose a message.
 */
static void
take_mozilla(struct mbox_message *msg, struct slice value)
{
	static const struct {
		uint32_t bit;
		uint32_t flag;
	} rows[] = {{0x1, STORE_FLAG_SEEN}, {0x2, STORE_FLAG_ANSWERED}, {0x4, STORE_FLAG_FLAGGED}, {0x8, STORE_FLAG_DELETED}};
	uint32_t bits = 0;
	uint8_t digit;

	for (size_t i = 0; i < value.n; i++) {
		if (value.n != 4 || !ascii_hex_value(ascii_lower(value.p[i]), &digit))
			return;
		bits = bits << 4 | digit;
	}
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		if (bits & rows[i].bit)
			msg->flags |= rows[i].flag;
	if (bits & 0x1000)
		take_keywords(msg, SLICE("$Forwarded"));
}

static void
take_field(struct mbox *m, struct mbox_message *msg, struct slice field, uint64_t *length)
{
	size_t colon = slice_index(field, ':');
	struct slice name = slice_sub(field, 0, colon), value = slice_trim(slice_sub(field, colon + 1, field.n));
	uint64_t number;

	if (slice_eq_nocase(name, SLICE("Status")))
		take_letters(msg, value, false);
	else if (slice_eq_nocase(name, SLICE("X-Status")))
		take_letters(msg, value, true);
	else if (slice_eq_nocase(name, SLICE("X-Keywords")) || slice_eq_nocase(name, SLICE("X-Mozilla-Keys")))
		take_keywords(msg, value);
	else if (slice_eq_nocase(name, SLICE("X-Mozilla-Status")))
		take_mozilla(msg, value);
	else if (slice_eq_nocase(name, SLICE("X-UID")) && slice_u64(value, UINT32_MAX, &number))
		msg->uid = (uint32_t)number;
	else if (slice_eq_nocase(name, SLICE("Content-Length")) && slice_u64(value, INT64_MAX, &number))
		*length = number;
	else if (slice_eq_nocase(name, SLICE("X-IMAPbase")) || slice_eq_nocase(name, SLICE("X-IMAP")))
		take_base(m, value);
	if (slice_eq_nocase(name, SLICE("X-IMAP")) && m->first)
		msg->internal = true;
}

/* ---- the message ---- */

/* Gives out, or passes over, one whole line at m->at, however long. */
static struct slice
pass_line(struct mbox *m, mbox_octets_fn *out, void *arg)
{
	struct slice s;
	size_t end;

	do {
		s = look(m, m->at, 1);
		end = slice_index(s, '\n');
		s = slice_sub(s, 0, end + 1);
		if (out != NULL && s.n > 0)
			out(arg, s);
		m->at += s.n;
	} while (s.n > 0 && s.p[s.n - 1] != '\n');
	return s;
}

/* The name of the field that begins at m->at; empty when it is none of ours. */
static struct slice
our_field(struct mbox *m)
{
	struct slice s = slice_sub(look(m, m->at, FIELD_NAME_BYTES_MAX), 0, FIELD_NAME_BYTES_MAX);
	size_t colon = slice_index(s, ':');
	struct slice name = slice_sub(s, 0, colon);

	return colon < s.n && mbox_field_is_ours(name) ? name : slice_of(NULL, 0);
}

static void
put_field(void *arg, struct slice octets)
{
	struct buf *b = arg;
	size_t room = b->max - b->n;

	buf_put_slice(b, slice_sub(octets, 0, room));
}

/* The header with its empty line. Gives the length that it claims for the body, UINT64_MAX when it claims none. */
static uint64_t
read_header(struct mbox *m, struct mbox_message *msg, mbox_octets_fn *out, void *arg)
{
	uint64_t length = UINT64_MAX;
	struct buf field;
	bool ours = false;

	buf_init(&field, MBOX_FIELD_BYTES_MAX);
	for (;;) {
		struct slice line = look_line(m, m->at);
		bool more = line.n > 0 && (line.p[0] == ' ' || line.p[0] == '\t');

		if (!more && field.n > 0) {
			take_field(m, msg, buf_slice(&field), &length);
			buf_reset(&field);
		}
		if (line.n == 0)
			break;
		bool last = is_empty_line(line);

		if (!more)
			ours = our_field(m).n > 0;
		(void)pass_line(m, ours ? put_field : out, ours ? (void *)&field : arg);
		if (last)
			break;
	}
	buf_fini(&field);
	return length;
}

/* Exactly that many octets. */
static void
read_counted(struct mbox *m, uint64_t length, mbox_octets_fn *out, void *arg)
{
	while (length > 0) {
		struct slice s = look(m, m->at, 1);

		if (s.n > length)
			s.n = (size_t)length;
		if (s.n == 0)
			return;
		out(arg, s);
		m->at += s.n;
		length -= s.n;
	}
}

/* Is the length true: are there as many octets, and is behind them, or behind one empty line, a border? */
static bool
length_is_true(struct mbox *m, uint64_t length)
{
	uint64_t end = m->at + length;

	if (length > (uint64_t)INT64_MAX - m->at || (length > 0 && look(m, end - 1, 1).n == 0))
		return false;
	struct slice line = look_line(m, end);

	return is_border(m, end) || (is_empty_line(line) && is_border(m, end + line.n));
}

/* "From " behind one or more ">" loses one of them. */
static bool
is_quoted(struct slice line)
{
	size_t n = 0;

	while (n < line.n && line.p[n] == '>')
		n++;
	return n > 0 && slice_starts(slice_sub(line, n, line.n), SLICE("From "));
}

/* Up to the next From_ line; the empty line before it belongs to the mbox. */
static void
read_body(struct mbox *m, mbox_octets_fn *out, void *arg)
{
	/* The header's empty line may be the one before the next message. */
	bool after_empty = true;
	uint8_t held[2]; /* an empty line that is not given out before what follows it is known */
	size_t held_n = 0;

	for (;;) {
		struct slice line = look_line(m, m->at);

		if (line.n == 0 || (after_empty && is_border(m, m->at)))
			return;
		/* Checking the border may have moved the window. */
		line = look_line(m, m->at);
		if (held_n > 0)
			out(arg, slice_of(held, held_n));
		held_n = 0;
		after_empty = is_empty_line(line);
		if (after_empty) {
			held_n = line.n;
			memcpy(held, line.p, held_n);
			m->at += line.n;
			continue;
		}
		if (is_quoted(line))
			m->at++;
		(void)pass_line(m, out, arg);
	}
}

int
mbox_next(struct mbox *m, struct mbox_message *msg_r, mbox_octets_fn *out, void *out_arg, struct err *e)
{
	struct slice line;
	uint64_t length;

	msg_r->flags = msg_r->uid = 0;
	msg_r->keywords_lost = 0;
	msg_r->internal = false;
	buf_reset(&msg_r->keywords);
	while (is_empty_line(line = look_line(m, m->at)))
		m->at += line.n;
	if (!m->failed && line.n == 0)
		return 0;
	if (m->failed || !is_from_line(line, &msg_r->date))
		return m->failed ? err_set(e, ERR_TEMP, ERR_CODE_NONE, "it cannot be read", "it cannot be read")
				 : err_set(e, ERR_PERM, ERR_CODE_MALFORMED, "no mbox", "no From_ line at octet %llu",
				       (unsigned long long)m->at);
	(void)pass_line(m, NULL, NULL);
	length = read_header(m, msg_r, out, out_arg);
	if (length != UINT64_MAX && length_is_true(m, length))
		read_counted(m, length, out, out_arg);
	else
		read_body(m, out, out_arg);
	m->first = false;
	return m->failed ? err_set(e, ERR_TEMP, ERR_CODE_NONE, "it cannot be read", "it cannot be read") : 1;
}
