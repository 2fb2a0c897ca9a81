/* What the command may ask of the directory, and in which words it is refused. */
#include "authd/directory_admin.h"
#include "common/log.h"

#include <check.h>
#include <dirent.h>
#include <jansson.h>
#include <unistd.h>

#define HASH "$y$j9T$ArvuzDAgTAJI4k022zh0Z0$XA9iiadMoqPjuhMYQq0JqAn32uIQBqEUVjb5r66CtC."

static char dir[64];
static struct directory *d;
static struct dir_admin_reply reply;

static void
setup(void)
{
	bool rebuilt;
	struct err e;

	log_init("test", LOG_BUG);
	memcpy(dir, "/tmp/test_directory_admin.XXXXXX", sizeof "/tmp/test_directory_admin.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_assert_msg(directory_open(dir, &d, &rebuilt, &e) == 0, "%s", e.detail);
	dir_admin_reply_init(&reply);
}

static void
remove_tree(const char *path)
{
	char name[512];
	struct dirent *entry;
	DIR *list = opendir(path);

	while (list != NULL && (entry = readdir(list)) != NULL) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		(void)snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
		if (unlink(name) != 0)
			remove_tree(name);
	}
	if (list != NULL)
		(void)closedir(list);
	(void)rmdir(path);
}

static void
teardown(void)
{
	dir_admin_reply_fini(&reply);
	directory_close(&d);
	remove_tree(dir);
}

static bool outside; /* aliases may lead to other servers */

static enum err_code
ask_at(const char *verb, const char *name, struct slice value, const char *hash)
{
	struct msg_DIR_ADMIN m = {.id = 1,
	    .verb = slice_str(verb),
	    .name = slice_str(name),
	    .value = value,
	    .password = slice_str(hash)};

	directory_admin(d, &m, 1700000000, outside, &reply);
	ck_assert((reply.class == ERR_NONE) == (reply.code == ERR_CODE_NONE));
	return reply.code;
}

static enum err_code
ask(const char *verb, const char *name, const char *value, const char *hash)
{
	return ask_at(verb, name, slice_str(value), hash);
}

/* In order: each row stands on those before it. */
START_TEST(test_verbs)
{
	static const struct {
		const char *verb, *name, *value, *hash;
		enum err_code want;
	} rows[] = {
	    {"account-add", "alice@one.test", "", HASH, ERR_CODE_NOT_FOUND},
	    {"domain-add", "one.test", "", "", ERR_CODE_NONE},
	    {"domain-add", "ONE.test.", "", "", ERR_CODE_EXISTS},
	    {"domain-add", "not a domain", "", "", ERR_CODE_BAD_NAME},
	    {"domain-add", "", "", "", ERR_CODE_BAD_NAME},
	    {"domain-add",
		"b\xc3\xbc"
		"cher.test",
		"", "", ERR_CODE_NONE},
	    {"domain-add", "xn--bcher-kva.test", "", "", ERR_CODE_EXISTS},
	    {"account-add", "Alice@One.test", "Alice L\xc3\xb6we", HASH, ERR_CODE_NONE},
	    {"account-add", "alice@one.test", "", HASH, ERR_CODE_EXISTS},
	    {"account-add", "bob@one.test", "", "clear text", ERR_CODE_MALFORMED},
	    {"account-add", "bob@one.test", "", "", ERR_CODE_MALFORMED},
	    {"account-add", "bob+x@one.test", "", HASH, ERR_CODE_BAD_NAME},
	    {"account-add", "@one.test", "", HASH, ERR_CODE_BAD_NAME},
	    {"account-add", "bob", "", HASH, ERR_CODE_BAD_NAME},
	    {"account-add", "b ob@one.test", "", HASH, ERR_CODE_BAD_NAME},
	    {"account-add", "../bob@one.test", "", HASH, ERR_CODE_BAD_NAME},
	    {"account-add", "bob@one.test", "two\nlines", HASH, ERR_CODE_BAD_NAME},
	    {"account-add", "bob@one.test", "\xff", HASH, ERR_CODE_BAD_NAME},
	    {"account-add", "bob@one.test", "", HASH, ERR_CODE_NONE},
	    {"account-passwd", "bob@one.test", "", HASH, ERR_CODE_NONE},
	    {"account-passwd", "carol@one.test", "", HASH, ERR_CODE_NOT_FOUND},
	    {"account-suspend", "bob@one.test", "", "", ERR_CODE_NONE},
	    {"account-suspend", "bob@one.test", "", "", ERR_CODE_NONE},
	    {"account-resume", "bob@one.test", "", "", ERR_CODE_NONE},
	    {"alias-add", "info@one.test", "", "", ERR_CODE_MALFORMED},
	    {"alias-add", "info@one.test", "\n\n", "", ERR_CODE_MALFORMED},
	    {"alias-add", "info@one.test", "alice@one.test\nx@elsewhere.test", "",
		ERR_CODE_BAD_NAME},
	    {"alias-add", "info@one.test", "@one.test", "", ERR_CODE_BAD_NAME},
	    {"alias-add", "info@one.test", "Alice@one.test\n", "", ERR_CODE_NONE},
	    {"alias-add", "info@one.test", "bob@one.test\nalice@one.test", "", ERR_CODE_NONE},
	    {"alias-add", "@one.test", "info@one.test", "", ERR_CODE_NONE},
	    {"sender-grant", "nobody@one.test", "bob@one.test", "", ERR_CODE_NOT_FOUND},
	    {"sender-grant", "alice@one.test", "nobody@one.test", "", ERR_CODE_NOT_FOUND},
	    {"sender-grant", "alice@one.test", "bob@elsewhere.test", "", ERR_CODE_NOT_FOUND},
	    {"sender-grant", "alice@one.test", "", "", ERR_CODE_MALFORMED},
	    {"sender-grant", "alice@one.test", "Bob@one.test", "", ERR_CODE_NONE},
	    {"sender-grant", "alice@one.test", "bob@one.test\ninfo@one.test", "", ERR_CODE_NONE},
	    {"sender-grant", "@one.test", "bob@one.test", "", ERR_CODE_NONE},
	    {"sender-revoke", "alice@one.test", "alice@one.test", "", ERR_CODE_NOT_FOUND},
	    {"sender-revoke", "alice@one.test", "bob@one.test", "", ERR_CODE_NONE},
	    {"sender-revoke", "alice@one.test", "bob@one.test", "", ERR_CODE_NOT_FOUND},
	    {"sender-revoke", "alice@one.test", "info@one.test", "", ERR_CODE_NONE},
	    {"sender-revoke", "alice@one.test", "", "", ERR_CODE_NOT_FOUND},
	    {"sender-revoke", "@one.test", "", "", ERR_CODE_NONE},
	    {"alias-delete", "info@one.test", "carol@one.test", "", ERR_CODE_NOT_FOUND},
	    {"alias-delete", "info@one.test", "alice@one.test", "", ERR_CODE_NONE},
	    {"alias-delete", "info@one.test", "alice@one.test", "", ERR_CODE_NOT_FOUND},
	    {"alias-delete", "info@one.test", "bob@one.test", "", ERR_CODE_NONE},
	    {"alias-delete", "info@one.test", "", "", ERR_CODE_NOT_FOUND},
	    {"domain-set", "one.test", "separators=-_", "", ERR_CODE_NONE},
	    {"account-add", "mary-ann@one.test", "", HASH, ERR_CODE_BAD_NAME},
	    {"account-add", "mary+ann@one.test", "", HASH, ERR_CODE_NONE},
	    {"domain-set", "one.test", "separators=a", "", ERR_CODE_MALFORMED},
	    {"domain-set", "one.test", "separators=.", "", ERR_CODE_MALFORMED},
	    {"domain-set", "one.test", "separators=++", "", ERR_CODE_MALFORMED},
	    {"domain-set", "one.test", "separators=!#$%&'*+-", "", ERR_CODE_MALFORMED},
	    {"domain-set", "one.test", "separators=!#$%&'*+", "", ERR_CODE_NONE},
	    {"domain-set", "one.test", "separators=", "", ERR_CODE_NONE},
	    {"domain-set", "one.test", "case=none", "", ERR_CODE_MALFORMED},
	    {"domain-set", "one.test", "dots=", "", ERR_CODE_MALFORMED},
	    {"domain-set", "one.test", "nonsense", "", ERR_CODE_MALFORMED},
	    {"domain-set", "elsewhere.test", "dots=ignore", "", ERR_CODE_NOT_FOUND},
	    {"domain-set", "one.test", "case=unicode\ndots=ignore\n", "", ERR_CODE_NONE},
	    {"account-add", "b.ob@one.test", "", HASH, ERR_CODE_EXISTS},
	    {"alias-add", "b.o.b@one.test", "alice@one.test", "", ERR_CODE_EXISTS},
	    {"domain-set", "one.test", "case=ascii\ndots=keep\nseparators=+", "", ERR_CODE_NONE},
	    {"account-add", "b.ob@one.test", "", HASH, ERR_CODE_NONE},
	    {"domain-set", "one.test", "dots=ignore", "", ERR_CODE_EXISTS},
	    {"alias-resolve", "b.ob+x@one.test", "", "", ERR_CODE_NONE},
	    {"alias-resolve", "nobody", "", "", ERR_CODE_NONE},
	    {"account-delete", "b.ob@one.test", "", "", ERR_CODE_NONE},
	    {"account-delete", "mary+ann@one.test", "", "", ERR_CODE_NONE},
	    {"domain-delete", "one.test", "", "", ERR_CODE_IN_USE},
	    {"account-delete", "bob@one.test", "", "", ERR_CODE_NONE},
	    {"account-delete", "bob@one.test", "", "", ERR_CODE_NOT_FOUND},
	    {"domain-delete", "one.test", "with-accounts", "", ERR_CODE_NONE},
	    {"account-list", "one.test", "", "", ERR_CODE_NOT_FOUND},
	    {"account-list", "a b", "", "", ERR_CODE_BAD_NAME},
	    {"no-such-verb", "", "", "", ERR_CODE_MALFORMED},
	    {"", "", "", "", ERR_CODE_MALFORMED},
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		enum err_code got = ask(rows[i].verb, rows[i].name, rows[i].value, rows[i].hash);

		ck_assert_msg(got == rows[i].want, "row %zu %s %s: %d, %.*s", i, rows[i].verb,
		    rows[i].name, got, (int)reply.text.n,
		    reply.text.p ? (const char *)reply.text.p : "");
		ck_assert_msg(got == ERR_CODE_NONE || reply.text.n > 0, "row %zu says nothing", i);
		ck_assert(got == ERR_CODE_NONE || reply.class == ERR_PERM);
	}
}
END_TEST

/* All pages of a list: each line an object with the key; returns their number. */
static unsigned
list_all(const char *verb, const char *name, const char *key, unsigned *pages_r)
{
	char position[512];
	size_t n = 0;
	unsigned rows = 0;

	*pages_r = 0;
	do {
		struct slice page, line;

		ck_assert_int_eq(ask_at(verb, name, slice_of(position, n), ""), ERR_CODE_NONE);
		ck_assert_uint_le(reply.json.n, DIR_ADMIN_PAGE_BYTES_MAX);
		page = buf_slice(&reply.json);
		while (slice_cut(&page, '\n', &line) && line.n > 0) {
			json_t *o = json_loadb((const char *)line.p, line.n, 0, NULL);

			ck_assert_ptr_nonnull(json_object_get(o, key));
			json_decref(o);
			rows++;
		}
		ck_assert(reply.text.n <= sizeof position && reply.more == (reply.text.n > 0));
		n = reply.text.n;
		if (n > 0)
			memcpy(position, reply.text.p, n);
		++*pages_r;
	} while (reply.more);
	return rows;
}

START_TEST(test_lists)
{
	char login[64];
	unsigned pages;

	ck_assert_uint_eq(list_all("domain-list", "", "domain", &pages), 0);
	ck_assert_int_eq(ask("domain-add", "one.test", "", ""), ERR_CODE_NONE);
	ck_assert_int_eq(ask("domain-add", "two.test", "", ""), ERR_CODE_NONE);
	ck_assert_uint_eq(list_all("account-list", "", "address", &pages), 0);
	/* More than pass between two checkpoints. */
	for (unsigned i = 0; i < 2400; i++) {
		(void)snprintf(login, sizeof login, "user%u@%s.test", i, i % 3 ? "one" : "two");
		ck_assert_int_eq(ask("account-add", login, "A name", HASH), ERR_CODE_NONE);
	}
	ck_assert_uint_eq(list_all("account-list", "", "address", &pages), 2400);
	ck_assert_uint_gt(pages, 2);
	ck_assert_uint_eq(list_all("account-list", "one.test", "address", &pages), 1600);
	ck_assert_uint_eq(list_all("account-list", "two.test", "state", &pages), 800);
	ck_assert_uint_eq(list_all("domain-list", "", "created", &pages), 2);
	ck_assert_int_eq(ask("alias-add", "@two.test", "user1@one.test", ""), ERR_CODE_NONE);
	ck_assert_uint_eq(list_all("alias-list", "", "targets", &pages), 1);
	ck_assert_uint_eq(list_all("alias-list", "one.test", "targets", &pages), 0);
	ck_assert_int_eq(ask("sender-grant", "@two.test", "user1@one.test", ""), ERR_CODE_NONE);
	ck_assert_uint_eq(list_all("sender-list", "", "targets", &pages), 1);
	ck_assert_uint_eq(list_all("sender-list", "one.test", "targets", &pages), 0);
	/* A position that no list gave out. */
	ck_assert_int_eq(ask("account-list", "", "nonsense", ""), ERR_CODE_NONE);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("directory_admin");
	TCase *t = tcase_create("directory_admin");
	SRunner *r;
	int failed;

	tcase_set_timeout(t, 120);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, test_verbs);
	tcase_add_test(t, test_lists);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? 0 : 1;
}
