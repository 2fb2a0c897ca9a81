#include "common/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int
err_set(struct err *e, enum err_class class, enum err_code code, const char *client,
    const char *detail, ...)
{
	if (e == NULL)
		return -1;
	e->class = class;
	e->code = code;
	snprintf(e->client, sizeof e->client, "%s", client);
	e->detail[0] = '\0';
	if (detail) {
		va_list ap;

		va_start(ap, detail);
		vsnprintf(e->detail, sizeof e->detail, detail, ap);
		va_end(ap);
	}
	return -1;
}

int
err_sys(struct err *e, int errnum, const char *what)
{
	bool full = errnum == ENOSPC || errnum == EDQUOT;

	return err_set(e, ERR_TEMP, full ? ERR_CODE_NO_SPACE : ERR_CODE_UNAVAILABLE,
	    full ? "insufficient storage" : "temporary failure", "%s: %s", what,
	    strerror(errnum));
}

void
err_clear(struct err *e)
{
	*e = (struct err){0};
}

const char *
err_class_name(enum err_class class)
{
	static const char *const names[] = {"none", "temp", "perm", "limit", "bug"};

	return (unsigned)class < sizeof names / sizeof names[0] ? names[class] : "?";
}
