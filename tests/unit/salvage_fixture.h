/*
 * What the test and the fuzzer of the salvage share: a small account with everything in it, ways to damage it, and the
 * look at what must be there afterwards.
 */
#ifndef TESTS_UNIT_SALVAGE_FIXTURE_H
#define TESTS_UNIT_SALVAGE_FIXTURE_H

#include "tests/unit/store_fixture.h"

#include "store/dump.h"
#include "store/file.h"
#include "store/index_private.h"
#include "store/salvage.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#define SALVAGE_MESSAGES 70u

static inline void
salvage_must(int r, const struct err *e)
{
	if (r != 0) {
		fprintf(stderr, "%s: %s\n", e->client, e->detail);
		abort();
	}
}

/* The dump of an open index as text, for the caller to free(). */
static inline char *
salvage_dump(struct index *ix)
{
	struct err e;
	int fd = memfd_new(&e), r;
	struct dump *d = dump_begin(ix, fd);
	struct buf b;

	while ((r = dump_step(d, 1 << 20, &e)) > 0)
		;
	salvage_must(r, &e);
	dump_free(&d);
	buf_init(&b, 64 << 20);
	salvage_must(memfd_read_all(fd, &b, &e), &e);
	buf_put_u8(&b, '\0');
	(void)close(fd);
	return (char *)b.p;
}

/* A dump from the line of the first mailbox on: without the account's own marks and the end, which is cut off. */
static inline char *
salvage_body(char *dump)
{
	char *from = strstr(dump, "\nmailbox "), *end = strstr(dump, "\nend ");

	assert(from != NULL && end != NULL);
	*end = '\0';
	return from;
}

/* The same as root/account.dump. */
static inline void
salvage_write_dump(struct index *ix, const char *root)
{
	char path[FILE_PATH_BYTES_MAX], *text = salvage_dump(ix);

	file_path(path, root, "account.dump");
	FILE *f = fopen(path, "w");

	if (f == NULL || fputs(text, f) < 0 || fclose(f) != 0)
		abort();
	free(text);
}

/* Closes it as a process that died: without a checkpoint and a base copy. */
static inline void
salvage_abandon(struct index **ix)
{
	(*ix)->broken = true;
	index_close(ix);
}

/* An account in root with so many messages, at least 54; how: bit 0: account.dump is of the middle of its life; bit 1: no checkpoint at the end; bit 2: a
 * base copy in the middle. */
static inline void
salvage_make(const char *root, unsigned how, unsigned messages)
{
	struct index *ix;
	struct err e;
	uint32_t uid, inbox, work;
	char text[96];

	salvage_must(index_open(root, FIXTURE_NOW, &ix, &e), &e);
	inbox = index_target(ix, STORE_TARGET_INBOX);
	fixture_summary = slice_of(NULL, 0);
	for (unsigned i = 0; i < messages; i++) {
		snprintf(text, sizeof text, "Received: from a by b; Tue, 1 Jul 2003 10:52:%02u +0200\r\nSubject: %u\r\n\r\nx\r\n", i % 60, i);
		salvage_must(fixture_append(ix, root, inbox, text, &uid, &e), &e);
		if (i == messages / 2) {
			work = fixture_mailbox(ix, MBOX_CREATE, "Work", "", &e);
			salvage_must(fixture_flags(ix, inbox, STORE_FLAGS_ADD, STORE_FLAG_SEEN, "first\nsecond\n", 3, 9, &e), &e);
			salvage_must(fixture_copy(ix, inbox, work, false, 5, 8, &e), &e);
			salvage_must(fixture_copy(ix, inbox, work, true, 10, 12, &e), &e);
			salvage_must(fixture_expunge(ix, inbox, 20, 22, &e), &e);
			salvage_must(index_flush(ix, &e), &e);
			if (how & 4)
				salvage_must(index_upkeep_now(ix, &e), &e);
			if (how & 1)
				salvage_write_dump(ix, root);
		}
	}
	salvage_must(fixture_flags(ix, inbox, STORE_FLAGS_ADD, STORE_FLAG_FLAGGED, "third\n", 40, 44, &e), &e);
	salvage_must(fixture_expunge(ix, inbox, 50, 51, &e), &e);
	fixture_mailbox(ix, MBOX_CREATE, "Gone", "", &e);
	fixture_mailbox(ix, MBOX_DELETE, "Gone", "", &e);
	fixture_mailbox(ix, MBOX_RENAME, "Work", "Play", &e);
	salvage_must(index_flush(ix, &e), &e);
	if (!(how & 1))
		salvage_write_dump(ix, root);
	if (how & 2)
		salvage_abandon(&ix);
	else
		index_close(&ix);
}

/* ---- what must be there ---- */

struct salvage_ids {
	uint8_t (*list)[STORE_OBJECT_ID_BYTES];
	size_t n;
	const char *root;
};

static inline int
salvage_add_intact(void *arg, const uint8_t id[STORE_OBJECT_ID_BYTES], struct err *e)
{
	struct salvage_ids *ids = arg;
	uint8_t sha256[STORE_SHA256_BYTES];
	uint64_t bytes;
	int fd = object_open_any(ids->root, id, e);

	if (fd >= 0 && object_hash(fd, sha256, &bytes, e) == 0 && object_id_fits(id, sha256)) {
		ids->list = realloc(ids->list, (ids->n + 1) * sizeof *ids->list);
		assert(ids->list != NULL);
		memcpy(ids->list[ids->n++], id, STORE_OBJECT_ID_BYTES);
	}
	if (fd >= 0)
		(void)close(fd);
	return 0;
}

static inline void
salvage_note_nothing(void *arg, const struct check_finding *f)
{
	if (arg != NULL)
		fprintf(arg, "%.*s: %.*s UID %u: %.*s\n", SLICE_ARG(f->code), SLICE_ARG(f->mailbox), f->uid, SLICE_ARG(f->text));
}

/* Salvages, and dies when a message whose file was intact is not in the account, or the account is not sound. The dump,
 * for the caller to free(). */
static inline char *
salvage_and_look(const char *root, FILE *out, struct salvage_result *result_r)
{
	static const struct salvage_events events = {.note = salvage_note_nothing};
	struct salvage_ids ids = {.root = root};
	struct index *ix;
	struct err e;
	char *text;

	salvage_must(object_init(root, &e), &e);
	salvage_must(object_each(root, salvage_add_intact, &ids, &e), &e);
	salvage_must(salvage_account(root, FIXTURE_NOW + 100, &events, out, result_r, &e), &e);
	salvage_must(index_open(root, FIXTURE_NOW + 200, &ix, &e), &e);
	salvage_must(index_check(ix, &e), &e);
	text = salvage_dump(ix);
	for (size_t i = 0; i < ids.n; i++) {
		char hex[2 * STORE_OBJECT_ID_BYTES + 3] = " ";

		for (unsigned k = 0; k < STORE_OBJECT_ID_BYTES; k++)
			snprintf(hex + 1 + 2 * k, 3, "%02x", ids.list[i][k]);
		if (strstr(text, hex) == NULL) {
			fprintf(stderr, "the intact message%s is not there\n%s", hex, text);
			abort();
		}
	}
	free(ids.list);
	index_close(&ix);
	return text;
}

#endif
