"""Delivery status notifications, from the sender's side: asked for on submission, fetched from the INBOX, read part by part."""

import email
import email.policy
import json
import os
import re
import signal
import smtplib
import threading
import time
import unittest

import harness
import ports
import receiver

BODY = b"From: alice@demo.test\r\nTo: bob@demo.test\r\nSubject: Lunch on Friday\r\nDate: Thu, 01 Jan 2026 00:00:00 +0000\r\n" \
       b"Message-ID: <lunch@demo.test>\r\n\r\nShall we?\r\n"
FILLER = (b"z" * 76 + b"\r\n") * 200


def groups(text):
    """The groups of fields of a message/delivery-status, as dictionaries of unfolded values."""
    return [{line.partition(": ")[0]: line.partition(": ")[2] for line in re.sub(r"\r\n[ \t]", " ", group).split("\r\n")}
            for group in text.strip("\r\n").split("\r\n\r\n")]


class Report:
    """A report as it was fetched."""

    def __init__(self, raw):
        self.raw = raw
        self.message = email.message_from_bytes(raw, policy=email.policy.default)
        text, status, original = self.message.get_payload()
        self.types = [part.get_content_type() for part in (text, status, original)]
        self.text = re.sub(r"\s+", " ", text.get_content())
        boundary = b"\r\n--" + self.message.get_boundary().encode()
        pieces = [piece.partition(b"\r\n\r\n")[2] for piece in raw.split(boundary)[1:4]]
        self.fields, *self.recipients = groups(pieces[1].decode())
        self.original = pieces[2]


class DsnTest(harness.InstanceTest):
    def taken(self, user="alice"):
        """All messages in the INBOX; they are removed."""
        with self.server.imap(user, utf8=True) as m:
            _, count = m.select()
            found = [m.fetch(str(n + 1), "(BODY.PEEK[])")[1][0][1] for n in range(int(count[0]))]
            if found:
                m.store("1:*", "+FLAGS", r"(\Deleted)")
                m.expunge()
        return found

    def report(self, user="alice"):
        """The one report that comes."""
        found = []
        harness.wait_for(lambda: found.extend(self.taken(user)) or found, 20, 0.1)
        self.assertEqual(len(found), 1, found)
        report = Report(found[0])
        self.assertTrue(report.raw.startswith(b"Return-Path: <>\r\n"), report.raw)
        self.assertEqual(report.message["Auto-Submitted"], "auto-replied")
        return report

    def settled(self):
        """Nothing is left of what was sent."""
        harness.wait_for(lambda: not self.listed(), 20, 0.1)

    def listed(self):
        return json.loads(self.server.run("--json", "queue", "list").stdout)

    def send(self, *to, options="", params="", sender="alice@demo.test", message=BODY, user="alice"):
        """user None: over port 25."""
        with self.server.submission(user) if user else self.server.smtp() as s:
            s.ehlo()
            s.docmd("MAIL FROM:<%s>%s" % (sender, options))
            for one in to:
                code, text = s.docmd("RCPT TO:<%s>%s" % (one, params))
                self.assertEqual(code, 250, text)
            code, text = s.data(message)
        self.assertEqual(code, 250, text)
        return text.split()[-1].decode()


class TestAlone(DsnTest):
    """A server from which no report can leave offers DSN to its own users only."""

    def test_offered(self):
        for connect, offered in ((self.server.submission, True), (self.server.smtp, False)):
            with connect() as s:
                s.ehlo()
                self.assertEqual(s.has_extn("dsn"), offered)
                s.mail("alice@demo.test")
                self.assertEqual(s.docmd("RCPT TO:<bob@demo.test> NOTIFY=NEVER")[0], 250 if offered else 555)

    def test_delivered(self):
        self.send("bob@demo.test", params=" NOTIFY=SUCCESS")
        self.assertEqual(self.report().recipients[0]["Action"], "delivered")


class TestHere(DsnTest):
    """Between mailboxes of this server."""

    settings = {"transport.enabled": "yes"}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server.run("alias", "add", "both@demo.test", "alice@demo.test", "bob@demo.test")

    def tearDown(self):
        self.settled()
        for user in ("alice", "bob"):
            self.taken(user)

    def test_delivered(self):
        queue_id = self.send("bob@demo.test", options=" RET=FULL ENVID=QQ+2B314", params=" NOTIFY=SUCCESS ORCPT=rfc822;Bob+40Demo.test")
        r = self.report()
        self.assertEqual(r.types, ["text/plain", "message/delivery-status", "text/rfc822-headers"])
        self.assertEqual(r.message["To"], "alice@demo.test")
        self.assertEqual(r.message["From"].addresses[0].addr_spec, "postmaster@demo.test")
        self.assertEqual(r.message["Subject"], "Delivered: bob@demo.test")
        self.assertEqual(r.message["References"], "<lunch@demo.test>")
        self.assertEqual((r.fields["Original-Envelope-Id"], r.fields["Reporting-MTA"]), ("QQ+314", "dns; mail.demo.test"))
        (one,) = r.recipients
        self.assertEqual((one["Original-Recipient"], one["Final-Recipient"]), ("rfc822; Bob@Demo.test", "rfc822; bob@demo.test"))
        self.assertEqual((one["Action"], one["Status"]), ("delivered", "2.0.0"))
        self.assertNotIn("Remote-MTA", one)
        self.assertIn("This does not say that it has been read.", r.text)
        self.assertIn("Subject: Lunch on Friday", r.text)
        # The whole message is for failures (RFC 3461 4.3).
        self.assertIn(b"Message-ID: <lunch@demo.test>", r.original)
        self.assertNotIn(b"Shall we?", r.original)
        self.assertEqual(len(self.taken("bob")), 1)
        self.settled()
        told = self.server.run("explain", queue_id).stdout
        self.assertRegex(told, r" report .*alice@demo\.test")
        self.assertRegex(told, r" report-recipient .*about=bob@demo\.test .*action=delivered")

    def test_not_asked_for(self):
        for params in ("", " NOTIFY=NEVER", " NOTIFY=FAILURE,DELAY"):
            self.send("bob@demo.test", params=params)
        self.send("bob@demo.test", params=" NOTIFY=SUCCESS", options=" ENVID=last")
        self.assertEqual(self.report().fields["Original-Envelope-Id"], "last")
        self.settled()
        self.assertEqual(self.taken(), [])
        self.assertEqual(len(self.taken("bob")), 4)

    def test_alias(self):
        """RFC 3461 5.2.7.3 c: one word for all that are behind the address."""
        self.send("both@demo.test", params=" NOTIFY=SUCCESS,FAILURE")
        harness.wait_for(lambda: len(self.status()) == 2, 20, 0.1)
        self.settled()
        _, second = sorted(self.taken(), key=lambda raw: b"delivery-status" in raw)
        (one,) = Report(second).recipients
        self.assertEqual((one["Action"], one["Final-Recipient"]), ("expanded", "rfc822; both@demo.test"))

    def status(self):
        with self.server.imap() as m:
            m.select()
            return m.search(None, "ALL")[1][0].split()

    def test_several(self):
        self.send("alice@demo.test", "bob@demo.test", params=" NOTIFY=SUCCESS")
        harness.wait_for(lambda: len(self.status()) == 2, 20, 0.1)
        _, second = sorted(self.taken(), key=lambda raw: b"delivery-status" in raw)
        self.assertEqual([r["Final-Recipient"] for r in Report(second).recipients], ["rfc822; alice@demo.test", "rfc822; bob@demo.test"])

    def test_nobody_to_tell(self):
        """Not about the null reverse-path, and the end of a report that reaches nobody is an end (CORNERS: no loops)."""
        self.send("bob@demo.test", params=" NOTIFY=SUCCESS", sender="", user=None)
        self.assertEqual(self.listed(), [])
        queue_id = self.send("bob@demo.test", params=" NOTIFY=SUCCESS", sender="nobody@demo.test", user=None)
        self.settled()
        self.assertRegex(self.server.run("explain", queue_id).stdout, r" report-end .*given up")
        self.assertEqual(self.taken(), [])
        self.assertEqual(len(self.taken("bob")), 2)

    def test_hostile_header(self):
        """What the original holds changes nothing around it."""
        nasty = BODY.replace(b"Subject: Lunch on Friday", b"Subject: =?utf-8?q?a=0D=0AX:_y=E2=80=AE?=\r\nX-Boundary: --report-0--")
        self.send("bob@demo.test", params=" NOTIFY=SUCCESS", message=nasty)
        r = self.report()
        self.assertIn("Subject: a X: y?", r.text)
        self.assertIn(b"X-Boundary: --report-0--", r.original)

    def test_internationalised(self):
        self.server.run("account", "add", "j\u00fcrgen@demo.test", "--password-stdin", stdin="a good password\n")
        with self.server.submission() as s:
            s.ehlo()
            s.docmd("MAIL FROM:<alice@demo.test> SMTPUTF8")
            s.send("RCPT TO:<j\u00fcrgen@demo.test> NOTIFY=SUCCESS ORCPT=utf-8;j\\x{FC}rgen@demo.test\r\n".encode())
            self.assertEqual(s.getreply()[0], 250)
            self.assertEqual(s.data("Subject: Gr\u00fc\u00dfe\r\n".encode() + BODY.replace(b"Subject: Lunch on Friday\r\n", b""))[0], 250)
        r = self.report()
        self.assertEqual(r.types, ["text/plain", "message/global-delivery-status", "message/global-headers"])
        (one,) = r.recipients
        self.assertEqual((one["Original-Recipient"], one["Final-Recipient"]), ("utf-8; j\u00fcrgen@demo.test",) * 2)
        self.assertIn("j\u00fcrgen@demo.test Delivered:", r.text)
        self.assertIn("Subject: Gr\u00fc\u00dfe".encode(), r.original)


class TestLate(DsnTest):
    """A mailbox that is full, until nobody tries any more."""

    settings = {"queue.retry": "1s", "queue.delay_report": "1s", "quota.bytes": "100K"}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server.run("account", "add", "carol@demo.test", "--password-stdin", stdin="a good password\n")
        cls.server.run("alias", "add", "both@demo.test", "bob@demo.test", "carol@demo.test")
        cls.server.deliver(BODY + FILLER * 6, rcpt="carol")

    def tearDown(self):
        self.settled()
        for user in ("alice", "bob"):
            self.taken(user)

    def give_up(self):
        harness.wait_for(lambda: self.server.run("queue", "discard", "id=*", check=False).returncode == 0)

    def test_delayed_then_failed(self):
        queue_id = self.send("both@demo.test", options=" RET=FULL", message=BODY + FILLER)
        r = self.report()
        (one,) = r.recipients
        self.assertEqual((one["Action"], one["Final-Recipient"], one["Status"]), ("delayed", "rfc822; both@demo.test", "4.2.2"))
        self.assertIn("Will-Retry-Until", one)
        self.assertEqual(one["Diagnostic-Code"], "x-mailstead; Mailbox full")
        self.assertIn("Not delivered yet: the mailbox is full.", r.text)
        self.assertIn("You need not do anything", r.text)
        self.assertEqual(r.types[2], "text/rfc822-headers")
        told = {one["state"]: one["told"] for one in self.listed()[0]["recipients"]}
        self.assertEqual(told, {"done": [], "pending": ["delay"]})
        self.assertIn("its sender is told of the delay", self.server.run("queue", "show").stdout)
        time.sleep(2.5)  # tries in vain: it is said once
        self.assertEqual(self.taken(), [])
        self.give_up()
        r = self.report()
        (one,) = r.recipients
        self.assertEqual((one["Action"], one["Status"]), ("failed", "5.7.1"))
        self.assertNotIn("Will-Retry-Until", one)
        self.assertIn("Not delivered: whoever looks after this mail server has taken the message out.", r.text)
        self.assertIn("Please tell postmaster@demo.test.", r.text)
        self.assertEqual(r.types[2], "message/rfc822")
        self.assertIn(b"Shall we?", r.original)
        self.assertFalse(r.original.startswith(b"Return-Path"))
        self.settled()
        self.assertEqual(self.server.run("explain", queue_id).stdout.count(" report-end "), 2)

    def test_wishes(self):
        """NOTIFY=FAILURE: not of the delay. NEVER: of nothing."""
        self.send("both@demo.test", params=" NOTIFY=FAILURE", options=" ENVID=failure", message=BODY + FILLER)
        self.send("both@demo.test", params=" NOTIFY=NEVER", message=BODY + FILLER)
        self.send("both@demo.test", sender="", user=None, message=BODY + FILLER)
        time.sleep(3)
        self.assertEqual(self.taken(), [])
        harness.wait_for(lambda: len(self.listed()) == 3)
        self.give_up()
        r = self.report()
        self.assertEqual((r.fields["Original-Envelope-Id"], r.recipients[0]["Action"]), ("failure", "failed"))
        self.settled()
        self.assertEqual(self.taken(), [])


    def test_deleted(self):
        """An account that is deleted while it is tried: the address is no more, which is known at the next try."""
        self.server.run("account", "add", "emil@demo.test", "--password-stdin", stdin="a good password\n")
        self.server.run("alias", "add", "two@demo.test", "bob@demo.test", "emil@demo.test")
        self.server.deliver(BODY + FILLER * 6, rcpt="emil")
        self.send("bob@demo.test", "two@demo.test", params=" NOTIFY=FAILURE", message=BODY + FILLER)
        harness.wait_for(self.listed)
        self.server.allow("quota-unknown")
        self.server.run("account", "delete", "emil@demo.test")
        self.server.run("alias", "delete", "two@demo.test")
        self.assertEqual(self.report_after_flush().recipients[0]["Status"], "5.1.1")

    def report_after_flush(self):
        found = []

        def flushed():
            self.server.run("queue", "flush")
            time.sleep(0.5)
            found.extend(self.taken())
            return found

        harness.wait_for(flushed, 40)
        return Report(found[0])

    def test_sender_full(self):
        """The report itself waits for room, as a message from nobody."""
        self.server.run("account", "add", "dora@demo.test", "--password-stdin", stdin="a good password\n")
        self.server.passwords["dora@demo.test"] = "a good password"
        self.server.deliver(BODY + (b"y" * 76 + b"\r\n") * 1290, rcpt="dora")
        sent = self.send("bob@demo.test", params=" NOTIFY=SUCCESS", sender="dora@demo.test", user="dora",
                         message=BODY.replace(b"alice", b"dora"))
        harness.wait_for(lambda: [row["id"] for row in self.listed()] not in ([], [sent]))
        (row,) = harness.wait_for(lambda: [r for r in self.listed() if r["id"] != sent])
        self.assertEqual((row["sender"], [r["address"] for r in row["recipients"]]), ("", ["dora@demo.test"]))
        time.sleep(2.5)  # its own delay is nobody's to know
        self.assertEqual([r["id"] for r in self.listed()], [row["id"]])
        self.assertEqual(len(self.taken("dora")), 1)
        self.server.run("queue", "flush")
        self.assertEqual(self.report("dora").recipients[0]["Action"], "delivered")


class TestOutside(DsnTest):
    """Another server, which does what a test says."""

    ADDRESS = "127.0.0.2"
    zones = {"out.example": "* IN MX 10 a\na IN A 127.0.0.2\n"}

    @classmethod
    def setUpClass(cls):
        cls.port = ports.take()
        cls.other = receiver.Receiver(cls.ADDRESS, cls.port)
        cls.settings = {"transport.enabled": "yes", "transport.loopback": "yes", "transport.port": cls.port, "queue.remote_retry": "1s",
                        "queue.delay_report": "2s"}
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        try:
            super().tearDownClass()
        finally:
            cls.other.close()

    def setUp(self):
        self.other.reset()
        self.other.offers = ["PIPELINING", "8BITMIME"]
        # Each test has a destination of its own, so that nobody's pauses are another's.
        self.domain = "%s.out.example" % re.sub(r"[^a-z0-9]", "", self.id().split(".")[-1])

    def tearDown(self):
        self.settled()
        for user in ("alice", "bob"):
            self.taken(user)

    def test_refused(self):
        self.other.script = {"rcpt": lambda s: "550 5.1.1 <nobody> User unknown" if "nobody" in s.commands[-1] else None}
        self.send("nobody@" + self.domain, "you@" + self.domain, options=" RET=FULL ENVID=E1", params=" NOTIFY=FAILURE")
        r = self.report()
        (one,) = r.recipients  # not the one who has it (RFC 3461 5.2.8)
        self.assertEqual((one["Action"], one["Status"], one["Final-Recipient"]), ("failed", "5.1.1", "rfc822; nobody@" + self.domain))
        self.assertEqual(one["Remote-MTA"], "dns; a.out.example (127.0.0.2)")
        self.assertEqual(one["Diagnostic-Code"], "smtp; 550 5.1.1 <nobody> User unknown")
        self.assertEqual(r.fields["Original-Envelope-Id"], "E1")
        self.assertEqual(r.message["Subject"], "Not delivered: nobody@" + self.domain)
        self.assertIn("nobody@%s Not delivered: there is no mailbox with this address. What you can do: Look at" % self.domain, r.text)
        self.assertIn("The server a.out.example[127.0.0.2] said: 550 5.1.1 <nobody> User unknown", r.text)
        self.assertEqual(r.types, ["text/plain", "message/delivery-status", "message/rfc822"])
        self.assertTrue(r.original.endswith(b"\r\n\r\nShall we?\r\n"))
        self.assertNotIn(b"Return-Path", r.original)
        self.settled()
        self.assertEqual(len(self.other.messages), 1)

    def test_never_is_logged(self):
        """Who wants to be told nothing is told nothing; the log says what failed."""
        self.other.script = {"rcpt": "550 5.1.1 who"}
        self.send("nobody@" + self.domain, params=" NOTIFY=NEVER")
        harness.wait_for(lambda: "event=undeliverable" in self.server.log() and "to=nobody@%s status=5.1.1 " % self.domain in self.server.log(), 20, 0.1)
        self.settled()
        self.assertEqual(self.taken(), [])

    def test_report_refused(self):
        """A report that another server refuses is the end of it: nobody is told, the log and the time line say so."""
        self.other.script = {"rcpt": "550 5.1.1 who"}
        queue_id = self.send("bob@demo.test", params=" NOTIFY=SUCCESS", sender="x@" + self.domain, user=None)
        harness.wait_for(lambda: re.search("role=queue level=info event=undeliverable .*to=x@%s status=5.1.1 " % self.domain, self.server.log()), 20, 0.1)
        self.settled()
        rows = json.loads(self.server.run("--json", "explain", queue_id).stdout)
        self.assertEqual([r["fields"]["to"] for r in rows if r["event"] == "undeliverable"], ["x@" + self.domain])
        self.assertEqual(self.taken(), [])

    def test_wishes(self):
        """Success: relayed to a server without DSN, left to one with it. NEVER and the default: nothing."""
        for params in ("", " NOTIFY=NEVER", " NOTIFY=FAILURE,DELAY"):
            self.send("you@" + self.domain, params=params)
        self.settled()
        self.other.offers.append("DSN")
        self.other.end_sessions()
        self.send("you@dsn-" + self.domain, params=" NOTIFY=SUCCESS,FAILURE", options=" ENVID=E2 RET=HDRS")
        self.settled()
        self.assertIn("NOTIFY=SUCCESS,FAILURE", " ".join(self.other.sessions[-1].commands))
        self.other.offers.remove("DSN")
        self.other.end_sessions()
        self.send("you@" + self.domain, params=" NOTIFY=SUCCESS", options=" ENVID=E3")
        r = self.report()
        (one,) = r.recipients
        self.assertEqual((one["Action"], one["Status"], r.fields["Original-Envelope-Id"]), ("relayed", "2.0.0", "E3"))
        self.assertIn("does not report what becomes of it there", r.text)
        self.assertEqual(one["Remote-MTA"], "dns; a.out.example (127.0.0.2)")
        self.assertEqual(len(self.other.messages), 5)

    def test_never(self):
        self.other.script = {"rcpt": "550 5.1.1 no"}
        self.send("you@" + self.domain, params=" NOTIFY=NEVER")
        self.send("you@" + self.domain, params=" NOTIFY=SUCCESS,DELAY")
        self.settled()
        self.send("you@" + self.domain, options=" ENVID=last")
        self.assertEqual(self.report().fields["Original-Envelope-Id"], "last")

    def test_named_twice(self):
        """One delivery for two recipients is told of as either of them wants it; NEVER stands alone (RFC 3461 4.1)."""
        self.other.offers.append("DSN")
        for first, second, want in (("NEVER", "FAILURE", " NOTIFY=FAILURE"), ("SUCCESS", "NEVER", " NOTIFY=SUCCESS"), ("NEVER", "NEVER", " NOTIFY=NEVER"),
                                    ("", "SUCCESS", " NOTIFY=SUCCESS,FAILURE,DELAY"), ("", "NEVER", " NOTIFY=FAILURE,DELAY"), ("", "", "")):
            self.other.reset()
            with self.server.submission() as s:
                s.ehlo()
                s.docmd("MAIL FROM:<alice@demo.test>")
                for wish in (first, second):
                    self.assertEqual(s.docmd("RCPT TO:<you@%s>%s" % (self.domain, wish and " NOTIFY=" + wish))[0], 250)
                self.assertEqual(s.data(BODY)[0], 250)
            self.settled()
            self.assertEqual([c for s in self.other.sessions for c in s.commands if c.startswith("RCPT")], ["RCPT TO:<you@%s>%s" % (self.domain, want)])

    def test_delayed(self):
        self.other.script = {"rcpt": "450 4.2.1 come back later"}
        self.send("you@" + self.domain)
        r = self.report()
        (one,) = r.recipients
        self.assertEqual((one["Action"], one["Status"]), ("delayed", "4.2.1"))
        self.assertEqual(one["Diagnostic-Code"], "smtp; 450 4.2.1 come back later")
        self.assertIn("Will-Retry-Until", one)
        self.other.script = {}
        self.settled()
        self.assertEqual(self.taken(), [])
        self.assertEqual(len(self.other.messages), 1)

    def test_hostile_reply(self):
        self.other.script = {"dot": "554-5.7.1 no\r\n554-5.7.1 \x1b[31m--x\x07\r\n554 5.7.1 Action: delivered"}
        self.send("you@" + self.domain)
        r = self.report()
        (one,) = r.recipients
        self.assertEqual((one["Action"], one["Status"]), ("failed", "5.7.1"))
        self.assertTrue(one["Diagnostic-Code"].startswith("smtp; 554"), one)
        self.assertNotIn(b"\x1b", r.raw)

    def test_letters(self):
        """CORNERS Q-10: an address that the other server cannot take."""
        with self.server.submission() as s:
            s.ehlo()
            s.docmd("MAIL FROM:<alice@demo.test> SMTPUTF8")
            s.send(("RCPT TO:<j\u00fcrgen@%s>\r\n" % self.domain).encode())
            self.assertEqual(s.getreply()[0], 250)
            self.assertEqual(s.data(BODY)[0], 250)
        r = self.report()
        self.assertEqual(r.types, ["text/plain", "message/global-delivery-status", "message/global-headers"])  # it is in Received
        (one,) = r.recipients
        self.assertEqual((one["Action"], one["Status"][2:], one["Final-Recipient"]), ("failed", "6.7", "utf-8; j\u00fcrgen@" + self.domain))
        self.assertIn("Ask the person for an address in plain letters", r.text)

    def test_forwarded(self):
        self.server.run("alias", "add", "away@demo.test", "you@" + self.domain)
        self.other.script = {"rcpt": "550 5.1.1 gone"}
        self.send("away@demo.test", params=" ORCPT=rfc822;away+40demo.test")
        r = self.report()
        (one,) = r.recipients
        self.assertEqual((one["Action"], one["Original-Recipient"]), ("failed", "rfc822; away@demo.test"))
        self.assertIn("What comes for this address is sent on to another one.", r.text)
        self.assertNotIn("typing mistake", r.text)

    def test_forwarded_confidential(self):
        """Where an address of ours leads is not told, whatever the sender says of the original recipient (RFC 3464 4.2)."""
        self.server.run("alias", "add", "hidden@demo.test", "secret@" + self.domain)
        self.other.script = {"rcpt": "550 5.1.1 secret is gone"}
        for orcpt, final in ((" ORCPT=x400;c+3Dde", "rfc822; undisclosed"), ("", "rfc822; hidden@demo.test"),
                             (" ORCPT=rfc822;list+40else.example", "rfc822; list@else.example")):
            self.send("hidden@demo.test", params=" NOTIFY=FAILURE" + orcpt)
            r = self.report()
            (one,) = r.recipients
            self.assertEqual((one["Action"], one["Status"], one["Final-Recipient"]), ("failed", "5.1.1", final))
            self.assertNotIn(b"secret", r.raw)

    def test_author(self):
        """A report that leaves is never from a domain that the sender has put into ORCPT."""
        self.server.run("alias", "add", "aside@demo.test", "you@" + self.domain)
        self.other.script = {"rcpt": lambda s: "550 5.1.1 gone" if "<you@" in s.commands[-1] else None}
        self.send("aside@demo.test", params=" ORCPT=rfc822;x+40bank.example", sender="else@" + self.domain, user=None,
                  message=BODY.replace(b"From: alice@demo.test", b"From: else@" + self.domain.encode()))
        self.settled()
        harness.wait_for(lambda: self.other.messages)
        ((mail, to, octets, _),) = self.other.messages
        self.assertEqual((mail[:2], to), ("<>", ["<else@%s>" % self.domain]))
        self.assertIn(b"\r\nFrom: Mail server <postmaster@demo.test>\r\n", b"\r\n" + octets)

    def test_sender_elsewhere(self):
        """A report leaves with the null reverse-path, and is not reported about when it is refused."""
        for name, script in (("first-", {}), ("second-", {"rcpt": "550 5.1.1 no"})):
            domain = name + self.domain
            self.other.reset(**script)
            self.send("bob@demo.test", params=" NOTIFY=SUCCESS", sender="else@" + domain, user=None)
            harness.wait_for(lambda: self.other.sessions, 20, 0.1)
            self.settled()
            self.assertEqual(self.taken(), [])
            self.assertEqual([c for c in self.other.sessions[-1].commands if c.startswith("MAIL")][0][:12], "MAIL FROM:<>")
            self.assertEqual(len(self.other.sessions), 1)
            if not script:
                ((_, to, octets, _),) = self.other.messages
                self.assertEqual(to, ["<else@%s>" % domain])
                self.assertFalse(octets.startswith(b"Return-Path"))
                self.assertIn(b"From: Mail server <postmaster@demo.test>\r\n", octets)


class TestKills(DsnTest):
    """kill -9 of those who make a report: it comes once."""

    settings = {"queue.retry": "1s"}
    MESSAGES = 60

    def test_once(self):
        self.server.allow(r"level=(warn|error)")  # dying roles are reported
        taken, ended = [], threading.Event()

        def post():
            try:
                for n in range(self.MESSAGES):
                    try:
                        self.send("bob@demo.test", params=" NOTIFY=SUCCESS", options=" ENVID=n%d" % n)
                        taken.append("n%d" % n)
                    except (AssertionError, OSError, smtplib.SMTPException):
                        pass  # it was refused for the moment, and may be there all the same
            finally:
                ended.set()

        def kill():
            turn = 0
            while not ended.wait(0.7):
                role = ("smtpd-deliver", "smtpd-queue", "smtpd-verify", "store-keeper")[turn % 4]
                turn += 1
                for pid in self.server.processes().get(role, [])[:1]:
                    os.kill(pid, signal.SIGKILL)

        harness.in_threads([post, kill])
        self.assertGreater(len(taken), self.MESSAGES // 4)
        harness.wait_for(lambda: self.server.run("queue", "list", check=False).returncode == 0, 20, 0.2)
        harness.wait_for(lambda: not self.listed(), 60, 0.5)
        told = [Report(raw).fields["Original-Envelope-Id"] for raw in self.taken()]
        self.assertEqual(len(told), len(set(told)), sorted(told))
        self.assertEqual(set(taken) - set(told), set())


if __name__ == "__main__":
    unittest.main()
