/*
 * Runs a fuzz target over the files of the directories (or the files) given,
 * so that `make check` replays every corpus without libFuzzer.
 */
#include "common/buf.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define FILE_BYTES_MAX (8u << 20)

static int runs;

static int
run_file(int at, const char *name)
{
	struct buf b;
	int fd = openat(at, name, O_RDONLY | O_CLOEXEC);

	if (fd < 0) {
		perror(name);
		return 1;
	}
	buf_init(&b, FILE_BYTES_MAX);
	for (;;) {
		uint8_t *to = buf_room(&b, 65536);
		ssize_t got = to ? read(fd, to, 65536) : 0;

		if (got <= 0)
			break;
		buf_added(&b, (size_t)got);
	}
	close(fd);
	/* An exact heap copy, so that a sanitizer sees the first octet past the end. */
	uint8_t *exact = malloc(b.n ? b.n : 1);
	if (exact == NULL)
		return 1;
	if (b.n)
		memcpy(exact, b.p, b.n);
	LLVMFuzzerTestOneInput(exact, b.n);
	free(exact);
	buf_fini(&b);
	runs++;
	return 0;
}

static int
run_path(const char *path)
{
	DIR *dir = opendir(path);
	int failed = 0;

	if (dir == NULL)
		return run_file(AT_FDCWD, path);
	for (struct dirent *d; (d = readdir(dir)) != NULL;)
		if (d->d_name[0] != '.')
			failed |= run_file(dirfd(dir), d->d_name);
	closedir(dir);
	return failed;
}

int
main(int argc, char **argv)
{
	int failed = 0;

	for (int i = 1; i < argc; i++)
		failed |= run_path(argv[i]);
	printf("%s: %d inputs replayed\n", argv[0], runs);
	return failed || runs == 0;
}
