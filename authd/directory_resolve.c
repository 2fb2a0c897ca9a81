/*
 * An expansion is a walk over a list of names that only grows: each name is
 * looked at once, so that loops and diamonds end by themselves, and the list's
 * size bounds the work. Nothing recurses.
 */
#include "authd/directory_resolve.h"

#include "common/cursor.h"
#include "common/log.h"
#include "common/mem.h"

#include <assert.h>

struct step {
	struct address_name name;
	unsigned depth;
	bool whole; /* found under its whole name, not under a base of it */
};

struct walk {
	struct directory *d;
	struct step step[DIR_EXPANSION_NAMES_MAX];
	unsigned n;
	struct dir_alias alias; /* the one being looked at: too large for the stack */
	bool over_limit;
	bool suspended; /* at least one account found is */
	bool whole;	/* what find_name() found, it found under the whole name */
	struct address_name found; /* what find_name() found, is kept under this name; no domain: under none */
	struct dir_resolved *out;
};

/* What a name stands for. */
enum meaning {
	MEANING_NOTHING,
	MEANING_ACCOUNT,
	MEANING_ALIAS, /* in walk.alias */
	MEANING_OUTSIDE, /* an address on another server */
	MEANING_FAILED,
};

static bool
names_equal(const struct address_name *a, const struct address_name *b)
{
	return strcmp(a->local, b->local) == 0 && strcmp(a->domain, b->domain) == 0;
}

static void
walk_add(struct walk *w, const struct address_name *name, unsigned depth)
{
	for (unsigned i = 0; i < w->n; i++) {
		if (names_equal(&w->step[i].name, name))
			return;
	}
	if (w->n == DIR_EXPANSION_NAMES_MAX || depth > DIR_ALIAS_DEPTH_MAX) {
		w->over_limit = true;
		return;
	}
	w->step[w->n++] = (struct step){.name = *name, .depth = depth};
}

static void
walk_add_account(struct walk *w, const struct dir_account *a)
{
	struct dir_resolved *out = w->out;

	if (a->state != DIR_ACCOUNT_ACTIVE) {
		w->suspended = true;
		return;
	}
	for (unsigned i = 0; i < out->n; i++) {
		if (out->account[i] == a->id)
			return;
	}
	assert(out->n < DIR_EXPANSION_NAMES_MAX);
	out->account[out->n++] = a->id;
}

void
directory_resolved_outside(struct dir_resolved *r, const char *address)
{
	struct buf b;

	buf_init(&b, sizeof r->outside - r->outside_bytes);
	put_slice(&b, slice_str(address));
	assert(!b.failed);
	memcpy(r->outside + r->outside_bytes, b.p, b.n);
	r->outside_bytes += (uint32_t)b.n;
	r->outside_n++;
	buf_fini(&b);
}

static void
walk_add_outside(struct walk *w, const struct address_name *name)
{
	char address[ADDRESS_BYTES_MAX + 1];

	address_print(name, address);
	directory_resolved_outside(w->out, address);
}

static enum meaning
find_exact(struct walk *w, const struct address_name *name, struct dir_account *a_r, struct err *e)
{
	int r = directory_account_find(w->d, name, a_r, e);

	w->found = *name;
	if (r == 0) {
		r = directory_alias_find(w->d, name, &w->alias, e);
		return r == 1 ? MEANING_ALIAS : r == 0 ? MEANING_NOTHING : MEANING_FAILED;
	}
	return r == 1 ? MEANING_ACCOUNT : MEANING_FAILED;
}

/* RFC 5321 4.5.1: postmaster is always somebody; RFC 2142 4 wants the same of abuse. */
static enum meaning
find_role(struct walk *w, const struct address_name *name, struct dir_account *a_r, struct err *e)
{
	int r = directory_account_first(w->d, name->domain, a_r, e);

	w->found.domain[0] = '\0';
	if (r == 0)
		r = directory_account_first(w->d, NULL, a_r, e);
	return r == 1 ? MEANING_ACCOUNT : r == 0 ? MEANING_NOTHING : MEANING_FAILED;
}

static enum meaning
find_catch_all(struct walk *w, const struct address_name *name, struct err *e)
{
	struct address_name all = {.local = ""};
	int r;

	memcpy(all.domain, name->domain, sizeof all.domain);
	w->found = all;
	r = directory_alias_find(w->d, &all, &w->alias, e);
	return r == 1 ? MEANING_ALIAS : r == 0 ? MEANING_NOTHING : MEANING_FAILED;
}

/* As it is written; else what the domain's rules call the same. */
static enum meaning
find_registered(struct walk *w, const struct address_name *name, struct dir_account *a_r, struct err *e)
{
	struct address_name meant = *name;
	enum meaning m = find_exact(w, name, a_r, e);
	int r;

	if (m != MEANING_NOTHING)
		return m;
	r = directory_name_meant(w->d, &meant, e);
	return r < 0 ? MEANING_FAILED : r == 0 ? MEANING_NOTHING : find_exact(w, &meant, a_r, e);
}

/* Without its detail: the longest name first, so that one that has a separator in it wins over a shorter one. */
static enum meaning
find_base(struct walk *w, const struct address_name *name, const char *separators, bool first, struct dir_account *a_r,
    struct err *e)
{
	struct address_name base = *name;
	enum meaning m = MEANING_NOTHING;
	const char *detail;

	while (m == MEANING_NOTHING && address_split_detail(&base, name, separators, &detail)) {
		m = find_registered(w, &base, a_r, e);
		if (m == MEANING_NOTHING && address_is_role(base.local))
			m = find_role(w, &base, a_r, e);
	}
	if (first && (m == MEANING_ACCOUNT || m == MEANING_ALIAS))
		(void)snprintf(w->out->detail, sizeof w->out->detail, "%s", detail);
	return m;
}

/* first: the address itself, which may have a detail to be told and may fall to the catch-all. */
static enum meaning
find_name(struct walk *w, const struct address_name *name, bool first, struct dir_account *a_r,
    struct err *e)
{
	struct dir_domain domain;
	enum meaning m;
	int r = directory_domain_find(w->d, name->domain, &domain, e);

	if (r != 1)
		return r < 0 ? MEANING_FAILED : first ? MEANING_NOTHING : MEANING_OUTSIDE;
	m = find_registered(w, name, a_r, e);
	w->whole = m == MEANING_ACCOUNT || m == MEANING_ALIAS;
	if (m == MEANING_NOTHING)
		m = find_base(w, name, domain.rules.separators, first, a_r, e);
	if (m == MEANING_NOTHING && address_is_role(name->local))
		m = find_role(w, name, a_r, e);
	if (m == MEANING_NOTHING && first)
		m = find_catch_all(w, name, e);
	return m;
}

static int
alias_follow(struct walk *w, unsigned depth, struct err *e)
{
	struct address_name name;

	for (uint32_t i = 0; i < w->alias.n; i++) {
		if (!dir_name_of(w->alias.target[i], &name))
			return err_set(
			    e, ERR_TEMP, ERR_CODE_CORRUPT, "directory damaged", "an alias target");
		walk_add(w, &name, depth + 1);
	}
	return 0;
}

/* Looks at every name from `at` on; steps that lead nowhere are passed over. */
static int
walk_run(struct walk *w, unsigned at, struct err *e)
{
	struct dir_account a;

	for (; at < w->n; at++) {
		struct step *s = &w->step[at];
		enum meaning m = find_name(w, &s->name, s->depth == 0, &a, e);

		s->whole = w->whole;
		switch (m) {
		case MEANING_ACCOUNT:
			walk_add_account(w, &a);
			break;
		case MEANING_ALIAS:
			if (alias_follow(w, s->depth, e) != 0)
				return -1;
			break;
		case MEANING_OUTSIDE:
			walk_add_outside(w, &s->name);
			break;
		case MEANING_NOTHING:
			break;
		case MEANING_FAILED:
			return -1;
		}
	}
	return 0;
}

/* The domain of a bare postmaster: the host name's, or one above it, or the one added first. */
static int
postmaster_domain(struct directory *d, const char *hostname, char *domain_r, struct err *e)
{
	struct slice rest = slice_str(hostname);
	struct slice label;
	struct dir_domain record;

	while (rest.n > 0) {
		if (address_domain(rest, domain_r)) {
			int r = directory_domain_find(d, domain_r, &record, e);

			if (r != 0)
				return r;
		}
		(void)slice_cut(&rest, '.', &label);
	}
	return directory_domain_first(d, domain_r, e);
}

/* The name that is meant, and whether its domain is ours: 1, 0, or -1 and e. */
static int
name_of(struct directory *d, struct slice address, const char *hostname,
    struct address_name *name_r, struct err *e)
{
	struct dir_domain record;

	if (slice_eq_nocase(address, SLICE("postmaster"))) {
		memcpy(name_r->local, "postmaster", sizeof "postmaster");
		return postmaster_domain(d, hostname, name_r->domain, e);
	}
	if (!address_parse(address, name_r))
		return 0;
	return directory_domain_find(d, name_r->domain, &record, e);
}

static enum dir_status
status_of(const struct walk *w)
{
	if (w->over_limit)
		return DIR_TEMP;
	if (w->out->n > 0 || w->out->outside_n > 0)
		return DIR_LOCAL;
	return w->suspended ? DIR_DISABLED : DIR_UNKNOWN;
}

/* The domain is ours, and no name in it can be the local part: 1, 0, or -1 and e. */
static int
domain_alone(struct directory *d, struct slice address, struct err *e)
{
	char domain[ADDRESS_DOMAIN_BYTES_MAX + 1];
	struct dir_domain record;
	size_t at = slice_rindex(address, '@');

	if (at == address.n || !address_domain(slice_sub(address, at + 1, address.n), domain))
		return 0;
	return directory_domain_find(d, domain, &record, e);
}

/* As directory_resolve(), with what went wrong in e. */
static int
resolve(struct directory *d, struct slice address, const char *hostname, struct dir_resolved *out,
    struct err *e)
{
	struct address_name name;
	struct walk *w;
	int r = name_of(d, address, hostname, &name, e);

	out->n = out->outside_n = out->outside_bytes = 0;
	out->detail[0] = out->domain[0] = '\0';
	if (r == 0 && domain_alone(d, address, e) == 1) {
		out->status = DIR_UNKNOWN;
		return 0;
	}
	out->status = r < 0 ? DIR_TEMP : DIR_NOT_OURS;
	if (r != 1)
		return r;
	memcpy(out->domain, name.domain, sizeof out->domain);
	w = MEM_NEW(struct walk);
	w->d = d;
	w->out = out;
	walk_add(w, &name, 0);
	r = walk_run(w, 0, e);
	if (r == 0 && w->over_limit)
		r = err_set(e, ERR_TEMP, ERR_CODE_NONE, "too many aliases",
		    "%s@%s leads to more than %d names or %d deep", name.local, name.domain,
		    DIR_EXPANSION_NAMES_MAX, DIR_ALIAS_DEPTH_MAX);
	out->status = r < 0 ? DIR_TEMP : status_of(w);
	if (out->status != DIR_LOCAL)
		out->n = out->outside_n = out->outside_bytes = 0;
	free(w);
	return r;
}

void
directory_resolve(
    struct directory *d, struct slice address, const char *hostname, struct dir_resolved *r_r)
{
	struct err e;

	if (resolve(d, address, hostname, r_r, &e) < 0)
		log_event(LOG_ERROR, NO_SESSION, "address-failed", LOG_STR("address", address),
		    LOG_ERR(&e), LOG_END);
}

/* The accounts to which the name that takes the address was delegated: 1 and they are in w->out, 0: there are none, or -1 and e. */
static int
delegates(struct walk *w, struct slice address, const char *hostname, struct err *e)
{
	struct address_name name;
	struct dir_account a;
	int r = name_of(w->d, address, hostname, &name, e);

	if (r != 1)
		return r;
	switch (find_name(w, &name, true, &a, e)) {
	case MEANING_FAILED:
		return -1;
	case MEANING_ACCOUNT:
	case MEANING_ALIAS:
		break;
	default:
		return 0;
	}
	if (w->found.domain[0] == '\0')
		return 0;
	r = directory_sender_find(w->d, &w->found, &w->alias, e);
	if (r != 1)
		return r;
	return alias_follow(w, 0, e) != 0 || walk_run(w, 0, e) != 0 ? -1 : 1;
}

int
directory_may_send(struct directory *d, uint64_t account, struct slice address,
    const char *hostname, struct err *e)
{
	struct dir_resolved *out = MEM_NEW(struct dir_resolved);
	struct walk *w = MEM_NEW(struct walk);
	int r = resolve(d, address, hostname, out, e) < 0 ? -1 : 0;

	for (unsigned i = 0; r == 0 && i < out->n; i++)
		r = out->account[i] == account;
	if (r == 0) {
		*out = (struct dir_resolved){.n = 0};
		*w = (struct walk){.d = d, .out = out};
		r = delegates(w, address, hostname, e) < 0 ? -1 : 0;
		for (unsigned i = 0; r == 0 && i < out->n; i++)
			r = out->account[i] == account ? 2 : 0;
	}
	free(w);
	free(out);
	return r;
}

/* One target: ours, and somebody's; or on another server. */
static int
target_check(struct walk *w, struct slice target, bool outside, struct err *e)
{
	struct address_name name;
	struct dir_domain record;
	struct dir_account a;
	int r;

	if (!dir_name_of(target, &name))
		return err_set(e, ERR_PERM, ERR_CODE_BAD_NAME, "a target is no address", NULL);
	r = directory_domain_find(w->d, name.domain, &record, e);
	if (r < 0)
		return -1;
	if (r == 0 && !outside)
		return err_set(e, ERR_PERM, ERR_CODE_BAD_NAME,
		    "a target is on another server, and sending to other servers is turned off (transport.enabled)",
		    "%s@%s", name.local, name.domain);
	switch (find_name(w, &name, false, &a, e)) {
	case MEANING_FAILED:
		return -1;
	case MEANING_NOTHING:
		return err_set(e, ERR_PERM, ERR_CODE_NOT_FOUND,
		    "a target does not exist: add that account or alias first", "%s@%s", name.local,
		    name.domain);
	default:
		walk_add(w, &name, 1);
		return 0;
	}
}

/* The same to the domain: as they are, or folded. */
static bool
names_same(const struct address_name *a, const struct address_name *b, const struct address_rules *rules)
{
	char x[ADDRESS_LOCAL_BYTES_MAX + 1], y[ADDRESS_LOCAL_BYTES_MAX + 1];

	return names_equal(a, b) ||
	    (strcmp(a->domain, b->domain) == 0 && address_fold(a->local, rules, x) &&
		address_fold(b->local, rules, y) && strcmp(x, y) == 0);
}

/* Does the walk come by name again, itself or with a detail? */
static bool
walk_returns(const struct walk *w, const struct address_name *name, const struct address_rules *rules)
{
	const char *detail;

	for (unsigned i = 0; i < w->n; i++) {
		struct address_name base = w->step[i].name;

		if (names_same(&base, name, rules))
			return true;
		while (!w->step[i].whole && address_split_detail(&base, &w->step[i].name, rules->separators, &detail))
			if (names_same(&base, name, rules))
				return true;
	}
	return false;
}

int
directory_alias_check(struct directory *d, const struct address_name *name,
    const struct dir_alias *alias, bool outside, struct err *e)
{
	struct dir_resolved *out = MEM_NEW(struct dir_resolved);
	struct walk *w = MEM_NEW(struct walk);
	struct dir_domain domain = {.rules = ADDRESS_RULES_DEFAULT};
	int r = directory_name_free(d, name, true, e);

	if (r == 0 && directory_domain_find(d, name->domain, &domain, e) < 0)
		r = -1;
	w->d = d;
	w->out = out;
	for (uint32_t i = 0; r == 0 && i < alias->n; i++)
		r = target_check(w, alias->target[i], outside, e);
	if (r == 0)
		r = walk_run(w, 0, e);
	if (r == 0 && walk_returns(w, name, &domain.rules))
		r = err_set(
		    e, ERR_PERM, ERR_CODE_BAD_NAME, "the alias would lead back to itself", NULL);
	/* The name itself is one of those that count. */
	if (r == 0 && (w->over_limit || w->n >= DIR_EXPANSION_NAMES_MAX))
		r = err_set(e, ERR_PERM, ERR_CODE_TOO_BIG,
		    "the alias would lead to more than 100 names or 10 deep", NULL);
	free(w);
	free(out);
	return r;
}

/* One that is to send: an account or alias of ours. */
static int
delegate_check(struct walk *w, struct slice target, struct err *e)
{
	struct address_name name;
	struct dir_account a;

	if (!dir_name_of(target, &name))
		return err_set(e, ERR_PERM, ERR_CODE_BAD_NAME, "a target is no address", NULL);
	switch (find_name(w, &name, false, &a, e)) {
	case MEANING_FAILED:
		return -1;
	case MEANING_ACCOUNT:
	case MEANING_ALIAS:
		return 0;
	default:
		return err_set(e, ERR_PERM, ERR_CODE_NOT_FOUND, "who is to send must have an account here", "%s@%s", name.local,
		    name.domain);
	}
}

int
directory_sender_check(struct directory *d, const struct address_name *name, const struct dir_alias *targets, struct err *e)
{
	struct walk *w = MEM_NEW(struct walk);
	struct dir_account a;
	int r = 0;

	w->d = d;
	switch (find_exact(w, name, &a, e)) {
	case MEANING_FAILED:
		r = -1;
		break;
	case MEANING_NOTHING:
		r = err_set(e, ERR_PERM, ERR_CODE_NOT_FOUND, "there is no account or alias of that name", NULL);
		break;
	default:
		break;
	}
	for (uint32_t i = 0; r == 0 && i < targets->n; i++)
		r = delegate_check(w, targets->target[i], e);
	free(w);
	return r;
}
