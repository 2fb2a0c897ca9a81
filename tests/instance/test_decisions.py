"""Whatever is refused or put off, `explain` names the row of the table that decided, and comes to the same again from what was recorded."""

import json
import smtplib
import time
import unittest

import harness

MESSAGE = b"From: a@sender.test\r\nSubject: x\r\n\r\nx\r\n"


class DecisionTest(harness.InstanceTest):
    def connect(self, source="127.0.0.1"):
        s = smtplib.SMTP("127.0.0.1", self.server.ports["smtp"], local_hostname="client.example", timeout=60, source_address=(source, 0))
        s.ehlo()
        return s

    def decided(self, key, table, rule, code):
        """Waits until the recorder has it, and judges again."""
        def found():
            done = self.server.run("--json", "explain", key, "--replay", check=False)
            rows = json.loads(done.stdout) if done.stdout.strip() else []
            return done, [r for r in rows if r["event"] == "decision" and r["fields"]["rule"] == rule]

        done, rows = harness.wait_for(lambda: (lambda f: f if f[1] else None)(found()))
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        for row in rows:
            self.assertEqual((row["fields"]["table"], row["fields"]["code"]), (table, str(code)), row)
            self.assertTrue(row["again"]["same"], row)
        return rows


class TestDialogue(DecisionTest):
    settings = {"smtp.rate_messages": "5", "smtp.rate_recipients": "4", "smtp.rate_unknown": "3", "smtp.message_bytes": "100000",
                "smtp.recipients": "100", "smtp.connections_per_address": "3"}

    def test_rates(self):
        with self.connect("127.1.0.1") as s:
            self.assertEqual([s.mail("rate@sender.test")[0] if s.rset() else 0 for _ in range(6)], [250] * 5 + [450])
        self.decided("rate@sender.test", "mail", "rate-messages", 450)
        with self.connect("127.2.0.1") as s:
            s.mail("many@sender.test")
            self.assertEqual([s.rcpt("alice@demo.test")[0] for _ in range(5)], [250] * 4 + [450])
        self.decided("many@sender.test", "rcpt", "rate-recipients", 450)
        with self.connect("127.3.0.1") as s:
            s.mail("unknown@sender.test")
            self.assertEqual([s.rcpt("nobody@demo.test")[0] for _ in range(3)], [550] * 3)
            self.assertEqual(s.rcpt("alice@demo.test")[0], 421)
        self.decided("unknown@sender.test", "rcpt", "rate-unknown", 421)
        self.assertEqual(len(self.decided("unknown@sender.test", "rcpt", "recipient-unknown", 550)), 3)
        with self.connect("127.3.0.1") as s:
            self.assertEqual(s.mail("again@sender.test")[0], 421)
        self.decided("again@sender.test", "mail", "rate-unknown", 421)

    def test_size(self):
        with self.connect("127.4.0.1") as s:
            self.assertEqual(s.mail("big@sender.test", ["SIZE=100001"])[0], 552)
            s.mail("bigger@sender.test")
            s.rcpt("alice@demo.test")
            self.assertEqual(s.data(MESSAGE + b"y" * 70 + b"\r\n" * 50000)[0], 552)
            # A chunk that says so before it comes.
            s.mail("chunk@sender.test")
            s.rcpt("alice@demo.test")
            s.sock.sendall(b"BDAT 100001 LAST\r\n" + b"x" * 100001)
            self.assertEqual(s.getreply()[0], 552)
        self.decided("big@sender.test", "mail", "size-declared", 552)
        self.assertEqual(len(self.decided("bigger@sender.test", "data", "size", 552)), 2)

    def test_recipients(self):
        with self.connect("127.5.0.1") as s:
            s.mail("relay@sender.test")
            self.assertEqual(s.rcpt("x@elsewhere.test")[0], 550)
        self.decided("relay@sender.test", "rcpt", "relay", 550)
        with self.server.submission() as s:
            self.assertEqual(s.mail("bob@demo.test")[0], 550)
            self.assertEqual(s.mail("alice@demo.test")[0], 250)
            self.assertEqual(s.rcpt("x@elsewhere.test")[0], 550)
        self.decided("bob@demo.test", "mail", "sender-foreign", 550)
        self.decided("x@elsewhere.test", "rcpt", "recipient-outside", 550)

    def test_line_ends(self):
        with self.connect("127.6.0.1") as s:
            s.mail("bare@sender.test")
            s.rcpt("alice@demo.test")
            s.docmd("DATA")
            s.sock.sendall(b"Subject: x\n\r\n.\r\n")
            self.assertEqual(s.getreply()[0], 521)
        self.decided("bare@sender.test", "data", "bare-line-end", 521)

    def test_connections(self):
        held = [self.connect("127.7.0.1") for _ in range(3)]
        with self.assertRaises((smtplib.SMTPConnectError, smtplib.SMTPServerDisconnected)):
            self.connect("127.7.0.1")
        for s in held:
            s.close()
        self.decided("127.7.0.1", "connect", "connections", 421)

    def test_early_talker(self):
        w, line = harness.talk_early(lambda: self.server.raw("smtp"), "EHLO early.example\r\n")
        self.assertEqual(line[:4], b"554 ")
        w.close()
        self.decided("127.0.0.1", "connect", "early-talker", 554)

    def test_commands(self):
        with self.connect("127.8.0.1") as s:
            s.sock.sendall(b"NOOP\r\nRSET\r\n")
            self.assertEqual(s.getreply()[0], 554)
        self.decided("127.8.0.1", "command", "early-commands", 554)
        with self.connect("127.8.0.2") as s:
            s.sock.sendall(b"RSET\n")
            self.assertEqual(s.getreply()[0], 521)
        self.decided("127.8.0.2", "command", "bare-line-end", 521)


class TestOutside(DecisionTest):
    """Recipients of other servers: those of our users only, at names that mail can be sent to."""
    settings = {"transport.enabled": "yes"}

    def test_no_open_relay(self):
        for to in ("x@elsewhere.test", "x@[192.0.2.1]", "x%elsewhere.test@elsewhere.test", '"x@elsewhere.test"@elsewhere.test',
                   "@demo.test:x@elsewhere.test"):
            with self.subTest(to=to), self.connect() as s:
                s.mail("alice@demo.test")
                self.assertEqual(s.docmd("RCPT", "TO:<%s>" % to)[0], 550)
                s.rset()
                s.mail("")
                self.assertEqual(s.docmd("RCPT", "TO:<%s>" % to)[0], 550)
        self.decided("x@elsewhere.test", "rcpt", "relay", 550)

    def test_submission(self):
        with self.server.submission() as s:
            self.assertEqual(s.mail("alice@demo.test")[0], 250)
            self.assertEqual(s.rcpt("x@elsewhere.test")[0], 250)
            self.assertEqual(s.rcpt("bob@demo.test")[0], 250)
            self.assertEqual(s.rcpt("nobody@demo.test")[0], 550)
            code, text = s.rcpt("x@[127.0.0.1]")
            self.assertEqual((code, text[:5]), (550, b"5.1.2"))
            code, text = s.rcpt("x@localhost")
            self.assertEqual((code, text[:5]), (550, b"5.1.2"))
            self.assertEqual(s.rcpt("x@127.0.0.1")[0], 550)
        self.decided("x@[127.0.0.1]", "rcpt", "recipient-literal", 550)
        self.decided("x@localhost", "rcpt", "recipient-unroutable", 550)


class TestQuota(DecisionTest):
    def test_quota(self):
        self.server.run("quota", "set", "alice@demo.test", "--bytes", "10K")
        with self.connect() as s:
            # The first is more than there is: told when it is there. Of the next it is known at RCPT.
            s.mail("full@sender.test")
            s.rcpt("alice@demo.test")
            self.assertEqual(s.data(MESSAGE + b"y" * 70 + b"\r\n" * 10000)[0], 452)
            s.mail("declared@sender.test", ["SIZE=20000"])
            code = harness.wait_for(lambda: (lambda c: c if c != 250 else time.sleep(0.2))(s.rcpt("alice@demo.test")[0]))
            self.assertEqual(code, 452)
        self.decided("full@sender.test", "rcpt", "quota", 452)
        self.decided("declared@sender.test", "rcpt", "quota", 452)


if __name__ == "__main__":
    unittest.main()
