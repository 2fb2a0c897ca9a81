#include "common/roles.h"

#include <assert.h>

const struct role_info *
role_info(enum role role)
{
	static const struct role_info table[ROLE_COUNT] = {
#define ROLE(NAME, program, name, daemon, instances)                                               \
	[ROLE_##NAME] = {program, name, daemon, instances},
#include "common/roles.def"
#undef ROLE
	};

	assert((unsigned)role < ROLE_COUNT);
	return &table[role];
}
