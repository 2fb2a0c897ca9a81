#include "pop3d/pop3_lang.h"

const char *
pop3_lang_answer(const struct pop3_command *c)
{
	/* A basic language range (RFC 4647 2.1, 3.3.1): a longer one, as "en-GB", does not have "en" in it. */
	bool chosen = c->args > 0 && (slice_eq_nocase(c->arg[0], SLICE("en")) || slice_eq(c->arg[0], SLICE("*")));

	if (c->args == 0)
		return "+OK Languages\r\nen English\r\n.";
	return chosen ? "+OK en English it is" : "-ERR There is only English";
}
