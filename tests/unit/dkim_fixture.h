/*
 * Messages signed by libopendkim, and what dkim_check comes to on them: each verdict is reached a second time from its evidence.
 */
#ifndef TESTS_DKIM_FIXTURE_H
#define TESTS_DKIM_FIXTURE_H

#include "common/mem.h"
#include "smtpd/dkim_check.h"
#include "tests/unit/fake_dns.h"
#include "tests/unit/played.h"

#include <check.h>
#include <opendkim/dkim.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#define NOW 1800000000u

static struct fake_dns dns;
static struct dkim_signature got[DKIM_SIGNATURES_MAX];
static unsigned got_count, got_skipped, told_again;
static bool ended;
static uint64_t now = NOW;
static size_t chunk_octets = 4096;
static struct arena *arena;
static struct answers *written; /* what the DNS told */

static inline void
on_again(void *arg, const struct dkim_outcome *o)
{
	const struct dkim_outcome *first = arg;

	ck_assert_uint_eq(o->count, first->count);
	for (unsigned i = 0; i < o->count; i++) {
		const struct dkim_signature *a = &o->signatures[i], *b = &first->signatures[i];

		ck_assert_msg(a->result == b->result && slice_eq(a->reason, b->reason), "again: %s, %.*s; before: %s, %.*s",
		    dkim_result_name(a->result), SLICE_ARG(a->reason), dkim_result_name(b->result), SLICE_ARG(b->reason));
		ck_assert(a->key_bits == b->key_bits && a->testing == b->testing && a->partial == b->partial);
		ck_assert(slice_eq(a->domain, b->domain) && slice_eq(a->identity, b->identity));
	}
	told_again++;
}

/* From its evidence and what the DNS told it, a verdict comes out the same. */
static inline void
judge_again(const struct dkim_outcome *o)
{
	struct answers *a = played(written);
	struct dkim_check *c;

	told_again = 0;
	union {
		const struct dkim_outcome *from;
		void *to;
	} first = {.from = o};
	c = dkim_check_again(answers_asker(a), now, o->evidence, o->count, o->broken, on_again, first.to);
	dkim_check_end(c);
	answers_play(a);
	dkim_check_expire(c);
	ck_assert_uint_eq(told_again, 1);
	dkim_check_free(&c);
	answers_free(&a);
}

static inline void
on_done(void *arg, const struct dkim_outcome *o)
{
	ck_assert(!ended && arg == &dns);
	ended = true;
	got_count = o->count;
	got_skipped = o->skipped;
	for (unsigned i = 0; i < o->count; i++) {
		got[i] = o->signatures[i];
		struct slice *texts[] = {&got[i].domain, &got[i].selector, &got[i].algorithm, &got[i].identity,
		    &got[i].b_prefix, &got[i].reason};
		for (size_t k = 0; k < sizeof texts / sizeof texts[0]; k++)
			ck_assert(arena_copy(arena, *texts[k], texts[k]));
	}
	judge_again(o);
}

static inline struct dkim_check *
check_new(void)
{
	answers_free(&written);
	written = answers_new(&dns.asker);
	ended = false;
	return dkim_check_new(answers_asker(written), now, on_done, &dns);
}

static inline void
feed(struct dkim_check *c, struct slice message)
{
	size_t at = 0;

	while (at < message.n && message.p[at] != '\r') {
		size_t end = at;

		do {
			end += slice_find(slice_sub(message, end, message.n), SLICE("\r\n")) + 2;
		} while (end < message.n && (message.p[end] == ' ' || message.p[end] == '\t'));
		dkim_check_header(c, slice_sub(message, at, end));
		at = end;
	}
	at += 2;
	dkim_check_header_end(c);
	for (; at < message.n; at += chunk_octets)
		dkim_check_body(c, slice_sub(message, at, at + chunk_octets));
	dkim_check_end(c);
}

/* The result of the only signature, or of all together. */
static inline const char *
verify_slice(struct slice message)
{
	struct dkim_check *c = check_new();

	feed(c, message);
	fake_dns_run(&dns);
	ck_assert(ended);
	dkim_check_free(&c);
	return got_count > 0 ? dkim_result_name(got[0].result) : "none";
}

static inline const char *
verify(const char *message)
{
	return verify_slice(slice_str(message));
}

#define ck_reason(text)                                                                            \
	ck_assert_msg(slice_eq(got[0].reason, slice_str(text)), "%.*s", SLICE_ARG(got[0].reason))

static inline void
setup(void)
{
	fake_dns_init(&dns);
	arena = arena_new(8 << 20);
	now = NOW;
	chunk_octets = 4096;
}

static inline void
teardown(void)
{
	arena_free(&arena);
	answers_free(&written);
}

static inline char *
join(const char *a, const char *b, const char *c)
{
	size_t n = strlen(a) + strlen(b) + strlen(c) + 1;
	char *s = arena_alloc(arena, n);

	snprintf(s, n, "%s%s%s", a, b, c);
	return s;
}

/* ---- signing, by libopendkim ---- */

struct signer {
	char *pem;
	char *record;
};

static inline char *
base64_of(const uint8_t *p, size_t n)
{
	char *to = arena_alloc(arena, 4 * n / 3 + 8);

	EVP_EncodeBlock((uint8_t *)to, p, (int)n);
	return to;
}

static inline struct signer
rsa_signer(unsigned bits, bool bare)
{
	EVP_PKEY *key = EVP_RSA_gen(bits);
	BIO *bio = BIO_new(BIO_s_mem());
	uint8_t *der = NULL;
	char *text;
	struct signer s;
	int n;

	ck_assert(key != NULL);
	PEM_write_bio_PrivateKey_traditional(bio, key, NULL, NULL, 0, NULL, NULL);
	n = (int)BIO_get_mem_data(bio, &text);
	s.pem = arena_alloc(arena, (size_t)n + 1);
	memcpy(s.pem, text, (size_t)n);
	n = bare ? i2d_PublicKey(key, &der) : i2d_PUBKEY(key, &der);
	s.record = join("v=DKIM1; p=", base64_of(der, (size_t)n), "");
	OPENSSL_free(der);
	BIO_free(bio);
	EVP_PKEY_free(key);
	return s;
}

struct sign_options {
	const char *domain, *selector, *header, *body;
	dkim_canon_t header_c, body_c;
	dkim_alg_t alg;
	ssize_t length; /* -1: whole */
	const char **oversign;
};

/* The message with its signature at the top. */
static inline char *
sign(const struct signer *key, struct sign_options o)
{
	static DKIM_LIB *lib;
	const char *rest = o.header;
	unsigned char *text;
	DKIM_STAT status;
	size_t n;

	if (lib == NULL)
		lib = dkim_init(NULL, NULL);
	uint64_t fixed = 1700000000; /* the library has no other clock but the system's when it verifies */
	dkim_options(lib, DKIM_OP_SETOPT, DKIM_OPTS_FIXEDTIME, &fixed, sizeof fixed);
	unsigned bits = 512;
	dkim_options(lib, DKIM_OP_SETOPT, DKIM_OPTS_MINKEYBITS, &bits, sizeof bits);
	dkim_options(lib, DKIM_OP_SETOPT, DKIM_OPTS_OVERSIGNHDRS, o.oversign, sizeof(char **));
	DKIM *d = dkim_sign(lib, (const unsigned char *)"t", NULL, (unsigned char *)key->pem,
	    (const unsigned char *)o.selector, (const unsigned char *)o.domain, o.header_c, o.body_c, o.alg,
	    o.length, &status);
	ck_assert_msg(d != NULL, "dkim_sign: %d", status);
	while (*rest != '\0') {
		size_t end = 0;

		do {
			end += (size_t)(strstr(rest + end, "\r\n") - (rest + end)) + 2;
		} while (rest[end] == ' ' || rest[end] == '\t');
		ck_assert_int_eq(dkim_header(d, (unsigned char *)join(rest, "", ""), end - 2), DKIM_STAT_OK);
		rest += end;
	}
	ck_assert_int_eq(dkim_eoh(d), DKIM_STAT_OK);
	if (*o.body != '\0')
		ck_assert_int_eq(dkim_body(d, (unsigned char *)join(o.body, "", ""), strlen(o.body)), DKIM_STAT_OK);
	ck_assert_int_eq(dkim_eom(d, NULL), DKIM_STAT_OK);
	ck_assert_int_eq(dkim_getsighdr_d(d, 16, &text, &n), DKIM_STAT_OK);
	struct buf b;
	buf_init(&b, 65536);
	buf_put_str(&b, "DKIM-Signature: ");
	for (size_t i = 0; i < n; i++) {
		if (text[i] == '\n' && (i == 0 || text[i - 1] != '\r'))
			buf_put_u8(&b, '\r');
		buf_put_u8(&b, text[i]);
	}
	buf_put_str(&b, "\r\n");
	buf_put_u8(&b, 0);
	char *whole = join((char *)b.p, o.header, join("\r\n", o.body, ""));
	buf_fini(&b);
	dkim_free(d);
	return whole;
}

static const struct sign_options usual = {.domain = "example.com",
    .selector = "s",
    .header = "From: a@example.com\r\nTo: b@example.net\r\nSubject: hello\r\n",
    .body = "one\r\ntwo  \r\n",
    .header_c = DKIM_CANON_RELAXED,
    .body_c = DKIM_CANON_RELAXED,
    .alg = DKIM_SIGN_RSASHA256,
    .length = -1};

static inline struct signer
usual_key(void)
{
	struct signer s = rsa_signer(1024, false);

	fake_txt(&dns, "s._domainkey.example.com", s.record);
	return s;
}

/* Its signature, with the CRLF. */
static inline char *
first_field(const char *message)
{
	char *one = join(message, "", "");

	strstr(one, "\r\nFrom:")[2] = '\0';
	return one;
}

#endif
