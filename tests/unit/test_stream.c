/*
 * Streams in clear over socketpairs: bounds, back-pressure, files, half close, timeouts, relay,
 * safe frees.
 */
#include "common/buf.h"
#include "common/stream_private.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static struct loop *loop;
static int peer;	      /* the client's end, non-blocking */
static struct stream *stream; /* over the other end */
static struct loop_timer *watchdog;

/* What the session does in on_ready, and what it saw. */
enum act { ACT_TAKE, ACT_LEAVE, ACT_FREE, ACT_LINES, ACT_CLOSE };
static enum act act;
static struct buf seen;
static int readies, ends;
static enum stream_end end_why;
static bool free_on_end;

static void
give_up(void *arg)
{
	(void)arg;
	ck_abort_msg("the loop did not stop in time");
}

static void
on_ready(struct stream *s, void *arg)
{
	(void)arg;
	struct slice in = stream_input(s);

	readies++;
	switch (act) {
	case ACT_TAKE:
		buf_put_slice(&seen, in);
		stream_consume(s, in.n);
		break;
	case ACT_LINES:
		for (size_t n = slice_index(in, '\n'); n < in.n; n = slice_index(in, '\n')) {
			buf_put(&seen, in.p, n + 1);
			stream_write(s, slice_of(in.p, n + 1));
			stream_consume(s, n + 1);
			in = stream_input(s);
		}
		break;
	case ACT_LEAVE:
		break;
	case ACT_FREE:
		stream_free(&stream);
		break;
	case ACT_CLOSE:
		stream_write_str(s, "bye\r\n");
		stream_close(s);
		break;
	}
	loop_stop(loop);
}

static void
on_end(struct stream *s, void *arg, enum stream_end why)
{
	(void)arg;
	ck_assert_ptr_eq(s, stream);
	ends++;
	end_why = why;
	if (free_on_end)
		stream_free(&stream);
	loop_stop(loop);
}

static const struct stream_events events = {.on_ready = on_ready, .on_end = on_end};

static void
pair(int fds[2])
{
	ck_assert_int_eq(
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
}

static void
setup(void)
{
	int fds[2];

	loop = loop_new();
	pair(fds);
	peer = fds[0];
	stream = stream_new(loop, fds[1], 1000, &events, NULL);
	watchdog = loop_timer_new(loop, give_up, NULL);
	loop_timer_set(watchdog, 20000);
	buf_init(&seen, 64 << 20);
	readies = ends = 0;
	act = ACT_TAKE;
	free_on_end = true;
}

static void
teardown(void)
{
	stream_free(&stream);
	loop_timer_free(&watchdog);
	loop_free(&loop);
	buf_fini(&seen);
	close(peer);
}

static void
stop(void *arg)
{
	(void)arg;
	loop_stop(loop);
}

/* Lets the loop turn without waiting for anything in particular. */
static void
turns(int ms)
{
	struct loop_timer *t = loop_timer_new(loop, stop, NULL);

	for (int i = 0; i < ms; i++) {
		loop_timer_set(t, 1);
		loop_run(loop);
	}
	loop_timer_free(&t);
}

static void
send_all(int fd, const void *p, size_t n)
{
	ck_assert_int_eq(send(fd, p, n, 0), (ssize_t)n);
}

static void
wait_ms(uint64_t ms)
{
	struct loop_timer *t = loop_timer_new(loop, stop, NULL);
	uint64_t until = clock_ms() + ms;

	while (clock_ms() < until) {
		loop_timer_set(t, until - clock_ms());
		loop_run(loop);
	}
	loop_timer_free(&t);
}

/* Reads what is there at fd. */
static size_t
drain(int fd, struct buf *b)
{
	uint8_t part[65536];
	size_t all = 0;
	ssize_t n;

	while ((n = recv(fd, part, sizeof part, 0)) > 0) {
		if (b)
			buf_put(b, part, (size_t)n);
		all += (size_t)n;
	}
	return all;
}

/* Both families, and who does not listen: told of from the loop, never inside the call. */
static void
connects_to(bool ip6, bool listens)
{
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	struct sockaddr_in four = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr *where = ip6 ? (struct sockaddr *)&six : (struct sockaddr *)&four;
	socklen_t n = ip6 ? sizeof six : sizeof four;
	struct stream_address to = {.ip6 = ip6};
	const char *error = NULL;
	int fd = socket(ip6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	stream_free(&stream);
	ck_assert_int_eq(bind(fd, where, n), 0);
	if (listens)
		ck_assert_int_eq(listen(fd, 1), 0);
	ck_assert_int_eq(getsockname(fd, where, &n), 0);
	to.port = ntohs(ip6 ? six.sin6_port : four.sin_port);
	if (ip6)
		memcpy(to.ip, &six.sin6_addr, 16);
	else
		memcpy(to.ip, &four.sin_addr, 4);
	act = ACT_LEAVE;
	stream = stream_connect(loop, &to, NULL, 1000, &events, NULL, &error);
	ck_assert_msg(stream != NULL, "%s", error);
	ck_assert_int_eq(readies + ends, 0);
	loop_run(loop);
	ck_assert_int_eq(readies, listens);
	ck_assert_int_eq(ends, !listens);
	if (!listens)
		ck_assert_int_eq(end_why, STREAM_ERROR);
	close(fd);
}

START_TEST(connects_to_six)
{
	connects_to(true, true);
}
END_TEST

START_TEST(connects_to_four)
{
	connects_to(false, true);
}
END_TEST

START_TEST(nobody_listens)
{
	connects_to(_i == 1, false);
}
END_TEST

START_TEST(input_arrives)
{
	send_all(peer, "hello", 5);
	loop_run(loop);
	ck_assert(slice_eq(buf_slice(&seen), SLICE("hello")));
	ck_assert_int_eq(readies, 1);
	ck_assert_uint_eq(stream_input(stream).n, 0);
}
END_TEST

START_TEST(input_is_bounded)
{
	static uint8_t big[5000];

	act = ACT_LEAVE;
	send_all(peer, big, sizeof big);
	turns(10);
	ck_assert_uint_eq(stream_input(stream).n, 1000);
	stream_set_input_max(stream, 1500);
	turns(5);
	ck_assert_uint_eq(stream_input(stream).n, 1500);
	/* What is consumed from outside makes room for as much. */
	stream_consume(stream, 600);
	turns(5);
	ck_assert_uint_eq(stream_input(stream).n, 1500);
	stream_set_input_max(stream, 10);
	stream_consume(stream, 1495);
	turns(5);
	ck_assert_uint_eq(stream_input(stream).n, 10);
}
END_TEST

START_TEST(reading_can_be_held)
{
	stream_read_enable(stream, false);
	send_all(peer, "later", 5);
	turns(5);
	ck_assert_int_eq(readies, 0);
	stream_read_enable(stream, true);
	turns(5);
	ck_assert(slice_eq(buf_slice(&seen), SLICE("later")));
}
END_TEST

START_TEST(one_octet_at_a_time)
{
	static const char text[] = "one\ntwo\nthree\n";

	act = ACT_LINES;
	for (size_t i = 0; i < sizeof text - 1; i++) {
		send_all(peer, text + i, 1);
		turns(1);
	}
	ck_assert(slice_eq(buf_slice(&seen), SLICE("one\ntwo\nthree\n")));
	buf_reset(&seen);
	drain(peer, &seen);
	ck_assert(slice_eq(buf_slice(&seen), SLICE("one\ntwo\nthree\n")));
}
END_TEST

START_TEST(output_pushes_back)
{
	static uint8_t block[10000];
	size_t written = 0;

	while (!stream_full(stream)) {
		stream_write(stream, slice_of(block, sizeof block));
		written += sizeof block;
	}
	ck_assert_uint_ge(written, STREAM_OUT_HIGH);
	ck_assert_uint_le(written, STREAM_OUT_HIGH + sizeof block);
	/* The socket takes some at once; fill it until nothing moves. */
	for (int i = 0; i < 20; i++) {
		turns(1);
		while (!stream_full(stream)) {
			stream_write(stream, slice_of(block, sizeof block));
			written += sizeof block;
		}
	}
	readies = 0;
	ck_assert(stream_full(stream));
	size_t got = 0;

	while (got < written) {
		got += drain(peer, NULL);
		turns(1);
	}
	ck_assert_uint_eq(got, written);
	ck_assert(!stream_full(stream));
	ck_assert_int_eq(readies, 1);
}
END_TEST

START_TEST(output_has_an_end)
{
	static uint8_t block[1 << 20];

	for (unsigned i = 0; i < STREAM_OUT_MAX / sizeof block; i++)
		stream_write(stream, slice_of(block, sizeof block));
	ck_assert_int_eq(ends, 0);
	stream_write(stream, slice_of(block, 1));
	ck_assert_int_eq(ends, 0);
	loop_run(loop);
	ck_assert_int_eq(ends, 1);
	ck_assert_int_eq(end_why, STREAM_ERROR);
	/* Nothing happens after the end. */
	ck_assert_ptr_null(stream);
}
END_TEST

static int
memory_file(size_t n)
{
	int fd = memfd_create("test", MFD_CLOEXEC);
	uint8_t *p = malloc(n);

	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)(i * 31 + i / 256);
	ck_assert_int_eq(write(fd, p, n), (ssize_t)n);
	free(p);
	return fd;
}

START_TEST(files_in_order)
{
	const size_t n = 3000000;
	int fd = memory_file(n);
	struct buf got;

	buf_init(&got, 2 * n);
	stream_write_str(stream, "head ");
	stream_write_file(stream, fd, 10, n - 10);
	ck_assert(stream_full(stream));
	stream_write_str(stream, " tail");
	stream_write_file(stream, fd, 0, 0);
	stream_write_str(stream, "!");
	close(fd);
	while (got.n < n - 10 + 11) {
		turns(1);
		drain(peer, &got);
	}
	ck_assert_uint_eq(got.n, n - 10 + 11);
	ck_assert(slice_starts(buf_slice(&got), SLICE("head ")));
	ck_assert(slice_eq(slice_sub(buf_slice(&got), got.n - 6, got.n), SLICE(" tail!")));
	for (size_t i = 10; i < n; i++) {
		if (got.p[5 + i - 10] != (uint8_t)(i * 31 + i / 256))
			ck_abort_msg("octet %zu differs", i);
	}
	ck_assert(!stream_full(stream));
	ck_assert_int_eq(readies, 1);
	buf_fini(&got);
}
END_TEST

START_TEST(short_file_is_an_error)
{
	int fd = memory_file(100);

	stream_write_file(stream, fd, 50, 51);
	close(fd);
	loop_run(loop);
	ck_assert_int_eq(ends, 1);
	ck_assert_int_eq(end_why, STREAM_ERROR);
}
END_TEST

START_TEST(end_of_input)
{
	/* Input first, then the end: the session sees both in order. */
	act = ACT_LINES;
	send_all(peer, "a\nb\n", 4);
	shutdown(peer, SHUT_WR);
	while (ends == 0)
		loop_run(loop);
	ck_assert_int_eq(end_why, STREAM_EOF);
	ck_assert_uint_eq(seen.n, 4);
	buf_reset(&seen);
	drain(peer, &seen);
	ck_assert(slice_eq(buf_slice(&seen), SLICE("a\nb\n")));
}
END_TEST

START_TEST(end_waits_for_input_to_be_taken)
{
	act = ACT_LEAVE;
	send_all(peer, "rest", 4);
	shutdown(peer, SHUT_WR);
	turns(20);
	ck_assert_int_eq(ends, 0);
	ck_assert(stream_eof(stream));
	stream_consume(stream, 4);
	loop_run(loop);
	ck_assert_int_eq(ends, 1);
	ck_assert_int_eq(end_why, STREAM_EOF);
}
END_TEST

START_TEST(reset_is_an_error)
{
	int fds[2];

	/*
	 * Closing with unread data in its own buffer makes a UNIX socket tell the other end
	 * ECONNRESET.
	 */
	free_on_end = false;
	stream_write_str(stream, "unread");
	turns(3);
	ck_assert_int_eq(ends, 0);
	close(peer);
	pair(fds);
	peer = fds[0];
	close(fds[1]);
	while (ends == 0)
		loop_run(loop);
	ck_assert_int_eq(end_why, STREAM_ERROR);
	ck_assert_str_ne(stream_error(stream), "");
	turns(5);
	ck_assert_int_eq(ends, 1);
}
END_TEST

START_TEST(silence_times_out)
{
	uint64_t before = clock_ms();

	stream_set_timeout(stream, 200);
	wait_ms(100);
	send_all(peer, "x", 1);
	while (ends == 0)
		loop_run(loop);
	ck_assert_int_eq(end_why, STREAM_TIMEOUT);
	ck_assert_uint_ge(clock_ms() - before, 290);
}
END_TEST

START_TEST(our_own_time_does_not_count)
{
	stream_set_timeout(stream, 200);
	stream_read_enable(stream, false);
	wait_ms(300);
	ck_assert_int_eq(ends, 0);
	stream_read_enable(stream, true);
	wait_ms(50);
	ck_assert_int_eq(ends, 0);
	while (ends == 0)
		loop_run(loop);
	ck_assert_int_eq(end_why, STREAM_TIMEOUT);
}
END_TEST

START_TEST(slow_reader_times_out)
{
	static uint8_t block[1 << 20];

	stream_set_timeout(stream, 50);
	stream_read_enable(stream, false);
	stream_write(stream, slice_of(block, sizeof block));
	while (ends == 0)
		loop_run(loop);
	ck_assert_int_eq(end_why, STREAM_TIMEOUT);
}
END_TEST

START_TEST(close_flushes_then_lingers)
{
	static uint8_t block[300000];
	struct buf got;

	buf_init(&got, 1 << 20);
	stream_write(stream, slice_of(block, sizeof block));
	stream_write_str(stream, "bye");
	stream_close(stream);
	stream_write_str(stream, "never");
	while (got.n < sizeof block + 3) {
		turns(1);
		drain(peer, &got);
	}
	ck_assert(slice_eq(slice_sub(buf_slice(&got), got.n - 3, got.n), SLICE("bye")));
	/* Our end of file is there; what the peer still sends is dropped. */
	ck_assert_int_eq(recv(peer, block, 1, 0), 0);
	send_all(peer, "too late", 8);
	turns(5);
	ck_assert_int_eq(ends, 0);
	ck_assert_int_eq(readies, 0);
	shutdown(peer, SHUT_WR);
	while (ends == 0)
		loop_run(loop);
	ck_assert_int_eq(end_why, STREAM_CLOSED);
	buf_fini(&got);
}
END_TEST

START_TEST(close_does_not_wait_forever)
{
	uint64_t before = clock_ms();

	act = ACT_CLOSE;
	send_all(peer, "QUIT\r\n", 6);
	while (ends == 0)
		loop_run(loop);
	ck_assert_int_eq(end_why, STREAM_CLOSED);
	ck_assert_uint_ge(clock_ms() - before, 4000);
	ck_assert_uint_le(clock_ms() - before, 8000);
}
END_TEST

START_TEST(close_does_not_read_forever)
{
	static uint8_t block[64 * 1024];
	size_t sent = 0;

	stream_close(stream);
	while (ends == 0 && sent < 4 * STREAM_DROPPED_BYTES_MAX) {
		ssize_t n = send(peer, block, sizeof block, MSG_NOSIGNAL);

		sent += n > 0 ? (size_t)n : 0;
		turns(1);
	}
	ck_assert_int_eq(end_why, STREAM_CLOSED);
	ck_assert_uint_gt(sent, STREAM_DROPPED_BYTES_MAX);
	ck_assert_uint_lt(sent, 2 * STREAM_DROPPED_BYTES_MAX);
}
END_TEST

START_TEST(free_in_on_ready)
{
	act = ACT_FREE;
	send_all(peer, "x", 1);
	loop_run(loop);
	ck_assert_ptr_null(stream);
	turns(5);
	ck_assert_int_eq(readies, 1);
	ck_assert_int_eq(ends, 0);
}
END_TEST

START_TEST(free_with_everything_queued)
{
	int fd = memory_file(1000);

	send_all(peer, "x", 1);
	stream_write_str(stream, "text");
	stream_write_file(stream, fd, 0, 1000);
	stream_write_str(stream, "text");
	stream_free(&stream);
	stream_free(&stream);
	close(fd);
	turns(3);
	ck_assert_int_eq(readies + ends, 0);
}
END_TEST

/* Relay: peer <-> stream <-> other. */
START_TEST(relay_both_ways)
{
	int fds[2];
	struct buf got;

	buf_init(&got, 1 << 20);
	act = ACT_LEAVE;
	pair(fds);
	send_all(peer, "early ", 6);
	turns(3);
	stream_relay(stream, fds[1]);
	readies = 0;
	send_all(peer, "late", 4);
	turns(3);
	drain(fds[0], &got);
	ck_assert(slice_eq(buf_slice(&got), SLICE("early late")));
	buf_reset(&got);
	send_all(fds[0], "answer", 6);
	turns(3);
	drain(peer, &got);
	ck_assert(slice_eq(buf_slice(&got), SLICE("answer")));
	ck_assert_int_eq(readies, 0);

	/* A half close goes through; the other direction stays open. */
	shutdown(peer, SHUT_WR);
	turns(3);
	ck_assert_int_eq(recv(fds[0], got.p, 1, 0), 0);
	send_all(fds[0], "more", 4);
	turns(3);
	buf_reset(&got);
	drain(peer, &got);
	ck_assert(slice_eq(buf_slice(&got), SLICE("more")));
	ck_assert_int_eq(ends, 0);
	close(fds[0]);
	while (ends == 0)
		loop_run(loop);
	ck_assert_int_eq(end_why, STREAM_EOF);
	buf_fini(&got);
}
END_TEST

START_TEST(relay_pushes_back_and_loses_nothing)
{
	const size_t n = 5000000;
	int fds[2];
	uint8_t *data = malloc(n);
	struct buf got;
	size_t sent = 0;

	buf_init(&got, n);
	for (size_t i = 0; i < n; i++)
		data[i] = (uint8_t)(i * 7 + i / 1000);
	pair(fds);
	stream_relay(stream, fds[1]);
	for (int side = 0; side < 2; side++) {
		int from = side ? fds[0] : peer, to = side ? peer : fds[0];

		/* Nobody reads: what the sender gets rid of is bounded. */
		sent = 0;
		for (int idle = 0; idle < 20; idle++) {
			ssize_t k = send(from, data + sent, n - sent, 0);

			if (k > 0)
				sent += (size_t)k;
			turns(1);
		}
		ck_assert_uint_lt(sent, 2000000);
		while (got.n < n) {
			drain(to, &got);
			ssize_t k = sent < n ? send(from, data + sent, n - sent, 0) : 0;

			if (k > 0)
				sent += (size_t)k;
			turns(1);
		}
		ck_assert(memcmp(got.p, data, n) == 0);
		buf_reset(&got);
	}
	free(data);
	buf_fini(&got);
	close(fds[0]);
}
END_TEST

START_TEST(relay_ends_with_the_other_side)
{
	int fds[2];
	char c;

	pair(fds);
	stream_relay(stream, fds[1]);
	send_all(fds[0], "bye", 3);
	close(fds[0]);
	turns(5);
	ck_assert_uint_eq(drain(peer, NULL), 3);
	ck_assert_int_eq(recv(peer, &c, 1, 0), 0);
	ck_assert_int_eq(ends, 0);
	close(peer);
	while (ends == 0)
		loop_run(loop);
	ck_assert_int_eq(end_why, STREAM_EOF);
	pair(fds);
	peer = fds[0];
	close(fds[1]);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("stream");
	TCase *c = tcase_create("stream");

	tcase_set_timeout(c, 30);
	tcase_add_checked_fixture(c, setup, teardown);
	tcase_add_test(c, connects_to_six);
	tcase_add_test(c, connects_to_four);
	tcase_add_loop_test(c, nobody_listens, 0, 2);
	tcase_add_test(c, input_arrives);
	tcase_add_test(c, input_is_bounded);
	tcase_add_test(c, reading_can_be_held);
	tcase_add_test(c, one_octet_at_a_time);
	tcase_add_test(c, output_pushes_back);
	tcase_add_test(c, output_has_an_end);
	tcase_add_test(c, files_in_order);
	tcase_add_test(c, short_file_is_an_error);
	tcase_add_test(c, end_of_input);
	tcase_add_test(c, end_waits_for_input_to_be_taken);
	tcase_add_test(c, reset_is_an_error);
	tcase_add_test(c, silence_times_out);
	tcase_add_test(c, our_own_time_does_not_count);
	tcase_add_test(c, slow_reader_times_out);
	tcase_add_test(c, close_flushes_then_lingers);
	tcase_add_test(c, close_does_not_read_forever);
	tcase_add_test(c, close_does_not_wait_forever);
	tcase_add_test(c, free_in_on_ready);
	tcase_add_test(c, free_with_everything_queued);
	tcase_add_test(c, relay_both_ways);
	tcase_add_test(c, relay_pushes_back_and_loses_nothing);
	tcase_add_test(c, relay_ends_with_the_other_side);
	suite_add_tcase(s, c);
	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed != 0;
}
