/*
 * The demo's accounts. DIR/passwords is written before the accounts are made: a crash in between
 * leaves a file whose passwords the next start gives to the accounts, never accounts whose
 * passwords nobody knows.
 */
#include "admin/demo.h"

#include "admin/command.h"
#include "common/mem.h"
#include "common/password.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define PASSWORD_LETTERS 16u
#define USERS 2u

static const char *const users[USERS] = {"alice", "bob"};

struct demo_user {
	char address[64];
	char password[PASSWORD_LETTERS + 1];
	bool fresh; /* the password was made just now */
};

/* Letters and digits that nobody takes for one another; 32 of them, so that an octet's low bits
 * choose evenly. */
static bool
random_password(char dst[PASSWORD_LETTERS + 1])
{
	static const char letters[] = "abcdefghijkmnpqrstuvwxyz23456789";
	uint8_t octets[PASSWORD_LETTERS];

	_Static_assert(sizeof letters == 33, "32 letters");
	if (RAND_bytes(octets, sizeof octets) != 1)
		return false;
	for (unsigned i = 0; i < PASSWORD_LETTERS; i++)
		dst[i] = letters[octets[i] % 32];
	dst[PASSWORD_LETTERS] = '\0';
	mem_wipe(octets, sizeof octets);
	return true;
}

static void
read_passwords(const char *path, struct demo_user *u)
{
	char address[64], password[PASSWORD_LETTERS + 1], line[200];
	FILE *f = fopen(path, "re");

	while (f && fgets(line, sizeof line, f))
		for (unsigned i = 0; i < USERS; i++)
			if (sscanf(line, "%63s %16s", address, password) == 2 &&
			    strcmp(address, u[i].address) == 0)
				snprintf(u[i].password, sizeof u[i].password, "%s", password);
	if (f)
		(void)fclose(f);
}

static bool
write_passwords(const char *path, const struct demo_user *u)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	bool ok = fd >= 0 && fchmod(fd, 0600) == 0;

	for (unsigned i = 0; ok && i < USERS; i++)
		ok = dprintf(fd, "%s %s\n", u[i].address, u[i].password) > 0;
	if (fd >= 0)
		ok = fsync(fd) == 0 && ok;
	if (fd >= 0)
		ok = close(fd) == 0 && ok;
	if (!ok)
		command_error("%s: %s", path, strerror(errno));
	return ok;
}

static bool
choose_passwords(const struct demo *d, struct demo_user *u)
{
	char path[300];
	bool fresh = false;

	snprintf(path, sizeof path, "%s/passwords", d->directory);
	for (unsigned i = 0; i < USERS; i++)
		snprintf(u[i].address, sizeof u[i].address, "%s@" DEMO_DOMAIN, users[i]);
	read_passwords(path, u);
	for (unsigned i = 0; i < USERS; i++) {
		u[i].fresh = u[i].password[0] == '\0';
		if (u[i].fresh && !random_password(u[i].password))
			return false;
		fresh = fresh || u[i].fresh;
	}
	return !fresh || write_passwords(path, u);
}

/* One request to the directory; exists_r: it refused because the name is taken. */
static enum command_status
ask(struct command_link *l, const char *verb, const char *name, const char *value, const char *hash,
    bool *exists_r)
{
	static struct msg reply;
	enum command_status status = COMMAND_SEND(l, DIR_ADMIN, .id = command_id(),
	    .verb = slice_str(verb), .name = slice_str(name), .value = slice_str(value),
	    .password = slice_str(hash));

	if (status == COMMAND_OK)
		status = command_receive(l, MSG_DIR_ADMIN_REPLY, &reply);
	if (status != COMMAND_OK)
		return status;
	*exists_r = reply.u.DIR_ADMIN_REPLY.code == ERR_CODE_EXISTS;
	if (*exists_r)
		return COMMAND_OK;
	return command_outcome(reply.u.DIR_ADMIN_REPLY.class, reply.u.DIR_ADMIN_REPLY.text);
}

/* Gives the account the password of the file, when it does not have it already. */
static enum command_status
make_account(struct command_link *l, const struct demo_user *u)
{
	char hash[PASSWORD_HASH_SIZE];
	struct err e;
	bool exists;

	if (password_hash(slice_str(u->password), hash, &e) < 0) {
		command_error("%s", e.detail);
		return COMMAND_TEMPORARY;
	}
	enum command_status status = ask(l, "account-add", u->address, "", hash, &exists);

	if (status == COMMAND_OK && exists && u->fresh)
		status = ask(l, "account-passwd", u->address, "", hash, &exists);
	mem_wipe(hash, sizeof hash);
	return status;
}

int
demo_accounts(const struct config *config, void *arg)
{
	const struct demo *d = arg;
	struct demo_user u[USERS] = {0};
	struct command_link *l = command_connect(config, ROLE_DIRECTORY);
	enum command_status status = COMMAND_UNREACHABLE;
	bool exists;

	if (l)
		status = ask(l, "domain-add", DEMO_DOMAIN, "", "", &exists);
	if (status == COMMAND_OK && !choose_passwords(d, u))
		status = COMMAND_TEMPORARY;
	for (unsigned i = 0; i < USERS && status == COMMAND_OK; i++)
		status = make_account(l, &u[i]);
	command_disconnect(&l);
	mem_wipe(u, sizeof u);
	return (int)status;
}

static unsigned
port(const struct config *config, enum option o)
{
	return (unsigned)config_number(config, o);
}

void
demo_announce(const struct config *config, void *arg)
{
	const struct demo *d = arg;

	printf("\nMailstead is ready. It serves " DEMO_DOMAIN " on 127.0.0.1:\n"
	       "  SMTP %u   submission %u (STARTTLS), %u (TLS)\n"
	       "  IMAP %u (STARTTLS), %u (TLS)   POP3 %u (STLS), %u (TLS)\n",
	    port(config, OPT_LISTEN_SMTP), port(config, OPT_LISTEN_SUBMISSION),
	    port(config, OPT_LISTEN_SUBMISSIONS), port(config, OPT_LISTEN_IMAP),
	    port(config, OPT_LISTEN_IMAPS), port(config, OPT_LISTEN_POP3),
	    port(config, OPT_LISTEN_POP3S));
	printf("Accounts alice@" DEMO_DOMAIN " and bob@" DEMO_DOMAIN
	       "; their passwords: %s/passwords\n"
	       "Send:  swaks --server 127.0.0.1:%u --to alice@" DEMO_DOMAIN "\n"
	       "Read:  mutt -f imaps://alice%%40" DEMO_DOMAIN "@127.0.0.1:%u/\n"
	       "Admin: mailstead --config %s status\n\n",
	    d->directory, port(config, OPT_LISTEN_SMTP), port(config, OPT_LISTEN_IMAPS),
	    d->config_path);
	(void)fflush(stdout);
}
