#include "admin/progress.h"

#include "common/loop.h"

#include <stdio.h>
#include <unistd.h>

#define STEP_MS 100u
#define BAR_COLUMNS 30u
#define WHAT_COLUMNS 28

void
progress_begin(struct progress *p, const struct command_call *call)
{
	*p = (struct progress){.shown = !call->json && isatty(STDERR_FILENO) == 1};
}

static void
draw(const char *what, uint64_t done, uint64_t total)
{
	char bar[BAR_COLUMNS + 1];
	uint64_t full = total > 0 ? (done < total ? done : total) * BAR_COLUMNS / total : 0;

	if (total == 0) {
		fprintf(stderr, "\r\033[K%-*.*s %llu", WHAT_COLUMNS, WHAT_COLUMNS, what, (unsigned long long)done);
		return;
	}
	for (unsigned i = 0; i < BAR_COLUMNS; i++)
		bar[i] = i < full ? '#' : '.';
	bar[BAR_COLUMNS] = '\0';
	fprintf(stderr, "\r\033[K%-*.*s [%s] %llu of %llu", WHAT_COLUMNS, WHAT_COLUMNS, what, bar, (unsigned long long)done,
	    (unsigned long long)total);
}

void
progress_step(struct progress *p, const char *what, uint64_t done, uint64_t total)
{
	uint64_t now;

	if (!p->shown || (now = clock_ms()) < p->next_ms)
		return;
	p->next_ms = now + STEP_MS;
	p->open = true;
	draw(what, done, total);
	(void)fflush(stderr);
}

void
progress_end(struct progress *p)
{
	if (p->open)
		fputs("\r\033[K", stderr);
	p->open = false;
}
