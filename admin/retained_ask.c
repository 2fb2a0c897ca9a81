#include "admin/retained_ask.h"

#include "admin/account_mailbox.h"
#include "admin/directory_request.h"
#include "common/loop.h"
#include "common/mem.h"
#include "common/memfd.h"
#include "common/text.h"

#include <errno.h>
#include <sys/random.h>
#include <unistd.h>

#define TRIES_MAX 6
#define TRY_AGAIN_MS 500

/* ---- which ones ---- */

static bool
take_when(const struct command_call *call, int *argc, const char *word, uint64_t otherwise, uint64_t *time_r)
{
	const char *text;

	*time_r = otherwise;
	return option_value(argc, call->argv, word, &text) && (text == NULL || command_when(text, time_r));
}

static void
needle_init(struct buf *b, const char *text)
{
	size_t n = text != NULL ? strlen(text) : 0;

	buf_init(b, n * TEXT_FOLD_GROWTH_MAX + 1);
	(void)text_fold(slice_of(text, n), b);
}

/* A text that is in everything, an unset variable of a script for one, would mean all. */
static bool
says_something(const char *text)
{
	struct buf b;

	needle_init(&b, text);
	bool says = b.n > 0;

	buf_fini(&b);
	return says;
}

enum command_status
retained_filter_words(const struct command_call *call, int *argc, struct retained_filter *f)
{
	const struct {
		const char *word;
		const char **value;
	} texts[] = {{"--mailbox", &f->mailbox}, {"--from", &f->from}, {"--subject", &f->subject},
	    {"--search", &f->summary}, {"--text", &f->text}};

	if (!take_when(call, argc, "--since", 0, &f->since) || !take_when(call, argc, "--before", UINT64_MAX, &f->before))
		return command_usage(call, "--since and --before take a time");
	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
		if (!option_value(argc, call->argv, texts[i].word, texts[i].value))
			return command_usage(call, "%s takes a text", texts[i].word);
	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
		if (*texts[i].value != NULL && !says_something(*texts[i].value))
			return command_usage(call, "%s: the text behind it is empty", texts[i].word);
	if (f->mailbox != NULL && slice_eq(account_mailbox_name(slice_str(f->mailbox)), SLICE("INBOX")))
		f->mailbox = "INBOX";
	if (f->mailbox != NULL && strlen(f->mailbox) > STORE_NAME_BYTES_MAX)
		return command_usage(call, "--mailbox: too long");
	return COMMAND_OK;
}

/* Anything but mailbox and times is said: only messages can be meant. */
static bool
has_text(const struct retained_filter *f)
{
	return f->from != NULL || f->subject != NULL || f->summary != NULL || f->text != NULL;
}

bool
retained_filter_is_all(const struct retained_filter *f)
{
	return f->mailbox == NULL && f->since == 0 && f->before == UINT64_MAX && !has_text(f);
}

static void
needles_init(struct retained_needles *n, const struct retained_filter *f)
{
	needle_init(&n->from, f->from);
	needle_init(&n->subject, f->subject);
	needle_init(&n->summary, f->summary);
	needle_init(&n->text, f->text);
}

static void
needles_fini(struct retained_needles *n)
{
	buf_fini(&n->from);
	buf_fini(&n->subject);
	buf_fini(&n->summary);
	buf_fini(&n->text);
}

/* ---- the keeper ---- */

enum command_status
retained_open(const struct command_call *call, const char *address, struct retained_link *l)
{
	*l = (struct retained_link){.call = call, .address = address};
	progress_begin(&l->progress, call);
	if (getrandom(l->origin, sizeof l->origin, 0) != (ssize_t)sizeof l->origin) {
		command_error("no random numbers: %s", strerror(errno));
		return COMMAND_TEMPORARY;
	}
	return account_keeper(call, address, NULL, &l->keeper);
}

void
retained_close(struct retained_link *l)
{
	command_disconnect(&l->keeper);
}

enum command_status
retained_ask(struct retained_link *l, const struct msg *m, enum msg_type type, struct msg *reply_r)
{
	const struct timespec pause = {.tv_nsec = TRY_AGAIN_MS * 1000000L};
	enum command_status status = COMMAND_UNREACHABLE;

	for (unsigned i = 0; i < TRIES_MAX; i++) {
		if (i > 0 && nanosleep(&pause, NULL) < 0)
			break;
		if (l->keeper == NULL) {
			status = account_keeper(l->call, l->address, NULL, &l->keeper);
			if (status != COMMAND_OK)
				continue;
		}
		status = command_send(l->keeper, m);
		if (status == COMMAND_OK)
			status = command_receive_fds(l->keeper, type, reply_r);
		if (status != COMMAND_UNREACHABLE)
			break;
		command_disconnect(&l->keeper);
	}
	return status;
}

/* ---- the list ---- */

struct each {
	struct retained_needles needles;
	bool reads; /* what the messages say matters: reader is there */
	struct retained_reader reader;
	retained_fn *fn;
	void *arg;
	struct progress *progress;
	uint64_t done; /* messages that came, of how many there are */
	uint64_t total;
};

static enum command_status
one(struct each *each, const struct store_retained *r)
{
	struct retained_text text = {.known = false};
	enum command_status status = COMMAND_OK;
	bool meant = true;

	progress_step(each->progress, "looked through", each->done += r->uid != 0, each->total);
	if (each->reads && r->uid != 0)
		status = retained_reader_next(&each->reader, &meant, &text);
	else if (r->uid == 0)
		/* A mailbox says nothing. */
		meant = each->needles.from.n + each->needles.subject.n + each->needles.summary.n + each->needles.text.n == 0;
	if (status == COMMAND_OK && meant)
		each->fn(each->arg, r, text.known ? &text : NULL);
	else if (status != COMMAND_OK)
		command_error("it was reading message %u.%u", r->mailbox, r->uid);
	return status;
}

static enum command_status
each_of(struct each *each, const struct msg_RETAINED_LIST_REPLY *r)
{
	enum command_status status = COMMAND_OK;
	struct store_retained retained;
	struct memfd_map map;
	struct err e;

	if (each->reads)
		status = retained_reader_batch(&each->reader, r->records, r->bytes, r->objects.fd, r->objects.n);
	if (status != COMMAND_OK)
		return status;
	if (memfd_map(r->records, r->bytes, STORE_RECORDS_BYTES_MAX, &map, &e) < 0)
		return command_outcome(e.class, slice_str(e.detail));
	struct cursor c = cursor_of(map.octets);

	while (status == COMMAND_OK && store_retained_next(&c, &retained))
		status = one(each, &retained);
	memfd_unmap(&map);
	return status;
}

static enum command_status
each_batch(struct retained_link *l, struct msg *request, struct each *each, uint8_t *place, bool *more_r)
{
	static struct msg reply;
	struct msg_RETAINED_LIST_REPLY *r = &reply.u.RETAINED_LIST_REPLY;
	enum command_status status;

	request->u.RETAINED_LIST.id = command_id();
	status = retained_ask(l, request, MSG_RETAINED_LIST_REPLY, &reply);
	if (status != COMMAND_OK)
		return status;
	status = command_outcome(r->class, SLICE("the list cannot be read; the log says why"));
	each->total = r->retained_messages;
	if (status == COMMAND_OK)
		status = each_of(each, r);
	*more_r = r->more;
	if (r->place.n == STORE_RETAINED_PLACE_BYTES)
		memcpy(place, r->place.p, STORE_RETAINED_PLACE_BYTES);
	else
		*more_r = false;
	if (r->records >= 0)
		(void)close(r->records);
	for (unsigned i = 0; i < r->objects.n; i++)
		(void)close(r->objects.fd[i]);
	return status;
}

enum command_status
retained_each(struct retained_link *l, const struct retained_filter *f, bool summaries, retained_fn *fn, void *arg)
{
	uint8_t place[STORE_RETAINED_PLACE_BYTES] = {0};
	struct each each = {.fn = fn, .arg = arg, .progress = &l->progress};
	enum command_status status = COMMAND_OK;
	bool more = true, texts = has_text(f);
	struct msg m = {.type = MSG_RETAINED_LIST,
	    .u.RETAINED_LIST = {.mailbox = slice_str(f->mailbox != NULL ? f->mailbox : ""), .since = f->since,
		.before = f->before, .place = slice_of(place, sizeof place)}};

	m.u.RETAINED_LIST.want = (uint8_t)((summaries || texts ? STORE_WANT_SUMMARY : 0u) |
	    (f->text != NULL ? (unsigned)STORE_WANT_OBJECT : 0u));
	needles_init(&each.needles, f);
	each.reads = m.u.RETAINED_LIST.want != 0;
	if (each.reads)
		status = retained_reader_open(&each.reader, &each.needles);
	while (status == COMMAND_OK && more)
		status = each_batch(l, &m, &each, place, &more);
	progress_end(&l->progress);
	retained_reader_close(&each.reader);
	needles_fini(&each.needles);
	return status;
}

/* ---- sets of messages ---- */

void
retained_ids_add(struct retained_ids *ids, uint32_t mailbox, uint32_t uid)
{
	if (ids->n == ids->cap) {
		ids->cap = ids->cap ? ids->cap * 2 : 64;
		ids->list = mem_resize(ids->list, ids->cap, sizeof *ids->list);
	}
	ids->list[ids->n++] = (struct store_retained_id){mailbox, uid};
}

void
retained_ids_fini(struct retained_ids *ids)
{
	free(ids->list);
	*ids = (struct retained_ids){0};
}

bool
retained_id_parse(struct slice text, struct store_retained_id *id_r)
{
	struct slice mailbox;
	uint64_t a, b;

	if (!slice_cut(&text, '.', &mailbox) || !slice_u64(mailbox, UINT32_MAX, &a) || !slice_u64(text, UINT32_MAX, &b) ||
	    a == 0 || b == 0)
		return false;
	*id_r = (struct store_retained_id){(uint32_t)a, (uint32_t)b};
	return true;
}

int
retained_ids_file(const struct retained_ids *ids, size_t first, size_t n)
{
	struct buf b;
	struct err e;
	int fd;

	buf_init(&b, n * STORE_RETAINED_ID_BYTES + 1);
	for (size_t i = first; i < first + n; i++) {
		put_u32(&b, ids->list[i].mailbox);
		put_u32(&b, ids->list[i].uid);
	}
	fd = memfd_of(buf_slice(&b), &e);
	buf_fini(&b);
	if (fd < 0)
		command_error("%s", e.detail);
	return fd;
}
