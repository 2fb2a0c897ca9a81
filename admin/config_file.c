/*
 * libconfuse parses the file: its lexer takes dotted names and unquoted values as they are. Every
 * option is declared as a string and checked by common/config.c, so that one table decides,
 * wherever a value comes from. It gets the text from memory, since the lexer ends the process when it cannot read.
 */
#include "admin/config_file.h"

#include "admin/lmtp_address.h"
#include "admin/whole_file.h"
#include "common/local_users.h"
#include "common/mem.h"

#include <arpa/inet.h>
#include <assert.h>
#include <confuse.h>
#include <errno.h>
#include <stdarg.h>
#include <unistd.h>

#define FILE_BYTES_MAX (1u << 20)

/* libconfuse's callbacks have no argument of ours. */
static struct {
	struct config *config;
	struct err *e;
	bool failed;
} reading;

static void
refuse(const char *file, int line, const char *text)
{
	if (reading.failed)
		return;
	reading.failed = true;
	err_set(reading.e, ERR_PERM, ERR_CODE_MALFORMED, "bad configuration", "%s:%d: %s", file,
	    line, text);
}

/* Letters that differ when the two are laid side by side: good enough to find a slip of the finger.
 */
static unsigned
distance(const char *a, const char *b)
{
	size_t i = 0, k = 0;

	while (a[i] && a[i] == b[i])
		i++;
	while (a[i + k] && b[i + k] && a[strlen(a) - 1 - k] == b[strlen(b) - 1 - k])
		k++;
	size_t longer = strlen(a) > strlen(b) ? strlen(a) : strlen(b);

	return (unsigned)(longer > i + k ? longer - i - k : 0);
}

static void
refuse_name(const char *file, int line, const char *name)
{
	const char *best = NULL;
	unsigned least = 4;
	char text[200];

	for (unsigned o = 0; o < OPTION_COUNT; o++) {
		unsigned d = distance(name, option_info(o)->name);

		if (d < least) {
			least = d;
			best = option_info(o)->name;
		}
	}
	if (best)
		snprintf(text, sizeof text, "there is no setting %.64s; write %s", name, best);
	else
		snprintf(text, sizeof text,
		    "there is no setting %.64s; `mailstead config defaults` lists all", name);
	refuse(file, line, text);
}

static void __attribute__((format(printf, 2, 0))) on_error(cfg_t *cfg, const char *fmt, va_list ap)
{
	char text[200], name[65];
	const char *file = cfg && cfg->filename ? cfg->filename : "configuration";
	int line = cfg ? cfg->line : 0;

	vsnprintf(text, sizeof text, fmt, ap);
	if (sscanf(text, "no such option '%64[^']'", name) == 1)
		refuse_name(file, line, name);
	else
		refuse(file, line, text);
}

static enum option
option_named(const char *name)
{
	unsigned o = 0;

	while (o < OPTION_COUNT && strcmp(option_info(o)->name, name) != 0)
		o++;
	return o;
}

/* ADDRESS or ADDRESS@PORT */
static bool
is_server(const char *text)
{
	char address[INET6_ADDRSTRLEN + 1];
	struct in6_addr six;
	struct in_addr four;
	uint64_t port = 53;
	const char *at = strchr(text, '@');
	size_t n = at ? (size_t)(at - text) : strlen(text);

	if (n >= sizeof address ||
	    (at && (!slice_u64(slice_str(at + 1), 65535, &port) || port == 0)))
		return false;
	memcpy(address, text, n);
	address[n] = '\0';
	return inet_pton(AF_INET, address, &four) == 1 || inet_pton(AF_INET6, address, &six) == 1;
}

/* "*" or addresses separated by spaces */
static bool
is_address_list(const char *text)
{
	struct slice rest = slice_trim(slice_str(text)), item;
	unsigned n = 0;

	if (slice_eq(rest, SLICE("*")))
		return true;
	while (slice_cut(&rest, ' ', &item)) {
		char address[INET6_ADDRSTRLEN + 1];

		if (slice_empty(item))
			continue;
		if (!slice_cstr(item, address, sizeof address) || strchr(address, '@') ||
		    !is_server(address))
			return false;
		n++;
	}
	return n > 0;
}

static bool
is_lmtp_list(const char *text)
{
	struct slice rest = slice_str(text);
	struct lmtp_address a;
	int got;

	while ((got = lmtp_address_next(&rest, &a)) > 0)
		;
	return got == 0;
}

/* What a single value's type does not say. NULL when it is fine. */
static const char *
wrong_value(enum option o, const char *text)
{
	switch (o) {
	case OPT_DNS_SERVER:
		return *text == '\0' || is_server(text)
			   ? NULL
			   : "dns.server takes ADDRESS or ADDRESS@PORT, such as 127.0.0.1@5353";
	case OPT_LISTEN_ADDRESS:
		return is_address_list(text) ? NULL
					     : "listen.address takes \"*\" or addresses such as "
					       "\"192.0.2.1 2001:db8::1\"";
	case OPT_LMTP_LISTEN:
		return is_lmtp_list(text) ? NULL
					  : "lmtp.listen takes paths of Unix sockets (at most 107 octets) and ADDRESS@PORT of this "
					    "machine, not port 25, such as \"/run/mailstead/lmtp 127.0.0.1@24\"";
	case OPT_SUBMISSION_LOCAL:
		return local_users_valid(slice_str(text)) ? NULL
							  : "submission.local takes at most 256 words USER=ADDRESS, such as "
							    "\"www-data=web@example.org *=root@example.org\"";
	case OPT_STATE_DIR:
	case OPT_RUN_DIR:
		return *text == '/' ? NULL
				    : "a directory is written as an absolute path, such as "
				      "/var/lib/mailstead";
	case OPT_TLS_CERTIFICATE:
	case OPT_TLS_KEY:
		return *text == '\0' || *text == '/' ? NULL
						     : "a file is written as an absolute path, "
						       "such as /etc/mailstead/tls/key.pem";
	default:
		return NULL;
	}
}

/* Called by libconfuse after each value, while it knows the line. */
static int
on_value(cfg_t *cfg, cfg_opt_t *opt)
{
	unsigned last = cfg_opt_size(opt) - 1;
	const char *text = cfg_opt_getnstr(opt, last);
	enum option o = option_named(opt->name);
	struct err why;

	assert(o < OPTION_COUNT);
	if (text == NULL)
		text = "";
	if (config_set(reading.config, o, slice_str(text), &why) < 0) {
		refuse(cfg->filename, cfg->line, why.detail);
		return -1;
	}
	const char *wrong = wrong_value(o, text);

	if (wrong) {
		refuse(cfg->filename, cfg->line, wrong);
		return -1;
	}
	return 0;
}

static int
check_whole(const char *path, const struct config *c, struct err *e)
{
	if (*config_string(c, OPT_HOSTNAME) == '\0')
		return err_set(e, ERR_PERM, ERR_CODE_MALFORMED, "bad configuration",
		    "%s: the host's name is missing; write hostname = mail.example.org (the name "
		    "in your MX record)",
		    path);
	if (strchr(config_string(c, OPT_HOSTNAME), '.') == NULL)
		return err_set(e, ERR_PERM, ERR_CODE_MALFORMED, "bad configuration",
		    "%s: hostname must be fully qualified, such as mail.example.org", path);
	return 0;
}

static int
parse(const char *path, FILE *in, struct err *e)
{
	cfg_opt_t opts[OPTION_COUNT + 1];
	cfg_opt_t end = CFG_END();

	for (unsigned o = 0; o < OPTION_COUNT; o++) {
		cfg_opt_t one = CFG_STR(option_info(o)->name, NULL, CFGF_NODEFAULT);

		opts[o] = one;
	}
	opts[OPTION_COUNT] = end;
	cfg_t *cfg = cfg_init(opts, CFGF_NONE);

	if (cfg == NULL)
		return err_set(e, ERR_TEMP, ERR_CODE_UNAVAILABLE, "temporary failure",
		    "libconfuse: cannot start");
	cfg_set_error_function(cfg, on_error);
	for (unsigned o = 0; o < OPTION_COUNT; o++)
		cfg_set_validate_func(cfg, option_info(o)->name, on_value);
	cfg->filename = strdup(path);
	int rc = cfg_parse_fp(cfg, in);

	cfg_free(cfg);
	if (rc == CFG_SUCCESS && !reading.failed)
		return 0;
	if (!reading.failed)
		err_set(e, ERR_PERM, ERR_CODE_MALFORMED, "bad configuration", "%s: cannot be read",
		    path);
	return -1;
}

int
config_file_load(const char *path, struct config **config_r, struct err *e)
{
	struct buf text;

	if (access(path, F_OK) < 0 && errno == ENOENT)
		return err_set(e, ERR_PERM, ERR_CODE_NOT_FOUND, "no configuration",
		    "%s does not exist; write it, with one line: hostname = mail.example.org",
		    path);
	buf_init(&text, 2 * FILE_BYTES_MAX);
	int rc = whole_file_read(path, FILE_BYTES_MAX, &text, e);

	(void)buf_put_u8(&text, '\n'); /* a stream of nothing cannot be opened */
	FILE *in = rc == 0 ? fmemopen(text.p, text.n, "r") : NULL;

	if (rc == 0 && in == NULL)
		rc = err_sys(e, errno, path);
	if (rc < 0) {
		buf_fini(&text);
		return rc;
	}
	reading.config = config_new();
	reading.e = e;
	reading.failed = false;
	rc = parse(path, in, e);
	(void)fclose(in);
	buf_fini(&text);
	if (rc == 0)
		rc = check_whole(path, reading.config, e);
	if (rc < 0)
		config_free(&reading.config);
	*config_r = reading.config;
	reading.config = NULL;
	return rc;
}

/* ---- printing ---- */

static const char *
bounds(const struct option_info *info, char *dst, size_t size)
{
	char min[32], max[32];

	option_quantity(info->type, info->min, min, sizeof min);
	option_quantity(info->type, info->max, max, sizeof max);
	switch (info->type) {
	case OPTION_STRING:
		snprintf(dst, size, "text of up to %s octets", max);
		break;
	case OPTION_BOOL:
		snprintf(dst, size, "yes or no");
		break;
	case OPTION_NUMBER:
		snprintf(dst, size, "number from %s to %s", min, max);
		break;
	case OPTION_BYTES:
		snprintf(dst, size, "octets (10, 64K, 25M, 2G) from %s to %s", min, max);
		break;
	default:
		snprintf(dst, size, "time (500ms, 30s, 5m, 2h, 14d) from %s to %s", min, max);
	}
	return dst;
}

static bool
needs_quotes(const char *text)
{
	return *text == '\0' || strpbrk(text, " \t\"'\\#{}()=,+$*") != NULL ||
	       strstr(text, "//") != NULL;
}

static void
print_value(const char *text, FILE *out)
{
	if (!needs_quotes(text)) {
		fputs(text, out);
		return;
	}
	fputc('"', out);
	for (; *text; text++) {
		if (*text == '"' || *text == '\\' || *text == '$')
			fputc('\\', out);
		fputc(*text, out);
	}
	fputc('"', out);
}

void
config_file_print(const struct config *c, bool explained, FILE *out)
{
	char text[120];

	for (unsigned o = 0; o < OPTION_COUNT; o++) {
		const struct option_info *info = option_info(o);

		if (explained)
			fprintf(out, "%s# %s.\n# %s; %s.\n", o ? "\n" : "", info->help,
			    bounds(info, text, sizeof text),
			    info->reload ? "a reload suffices" : "needs a restart");
		fprintf(out, "%s%s = ", explained ? "#" : "", info->name);
		print_value(config_string(c, o), out);
		fputc('\n', out);
	}
}

/* Text for man(7): a dot or quote at a line's start, and any backslash or hyphen, would be read as
 * a request. */
static void
print_man_text(const char *text, FILE *out)
{
	for (; *text; text++) {
		if (*text == '\\')
			fputs("\\e", out);
		else if (*text == '-')
			fputs("\\-", out);
		else
			fputc(*text, out);
	}
}

void
config_file_man(FILE *out)
{
	char text[120];

	fputs(".\\\" Made by `mailstead config man` from common/options.def.\n"
	      ".TH MAILSTEAD.CONF 5\n.SH NAME\nmailstead.conf \\- settings of the Mailstead mail "
	      "server\n"
	      ".SH DESCRIPTION\nOne line\n.I name\n=\n.I value\nper setting; a value with blanks "
	      "is put in double quotes;\n"
	      "# begins a comment; of two lines for one setting the later counts.\n"
	      "Only\n.B hostname\nhas no default.\n.B mailstead config check\nchecks the file,\n"
	      ".B mailstead reload\nputs it into effect.\n.SH SETTINGS\n",
	    out);
	for (unsigned o = 0; o < OPTION_COUNT; o++) {
		const struct option_info *info = option_info(o);

		fprintf(out, ".TP\n.B %s\n", info->name);
		print_man_text(info->help, out);
		fputs(".\n", out);
		print_man_text(bounds(info, text, sizeof text), out);
		fputs("; default ", out);
		print_man_text(*info->def ? info->def : "none", out);
		fprintf(out, "; %s.\n", info->reload ? "a reload suffices" : "needs a restart");
	}
	fputs(".SH FILES\n" CONFIG_FILE_DEFAULT "\n.SH SEE ALSO\n.BR mailstead (8)\n", out);
}
