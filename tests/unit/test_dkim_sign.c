/*
 * Signing: what smtpd/dkim_sign.c makes is verified by libopendkim behind smtpd/dkim_check.c, with both algorithms; and the file of
 * selectors. Another implementation verifies it in tests/instance/test_signing.py.
 */
#include "common/mem.h"
#include "smtpd/dkim_check.h"
#include "smtpd/dkim_sign.h"
#include "tests/unit/fake_dns.h"

#include <check.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#define NOW 1700000000u
#define MESSAGE_BYTES_MAX (27u << 20)

static struct fake_dns dns;
static EVP_PKEY *keys[DKIM_ALGORITHMS];
static char records[DKIM_ALGORITHMS][1024];
static const char *const selectors[DKIM_ALGORITHMS] = {"r1", "e1"};
static unsigned result_count;
static enum dkim_result results[DKIM_SIGNATURES_MAX];
static struct buf message;

/* Once for all tests: keys take their time. */
static void
make_keys(void)
{
	uint8_t raw[32], *der = NULL, text[1000];
	size_t n = sizeof raw;

	keys[DKIM_RSA_SHA256] = EVP_RSA_gen(2048);
	keys[DKIM_ED25519_SHA256] = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	int der_n = i2d_PUBKEY(keys[DKIM_RSA_SHA256], &der);

	EVP_EncodeBlock(text, der, der_n);
	OPENSSL_free(der);
	snprintf(records[DKIM_RSA_SHA256], sizeof records[0], "v=DKIM1; k=rsa; p=%s", text);
	EVP_PKEY_get_raw_public_key(keys[DKIM_ED25519_SHA256], raw, &n);
	EVP_EncodeBlock(text, raw, 32);
	snprintf(records[DKIM_ED25519_SHA256], sizeof records[0], "v=DKIM1; k=ed25519; p=%s", text);
}

static void
free_keys(void)
{
	for (unsigned a = 0; a < DKIM_ALGORITHMS; a++)
		EVP_PKEY_free(keys[a]);
}

static void
setup(void)
{
	fake_dns_init(&dns);
	fake_txt(&dns, "r1._domainkey.example.com", records[DKIM_RSA_SHA256]);
	fake_txt(&dns, "e1._domainkey.example.com", records[DKIM_ED25519_SHA256]);
	buf_init(&message, MESSAGE_BYTES_MAX);
}

static void
teardown(void)
{
	buf_fini(&message);
}

/* The private-key operation, as the key role does it. */
static size_t
operate(enum dkim_algorithm a, const uint8_t hash[32], uint8_t signature[512])
{
	size_t n = 512;

	if (a == DKIM_ED25519_SHA256) {
		EVP_MD_CTX *c = EVP_MD_CTX_new();

		ck_assert_int_eq(EVP_DigestSignInit(c, NULL, NULL, NULL, keys[a]), 1);
		ck_assert_int_eq(EVP_DigestSign(c, signature, &n, hash, 32), 1);
		EVP_MD_CTX_free(c);
		return n;
	}
	EVP_PKEY_CTX *c = EVP_PKEY_CTX_new(keys[a], NULL);

	ck_assert(EVP_PKEY_sign_init(c) > 0 && EVP_PKEY_CTX_set_rsa_padding(c, RSA_PKCS1_PADDING) > 0 &&
	    EVP_PKEY_CTX_set_signature_md(c, EVP_sha256()) > 0 && EVP_PKEY_sign(c, signature, &n, hash, 32) > 0);
	EVP_PKEY_CTX_free(c);
	return n;
}

/* Appends the fields of both algorithms to out; or gives why not. */
static const char *
sign_fields(struct slice text, size_t chunk, struct buf *out)
{
	struct dkim_sign *s = dkim_sign_new();
	uint8_t hash[32], signature[512];
	const char *why;

	for (size_t at = 0; at < text.n; at += chunk)
		dkim_sign_feed(s, slice_sub(text, at, at + chunk));
	why = dkim_sign_end(s);
	for (unsigned a = 0; why == NULL && a < DKIM_ALGORITHMS; a++) {
		struct dkim_signer k = {a, SLICE("example.com"), slice_str(selectors[a])};

		ck_assert(dkim_sign_prepare(s, &k, NOW, out, hash));
		ck_assert(dkim_sign_finish(slice_of(signature, operate(a, hash, signature)), out));
	}
	dkim_sign_free(&s);
	return why;
}

/* The message becomes text under its signatures. */
static void
sign(struct slice text, size_t chunk)
{
	buf_reset(&message);
	ck_assert_ptr_null(sign_fields(text, chunk, &message));
	buf_put_slice(&message, text);
	ck_assert(!message.failed);
}

static void
on_done(void *arg, const struct dkim_outcome *o)
{
	(void)arg;
	result_count = o->count;
	for (unsigned i = 0; i < o->count; i++)
		results[i] = o->signatures[i].result;
}

/* Verifies what is in message, with those fields on top. */
static void
verify(const char *top)
{
	struct dkim_check *c = dkim_check_new(&dns.asker, 0, on_done, NULL);
	struct slice m = buf_slice(&message);
	size_t at = 0;

	result_count = 0;
	if (*top != '\0')
		dkim_check_header(c, slice_str(top));
	while (at < m.n && m.p[at] != '\r') {
		size_t end = at;

		do {
			end += slice_find(slice_sub(m, end, m.n), SLICE("\r\n")) + 2;
		} while (end < m.n && (m.p[end] == ' ' || m.p[end] == '\t'));
		dkim_check_header(c, slice_sub(m, at, end));
		at = end;
	}
	dkim_check_header_end(c);
	for (at += 2; at < m.n; at += 65536)
		dkim_check_body(c, slice_sub(m, at, at + 65536));
	dkim_check_end(c);
	fake_dns_run(&dns);
	dkim_check_free(&c);
	ck_assert_uint_eq(result_count, 2);
}

static void
passes(const char *top)
{
	verify(top);
	for (unsigned i = 0; i < 2; i++)
		ck_assert_msg(results[i] == DKIM_RESULT_PASS, "%s: %s with \"%s\"", dkim_algorithm_name(i), dkim_result_name(results[i]), top);
}

static void
fails(const char *top)
{
	verify(top);
	for (unsigned i = 0; i < 2; i++)
		ck_assert_msg(results[i] == DKIM_RESULT_FAIL, "%s: %s with \"%s\"", dkim_algorithm_name(i), dkim_result_name(results[i]), top);
}

/* ---- messages ---- */

#define FROM "From: Joe <joe@example.com>\r\n"
#define USUAL FROM "To: bob@example.net\r\nSubject: hello\r\nDate: Mon, 01 Jan 2024 00:00:00 +0000\r\nMessage-ID: <1@example.com>\r\n"

static const struct {
	const char *name, *text;
} messages[] = {
    {"usual", USUAL "\r\none\r\ntwo\r\n"},
    {"author alone", FROM "\r\nx\r\n"},
    {"empty body", USUAL "\r\n"},
    {"no body, no empty line", USUAL},
    {"body of line ends", USUAL "\r\n\r\n\r\n\r\n"},
    {"white space", USUAL "\r\n one  two \t three \t\r\n \t \r\nend   \r\n \r\n\r\n"},
    {"no last line end", USUAL "\r\nno end"},
    {"folded", "From:\r\n Joe\r\n\t <joe@example.com>  \r\nSUBJECT  :  a\r\n   b\tc \r\nTo:bob@example.net\r\n\r\nx\r\n"},
    {"empty values", FROM "Subject:\r\nTo: \r\nCc:\r\n\r\nx\r\n"},
    {"fields twice", USUAL "Subject: again\r\nTo: carol@example.net\r\nto: dave@example.net\r\nReferences: <a@b>\r\nReferences: <c@d>\r\n\r\nx\r\n"},
    {"mime", USUAL "MIME-Version: 1.0\r\nContent-Type: multipart/mixed;\r\n\tboundary=\"b\"\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n"},
    {"8-bit", USUAL "Content-Transfer-Encoding: 8bit\r\nReply-To: J\xc3\xb6 <j@example.com>\r\n\r\n\xff\xc3\xb6\r\n"},
    {"list", USUAL "List-Id: <l.example.com>\r\nList-Unsubscribe: <https://example.com/u>\r\n"
		   "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n\r\nx\r\n"},
    {"resent", "Resent-From: r@example.com\r\nResent-To: s@example.com\r\nResent-From: q@example.com\r\n" USUAL "\r\nx\r\n"},
    {"b= elsewhere", USUAL "X-B: b=1; b=2\r\nIn-Reply-To: <b=;@example.com>\r\n\r\nb=\r\n"},
    {"not ours to sign", "Received: from a by b; x\r\nBcc: hidden@example.net\r\nX-Mailer: y\r\n" USUAL "\r\nx\r\n"},
};

START_TEST(test_messages)
{
	struct slice text = slice_str(messages[_i].text);
	static const size_t chunks[] = {4096, 1, 2, 7};
	struct buf first, other;

	buf_init(&first, 16384);
	buf_init(&other, 16384);
	ck_assert_ptr_null(sign_fields(text, chunks[0], &first));
	for (size_t c = 1; c < sizeof chunks / sizeof chunks[0]; c++) {
		buf_reset(&other);
		ck_assert_ptr_null(sign_fields(text, chunks[c], &other));
		ck_assert_msg(slice_eq(buf_slice(&first), buf_slice(&other)), "%s: chunks of %zu", messages[_i].name, chunks[c]);
	}
	buf_put_slice(&message, buf_slice(&first));
	buf_put_slice(&message, text);
	buf_put_str(&message, slice_find(text, SLICE("\r\n\r\n")) == text.n ? "\r\n" : "");
	passes("");
	buf_fini(&first);
	buf_fini(&other);
}
END_TEST

/* Another signature in the message is neither signed nor in the way. */
START_TEST(test_signed_before)
{
	static const char other[] = "DKIM-Signature: v=1; a=rsa-sha256; d=other.example; s=x; h=from; bh=AAAA; b=AAAA\r\n";

	sign(SLICE(USUAL "\r\nx\r\n"), 100);
	struct buf alone;

	buf_init(&alone, 16384);
	buf_put_slice(&alone, slice_sub(buf_slice(&message), 0, slice_find(buf_slice(&message), SLICE(FROM))));
	buf_reset(&message);
	buf_put_str(&message, other);
	buf_put_str(&message, USUAL "\r\nx\r\n");
	struct buf above;

	buf_init(&above, 16384);
	ck_assert_ptr_null(sign_fields(buf_slice(&message), 100, &above));
	ck_assert(slice_eq(buf_slice(&above), buf_slice(&alone)));
	buf_fini(&alone);
	buf_fini(&above);
}
END_TEST

/* What somebody on the way adds or changes. */
START_TEST(test_added)
{
	sign(SLICE(USUAL "MIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\nx\r\n"), 4096);
	static const char *const breaks[] = {"From: e@evil.example\r\n", "To: e@evil.example\r\n", "Cc: e@evil.example\r\n", "Subject: evil\r\n",
	    "Date: Tue, 02 Jan 2024 00:00:00 +0000\r\n", "Message-ID: <2@example.com>\r\n", "Reply-To: e@evil.example\r\n",
	    "MIME-Version: 1.0\r\n", "Content-Type: text/html\r\n", "subJECT : evil\r\n"};
	static const char *const leaves[] = {"", "Received: from a by b; x\r\n", "List-Id: <l.example>\r\n", "Sender: l@list.example\r\n",
	    "Authentication-Results: b; dkim=pass\r\n", "Resent-From: r@example.org\r\n", "X-Spam: no\r\n"};

	for (size_t i = 0; i < sizeof breaks / sizeof breaks[0]; i++)
		fails(breaks[i]);
	for (size_t i = 0; i < sizeof leaves / sizeof leaves[0]; i++)
		passes(leaves[i]);
}
END_TEST

static void
change(const char *from, const char *to)
{
	size_t at = slice_find(buf_slice(&message), slice_str(from));

	ck_assert_uint_lt(at, message.n);
	ck_assert_uint_eq(strlen(from), strlen(to));
	memcpy(message.p + at, to, strlen(to));
}

START_TEST(test_changed)
{
	static const char *const rows[][2] = {{"Joe <joe", "Moe <joe"}, {"Subject: hello", "Subject: hallo"}, {"\r\n\r\none", "\r\n\r\noNe"},
	    {"two\r\n", "two!!"}, {"1 Jan 2024", "2 Jan 2024"}};

	sign(SLICE(USUAL "\r\none\r\ntwo\r\n"), 4096);
	passes("");
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		change(rows[i][0], rows[i][1]);
		fails("");
		change(rows[i][1], rows[i][0]);
	}
	passes("");
}
END_TEST

START_TEST(test_big_body)
{
	static uint8_t line[78];
	struct buf text;

	buf_init(&text, MESSAGE_BYTES_MAX);
	buf_put_str(&text, USUAL "\r\n");
	for (size_t i = 0; text.n < 25u << 20; i++) {
		memset(line, 'a' + (int)(i % 26), sizeof line - 2);
		memcpy(line + sizeof line - 2, "\r\n", 2);
		buf_put(&text, line, sizeof line);
	}
	sign(buf_slice(&text), 65536);
	passes("");
	message.p[message.n - 100] ^= 1;
	fails("");
	buf_fini(&text);
}
END_TEST

/* ---- the field ---- */

START_TEST(test_field)
{
	struct dkim_signer key = {DKIM_ED25519_SHA256, SLICE("example.com"), SLICE("e1")};
	struct dkim_sign *s = dkim_sign_new();
	uint8_t hash[32];

	dkim_sign_feed(s, SLICE(USUAL "to: x@example.net\r\nList-Id: <l>\r\nSender: s@example.com\r\n\r\n"));
	ck_assert_ptr_null(dkim_sign_end(s));
	ck_assert(dkim_sign_prepare(s, &key, NOW, &message, hash));
	ck_assert(dkim_sign_finish(SLICE("0123456789012345678901234567890123456789012345678901234567890123"), &message));
	dkim_sign_free(&s);
	buf_put_u8(&message, '\0');
	ck_assert_str_eq((const char *)message.p,
	    "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n"
	    "\td=example.com; s=e1; t=1700000000;\r\n"
	    "\th=From:From:To:To:To:Cc:Subject:Subject:Date:Date:Message-ID:\r\n"
	    "\t Message-ID:Reply-To:Sender:Sender:List-Id;\r\n"
	    "\tbh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=;\r\n"
	    "\tb=MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz\r\n"
	    "\t NDU2Nzg5MDEyMw==\r\n");
}
END_TEST

/* Every line ends in CRLF, and is as short as may be; the longest field fits, two of them into one answer. */
START_TEST(test_folding)
{
	static uint8_t signature[512];
	char domain[254], selector[DKIM_SELECTOR_BYTES_MAX + 1];
	struct dkim_signer key = {DKIM_RSA_SHA256, slice_of(domain, 253), slice_of(selector, DKIM_SELECTOR_BYTES_MAX)};
	struct dkim_sign *s = dkim_sign_new();
	uint8_t hash[32];
	size_t line = 0;

	memset(domain, 'd', sizeof domain);
	memset(selector, 's', sizeof selector);
	dkim_sign_feed(s, SLICE(FROM));
	for (unsigned i = 0; i < 24; i++)
		dkim_sign_feed(s, SLICE("Content-Transfer-Encoding: 7bit\r\nList-Unsubscribe: <x>\r\n"));
	dkim_sign_feed(s, SLICE("\r\n"));
	/* 24 * 43 octets are too many. */
	ck_assert_ptr_nonnull(dkim_sign_end(s));
	dkim_sign_free(&s);
	s = dkim_sign_new();
	dkim_sign_feed(s, SLICE(FROM));
	for (unsigned i = 0; i < 20; i++)
		dkim_sign_feed(s, SLICE("Content-Transfer-Encoding: 7bit\r\nList-Unsubscribe: <x>\r\n"));
	ck_assert_ptr_null(dkim_sign_end(s));
	ck_assert(dkim_sign_prepare(s, &key, UINT32_MAX, &message, hash));
	ck_assert(dkim_sign_finish(slice_of(signature, sizeof signature), &message));
	ck_assert_uint_le(message.n, DKIM_SIGN_FIELD_BYTES_MAX);
	key.algorithm = DKIM_ED25519_SHA256;
	ck_assert(dkim_sign_prepare(s, &key, UINT32_MAX, &message, hash));
	ck_assert(dkim_sign_finish(slice_of(signature, 64), &message));
	ck_assert_uint_le(message.n, 4096);
	for (size_t i = 0; i < message.n; i++) {
		ck_assert_int_eq(message.p[i] == '\n', i > 0 && message.p[i - 1] == '\r');
		line = message.p[i] == '\n' ? 0 : line + 1;
		ck_assert_uint_le(line, 998);
	}
	dkim_sign_free(&s);
}
END_TEST

/* A field that does not fit its buffer is none. */
START_TEST(test_small_buffer)
{
	struct dkim_signer key = {DKIM_ED25519_SHA256, SLICE("example.com"), SLICE("e1")};
	uint8_t hash[32], signature[64] = {0};
	struct dkim_sign *s = dkim_sign_new();
	size_t whole;

	dkim_sign_feed(s, SLICE(USUAL "\r\n"));
	ck_assert_ptr_null(dkim_sign_end(s));
	ck_assert(dkim_sign_prepare(s, &key, NOW, &message, hash));
	ck_assert(dkim_sign_finish(slice_of(signature, sizeof signature), &message));
	whole = message.n;
	for (size_t max = 0; max <= whole + 3; max++) {
		struct buf small;

		buf_init(&small, max);
		bool good = dkim_sign_prepare(s, &key, NOW, &small, hash) && dkim_sign_finish(slice_of(signature, sizeof signature), &small);

		ck_assert(!good || max >= whole);
		ck_assert(good || max < whole + 2);
		buf_fini(&small);
	}
	dkim_sign_free(&s);
}
END_TEST

/* ---- what is not signed ---- */

static const char *
try_header(const char *before, const char *field, size_t times, const char *after)
{
	struct dkim_sign *s = dkim_sign_new();
	const char *why;

	dkim_sign_feed(s, slice_str(before));
	for (size_t i = 0; i < times; i++)
		dkim_sign_feed(s, slice_str(field));
	dkim_sign_feed(s, slice_str(after));
	why = dkim_sign_end(s);
	dkim_sign_free(&s);
	return why;
}

START_TEST(test_refused)
{
	ck_assert_str_eq(try_header("", "", 0, ""), "no From field");
	ck_assert_str_eq(try_header("", "", 0, "\r\n" FROM), "no From field");
	ck_assert_str_eq(try_header("", "", 0, "To: a@b\r\n\r\n" FROM), "no From field");
	ck_assert_ptr_null(try_header("", "", 0, FROM));
	/* 64 fields to be signed, then one more. */
	ck_assert_ptr_null(try_header(FROM, "To: a@b\r\n", DKIM_SIGN_FIELDS_MAX - 2, "\r\n"));
	ck_assert_ptr_null(try_header(FROM, "To: a@b\r\n", DKIM_SIGN_FIELDS_MAX - 1, "\r\n"));
	ck_assert_str_eq(try_header(FROM, "To: a@b\r\n", DKIM_SIGN_FIELDS_MAX, "\r\n"), "too many header fields");
	/* Others do not count, up to what header_next() looks at. */
	ck_assert_ptr_null(try_header(FROM, "X: a\r\n", 9998, "\r\n"));
	ck_assert_str_eq(try_header(FROM, "X: a\r\n", 9999, "\r\n"), "too many header fields");
}
END_TEST

START_TEST(test_header_size)
{
	size_t room = DKIM_SIGN_HEADER_BYTES_MAX - strlen(FROM) - strlen("\r\n");
	char *line = mem_new_array(1002, 1);

	memset(line, 'x', 1000);
	memcpy(line, "X: ", 3);
	memcpy(line + 998, "\r\n", 2);
	line[1000] = '\0';
	ck_assert_ptr_null(try_header(FROM, line, room / 1000, "\r\n"));
	ck_assert_str_eq(try_header(FROM, line, room / 1000 + 1, "\r\n"), "the header is too big");
	free(line);
}
END_TEST

/* ---- the file of selectors ---- */

static const struct {
	const char *text;
	unsigned n; /* 99: not such a file */
} files[] = {
    {"mailstead-dkim 1\n", 0},
    {"mailstead-dkim 1\nm1 rsa 1 2 3 4 5\n", 1},
    {"mailstead-dkim 1\nm1 rsa 1 0 0 0 0\nm2 ed25519 1 0 0 0 0\n", 2},
    {"", 99},
    {"mailstead-dkim 1", 99},
    {"mailstead-dkim 2\n", 99},
    {"mailstead-dkim 1\n\n", 99},
    {"mailstead-dkim 1\nm1 rsa 1 2 3 4 5", 99},
    {"mailstead-dkim 1\nm1 rsa 1 2 3 4\n", 99},
    {"mailstead-dkim 1\nm1 rsa 1 2 3 4 5 6\n", 99},
    {"mailstead-dkim 1\nm1 rsa 1  3 4 5 6\n", 99},
    {"mailstead-dkim 1\nm1 rsa -1 2 3 4 5\n", 99},
    {"mailstead-dkim 1\nm1 rsa 1 2 3 4 999999999999\n", 99},
    {"mailstead-dkim 1\nm1 dsa 1 2 3 4 5\n", 99},
    {"mailstead-dkim 1\nM1 rsa 1 2 3 4 5\n", 99},
    {"mailstead-dkim 1\n../m1 rsa 1 2 3 4 5\n", 99},
    {"mailstead-dkim 1\na.b rsa 1 2 3 4 5\n", 99},
    {"mailstead-dkim 1\n-a rsa 1 2 3 4 5\n", 99},
    {"mailstead-dkim 1\nm1 rsa 1 2 3 4 5\nm1 ed25519 1 2 3 4 5\n", 99},
    {"mailstead-dkim 1\r\nm1 rsa 1 2 3 4 5\r\n", 99},
};

START_TEST(test_files)
{
	static struct dkim_selectors list;
	bool good = dkim_selectors_parse(slice_str(files[_i].text), &list);

	ck_assert_msg(good == (files[_i].n != 99), "%s", files[_i].text);
	if (!good)
		return;
	ck_assert_uint_eq(list.n, files[_i].n);
	ck_assert(dkim_selectors_print(&list, &message));
	ck_assert(slice_eq(buf_slice(&message), slice_str(files[_i].text)));
}
END_TEST

START_TEST(test_file_limit)
{
	static struct dkim_selectors list;
	enum dkim_algorithm a;

	buf_put_str(&message, "mailstead-dkim 1\n");
	for (unsigned i = 0; i <= DKIM_SELECTORS_MAX; i++) {
		ck_assert(dkim_selectors_parse(buf_slice(&message), &list));
		ck_assert_uint_eq(list.n, i);
		buf_putf(&message, "s%u ed25519 99999999999 99999999999 99999999999 99999999999 99999999999\n", i);
	}
	ck_assert(!dkim_selectors_parse(buf_slice(&message), &list));
	ck_assert_ptr_eq(dkim_selectors_find(&list, SLICE("s3")), &list.v[3]);
	ck_assert_ptr_null(dkim_selectors_find(&list, SLICE("s")));
	ck_assert(dkim_algorithm_of(SLICE("rsa"), &a) && a == DKIM_RSA_SHA256 && !dkim_algorithm_of(SLICE("RSA"), &a));
	ck_assert_str_eq(dkim_algorithm_key_type(DKIM_ED25519_SHA256), "ed25519");
	ck_assert(dkim_selector_name_valid(SLICE("a-1")) && !dkim_selector_name_valid(SLICE("a-")) && !dkim_selector_name_valid(SLICE("a_1")));
	/* The longest that may be written can be read. */
	for (unsigned i = 0; i < DKIM_SELECTORS_MAX; i++)
		memset(list.v[i].name + 3, 'x', DKIM_SELECTOR_BYTES_MAX - 3);
	buf_reset(&message);
	ck_assert(dkim_selectors_print(&list, &message));
	ck_assert_uint_le(message.n, DKIM_SELECTOR_FILE_BYTES_MAX);
}
END_TEST

START_TEST(test_states)
{
	struct dkim_selector s = {.name = "m1", .created = 100};

	ck_assert_str_eq(dkim_selector_state_name(dkim_selector_state(&s, 1000)), "created");
	s.published = 200;
	ck_assert_str_eq(dkim_selector_state_name(dkim_selector_state(&s, 1000)), "published");
	s.use_from = 1001;
	ck_assert_int_eq(dkim_selector_state(&s, 1000), DKIM_SELECTOR_PUBLISHED);
	ck_assert_int_eq(dkim_selector_state(&s, 1001), DKIM_SELECTOR_ACTIVE);
	s.retire_at = 1003;
	ck_assert_str_eq(dkim_selector_state_name(dkim_selector_state(&s, 1002)), "active");
	ck_assert_str_eq(dkim_selector_state_name(dkim_selector_state(&s, 1003)), "retired");
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("dkim_sign");
	TCase *t = tcase_create("dkim_sign");
	SRunner *r;
	int failed;

	dkim_check_global_init();
	tcase_add_unchecked_fixture(t, make_keys, free_keys);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_loop_test(t, test_messages, 0, sizeof messages / sizeof messages[0]);
	tcase_add_loop_test(t, test_files, 0, sizeof files / sizeof files[0]);
	tcase_add_test(t, test_signed_before);
	tcase_add_test(t, test_added);
	tcase_add_test(t, test_changed);
	tcase_add_test(t, test_big_body);
	tcase_add_test(t, test_field);
	tcase_add_test(t, test_folding);
	tcase_add_test(t, test_small_buffer);
	tcase_add_test(t, test_refused);
	tcase_add_test(t, test_header_size);
	tcase_add_test(t, test_file_limit);
	tcase_add_test(t, test_states);
	tcase_set_timeout(t, 60);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
