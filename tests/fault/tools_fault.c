/*
 * Lets every call of the file layer fail in turn, once and from then on, below the commands that work on an account
 * without its keeper (tests/fault/store_tools.h), and every write of what they write beside it. Whatever fails,
 *   - the command says so, in words and by its exit status, or has done all of it;
 *   - the account is what it was before, or what it is afterwards, and no message's file is gone; so is a dump's file;
 *   - the same command, run again, does all of it.
 *
 *   tools_fault [--every N] [--share K/N]        each N-th call (1: all) of some tools and kinds; the K-th of N parts, from 0 on
 *   tools_fault --replay TOOL:KIND:CALL:once|on  one run again, with what the command said
 */
#include "tests/fault/fault_fs.h"
#include "tests/fault/store_tools.h"

#include <errno.h>
#include <sys/mman.h>

#define RUN_SECONDS_MAX 30
#define FAILURES_SHOWN 8
/* Beside the kinds of fault_fs.h: writes, syncs and renames that do not go through the file layer. */
enum { OUT_ENOSPC = FAULT_KINDS, OUT_EIO, KINDS };

struct told {
	bool out_fired;
	enum command_status status;
	unsigned out_calls;
	char where[FILE_PATH_BYTES_MAX + 32];
	char complaint[1024];
};

struct expected {
	enum command_status status;
	char *before; /* NULL: it cannot be opened */
	char *after;
	char *out; /* of a dump */
};

struct run {
	const struct tool *tool;
	const struct damage_account *place;
	const struct expected *x;
	const char *root;
	unsigned kind, at;
	bool on;
};

static struct told *told;

static void __attribute__((format(printf, 1, 2)))
complain(const char *format, ...)
{
	va_list ap;

	if (told->complaint[0] != '\0')
		return;
	va_start(ap, format);
	(void)vsnprintf(told->complaint, sizeof told->complaint, format, ap);
	va_end(ap);
}

/* ---- what is written beside the account ---- */

static unsigned out_at; /* 0: nothing fails */
static int out_error;
static bool out_on;

static bool
out_fails(void)
{
	if (out_at == 0 || ++told->out_calls < out_at || (told->out_calls > out_at && !out_on))
		return false;
	told->out_fired = true;
	errno = out_error;
	return true;
}

ssize_t __real_write(int fd, const void *p, size_t n);
ssize_t __wrap_write(int fd, const void *p, size_t n);
ssize_t
__wrap_write(int fd, const void *p, size_t n)
{
	return fd > 2 && out_fails() ? -1 : __real_write(fd, p, n);
}

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int
__wrap_fsync(int fd)
{
	return out_fails() ? -1 : __real_fsync(fd);
}

int __real_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to);
int
__wrap_rename(const char *from, const char *to)
{
	return out_fails() ? -1 : __real_rename(from, to);
}

/* ---- one run ---- */

static const struct run *running;

static void
begin_to_fail(void)
{
	const struct run *r = running;

	if (r->kind < FAULT_KINDS) {
		fault_start(strcmp(r->tool->name, "dump") == 0 ? r->root : ".", (enum fault_kind)r->kind, r->at, r->on);
		return;
	}
	out_at = r->at;
	out_on = r->on;
	out_error = r->kind == OUT_EIO ? EIO : ENOSPC;
}

static void
fail_in_process(const struct run *r)
{
	running = r;
	told->status = store_tools_run(r->tool, r->root, r->at > 0 ? begin_to_fail : NULL);
	if (r->kind < FAULT_KINDS && r->at > 0) {
		(void)snprintf(told->where, sizeof told->where, "%s", fault_where());
		told->out_fired = fault_fired();
		(void)fault_die();
	}
}

static void
run_plainly(const struct run *r)
{
	told->status = store_tools_run(r->tool, r->root, NULL);
}

static void
in_process(void (*fn)(const struct run *r), const struct run *r)
{
	int status;

	(void)fflush(NULL);
	pid_t pid = fork();

	assert(pid >= 0);
	if (pid == 0) {
		fault_time_limit(RUN_SECONDS_MAX);
		fn(r);
		exit(0);
	}
	while (waitpid(pid, &status, 0) < 0)
		assert(errno == EINTR);
	if (status != 0)
		complain("the process ended with status %d", status);
}

/* What a failure of reading may cost: a message whose file could not be read counts as damaged, and is kept aside. */
static bool
may_lose(const struct run *r)
{
	return r->tool->damaged && (r->kind == FAULT_EIO || r->kind == FAULT_SECTOR);
}

static bool
is_after(const struct run *r, const char *text)
{
	return text != NULL && (store_tools_same(r->tool, text, r->x->after) || may_lose(r));
}

static void
judge_words(const struct run *r)
{
	char *said = store_tools_file(r->root, "said");

	if (told->status == COMMAND_USAGE || told->status == COMMAND_UNREACHABLE)
		complain("exit status %d", (int)told->status);
	if (told->status != r->x->status && strstr(said, "mailstead: ") == NULL && !r->tool->damaged)
		complain("exit status %d, and nothing is said", (int)told->status);
	free(said);
}

static void
judge_out(const struct run *r, bool done)
{
	char *out = store_tools_file(r->root, "out.txt"), *part = store_tools_file(r->root, "out.txt.part");

	if (r->x->out != NULL) {
		if (out == NULL || (strcmp(out, r->x->out) != 0 && (done || strcmp(out, "an old one\n") != 0)))
			complain("the dump's file is neither the old one nor the new one");
		if (part != NULL)
			complain("out.txt.part is left");
	}
	free(out);
	free(part);
}

static bool verbose;

/* An old index that cannot be read gives way, and all clients begin anew: it was said. */
static bool
is_begun_anew(const struct run *r)
{
	char *said = store_tools_file(r->root, "said");
	bool anew = r->tool->replaces && strstr(said, "every mailbox gets a new UIDVALIDITY") != NULL;

	free(said);
	return anew;
}

static void
look(const struct run *r)
{
	const char *missing = r->tool->replaces ? NULL : store_tools_missing(r->place, r->root);
	bool done = told->status == r->x->status;
	struct err e = {0};
	char *text = NULL;

	if (missing != NULL)
		complain("%s is gone", missing);
	judge_words(r);
	judge_out(r, done && r->kind >= FAULT_KINDS);
	if (!r->tool->damaged) {
		text = store_tools_look(r->root, &e);
		if (text == NULL)
			complain("it does not open afterwards: %s", e.detail);
		else if (!is_after(r, text) && !store_tools_same(r->tool, text, r->x->before) && !is_begun_anew(r))
			complain("it is half done");
		else if (done && !is_after(r, text) && !is_begun_anew(r))
			complain("it says that it is done");
	}
	if (verbose && text != NULL)
		printf("before:%s\nafter:%s\nfound:%s\n", r->x->before, r->x->after, text);
	free(text);
}

static void
look_again(const struct run *r)
{
	const char *missing = r->tool->replaces ? NULL : store_tools_missing(r->place, r->root);
	struct err e = {0};
	char *text = store_tools_look(r->root, &e), *said = store_tools_file(r->root, "said");

	/* A load that was done refuses to be done again. */
	if (told->status != r->x->status && told->status != COMMAND_OK && strstr(said, "not empty") == NULL)
		complain("done again: exit status %d: %s", (int)told->status, said);
	if (text == NULL)
		complain("done again it does not open: %s", e.detail);
	else if (!is_after(r, text))
		complain("done again it is something else");
	if (missing != NULL)
		complain("done again: %s is gone", missing);
	judge_out(r, true);
	free(said);
	free(text);
}

static bool
run_one(struct run *r)
{
	char root[64];

	fixture_dir(root);
	r->root = root;
	damage_write(r->place, root);
	*told = (struct told){.status = COMMAND_USAGE};
	in_process(fail_in_process, r);
	if (verbose) {
		char *said = store_tools_file(root, "said");

		printf("exit status %d at %s\n%s", (int)told->status, told->where, said);
		free(said);
	}
	in_process(look, r);
	in_process(run_plainly, r);
	in_process(look_again, r);
	(void)tree_remove(root);
	return told->complaint[0] == '\0';
}

static const char *
kind_name(unsigned kind)
{
	return kind == OUT_ENOSPC ? "out-enospc" : kind == OUT_EIO ? "out-eio" : fault_kind_name((enum fault_kind)kind);
}

static void
show(const struct run *r)
{
	fprintf(stderr, "tools_fault: %s\n  at: %s\n  again: --replay %s:%s:%u:%s\n", told->complaint, told->where, r->tool->name,
	    kind_name(r->kind), r->at, r->on ? "on" : "once");
}

/* ---- what is expected ---- */

struct shared_text {
	bool there;
	char text[1 << 16];
};
static struct shared_text *shared;

static void
look_to_share(const struct run *r)
{
	struct err e;
	char *text = store_tools_look(r->root, &e);

	shared->there = text != NULL;
	if (text != NULL && (size_t)snprintf(shared->text, sizeof shared->text, "%s", text) >= sizeof shared->text)
		abort();
	free(text);
}

static char *
look_apart(const struct run *r)
{
	in_process(look_to_share, r);
	return shared->there ? strdup(shared->text) : NULL;
}

static void
expect(struct run *r, struct expected *x)
{
	char root[64];

	*x = (struct expected){.status = COMMAND_USAGE};
	*told = (struct told){.status = COMMAND_USAGE};
	r->root = root;
	if (!r->tool->damaged) {
		fixture_dir(root);
		damage_write(r->place, root);
		x->before = look_apart(r);
		(void)tree_remove(root);
	}
	fixture_dir(root);
	damage_write(r->place, root);
	in_process(run_plainly, r);
	x->status = told->status;
	x->after = look_apart(r);
	x->out = store_tools_file(root, "out.txt");
	if (x->after == NULL || (x->before == NULL && !r->tool->damaged) || told->complaint[0] != '\0' ||
	    (x->status != COMMAND_OK && !r->tool->damaged)) {
		char *said = store_tools_file(root, "said");

		fprintf(stderr, "tools_fault: %s without a failure: %s\n%s", r->tool->name, told->complaint, said);
		exit(2);
	}
	(void)tree_remove(root);
}

static void
expected_free(struct expected *x)
{
	free(x->before);
	free(x->after);
	free(x->out);
}

/* ---- the loop ---- */

/* When not every call is tried, then not every kind on every tool either: of so many one each more. */
#define SKIP_EVERY 40u

struct count {
	unsigned runs[KINDS];
	unsigned wrong;
};

static unsigned
stride_of(unsigned kind, unsigned every)
{
	return kind < FAULT_KINDS ? fault_stride((enum fault_kind)kind, every) : 1 + every / 64;
}

static void
loop(struct run *r, const struct fault_part *p, struct count *c)
{
	unsigned stride = stride_of(r->kind, p->every), first = 1 + (unsigned)(r->kind * 37 + (r->tool - store_tools) * 11) % stride;

	for (r->at = first + p->share * stride; c->wrong < FAILURES_SHOWN; r->at += p->shares * stride) {
		bool good = run_one(r);

		if (!good)
			show(r);
		c->wrong += !good;
		if (!told->out_fired)
			break;
		c->runs[r->kind]++;
	}
}

static void
explore_tool(const struct tool *tool, const struct fault_part *p, struct count *c)
{
	unsigned skip = 1 + p->every / SKIP_EVERY;

	struct damage_account place;
	struct expected x;
	struct run r = {.tool = tool, .place = &place, .x = &x};

	store_tools_prepare(tool, &place);
	expect(&r, &x);
	for (r.kind = 0; r.kind < KINDS; r.kind++)
		for (int on = 0; on < (r.kind < FAULT_KINDS && fault_only_once((enum fault_kind)r.kind) ? 1 : 2); on++) {
			r.on = on != 0;
			if (((size_t)(tool - store_tools) * KINDS + r.kind) % skip == 0 && fault_part_has(p, kind_name(r.kind)))
				loop(&r, p, c);
		}
	expected_free(&x);
	damage_free(&place);
}

static int
explore(const struct fault_part *p)
{
	struct count c = {.wrong = 0};
	unsigned total = 0;

	for (size_t i = 0; i < store_tools_count; i++)
		explore_tool(&store_tools[i], p, &c);
	printf("tools_fault: ");
	for (unsigned kind = 0; kind < KINDS; kind++) {
		printf("%s %u, ", kind_name(kind), c.runs[kind]);
		total += c.runs[kind];
	}
	printf("%u runs, %u wrong\n", total, c.wrong);
	return c.wrong != 0 || total == 0;
}

static int
replay(const char *text)
{
	char name[16], kind[16], mode[8];
	struct damage_account place;
	struct expected x;
	struct run r = {.place = &place, .x = &x};

	if (sscanf(text, "%15[^:]:%15[^:]:%u:%7s", name, kind, &r.at, mode) != 4)
		return 2;
	while (r.kind < KINDS && strcmp(kind_name(r.kind), kind) != 0)
		r.kind++;
	for (size_t i = 0; i < store_tools_count; i++) {
		if (strcmp(store_tools[i].name, name) != 0)
			continue;
		r.tool = &store_tools[i];
		store_tools_prepare(r.tool, &place);
		expect(&r, &x);
		verbose = true;
		r.on = strcmp(mode, "on") == 0;
		bool good = run_one(&r);

		printf("tools_fault: %s\n", good ? "good" : told->complaint);
		expected_free(&x);
		damage_free(&place);
		return good ? 0 : 1;
	}
	return 2;
}

int
main(int argc, char **argv)
{
	struct fault_part part;

	told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert(told != MAP_FAILED && shared != MAP_FAILED);
	log_init("tools_fault", LOG_BUG);
	file_hook_db();
	if (argc == 3 && strcmp(argv[1], "--replay") == 0)
		return replay(argv[2]);
	return fault_part_parse(argc, argv, &part) ? explore(&part) : 2;
}
