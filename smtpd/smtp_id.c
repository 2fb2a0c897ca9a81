#include "smtpd/smtp_id.h"

#include <assert.h>
#include <sys/random.h>

#define RANDOM_CHARS 7 /* of a queue id */

static const char digits[] = "0123456789abcdefghjkmnpqrstvwxyz";

static uint64_t
random_u64(void)
{
	uint64_t r;
	ssize_t n = getrandom(&r, sizeof(r), 0);

	/* Eight octets are never cut short (getrandom(2)); without them no id is safe to give out. */
	assert(n == (ssize_t)sizeof(r));
	return r;
}

/* The n lowest groups of five bits, the highest first. */
static void
put_digits(uint64_t v, size_t n, char *out)
{
	while (n-- > 0) {
		out[n] = digits[v & 31];
		v >>= 5;
	}
}

void
smtp_session_id(char out[SMTP_SESSION_ID_CHARS + 1])
{
	put_digits(random_u64(), SMTP_SESSION_ID_CHARS, out);
	out[SMTP_SESSION_ID_CHARS] = '\0';
}

void
smtp_queue_id(uint64_t wall_ms, char out[SMTP_QUEUE_ID_CHARS + 1])
{
	static char last[RANDOM_CHARS];

	put_digits(wall_ms, SMTP_QUEUE_ID_CHARS - RANDOM_CHARS, out);
	do
		put_digits(random_u64(), RANDOM_CHARS, out + SMTP_QUEUE_ID_CHARS - RANDOM_CHARS);
	while (memcmp(out + SMTP_QUEUE_ID_CHARS - RANDOM_CHARS, last, RANDOM_CHARS) == 0);
	memcpy(last, out + SMTP_QUEUE_ID_CHARS - RANDOM_CHARS, RANDOM_CHARS);
	out[SMTP_QUEUE_ID_CHARS] = '\0';
}

uint64_t
smtp_queue_id_ms(struct slice id)
{
	uint64_t ms = 0;

	assert(smtp_queue_id_valid(id));
	for (size_t i = 0; i < SMTP_QUEUE_ID_CHARS - RANDOM_CHARS; i++)
		ms = ms << 5 | (uint64_t)((const char *)memchr(digits, id.p[i], sizeof(digits) - 1) - digits);
	return ms;
}

bool
smtp_queue_id_valid(struct slice id)
{
	if (id.n != SMTP_QUEUE_ID_CHARS)
		return false;
	for (size_t i = 0; i < id.n; i++)
		if (id.p[i] == '\0' || memchr(digits, id.p[i], sizeof(digits) - 1) == NULL)
			return false;
	return true;
}
