/*
 * The resolver over libunbound, against a real nsd on loopback with a root zone: answers, absent names, a server that
 * is not there, cancellation. Files are opened by resolver_new() only.
 */
#include "common/loop.h"
#include "dnsd/resolver.h"
#include "tests/unit/tree.h"

#include <check.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static struct loop *loop;
static pid_t nsd;
static char directory[] = "/tmp/mailstead-resolver-XXXXXX";
static char server[64];

static void
write_file(const char *name, const char *text)
{
	char path[128];

	snprintf(path, sizeof path, "%s/%s", directory, name);
	FILE *f = fopen(path, "w");
	ck_assert_ptr_nonnull(f);
	ck_assert_int_ge(fputs(text, f), 0);
	ck_assert_int_eq(fclose(f), 0);
}

static void
start_nsd(void)
{
	char conf[1024], path[128];
	int port = 20000 + (int)(getpid() % 20000);

	ck_assert_ptr_nonnull(mkdtemp(directory));
	snprintf(server, sizeof server, "127.0.0.1@%d", port);
	write_file("root", "$ORIGIN .\n$TTL 60\n@ IN SOA ns.invalid. h.invalid. 1 3600 600 86400 60\n@ IN NS ns.invalid.\n"
			   "a.test. IN A 192.0.2.7\nb.test. IN CNAME a.test.\nt.test. IN TXT \"one\" \" two\"\n");
	snprintf(conf, sizeof conf,
	    "server:\n ip-address: 127.0.0.1\n port: %d\n server-count: 1\n username: \"\"\n chroot: \"\"\n database: \"\"\n"
	    " zonesdir: \"%s\"\n pidfile: \"%s/pid\"\n logfile: \"%s/log\"\n xfrdfile: \"%s/x\"\n zonelistfile: \"%s/l\"\n"
	    " xfrdir: \"%s\"\nremote-control:\n control-enable: no\nzone:\n name: \".\"\n zonefile: \"root\"\n",
	    port, directory, directory, directory, directory, directory, directory);
	write_file("conf", conf);
	snprintf(path, sizeof path, "%s/conf", directory);
	nsd = fork();
	/* No assertion in the child: each writes where the runner of the tests reads by now. */
	if (nsd == 0) {
		setpgid(0, 0);
		execl("/usr/sbin/nsd", "nsd", "-d", "-c", path, (char *)NULL);
		_exit(127);
	}
	ck_assert_int_gt(nsd, 0);
}

static void
stop_nsd(void)
{
	kill(-nsd, SIGTERM);
	kill(nsd, SIGTERM);
	waitpid(nsd, NULL, 0);
	ck_assert_int_eq(tree_remove(directory), 0);
}

struct got {
	bool done;
	enum dns_status status;
	unsigned count;
	char text[64];
	const char *name;
	uint16_t type;
};

static void
on_done(void *arg, const struct resolver_answer *answer)
{
	struct got *g = arg;
	struct arena *a = arena_new(65536);
	struct dns_answer parsed = {.status = answer->status};

	if (answer->status == DNS_OK)
		ck_assert(dns_answer_parse(answer->packet, slice_str(g->name), g->type, a, &parsed));
	g->done = true;
	g->status = parsed.status;
	g->count = parsed.count;
	if (parsed.count)
		snprintf(g->text, sizeof g->text, "%.*s", SLICE_ARG(parsed.records[0].data));
	arena_free(&a);
	loop_stop(loop);
}

static struct got
ask(struct resolver *r, const char *name, uint16_t type, uint32_t timeout_ms)
{
	struct got g = {.name = name, .type = type};

	if (resolver_ask(r, name, type, timeout_ms, on_done, &g) != NULL)
		loop_run(loop);
	ck_assert(g.done);
	return g;
}

static struct resolver *
resolver_at(const char *address)
{
	struct config *c = config_new();
	struct err e;

	ck_assert_int_eq(config_set(c, OPT_DNS_SERVER, slice_str(address), &e), 0);
	struct resolver *r = resolver_new(loop, c, &e);
	ck_assert_msg(r != NULL, "%s", e.detail);
	config_free(&c);
	return r;
}

START_TEST(answers)
{
	loop = loop_new();
	struct resolver *r = resolver_at(server);
	struct got g = {.status = DNS_TEMP};

	for (int i = 0; i < 50 && g.status != DNS_OK; i++) {
		usleep(100000); /* until nsd listens */
		g = ask(r, "a.test", DNS_A, 1000);
	}
	ck_assert_int_eq(g.status, DNS_OK);
	ck_assert_mem_eq(g.text, "\300\0\2\7", 1);
	ck_assert_int_eq(ask(r, "b.test", DNS_A, 5000).status, DNS_OK);
	g = ask(r, "t.test", DNS_TXT, 5000);
	ck_assert_str_eq(g.text, "one two");
	ck_assert_int_eq(ask(r, "t.test", DNS_MX, 5000).status, DNS_NODATA);
	ck_assert_int_eq(ask(r, "no.such.test", DNS_TXT, 5000).status, DNS_NXDOMAIN);
	/* From the cache now: done is called before resolver_ask() returns. */
	struct got again = {.name = "t.test", .type = DNS_TXT};
	ck_assert_ptr_null(resolver_ask(r, "t.test", DNS_TXT, 5000, on_done, &again));
	ck_assert(again.done);
	ck_assert_int_eq(ask(r, "a..test", DNS_A, 1000).status, DNS_TEMP);
	resolver_free(&r);
	loop_free(&loop);
}
END_TEST

START_TEST(silence)
{
	loop = loop_new();
	struct resolver *r = resolver_at("127.0.0.1@9");
	struct got g = {.name = "x.test", .type = DNS_A};

	ck_assert_int_eq(ask(r, "a.test", DNS_A, 200).status, DNS_TEMP);
	struct resolver_query *q = resolver_ask(r, "x.test", DNS_A, 200, on_done, &g);
	ck_assert_ptr_nonnull(q);
	resolver_cancel(&q);
	ck_assert_ptr_null(q);
	/* The loop goes on without the cancelled query ever being told. */
	ask(r, "y.test", DNS_A, 300);
	ck_assert(!g.done);
	resolver_free(&r);
	loop_free(&loop);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("resolver");
	TCase *t = tcase_create("all");

	tcase_set_timeout(t, 60);
	tcase_add_unchecked_fixture(t, start_nsd, stop_nsd);
	tcase_add_test(t, answers);
	tcase_add_test(t, silence);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
