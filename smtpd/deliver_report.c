#include "smtpd/deliver_report.h"

#include "smtpd/deliver_notice.h"

#include "common/config.h"
#include "common/memfd.h"
#include "smtpd/dsn_item.h"
#include "smtpd/deliver_sign.h"
#include "store/store.h"

#include <assert.h>
#include <openssl/sha.h>
#include <unistd.h>

#define TRACED_MAX 100 /* recipients of a report, in the time line */

static const char return_path[] = "Return-Path: <>\r\n"; /* a delivery writes it (RFC 5321 4.4); it does not leave */

/* ---- what it is about ---- */

/* As much of the message as a report may have of it, without what stands before it for mailboxes alone. */
static bool
read_original(struct job *j, const struct msg_QUEUE_ITEM *m, uint32_t skip)
{
	struct dsn_report *r = &j->report->dsn;
	uint64_t bytes = m->bytes > skip ? m->bytes - skip : 0;
	size_t want = r->ret == SMTP_RET_FULL && bytes <= DSN_FULL_BYTES_MAX ? DSN_FULL_BYTES_MAX : DSN_HEADER_BYTES_MAX;
	struct err e;
	uint8_t *p;
	int64_t n;

	if (bytes < want)
		want = (size_t)bytes;
	p = arena_alloc(j->arena, want + 1);
	n = p ? memfd_read(m->message, skip, p, want, &e) : -1;
	if (n < 0 || (size_t)n != want)
		return false;
	r->original = slice_of(p, want);
	r->original_whole = want == bytes;
	return true;
}

/* The report's own envelope: to the sender, from nobody. */
static bool
address_report(struct job *j)
{
	struct dsn_report *r = &j->report->dsn;
	struct slice *to = ARENA_NEW(j->arena, struct slice);
	struct envelope_dsn *dsn = ARENA_NEW(j->arena, struct envelope_dsn);

	if (to == NULL || dsn == NULL || r->mail_from.n == 0)
		return false;
	*to = r->mail_from;
	dsn->notify = SMTP_NOTIFY_NEVER;
	j->envelope = (struct envelope){
	    .received_us = smtp_queue_id_ms(slice_str(j->queue_id)) * 1000,
	    .requiretls = r->requiretls,
	    .recipients = to,
	    .dsn = dsn,
	    .recipient_count = 1,
	};
	return true;
}

static struct slice
domain_of(struct slice address)
{
	return slice_sub(address, slice_rindex(address, '@') + 1, address.n);
}

/* Neither an address elsewhere nor what a sender has put into ORCPT is ours; the reverse-path of what is sent on is. */
static struct slice
own_domain(const struct queue_item *item)
{
	for (uint16_t i = 0; i < item->count; i++) {
		const struct queue_recipient *r = &item->recipients[i];
		if (!(r->flags & QUEUE_IN_REPORT))
			continue;
		if (r->account != 0)
			return domain_of(r->address);
		return domain_of(r->flags & QUEUE_FORWARDED ? item->forward_from : slice_of(NULL, 0));
	}
	return slice_of(NULL, 0);
}

static bool
take(struct job *j, const struct msg_QUEUE_ITEM *m)
{
	struct report *r = ARENA_NEW(j->arena, struct report);
	struct queue_item item;
	struct slice kept;

	if (r == NULL || m->message < 0 || !slice_cstr(m->report_id, j->queue_id, sizeof(j->queue_id)) ||
	    !smtp_queue_id_valid(slice_str(j->queue_id)) || !slice_cstr(m->queue_id, r->of, sizeof(r->of)) ||
	    !arena_copy(j->arena, m->item, &kept) || !queue_item_decode(kept, j->arena, &item) ||
	    !slice_cstr(item.session, j->session, sizeof(j->session)) || !dsn_report_begin(&item, j->arena, &r->dsn))
		return false;
	r->domain = own_domain(&item);
	r->utf8_way = (item.flags & QUEUE_SMTPUTF8) != 0;
	j->report = r;
	if (!read_original(j, m, item.skip) || !address_report(j))
		return false;
	j->envelope.priority = item.priority; /* RFC 6710 4.6 */
	return true;
}

/* For explain: of whom it tells what. */
static void
trace_begin(struct job *j)
{
	const struct dsn_report *r = &j->report->dsn;

	deliver_trace(j, "report", LOG_CSTR("of", j->report->of), LOG_STR("to", r->mail_from), LOG_NUM("recipients", r->count), LOG_END);
	for (uint32_t i = 0; i < r->count && i < TRACED_MAX; i++)
		deliver_trace(j, "report-recipient", LOG_STR("about", r->recipients[i].address),
		    LOG_CSTR("action", dsn_action_name(r->recipients[i].action)), LOG_STR("status", r->recipients[i].status), LOG_END);
}

bool
deliver_report_begin(struct job *j, struct msg_QUEUE_ITEM *m)
{
	j->from_queue = true;
	if (!take(j, m)) {
		j->report = NULL;
		return false;
	}
	trace_begin(j);
	deliver_resolve(j);
	return true;
}

/* ---- writing ---- */

/*
 * Who is to be asked by the reader: the postmaster of his own domain, when that is here. A report that leaves is about an address of
 * ours, and its author is of that domain, which has keys to sign it: its policy may be to refuse what nobody has signed.
 */
static bool
name_postmaster(const struct job *j, struct buf *b)
{
	struct slice domain = j->outside ? j->report->domain : domain_of(j->report->dsn.mail_from);

	buf_put_str(b, "postmaster@");
	if (domain.n > 0 && slice_is_ascii(domain))
		return buf_put_slice(b, domain);
	return buf_put_str(b, config_string(role_config(), OPT_HOSTNAME));
}

static bool
write_notice(struct job *j, struct buf *b)
{
	buf_put_str(b, return_path);
	return deliver_notice_write(j, b);
}

static bool
write_report(struct job *j, struct buf *b)
{
	struct dsn_report *r = &j->report->dsn;
	struct arena *scratch = arena_new(DSN_ARENA_BYTES_MAX);
	struct buf postmaster;
	bool utf8, eightbit, good;

	buf_init(&postmaster, SMTP_MAILBOX_BYTES_MAX * 2);
	/* All of it follows from the item and the report's id, so that it is the same each time. */
	r->id = slice_str(j->queue_id);
	r->hostname = slice_str(config_string(role_config(), OPT_HOSTNAME));
	r->now = r->last_attempt = (int64_t)(smtp_queue_id_ms(r->id) / 1000);
	r->until = (r->release > r->arrived ? r->release : r->arrived) + (int64_t)(config_number(role_config(), OPT_QUEUE_LIFETIME) / 1000);
	r->eightbit = !j->outside && j->report->utf8_way;
	good = name_postmaster(j, &postmaster);
	r->postmaster = buf_slice(&postmaster);
	buf_put_str(b, return_path);
	good = good && dsn_write(r, scratch, b, &utf8, &eightbit);
	if (good) {
		j->envelope.smtputf8 = utf8;
		j->envelope.eightbit = eightbit;
	}
	r->postmaster = slice_of(NULL, 0);
	buf_fini(&postmaster);
	arena_free(&scratch);
	return good;
}

void
deliver_report_write(struct job *j)
{
	struct buf b;
	struct err e = {0};

	buf_init(&b, DSN_BYTES_MAX + sizeof(return_path));
	if (!(j->report->notice ? write_notice(j, &b) : write_report(j, &b))) {
		err_set(&e, ERR_PERM, ERR_CODE_NONE, "no report", "the report cannot be written");
	} else {
		j->message.fd = memfd_of(buf_slice(&b), &e);
		j->message.bytes = b.n;
		j->return_path_bytes = sizeof(return_path) - 1;
	}
	buf_fini(&b);
	if (j->message.fd >= 0)
		deliver_verify(j);
	else
		deliver_report_failed(j, e.class == ERR_PERM ? 554 : 451, e.detail);
}

/* ---- storing ---- */

static void
store(struct job *j)
{
	struct err e = {0};

	j->final = j->message;
	j->message.fd = -1;
	j->summary_fd = memfd_of(slice_of(j->summary, j->summary_bytes), &e);
	if (j->summary_fd < 0) {
		deliver_report_failed(j, 451, e.detail);
		return;
	}
	for (uint32_t i = 0; i < j->target_count; i++)
		j->targets[i].mailbox = STORE_TARGET_INBOX;
	deliver_append(j);
}

/* The signatures stand before all but the Return-Path. */
static bool
put_signatures(struct job *j, struct err *e)
{
	size_t rest = (size_t)(j->message.bytes - j->return_path_bytes);
	struct buf b;
	uint8_t *p;
	bool good;

	buf_init(&b, DSN_BYTES_MAX + sizeof(return_path) + DELIVER_SIGNATURES_BYTES_MAX);
	buf_put_str(&b, return_path);
	buf_put_slice(&b, j->signatures);
	p = buf_room(&b, rest);
	good = p != NULL && memfd_read(j->message.fd, j->return_path_bytes, p, rest, e) == (int64_t)rest;
	if (good)
		buf_added(&b, rest);
	(void)close(j->message.fd);
	j->message.fd = good ? memfd_of(buf_slice(&b), e) : -1;
	j->message.bytes = b.n;
	(void)SHA256(b.p, b.n, j->message.sha256);
	buf_fini(&b);
	return j->message.fd >= 0;
}

void
deliver_report_signed(struct job *j)
{
	struct err e = {0};

	if (j->signatures.n > 0 && !put_signatures(j, &e))
		deliver_report_failed(j, 451, e.detail);
	else
		store(j);
}

void
deliver_report_judged(struct job *j)
{
	if (j->outside)
		deliver_sign(j);
	else
		store(j);
}

static void
end(struct job *j, enum err_class class, const char *text)
{
	if (class == ERR_PERM)
		log_event(LOG_INFO, slice_str(j->session), "report-undeliverable", LOG_CSTR("id", j->queue_id),
		    LOG_CSTR("of", j->report->of), LOG_STR("to", j->report->dsn.mail_from), LOG_CSTR("why", text), LOG_END);
	deliver_trace(j, "report-end", LOG_CSTR("of", j->report->of), LOG_STR("to", j->report->dsn.mail_from),
	    LOG_CSTR("result", class == ERR_NONE ? "sent" : class == ERR_PERM ? "given up" : "again"), LOG_CSTR("text", text), LOG_END);
	j->report->class = class;
	if (j->report->notice)
		deliver_job_end(j);
	else
		deliver_queue_report(j);
}

void
deliver_report_decide(struct job *j)
{
	const struct target *failed = NULL;

	for (uint32_t i = 0; i < j->target_count; i++) {
		if (j->targets[i].state == QUEUE_PENDING) {
			deliver_queue_add(j);
			return;
		}
		if (j->targets[i].state == QUEUE_FAILED)
			failed = &j->targets[i];
	}
	end(j, failed ? ERR_PERM : ERR_NONE, failed ? failed->text : "");
}

void
deliver_report_done(struct job *j)
{
	end(j, ERR_NONE, "");
}

void
deliver_report_failed(struct job *j, unsigned code, const char *text)
{
	assert(j->report != NULL);
	end(j, code >= 500 ? ERR_PERM : ERR_TEMP, text);
}
