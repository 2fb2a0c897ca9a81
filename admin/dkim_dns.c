#include "admin/dkim_dns.h"

#include "admin/confined.h"
#include "common/cursor.h"
#include "common/dns.h"
#include "smtpd/dkim_key.h"

#include <assert.h>

#define ARENA_BYTES (1u << 20)

const char *
dkim_published_name(enum dkim_published p)
{
	static const char *const names[] = {"right", "missing", "wrong", "unknown"};

	assert((unsigned)p < sizeof names / sizeof names[0]);
	return names[p];
}

/* ---- in the child ---- */

struct reading {
	const struct dkim_question *question;
	struct slice packet;
};

/* NULL when both say the same; else why not. */
static const char *
compare(struct slice text, const struct dkim_question *q)
{
	struct slice algorithm = slice_str(dkim_algorithm_name(q->algorithm));
	struct dkim_key theirs, ours;
	enum dkim_result result;
	struct buf found, wanted;
	const char *why;

	buf_init(&found, DKIM_KEY_BYTES_MAX);
	buf_init(&wanted, DKIM_KEY_BYTES_MAX);
	why = dkim_key_read(text, algorithm, &theirs, &found, &result);
	if (why == NULL)
		why = dkim_key_read(q->record, algorithm, &ours, &wanted, &result);
	if (why == NULL && !slice_eq(buf_slice(&found), buf_slice(&wanted)))
		why = "it has another key";
	else if (why == NULL && theirs.testing)
		why = "it says that the key is only being tested (t=y)";
	buf_fini(&found);
	buf_fini(&wanted);
	return why;
}

static void
give(int fd, enum dkim_published p, const char *reason)
{
	struct buf b;

	buf_init(&b, CONFINED_PACKET_BYTES_MAX);
	put_u8(&b, (uint8_t)p);
	buf_put_str(&b, reason);
	confined_give(fd, buf_slice(&b));
	buf_fini(&b);
}

static void
work(int fd, void *arg)
{
	const struct reading *r = arg;
	struct arena *a = arena_new(ARENA_BYTES);
	struct dns_answer answer;
	const char *why = NULL;
	bool several = false;

	if (!dns_answer_parse(r->packet, r->question->name, DNS_TXT, a, &answer) || answer.status == DNS_TEMP) {
		give(fd, DKIM_PUBLISHED_UNKNOWN, "the answer of the DNS cannot be read");
	} else if (answer.status != DNS_OK) {
		give(fd, DKIM_PUBLISHED_MISSING, "there is no such record");
	} else {
		why = compare(dkim_key_pick(&answer, &several), r->question);
		if (several)
			why = "there are several records";
		give(fd, why == NULL ? DKIM_PUBLISHED_RIGHT : DKIM_PUBLISHED_WRONG, why == NULL ? "" : why);
	}
	arena_free(&a);
}

/* ---- in the command ---- */

static enum command_status
read_answer(const struct dkim_question *q, struct slice packet, enum dkim_published *published_r, char reason_r[DKIM_DNS_REASON_SIZE])
{
	struct reading r = {q, packet};
	struct confined c = {.fd = -1};
	struct slice told;
	enum command_status status = confined_begin(&c, work, &r);

	if (status == COMMAND_OK)
		status = confined_answer(&c, &told);
	if (status == COMMAND_OK) {
		uint8_t p = told.p[0];

		if (p > DKIM_PUBLISHED_UNKNOWN || !slice_cstr(slice_sub(told, 1, told.n), reason_r, DKIM_DNS_REASON_SIZE))
			status = confined_nonsense();
		else
			*published_r = (enum dkim_published)p;
	}
	confined_end(&c);
	return status;
}

enum command_status
dkim_dns_ask(struct command_link *resolver, const struct dkim_question *q, uint32_t timeout_ms, enum dkim_published *published_r,
    char reason_r[DKIM_DNS_REASON_SIZE])
{
	static struct msg reply;
	const struct msg_DNS_ANSWER *a = &reply.u.DNS_ANSWER;
	enum command_status status =
	    COMMAND_SEND(resolver, DNS_QUERY, .id = command_id(), .name = q->name, .type = DNS_TXT, .timeout_ms = timeout_ms);

	if (status == COMMAND_OK)
		status = command_receive(resolver, MSG_DNS_ANSWER, &reply);
	if (status != COMMAND_OK)
		return status;
	if (a->status == DNS_OK || a->status == DNS_NXDOMAIN || a->status == DNS_NODATA)
		return read_answer(q, a->packet, published_r, reason_r);
	*published_r = DKIM_PUBLISHED_UNKNOWN;
	(void)snprintf(reason_r, DKIM_DNS_REASON_SIZE, "%s",
	    a->status == DNS_BOGUS ? "DNSSEC validation fails" : "the DNS does not answer");
	return COMMAND_OK;
}
