#include "smtpd/transport_relay.h"

#include "common/dns_name.h"
#include "smtpd/transport_route.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define READ_BYTES 4096

/* ---- routes ---- */

/* The next entry of routes; false at the end. */
static bool
next_route(struct slice *rest, struct slice *entry_r)
{
	while (slice_cut(rest, ' ', entry_r))
		if (entry_r->n > 0)
			return true;
	return false;
}

static bool
route_split(struct slice entry, struct slice *domain_r, struct slice *relay_r)
{
	size_t at = slice_index(entry, '=');

	*domain_r = slice_sub(entry, 0, at);
	*relay_r = slice_sub(entry, at + 1, entry.n);
	return at > 0 && at < entry.n && relay_r->n <= TRANSPORT_RELAY_BYTES_MAX;
}

static bool
is_direct(struct slice relay)
{
	return slice_eq(relay, SLICE("-"));
}

bool
transport_routes_valid(struct slice routes, struct slice *wrong_r)
{
	struct slice domain, relay;

	while (next_route(&routes, wrong_r))
		if (!route_split(*wrong_r, &domain, &relay) || slice_eq(domain, SLICE(".")) ||
		    (!is_direct(relay) && !transport_relay_valid(relay)))
			return false;
	return true;
}

static bool
route_matches(struct slice domain, struct slice destination)
{
	if (domain.p[0] == '.')
		return destination.n > domain.n && slice_ends_nocase(destination, domain);
	return slice_eq_nocase(destination, domain);
}

struct slice
transport_relay_for(struct slice routes, struct slice all, struct slice destination)
{
	struct slice entry, domain, relay, best = all;
	size_t longest = 0;

	while (next_route(&routes, &entry)) {
		if (!route_split(entry, &domain, &relay) || !route_matches(domain, destination) || domain.n <= longest)
			continue;
		longest = domain.n;
		best = relay;
	}
	return is_direct(best) ? slice_of(NULL, 0) : best;
}

/* ---- credentials ---- */

static bool
is_blank(uint8_t c)
{
	return c == ' ' || c == '\t';
}

static struct slice
cut_word(struct slice *rest)
{
	size_t n = 0, end;

	while (n < rest->n && !is_blank(rest->p[n]))
		n++;
	for (end = n; end < rest->n && is_blank(rest->p[end]); end++)
		continue;
	struct slice word = slice_sub(*rest, 0, n);

	*rest = slice_sub(*rest, end, rest->n);
	return word;
}

static bool
line_read(struct slice line, struct slice *relay_r, struct transport_credentials *c_r)
{
	*relay_r = cut_word(&line);
	c_r->user = cut_word(&line);
	c_r->password = line;
	return transport_relay_valid(*relay_r) && c_r->user.n > 0 && c_r->user.n <= TRANSPORT_USER_BYTES_MAX && c_r->password.n > 0 &&
	       c_r->password.n <= TRANSPORT_PASSWORD_BYTES_MAX && memchr(line.p, '\0', line.n) == NULL;
}

static bool
next_line(struct slice *rest, unsigned *number, struct slice *line_r)
{
	while (slice_cut(rest, '\n', line_r)) {
		++*number;
		*line_r = slice_trim(*line_r);
		if (line_r->n > 0 && line_r->p[0] != '#')
			return true;
	}
	return false;
}

bool
transport_credentials_find(struct slice file, struct slice relay, struct transport_credentials *c_r)
{
	struct slice line, of;
	unsigned number = 0;

	while (next_line(&file, &number, &line))
		if (line_read(line, &of, c_r) && slice_eq_nocase(of, relay))
			return true;
	*c_r = (struct transport_credentials){.user = slice_of(NULL, 0)};
	return false;
}

unsigned
transport_credentials_wrong(struct slice file)
{
	struct transport_credentials c;
	struct slice line, relay;
	unsigned number = 0;

	while (next_line(&file, &number, &line))
		if (!line_read(line, &relay, &c))
			return number;
	return 0;
}

int
transport_credentials_load(const char *path, struct buf *out, struct err *e)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	ssize_t n = 1;

	if (fd < 0)
		return err_sys(e, errno, path);
	while (n > 0) {
		uint8_t *room = buf_room(out, READ_BYTES);

		if (room == NULL) {
			(void)close(fd);
			return err_set(e, ERR_LIMIT, ERR_CODE_TOO_BIG, "wrong setting", "%s is too long", path);
		}
		n = read(fd, room, READ_BYTES);
		if (n > 0)
			buf_added(out, (size_t)n);
	}
	int error = errno;

	(void)close(fd);
	return n < 0 ? err_sys(e, error, path) : 0;
}
