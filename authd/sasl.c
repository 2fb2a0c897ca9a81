/*
 * A message that its grammar refuses is not told from a wrong password: RFC
 * 4616 2 wants both to fail the same way, and nobody learns which octet was it.
 */
#include "authd/sasl.h"

#include "common/mem.h"

#include <assert.h>
#include <utf8proc.h>

void
sasl_init(struct sasl *s)
{
	memset(s, 0, sizeof *s);
}

void
sasl_reset(struct sasl *s)
{
	mem_wipe(s, sizeof *s);
	s->state = SASL_IDLE;
}

/* Non-empty UTF-8 without NUL, CR and LF (RFC 4616 2: SAFE). */
static bool
text_is_safe(struct slice s)
{
	for (size_t at = 0; at < s.n;) {
		utf8proc_int32_t c;
		utf8proc_ssize_t n = utf8proc_iterate(s.p + at, (utf8proc_ssize_t)(s.n - at), &c);

		if (n <= 0 || c == 0 || c == '\r' || c == '\n')
			return false;
		at += (size_t)n;
	}
	return s.n > 0;
}

static bool
login_keep(struct sasl *s, struct slice login)
{
	if (login.n > sizeof s->login || !text_is_safe(login))
		return false;
	memcpy(s->login, login.p, login.n);
	s->login_bytes = login.n;
	return true;
}

/* A password over the maximum is kept as one that is too long: it costs its hash and fails. */
static bool
password_keep(struct sasl *s, struct slice password)
{
	if (!text_is_safe(password))
		return false;
	s->password_bytes = password.n < sizeof s->password ? password.n : sizeof s->password;
	memcpy(s->password, password.p, s->password_bytes);
	return true;
}

static enum sasl_outcome
challenge(struct sasl *s, enum sasl_state next, struct slice text)
{
	s->state = next;
	s->challenge = text;
	return SASL_CHALLENGE;
}

static enum sasl_outcome
end(struct sasl *s, bool usable)
{
	s->state = SASL_IDLE;
	return usable ? SASL_CREDENTIAL : SASL_REFUSED;
}

/*
 * message = [authzid] UTF8NUL authcid UTF8NUL passwd (RFC 4616 2). Nobody may act for somebody
 * else, so authzid is empty or the authcid again.
 */
static enum sasl_outcome
plain_message(struct sasl *s, struct slice message)
{
	size_t first = slice_index(message, '\0');
	struct slice rest = slice_sub(message, first + 1, message.n);
	size_t second = slice_index(rest, '\0');
	struct slice authzid = slice_sub(message, 0, first);
	struct slice authcid = slice_sub(rest, 0, second);
	struct slice password = slice_sub(rest, second + 1, rest.n);

	if (first == message.n || second == rest.n)
		return end(s, false);
	if (authzid.n > 0 && !slice_eq(authzid, authcid))
		return end(s, false);
	return end(s, login_keep(s, authcid) && password_keep(s, password));
}

static enum sasl_outcome
login_name(struct sasl *s, struct slice response)
{
	if (!login_keep(s, response))
		return end(s, false);
	return challenge(s, SASL_LOGIN_PASSWORD, SLICE("Password:"));
}

enum sasl_outcome
sasl_start(struct sasl *s, struct slice mechanism, bool has_response, struct slice response)
{
	assert(s->state == SASL_IDLE && s->password_bytes == 0);
	if (slice_eq_nocase(mechanism, SLICE("PLAIN"))) {
		if (has_response)
			return plain_message(s, response);
		return challenge(s, SASL_PLAIN_MESSAGE, slice_of("", 0));
	}
	if (slice_eq_nocase(mechanism, SLICE("LOGIN"))) {
		/* Some clients send the name with the command, although LOGIN has no initial
		 * response. */
		if (has_response && response.n > 0)
			return login_name(s, response);
		return challenge(s, SASL_LOGIN_NAME, SLICE("Username:"));
	}
	return SASL_UNKNOWN;
}

enum sasl_outcome
sasl_step(struct sasl *s, struct slice response)
{
	switch (s->state) {
	case SASL_PLAIN_MESSAGE:
		return plain_message(s, response);
	case SASL_LOGIN_NAME:
		return login_name(s, response);
	case SASL_LOGIN_PASSWORD:
		return end(s, password_keep(s, response));
	case SASL_IDLE:
		break;
	}
	return SASL_OUT_OF_ORDER;
}
