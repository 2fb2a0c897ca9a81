/*
 * The key role: reads certificates, their keys and those of DKIM before its sandbox closes, then only answers the fronts' KEY_CERTS
 * and KEY_SIGN, and sign's KEY_DKIM_FIND and KEY_DKIM_SIGN; it has no path and no network afterwards. So new files need a new process: on
 * reload it exits 0, the supervisor starts it again, and the fronts ask for the certificates when
 * the new edge comes up. Handshakes that wait for a signature at that moment fail.
 *
 * Files that cannot be used are an error in the log, not an end: the server then offers no TLS, and
 * mail still comes in; DKIM keys that cannot be used leave mail unsigned.
 */
#include "authd/key.h"
#include "authd/key_files.h"

#include "common/buf.h"
#include "common/log.h"
#include "common/role.h"

static int
load_pair(struct key_store *ks, const char *chain_path, const char *key_path, struct err *e)
{
	struct buf chain, key;

	buf_init(&chain, KEY_FILE_BYTES_MAX + 4096);
	key_files_buf_init(&key);
	int result = key_files_read(chain_path, &chain, e);

	if (result == 0)
		result = key_files_read(key_path, &key, e);
	if (result == 0)
		result = key_store_add(ks, buf_slice(&chain), buf_slice(&key), e);
	key_files_buf_fini(&key);
	buf_fini(&chain);
	return result;
}

static int
init(struct err *e)
{
	const char *chain = config_string(role_config(), OPT_TLS_CERTIFICATE);
	const char *key = config_string(role_config(), OPT_TLS_KEY);
	struct key_store *ks = key_store_new();
	struct key_dkim *dkim = key_dkim_new();

	if (chain[0] == '\0')
		log_event(LOG_INFO, NO_SESSION, "tls-off", LOG_END);
	else if (load_pair(ks, chain, key, e) < 0)
		log_event(LOG_ERROR, NO_SESSION, "tls-no-certificate",
		    LOG_CSTR("certificate", chain), LOG_CSTR("key", key), LOG_ERR(e), LOG_END);
	key_serve(ks);
	key_files_load_dkim(dkim, role_state_dir(), clock_wall_us() / 1000000);
	key_dkim_serve(dkim);
	log_event(LOG_INFO, NO_SESSION, "dkim-keys", LOG_NUM("keys", key_dkim_count(dkim)), LOG_END);
	return 0;
}

static void
on_reload(void)
{
	role_exit(0);
}

int
main(int argc, char **argv)
{
	static const struct ipc_dispatch from_recorder = {0};
	static const struct role_spec spec = {
	    .role = ROLE_KEY,
	    .dispatch =
		{
		    [ROLE_SMTP_FRONT] = &key_from_front,
		    [ROLE_SUBMISSION] = &key_from_front,
		    [ROLE_IMAP_FRONT] = &key_from_front,
		    [ROLE_POP3_FRONT] = &key_from_front,
		    [ROLE_SIGN] = &key_from_sign,
		    [ROLE_RECORDER] = &from_recorder,
		},
	    .init = init,
	    .on_reload = on_reload,
	};

	return role_main(argc, argv, &spec);
}
