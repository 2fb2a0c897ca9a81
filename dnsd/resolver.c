/*
 * libunbound opens its files (trust anchor, entropy, root hints are built in) at its first question, so one question that it can
 * answer itself is asked before the sandbox closes. A cached answer comes from inside ub_resolve_event(): `asking` tells the two apart.
 *
 * With dns.server set, that server decides about every name: the zones that libunbound answers itself by default and that a test
 * or a private network may really have (test., invalid., the private reverse zones) are handed to it as well. Validation is
 * then on only when a trust anchor was named on purpose, as a private root is rarely signed with the public keys.
 */
#include "dnsd/resolver.h"

#include "common/log.h"
#include "common/loop.h"
#include "common/mem.h"

#include <assert.h>
#include <unbound-event.h>
#include <unbound.h>
#include <unistd.h>

#define RCODE_NOERROR 0
#define RCODE_NXDOMAIN 3
#define RESULT_BOGUS 1
#define RESULT_SECURE 2
#define CLASS_IN 1

struct resolver {
	struct loop *loop;
	struct ub_ctx *ub;
};

struct resolver_query {
	struct resolver *resolver;
	struct loop_timer *timer;
	resolver_done_fn *done;
	void *arg;
	int ub_id;
	bool asking;   /* inside ub_resolve_event() */
	bool answered; /* from inside it */
};

static int
refused(struct err *e, const char *what, int code)
{
	return err_set(e, ERR_TEMP, ERR_CODE_UNAVAILABLE, "temporary failure", "%s: %s", what, ub_strerror(code));
}

static int
set_options(struct ub_ctx *ub, struct err *e)
{
	static const char *const options[][2] = {
	    {"do-not-query-localhost:", "no"},
	    {"msg-cache-size:", "4m"},
	    {"rrset-cache-size:", "8m"},
	    {"key-cache-size:", "1m"},
	    {"neg-cache-size:", "1m"},
	    {"cache-max-ttl:", "86400"},
	    {"cache-max-negative-ttl:", "900"},
	    {"edns-buffer-size:", "1232"},
	    {"outgoing-range:", "1024"},
	    {"num-queries-per-thread:", "1024"},
	    {"outgoing-num-tcp:", "64"},
	    {"infra-cache-numhosts:", "10000"},
	    {"harden-glue:", "yes"},
	    {"harden-dnssec-stripped:", "yes"},
	    {"harden-below-nxdomain:", "yes"},
	    {"aggressive-nsec:", "yes"},
	    {"qname-minimisation:", "yes"},
	    {"use-syslog:", "no"},
	    {"do-daemonize:", "no"},
	};

	for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
		int code = ub_ctx_set_option(ub, options[i][0], options[i][1]);

		if (code != 0)
			return refused(e, options[i][0], code);
	}
	return 0;
}

/* Before everything else: the settings of this program win. */
static int
set_own(struct ub_ctx *ub, const char *path, struct err *e)
{
	int code = *path != '\0' ? ub_ctx_config(ub, path) : 0;

	return code == 0 ? 0 : refused(e, path, code);
}

/* Everything is that server's to answer. */
static int
set_server(struct ub_ctx *ub, const char *server, struct err *e)
{
	int code = ub_ctx_set_fwd(ub, server);

	if (code == 0)
		code = ub_ctx_set_option(ub, "unblock-lan-zones:", "yes");
	if (code == 0)
		code = ub_ctx_zone_add(ub, "test.", "nodefault");
	if (code == 0)
		code = ub_ctx_zone_add(ub, "invalid.", "nodefault");
	return code == 0 ? 0 : refused(e, "dns.server", code);
}

static int
set_anchor(struct ub_ctx *ub, const struct config *c, bool forwarding, struct err *e)
{
	const char *anchor = config_string(c, OPT_DNS_TRUST_ANCHOR);
	bool named = strcmp(anchor, option_info(OPT_DNS_TRUST_ANCHOR)->def) != 0;
	bool wanted = *anchor != '\0' && (named || !forwarding);
	int code;

	if (wanted && access(anchor, R_OK) != 0) {
		log_event(LOG_WARN, NO_SESSION, "dnssec-off", LOG_CSTR("why", "cannot read dns.trust_anchor"),
		    LOG_CSTR("file", anchor), LOG_END);
		wanted = false;
	}
	code = wanted ? ub_ctx_add_ta_file(ub, anchor) : ub_ctx_set_option(ub, "module-config:", "iterator");
	return code == 0 ? 0 : refused(e, "dns.trust_anchor", code);
}

static void
on_primed(void *arg, const struct resolver_answer *answer)
{
	*(bool *)arg = answer->status == DNS_OK;
}

struct resolver *
resolver_new(struct loop *l, const struct config *c, struct err *e)
{
	struct resolver *r = MEM_NEW(struct resolver);
	const char *server = config_string(c, OPT_DNS_SERVER);
	bool primed = false;

	r->loop = l;
	r->ub = ub_ctx_create_event(loop_event_base(l));
	if (r->ub == NULL) {
		err_set(e, ERR_TEMP, ERR_CODE_UNAVAILABLE, "temporary failure", "libunbound does not start");
		resolver_free(&r);
		return NULL;
	}
	/* ub_ctx_zone_add() ends the time of settings: the server comes last. */
	if (set_own(r->ub, config_string(c, OPT_DNS_SETTINGS), e) < 0 || set_options(r->ub, e) < 0 ||
	    set_anchor(r->ub, c, *server != '\0', e) < 0 || (*server && set_server(r->ub, server, e) < 0)) {
		resolver_free(&r);
		return NULL;
	}
	/* libunbound has the name localhost built in. */
	struct resolver_query *q = resolver_ask(r, "localhost", DNS_A, 1000, on_primed, &primed);

	if (q != NULL || !primed) {
		err_set(e, ERR_TEMP, ERR_CODE_UNAVAILABLE, "temporary failure", "libunbound does not answer");
		resolver_cancel(&q);
		resolver_free(&r);
	}
	return r;
}

void
resolver_free(struct resolver **r)
{
	if (*r == NULL)
		return;
	if ((*r)->ub)
		ub_ctx_delete((*r)->ub);
	MEM_FREE(r);
}

static void
query_free(struct resolver_query **q)
{
	loop_timer_free(&(*q)->timer);
	MEM_FREE(q);
}

static void
query_end(struct resolver_query *q, const struct resolver_answer *answer)
{
	q->done(q->arg, answer);
	q->answered = true;
	if (!q->asking)
		query_free(&q);
}

/* libunbound's answer; packet may be NULL when there is none. */
static void
on_answer(void *arg, int rcode, void *packet, int octets, int security, char *why_bogus, int rate_limited)
{
	struct resolver_answer answer = {.status = DNS_TEMP, .secure = security == RESULT_SECURE};

	(void)rate_limited;
	if (security == RESULT_BOGUS) {
		answer.status = DNS_BOGUS;
		answer.why_bogus = slice_str(why_bogus);
	} else if ((rcode == RCODE_NOERROR || rcode == RCODE_NXDOMAIN) && packet != NULL && octets > 0) {
		answer.status = DNS_OK;
		answer.packet = slice_of(packet, (size_t)octets);
	}
	query_end(arg, &answer);
}

static void
on_timeout(void *arg)
{
	struct resolver_query *q = arg;
	struct resolver_answer answer = {.status = DNS_TEMP};

	ub_cancel(q->resolver->ub, q->ub_id);
	query_end(q, &answer);
}

struct resolver_query *
resolver_ask(struct resolver *r, const char *name, uint16_t type, uint32_t timeout_ms, resolver_done_fn *done, void *arg)
{
	struct resolver_query *q = MEM_NEW(struct resolver_query);
	int code;

	q->resolver = r;
	q->done = done;
	q->arg = arg;
	q->timer = loop_timer_new(r->loop, on_timeout, q);
	q->asking = true;
	code = ub_resolve_event(r->ub, name, type, CLASS_IN, q, on_answer, &q->ub_id);
	if (code != 0 && !q->answered) {
		done(arg, &(struct resolver_answer){.status = DNS_TEMP});
		q->answered = true;
	}
	q->asking = false;
	if (q->answered) {
		query_free(&q);
		return NULL;
	}
	loop_timer_set(q->timer, timeout_ms);
	return q;
}

void
resolver_cancel(struct resolver_query **q)
{
	if (*q == NULL)
		return;
	assert(!(*q)->asking);
	ub_cancel((*q)->resolver->ub, (*q)->ub_id);
	query_free(q);
}
