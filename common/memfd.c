/*
 * Why seals: a mapping of a file that another process can shrink gives SIGBUS, and octets that it
 * can change between judging and using make every check worthless. F_SEAL_SEAL is set too, though
 * nothing removes a seal once set.
 */
#include "common/memfd.h"

#include "common/mem.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)
#define READ_STEP_BYTES 65536u

int
memfd_new(struct err *e)
{
	int fd = memfd_create("mailstead", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	return fd >= 0 ? fd : err_sys(e, errno, "memfd_create");
}

int
memfd_write(int fd, struct slice octets, struct err *e)
{
	size_t done = 0;

	while (done < octets.n) {
		ssize_t n = write(fd, octets.p + done, octets.n - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_sys(e, n < 0 ? errno : EIO, "write to a passed file");
		done += (size_t)n;
	}
	return 0;
}

int
memfd_seal(int fd, struct err *e)
{
	return fcntl(fd, F_ADD_SEALS, SEALS | F_SEAL_SEAL) == 0 ? 0
								: err_sys(e, errno, "F_ADD_SEALS");
}

int
memfd_of(struct slice octets, struct err *e)
{
	int fd = memfd_new(e);

	if (fd < 0)
		return -1;
	if (memfd_write(fd, octets, e) < 0 || memfd_seal(fd, e) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

bool
memfd_sealed(int fd)
{
	int seals = fcntl(fd, F_GET_SEALS);

	return seals >= 0 && (seals & SEALS) == SEALS;
}

int64_t
memfd_size(int fd, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_sys(e, errno, "fstat of a passed file");
	if (!S_ISREG(st.st_mode))
		return err_set(e, ERR_PERM, ERR_CODE_MALFORMED, "internal error",
		    "a passed descriptor is no file");
	return st.st_size;
}

/* The size of a file that may be mapped, or -1. */
static int64_t
judge(int fd, uint64_t bytes, uint64_t bytes_max, struct err *e)
{
	if (!memfd_sealed(fd))
		return err_set(e, ERR_PERM, ERR_CODE_MALFORMED, "internal error",
		    "a passed memory file is not sealed");
	int64_t size = memfd_size(fd, e);

	if (size < 0)
		return -1;
	if ((bytes != MEMFD_ANY_SIZE && (uint64_t)size != bytes) || (uint64_t)size > bytes_max)
		return err_set(e, ERR_PERM, ERR_CODE_MALFORMED, "internal error",
		    "a passed memory file has %lld octets", (long long)size);
	return size;
}

int
memfd_map(int fd, uint64_t bytes, uint64_t bytes_max, struct memfd_map *map_r, struct err *e)
{
	int64_t size = judge(fd, bytes, bytes_max, e);

	*map_r = (struct memfd_map){{NULL, 0}};
	if (size <= 0)
		return (int)size;
	void *p = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, fd, 0);

	if (p == MAP_FAILED)
		return err_sys(e, errno, "mmap of a passed memory file");
	map_r->octets = slice_of(p, (size_t)size);
	return 0;
}

void
memfd_unmap(struct memfd_map *map)
{
	if (map->octets.n)
		(void)munmap((void *)(uintptr_t)map->octets.p, map->octets.n);
	map->octets = slice_of(NULL, 0);
}

int
memfd_map_private(int fd, size_t bytes, size_t spare, struct memfd_private *map_r, struct err *e)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), all;

	*map_r = (struct memfd_private){NULL, 0};
	assert(bytes > 0);
	if (judge(fd, bytes, bytes, e) < 0)
		return -1;
	all = size_add(size_add(bytes, spare), page - 1) / page * page;
	uint8_t *p = mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return err_sys(e, errno, "mmap");
	if (mmap(p, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, fd, 0) == MAP_FAILED) {
		err_sys(e, errno, "mmap of a passed memory file");
		(void)munmap(p, all);
		return -1;
	}
	*map_r = (struct memfd_private){p, all};
	return 0;
}

void
memfd_unmap_private(struct memfd_private *map)
{
	if (map->n)
		(void)munmap(map->p, map->n);
	*map = (struct memfd_private){NULL, 0};
}

int64_t
memfd_read(int fd, uint64_t offset, void *p, size_t n, struct err *e)
{
	size_t done = 0;

	while (done < n) {
		ssize_t got = pread(fd, (uint8_t *)p + done, n - done, (off_t)(offset + done));

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return err_sys(e, errno, "read of a passed file");
		if (got == 0)
			break;
		done += (size_t)got;
	}
	return (int64_t)done;
}

int
memfd_read_all(int fd, struct buf *b, struct err *e)
{
	uint64_t offset = 0;
	int64_t size = memfd_size(fd, e);

	if (size < 0)
		return -1;
	while (offset < (uint64_t)size) {
		uint64_t left = (uint64_t)size - offset;
		size_t step = left < READ_STEP_BYTES ? (size_t)left : READ_STEP_BYTES;
		uint8_t *to = buf_room(b, step);

		if (to == NULL)
			return err_set(e, ERR_LIMIT, ERR_CODE_TOO_BIG, "too big",
			    "a passed file has %lld octets", (long long)size);
		int64_t got = memfd_read(fd, offset, to, step, e);

		if (got < 0)
			return -1;
		buf_added(b, (size_t)got);
		offset += (uint64_t)got;
		if ((size_t)got < step)
			break;
	}
	return 0;
}
