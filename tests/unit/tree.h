/* A test's own directory goes away with all that is in it. */
#ifndef TESTS_UNIT_TREE_H
#define TESTS_UNIT_TREE_H

#include <ftw.h>
#include <stdio.h>

static inline int
tree_remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

/* 0, or -1 when something of it is left. */
static inline int
tree_remove(const char *path)
{
	return nftw(path, tree_remove_one, 32, FTW_DEPTH | FTW_PHYS);
}

#endif
