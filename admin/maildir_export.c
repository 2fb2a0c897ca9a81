/*
 * Messages get LF for CR LF, as files on a Unix have it. A file gets its name in cur/ when it is whole; all of a folder is
 * on the disk (syncfs(2): one for all messages) before dovecot-uidlist names them.
 */
#include "admin/maildir_export.h"

#include "admin/maildir_parse.h"
#include "common/mem.h"
#include "store/entry.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/random.h>
#include <unistd.h>

/* Octets of a line of dovecot-uidlist for one message, at most. */
#define UIDLIST_BYTES_MAX (256u << 20)
#define TEMPORARY_SIZE 64
#define BASE_SIZE 160
#define INFO_SIZE 64
#define FORWARDED SLICE("$Forwarded")

struct maildir_out {
	int root;
	bool single; /* root is the one mailbox */
	/* The present folder. */
	int fd, tmp, cur;
	struct buf uidlist;
	int letter[STORE_KEYWORDS_MAX]; /* of each bit, -1: none yet */
	unsigned letters;
	struct buf keywords; /* dovecot-keywords */
};

/* ---- a folder ---- */

/* ".Lists.dev"; a "." that is part of a level becomes "_". */
static bool
folder_name(struct slice mailbox, struct buf *out)
{
	char name[STORE_NAME_BYTES_MAX];

	for (size_t i = 0; i < mailbox.n && i < sizeof name; i++)
		name[i] = mailbox.p[i] == '.' ? '_' : (char)mailbox.p[i];
	return mailbox.n <= sizeof name && maildir_folder_encode(slice_of(name, mailbox.n), out) && buf_put_u8(out, '\0');
}

static int
open_folder(struct maildir_out *o, struct slice mailbox, struct err *e)
{
	struct buf name;
	bool made;
	int fd;

	if (o->single || slice_eq(mailbox, SLICE("INBOX")))
		return openat(o->root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	buf_init(&name, STORE_NAME_BYTES_MAX * 2);
	if (!folder_name(mailbox, &name))
		fd = err_set(e, ERR_PERM, ERR_CODE_BAD_NAME, "no name", "its name is too long for a directory's");
	else
		fd = export_directory(o->root, (const char *)name.p, &made, e);
	if (fd >= 0 && !made) {
		close(fd);
		fd = err_set(e, ERR_PERM, ERR_CODE_EXISTS, "there already", "%s: another mailbox has that directory", name.p);
	}
	buf_fini(&name);
	return fd;
}

/* A small file in the folder, on the disk before it has its name. */
static int
place_file(struct maildir_out *o, const char *name, struct slice octets, struct err *e)
{
	struct export_file f;

	if (export_file_make(&f, o->tmp, name, e) < 0)
		return -1;
	export_file_put(&f, octets);
	return export_file_place(&f, o->tmp, o->fd, name, true, -1, e);
}

static void
close_folder(struct maildir_out *o)
{
	int *fds[] = {&o->fd, &o->tmp, &o->cur};

	for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
		*fds[i] = -1;
	}
	buf_fini(&o->uidlist);
	buf_fini(&o->keywords);
}

static int
begin(struct export *x, struct err *e)
{
	struct maildir_out *o = x->arg;
	int fd_new;

	o->fd = open_folder(o, x->mailbox.name, e);
	if (o->fd < 0)
		return -1;
	buf_init(&o->uidlist, UIDLIST_BYTES_MAX);
	buf_init(&o->keywords, (STORE_KEYWORD_BYTES_MAX + 4) * MAILDIR_KEYWORDS_MAX);
	for (size_t i = 0; i < STORE_KEYWORDS_MAX; i++)
		o->letter[i] = -1;
	o->letters = 0;
	o->tmp = export_directory(o->fd, "tmp", NULL, e);
	o->cur = o->tmp >= 0 ? export_directory(o->fd, "cur", NULL, e) : -1;
	fd_new = o->cur >= 0 ? export_directory(o->fd, "new", NULL, e) : -1;
	if (fd_new >= 0)
		close(fd_new);
	bool inbox = o->single || slice_eq(x->mailbox.name, SLICE("INBOX"));

	if (fd_new >= 0 && (inbox || place_file(o, "maildirfolder", SLICE(""), e) == 0))
		return 0;
	close_folder(o);
	return -1;
}

/* ---- a message ---- */

/* The letter of a keyword's bit, 0 when there is none: the first 26 that occur get one. */
static char
letter_of(struct export *x, unsigned bit)
{
	struct maildir_out *o = x->arg;
	struct slice name = store_keyword_name(x->mailbox.keywords, bit);

	if (o->letter[bit] < 0 && o->letters < MAILDIR_KEYWORDS_MAX && maildir_keyword_ok(name)) {
		o->letter[bit] = (int)o->letters;
		buf_putf(&o->keywords, "%u %.*s\n", o->letters++, SLICE_ARG(name));
	}
	if (o->letter[bit] >= 0)
		return (char)('a' + o->letter[bit]);
	return slice_eq_nocase(name, FORWARDED) ? 'P' : 0;
}

/* The letters of the info, in ASCII order as the format wants them. */
static void
put_info(struct export *x, const struct store_record *r, char info[INFO_SIZE])
{
	static const struct {
		char letter;
		uint32_t flag;
	} rows[] = {{'D', STORE_FLAG_DRAFT}, {'F', STORE_FLAG_FLAGGED}, {'P', 0}, {'R', STORE_FLAG_ANSWERED}, {'S', STORE_FLAG_SEEN},
	    {'T', STORE_FLAG_DELETED}};
	bool has[128] = {false};
	size_t n = 0;

	for (unsigned bit = 0; bit < STORE_KEYWORDS_MAX; bit++) {
		char c = r->keywords >> bit & 1 ? letter_of(x, bit) : 0;

		x->counts.keywords_lost += (r->keywords >> bit & 1) && c == 0;
		has[(unsigned char)c] = true;
	}
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		if ((r->flags & rows[i].flag) || has[(unsigned char)rows[i].letter])
			info[n++] = rows[i].letter;
	for (char c = 'a'; c <= 'z'; c++)
		if (has[(unsigned char)c])
			info[n++] = c;
	info[n] = '\0';
}

static void
put_octets(void *arg, struct slice octets)
{
	export_file_put_lf(arg, octets);
}

static int
message(struct export *x, const struct store_record *r, int fd, struct err *e)
{
	struct maildir_out *o = x->arg;
	int64_t date = r->internal_date > 0 ? r->internal_date : 0;
	char temporary[TEMPORARY_SIZE], base[BASE_SIZE], name[BASE_SIZE + INFO_SIZE + 4], info[INFO_SIZE];
	struct export_file f;

	(void)snprintf(temporary, sizeof temporary, "%lld.M%u.mailstead", (long long)date, r->uid);
	if (export_file_make(&f, o->tmp, temporary, e) < 0)
		return -1;
	if (export_octets(fd, put_octets, &f, e) < 0) {
		export_file_drop(&f, o->tmp);
		return -1;
	}
	export_file_put_rest(&f);
	(void)snprintf(base, sizeof base, "%s,S=%llu,W=%llu", temporary, (unsigned long long)f.bytes,
	    (unsigned long long)(f.bytes + f.bare_lf));
	put_info(x, r, info);
	(void)snprintf(name, sizeof name, "%s:2,%s", base, info);
	if (export_file_place(&f, o->tmp, o->cur, name, false, date, e) < 0)
		return -1;
	buf_putf(&o->uidlist, "%u :%s\n", r->uid, base);
	return 0;
}

/* ---- the lists ---- */

static int
place_uidlist(struct export *x, struct err *e)
{
	struct maildir_out *o = x->arg;
	uint8_t guid[16];
	struct export_file f;

	if (getrandom(guid, sizeof guid, 0) != (ssize_t)sizeof guid)
		return err_sys(e, errno, "getrandom");
	if (o->uidlist.failed)
		return err_set(e, ERR_LIMIT, ERR_CODE_TOO_BIG, "too big", "dovecot-uidlist would be too long");
	if (export_file_make(&f, o->tmp, "dovecot-uidlist", e) < 0)
		return -1;
	struct buf head;

	buf_init(&head, 128);
	buf_putf(&head, "3 V%u N%u G", x->mailbox.uidvalidity, x->mailbox.uidnext);
	buf_put_hex(&head, slice_of(guid, sizeof guid));
	buf_put_u8(&head, '\n');
	export_file_put(&f, buf_slice(&head));
	buf_fini(&head);
	export_file_put(&f, buf_slice(&o->uidlist));
	return export_file_place(&f, o->tmp, o->fd, "dovecot-uidlist", true, -1, e);
}

static int
end(struct export *x, struct err *e)
{
	struct maildir_out *o = x->arg;
	int failed = syncfs(o->cur) < 0 ? err_sys(e, errno, "syncfs") : 0;

	if (failed == 0 && o->keywords.n > 0)
		failed = place_file(o, "dovecot-keywords", buf_slice(&o->keywords), e);
	if (failed == 0)
		failed = place_uidlist(x, e);
	if (failed == 0 && fsync(o->fd) < 0)
		failed = err_sys(e, errno, "fsync");
	close_folder(o);
	return failed;
}

/* Version 2: the levels of a name divided by TAB, in modified UTF-7 as the directories'. */
static int
place_subscriptions(struct export *x, struct err *e)
{
	struct maildir_out *o = x->arg;
	struct buf names, out, encoded;
	struct slice rest, name;
	int failed;

	buf_init(&names, STORE_LIST_BYTES_MAX);
	buf_init(&out, STORE_LIST_BYTES_MAX);
	buf_init(&encoded, STORE_NAME_BYTES_MAX * 2);
	failed = export_subscriptions(x, &names) == COMMAND_OK ? 0 : err_set(e, ERR_TEMP, ERR_CODE_NONE, "no answer", "no answer");
	buf_put_str(&out, "V\t2\n\n");
	for (rest = buf_slice(&names); rest.n > 0 && slice_cut(&rest, '\n', &name);) {
		buf_reset(&encoded);
		if (!folder_name(name, &encoded))
			continue;
		for (size_t i = 1; i + 1 < encoded.n; i++)
			buf_put_u8(&out, encoded.p[i] == '.' ? '\t' : encoded.p[i]);
		buf_put_u8(&out, '\n');
	}
	o->fd = openat(o->root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	o->tmp = failed == 0 ? export_directory(o->root, "tmp", NULL, e) : -1;
	if (o->fd < 0 || o->tmp < 0 || place_file(o, "subscriptions", buf_slice(&out), e) < 0)
		failed = -1;
	if (failed == 0 && fsync(o->fd) < 0)
		failed = err_sys(e, errno, "fsync");
	close_folder(o);
	buf_fini(&names);
	buf_fini(&out);
	buf_fini(&encoded);
	return failed;
}

enum command_status
maildir_export(struct export *x, const char *path, const char *mailbox)
{
	static const struct export_writer writer = {.begin = begin, .message = message, .end = end};
	struct maildir_out o = {.fd = -1, .tmp = -1, .cur = -1, .single = mailbox != NULL};
	enum command_status status;
	struct err e;

	o.root = export_directory(AT_FDCWD, path, NULL, &e);
	if (o.root < 0 || !export_directory_empty(o.root)) {
		command_error("%s", o.root < 0 ? e.detail : "the directory is not empty, and nothing is ever overwritten");
		if (o.root >= 0)
			close(o.root);
		return COMMAND_REFUSED;
	}
	x->arg = &o;
	status = export_run(x, &writer, mailbox);
	if (status == COMMAND_OK && mailbox == NULL && place_subscriptions(x, &e) < 0)
		export_failed(x, SLICE("subscriptions"), e.detail);
	close(o.root);
	return status;
}
