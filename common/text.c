/*
 * Folding works one code point at a time: utf8proc's own string functions
 * also sort combining marks, which takes quadratic time on a long run of
 * them, and mail that differs only in the order of marks does not occur.
 *
 * The finder is Knuth, Morris and Pratt's, since it needs no text behind the
 * current octet and stays linear for every needle and every chunk size.
 */
#include "common/text.h"

#include "common/charset.h"
#include "common/mem.h"

#include <assert.h>
#include <stdlib.h>
#include <utf8proc.h>

#define FOLD_POINTS_MAX 64 /* U+FDFA, the longest, gives 18 */
#define FOLD_CHUNK_BYTES 4096

static bool
fold_point(uint32_t cp, struct buf *out)
{
	utf8proc_int32_t points[FOLD_POINTS_MAX];
	int boundary = UTF8PROC_BOUNDCLASS_START;
	utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)cp, points, FOLD_POINTS_MAX,
	    UTF8PROC_COMPAT | UTF8PROC_DECOMPOSE | UTF8PROC_CASEFOLD, &boundary);

	if (n < 0 || n > FOLD_POINTS_MAX)
		return utf8_put(out, cp);
	for (utf8proc_ssize_t i = 0; i < n; i++)
		if (!utf8_put(out, (uint32_t)points[i]))
			return false;
	return true;
}

static size_t
ascii_run(struct slice s, size_t i)
{
	while (i < s.n && s.p[i] < 0x80)
		i++;
	return i;
}

bool
text_fold(struct slice s, struct buf *out)
{
	size_t i = 0;

	while (i < s.n) {
		size_t end = ascii_run(s, i);
		uint8_t *to = end > i ? buf_room(out, end - i) : NULL;

		if (end > i && to == NULL)
			return false;
		for (size_t k = i; k < end; k++)
			*to++ = ascii_lower(s.p[k]);
		buf_added(out, end - i);
		i = end;
		if (i < s.n) {
			uint32_t cp;

			i += utf8_next(slice_sub(s, i, s.n), &cp);
			if (!fold_point(cp, out))
				return false;
		}
	}
	return true;
}

static bool
is_control(uint32_t cp)
{
	return cp < 0x20 || (cp >= 0x7f && cp < 0xa0) || cp == 0x2028 || cp == 0x2029;
}

bool
text_is_net_unicode(struct slice s)
{
	utf8proc_uint8_t *nfc = NULL;
	bool same;

	if (s.n > TEXT_NET_UNICODE_BYTES_MAX || !utf8_valid(s))
		return false;
	for (size_t i = 0; i < s.n;) {
		uint32_t cp;

		i += utf8_next(slice_sub(s, i, s.n), &cp);
		if (is_control(cp))
			return false;
	}
	if (slice_is_ascii(s))
		return true;
	utf8proc_ssize_t n =
	    utf8proc_map(s.p, (utf8proc_ssize_t)s.n, &nfc, UTF8PROC_STABLE | UTF8PROC_COMPOSE);

	same = n >= 0 && slice_eq(slice_of(nfc, (size_t)n), s);
	free(nfc);
	return same;
}

bool
text_contains(struct slice hay, struct slice needle_folded)
{
	struct text_finder f;
	struct buf folded;

	buf_init(&folded, FOLD_CHUNK_BYTES * TEXT_FOLD_GROWTH_MAX);
	text_finder_init(&f, needle_folded);
	while (!f.found && hay.n > 0) {
		struct slice chunk = utf8_cut(hay, FOLD_CHUNK_BYTES);

		hay = slice_sub(hay, chunk.n, hay.n);
		buf_reset(&folded);
		text_fold(chunk, &folded);
		text_finder_feed(&f, buf_slice(&folded));
	}
	bool found = f.found;

	text_finder_fini(&f);
	buf_fini(&folded);
	return found;
}

void
text_finder_init(struct text_finder *f, struct slice needle_folded)
{
	assert(needle_folded.n <= TEXT_NEEDLE_BYTES_MAX);
	*f = (struct text_finder){.needle = needle_folded, .found = needle_folded.n == 0};
	f->fail = mem_new_array(needle_folded.n, sizeof *f->fail);
	uint32_t border = 0;

	for (size_t i = 1; i < needle_folded.n; i++) {
		while (border > 0 && needle_folded.p[border] != needle_folded.p[i])
			border = f->fail[border - 1];
		border += needle_folded.p[border] == needle_folded.p[i];
		f->fail[i] = border;
	}
}

void
text_finder_reset(struct text_finder *f)
{
	f->matched = 0;
	f->found = f->needle.n == 0;
}

void
text_finder_fini(struct text_finder *f)
{
	MEM_FREE(&f->fail);
}

void
text_finder_feed(struct text_finder *f, struct slice folded)
{
	for (size_t i = 0; !f->found && i < folded.n; i++) {
		if (f->matched == 0) {
			i += slice_index(slice_sub(folded, i, folded.n), f->needle.p[0]);
			if (i == folded.n)
				return;
		}
		while (f->matched > 0 && f->needle.p[f->matched] != folded.p[i])
			f->matched = f->fail[f->matched - 1];
		f->matched += f->needle.p[f->matched] == folded.p[i];
		f->found = f->matched == f->needle.n;
	}
}
