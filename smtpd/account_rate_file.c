#include "smtpd/account_rate_file.h"

#include "common/cursor.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/memfd.h"
#include "store/file.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>

#define MAGIC SLICE("MSRATE1\n")
#define SUM_BYTES 32
#define FILE_BYTES_MAX (ACCOUNT_RATE_IMAGE_BYTES_MAX + 64)

struct account_rate_file {
	int fd[2]; /* -1: it could not be opened */
	struct err unopened;
	uint64_t turn; /* of the last one that was kept; turn % 2 is its file */
};

static bool
sum_of(struct slice s, uint8_t sum[SUM_BYTES])
{
	return EVP_Digest(s.p, s.n, sum, NULL, EVP_sha256(), NULL) == 1;
}

static void
close_file(struct account_rate_file *f, unsigned i)
{
	if (f->fd[i] >= 0)
		(void)file_close(f->fd[i], NULL);
	f->fd[i] = -1;
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

	if (f->fd[i] < 0)
		return;
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

struct account_rate_file *
account_rate_file_open(const char *dir, struct account_rates **r_r)
{
	struct account_rate_file *f = MEM_NEW(struct account_rate_file);
	char path[FILE_PATH_BYTES_MAX];

	*r_r = NULL;
	for (unsigned i = 0; i < 2; i++) {
		(void)snprintf(path, sizeof path, "%s/counts.%u", dir, i);
		f->fd[i] = file_open(path, O_RDWR | O_CREAT | O_DSYNC | O_NOFOLLOW | O_CLOEXEC, &f->unopened);
		if (f->fd[i] >= 0 && file_sync_dir(dir, &f->unopened) != 0)
			close_file(f, i);
		read_file(f, i, r_r);
	}
	if (*r_r == NULL)
		*r_r = account_rates_new();
	return f;
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

int
account_rate_file_keep(struct account_rate_file *f, const struct account_rates *r, struct err *e)
{
	int fd = f->fd[(f->turn + 1) % 2], failed;
	struct buf b;

	if (fd < 0) {
		*e = f->unopened;
		return -1;
	}
	buf_init(&b, FILE_BYTES_MAX);
	if (put_file(&b, f->turn + 1, r))
		failed = file_write(fd, 0, buf_slice(&b), e);
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
	close_file(*f, 0);
	close_file(*f, 1);
	MEM_FREE(f);
}
