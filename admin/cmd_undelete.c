/*
 * mailstead undelete, mailstead purge: what was expunged, and deleted
 * mailboxes, until their time is over. The keeper knows messages by number; which ones are
 * meant by their text is found out here, by a child that may read mail.
 */
#include "admin/directory_request.h"
#include "admin/retained_ask.h"

#include "common/charset.h"
#include "common/date.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

/* Ids as words of one command. */
#define ID_WORDS_MAX 1000
/* Messages forgotten by one request, so that others are not kept waiting. */
#define FORGET_MAX 1000u
/* Octets of From and Subject in a table for people. */
#define TABLE_FROM_BYTES 40u
#define TABLE_SUBJECT_BYTES 72u

/* ---- rows ---- */

static json_t *
time_json(int64_t seconds)
{
	char text[DATE_RFC3339_SIZE];

	date_rfc3339_print(seconds, text);
	return json_string(text);
}

struct rows {
	const struct command_call *call;
	json_t *messages;
	json_t *mailboxes;
	const struct retained_ids *only; /* NULL: all */
	uint32_t mailbox; /* only that deleted mailbox and what was in it when it was deleted; 0: all */
	bool inside; /* its row has come: its messages follow */
};

static json_t *
flags_json(const struct store_retained *r)
{
	static const char *const names[] = {"\\Seen", "\\Answered", "\\Flagged", "\\Deleted", "\\Draft"};
	json_t *list = json_array();
	struct slice keywords = r->keywords, name;

	for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++)
		if (r->flags & 1u << i)
			(void)json_array_append_new(list, json_string(names[i]));
	while (slice_cut(&keywords, '\n', &name))
		if (name.n > 0)
			(void)json_array_append_new(list, command_text(name));
	return list;
}

/* Text of a summary; for people it is cut. */
static json_t *
summary_text(const struct rows *rows, struct slice text, size_t most)
{
	return command_text(rows->call->json ? text : utf8_cut(text, most));
}

static bool
is_among(const struct retained_ids *ids, const struct store_retained *r)
{
	for (size_t i = 0; i < ids->n; i++)
		if (ids->list[i].mailbox == r->mailbox && ids->list[i].uid == r->uid)
			return true;
	return false;
}

static void
add_message(struct rows *rows, const struct store_retained *r, const struct retained_text *text)
{
	char id[32];

	(void)snprintf(id, sizeof id, "%" PRIu32 ".%" PRIu32, r->mailbox, r->uid);
	json_t *row = json_pack("{ss so sb so sI so so}", "id", id, "mailbox", command_text(r->name), "mailbox_deleted",
	    (int)r->gone, "expunged", time_json((int64_t)r->time), "bytes", (json_int_t)r->bytes, "internal_date",
	    time_json(r->internal_date), "flags", flags_json(r));

	if (row == NULL)
		return;
	if (text != NULL) {
		(void)json_object_set_new(row, "date", text->has_date ? time_json(text->date) : json_null());
		(void)json_object_set_new(row, "from", summary_text(rows, text->from, TABLE_FROM_BYTES));
		(void)json_object_set_new(row, "subject", summary_text(rows, text->subject, TABLE_SUBJECT_BYTES));
	}
	(void)json_array_append_new(rows->messages, row);
}

static void
add_mailbox(struct rows *rows, const struct store_retained *r)
{
	json_t *row = json_pack("{sI so so sI sI}", "number", (json_int_t)r->mailbox, "mailbox", command_text(r->name),
	    "deleted", time_json((int64_t)r->time), "messages", (json_int_t)r->messages, "bytes", (json_int_t)r->bytes);

	if (row != NULL)
		(void)json_array_append_new(rows->mailboxes, row);
}

static void
on_row(void *arg, const struct store_retained *r, const struct retained_text *text)
{
	struct rows *rows = arg;

	if (rows->only != NULL && !is_among(rows->only, r))
		return;
	rows->inside = rows->inside || r->uid == 0;
	if (rows->mailbox != 0 && (!rows->inside || r->mailbox != rows->mailbox))
		return;
	if (r->uid != 0)
		add_message(rows, r, text);
	else
		add_mailbox(rows, r);
}

static enum command_status
print_rows(struct rows *rows)
{
	static const struct command_column messages[] = {{"id", "ID"}, {"mailbox", "MAILBOX"}, {"expunged", "EXPUNGED"},
	    {"bytes", "OCTETS"}, {"internal_date", "DATE"}, {"from", "FROM"}, {"subject", "SUBJECT"}, {NULL, NULL}};
	static const struct command_column mailboxes[] = {{"mailbox", "DELETED MAILBOX"}, {"deleted", "DELETED"},
	    {"messages", "MESSAGES"}, {"bytes", "OCTETS"}, {NULL, NULL}};
	enum command_status status = COMMAND_OK;

	if (rows->call->json) {
		json_t *all = json_pack("{sO sO}", "messages", rows->messages, "mailboxes", rows->mailboxes);

		status = command_print_json(all);
		json_decref(all);
		return status;
	}
	if (json_array_size(rows->messages) > 0 || json_array_size(rows->mailboxes) == 0)
		status = command_print_list(rows->call, rows->messages, messages);
	if (status == COMMAND_OK && json_array_size(rows->mailboxes) > 0)
		status = command_print_list(rows->call, rows->mailboxes, mailboxes);
	return status;
}

/* Prints what is meant, and does nothing to it. only: of these alone, when not NULL; mailbox: as in struct rows. */
static enum command_status
show(struct retained_link *l, const struct retained_filter *f, const struct retained_ids *only, uint32_t mailbox)
{
	struct rows rows = {
	    .call = l->call, .messages = json_array(), .mailboxes = json_array(), .only = only, .mailbox = mailbox};
	enum command_status status = retained_each(l, f, true, on_row, &rows);

	if (status == COMMAND_OK)
		status = print_rows(&rows);
	json_decref(rows.messages);
	json_decref(rows.mailboxes);
	return status;
}

/* What was done, as "key: number" for people. */
static enum command_status
print_done(const struct command_call *call, const char *what, json_t *figures)
{
	enum command_status status = COMMAND_OK;
	const char *key;
	json_t *value;

	if (call->json) {
		status = command_print_json(figures);
	} else {
		printf("%s:", what);
		json_object_foreach(figures, key, value)
			printf(" %s %lld", key, (long long)json_integer_value(value));
		putchar('\n');
		status = command_output_end();
	}
	json_decref(figures);
	return status;
}

/* ---- undelete list ---- */

static enum command_status
undelete_list(const struct command_call *call)
{
	struct retained_filter f = {0};
	struct retained_link l;
	int argc = call->argc;
	enum command_status status = retained_filter_words(call, &argc, &f);

	if (status == COMMAND_OK)
		status = option_end(call, argc, call->argv, 1, 1);
	if (status != COMMAND_OK)
		return status;
	status = retained_open(call, call->argv[0], &l);
	if (status == COMMAND_OK)
		status = show(&l, &f, NULL, 0);
	retained_close(&l);
	return status;
}

/* ---- undelete message, undelete search ---- */

static enum command_status
ids_of_words(const struct command_call *call, int argc, struct retained_ids *ids)
{
	struct store_retained_id id;

	for (int i = 1; i < argc; i++) {
		if (!retained_id_parse(slice_str(call->argv[i]), &id))
			return command_usage(call, "%s: not an id as `mailstead undelete list` has them", call->argv[i]);
		retained_ids_add(ids, id.mailbox, id.uid);
	}
	return COMMAND_OK;
}

static enum command_status
bring_back(struct retained_link *l, const struct retained_ids *ids, size_t first, size_t n, uint64_t *count)
{
	static struct msg reply;
	const struct msg_UNDELETE_MESSAGES_REPLY *r = &reply.u.UNDELETE_MESSAGES_REPLY;
	int fd = retained_ids_file(ids, first, n);
	enum command_status status = fd < 0 ? COMMAND_TEMPORARY : COMMAND_OK;

	if (status == COMMAND_OK) {
		status = RETAINED_CHANGE(l, UNDELETE_MESSAGES, &reply, .ids = fd);
		(void)close(fd);
	}
	if (status == COMMAND_OK)
		status = command_outcome(r->class, r->text);
	if (status == COMMAND_OK)
		*count += r->count;
	return status;
}

static enum command_status
bring_all_back(struct retained_link *l, const struct retained_ids *ids)
{
	enum command_status status = COMMAND_OK;
	uint64_t count = 0;

	for (size_t at = 0; status == COMMAND_OK && at < ids->n; at += STORE_RETAINED_IDS_MAX) {
		size_t n = ids->n - at < STORE_RETAINED_IDS_MAX ? ids->n - at : STORE_RETAINED_IDS_MAX;

		status = bring_back(l, ids, at, n, &count);
	}
	if (status == COMMAND_OK || count > 0) {
		enum command_status printed =
		    print_done(l->call, "undeleted", json_pack("{sI}", "messages", (json_int_t)count));

		status = status == COMMAND_OK ? printed : status;
	}
	if (status == COMMAND_OK && count < ids->n) {
		command_error("%llu of %llu were not there (any more)", (unsigned long long)(ids->n - count),
		    (unsigned long long)ids->n);
		status = COMMAND_REFUSED;
	}
	return status;
}

static enum command_status
undelete_message(const struct command_call *call)
{
	struct retained_filter all = {.before = UINT64_MAX};
	struct retained_ids ids = {0};
	struct retained_link l;
	int argc = call->argc;
	bool dry = option_flag(&argc, call->argv, "--dry-run");
	enum command_status status = option_end(call, argc, call->argv, 2, ID_WORDS_MAX + 1);

	if (status == COMMAND_OK)
		status = ids_of_words(call, argc, &ids);
	if (status == COMMAND_OK) {
		status = retained_open(call, call->argv[0], &l);
		if (status == COMMAND_OK)
			status = dry ? show(&l, &all, &ids, 0) : bring_all_back(&l, &ids);
		retained_close(&l);
	}
	retained_ids_fini(&ids);
	return status;
}

static void
on_found(void *arg, const struct store_retained *r, const struct retained_text *text)
{
	(void)text;
	if (r->uid != 0)
		retained_ids_add(arg, r->mailbox, r->uid);
}

static enum command_status
find_and_bring_back(struct retained_link *l, const struct retained_filter *f)
{
	struct retained_ids ids = {0};
	enum command_status status = retained_each(l, f, false, on_found, &ids);

	if (status == COMMAND_OK && ids.n == 0) {
		command_error("nothing was found");
		status = COMMAND_REFUSED;
	}
	if (status == COMMAND_OK)
		status = bring_all_back(l, &ids);
	retained_ids_fini(&ids);
	return status;
}

static enum command_status
undelete_search(const struct command_call *call)
{
	struct retained_filter f = {0};
	struct retained_link l;
	int argc = call->argc;
	bool dry = option_flag(&argc, call->argv, "--dry-run");
	enum command_status status = retained_filter_words(call, &argc, &f);

	if (status == COMMAND_OK)
		status = option_end(call, argc, call->argv, 1, 1);
	if (status == COMMAND_OK && retained_filter_is_all(&f))
		status = command_usage(call, "say which ones");
	if (status != COMMAND_OK)
		return status;
	status = retained_open(call, call->argv[0], &l);
	if (status == COMMAND_OK)
		status = dry ? show(&l, &f, NULL, 0) : find_and_bring_back(&l, &f);
	retained_close(&l);
	return status;
}

/* ---- undelete mailbox ---- */

struct newest {
	uint32_t number;
	uint64_t time;
	unsigned count;
};

static void
on_deleted(void *arg, const struct store_retained *r, const struct retained_text *text)
{
	struct newest *n = arg;

	(void)text;
	if (r->uid != 0)
		return;
	n->count++;
	if (r->time >= n->time)
		*n = (struct newest){r->mailbox, r->time, n->count};
}

static enum command_status
restore(struct retained_link *l, const struct newest *newest, const char *name, bool dry)
{
	static struct msg reply;
	const struct msg_UNDELETE_MAILBOX_REPLY *r = &reply.u.UNDELETE_MAILBOX_REPLY;
	struct retained_filter f = {.mailbox = l->call->argv[1], .since = newest->time, .before = newest->time + 1};
	enum command_status status;

	if (dry)
		return show(l, &f, NULL, newest->number);
	status = RETAINED_CHANGE(l, UNDELETE_MAILBOX, &reply, .mailbox = newest->number, .name = slice_str(name));
	if (status != COMMAND_OK)
		return status;
	if (r->code == ERR_CODE_EXISTS) {
		command_error("a mailbox of that name exists: give another one with --as, or bring back the messages alone with "
			      "`mailstead undelete search --mailbox`");
		return COMMAND_REFUSED;
	}
	status = command_outcome(r->class, r->text);
	if (status == COMMAND_OK)
		status = print_done(l->call, "undeleted",
		    json_pack("{sI sI}", "messages", (json_int_t)r->messages, "uidvalidity", (json_int_t)r->uidvalidity));
	return status;
}

static enum command_status
undelete_mailbox(const struct command_call *call)
{
	struct retained_filter f = {.before = UINT64_MAX};
	struct newest newest = {0};
	struct retained_link l;
	const char *as, *before;
	int argc = call->argc;
	bool dry = option_flag(&argc, call->argv, "--dry-run");
	enum command_status status;

	if (!option_value(&argc, call->argv, "--as", &as) || !option_value(&argc, call->argv, "--before", &before) ||
	    (before != NULL && !command_when(before, &f.before)))
		return command_usage(call, "--as takes a name, --before a time");
	status = option_end(call, argc, call->argv, 2, 2);
	if (status != COMMAND_OK)
		return status;
	f.mailbox = call->argv[1];
	status = retained_open(call, call->argv[0], &l);
	if (status == COMMAND_OK)
		status = retained_each(&l, &f, false, on_deleted, &newest);
	if (status == COMMAND_OK && newest.count == 0) {
		command_error("no deleted mailbox of that name");
		status = COMMAND_REFUSED;
	}
	if (status == COMMAND_OK)
		status = restore(&l, &newest, as != NULL ? as : "", dry);
	retained_close(&l);
	return status;
}

/* ---- purge ---- */

struct purge {
	struct retained_link l;
	struct retained_ids named; /* by the words; none: all that are meant */
	struct retained_ids messages;
	struct retained_ids mailboxes; /* uid 0 */
	uint64_t count;
	uint64_t bytes;
};

static void
on_purge(void *arg, const struct store_retained *r, const struct retained_text *text)
{
	struct purge *p = arg;

	(void)text;
	if (p->named.n > 0 && !is_among(&p->named, r))
		return;
	retained_ids_add(r->uid != 0 ? &p->messages : &p->mailboxes, r->mailbox, r->uid);
}

/* One request; *more_r: something is left to do. fd: of ids, or -1. */
static enum command_status
forget(struct purge *p, int fd, uint32_t mailbox, bool *more_r)
{
	static struct msg reply;
	const struct msg_RETAINED_FORGET_REPLY *r = &reply.u.RETAINED_FORGET_REPLY;
	enum command_status status = RETAINED_CHANGE(&p->l, RETAINED_FORGET, &reply, .mailbox = mailbox, .ids = fd);

	if (status == COMMAND_OK)
		status = command_outcome(r->class, r->text);
	if (status != COMMAND_OK)
		return status;
	p->count += r->count;
	p->bytes += r->bytes;
	*more_r = r->more;
	return COMMAND_OK;
}

static enum command_status
forget_messages(struct purge *p, const struct retained_ids *ids)
{
	enum command_status status = COMMAND_OK;
	bool more;

	for (size_t at = 0; status == COMMAND_OK && at < ids->n; at += FORGET_MAX) {
		size_t n = ids->n - at < FORGET_MAX ? ids->n - at : FORGET_MAX;
		int fd = retained_ids_file(ids, at, n);

		if (fd < 0)
			return COMMAND_TEMPORARY;
		status = forget(p, fd, 0, &more);
		(void)close(fd);
		progress_step(&p->l.progress, "purged", at + n, ids->n);
	}
	progress_end(&p->l.progress);
	return status;
}

static enum command_status
purge_all(struct purge *p, const struct retained_ids *messages)
{
	enum command_status status = forget_messages(p, messages);
	bool more = true;

	for (size_t i = 0; status == COMMAND_OK && i < p->mailboxes.n; i++)
		for (more = true; status == COMMAND_OK && more;)
			status = forget(p, -1, p->mailboxes.list[i].mailbox, &more);
	/* Until the files are off the disk. */
	for (more = true; status == COMMAND_OK && more;)
		status = forget(p, -1, 0, &more);
	if (status != COMMAND_OK && p->count == 0)
		return status;
	enum command_status printed = print_done(
	    p->l.call, "purged", json_pack("{sI sI}", "messages", (json_int_t)p->count, "bytes", (json_int_t)p->bytes));

	return status == COMMAND_OK ? printed : status;
}

/* What the filter lets through; with ids among the words only those of it. */
static enum command_status
purge_meant(struct purge *p, const struct retained_filter *f, bool dry)
{
	enum command_status status;

	if (dry)
		return show(&p->l, f, p->named.n > 0 ? &p->named : NULL, 0);
	if (p->named.n > 0 && retained_filter_is_all(f))
		return purge_all(p, &p->named);
	status = retained_each(&p->l, f, false, on_purge, p);
	return status == COMMAND_OK ? purge_all(p, &p->messages) : status;
}

static enum command_status
purge(const struct command_call *call)
{
	struct retained_filter f = {0};
	struct purge p = {.count = 0};
	int argc = call->argc;
	bool dry = option_flag(&argc, call->argv, "--dry-run"), yes = option_flag(&argc, call->argv, "--yes");
	enum command_status status = retained_filter_words(call, &argc, &f);

	if (status == COMMAND_OK)
		status = option_end(call, argc, call->argv, 1, ID_WORDS_MAX + 1);
	if (status == COMMAND_OK && !dry && !yes)
		status = command_usage(call, "what is purged never comes back: say --yes, or --dry-run to see what it is");
	if (status == COMMAND_OK)
		status = ids_of_words(call, argc, &p.named);
	if (status == COMMAND_OK) {
		status = retained_open(call, call->argv[0], &p.l);
		if (status == COMMAND_OK)
			status = purge_meant(&p, &f, dry);
		retained_close(&p.l);
	}
	retained_ids_fini(&p.named);
	retained_ids_fini(&p.messages);
	retained_ids_fini(&p.mailboxes);
	return status;
}

const struct command commands_undelete[] = {
    {
	.name = "undelete list",
	.args = "ADDRESS " RETAINED_FILTER_ARGS,
	.help = "what was expunged or deleted and can come back",
	.more = "Expunged messages, then deleted mailboxes with the messages in them, until store.retention is over.\n"
		RETAINED_FILTER_HELP,
	.args_min = 1,
	.args_max = 1 + RETAINED_FILTER_WORDS_MAX,
	.needs_config = true,
	.run = undelete_list,
    },
    {
	.name = "undelete message",
	.args = "ADDRESS ID... [--dry-run]",
	.help = "bring expunged messages back to their mailboxes",
	.more = "An ID is the first column of `mailstead undelete list`. A message comes back as a new one of the mailbox that\n"
		"it was in, or, when that was deleted, of one of its name, which is made when there is none.\n",
	.args_min = 2,
	.args_max = 2 + ID_WORDS_MAX,
	.needs_config = true,
	.run = undelete_message,
    },
    {
	.name = "undelete search",
	.args = "ADDRESS " RETAINED_FILTER_ARGS " [--dry-run]",
	.help = "bring back the messages that are found",
	.more = RETAINED_FILTER_HELP,
	.args_min = 1,
	.args_max = 2 + RETAINED_FILTER_WORDS_MAX,
	.needs_config = true,
	.run = undelete_search,
    },
    {
	.name = "undelete mailbox",
	.args = "ADDRESS NAME [--as NEWNAME] [--before WHEN] [--dry-run]",
	.help = "bring back a deleted mailbox with its messages",
	.more = "Of several of that name the one that was deleted last, or last before WHEN.\n" COMMAND_WHEN_HELP,
	.args_min = 2,
	.args_max = 7,
	.needs_config = true,
	.run = undelete_mailbox,
    },
    {
	.name = "purge",
	.args = "ADDRESS [ID...] " RETAINED_FILTER_ARGS " --yes | --dry-run",
	.help = "remove what was expunged or deleted for good, now",
	.more = "Without anything said all of it; with IDs only those, and of them only what the rest means too. What is in mailboxes\n"
		"is not touched.\n"
		RETAINED_FILTER_HELP,
	.args_min = 1,
	.args_max = 3 + RETAINED_FILTER_WORDS_MAX + ID_WORDS_MAX,
	.needs_config = true,
	.run = purge,
    },
    {.name = NULL},
};
