/* Every command's arguments: no input is parsed out of bounds, beyond the arena's cap, or in more than linear time. */
#include "imapd/imap_args.h"
#include "imapd/imap_fetch.h"
#include "imapd/imap_search.h"
#include "imapd/search_eval.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

union args {
	struct imap_login login;
	struct imap_authenticate authenticate;
	struct imap_mailbox mailbox;
	struct imap_create create;
	struct imap_rename rename;
	struct imap_status status;
	struct imap_list list;
	struct imap_append append;
	struct imap_store store;
	struct imap_copy copy;
	struct imap_expunge expunge;
	struct imap_id id;
	struct imap_enable enable;
	struct imap_fetch fetch;
	struct imap_search search;
};

/* A parsed search is prepared and asked about a message of which only the view is at hand. */
static void
evaluate(struct imap_search *search, struct arena *a)
{
	static const struct store_entry entry = {.uid = 7, .flags = STORE_FLAG_SEEN, .keywords = 1, .modseq = 3};
	struct search_context context = {.arena = a, .exists = 9, .last_uid = 12, .keywords = SLICE("k\n")};
	struct search_message m = {.number = 3, .entry = &entry, .fd = -1};
	struct search_needs needs;
	struct err e;

	if (search_prepare(search, &context, &needs, &e) == 0)
		(void)search_eval(search, &m);
}

static bool
parse(unsigned which, struct imap_scan *s, union args *args)
{
	switch (which) {
	case 0:
		return imap_login_args(s, &args->login);
	case 1:
		return imap_authenticate_args(s, &args->authenticate);
	case 2:
		return imap_mailbox_args(s, &args->mailbox);
	case 3:
		return imap_create_args(s, &args->create);
	case 4:
		return imap_rename_args(s, &args->rename);
	case 5:
		return imap_status_args(s, &args->status);
	case 6:
		return imap_list_args(s, &args->list);
	case 7:
		return imap_append_args(s, imap_scan_left(s) % 2 != 0, &args->append);
	case 8:
		return imap_store_args(s, &args->store);
	case 9:
		return imap_copy_args(s, &args->copy);
	case 10:
		return imap_uid_expunge_args(s, &args->expunge);
	case 11:
		return imap_id_args(s, &args->id);
	case 12:
		return imap_enable_args(s, &args->enable);
	case 13:
		return imap_fetch_args(s, &args->fetch);
	case 14:
		return imap_search_args(s, &args->search);
	default:
		return imap_lsub_args(s, &args->list);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *a = arena_new(1u << 20);
	struct imap_head head;
	struct imap_scan s = imap_scan_of(slice_of(data, size), a);

	if (imap_head(&s, &head)) {
		struct imap_scan rest = s;

		for (unsigned which = 0; which < 16; which++) {
			union args args;

			s = rest;
			if (!parse(which, &s, &args))
				assert(s.why != NULL);
			else if (which == 14)
				evaluate(&args.search, a);
			arena_reset(a);
		}
	}
	arena_free(&a);
	return 0;
}
