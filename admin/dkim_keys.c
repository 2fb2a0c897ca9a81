#include "admin/dkim_keys.h"

#include "common/mem.h"
#include "store/file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define PEM_BYTES_MAX 16384

static enum command_status
said(const struct err *e)
{
	command_error("%s", e->detail);
	return e->class == ERR_TEMP ? COMMAND_TEMPORARY : COMMAND_REFUSED;
}

/* ---- the directories ---- */

/* STATE/keys must be there: the supervisor makes it as its owner's, and only then it can be told whose the files are to be. */
static enum command_status
find_owner(const char *state, struct dkim_keys *k)
{
	char path[FILE_PATH_BYTES_MAX];
	struct stat st;

	(void)snprintf(path, sizeof path, "%s/keys", state);
	if (stat(path, &st) < 0) {
		if (errno == ENOENT)
			command_error("%s is not there yet: start the server once", path);
		else
			command_error("%s: %s", path, strerror(errno));
		return COMMAND_REFUSED;
	}
	k->uid = st.st_uid;
	k->gid = st.st_gid;
	return COMMAND_OK;
}

/* Makes it when it is missing, for the owner, durably. */
static int
make_directory(const struct dkim_keys *k, const char *path, const char *above, struct err *e)
{
	bool made;

	if (file_mkdir(path, &made, e) < 0)
		return -1;
	if (geteuid() == 0 && lchown(path, k->uid, k->gid) < 0)
		return err_sys(e, errno, path);
	return made ? file_sync_dir(above, e) : 0;
}

static enum command_status
take_lock(const char *state, struct dkim_keys *k)
{
	char above[FILE_PATH_BYTES_MAX], directory[FILE_PATH_BYTES_MAX], path[FILE_PATH_BYTES_MAX];
	struct err e;

	file_path(above, state, "keys");
	file_path(directory, state, DKIM_SELECTOR_DIR);
	file_path(path, directory, ".lock");
	if (make_directory(k, directory, above, &e) < 0)
		return said(&e);
	k->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (k->lock < 0 || flock(k->lock, LOCK_EX) < 0) {
		(void)err_sys(&e, errno, path);
		if (k->lock >= 0)
			(void)close(k->lock);
		return said(&e);
	}
	return COMMAND_OK;
}

/* ---- files ---- */

/* Replaces the file whole: a crash leaves the old one or the new one. */
static int
write_file(const struct dkim_keys *k, const char *name, struct slice text, struct err *e)
{
	char path[FILE_PATH_BYTES_MAX], part[FILE_PATH_BYTES_MAX];
	int fd;

	file_path(path, k->directory, name);
	file_path(part, k->directory, ".new");
	fd = file_open(part, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, e);
	if (fd < 0)
		return -1;
	bool ok = file_write(fd, 0, text, e) == 0 && file_sync(fd, e) == 0;

	if (ok && geteuid() == 0 && fchown(fd, k->uid, k->gid) < 0)
		ok = err_sys(e, errno, part) == 0;
	ok = file_close(fd, ok ? e : NULL) == 0 && ok;
	return ok && file_rename(part, path, e) == 0 && file_sync_dir(k->directory, e) == 0 ? 0 : -1;
}

/* A file that is not there is empty. */
static int
read_file(const struct dkim_keys *k, const char *name, struct buf *b, struct err *e)
{
	char path[FILE_PATH_BYTES_MAX];
	int64_t n = -1;

	file_path(path, k->directory, name);
	int there = file_exists(path, e), fd;

	if (there <= 0)
		return there;
	fd = file_open(path, O_RDONLY | O_NOFOLLOW, e);
	uint8_t *to = buf_room(b, b->max);

	if (fd < 0)
		return -1;
	assert(to != NULL);
	n = file_read(fd, 0, to, b->max, e);
	(void)file_close(fd, NULL);
	if (n < 0)
		return -1;
	buf_added(b, (size_t)n);
	return 0;
}

static enum command_status
read_list(struct dkim_keys *k)
{
	struct buf text;
	struct err e;
	enum command_status status = COMMAND_OK;

	buf_init(&text, DKIM_SELECTOR_FILE_BYTES_MAX + 1);
	if (read_file(k, DKIM_SELECTOR_FILE, &text, &e) < 0) {
		status = said(&e);
	} else if (text.n > 0 && !dkim_selectors_parse(buf_slice(&text), &k->list)) {
		command_error("%s/" DKIM_SELECTOR_FILE " is no list of selectors", k->directory);
		status = COMMAND_REFUSED;
	}
	buf_fini(&text);
	return status;
}

static bool
read_domain(const char *domain, char name_r[DNS_NAME_BYTES_MAX + 1])
{
	struct buf name;
	bool good;

	buf_init(&name, DNS_NAME_BYTES_MAX);
	good = dns_name_to_ascii(slice_str(domain), &name) && slice_cstr(buf_slice(&name), name_r, DNS_NAME_BYTES_MAX + 1);
	buf_fini(&name);
	return good;
}

enum command_status
dkim_keys_open(const struct config *config, const char *domain, struct dkim_keys *k)
{
	const char *state = config_string(config, OPT_STATE_DIR);
	enum command_status status;

	*k = (struct dkim_keys){.lock = -1};
	if (!read_domain(domain, k->domain)) {
		command_error("%s is no domain", domain);
		return COMMAND_REFUSED;
	}
	if (strlen(state) + strlen(k->domain) + DKIM_SELECTOR_BYTES_MAX + sizeof "/" DKIM_SELECTOR_DIR "//.ed25519.pem" >
	    FILE_PATH_BYTES_MAX) {
		command_error("the state directory and the domain are too long for a path");
		return COMMAND_REFUSED;
	}
	(void)snprintf(k->directory, sizeof k->directory, "%s/" DKIM_SELECTOR_DIR "/%s", state, k->domain);
	status = find_owner(state, k);
	if (status == COMMAND_OK)
		status = take_lock(state, k);
	if (status != COMMAND_OK)
		return status;
	status = read_list(k);
	if (status != COMMAND_OK)
		dkim_keys_close(k);
	return status;
}

void
dkim_keys_close(struct dkim_keys *k)
{
	assert(k->lock >= 0);
	(void)close(k->lock);
	k->lock = -1;
}

/* ---- all domains ---- */

struct names {
	char **v;
	size_t n;
};

static int
collect(void *arg, const char *path, const char *name, struct err *e)
{
	struct names *names = arg;

	(void)path;
	(void)e;
	if (name[0] == '.')
		return 0;
	names->v = mem_resize(names->v, names->n + 1, sizeof *names->v);
	names->v[names->n++] = mem_copy_str(name, strlen(name));
	return 0;
}

static int
compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

enum command_status
dkim_keys_each(const struct config *config, enum command_status (*fn)(void *arg, const char *domain), void *arg)
{
	char directory[FILE_PATH_BYTES_MAX];
	struct names names = {.n = 0};
	enum command_status status = COMMAND_OK;
	struct err e;

	file_path(directory, config_string(config, OPT_STATE_DIR), DKIM_SELECTOR_DIR);
	if (file_each(directory, collect, &names, &e) != 0)
		status = said(&e);
	if (names.n > 0)
		qsort(names.v, names.n, sizeof *names.v, compare);
	for (size_t i = 0; i < names.n; i++) {
		if (status == COMMAND_OK)
			status = fn(arg, names.v[i]);
		free(names.v[i]);
	}
	free(names.v);
	return status;
}

/* ---- changes ---- */

enum command_status
dkim_keys_save(const struct dkim_keys *k)
{
	enum command_status status = COMMAND_OK;
	struct buf text;
	struct err e;

	buf_init(&text, DKIM_SELECTOR_FILE_BYTES_MAX);
	if (!dkim_selectors_print(&k->list, &text)) {
		command_error("too many selectors");
		status = COMMAND_REFUSED;
	} else if (write_file(k, DKIM_SELECTOR_FILE, buf_slice(&text), &e) < 0) {
		status = said(&e);
	}
	buf_fini(&text);
	return status;
}

static void
key_name(const struct dkim_selector *s, char name_r[DKIM_SELECTOR_BYTES_MAX + 16])
{
	(void)snprintf(name_r, DKIM_SELECTOR_BYTES_MAX + 16, "%s.%s.pem", s->name, dkim_algorithm_key_type(s->algorithm));
}

static int
write_key(const struct dkim_keys *k, const struct dkim_selector *s, EVP_PKEY *key, struct err *e)
{
	char name[DKIM_SELECTOR_BYTES_MAX + 16];
	BIO *bio = BIO_new(BIO_s_secmem());
	int rc = -1;
	char *text;

	key_name(s, name);
	if (bio == NULL || PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) != 1) {
		(void)err_set(e, ERR_TEMP, ERR_CODE_UNAVAILABLE, "temporary failure", "the key cannot be written as PEM");
	} else {
		size_t n = (size_t)BIO_get_mem_data(bio, &text);

		rc = write_file(k, name, slice_of(text, n), e);
	}
	BIO_free(bio);
	return rc;
}

enum command_status
dkim_keys_make(struct dkim_keys *k, const char *name, enum dkim_algorithm a, uint64_t now)
{
	struct dkim_selector s = {.algorithm = a, .created = now};
	EVP_PKEY *key = a == DKIM_RSA_SHA256 ? EVP_RSA_gen(DKIM_KEYS_RSA_BITS) : EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	char above[FILE_PATH_BYTES_MAX];
	int rc = -1;
	struct err e;

	assert(k->list.n < DKIM_SELECTORS_MAX && dkim_selectors_find(&k->list, slice_str(name)) == NULL);
	(void)snprintf(s.name, sizeof s.name, "%s", name);
	(void)snprintf(above, sizeof above, "%.*s", (int)(strlen(k->directory) - strlen(k->domain) - 1), k->directory);
	if (key == NULL)
		(void)err_set(&e, ERR_TEMP, ERR_CODE_UNAVAILABLE, "temporary failure", "no key can be made");
	else if (make_directory(k, k->directory, above, &e) == 0)
		rc = write_key(k, &s, key, &e);
	EVP_PKEY_free(key);
	if (rc < 0)
		return said(&e);
	k->list.v[k->list.n++] = s;
	return COMMAND_OK;
}

enum command_status
dkim_keys_remove(struct dkim_keys *k, struct dkim_selector *s)
{
	char name[DKIM_SELECTOR_BYTES_MAX + 16], path[FILE_PATH_BYTES_MAX];
	unsigned i = (unsigned)(s - k->list.v);
	enum command_status status;
	struct err e;

	assert(i < k->list.n);
	key_name(s, name);
	memmove(s, s + 1, (k->list.n - i - 1) * sizeof *s);
	k->list.n--;
	status = dkim_keys_save(k);
	file_path(path, k->directory, name);
	if (status == COMMAND_OK && file_unlink(path, &e) < 0)
		status = said(&e);
	return status;
}

/* ---- the record ---- */

static bool
put_base64(struct buf *out, const uint8_t *p, int n)
{
	uint8_t *to = n > 0 ? buf_room(out, (size_t)(n + 2) / 3 * 4 + 1) : NULL;

	if (to == NULL)
		return false;
	buf_added(out, (size_t)EVP_EncodeBlock(to, p, n));
	return true;
}

static bool
put_record(EVP_PKEY *key, enum dkim_algorithm a, struct buf *record)
{
	uint8_t raw[32], *der = NULL;
	size_t n = sizeof raw;
	bool ok;

	buf_putf(record, "v=DKIM1; k=%s; p=", dkim_algorithm_key_type(a));
	if (a == DKIM_ED25519_SHA256)
		return EVP_PKEY_get_raw_public_key(key, raw, &n) == 1 && put_base64(record, raw, (int)n);
	int der_n = i2d_PUBKEY(key, &der);

	ok = put_base64(record, der, der_n);
	OPENSSL_free(der);
	return ok;
}

enum command_status
dkim_keys_record(const struct dkim_keys *k, const struct dkim_selector *s, struct buf *record)
{
	char name[DKIM_SELECTOR_BYTES_MAX + 16];
	EVP_PKEY *key = NULL;
	struct buf pem;
	struct err e;
	bool ok = false;

	key_name(s, name);
	buf_init(&pem, PEM_BYTES_MAX);
	(void)buf_room(&pem, PEM_BYTES_MAX);
	if (read_file(k, name, &pem, &e) == 0) {
		BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.n);

		key = bio ? PEM_read_bio_PrivateKey(bio, NULL, NULL, (void *)(uintptr_t)"") : NULL;
		BIO_free(bio);
		ok = key != NULL && EVP_PKEY_is_a(key, s->algorithm == DKIM_RSA_SHA256 ? "RSA" : "ED25519") &&
		     put_record(key, s->algorithm, record);
	}
	EVP_PKEY_free(key);
	mem_wipe(pem.p, pem.cap);
	buf_fini(&pem);
	if (ok)
		return COMMAND_OK;
	command_error("%s/%s cannot be read as a private key", k->directory, name);
	return COMMAND_REFUSED;
}
