/*
 * Letters and files are described in Dovecot's documentation of its Maildir format and at
 * cr.yp.to/proto/maildir.html. A name with no ":2," may stand in cur/ too: it has no flags.
 */
#include "admin/maildir_parse.h"

#include "common/charset.h"
#include "common/mutf7.h"
#include "store/store.h"

/* The most octets of a directory's name that we make (NAME_MAX). */
#define DIRECTORY_BYTES_MAX 255u

/* ---- file names ---- */

static int64_t
leading_seconds(struct slice base)
{
	uint64_t seconds;

	/* Ten digits end in the year 2286; more than eleven are no seconds. */
	return slice_u64(slice_sub(base, 0, slice_index(base, '.')), UINT64_C(99999999999), &seconds) ? (int64_t)seconds : -1;
}

static void
info_letter(struct maildir_name *n, uint8_t c)
{
	static const struct {
		uint8_t letter;
		uint32_t flag;
	} rows[] = {{'D', STORE_FLAG_DRAFT}, {'F', STORE_FLAG_FLAGGED}, {'R', STORE_FLAG_ANSWERED}, {'S', STORE_FLAG_SEEN},
	    {'T', STORE_FLAG_DELETED}};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		if (rows[i].letter == c)
			n->flags |= rows[i].flag;
	if (c == 'P')
		n->passed = true;
	if (c >= 'a' && c <= 'z')
		n->letters |= UINT32_C(1) << (c - 'a');
}

struct maildir_name
maildir_name_parse(struct slice name)
{
	struct maildir_name n = {.base = slice_sub(name, 0, slice_index(name, ':'))};
	struct slice info = slice_sub(name, n.base.n, name.n);

	n.seconds = leading_seconds(n.base);
	if (!slice_starts(info, SLICE(":2,")))
		return n;
	info = slice_sub(info, 3, info.n);
	/* A further comma begins what we do not know. */
	info = slice_sub(info, 0, slice_index(info, ','));
	for (size_t i = 0; i < info.n; i++)
		info_letter(&n, info.p[i]);
	return n;
}

/* ---- dovecot-uidlist ---- */

static bool
number_u32(struct slice s, uint32_t *value_r)
{
	uint64_t value;

	if (!slice_u64(s, UINT32_MAX, &value))
		return false;
	*value_r = (uint32_t)value;
	return true;
}

/* "1 <uidvalidity> <next uid>" */
static bool
head_version_1(struct slice rest, struct maildir_uidlist_head *h)
{
	struct slice word;

	return slice_cut(&rest, ' ', &word) && number_u32(word, &h->uidvalidity) && slice_cut(&rest, ' ', &word) &&
	    number_u32(word, &h->uidnext) && rest.p == NULL;
}

/* "3 V<uidvalidity> N<next uid> G<guid>", fields in any order, unknown ones left aside */
static bool
head_version_3(struct slice rest, struct maildir_uidlist_head *h)
{
	struct slice word;
	bool ok = true;

	while (ok && slice_cut(&rest, ' ', &word)) {
		struct slice value = slice_sub(word, 1, word.n);

		if (word.n > 0 && word.p[0] == 'V')
			ok = number_u32(value, &h->uidvalidity);
		else if (word.n > 0 && word.p[0] == 'N')
			ok = number_u32(value, &h->uidnext);
	}
	return ok;
}

bool
maildir_uidlist_head_parse(struct slice line, struct maildir_uidlist_head *head_r)
{
	struct slice version;

	*head_r = (struct maildir_uidlist_head){0};
	if (!slice_cut(&line, ' ', &version))
		return false;
	if (slice_eq(version, SLICE("1")))
		head_r->version = 1;
	else if (slice_eq(version, SLICE("3")))
		head_r->version = 3;
	else
		return false;
	return (head_r->version == 1 ? head_version_1(line, head_r) : head_version_3(line, head_r)) &&
	    head_r->uidvalidity != 0 && head_r->uidnext != 0;
}

bool
maildir_uidlist_line_parse(struct slice line, unsigned version, uint32_t *uid_r, struct slice *base_r)
{
	struct slice word;

	if (!slice_cut(&line, ' ', &word) || !number_u32(word, uid_r) || *uid_r == 0)
		return false;
	/* Version 3: fields such as W1234, then the name behind a colon. */
	while (version == 3 && line.n > 0 && line.p[0] != ':')
		if (!slice_cut(&line, ' ', &word))
			return false;
	if (version == 3 && line.n == 0)
		return false;
	*base_r = slice_sub(line, version == 3 ? 1 : 0, line.n);
	/* An older list may have the info too. */
	*base_r = slice_sub(*base_r, 0, slice_index(*base_r, ':'));
	return base_r->n > 0;
}

/* ---- dovecot-keywords ---- */

bool
maildir_keyword_ok(struct slice name)
{
	for (size_t i = 0; i < name.n; i++)
		if (name.p[i] <= ' ' || name.p[i] >= 0x7f || strchr("(){%*\"\\]", name.p[i]) != NULL)
			return false;
	return name.n > 0 && name.n <= STORE_KEYWORD_BYTES_MAX;
}

bool
maildir_keyword_line_parse(struct slice line, unsigned *index_r, struct slice *name_r)
{
	struct slice number;
	uint64_t index;

	if (!slice_cut(&line, ' ', &number) || !slice_u64(number, MAILDIR_KEYWORDS_MAX - 1, &index) || !maildir_keyword_ok(line))
		return false;
	*index_r = (unsigned)index;
	*name_r = line;
	return true;
}

/* ---- folders ---- */

bool
maildir_folder_decode(struct slice name, uint8_t separator, struct buf *out)
{
	uint8_t wire[STORE_NAME_BYTES_MAX];
	size_t before = out->n;

	if (name.n == 0 || name.n > sizeof wire || slice_index(name, '\0') < name.n)
		return false;
	for (size_t i = 0; i < name.n; i++) {
		/* No separator of ours can be part of a level, nor of a run of modified base64. */
		if (name.p[i] == '/' && separator != '/')
			return false;
		wire[i] = name.p[i] == separator ? '/' : name.p[i];
	}
	if (!mutf7_decode(slice_of(wire, name.n), out) &&
	    (!utf8_valid(slice_of(wire, name.n)) || !buf_put(out, wire, name.n)))
		return false;
	if (out->n - before <= STORE_NAME_BYTES_MAX)
		return true;
	out->n = before;
	return false;
}

bool
maildir_folder_encode(struct slice name, struct buf *out)
{
	struct slice rest = name, level;
	size_t before = out->n;
	bool ok = name.n > 0;

	while (ok && slice_cut(&rest, '/', &level))
		ok = level.n > 0 && slice_index(level, '.') == level.n && buf_put_u8(out, '.') && mutf7_encode(level, out);
	if (ok && out->n - before <= DIRECTORY_BYTES_MAX)
		return true;
	out->n = before;
	return false;
}
