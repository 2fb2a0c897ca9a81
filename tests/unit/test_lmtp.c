/*
 * Whose a recipient is after a delivery over LMTP (smtpd/deliver_lmtp.c), against the rule said plainly, over many small transactions
 * drawn at random; the front and the queue are fakes behind real edges. And the words of lmtp.listen.
 */
#include "smtpd/deliver.h"

#include "admin/lmtp_address.h"
#include "common/config.h"
#include "common/memfd.h"

#include <arpa/inet.h>
#include <check.h>
#include <stdlib.h>
#include <sys/socket.h>

#define TARGETS_MAX 6
#define RECIPIENTS_MAX 6
#define CASES 4000

/* ---- what common/role.h gives a role, faked ---- */

static struct loop *loop;
static struct config *config;
static struct edge *front, *front_end, *queue, *queue_end;
static bool queue_away;

struct loop *
role_loop(void)
{
	return loop;
}

const struct config *
role_config(void)
{
	return config;
}

const char *
role_state_dir(void)
{
	return "/nonexistent";
}

struct edge *
role_edge(enum role peer, uint32_t instance)
{
	(void)instance;
	return peer == ROLE_QUEUE && !queue_away ? queue : NULL;
}

unsigned
role_edge_count(enum role peer)
{
	(void)peer;
	return 0;
}

struct edge *
role_edge_at(enum role peer, unsigned i)
{
	(void)peer;
	(void)i;
	return NULL;
}

struct edge *
role_edge_add(int fd, struct edge_peer peer)
{
	(void)fd;
	(void)peer;
	return NULL;
}

void
role_edge_close(struct edge **e)
{
	*e = NULL;
}

void
role_trace(struct slice session, const char *event, struct slice fields)
{
	(void)session;
	(void)event;
	(void)fields;
}

void
role_exit(int status)
{
	exit(status);
}

/* ---- the fakes ---- */

static unsigned codes[RECIPIENTS_MAX]; /* what the front was told */
static uint32_t told;
static bool added; /* the queue got something: what, by sequence */
static enum queue_state held[TARGETS_MAX];

static void
on_recipient(struct edge *e, struct msg_DELIVER_RECIPIENT *m)
{
	(void)e;
	ck_assert_uint_eq(m->recipient, told);
	ck_assert_uint_lt(told, RECIPIENTS_MAX);
	codes[told++] = m->code;
}

static void
on_reply(struct edge *e, struct msg_DELIVER_REPLY *m)
{
	(void)e;
	ck_assert_uint_eq(m->code, 451); /* for nobody, when all were told */
	loop_stop(loop);
}

static void
on_add(struct edge *e, struct msg_QUEUE_ADD *m)
{
	struct arena *a = arena_new(QUEUE_ITEM_BYTES_MAX * 2);
	struct queue_item item;

	ck_assert(queue_item_decode(m->item, a, &item));
	added = true;
	for (uint16_t i = 0; i < item.count; i++) {
		ck_assert_uint_lt(item.recipients[i].sequence, TARGETS_MAX);
		held[item.recipients[i].sequence] = item.recipients[i].state;
	}
	ck_assert(IPC_SEND(e, QUEUE_ADDED, .id = m->id));
	arena_free(&a);
}

static void
on_down(struct edge *e, void *arg)
{
	(void)arg;
	ck_abort_msg("an edge ended: %d", edge_sent_garbage(e));
}

static void
pair(enum role role, struct edge **ours, struct edge **theirs, const struct ipc_dispatch *to_us, const struct ipc_dispatch *to_them)
{
	static const struct edge_events events = {.on_down = on_down};
	int fd[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
	*ours = edge_new(loop, fd[0], ROLE_DELIVER, (struct edge_peer){role, 0, 1}, to_us, &events, NULL);
	*theirs = edge_new(loop, fd[1], role, (struct edge_peer){ROLE_DELIVER, 0, 1}, to_them, &events, NULL);
}

static void
setup(void)
{
	static const struct ipc_dispatch nothing, from_queue = {.QUEUE_ADDED = deliver_on_queue_added};
	static const struct ipc_dispatch at_front = {.DELIVER_RECIPIENT = on_recipient, .DELIVER_REPLY = on_reply};
	static const struct ipc_dispatch at_queue = {.QUEUE_ADD = on_add};

	log_init("test", LOG_BUG);
	loop = loop_new();
	config = config_new();
	pair(ROLE_SMTP_FRONT, &front, &front_end, &nothing, &at_front);
	pair(ROLE_QUEUE, &queue, &queue_end, &from_queue, &at_queue);
}

/* ---- a transaction, and the rule ---- */

static struct {
	unsigned targets, recipients;
	struct {
		enum queue_state state;
		bool uncertain;
		unsigned code;
	} target[TARGETS_MAX];
	bool leads[RECIPIENTS_MAX][TARGETS_MAX];
	bool refused[RECIPIENTS_MAX];
} c;

static void
draw(void)
{
	static const enum queue_state states[] = {QUEUE_DONE, QUEUE_PENDING, QUEUE_PENDING, QUEUE_FAILED};

	memset(&c, 0, sizeof(c));
	c.targets = 1 + (unsigned)rand() % TARGETS_MAX;
	c.recipients = 1 + (unsigned)rand() % RECIPIENTS_MAX;
	for (unsigned i = 0; i < c.targets; i++) {
		c.target[i].state = states[rand() % 4];
		c.target[i].uncertain = c.target[i].state == QUEUE_PENDING && rand() % 6 == 0;
		c.target[i].code = (c.target[i].state == QUEUE_FAILED ? 550 : 450) + i;
	}
	for (unsigned r = 0; r < c.recipients; r++) {
		c.refused[r] = rand() % 8 == 0;
		c.leads[r][(unsigned)rand() % c.targets] = true;
		for (unsigned i = 0; rand() % 2 == 0 && i < c.targets; i++)
			c.leads[r][i] = c.leads[r][i] || rand() % 3 == 0;
	}
}

/* Whose each account is: ours when it has the message, or may have it, or stands beside one that is ours. */
static void
find_ours(bool ours[TARGETS_MAX])
{
	for (unsigned i = 0; i < c.targets; i++)
		ours[i] = c.target[i].state == QUEUE_DONE || c.target[i].uncertain;
	for (unsigned round = 0; round < TARGETS_MAX; round++)
		for (unsigned r = 0; r < c.recipients; r++)
			for (unsigned i = 0; i < c.targets; i++)
				for (unsigned k = 0; k < c.targets; k++)
					if (!c.refused[r] && c.leads[r][i] && c.leads[r][k] && ours[i] && c.target[k].state != QUEUE_FAILED)
						ours[k] = true;
}

static bool
any_ours(unsigned r, const bool ours[TARGETS_MAX])
{
	bool any = false;

	for (unsigned i = 0; i < c.targets && !c.refused[r]; i++)
		any = any || (c.leads[r][i] && ours[i]);
	return any;
}

static bool
all_done(unsigned r)
{
	bool all = true;

	for (unsigned i = 0; i < c.targets; i++)
		all = all && (!c.leads[r][i] || c.target[i].state == QUEUE_DONE);
	return all;
}

static unsigned
own_failure(unsigned r)
{
	unsigned code = 0;

	for (unsigned i = 0; i < c.targets; i++)
		if (c.leads[r][i] && c.target[i].state != QUEUE_DONE && (code == 0 || (code >= 500 && c.target[i].code < 500)))
			code = c.target[i].code;
	return code;
}

static struct job *
make_job(void)
{
	struct job *j = deliver_job_new();
	static struct slice addresses[RECIPIENTS_MAX];

	j->lmtp = true;
	j->front = front;
	j->front_id = 7;
	ck_assert(slice_cstr(SLICE("0123456789abcdef"), j->queue_id, sizeof(j->queue_id)));
	for (unsigned r = 0; r < c.recipients; r++)
		addresses[r] = SLICE("a@demo.test");
	j->envelope.recipients = addresses;
	j->envelope.recipient_count = c.recipients;
	j->targets = arena_array(j->arena, c.targets, sizeof(*j->targets));
	j->target_count = c.targets;
	for (unsigned i = 0; i < c.targets; i++)
		j->targets[i] = (struct target){.account = 1, .sequence = i, .state = c.target[i].state, .uncertain = c.target[i].uncertain,
		    .address = SLICE("a@demo.test"), .code = c.target[i].code, .enhanced = "4.9.9"};
	ck_assert(deliver_lmtp_begin(j));
	for (unsigned r = 0; r < c.recipients; r++) {
		ck_assert(deliver_lmtp_room(j, r, c.targets));
		for (unsigned i = 0; i < c.targets; i++)
			if (c.leads[r][i])
				deliver_lmtp_lead(j, r, i);
		if (c.refused[r])
			deliver_lmtp_refuse(j, r, 599, "5.9.9", "refused");
	}
	return j;
}

/* The message itself, and its summary: any file will do. */
static void
give_files(struct job *j)
{
	struct err e;

	j->final.fd = memfd_of(SLICE("x"), &e);
	j->summary_fd = memfd_of(SLICE("x"), &e);
	ck_assert(j->final.fd >= 0 && j->summary_fd >= 0);
	j->final.bytes = 1;
}

static void
run(bool away)
{
	struct job *j = make_job();

	give_files(j);
	told = 0;
	added = false;
	memset(held, 0, sizeof(held));
	memset(codes, 0, sizeof(codes));
	queue_away = away;
	if (away)
		j->began_ms -= DELIVER_STALE_MS + 1;
	deliver_lmtp_tell(j);
	deliver_lmtp_decide(j);
	loop_run(loop);
	ck_assert_uint_eq(told, c.recipients);
}

START_TEST(test_whose)
{
	bool ours[TARGETS_MAX], kept[TARGETS_MAX], wanted;

	srand((unsigned)_i);
	for (unsigned n = 0; n < CASES; n++) {
		draw();
		find_ours(ours);
		run(false);
		memset(kept, 0, sizeof(kept));
		for (unsigned r = 0; r < c.recipients; r++) {
			unsigned want = c.refused[r] ? 599 : any_ours(r, ours) ? 250 : own_failure(r);

			ck_assert_msg(codes[r] == want, "case %u.%u: recipient %u got %u, not %u", (unsigned)_i, n, r, codes[r], want);
			for (unsigned i = 0; i < c.targets; i++) {
				bool leads = c.leads[r][i] && !c.refused[r];

				kept[i] = kept[i] || (leads && any_ours(r, ours));
				/* What all this is for: who may come again has nothing that would then be there twice. */
				ck_assert(codes[r] == 250 || !leads || (c.target[i].state != QUEUE_DONE && held[i] != QUEUE_PENDING));
				/* And what was acknowledged is stored, or in the queue, or known to be impossible. */
				ck_assert(codes[r] != 250 || c.target[i].state != QUEUE_PENDING || !leads || held[i] == QUEUE_PENDING);
			}
		}
		wanted = false;
		for (unsigned i = 0; i < c.targets; i++)
			wanted = wanted || (kept[i] && c.target[i].state != QUEUE_DONE);
		ck_assert_int_eq(added, wanted);
		for (unsigned i = 0; i < c.targets && added; i++)
			ck_assert_int_eq(held[i], kept[i] ? c.target[i].state : 0);
	}
}
END_TEST

/* Nothing takes what is ours: only who has it all is told so. */
START_TEST(test_queue_away)
{
	bool ours[TARGETS_MAX];

	srand((unsigned)_i);
	for (unsigned n = 0; n < CASES; n++) {
		draw();
		find_ours(ours);
		run(true);
		ck_assert(!added);
		for (unsigned r = 0; r < c.recipients; r++) {
			unsigned want = c.refused[r] ? 599 : all_done(r) ? 250 : any_ours(r, ours) ? 451 : own_failure(r);

			ck_assert_msg(codes[r] == want, "case %u.%u: recipient %u got %u, not %u", (unsigned)_i, n, r, codes[r], want);
		}
	}
}
END_TEST

/* Each is told as soon as it has the message, if those before it are known. */
START_TEST(test_in_order)
{
	struct job *j;

	memset(&c, 0, sizeof(c));
	c.targets = c.recipients = 3;
	for (unsigned i = 0; i < 3; i++) {
		c.target[i].state = QUEUE_PENDING;
		c.leads[i][i] = true;
	}
	j = make_job();
	deliver_lmtp_tell(j);
	ck_assert_uint_eq(j->told, 0);
	j->targets[1].state = QUEUE_DONE;
	deliver_lmtp_tell(j);
	ck_assert_uint_eq(j->told, 0);
	j->targets[0].state = QUEUE_DONE;
	deliver_lmtp_tell(j);
	ck_assert_uint_eq(j->told, 2);
	j->targets[2].state = QUEUE_DONE;
	deliver_lmtp_tell(j);
	ck_assert_uint_eq(j->told, 3);
	deliver_lmtp_decide(j);
}
END_TEST

/* ---- lmtp.listen ---- */

START_TEST(test_addresses)
{
	static const struct {
		const char *word;
		uint16_t port; /* 0: a path */
		bool bad;
	} cases[] = {
	    {"/run/x", 0, false}, {"/run/a@24", 0, false}, {"127.0.0.1@1", 1, false}, {"127.255.255.255@65535", 65535, false},
	    {"::1@24", 24, false}, {"127.0.0.1@25", 0, true}, {"127.0.0.1@0", 0, true}, {"127.0.0.1@65536", 0, true}, {"127.0.0.1@", 0, true},
	    {"127.0.0.1", 0, true}, {"126.255.255.255@24", 0, true}, {"128.0.0.1@24", 0, true}, {"0.0.0.0@24", 0, true}, {"::@24", 0, true},
	    {"::2@24", 0, true}, {"::ffff:127.0.0.1@24", 0, true}, {"localhost@24", 0, true}, {"x/y", 0, true}, {"@24", 0, true},
	    {"127.0.0.1@24@24", 0, true}, {"127.0.0.1@+24", 0, true},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct slice text = slice_str(cases[i].word);
		struct lmtp_address a;

		ck_assert_msg(lmtp_address_next(&text, &a) == (cases[i].bad ? -1 : 1), "%s", cases[i].word);
		ck_assert(slice_eq(a.text, slice_str(cases[i].word)));
		if (!cases[i].bad)
			ck_assert_uint_eq(a.port, cases[i].port);
		ck_assert_int_eq(lmtp_address_next(&text, &a), 0);
	}
}
END_TEST

/* A path with its NUL fills the address; one octet more is none. */
START_TEST(test_longest_path)
{
	char path[200];
	struct lmtp_address a;
	size_t most = sizeof(a.to.path.sun_path) - 1;
	struct slice text;

	memset(path, 'x', sizeof(path));
	path[0] = '/';
	for (size_t n = most - 1; n <= most + 1; n++) {
		text = slice_of(path, n);
		ck_assert_int_eq(lmtp_address_next(&text, &a), n <= most ? 1 : -1);
	}
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("lmtp");
	TCase *t = tcase_create("recipients");

	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_loop_test(t, test_whose, 0, 3);
	tcase_add_loop_test(t, test_queue_away, 0, 2);
	tcase_add_test(t, test_in_order);
	suite_add_tcase(s, t);
	t = tcase_create("addresses");
	tcase_add_test(t, test_addresses);
	tcase_add_test(t, test_longest_path);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
