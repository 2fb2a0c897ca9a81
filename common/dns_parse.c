/*
 * Reads DNS answer messages (RFC 1035 4.1). The packet comes from the resolver
 * process, which got it from the whole world: hostile. Compression pointers may only
 * point backwards, each further back than the one before, so that a name is read in at
 * most as many steps as the packet has octets; a name longer than 255 octets is refused at
 * once. The answer section is walked once per CNAME of the chain, at most 16 times.
 *
 * Nothing of a message that is malformed anywhere up to the end of its answer
 * section is believed: it counts as a temporary failure.
 */
#include "common/dns.h"

#include "common/cursor.h"
#include "common/dns_name.h"

#include <assert.h>

#define HEADER_BYTES 12
#define CHAIN_MAX 16
#define JUMPS_MAX 127 /* no name has more labels */
#define WIRE_NAME_BYTES_MAX 255
/* Every octet of a name may become "\DDD". */
#define TEXT_NAME_BYTES_MAX (4 * WIRE_NAME_BYTES_MAX)
#define CLASS_IN 1
#define RCODE_NXDOMAIN 3
#define RR_BYTES_MIN 11 /* of the root, without data */
#define POINTER_MARK 0xC0

struct name_text {
	uint8_t p[TEXT_NAME_BYTES_MAX];
	size_t n;
};

struct rr {
	uint16_t type;
	uint16_t class;
	uint32_t ttl;
	struct name_text owner;
	size_t data_at;
	struct slice data;
};

/* Octets that stand for themselves in the text form. */
static bool
plain_octet(uint8_t c)
{
	return c > 0x20 && c < 0x7f && c != '.' && c != '\\';
}

static void
name_put(struct name_text *t, uint8_t c)
{
	c = ascii_lower(c);
	if (plain_octet(c)) {
		t->p[t->n++] = c;
		return;
	}
	t->p[t->n++] = '\\';
	t->p[t->n++] = (uint8_t)('0' + c / 100);
	t->p[t->n++] = (uint8_t)('0' + c / 10 % 10);
	t->p[t->n++] = (uint8_t)('0' + c % 10);
}

/*
 * Reads the name at *at (RFC 1035 4.1.4) into t and moves *at behind it. False when it leaves the
 * packet, points forward or is too long.
 */
static bool
read_name(struct slice packet, size_t *at, struct name_text *t)
{
	size_t p = *at, lowest = *at, octets = 1;
	unsigned jumps = 0;

	t->n = 0;
	for (;;) {
		if (p >= packet.n)
			return false;
		uint8_t n = packet.p[p];

		if ((n & POINTER_MARK) == POINTER_MARK) {
			if (p + 1 >= packet.n)
				return false;
			size_t to = (size_t)(n & ~POINTER_MARK) << 8 | packet.p[p + 1];

			if (jumps == 0)
				*at = p + 2;
			if (to >= lowest || ++jumps > JUMPS_MAX)
				return false;
			p = lowest = to;
			continue;
		}
		if (n > DNS_LABEL_BYTES_MAX)
			return false;
		if (n == 0)
			break;
		octets += 1u + n;
		if (octets > WIRE_NAME_BYTES_MAX || packet.n - p - 1 < n)
			return false;
		if (t->n > 0)
			t->p[t->n++] = '.';
		for (uint8_t i = 0; i < n; i++)
			name_put(t, packet.p[p + 1 + i]);
		p += 1u + n;
	}
	if (jumps == 0)
		*at = p + 1;
	return true;
}

static bool
read_u16(struct slice packet, size_t *at, uint16_t *v_r)
{
	if (packet.n < 2 || *at > packet.n - 2)
		return false;
	*v_r = (uint16_t)(packet.p[*at] << 8 | packet.p[*at + 1]);
	*at += 2;
	return true;
}

static bool
read_rr(struct slice packet, size_t *at, struct rr *rr)
{
	uint16_t ttl_high, ttl_low, n;

	if (!read_name(packet, at, &rr->owner) || !read_u16(packet, at, &rr->type) ||
	    !read_u16(packet, at, &rr->class) || !read_u16(packet, at, &ttl_high) ||
	    !read_u16(packet, at, &ttl_low) || !read_u16(packet, at, &n))
		return false;
	if (packet.n - *at < n)
		return false;
	rr->ttl = (uint32_t)ttl_high << 16 | ttl_low;
	/* RFC 2181 8: the top bit set means zero. */
	if (rr->ttl > INT32_MAX)
		rr->ttl = 0;
	rr->data_at = *at;
	rr->data = slice_of(packet.p + *at, n);
	*at += n;
	return true;
}

static struct slice
name_slice(const struct name_text *t)
{
	return slice_of(t->p, t->n);
}

/* TXT: the character-strings joined without space (RFC 7208 3.3, RFC 6376 3.6.2.2). */
static bool
join_strings(struct slice data, struct arena *a, struct slice *text_r, bool *malformed)
{
	uint8_t *to = arena_alloc(a, data.n ? data.n : 1);
	size_t n = 0;

	if (to == NULL)
		return false;
	for (size_t i = 0; i < data.n;) {
		size_t len = data.p[i++];

		if (data.n - i < len) {
			*malformed = true;
			return true;
		}
		memcpy(to + n, data.p + i, len);
		n += len;
		i += len;
	}
	*text_r = slice_of(to, n);
	return true;
}

/* One record's data in the form of struct dns_record. False at the arena's cap. */
static bool
fill_record(struct slice packet, const struct rr *rr, struct arena *a, struct dns_record *r,
    bool *malformed)
{
	struct name_text name;
	size_t at = rr->data_at;

	switch (rr->type) {
	case DNS_A:
		*malformed |= rr->data.n != 4;
		return arena_copy(a, rr->data, &r->data);
	case DNS_AAAA:
		*malformed |= rr->data.n != 16;
		return arena_copy(a, rr->data, &r->data);
	case DNS_TXT:
		return join_strings(rr->data, a, &r->data, malformed);
	case DNS_MX:
		if (!read_u16(packet, &at, &r->preference)) {
			*malformed = true;
			return true;
		}
		/* fallthrough */
	case DNS_NS:
	case DNS_CNAME:
	case DNS_PTR:
		if (!read_name(packet, &at, &name) || at != rr->data_at + rr->data.n) {
			*malformed = true;
			return true;
		}
		return arena_copy(a, name_slice(&name), &r->name);
	default:
		return arena_copy(a, rr->data, &r->data);
	}
}

struct parse {
	struct slice packet;
	uint16_t type;
	size_t answers_at;
	uint16_t answers;
	unsigned records_max;
	struct arena *arena;
	struct dns_answer *answer;
	struct name_text owner; /* whose records are looked for */
	bool aliased;
	bool malformed;
};

/* The octet that an escape of the text form stands for ("\\DDD" or "\\c"); *i is moved behind it. */
static uint8_t
unescape(struct slice name, size_t *i)
{
	unsigned v = 0;

	for (size_t k = 0; k < 3; k++) {
		if (*i + k >= name.n || !ascii_digit(name.p[*i + k]))
			return *i < name.n ? name.p[(*i)++] : '\\';
		v = v * 10 + (name.p[*i + k] - '0');
	}
	*i += 3;
	return (uint8_t)v;
}

/* Brings the name asked into the form that read_name() makes; the final dot and letter case do not count. */
static void
set_owner(struct parse *p, struct slice name)
{
	p->owner.n = 0;
	for (size_t i = 0; i < name.n && p->owner.n + 4 <= TEXT_NAME_BYTES_MAX;) {
		uint8_t c = name.p[i++];

		if (c == '.' && i < name.n)
			p->owner.p[p->owner.n++] = c;
		else if (c != '.')
			name_put(&p->owner, c == '\\' ? unescape(name, &i) : c);
	}
}

/*
 * One walk over the answers: collects the records of (owner, type). When there is none but a CNAME of
 * owner, that becomes owner and *again is set. False at the arena's cap.
 */
static bool
walk_answers(struct parse *p, bool *again)
{
	struct dns_answer *answer = p->answer;
	struct name_text target;
	size_t at = p->answers_at;
	bool has_target = false;

	*again = false;
	for (uint16_t i = 0; i < p->answers; i++) {
		struct rr rr;

		if (!read_rr(p->packet, &at, &rr)) {
			p->malformed = true;
			return true;
		}
		if (rr.class != CLASS_IN || !slice_eq(name_slice(&rr.owner), name_slice(&p->owner)))
			continue;
		if (rr.type == DNS_CNAME && p->type != DNS_CNAME) {
			size_t data_at = rr.data_at;

			if (!read_name(p->packet, &data_at, &target)) {
				p->malformed = true;
				return true;
			}
			has_target = true;
		} else if (rr.type != p->type || answer->count == p->records_max) {
			continue;
		} else if (!fill_record(p->packet, &rr, p->arena, &answer->records[answer->count],
			       &p->malformed)) {
			return false;
		} else {
			answer->count++;
		}
		if (rr.ttl < answer->ttl)
			answer->ttl = rr.ttl;
	}
	if (answer->count == 0 && has_target && !p->malformed) {
		p->owner = target;
		p->aliased = *again = true;
	}
	return true;
}

/* Header and question section. */
static bool
read_head(struct parse *p, uint8_t *rcode_r)
{
	struct name_text ignored;
	uint16_t flags, questions, u;
	size_t at = 2;

	if (p->packet.n < HEADER_BYTES || !read_u16(p->packet, &at, &flags) ||
	    !read_u16(p->packet, &at, &questions) || !read_u16(p->packet, &at, &p->answers))
		return false;
	*rcode_r = flags & 0x0f;
	at = HEADER_BYTES;
	for (uint16_t i = 0; i < questions; i++)
		if (!read_name(p->packet, &at, &ignored) || !read_u16(p->packet, &at, &u) ||
		    !read_u16(p->packet, &at, &u))
			return false;
	p->answers_at = at;
	return true;
}

/* How many records there are at most, whatever the header says. */
static unsigned
records_room(const struct parse *p)
{
	size_t room = (p->packet.n - p->answers_at) / RR_BYTES_MIN;

	if (room > DNS_RECORDS_MAX)
		room = DNS_RECORDS_MAX;
	return room < p->answers ? (unsigned)room : p->answers;
}

bool
dns_answer_parse(struct slice packet, struct slice name, uint16_t type, struct arena *a,
    struct dns_answer *answer_r)
{
	struct parse p = {.packet = packet, .type = type, .arena = a, .answer = answer_r};
	bool again = true;
	uint8_t rcode;

	*answer_r = (struct dns_answer){.status = DNS_TEMP, .ttl = UINT32_MAX};
	if (!read_head(&p, &rcode) || (rcode != 0 && rcode != RCODE_NXDOMAIN)) {
		answer_r->ttl = 0;
		return true;
	}
	p.records_max = records_room(&p);
	answer_r->records = arena_array(a, p.records_max > 0 ? p.records_max : 1, sizeof *answer_r->records);
	if (answer_r->records == NULL)
		return false;
	set_owner(&p, name);
	for (unsigned i = 0; again && i <= CHAIN_MAX; i++)
		if (!walk_answers(&p, &again))
			return false;
	if (p.malformed || again) {
		answer_r->count = 0;
		answer_r->ttl = 0;
		return true;
	}
	if (p.aliased && !arena_copy(a, name_slice(&p.owner), &answer_r->alias))
		return false;
	if (answer_r->ttl == UINT32_MAX)
		answer_r->ttl = 0;
	if (answer_r->count > 0)
		answer_r->status = DNS_OK;
	else
		answer_r->status = rcode == RCODE_NXDOMAIN ? DNS_NXDOMAIN : DNS_NODATA;
	assert(answer_r->count <= DNS_RECORDS_MAX);
	return true;
}
