/*
 * The key role's DKIM keys: the example of RFC 8463 comes out octet for octet; which key signs for whom and when; files that are broken.
 */
#include "authd/key_dkim.h"
#include "authd/key_files.h"
#include "common/log.h"
#include "common/mem.h"
#include "smtpd/dkim_canon.h"
#include "tests/unit/tree.h"

#include <check.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static struct key_dkim *ks;
static struct err e;

static void
setup(void)
{
	ks = key_dkim_new();
}

static void
teardown(void)
{
	key_dkim_free(&ks);
	ck_assert_ptr_null(ks);
}

static struct buf
pem_of(EVP_PKEY *key)
{
	BIO *bio = BIO_new(BIO_s_mem());
	struct buf b;
	char *text;

	ck_assert(PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1);
	buf_init(&b, 8192);
	size_t n = (size_t)BIO_get_mem_data(bio, &text);
	buf_put(&b, text, n);
	BIO_free(bio);
	EVP_PKEY_free(key);
	return b;
}

static struct buf
new_ed25519(void)
{
	return pem_of(EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"));
}

static int
add(const char *domain, const char *name, enum dkim_algorithm a, uint64_t use_from, uint64_t retire_at, struct slice pem)
{
	struct dkim_selector s = {.algorithm = a, .created = 1, .published = 1, .use_from = use_from, .retire_at = retire_at};

	snprintf(s.name, sizeof s.name, "%s", name);
	return key_dkim_add(ks, slice_str(domain), &s, pem, &e);
}

/* RFC 8463 A: the secret of RFC 8032 7.1, test 1. */
START_TEST(test_rfc8463)
{
	static const char seed[] = "\x9d\x61\xb1\x9d\xef\xfd\x5a\x60\xba\x84\x4a\xf4\x92\xec\x2c\xc4\x44\x49\xc5\x69\x7b\x32\x69\x19\x70\x3b\xac\x03"
				   "\x1c\xae\x7f\x60";
	/* In the order of h=; the names listed again stand for nothing. */
	static const char *const fields[] = {"From: Joe SixPack <joe@football.example.com>", "To: Suzie Q <suzie@shopping.example.net>",
	    "Subject: Is dinner ready?", "Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)",
	    "Message-ID: <20030712040037.46341.5F8J@football.example.com>"};
	static const char own[] = "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n d=football.example.com; i=@football.example.com;\r\n"
				  " q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n subject : date : message-id : from : subject : date;\r\n"
				  " bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n b=";
	struct buf pem = pem_of(EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, (const uint8_t *)seed, 32));
	struct key_dkim_found found;
	uint8_t hash[32], sig[KEY_DKIM_SIGNATURE_BYTES_MAX], text[200];
	struct buf input;
	size_t n;

	ck_assert_int_eq(add("football.example.com", "brisbane", DKIM_ED25519_SHA256, 1, 0, buf_slice(&pem)), 0);
	ck_assert(key_dkim_find(ks, SLICE("football.example.com"), 100, &found));
	buf_init(&input, 4096);
	for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
		dkim_canon_field(slice_str(fields[i]), true, &input);
	dkim_canon_own_field(slice_str(own), true, &input);
	ck_assert(EVP_Digest(input.p, input.n, hash, NULL, EVP_sha256(), NULL) == 1);
	ck_assert_int_eq(key_dkim_sign(ks, found.of[DKIM_ED25519_SHA256].number, slice_of(hash, 32), sig, &n, &e), 0);
	ck_assert_uint_eq(n, 64);
	EVP_EncodeBlock(text, sig, 64);
	ck_assert_str_eq((char *)text, "/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11BusFa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==");
	buf_fini(&input);
	buf_fini(&pem);
}
END_TEST

START_TEST(test_rsa)
{
	EVP_PKEY *key = EVP_RSA_gen(2048);
	uint8_t hash[33] = {1, 2, 3}, sig[KEY_DKIM_SIGNATURE_BYTES_MAX];
	struct key_dkim_found found;
	size_t n;

	EVP_PKEY_up_ref(key);
	struct buf pem = pem_of(key);
	ck_assert_int_eq(add("example.com", "r1", DKIM_RSA_SHA256, 1, 0, buf_slice(&pem)), 0);
	ck_assert(key_dkim_find(ks, SLICE("example.com"), 100, &found));
	ck_assert_uint_eq(found.of[DKIM_ED25519_SHA256].selector.n, 0);
	ck_assert_int_eq(key_dkim_sign(ks, found.of[DKIM_RSA_SHA256].number, slice_of(hash, 32), sig, &n, &e), 0);
	EVP_PKEY_CTX *c = EVP_PKEY_CTX_new(key, NULL);
	ck_assert(EVP_PKEY_verify_init(c) > 0 && EVP_PKEY_CTX_set_rsa_padding(c, RSA_PKCS1_PADDING) > 0 &&
	    EVP_PKEY_CTX_set_signature_md(c, EVP_sha256()) > 0 && EVP_PKEY_verify(c, sig, n, hash, 32) == 1);
	EVP_PKEY_CTX_free(c);
	EVP_PKEY_free(key);
	/* Nothing but a hash, and by no other number. */
	for (size_t k = 0; k <= 33; k++)
		if (k != 32)
			ck_assert_int_eq(key_dkim_sign(ks, found.of[DKIM_RSA_SHA256].number, slice_of(hash, k), sig, &n, &e), -1);
	ck_assert_int_eq(key_dkim_sign(ks, found.of[DKIM_RSA_SHA256].number + 1, slice_of(hash, 32), sig, &n, &e), -1);
	ck_assert_int_eq(e.code, ERR_CODE_NOT_FOUND);
	ck_assert_int_eq(key_dkim_sign(ks, found.of[DKIM_RSA_SHA256].number - 1, slice_of(hash, 32), sig, &n, &e), -1);
	buf_fini(&pem);
}
END_TEST

START_TEST(test_unfit)
{
	struct buf weak = pem_of(EVP_RSA_gen(2040)), strong = pem_of(EVP_RSA_gen(4104)), ec = pem_of(EVP_EC_gen("P-256")), ed = new_ed25519();

	ck_assert_int_eq(add("a.example", "s", DKIM_RSA_SHA256, 1, 0, buf_slice(&weak)), -1);
	ck_assert_str_eq(e.detail, "the RSA key has fewer than 2048 bits");
	ck_assert_int_eq(add("a.example", "s", DKIM_RSA_SHA256, 1, 0, buf_slice(&strong)), -1);
	ck_assert_int_eq(add("a.example", "s", DKIM_RSA_SHA256, 1, 0, buf_slice(&ec)), -1);
	ck_assert_int_eq(add("a.example", "s", DKIM_ED25519_SHA256, 1, 0, buf_slice(&ec)), -1);
	ck_assert_int_eq(add("a.example", "s", DKIM_RSA_SHA256, 1, 0, buf_slice(&ed)), -1);
	ck_assert_int_eq(add("a.example", "s", DKIM_ED25519_SHA256, 1, 0, SLICE("no key")), -1);
	ck_assert_int_eq(add("a.example", "s", DKIM_ED25519_SHA256, 1, 0, SLICE("")), -1);
	ck_assert_uint_eq(key_dkim_count(ks), 0);
	ck_assert_int_eq(add("a.example", "s", DKIM_ED25519_SHA256, 1, 0, buf_slice(&ed)), 0);
	ck_assert_uint_eq(key_dkim_count(ks), 1);
	buf_fini(&weak);
	buf_fini(&strong);
	buf_fini(&ec);
	buf_fini(&ed);
}
END_TEST

static const struct {
	const char *domain;
	uint64_t now;
	const char *found, *selector;
} wants[] = {
    {"example.com", 99, NULL, NULL},
    {"example.com", 100, "example.com", "m1"},
    {"EXAMPLE.Com", 100, "example.com", "m1"},
    {"example.com", 199, "example.com", "m1"},
    {"example.com", 200, "example.com", "m2"}, /* the newer one of two */
    {"example.com", 299, "example.com", "m2"},
    {"example.com", 400, "example.com", "m2"},
    {"example.com", 500, NULL, NULL},
    {"a.b.example.com", 100, "example.com", "m1"},
    {"sub.example.com", 100, "sub.example.com", "own"},
    {"x.sub.example.com", 100, "sub.example.com", "own"},
    {"sub.example.com", 250, "example.com", "m2"}, /* its own is retired */
    {"notexample.com", 100, NULL, NULL},
    {"com", 100, NULL, NULL},
    {"", 100, NULL, NULL},
    {"...", 100, NULL, NULL},
};

START_TEST(test_find)
{
	struct key_dkim_found found;
	struct buf pem = new_ed25519();

	ck_assert_int_eq(add("example.com", "m1", DKIM_ED25519_SHA256, 100, 300, buf_slice(&pem)), 0);
	ck_assert_int_eq(add("example.com", "m2", DKIM_ED25519_SHA256, 200, 500, buf_slice(&pem)), 0);
	ck_assert_int_eq(add("example.com", "m0", DKIM_ED25519_SHA256, 0, 0, buf_slice(&pem)), 0);
	ck_assert_int_eq(add("sub.example.com", "own", DKIM_ED25519_SHA256, 100, 250, buf_slice(&pem)), 0);
	bool some = key_dkim_find(ks, slice_str(wants[_i].domain), wants[_i].now, &found);

	ck_assert_int_eq(some, wants[_i].found != NULL);
	if (some) {
		ck_assert(slice_eq(found.domain, slice_str(wants[_i].found)));
		ck_assert(slice_eq(found.of[DKIM_ED25519_SHA256].selector, slice_str(wants[_i].selector)));
	}
	buf_fini(&pem);
}
END_TEST

/* Two spaces of keys: nobody may ask for both. */
START_TEST(test_walls)
{
	for (enum role r = 0; r < ROLE_COUNT; r++) {
		bool tls = msg_allowed(MSG_KEY_SIGN, r, ROLE_KEY) || msg_allowed(MSG_KEY_CERTS, r, ROLE_KEY);
		bool mail = msg_allowed(MSG_KEY_DKIM_SIGN, r, ROLE_KEY) || msg_allowed(MSG_KEY_DKIM_FIND, r, ROLE_KEY);

		ck_assert_int_eq(mail, r == ROLE_SIGN);
		ck_assert(!tls || !mail);
	}
}
END_TEST

START_TEST(test_limit)
{
	struct buf pem = new_ed25519();

	for (unsigned i = 0; i < KEY_DKIM_KEYS_MAX; i++)
		if (add("example.com", "m", DKIM_ED25519_SHA256, 1, 0, buf_slice(&pem)) < 0)
			ck_abort();
	ck_assert_int_eq(add("example.com", "m", DKIM_ED25519_SHA256, 1, 0, buf_slice(&pem)), -1);
	ck_assert_uint_eq(key_dkim_count(ks), KEY_DKIM_KEYS_MAX);
	buf_fini(&pem);
}
END_TEST

/* ---- files ---- */

static void
put_file(const char *state, const char *name, struct slice text)
{
	char path[300];

	snprintf(path, sizeof path, "%s/%s", state, name);
	FILE *f = fopen(path, "w");
	ck_assert(f != NULL && fwrite(text.p, 1, text.n, f) == text.n && fclose(f) == 0);
}

static void
put_directory(const char *state, const char *name)
{
	char path[300];

	snprintf(path, sizeof path, "%s/%s", state, name);
	ck_assert_int_eq(mkdir(path, 0700), 0);
}

START_TEST(test_files)
{
	char state[] = "/tmp/mailstead-keys-XXXXXX";
	struct key_dkim_found found;
	struct buf pem = new_ed25519();

	log_init("test", LOG_BUG);
	ck_assert_ptr_nonnull(mkdtemp(state));
	key_files_load_dkim(ks, state, 100);
	ck_assert_uint_eq(key_dkim_count(ks), 0);
	put_directory(state, "keys");
	put_directory(state, "keys/dkim");
	put_directory(state, "keys/dkim/good.example");
	put_file(state, "keys/dkim/good.example/selectors",
	    SLICE("mailstead-dkim 1\nnew ed25519 1 0 0 0 0\nlost ed25519 1 1 50 0 0\nuse ed25519 1 1 50 0 0\nold ed25519 1 1 10 50 90\n"));
	put_file(state, "keys/dkim/good.example/use.ed25519.pem", buf_slice(&pem));
	put_file(state, "keys/dkim/good.example/new.ed25519.pem", buf_slice(&pem));
	put_file(state, "keys/dkim/good.example/old.ed25519.pem", buf_slice(&pem));
	put_directory(state, "keys/dkim/damaged.example");
	put_file(state, "keys/dkim/damaged.example/selectors", SLICE("mailstead-dkim 1\nuse ed25519\n"));
	put_directory(state, "keys/dkim/empty.example");
	put_directory(state, "keys/dkim/nonsense.example");
	put_file(state, "keys/dkim/nonsense.example/selectors", SLICE("mailstead-dkim 1\nuse ed25519 1 1 50 0 0\n"));
	put_file(state, "keys/dkim/nonsense.example/use.ed25519.pem", SLICE("no key\n"));
	put_file(state, "keys/dkim/file.example", SLICE("x"));
	key_files_load_dkim(ks, state, 100);
	ck_assert_uint_eq(key_dkim_count(ks), 1);
	ck_assert(key_dkim_find(ks, SLICE("good.example"), 100, &found));
	ck_assert(slice_eq(found.of[DKIM_ED25519_SHA256].selector, SLICE("use")));
	ck_assert_int_eq(tree_remove(state), 0);
	buf_fini(&pem);
}
END_TEST

START_TEST(test_file_size)
{
	char path[] = "/tmp/mailstead-key-XXXXXX";
	int fd = mkstemp(path);
	struct buf b;

	ck_assert_int_eq(ftruncate(fd, KEY_FILE_BYTES_MAX), 0);
	key_files_buf_init(&b);
	ck_assert_int_eq(key_files_read(path, &b, &e), 0);
	ck_assert_uint_eq(b.n, KEY_FILE_BYTES_MAX);
	key_files_buf_fini(&b);
	ck_assert_int_eq(ftruncate(fd, KEY_FILE_BYTES_MAX + 1), 0);
	key_files_buf_init(&b);
	ck_assert_int_eq(key_files_read(path, &b, &e), -1);
	ck_assert_int_eq(e.code, ERR_CODE_TOO_BIG);
	key_files_buf_fini(&b);
	close(fd);
	unlink(path);
	key_files_buf_init(&b);
	ck_assert_int_eq(key_files_read(path, &b, &e), -1);
	key_files_buf_fini(&b);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("key_dkim");
	TCase *t = tcase_create("key_dkim");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, test_rfc8463);
	tcase_add_test(t, test_rsa);
	tcase_add_test(t, test_unfit);
	tcase_add_loop_test(t, test_find, 0, sizeof wants / sizeof wants[0]);
	tcase_add_test(t, test_walls);
	tcase_add_test(t, test_limit);
	tcase_add_test(t, test_files);
	tcase_add_test(t, test_file_size);
	tcase_set_timeout(t, 60);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
