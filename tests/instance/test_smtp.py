"""SMTP as clients and other servers speak it: reception, submission, limits, the queue."""

import base64
import json
import os
import poplib
import re
import signal
import smtplib
import socket
import time
import unittest

import harness

poplib._MAXLINE = 1 << 20  # what a test sends in one line may be long

MESSAGE = b"From: a@client.example\r\nSubject: x\r\n\r\nbody\r\n"
OWN = b"From: alice@demo.test\r\nTo: bob@demo.test\r\nDate: Thu, 01 Jan 2026 00:00:00 +0000\r\nMessage-ID: <1@demo.test>\r\n\r\nbody\r\n"


class SmtpTest(harness.InstanceTest):
    def session(self, service="smtp", ehlo=b"EHLO client.example"):
        w = self.server.raw(service)
        self.assertRegex(w.reply(), rb"^220 mail\.demo\.test ESMTP")
        if ehlo:
            w.send(ehlo + b"\r\n")
            self.assertRegex(w.reply(), rb"^250")
        self.addCleanup(w.close)
        return w

    def say(self, w, line, pattern):
        w.send(line + b"\r\n")
        answer = w.reply()
        self.assertRegex(answer, rb"^" + pattern, line)
        return answer

    def messages(self, user="alice"):
        """All messages in the INBOX of user, oldest first; they are removed."""
        p = self.server.pop3(user)
        found = [b"\r\n".join(p.retr(n + 1)[1]) + b"\r\n" for n in range(p.stat()[0])]
        for n in range(len(found)):
            p.dele(n + 1)
        p.quit()
        return found


class TestReception(SmtpTest):
    settings = {"smtp.message_bytes": "3M"}

    def tearDown(self):
        self.messages()
        self.messages("bob")

    def test_trace_fields(self):
        w = self.session()
        self.say(w, b"MAIL FROM:<>", rb"250 2\.1\.0")
        self.say(w, b"RCPT TO:<alice@demo.test>", rb"250 2\.1\.5")
        self.say(w, b"DATA", rb"354 ")
        answer = self.say(w, MESSAGE + b".", rb"250 2\.0\.0 ")
        queue_id = answer.split()[-1]
        head, _, rest = self.messages()[0].partition(b"Received: ")
        self.assertTrue(head.startswith(b"Return-Path: <>\r\n"), head)
        self.assertRegex(head, rb"Authentication-Results: mail\.demo\.test")
        self.assertRegex(rest, rb"^from client\.example \(localhost \[127\.0\.0\.1\]\)\r\n\tby mail\.demo\.test with ESMTP id " +
                         queue_id + rb"\r\n\tfor <alice@demo\.test>;\r\n\t\w\w\w, \d\d \w+ \d+ [\d:]+ \+0000\r\n")
        self.assertTrue(rest.endswith(MESSAGE))

    def test_protocol_names(self):
        """RFC 3848: with SMTP, ESMTP, ESMTPS; the tls clause of RFC 8314."""
        w = self.session(ehlo=b"HELO client.example")
        for line, pattern in ((b"MAIL FROM:<a@client.example>", b"250"), (b"RCPT TO:<alice@demo.test>", b"250"), (b"DATA", b"354"),
                              (MESSAGE + b".", b"250")):
            self.say(w, line, pattern)
        self.assertRegex(self.messages()[0], rb"by mail\.demo\.test with SMTP id")
        with self.server.smtp() as s:
            s.starttls(context=harness.client_tls())
            s.sendmail("a@client.example", ["alice@demo.test", "bob@demo.test"], MESSAGE)
        stored = self.messages()[0]
        self.assertRegex(stored, rb"with ESMTPS id \w+\r\n\ttls TLS_\w+;")
        self.assertNotIn(b"for <", stored)  # several recipients are not told of each other

    def test_pipelining(self):
        """RFC 2920 3.1: one group, one reply each, in order."""
        w = self.session()
        w.send(b"MAIL FROM:<a@client.example>\r\nRCPT TO:<alice@demo.test>\r\nRCPT TO:<nobody@demo.test>\r\n"
               b"RCPT TO:<x@elsewhere.example>\r\nRCPT TO:<bob@demo.test>\r\nDATA\r\n")
        got = [w.reply()[:9] for _ in range(6)]
        self.assertEqual([g[:3] for g in got], [b"250", b"250", b"550", b"550", b"250", b"354"])
        w.send(MESSAGE + b".\r\nMAIL FROM:<b@client.example>\r\nQUIT\r\n")
        self.assertEqual([w.reply()[:3] for _ in range(3)], [b"250", b"250", b"221"])
        self.assertEqual(len(self.messages()), 1)
        self.assertEqual(len(self.messages("bob")), 1)

    def from_address(self, address):
        s = socket.create_connection(("127.0.0.1", self.server.ports["smtp"]), 20, source_address=(address, 0))
        self.addCleanup(s.close)
        return harness.Wire(s)

    def test_early_talker(self):
        w, line = harness.talk_early(lambda: self.from_address("127.77.0.1"), b"EHLO client.example\r\n")
        self.assertRegex(line, rb"^554 5\.5\.1 ")
        self.assertTrue(w.at_end(6))

    def test_known_client_is_greeted_at_once(self):
        """Who has begun a message lately has shown that he waits for the greeting."""
        def least_ms(address):
            took = []
            for _ in range(20):
                began = time.monotonic()
                self.from_address(address).reply()
                took.append((time.monotonic() - began) * 1000)
            return min(took)
        self.assertGreaterEqual(least_ms("127.77.1.1"), 10)
        w = self.from_address("127.77.1.1")
        w.reply()
        self.say(w, b"EHLO client.example", b"250")
        self.say(w, b"MAIL FROM:<a@client.example>", b"250")
        self.assertLess(least_ms("127.77.1.1"), 10)

    def test_input_behind_refused_data(self):
        """Message text sent without waiting for 354 is never executed."""
        w = self.session()
        self.say(w, b"MAIL FROM:<a@client.example>", b"250")
        w.send(b"DATA\r\nRSET\r\nMAIL FROM:<evil@client.example>\r\n")
        self.assertRegex(w.reply(), rb"^554 5\.5\.1")
        self.assertTrue(w.at_end(6))
        w = self.session("submission")
        w.send(b"DATA\r\nRSET\r\nQUIT\r\n")
        self.assertRegex(w.reply(), rb"^503 5\.5\.1")
        self.assertRegex(w.reply(), rb"^421 ")
        self.assertTrue(w.at_end(6))

    def test_early_commands(self):
        """Port 25: what ends a group (RFC 2920 3.1) is waited for, and a client that said HELO waits for every reply."""
        text = b"Subject: early\r\n\r\nx\r\n.\r\n"
        hello, mail, rcpt = b"EHLO client.example\r\n", b"MAIL FROM:<early@client.example>\r\n", b"RCPT TO:<alice@demo.test>\r\n"
        for before, octets, replies in ((b"", hello + mail, 0), (b"", b"HELO client.example\r\n" + mail, 0), (hello, mail + hello + mail, 1),
                                        (hello, mail + rcpt + b"DATA\r\n" + text, 2), (hello, b"NOOP\r\n" + mail, 0),
                                        (hello, b"VRFY alice\r\nRSET\r\n", 0), (b"HELO client.example\r\n", mail + rcpt, 0),
                                        (b"HELO client.example\r\n", b"NONSENSE\r\nRSET\r\n", 0)):
            w = self.session(ehlo=None)
            if before:
                self.say(w, before[:-2], b"250")
            w.send(octets)
            for _ in range(replies):
                self.assertRegex(w.reply(), rb"^250 ", octets)
            self.assertRegex(w.reply(), rb"^554 5\.5\.1 More came before", octets)
            self.assertTrue(w.at_end(6), octets)
        self.assertEqual(self.messages(), [])
        # What may come with others, and its own octets behind BDAT.
        w = self.session()
        w.send(b"RSET\r\n" + mail + rcpt + b"BDAT 26 LAST\r\nFrom: a@client.example\r\n\r\nRSET\r\nQUIT\r\n")
        self.assertEqual([w.reply()[:3] for _ in range(6)], [b"250"] * 5 + [b"221"])
        self.assertEqual(len(self.messages()), 1)
        # Submission ends no session for it.
        w = self.session("submission", ehlo=None)
        w.send(hello + b"NOOP\r\nQUIT\r\n")
        self.assertEqual([w.reply()[:3] for _ in range(3)], [b"250", b"250", b"221"])

    def test_order(self):
        w = self.session(ehlo=None)
        self.say(w, b"MAIL FROM:<a@client.example>", rb"503 5\.5\.1")
        self.say(w, b"EHLO client_example", rb"501 5\.5\.4")
        self.say(w, b"EHLO", rb"501 5\.5\.4")
        self.say(w, b"EHLO [127.0.0.1]", rb"250")
        self.say(w, b"RCPT TO:<alice@demo.test>", rb"503 5\.5\.1")
        self.say(w, b"MAIL FROM:<a@client.example>", b"250")
        self.say(w, b"DATA", rb"554 5\.5\.1")
        self.say(w, b"RCPT TO:<alice@demo.test>", b"250")
        self.say(w, b"EHLO client.example", b"250")  # like RSET
        self.say(w, b"DATA", rb"503 5\.5\.1")
        self.say(w, b"STARTTLS now", rb"501 5\.5\.4")
        for verb in (b"EXPN list", b"ETRN x", b"TURN", b"SOML FROM:<a@b>"):
            self.say(w, verb, rb"502 5\.5\.1")
        self.say(w, b"AUTH PLAIN", rb"502 5\.5\.1")
        self.say(w, b"HELP", rb"214 2\.0\.0")
        self.say(w, b"NOOP anything at all", rb"250 2\.0\.0")
        self.say(w, b"QUIT  ", rb"221 2\.0\.0")  # trailing space is tolerated (RFC 5321 4.1.1)

    def test_mixed(self):
        """HELO takes back what EHLO offered; a transaction that is left, by whatever, leaves nothing (RFC 5321 4.1.4)."""
        w = self.session()
        self.say(w, b"HELO client.example", b"250 mail")
        self.say(w, b"MAIL FROM:<a@client.example> BODY=8BITMIME", rb"555 5\.5\.4")
        w.send(b"BDAT 5 LAST\r\nabcde")
        self.assertRegex(w.reply(), rb"^503 5\.5\.1 ")
        self.say(w, b"EHLO client.example", b"250")
        self.say(w, b"MAIL FROM:<a@client.example>", b"250")
        self.say(w, b"STARTTLS", rb"503 5\.5\.1")
        self.say(w, b"RCPT TO:<alice@demo.test>", b"250")
        self.say(w, b"STARTTLS", rb"503 5\.5\.1")
        self.say(w, b"MAIL FROM:<b@client.example>", rb"503 5\.5\.1")
        self.say(w, b"QUIT", b"221")
        self.assertTrue(w.at_end(6))
        self.assertEqual(self.messages(), [])

    def test_addresses(self):
        w = self.session()
        for path in (b"a@client.example", b"<a@client_x.example>", b"<a b@client.example>", b" <a@client.example>", b"<a@>"):
            self.say(w, b"MAIL FROM:" + path, rb"501 5\.1\.7")
        self.say(w, b"MAIL FROM:<\xc3\xb6@client.example>", rb"550 5\.6\.7")
        self.say(w, b"MAIL FROM:<a@client.example> SMTPUTF8=yes", rb"501 5\.5\.4")
        self.say(w, b"MAIL FROM:<a@client.example> AUTH=<>", rb"555 5\.5\.4")
        self.say(w, b"MAIL FROM:<a@client.example> SIZE=1 SIZE=1", rb"501 5\.5\.4")
        self.say(w, b"MAIL FROM:<@relay.example:a@client.example> BODY=8BITMIME", b"250")
        for path in (b"<" + b"a" * 65 + b"@demo.test>", b"<>", b"<alice>", b"<alice@demo.test>x"):
            self.say(w, b"RCPT TO:" + path, rb"501 5\.1\.3")
        self.say(w, b"RCPT TO:<" + b"a" * 64 + b"@demo.test>", rb"550 5\.1\.1")
        self.say(w, b"RCPT TO:<\"alice\"@DEMO.test>", rb"250")
        self.say(w, b"RCPT TO:<\"\"@demo.test>", rb"550 5\.1\.1")
        self.say(w, b"RCPT TO:<Postmaster>", rb"250")
        self.say(w, b"RCPT TO:<alice@demo.test> NOTIFY=NEVER", rb"555 5\.5\.4")

    def test_line_limits(self):
        w = self.session()
        self.say(w, b"NOOP " + b"x" * 505, b"250")       # 512 octets with CRLF
        self.say(w, b"NOOP " + b"x" * 4089, b"250")      # 4096
        self.say(w, b"NOOP " + b"x" * 4090, rb"500 5\.5\.2")
        self.say(w, b"NOOP " + b"x" * 100000, rb"500 5\.5\.2")
        self.say(w, b"NOOP", b"250")
        with self.server.raw("smtp") as flood:
            flood.reply()
            try:
                for _ in range(40):
                    flood.send(b"x" * 65536)
            except OSError:
                pass
            self.assertTrue(flood.at_end(6))

    def test_too_many_errors(self):
        w = self.session()
        for _ in range(19):
            self.say(w, b"FOO", rb"500 5\.5\.1")
        w.send(b"FOO\r\nNOOP\r\n")
        self.assertRegex(w.reply(), b"^500")
        self.assertRegex(w.reply(), rb"^421 4\.7\.0")
        self.assertTrue(w.at_end(6))

    def test_bare_line_ends_in_commands(self):
        for line in (b"NOOP\nNOOP\r\n", b"NO\rOP\r\n", b"NOOP\0\r\n"):
            w = self.session()
            w.send(line)
            self.assertRegex(w.reply(), rb"^521 5\.5\.2", line)
            self.assertTrue(w.at_end(6), line)

    def test_http_is_cut_off(self):
        w = self.session(ehlo=None)
        w.send(b"POST / HTTP/1.1\r\nHost: x\r\n\r\nMAIL FROM:<a@b.example>\r\n")
        self.assertRegex(w.reply(), rb"^521 ")
        self.assertTrue(w.at_end(6))

    def test_sizes(self):
        limit = 3 << 20
        w = self.session()
        self.say(w, b"MAIL FROM:<a@client.example> SIZE=%d" % (limit + 1), rb"552 5\.3\.4")
        self.say(w, b"MAIL FROM:<a@client.example> SIZE=%d" % limit, b"250")
        self.say(w, b"RSET", b"250")
        head = b"From: a@client.example\r\n\r\n"
        line = b"y" * 510 + b"\r\n"
        # Below and above the memory file's limit, right at the message's limit, and over it; one connection for all.
        for size, code in ((1 << 20, b"250"), ((1 << 20) + 1, b"250"), (2500000, b"250"), (limit, b"250"), (limit + 1, b"552 5.3.4"),
                           (limit * 2, b"552 5.3.4")):
            body = head + line * ((size - len(head)) // 512)
            body += b"z" * (size - len(body) - 2) + b"\r\n"
            self.assertEqual(len(body), size)
            self.say(w, b"MAIL FROM:<a@client.example>", b"250")
            self.say(w, b"RCPT TO:<alice@demo.test>", b"250")
            self.say(w, b"DATA", b"354")
            self.say(w, body + b".", re.escape(code))
            if code == b"250":
                self.assertTrue(self.messages()[0].endswith(body), size)
        self.assertEqual(self.messages(), [])

    def test_dots_and_long_lines(self):
        body = MESSAGE + b".\r\n..\r\n" + b"." * 70 + b"\r\n" + b"w" * 5000 + b"\r\n\xff\xfe 8 bit\r\n"
        self.assertEqual(self.server.deliver(body)[0], 250)
        self.assertTrue(self.messages()[0].endswith(body))

    def test_hops(self):
        """R-10: 100 hops are a loop, fewer are not (RFC 5321 6.3)."""
        hop = b"Received: from a.example by b.example; Thu, 01 Jan 2026 00:00:00 +0000\r\n"
        self.assertEqual(self.server.deliver(hop * 99 + MESSAGE)[0], 250)
        code, text = self.server.deliver(hop * 100 + MESSAGE)
        self.assertEqual((code, text[:5]), (554, "5.4.6"))

    def test_aliases(self):
        """One message for two names of one account; an alias to two accounts."""
        self.server.run("alias", "add", "both@demo.test", "alice@demo.test", "bob@demo.test")
        with self.server.smtp() as s:
            self.assertEqual(s.sendmail("a@client.example", ["both@demo.test", "alice@demo.test", "alice+x@demo.test"], MESSAGE), {})
        self.assertEqual(len(self.messages()), 1)
        self.assertEqual(len(self.messages("bob")), 1)


class TestChunking(SmtpTest):
    """RFC 3030."""

    HEAD = b"From: a@client.example\r\nSubject: chunks\r\nMIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\n"
    BINARY = HEAD + b"Content-Transfer-Encoding: binary\r\n\r\n" + bytes(range(256)) * 3 + b"\r\n.\r\n\n.\nno line end"

    def tearDown(self):
        self.messages()

    def begin(self, body=b"", service="smtp"):
        w = self.session(service)
        self.say(w, b"MAIL FROM:<a@client.example>" + body, b"250")
        self.say(w, b"RCPT TO:<alice@demo.test>", b"250")
        return w

    def fetched(self):
        """The one message in INBOX, octet for octet."""
        with self.server.imap() as c:
            c.select("INBOX")
            return c.fetch("1", "BODYSTRUCTURE")[1][0], c.fetch("1", "BODY.PEEK[]")[1][0][1]

    def test_offered(self):
        w = self.session(ehlo=None)
        w.send(b"EHLO client.example\r\n")
        offer = w.reply().split(b"\r\n")
        self.assertIn(b"250-CHUNKING", offer)
        self.assertIn(b"250-BINARYMIME", offer)

    def test_example(self):
        """4.1, with a size that is right, pipelined, and its octets one at a time."""
        text = b"To: alice@demo.test\r\nFrom: a@client.example\r\nSubject: This is a bodyless test message\r\n"
        for slowly in (False, True):
            w = self.session()
            (w.send_slowly if slowly else w.send)(
                b"MAIL FROM:<a@client.example>\r\nRCPT TO:<alice@demo.test>\r\nBDAT %d LAST\r\n" % len(text) + text + b"QUIT\r\n")
            for pattern in (rb"250 2\.1\.0", rb"250 2\.1\.5", rb"250 2\.0\.0 Taken", rb"221"):
                self.assertRegex(w.reply(), pattern)
            self.assertTrue(self.messages()[0].endswith(text))

    def test_binary(self):
        """Every octet is kept; IMAP gives them all but NUL, which a literal cannot carry, under their true size."""
        w = self.begin(b" BODY=BINARYMIME")
        for at in range(0, len(self.BINARY), 100):
            chunk = self.BINARY[at:at + 100]
            w.send(b"BDAT %d\r\n" % len(chunk) + chunk)
            self.assertRegex(w.reply(), rb"^250 2\.0\.0 \d+ octets")
        self.say(w, b"BDAT 0 LAST", rb"250 2\.0\.0 Taken")
        structure, stored = self.fetched()
        self.assertTrue(stored.endswith(self.BINARY.replace(b"\0", b"\x80")), stored)
        self.assertIn(b'"binary"', structure.lower())
        self.assertTrue(self.object_of(self.BINARY), "no object has the octets")
        # POP3 is lines: only what makes them so is added.
        got = b"\n".join(self.messages()[0].split(b"\r\n"))
        self.assertIn(b"no line end", got)

    def object_of(self, octets):
        for directory, _, names in os.walk(self.server.demo):
            for name in names:
                try:
                    with open(os.path.join(directory, name), "rb") as f:
                        if f.read().endswith(octets):
                            return name
                except OSError:
                    continue
        return None

    def test_declared_by_its_field_alone(self):
        """3: a message that only its Content-Transfer-Encoding calls binary is accepted."""
        w = self.begin()
        w.send(b"BDAT %d LAST\r\n" % len(self.BINARY) + self.BINARY)
        self.assertRegex(w.reply(), rb"^250 2\.0\.0")
        self.assertEqual(len(self.messages()), 1)

    def test_stray_octets(self):
        """Text has no CR or LF alone and no NUL, in chunks as little as in DATA; the session goes on."""
        w = self.session()
        for body, octets in ((b"", b"x\ny\r\n"), (b" BODY=8BITMIME", b"x\ry\r\n"), (b"", b"x\0y\r\n"), (b"", b"x\r\n.\n"), (b"", b"x\r")):
            message = MESSAGE + octets
            self.say(w, b"MAIL FROM:<a@client.example>" + body, b"250")
            self.say(w, b"RCPT TO:<alice@demo.test>", b"250")
            w.send(b"BDAT %d LAST\r\n" % len(message) + message)
            self.assertRegex(w.reply(), rb"^550 5\.6\.0", octets)
        for head in (b"Subject: x\ny\r\n", b"Subject: x\ry\r\n", b"Subject: x\0\r\n"):
            message = head + self.BINARY
            self.say(w, b"MAIL FROM:<a@client.example> BODY=BINARYMIME", b"250")
            self.say(w, b"RCPT TO:<alice@demo.test>", b"250")
            w.send(b"BDAT %d LAST\r\n" % len(message) + message)
            self.assertRegex(w.reply(), rb"^550 5\.6\.0", head)
        self.assertEqual(self.messages(), [])

    def test_no_mixing(self):
        """2: between two BDATs of a message there is no DATA, MAIL or RCPT; RSET drops what came."""
        w = self.begin()
        w.send(b"BDAT 3\r\nabc")
        self.assertRegex(w.reply(), b"^250")
        for line in (b"DATA", b"MAIL FROM:<b@client.example>", b"RCPT TO:<bob@demo.test>", b"STARTTLS"):
            self.say(w, line, rb"503 5\.5\.1")
        self.say(w, b"RSET", b"250")
        self.say(w, b"BDAT 0 LAST", rb"503 5\.5\.1")
        self.say(w, b"MAIL FROM:<a@client.example>", b"250")
        self.say(w, b"RCPT TO:<alice@demo.test>", b"250")
        w.send(b"BDAT %d\r\n" % len(MESSAGE) + MESSAGE + b"BDAT 0 LAST\r\n")
        self.assertRegex(w.reply(), b"^250 2.0.0 ")
        self.assertRegex(w.reply(), b"^250 2.0.0 Taken")
        self.assertTrue(self.messages()[0].endswith(b"\r\n" + MESSAGE))

    def test_end_of_data_is_no_end(self):
        """What ends DATA, or would for a sloppy server, ends no chunk; what is behind it is part of the message."""
        bait = b"MAIL FROM:<evil@client.example>\r\nRCPT TO:<bob@demo.test>\r\nBDAT 3 LAST\r\nevil"
        for end in (b"\r\n.\r\n", b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r\n\0.\r\n", b"\r\n.\r"):
            for slowly in (False, True):
                message = self.BINARY + end + bait
                w = self.begin(b" BODY=BINARYMIME")
                cut = len(self.BINARY) + 1 + len(end) // 2  # the sequence lies across two chunks
                (w.send_slowly if slowly else w.send)(b"BDAT %d\r\n" % cut + message[:cut] + b"BDAT %d LAST\r\n" % (len(message) - cut) +
                                                      message[cut:] + b"QUIT\r\n")
                self.assertRegex(w.reply(), rb"^250 2\.0\.0 \d+ octets", end)
                self.assertRegex(w.reply(), rb"^250 2\.0\.0 Taken", end)
                self.assertRegex(w.reply(), rb"^221", end)
                self.assertTrue(w.at_end(6))
        self.assertEqual(self.messages("bob"), [])

    def test_submission(self):
        w = self.server.raw("submissions", tls=True)
        w.reply()
        self.say(w, b"EHLO client.example", b"250")
        w.send(b"BDAT 6\r\nQUIT\r\n")
        self.assertRegex(w.reply(), rb"^503")
        self.say(w, b"AUTH PLAIN " + base64.b64encode(("\0alice@demo.test\0" + self.server.password("alice")).encode()), b"235")
        self.say(w, b"MAIL FROM:<alice@demo.test>", b"250")
        self.say(w, b"RCPT TO:<bob@demo.test>", b"250")
        w.send(b"BDAT %d LAST\r\n" % len(OWN) + OWN)
        self.assertRegex(w.reply(), rb"^250 2\.0\.0")
        self.assertTrue(self.messages("bob")[0].endswith(OWN))


class TestInternationalized(SmtpTest):
    """RFC 6531, from the wire to both mailbox protocols."""

    zones = {"xn--bcher-kva.test": '@ IN TXT "v=spf1 ip4:127.0.0.1 -all"\n_dmarc IN TXT "v=DMARC1; p=reject"'}
    TEXT = "From: Jörg <jörg@bücher.test>\r\nTo: ädmin@demo.test\r\nSubject: Grüße – 你好\r\n\r\nKörper\r\n".encode()

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server.run("domain", "add", "bücher.example")
        for address in ("ädmin@demo.test", "müller@bücher.example"):
            cls.server.run("account", "add", address, "--password-stdin", stdin="a good password\n")
            cls.server.passwords[address] = "a good password"

    def read(self, login):
        """The one message of an account, by POP3 and by IMAP; it is removed."""
        plain = base64.b64encode(("\0" + login + "\0a good password").encode())
        w = self.server.raw("pop3s", tls=True)
        self.addCleanup(w.close)
        w.line()
        w.send(b"UTF8\r\nAUTH PLAIN " + plain + b"\r\nRETR 1\r\n")
        self.assertRegex(w.line(), rb"^\+OK")
        self.assertRegex(w.line(), rb"^\+OK")
        self.assertRegex(w.line(), rb"^\+OK")
        popped = b""
        while not popped.endswith(b"\r\n.\r\n"):
            popped += w.line()
        c = self.server.raw("imaps", tls=True)
        self.addCleanup(c.close)
        c.line()
        self.assertRegex(c.command(b"a", b"AUTHENTICATE PLAIN " + plain)[-1], rb"^a OK")
        c.command(b"e", b"ENABLE UTF8=ACCEPT")
        c.command(b"b", b"SELECT INBOX")
        fetched = b"".join(c.command(b"c", b"FETCH 1 (ENVELOPE BODY.PEEK[])"))
        w.send(b"DELE 1\r\nQUIT\r\n")
        self.assertRegex(w.line() + w.line(), rb"^\+OK.*\r\n\+OK")
        return popped[:-3], fetched

    def test_end_to_end(self):
        """Both accounts, found whatever the form of the address; without the parameter nothing of it is taken."""
        with self.server.smtp() as s:
            s.ehlo()
            self.assertTrue(s.has_extn("smtputf8"))
            s.starttls(context=harness.client_tls())
            s.ehlo()
            for rcpt, login in (("ädmin@demo.test", "ädmin@demo.test"), ("a\u0308dmin@DEMO.test", "ädmin@demo.test"),
                                ("müller@bücher.example", "müller@bücher.example"), ("müller@xn--bcher-kva.example", "müller@bücher.example"),
                                ("mu\u0308ller+x@BÜCHER.example", "müller@bücher.example")):
                s.command_encoding = "utf-8"
                self.assertEqual(s.docmd("MAIL FROM:<jörg@bücher.test> SMTPUTF8 BODY=8BITMIME")[0], 250)
                self.assertEqual(s.docmd("RCPT TO:<%s>" % rcpt)[0], 250, rcpt)
                code, text = s.data(self.TEXT)
                self.assertEqual(code, 250, text)
                popped, fetched = self.read(login)
                self.assertIn(popped, fetched)  # the same octets
                self.assertTrue(popped.endswith(self.TEXT), popped)
                self.assertRegex(popped, "^Return-Path: <jörg@bücher.test>\r\n".encode())
                self.assertRegex(popped, rb"by mail\.demo\.test with UTF8SMTPS id \w+\r\n\tfor <" + re.escape(rcpt.split("@")[0].encode()))
                self.assertRegex(popped, 'spf=pass[^;]*smtp.mailfrom=xn--bcher-kva.test;'.encode())
                self.assertRegex(popped, rb"dmarc=pass")
                # Raw UTF-8 stands in literals alone, where RFC 3501 lets octets over 127 be.
                self.assertRegex(fetched, rb"ENVELOPE \(.*\{%d\}\r\n" % len("Grüße – 你好".encode()))

    def test_refusals(self):
        w = self.session()
        self.say(w, "MAIL FROM:<jörg@bücher.test>".encode(), rb"550 5\.6\.7")
        self.say(w, b"MAIL FROM:<a@client.example>", b"250")
        self.say(w, "RCPT TO:<ädmin@demo.test>".encode(), rb"553 5\.6\.7")
        self.say(w, b"RSET", b"250")
        self.say(w, b"MAIL FROM:<a@client.example> SMTPUTF8", b"250")
        self.say(w, "RCPT TO:<nöbody@demo.test>".encode(), rb"550 5\.1\.1")
        self.say(w, "RCPT TO:<x@fremd.exämple>".encode(), rb"550 5\.7\.1")
        self.say(w, b"RCPT TO:<\xc3@demo.test>", rb"501 5\.1\.3")
        self.say(w, b"RCPT TO:<alice@demo.test>", b"250")  # who is not internationalised can read it as well
        self.say(w, b"DATA", b"354")
        self.say(w, self.TEXT.replace("bücher.test".encode(), b"client.example") + b".", b"250")
        self.assertRegex(self.messages()[0], rb"with UTF8SMTP id")

    def test_submission(self):
        login = base64.b64encode("\0müller@bücher.example\0a good password".encode())
        w = self.server.raw("submissions", tls=True)
        self.addCleanup(w.close)
        w.reply()
        self.say(w, b"EHLO client.example", b"250")
        self.say(w, b"AUTH PLAIN " + login, b"235")
        self.say(w, "MAIL FROM:<müller@bücher.example> SMTPUTF8".encode(), b"250")
        self.say(w, "RCPT TO:<ädmin@demo.test>".encode(), b"250")
        self.say(w, b"DATA", b"354")
        self.say(w, "From: Müller <müller@bücher.example>\r\nSubject: ö\r\n\r\nx\r\n.".encode(), b"250")
        self.assertRegex(self.read("ädmin@demo.test")[0], rb"with UTF8SMTPSA id")


class TestProxy(SmtpTest):
    """Behind a proxy the client is who the PROXY header says."""

    settings = {"smtp.proxy_from": "192.0.2.250 127.0.0.0/8", "smtp.connections_per_address": "3", "smtp.message_bytes": "1M"}
    zones = {"seven.test": '@ IN TXT "v=spf1 ip4:192.0.2.7 -all"', "nine.test": '@ IN TXT "v=spf1 ip6:2001:db8::9 -all"'}
    TEXT = b"PROXY TCP4 192.0.2.7 192.0.2.250 40000 25\r\n"
    BINARY = (b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x27" + socket.inet_pton(socket.AF_INET6, "2001:db8::9") +
              socket.inet_pton(socket.AF_INET6, "2001:db8::1") + b"\x9c\x41\0\x19" + b"\4\0\0")

    def open(self, header, service="smtp", slowly=False):
        w = self.server.raw(service)
        self.addCleanup(w.close)
        (w.send_slowly if slowly else w.send)(header)
        return w

    def test_address(self):
        for header, shown, sender in ((self.TEXT, rb"\[192\.0\.2\.7\]", b"a@seven.test"), (self.BINARY, rb"\[IPv6:2001:db8::9\]", b"a@nine.test")):
            for slowly in (False, True):
                w = self.open(header, slowly=slowly)
                self.assertRegex(w.reply(), rb"^220 ")
                self.say(w, b"EHLO client.example", b"250")
                self.say(w, b"MAIL FROM:<" + sender + b">", b"250")
                self.say(w, b"RCPT TO:<alice@demo.test>", b"250")
                self.say(w, b"DATA", b"354")
                answer = self.say(w, MESSAGE + b".", b"250")
                self.say(w, b"QUIT", b"221")
                stored = self.messages()[0]
                self.assertRegex(stored, rb"Received: from client\.example \(unknown " + shown)
                self.assertRegex(stored, rb"spf=pass")
                told = self.server.run("explain", answer.split()[-1].decode()).stdout
                self.assertIn("192.0.2.7" if header == self.TEXT else "2001:db8::9", told)

    def test_tls_right_behind_it(self):
        w = self.open(self.TEXT, "submissions")
        w.starttls()
        self.assertRegex(w.reply(), rb"^220 ")
        self.say(w, b"EHLO client.example", b"250")

    def test_own_address(self):
        for header in (b"PROXY UNKNOWN\r\n", b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"):
            w = self.open(header)
            self.assertRegex(w.reply(), rb"^220 ")
            self.say(w, b"QUIT", b"221")

    def test_limits_go_by_the_client(self):
        """Three of one address at once, and others beside them, all through one proxy."""
        held = [self.open(self.TEXT) for _ in range(3)]
        for w in held:
            self.assertRegex(w.reply(), rb"^220 ")
        self.assertRegex(self.open(self.TEXT).reply(), rb"^421 4\.7\.0")
        self.assertRegex(self.open(self.BINARY).reply(), rb"^220 ")
        held[0].close()
        harness.wait_for(lambda: self.open(self.TEXT).reply().startswith(b"220"))

    def test_anything_else_is_closed(self):
        self.server.allow("proxy-header-refused")
        for header in (b"EHLO client.example\r\n", b"PROXY TCP4 192.0.2.7 192.0.2.250 40000\r\n", self.BINARY[:13] + b"\x51" + self.BINARY[14:],
                       b"PROXY TCP4 192.0.2.7 192.0.2.250 40000 25\n"):
            w = self.open(header)
            self.assertTrue(w.at_end(6), header)
            self.assertEqual(w.buffer, b"", header)
        self.assertTrue(self.open(b"").at_end(10))  # who says nothing in time
        # Bytes of an early talker are no part of the header.
        self.assertRegex(self.open(self.TEXT + b"EHLO early.example\r\n").reply(), rb"^554 5\.5\.1")


class TestXclient(SmtpTest):
    settings = {"smtp.xclient_from": "127.0.0.1", "smtp.connections_per_address": "2"}
    zones = {"seven.test": '@ IN TXT "v=spf1 ip4:192.0.2.7 ip6:2001:db8::9 -all"'}

    def test_address(self):
        w = self.session(ehlo=None)
        w.send(b"EHLO relay.example\r\n")
        self.assertIn(b"250-XCLIENT NAME ADDR PORT PROTO HELO REVERSE_NAME LOGIN DESTADDR DESTPORT\r\n", w.reply())
        for line, shown in ((b"ADDR=192.0.2.7 PORT=40000", rb"\[192\.0\.2\.7\]"), (b"addr=IPV6:2001:db8::9", rb"\[IPv6:2001:db8::9\]"),
                            (b"PORT=[UNAVAILABLE] ADDR=[TEMPUNAVAIL]", rb"\[IPv6:2001:db8::9\]")):
            self.say(w, b"XCLIENT " + line, rb"220 mail\.demo\.test ESMTP")
            self.say(w, b"MAIL FROM:<a@seven.test>", b"503")  # the session begins anew
            self.say(w, b"EHLO client.example", b"250")
            self.say(w, b"MAIL FROM:<a@seven.test>", b"250")
            self.say(w, b"XCLIENT ADDR=192.0.2.1", rb"503 5\.5\.1")
            self.say(w, b"RCPT TO:<alice@demo.test>", b"250")
            self.say(w, b"DATA", b"354")
            self.say(w, MESSAGE + b".", b"250")
            stored = self.messages()[0]
            self.assertRegex(stored, rb"Received: from client\.example \(unknown " + shown)
            self.assertRegex(stored, rb"spf=pass")

    def test_refused(self):
        w = self.session()
        for args in (b"ADDR=192.0.2.300", b"ADDR=", b"ADDR", b"FOO=x", b"ADDR=192.0.2.1 ADDR=192.0.2.1", b"PORT=65536", b"ADDR=IPV6:192.0.2.1",
                     b"ADDR=2001:db8::1", b"ADDR=192.0.2.1  PORT=1", b"LOGIN=" + b"x" * 256, b"NAME=a_b", b"HELO=a+20b", b"PROTO=LMTP"):
            self.say(w, b"XCLIENT " + args, rb"501 5\.5\.4")
        self.say(w, b"XCLIENT", rb"501 5\.5\.4")
        w = self.server.raw("submissions", tls=True)
        self.addCleanup(w.close)
        w.reply()
        w.send(b"EHLO client.example\r\n")
        self.assertNotIn(b"XCLIENT", w.reply())
        self.say(w, b"XCLIENT ADDR=192.0.2.7", rb"550 5\.7\.0")

    def deliver_as(self, w, *lines, hello=b"EHLO relay.example"):
        """What is stored of a message from a client about whom the relay says that."""
        for line in lines:
            self.say(w, b"XCLIENT " + line, rb"220 mail\.demo\.test ESMTP")
        self.say(w, hello, b"250")
        for line, pattern in ((b"MAIL FROM:<a@seven.test>", b"250"), (b"RCPT TO:<alice@demo.test>", b"250"), (b"DATA", b"354"),
                              (MESSAGE + b".", b"250")):
            self.say(w, line, pattern)
        return self.messages()[0]

    def test_name(self):
        """The relay's word stands for a look-up; REVERSE_NAME tells a name that does not lead back from none."""
        w = self.session(ehlo=None)
        for line, shown, result in ((b"NAME=client.example", rb"\(client\.example \[", rb"iprev=pass"),
                                    (b"NAME=[UNAVAILABLE]", rb"\(unknown \[", rb"iprev=permerror"),
                                    (b"NAME=[unavailable] REVERSE_NAME=wrong.example", rb"\(unknown \[", rb"iprev=fail"),
                                    (b"NAME=[TEMPUNAVAIL]", rb"\(unknown \[", rb"iprev=temperror")):
            stored = self.deliver_as(w, b"ADDR=192.0.2.7 " + line)
            self.assertRegex(stored, rb"Received: from relay\.example " + shown, line)
            self.assertRegex(stored, result, line)
        # The next client's name is not the last one's: it is looked up again.
        self.assertRegex(self.deliver_as(w, b"ADDR=192.0.2.7"), rb"\(unknown \[192\.0\.2\.7\]")

    def test_greeting(self):
        """HELO and PROTO take the place of the relay's own; in xtext, in several commands, and not for the next client."""
        w = self.session(ehlo=None)
        stored = self.deliver_as(w, b"HELO=cl+69ent.example PROTO=SMTP", b"NAME=client.example ADDR=192.0.2.7")
        self.assertRegex(stored, rb"Received: from client\.example \(client\.example \[192\.0\.2\.7\]\)\r\n\tby mail\.demo\.test with SMTP id")
        stored = self.deliver_as(w, b"HELO=[UNAVAILABLE] PROTO=ESMTP ADDR=192.0.2.7", hello=b"HELO relay.example")
        self.assertRegex(stored, rb"Received: from relay\.example .*\r\n\tby mail\.demo\.test with ESMTP id")
        stored = self.deliver_as(w, b"ADDR=192.0.2.7", hello=b"HELO relay.example")
        self.assertRegex(stored, rb"Received: from relay\.example .*\r\n\tby mail\.demo\.test with SMTP id")
        self.assertRegex(self.deliver_as(w, b"HELO=my_host"), rb"Received: from \[192\.0\.2\.7\] ")

    def test_the_rest_is_recorded(self):
        """A login gives no rights: the sender stays what port 25 makes of it, and Received has no A."""
        w = self.session(ehlo=None)
        login = b"x" * 255
        stored = self.deliver_as(w, b"ADDR=192.0.2.7 LOGIN=al+2Bice DESTADDR=IPV6:2001:db8::25 DESTPORT=2525")
        self.assertRegex(stored, rb"with ESMTP id")
        queue_id = re.search(rb" id (\w+)", stored).group(1).decode()
        self.assertRegex(self.server.run("explain", queue_id).stdout,
                         r"xclient.*local=2001:db8::25 local_port=2525 .*login=al\+ice")
        self.deliver_as(w, b"LOGIN=" + login)

    def test_a_name_is_of_its_address(self):
        """After STARTTLS, which needs an EHLO again, XCLIENT begins anew."""
        w = self.session(ehlo=None)
        self.say(w, b"XCLIENT NAME=client.example ADDR=192.0.2.7 HELO=client.example", b"220")
        self.say(w, b"EHLO relay.example", b"250")
        self.say(w, b"STARTTLS", b"220")
        w.starttls()
        self.assertRegex(self.deliver_as(w, b"ADDR=192.0.2.7"), rb"Received: from relay\.example \(unknown \[")

    def test_tls_forgets(self):
        """RFC 3207 4.2: what was said before STARTTLS is forgotten, and so is for whom it was said."""
        w = self.session(ehlo=None)
        self.say(w, b"XCLIENT NAME=client.example ADDR=192.0.2.7 HELO=client.example", b"220")
        self.say(w, b"EHLO relay.example", b"250")
        self.say(w, b"STARTTLS", b"220")
        w.starttls()
        stored = self.deliver_as(w)
        self.assertRegex(stored, rb"Received: from relay\.example \(localhost \[127\.0\.0\.1\]\)")
        self.assertNotIn(b"spf=pass", stored)

    def test_limits_go_by_the_client(self):
        """Two of one address at once; the third is told so, and the relay's own share is free again."""
        held = []
        for n in range(3):
            w = self.session()
            held.append(w)
            self.say(w, b"XCLIENT ADDR=192.0.2.8", b"220" if n < 2 else rb"421 4\.7\.0")
        self.assertTrue(held[2].at_end(6))
        held[0].close()
        harness.wait_for(lambda: self.say(self.session(), b"XCLIENT ADDR=192.0.2.8", b"(220|421)").startswith(b"220"))


class TestNoProxy(SmtpTest):
    settings = {"smtp.proxy_from": "192.0.2.250"}

    def test_a_header_from_elsewhere_is_no_header(self):
        w, line = harness.talk_early(lambda: self.server.raw("smtp"), TestProxy.TEXT)
        self.addCleanup(w.close)
        self.assertRegex(line, rb"^554 5\.5\.1")
        self.assertTrue(w.at_end(6))
        w = self.session(ehlo=None)
        w.send(b"EHLO client.example\r\n")
        self.assertNotIn(b"XCLIENT", w.reply())
        self.say(w, b"XCLIENT ADDR=192.0.2.7", rb"550 5\.7\.0")


class TestPatience(SmtpTest):
    settings = {"smtp.timeout": "2s", "login.timeout": "2s"}

    def test_silence(self):
        for service in ("smtp", "submission"):
            w = self.session(service)
            began = time.time()
            self.assertRegex(w.reply(), rb"^421 4\.4\.2", service)
            self.assertTrue(w.at_end(6))
            self.assertLess(time.time() - began, 5)

    def test_silence_in_data(self):
        w = self.session()
        for line in (b"MAIL FROM:<a@client.example>", b"RCPT TO:<alice@demo.test>", b"DATA"):
            self.say(w, line, rb"(250|354)")
        w.send(b"Subject: half\r\n\r\n")
        self.assertRegex(w.reply(), rb"^421 4\.4\.2")
        self.assertTrue(w.at_end(6))
        self.assertEqual(self.messages(), [])

    def test_login_deadline_is_not_put_off_by_talk(self):
        w = self.session("submission")
        began = time.time()
        try:
            while time.time() - began < 8:
                w.send(b"NOOP\r\n")
                if not w.reply().startswith(b"250"):
                    break
                time.sleep(0.3)
        except OSError:
            pass
        self.assertLess(time.time() - began, 6)


class TestSubmission(SmtpTest):
    def plain(self, user, password, authzid=""):
        return base64.b64encode(("%s\0%s\0%s" % (authzid, user, password)).encode())

    def tls_session(self):
        w = self.session("submission")
        self.say(w, b"STARTTLS", b"220")
        w.starttls()
        self.say(w, b"EHLO client.example", b"250")
        return w

    def test_clear_text_where_tls_is_first(self):
        """RFC 8314 3.3: the connection ends, with an alert perhaps, and not with a reset that would overtake it."""
        s = socket.create_connection(("127.0.0.1", self.server.ports["submissions"]), 20)
        self.addCleanup(s.close)
        s.sendall(b"EHLO client.example\r\n")
        got = b""
        while piece := s.recv(1000):
            got += piece
        self.assertNotIn(b"250", got)

    def test_commands_of_servers(self):
        """RFC 6409 7: ETRN and the like are neither offered nor there."""
        w = self.tls_session()
        w.send(b"EHLO client.example\r\n")
        offer = w.reply()
        for verb in (b"ETRN", b"ATRN", b"EXPN", b"XCLIENT"):
            self.assertNotIn(verb, offer)
            self.say(w, verb + b" demo.test", b"5[05][02] ")

    def test_nothing_before_login(self):
        w = self.session("submission")
        w.send(b"EHLO x\r\n")
        offer = w.reply()
        self.assertIn(b"STARTTLS", offer)
        self.assertNotIn(b"AUTH", offer)
        self.say(w, b"AUTH PLAIN " + self.plain("alice@demo.test", "x"), rb"538 5\.7\.11")
        self.say(w, b"MAIL FROM:<alice@demo.test>", rb"530 5\.7\.0")
        self.say(w, b"VRFY alice", rb"530 5\.7\.0")
        self.say(w, b"STARTTLS", b"220")
        w.starttls()
        self.say(w, b"MAIL FROM:<alice@demo.test>", rb"503")  # EHLO again (RFC 3207 4.2)
        w.send(b"EHLO odd_name\r\n")
        offer = w.reply()
        self.assertIn(b"AUTH PLAIN LOGIN", offer)
        self.assertNotIn(b"STARTTLS", offer)
        self.say(w, b"STARTTLS", b"503")
        self.say(w, b"MAIL FROM:<alice@demo.test>", rb"530 5\.7\.0")

    def test_auth(self):
        good = self.server.password("alice")
        w = self.tls_session()
        self.say(w, b"AUTH X-NONE", rb"504 5\.5\.4")
        self.say(w, b"AUTH PLAIN !", rb"501 5\.5\.2")
        self.say(w, b"AUTH PLAIN", b"334 ")
        self.say(w, b"*", rb"501 5\.7\.0")
        self.say(w, b"AUTH PLAIN " + self.plain("alice@demo.test", good, "bob@demo.test"), rb"535 5\.7\.8")
        self.say(w, b"AUTH PLAIN =", rb"(501|535)")
        self.say(w, b"AUTH PLAIN", b"334 ")
        self.say(w, self.plain("alice@demo.test", good), rb"235 2\.7\.0")
        self.say(w, b"AUTH PLAIN", b"503")
        self.say(w, b"EHLO client.example", rb"250")
        w = self.tls_session()
        self.say(w, b"AUTH LOGIN", b"334 VXNlcm5hbWU6")
        self.say(w, base64.b64encode(b"alice@demo.test"), b"334 UGFzc3dvcmQ6")
        self.say(w, base64.b64encode(good.encode()), b"235")

    def test_all_at_once(self):
        """What should wait for an answer (RFC 2920 3.1) and does not is answered in order, each once, and read as nothing else."""
        w = self.tls_session()
        w.send(b"EHLO client.example\r\nAUTH PLAIN " + self.plain("alice@demo.test", self.server.password("alice")) + b"\r\n"
               b"MAIL FROM:<alice@demo.test>\r\nRCPT TO:<bob@demo.test>\r\nDATA\r\n" + OWN + b".\r\nAUTH PLAIN =\r\nQUIT\r\n")
        self.assertEqual([w.reply()[:3] for _ in range(8)], [b"250", b"235", b"250", b"250", b"354", b"250", b"503", b"221"])
        self.assertTrue(w.at_end(6))
        self.assertTrue(self.messages("bob")[0].endswith(OWN))
        # The lines of an exchange are no commands, and after a failed one they are nothing else.
        w = self.tls_session()
        w.send(b"AUTH PLAIN\r\nNOOP\r\nNOOP\r\n")
        self.assertEqual([w.reply()[:3] for _ in range(3)], [b"334", b"535", b"250"])

    def test_three_failures(self):
        w = self.tls_session()
        for user in ("alice@demo.test", "nobody@demo.test", "alice@demo.test"):
            self.say(w, b"AUTH PLAIN " + self.plain(user, "wrong"), rb"535 5\.7\.8 Authentication failed\r\n")
        self.assertRegex(w.reply(), rb"^421 4\.7\.0")
        self.assertTrue(w.at_end(6))

    def test_own_addresses_only(self):
        with self.server.submission() as s:
            self.assertEqual(s.mail("bob@demo.test")[0], 550)
            with self.assertRaises(smtplib.SMTPDataError) as refused:
                s.sendmail("alice@demo.test", ["bob@demo.test"], OWN.replace(b"alice@", b"bob@"))
            self.assertEqual(refused.exception.smtp_code, 550)
            self.assertTrue(refused.exception.smtp_error.startswith(b"5.7.1"))
            for author in (b"alice@demo.test, bob@demo.test", b"<alice@demo.test> bob@demo.test", b"all: alice@demo.test, bob@demo.test;"):
                with self.assertRaises(smtplib.SMTPDataError) as refused:
                    s.sendmail("alice@demo.test", ["bob@demo.test"], OWN.replace(b"From: alice@demo.test", b"From: " + author))
                self.assertEqual(refused.exception.smtp_code, 550, author)
            with self.assertRaises(smtplib.SMTPRecipientsRefused) as refused:
                s.sendmail("alice@demo.test", ["x@elsewhere.example"], OWN)
            code, text = refused.exception.recipients["x@elsewhere.example"]
            self.assertEqual((code, text[:5]), (550, b"5.7.1"))
            self.assertIn(b"turned off", text)
            # The null reverse-path is nobody's (RFC 6409 3.2), and +detail is alice's own.
            self.assertEqual(s.sendmail("", ["bob@demo.test"], OWN), {})
            self.assertEqual(s.sendmail("alice+list@demo.test", ["bob@demo.test"], OWN), {})
        self.assertEqual(len(self.messages("bob")), 2)

    def test_completion(self):
        """RFC 6409 8, 6.3: Date and Message-ID are added, Bcc is removed, line ends are mended."""
        sent = b"From: alice@demo.test\r\nTo: bob@demo.test\r\nBcc: secret@demo.test,\r\n other@demo.test\r\nSubject: x\n\nbody\r.\n"
        with self.server.submission() as s:
            s.mail("alice@demo.test")
            s.rcpt("bob@demo.test")
            s.docmd("DATA")
            s.send(sent + b"\r\n.\r\n")
            self.assertEqual(s.getreply()[0], 250)
        stored = self.messages("bob")[0]
        self.assertRegex(stored, rb"with ESMTPSA id (\w+)\r\n\tfor <bob@demo\.test>\r\n\ttls \w+;")
        self.assertRegex(stored, rb"\r\nDate: \w\w\w, \d\d \w\w\w \d{4} [\d:]+ \+0000\r\nMessage-ID: <\w+@mail\.demo\.test>\r\n")
        self.assertNotIn(b"secret", stored)
        self.assertNotIn(b"other@", stored)
        self.assertTrue(stored.endswith(b"Subject: x\r\n\r\nbody\r\n.\r\n\r\n"), stored)
        with self.server.submission() as s:
            s.sendmail("alice@demo.test", ["bob@demo.test"], OWN)
        stored = self.messages("bob")[0]
        self.assertEqual(stored.count(b"Message-ID:"), 1)
        self.assertEqual(stored.count(b"Date:"), 1)
        self.assertNotIn(b"Authentication-Results", stored)

    def test_nothing_of_where_the_user_is(self):
        """Neither the client's address nor what it calls itself leaves the server; the time line has both."""
        with self.server.submission() as s:
            s.ehlo("laptop-of-alice.home.example")
            s.sendmail("alice@demo.test", ["bob@demo.test"], OWN)
        stored = self.messages("bob")[0]
        self.assertIn(b"Received: from localhost\r\n\tby mail.demo.test with ESMTPSA", stored)
        self.assertNotIn(b"127.0.0.1", stored)
        self.assertNotIn(b"laptop", stored)
        told = harness.wait_for(lambda: self.server.run("explain", "bob@demo.test", check=False).stdout)
        self.assertIn("laptop-of-alice.home.example", told)
        self.assertIn("127.0.0.1", told)

    def test_form(self):
        with self.server.submission() as s:
            for bad in (OWN.replace(b"From", b"X-From"), OWN.replace(b"To: bob@demo.test", b"To: bob"),
                        b"From: alice@demo.test\r\n" + OWN):
                with self.assertRaises(smtplib.SMTPDataError) as refused:
                    s.sendmail("alice@demo.test", ["bob@demo.test"], bad)
                self.assertEqual(refused.exception.smtp_code, 554, bad)
        self.assertEqual(self.messages("bob"), [])

    def test_changed_password_ends_the_right_to_send(self):
        self.server.run("account", "add", "carol@demo.test", "--password-stdin", stdin="a good password\n")
        self.server.passwords["carol@demo.test"] = "a good password"
        own = OWN.replace(b"alice", b"carol")
        s = self.server.submission("carol")
        s.sendmail("carol@demo.test", ["bob@demo.test"], own)
        self.server.run("account", "passwd", "carol@demo.test", "--password-stdin", stdin="another password\n")
        with self.assertRaises(smtplib.SMTPException) as refused:
            s.sendmail("carol@demo.test", ["bob@demo.test"], own)
        self.assertEqual(getattr(refused.exception, "smtp_code", 421), 421)
        self.assertEqual(len(self.messages("bob")), 1)


class TestQueue(SmtpTest):
    """A mailbox that fails for the moment after another has the message: one 250, and the queue does the rest."""

    settings = {"queue.retry": "1s", "quota.bytes": "100K", "transport.enabled": "yes"}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server.run("alias", "add", "both@demo.test", "alice@demo.test", "bob@demo.test")

    def setUp(self):
        # The rest of bob's quota does not hold the message of send().
        big = MESSAGE + (b"y" * 76 + b"\r\n") * 1200
        self.assertEqual(self.server.deliver(big, rcpt="bob")[0], 250)

    def tearDown(self):
        self.messages()
        self.messages("bob")

    def listed(self):
        return json.loads(self.server.run("queue", "list", "--json").stdout)

    def post(self):
        with self.server.smtp() as s:
            # An alias: one mailbox's fill is not looked at before the message is there.
            self.assertEqual(s.sendmail("a@client.example", ["both@demo.test"], MESSAGE + (b"z" * 76 + b"\r\n") * 200), {})
        rows = self.listed()
        self.assertEqual(len(rows), 1)
        self.assertEqual(sorted((r["state"], r["text"]) for r in rows[0]["recipients"]), [("done", ""), ("pending", "Mailbox full")])
        self.assertEqual(rows[0]["sender"], "a@client.example")
        self.assertIn("both@demo.test", self.server.run("queue", "list").stdout)

    def send(self):
        self.post()
        self.assertEqual(len(self.messages()), 1)

    def arrives(self):
        self.assertEqual(len(self.messages("bob")), 1)  # room again
        harness.wait_for(lambda: not self.listed(), 20, 0.2)
        self.assertEqual(len(self.messages("bob")), 1)
        self.assertEqual(self.messages(), [])

    def test_requiretls(self):
        """RFC 8689: a parameter over TLS alone; what waits has it, and RET=FULL does not count beside it."""
        w = self.session()
        self.assertNotIn(b"REQUIRETLS", self.say(w, b"EHLO client.example", b"250"))
        self.say(w, b"MAIL FROM:<a@client.example> REQUIRETLS", rb"555 5\.5\.4")
        self.say(w, b"STARTTLS", b"220")
        w.starttls()
        self.say(w, b"HELO client.example", b"250")
        self.say(w, b"MAIL FROM:<a@client.example> REQUIRETLS", rb"555 5\.5\.4")
        self.assertIn(b"250-REQUIRETLS\r\n", self.say(w, b"EHLO client.example", b"250"))
        self.say(w, b"MAIL FROM:<a@client.example> REQUIRETLS=1", rb"501 5\.5\.4")
        for param, kept in ((b" REQUIRETLS RET=FULL", True), (b"", False)):
            self.say(w, b"MAIL FROM:<a@client.example>" + param, b"250")
            self.say(w, b"RCPT TO:<both@demo.test>", b"250")
            self.say(w, b"DATA", b"354")
            queue_id = self.say(w, MESSAGE + (b"z" * 76 + b"\r\n") * 200 + b".", b"250").split()[-1].decode()
            self.assertEqual([row["requiretls"] for row in self.listed()], [kept])
            self.assertRegex(self.server.run("explain", queue_id).stdout, r" mail .*requiretls=%d" % kept)
            self.assertRegex(self.server.run("explain", queue_id).stdout, r" take .*ret=%d" % (2 if kept else 0))
            self.messages()
            self.arrives()
            if kept:
                self.setUp()

    def test_retry_by_itself(self):
        self.send()
        time.sleep(2)  # at least one try in vain
        self.assertEqual(len(self.listed()), 1)
        self.arrives()

    def test_kills(self):
        """kill -9 of queue and deliver: the item is there, and is delivered once."""
        self.server.allow(r"(role-ended|restart-later).*(queue|deliver)|ipc|edge")
        self.send()
        for name in ("smtpd-queue", "smtpd-deliver", "smtpd-queue"):
            for pid in self.server.processes()[name]:
                os.kill(pid, 9)
            harness.wait_for(lambda: self.server.run("queue", "list", check=False).returncode == 0)
        self.assertEqual(len(self.listed()), 1)
        self.arrives()

    def test_queue_dies_between(self):
        """One account has the message when the queue dies, twice: its successor takes the rest, and there is one answer."""
        self.server.allow(r"(role-ended|restart-later).*queue|ipc|edge")
        time.sleep(2.1)  # so that its death is no quick one, which is paused for
        queue = self.server.processes()["smtpd-queue"][0]
        os.kill(queue, signal.SIGSTOP)

        def kill():
            before = queue
            self.assertEqual(len(harness.wait_for(self.messages)), 1)  # alice's
            for _ in range(2):
                os.kill(before, signal.SIGKILL)
                before = harness.wait_for(lambda b=before: [p for p in self.server.processes().get("smtpd-queue", []) if p != b])[0]

        harness.in_threads([self.post, kill])
        self.arrives()

    def test_restart(self):
        self.send()
        self.assertEqual(self.server.stop(), [])
        self.server.start()
        self.assertEqual(len(self.listed()), 1)
        self.arrives()

    def test_all_fail(self):
        """Nobody has it yet: the client keeps it. One mailbox is known to be full at RCPT."""
        big = MESSAGE + (b"y" * 76 + b"\r\n") * 1200
        self.assertEqual(self.server.deliver(big)[0], 250)
        code, text = self.server.deliver(MESSAGE + (b"z" * 76 + b"\r\n") * 200, rcpt="both")
        self.assertEqual((code, text[:5]), (452, "4.2.2"))
        self.assertEqual(self.listed(), [])


if __name__ == "__main__":
    unittest.main()
