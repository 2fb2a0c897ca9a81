/* RFC 2045 5.1, 2183, 2231: parameters as written, joined and as text. */
#include "common/charset.h"
#include "common/mime_param.h"

#include <check.h>

/* "type/subtype name=value name*=value …" with "|" before each parameter, for comparison. */
static void
render(const struct mime_value *v, struct buf *out)
{
	buf_put_slice(out, v->type);
	if (v->subtype.p) {
		buf_put_str(out, "/");
		buf_put_slice(out, v->subtype);
	}
	for (size_t i = 0; i < v->params.n; i++) {
		buf_put_str(out, "|");
		buf_put_slice(out, v->params.v[i].name);
		buf_put_str(out, v->params.v[i].extended ? "*=" : "=");
		buf_put_slice(out, v->params.v[i].value);
	}
}

START_TEST(test_type)
{
	static const struct {
		const char *in;
		const char *want; /* NULL: refused */
	} rows[] = {
	    {"text/plain; charset=us-ascii (Plain text)", "text/plain|charset=us-ascii"},
	    {"text/plain; charset=\"us-ascii\"", "text/plain|charset=us-ascii"},
	    {" (c) TEXT (x(y)) / (z) Plain ;\r\n\tcharset = (q) utf-8 ", "TEXT/Plain|charset=utf-8"},
	    {"text/html", "text/html"},
	    {"text/html;", "text/html"},
	    {"text/html;;; a=b;;", "text/html|a=b"},
	    {"text/html; a=b; A=c; a*=utf-8''d", "text/html|a=b|a*=utf-8''d"},
	    {"text/html; a=\"b;c\\\"d\\\\\"; e=f", "text/html|a=b;c\"d\\|e=f"},
	    {"text/html; a=\"b\r\n c\"", "text/html|a=b c"},
	    {"text/html; a=\"open", "text/html|a=open"},
	    {"text/html; a=\"open\\", "text/html|a=open\\"},
	    {"text/html; name=my file(1).txt; b=c", "text/html|name=my file(1).txt|b=c"},
	    {"text/html; =x; y; z=", "text/html|z="},
	    {"text/html charset=utf-8", "text/html"},
	    {"text/html (a;b) ; c=d", "text/html|c=d"},
	    {"text/html x; c=d", "text/html|c=d"},
	    {"application/x-a+b.c", "application/x-a+b.c"},
	    {"text", NULL},
	    {"text/", NULL},
	    {"/plain", NULL},
	    {"", NULL},
	    {"(((", NULL},
	    /* RFC 2231 3 and 4 */
	    {"message/external-body; access-type=URL;\r\n URL*0=\"ftp://\";\r\n"
	     " URL*1=\"cs.utk.edu/pub/moore/bulk-mailer/bulk-mailer.tar\"",
		"message/external-body|access-type=URL|"
		"URL=ftp://cs.utk.edu/pub/moore/bulk-mailer/bulk-mailer.tar"},
	    {"application/x-stuff; title*=us-ascii'en-us'This%20is%20%2A%2A%2Afun%2A%2A%2A",
		"application/x-stuff|title*=us-ascii'en-us'This%20is%20%2A%2A%2Afun%2A%2A%2A"},
	    {"application/x-stuff; title*0*=us-ascii'en'This%20is%20even%20more%20;"
	     " title*1*=%2A%2A%2Afun%2A%2A%2A%20; title*2=\"isn't it!\"",
		"application/x-stuff|title*=us-ascii'en'This%20is%20even%20more%20"
		"%2A%2A%2Afun%2A%2A%2A%20isn%27t%20it!"},
	    {"a/b; n*1=y; n*0=x; n*2=z; n*4=lost", "a/b|n=xyz"},
	    {"a/b; n*1=y", "a/b"},
	    {"a/b; n*0=x; n*1*=%41", "a/b|n*=''x%41"},
	    {"a/b; n*x=1; *=2; n*0000=3", "a/b|n*x=1|*=2|n*0000=3"},
	};
	struct arena *a = arena_new(65536);
	struct buf out;

	buf_init(&out, 1000);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct mime_value v;
		bool ok = mime_type_parse(slice_str(rows[i].in), a, &v);

		ck_assert_msg(ok == (rows[i].want != NULL), "%s: %d", rows[i].in, ok);
		buf_reset(&out);
		render(&v, &out);
		if (ok)
			ck_assert_msg(slice_eq(buf_slice(&out), slice_str(rows[i].want)),
			    "%s: '%.*s'", rows[i].in, (int)out.n, (char *)out.p);
		arena_reset(a);
	}
	buf_fini(&out);
	arena_free(&a);
}
END_TEST

START_TEST(test_disposition)
{
	static const struct {
		const char *in;
		const char *want;
	} rows[] = {
	    {"attachment; filename=genome.jpeg;\r\n modification-date=\"Wed, 12 Feb 1997\"",
		"attachment|filename=genome.jpeg|modification-date=Wed, 12 Feb 1997"},
	    {"inline", "inline"},
	    {"; filename=x", NULL},
	};
	struct arena *a = arena_new(65536);
	struct buf out;

	buf_init(&out, 1000);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct mime_value v;
		bool ok = mime_disposition_parse(slice_str(rows[i].in), a, &v);

		ck_assert_msg(ok == (rows[i].want != NULL), "%s: %d", rows[i].in, ok);
		buf_reset(&out);
		render(&v, &out);
		if (ok)
			ck_assert(slice_eq(buf_slice(&out), slice_str(rows[i].want)));
	}
	buf_fini(&out);
	arena_free(&a);
}
END_TEST

START_TEST(test_text)
{
	static const struct {
		const char *in;
		const char *want;
	} rows[] = {
	    {"a/b; n=plain", "plain"},
	    {"a/b; n*=iso-8859-1''Fr%F6sche", "Frösche"},
	    {"a/b; n*0*=utf-8'de'%e2%82; n*1*=%ac", "€"},
	    {"a/b; n=plain; n*=utf-8''better", "better"},
	    {"a/b; n*=utf-8''a%0D%0Ab%00", "a  b "},
	    {"a/b; n*=utf-8''50%zz%4", "50%zz%4"},
	    {"a/b; n*=no-quotes", "no-quotes"},
	    {"a/b; n=\"=?utf-8?q?=C3=A9?=\"", "é"},
	};
	struct arena *a = arena_new(65536);
	struct buf out;

	buf_init(&out, 1000);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct mime_value v;

		ck_assert(mime_type_parse(slice_str(rows[i].in), a, &v));
		buf_reset(&out);
		ck_assert(mime_param_text(mime_param_find(&v.params, SLICE("N")), &out));
		ck_assert_msg(slice_eq(buf_slice(&out), slice_str(rows[i].want)), "%s: '%.*s'",
		    rows[i].in, (int)out.n, (char *)out.p);
		ck_assert_ptr_null(mime_param_find(&v.params, SLICE("x")));
	}
	buf_fini(&out);
	arena_free(&a);
}
END_TEST

/* n parameters "xI=v" or continuations "n*I=v". */
static void
many(struct buf *out, const char *format, size_t n)
{
	buf_reset(out);
	buf_put_str(out, "a/b");
	for (size_t i = 0; i < n; i++) {
		buf_put_str(out, "; ");
		buf_put_str(out, format);
		buf_putf(out, "%zu=v", i);
	}
}

/* Each cap at n-1, n and n+1: a flood of parameters costs little. */
START_TEST(test_caps)
{
	struct arena *a = arena_new(1 << 20);
	struct mime_value v;
	struct buf in;

	buf_init(&in, 4 << 20);
	for (size_t n = MIME_PARAMS_MAX - 1; n <= MIME_PARAMS_MAX + 1; n++) {
		many(&in, "x", n);
		ck_assert(mime_type_parse(buf_slice(&in), a, &v));
		ck_assert_uint_eq(v.params.n, n < MIME_PARAMS_MAX ? n : MIME_PARAMS_MAX);
		ck_assert(v.params.truncated == (n > MIME_PARAMS_MAX));
	}
	for (size_t n = MIME_PARAM_PIECES_MAX - 1; n <= MIME_PARAM_PIECES_MAX + 1; n++) {
		many(&in, "x*", n);
		ck_assert(mime_type_parse(buf_slice(&in), a, &v));
		ck_assert_uint_eq(v.params.n, 1);
		ck_assert_uint_eq(v.params.v[0].value.n,
		    n < MIME_PARAM_PIECES_MAX ? n : MIME_PARAM_PIECES_MAX);
		ck_assert(v.params.truncated == (n > MIME_PARAM_PIECES_MAX));
	}
	many(&in, "x", 100000);
	ck_assert(mime_type_parse(buf_slice(&in), a, &v));
	ck_assert(v.params.truncated);
	for (size_t n = MIME_PARAM_BYTES_MAX - 1; n <= MIME_PARAM_BYTES_MAX + 1; n++) {
		buf_reset(&in);
		buf_put_str(&in, "a/b; x=");
		memset(buf_room(&in, n), 'y', n);
		buf_added(&in, n);
		ck_assert(mime_type_parse(buf_slice(&in), a, &v));
		ck_assert_uint_eq(v.params.n, n <= MIME_PARAM_BYTES_MAX);
		ck_assert(v.params.truncated == (n > MIME_PARAM_BYTES_MAX));
	}
	buf_fini(&in);
	arena_free(&a);
}
END_TEST

START_TEST(test_small_ones)
{
	struct slice tags[3];

	ck_assert(slice_eq(mime_token_parse(SLICE(" (c) base64 (x)")), SLICE("base64")));
	ck_assert_uint_eq(mime_token_parse(SLICE("")).n, 0);
	ck_assert_uint_eq(mime_language_parse(SLICE("en, de (German),, fr"), 3, tags), 3);
	ck_assert(slice_eq(tags[1], SLICE("de")) && slice_eq(tags[2], SLICE("fr")));
	ck_assert_uint_eq(mime_language_parse(SLICE("a,b,c,d"), 3, tags), 3);
	ck_assert_uint_eq(mime_language_parse(SLICE(" , "), 3, tags), 0);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("mime_param");
	TCase *t = tcase_create("mime_param");

	tcase_add_unchecked_fixture(t, charset_init, charset_fini);
	tcase_add_test(t, test_type);
	tcase_add_test(t, test_disposition);
	tcase_add_test(t, test_text);
	tcase_add_test(t, test_caps);
	tcase_add_test(t, test_small_ones);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed != 0;
}
