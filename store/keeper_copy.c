/*
 * account.dump: the dump of the index beside it, for the day when the index is lost. Written when nobody uses the
 * account, a step at a time, as account.dump.new, synced and renamed; given up when somebody comes. A large account that
 * gets a message now and then is not written anew each time: a dump stands for a second for every
 * KEEPER_COPY_BYTES_PER_S octets of it.
 */
#include "store/keeper_private.h"

#include "common/log.h"
#include "common/mutant.h"
#include "store/dump.h"
#include "store/file.h"

#include <fcntl.h>
#include <sys/stat.h>

#define COPY_FILE "account.dump"
#define COPY_NEW_FILE "account.dump.new"
#define COPY_STEP_BYTES (256u * 1024)
/* What comes before the account's line and that line. */
#define HEAD_BYTES 4096u

static struct {
	bool known;	 /* the old dump was looked at */
	uint64_t serial; /* it is of; UINT64_MAX: there is none */
	uint64_t due_s;	 /* not before that */
	struct dump *dump; /* under way */
	uint64_t dump_serial;
	int fd;
} copy = {.fd = -1};

static void
look_at_old(const char *path)
{
	struct dump_reader *r;
	uint8_t room[HEAD_BYTES];
	struct image im;
	struct stat st;
	int fd = file_open(path, O_RDONLY | O_NOFOLLOW, NULL);

	copy.known = true;
	copy.serial = UINT64_MAX;
	copy.due_s = 0;
	if (fd < 0)
		return;
	int64_t got = file_read(fd, 0, room, sizeof room, NULL);

	r = dump_reader_new(&im, true);
	if (got > 0 && dump_reader_feed(r, slice_of(room, (size_t)got), NULL) == 0 && im.account.next_mailbox > 0 &&
	    fstat(fd, &st) == 0) {
		copy.serial = im.account.serial;
		copy.due_s = (uint64_t)st.st_mtime + (uint64_t)st.st_size / KEEPER_COPY_BYTES_PER_S;
	}
	dump_reader_free(&r);
	image_fini(&im);
	(void)file_close(fd, NULL);
}

static int
begin(struct err *e)
{
	char path[FILE_PATH_BYTES_MAX];

	file_path(path, the_keeper.root, COPY_NEW_FILE);
	copy.fd = file_open(path, O_RDWR | O_CREAT | O_TRUNC, e);
	if (copy.fd < 0)
		return -1;
	copy.dump = dump_begin(the_keeper.ix, copy.fd);
	copy.dump_serial = index_serial(the_keeper.ix);
	return 0;
}

static int
put_in_place(struct err *e)
{
	char from[FILE_PATH_BYTES_MAX], to[FILE_PATH_BYTES_MAX];
	int failed = MUTANT(COPY_SYNC) ? 0 : file_sync(copy.fd, e);

	if (file_close(copy.fd, failed ? NULL : e) < 0)
		failed = -1;
	copy.fd = -1;
	file_path(from, the_keeper.root, COPY_NEW_FILE);
	file_path(to, the_keeper.root, COPY_FILE);
	if (failed || file_rename(from, to, e) < 0)
		return -1;
	return MUTANT(COPY_NAME_SYNC) ? 0 : file_sync_dir(the_keeper.root, e);
}

void
keeper_copy_stop(void)
{
	char path[FILE_PATH_BYTES_MAX];

	copy.known = false;
	if (copy.dump == NULL && copy.fd < 0)
		return;
	dump_free(&copy.dump);
	if (copy.fd >= 0)
		(void)file_close(copy.fd, NULL);
	copy.fd = -1;
	file_path(path, the_keeper.root, COPY_NEW_FILE);
	(void)file_unlink(path, NULL);
}

static bool
is_due(void)
{
	char path[FILE_PATH_BYTES_MAX];

	file_path(path, the_keeper.root, COPY_FILE);
	if (!copy.known)
		look_at_old(path);
	return copy.serial != index_serial(the_keeper.ix) && clock_wall_us() / 1000000 >= copy.due_s &&
	    index_has_space(the_keeper.ix, 0);
}

/* 1: there is more; 0: it is done; -1. */
static int
step(struct err *e)
{
	if (copy.dump == NULL && begin(e) < 0)
		return -1;
	int r = dump_step(copy.dump, COPY_STEP_BYTES, e);

	if (r != 0)
		return r;
	uint64_t octets = dump_octets(copy.dump);

	dump_free(&copy.dump);
	copy.serial = copy.dump_serial;
	copy.due_s = clock_wall_us() / 1000000 + octets / KEEPER_COPY_BYTES_PER_S;
	return put_in_place(e);
}

bool
keeper_copy(void)
{
	struct err e;
	int r;

	if (the_keeper.stopped || index_broken(the_keeper.ix) || (copy.dump == NULL && !is_due()))
		return false;
	r = step(&e);
	if (r > 0)
		return true;
	if (r < 0) {
		log_event(LOG_WARN, NO_SESSION, "account-dump-failed", LOG_ERR(&e), LOG_END);
		keeper_copy_stop();
		/* Not tried again before something changes. */
		copy.known = true;
		copy.serial = index_serial(the_keeper.ix);
	}
	return false;
}
