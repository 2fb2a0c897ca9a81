#include "admin/whole_file.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define PIECE_BYTES 65536u

int
whole_file_read(const char *path, size_t max, struct buf *b, struct err *e)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = -1;

	if (fd < 0)
		return err_sys(e, errno, path);
	for (;;) {
		uint8_t *to = b->n <= max ? buf_room(b, PIECE_BYTES) : NULL;

		n = to != NULL ? read(fd, to, PIECE_BYTES) : -1;
		if (to == NULL)
			errno = EFBIG;
		if (n <= 0)
			break;
		buf_added(b, (size_t)n);
	}
	if (n < 0)
		err_sys(e, errno, path);
	(void)close(fd);
	return n < 0 ? -1 : 0;
}
