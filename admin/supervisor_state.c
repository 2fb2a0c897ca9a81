/*
 * The directories: each belongs to the one role that opens it. As root the upper ones can be passed
 * through by all roles' users, but listed by nobody; as an ordinary user all belongs to that user.
 *
 * A role cannot sync the directory that its own is in, so this is done here, before the role has it: what is
 * acknowledged must not go with the directory that it is in. At start for those that an earlier run made, later for each that is made.
 */
#include "admin/supervisor_private.h"

#include "common/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_SIZE 600

static int
sync_directory(const char *path, struct err *e)
{
	int fd = open(path, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	int rc = fd < 0 || fsync(fd) < 0 ? err_sys(e, errno, path) : 0;

	if (fd >= 0)
		close(fd);
	return rc;
}

/* Syncs the directory that path is in. */
static int
sync_above(const char *path, struct err *e)
{
	char above[PATH_SIZE];

	snprintf(above, sizeof above, "%s", path);
	return sync_directory(dirname(above), e);
}

/* Makes the directory when it is missing and sets mode and owner; uid (uid_t)-1 leaves the owner.
 */
static int
make_directory(const char *path, mode_t mode, uid_t uid, gid_t gid, struct err *e)
{
	struct stat st;

	if (mkdir(path, mode) == 0) {
		if (sync_above(path, e) < 0) {
			/* Otherwise it would be taken for durable the next time. */
			(void)rmdir(path);
			return -1;
		}
	} else if (errno != EEXIST) {
		return err_sys(e, errno, path);
	}
	int fd = open(path, O_DIRECTORY | O_NOFOLLOW | O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return err_sys(e, errno, path);
	int rc = fstat(fd, &st) < 0 ? err_sys(e, errno, path) : 0;

	if (rc == 0 && (st.st_mode & 07777) != mode && fchmod(fd, mode) < 0)
		rc = err_sys(e, errno, path);
	if (rc == 0 && uid != (uid_t)-1 && (st.st_uid != uid || st.st_gid != gid) &&
	    fchown(fd, uid, gid) < 0)
		rc = err_sys(e, errno, path);
	close(fd);
	return rc;
}

static int
make_below(struct supervisor *s, const char *name, mode_t mode, enum role owner, struct err *e)
{
	char path[PATH_SIZE];
	uid_t uid = (uid_t)-1;
	gid_t gid = (gid_t)-1;

	if (s->own_users && owner != ROLE_SUPERVISOR && sandbox_user(owner, &uid, &gid, e) < 0)
		return -1;
	snprintf(path, sizeof path, "%s%s%s", config_string(s->config, OPT_STATE_DIR),
	    *name ? "/" : "", name);
	return make_directory(path, mode, uid, gid, e);
}

static int
sync_below(struct supervisor *s, const char *name, struct err *e)
{
	char path[PATH_SIZE];

	snprintf(path, sizeof path, "%s/%s", config_string(s->config, OPT_STATE_DIR), name);
	return sync_directory(path, e);
}

/* Two supervisors on one state directory would start two writers for each account. */
static int
lock_state(struct supervisor *s, struct err *e)
{
	char path[PATH_SIZE];

	/* Its mode is left alone until the lock says that it is ours. */
	if (mkdir(config_string(s->config, OPT_STATE_DIR), 0700) < 0 && errno != EEXIST)
		return err_sys(e, errno, config_string(s->config, OPT_STATE_DIR));
	snprintf(path, sizeof path, "%s/lock", config_string(s->config, OPT_STATE_DIR));
	s->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (s->lock_fd < 0)
		return err_sys(e, errno, path);
	if (flock(s->lock_fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	if (errno != EWOULDBLOCK)
		return err_sys(e, errno, path);
	return err_set(e, ERR_PERM, ERR_CODE_IN_USE, "in use", "another mailstead runs on %s",
	    config_string(s->config, OPT_STATE_DIR));
}

int
supervisor_make_state(struct supervisor *s, struct err *e)
{
	mode_t pass = s->own_users ? 0711 : 0700;
	mode_t empty = s->own_users ? 0555 : 0700;

	if (lock_state(s, e) < 0 || make_below(s, "", pass, ROLE_SUPERVISOR, e) < 0)
		return -1;
	if (make_below(s, "accounts", pass, ROLE_SUPERVISOR, e) < 0 ||
	    make_below(s, "empty", empty, ROLE_SUPERVISOR, e) < 0 ||
	    make_below(s, "directory", 0700, ROLE_DIRECTORY, e) < 0 ||
	    make_below(s, "queue", 0700, ROLE_QUEUE, e) < 0 ||
	    make_below(s, "sts", 0700, ROLE_STS, e) < 0 ||
	    make_below(s, "deliver", 0700, ROLE_DELIVER, e) < 0 ||
	    make_below(s, "spool", 0700, ROLE_QUEUE, e) < 0 ||
	    make_below(s, "trace", 0700, ROLE_RECORDER, e) < 0 || make_below(s, "keys", 0700, ROLE_KEY, e) < 0)
		return -1;
	if (sync_above(config_string(s->config, OPT_STATE_DIR), e) < 0 || sync_below(s, "", e) < 0 || sync_below(s, "accounts", e) < 0)
		return -1;
	return make_directory(config_string(s->config, OPT_RUN_DIR), s->own_users ? 0755 : 0700,
	    (uid_t)-1, (gid_t)-1, e);
}

int
supervisor_make_account(struct supervisor *s, uint64_t account, struct err *e)
{
	char name[40];

	snprintf(name, sizeof name, "accounts/%llu", (unsigned long long)account);
	return make_below(s, name, 0700, ROLE_KEEPER, e);
}
