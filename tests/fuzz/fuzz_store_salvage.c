/*
 * A small account, damaged as the input says, and salvaged: every message whose file is intact is there afterwards, and a
 * second run finds nothing to do. First octet: which account. Then, each seven octets: which file, what to do with it
 * (cut, remove, or change), where (4), and an octet to put there.
 */
#include "tests/unit/salvage_fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define STEP_BYTES 7u
#define STEPS_MAX 64u
#define ACCOUNTS 8u
#define FILES_MAX 256u

static char accounts[ACCOUNTS][64];
static char files[FILES_MAX][FILE_PATH_BYTES_MAX];
static size_t file_count;

static void
remove_accounts(void)
{
	for (unsigned i = 0; i < ACCOUNTS; i++)
		fixture_remove(accounts[i]);
}

static void
make_accounts(void)
{
	log_init("fuzz", LOG_BUG);
	file_hook_db();
	for (unsigned i = 0; i < ACCOUNTS; i++) {
		fixture_dir(accounts[i]);
		salvage_make(accounts[i], i);
	}
	(void)atexit(remove_accounts);
}

static void
copy_file(const char *from, const char *to)
{
	uint8_t room[65536];
	ssize_t got;
	struct stat st;
	int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_EXCL, 0600);

	assert(in >= 0 && out >= 0 && fstat(in, &st) == 0);
	/* A log is mostly a hole. */
	for (off_t at = 0; (got = pread(in, room, sizeof room, at)) > 0; at += got) {
		bool zero = true;

		for (ssize_t i = 0; zero && i < got; i++)
			zero = room[i] == 0;
		if (!zero && pwrite(out, room, (size_t)got, at) != got)
			abort();
	}
	if (ftruncate(out, st.st_size) < 0)
		abort();
	(void)close(in);
	(void)close(out);
}

static int
name_cmp(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* In the order of names, so that an input means the same each time. */
static void
copy_tree(const char *from, const char *to)
{
	char a[FILE_PATH_BYTES_MAX], b[FILE_PATH_BYTES_MAX], *names[FILES_MAX];
	size_t n = 0;
	struct stat st;
	DIR *d = opendir(from);

	assert(d != NULL);
	for (struct dirent *f; (f = readdir(d)) != NULL && n < FILES_MAX;)
		if (strcmp(f->d_name, ".") != 0 && strcmp(f->d_name, "..") != 0)
			names[n++] = strdup(f->d_name);
	(void)closedir(d);
	qsort(names, n, sizeof names[0], name_cmp);
	for (size_t i = 0; i < n; i++) {
		file_path(a, from, names[i]);
		file_path(b, to, names[i]);
		free(names[i]);
		if (stat(a, &st) < 0)
			abort();
		if (S_ISDIR(st.st_mode)) {
			if (mkdir(b, 0700) < 0)
				abort();
			copy_tree(a, b);
		} else if (file_count < FILES_MAX) {
			copy_file(a, b);
			memcpy(files[file_count++], b, sizeof b);
		}
	}
}

static void
damage(const uint8_t step[STEP_BYTES])
{
	/* Half of the damage is for the few files that hold the index. */
	const char *path = files[step[0] < 128 ? step[0] % 8u : step[0] % file_count];
	uint32_t at = (uint32_t)step[2] << 24 | (uint32_t)step[3] << 16 | (uint32_t)step[4] << 8 | step[5];
	struct stat st;

	if (stat(path, &st) < 0 || st.st_size == 0)
		return;
	int fd = open(path, O_RDWR);
	off_t place = (off_t)at % st.st_size;

	assert(fd >= 0);
	if (step[1] % 8 == 0 && ftruncate(fd, place) < 0)
		abort();
	if (step[1] % 8 == 1 && unlink(path) < 0)
		abort();
	if (step[1] % 8 > 1 && pwrite(fd, &step[6], 1, place) != 1)
		abort();
	(void)close(fd);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static bool made;
	struct salvage_result r;
	char root[64];

	if (n < 1)
		return 0;
	if (!made)
		make_accounts();
	made = true;
	fixture_dir(root);
	file_count = 0;
	copy_tree(accounts[data[0] % ACCOUNTS], root);
	for (size_t at = 1; at + STEP_BYTES <= n && at < STEPS_MAX * STEP_BYTES; at += STEP_BYTES)
		damage(data + at);
	free(salvage_and_look(root, NULL, &r));
	free(salvage_and_look(root, NULL, &r));
	if (!r.sound)
		abort();
	fixture_remove(root);
	return 0;
}
