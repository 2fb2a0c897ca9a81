/*
 * Message sets to messages. A set is kept as ranges of indexes, so that `1:*` costs the same in a
 * mailbox of one message and of a million.
 */
#include "imapd/targets.h"

#include <assert.h>

/*
 * Sequence numbers: each end must be there (RFC 3501 9, seq-number). In an empty mailbox "*" is 0 and means nobody:
 * clients send "1:*" without looking whether there is anything.
 */
static bool
seq_ranges(struct session *s, const struct imap_set *set, struct targets *t)
{
	for (size_t i = 0; i < set->n; i++) {
		if (s->exists == 0 && set->v[i].low == 0)
			continue;
		if (set->v[i].high > s->exists || set->v[i].low == 0)
			return false;
		t->v[t->n++] = (struct target_range){set->v[i].low - 1, set->v[i].high};
	}
	return true;
}

static void
uid_ranges(struct session *s, const struct imap_set *set, struct targets *t)
{
	for (size_t i = 0; i < set->n; i++) {
		size_t from = session_seek(s, set->v[i].low);
		size_t to = set->v[i].high == UINT32_MAX ? s->exists : session_seek(s, set->v[i].high + 1);

		if (from < to)
			t->v[t->n++] = (struct target_range){from, to};
	}
}

static void
targets_rewind(struct targets *t)
{
	t->at = 0;
	t->index = t->n ? t->v[0].from : 0;
}

bool
session_targets(struct session *s, struct imap_set *set, bool uid, struct targets *targets_r)
{
	uint32_t last_uid = s->exists ? s->uids[s->exists - 1] : s->uid_next;

	*targets_r = (struct targets){0};
	targets_r->v = arena_array(s->arena, set->n, sizeof *targets_r->v);
	if (targets_r->v == NULL) {
		session_answer(s, "NO", "[LIMIT] ", "Command is too long");
		return false;
	}
	imap_set_resolve(set, uid ? last_uid : (uint32_t)s->exists);
	if (uid) {
		uid_ranges(s, set, targets_r);
	} else if (!seq_ranges(s, set, targets_r)) {
		session_bad(s, "No message with that number");
		return false;
	}
	targets_rewind(targets_r);
	return true;
}

void
targets_seek(struct targets *t, size_t index)
{
	for (t->at = 0; t->at < t->n && t->v[t->at].to <= index; t->at++)
		;
	if (t->at < t->n)
		t->index = index > t->v[t->at].from ? index : t->v[t->at].from;
}

bool
targets_next(struct targets *t, size_t *index_r)
{
	while (t->at < t->n) {
		if (t->index < t->v[t->at].to) {
			*index_r = t->index++;
			return true;
		}
		t->at++;
		if (t->at < t->n)
			t->index = t->v[t->at].from;
	}
	return false;
}

void
session_look_expunged(struct session *s, struct targets *t)
{
	size_t i;

	targets_rewind(t);
	while (s->expunge_due && !s->expunge_issued && targets_next(t, &i))
		s->expunge_issued = session_entry(s, s->uids[i]) == NULL;
	targets_rewind(t);
}

bool
session_target_uids(struct session *s, struct targets *t, struct uidset *set)
{
	for (size_t i = 0; i < t->n; i++)
		if (!uidset_add(set, s->uids[t->v[i].from], s->uids[t->v[i].to - 1]))
			return false;
	session_look_expunged(s, t);
	return true;
}
