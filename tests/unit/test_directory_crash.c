/*
 * The power is cut at every moment: what the directory asks of the file system is recorded (by
 * standing in for the C library's calls, Berkeley DB's included), and after each call the states in
 * which a disk may be found are made: what was synced is there; of the rest nothing, everything, or
 * any part, writes torn at 512 octets. From each the directory must open with every account that
 * had been acknowledged by then, and never give a number away twice.
 *
 * A name (creation, rename, removal) is durable only when its directory was synced.
 */
#include "authd/directory.h"
#include "common/log.h"
#include "common/mem.h"
#include "tests/unit/tree.h"

#include <asm/fcntl.h>
#include <check.h>
#include <dlfcn.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#define OPS_MAX 8192
#define FILES_MAX 256
#define NAMES_MAX 256
#define NAME_SIZE 64
#define SECTOR 512
#define CYCLES 3
#define ACCOUNTS_PER_CYCLE 6
#define STATES_PER_MOMENT 4
/* A prime, so that the moments fall on every kind of call. */
#define MOMENTS_SKIPPED 23
#define FILE_BYTES_MAX (8u << 20)

enum op_kind {
	OP_CREATE,
	OP_WRITE,
	OP_TRUNCATE,
	OP_SYNC,
	OP_RENAME,
	OP_UNLINK,
	OP_SYNC_DIR,
	OP_ACKNOWLEDGED,
};

struct op {
	enum op_kind kind;
	unsigned file;
	uint64_t at; /* of a write; length of a truncation; the account's id */
	size_t n;
	uint8_t *p;
	char name[NAME_SIZE]; /* below the root; of a directory "" or "base" */
	char target[NAME_SIZE];
};

static struct op ops[OPS_MAX];
static unsigned op_count;
static ino_t inodes[FILES_MAX];
static unsigned file_count;
static bool recording;
static char root[64];
static char cut_root[80];
static struct err e;

/* ---- recording ---- */

int open(const char *path, int flags, ...);
int __open_2(const char *path, int flags);

static unsigned
file_of(int fd)
{
	struct stat st;

	ck_assert_int_eq(fstat(fd, &st), 0);
	for (unsigned i = 0; i < file_count; i++) {
		if (inodes[i] == st.st_ino)
			return i;
	}
	ck_assert_uint_lt(file_count, FILES_MAX);
	inodes[file_count] = st.st_ino;
	return file_count++;
}

/* The name below root, or NULL. */
static const char *
name_below(const char *path)
{
	size_t n = strlen(root);

	if (!recording || strncmp(path, root, n) != 0)
		return NULL;
	return path[n] == '/' ? path + n + 1 : path[n] == '\0' ? "" : NULL;
}

static bool
is_ours(int fd)
{
	char link[64], path[512];
	ssize_t n;

	if (!recording)
		return false;
	(void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof path - 1);
	if (n < 0)
		return false;
	path[n] = '\0';
	return name_below(path) != NULL;
}

static struct op *
op_new(enum op_kind kind)
{
	ck_assert_uint_lt(op_count, OPS_MAX);
	ops[op_count] = (struct op){.kind = kind};
	return &ops[op_count++];
}

static void
name_set(char dst[NAME_SIZE], const char *name)
{
	ck_assert(slice_cstr(slice_str(name), dst, NAME_SIZE));
}

#define REAL(type, name) type real = (type)(uintptr_t)dlsym(RTLD_NEXT, name)
typedef int open_fn(const char *, int, ...);
typedef ssize_t write_fn(int, const void *, size_t);
typedef ssize_t pwrite_fn(int, const void *, size_t, off_t);
typedef int fd_fn(int);
typedef int truncate_fn(int, off_t);
typedef int rename_fn(const char *, const char *);
typedef int unlink_fn(const char *);

static int
open_recorded(const char *path, int flags, unsigned mode)
{
	REAL(open_fn *, "open");
	const char *name = name_below(path);
	bool there = access(path, F_OK) == 0;
	int fd = real(path, flags, mode);

	if (fd < 0 || name == NULL)
		return fd;
	if ((flags & O_CREAT) != 0 && !there) {
		struct op *op = op_new(OP_CREATE);

		op->file = file_of(fd);
		name_set(op->name, name);
	} else if ((flags & O_TRUNC) != 0) {
		op_new(OP_TRUNCATE)->file = file_of(fd);
	}
	return fd;
}

int
open(const char *path, int flags, ...)
{
	va_list ap;
	unsigned mode = 0;

	va_start(ap, flags);
	if ((flags & O_CREAT) != 0)
		mode = va_arg(ap, unsigned);
	va_end(ap);
	return open_recorded(path, flags, mode);
}

int
__open_2(const char *path, int flags)
{
	return open_recorded(path, flags, 0);
}

static void
write_record(int fd, const void *p, ssize_t n, off_t at)
{
	struct op *op;

	if (n <= 0 || !is_ours(fd))
		return;
	op = op_new(OP_WRITE);
	op->file = file_of(fd);
	op->at = (uint64_t)at;
	op->n = (size_t)n;
	op->p = mem_new_array(op->n, 1);
	memcpy(op->p, p, op->n);
}

ssize_t
write(int fd, const void *p, size_t n)
{
	REAL(write_fn *, "write");
	off_t at = recording ? lseek(fd, 0, SEEK_CUR) : 0;
	ssize_t done = real(fd, p, n);

	write_record(fd, p, done, at);
	return done;
}

ssize_t
pwrite(int fd, const void *p, size_t n, off_t at)
{
	REAL(pwrite_fn *, "pwrite");
	ssize_t done = real(fd, p, n, at);

	write_record(fd, p, done, at);
	return done;
}

int
ftruncate(int fd, off_t length)
{
	REAL(truncate_fn *, "ftruncate");
	int r = real(fd, length);

	if (r == 0 && is_ours(fd)) {
		struct op *op = op_new(OP_TRUNCATE);

		op->file = file_of(fd);
		op->at = (uint64_t)length;
	}
	return r;
}

static void
sync_record(int fd)
{
	char link[64], path[512];
	struct stat st;
	ssize_t n;

	if (!is_ours(fd) || fstat(fd, &st) != 0)
		return;
	if (!S_ISDIR(st.st_mode)) {
		op_new(OP_SYNC)->file = file_of(fd);
		return;
	}
	(void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof path - 1);
	ck_assert_int_gt(n, 0);
	path[n] = '\0';
	name_set(op_new(OP_SYNC_DIR)->name, name_below(path));
}

int
fsync(int fd)
{
	sync_record(fd);
	return 0;
}

int
fdatasync(int fd)
{
	sync_record(fd);
	return 0;
}

int
rename(const char *from, const char *to)
{
	REAL(rename_fn *, "rename");
	int r = real(from, to);

	if (r == 0 && name_below(from) != NULL) {
		struct op *op = op_new(OP_RENAME);

		name_set(op->name, name_below(from));
		name_set(op->target, name_below(to));
	}
	return r;
}

int
unlink(const char *path)
{
	REAL(unlink_fn *, "unlink");
	int r = real(path);

	if (r == 0 && name_below(path) != NULL)
		name_set(op_new(OP_UNLINK)->name, name_below(path));
	return r;
}

/* ---- the disk as it may be found ---- */

struct disk_name {
	char name[NAME_SIZE];
	unsigned file;
};

struct disk {
	uint8_t *content[FILES_MAX];
	size_t length[FILES_MAX];
	struct disk_name name[NAMES_MAX];
	unsigned names;
};

static uint64_t random_state;

static unsigned
random_below(unsigned n)
{
	random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (unsigned)(random_state >> 33) % n;
}

static void
disk_write(struct disk *d, unsigned file, uint64_t at, const uint8_t *p, size_t n)
{
	size_t end = (size_t)at + n;

	ck_assert_uint_le(end, FILE_BYTES_MAX);
	if (end > d->length[file]) {
		d->content[file] = mem_resize(d->content[file], end, 1);
		memset(d->content[file] + d->length[file], 0, end - d->length[file]);
		d->length[file] = end;
	}
	memcpy(d->content[file] + at, p, n);
}

static void
disk_data(struct disk *d, const struct op *op)
{
	if (op->kind == OP_WRITE)
		disk_write(d, op->file, op->at, op->p, op->n);
	else if (op->at < d->length[op->file])
		d->length[op->file] = (size_t)op->at;
}

/* Some of the sectors of a write reached the disk. */
static void
disk_torn(struct disk *d, const struct op *op)
{
	for (size_t i = 0; i < op->n; i += SECTOR - (op->at + i) % SECTOR) {
		size_t n = SECTOR - (op->at + i) % SECTOR;

		if (random_below(2) == 0)
			disk_write(
			    d, op->file, op->at + i, op->p + i, n < op->n - i ? n : op->n - i);
	}
}

static void
disk_remove(struct disk *d, const char *name)
{
	for (unsigned i = 0; i < d->names; i++) {
		if (strcmp(d->name[i].name, name) == 0)
			d->name[i--] = d->name[--d->names];
	}
}

static void
disk_add(struct disk *d, const char *name, unsigned file)
{
	ck_assert_uint_lt(d->names, NAMES_MAX);
	disk_remove(d, name);
	name_set(d->name[d->names].name, name);
	d->name[d->names++].file = file;
}

static void
disk_name(struct disk *d, const struct op *op)
{
	if (op->kind == OP_CREATE) {
		disk_add(d, op->name, op->file);
	} else if (op->kind == OP_UNLINK) {
		disk_remove(d, op->name);
	} else {
		for (unsigned i = 0; i < d->names; i++) {
			if (strcmp(d->name[i].name, op->name) == 0) {
				unsigned file = d->name[i].file;

				disk_remove(d, op->name);
				disk_add(d, op->target, file);
				return;
			}
		}
	}
}

static bool
is_name_op(const struct op *op)
{
	return op->kind == OP_CREATE || op->kind == OP_RENAME || op->kind == OP_UNLINK;
}

static bool
is_data_op(const struct op *op)
{
	return op->kind == OP_WRITE || op->kind == OP_TRUNCATE;
}

static bool
in_dir(const struct op *op, const char *dir)
{
	const char *slash = strchr(op->name, '/');

	return dir[0] == '\0' ? slash == NULL
			      : slash != NULL && strncmp(op->name, dir, strlen(dir)) == 0;
}

/* Is what op did durable by the op number until: was it followed by the sync that it needs? */
static bool
is_durable(unsigned at, unsigned until)
{
	const struct op *op = &ops[at];

	for (unsigned i = at + 1; i < until; i++) {
		if (is_data_op(op) && ops[i].kind == OP_SYNC && ops[i].file == op->file)
			return true;
		if (is_name_op(op) && ops[i].kind == OP_SYNC_DIR && in_dir(op, ops[i].name))
			return true;
	}
	return false;
}

/* how: 0 nothing that was not synced; 1 all of it; else a part. Names come in order, per directory.
 */
static void
disk_make(struct disk *d, unsigned until, unsigned how)
{
	bool names_end[2] = {false, false};

	for (unsigned i = 0; i < until; i++) {
		const struct op *op = &ops[i];
		bool durable = how == 1 || is_durable(i, until);

		if (is_name_op(op)) {
			bool *end = &names_end[strchr(op->name, '/') != NULL];

			*end = *end || (!durable && (how == 0 || random_below(3) == 0));
			if (durable || !*end)
				disk_name(d, op);
		} else if (is_data_op(op)) {
			unsigned luck = durable ? 0 : how == 0 ? 3 : random_below(4);

			if (luck <= 1)
				disk_data(d, op);
			else if (luck == 2 && op->kind == OP_WRITE)
				disk_torn(d, op);
		}
	}
}

static void
disk_put(const struct disk *d)
{
	char path[200];

	(void)tree_remove(cut_root);
	(void)snprintf(path, sizeof path, "%s/base", cut_root);
	ck_assert_int_eq(mkdir(cut_root, 0700), 0);
	ck_assert_int_eq(mkdir(path, 0700), 0);
	for (unsigned i = 0; i < d->names; i++) {
		unsigned file = d->name[i].file;
		FILE *f;

		(void)snprintf(path, sizeof path, "%s/%s", cut_root, d->name[i].name);
		f = fopen(path, "w");
		ck_assert_ptr_nonnull(f);
		if (d->length[file] > 0)
			ck_assert_uint_eq(
			    fwrite(d->content[file], 1, d->length[file], f), d->length[file]);
		ck_assert_int_eq(fclose(f), 0);
	}
}

static void
disk_free(struct disk *d)
{
	for (unsigned i = 0; i < FILES_MAX; i++)
		free(d->content[i]);
}

/* ---- the test ---- */

static struct address_name
login(unsigned i)
{
	struct address_name n = {.domain = "one.test"};

	(void)snprintf(n.local, sizeof n.local, "user%u", i);
	return n;
}

static void
workload(void)
{
	unsigned number = 0;

	for (unsigned cycle = 0; cycle < CYCLES; cycle++) {
		struct directory *d;
		bool rebuilt;

		ck_assert_msg(directory_open(root, &d, &rebuilt, &e) == 0, "%s", e.detail);
		ck_assert(!rebuilt);
		if (cycle == 0)
			ck_assert_int_eq(directory_domain_add(d, "one.test", 1, &e), 0);
		for (unsigned i = 0; i < ACCOUNTS_PER_CYCLE; i++) {
			struct address_name n = login(number++);
			uint64_t id;

			ck_assert_int_eq(
			    directory_account_add(d, &n, SLICE(""), SLICE("$y$hash"), 1, &id, &e),
			    0);
			op_new(OP_ACKNOWLEDGED)->at = id;
		}
		directory_close(&d);
	}
}

/* Opens what was left and compares it with what was acknowledged. */
static void
check_state(unsigned until, unsigned how)
{
	struct directory *d;
	struct address_name n;
	struct dir_account a;
	unsigned acknowledged = 0;
	uint64_t id, last = 0;
	bool rebuilt;

	ck_assert_msg(directory_open(cut_root, &d, &rebuilt, &e) == 0,
	    "after call %u, state %u: %s", until, how, e.detail);
	for (unsigned i = 0; i < until; i++) {
		if (ops[i].kind != OP_ACKNOWLEDGED)
			continue;
		n = login(acknowledged++);
		last = ops[i].at;
		ck_assert_msg(directory_account_find(d, &n, &a, &e) == 1,
		    "after call %u, state %u: %s is lost", until, how, n.local);
		ck_assert_uint_eq(a.id, last);
	}
	n = login(1000);
	if (acknowledged > 0) {
		ck_assert_int_eq(
		    directory_account_add(d, &n, SLICE(""), SLICE("$y$hash"), 1, &id, &e), 0);
		ck_assert_uint_gt(id, last);
	}
	directory_close(&d);
}

START_TEST(test_power_cut)
{
	unsigned states = 0;

	log_init("test", LOG_BUG);
	recording = true;
	workload();
	recording = false;
	ck_assert_uint_gt(op_count, 100);
	for (unsigned until = 1; until <= op_count; until++) {
		/* All of them take minutes: MAILSTEAD_CRASH_ALL=1 looks at every one. */
		if (getenv("MAILSTEAD_CRASH_ALL") == NULL && until % MOMENTS_SKIPPED != 0)
			continue;
		for (unsigned how = 0; how < STATES_PER_MOMENT; how++) {
			struct disk *d = MEM_NEW(struct disk);

			random_state = (uint64_t)until * 1000 + how;
			disk_make(d, until, how);
			disk_put(d);
			disk_free(d);
			free(d);
			check_state(until, how);
			states++;
		}
	}
	printf("%u calls, %u states\n", op_count, states);
}
END_TEST

static void
setup(void)
{
	(void)snprintf(root, sizeof root, "/dev/shm/test_directory_crash.%d", (int)getpid());
	(void)snprintf(cut_root, sizeof cut_root, "%s.cut", root);
	(void)tree_remove(root);
	ck_assert_int_eq(mkdir(root, 0700), 0);
}

static void
teardown(void)
{
	recording = false;
	(void)tree_remove(root);
	(void)tree_remove(cut_root);
	for (unsigned i = 0; i < op_count; i++)
		free(ops[i].p);
}

int
main(void)
{
	Suite *s = suite_create("directory_crash");
	TCase *t = tcase_create("directory_crash");
	SRunner *r;
	int failed;

	tcase_set_timeout(t, 300);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, test_power_cut);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? 0 : 1;
}
