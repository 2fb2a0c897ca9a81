/* SEARCH: the three values of a tree with more and more of a message at hand, and text found in real encodings. */
#include "imapd/search_eval.h"
#include "common/search_text.h"

#include "common/charset.h"
#include "common/memfd.h"
#include "common/text.h"
#include "common/transfer.h"

#include <check.h>
#include <unistd.h>

static struct arena *arena;

static void
setup(void)
{
	charset_init();
	arena = arena_new(1u << 22);
}

static void
teardown(void)
{
	arena_free(&arena);
	charset_fini();
}

/* A message with its summary, as the keeper would give it. */
struct message {
	int fd;
	struct buf encoded;
	struct summary summary;
};

static void
message_make(struct message *m, struct slice text)
{
	struct summary_builder *b = summary_builder_new(0);
	struct err e;

	summary_builder_feed(b, text);
	buf_init(&m->encoded, SUMMARY_BYTES_MAX);
	ck_assert(summary_builder_finish(b, &m->encoded));
	summary_builder_free(&b);
	ck_assert(summary_decode(buf_slice(&m->encoded), &m->summary));
	m->fd = memfd_of(text, &e);
	ck_assert_int_ge(m->fd, 0);
}

static void
message_free(struct message *m)
{
	buf_fini(&m->encoded);
	close(m->fd);
}

static bool
body_has(const struct message *m, const char *needle)
{
	struct buf b;
	bool found;

	buf_init(&b, 4096);
	ck_assert(text_fold(slice_str(needle), &b));
	found = search_body(m->fd, &m->summary, buf_slice(&b));
	buf_fini(&b);
	return found;
}

static const char mixed[] = "Subject: outer words\r\nMIME-Version: 1.0\r\n"
			    "Content-Type: multipart/mixed; boundary=x\r\n\r\npreamble text\r\n--x\r\n"
			    "Content-Type: text/plain; charset=iso-8859-1\r\n"
			    "Content-Transfer-Encoding: quoted-printable\r\n\r\n"
			    "Gr=FC=DFe aus M=FCn=\r\nchen\r\n--x\r\n"
			    "Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n"
			    "c2VjcmV0d29yZA==\r\n--x\r\n" /* secretword */
			    "Content-Type: text/html; charset=koi8-r\r\n"
			    "Content-Transfer-Encoding: base64\r\n\r\n8NLJ18XU\r\n--x\r\n"
			    "Content-Type: message/rfc822\r\n\r\nSubject: =?utf-8?q?inn=C3=A9r?=\r\n\r\n"
			    "plain inner\r\n--x--\r\n";

START_TEST(test_body)
{
	static const struct {
		const char *needle;
		bool want;
	} rows[] = {
	    {"gr\xc3\xbc\xc3\x9f"
	     "e",
		true},
	    {"GR\xc3\x9cSSE", true},
	    {"m\xc3\xbcnchen", true}, /* over a soft line break */
	    {"\xd0\xbf\xd1\x80\xd0\xb8\xd0\xb2\xd0\xb5\xd1\x82", true},
	    {"inn\xc3\xa9r", true}, /* the header of the message within */
	    {"plain inner", true},
	    {"secretword", false}, /* not text */
	    {"outer", false},	   /* the header is not the body */
	    {"gr=fc", false},
	    {"absent", false},
	    {"", true},
	};
	struct message m;

	message_make(&m, slice_str(mixed));
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		ck_assert_msg(body_has(&m, rows[i].needle) == rows[i].want, "%s", rows[i].needle);
	message_free(&m);
}
END_TEST

/* The needle at every place around the end of a piece that is read at once, in each encoding. */
START_TEST(test_pieces)
{
	for (unsigned encoding = 0; encoding < 3; encoding++) {
		static const char *const names[] = {"8bit", "base64", "quoted-printable"};

		for (size_t at = 16384 - 40; at < 16384 + 10; at++) {
			struct message m;
			struct buf body;
			struct buf text;

			buf_init(&body, 1u << 20);
			buf_init(&text, 1u << 20);
			buf_putf(&text, "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: %s\r\n\r\n",
			    names[encoding]);
			while (body.n < at)
				buf_put_str(&body, "x");
			buf_put_str(&body, "n\xc3\xa9" "edle");
			while (body.n < 20000)
				buf_put_str(&body, "y");
			if (encoding == 1)
				ck_assert(base64_encode(buf_slice(&body), 76, &text));
			else
				buf_put_slice(&text, buf_slice(&body));
			message_make(&m, buf_slice(&text));
			ck_assert_msg(body_has(&m, "N\xc3\x89" "EDLE"), "%s at %zu", names[encoding], at);
			ck_assert(!body_has(&m, "needless"));
			message_free(&m);
			buf_fini(&body);
			buf_fini(&text);
		}
	}
}
END_TEST

START_TEST(test_header)
{
	struct message m;

	message_make(&m, SLICE("X-One: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nX-Two:\r\n folded\r\n  more\r\nX-One: again\r\n\r\nbody\r\n"));
	ck_assert(search_header_field(m.fd, &m.summary, SLICE("x-one"), SLICE("gru\xcc\x88sse")));
	ck_assert(search_header_field(m.fd, &m.summary, SLICE("X-ONE"), SLICE("again")));
	ck_assert(search_header_field(m.fd, &m.summary, SLICE("X-Two"), SLICE("folded")));
	ck_assert(search_header_field(m.fd, &m.summary, SLICE("X-Two"), SLICE("")));
	ck_assert(!search_header_field(m.fd, &m.summary, SLICE("X-Three"), SLICE("")));
	ck_assert(!search_header_field(m.fd, &m.summary, SLICE("X-Two"), SLICE("again")));
	ck_assert(search_header_text(m.fd, &m.summary, SLICE("x-two")));
	ck_assert(!search_header_text(m.fd, &m.summary, SLICE("body")));
	message_free(&m);
}
END_TEST

/* ---- trees ---- */

START_TEST(test_truth)
{
	/* want: by the view alone, with records, with the object; N, M (maybe), Y */
	static const struct {
		const char *key;
		const char *want;
	} rows[] = {
	    {" ALL", "YYY"},
	    {" SEEN", "YYY"},
	    {" UNSEEN", "NNN"},
	    {" DELETED", "NNN"},
	    {" NEW", "NNN"},
	    {" OLD", "NNN"},
	    {" RECENT", "YYY"},
	    {" KEYWORD work", "YYY"},
	    {" KEYWORD other", "NNN"},
	    {" UNKEYWORD never", "YYY"},
	    {" 3", "YYY"},
	    {" 4:9", "NNN"},
	    {" 4:*", "YYY"},
	    {" UID 7", "YYY"},
	    {" UID 9:*", "NNN"},
	    {" LARGER 10", "MYY"},
	    {" SMALLER 10", "MNN"},
	    {" ON 7-Jul-1996", "MYY"},
	    {" SINCE 8-Jul-1996", "MNN"},
	    {" SENTON 7-Feb-1994", "MYY"},
	    {" SENTBEFORE 7-Feb-1994", "MNN"},
	    {" SUBJECT outer", "MYY"},
	    {" SUBJECT inner", "MNN"},
	    {" BODY munchen", "MMN"},
	    {" TEXT outer", "MMY"},
	    {" HEADER Subject outer", "MMY"},
	    /* What is known decides before what is not. */
	    {" BODY x DELETED", "NNN"},
	    {" OR SEEN BODY x", "YYY"},
	    {" NOT BODY nothing", "MMY"},
	    {" NOT (SEEN BODY nothing)", "MMY"},
	    {" SUBJECT inner BODY x", "MNN"},
	    {" OR SUBJECT outer BODY x", "MYY"},
	    {" (OR (SEEN SUBJECT outer) (BODY x)) NOT DELETED", "MYY"},
	};
	static const char text[] = "Subject: outer\r\nDate: Mon, 7 Feb 1994 21:52:25 -0800\r\n\r\nhello\r\n";
	const struct store_entry entry = {.uid = 7, .flags = STORE_FLAG_SEEN, .keywords = 2};
	/* 7 July at its own place, 8 July in UTC. */
	const struct store_record record = {.uid = 7, .size = 100, .internal_date = 836808285, .zone_minutes = -420};
	const struct search_context context = {.arena = arena, .exists = 3, .last_uid = 8,
	    .keywords = SLICE("other\nWork\n")};
	struct message m;

	message_make(&m, slice_str(text));
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct imap_scan s = imap_scan_of(slice_str(rows[i].key), arena);
		struct search_message at[3] = {
		    {.number = 3, .entry = &entry, .recent = true, .fd = -1},
		    {.number = 3, .entry = &entry, .recent = true, .record = &record, .summary = &m.summary, .fd = -1},
		    {.number = 3, .entry = &entry, .recent = true, .record = &record, .summary = &m.summary, .fd = m.fd},
		};
		struct imap_search search;
		struct search_needs needs;
		struct err e;

		ck_assert_msg(imap_search_args(&s, &search), "%s", rows[i].key);
		ck_assert_int_eq(search_prepare(&search, &context, &needs, &e), 0);
		for (unsigned k = 0; k < 3; k++)
			ck_assert_msg("NMY"[search_eval(&search, &at[k])] == rows[i].want[k], "%s with %u", rows[i].key, k);
		arena_reset(arena);
	}
	message_free(&m);
}
END_TEST

START_TEST(test_body_keys_limit)
{
	for (unsigned n = SEARCH_BODY_KEYS_MAX - 1; n <= SEARCH_BODY_KEYS_MAX + 1; n++) {
		struct search_context context = {.arena = arena};
		struct imap_search search;
		struct search_needs needs;
		struct imap_scan s;
		struct err e;
		struct buf b;

		buf_init(&b, 4096);
		for (unsigned i = 0; i < n; i++)
			buf_put_str(&b, i % 2 ? " BODY x" : " TEXT x");
		s = imap_scan_of(buf_slice(&b), arena);
		ck_assert(imap_search_args(&s, &search));
		ck_assert_int_eq(search_prepare(&search, &context, &needs, &e), n <= SEARCH_BODY_KEYS_MAX ? 0 : -1);
		buf_fini(&b);
	}
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("imap_search");
	TCase *tc = tcase_create("all");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_body);
	tcase_add_test(tc, test_pieces);
	tcase_add_test(tc, test_header);
	tcase_add_test(tc, test_truth);
	tcase_add_test(tc, test_body_keys_limit);
	suite_add_tcase(suite, tc);
	sr = srunner_create(suite);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
