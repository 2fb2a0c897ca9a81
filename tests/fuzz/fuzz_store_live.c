/*
 * Records whose sums are right and whose octets are anything, put into a sound account: what reads a live index (opening,
 * check, dump, purge) refuses them or lives with them. Each record: length of the key (1), of the value behind its header
 * (1), key, count (2), that many octets. The key's first octet is the table's.
 */
#include "tests/unit/salvage_damage.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define RECORDS_MAX 16u

static struct damage_account account;

static void
on_finding(void *arg, const struct check_finding *f)
{
	(void)arg;
	assert(f->code.n > 0 && f->text.n > 0);
}

static int
put_records(struct index *ix, struct slice in, struct err *e)
{
	struct cursor c = cursor_of(in);
	struct buf b;
	int failed = env_begin(ix->env, ix->account.serial, e);

	buf_init(&b, FORMAT_VALUE_BYTES_MAX);
	for (unsigned i = 0; failed == 0 && i < RECORDS_MAX && cursor_left(&c) > 0; i++) {
		size_t key_n = cursor_u8(&c) % FORMAT_KEY_BYTES_MAX, value_n = cursor_u8(&c);
		struct slice key = cursor_take(&c, key_n);
		unsigned count = cursor_u16(&c);
		struct slice value = cursor_take(&c, value_n);

		if (c.bad || key.n == 0)
			break;
		format_begin(&b, (enum format_table)key.p[0], count);
		buf_put_slice(&b, value);
		if (format_end(&b, key))
			failed = env_put(ix->env, key, buf_slice(&b), slice_of(NULL, 0), e);
	}
	buf_fini(&b);
	return failed == 0 ? env_commit(ix->env, e) : -1;
}

static void
read_all(struct index *ix, struct err *e)
{
	struct check *c = check_begin(ix, true, on_finding, NULL);
	int fd, r;

	while ((r = check_step(c, 1000, e)) > 0)
		;
	check_free(&c);
	fd = memfd_new(e);
	struct dump *d = dump_begin(ix, fd);

	while ((r = dump_step(d, 1 << 20, e)) > 0)
		;
	dump_free(&d);
	(void)close(fd);
	for (unsigned i = 0; i < 50 && index_purge(ix, UINT64_MAX, UINT64_MAX, e) > 0; i++)
		;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	char root[64];
	struct index *ix;
	struct err e;

	if (account.n == 0) {
		log_init("fuzz", LOG_BUG);
		file_hook_db();
		damage_use_fast_files();
		damage_prepare(&account, 0, 54);
	}
	fixture_dir(root);
	damage_make(&account, slice_of(NULL, 0), root);
	salvage_must(index_open(root, FIXTURE_NOW, &ix, &e), &e);
	if (put_records(ix, slice_of(data, n), &e) == 0)
		read_all(ix, &e);
	salvage_abandon(&ix);
	if (index_open(root, FIXTURE_NOW, &ix, &e) == 0) {
		read_all(ix, &e);
		index_close(&ix);
	}
	(void)tree_remove(root);
	return 0;
}
