#include "smtpd/sts_cache.h"

#include "common/buf.h"
#include "common/dns_name.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/memfd.h"
#include "store/file.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#define FILE_BYTES_MAX (STS_POLICY_BYTES_MAX + 256)
/* No domain has such a name. */
#define NEW_NAME "new"

static char dir[FILE_PATH_BYTES_MAX];
static struct name_table by_domain;
static struct sts_entry *all;

static void
forget(struct sts_entry *e)
{
	name_table_remove(&by_domain, &e->link);
	if (e->previous)
		e->previous->next = e->next;
	else
		all = e->next;
	if (e->next)
		e->next->previous = e->previous;
	free(e->text);
	free(e);
}

static void
remove_policy(struct sts_entry *entry)
{
	char path[FILE_PATH_BYTES_MAX];
	struct err e;

	file_path(path, dir, entry->domain);
	if (file_unlink(path, &e) < 0)
		log_event(LOG_WARN, NO_SESSION, "sts-unlink", LOG_ERR(&e), LOG_END);
	forget(entry);
}

/* A new entry, which is no policy yet when text is none. */
static struct sts_entry *
entry_new(struct slice domain, struct slice text)
{
	struct sts_entry *e = mem_new_array(1, sizeof *e + domain.n + 1);

	memcpy(e->domain, domain.p, domain.n);
	e->domain[domain.n] = '\0';
	e->text = mem_new_array(text.n ? text.n : 1, 1);
	e->text_bytes = text.n;
	memcpy(e->text, text.p, text.n);
	if (!sts_policy_parse(slice_of(e->text, e->text_bytes), &e->policy)) {
		free(e->text);
		free(e);
		return NULL;
	}
	name_table_add(&by_domain, &e->link, slice_str(e->domain));
	e->next = all;
	if (all)
		all->previous = e;
	all = e;
	return e;
}

static struct sts_entry *
find(struct slice domain)
{
	struct name_link *l = name_table_find(&by_domain, domain);

	return l ? (struct sts_entry *)((uint8_t *)l - offsetof(struct sts_entry, link)) : NULL;
}

struct sts_entry *
sts_cache_find(struct slice domain, uint64_t now)
{
	struct sts_entry *e = find(domain);

	/* A fetch in the future: the clock was wrong then, or is now. */
	if (e != NULL && (now >= e->expires || now + 86400 < e->fetched)) {
		remove_policy(e);
		e = NULL;
	}
	return e;
}

/* ---- the disk ---- */

static int
save(const struct sts_entry *entry, struct err *e)
{
	char path[FILE_PATH_BYTES_MAX], new[FILE_PATH_BYTES_MAX];
	struct buf b;
	int fd, r;

	file_path(path, dir, entry->domain);
	file_path(new, dir, NEW_NAME);
	if (file_unlink(new, e) < 0)
		return -1;
	fd = file_open(new, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, e);
	if (fd < 0)
		return -1;
	buf_init(&b, FILE_BYTES_MAX);
	buf_putf(&b, "MSTS1 %s %" PRIu64 " %" PRIu64 "\n", entry->id, entry->fetched, entry->expires);
	buf_put(&b, entry->text, entry->text_bytes);
	r = file_write(fd, 0, buf_slice(&b), e);
	buf_fini(&b);
	if (r == 0)
		r = file_sync(fd, e);
	if (file_close(fd, r == 0 ? e : NULL) < 0)
		r = -1;
	if (r == 0)
		r = file_rename(new, path, e);
	return r == 0 ? file_sync_dir(dir, e) : -1;
}

/* The first line; the rest is the policy. */
static bool
take_head(struct slice *text, char id[STS_ID_CHARS_MAX + 1], uint64_t *fetched_r, uint64_t *expires_r)
{
	struct slice head, word;

	return slice_cut(text, '\n', &head) && slice_cut(&head, ' ', &word) && slice_eq(word, SLICE("MSTS1")) &&
	    slice_cut(&head, ' ', &word) && slice_cstr(word, id, STS_ID_CHARS_MAX + 1) && slice_cut(&head, ' ', &word) &&
	    slice_u64(word, UINT32_MAX, fetched_r) && slice_u64(head, UINT32_MAX, expires_r);
}

static void
load(const char *path, const char *name, uint64_t now)
{
	struct sts_entry *entry = NULL;
	char id[STS_ID_CHARS_MAX + 1];
	uint64_t fetched, expires;
	struct slice text;
	struct buf b;
	struct err e = {0};
	int fd = file_open(path, O_RDONLY | O_CLOEXEC, &e);

	buf_init(&b, FILE_BYTES_MAX);
	if (fd >= 0 && memfd_read_all(fd, &b, &e) == 0) {
		text = buf_slice(&b);
		if (take_head(&text, id, &fetched, &expires) && now < expires && expires - now <= STS_AGE_SECONDS_MAX)
			entry = entry_new(slice_str(name), text);
	}
	if (fd >= 0)
		(void)file_close(fd, NULL);
	buf_fini(&b);
	if (entry != NULL) {
		(void)snprintf(entry->id, sizeof entry->id, "%s", id);
		entry->fetched = fetched;
		entry->expires = expires;
	} else if (file_unlink(path, &e) < 0) {
		log_event(LOG_WARN, NO_SESSION, "sts-unlink", LOG_ERR(&e), LOG_END);
	}
}

static int
on_file(void *arg, const char *path, const char *name, struct err *e)
{
	const uint64_t *now = arg;

	(void)e;
	/* One that stands for no domain was being written. */
	if (by_domain.count < STS_CACHE_POLICIES_MAX && slice_index(slice_str(name), '.') < strlen(name))
		load(path, name, *now);
	return 0;
}

int
sts_cache_open(const char *path, uint64_t now, struct err *e)
{
	name_table_init(&by_domain);
	(void)snprintf(dir, sizeof dir, "%s", path);
	return file_each(dir, on_file, &now, e);
}

void
sts_cache_close(void)
{
	while (all)
		forget(all);
	name_table_fini(&by_domain);
}

static void
make_room(void)
{
	struct sts_entry *first = all;

	if (by_domain.count < STS_CACHE_POLICIES_MAX)
		return;
	for (struct sts_entry *e = all; e; e = e->next)
		if (e->expires < first->expires)
			first = e;
	remove_policy(first);
}

struct sts_entry *
sts_cache_put(struct slice domain, struct slice id, uint64_t now, struct slice text)
{
	struct sts_entry *old = find(domain);
	struct sts_entry *entry;
	struct err e = {0};

	if (old != NULL)
		forget(old);
	make_room();
	entry = entry_new(domain, text);
	if (entry == NULL)
		return NULL;
	entry->fetched = now;
	entry->expires = now + entry->policy.max_age;
	if (!slice_cstr(id, entry->id, sizeof entry->id))
		entry->id[0] = '\0';
	if (save(entry, &e) < 0)
		log_event(LOG_WARN, NO_SESSION, "sts-save", LOG_CSTR("domain", entry->domain), LOG_ERR(&e), LOG_END);
	return entry;
}
