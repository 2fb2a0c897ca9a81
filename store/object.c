/*
 * Orphans after a crash can only have numbers from the index's next one on,
 * within the last group of appends; so only the directories of those are looked
 * through, not the whole of mail/.
 */
#include "store/object.h"

#include "common/mem.h"
#include "common/memfd.h"
#include "store/file.h"
#include "common/mutant.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <sys/stat.h>

#define COPY_BYTES (256u * 1024)
#define MAIL_DIR "mail"
#define ID_HASH_BYTES 8u

void
object_id(uint64_t number, const uint8_t sha256[STORE_SHA256_BYTES], uint8_t id_r[STORE_OBJECT_ID_BYTES])
{
	for (unsigned i = 0; i < 8; i++)
		id_r[i] = (uint8_t)(number >> (56 - 8 * i));
	memcpy(id_r + 8, sha256, ID_HASH_BYTES);
}

uint64_t
object_number(const uint8_t id[STORE_OBJECT_ID_BYTES])
{
	uint64_t number = 0;

	for (unsigned i = 0; i < 8; i++)
		number = number << 8 | id[i];
	return number;
}

unsigned
object_shard(uint64_t number)
{
	return (unsigned)(number / OBJECT_SHARD_OBJECTS % OBJECT_SHARDS);
}

static void
shard_path(char *path_r, const char *root, unsigned shard)
{
	int n = snprintf(path_r, FILE_PATH_BYTES_MAX, "%s/" MAIL_DIR "/%02x", root, shard);

	assert(n > 0 && n < FILE_PATH_BYTES_MAX);
}

void
object_path(char *path_r, const char *root, const uint8_t id[STORE_OBJECT_ID_BYTES])
{
	char dir[FILE_PATH_BYTES_MAX], name[2 * STORE_OBJECT_ID_BYTES + 1] = "";

	slice_hex(slice_of(id, STORE_OBJECT_ID_BYTES), name);
	shard_path(dir, root, object_shard(object_number(id)));
	file_path(path_r, dir, name);
}

static int
make_synced_dir(const char *parent, const char *path, struct err *e)
{
	bool made;

	if (file_mkdir(path, &made, e) < 0)
		return -1;
	return made && !MUTANT(OBJECT_DIR_SYNC) ? file_sync_dir(parent, e) : 0;
}

int
object_init(const char *root, struct err *e)
{
	char mail[FILE_PATH_BYTES_MAX];

	file_path(mail, root, MAIL_DIR);
	return make_synced_dir(root, mail, e);
}

int
object_settle(const char *root, struct err *e)
{
	char mail[FILE_PATH_BYTES_MAX];

	file_path(mail, root, MAIL_DIR);
	return MUTANT(OBJECT_SETTLE) ? 0 : file_sync_dir(mail, e);
}

int
object_prepare(const char *root, uint64_t number, struct err *e)
{
	char mail[FILE_PATH_BYTES_MAX], dir[FILE_PATH_BYTES_MAX];

	file_path(mail, root, MAIL_DIR);
	shard_path(dir, root, object_shard(number));
	return make_synced_dir(mail, dir, e);
}

/* Copies and hashes; the file is synced when this returns 0. */
static int
copy(int fd, int source, uint64_t bytes, const uint8_t *sha256, EVP_MD_CTX *hash, struct err *e)
{
	size_t most = bytes < COPY_BYTES ? (size_t)bytes : COPY_BYTES;
	uint8_t *room = mem_resize(NULL, most + 1, 1);
	uint8_t found[EVP_MAX_MD_SIZE];
	uint64_t at = 0;
	int failed = 0;
	int64_t got;

	while (failed == 0 && at < bytes) {
		size_t step = bytes - at < most ? (size_t)(bytes - at) : most;

		got = memfd_read(source, at, room, step, e);
		if (got == 0)
			break;
		if (got < 0 || EVP_DigestUpdate(hash, room, (size_t)got) != 1)
			failed = -1;
		else
			failed = file_write(fd, at, slice_of(room, (size_t)got), e);
		at += (uint64_t)(got > 0 ? got : 0);
	}
	free(room);
	if (failed)
		return -1;
	if (EVP_DigestFinal_ex(hash, found, NULL) != 1)
		return err_set(e, ERR_TEMP, ERR_CODE_NONE, "temporary failure", "no SHA-256");
	if (!MUTANT(OBJECT_HASH) && (at != bytes || memcmp(found, sha256, STORE_SHA256_BYTES) != 0))
		return err_set(e, ERR_PERM, ERR_CODE_MALFORMED, "internal error",
		    "the message is not the one that was judged");
	return MUTANT(OBJECT_SYNC) ? 0 : file_sync(fd, e);
}

static int
copy_to(const char *path, int source, uint64_t bytes, const uint8_t *sha256, struct err *e)
{
	EVP_MD_CTX *hash = EVP_MD_CTX_new();
	int fd, failed;

	if (hash == NULL || EVP_DigestInit_ex(hash, EVP_sha256(), NULL) != 1) {
		EVP_MD_CTX_free(hash);
		return err_set(e, ERR_TEMP, ERR_CODE_NONE, "temporary failure", "no SHA-256");
	}
	fd = file_open(path, O_RDWR | O_CREAT | O_TRUNC, e);
	failed = fd < 0 ? -1 : copy(fd, source, bytes, sha256, hash, e);
	if (fd >= 0 && file_close(fd, failed ? NULL : e) < 0)
		failed = -1;
	EVP_MD_CTX_free(hash);
	return failed;
}

int
object_write(const char *root, uint64_t number, int source, uint64_t bytes,
    const uint8_t sha256[STORE_SHA256_BYTES], struct err *e)
{
	char path[FILE_PATH_BYTES_MAX];
	uint8_t id[STORE_OBJECT_ID_BYTES];

	object_id(number, sha256, id);
	object_path(path, root, id);
	if (object_prepare(root, number, e) < 0)
		return -1;
	if (copy_to(path, source, bytes, sha256, e) < 0) {
		(void)file_unlink(path, NULL);
		return -1;
	}
	return 0;
}

int
object_sync_shard(const char *root, unsigned shard, struct err *e)
{
	char dir[FILE_PATH_BYTES_MAX];

	shard_path(dir, root, shard);
	return file_sync_dir(dir, e);
}

int
object_open_any(const char *root, const uint8_t id[STORE_OBJECT_ID_BYTES], struct err *e)
{
	char path[FILE_PATH_BYTES_MAX];

	object_path(path, root, id);
	return file_open(path, O_RDONLY | O_NOFOLLOW, e);
}

int
object_open(const char *root, const uint8_t id[STORE_OBJECT_ID_BYTES], uint64_t size, struct err *e)
{
	char path[FILE_PATH_BYTES_MAX];
	int fd = object_open_any(root, id, e);

	if (fd < 0 && errno != ENOENT)
		return -1;
	if (fd >= 0 && memfd_size(fd, NULL) == (int64_t)size)
		return fd;
	if (fd >= 0)
		(void)file_close(fd, NULL);
	object_path(path, root, id);
	return err_set(e, ERR_TEMP, ERR_CODE_CORRUPT, "the message is damaged", "object %s is missing or cut", path);
}

int
object_hash(int fd, uint8_t sha256_r[STORE_SHA256_BYTES], uint64_t *bytes_r, struct err *e)
{
	EVP_MD_CTX *hash = EVP_MD_CTX_new();
	uint8_t *room = mem_resize(NULL, COPY_BYTES, 1);
	uint8_t found[EVP_MAX_MD_SIZE];
	int64_t got = -1;
	bool ok = hash != NULL && EVP_DigestInit_ex(hash, EVP_sha256(), NULL) == 1;

	*bytes_r = 0;
	while (ok && (got = file_read(fd, *bytes_r, room, COPY_BYTES, e)) > 0) {
		*bytes_r += (uint64_t)got;
		ok = EVP_DigestUpdate(hash, room, (size_t)got) == 1;
	}
	if (ok && got == 0)
		ok = EVP_DigestFinal_ex(hash, found, NULL) == 1;
	free(room);
	EVP_MD_CTX_free(hash);
	if (ok && got == 0)
		memcpy(sha256_r, found, STORE_SHA256_BYTES);
	else if (!ok)
		return err_set(e, ERR_TEMP, ERR_CODE_NONE, "temporary failure", "no SHA-256");
	return got == 0 ? 0 : -1;
}

bool
object_id_fits(const uint8_t id[STORE_OBJECT_ID_BYTES], const uint8_t sha256[STORE_SHA256_BYTES])
{
	uint8_t right[STORE_OBJECT_ID_BYTES];

	object_id(object_number(id), sha256, right);
	return memcmp(id, right, sizeof right) == 0;
}

int
object_remove(const char *root, const uint8_t id[STORE_OBJECT_ID_BYTES], struct err *e)
{
	char path[FILE_PATH_BYTES_MAX];

	object_path(path, root, id);
	return file_unlink(path, e);
}

int
object_sync_removals(const char *root, unsigned shard, struct err *e)
{
	char dir[FILE_PATH_BYTES_MAX];

	shard_path(dir, root, shard);
	int exists = file_exists(dir, e);

	return exists <= 0 ? exists : file_sync_dir(dir, e);
}

/* True for the name of an object with a number >= next: no transaction knew it, and it may be unfinished. */
static bool
is_leftover(const char *name, uint64_t next)
{
	uint8_t id[STORE_OBJECT_ID_BYTES];

	return slice_unhex(slice_str(name), id, sizeof id) && object_number(id) >= next;
}

static int
clean_one(void *arg, const char *path, const char *name, struct err *e)
{
	const uint64_t *next = arg;

	return !MUTANT(OBJECT_CLEAN) && is_leftover(name, *next) ? file_unlink(path, e) : 0;
}

static int
clean_shard(const char *root, unsigned shard, uint64_t next, struct err *e)
{
	char dir[FILE_PATH_BYTES_MAX];

	shard_path(dir, root, shard);
	return file_each(dir, clean_one, &next, e);
}

int
object_clean(const char *root, uint64_t next, struct err *e)
{
	if (clean_shard(root, object_shard(next), next, e) < 0)
		return -1;
	return clean_shard(root, object_shard(next + OBJECT_SHARD_OBJECTS), next, e);
}

struct each {
	object_each_fn *fn;
	void *arg;
};

static int
each_name(void *arg, const char *path, const char *name, struct err *e)
{
	const struct each *each = arg;
	uint8_t id[STORE_OBJECT_ID_BYTES];

	(void)path;
	return slice_unhex(slice_str(name), id, sizeof id) ? each->fn(each->arg, id, e) : 0;
}

int
object_each_of(const char *root, unsigned shard, object_each_fn *fn, void *arg, struct err *e)
{
	struct each each = {fn, arg};
	char dir[FILE_PATH_BYTES_MAX];

	shard_path(dir, root, shard);
	return file_each(dir, each_name, &each, e);
}

int
object_each(const char *root, object_each_fn *fn, void *arg, struct err *e)
{
	int r = 0;

	for (unsigned shard = 0; r == 0 && shard < OBJECT_SHARDS; shard++)
		r = object_each_of(root, shard, fn, arg, e);
	return r;
}
