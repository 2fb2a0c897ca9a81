/*
 * libcrypt wants NUL-terminated strings and a large work area; both are wiped.
 * Every password passes password_prepare() first, when it is set and when it is
 * checked, so that both see the same octets whatever form a client's keyboard
 * gave to an accented letter (RFC 8265 4.2.2). Spaces of other scripts are not
 * mapped to U+0020: the one step of that profile that no mail client takes.
 */
#include "common/password.h"

#include "common/buf.h"
#include "common/mem.h"

#include <crypt.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <utf8proc.h>

#define METHOD "$y$"
#define HASH_CHARS 43	  /* of a yescrypt hash, after its salt */
#define HASH_CHARS_MIN 22 /* of any method's: 128 bits */

_Static_assert(PASSWORD_HASH_SIZE >= CRYPT_OUTPUT_SIZE, "libcrypt's output must fit");
_Static_assert(PASSWORD_BYTES_MAX < CRYPT_MAX_PASSPHRASE_SIZE, "a prepared password must fit");

/*
 * To NFC, no case or width mapping. out has CRYPT_MAX_PASSPHRASE_SIZE octets. False for what is no
 * UTF-8, has control characters, or does not fit.
 */
static bool
password_prepare(struct slice password, char *out)
{
	utf8proc_uint8_t *nfc = NULL;
	utf8proc_ssize_t n;
	bool ok;

	if (password.n < PASSWORD_BYTES_MIN || password.n > PASSWORD_BYTES_MAX)
		return false;
	for (size_t i = 0; i < password.n; i++) {
		if (password.p[i] < 0x20 || password.p[i] == 0x7f)
			return false;
	}
	n = utf8proc_map(
	    password.p, (utf8proc_ssize_t)password.n, &nfc, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
	ok = n > 0 && slice_cstr(slice_of(nfc, (size_t)n), out, CRYPT_MAX_PASSPHRASE_SIZE);
	if (nfc != NULL) {
		mem_wipe(nfc, n > 0 ? (size_t)n : 0);
		free(nfc);
	}
	return ok;
}

bool
password_acceptable(struct slice password, struct err *e)
{
	char prepared[CRYPT_MAX_PASSPHRASE_SIZE];
	bool ok = password_prepare(password, prepared);

	mem_wipe(prepared, sizeof prepared);
	if (!ok)
		(void)err_set(e, ERR_PERM, ERR_CODE_MALFORMED, "unusable password",
		    "a password is %d to %d octets of UTF-8 text without control characters",
		    PASSWORD_BYTES_MIN, PASSWORD_BYTES_MAX);
	return ok;
}

/* hash_r becomes the hash of text (NUL-terminated) by setting; false when libcrypt refuses. Blocks.
 */
static bool
hash_compute(const char *text, const char *setting, char hash_r[PASSWORD_HASH_SIZE])
{
	struct crypt_data *work = MEM_NEW(struct crypt_data);
	const char *out = crypt_r(text, setting, work);
	bool ok = out != NULL && out[0] != '*' &&
		  slice_cstr(slice_str(out), hash_r, PASSWORD_HASH_SIZE);

	mem_wipe(work, sizeof *work);
	free(work);
	return ok;
}

static int
setting_new(char setting_r[CRYPT_GENSALT_OUTPUT_SIZE], struct err *e)
{
	if (crypt_gensalt_rn(
		METHOD, PASSWORD_COST, NULL, 0, setting_r, CRYPT_GENSALT_OUTPUT_SIZE) == NULL)
		return err_sys(e, errno, "crypt_gensalt");
	return 0;
}

int
password_hash(struct slice password, char hash_r[PASSWORD_HASH_SIZE], struct err *e)
{
	char prepared[CRYPT_MAX_PASSPHRASE_SIZE];
	char setting[CRYPT_GENSALT_OUTPUT_SIZE];
	bool ok;

	if (!password_acceptable(password, e) || setting_new(setting, e) != 0)
		return -1;
	ok = password_prepare(password, prepared) && hash_compute(prepared, setting, hash_r);
	mem_wipe(prepared, sizeof prepared);
	if (!ok)
		return err_set(e, ERR_TEMP, ERR_CODE_NONE, "cannot hash a password",
		    "libcrypt refused its own setting");
	return 0;
}

bool
password_matches(struct slice password, struct slice hash)
{
	char prepared[CRYPT_MAX_PASSPHRASE_SIZE] = "";
	char stored[PASSWORD_HASH_SIZE];
	char computed[PASSWORD_HASH_SIZE];
	bool usable = password_prepare(password, prepared);
	bool same = false;

	if (!usable)
		prepared[0] = '\0';
	if (slice_cstr(hash, stored, sizeof stored) && hash_compute(prepared, stored, computed)) {
		size_t n = strlen(computed);

		same = n == hash.n && CRYPTO_memcmp(computed, stored, n) == 0;
	}
	mem_wipe(prepared, sizeof prepared);
	mem_wipe(computed, sizeof computed);
	mem_wipe(stored, sizeof stored);
	return same && usable;
}

bool
password_hash_valid(struct slice hash)
{
	char stored[PASSWORD_HASH_SIZE];

	if (!slice_starts(hash, SLICE("$")) || !slice_cstr(hash, stored, sizeof stored))
		return false;
	if (hash.n - slice_rindex(hash, '$') <= HASH_CHARS_MIN)
		return false;
	for (size_t i = 0; i < hash.n; i++) {
		if (hash.p[i] <= ' ' || hash.p[i] >= 0x7f || hash.p[i] == ':')
			return false;
	}
	return crypt_checksalt(stored) == CRYPT_SALT_OK;
}

int
password_hash_nobody(char hash_r[PASSWORD_HASH_SIZE], struct err *e)
{
	static const char alphabet[] =
	    "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
	char setting[CRYPT_GENSALT_OUTPUT_SIZE];
	uint8_t random[HASH_CHARS];
	struct buf b;
	bool ok;

	if (setting_new(setting, e) != 0)
		return -1;
	if (RAND_bytes(random, sizeof random) != 1)
		return err_set(
		    e, ERR_TEMP, ERR_CODE_NONE, "no random numbers", "RAND_bytes failed");
	buf_init(&b, PASSWORD_HASH_SIZE - 1);
	(void)buf_put_str(&b, setting);
	(void)buf_put_u8(&b, '$');
	for (size_t i = 0; i < sizeof random; i++)
		(void)buf_put_u8(&b, (uint8_t)alphabet[random[i] % 64]);
	ok = !b.failed && slice_cstr(buf_slice(&b), hash_r, PASSWORD_HASH_SIZE);
	buf_fini(&b);
	if (!ok)
		return err_set(e, ERR_BUG, ERR_CODE_NONE, "cannot hash a password",
		    "a setting of libcrypt is too long");
	return 0;
}
