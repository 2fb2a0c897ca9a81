/*
 * mailstead dkim: the keys that sign outgoing mail.
 *
 * A new key signs nothing until its record was seen in the DNS. When another one of its algorithm signs already, the new one takes over
 * TAKE_OVER seconds after that, when resolvers have forgotten that there was no record; the old one is retired at that moment,
 * and its record has to stay for KEEP seconds, while mail signed with it may still be on its way or be verified. The times are all
 * written down when the record is seen: the key role acts on them by itself.
 */
#include "admin/directory_request.h"
#include "admin/dkim_dns.h"
#include "admin/dkim_keys.h"
#include "common/date.h"
#include "common/loop.h"

#include <stdio.h>

#define TAKE_OVER 86400u
#define KEEP (30u * 86400u)
#define TXT_STRING_BYTES 255
#define NAME_TRIES 20

static uint64_t
now_s(void)
{
	return clock_wall_us() / 1000000;
}

/* ---- printing ---- */

static void
record_name(const struct dkim_keys *k, const struct dkim_selector *s, struct buf *name)
{
	buf_putf(name, "%s._domainkey.%s", s->name, k->domain);
}

static void
set_time(json_t *row, const char *key, uint64_t t)
{
	char text[DATE_RFC3339_SIZE];

	date_rfc3339_print((int64_t)t, text);
	(void)json_object_set_new(row, key, t != 0 ? json_string(text) : json_null());
}

/* All that is known of a selector. NULL after saying why not. */
static json_t *
row_of(const struct dkim_keys *k, const struct dkim_selector *s)
{
	struct buf name, record;
	json_t *row = NULL;

	buf_init(&name, 512);
	buf_init(&record, DKIM_KEYS_RECORD_BYTES_MAX);
	record_name(k, s, &name);
	if (dkim_keys_record(k, s, &record) == COMMAND_OK) {
		row = json_pack("{s:s, s:s, s:s, s:s, s:o, s:o}", "domain", k->domain, "selector", s->name, "algorithm",
		    dkim_algorithm_name(s->algorithm), "state", dkim_selector_state_name(dkim_selector_state(s, now_s())), "name",
		    command_text(buf_slice(&name)), "record", command_text(buf_slice(&record)));
		set_time(row, "created", s->created);
		set_time(row, "published", s->published);
		set_time(row, "use_from", s->use_from);
		set_time(row, "retire_at", s->retire_at);
		set_time(row, "remove_at", s->remove_at);
	}
	buf_fini(&name);
	buf_fini(&record);
	return row;
}

/* As a zone file has it, the text in strings of at most 255 octets (RFC 1035 3.3, RFC 6376 3.6.2.2). */
static void
print_record(const json_t *row)
{
	struct slice rest = slice_str(json_string_value(json_object_get(row, "record")));
	bool several = rest.n > TXT_STRING_BYTES;

	printf("%s. IN TXT %s", json_string_value(json_object_get(row, "name")), several ? "( " : "");
	while (rest.n > 0) {
		struct slice part = slice_sub(rest, 0, TXT_STRING_BYTES);

		rest = slice_sub(rest, part.n, rest.n);
		printf("\"%.*s\"%s", SLICE_ARG(part), rest.n > 0 ? "\n    " : "");
	}
	puts(several ? " )" : "");
}

static enum command_status
print_records(const json_t *rows)
{
	json_t *row;
	size_t i;

	json_array_foreach(rows, i, row)
		if (strcmp(json_string_value(json_object_get(row, "state")), "retired") != 0)
			print_record(row);
	return command_output_end();
}

/* ---- making ---- */

/* The newest of that algorithm that is not retired (signing: and signs, or will); NULL: none. */
static struct dkim_selector *
living(struct dkim_keys *k, enum dkim_algorithm a, bool signing)
{
	for (unsigned i = k->list.n; i-- > 0;) {
		enum dkim_selector_state state = dkim_selector_state(&k->list.v[i], now_s());

		if (k->list.v[i].algorithm == a && state != DKIM_SELECTOR_RETIRED && (!signing || k->list.v[i].use_from != 0))
			return &k->list.v[i];
	}
	return NULL;
}

/* From now on, or from when others have forgotten that it was not there; the one before retires then. */
static void
put_into_use(struct dkim_keys *k, struct dkim_selector *s, bool at_once)
{
	struct dkim_selector *before = living(k, s->algorithm, true);
	uint64_t now = now_s();

	s->published = s->published != 0 ? s->published : now;
	s->use_from = before != NULL && before != s && !at_once ? now + TAKE_OVER : now;
	for (unsigned i = 0; i < k->list.n; i++) {
		struct dkim_selector *o = &k->list.v[i];

		if (o == s || o->algorithm != s->algorithm || o->use_from == 0 || (o->retire_at != 0 && o->retire_at <= s->use_from))
			continue;
		o->retire_at = s->use_from;
		o->remove_at = s->use_from + KEEP;
	}
}

/* A name that is free: BASE-rsa, or BASE-2-rsa. False when it is none, or all are taken. */
static bool
free_name(struct dkim_keys *k, const char *base, enum dkim_algorithm a, char name_r[DKIM_SELECTOR_BYTES_MAX + 1])
{
	for (unsigned i = 1; i <= NAME_TRIES; i++) {
		char number[8] = "";
		struct buf b;

		if (i > 1)
			(void)snprintf(number, sizeof number, "-%u", i);
		buf_init(&b, DKIM_SELECTOR_BYTES_MAX);
		bool fits = buf_putf(&b, "%s%s-%s", base, number, dkim_algorithm_key_type(a)) &&
			    dkim_selector_name_valid(buf_slice(&b)) && slice_cstr(buf_slice(&b), name_r, DKIM_SELECTOR_BYTES_MAX + 1);

		buf_fini(&b);
		if (!fits)
			return false;
		if (dkim_selectors_find(&k->list, slice_str(name_r)) == NULL)
			return true;
	}
	return false;
}

struct making {
	const char *base; /* of the names */
	bool wanted[DKIM_ALGORITHMS];
	bool at_once; /* do not wait for the record */
};

static enum command_status
make_one(struct dkim_keys *k, const struct making *m, enum dkim_algorithm a)
{
	char name[DKIM_SELECTOR_BYTES_MAX + 1];
	enum command_status status;

	if (k->list.n == DKIM_SELECTORS_MAX) {
		command_error("%s has %u selectors; no more fit", k->domain, k->list.n);
		return COMMAND_REFUSED;
	}
	if (!free_name(k, m->base, a, name)) {
		command_error("%s makes no free name of a selector: take lower-case letters, digits and hyphens", m->base);
		return COMMAND_REFUSED;
	}
	status = dkim_keys_make(k, name, a, now_s());
	if (status == COMMAND_OK && m->at_once)
		put_into_use(k, &k->list.v[k->list.n - 1], true);
	return status;
}

/* Prints what is new, from index `first` on. */
static enum command_status
print_new(const struct command_call *call, struct dkim_keys *k, unsigned first)
{
	json_t *rows = json_array();
	enum command_status status;

	for (unsigned i = first; i < k->list.n; i++)
		(void)json_array_append_new(rows, row_of(k, &k->list.v[i]));
	if (call->json) {
		status = command_print_json(rows);
	} else {
		printf("Publish in the DNS of %s:\n\n", k->domain);
		status = print_records(rows);
		printf("\nThen: mailstead dkim check %s\n", k->domain);
	}
	json_decref(rows);
	return status;
}

static enum command_status
make(const struct command_call *call, struct dkim_keys *k, const struct making *m)
{
	unsigned first = k->list.n;
	enum command_status status = COMMAND_OK;

	for (unsigned a = 0; a < DKIM_ALGORITHMS && status == COMMAND_OK; a++)
		if (m->wanted[a])
			status = make_one(k, m, (enum dkim_algorithm)a);
	if (status == COMMAND_OK)
		status = dkim_keys_save(k);
	if (status == COMMAND_OK)
		status = print_new(call, k, first);
	if (status == COMMAND_OK && m->at_once)
		status = command_reload(call, false);
	return status;
}

static bool
take_algorithm(const char *word, bool wanted[DKIM_ALGORITHMS])
{
	enum dkim_algorithm a;

	if (word == NULL) {
		wanted[DKIM_RSA_SHA256] = wanted[DKIM_ED25519_SHA256] = true;
		return true;
	}
	if (!dkim_algorithm_of(slice_str(word), &a))
		return false;
	wanted[a] = true;
	return true;
}

/* "20261129" */
static const char *
today(char text[DATE_RFC3339_SIZE])
{
	size_t n = 0;

	date_rfc3339_print((int64_t)now_s(), text);
	for (size_t i = 0; i < 10; i++)
		if (text[i] != '-')
			text[n++] = text[i];
	text[n] = '\0';
	return text;
}

static enum command_status
dkim_create(const struct command_call *call)
{
	char day[DATE_RFC3339_SIZE];
	struct making m = {.base = NULL};
	const char *algorithm;
	int argc = call->argc;
	struct dkim_keys k;
	enum command_status status;

	m.at_once = option_flag(&argc, call->argv, "--force");
	if (!option_value(&argc, call->argv, "--selector", &m.base) || !option_value(&argc, call->argv, "--algorithm", &algorithm))
		return command_usage(call, "a word is missing behind an option");
	status = option_end(call, argc, call->argv, 1, 1);
	if (status == COMMAND_OK && !take_algorithm(algorithm, m.wanted))
		return command_usage(call, "%s: the algorithm is rsa or ed25519", algorithm);
	if (m.base == NULL)
		m.base = today(day);
	if (status == COMMAND_OK)
		status = dkim_keys_open(call->config, call->argv[0], &k);
	if (status != COMMAND_OK)
		return status;
	for (unsigned a = 0; a < DKIM_ALGORITHMS && status == COMMAND_OK; a++)
		if (m.wanted[a] && living(&k, (enum dkim_algorithm)a, false) != NULL) {
			command_error("%s has a key for %s already; `mailstead dkim rotate` makes the next one", k.domain,
			    dkim_algorithm_name((enum dkim_algorithm)a));
			status = COMMAND_REFUSED;
		}
	if (status == COMMAND_OK)
		status = make(call, &k, &m);
	dkim_keys_close(&k);
	return status;
}

static enum command_status
dkim_rotate(const struct command_call *call)
{
	char day[DATE_RFC3339_SIZE];
	struct making m = {.base = NULL};
	int argc = call->argc;
	struct dkim_keys k;
	bool some = false;
	enum command_status status;

	m.at_once = option_flag(&argc, call->argv, "--force");
	if (!option_value(&argc, call->argv, "--selector", &m.base))
		return command_usage(call, "a word is missing behind an option");
	status = option_end(call, argc, call->argv, 1, 1);
	if (m.base == NULL)
		m.base = today(day);
	if (status == COMMAND_OK)
		status = dkim_keys_open(call->config, call->argv[0], &k);
	if (status != COMMAND_OK)
		return status;
	for (unsigned a = 0; a < DKIM_ALGORITHMS && status == COMMAND_OK; a++) {
		struct dkim_selector *newest = living(&k, (enum dkim_algorithm)a, false);

		m.wanted[a] = newest != NULL;
		some = some || newest != NULL;
		if (newest != NULL && newest->use_from == 0) {
			command_error("%s is still to be published: see `mailstead dkim show %s`", newest->name, k.domain);
			status = COMMAND_REFUSED;
		}
	}
	if (status == COMMAND_OK && !some) {
		command_error("%s has no key; `mailstead dkim create` makes the first", k.domain);
		status = COMMAND_REFUSED;
	}
	if (status == COMMAND_OK)
		status = make(call, &k, &m);
	dkim_keys_close(&k);
	return status;
}

/* ---- retiring ---- */

/* Those that were to retire when s takes over go on, should it not have done so yet. */
static void
stay(struct dkim_keys *k, const struct dkim_selector *s)
{
	for (unsigned i = 0; i < k->list.n && s->use_from > now_s(); i++)
		if (&k->list.v[i] != s && k->list.v[i].retire_at == s->use_from)
			k->list.v[i].retire_at = k->list.v[i].remove_at = 0;
}

static enum command_status
retire(const struct command_call *call, struct dkim_keys *k, bool force)
{
	struct dkim_selector *s = dkim_selectors_find(&k->list, slice_str(call->argv[1])), *other = NULL;
	enum command_status status;

	if (s == NULL) {
		command_error("%s has no selector %s", k->domain, call->argv[1]);
		return COMMAND_REFUSED;
	}
	for (unsigned i = 0; i < k->list.n; i++)
		if (&k->list.v[i] != s && dkim_selector_state(&k->list.v[i], now_s()) == DKIM_SELECTOR_ACTIVE)
			other = &k->list.v[i];
	if (dkim_selector_state(s, now_s()) == DKIM_SELECTOR_ACTIVE && other == NULL && !force) {
		command_error("%s is the last one that signs: mail would go unsigned; --force does it", s->name);
		return COMMAND_REFUSED;
	}
	if (s->use_from == 0) {
		/* It never signed anything. */
		status = dkim_keys_remove(k, s);
	} else {
		stay(k, s);
		s->retire_at = now_s();
		s->remove_at = s->retire_at + KEEP;
		status = dkim_keys_save(k);
	}
	return status == COMMAND_OK ? command_reload(call, false) : status;
}

static enum command_status
dkim_retire(const struct command_call *call)
{
	int argc = call->argc;
	bool force = option_flag(&argc, call->argv, "--force");
	enum command_status status = option_end(call, argc, call->argv, 2, 2);
	struct dkim_keys k;

	if (status == COMMAND_OK)
		status = dkim_keys_open(call->config, call->argv[0], &k);
	if (status != COMMAND_OK)
		return status;
	status = retire(call, &k, force);
	dkim_keys_close(&k);
	return status;
}

/* ---- showing ---- */

struct showing {
	const struct command_call *call;
	json_t *rows;
};

static enum command_status
show_domain(void *arg, const char *domain)
{
	struct showing *w = arg;
	struct dkim_keys k;
	enum command_status status = dkim_keys_open(w->call->config, domain, &k);

	if (status != COMMAND_OK)
		return status;
	for (unsigned i = 0; i < k.list.n && status == COMMAND_OK; i++) {
		json_t *row = row_of(&k, &k.list.v[i]);

		if (row == NULL)
			status = COMMAND_REFUSED;
		else
			(void)json_array_append_new(w->rows, row);
	}
	dkim_keys_close(&k);
	return status;
}

static enum command_status
each_domain(const struct command_call *call, enum command_status (*fn)(void *, const char *), void *arg)
{
	enum command_status status = option_end(call, call->argc, call->argv, 0, 1);

	if (status != COMMAND_OK)
		return status;
	return call->argc == 1 ? fn(arg, call->argv[0]) : dkim_keys_each(call->config, fn, arg);
}

static enum command_status
dkim_show(const struct command_call *call)
{
	static const struct command_column columns[] = {{"domain", "DOMAIN"}, {"selector", "SELECTOR"}, {"algorithm", "ALGORITHM"},
	    {"state", "STATE"}, {"use_from", "SIGNS FROM"}, {"retire_at", "UNTIL"}, {"remove_at", "RECORD UNTIL"}, {NULL, NULL}};
	struct showing w = {call, json_array()};
	enum command_status status = each_domain(call, show_domain, &w);

	if (status == COMMAND_OK)
		status = command_print_list(call, w.rows, columns);
	if (status == COMMAND_OK && !call->json && call->argc == 1) {
		putchar('\n');
		status = print_records(w.rows);
	}
	json_decref(w.rows);
	return status;
}

/* ---- checking ---- */

struct finding {
	enum dkim_published published;
	char reason[DKIM_DNS_REASON_SIZE];
	const char *advice;
	bool forget; /* the selector's time is over */
};

struct checking {
	const struct command_call *call;
	struct command_link *resolver;
	json_t *rows;
	bool wrong;   /* a record is to be mended */
	bool unknown; /* or could not be asked for */
	bool changed; /* the key role is to read again */
};

static void
judge_retired(struct checking *c, const struct dkim_selector *s, struct finding *f)
{
	bool there = f->published == DKIM_PUBLISHED_RIGHT, unknown = f->published == DKIM_PUBLISHED_UNKNOWN;

	if (unknown)
		return;
	if (now_s() < s->remove_at) {
		c->wrong |= !there;
		f->advice = there ? "keep the record until it may go" : "publish the record again until it may go";
	} else {
		f->forget = f->published == DKIM_PUBLISHED_MISSING;
		f->advice = f->forget ? "forgotten" : "remove the record";
	}
}

/* Its record has gone again before it took over: it waits as if it had not been seen, and the one before goes on. */
static void
withdraw(struct dkim_keys *k, struct dkim_selector *s)
{
	stay(k, s);
	s->published = s->use_from = 0;
}

/* What follows from what the DNS says. */
static void
judge(struct checking *c, struct dkim_keys *k, struct dkim_selector *s, struct finding *f)
{
	enum dkim_selector_state state = dkim_selector_state(s, now_s());

	c->unknown |= f->published == DKIM_PUBLISHED_UNKNOWN;
	if (state == DKIM_SELECTOR_RETIRED) {
		judge_retired(c, s, f);
	} else if (f->published == DKIM_PUBLISHED_MISSING || f->published == DKIM_PUBLISHED_WRONG) {
		c->wrong = true;
		if (state == DKIM_SELECTOR_PUBLISHED && s->use_from != 0) {
			withdraw(k, s);
			c->changed = true;
		}
		f->advice = s->use_from == 0 ? "publish the record" : "signatures fail: publish the record";
	} else if (s->use_from == 0 && f->published == DKIM_PUBLISHED_RIGHT) {
		put_into_use(k, s, false);
		c->changed = true;
		f->advice = s->use_from > now_s() ? "signs in a day" : "signs from now on";
	}
}

static enum command_status
check_selector(struct checking *c, struct dkim_keys *k, struct dkim_selector *s, struct finding *f)
{
	uint32_t timeout_ms = (uint32_t)config_number(c->call->config, OPT_DNS_TIMEOUT);
	struct buf name, record;
	enum command_status status;

	*f = (struct finding){.published = DKIM_PUBLISHED_UNKNOWN, .advice = ""};
	buf_init(&name, 512);
	buf_init(&record, DKIM_KEYS_RECORD_BYTES_MAX);
	record_name(k, s, &name);
	status = dkim_keys_record(k, s, &record);
	struct dkim_question q = {buf_slice(&name), s->algorithm, buf_slice(&record)};

	if (status == COMMAND_OK)
		status = dkim_dns_ask(c->resolver, &q, timeout_ms, &f->published, f->reason);
	if (status == COMMAND_OK)
		judge(c, k, s, f);
	buf_fini(&name);
	buf_fini(&record);
	return status;
}

/* What came out of it, once all of them have been judged: one may end another's time. */
static void
add_finding(struct checking *c, const struct dkim_keys *k, const struct dkim_selector *s, const struct finding *f)
{
	json_t *row = row_of(k, s);

	(void)json_object_set_new(row, "dns", json_string(dkim_published_name(f->published)));
	(void)json_object_set_new(row, "reason", json_string(f->reason));
	(void)json_object_set_new(row, "advice", json_string(f->advice));
	(void)json_array_append_new(c->rows, row);
}

static enum command_status
check_all(struct checking *c, struct dkim_keys *k)
{
	static struct finding found[DKIM_SELECTORS_MAX];
	enum command_status status = COMMAND_OK;

	for (unsigned i = 0; i < k->list.n && status == COMMAND_OK; i++)
		status = check_selector(c, k, &k->list.v[i], &found[i]);
	for (unsigned i = 0; i < k->list.n && status == COMMAND_OK; i++)
		add_finding(c, k, &k->list.v[i], &found[i]);
	if (status == COMMAND_OK && c->changed)
		status = dkim_keys_save(k);
	for (unsigned i = k->list.n; i-- > 0 && status == COMMAND_OK;)
		if (found[i].forget)
			status = dkim_keys_remove(k, &k->list.v[i]);
	return status;
}

static enum command_status
check_domain(void *arg, const char *domain)
{
	struct checking *c = arg;
	struct dkim_keys k;
	enum command_status status = dkim_keys_open(c->call->config, domain, &k);

	if (status != COMMAND_OK)
		return status;
	status = check_all(c, &k);
	dkim_keys_close(&k);
	return status;
}

static enum command_status
dkim_check(const struct command_call *call)
{
	static const struct command_column columns[] = {{"domain", "DOMAIN"}, {"selector", "SELECTOR"}, {"state", "STATE"}, {"dns", "DNS"},
	    {"reason", "REASON"}, {"advice", "ADVICE"}, {NULL, NULL}};
	struct checking c = {.call = call, .resolver = command_connect(call->config, ROLE_RESOLVER)};
	enum command_status status;

	if (c.resolver == NULL)
		return COMMAND_UNREACHABLE;
	c.rows = json_array();
	status = each_domain(call, check_domain, &c);
	if (status == COMMAND_OK)
		status = command_print_list(call, c.rows, columns);
	if (c.changed && command_reload(call, false) != COMMAND_OK)
		status = COMMAND_UNREACHABLE;
	json_decref(c.rows);
	command_disconnect(&c.resolver);
	if (status == COMMAND_OK && c.wrong)
		status = COMMAND_REFUSED;
	return status == COMMAND_OK && c.unknown ? COMMAND_TEMPORARY : status;
}

const struct command commands_dkim[] = {
    {
	.name = "dkim create",
	.args = "DOMAIN [--selector NAME] [--algorithm rsa|ed25519] [--force]",
	.help = "make the keys that sign a domain's outgoing mail",
	.more = "Makes a key for each algorithm, or for the one named, and prints the records to publish in the DNS. Selectors are\n"
		"NAME-rsa and NAME-ed25519; NAME is the day unless given. A key signs nothing until `mailstead dkim check` has\n"
		"seen its record; with --force it signs at once.\n",
	.args_min = 1,
	.args_max = 6,
	.needs_config = true,
	.run = dkim_create,
    },
    {
	.name = "dkim show",
	.args = "[DOMAIN]",
	.help = "the keys that sign mail, and their DNS records",
	.more = "STATE is created (its record was not seen yet), published (it was, and the key signs at the time shown), active or\n"
		"retired. With DOMAIN the records are printed as a zone file has them.\n",
	.args_max = 1,
	.needs_config = true,
	.run = dkim_show,
    },
    {
	.name = "dkim check",
	.args = "[DOMAIN]",
	.help = "compare with what is in the DNS; put new keys to use",
	.more = "A new key whose record is found signs from now on, or a day later when it follows another one: then the last\n"
		"resolver has forgotten that there was no record. The one before is retired at that moment; its record must stay for\n"
		"another 30 days. When the new record has gone again before that, the key waits as if it had never been there.\n"
		"A retired key is forgotten when that time is over and its record is gone.\n"
		"Exit status 1: a record is missing or wrong; 4: the DNS did not tell. To be run daily.\n",
	.args_max = 1,
	.needs_config = true,
	.run = dkim_check,
    },
    {
	.name = "dkim rotate",
	.args = "DOMAIN [--selector NAME] [--force]",
	.help = "make the next keys of a domain",
	.more = "One for each algorithm that the domain has a key for, as `mailstead dkim create` does; they take over after\n"
		"`mailstead dkim check` has seen their records. With --force they do at once.\n",
	.args_min = 1,
	.args_max = 4,
	.needs_config = true,
	.run = dkim_rotate,
    },
    {
	.name = "dkim retire",
	.args = "DOMAIN SELECTOR [--force]",
	.help = "sign no more with a key",
	.more = "From now on. One that never signed is removed. The last one that signs is retired only with --force.\n"
		"When a key may have been stolen: make another (rotate --force), retire it, and remove its record at once.\n",
	.args_min = 2,
	.args_max = 3,
	.needs_config = true,
	.run = dkim_retire,
    },
    {.name = NULL},
};
