"""Sending mail servers of Debian, each from its own queue to port 25 of a whole server: Postfix, Exim, OpenSMTPD (tests/instance/mta.py).
What was queued arrives once, octet for octet but for trace fields at the top, over TLS because that is offered; 4yz is tried again; 5yz
comes back to the sender."""

import hashlib
import os
import re
import unittest

import harness
import mta

SENDER = "sender@client.example"
HEADER = ("From: <%s>\nTo: alice@demo.test\nSubject: %s\nDate: Sun, 22 Nov 2026 12:00:00 +0000\n"
          "Message-ID: <%s@client.example>\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n"
          "Content-Transfer-Encoding: 8bit\n\n")
BODIES = {
    "plain": "Hello.\n",
    "empty": "",
    "dots": ".\n..\n...\n.x\n..x\nx.\n.\n",
    "lines": "".join("x" * n + "\n" for n in (1, 76, 990, 997, 998)),
    "eight": "Grüße, 你好, \u00a0 ende\n" * 50,
    "blank": "\n\n \n\t\n\ntrailing \n\n",
    "large": "".join("%06d %s\n" % (i, "y" * 60) for i in range(40000)),
}


only_root = unittest.skipUnless(os.getuid() == 0, "only root can make namespaces with users of their own")


def message(subject, body, sender=SENDER):
    return (HEADER % (sender, subject, subject) + body).encode()


def without_trace(octets):
    """From our first field on: what servers add is above it."""
    at = octets.find(b"From: <")
    return octets[at:] if at >= 0 else octets


class Senders:
    """The tests, for the classes below."""

    server_class = None
    zones = {"refused.example": '_dmarc IN TXT "v=DMARC1; p=reject"', "flaky.example": ""}
    dns_rules = [(r"^_dmarc\.flaky\.example$", "servfail")]

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        try:
            cls.mta = cls.server_class(cls.server.ports["smtp"])
        except BaseException:
            cls.server.close()
            raise

    @classmethod
    def tearDownClass(cls):
        cls.mta.close()
        super().tearDownClass()

    def found(self, user, subject):
        """The messages of that subject in the INBOX, as octets."""
        c = self.server.imap(user)
        c.select("INBOX", readonly=True)
        numbers = c.search(None, "HEADER", "Subject", '"%s"' % subject)[1][0].split()
        got = [c.fetch(n, "(BODY.PEEK[])")[1][0][1] for n in numbers]
        c.logout()
        return got

    def wait_for(self, user, subject, seconds=60):
        try:
            return harness.wait_for(lambda: self.found(user, subject), seconds, 0.2)
        except AssertionError:
            raise AssertionError("%s for %s did not come:\n%s\n%s" % (subject, user, self.mta.waiting(), self.mta.output())) from None

    def test_octet_for_octet(self):
        for name, body in BODIES.items():
            self.mta.send(message("as-it-is-" + name, body), ["alice@demo.test"], SENDER)
        for name, body in BODIES.items():
            got = self.wait_for("alice", "as-it-is-" + name)
            self.assertEqual(len(got), 1, name)
            want = message("as-it-is-" + name, body).replace(b"\n", b"\r\n")
            self.assertEqual(hashlib.sha256(without_trace(got[0])).digest(), hashlib.sha256(want).digest(),
                             "%s: %r" % (name, got[0][:3000]))
            self.assertRegex(got[0], rb"\r\nReceived: from mta\.example \([^\r]*\r\n\tby mail\.demo\.test with ESMTPS ")
            self.assertEqual(len(re.findall(rb"(?m)^Return-Path: <%s>\r$" % SENDER.encode(), got[0])), 1)

    def test_several_recipients(self):
        """Each that exists has it once; the sender is told of the one that does not."""
        sender = "carol@demo.test"
        self.server.run("account", "add", sender, "--password-stdin", stdin="a long enough password 7\n")
        self.server.passwords[sender] = "a long enough password 7"
        self.mta.send(message("several", "x\n", sender), ["alice@demo.test", "nobody@demo.test", "bob@demo.test"], sender)
        for user in ("alice", "bob"):
            self.assertEqual(len(self.wait_for(user, "several")), 1)
        bounce = self.bounce_for("carol")
        self.assertRegex(bounce, rb"(?i)nobody@demo\.test")
        self.assertRegex(bounce, rb"(?m)^Return-Path: <>\r$")
        self.assertIn(b"550", bounce)

    def bounce_for(self, user):
        def bounces():
            c = self.server.imap(user)
            c.select("INBOX", readonly=True)
            numbers = c.search(None, "FROM", '"MAILER-DAEMON"')[1][0].split()
            got = [c.fetch(n, "(BODY.PEEK[])")[1][0][1] for n in numbers]
            c.logout()
            return got
        try:
            got = harness.wait_for(bounces, 60, 0.2)
        except AssertionError:
            raise AssertionError("no bounce: %s\n%s" % (self.mta.waiting(), self.mta.output())) from None
        self.assertEqual(len(got), 1)
        return got[0]

    def test_refused_at_the_end_of_data(self):
        """550 behind the message: it comes back, and what came back names the reason."""
        sender = "dave@demo.test"
        self.server.run("account", "add", sender, "--password-stdin", stdin="a long enough password 8\n")
        self.server.passwords[sender] = "a long enough password 8"
        text = message("refused", "x\n", "author@refused.example")
        self.mta.send(text, ["alice@demo.test"], sender)
        bounce = self.bounce_for("dave")
        self.assertIn(b"5.7.1", bounce)
        self.assertEqual(self.found("alice", "refused"), [])

    def test_tried_again(self):
        """452 at RCPT while the mailbox is full; later it arrives, once."""
        user = "erin@demo.test"
        self.server.run("account", "add", user, "--password-stdin", stdin="a long enough password 9\n")
        self.server.passwords[user] = "a long enough password 9"
        self.server.run("quota", "set", user, "--messages", "1")
        self.assertEqual(self.server.deliver(b"From: a@client.example\r\nSubject: first\r\n\r\nx\r\n", rcpt="erin")[0], 250)
        self.mta.send(message("again", "x\n"), [user], SENDER)
        harness.wait_for(lambda: "452" in self.mta.waiting() + self.mta.output(), 60, 0.2)
        self.assertRegex(self.mta.waiting(), "erin@demo.test")
        self.server.run("quota", "set", user, "--messages", "none")
        self.mta.retry()
        self.assertEqual(len(self.wait_for("erin", "again")), 1)
        self.assertNotIn("erin@demo.test", self.mta.waiting())

    def test_tried_again_after_the_data(self):
        """451 behind the message while the DNS fails; later it arrives, once."""
        self.mta.send(message("later", "x\n", "author@flaky.example"), ["bob@demo.test"], SENDER)
        harness.wait_for(lambda: "451" in self.mta.waiting() + self.mta.output(), 60, 0.2)
        self.assertEqual(self.found("bob", "later"), [])
        self.server.proxy.rules.clear()

        def came():
            self.mta.retry()
            return self.found("bob", "later")
        self.assertEqual(len(harness.wait_for(came, 90, 1)), 1)

    def test_many(self):
        """A queue's worth, over as many connections as the server likes: all of them, each once."""
        count = 40
        for n in range(count):
            self.mta.send(message("many-%d-of" % n, "number %d\n" % n), ["bob@demo.test"], SENDER)
        for n in range(count):
            self.assertEqual(len(self.wait_for("bob", "many-%d-of" % n)), 1)


@only_root
class TestPostfix(Senders, harness.InstanceTest):
    server_class = mta.Postfix


@only_root
class TestExim(Senders, harness.InstanceTest):
    server_class = mta.Exim


@only_root
class TestOpenSmtpd(Senders, harness.InstanceTest):
    server_class = mta.OpenSmtpd


if __name__ == "__main__":
    unittest.main()
