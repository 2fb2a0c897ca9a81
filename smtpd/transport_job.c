/*
 * One piece. A connection that waits for its destination is tried first; when that turns out to be gone, nothing is lost but time. Then the
 * servers of the destination, address by address, until each recipient is decided. A server that was ready and said "later" has
 * decided; one that could not be spoken to, or that went in the middle, has not, and the next is tried (RFC 5321 5.1).
 *
 * What no server decided is put off, or fails for good when all of them said so for good.
 *
 * Where a relay is configured for it, it gets what no server could be reached for, and those recipients whom a server refused for good for
 * what is known of this host's address; all else that was said holds. Whether DANE or a policy forbids that is known by the route: what was
 * refused over a connection that had waited is asked again along one.
 */
#include "smtpd/transport.h"

#include "common/mem.h"
#include "smtpd/dsn_words.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define TRACE_BYTES_MAX 4096
#define TLS_FIRST_PORT 465
/* Between two lines of the log about the same want. */
#define NO_MEANS_TELL_MS 60000
/* "mx.example[192.0.2.1]: " before our own words. */
#define WORDS_BYTES_MAX (TRANSPORT_MTA_MAX + TRANSPORT_TEXT_MAX + 4)

void
transport_trace(const struct transport_job *job, const char *event, const struct log_field *fields)
{
	struct buf b;

	buf_init(&b, TRACE_BYTES_MAX);
	buf_putf(&b, " id=%s", job->queue_id);
	log_put_fields(&b, fields);
	role_trace(slice_str(job->session), event, buf_slice(&b));
	buf_fini(&b);
}

void
transport_job_free(struct transport_job **jp)
{
	struct transport_job *job = *jp;

	if (job == NULL)
		return;
	*jp = NULL;
	assert(job->conn == NULL);
	transport_search_free(&job->search);
	transport_sts_cancel(&job->sts);
	if (job->message.fd >= 0)
		(void)close(job->message.fd);
	free(job->message.outcomes);
	buf_fini(&job->results);
	arena_free(&job->arena);
	free(job);
}

/* ---- the result ---- */

static void
trace_outcome(const struct transport_job *job, const struct queue_recipient *r, const struct transport_outcome *o)
{
	const struct log_field fields[] = {LOG_STR("to", r->address), LOG_CSTR("state", queue_state_name(o->state)),
	    LOG_CSTR("status", o->status), LOG_CSTR("mta", o->mta), LOG_CSTR("text", o->text), LOG_NUM("unsure", o->unsure), LOG_END};

	transport_trace(job, "remote-result", fields);
}

static void
decide_rest(const struct transport_job *job, struct transport_outcome *o)
{
	char words[WORDS_BYTES_MAX];
	const struct transport_failure *f = &job->failure;
	bool said = f->said || job->failure_mta[0] == '\0';

	/* The relay cannot take it, so what the domain's server said holds. */
	if (o->refused && f->permanent) {
		o->decided = true;
		return;
	}
	snprintf(words, sizeof words, "%s%s%s", said ? "" : job->failure_mta, said ? "" : ": ", f->text);
	*o = (struct transport_outcome){.decided = true, .state = f->permanent ? QUEUE_FAILED : QUEUE_PENDING};
	snprintf(o->text, sizeof o->text, "%.*s", TRANSPORT_TEXT_MAX - 1, words);
	snprintf(o->mta, sizeof o->mta, "%s", f->said ? job->failure_mta : "");
	/* A reply's class is that of its code; ours may come from a server that failed for good while another one may yet work. */
	snprintf(o->status, sizeof o->status, "%s", f->status);
}

static void
encode_results(struct transport_job *job)
{
	struct queue_results results = {.count = job->item.count};

	results.v = calloc(results.count, sizeof *results.v);
	if (results.v == NULL)
		abort();
	for (uint16_t i = 0; i < results.count; i++) {
		struct transport_outcome *o = &job->message.outcomes[i];
		const struct queue_recipient *r = &job->item.recipients[i];

		if (!o->decided)
			decide_rest(job, o);
		trace_outcome(job, r, o);
		results.v[i] = (struct queue_result){.sequence = r->sequence, .state = o->state, .status = slice_str(o->status),
		    .mta = slice_str(o->mta), .text = slice_str(o->text)};
		results.v[i].flags = (uint8_t)((o->unsure ? QUEUE_UNSURE : 0) | (o->dsn_passed ? QUEUE_DSN_PASSED : 0));
	}
	if (!queue_results_encode(&results, &job->results))
		log_event(LOG_BUG, slice_str(job->session), "transport-results", LOG_CSTR("id", job->queue_id), LOG_END);
	free(results.v);
}

static void
finish(struct transport_job *job, enum transport_reached outcome)
{
	assert(!job->ended && job->conn == NULL);
	job->ended = true;
	job->outcome = outcome;
	if (outcome != TRANSPORT_RETURNED)
		encode_results(job);
	(void)close(job->message.fd);
	job->message.fd = -1;
	transport_queue_result(job);
}

static bool
undecided(const struct transport_job *job)
{
	for (uint16_t i = 0; i < job->item.count; i++)
		if (!job->message.outcomes[i].decided)
			return true;
	return false;
}

/* Remembers what is said of the undecided: "later" outweighs "never". */
static void
remember(struct transport_job *job, const struct transport_failure *f, const char *mta)
{
	const struct log_field fields[] = {LOG_CSTR("mta", mta), LOG_CSTR("at", transport_stage_name(f->stage)),
	    LOG_CSTR("status", f->status), LOG_CSTR("text", f->text), LOG_END};

	transport_trace(job, "remote-failed", fields);
	if (job->failed && f->permanent && !job->failure.permanent)
		return;
	job->failed = true;
	job->failure = *f;
	snprintf(job->failure_mta, sizeof job->failure_mta, "%s", mta);
}

/* ---- server after server ---- */

/*
 * The sender has asked that no policy of the recipient's domain holds the message back, DANE or MTA-STS (RFC 8689 4.2.2): TLS is taken as
 * it comes. What is between us and a relay is no such policy.
 */
static bool
tls_is_optional(const struct transport_job *job)
{
	return job->relay[0] == '\0' && (job->item.flags & (QUEUE_TLS_OPTIONAL | QUEUE_REQUIRETLS)) == QUEUE_TLS_OPTIONAL;
}

/* The next address, or the next host. */
static void
step(struct transport_job *job, bool host)
{
	job->address++;
	if (host || job->address >= job->route->hosts[job->host]->address_count) {
		job->host++;
		job->address = 0;
	}
}

/* Whose messages a connection for job takes. One that need not prove anything takes no others. */
static struct slice
conn_key(const struct transport_job *job, char key[TRANSPORT_KEY_MAX])
{
	if (tls_is_optional(job))
		snprintf(key, TRANSPORT_KEY_MAX, "-%s", job->destination);
	else if (job->relay[0] == '\0')
		return slice_str(job->destination);
	else
		snprintf(key, TRANSPORT_KEY_MAX, "%c%s", TRANSPORT_KEY_RELAY, job->relay);
	return slice_str(key);
}

/* Who has a name and a password from us must prove who it is. */
static void
set_login(const struct transport_job *job, struct transport_target *target)
{
	if (job->relay[0] == '\0')
		return;
	target->tls_first = target->address->port == TLS_FIRST_PORT;
	if (!transport_credentials_find(transport_credentials(), slice_str(job->relay), &target->login))
		return;
	target->tls = TRANSPORT_TLS_MUST;
	target->name_proven = true;
}

/* A connection that waited takes the message of job. False: it cannot, and waits on. When it ends at once job has gone on by itself. */
static bool
reuse(struct transport_job *job)
{
	struct transport_failure why;
	bool begun = job->begun;

	job->reused = job->reached = job->begun = true;
	if (transport_conn_take(job->conn, &why))
		return true;
	job->conn = NULL;
	job->reused = false;
	job->begun = begun;
	return false;
}

static void
could_not_connect(struct transport_job *job, const struct transport_target *t, const struct transport_failure *why)
{
	char mta[TRANSPORT_MTA_MAX];

	transport_target_name(t, mta);
	remember(job, why, mta);
}

/* False: no connection is under way. */
static bool
connect_to(struct transport_job *job, enum transport_tls tls)
{
	const struct transport_host *h = job->route->hosts[job->host];
	struct transport_target target = {.host = h, .address = &h->addresses[job->address], .tls = tls};
	struct transport_failure why;
	char key[TRANSPORT_KEY_MAX];

	/* Where there are TLSA records they alone count (RFC 8461 2). */
	if (h->tlsa == TRANSPORT_TLSA_RECORDS || job->sts_enforced)
		target.tls = TRANSPORT_TLS_MUST;
	target.name_proven = job->sts_enforced;
	target.mx_proven = job->route->mx_secure || h->literal || job->sts_enforced;
	target.key = conn_key(job, key);
	/* The list of MX records is proved, else there would be no TLSA records. */
	target.destination = h->literal || job->route->relay ? SLICE("") : slice_str(job->destination);
	set_login(job, &target);
	job->conn = transport_conn_to_server(job, &target);
	if (job->conn != NULL && reuse(job))
		return true;
	job->conn = transport_conn_new(job, &target, &why);
	if (job->conn == NULL)
		could_not_connect(job, &target, &why);
	return job->conn != NULL;
}

/* The policy of the domain does not name this host. True: it is left out. */
static bool
forbidden(struct transport_job *job)
{
	const struct transport_host *h = job->route->hosts[job->host];
	struct transport_failure why;
	char mta[TRANSPORT_MTA_MAX];

	if (!job->sts_enforced || job->sts_allows[job->host])
		return false;
	snprintf(mta, sizeof mta, "%.*s", (int)h->name.n, (const char *)h->name.p);
	transport_failure_set(&why, TRANSPORT_AT_CONNECT, false, "4.7.5", "the MTA-STS policy of the domain does not name this server");
	remember(job, &why, mta);
	step(job, true);
	return true;
}

static void find_route(struct transport_job *job);

/* A relay is configured for what does not get through, it was not asked yet, and neither DANE nor a policy forbids another way. */
static bool
may_fall_back(const struct transport_job *job)
{
	if (config_string(role_config(), OPT_TRANSPORT_FALLBACK)[0] == '\0' || job->relay[0] != '\0' || job->sts_enforced)
		return false;
	for (unsigned i = 0; job->route != NULL && i < job->route->host_count; i++)
		if (job->route->hosts[i]->tlsa == TRANSPORT_TLSA_RECORDS)
			return false;
	return true;
}

/* The last word of a server, and about this host rather than the message or the recipient. */
static bool
refuses_host(const struct transport_outcome *o)
{
	return o->decided && o->state == QUEUE_FAILED && o->mta[0] != '\0' &&
	       dsn_words_reputation(slice_str(o->status), slice_str(o->text));
}

static unsigned
refused_count(const struct transport_job *job)
{
	unsigned n = 0;

	for (uint16_t i = 0; i < job->item.count; i++)
		n += refuses_host(&job->message.outcomes[i]);
	return n;
}

/* What is not decided has its outcome by what was said last. Then those are undecided whom a server has refused because of this host. */
static unsigned
reopen_refused(struct transport_job *job)
{
	unsigned n = 0;

	for (uint16_t i = 0; i < job->item.count; i++) {
		struct transport_outcome *o = &job->message.outcomes[i];

		if (!o->decided)
			decide_rest(job, o);
		if (!refuses_host(o))
			continue;
		o->decided = false;
		o->refused = true;
		n++;
	}
	return n;
}

/* why: the first that goes another way, or NULL: none was decided. */
static void
trace_fallback(const struct transport_job *job, unsigned count, const struct transport_outcome *why)
{
	const struct transport_failure *f = &job->failure;
	bool refused = why != NULL || (f->said && f->permanent && dsn_words_reputation(slice_str(f->status), slice_str(f->text)));
	const struct log_field fields[] = {LOG_CSTR("relay", job->relay),
	    LOG_CSTR("why", refused ? "reputation" : f->said ? "refused" : "unreachable"), LOG_NUM("recipients", count),
	    LOG_CSTR("mta", why != NULL ? why->mta : job->failure_mta), LOG_CSTR("text", why != NULL ? why->text : f->text), LOG_END};

	transport_trace(job, "fallback", fields);
}

/* The undecided go to the relay. refused: because a server refused this host; else because none was ready. */
static void
begin_fallback(struct transport_job *job, bool refused)
{
	const struct transport_outcome *why = NULL;
	unsigned count = 0;

	/* Longer ones are refused at start. */
	if (!slice_cstr(slice_str(config_string(role_config(), OPT_TRANSPORT_FALLBACK)), job->relay, sizeof job->relay))
		abort();
	for (uint16_t i = job->item.count; i-- > 0;)
		if (!job->message.outcomes[i].decided) {
			why = &job->message.outcomes[i];
			count++;
		}
	trace_fallback(job, count, refused ? why : NULL);
	/* All else has its outcome: from here on the relay's words count. */
	if (refused)
		job->failed = false;
	job->reused = false;
	job->host = job->address = job->tries = 0;
	find_route(job);
}

/* No server decided, or one refused this host, and nothing forbids another way. */
static bool
falls_back(struct transport_job *job)
{
	if (!may_fall_back(job) || (job->reached ? reopen_refused(job) == 0 : !undecided(job)))
		return false;
	begin_fallback(job, job->reached);
	return true;
}

/* It is nobody's fault but this machine's: tried again soon, and not held against the destination. */
static void
no_means(struct transport_job *job)
{
	static uint64_t told_ms;
	uint64_t now = clock_ms();

	if (told_ms == 0 || now - told_ms > NO_MEANS_TELL_MS) {
		log_event(LOG_WARN, NO_SESSION, "transport-no-socket", LOG_CSTR("text", job->failure.text), LOG_END);
		told_ms = now;
	}
	finish(job, TRANSPORT_RETURNED);
}

/* Tries on until a connection is under way, or ends. */
static void
next_server(struct transport_job *job)
{
	while (undecided(job) && job->host < job->route->host_count && job->tries < TRANSPORT_TRIES_MAX) {
		if (forbidden(job))
			continue;
		job->tries++;
		if (connect_to(job, TRANSPORT_TLS_MAY))
			return;
		if (job->failure.ours && !job->begun) {
			no_means(job);
			return;
		}
		step(job, false);
	}
	if (!falls_back(job))
		finish(job, job->reached ? TRANSPORT_REACHED : TRANSPORT_UNREACHABLE);
}

/* ---- the way ---- */

static void
trace_route(const struct transport_job *job, const struct transport_route *route)
{
	struct buf b;

	buf_init(&b, TRACE_BYTES_MAX / 2);
	for (unsigned i = 0; i < route->host_count; i++) {
		const struct transport_host *h = route->hosts[i];

		buf_putf(&b, "%s%u ", i > 0 ? ", " : "", h->preference);
		buf_put_slice(&b, h->name);
		for (unsigned k = 0; k < h->address_count; k++) {
			char ip[TRANSPORT_IP_TEXT_MAX];

			transport_address_text(&h->addresses[k], ip);
			buf_putf(&b, "%s%s", k > 0 ? " " : " [", ip);
		}
		buf_putf(&b, "]%s", h->tlsa == TRANSPORT_TLSA_RECORDS ? " tlsa" : "");
		if (!slice_eq(h->base, h->name) && h->tlsa == TRANSPORT_TLSA_RECORDS)
			buf_putf(&b, " of %.*s", SLICE_ARG(h->base));
	}
	const struct log_field fields[] = {LOG_CSTR("destination", job->destination), LOG_STR("hosts", buf_slice(&b)),
	    LOG_NUM("secure", route->mx_secure), LOG_CSTR("tls", tls_is_optional(job) ? "optional" : ""),
	    LOG_CSTR("status", route->ok ? "" : route->failure.status),
	    LOG_CSTR("text", route->ok ? "" : route->failure.text), LOG_END};

	transport_trace(job, "route", fields);
	buf_fini(&b);
}

/* The policy may be known to be unknown: then nothing is sent, since anybody could be in the way of the answer. */
static void
policy_unknown(struct transport_job *job, const char *why)
{
	job->failed = true;
	transport_failure_set(&job->failure, TRANSPORT_AT_CONNECT, false, "4.7.5", why);
	finish(job, TRANSPORT_UNREACHABLE);
}

static void
on_policy(void *arg, bool known, const struct sts_policy *policy, const char *why)
{
	struct transport_job *job = arg;
	unsigned allowed = 0;

	job->sts = NULL;
	for (unsigned i = 0; policy != NULL && i < job->route->host_count; i++)
		allowed += job->sts_allows[i] = sts_policy_allows(policy, job->route->hosts[i]->name);
	job->sts_enforced = policy != NULL && policy->mode == STS_ENFORCE;
	if (policy != NULL || !known) {
		const struct log_field fields[] = {LOG_CSTR("mode", policy ? sts_mode_name(policy->mode) : "unknown"), LOG_CSTR("how", why),
		    LOG_NUM("allowed", allowed), LOG_END};
		transport_trace(job, "sts-policy", fields);
	}
	if (known)
		next_server(job);
	else
		policy_unknown(job, "the MTA-STS policy of the domain cannot be looked up for the moment");
}

/*
 * Of a relay or an address literal there is none (RFC 8461 3.4: the relay's name would be the domain, and is not one of an MX), and to some
 * messages it is nothing.
 */
static void
ask_policy(struct transport_job *job)
{
	if (job->route->relay || job->route->hosts[0]->literal || tls_is_optional(job)) {
		next_server(job);
		return;
	}
	job->sts = transport_sts_ask(slice_str(job->destination), on_policy, job);
	if (job->sts == NULL)
		policy_unknown(job, "the MTA-STS policy of the domain cannot be looked up for the moment");
}

static void
on_route(void *arg, const struct transport_route *route)
{
	struct transport_job *job = arg;

	job->route = route;
	trace_route(job, route);
	if (route->ok) {
		ask_policy(job);
		return;
	}
	job->failed = true;
	job->failure = route->failure;
	/* For good: the next message of that destination is to find it out at once, not to wait. */
	finish(job, route->failure.permanent || job->reached ? TRANSPORT_REACHED : TRANSPORT_UNREACHABLE);
}

static void
find_route(struct transport_job *job)
{
	const struct transport_route_config config = {.own_name = slice_str(config_string(role_config(), OPT_HOSTNAME)),
	    .port = (uint16_t)config_number(role_config(), OPT_TRANSPORT_PORT),
	    .relay = slice_str(job->relay),
	    .no_dane = tls_is_optional(job),
	    .loopback = config_bool(role_config(), OPT_TRANSPORT_LOOPBACK)};

	transport_search_free(&job->search);
	job->route = NULL;
	job->search = transport_search_new(role_loop(), dns_client(), &config, slice_str(job->destination), on_route, job);
}

void
transport_job_start(struct transport_job *job)
{
	struct slice relay = transport_relay_for(slice_str(config_string(role_config(), OPT_TRANSPORT_ROUTES)),
	    slice_str(config_string(role_config(), OPT_TRANSPORT_RELAY)), slice_str(job->destination));
	char key[TRANSPORT_KEY_MAX];

	/* Longer ones are refused at start. */
	if (!slice_cstr(relay, job->relay, sizeof job->relay))
		job->relay[0] = '\0';
	job->conn = transport_conn_waiting(job, conn_key(job, key));
	if (job->conn != NULL && reuse(job))
		return;
	find_route(job);
}

void
transport_job_return(struct transport_job *job)
{
	if (job->ended || job->begun)
		return;
	if (job->conn != NULL)
		transport_conn_drop(job->conn);
	job->conn = NULL;
	transport_search_free(&job->search);
	transport_sts_cancel(&job->sts);
	job->route = NULL;
	finish(job, TRANSPORT_RETURNED);
}

/* ---- what the connection tells ---- */

void
transport_job_open(struct transport_job *job)
{
	struct transport_conn *c = job->conn;
	struct transport_failure why;

	job->reached = true;
	job->begun = true;
	if (transport_conn_take(c, &why))
		return;
	job->conn = NULL;
	remember(job, &why, transport_conn_mta(c));
	step(job, true);
	next_server(job);
}

void
transport_job_dot(struct transport_job *job)
{
	const struct log_field fields[] = {LOG_CSTR("mta", transport_conn_mta(job->conn)), LOG_END};

	job->dot = true;
	transport_queue_dot(job);
	/* When the queue ends together with this process, nobody else knows. */
	transport_trace(job, "end-sent", fields);
}

/* Some recipients have their outcome. */
static bool
any_decided(const struct transport_job *job)
{
	for (uint16_t i = 0; i < job->item.count; i++)
		if (job->message.outcomes[i].decided)
			return true;
	return false;
}

/* What came of a connection that waited does not count: it had gone before it took notice, or nobody knows whether there is another way. */
static void
begin_anew(struct transport_job *job)
{
	job->reused = job->reached = job->sts_enforced = false;
	job->begun = any_decided(job);
	job->host = job->address = 0;
	find_route(job);
}

/* Each recipient has its outcome: the end, but for those that may go another way. */
static void
conclude(struct transport_job *job)
{
	if (job->route == NULL && refused_count(job) > 0 && may_fall_back(job)) {
		(void)reopen_refused(job);
		begin_anew(job);
	} else if (!falls_back(job)) {
		finish(job, TRANSPORT_REACHED);
	}
}

void
transport_job_message(struct transport_job *job, const struct transport_failure *rest)
{
	struct transport_conn *c = job->conn;

	job->conn = NULL;
	if (rest == NULL || !undecided(job)) {
		conclude(job);
		return;
	}
	if (job->reused) {
		if (!rest->idle)
			remember(job, rest, transport_conn_mta(c));
		begin_anew(job);
		return;
	}
	remember(job, rest, transport_conn_mta(c));
	step(job, rest->permanent);
	next_server(job);
}

void
transport_job_over(struct transport_job *job, const struct transport_failure *why)
{
	struct transport_conn *c = job->conn;
	bool clear = why->tls && transport_conn_tls_was_choice(c);

	job->conn = NULL;
	if (clear) {
		const struct log_field fields[] = {LOG_CSTR("mta", transport_conn_mta(c)), LOG_CSTR("text", why->text), LOG_END};

		transport_trace(job, "remote-tls-failed", fields);
		if (connect_to(job, TRANSPORT_TLS_NONE))
			return;
	} else {
		remember(job, why, transport_conn_mta(c));
	}
	step(job, false);
	next_server(job);
}
