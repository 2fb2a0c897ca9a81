/*
 * DKIM: RFC examples, messages signed by another implementation (data/dkim, python3-dkim) and by libopendkim itself. What the
 * guards of smtpd/dkim_check.c stand against is in test_dkim_guards.c.
 */
#include "smtpd/dkim_key.h"
#include "smtpd/dkim_length.h"
#include "smtpd/dkim_tags.h"
#include "tests/unit/dkim_fixture.h"

#include <dirent.h>

#define DATA "tests/unit/data/dkim/"

/* ---- what must verify ---- */

static const char rfc8463[] =
    "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n"
    " d=football.example.com; i=@football.example.com;\r\n"
    " q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n"
    " subject : date : message-id : from : subject : date;\r\n"
    " bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n"
    " b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus\r\n"
    " Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==\r\n"
    "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;\r\n"
    " d=football.example.com; i=@football.example.com;\r\n"
    " q=dns/txt; s=test; t=1528637909; h=from : to : subject :\r\n"
    " date : message-id : from : subject : date;\r\n"
    " bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n"
    " b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3\r\n"
    " DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz\r\n"
    " dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=\r\n"
    "From: Joe SixPack <joe@football.example.com>\r\n"
    "To: Suzie Q <suzie@shopping.example.net>\r\n"
    "Subject: Is dinner ready?\r\n"
    "Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n"
    "Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n"
    "\r\n"
    "Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n";

/* RFC 8463, appendix A. */
START_TEST(test_rfc8463)
{
	fake_txt(&dns, "brisbane._domainkey.football.example.com",
	    "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=");
	fake_txt(&dns, "test._domainkey.football.example.com",
	    "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQi"
	    "Y/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+"
	    "2kryOTIKT+l/K4w3QIDAQAB");
	verify(rfc8463);
	ck_assert_uint_eq(got_count, 2);
	ck_assert_int_eq(got[0].result, DKIM_RESULT_PASS);
	ck_assert_int_eq(got[1].result, DKIM_RESULT_PASS);
	ck_assert_uint_eq(got[0].key_bits, 256);
	ck_assert_uint_eq(got[1].key_bits, 1024);
	ck_assert(slice_eq(got[0].domain, SLICE("football.example.com")));
	ck_assert(slice_eq(got[0].selector, SLICE("brisbane")));
	ck_assert(slice_eq(got[0].algorithm, SLICE("ed25519-sha256")));
	ck_assert(slice_eq(got[0].identity, SLICE("@football.example.com")));
	ck_assert(slice_eq(got[0].b_prefix, SLICE("/gCrinpc")));
	ck_assert(slice_eq(got[1].b_prefix, SLICE("F45dVWDf")));
}
END_TEST

/* RFC 6376, appendix A.2, with the key of appendix C; both canonicalizations are simple, so every space counts:
 * the body has one behind "game.", where the RFC's typesetting shows two. */
static const char rfc6376[] =
    "DKIM-Signature: v=1; a=rsa-sha256; s=brisbane; d=example.com;\r\n"
    "      c=simple/simple; q=dns/txt; i=joe@football.example.com;\r\n"
    "      h=Received : From : To : Subject : Date : Message-ID;\r\n"
    "      bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n"
    "      b=AuUoFEfDxTDkHlLXSZEpZj79LICEps6eda7W3deTVFOk4yAUoqOB\r\n"
    "      4nujc7YopdG5dWLSdNg6xNAZpOPr+kHxt1IrE+NahM6L/LbvaHut\r\n"
    "      KVdkLLkpVaVVQPzeRDI009SO2Il5Lu7rDNH6mZckBdrIx0orEtZV\r\n"
    "      4bmp/YzhwvcubU4=;\r\n"
    "Received: from client1.football.example.com  [192.0.2.1]\r\n"
    "      by submitserver.example.com with SUBMISSION;\r\n"
    "      Fri, 11 Jul 2003 21:01:54 -0700 (PDT)\r\n"
    "From: Joe SixPack <joe@football.example.com>\r\n"
    "To: Suzie Q <suzie@shopping.example.net>\r\n"
    "Subject: Is dinner ready?\r\n"
    "Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n"
    "Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n"
    "\r\n"
    "Hi.\r\n\r\nWe lost the game. Are you hungry yet?\r\n\r\nJoe.\r\n";

START_TEST(test_rfc6376)
{
	fake_txt(&dns, "brisbane._domainkey.example.com",
	    "v=DKIM1; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDwIRP/UC3SBsEmGqZ9ZJW3/DkMoGeLnQg1fWn7/zYtIxN2SnFCjxOCKG9v3b4jYfcT"
	    "Nh5ijSsq631uBItLa7od+v/RtdC2UzJ1lWT947qR+Rcac2gbto/NMqJ0fzfVjH4OuKhitdY9tf6mcwGjaNBcWToIMmPSPDdQPNUYckcQ2QIDAQAB");
	verify(rfc6376);
	ck_assert_uint_eq(got_count, 1);
	ck_assert_msg(got[0].result == DKIM_RESULT_PASS, "%.*s", (int)got[0].reason.n, (const char *)got[0].reason.p);
	ck_assert_uint_eq(got[0].key_bits, 1024);
	ck_assert(slice_eq(got[0].domain, SLICE("example.com")));
	ck_assert(slice_eq(got[0].identity, SLICE("joe@football.example.com")));
}
END_TEST

static struct buf
read_file(const char *name)
{
	char *path = join(DATA, name, "");
	FILE *f = fopen(path, "rb");
	struct buf b;

	ck_assert_msg(f != NULL, "%s", path);
	buf_init(&b, 65536);
	b.n = fread(buf_room(&b, 65536), 1, 65536, f);
	fclose(f);
	return b;
}

/* Both signatures of each message of data/dkim, in chunks of any size; then with the last octet changed. */
START_TEST(test_other_implementation)
{
	struct buf keys = read_file("keys.txt");
	struct slice rest = buf_slice(&keys), line, name;
	unsigned files = 0;
	DIR *dir = opendir(DATA);

	while (slice_cut(&rest, '\n', &line) && slice_cut(&line, '\t', &name)) {
		char *text = arena_alloc(arena, name.n + 1);

		memcpy(text, name.p, name.n);
		fake_row(&dns, text, DNS_TXT)->data = line;
	}
	ck_assert(dir != NULL);
	for (struct dirent *d; (d = readdir(dir)) != NULL;) {
		if (strstr(d->d_name, ".eml") == NULL)
			continue;
		files++;
		for (chunk_octets = 1; chunk_octets < 5000; chunk_octets = chunk_octets * 7 + 1) {
			struct buf b = read_file(d->d_name);

			verify_slice(buf_slice(&b));
			ck_assert_uint_eq(got_count, 2);
			for (unsigned i = 0; i < 2; i++)
				ck_assert_msg(got[i].result == DKIM_RESULT_PASS, "%s, signature %u: %.*s", d->d_name, i,
				    SLICE_ARG(got[i].reason));
			buf_put_str(&b, "x\r\n");
			verify_slice(buf_slice(&b));
			ck_assert_int_eq(got[0].result, DKIM_RESULT_FAIL);
			ck_assert_int_eq(got[1].result, DKIM_RESULT_FAIL);
			buf_fini(&b);
		}
	}
	closedir(dir);
	ck_assert_uint_eq(files, 20);
	buf_fini(&keys);
}
END_TEST

/* K-01, K-03, K-04: all canonicalisations by the library's own signer; a change anywhere fails. */
START_TEST(test_own_signer)
{
	struct signer key = usual_key();
	struct sign_options o = usual;

	for (int i = 0; i < 4; i++) {
		o.header_c = i & 1 ? DKIM_CANON_RELAXED : DKIM_CANON_SIMPLE;
		o.body_c = i & 2 ? DKIM_CANON_RELAXED : DKIM_CANON_SIMPLE;
		char *message = sign(&key, o);

		ck_assert_str_eq(verify(message), "pass");
		*strstr(message, "hello") = 'H';
		ck_assert_str_eq(verify(message), "fail");
		ck_reason("signature does not match");
		*strstr(message, "Hello") = 'h';
		*strstr(message, "two") = 'T';
		ck_assert_str_eq(verify(message), "fail");
		ck_reason("body hash does not match");
	}
}
END_TEST

START_TEST(test_unsigned)
{
	ck_assert_str_eq(verify("From: a@example.com\r\n\r\nbody\r\n"), "none");
	ck_assert_str_eq(verify("\r\nbody\r\n"), "none");
	ck_assert_str_eq(verify(""), "none");
	ck_assert_uint_eq(dns.asked, 0);
}
END_TEST

/* The first signature fails, the second passes: each has its own result (6376 4.2). */
START_TEST(test_several)
{
	struct signer key = usual_key();
	char *message = sign(&key, usual);
	char *worse = join(message, "", "");

	*strstr(worse, "bh=") = 'B';
	ck_assert_str_eq(verify(worse), "permerror");
	char *one = first_field(message);

	char *octet = &strstr(one, "\tb=")[3];
	*octet = *octet == 'A' ? 'B' : 'A'; /* base64 still */
	verify(join(one, message, ""));
	ck_assert_uint_eq(got_count, 2);
	ck_assert_int_eq(got[0].result, DKIM_RESULT_FAIL);
	ck_assert_int_eq(got[1].result, DKIM_RESULT_PASS);
}
END_TEST

/* ---- signatures that are refused before the library sees them (K-05, K-07) ---- */

struct bad_row {
	const char *tags, *result, *reason;
};

#define GOOD_B "bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=; b=AAAA"
static const struct bad_row bad_signatures[] = {
	{"v=1; a=rsa-sha1; d=example.com; s=s; h=from; " GOOD_B, "fail", "rsa-sha1 is historic"},
	{"v=1; a=rsa-md5; d=example.com; s=s; h=from; " GOOD_B, "permerror", "unknown algorithm"},
	{"v=2; a=rsa-sha256; d=example.com; s=s; h=from; " GOOD_B, "permerror", "v= is not 1"},
	{"a=rsa-sha256; d=example.com; s=s; h=from; " GOOD_B, "permerror", "v= is not 1"},
	{"v=1; a=rsa-sha256; d=example.com; d=other.example; s=s; h=from; " GOOD_B, "permerror", "malformed tag list"},
	{"v=1; a=rsa-sha256; d=example.com; s=s; h=to:subject; " GOOD_B, "permerror", "From is not signed"},
	{"v=1; a=rsa-sha256; d=example.com; s=s; h=; " GOOD_B, "permerror", "a required tag is missing"},
	{"v=1; a=rsa-sha256; d=example.com; h=from; " GOOD_B, "permerror", "a required tag is missing"},
	{"v=1; a=rsa-sha256; s=s; h=from; " GOOD_B, "permerror", "a required tag is missing"},
	{"v=1; a=rsa-sha256; d=example.com; s=s; h=from; b=AAAA", "permerror", "b= or bh= is malformed"},
	{"v=1; a=rsa-sha256; d=example.com; s=s; h=from; bh=AA*A; b=AAAA", "permerror", "b= or bh= is malformed"},
	{"v=1; a=rsa-sha256; d=exa mple.com; s=s; h=from; " GOOD_B, "permerror", "d= or s= is no domain name"},
	{"v=1; a=rsa-sha256; d=example..com; s=s; h=from; " GOOD_B, "permerror", "d= or s= is no domain name"},
	{"v=1; a=rsa-sha256; d=example.com; s=s; h=from; i=a@other.example; " GOOD_B, "permerror", "i= is not within d="},
	{"v=1; a=rsa-sha256; d=example.com; s=s; h=from; i=a@badexample.com; " GOOD_B, "permerror", "i= is not within d="},
	/* the over-read of dkim_qp_decode() */
	{"v=1; a=rsa-sha256; d=example.com; s=s; h=from; i=@example.com=; " GOOD_B, "permerror", "i= is malformed"},
	{"v=1; a=rsa-sha256; d=example.com; s=s; h=from; i=a=4@example.com; " GOOD_B, "permerror", "i= is malformed"},
	{"v=1; a=rsa-sha256; d=example.com; s=s; h=from; i=a=zz@example.com; " GOOD_B, "permerror", "i= is malformed"},
	{"v=1; a=rsa-sha256; d=example.com; s=s; h=from; i=example.com; " GOOD_B, "permerror", "i= is malformed"},
	{"v=1; a=rsa-sha256; d=example.com; s=s; h=from; t=9; x=9; " GOOD_B, "permerror", "x= is not after t="},
	{"v=1; a=rsa-sha256; d=example.com; s=s; h=from; t=8; x=9; " GOOD_B, "permerror", "expired"},
	{"v=1; a=rsa-sha256; d=example.com; s=s; h=from; t=1800000999; " GOOD_B, "permerror", "signed in the future"},
	{"v=1; a=rsa-sha256; d=example.com; s=s; h=from; t=-1; " GOOD_B, "permerror", "t= is malformed"},
	{"v=1; a=rsa-sha256; d=example.com; s=s; h=from; x=9999999999999; " GOOD_B, "permerror", "x= is malformed"},
	{"v=1; a=rsa-sha256; d=example.com; s=s; h=from; c=x/y; " GOOD_B, "permerror", "unknown canonicalization"},
	{"v=1; a=rsa-sha256; d=example.com; s=s; h=from; q=dns; " GOOD_B, "permerror", "unknown query method"},
	{"v=1; a=rsa-sha256; d=example.com; s=s; h=from; l=-1; " GOOD_B, "permerror", "l= is malformed"},
	{"v=1; a=rsa-sha256; d=example.com; s=s; h=from; l=99999999999999999999999; " GOOD_B, "permerror", "l= is malformed"},
	{"", "permerror", "malformed tag list"},
	{";;;", "permerror", "malformed tag list"},
	{"v=1;\x01", "permerror", "malformed tag list"},
};

START_TEST(test_bad_signatures)
{
	const struct bad_row *row = &bad_signatures[_i];

	usual_key();
	ck_assert_str_eq(verify(join("DKIM-Signature: ", row->tags, "\r\nFrom: a@example.com\r\n\r\nx\r\n")), row->result);
	ck_reason(row->reason);
	ck_assert_uint_eq(dns.asked, 0);
}
END_TEST

/* 200 names of h=, and one more; a field of 16 KiB, and an octet more. */
START_TEST(test_too_many_names)
{
	struct buf b;

	usual_key();
	buf_init(&b, 65536);
	for (unsigned names = DKIM_SIGNED_NAMES_MAX; names <= DKIM_SIGNED_NAMES_MAX + 1; names++) {
		buf_reset(&b);
		buf_put_str(&b, "DKIM-Signature: v=1; a=rsa-sha256; d=example.com; s=s; " GOOD_B "; h=from");
		for (unsigned i = 1; i < names; i++)
			buf_put_str(&b, ":x");
		buf_put_str(&b, "\r\nFrom: a@example.com\r\n\r\nx\r\n");
		bool over = names > DKIM_SIGNED_NAMES_MAX;
		ck_assert_str_eq(verify_slice(buf_slice(&b)), over ? "permerror" : "fail");
		ck_reason(over ? "h= has too many names" : "signature does not match");
	}
	for (size_t octets = DKIM_SIGNATURE_BYTES_MAX; octets <= DKIM_SIGNATURE_BYTES_MAX + 1; octets++) {
		buf_reset(&b);
		buf_put_str(&b, "DKIM-Signature: v=1; a=rsa-sha256; d=example.com; s=s; h=from; " GOOD_B);
		while (b.n < octets + strlen("DKIM-Signature:"))
			buf_put_str(&b, " ");
		buf_put_str(&b, "\r\nFrom: a@example.com\r\n\r\nx\r\n");
		bool over = octets > DKIM_SIGNATURE_BYTES_MAX;
		ck_assert_str_eq(verify_slice(buf_slice(&b)), over ? "permerror" : "fail");
		ck_reason(over ? "too long" : "signature does not match");
	}
	buf_fini(&b);
}
END_TEST

/* K-09: as many as are verified, one more, and many more: the topmost are, the others counted. */
START_TEST(test_too_many_signatures)
{
	static const unsigned counts[] = {DKIM_SIGNATURES_MAX, DKIM_SIGNATURES_MAX + 1, 50};
	struct signer key = usual_key();
	char *message = sign(&key, usual), *one = first_field(message);
	struct buf b;

	buf_init(&b, 1 << 20);
	for (size_t k = 0; k < sizeof counts / sizeof counts[0]; k++) {
		buf_reset(&b);
		for (unsigned i = 1; i < counts[k]; i++)
			buf_put_str(&b, one);
		buf_put_str(&b, message);
		dns.asked = 0;
		ck_assert_str_eq(verify_slice(buf_slice(&b)), "pass");
		ck_assert_uint_eq(got_count, DKIM_SIGNATURES_MAX);
		ck_assert_uint_eq(got_skipped, counts[k] - DKIM_SIGNATURES_MAX);
		ck_assert_uint_eq(dns.asked, DKIM_SIGNATURES_MAX);
		for (unsigned i = 0; i < got_count; i++)
			ck_assert_int_eq(got[i].result, DKIM_RESULT_PASS);
	}
	buf_fini(&b);
}
END_TEST

/* Octets of all fields without the ends of their lines: 512 KiB, and one more. */
START_TEST(test_header_octets)
{
	struct signer key = usual_key();
	char *message = sign(&key, usual);
	size_t own = (size_t)(strstr(message, "\r\n\r\n") - message) - 2 * 3;
	struct buf b;

	for (size_t octets = DKIM_HEADER_BYTES_MAX; octets <= DKIM_HEADER_BYTES_MAX + 1; octets++) {
		buf_init(&b, 1 << 20);
		buf_put_str(&b, "X: ");
		while (b.n < octets - own)
			buf_put_str(&b, "y");
		buf_put_str(&b, "\r\n");
		buf_put_str(&b, message);
		bool over = octets > DKIM_HEADER_BYTES_MAX;
		ck_assert_str_eq(verify_slice(buf_slice(&b)), over ? "permerror" : "pass");
		ck_reason(over ? "header is too large" : "");
		buf_fini(&b);
	}
}
END_TEST

START_TEST(test_too_large_header)
{
	struct signer key = usual_key();
	char *message = sign(&key, usual);
	struct buf b;

	for (unsigned fields = DKIM_HEADER_FIELDS_MAX - 4; fields <= DKIM_HEADER_FIELDS_MAX - 3; fields++) {
		buf_init(&b, 1 << 20);
		for (unsigned i = 0; i < fields; i++)
			buf_put_str(&b, "X: y\r\n");
		buf_put_str(&b, message);
		bool over = fields == DKIM_HEADER_FIELDS_MAX - 3;
		ck_assert_str_eq(verify_slice(buf_slice(&b)), over ? "permerror" : "pass");
		if (over)
			ck_reason("header is too large");
		buf_fini(&b);
	}
}
END_TEST

/* ---- keys ---- */

struct key_row {
	const char *before, *after, *result, *reason;
};

static const struct key_row key_rows[] = {
	{"v=DKIM1; k=rsa; p=", "", "pass", ""},
	{"p=", "", "pass", ""},
	{"p=", ";", "pass", ""},
	{"g=*; k=rsa; t=y; n=a note; p=", "", "pass", ""},
	{"v=DKIM1; h=sha1:sha256; s=email; p=", "", "pass", ""},
	{"v=DKIM1; s=*; t=s; p=", "", "pass", ""},
	{"k=rsa; v=DKIM1; p=", "", "permerror", "key record has another version"},
	{"v=DKIM2; p=", "", "permerror", "key record has another version"},
	{"v=DKIM1; k=ed25519; p=", "", "permerror", "key is of another type"},
	{"v=DKIM1; k=rs; p=", "", "permerror", "key is of another type"},
	{"v=DKIM1; h=sha1; p=", "", "permerror", "key is not for this hash"},
	{"v=DKIM1; s=tlsrpt; p=", "", "permerror", "key is not for mail"},
	{"v=DKIM1; p=; n=", "", "permerror", "key is revoked"},
	{"v=DKIM1; p=AAAA; n=", "", "permerror", "key cannot be read"},
	{"v=DKIM1; p=A*", "", "permerror", "key cannot be read"},
	{"v=DKIM1; n=", "", "permerror", "key record is malformed"},
	{"v=DKIM1; p=x; p=", "", "permerror", "key record is malformed"},
};

START_TEST(test_key_records)
{
	const struct key_row *row = &key_rows[_i];
	struct signer key = rsa_signer(1024, _i % 2 == 1);
	char *b64 = strstr(key.record, "p=") + 2;

	fake_txt(&dns, "s._domainkey.example.com", join(row->before, b64, row->after));
	ck_assert_str_eq(verify(sign(&key, usual)), row->result);
	ck_reason(row->reason);
	ck_assert_int_eq(got[0].testing, strstr(row->before, "t=y") != NULL);
}
END_TEST

/* K-08, and all that the DNS may say. */
START_TEST(test_key_answers)
{
	struct signer key = rsa_signer(1024, false), other = rsa_signer(1024, false);
	char *message = sign(&key, usual);

	ck_assert_str_eq(verify(message), "permerror");
	ck_reason("no key");
	fake_status(&dns, "s._domainkey.example.com", DNS_TEMP);
	ck_assert_str_eq(verify(message), "temperror");
	ck_reason("key could not be looked up");
	fake_dns_init(&dns);
	fake_status(&dns, "s._domainkey.example.com", DNS_BOGUS);
	ck_assert_str_eq(verify(message), "temperror");
	ck_reason("DNSSEC of the key is bogus");
	fake_dns_init(&dns);
	dns.refuse_at = 1;
	ck_assert_str_eq(verify(message), "temperror");
	fake_dns_init(&dns);
	fake_txt(&dns, "s._domainkey.example.com", "v=spf1 -all");
	fake_txt(&dns, "s._domainkey.example.com", key.record);
	ck_assert_str_eq(verify(message), "pass");
	fake_txt(&dns, "s._domainkey.example.com", other.record);
	ck_assert_str_eq(verify(message), "permerror");
	ck_reason("several keys");
	fake_dns_init(&dns);
	fake_txt(&dns, "s._domainkey.example.com", other.record);
	ck_assert_str_eq(verify(message), "fail");
}
END_TEST

/* A public key of so many bits that nobody has the other half of, as a record; *der_n_r: its octets. */
static char *
large_record(int bits, size_t *der_n_r)
{
	BIGNUM *n = BN_new(), *exponent = BN_new();
	uint8_t der[4096], *p = der;

	BN_set_bit(n, 0);
	BN_set_bit(n, bits - 1);
	BN_set_word(exponent, 65537);
	ASN1_INTEGER *i = BN_to_ASN1_INTEGER(n, NULL), *e = BN_to_ASN1_INTEGER(exponent, NULL);
	ASN1_put_object(&p, 1, i2d_ASN1_INTEGER(i, NULL) + i2d_ASN1_INTEGER(e, NULL), V_ASN1_SEQUENCE, V_ASN1_UNIVERSAL);
	i2d_ASN1_INTEGER(i, &p);
	i2d_ASN1_INTEGER(e, &p);
	*der_n_r = (size_t)(p - der);
	ASN1_INTEGER_free(i);
	ASN1_INTEGER_free(e);
	BN_free(n);
	BN_free(exponent);
	return join("v=DKIM1; p=", base64_of(der, *der_n_r), "");
}

/* A key of 4096 bits is used, one of a bit more is not; a record of up to DKIM_KEY_BYTES_MAX octets of key is read. */
START_TEST(test_large_keys)
{
	static const struct {
		int bits;
		const char *result, *reason;
	} rows[] = {{DKIM_RSA_BITS_MAX, "fail", "signature does not match"},
	    {DKIM_RSA_BITS_MAX + 1, "permerror", "key is too long"},
	    {8 * (DKIM_KEY_BYTES_MAX - 14), "permerror", "key is too long"},
	    {8 * (DKIM_KEY_BYTES_MAX - 14) + 8, "permerror", "key cannot be read"}, {16384, "permerror", "key cannot be read"}};
	struct signer key = usual_key();
	char *message = sign(&key, usual);

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		size_t n;
		char *record = large_record(rows[i].bits, &n);

		fake_dns_init(&dns);
		fake_txt(&dns, "s._domainkey.example.com", record);
		ck_assert_str_eq(verify(message), rows[i].result);
		ck_reason(rows[i].reason);
		ck_assert_uint_eq(got[0].key_bits, n <= DKIM_KEY_BYTES_MAX ? (uint32_t)rows[i].bits : 0);
		ck_assert(i < 2 || n == DKIM_KEY_BYTES_MAX + i - 2 || i == 4);
	}
}
END_TEST

/* RFC 8301 3.2; the library checks sizes only on one of its paths. */
START_TEST(test_key_sizes)
{
	static const struct {
		unsigned bits;
		const char *result;
	} rows[] = {{512, "fail"}, {1016, "fail"}, {1024, "pass"}, {2048, "pass"}, {4096, "pass"}};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct signer key = rsa_signer(rows[i].bits, false);

		fake_dns_init(&dns);
		fake_txt(&dns, "s._domainkey.example.com", key.record);
		ck_assert_str_eq(verify(sign(&key, usual)), rows[i].result);
		ck_assert_uint_eq(got[0].key_bits, rows[i].bits);
		if (rows[i].bits < 1024)
			ck_reason("key is too short");
	}
}
END_TEST

/* ---- what a pass does not mean ---- */

/* 8.2: what was appended after l= octets is not signed; an l= that covers all is as good as none. */
START_TEST(test_body_length)
{
	struct signer key = usual_key();
	struct sign_options o = usual;

	for (int i = 0; i < 2; i++) {
		o.body_c = i ? DKIM_CANON_RELAXED : DKIM_CANON_SIMPLE;
		o.body = "one\r\ntwo\r\n";
		o.length = 10;
		char *message = sign(&key, o);

		ck_assert_ptr_nonnull(strstr(message, "l=10"));
		ck_assert_str_eq(verify(message), "pass");
		ck_assert(!got[0].partial);
		ck_assert_str_eq(verify(join(message, "three\r\n", "")), "policy");
		ck_assert(got[0].partial);
		ck_reason("a part of the body is not signed");
		/* Trailing white space is no appended text in relaxed form. */
		o.length = -1;
		o.body = "one  \r\ntwo\t \r\n\r\n\r\n";
		ck_assert_str_eq(verify(sign(&key, o)), "pass");
		ck_assert(!got[0].partial);
	}
	o.body = "one\r\ntwo\r\n";
	o.length = 10;
	char *message = sign(&key, o), *cut = strstr(message, "two\r\n");

	*cut = '\0';
	ck_assert_str_eq(verify(message), "permerror");
	ck_reason("l= is longer than the body");
}
END_TEST

START_TEST(test_canonical_lengths)
{
	static const struct {
		const char *body;
		uint64_t simple, relaxed;
	} rows[] = {
		{"", 0, 0},
		{"\r\n\r\n", 0, 0},
		{" \r\n", 3, 0},
		{"a\r\n", 3, 3},
		{"a \t b\r\n", 7, 5},
		{"  a  \r\n\r\n\r\n", 7, 4},
		{"a\r\n\r\nb\r\n", 8, 8},
		{"a\r\n \r\nb\r\n\r\n", 9, 8},
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct dkim_length whole = {.simple = {.octets = 0}}, bytes = whole;
		struct slice body = slice_str(rows[i].body);

		dkim_length_feed(&whole, body);
		for (size_t k = 0; k < body.n; k++)
			dkim_length_feed(&bytes, slice_sub(body, k, k + 1));
		ck_assert_uint_eq(whole.simple.octets, rows[i].simple);
		ck_assert_uint_eq(whole.relaxed.octets, rows[i].relaxed);
		ck_assert(whole.simple.octets == bytes.simple.octets && whole.relaxed.octets == bytes.relaxed.octets);
	}
}
END_TEST

/* A second From put on top: seen only when the signature oversigns; deliver counts the fields besides. */
START_TEST(test_oversigning)
{
	static const char *over[] = {"from", NULL};
	struct signer key = usual_key();
	struct sign_options o = usual;

	char *message = sign(&key, o);
	ck_assert_str_eq(verify(join("From: evil@example.org\r\n", message, "")), "pass");
	o.oversign = over;
	message = sign(&key, o);
	ck_assert_str_eq(verify(message), "pass");
	ck_assert_str_eq(verify(join("From: evil@example.org\r\n", message, "")), "fail");
}
END_TEST

/* t=s with an i= below d=. */
START_TEST(test_strict_identity)
{
	struct signer key = rsa_signer(1024, false);
	char *message = sign(&key, usual);

	fake_txt(&dns, "s._domainkey.example.com", join("t=s; ", strstr(key.record, "p="), ""));
	ck_assert_str_eq(verify(message), "pass");
	char *changed = join("DKIM-Signature: i=a@sub.example.com; ", strchr(message, ':') + 1, "");
	ck_assert_str_eq(verify(changed), "permerror");
	ck_reason("key is for d= itself only");
}
END_TEST

/*
 * K-11, RFC 8616: the name of the key is in A-labels. A signature whose own tags have U-labels (this one is by
 * python3-dkim) is more than libopendkim can read: neither pass nor fail.
 */
START_TEST(test_u_labels)
{
	static const char message[] =
	    "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n"
	    " d=b\303\274cher.example; i=@b\303\274cher.example; q=dns/txt; s=s; t=1700000000;\r\n"
	    " h=from : subject; bh=Ck5SoRNWUpSR4X0COv7R5ub2pUTtl6xz4dTFz++ji4M=;\r\n"
	    " b=ugYi2Vo1aVvvjRiK/htCtk6a9nOlgRiWy77HxoOJww2E4Tsa43mCunRV10X54ecPQx+gO\r\n"
	    " l0Awa3iRYkhc3UcBQ==\r\n"
	    "From: a@b\303\274cher.example\r\nSubject: h\303\251\r\n\r\nbody\r\n";

	struct buf name;

	ck_assert_str_eq(verify(message), "neutral");
	ck_assert(slice_eq(got[0].domain, SLICE("b\303\274cher.example")));
	buf_init(&name, 253);
	ck_assert(dkim_key_name(SLICE("S\303\271"), SLICE("b\303\274cher.example"), &name));
	ck_assert(slice_eq(buf_slice(&name), SLICE("xn--s-7ga._domainkey.xn--bcher-kva.example")));
	buf_fini(&name);
}
END_TEST

/* Time is up before the key comes, before and after the end of the message. */
START_TEST(test_expire)
{
	struct signer key = usual_key();
	char *message = sign(&key, usual);

	for (int early = 0; early < 2; early++) {
		struct dkim_check *c = check_new();

		if (early) {
			dkim_check_header(c, slice_str(first_field(message)));
			dkim_check_header_end(c);
			dkim_check_expire(c);
			ck_assert(!ended);
			dkim_check_end(c);
		} else {
			feed(c, slice_str(message));
			ck_assert(!ended);
			dkim_check_expire(c);
		}
		ck_assert(ended);
		ck_assert_int_eq(got[0].result, DKIM_RESULT_TEMPERROR);
		ck_assert_uint_eq(dns.pending_count, 0);
		dkim_check_free(&c);
	}
	struct dkim_check *c = check_new();
	feed(c, slice_str(message));
	dkim_check_free(&c);
	ck_assert_uint_eq(dns.pending_count, 0);
}
END_TEST

int
main(void)
{
	const TTest *const tests[] = {test_rfc8463, test_rfc6376, test_other_implementation, test_own_signer, test_unsigned,
	    test_several, test_too_many_names, test_too_many_signatures, test_too_large_header, test_header_octets, test_key_answers,
	    test_key_sizes, test_large_keys, test_body_length, test_canonical_lengths, test_oversigning, test_strict_identity, test_u_labels,
	    test_expire};
	Suite *s = suite_create("dkim");
	TCase *t = tcase_create("dkim");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++)
		tcase_add_test(t, tests[i]);
	tcase_add_loop_test(t, test_bad_signatures, 0, sizeof bad_signatures / sizeof bad_signatures[0]);
	tcase_add_loop_test(t, test_key_records, 0, sizeof key_rows / sizeof key_rows[0]);
	tcase_set_timeout(t, 60);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
