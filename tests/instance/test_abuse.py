"""Bad input: the protocol's error, a bounded cost, nothing lost and nothing crashed."""

import functools
import json
import random
import re
import socket
import time
import unittest

import harness
import ports

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


DIALOGUE = b"MAIL FROM:<evil@x.example>\r\nRCPT TO:<alice@demo.test>\r\nDATA\r\nSubject: injected\r\n\r\nx\r\n.\r\n"
# Of each service: what a client says before it asks for TLS, how it asks and what it is told, what is injected, and the dialogue under TLS,
# none of whose answers is one that anything injected has.
STARTTLS = {
    "smtp": ([b"EHLO x.example"], b"STARTTLS", rb"220 ", b"EHLO evil.example\r\n" + DIALOGUE, [(b"HELP", rb"214 "), (b"QUIT", rb"221 ")]),
    "submission": ([b"EHLO x.example"], b"STARTTLS", rb"220 ", b"EHLO evil.example\r\nAUTH PLAIN AGEAYg==\r\n" + DIALOGUE,
                   [(b"HELP", rb"214 "), (b"QUIT", rb"221 ")]),
    "lmtp": ([b"LHLO x.example"], b"STARTTLS", rb"220 ", b"LHLO evil.example\r\n" + DIALOGUE, [(b"HELP", rb"214 "), (b"QUIT", rb"221 ")]),
    "imap": ([], b"a STARTTLS", rb"a OK", b"b NOOP\r\nc CAPABILITY\r\nd LOGIN evil@demo.test x\r\n",
             [(b"e CREATE x", rb"e BAD"), (b"f LOGOUT", rb"\* BYE"), (None, rb"f OK")]),
    "pop3": ([], b"STLS", rb"\+OK", b"CAPA\r\nUSER evil@demo.test\r\nPASS x\r\n", [(b"AUTH NONE", rb"-ERR"), (b"QUIT", rb"\+OK Bye")]),
}


class TestStarttls(harness.InstanceTest):
    """Octets in clear behind STARTTLS are never executed, under TLS or before it (RFC 3207 4.2, RFC 2595 4, RFC 3501 6.2.1)."""

    @classmethod
    def setUpClass(cls):
        cls.lmtp = ports.take()
        cls.settings = {"lmtp.listen": "127.0.0.1@%d" % cls.lmtp}
        super().setUpClass()
        cls.server.ports["lmtp"] = cls.lmtp

    def open(self, service, source):
        """Said until STARTTLS is due. The source is the session's own, so that its time line is found by it."""
        w = harness.Wire(socket.create_connection(("127.0.0.1", self.server.ports[service]), timeout=20, source_address=(source, 0)))
        self.addCleanup(w.close)
        w.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        w.reply()
        for command in STARTTLS[service][0]:
            w.send(command + b"\r\n")
            self.assertTrue(w.reply().startswith(b"250"), service)
        return w

    def executed(self, source, commands):
        """The time line of that session alone: what was said with effect, and how many commands there were."""
        def rows():
            found = json.loads(self.server.run("--json", "explain", source, check=False).stdout or "[]")
            return found if any(r["event"] == "disconnect" for r in found) else None

        found = harness.wait_for(rows)
        self.assertNotIn("evil", json.dumps(found))
        self.assertEqual([r["event"] for r in found if r["event"] in ("ehlo", "lhlo", "starttls", "auth", "auth-refused", "mail", "mail-refused",
                                                                      "rcpt", "data", "outcome")][1:], ["starttls"])
        self.assertEqual([str(r["fields"]["commands"]) for r in found if r["event"] == "disconnect"], [str(commands)])

    def test_starttls_injection(self):
        """In one segment with STARTTLS: TLS begins, and what is answered first under it is what was asked first under it."""
        for n, (service, (before, command, begin, inject, dialogue)) in enumerate(STARTTLS.items()):
            source = "127.66.1.%d" % n
            w = self.open(service, source)
            w.send(command + b"\r\n" + inject)
            self.assertRegex(w.line(), b"^" + begin, service)
            self.assertEqual(w.buffer, b"", service)
            w.starttls()
            for say, wanted in dialogue:
                if say:
                    w.send(say + b"\r\n")
                self.assertRegex(w.line(), b"^" + wanted, service)
            self.assertEqual(w.line(), b"", service)
            if service in ("smtp", "submission", "lmtp"):
                self.executed(source, len(before) + 1 + len(dialogue))

    def test_clear_before_the_handshake(self):
        """Behind the answer to STARTTLS: it meets the handshake, and the session ends without a word."""
        def one(n, service, before, command, begin, inject, _):
            source = "127.66.2.%d" % n
            w = self.open(service, source)
            w.send(command + b"\r\n")
            self.assertRegex(w.line(), b"^" + begin, service)
            w.send(inject)
            self.assertTrue(w.at_end(15), service)
            self.assertNotRegex(w.buffer, rb"250|220|OK|BAD|ERR", service)
            if service in ("smtp", "submission", "lmtp"):
                self.executed(source, len(before) + 1)

        harness.in_threads([functools.partial(one, n, service, *row) for n, (service, row) in enumerate(STARTTLS.items())])

    def tearDown(self):
        with self.server.imap() as c:
            c.select("INBOX")
            self.assertEqual(c.search(None, "SUBJECT", "injected")[1][0], b"")


if __name__ == "__main__":
    unittest.main()
