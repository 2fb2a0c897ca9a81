/*
 * Users and limits come first, while the process can still look them up; the walls come last. As an
 * ordinary user there is no change of user and of root, all else is the same. A build for
 * sanitizers or coverage has neither Landlock, seccomp nor a memory limit: their run-time libraries
 * open files, look into /proc and map terabytes (MAILSTEAD_INSTRUMENTED). Such a build is for tests
 * alone.
 */
#include "common/sandbox_private.h"

#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* One file; generous, since it also holds for a log file behind stderr. */
#define FILE_BYTES_MAX (UINT64_C(64) << 30)

#ifdef MAILSTEAD_INSTRUMENTED
static const bool instrumented = true;
#else
static const bool instrumented = false;
#endif

int
sandbox_user(enum role role, uid_t *uid_r, gid_t *gid_r, struct err *e)
{
	const struct sandbox_row *row = sandbox_row(role);
	struct passwd *pw;

	if (row == NULL)
		return err_set(e, ERR_BUG, ERR_CODE_NONE, "internal error", "the %s has no sandbox",
		    role_info(role)->name);
	errno = 0;
	pw = getpwnam(row->user);
	if (pw == NULL && errno)
		return err_sys(e, errno, row->user);
	if (pw == NULL || pw->pw_uid == 0)
		return err_set(e, ERR_PERM, ERR_CODE_NOT_FOUND, "no such user",
		    "there is no user %s: run systemd-sysusers after `make install`", row->user);
	*uid_r = pw->pw_uid;
	*gid_r = pw->pw_gid;
	return 0;
}

const char *
sandbox_directory(enum role role)
{
	const struct sandbox_row *row = sandbox_row(role);

	return row && row->directory ? row->directory : "";
}

bool
sandbox_path(const struct sandbox_place *place, const struct sandbox_row *row, unsigned which,
    char *dst, size_t size)
{
	const char *dir = which == 0 ? row->directory : row->directory2;
	int n;

	if (dir == NULL)
		return false;
	const char *mark = strchr(dir, '%');

	if (mark)
		n = snprintf(dst, size, "%s/%.*s%llu", place->state_dir, (int)(mark - dir), dir,
		    (unsigned long long)place->account);
	else
		n = snprintf(dst, size, "%s/%s", place->state_dir, dir);
	return n > 0 && (size_t)n < size;
}

/* ---- step one ---- */

/* Lowers both limits to at most `most`. */
static int
limit(__rlimit_resource_t what, uint64_t most, struct err *e)
{
	struct rlimit now, next;

	if (getrlimit(what, &now) < 0)
		return err_sys(e, errno, "getrlimit");
	next.rlim_max = now.rlim_max < most ? now.rlim_max : most;
	next.rlim_cur = next.rlim_max;
	return setrlimit(what, &next) == 0 ? 0 : err_sys(e, errno, "setrlimit");
}

static int
set_limits(const struct sandbox_row *row, struct err *e)
{
	if (signal(SIGXFSZ, SIG_IGN) == SIG_ERR)
		return err_sys(e, errno, "signal");
	if (limit(RLIMIT_CORE, 0, e) < 0 || limit(RLIMIT_NOFILE, row->files_max, e) < 0 ||
	    limit(RLIMIT_FSIZE, FILE_BYTES_MAX, e) < 0)
		return -1;
	return instrumented ? 0 : limit(RLIMIT_DATA, (uint64_t)row->data_megabytes_max << 20, e);
}

/* An ordinary user may only raise it: then the score stays. */
static void
set_oom_score(int score)
{
	char text[16];
	int n = snprintf(text, sizeof text, "%d", score);
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (write(fd, text, (size_t)n) < 0 && errno != EACCES && errno != EPERM)
		log_event(LOG_DEBUG, NO_SESSION, "oom-score", LOG_NUM("errno", errno), LOG_END);
	close(fd);
}

static int
set_capabilities(uint32_t set, struct err *e)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {{.effective = set, .permitted = set}};

	return syscall(SYS_capset, &head, data) == 0 ? 0 : err_sys(e, errno, "capset");
}

/* Becomes the role's user; of root's rights only that to change the root directory is kept until
 * sandbox_close(). */
static int
become_user(enum role role, struct err *e)
{
	uid_t uid;
	gid_t gid;

	if (sandbox_user(role, &uid, &gid, e) < 0)
		return -1;
	if (prctl(PR_SET_KEEPCAPS, 1) < 0 || setgroups(1, &gid) < 0 ||
	    setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
		return err_sys(e, errno, "change of user");
	return set_capabilities(1u << CAP_SYS_CHROOT, e);
}

int
sandbox_prepare(const struct sandbox_place *place, struct err *e)
{
	const struct sandbox_row *row = sandbox_row(place->role);

	if (row == NULL)
		return err_set(
		    e, ERR_BUG, ERR_CODE_NONE, "internal error", "a role without a sandbox");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_sys(e, errno, "no_new_privs");
	set_oom_score(row->oom_score);
	if (set_limits(row, e) < 0)
		return -1;
	return place->own_user ? become_user(place->role, e) : 0;
}

/* ---- step two ---- */

/* A role that opens no path after its start sees an empty directory as the root. */
static int
change_root(const struct sandbox_place *place, const struct sandbox_row *row, struct err *e)
{
	char path[600];

	if (row->directory == NULL && place->state_dir != NULL) {
		snprintf(path, sizeof path, "%s/empty", place->state_dir);
		if (chroot(path) < 0)
			return err_sys(e, errno, path);
		if (chdir("/") < 0)
			return err_sys(e, errno, "chdir");
	}
	return set_capabilities(0, e);
}

int
sandbox_close(const struct sandbox_place *place, struct err *e)
{
	const struct sandbox_row *row = sandbox_row(place->role);

	if (row == NULL)
		return err_set(
		    e, ERR_BUG, ERR_CODE_NONE, "internal error", "a role without a sandbox");
	/* Landlock keeps the roles from tracing each other; this keeps other processes of the same
	 * user out. Not in the demo, whose operator is that user. */
	if (place->own_user && !instrumented && prctl(PR_SET_DUMPABLE, 0) < 0)
		return err_sys(e, errno, "PR_SET_DUMPABLE");
	if (!instrumented && sandbox_landlock(place, row, e) < 0)
		return -1;
	if (place->own_user && change_root(place, row, e) < 0)
		return -1;
	return instrumented ? 0 : sandbox_seccomp(row, e);
}
