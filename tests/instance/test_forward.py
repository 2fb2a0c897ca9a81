"""Mail that is sent on to other servers: aliases that lead there, and bounces to the reverse-paths that were made for it."""

import json
import os
import re
import ssl

import harness
import test_outbound

MESSAGE = b"From: %s\r\nTo: list@demo.test\r\nSubject: on and on\r\n\r\nhello\r\n"
SRS = re.compile(r"SRS0=[a-z2-7]{8}=[a-z2-7]{2}=client\.example=A\.b\+c@demo\.test")


def txt(name, value):
    return '%s IN TXT "%s"\n' % (name, value)


class ForwardTest(harness.InstanceTest):
    # Nobody listens where the others are: what leaves waits.
    settings = {"transport.enabled": "yes", "smtp.rate_unknown": "0", "transport.loopback": "yes", "transport.port": "9",
                "transport.timeout_connect": "1s", "queue.remote_retry": "1h"}
    zones = {
        "example": "* IN A 127.0.0.4\n",
        # Nothing is asked of them; everything; and ours, with nothing said.
        "client.example": "@ IN A 127.0.0.4\n* IN A 127.0.0.4\n",
        "strict.example": txt("@", "v=spf1 -all") + txt("_dmarc", "v=DMARC1; p=none"),
        "good.example": txt("@", "v=spf1 ip4:127.0.0.0/8 -all") + txt("_dmarc", "v=DMARC1; p=reject"),
        "demo.test": txt("@", "v=spf1 ip4:127.0.0.9 -all"),
    }

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server.run("alias", "add", "out@demo.test", "Bob@elsewhere.example", "carol@third.example")
        cls.server.run("alias", "add", "both@demo.test", "alice@demo.test", "bob@elsewhere.example")

    def tearDown(self):
        for row in self.listed():
            self.server.run("queue", "hold", row["id"], check=False)
        harness.wait_for(lambda: self.server.run("queue", "delete", "id=*", check=False).returncode in (0, 1) and not self.listed(), 20, 0.2)

    def listed(self, *words):
        return json.loads(self.server.run("--json", "queue", "list", *words).stdout)

    def item(self):
        """The one that waits, and its message."""
        row, = self.listed()
        return row, self.server.queued(row["id"])

    def send(self, *to, sender="A.b+c@client.example", author=b"x@client.example", fields=b"", source="127.0.0.1"):
        """The code, and the words of the last reply."""
        with self.server.smtp(source_address=(source, 0)) as s:
            s.ehlo()
            s.mail(sender)
            for one in to:
                code, text = s.rcpt(one)
                if code != 250:
                    return code, text.decode()
            code, text = s.data(fields + MESSAGE % author)
            return code, text.decode()

    def inbox(self, user="alice"):
        """How many have come, in INBOX and Junk together."""
        c = self.server.imap(user)
        n = sum(int(c.select(box, readonly=True)[1][0]) for box in ("INBOX", "Junk"))
        c.logout()
        return n


class TestAlias(ForwardTest):
    def test_outside_alone(self):
        code, text = self.send("out@demo.test")
        self.assertEqual(code, 250, text)
        row, message = self.item()
        self.assertEqual([(r["address"], r["here"], r["forwarded"]) for r in row["recipients"]],
                         [("Bob@elsewhere.example", False, True), ("carol@third.example", False, True)])
        self.assertEqual(row["sender"], "A.b+c@client.example")
        self.assertRegex(row["forward_from"], SRS)
        # Trace fields, and then what came, octet for octet.
        self.assertTrue(message.endswith(MESSAGE % b"x@client.example"), message)
        self.assertIn(b"\r\nDelivered-To: out@demo.test\r\n", message)
        head = message[:-len(MESSAGE % b"x@client.example")]
        self.assertEqual(re.findall(rb"^([\w-]+):", head, re.M), [b"Return-Path", b"Delivered-To", b"Authentication-Results", b"Received"])

    def test_mailbox_and_outside(self):
        before = self.inbox()
        self.assertEqual(self.send("both+x@demo.test", "alice@demo.test")[0], 250)
        harness.wait_for(lambda: self.inbox() == before + 1)
        row, = self.listed()
        self.assertEqual(sorted((r["address"], r["here"], r["forwarded"]) for r in row["recipients"]),
                         [("bob@elsewhere.example", False, True), ("both+x@demo.test", True, False)])

    def test_senders(self):
        """The null reverse-path stays, and that of our own users stays in their domain."""
        self.assertEqual(self.send("out@demo.test", sender="")[0], 250)
        row, _ = self.item()
        self.assertEqual((row["sender"], row["forward_from"]), ("", ""))
        self.tearDown()
        with self.server.submission() as s:
            s.sendmail("alice@demo.test", ["out@demo.test", "dave@elsewhere.example"], MESSAGE % b"alice@demo.test")
        row, message = self.item()
        self.assertEqual(row["sender"], "alice@demo.test")
        self.assertRegex(row["forward_from"], r"^SRS0=[a-z2-7]{8}=[a-z2-7]{2}=demo\.test=alice@demo\.test$")
        self.assertEqual([r["forwarded"] for r in row["recipients"] if r["address"] == "dave@elsewhere.example"], [False])
        # One recipient is not told of another.
        self.assertNotIn(b"out@demo.test", message)
        self.assertRegex(message, rb"\r\nDelivered-To: [a-z2-7]{20}@forwarded\.invalid\r\n")

    def test_several_aliases(self):
        """One reverse-path for all; every target once."""
        self.server.run("alias", "add", "more@demo.test", "carol@third.example")
        try:
            self.assertEqual(self.send("out@demo.test", "more@demo.test")[0], 250)
        finally:
            self.server.run("alias", "delete", "more@demo.test")
        row, message = self.item()
        self.assertEqual([r["address"] for r in row["recipients"]], ["Bob@elsewhere.example", "carol@third.example"])
        self.assertEqual(len(re.findall(rb"\nDelivered-To: [a-z2-7]{20}@forwarded\.invalid\r", message)), 2)


class TestTurnedOff(ForwardTest):
    def test_nothing_leaves(self):
        """What an alias led elsewhere comes again later; mailboxes here get it."""
        path = self.server.demo + "/mailstead.conf"
        with open(path, encoding="utf-8") as f:
            text = f.read()
        self.assertIn("transport.enabled = yes", text)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text.replace("transport.enabled = yes", "transport.enabled = no"))
        before = self.inbox()
        self.server.run("reload")
        harness.wait_for(lambda: self.send("out@demo.test")[1][:5] == "4.3.2")
        self.assertEqual(self.send("both@demo.test")[0], 250)

        def arrived():
            try:
                return self.inbox() == before + 1
            except ssl.SSLError:  # handshakes under way while the keys are read again
                return False
        harness.wait_for(arrived)
        self.assertEqual(self.listed(), [])


class TestNotSentOn(ForwardTest):
    def not_on(self, rule, code, **kw):
        before = self.inbox()
        got, text = self.send("out@demo.test", **kw)
        self.assertEqual(got, code, text)
        self.assertEqual(self.listed(), [])
        # Who has a mailbox here gets it.
        got, text = self.send("both@demo.test", **kw)
        self.assertEqual(got, 250, text)
        self.assertEqual(self.inbox(), before + 1)
        self.assertEqual(self.listed(), [])
        queue_id = text.split()[-1]
        told = harness.wait_for(lambda: self.server.run("explain", queue_id, check=False).stdout)
        self.assertIn(rule, told)
        replayed = self.server.run("explain", queue_id, "--replay", check=False)
        self.assertEqual(replayed.returncode, 0, replayed.stdout + replayed.stderr)

    def test_dmarc(self):
        """Whoever fails DMARC is not sent on, also when the domain asks for nothing (p=none)."""
        self.not_on("forward-dmarc", 550, author=b"x@strict.example")
        self.assertEqual(self.send("out@demo.test", sender="x@good.example", author=b"x@good.example")[0], 250)

    def test_our_own_domain(self):
        """In the name of ours only what shows that it is: it would pass for ours where it is sent on to."""
        self.not_on("forward-ours", 550, author=b"alice@demo.test")
        self.not_on("forward-ours", 550, author=b"x@sub.demo.test", sender="alice@demo.test")

    def test_junk(self):
        self.not_on("forward-junk", 550, fields=b"this is no field\r\n")

    def test_forged_sender(self):
        """Who is said to have sent it, and by SPF has not, is not told that it failed elsewhere: he would be the one to suffer."""
        for sender, source, told in (("x@strict.example", "127.0.0.1", False), ("x@good.example", "127.0.0.1", True),
                                     ("A.b+c@client.example", "127.0.0.1", True)):
            self.assertEqual(self.send("out@demo.test", sender=sender, source=source)[0], 250, sender)
            row, _ = self.item()
            self.server.run("queue", "hold", row["id"])
            harness.wait_for(lambda i=row["id"]: self.server.run("queue", "discard", i, check=False).returncode == 0, 20, 0.2)
            self.assertEqual([r["report"] != "" for r in self.listed(row["id"])], [True] if told else [], sender)
            self.tearDown()

    def test_loop(self):
        """What has been sent on by an address does not go there again, by whichever name it was marked."""
        self.not_on("forward-loop", 554, fields=b"Delivered-To:  OUT@demo.test\r\nDelivered-To: both@demo.test\r\n")
        self.assertEqual(self.send("out@demo.test", "both@demo.test")[0], 250)
        marks = re.findall(rb"Delivered-To: .*\r\n", self.item()[1])
        self.assertEqual(len(marks), 2)
        self.tearDown()
        self.not_on("forward-loop", 554, fields=b"".join(marks))
        self.assertEqual(self.send("out@demo.test", fields=b"Delivered-To: other@demo.test\r\nDelivered-To: x@forwarded.invalid\r\n")[0], 250)

    def test_loop_by_sender(self):
        """A server on the way that takes away all fields leaves the reverse-path: so often it goes on, and no more."""
        with self.server.submission() as s:
            s.sendmail("alice@demo.test", ["out@demo.test"], MESSAGE % b"alice@demo.test")
        ours = self.item()[0]["forward_from"]
        self.tearDown()
        for sender in ("A.b+c@client.example", ours):
            times = 2 if sender == ours else 1
            while times <= 4:
                self.assertEqual(self.send("out@demo.test", sender=sender)[0], 250, sender)
                row, _ = self.item()
                self.assertRegex(row["forward_from"], r"^SRS0=[a-z2-7]{8}%s=" % ("" if times == 1 else "[c-e]"))
                self.tearDown()
                sender = row["forward_from"] if times % 2 else "SRS1=xxxx=demo.test=%s@second.example" % row["forward_from"].split("@")[0][4:]
                times += 1
            self.not_on("forward-loop", 554, sender=sender)
        # A user who may send as any name of the domain has no other reverse-path there, either.
        self.server.run("alias", "add", "@demo.test", "alice@demo.test")
        sender = row["forward_from"]
        with self.server.submission() as s:
            for to, code in ((["out@demo.test"], 554), (["out@demo.test", "dave@elsewhere.example"], 250)):
                s.mail(sender)
                for one in to:
                    self.assertEqual(s.rcpt(one)[0], 250)
                self.assertEqual(s.data(MESSAGE % b"alice@demo.test")[0], code)
        self.assertEqual([r["address"] for r in self.item()[0]["recipients"]], ["dave@elsewhere.example"])
        self.server.run("alias", "delete", "@demo.test")


class TestBounce(ForwardTest):
    def test_bounce(self):
        """From the null sender, to whom the message was from; from nobody else."""
        self.assertEqual(self.send("out@demo.test")[0], 250)
        path = self.item()[0]["forward_from"]
        self.tearDown()
        code, text = self.send(path)
        self.assertEqual((code, text[:5]), (550, "5.1.1"))
        # Its letters may have changed their case on the way.
        for address in (path, path.lower(), '"%s"@%s' % tuple(path.rsplit("@", 1))):
            self.assertEqual(self.send(address, sender="")[0], 250, address)
            row, message = self.item()
            (to,) = row["recipients"]
            self.assertEqual(to["address"], "A.b+c@client.example" if address != path.lower() else "a.b+c@client.example")
            self.assertEqual((to["forwarded"], row["sender"], row["forward_from"]), (True, "", ""))
            self.assertTrue(message.endswith(MESSAGE % b"x@client.example"))
            self.tearDown()
        for wrong in (path.replace("client.example", "victim.example"), path.replace("A.b", "x"), "SRS0=aaaaaaaa" + path[13:]):
            self.assertEqual(self.send(wrong, sender="")[0], 550, wrong)
        self.assertEqual(self.send(path.replace("@demo.test", "@elsewhere.example"), sender="")[0], 550)

    def test_rotate(self):
        """With a new secret senders are rewritten otherwise; a bounce to what was made with the last one still comes back."""
        def path():
            self.assertEqual(self.send("out@demo.test")[0], 250)
            made = self.item()[0]["forward_from"]
            self.tearDown()
            return made

        def secrets():
            return {r["secret"]: bool(r["until"]) for r in json.loads(self.server.run("--json", "srs", "list").stdout)}
        first = path()
        self.assertEqual(secrets(), {"newest": False})
        self.server.run("srs", "rotate")
        self.assertEqual(secrets(), {"newest": False, "older": True})
        self.assertNotEqual(path(), first)
        self.assertEqual(self.send(first, sender="")[0], 250)
        self.tearDown()
        done = self.server.run("srs", "rotate", check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("still needed", done.stderr)
        self.server.run("srs", "rotate", "--force")
        self.assertEqual(self.send(first, sender="")[0], 550)

    def test_second_forwarder(self):
        """A rewritten sender of another server becomes one that leads back there."""
        theirs = "SRS0=HHHH=TT=client.example=a@second.example"
        self.assertEqual(self.send("out@demo.test", sender=theirs)[0], 250)
        path = self.item()[0]["forward_from"]
        self.assertRegex(path, r"^SRS0=[a-z2-7]{8}=[a-z2-7]{2}=second\.example=SRS0=HHHH=TT=client\.example=a@demo\.test$")
        self.tearDown()
        self.assertEqual(self.send(path, sender="")[0], 250)
        self.assertEqual(self.item()[0]["recipients"][0]["address"], theirs)

    def test_long_sender(self):
        """Longer than a local part is elsewhere: taken where we made it; what no address can hold leaves with none."""
        sender = "bounces+%s=client.example@mailer.client.example" % ("x" * 40)
        self.assertEqual(self.send("out@demo.test", sender=sender)[0], 250)
        path = self.item()[0]["forward_from"]
        self.assertGreater(len(path.split("@")[0]), 64)
        self.tearDown()
        self.assertEqual(self.send(path, sender="")[0], 250)
        self.assertEqual(self.item()[0]["recipients"][0]["address"], sender)
        self.tearDown()
        domain = ".".join(["d" * 60] * 3) + ".example"
        self.assertEqual(self.send("out@demo.test", sender="x" * 60 + "@" + domain)[0], 250)
        self.assertEqual(self.item()[0]["forward_from"], "")


class TestOverLmtp(ForwardTest):
    """Each recipient has its answer."""

    @classmethod
    def setUpClass(cls):
        cls.path = "/tmp/mailstead-forward-lmtp-%d" % os.getpid()
        cls.settings = dict(ForwardTest.settings, **{"lmtp.listen": cls.path})
        super().setUpClass()

    def lmtp(self, *to, fields=b""):
        import socket
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(60)
        s.connect(self.path)
        w = harness.Wire(s)
        w.reply()
        w.send("LHLO x\r\n").reply()
        w.send("MAIL FROM:<A.b+c@client.example>\r\n").reply()
        for one in to:
            self.assertRegex(w.send("RCPT TO:<%s>\r\n" % one).reply(), rb"^250")
        w.send("DATA\r\n").reply()
        w.send(fields + MESSAGE % b"alice@demo.test" + b".\r\n")
        return [w.reply() for _ in to]

    def test_answers(self):
        got = self.lmtp("out@demo.test", "alice@demo.test", "both@demo.test")
        self.assertTrue(all(g.startswith(b"250 2.0.0 Taken") for g in got), got)
        row, _ = self.item()
        self.assertEqual(len(row["recipients"]), 4)
        self.assertRegex(row["forward_from"], SRS)
        harness.wait_for(lambda: self.inbox() == 1)

    def test_loop(self):
        before = self.inbox()
        mark = b"Delivered-To: out@demo.test\r\n"
        got = self.lmtp("out@demo.test", "both@demo.test", "alice@demo.test", fields=mark)
        self.assertRegex(got[0], rb"^554 5\.4\.6")
        self.assertTrue(all(g.startswith(b"250") for g in got[1:]), got)
        self.assertRegex(self.lmtp("out@demo.test", fields=mark)[0], rb"^554 5\.4\.6")
        self.assertEqual(self.listed(), [])
        self.assertEqual(self.inbox(), before + 1)


class TestOnTheWay(test_outbound.OutboundTest):
    """To the other server and back."""
    more_settings = {"smtp.rate_unknown": "0"}
    more_zones = {"client.example": "@ IN MX 10 a.out.example.\n"}

    def send(self, to, sender, message=MESSAGE % b"x@client.example"):
        with self.server.smtp() as s:
            s.ehlo()
            self.assertEqual(s.mail(sender)[0], 250)
            self.assertEqual(s.rcpt(to)[0], 250)
            code, text = s.data(message)
            self.assertEqual(code, 250, text)

    def got(self):
        """The one message that the first server has taken: (MAIL, RCPTs, octets)."""
        harness.wait_for(lambda: self.first.messages, 15, 0.05)
        (mail, rcpts, octets, _), = self.first.messages
        self.first.reset()
        return mail, rcpts, octets

    def test_there_and_back(self):
        self.server.run("alias", "add", "on@demo.test", "Bob@" + self.domain)
        self.send("on@demo.test", "A.b+c@client.example")
        mail, rcpts, octets = self.got()
        path = re.match(r"<(%s)>" % SRS.pattern, mail)
        self.assertTrue(path, mail)
        self.assertEqual(rcpts, ["<Bob@%s>" % self.domain])
        self.assertTrue(octets.startswith(b"Delivered-To: on@demo.test\r\n"), octets)
        self.assertTrue(octets.endswith(MESSAGE % b"x@client.example"))
        # It comes back from there, as a bounce and as itself.
        self.send(path.group(1), "", b"From: postmaster@client.example\r\nSubject: bounce\r\n\r\nx\r\n")
        mail, rcpts, _ = self.got()
        self.assertEqual((mail.split()[0], rcpts), ("<>", ["<A.b+c@client.example>"]))
        with self.server.smtp() as s:
            s.ehlo()
            s.mail(path.group(1))
            s.rcpt("on@demo.test")
            code, text = s.data(octets)
        self.assertEqual((code, text[:5]), (554, b"5.4.6"))

    def test_refused_there(self):
        """The sender is told of the address that he knows (RFC 3461 5.2.7)."""
        self.server.run("alias", "add", "no@demo.test", "secret@" + self.domain)
        self.first.reset(rcpt=lambda s: "550 5.1.1 no secret@... here" if "secret" in s.commands[-1] else None)
        self.send("no@demo.test", "a@client.example")
        mail, rcpts, octets = self.got()
        self.assertEqual((mail.split()[0], rcpts), ("<>", ["<a@client.example>"]))
        self.assertIn(b"\r\nSubject: Not delivered: no@demo.test\r\n", octets)
        self.assertIn(b"\r\nFinal-Recipient: rfc822; no@demo.test\r\n", octets)
        self.assertNotIn(b"secret", octets)
        self.assertNotIn(b"out.example", octets)
