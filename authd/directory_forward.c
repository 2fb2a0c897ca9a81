/*
 * Every look-up whose recipient leads elsewhere makes a reverse-path; nothing is kept of it. Two processes that ask the same on the same
 * day get the same.
 */
#include "authd/directory_forward.h"

#include "authd/directory_private.h"
#include "authd/srs.h"

#include "common/log.h"
#include "common/mem.h"

#include <assert.h>
#include <openssl/rand.h>

#define DAY_SECONDS 86400
/* As the messages to this role have it, and a domain that grew to A-labels. */
#define ENVELOPE_ADDRESS_BYTES_MAX 1024

/* A new newest one; what was the newest is the older one, if there was any. */
static int
secrets_make(struct directory *d, uint64_t now, struct err *e)
{
	struct srs_secrets next = {.has_older = d->has_secrets, .since = now};
	bool encoded;
	int r;

	memcpy(next.older, d->secrets.newest, sizeof next.older);
	if (RAND_bytes(next.newest, sizeof next.newest) != 1)
		return err_set(e, ERR_TEMP, ERR_CODE_NONE, "no random numbers", "RAND_bytes failed");
	if (directory_db_begin(d->db, e) != 0)
		return -1;
	encoded = dir_secrets_encode(&next, &d->index);
	assert(encoded);
	r = directory_change_end(d, directory_db_put(d->db, directory_key_secret(d), buf_slice(&d->index), e), e);
	if (r == 0) {
		d->secrets = next;
		d->has_secrets = true;
	}
	mem_wipe(&next, sizeof next);
	return r;
}

/* 1; 0: there are none yet; -1 and e. */
static int
secrets_read(struct directory *d, struct err *e)
{
	int r;

	if (d->has_secrets)
		return 1;
	r = directory_db_get(d->db, directory_key_secret(d), &d->value, e);
	if (r == 1 && !dir_secrets_decode(buf_slice(&d->value), &d->secrets))
		return err_set(e, ERR_TEMP, ERR_CODE_CORRUPT, "directory damaged", "the secrets do not decode");
	d->has_secrets = r == 1;
	return r;
}

static int
secrets_load(struct directory *d, uint64_t now, struct err *e)
{
	int r = secrets_read(d, e);

	if (r == 0)
		r = secrets_make(d, now, e);
	return r < 0 ? -1 : 0;
}

int
directory_srs_state(struct directory *d, struct dir_srs_state *s_r, struct err *e)
{
	int r = secrets_read(d, e);

	*s_r = (struct dir_srs_state){.any = r == 1};
	if (r == 1 && d->secrets.has_older)
		s_r->older_until = d->secrets.since + SRS_DAYS_MAX * DAY_SECONDS;
	if (r == 1)
		s_r->since = d->secrets.since;
	return r < 0 ? -1 : 0;
}

int
directory_srs_rotate(struct directory *d, uint64_t now, bool force, struct err *e)
{
	struct dir_srs_state state;

	if (directory_srs_state(d, &state, e) != 0)
		return -1;
	if (now < state.older_until && !force)
		return err_set(e, ERR_PERM, ERR_CODE_NONE, "the secret before this one is still needed for bounces; see srs list", NULL);
	return secrets_make(d, now, e);
}

/* Address with its domain as the directory writes it: A-labels in lower case. What has no such domain stays as it is. */
static void
put_normal(struct slice address, struct buf *b)
{
	char domain[ADDRESS_DOMAIN_BYTES_MAX + 1];
	size_t at = slice_rindex(address, '@');

	if (at < address.n && address_domain(slice_sub(address, at + 1, address.n), domain)) {
		buf_put_slice(b, slice_sub(address, 0, at + 1));
		buf_put_str(b, domain);
	} else {
		buf_put_slice(b, address);
	}
}

/* Is the domain of a normal address ours: 1, 0, or -1 and e. */
static int
is_ours(struct directory *d, struct slice address, struct err *e)
{
	char domain[ADDRESS_DOMAIN_BYTES_MAX + 1];
	struct dir_domain record;
	size_t at = slice_rindex(address, '@');

	if (!address_domain(slice_sub(address, at + 1, address.n), domain))
		return 0;
	return directory_domain_find(d, domain, &record, e);
}

/* srs_reverse() of an address by both secrets, into whom and *times_r. SRS_OTHER for one of no domain of ours. 0, or -1 and e. */
static int
reverse(struct directory *d, struct slice address, uint64_t now, struct buf *whom, unsigned *times_r, enum srs_result *r_r, struct err *e)
{
	struct buf normal;
	int ours;

	*r_r = SRS_OTHER;
	if (!slice_starts_nocase(address, SLICE("SRS")) && !slice_starts_nocase(address, SLICE("\"SRS")))
		return 0;
	ours = is_ours(d, address, e);
	if (ours != 1)
		return ours;
	if (secrets_load(d, now, e) != 0)
		return -1;
	buf_init(&normal, ENVELOPE_ADDRESS_BYTES_MAX);
	put_normal(address, &normal);
	*r_r = srs_reverse(d->secrets.newest, buf_slice(&normal), now, whom, times_r);
	if (*r_r == SRS_FORGED && d->secrets.has_older)
		*r_r = srs_reverse(d->secrets.older, buf_slice(&normal), now, whom, times_r);
	buf_fini(&normal);
	return 0;
}

/*
 * The address that a bounce to recipient is for, in whom: 1; 0: recipient is not of that kind; -1 and e. 1 with whom empty: nobody's, for
 * it is too old, or the message is no bounce and would leave here again.
 */
static int
bounce_for(struct directory *d, const struct dir_envelope *envelope, struct buf *whom, struct err *e)
{
	enum srs_result r;
	unsigned times;
	int ours = 0;

	if (reverse(d, envelope->recipient, envelope->now, whom, &times, &r, e) != 0)
		return -1;
	if (r == SRS_GOOD && envelope->sender.n > 0)
		ours = is_ours(d, buf_slice(whom), e);
	if (ours < 0)
		return -1;
	if (r == SRS_GOOD && envelope->sender.n > 0 && ours == 0)
		buf_reset(whom);
	return r == SRS_GOOD || r == SRS_EXPIRED;
}

/*
 * Who has sent it: the address under those that were made of it here, where another server may have made its own of ours; and how often
 * it has left here.
 */
static int
origin_of(struct directory *d, const struct dir_envelope *envelope, struct buf *origin, unsigned *times_r, struct err *e)
{
	struct buf within;
	enum srs_result r;
	int failed;

	*times_r = 0;
	failed = reverse(d, envelope->sender, envelope->now, origin, times_r, &r, e);
	if (failed == 0 && r != SRS_GOOD) {
		buf_init(&within, SRS_ADDRESS_BYTES_MAX);
		if (srs_within(envelope->sender, &within))
			failed = reverse(d, buf_slice(&within), envelope->now, origin, times_r, &r, e);
		buf_fini(&within);
	}
	if (failed == 0 && r != SRS_GOOD)
		put_normal(envelope->sender, origin);
	return failed;
}

/* The reverse-path under which what origin sent goes on. False when there is none. */
static bool
put_path(const struct directory *d, struct slice origin, bool ours, struct srs_message *m, struct buf *path)
{
	size_t at = slice_rindex(origin, '@');
	bool made;

	m->sender = origin;
	if (ours)
		m->domain = slice_sub(origin, at + 1, origin.n);
	made = srs_forward(d->secrets.newest, m, path);
	/* What is short enough the first time, with one more sign, is so each time. */
	if (ours && m->times == 1 && (!made || slice_rindex(buf_slice(path), '@') >= ADDRESS_LOCAL_BYTES_MAX)) {
		buf_reset(path);
		made = buf_put_slice(path, origin);
	}
	return made;
}

/* The reverse-path of what is sent on. */
static int
sender_for(struct directory *d, const struct dir_envelope *envelope, struct dir_forwarded *out, struct err *e)
{
	struct srs_message m = {.domain = slice_str(out->resolved.domain), .now = envelope->now};
	struct buf origin, path;
	unsigned times = 0;
	int ours = -1;

	if (envelope->sender.n == 0)
		return 0;
	buf_init(&origin, ENVELOPE_ADDRESS_BYTES_MAX);
	buf_init(&path, ENVELOPE_ADDRESS_BYTES_MAX);
	if (secrets_load(d, envelope->now, e) == 0 && origin_of(d, envelope, &origin, &times, e) == 0)
		ours = is_ours(d, buf_slice(&origin), e);
	out->looped = times >= SRS_TIMES_MAX;
	m.times = times + 1;
	if (ours >= 0 && !out->looped &&
	    (!put_path(d, buf_slice(&origin), ours == 1, &m, &path) || !slice_cstr(buf_slice(&path), out->sender, sizeof out->sender))) {
		log_event(LOG_INFO, NO_SESSION, "sender-too-long", LOG_STR("sender", envelope->sender), LOG_END);
		out->sender[0] = '\0';
	}
	buf_fini(&path);
	buf_fini(&origin);
	return ours < 0 ? -1 : 0;
}

static int
forward(struct directory *d, const struct dir_envelope *envelope, struct dir_forwarded *out, struct err *e)
{
	struct dir_resolved *r = &out->resolved;
	struct buf whom;
	char address[SRS_ADDRESS_BYTES_MAX + 1];
	int bounce;

	buf_init(&whom, SRS_ADDRESS_BYTES_MAX);
	bounce = bounce_for(d, envelope, &whom, e);
	if (bounce < 1) {
		directory_resolve(d, envelope->recipient, envelope->hostname, r);
	} else if (whom.n > 0) {
		directory_resolve(d, buf_slice(&whom), envelope->hostname, r);
		if (r->status == DIR_NOT_OURS && slice_cstr(buf_slice(&whom), address, sizeof address)) {
			directory_resolved_outside(r, address);
			r->status = DIR_LOCAL;
		}
	} else {
		*r = (struct dir_resolved){.status = DIR_UNKNOWN};
	}
	buf_fini(&whom);
	return bounce < 0 || (r->outside_n > 0 && sender_for(d, envelope, out, e) != 0) ? -1 : 0;
}

void
directory_forward(struct directory *d, const struct dir_envelope *envelope, struct dir_forwarded *r_r)
{
	struct err e;

	r_r->sender[0] = '\0';
	r_r->looped = false;
	if (forward(d, envelope, r_r, &e) == 0)
		return;
	log_event(LOG_ERROR, NO_SESSION, "forward-failed", LOG_STR("address", envelope->recipient), LOG_ERR(&e), LOG_END);
	r_r->resolved = (struct dir_resolved){.status = DIR_TEMP};
}
