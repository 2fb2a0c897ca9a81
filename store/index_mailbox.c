/*
 * Names. A mailbox has a number for life; what it is called may change. Three
 * kinds of records share the table: mailboxes; names without messages (a
 * subscription that outlived its mailbox, or a superior that was deleted); and
 * deleted mailboxes, which nobody sees but undelete until their time is over.
 *
 * UIDVALIDITY comes from one counter per account, so no two mailboxes share
 * one. A renamed mailbox keeps its value only when that is higher than any
 * value that a name ever lost: then no client can see a name's value go down
 * (RFC 9051 2.3.1.1).
 */
#include "store/index_private.h"

#include "common/mem.h"
#include "store/mailbox_list.h"
#include "store/name.h"

#include <assert.h>

/* ---- the table ---- */

static size_t
seek_number(const struct index *ix, uint32_t number)
{
	size_t low = 0, high = ix->mailbox_count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (ix->mailboxes[mid]->m.number < number)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

struct index_mailbox *
index_mailbox_get(const struct index *ix, uint32_t number)
{
	size_t i = seek_number(ix, number);

	return i < ix->mailbox_count && ix->mailboxes[i]->m.number == number ? ix->mailboxes[i] : NULL;
}

struct index_mailbox *
index_mailbox_open(struct index *ix, uint32_t number, struct err *e)
{
	struct index_mailbox *mb = index_mailbox_get(ix, number);

	if (mb != NULL && mb->m.selectable && mb->m.gone_at == 0)
		return mb;
	err_set(e, ERR_PERM, ERR_CODE_NOT_FOUND, "no such mailbox", NULL);
	return NULL;
}

static void
set_name(struct index_mailbox *mb, struct slice name)
{
	char *copy = mem_copy_str(name.p, name.n);

	free(mb->name);
	mb->name = copy;
	mb->m.name = slice_of(mb->name, name.n);
	mb->dirty = true;
}

static struct index_mailbox *
table_add(struct index *ix, uint32_t number)
{
	struct index_mailbox *mb = MEM_NEW(struct index_mailbox);
	size_t at = seek_number(ix, number);

	if (ix->mailbox_count == ix->mailbox_cap) {
		ix->mailbox_cap = ix->mailbox_cap ? ix->mailbox_cap * 2 : 16;
		ix->mailboxes = mem_resize(ix->mailboxes, ix->mailbox_cap, sizeof(struct index_mailbox *));
	}
	memmove(&ix->mailboxes[at + 1], &ix->mailboxes[at], (ix->mailbox_count - at) * sizeof(struct index_mailbox *));
	ix->mailboxes[at] = mb;
	ix->mailbox_count++;
	mb->m.number = number;
	buf_init(&mb->keywords, INDEX_KEYWORDS_BYTES_MAX);
	return mb;
}

static void
mailbox_free(struct index_mailbox *mb)
{
	free(mb->name);
	buf_fini(&mb->keywords);
	free(mb);
}

void
index_mailbox_forget(struct index *ix, struct index_mailbox *mb)
{
	size_t at = seek_number(ix, mb->m.number);

	assert(ix->mailboxes[at] == mb);
	ix->mailbox_count--;
	memmove(&ix->mailboxes[at], &ix->mailboxes[at + 1], (ix->mailbox_count - at) * sizeof(struct index_mailbox *));
	mailbox_free(mb);
}

void
index_mailboxes_free(struct index *ix)
{
	for (size_t i = 0; i < ix->mailbox_count; i++)
		mailbox_free(ix->mailboxes[i]);
	ix->mailbox_count = 0;
}

int
index_mailbox_load(struct index *ix, const struct format_mailbox *m, struct err *e)
{
	struct index_mailbox *mb;

	if (ix->mailbox_count >= INDEX_MAILBOXES_READ_MAX)
		return env_refuse(ix->env, "too many mailboxes", e);
	mb = table_add(ix, m->number);
	mb->m = *m;
	set_name(mb, m->name);
	mb->dirty = false;
	return 0;
}

struct index_mailbox *
index_mailbox_new(struct index *ix, struct slice name)
{
	struct index_mailbox *mb = table_add(ix, ix->account.next_mailbox++);

	mb->m.uidnext = 1;
	mb->m.recent_uid = 1;
	mb->m.uidvalidity = ix->account.next_uidvalidity++;
	mb->m.selectable = true;
	mb->m.highestmodseq = mb->m.tombstone_floor = index_modseq_next(ix);
	set_name(mb, name);
	return mb;
}

static int
save_keywords(struct index *ix, struct index_mailbox *mb, struct err *e)
{
	struct format_key key = format_key_u32(FORMAT_KEYWORDS, mb->m.number);

	format_begin(&ix->value, FORMAT_KEYWORDS, 0);
	buf_put_slice(&ix->value, buf_slice(&mb->keywords));
	bool ok = format_end(&ix->value, format_key_slice(&key));

	assert(ok);
	return index_put(ix, &key, &ix->value, e);
}

int
index_mailboxes_save(struct index *ix, struct err *e)
{
	for (size_t i = 0; i < ix->mailbox_count; i++) {
		struct index_mailbox *mb = ix->mailboxes[i];
		struct format_key key = format_key_u32(FORMAT_MAILBOX, mb->m.number);

		if (mb->dirty) {
			bool ok = format_mailbox_put(&ix->value, &mb->m);

			assert(ok);
			if (index_put(ix, &key, &ix->value, e) < 0)
				return -1;
		}
		if (mb->keywords_dirty && save_keywords(ix, mb, e) < 0)
			return -1;
		mb->dirty = mb->keywords_dirty = false;
	}
	return 0;
}

/* ---- by name ---- */

/* The record of a name, deleted mailboxes left out. */
static struct index_mailbox *
find_name(const struct index *ix, struct slice name)
{
	for (size_t i = 0; i < ix->mailbox_count; i++) {
		struct index_mailbox *mb = ix->mailboxes[i];

		if (mb->m.gone_at == 0 && slice_eq(mb->m.name, name))
			return mb;
	}
	return NULL;
}

static bool
has_inferiors(const struct index *ix, struct slice name)
{
	for (size_t i = 0; i < ix->mailbox_count; i++)
		if (ix->mailboxes[i]->m.gone_at == 0 && ix->mailboxes[i]->m.selectable &&
		    name_is_below(ix->mailboxes[i]->m.name, name))
			return true;
	return false;
}

static int
room_for(const struct index *ix, struct err *e)
{
	size_t names = 0;

	for (size_t i = 0; i < ix->mailbox_count; i++)
		names += ix->mailboxes[i]->m.gone_at == 0;
	if (names < STORE_MAILBOXES_MAX && ix->mailbox_count < INDEX_MAILBOXES_MAX)
		return 0;
	return err_set(e, ERR_LIMIT, ERR_CODE_NONE, "too many mailboxes", NULL);
}

static void
table_changed(struct index *ix, uint32_t gone)
{
	(void)index_change_add(ix, INDEX_CHANGE_TABLE, gone);
}

static void
retire_uidvalidity(struct index *ix, uint32_t value)
{
	if (value > ix->account.retired_uidvalidity)
		ix->account.retired_uidvalidity = value;
}

/* ---- verbs ---- */

/* A mailbox of that name, made from the bare name when that is there. */
static struct index_mailbox *
make(struct index *ix, struct slice name, struct err *e)
{
	struct index_mailbox *mb = find_name(ix, name);

	if (mb != NULL && mb->m.selectable) {
		err_set(e, ERR_PERM, ERR_CODE_EXISTS, "the mailbox exists", NULL);
		return NULL;
	}
	if (mb == NULL)
		return room_for(ix, e) < 0 ? NULL : index_mailbox_new(ix, name);
	mb->m.selectable = true;
	mb->m.uidvalidity = ix->account.next_uidvalidity++;
	mb->m.highestmodseq = mb->m.tombstone_floor = index_modseq_next(ix);
	mb->dirty = true;
	return mb;
}

/* RFC 9051 6.3.4: "the server SHOULD create any superior hierarchical names". */
static int
make_superiors(struct index *ix, struct slice name, struct err *e)
{
	struct slice parent;

	for (size_t i = 0; i < name.n; i++) {
		if (name.p[i] != '/')
			continue;
		parent = slice_sub(name, 0, i);
		if (name_is_inbox(parent))
			continue;
		struct index_mailbox *mb = find_name(ix, parent);

		if ((mb == NULL || !mb->m.selectable) && make(ix, parent, e) == NULL)
			return -1;
	}
	return 0;
}

/* A special use belongs to one mailbox. */
static int
take_special_use(struct index *ix, struct index_mailbox *mb, uint32_t special_use, struct err *e)
{
	if (special_use & ~STORE_USES_ALL)
		return err_set(e, ERR_PERM, ERR_CODE_BAD_NAME, "special use not supported", NULL);
	for (size_t i = 0; i < ix->mailbox_count; i++)
		if (ix->mailboxes[i]->m.gone_at == 0 && (ix->mailboxes[i]->m.special_use & special_use) != 0)
			return err_set(e, ERR_PERM, ERR_CODE_EXISTS, "another mailbox has that special use", NULL);
	mb->m.special_use |= special_use;
	mb->dirty = true;
	return 0;
}

static int
create(struct index *ix, struct slice name, uint32_t special_use, struct index_mailbox **mb_r, struct err *e)
{
	if (make_superiors(ix, name, e) < 0 || (*mb_r = make(ix, name, e)) == NULL)
		return -1;
	table_changed(ix, 0);
	return take_special_use(ix, *mb_r, special_use, e);
}

/* Leaves the bare name behind when something hangs on it. */
static void
leave_name(struct index *ix, struct slice name, bool subscribed)
{
	struct index_mailbox *ghost;

	if (!subscribed && !has_inferiors(ix, name))
		return;
	ghost = table_add(ix, ix->account.next_mailbox++);
	ghost->m.uidnext = ghost->m.recent_uid = 1;
	ghost->m.uidvalidity = ix->account.next_uidvalidity++;
	ghost->m.subscribed = subscribed;
	set_name(ghost, name);
}

int
index_mailbox_erase(struct index *ix, struct index_mailbox *mb, struct err *e)
{
	struct format_key key = format_key_u32(FORMAT_MAILBOX, mb->m.number);
	struct format_key keywords = format_key_u32(FORMAT_KEYWORDS, mb->m.number);

	if (env_delete(ix->env, format_key_slice(&key), e) < 0 || env_delete(ix->env, format_key_slice(&keywords), e) < 0)
		return index_failed(ix);
	index_mailbox_forget(ix, mb);
	return 0;
}

/* A mailbox with all that is in it goes from one sum of the account to the other. False when they contradict it. */
static bool
move_usage(const struct format_mailbox *m, uint64_t *messages, uint64_t *bytes, uint64_t *to_messages, uint64_t *to_bytes)
{
	if (*messages < m->messages || *bytes < m->bytes)
		return false;
	*messages -= m->messages;
	*bytes -= m->bytes;
	*to_messages += m->messages;
	*to_bytes += m->bytes;
	return true;
}

/* Its messages stay where they are, and count as retained. */
static int
delete_mailbox(struct index *ix, struct slice name, struct err *e)
{
	struct index_mailbox *mb = find_name(ix, name);

	if (name_is_inbox(name))
		return err_set(e, ERR_PERM, ERR_CODE_BAD_NAME, "INBOX stays", NULL);
	if (mb == NULL)
		return err_set(e, ERR_PERM, ERR_CODE_NOT_FOUND, "no such mailbox", NULL);
	if (!mb->m.selectable) {
		if (has_inferiors(ix, name))
			return err_set(e, ERR_PERM, ERR_CODE_HAS_CHILDREN, "the name has inferiors", NULL);
		if (mb->m.subscribed)
			return err_set(e, ERR_PERM, ERR_CODE_NOT_FOUND, "no such mailbox", NULL);
		table_changed(ix, 0);
		return index_mailbox_erase(ix, mb, e);
	}
	retire_uidvalidity(ix, mb->m.uidvalidity);
	mb->m.gone_at = ix->now ? ix->now : 1;
	mb->dirty = true;
	if (!move_usage(&mb->m, &ix->account.messages, &ix->account.bytes, &ix->account.retained_messages,
		&ix->account.retained_bytes))
		return env_refuse(ix->env, "the usage of the account", e);
	table_changed(ix, mb->m.number);
	leave_name(ix, mb->m.name, mb->m.subscribed);
	return 0;
}

struct index_mailbox *
index_mailbox_named(struct index *ix, struct slice name, struct err *e)
{
	struct index_mailbox *mb = find_name(ix, name);

	if (mb != NULL && mb->m.selectable)
		return mb;
	return create(ix, name, 0, &mb, e) == 0 ? mb : NULL;
}

/* What the target name of a rename is, to be ready for it: nothing, or a bare name that gives way. */
static int
clear_target(struct index *ix, struct slice name, bool *subscribed_r, struct err *e)
{
	struct index_mailbox *mb = find_name(ix, name);

	*subscribed_r = false;
	if (mb == NULL)
		return 0;
	if (mb->m.selectable)
		return err_set(e, ERR_PERM, ERR_CODE_EXISTS, "the mailbox exists", NULL);
	*subscribed_r = mb->m.subscribed;
	return index_mailbox_erase(ix, mb, e);
}

static int
rename_one(struct index *ix, struct index_mailbox *mb, struct slice new_name, struct err *e)
{
	bool subscribed;
	struct slice checked;

	if (name_check(new_name, &checked, e) < 0 || clear_target(ix, checked, &subscribed, e) < 0)
		return -1;
	mb->m.subscribed = mb->m.subscribed || subscribed;
	if (mb->m.uidvalidity <= ix->account.retired_uidvalidity) {
		mb->m.uidvalidity = ix->account.next_uidvalidity++;
	}
	retire_uidvalidity(ix, mb->m.uidvalidity);
	set_name(mb, checked);
	return 0;
}

/* The special uses that no other mailbox took meanwhile. */
static uint32_t
free_uses(const struct index *ix, const struct index_mailbox *mb)
{
	uint32_t uses = mb->m.special_use;

	for (size_t i = 0; i < ix->mailbox_count; i++)
		if (ix->mailboxes[i]->m.gone_at == 0)
			uses &= ~ix->mailboxes[i]->m.special_use;
	return uses;
}

int
index_undelete_mailbox(struct index *ix, uint32_t number, struct slice name, struct quota limit,
    uint32_t *uidvalidity_r, struct err *e)
{
	struct index_mailbox *mb = index_mailbox_get(ix, number), *other;
	bool subscribed;

	if (mb == NULL || mb->m.gone_at == 0)
		return err_set(e, ERR_PERM, ERR_CODE_NOT_FOUND, "no such deleted mailbox", NULL);
	if (name_check(slice_empty(name) ? mb->m.name : name, &name, e) < 0)
		return -1;
	other = find_name(ix, name);
	if (other != NULL && other->m.selectable)
		return err_set(e, ERR_PERM, ERR_CODE_EXISTS, "the mailbox exists", NULL);
	if (index_quota_check(ix, limit, (struct quota){mb->m.bytes, mb->m.messages}, e) < 0)
		return -1;
	if ((other == NULL && room_for(ix, e) < 0) || make_superiors(ix, name, e) < 0 ||
	    clear_target(ix, name, &subscribed, e) < 0)
		return -1;
	if (!move_usage(&mb->m, &ix->account.retained_messages, &ix->account.retained_bytes, &ix->account.messages,
		&ix->account.bytes))
		return env_refuse(ix->env, "the usage of the account", e);
	mb->m.special_use = free_uses(ix, mb);
	mb->m.subscribed = mb->m.subscribed || subscribed;
	mb->m.gone_at = 0;
	/* When it has the highest value that was ever lost, no name had a higher one: its clients' copies stay true. */
	if (mb->m.uidvalidity < ix->account.retired_uidvalidity)
		mb->m.uidvalidity = ix->account.next_uidvalidity++;
	set_name(mb, name);
	*uidvalidity_r = mb->m.uidvalidity;
	table_changed(ix, 0);
	return 0;
}

/* RFC 9051 6.3.6: inferiors are renamed too. The list is taken first: rename_one() changes the table. */
static int
rename_inferiors(struct index *ix, struct slice name, struct slice new_name, struct err *e)
{
	size_t n = 0;
	struct index_mailbox **list = mem_new_array(ix->mailbox_count + 1, sizeof(struct index_mailbox *));
	struct buf b;
	int failed = 0;

	for (size_t i = 0; i < ix->mailbox_count; i++)
		if (ix->mailboxes[i]->m.gone_at == 0 && name_is_below(ix->mailboxes[i]->m.name, name))
			list[n++] = ix->mailboxes[i];
	buf_init(&b, 2 * (size_t)STORE_NAME_BYTES_MAX);
	for (size_t i = 0; failed == 0 && i < n; i++) {
		buf_reset(&b);
		buf_put_slice(&b, new_name);
		buf_put_slice(&b, slice_sub(list[i]->m.name, name.n, list[i]->m.name.n));
		failed = rename_one(ix, list[i], buf_slice(&b), e);
	}
	buf_fini(&b);
	free(list);
	return failed;
}

/* RFC 9051 6.3.6: INBOX's messages move to the new mailbox; INBOX and its inferiors stay. */
static int
rename_inbox(struct index *ix, struct index_mailbox *inbox, struct slice new_name, struct index_mailbox **mb_r,
    struct err *e)
{
	struct message_list l = {0};
	int failed = -1;

	if (create(ix, new_name, 0, mb_r, e) == 0) {
		buf_put_slice(&(*mb_r)->keywords, buf_slice(&inbox->keywords));
		(*mb_r)->keywords_dirty = true;
		if (messages_remove(ix, inbox, uidset_all(), 0, &l, e) == 0 && messages_add(ix, *mb_r, &l, e) == 0)
			failed = 0;
	}
	message_list_fini(&l);
	return failed;
}

static int
rename_mailbox(struct index *ix, struct slice name, struct slice new_name, struct index_mailbox **mb_r, struct err *e)
{
	struct index_mailbox *mb = find_name(ix, name);
	struct buf old;
	int failed;

	if (mb == NULL || (!mb->m.selectable && !has_inferiors(ix, name)))
		return err_set(e, ERR_PERM, ERR_CODE_NOT_FOUND, "no such mailbox", NULL);
	if (slice_eq(name, new_name) || find_name(ix, new_name) != NULL) {
		struct index_mailbox *target = find_name(ix, new_name);

		if (target->m.selectable || has_inferiors(ix, new_name))
			return err_set(e, ERR_PERM, ERR_CODE_EXISTS, "the mailbox exists", NULL);
	}
	if (name_is_below(new_name, name) && !name_is_inbox(name))
		return err_set(e, ERR_PERM, ERR_CODE_BAD_NAME, "a mailbox cannot go below itself", NULL);
	*mb_r = mb;
	if (name_is_inbox(name))
		return rename_inbox(ix, mb, new_name, mb_r, e);
	if (make_superiors(ix, new_name, e) < 0)
		return -1;
	buf_init(&old, STORE_NAME_BYTES_MAX);
	buf_put_slice(&old, mb->m.name);
	failed = rename_one(ix, mb, new_name, e) < 0 || rename_inferiors(ix, buf_slice(&old), new_name, e) < 0;
	buf_fini(&old);
	table_changed(ix, 0);
	return failed ? -1 : 0;
}

static int
subscribe(struct index *ix, struct slice name, bool on, struct err *e)
{
	struct index_mailbox *mb = find_name(ix, name);

	if (mb == NULL && !on)
		return 0;
	if (mb == NULL) {
		if (room_for(ix, e) < 0)
			return -1;
		leave_name(ix, name, true);
	} else {
		mb->m.subscribed = on;
		mb->dirty = true;
		if (!on && !mb->m.selectable && !has_inferiors(ix, name) && index_mailbox_erase(ix, mb, e) < 0)
			return -1;
	}
	table_changed(ix, 0);
	return 0;
}

int
index_mailbox_change(struct index *ix, unsigned verb, struct slice name, struct slice new_name,
    uint32_t special_use, uint32_t *number_r, uint32_t *uidvalidity_r, struct err *e)
{
	struct index_mailbox *mb = NULL;
	int failed;

	*number_r = *uidvalidity_r = 0;
	if (name_check(name, &name, e) < 0 || (verb == MBOX_RENAME && name_check(new_name, &new_name, e) < 0))
		return -1;
	switch (verb) {
	case MBOX_CREATE:
		failed = create(ix, name, special_use, &mb, e);
		break;
	case MBOX_DELETE:
		failed = delete_mailbox(ix, name, e);
		break;
	case MBOX_RENAME:
		failed = rename_mailbox(ix, name, new_name, &mb, e);
		break;
	case MBOX_SUBSCRIBE:
	case MBOX_UNSUBSCRIBE:
		failed = subscribe(ix, name, verb == MBOX_SUBSCRIBE, e);
		break;
	default:
		return err_set(e, ERR_PERM, ERR_CODE_MALFORMED, "internal error", "mailbox verb %u", verb);
	}
	if (failed == 0 && mb != NULL) {
		*number_r = mb->m.number;
		*uidvalidity_r = mb->m.uidvalidity;
	}
	return failed;
}

/* ---- imports ---- */

/* Under target's name nobody can have seen a message, nor a UIDVALIDITY that is as high. */
static bool
can_take_place(const struct index *ix, const struct index_mailbox *target, uint32_t uidvalidity, uint32_t uidnext)
{
	return target->m.uidnext == 1 && uidvalidity > ix->account.retired_uidvalidity && uidvalidity <= STORE_IMPORT_MAX &&
	    uidnext <= STORE_IMPORT_MAX;
}

/* mb becomes what target is; target, which never had a message, is no more. */
static int
take_place(struct index *ix, struct index_mailbox *mb, struct index_mailbox *target, uint32_t uidvalidity, uint32_t uidnext,
    struct err *e)
{
	uint8_t name[STORE_NAME_BYTES_MAX];
	size_t n = target->m.name.n;

	assert(n <= sizeof name);
	memcpy(name, target->m.name.p, n);
	mb->m.uidvalidity = uidvalidity;
	if (ix->account.next_uidvalidity <= uidvalidity)
		ix->account.next_uidvalidity = uidvalidity + 1;
	if (mb->m.uidnext < uidnext)
		mb->m.uidnext = uidnext;
	mb->m.special_use |= target->m.special_use;
	mb->m.subscribed = mb->m.subscribed || target->m.subscribed;
	/* Who knows the mailbox from elsewhere knows nothing of our modseqs: all expunges count as given up. */
	mb->m.highestmodseq = mb->m.tombstone_floor = index_modseq_next(ix);
	/* Whoever looks at it by its old name has to open it again, and finds another UIDVALIDITY. */
	index_change_add(ix, INDEX_CHANGE_NEW, mb->m.number)->failed = true;
	table_changed(ix, target->m.number);
	if (index_mailbox_erase(ix, target, e) < 0)
		return -1;
	set_name(mb, slice_of(name, n));
	return 0;
}

static int
move_to_end(struct index *ix, struct index_mailbox *mb, struct index_mailbox *target, struct err *e)
{
	const struct quota none = {QUOTA_NONE, QUOTA_NONE};
	struct uidset source = {0}, moved = {0};
	int failed = index_copy(ix, mb->m.number, target->m.number, true, uidset_all(), none, &source, &moved, e);

	uidset_fini(&source);
	uidset_fini(&moved);
	return failed ? -1 : delete_mailbox(ix, mb->m.name, e);
}

int
index_mailbox_adopt(struct index *ix, uint32_t number, struct slice name, uint32_t uidvalidity, uint32_t uidnext,
    uint32_t *number_r, uint32_t *uidvalidity_r, struct err *e)
{
	struct index_mailbox *mb = index_mailbox_open(ix, number, e), *target;
	int failed;

	*number_r = *uidvalidity_r = 0;
	if (mb == NULL || name_check(name, &name, e) < 0)
		return -1;
	target = find_name(ix, name);
	if (target == NULL || !target->m.selectable)
		return err_set(e, ERR_PERM, ERR_CODE_NOT_FOUND, "no such mailbox", NULL);
	if (target == mb || name_is_inbox(mb->m.name))
		return err_set(e, ERR_PERM, ERR_CODE_BAD_NAME, "a mailbox cannot take that place", NULL);
	if (uidvalidity != 0 && !can_take_place(ix, target, uidvalidity, uidnext))
		return err_set(e, ERR_PERM, ERR_CODE_EXISTS, "the mailbox was in use", NULL);
	failed = uidvalidity != 0 ? take_place(ix, mb, target, uidvalidity, uidnext, e) : move_to_end(ix, mb, target, e);
	if (failed)
		return -1;
	target = find_name(ix, name);
	*number_r = target->m.number;
	*uidvalidity_r = target->m.uidvalidity;
	return 0;
}

bool
index_default_mailbox(unsigned i, struct slice *name_r, uint32_t *use_r)
{
	static const struct {
		struct slice name;
		uint32_t use;
	} rows[] = {
	    {SLICE("INBOX"), 0},
	    {SLICE("Drafts"), STORE_USE_DRAFTS},
	    {SLICE("Sent"), STORE_USE_SENT},
	    {SLICE("Archive"), STORE_USE_ARCHIVE},
	    {SLICE("Junk"), STORE_USE_JUNK},
	    {SLICE("Trash"), STORE_USE_TRASH},
	};

	if (i >= sizeof rows / sizeof rows[0])
		return false;
	*name_r = rows[i].name;
	*use_r = rows[i].use;
	return true;
}

int
index_mailboxes_default(struct index *ix, struct err *e)
{
	struct index_mailbox *mb;
	struct slice name;
	uint32_t use;

	for (unsigned i = 0; index_default_mailbox(i, &name, &use); i++) {
		if (create(ix, name, use, &mb, e) < 0)
			return -1;
		mb->m.subscribed = true;
	}
	return 0;
}

/* ---- keywords ---- */

int
index_keyword_bits(struct index_mailbox *mb, struct slice lines, bool make_new, uint64_t *bits_r, struct err *e)
{
	struct slice name, known, line;

	*bits_r = 0;
	while (slice_cut(&lines, '\n', &name)) {
		unsigned count = 0;
		int bit = store_keyword_find(buf_slice(&mb->keywords), name);

		if (slice_empty(name) || (bit < 0 && !make_new))
			continue;
		if (!name_is_keyword(name))
			return err_set(e, ERR_PERM, ERR_CODE_BAD_NAME, "not a valid keyword", NULL);
		if (bit < 0) {
			for (known = buf_slice(&mb->keywords); slice_cut(&known, '\n', &line);)
				count += line.n > 0;
			if (count >= STORE_KEYWORDS_MAX)
				return err_set(e, ERR_LIMIT, ERR_CODE_NONE, "too many keywords", NULL);
			bit = (int)count;
			buf_put_slice(&mb->keywords, name);
			buf_put_u8(&mb->keywords, '\n');
			mb->keywords_dirty = true;
		}
		*bits_r |= UINT64_C(1) << bit;
	}
	return 0;
}

/* ---- reading ---- */

const struct format_mailbox *
index_mailbox(const struct index *ix, uint32_t number)
{
	struct index_mailbox *mb = index_mailbox_get(ix, number);

	return mb != NULL && mb->m.selectable && mb->m.gone_at == 0 ? &mb->m : NULL;
}

struct slice
index_keywords(const struct index *ix, uint32_t number)
{
	struct index_mailbox *mb = index_mailbox_get(ix, number);

	return mb != NULL ? buf_slice(&mb->keywords) : slice_of(NULL, 0);
}

uint32_t
index_target(const struct index *ix, unsigned target)
{
	static const uint32_t uses[] = {
	    [STORE_TARGET_INBOX] = 0,
	    [STORE_TARGET_JUNK] = STORE_USE_JUNK,
	    [STORE_TARGET_SENT] = STORE_USE_SENT,
	    [STORE_TARGET_DRAFTS] = STORE_USE_DRAFTS,
	    [STORE_TARGET_ARCHIVE] = STORE_USE_ARCHIVE,
	    [STORE_TARGET_TRASH] = STORE_USE_TRASH,
	};
	uint32_t use = target < sizeof uses / sizeof uses[0] ? uses[target] : 0;
	struct index_mailbox *inbox = find_name(ix, SLICE("INBOX"));

	for (size_t i = 0; use != 0 && i < ix->mailbox_count; i++)
		if ((ix->mailboxes[i]->m.special_use & use) != 0 && index_mailbox(ix, ix->mailboxes[i]->m.number) != NULL)
			return ix->mailboxes[i]->m.number;
	return inbox != NULL ? inbox->m.number : 0;
}

int
index_recent(struct index *ix, uint32_t mailbox, uint32_t uid, struct err *e)
{
	struct index_mailbox *mb = index_mailbox_open(ix, mailbox, e);

	if (mb == NULL)
		return -1;
	if (uid > mb->m.uidnext)
		uid = mb->m.uidnext;
	if (uid > mb->m.recent_uid) {
		mb->m.recent_uid = uid;
		mb->dirty = true;
	}
	return 0;
}

/* Messages from recent_uid on. */
static int
count_recent(struct index *ix, const struct format_mailbox *m, uint32_t *count_r, struct err *e)
{
	struct uid_range range = {m->recent_uid, UINT32_MAX};
	struct uidset set = {.ranges = &range, .n = 1, .cap = 1};
	struct walk w;
	int r = 0;

	*count_r = 0;
	if (m->recent_uid >= m->uidnext || m->messages == 0)
		return 0;
	r = walk_open(&w, ix, FORMAT_ENTRIES, m->number, &set, e) < 0 ? -1 : walk_first(&w, e);
	for (; r == 1; r = walk_next(&w, e))
		for (unsigned i = 0; i < w.entries.n; i++)
			*count_r += w.entries.e[i].uid >= m->recent_uid;
	walk_close(&w);
	return r;
}

static int
list_cmp(const void *a, const void *b)
{
	const struct index_mailbox *const *x = a, *const *y = b;

	return slice_cmp((*x)->m.name, (*y)->m.name);
}

static int
list_one(struct index *ix, const struct format_mailbox *m, struct buf *b, struct err *e)
{
	struct store_mailbox out = {
	    .number = m->number,
	    .special_use = m->special_use,
	    .subscribed = m->subscribed,
	    .selectable = m->selectable,
	    .uidvalidity = m->uidvalidity,
	    .uidnext = m->uidnext,
	    .messages = m->messages,
	    .unseen = m->unseen,
	    .deleted = m->deleted,
	    .recent_uid = m->recent_uid,
	    .highestmodseq = m->highestmodseq,
	    .bytes = m->bytes,
	    .name = m->name,
	};

	if (count_recent(ix, m, &out.recent, e) < 0)
		return index_failed(ix);
	if (!store_mailbox_put(b, &out))
		return err_set(e, ERR_LIMIT, ERR_CODE_NONE, "too many mailboxes", NULL);
	return 0;
}

int
index_list(struct index *ix, struct buf *b, struct err *e)
{
	struct index_mailbox **list = mem_new_array(ix->mailbox_count + 1, sizeof(struct index_mailbox *));
	size_t n = 0;
	int failed = 0;

	for (size_t i = 0; i < ix->mailbox_count; i++)
		if (ix->mailboxes[i]->m.gone_at == 0)
			list[n++] = ix->mailboxes[i];
	qsort(list, n, sizeof(struct index_mailbox *), list_cmp);
	for (size_t i = 0; failed == 0 && i < n; i++)
		failed = list_one(ix, &list[i]->m, b, e);
	free(list);
	return failed;
}
