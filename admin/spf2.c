/*
 * The library says INVALID for what it could not read or ask; its error number tells a failing DNS from a wrong record.
 */
#include "admin/spf2.h"

#include "common/mem.h"

#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <netdb.h>
#include <spf2/spf.h>
#include <stdio.h>

struct reading {
	SPF_dns_server_t dns;
	spf2_lookup_fn *lookup;
	void *arg;
	unsigned questions;
};

/* One record into rr; false when it is none that libspf2 may see. */
static bool
put_record(SPF_dns_rr_t *rr, const struct dns_record *r, uint16_t type)
{
	struct slice text = type == DNS_MX || type == DNS_PTR ? r->name : r->data;
	bool address = type == DNS_A || type == DNS_AAAA;
	size_t max = type == DNS_TXT ? SPF2_TEXT_BYTES_MAX : SPF2_NAME_BYTES_MAX;

	if (address ? r->data.n != (type == DNS_A ? 4 : 16) : text.n > max || slice_index(text, 0) < text.n)
		return false;
	if (SPF_dns_rr_buf_realloc(rr, rr->num_rr, text.n + 16) != SPF_E_SUCCESS)
		return false;
	void *to = rr->rr[rr->num_rr++];

	if (text.n > 0)
		memcpy(to, text.p, text.n);
	if (!address)
		((char *)to)[text.n] = '\0';
	return true;
}

static int
herrno_of(const struct dns_answer *a)
{
	switch (a->status) {
	case DNS_OK:
		return NETDB_SUCCESS;
	case DNS_NODATA:
		return NO_DATA;
	case DNS_NXDOMAIN:
		return HOST_NOT_FOUND;
	case DNS_TEMP:
	case DNS_BOGUS:
		break;
	}
	return TRY_AGAIN;
}

static SPF_dns_rr_t *
on_lookup(SPF_dns_server_t *dns, const char *name, ns_type type, int cache)
{
	struct reading *r = dns->hook;
	struct dns_answer a = {.status = DNS_NXDOMAIN};
	size_t n = strlen(name);
	SPF_dns_rr_t *rr;

	(void)cache;
	if (++r->questions > SPF2_QUESTIONS_MAX)
		a.status = DNS_TEMP;
	else if (n > 0 && n <= SPF2_NAME_BYTES_MAX)
		r->lookup(r->arg, name, (uint16_t)type, &a);
	rr = SPF_dns_rr_new_init(dns, name, type, 0, herrno_of(&a));
	for (unsigned i = 0; rr != NULL && a.status == DNS_OK && i < a.count; i++)
		(void)put_record(rr, &a.records[i], (uint16_t)type);
	if (rr != NULL && a.status == DNS_OK && rr->num_rr == 0)
		rr->herrno = NO_DATA;
	return rr;
}

/* Instead of what the sender's DNS has: that would go through the faulty macro compiler. */
static SPF_errcode_t
on_explanation(SPF_server_t *server, const char *name, char **buf, size_t *size)
{
	static const char text[] = "not shown";

	(void)server;
	(void)name;
	if (*size < sizeof text) {
		*buf = mem_resize(*buf, sizeof text, 1);
		*size = sizeof text;
	}
	memcpy(*buf, text, sizeof text);
	return SPF_E_SUCCESS;
}

static const char *
result_of(SPF_response_t *response, SPF_errcode_t code)
{
	static const char *const names[] = {[SPF_RESULT_NEUTRAL] = "neutral", [SPF_RESULT_PASS] = "pass", [SPF_RESULT_FAIL] = "fail",
	    [SPF_RESULT_SOFTFAIL] = "softfail", [SPF_RESULT_NONE] = "none", [SPF_RESULT_TEMPERROR] = "temperror",
	    [SPF_RESULT_PERMERROR] = "permerror"};
	SPF_result_t result = response != NULL ? SPF_response_result(response) : SPF_RESULT_INVALID;

	if (result != SPF_RESULT_INVALID && (unsigned)result < sizeof names / sizeof names[0] && names[result] != NULL)
		return names[result];
	return code == SPF_E_DNS_ERROR ? "temperror" : "permerror";
}

static void
put_reason(SPF_response_t *response, SPF_errcode_t code, struct spf2_outcome *o)
{
	const char *text = code != SPF_E_SUCCESS ? SPF_strerror(code) : "";

	if (response != NULL && SPF_response_messages(response) > 0)
		text = SPF_error_message(SPF_response_message(response, 0));
	(void)snprintf(o->reason, sizeof o->reason, "%s", text != NULL ? text : "");
}

static bool
set_query(SPF_request_t *request, const struct spf2_query *q)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	struct in6_addr ip6;
	struct in_addr ip4;

	memcpy(&ip6, q->ip, sizeof ip6);
	memcpy(&ip4, q->ip + sizeof mapped, sizeof ip4);
	if (memcmp(q->ip, mapped, sizeof mapped) == 0 ? SPF_request_set_ipv4(request, ip4) != SPF_E_SUCCESS
						       : SPF_request_set_ipv6(request, ip6) != SPF_E_SUCCESS)
		return false;
	if (SPF_request_set_helo_dom(request, q->helo) != SPF_E_SUCCESS)
		return false;
	/* Without a reverse-path it takes the HELO name by itself. */
	return q->sender[0] == '\0' || SPF_request_set_env_from(request, q->sender) == 0;
}

void
spf2_check(const struct spf2_query *q, spf2_lookup_fn *lookup, void *arg, struct spf2_outcome *outcome_r)
{
	struct reading r = {.lookup = lookup, .arg = arg};
	SPF_response_t *response = NULL;
	SPF_errcode_t code = SPF_E_NO_MEMORY;

	*outcome_r = (struct spf2_outcome){.result = "temperror"};
	r.dns = (SPF_dns_server_t){.lookup = on_lookup, .get_exp = on_explanation, .name = "mailstead", .hook = &r};
	SPF_server_t *server = SPF_server_new_dns(&r.dns, 0);
	SPF_request_t *request = server != NULL ? SPF_request_new(server) : NULL;

	if (request != NULL && SPF_server_set_rec_dom(server, "receiver.invalid") == SPF_E_SUCCESS && set_query(request, q))
		code = SPF_request_query_mailfrom(request, &response);
	outcome_r->result = result_of(response, code);
	outcome_r->questions = r.questions;
	put_reason(response, code, outcome_r);
	if (response != NULL)
		SPF_response_free(response);
	if (request != NULL)
		SPF_request_free(request);
	if (server != NULL)
		SPF_server_free(server);
}
