/*
 * The lines of a dump, written. dump_read.c reads them; a test and a fuzzer hold the two together.
 */
#include "store/dump_private.h"

static const struct {
	uint32_t use;
	struct slice name;
} uses[] = {
    {STORE_USE_ALL, SLICE("\\All")},
    {STORE_USE_ARCHIVE, SLICE("\\Archive")},
    {STORE_USE_DRAFTS, SLICE("\\Drafts")},
    {STORE_USE_FLAGGED, SLICE("\\Flagged")},
    {STORE_USE_JUNK, SLICE("\\Junk")},
    {STORE_USE_SENT, SLICE("\\Sent")},
    {STORE_USE_TRASH, SLICE("\\Trash")},
    {STORE_USE_IMPORTANT, SLICE("\\Important")},
};

static const struct {
	uint32_t flag;
	struct slice name;
} flags[] = {
    {STORE_FLAG_SEEN, SLICE("\\Seen")},
    {STORE_FLAG_ANSWERED, SLICE("\\Answered")},
    {STORE_FLAG_FLAGGED, SLICE("\\Flagged")},
    {STORE_FLAG_DELETED, SLICE("\\Deleted")},
    {STORE_FLAG_DRAFT, SLICE("\\Draft")},
};

#define USES (sizeof uses / sizeof uses[0])
#define FLAGS (sizeof flags / sizeof flags[0])

uint32_t
dump_use(struct slice name)
{
	for (size_t i = 0; i < USES; i++)
		if (slice_eq(name, uses[i].name))
			return uses[i].use;
	return 0;
}

uint32_t
dump_flag(struct slice name)
{
	for (size_t i = 0; i < FLAGS; i++)
		if (slice_eq(name, flags[i].name))
			return flags[i].flag;
	return 0;
}

void
dump_put_head(struct buf *b)
{
	buf_putf(b, "mailstead-dump %u\n", DUMP_VERSION);
	buf_put_str(b,
	    "# account CREATED SERIAL MODSEQ NEXT-OBJECT NEXT-MAILBOX NEXT-UIDVALIDITY RETIRED-UIDVALIDITY\n"
	    "# mailbox NUMBER UIDVALIDITY UIDNEXT RECENT HIGHESTMODSEQ TOMBSTONE-FLOOR DELETED-AT ATTRIBUTES NAME\n"
	    "# keyword MAILBOX NAME\n"
	    "# tombstones MAILBOX MODSEQ UIDS\n"
	    "# message MAILBOX UID MODSEQ DATE ZONE SAVED OCTETS OBJECT THREAD FLAGS...\n"
	    "# expunged AT MAILBOX UID MODSEQ DATE ZONE SAVED OCTETS OBJECT THREAD FLAGS...\n"
	    "# Times are seconds since 1970 UTC, zones minutes east of UTC; mail/xx/OBJECT is a message's file.\n");
}

void
dump_put_account(struct buf *b, const struct format_account *a)
{
	buf_putf(b, "account %llu %llu %llu %llu %u %u %u\n", (unsigned long long)a->created, (unsigned long long)a->serial,
	    (unsigned long long)a->modseq, (unsigned long long)a->next_object, a->next_mailbox, a->next_uidvalidity,
	    a->retired_uidvalidity);
}

void
dump_put_mailbox(struct buf *b, const struct format_mailbox *m)
{
	const char *comma = "";

	buf_putf(b, "mailbox %u %u %u %u %llu %llu %llu ", m->number, m->uidvalidity, m->uidnext, m->recent_uid,
	    (unsigned long long)m->highestmodseq, (unsigned long long)m->tombstone_floor, (unsigned long long)m->gone_at);
	if (m->selectable) {
		buf_put_str(b, "selectable");
		comma = ",";
	}
	if (m->subscribed) {
		buf_putf(b, "%ssubscribed", comma);
		comma = ",";
	}
	for (size_t i = 0; i < USES; i++)
		if (m->special_use & uses[i].use) {
			buf_putf(b, "%s%.*s", comma, SLICE_ARG(uses[i].name));
			comma = ",";
		}
	if (*comma == '\0')
		buf_put_u8(b, '-');
	buf_put_u8(b, ' ');
	buf_put_slice(b, m->name);
	buf_put_u8(b, '\n');
}

void
dump_put_keywords(struct buf *b, uint32_t mailbox, struct slice keywords)
{
	struct slice name;

	while (slice_cut(&keywords, '\n', &name)) {
		if (slice_empty(name))
			continue;
		buf_putf(b, "keyword %u ", mailbox);
		buf_put_slice(b, name);
		buf_put_u8(b, '\n');
	}
}

void
dump_put_tombstones(struct buf *b, uint32_t mailbox, uint64_t modseq, const struct uidset *uids)
{
	buf_putf(b, "tombstones %u %llu ", mailbox, (unsigned long long)modseq);
	for (size_t i = 0; i < uids->n; i++) {
		buf_putf(b, "%s%u", i > 0 ? "," : "", uids->ranges[i].first);
		if (uids->ranges[i].last != uids->ranges[i].first)
			buf_putf(b, ":%u", uids->ranges[i].last);
	}
	buf_put_u8(b, '\n');
}

static void
put_number(struct buf *b, uint64_t v)
{
	char room[20];
	size_t at = sizeof room;

	do {
		room[--at] = (char)('0' + v % 10);
		v /= 10;
	} while (v > 0);
	buf_put_u8(b, ' ');
	buf_put(b, room + at, sizeof room - at);
}

static void
put_signed(struct buf *b, int64_t v)
{
	if (v >= 0) {
		put_number(b, (uint64_t)v);
		return;
	}
	buf_putf(b, " %lld", (long long)v);
}

/* All that a message line has behind the mailbox. */
static void
put_message(struct buf *b, const struct format_message *m, struct slice keywords)
{
	put_number(b, m->entry.uid);
	put_number(b, m->entry.modseq);
	put_signed(b, m->detail.internal_date);
	put_signed(b, m->detail.zone_minutes);
	put_signed(b, m->detail.save_date);
	put_number(b, m->detail.size);
	buf_put_u8(b, ' ');
	buf_put_hex(b, slice_of(m->detail.object_id, sizeof m->detail.object_id));
	put_number(b, m->detail.thread);
	for (size_t i = 0; i < FLAGS; i++)
		if (m->entry.flags & flags[i].flag) {
			buf_put_u8(b, ' ');
			buf_put_slice(b, flags[i].name);
		}
	for (uint64_t bits = m->entry.keywords; bits != 0; bits &= bits - 1) {
		struct slice name = store_keyword_name(keywords, (unsigned)__builtin_ctzll(bits));

		/* A bit without a name says nothing to anybody; the check reports it. */
		if (slice_empty(name))
			continue;
		buf_put_u8(b, ' ');
		buf_put_slice(b, name);
	}
	buf_put_u8(b, '\n');
}

void
dump_put_message(struct buf *b, uint32_t mailbox, const struct format_message *m, struct slice keywords)
{
	buf_put_str(b, "message");
	put_number(b, mailbox);
	put_message(b, m, keywords);
}

void
dump_put_expunged(struct buf *b, uint64_t time, uint32_t mailbox, const struct format_message *m, struct slice keywords)
{
	buf_put_str(b, "expunged");
	put_number(b, time);
	put_number(b, mailbox);
	put_message(b, m, keywords);
}

void
dump_put_end(struct buf *b, uint64_t lines, const uint8_t sha256[STORE_SHA256_BYTES])
{
	buf_putf(b, "end %llu ", (unsigned long long)lines);
	buf_put_hex(b, slice_of(sha256, STORE_SHA256_BYTES));
	buf_put_u8(b, '\n');
}
