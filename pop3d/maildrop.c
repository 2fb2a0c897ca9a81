/*
 * A unique-id is the object's id, so that it stays what it is through anything that IMAP does to
 * the message. Copies within INBOX share their object; all but the first get their UID behind it.
 * When the first goes, the second takes over its unique-id: a client then keeps what it has, which
 * is the same message.
 */
#include "pop3d/maildrop.h"

#include "common/mem.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

void
maildrop_fini(struct maildrop *d)
{
	free(d->messages);
	*d = (struct maildrop){0};
}

bool
maildrop_add(struct maildrop *d, const struct store_record *r, bool as_is)
{
	if (r->uid == 0 || (d->count > 0 && r->uid <= d->messages[d->count - 1].uid))
		return false;
	if (r->size > STORE_MESSAGE_BYTES_MAX || d->count == UINT32_MAX / 2)
		return false;
	if (d->count == d->cap) {
		d->cap = d->cap ? d->cap * 2 : 64;
		d->messages = mem_resize(d->messages, d->cap, sizeof *d->messages);
	}
	struct maildrop_message *m = &d->messages[d->count++];

	*m = (struct maildrop_message){.uid = r->uid, .size = r->size, .as_is = as_is};
	memcpy(m->object_id, r->object_id, sizeof m->object_id);
	d->bytes += r->size;
	d->left++;
	d->left_bytes += r->size;
	return true;
}

void
maildrop_resize(struct maildrop *d, struct maildrop_message *m, uint64_t size)
{
	assert(!m->deleted && d->left == d->count);
	d->bytes = d->bytes - m->size + size;
	d->left_bytes = d->bytes;
	m->size = size;
}

static int
by_object_then_uid(const void *a, const void *b)
{
	const struct maildrop_message *x = *(struct maildrop_message *const *)a,
				      *y = *(struct maildrop_message *const *)b;
	int order = memcmp(x->object_id, y->object_id, sizeof x->object_id);

	if (order != 0)
		return order;
	return x->uid < y->uid ? -1 : x->uid > y->uid;
}

void
maildrop_complete(struct maildrop *d)
{
	if (d->count < 2)
		return;
	struct maildrop_message **order = mem_new_array(d->count, sizeof *order);

	for (uint32_t i = 0; i < d->count; i++)
		order[i] = &d->messages[i];
	qsort(order, d->count, sizeof *order, by_object_then_uid);
	for (uint32_t i = 1; i < d->count; i++)
		order[i]->copy = memcmp(order[i - 1]->object_id, order[i]->object_id,
				     sizeof order[i]->object_id) == 0;
	free(order);
}

struct maildrop_message *
maildrop_get(const struct maildrop *d, uint32_t number)
{
	if (number == 0 || number > d->count || d->messages[number - 1].deleted)
		return NULL;
	return &d->messages[number - 1];
}

void
maildrop_delete(struct maildrop *d, struct maildrop_message *m)
{
	assert(!m->deleted && d->left > 0);
	m->deleted = true;
	d->left--;
	d->left_bytes -= m->size;
}

void
maildrop_reset(struct maildrop *d)
{
	for (uint32_t i = 0; i < d->count; i++)
		d->messages[i].deleted = false;
	d->left = d->count;
	d->left_bytes = d->bytes;
}

void
maildrop_uidl(const struct maildrop_message *m, char text_r[MAILDROP_UIDL_SIZE])
{
	size_t n = 2 * sizeof m->object_id;

	slice_hex(slice_of(m->object_id, sizeof m->object_id), text_r);
	text_r[n] = '\0';
	if (m->copy)
		snprintf(text_r + n, MAILDROP_UIDL_SIZE - n, ".%u", m->uid);
}

bool
maildrop_deleted(const struct maildrop *d, struct uidset *set_r)
{
	uidset_reset(set_r);
	for (uint32_t i = 0; i < d->count; i++) {
		if (d->messages[i].deleted &&
		    !uidset_add(set_r, d->messages[i].uid, d->messages[i].uid))
			return false;
	}
	uidset_sort(set_r);
	return true;
}
