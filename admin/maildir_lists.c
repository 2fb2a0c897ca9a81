/*
 * To the child: one octet that says which list, with the file's descriptor. From it: packets that begin with ROWS and hold
 * rows (u32 number, slice text), and END.
 */
#include "admin/maildir_lists.h"

#include "admin/maildir.h"
#include "common/cursor.h"
#include "store/store.h"

#include <stdio.h>
#include <unistd.h>

#define ROWS 'W'
#define END 'E'
#define ROWS_MAX ((uint64_t)MAILDIR_MESSAGES_MAX * 4)

/* ---- the child ---- */

struct listing {
	int link;
	FILE *file;
	struct buf out;
	struct buf name;
	char line[MAILDIR_ROW_BYTES_MAX];
};

static void
give_rows(struct listing *l)
{
	if (l->out.n > 1)
		confined_give(l->link, buf_slice(&l->out));
	buf_reset(&l->out);
	put_u8(&l->out, ROWS);
}

static void
put_row(struct listing *l, uint32_t number, struct slice text)
{
	if (l->out.max - l->out.n < text.n + 8)
		give_rows(l);
	put_u32(&l->out, number);
	put_slice(&l->out, text);
}

/* The next line without its end; a line that is too long comes in pieces. */
static bool
next_line(struct listing *l, struct slice *line_r)
{
	if (fgets(l->line, sizeof l->line, l->file) == NULL)
		return false;
	*line_r = slice_sub(slice_str(l->line), 0, strcspn(l->line, "\r\n"));
	return true;
}

static void
list_uids(struct listing *l)
{
	struct maildir_uidlist_head head;
	struct slice line, base;
	uint32_t uid;

	if (!next_line(l, &line) || !maildir_uidlist_head_parse(line, &head))
		return;
	put_row(l, head.uidvalidity, SLICE(""));
	put_row(l, head.uidnext, SLICE(""));
	while (next_line(l, &line))
		if (maildir_uidlist_line_parse(line, head.version, &uid, &base))
			put_row(l, uid, base);
}

static void
list_keywords(struct listing *l)
{
	struct slice line, name;
	unsigned index;

	while (next_line(l, &line))
		if (maildir_keyword_line_parse(line, &index, &name))
			put_row(l, index, name);
}

/*
 * Version 1 has a name in each line, with the separator of the directories; version 2 begins with a line "V<TAB>2" and has
 * the levels of a name in each line, divided by TAB.
 */
static void
list_subscriptions(struct listing *l, uint8_t separator)
{
	struct slice line;
	bool first = true;

	for (; next_line(l, &line); first = false) {
		bool head = first && slice_eq(line, SLICE("V\t2"));

		separator = head ? '\t' : separator;
		buf_reset(&l->name);
		if (!head && maildir_folder_decode(line, separator, &l->name))
			put_row(l, 0, buf_slice(&l->name));
	}
}

static void
list(struct listing *l, uint8_t which)
{
	give_rows(l);
	if (which == MAILDIR_LIST_UIDS)
		list_uids(l);
	else if (which == MAILDIR_LIST_KEYWORDS)
		list_keywords(l);
	else
		list_subscriptions(l, which == MAILDIR_LIST_SUBSCRIPTIONS_DOTTED ? '.' : '/');
	give_rows(l);
	confined_give(l->link, SLICE("E"));
}

static void
work(int link, void *arg)
{
	static struct listing l;
	struct slice request;
	struct msg_fds fds;

	(void)arg;
	l.link = link;
	buf_init(&l.out, CONFINED_PACKET_BYTES_MAX);
	buf_init(&l.name, (size_t)STORE_NAME_BYTES_MAX * 2);
	while (confined_take(link, &request, &fds) && fds.n == 1 && (l.file = fdopen(fds.fd[0], "r")) != NULL) {
		list(&l, request.p[0]);
		(void)fclose(l.file);
	}
}

/* ---- the command ---- */

void
maildir_lists_close(struct maildir_lists *l)
{
	confined_end(&l->child);
}

/* One packet. 1; 0 at the end; -1 when it makes no sense. */
static int
take_packet(struct slice packet, uint64_t *rows, maildir_row_fn *fn, void *arg)
{
	struct cursor c = cursor_of(packet);
	uint8_t what = cursor_u8(&c);

	if (what == END)
		return 0;
	while (what == ROWS && cursor_left(&c) > 0) {
		uint32_t number = cursor_u32(&c);
		struct slice text = cursor_slice(&c, MAILDIR_ROW_BYTES_MAX);

		if (c.bad || ++*rows > ROWS_MAX)
			return -1;
		fn(arg, number, text);
	}
	return what == ROWS ? 1 : -1;
}

int
maildir_lists_read(struct maildir_lists *l, enum maildir_list which, int fd, maildir_row_fn *fn, void *arg, struct err *e)
{
	enum command_status status = COMMAND_OK;
	uint8_t octet = (uint8_t)which;
	struct slice packet;
	uint64_t rows = 0;
	int more = 1;

	if (l->child.pid == 0) {
		confined_end(&l->child);
		status = confined_begin(&l->child, work, NULL);
	}
	if (status == COMMAND_OK)
		status = confined_ask(&l->child, slice_of(&octet, 1), &fd, 1);
	while (status == COMMAND_OK && more == 1) {
		status = confined_answer(&l->child, &packet);
		if (status == COMMAND_OK)
			more = take_packet(packet, &rows, fn, arg);
	}
	if (status == COMMAND_OK && more == 0)
		return 0;
	if (more < 0)
		(void)confined_nonsense();
	confined_end(&l->child);
	return err_set(e, ERR_PERM, ERR_CODE_MALFORMED, "its lists cannot be read", "its lists cannot be read");
}
