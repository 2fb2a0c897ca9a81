"""What leaves: from a user's submission to other servers, which do at each stage all that servers do."""

import datetime
import email
import json
import os
import re
import socket
import tempfile
import threading
import time
import unittest

import dnsserver
import harness
import ports
import receiver
from receiver import CLOSE, HANG, RESET
from test_descriptors import Without

MESSAGE = b"From: alice@demo.test\r\nTo: you@else.example\r\nSubject: out\r\n\r\n.dot\r\nhello\r\n"
FIRST, SECOND, DEAF = "127.0.0.2", "127.0.0.3", "127.0.0.8"
# What servers say to a host that they have heard ill of.
BLOCKED = "550 5.7.1 Service unavailable; client [192.0.2.1] blocked using dnsbl.example"
# How long a server that hangs is waited for: more than one takes that is only slow.
PATIENCE = "5s" if harness.INSTRUMENTED else "2s"
FAST = {"transport.enabled": "yes", "transport.loopback": "yes", "queue.remote_retry": "1h",
        **{"transport.timeout_" + what: PATIENCE for what in ("connect", "command", "data", "dot")}}


def zone(first=FIRST, second=SECOND):
    return "@ IN MX 10 a\n@ IN MX 20 b\na IN A %s\nb IN A %s\n" % (first, second)


class OutboundTest(harness.InstanceTest):
    """Every domain of .test-out.example has a first and a second server; a test takes a name of its own."""
    more_zones = {}
    more_settings = {}

    @classmethod
    def setUpClass(cls):
        cls.port = getattr(cls, "port", None) or ports.take()
        cls.first, cls.second = (receiver.Receiver(a, cls.port) for a in (FIRST, SECOND))
        cls.zones = {"out.example": "* IN MX 10 a\n* IN MX 20 b\na IN A %s\nb IN A %s\n" % (FIRST, SECOND), **cls.more_zones}
        cls.settings = {**FAST, "transport.port": cls.port, **cls.more_settings}
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        try:
            super().tearDownClass()
        finally:
            for r in (cls.first, cls.second):
                r.close()

    def setUp(self):
        self.first.reset()
        self.second.reset()
        self.domain = re.sub(r"[^a-z0-9]", "", self.id().split(".")[-1].lower()) + "%d.out.example" % (time.time_ns() // 1000000)

    def submit(self, *to, message=MESSAGE, options=(), rcpt_options=()):
        with self.server.submission() as s:
            s.ehlo()
            self.assertEqual(s.mail("alice@demo.test", options)[0], 250)
            for one in to:
                self.assertEqual(s.rcpt(one if "@" in one else "%s@%s" % (one, self.domain), rcpt_options)[0], 250, one)
            code, text = s.data(message)
        self.assertEqual(code, 250, text)
        return text.split()[-1].decode()

    def events(self, queue_id, event=None):
        rows = json.loads(self.server.run("--json", "explain", queue_id).stdout)
        return [r["fields"] for r in rows if r["fields"].get("id") == queue_id and (event is None or r["event"] == event)]

    def results(self, queue_id, count=1):
        """{address: (state, status)} once that many recipients have one."""
        def known():
            found = self.events(queue_id, "remote-result")
            return found if len(found) >= count else None
        found = harness.wait_for(known, 60, 0.05)
        return {r["to"].split("@")[0]: (r["state"], r["status"]) for r in found}

    def one(self, want, to="x", **kw):
        queue_id = self.submit(to, **kw)
        self.assertEqual(self.results(queue_id)[to.split("@")[0]], want)
        return queue_id


class TestDialogue(OutboundTest):
    more_zones = {"deaf.example": "* IN MX 10 deaf\n* IN MX 20 b\ndeaf IN A %s\nb IN A %s\n" % (DEAF, SECOND)}

    def test_delivered(self):
        queue_id = self.one(("done", "2.0.0"))
        (mail, rcpts, octets, session), = self.first.messages
        self.assertTrue(mail.startswith("<alice@demo.test>"), mail)
        self.assertEqual(rcpts, ["<x@%s>" % self.domain])
        self.assertTrue(octets.endswith(b"\r\n\r\n.dot\r\nhello\r\n"), octets)
        self.assertNotIn(b"Return-Path", octets)
        self.assertEqual(self.second.sessions, [])
        self.assertEqual(len(self.events(queue_id, "end-sent")), 1)

    def test_each_recipient_its_own(self):
        replies = {"a": "550 5.1.1 who", "b": "450 4.2.1 grey", "c": None}
        self.first.reset(rcpt=lambda s: replies[s.commands[-1].split("<")[1][0]])
        queue_id = self.submit("a", "b", "c")
        self.assertEqual(self.results(queue_id, 3), {"a": ("failed", "5.1.1"), "b": ("pending", "4.2.1"), "c": ("done", "2.0.0")})
        self.assertEqual(len(self.first.messages), 1)
        self.assertEqual(self.second.sessions, [])
        replied = self.events(queue_id, "remote-reply")
        self.assertIn("550 5.1.1 who", [r["reply"] for r in replied])

    def test_refused_at_each_stage(self):
        """What a server that was ready says holds."""
        for stage in ("mail", "rcpt", "data", "dot"):
            for code, state in (("451 4.9.9 later", "pending"), ("554 5.9.9 never", "failed")):
                with self.subTest(stage=stage, code=code):
                    self.setUp()
                    self.first.reset(**{stage: code})
                    self.one((state, code.split()[1]))
                    self.assertEqual(self.second.sessions, [])

    def test_refused_by_reputation(self):
        """No other way is configured."""
        for stage in ("greeting", "mail", "rcpt", "dot"):
            with self.subTest(stage=stage):
                self.setUp()
                for r in (self.first, self.second):
                    r.reset(**{stage: BLOCKED})
                queue_id = self.one(("failed", "5.7.1"))
                self.assertEqual(self.events(queue_id, "fallback"), [])
                self.assertEqual(len(harness.wait_for(lambda: self.events(queue_id, "undeliverable"), 10)), 1)

    def test_next_server(self):
        """A server that cannot be spoken to, or goes before the message is whole, leaves it to the next."""
        for stage in ("greeting", "ehlo", "mail", "rcpt", "data"):
            for what in ("421 4.3.2 away", RESET, CLOSE, HANG):
                with self.subTest(stage=stage, what=what):
                    self.setUp()
                    self.first.reset(**{stage: what})
                    self.one(("done", "2.0.0"))
                    self.assertEqual(len(self.second.messages), 1)
        for stage, what in (("greeting", "554 5.3.2 no mail"), ("greeting", "451 later"), ("ehlo", "451 later"), ("greeting", "HTTP/1.1 400")):
            with self.subTest(stage=stage, what=what):
                self.setUp()
                self.first.reset(**{stage: what if what[0].isdigit() else "220 x\n250 y"})
                self.one(("done", "2.0.0"))

    def test_hang_at_connect(self):
        """Neither yes nor no: the next server has the message, after the time-out."""
        address = DEAF
        deaf = receiver.Deaf(address, self.port)
        try:
            self.assertTrue(deaf.filled)
            queue_id = self.one(("done", "2.0.0"), to="x@deaf-first.deaf.example")
        finally:
            deaf.close()
        self.assertEqual(len(self.second.messages), 1)
        failed, = self.events(queue_id, "remote-failed")
        self.assertEqual((failed["mta"], failed["at"]), ("deaf.deaf.example[%s]" % address, "connect"))
        self.assertEqual(failed["text"], "the server did not answer in time")

    def test_hang_at_helo(self):
        self.first.reset(ehlo="502 what", helo=HANG)
        self.one(("done", "2.0.0"))
        self.assertEqual(len(self.second.messages), 1)

    def test_goes_at_rset(self):
        """What it said of the message holds, however it takes the question after that; the next message has a connection of its own."""
        for offers, stage, said in ((["PIPELINING"], "rcpt", "550 5.9.9 never"), ([], "data", "451 4.9.9 later"), (["CHUNKING"], "dot", "451 4.9.9 later")):
            for what in (HANG, RESET, CLOSE, "421 4.3.2 away", "502 5.5.1 what"):
                with self.subTest(stage=stage, what=what):
                    self.setUp()
                    self.first.offers = offers
                    self.first.reset(**{stage: said, "rset": what})
                    try:
                        self.one(("failed" if said[0] == "5" else "pending", said.split()[1]))
                        self.assertEqual(self.first.sessions[0].commands[-1], "RSET")
                        self.first.script = {}
                        self.one(("done", "2.0.0"), to="y")
                    finally:
                        self.first.offers = ["PIPELINING", "8BITMIME", "STARTTLS"]
                    self.assertEqual([rcpts for _, rcpts, _, _ in self.first.messages], [["<y@%s>" % self.domain]])
                    self.assertEqual((len(self.first.sessions), self.second.sessions), (2, []))

    def test_goes_at_quit(self):
        """Nobody waits for the answer, and it changes nothing."""
        for what in (HANG, RESET, CLOSE, "421 4.3.2 away", "554 5.5.1 stay"):
            with self.subTest(what=what):
                self.setUp()
                self.first.reset(quit=what)
                queue_ids = [self.one(("done", "2.0.0"))]
                harness.wait_for(lambda: self.first.sessions[0].commands[-1] == "QUIT", 10)
                queue_ids.append(self.one(("done", "2.0.0"), to="y"))
                self.assertEqual([len(self.events(i, "remote-result")) for i in queue_ids], [1, 1])
                self.assertEqual([rcpts for _, rcpts, _, _ in self.first.messages], [["<%s@%s>" % (name, self.domain)] for name in "xy"])
                self.assertEqual(self.second.sessions, [])

    def test_stops_in_the_body(self):
        """It reads a part of the message, and no more."""
        text = b"".join(b"%d %s\r\n" % (n, b"x" * 60) for n in range(30000))
        for offers in (["PIPELINING"], ["CHUNKING"]):
            for what in (HANG, RESET, CLOSE):
                with self.subTest(offers=offers, what=what):
                    self.setUp()
                    self.first.offers = offers
                    self.first.reset(body=what)
                    try:
                        queue_id = self.one(("done", "2.0.0"), message=MESSAGE + text)
                    finally:
                        self.first.offers = ["PIPELINING", "8BITMIME", "STARTTLS"]
                    self.assertEqual((len(self.first.messages), len(self.second.messages)), (0, 1))
                    self.assertTrue(self.second.messages[0][2].endswith(b"hello\r\n" + text))
                    failed, = self.events(queue_id, "remote-failed")
                    self.assertEqual(failed["at"], "body")
                    if what == HANG:
                        self.assertEqual(failed["text"], "the server did not answer in time")

    def test_lost_after_the_end(self):
        """The message may have arrived: it is not sent to the next server."""
        for what in (RESET, CLOSE, HANG):
            with self.subTest(what=what):
                self.setUp()
                self.first.reset(dot=what)
                queue_id = self.one(("pending", "4.4.2"))
                self.assertEqual([r["unsure"] for r in self.events(queue_id, "remote-result")], ["1"])
                self.assertEqual(self.second.sessions, [])
        self.setUp()
        self.first.reset(dot="421 4.3.2 going")
        self.one(("pending", "4.3.2"))

    def test_nobody_there(self):
        for r in (self.first, self.second):
            r.reset(greeting="554 5.3.2 no mail here")
        self.one(("failed", "5.3.2"))
        self.setUp()
        self.first.reset(greeting="554 5.3.2 no mail here")
        self.second.reset(greeting="421 4.3.2 later")
        self.one(("pending", "4.3.2"))

    def test_hello(self):
        self.first.reset(ehlo="502 what")
        self.one(("done", "2.0.0"))
        self.assertEqual([c.split()[0] for c in self.first.sessions[0].commands], ["EHLO", "HELO", "MAIL", "RCPT", "DATA"])

    def test_one_connection(self):
        """Messages that follow each other share a connection."""
        for _ in range(3):
            self.one(("done", "2.0.0"))
        self.assertEqual([len(self.first.messages), len(self.first.sessions)], [3, 1])
        # One that the server has closed meanwhile is no failure.
        for s in self.first.sessions:
            s.conn.shutdown(socket.SHUT_RDWR)
        self.one(("done", "2.0.0"))
        harness.wait_for(lambda: len(self.first.sessions) == 2)
        # It is not kept for ever.
        harness.wait_for(lambda: self.first.sessions[1].commands[-1] == "QUIT", 10)

    def test_one_connection_to_a_server(self):
        """It may be for another domain that has the same server."""
        for i in range(3):
            self.one(("done", "2.0.0"), to="x@s%d-%s" % (i, self.domain))
        self.assertEqual([len(self.first.messages), len(self.first.sessions)], [3, 1])
        self.assertEqual([rcpts for _, rcpts, _, _ in self.first.messages], [["<x@s%d-%s>" % (i, self.domain)] for i in range(3)])

    def test_no_socket_left(self):
        """What this machine lacks is not held against the destination: it is tried again soon."""
        self.server.allow("transport-no-socket")
        with Without(self.server.processes()["smtpd-transport"], 1):  # for the message
            queue_id = self.submit("x")
            harness.wait_for(lambda: "transport-no-socket" in self.server.log(), 20)
        self.assertEqual(self.results(queue_id)["x"], ("done", "2.0.0"))
        self.assertNotIn("destination-asleep destination=" + self.domain, self.server.log())

    def test_goes_when_used_again(self):
        self.one(("done", "2.0.0"))
        self.first.script = {"mail": CLOSE}
        self.one(("done", "2.0.0"))
        self.assertEqual((len(self.first.messages), len(self.second.messages)), (1, 1))

    def test_extensions(self):
        self.first.offers = ["PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 100000", "DSN"]
        queue_id = self.one(("done", "2.0.0"), message="From: alice@demo.test\r\nSubject: é\r\n\r\né\r\n".encode(), options=["SMTPUTF8", "BODY=8BITMIME"], to="é")
        commands = self.first.sessions[0].commands
        self.assertRegex(commands[1], r"^MAIL FROM:<alice@demo.test> SIZE=\d+ BODY=8BITMIME SMTPUTF8")
        self.assertIn("é@", commands[2])
        self.setUp()
        for r in (self.first, self.second):
            r.offers = ["8BITMIME", "SIZE 100"]
        self.one(("failed", "5.3.4"))
        self.setUp()
        for r in (self.first, self.second):
            r.offers = ["8BITMIME"]
        self.one(("failed", "5.6.7"), message="From: alice@demo.test\r\nSubject: é\r\n\r\né\r\n".encode(), options=["SMTPUTF8"])
        self.assertEqual([len(r.sessions) for r in (self.first, self.second)], [1, 1])
        for r in (self.first, self.second):
            r.offers = ["PIPELINING", "8BITMIME", "STARTTLS"]
        self.assertTrue(queue_id)


class TestBig(OutboundTest):
    more_settings = {"transport.timeout_data": "1m", "transport.timeout_dot": "1m"}

    def test_big(self):
        text = b"".join(b".%d %s\r\n" % (n, b"x" * 60) for n in range(40000))
        for offers in (["PIPELINING"], ["CHUNKING"], ["CHUNKING", "PIPELINING"], []):
            with self.subTest(offers=offers):
                self.setUp()
                self.first.offers = offers
                self.one(("done", "2.0.0"), message=MESSAGE + text)
                self.assertTrue(self.first.messages[0][2].endswith(b"hello\r\n" + text))


class TestSlow(OutboundTest):
    more_settings = {"transport.timeout_data": "10s", "transport.data_rate": "1M", "transport.timeout_dot": "1m"}

    def test_slow_reader(self):
        """A server that takes something now and then does not keep a connection for ever: the next has the message."""
        text = b"".join(b"%d %s\r\n" % (n, b"x" * 60) for n in range(60000))
        for offers in (["PIPELINING"], ["CHUNKING", "STARTTLS"]):
            with self.subTest(offers=offers):
                self.setUp()
                self.first.offers = offers
                self.first.line_seconds = 0.001  # all of it would take a minute
                try:
                    queue_id = self.submit("x", message=MESSAGE + text)
                    self.assertEqual(self.results(queue_id)["x"], ("done", "2.0.0"), self.server.run("explain", queue_id).stdout)
                finally:
                    self.first.line_seconds = 0
                self.assertEqual((len(self.first.messages), len(self.second.messages)), (0, 1))
                rows = json.loads(self.server.run("--json", "explain", queue_id).stdout)
                failed, = [r for r in rows if r["event"] == "remote-failed"]
                self.assertEqual((failed["fields"]["at"], failed["fields"]["text"]), ("body", "the server did not answer in time"))
                # In time it took of each piece, but not all of it: 10 s and one for each 1 MiB.
                route, = [r for r in rows if r["event"] == "route"]
                seconds = (datetime.datetime.fromisoformat(failed["time"]) - datetime.datetime.fromisoformat(route["time"])).total_seconds()
                self.assertGreater(seconds, 12)
                self.assertLess(seconds, 30)


class TestSevenBits(OutboundTest):
    """Servers that take 7 bits alone (RFC 6152 3, RFC 3030 3), and what is 7 bits before it is signed (RFC 6376 5.3)."""
    HEAD = b"From: alice@demo.test\r\nTo: you@else.example\r\nSubject: out\r\nMIME-Version: 1.0\r\n"
    TEXT = "Grüße aus Köln: ein Text mit Umlauten, und einer langen Zeile %s\r\n" % ("x" * 100)
    BINARY = bytes(range(256)) * 300
    MIXED = HEAD + (b"Content-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: binary\r\n\r\n--b\r\n"
                    b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + TEXT.encode() +
                    b"\r\n--b\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n\r\n" + BINARY + b"\r\n--b--\r\n")
    SIGNED = HEAD + (b"Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\n"
                     b"Content-Transfer-Encoding: 8bit\r\n\r\n" + TEXT.encode() + b"--b\r\nContent-Type: application/pgp-signature\r\n\r\nx\r\n--b--\r\n")

    def offer(self, *words):
        for r in (self.first, self.second):
            r.offers = list(words)

    def parts(self, octets):
        """Content-Transfer-Encoding and decoded octets of each leaf."""
        self.assertTrue(octets.isascii())
        self.assertLess(max(len(line) for line in octets.split(b"\r\n")), 999)
        message = email.message_from_bytes(octets)
        self.assertIn(message["Content-Transfer-Encoding"], ("7bit", "quoted-printable", "base64", None))
        return [(p["Content-Transfer-Encoding"], p.get_payload(decode=True)) for p in message.walk() if not p.is_multipart()]

    def submit_binary(self, message):
        with self.server.submission() as s:
            s.ehlo()
            self.assertEqual(s.mail("alice@demo.test", ["BODY=BINARYMIME"])[0], 250)
            for to in ("x@" + self.domain, "alice@demo.test"):
                self.assertEqual(s.rcpt(to)[0], 250)
            s.send(b"BDAT %d LAST\r\n" % len(message) + message)
            code, text = s.getreply()
            self.assertEqual(code, 250, text)
        return text.split()[-1].decode()

    def test_submitted(self):
        """Whatever the server offers, and here as well: one message, one form."""
        for offers in ((), ("8BITMIME", "CHUNKING", "BINARYMIME"), ("CHUNKING",)):
            with self.subTest(offers=offers):
                self.setUp()
                self.offer(*offers)
                queue_id = self.submit_binary(self.MIXED)
                self.assertEqual(self.results(queue_id)["x"], ("done", "2.0.0"))
                (mail, _, octets, _), = self.first.messages
                self.assertNotIn("BODY=", mail)
                self.assertEqual(self.parts(octets), [("quoted-printable", self.TEXT.encode()), ("base64", self.BINARY)])
                self.assertEqual([r["bodies"] for r in self.events(queue_id, "recoded")], ["2"])
        with self.server.imap() as c:
            c.select("INBOX", readonly=True)
            # Beside them a report of test_signed_content may have come.
            found = c.search(None, "FROM", "alice@demo.test")[1][0].split()
            self.assertEqual(len(found), 3)
            self.assertEqual(self.parts(c.fetch(found[0], "BODY.PEEK[]")[1][0][1])[1], ("base64", self.BINARY))
            self.assertIn(b'"BASE64"', c.fetch(found[0], "BODYSTRUCTURE")[1][0].upper())

    def test_with_what_is_left_out(self):
        """Bcc goes, what is missing comes, and the octets beside them change, all at once."""
        self.offer()
        message = (b"Return-Path: <x@else.example>\r\nBcc: secret@else.example\r\nFrom: alice@demo.test\r\nContent-Type: text/plain; charset=utf-8\r\nBcc: other@else.example\r\n"
                   b"Subject: out\r\n\r\n" + self.TEXT.encode())
        self.one(("done", "2.0.0"), message=message, options=["BODY=8BITMIME"])
        octets = self.first.messages[0][2]
        self.assertEqual(self.parts(octets), [("quoted-printable", self.TEXT.encode())])
        head = email.message_from_bytes(octets)
        self.assertEqual((head["Bcc"], head["Return-Path"], head["MIME-Version"], head["Content-Type"]), (None, None, "1.0", "text/plain; charset=utf-8"))
        self.assertTrue(head["Date"] and head["Message-ID"])

    def test_here_it_stays(self):
        with self.server.submission("bob") as s:
            s.ehlo()
            s.sendmail("bob@demo.test", ["bob@demo.test"], self.MIXED.replace(b"alice@", b"bob@").replace(self.BINARY, b"\xff" * 10), ["BODY=8BITMIME"])
        with self.server.imap("bob") as c:
            harness.wait_for(lambda: c.select("INBOX", readonly=True)[1] == [b"1"], 30)
            self.assertIn(self.TEXT.encode(), c.fetch("1", "BODY.PEEK[]")[1][0][1])

    def test_signed_content(self):
        """What its author has signed is sent as it is, or comes back."""
        self.offer("8BITMIME")
        self.one(("done", "2.0.0"), message=self.SIGNED, options=["BODY=8BITMIME"])
        self.assertTrue(self.first.messages[0][2].endswith(self.SIGNED))
        self.setUp()
        self.offer("SIZE")
        queue_id = self.one(("failed", "5.6.3"), message=self.SIGNED, options=["BODY=8BITMIME"])
        self.assertIn("signed", self.events(queue_id, "remote-result")[0]["text"])

    def test_sent_on(self):
        """Somebody else's message stays as it is where that can be, and arrives where it cannot."""
        self.server.run("alias", "add", "on@demo.test", "x@" + self.domain)
        message = self.MIXED.replace(b"alice@demo.test", b"a@client.example").replace(self.BINARY, b"\x89PNG" * 10).replace(b": binary", b": 8bit")
        for offers, same in ((("8BITMIME",), True), (("PIPELINING", "SIZE"), False), (("CHUNKING",), False)):
            with self.subTest(offers=offers):
                self.first.reset()
                self.offer(*offers)
                with self.server.smtp() as s:
                    s.ehlo()
                    s.sendmail("a@client.example", ["on@demo.test"], message, ["BODY=8BITMIME"])
                harness.wait_for(lambda: self.first.messages, 30)
                mail, _, octets, _ = self.first.messages[0]
                self.assertEqual(octets.endswith(message), same)
                self.assertEqual("BODY=8BITMIME" in mail, same)
                if not same:
                    self.assertEqual(self.parts(octets), [("quoted-printable", self.TEXT.encode()), ("base64", b"\x89PNG" * 10)])
                if "SIZE" in offers:
                    self.assertIn("SIZE=%d" % len(octets), mail)
        self.server.run("alias", "delete", "on@demo.test")


class TestRoutes(OutboundTest):
    more_zones = {"null.example": "@ IN MX 0 .\n", "implicit.example": "@ IN A %s\n" % FIRST, "bare.example": "@ IN TXT x\n",
                  "own.example": "@ IN MX 5 mail.demo.test.\n@ IN MX 10 a\na IN A %s\n" % FIRST,
                  "alias.example": "@ IN MX 10 a\na IN CNAME b\nb IN A %s\n" % FIRST, "lame.example": "@ IN MX 10 gone\n@ IN MX 20 a\na IN A %s\n" % FIRST,
                  "dead.example": zone("127.0.0.9", FIRST)}

    def test_routes(self):
        for domain, want in (("null.example", ("failed", "5.1.10")), ("implicit.example", ("done", "2.0.0")), ("bare.example", ("failed", "5.4.4")),
                             ("nowhere.example", ("failed", "5.1.2")), ("alias.example", ("done", "2.0.0")), ("lame.example", ("done", "2.0.0")),
                             ("dead.example", ("done", "2.0.0"))):
            with self.subTest(domain=domain):
                self.one(want, to="x@" + domain)

    def test_explained(self):
        queue_id = self.one(("done", "2.0.0"), to="x@dead.example")
        route, = self.events(queue_id, "route")
        self.assertIn("10 a.dead.example [127.0.0.9], 20 b.dead.example [%s]" % FIRST, route["hosts"])


class TestNextTry(OutboundTest):
    """When a message is tried again, and why then: the time line and the queue say the same."""
    more_zones = {"dead.example": "* IN MX 10 a\na IN A 127.0.0.9\n"}

    def shown(self, queue_id):
        """The times of the message and of its recipients."""
        row, = json.loads(self.server.run("--json", "queue", "show", queue_id).stdout)
        return {row["next"], *(r["next"] for r in row["recipients"] if r["state"] == "pending")}

    def result(self, queue_id, count=1):
        found = harness.wait_for(lambda: (lambda e: e if len(e) == count else None)(self.events(queue_id, "queue-result")), 20)
        return found[-1]

    def test_told_to_come_later(self):
        self.first.reset(rcpt="451 4.7.1 later")
        queue_id = self.submit("x", "y")
        result = self.result(queue_id)
        self.assertEqual((result["then"], result["why"], result["attempts"]), ("again", "attempts", "1"))
        self.assertEqual(self.shown(queue_id), {result["next"]})
        self.assertIn("next " + result["next"], self.server.run("queue", "show", queue_id).stdout)

    def test_asleep(self):
        """Nobody is there: what was tried waits for its own time or that of its destination, the later of the two, and what comes then waits as well."""
        whys = set()
        for n in range(12):
            to = "x@d%d.dead.example" % n
            first = self.submit(to)
            result = self.result(first)
            whys.add(result["why"])
            self.assertEqual(self.shown(first), {result["next"]})
            second = self.submit(to)
            asleep, = harness.wait_for(lambda: self.events(second, "queue-asleep"), 10)
            self.assertEqual((asleep["destination"], asleep["why"]), (to[2:], "asleep"))
            self.assertEqual(self.shown(second), {asleep["next"]})
            self.assertEqual(self.events(second, "queue-result"), [])
            if result["why"] == "asleep":
                self.assertEqual(result["next"], asleep["next"])
            else:
                self.assertGreaterEqual(result["next"], asleep["next"])
            self.assertEqual(self.events(first, "queue-asleep"), [])
            if n >= 1 and len(whys) == 2:
                break
        self.assertEqual(whys, {"attempts", "asleep"})
        # Tried by hand, in vain: the time is another one, and is said.
        self.server.run("queue", "retry", second)
        result = self.result(second)
        self.assertEqual(self.shown(second), {result["next"]})
        self.assertEqual(len(self.events(second, "queue-asleep")), 1)


class TestTls(OutboundTest):
    """Encryption that nobody demands: any certificate, and none when it fails."""

    @classmethod
    def setUpClass(cls):
        cls.ca, issue = receiver.authority(tempfile.mkdtemp(prefix="mailstead-out-"))
        cls.issue = staticmethod(issue)
        cls.more_settings = {"tls.authorities": cls.ca}
        super().setUpClass()

    def tls(self, queue_id):
        return [(r["tls"].split()[0], r["proof"]) for r in self.events(queue_id, "remote-tls")]

    def test_proof(self):
        for names, expired, want in ((["a.out.example"], False, "ca"), (["other.example"], False, "none"), (["a.out.example"], True, "none")):
            with self.subTest(names=names, expired=expired):
                self.setUp()
                self.first.context = receiver.context(self.issue(*names, expired=expired))
                queue_id = self.one(("done", "2.0.0"))
                self.assertEqual(self.tls(queue_id), [("TLS1.3", want)])
                self.assertEqual(self.first.sessions[0].sni, "a.out.example")
                self.assertEqual(self.first.messages[0][3].tls, "TLSv1.3")

    def test_fails(self):
        """The same server again, in clear."""
        self.first.context = receiver.context(self.issue("a.out.example"))
        for stage, what in [("starttls", "220 go\r\nno tls")] + [(s, w) for s in ("starttls", "handshake") for w in (CLOSE, RESET, HANG)]:
            with self.subTest(stage=stage, what=what):
                self.setUp()
                self.first.reset(**{stage: what})
                self.one(("done", "2.0.0"))
                self.assertEqual([s.tls for s in self.first.sessions], [None, None])
                self.assertEqual(len(self.first.messages), 1)
        self.setUp()
        self.first.reset(starttls="454 4.7.0 not now")
        self.one(("done", "2.0.0"))
        self.assertEqual(len(self.first.sessions), 1)

    def test_goes_at_second_ehlo(self):
        """TLS that carries no reply has failed like one that was not agreed on; a reply is a reply, and the next server has the message."""
        self.first.context = receiver.context(self.issue("a.out.example"))
        for what, sessions, taken in ((HANG, ["TLSv1.3", None], (1, 0)), (RESET, ["TLSv1.3", None], (1, 0)), (CLOSE, ["TLSv1.3", None], (1, 0)),
                                      ("421 4.3.2 away", ["TLSv1.3"], (0, 1)), ("451 4.9.9 later", ["TLSv1.3"], (0, 1))):
            with self.subTest(what=what):
                self.setUp()
                self.first.reset(ehlo=lambda session: what if session.tls else None)
                self.one(("done", "2.0.0"))
                self.assertEqual([s.tls for s in self.first.sessions], sessions)
                self.assertEqual((len(self.first.messages), len(self.second.messages)), taken)


class TestSix(OutboundTest):
    """Servers with IPv6 addresses, and with both."""
    # The last one is a documentation's: nobody has it.
    more_zones = {"six.example": "* IN MX 10 six\nsix IN AAAA ::1\n*.both IN MX 10 both\nboth IN AAAA ::1\nboth IN A %s\n"
                                 "*.far IN MX 10 far\nfar IN AAAA 2001:db8::1\nfar IN A %s\n" % (FIRST, FIRST)}
    more_settings = {"submission.literals": "yes"}

    def setUp(self):
        super().setUp()
        self.six = receiver.Receiver("::1", self.port)
        self.addCleanup(self.six.close)
        self.addCleanup(self.six.end_sessions)

    def came_over(self, message):
        """The address of the client of that message."""
        return message[3].peer[0]

    def test_delivered(self):
        queue_id = self.one(("done", "2.0.0"), to="x@only.six.example")
        message, = self.six.messages
        self.assertEqual(self.came_over(message), "::1")
        result, = self.events(queue_id, "remote-result")
        self.assertEqual(result["mta"], "six.six.example[::1]")
        self.assertEqual(self.first.sessions, [])

    def test_literal(self):
        self.one(("done", "2.0.0"), to="x@[IPv6:::1]")
        self.assertEqual(self.came_over(self.six.messages[0]), "::1")

    def test_six_first(self):
        self.one(("done", "2.0.0"), to="x@good.both.six.example")
        self.assertEqual((len(self.six.messages), len(self.first.sessions)), (1, 0))

    def test_four_after_six(self):
        """Nobody listens, the server goes away, or there is no way to it: its other address is tried."""
        both, far = "both.six.example", "far.six.example"
        for what, to, mta in (("reset", "a@reset." + both, both + "[::1]"), ("away", "b@away." + both, both + "[::1]"),
                              ("far", "c@no." + far, far + "[2001:db8::1]")):
            with self.subTest(what=what):
                self.first.reset()
                self.six.reset(greeting=RESET)
                if what == "away":
                    self.six.close()
                queue_id = self.one(("done", "2.0.0"), to=to)
                self.assertEqual(len(self.six.messages), 0)
                self.assertEqual(self.came_over(self.first.messages[0]), "127.0.0.1")
                failed, = self.events(queue_id, "remote-failed")
                self.assertEqual(failed["mta"], mta)


class TestDane(OutboundTest):
    @classmethod
    def setUpClass(cls):
        directory = tempfile.mkdtemp(prefix="mailstead-dane-")
        cls.ca, issue = receiver.authority(directory)
        pair, late, other = issue("unrelated.example"), issue("unrelated.example", expired=True), issue("a.dane.example")
        cls.pairs = {"pair": pair, "late": late, "other": other}
        cls.port = ports.take()
        records = {"good": receiver.tlsa(3, 1, pair[0]), "silent": receiver.tlsa(3, 1, pair[0]), "whole": receiver.tlsa(3, 0, pair[0]), "late": receiver.tlsa(3, 1, late[0]),
                   "bad": receiver.tlsa(3, 1, other[0]), "ta": receiver.tlsa(2, 0, cls.ca), "usage1": receiver.tlsa(1, 1, pair[0]),
                   **{n: receiver.tlsa(3, 1, other[0]) for n in ("lax", "laxer", "strict", "silence", "greeting", "ehlo", "starttls")},
                   "ill": receiver.tlsa(3, 1, pair[0])}
        text = "".join("%s IN MX 10 a.%s\na.%s IN A %s\n_%d._tcp.a.%s IN TLSA %s\n" % (n, n, n, FIRST, cls.port, n, data) for n, data in records.items())
        text += "two IN MX 10 a.two\na.two IN A %s\n_%d._tcp.a.two IN TLSA %s\n_%d._tcp.a.two IN TLSA %s\n" % (
            FIRST, cls.port, records["bad"], cls.port, records["good"])
        # Hosts that are CNAMEs: records behind them, and at their own name.
        behind = issue("real.behind.dane.example")
        cls.pairs["behind"] = behind
        for name, where, record in (("alias", "real.alias", records["good"]), ("own", "a.own", records["good"]), ("behind", "real.behind", records["ta"]),
                                    ("wrong", "real.wrong", records["ta"])):
            text += "%s IN MX 10 a.%s\na.%s IN CNAME real.%s\nreal.%s IN A %s\n_%d._tcp.%s IN TLSA %s\n" % (
                name, name, name, name, name, FIRST, cls.port, where, record)
        signed, anchor = dnsserver.sign(directory + "/keys", "dane.example", text, lambda owner: False)
        cls.more_zones = {"dane.example": signed}
        cls.more_settings = {"dns.trust_anchor": anchor, "tls.authorities": cls.ca, "transport.fallback": "%s@%d" % (SECOND, cls.port)}
        super().setUpClass()

    def test_records(self):
        for name, pair, want, proof in (("good", "pair", "done", "dane-ee"), ("whole", "pair", "done", "dane-ee"), ("late", "late", "done", "dane-ee"),
                                        ("two", "pair", "done", "dane-ee"), ("bad", "pair", "pending", None), ("usage1", "other", "done", "none"),
                                        ("ta", "pair", "pending", None)):
            with self.subTest(name=name):
                self.first.reset()
                self.first.context = receiver.context(self.pairs[pair], self.ca)
                queue_id = self.submit("x@%s.dane.example" % name)
                self.assertEqual(self.results(queue_id)["x"][0], want)
                self.assertEqual([r["proof"] for r in self.events(queue_id, "remote-tls")], [proof] if proof else [])
                self.assertEqual(len(self.first.messages), 1 if want == "done" else 0)
                self.assertTrue(all(s.tls or not s.mail for s in self.first.sessions))

    def test_cname(self):
        """The name behind a host's CNAME comes first: for the records, as server name, and in the certificate."""
        for name, pair, want, proof, sni in (("alias", "pair", "done", "dane-ee", "real.alias"), ("own", "pair", "done", "dane-ee", "a.own"),
                                             ("behind", "behind", "done", "dane-ta", "real.behind"), ("wrong", "behind", "pending", None, None)):
            with self.subTest(name=name):
                self.first.reset()
                self.first.context = receiver.context(self.pairs[pair], self.ca)
                queue_id = self.submit("x@%s.dane.example" % name)
                self.assertEqual(self.results(queue_id)["x"][0], want)
                self.assertEqual([r["proof"] for r in self.events(queue_id, "remote-tls")], [proof] if proof else [])
                if sni:
                    self.assertEqual(self.first.sessions[0].sni, sni + ".dane.example")

    def test_requiretls(self):
        """RFC 8689 4.2: proved by DNSSEC and its TLSA record, and offered, it is passed on."""
        self.first.context = receiver.context(self.pairs["pair"], self.ca)
        for offered, want in ((True, ("done", "2.0.0")), (False, ("failed", "5.7.30"))):
            with self.subTest(offered=offered):
                self.first.reset()
                self.first.offers = ["PIPELINING", "STARTTLS"] + ["REQUIRETLS"] * offered
                try:
                    queue_id = self.submit("x@good.dane.example", options=["REQUIRETLS"])
                    self.assertEqual(self.results(queue_id)["x"], want)
                finally:
                    self.first.offers = ["PIPELINING", "8BITMIME", "STARTTLS"]
                self.assertEqual([r["proof"] for r in self.events(queue_id, "remote-tls")], ["dane-ee"])
                said = [c for s in self.first.sessions for c in s.commands if c.startswith("MAIL")]
                if offered:
                    self.assertRegex(said[0], r"^MAIL FROM:<alice@demo\.test>.* REQUIRETLS( |$)")
                    self.assertTrue(self.first.messages[0][3].tls)
                else:
                    self.assertEqual(said, [])

    def test_no_starttls(self):
        """A server that has TLSA records and does not offer TLS gets nothing."""
        self.first.reset()
        self.first.context = None
        queue_id = self.submit("x@silent.dane.example")
        self.assertEqual(self.results(queue_id)["x"], ("pending", "4.7.4"))
        self.assertEqual(self.first.messages, [])

    def test_refused_in_clear(self):
        """Whoever sits between the servers cannot have the mail come back, as he could with a 5yz before TLS."""
        for stage in ("greeting", "ehlo", "starttls"):
            with self.subTest(stage=stage):
                self.first.reset(**{stage: "554 5.7.1 we do not want you"})
                queue_id = self.submit("x@%s.dane.example" % stage)
                self.assertEqual(self.results(queue_id)["x"], ("pending", "4.7.4" if stage == "starttls" else "4.7.1"))

    def test_no_fallback(self):
        """What is for servers that prove who they are goes to nobody else, whoever has refused it: over a new connection, and over one that waited."""
        self.first.reset()
        self.first.context = receiver.context(self.pairs["pair"])
        self.assertEqual(self.results(self.submit("x@ill.dane.example"))["x"][0], "done")
        self.first.script = {"mail": BLOCKED}
        for _ in range(2):
            queue_id = self.submit("x@ill.dane.example")
            self.assertEqual(self.results(queue_id)["x"], ("failed", "5.7.1"))
            self.assertEqual(self.events(queue_id, "fallback"), [])
            self.first.end_sessions()
        self.assertEqual(self.second.sessions, [])

    def test_hang_in_handshake(self):
        """Silence is no way to have it in clear either."""
        self.first.reset(handshake=HANG)
        self.first.context = receiver.context(self.pairs["pair"], self.ca)
        queue_id = self.submit("x@silence.dane.example")
        self.assertEqual(self.results(queue_id)["x"][0], "pending")
        self.assertEqual((self.first.messages, len(self.first.sessions)), ([], 1))
        self.assertEqual([r["text"] for r in self.events(queue_id, "remote-failed")], ["the server did not answer in time"])

    def test_tls_optional(self):
        """What its sender has marked TLS-Required: No is not held back by records (RFC 8689 4.2.2), nor by what they hold back; and shares no
        connection with what is."""
        optional = MESSAGE.replace(b"Subject", b"TLS-Required: No\r\nSubject")
        for name, context, tls in (("lax", receiver.context(self.pairs["pair"], self.ca), True), ("laxer", None, False)):
            with self.subTest(name=name):
                self.first.reset()
                self.first.context = context
                for message, state, count in ((optional, "done", 1), (MESSAGE, "pending", 1), (optional, "done", 2)):
                    queue_id = self.submit("x@%s.dane.example" % name, message=message)
                    self.assertEqual(self.results(queue_id)["x"][0], state)
                    self.assertEqual(len(self.first.messages), count)
                self.assertEqual({r["proof"] for r in self.events(queue_id, "remote-tls")}, {"none"} if tls else set())
                self.assertIn(b"TLS-Required: No\r\n", self.first.messages[0][2])
        # With the parameter the field is nothing (4.1).
        self.first.reset()
        queue_id = self.submit("x@strict.dane.example", message=optional, options=["REQUIRETLS"])
        self.assertEqual(self.results(queue_id)["x"][0], "pending")
        self.assertEqual(self.events(queue_id, "route")[0]["tls"], "")


class TestDeath(OutboundTest):
    """A process ends in the middle: nothing is lost, and what may have arrived twice is marked."""
    more_settings = {"transport.timeout_dot": "20s", "queue.remote_retry": "1s"}

    def kill(self, *programs):
        self.server.allow(r"(role-ended|restart-later).*(queue|transport)|event=(ipc|edge)|\b(ipc|edge)-")
        processes = self.server.processes()
        for pid in [pid for program in programs for pid in processes[program]]:
            os.kill(pid, 9)

    def listed(self, queue_id):
        done = self.server.run("--json", "queue", "list", queue_id, check=False)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def slow(self, session):
        """The reply to the first message's end waits until the test says so."""
        if session.number == 0:
            self.held.set()
            self.go.wait(15)
        return None

    def begin(self):
        self.held, self.go = threading.Event(), threading.Event()
        self.first.reset(dot=self.slow)
        queue_id = self.submit("x")
        self.assertTrue(self.held.wait(15))
        return queue_id

    def test_queue_ends(self):
        """transport goes on, and the next queue learns what came of it: one copy."""
        queue_id = self.begin()
        self.kill("smtpd-queue")
        harness.wait_for(lambda: self.listed(queue_id) is not None, 15)
        self.go.set()
        harness.wait_for(lambda: self.listed(queue_id) == [], 15)
        self.assertEqual(len(self.first.messages), 1)

    def test_queue_is_away(self):
        """The result waits for the next queue."""
        queue_id = self.begin()
        self.kill("smtpd-queue")
        self.go.set()
        harness.wait_for(lambda: self.listed(queue_id) == [], 15)
        self.assertEqual(len(self.first.messages), 1)

    def test_transport_ends(self):
        """The end of the message was sent: it is sent again."""
        queue_id = self.begin()
        self.kill("smtpd-transport")
        harness.wait_for(lambda: len(self.first.messages) == 1, 20)
        self.go.set()
        harness.wait_for(lambda: self.listed(queue_id) == [], 15)
        rows = json.loads(self.server.run("--json", "explain", queue_id).stdout)
        self.assertIn("reply-lost", [r["event"] for r in rows])

    def test_both_end(self):
        """Nobody is left who knows that the end of the message was sent, so it is sent again unmarked; that the end was sent stands in the time line."""
        queue_id = self.begin()
        self.kill("smtpd-queue", "smtpd-transport")
        harness.wait_for(lambda: len(self.first.messages) == 1, 30)
        self.go.set()
        harness.wait_for(lambda: self.listed(queue_id) == [], 20)
        ends = self.events(queue_id, "end-sent")
        self.assertEqual([r["mta"] for r in ends], ["a.out.example[%s]" % FIRST] * 2)
        self.assertEqual([(r["state"], r["unsure"]) for r in self.events(queue_id, "remote-result")], [("done", "0")])


class TestLeaving(OutboundTest):
    def test_drain(self):
        """What is under way is finished before the server stops."""
        held = threading.Event()

        def slow(_):
            held.set()
            time.sleep(0.7)

        self.first.reset(dot=slow)
        queue_id = self.submit("x")
        self.assertTrue(held.wait(10))
        self.assertEqual(self.server.stop(), [])
        self.server.start()
        self.assertEqual(json.loads(self.server.run("--json", "queue", "list", queue_id, check=False).stdout or "[]"), [])
        self.assertEqual(len(self.first.messages), 1)
        self.assertEqual(self.results(queue_id)["x"], ("done", "2.0.0"))


class TestRelays(OutboundTest):
    """Relays for one domain, for what cannot be reached, and with a name and a password."""
    more_zones = {"dead.example": zone("127.0.0.9", "127.0.0.9"), "relays.example": "a IN A %s\nb IN A %s\nsafe IN A %s\nother IN A %s\n" % (
        FIRST, SECOND, FIRST, FIRST)}

    @classmethod
    def setUpClass(cls):
        directory = tempfile.mkdtemp(prefix="mailstead-relay-")
        ca, issue = receiver.authority(directory)
        cls.port = ports.take()
        cls.pair = issue("safe.relays.example")
        relay = "%%s.relays.example@%d" % cls.port
        with open(directory + "/credentials", "w", encoding="ascii") as f:
            f.write("# who we are there\n%s me pass word\n%s me pass word\n" % (relay % "safe", relay % "other"))
        cls.more_settings = {
            "tls.authorities": ca, "transport.fallback": relay % "b", "transport.credentials": directory + "/credentials",
            "transport.routes": "routed.out.example=%s .below.example=%s safe.example=%s other.example=%s direct.below.example=-" % (
                relay % "b", relay % "b", relay % "safe", relay % "other")}
        super().setUpClass()

    def setUp(self):
        super().setUp()
        for r in (self.first, self.second):
            r.offers, r.context, r.login = ["PIPELINING", "8BITMIME", "STARTTLS"], None, None

    def test_routes(self):
        for domain, want in (("routed.out.example", self.second), ("other.out.example", self.first), ("x.below.example", self.second)):
            with self.subTest(domain=domain):
                self.setUp()
                self.one(("done", "2.0.0"), to="x@" + domain)
                self.assertEqual([r for r in (self.first, self.second) if r.messages], [want])
        self.one(("failed", "5.1.2"), to="x@direct.below.example")

    def test_fallback(self):
        queue_id = self.one(("done", "2.0.0"), to="x@dead.example")
        self.assertEqual(len(self.second.messages), 1)
        self.assertEqual(len(self.events(queue_id, "fallback")), 1)

    def test_login(self):
        self.first.context, self.first.login = receiver.context(self.pair), ("me", "pass word")
        self.first.offers.append("AUTH PLAIN LOGIN")
        self.one(("done", "2.0.0"), to="x@safe.example")
        self.assertEqual([s.login for s in self.first.sessions], [("me", "pass word")])
        log = self.server.log()
        self.assertNotIn("pass word", log)
        # The same server by a name that its certificate does not have gets neither password nor message.
        queue_id = self.one(("pending", "4.7.5"), to="x@other.example")
        self.assertEqual([s.login for s in self.first.sessions[1:]], [None])
        self.assertEqual(len(self.first.messages), 1)
        self.assertTrue(queue_id)

    def test_goes_at_auth(self):
        """The message waits: it goes to nobody else, and to nobody unknown."""
        self.first.context, self.first.login = receiver.context(self.pair), ("me", "pass word")
        for mechanism, stage in (("PLAIN", "auth"), ("LOGIN", "auth"), ("LOGIN", "auth_name"), ("LOGIN", "auth_password")):
            for what in (HANG, RESET, CLOSE, "421 4.3.2 away", "454 4.7.0 not now", "535 5.7.8 no"):
                with self.subTest(mechanism=mechanism, stage=stage, what=what):
                    self.first.offers = ["STARTTLS", "AUTH " + mechanism]
                    self.first.reset(**{stage: what})
                    queue_id = self.one(("pending", "4.7.8" if what[0].isdigit() else "4.4.2"), to="x@safe.example")
                    self.assertEqual((self.first.messages, self.second.sessions), ([], []))
                    self.assertEqual(len(self.first.sessions), 1)
                    self.first.script = {}
                    self.server.run("queue", "retry", queue_id)
                    harness.wait_for(lambda: self.first.messages, 20)
                    self.assertEqual([s.login for _, _, _, s in self.first.messages], [("me", "pass word")])

    def test_refused_login(self):
        """It waits for the operator."""
        self.first.context, self.first.login = receiver.context(self.pair), ("me", "another")
        self.first.offers.append("AUTH PLAIN LOGIN")
        self.one(("pending", "4.7.8"), to="x@safe.example")
        self.assertEqual(self.first.messages, [])


class TestFallback(OutboundTest):
    """A domain's one server, and the relay for what cannot be reached or refuses this host by reputation."""
    more_zones = {"ill.example": "* IN MX 10 a\na IN A %s\n" % FIRST}

    @classmethod
    def setUpClass(cls):
        cls.port = ports.take()
        cls.more_settings = {"transport.fallback": "%s@%d" % (SECOND, cls.port)}
        super().setUpClass()

    def setUp(self):
        super().setUp()
        self.domain = self.domain.replace(".out.", ".ill.")

    def relayed(self, queue_id, rcpts=("x",)):
        """The relay has it, once, and the time line says why."""
        self.assertEqual([r for _, r, _, _ in self.second.messages], [["<%s@%s>" % (r, self.domain) for r in rcpts]])
        fallback, = self.events(queue_id, "fallback")
        self.assertEqual((fallback["why"], fallback["recipients"]), ("reputation", str(len(rcpts))))
        self.assertIn("%s]" % FIRST, fallback["mta"])
        self.assertIn("blocked using", fallback["text"])

    def test_at_each_stage(self):
        for stage in ("greeting", "ehlo", "mail", "rcpt", "data", "dot"):
            for offers in (["PIPELINING"], ["CHUNKING"]):
                if stage == "data" and "CHUNKING" in offers:
                    continue
                with self.subTest(stage=stage, offers=offers):
                    self.setUp()
                    self.first.offers = offers
                    self.first.reset(**{stage: "554" + BLOCKED[3:], "helo": BLOCKED if stage == "ehlo" else None})
                    queue_id = self.one(("done", "2.0.0"))
                    self.assertEqual(self.first.messages, [])
                    self.relayed(queue_id)
                    self.assertEqual(self.server.run("--json", "queue", "list", queue_id, check=False).stdout.split(), ["[]"])

    def test_others_have_their_answer(self):
        """Who is refused for another reason, or is told to come later, does not go another way; nor does one who has it."""
        replies = {"a": "550 5.1.1 who", "b": "450 4.7.1 blocked using dnsbl.example", "c": None, "d": BLOCKED, "e": BLOCKED}
        self.first.reset(rcpt=lambda s: replies[s.commands[-1].split("<")[1][0]])
        queue_id = self.submit(*replies)
        self.assertEqual(self.results(queue_id, 5), {"a": ("failed", "5.1.1"), "b": ("pending", "4.7.1"), "c": ("done", "2.0.0"),
                                                     "d": ("done", "2.0.0"), "e": ("done", "2.0.0")})
        self.assertEqual([r for _, r, _, _ in self.first.messages], [["<c@%s>" % self.domain]])
        self.relayed(queue_id, ("d", "e"))
        report, = harness.wait_for(lambda: self.events(queue_id, "report"), 20)
        self.assertEqual((report["to"], report["result"]), ("alice@demo.test", "sent"))
        listed, = json.loads(self.server.run("--json", "queue", "show", queue_id).stdout)
        self.assertEqual([(r["address"][0], r["told"]) for r in listed["recipients"] if r["told"]], [("a", ["failure"])])

    def test_other_reasons(self):
        for reply, state in (("550 5.1.1 no such user", "failed"), ("550 5.7.1 no spam, please", "failed"), ("550 5.7.26 SPF", "failed"),
                             ("451 4.7.1 blocked using dnsbl.example", "pending")):
            for stage in ("mail", "rcpt", "dot"):
                with self.subTest(reply=reply, stage=stage):
                    self.setUp()
                    self.first.reset(**{stage: reply})
                    queue_id = self.one((state, reply.split()[1]))
                    self.assertEqual(self.second.sessions, [])
                    self.assertEqual(self.events(queue_id, "fallback"), [])

    def test_after_a_message(self):
        """Refused over a connection that had a message before: it is asked once more, now that what forbids another way is known."""
        self.one(("done", "2.0.0"))
        for stage in ("mail", "rcpt", "dot"):
            with self.subTest(stage=stage):
                self.first.script = {}
                self.second.reset()
                self.one(("done", "2.0.0"))
                self.first.script = {stage: BLOCKED}
                self.relayed(self.one(("done", "2.0.0")))
        # The connection was made for another domain: what forbids another way is known already.
        self.setUp()
        self.one(("done", "2.0.0"), to="x@other-" + self.domain)
        self.first.script, self.second.script = {"mail": BLOCKED}, {"mail": CLOSE}
        self.one(("pending", "4.4.2"))
        self.assertEqual((len(self.first.sessions), len(self.second.sessions)), (1, 1))

    def test_relay_fails(self):
        """What the relay says counts; one that is not there keeps the message waiting."""
        for script, want in (({"rcpt": BLOCKED}, ("failed", "5.7.1")), ({"dot": "451 4.3.0 later"}, ("pending", "4.3.0")),
                             ({"greeting": "421 4.3.2 away"}, ("pending", "4.3.2")), ({"greeting": RESET}, ("pending", "4.4.2"))):
            with self.subTest(script=script):
                self.setUp()
                self.first.reset(mail=BLOCKED)
                self.second.reset(**script)
                queue_id = self.one(want)
                self.assertEqual(len(self.first.sessions), 1)
                self.assertEqual(len(self.events(queue_id, "fallback")), 1)

    def test_relay_cannot(self):
        """It lacks what the message needs: what the domain's server said holds."""
        self.first.reset(mail=BLOCKED)
        self.second.offers = ["SIZE 10"]
        try:
            self.assertIn("blocked using", self.events(self.one(("failed", "5.7.1")), "remote-result")[0]["text"])
        finally:
            self.second.offers = ["PIPELINING", "8BITMIME"]

    def test_requiretls(self):
        """The relay would have to prove itself, and offer it (RFC 8689 4.2.1)."""
        self.first.reset(greeting=BLOCKED)
        queue_id = self.submit("x", options=["REQUIRETLS"])
        self.assertEqual(self.results(queue_id)["x"][0], "failed")
        self.assertEqual(self.second.messages, [])


@unittest.skipUnless(os.getuid() == 0, "only root can listen on port 465")
class TestTlsFirst(OutboundTest):
    """A relay on port 465."""

    @classmethod
    def setUpClass(cls):
        directory = tempfile.mkdtemp(prefix="mailstead-relay-")
        ca, issue = receiver.authority(directory)
        cls.relay = receiver.Receiver("127.0.0.7", 465, receiver.context(issue("relay.relays.example")), ("PIPELINING", "8BITMIME", "AUTH PLAIN"), tls_first=True)
        cls.relay.login = ("me", "secret")
        with open(directory + "/credentials", "w", encoding="ascii") as f:
            f.write("relay.relays.example@465 me secret\n")
        cls.more_zones = {"relays.example": "relay IN A 127.0.0.7\n"}
        cls.more_settings = {"tls.authorities": ca, "transport.relay": "relay.relays.example@465", "transport.credentials": directory + "/credentials"}
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        cls.relay.close()
        super().tearDownClass()

    def test_relay(self):
        queue_id = self.one(("done", "2.0.0"))
        self.assertEqual([r["proof"] for r in self.events(queue_id, "remote-tls")], ["ca"])
        (_, _, _, session), = self.relay.messages
        self.assertEqual((session.tls, session.login), ("TLSv1.3", ("me", "secret")))
