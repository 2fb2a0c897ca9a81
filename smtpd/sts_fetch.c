#include "smtpd/sts_fetch.h"

#include "common/buf.h"
#include "common/dns_name.h"
#include "common/mem.h"
#include "common/memfd.h"
#include "smtpd/sts_policy.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <unistd.h>

#define CA_BYTES_MAX (8u << 20)
#define CONNECT_MS 15000
#define URL_SIZE 400
#define PATH "/.well-known/mta-sts.txt"

struct sts_fetcher {
	struct loop *loop;
	CURLM *multi;
	struct loop_timer *timer;
	struct buf ca;
	uint16_t port;
	uint64_t longest_ms;
	struct sts_fetch *ended; /* to be told when libcurl is not on the stack */
};

struct sts_fetch {
	struct sts_fetcher *fetcher;
	struct sts_fetch *next_ended;
	CURL *easy;
	struct curl_slist *resolve;
	struct buf body;
	char host[DNS_NAME_BYTES_MAX + 1];
	char error[CURL_ERROR_SIZE];
	sts_fetched_fn *done;
	void *arg;
};

/* ---- libcurl and the loop ---- */

static void
take_ended(struct sts_fetcher *f)
{
	CURLMsg *m;
	int left;

	while ((m = curl_multi_info_read(f->multi, &left)) != NULL) {
		struct sts_fetch *fetch = NULL;
		if (m->msg != CURLMSG_DONE)
			continue;
		(void)curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&fetch);
		if (m->data.result != CURLE_OK && fetch->error[0] == '\0')
			(void)snprintf(fetch->error, sizeof fetch->error, "%s", curl_easy_strerror(m->data.result));
		fetch->next_ended = f->ended;
		f->ended = fetch;
	}
}

/* The media type alone says it (RFC 8461 3.2), its parameters do not matter. */
static bool
is_plain(const char *type)
{
	struct slice rest = slice_str(type), first;

	return slice_cut(&rest, ';', &first) && slice_eq_nocase(slice_trim(first), SLICE("text/plain"));
}

/* What the server said is a policy; else why not. */
static const char *
objection(const struct sts_fetch *fetch)
{
	const char *type = NULL;
	long status = 0;

	if (fetch->error[0] != '\0')
		return fetch->error;
	(void)curl_easy_getinfo(fetch->easy, CURLINFO_RESPONSE_CODE, &status);
	(void)curl_easy_getinfo(fetch->easy, CURLINFO_CONTENT_TYPE, &type);
	if (status != 200)
		return status >= 300 && status < 400 ? "the policy host redirects" : "the policy host has no policy (no status 200)";
	if (type == NULL || !is_plain(type))
		return "what the policy host has is not text/plain";
	return fetch->body.failed ? "the policy is too long" : NULL;
}

static void
tell_ended(struct sts_fetcher *f)
{
	struct sts_fetch *fetch;

	while ((fetch = f->ended) != NULL) {
		const char *why = objection(fetch);
		f->ended = fetch->next_ended;
		fetch->done(fetch->arg, why ? slice_of(NULL, 0) : buf_slice(&fetch->body), why);
		sts_fetch_free(&fetch);
	}
}

static void
act(struct sts_fetcher *f, curl_socket_t fd, int events)
{
	int running;

	(void)curl_multi_socket_action(f->multi, fd, events, &running);
	take_ended(f);
	tell_ended(f);
}

struct watched {
	struct sts_fetcher *fetcher;
	struct loop_io *io;
	curl_socket_t fd;
};

static void
on_io(void *arg, int events)
{
	const struct watched *w = arg;

	act(w->fetcher, w->fd, (events & LOOP_READ ? CURL_CSELECT_IN : 0) | (events & LOOP_WRITE ? CURL_CSELECT_OUT : 0));
}

static int
on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *watched)
{
	struct sts_fetcher *f = arg;
	struct watched *w = watched;

	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		if (w != NULL)
			loop_io_free(&w->io);
		free(w);
		return 0;
	}
	if (w == NULL) {
		w = MEM_NEW(struct watched);
		*w = (struct watched){f, NULL, fd};
		w->io = loop_io_new(f->loop, fd, 0, on_io, w);
		(void)curl_multi_assign(f->multi, fd, w);
	}
	loop_io_set(w->io, (what & CURL_POLL_IN ? LOOP_READ : 0) | (what & CURL_POLL_OUT ? LOOP_WRITE : 0));
	return 0;
}

static int
on_time_wanted(CURLM *multi, long ms, void *arg)
{
	struct sts_fetcher *f = arg;

	(void)multi;
	if (ms < 0)
		loop_timer_stop(f->timer);
	else
		loop_timer_set(f->timer, (uint64_t)ms);
	return 0;
}

static void
on_time(void *arg)
{
	act(arg, CURL_SOCKET_TIMEOUT, 0);
}

/* ---- life ---- */

static int
read_file(const char *path, struct buf *b, struct err *e)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	int r;

	if (fd < 0)
		return err_sys(e, errno, path);
	r = memfd_read_all(fd, b, e);
	(void)close(fd);
	return r;
}

struct sts_fetcher *
sts_fetcher_new(struct loop *l, const char *ca_file, uint16_t port, uint64_t longest_ms, struct err *e)
{
	struct sts_fetcher *f = MEM_NEW(struct sts_fetcher);

	f->loop = l;
	f->port = port;
	f->longest_ms = longest_ms;
	f->timer = loop_timer_new(l, on_time, f);
	buf_init(&f->ca, CA_BYTES_MAX);
	if (read_file(ca_file, &f->ca, e) < 0) {
		sts_fetcher_free(&f);
		return NULL;
	}
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != 0 || (f->multi = curl_multi_init()) == NULL) {
		err_set(e, ERR_TEMP, ERR_CODE_UNAVAILABLE, "temporary failure", "libcurl does not start");
		sts_fetcher_free(&f);
		return NULL;
	}
	(void)curl_multi_setopt(f->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	(void)curl_multi_setopt(f->multi, CURLMOPT_SOCKETDATA, f);
	(void)curl_multi_setopt(f->multi, CURLMOPT_TIMERFUNCTION, on_time_wanted);
	(void)curl_multi_setopt(f->multi, CURLMOPT_TIMERDATA, f);
	return f;
}

void
sts_fetcher_free(struct sts_fetcher **f)
{
	if (*f == NULL)
		return;
	if ((*f)->multi)
		(void)curl_multi_cleanup((*f)->multi);
	loop_timer_free(&(*f)->timer);
	buf_fini(&(*f)->ca);
	MEM_FREE(f);
}

/* ---- one fetch ---- */

static size_t
on_body(char *p, size_t size, size_t n, void *arg)
{
	struct sts_fetch *fetch = arg;

	(void)size; /* 1 */
	buf_put(&fetch->body, p, n);
	return fetch->body.failed ? 0 : n;
}

/* libcurl lets the subject's common name count when there is no other name; here it does not (RFC 8461 3.3). */
static CURLcode
on_tls(CURL *easy, void *ctx, void *arg)
{
	const struct sts_fetch *fetch = arg;
	X509_VERIFY_PARAM *want = SSL_CTX_get0_param(ctx);

	(void)easy;
	X509_VERIFY_PARAM_set_hostflags(want, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
	return X509_VERIFY_PARAM_set1_host(want, fetch->host, 0) == 1 ? CURLE_OK : CURLE_SSL_CERTPROBLEM;
}

/* All that could be read from elsewhere, or lead elsewhere, is turned off. */
static bool
set_up(struct sts_fetch *t, const char *url)
{
	struct curl_blob ca = {.data = t->fetcher->ca.p, .len = t->fetcher->ca.n, .flags = CURL_BLOB_NOCOPY};
	CURL *c = t->easy;

	return curl_easy_setopt(c, CURLOPT_URL, url) == CURLE_OK && curl_easy_setopt(c, CURLOPT_PRIVATE, t) == CURLE_OK &&
	    curl_easy_setopt(c, CURLOPT_RESOLVE, t->resolve) == CURLE_OK &&
	    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "https") == CURLE_OK &&
	    curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L) == CURLE_OK && curl_easy_setopt(c, CURLOPT_PROXY, "") == CURLE_OK &&
	    curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, 1L) == CURLE_OK && curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, 2L) == CURLE_OK &&
	    curl_easy_setopt(c, CURLOPT_SSL_CTX_FUNCTION, on_tls) == CURLE_OK && curl_easy_setopt(c, CURLOPT_SSL_CTX_DATA, t) == CURLE_OK &&
	    curl_easy_setopt(c, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2) == CURLE_OK &&
	    curl_easy_setopt(c, CURLOPT_CAINFO, NULL) == CURLE_OK && curl_easy_setopt(c, CURLOPT_CAPATH, NULL) == CURLE_OK &&
	    curl_easy_setopt(c, CURLOPT_CAINFO_BLOB, &ca) == CURLE_OK && curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
	    curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1) == CURLE_OK &&
	    curl_easy_setopt(c, CURLOPT_FORBID_REUSE, 1L) == CURLE_OK &&
	    curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, (long)t->fetcher->longest_ms) == CURLE_OK &&
	    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS) == CURLE_OK &&
	    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body) == CURLE_OK && curl_easy_setopt(c, CURLOPT_WRITEDATA, t) == CURLE_OK &&
	    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, t->error) == CURLE_OK;
}

struct sts_fetch *
sts_fetch_new(struct sts_fetcher *f, const char *host, const char *addresses, sts_fetched_fn *done, void *arg)
{
	struct sts_fetch *t = MEM_NEW(struct sts_fetch);
	char url[URL_SIZE];
	struct buf entry;

	t->fetcher = f;
	t->done = done;
	t->arg = arg;
	(void)snprintf(t->host, sizeof t->host, "%s", host);
	t->easy = curl_easy_init();
	buf_init(&t->body, STS_POLICY_BYTES_MAX);
	buf_init(&entry, 4096);
	buf_putf(&entry, "%s:%u:%s", host, f->port, addresses);
	buf_put_u8(&entry, '\0');
	if (!entry.failed)
		t->resolve = curl_slist_append(NULL, (const char *)entry.p);
	buf_fini(&entry);
	(void)snprintf(url, sizeof url, f->port == 443 ? "https://%s" PATH : "https://%s:%u" PATH, host, f->port);
	if (t->easy == NULL || t->resolve == NULL || !set_up(t, url) || curl_multi_add_handle(f->multi, t->easy) != CURLM_OK)
		sts_fetch_free(&t);
	return t;
}

void
sts_fetch_free(struct sts_fetch **fetch)
{
	struct sts_fetch *t = *fetch;

	if (t == NULL)
		return;
	if (t->easy) {
		(void)curl_multi_remove_handle(t->fetcher->multi, t->easy);
		curl_easy_cleanup(t->easy);
	}
	curl_slist_free_all(t->resolve);
	buf_fini(&t->body);
	MEM_FREE(fetch);
}
