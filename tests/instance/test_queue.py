"""What waits in the queue for other servers, and what an operator can do about it."""

import json
import os

import harness

MESSAGE = b"From: %s@demo.test\r\nTo: you@else.example\r\nSubject: out\r\n\r\nhello\r\n"


class QueueTest(harness.InstanceTest):
    # A server that nobody reaches: what is told of it is another test's matter.
    settings = {"transport.enabled": "yes", "transport.relay": "127.0.0.1@1"}

    def listed(self, *words):
        return json.loads(self.server.run("--json", "queue", "list", *words).stdout)

    def submit(self, *to, user="alice"):
        with self.server.submission(user) as s:
            s.mail("%s@demo.test" % user)
            for one in to:
                self.assertEqual(s.rcpt(one)[0], 250, one)
            code, text = s.data(MESSAGE % user.encode())
        self.assertEqual(code, 250, text)
        return text.split()[-1].decode()

    def delete(self, *words):
        return self.server.run("queue", "delete", *words)


class TestCommands(QueueTest):
    def tearDown(self):
        # Held first: what is being tried at this moment cannot be deleted.
        for row in self.listed():
            self.server.run("queue", "hold", row["id"], check=False)
        harness.wait_for(lambda: self.server.run("queue", "delete", "id=*", check=False).returncode in (0, 1) and not self.listed(), 20, 0.2)

    def test_mixed(self):
        """Who has a mailbox here gets it at once, who has not waits, and one id names both."""
        queue_id = self.submit("bob@demo.test", "you@else.example", "you@third.example")
        with self.server.imap("bob") as m:
            harness.wait_for(lambda: m.select()[1] == [b"1"])
            _, data = m.fetch("1", "(BODY.PEEK[HEADER])")
            self.assertIn(b"Return-Path: <alice@demo.test>", data[0][1])
            m.store("1", "+FLAGS", r"(\Deleted)")
            m.expunge()
        (row,) = self.listed(queue_id)
        states = {r["address"]: (r["state"], r["here"]) for r in row["recipients"]}
        self.assertEqual(states, {"bob@demo.test": ("done", True), "you@else.example": ("pending", False),
                                  "you@third.example": ("pending", False)})

    def test_selection(self):
        first = self.submit("a@one.example", "b@two.example")
        second = self.submit("c@ONE.example", user="bob")
        for words, want in ((["domain=one.example"], {first, second}), (["domain=*two*"], {first}), (["to=c@*", "sender=bob*"], {second}),
                            (["to=a@*", "sender=bob*"], set()), ([second], {second}), ([first, second], {first, second}),
                            ([first, "sender=bob*"], set()), (["to=a@*", "domain=two.example"], set()), (["recipient=pending"], {first, second})):
            self.assertEqual({r["id"] for r in self.listed(*words)}, want, words)
        wrong = self.server.run("queue", "list", "colour=red", check=False)
        self.assertEqual(wrong.returncode, 2)
        self.assertIn("colour=red", wrong.stderr)
        shown = self.server.run("queue", "show", first).stdout
        self.assertIn("from <alice@demo.test>", shown)
        self.assertIn("b@two.example: pending", shown)
        self.assertEqual(self.server.run("queue", "show", "to=nobody@*", check=False).returncode, 1)

    def test_selection_by_what_has_an_order(self):
        small = self.submit("a@one.example")
        with self.server.submission() as s:
            s.sendmail("alice@demo.test", ["b@two.example"], MESSAGE % b"alice" + b"x" * 70 * 1024)
        big = (set(r["id"] for r in self.listed()) - {small}).pop()
        for words, want in ((["bytes>64K"], {big}), (["bytes<64K", "added>1h"], {small}), (["added<1h"], set()), (["unsure=no"], {small, big}),
                            (["attempts>100"], set()), (["priority=0", "domain=one.example"], {small}), (["here=yes"], set()),
                            ([small, "bytes>64K"], set()), ([small, big, small], {small, big})):
            found = [r["id"] for r in self.listed(*words)]
            self.assertEqual((set(found), len(found)), (want, len(want)), words)
        for wrong in ("bytes>much", "sender<x", "added<yesterday"):
            self.assertEqual(self.server.run("queue", "list", wrong, check=False).returncode, 2, wrong)

    def test_tries(self):
        """What was never tried says so."""
        with self.server.submission() as s:
            s.ehlo()
            self.assertEqual(s.docmd("MAIL FROM:<alice@demo.test> HOLDFOR=3600")[0], 250)
            for to in ("a@one.example", "bob@demo.test"):
                self.assertEqual(s.rcpt(to)[0], 250)
            self.assertEqual(s.data(MESSAGE % b"alice")[0], 250)
        row, = self.listed("state=scheduled", "attempts<1")
        self.assertEqual([r["attempts"] for r in row["recipients"]], [0, 0])

    def test_what_a_terminal_obeys(self):
        """An address may have signs that a terminal would act upon: they are not printed. JSON tells them."""
        evil = "\u009b31mred\u202etxet@else.example"
        with self.server.submission() as s:
            s.ehlo()
            self.assertEqual(s.docmd("MAIL FROM:<alice@demo.test> SMTPUTF8")[0], 250)
            s.sock.sendall(("RCPT TO:<%s>\r\n" % evil).encode())
            self.assertEqual(s.getreply()[0], 250)
            self.assertEqual(s.data(MESSAGE % b"alice")[0], 250)
        self.assertEqual([r["address"] for row in self.listed() for r in row["recipients"]], [evil])
        for verb in ("list", "show"):
            said = self.server.run("queue", verb).stdout
            self.assertNotRegex(said, "[\u0080-\u009f\u202e]", verb)
            self.assertIn("red", said)

    def test_hold_release_discard(self):
        queue_id = self.submit("a@one.example")
        self.assertIn("held", self.server.run("queue", "hold", queue_id).stdout)
        harness.wait_for(lambda: self.listed(queue_id)[0]["state"] == "held")
        # A restart does not forget it.
        self.server.allow(r"(role-ended|restart-later).*queue|ipc|edge")
        for pid in self.server.processes()["smtpd-queue"]:
            os.kill(pid, 9)
        harness.wait_for(lambda: self.server.run("queue", "list", check=False).returncode == 0)
        self.assertEqual(self.listed(queue_id)[0]["state"], "held")
        self.assertIn("0 deliveries", self.server.run("queue", "flush").stdout)
        self.server.run("queue", "release", queue_id)
        harness.wait_for(lambda: self.listed(queue_id)[0]["state"] != "held")
        self.server.run("queue", "hold", queue_id)
        harness.wait_for(lambda: self.listed(queue_id)[0]["state"] == "held")
        self.assertIn("deleted", harness.wait_for(lambda: (lambda d: d.stdout if d.returncode == 0 else None)(
            self.server.run("queue", "delete", queue_id, check=False)), 10, 0.2))
        self.assertEqual(self.listed(queue_id), [])
        self.assertEqual(self.server.run("queue", "hold", queue_id, check=False).returncode, 1)

    def test_progress(self):
        """How far it is, on a terminal; nothing of it elsewhere, or beside JSON."""
        for i in range(3):
            self.submit("a%d@one.example" % i)
        for words, shows in ((("queue", "hold", "id=*"), True), (("queue", "release", "id=*"), True),
                             (("--json", "queue", "hold", "id=*"), False)):
            status, said, shown = self.server.run_on_terminal(*words)
            self.assertEqual(status, 0, words)
            if shows:
                self.assertRegex(shown, rb"^\r\x1b\[Kmessages +\[#+\.+\] 1 of 3")
                self.assertTrue(shown.endswith(b"\r\x1b[K"), shown[-20:])
            else:
                self.assertEqual(shown, b"")
                self.assertEqual(len(json.loads(said)), 3)
        self.assertEqual(self.server.run("queue", "release", "id=*").stderr, "")

    def test_addresses(self):
        """The destination is the domain as the DNS has it, and what cannot be one never gets into the queue."""
        with self.server.submission() as s:
            s.mail("alice@demo.test")
            for bad in ("x@localhost", "x@[192.0.2.1]", "x@1.2.3.4"):
                self.assertGreaterEqual(s.rcpt(bad)[0], 500, bad)
        with self.server.smtp() as s:
            s.ehlo()
            s.mail("someone@sender.example")
            self.assertEqual(s.rcpt("you@else.example")[0], 550)


class TestMany(QueueTest):
    """A message whose row is longer than a page of the list."""

    settings = {"transport.enabled": "yes", "transport.relay": "127.0.0.1@1", "smtp.recipients": "1000", "submission.day_addresses": "0"}

    def test_list(self):
        small = [self.submit("a@one.example")]
        many = ["someone-with-a-long-name%d@else%d.example" % (i, i % 7) for i in range(330)]
        big = self.submit(*many)
        small.append(self.submit("b@one.example"))
        rows = {row["id"]: row for row in self.listed()}
        self.assertEqual(set(rows), {big, *small})
        self.assertEqual(sorted(r["address"] for r in rows[big]["recipients"]), sorted(many))
        self.assertEqual([row["id"] for row in self.listed("to=" + many[-1])], [big])


class TestLifetime(QueueTest):
    settings = {"transport.enabled": "yes", "transport.relay": "127.0.0.1@1", "queue.lifetime": "1m"}

    def test_restart(self):
        """Nothing that was answered 250 is lost by kill -9."""
        self.server.allow(r"(role-ended|restart-later).*(queue|deliver|transport)|ipc|edge|unsent")
        ids = {self.submit("a%d@one.example" % i, "b@two.example") for i in range(10)}
        for name in ("smtpd-queue", "smtpd-transport", "smtpd-queue"):
            for pid in self.server.processes()[name]:
                os.kill(pid, 9)
            harness.wait_for(lambda: self.server.run("queue", "list", check=False).returncode == 0)
        self.assertEqual({r["id"] for r in self.listed()}, ids)
