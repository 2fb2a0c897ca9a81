/* Role SUBMISSION: mail from the users of this server, on 587 (STARTTLS) and 465 (TLS). */
#include "common/tls.h"
#include "smtpd/front.h"
#include "smtpd/front_service.h"

int
main(int argc, char **argv)
{
	static const struct role_spec spec = {
	    .role = ROLE_SUBMISSION,
	    .dispatch = {[ROLE_DIRECTORY] = &smtpd_from_directory,
		[ROLE_STORE] = &smtpd_from_store,
		[ROLE_DELIVER] = &smtpd_from_deliver,
		[ROLE_QUEUE] = &smtpd_from_queue,
		[ROLE_KEY] = &tls_from_key,
		[ROLE_VERIFIER] = &smtpd_from_verifier,
		[ROLE_RECORDER] = &smtpd_from_nobody},
	    .init = smtpd_init,
	    .on_listener = smtpd_on_listener,
	    .on_edge_up = smtpd_on_edge_up,
	    .on_edge_down = smtpd_on_edge_down,
	    .on_reload = smtpd_on_reload,
	    .on_drain = smtpd_on_drain,
	};

	smtpd_service.submission = true;
	smtpd_service.name = "submission";
	return role_main(argc, argv, &spec);
}
