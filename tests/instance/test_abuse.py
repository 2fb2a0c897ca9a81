"""Bad input: the protocol's error, a bounded cost, nothing lost and nothing crashed."""

import os
import random
import re
import socket
import time
import unittest

import harness

MESSAGE = b"From: a@client.example\r\nSubject: honest\r\n\r\nx\r\n"
SMUGGLES = [b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r\n.\n", b"\r\n.\r", b"\r.\r\n", b"\r\r\n.\r\r\n", b"\0\r\n.\r\n", b"\r\n.\r\r\n",
            b"\n.\r", b"\r.\n", b"\n\n.\r\n", b"\r\r.\r\n", b"\n\r\n.\n\r\n", b"\r\n\0.\r\n", b"\r\n.\0\r\n", b"\r\n.\r\0\n",
            b"\n\r.\r\n", b"\r\n\r.\r\n"]


def rss_kb(pid):
    with open("/proc/%d/status" % pid, encoding="ascii") as f:
        return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1))


class TestAbuse(harness.InstanceTest):
    settings = {"login.connections_per_address": "60", "smtp.connections_per_address": "60", "login.timeout": "3s",
                "smtp.timeout": "4s"}

    def honest(self):
        self.assertEqual(self.server.deliver(MESSAGE)[0], 250)
        c = self.server.imap("alice")
        self.assertEqual(c.select("INBOX")[0], "OK")
        c.logout()

    def pids(self):
        return {name: pids for name, pids in self.server.processes().items()
                if name in ("smtpd-front", "imapd-front", "pop3d-front", "smtpd-submission")}

    def setUp(self):
        self.before = self.pids()

    def tearDown(self):
        self.honest()
        self.assertEqual(self.pids(), self.before, "a front died")

    def smtp_to_data(self):
        w = self.server.raw("smtp")
        self.assertTrue(w.reply().startswith(b"220"))
        for command in (b"EHLO client.example\r\n", b"MAIL FROM:<a@client.example>\r\n", b"RCPT TO:<alice@demo.test>\r\n"):
            w.send(command)
            self.assertTrue(w.reply().startswith(b"250"), command)
        w.send(b"DATA\r\n")
        self.assertTrue(w.reply().startswith(b"354"))
        return w

    def test_smuggling(self):
        """No end of data but CRLF.CRLF; what follows a false one is never executed (RFC 5321 2.3.8, 4.1.1.4)."""
        for smuggle in SMUGGLES:
            for slowly in (False, True):
                w = self.smtp_to_data()
                bait = (b"From: a@client.example\r\nSubject: bait\r\n\r\nx" + smuggle +
                        b"MAIL FROM:<evil@client.example>\r\nRCPT TO:<bob@demo.test>\r\nDATA\r\nSubject: smuggled\r\n\r\ny\r\n.\r\n")
                (w.send_slowly if slowly else w.send)(bait)
                first = w.reply()
                self.assertRegex(first, rb"^5(50|21|54) ", (smuggle, slowly))
                w.send(b"QUIT\r\n")
                rest = b""
                while True:
                    line = w.line()
                    if not line:
                        break
                    rest += line
                self.assertNotIn(b"354", rest, (smuggle, slowly))
                w.close()
        c = self.server.imap("bob")
        c.select("INBOX")
        self.assertEqual(c.search(None, "SUBJECT", "smuggled")[1][0], b"")
        c.logout()

    def test_long_lines(self):
        for service, line in (("smtp", b"MAIL FROM:<" + b"a" * 100000 + b">\r\n"), ("imap", b"a LOGIN " + b"x" * 1000000 + b"\r\n"),
                              ("pop3", b"USER " + b"u" * 100000 + b"\r\n")):
            w = self.server.raw(service)
            w.line()
            try:
                w.send(line)
            except OSError:
                pass
            try:
                answer = w.line()
            except OSError:
                answer = b""
            self.assertRegex(answer, rb"^(5\d\d|421|\* BYE|\* BAD|a BAD|-ERR|$)", service)
            w.close()

    def test_binary_garbage(self):
        rng = random.Random(7)
        for service in ("smtp", "submission", "imap", "pop3", "imaps", "pop3s", "submissions"):
            for _ in range(5):
                w = self.server.raw(service)
                try:
                    w.send(rng.randbytes(20000) + b"\r\n")
                    w.s.shutdown(socket.SHUT_WR)
                except OSError:
                    pass
                self.assertTrue(w.at_end(8), service)
                w.close()

    def test_nul_and_bare_lf_in_commands(self):
        for service, line in (("smtp", b"EHLO a\0b\r\n"), ("smtp", b"NOOP\nQUIT\n"), ("imap", b"a NOOP\0\r\n"), ("pop3", b"NO\0OP\r\n")):
            w = self.server.raw(service)
            w.line()
            w.send(line)
            try:
                answer = w.line()
            except OSError:
                answer = b""
            self.assertRegex(answer, rb"^(5\d\d|\* BYE|\* BAD|a BAD|-ERR|$)", (service, line))
            w.close()

    def test_broken_literals(self):
        for command in (b"a LOGIN {99999999999}\r\n", b"a LOGIN {5\r\n", b"a LOGIN {-1}\r\n", b"a LOGIN {4294967296+}\r\n",
                        b"a LOGIN {100000}\r\n"):
            w = self.server.raw("imap")
            w.line()
            w.send(command)
            self.assertRegex(w.line(), rb"^(a BAD|a NO|\* BAD|\* BYE)", command)
            w.close()

    def test_starttls_injection(self):
        """Octets after STARTTLS in the clear are never executed under TLS (RFC 3207 4.2)."""
        for service, first, inject, probe in (
                ("smtp", b"EHLO x.example\r\n", b"STARTTLS\r\nMAIL FROM:<evil@x.example>\r\n", b"NOOP\r\n"),
                ("imap", None, b"a STARTTLS\r\nb NOOP\r\n", b"c CAPABILITY\r\n"),
                ("pop3", None, b"STLS\r\nCAPA\r\n", b"NOOP\r\n")):
            w = self.server.raw(service)
            w.reply() if service == "smtp" else w.line()
            if first:
                w.send(first)
                w.reply()
            w.send(inject)
            answer = w.line()
            self.assertRegex(answer, rb"^(220|a OK|\+OK)", service)
            w.buffer = b""
            try:
                w.starttls()
                w.send(probe)
                answer = w.line()
            except (OSError, AssertionError):
                continue  # closed: allowed
            self.assertNotIn(b"b OK", answer)
            self.assertNotRegex(answer, rb"^250 2\.1\.0", service)
            w.close()

    def test_silent_and_half_closed(self):
        silent = [self.server.raw(s) for s in ("smtp", "imap", "pop3", "imaps", "submissions") for _ in range(4)]
        half = self.server.raw("smtp")
        half.s.shutdown(socket.SHUT_WR)
        self.assertTrue(half.at_end(10))
        self.honest()
        for w in silent:
            self.assertTrue(w.at_end(15), "a silent connection was kept")
            w.close()

    def test_thousand_connections_from_one_address(self):
        fronts = {name: pids[0] for name, pids in self.pids().items()}
        before = {name: rss_kb(pid) for name, pid in fronts.items()}
        for service in ("smtp", "imap", "pop3"):
            sockets, refused = [], 0
            for _ in range(1000):
                s = socket.create_connection(("127.0.0.1", self.server.ports[service]), timeout=10)
                sockets.append(s)
            time.sleep(1)
            for s in sockets:
                s.settimeout(0.5)
                try:
                    data = s.recv(200)
                except OSError:
                    data = b"?"
                if data == b"" or re.match(rb"421|\* BYE|-ERR", data):
                    refused += 1
            for s in sockets:
                s.close()
            self.assertGreaterEqual(refused, 900, service)
        if not harness.INSTRUMENTED:
            for name, pid in fronts.items():
                self.assertLess(rss_kb(pid) - before[name], 30000, name)
        time.sleep(1)

    def test_size_limits(self):
        w = self.server.raw("smtp")
        w.reply()
        w.send(b"EHLO x.example\r\n")
        size = int(re.search(rb"SIZE (\d+)", w.reply()).group(1))
        w.send(b"MAIL FROM:<a@client.example> SIZE=%d\r\n" % (size + 1))
        self.assertRegex(w.reply(), rb"^552 5\.3\.4")
        w.send(b"MAIL FROM:<a@client.example>\r\n")
        self.assertTrue(w.reply().startswith(b"250"))
        for n in range(100):
            w.send(b"RCPT TO:<alice+%d@demo.test>\r\n" % n)
            self.assertTrue(w.reply().startswith(b"250"), n)
        w.send(b"RCPT TO:<alice+more@demo.test>\r\n")
        self.assertRegex(w.reply(), rb"^452 4\.5\.3")
        w.close()


if __name__ == "__main__":
    unittest.main()
