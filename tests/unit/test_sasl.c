/* SASL PLAIN (RFC 4616) and LOGIN, step by step. */
#include "authd/sasl.h"

#include <check.h>

#define X255                                                                                       \
	"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" \
	"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" \
	"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

struct plain_row {
	const char *name;
	struct slice message;
	enum sasl_outcome want;
	const char *login, *password;
};

static const struct plain_row plain[] = {
    {"empty authzid", SLICE("\0alice\0secret"), SASL_CREDENTIAL, "alice", "secret"},
    {"authzid equal", SLICE("alice\0alice\0secret"), SASL_CREDENTIAL, "alice", "secret"},
    {"RFC 4616 4, other authzid", SLICE("Ursel\0Kurt\0xipj3plmq"), SASL_REFUSED, NULL, NULL},
    {"RFC 4616 4, own", SLICE("\0tim\0tanstaaftanstaaf"), SASL_CREDENTIAL, "tim", "tanstaaftanstaaf"},
    {"no NUL", SLICE("alice"), SASL_REFUSED, NULL, NULL},
    {"one NUL", SLICE("alice\0secret"), SASL_REFUSED, NULL, NULL},
    {"three NULs", SLICE("\0alice\0secret\0"), SASL_REFUSED, NULL, NULL},
    {"NUL in the password", SLICE("\0alice\0sec\0ret"), SASL_REFUSED, NULL, NULL},
    {"empty password", SLICE("\0alice\0"), SASL_REFUSED, NULL, NULL},
    {"empty login", SLICE("\0\0secret"), SASL_REFUSED, NULL, NULL},
    {"only NULs", SLICE("\0\0"), SASL_REFUSED, NULL, NULL},
    {"empty", SLICE(""), SASL_REFUSED, NULL, NULL},
    {"UTF-8", SLICE("\0caf\xc3\xa9@d.test\0p\xc3\xa4ss"), SASL_CREDENTIAL, "caf\xc3\xa9@d.test", "p\xc3\xa4ss"},
    {"no UTF-8 in the login", SLICE("\0caf\xe9\0x"), SASL_REFUSED, NULL, NULL},
    {"no UTF-8 in the password", SLICE("\0alice\0\xff"), SASL_REFUSED, NULL, NULL},
    {"LF in the login", SLICE("\0al\nice\0x"), SASL_REFUSED, NULL, NULL},
    {"spaces kept", SLICE("\0alice\0 a b "), SASL_CREDENTIAL, "alice", " a b "},
    {"255 octets of password", SLICE("\0alice\0" X255), SASL_CREDENTIAL, "alice", X255},
};

START_TEST(test_plain)
{
	for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) {
		const struct plain_row *row = &plain[i];

		/* With an initial response, and as an answer to the empty challenge. */
		for (int initial = 0; initial < 2; initial++) {
			struct sasl s;
			enum sasl_outcome got;

			sasl_init(&s);
			got = sasl_start(&s, SLICE("PLAIN"), initial, initial ? row->message : SLICE(""));
			if (!initial) {
				ck_assert_int_eq(got, SASL_CHALLENGE);
				ck_assert_uint_eq(s.challenge.n, 0);
				got = sasl_step(&s, row->message);
			}
			ck_assert_msg(got == row->want, "%s: %d", row->name, got);
			if (got == SASL_CREDENTIAL) {
				ck_assert(slice_eq(sasl_login(&s), slice_str(row->login)));
				ck_assert(slice_eq(sasl_password(&s), slice_str(row->password)));
			}
			ck_assert_int_eq(sasl_step(&s, SLICE("more")), SASL_OUT_OF_ORDER);
			sasl_reset(&s);
			ck_assert_uint_eq(sasl_password(&s).n, 0);
		}
	}
}
END_TEST

/* What is too long is cut to a length that no password has: it fails after its hash, not before. */
START_TEST(test_plain_long)
{
	static uint8_t message[12288];
	struct sasl s;

	memset(message, 'x', sizeof message);
	memcpy(message, "\0alice\0", 7);
	sasl_init(&s);
	ck_assert_int_eq(sasl_start(&s, SLICE("plain"), true, slice_of(message, sizeof message)), SASL_CREDENTIAL);
	ck_assert_uint_eq(sasl_password(&s).n, SASL_PASSWORD_BYTES_MAX);
	sasl_reset(&s);
	memset(message, 'x', sizeof message);
	message[0] = '\0';
	message[SASL_LOGIN_BYTES_MAX + 1] = '\0';
	ck_assert_int_eq(sasl_start(&s, SLICE("PLAIN"), true, slice_of(message, 400)), SASL_CREDENTIAL);
	sasl_reset(&s);
	message[SASL_LOGIN_BYTES_MAX + 1] = 'x';
	message[SASL_LOGIN_BYTES_MAX + 2] = '\0';
	ck_assert_int_eq(sasl_start(&s, SLICE("PLAIN"), true, slice_of(message, 400)), SASL_REFUSED);
}
END_TEST

START_TEST(test_login)
{
	static const struct {
		const char *name;
		bool initial;
		const char *user, *password;
		enum sasl_outcome want;
	} rows[] = {
	    {"asked for both", false, "alice", "secret", SASL_CREDENTIAL},
	    {"name with the command", true, "alice", "secret", SASL_CREDENTIAL},
	    {"empty password", false, "alice", "", SASL_REFUSED},
	    {"empty name", false, "", NULL, SASL_REFUSED},
	    {"no UTF-8", false, "\xff", NULL, SASL_REFUSED},
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct sasl s;
		enum sasl_outcome got;

		sasl_init(&s);
		got = sasl_start(&s, SLICE("Login"), rows[i].initial, slice_str(rows[i].initial ? rows[i].user : ""));
		if (!rows[i].initial) {
			ck_assert_int_eq(got, SASL_CHALLENGE);
			ck_assert(slice_eq(s.challenge, SLICE("Username:")));
			got = sasl_step(&s, slice_str(rows[i].user));
		}
		if (rows[i].password != NULL) {
			ck_assert_msg(got == SASL_CHALLENGE, "%s", rows[i].name);
			ck_assert(slice_eq(s.challenge, SLICE("Password:")));
			got = sasl_step(&s, slice_str(rows[i].password));
		}
		ck_assert_msg(got == rows[i].want, "%s: %d", rows[i].name, got);
		if (got == SASL_CREDENTIAL) {
			ck_assert(slice_eq(sasl_login(&s), slice_str(rows[i].user)));
			ck_assert(slice_eq(sasl_password(&s), slice_str(rows[i].password)));
		}
		sasl_reset(&s);
	}
}
END_TEST

START_TEST(test_order)
{
	struct sasl s;

	sasl_init(&s);
	ck_assert_int_eq(sasl_step(&s, SLICE("\0a\0b")), SASL_OUT_OF_ORDER);
	ck_assert_int_eq(sasl_start(&s, SLICE("CRAM-MD5"), false, SLICE("")), SASL_UNKNOWN);
	ck_assert_int_eq(sasl_start(&s, SLICE("PLAINX"), false, SLICE("")), SASL_UNKNOWN);
	ck_assert_int_eq(sasl_start(&s, SLICE(""), false, SLICE("")), SASL_UNKNOWN);
	ck_assert_int_eq(sasl_step(&s, SLICE("x")), SASL_OUT_OF_ORDER);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("sasl");
	TCase *t = tcase_create("sasl");
	SRunner *r;
	int failed;

	tcase_add_test(t, test_plain);
	tcase_add_test(t, test_plain_long);
	tcase_add_test(t, test_login);
	tcase_add_test(t, test_order);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? 0 : 1;
}
