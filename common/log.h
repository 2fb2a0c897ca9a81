/*
 * log: one line per event, key=value, to stderr (the supervisor's journal). log_event(LOG_WARN,
 * session, "tls-refused", LOG_STR("peer", ip), LOG_NUM("alert", n), LOG_END); Values are escaped
 * and quoted here; a struct secret has no LOG_ macro. A line is at most LOG_LINE_BYTES_MAX, then
 * cut with "...".
 */
#ifndef COMMON_LOG_H
#define COMMON_LOG_H

#include "common/buf.h"
#include "common/err.h"
#include "common/slice.h"

#define LOG_LINE_BYTES_MAX 2048

enum log_level {
	LOG_DEBUG,
	LOG_INFO,
	LOG_WARN, /* the operator can act */
	LOG_ERROR,
	LOG_BUG,
};

struct log_field {
	const char *key; /* NULL ends the list */
	struct slice text;
	int64_t number;
	bool is_number;
};
#define LOG_STR(k, s) ((struct log_field){.key = (k), .text = (s)})
#define LOG_CSTR(k, s) ((struct log_field){.key = (k), .text = slice_str(s)})
#define LOG_NUM(k, v) ((struct log_field){.key = (k), .number = (int64_t)(v), .is_number = true})
#define LOG_ERR(e) LOG_CSTR("error", (e)->detail[0] ? (e)->detail : (e)->client)
#define LOG_END ((struct log_field){.key = NULL})

/* Sets the name that each line carries ("smtp-front"); name must stay valid. */
void log_init(const char *role, enum log_level least);
/* session may be empty. */
void log_event_fields(
    enum log_level level, struct slice session, const char *event, const struct log_field *fields);
#define log_event(level, session, event, ...)                                                      \
	log_event_fields((level), (session), (event), (const struct log_field[]){__VA_ARGS__})
/* As log_event_fields() with fields that log_put_fields() has made already (" key=value ..."). */
void log_event_text(
    enum log_level level, struct slice session, const char *event, struct slice fields);
#define NO_SESSION slice_of(NULL, 0)

/* Appends " key=value" pairs, escaped the same way; used for role_trace(). */
void log_put_fields(struct buf *b, const struct log_field *fields);

#endif
