/*
 * The roles and sets of them. A role's name, program and number come from common/roles.def alone.
 */
#ifndef COMMON_ROLES_H
#define COMMON_ROLES_H

#include <stdint.h>

enum role {
#define ROLE(NAME, program, name, daemon, instances) ROLE_##NAME,
#include "common/roles.def"
#undef ROLE
	ROLE_COUNT
};

#define ROLE_BIT(role) (UINT32_C(1) << (role))

struct role_info {
	const char *program;
	const char *name;
	const char *daemon;
	unsigned instances;
};

/* The row of a role; role < ROLE_COUNT. */
const struct role_info *role_info(enum role role);

#endif
