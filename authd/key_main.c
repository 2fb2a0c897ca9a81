/*
 * The key role: reads certificates and keys before its sandbox closes, then only answers KEY_CERTS
 * and KEY_SIGN; it has no path and no network afterwards. So new files need a new process: on
 * reload it exits 0, the supervisor starts it again, and the fronts ask for the certificates when
 * the new edge comes up. Handshakes that wait for a signature at that moment fail.
 *
 * Files that cannot be used are an error in the log, not an end: the server then offers no TLS, and
 * mail still comes in.
 */
#include "authd/key.h"

#include "common/buf.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/role.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define KEY_FILE_BYTES_MAX 65536u

/* Reads a whole file into b. */
static int
read_file(const char *path, struct buf *b, struct err *e)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	ssize_t n = 1;

	if (fd < 0)
		return err_sys(e, errno, path);
	while (n > 0) {
		uint8_t *room = buf_room(b, 4096);

		if (room == NULL) {
			(void)close(fd);
			return err_set(e, ERR_PERM, ERR_CODE_TOO_BIG, "TLS is not available",
			    "%s is over %u octets", path, KEY_FILE_BYTES_MAX);
		}
		n = read(fd, room, 4096);
		if (n > 0)
			buf_added(b, (size_t)n);
	}
	int errnum = errno;

	(void)close(fd);
	return n < 0 ? err_sys(e, errnum, path) : 0;
}

static int
load_pair(struct key_store *ks, const char *chain_path, const char *key_path, struct err *e)
{
	struct buf chain, key;

	buf_init(&chain, KEY_FILE_BYTES_MAX + 4096);
	buf_init(&key, KEY_FILE_BYTES_MAX + 4096);
	/* All the room at once: growing would leave copies of the key in freed memory. */
	(void)buf_room(&key, KEY_FILE_BYTES_MAX + 4096);
	int result = read_file(chain_path, &chain, e);

	if (result == 0)
		result = read_file(key_path, &key, e);
	if (result == 0)
		result = key_store_add(ks, buf_slice(&chain), buf_slice(&key), e);
	mem_wipe(key.p, key.cap);
	buf_fini(&key);
	buf_fini(&chain);
	return result;
}

static int
init(struct err *e)
{
	const char *chain = config_string(role_config(), OPT_TLS_CERTIFICATE);
	const char *key = config_string(role_config(), OPT_TLS_KEY);
	struct key_store *ks = key_store_new();

	if (chain[0] == '\0')
		log_event(LOG_INFO, NO_SESSION, "tls-off", LOG_END);
	else if (load_pair(ks, chain, key, e) < 0)
		log_event(LOG_ERROR, NO_SESSION, "tls-no-certificate",
		    LOG_CSTR("certificate", chain), LOG_CSTR("key", key), LOG_ERR(e), LOG_END);
	key_serve(ks);
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
		    [ROLE_RECORDER] = &from_recorder,
		},
	    .init = init,
	    .on_reload = on_reload,
	};

	return role_main(argc, argv, &spec);
}
