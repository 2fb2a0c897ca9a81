/*
 * One row per role: everything it is allowed beyond computing and talking on the edges it was
 * given. A role that is not named here cannot be started.
 */
#include "common/sandbox_private.h"

#include <assert.h>

/* clang-format off */
static const struct sandbox_row table[ROLE_COUNT] = {
    /* Not the command itself: its child that reads what others wrote (admin/confined.h). */
    [ROLE_ADMIN] = {.user = "nobody", .calls = 0,
	.files_max = 1024, .data_megabytes_max = 1024, .oom_score = 500},
    [ROLE_RECORDER] = {.user = "mailstead-recorder", .directory = "trace", .calls = CALLS_ACCEPT | CALLS_FILES | CALLS_MEMFD,
	.files_max = 1024, .data_megabytes_max = 256, .oom_score = 300},
    [ROLE_DIRECTORY] = {.user = "mailstead-directory", .directory = "directory", .calls = CALLS_ACCEPT | CALLS_FILES | CALLS_MEMFD,
	.files_max = 4096, .data_megabytes_max = 512, .oom_score = -300},
    [ROLE_VERIFIER] = {.user = "mailstead-verifier", .calls = 0,
	.files_max = 1024, .data_megabytes_max = 512, .oom_score = 100},
    [ROLE_KEY] = {.user = "mailstead-key", .calls = 0,
	.files_max = 1024, .data_megabytes_max = 128, .oom_score = -300},
    [ROLE_RESOLVER] = {.user = "mailstead-resolver", .calls = CALLS_NETWORK | CALLS_ACCEPT,
	.files_max = 8192, .data_megabytes_max = 512, .oom_score = 0},
    [ROLE_STORE] = {.user = "mailstead-store", .calls = CALLS_ACCEPT | CALLS_PAIR | CALLS_MEMFD,
	.files_max = 65536, .data_megabytes_max = 512, .oom_score = -300},
    [ROLE_KEEPER] = {.user = "mailstead-keeper", .directory = "accounts/%", .calls = CALLS_FILES | CALLS_MEMFD,
	.files_max = 8192, .data_megabytes_max = 1024, .oom_score = 0},
    [ROLE_QUEUE] = {.user = "mailstead-queue", .directory = "queue", .directory2 = "spool",
	.calls = CALLS_ACCEPT | CALLS_FILES | CALLS_MEMFD,
	.files_max = 8192, .data_megabytes_max = 512, .oom_score = -200},
    [ROLE_VERIFY] = {.user = "mailstead-verify", .calls = CALLS_MEMFD,
	.files_max = 1024, .data_megabytes_max = 512, .oom_score = 500},
    [ROLE_SIGN] = {.user = "mailstead-sign", .calls = 0,
	.files_max = 1024, .data_megabytes_max = 512, .oom_score = 300},
    [ROLE_STS] = {.user = "mailstead-sts", .directory = "sts", .calls = CALLS_NETWORK | CALLS_FILES,
	.files_max = 1024, .data_megabytes_max = 256, .oom_score = 300},
    [ROLE_TRANSPORT] = {.user = "mailstead-transport", .calls = CALLS_NETWORK,
	.files_max = 8192, .data_megabytes_max = 512, .oom_score = 200},
    [ROLE_DELIVER] = {.user = "mailstead-deliver", .calls = CALLS_MEMFD,
	.files_max = 16384, .data_megabytes_max = 512, .oom_score = 0},
    [ROLE_SMTP_FRONT] = {.user = "mailstead-smtp", .calls = CALLS_ACCEPT | CALLS_MEMFD,
	.files_max = 65536, .data_megabytes_max = 2048, .oom_score = 200},
    [ROLE_SUBMISSION] = {.user = "mailstead-submission", .calls = CALLS_ACCEPT | CALLS_MEMFD,
	.files_max = 65536, .data_megabytes_max = 2048, .oom_score = 200},
    [ROLE_IMAP_FRONT] = {.user = "mailstead-imap", .calls = CALLS_ACCEPT,
	.files_max = 65536, .data_megabytes_max = 2048, .oom_score = 200},
    [ROLE_IMAP_WORKER] = {.user = "mailstead-imapw", .calls = CALLS_MEMFD,
	.files_max = 8192, .data_megabytes_max = 1024, .oom_score = 400},
    [ROLE_POP3_FRONT] = {.user = "mailstead-pop3", .calls = CALLS_ACCEPT,
	.files_max = 65536, .data_megabytes_max = 2048, .oom_score = 200},
    [ROLE_POP3_WORKER] = {.user = "mailstead-pop3w", .calls = CALLS_MEMFD,
	.files_max = 8192, .data_megabytes_max = 1024, .oom_score = 400},
};

/* clang-format on */

const struct sandbox_row *
sandbox_row(enum role role)
{
	assert((unsigned)role < ROLE_COUNT);
	return table[role].user ? &table[role] : NULL;
}
