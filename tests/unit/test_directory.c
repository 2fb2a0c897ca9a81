/* The directory: addresses and where they lead, aliases and their limits, accounts, effects, and
 * what survives. */
#include "authd/directory.h"
#include "authd/directory_db.h"
#include "authd/directory_forward.h"
#include "authd/directory_resolve.h"
#include "common/cursor.h"
#include "common/log.h"
#include "store/file.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

#define HASH SLICE("$y$j9T$ArvuzDAgTAJI4k022zh0Z0$XA9iiadMoqPjuhMYQq0JqAn32uIQBqEUVjb5r66CtC.")
#define HOSTNAME "mail.one.test"

/* Berkeley DB itself does not give back what an environment held that it found damaged. */
const char *__lsan_default_suppressions(void);

const char *
__lsan_default_suppressions(void)
{
	return "leak:libdb-5.3.so\n";
}

static char dir[64];
static struct directory *d;
static struct err e;

static void
open_again(bool want_rebuilt)
{
	bool rebuilt = false;

	directory_close(&d);
	ck_assert_msg(directory_open(dir, &d, &rebuilt, &e) == 0, "%s", e.detail);
	ck_assert(rebuilt == want_rebuilt);
}

static void
setup(void)
{
	log_init("test", LOG_BUG);
	memcpy(dir, "/tmp/test_directory.XXXXXX", sizeof "/tmp/test_directory.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	open_again(false);
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
	directory_close(&d);
	remove_tree(dir);
}

static struct address_name
name(const char *text)
{
	struct address_name n;

	ck_assert_msg(address_admin_parse(slice_str(text), true, &n, &e) == 0, "%s", text);
	return n;
}

static void
domain_add(const char *domain)
{
	ck_assert_msg(directory_domain_add(d, domain, 1000, &e) == 0, "%s", e.client);
}

static uint64_t
account_add(const char *login)
{
	struct address_name n = name(login);
	uint64_t id;

	ck_assert_msg(directory_account_add(d, &n, SLICE(""), HASH, 1000, &id, &e) == 0, "%s: %s",
	    login, e.client);
	return id;
}

static int
alias_set(const char *from, const char *const *to, unsigned n)
{
	struct address_name a = name(from);
	struct dir_alias alias = {.created = 1000, .n = n};

	for (unsigned i = 0; i < n; i++)
		alias.target[i] = slice_str(to[i]);
	if (directory_alias_check(d, &a, &alias, false, &e) != 0)
		return -1;
	return directory_alias_set(d, &a, &alias, &e);
}
#define ALIAS(from, ...)                                                                           \
	alias_set(from, (const char *const[]){__VA_ARGS__},                                        \
	    sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

static void
suspend(const char *login)
{
	struct address_name n = name(login);

	ck_assert_int_eq(directory_account_set_state(d, &n, DIR_ACCOUNT_SUSPENDED, &e), 0);
}

static enum dir_status
resolve(const char *address, struct dir_resolved *r)
{
	directory_resolve(d, slice_str(address), HOSTNAME, r);
	return r->status;
}

START_TEST(test_resolve)
{
	struct dir_resolved r;
	uint64_t alice, bob, carol, dave;

	domain_add("two.test");
	domain_add("one.test");
	domain_add("xn--bcher-kva.test");
	alice = account_add("alice@one.test");
	bob = account_add("bob@one.test");
	carol = account_add("carol@two.test");
	dave = account_add("dave@one.test");
	ck_assert_int_eq(ALIAS("both@one.test", "alice@one.test", "bob@one.test"), 0);
	ck_assert_int_eq(ALIAS("chain@two.test", "both@one.test", "carol@two.test"), 0);
	ck_assert_int_eq(ALIAS("gone@one.test", "dave@one.test"), 0);
	ck_assert_int_eq(ALIAS("@two.test", "carol@two.test"), 0);
	ck_assert_int_eq(ALIAS("a+exact@one.test", "bob@one.test"), 0);
	ck_assert_int_eq(ALIAS("info@xn--bcher-kva.test", "alice@one.test"), 0);
	suspend("dave@one.test");

	const struct {
		const char *address;
		enum dir_status want;
		unsigned n;
		uint64_t account[3];
		const char *detail;
	} rows[] = {
	    {"alice@one.test", DIR_LOCAL, 1, {alice}, ""},
	    {"ALICE@One.Test", DIR_LOCAL, 1, {alice}, ""},
	    {"\"alice\"@one.test", DIR_LOCAL, 1, {alice}, ""},
	    {"alice+lists@one.test", DIR_LOCAL, 1, {alice}, "lists"},
	    {"alice+Lists+x@one.test", DIR_LOCAL, 1, {alice}, "lists+x"},
	    {"both@one.test", DIR_LOCAL, 2, {alice, bob}, ""},
	    {"both+d@one.test", DIR_LOCAL, 2, {alice, bob}, "d"},
	    {"chain@two.test", DIR_LOCAL, 3, {carol, alice, bob}, ""},
	    {"a+exact@one.test", DIR_LOCAL, 1, {bob}, ""},
	    {"nobody@one.test", DIR_UNKNOWN, 0, {0}, ""},
	    {"+alice@one.test", DIR_UNKNOWN, 0, {0}, ""},
	    {"nobody@two.test", DIR_LOCAL, 1, {carol}, ""},
	    {"nobody+x@two.test", DIR_LOCAL, 1, {carol}, ""},
	    {"dave@one.test", DIR_DISABLED, 0, {0}, ""},
	    {"gone@one.test", DIR_DISABLED, 0, {0}, ""},
	    {"alice@three.test", DIR_NOT_OURS, 0, {0}, ""},
	    {"alice@sub.one.test", DIR_NOT_OURS, 0, {0}, ""},
	    {"alice", DIR_NOT_OURS, 0, {0}, ""},
	    {"", DIR_NOT_OURS, 0, {0}, ""},
	    {"@one.test", DIR_UNKNOWN, 0, {0}, ""},
	    {"\"\"@one.test", DIR_UNKNOWN, 0, {0}, ""},
	    {"\"\"@three.test", DIR_NOT_OURS, 0, {0}, ""},
	    {"alice@[127.0.0.1]", DIR_NOT_OURS, 0, {0}, ""},
	    {"info@b\xc3\xbc"
	     "cher.test",
		DIR_LOCAL, 1, {alice}, ""},
	    {"postmaster@one.test", DIR_LOCAL, 1, {alice}, ""},
	    {"Postmaster@TWO.test", DIR_LOCAL, 1, {carol}, ""},
	    {"abuse@one.test", DIR_LOCAL, 1, {alice}, ""},
	    {"postmaster+x@one.test", DIR_LOCAL, 1, {alice}, "x"},
	    {"postmaster@xn--bcher-kva.test", DIR_LOCAL, 1, {alice}, ""},
	    {"Postmaster", DIR_LOCAL, 1, {alice}, ""},
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		ck_assert_msg(resolve(rows[i].address, &r) == rows[i].want, "%s: %d",
		    rows[i].address, r.status);
		ck_assert_msg(r.n == rows[i].n, "%s: %u", rows[i].address, r.n);
		for (unsigned j = 0; j < r.n; j++)
			ck_assert_msg(r.account[j] == rows[i].account[j], "%s", rows[i].address);
		ck_assert_str_eq(r.detail, rows[i].detail);
	}
	/* The alias wins over the oldest account, and a suspended oldest is passed over. */
	ck_assert_int_eq(ALIAS("postmaster@one.test", "bob@one.test"), 0);
	ck_assert_int_eq(resolve("postmaster@one.test", &r), DIR_LOCAL);
	ck_assert_uint_eq(r.account[0], bob);
	suspend("alice@one.test");
	ck_assert_int_eq(resolve("abuse@one.test", &r), DIR_LOCAL);
	ck_assert_uint_eq(r.account[0], bob);
	/* Of several, the active ones get it. */
	ck_assert_int_eq(resolve("both@one.test", &r), DIR_LOCAL);
	ck_assert_uint_eq(r.n, 1);
	ck_assert_uint_ne(dave, 0);
}
END_TEST

static void
rules(const char *domain, const char *separators, bool fold_letters, bool dots_ignored, int want)
{
	struct address_rules r = {.fold_letters = fold_letters, .dots_ignored = dots_ignored};

	memcpy(r.separators, separators, strlen(separators) + 1);
	ck_assert_int_eq(directory_domain_set_rules(d, domain, &r, &e), want);
}

static void
check_leads(const char *address, uint64_t account, const char *detail)
{
	struct dir_resolved r;

	ck_assert_msg(resolve(address, &r) == (account != 0 ? DIR_LOCAL : DIR_UNKNOWN), "%s: %d", address, r.status);
	ck_assert_msg(account == 0 || (r.n == 1 && r.account[0] == account), "%s", address);
	ck_assert_msg(strcmp(r.detail, detail) == 0, "%s: detail %s", address, r.detail);
}

#define JOE_UPPER "J\xc3\x96\xc3\x8b" /* JÖË */
#define JOE_LOWER "j\xc3\xb6\xc3\xab"

/* What a domain says of separators, letters and dots holds for it alone, and can be changed at any time. */
START_TEST(test_rules)
{
	uint64_t mary, ann, joe, mb;

	domain_add("one.test");
	domain_add("two.test");
	mary = account_add("mary@one.test");
	ann = account_add("mary-ann@one.test");
	joe = account_add(JOE_LOWER "@one.test");
	mb = account_add("m.b@one.test");
	check_leads("mary-x@one.test", 0, "");
	check_leads(JOE_UPPER "@one.test", 0, "");
	check_leads("mb@one.test", 0, "");

	rules("one.test", "-=", false, false, 0);
	check_leads("mary-x@one.test", mary, "x");
	check_leads("mary=x-y@one.test", mary, "x-y");
	check_leads("mary-ann@one.test", ann, "");
	check_leads("mary-ann-x@one.test", ann, "x");
	check_leads("mary-ann-x=y-@one.test", ann, "x=y-");
	check_leads("mary+x@one.test", 0, "");
	check_leads("-mary@one.test", 0, "");
	check_leads("postmaster-x@one.test", mary, "x");
	rules("one.test", "", false, false, 0);
	check_leads("mary-x@one.test", 0, "");
	check_leads("mary+x@one.test", 0, "");

	rules("one.test", "+", true, false, 0);
	check_leads(JOE_UPPER "@one.test", joe, "");
	check_leads(JOE_UPPER "+Q@one.test", joe, "q");
	check_leads("jo\xcc\x88" "e\xcc\x88" "@one.test", joe, "");
	check_leads("mb@one.test", 0, "");
	rules("one.test", "+", false, true, 0);
	check_leads("mb@one.test", mb, "");
	check_leads("M.B@one.test", mb, "");
	check_leads("ma.ry+a.b@one.test", mary, "a.b");
	check_leads("\".mary.\"@one.test", mary, "");
	check_leads("\"...\"@one.test", 0, "");
	check_leads(JOE_UPPER "@one.test", 0, "");

	/* A name that comes, goes, and comes again under another spelling. */
	ck_assert_int_eq(ALIAS("in.fo@one.test", "mary@one.test"), 0);
	ck_assert_int_eq(ALIAS("in.fo@one.test", "mary@one.test", "m.b@one.test"), 0);
	ck_assert_int_eq(ALIAS("info@one.test", "mary@one.test"), -1);
	ck_assert_int_eq(e.code, ERR_CODE_EXISTS);
	struct address_name info = name("in.fo@one.test");
	ck_assert_int_eq(directory_alias_delete(d, &info, &e), 0);
	check_leads("info@one.test", 0, "");
	ck_assert_int_eq(ALIAS("info@one.test", "mary@one.test"), 0);
	check_leads("i.n.f.o@one.test", mary, "");
	ck_assert_int_eq(ALIAS("sales@one.test", "info@one.test"), 0);
	ck_assert_int_eq(ALIAS("info@one.test", "s.ales@one.test"), -1);
	ck_assert_int_eq(e.code, ERR_CODE_BAD_NAME);

	/* The other domain has none of this; what is on disk says the same. */
	ck_assert_int_eq(ALIAS("mary@two.test", "mary@one.test"), 0);
	check_leads("ma.ry@two.test", 0, "");
	open_again(false);
	check_leads("i.nfo@one.test", mary, "");
	rules("one.test", "+", false, false, 0);
	check_leads("i.nfo@one.test", 0, "");
	(void)account_add("i.nfo@one.test");
	rules("one.test", "+", true, true, -1);
	ck_assert_int_eq(e.code, ERR_CODE_EXISTS);
	check_leads("i.n.fo@one.test", 0, "");
	rules("three.test", "+", true, true, -1);
	ck_assert_int_eq(directory_domain_delete(d, "one.test", true, &e), 0);
	domain_add("one.test");
	rules("one.test", "+", true, true, 0);
	mary = account_add("i.n.f.o@one.test");
	check_leads("info@one.test", mary, "");
}
END_TEST

/* More names than one scan takes. */
START_TEST(test_rules_of_many)
{
	char text[64];

	domain_add("one.test");
	for (unsigned i = 0; i < 600; i++) {
		(void)snprintf(text, sizeof text, "u.%u@one.test", i);
		(void)account_add(text);
	}
	rules("one.test", "+", false, true, 0);
	for (unsigned i = 0; i < 600; i++) {
		struct dir_resolved r;

		(void)snprintf(text, sizeof text, "u%u@one.test", i);
		ck_assert_msg(resolve(text, &r) == DIR_LOCAL, "%s", text);
	}
	rules("one.test", "+", false, false, 0);
	check_leads("u599@one.test", 0, "");
}
END_TEST

/* The bare postmaster: the host's own domain, else one above it, else the first one. */
START_TEST(test_bare_postmaster)
{
	struct dir_resolved r;
	uint64_t z, one;

	ck_assert_int_eq(resolve("postmaster", &r), DIR_NOT_OURS);
	domain_add("z.test");
	ck_assert_int_eq(resolve("postmaster", &r), DIR_UNKNOWN);
	z = account_add("z@z.test");
	domain_add("a.test");
	ck_assert_int_eq(resolve("postmaster", &r), DIR_LOCAL);
	ck_assert_uint_eq(r.account[0], z);
	domain_add("one.test");
	one = account_add("x@one.test");
	ck_assert_int_eq(resolve("POSTMASTER", &r), DIR_LOCAL);
	ck_assert_uint_eq(r.account[0], one);
}
END_TEST

/* Aliases that lead to other servers. */
static int
alias_outside(const char *from, const char *const *to, unsigned n)
{
	struct address_name a = name(from);
	struct dir_alias alias = {.created = 1000, .n = n};

	for (unsigned i = 0; i < n; i++)
		alias.target[i] = slice_str(to[i]);
	if (directory_alias_check(d, &a, &alias, true, &e) != 0)
		return -1;
	return directory_alias_set(d, &a, &alias, &e);
}
#define ALIAS_OUTSIDE(from, ...)                                                                           \
	alias_outside(from, (const char *const[]){__VA_ARGS__},                                        \
	    sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

#define NOW 1700000000u
#define DAY 86400

static struct dir_forwarded forwarded;

static enum dir_status
forward(const char *sender, const char *recipient, uint64_t now)
{
	const struct dir_envelope envelope = {slice_str(sender), slice_str(recipient), HOSTNAME, now};

	directory_forward(d, &envelope, &forwarded);
	return forwarded.resolved.status;
}

/* The i-th outside address. */
static const char *
outside_at(unsigned i)
{
	struct cursor c = cursor_of(slice_of(forwarded.resolved.outside, forwarded.resolved.outside_bytes));
	static char text[ADDRESS_BYTES_MAX + 1];
	struct slice s = {NULL, 0};

	for (unsigned n = 0; n <= i; n++)
		s = cursor_slice(&c, ADDRESS_BYTES_MAX);
	ck_assert(!c.bad && slice_cstr(s, text, sizeof text));
	return text;
}

START_TEST(test_outside)
{
	uint64_t alice;

	domain_add("one.test");
	alice = account_add("alice@one.test");
	ck_assert_int_eq(ALIAS_OUTSIDE("out@one.test", "Bob.X@elsewhere.test"), 0);
	ck_assert_int_eq(ALIAS_OUTSIDE("both@one.test", "alice@one.test", "carol@third.test", "out@one.test"), 0);
	ck_assert_int_eq(ALIAS_OUTSIDE("@one.test", "all@elsewhere.test"), 0);
	ck_assert_int_eq(ALIAS("not@one.test", "bob@elsewhere.test"), -1);
	/* Every way to it is within the limits and comes to an end. */
	ck_assert_int_eq(ALIAS_OUTSIDE("x@one.test", "nobody@one.test"), -1);

	ck_assert_int_eq(forward("a@client.test", "out@one.test", NOW), DIR_LOCAL);
	ck_assert_uint_eq(forwarded.resolved.n, 0);
	ck_assert_uint_eq(forwarded.resolved.outside_n, 1);
	ck_assert_str_eq(outside_at(0), "Bob.X@elsewhere.test");
	ck_assert(slice_starts(slice_str(forwarded.sender), SLICE("SRS0=")));
	ck_assert(slice_ends_nocase(slice_str(forwarded.sender), SLICE("=client.test=a@one.test")));

	ck_assert_int_eq(forward("a@client.test", "both+x@ONE.test", NOW), DIR_LOCAL);
	ck_assert_uint_eq(forwarded.resolved.n, 1);
	ck_assert_uint_eq(forwarded.resolved.account[0], alice);
	ck_assert_uint_eq(forwarded.resolved.outside_n, 2);
	ck_assert_str_eq(outside_at(0), "carol@third.test");
	ck_assert_str_eq(outside_at(1), "Bob.X@elsewhere.test");
	ck_assert(slice_ends_nocase(slice_str(forwarded.sender), SLICE("@one.test")));
	ck_assert_int_eq(forward("a@client.test", "whoever@one.test", NOW), DIR_LOCAL);
	ck_assert_str_eq(outside_at(0), "all@elsewhere.test");

	/* The account among the targets may send in the alias's name. */
	ck_assert_int_eq(directory_may_send(d, alice, SLICE("both@one.test"), HOSTNAME, &e), 1);
	ck_assert_int_eq(directory_may_send(d, alice, SLICE("out@one.test"), HOSTNAME, &e), 0);

	/* Only what goes elsewhere gets another sender, but not the null one; ours stays one of its own domain. */
	ck_assert_int_eq(forward("a@client.test", "alice@one.test", NOW), DIR_LOCAL);
	ck_assert_str_eq(forwarded.sender, "");
	ck_assert_int_eq(forward("", "out@one.test", NOW), DIR_LOCAL);
	ck_assert_str_eq(forwarded.sender, "");
	ck_assert_int_eq(forward("alice@one.test", "out@one.test", NOW), DIR_LOCAL);
	ck_assert(slice_ends_nocase(slice_str(forwarded.sender), SLICE("=one.test=alice@one.test")));
	domain_add("in.one.test");
	ck_assert_int_eq(forward("a@in.one.test", "out@one.test", NOW), DIR_LOCAL);
	ck_assert(slice_ends_nocase(slice_str(forwarded.sender), SLICE("=in.one.test=a@in.one.test")));
	/* 64 octets before the @ when it goes on again, and one more. */
	ck_assert_int_eq(forward("a234567890b234567890c234567890d234@in.one.test", "out@one.test", NOW), DIR_LOCAL);
	ck_assert_uint_eq(strcspn(forwarded.sender, "@"), ADDRESS_LOCAL_BYTES_MAX - 1);
	ck_assert_int_eq(forward("a234567890b234567890c234567890d2345@in.one.test", "out@one.test", NOW), DIR_LOCAL);
	ck_assert_str_eq(forwarded.sender, "a234567890b234567890c234567890d2345@in.one.test");

	/* An address that has become ours is looked up as ours. */
	domain_add("elsewhere.test");
	ck_assert_int_eq(forward("a@client.test", "out@one.test", NOW), DIR_UNKNOWN);
	uint64_t bob = account_add("bob.x@elsewhere.test");
	ck_assert_int_eq(ALIAS("out@one.test", "bob.x@elsewhere.test"), 0);
	ck_assert_int_eq(forward("a@client.test", "out@one.test", NOW), DIR_LOCAL);
	ck_assert_uint_eq(forwarded.resolved.account[0], bob);
	ck_assert_uint_eq(forwarded.resolved.outside_n, 0);
}
END_TEST

START_TEST(test_outside_most)
{
	char text[DIR_ALIAS_TARGETS_MAX][32];
	const char *to[DIR_ALIAS_TARGETS_MAX];

	domain_add("one.test");
	for (unsigned i = 0; i < DIR_ALIAS_TARGETS_MAX; i++) {
		(void)snprintf(text[i], sizeof text[i], "a%u@elsewhere.test", i);
		to[i] = text[i];
	}
	ck_assert_int_eq(alias_outside("many@one.test", to, DIR_EXPANSION_NAMES_MAX), -1);
	ck_assert_int_eq(e.code, ERR_CODE_TOO_BIG);
	ck_assert_int_eq(alias_outside("many@one.test", to, DIR_EXPANSION_NAMES_MAX - 1), 0);
	ck_assert_int_eq(forward("a@client.test", "many@one.test", NOW), DIR_LOCAL);
	ck_assert_uint_eq(forwarded.resolved.outside_n, DIR_EXPANSION_NAMES_MAX - 1);
	ck_assert_str_eq(outside_at(DIR_EXPANSION_NAMES_MAX - 2), to[DIR_EXPANSION_NAMES_MAX - 2]);
}
END_TEST

/* What was made with the secret before is good as long as ever; with one before that, no more. */
START_TEST(test_rotate)
{
	char bounce[2][SRS_ADDRESS_BYTES_MAX + 1];
	struct dir_srs_state state;

	domain_add("one.test");
	ck_assert_int_eq(ALIAS_OUTSIDE("out@one.test", "bob@elsewhere.test"), 0);
	ck_assert_int_eq(directory_srs_state(d, &state, &e), 0);
	ck_assert(!state.any && state.older_until == 0);
	for (unsigned i = 0; i < 2; i++) {
		ck_assert_int_eq(forward("a@client.test", "out@one.test", NOW), DIR_LOCAL);
		memcpy(bounce[i], forwarded.sender, sizeof bounce[i]);
		ck_assert(i == 0 || strcmp(bounce[i], bounce[i - 1]) != 0);
		if (i == 1) {
			ck_assert_int_eq(directory_srs_rotate(d, NOW + SRS_DAYS_MAX * DAY - 1, false, &e), -1);
			ck_assert_int_eq(e.class, ERR_PERM);
		}
		ck_assert_int_eq(forward("", bounce[0], NOW), DIR_LOCAL);
		ck_assert_int_eq(directory_srs_rotate(d, NOW, i == 1, &e), 0);
		open_again(false);
		ck_assert_int_eq(directory_srs_state(d, &state, &e), 0);
		ck_assert(state.any && state.since == NOW && state.older_until == NOW + SRS_DAYS_MAX * DAY);
		ck_assert_int_eq(forward("", bounce[i], NOW), DIR_LOCAL);
		ck_assert_str_eq(outside_at(0), "a@client.test");
	}
	ck_assert_int_eq(forward("", bounce[0], NOW), DIR_UNKNOWN);
	ck_assert_int_eq(directory_srs_rotate(d, NOW + SRS_DAYS_MAX * DAY, false, &e), 0);
	ck_assert_int_eq(forward("", bounce[1], NOW), DIR_UNKNOWN);
}
END_TEST

START_TEST(test_bounce)
{
	char bounce[SRS_ADDRESS_BYTES_MAX + 1];

	domain_add("one.test");
	uint64_t alice = account_add("alice@one.test");
	ck_assert_int_eq(ALIAS_OUTSIDE("out@one.test", "bob@elsewhere.test"), 0);
	ck_assert_int_eq(forward("a@client.test", "out@one.test", NOW), DIR_LOCAL);
	memcpy(bounce, forwarded.sender, sizeof bounce);

	/* The secret stays. */
	open_again(false);
	ck_assert_int_eq(forward("a@client.test", "out@one.test", NOW), DIR_LOCAL);
	ck_assert_str_eq(bounce, forwarded.sender);
	open_again(false);

	ck_assert_int_eq(forward("", bounce, NOW + 5 * DAY), DIR_LOCAL);
	ck_assert_uint_eq(forwarded.resolved.n, 0);
	ck_assert_uint_eq(forwarded.resolved.outside_n, 1);
	ck_assert_str_eq(outside_at(0), "a@client.test");
	ck_assert_str_eq(forwarded.sender, "");

	/* Not a way for anybody's mail, nor for ever, nor made by somebody else, nor for another domain. */
	ck_assert_int_eq(forward("x@client.test", bounce, NOW), DIR_UNKNOWN);
	ck_assert_uint_eq(forwarded.resolved.outside_n, 0);
	ck_assert_int_eq(forward("", bounce, NOW + 30 * DAY), DIR_UNKNOWN);
	ck_assert_int_eq(forward("", "SRS0=hhhhhhhh=tt=client.test=a@one.test", NOW), DIR_UNKNOWN);
	ck_assert_int_eq(forward("", "SRS0=hhhhhhhh=tt=client.test=a@elsewhere.test", NOW), DIR_NOT_OURS);
	domain_add("two.test");
	memcpy(bounce + strlen(bounce) - strlen("one.test"), "two.test", 8);
	ck_assert_int_eq(forward("", bounce, NOW), DIR_UNKNOWN);

	/* Longer than our own names may be; and to what has become ours. */
	ck_assert_int_eq(forward("bounces-0123456789-0123456789-a=client.test@in.the.meantime.test", "out@one.test", NOW), DIR_LOCAL);
	memcpy(bounce, forwarded.sender, sizeof bounce);
	ck_assert_int_eq(forward("", bounce, NOW), DIR_LOCAL);
	ck_assert_str_eq(outside_at(0), "bounces-0123456789-0123456789-a=client.test@in.the.meantime.test");
	domain_add("in.the.meantime.test");
	ck_assert_int_eq(forward("", bounce, NOW), DIR_UNKNOWN);
	ck_assert_int_eq(ALIAS("@in.the.meantime.test", "alice@one.test"), 0);
	ck_assert_int_eq(forward("", bounce, NOW), DIR_LOCAL);
	ck_assert_uint_eq(forwarded.resolved.account[0], alice);

	/* What looks like one may be a name. */
	uint64_t looks = account_add("srs0-team@one.test");
	ck_assert_int_eq(forward("x@client.test", "SRS0-Team@one.test", NOW), DIR_LOCAL);
	ck_assert_uint_eq(forwarded.resolved.account[0], looks);
}
END_TEST

/* What another server makes of our reverse-path: something before our local part without its first octets, and something behind it. */
struct way {
	const char *before;
	int skip;
	const char *behind;
};

static void
come_back(const struct way *w, char path[400])
{
	const char *ours = forwarded.sender;

	(void)snprintf(path, 400, "%s%.*s%s", w->before, (int)strcspn(ours, "@") - w->skip, ours + w->skip, w->behind);
}

/* A loop is found by the reverse-path alone, whatever the servers on its way make of that. */
START_TEST(test_loop)
{
	static const struct way ways[] = {{"", 0, "@one.test"}, {"SRS1=hash=one.test=", 4, "@their.test"},
	    {"SRS0=hash=tt=one.test=", 0, "@their.test"}, {"SRS1=hash=ONE.test=", 4, "@[192.0.2.1]"}};
	/* Of the last but one the address has 64 octets before the @ from the second time on; the last was rewritten by the one that sends
	 * it back. */
	static const char *const senders[] = {"a@client.test", "alice@one.test", "a234567890b234567890c234567890d234567@one.test",
	    "SRS0=hhhh=tt=client.test=a@their.test", "\"a b\"@client.test"};
	char path[400];

	domain_add("one.test");
	domain_add("two.test");
	(void)account_add("alice@one.test");
	ck_assert_int_eq(ALIAS_OUTSIDE("out@one.test", "bob@elsewhere.test"), 0);
	ck_assert_int_eq(ALIAS_OUTSIDE("out@two.test", "bob@elsewhere.test"), 0);
	for (size_t w = 0; w < sizeof ways / sizeof *ways; w++)
		for (size_t s = 0; s < 4; s++) {
			(void)snprintf(path, sizeof path, "%s", senders[s]);
			for (unsigned times = 1; times <= SRS_TIMES_MAX; times++) {
				ck_assert_int_eq(forward(path, "out@one.test", NOW), DIR_LOCAL);
				ck_assert_msg(!forwarded.looped, "%zu %s", w, path);
				ck_assert(slice_starts(slice_str(forwarded.sender), SLICE("SRS0=")));
				ck_assert(strcspn(forwarded.sender, "@") <= ADDRESS_LOCAL_BYTES_MAX || s == 3);
				come_back(&ways[w], path);
			}
			ck_assert_int_eq(forward(path, "out@one.test", NOW), DIR_LOCAL);
			ck_assert_msg(forwarded.looped, "%zu %s", w, path);
			ck_assert_str_eq(forwarded.sender, "");
			/* A mailbox gets it; and with another secret, or in a while, it is a sender like any other. */
			ck_assert_int_eq(forward(path, "alice@one.test", NOW), DIR_LOCAL);
			ck_assert(!forwarded.looped);
			ck_assert_int_eq(forward(path, "out@one.test", NOW + 30 * DAY), DIR_LOCAL);
			ck_assert(!forwarded.looped);
		}

	/* Through another domain of ours, with quotes, and past a new secret: counted on. */
	ck_assert_int_eq(forward(senders[4], "out@one.test", NOW), DIR_LOCAL);
	(void)snprintf(path, sizeof path, "%s", forwarded.sender);
	ck_assert_int_eq(directory_srs_rotate(d, NOW, false, &e), 0);
	for (unsigned times = 2; times <= SRS_TIMES_MAX; times++) {
		ck_assert_int_eq(forward(path, times % 2 == 0 ? "out@two.test" : "out@one.test", NOW), DIR_LOCAL);
		ck_assert(!forwarded.looped);
		(void)snprintf(path, sizeof path, "%s", forwarded.sender);
	}
	ck_assert_int_eq(forward("", path, NOW), DIR_LOCAL);
	ck_assert_str_eq(outside_at(0), senders[4]);
	ck_assert_int_eq(forward(path, "out@one.test", NOW), DIR_LOCAL);
	ck_assert(forwarded.looped);

	/* Another server's own is nothing of ours. */
	ck_assert_int_eq(forward("SRS1=hash=elsewhere.test==hhhhhhhhd=tt=client.test=a@their.test", "out@one.test", NOW), DIR_LOCAL);
	ck_assert(!forwarded.looped);
	ck_assert(slice_ends_nocase(slice_str(forwarded.sender), SLICE("=their.test=SRS1=hash=elsewhere.test==hhhhhhhhd=tt=client.test=a@one.test")));
}
END_TEST

/* A domain has two forms; ours is one, whichever a sender or a bounce has. Whoever writes to a user under such an address reaches him. */
START_TEST(test_bounce_to_us)
{
	static const char *const tails[] = {"@b\303\274cher.test", "@xn--bcher-kva.test", "@XN--Bcher-KVA.test"};
	char path[400], tail[400];

	domain_add("xn--bcher-kva.test");
	uint64_t alice = account_add("alice@b\303\274cher.test");
	ck_assert_int_eq(ALIAS_OUTSIDE("out@b\303\274cher.test", "bob@elsewhere.test"), 0);
	for (size_t i = 0; i < sizeof tails / sizeof *tails; i++) {
		(void)snprintf(path, sizeof path, "alice%s", tails[i]);
		ck_assert_int_eq(forward(path, "out@b\303\274cher.test", NOW), DIR_LOCAL);
		ck_assert(slice_ends_nocase(slice_str(forwarded.sender), SLICE("=xn--bcher-kva.test=alice@xn--bcher-kva.test")));
		memcpy(path, forwarded.sender, sizeof forwarded.sender);
		for (size_t k = 0; k < sizeof tails / sizeof *tails; k++) {
			(void)snprintf(tail, sizeof tail, "%.*s%s", (int)strcspn(path, "@"), path, tails[k]);
			ck_assert_int_eq(forward("", tail, NOW), DIR_LOCAL);
			ck_assert_uint_eq(forwarded.resolved.account[0], alice);
			ck_assert_int_eq(forward("list@client.test", tail, NOW), DIR_LOCAL);
			ck_assert_uint_eq(forwarded.resolved.account[0], alice);
			ck_assert_uint_eq(forwarded.resolved.outside_n, 0);
		}
	}
	ck_assert_int_eq(forward("a@b\303\274cher.client.test", "out@b\303\274cher.test", NOW), DIR_LOCAL);
	ck_assert(slice_ends_nocase(slice_str(forwarded.sender), SLICE("=xn--bcher-kva.client.test=a@xn--bcher-kva.test")));
}
END_TEST

START_TEST(test_alias_refused)
{
	static const struct {
		const char *from, *to;
		enum err_code want;
	} rows[] = {
	    {"x@one.test", "alice@elsewhere.test", ERR_CODE_BAD_NAME},
	    {"x@one.test", "nobody@one.test", ERR_CODE_NOT_FOUND},
	    {"x@one.test", "x@one.test", ERR_CODE_NOT_FOUND},
	    {"alice@one.test", "b@one.test", ERR_CODE_EXISTS},
	    {"x@elsewhere.test", "alice@one.test", ERR_CODE_NOT_FOUND},
	    {"b@one.test", "b@one.test", ERR_CODE_BAD_NAME},
	    {"b@one.test", "c@one.test", ERR_CODE_BAD_NAME},
	    {"b@one.test", "c+detail@one.test", ERR_CODE_BAD_NAME},
	    {"b@one.test", "d@one.test", ERR_CODE_BAD_NAME},
	    {"@one.test", "nobody@one.test", ERR_CODE_NOT_FOUND},
	};

	domain_add("one.test");
	(void)account_add("alice@one.test");
	ck_assert_int_eq(ALIAS("b@one.test", "alice@one.test"), 0);
	ck_assert_int_eq(ALIAS("c@one.test", "b@one.test"), 0);
	ck_assert_int_eq(ALIAS("d@one.test", "c@one.test"), 0);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		ck_assert_msg(ALIAS(rows[i].from, rows[i].to) == -1, "row %zu", i);
		ck_assert_msg(e.class == ERR_PERM && e.code == rows[i].want, "row %zu: %d %s", i,
		    e.code, e.client);
	}
	struct address_name n = name("b@one.test");
	uint64_t id;

	ck_assert_int_eq(directory_account_add(d, &n, SLICE(""), HASH, 1, &id, &e), -1);
	ck_assert_int_eq(e.code, ERR_CODE_EXISTS);
}
END_TEST

/* n aliases in a row, the last one an account. */
static int
chain(unsigned n)
{
	char from[64], to[64];
	int r = 0;

	for (unsigned i = 1; r == 0 && i <= n; i++) {
		(void)snprintf(from, sizeof from, "c%u@one.test", i);
		(void)snprintf(to, sizeof to, i == 1 ? "alice@one.test" : "c%u@one.test", i - 1);
		r = ALIAS(from, to);
	}
	return r;
}

START_TEST(test_alias_depth)
{
	struct dir_resolved r;

	domain_add("one.test");
	(void)account_add("alice@one.test");
	ck_assert_int_eq(chain(DIR_ALIAS_DEPTH_MAX), 0);
	ck_assert_int_eq(resolve("c10@one.test", &r), DIR_LOCAL);
	ck_assert_int_eq(ALIAS("c11@one.test", "c10@one.test"), -1);
	ck_assert_int_eq(e.code, ERR_CODE_TOO_BIG);
}
END_TEST

/* 100 names in all, the alias's own included. */
START_TEST(test_alias_names)
{
	char text[DIR_EXPANSION_NAMES_MAX][32];
	const char *to[DIR_EXPANSION_NAMES_MAX];
	struct dir_resolved r;

	domain_add("one.test");
	for (unsigned i = 0; i < DIR_EXPANSION_NAMES_MAX; i++) {
		(void)snprintf(text[i], sizeof text[i], "u%u@one.test", i);
		(void)account_add(text[i]);
		to[i] = text[i];
	}
	ck_assert_int_eq(alias_set("all@one.test", to, DIR_EXPANSION_NAMES_MAX - 1), 0);
	ck_assert_int_eq(resolve("all@one.test", &r), DIR_LOCAL);
	ck_assert_uint_eq(r.n, DIR_EXPANSION_NAMES_MAX - 1);
	ck_assert_int_eq(alias_set("all@one.test", to, DIR_EXPANSION_NAMES_MAX), -1);
	ck_assert_int_eq(e.code, ERR_CODE_TOO_BIG);
	/* Grown behind the back of another alias: the message waits, nothing is lost. */
	ck_assert_int_eq(ALIAS("top@one.test", "all@one.test"), -1);
	ck_assert_int_eq(alias_set("all@one.test", to, DIR_EXPANSION_NAMES_MAX - 2), 0);
	ck_assert_int_eq(ALIAS("top@one.test", "all@one.test"), 0);
	ck_assert_int_eq(alias_set("all@one.test", to, DIR_EXPANSION_NAMES_MAX - 1), 0);
	ck_assert_int_eq(resolve("top@one.test", &r), DIR_TEMP);
	ck_assert_uint_eq(r.n, 0);
}
END_TEST

START_TEST(test_may_send)
{
	uint64_t alice, bob;

	domain_add("one.test");
	alice = account_add("alice@one.test");
	bob = account_add("bob@one.test");
	ck_assert_int_eq(ALIAS("sales@one.test", "bob@one.test"), 0);

	const struct {
		uint64_t account;
		const char *address;
		int want;
	} rows[] = {
	    {alice, "alice@one.test", 1},
	    {alice, "Alice+x@one.test", 1},
	    {alice, "bob@one.test", 0},
	    {alice, "sales@one.test", 0},
	    {bob, "sales@one.test", 1},
	    {bob, "bob@elsewhere.test", 0},
	    {alice, "postmaster@one.test", 1},
	    {bob, "postmaster@one.test", 0},
	    {alice, "", 0},
	    {0, "nobody@one.test", 0},
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		ck_assert_msg(directory_may_send(d, rows[i].account, slice_str(rows[i].address),
				  HOSTNAME, &e) == rows[i].want,
		    "row %zu", i);
}
END_TEST

static int
grant(const char *address, const char *const *to, unsigned n)
{
	static struct dir_alias targets;
	struct address_name name;

	ck_assert_int_eq(address_admin_parse(slice_str(address), true, &name, &e), 0);
	targets = (struct dir_alias){.created = 1, .n = n};
	for (unsigned i = 0; i < n; i++)
		targets.target[i] = slice_str(to[i]);
	return directory_sender_check(d, &name, &targets, &e) == 0 ? directory_sender_set(d, &name, &targets, &e) : -1;
}

#define GRANT(address, ...) grant(address, (const char *const[]){__VA_ARGS__}, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

static int
may(uint64_t account, const char *address)
{
	return directory_may_send(d, account, slice_str(address), HOSTNAME, &e);
}

/* To send as somebody else: by the name that takes the address, whatever the way to it; for as long as that name is there. */
START_TEST(test_delegated)
{
	struct address_rules rules = ADDRESS_RULES_DEFAULT;
	struct address_name name;
	uint64_t alice, bob, carol;

	domain_add("one.test");
	domain_add("two.test");
	alice = account_add("alice@one.test");
	bob = account_add("bob@one.test");
	carol = account_add("carol@one.test");
	ck_assert_int_eq(ALIAS("sales@one.test", "alice@one.test"), 0);
	ck_assert_int_eq(ALIAS("team@two.test", "bob@one.test", "carol@one.test"), 0);
	ck_assert_int_eq(ALIAS("@one.test", "alice@one.test"), 0);
	ck_assert_int_eq(GRANT("nobody@one.test", "bob@one.test"), -1);
	ck_assert_int_eq(e.code, ERR_CODE_NOT_FOUND);
	ck_assert_int_eq(GRANT("sales@one.test", "nobody@two.test"), -1);
	ck_assert_int_eq(e.code, ERR_CODE_NOT_FOUND);
	ck_assert_int_eq(GRANT("sales@one.test", "x@elsewhere.test"), -1);
	ck_assert_int_eq(may(bob, "sales@one.test"), 0);
	ck_assert_int_eq(GRANT("sales@one.test", "bob@one.test"), 0);
	ck_assert_int_eq(may(bob, "sales@one.test"), 2);
	ck_assert_int_eq(may(bob, "SALES+x@one.test"), 2);
	ck_assert_int_eq(may(alice, "sales@one.test"), 1);
	ck_assert_int_eq(may(carol, "sales@one.test"), 0);
	ck_assert_int_eq(may(bob, "alice@one.test"), 0);
	ck_assert_int_eq(GRANT("alice@one.test", "team@two.test"), 0);
	ck_assert_int_eq(may(carol, "alice@one.test"), 2);
	ck_assert_int_eq(may(carol, "sales@one.test"), 0);
	/* The catch-all is what no other name takes, the role addresses not included. */
	ck_assert_int_eq(GRANT("@one.test", "carol@one.test"), 0);
	ck_assert_int_eq(may(carol, "anything@one.test"), 2);
	ck_assert_int_eq(may(carol, "bob@one.test"), 0);
	ck_assert_int_eq(may(carol, "bob+x@one.test"), 0);
	ck_assert_int_eq(may(carol, "postmaster@one.test"), 0);
	ck_assert_int_eq(may(carol, "x@two.test"), 0);
	/* What the domain calls the same is the same. */
	rules.dots_ignored = true;
	ck_assert_int_eq(directory_domain_set_rules(d, "one.test", &rules, &e), 0);
	ck_assert_int_eq(may(bob, "s.ales@one.test"), 2);
	open_again(false);
	ck_assert_int_eq(may(bob, "sales@one.test"), 2);
	/* It goes with the name, and does not come back with another of that name. */
	ck_assert_int_eq(address_admin_parse(SLICE("sales@one.test"), true, &name, &e), 0);
	ck_assert_int_eq(directory_alias_delete(d, &name, &e), 0);
	ck_assert_int_eq(may(bob, "sales@one.test"), 0);
	ck_assert_int_eq(ALIAS("sales@one.test", "alice@one.test"), 0);
	ck_assert_int_eq(may(bob, "sales@one.test"), 0);
	ck_assert_int_eq(address_admin_parse(SLICE("alice@one.test"), true, &name, &e), 0);
	ck_assert_int_eq(directory_account_delete(d, &name, &e), 0);
	(void)account_add("alice@one.test");
	ck_assert_int_eq(may(carol, "alice@one.test"), 0);
	ck_assert_int_eq(may(carol, "anything@one.test"), 2);
	ck_assert_int_eq(directory_domain_delete(d, "one.test", true, &e), 0);
	domain_add("one.test");
	carol = account_add("carol@one.test");
	ck_assert_int_eq(ALIAS("@one.test", "carol@one.test"), 0);
	(void)account_add("bob@one.test");
	ck_assert_int_eq(address_admin_parse(SLICE("@one.test"), true, &name, &e), 0);
	ck_assert_int_eq(directory_sender_delete(d, &name, &e), -1);
	ck_assert_int_eq(e.code, ERR_CODE_NOT_FOUND);
}
END_TEST

static bool
effect_note(enum dir_effect effect, uint64_t account, void *arg)
{
	uint64_t *sum = arg;

	*sum += account * (effect == DIR_EFFECT_DELETE ? 1000 : 1);
	return true;
}

static uint64_t
effects(void)
{
	uint64_t sum = 0;

	ck_assert_int_eq(directory_effect_each(d, effect_note, &sum, &e), 0);
	return sum;
}

START_TEST(test_accounts)
{
	struct address_name alice = name("alice@one.test");
	struct dir_account a;
	uint64_t id, again;

	domain_add("one.test");
	ck_assert_int_eq(directory_domain_add(d, "one.test", 1, &e), -1);
	ck_assert_int_eq(e.code, ERR_CODE_EXISTS);
	id = account_add("alice@one.test");
	ck_assert_int_eq(directory_account_add(d, &alice, SLICE(""), HASH, 1, &again, &e), -1);
	ck_assert_int_eq(e.code, ERR_CODE_EXISTS);
	ck_assert_uint_eq(effects(), 0);
	ck_assert_int_eq(directory_account_set_hash(d, &alice, SLICE("$6$other"), &e), 0);
	ck_assert_uint_eq(effects(), id);
	ck_assert_int_eq(directory_effect_done(d, DIR_EFFECT_REVOKE, id, &e), 0);
	ck_assert_uint_eq(effects(), 0);
	open_again(false);
	ck_assert_int_eq(directory_account_find(d, &alice, &a, &e), 1);
	ck_assert_uint_eq(a.id, id);
	ck_assert(slice_eq(a.hash, SLICE("$6$other")));
	ck_assert_int_eq(a.state, DIR_ACCOUNT_ACTIVE);
	suspend("alice@one.test");
	ck_assert_int_eq(directory_account_get(d, id, &a, &e), 1);
	ck_assert_int_eq(a.state, DIR_ACCOUNT_SUSPENDED);
	ck_assert_int_eq(directory_account_delete(d, &alice, &e), 0);
	ck_assert_uint_eq(effects(), id + 1000 * id);
	ck_assert_int_eq(directory_account_find(d, &alice, &a, &e), 0);
	ck_assert_int_eq(directory_account_get(d, id, &a, &e), 0);
	ck_assert_int_eq(directory_account_delete(d, &alice, &e), -1);
	ck_assert_int_eq(e.code, ERR_CODE_NOT_FOUND);
	/* An id is never used again, not even after a restart. */
	open_again(false);
	ck_assert_uint_gt(account_add("alice@one.test"), id);
}
END_TEST

START_TEST(test_domain_delete)
{
	struct address_name n = name("x@one.test");
	struct dir_account a;
	char login[32];

	domain_add("one.test");
	domain_add("one.tes");
	domain_add("two.test");
	for (unsigned i = 0; i < 300; i++) {
		(void)snprintf(login, sizeof login, "u%u@one.test", i);
		(void)account_add(login);
	}
	(void)account_add("bob@two.test");
	ck_assert_int_eq(ALIAS("x@one.test", "bob@two.test"), 0);
	ck_assert_int_eq(directory_domain_delete(d, "one.test", false, &e), -1);
	ck_assert_int_eq(e.code, ERR_CODE_IN_USE);
	ck_assert_int_eq(directory_domain_delete(d, "one.tes", false, &e), 0);
	ck_assert_int_eq(directory_domain_delete(d, "one.test", true, &e), 0);
	ck_assert_int_eq(directory_domain_delete(d, "one.test", true, &e), -1);
	ck_assert_int_eq(e.code, ERR_CODE_NOT_FOUND);
	domain_add("one.test");
	ck_assert_int_eq(directory_account_find(d, &n, &a, &e), 0);
	ck_assert_int_eq(directory_account_first(d, "one.test", &a, &e), 0);
	ck_assert_int_eq(directory_domain_delete(d, "one.test", false, &e), 0);
	ck_assert_int_eq(directory_account_first(d, NULL, &a, &e), 1);
	ck_assert(slice_eq(a.login, SLICE("bob@two.test")));
}
END_TEST

/* A record cut short, too long, or with any bit wrong is no record. */
START_TEST(test_records)
{
	struct dir_account a = {.id = 7,
	    .state = DIR_ACCOUNT_ACTIVE,
	    .created = 5,
	    .limit = {QUOTA_DEFAULT, 5},
	    .login = SLICE("alice@one.test"),
	    .display = SLICE("Alice"),
	    .hash = HASH};
	struct dir_domain domain;
	struct dir_account out;
	struct buf b;

	buf_init(&b, DIR_RECORD_BYTES_MAX);
	ck_assert(dir_account_encode(&a, &b));
	ck_assert(dir_account_decode(buf_slice(&b), &out));
	ck_assert_uint_eq(out.id, 7);
	ck_assert(slice_eq(out.login, a.login) && slice_eq(out.display, a.display) &&
		  slice_eq(out.hash, a.hash));
	ck_assert(!dir_domain_decode(buf_slice(&b), &domain));
	for (size_t i = 0; i < b.n; i++) {
		ck_assert(!dir_account_decode(slice_of(b.p, i), &out));
		b.p[i] ^= 1;
		ck_assert_msg(!dir_account_decode(buf_slice(&b), &out), "octet %zu", i);
		b.p[i] ^= 1;
	}
	ck_assert(buf_put_u8(&b, 0));
	ck_assert(!dir_account_decode(buf_slice(&b), &out));
	/* A domain's record that ends before the rules has the default ones; half of them is damage. */
	domain = (struct dir_domain){3, 4, {QUOTA_NONE, 7}, {"-+", true, true}};
	ck_assert(dir_domain_encode(&domain, &b) && dir_domain_decode(buf_slice(&b), &domain));
	ck_assert(domain.rules.fold_letters && domain.rules.dots_ignored && domain.limit.messages == 7);
	ck_assert_str_eq(domain.rules.separators, "-+");
	for (size_t n = b.n - 4, cut = 1; cut <= 8; cut++) {
		struct buf old;

		buf_init(&old, DIR_RECORD_BYTES_MAX);
		(void)buf_put_slice(&old, slice_of(b.p, n - cut));
		put_u32(&old, (uint32_t)crc32(0, old.p, (uInt)old.n));
		ck_assert_msg(dir_domain_decode(buf_slice(&old), &domain) == (cut == 8), "cut %zu", cut);
		buf_fini(&old);
	}
	ck_assert_str_eq(domain.rules.separators, "+");
	ck_assert(!domain.rules.fold_letters && !domain.rules.dots_ignored && domain.limit.messages == 7);
	a.login = SLICE("no address");
	ck_assert(dir_account_encode(&a, &b) && !dir_account_decode(buf_slice(&b), &out));
	a.id = 0;
	ck_assert(!dir_account_encode(&a, &b));
	buf_fini(&b);
}
END_TEST

/* Overwrites pages of the database: it is rebuilt from base copy and log, with all that was
 * committed. */
START_TEST(test_damage)
{
	struct address_name n = name("late@one.test");
	struct dir_account a;
	char path[96], noise[2048];
	int fd;

	domain_add("one.test");
	for (unsigned i = 0; i < 50; i++) {
		(void)snprintf(path, sizeof path, "u%u@one.test", i);
		(void)account_add(path);
	}
	open_again(false);
	(void)account_add("late@one.test");
	directory_close(&d);
	(void)snprintf(path, sizeof path, "%s/directory.db", dir);
	memset(noise, 0x5a, sizeof noise);
	fd = open(path, O_WRONLY);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(pwrite(fd, noise, sizeof noise, 4096 + 1024), sizeof noise);
	ck_assert_int_eq(close(fd), 0);
	open_again(true);
	ck_assert_int_eq(directory_account_find(d, &n, &a, &e), 1);
	open_again(false);
	/* Gone altogether. */
	directory_close(&d);
	ck_assert_int_eq(unlink(path), 0);
	open_again(true);
	ck_assert_int_eq(directory_account_find(d, &n, &a, &e), 1);
	ck_assert_uint_gt(account_add("later@one.test"), a.id);
}
END_TEST

static struct directory_db *
db_open_at(const char *path)
{
	struct directory_db *db;
	bool rebuilt;

	ck_assert_msg(directory_db_open(path, &db, &rebuilt, &e) == 0, "%s", e.detail);
	return db;
}

/* A process commits nine changes and is killed. */
static void
nine_commits(const char *path)
{
	pid_t pid = fork();

	if (pid == 0) {
		struct directory_db *db = db_open_at(path);
		char text[16] = "acknowledged-1";

		for (; text[13] <= '9'; text[13]++)
			if (directory_db_begin(db, &e) != 0 || directory_db_put(db, slice_str(text), slice_str(text), &e) != 0 ||
			    directory_db_commit(db, &e) != 0)
				_exit(1);
		_exit(0);
	}
	int status = 1;

	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
}

/* One octet in the log of what was committed under that name. */
static void
damage_log(const char *path, const char *text)
{
	static uint8_t log[4u << 20];
	char name[128];

	(void)snprintf(name, sizeof name, "%s/log.0000000001", path);
	int fd = open(name, O_RDWR);
	ssize_t n = pread(fd, log, sizeof log, 0);

	ck_assert_int_gt(n, 0);
	const uint8_t *at = memmem(log, (size_t)n, text, strlen(text));

	ck_assert_ptr_nonnull(at);
	ck_assert_int_eq(pwrite(fd, "X", 1, at - log), 1);
	ck_assert_int_eq(close(fd), 0);
}

/* Damage behind which more was acknowledged is no end of the log: it is told, once. A log that only ends is none. */
START_TEST(test_log_damage)
{
	static const struct {
		const char *damaged;
		bool told;
	} cases[] = {{NULL, false}, {"acknowledged-1", true}, {"acknowledged-5", true}, {"acknowledged-8", true}, {"acknowledged-9", false}};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		char path[96];
		struct buf value;

		(void)snprintf(path, sizeof path, "%s/other%zu", dir, i);
		ck_assert_int_eq(mkdir(path, 0700), 0);
		nine_commits(path);
		if (cases[i].damaged == NULL)
			nine_commits(path);
		if (cases[i].damaged != NULL)
			damage_log(path, cases[i].damaged);
		struct directory_db *db = db_open_at(path);

		ck_assert_msg(directory_db_log_damaged(db) == cases[i].told, "case %zu", i);
		buf_init(&value, 100);
		ck_assert_int_eq(directory_db_get(db, SLICE("acknowledged-9"), &value, &e), cases[i].damaged == NULL);
		buf_fini(&value);
		directory_db_close(&db);
		db = db_open_at(path);
		ck_assert(!directory_db_log_damaged(db));
		directory_db_close(&db);
	}
}
END_TEST

/* Files may grow to n octets and no more: as a full disk. */
static void
disk_limit(uint64_t n)
{
	struct rlimit limit;

	ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = n;
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* A change that cannot be made durable is refused as temporary, and nothing works on until the
 * database was opened again. */
START_TEST(test_disk_full)
{
	struct address_name late = name("late@one.test");
	struct dir_account a;
	char login[32];
	uint64_t id;

	ck_assert(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
	domain_add("one.test");
	for (unsigned i = 0; i < 20; i++) {
		(void)snprintf(login, sizeof login, "u%u@one.test", i);
		(void)account_add(login);
	}
	disk_limit(4096);
	ck_assert_int_eq(directory_account_add(d, &late, SLICE(""), HASH, 1, &id, &e), -1);
	ck_assert_int_eq(e.class, ERR_TEMP);
	ck_assert(directory_failed(d));
	ck_assert_int_eq(directory_account_find(d, &late, &a, &e), -1);
	ck_assert_int_eq(e.class, ERR_TEMP);
	disk_limit(RLIM_INFINITY);
	open_again(false);
	for (unsigned i = 0; i < 20; i++) {
		struct address_name n;

		(void)snprintf(login, sizeof login, "u%u@one.test", i);
		n = name(login);
		ck_assert_int_eq(directory_account_find(d, &n, &a, &e), 1);
	}
	(void)account_add("later@one.test");
}
END_TEST

/* ---- what the process before left ---- */

static struct file_ops watched;
static char synced[2048], evicted[2048];
static const char *unseen; /* whose presence cannot be told */

static void
note_path(char *list, size_t size, const char *path)
{
	size_t n = strlen(dir);

	ck_assert_int_eq(strncmp(path, dir, n), 0);
	(void)snprintf(list + strlen(list), size - strlen(list), "%s;", path + n);
}

static int
watched_sync(int fd)
{
	char link[40], path[200] = "";

	(void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	ck_assert_int_gt(readlink(link, path, sizeof path - 1), 0);
	note_path(synced, sizeof synced, path);
	return file_system_ops()->sync(fd);
}

static void
watched_evict(const char *path)
{
	note_path(evicted, sizeof evicted, path);
	file_system_ops()->evict(path);
}

static int
watched_exists(const char *path)
{
	if (unseen != NULL && strcmp(path + strlen(dir), unseen) == 0) {
		errno = EIO;
		return -1;
	}
	return file_system_ops()->exists(path);
}

/* Names and octets that a process left that was killed, or whose sync failed, are synced and read from the disk before they are believed. */
START_TEST(test_taken_over)
{
	static const char *const files[] = {"/directory.db;", "/log.0000000001;", "/base/directory.db;"};
	const char *base, *whole, *own;

	domain_add("one.test");
	directory_close(&d);
	watched = (struct file_ops){.sync = watched_sync, .evict = watched_evict};
	file_use(&watched);
	synced[0] = evicted[0] = '\0';
	open_again(false);
	file_use(NULL);
	for (unsigned i = 0; i < sizeof files / sizeof files[0]; i++) {
		ck_assert_msg(strstr(synced, files[i]) != NULL, "%s is not in %s", files[i], synced);
		ck_assert_msg(strstr(evicted, files[i]) != NULL, "%s is not in %s", files[i], evicted);
	}
	/* The directories, before anything that the opening itself makes. */
	base = strstr(synced, "/base;");
	whole = strstr(synced, ";;");
	own = strstr(synced, "/directory.db.new;");
	ck_assert(base != NULL && whole != NULL && own != NULL);
	ck_assert(base < own && whole < own);
}
END_TEST

/* What cannot be looked for is not taken for missing: a rebuild without the base copy would lose what the log no longer has. */
START_TEST(test_not_seen)
{
	static const char *const names[] = {"/directory.db", "/base/directory.db", "/rebuilding"};
	struct address_name n = name("late@one.test");
	struct dir_account a;
	bool rebuilt = false;

	domain_add("one.test");
	(void)account_add("late@one.test");
	watched = (struct file_ops){.exists = watched_exists};
	for (unsigned i = 0; i < 3; i++) {
		directory_close(&d);
		unseen = names[i];
		file_use(&watched);
		ck_assert_int_eq(directory_open(dir, &d, &rebuilt, &e), -1);
		ck_assert_int_eq(e.class, ERR_TEMP);
		unseen = NULL;
		file_use(NULL);
		open_again(false);
		ck_assert_int_eq(directory_account_find(d, &n, &a, &e), 1);
	}
}
END_TEST

/* A child adds accounts and says each number when it is acknowledged, until it is killed. */
static void
child_adds(int out, unsigned round)
{
	char login[48];

	for (unsigned i = 0;; i++) {
		struct address_name n;
		uint64_t id;

		(void)snprintf(login, sizeof login, "r%u-%u@one.test", round, i);
		n = name(login);
		if (directory_account_add(d, &n, SLICE(""), HASH, 1, &id, &e) != 0 ||
		    write(out, &i, sizeof i) != (ssize_t)sizeof i)
			_exit(1);
	}
}

START_TEST(test_killed)
{
	domain_add("one.test");
	for (unsigned round = 0; round < 5; round++) {
		unsigned said = 0, last = 0;
		int pipes[2];
		pid_t pid;

		directory_close(&d);
		ck_assert_int_eq(pipe(pipes), 0);
		pid = fork();
		if (pid == 0) {
			open_again(false);
			child_adds(pipes[1], round);
		}
		(void)close(pipes[1]);
		while (said < 20 + round * 7 &&
		       read(pipes[0], &last, sizeof last) == (ssize_t)sizeof last)
			said++;
		ck_assert_int_eq(kill(pid, SIGKILL), 0);
		while (read(pipes[0], &last, sizeof last) == (ssize_t)sizeof last)
			said++;
		(void)close(pipes[0]);
		ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
		open_again(false);
		for (unsigned i = 0; i < said; i++) {
			char login[48];
			struct dir_account a;
			struct address_name n;

			(void)snprintf(login, sizeof login, "r%u-%u@one.test", round, i);
			n = name(login);
			ck_assert_msg(directory_account_find(d, &n, &a, &e) == 1, "lost %s", login);
		}
	}
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("directory");
	TCase *t = tcase_create("directory");
	SRunner *r;
	int failed;

	tcase_set_timeout(t, 120);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, test_resolve);
	tcase_add_test(t, test_rules);
	tcase_add_test(t, test_rules_of_many);
	tcase_add_test(t, test_bare_postmaster);
	tcase_add_test(t, test_outside);
	tcase_add_test(t, test_outside_most);
	tcase_add_test(t, test_bounce);
	tcase_add_test(t, test_loop);
	tcase_add_test(t, test_bounce_to_us);
	tcase_add_test(t, test_rotate);
	tcase_add_test(t, test_alias_refused);
	tcase_add_test(t, test_alias_depth);
	tcase_add_test(t, test_alias_names);
	tcase_add_test(t, test_may_send);
	tcase_add_test(t, test_delegated);
	tcase_add_test(t, test_accounts);
	tcase_add_test(t, test_domain_delete);
	tcase_add_test(t, test_records);
	tcase_add_test(t, test_damage);
	tcase_add_test(t, test_log_damage);
	tcase_add_test(t, test_disk_full);
	tcase_add_test(t, test_taken_over);
	tcase_add_test(t, test_not_seen);
	tcase_add_test(t, test_killed);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? 0 : 1;
}
