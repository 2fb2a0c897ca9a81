"""LMTP (RFC 2033): one reply for each recipient, each true for its own; the client's queue and ours never have the same message."""

import grp
import json
import os
import random
import re
import signal
import smtplib
import socket
import stat
import subprocess
import time
import unittest

import harness
import ports
from test_smtp import MESSAGE, SmtpTest

BIG = (b"y" * 76 + b"\r\n") * 1200
MIDDLE = MESSAGE + (b"z" * 76 + b"\r\n") * 200


class LmtpTest(SmtpTest):
    """A server that speaks LMTP on a Unix socket and on a port."""

    extra = {}

    @classmethod
    def setUpClass(cls):
        cls.directory = harness.tempfile.mkdtemp(prefix="mailstead-test-")
        cls.path = cls.directory + "/lmtp"
        cls.port = ports.take()
        cls.server = harness.Server(cls.zones, {"lmtp.listen": "%s 127.0.0.1@%d" % (cls.path, cls.port), "queue.retry": "1s", **cls.extra},
                                    directory=cls.directory)

    def open(self, port=False):
        if port:
            s = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        else:
            s = socket.socket(socket.AF_UNIX)
            s.settimeout(20)
            s.connect(self.path)
        w = harness.Wire(s)
        self.addCleanup(w.close)
        return w

    def lmtp(self, port=False, lhlo=b"LHLO client.example"):
        w = self.open(port)
        self.assertEqual(w.reply(), b"220 mail.demo.test LMTP Mailstead\r\n")
        if lhlo:
            self.say(w, lhlo, b"250")
        return w

    def begin(self, w, *recipients, sender=b"a@client.example", params=b""):
        self.say(w, b"MAIL FROM:<" + sender + b">" + params, b"250")
        for r in recipients:
            self.say(w, b"RCPT TO:<" + r.encode() + b">", b"250")

    def data(self, w, message, *patterns):
        """DATA with that message: exactly these replies, in order; then the session goes on."""
        self.say(w, b"DATA", b"354")
        w.send(message + b".\r\nNOOP\r\n")
        got = [w.reply() for _ in patterns]
        for answer, pattern in zip(got, patterns):
            self.assertRegex(answer, rb"^" + pattern, got)
        self.assertEqual(w.reply(), b"250 2.0.0 OK\r\n")
        return got

    def listed(self):
        return json.loads(self.server.run("queue", "list", "--json").stdout)


class TestDialogue(LmtpTest):
    extra = {"transport.enabled": "yes", "smtp.message_bytes": "64K", "smtp.recipients": "100"}

    def tearDown(self):
        self.messages()
        self.messages("bob")

    def test_hello(self):
        """4.1: LHLO in the place of EHLO and HELO, which never succeed; the other way round on port 25."""
        for port in (False, True):
            w = self.lmtp(port, lhlo=None)
            self.say(w, b"MAIL FROM:<a@client.example>", rb"503 5\.5\.1 LHLO")
            self.say(w, b"EHLO client.example", rb"500 5\.5\.1")
            self.say(w, b"HELO client.example", rb"500 5\.5\.1")
            self.say(w, b"LHLO", rb"501 5\.5\.4")
            w.send(b"LHLO client.example\r\n")
            offer = w.reply().decode().split("\r\n")
            for word in ("PIPELINING", "ENHANCEDSTATUSCODES", "8BITMIME", "CHUNKING", "BINARYMIME", "SMTPUTF8", "DSN", "STARTTLS", "SIZE 65536",
                         "LIMITS MAILMAX=1000 RCPTMAX=100"):
                self.assertTrue("250-" + word in offer or "250 " + word in offer, (word, offer))
            self.assertFalse([line for line in offer if "AUTH" in line or "XCLIENT" in line], offer)
            self.say(w, b"EHLO client.example", rb"500 5\.5\.1")
            self.say(w, b"LHLO local_name", b"250")
            self.say(w, b"XCLIENT ADDR=192.0.2.1", rb"550 5\.7\.0")
            self.say(w, b"AUTH PLAIN", rb"502 5\.5\.1")
            self.say(w, b"QUIT", b"221")
        w = self.session()
        self.say(w, b"LHLO client.example", rb"500 5\.5\.1")

    def test_a_reply_for_each_rcpt(self):
        """4.2: for each that succeeded, in their order, the same address as often as it was given."""
        w = self.lmtp()
        self.say(w, b"MAIL FROM:<a@client.example>", b"250")
        for to, code in ((b"bob@demo.test", b"250"), (b"nobody@demo.test", b"550 5.1.1"), (b"alice@demo.test", b"250"),
                         (b"x@elsewhere.example", b"550 5.7.1"), (b"alice@demo.test", b"250"), (b"alice+x@demo.test", b"250")):
            self.say(w, b"RCPT TO:<" + to + b">", re.escape(code))
        got = self.data(w, MESSAGE, *[rb"250 2\.0\.0 Taken as "] * 4)
        self.assertEqual(len(set(got)), 1)
        self.assertEqual((len(self.messages()), len(self.messages("bob"))), (1, 1))
        self.begin(w, "bob@demo.test")  # nothing of the last transaction is left
        self.data(w, MESSAGE, b"250")

    def test_no_recipients(self):
        """DATA must fail with 503 (4.2), BDAT LAST has no reply at all (4.3)."""
        w = self.lmtp()
        self.begin(w)
        self.say(w, b"DATA", rb"503 5\.5\.1")
        w.send(b"BDAT 4\r\nabcd")
        self.assertRegex(w.reply(), rb"^554 5\.5\.1")
        self.say(w, b"RSET", b"250")
        self.begin(w)
        w.send(b"BDAT 4 LAST\r\nabcdNOOP\r\n")
        self.assertEqual(w.reply(), b"250 2.0.0 OK\r\n")
        self.say(w, b"RCPT TO:<alice@demo.test>", b"503")  # LAST has ended it
        w.send(b"BDAT 4 LAST\r\nabcd")  # outside of a transaction nobody was promised anything
        self.assertRegex(w.reply(), rb"^503 5\.5\.1")

    def test_chunks(self):
        """4.3: one reply for each chunk but the last, then one for each recipient, whatever was refused."""
        w = self.lmtp()
        self.begin(w, "bob@demo.test", "alice@demo.test")
        w.send(b"BDAT 10\r\n" + MESSAGE[:10] + b"BDAT %d LAST\r\n" % (len(MESSAGE) - 10) + MESSAGE[10:] + b"NOOP\r\n")
        self.assertRegex(w.reply(), rb"^250 2\.0\.0 10 octets")
        self.assertEqual([w.reply()[:15] for _ in range(3)], [b"250 2.0.0 Taken", b"250 2.0.0 Taken", b"250 2.0.0 OK\r\n"])
        self.begin(w, "bob@demo.test", "alice@demo.test")
        w.send(b"BDAT 65537\r\n" + b"x" * 65537 + b"BDAT 1 LAST\r\nxNOOP\r\n")
        self.assertEqual([w.reply()[:9] for _ in range(4)], [b"552 5.3.4", b"503 5.5.1", b"503 5.5.1", b"250 2.0.0"])
        self.begin(w, "bob@demo.test", "alice@demo.test")
        w.send(b"BDAT 65537 LAST\r\n" + b"x" * 65537 + b"NOOP\r\n")
        self.assertEqual([w.reply()[:9] for _ in range(3)], [b"552 5.3.4", b"552 5.3.4", b"250 2.0.0"])
        self.assertEqual((len(self.messages()), len(self.messages("bob"))), (1, 1))

    def test_refused_as_a_whole(self):
        """What concerns the message is said to each recipient."""
        w = self.lmtp()
        for message, code in ((MESSAGE + b"x" * 65536 + b"\r\n", rb"552 5\.3\.4"),
                              (b"Received: x\r\n" * 100 + MESSAGE, rb"554 5\.4\.6")):
            self.begin(w, "bob@demo.test", "alice@demo.test")
            self.data(w, message, code, code)
        self.begin(w, "bob@demo.test", "alice@demo.test")
        self.say(w, b"DATA", b"354")
        w.send(MESSAGE + b"bare\nline\r\n.\r\n")
        self.assertEqual([w.reply()[:9] for _ in range(2)], [b"521 5.5.2", b"521 5.5.2"])
        self.assertTrue(w.at_end(6))
        self.assertEqual((len(self.messages()), len(self.messages("bob"))), (0, 0))

    def test_as_many_as_there_may_be(self):
        """At the limit of recipients: the one over it is refused, the others each get a reply."""
        w = self.lmtp()
        self.begin(w, *["alice+%d@demo.test" % n for n in range(100)])
        self.say(w, b"RCPT TO:<bob@demo.test>", rb"452 4\.5\.3")
        self.data(w, MESSAGE, *[b"250"] * 100)
        self.assertEqual(len(self.messages()), 1)

    def test_traces(self):
        """RFC 3848, RFC 6531 4.3: the names of the protocol; a Unix socket has no address to tell."""
        self.begin(w := self.lmtp(), "alice@demo.test")
        self.data(w, MESSAGE, b"250")
        self.assertRegex(self.messages()[0], rb"^Return-Path: <a@client\.example>\r\nReceived: from client\.example\r\n"
                         rb"\tby mail\.demo\.test with LMTP id \w+\r\n\tfor <alice@demo\.test>;")
        self.begin(w := self.lmtp(lhlo=b"LHLO local_name"), "alice@demo.test", params=b" SMTPUTF8")
        self.data(w, MESSAGE, b"250")
        self.assertRegex(self.messages()[0], rb"Received: from localhost\r\n\tby mail\.demo\.test with UTF8LMTP id")
        w = self.lmtp(port=True)
        self.say(w, b"STARTTLS", b"220")
        w.starttls()
        self.say(w, b"LHLO client.example", b"250")
        self.begin(w, "alice@demo.test")
        self.data(w, MESSAGE, b"250")
        self.assertRegex(self.messages()[0], rb"Received: from client\.example \(unknown \[127\.0\.0\.1\]\)\r\n\tby mail\.demo\.test with LMTPS id")

    def test_time_line(self):
        """The session, and for each recipient what it was answered."""
        w = self.lmtp()
        self.begin(w, "bob@demo.test", "alice@demo.test")
        queue_id = self.data(w, MESSAGE, b"250", b"250")[0].split()[-1].decode()
        rows = json.loads(self.server.run("explain", queue_id, "--json", "--replay").stdout)
        text = json.dumps(rows)
        self.assertIn('"lmtp"', text)
        events = self.server.run("explain", queue_id, "--replay").stdout
        self.assertRegex(events, r"connect.*service=lmtp.*peer=local")
        for user in ("bob", "alice"):
            self.assertRegex(events, r"reply.*to=%s@demo\.test.*code=250" % user)
            self.assertRegex(events, r"outcome.*to=%s@demo\.test.*code=250" % user)
        self.assertRegex(events, r"decision.*table=lmtp.*rule=default")
        self.assertEqual(self.server.run("explain", queue_id, "--replay").returncode, 0)

    def test_clients(self):
        """Python's library and swaks."""
        with smtplib.LMTP(self.path, timeout=60) as c:
            self.assertEqual(c.sendmail("a@client.example", ["alice@demo.test"], MESSAGE), {})
        for where in (["--socket", self.path], ["--server", "127.0.0.1", "--port", str(self.port)]):
            done = subprocess.run(["swaks", "--protocol", "LMTP", "--to", "alice@demo.test,bob@demo.test", "--from", "a@client.example",
                                   "--helo", "client.example", *where], capture_output=True, text=True, timeout=60, check=False)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual((len(self.messages()), len(self.messages("bob"))), (3, 2))

    def test_mode_of_the_socket(self):
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)


class TestTrust(LmtpTest):
    """The client has judged the message where it came in: nothing is asked of the DNS, and nothing of it is taken out."""

    zones = {"strict.test": '@ IN TXT "v=spf1 -all"\n_dmarc IN TXT "v=DMARC1; p=reject"'}
    extra = {"policy.spf_reject": "yes", "policy.dnsbl": "list.test", "smtp.rate_messages": "1", "smtp.rate_recipients": "1",
             "smtp.rate_unknown": "1"}

    def test_no_second_judgement(self):
        stated = (b"Authentication-Results: mail.demo.test; spf=pass smtp.mailfrom=strict.test\r\nBcc: carol@demo.test\r\n"
                  b"From: a@strict.test\r\nSubject: x\r\n\r\nbody\r\n")
        w = self.lmtp(lhlo=b"LHLO mail.demo.test")
        for _ in range(3):  # no rates either
            for _ in range(3):
                self.begin(w, sender=b"a@strict.test")
                self.say(w, b"RCPT TO:<nobody@demo.test>", rb"550 5\.1\.1")
                self.say(w, b"RSET", b"250")
            self.begin(w, "alice@demo.test", sender=b"a@strict.test")
            self.data(w, stated, b"250")
        got = self.messages()
        self.assertEqual(len(got), 3)
        for m in got:
            self.assertTrue(m.endswith(stated), m)
            self.assertEqual(m.count(b"Authentication-Results"), 1)
        code, _ = self.server.deliver(stated, sender="a@strict.test")
        self.assertEqual(code, 550)  # the same from outside

    def test_never_a_bounce_for_its_form(self):
        """What port 25 refuses goes to Junk; without a domain it is somebody of this machine."""
        w = self.lmtp()
        self.begin(w, "alice@demo.test")
        self.data(w, b"Subject: none\r\n\r\nbody\r\n", b"250")
        self.begin(w, "alice@demo.test")
        self.data(w, b"From: a@a.test\r\nFrom: b@b.test\r\n\r\nbody\r\n", b"250")
        self.begin(w, "alice@demo.test")
        self.data(w, b"From: cron\r\nSubject: local\r\n\r\nbody\r\n", b"250")
        with self.server.imap() as c:
            self.assertEqual(c.select("Junk")[1], [b"2"])
            self.assertEqual(c.select("INBOX")[1], [b"1"])
            c.store("1", "+FLAGS.SILENT", "(\\Deleted)")
            c.expunge()

    def test_many_unknown_recipients(self):
        """A front end that asks for each address is not cut off."""
        w = self.lmtp()
        self.begin(w)
        for _ in range(250):
            self.say(w, b"RCPT TO:<nobody@demo.test>", rb"550 5\.1\.1")
        self.say(w, b"RCPT TO:<alice@demo.test>", b"250")

    def test_starts_speaking_at_once(self):
        """It may be told everything in one packet."""
        w = self.open()
        w.send(b"LHLO client.example\r\nMAIL FROM:<a@client.example>\r\nRCPT TO:<alice@demo.test>\r\nRCPT TO:<bob@demo.test>\r\nDATA\r\n")
        self.assertEqual([w.reply()[:3] for _ in range(6)], [b"220", b"250", b"250", b"250", b"250", b"354"])
        w.send(MESSAGE + b".\r\nQUIT\r\n")
        self.assertEqual([w.reply()[:3] for _ in range(3)], [b"250", b"250", b"221"])
        self.assertEqual((len(self.messages()), len(self.messages("bob"))), (1, 1))


class TestRecipients(LmtpTest):
    """Mailboxes that cannot take the message, beside others that can."""

    extra = {"quota.bytes": "100K"}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for name in ("carol", "dave"):
            cls.server.run("account", "add", name + "@demo.test", "--password-stdin", stdin="a good password\n")
            cls.server.passwords[name + "@demo.test"] = "a good password"
        cls.server.run("alias", "add", "both@demo.test", "alice@demo.test", "bob@demo.test")
        cls.server.run("alias", "add", "full@demo.test", "bob@demo.test", "dave@demo.test")

    def setUp(self):
        for user in ("bob", "dave"):  # no room for MIDDLE any more, which RCPT does not know
            self.assertEqual(self.server.deliver(MESSAGE + BIG, rcpt=user)[0], 250)

    def tearDown(self):
        for user in ("alice", "bob", "carol", "dave"):
            self.messages(user)
        self.assertEqual(self.listed(), [])

    def counts(self):
        """What each has got, beside what filled the mailbox."""
        return [len([m for m in self.messages(user) if b"zzz" in m]) for user in ("alice", "bob", "carol", "dave")]

    def test_each_for_itself(self):
        """The full one gets 452 and is the client's; our queue has nothing."""
        w = self.lmtp()
        self.begin(w, "alice@demo.test", "bob@demo.test", "carol@demo.test", "bob@demo.test")
        self.data(w, MIDDLE, rb"250 2\.0\.0 Taken", rb"452 4\.2\.2 Mailbox full", rb"250 2\.0\.0 Taken", rb"452 4\.2\.2 Mailbox full")
        self.assertEqual(self.listed(), [])
        self.assertEqual(self.counts(), [1, 0, 1, 0])
        self.begin(w, "bob@demo.test")  # the client's next try: there is room now
        self.data(w, MIDDLE, b"250")
        self.assertEqual(self.counts(), [0, 1, 0, 0])

    def test_nobody(self):
        w = self.lmtp()
        self.begin(w, "bob@demo.test", "full@demo.test", "dave@demo.test")
        self.data(w, MIDDLE, b"452", b"452", b"452")
        self.assertEqual(self.listed(), [])
        self.assertEqual(self.counts(), [0, 0, 0, 0])

    def test_part_of_an_alias(self):
        """Of two mailboxes behind an address one has it: it is ours, the queue brings the other's, and the client nothing twice."""
        w = self.lmtp()
        self.begin(w, "both@demo.test", "dave@demo.test", "carol@demo.test")
        self.data(w, MIDDLE, rb"250", rb"452 4\.2\.2", rb"250")
        rows = self.listed()
        self.assertEqual([sorted((r["address"], r["state"]) for r in row["recipients"]) for row in rows],
                         [[("both@demo.test", "done"), ("both@demo.test", "pending"), ("carol@demo.test", "done")]])
        self.assertEqual(self.counts(), [1, 0, 1, 0])  # bob has room again
        harness.wait_for(lambda: not self.listed(), 20, 0.2)
        self.assertEqual(self.counts(), [0, 1, 0, 0])

    def test_what_our_queue_brings_the_client_does_not(self):
        """bob alone would be the client's; since our queue has to bring it to bob for another address, he is ours; dave with him."""
        w = self.lmtp()
        self.begin(w, "bob@demo.test", "both@demo.test", "dave@demo.test", "full@demo.test")
        self.data(w, MIDDLE, b"250", b"250", b"250", b"250")
        self.assertEqual(self.counts(), [1, 0, 0, 0])
        harness.wait_for(lambda: not self.listed(), 20, 0.2)
        self.assertEqual(self.counts(), [0, 1, 0, 1])

    def test_gone_between_rcpt_and_the_end(self):
        """The directory is asked again: who is not there any more gets 550, the others their message."""
        w = self.lmtp()
        self.begin(w, "carol@demo.test", "alice@demo.test")
        self.server.run("account", "suspend", "carol@demo.test")
        self.data(w, MIDDLE, rb"550 5\.2\.1", b"250")
        self.server.run("account", "resume", "carol@demo.test")
        self.begin(w, "alice@demo.test")
        self.data(w, MESSAGE, b"250")
        self.assertEqual(len(self.messages()), 2)

    def test_last_chunk(self):
        w = self.lmtp()
        self.begin(w, "bob@demo.test", "alice@demo.test")
        w.send(b"BDAT %d LAST\r\n" % len(MIDDLE) + MIDDLE)
        self.assertEqual([w.reply()[:9] for _ in range(2)], [b"452 4.2.2", b"250 2.0.0"])
        self.assertEqual(self.counts(), [1, 0, 0, 0])


class TestUnavailable(LmtpTest):
    """A mailbox that does not open: its keeper ends, asked or not."""

    extra = {"store.keeper_linger": "1s"}

    def test_it_is_the_clients(self):
        for user in ("alice", "bob"):
            self.assertEqual(self.server.deliver(MESSAGE, rcpt=user)[0], 250)
        harness.wait_for(lambda: "store-keeper" not in self.server.processes(), 30, 0.1)
        for pattern in ("there are messages and no index", "event=keeper-failed", "event=process-ended .*status=65",
                        "event=role-ended name=keeper .*status=65", "event=connect-refused", "event=append-unanswered"):
            self.server.allow(pattern)
        account = os.path.join(self.server.demo, "state", "accounts", "1")
        os.rename(account + "/index", account + "/index-away")
        w = self.lmtp()
        self.begin(w, "alice@demo.test", "bob@demo.test")
        # A keeper may have been asked before it ended. Then nobody knows, so it is ours, and the queue asks with the same number.
        first = self.data(w, MIDDLE, rb"(250 2\.0\.0|451 4\.3\.0)", b"250")[0][:3]
        waiting = [r["address"] for row in self.listed() for r in row["recipients"] if r["state"] == "pending"]
        self.assertEqual(waiting, ["alice@demo.test"] if first == b"250" else [])
        # By now it is known that it does not open: nobody is asked, and the client is told to come again.
        before = self.listed()
        self.begin(w, "bob@demo.test", "alice@demo.test", "bob@demo.test")
        self.data(w, MIDDLE, b"250", rb"451 4\.3\.0", b"250")
        self.assertEqual([row["id"] for row in self.listed()], [row["id"] for row in before])
        self.assertEqual(len(self.messages("bob")), 3)


class TestKills(LmtpTest):
    """What each recipient was answered is true, whatever dies meanwhile."""

    USERS = ("alice", "bob", "carol")

    def setUp(self):
        self.server.allow(r"level=(warn|error)")
        self.server.run("account", "add", "carol@demo.test", "--password-stdin", stdin="a good password\n", check=False)
        self.server.passwords["carol@demo.test"] = "a good password"
        self.server.run("alias", "add", "both@demo.test", "alice@demo.test", "bob@demo.test", check=False)
        # What was killed by another test comes back after a pause.
        harness.wait_for(lambda: self.send("0", ["alice", "bob", "carol"]) == [(user, 250) for user in self.USERS], 90, 0.3)
        self.tearDown()

    def tearDown(self):
        for user in self.USERS:
            self.messages(user)

    def send(self, token, to):
        """[(recipient, code)] of those that RCPT took; a reply that did not come is 0, which the client takes for a temporary error."""
        taken = []
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(120)
        try:
            s.connect(self.path)
            with harness.Wire(s) as w:
                w.reply()
                w.send(b"LHLO client.example\r\nMAIL FROM:<a@client.example>\r\n" + b"".join(b"RCPT TO:<%s@demo.test>\r\n" % r.encode() for r in to))
                w.reply(), w.reply()
                taken = [r for r in to if w.reply()[:3] == b"250"]
                if not taken:
                    return []
                w.send(b"DATA\r\n")
                w.reply()
                w.send(b"X-Token: %s.\r\n" % token.encode() + MESSAGE + b".\r\n")
                return [(r, int(w.reply()[:3] or b"0")) for r in taken]
        except OSError:
            return [(r, 0) for r in taken]

    def run_with(self, program, pause):
        """Some clients at once while every process of that program is killed again and again: (token, recipient) -> code, and what is there."""
        answers, end = {}, time.time() + 4

        def deliver(me):
            number = 0
            while time.time() < end:
                number += 1
                to = random.Random(me * 1000 + number).sample(["alice", "bob", "carol", "both"], 3)
                token = "%d-%d" % (me, number)
                got = self.send(token, to)
                answers.update({(token, r): code for r, code in got})
                if {code for _, code in got} != {250}:
                    time.sleep(0.05)

        def kill():
            while time.time() < end:
                for pid in self.server.processes().get(program, []):
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        pass
                time.sleep(pause)

        harness.in_threads([lambda n=n: deliver(n) for n in range(4)] + [kill])
        harness.wait_for(lambda: not self.listed() or self.server.run("queue", "retry") is None, 60, 0.5)
        found = {user: re.findall(rb"X-Token: (\S+)\.\r\n", b"".join(self.messages(user))) for user in self.USERS}
        print("lmtp: %s killed, %d answers, %d of them 250" % (program, len(answers), sum(a == 250 for a in answers.values())))
        self.assertGreater(sum(a == 250 for a in answers.values()), 3)
        return answers, found

    def accounts(self, recipient):
        return ("alice", "bob") if recipient == "both" else (recipient,)

    def test_keepers(self):
        """Exactly what was answered 250 is there, once: also an account that two recipients lead to."""
        answers, found = self.run_with("store-keeper", 0.03)
        wanted = {user: set() for user in self.USERS}
        for (token, r), code in answers.items():
            for user in self.accounts(r):
                if code == 250:
                    wanted[user].add(token.encode())
        for user in self.USERS:
            self.assertEqual(sorted(found[user]), sorted(wanted[user]), user)

    def test_deliver(self):
        """What was answered 250 is there once; what deliver took with it may be there or not, and nothing is there twice."""
        answers, found = self.run_with("smtpd-deliver", 0.4)
        for (token, r), code in answers.items():
            for user in self.accounts(r):
                self.assertIn(found[user].count(token.encode()), (1,) if code == 250 else (0, 1), (token, r, code))

    def test_queue(self):
        """The queue has hardly anything to do with it: all goes on."""
        answers, found = self.run_with("smtpd-queue", 0.05)
        for (token, r), code in answers.items():
            for user in self.accounts(r):
                self.assertEqual((code, found[user].count(token.encode())), (250, 1), (token, r))


class TestLimits(LmtpTest):
    extra = {"lmtp.connections": "3", "smtp.connections": "2", "smtp.connections_per_address": "2"}

    def test_connections(self):
        """At the limit who comes waits; and neither port takes the other's places."""
        held = [self.lmtp() for _ in range(2)] + [self.lmtp(port=True)]
        late = self.open()
        late.s.settimeout(1)
        with self.assertRaises(TimeoutError):
            late.reply()
        late.s.settimeout(20)
        outside = [self.session() for _ in range(2)]
        held[0].close()
        self.assertRegex(late.reply(), b"^220 ")
        for w in outside:
            self.say(w, b"QUIT", b"221")


class TestStart(harness.InstanceTest):
    """Where it may listen, and whose socket it takes."""

    def command(self, listen, *words):
        """mailstead with a configuration of its own."""
        directory = harness.tempfile.mkdtemp(prefix="mailstead-test-")
        with open(directory + "/mailstead.conf", "w", encoding="utf-8") as f:
            f.write('lmtp.listen = "%s"\nhostname = mail.demo.test\n' % listen)
        return subprocess.run([harness.MAILSTEAD, *(w.replace("DIR", directory) for w in words)], capture_output=True, text=True, timeout=60,
                              stdin=subprocess.DEVNULL, check=False)

    def test_addresses_that_are_none(self):
        for value in ("127.0.0.1@25", "192.0.2.1@24", "0.0.0.0@24", "::@24", "relative/path", "127.0.0.1", "127.0.0.1@0", "127.0.0.1@65536",
                      "/" + "x" * 107, "/run/good /run/also 127.0.0.1@x"):
            done = self.command(value, "--config", "DIR/mailstead.conf", "config", "check")
            self.assertNotEqual(done.returncode, 0, value)
            self.assertIn("lmtp.listen takes", done.stdout + done.stderr, value)
        for value in ("", "127.0.0.1@24", "127.255.0.1@24", "::1@65535", "/" + "x" * 106, "/run/a  127.0.0.1@1 "):
            done = self.command(value, "--config", "DIR/mailstead.conf", "config", "check")
            self.assertEqual(done.returncode, 0, (value, done.stdout, done.stderr))

    def cannot_start(self, path, words):
        done = self.command(path, "run", "--demo", "DIR", "--port-offset", str(harness.free_offset()))
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(words, done.stdout + done.stderr)

    def test_socket_of_somebody_else(self):
        path = self.server.directory + "/lmtp"
        with open(path, "w", encoding="ascii") as f:
            f.write("mine")
        self.cannot_start(path, "no socket")
        with open(path, encoding="ascii") as f:
            self.assertEqual(f.read(), "mine")
        os.remove(path)
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(path)
            other.listen(1)
            self.cannot_start(path, "another server")
            self.assertTrue(os.path.exists(path))
        # Its server has gone: the name is free, and is removed at the end.
        server = harness.Server(settings={"lmtp.listen": path})
        with smtplib.LMTP(path, timeout=60) as c:
            self.assertEqual(c.sendmail("a@client.example", ["alice@demo.test"], MESSAGE), {})
        self.assertEqual(server.close(), [])
        self.assertFalse(os.path.exists(path))

    def test_group(self):
        """The group that is named may connect, nobody else; one that is not there is an error."""
        path = self.server.directory + "/lmtp"
        group = grp.getgrgid(os.getgid())
        server = harness.Server(settings={"lmtp.listen": path, "lmtp.group": group.gr_name})
        got = os.stat(path)
        self.assertEqual(server.close(), [])
        self.assertEqual((stat.S_IMODE(got.st_mode), got.st_gid), (0o660, group.gr_gid))
        self.cannot_start(path + '"\nlmtp.group = "no-such-group', "there is no group no-such-group")


if __name__ == "__main__":
    unittest.main()
