/*
 * The dialogue's decisions. Each is made as soon as what it needs is known, and again when another answer has come: what was known
 * before stays in the input, so that what is recorded with a refusal is all that it came from.
 */
#include "smtpd/front_policy.h"

#include "smtpd/front.h"

static const struct smtp_reply_words *
judge(struct slice session, enum policy_table t, const struct policy_input *in)
{
	const struct policy_decision *d = policy_decide(t, in);
	struct log_field fields[POLICY_FIELDS];
	struct buf inputs, line;

	if (d->action == POLICY_ACCEPT)
		return NULL;
	buf_init(&inputs, POLICY_INPUT_BYTES_MAX);
	buf_init(&line, LOG_LINE_BYTES_MAX);
	policy_fields(t, d, in, &inputs, fields);
	log_put_fields(&line, fields);
	role_trace(session, "decision", buf_slice(&line));
	buf_fini(&line);
	buf_fini(&inputs);
	return &d->reply;
}

const struct smtp_reply_words *
smtpd_judge(struct front *f, enum policy_table t, const struct policy_input *in)
{
	return judge(slice_str(f->id), t, in);
}

const struct smtp_reply_words *
smtpd_judge_client(const struct client_address *a, const struct policy_input *in)
{
	const struct log_field fields[] = {LOG_CSTR("peer", a->text), LOG_END};
	char id[SMTP_SESSION_ID_CHARS + 1];
	struct buf line;

	smtp_session_id(id);
	buf_init(&line, LOG_LINE_BYTES_MAX);
	log_put_fields(&line, fields);
	role_trace(slice_str(id), "connection-refused", buf_slice(&line));
	buf_fini(&line);
	return judge(slice_str(id), POLICY_CONNECT, in);
}
