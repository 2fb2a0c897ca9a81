/* The command grammar of SMTP: tables of {line, what must come of it}. */
#include "smtpd/smtp_grammar.h"

#include <check.h>

#define X10 "xxxxxxxxxx"
#define X60 X10 X10 X10 X10 X10 X10
#define LABEL63 X60 "xxx"
#define DOMAIN191 LABEL63 "." LABEL63 "." LABEL63

static const struct smtp_offered all = {.size = true, .eightbit = true, .binary = true, .smtputf8 = true, .auth = true, .dsn = true, .requiretls = true,
    .future_release = true, .priority = true};

static void
check_text(const char *line, struct slice got, const char *want)
{
	ck_assert_msg(slice_eq(got, slice_str(want)), "%s: got \"%.*s\", want \"%s\"", line,
	    SLICE_ARG(got), want);
}

static void
check_printed(const char *line, const struct smtp_path *path, const char *want)
{
	struct buf b;

	buf_init(&b, 1024);
	ck_assert(smtp_path_print(path, &b));
	check_text(line, buf_slice(&b), want);
	buf_fini(&b);
}

START_TEST(test_split)
{
	static const struct {
		const char *line, *verb, *args;
	} rows[] = {
	    {"EHLO a.example", "EHLO", "a.example"},
	    {"QUIT", "QUIT", ""},
	    {"noop   x y  ", "noop", "x y"},
	    {"QUIT \t", "QUIT", ""},
	    {"MAIL FROM:<a@b>", "MAIL", "FROM:<a@b>"},
	    {"", NULL, NULL},
	    {" EHLO a", NULL, NULL},
	    {"EHLO\ta", NULL, NULL},
	    {"12", NULL, NULL},
	    {"EH1O x", NULL, NULL},
	    {"\x80", NULL, NULL},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct slice verb, args;
		bool good = smtp_command_split(slice_str(rows[i].line), &verb, &args);
		ck_assert_msg(good == (rows[i].verb != NULL), "%s", rows[i].line);
		if (!good)
			continue;
		check_text(rows[i].line, verb, rows[i].verb);
		check_text(rows[i].line, args, rows[i].args);
	}
}
END_TEST

START_TEST(test_mail)
{
	static const struct {
		const char *args;
		enum smtp_syntax want;
		const char *printed;
		uint64_t size;
		enum smtp_body body;
	} rows[] = {
	    {"FROM:<>", SMTP_SYNTAX_OK, "", 0, 0},
	    {"from:<a@B.Example>", SMTP_SYNTAX_OK, "a@b.example", 0, 0},
	    {"FROM:<a@b.example> SIZE=1000", SMTP_SYNTAX_OK, "a@b.example", 1000, 0},
	    {"FROM:<a@b.example>  BODY=8bitmime size=7", SMTP_SYNTAX_OK, "a@b.example", 7, SMTP_BODY_8BITMIME},
	    {"FROM:<a@b> SIZE=99999999999999999999", SMTP_SYNTAX_OK, "a@b", UINT64_MAX, 0},
	    {"FROM:<a@b> SIZE=999999999999999999999", SMTP_SYNTAX_BAD_PARAM, NULL, 0, 0},
	    {"FROM:<a@b> SIZE=-1", SMTP_SYNTAX_BAD_PARAM, NULL, 0, 0},
	    {"FROM:<a@b> SIZE=", SMTP_SYNTAX_BAD_PARAM, NULL, 0, 0},
	    {"FROM:<a@b> SIZE", SMTP_SYNTAX_BAD_PARAM, NULL, 0, 0},
	    {"FROM:<a@b> SIZE=1 SIZE=1", SMTP_SYNTAX_BAD_PARAM, NULL, 0, 0},
	    {"FROM:<a@b> BODY=BINARY", SMTP_SYNTAX_BAD_PARAM, NULL, 0, 0},
	    {"FROM:<a@b> BODY=binarymime", SMTP_SYNTAX_OK, "a@b", 0, SMTP_BODY_BINARYMIME},
	    {"FROM:<a@b> RET=HDR", SMTP_SYNTAX_BAD_PARAM, NULL, 0, 0},
	    {"FROM:<a@b> BY=1", SMTP_SYNTAX_UNKNOWN_PARAM, NULL, 0, 0},
	    {"FROM:<a@b> X=a=b", SMTP_SYNTAX_BAD_PARAM, NULL, 0, 0},
	    {"FROM:<a@b> -X=a", SMTP_SYNTAX_BAD_PARAM, NULL, 0, 0},
	    {"FROM:<a@b> AUTH=<>", SMTP_SYNTAX_OK, "a@b", 0, 0},
	    {"FROM:<a@b> AUTH=e+3Dmc2@example.com", SMTP_SYNTAX_OK, "a@b", 0, 0},
	    {"FROM:<a@b> AUTH=e+3", SMTP_SYNTAX_BAD_PARAM, NULL, 0, 0},
	    {"FROM:<a@b> SMTPUTF8", SMTP_SYNTAX_OK, "a@b", 0, 0},
	    {"FROM:<a@b> SMTPUTF8=1", SMTP_SYNTAX_BAD_PARAM, NULL, 0, 0},
	    {"FROM:<j\xc3\xb6@b\xc3\xbc.example> SMTPUTF8", SMTP_SYNTAX_OK, "j\xc3\xb6@b\xc3\xbc.example", 0, 0},
	    {"FROM:<j\xc3\xb6@b.example>", SMTP_SYNTAX_NON_ASCII_SENDER, NULL, 0, 0},
	    {"FROM:<j\xc3@b.example> SMTPUTF8", SMTP_SYNTAX_BAD_SENDER, NULL, 0, 0},
	    {"FROM:<@h.example,@i.example:a@b.example>", SMTP_SYNTAX_OK, "a@b.example", 0, 0},
	    {"FROM:<@h.example:a@b.example", SMTP_SYNTAX_BAD_SENDER, NULL, 0, 0},
	    {"FROM:<@h_x.example:a@b.example>", SMTP_SYNTAX_BAD_SENDER, NULL, 0, 0},
	    {"FROM: <a@b>", SMTP_SYNTAX_BAD_SENDER, NULL, 0, 0},
	    {"FROM :<a@b>", SMTP_SYNTAX_BAD_ARGS, NULL, 0, 0},
	    {"FROM:a@b", SMTP_SYNTAX_BAD_SENDER, NULL, 0, 0},
	    {"FROM:<a@b>x", SMTP_SYNTAX_BAD_SENDER, NULL, 0, 0},
	    {"FROM:<<a@b>>", SMTP_SYNTAX_BAD_SENDER, NULL, 0, 0},
	    {"FROM:<a>", SMTP_SYNTAX_BAD_SENDER, NULL, 0, 0},
	    {"FROM:<a@>", SMTP_SYNTAX_BAD_SENDER, NULL, 0, 0},
	    {"FROM:<@b>", SMTP_SYNTAX_BAD_SENDER, NULL, 0, 0},
	    {"FROM:<.a@b>", SMTP_SYNTAX_BAD_SENDER, NULL, 0, 0},
	    {"FROM:<a.@b>", SMTP_SYNTAX_BAD_SENDER, NULL, 0, 0},
	    {"FROM:<a..b@b>", SMTP_SYNTAX_BAD_SENDER, NULL, 0, 0},
	    {"FROM:<a b@b>", SMTP_SYNTAX_BAD_SENDER, NULL, 0, 0},
	    {"FROM:<\"a b\"@b>", SMTP_SYNTAX_OK, "\"a b\"@b", 0, 0},
	    {"FROM:<\"a\\ b\"@b>", SMTP_SYNTAX_OK, "\"a b\"@b", 0, 0},
	    {"FROM:<\"a\\b\"@b>", SMTP_SYNTAX_OK, "ab@b", 0, 0},
	    {"FROM:<\"a.b\"@b>", SMTP_SYNTAX_OK, "a.b@b", 0, 0},
	    {"FROM:<\"a\\\\\\\"b\"@b>", SMTP_SYNTAX_OK, "\"a\\\\\\\"b\"@b", 0, 0},
	    {"FROM:<\"\"@b>", SMTP_SYNTAX_OK, "\"\"@b", 0, 0},
	    {"FROM:<\"a@b>", SMTP_SYNTAX_BAD_SENDER, NULL, 0, 0},
	    {"FROM:<\"a\tb\"@b>", SMTP_SYNTAX_BAD_SENDER, NULL, 0, 0},
	    {"FROM:<\"a>\"@b>", SMTP_SYNTAX_OK, "\"a>\"@b", 0, 0},
	    {"FROM:<a@-b>", SMTP_SYNTAX_BAD_SENDER, NULL, 0, 0},
	    {"FROM:<a@b->", SMTP_SYNTAX_BAD_SENDER, NULL, 0, 0},
	    {"FROM:<a@b..c>", SMTP_SYNTAX_BAD_SENDER, NULL, 0, 0},
	    {"FROM:<a@b.>", SMTP_SYNTAX_BAD_SENDER, NULL, 0, 0},
	    {"FROM:<a@b_c>", SMTP_SYNTAX_BAD_SENDER, NULL, 0, 0},
	    {"FROM:<a@[192.0.2.1]>", SMTP_SYNTAX_OK, "a@[192.0.2.1]", 0, 0},
	    {"FROM:<a@[192.0.2.256]>", SMTP_SYNTAX_BAD_SENDER, NULL, 0, 0},
	    {"FROM:<a@" LABEL63 ".example>", SMTP_SYNTAX_OK, "a@" LABEL63 ".example", 0, 0},
	    {"FROM:<a@" LABEL63 "x.example>", SMTP_SYNTAX_BAD_SENDER, NULL, 0, 0},
	    {"FROM:<a@" LABEL63 "\xc3\xb6.example> SMTPUTF8", SMTP_SYNTAX_OK, "a@" LABEL63 "\xc3\xb6.example", 0, 0},
	    /* 64 octets of local part, and one more (RFC 5321 4.5.3.1.1) */
	    {"FROM:<" X60 "xxxx@b>", SMTP_SYNTAX_OK, X60 "xxxx@b", 0, 0},
	    {"FROM:<" X60 "xxxxx@b>", SMTP_SYNTAX_BAD_SENDER, NULL, 0, 0},
	    /* more of them in what a forwarder rewrote */
	    {"FROM:<SRS0=" X60 X60 X60 "@b>", SMTP_SYNTAX_OK, "SRS0=" X60 X60 X60 "@b", 0, 0},
	    {"FROM:<srs1=" X60 X60 X60 "@b>", SMTP_SYNTAX_OK, "srs1=" X60 X60 X60 "@b", 0, 0},
	    {"FROM:<SRS2=" X60 X60 X60 "@b>", SMTP_SYNTAX_BAD_SENDER, NULL, 0, 0},
	    {"FROM:<SRS0=" X60 X60 X60 X60 X10 "@b>", SMTP_SYNTAX_BAD_SENDER, NULL, 0, 0},
	    /* a path of 256 octets, and one more (4.5.3.1.3) */
	    {"FROM:<" X10 "@" DOMAIN191 "." X10 X10 X10 X10 X10 "x>", SMTP_SYNTAX_OK,
		X10 "@" DOMAIN191 "." X10 X10 X10 X10 X10 "x", 0, 0},
	    {"FROM:<" X10 "@" DOMAIN191 "." X10 X10 X10 X10 X10 "xx>", SMTP_SYNTAX_BAD_SENDER, NULL, 0, 0},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct arena *a = arena_new(65536);
		struct smtp_mail mail;
		enum smtp_syntax got = smtp_mail_parse(slice_str(rows[i].args), &all, a, &mail);
		ck_assert_msg(got == rows[i].want, "%s: got %d, want %d", rows[i].args, got, rows[i].want);
		if (got == SMTP_SYNTAX_OK) {
			check_printed(rows[i].args, &mail.path, rows[i].printed);
			ck_assert_msg(mail.size == rows[i].size, "%s", rows[i].args);
			ck_assert_msg(mail.body == rows[i].body, "%s", rows[i].args);
		}
		arena_free(&a);
	}
}
END_TEST

#define X100 X10 X10 X10 X10 X10 X10 X10 X10 X10 X10

/* RFC 3461 4, RFC 6533 3 */
/* RFC 8689 2: a parameter without a value. */
START_TEST(test_requiretls)
{
	struct smtp_offered clear = all;
	struct arena *a = arena_new(4096);
	struct smtp_mail mail;

	clear.requiretls = false;
	ck_assert_int_eq(smtp_mail_parse(SLICE("FROM:<> RequireTLS SIZE=1"), &all, a, &mail), SMTP_SYNTAX_OK);
	ck_assert(mail.requiretls && mail.size == 1);
	ck_assert_int_eq(smtp_mail_parse(SLICE("FROM:<> SIZE=1"), &all, a, &mail), SMTP_SYNTAX_OK);
	ck_assert(!mail.requiretls);
	ck_assert_int_eq(smtp_mail_parse(SLICE("FROM:<> REQUIRETLS=1"), &all, a, &mail), SMTP_SYNTAX_BAD_PARAM);
	ck_assert_int_eq(smtp_mail_parse(SLICE("FROM:<> REQUIRETLS REQUIRETLS"), &all, a, &mail), SMTP_SYNTAX_BAD_PARAM);
	ck_assert_int_eq(smtp_mail_parse(SLICE("FROM:<> REQUIRETLS"), &clear, a, &mail), SMTP_SYNTAX_UNKNOWN_PARAM);
	arena_free(&a);
}
END_TEST

/* RFC 4865 3: one of the two. */
START_TEST(test_future_release)
{
	static const struct {
		const char *args;
		enum smtp_syntax want;
		uint32_t hold_for;
		int64_t hold_until;
	} rows[] = {
	    {"FROM:<a@b> HOLDFOR=1", SMTP_SYNTAX_OK, 1, 0},
	    {"FROM:<a@b> holdfor=999999999", SMTP_SYNTAX_OK, 999999999, 0},
	    {"FROM:<a@b> HOLDUNTIL=1996-07-17T09:44:25Z", SMTP_SYNTAX_OK, 0, 837596665},
	    {"FROM:<a@b> HOLDUNTIL=1996-07-17T11:44:25.5+02:00 SIZE=1", SMTP_SYNTAX_OK, 0, 837596665},
	    {"FROM:<a@b> HOLDFOR", SMTP_SYNTAX_BAD_PARAM, 0, 0},
	    {"FROM:<a@b> HOLDFOR=0", SMTP_SYNTAX_BAD_PARAM, 0, 0},
	    {"FROM:<a@b> HOLDFOR=01", SMTP_SYNTAX_BAD_PARAM, 0, 0},
	    {"FROM:<a@b> HOLDFOR=-1", SMTP_SYNTAX_BAD_PARAM, 0, 0},
	    {"FROM:<a@b> HOLDFOR=1000000000", SMTP_SYNTAX_BAD_PARAM, 0, 0},
	    {"FROM:<a@b> HOLDUNTIL", SMTP_SYNTAX_BAD_PARAM, 0, 0},
	    {"FROM:<a@b> HOLDUNTIL=1996-07-17", SMTP_SYNTAX_BAD_PARAM, 0, 0},
	    {"FROM:<a@b> HOLDUNTIL=1960-07-17T09:44:25Z", SMTP_SYNTAX_BAD_PARAM, 0, 0},
	    {"FROM:<a@b> HOLDFOR=1 HOLDFOR=1", SMTP_SYNTAX_BAD_PARAM, 0, 0},
	    {"FROM:<a@b> HOLDFOR=1 HOLDUNTIL=1996-07-17T09:44:25Z", SMTP_SYNTAX_BAD_PARAM, 0, 0},
	    {"FROM:<a@b> HOLDUNTIL=1996-07-17T09:44:25Z HOLDFOR=1", SMTP_SYNTAX_BAD_PARAM, 0, 0},
	};
	struct smtp_offered none = all;
	struct arena *a = arena_new(65536);
	struct smtp_mail mail;

	none.future_release = false;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		ck_assert_msg(smtp_mail_parse(slice_str(rows[i].args), &all, a, &mail) == rows[i].want, "%s", rows[i].args);
		if (rows[i].want != SMTP_SYNTAX_OK)
			continue;
		ck_assert_msg(mail.hold_for == rows[i].hold_for && mail.hold_until == rows[i].hold_until, "%s", rows[i].args);
		ck_assert_int_eq(smtp_mail_parse(slice_str(rows[i].args), &none, a, &mail), SMTP_SYNTAX_UNKNOWN_PARAM);
	}
	arena_free(&a);
}
END_TEST

/* RFC 6710 7. */
START_TEST(test_priority)
{
	static const struct {
		const char *value;
		int want; /* 99: 501 */
	} rows[] = {{"=0", 0}, {"=9", 9}, {"=-9", -9}, {"=1", 1}, {"=-1", -1}, {"", 99}, {"=", 99}, {"=-0", 99}, {"=+1", 99}, {"=10", 99},
	    {"=-10", 99}, {"=01", 99}, {"=a", 99}, {"=--1", 99}, {"=1 MT-PRIORITY=1", 99}};
	struct smtp_offered none = all;
	struct arena *a = arena_new(65536);
	struct smtp_mail mail;
	char args[64];

	none.priority = false;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		(void)snprintf(args, sizeof args, "FROM:<> MT-Priority%s", rows[i].value);
		ck_assert_msg(smtp_mail_parse(slice_str(args), &all, a, &mail) == (rows[i].want == 99 ? SMTP_SYNTAX_BAD_PARAM : SMTP_SYNTAX_OK),
		    "%s", args);
		if (rows[i].want == 99)
			continue;
		ck_assert_int_eq(mail.priority, rows[i].want);
		ck_assert_int_eq(smtp_mail_parse(slice_str(args), &none, a, &mail), SMTP_SYNTAX_UNKNOWN_PARAM);
	}
	arena_free(&a);
}
END_TEST

START_TEST(test_dsn)
{
	static const struct {
		const char *args; /* of MAIL, or of RCPT */
		bool utf8;
		int want;	  /* ret or notify; -1: 501 */
		const char *text; /* ENVID or ORCPT */
	} rows[] = {
	    {"FROM:<> RET=full ENVID=x", false, SMTP_RET_FULL, "x"},
	    {"FROM:<> ENVID=QQ+20314159+2B+3D RET=HDRS", false, SMTP_RET_HDRS, "QQ+20314159+2B+3D"},
	    {"FROM:<> ENVID=" X100, false, SMTP_RET_NONE, X100},
	    {"FROM:<> ENVID=x" X100, false, -1, NULL},
	    {"FROM:<> ENVID", false, -1, NULL},
	    {"FROM:<> ENVID=", false, -1, NULL},
	    {"FROM:<> ENVID=a+2", false, -1, NULL},
	    {"FROM:<> ENVID=a+2b", false, -1, NULL}, /* upper case only */
	    {"FROM:<> ENVID=a+0D+0A", false, -1, NULL}, /* not printable */
	    {"FROM:<> ENVID=a+7F", false, -1, NULL},
	    {"FROM:<> ENVID=a+C3+B6", false, -1, NULL},
	    {"FROM:<> ENVID=a ENVID=a", false, -1, NULL},
	    {"FROM:<> RET=FULL RET=FULL", false, -1, NULL},
	    {"FROM:<> RET", false, -1, NULL},
	    {"FROM:<> RET=FULL,HDRS", false, -1, NULL},
	    {"TO:<a@b> NOTIFY=Never", false, SMTP_NOTIFY_NEVER, ""},
	    {"TO:<a@b> NOTIFY=SUCCESS,failure,DELAY", false, 7, ""},
	    {"TO:<a@b> NOTIFY=DELAY ORCPT=rfc822;a+2Bx@b", false, SMTP_NOTIFY_DELAY, "rfc822;a+2Bx@b"},
	    {"TO:<a@b> NOTIFY", false, -1, NULL},
	    {"TO:<a@b> NOTIFY=NEVER,FAILURE", false, -1, NULL},
	    {"TO:<a@b> NOTIFY=FAILURE,NEVER", false, -1, NULL},
	    {"TO:<a@b> NOTIFY=SUCCESS,", false, -1, NULL},
	    {"TO:<a@b> NOTIFY=,SUCCESS", false, -1, NULL},
	    {"TO:<a@b> NOTIFY=SUCCESS NOTIFY=DELAY", false, -1, NULL},
	    {"TO:<a@b> ORCPT=rfc822", false, -1, NULL},
	    {"TO:<a@b> ORCPT=rfc822;", false, -1, NULL},
	    {"TO:<a@b> ORCPT=;a@b", false, -1, NULL},
	    {"TO:<a@b> ORCPT=r(c);a@b", false, -1, NULL},
	    {"TO:<a@b> ORCPT=rfc822;a+0Ab", false, -1, NULL},
	    {"TO:<a@b> ORCPT=x400;" X100 X100 X100 X100 X60 X10 X10 X10 "yyyyy", false, 0,
		"x400;" X100 X100 X100 X100 X60 X10 X10 X10 "yyyyy"}, /* 500 with 5 of the type */
	    {"TO:<a@b> ORCPT=x400;" X100 X100 X100 X100 X60 X10 X10 X10 "yyyyyy", false, -1, NULL},
	    {"TO:<a@b> ORCPT=utf-8;\\x{F6}\\x{20AC}\\x{1F600}\\x{20}\\x{2B}@b", false, 0, "utf-8;\\x{F6}\\x{20AC}\\x{1F600}\\x{20}\\x{2B}@b"},
	    {"TO:<a@b> ORCPT=utf-8;a@b", false, 0, "utf-8;a@b"},
	    {"TO:<a@b> ORCPT=utf-8;\xc3\xb6@b", true, 0, "utf-8;\xc3\xb6@b"},
	    {"TO:<a@b> ORCPT=utf-8;\xc3@b", true, -1, NULL},
	    {"TO:<a@b> ORCPT=utf-8;a\\b", false, -1, NULL},
	    {"TO:<a@b> ORCPT=utf-8;a+2Bb", false, -1, NULL},
	    {"TO:<a@b> ORCPT=utf-8;\\x{41}", false, -1, NULL},     /* may stand there as itself */
	    {"TO:<a@b> ORCPT=utf-8;\\x{f6}", false, -1, NULL},     /* upper case only */
	    {"TO:<a@b> ORCPT=utf-8;\\x{00F6}", false, -1, NULL},   /* not the shortest */
	    {"TO:<a@b> ORCPT=utf-8;\\x{D800}", false, -1, NULL},   /* a surrogate */
	    {"TO:<a@b> ORCPT=utf-8;\\x{110000}", false, -1, NULL}, /* no code point */
	    {"TO:<a@b> ORCPT=utf-8;\\x{F6", false, -1, NULL},
	    {"TO:<a@b> ORCPT=rfc822;\xc3\xb6@b", true, -1, NULL}, /* xtext is ASCII */
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct arena *a = arena_new(4096);
		bool is_mail = rows[i].args[0] == 'F';
		struct smtp_mail mail;
		struct smtp_rcpt rcpt;
		enum smtp_syntax got = is_mail ? smtp_mail_parse(slice_str(rows[i].args), &all, a, &mail)
					       : smtp_rcpt_parse(slice_str(rows[i].args), &all, rows[i].utf8, a, &rcpt);
		ck_assert_msg(got == (rows[i].want < 0 ? SMTP_SYNTAX_BAD_PARAM : SMTP_SYNTAX_OK), "%s: got %d", rows[i].args, got);
		if (rows[i].want >= 0) {
			ck_assert_msg((int)(is_mail ? (unsigned)mail.ret : rcpt.notify) == rows[i].want, "%s", rows[i].args);
			check_text(rows[i].args, is_mail ? mail.envid : rcpt.orcpt, rows[i].text);
		}
		arena_free(&a);
	}
}
END_TEST

/* RFC 3030 2 */
START_TEST(test_bdat)
{
	static const struct {
		const char *args;
		bool good, last;
		uint64_t bytes;
	} rows[] = {
	    {"0", true, false, 0},
	    {"0 LAST", true, true, 0},
	    {"86 last", true, true, 86},
	    {"0000000000000000000000086", true, false, 86},
	    {"18446744073709551615", true, false, UINT64_MAX},
	    {"18446744073709551616", true, false, UINT64_MAX},
	    {"99999999999999999999999999 LAST", true, true, UINT64_MAX},
	    {"", false, false, 0},
	    {"LAST", false, false, 0},
	    {"-1", false, false, 0},
	    {"+1", false, false, 0},
	    {"0x10", false, false, 0},
	    {"1 LAS", false, false, 0},
	    {"1 LAST LAST", false, false, 0},
	    {"1  LAST", false, false, 0},
	    {"1,000", false, false, 0},
	    {"1LAST", false, false, 0},
	    {"1\tLAST", false, false, 0},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		uint64_t bytes = 0;
		bool last = false;
		enum smtp_syntax got = smtp_bdat_parse(slice_str(rows[i].args), &bytes, &last);
		ck_assert_msg((got == SMTP_SYNTAX_OK) == rows[i].good, "%s", rows[i].args);
		if (rows[i].good)
			ck_assert_msg(bytes == rows[i].bytes && last == rows[i].last, "%s", rows[i].args);
	}
}
END_TEST

START_TEST(test_not_offered)
{
	struct smtp_offered none = {0};
	static const char *const args[] = {
	    "FROM:<a@b> SIZE=1",
	    "FROM:<a@b> BODY=7BIT",
	    "FROM:<a@b> AUTH=<>",
	    "FROM:<a@b> SMTPUTF8",
	};

	for (size_t i = 0; i < sizeof(args) / sizeof(*args); i++) {
		struct arena *a = arena_new(4096);
		struct smtp_mail mail;
		ck_assert_msg(smtp_mail_parse(slice_str(args[i]), &none, a, &mail) ==
			SMTP_SYNTAX_UNKNOWN_PARAM,
		    "%s", args[i]);
		arena_free(&a);
	}
}
END_TEST

START_TEST(test_rcpt)
{
	static const struct {
		const char *args;
		bool utf8;
		enum smtp_syntax want;
		const char *printed;
	} rows[] = {
	    {"TO:<a@b.example>", false, SMTP_SYNTAX_OK, "a@b.example"},
	    {"to:<Postmaster>", false, SMTP_SYNTAX_OK, "postmaster"},
	    {"TO:<POSTMASTER@b.example>", false, SMTP_SYNTAX_OK, "POSTMASTER@b.example"},
	    {"TO:<@h:a@b>", false, SMTP_SYNTAX_OK, "a@b"},
	    {"TO:<>", false, SMTP_SYNTAX_BAD_RECIPIENT, NULL},
	    {"TO:<postmaste>", false, SMTP_SYNTAX_BAD_RECIPIENT, NULL},
	    {"TO: <a@b>", false, SMTP_SYNTAX_BAD_RECIPIENT, NULL},
	    {"FROM:<a@b>", false, SMTP_SYNTAX_BAD_ARGS, NULL},
	    {"", false, SMTP_SYNTAX_BAD_ARGS, NULL},
	    {"TO:<a@b> NOTIFY=EVER", false, SMTP_SYNTAX_BAD_PARAM, NULL},
	    {"TO:<a@b> SIZE=1", false, SMTP_SYNTAX_UNKNOWN_PARAM, NULL},
	    {"TO:<a@b> =", false, SMTP_SYNTAX_BAD_PARAM, NULL},
	    {"TO:<\xc3\xb6@b>", false, SMTP_SYNTAX_NON_ASCII, NULL},
	    {"TO:<\xc3\xb6@b>", true, SMTP_SYNTAX_OK, "\xc3\xb6@b"},
	    {"TO:<\xff@b>", true, SMTP_SYNTAX_BAD_RECIPIENT, NULL},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct arena *a = arena_new(4096);
		struct smtp_rcpt rcpt;
		enum smtp_syntax got = smtp_rcpt_parse(slice_str(rows[i].args), &all, rows[i].utf8, a, &rcpt);
		ck_assert_msg(got == rows[i].want, "%s: got %d", rows[i].args, got);
		if (got == SMTP_SYNTAX_OK)
			check_printed(rows[i].args, &rcpt.path, rows[i].printed);
		arena_free(&a);
	}
}
END_TEST

START_TEST(test_params_max)
{
	struct buf b;
	struct smtp_rcpt rcpt;
	struct arena *a = arena_new(4096);

	buf_init(&b, 4096);
	buf_put_str(&b, "TO:<a@b>");
	for (int i = 0; i < SMTP_PARAMS_MAX; i++)
		buf_putf(&b, " X%d=1", i);
	ck_assert_int_eq(smtp_rcpt_parse(buf_slice(&b), &all, false, a, &rcpt), SMTP_SYNTAX_UNKNOWN_PARAM);
	buf_put_str(&b, " Y");
	ck_assert_int_eq(smtp_rcpt_parse(buf_slice(&b), &all, false, a, &rcpt), SMTP_SYNTAX_BAD_PARAM);
	buf_fini(&b);
	arena_free(&a);
}
END_TEST

START_TEST(test_literals)
{
	static const struct {
		const char *text;
		bool want;
	} rows[] = {
	    {"[127.0.0.1]", true},
	    {"[0.0.0.0]", true},
	    {"[1.2.3]", false},
	    {"[1.2.3.4.5]", false},
	    {"[1.2.3.4", false},
	    {"[1.2.3.]", false},
	    {"[1.2.3.0004]", false},
	    {"[IPv6:::]", true},
	    {"[IPv6:::1]", true},
	    {"[ipv6:2001:db8::1]", true},
	    {"[IPv6:2001:db8::]", true},
	    {"[IPv6:1:2:3:4:5:6:7:8]", true},
	    {"[IPv6:1:2:3:4:5:6:7]", false},
	    {"[IPv6:1:2:3:4:5:6:7:8:9]", false},
	    {"[IPv6:1:2:3:4:5:6::]", true},
	    {"[IPv6:1:2:3:4:5:6:7::]", false},
	    {"[IPv6:1::2::3]", false},
	    {"[IPv6:::1::]", false},
	    {"[IPv6:12345::]", false},
	    {"[IPv6:1:2:3:4:5:6:]", false},
	    {"[IPv6:1:2:3:4:5:6:192.0.2.1]", true},
	    {"[IPv6:::ffff:192.0.2.1]", true},
	    {"[IPv6:1:2:3:4::192.0.2.1]", true},
	    {"[IPv6:1:2:3:4:5::192.0.2.1]", false},
	    {"[IPv6:192.0.2.1]", false},
	    {"[IPv6:g::]", false},
	    {"[IPv6:]", false},
	    {"[Tag:x]", true},
	    {"[tag-:x]", false},
	    {"[tag:]", false},
	    {"[tag:a b]", false},
	    {"[]", false},
	    {"", false},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		ck_assert_msg(smtp_literal_valid(slice_str(rows[i].text)) == rows[i].want, "%s",
		    rows[i].text);
}
END_TEST

START_TEST(test_helo)
{
	static const struct {
		const char *text;
		bool strict, lax;
	} rows[] = {
	    {"mx.example.com", true, true},
	    {"localhost", true, true},
	    {"[127.0.0.1]", true, true},
	    {"my_host", false, true},
	    {"a b", false, false},
	    {"", false, false},
	    {"a.", false, true},
	    {"\xc3\xb6.example", false, false},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		ck_assert_msg(smtp_helo_valid(slice_str(rows[i].text)) == rows[i].strict, "%s", rows[i].text);
		ck_assert_msg(smtp_helo_valid_lax(slice_str(rows[i].text)) == rows[i].lax, "%s", rows[i].text);
	}
}
END_TEST

START_TEST(test_domain_octets)
{
	struct buf b;

	buf_init(&b, 1024);
	buf_put_str(&b, DOMAIN191 "." X60 "xxx"); /* 255 */
	ck_assert_uint_eq(b.n, SMTP_DOMAIN_BYTES_MAX);
	ck_assert(smtp_domain_valid(buf_slice(&b), false));
	buf_reset(&b);
	buf_put_str(&b, "x." DOMAIN191 "." X60 "xxx");
	ck_assert(!smtp_domain_valid(buf_slice(&b), false));
	buf_fini(&b);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("smtp_grammar");
	TCase *t = tcase_create("all");

	tcase_add_test(t, test_split);
	tcase_add_test(t, test_mail);
	tcase_add_test(t, test_bdat);
	tcase_add_test(t, test_requiretls);
	tcase_add_test(t, test_future_release);
	tcase_add_test(t, test_priority);
	tcase_add_test(t, test_dsn);
	tcase_add_test(t, test_not_offered);
	tcase_add_test(t, test_rcpt);
	tcase_add_test(t, test_params_max);
	tcase_add_test(t, test_literals);
	tcase_add_test(t, test_helo);
	tcase_add_test(t, test_domain_octets);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
