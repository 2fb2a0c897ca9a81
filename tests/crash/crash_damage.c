#include "tests/crash/crash_damage.h"
#include "tests/crash/crash_fs.h"

#include "store/base.h"
#include "store/logfile.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE_OCTETS 4096
#define SECTOR_OCTETS 512
#define PATH_BYTES (2 * FILE_PATH_BYTES_MAX)

/* A file of the index, open for both; -1 when it is not there or empty. */
static int
open_file(const char *root, const char *name, off_t *size_r)
{
	char path[PATH_BYTES];
	struct stat st;

	(void)snprintf(path, sizeof path, "%s/index/%s", root, name);
	if (stat(path, &st) != 0 || st.st_size == 0)
		return -1;
	crash_fs_unshare(path);
	int fd = open(path, O_RDWR | O_CLOEXEC);

	assert(fd >= 0);
	*size_r = st.st_size;
	return fd;
}

static bool
is_there(const char *root, const char *name)
{
	off_t size;
	int fd = open_file(root, name, &size);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static bool
flip(const char *root, const char *name, off_t from, off_t within, uint64_t seed)
{
	uint8_t octet;
	off_t size;
	int fd = open_file(root, name, &size);

	if (fd < 0)
		return false;
	if (within > 0 && within < size)
		size = within;
	if (from >= size)
		from = 0;
	off_t at = from + (off_t)((seed >> 8) % (uint64_t)(size - from));
	ssize_t n = pread(fd, &octet, 1, at);

	octet ^= (uint8_t)(1u << (seed & 7));
	n += pwrite(fd, &octet, 1, at);
	assert(n == 2);
	close(fd);
	return true;
}

/* The later sectors of a page are those of another page. */
static bool
tear(const char *root, const char *name, uint64_t seed)
{
	uint8_t octets[PAGE_OCTETS];
	off_t size, pages, page, other, from = SECTOR_OCTETS * (off_t)(1 + (seed >> 40) % 7);
	int fd = open_file(root, name, &size);

	if (fd < 0)
		return false;
	pages = size / PAGE_OCTETS;
	if (pages >= 2) {
		page = (off_t)((seed >> 8) % (uint64_t)pages);
		other = (page + 1 + (off_t)((seed >> 24) % (uint64_t)(pages - 1))) % pages;
		ssize_t n = pread(fd, octets, sizeof octets, other * PAGE_OCTETS);

		n += pwrite(fd, octets + from, sizeof octets - (size_t)from, page * PAGE_OCTETS + from);
		assert(n == 2 * PAGE_OCTETS - from);
	}
	close(fd);
	return pages >= 2;
}

/* A page of zeros, as where a write never came to the disk. */
static bool
blank(const char *root, const char *name, uint64_t seed)
{
	const uint8_t zeros[PAGE_OCTETS] = {0};
	off_t size, pages;
	int fd = open_file(root, name, &size);

	if (fd < 0)
		return false;
	pages = size / PAGE_OCTETS;
	if (pages > 0) {
		ssize_t n = pwrite(fd, zeros, sizeof zeros, (off_t)((seed >> 8) % (uint64_t)pages) * PAGE_OCTETS);

		assert(n == PAGE_OCTETS);
	}
	close(fd);
	return pages > 0;
}

static bool
cut(const char *root, const char *name, uint64_t seed)
{
	off_t size;
	int fd = open_file(root, name, &size);

	if (fd < 0)
		return false;
	off_t left = (off_t)((seed >> 8) % (uint64_t)size);
	int failed = ftruncate(fd, seed & 1 ? left / PAGE_OCTETS * PAGE_OCTETS : left);

	assert(failed == 0);
	close(fd);
	return true;
}

/* ---- a record ---- */

/* Berkeley DB's page: where its parts lie, and the sum that it keeps. The page keeps its place in the log, so that recovery
 * takes it for what it was. */
enum { PAGE_ENTRIES = 20, PAGE_TYPE = 25, PAGE_SUM = 28, PAGE_INDEX = 32, PAGE_LEAF = 5, ITEM_PLAIN = 1 };

static uint32_t
page_sum(const uint8_t *page)
{
	uint32_t sum = 0;

	for (unsigned i = 0; i < PAGE_OCTETS; i++)
		sum = sum * 33 + (i >= PAGE_SUM && i < PAGE_SUM + 4 ? 0 : page[i]);
	return sum;
}

static unsigned
u16_at(const uint8_t *page, unsigned at)
{
	uint16_t v;

	memcpy(&v, page + at, sizeof v);
	return v;
}

/* Alters an octet of one of the values of a leaf; false when it is none, or not sound. */
static bool
alter(uint8_t *page, uint64_t seed)
{
	unsigned entries = u16_at(page, PAGE_ENTRIES);
	uint32_t sum;

	memcpy(&sum, page + PAGE_SUM, sizeof sum);
	if (page[PAGE_TYPE] != PAGE_LEAF || entries < 2 || entries > 500 || sum != page_sum(page))
		return false;
	unsigned item = u16_at(page, PAGE_INDEX + 2 * (1 + 2 * (unsigned)((seed >> 8) % (entries / 2))));
	unsigned length = item < PAGE_OCTETS - 3 ? u16_at(page, item) : 0;

	if (length == 0 || item + 3 + length > PAGE_OCTETS || page[item + 2] != ITEM_PLAIN)
		return false;
	page[item + 3 + (seed >> 24) % length] ^= (uint8_t)(1u << (seed & 7));
	sum = page_sum(page);
	memcpy(page + PAGE_SUM, &sum, sizeof sum);
	return true;
}

static bool
alter_record(const char *root, uint64_t seed)
{
	uint8_t page[PAGE_OCTETS];
	bool done = false;
	off_t size, pages;
	int fd = open_file(root, "index.db", &size);

	if (fd < 0)
		return false;
	pages = size / PAGE_OCTETS;
	for (off_t i = 0; i < pages && !done; i++) {
		off_t at = (i + (off_t)(seed >> 40)) % pages * PAGE_OCTETS;

		done = pread(fd, page, sizeof page, at) == PAGE_OCTETS && alter(page, seed) &&
		    pwrite(fd, page, sizeof page, at) == PAGE_OCTETS;
	}
	close(fd);
	return done;
}

/* ---- the log ---- */

static void
log_dir(const char *root, char dir_r[PATH_BYTES], struct base_info *base_r, struct redo_durable *durable_r)
{
	(void)snprintf(dir_r, PATH_BYTES, "%s/index", root);
	if (base_read_info(dir_r, base_r, NULL) < 0)
		*base_r = (struct base_info){.bytes = 0};
	*durable_r = (struct redo_durable){base_r->serial, base_r->log.file, base_r->log.offset};
}

bool
crash_log_damaged(const char *root)
{
	struct logfile_look look = {.damaged = false};
	char dir[PATH_BYTES];
	struct base_info base;

	log_dir(root, dir, &base, &look.durable);
	int failed = logfile_look(dir, true, &look, NULL);

	assert(failed == 0);
	return look.damaged;
}

/* One octet, or a sector, before the place up to which the log was surely synced. */
static bool
damage_log(const char *root, bool sector, uint64_t seed)
{
	const uint8_t zeros[SECTOR_OCTETS] = {0};
	char name[32], dir[PATH_BYTES];
	struct redo_durable durable;
	struct base_info base;
	off_t size, from, until = file_log_bytes();

	log_dir(root, dir, &base, &durable);
	int failed = logfile_durable(dir, &durable, NULL);

	assert(failed == 0);
	/* Mostly the last file. */
	uint32_t file = durable.file > 1 && (seed >> 60) == 0 ? durable.file - 1 : durable.file;

	if (file == durable.file)
		until = durable.offset;
	(void)snprintf(name, sizeof name, "log.%010u", file);
	if (until < SECTOR_OCTETS)
		return false;
	/* Mostly what a rebuild needs. */
	from = file == base.log.file && (seed >> 56 & 3) != 0 ? (off_t)base.log.offset : 0;
	if (!sector)
		return flip(root, name, from < until ? from : 0, until, seed);
	int fd = open_file(root, name, &size);

	if (fd < 0)
		return false;
	off_t at = (off_t)((seed >> 8) % (uint64_t)(until / SECTOR_OCTETS)) * SECTOR_OCTETS;
	ssize_t n = pwrite(fd, zeros, sizeof zeros, at);

	assert(n == SECTOR_OCTETS);
	close(fd);
	return true;
}

/* ---- */

/* The next keeper is to look at all of it, as it does after one that did not close in order. */
static void
forget_clean(const char *root)
{
	char path[PATH_BYTES];

	(void)snprintf(path, sizeof path, "%s/index/clean", root);
	(void)unlink(path);
}

bool
crash_damage(const char *root, enum crash_damage kind, uint64_t seed)
{
	if (crash_damages_base(kind))
		forget_clean(root);
	switch (kind) {
	case DAMAGE_INDEX_FLIP:
		return flip(root, "index.db", 0, 0, seed);
	case DAMAGE_INDEX_TEAR:
		return tear(root, "index.db", seed);
	case DAMAGE_INDEX_ZEROS:
		return blank(root, "index.db", seed);
	case DAMAGE_INDEX_CUT:
		return cut(root, "index.db", seed);
	case DAMAGE_INDEX_RECORD:
		return alter_record(root, seed);
	case DAMAGE_SUMMARY_FLIP:
		return flip(root, "summary.db", 0, 0, seed);
	case DAMAGE_SUMMARY_CUT:
		return cut(root, "summary.db", seed);
	case DAMAGE_BASE_HEADER:
		return flip(root, "base", 0, BASE_HEADER_BYTES, seed);
	case DAMAGE_BASE_FLIP:
		return flip(root, "base", 0, 0, seed);
	case DAMAGE_BASE_CUT:
		return cut(root, "base", seed);
	case DAMAGE_INDEX_AND_BASE:
		return is_there(root, "base") && tear(root, "index.db", seed) &&
		    flip(root, "base", 0, seed >> 50 & 1 ? BASE_HEADER_BYTES : 0, seed);
	case DAMAGE_LOG_FLIP:
	case DAMAGE_LOG_SECTOR:
		return damage_log(root, kind == DAMAGE_LOG_SECTOR, seed);
	default:
		return false;
	}
}

bool
crash_damages_base(enum crash_damage kind)
{
	return kind >= DAMAGE_BASE_HEADER && kind <= DAMAGE_INDEX_AND_BASE;
}

const char *
crash_damage_name(enum crash_damage kind)
{
	static const char *const names[DAMAGE_KINDS] = {"", "a flipped bit of index.db", "a torn page of index.db", "a page of zeros in index.db", "index.db cut short",
	    "an altered record of index.db", "a flipped bit of summary.db", "summary.db cut short",
	    "a flipped bit of the base copy's header", "a flipped bit of the base copy", "the base copy cut short",
	    "damage of index.db and of the base copy", "a flipped bit of the log", "a lost sector of the log"};

	return names[kind];
}
