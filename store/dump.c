/*
 * The mailboxes are copied at the beginning: their table is in memory and
 * small. All else comes from a snapshot of the index, a step at a time, so that
 * the account is served meanwhile and the text is of one state.
 */
#include "store/dump.h"

#include "common/mem.h"
#include "store/file.h"
#include "store/index_private.h"
#include "store/snapshot.h"

#include <assert.h>
#include <openssl/evp.h>

/* Text is written out in pieces of this size. */
#define TEXT_BYTES (64u * 1024)

enum phase {
	PHASE_HEAD,
	PHASE_MAILBOX,	  /* the line of mailbox d->at, and its keywords */
	PHASE_TOMBSTONES, /* of it */
	PHASE_MESSAGES,	  /* of it */
	PHASE_EXPUNGED,
	PHASE_END,
	PHASE_DONE,
};

struct dump {
	struct snapshot *snapshot;
	struct image table; /* the account's marks and its mailboxes with their keywords */
	int fd;
	uint64_t octets; /* written out */
	uint64_t lines;
	uint64_t messages;
	uint64_t total;
	enum phase phase;
	size_t at;
	struct snapshot_cursor cursor; /* of tombstones and of what was expunged */
	bool cursor_begun;
	struct snapshot_messages walk;
	uint32_t last_uid;
	struct buf text;
	EVP_MD_CTX *hash;
};

struct dump *
dump_begin(struct index *ix, int fd)
{
	struct dump *d = MEM_NEW(struct dump);

	d->fd = fd;
	d->snapshot = snapshot_begin(ix->env);
	d->table.account = ix->account;
	for (size_t i = 0; i < ix->mailbox_count; i++) {
		struct image_mailbox *mb = image_add_mailbox(&d->table, &ix->mailboxes[i]->m);

		d->total += ix->mailboxes[i]->m.gone_at == 0 ? ix->mailboxes[i]->m.messages : 0;
		buf_put_slice(&mb->keywords, buf_slice(&ix->mailboxes[i]->keywords));
	}
	buf_init(&d->text, TEXT_BYTES + 16 * (size_t)DUMP_LINE_BYTES_MAX + IMAGE_KEYWORDS_BYTES_MAX * (size_t)16);
	d->hash = EVP_MD_CTX_new();
	if (d->hash != NULL && EVP_DigestInit_ex(d->hash, EVP_sha256(), NULL) != 1) {
		EVP_MD_CTX_free(d->hash);
		d->hash = NULL;
	}
	return d;
}

void
dump_free(struct dump **dump)
{
	struct dump *d = *dump;

	if (d == NULL)
		return;
	snapshot_close(&d->cursor);
	snapshot_messages_close(&d->walk);
	snapshot_end(&d->snapshot);
	image_fini(&d->table);
	buf_fini(&d->text);
	EVP_MD_CTX_free(d->hash);
	MEM_FREE(dump);
}

uint64_t
dump_done(const struct dump *d, uint64_t *total_r)
{
	*total_r = d->total;
	return d->messages;
}

uint64_t
dump_octets(const struct dump *d)
{
	return d->octets;
}

static int
damaged(const char *what, uint64_t where, struct err *e)
{
	return err_set(e, ERR_TEMP, ERR_CODE_CORRUPT, "the index is damaged", "dump: %s (%llu)", what,
	    (unsigned long long)where);
}

/* Writes the text at hand out. */
static int
write_out(struct dump *d, struct err *e)
{
	assert(!d->text.failed);
	if (d->phase < PHASE_END) {
		for (size_t i = 0; i < d->text.n; i++)
			d->lines += d->text.p[i] == '\n';
		if (d->hash == NULL || EVP_DigestUpdate(d->hash, d->text.p, d->text.n) != 1)
			return err_set(e, ERR_TEMP, ERR_CODE_NONE, "temporary failure", "no SHA-256");
	}
	if (file_write(d->fd, d->octets, buf_slice(&d->text), e) < 0)
		return -1;
	d->octets += d->text.n;
	buf_reset(&d->text);
	return 0;
}

static struct image_mailbox *
at_hand(const struct dump *d)
{
	return &d->table.mailboxes[d->at];
}

/* The cursor's next record with that prefix: 1, 0 when there is none any more (then it is ready for another prefix), -1. */
static int
next_record(struct dump *d, struct slice prefix, struct err *e)
{
	int r = d->cursor_begun ? snapshot_next(d->snapshot, &d->cursor, e)
				: snapshot_seek(d->snapshot, &d->cursor, prefix, e);

	if (r == 1 && !slice_starts(d->cursor.key, prefix))
		r = 0;
	d->cursor_begun = r == 1;
	return r;
}

static int
put_tombstones(struct dump *d, struct err *e)
{
	uint32_t number = at_hand(d)->m.number;
	struct format_key prefix = format_key_u32(FORMAT_TOMBSTONES, number);
	int r = next_record(d, format_key_slice(&prefix), e);
	struct uidset set = {.n = 0};
	struct cursor key, payload;
	unsigned count;

	if (r <= 0)
		return r;
	key = cursor_of(slice_sub(d->cursor.key, prefix.n, d->cursor.key.n));
	uint64_t modseq = cursor_u64(&key);
	bool ok = format_check(d->cursor.key, d->cursor.value, &count, &payload) &&
	    uidset_get(slice_of(payload.p, cursor_left(&payload)), &set) && set.n > 0;

	if (ok)
		dump_put_tombstones(&d->text, number, modseq, &set);
	uidset_fini(&set);
	return ok ? 1 : damaged("tombstones that cannot be read", modseq, e);
}

static int
put_message(struct dump *d, struct err *e)
{
	const struct image_mailbox *mb = at_hand(d);
	struct format_message m;
	int r = snapshot_messages_next(d->snapshot, &d->walk, &m, e);

	if (r <= 0)
		return r;
	if (r != SNAPSHOT_MESSAGE || m.entry.uid <= d->last_uid)
		return damaged("a message that is not whole", m.entry.uid, e);
	d->last_uid = m.entry.uid;
	d->messages += mb->m.gone_at == 0;
	dump_put_message(&d->text, mb->m.number, &m, buf_slice(&mb->keywords));
	return 1;
}

static int
put_expunged(struct dump *d, struct err *e)
{
	struct format_key prefix = format_key(FORMAT_EXPUNGED);
	int r = next_record(d, format_key_slice(&prefix), e);
	struct format_expunged x;
	struct cursor key;

	if (r <= 0)
		return r;
	key = cursor_of(slice_sub(d->cursor.key, prefix.n, d->cursor.key.n));
	uint64_t time = cursor_u64(&key);

	if (!format_expunged_get(d->cursor.key, d->cursor.value, &x))
		return damaged("a record of expunged messages", time, e);
	const struct image_mailbox *mb = image_mailbox(&d->table, x.mailbox);

	for (unsigned i = 0; i < x.n; i++)
		dump_put_expunged(&d->text, time, x.mailbox, &x.m[i], mb != NULL ? buf_slice(&mb->keywords) : SLICE(""));
	return 1;
}

static int
put_end(struct dump *d, struct err *e)
{
	uint8_t sum[EVP_MAX_MD_SIZE];

	if (d->hash == NULL || EVP_DigestFinal_ex(d->hash, sum, NULL) != 1)
		return err_set(e, ERR_TEMP, ERR_CODE_NONE, "temporary failure", "no SHA-256");
	dump_put_end(&d->text, d->lines, sum);
	return 0;
}

/* To the first mailbox from d->at on, or behind them. */
static void
to_mailbox(struct dump *d)
{
	d->phase = d->at < d->table.mailbox_count ? PHASE_MAILBOX : PHASE_EXPUNGED;
}

/* One piece of the phase at hand: 1 when it goes on, 0 when it is over, -1. */
static int
put_piece(struct dump *d, struct err *e)
{
	switch (d->phase) {
	case PHASE_HEAD:
		dump_put_head(&d->text);
		dump_put_account(&d->text, &d->table.account);
		return 0;
	case PHASE_MAILBOX:
		dump_put_mailbox(&d->text, &at_hand(d)->m);
		dump_put_keywords(&d->text, at_hand(d)->m.number, buf_slice(&at_hand(d)->keywords));
		return 0;
	case PHASE_TOMBSTONES:
		return put_tombstones(d, e);
	case PHASE_MESSAGES:
		return put_message(d, e);
	case PHASE_EXPUNGED:
		return put_expunged(d, e);
	case PHASE_END:
		return put_end(d, e);
	case PHASE_DONE:
		break;
	}
	return 0;
}

static void
next_phase(struct dump *d)
{
	switch (d->phase) {
	case PHASE_HEAD:
		to_mailbox(d);
		break;
	case PHASE_MAILBOX:
		d->phase = PHASE_TOMBSTONES;
		break;
	case PHASE_TOMBSTONES:
		d->phase = PHASE_MESSAGES;
		d->last_uid = 0;
		snapshot_messages_begin(&d->walk, at_hand(d)->m.number);
		break;
	case PHASE_MESSAGES:
		snapshot_messages_close(&d->walk);
		d->at++;
		to_mailbox(d);
		break;
	case PHASE_EXPUNGED:
		d->phase = PHASE_END;
		break;
	case PHASE_END:
	case PHASE_DONE:
		d->phase = PHASE_DONE;
		break;
	}
}

int
dump_step(struct dump *d, size_t octets, struct err *e)
{
	uint64_t until = d->octets + d->text.n + octets;
	int r = 1;

	while (r >= 0 && d->phase != PHASE_DONE && d->octets + d->text.n < until) {
		r = put_piece(d, e);
		if (r == 0 && d->phase == PHASE_EXPUNGED && write_out(d, e) < 0)
			r = -1;
		if (r == 0)
			next_phase(d);
		if (r >= 0 && d->text.n >= TEXT_BYTES && write_out(d, e) < 0)
			r = -1;
	}
	snapshot_pause(&d->cursor);
	snapshot_messages_pause(&d->walk);
	if (r >= 0 && d->phase == PHASE_DONE && write_out(d, e) < 0)
		r = -1;
	if (r < 0)
		return -1;
	return d->phase != PHASE_DONE;
}
