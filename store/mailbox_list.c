#include "store/mailbox_list.h"

enum { LIST_SUBSCRIBED = 1, LIST_SELECTABLE = 2 };

bool
store_mailbox_put(struct buf *b, const struct store_mailbox *m)
{
	put_u32(b, m->number);
	put_u32(b, m->special_use);
	put_u32(b, (m->subscribed ? (uint32_t)LIST_SUBSCRIBED : 0) | (m->selectable ? (uint32_t)LIST_SELECTABLE : 0));
	put_u32(b, m->uidvalidity);
	put_u32(b, m->uidnext);
	put_u32(b, m->messages);
	put_u32(b, m->unseen);
	put_u32(b, m->deleted);
	put_u32(b, m->recent);
	put_u32(b, m->recent_uid);
	put_u64(b, m->highestmodseq);
	put_u64(b, m->bytes);
	put_slice(b, m->name);
	return !b->failed;
}

bool
store_mailbox_next(struct cursor *c, struct store_mailbox *mailbox_r)
{
	struct store_mailbox *m = mailbox_r;

	if (c->bad || cursor_left(c) == 0)
		return false;
	m->number = cursor_u32(c);
	m->special_use = cursor_u32(c);
	uint32_t bits = cursor_u32(c);

	m->subscribed = (bits & LIST_SUBSCRIBED) != 0;
	m->selectable = (bits & LIST_SELECTABLE) != 0;
	m->uidvalidity = cursor_u32(c);
	m->uidnext = cursor_u32(c);
	m->messages = cursor_u32(c);
	m->unseen = cursor_u32(c);
	m->deleted = cursor_u32(c);
	m->recent = cursor_u32(c);
	m->recent_uid = cursor_u32(c);
	m->highestmodseq = cursor_u64(c);
	m->bytes = cursor_u64(c);
	m->name = cursor_slice(c, STORE_NAME_BYTES_MAX);
	return !c->bad;
}
