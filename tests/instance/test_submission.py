"""What users may say of how their messages are sent: when (FUTURERELEASE), and how soon (MT-PRIORITY)."""

import datetime
import email
import json
import os
import re
import time

import harness
import test_outbound


def date(seconds):
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


class SubmissionTest(test_outbound.OutboundTest):
    def offered(self, keyword):
        with self.server.submission() as s:
            s.ehlo()
            return s.esmtp_features.get(keyword)

    def row(self, queue_id):
        return next(iter(json.loads(self.server.run("--json", "queue", "list", queue_id).stdout)), None)

    def state(self, queue_id):
        row = self.row(queue_id)
        return row and row["state"]

    def inbox(self, user="bob"):
        with self.server.imap(user) as c:
            return int(c.select("INBOX", readonly=True)[1][0])


class TestFutureRelease(SubmissionTest):
    """RFC 4865."""
    more_settings = {"submission.future_release": "2h"}

    def later(self, *to, option="HOLDFOR=3600", **kw):
        return self.submit(*(to or ("x",)), options=[option], **kw)

    def test_offered(self):
        seconds, until = self.offered("futurerelease").split()
        self.assertEqual(seconds, "7200")
        self.assertLess(abs(datetime.datetime.fromisoformat(until).timestamp() - time.time() - 7200), 60)
        with self.server.smtp() as s:
            s.ehlo()
            self.assertFalse(s.has_extn("futurerelease"))
            self.assertEqual(s.mail("a@client.example", ["HOLDFOR=10"])[0], 555)

    def test_refused(self):
        now = int(time.time())
        with self.server.submission() as s:
            s.ehlo()
            for option in ("HOLDFOR=7260", "HOLDUNTIL=" + date(now + 7260), "HOLDUNTIL=" + date(now - 1), "HOLDFOR=0", "HOLDFOR=x",
                           "HOLDFOR=1 HOLDUNTIL=" + date(now + 60), "HOLDUNTIL=tomorrow"):
                code, text = s.mail("alice@demo.test", [option])
                self.assertEqual((code, text[:5]), (501, b"5.5.4"), option)
            self.assertEqual(s.mail("alice@demo.test", ["HOLDFOR=7200"])[0], 250)

    def test_sent_then(self):
        """Not before, here nor elsewhere; and then at once, by itself."""
        release = int(time.time()) + 4
        queue_id = self.later("x", "bob@demo.test", option="HOLDUNTIL=" + date(release))
        self.assertEqual((self.state(queue_id), self.row(queue_id)["release"]), ("scheduled", date(release)))
        self.assertEqual(self.results(queue_id)["x"], ("done", "2.0.0"))
        self.assertGreaterEqual(time.time(), release)
        harness.wait_for(lambda: self.inbox() == 1)
        self.assertEqual(len(self.first.messages), 1)
        harness.wait_for(lambda: self.row(queue_id) is None)
        self.assertIn("release=%d" % release, self.server.run("explain", queue_id).stdout)

    def test_waits(self):
        """Whatever is tried meanwhile, and over a restart; until an operator releases it."""
        queue_id = self.later("x", "alice@demo.test")
        before = self.inbox("alice")
        self.assertIn("not before ", self.server.run("queue", "show", queue_id).stdout)
        self.assertIn("0 deliveries", self.server.run("queue", "retry", queue_id).stdout)
        self.assertIn("0 deliveries", self.server.run("queue", "flush").stdout)
        self.server.allow(r"(role-ended|restart-later).*queue|ipc|edge")
        for pid in self.server.processes()["smtpd-queue"]:
            os.kill(pid, 9)
        harness.wait_for(lambda: self.server.run("queue", "list", check=False).returncode == 0)
        self.assertEqual(self.state(queue_id), "scheduled")
        # Held and released it is as before: then it is released once more.
        self.server.run("queue", "hold", queue_id)
        self.assertEqual(self.state(queue_id), "held")
        self.server.run("queue", "release", queue_id)
        self.assertEqual(self.state(queue_id), "scheduled")
        self.assertEqual((self.first.sessions, self.inbox("alice")), ([], before))
        self.server.run("queue", "release", queue_id)
        self.assertEqual(self.results(queue_id)["x"], ("done", "2.0.0"))
        harness.wait_for(lambda: self.inbox("alice") == before + 1)

    def test_discarded(self):
        queue_id = self.later("x")
        self.server.run("queue", "delete", queue_id)
        self.assertIsNone(self.row(queue_id))
        queue_id = self.later("x", message=test_outbound.MESSAGE.replace(b"Subject: out", b"Subject: told"))
        self.server.run("queue", "discard", queue_id)
        with self.server.imap() as c:
            harness.wait_for(lambda: c.select("INBOX", readonly=True) and c.search(None, "SUBJECT", '"Not delivered"')[1] != [b""])
            number = c.search(None, "SUBJECT", '"Not delivered"')[1][0].split()[-1].decode()
            report = email.message_from_bytes(c.fetch(number, "(BODY.PEEK[])")[1][0][1])
        self.assertEqual(report.get_payload(1).get_payload(0)["Future-Release-Request"], "for;3600")


class TestNoFutureRelease(SubmissionTest):
    more_settings = {"submission.future_release": "0"}

    def test_not_offered(self):
        self.assertIsNone(self.offered("futurerelease"))
        with self.server.submission() as s:
            s.ehlo()
            self.assertEqual(s.mail("alice@demo.test", ["HOLDFOR=10"])[0], 555)


class TestPriority(SubmissionTest):
    """RFC 6710."""
    more_settings = {"submission.priority_max": "4"}

    def send(self, priority):
        """The reply to MAIL, what the next server was told, and the message as it has it."""
        self.first.reset()
        with self.server.submission() as s:
            s.ehlo()
            told = s.mail("alice@demo.test", ["MT-PRIORITY=%s" % priority] if priority is not None else [])
            self.assertEqual(s.rcpt("x@" + self.domain)[0], 250)
            code, text = s.data(test_outbound.MESSAGE)
        queue_id = text.split()[-1].decode()
        self.assertEqual(self.results(queue_id)["x"], ("done", "2.0.0"))
        (mail, _, octets, _), = self.first.messages
        return told, re.search(r"MT-PRIORITY=(\S+)", mail + " MT-PRIORITY=none")[1], octets.partition(b"\r\n\r\n")[0], queue_id

    def test_passed_on(self):
        self.assertEqual(self.offered("mt-priority"), "")
        for offers, said in ((("PIPELINING", "MT-PRIORITY"), True), (("PIPELINING",), False)):
            for asked, reply, got in ((None, b"2.1.0", 0), ("0", b"2.1.0", 0), ("4", b"2.1.0", 4), ("-9", b"2.1.0", -9),
                                      ("5", b"2.3.6 4 is the new priority", 4), ("9", b"2.3.6 4 is the new priority", 4)):
                with self.subTest(offers=offers, asked=asked):
                    self.first.offers = list(offers)
                    told, mail, header, queue_id = self.send(asked)
                    self.assertEqual(told[0], 250)
                    self.assertTrue(told[1].startswith(reply), told)
                    self.assertEqual(mail, str(got) if said else "none")
                    self.assertEqual(b"priority %d" % got in header, got != 0)
        fields = self.events(queue_id, "queued")[0]
        self.assertEqual(fields["priority"], "4")
        self.assertIn("asked_priority=9", self.server.run("explain", queue_id).stdout)

    def test_refused(self):
        with self.server.submission() as s:
            s.ehlo()
            for value in ("10", "-0", "x", ""):
                self.assertEqual(s.mail("alice@demo.test", ["MT-PRIORITY=" + value])[0], 501, value)
        with self.server.smtp() as s:
            s.ehlo()
            self.assertFalse(s.has_extn("mt-priority"))
            self.assertEqual(s.mail("a@client.example", ["MT-PRIORITY=-1"])[0], 555)


class TestPriorityOfNobody(SubmissionTest):
    def test_default(self):
        with self.server.submission() as s:
            s.ehlo()
            self.assertEqual(s.mail("alice@demo.test", ["MT-PRIORITY=1"]), (250, b"2.3.6 0 is the new priority assigned to the message"))
            s.rset()
            self.assertEqual(s.mail("alice@demo.test", ["MT-PRIORITY=-1"])[1][:5], b"2.1.0")
