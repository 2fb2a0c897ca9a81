/*
 * Listening sockets live here for the whole run and are lent to each process that fills the role,
 * so that a front's death costs its connections but refuses nobody: who connects meanwhile waits in
 * the kernel's queue.
 */
#include "admin/supervisor_private.h"

#include "admin/lmtp_address.h"
#include "common/local_users.h"
#include "common/log.h"
#include "common/mem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <grp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define LISTENERS_MAX 48u
#define BACKLOG 1024

struct service {
	const char *name;
	enum option port;
	enum role role;
};

static const struct service services[] = {
    {"smtp", OPT_LISTEN_SMTP, ROLE_SMTP_FRONT},
    {"submission", OPT_LISTEN_SUBMISSION, ROLE_SUBMISSION},
    {"submissions", OPT_LISTEN_SUBMISSIONS, ROLE_SUBMISSION},
    {"imap", OPT_LISTEN_IMAP, ROLE_IMAP_FRONT},
    {"imaps", OPT_LISTEN_IMAPS, ROLE_IMAP_FRONT},
    {"pop3", OPT_LISTEN_POP3, ROLE_POP3_FRONT},
    {"pop3s", OPT_LISTEN_POP3S, ROLE_POP3_FRONT},
};

/* The roles that the command talks to. */
static const enum role controlled[] = {
    ROLE_SUPERVISOR, ROLE_DIRECTORY, ROLE_STORE, ROLE_QUEUE, ROLE_RECORDER, ROLE_RESOLVER};

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

static struct {
	const char *name;
	enum role role;
	int fd;
	char *path; /* of a Unix socket that the setting names; NULL: none */
} listeners[LISTENERS_MAX];
static unsigned listener_count;

static int
keep(const char *name, enum role role, int fd, struct err *e)
{
	if (listener_count == LISTENERS_MAX) {
		close(fd);
		return err_set(e, ERR_PERM, ERR_CODE_NONE, "too many addresses",
		    "listen.address, lmtp.listen: at most %u sockets in all", LISTENERS_MAX);
	}
	listeners[listener_count].name = name;
	listeners[listener_count].role = role;
	listeners[listener_count++].fd = fd;
	return 0;
}

static int
listen_on(const struct sockaddr *to, socklen_t size, const char *text, uint16_t port, struct err *e)
{
	int on = 1;
	int fd = socket(to->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return err_sys(e, errno, "socket");
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	/* IPv4 has its own socket: no v4-mapped surprises in the kernel's tables. */
	if (to->sa_family == AF_INET6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
	if (bind(fd, to, size) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	int errnum = errno;

	close(fd);
	err_set(e, ERR_TEMP, ERR_CODE_UNAVAILABLE, "cannot listen",
	    "cannot listen on %s port %u: %s", text, port, strerror(errnum));
	return -1;
}

/* Not a fault in an address list of "*" on a machine without IPv6. */
static bool
no_ipv6(void)
{
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return true;
	struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_addr = in6addr_any};
	bool missing = bind(fd, (struct sockaddr *)&any, sizeof any) < 0;

	close(fd);
	return missing;
}

static int
listen_address(const struct service *v, const char *address, uint16_t port, struct err *e)
{
	struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	int fd;

	if (inet_pton(AF_INET, address, &four.sin_addr) == 1)
		fd = listen_on((struct sockaddr *)&four, sizeof four, address, port, e);
	else if (inet_pton(AF_INET6, address, &six.sin6_addr) == 1)
		fd = listen_on((struct sockaddr *)&six, sizeof six, address, port, e);
	else
		return err_set(e, ERR_PERM, ERR_CODE_MALFORMED, "bad address",
		    "listen.address: %.100s is no address", address);
	return fd < 0 ? -1 : keep(v->name, v->role, fd, e);
}

static int
listen_service(const struct config *config, const struct service *v, struct err *e)
{
	uint16_t port = (uint16_t)config_number(config, v->port);
	struct slice rest = slice_trim(slice_str(config_string(config, OPT_LISTEN_ADDRESS))), item;
	char address[INET6_ADDRSTRLEN + 1];

	if (port == 0)
		return 0;
	if (slice_eq(rest, SLICE("*"))) {
		if (listen_address(v, "0.0.0.0", port, e) < 0)
			return -1;
		return no_ipv6() ? 0 : listen_address(v, "::", port, e);
	}
	while (slice_cut(&rest, ' ', &item)) {
		if (slice_empty(item))
			continue;
		if (!slice_cstr(item, address, sizeof address) ||
		    listen_address(v, address, port, e) < 0)
			return -1;
	}
	return 0;
}

/* ---- lmtp.listen ---- */

/*
 * A name that is free afterwards. What a server left that is not there any more is removed; a socket that somebody serves, and
 * anything else of that name, stays.
 */
static int
free_path(const struct sockaddr_un *to, struct err *e)
{
	struct stat st;
	int fd, errnum;

	if (lstat(to->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : err_sys(e, errno, to->sun_path);
	if (!S_ISSOCK(st.st_mode))
		return err_set(e, ERR_PERM, ERR_CODE_EXISTS, "cannot listen", "lmtp.listen: %.120s is there and no socket", to->sun_path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_sys(e, errno, "socket");
	errnum = connect(fd, (const struct sockaddr *)to, sizeof *to) == 0 ? 0 : errno;
	close(fd);
	if (errnum != ECONNREFUSED)
		return err_set(e, ERR_PERM, ERR_CODE_IN_USE, "cannot listen", "lmtp.listen: another server has %.120s", to->sun_path);
	return unlink(to->sun_path) == 0 ? 0 : err_sys(e, errno, to->sun_path);
}

/* The group may connect, if one is named, and else the owner alone; nobody is let in before that is so. */
static int
give_to_group(const struct config *config, const char *path, struct err *e)
{
	const char *name = config_string(config, OPT_LMTP_GROUP);
	const struct group *group = *name ? getgrnam(name) : NULL;

	if (*name && group == NULL)
		return err_set(e, ERR_PERM, ERR_CODE_NOT_FOUND, "no such group", "lmtp.group: there is no group %s", name);
	/* The link itself, not what somebody may have put in its place. */
	return group == NULL || lchown(path, (uid_t)-1, group->gr_gid) == 0 ? 0 : err_sys(e, errno, path);
}

static int
listen_path(const struct config *config, const struct sockaddr_un *to, struct err *e)
{
	bool shared = *config_string(config, OPT_LMTP_GROUP) != '\0';
	int fd, errnum;
	mode_t mask;

	if (free_path(to, e) < 0)
		return -1;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_sys(e, errno, "socket");
	mask = umask(shared ? 0117 : 0177);
	errnum = bind(fd, (const struct sockaddr *)to, sizeof *to) == 0 ? 0 : errno;
	umask(mask);
	if (errnum != 0) {
		close(fd);
		return err_sys(e, errnum, to->sun_path);
	}
	if (keep("lmtp", ROLE_SMTP_FRONT, fd, e) < 0) {
		(void)unlink(to->sun_path);
		return -1;
	}
	listeners[listener_count - 1].path = mem_copy_str(to->sun_path, strlen(to->sun_path));
	if (give_to_group(config, to->sun_path, e) < 0)
		return -1;
	return listen(fd, BACKLOG) == 0 ? 0 : err_sys(e, errno, to->sun_path);
}

static int
listen_lmtp(const struct config *config, struct err *e)
{
	struct slice rest = slice_str(config_string(config, OPT_LMTP_LISTEN));
	struct lmtp_address a;
	int got, fd;

	while ((got = lmtp_address_next(&rest, &a)) > 0) {
		if (a.port == 0) {
			if (listen_path(config, &a.to.path, e) < 0)
				return -1;
			continue;
		}
		fd = listen_on(&a.to.any, a.size, a.host, a.port, e);
		if (fd < 0 || keep("lmtp", ROLE_SMTP_FRONT, fd, e) < 0)
			return -1;
	}
	return got == 0 ? 0
			: err_set(e, ERR_PERM, ERR_CODE_MALFORMED, "bad address", "lmtp.listen: %.*s is no address", SLICE_ARG(a.text));
}

/* ---- the sockets below run.directory ---- */

static bool
run_path(const struct config *config, const char *name, struct sockaddr_un *to_r)
{
	*to_r = (struct sockaddr_un){.sun_family = AF_UNIX};
	int n = snprintf(to_r->sun_path, sizeof to_r->sun_path, "%s/%s",
	    config_string(config, OPT_RUN_DIR), name);

	return n > 0 && (size_t)n < sizeof to_r->sun_path;
}

/* Under name; everybody whom the mode of the directory lets in may connect, unless mask says otherwise. The lock on the state directory
 * says that nobody else uses a socket that is left over. */
static int
listen_below(const struct config *config, const char *name, int type, mode_t mask, int backlog, struct err *e)
{
	struct sockaddr_un to;

	if (!run_path(config, name, &to))
		return err_set(e, ERR_PERM, ERR_CODE_NONE, "bad setting",
		    "run.directory is too long for a socket's name");
	if (unlink(to.sun_path) < 0 && errno != ENOENT)
		return err_sys(e, errno, to.sun_path);
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return err_sys(e, errno, "socket");
	mode_t before = umask(mask);
	int rc = bind(fd, (struct sockaddr *)&to, sizeof to);
	int errnum = errno;

	umask(before);
	if (rc == 0 && listen(fd, backlog) < 0) {
		rc = -1;
		errnum = errno;
	}
	if (rc < 0) {
		close(fd);
		return err_sys(e, errnum, to.sun_path);
	}
	return fd;
}

/* Programs of this machine submit there; who they are is asked of the kernel. */
static int
listen_local(const struct config *config, struct err *e)
{
	int fd;

	if (*config_string(config, OPT_SUBMISSION_LOCAL) == '\0')
		return 0;
	fd = listen_below(config, LOCAL_SOCKET_NAME, SOCK_STREAM, 0111, BACKLOG, e);
	return fd < 0 ? -1 : keep("local", ROLE_SUBMISSION, fd, e);
}

static int
listen_control(struct supervisor *s, enum role role, struct err *e)
{
	int fd = listen_below(s->config, role_info(role)->name, SOCK_SEQPACKET, 0177, 64, e);

	if (fd < 0)
		return -1;
	if (role == ROLE_SUPERVISOR) {
		supervisor_serve(s, fd);
		return 0;
	}
	return keep("control", role, fd, e);
}

static int
listen_all(struct supervisor *s, struct err *e)
{
	for (size_t i = 0; i < COUNT(services); i++)
		if (listen_service(s->config, &services[i], e) < 0)
			return -1;
	if (listen_lmtp(s->config, e) < 0 || listen_local(s->config, e) < 0)
		return -1;
	for (size_t i = 0; i < COUNT(controlled); i++)
		if (listen_control(s, controlled[i], e) < 0)
			return -1;
	return 0;
}

static void
close_all(void)
{
	while (listener_count > 0) {
		listener_count--;
		close(listeners[listener_count].fd);
		if (listeners[listener_count].path)
			(void)unlink(listeners[listener_count].path);
		MEM_FREE(&listeners[listener_count].path);
	}
}

int
supervisor_listen(struct supervisor *s, struct err *e)
{
	int rc = listen_all(s, e);

	if (rc < 0)
		close_all();
	return rc;
}

void
supervisor_unlisten(const struct config *config)
{
	struct sockaddr_un to;

	close_all();
	for (size_t i = 0; i < COUNT(controlled); i++)
		if (run_path(config, role_info(controlled[i])->name, &to))
			(void)unlink(to.sun_path);
	if (run_path(config, LOCAL_SOCKET_NAME, &to))
		(void)unlink(to.sun_path);
}

void
supervisor_send_listeners(struct child *c)
{
	for (unsigned i = 0; i < listener_count; i++)
		if (listeners[i].role == c->role && child_is_static(c) &&
		    !IPC_SEND(c->control, CTL_LISTEN, .name = slice_str(listeners[i].name),
			.fd = listeners[i].fd))
			log_event(LOG_ERROR, NO_SESSION, "listener-lost",
			    LOG_CSTR("name", listeners[i].name), LOG_END);
}
