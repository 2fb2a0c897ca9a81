"""A front that was taken over gets no mailbox and sends nothing in anyone's name (docs/architecture.md, "Roles and edges")."""

import os
import shutil
import unittest

import harness


class EvilTest(unittest.TestCase):
    """A server whose front of that program is the evil one of tests/evil."""

    program = None
    settings = None

    def setUp(self):
        libexec = os.path.join(harness.BUILD, "libexec")
        self.libexec = os.path.join(harness.BUILD, "tests", "evil-libexec-" + self.program)
        shutil.rmtree(self.libexec, ignore_errors=True)
        os.makedirs(self.libexec)
        for name in os.listdir(libexec):
            os.symlink(os.path.join(libexec, name), os.path.join(self.libexec, name))
        os.remove(os.path.join(self.libexec, self.program))
        shutil.copy(os.path.join(harness.BUILD, "tests", "evil", self.program), self.libexec)
        os.environ["MAILSTEAD_LIBEXEC"] = self.libexec
        self.addCleanup(os.environ.pop, "MAILSTEAD_LIBEXEC", None)
        self.server = harness.Server(settings=self.settings)
        self.server.allow(r"event=(ipc-garbage|garbage|restart|role-|exit)")
        self.server.allow(r"level=(warn|error).*(lease|refused|%s)" % self.program.split("-")[0])
        self.addCleanup(self.end)

    def end(self):
        self.assertEqual(self.server.close(), [])
        shutil.rmtree(self.libexec, ignore_errors=True)

    def told(self, service, line):
        """What the evil front says when it is told that line; empty when it was ended for it."""
        with self.server.raw(service) as w:
            try:
                return w.send(line + "\n").line().decode().strip()
            except OSError:
                return ""

    def account(self, address):
        import json
        rows = json.loads(self.server.run("account", "list", "--json").stdout)
        return [r for r in rows if address in r.values()][0]["id"]


class TestEvilImapFront(EvilTest):
    program = "imapd-front"

    def test_no_mailbox_without_a_lease(self):
        self.server.deliver(b"From: a@client.example\r\nSubject: private\r\n\r\nx\r\n")
        with self.server.raw("imap") as w:
            for conn in list(range(0, 50)) + [2**64 - 1]:
                answer = w.send("attach %d\n" % conn).line().decode()
                self.assertRegex(answer, r"class [1-9]\d* relay no", conn)
        alice = self.account("alice@demo.test")
        before = self.server.processes()["imapd-front"]
        self.assertIn(self.told("imap", "lease %d 7" % alice), ("sent", ""))  # it may be ended before it has said so
        # The store ended that edge and had the front restarted; what it claimed does not exist.
        harness.wait_for(lambda: self.server.processes().get("imapd-front") not in (None, [], before))
        harness.wait_for(lambda: "relay no" in self.told("imap", "attach 7"))
        self.assertNotIn("imapd-worker", self.server.processes())
        self.assertIn("ipc-garbage", self.server.log())
        p = self.server.pop3("alice")  # the others go on
        self.assertEqual(p.stat()[0], 1)
        p.quit()


class TestEvilSmtpFront(EvilTest):
    program = "smtpd-front"
    settings = {"transport.enabled": "yes"}  # for users: it relays for nobody

    def in_mailboxes(self):
        c = self.server.imap("bob")
        found = []
        for box in ("INBOX", "Junk"):
            c.select(box, readonly=True)
            if c.search(None, "ALL")[1][0]:
                found += [i[1] for i in c.fetch("1:*", "(BODY.PEEK[])")[1] if isinstance(i, tuple)]
        c.logout()
        return found

    def test_nothing_is_sent_in_anyones_name(self):
        answer = self.told("smtp", "submit alice@demo.test someone@elsewhere.example")
        self.assertRegex(answer, r"^5\d\d ")
        alice = self.account("alice@demo.test")
        for line in ("lease %d" % alice, "queue"):
            before = self.server.processes()["smtpd-front"]
            self.assertIn(self.told("smtp", line), ("sent", ""))
            harness.wait_for(lambda: self.server.processes().get("smtpd-front") not in (None, [], before))
        answer = harness.wait_for(lambda: self.told("smtp", "submit alice@demo.test someone@elsewhere.example"))
        self.assertRegex(answer, r"^5\d\d ")
        self.assertEqual(self.server.run("queue", "list", "--json").stdout.split(), ["[]"])
        # To a local user it is mail from outside like any other: judged, and marked so.
        answer = self.told("smtp", "submit alice@demo.test bob@demo.test")
        for message in self.in_mailboxes():
            self.assertNotIn(b"ESMTPSA", message.split(b"\r\n\r\n")[0])
            self.assertIn(b"Authentication-Results:", message)

    def test_no_dkim_signature(self):
        """Which keys there are, and signatures by them, are for the sign role alone."""
        key = self.server.processes()["authd-key"][0]
        self.server.run("dkim", "create", "demo.test", "--force")
        # What is sent to the old one, which ends to be replaced, is read by nobody.
        harness.wait_for(lambda: key not in self.server.processes().get("authd-key", [key]))
        for line in ("dkim-find", "dkim-sign"):
            before = self.server.processes()["smtpd-front"]
            # "no key": the new one is not there yet.
            self.assertIn(harness.wait_for(lambda: (lambda a: a if a != "no key" else None)(self.told("smtp", line) or "-")), ("sent", "-"))
            harness.wait_for(lambda: self.server.processes().get("smtpd-front") not in (None, [], before))
        self.assertIn("ipc-garbage", self.server.log())
        self.assertNotIn("evil-got", self.server.log())

    def test_nothing_comes_over_lmtp_where_none_is(self):
        """So it is judged."""
        self.server.allow("transaction-malformed")
        before = len(self.in_mailboxes())
        self.assertRegex(self.told("smtp", "lmtp a@client.example bob@demo.test"), r"^451 ")
        self.assertEqual(len(self.in_mailboxes()), before)


class TestEvilSign(EvilTest):
    program = "smtpd-sign"
    settings = {"transport.enabled": "yes"}

    def test_no_certificates_and_no_signature_by_their_keys(self):
        for body in (b"x", b"xx"):
            before = self.server.processes()["smtpd-sign"]
            with self.server.submission() as s:
                s.mail("alice@demo.test")
                s.rcpt("you@else.example")
                # Its successor is no better: the message is not sent unsigned.
                self.assertEqual(s.data(b"From: alice@demo.test\r\nSubject: x\r\n\r\n" + body + b"\r\n")[0], 451)
            harness.wait_for(lambda: self.server.processes().get("smtpd-sign") not in (None, [], before))
        self.assertGreaterEqual(self.server.log().count("ipc-garbage"), 2)
        self.assertNotIn("evil-got", self.server.log())

    def test_one_message_takes_no_other_down(self):
        """The message that ends the sign process is deferred; those that were with it there are sent."""
        for domain in ("good.test", "poison.test"):
            self.server.run("domain", "add", domain)
            self.server.run("account", "add", "carol@" + domain, "--password-stdin", stdin="long enough a word\n")
            self.server.passwords["carol@" + domain] = "long enough a word"
        codes = {"good.test": [], "poison.test": []}

        def send(domain):
            with self.server.submission("carol@" + domain) as s:
                s.mail("carol@" + domain)
                s.rcpt("you@else.example")
                codes[domain].append(s.data(b"From: carol@%s\r\nSubject: x\r\n\r\nx\r\n" % domain.encode())[0])

        harness.in_threads([lambda d=d: send(d) for d in ["good.test"] * 3 + ["poison.test"] + ["good.test"] * 2])
        self.assertEqual(codes, {"good.test": [250] * 5, "poison.test": [451]})


if __name__ == "__main__":
    unittest.main()
