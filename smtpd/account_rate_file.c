#include "smtpd/account_rate_file.h"

#include "common/cursor.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/memfd.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <unistd.h>

#define MAGIC SLICE("MSRATE1\n")
#define SUM_BYTES 32
#define FILE_BYTES_MAX (ACCOUNT_RATE_IMAGE_BYTES_MAX + 64)

struct account_rate_file {
	int fd[2];
	uint64_t turn; /* of the last one that was kept; turn % 2 is its file */
};

static bool
sum_of(struct slice s, uint8_t sum[SUM_BYTES])
{
	return EVP_Digest(s.p, s.n, sum, NULL, EVP_sha256(), NULL) == 1;
}

/* ---- reading ---- */

/* A file's image, its turn in *turn_r. False: there is none in it. */
static bool
cut_file(struct slice whole, uint64_t *turn_r, struct slice *image_r)
{
	struct cursor c = cursor_of(whole);
	struct slice magic = cursor_take(&c, MAGIC.n);
	uint64_t turn = cursor_u64(&c), bytes = cursor_u64(&c);
	uint8_t sum[SUM_BYTES];

	if (c.bad || !slice_eq(magic, MAGIC) || bytes > ACCOUNT_RATE_IMAGE_BYTES_MAX)
		return false;
	*image_r = cursor_take(&c, (size_t)bytes);
	size_t summed = whole.n - cursor_left(&c);
	struct slice want = cursor_take(&c, SUM_BYTES);

	if (c.bad || !sum_of(slice_sub(whole, 0, summed), sum) || !slice_eq(want, slice_of(sum, sizeof sum)))
		return false;
	*turn_r = turn;
	return true;
}

/* What the file holds, in r, if it is of a later turn. */
static void
read_file(struct account_rate_file *f, unsigned i, struct account_rates **r)
{
	struct account_rates *found = NULL;
	struct slice image;
	uint64_t turn = 0;
	struct buf b;
	struct err e;

	buf_init(&b, FILE_BYTES_MAX);
	if (memfd_read_all(f->fd[i], &b, &e) != 0)
		log_event(LOG_WARN, NO_SESSION, "counts-unread", LOG_NUM("file", i), LOG_ERR(&e), LOG_END);
	else if (b.n > 0 && (!cut_file(buf_slice(&b), &turn, &image) || (found = account_rates_decode(image)) == NULL))
		log_event(
		    LOG_INFO, NO_SESSION, "counts-unread", LOG_NUM("file", i), LOG_CSTR("error", "it was not written to its end"), LOG_END);
	buf_fini(&b);
	if (found != NULL && (*r == NULL || turn > f->turn)) {
		account_rates_free(r);
		*r = found;
		f->turn = turn;
	} else {
		account_rates_free(&found);
	}
}

int
account_rate_file_open(const char *dir, struct account_rate_file **f_r, struct account_rates **r_r, struct err *e)
{
	struct account_rate_file *f = MEM_NEW(struct account_rate_file);
	char path[4096];

	*r_r = NULL;
	for (unsigned i = 0; i < 2; i++) {
		(void)snprintf(path, sizeof path, "%s/counts.%u", dir, i);
		f->fd[i] = open(path, O_RDWR | O_CREAT | O_DSYNC | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (f->fd[i] < 0) {
			(void)err_sys(e, errno, path);
			if (i == 1)
				(void)close(f->fd[0]);
			MEM_FREE(&f);
			return -1;
		}
	}
	for (unsigned i = 0; i < 2; i++)
		read_file(f, i, r_r);
	if (*r_r == NULL)
		*r_r = account_rates_new();
	*f_r = f;
	return 0;
}

/* ---- writing ---- */

static bool
put_file(struct buf *b, uint64_t turn, const struct account_rates *r)
{
	struct buf image;
	uint8_t sum[SUM_BYTES];

	buf_init(&image, ACCOUNT_RATE_IMAGE_BYTES_MAX);
	account_rates_encode(r, &image);
	buf_put_slice(b, MAGIC);
	put_u64(b, turn);
	put_u64(b, image.n);
	buf_put_slice(b, buf_slice(&image));
	b->failed |= image.failed || !sum_of(buf_slice(b), sum);
	buf_fini(&image);
	return !b->failed && buf_put_slice(b, slice_of(sum, sizeof sum));
}

static int
write_whole(int fd, struct slice s, struct err *e)
{
	size_t done = 0;

	while (done < s.n) {
		ssize_t n = pwrite(fd, s.p + done, s.n - done, (off_t)done);

		if (n > 0)
			done += (size_t)n;
		else if (n == 0 || errno != EINTR)
			return err_sys(e, n == 0 ? ENOSPC : errno, "write of the counts");
	}
	/* The rest of a longer one before it need not go. */
	(void)!ftruncate(fd, (off_t)s.n);
	return 0;
}

int
account_rate_file_keep(struct account_rate_file *f, const struct account_rates *r, struct err *e)
{
	struct buf b;
	int failed;

	buf_init(&b, FILE_BYTES_MAX);
	if (put_file(&b, f->turn + 1, r))
		failed = write_whole(f->fd[(f->turn + 1) % 2], buf_slice(&b), e);
	else
		failed = err_set(e, ERR_BUG, ERR_CODE_NONE, "too much", "the counts of accounts pass their maximum");
	buf_fini(&b);
	if (failed == 0)
		f->turn++;
	return failed;
}

void
account_rate_file_close(struct account_rate_file **f)
{
	if (*f == NULL)
		return;
	(void)close((*f)->fd[0]);
	(void)close((*f)->fd[1]);
	MEM_FREE(f);
}
