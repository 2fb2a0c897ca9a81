/* The recorder: records, fields, mentions, segments with torn ends, rotation, and questions. */
#include "common/log.h"
#include "traced/query.h"

#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64];
static struct err e;

static void
setup(void)
{
	log_init("test", LOG_BUG);
	memcpy(dir, "/tmp/test_trace.XXXXXX", sizeof "/tmp/test_trace.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void
teardown(void)
{
	char name[400];
	struct dirent *entry;
	DIR *list = opendir(dir);

	while (list != NULL && (entry = readdir(list)) != NULL) {
		(void)snprintf(name, sizeof name, "%s/%s", dir, entry->d_name);
		(void)unlink(name);
	}
	(void)closedir(list);
	(void)rmdir(dir);
}

static struct event
event(uint64_t time_us, const char *session, const char *fields)
{
	return (struct event){
	    time_us, ROLE_DELIVER, 0, slice_str(session), SLICE("test"), slice_str(fields)};
}

static struct journal *
open_journal(uint64_t bytes_max)
{
	struct journal_limits limits = {bytes_max, UINT64_MAX / 2};
	struct journal *j;

	ck_assert_msg(journal_open(dir, limits, &j, &e) == 0, "%s", e.detail);
	return j;
}

START_TEST(test_record)
{
	struct event in = {1234567, ROLE_VERIFIER, 1, SLICE("s-1"), SLICE("login"), SLICE(" a=b")};
	struct event out;
	struct buf b;
	struct slice rest;

	buf_init(&b, 2 * EVENT_BYTES_MAX);
	ck_assert(event_encode(&in, &b));
	rest = buf_slice(&b);
	ck_assert(event_decode(&rest, &out));
	ck_assert_uint_eq(rest.n, 0);
	ck_assert_uint_eq(out.time_us, in.time_us);
	ck_assert_int_eq(out.role, in.role);
	ck_assert_uint_eq(out.instance, in.instance);
	ck_assert(slice_eq(out.session, in.session));
	ck_assert(slice_eq(out.name, in.name));
	ck_assert(slice_eq(out.fields, in.fields));
	ck_assert(!event_decode(&rest, &out));
	/* Cut short anywhere, or one bit wrong anywhere: no record. */
	for (size_t i = 0; i < b.n; i++) {
		rest = slice_of(b.p, i);
		ck_assert(!event_decode(&rest, &out));
		ck_assert_uint_eq(rest.n, i);
		b.p[i] ^= 0x10;
		rest = buf_slice(&b);
		ck_assert_msg(!event_decode(&rest, &out), "octet %zu", i);
		b.p[i] ^= 0x10;
	}
	buf_fini(&b);
}
END_TEST

START_TEST(test_record_limits)
{
	static char longest[EVENT_FIELDS_BYTES_MAX + 1];
	struct event v = event(1, "s", "");
	struct buf b;

	memset(longest, 'x', sizeof longest);
	buf_init(&b, EVENT_BYTES_MAX);
	v.fields = slice_of(longest, EVENT_FIELDS_BYTES_MAX + 1);
	ck_assert(!event_encode(&v, &b));
	ck_assert_uint_eq(b.n, 0);
	v.fields = slice_of(longest, EVENT_FIELDS_BYTES_MAX);
	v.session = slice_of(longest, EVENT_SESSION_BYTES_MAX);
	v.name = slice_of(longest, EVENT_NAME_BYTES_MAX);
	ck_assert(event_encode(&v, &b));
	ck_assert_uint_eq(b.n, EVENT_BYTES_MAX);
	/* No room: the buffer is as it was. */
	v = event(1, "s", "");
	ck_assert(!event_encode(&v, &b));
	ck_assert_uint_eq(b.n, EVENT_BYTES_MAX);
	ck_assert(!b.failed);
	buf_fini(&b);
}
END_TEST

START_TEST(test_fields)
{
	static const struct {
		const char *in;
		const char *want; /* key|value; for each */
	} rows[] = {
	    {"", ""},
	    {" a=b", "a|b;"},
	    {" a=b c=d", "a|b;c|d;"},
	    {" a= c=d", "a|;c|d;"},
	    {" a=\"b c\" d=e", "a|b c;d|e;"},
	    {" a=\"b\\\"c\\\\d\" e=f", "a|b\"c\\d;e|f;"},
	    {" a=\"\\x41\\x0a\"", "a|A\n;"},
	    {" a=\"\\xzz\"", "a|xzz;"},
	    {" a=\"cut", "a|cut;"},
	    {" a=\"cut\\", "a|cut\\;"},
	    {" junk a=b", "a|b;"},
	    {" =x a=b", "a|b;"},
	};
	char got[256];

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct slice rest = slice_str(rows[i].in);
		struct slice key;
		struct buf value;
		size_t n = 0;

		got[0] = '\0';
		buf_init(&value, EVENT_FIELDS_BYTES_MAX);
		while (event_field(&rest, &key, &value))
			n += (size_t)snprintf(got + n, sizeof got - n, "%.*s|%.*s;", SLICE_ARG(key),
			    (int)value.n, value.p != NULL ? (const char *)value.p : "");
		buf_fini(&value);
		ck_assert_msg(strcmp(got, rows[i].want) == 0, "%s: %s", rows[i].in, got);
	}
}
END_TEST

START_TEST(test_mentions)
{
	static const struct {
		const char *fields, *key;
		bool want;
	} rows[] = {
	    {" rcpt=bob@x.test", "bob@x.test", true}, {" rcpt=bob@x.test", "BOB@X.test", true},
	    {" rcpt=notbob@x.test", "bob@x.test", false},
	    {" rcpt=bob@x.test.org", "bob@x.test", false},
	    {" rcpt=bob+x@x.test", "bob@x.test", false},
	    {" rcpt=\"<bob@x.test>\"", "bob@x.test", true},
	    {" message_id=\"<a.b@c>\"", "<a.b@c>", true}, {" message_id=a.b@c", "<a.b@c>", true},
	    {" text=\"user bob@x.test.\"", "bob@x.test", true},
	    {" text=\"alice,bob@x.test;carol\"", "bob@x.test", true}, {" queue=1234", "123", false},
	    {" queue=1234", "1234", true}, {" bob@x.test=1", "bob@x.test", false},
	    {" a=b", "", false}, {" a=b", "<>", false},
	    {" a=x", "s-1", true}, /* the session itself */
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct event v = event(1, "s-1", rows[i].fields);

		ck_assert_msg(event_mentions(&v, slice_str(rows[i].key)) == rows[i].want,
		    "row %zu: %s", i, rows[i].key);
	}
}
END_TEST

/* The number of events whose session is s-N, from the journal's files alone. */
static unsigned
count_events(struct journal *j)
{
	unsigned n = 0;
	struct buf b;

	ck_assert_int_eq(journal_flush(j, &e), 0);
	buf_init(&b, 64u << 20);
	for (uint64_t i = journal_first(j); i <= journal_last(j); i++) {
		struct slice rest;
		struct event v;

		ck_assert_int_eq(journal_read(j, i, 0, &b, &e), 0);
		rest = buf_slice(&b);
		while (event_decode(&rest, &v))
			n++;
		ck_assert_uint_eq(rest.n, 0);
	}
	buf_fini(&b);
	return n;
}

static void
add_events(struct journal *j, unsigned n, const char *fields)
{
	for (unsigned i = 0; i < n; i++) {
		struct event v = event(1000 + i, "s-1", fields);

		ck_assert(journal_add(j, &v));
	}
}

START_TEST(test_reopen)
{
	struct journal *j = open_journal(16 << 20);

	add_events(j, 10, " a=b");
	ck_assert(journal_pending(j));
	ck_assert_uint_eq(count_events(j), 10);
	journal_close(&j);
	j = open_journal(16 << 20);
	add_events(j, 5, " a=b");
	ck_assert_uint_eq(count_events(j), 15);
	ck_assert_uint_eq(journal_segments(j), 1);
	journal_close(&j);
}
END_TEST

/* The file cut at every octet: what was whole stays, and recording goes on behind it. */
START_TEST(test_torn)
{
	char path[128];
	struct journal *j = open_journal(16 << 20);
	struct stat st;
	off_t one;

	(void)snprintf(path, sizeof path, "%s/000000000001.trace", dir);
	add_events(j, 3, " a=b");
	journal_close(&j);
	ck_assert_int_eq(stat(path, &st), 0);
	one = (st.st_size - (off_t)strlen(JOURNAL_MAGIC)) / 3;
	for (off_t cut = 1; cut <= one; cut++) {
		j = open_journal(16 << 20);
		ck_assert_uint_eq(count_events(j), 3);
		journal_close(&j);
		ck_assert_int_eq(truncate(path, st.st_size - cut), 0);
		j = open_journal(16 << 20);
		add_events(j, 1, " a=b");
		ck_assert_uint_eq(count_events(j), 3);
		journal_close(&j);
	}
	/* Cut within its head, or not ours at all: a new segment is begun. */
	ck_assert_int_eq(truncate(path, 3), 0);
	j = open_journal(16 << 20);
	add_events(j, 2, " a=b");
	ck_assert_uint_eq(count_events(j), 2);
	ck_assert_uint_eq(journal_segments(j), 2);
	journal_close(&j);
}
END_TEST

/* Files may grow to n octets and no more: as a full disk, with the last write done in part. */
static void
disk_limit(uint64_t n)
{
	struct rlimit limit;

	ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = n;
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* What cannot be written is dropped and counted; what was whole before and what comes after stays
 * readable. */
START_TEST(test_disk_full)
{
	struct journal *j = open_journal(16 << 20);

	ck_assert(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
	add_events(j, 3, " a=b");
	ck_assert_uint_eq(count_events(j), 3);
	disk_limit(journal_bytes(j) + 60);
	add_events(j, 7, " a=b");
	ck_assert_int_eq(journal_flush(j, &e), -1);
	ck_assert_int_eq(e.class, ERR_TEMP);
	ck_assert_uint_eq(journal_dropped(j), 7);
	ck_assert(!journal_pending(j));
	disk_limit(RLIM_INFINITY);
	add_events(j, 2, " a=b");
	ck_assert_uint_eq(count_events(j), 5);
	journal_close(&j);
	j = open_journal(16 << 20);
	ck_assert_uint_eq(count_events(j), 5);
	journal_close(&j);
}
END_TEST

START_TEST(test_rotation)
{
	static char filler[2000];
	struct journal *j = open_journal(1 << 20);
	uint64_t first;

	memcpy(filler, " a=", 3);
	memset(filler + 3, 'x', sizeof filler - 4);
	add_events(j, 2000, filler);
	ck_assert_int_eq(journal_flush(j, &e), 0);
	ck_assert_uint_gt(journal_segments(j), 16);
	journal_expire(j, 0);
	ck_assert_uint_le(journal_bytes(j), 1 << 20);
	ck_assert_uint_ge(
	    journal_bytes(j), (1 << 20) - (2 * JOURNAL_SEGMENT_BYTES_MIN + sizeof filler));
	first = journal_first(j);
	ck_assert_uint_gt(first, 1);
	journal_close(&j);
	j = open_journal(1 << 20);
	ck_assert_uint_eq(journal_first(j), first);
	ck_assert_uint_gt(count_events(j), 400);
	/* By age: all of it, the one being written too. */
	journal_set_limits(j, (struct journal_limits){1 << 20, 1000});
	journal_expire(j, UINT64_MAX);
	ck_assert_uint_eq(journal_segments(j), 0);
	ck_assert_uint_eq(journal_bytes(j), 0);
	add_events(j, 1, " a=b");
	ck_assert_uint_eq(count_events(j), 1);
	journal_close(&j);
}
END_TEST

/* All lines of the answer in one buffer. */
static void
ask(struct journal *j, const char *key, uint64_t since_us, struct buf *all)
{
	struct query *q = query_new(j, slice_str(key), since_us);
	struct buf page;
	bool more;

	while (query_step(q))
		;
	buf_init(&page, 1 << 20);
	do {
		more = query_lines(q, 2000, &page);
		ck_assert_uint_le(page.n, 2000 + 16);
		ck_assert(buf_put_slice(all, buf_slice(&page)));
	} while (more);
	buf_fini(&page);
	query_free(&q);
}

static unsigned
lines(const struct buf *b)
{
	unsigned n = 0;

	for (size_t i = 0; i < b->n; i++)
		n += b->p[i] == '\n';
	return n;
}

START_TEST(test_query)
{
	static const struct event events[] = {
	    {400, ROLE_DELIVER, 0, SLICE("a"), SLICE("stored"), SLICE(" mailbox=INBOX")},
	    {100, ROLE_SMTP_FRONT, 0, SLICE("a"), SLICE("connect"), SLICE(" peer=192.0.2.1")},
	    {200, ROLE_SMTP_FRONT, 0, SLICE("b"), SLICE("connect"), SLICE(" peer=192.0.2.2")},
	    {300, ROLE_VERIFY, 1, SLICE("a"), SLICE("parsed"), SLICE(" message_id=\"<m@x>\"")},
	    {350, ROLE_QUEUE, 0, SLICE(""), SLICE("tick"), SLICE(" id=m@x")},
	    {360, ROLE_QUEUE, 0, SLICE(""), SLICE("tick"), SLICE(" id=other")},
	};
	static const uint64_t order[] = {100, 300, 350, 400};
	struct journal *j = open_journal(16 << 20);
	struct slice rest, line;
	struct buf all;
	unsigned n = 0;

	for (size_t i = 0; i < sizeof events / sizeof events[0]; i++)
		ck_assert(journal_add(j, &events[i]));
	buf_init(&all, 1 << 20);
	ask(j, "<m@x>", 0, &all);
	rest = buf_slice(&all);
	while (slice_cut(&rest, '\n', &line) && line.n > 0) {
		json_t *o = json_loadb((const char *)line.p, line.n, 0, NULL);
		char want[40];

		ck_assert_ptr_nonnull(o);
		(void)snprintf(
		    want, sizeof want, "1970-01-01T00:00:00.%06uZ", (unsigned)order[n++]);
		ck_assert_str_eq(json_string_value(json_object_get(o, "time")), want);
		ck_assert_ptr_nonnull(json_object_get(o, "fields"));
		json_decref(o);
	}
	ck_assert_uint_eq(n, 4);
	buf_reset(&all);
	ask(j, "<m@x>", 300, &all);
	ck_assert_uint_eq(lines(&all), 3);
	buf_reset(&all);
	ask(j, "b", 0, &all);
	ck_assert_uint_eq(lines(&all), 1);
	buf_reset(&all);
	ask(j, "nothing", 0, &all);
	ck_assert_uint_eq(all.n, 0);
	buf_fini(&all);
	journal_close(&j);
}
END_TEST

/* More events than an answer may have: it is cut and says so. */
START_TEST(test_query_cut)
{
	struct journal *j = open_journal(64 << 20);
	struct buf all;

	add_events(j, QUERY_EVENTS_MAX, " a=b");
	buf_init(&all, 8 << 20);
	ask(j, "s-1", 0, &all);
	ck_assert_uint_eq(lines(&all), QUERY_EVENTS_MAX);
	add_events(j, 1, " a=b");
	buf_reset(&all);
	ask(j, "s-1", 0, &all);
	ck_assert_uint_eq(lines(&all), QUERY_EVENTS_MAX + 1);
	ck_assert(slice_ends_nocase(buf_slice(&all), SLICE("{\"cut\":true}\n")));
	buf_fini(&all);
	journal_close(&j);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("trace");
	TCase *t = tcase_create("trace");
	SRunner *r;
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, test_record);
	tcase_add_test(t, test_record_limits);
	tcase_add_test(t, test_fields);
	tcase_add_test(t, test_mentions);
	tcase_add_test(t, test_reopen);
	tcase_add_test(t, test_torn);
	tcase_add_test(t, test_disk_full);
	tcase_add_test(t, test_rotation);
	tcase_add_test(t, test_query);
	tcase_add_test(t, test_query_cut);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? 0 : 1;
}
