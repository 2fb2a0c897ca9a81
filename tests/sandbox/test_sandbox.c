/*
 * The sandbox of every role, tried from inside: for each role and each act a fresh process closes
 * the sandbox as the role does and tries the act. What a role must not do has to fail (refused, or
 * the kernel ends the process); what it must do has to work. The acts that a role may do come from
 * its duties as docs/architecture.md tells them, not from the table that is
 * tested.
 */
#include "common/log.h"
#include "common/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATH_SIZE 600
#define EXIT_WORKED 0
#define EXIT_FAILED 1
#define EXIT_NO_SANDBOX 99

static struct {
	char state[64];
	char own[PATH_SIZE];   /* the role's own directory, or accounts/1 */
	char other[PATH_SIZE]; /* another role's */
	char tls[PATH_SIZE];
	char anchor[PATH_SIZE];
	int pair[2];
	int listener;
	int inet;
	pid_t parent;
} at;

static bool
ok(long rc)
{
	return rc >= 0;
}

/* ---- acts; true when it worked ---- */

static bool
open_below(const char *dir, const char *name, int flags)
{
	char path[PATH_SIZE + 40];

	snprintf(path, sizeof path, "%s/%s", dir, name);
	int fd = open(path, flags | O_CLOEXEC, 0600);

	if (fd < 0)
		return false;
	close(fd);
	return true;
}

/* clang-format off: one line each */
static bool
act_read_passwd(void)
{
	return open_below("/etc", "passwd", O_RDONLY);
}
static bool
act_list_root(void)
{
	return ok(open("/", O_RDONLY | O_DIRECTORY));
}
static bool
act_open_dev_null(void)
{
	return ok(open("/dev/null", O_RDWR));
}
static bool
act_open_proc(void)
{
	return ok(open("/proc/self/maps", O_RDONLY));
}
static bool
act_create_in_state(void)
{
	return open_below(at.state, "new", O_CREAT | O_RDWR);
}
static bool
act_create_in_other(void)
{
	return open_below(at.other, "new", O_CREAT | O_RDWR);
}
static bool
act_read_other(void)
{
	return open_below(at.other, "file", O_RDONLY);
}
static bool
act_follow_link_out(void)
{
	return open_below(at.own, "way-out", O_RDONLY);
}
static bool
act_climb_out(void)
{
	return open_below(at.own, "../../../../../../../../etc/passwd", O_RDONLY);
}
static bool
act_read_tls_key(void)
{
	return open_below(at.tls, "key.pem", O_RDONLY);
}
static bool
act_write_tls_key(void)
{
	return open_below(at.tls, "key.pem", O_RDWR);
}
static bool
act_replace_tls_key(void)
{
	return open_below(at.tls, "new.pem", O_CREAT | O_WRONLY);
}
static bool
act_read_anchor(void)
{
	return ok(open(at.anchor, O_RDONLY));
}
/* clang-format on */

static bool
act_unlink_other(void)
{
	char path[PATH_SIZE + 40];

	snprintf(path, sizeof path, "%s/file", at.other);
	return ok(unlink(path));
}

static bool
act_link_into_own(void)
{
	char from[PATH_SIZE + 40], to[PATH_SIZE + 40];

	snprintf(from, sizeof from, "%s/file", at.other);
	snprintf(to, sizeof to, "%s/stolen", at.own);
	return ok(link(from, to)) || ok(rename(from, to));
}

static bool
act_symlink(void)
{
	char path[PATH_SIZE + 40];

	snprintf(path, sizeof path, "%s/link", at.own);
	return ok(symlink("/etc/passwd", path));
}

/* A whole life of a file in the role's own directory. */
static bool
act_use_own(void)
{
	char one[PATH_SIZE + 40], two[PATH_SIZE + 40], dir[PATH_SIZE + 40];
	struct stat st;

	snprintf(one, sizeof one, "%s/one", at.own);
	snprintf(two, sizeof two, "%s/sub/two", at.own);
	snprintf(dir, sizeof dir, "%s/sub", at.own);
	int fd = open(one, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	int home = open(at.own, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd >= 0 && home >= 0 && pwrite(fd, "x", 1, 0) == 1 && fdatasync(fd) == 0 &&
	       ftruncate(fd, 0) == 0 && fallocate(fd, 0, 0, 4096) == 0 && mkdir(dir, 0700) == 0 &&
	       rename(one, two) == 0 && fsync(home) == 0 && stat(two, &st) == 0 &&
	       fstat(fd, &st) == 0 && unlink(two) == 0 && rmdir(dir) == 0 && close(fd) == 0;
}

static bool
on_own_file(int (*act)(const char *path))
{
	char path[PATH_SIZE + 40];

	snprintf(path, sizeof path, "%s/file", at.own);
	return ok(act(path));
}

/* clang-format off */
static int do_chmod(const char *path) { return chmod(path, 0777); }
static int do_chown(const char *path) { return chown(path, geteuid(), getegid()); }
static int do_utimes(const char *path) { return utimensat(AT_FDCWD, path, NULL, 0); }
static int do_setxattr(const char *path) { return (int)syscall(SYS_setxattr, path, "user.x", "y", 1, 0); }
static int do_mknod(const char *path) { (void)path; return mknod("/tmp/mailstead-sandbox-node", S_IFIFO | 0600, 0); }
static bool act_chmod(void) { return on_own_file(do_chmod); }
static bool act_chown(void) { return on_own_file(do_chown); }
static bool act_utimes(void) { return on_own_file(do_utimes); }
static bool act_setxattr(void) { return on_own_file(do_setxattr); }
static bool act_mknod(void) { return on_own_file(do_mknod); }
static bool act_fchmod(void) { return ok(fchmod(at.listener, 0777)); }

static bool act_socket_inet(void) { return ok(socket(AF_INET, SOCK_STREAM, 0)); }
static bool act_socket_inet6(void) { return ok(socket(AF_INET6, SOCK_DGRAM, 0)); }
static bool act_socket_unix(void) { return ok(socket(AF_UNIX, SOCK_STREAM, 0)); }
static bool act_socket_netlink(void) { return ok(socket(AF_NETLINK, SOCK_RAW, 0)); }
static bool act_socket_packet(void) { return ok(socket(AF_PACKET, SOCK_RAW, 0)); }
/* clang-format on */

static bool
act_connect(void)
{
	struct sockaddr_in to = {
	    .sin_family = AF_INET, .sin_port = htons(53), .sin_addr = {htonl(INADDR_LOOPBACK)}};

	return ok(connect(at.inet, (struct sockaddr *)&to, sizeof to));
}

static bool
act_bind(void)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};

	return ok(bind(at.inet, (struct sockaddr *)&to, sizeof to));
}

/* clang-format off */
static bool act_socketpair(void) { int fd[2]; return ok(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd)); }
/* clang-format on */

static bool
act_accept(void)
{
	int fd = accept4(at.listener, NULL, NULL, SOCK_CLOEXEC);

	return fd >= 0 || errno == EAGAIN;
}

static bool
act_exec(void)
{
	char *argv[] = {(char *)(uintptr_t) "/bin/true", NULL};

	execv("/bin/true", argv);
	return false;
}

/* clang-format off */
static bool act_fork(void) { pid_t pid = fork(); if (pid == 0) _exit(0); return ok(pid); }
static bool act_thread(void) { return ok(syscall(SYS_clone, CLONE_VM | CLONE_FS | CLONE_FILES | SIGCHLD, NULL, NULL, NULL, NULL)); }
static bool act_ptrace(void) { return ok(ptrace(PTRACE_SEIZE, at.parent, NULL, NULL)); }
static bool act_traceme(void) { return ok(ptrace(PTRACE_TRACEME, 0, NULL, NULL)); }
static bool act_kill_parent(void) { return ok(kill(at.parent, 0)); }
static bool act_tgkill_parent(void) { return ok(syscall(SYS_tgkill, at.parent, at.parent, 0)); }
static bool act_pidfd(void) { return ok(syscall(SYS_pidfd_open, at.parent, 0)); }
/* clang-format on */

static bool
act_read_parent(void)
{
	char c;
	struct iovec here = {&c, 1}, there = {&at, 1};

	return process_vm_readv(at.parent, &here, 1, &there, 1, 0) == 1;
}

/* clang-format off */
static bool act_exec_memory(void) { return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED; }
/* clang-format on */

static bool
act_make_executable(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p != MAP_FAILED && ok(mprotect(p, 4096, PROT_READ | PROT_EXEC));
}

/* clang-format off */
static bool act_setuid(void) { return ok(setresuid(geteuid(), geteuid(), geteuid())); }
static bool act_mount(void) { return ok(mount("none", "/mnt", "tmpfs", 0, NULL)); }
static bool act_unshare(void) { return ok(unshare(CLONE_NEWUSER)); }
static bool act_chroot(void) { return ok(chroot("/")); }
static bool act_io_uring(void) { char params[120] = {0}; return ok(syscall(SYS_io_uring_setup, 4, params)); }
static bool act_bpf(void) { char attr[120] = {0}; return ok(syscall(SYS_bpf, 0, attr, sizeof attr)); }
static bool act_keyctl(void) { return ok(syscall(SYS_keyctl, 0, -3, 1)); }
static bool act_userfault(void) { return ok(syscall(SYS_userfaultfd, 1)); }
static bool act_settime(void) { struct timeval now; return ok(gettimeofday(&now, NULL)) && ok(settimeofday(&now, NULL)); }
static bool act_raise_limit(void) { struct rlimit r = {64, 64}; return ok(setrlimit(RLIMIT_NOFILE, &r)); }
static bool act_dump(void) { struct rlimit r; return getrlimit(RLIMIT_CORE, &r) == 0 && r.rlim_max != 0; }
/* clang-format on */

static bool
act_memfd(void)
{
	int fd = memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	return fd >= 0 && write(fd, "x", 1) == 1 && fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) == 0 &&
	       mmap(NULL, 1, PROT_READ, MAP_PRIVATE, fd, 0) != MAP_FAILED;
}

/* What every role lives on. */
static bool
act_live(void)
{
	char c, random[8];
	struct timespec now;
	struct stat st;
	void *big = malloc(16 << 20);

	return big && memset(big, 1, 16 << 20) && send(at.pair[0], "x", 1, MSG_NOSIGNAL) == 1 &&
	       recv(at.pair[1], &c, 1, 0) == 1 && clock_gettime(CLOCK_REALTIME, &now) == 0 &&
	       syscall(SYS_getrandom, random, sizeof random, 0) == sizeof random &&
	       fstat(at.pair[0], &st) == 0 && dup(at.pair[0]) >= 0 &&
	       fprintf(stderr, "%s", "") >= 0;
}

/* An assertion that fails must end the process by SIGABRT, not by the sandbox. */
static bool
act_abort(void)
{
	abort();
}

/* ---- who may ---- */

/* clang-format off */
#define R(NAME) ROLE_BIT(ROLE_##NAME)
#define NOBODY 0u
#define ALL UINT32_MAX
#define WITH_FILES (R(RECORDER) | R(DIRECTORY) | R(KEEPER) | R(QUEUE) | R(STS))
#define WITH_NETWORK (R(RESOLVER) | R(TRANSPORT) | R(STS))
#define WITH_LISTENERS                                                                             \
	(R(RECORDER) | R(DIRECTORY) | R(RESOLVER) | R(STORE) | R(QUEUE) | R(SMTP_FRONT) | R(SUBMISSION) | R(IMAP_FRONT) | R(POP3_FRONT))
#define WITH_MEMORY_FILES                                                                          \
	((WITH_FILES & ~R(STS)) | R(STORE) | R(VERIFY) | R(DELIVER) | R(SMTP_FRONT) | R(SUBMISSION) | R(IMAP_WORKER) | R(POP3_WORKER))

static const struct {
	const char *name;
	bool (*act)(void);
	uint32_t may;
} acts[] = {
#define ACT(name, may) {#name, act_##name, may}
    ACT(live, ALL),
    ACT(use_own, WITH_FILES),
    ACT(memfd, WITH_MEMORY_FILES),
    ACT(accept, WITH_LISTENERS),
    ACT(socketpair, R(STORE)),
    ACT(socket_inet, WITH_NETWORK),
    ACT(socket_inet6, WITH_NETWORK),
    ACT(connect, WITH_NETWORK),
    ACT(bind, WITH_NETWORK),
    ACT(read_tls_key, NOBODY), /* read before the walls close */
    ACT(read_anchor, NOBODY),
    ACT(read_passwd, NOBODY),
    ACT(list_root, NOBODY),
    ACT(open_dev_null, NOBODY),
    ACT(open_proc, NOBODY),
    ACT(create_in_state, NOBODY),
    ACT(create_in_other, NOBODY),
    ACT(read_other, NOBODY),
    ACT(follow_link_out, NOBODY),
    ACT(climb_out, NOBODY),
    ACT(write_tls_key, NOBODY),
    ACT(replace_tls_key, NOBODY),
    ACT(unlink_other, NOBODY),
    ACT(link_into_own, NOBODY),
    ACT(symlink, NOBODY),
    ACT(chmod, NOBODY),
    ACT(fchmod, NOBODY),
    ACT(chown, NOBODY),
    ACT(utimes, NOBODY),
    ACT(setxattr, NOBODY),
    ACT(mknod, NOBODY),
    ACT(socket_unix, NOBODY),
    ACT(socket_netlink, NOBODY),
    ACT(socket_packet, NOBODY),
    ACT(exec, NOBODY),
    ACT(fork, NOBODY),
    ACT(thread, NOBODY),
    ACT(ptrace, NOBODY),
    ACT(traceme, NOBODY),
    ACT(kill_parent, NOBODY),
    ACT(tgkill_parent, NOBODY),
    ACT(pidfd, NOBODY),
    ACT(read_parent, NOBODY),
    ACT(exec_memory, NOBODY),
    ACT(make_executable, NOBODY),
    ACT(setuid, NOBODY),
    ACT(mount, NOBODY),
    ACT(unshare, NOBODY),
    ACT(chroot, NOBODY),
    ACT(io_uring, NOBODY),
    ACT(bpf, NOBODY),
    ACT(keyctl, NOBODY),
    ACT(userfault, NOBODY),
    ACT(settime, NOBODY),
    ACT(raise_limit, NOBODY),
    ACT(dump, NOBODY),
#undef ACT
};
/* clang-format on */

#define ACTS (sizeof acts / sizeof acts[0])

/* ---- the scene ---- */

static void
must(bool done, const char *what)
{
	if (done)
		return;
	perror(what);
	exit(2);
}

static void
make_dir(const char *name)
{
	char path[PATH_SIZE + 40], file[PATH_SIZE + 60];

	snprintf(path, sizeof path, "%s/%s", at.state, name);
	must(mkdir(path, 0700) == 0, path);
	snprintf(file, sizeof file, "%s/file", path);
	int fd = open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	must(fd >= 0 && close(fd) == 0, file);
	snprintf(file, sizeof file, "%s/way-out", path);
	must(symlink("/etc/passwd", file) == 0, file);
}

static void
make_scene(void)
{
	static const char *const dirs[] = {
	    "accounts", "accounts/1", "accounts/2", "deliver", "directory", "queue", "spool", "sts", "trace", "tls"};
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	char path[PATH_SIZE + 40];

	snprintf(at.state, sizeof at.state, "/tmp/mailstead-sandbox-XXXXXX");
	must(mkdtemp(at.state) != NULL, "mkdtemp");
	for (size_t i = 0; i < sizeof dirs / sizeof dirs[0]; i++)
		make_dir(dirs[i]);
	snprintf(at.tls, sizeof at.tls, "%s/tls", at.state);
	snprintf(path, sizeof path, "%s/key.pem", at.tls);
	must(close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600)) == 0, path);
	snprintf(at.anchor, sizeof at.anchor, "%s/root.key", at.state);
	must(close(open(at.anchor, O_CREAT | O_WRONLY | O_CLOEXEC, 0600)) == 0, at.anchor);
	must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, at.pair) == 0, "socketpair");
	at.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	must(bind(at.listener, (struct sockaddr *)&any, sizeof any) == 0 &&
		 listen(at.listener, 1) == 0,
	    "listen");
	at.parent = getpid();
}

static void
aim(enum role role)
{
	const char *dir = sandbox_directory(role);
	bool keeper = role == ROLE_KEEPER;

	snprintf(at.own, sizeof at.own, "%s/%s", at.state, keeper || !*dir ? "accounts/1" : dir);
	snprintf(at.other, sizeof at.other, "%s/%s", at.state,
	    keeper		 ? "accounts/2"
	    : role == ROLE_QUEUE ? "trace"
				 : "queue");
}

static void
remove_scene(void)
{
	char *argv[] = {(char *)(uintptr_t) "rm", (char *)(uintptr_t) "-rf", at.state, NULL};
	pid_t pid = fork();

	if (pid == 0) {
		execv("/bin/rm", argv);
		_exit(127);
	}
	(void)waitpid(pid, NULL, 0);
}

/* ---- the trial ---- */

static int
try(enum role role, bool (*act)(void))
{
	struct sandbox_place place = {.role = role, .account = 1, .state_dir = at.state};
	struct err e;
	int status;
	pid_t pid = fork();

	must(pid >= 0, "fork");
	if (pid == 0) {
		at.inet = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		if (sandbox_prepare(&place, &e) < 0 || sandbox_close(&place, &e) < 0) {
			fprintf(stderr, "%s: %s\n", role_info(role)->name, e.detail);
			_exit(EXIT_NO_SANDBOX);
		}
		_exit(act() ? EXIT_WORKED : EXIT_FAILED);
	}
	must(waitpid(pid, &status, 0) == pid, "waitpid");
	return status;
}

/* True when the outcome is as it must be. */
static bool
right(enum role role, size_t a, int status)
{
	bool worked = WIFEXITED(status) && WEXITSTATUS(status) == EXIT_WORKED;
	bool failed = (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_FAILED) ||
		      (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
	bool may = (acts[a].may & ROLE_BIT(role)) != 0;

	if (may ? worked : failed)
		return true;
	printf("%s: %s %s (wait status %#x)\n", role_info(role)->name, acts[a].name,
	    may ? "did not work" : "was not prevented", (unsigned)status);
	return false;
}

static unsigned
try_role(enum role role)
{
	unsigned wrong = 0;

	aim(role);
	for (size_t a = 0; a < ACTS; a++)
		wrong += !right(role, a, try(role, acts[a].act));
	int status = try(role, act_abort);

	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT) {
		printf("%s: abort() ended with wait status %#x\n", role_info(role)->name,
		    (unsigned)status);
		wrong++;
	}
	return wrong;
}

/* Without the sandbox the same acts work, or the trial would prove nothing. Those that only root
 * may do anywhere are left out. */
static unsigned
try_free(void)
{
	static const char *const must_work[] = {"read_passwd", "list_root", "create_in_state",
	    "read_other", "follow_link_out", "socket_inet", "socket_unix", "connect", "exec_memory",
	    "fork", "kill_parent", "symlink", "chmod", "utimes"};
	unsigned wrong = 0;

	aim(ROLE_KEEPER);
	at.inet = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	for (size_t i = 0; i < sizeof must_work / sizeof must_work[0]; i++)
		for (size_t a = 0; a < ACTS; a++)
			if (strcmp(acts[a].name, must_work[i]) == 0 && !acts[a].act()) {
				printf("%s does not even work without a sandbox\n", acts[a].name);
				wrong++;
			}
	return wrong;
}

int
main(void)
{
	unsigned wrong = 0, roles = 0;

	make_scene();

	if (sandbox_landlock_abi() == 0)
		printf("this kernel has no Landlock: paths cannot be confined here\n");
	for (unsigned r = 0; r < ROLE_COUNT; r++) {
		if (r == ROLE_SUPERVISOR)
			continue;
		wrong += try_role(r);
		roles++;
	}
	wrong += try_free();
	printf("sandbox: %u roles, %zu acts each, Landlock ABI %d, %u wrong\n", roles, ACTS + 1,
	    sandbox_landlock_abi(), wrong);
	remove_scene();
	return wrong != 0;
}
