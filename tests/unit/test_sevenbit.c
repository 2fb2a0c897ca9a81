/*
 * Messages for servers that take 7 bits alone: what becomes of each, octet for octet, and what is refused and why. The same comes out in
 * pieces of every size.
 */
#include "common/memfd.h"
#include "smtpd/sevenbit.h"

#include <check.h>
#include <stdio.h>
#include <unistd.h>

#define TEXT_8BIT "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
#define TEXT_QP "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n"
#define MIME "MIME-Version: 1.0\r\n"
#define TEN "0123456789"
#define FIFTY TEN TEN TEN TEN TEN

struct row {
	const char *name;
	const char *in;
	const char *out; /* NULL: nothing is done */
	const char *why; /* NULL: it is not refused */
	size_t n;	 /* of in; 0: up to its NUL */
};

static const struct row rows[] = {
    {"ASCII", MIME "Subject: x\r\n\r\ntext\r\n", NULL, NULL, 0},
    {"ASCII with a label", MIME TEXT_8BIT "\r\ntext\r\n", NULL, NULL, 0},
    {"text", MIME TEXT_8BIT "Subject: x\r\n\r\nGr\xc3\xbc\xc3\x9f" "e = \r\n.\r\nsome more words\r\n",
	MIME TEXT_QP "Subject: x\r\n\r\nGr=C3=BC=C3=9Fe =3D=20\r\n.\r\nsome more words\r\n", NULL, 0},
    {"mostly not ASCII: base64 is shorter", MIME TEXT_8BIT "\r\n\xd0\xbf\xd1\x80\xd0\xb8\r\n",
	MIME "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n0L/RgNC4DQo=\r\n", NULL, 0},
    {"no label", MIME "Content-Type: text/plain\r\nSubject: x\r\n\r\ncaf\xe9 is a word\r\n",
	MIME "Content-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\nSubject: x\r\n\r\ncaf=E9 is a word\r\n", NULL, 0},
    {"no MIME", "Subject: x\r\n\r\ncaf\xe9 is a word\r\n",
	MIME "Content-Transfer-Encoding: quoted-printable\r\nSubject: x\r\n\r\ncaf=E9 is a word\r\n", NULL, 0},
    {"no end of the last line", MIME TEXT_8BIT "\r\nthe last line: \xff", MIME TEXT_QP "\r\nthe last line: =FF=\r\n", NULL, 0},
    {"no text", MIME "Content-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n\r\n\x89PNG\r\n\x1a\n\0\0\r\n",
	MIME "Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\niVBORw0KGgoAAA0K\r\n", NULL,
	sizeof MIME "Content-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n\r\n\x89PNG\r\n\x1a\n\0\0\r\n" - 1},
    {"parts: each by itself, labels around them",
	MIME "Content-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: binary\r\n\r\nhello\r\n--b\r\n" TEXT_8BIT
	     "\r\nasc\r\n--b\r\n" TEXT_8BIT "\r\na line \xff\r\n--b\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n--b--\r\nend\r\n",
	MIME "Content-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: 7bit\r\n\r\nhello\r\n--b\r\n"
	     "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 7bit\r\n"
	     "\r\nasc\r\n--b\r\n" TEXT_QP "\r\na line =FF\r\n--b\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n--b--\r\nend\r\n",
	NULL, 0},
    {"base64 in a part ends at the boundary",
	MIME "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: a/b\r\n\r\n\xff\xff\r\n--b--\r\n",
	MIME "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: a/b\r\nContent-Transfer-Encoding: base64\r\n\r\n//8=\r\n--b--\r\n",
	NULL, 0},
    {"a message in a message",
	MIME "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" MIME TEXT_8BIT "\r\nword \xff\r\n",
	MIME "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 7bit\r\n\r\n" MIME TEXT_QP "\r\nword =FF\r\n", NULL, 0},
    {"a line that would become a boundary",
	MIME "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n" FIFTY TEN TEN "01234--b\r\nword \xff\r\n--b--\r\n",
	MIME "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" FIFTY TEN TEN
	     "01234=\r\n=2D-b\r\nword =FF\r\n--b--\r\n",
	NULL, 0},
    {"a header in UTF-8", MIME "Subject: \xc3\x9f\r\n\r\n\xc3\x9f\r\n", NULL, "there is such text in a header", 0},
    {"a part's header", MIME "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nX: \xff\r\n\r\n\xff\r\n--b--\r\n", NULL,
	"there is such text in a header", 0},
    {"between parts", MIME "Content-Type: multipart/mixed; boundary=b\r\n\r\n\xff\r\n--b\r\n\r\nx\r\n--b--\r\n", NULL,
	"there is such text outside of its parts", 0},
    {"behind the parts", MIME "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n\xff", NULL,
	"there is such text outside of its parts", 0},
    {"signed", MIME "Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n" TEXT_8BIT "\r\n\xff\r\n--b\r\n\r\nx\r\n--b--\r\n", NULL,
	"what would have to be encoded is signed or encrypted", 0},
    {"signed, deeper",
	MIME "Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\n"
	     "\xff\r\n--c--\r\n--b--\r\n", NULL, "what would have to be encoded is signed or encrypted", 0},
    {"signed in ASCII beside what is not: nothing signed changes",
	MIME "Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\nContent-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n" TEXT_8BIT
	     "\r\nx\r\n--b--\r\n--a\r\n\r\nword \xff\r\n--a--\r\n",
	MIME "Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\nContent-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n" TEXT_8BIT
	     "\r\nx\r\n--b--\r\n--a\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nword =FF\r\n--a--\r\n", NULL, 0},
    {"encrypted", MIME "Content-Type: multipart/encrypted; boundary=b\r\n\r\n--b\r\n\r\n\xff\r\n--b--\r\n", NULL,
	"what would have to be encoded is signed or encrypted", 0},
    {"message/partial", MIME "Content-Type: message/partial; id=x; number=1\r\n\r\n\xff\r\n", NULL,
	"what would have to be encoded is encoded already, or may not be", 0},
    {"a multipart that is none", MIME "Content-Type: multipart/mixed\r\n\r\n\xff\r\n", NULL,
	"what would have to be encoded is encoded already, or may not be", 0},
    {"encoded already", MIME "Content-Transfer-Encoding: base64\r\n\r\n\xff\r\n", NULL,
	"what would have to be encoded is encoded already, or may not be", 0},
    {"an encoding that nobody knows", MIME "Content-Transfer-Encoding: x-uuencode\r\n\r\n\xff\r\n", NULL,
	"what would have to be encoded is encoded already, or may not be", 0},
    {"two labels", MIME TEXT_8BIT "Content-Transfer-Encoding: 7bit\r\n\r\n\xff\r\n", NULL, "a part says twice what it is", 0},
    {"two types", MIME TEXT_8BIT "Content-Type: a/b\r\n\r\n\xff\r\n", NULL, "a part says twice what it is", 0},
};

static void
write_in_pieces(const struct sevenbit_plan *plan, struct slice in, size_t piece, struct buf *out)
{
	struct sevenbit_writer w;

	buf_reset(out);
	sevenbit_write_begin(&w, plan->changes, plan->count, in.n);
	for (size_t i = 0; i < in.n; i += piece)
		sevenbit_write(&w, slice_sub(in, i, i + piece), out);
}

static enum sevenbit_result
plan_of(struct slice in, struct sevenbit_plan *plan)
{
	struct err e;
	int fd = memfd_of(in, &e);

	ck_assert_int_ge(fd, 0);
	enum sevenbit_result r = sevenbit_plan(fd, 0, in.n, plan);

	(void)close(fd);
	return r;
}

static void
check_row(const struct row *row)
{
	struct slice in = row->n > 0 ? slice_of((const uint8_t *)row->in, row->n) : slice_str(row->in);
	struct sevenbit_plan plan;
	enum sevenbit_result r = plan_of(in, &plan);
	struct buf out;

	ck_assert_msg(r == (row->why ? SEVENBIT_CANNOT : row->out ? SEVENBIT_CAN : SEVENBIT_IS), "%s: %d %s", row->name, r,
	    plan.why ? plan.why : "");
	if (row->why != NULL)
		ck_assert_str_eq(plan.why, row->why);
	ck_assert_msg(plan.needed == (r != SEVENBIT_IS), "%s", row->name);
	if (row->out == NULL)
		return;
	buf_init(&out, SEVENBIT_WRITTEN_MAX(in.n));
	ck_assert_msg(sevenbit_octets(plan.changes, plan.count, in.n) == (int64_t)strlen(row->out), "%s", row->name);
	for (size_t piece = 1; piece <= in.n; piece++) {
		write_in_pieces(&plan, in, piece, &out);
		ck_assert_msg(slice_eq(buf_slice(&out), slice_str(row->out)), "%s, %zu:\n%.*s", row->name, piece, (int)out.n,
		    (const char *)out.p);
	}
	buf_fini(&out);
}

START_TEST(test_messages)
{
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		check_row(&rows[i]);
}
END_TEST

/* A line of 998 octets may stay, a longer one may not, where 7 bits or not. */
START_TEST(test_long_lines)
{
	for (size_t n = 998; n <= 999; n++) {
		struct sevenbit_plan plan;
		struct buf in;

		buf_init(&in, 4096);
		buf_put_str(&in, "Subject: x\r\n\r\n");
		for (size_t i = 0; i < n; i++)
			buf_put_u8(&in, 'x');
		buf_put_str(&in, "\r\n");
		ck_assert_int_eq(plan_of(buf_slice(&in), &plan), n > 998 ? SEVENBIT_CAN : SEVENBIT_IS);
		ck_assert(!plan.needed);
		buf_fini(&in);
	}
}
END_TEST

/* Two changes for each part, none for the whole but its MIME-Version: one part less fits. */
START_TEST(test_too_many)
{
	for (unsigned n = SEVENBIT_CHANGES_MAX / 2; n <= SEVENBIT_CHANGES_MAX / 2 + 1; n++) {
		struct sevenbit_plan plan;
		struct buf in;

		buf_init(&in, 1 << 20);
		buf_put_str(&in, "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n");
		for (unsigned i = 0; i < n; i++)
			buf_put_str(&in, "--b\r\n\r\n\xff\r\n");
		buf_put_str(&in, "--b--\r\n");
		ck_assert_int_eq(plan_of(buf_slice(&in), &plan), n * 2 > SEVENBIT_CHANGES_MAX ? SEVENBIT_CANNOT : SEVENBIT_CAN);
		ck_assert(plan.needed);
		buf_fini(&in);
	}
}
END_TEST

/* Part of a file, and one that is not as long as was said. */
START_TEST(test_files)
{
	struct sevenbit_plan plan;
	struct err e;
	int fd = memfd_of(SLICE("Return-Path: <\xff>\r\nSubject: x\r\n\r\nword \xff\r\nmore"), &e);

	ck_assert_int_eq(sevenbit_plan(fd, 18, 40, &plan), SEVENBIT_CAN);
	ck_assert_uint_eq(plan.count, 3);
	ck_assert_uint_eq(plan.changes[2].offset, 14);
	ck_assert_uint_eq(plan.changes[2].octets, 8);
	ck_assert_int_eq(sevenbit_plan(fd, 0, 60, &plan), SEVENBIT_UNREAD);
	(void)close(fd);
}
END_TEST

/* Changes come from another process. */
START_TEST(test_changes_outside)
{
	static const struct sevenbit_change bad[][2] = {
	    {{10, 1, 0, SEVENBIT_LEAVE_OUT}, {10, 1, 0, SEVENBIT_LEAVE_OUT}},
	    {{99, 2, 0, SEVENBIT_LEAVE_OUT}, {101, 0, 0, SEVENBIT_FIELD_QP}},
	    {{1, UINT64_MAX, 0, SEVENBIT_LEAVE_OUT}, {1, 0, 0, SEVENBIT_FIELD_QP}},
	    {{1, 0, INT64_MAX, SEVENBIT_FIELD_QP}, {1, 0, 0, SEVENBIT_FIELD_QP}},
	};

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		ck_assert_int_eq(sevenbit_octets(bad[i], 2, 100), -1);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("sevenbit");
	TCase *t = tcase_create("sevenbit");
	const TTest *const tests[] = {test_messages, test_long_lines, test_too_many, test_files, test_changes_outside};

	for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++)
		tcase_add_test(t, tests[i]);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed != 0;
}
