"""Changes reach every session of an account without polling."""

import re
import statistics
import threading
import time
import unittest

import harness

MESSAGE = b"From: a@client.example\r\nSubject: event\r\n\r\nx\r\n"
LATENCY_MEDIAN_MS_MAX = 500 if harness.INSTRUMENTED else 50


class Idler:
    """A session in IDLE that notes when EXISTS lines come."""

    def __init__(self, server, user="alice"):
        self.wire = server.raw("imaps", tls=True, timeout=60)
        self.wire.line()
        password = server.password(user)
        assert b"OK" in self.wire.command(b"a", b'LOGIN %s "%s"' % (server.address(user).encode(), password.encode()))[-1]
        assert b"OK" in self.wire.command(b"b", b"SELECT INBOX")[-1]
        self.wire.send(b"c IDLE\r\n")
        assert self.wire.line().startswith(b"+")
        self.exists = {}
        self.lines = []
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        while True:
            line = self.wire.line()
            if not line or line.startswith(b"c "):
                return
            self.lines.append(line)
            m = re.match(rb"\* (\d+) EXISTS", line)
            if m:
                self.exists[int(m.group(1))] = time.monotonic()

    def done(self):
        self.wire.send(b"DONE\r\n")
        self.thread.join(10)
        self.wire.close()


class TestEvents(harness.InstanceTest):
    def test_two_sessions_see_a_delivery(self):
        idlers = [Idler(self.server) for _ in range(2)]
        answered = []
        with self.server.smtp() as s:
            s.ehlo()
            for _ in range(40):
                s.mail("a@client.example")
                s.rcpt("alice@demo.test")
                self.assertEqual(s.data(MESSAGE)[0], 250)
                answered.append(time.monotonic())
                time.sleep(0.01)
        harness.wait_for(lambda: all(40 in i.exists for i in idlers))
        for idler in idlers:
            late = []
            for n, t in enumerate(answered, 1):
                seen = [when for count, when in idler.exists.items() if count >= n]
                late.append(max(0.0, (min(seen) - t) * 1000))
            median = statistics.median(late)
            print("events: EXISTS after 250, median %.1f ms, worst %.1f ms" % (median, max(late)))
            self.assertLess(median, LATENCY_MEDIAN_MS_MAX)
        for idler in idlers:
            idler.done()

    def test_flags_and_expunge_reach_the_other_session(self):
        self.server.deliver(MESSAGE, rcpt="bob")
        watcher = Idler(self.server, "bob")
        c = self.server.imap("bob")
        c.select("INBOX")
        c.store("1", "+FLAGS", "(\\Flagged Work)")
        harness.wait_for(lambda: any(b"\\Flagged" in line and b"Work" in line for line in watcher.lines))
        c.store("1", "+FLAGS", "\\Deleted")
        c.expunge()
        harness.wait_for(lambda: any(re.match(rb"\* 1 EXPUNGE", line) for line in watcher.lines))
        c.logout()
        watcher.done()

    def test_pop3_deletion_reaches_imap(self):
        self.server.deliver(MESSAGE, rcpt="bob")
        watcher = Idler(self.server, "bob")
        p = self.server.pop3("bob")
        for number in range(1, p.stat()[0] + 1):
            p.dele(number)
        p.quit()
        harness.wait_for(lambda: any(b"EXPUNGE" in line for line in watcher.lines))
        watcher.done()


if __name__ == "__main__":
    unittest.main()
