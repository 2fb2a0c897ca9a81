/*
 * A port 25 front that tries to send in somebody's name. Lines: "submit FROM TO" hands deliver a message from port 25
 * as if a user had submitted it, "lmtp FROM TO" as if it had come over LMTP; "lease ACCOUNT" tells deliver that a lease is open; "queue" puts a message into the queue;
 * "dkim-find" and "dkim-sign" ask the key role what only the sign role may ask.
 */
#include "common/log.h"
#include "common/memfd.h"
#include "smtpd/envelope.h"
#include "smtpd/queue_item.h"
#include "tests/evil/evil.h"

#include <inttypes.h>
#include <unistd.h>

#define CONN 7

static void
on_delivered(struct edge *e, struct msg_DELIVER_REPLY *m)
{
	(void)e;
	evil_say("%u %.*s\n", m->code, SLICE_ARG(m->text));
}

static void
on_recipient(struct edge *e, struct msg_DELIVER_RECIPIENT *m)
{
	(void)e;
	evil_say("recipient %u\n", m->code);
}

static void
on_gone(void *obj, const struct err *e)
{
	(void)obj;
	evil_say("gone %s\n", e->detail);
}

static void
submit(const char *from, const char *to, bool lmtp)
{
	struct edge *deliver = role_edge(ROLE_DELIVER, 0);
	uint64_t id = deliver ? ipc_expect(deliver, 20000, on_gone, &on_gone) : 0;
	struct slice rcpt = slice_str(to);
	struct envelope env = {.esmtp = true, .tls = true, .lmtp = lmtp, .helo = SLICE("evil.example"), .rdns = SLICE("unknown"),
	    .tls_text = SLICE("TLS1.3 x"), .mail_from = slice_str(from), .recipients = &rcpt, .recipient_count = 1,
	    .client_ip = {[10] = 0xff, 0xff, 127, 0, 0, 1}};
	struct buf b, message;
	struct err e;

	buf_init(&b, ENVELOPE_BYTES_MAX);
	buf_init(&message, 4096);
	buf_putf(&message, "From: %s\r\nTo: %s\r\nSubject: evil\r\n\r\nx\r\n", from, to);
	int env_fd = envelope_encode(&env, &b) ? memfd_of(buf_slice(&b), &e) : -1;
	int msg_fd = memfd_of(buf_slice(&message), &e);

	if (id == 0 || !IPC_SEND(deliver, DELIVER_MESSAGE, .id = id, .conn = CONN, .session = SLICE("evil"),
			   .bytes = message.n, .envelope = env_fd, .message = msg_fd))
		evil_say("no deliver\n");
	close(env_fd);
	close(msg_fd);
	buf_fini(&b);
	buf_fini(&message);
}

static void
lease(uint64_t account)
{
	struct edge *deliver = role_edge(ROLE_DELIVER, 0);

	if (deliver && IPC_SEND(deliver, LEASE_OPEN, .id = 1, .account = account, .front_role = ROLE_SMTP_FRONT,
			   .front_generation = role_self()->generation, .conn = CONN, .service = SLICE("submission"),
			   .login = SLICE("alice@demo.test")))
		evil_say("sent\n");
	else
		evil_say("no deliver\n");
}

static void
queue(void)
{
	struct edge *q = role_edge(ROLE_QUEUE, 0);
	struct err e;
	int fd = memfd_of(SLICE("Subject: evil\r\n\r\n"), &e);

	if (q && IPC_SEND(q, QUEUE_ADD, .id = 1, .queue_id = SLICE("00112233445566778899aabbccddeeff"), .item = SLICE("x"),
		     .bytes = 17, .sha256 = SLICE("0123456789abcdef0123456789abcdef"), .message = fd, .summary = -1))
		evil_say("sent\n");
	else
		evil_say("no queue\n");
	close(fd);
}

/* What only the sign role may ask. */
static void
dkim(bool find)
{
	struct edge *key = role_edge(ROLE_KEY, 0);
	static const uint8_t hash[32];

	if (key && (find ? IPC_SEND(key, KEY_DKIM_FIND, .id = 1, .domain = SLICE("demo.test"))
			 : IPC_SEND(key, KEY_DKIM_SIGN, .id = 2, .key = 0, .hash = slice_of(hash, sizeof hash))))
		evil_say("sent\n");
	else
		evil_say("no key\n");
}

static void
on_found(struct edge *e, struct msg_KEY_DKIM_FOUND *m)
{
	(void)e;
	(void)m;
	log_event(LOG_BUG, NO_SESSION, "evil-got", LOG_CSTR("what", "keys"), LOG_END);
}

static void
on_signed(struct edge *e, struct msg_KEY_DKIM_SIGNED *m)
{
	(void)e;
	(void)m;
	log_event(LOG_BUG, NO_SESSION, "evil-got", LOG_CSTR("what", "signature"), LOG_END);
}

static void
on_line(char *line)
{
	char from[256], to[256];
	uint64_t account;

	if (sscanf(line, "submit %255s %255s", from, to) == 2)
		submit(from, to, false);
	else if (sscanf(line, "lmtp %255s %255s", from, to) == 2)
		submit(from, to, true);
	else if (sscanf(line, "lease %" SCNu64, &account) == 1)
		lease(account);
	else if (strcmp(line, "queue") == 0)
		queue();
	else if (strcmp(line, "dkim-find") == 0 || strcmp(line, "dkim-sign") == 0)
		dkim(strcmp(line, "dkim-find") == 0);
	else
		evil_say("what?\n");
}

static void
on_listener(const char *name, int fd)
{
	if (strcmp(name, "smtp") == 0)
		evil_listen(fd, on_line);
}

int
main(int argc, char **argv)
{
	static const struct ipc_dispatch from_deliver = {.DELIVER_REPLY = on_delivered, .DELIVER_RECIPIENT = on_recipient};
	static const struct ipc_dispatch from_key = {.KEY_DKIM_FOUND = on_found, .KEY_DKIM_SIGNED = on_signed};
	static const struct ipc_dispatch nothing;
	static const struct role_spec spec = {
	    .role = ROLE_SMTP_FRONT,
	    .dispatch = {[ROLE_DELIVER] = &from_deliver, [ROLE_QUEUE] = &nothing, [ROLE_DIRECTORY] = &nothing,
		[ROLE_STORE] = &nothing, [ROLE_KEY] = &from_key, [ROLE_RESOLVER] = &nothing, [ROLE_RECORDER] = &nothing},
	    .on_listener = on_listener,
	};

	return role_main(argc, argv, &spec);
}
