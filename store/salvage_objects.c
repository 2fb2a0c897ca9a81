/*
 * A message that nobody knows is opened for its date. Its header is hostile: it
 * is read up to a bound, by the parsers that take any octets.
 */
#include "store/salvage_private.h"

#include "common/date.h"
#include "common/mem.h"
#include "common/mutant.h"
#include "common/rfc5322.h"
#include "store/file.h"
#include "store/object.h"

#include <sys/stat.h>

#define HEADER_BYTES_MAX 65536u
/* A date further ahead than this is nobody's. */
#define FUTURE_SECONDS 86400

static int
object_cmp(const void *a, const void *b)
{
	const struct salvage_object *x = a, *y = b;

	return memcmp(x->id, y->id, sizeof x->id);
}

struct scan {
	struct salvage *s;
	size_t cap;
};

static int
on_object(void *arg, const uint8_t id[STORE_OBJECT_ID_BYTES], struct err *e)
{
	struct scan *scan = arg;
	struct salvage *s = scan->s;

	(void)e;
	if (s->object_count == scan->cap) {
		scan->cap = scan->cap ? scan->cap * 2 : 256;
		s->objects = mem_resize(s->objects, scan->cap, sizeof *s->objects);
	}
	s->objects[s->object_count] = (struct salvage_object){.size = 0};
	memcpy(s->objects[s->object_count++].id, id, STORE_OBJECT_ID_BYTES);
	return 0;
}

/* One that cannot be read is damaged; a file system that fails at all of them is the next call's to find. */
static void
examine(const struct salvage *s, struct salvage_object *o)
{
	uint8_t sha256[STORE_SHA256_BYTES];
	struct stat st;
	int fd = object_open_any(s->root, o->id, NULL);

	if (fd < 0)
		return;
	if (fstat(fd, &st) == 0)
		o->time = st.st_mtime;
	o->intact = object_hash(fd, sha256, &o->size, NULL) == 0 && (MUTANT(SALVAGE_HASH) || object_id_fits(o->id, sha256)) &&
	    o->size <= STORE_MESSAGE_BYTES_MAX && object_number(o->id) < IMAGE_NUMBER_MAX;
	(void)file_close(fd, NULL);
}

int
salvage_objects(struct salvage *s, struct err *e)
{
	struct scan scan = {.s = s};

	if (object_each(s->root, on_object, &scan, e) < 0)
		return -1;
	if (s->object_count > 0)
		qsort(s->objects, s->object_count, sizeof *s->objects, object_cmp);
	for (size_t i = 0; i < s->object_count; i++) {
		examine(s, &s->objects[i]);
		if (s->events->progress != NULL)
			s->events->progress(s->arg, i, s->object_count);
	}
	for (size_t i = 0; i < s->garbage_count; i++) {
		struct salvage_object *o = salvage_object(s, s->garbage[i]);

		if (o != NULL)
			o->garbage = true;
	}
	return 0;
}

struct salvage_object *
salvage_object(const struct salvage *s, const uint8_t id[STORE_OBJECT_ID_BYTES])
{
	struct salvage_object wanted;

	memcpy(wanted.id, id, sizeof wanted.id);
	return s->object_count > 0 ? bsearch(&wanted, s->objects, s->object_count, sizeof wanted, object_cmp) : NULL;
}

static bool
date_of(struct slice header, struct slice name, struct date_time *date_r)
{
	struct header_field f;

	if (!header_find(header, name, &f))
		return false;
	/* Received: ... ; date-time (RFC 5322 3.6.7). */
	size_t at = slice_rindex(f.value, ';');

	return date_rfc5322_parse(at < f.value.n ? slice_sub(f.value, at + 1, f.value.n) : f.value, date_r);
}

void
salvage_date(const struct salvage *s, const struct salvage_object *o, struct format_detail *d)
{
	struct date_time date = {.seconds = o->time};
	struct date_time found;
	uint8_t *room;
	int fd = object_open_any(s->root, o->id, NULL);
	int64_t got;

	if (fd >= 0) {
		room = mem_resize(NULL, HEADER_BYTES_MAX, 1);
		got = file_read(fd, 0, room, HEADER_BYTES_MAX, NULL);
		struct slice header = slice_of(room, got > 0 ? (size_t)got : 0);

		header = slice_sub(header, 0, header_block_length(header));
		if ((date_of(header, SLICE("Received"), &found) || date_of(header, SLICE("Date"), &found)) && found.seconds >= 0 &&
		    found.seconds <= (int64_t)s->now + FUTURE_SECONDS)
			date = found;
		free(room);
		(void)file_close(fd, NULL);
	}
	d->internal_date = date.seconds;
	d->zone_minutes = date.zone_minutes;
}
