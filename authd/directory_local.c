#include "authd/directory_local.h"

#include "common/local_users.h"
#include "common/log.h"

#include <pwd.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

static struct {
	uid_t user;
	char address[LOCAL_USER_ADDRESS_BYTES_MAX + 1];
} users[LOCAL_USERS_MAX];
static unsigned user_count;
static char place[sizeof(((struct sockaddr_un *)0)->sun_path)]; /* where programs of the machine connect */
static char everybody[LOCAL_USER_ADDRESS_BYTES_MAX + 1];

static void
add(const struct local_user *u)
{
	char name[LOCAL_USER_BYTES_MAX + 1];
	const struct passwd *found;

	if (slice_eq(u->user, SLICE("*"))) {
		if (!slice_cstr(u->address, everybody, sizeof everybody))
			everybody[0] = '\0';
		return;
	}
	found = slice_cstr(u->user, name, sizeof name) ? getpwnam(name) : NULL;
	if (found == NULL || !slice_cstr(u->address, users[user_count].address, sizeof users[user_count].address)) {
		log_event(LOG_WARN, NO_SESSION, "no-such-user", LOG_CSTR("setting", "submission.local"), LOG_STR("user", u->user), LOG_END);
		return;
	}
	users[user_count++].user = found->pw_uid;
}

void
directory_local_init(struct slice text, const char *run_dir)
{
	struct local_user u;

	(void)snprintf(place, sizeof place, "%s/submit", run_dir);

	user_count = 0;
	everybody[0] = '\0';
	while (user_count < LOCAL_USERS_MAX && local_user_next(&text, &u) > 0)
		add(&u);
}

const char *
directory_local_address(uid_t user)
{
	for (unsigned i = 0; i < user_count; i++)
		if (users[i].user == user)
			return users[i].address;
	return everybody[0] != '\0' ? everybody : NULL;
}

/* A front that was taken over has other sockets, too, among them one that the supervisor made: that one's peer is root. */
static bool
came_by_the_door(int fd)
{
	struct sockaddr_un own = {0};
	socklen_t n = sizeof own;

	return getsockname(fd, (struct sockaddr *)&own, &n) == 0 && own.sun_family == AF_UNIX &&
	    n > offsetof(struct sockaddr_un, sun_path) && strnlen(own.sun_path, sizeof own.sun_path) < sizeof own.sun_path &&
	    strcmp(own.sun_path, place) == 0;
}

bool
directory_local_peer(int fd, uid_t *user_r)
{
	struct ucred cred;
	socklen_t n = sizeof cred;

	if (!came_by_the_door(fd))
		return false;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) != 0 || n != sizeof cred || cred.uid == (uid_t)-1)
		return false;
	*user_r = cred.uid;
	return true;
}
