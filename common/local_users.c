#include "common/local_users.h"

/* A user's name, as it may stand in /etc/passwd; what it means is for the system to know. */
static bool
is_user(struct slice s)
{
	if (s.n == 0 || s.n > LOCAL_USER_BYTES_MAX)
		return false;
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] <= ' ' || s.p[i] >= 0x7f || s.p[i] == ':' || s.p[i] == '/')
			return false;
	return true;
}

static bool
is_address(struct slice s)
{
	size_t at = slice_rindex(s, '@');

	return at > 0 && at + 1 < s.n && s.n <= LOCAL_USER_ADDRESS_BYTES_MAX;
}

int
local_user_next(struct slice *text, struct local_user *user_r)
{
	struct slice rest;

	do {
		*user_r = (struct local_user){.word = {NULL, 0}};
		if (!slice_cut(text, ' ', &user_r->word))
			return 0;
	} while (user_r->word.n == 0);
	rest = user_r->word;
	if (!slice_cut(&rest, '=', &user_r->user) || !is_user(user_r->user) || !is_address(rest)) {
		user_r->user = slice_of(NULL, 0);
		return -1;
	}
	user_r->address = rest;
	return 1;
}

bool
local_users_valid(struct slice text)
{
	struct local_user user;
	unsigned n = 0;
	int got;

	while ((got = local_user_next(&text, &user)) > 0)
		if (++n > LOCAL_USERS_MAX)
			return false;
	return got == 0;
}
