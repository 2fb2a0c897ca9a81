/* The envelope between fronts and deliver: what goes in comes out, and nothing else goes in. */
#include "smtpd/envelope.h"

#include <check.h>

static struct slice recipients[] = {
    {(const uint8_t *)"alice@demo.test", 15},
    {(const uint8_t *)"\"a b\"@demo.test", 15},
    {(const uint8_t *)"postmaster", 10},
};

static struct envelope_dsn dsn[] = {
    {.notify = SMTP_NOTIFY_SUCCESS | SMTP_NOTIFY_DELAY, .orcpt = {(const uint8_t *)"rfc822;a@b", 10}},
    {.notify = SMTP_NOTIFY_NEVER},
    {.notify = 0},
};

static struct envelope
sample(void)
{
	return (struct envelope){
	    .esmtp = true,
	    .tls = true,
	    .smtputf8 = true,
	    .received_us = UINT64_C(0x0102030405060708),
	    .client_ip = {0x20, 0x01, 0x0d, 0xb8, [15] = 1},
	    .client_port = 65535,
	    .helo = SLICE("[IPv6:2001:db8::1]"),
	    .rdns = SLICE("unknown"),
	    .client = SLICE("any \x01 octets"),
	    .tls_text = SLICE("TLS1.3 TLS_AES_256_GCM_SHA384"),
	    .mail_from = SLICE("j\xc3\xb6@client.example"),
	    .ret = SMTP_RET_HDRS,
	    .envid = SLICE("QQ314159"),
	    .release = 1800000000,
	    .hold_for = SMTP_HOLD_FOR_MAX,
	    .priority = SMTP_PRIORITY_MIN,
	    .recipients = recipients,
	    .dsn = dsn,
	    .recipient_count = 3,
	};
}

static bool
decodes(struct slice in)
{
	struct arena *a = arena_new(1 << 20);
	struct envelope e;
	bool good = envelope_decode(in, a, &e);

	arena_free(&a);
	return good;
}

START_TEST(test_round_trip)
{
	struct envelope in = sample();
	struct envelope out;
	struct arena *a = arena_new(65536);
	struct buf b, again;

	buf_init(&b, ENVELOPE_BYTES_MAX);
	buf_init(&again, ENVELOPE_BYTES_MAX);
	ck_assert(envelope_encode(&in, &b));
	ck_assert(envelope_decode(buf_slice(&b), a, &out));
	ck_assert(out.esmtp && out.tls && out.smtputf8 && !out.eightbit);
	ck_assert_uint_eq(out.client_port, 65535);
	ck_assert_uint_eq(out.recipient_count, 3);
	ck_assert(slice_eq(out.recipients[1], recipients[1]));
	ck_assert(out.release == in.release && out.hold_for == in.hold_for && out.priority == SMTP_PRIORITY_MIN);
	ck_assert(out.ret == SMTP_RET_HDRS && slice_eq(out.envid, in.envid) && slice_eq(out.dsn[0].orcpt, dsn[0].orcpt));
	ck_assert(out.dsn[0].notify == 5 && out.dsn[1].notify == SMTP_NOTIFY_NEVER && out.dsn[2].notify == 0);
	ck_assert(envelope_encode(&out, &again));
	ck_assert(slice_eq(buf_slice(&b), buf_slice(&again)));
	ck_assert(!out.lmtp && !out.requiretls);
	in.lmtp = in.requiretls = true;
	buf_reset(&b);
	ck_assert(envelope_encode(&in, &b) && envelope_decode(buf_slice(&b), a, &out) && out.lmtp && out.requiretls);
	buf_fini(&b);
	buf_fini(&again);
	arena_free(&a);
}
END_TEST

START_TEST(test_cut_and_left_over)
{
	struct envelope in = sample();
	struct buf b;

	buf_init(&b, ENVELOPE_BYTES_MAX);
	ck_assert(envelope_encode(&in, &b));
	for (size_t n = 0; n < b.n; n++)
		ck_assert_msg(!decodes(slice_of(b.p, n)), "%zu octets", n);
	ck_assert(decodes(buf_slice(&b)));
	buf_put_u8(&b, 0);
	ck_assert(!decodes(buf_slice(&b)));
	b.p[0] = ENVELOPE_VERSION + 1;
	ck_assert(!decodes(slice_of(b.p, b.n - 1)));
	b.p[0] = ENVELOPE_VERSION;
	b.p[1] = 0x80; /* a flag that does not exist */
	ck_assert(!decodes(slice_of(b.p, b.n - 1)));
	buf_fini(&b);
}
END_TEST

/* What encodes an envelope with one field changed: does it decode? */
static bool
passes(const struct envelope *e)
{
	struct buf b;
	bool encoded, good;

	buf_init(&b, 2 * ENVELOPE_BYTES_MAX);
	encoded = envelope_encode(e, &b);
	good = decodes(buf_slice(&b));
	ck_assert(encoded || !good); /* what is not written is not read either */
	buf_fini(&b);
	return good;
}

START_TEST(test_limits)
{
	static uint8_t text[ENVELOPE_TEXT_BYTES_MAX + 1];
	struct envelope e = sample();

	memset(text, 'a', sizeof(text));
	e.helo = slice_of(text, ENVELOPE_TEXT_BYTES_MAX);
	ck_assert(passes(&e));
	e.helo = slice_of(text, ENVELOPE_TEXT_BYTES_MAX + 1);
	ck_assert(!passes(&e));
	e = sample();
	e.mail_from = slice_of(text, ENVELOPE_ADDRESS_BYTES_MAX);
	ck_assert(passes(&e));
	e.mail_from = slice_of(text, ENVELOPE_ADDRESS_BYTES_MAX + 1);
	ck_assert(!passes(&e));
	e = sample();
	e.recipient_count = 0;
	ck_assert(!passes(&e));
	e = sample();
	e.mail_from = SLICE("");
	ck_assert(passes(&e)); /* the null reverse-path */
}
END_TEST

START_TEST(test_control_characters)
{
	static const char *const bad[] = {"a\r\nb", "a\nb", "a\tb", "a\177b", "\x01"};
	struct envelope e;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		e = sample();
		e.helo = slice_str(bad[i]);
		ck_assert_msg(!passes(&e), "helo %zu", i);
		e = sample();
		e.mail_from = slice_str(bad[i]);
		ck_assert_msg(!passes(&e), "mail_from %zu", i);
		struct slice to[] = {slice_str(bad[i])};
		e = sample();
		e.dsn = NULL;
		e.recipients = to;
		e.recipient_count = 1;
		ck_assert_msg(!passes(&e), "recipient %zu", i);
	}
	e = sample();
	struct slice none[] = {SLICE("")};
	e.dsn = NULL;
	e.recipients = none;
	e.recipient_count = 1;
	ck_assert(!passes(&e));
}
END_TEST

START_TEST(test_lying_count)
{
	struct envelope e = sample();
	struct buf b;

	buf_init(&b, ENVELOPE_BYTES_MAX);
	e.recipient_count = 1;
	e.dsn = NULL;
	ck_assert(envelope_encode(&e, &b));
	/* The count stands right before the one recipient. */
	size_t at = b.n - 4 - recipients[0].n - 1 - 4 - 4;
	b.p[at] = 0xff;
	b.p[at + 1] = 0xff;
	ck_assert(!decodes(buf_slice(&b)));
	buf_fini(&b);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("envelope");
	TCase *t = tcase_create("all");

	tcase_add_test(t, test_round_trip);
	tcase_add_test(t, test_cut_and_left_over);
	tcase_add_test(t, test_limits);
	tcase_add_test(t, test_control_characters);
	tcase_add_test(t, test_lying_count);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
