/*
 * The child that reads what others wrote: it has what it is given and nothing else, and however it ends the command goes on.
 */
#include "admin/confined.h"

#include <check.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static uint64_t
now_ms(void)
{
	struct timespec t;

	ck_assert_int_eq(clock_gettime(CLOCK_MONOTONIC, &t), 0);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* Answers each packet with the octets of the file that came with it, or with the packet. */
static void
echo(int fd, void *arg)
{
	static uint8_t room[CONFINED_PACKET_BYTES_MAX];
	struct slice packet;
	struct msg_fds fds;

	(void)arg;
	while (confined_take(fd, &packet, &fds)) {
		ssize_t n = fds.n > 0 ? pread(fds.fd[0], room, sizeof room, 0) : 0;

		confined_give(fd, n > 0 ? slice_of(room, (size_t)n) : packet);
		for (unsigned i = 0; i < fds.n; i++)
			(void)close(fds.fd[i]);
	}
}

START_TEST(packets)
{
	static uint8_t large[CONFINED_PACKET_BYTES_MAX];
	struct confined c;
	struct slice answer;
	FILE *file = tmpfile();

	ck_assert_ptr_nonnull(file);
	ck_assert(fputs("of the file", file) >= 0 && fflush(file) == 0);
	ck_assert_int_eq(confined_begin(&c, echo, NULL), COMMAND_OK);
	ck_assert_int_eq(confined_ask(&c, SLICE("hello"), NULL, 0), COMMAND_OK);
	ck_assert_int_eq(confined_answer(&c, &answer), COMMAND_OK);
	ck_assert(slice_eq(answer, SLICE("hello")));
	for (size_t i = 0; i < sizeof large; i++)
		large[i] = (uint8_t)(i * 7);
	ck_assert_int_eq(confined_ask(&c, slice_of(large, sizeof large), NULL, 0), COMMAND_OK);
	ck_assert_int_eq(confined_answer(&c, &answer), COMMAND_OK);
	ck_assert(slice_eq(answer, slice_of(large, sizeof large)));
	int fds[MSG_FDS_MAX];

	for (unsigned i = 0; i < MSG_FDS_MAX; i++)
		fds[i] = fileno(file);
	/* More often than it may have files open: it closes them. */
	for (int i = 0; i < 40; i++) {
		ck_assert_int_eq(confined_ask(&c, SLICE("x"), fds, MSG_FDS_MAX), COMMAND_OK);
		ck_assert_int_eq(confined_answer(&c, &answer), COMMAND_OK);
		ck_assert(slice_eq(answer, SLICE("of the file")));
	}
	confined_end(&c);
	confined_end(&c);
	(void)fclose(file);
}
END_TEST

/* What it has: user, whether a file and a socket can be opened, how many descriptors but its link are something else than /dev/null. */
static void
look_around(int fd, void *arg)
{
	struct slice packet;
	struct msg_fds fds;
	struct stat null, st;
	char text[100];
	unsigned more = 0;

	if (!confined_take(fd, &packet, &fds) || fstat(0, &null) < 0)
		return;
	for (int i = 0; i < 1024; i++)
		more += i != fd && fstat(i, &st) == 0 && (st.st_rdev != null.st_rdev || !S_ISCHR(st.st_mode));
	int file = open(arg, O_RDONLY | O_CLOEXEC), sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int n = snprintf(text, sizeof text, "root %d file %d socket %d descriptors %u", geteuid() == 0 || getuid() == 0, file >= 0,
	    sock >= 0, more);

	confined_give(fd, slice_of(text, (size_t)n));
}

START_TEST(rights)
{
	int secret = open("/proc/self/stat", O_RDONLY); /* inherited but for the child's own care */
	struct confined c;
	struct slice answer;

	ck_assert_int_ge(secret, 0);
	ck_assert_int_eq(confined_begin(&c, look_around, (void *)(uintptr_t) "/proc/self/stat"), COMMAND_OK);
	ck_assert_int_eq(confined_ask(&c, SLICE("?"), NULL, 0), COMMAND_OK);
	ck_assert_int_eq(confined_answer(&c, &answer), COMMAND_OK);
#ifdef MAILSTEAD_INSTRUMENTED
	ck_assert_msg(slice_eq(answer, SLICE("root 0 file 1 socket 1 descriptors 0")), "%.*s", SLICE_ARG(answer));
#else
	ck_assert_msg(slice_eq(answer, SLICE("root 0 file 0 socket 0 descriptors 0")), "%.*s", SLICE_ARG(answer));
#endif
	confined_end(&c);
	(void)close(secret);
}
END_TEST

static void
die(int fd, void *arg)
{
	struct slice packet;
	struct msg_fds fds;

	(void)arg;
	if (confined_take(fd, &packet, &fds))
		abort();
}

static void
stay(int fd, void *arg)
{
	(void)arg;
	(void)close(fd);
	for (;;)
		(void)poll(NULL, 0, 1000);
}

static void
be_silent(int fd, void *arg)
{
	(void)fd;
	(void)arg;
	for (;;)
		(void)poll(NULL, 0, 1000);
}

START_TEST(ends)
{
	struct confined c;
	struct slice answer;
	uint64_t began = now_ms();

	ck_assert_int_eq(confined_begin(&c, die, NULL), COMMAND_OK);
	ck_assert_int_eq(confined_ask(&c, SLICE("x"), NULL, 0), COMMAND_OK);
	ck_assert_int_eq(confined_answer(&c, &answer), COMMAND_REFUSED);
	ck_assert_int_eq(confined_answer(&c, &answer), COMMAND_REFUSED);
	ck_assert_int_eq(confined_ask(&c, SLICE("x"), NULL, 0), COMMAND_REFUSED);
	confined_end(&c);
	/* It is nobody's business how long it would like to stay. */
	ck_assert_int_eq(confined_begin(&c, stay, NULL), COMMAND_OK);
	ck_assert_int_eq(confined_answer(&c, &answer), COMMAND_REFUSED);
	confined_end(&c);
	ck_assert_int_eq(confined_begin(&c, be_silent, NULL), COMMAND_OK);
	confined_end(&c);
	ck_assert_uint_lt(now_ms() - began, 20000);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("confined");
	TCase *t = tcase_create("confined");

	suite_add_tcase(s, t);
	tcase_add_test(t, packets);
	tcase_add_test(t, rights);
	tcase_add_test(t, ends);
	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed != 0;
}
