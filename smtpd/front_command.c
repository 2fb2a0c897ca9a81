/*
 * The commands, one row each: in which states it may come, whether it takes an argument, what must hold
 * before it (check), and what it does (run). A command that may not come now is answered 503 whatever its
 * argument is (RFC 5321 4.1.4).
 */
#include "smtpd/front.h"
#include "smtpd/front_login.h"

#include "common/config.h"
#include "common/date.h"
#include "common/tls.h"
#include "smtpd/front_policy.h"

#include <stdio.h>

enum {
	NO_ARGS = 1,   /* 501 with one */
	NEED_ARGS = 2, /* 501 without */
	NO_LOGIN = 4,  /* needs none even on submission */
	COUNTED = 8,   /* octets follow, also when it is refused */
	TEXT = 16,     /* message text may follow of a client that does not wait for the answer */
	NO_LMTP = 32,  /* RFC 2033 4.1 */
	ONLY_LMTP = 64,
	LAST = 128, /* ends a group of commands (RFC 2920 3.1) */
};

#define IN(s) FRONT_STATE_BIT(FRONT_STATE_##s)
#define ANY_STATE (IN(HELO) | IN(READY) | IN(MAIL) | IN(RCPT) | IN(CHUNKED))

struct command {
	const char *verb;
	unsigned states;
	unsigned flags;
	/* A reason to refuse, or NULL. May be NULL itself. */
	const struct smtp_reply_words *(*check)(const struct front *f);
	void (*run)(struct front *f, struct slice args);
};

/* ---- greeting ---- */

void
smtpd_greeting(struct front *f)
{
	char text[300];

	(void)snprintf(text, sizeof(text), "%s %s Mailstead", config_string(role_config(), OPT_HOSTNAME), f->port->lmtp ? "LMTP" : "ESMTP");
	smtpd_reply(f, 220, NULL, text);
}

void
smtpd_greet(struct front *f)
{
	const struct policy_input in = {.submission = smtpd_service.submission,
	    .early_talker = smtpd_outside(f) && stream_input(f->stream).n > 0};
	const struct smtp_reply_words *w = smtpd_judge(f, POLICY_CONNECT, &in);

	if (w != NULL) {
		smtpd_reply_words(f, w);
		smtpd_close(f, NULL, NULL);
		return;
	}
	smtpd_greeting(f);
	smtpd_set_state(f, FRONT_STATE_HELO);
}

/* RFC 5321 4.1.4: EHLO in the middle of a transaction clears it like RSET. */
static bool
take_helo(struct front *f, struct slice args)
{
	bool good = smtpd_outside(f) ? smtp_helo_valid(args) : smtp_helo_valid_lax(args);

	if (!good || !slice_cstr(args, f->helo, sizeof(f->helo))) {
		smtpd_reply(f, 501, "5.5.4", "A domain name or an address literal is needed");
		f->bad_commands++;
		return false;
	}
	smtpd_xclient_helo(f);
	if (f->state == FRONT_STATE_HELO)
		smtpd_set_state(f, FRONT_STATE_READY);
	else
		smtpd_transaction_reset(f);
	return true;
}

static void
run_helo(struct front *f, struct slice args)
{
	if (!take_helo(f, args))
		return;
	f->esmtp = false;
	smtpd_trace(f, "helo", LOG_CSTR("helo", f->helo), LOG_END);
	smtpd_reply(f, 250, NULL, config_string(role_config(), OPT_HOSTNAME));
}

/* How far ahead a message may be sent, and until when that is (RFC 4865 3). */
static void
put_future_release(struct buf *b)
{
	uint64_t seconds = smtpd_release_max();
	char date[DATE_RFC3339_SIZE];

	if (seconds == 0)
		return;
	date_rfc3339_print((int64_t)(clock_wall_us() / 1000000 + seconds), date);
	buf_putf(b, "250-FUTURERELEASE %llu %s\r\n", (unsigned long long)seconds, date);
}

/* And LHLO, which is the same (RFC 2033 4.1). */
static void
run_ehlo(struct front *f, struct slice args)
{
	struct buf b;

	if (!take_helo(f, args))
		return;
	f->esmtp = true;
	smtpd_trace(f, f->port->lmtp ? "lhlo" : "ehlo", LOG_CSTR("helo", f->helo), LOG_END);
	buf_init(&b, 1024);
	buf_putf(&b, "250-%s\r\n", config_string(role_config(), OPT_HOSTNAME));
	buf_put_str(&b, "250-PIPELINING\r\n250-8BITMIME\r\n250-CHUNKING\r\n250-BINARYMIME\r\n250-SMTPUTF8\r\n");
	/* RFC 3207 4.2: not offered once TLS is in use; RFC 8314 3.3: not offered when it would fail. */
	if (!stream_is_tls(f->stream) && !f->port->local && tls_server_ready(tls_server()))
		buf_put_str(&b, "250-STARTTLS\r\n");
	if (smtpd_service.submission && stream_is_tls(f->stream) && f->account == 0)
		buf_put_str(&b, "250-AUTH PLAIN LOGIN\r\n");
	if (f->port->local)
		buf_putf(&b, "250-XACCOUNT %s\r\n", f->login);
	if (f->may_xclient)
		buf_put_str(&b, "250-XCLIENT " XCLIENT_OFFER "\r\n");
	/* RFC 8689 2: only where it is kept. Mail goes no further than the mailboxes of this server. */
	if (stream_is_tls(f->stream))
		buf_put_str(&b, "250-REQUIRETLS\r\n");
	if (smtpd_offers_dsn())
		buf_put_str(&b, "250-DSN\r\n");
	put_future_release(&b);
	if (smtpd_service.submission)
		buf_put_str(&b, "250-MT-PRIORITY\r\n");
	buf_put_str(&b, "250-ENHANCEDSTATUSCODES\r\n");
	/* RFC 9422: how many transactions in a session, how many recipients in one. */
	buf_putf(&b, "250-LIMITS MAILMAX=%u RCPTMAX=%llu\r\n", FRONT_TRANSACTIONS_MAX,
	    (unsigned long long)config_number(role_config(), OPT_SMTP_RECIPIENTS));
	buf_putf(&b, "250 SIZE %llu\r\n",
	    (unsigned long long)config_number(role_config(), OPT_SMTP_MESSAGE_BYTES));
	stream_write(f->stream, buf_slice(&b));
	buf_fini(&b);
}

/* ---- STARTTLS (RFC 3207) ---- */

static const struct smtp_reply_words *
check_starttls(const struct front *f)
{
	static const struct smtp_reply_words already = {503, "5.5.1", "TLS is already in use"};
	static const struct smtp_reply_words unready = {454, "4.7.0", "TLS is not available for the moment"};
	static const struct smtp_reply_words needless = {502, "5.5.1", "Not needed within this machine"};

	if (stream_is_tls(f->stream))
		return &already;
	if (f->port->local)
		return &needless;
	return tls_server_ready(tls_server()) ? NULL : &unready;
}

static void
run_starttls(struct front *f, struct slice args)
{
	(void)args;
	smtpd_trace(f, "starttls", LOG_END);
	/* RFC 3207 4.2: what the client said before is forgotten; what it sent ahead is discarded by the stream. */
	if (!smtpd_xclient_forget(f))
		return;
	smtpd_reply(f, 220, "2.0.0", "Ready to start TLS");
	f->esmtp = false;
	f->helo[0] = '\0';
	smtpd_set_state(f, FRONT_STATE_HELO);
	stream_starttls(f->stream, tls_server());
}

/* ---- the small ones ---- */

static void
run_rset(struct front *f, struct slice args)
{
	(void)args;
	if (f->state != FRONT_STATE_HELO)
		smtpd_transaction_reset(f);
	smtpd_reply(f, 250, "2.0.0", "OK");
}

static void
run_noop(struct front *f, struct slice args)
{
	(void)args;
	smtpd_reply(f, 250, "2.0.0", "OK");
}

static void
run_bdat(struct front *f, struct slice args)
{
	smtpd_bdat(f, args, NULL);
}

static void
run_quit(struct front *f, struct slice args)
{
	(void)args;
	smtpd_reply(f, 221, "2.0.0", "Bye");
	smtpd_close(f, NULL, NULL);
}

static void
run_vrfy(struct front *f, struct slice args)
{
	(void)args;
	/* RFC 5321 3.5.3, 7.3: which addresses exist is told at RCPT and nowhere else. */
	smtpd_reply(f, 252, "2.0.0", "Cannot verify; send the message and see");
}

static void
run_help(struct front *f, struct slice args)
{
	(void)args;
	smtpd_reply(f, 214, "2.0.0", "See RFC 5321");
}

static void
run_not_here(struct front *f, struct slice args)
{
	(void)args;
	smtpd_reply(f, 502, "5.5.1", "Command not implemented");
	f->bad_commands++;
}

/* HTTP and the like spoken to us by a tricked browser: end it before anything of it can be a command. */
static void
run_foreign(struct front *f, struct slice args)
{
	(void)args;
	smtpd_trace(f, "foreign-protocol", LOG_END);
	smtpd_reply(f, smtpd_service.submission ? 500 : 521, "5.5.1", "This is not that kind of server");
	smtpd_close(f, NULL, NULL);
}

/* ---- submission ---- */

static const struct smtp_reply_words *
check_auth(const struct front *f)
{
	static const struct smtp_reply_words words[] = {
	    {502, "5.5.1", "Command not implemented"},
	    {538, "5.7.11", "Encryption is required: STARTTLS first"},
	    {503, "5.5.1", "Already logged in"},
	};

	if (!smtpd_service.submission)
		return &words[0];
	if (!stream_is_tls(f->stream))
		return &words[1];
	return f->account ? &words[2] : NULL;
}

static const struct command commands[] = {
    {"EHLO", ANY_STATE, NEED_ARGS | NO_LOGIN | NO_LMTP | LAST, NULL, run_ehlo},
    {"HELO", ANY_STATE, NEED_ARGS | NO_LOGIN | NO_LMTP | LAST, NULL, run_helo},
    {"LHLO", ANY_STATE, NEED_ARGS | ONLY_LMTP, NULL, run_ehlo},
    {"MAIL", IN(READY), NEED_ARGS, NULL, smtpd_mail},
    {"RCPT", IN(MAIL) | IN(RCPT), NEED_ARGS, NULL, smtpd_rcpt},
    {"DATA", IN(MAIL) | IN(RCPT), NO_ARGS | TEXT | LAST, NULL, smtpd_data},
    {"BDAT", IN(MAIL) | IN(RCPT) | IN(CHUNKED), COUNTED, NULL, run_bdat},
    {"RSET", ANY_STATE, NO_ARGS | NO_LOGIN, NULL, run_rset},
    {"NOOP", ANY_STATE, NO_LOGIN | LAST, NULL, run_noop},
    {"QUIT", ANY_STATE, NO_ARGS | NO_LOGIN, NULL, run_quit},
    {"STARTTLS", IN(READY), NO_ARGS | NO_LOGIN, check_starttls, run_starttls},
    {"AUTH", IN(READY), NEED_ARGS | NO_LOGIN, check_auth, smtpd_auth},
    {"XCLIENT", IN(HELO) | IN(READY), NEED_ARGS, smtpd_xclient_check, smtpd_xclient},
    {"VRFY", ANY_STATE, NEED_ARGS | LAST, NULL, run_vrfy},
    {"HELP", ANY_STATE, NO_LOGIN, NULL, run_help},
    {"EXPN", ANY_STATE, NO_LOGIN | LAST, NULL, run_not_here},
    {"ETRN", ANY_STATE, NO_LOGIN, NULL, run_not_here},
    {"ATRN", ANY_STATE, NO_LOGIN, NULL, run_not_here},
    {"TURN", ANY_STATE, NO_LOGIN | LAST, NULL, run_not_here},
    {"SEND", ANY_STATE, NO_LOGIN, NULL, run_not_here},
    {"SOML", ANY_STATE, NO_LOGIN, NULL, run_not_here},
    {"SAML", ANY_STATE, NO_LOGIN, NULL, run_not_here},
    {"GET", ANY_STATE, NO_LOGIN, NULL, run_foreign},
    {"POST", ANY_STATE, NO_LOGIN, NULL, run_foreign},
    {"PUT", ANY_STATE, NO_LOGIN, NULL, run_foreign},
    {"HEAD", ANY_STATE, NO_LOGIN, NULL, run_foreign},
    {"CONNECT", ANY_STATE, NO_LOGIN, NULL, run_foreign},
    {"OPTIONS", ANY_STATE, NO_LOGIN, NULL, run_foreign},
};

static const struct command *
find_command(struct slice verb, bool lmtp)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++)
		if (!(commands[i].flags & (lmtp ? NO_LMTP : ONLY_LMTP)) && slice_eq_nocase(verb, slice_str(commands[i].verb)))
			return &commands[i];
	return NULL;
}

/* Why the command may not run, or NULL. */
static const struct smtp_reply_words *
refusal(const struct front *f, const struct command *c, struct slice args)
{
	static const struct smtp_reply_words unknown = {500, "5.5.1", "Command not recognized"};
	static const struct smtp_reply_words greet = {503, "5.5.1", "EHLO or HELO first"};
	static const struct smtp_reply_words greet_lmtp = {503, "5.5.1", "LHLO first"};
	static const struct smtp_reply_words sequence = {503, "5.5.1", "Bad sequence of commands"};
	static const struct smtp_reply_words no_tls = {530, "5.7.0", "STARTTLS first"};
	static const struct smtp_reply_words login = {530, "5.7.0", "Authentication required"};

	if (c == NULL)
		return &unknown;
	if (!(c->states & FRONT_STATE_BIT(f->state))) {
		if (f->state != FRONT_STATE_HELO)
			return &sequence;
		return f->port->lmtp ? &greet_lmtp : &greet;
	}
	if (c->check) {
		const struct smtp_reply_words *w = c->check(f);
		if (w)
			return w;
	}
	if (smtpd_service.submission && f->account == 0 && !(c->flags & NO_LOGIN))
		return stream_is_tls(f->stream) ? &login : &no_tls;
	if (((c->flags & NO_ARGS) && args.n > 0) || ((c->flags & NEED_ARGS) && args.n == 0))
		return smtp_syntax_reply(SMTP_SYNTAX_BAD_ARGS);
	return NULL;
}

/*
 * Port 25: more has come although the client must wait for this command's reply. Whoever said HELO was offered no pipelining; what came
 * before any greeting is refused for that.
 */
static bool
is_early(const struct front *f, const struct command *c)
{
	if (!smtpd_outside(f) || stream_input(f->stream).n == 0 || (c != NULL && (c->flags & COUNTED)))
		return false;
	return (c != NULL && (c->flags & LAST)) || (f->state != FRONT_STATE_HELO && !f->esmtp);
}

/* True: it was refused for how it came, and the session ends. */
static bool
refused_early(struct front *f, const struct command *c)
{
	const struct policy_input in = {.early_commands = 1};

	if (!is_early(f, c))
		return false;
	smtpd_reply_words(f, smtpd_judge(f, POLICY_COMMAND, &in));
	smtpd_close(f, NULL, NULL);
	return true;
}

void
smtpd_command(struct front *f, struct slice line)
{
	struct slice verb;
	struct slice args;
	const struct command *c;
	const struct smtp_reply_words *w;

	f->commands++;
	if (f->state == FRONT_STATE_AUTH) {
		smtpd_auth_line(f, line);
		return;
	}
	if (!smtp_command_split(line, &verb, &args))
		verb = args = slice_of(NULL, 0);
	c = find_command(verb, f->port->lmtp);
	if (refused_early(f, c))
		return;
	w = refusal(f, c, args);
	if (w && c && (c->flags & COUNTED)) {
		smtpd_bdat(f, args, w);
	} else if (w && c && (c->flags & TEXT)) {
		f->bad_commands++;
		smtpd_refuse_data(f, w);
	} else if (w) {
		smtpd_reply_words(f, w);
		f->bad_commands++;
	} else {
		c->run(f, args);
	}
}
