/*
 * Opens the directory of an account whose keeper is gone, as the next keeper would, checks all of it against itself,
 * and prints the marks that must never go back: one line each, a name, then numbers of which the first (a mailbox's
 * UIDVALIDITY) stays and the others may only grow.
 */
#include "common/buf.h"
#include "common/loop.h"
#include "store/file.h"
#include "store/index.h"
#include "store/mailbox_list.h"

#include <stdio.h>

static void
print_marks(const struct index *ix, struct slice list)
{
	struct cursor c = cursor_of(list);
	struct store_mailbox m;

	printf("account 0 %llu %llu\n", (unsigned long long)index_modseq(ix), (unsigned long long)index_serial(ix));
	while (store_mailbox_next(&c, &m))
		if (m.selectable)
			printf("mailbox-%u %u %u %llu\n", m.number, m.uidvalidity, m.uidnext, (unsigned long long)m.highestmodseq);
}

int
main(int argc, char **argv)
{
	struct index *ix = NULL;
	struct err e = {0};
	struct buf list;
	int r = -1;

	if (argc != 2) {
		fprintf(stderr, "usage: account_check DIRECTORY\n");
		return 2;
	}
	file_hook_db();
	buf_init(&list, STORE_LIST_BYTES_MAX);
	if (index_open(argv[1], clock_wall_us() / 1000000, &ix, &e) == 0 && index_check(ix, &e) == 0 && index_list(ix, &list, &e) == 0) {
		print_marks(ix, buf_slice(&list));
		r = 0;
	} else {
		fprintf(stderr, "%s: %s: %s\n", argv[1], e.client, e.detail);
	}
	buf_fini(&list);
	index_close(&ix);
	return r == 0 ? 0 : 1;
}
