/* The limits of accepting: in all, per network, and that counts go down again. */
#include "common/listener.h"

#include <arpa/inet.h>
#include <check.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CLIENTS_MAX 64

static struct loop *loop;
static struct listener_group *group;
static struct listener *listener;
static uint16_t port;
static int clients[CLIENTS_MAX];
static unsigned clients_n;
static struct client_address accepted[CLIENTS_MAX];
static int accepted_fd[CLIENTS_MAX];
static unsigned accepted_n, refused_n;
static bool free_in_accept;
static unsigned rooms_n;
static bool room;

static void
on_accept(void *arg, int fd, const struct client_address *a)
{
	(void)arg;
	accepted_fd[accepted_n] = fd;
	accepted[accepted_n++] = *a;
	if (free_in_accept)
		listener_free(&listener);
}

static void
on_refuse(void *arg, int fd, const struct client_address *a)
{
	(void)arg;
	(void)a;
	refused_n++;
	close(fd);
}

static void
stop(void *arg)
{
	(void)arg;
	loop_stop(loop);
}

static void
turns(void)
{
	struct loop_timer *t = loop_timer_new(loop, stop, NULL);

	loop_timer_set(t, 20);
	loop_run(loop);
	loop_timer_free(&t);
}

/* Connects from an address within 127.0.0.0/8. */
static void
client(const char *from)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ck_assert_int_eq(inet_pton(AF_INET, from, &a.sin_addr), 1);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
	ck_assert_int_eq(inet_pton(AF_INET, "127.0.0.1", &a.sin_addr), 1);
	a.sin_port = port;
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
	clients[clients_n++] = fd;
}

static void
setup(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	socklen_t n = sizeof a;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
	ck_assert_int_eq(listen(fd, 64), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&a, &n), 0);
	port = a.sin_port;
	loop = loop_new();
	group = listener_group_new(
	    loop, (struct listener_limits){.total_max = 5, .per_network_max = 3});
	listener = listener_new(group, fd, on_accept, on_refuse, NULL);
	clients_n = accepted_n = refused_n = 0;
	free_in_accept = false;
	rooms_n = 0;
}

static void
teardown(void)
{
	listener_free(&listener);
	for (unsigned i = 0; i < clients_n; i++)
		close(clients[i]);
	for (unsigned i = 0; i < accepted_n; i++)
		close(accepted_fd[i]);
}

START_TEST(addresses)
{
	client("127.0.0.9");
	turns();
	ck_assert_uint_eq(accepted_n, 1);
	ck_assert_str_eq(accepted[0].text, "127.0.0.9");
	ck_assert_str_eq(accepted[0].local_text, "127.0.0.1");
	ck_assert(IN6_IS_ADDR_V4MAPPED(&accepted[0].peer.sin6_addr));
	ck_assert_uint_eq(accepted[0].local.sin6_port, port);
}
END_TEST

/* A Unix socket's client has no address, and all of them are one network. */
START_TEST(unix_socket)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	socklen_t size = sizeof a;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct listener *other;

	/* No name is given: the kernel chooses one that is in no file system. */
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&a, sizeof a.sun_family), 0);
	ck_assert_int_eq(listen(fd, 8), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&a, &size), 0);
	other = listener_new(group, fd, on_accept, on_refuse, NULL);
	for (int i = 0; i < 4; i++) {
		clients[clients_n] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		ck_assert_int_eq(connect(clients[clients_n++], (struct sockaddr *)&a, size), 0);
	}
	turns();
	ck_assert_uint_eq(accepted_n, 3);
	ck_assert_uint_eq(refused_n, 1);
	ck_assert_str_eq(accepted[0].text, "local");
	ck_assert(IN6_IS_ADDR_UNSPECIFIED(&accepted[0].peer.sin6_addr) && accepted[0].peer.sin6_port == 0);
	listener_free(&other);
}
END_TEST

START_TEST(per_network)
{
	for (int i = 0; i < 5; i++)
		client("127.0.0.2");
	turns();
	ck_assert_uint_eq(accepted_n, 3);
	ck_assert_uint_eq(refused_n, 2);
	ck_assert_uint_eq(listener_group_count(group), 3);
	listener_done(group, &accepted[0]);
	client("127.0.0.2");
	turns();
	ck_assert_uint_eq(accepted_n, 4);
	client("127.0.0.2");
	turns();
	ck_assert_uint_eq(refused_n, 3);
}
END_TEST

START_TEST(in_all_pauses)
{
	for (int i = 0; i < 8; i++)
		client(i % 2 ? "127.0.0.2" : "127.0.0.3");
	turns();
	ck_assert_uint_eq(accepted_n, 5);
	ck_assert_uint_eq(refused_n, 0);
	/* The others wait in the kernel until a session ends. */
	listener_done(group, &accepted[0]);
	listener_done(group, &accepted[2]);
	turns();
	ck_assert_uint_eq(accepted_n, 7);
	listener_group_limits(
	    group, (struct listener_limits){.total_max = 6, .per_network_max = 6});
	turns();
	ck_assert_uint_eq(accepted_n, 8);
	ck_assert_uint_eq(listener_group_count(group), 6);
}
END_TEST

/* Ends the oldest, if it may. */
static bool
make_room(void)
{
	if (!room)
		return false;
	listener_done(group, &accepted[rooms_n++]);
	return true;
}

START_TEST(room_is_made)
{
	room = true;
	listener_group_on_full(group, make_room);
	for (int i = 0; i < 5; i++)
		client(i % 2 ? "127.0.0.2" : "127.0.0.3");
	turns();
	ck_assert_uint_eq(accepted_n, 5);
	ck_assert_uint_eq(rooms_n, 0);
	for (int i = 0; i < 4; i++)
		client("127.0.0.4");
	turns();
	/* Three of that network found a place; of the fourth only the network's limit was in the way. */
	ck_assert_uint_eq(accepted_n, 8);
	ck_assert_uint_eq(refused_n, 1);
	ck_assert_uint_le(rooms_n, 4);
	ck_assert_uint_le(listener_group_count(group), 5);
}
END_TEST

START_TEST(no_room_is_made)
{
	room = false;
	listener_group_on_full(group, make_room);
	for (int i = 0; i < 6; i++)
		client(i % 2 ? "127.0.0.2" : "127.0.0.3");
	turns();
	ck_assert_uint_eq(accepted_n, 5);
	/* It is asked again by and by. */
	room = true;
	for (int i = 0; i < 2 * LISTENER_PAUSE_MS / 20; i++)
		turns();
	ck_assert_uint_eq(accepted_n, 6);
	ck_assert_uint_eq(rooms_n, 1);
	/* And at once when a session has ended by itself. */
	room = false;
	client("127.0.0.4");
	turns();
	ck_assert_uint_eq(accepted_n, 6);
	listener_done(group, &accepted[5]);
	turns();
	ck_assert_uint_eq(accepted_n, 7);
}
END_TEST

START_TEST(burden)
{
	for (int i = 0; i < 3; i++)
		client("127.0.0.2");
	client("127.0.0.3");
	turns();
	ck_assert_uint_eq(accepted_n, 4);
	ck_assert_uint_eq(listener_burden(group, &accepted[0], 999), 3000);
	ck_assert_uint_eq(listener_burden(group, &accepted[3], 999), 1000);
	ck_assert_uint_eq(listener_burden(group, &accepted[0], UINT64_MAX / 2), UINT64_MAX);
	/* Of a network with half of the average, the young stay; of others nobody is too young. */
	ck_assert_uint_eq(listener_burden(group, &accepted[3], LISTENER_YOUNG_MS), LISTENER_YOUNG_MS + 1);
	ck_assert_uint_eq(listener_burden(group, &accepted[3], LISTENER_YOUNG_MS - 1), 0);
	ck_assert_uint_eq(listener_burden(group, &accepted[0], 0), 3);
	listener_done(group, &accepted[0]);
	ck_assert_uint_eq(listener_burden(group, &accepted[3], 0), 1);
	ck_assert_uint_eq(listener_burden(group, &accepted[1], 999), 2000);
}
END_TEST

START_TEST(freed_while_accepting)
{
	free_in_accept = true;
	client("127.0.0.2");
	client("127.0.0.2");
	turns();
	ck_assert_uint_eq(accepted_n, 1);
	ck_assert_ptr_null(listener);
}
END_TEST

/* The table of networks against a plain count, through many comings and goings. */
START_TEST(counts_hold)
{
	static unsigned count[200];
	unsigned seed = 1, all = 0;

	listener_group_limits(
	    group, (struct listener_limits){.total_max = 200, .per_network_max = 1000});
	for (int i = 0; i < 600; i++) {
		seed = seed * 1103515245 + 12345;
		unsigned which = (seed >> 16) % 200;
		char text[32];

		snprintf(text, sizeof text, "127.0.1.%u", which + 1);
		if (count[which]) {
			memset(&accepted[0], 0, sizeof accepted[0]);
			memset(accepted[0].peer.sin6_addr.s6_addr + 10, 0xff, 2);
			ck_assert_int_eq(
			    inet_pton(AF_INET, text, accepted[0].peer.sin6_addr.s6_addr + 12), 1);
			listener_done(group, &accepted[0]);
			count[which]--;
			all--;
		} else if (i < 300) {
			accepted_n = clients_n = 0;
			client(text);
			while (accepted_n == 0)
				turns();
			close(accepted_fd[0]);
			close(clients[0]);
			count[which]++;
			all++;
		}
		ck_assert_uint_eq(listener_group_count(group), all);
	}
	accepted_n = clients_n = 0;
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("listener");
	TCase *c = tcase_create("listener");

	tcase_set_timeout(c, 60);
	tcase_add_checked_fixture(c, setup, teardown);
	tcase_add_test(c, addresses);
	tcase_add_test(c, unix_socket);
	tcase_add_test(c, per_network);
	tcase_add_test(c, in_all_pauses);
	tcase_add_test(c, room_is_made);
	tcase_add_test(c, no_room_is_made);
	tcase_add_test(c, burden);
	tcase_add_test(c, freed_while_accepting);
	tcase_add_test(c, counts_hold);
	suite_add_tcase(s, c);
	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed != 0;
}
