/*
 * The system calls of each role, as libseccomp rules. What is not allowed ends the process (SIGSYS;
 * the supervisor says so in the log), save the calls by which libraries look for optional files and
 * sockets (refused with EACCES), which must not be a way to stop a role. On 64-bit the arguments
 * that matter are checked too: no executable memory, signals to nobody else.
 */
#include "common/sandbox_private.h"

#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#define CALL(name) SCMP_SYS(name)

/* clang-format off */
static const int base_calls[] = {
    /* descriptors that are there */
    CALL(read), CALL(write), CALL(readv), CALL(writev), CALL(pread64), CALL(pwrite64), CALL(preadv), CALL(pwritev),
    CALL(lseek), CALL(close), CALL(close_range), CALL(fstat), CALL(dup), CALL(dup2), CALL(dup3), CALL(fcntl),
    CALL(sendfile), CALL(copy_file_range), CALL(fadvise64), CALL(ftruncate),
    /* sockets that are there */
    CALL(recvmsg), CALL(sendmsg), CALL(recvfrom), CALL(sendto), CALL(getsockopt), CALL(setsockopt), CALL(shutdown),
    CALL(getsockname), CALL(getpeername),
    /* the loop */
    CALL(epoll_create1), CALL(epoll_ctl), CALL(epoll_wait), CALL(epoll_pwait), CALL(epoll_pwait2), CALL(poll), CALL(ppoll),
    CALL(select), CALL(pselect6), CALL(eventfd2), CALL(timerfd_create), CALL(timerfd_settime), CALL(pipe2),
    /* memory, clocks, identity */
    CALL(munmap), CALL(mremap), CALL(brk), CALL(madvise), CALL(futex), CALL(clock_gettime), CALL(clock_getres),
    CALL(clock_nanosleep), CALL(nanosleep), CALL(gettimeofday), CALL(time), CALL(getrandom), CALL(getpid), CALL(gettid),
    CALL(getppid), CALL(getuid), CALL(geteuid), CALL(getgid), CALL(getegid), CALL(getrusage), CALL(sysinfo), CALL(uname),
    CALL(sched_yield), CALL(sched_getaffinity), CALL(getcpu), CALL(membarrier), CALL(rseq), CALL(set_robust_list),
    /* signals to itself, the end */
    CALL(rt_sigaction), CALL(rt_sigprocmask), CALL(rt_sigreturn), CALL(sigaltstack), CALL(restart_syscall), CALL(exit),
    CALL(exit_group),
};

static const int accept_calls[] = {CALL(accept4), CALL(accept), CALL(listen)};

static const int network_calls[] = {CALL(connect), CALL(bind), CALL(sendmmsg), CALL(recvmmsg)};

static const int file_calls[] = {
    CALL(openat), CALL(open), CALL(newfstatat), CALL(stat), CALL(lstat), CALL(statx), CALL(access), CALL(faccessat),
    CALL(faccessat2), CALL(mkdir), CALL(mkdirat), CALL(rename), CALL(renameat), CALL(renameat2), CALL(unlink), CALL(unlinkat),
    CALL(rmdir), CALL(link), CALL(linkat), CALL(fallocate), CALL(fsync), CALL(fdatasync), CALL(sync_file_range),
    CALL(getdents64), CALL(flock), CALL(fadvise64), CALL(truncate), CALL(statfs), CALL(fstatfs), CALL(getcwd),
};

/* How libraries look for what may be missing: refused, not deadly. */
static const int refused_calls[] = {
    CALL(openat), CALL(open), CALL(openat2), CALL(stat), CALL(lstat), CALL(statx), CALL(access), CALL(faccessat),
    CALL(faccessat2), CALL(readlink), CALL(readlinkat), CALL(getcwd), CALL(statfs), CALL(socket),
};

/* clang-format on */

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

/* Argument number `arg` equals value; or its bits of mask do. libseccomp's own macros leave fields
 * out, which clang minds. */
static struct scmp_arg_cmp
equal(unsigned arg, scmp_datum_t value)
{
	return (struct scmp_arg_cmp){arg, SCMP_CMP_EQ, value, 0};
}

static struct scmp_arg_cmp
masked(unsigned arg, scmp_datum_t mask, scmp_datum_t value)
{
	return (struct scmp_arg_cmp){arg, SCMP_CMP_MASKED_EQ, mask, value};
}

static int
add_all(scmp_filter_ctx ctx, uint32_t action, const int *calls, size_t n)
{
	int rc = 0;

	for (size_t i = 0; i < n && rc == 0; i++)
		rc = seccomp_rule_add(ctx, action, calls[i], 0);
	return rc;
}

static bool
has_rule(int call, unsigned calls)
{
	if ((calls & CALLS_NETWORK) && call == CALL(socket))
		return true;
	for (size_t k = 0; k < COUNT(file_calls) && (calls & CALLS_FILES); k++)
		if (file_calls[k] == call)
			return true;
	return false;
}

/* As add_all(), but leaves out what has a rule already: libseccomp would let the one without
 * conditions win. */
static int
refuse_rest(scmp_filter_ctx ctx, unsigned calls)
{
	int rc = 0;

	for (size_t i = 0; i < COUNT(refused_calls) && rc == 0; i++)
		if (!has_rule(refused_calls[i], calls))
			rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EACCES), refused_calls[i], 0);
	return rc;
}

/* Calls that are harmless only with some arguments. */
static int
add_checked(scmp_filter_ctx ctx)
{
	const struct scmp_arg_cmp no_exec = masked(2, PROT_EXEC, 0);
	const struct scmp_arg_cmp own_pid = equal(0, (scmp_datum_t)getpid());
	const struct scmp_arg_cmp only_read = equal(2, 0);
	static const unsigned long controls[] = {FIONREAD, FIONBIO, TCGETS};
	static const int options[] = {PR_SET_NAME, PR_GET_NAME, PR_SET_PDEATHSIG, PR_SET_VMA};
	int rc = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, CALL(mmap), 1, &no_exec);

	if (rc == 0)
		rc = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, CALL(mprotect), 1, &no_exec);
	if (rc == 0)
		rc = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, CALL(tgkill), 1, &own_pid);
	if (rc == 0)
		rc = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, CALL(prlimit64), 1, &only_read);
	for (size_t i = 0; i < COUNT(controls) && rc == 0; i++)
		rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, CALL(ioctl), 1, equal(1, controls[i]));
	for (size_t i = 0; i < COUNT(options) && rc == 0; i++)
		rc = seccomp_rule_add(
		    ctx, SCMP_ACT_ALLOW, CALL(prctl), 1, equal(0, (scmp_datum_t)options[i]));
	return rc;
}

static int
add_network(scmp_filter_ctx ctx)
{
	int rc = add_all(ctx, SCMP_ACT_ALLOW, network_calls, COUNT(network_calls));

	if (rc == 0)
		rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, CALL(socket), 1, equal(0, AF_INET));
	if (rc == 0)
		rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, CALL(socket), 1, equal(0, AF_INET6));
	return rc;
}

/* fstat() of this C library is newfstatat() with an empty path. */
static int
add_fstat(scmp_filter_ctx ctx)
{
	int rc = seccomp_rule_add(
	    ctx, SCMP_ACT_ALLOW, CALL(newfstatat), 1, masked(3, AT_EMPTY_PATH, AT_EMPTY_PATH));

	if (rc == 0)
		rc = seccomp_rule_add(
		    ctx, SCMP_ACT_ERRNO(EACCES), CALL(newfstatat), 1, masked(3, AT_EMPTY_PATH, 0));
	return rc;
}

static int
add_groups(scmp_filter_ctx ctx, unsigned calls)
{
	int rc = add_all(ctx, SCMP_ACT_ALLOW, base_calls, COUNT(base_calls));

	if (rc == 0)
		rc = add_checked(ctx);
	if (rc == 0 && (calls & CALLS_ACCEPT))
		rc = add_all(ctx, SCMP_ACT_ALLOW, accept_calls, COUNT(accept_calls));
	if (rc == 0 && (calls & CALLS_NETWORK))
		rc = add_network(ctx);
	if (rc == 0 && (calls & CALLS_FILES))
		rc = add_all(ctx, SCMP_ACT_ALLOW, file_calls, COUNT(file_calls));
	else if (rc == 0)
		rc = add_fstat(ctx);
	if (rc == 0 && (calls & CALLS_MEMFD))
		rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, CALL(memfd_create), 0);
	if (rc == 0 && (calls & CALLS_PAIR))
		rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, CALL(socketpair), 1, equal(0, AF_UNIX));
	return rc == 0 ? refuse_rest(ctx, calls) : rc;
}

int
sandbox_seccomp(const struct sandbox_row *row, struct err *e)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);

	if (ctx == NULL)
		return err_set(
		    e, ERR_TEMP, ERR_CODE_UNAVAILABLE, "temporary failure", "seccomp_init");
	int rc = add_groups(ctx, row->calls);

	/* A binary search instead of a chain: the filter runs at every call. */
	if (rc == 0)
		(void)seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (rc == 0)
		rc = seccomp_load(ctx);
	seccomp_release(ctx);
	return rc == 0 ? 0 : err_sys(e, -rc, "seccomp");
}
