/* RFC 5322 3.4 to 3.6 and 4.4, RFC 6532: header fields, addresses, message ids. */
#include "common/rfc5322.h"

#include "common/buf.h"

#include <check.h>

/* ---- header block ---- */

START_TEST(test_header)
{
	struct slice m = SLICE("Subject: a\r\n b\r\nX-Empty:\r\nFrom \t: x\n\ty\njunk line\r\n"
			       ": no name\r\nLast:z\r\n\r\nBody: no\r\n");
	static const struct {
		const char *name;
		const char *value;
	} want[] = {{"Subject", " a\r\n b"}, {"X-Empty", ""}, {"From", " x\n\ty"},
	    {"", "junk line"}, {"", ": no name"}, {"Last", "z"}};
	struct header_iter it;
	struct header_field f;
	size_t i = 0;
	size_t raw = 0;

	header_iter_init(&it, m);
	for (; header_next(&it, &f); i++) {
		ck_assert_uint_lt(i, 6);
		ck_assert_msg(slice_eq(f.name, slice_str(want[i].name)), "field %zu", i);
		ck_assert_msg(slice_eq(f.value, slice_str(want[i].value)), "field %zu", i);
		raw += f.raw.n;
	}
	ck_assert_uint_eq(i, 6);
	ck_assert_uint_eq(header_block_length(m), raw + 2);
	ck_assert(header_find(m, SLICE("FROM"), &f));
	ck_assert(!header_find(m, SLICE("Body"), &f));
	ck_assert_uint_eq(header_count(m, SLICE("last")), 1);
}
END_TEST

START_TEST(test_header_edges)
{
	struct header_iter it;
	struct header_field f;

	ck_assert_uint_eq(header_block_length(SLICE("")), 0);
	ck_assert_uint_eq(header_block_length(SLICE("\n")), 1);
	ck_assert_uint_eq(header_block_length(SLICE("A: b")), 4);
	ck_assert_uint_eq(header_block_length(SLICE("A: b\r\n\r\n")), 8);
	ck_assert_uint_eq(header_block_length(SLICE("A: b\r\n\r")), 7);
	header_iter_init(&it, SLICE("\r\nA: b\r\n"));
	ck_assert(!header_next(&it, &f));
	header_iter_init(&it, SLICE(" folded\r\n first\r\nA: b"));
	ck_assert(header_next(&it, &f) && f.name.n == 0);
	ck_assert(header_next(&it, &f) && slice_eq(f.value, SLICE(" b")));
	ck_assert(!header_next(&it, &f));
}
END_TEST

START_TEST(test_header_limit)
{
	struct buf b;

	buf_init(&b, 1 << 20);
	for (size_t n = HEADER_FIELDS_MAX - 1; n <= HEADER_FIELDS_MAX + 1; n++) {
		buf_reset(&b);
		for (size_t i = 0; i < n; i++)
			buf_put_str(&b, "a:b\r\n");
		ck_assert_uint_eq(header_count(buf_slice(&b), SLICE("a")),
		    n < HEADER_FIELDS_MAX ? n : HEADER_FIELDS_MAX);
	}
	buf_fini(&b);
}
END_TEST

START_TEST(test_unfold)
{
	struct arena *a = arena_new(1024);
	struct arena *none = arena_new(0);
	struct slice in = SLICE(" a\r\n  b\n\tc \r\n");
	struct slice out;

	ck_assert(header_unfold(in, a, &out));
	ck_assert(slice_eq(out, SLICE("a  b\tc")));
	in = SLICE(" plain ");
	ck_assert(header_unfold(in, none, &out) && out.p == in.p + 1 && out.n == 5);
	ck_assert(!header_unfold(SLICE("a\r\n b"), none, &out));
	arena_free(&a);
	arena_free(&none);
}
END_TEST

/* ---- addresses ---- */

static void
put_field(struct buf *b, const char *mark, struct slice s)
{
	if (s.p == NULL)
		return;
	buf_put_str(b, mark);
	buf_put_slice(b, s);
}

/* One item a line: "n=name r=route l=local d=domain", "group NAME" and "end"; "!" when malformed. */
static void
render(const struct address_list *l, struct buf *b)
{
	buf_reset(b);
	for (size_t i = 0; i < l->n; i++) {
		const struct address *x = &l->v[i];

		if (x->kind == ADDRESS_GROUP_END)
			buf_put_str(b, "end");
		else if (x->kind == ADDRESS_GROUP_START)
			put_field(b, "group ", x->name);
		else {
			put_field(b, " n=", x->name);
			put_field(b, " r=", x->route);
			put_field(b, " l=", x->local);
			put_field(b, " d=", x->domain);
		}
		buf_put_str(b, x->malformed ? "!\n" : "\n");
	}
}

START_TEST(test_addresses)
{
	static const struct {
		const char *in;
		const char *want;
	} rows[] = {
	    /* RFC 5322 Appendix A.1 to A.6 */
	    {"John Doe <jdoe@machine.example>", " n=John Doe l=jdoe d=machine.example\n"},
	    {"\"Joe Q. Public\" <john.q.public@example.com>",
		" n=Joe Q. Public l=john.q.public d=example.com\n"},
	    {"Mary Smith <mary@x.test>, jdoe@example.org, Who? <one@y.test>",
		" n=Mary Smith l=mary d=x.test\n l=jdoe d=example.org\n n=Who? l=one d=y.test\n"},
	    {"<boss@nil.test>, \"Giant; \\\"Big\\\" Box\" <sysservices@example.net>",
		" l=boss d=nil.test\n n=Giant; \"Big\" Box l=sysservices d=example.net\n"},
	    {"A Group:Ed Jones <c@a.test>,joe@where.test,John <jdoe@one.test>;",
		"group A Group\n n=Ed Jones l=c d=a.test\n l=joe d=where.test\n"
		" n=John l=jdoe d=one.test\nend\n"},
	    {"Undisclosed recipients:;", "group Undisclosed recipients\nend\n"},
	    {"Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>",
		" n=Pete l=pete d=silly.test\n"},
	    {"A Group(Some people)\r\n     :Chris Jones <c@(Chris's host.)public.example>,\r\n"
	     "         joe@example.org,\r\n  John <jdoe@one.test> (my dear friend); (the end of "
	     "the group)",
		"group A Group\n n=Chris Jones l=c d=public.example\n l=joe d=example.org\n"
		" n=John l=jdoe d=one.test\nend\n"},
	    {"(Empty list)(start)Hidden recipients  :(nobody(that I know))  ;",
		"group Hidden recipients\nend\n"},
	    {"Joe Q. Public <john.q.public@example.com>",
		" n=Joe Q. Public l=john.q.public d=example.com\n"},
	    {"Mary Smith <@node.test:mary@example.net>, , jdoe@test  . example",
		" n=Mary Smith r=@node.test l=mary d=example.net\n l=jdoe d=test.example\n"},
	    {"<@a.test,@b.test:c@d.test>", " r=@a.test,@b.test l=c d=d.test\n"},
	    {"John Doe <jdoe@machine(comment).  example>", " n=John Doe l=jdoe d=machine.example\n"},
	    /* forms of others */
	    {"joe@x.test (Joe Doe)", " n=Joe Doe l=joe d=x.test\n"},
	    {"\"john doe\"@x.test", " l=john doe d=x.test\n"},
	    {"joe@[192.0.2.1]", " l=joe d=[192.0.2.1]\n"},
	    {"joe@[IPv6:2001:db8::1], b@c", " l=joe d=[IPv6:2001:db8::1]\n l=b d=c\n"},
	    {"=?utf-8?q?J=C3=B6e?= <j@x.test>", " n==?utf-8?q?J=C3=B6e?= l=j d=x.test\n"},
	    {"J\xC3\xB6rg <j\xC3\xB6rg@b\xC3\xBC.test>", " n=J\xC3\xB6rg l=j\xC3\xB6rg d=b\xC3\xBC.test\n"},
	    {"a@x.test,b@y.test,", " l=a d=x.test\n l=b d=y.test\n"},
	    {"", ""},
	    {" (nothing) , , ", ""},
	    {"two\r\n  words\t<a@b>", " n=two words l=a d=b\n"},
	    {"\"a\" \"b\" c <d@e>", " n=a b c l=d d=e\n"},
	    {"a:b@c;, d@e", "group a\n l=b d=c\nend\n l=d d=e\n"},
	    /* broken: all of it comes out, marked */
	    {"root", " l=root!\n"},
	    {"<>", " l=!\n"},
	    {"@x.test", " l= d=x.test!\n"},
	    {"a@", " l=a d=!\n"},
	    {"a@b@c", " l=a@b d=c!\n"},
	    {"a b@c", " l=a b d=c!\n"},
	    {"Joe <joe@x.test", " n=Joe l=joe d=x.test!\n"},
	    {"Joe <joe@x.test, b@c", " n=Joe l=joe d=x.test!\n l=b d=c\n"},
	    {"a@good.test <b@evil.test>", " n=a@good.test l=b d=evil.test!\n"},
	    {"<a@good.test> <b@evil.test>", " l=a d=good.test!\n l=b d=evil.test\n"},
	    {"<a@good.test> junk", " l=a d=good.test!\n"},
	    {"a@x.test; b@y.test", " l=a d=x.test!\n l=b d=y.test\n"},
	    {"g: a@b", "group g\n l=a d=b\nend\n"},
	    {":;", "group \nend\n"},
	    {"\"open <a@b>", " l=open <a@b>!\n"},
	    {"(open <a@b>", ""},
	    {"\\", " l=\\!\n"},
	    {"a@[open, b@c", " l=a d=[open\n l=b d=c\n"},
	};
	struct arena *a = arena_new(65536);
	struct buf b;

	buf_init(&b, 4096);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct address_list l;

		address_list_parse(slice_str(rows[i].in), ADDRESSES_MAX, a, &l);
		render(&l, &b);
		ck_assert_msg(slice_eq(buf_slice(&b), slice_str(rows[i].want)),
		    "%s:\n%.*swant\n%s", rows[i].in, (int)b.n, (char *)b.p, rows[i].want);
		ck_assert(!l.truncated);
		arena_reset(a);
	}
	buf_fini(&b);
	arena_free(&a);
}
END_TEST

START_TEST(test_address_limits)
{
	struct arena *a = arena_new(65536);
	struct arena *none = arena_new(0);
	struct address_list l;

	for (size_t max = 2; max <= 4; max++) {
		address_list_parse(SLICE("a@b,c@d,e@f"), max, a, &l);
		ck_assert_uint_eq(l.n, max < 3 ? max : 3);
		ck_assert(l.truncated == (max < 3));
	}
	/* A group that is begun is also ended. */
	for (size_t max = 0; max <= 5; max++) {
		address_list_parse(SLICE("g:a@b,c@d;,e@f"), max, a, &l);
		ck_assert_uint_le(l.n, max);
		ck_assert(l.truncated == (max < 5));
		size_t ends = 0;
		for (size_t i = 0; i < l.n; i++)
			ends += l.v[i].kind == ADDRESS_GROUP_END;
		ck_assert_uint_eq(ends, l.groups);
	}
	address_list_parse(SLICE("a@b"), ADDRESSES_MAX, none, &l);
	ck_assert(l.truncated && l.n == 0);
	arena_free(&a);
	arena_free(&none);
}
END_TEST

/* As deep as is read: the address behind it is found; one deeper, and the item is left alone, not the one after it. */
START_TEST(test_comment_depth)
{
	struct arena *a = arena_new(65536);
	struct address_list l;
	struct buf b;

	buf_init(&b, 4096);
	for (size_t depth = ADDRESS_COMMENT_DEPTH_MAX; depth <= ADDRESS_COMMENT_DEPTH_MAX + 1; depth++) {
		buf_reset(&b);
		for (size_t i = 0; i < depth; i++)
			buf_put_u8(&b, '(');
		for (size_t i = 0; i < depth; i++)
			buf_put_u8(&b, ')');
		buf_put_str(&b, "a@b");
		address_list_parse(buf_slice(&b), ADDRESSES_MAX, a, &l);
		bool found = l.n == 1 && slice_eq(l.v[0].domain, SLICE("b"));
		ck_assert_msg(found == (depth == ADDRESS_COMMENT_DEPTH_MAX), "%zu: %zu", depth, l.n);
	}
	buf_fini(&b);
	arena_free(&a);
}
END_TEST

START_TEST(test_split)
{
	struct slice local, domain;

	ck_assert(addr_spec_split(SLICE("a.b@c.d"), &local, &domain));
	ck_assert(slice_eq(local, SLICE("a.b")) && slice_eq(domain, SLICE("c.d")));
	ck_assert(addr_spec_split(SLICE("\"a@b\"@c"), &local, &domain));
	ck_assert(slice_eq(local, SLICE("\"a@b\"")) && slice_eq(domain, SLICE("c")));
	ck_assert(!addr_spec_split(SLICE("a"), &local, &domain));
	ck_assert(!addr_spec_split(SLICE("@b"), &local, &domain));
	ck_assert(!addr_spec_split(SLICE("a@"), &local, &domain));
	ck_assert(!addr_spec_split(SLICE("\"a@b"), &local, &domain));
	ck_assert(!addr_spec_split(SLICE(""), &local, &domain));
}
END_TEST

/* None, one, several, a group. */
START_TEST(test_from)
{
	static const struct {
		const char *block;
		size_t fields, mailboxes, groups;
		bool differ, malformed;
		const char *domain;
	} rows[] = {
	    {"To: a@b\r\n\r\nFrom: x@y\r\n", 0, 0, 0, false, false, ""},
	    {"From: A <a@B.test>\r\n", 1, 1, 0, false, false, "B.test"},
	    {"From: a@b.test, c@B.TEST\r\n", 1, 2, 0, false, false, "b.test"},
	    {"From: a@b.test, c@d.test\r\n", 1, 2, 0, true, false, "b.test"},
	    {"From: a@b.test\r\nfrom : c@d.test\r\n", 2, 2, 0, true, false, "b.test"},
	    {"From: g:;\r\n", 1, 0, 1, false, false, ""},
	    {"From: g: a@b.test;\r\n", 1, 1, 1, false, false, "b.test"},
	    {"From:\r\n", 1, 0, 0, false, false, ""},
	    {"From: a@b.test <c@d.test>\r\n", 1, 1, 0, false, true, "d.test"},
	    {"From: <c@d.test> a@b.test\r\n", 1, 2, 0, true, true, "d.test"},
	    {"From: <c@d.test> (x) \"y\" a@b.test <e@d.test> f@d.test\r\n", 1, 3, 0, false, true, "d.test"},
	    {"From: <c@d.test> \"a@b.test\"\r\n", 1, 1, 0, false, true, "d.test"},
	    {"From: g: <c@d.test> a@b.test;\r\n", 1, 2, 1, true, true, "d.test"},
	    {"From: root\r\n", 1, 1, 0, false, true, ""},
	    {"From: root, a@b\r\n", 1, 2, 0, true, true, ""},
	};
	struct arena *a = arena_new(65536);

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct from_info f;

		from_examine(slice_str(rows[i].block), a, &f);
		ck_assert_msg(f.fields == rows[i].fields && f.list.mailboxes == rows[i].mailboxes &&
			f.list.groups == rows[i].groups && f.domains_differ == rows[i].differ &&
			f.list.malformed == rows[i].malformed,
		    "%s", rows[i].block);
		ck_assert(slice_eq(f.domain, slice_str(rows[i].domain)));
	}
	arena_free(&a);
}
END_TEST

/* More authors than are looked at may be of any domain. */
START_TEST(test_from_many)
{
	static char block[32 * ADDRESSES_MAX];

	for (size_t extra = 0; extra < 2; extra++) {
		struct arena *a = arena_new(1 << 20);
		struct from_info f;
		size_t n = (size_t)snprintf(block, sizeof block, "From: a@b.test");

		for (size_t i = 1; i < ADDRESSES_MAX + extra; i++)
			n += (size_t)snprintf(block + n, sizeof block - n, ",\r\n a%zu@b.test", i);
		from_examine(slice_of((const uint8_t *)block, n), a, &f);
		ck_assert_uint_eq(f.list.mailboxes, ADDRESSES_MAX);
		ck_assert(f.domains_differ == (extra > 0) && slice_eq(f.domain, SLICE("b.test")));
		arena_free(&a);
	}
}
END_TEST

START_TEST(test_msgids)
{
	static const struct {
		const char *in;
		const char *want; /* one a line */
	} rows[] = {
	    {"<1234@local.machine.example>", "1234@local.machine.example\n"},
	    {"<a@b>\r\n <c@d> (comment) <e@f>", "a@b\nc@d\ne@f\n"},
	    {"Your message of \"Mon\" <a@b>", "a@b\n"},
	    {"<a\r\n @b>", "a@b\n"},
	    {"<a<b@c>", "b@c\n"},
	    {"<>< >", ""},
	    {"a@b", ""},
	    {"<a@b", ""},
	    {">a<", ""},
	    {"", ""},
	};
	struct arena *a = arena_new(65536);
	struct msgid_list l;
	struct buf b;

	buf_init(&b, 4096);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		buf_reset(&b);
		msgid_list_parse(slice_str(rows[i].in), MSGIDS_MAX, a, &l);
		for (size_t k = 0; k < l.n; k++) {
			buf_put_slice(&b, l.v[k]);
			buf_put_u8(&b, '\n');
		}
		ck_assert_msg(slice_eq(buf_slice(&b), slice_str(rows[i].want)), "%s", rows[i].in);
		ck_assert(!l.truncated);
	}
	msgid_list_parse(SLICE("<a@b><c@d>"), 1, a, &l);
	ck_assert(l.n == 1 && l.truncated);
	buf_fini(&b);
	arena_free(&a);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("rfc5322");
	TCase *t = tcase_create("rfc5322");

	tcase_add_test(t, test_header);
	tcase_add_test(t, test_header_edges);
	tcase_add_test(t, test_header_limit);
	tcase_add_test(t, test_unfold);
	tcase_add_test(t, test_addresses);
	tcase_add_test(t, test_address_limits);
	tcase_add_test(t, test_comment_depth);
	tcase_add_test(t, test_split);
	tcase_add_test(t, test_from);
	tcase_add_test(t, test_from_many);
	tcase_add_test(t, test_msgids);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed != 0;
}
