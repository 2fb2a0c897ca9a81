/* Role DELIVER: what becomes of a message. No paths, no network, no parsing of mail. */
#include "smtpd/deliver.h"
#include "smtpd/deliver_account.h"
#include "smtpd/deliver_keeper.h"
#include "smtpd/deliver_sign.h"

static const struct ipc_dispatch from_front = {.DELIVER_MESSAGE = deliver_on_message};
static const struct ipc_dispatch from_directory = {
    .DIR_RESOLVE_REPLY = deliver_on_resolve,
    .DIR_SENDER_REPLY = deliver_on_sender,
};
static const struct ipc_dispatch from_verify = {.VERIFY_REPLY = deliver_on_verified};
static const struct ipc_dispatch from_store = {
    .STORE_CONNECTED = deliver_on_connected,
    .LEASE_TOLD = deliver_on_lease,
};
static const struct ipc_dispatch from_keeper = {.MSG_APPEND_REPLY = deliver_on_appended};
static const struct ipc_dispatch from_queue = {
    .SPOOL_REPLY = deliver_on_spool,
    .QUEUE_ADDED = deliver_on_queue_added,
    .QUEUE_DUE = deliver_on_queue_due,
    .QUEUE_ITEM = deliver_on_queue_item,
    .QUEUE_RESULT_REPLY = deliver_on_queue_result,
};
static const struct ipc_dispatch from_sign = {.SIGN_REPLY = deliver_on_signed};
static const struct ipc_dispatch from_recorder;

/* Words that except nobody are said once. */
static void
note_exceptions(void)
{
	struct slice list = slice_str(config_string(role_config(), OPT_POLICY_DMARC_EXCEPT)), word;

	while (slice_cut(&list, ' ', &word))
		if (word.n > 0 && !policy_except_valid(word))
			log_event(LOG_WARN, NO_SESSION, "no-exception", LOG_CSTR("setting", "policy.dmarc_except"),
			    LOG_STR("word", word), LOG_END);
}

static int
init(struct err *e)
{
	(void)e;
	note_exceptions();
	deliver_account_init();
	deliver_keeper_init(role_loop());
	deliver_append_init(role_loop());
	deliver_queue_init(role_loop());
	deliver_sign_init(role_loop());
	return 0;
}

static void
edge_up(struct edge *e)
{
	if (edge_peer(e)->role == ROLE_VERIFY)
		deliver_verify_edges_changed();
	else if (edge_peer(e)->role == ROLE_QUEUE)
		deliver_queue_up();
	else if (edge_peer(e)->role == ROLE_SIGN)
		deliver_sign_up();
}

static void
edge_down(struct edge *e)
{
	switch (edge_peer(e)->role) {
	case ROLE_VERIFY:
		deliver_verify_edges_changed();
		break;
	case ROLE_KEEPER:
		deliver_keeper_down(e);
		break;
	case ROLE_SUBMISSION:
	case ROLE_SMTP_FRONT:
		deliver_job_front_down(e);
		break;
	default:
		break;
	}
}

int
main(int argc, char **argv)
{
	static const struct role_spec spec = {
	    .role = ROLE_DELIVER,
	    .dispatch = {[ROLE_SMTP_FRONT] = &from_front,
		[ROLE_SUBMISSION] = &from_front,
		[ROLE_DIRECTORY] = &from_directory,
		[ROLE_VERIFY] = &from_verify,
		[ROLE_STORE] = &from_store,
		[ROLE_KEEPER] = &from_keeper,
		[ROLE_QUEUE] = &from_queue,
		[ROLE_SIGN] = &from_sign,
		[ROLE_RECORDER] = &from_recorder},
	    .init = init,
	    .on_edge_up = edge_up,
	    .on_edge_down = edge_down,
	    .on_drain = deliver_drain,
	};

	return role_main(argc, argv, &spec);
}
