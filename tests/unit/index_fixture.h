/*
 * What the tests of an open index share: one account, and the requests and looks that most of them make.
 */
#ifndef TESTS_UNIT_INDEX_FIXTURE_H
#define TESTS_UNIT_INDEX_FIXTURE_H

#include "tests/unit/store_fixture.h"

#include <check.h>

static char root[64];
static struct index *ix;
static struct err e;
static uint32_t inbox;

#define OK(x) ck_assert_msg((x) == 0, "%s: %s / %s", #x, e.client, e.detail)

static inline void
open_index(void)
{
	OK(index_open(root, FIXTURE_NOW, &ix, &e));
	inbox = index_target(ix, STORE_TARGET_INBOX);
}

static inline void
make_account(void)
{
	fixture_dir(root);
	open_index();
}

static inline void
remove_account(void)
{
	index_close(&ix);
	(void)tree_remove(root);
}

static inline uint32_t
append(uint32_t mailbox, const char *text)
{
	uint32_t uid = 0;

	OK(fixture_append(ix, root, mailbox, text, &uid, &e));
	return uid;
}

static inline bool
describe(void *arg, const struct store_entry *entries, size_t n)
{
	for (size_t i = 0; i < n; i++)
		buf_putf(arg, "%u:%x:%llx ", entries[i].uid, entries[i].flags, (unsigned long long)entries[i].keywords);
	return true;
}

/* All entries of a mailbox as "uid:flags:keywords " text. */
static inline void
assert_view(uint32_t mailbox, const char *want)
{
	struct buf b;

	buf_init(&b, 1 << 20);
	OK(index_view(ix, mailbox, describe, &b, &e));
	buf_put_u8(&b, '\0');
	ck_assert_str_eq((char *)b.p, want);
	buf_fini(&b);
}

#endif
