/*
 * Answers that were written down (smtpd/answers.h), to be played: for what is judged again.
 */
#ifndef TESTS_PLAYED_H
#define TESTS_PLAYED_H

#include "smtpd/answers.h"

#include <assert.h>

/* The caller's to free. */
static inline struct answers *
played(const struct answers *written)
{
	struct answers *a = answers_new(NULL);

	for (unsigned i = 0; i < answers_count(written); i++) {
		struct answers_item item = answers_item(written, i);
		bool good = answers_add(a, &item);

		assert(good);
		(void)good;
	}
	return a;
}

#endif
