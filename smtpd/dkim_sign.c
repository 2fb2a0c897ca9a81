/*
 * A name in h= that no field is left for stands for a field that is not there (RFC 6376 5.4.2): listed once more than there are
 * fields, it makes a field that somebody adds later break the signature (8.15). That is done for what decides whom a
 * message seems to be from, to whom, about what, and how it is shown; the fields of mailing lists and of resending, which others add in
 * good faith, are signed as they are.
 *
 * Fields of one name are taken from the last one up (5.4.2).
 */
#include "smtpd/dkim_sign.h"

#include "common/mem.h"
#include "common/rfc5322.h"
#include "smtpd/dkim_canon.h"

#include <assert.h>
#include <openssl/evp.h>
#include <stdlib.h>

#define LINE_COLUMNS 76
#define BASE64_COLUMNS 72
#define SIGNATURE_BYTES_MAX 1024

enum once_more { NEVER, IF_PRESENT, ALWAYS };

static const struct {
	const char *name;
	enum once_more once_more;
} names[] = {
    {"From", ALWAYS},
    {"To", ALWAYS},
    {"Cc", ALWAYS},
    {"Subject", ALWAYS},
    {"Date", ALWAYS},
    {"Message-ID", ALWAYS},
    {"Reply-To", ALWAYS},
    {"Sender", IF_PRESENT},
    {"In-Reply-To", IF_PRESENT},
    {"References", IF_PRESENT},
    {"MIME-Version", IF_PRESENT},
    {"Content-Type", IF_PRESENT},
    {"Content-Transfer-Encoding", IF_PRESENT},
    {"Resent-Date", NEVER},
    {"Resent-From", NEVER},
    {"Resent-Sender", NEVER},
    {"Resent-To", NEVER},
    {"Resent-Cc", NEVER},
    {"Resent-Message-ID", NEVER},
    {"List-Id", NEVER},
    {"List-Help", NEVER},
    {"List-Subscribe", NEVER},
    {"List-Unsubscribe", NEVER},
    {"List-Unsubscribe-Post", NEVER},
    {"List-Post", NEVER},
    {"List-Owner", NEVER},
    {"List-Archive", NEVER},
};
#define NAMES (sizeof names / sizeof names[0])
#define FROM 0

struct signed_field {
	unsigned name;
	struct slice raw;
};

struct dkim_sign {
	struct buf header;
	bool in_body;
	bool header_too_big;
	size_t line_octets; /* of the header's line that is being read */
	uint8_t last;	    /* octet of it */
	struct dkim_body body;
	uint8_t body_hash[32];
	EVP_MD_CTX *fields_hash; /* of the signed fields */
	struct buf list;	 /* h= */
};

/* ---- reading ---- */

struct dkim_sign *
dkim_sign_new(void)
{
	struct dkim_sign *s = MEM_NEW(struct dkim_sign);
	int ok;

	buf_init(&s->header, DKIM_SIGN_HEADER_BYTES_MAX);
	buf_init(&s->list, DKIM_SIGN_NAMES_BYTES_MAX);
	dkim_body_init(&s->body, true);
	s->fields_hash = EVP_MD_CTX_new();
	ok = s->fields_hash != NULL && EVP_DigestInit_ex(s->fields_hash, EVP_sha256(), NULL) == 1;
	assert(ok);
	return s;
}

void
dkim_sign_free(struct dkim_sign **s)
{
	if (*s == NULL)
		return;
	buf_fini(&(*s)->header);
	buf_fini(&(*s)->list);
	dkim_body_fini(&(*s)->body);
	EVP_MD_CTX_free((*s)->fields_hash);
	MEM_FREE(s);
}

/* Octets of chunk that belong to the header: up to the empty line that ends it, or all. */
static size_t
header_part(struct dkim_sign *s, struct slice chunk)
{
	for (size_t i = 0; i < chunk.n; i++) {
		uint8_t c = chunk.p[i];

		if (c != '\n') {
			s->line_octets++;
			s->last = c;
			continue;
		}
		s->in_body = s->line_octets == 0 || (s->line_octets == 1 && s->last == '\r');
		s->line_octets = 0;
		if (s->in_body)
			return i + 1;
	}
	return chunk.n;
}

void
dkim_sign_feed(struct dkim_sign *s, struct slice chunk)
{
	size_t n = 0;

	if (!s->in_body) {
		n = header_part(s, chunk);
		if (!s->header_too_big && !buf_put_slice(&s->header, slice_sub(chunk, 0, n)))
			s->header_too_big = true;
	}
	dkim_body_feed(&s->body, slice_sub(chunk, n, chunk.n));
}

/* ---- which fields ---- */

/* The fields with a name to be signed, in their order. False when there are too many. */
static bool
collect(struct slice header, struct signed_field found[DKIM_SIGN_FIELDS_MAX], unsigned *count_r)
{
	struct header_field field;
	struct header_iter it;

	*count_r = 0;
	header_iter_init(&it, header);
	while (header_next(&it, &field))
		for (unsigned k = 0; k < NAMES; k++) {
			if (!slice_eq_nocase(field.name, slice_str(names[k].name)))
				continue;
			if (*count_r == DKIM_SIGN_FIELDS_MAX)
				return false;
			found[(*count_r)++] = (struct signed_field){k, field.raw};
		}
	/* Behind the last field that was looked at there may be others, of which the lowest counts. */
	return it.fields_left > 0;
}

static void
list_name(struct dkim_sign *s, unsigned name)
{
	if (s->list.n > 0)
		buf_put_u8(&s->list, ':');
	buf_put_str(&s->list, names[name].name);
}

static void
hash_add(EVP_MD_CTX *hash, struct slice octets)
{
	int ok = EVP_DigestUpdate(hash, octets.p, octets.n);

	assert(ok == 1);
}

static void
hash_field(struct dkim_sign *s, struct slice raw)
{
	struct buf canonical;

	buf_init(&canonical, raw.n + 2);
	dkim_canon_field(raw, true, &canonical);
	assert(!canonical.failed);
	hash_add(s->fields_hash, buf_slice(&canonical));
	buf_fini(&canonical);
}

/* Lists and hashes the fields of one name. */
static void
take_name(struct dkim_sign *s, unsigned name, const struct signed_field *found, unsigned count)
{
	bool present = false;

	for (unsigned i = count; i-- > 0;)
		if (found[i].name == name) {
			list_name(s, name);
			hash_field(s, found[i].raw);
			present = true;
		}
	if (names[name].once_more == ALWAYS || (names[name].once_more == IF_PRESENT && present))
		list_name(s, name);
}

const char *
dkim_sign_end(struct dkim_sign *s)
{
	struct signed_field found[DKIM_SIGN_FIELDS_MAX];
	unsigned count, authors = 0;

	if (s->header_too_big)
		return "the header is too big";
	if (!collect(buf_slice(&s->header), found, &count))
		return "too many header fields";
	for (unsigned i = 0; i < count; i++)
		authors += found[i].name == FROM;
	if (authors == 0)
		return "no From field";
	for (unsigned k = 0; k < NAMES; k++)
		take_name(s, k, found, count);
	if (s->list.failed)
		return "too many header fields";
	dkim_body_end(&s->body, s->body_hash);
	return NULL;
}

/* ---- the field ---- */

static bool
put_base64(struct buf *out, struct slice octets)
{
	uint8_t *to = buf_room(out, (octets.n + 2) / 3 * 4 + 1);

	if (to == NULL)
		return false;
	buf_added(out, (size_t)EVP_EncodeBlock(to, octets.p, (int)octets.n));
	return true;
}

/* "h=" and the names; a line breaks behind a colon. */
static void
put_names(struct slice list, struct buf *out)
{
	struct slice name;
	size_t column = 10;

	buf_put_str(out, "\th=");
	while (slice_cut(&list, ':', &name)) {
		bool last = list.p == NULL;

		if (column + name.n + 1 > LINE_COLUMNS) {
			buf_put_str(out, "\r\n\t ");
			column = 9;
		}
		buf_put_slice(out, name);
		buf_put_str(out, last ? ";\r\n" : ":");
		column += name.n + 1;
	}
}

bool
dkim_sign_prepare(const struct dkim_sign *s, const struct dkim_signer *key, uint64_t now, struct buf *field, uint8_t hash_r[32])
{
	EVP_MD_CTX *hash = EVP_MD_CTX_new();
	size_t begin = field->n;
	struct buf canonical;
	unsigned n = 0;
	int ok;

	buf_putf(field, "DKIM-Signature: v=1; a=%s; c=relaxed/relaxed;\r\n\td=", dkim_algorithm_name(key->algorithm));
	buf_put_slice(field, key->domain);
	buf_put_str(field, "; s=");
	buf_put_slice(field, key->selector);
	buf_putf(field, "; t=%llu;\r\n", (unsigned long long)now);
	put_names(buf_slice(&s->list), field);
	buf_put_str(field, "\tbh=");
	(void)put_base64(field, slice_of(s->body_hash, sizeof s->body_hash));
	buf_put_str(field, ";\r\n\tb=");
	buf_init(&canonical, DKIM_SIGN_FIELD_BYTES_MAX);
	dkim_canon_own_field(slice_sub(buf_slice(field), begin, field->n), true, &canonical);
	ok = hash != NULL && EVP_MD_CTX_copy_ex(hash, s->fields_hash) == 1;
	assert(ok);
	hash_add(hash, buf_slice(&canonical));
	ok = EVP_DigestFinal_ex(hash, hash_r, &n);
	assert(ok == 1 && n == 32);
	EVP_MD_CTX_free(hash);
	ok = !canonical.failed && !field->failed;
	buf_fini(&canonical);
	return ok;
}

bool
dkim_sign_finish(struct slice signature, struct buf *field)
{
	struct buf text;

	buf_init(&text, SIGNATURE_BYTES_MAX * 2);
	if (!put_base64(&text, signature))
		field->failed = true;
	for (size_t at = 0; at < text.n; at += BASE64_COLUMNS) {
		buf_put_str(field, at > 0 ? "\r\n\t " : "");
		buf_put_slice(field, slice_sub(buf_slice(&text), at, at + BASE64_COLUMNS));
	}
	buf_put_str(field, "\r\n");
	buf_fini(&text);
	return !field->failed;
}
