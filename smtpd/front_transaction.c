/*
 * MAIL and RCPT. Whether an address exists is the directory's word, asked at each RCPT, so that nothing
 * is accepted that would have to be bounced (RFC 5321 3.6.2, 4.2.1); deliver asks again.
 */
#include "smtpd/front.h"

#include "common/auth_proto.h"
#include "common/config.h"
#include "common/dns_name.h"
#include "smtpd/front_client.h"
#include "smtpd/front_policy.h"

#include <assert.h>

/* An unquoted local part is never longer than its line. */
#define SCRATCH_BYTES_MAX FRONT_AUTH_LINE_BYTES_MAX

/* The canonical address of a path, kept in the transaction. False at its cap. */
static bool
keep_path(struct front *f, const struct smtp_path *path, struct slice *kept_r)
{
	struct buf b;
	bool good;

	buf_init(&b, ENVELOPE_ADDRESS_BYTES_MAX);
	good = smtp_path_print(path, &b) && arena_copy(f->t.arena, buf_slice(&b), kept_r);
	buf_fini(&b);
	return good;
}

bool
smtpd_offers_dsn(void)
{
	return config_bool(role_config(), OPT_SMTP_DSN) &&
	    (smtpd_service.submission || config_bool(role_config(), OPT_TRANSPORT_ENABLED));
}

uint64_t
smtpd_release_max(void)
{
	return smtpd_service.submission ? config_number(role_config(), OPT_SUBMISSION_FUTURE_RELEASE) / 1000 : 0;
}

/* AUTH= is a parameter only where AUTH is offered (RFC 4954 5). */
static struct smtp_offered
offered_to(const struct front *f)
{
	return (struct smtp_offered){.size = f->esmtp,
	    .eightbit = f->esmtp,
	    .binary = f->esmtp,
	    .smtputf8 = f->esmtp,
	    .auth = f->esmtp && smtpd_service.submission,
	    .dsn = f->esmtp && smtpd_offers_dsn(),
	    .requiretls = f->esmtp && stream_is_tls(f->stream),
	    .future_release = f->esmtp && smtpd_release_max() > 0,
	    .priority = f->esmtp && smtpd_service.submission};
}

/* 421 ends the connection (RFC 5321 3.8), everything else is the command's answer. */
static void
refusal(struct front *f, const struct smtp_reply_words *w)
{
	if (w->code == 421)
		smtpd_close(f, w->enhanced, w->text);
	else
		smtpd_reply_words(f, w);
}

/* ---- MAIL ---- */

static void
mail_taken(struct front *f)
{
	char text[64];

	smtpd_set_state(f, FRONT_STATE_MAIL);
	(void)snprintf(text, sizeof text, "%d is the new priority assigned to the message", f->t.priority);
	if (f->t.lowered)
		smtpd_reply(f, 250, "2.3.6", text);
	else
		smtpd_reply(f, 250, "2.1.0", "Sender OK");
}

static void
mail_refused(struct front *f, const struct smtp_reply_words *w)
{
	smtpd_trace(f, "mail-refused", LOG_STR("from", f->t.mail_from), LOG_NUM("code", w->code),
	    LOG_CSTR("text", w->text), LOG_END);
	smtpd_transaction_reset(f);
	refusal(f, w);
}

/* The directory's word, or that there is none. */
static void
sender_told(struct front *f, enum policy_sender sender)
{
	const struct smtp_reply_words *w;

	f->t.mail.sender = sender;
	w = smtpd_judge(f, POLICY_MAIL, &f->t.mail);
	if (w)
		mail_refused(f, w);
	else
		mail_taken(f);
}

static void
sender_gone(void *obj, const struct err *e)
{
	struct front *f = obj;

	(void)e;
	smtpd_gone(f);
	sender_told(f, POLICY_SENDER_UNKNOWN);
	smtpd_step(f);
}

/* RFC 6409 6.1: an account uses its own addresses. The null path is nobody's and everybody's (3.2). */
static void
ask_sender(struct front *f)
{
	struct edge *dir = role_edge(ROLE_DIRECTORY, 0);
	uint64_t id = dir ? ipc_expect(dir, FRONT_ASK_MS, sender_gone, f) : 0;

	if (id != 0 && IPC_SEND(dir, DIR_SENDER, .id = id, .account = f->account, .address = f->t.mail_from)) {
		smtpd_wait_for(f, FRONT_WAIT_SENDER, dir, id);
		return;
	}
	if (id != 0)
		ipc_forget(dir, id);
	sender_told(f, POLICY_SENDER_UNKNOWN);
}

void
smtpd_on_sender(struct edge *e, struct msg_DIR_SENDER_REPLY *m)
{
	struct front *f = smtpd_answered(e, m->id, FRONT_WAIT_SENDER);

	if (f == NULL)
		return;
	sender_told(f, m->class != ERR_NONE ? POLICY_SENDER_UNKNOWN : m->allowed ? POLICY_SENDER_OWN : POLICY_SENDER_FOREIGN);
	smtpd_step(f);
}

/* The domain has an A-label form, as all that look it up will need (RFC 6531 3.2). */
static bool
domain_convertible(const struct smtp_path *path)
{
	struct buf b;
	bool good;

	if (path->null || path->literal || slice_is_ascii(path->domain))
		return true;
	buf_init(&b, SMTP_DOMAIN_BYTES_MAX);
	good = dns_name_to_ascii(path->domain, &b);
	buf_fini(&b);
	return good;
}

/* The time that MAIL asks for. NULL, or why it cannot be: it is over, or further ahead than EHLO has said (RFC 4865 4). */
static const struct smtp_reply_words *
take_release(struct front *f, const struct smtp_mail *mail)
{
	static const struct smtp_reply_words over = {501, "5.5.4", "The time to send the message at is over"};
	static const struct smtp_reply_words far = {501, "5.5.4", "The time to send the message at is further ahead than EHLO says"};
	int64_t now = (int64_t)(clock_wall_us() / 1000000);
	int64_t release = mail->hold_for > 0 ? now + (int64_t)mail->hold_for : mail->hold_until;

	f->t.release = (uint64_t)release;
	f->t.hold_for = mail->hold_for;
	if (release == 0)
		return NULL;
	if (release <= now)
		return &over;
	return (uint64_t)(release - now) > smtpd_release_max() ? &far : NULL;
}

/* No higher than is allowed (RFC 6710 4.1); any lower one is the sender's own matter. */
static void
take_priority(struct front *f, const struct smtp_mail *mail)
{
	int8_t most = (int8_t)config_number(role_config(), OPT_SUBMISSION_PRIORITY_MAX);

	f->t.lowered = mail->priority > most;
	f->t.priority = f->t.lowered ? most : mail->priority;
}

static void
start_transaction(struct front *f, const struct smtp_mail *mail)
{
	take_priority(f, mail);
	f->t.body = mail->body;
	f->t.smtputf8 = mail->smtputf8;
	f->t.size = mail->has_size ? mail->size : 0;
	f->t.requiretls = mail->requiretls;
	/* RFC 8689 5: what is told of it has no more than its header. */
	f->t.ret = mail->requiretls ? SMTP_RET_HDRS : mail->ret;
	smtpd_trace(f, "mail", LOG_STR("from", f->t.mail_from), LOG_STR("envid", f->t.envid), LOG_NUM("size", mail->size),
	    LOG_CSTR("body", smtp_body_name(f->t.body)),
	    LOG_NUM("smtputf8", f->t.smtputf8), LOG_NUM("requiretls", f->t.requiretls), LOG_NUM("release", f->t.release),
	    LOG_NUM("asked_priority", mail->priority), LOG_NUM("priority", f->t.priority), LOG_END);
	if (smtpd_service.submission && !mail->path.null)
		ask_sender(f);
	else
		mail_taken(f);
}

/* Whatever comes in time counts, also what is too big. */
static const struct smtp_reply_words *
judge_mail(struct front *f, const struct smtp_mail *mail)
{
	f->t.mail = (struct policy_input){.submission = smtpd_service.submission,
	    .unknown_spent = smtpd_rate_spent(f, FRONT_RATE_UNKNOWN),
	    .messages_spent = smtpd_rate_spent(f, FRONT_RATE_MESSAGES),
	    .size_over = mail->has_size && mail->size > config_number(role_config(), OPT_SMTP_MESSAGE_BYTES)};
	if (!f->t.mail.unknown_spent && !f->t.mail.messages_spent)
		smtpd_rate_add(f, FRONT_RATE_MESSAGES);
	return smtpd_judge(f, POLICY_MAIL, &f->t.mail);
}

void
smtpd_mail(struct front *f, struct slice args)
{
	static const struct smtp_reply_words no_memory = {452, "4.3.1", "No room for a transaction"};
	struct smtp_offered offered = offered_to(f);
	struct smtp_mail mail;
	enum smtp_syntax syntax;

	if (++f->transactions > FRONT_TRANSACTIONS_MAX) {
		smtpd_close(f, "4.7.0", "Too many messages in one connection");
		return;
	}
	syntax = smtp_mail_parse(args, &offered, f->t.arena, &mail);
	if (syntax == SMTP_SYNTAX_OK && !domain_convertible(&mail.path))
		syntax = SMTP_SYNTAX_BAD_SENDER;
	if (syntax != SMTP_SYNTAX_OK) {
		f->bad_commands++;
		mail_refused(f, smtp_syntax_reply(syntax));
		return;
	}
	/* Kept first: a refusal tells it. */
	bool kept = keep_path(f, &mail.path, &f->t.mail_from) && arena_copy(f->t.arena, mail.envid, &f->t.envid);
	const struct smtp_reply_words *w = kept ? take_release(f, &mail) : &no_memory;
	if (w == NULL)
		w = judge_mail(f, &mail);
	if (w)
		mail_refused(f, w);
	else
		start_transaction(f, &mail);
}

/* ---- RCPT ---- */

static void
rcpt_refused(struct front *f, const struct smtp_reply_words *w)
{
	if (w->code >= 500)
		f->refused_recipients++;
	smtpd_trace(f, "rcpt-refused", LOG_STR("to", f->t.asked), LOG_NUM("code", w->code),
	    LOG_CSTR("text", w->text), LOG_END);
	refusal(f, w);
}

/* Room for twice as many. */
static bool
more_recipients(struct front_transaction *t)
{
	size_t cap = t->recipient_cap ? t->recipient_cap * 2 : 16;
	struct slice *more = arena_array(t->arena, cap, sizeof(*more));
	struct envelope_dsn *dsn = arena_array(t->arena, cap, sizeof(*dsn));

	if (more == NULL || dsn == NULL)
		return false;
	if (t->recipient_count > 0) {
		memcpy(more, t->recipients, t->recipient_count * sizeof(*more));
		memcpy(dsn, t->dsn, t->recipient_count * sizeof(*dsn));
	}
	t->recipients = more;
	t->dsn = dsn;
	t->recipient_cap = cap;
	return true;
}

static void
rcpt_taken(struct front *f)
{
	static const struct smtp_reply_words full = {452, "4.5.3", "Too many recipients"};
	struct front_transaction *t = &f->t;

	if (t->recipient_count == t->recipient_cap && !more_recipients(t)) {
		rcpt_refused(f, &full);
		return;
	}
	t->recipients[t->recipient_count] = t->asked;
	t->dsn[t->recipient_count++] = t->asked_dsn;
	smtpd_set_state(f, FRONT_STATE_RCPT);
	smtpd_trace(f, "rcpt", LOG_STR("to", t->asked), LOG_NUM("notify", t->asked_dsn.notify),
	    LOG_STR("orcpt", t->asked_dsn.orcpt), LOG_END);
	smtpd_reply(f, 250, "2.1.5", "Recipient OK");
}

static void
usage_gone(void *obj, const struct err *e)
{
	struct front *f = obj;

	(void)e;
	smtpd_gone(f);
	rcpt_taken(f);
	smtpd_step(f);
}

/*
 * A full mailbox is told at RCPT already, as far as the store knows; of an alias, when all of its mailboxes are full. The keeper
 * decides when the message is there; so without the store's answer the recipient is taken.
 */
static void
ask_usage(struct front *f, struct slice accounts)
{
	struct edge *store = role_edge(ROLE_STORE, 0);
	uint64_t id = store ? ipc_expect(store, FRONT_ASK_MS, usage_gone, f) : 0;
	uint64_t size = f->t.size > 0 ? f->t.size : 1;

	if (id != 0 && IPC_SEND(store, STORE_USAGE, .id = id, .accounts = accounts, .bytes = size)) {
		smtpd_wait_for(f, FRONT_WAIT_USAGE, store, id);
		return;
	}
	if (id != 0)
		ipc_forget(store, id);
	rcpt_taken(f);
}

void
smtpd_on_usage(struct edge *e, struct msg_STORE_USAGE_REPLY *m)
{
	struct front *f = smtpd_answered(e, m->id, FRONT_WAIT_USAGE);
	const struct smtp_reply_words *w;

	if (f == NULL)
		return;
	f->t.rcpt.mailbox_full = m->full != 0;
	f->t.rcpt.quota_refuse = config_bool(role_config(), OPT_POLICY_QUOTA_REFUSE);
	w = smtpd_judge(f, POLICY_RCPT, &f->t.rcpt);
	if (w)
		rcpt_refused(f, w);
	else
		rcpt_taken(f);
	smtpd_step(f);
}

/* The directory's word, or DIR_TEMP. */
static void
recipient_told(struct front *f, unsigned status, struct slice accounts)
{
	const struct smtp_reply_words *w;

	f->t.rcpt.recipient = status;
	if (status == DIR_NOT_OURS)
		policy_input_outside(&f->t.rcpt, f->t.asked,
		    smtpd_service.submission && config_bool(role_config(), OPT_TRANSPORT_ENABLED),
		    config_bool(role_config(), OPT_SUBMISSION_LITERALS));
	w = smtpd_judge(f, POLICY_RCPT, &f->t.rcpt);
	if (status == DIR_UNKNOWN)
		smtpd_rate_add(f, FRONT_RATE_UNKNOWN);
	if (w)
		rcpt_refused(f, w);
	else if (accounts.n == 0) /* all of it goes elsewhere */
		rcpt_taken(f);
	else
		ask_usage(f, accounts);
}

static void
rcpt_gone(void *obj, const struct err *e)
{
	struct front *f = obj;

	(void)e;
	smtpd_gone(f);
	recipient_told(f, DIR_TEMP, slice_of(NULL, 0));
	smtpd_step(f);
}

void
smtpd_on_resolve(struct edge *e, struct msg_DIR_RESOLVE_REPLY *m)
{
	struct front *f = smtpd_answered(e, m->id, FRONT_WAIT_RESOLVE);

	if (f == NULL)
		return;
	/* 0 stands for not asked. */
	recipient_told(f, m->status != 0 ? m->status : DIR_TEMP, m->accounts);
	smtpd_step(f);
}

static void
ask_directory(struct front *f)
{
	struct edge *dir = role_edge(ROLE_DIRECTORY, 0);
	uint64_t id = dir ? ipc_expect(dir, FRONT_ASK_MS, rcpt_gone, f) : 0;

	if (id != 0 && IPC_SEND(dir, DIR_RESOLVE, .id = id, .address = f->t.asked, .sender = f->t.mail_from)) {
		smtpd_wait_for(f, FRONT_WAIT_RESOLVE, dir, id);
		return;
	}
	if (id != 0)
		ipc_forget(dir, id);
	recipient_told(f, DIR_TEMP, slice_of(NULL, 0));
}

/* Its address and what it wants to be told, in the transaction. False at a limit. */
static bool
keep_recipient(struct front *f, const struct smtp_rcpt *rcpt)
{
	struct front_transaction *t = &f->t;

	t->asked_dsn.notify = (uint8_t)rcpt->notify;
	t->orcpt_bytes += rcpt->orcpt.n;
	return t->orcpt_bytes <= FRONT_ORCPT_BYTES_MAX && keep_path(f, &rcpt->path, &t->asked) &&
	    arena_copy(t->arena, rcpt->orcpt, &t->asked_dsn.orcpt);
}

static const struct smtp_reply_words *
judge_rcpt(struct front *f, const struct smtp_rcpt *rcpt)
{
	f->t.rcpt = (struct policy_input){.submission = smtpd_service.submission,
	    .recipients_full = f->t.recipient_count >= config_number(role_config(), OPT_SMTP_RECIPIENTS) || !keep_recipient(f, rcpt),
	    .unknown_spent = smtpd_rate_spent(f, FRONT_RATE_UNKNOWN),
	    .recipients_spent = smtpd_rate_spent(f, FRONT_RATE_RECIPIENTS)};
	return smtpd_judge(f, POLICY_RCPT, &f->t.rcpt);
}

void
smtpd_rcpt(struct front *f, struct slice args)
{
	struct arena *scratch = arena_new(SCRATCH_BYTES_MAX);
	struct smtp_offered offered = offered_to(f);
	struct smtp_rcpt rcpt;
	enum smtp_syntax syntax = smtp_rcpt_parse(args, &offered, f->t.smtputf8, scratch, &rcpt);
	const struct smtp_reply_words *w;

	f->t.asked = slice_of(NULL, 0);
	if (syntax != SMTP_SYNTAX_OK) {
		f->bad_commands++;
		rcpt_refused(f, smtp_syntax_reply(syntax));
	} else if ((w = judge_rcpt(f, &rcpt)) != NULL) {
		rcpt_refused(f, w);
	} else {
		smtpd_rate_add(f, FRONT_RATE_RECIPIENTS);
		ask_directory(f);
	}
	arena_free(&scratch);
}
