/*
 * event_row: an event of the time line as the recorder gives it (traced/event.h): an object of JSON with time, role, session,
 * event and fields, all of them texts. What is missing is an empty text.
 */
#ifndef ADMIN_EVENT_ROW_H
#define ADMIN_EVENT_ROW_H

#include "common/slice.h"

#include <jansson.h>

/* Valid as long as the row. */
const char *event_row_text(const json_t *row, const char *key);
const char *event_row_field(const json_t *row, const char *key);
struct slice event_row_slice(const json_t *row, const char *key);
/* A field that is a number; 0 for what is none. */
uint64_t event_row_number(const json_t *row, const char *key);
bool event_row_is(const json_t *row, const char *session, const char *event);

#endif
