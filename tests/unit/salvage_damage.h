/*
 * Accounts that are held in memory, damaged as a string of octets says, and written to a directory: what the fuzzer of the
 * salvage does with its input, and its test with random octets.
 *
 * Each eight octets are one step: what to do (1), with which file (1), where (4), an octet (1), how many (1). A step of
 * the kind DAMAGE_FIELD changes what lies under a checksum, and puts that right: of a record, and of the block, the redo
 * record or the page that it lies in.
 */
#ifndef TESTS_UNIT_SALVAGE_DAMAGE_H
#define TESTS_UNIT_SALVAGE_DAMAGE_H

#include "tests/unit/salvage_fixture.h"

#include "store/base.h"
#include "store/carve.h"

#include <zlib.h>

#define DAMAGE_STEP_BYTES 8u
#define DAMAGE_STEPS_MAX 64u
#define DAMAGE_ACCOUNTS 8u
#define DAMAGE_FILES_MAX 256u
#define DAMAGE_NAME_BYTES 64u
#define DAMAGE_SECTOR_BYTES 512u
/* What is kept of the zeros that Berkeley DB's logs end with. */
#define DAMAGE_ZEROS_BYTES 4096u

enum damage_what {
	DAMAGE_CUT,
	DAMAGE_REMOVE,
	DAMAGE_OCTETS,	  /* some octets become this one */
	DAMAGE_PRINTABLE, /* the same, with one that text has */
	DAMAGE_BIT,
	DAMAGE_LOST,	/* a sector is zeros */
	DAMAGE_ASTRAY,	/* a sector was written somewhere else in its file */
	DAMAGE_CROSSED, /* a file has the octets of the one behind it */
	DAMAGE_FIELD,	/* the half of all steps */
	DAMAGE_WHATS = 16,
};

struct damage_file {
	char name[DAMAGE_NAME_BYTES]; /* below the account's directory */
	uint8_t *p;
	size_t n;
	size_t used; /* without the zeros at its end */
};

/* What a checksum covers, which is one of these: */
enum damage_sum { DAMAGE_SUM_HEADER, DAMAGE_SUM_BLOCK, DAMAGE_SUM_REDO, DAMAGE_SUM_PAGE };
struct damage_field {
	unsigned file;
	enum damage_sum sum;
	size_t from; /* where the covered octets begin, and their number */
	size_t n;
	size_t key; /* of a record in it; key_n 0: its value is other octets in it */
	size_t key_n;
	size_t value;
	size_t value_n;
};

struct damage_account {
	struct damage_file files[DAMAGE_FILES_MAX];
	size_t n;
	struct damage_field *fields;
	size_t field_count;
};

/* ---- reading an account ---- */

static inline int
damage_name_cmp(const void *a, const void *b)
{
	return strcmp(((const struct damage_file *)a)->name, ((const struct damage_file *)b)->name);
}

static inline void
damage_read_file(struct damage_file *f, const char *path)
{
	struct stat st;
	int fd = open(path, O_RDONLY);

	if (fd < 0 || fstat(fd, &st) < 0 || (f->p = malloc((size_t)st.st_size + 1)) == NULL ||
	    read(fd, f->p, (size_t)st.st_size) != st.st_size)
		abort();
	(void)close(fd);
	for (f->used = (size_t)st.st_size; f->used > 0 && f->p[f->used - 1] == 0;)
		f->used--;
	f->n = (size_t)st.st_size - f->used > DAMAGE_ZEROS_BYTES ? f->used + DAMAGE_ZEROS_BYTES : (size_t)st.st_size;
}

static inline void
damage_read_dir(struct damage_account *a, const char *root, const char *below)
{
	char dir[FILE_PATH_BYTES_MAX], path[FILE_PATH_BYTES_MAX], name[DAMAGE_NAME_BYTES];
	struct stat st;

	file_path(dir, root, below);
	DIR *d = opendir(dir);

	assert(d != NULL);
	for (struct dirent *f; (f = readdir(d)) != NULL;) {
		int n = snprintf(name, sizeof name, "%s%s%.40s", below, below[0] != '\0' ? "/" : "", f->d_name);

		file_path(path, root, name);
		if (f->d_name[0] == '.' || n < 0 || (size_t)n >= sizeof name || stat(path, &st) < 0)
			continue;
		if (S_ISDIR(st.st_mode)) {
			damage_read_dir(a, root, name);
		} else {
			assert(a->n < DAMAGE_FILES_MAX);
			memcpy(a->files[a->n].name, name, sizeof name);
			damage_read_file(&a->files[a->n++], path);
		}
	}
	(void)closedir(d);
}

/* ---- what its checksums cover ---- */

static inline void
damage_add(struct damage_account *a, struct damage_field f)
{
	a->fields = realloc(a->fields, (a->field_count + 1) * sizeof *a->fields);
	assert(a->fields != NULL);
	a->fields[a->field_count++] = f;
}

/* The records in octets, which begin at `at` of the file. */
static inline void
damage_add_records(struct damage_account *a, struct damage_field f, struct slice octets, size_t at)
{
	struct slice key, value;
	const uint8_t *start = octets.p - at;

	for (size_t done = 0, took; done < octets.n; done += took > 0 ? took : 1) {
		took = carve_match(slice_sub(octets, done, octets.n), &key, &value);
		if (took == 0)
			continue;
		f.key = (size_t)(key.p - start);
		f.key_n = key.n;
		f.value = (size_t)(value.p - start);
		f.value_n = value.n;
		damage_add(a, f);
	}
}

static inline void
damage_add_base(struct damage_account *a, unsigned file)
{
	struct slice octets = slice_of(a->files[file].p, a->files[file].n);
	size_t at = BASE_HEADER_BYTES;

	damage_add(a, (struct damage_field){.file = file, .sum = DAMAGE_SUM_HEADER, .n = at - 4, .value_n = at - 4});
	while (at + 8 <= octets.n) {
		struct cursor c = cursor_of(slice_sub(octets, at, octets.n));
		size_t n = cursor_u32(&c);

		if (n == 0 || n > octets.n - at - 8)
			return;
		at += 8;
		damage_add_records(a, (struct damage_field){.file = file, .sum = DAMAGE_SUM_BLOCK, .from = at, .n = n},
		    slice_sub(octets, at, at + n), at);
		at += n;
	}
}

static inline void
damage_add_log(struct damage_account *a, unsigned file)
{
	struct slice octets = slice_of(a->files[file].p, a->files[file].n);
	struct carve_log log = {.n = 0};

	carve_log_file(&log, 1, a->files[file].p, octets.n);
	for (size_t i = 0; i < log.n; i++) {
		size_t at = (size_t)(log.list[i].record.p - octets.p) + 16, n = log.list[i].record.n - 20;
		struct damage_field f = {.file = file, .sum = DAMAGE_SUM_REDO, .from = at, .n = n, .value = at, .value_n = n};

		damage_add(a, f);
		damage_add_records(a, f, slice_sub(octets, at, at + n), at);
	}
	carve_log_free(&log);
}

struct damage_pages {
	struct damage_account *a;
	struct damage_field f;
	const uint8_t *page;
};

static inline void
damage_on_page_record(void *arg, struct slice key, struct slice value)
{
	struct damage_pages *p = arg;

	if (value.p < p->page || value.p >= p->page + CARVE_PAGE_BYTES)
		return;
	p->f.key = p->f.from + (size_t)(key.p - p->page);
	p->f.key_n = key.n;
	p->f.value = p->f.from + (size_t)(value.p - p->page);
	p->f.value_n = value.n;
	damage_add(p->a, p->f);
}

static inline void
damage_add_pages(struct damage_account *a, unsigned file)
{
	for (size_t at = 0; at + CARVE_PAGE_BYTES <= a->files[file].n; at += CARVE_PAGE_BYTES) {
		struct damage_pages p = {.a = a, .page = a->files[file].p + at};

		p.f = (struct damage_field){.file = file, .sum = DAMAGE_SUM_PAGE, .from = at, .n = CARVE_PAGE_BYTES,
		    .value = at, .value_n = 26};
		damage_add(a, p.f);
		carve_page(p.page, -1, damage_on_page_record, &p);
	}
}

/* Makes the account as salvage_make() does, and keeps it. */
static inline void
damage_prepare(struct damage_account *a, unsigned how, unsigned messages)
{
	char root[64];

	*a = (struct damage_account){.n = 0};
	fixture_dir(root);
	salvage_make(root, how, messages);
	damage_read_dir(a, root, "");
	(void)tree_remove(root);
	qsort(a->files, a->n, sizeof a->files[0], damage_name_cmp);
	for (unsigned i = 0; i < a->n; i++) {
		if (strcmp(a->files[i].name, "index/base") == 0)
			damage_add_base(a, i);
		if (strncmp(a->files[i].name, "index/log.", 10) == 0)
			damage_add_log(a, i);
		if (strcmp(a->files[i].name, "index/index.db") == 0)
			damage_add_pages(a, i);
	}
}

static inline void
damage_free(struct damage_account *a)
{
	for (size_t i = 0; i < a->n; i++)
		free(a->files[i].p);
	free(a->fields);
	*a = (struct damage_account){.n = 0};
}

/* A copy to be damaged; what its checksums cover is the first one's. */
static inline void
damage_copy(struct damage_account *a, const struct damage_account *from)
{
	*a = *from;
	for (size_t i = 0; i < a->n; i++) {
		a->files[i].p = malloc(a->files[i].n + 1);
		assert(a->files[i].p != NULL);
		memcpy(a->files[i].p, from->files[i].p, a->files[i].n);
	}
}

static inline void
damage_copy_free(struct damage_account *a)
{
	a->fields = NULL;
	damage_free(a);
}

/* ---- damage ---- */

static inline void
damage_put_u32(uint8_t *p, uint32_t v)
{
	for (unsigned i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> (24 - 8 * i));
}

/* Berkeley DB's own sum of a log record of n octets with its header. */
static inline void
damage_log_sum(uint8_t *p, size_t n)
{
	uint32_t sum = 0, head[2];

	for (size_t i = 12; i < n; i++)
		sum = sum * 33 + p[i];
	memcpy(head, p, sizeof head);
	sum ^= head[0] ^ head[1];
	memcpy(p + 8, &sum, sizeof sum);
}

static inline void
damage_put_right(uint8_t *p, const struct damage_field *f)
{
	uint32_t sum = 0;

	if (f->key_n > 0) {
		uLong crc = crc32(0, p + f->key, (uInt)f->key_n);

		damage_put_u32(p + f->value + 4, 0);
		damage_put_u32(p + f->value + 4, (uint32_t)crc32(crc, p + f->value, (uInt)f->value_n));
	}
	if (f->sum == DAMAGE_SUM_PAGE) {
		memset(p + f->from + 28, 0, 4);
		for (size_t i = 0; i < f->n; i++)
			sum = (sum << 5) + sum + p[f->from + i];
		memcpy(p + f->from + 28, &sum, sizeof sum);
		return;
	}
	damage_put_u32(f->sum == DAMAGE_SUM_BLOCK ? p + f->from - 4 : p + f->from + f->n,
	    (uint32_t)crc32(0, p + f->from, (uInt)f->n));
	if (f->sum == DAMAGE_SUM_REDO)
		damage_log_sum(p + f->from - 28, f->n + 32);
}

static inline void
damage_field_step(struct damage_account *a, uint32_t where, uint8_t octet, size_t many)
{
	const struct damage_field *f = &a->fields[(where >> 16) % a->field_count];
	struct damage_file *file = &a->files[f->file];
	size_t at = (where & 0xffff) % f->value_n;

	/* After one that cut it short or took it away. */
	if (f->from + f->n + 4 > file->n)
		return;
	for (size_t i = at; i < f->value_n && i < at + many; i++)
		file->p[f->value + i] = octet;
	damage_put_right(file->p, f);
}

static inline void
damage_cross(struct damage_file *to, const struct damage_file *from)
{
	uint8_t *p = malloc(from->n + 1);

	assert(p != NULL);
	memcpy(p, from->p, from->n);
	free(to->p);
	to->p = p;
	to->n = from->n;
	to->used = from->used;
}

static inline void
damage_sector(struct damage_file *f, size_t at, size_t from, bool zeros)
{
	size_t n = f->n - at < DAMAGE_SECTOR_BYTES ? f->n - at : DAMAGE_SECTOR_BYTES;

	if (zeros)
		memset(f->p + at, 0, n);
	else if (from + n <= f->n)
		memmove(f->p + at, f->p + from, n);
}

static inline void
damage_step(struct damage_account *a, const uint8_t step[DAMAGE_STEP_BYTES])
{
	/* Half of it is for the few files that hold the index. */
	size_t which = step[1] < 128 ? step[1] % 8u : step[1] % a->n;
	uint32_t where = (uint32_t)step[2] << 24 | (uint32_t)step[3] << 16 | (uint32_t)step[4] << 8 | step[5];
	size_t many = 1 + step[7] % 8u, sector;
	struct damage_file *f = &a->files[which];
	enum damage_what what = step[0] % DAMAGE_WHATS;

	if (what >= DAMAGE_FIELD) {
		damage_field_step(a, where, step[6], many);
		return;
	}
	if (f->n == 0 || f->name[0] == '\0')
		return;
	size_t at = where % (f->used > 0 && f->used < f->n && step[7] < 192 ? f->used : f->n);

	switch (what) {
	case DAMAGE_CUT:
		f->n = at;
		f->used = f->used < at ? f->used : at;
		break;
	case DAMAGE_REMOVE:
		f->name[0] = '\0';
		f->n = f->used = 0;
		break;
	case DAMAGE_BIT:
		f->p[at] ^= (uint8_t)(1u << step[6] % 8);
		break;
	case DAMAGE_LOST:
	case DAMAGE_ASTRAY:
		sector = at - at % DAMAGE_SECTOR_BYTES;
		damage_sector(f, sector, step[6] * (size_t)DAMAGE_SECTOR_BYTES, what == DAMAGE_LOST);
		break;
	case DAMAGE_CROSSED:
		damage_cross(f, &a->files[(which + 1) % a->n]);
		break;
	default:
		for (size_t i = at; i < f->n && i < at + many; i++)
			f->p[i] = what == DAMAGE_PRINTABLE ? (uint8_t)(' ' + step[6] % 95) : step[6];
	}
}

/* ---- to the disk ---- */

static inline void
damage_write(const struct damage_account *a, const char *root)
{
	char path[FILE_PATH_BYTES_MAX];
	int dir = open(root, O_RDONLY | O_DIRECTORY);

	assert(dir >= 0);
	for (size_t i = 0; i < a->n; i++) {
		const struct damage_file *f = &a->files[i];

		if (f->name[0] == '\0')
			continue;
		memcpy(path, f->name, sizeof f->name);
		for (char *slash = path; (slash = strchr(slash, '/')) != NULL; *slash++ = '/') {
			*slash = '\0';
			(void)mkdirat(dir, path, 0700);
		}
		int fd = openat(dir, path, O_WRONLY | O_CREAT | O_EXCL, 0600);

		if (fd < 0 || write(fd, f->p, f->n) != (ssize_t)f->n || close(fd) < 0)
			abort();
	}
	(void)close(dir);
}

/* A copy of the account in root, which is empty, after all steps that the octets are. */
static inline void
damage_make(const struct damage_account *from, struct slice steps, const char *root)
{
	struct damage_account a;

	damage_copy(&a, from);
	for (size_t at = 0, n = 0; at + DAMAGE_STEP_BYTES <= steps.n && n < DAMAGE_STEPS_MAX; at += DAMAGE_STEP_BYTES, n++)
		damage_step(&a, steps.p + at);
	damage_write(&a, root);
	damage_copy_free(&a);
}

/* ---- a file layer that waits for nothing ---- */

static inline int
damage_no_sync(int fd)
{
	(void)fd;
	return 0;
}

static inline int
damage_no_room(int fd, off_t length)
{
	(void)fd;
	(void)length;
	return 0;
}

static inline void
damage_no_evict(const char *path)
{
	(void)path;
}

static bool damage_is_log[1024];

static inline int
damage_open(const char *path, int flags, mode_t mode)
{
	int fd = file_system_ops()->open(path, flags, mode);

	if (fd >= 0 && fd < 1024)
		damage_is_log[fd] = strstr(path, "/log.") != NULL;
	return fd;
}

/* Recovery fills the last log with zeros up to its greatest length: they are left out. */
static inline ssize_t
damage_pwrite(int fd, const void *p, size_t n, off_t at)
{
	const uint8_t *octets = p;
	struct stat st;

	if (fd < 1024 && damage_is_log[fd] && n > 0 && octets[0] == 0 && memcmp(octets, octets + 1, n - 1) == 0 &&
	    fstat(fd, &st) == 0 && at >= st.st_size)
		return (ssize_t)n;
	return pwrite(fd, p, n, at);
}

/* Log files have the length that was written, so that nobody fills or reads two MiB of zeros. */
static inline void
damage_use_fast_files(void)
{
	static const struct file_ops ops = {.open = damage_open, .pwrite = damage_pwrite, .sync = damage_no_sync,
	    .allocate = damage_no_room, .evict = damage_no_evict};

	file_use(&ops);
}

#endif
