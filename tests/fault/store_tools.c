#include "tests/fault/store_tools.h"

#include "admin/account_link.h"
#include "store/keeper_private.h"
#include "store/keeper_retain.h"
#include "store/load.h"

#include <errno.h>

#define ACCOUNT "accounts/1"
#define DUMP_FILE "dump.txt"
#define OUT_FILE "out.txt"
/* The account is ahead of the dump, so that it goes back. */
#define DUMP_MESSAGES 6u
#define MESSAGES 8u
/* No whole message is so short. */
#define TORN_BYTES 3

extern const struct command commands_store[];

static void (*on_entered)(void);
static const char *place_root;

/* ---- what stands in for the server ---- */

enum command_status __wrap_account_hold(const struct command_call *call, const char *address, struct command_link **link_r);
enum command_status
__wrap_account_hold(const struct command_call *call, const char *address, struct command_link **link_r)
{
	char path[FILE_PATH_BYTES_MAX];

	(void)call;
	(void)address;
	*link_r = NULL;
	file_path(path, place_root, ACCOUNT);
	if (chdir(path) < 0)
		abort();
	if (on_entered != NULL)
		on_entered();
	return COMMAND_OK;
}

/* The command's own, in its main file. */
enum command_status
command_usage(const struct command_call *call, const char *fmt, ...)
{
	(void)call;
	(void)fmt;
	return COMMAND_USAGE;
}

uint64_t __wrap_clock_wall_us(void);
uint64_t
__wrap_clock_wall_us(void)
{
	return (FIXTURE_NOW + 1000) * 1000000;
}

/* ---- accounts ---- */

static void
path_in(char *path_r, const char *root, const char *name)
{
	file_path(path_r, root, name);
}

static void
make_dir(const char *root, const char *name)
{
	char path[FILE_PATH_BYTES_MAX];

	path_in(path, root, name);
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		abort();
}

static void
put_file(const char *root, const char *name, const char *text)
{
	char path[FILE_PATH_BYTES_MAX];

	path_in(path, root, name);
	FILE *f = fopen(path, "w");

	if (f == NULL || fputs(text, f) < 0 || fclose(f) != 0)
		abort();
}

/* A small account with something of each kind; then left as a process that died, or closed. */
static void
make_account(const char *root, const char *word, unsigned messages, bool closed)
{
	struct index *ix;
	struct err e;
	uint32_t uid, inbox, work;
	char text[96];

	salvage_must(index_open(root, FIXTURE_NOW, &ix, &e), &e);
	inbox = index_target(ix, STORE_TARGET_INBOX);
	work = fixture_mailbox(ix, MBOX_CREATE, "Work", "", &e);
	for (unsigned i = 0; i < messages; i++) {
		(void)snprintf(text, sizeof text, "Received: from a by b; Tue, 1 Jul 2003 10:52:37 +0200\r\nSubject: %s %u\r\n\r\n", word, i);
		salvage_must(fixture_append(ix, root, inbox, text, &uid, &e), &e);
	}
	salvage_must(fixture_flags(ix, inbox, STORE_FLAGS_ADD, STORE_FLAG_SEEN, "first\nsecond\n", 1, 3, &e), &e);
	salvage_must(fixture_copy(ix, inbox, work, false, 1, 2, &e), &e);
	salvage_must(fixture_expunge(ix, inbox, 5, 5, &e), &e);
	salvage_must(index_flush(ix, &e), &e);
	if (closed)
		index_close(&ix);
	else
		salvage_abandon(&ix);
}

static void
account_path(char *path_r, const char *root)
{
	path_in(path_r, root, ACCOUNT);
}

/* dump.txt and messages/ of another account. */
static void
make_dump(const char *root)
{
	char path[FILE_PATH_BYTES_MAX], *text;
	struct index *ix;
	struct err e;

	make_dir(root, "messages");
	path_in(path, root, "messages");
	make_account(path, "loaded", DUMP_MESSAGES, true);
	salvage_must(index_open(path, FIXTURE_NOW, &ix, &e), &e);
	text = salvage_dump(ix);
	put_file(root, DUMP_FILE, text);
	free(text);
	index_close(&ix);
	/* Only its messages are of use. */
	path_in(path, root, "messages/index");
	(void)tree_remove(path);
}

/* ---- the tools ---- */

static enum command_status
command(const char *name, char **argv, int argc)
{
	struct config *config = config_new();
	const struct command *c = commands_store;
	struct err e;

	while (strcmp(c->name, name) != 0)
		c++;
	salvage_must(config_set(config, OPT_STATE_DIR, slice_str(place_root), &e), &e);
	struct command_call call = {.config = config, .command = c, .argc = argc, .argv = argv};
	enum command_status status = c->run(&call);

	config_free(&config);
	return status;
}

#define WORD(text) ((char[]){text})

static enum command_status
run_load(void)
{
	char *argv[] = {WORD("1"), WORD(DUMP_FILE), WORD("--messages"), WORD("messages"), NULL};

	return command("store load", argv, 4);
}

static enum command_status
run_replace(void)
{
	char *argv[] = {WORD("1"), WORD(DUMP_FILE), WORD("--messages"), WORD("messages"), WORD("--replace"), NULL};

	return command("store load", argv, 5);
}

static enum command_status
run_salvage(void)
{
	char *argv[] = {WORD("1"), NULL};

	return command("store salvage", argv, 1);
}

static enum command_status
run_rebuild(void)
{
	char *argv[] = {WORD("1"), NULL};

	return command("store rebuild", argv, 1);
}

static enum command_status
run_dump(void)
{
	char *argv[] = {WORD("1"), WORD(OUT_FILE), WORD("--with-messages"), WORD("./copy"), NULL};

	/* Its index is read by a child, its messages by itself. */
	if (on_entered != NULL)
		on_entered();
	on_entered = NULL;
	return command("store dump", argv, 4);
}

/* As the keeper does it when nobody uses the account. */
static enum command_status
run_account_dump(void)
{
	struct command_link *none;
	struct index *ix;
	struct err e;

	(void)__wrap_account_hold(NULL, NULL, &none);
	if (index_open(".", FIXTURE_NOW, &ix, &e) < 0) {
		fprintf(stderr, "mailstead: %s\n", e.detail);
		return COMMAND_TEMPORARY;
	}
	the_keeper.root = ".";
	the_keeper.ix = ix;
	while (keeper_copy())
		continue;
	keeper_copy_stop();
	index_close(&ix);
	return COMMAND_OK;
}

static void
prepare_load(const char *root)
{
	make_dir(root, ACCOUNT);
	put_file(root, ACCOUNT "/lock", "");
	make_dump(root);
}

static void
prepare_account(const char *root)
{
	char path[FILE_PATH_BYTES_MAX];

	make_dir(root, ACCOUNT);
	account_path(path, root);
	make_account(path, "kept", MESSAGES, true);
}

static void
prepare_killed(const char *root)
{
	char path[FILE_PATH_BYTES_MAX];

	make_dir(root, ACCOUNT);
	account_path(path, root);
	make_account(path, "kept", MESSAGES, false);
}

static void
prepare_replace(const char *root)
{
	prepare_account(root);
	make_dump(root);
}

static void
prepare_dump(const char *root)
{
	prepare_account(root);
	put_file(root, OUT_FILE, "an old one\n");
}

/* Base copy and log are whole; the pages are not, and say of a log that went on for long. */
static void
prepare_sound(const char *root)
{
	const uint32_t far = 1000;
	char path[FILE_PATH_BYTES_MAX];
	struct stat st;

	prepare_killed(root);
	path_in(path, root, ACCOUNT "/index/index.db");
	int fd = open(path, O_WRONLY);

	if (fd < 0 || fstat(fd, &st) < 0)
		abort();
	for (off_t at = 0; at < st.st_size; at += CARVE_PAGE_BYTES)
		if (pwrite(fd, &far, sizeof far, at) != sizeof far)
			abort();
	(void)close(fd);
}

/* A build that was cut off between its two renames, as far as anybody can tell. */
static void
prepare_stray(const char *root)
{
	char from[FILE_PATH_BYTES_MAX], to[FILE_PATH_BYTES_MAX];

	prepare_killed(root);
	path_in(from, root, ACCOUNT "/index");
	path_in(to, root, ACCOUNT "/index.new");
	if (rename(from, to) < 0)
		abort();
	make_dir(root, ACCOUNT "/index.old");
	put_file(root, ACCOUNT "/index.old/base", "");
}

/* What is left is joined, also of a build that was cut off, and a message's file is damaged. */
static void
prepare_torn(const char *root)
{
	char path[FILE_PATH_BYTES_MAX];
	struct damage_account a = {.n = 0};

	prepare_account(root);
	path_in(path, root, ACCOUNT "/index/base");
	if (truncate(path, 300) < 0)
		abort();
	make_dir(root, ACCOUNT "/index.new");
	put_file(root, ACCOUNT "/index.new/base", "not much\n");
	damage_read_dir(&a, root, "");
	for (size_t i = 0; i < a.n; i++)
		if (strstr(a.files[i].name, "/mail/") != NULL) {
			path_in(path, root, a.files[i].name);
			if (truncate(path, TORN_BYTES) < 0)
				abort();
			break;
		}
	damage_free(&a);
}

/* From the messages' files alone. */
static void
prepare_files(const char *root)
{
	char path[FILE_PATH_BYTES_MAX];

	prepare_account(root);
	path_in(path, root, ACCOUNT "/index");
	(void)tree_remove(path);
}

const struct tool store_tools[] = {
    {.name = "load", .prepare = prepare_load, .run = run_load, .loads = true},
    {.name = "replace", .prepare = prepare_replace, .run = run_replace, .loads = true, .replaces = true},
    {.name = "sound", .prepare = prepare_sound, .run = run_salvage, .damaged = true},
    {.name = "stray", .prepare = prepare_stray, .run = run_salvage},
    {.name = "torn", .prepare = prepare_torn, .run = run_salvage, .damaged = true, .loses = true},
    {.name = "files", .prepare = prepare_files, .run = run_salvage, .damaged = true, .loses = true},
    {.name = "rebuild", .prepare = prepare_killed, .run = run_rebuild},
    {.name = "dump", .prepare = prepare_dump, .run = run_dump},
    {.name = "copy", .prepare = prepare_account, .run = run_account_dump, .copies = true},
};
const size_t store_tools_count = sizeof store_tools / sizeof store_tools[0];

/* ---- places ---- */

void
store_tools_prepare(const struct tool *tool, struct damage_account *place_r)
{
	char root[64];
	int status;

	*place_r = (struct damage_account){.n = 0};
	fixture_dir(root);
	(void)fflush(NULL);
	pid_t pid = fork();

	if (pid == 0) {
		make_dir(root, "accounts");
		tool->prepare(root);
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
		exit(2);
	damage_read_dir(place_r, root, "");
	(void)tree_remove(root);
	qsort(place_r->files, place_r->n, sizeof place_r->files[0], damage_name_cmp);
}

enum command_status
store_tools_run(const struct tool *tool, const char *root, void (*entered)(void))
{
	char path[FILE_PATH_BYTES_MAX];
	int fd;

	place_root = root;
	on_entered = entered;
	path_in(path, root, "said");
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd < 0 || chdir(root) < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0)
		abort();
	(void)close(fd);
	enum command_status status = tool->run();

	(void)fflush(NULL);
	return status;
}

char *
store_tools_look(const char *root, struct err *e)
{
	char path[FILE_PATH_BYTES_MAX], *text = NULL;
	struct index *ix;

	account_path(path, root);
	if (index_open(path, FIXTURE_NOW + 1000, &ix, e) < 0)
		return NULL;
	if (index_check(ix, e) == 0) {
		char *all = salvage_dump(ix);

		text = strdup(salvage_body(all));
		free(all);
	}
	index_close(&ix);
	return text;
}

static int
objects_are_whole(const char *path, const struct image *im, struct err *e)
{
	uint8_t sha256[STORE_SHA256_BYTES];
	uint64_t bytes;
	size_t n;
	struct load_object *list = load_objects(im, &n);
	int failed = 0;

	for (size_t i = 0; i < n && failed == 0; i++) {
		int fd = object_open(path, list[i].id, list[i].size, e);

		failed = fd < 0 ? -1 : object_hash(fd, sha256, &bytes, e);
		if (failed == 0 && !object_id_fits(list[i].id, sha256))
			failed = err_set(e, ERR_TEMP, ERR_CODE_CORRUPT, "", "a message is not what its name says");
		if (fd >= 0)
			(void)close(fd);
	}
	free(list);
	return failed;
}

int
store_tools_objects(const char *root, struct err *e)
{
	char path[FILE_PATH_BYTES_MAX], *text;
	struct dump_reader *r;
	struct image im;
	struct index *ix;

	account_path(path, root);
	if (index_open(path, FIXTURE_NOW + 1000, &ix, e) < 0)
		return -1;
	text = salvage_dump(ix);
	index_close(&ix);
	r = dump_reader_new(&im, false);
	int failed = dump_reader_feed(r, slice_str(text), e) < 0 || dump_reader_end(r, e) < 0 || objects_are_whole(path, &im, e) < 0;

	dump_reader_free(&r);
	image_fini(&im);
	free(text);
	return failed ? -1 : 0;
}

/* The fields of a line, counted from 0 on, that may be others each time: UIDVALIDITYs, and modseqs of those that are damaged. */
static bool
may_differ(const struct tool *tool, const char *line, unsigned field)
{
	if (strncmp(line, "mailbox ", 8) == 0)
		return field == 2 || (tool->damaged && (field == 5 || field == 6));
	if (strncmp(line, "expunged ", 9) == 0)
		return tool->damaged && field == 4;
	return tool->damaged && (strncmp(line, "message ", 8) == 0 ? field == 3 : strncmp(line, "tombstones ", 11) == 0 && field == 2);
}

/* Puts a mark in the place of each; one for the UIDVALIDITY that INBOX began with, another for all others. */
static char *
plain(const struct tool *tool, const char *text)
{
	char *copy = malloc(2 * strlen(text) + 2), *to = copy;
	const char *line = text;
	unsigned field = 0;

	assert(copy != NULL);
	while (*text != '\0') {
		size_t n = strcspn(text, " \n");

		if (may_differ(tool, line, field))
			*to++ = n == 10 && strncmp(text, "1700000000", n) == 0 ? '=' : '*';
		else
			to = (char *)memcpy(to, text, n) + n;
		text += n;
		field++;
		if (*text == '\n') {
			line = text + 1;
			field = 0;
		}
		if (*text != '\0')
			*to++ = *text++;
	}
	*to = '\0';
	return copy;
}

bool
store_tools_same(const struct tool *tool, const char *a, const char *b)
{
	char *x, *y;
	bool same;

	if (!tool->replaces && !tool->damaged)
		return strcmp(a, b) == 0;
	x = plain(tool, a);
	y = plain(tool, b);
	same = strcmp(x, y) == 0;
	free(x);
	free(y);
	return same;
}

char *
store_tools_file(const char *root, const char *name)
{
	char path[FILE_PATH_BYTES_MAX];
	struct stat st;
	char *text;

	path_in(path, root, name);
	int fd = open(path, O_RDONLY);

	if (fd < 0)
		return NULL;
	if (fstat(fd, &st) < 0 || (text = calloc(1, (size_t)st.st_size + 1)) == NULL ||
	    read(fd, text, (size_t)st.st_size) != st.st_size)
		abort();
	(void)close(fd);
	return text;
}

static bool
is_aside(const char *root, const char *id)
{
	char path[FILE_PATH_BYTES_MAX];
	bool found = false;

	for (unsigned i = 1; i < 4 && !found; i++) {
		(void)snprintf(path, sizeof path, "%s/" ACCOUNT "/damaged.%u/%s", root, i, id);
		found = access(path, F_OK) == 0;
	}
	return found;
}

const char *
store_tools_missing(const struct damage_account *place, const char *root)
{
	char path[FILE_PATH_BYTES_MAX];

	for (size_t i = 0; i < place->n; i++) {
		const char *name = place->files[i].name;

		if (strncmp(name, ACCOUNT "/mail/", sizeof ACCOUNT + 5) != 0)
			continue;
		path_in(path, root, name);
		if (access(path, F_OK) < 0 && !is_aside(root, strrchr(name, '/') + 1))
			return name;
	}
	return NULL;
}

static bool
has_octets(const char *path, const struct damage_file *f)
{
	struct damage_file found;

	if (access(path, F_OK) < 0)
		return false;
	damage_read_file(&found, path);
	bool same = found.n == f->n && memcmp(found.p, f->p, f->n) == 0;

	free(found.p);
	return same;
}

const char *
store_tools_index_missing(const struct damage_account *place, const char *root)
{
	static const char *const dirs[] = {"index", "index.new", "index.old"};
	char path[FILE_PATH_BYTES_MAX];

	for (size_t i = 0; i < place->n; i++) {
		const struct damage_file *f = &place->files[i];
		const char *last = strrchr(f->name, '/');
		bool found = strncmp(f->name, ACCOUNT "/index", sizeof ACCOUNT + 5) != 0 || strcmp(last, "/base") != 0;

		for (unsigned k = 0; k < 3 * 4 && !found; k++) {
			if (k / 3 == 0)
				(void)snprintf(path, sizeof path, "%s/" ACCOUNT "/%s/base", root, dirs[k]);
			else
				(void)snprintf(path, sizeof path, "%s/" ACCOUNT "/damaged.%u/%s/base", root, k / 3, dirs[k % 3]);
			found = has_octets(path, f);
		}
		if (!found)
			return f->name;
	}
	return NULL;
}

const char *
store_tools_torn(const struct damage_account *place, const char *root)
{
	char path[FILE_PATH_BYTES_MAX];

	for (size_t i = 0; i < place->n; i++) {
		path_in(path, root, place->files[i].name);
		if (strncmp(place->files[i].name, ACCOUNT "/mail/", sizeof ACCOUNT + 5) == 0 && place->files[i].n == TORN_BYTES &&
		    access(path, F_OK) == 0)
			return place->files[i].name;
	}
	return NULL;
}

int
store_tools_copy(const char *root, struct err *e)
{
	char path[FILE_PATH_BYTES_MAX];
	struct image im;

	path_in(path, root, ACCOUNT "/account.dump");
	int fd = open(path, O_RDONLY);

	if (fd < 0)
		return 0;
	int failed = dump_read(fd, &im, e);

	(void)close(fd);
	image_fini(&im);
	return failed < 0 ? -1 : 1;
}

/* The first octet behind so many spaces of the first line that begins so. */
static uint8_t *
word_in(struct damage_file *f, const char *line, unsigned spaces)
{
	uint8_t *p = memmem(f->p, f->n, line, strlen(line));

	assert(p != NULL);
	for (; spaces > 0; p++)
		spaces -= *p == ' ';
	return p;
}

void
store_tools_alter(struct damage_account *place, bool dump)
{
	for (size_t i = 0; i < place->n; i++) {
		struct damage_file *f = &place->files[i];

		if (dump && strcmp(f->name, DUMP_FILE) == 0) {
			/* Its INTERNALDATE. */
			uint8_t *p = word_in(f, "\nmessage ", 4);

			*p = *p == '1' ? '2' : '1';
			return;
		}
		if (!dump && strncmp(f->name, "messages/mail/", 14) == 0) {
			f->p[f->n - 1] ^= 1;
			return;
		}
	}
	abort();
}
