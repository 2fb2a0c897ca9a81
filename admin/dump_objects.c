/*
 * To the child: one octet, with the dump's descriptor. From it: packets that begin with OBJECTS and hold objects (id, u64 size),
 * then WHOLE; or WRONG with what is wrong.
 */
#include "admin/dump_objects.h"

#include "admin/confined.h"
#include "common/cursor.h"
#include "common/mem.h"
#include "store/dump.h"

#include <stdio.h>

#define OBJECTS 'O'
#define WHOLE 'E'
#define WRONG 'X'
#define OBJECT_BYTES (STORE_OBJECT_ID_BYTES + 8u)
#define OBJECTS_MAX ((size_t)1 << 26)

/* ---- the child ---- */

static void
begin(struct buf *b, uint8_t what)
{
	buf_reset(b);
	put_u8(b, what);
}

static void
give_objects(int link, const struct image *im, struct buf *b)
{
	size_t n;
	struct load_object *list = load_objects(im, &n);

	begin(b, OBJECTS);
	for (size_t i = 0; i < n; i++) {
		if (b->max - b->n < OBJECT_BYTES) {
			confined_give(link, buf_slice(b));
			begin(b, OBJECTS);
		}
		buf_put(b, list[i].id, STORE_OBJECT_ID_BYTES);
		put_u64(b, list[i].size);
	}
	confined_give(link, buf_slice(b));
	begin(b, WHOLE);
	confined_give(link, buf_slice(b));
	free(list);
}

static void
work(int link, void *arg)
{
	struct slice request;
	struct msg_fds fds;
	struct image im;
	struct err e;
	struct buf b;

	(void)arg;
	if (!confined_take(link, &request, &fds) || fds.n != 1)
		return;
	buf_init(&b, CONFINED_PACKET_BYTES_MAX);
	if (dump_read(fds.fd[0], &im, &e) == 0) {
		give_objects(link, &im, &b);
		return;
	}
	begin(&b, WRONG);
	buf_put_str(&b, e.detail[0] != '\0' ? e.detail : e.client);
	confined_give(link, buf_slice(&b));
}

/* ---- the command ---- */

/* No text of the child plays with the terminal. */
static enum command_status
refuse(const char *label, struct slice why)
{
	char text[sizeof((struct err *)0)->detail];
	size_t n = 0;

	for (; n < why.n && n < sizeof text - 1; n++)
		text[n] = why.p[n] >= ' ' && why.p[n] < 0x7f ? (char)why.p[n] : '?';
	text[n] = '\0';
	command_error("%s: %s", label, text);
	return COMMAND_REFUSED;
}

struct listing {
	struct load_object *list;
	size_t n;
	size_t cap;
};

static bool
take_objects(struct cursor *c, struct listing *l)
{
	while (cursor_left(c) > 0) {
		struct slice id = cursor_take(c, STORE_OBJECT_ID_BYTES);
		uint64_t size = cursor_u64(c);

		if (c->bad || l->n == OBJECTS_MAX)
			return false;
		if (l->n == l->cap) {
			l->cap = l->cap ? l->cap * 2 : 256;
			l->list = mem_resize(l->list, l->cap, sizeof *l->list);
		}
		l->list[l->n] = (struct load_object){.size = size};
		memcpy(l->list[l->n++].id, id.p, STORE_OBJECT_ID_BYTES);
	}
	return true;
}

static enum command_status
take_answers(struct confined *child, const char *label, struct listing *l)
{
	struct slice packet;
	enum command_status status;

	while ((status = confined_answer(child, &packet)) == COMMAND_OK) {
		struct cursor c = cursor_of(packet);
		uint8_t what = cursor_u8(&c);

		if (what == WHOLE)
			return COMMAND_OK;
		if (what == WRONG)
			return refuse(label, slice_sub(packet, 1, packet.n));
		if (what != OBJECTS || !take_objects(&c, l))
			return confined_nonsense();
	}
	return status;
}

enum command_status
dump_objects(const char *label, int fd, struct load_object **list_r, size_t *n_r)
{
	struct confined child;
	struct listing l = {.n = 0};
	enum command_status status = confined_begin(&child, work, NULL);

	if (status == COMMAND_OK)
		status = confined_ask(&child, SLICE("?"), &fd, 1);
	if (status == COMMAND_OK)
		status = take_answers(&child, label, &l);
	confined_end(&child);
	*list_r = l.list;
	*n_r = l.n;
	return status;
}
