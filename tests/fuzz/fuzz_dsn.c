/*
 * Reports about an item of the queue, whose octets are the input up to an empty line; what follows is the original. Whatever they hold:
 * a report is a message of three parts with lines of CRLF, none too long, and comes out the same twice.
 */
#include "common/cursor.h"
#include "common/mime.h"
#include "smtpd/dsn_item.h"
#include "smtpd/dsn_words.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LINE_OCTETS_MAX 998

static void
must(bool holds)
{
	if (!holds)
		abort();
}

static void
check_lines(struct slice s, bool eightbit)
{
	size_t line = 0;

	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] == '\r') {
			must(i + 1 < s.n && s.p[i + 1] == '\n');
			i++;
			line = 0;
			continue;
		}
		must(s.p[i] != '\n' && s.p[i] != '\0' && ++line <= LINE_OCTETS_MAX);
	}
	must(slice_is_ascii(s) == !eightbit);
}

/* The boundary of the first field that names one stands on four lines of its own. */
static void
check_parts(struct slice s)
{
	size_t at = slice_find(s, SLICE("boundary=\"")) + 10;
	struct slice name = slice_sub(s, at, at + slice_index(slice_sub(s, at, s.n), '"'));
	unsigned n = 0;

	must(name.n > 0);
	for (struct slice rest = s; rest.n > 0; n++) {
		size_t next = slice_find(rest, name);
		if (next == rest.n)
			break;
		rest = slice_sub(rest, next + name.n, rest.n);
	}
	must(n == 5); /* its own field, and four lines */
}

static void
report(const struct queue_item *item, struct slice original, unsigned how, struct arena *a)
{
	struct dsn_report r;
	struct buf one, two;
	bool utf8, eightbit;

	if (!dsn_report_begin(item, a, &r))
		return;
	r.id = SLICE("0123456789abcdef");
	r.hostname = SLICE("mail.demo.test");
	r.postmaster = SLICE("postmaster@demo.test");
	r.eightbit = how & 1;
	r.original = original;
	r.original_whole = how & 2;
	r.now = r.last_attempt = r.until = 1;
	buf_init(&one, DSN_BYTES_MAX);
	buf_init(&two, DSN_BYTES_MAX);
	struct arena *scratch = arena_new(DSN_ARENA_BYTES_MAX);
	if (dsn_write(&r, scratch, &one, &utf8, &eightbit)) {
		check_lines(buf_slice(&one), eightbit);
		check_parts(buf_slice(&one));
		arena_reset(scratch);
		must(dsn_write(&r, scratch, &two, &utf8, &eightbit) && slice_eq(buf_slice(&one), buf_slice(&two)));
	} else {
		/* The only reasons: no address to send it to, or one of the many limits of a hostile item. */
		must(one.n == 0 || one.failed || item->count > 1);
	}
	arena_free(&scratch);
	buf_fini(&one);
	buf_fini(&two);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice in = slice_of(data, size);
	struct arena *a = arena_new(8u << 20);
	struct cursor c = cursor_of(in);
	unsigned how = cursor_u8(&c);
	struct slice encoded = cursor_slice(&c, QUEUE_ITEM_BYTES_MAX);
	struct slice original = slice_sub(in, in.n - (c.bad ? 0 : cursor_left(&c)), in.n);
	struct queue_item item;

	(void)dsn_words_of(slice_sub(in, 0, 5), slice_sub(in, 5, in.n));
	if (!c.bad && queue_item_decode(encoded, a, &item)) {
		for (uint16_t i = 0; i < item.count; i++) {
			enum dsn_action due = dsn_due(&item, i, how & 4);
			must(item.mail_from.n > 0 || due == DSN_NONE);
			must(due == DSN_NONE || !(item.recipients[i].flags & dsn_told_flag(due)));
			if (how & 8 && due != DSN_NONE)
				item.recipients[i].flags |= (uint8_t)(dsn_told_flag(due) | QUEUE_IN_REPORT);
		}
		report(&item, original, how, a);
	}
	arena_free(&a);
	return 0;
}
