/*
 * The zone's own names must never be asked of anybody else: libunbound gets the file as an authoritative zone without fallback.
 */
#include "admin/lab.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEPTH_MAX 16
#define SETTINGS_BYTES_MAX 4096u

void
lab_put_lines(struct buf *b, struct slice text)
{
	struct slice line;

	while (text.n > 0 && slice_cut(&text, '\n', &line)) {
		if (line.n > 0 && line.p[line.n - 1] == '\r')
			line.n--;
		buf_put_slice(b, line);
		buf_put_str(b, "\r\n");
	}
}

/* ---- the zone ---- */

/* The name behind the first $ORIGIN. */
static bool
origin_of(struct slice zone, char name_r[LAB_NAME_SIZE])
{
	struct slice line, word;

	while (slice_cut(&zone, '\n', &line)) {
		if (!slice_starts(line, SLICE("$ORIGIN")))
			continue;
		line = slice_trim(slice_sub(line, sizeof "$ORIGIN" - 1, line.n));
		(void)slice_cut(&line, ';', &word);
		return slice_cstr(slice_trim(word), name_r, LAB_NAME_SIZE);
	}
	return false;
}

/* The word SOA, outside of comments. */
static bool
has_soa(struct slice zone)
{
	struct slice line, text, word;

	while (slice_cut(&zone, '\n', &line)) {
		(void)slice_cut(&line, ';', &text);
		while (slice_cut(&text, ' ', &word))
			if (slice_eq_nocase(slice_trim(word), SLICE("SOA")))
				return true;
	}
	return false;
}

static int
write_text(const struct lab *lab, const char *name, struct slice text, struct err *e)
{
	char path[PATH_MAX];

	(void)snprintf(path, sizeof path, "%s/%s", lab->demo.directory, name);
	return demo_write_file(path, text, e);
}

static int
write_zone(const struct lab *lab, struct slice zone, const char *origin, struct err *e)
{
	struct buf b;
	int failed;

	buf_init(&b, 2 * LAB_ZONE_BYTES_MAX);
	buf_putf(&b, "$ORIGIN %s\n$TTL 300\n", origin);
	if (!has_soa(zone))
		buf_put_str(&b, "@ IN SOA lab.invalid. lab.invalid. 1 3600 600 86400 60\n@ IN NS lab.invalid.\n");
	buf_put_slice(&b, zone);
	buf_put_str(&b, "\n");
	failed = b.failed ? err_sys(e, EFBIG, "the zone") : write_text(lab, "zone", buf_slice(&b), e);
	buf_fini(&b);
	return failed;
}

/* test. and invalid. are names that libunbound would answer itself. */
static int
write_dns(const struct lab *lab, const char *origin, struct err *e)
{
	struct buf b;
	int failed;

	buf_init(&b, SETTINGS_BYTES_MAX);
	buf_put_str(&b, "server:\n  unblock-lan-zones: yes\n  local-zone: \"test.\" nodefault\n  local-zone: \"invalid.\" nodefault\n");
	/* What is published above it cannot vouch for it. */
	buf_putf(&b, "  domain-insecure: \"%s\"\n", origin);
	buf_putf(&b, "auth-zone:\n  name: \"%s\"\n  zonefile: \"%s/zone\"\n", origin, lab->demo.directory);
	buf_put_str(&b, "  for-downstream: no\n  for-upstream: yes\n  fallback-enabled: no\n");
	/* Without an address it takes the zone out of what dns.server is asked. */
	buf_putf(&b, "forward-zone:\n  name: \"%s\"\n", origin);
	failed = b.failed ? err_sys(e, EFBIG, "the zone's name") : write_text(lab, "dns", buf_slice(&b), e);
	buf_fini(&b);
	return failed;
}

/* ---- the server ---- */

static int
free_port(uint16_t *port_r, struct err *e)
{
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof any;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int failed = fd < 0 || bind(fd, (struct sockaddr *)&any, sizeof any) < 0 || getsockname(fd, (struct sockaddr *)&any, &n) < 0
	    ? err_sys(e, errno, "a port")
	    : 0;

	*port_r = ntohs(any.sin_port);
	if (fd >= 0)
		(void)close(fd);
	return failed;
}

static int
write_settings(const struct lab *lab, struct err *e)
{
	static const char *const unused[] = {"submission", "submissions", "imap", "imaps", "pop3", "pop3s"};
	struct buf b;
	int failed;

	buf_init(&b, SETTINGS_BYTES_MAX);
	for (size_t i = 0; i < sizeof unused / sizeof unused[0]; i++)
		buf_putf(&b, "listen.%s = 0\n", unused[i]);
	buf_putf(&b, "listen.smtp = %u\nsmtp.proxy_from = \"127.0.0.1\"\n", lab->port);
	buf_putf(&b, "dns.settings = \"%s/dns\"\ndns.timeout = 3s\n", lab->demo.directory);
	if (lab->dns != NULL)
		buf_putf(&b, "dns.server = \"%s\"\n", lab->dns);
	failed = b.failed ? err_sys(e, EFBIG, "the settings") : write_text(lab, "mailstead.conf", buf_slice(&b), e);
	buf_fini(&b);
	return failed;
}

int
lab_prepare(struct lab *lab, struct slice zone, const char *origin, struct err *e)
{
	char found[LAB_NAME_SIZE];

	if (origin == NULL && origin_of(zone, found))
		origin = found;
	if (origin == NULL || *origin == '\0' || strpbrk(origin, "\"\\\n") != NULL)
		return err_set(e, ERR_PERM, ERR_CODE_BAD_NAME, "bad name",
		    "which name does the zone have? Give --origin NAME, or begin the file with $ORIGIN");
	if (free_port(&lab->port, e) < 0 || write_zone(lab, zone, origin, e) < 0 || write_dns(lab, origin, e) < 0 ||
	    write_settings(lab, e) < 0)
		return -1;
	return demo_prepare(&lab->demo, lab->demo.directory, 0, e);
}

static int
remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	(void)st;
	(void)kind;
	(void)ftw;
	(void)remove(path);
	return 0;
}

void
lab_remove(const char *directory)
{
	(void)nftw(directory, remove_one, DEPTH_MAX, FTW_DEPTH | FTW_PHYS);
}
