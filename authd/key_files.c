#include "authd/key_files.h"

#include "common/log.h"
#include "common/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define PATH_SIZE 1024
#define BLOCK 4096

void
key_files_buf_init(struct buf *b)
{
	buf_init(b, KEY_FILE_BYTES_MAX + BLOCK);
	(void)buf_room(b, KEY_FILE_BYTES_MAX + BLOCK);
}

void
key_files_buf_fini(struct buf *b)
{
	mem_wipe(b->p, b->cap);
	buf_fini(b);
}

int
key_files_read(const char *path, struct buf *b, struct err *e)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	ssize_t n = 1;

	if (fd < 0)
		return err_sys(e, errno, path);
	while (n > 0) {
		uint8_t *room = buf_room(b, BLOCK);

		if (room == NULL) {
			(void)close(fd);
			return err_set(e, ERR_PERM, ERR_CODE_TOO_BIG, "the file is too big", "%s is over %u octets", path,
			    KEY_FILE_BYTES_MAX);
		}
		n = read(fd, room, BLOCK);
		if (n > 0)
			buf_added(b, (size_t)n);
	}
	int errnum = errno;

	(void)close(fd);
	return n < 0 ? err_sys(e, errnum, path) : 0;
}

static void
complain(const char *domain, const char *selector, const struct err *e)
{
	log_event(LOG_ERROR, NO_SESSION, "dkim-key-unusable", LOG_CSTR("domain", domain), LOG_CSTR("selector", selector), LOG_ERR(e),
	    LOG_END);
}

static void
load_key(struct key_dkim *ks, const char *directory, const char *domain, const struct dkim_selector *s)
{
	char path[PATH_SIZE];
	struct buf pem;
	struct err e;

	(void)snprintf(path, sizeof path, "%s/%s/%s.%s.pem", directory, domain, s->name, dkim_algorithm_key_type(s->algorithm));
	key_files_buf_init(&pem);
	if (key_files_read(path, &pem, &e) < 0 || key_dkim_add(ks, slice_str(domain), s, buf_slice(&pem), &e) < 0)
		complain(domain, s->name, &e);
	key_files_buf_fini(&pem);
}

static void
load_domain(struct key_dkim *ks, const char *directory, const char *domain, uint64_t now)
{
	static struct dkim_selectors list;
	char path[PATH_SIZE];
	struct buf text;
	struct err e;

	(void)snprintf(path, sizeof path, "%s/%s/" DKIM_SELECTOR_FILE, directory, domain);
	/* The command has just begun with this domain, or never came further. */
	if (access(path, F_OK) < 0 && errno == ENOENT)
		return;
	buf_init(&text, KEY_FILE_BYTES_MAX + BLOCK);
	list.n = 0;
	if (key_files_read(path, &text, &e) < 0) {
		complain(domain, "", &e);
	} else if (!dkim_selectors_parse(buf_slice(&text), &list)) {
		list.n = 0;
		(void)err_set(&e, ERR_PERM, ERR_CODE_CORRUPT, "the file is damaged", "%s is no list of selectors", path);
		complain(domain, "", &e);
	}
	buf_fini(&text);
	for (unsigned i = 0; i < list.n; i++)
		if (list.v[i].use_from != 0 && dkim_selector_state(&list.v[i], now) != DKIM_SELECTOR_RETIRED)
			load_key(ks, directory, domain, &list.v[i]);
}

void
key_files_load_dkim(struct key_dkim *ks, const char *state_dir, uint64_t now)
{
	char directory[PATH_SIZE / 2];
	struct dirent *entry;
	unsigned n = 0;
	struct err e;

	(void)snprintf(directory, sizeof directory, "%s/" DKIM_SELECTOR_DIR, state_dir);
	DIR *d = opendir(directory);

	if (d == NULL && errno != ENOENT) {
		(void)err_sys(&e, errno, directory);
		complain("", "", &e);
	}
	while (d != NULL && (entry = readdir(d)) != NULL && n < KEY_FILES_DOMAINS_MAX)
		if (entry->d_name[0] != '.') {
			n++;
			load_domain(ks, directory, entry->d_name, now);
		}
	if (n == KEY_FILES_DOMAINS_MAX)
		log_event(LOG_ERROR, NO_SESSION, "dkim-too-many-domains", LOG_NUM("most", n), LOG_END);
	if (d != NULL)
		(void)closedir(d);
}
