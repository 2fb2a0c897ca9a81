/*
 * The demo's files. mailstead.conf begins with a block between two marks that each start writes
 * anew (ports follow --port-offset); all outside it is the user's, and stands behind the block so
 * that it wins.
 */
#include "admin/demo.h"

#include "common/buf.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK_BEGIN                                                                                \
	"# ---- written by `mailstead run --demo` at each start; your own settings go below the "  \
	"end of this block ----\n"
#define BLOCK_END "# ---- end of the block ----\n"
#define CONFIG_BYTES_MAX 65536u
#define CERTIFICATE_DAYS 3650
#define DIRECTORY_BYTES_MAX 80

/* ---- small files ---- */

static int
make_directory(const char *path, struct err *e)
{
	return mkdir(path, 0700) == 0 || errno == EEXIST ? 0 : err_sys(e, errno, path);
}

int
demo_write_file(const char *path, struct slice text, struct err *e)
{
	char part[300];
	size_t done = 0;

	snprintf(part, sizeof part, "%s.new", path);
	int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return err_sys(e, errno, part);
	while (done < text.n) {
		ssize_t n = write(fd, text.p + done, text.n - done);

		if (n < 0) {
			err_sys(e, errno, part);
			close(fd);
			return -1;
		}
		done += (size_t)n;
	}
	if (close(fd) < 0 || rename(part, path) < 0)
		return err_sys(e, errno, path);
	return 0;
}

/* A file that does not exist is empty. */
static int
read_file(const char *path, struct buf *b, struct err *e)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return errno == ENOENT ? 0 : err_sys(e, errno, path);
	for (;;) {
		uint8_t *to = buf_room(b, 4096);
		ssize_t n = to ? read(fd, to, 4096) : -1;

		if (n <= 0) {
			close(fd);
			return n == 0 ? 0 : err_sys(e, to ? errno : EFBIG, path);
		}
		buf_added(b, (size_t)n);
	}
}

/* ---- mailstead.conf ---- */

static void
put_block(const struct demo *d, struct buf *b)
{
	static const struct {
		const char *name;
		unsigned port;
	} ports[] = {{"smtp", 2525}, {"submission", 2587}, {"submissions", 2465}, {"imap", 2143},
	    {"imaps", 2993}, {"pop3", 2110}, {"pop3s", 2995}};

	buf_put_str(b, BLOCK_BEGIN "hostname = mail." DEMO_DOMAIN "\n");
	buf_putf(b, "state.directory = \"%s/state\"\nrun.directory = \"%s/run\"\n", d->directory,
	    d->directory);
	buf_putf(b, "tls.certificate = \"%s/tls/cert.pem\"\ntls.key = \"%s/tls/key.pem\"\n",
	    d->directory, d->directory);
	/* Nobody else's server is to hear of a demo. */
	buf_put_str(b, "listen.address = 127.0.0.1\ntransport.enabled = no\n");
	for (size_t i = 0; i < sizeof ports / sizeof ports[0]; i++)
		buf_putf(b, "listen.%s = %u\n", ports[i].name, ports[i].port + d->port_offset);
	buf_put_str(b, BLOCK_END);
}

/* What a demo begins with, to be edited: it must take its first mail on a machine whose DNS does not answer, too. */
static const char first_settings[] = "# A laptop may be without DNS: do not wait long for it, and do not refuse mail for its sake.\n"
				     "dns.timeout = 2s\npolicy.dns_defer = no\n";

static struct slice
without_block(struct slice text, struct buf *rest)
{
	size_t begin = slice_find(text, SLICE(BLOCK_BEGIN));
	struct slice tail = slice_sub(text, begin, text.n);
	size_t end = slice_find(tail, SLICE(BLOCK_END));

	buf_put_slice(rest, slice_sub(text, 0, begin));
	if (end < tail.n)
		buf_put_slice(rest, slice_sub(tail, end + sizeof(BLOCK_END) - 1, tail.n));
	return buf_slice(rest);
}

static int
write_config(const struct demo *d, struct err *e)
{
	struct buf old, rest, all;
	int rc;

	buf_init(&old, CONFIG_BYTES_MAX);
	buf_init(&rest, CONFIG_BYTES_MAX);
	buf_init(&all, 2 * CONFIG_BYTES_MAX);
	rc = read_file(d->config_path, &old, e);
	if (rc == 0) {
		put_block(d, &all);
		if (old.n == 0)
			buf_put_str(&all, first_settings);
		buf_put_slice(&all, without_block(buf_slice(&old), &rest));
		rc = all.failed ? err_set(e, ERR_LIMIT, ERR_CODE_TOO_BIG, "too big",
				      "%s is too big", d->config_path)
				: demo_write_file(d->config_path, buf_slice(&all), e);
	}
	buf_fini(&old);
	buf_fini(&rest);
	buf_fini(&all);
	return rc;
}

/* ---- the certificate ---- */

static bool
add_extension(X509 *cert, int nid, const char *value)
{
	X509V3_CTX ctx;

	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, cert, cert, NULL, NULL, 0);
	X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	bool ok = ext && X509_add_ext(cert, ext, -1) == 1;

	X509_EXTENSION_free(ext);
	return ok;
}

static bool
fill_certificate(X509 *cert, EVP_PKEY *key)
{
	X509_NAME *name = X509_get_subject_name(cert);

	return X509_set_version(cert, X509_VERSION_3) == 1 &&
	       ASN1_INTEGER_set_uint64(X509_get_serialNumber(cert), (uint64_t)time(NULL)) == 1 &&
	       X509_gmtime_adj(X509_getm_notBefore(cert), -3600) != NULL &&
	       X509_time_adj_ex(X509_getm_notAfter(cert), CERTIFICATE_DAYS, 0, NULL) != NULL &&
	       X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
		   (const unsigned char *)"mail." DEMO_DOMAIN, -1, -1, 0) == 1 &&
	       X509_set_issuer_name(cert, name) == 1 && X509_set_pubkey(cert, key) == 1 &&
	       add_extension(cert, NID_subject_alt_name,
		   "DNS:mail." DEMO_DOMAIN ",DNS:" DEMO_DOMAIN
		   ",DNS:localhost,IP:127.0.0.1,IP:::1") &&
	       add_extension(cert, NID_basic_constraints, "critical,CA:TRUE") &&
	       X509_sign(cert, key, EVP_sha256()) > 0;
}

static int
write_bio(const char *path, BIO *bio, struct err *e)
{
	char *p;
	long n = BIO_get_mem_data(bio, &p);

	return demo_write_file(path, slice_of(p, (size_t)n), e);
}

static int
write_pair(const struct demo *d, X509 *cert, EVP_PKEY *key, struct err *e)
{
	char path[300];
	BIO *c = BIO_new(BIO_s_mem()), *k = BIO_new(BIO_s_mem());
	int rc = -1;

	if (c && k && PEM_write_bio_X509(c, cert) == 1 &&
	    PEM_write_bio_PrivateKey(k, key, NULL, NULL, 0, NULL, NULL) == 1) {
		snprintf(path, sizeof path, "%s/tls/key.pem", d->directory);
		rc = write_bio(path, k, e);
		snprintf(path, sizeof path, "%s/tls/cert.pem", d->directory);
		rc = rc == 0 ? write_bio(path, c, e) : rc;
	} else {
		err_set(e, ERR_TEMP, ERR_CODE_UNAVAILABLE, "temporary failure",
		    "cannot write the demo's certificate");
	}
	BIO_free(c);
	BIO_free(k);
	return rc;
}

static int
make_certificate(const struct demo *d, struct err *e)
{
	char path[300];
	int rc;

	snprintf(path, sizeof path, "%s/tls/cert.pem", d->directory);
	if (access(path, F_OK) == 0)
		return 0;
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = X509_new();

	if (key && cert && fill_certificate(cert, key))
		rc = write_pair(d, cert, key, e);
	else
		rc = err_set(e, ERR_TEMP, ERR_CODE_UNAVAILABLE, "temporary failure",
		    "cannot make the demo's certificate");
	X509_free(cert);
	EVP_PKEY_free(key);
	return rc;
}

/* ---- all ---- */

int
demo_prepare(struct demo *d, const char *directory, unsigned port_offset, struct err *e)
{
	char full[PATH_MAX], tls[240];

	if (make_directory(directory, e) < 0)
		return -1;
	if (realpath(directory, full) == NULL)
		return err_sys(e, errno, directory);
	if (strlen(full) > DIRECTORY_BYTES_MAX || strpbrk(full, "\"\\$\n"))
		return err_set(e, ERR_PERM, ERR_CODE_BAD_NAME, "bad name",
		    "%.100s: take a directory with a shorter, simpler name (at most %d octets: "
		    "sockets live in it)",
		    full, DIRECTORY_BYTES_MAX);
	memcpy(d->directory, full, strlen(full) + 1);
	snprintf(d->config_path, sizeof d->config_path, "%s/mailstead.conf", d->directory);
	snprintf(tls, sizeof tls, "%s/tls", d->directory);
	d->port_offset = port_offset;
	if (make_directory(tls, e) < 0 || write_config(d, e) < 0)
		return -1;
	return make_certificate(d, e);
}
