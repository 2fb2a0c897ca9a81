#include "admin/import_spool.h"

#include "common/memfd.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define DISK "/var/tmp"
#define ROOM_BYTES (64u * 1024)
#define COPY_BYTES (64u * 1024)

void
import_spool_init(struct import_spool *s)
{
	*s = (struct import_spool){.fd = -1, .hash = EVP_MD_CTX_new()};
	buf_init(&s->room, ROOM_BYTES);
}

static void
drop(struct import_spool *s)
{
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
	buf_reset(&s->room);
}

void
import_spool_fini(struct import_spool *s)
{
	drop(s);
	EVP_MD_CTX_free(s->hash);
	buf_fini(&s->room);
}

void
import_spool_begin(struct import_spool *s)
{
	drop(s);
	s->bytes = 0;
	s->after_cr = s->failed = false;
	s->in_memory = true;
	s->fd = memfd_new(&s->err);
	if (s->fd >= 0 && (s->hash == NULL || EVP_DigestInit_ex(s->hash, EVP_sha256(), NULL) != 1))
		s->failed = err_set(&s->err, ERR_TEMP, ERR_CODE_NONE, "no memory", "SHA-256") < 0;
	if (s->fd < 0)
		s->failed = true;
}

/* From memory to the disk: it has become long. */
static int
move_to_disk(struct import_spool *s)
{
	int fd = open(DISK, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	uint8_t *piece = buf_room(&s->room, COPY_BYTES);
	uint64_t at = 0;
	int64_t n = 0;

	if (fd < 0)
		return err_sys(&s->err, errno, DISK);
	assert(s->room.n == 0 && piece != NULL);
	while ((n = memfd_read(s->fd, at, piece, COPY_BYTES, &s->err)) > 0) {
		if (memfd_write(fd, slice_of(piece, (size_t)n), &s->err) < 0) {
			n = -1;
			break;
		}
		at += (uint64_t)n;
	}
	close(n < 0 ? fd : s->fd);
	if (n < 0)
		return -1;
	s->fd = fd;
	s->in_memory = false;
	return 0;
}

static void
write_room(struct import_spool *s)
{
	struct slice octets = buf_slice(&s->room);

	if (!s->failed && (EVP_DigestUpdate(s->hash, octets.p, octets.n) != 1 || memfd_write(s->fd, octets, &s->err) < 0))
		s->failed = true;
	s->bytes += octets.n;
	buf_reset(&s->room);
	if (!s->failed && s->bytes > STORE_MESSAGE_BYTES_MAX)
		s->failed = err_set(&s->err, ERR_PERM, ERR_CODE_TOO_BIG, "too big", NULL) < 0;
	else if (!s->failed && s->in_memory && s->bytes > IMPORT_MEMORY_BYTES_MAX)
		s->failed = move_to_disk(s) < 0;
}

static void
put(struct import_spool *s, struct slice octets)
{
	while (octets.n > 0) {
		size_t n = ROOM_BYTES - s->room.n;

		n = n < octets.n ? n : octets.n;
		buf_put(&s->room, octets.p, n);
		octets = slice_sub(octets, n, octets.n);
		if (s->room.n == ROOM_BYTES)
			write_room(s);
	}
}

void
import_spool_feed(struct import_spool *s, struct slice octets)
{
	while (octets.n > 0 && !s->failed) {
		size_t lf = slice_index(octets, '\n');
		bool has_cr = lf > 0 ? octets.p[lf - 1] == '\r' : s->after_cr;

		put(s, slice_sub(octets, 0, lf));
		if (lf < octets.n)
			put(s, has_cr ? SLICE("\n") : SLICE("\r\n"));
		s->after_cr = lf == octets.n && octets.p[lf - 1] == '\r';
		octets = slice_sub(octets, lf + 1, octets.n);
	}
}

int
import_spool_end(struct import_spool *s, uint64_t *bytes_r, uint8_t sha256_r[STORE_SHA256_BYTES], struct err *e)
{
	unsigned n = 0;

	write_room(s);
	int fd = s->fd;

	if (!s->failed && EVP_DigestFinal_ex(s->hash, sha256_r, &n) != 1)
		s->failed = err_set(&s->err, ERR_TEMP, ERR_CODE_NONE, "no memory", "SHA-256") < 0;
	if (!s->failed && s->in_memory && memfd_seal(fd, &s->err) < 0)
		s->failed = true;
	if (s->failed) {
		*e = s->err;
		drop(s);
		return -1;
	}
	*bytes_r = s->bytes;
	s->fd = -1;
	return fd;
}
