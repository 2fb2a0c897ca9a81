#include "smtpd/client_facts.h"

#include "common/cursor.h"

#include <assert.h>

const char *
client_iprev_name(enum client_iprev r)
{
	static const char *const names[CLIENT_IPREV_COUNT] = {"none", "pass", "fail", "temperror", "permerror"};

	assert(r < CLIENT_IPREV_COUNT);
	return names[r];
}

bool
client_facts_encode(const struct client_facts *f, struct buf *b)
{
	put_u8(b, CLIENT_FACTS_VERSION);
	put_u8(b, (uint8_t)f->iprev);
	put_slice(b, f->name);
	put_u16(b, f->count);
	for (uint16_t i = 0; i < f->count; i++) {
		put_slice(b, f->lists[i].zone);
		put_u8(b, f->lists[i].white);
		put_u8(b, f->lists[i].weight);
		buf_put(b, f->lists[i].answer, sizeof(f->lists[i].answer));
	}
	return !b->failed && f->name.n <= DNS_NAME_BYTES_MAX && f->count <= CLIENT_LISTS_MAX;
}

/* A name in A-labels, as dns_name_to_ascii() writes it. */
static struct slice
take_name(struct cursor *c)
{
	struct slice s = cursor_slice(c, DNS_NAME_BYTES_MAX);

	for (size_t i = 0; i < s.n; i++)
		if (!ascii_alpha(s.p[i]) && !ascii_digit(s.p[i]) && s.p[i] != '.' && s.p[i] != '-' && s.p[i] != '_')
			c->bad = true;
	return s;
}

static void
take_list(struct cursor *c, struct client_list *l)
{
	uint8_t white;
	struct slice answer;

	l->zone = take_name(c);
	white = cursor_u8(c);
	l->weight = cursor_u8(c);
	answer = cursor_take(c, sizeof(l->answer));
	l->white = white == 1;
	c->bad |= white > 1 || l->weight == 0 || l->weight > CLIENT_WEIGHT_MAX || answer.n != sizeof(l->answer);
	if (!c->bad)
		memcpy(l->answer, answer.p, answer.n);
}

bool
client_facts_decode(struct slice in, struct client_facts *facts_r)
{
	struct cursor c = cursor_of(in);
	uint8_t version, iprev;

	*facts_r = (struct client_facts){.count = 0};
	if (in.n == 0)
		return true;
	version = cursor_u8(&c);
	iprev = cursor_u8(&c);
	facts_r->name = take_name(&c);
	facts_r->count = cursor_u16(&c);
	if (c.bad || version != CLIENT_FACTS_VERSION || iprev >= CLIENT_IPREV_COUNT || facts_r->count > CLIENT_LISTS_MAX)
		return false;
	facts_r->iprev = (enum client_iprev)iprev;
	for (uint16_t i = 0; i < facts_r->count; i++)
		take_list(&c, &facts_r->lists[i]);
	return cursor_done(&c);
}

unsigned
client_facts_weight(const struct client_facts *f, bool white)
{
	unsigned sum = 0;

	for (uint16_t i = 0; i < f->count; i++)
		if (f->lists[i].white == white)
			sum += f->lists[i].weight;
	return sum;
}

/* ---- zones of a setting ---- */

/* "2" or "4-11" */
static bool
take_range(struct slice text, uint8_t codes[32])
{
	struct slice first;
	uint64_t from, to;

	if (!slice_cut(&text, '-', &first) || !slice_u64(first, 255, &from))
		return false;
	to = from;
	if (text.p != NULL && (!slice_u64(text, 255, &to) || to < from))
		return false;
	for (; from <= to; from++)
		codes[from / 8] |= (uint8_t)(1u << from % 8);
	return true;
}

static bool
parse(struct slice word, struct client_zone *z)
{
	struct slice rest = word, head, codes, range;
	struct buf ascii;
	uint64_t weight = CLIENT_WEIGHT_USUAL;
	bool good;

	(void)slice_cut(&rest, ':', &head);
	if (rest.p != NULL && (!slice_u64(rest, CLIENT_WEIGHT_MAX, &weight) || weight == 0))
		return false;
	codes = head;
	(void)slice_cut(&codes, '=', &z->zone);
	if (codes.p == NULL)
		memset(z->codes, 0xff, sizeof(z->codes));
	while (slice_cut(&codes, ',', &range))
		if (!take_range(range, z->codes))
			return false;
	z->weight = (uint8_t)weight;
	/* It is asked as it is written. */
	buf_init(&ascii, DNS_NAME_BYTES_MAX);
	good = slice_is_ascii(z->zone) && dns_name_to_ascii(z->zone, &ascii);
	buf_fini(&ascii);
	return good;
}

int
client_zone_next(struct slice *text, struct client_zone *zone_r)
{
	struct slice word;

	while (slice_cut(text, ' ', &word)) {
		if (word.n == 0)
			continue;
		*zone_r = (struct client_zone){.weight = 0};
		if (parse(word, zone_r))
			return 1;
		zone_r->zone = word;
		return -1;
	}
	return 0;
}

bool
client_zone_lists(const struct client_zone *z, const uint8_t answer[4])
{
	if (answer[0] != 127 || (answer[1] == 255 && answer[2] == 255))
		return false;
	return (z->codes[answer[3] / 8] >> answer[3] % 8 & 1) != 0;
}
