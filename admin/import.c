#include "admin/import.h"

#include "common/ipc.h"
#include "common/mem.h"
#include "store/entry.h"
#include "store/record.h"

#include <assert.h>
#include <stdio.h>
#include <sys/random.h>
#include <unistd.h>

_Static_assert(IMPORT_FLIGHT_MAX <= 2 * IPC_MESSAGES_PER_WAKE, "see import.h: two answers come before the comparison");
#define KEYWORDS_BYTES_MAX 8192u

enum command_status
import_open(struct import *im, struct command_link *keeper, struct progress *p)
{
	*im = (struct import){.keeper = keeper, .progress = p};
	import_spool_init(&im->spool);
	buf_init(&im->table, STORE_LIST_BYTES_MAX);
	buf_init(&im->keywords, (STORE_KEYWORD_BYTES_MAX + 1) * STORE_KEYWORDS_MAX);
	if (getrandom(im->origin, sizeof im->origin, 0) != (ssize_t)sizeof im->origin) {
		command_error("no random numbers");
		return COMMAND_TEMPORARY;
	}
	return account_mailboxes(keeper, &im->table);
}

void
import_close(struct import *im)
{
	import_spool_fini(&im->spool);
	buf_fini(&im->table);
	buf_fini(&im->keywords);
	MEM_FREE(&im->known);
	MEM_FREE(&im->place);
}

/* What another wrote, for the terminal. */
static void
put_printable(char dst[IMPORT_LABEL_SIZE], const char *text)
{
	size_t n = 0;

	for (; text[n] && n < IMPORT_LABEL_SIZE - 1; n++)
		dst[n] = (uint8_t)text[n] >= ' ' && (uint8_t)text[n] < 0x7f ? text[n] : '?';
	dst[n] = '\0';
}

void
import_failed(struct import *im, const char *label, const char *why)
{
	char printable[IMPORT_LABEL_SIZE];

	put_printable(printable, label);
	progress_end(im->progress);
	command_error("%s: %s", printable, why);
	im->counts.failed++;
}

/* ---- answers ---- */

/* What the keeper refused: said and counted. */
static enum command_status
refused(struct import *im, struct slice name, uint32_t class, struct slice text)
{
	char label[IMPORT_LABEL_SIZE], why[128];

	if (class == ERR_NONE)
		return COMMAND_OK;
	(void)snprintf(label, sizeof label, "%.*s", SLICE_ARG(name));
	(void)snprintf(why, sizeof why, "%.*s", SLICE_ARG(text));
	import_failed(im, label, why);
	return class == ERR_TEMP ? COMMAND_TEMPORARY : COMMAND_REFUSED;
}

static enum command_status
judge(struct import *im, const struct import_flight *f, const struct msg_MSG_APPEND_REPLY *r)
{
	if (r->class == ERR_NONE) {
		im->uids_true = im->uids_true && (f->uid == 0 || f->uid == r->uid);
		im->counts.messages++;
		im->counts.bytes += f->bytes;
		return COMMAND_OK;
	}
	if (refused(im, slice_str(f->label), r->class, r->text) == COMMAND_TEMPORARY)
		return COMMAND_TEMPORARY;
	/* All that follow would fail too. */
	return r->code == ERR_CODE_OVER_QUOTA ? COMMAND_REFUSED : COMMAND_OK;
}

/* Waits for one answer. The keeper answers in order, but those that it refuses at once come earlier. */
static enum command_status
receive(struct import *im)
{
	static struct msg reply;
	const struct msg_MSG_APPEND_REPLY *r = &reply.u.MSG_APPEND_REPLY;
	enum command_status status = command_receive(im->keeper, MSG_MSG_APPEND_REPLY, &reply);
	unsigned at = 0;

	if (status != COMMAND_OK)
		return status;
	while (at < im->flight_count && im->flight[(im->flight_first + at) % IMPORT_FLIGHT_MAX].id != r->id)
		at++;
	if (at == im->flight_count) {
		command_error("the keeper answers what was not asked");
		return COMMAND_UNREACHABLE;
	}
	struct import_flight f = im->flight[(im->flight_first + at) % IMPORT_FLIGHT_MAX];

	for (; at > 0; at--)
		im->flight[(im->flight_first + at) % IMPORT_FLIGHT_MAX] =
		    im->flight[(im->flight_first + at - 1) % IMPORT_FLIGHT_MAX];
	im->flight_first = (im->flight_first + 1) % IMPORT_FLIGHT_MAX;
	im->flight_count--;
	im->flight_bytes -= f.bytes;
	return judge(im, &f, r);
}

enum command_status
import_flush(struct import *im)
{
	enum command_status worst = COMMAND_OK, status;

	while (im->flight_count > 0) {
		status = receive(im);
		if (status == COMMAND_UNREACHABLE)
			return status;
		worst = worst == COMMAND_OK ? status : worst;
	}
	return worst;
}

/* ---- what is there already ---- */

static int
known_order(const void *a, const void *b)
{
	const struct import_known *x = a, *y = b;

	if (x->hash != y->hash)
		return x->hash < y->hash ? -1 : 1;
	return x->size < y->size ? -1 : x->size > y->size;
}

static uint64_t
hash_start(const uint8_t *octets)
{
	struct cursor c = cursor_of(slice_of(octets, sizeof(uint64_t)));

	return cursor_u64(&c);
}

/* Sorts, and makes one of equal ones. */
static void
join_known(struct import *im)
{
	size_t n = 0;

	if (im->known_count == 0)
		return;
	qsort(im->known, im->known_count, sizeof *im->known, known_order);
	for (size_t i = 1; i < im->known_count; i++) {
		if (known_order(&im->known[n], &im->known[i]) == 0)
			im->known[n].left++;
		else
			im->known[++n] = im->known[i];
	}
	im->known_count = n + 1;
}

static void
take_known(struct import *im, struct slice records, size_t *cap)
{
	struct cursor c = cursor_of(records);
	struct store_record r;

	while (store_record_next(&c, &r)) {
		if (im->known_count == *cap) {
			*cap = *cap ? *cap * 2 : 256;
			im->known = mem_resize(im->known, *cap, sizeof *im->known);
		}
		/* An object id is its number and the start of the hash. */
		im->known[im->known_count++] =
		    (struct import_known){.hash = hash_start(r.object_id + sizeof(uint64_t)), .size = r.size, .left = 1};
	}
}

static enum command_status
read_known(struct import *im)
{
	struct buf records;
	struct msg_fds fds;
	uint32_t uid = 1;
	size_t cap = 0;
	enum command_status status = COMMAND_OK;

	MEM_FREE(&im->known);
	im->known_count = 0;
	buf_init(&records, STORE_RECORDS_BYTES_MAX);
	while (status == COMMAND_OK && uid != 0) {
		status = account_fetch(im->keeper, im->mailbox, uid, STORE_WANT_DETAIL, &records, &uid, &fds);
		if (status == COMMAND_OK)
			take_known(im, buf_slice(&records), &cap);
	}
	buf_fini(&records);
	join_known(im);
	return status;
}

static bool
is_known(struct import *im, const uint8_t *sha256, uint64_t size)
{
	struct import_known key = {.hash = hash_start(sha256), .size = size};
	struct import_known *k =
	    im->known_count > 0 ? bsearch(&key, im->known, im->known_count, sizeof key, known_order) : NULL;

	if (k == NULL || k->left == 0)
		return false;
	k->left--;
	return true;
}

/* ---- mailboxes ---- */

static enum command_status
change(struct import *im, enum mbox_verb verb, struct slice name, uint32_t special_use)
{
	static struct msg reply;
	const struct msg_MBOX_CHANGE_REPLY *r = &reply.u.MBOX_CHANGE_REPLY;
	enum command_status status =
	    COMMAND_SEND(im->keeper, MBOX_CHANGE, .id = command_id(), .origin = slice_of(im->origin, sizeof im->origin),
		.sequence = ++im->sequence, .verb = (uint8_t)verb, .name = name, .special_use = special_use);

	if (status == COMMAND_OK)
		status = command_receive(im->keeper, MSG_MBOX_CHANGE_REPLY, &reply);
	return status == COMMAND_OK ? refused(im, name, r->class, r->text) : status;
}

/* What a mailbox of that name is for, when it has to be made (RFC 6154 section 2). */
static uint32_t
use_of(struct slice name)
{
	static const struct {
		const char *name;
		uint32_t use;
	} rows[] = {{"Archive", STORE_USE_ARCHIVE}, {"Drafts", STORE_USE_DRAFTS}, {"Junk", STORE_USE_JUNK},
	    {"Sent", STORE_USE_SENT}, {"Trash", STORE_USE_TRASH}};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		if (slice_eq(slice_str(rows[i].name), name))
			return rows[i].use;
	return 0;
}

/* The use that its name says, when no mailbox has it yet. */
static uint32_t
free_use(const struct import *im, struct slice name)
{
	struct cursor c = cursor_of(buf_slice(&im->table));
	struct store_mailbox m;
	uint32_t use = use_of(name);

	while (store_mailbox_next(&c, &m))
		use &= ~m.special_use;
	return use;
}

static enum command_status
read_keywords(struct import *im)
{
	static struct msg reply;
	const struct msg_MBOX_OPEN_REPLY *r = &reply.u.MBOX_OPEN_REPLY;
	enum command_status status = COMMAND_SEND(im->keeper, MBOX_OPEN, .id = command_id(), .mailbox = im->mailbox);

	if (status == COMMAND_OK)
		status = command_receive(im->keeper, MSG_MBOX_OPEN_REPLY, &reply);
	if (status == COMMAND_OK)
		status = command_outcome(r->class, SLICE("the mailbox cannot be opened; the log says why"));
	buf_reset(&im->keywords);
	if (status == COMMAND_OK)
		buf_put_slice(&im->keywords, r->keywords);
	return status;
}

/* The mailbox of that name, made when there is none; number 0: it was refused, said and counted. */
static enum command_status
find_or_make(struct import *im, struct slice name, struct store_mailbox *m_r)
{
	enum command_status status = account_mailboxes(im->keeper, &im->table);

	m_r->number = 0;
	if (status != COMMAND_OK || account_mailbox_find(buf_slice(&im->table), name, m_r))
		return status;
	status = change(im, MBOX_CREATE, name, free_use(im, name));
	m_r->number = 0;
	if (status != COMMAND_OK)
		return status == COMMAND_REFUSED ? COMMAND_OK : status;
	status = account_mailboxes(im->keeper, &im->table);
	if (status == COMMAND_OK && !account_mailbox_find(buf_slice(&im->table), name, m_r))
		status = command_outcome(ERR_TEMP, SLICE("a mailbox just made is not there"));
	return status;
}

/* Where the messages for mailbox m go first, when its UIDs can be those of the source: the name is appended to out, else it stays empty. */
static void
choose_stage(struct import *im, const struct store_mailbox *m, struct slice name, struct buf *out)
{
	struct store_mailbox stage;

	buf_put_slice(out, name);
	buf_put_str(out, IMPORT_SUFFIX);
	if (out->failed || (!account_mailbox_find(buf_slice(&im->table), buf_slice(out), &stage) && m->uidnext != 1))
		buf_reset(out);
}

enum command_status
import_mailbox(struct import *im, struct slice name, uint32_t uidvalidity, uint32_t uidnext)
{
	struct store_mailbox m;
	struct buf stage;
	enum command_status status;

	name = account_mailbox_name(name);
	if (uidvalidity > STORE_IMPORT_MAX || uidnext > STORE_IMPORT_MAX)
		uidvalidity = 0;
	MEM_FREE(&im->place);
	status = find_or_make(im, name, &m);
	im->mailbox = m.number;
	im->uidvalidity = uidvalidity;
	im->uidnext = uidnext;
	im->uids_true = true;
	if (status != COMMAND_OK || im->mailbox == 0)
		return status;
	buf_init(&stage, STORE_NAME_BYTES_MAX);
	if (uidvalidity != 0 && m.uidvalidity != uidvalidity)
		choose_stage(im, &m, name, &stage);
	if (stage.n > 0) {
		im->place = mem_copy_str(name.p, name.n);
		status = find_or_make(im, buf_slice(&stage), &m);
		im->mailbox = m.number;
	} else if (m.uidvalidity != uidvalidity) {
		im->uidvalidity = 0;
	}
	buf_fini(&stage);
	if (status != COMMAND_OK || im->mailbox == 0)
		return status;
	im->counts.mailboxes++;
	status = read_keywords(im);
	return status == COMMAND_OK ? read_known(im) : status;
}

static enum command_status
adopt(struct import *im, uint32_t uidvalidity, uint32_t *class_r)
{
	static struct msg reply;
	const struct msg_MBOX_CHANGE_REPLY *r = &reply.u.MBOX_CHANGE_REPLY;
	enum command_status status =
	    COMMAND_SEND(im->keeper, MBOX_ADOPT, .id = command_id(), .origin = slice_of(im->origin, sizeof im->origin),
		.sequence = ++im->sequence, .mailbox = im->mailbox, .name = slice_str(im->place), .uidvalidity = uidvalidity,
		.uidnext = im->uidnext);

	if (status == COMMAND_OK)
		status = command_receive(im->keeper, MSG_MBOX_CHANGE_REPLY, &reply);
	*class_r = r->class;
	if (status != COMMAND_OK || r->class == ERR_NONE || (r->class == ERR_PERM && uidvalidity != 0))
		return status;
	return refused(im, slice_str(im->place), r->class, r->text);
}

enum command_status
import_mailbox_end(struct import *im)
{
	enum command_status status = import_flush(im);
	uint32_t class = ERR_PERM;

	if (status != COMMAND_OK || im->mailbox == 0 || im->uidvalidity == 0)
		return status;
	if (im->place == NULL) {
		im->counts.uids_kept += im->uids_true;
		return status;
	}
	if (im->uids_true)
		status = adopt(im, im->uidvalidity, &class);
	if (status == COMMAND_OK && class == ERR_NONE)
		im->counts.uids_kept++;
	/* Mail has come into it meanwhile, for one: then they go behind that. */
	if (status == COMMAND_OK && class != ERR_NONE)
		status = adopt(im, 0, &class);
	if (status == COMMAND_OK)
		MEM_FREE(&im->place);
	return status;
}

enum command_status
import_subscribe(struct import *im, struct slice name)
{
	struct store_mailbox m;

	if (!account_mailbox_find(buf_slice(&im->table), name, &m) || m.subscribed)
		return COMMAND_OK;
	enum command_status status = change(im, MBOX_SUBSCRIBE, name, 0);

	return status == COMMAND_REFUSED ? COMMAND_OK : status;
}

/* ---- messages ---- */

/* The names that the mailbox can have, each with LF. */
static void
choose_keywords(struct import *im, struct slice names, struct buf *out)
{
	struct slice name, known, line;

	while (names.n > 0 && slice_cut(&names, '\n', &name)) {
		unsigned count = 0;

		for (known = buf_slice(&im->keywords); known.n > 0 && slice_cut(&known, '\n', &line);)
			count++;
		bool is_new = store_keyword_find(buf_slice(&im->keywords), name) < 0;

		if ((is_new && count == STORE_KEYWORDS_MAX) || name.n > STORE_KEYWORD_BYTES_MAX ||
		    out->n + name.n + 1 > out->max) {
			im->counts.keywords_lost++;
			continue;
		}
		buf_put_slice(out, name);
		buf_put_u8(out, '\n');
		if (is_new) {
			buf_put_slice(&im->keywords, name);
			buf_put_u8(&im->keywords, '\n');
		}
	}
}

static enum command_status
send_append(struct import *im, const struct import_message *m, int fd, uint64_t bytes, const uint8_t *sha256)
{
	struct import_flight *f = &im->flight[(im->flight_first + im->flight_count) % IMPORT_FLIGHT_MAX];
	bool has_uid = im->uidvalidity != 0 && m->uid != 0 && m->uid < im->uidnext;
	/* One without a UID must not get one that the source gave to another. */
	uint32_t uid = has_uid ? m->uid : im->uidvalidity != 0 ? im->uidnext : 0;
	struct buf keywords;

	assert(im->flight_count < IMPORT_FLIGHT_MAX);
	*f = (struct import_flight){.id = command_id(), .bytes = bytes, .uid = has_uid ? m->uid : 0};
	put_printable(f->label, m->label);
	buf_init(&keywords, KEYWORDS_BYTES_MAX);
	choose_keywords(im, m->keywords, &keywords);
	enum command_status status = COMMAND_SEND(im->keeper, MSG_APPEND, .id = f->id,
	    .origin = slice_of(im->origin, sizeof im->origin), .sequence = ++im->sequence, .mailbox = im->mailbox,
	    .uid = uid, .flags = m->flags, .keywords = buf_slice(&keywords), .internal_date = (uint64_t)m->date,
	    .zone_minutes = (uint16_t)m->zone_minutes, .bytes = bytes, .sha256 = slice_of(sha256, STORE_SHA256_BYTES),
	    .message = fd, .summary = -1);

	buf_fini(&keywords);
	if (status == COMMAND_OK) {
		im->flight_count++;
		im->flight_bytes += bytes;
	}
	return status;
}

enum command_status
import_message(struct import *im, const struct import_message *m)
{
	uint8_t sha256[STORE_SHA256_BYTES];
	uint64_t bytes;
	struct err e;
	int fd = import_spool_end(&im->spool, &bytes, sha256, &e);
	enum command_status status = COMMAND_OK;

	if (fd < 0 && e.class == ERR_TEMP) {
		command_error("%s", e.detail);
		return COMMAND_TEMPORARY;
	}
	if (fd < 0 || bytes == 0) {
		import_failed(im, m->label, fd < 0 ? e.client : "empty");
	} else if (is_known(im, sha256, bytes)) {
		im->counts.present++;
	} else {
		while (status == COMMAND_OK && im->flight_count > 0 &&
		    (im->flight_count == IMPORT_FLIGHT_MAX || im->flight_bytes + bytes > IMPORT_FLIGHT_BYTES_MAX))
			status = receive(im);
		if (status == COMMAND_OK)
			status = send_append(im, m, fd, bytes, sha256);
	}
	if (fd >= 0)
		close(fd);
	return status;
}
