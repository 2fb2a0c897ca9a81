/*
 * MAIL and RCPT. Whether an address exists is the directory's word, asked at each RCPT, so that nothing
 * is accepted that would have to be bounced (RFC 5321 3.6.2, 4.2.1); deliver asks again.
 */
#include "smtpd/front.h"

#include "common/auth_proto.h"
#include "common/config.h"
#include "common/dns_name.h"
#include "smtpd/front_client.h"

#include <assert.h>

/* An unquoted local part is never longer than its line. */
#define SCRATCH_BYTES_MAX FRONT_AUTH_LINE_BYTES_MAX

static const struct smtp_reply_words later = {451, "4.3.0", "Not possible for the moment, try again later"};

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

/* AUTH= is a parameter only where AUTH is offered (RFC 4954 5). */
static struct smtp_offered
offered_to(const struct front *f)
{
	return (struct smtp_offered){.size = f->esmtp,
	    .eightbit = f->esmtp,
	    .binary = f->esmtp,
	    .smtputf8 = f->esmtp,
	    .auth = f->esmtp && smtpd_service.submission,
	    .dsn = f->esmtp && config_bool(role_config(), OPT_SMTP_DSN),
	    .requiretls = f->esmtp && stream_is_tls(f->stream)};
}

/* 421 ends the connection, everything else is the command's answer. */
static void
refuse_rate(struct front *f, const struct smtp_reply_words *w, void (*refused)(struct front *, const struct smtp_reply_words *))
{
	if (w->code == 421)
		smtpd_close(f, w->enhanced, w->text);
	else
		refused(f, w);
}

/* ---- MAIL ---- */

static void
mail_taken(struct front *f)
{
	smtpd_set_state(f, FRONT_STATE_MAIL);
	smtpd_reply(f, 250, "2.1.0", "Sender OK");
}

static void
mail_refused(struct front *f, const struct smtp_reply_words *w)
{
	smtpd_trace(f, "mail-refused", LOG_STR("from", f->t.mail_from), LOG_NUM("code", w->code),
	    LOG_CSTR("text", w->text), LOG_END);
	smtpd_transaction_reset(f);
	smtpd_reply_words(f, w);
}

static void
sender_gone(void *obj, const struct err *e)
{
	struct front *f = obj;

	(void)e;
	smtpd_gone(f);
	mail_refused(f, &later);
	smtpd_step(f);
}

/* RFC 6409 6.1: an account uses its own addresses. The null path is nobody's and everybody's (3.2). */
static void
ask_sender(struct front *f)
{
	struct edge *dir = role_edge(ROLE_DIRECTORY, 0);
	uint64_t id = dir ? ipc_expect(dir, FRONT_ASK_MS, sender_gone, f) : 0;

	if (id == 0) {
		mail_refused(f, &later);
		return;
	}
	if (!IPC_SEND(dir, DIR_SENDER, .id = id, .account = f->account, .address = f->t.mail_from)) {
		ipc_forget(dir, id);
		mail_refused(f, &later);
		return;
	}
	smtpd_wait_for(f, FRONT_WAIT_SENDER, dir, id);
}

void
smtpd_on_sender(struct edge *e, struct msg_DIR_SENDER_REPLY *m)
{
	static const struct smtp_reply_words denied = {550, "5.7.1", "This sender address is not yours"};
	struct front *f = smtpd_answered(e, m->id, FRONT_WAIT_SENDER);

	if (f == NULL)
		return;
	if (m->class != ERR_NONE)
		mail_refused(f, &later);
	else if (!m->allowed)
		mail_refused(f, &denied);
	else
		mail_taken(f);
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

static void
start_transaction(struct front *f, const struct smtp_mail *mail)
{
	static const struct smtp_reply_words too_big = {552, "5.3.4", "Message too big"};
	static const struct smtp_reply_words no_memory = {452, "4.3.1", "No room for a transaction"};

	if (mail->has_size && mail->size > config_number(role_config(), OPT_SMTP_MESSAGE_BYTES)) {
		mail_refused(f, &too_big);
		return;
	}
	if (!keep_path(f, &mail->path, &f->t.mail_from) || !arena_copy(f->t.arena, mail->envid, &f->t.envid)) {
		mail_refused(f, &no_memory);
		return;
	}
	f->t.body = mail->body;
	f->t.smtputf8 = mail->smtputf8;
	f->t.size = mail->has_size ? mail->size : 0;
	f->t.requiretls = mail->requiretls;
	/* RFC 8689 5: what is told of it has no more than its header. */
	f->t.ret = mail->requiretls ? SMTP_RET_HDRS : mail->ret;
	smtpd_trace(f, "mail", LOG_STR("from", f->t.mail_from), LOG_STR("envid", f->t.envid), LOG_NUM("size", mail->size),
	    LOG_CSTR("body", smtp_body_name(f->t.body)),
	    LOG_NUM("smtputf8", f->t.smtputf8), LOG_NUM("requiretls", f->t.requiretls), LOG_END);
	if (smtpd_service.submission && !mail->path.null)
		ask_sender(f);
	else
		mail_taken(f);
}

void
smtpd_mail(struct front *f, struct slice args)
{
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
	const struct smtp_reply_words *spent = smtpd_rate_refusal(f, FRONT_RATE_MESSAGES);
	if (spent) {
		refuse_rate(f, spent, mail_refused);
		return;
	}
	smtpd_rate_add(f, FRONT_RATE_MESSAGES);
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
	smtpd_reply_words(f, w);
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
rcpt_gone(void *obj, const struct err *e)
{
	struct front *f = obj;

	(void)e;
	smtpd_gone(f);
	rcpt_refused(f, &later);
	smtpd_step(f);
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
	static const struct smtp_reply_words later_room = {452, "4.2.2", "Mailbox full"};
	static const struct smtp_reply_words no_room = {552, "5.2.2", "Mailbox full"};
	struct front *f = smtpd_answered(e, m->id, FRONT_WAIT_USAGE);

	if (f == NULL)
		return;
	if (m->full)
		rcpt_refused(f, config_bool(role_config(), OPT_POLICY_QUOTA_REFUSE) ? &no_room : &later_room);
	else
		rcpt_taken(f);
	smtpd_step(f);
}

/* The directory's word as a reply; NULL: the address is good. */
static const struct smtp_reply_words *
resolve_words(unsigned status)
{
	static const struct smtp_reply_words unknown = {550, "5.1.1", "No such recipient here"};
	static const struct smtp_reply_words disabled = {550, "5.2.1", "This mailbox is disabled"};
	static const struct smtp_reply_words relay = {550, "5.7.1", "Relaying denied"};
	static const struct smtp_reply_words outside = {550, "5.7.1",
	    "Sending to other servers is not enabled in this version; only addresses of this server can be reached"};

	switch (status) {
	case DIR_LOCAL:
		return NULL;
	case DIR_UNKNOWN:
		return &unknown;
	case DIR_NOT_OURS:
		return smtpd_service.submission ? &outside : &relay;
	case DIR_DISABLED:
		return &disabled;
	default:
		return &later;
	}
}

void
smtpd_on_resolve(struct edge *e, struct msg_DIR_RESOLVE_REPLY *m)
{
	struct front *f = smtpd_answered(e, m->id, FRONT_WAIT_RESOLVE);
	const struct smtp_reply_words *w;

	if (f == NULL)
		return;
	w = resolve_words(m->status);
	if (m->status == DIR_UNKNOWN)
		smtpd_rate_add(f, FRONT_RATE_UNKNOWN);
	if (w)
		rcpt_refused(f, w);
	else
		ask_usage(f, m->accounts);
	smtpd_step(f);
}

static void
ask_directory(struct front *f)
{
	struct edge *dir = role_edge(ROLE_DIRECTORY, 0);
	uint64_t id = dir ? ipc_expect(dir, FRONT_ASK_MS, rcpt_gone, f) : 0;

	if (id != 0 && IPC_SEND(dir, DIR_RESOLVE, .id = id, .address = f->t.asked)) {
		smtpd_wait_for(f, FRONT_WAIT_RESOLVE, dir, id);
		return;
	}
	if (id != 0)
		ipc_forget(dir, id);
	rcpt_refused(f, &later);
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

void
smtpd_rcpt(struct front *f, struct slice args)
{
	static const struct smtp_reply_words too_many = {452, "4.5.3", "Too many recipients"};
	struct arena *scratch = arena_new(SCRATCH_BYTES_MAX);
	struct smtp_offered offered = offered_to(f);
	struct smtp_rcpt rcpt;
	enum smtp_syntax syntax = smtp_rcpt_parse(args, &offered, f->t.smtputf8, scratch, &rcpt);
	const struct smtp_reply_words *spent = smtpd_rate_refusal(f, FRONT_RATE_RECIPIENTS);

	f->t.asked = slice_of(NULL, 0);
	if (syntax != SMTP_SYNTAX_OK) {
		f->bad_commands++;
		rcpt_refused(f, smtp_syntax_reply(syntax));
	} else if (f->t.recipient_count >= config_number(role_config(), OPT_SMTP_RECIPIENTS) ||
	    !keep_recipient(f, &rcpt)) {
		/* 452, never 552: the client sends the rest in another transaction (RFC 5321 4.5.3.1.10). */
		rcpt_refused(f, &too_many);
	} else if (spent) {
		refuse_rate(f, spent, rcpt_refused);
	} else {
		smtpd_rate_add(f, FRONT_RATE_RECIPIENTS);
		ask_directory(f);
	}
	arena_free(&scratch);
}
