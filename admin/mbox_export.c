#include "admin/mbox_export.h"

#include "admin/mbox_quoter.h"
#include "common/mutf7.h"
#include "store/entry.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define TEMPORARY ".mailstead-export"
#define SUFFIX ".mbox"
#define NAME_BYTES_MAX 255u

struct mbox_out {
	int root;
	const char *file; /* with --mailbox: its name in root */
	/* The present mbox. */
	int fd; /* of its directory */
	char name[NAME_BYTES_MAX + 1];
	struct export_file out;
	bool first;
	struct mbox_quoter quoter;
};

/* ---- its marks ---- */

/* "Thu Feb 13 23:32:54 2003", as ctime(3) has it, in UTC. */
static void
put_from_line(struct export_file *f, int64_t date)
{
	char rfc5322[DATE_RFC5322_SIZE], line[64];

	date_rfc5322_print((struct date_time){.seconds = date}, rfc5322);
	/* "Thu, 13 Feb 2003 23:32:54 +0000" */
	assert(strlen(rfc5322) == DATE_RFC5322_SIZE - 1);
	(void)snprintf(line, sizeof line, "From MAILER-DAEMON %.3s %.3s %.2s %.8s %.4s\n", rfc5322, rfc5322 + 8, rfc5322 + 5,
	    rfc5322 + 17, rfc5322 + 12);
	export_file_put(f, slice_str(line));
}

/* The names of those bits, each behind a blank. Gives how many have none. */
static unsigned
put_keywords(struct export *x, uint64_t keywords, struct buf *b)
{
	unsigned nameless = 0;

	for (unsigned bit = 0; bit < STORE_KEYWORDS_MAX; bit++) {
		struct slice name = store_keyword_name(x->mailbox.keywords, bit);

		if (!(keywords >> bit & 1))
			continue;
		if (name.n > 0) {
			buf_put_u8(b, ' ');
			buf_put_slice(b, name);
		} else {
			nameless++;
		}
	}
	return nameless;
}

static void
put_marks(struct export *x, const struct store_record *r)
{
	struct mbox_out *o = x->arg;
	struct buf b;

	buf_init(&b, 65536);
	if (o->first) {
		/* Dovecot knows no keyword that is not named here. */
		buf_putf(&b, "X-IMAPbase: %u %010u", x->mailbox.uidvalidity, x->mailbox.uidnext - 1);
		(void)put_keywords(x, UINT64_MAX, &b);
		buf_put_u8(&b, '\n');
	}
	o->first = false;
	buf_putf(&b, "X-UID: %u\nStatus: %s\n", r->uid, r->flags & STORE_FLAG_SEEN ? "RO" : "O");
	if (r->flags & ~STORE_FLAG_SEEN)
		buf_putf(&b, "X-Status: %s%s%s%s\n", r->flags & STORE_FLAG_ANSWERED ? "A" : "",
		    r->flags & STORE_FLAG_FLAGGED ? "F" : "", r->flags & STORE_FLAG_DRAFT ? "T" : "",
		    r->flags & STORE_FLAG_DELETED ? "D" : "");
	if (r->keywords != 0) {
		buf_put_str(&b, "X-Keywords:");
		x->counts.keywords_lost += put_keywords(x, r->keywords, &b);
		buf_put_u8(&b, '\n');
	}
	export_file_put(&o->out, buf_slice(&b));
	buf_fini(&b);
}

static void
put_octets(void *arg, struct slice octets)
{
	export_file_put_lf(arg, octets);
}

static int
message(struct export *x, const struct store_record *r, int fd, struct err *e)
{
	struct mbox_out *o = x->arg;
	uint64_t before = o->out.bytes;
	bool first = o->first, in_header = true;

	put_from_line(&o->out, r->internal_date);
	put_marks(x, r);
	int failed = mbox_quoter_message(&o->quoter, fd, put_octets, &o->out, &in_header, e);

	if (failed) {
		export_file_cut(&o->out, before);
		o->first = first;
		return -1;
	}
	export_file_put_rest(&o->out);
	if (o->out.last != '\n')
		export_file_put(&o->out, SLICE("\n"));
	/* The line that ends a header must be there, and the one before the next message. */
	export_file_put(&o->out, in_header ? SLICE("\n\n") : SLICE("\n"));
	return 0;
}

/* ---- an mbox ---- */

/* One level as a name for a file: modified UTF-7, never beginning with ".". */
static bool
level_name(struct slice level, const char *suffix, char name_r[NAME_BYTES_MAX + 1])
{
	struct buf b;
	bool ok;

	buf_init(&b, NAME_BYTES_MAX);
	ok = level.n > 0 && mutf7_encode(level, &b) && buf_put_str(&b, suffix) && slice_cstr(buf_slice(&b), name_r, NAME_BYTES_MAX + 1);
	if (ok && name_r[0] == '.')
		name_r[0] = '_';
	buf_fini(&b);
	return ok;
}

/* The directory of a mailbox's file, and the file's name into o->name. */
static int
open_directory(struct mbox_out *o, struct slice mailbox, struct err *e)
{
	int fd = openat(o->root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct slice rest = mailbox, level;

	if (o->file != NULL) {
		(void)snprintf(o->name, sizeof o->name, "%s", o->file);
		return fd;
	}
	while (fd >= 0 && slice_cut(&rest, '/', &level)) {
		bool last = rest.p == NULL;
		int next;

		if (!level_name(level, last ? SUFFIX : "", o->name)) {
			close(fd);
			return err_set(e, ERR_PERM, ERR_CODE_BAD_NAME, "no name", "its name is too long for a file's");
		}
		if (last)
			return fd;
		next = export_directory(fd, o->name, NULL, e);
		close(fd);
		fd = next;
	}
	return fd >= 0 ? fd : -1;
}

static int
begin(struct export *x, struct err *e)
{
	struct mbox_out *o = x->arg;

	o->fd = open_directory(o, x->mailbox.name, e);
	if (o->fd < 0)
		return -1;
	o->first = true;
	if (export_file_make(&o->out, o->fd, TEMPORARY, e) == 0)
		return 0;
	close(o->fd);
	return -1;
}

static int
end(struct export *x, struct err *e)
{
	struct mbox_out *o = x->arg;
	int failed = export_file_place(&o->out, o->fd, o->fd, o->name, true, -1, e);

	if (failed == 0 && fsync(o->fd) < 0)
		failed = err_sys(e, errno, "fsync");
	close(o->fd);
	return failed;
}

/* The directory that path's last part is in; its name is *file_r. */
static int
open_parent(const char *path, const char **file_r, struct err *e)
{
	char parent[4096];
	const char *slash = strrchr(path, '/');
	int n = slash != NULL ? snprintf(parent, sizeof parent, "%.*s/", (int)(slash - path), path)
			      : snprintf(parent, sizeof parent, ".");

	*file_r = slash != NULL ? slash + 1 : path;
	if (n < 0 || (size_t)n >= sizeof parent || **file_r == '\0' || strlen(*file_r) > NAME_BYTES_MAX)
		return err_set(e, ERR_PERM, ERR_CODE_BAD_NAME, "no name", "%s: not a file's name", path);
	int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd >= 0 ? fd : err_sys(e, errno, parent);
}

enum command_status
mbox_export(struct export *x, const char *path, const char *mailbox)
{
	static const struct export_writer writer = {.begin = begin, .message = message, .end = end};
	struct mbox_out o = {.fd = -1};
	enum command_status status;
	struct err e;

	o.root = mailbox != NULL ? open_parent(path, &o.file, &e) : export_directory(AT_FDCWD, path, NULL, &e);
	if (o.root < 0 || (mailbox == NULL && !export_directory_empty(o.root))) {
		command_error("%s", o.root < 0 ? e.detail : "the directory is not empty, and nothing is ever overwritten");
		if (o.root >= 0)
			close(o.root);
		return COMMAND_REFUSED;
	}
	x->arg = &o;
	status = mbox_quoter_open(&o.quoter);
	if (status == COMMAND_OK)
		status = export_run(x, &writer, mailbox);
	mbox_quoter_close(&o.quoter);
	close(o.root);
	return status;
}
