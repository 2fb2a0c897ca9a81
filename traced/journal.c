/*
 * Segments are numbered without end; the list in memory holds them in order. The
 * time of a segment is that of its last write (its file's modification time
 * after a restart), which is never before its events were sent.
 */
#include "traced/journal.h"

#include "common/log.h"
#include "common/loop.h"
#include "common/mem.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEGMENTS_MAX 4096
#define SEGMENTS_PER_WHOLE 16
#define FLUSH_AT_BYTES (64u << 10)
#define NAME_DIGITS 12
#define MAGIC_BYTES (sizeof JOURNAL_MAGIC - 1)

struct segment {
	uint64_t number;
	uint64_t bytes;
	uint64_t last_us;
};

struct journal {
	char path[PATH_MAX];
	struct journal_limits limits;
	struct segment segment[SEGMENTS_MAX]; /* oldest first */
	unsigned n;
	int fd; /* of the last one; -1 before the first event */
	struct buf pending;
	uint64_t pending_events;
	uint64_t dropped;
	uint64_t bytes;
};

/* ---- names ---- */

static bool
segment_path(const struct journal *j, uint64_t number, char out[PATH_MAX])
{
	int n = snprintf(out, PATH_MAX, "%s/%0*" PRIu64 ".trace", j->path, NAME_DIGITS, number);

	return n > 0 && n < PATH_MAX;
}

static bool
segment_number(const char *name, uint64_t *number_r)
{
	struct slice s = slice_str(name);

	return s.n == NAME_DIGITS + sizeof ".trace" - 1 && slice_ends_nocase(s, SLICE(".trace")) &&
	       slice_u64(slice_sub(s, 0, NAME_DIGITS), UINT64_MAX - 1, number_r) && *number_r > 0;
}

static uint64_t
segment_bytes_max(const struct journal *j)
{
	uint64_t part = j->limits.bytes_max / SEGMENTS_PER_WHOLE;

	if (part < JOURNAL_SEGMENT_BYTES_MIN)
		return JOURNAL_SEGMENT_BYTES_MIN;
	return part < JOURNAL_SEGMENT_BYTES_MAX ? part : JOURNAL_SEGMENT_BYTES_MAX;
}

/* ---- reading ---- */

static int
file_read(int fd, struct buf *b, struct err *e)
{
	for (;;) {
		uint8_t *room = buf_room(b, FLUSH_AT_BYTES);
		ssize_t n;

		if (room == NULL)
			return err_set(
			    e, ERR_LIMIT, ERR_CODE_TOO_BIG, "trace segment too large", NULL);
		n = read(fd, room, FLUSH_AT_BYTES);
		if (n < 0)
			return err_sys(e, errno, "read of a trace segment");
		if (n == 0)
			return 0;
		buf_added(b, (size_t)n);
	}
}

/* The whole file into b, magic included; 0 octets when there is no such file. */
static int
segment_load(const struct journal *j, uint64_t number, struct buf *b, struct err *e)
{
	char path[PATH_MAX];
	int fd, r;

	buf_reset(b);
	if (!segment_path(j, number, path))
		return err_set(e, ERR_PERM, ERR_CODE_NONE, "path too long", NULL);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : err_sys(e, errno, path);
	r = file_read(fd, b, e);
	(void)close(fd);
	return r;
}

/* Octets of file that are magic and whole records. */
static uint64_t
whole_bytes(struct slice file)
{
	struct slice rest = slice_sub(file, MAGIC_BYTES, file.n);
	struct event v;

	if (!slice_starts(file, SLICE(JOURNAL_MAGIC)))
		return 0;
	while (event_decode(&rest, &v))
		;
	return file.n - rest.n;
}

int
journal_read(struct journal *j, uint64_t number, uint64_t since_us, struct buf *b, struct err *e)
{
	buf_reset(b);
	for (unsigned i = 0; i < j->n; i++) {
		if (j->segment[i].number != number)
			continue;
		if (j->segment[i].last_us < since_us)
			return 0;
		if (segment_load(j, number, b, e) != 0)
			return -1;
		if (slice_starts(buf_slice(b), SLICE(JOURNAL_MAGIC)))
			buf_drop(b, MAGIC_BYTES);
		else
			buf_reset(b);
		return 0;
	}
	return 0;
}

/* ---- segments ---- */

static void
segment_remove_first(struct journal *j)
{
	char path[PATH_MAX];

	if (segment_path(j, j->segment[0].number, path) && unlink(path) != 0 && errno != ENOENT)
		log_event(
		    LOG_WARN, NO_SESSION, "trace-not-removed", LOG_NUM("errno", errno), LOG_END);
	j->bytes -= j->segment[0].bytes;
	j->n--;
	memmove(&j->segment[0], &j->segment[1], j->n * sizeof j->segment[0]);
}

static int
compare_segments(const void *a, const void *b)
{
	uint64_t x = ((const struct segment *)a)->number;
	uint64_t y = ((const struct segment *)b)->number;

	return (x > y) - (x < y);
}

/* Notes the segments of the directory; with more than the list holds, the rest is left alone. */
static int
list_load(struct journal *j, struct err *e)
{
	DIR *dir = opendir(j->path);
	struct dirent *entry;

	if (dir == NULL)
		return err_sys(e, errno, j->path);
	while ((entry = readdir(dir)) != NULL && j->n < SEGMENTS_MAX) {
		struct segment *s = &j->segment[j->n];
		struct stat st;

		if (!segment_number(entry->d_name, &s->number) ||
		    fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
		    !S_ISREG(st.st_mode))
			continue;
		s->bytes = (uint64_t)st.st_size;
		s->last_us = (uint64_t)st.st_mtim.tv_sec * 1000000 +
			     (uint64_t)st.st_mtim.tv_nsec / 1000;
		j->bytes += s->bytes;
		j->n++;
	}
	(void)closedir(dir);
	qsort(j->segment, j->n, sizeof j->segment[0], compare_segments);
	return 0;
}

/* Goes on with the last segment, behind its last whole record. */
static int
last_open(struct journal *j, struct err *e)
{
	struct segment *last = &j->segment[j->n - 1];
	char path[PATH_MAX];
	struct buf file;
	uint64_t whole = 0;
	int r;

	buf_init(&file, 2 * (size_t)JOURNAL_SEGMENT_BYTES_MAX);
	r = segment_load(j, last->number, &file, e);
	if (r == 0)
		whole = whole_bytes(buf_slice(&file));
	buf_fini(&file);
	if (r != 0)
		return -1;
	/* Not one of ours, or not even its head was written: the next event begins a new one. */
	if (whole == 0 || whole >= segment_bytes_max(j) || !segment_path(j, last->number, path))
		return 0;
	j->fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
	if (j->fd < 0)
		return err_sys(e, errno, path);
	if (whole == last->bytes)
		return 0;
	if (ftruncate(j->fd, (off_t)whole) != 0)
		return err_sys(e, errno, path);
	log_event(LOG_WARN, NO_SESSION, "trace-tail-torn", LOG_NUM("octets", last->bytes - whole),
	    LOG_END);
	j->bytes -= last->bytes - whole;
	last->bytes = whole;
	return 0;
}

static int
fd_write(int fd, struct slice s)
{
	while (s.n > 0) {
		ssize_t n = write(fd, s.p, s.n);

		if (n < 0 && errno != EINTR)
			return -1;
		if (n > 0)
			s = slice_sub(s, (size_t)n, s.n);
	}
	return 0;
}

/* Begins the next segment; the one before is closed. */
static int
segment_begin(struct journal *j, struct err *e)
{
	uint64_t number = j->n > 0 ? j->segment[j->n - 1].number + 1 : 1;
	char path[PATH_MAX];

	if (j->fd >= 0)
		(void)close(j->fd);
	j->fd = -1;
	if (j->n == SEGMENTS_MAX)
		segment_remove_first(j);
	if (!segment_path(j, number, path))
		return err_set(e, ERR_PERM, ERR_CODE_NONE, "path too long", NULL);
	j->fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (j->fd < 0)
		return err_sys(e, errno, path);
	j->segment[j->n++] = (struct segment){number, 0, clock_wall_us()};
	if (fd_write(j->fd, SLICE(JOURNAL_MAGIC)) != 0)
		return err_sys(e, errno, path);
	j->segment[j->n - 1].bytes = MAGIC_BYTES;
	j->bytes += MAGIC_BYTES;
	return 0;
}

/* ---- the journal ---- */

int
journal_open(const char *path, struct journal_limits limits, struct journal **j_r, struct err *e)
{
	struct journal *j = MEM_NEW(struct journal);

	j->fd = -1;
	j->limits = limits;
	buf_init(&j->pending, JOURNAL_PENDING_BYTES_MAX);
	*j_r = j;
	if (!slice_cstr(slice_str(path), j->path, sizeof j->path))
		(void)err_set(e, ERR_PERM, ERR_CODE_NONE, "path too long", NULL);
	else if (list_load(j, e) == 0 && (j->n == 0 || last_open(j, e) == 0))
		return 0;
	journal_close(j_r);
	return -1;
}

void
journal_close(struct journal **jp)
{
	struct journal *j = *jp;
	struct err e;

	if (j == NULL)
		return;
	if (journal_flush(j, &e) != 0)
		log_event(LOG_WARN, NO_SESSION, "trace-lost", LOG_ERR(&e), LOG_END);
	if (j->fd >= 0)
		(void)close(j->fd);
	buf_fini(&j->pending);
	MEM_FREE(jp);
}

void
journal_set_limits(struct journal *j, struct journal_limits limits)
{
	j->limits = limits;
}

/* Writes all that is pending to the segment, or nothing of it. */
static int
pending_write(struct journal *j, struct err *e)
{
	struct segment *last;

	if (j->fd < 0 || j->segment[j->n - 1].bytes >= segment_bytes_max(j)) {
		if (segment_begin(j, e) != 0)
			return -1;
	}
	last = &j->segment[j->n - 1];
	if (fd_write(j->fd, buf_slice(&j->pending)) != 0) {
		(void)err_sys(e, errno, "write of a trace segment");
		/* A half record would hide all behind it. */
		if (ftruncate(j->fd, (off_t)last->bytes) != 0) {
			(void)close(j->fd);
			j->fd = -1;
		}
		return -1;
	}
	last->bytes += j->pending.n;
	last->last_us = clock_wall_us();
	j->bytes += j->pending.n;
	return 0;
}

int
journal_flush(struct journal *j, struct err *e)
{
	int r = j->pending.n > 0 ? pending_write(j, e) : 0;

	if (r != 0)
		j->dropped += j->pending_events;
	buf_reset(&j->pending);
	j->pending_events = 0;
	return r;
}

bool
journal_add(struct journal *j, const struct event *v)
{
	struct err e;

	if (!event_encode(v, &j->pending)) {
		j->dropped++;
		return false;
	}
	j->pending_events++;
	return j->pending.n < FLUSH_AT_BYTES || journal_flush(j, &e) == 0;
}

bool
journal_pending(const struct journal *j)
{
	return j->pending.n > 0;
}

uint64_t
journal_dropped(const struct journal *j)
{
	return j->dropped;
}

void
journal_expire(struct journal *j, uint64_t now_us)
{
	while (j->n > 0) {
		const struct segment *first = &j->segment[0];
		bool old = first->last_us < now_us &&
			   now_us - first->last_us > j->limits.age_us_max;

		if (!old && j->bytes <= j->limits.bytes_max)
			return;
		/* The one being written goes only by age. */
		if (j->n == 1 && j->fd >= 0) {
			if (!old)
				return;
			(void)close(j->fd);
			j->fd = -1;
		}
		segment_remove_first(j);
	}
}

uint64_t
journal_bytes(const struct journal *j)
{
	return j->bytes;
}

unsigned
journal_segments(const struct journal *j)
{
	return j->n;
}

uint64_t
journal_first(const struct journal *j)
{
	return j->n > 0 ? j->segment[0].number : 1;
}

uint64_t
journal_last(const struct journal *j)
{
	return j->n > 0 ? j->segment[j->n - 1].number : 0;
}
