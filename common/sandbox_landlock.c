/*
 * Landlock by system call: the C library has no wrappers, and Debian 12's headers end at ABI 2. A
 * newer kernel's rights are asked for when it has them; an older one goes without. Landlock says
 * where files may be opened; that chmod, utimensat and UDP are not its business is why
 * seccomp stands beside it.
 */
#include "common/sandbox_private.h"

#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PATH_SIZE 1100

/* Rights of the file system by ABI: what is in the first is known to every Landlock. */
#define RIGHTS_ABI1 ((UINT64_C(1) << 13) - 1)
#define RIGHT_REFER (UINT64_C(1) << 13)	    /* ABI 2 */
#define RIGHT_TRUNCATE (UINT64_C(1) << 14)  /* ABI 3 */
#define RIGHT_IOCTL_DEV (UINT64_C(1) << 15) /* ABI 5 */
#define NET_TCP_ALL UINT64_C(3)		    /* ABI 4: bind and connect */
#define SCOPE_ALL UINT64_C(3)		    /* ABI 6: abstract sockets and signals */

#define RIGHTS_NEVER                                                                               \
	(LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_MAKE_CHAR |                               \
	    LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SOCK |                         \
	    LANDLOCK_ACCESS_FS_MAKE_FIFO | RIGHT_IOCTL_DEV)

/* struct landlock_ruleset_attr as ABI 6 has it; an older kernel takes a shorter one. */
struct ruleset {
	uint64_t fs;
	uint64_t net;
	uint64_t scoped;
};

int
sandbox_landlock_abi(void)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	return abi < 0 ? 0 : (int)abi;
}

static uint64_t
rights_of(int abi)
{
	uint64_t rights = RIGHTS_ABI1;

	if (abi >= 2)
		rights |= RIGHT_REFER;
	if (abi >= 3)
		rights |= RIGHT_TRUNCATE;
	if (abi >= 5)
		rights |= RIGHT_IOCTL_DEV;
	return rights;
}

static int
new_ruleset(int abi, bool network)
{
	struct ruleset r = {.fs = rights_of(abi)};
	size_t size = sizeof r.fs;

	if (abi >= 4) {
		r.net = network ? 0 : NET_TCP_ALL;
		size = sizeof r.fs + sizeof r.net;
	}
	if (abi >= 6) {
		r.scoped = SCOPE_ALL;
		size = sizeof r;
	}
	return (int)syscall(SYS_landlock_create_ruleset, &r, size, 0);
}

/* A path that does not exist gets no rule: there is nothing to allow. */
static int
allow(int ruleset, const char *path, uint64_t rights, struct err *e)
{
	struct landlock_path_beneath_attr rule = {.allowed_access = rights};

	rule.parent_fd = open(path, O_PATH | O_CLOEXEC);
	if (rule.parent_fd < 0)
		return errno == ENOENT || errno == EACCES ? 0 : err_sys(e, errno, path);
	long rc = syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
	int errnum = errno;

	close(rule.parent_fd);
	return rc == 0 ? 0 : err_sys(e, errnum, path);
}

static int
add_rules(int ruleset, uint64_t rights, const struct sandbox_place *place,
    const struct sandbox_row *row, struct err *e)
{
	char path[PATH_SIZE];

	for (unsigned i = 0; i < 2; i++)
		if (sandbox_path(place, row, i, path, sizeof path) &&
		    allow(ruleset, path, rights & ~RIGHTS_NEVER, e) < 0)
			return -1;
	return 0;
}

int
sandbox_landlock(const struct sandbox_place *place, const struct sandbox_row *row, struct err *e)
{
	int abi = sandbox_landlock_abi();

	if (abi == 0) {
		log_event(LOG_DEBUG, NO_SESSION, "no-landlock",
		    LOG_END); /* the supervisor warns once for all */
		return 0;
	}
	int ruleset = new_ruleset(abi, (row->calls & CALLS_NETWORK) != 0);

	if (ruleset < 0)
		return err_sys(e, errno, "landlock_create_ruleset");
	int rc = add_rules(ruleset, rights_of(abi), place, row, e);

	if (rc == 0 && syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
		rc = err_sys(e, errno, "landlock_restrict_self");
	close(ruleset);
	return rc;
}
