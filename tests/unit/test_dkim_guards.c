/*
 * What libopendkim does wrong, and that smtpd/dkim_check.c keeps it from doing it: for each point first the library without
 * guards, which shows the fault, then the check, which does not. What kills is tried in a child. The library's memory can lie against
 * a page that nobody may touch, and its functions can be made to fail: this file stands between it and the check.
 */
#include "smtpd/dkim_check.h"
#include "tests/unit/dkim_fixture.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ---- between the check and the library ---- */

static struct {
	DKIM_STAT header, eoh, body, eom; /* what is answered instead; DKIM_STAT_OK: what the library says */
	int list;			  /* so many more signatures are listed */
	bool list_fails;
	unsigned flags_off; /* DKIM_LIBFLAGS_ that are kept from it */
	unsigned headers, signatures; /* fields that it was given */
} between;

static bool fenced;
static unsigned fenced_blocks;

struct block {
	uint8_t *base; /* NULL: of malloc() */
	size_t n;
};

/* With the fence a block ends where a page begins that cannot be touched, but for what makes it a multiple of 8. */
static void *
between_alloc(void *closure, size_t n)
{
	size_t page = 4096, room = (n + sizeof(struct block) + 8 + page - 1) / page * page;
	struct block b = {.base = NULL, .n = room + page};
	uint8_t *at;

	(void)closure;
	if (fenced) {
		fenced_blocks++;
		b.base = mmap(NULL, b.n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		ck_assert(b.base != MAP_FAILED && mprotect(b.base + room, page, PROT_NONE) == 0);
		at = b.base + room - (n + 7) / 8 * 8;
	} else {
		at = malloc(n + sizeof b);
		ck_assert(at != NULL);
		at += sizeof b;
	}
	memcpy(at - sizeof b, &b, sizeof b);
	return at;
}

static void
between_free(void *closure, void *at)
{
	struct block b;

	(void)closure;
	memcpy(&b, (uint8_t *)at - sizeof b, sizeof b);
	if (b.base != NULL)
		munmap(b.base, b.n);
	else
		free((uint8_t *)at - sizeof b);
}

/* The library's own function of that name. */
#define REAL(name)                                                    \
	static __typeof__(&name) real;                                \
	if (real == NULL)                                             \
		*(void **)&real = dlsym(RTLD_NEXT, #name)

DKIM_LIB *
dkim_init(void *(*alloc)(void *, size_t), void (*release)(void *, void *))
{
	REAL(dkim_init);
	(void)alloc, (void)release;
	return real(between_alloc, between_free);
}

DKIM_STAT
dkim_options(DKIM_LIB *lib, int op, dkim_opts_t what, void *p, size_t n)
{
	REAL(dkim_options);
	if (op == DKIM_OP_SETOPT && what == DKIM_OPTS_FLAGS)
		*(unsigned *)p &= ~between.flags_off;
	return real(lib, op, what, p, n);
}

DKIM_STAT
dkim_header(DKIM *d, unsigned char *field, size_t n)
{
	REAL(dkim_header);
	between.headers++;
	between.signatures += slice_starts_nocase(slice_of(field, n), SLICE("DKIM-Signature:"));
	return between.header != DKIM_STAT_OK ? between.header : real(d, field, n);
}

DKIM_STAT
dkim_eoh(DKIM *d)
{
	REAL(dkim_eoh);
	return between.eoh != DKIM_STAT_OK ? between.eoh : real(d);
}

DKIM_STAT
dkim_getsiglist(DKIM *d, DKIM_SIGINFO ***list, int *n)
{
	REAL(dkim_getsiglist);
	DKIM_STAT status = real(d, list, n);

	*n += between.list;
	return between.list_fails ? DKIM_STAT_INVALID : status;
}

DKIM_STAT
dkim_body(DKIM *d, unsigned char *p, size_t n)
{
	REAL(dkim_body);
	return between.body != DKIM_STAT_OK ? between.body : real(d, p, n);
}

DKIM_STAT
dkim_eom(DKIM *d, _Bool *testing)
{
	REAL(dkim_eom);
	return between.eom != DKIM_STAT_OK ? between.eom : real(d, testing);
}

/* ---- the library without guards ---- */

static const char *raw_key;
static DKIM_CBSTAT raw_status; /* of the key's look-up */
static char raw_domain[256];   /* whose key was asked for last */
static DKIM_STAT raw_header_status;
static struct {
	DKIM_LIB *lib;
	DKIM *d;
} raws[400];
static unsigned raw_count;

static DKIM_CBSTAT
raw_lookup(DKIM *d, DKIM_SIGINFO *sig, unsigned char *to, size_t size)
{
	(void)d;
	snprintf(raw_domain, sizeof raw_domain, "%s", (const char *)dkim_sig_getdomain(sig));
	if (raw_status == DKIM_CBSTAT_CONTINUE)
		snprintf((char *)to, size, "%s", raw_key);
	return raw_status;
}

/* What was wrong with a field, if anything. */
static DKIM_STAT
raw_header(DKIM *d, const char *message)
{
	struct slice m = slice_str(message);
	DKIM_STAT status = DKIM_STAT_OK;

	for (size_t at = 0; at < m.n && m.p[at] != '\r';) {
		size_t end = at;

		do {
			end += slice_find(slice_sub(m, end, m.n), SLICE("\r\n")) + 2;
		} while (end < m.n && (m.p[end] == ' ' || m.p[end] == '\t'));
		union {
			const uint8_t *from;
			unsigned char *to;
		} field = {.from = m.p + at};
		DKIM_STAT one = dkim_header(d, field.to, end - 2 - at);
		status = one != DKIM_STAT_OK ? one : status;
		at = end;
	}
	return status;
}

/* A message of which the header was given, with these flags. */
static DKIM *
raw_new(const char *message, unsigned flags)
{
	DKIM_LIB *lib = dkim_init(NULL, NULL);
	DKIM_STAT status;

	dkim_options(lib, DKIM_OP_SETOPT, DKIM_OPTS_FLAGS, &flags, sizeof flags);
	dkim_set_key_lookup(lib, raw_lookup);
	DKIM *d = dkim_verify(lib, (const unsigned char *)"t", NULL, &status);
	ck_assert_ptr_nonnull(d);
	ck_assert_uint_lt(raw_count, sizeof raws / sizeof raws[0]);
	raws[raw_count].lib = lib;
	raws[raw_count++].d = d;
	raw_header_status = raw_header(d, message);
	return d;
}

static DKIM_STAT
raw_body(DKIM *d, const char *message)
{
	char *body = join(strstr(message, "\r\n\r\n") + 4, "", "");

	return *body == '\0' ? DKIM_STAT_OK : dkim_body(d, (unsigned char *)body, strlen(body));
}

static DKIM_SIGINFO *
raw_signature(DKIM *d, int at)
{
	DKIM_SIGINFO **list;
	int n = 0;

	ck_assert_int_eq(dkim_getsiglist(d, &list, &n), DKIM_STAT_OK);
	ck_assert_int_lt(at, n);
	return list[at];
}

/* All of it, to the end: what dkim_eom() says. */
static DKIM_STAT
raw_verify(const char *message, DKIM **d_r)
{
	*d_r = raw_new(message, 0);
	ck_assert_int_eq(dkim_eoh(*d_r), DKIM_STAT_OK);
	ck_assert_int_eq(raw_body(*d_r, message), DKIM_STAT_OK);
	return dkim_eom(*d_r, NULL);
}

/* Whether a process that does this ends before its time. */
static bool
dies(void (*what)(const char *), const char *arg)
{
	int status;
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		struct rlimit none = {0, 0};
		int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

		/* What is said of the death is of no interest. */
		setrlimit(RLIMIT_CORE, &none);
		dup2(null, 2);
		what(arg);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

static void
setup_guards(void)
{
	setup();
	memset(&between, 0, sizeof between);
	raw_status = DKIM_CBSTAT_CONTINUE;
	fenced = false;
	fenced_blocks = 0;
}

static void
teardown_guards(void)
{
	for (; raw_count > 0; raw_count--) {
		dkim_free(raws[raw_count - 1].d);
		dkim_close(raws[raw_count - 1].lib);
	}
	teardown();
}

static struct signer
raw_usual_key(void)
{
	struct signer key = usual_key();

	raw_key = key.record;
	return key;
}

/* ---- memory ---- */

#define GOOD_B "bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=; b=AAAA"
#define MAIL "From: a@example.com\r\nTo: b@example.net\r\n"

static void
raw_eoh(const char *message)
{
	fenced = true;
	DKIM *d = raw_new(message, DKIM_LIBFLAGS_BADSIGHANDLES | DKIM_LIBFLAGS_DELAYSIGPROC);

	dkim_eoh(d);
	dkim_eom(d, NULL);
}

/* 1: h= names every field, the signature's own too, and one more: eight octets behind the end of an array. */
START_TEST(test_selected_fields)
{
	static const char evil[] = MAIL "DKIM-Signature: v=1; a=rsa-sha256; d=example.com; s=s; h=from:to:dkim-signature:x:x; " GOOD_B "\r\n\r\n";

	raw_usual_key();
	ck_assert(dies(raw_eoh, evil));
	/* It is the number of fields that does it: with one that is not named nothing happens. */
	ck_assert(!dies(raw_eoh, join("X-Pad: x\r\n", evil, "")));
	fenced = true;
	ck_assert_str_eq(verify(evil), "fail");
	ck_assert_uint_gt(fenced_blocks, 0);
	ck_assert_uint_eq(between.headers, 4);
}
END_TEST

/* 2: i= ends in "=". The blocks end at a multiple of 8, so one length of eight shows it. */
START_TEST(test_identity)
{
	unsigned dead = 0, good_dead = 0;

	raw_usual_key();
	for (int i = 0; i < 8; i++) {
		char *n = join("nnnnnnn" + i, "", "");
		char *before = join("DKIM-Signature: v=1; a=rsa-sha256; d=example.com; s=s; n=", n, "; h=from; " GOOD_B "; i=@example.com");
		char *evil = join(before, "=\r\n", MAIL "\r\n");

		dead += dies(raw_eoh, evil);
		good_dead += dies(raw_eoh, join(before, "\r\n", MAIL "\r\n"));
		fenced = true;
		ck_assert_str_eq(verify(evil), "permerror");
		ck_reason("i= is malformed");
		ck_assert_uint_eq(between.signatures, 0);
		fenced = false;
	}
	ck_assert_uint_gt(dead, 0);
	ck_assert_uint_eq(good_dead, 0);
}
END_TEST

static void
raw_reverse(const char *message)
{
	fenced = true;
	DKIM *d = raw_new(message, DKIM_LIBFLAGS_DELAYSIGPROC);

	dkim_eoh(d);
	raw_body(d, message);
	for (int i = 3; i-- > 0;)
		dkim_sig_process(d, raw_signature(d, i));
}

static void
raw_in_order(const char *message)
{
	DKIM *d;

	fenced = true;
	if (raw_verify(message, &d) != DKIM_STAT_OK)
		abort();
}

/* 3: three signatures by one key, last one first: the first takes a key from the second, which has none of its own, and gets no octet. */
START_TEST(test_order)
{
	struct signer key = raw_usual_key();
	char *message = sign(&key, usual), *one = first_field(message), *three = join(one, one, message);

	ck_assert(dies(raw_reverse, three));
	ck_assert(!dies(raw_in_order, three));
	fenced = true;
	verify(three);
	ck_assert_uint_eq(got_count, 3);
	for (unsigned i = 0; i < 3; i++)
		ck_assert_int_eq(got[i].result, DKIM_RESULT_PASS);
}
END_TEST

static void
raw_ohdrs(const char *message)
{
	unsigned char *fields[1];
	int n = 1;

	fenced = true;
	DKIM *d = raw_new(message, DKIM_LIBFLAGS_BADSIGHANDLES | DKIM_LIBFLAGS_DELAYSIGPROC);
	dkim_eoh(d);
	dkim_ohdrs(d, raw_signature(d, 0), fields, &n);
}

/* 4: z= is copied into a buffer of a fixed size. The function is never called, which its poisoning sees to; nor is so long a field taken. */
START_TEST(test_copied_fields)
{
	struct buf b;

	raw_usual_key();
	for (int is_long = 0; is_long < 2; is_long++) {
		buf_init(&b, 1 << 20);
		buf_put_str(&b, "DKIM-Signature: v=1; a=rsa-sha256; d=example.com; s=s; h=from; " GOOD_B "; z=From:");
		while (b.n < (is_long ? 80000 : 800))
			buf_put_str(&b, "x");
		buf_put_str(&b, "\r\n" MAIL "\r\n");
		buf_put_u8(&b, 0);
		char *message = join((char *)b.p, "", "");
		buf_fini(&b);
		ck_assert_int_eq(dies(raw_ohdrs, message), is_long);
		fenced = true;
		ck_assert_str_eq(verify(message), is_long ? "permerror" : "fail");
		fenced = false;
	}
	ck_reason("too long");
}
END_TEST

static void
raw_empty(const char *message)
{
	(void)message;
	dkim_header(raw_new("", 0), (unsigned char *)join("", "", ""), 0);
}

/* assert() is live in it. */
START_TEST(test_assertions)
{
	struct signer key = raw_usual_key();
	char *message = sign(&key, usual);

	ck_assert(dies(raw_empty, ""));
	struct dkim_check *c = check_new();
	dkim_check_header(c, SLICE(""));
	dkim_check_header(c, SLICE("\r\n"));
	dkim_check_header(c, SLICE(": x\r\n"));
	dkim_check_header(c, SLICE("no field\r\n"));
	feed(c, slice_str(message));
	fake_dns_run(&dns);
	ck_assert(ended && got[0].result == DKIM_RESULT_PASS);
	dkim_check_free(&c);
}
END_TEST

/* ---- verdicts ---- */

static DKIM_CBSTAT
raw_process_all(DKIM *d, DKIM_SIGINFO **list, int n)
{
	for (int i = 0; i < n; i++)
		dkim_sig_process(d, list[i]);
	return DKIM_CBSTAT_CONTINUE;
}

/* 512 bits pass when the caller goes through a signature itself; as the library does it alone, they do not. */
START_TEST(test_short_key)
{
	struct signer key = rsa_signer(512, false);
	char *message = sign(&key, usual);

	raw_key = key.record;
	fake_txt(&dns, "s._domainkey.example.com", key.record);
	for (int own = 0; own < 2; own++) {
		DKIM *d = raw_new(message, DKIM_LIBFLAGS_DELAYSIGPROC);

		dkim_eoh(d);
		raw_body(d, message);
		if (own)
			raw_process_all(d, (DKIM_SIGINFO *[]){raw_signature(d, 0)}, 1);
		ck_assert_int_eq((dkim_sig_getflags(raw_signature(d, 0)) & DKIM_SIGFLAG_PASSED) != 0, own);
		dkim_eom(d, NULL);
		ck_assert_int_eq(dkim_sig_geterror(raw_signature(d, 0)), DKIM_SIGERROR_KEYTOOSMALL);
	}
	ck_assert_str_eq(verify(message), "fail");
	ck_reason("key is too short");
}
END_TEST

/* rsa-sha1 passes (RFC 8301 3.1: it must not). */
START_TEST(test_sha1)
{
	struct signer key = raw_usual_key();
	struct sign_options o = usual;
	DKIM *d;

	o.alg = DKIM_SIGN_RSASHA1;
	char *message = sign(&key, o);
	ck_assert_int_eq(raw_verify(message, &d), DKIM_STAT_OK);
	ck_assert_str_eq(verify(message), "fail");
	ck_reason("rsa-sha1 is historic");
}
END_TEST

/* A key that is not here at dkim_eom() cannot be waited for there. The check calls it when all keys are here. */
START_TEST(test_late_key)
{
	struct signer key = raw_usual_key();
	char *message = sign(&key, usual);

	raw_status = DKIM_CBSTAT_TRYAGAIN;
	DKIM *d = raw_new(message, DKIM_LIBFLAGS_DELAYSIGPROC);
	dkim_eoh(d);
	raw_body(d, message);
	ck_assert_int_ne(dkim_eom(d, NULL), DKIM_STAT_CBTRYAGAIN);
	raw_status = DKIM_CBSTAT_CONTINUE;
	ck_assert_int_ne(dkim_eom(d, NULL), DKIM_STAT_OK);
	ck_assert_int_ne(dkim_sig_geterror(raw_signature(d, 0)), DKIM_SIGERROR_OK);

	struct dkim_check *c = check_new();
	feed(c, slice_str(message));
	ck_assert(!ended);
	fake_dns_run(&dns);
	ck_assert(ended && got[0].result == DKIM_RESULT_PASS);
	dkim_check_free(&c);
}
END_TEST

/* Its flag says "passed" of a signature whose body hash does not match. */
START_TEST(test_passed_flag)
{
	struct signer key = raw_usual_key();
	char *message = join(sign(&key, usual), "more\r\n", "");
	DKIM *d;

	raw_verify(message, &d);
	ck_assert_uint_ne(dkim_sig_getflags(raw_signature(d, 0)) & DKIM_SIGFLAG_PASSED, 0);
	ck_assert_int_eq(dkim_sig_getbh(raw_signature(d, 0)), DKIM_SIGBH_MISMATCH);
	ck_assert_str_eq(verify(message), "fail");
	ck_reason("body hash does not match");
}
END_TEST

/* Of a signature that is wrong before its a= is read, the algorithm is told as rsa-sha1. */
START_TEST(test_algorithm)
{
	static const char message[] = "DKIM-Signature: v=2; a=rsa-sha256; d=example.com; s=s; h=from; " GOOD_B "\r\n" MAIL "\r\nx\r\n";
	dkim_alg_t algorithm;

	DKIM *d = raw_new(message, DKIM_LIBFLAGS_BADSIGHANDLES);
	dkim_eoh(d);
	ck_assert_int_eq(dkim_sig_getsignalg(raw_signature(d, 0), &algorithm), DKIM_STAT_OK);
	ck_assert_int_eq(algorithm, DKIM_SIGN_RSASHA1);
	ck_assert_str_eq(verify(message), "permerror");
	ck_assert(slice_eq(got[0].algorithm, SLICE("rsa-sha256")));
}
END_TEST

/* A field that is no signature is refused by dkim_header(), which would end all of it; one without b= is not listed without
 * BADSIGHANDLES, so that the numbers of the others change. The check has a verdict on each, and gives the library neither. */
START_TEST(test_malformed_signature)
{
	static const char *const malformed[] = {"DKIM-Signature: x\r\n", "DKIM-Signature: v=1; a=rsa-sha256; d=example.com; s=s; h=from\r\n"};
	struct signer key = raw_usual_key();
	char *good = sign(&key, usual);
	DKIM_SIGINFO **list;
	int n;

	raw_new(join(malformed[0], good, ""), DKIM_LIBFLAGS_BADSIGHANDLES);
	ck_assert_int_eq(raw_header_status, DKIM_STAT_SYNTAX);
	for (int handles = 0; handles < 2; handles++) {
		DKIM *d = raw_new(join(malformed[1], good, ""), handles ? DKIM_LIBFLAGS_BADSIGHANDLES : 0);

		ck_assert_int_eq(dkim_eoh(d), DKIM_STAT_OK);
		ck_assert_int_eq(dkim_getsiglist(d, &list, &n), DKIM_STAT_OK);
		ck_assert_int_eq(n, 1 + handles);
	}
	for (int i = 0; i < 2; i++) {
		between.signatures = 0;
		verify(join(malformed[i], good, ""));
		ck_assert_uint_eq(got_count, 2);
		ck_assert_int_eq(got[0].result, DKIM_RESULT_PERMERROR);
		ck_assert_int_eq(got[1].result, DKIM_RESULT_PASS);
		ck_assert_uint_eq(between.signatures, 1);
	}
}
END_TEST

/* And a From that it cannot read ends all of it. */
START_TEST(test_unreadable_from)
{
	struct signer key = raw_usual_key();
	struct sign_options o = usual;

	o.header = "From: nobody\r\nTo: b@example.net\r\nSubject: hello\r\n";
	char *message = sign(&key, o);
	ck_assert_int_ne(dkim_eoh(raw_new(message, 0)), DKIM_STAT_OK);
	ck_assert_str_eq(verify(message), "pass");
}
END_TEST

/* The same without the flag: what is left of the guard then says so, and judges nothing. */
START_TEST(test_without_handles)
{
	struct signer key = raw_usual_key();
	struct sign_options o = usual;

	between.flags_off = DKIM_LIBFLAGS_BADSIGHANDLES;
	o.header = "From: nobody\r\nTo: b@example.net\r\nSubject: hello\r\n";
	ck_assert_str_eq(verify(sign(&key, o)), "permerror");
	ck_reason("header could not be processed");
}
END_TEST

/* l=: what is added behind it passes. */
START_TEST(test_added_text)
{
	struct signer key = raw_usual_key();
	struct sign_options o = usual;
	DKIM *d;

	o.length = 5;
	char *message = join(sign(&key, o), "more\r\n", "");
	ck_assert_int_eq(raw_verify(message, &d), DKIM_STAT_OK);
	ck_assert_str_eq(verify(message), "policy");
	ck_assert(got[0].partial);
}
END_TEST

/* Of two d= the last one counts, and nothing is said (RFC 6376 3.2: the whole is invalid). */
START_TEST(test_tag_twice)
{
	static const char message[] =
	    "DKIM-Signature: v=1; a=rsa-sha256; d=example.com; d=other.example; s=s; h=from; " GOOD_B "\r\n" MAIL "\r\nx\r\n";
	DKIM *d;

	raw_usual_key();
	raw_verify(message, &d);
	ck_assert_str_eq(raw_domain, "other.example");
	ck_assert_int_eq(dkim_sig_geterror(raw_signature(d, 0)), DKIM_SIGERROR_BADSIG);
	ck_assert_str_eq(verify(message), "permerror");
	ck_reason("malformed tag list");
	ck_assert_uint_eq(dns.asked, 0);
}
END_TEST

/* The same in chunks of so many octets. */
static DKIM_STAT
raw_verify_chunks(const char *message, size_t octets)
{
	struct slice body = slice_str(strstr(message, "\r\n\r\n") + 4);
	DKIM *d = raw_new(message, 0);

	ck_assert_int_eq(dkim_eoh(d), DKIM_STAT_OK);
	for (size_t at = 0; at < body.n; at += octets) {
		union {
			const uint8_t *from;
			unsigned char *to;
		} p = {.from = body.p + at};

		ck_assert_int_eq(dkim_body(d, p.to, slice_sub(body, at, at + octets).n), DKIM_STAT_OK);
	}
	return dkim_eom(d, NULL);
}

/* Of a signed body "one\r\ntwo  \r\n": bare CR and LF have no canonical form, but some are left out by the library, so that it passes. */
static const struct {
	const char *body;
	bool simple_passes, relaxed_passes; /* in the library alone, octet by octet or whole */
} bare[] = {
    {"on\ne\r\ntwo  \r\n", true, false},
    {"\none\r\ntwo  \r\n", true, false},
    {"one\r\n\ntwo  \r\n", true, false},
    {"one\r\ntwo  \n", true, false},
    {"o\rne\r\ntwo  \r\n", false, true},
    {"one\r\r\ntwo  \r\n", false, false},
    {"one\r\ntwo\r  \r\n", false, true},
};

START_TEST(test_bare_line_ends)
{
	struct signer key = raw_usual_key();
	struct sign_options o = usual;

	for (int relaxed = 0; relaxed < 2; relaxed++) {
		o.body_c = relaxed ? DKIM_CANON_RELAXED : DKIM_CANON_SIMPLE;
		char *message = sign(&key, o);
		*strstr(message, "one\r\n") = '\0';
		for (size_t i = 0; i < sizeof bare / sizeof bare[0]; i++) {
			char *whole = join(message, bare[i].body, "");
			bool passes = relaxed ? bare[i].relaxed_passes : bare[i].simple_passes;

			ck_assert_msg((raw_verify_chunks(whole, 1) == DKIM_STAT_OK || raw_verify_chunks(whole, 99) == DKIM_STAT_OK) == passes,
			    "%d %zu", relaxed, i);
			for (chunk_octets = 1; chunk_octets < 20; chunk_octets++) {
				ck_assert_str_eq(verify(whole), "permerror");
				ck_reason("body has bare CR or LF");
			}
		}
		/* A CR at the very end is one; a last line without an end is ended (3.4.3, 3.4.4). */
		ck_assert_str_eq(verify(join(message, "one\r\ntwo  \r", "")), "permerror");
		ck_assert_str_eq(verify(join(message, "one\r\ntwo  ", "")), "pass");
	}
	ck_assert_int_eq(raw_verify_chunks(join(sign(&key, usual), "three", ""), 99), DKIM_STAT_SYNTAX);
}
END_TEST

/* ---- cost ---- */

static double
cpu_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Signatures that name 1000 fields each, on a message of so many fields. */
static char *
costly(unsigned signatures, unsigned names, unsigned fields)
{
	struct buf b;
	char *message;

	buf_init(&b, 8 << 20);
	for (unsigned i = 0; i < signatures; i++) {
		buf_put_str(&b, "DKIM-Signature: v=1; a=rsa-sha256; d=example.com; s=s; " GOOD_B "; h=from");
		for (unsigned k = 1; k < names; k++)
			buf_put_str(&b, ":x");
		buf_put_str(&b, "\r\n");
	}
	for (unsigned i = 0; i < fields; i++)
		buf_put_str(&b, "y: z\r\n");
	buf_put_str(&b, "From: a@example.com\r\n\r\nx\r\n");
	buf_put_u8(&b, 0);
	message = arena_alloc(arena, b.n);
	memcpy(message, b.p, b.n);
	buf_fini(&b);
	return message;
}

/* It takes any number of signatures, of fields and of names, and its time grows with their product. */
START_TEST(test_cost)
{
	char *message = costly(100, 1000, 5000);
	DKIM_SIGINFO **list;
	int n = 0;

	raw_usual_key();
	double began = cpu_seconds();
	DKIM *d = raw_new(message, DKIM_LIBFLAGS_DELAYSIGPROC);
	ck_assert_int_eq(dkim_eoh(d), DKIM_STAT_OK);
	double library = cpu_seconds() - began;
	ck_assert_int_eq(dkim_getsiglist(d, &list, &n), DKIM_STAT_OK);
	ck_assert_int_eq(n, 100);

	between.signatures = between.headers = 0;
	began = cpu_seconds();
	verify(message);
	double guarded = cpu_seconds() - began;
	ck_assert_uint_eq(got_count, DKIM_SIGNATURES_MAX);
	ck_assert_uint_eq(got_skipped, 100 - DKIM_SIGNATURES_MAX);
	ck_assert_uint_eq(between.signatures, 0); /* h= has too many names */
	ck_assert_uint_le(between.headers, DKIM_HEADER_FIELDS_MAX + 1);

	/* As much as is allowed of each. */
	message = costly(12, DKIM_SIGNED_NAMES_MAX, DKIM_HEADER_FIELDS_MAX - 12 - 1);
	began = cpu_seconds();
	ck_assert_str_eq(verify(message), "fail");
	double most = cpu_seconds() - began;
	ck_assert_uint_eq(between.signatures, DKIM_SIGNATURES_MAX);
	printf("dkim: %.3f s of CPU without guards; %.3f s with them; %.3f s at their limits\n", library, guarded, most);
	ck_assert(guarded * 10 < library && most * 10 < library);
}
END_TEST

/* ---- a library that fails ---- */

static const struct {
	DKIM_STAT header, eoh, body, eom;
	int list;
	bool list_fails;
	const char *reason;
} failures[] = {
    {.header = DKIM_STAT_NORESOURCE, .reason = "header could not be processed"},
    {.header = DKIM_STAT_SYNTAX, .reason = "header could not be processed"},
    {.eoh = DKIM_STAT_SYNTAX, .reason = "header could not be processed"},
    {.eoh = DKIM_STAT_NOSIG, .reason = "header could not be processed"},
    {.list = -1, .reason = "library sees other signatures"},
    {.list = 1, .reason = "library sees other signatures"},
    {.list_fails = true, .reason = "library sees other signatures"},
    {.body = DKIM_STAT_NORESOURCE, .reason = "body could not be processed"},
    {.eom = DKIM_STAT_SYNTAX, .reason = "body has bare CR or LF"},
    {.eom = DKIM_STAT_INTERNAL, .reason = "error of the library"},
    {.eom = DKIM_STAT_NORESOURCE, .reason = "error of the library"},
    {.reason = ""},
};

/* No signature of the message has a verdict of its own then, and none passes. */
START_TEST(test_failures)
{
	struct signer key = raw_usual_key();
	char *message = sign(&key, usual), *both = join(first_field(message), message, "");

	between.header = failures[_i].header;
	between.eoh = failures[_i].eoh;
	between.body = failures[_i].body;
	between.eom = failures[_i].eom;
	between.list = failures[_i].list;
	between.list_fails = failures[_i].list_fails;
	verify(both);
	ck_assert_uint_eq(got_count, 2);
	for (unsigned i = 0; i < 2; i++) {
		ck_assert_int_eq(got[i].result, *failures[_i].reason == '\0' ? DKIM_RESULT_PASS : DKIM_RESULT_PERMERROR);
		ck_assert(slice_eq(got[i].reason, slice_str(failures[_i].reason)));
	}
	ck_assert_uint_eq(dns.asked, failures[_i].body != 0 || failures[_i].eom != 0 || *failures[_i].reason == '\0' ? 2 : 0);
}
END_TEST

int
main(void)
{
	const TTest *const tests[] = {test_selected_fields, test_identity, test_order, test_copied_fields, test_assertions, test_short_key,
	    test_sha1, test_late_key, test_passed_flag, test_algorithm, test_malformed_signature, test_unreadable_from, test_without_handles,
	    test_added_text, test_tag_twice, test_bare_line_ends, test_cost};
	Suite *s = suite_create("dkim_guards");
	TCase *t = tcase_create("dkim_guards");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup_guards, teardown_guards);
	for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++)
		tcase_add_test(t, tests[i]);
	tcase_add_loop_test(t, test_failures, 0, sizeof failures / sizeof failures[0]);
	tcase_set_timeout(t, 60);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
