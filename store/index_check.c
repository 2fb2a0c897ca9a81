/*
 * Every number in the index that follows from others is computed again from
 * the chunks: counts, sizes, references, marks; and each object is looked for.
 */
#include "store/index_private.h"

#include "common/mem.h"
#include "store/object.h"

#include <unistd.h>

struct tally {
	uint32_t *refs; /* by object number */
	uint64_t messages;
	uint64_t bytes;
};

static int
wrong(struct err *e, const char *what, uint64_t where)
{
	return err_set(e, ERR_TEMP, ERR_CODE_CORRUPT, "temporary failure", "check: %s (%llu)", what,
	    (unsigned long long)where);
}

static int
tally_message(struct index *ix, struct tally *t, const struct format_message *m, struct err *e)
{
	uint64_t object = object_number(m->detail.object_id);
	int fd;

	if (object >= ix->account.next_object)
		return wrong(e, "an object that was never given out", object);
	if (t->refs[object]++ > 0)
		return 0;
	fd = object_open(ix->root, m->detail.object_id, m->detail.size, e);
	if (fd < 0)
		return -1;
	(void)close(fd);
	return 0;
}

static int
check_list(struct index *ix, const struct format_mailbox *m, const struct message_list *l, struct tally *t, struct err *e)
{
	uint32_t unseen = 0, deleted = 0;
	uint64_t bytes = 0;

	for (size_t i = 0; i < l->n; i++) {
		const struct store_entry *entry = &l->m[i].entry;

		unseen += (entry->flags & STORE_FLAG_SEEN) == 0;
		deleted += (entry->flags & STORE_FLAG_DELETED) != 0;
		bytes += l->m[i].detail.size;
		if (entry->uid >= m->uidnext || entry->modseq > m->highestmodseq)
			return wrong(e, "a message above its mailbox's marks", entry->uid);
		if (tally_message(ix, t, &l->m[i], e) < 0)
			return -1;
	}
	if (l->n != m->messages || unseen != m->unseen || deleted != m->deleted || bytes != m->bytes)
		return wrong(e, "the counts of a mailbox", m->number);
	t->messages += l->n;
	t->bytes += bytes;
	return 0;
}

static int
check_mailbox(struct index *ix, const struct index_mailbox *mb, struct tally *t, struct err *e)
{
	struct message_list l = {0};
	int failed = messages_collect(ix, mb->m.number, uidset_all(), &l, e);

	if (failed == 0)
		failed = check_list(ix, &mb->m, &l, t, e);
	message_list_fini(&l);
	if (failed == 0 && mb->m.highestmodseq > ix->account.modseq)
		failed = wrong(e, "a mailbox above the account's modseq", mb->m.number);
	if (failed == 0 && mb->m.uidvalidity >= ix->account.next_uidvalidity)
		failed = wrong(e, "a UIDVALIDITY that was never given out", mb->m.number);
	for (size_t i = 0; failed == 0 && i < ix->mailbox_count; i++) {
		const struct index_mailbox *other = ix->mailboxes[i];

		if (other != mb && other->m.gone_at == 0 && mb->m.gone_at == 0 && slice_eq(other->m.name, mb->m.name))
			failed = wrong(e, "two mailboxes of one name", mb->m.number);
	}
	return failed;
}

static int
check_table(struct index *ix, struct tally *t, enum format_table table, struct err *e)
{
	struct format_key first = format_key(table);
	struct env_cursor c;
	int r = env_cursor_open(ix->env, &c, e) < 0 ? -1 : env_cursor_seek(&c, format_key_slice(&first), e);

	while (r == 1 && c.key.p[0] == (uint8_t)table) {
		struct format_expunged x = {.n = 0};
		struct format_refs refs;
		struct cursor k = cursor_of(slice_sub(c.key, 1, c.key.n));
		uint64_t object = cursor_u64(&k);

		if (table == FORMAT_EXPUNGED ? !format_expunged_get(c.key, c.value, &x)
					     : !format_refs_get(c.key, c.value, &refs))
			r = wrong(e, "a record that cannot be read", object);
		for (unsigned i = 0; r == 1 && i < x.n; i++)
			if (tally_message(ix, t, &x.m[i], e) < 0)
				r = -1;
		for (unsigned i = 0; r == 1 && table == FORMAT_REFS && i < FORMAT_REFS_MAX; i++) {
			uint32_t found = object + i < ix->account.next_object ? t->refs[object + i] : 0;

			if (refs.count[i] != found)
				r = wrong(e, "the references to an object", object + i);
			else if (found > 0)
				t->refs[object + i] = 0;
		}
		if (r == 1)
			r = env_cursor_next(&c, e);
	}
	env_cursor_close(&c);
	return r < 0 ? -1 : 0;
}

int
index_check(struct index *ix, struct err *e)
{
	struct tally t = {.refs = mem_new_array((size_t)ix->account.next_object + 1, sizeof(uint32_t))};
	int failed = 0;

	for (size_t i = 0; failed == 0 && i < ix->mailbox_count; i++)
		failed = check_mailbox(ix, ix->mailboxes[i], &t, e);
	if (failed == 0 && (t.messages != ix->account.messages || t.bytes != ix->account.bytes))
		failed = wrong(e, "the usage of the account", t.messages);
	if (failed == 0)
		failed = check_table(ix, &t, FORMAT_EXPUNGED, e) < 0 || check_table(ix, &t, FORMAT_REFS, e) < 0;
	/* check_table() cleared what the records of references say: what is left has none. */
	for (uint64_t i = 0; failed == 0 && i < ix->account.next_object; i++)
		if (t.refs[i] != 0)
			failed = wrong(e, "an object without a record of references", i);
	free(t.refs);
	return failed ? -1 : 0;
}
