#include "admin/maildir_import.h"

#include "admin/maildir.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_BYTES (64u * 1024)
#define KEYWORDS_BYTES_MAX 8192u

/* Dovecot's plugins write such files without saying so in their names; nobody could read one as a message. */
static bool
is_packed(struct slice start)
{
	const struct slice magic[] = {
	    SLICE("\x1f\x8b\x08"),	      /* gzip */
	    SLICE("BZh91AY&SY"),	      /* bzip2 */
	    SLICE("\xfd\x37zXZ"),	      /* xz */
	    SLICE("\x28\xb5\x2f\xfd"),      /* zstd */
	    SLICE("Dovecot-LZ4\x0d\x2a"),    /* lz4 */
	    SLICE("CRYPTED\x03\x07"),	      /* mail_crypt */
	};

	for (size_t i = 0; i < sizeof magic / sizeof magic[0]; i++)
		if (slice_starts(start, magic[i]))
			return true;
	return false;
}

/* The whole file into the spool; NULL, or what is wrong with it. */
static const char *
spool_file(struct import *im, int fd)
{
	static uint8_t piece[READ_BYTES];
	uint64_t done = 0;
	struct stat st;
	ssize_t n;

	if (fstat(fd, &st) < 0)
		return strerror(errno);
	if (st.st_size > (off_t)STORE_MESSAGE_BYTES_MAX)
		return "too big";
	import_spool_begin(&im->spool);
	while ((n = read(fd, piece, sizeof piece)) != 0 && !im->spool.failed) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return strerror(errno);
		if (done == 0 && is_packed(slice_of(piece, (size_t)n)))
			return "it is compressed or encrypted";
		import_spool_feed(&im->spool, slice_of(piece, (size_t)n));
		done += (uint64_t)n;
	}
	return NULL;
}

static void
put_keywords(const struct maildir *d, const struct maildir_name *n, struct import *im, struct buf *out)
{
	if (n->passed)
		buf_put_str(out, "$Forwarded\n");
	for (unsigned i = 0; i < MAILDIR_KEYWORDS_MAX; i++) {
		if (!(n->letters >> i & 1))
			continue;
		if (d->keyword[i] == NULL) {
			im->counts.keywords_lost++;
			continue;
		}
		buf_put_str(out, d->keyword[i]);
		buf_put_u8(out, '\n');
	}
}

static enum command_status
import_file(struct import *im, const struct maildir *d, const struct maildir_message *file)
{
	struct maildir_name name = maildir_name_parse(slice_str(file->name));
	struct import_message m = {.label = file->name, .flags = name.flags, .date = file->date, .uid = file->uid};
	struct buf keywords;
	struct err e;
	int fd = maildir_message_open(d, file, &e);
	const char *wrong = fd >= 0 ? spool_file(im, fd) : e.detail;

	if (fd >= 0)
		close(fd);
	if (wrong != NULL) {
		import_failed(im, file->name, wrong);
		return COMMAND_OK;
	}
	buf_init(&keywords, KEYWORDS_BYTES_MAX);
	put_keywords(d, &name, im, &keywords);
	m.keywords = buf_slice(&keywords);
	enum command_status status = import_message(im, &m);

	buf_fini(&keywords);
	return status;
}

static enum command_status
import_folder(struct import *im, const struct maildir *d, const char *mailbox)
{
	enum command_status status = import_mailbox(im, slice_str(mailbox), d->uidvalidity, d->uidnext);

	if (im->mailbox == 0)
		return status;
	for (size_t i = 0; status == COMMAND_OK && i < d->count; i++) {
		status = import_file(im, d, &d->messages[i]);
		progress_step(im->progress, mailbox, i + 1, d->count);
	}
	return status == COMMAND_OK ? import_mailbox_end(im) : status;
}

static enum command_status
import_folders(struct import *im, const struct maildir_folders *f, struct maildir_lists *lists, int at)
{
	enum command_status status = COMMAND_OK;
	struct slice rest, name, why;
	struct maildir d;
	struct err e;

	for (size_t i = 0; status == COMMAND_OK && i < f->count; i++) {
		if (maildir_open(&d, at, f->folders[i].path, lists, &e) < 0) {
			import_failed(im, f->folders[i].path, e.detail);
			continue;
		}
		status = import_folder(im, &d, f->folders[i].mailbox);
		maildir_close(&d);
	}
	rest = buf_slice(&f->subscriptions);
	while (status == COMMAND_OK && rest.n > 0 && slice_cut(&rest, '\n', &name))
		status = import_subscribe(im, name);
	rest = buf_slice(&f->left_aside);
	while (rest.n > 0 && slice_cut(&rest, '\0', &name) && slice_cut(&rest, '\0', &why))
		import_failed(im, (const char *)name.p, (const char *)why.p);
	return status;
}

static enum command_status
cannot_read(const struct err *e)
{
	command_error("%s", e->detail);
	return COMMAND_REFUSED;
}

static enum command_status
import_one(struct import *im, const char *path, const char *mailbox, struct maildir_lists *lists)
{
	enum command_status status;
	struct maildir d;
	struct err e;

	if (maildir_open(&d, AT_FDCWD, path, lists, &e) < 0)
		return cannot_read(&e);
	status = import_folder(im, &d, mailbox);
	maildir_close(&d);
	return status;
}

static enum command_status
import_all(struct import *im, const char *path, struct maildir_lists *lists)
{
	struct maildir_folders folders;
	struct err e;
	enum command_status status;

	if (maildir_folders_open(&folders, path, lists, &e) < 0)
		return cannot_read(&e);
	int at = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (at < 0) {
		command_error("%s: %s", path, strerror(errno));
		status = COMMAND_REFUSED;
	} else {
		status = import_folders(im, &folders, lists, at);
		close(at);
	}
	maildir_folders_close(&folders);
	return status;
}

enum command_status
maildir_import(struct import *im, const char *path, const char *mailbox)
{
	struct maildir_lists lists = {.child = {.pid = 0}};
	enum command_status status =
	    mailbox != NULL ? import_one(im, path, mailbox, &lists) : import_all(im, path, &lists);

	maildir_lists_close(&lists);
	return status;
}
