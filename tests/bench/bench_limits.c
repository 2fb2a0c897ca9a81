#include "tests/bench/bench_limits.h"

#include "tests/bench/bench_keeper.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MEMORY_BYTES (64u << 20)
#define READ_BYTES (64u << 10)
#define TRIP_BYTES 64

double
limit_syncs(const char *dir, unsigned count)
{
	static char block[4096];
	char path[PATH_MAX + 256];
	int fd;

	(void)snprintf(path, sizeof path, "%s/sync-probe", dir);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (fd < 0 || write(fd, block, sizeof block) != (ssize_t)sizeof block || fsync(fd) != 0)
		bench_die("%s cannot be written", path);
	double began = bench_now();

	for (unsigned i = 0; i < count; i++)
		if (pwrite(fd, block, sizeof block, 0) != (ssize_t)sizeof block || fdatasync(fd) != 0)
			bench_die("a sync failed");
	double us = bench_now() - began;

	(void)close(fd);
	(void)unlink(path);
	return count * 1e6 / us;
}

/* ---- 50 writers ---- */

static void
write_one(const char *dir, int dir_fd, unsigned number, const char *octets, size_t bytes)
{
	char path[PATH_MAX + 512];
	int fd;

	(void)snprintf(path, sizeof path, "%s/%u", dir, number);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (fd < 0 || write(fd, octets, bytes) != (ssize_t)bytes || fsync(fd) != 0 || close(fd) != 0 || fsync(dir_fd) != 0)
		_exit(1);
}

/* A writer's process: makes its directory, says so, waits for the start, writes. */
static void
writer(const char *dir, unsigned number, unsigned count, size_t bytes, int ready, int start)
{
	char path[PATH_MAX + 256], c = 0, *octets = calloc(1, bytes);
	int dir_fd;

	(void)snprintf(path, sizeof path, "%s/writer-%u", dir, number);
	if (octets == NULL || mkdir(path, 0700) != 0 || (dir_fd = open(path, O_RDONLY | O_DIRECTORY)) < 0)
		_exit(1);
	if (write(ready, &c, 1) != 1 || read(start, &c, 1) != 0)
		_exit(1);
	for (unsigned i = 0; i < count; i++)
		write_one(path, dir_fd, i, octets, bytes);
	_exit(0);
}

static void
remove_writer(const char *dir, unsigned number, unsigned count)
{
	char path[PATH_MAX + 256];

	for (unsigned i = 0; i < count; i++) {
		(void)snprintf(path, sizeof path, "%s/writer-%u/%u", dir, number, i);
		(void)unlink(path);
	}
	(void)snprintf(path, sizeof path, "%s/writer-%u", dir, number);
	(void)rmdir(path);
}

double
limit_writers(const char *dir, unsigned writers, unsigned count, size_t bytes)
{
	int ready[2], start[2], status;
	bool ok = true;
	char c;

	if (pipe(ready) != 0 || pipe(start) != 0)
		bench_die("pipe");
	for (unsigned i = 0; i < writers; i++) {
		pid_t pid = fork();

		if (pid < 0)
			bench_die("fork");
		if (pid == 0) {
			(void)close(start[1]);
			writer(dir, i, count, bytes, ready[1], start[0]);
		}
	}
	for (unsigned i = 0; i < writers; i++)
		if (read(ready[0], &c, 1) != 1)
			bench_die("a writer did not start");
	double began = bench_now();

	(void)close(start[1]);
	for (unsigned i = 0; i < writers; i++)
		ok = wait(&status) > 0 && status == 0 && ok;
	double us = bench_now() - began;

	(void)close(start[0]);
	(void)close(ready[0]);
	(void)close(ready[1]);
	for (unsigned i = 0; i < writers; i++)
		remove_writer(dir, i, count);
	if (!ok)
		bench_die("a writer failed");
	return (double)writers * count * 1e6 / us;
}

/* ---- processes and memory ---- */

double
limit_round_trip(unsigned count)
{
	char octets[TRIP_BYTES] = {0};
	int fds[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds) != 0 || (pid = fork()) < 0)
		bench_die("socketpair");
	if (pid == 0) {
		(void)close(fds[0]);
		while (recv(fds[1], octets, sizeof octets, 0) > 0)
			if (send(fds[1], octets, sizeof octets, 0) < 0)
				_exit(1);
		_exit(0);
	}
	(void)close(fds[1]);
	double began = bench_now();

	for (unsigned i = 0; i < count; i++)
		if (send(fds[0], octets, sizeof octets, 0) < 0 || recv(fds[0], octets, sizeof octets, 0) < 0)
			bench_die("a round trip failed");
	double us = bench_now() - began;

	(void)close(fds[0]);
	(void)waitpid(pid, NULL, 0);
	return us / count;
}

double
limit_memory(void)
{
	char *from = malloc(MEMORY_BYTES), *to = malloc(MEMORY_BYTES);
	double best = 0;

	if (from == NULL || to == NULL)
		bench_die("no memory");
	memset(from, 1, MEMORY_BYTES);
	memset(to, 2, MEMORY_BYTES);
	for (int i = 0; i < 5; i++) {
		double began = bench_now();

		memcpy(to, from, MEMORY_BYTES);
		__asm__ volatile("" : : "r"(to) : "memory");
		double rate = MEMORY_BYTES * 1e6 / (bench_now() - began);

		best = rate > best ? rate : best;
	}
	free(from);
	free(to);
	return best;
}

double
limit_read(const char *dir, size_t bytes)
{
	static char block[READ_BYTES];
	char path[PATH_MAX + 256];
	size_t done = 0;
	int fd;

	(void)snprintf(path, sizeof path, "%s/read-probe", dir);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	for (; fd >= 0 && done < bytes; done += sizeof block)
		if (write(fd, block, sizeof block) != (ssize_t)sizeof block)
			bench_die("%s cannot be written", path);
	double began = bench_now();

	for (size_t at = 0; at < done; at += sizeof block)
		if (pread(fd, block, sizeof block, (off_t)at) != (ssize_t)sizeof block)
			bench_die("%s cannot be read", path);
	double us = bench_now() - began;

	(void)close(fd);
	(void)unlink(path);
	return (double)done * 1e6 / us;
}
