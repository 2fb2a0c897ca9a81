/*
 * Times as words of the command line.
 */
#include "admin/command.h"

#include "common/date.h"
#include "common/loop.h"

#define DURATION_SECONDS_MAX (3650ull * 86400)

bool
command_duration(const char *text, uint64_t *seconds_r)
{
	static const struct {
		char unit;
		uint64_t seconds;
	} units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
	struct slice s = slice_str(text);

	for (size_t i = 0; s.n > 0 && i < sizeof units / sizeof units[0]; i++) {
		if (s.p[s.n - 1] != (uint8_t)units[i].unit)
			continue;
		if (!slice_u64(
			slice_sub(s, 0, s.n - 1), DURATION_SECONDS_MAX / units[i].seconds, seconds_r))
			return false;
		*seconds_r *= units[i].seconds;
		return true;
	}
	return false;
}

bool
command_when(const char *text, uint64_t *time_r)
{
	uint64_t now = clock_wall_us() / 1000000, ago;
	int64_t time;

	if (command_duration(text, &ago)) {
		*time_r = now > ago ? now - ago : 0;
		return true;
	}
	if (!date_rfc3339_parse(slice_str(text), &time) || time < 0)
		return false;
	*time_r = (uint64_t)time;
	return true;
}
