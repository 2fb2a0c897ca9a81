/* Who is at the other end: only of a connection that came by the door. */
#include "authd/directory_local.h"

#include <check.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static char dir[64];

static void
set_up(void)
{
	(void)snprintf(dir, sizeof dir, "/tmp/mailstead-local-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	directory_local_init(SLICE("*=alice@demo.test"), dir);
}

static void
path_of(struct sockaddr_un *to, const char *name)
{
	*to = (struct sockaddr_un){.sun_family = AF_UNIX};
	(void)snprintf(to->sun_path, sizeof to->sun_path, "%s/%s", dir, name);
}

static void
tear_down(void)
{
	static const char *const names[] = {"submit", "submit2", "other"};
	struct sockaddr_un at;

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		path_of(&at, names[i]);
		(void)unlink(at.sun_path);
	}
	ck_assert_int_eq(rmdir(dir), 0);
}

/* A connection to dir/name, as the one who listens has it. */
static int
accepted(const char *name)
{
	struct sockaddr_un to;
	int listener = socket(AF_UNIX, SOCK_STREAM, 0);
	int client = socket(AF_UNIX, SOCK_STREAM, 0);
	int fd;

	path_of(&to, name);
	ck_assert_int_eq(bind(listener, (struct sockaddr *)&to, sizeof to), 0);
	ck_assert_int_eq(listen(listener, 1), 0);
	ck_assert_int_eq(connect(client, (struct sockaddr *)&to, sizeof to), 0);
	fd = accept(listener, NULL, NULL);
	ck_assert_int_ge(fd, 0);
	close(listener);
	close(client);
	return fd;
}

START_TEST(test_peer)
{
	static const char *const others[] = {"submit2", "other"};
	uid_t user = (uid_t)-1;
	int pair[2];
	int fd = accepted("submit");

	ck_assert(directory_local_peer(fd, &user));
	ck_assert_uint_eq(user, getuid());
	ck_assert_str_eq(directory_local_address(user), "alice@demo.test");
	close(fd);
	for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
		fd = accepted(others[i]);
		ck_assert(!directory_local_peer(fd, &user));
		close(fd);
	}
	for (int type = 0; type < 2; type++) {
		ck_assert_int_eq(socketpair(AF_UNIX, type ? SOCK_SEQPACKET : SOCK_STREAM, 0, pair), 0);
		ck_assert(!directory_local_peer(pair[0], &user));
		close(pair[0]);
		close(pair[1]);
	}
	ck_assert_int_eq(pipe(pair), 0);
	ck_assert(!directory_local_peer(pair[0], &user));
	close(pair[0]);
	close(pair[1]);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	ck_assert(!directory_local_peer(fd, &user));
	close(fd);
	ck_assert(!directory_local_peer(-1, &user));
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("directory_local");
	TCase *t = tcase_create("all");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_add_test(t, test_peer);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
