/*
 * The keys are asked for first, so that a message of a domain without any costs nothing more. Both signatures are asked for at
 * once; the fields stand in the order of enum dkim_algorithm. The key role is replaced whenever keys or certificates change: a job whose
 * questions go with it begins again with its successor, which has other numbers for the keys.
 */
#include "smtpd/sign.h"

#include "common/dns_name.h"
#include "common/loop.h"
#include "common/mem.h"
#include "common/memfd.h"
#include "common/role.h"
#include "smtpd/dkim_sign.h"

#include <assert.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <unistd.h>

#define CHUNK_BYTES (64 * 1024)
/* While there is no key role: so often, and so long after one another. */
#define AGAIN_MAX 40
#define AGAIN_MS 250

struct sign_part { /* one signature */
	struct sign *sign;
	bool wanted;
	uint32_t key;
	uint8_t selector[DKIM_SELECTOR_BYTES_MAX];
	size_t selector_n;
	struct buf field;
};

struct sign {
	int fd;
	uint64_t bytes;
	sign_done_fn *done;
	void *arg;
	struct buf domain; /* asked about, then found */
	struct dkim_sign *dkim;
	struct sign_part parts[DKIM_ALGORITHMS];
	struct edge *key; /* whom the open questions were put to */
	uint64_t ids[DKIM_ALGORITHMS];
	unsigned open; /* signatures asked for */
	bool was_read; /* the message */
	unsigned tries;
	struct loop_timer *again;
	struct buf fields;
	struct sign_result result;
	bool ended;
};

void
sign_global_init(void)
{
	uint8_t hash[EVP_MAX_MD_SIZE];

	/* Reads openssl.cnf and fetches what is used later, while files can be opened. */
	OPENSSL_init_crypto(OPENSSL_INIT_LOAD_CONFIG, NULL);
	(void)!EVP_Digest("", 0, hash, NULL, EVP_sha256(), NULL);
}

/* ---- the end ---- */

static void
finish(struct sign *s)
{
	if (s->ended)
		return;
	s->ended = true;
	s->result.fields = buf_slice(&s->fields);
	s->result.domain = buf_slice(&s->domain);
	s->done(s->arg, &s->result);
}

static void
fail(struct sign *s, const char *detail)
{
	if (s->result.err.class == ERR_NONE)
		err_set(&s->result.err, ERR_TEMP, ERR_CODE_UNAVAILABLE, "the message could not be signed", "%s", detail);
	buf_reset(&s->fields);
	finish(s);
}

/* The key role is away. */
static void
again_later(struct sign *s)
{
	if (s->tries++ == AGAIN_MAX)
		fail(s, "the key role is away");
	else
		loop_timer_set(s->again, AGAIN_MS);
}

static void
unsigned_because(struct sign *s, const char *why)
{
	s->result.why = why;
	finish(s);
}

/* ---- signatures ---- */

static void
all_signed(struct sign *s)
{
	for (unsigned a = 0; a < DKIM_ALGORITHMS; a++)
		if (s->parts[a].wanted) {
			buf_put_slice(&s->fields, buf_slice(&s->parts[a].field));
			s->result.signatures++;
		}
	if (s->fields.failed)
		fail(s, "the fields are too long");
	else
		finish(s);
}

static void
on_gone(void *obj, const struct err *e)
{
	struct sign_part *p = obj;

	p->sign->ids[p - p->sign->parts] = 0;
	if (e->code == ERR_CODE_TIMEOUT)
		fail(p->sign, "the key role did not answer in time");
	else
		again_later(p->sign);
}

static void
on_signed(struct edge *e, struct msg_KEY_DKIM_SIGNED *m)
{
	struct sign_part *p = ipc_answered(e, m->id);

	if (p == NULL)
		return;
	struct sign *s = p->sign;

	s->ids[p - s->parts] = 0;
	assert(s->open > 0);
	s->open--;
	if (m->class != ERR_NONE || m->signature.n == 0 || !dkim_sign_finish(m->signature, &p->field))
		fail(s, "the key role refused to sign");
	else if (s->open == 0 && !s->ended)
		all_signed(s);
}

static bool
ask_signature(struct sign *s, enum dkim_algorithm a)
{
	struct sign_part *p = &s->parts[a];
	struct dkim_signer signer = {a, buf_slice(&s->domain), slice_of(p->selector, p->selector_n)};
	uint8_t hash[32];

	if (!dkim_sign_prepare(s->dkim, &signer, clock_wall_us() / 1000000, &p->field, hash))
		return false;
	s->ids[a] = ipc_expect(s->key, SIGN_KEY_MS, on_gone, p);
	if (s->ids[a] == 0)
		return false;
	s->open++;
	return IPC_SEND(s->key, KEY_DKIM_SIGN, .id = s->ids[a], .key = p->key, .hash = slice_of(hash, sizeof hash));
}

/* ---- reading ---- */

/* False (s->result.err) unless the file has just the octets announced. */
static bool
read_message(struct sign *s)
{
	uint8_t *chunk = mem_new_array(CHUNK_BYTES, 1);
	EVP_MD_CTX *hash = EVP_MD_CTX_new();
	unsigned hash_n = sizeof s->result.sha256;
	bool ok = hash != NULL && EVP_DigestInit_ex(hash, EVP_sha256(), NULL) == 1 &&
		  memfd_size(s->fd, &s->result.err) == (int64_t)s->bytes;

	for (uint64_t at = 0; ok && at < s->bytes;) {
		size_t want = s->bytes - at < CHUNK_BYTES ? (size_t)(s->bytes - at) : CHUNK_BYTES;

		ok = memfd_read(s->fd, at, chunk, want, &s->result.err) == (int64_t)want && EVP_DigestUpdate(hash, chunk, want) == 1;
		if (ok)
			dkim_sign_feed(s->dkim, slice_of(chunk, want));
		at += want;
	}
	ok = ok && EVP_DigestFinal_ex(hash, s->result.sha256, &hash_n) == 1;
	EVP_MD_CTX_free(hash);
	free(chunk);
	return ok;
}

static void
keys_known(struct sign *s)
{
	const char *why = NULL;

	if (!s->was_read && !read_message(s)) {
		fail(s, "the message could not be read as announced");
		return;
	}
	if (!s->was_read)
		why = dkim_sign_end(s->dkim);
	s->was_read = true;
	if (why != NULL) {
		unsigned_because(s, why);
		return;
	}
	for (unsigned a = 0; a < DKIM_ALGORITHMS; a++)
		if (s->parts[a].wanted && !ask_signature(s, a)) {
			fail(s, "the key role takes no questions");
			return;
		}
}

/* ---- which keys ---- */

static void
take_key(struct sign_part *p, uint32_t key, struct slice selector)
{
	p->wanted = dkim_selector_name_valid(selector);
	if (!p->wanted)
		return;
	p->key = key;
	p->selector_n = selector.n;
	memcpy(p->selector, selector.p, selector.n);
}

static void
on_found(struct edge *e, struct msg_KEY_DKIM_FOUND *m)
{
	struct sign_part *p = ipc_answered(e, m->id);

	if (p == NULL)
		return;
	struct sign *s = p->sign;

	s->ids[0] = 0;
	take_key(&s->parts[DKIM_RSA_SHA256], m->rsa, m->rsa_selector);
	take_key(&s->parts[DKIM_ED25519_SHA256], m->ed25519, m->ed25519_selector);
	if (m->found.n == 0 || !dns_name_within(buf_slice(&s->domain), m->found) ||
	    (!s->parts[DKIM_RSA_SHA256].wanted && !s->parts[DKIM_ED25519_SHA256].wanted)) {
		unsigned_because(s, "no key for this domain");
		return;
	}
	/* It is the asked one, or its end. */
	buf_drop(&s->domain, s->domain.n - m->found.n);
	keys_known(s);
}

static void
ask_keys(struct sign *s)
{
	s->key = role_edge(ROLE_KEY, 0);
	if (s->key == NULL) {
		again_later(s);
		return;
	}
	s->ids[0] = ipc_expect(s->key, SIGN_KEY_MS, on_gone, &s->parts[0]);
	if (s->ids[0] == 0 || !IPC_SEND(s->key, KEY_DKIM_FIND, .id = s->ids[0], .domain = buf_slice(&s->domain)))
		fail(s, "the key role takes no questions");
}

/* From the beginning, but for what was read. */
static void
begin_again(void *arg)
{
	struct sign *s = arg;

	s->open = 0;
	for (unsigned a = 0; a < DKIM_ALGORITHMS; a++) {
		s->parts[a].wanted = false;
		buf_reset(&s->parts[a].field);
	}
	ask_keys(s);
}

const struct ipc_dispatch sign_from_key = {
    .KEY_DKIM_FOUND = on_found,
    .KEY_DKIM_SIGNED = on_signed,
};

/* ---- life ---- */

struct sign *
sign_new(int fd, uint64_t bytes, sign_done_fn *done, void *arg)
{
	struct sign *s = MEM_NEW(struct sign);

	s->fd = fd;
	s->bytes = bytes;
	s->done = done;
	s->arg = arg;
	s->result.why = "";
	s->dkim = dkim_sign_new();
	s->again = loop_timer_new(role_loop(), begin_again, s);
	buf_init(&s->domain, DNS_NAME_BYTES_MAX);
	buf_init(&s->fields, SIGN_FIELDS_BYTES_MAX);
	for (unsigned a = 0; a < DKIM_ALGORITHMS; a++) {
		s->parts[a].sign = s;
		buf_init(&s->parts[a].field, DKIM_SIGN_FIELD_BYTES_MAX);
	}
	return s;
}

void
sign_start(struct sign *s, struct slice domain)
{
	if (!dns_name_to_ascii(domain, &s->domain))
		unsigned_because(s, "the author has no domain that could have a key");
	else
		ask_keys(s);
}

void
sign_free(struct sign **s)
{
	struct sign *f = *s;

	if (f == NULL)
		return;
	for (unsigned a = 0; a < DKIM_ALGORITHMS; a++) {
		/* The edge is there as long as one of its questions is. */
		if (f->ids[a] != 0)
			ipc_forget(f->key, f->ids[a]);
		buf_fini(&f->parts[a].field);
	}
	loop_timer_free(&f->again);
	dkim_sign_free(&f->dkim);
	buf_fini(&f->domain);
	buf_fini(&f->fields);
	(void)close(f->fd);
	MEM_FREE(s);
}
