"""Guard rails: what an account sends to other servers in a day, and what looks like a stolen one."""

import json
import os
import signal

import harness

MESSAGE = b"From: %s@demo.test\r\nTo: you@else.example\r\nSubject: out\r\n\r\nhello\r\n"


class GuardTest(harness.InstanceTest):
    def listed(self, *words):
        return json.loads(self.server.run("--json", "queue", "list", *words).stdout)

    def states(self):
        return {r["recipients"][0]["address"]: r["state"] for r in self.listed()}

    def submit(self, *to, user="alice"):
        with self.server.submission(user) as s:
            s.mail("%s@demo.test" % user)
            for one in to:
                self.assertEqual(s.rcpt(one)[0], 250, one)
            code, text = s.data(MESSAGE % user.encode())
        return code, text.decode()

    def decided(self, key, rule):
        def found():
            done = self.server.run("--json", "explain", key, "--replay", check=False)
            rows = json.loads(done.stdout) if done.stdout.strip() else []
            return [r for r in rows if r["event"] == "decision" and r["fields"]["rule"] == rule]
        row = harness.wait_for(found)[0]
        self.assertTrue(row["again"]["same"], row)


class TestLimits(GuardTest):
    settings = {"transport.enabled": "yes", "submission.day_messages": "5", "submission.day_recipients": "12"}

    def test_messages(self):
        for _ in range(5):
            self.assertEqual(self.submit("a@else.example")[0], 250)
        code, text = self.submit("a@else.example")
        self.assertEqual((code, text[:5]), (450, "4.7.0"))
        self.decided("alice@demo.test", "account-messages")
        # To people of this server, and for others, nothing has changed.
        self.assertEqual(self.submit("bob@demo.test")[0], 250)
        self.assertEqual(self.submit("a@else.example", user="bob")[0], 250)

    def test_recipients(self):
        self.server.run("account", "add", "carol@demo.test", "--password-stdin", stdin="a password of carol\n")
        self.server.passwords["carol@demo.test"] = "a password of carol"
        self.assertEqual(self.submit(*("a%d@else.example" % i for i in range(10)), "bob@demo.test", user="carol")[0], 250)
        code, text = self.submit("a@else.example", "b@else.example", "c@else.example", user="carol")
        self.assertEqual((code, text[:5]), (450, "4.7.0"))
        self.assertEqual(self.submit("a@else.example", "b@else.example", user="carol")[0], 250)
        self.decided("carol@demo.test", "account-recipients")


class TestStolen(GuardTest):
    settings = {"transport.enabled": "yes", "submission.day_addresses": "3"}

    def test_held(self):
        self.server.allow("event=account-held login=alice@demo.test")
        self.server.run("alias", "add", "postmaster@demo.test", "bob@demo.test")
        for _ in range(3):
            self.assertEqual(self.submit("a@else.example", "b@else.example")[0], 250)
        self.assertEqual(self.submit("A@else.example", "c@else.example")[0], 250)
        self.assertEqual({r["state"] for r in self.listed()} & {"held"}, set())
        self.assertEqual(self.submit("d@else.example")[0], 250)
        self.assertEqual(self.submit("a@else.example", "bob@demo.test")[0], 250)
        held = [r for r in self.listed() if r["state"] == "held"]
        self.assertEqual(sorted(tuple(t["address"] for t in r["recipients"]) for r in held),
                         [("a@else.example", "bob@demo.test"), ("d@else.example",)])
        self.decided("d@else.example", "account-held")
        # The owner is told, once, and so is the postmaster.
        for user in ("alice", "bob"):
            with self.server.imap(user) as c:
                found = harness.wait_for(lambda c=c: c.select()[1] != [b"0"] and c.search(None, "SUBJECT", '"is held"')[1][0].split())
                self.assertEqual(len(found), 1, user)
                text = c.fetch(found[0], "(BODY.PEEK[])")[1][0][1]
                self.assertIn(b"Return-Path: <>\r\n", text)
                self.assertIn(b"\r\nSubject: Mail of alice@demo.test is held\r\n", text)
                self.assertIn(b"\r\nAuto-Submitted: auto-generated\r\n", text)
                self.assertIn(held[-1]["id"].encode(), text)
        # Within the server all goes on, and nobody else is concerned.
        self.assertEqual(self.submit("bob@demo.test")[0], 250)
        self.assertEqual(self.submit("a@else.example", user="bob")[0], 250)
        self.assertEqual(len([r for r in self.listed() if r["state"] == "held"]), 2)
        self.server.run("queue", "release", "sender=alice*")
        self.assertEqual([r for r in self.listed() if r["state"] == "held"], [])
        for row in self.listed():
            self.server.run("queue", "hold", row["id"], check=False)
        harness.wait_for(lambda: self.server.run("queue", "delete", "id=*", check=False).returncode in (0, 1) and not self.listed(), 20, 0.2)


class TestKept(GuardTest):
    settings = {"transport.enabled": "yes", "submission.day_addresses": "3", "submission.day_messages": "7"}

    def test_restart(self):
        """What was counted is known after the server ended in order, and that an account is held after its process was killed."""
        self.server.allow("event=account-held login=alice@demo.test")
        self.server.allow(r"(role-ended|restart-later).*deliver|ipc|edge|unsent")
        for one in "abc":
            self.assertEqual(self.submit("%s@else.example" % one)[0], 250)
        self.assertEqual(self.server.stop(), [])
        self.server.start()
        for one in "cb":
            self.assertEqual(self.submit("%s@else.example" % one)[0], 250)
        self.assertNotIn("held", self.states().values())
        self.assertEqual(self.submit("d@else.example")[0], 250)
        self.assertEqual(self.states()["d@else.example"], "held")
        os.kill(self.server.processes()["smtpd-deliver"][0], signal.SIGKILL)
        harness.wait_for(lambda: self.submit("a@else.example")[0] == 250)
        self.assertEqual([r["state"] for r in self.listed()].count("held"), 2)
        code, text = self.submit("a@else.example")
        self.assertEqual((code, text[:5]), (450, "4.7.0"))


class TestNoPlace(GuardTest):
    settings = {"transport.enabled": "yes", "submission.day_addresses": "3"}

    def test_no_place(self):
        """Where nothing can be kept, it is counted and told once; the next start keeps it again."""
        self.server.allow("event=account-held login=alice@demo.test")
        self.server.allow("event=counts-unkept")
        self.assertEqual(self.server.stop(), [])
        for name in ("counts.0", "counts.1"):
            path = os.path.join(self.server.demo, "state", "deliver", name)
            os.remove(path)
            os.symlink("nowhere", path)
        self.server.start()
        for one in "abcd":
            self.assertEqual(self.submit("%s@else.example" % one)[0], 250)
        self.assertEqual(self.states()["d@else.example"], "held")
        self.assertEqual(self.submit("e@else.example")[0], 250)
        self.assertEqual(self.server.stop(), [])
        self.assertEqual(self.server.log().count("event=counts-unkept"), 1)
        for name in ("counts.0", "counts.1"):
            os.remove(os.path.join(self.server.demo, "state", "deliver", name))
        self.server.start()
        self.assertEqual(self.submit("d@else.example")[0], 250)
        self.assertEqual(self.server.stop(), [])
        self.assertGreater(os.path.getsize(os.path.join(self.server.demo, "state", "deliver", "counts.1")), 60)
        self.server.start()
