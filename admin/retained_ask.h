/*
 * retained_ask: what the commands about expunged messages and deleted mailboxes
 * have in common: which ones are meant, and the requests to the account's keeper, put again
 * to its successor when it dies. All block, say on stderr what went wrong, and give the exit status.
 */
#ifndef ADMIN_RETAINED_ASK_H
#define ADMIN_RETAINED_ASK_H

#include "admin/account_link.h"
#include "admin/progress.h"
#include "admin/retained_reader.h"
#include "store/retained.h"

/* ---- which ones ---- */

/* All that is said must be true; NULL is not said. Texts are contained, without regard to case (common/text.h). */
struct retained_filter {
	const char *mailbox; /* the exact name */
	uint64_t since;
	uint64_t before;
	const char *from;
	const char *subject;
	const char *summary; /* From, To, Cc, Subject or the beginning of the text */
	const char *text;    /* header or text */
};
#define RETAINED_FILTER_ARGS                                                                       \
	"[--mailbox NAME] [--since WHEN] [--before WHEN] [--from TEXT] [--subject TEXT] [--search TEXT] [--text TEXT]"
#define RETAINED_FILTER_WORDS_MAX 14
#define RETAINED_FILTER_HELP                                                                       \
	"--search looks at From, To, Cc, Subject and the beginning of the text; --text at the whole message.\n" COMMAND_WHEN_HELP

/* Takes its words out of argv; COMMAND_USAGE when one makes no sense. */
enum command_status retained_filter_words(const struct command_call *call, int *argc, struct retained_filter *filter_r);
/* Nothing is said. */
bool retained_filter_is_all(const struct retained_filter *f);

/* ---- the keeper ---- */

struct retained_link {
	const struct command_call *call;
	const char *address;
	struct command_link *keeper;
	uint8_t origin[STORE_ORIGIN_BYTES];
	uint64_t sequence;
	struct progress progress;
};

/* Until retained_close(). */
enum command_status retained_open(const struct command_call *call, const char *address, struct retained_link *l);
void retained_close(struct retained_link *l);
/*
 * Sends m and waits for the answer, of that type. Until the keeper answers, it or its successor is asked again: a change must have
 * l's origin and the next sequence, as RETAINED_ASK gives them. Descriptors of the answer are the caller's.
 */
enum command_status retained_ask(struct retained_link *l, const struct msg *m, enum msg_type type, struct msg *reply_r);
#define RETAINED_CHANGE(link, NAME, reply, ...)                                                    \
	retained_ask((link),                                                                       \
	    &(struct msg){.type = MSG_##NAME,                                                      \
		.u.NAME = (struct msg_##NAME){.id = command_id(),                                  \
		    .origin = slice_of((link)->origin, STORE_ORIGIN_BYTES),                        \
		    .sequence = ++(link)->sequence,                                                \
		    __VA_ARGS__}},                                                                 \
	    MSG_##NAME##_REPLY, (reply))

/* One that is meant; text is NULL for a mailbox, for a message that cannot be read, and when nobody asked for it. */
typedef void retained_fn(void *arg, const struct store_retained *r, const struct retained_text *text);
/* All that are meant, in the order of the list. summaries: fn wants them even when the filter does not. */
enum command_status retained_each(struct retained_link *l, const struct retained_filter *f, bool summaries, retained_fn *fn,
    void *arg);

/* ---- sets of messages ---- */

struct retained_ids {
	struct store_retained_id *list;
	size_t n;
	size_t cap;
};
void retained_ids_add(struct retained_ids *ids, uint32_t mailbox, uint32_t uid);
void retained_ids_fini(struct retained_ids *ids);
/* "7.12" */
bool retained_id_parse(struct slice text, struct store_retained_id *id_r);
/* A sealed memory file with n of them from `first` on, for a request; -1 after saying why. */
int retained_ids_file(const struct retained_ids *ids, size_t first, size_t n);

#endif
