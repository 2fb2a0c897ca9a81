/* The trace fields, octet by octet. */
#include "smtpd/received.h"

#include <check.h>

static struct slice one[] = {{(const uint8_t *)"alice@demo.test", 15}, {(const uint8_t *)"bob@demo.test", 13}};

static struct received_facts
sample(struct envelope *e)
{
	*e = (struct envelope){
	    .esmtp = true,
	    .client_ip = {[10] = 0xff, 0xff, 192, 0, 2, 1},
	    .helo = SLICE("mx.client.example"),
	    .rdns = SLICE("unknown"),
	    .mail_from = SLICE("a@client.example"),
	    .recipients = one,
	    .recipient_count = 1,
	};
	return (struct received_facts){
	    .envelope = e, .hostname = SLICE("mail.demo.test"), .queue_id = SLICE("0123456789abcdef"), .now = 0};
}

static void
check(const struct received_facts *f, const char *want)
{
	struct buf b;

	buf_init(&b, RECEIVED_BYTES_MAX);
	ck_assert(received_return_path(f, &b) && received_print(f, &b));
	ck_assert_msg(slice_eq(buf_slice(&b), slice_str(want)), "got:\n%.*s\nwant:\n%s", (int)b.n, (const char *)b.p, want);
	buf_fini(&b);
}

START_TEST(test_plain)
{
	struct envelope e;
	struct received_facts f = sample(&e);

	check(&f, "Return-Path: <a@client.example>\r\n"
		  "Received: from mx.client.example (unknown [192.0.2.1])\r\n"
		  "\tby mail.demo.test with ESMTP id 0123456789abcdef\r\n"
		  "\tfor <alice@demo.test>;\r\n"
		  "\tThu, 01 Jan 1970 00:00:00 +0000\r\n");
}
END_TEST

/* Nothing of where a user is. */
START_TEST(test_submission)
{
	struct envelope e;
	struct received_facts f = sample(&e);

	f.authenticated = true;
	e.tls = true;
	e.mail_from = SLICE("alice@demo.test");
	check(&f, "Return-Path: <alice@demo.test>\r\n"
		  "Received: from localhost\r\n"
		  "\tby mail.demo.test with ESMTPSA id 0123456789abcdef\r\n"
		  "\tfor <alice@demo.test>;\r\n"
		  "\tThu, 01 Jan 1970 00:00:00 +0000\r\n");
}
END_TEST

START_TEST(test_tls_several_null_sender)
{
	struct envelope e;
	struct received_facts f = sample(&e);

	e.tls = true;
	e.tls_text = SLICE("TLS1.3 TLS_AES_256_GCM_SHA384");
	e.mail_from = SLICE("");
	e.recipient_count = 2;
	memset(e.client_ip, 0, 16);
	e.client_ip[0] = 0x20;
	e.client_ip[1] = 0x01;
	e.client_ip[15] = 1;
	f.authres = SLICE("Authentication-Results: mail.demo.test; none\r\n");
	check(&f, "Return-Path: <>\r\n"
		  "Authentication-Results: mail.demo.test; none\r\n"
		  "Received: from mx.client.example (unknown [IPv6:2001::1])\r\n"
		  "\tby mail.demo.test with ESMTPS id 0123456789abcdef\r\n"
		  "\ttls TLS_AES_256_GCM_SHA384;\r\n"
		  "\tThu, 01 Jan 1970 00:00:00 +0000\r\n");
}
END_TEST

/* What a client called itself never gets further than its grammar allows. */
START_TEST(test_hostile_texts)
{
	struct envelope e;
	struct received_facts f = sample(&e);

	e.esmtp = false;
	e.helo = SLICE("x) by bank.example (y");
	e.rdns = SLICE("a\r\nX: y");
	e.tls = true;
	e.tls_text = SLICE("TLS1.3 a;b");
	e.recipient_count = 2;
	check(&f, "Return-Path: <a@client.example>\r\n"
		  "Received: from [192.0.2.1] ([192.0.2.1])\r\n"
		  "\tby mail.demo.test with ESMTPS id 0123456789abcdef;\r\n"
		  "\tThu, 01 Jan 1970 00:00:00 +0000\r\n");
}
END_TEST

/* Who comes through a Unix socket has no address, only what he calls himself. */
START_TEST(test_no_address)
{
	struct envelope e;
	struct received_facts f = sample(&e);

	e.lmtp = true;
	memset(e.client_ip, 0, sizeof(e.client_ip));
	check(&f, "Return-Path: <a@client.example>\r\n"
		  "Received: from mx.client.example\r\n"
		  "\tby mail.demo.test with LMTP id 0123456789abcdef\r\n"
		  "\tfor <alice@demo.test>;\r\n"
		  "\tThu, 01 Jan 1970 00:00:00 +0000\r\n");
	e.helo = SLICE("my_host) x");
	e.recipient_count = 2;
	check(&f, "Return-Path: <a@client.example>\r\n"
		  "Received: from localhost\r\n"
		  "\tby mail.demo.test with LMTP id 0123456789abcdef;\r\n"
		  "\tThu, 01 Jan 1970 00:00:00 +0000\r\n");
}
END_TEST

/* RFC 6710 4.1 */
START_TEST(test_priority)
{
	struct envelope e;
	struct received_facts f = sample(&e);
	struct buf b;

	buf_init(&b, RECEIVED_BYTES_MAX);
	ck_assert(received_print(&f, &b));
	ck_assert(slice_find(buf_slice(&b), SLICE("priority")) == b.n);
	e.priority = -9;
	buf_reset(&b);
	ck_assert(received_print(&f, &b));
	ck_assert(slice_find(buf_slice(&b), SLICE("\r\n\tpriority -9")) < b.n);
	buf_fini(&b);
}
END_TEST

START_TEST(test_protocols)
{
	static const struct {
		bool esmtp, lmtp, tls, authenticated;
		const char *want, *utf8;
	} rows[] = {
	    {false, false, false, false, " with SMTP id", " with UTF8SMTP id"},
	    {true, false, false, false, " with ESMTP id", " with UTF8SMTP id"},
	    {true, false, true, false, " with ESMTPS id", " with UTF8SMTPS id"},
	    {true, false, false, true, " with ESMTPA id", " with UTF8SMTPA id"},
	    {true, false, true, true, " with ESMTPSA id", " with UTF8SMTPSA id"},
	    {true, true, false, false, " with LMTP id", " with UTF8LMTP id"},
	    {true, true, true, false, " with LMTPS id", " with UTF8LMTPS id"},
	    {true, true, false, true, " with LMTPA id", " with UTF8LMTPA id"},
	    {true, true, true, true, " with LMTPSA id", " with UTF8LMTPSA id"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct envelope e;
		struct received_facts f = sample(&e);
		struct buf b;
		e.esmtp = rows[i].esmtp;
		e.lmtp = rows[i].lmtp;
		e.tls = rows[i].tls;
		f.authenticated = rows[i].authenticated;
		buf_init(&b, RECEIVED_BYTES_MAX);
		ck_assert(received_print(&f, &b));
		ck_assert_msg(slice_find(buf_slice(&b), slice_str(rows[i].want)) < b.n, "%s", rows[i].want);
		buf_reset(&b);
		e.smtputf8 = true;
		ck_assert(received_print(&f, &b));
		ck_assert_msg(slice_find(buf_slice(&b), slice_str(rows[i].utf8)) < b.n, "%s", rows[i].utf8);
		buf_fini(&b);
	}
}
END_TEST

START_TEST(test_complete)
{
	struct envelope e;
	struct received_facts f = sample(&e);
	struct buf b;

	buf_init(&b, 1024);
	ck_assert(received_complete(&f, true, true, &b));
	ck_assert(slice_eq(buf_slice(&b), SLICE("Date: Thu, 01 Jan 1970 00:00:00 +0000\r\n"
						"Message-ID: <0123456789abcdef@mail.demo.test>\r\n")));
	buf_reset(&b);
	ck_assert(received_complete(&f, false, true, &b));
	ck_assert(slice_starts(buf_slice(&b), SLICE("Message-ID:")));
	buf_fini(&b);
}
END_TEST

START_TEST(test_full)
{
	struct envelope e;
	struct received_facts f = sample(&e);
	struct buf b;

	buf_init(&b, 100);
	ck_assert(!received_print(&f, &b));
	buf_fini(&b);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("received");
	TCase *t = tcase_create("all");

	tcase_add_test(t, test_plain);
	tcase_add_test(t, test_submission);
	tcase_add_test(t, test_tls_several_null_sender);
	tcase_add_test(t, test_hostile_texts);
	tcase_add_test(t, test_no_address);
	tcase_add_test(t, test_priority);
	tcase_add_test(t, test_protocols);
	tcase_add_test(t, test_complete);
	tcase_add_test(t, test_full);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
