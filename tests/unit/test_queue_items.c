/*
 * The queue between deliver and transport, both played by the test, on a real directory and with a clock that the test sets: what is
 * tried when, what is told whom how often, and what of it outlasts a process.
 */
#include "common/config.h"
#include "common/mem.h"
#include "common/memfd.h"
#include "smtpd/queue.h"
#include "smtpd/queue_items.h"
#include "tests/role_fakes.h"
#include "tests/unit/tree.h"

#include <check.h>
#include <malloc.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MINUTE (60 * 1000)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)
#define SENT_MAX 2000
#define A_MESSAGE "Return-Path: <a@b>\r\nSubject: x\r\n\r\ny\r\n"

/* ---- the clock ---- */

static int64_t skew_ms;	     /* of all clocks */
static int64_t wall_skew_ms; /* of the time of day besides */

int
clock_gettime(clockid_t id, struct timespec *t)
{
	int64_t ms = skew_ms + (id == CLOCK_REALTIME ? wall_skew_ms : 0);

	if (syscall(SYS_clock_gettime, id, t) < 0)
		return -1;
	t->tv_sec += ms / 1000;
	t->tv_nsec += ms % 1000 * 1000000;
	if (t->tv_nsec >= 1000000000) {
		t->tv_nsec -= 1000000000;
		t->tv_sec++;
	}
	return 0;
}

/* At the end of a test, before Check looks how long it took. */
static void
over(void)
{
	skew_ms = wall_skew_ms = 0;
}

/* ---- the role ---- */

static char state_dir[] = "/tmp/queue-items-XXXXXX";

const char *
role_state_dir(void)
{
	return state_dir;
}

static bool may_end;
static int ended; /* with that status */

void
role_exit(int status)
{
	if (!may_end)
		ck_abort_msg("the queue ended with %d", status);
	ended = status;
}

/* ---- what the others heard ---- */

struct sent {
	uint64_t id;
	char queue_id[SMTP_QUEUE_ID_CHARS + 1];
	char destination[256];
	unsigned recipients;
	uint32_t sequence; /* of the first */
};

static struct sent sent[SENT_MAX];
static unsigned sent_count;
static uint64_t taken_id;
static bool refusing; /* transport reaches no server */
static struct sent item; /* the last that deliver got */
static char report_id[SMTP_QUEUE_ID_CHARS + 1];
static unsigned items_found, items_none;
static int added_class;
static unsigned added_count;
static uint64_t release_ms; /* of what is added */
static uint8_t report_flags; /* of the first recipient that the report is about */

static void
decode_to(struct slice in, struct sent *s)
{
	struct arena *a = arena_new(1u << 20);
	struct queue_item i;

	ck_assert(queue_item_decode(in, a, &i));
	s->recipients = i.count;
	s->sequence = i.recipients[0].sequence;
	report_flags = 0;
	for (unsigned k = i.count; k-- > 0;)
		if (i.recipients[k].flags & QUEUE_IN_REPORT)
			report_flags = i.recipients[k].flags;
	arena_free(&a);
}

static void
on_send(struct edge *e, struct msg_TRANSPORT_SEND *m)
{
	struct sent *s = &sent[sent_count++];

	ck_assert_uint_lt(sent_count, SENT_MAX);
	*s = (struct sent){.id = m->id};
	ck_assert(slice_cstr(m->queue_id, s->queue_id, sizeof s->queue_id));
	ck_assert(slice_cstr(m->destination, s->destination, sizeof s->destination));
	decode_to(m->item, s);
	if (refusing)
		ck_assert(IPC_SEND(e, TRANSPORT_RESULT, .id = m->id, .queue_id = m->queue_id, .reached = TRANSPORT_UNREACHABLE,
		    .results = SLICE("\0\0")));
}

static void
on_taken(struct edge *e, struct msg_TRANSPORT_TAKEN *m)
{
	(void)e;
	taken_id = m->id;
}

static void
on_due(struct edge *e, struct msg_QUEUE_DUE *m)
{
	(void)m;
	ck_assert(IPC_SEND(e, QUEUE_NEXT, .id = 1));
}

static void
on_item(struct edge *e, struct msg_QUEUE_ITEM *m)
{
	(void)e;
	if (!m->found) {
		items_none++;
		return;
	}
	items_found++;
	item = (struct sent){0};
	ck_assert(slice_cstr(m->queue_id, item.queue_id, sizeof item.queue_id));
	ck_assert(slice_cstr(m->report_id, report_id, sizeof report_id));
	decode_to(m->item, &item);
}

static void
on_added(struct edge *e, struct msg_QUEUE_ADDED *m)
{
	(void)e;
	added_class = (int)m->class;
	added_count++;
}

static void
on_result_reply(struct edge *e, struct msg_QUEUE_RESULT_REPLY *m)
{
	(void)e;
	(void)m;
}

static char page_place[64]; /* where the list goes on; empty: nowhere */
static unsigned page_rows;

static void
on_page(struct edge *e, struct msg_QUEUE_ADMIN_REPLY *m)
{
	(void)e;
	ck_assert(slice_cstr(m->more ? m->text : SLICE(""), page_place, sizeof page_place));
	for (size_t i = 0; i < m->json.n; i++)
		page_rows += m->json.p[i] == '\n';
}

static const struct ipc_dispatch deliver_hears = {
    .QUEUE_ADDED = on_added, .QUEUE_DUE = on_due, .QUEUE_ITEM = on_item, .QUEUE_RESULT_REPLY = on_result_reply};
static const struct ipc_dispatch admin_hears = {.QUEUE_ADMIN_REPLY = on_page};
static const struct ipc_dispatch transport_hears = {.TRANSPORT_SEND = on_send, .TRANSPORT_TAKEN = on_taken};
static const struct ipc_dispatch from_deliver = {.QUEUE_ADD = queue_on_add, .QUEUE_NEXT = queue_on_next, .QUEUE_RESULT = queue_on_result};

/* ---- edges ---- */

static void
ours_down(struct edge *e, void *arg)
{
	enum role role = edge_peer(e)->role;

	(void)arg;
	queue_add_edge_down(e);
	edge_free(&edges[role]);
	if (role == ROLE_DELIVER)
		queue_deliver_down();
	else
		queue_transport_down();
}

static void
theirs_down(struct edge *e, void *arg)
{
	(void)arg;
	ck_abort_msg("the queue closed its edge to %s", role_info(edge_peer(e)->role)->name);
}

static void
join(enum role role)
{
	static const struct edge_events down = {.on_down = ours_down};
	static const struct edge_events fake_down = {.on_down = theirs_down};
	const struct ipc_dispatch *ours = role == ROLE_DELIVER ? &from_deliver : role == ROLE_ADMIN ? &queue_from_admin : &queue_from_transport;
	const struct ipc_dispatch *theirs = role == ROLE_DELIVER ? &deliver_hears : role == ROLE_ADMIN ? &admin_hears : &transport_hears;
	int fd[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
	edges[role] = edge_new(loop, fd[0], ROLE_QUEUE, (struct edge_peer){role, 0, 1}, ours, &down, NULL);
	fakes[role] = edge_new(loop, fd[1], role, (struct edge_peer){ROLE_QUEUE, 0, 1}, theirs, &fake_down, NULL);
}

#define ROUNDS 12
static struct loop_timer *round_timer;
static unsigned rounds;

static void
on_round(void *arg)
{
	(void)arg;
	if (++rounds == ROUNDS)
		loop_stop(loop);
	else
		loop_timer_set(round_timer, 1);
}

/* Lets all happen that happens now: a question, its answer and what comes of that take a few rounds. */
static void
settle(void)
{
	rounds = 0;
	loop_timer_set(round_timer, 0);
	loop_run(loop);
}

/* Time goes by, in steps in which each timer has its turn. */
static void
pass(int64_t ms)
{
	for (int64_t step; ms > 0; ms -= step) {
		step = ms > 2 * HOUR ? HOUR : ms > 10 * MINUTE ? 10 * MINUTE : ms;
		skew_ms += step;
		settle();
	}
}

static void
kill_role(enum role role)
{
	edge_free(&fakes[role]);
	settle();
	ck_assert_ptr_null(edges[role]);
}

static void
start_transport(void)
{
	join(ROLE_TRANSPORT);
	ck_assert(IPC_SEND(fakes[ROLE_TRANSPORT], TRANSPORT_ROOM, .pieces = 100));
	settle();
}

static void
set_up(void)
{
	char path[64];
	struct err e;

	log_init("test", LOG_BUG);
	ck_assert_ptr_nonnull(mkdtemp(state_dir));
	(void)snprintf(path, sizeof path, "%s/queue", state_dir);
	ck_assert_int_eq(mkdir(path, 0700), 0);
	self.role = ROLE_QUEUE;
	loop = loop_new();
	config = config_new();
	round_timer = loop_timer_new(loop, on_round, NULL);
	ck_assert_int_eq(queue_items_init(&e), 0);
	join(ROLE_DELIVER);
	start_transport();
}

static void
tear_down(void)
{
	for (unsigned r = 0; r < ROLE_COUNT; r++) {
		edge_free(&edges[r]);
		edge_free(&fakes[r]);
	}
	queue_table_close();
	queue_items_fini();
	ck_assert_int_eq(tree_remove(state_dir), 0);
}

/* The process ends, and the next one begins. */
static void
restart_queue(void)
{
	struct err e;

	for (unsigned r = 0; r < ROLE_COUNT; r++) {
		edge_free(&edges[r]);
		edge_free(&fakes[r]);
	}
	queue_transport_down();
	queue_table_close();
	queue_items_fini();
	ck_assert_int_eq(queue_items_init(&e), 0);
	join(ROLE_DELIVER);
	start_transport();
}

/* ---- what the others say ---- */

static void
add_text(const char *id, const char *from, struct queue_recipient *to, unsigned count, uint8_t flags, const char *text)
{
	struct queue_item i = {.internal_date = queue_now_ms() / 1000, .session = SLICE("s"), .mail_from = slice_str(from), .flags = flags,
	    .release_ms = release_ms, .recipients = to, .count = (uint16_t)count};
	uint8_t hash[32];
	struct err e;
	int message = memfd_of(slice_str(text), &e), summary = memfd_of(SLICE("summary"), &e);
	struct buf b;

	SHA256((const uint8_t *)text, strlen(text), hash);
	buf_init(&b, QUEUE_ITEM_BYTES_MAX);
	ck_assert(queue_item_encode(&i, &b));
	added_class = -1;
	ck_assert(IPC_SEND(fakes[ROLE_DELIVER], QUEUE_ADD, .id = 7, .queue_id = slice_str(id), .item = buf_slice(&b),
	    .bytes = strlen(text), .sha256 = slice_of(hash, sizeof hash), .message = message, .summary = summary));
	buf_fini(&b);
	(void)close(message);
	(void)close(summary);
	settle();
	ck_assert_int_eq(added_class, ERR_NONE);
}

/* To one recipient of another server each, or of this one when the address is "here". */
static void
add(const char *id, const char *const *addresses, uint8_t flags)
{
	struct queue_recipient to[8];
	unsigned n = 0;

	for (; addresses[n] != NULL; n++)
		to[n] = (struct queue_recipient){.sequence = n, .state = QUEUE_PENDING, .address = slice_str(addresses[n]),
		    .account = strncmp(addresses[n], "here@", 5) == 0 ? 5 : 0};
	add_text(id, "from@ours.example", to, n, flags, A_MESSAGE);
}

/* Without time for what comes of it. */
static void
say_result(uint64_t id, const char *queue_id, enum transport_reached reached, uint32_t sequence, enum queue_state state)
{
	struct queue_result v = {.sequence = sequence, .state = state, .status = SLICE("4.0.0"), .text = SLICE("later")};
	struct queue_results r = {.v = &v, .count = 1};
	struct buf b;

	buf_init(&b, QUEUE_ITEM_BYTES_MAX);
	ck_assert(queue_results_encode(&r, &b));
	ck_assert(IPC_SEND(fakes[ROLE_TRANSPORT], TRANSPORT_RESULT, .id = id, .queue_id = slice_str(queue_id), .reached = (uint8_t)reached,
	    .results = buf_slice(&b)));
	buf_fini(&b);
}

static void
remote_result(uint64_t id, const char *queue_id, enum transport_reached reached, uint32_t sequence, enum queue_state state)
{
	say_result(id, queue_id, reached, sequence, state);
	settle();
	ck_assert_uint_eq(taken_id, id);
}

static void
result_of_last(enum transport_reached reached, enum queue_state state)
{
	const struct sent *s = &sent[sent_count - 1];

	remote_result(s->id, s->queue_id, reached, s->sequence, state);
}

static void
report_result(const char *queue_id, const char *id, enum err_class class)
{
	ck_assert(IPC_SEND(fakes[ROLE_DELIVER], QUEUE_RESULT, .id = 9, .queue_id = slice_str(queue_id), .report_id = slice_str(id),
	    .class = class));
	settle();
}

#define ID_1 "0000000000000001"
#define ID_2 "0000000000000002"
#define ID_3 "0000000000000003"
#define TO(...) ((const char *const[]){__VA_ARGS__, NULL})

static void
hold(const char *id, bool on)
{
	struct queue_message *m = queue_items_find(slice_str(id));
	struct queue_change *c = queue_change_begin(m);
	struct err e;

	ck_assert_ptr_nonnull(c);
	c->item.flags = (uint8_t)(on ? c->item.flags | QUEUE_HELD : c->item.flags & ~QUEUE_HELD);
	ck_assert_int_eq(queue_change_now(c, &e), 0);
	queue_items_reschedule(m);
	settle();
}

/* ---- tests ---- */

START_TEST(test_done)
{
	add(ID_1, TO("x@a.example", "y@b.example"), 0);
	ck_assert_uint_eq(sent_count, 2);
	result_of_last(TRANSPORT_REACHED, QUEUE_DONE);
	ck_assert_ptr_nonnull(queue_items_find(SLICE(ID_1)));
	remote_result(sent[0].id, ID_1, TRANSPORT_REACHED, sent[0].sequence, QUEUE_DONE);
	ck_assert_ptr_null(queue_items_find(SLICE(ID_1)));
	/* What is said again of it is taken and has no effect. */
	remote_result(sent[0].id, ID_1, TRANSPORT_REACHED, sent[0].sequence, QUEUE_DONE);
	ck_assert_uint_eq(sent_count, 2);
	/* deliver has not heard the answer, and asks again: it was here. */
	add(ID_1, TO("x@a.example", "y@b.example"), 0);
	ck_assert_uint_eq(sent_count, 2);
	ck_assert_ptr_null(queue_items_find(SLICE(ID_1)));
	over();
}
END_TEST

/* A result says something of its own recipients alone. */
START_TEST(test_own_recipients)
{
	add(ID_1, TO("x@a.example", "y@b.example"), 0);
	for (unsigned i = 0; i < 2; i++)
		remote_result(sent[i].id, ID_1, TRANSPORT_REACHED, 1 - sent[i].sequence, QUEUE_DONE);
	ck_assert_ptr_nonnull(queue_items_find(SLICE(ID_1)));
	pass(2 * HOUR);
	ck_assert_uint_eq(sent_count, 4);
	over();
}
END_TEST

/* While the report of a failure is under way the time for that of the delay comes: it is told afterwards. */
START_TEST(test_delay_behind_failure)
{
	unsigned before;

	add(ID_1, TO("x@a.example", "y@b.example"), 0);
	for (unsigned i = 0; i < 2; i++)
		remote_result(sent[i].id, ID_1, TRANSPORT_REACHED, sent[i].sequence, sent[i].sequence ? QUEUE_PENDING : QUEUE_FAILED);
	pass(3000);
	ck_assert_uint_eq(items_found, 1);
	ck_assert(report_flags & QUEUE_REPORTED_FAILURE);
	/* deliver cannot make it for now; meanwhile the other destination is tried until it is late. */
	for (unsigned i = 0; i < 40; i++) {
		report_result(ID_1, report_id, ERR_TEMP);
		before = sent_count;
		pass(10 * MINUTE);
		if (sent_count > before)
			result_of_last(TRANSPORT_REACHED, QUEUE_PENDING);
	}
	pass(HOUR);
	report_result(ID_1, report_id, ERR_NONE);
	before = items_found;
	pass(3000);
	ck_assert_uint_eq(items_found, before + 1);
	ck_assert(report_flags & QUEUE_REPORTED_DELAY);
	over();
}
END_TEST

/* A message that is held while it is out comes back, and stays. */
START_TEST(test_held_comes_back)
{
	add(ID_1, TO("x@a.example", "here@ours.example"), 0);
	ck_assert(sent_count == 1 && items_found == 1);
	hold(ID_1, true);
	kill_role(ROLE_TRANSPORT);
	kill_role(ROLE_DELIVER);
	join(ROLE_DELIVER);
	start_transport();
	pass(2 * HOUR);
	ck_assert_uint_eq(sent_count, 1);
	ck_assert_uint_eq(items_found, 1);
	hold(ID_1, false);
	ck_assert_uint_eq(sent_count, 2);
	ck_assert_uint_eq(items_found, 2);
	hold(ID_1, true);
	result_of_last(TRANSPORT_RETURNED, QUEUE_PENDING);
	pass(2 * HOUR);
	ck_assert_uint_eq(sent_count, 2);
	hold(ID_1, false);
	ck_assert_uint_eq(sent_count, 3);
	over();
}
END_TEST

/* A report that can never be made is given up some time, and the message with it. */
START_TEST(test_report_for_ever)
{
	add(ID_1, TO("x@a.example"), 0);
	result_of_last(TRANSPORT_REACHED, QUEUE_FAILED);
	for (unsigned i = 0; i < 20 && queue_items_find(SLICE(ID_1)) != NULL; i++) {
		pass(12 * HOUR);
		report_result(ID_1, report_id, ERR_TEMP);
	}
	ck_assert_ptr_null(queue_items_find(SLICE(ID_1)));
	ck_assert_uint_gt(items_found, 5);
	over();
}
END_TEST

/* deliver dies when the queue has the report, and before it says so; the report leaves meanwhile: it is not made again. */
START_TEST(test_report_once)
{
	struct queue_recipient to = {.state = QUEUE_PENDING, .address = SLICE("from@c.example"), .notify = SMTP_NOTIFY_NEVER};
	char id[SMTP_QUEUE_ID_CHARS + 1];

	add(ID_1, TO("x@a.example"), 0);
	result_of_last(TRANSPORT_REACHED, QUEUE_FAILED);
	pass(3000);
	ck_assert_uint_eq(items_found, 1);
	memcpy(id, report_id, sizeof id);
	add_text(id, "", &to, 1, 0, "a report");
	ck_assert_uint_eq(sent_count, 2);
	result_of_last(TRANSPORT_REACHED, QUEUE_DONE);
	ck_assert_ptr_null(queue_items_find(slice_str(id)));
	if (_i == 0) {
		kill_role(ROLE_DELIVER);
		join(ROLE_DELIVER);
	} else {
		restart_queue();
	}
	pass(5000);
	ck_assert_uint_eq(items_found, 1);
	ck_assert_ptr_null(queue_items_find(SLICE(ID_1)));
	over();
}
END_TEST

/* The answer to a report that was given out twice does not end the next one. */
START_TEST(test_stale_report)
{
	char first[SMTP_QUEUE_ID_CHARS + 1];

	add(ID_1, TO("x@a.example", "y@b.example"), 0);
	remote_result(sent[0].id, ID_1, TRANSPORT_REACHED, sent[0].sequence, QUEUE_FAILED);
	pass(3000);
	memcpy(first, report_id, sizeof first);
	report_result(ID_1, first, ERR_NONE);
	remote_result(sent[1].id, ID_1, TRANSPORT_REACHED, sent[1].sequence, QUEUE_FAILED);
	pass(3000);
	ck_assert_str_ne(first, report_id);
	report_result(ID_1, first, ERR_NONE);
	ck_assert_ptr_nonnull(queue_items_find(SLICE(ID_1)));
	report_result(ID_1, report_id, ERR_NONE);
	ck_assert_ptr_null(queue_items_find(SLICE(ID_1)));
	over();
}
END_TEST

/* The clock was a year ahead and is set right. */
/* What may go without what the domain's policy demands does not wait because what may not has to (RFC 8689 4.2.2). */
START_TEST(test_tls_optional)
{
	add(ID_1, TO("x@a.example"), 0);
	result_of_last(TRANSPORT_UNREACHABLE, QUEUE_PENDING);
	add(ID_2, TO("x@a.example", "y@b.example"), QUEUE_TLS_OPTIONAL);
	ck_assert_uint_eq(sent_count, 3);
	for (unsigned i = 1; i < 3; i++) {
		ck_assert_str_eq(sent[i].destination, sent[i].sequence == 0 ? "a.example" : "b.example");
		remote_result(sent[i].id, ID_2, TRANSPORT_REACHED, sent[i].sequence, QUEUE_DONE);
	}
	ck_assert_ptr_null(queue_items_find(SLICE(ID_2)));
	ck_assert_uint_eq(sent_count, 3);
	pass(2 * HOUR);
	ck_assert_uint_eq(sent_count, 4);
	over();
}
END_TEST

/* What waits behind a destination that sleeps has that in its time line once for each sleep; what was tried does not come back before. */
START_TEST(test_asleep)
{
	const struct queue_piece *tried;

	add(ID_1, TO("x@a.example"), 0);
	add(ID_2, TO("y@a.example"), 0);
	ck_assert_uint_eq(sent_count, 1);
	ck_assert_uint_eq(recorded_count, 0);
	result_of_last(TRANSPORT_UNREACHABLE, QUEUE_PENDING);
	ck_assert_uint_eq(recorded_count, 1);
	ck_assert_str_eq(recorded_event, "queue-asleep");
	ck_assert_ptr_nonnull(strstr(recorded_fields, "id=" ID_2 " destination=a.example next="));
	add(ID_3, TO("z@a.example"), 0);
	ck_assert_uint_eq(recorded_count, 2);
	ck_assert_ptr_nonnull(strstr(recorded_fields, "id=" ID_3));
	tried = queue_items_find(SLICE(ID_1))->pieces;
	for (unsigned i = 0; i < 3; i++) {
		unsigned before = recorded_count;

		ck_assert(tried->place == QUEUE_WAITING && tried->when_ms >= queue_plan_asleep_until_ms(tried));
		pass((int64_t)(queue_plan_asleep_until_ms(tried) - queue_now_ms()) + 1000);
		ck_assert_uint_eq(sent_count, i + 2);
		result_of_last(TRANSPORT_UNREACHABLE, QUEUE_PENDING);
		tried = queue_items_find(slice_str(sent[i + 1].queue_id))->pieces;
		/* Until just before the end of the sleep the two others have been due. */
		pass((int64_t)(queue_plan_asleep_until_ms(tried) - queue_now_ms()) - 2000);
		ck_assert_uint_eq(recorded_count, before + 2);
	}
	over();
}
END_TEST

/* Nothing of it is tried before its time, nor by hand; its lifetime begins then. */
START_TEST(test_future_release)
{
	release_ms = queue_now_ms() + (uint64_t)10 * DAY;
	add(ID_1, TO("x@a.example", "here@ours.example"), 0);
	release_ms = 0;
	if (_i == 1)
		restart_queue();
	pass((int64_t)10 * DAY - HOUR);
	ck_assert_uint_eq(queue_items_retry(NULL), 0);
	hold(ID_1, true);
	hold(ID_1, false);
	ck_assert_uint_eq(sent_count, 0);
	ck_assert_ptr_null(queue_items_plan() ? queue_plan_next_here(queue_items_plan()) : NULL);
	pass(HOUR);
	ck_assert_uint_eq(sent_count, 1);
	result_of_last(TRANSPORT_REACHED, QUEUE_PENDING);
	ck_assert_ptr_nonnull(queue_items_find(SLICE(ID_1)));
	ck_assert(queue_items_find(SLICE(ID_1))->release_ms > 0);
	pass(2 * HOUR);
	ck_assert_uint_eq(sent_count, 2);
	over();
}
END_TEST

START_TEST(test_clock_back)
{
	wall_skew_ms = (int64_t)365 * DAY;
	add(ID_1, TO("x@a.example"), 0);
	result_of_last(TRANSPORT_REACHED, QUEUE_PENDING);
	add(ID_2, TO("x@b.example"), 0);
	result_of_last(TRANSPORT_UNREACHABLE, QUEUE_PENDING);
	ck_assert_uint_eq(sent_count, 2);
	wall_skew_ms = 0;
	if (_i == 1)
		restart_queue();
	pass(2 * HOUR);
	ck_assert_uint_eq(sent_count, 4);
	over();
}
END_TEST

/* Many for one destination that refuses at once: when their time is over each has failed. */
START_TEST(test_expiry_of_many)
{
	char id[SMTP_QUEUE_ID_CHARS + 1];

	refusing = true;
	for (unsigned i = 0; i < 40; i++) {
		(void)snprintf(id, sizeof id, "%016u", i);
		add_text(id, "from@ours.example", &(struct queue_recipient){.state = QUEUE_PENDING, .address = SLICE("x@a.example"),
		    .notify = SMTP_NOTIFY_NEVER}, 1, 0, A_MESSAGE);
	}
	pass((int64_t)5 * DAY - HOUR);
	ck_assert_uint_ge(sent_count, 100);
	for (unsigned i = 0; i < 40; i++) {
		(void)snprintf(id, sizeof id, "%016u", i);
		ck_assert_ptr_nonnull(queue_items_find(slice_str(id)));
	}
	pass(3 * HOUR);
	ck_assert_ptr_null(queue_items_first());
	over();
}
END_TEST

/* Whatever ends in between, nothing is lost and what was done is not done again. */
START_TEST(test_restarts)
{
	add(ID_1, TO("x@a.example", "y@b.example", "here@ours.example"), 0);
	ck_assert_uint_eq(sent_count, 2);
	remote_result(sent[0].id, ID_1, TRANSPORT_REACHED, sent[0].sequence, QUEUE_DONE);
	restart_queue();
	ck_assert_uint_eq(sent_count, 3);
	ck_assert_str_eq(sent[2].destination, sent[1].destination);
	kill_role(ROLE_TRANSPORT);
	start_transport();
	pass(3000);
	ck_assert_uint_eq(sent_count, 4);
	result_of_last(TRANSPORT_REACHED, QUEUE_DONE);
	ck_assert_ptr_nonnull(queue_items_find(SLICE(ID_1)));
	over();
}
END_TEST

/* Octets that this process has written so far. */
static uint64_t
written(void)
{
	char line[64] = "";
	FILE *f = fopen("/proc/self/io", "r");
	uint64_t n = 0;

	ck_assert_ptr_nonnull(f);
	while (strncmp(line, "wchar: ", 7) != 0)
		ck_assert_ptr_nonnull(fgets(line, sizeof line, f));
	(void)fclose(f);
	ck_assert(slice_u64(slice_sub(slice_str(line), 7, strcspn(line, "\n")), UINT64_MAX, &n));
	return n;
}

/* As many as may be out when nobody knows whether they answer. */
#define DESTINATIONS 50

/* What comes of many destinations at once changes the record once, and each has its own result. */
START_TEST(test_many_destinations)
{
	struct queue_recipient to[2 * DESTINATIONS];
	char address[2 * DESTINATIONS][32];
	uint64_t before;

	for (unsigned i = 0; i < 2 * DESTINATIONS; i++) {
		(void)snprintf(address[i], sizeof address[i], "u%u@D%u.Example", i, i % DESTINATIONS);
		to[i] = (struct queue_recipient){.sequence = i, .state = QUEUE_PENDING, .address = slice_str(address[i]), .notify = SMTP_NOTIFY_NEVER};
	}
	add_text(ID_1, "from@ours.example", to, 2 * DESTINATIONS, 0, A_MESSAGE);
	ck_assert_uint_eq(sent_count, DESTINATIONS);
	before = written();
	for (unsigned i = 0; i < DESTINATIONS; i++) {
		ck_assert_uint_eq(sent[i].recipients, 2);
		ck_assert_uint_lt(sent[i].sequence, DESTINATIONS);
		/* Of one of its two, and of somebody else's, which does not count. */
		say_result(sent[i].id, ID_1, TRANSPORT_REACHED, sent[i].sequence + (i % 2 ? DESTINATIONS : 0), QUEUE_DONE);
	}
	settle();
	ck_assert_uint_lt(written() - before, 8u * 2 * DESTINATIONS * 100);
	pass(2 * HOUR);
	ck_assert_uint_eq(sent_count, 2 * DESTINATIONS);
	for (unsigned i = DESTINATIONS; i < 2 * DESTINATIONS; i++) {
		ck_assert_uint_eq(sent[i].recipients, 1);
		remote_result(sent[i].id, ID_1, TRANSPORT_REACHED, sent[i].sequence, QUEUE_DONE);
	}
	ck_assert_ptr_null(queue_items_find(SLICE(ID_1)));
	over();
}
END_TEST

/* Whatever the order in which pieces come back, later or done, each is known. */
START_TEST(test_any_order)
{
	static const char *const to[] = {"a@a.example", "b@b.example", "c@c.example", "d@d.example", "e@e.example", "here@ours.example", NULL};
	bool done[5] = {false};

	add(ID_1, to, 0);
	ck_assert_uint_eq(sent_count, 5);
	srand((unsigned)_i + 1);
	for (unsigned next = 0, tries = 0; next < sent_count; next++) {
		unsigned pick = next + (unsigned)rand() % (sent_count - next);
		struct sent s = sent[pick];

		sent[pick] = sent[next];
		sent[next] = s;
		done[s.sequence] = rand() % 3 == 0 || ++tries > 30;
		remote_result(s.id, ID_1, TRANSPORT_REACHED, s.sequence, done[s.sequence] ? QUEUE_DONE : QUEUE_PENDING);
		if (next + 1 == sent_count || rand() % 8 == 0)
			pass(HOUR);
	}
	for (unsigned i = 0; i < 5; i++)
		ck_assert_msg(done[i], "%u is not out any more", i);
	over();
}
END_TEST

/* What cannot be written is kept, and transport keeps it too; nothing is tried again meanwhile. */
START_TEST(test_unwritten)
{
	static const char long_id[SMTP_ENVID_CHARS_MAX + 2] = {[0 ... SMTP_ENVID_CHARS_MAX] = 'x'};
	struct queue_message *m;
	struct queue_change *c;

	add(ID_1, TO("x@a.example", "y@b.example"), 0);
	m = queue_items_find(SLICE(ID_1));
	c = queue_change_begin(m);
	ck_assert_ptr_nonnull(c);
	c->item.envid = slice_str(long_id);
	queue_change_end(c);
	say_result(sent[0].id, ID_1, TRANSPORT_REACHED, sent[0].sequence, QUEUE_DONE);
	settle();
	ck_assert_uint_eq(taken_id, 0);
	pass(2 * HOUR);
	ck_assert_uint_eq(taken_id, 0);
	say_result(sent[1].id, ID_1, TRANSPORT_REACHED, sent[1].sequence, QUEUE_PENDING);
	settle();
	ck_assert_uint_eq(sent_count, 2);
	c = queue_change_begin(m);
	c->item.envid = slice_of(NULL, 0);
	pass(3000);
	ck_assert_uint_eq(taken_id, sent[1].id);
	pass(2 * HOUR);
	ck_assert_uint_eq(sent_count, 3);
	ck_assert_str_eq(sent[2].destination, sent[1].destination);
	result_of_last(TRANSPORT_REACHED, QUEUE_DONE);
	ck_assert_ptr_null(queue_items_find(SLICE(ID_1)));
	over();
}
END_TEST

/* Of so many records that cannot be written the process ends, and tells transport nothing: the next one hears it all again. */
#define UNWRITTEN_MAX 64

START_TEST(test_too_many_unwritten)
{
	static const char long_id[SMTP_ENVID_CHARS_MAX + 2] = {[0 ... SMTP_ENVID_CHARS_MAX] = 'x'};
	char id[UNWRITTEN_MAX + 1][SMTP_QUEUE_ID_CHARS + 1], address[32];

	ck_assert(IPC_SEND(fakes[ROLE_TRANSPORT], TRANSPORT_ROOM, .pieces = 4 * UNWRITTEN_MAX));
	may_end = true;
	for (unsigned i = 0; i <= UNWRITTEN_MAX; i++) {
		(void)snprintf(id[i], sizeof id[i], "%016u", i);
		(void)snprintf(address, sizeof address, "x@a%u.example", i);
		add(id[i], TO(address), 0);
		ck_assert_uint_eq(sent_count, i + 1);
	}
	for (unsigned i = 0; i <= UNWRITTEN_MAX; i++) {
		struct queue_change *c = queue_change_begin(queue_items_find(slice_str(id[i])));

		ck_assert_int_eq(ended, 0);
		ck_assert_ptr_nonnull(c);
		c->item.envid = slice_str(long_id);
		queue_change_end(c);
	}
	ck_assert_int_eq(ended, 1);
	/* Should the disk take them now, what the last one said is lost to this process all the same. */
	for (unsigned i = 0; i < UNWRITTEN_MAX; i++)
		queue_change_begin(queue_items_find(slice_str(id[i])))->item.envid = slice_of(NULL, 0);
	say_result(sent[UNWRITTEN_MAX].id, id[UNWRITTEN_MAX], TRANSPORT_REACHED, 0, QUEUE_DONE);
	settle();
	ck_assert_uint_eq(taken_id, 0);
	ck_assert(!queue_changes_write());
	over();
}
END_TEST

/* A change at once that cannot be written is none. */
START_TEST(test_not_changed)
{
	static const char long_id[SMTP_ENVID_CHARS_MAX + 2] = {[0 ... SMTP_ENVID_CHARS_MAX] = 'x'};
	struct queue_message *m;
	struct queue_change *c;
	struct err e = {0};

	add(ID_1, TO("x@a.example"), 0);
	m = queue_items_find(SLICE(ID_1));
	c = queue_change_begin(m);
	ck_assert_ptr_nonnull(c);
	c->item.envid = slice_str(long_id);
	c->item.flags |= QUEUE_HELD;
	ck_assert_int_eq(queue_change_now(c, &e), -1);
	ck_assert(!m->held && m->change == NULL);
	result_of_last(TRANSPORT_REACHED, QUEUE_PENDING);
	pass(2 * HOUR);
	ck_assert_uint_eq(sent_count, 2);
	over();
}
END_TEST

static void
ask_for(const char *verb, const char *place)
{
	ck_assert(IPC_SEND(fakes[ROLE_ADMIN], QUEUE_ADMIN, .id = 1, .verb = slice_str(verb), .arg = slice_str(place)));
	settle();
}

static void
list_from(const char *place)
{
	ask_for("list", place);
}

/* A list in pages goes on although the last message of a page has gone meanwhile. */
START_TEST(test_list)
{
	char id[SMTP_QUEUE_ID_CHARS + 1];
	unsigned gone = 0, pages = 0;

	for (unsigned i = 0; i < 60; i++) {
		(void)snprintf(id, sizeof id, "%016u", i);
		add(id, TO("a@a.example", "b@b.example", "c@c.example", "d@d.example", "e@e.example", "f@f.example", "g@g.example"), 0);
	}
	join(ROLE_ADMIN);
	list_from("");
	while (page_place[0] != '\0') {
		struct queue_message *m = queue_items_find(slice_str(page_place));
		struct queue_change *c = queue_change_begin(m);
		struct err e;

		ck_assert_ptr_nonnull(c);
		for (uint16_t i = 0; i < c->item.count; i++)
			c->item.recipients[i].state = QUEUE_DONE;
		ck_assert_int_eq(queue_change_now(c, &e), 0);
		ck_assert_ptr_null(queue_items_find(slice_str(page_place)));
		gone++;
		list_from(page_place);
		ck_assert_uint_lt(pages++, 100);
	}
	ck_assert_uint_ge(gone, 1);
	ck_assert_uint_eq(page_rows, 60);
	edge_free(&edges[ROLE_ADMIN]);
	edge_free(&fakes[ROLE_ADMIN]);
	over();
}
END_TEST

/* One message among others, in as many parts as it takes; one that has gone is nothing. */
START_TEST(test_show)
{
	struct queue_recipient to[350];
	unsigned parts = 0;

	for (unsigned i = 0; i < 350; i++)
		to[i] = (struct queue_recipient){
		    .sequence = i, .state = QUEUE_PENDING, .address = SLICE("somebody-with-a-long-name@somewhere.else.example")};
	add(ID_1, TO("x@a.example"), 0);
	add_text(ID_2, "from@ours.example", to, 350, 0, A_MESSAGE);
	add(ID_3, TO("x@a.example"), 0);
	join(ROLE_ADMIN);
	page_rows = 0;
	ask_for("show", ID_2);
	for (; page_place[0] != '\0'; parts++) {
		ck_assert(slice_starts(slice_str(page_place), SLICE(ID_2 " ")));
		ck_assert_uint_eq(page_rows, parts + 1);
		ask_for("show", page_place);
	}
	ck_assert_uint_ge(parts, 1);
	ck_assert_uint_eq(page_rows, parts + 1);
	ask_for("show", ID_1);
	ck_assert_uint_eq(page_rows, parts + 2);
	ck_assert_str_eq(page_place, "");
	ask_for("show", "zzzzzzzzzzzzzzzz");
	ask_for("show", "");
	ck_assert_uint_eq(page_rows, parts + 2);
	edge_free(&edges[ROLE_ADMIN]);
	edge_free(&fakes[ROLE_ADMIN]);
	over();
}
END_TEST

/* ---- many ---- */

/* A queue of some size: so many messages of so many recipients each, for 1,000 destinations in all. */
struct scale {
	unsigned messages, recipients;
};

#define SCALE_DESTINATIONS 1000
#define SCALE_STEPS 1000
#define SCALE_RECIPIENTS_MAX 10
/* What a recipient may take in memory, with its share of the message; and the index's cache, whatever it holds. */
#define SCALE_RECIPIENT_BYTES_MAX 512
#define SCALE_CACHE_BYTES (16u << 20)
/* A step among many may take so many times the time of one among few: the logarithm, and memory that is not in the processor's cache. */
#define SCALE_SLOWER_MAX 8

static const struct scale few = {1000, 1};
/* All of it by MAILSTEAD_SCALE=all. */
static const struct scale slices[] = {{2000, 10}, {20000, 1}};
static const struct scale wholes[] = {{100000, 10}, {1000000, 1}};

static const struct scale *
scale_of(int i)
{
	const char *all = getenv("MAILSTEAD_SCALE");

	return all != NULL && strcmp(all, "all") == 0 ? &wholes[i] : &slices[i];
}

static double
cpu_ms(void)
{
	struct timespec t;

	ck_assert_int_eq(syscall(SYS_clock_gettime, CLOCK_PROCESS_CPUTIME_ID, &t), 0);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* One round of the loop. */
static void
turn(void)
{
	rounds = ROUNDS - 1;
	loop_timer_set(round_timer, 0);
	loop_run(loop);
}

static void
fill(const struct scale *s, unsigned destinations)
{
	struct queue_recipient to[SCALE_RECIPIENTS_MAX];
	char address[SCALE_RECIPIENTS_MAX][40], id[SMTP_QUEUE_ID_CHARS + 1];
	uint8_t hash[32];
	struct err e;
	int message = memfd_of(SLICE(A_MESSAGE), &e), summary = memfd_of(SLICE("summary"), &e);
	unsigned number = 0;

	SHA256((const uint8_t *)A_MESSAGE, strlen(A_MESSAGE), hash);
	added_count = 0;
	for (unsigned i = 0; i < s->messages; i++) {
		struct queue_item item_to = {.internal_date = queue_now_ms() / 1000, .session = SLICE("s"), .mail_from = SLICE("from@ours.example"),
		    .recipients = to, .count = (uint16_t)s->recipients};
		struct buf b;

		for (unsigned k = 0; k < s->recipients; k++) {
			(void)snprintf(address[k], sizeof address[k], "user@d%03u.example", number++ % destinations);
			to[k] = (struct queue_recipient){.sequence = k, .state = QUEUE_PENDING, .address = slice_str(address[k]), .notify = SMTP_NOTIFY_NEVER};
		}
		(void)snprintf(id, sizeof id, "%016u", s->messages * 10 + i);
		buf_init(&b, QUEUE_ITEM_BYTES_MAX);
		ck_assert(queue_item_encode(&item_to, &b));
		ck_assert(IPC_SEND(fakes[ROLE_DELIVER], QUEUE_ADD, .id = i, .queue_id = slice_str(id), .item = buf_slice(&b),
		    .bytes = strlen(A_MESSAGE), .sha256 = slice_of(hash, sizeof hash), .message = message, .summary = summary));
		buf_fini(&b);
		if (i % 32 == 31 || i + 1 == s->messages)
			while (added_count <= i)
				turn();
	}
	(void)close(message);
	(void)close(summary);
}

/* Processor time of a piece that goes out and comes back, and of the round of the loop that took longest. */
static double
step_us(unsigned steps, enum transport_reached reached, double *longest_ms_r)
{
	double begun = cpu_ms(), last = begun, now;
	unsigned done = 0;

	*longest_ms_r = 0;
	for (unsigned next = 0; done < steps;) {
		for (; next < sent_count; next++, done++)
			say_result(sent[next].id, sent[next].queue_id, reached, sent[next].sequence, QUEUE_PENDING);
		next = sent_count = 0;
		turn();
		now = cpu_ms();
		if (now - last > *longest_ms_r)
			*longest_ms_r = now - last;
		last = now;
	}
	return (last - begun) * 1000 / done;
}

/* Memory grows with the recipients, time with their logarithm. */
START_TEST(test_scale)
{
	const struct scale *many = scale_of(_i);
	size_t before;
	double few_us, many_us, longest;

	fill(&few, SCALE_DESTINATIONS);
	few_us = step_us(SCALE_STEPS, TRANSPORT_REACHED, &longest);
	before = mallinfo2().uordblks;
	fill(many, SCALE_DESTINATIONS);
	size_t bytes = mallinfo2().uordblks - before, each = bytes / many->messages / many->recipients;

	many_us = step_us(SCALE_STEPS, TRANSPORT_REACHED, &longest);
	printf("%u messages of %u recipients: %zu octets of memory a recipient, %.0f us a step (%.0f us among %u), longest round %.1f ms\n",
	    many->messages, many->recipients, each, many_us, few_us, few.messages, longest);
	ck_assert_uint_lt(bytes, SCALE_CACHE_BYTES + (size_t)many->messages * many->recipients * SCALE_RECIPIENT_BYTES_MAX);
	ck_assert(many_us < few_us * SCALE_SLOWER_MAX);
	over();
}
END_TEST

/* All of it for one destination, which is dead: its line is looked at in parts. */
START_TEST(test_scale_dead)
{
	const struct scale *many = scale_of(1);
	double us, longest;

	fill(many, 1);
	us = step_us(1, TRANSPORT_UNREACHABLE, &longest);
	for (double begun; queue_plan_count(queue_items_plan(), QUEUE_WAITING) < many->messages;) {
		begun = cpu_ms();
		turn();
		if (cpu_ms() - begun > longest)
			longest = cpu_ms() - begun;
	}
	printf("%u messages for a dead destination: %.0f us for the first, longest round %.1f ms\n", many->messages, us, longest);
	ck_assert(longest < 200);
	over();
}
END_TEST

static Suite *
suite(void)
{
	Suite *s = suite_create("queue_items");
	TCase *t = tcase_create("queue_items");

	tcase_set_timeout(t, 120);
	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_add_test(t, test_done);
	tcase_add_test(t, test_own_recipients);
	tcase_add_test(t, test_delay_behind_failure);
	tcase_add_test(t, test_held_comes_back);
	tcase_add_test(t, test_report_for_ever);
	tcase_add_loop_test(t, test_report_once, 0, 2);
	tcase_add_test(t, test_stale_report);
	tcase_add_test(t, test_tls_optional);
	tcase_add_test(t, test_asleep);
	tcase_add_loop_test(t, test_future_release, 0, 2);
	tcase_add_loop_test(t, test_clock_back, 0, 2);
	tcase_add_test(t, test_expiry_of_many);
	tcase_add_test(t, test_restarts);
	tcase_add_test(t, test_many_destinations);
	tcase_add_loop_test(t, test_any_order, 0, 5);
	tcase_add_test(t, test_unwritten);
	tcase_add_test(t, test_too_many_unwritten);
	tcase_add_test(t, test_list);
	tcase_add_test(t, test_show);
	tcase_add_test(t, test_not_changed);
	suite_add_tcase(s, t);
	t = tcase_create("scale");
	tcase_set_timeout(t, 3600);
	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_add_loop_test(t, test_scale, 0, sizeof slices / sizeof *slices);
	tcase_add_test(t, test_scale_dead);
	suite_add_tcase(s, t);
	return s;
}

int
main(void)
{
	SRunner *r = srunner_create(suite());
	int failed;

	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? 0 : 1;
}
