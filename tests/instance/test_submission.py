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
