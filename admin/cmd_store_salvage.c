/*
 * mailstead store salvage: store/salvage.h does it, in the account's directory with nobody else at work; this tells.
 */
#include "admin/cmd_store.h"

#include "admin/progress.h"
#include "common/loop.h"
#include "store/salvage.h"

#include <stdio.h>

struct salvaging {
	struct progress progress;
	json_t *notes;
};

static void
on_note(void *arg, const struct check_finding *f)
{
	struct salvaging *s = arg;

	(void)json_array_append_new(s->notes, store_finding_json(f));
}

static void
on_progress(void *arg, uint64_t done, uint64_t total)
{
	struct salvaging *s = arg;

	progress_step(&s->progress, "messages", done, total);
}

static enum command_status
tell(const struct command_call *call, struct salvaging *s, const struct salvage_result *r)
{
	const char *address = call->argv[0];
	json_t *row, *all;
	size_t i;

	if (call->json) {
		all = json_pack("{ss sb sI sI sI sI ss sO}", "address", address, "sound", r->sound, "messages", (json_int_t)r->messages,
		    "recovered", (json_int_t)r->recovered, "from_dump", (json_int_t)r->filled, "lost", (json_int_t)r->lost, "aside",
		    r->aside, "notes", s->notes);
		enum command_status status = command_print_json(all);

		json_decref(all);
		return status;
	}
	json_array_foreach(s->notes, i, row) store_finding_print(address, row);
	if (!r->sound)
		printf("%s: the index was damaged: every mailbox has a new UIDVALIDITY, clients read them anew\n", address);
	if (r->aside[0] != '\0')
		printf("%s: what was damaged is in %s\n", address, r->aside);
	printf("%s: %llu messages, %llu of them in " SALVAGE_MAILBOX " by this, %llu lost\n", address,
	    (unsigned long long)r->messages, (unsigned long long)r->recovered, (unsigned long long)r->lost);
	return COMMAND_OK;
}

static enum command_status
salvage_here(const struct command_call *call, struct salvaging *s)
{
	static const struct salvage_events events = {.note = on_note, .progress = on_progress};
	struct salvage_result result;
	struct index *ix;
	struct err e;
	uint64_t now = clock_wall_us() / 1000000;

	file_hook_db();
	int failed = salvage_account(".", now, &events, s, &result, &e);

	progress_end(&s->progress);
	if (failed) {
		command_error("the account could not be salvaged: %s (%s); nothing was removed", e.client, e.detail);
		return e.class == ERR_TEMP ? COMMAND_TEMPORARY : COMMAND_REFUSED;
	}
	enum command_status status = tell(call, s, &result);

	failed = index_open(".", now, &ix, &e) < 0;
	if (!failed) {
		failed = index_check(ix, &e);
		index_close(&ix);
	}
	if (failed) {
		command_error("the salvaged account contradicts itself: %s", e.detail);
		return COMMAND_REFUSED;
	}
	if (status == COMMAND_OK && (!result.sound || result.lost > 0 || result.recovered > 0))
		status = COMMAND_REFUSED;
	return status;
}

enum command_status
store_salvage(const struct command_call *call)
{
	struct salvaging s = {.notes = json_array()};
	struct command_link *hold;
	enum command_status status = account_hold(call, call->argv[0], &hold);

	progress_begin(&s.progress, call);
	if (status == COMMAND_OK)
		status = salvage_here(call, &s);
	command_disconnect(&hold);
	json_decref(s.notes);
	return status;
}
