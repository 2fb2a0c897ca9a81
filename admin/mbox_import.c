#include "admin/mbox_import.h"

#include "admin/maildir_parse.h"
#include "admin/mbox_reader.h"
#include "common/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* A FIFO must not make us wait. */
#define FLAGS_FILE (O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)
#define PATH_BYTES_MAX 4096u
#define SUFFIX ".mbox"
#define SUFFIX_BELOW ".sbd"

struct run {
	struct import *im;
	struct mbox_reader reader;
	unsigned files;
	char path[PATH_BYTES_MAX]; /* below the directory */
};

/* ---- one file ---- */

struct file {
	int fd;
	uint64_t size;
};

static void
spool(void *arg, struct slice octets)
{
	struct import *im = arg;

	import_spool_feed(&im->spool, octets);
}

static enum command_status
take(struct import *im, const struct mbox_message *m, const char *label)
{
	struct import_message out = {.label = label, .flags = m->flags, .keywords = buf_slice(&m->keywords),
	    .date = m->date.seconds, .zone_minutes = m->date.zone_minutes, .uid = m->uid};

	im->counts.keywords_lost += m->keywords_lost;
	return m->internal ? COMMAND_OK : import_message(im, &out);
}

static enum command_status
import_messages(struct run *r, const struct file *f, const char *label)
{
	struct import *im = r->im;
	struct mbox_message m;
	char name[IMPORT_LABEL_SIZE];
	struct err e;
	int next = 1;
	enum command_status status = mbox_reader_begin(&r->reader, f->fd);

	buf_init(&m.keywords, MBOX_KEYWORDS_BYTES_MAX);
	while (status == COMMAND_OK) {
		(void)snprintf(name, sizeof name, "%.100s, octet %llu", label, (unsigned long long)r->reader.at);
		import_spool_begin(&im->spool);
		status = mbox_reader_next(&r->reader, &m, spool, im, &next, &e);
		if (status != COMMAND_OK || next <= 0)
			break;
		status = take(im, &m, name);
		progress_step(im->progress, label, r->reader.at >> 10, f->size >> 10);
	}
	if (status == COMMAND_OK && next < 0)
		import_failed(im, label, e.detail);
	buf_fini(&m.keywords);
	return status;
}

static enum command_status
import_file(struct run *r, const struct file *f, struct slice mailbox, const char *label)
{
	uint32_t uidvalidity, last_uid;
	enum command_status status = mbox_reader_look(&r->reader, f->fd, &uidvalidity, &last_uid);

	if (status == COMMAND_OK)
		status = import_mailbox(r->im, mailbox, uidvalidity, last_uid + 1);
	if (status != COMMAND_OK || r->im->mailbox == 0)
		return status;
	status = import_messages(r, f, label);
	return status == COMMAND_OK ? import_mailbox_end(r->im) : status;
}

/* ---- a directory of them ---- */

static enum command_status import_directory(struct run *r, int fd, unsigned depth);

/* Does it begin as an mbox does, or is it empty? */
static bool
looks_like_mbox(const struct file *f)
{
	char start[5];

	return f->size == 0 || (pread(f->fd, start, sizeof start, 0) == (ssize_t)sizeof start && memcmp(start, "From ", 5) == 0);
}

static enum command_status
import_named(struct run *r, const struct file *f)
{
	struct slice name = slice_str(r->path);
	enum command_status status = COMMAND_OK;
	struct buf mailbox;

	if (slice_ends_nocase(name, SLICE(SUFFIX)) && name.n > sizeof SUFFIX - 1)
		name.n -= sizeof SUFFIX - 1;
	buf_init(&mailbox, (size_t)STORE_NAME_BYTES_MAX * 2);
	if (++r->files > MBOX_FILES_MAX) {
		command_error("more than %u files", MBOX_FILES_MAX);
		status = COMMAND_REFUSED;
	} else if (!maildir_folder_decode(name, '/', &mailbox)) {
		import_failed(r->im, r->path, "its name can be no mailbox's");
	} else if (looks_like_mbox(f)) {
		status = import_file(r, f, buf_slice(&mailbox), r->path);
	}
	buf_fini(&mailbox);
	return status;
}

/* A directory within one; Thunderbird's, beside the file "Work", is called "Work.sbd". */
static enum command_status
import_below(struct run *r, int fd, unsigned depth)
{
	struct slice path = slice_str(r->path);

	if (slice_ends_nocase(path, SLICE(SUFFIX_BELOW)) && path.n > sizeof SUFFIX_BELOW - 1)
		r->path[path.n - (sizeof SUFFIX_BELOW - 1)] = '\0';
	return import_directory(r, fd, depth);
}

static enum command_status
import_entry(struct run *r, int at, const char *name, unsigned depth)
{
	size_t before = strlen(r->path);
	int n = snprintf(r->path + before, PATH_BYTES_MAX - before, "%s%s", before > 0 ? "/" : "", name);
	struct file f = {.fd = openat(at, name, FLAGS_FILE)};
	enum command_status status = COMMAND_OK;
	struct stat st;

	if (f.fd < 0 && errno != ELOOP)
		import_failed(r->im, name, strerror(errno));
	if (f.fd >= 0 && fstat(f.fd, &st) == 0 && n > 0 && (size_t)n < PATH_BYTES_MAX - before) {
		f.size = (uint64_t)st.st_size;
		if (S_ISREG(st.st_mode))
			status = import_named(r, &f);
		else if (S_ISDIR(st.st_mode) && depth < STORE_NAME_LEVELS_MAX)
			status = import_below(r, f.fd, depth + 1);
	}
	if (f.fd >= 0)
		close(f.fd);
	r->path[before] = '\0';
	return status;
}

static int
by_name(const void *a, const void *b)
{
	const char *const *x = a, *const *y = b;

	return strcmp(*x, *y);
}

/* The names in a directory, in order; those with a "." in front are left out. NULL and errno. */
static char **
read_names(int fd, size_t *count_r)
{
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;
	char **names = NULL;
	size_t n = 0, cap = 0;

	if (dir == NULL)
		return NULL;
	for (const struct dirent *entry; n <= MBOX_FILES_MAX && (entry = readdir(dir)) != NULL;) {
		if (entry->d_name[0] == '.')
			continue;
		if (n == cap) {
			cap = cap ? cap * 2 : 64;
			names = mem_resize(names, cap, sizeof *names);
		}
		names[n++] = mem_copy_str(entry->d_name, strlen(entry->d_name));
	}
	(void)closedir(dir);
	names = mem_resize(names, n + 1, sizeof *names);
	qsort(names, n, sizeof *names, by_name);
	*count_r = n;
	return names;
}

static enum command_status
import_directory(struct run *r, int fd, unsigned depth)
{
	enum command_status status = COMMAND_OK;
	size_t n = 0;
	char **names = read_names(fd, &n);

	if (names == NULL)
		import_failed(r->im, r->path, strerror(errno));
	for (size_t i = 0; i < n; i++) {
		if (status == COMMAND_OK)
			status = import_entry(r, fd, names[i], depth);
		free(names[i]);
	}
	free(names);
	return status;
}

static enum command_status
import_path(struct run *r, const char *path, const char *mailbox)
{
	struct file f = {.fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)};
	enum command_status status = COMMAND_REFUSED;
	struct stat st;

	if (f.fd < 0 || fstat(f.fd, &st) < 0) {
		command_error("%s: %s", path, strerror(errno));
	} else if (S_ISREG(st.st_mode)) {
		f.size = (uint64_t)st.st_size;
		status = import_file(r, &f, slice_str(mailbox != NULL ? mailbox : "INBOX"), path);
	} else if (S_ISDIR(st.st_mode) && mailbox == NULL) {
		status = import_directory(r, f.fd, 1);
	} else {
		command_error("%s: not a file", path);
	}
	if (f.fd >= 0)
		close(f.fd);
	return status;
}

enum command_status
mbox_import(struct import *im, const char *path, const char *mailbox)
{
	static struct run r;
	enum command_status status;

	r = (struct run){.im = im};
	status = mbox_reader_open(&r.reader);
	if (status == COMMAND_OK)
		status = import_path(&r, path, mailbox);
	mbox_reader_close(&r.reader);
	return status;
}
