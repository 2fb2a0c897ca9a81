#include "admin/event_row.h"

#include <string.h>

const char *
event_row_text(const json_t *row, const char *key)
{
	const char *text = json_string_value(json_object_get(row, key));

	return text != NULL ? text : "";
}

const char *
event_row_field(const json_t *row, const char *key)
{
	return event_row_text(json_object_get(row, "fields"), key);
}

struct slice
event_row_slice(const json_t *row, const char *key)
{
	return slice_str(event_row_field(row, key));
}

uint64_t
event_row_number(const json_t *row, const char *key)
{
	uint64_t number = 0;

	return slice_u64(event_row_slice(row, key), UINT64_MAX, &number) ? number : 0;
}

bool
event_row_is(const json_t *row, const char *session, const char *event)
{
	return strcmp(event_row_text(row, "session"), session) == 0 && strcmp(event_row_text(row, "event"), event) == 0;
}
