"""kill -9 of every role under load: what was acknowledged is there once, what was not at most once, service is back within 2 s."""

import imaplib
import os
import re
import signal
import smtplib
import ssl
import threading
import time
import unittest

import harness

ROLES = ["traced-recorder", "authd-directory", "authd-verifier", "authd-key", "dnsd-resolver", "store-parent", "store-keeper",
         "smtpd-queue", "smtpd-verify", "smtpd-deliver", "smtpd-front", "smtpd-submission", "imapd-front", "imapd-worker",
         "pop3d-front", "pop3d-worker"]
BACK_SECONDS_MAX = 6
FAULTS = (OSError, EOFError, smtplib.SMTPException, imaplib.IMAP4.error, imaplib.IMAP4.abort, ssl.SSLError)


class Load:
    """Deliveries and APPENDs that keep going whatever dies, and remember what was acknowledged."""

    def __init__(self, server, name):
        self.server = server
        self.name = name
        self.running = True
        self.sent = {}  # token -> True (acknowledged), False (refused), None (no answer)
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=f, args=(n,)) for n, f in
                        enumerate([self.smtp, self.smtp, self.append, self.submit])]
        for t in self.threads:
            t.start()

    def stop(self):
        self.running = False
        for t in self.threads:
            t.join()

    def begin(self, kind, number):
        token = "%s-%s-%d" % (self.name, kind, number)
        with self.lock:
            self.sent[token] = None
        return token, ("From: x@client.example\r\nSubject: kill\r\nX-Token: %s\r\n\r\nbody\r\n" % token).encode()

    def outcome(self, token, ok):
        with self.lock:
            self.sent[token] = ok

    def smtp(self, me):
        connection, number = None, 0
        while self.running:
            number += 1
            token = None
            try:
                if connection is None:
                    connection = self.server.smtp()
                    connection.ehlo()
                if connection.mail("s@client.example")[0] == 250 and \
                        connection.rcpt("alice@demo.test")[0] == 250:
                    token, message = self.begin("smtp%d" % me, number)
                    self.outcome(token, connection.data(message)[0] == 250)
                else:
                    connection.rset()
                    time.sleep(0.01)
            except FAULTS:
                connection = None
                time.sleep(0.02)

    def submit(self, me):
        connection, number = None, 0
        while self.running:
            number += 1
            try:
                if connection is None:
                    connection = self.server.submission("bob")
                if connection.mail("bob@demo.test")[0] == 250 and \
                        connection.rcpt("alice@demo.test")[0] == 250:
                    token, message = self.begin("submit", number)
                    message = message.replace(b"x@client.example", b"bob@demo.test")
                    self.outcome(token, connection.data(message)[0] == 250)
                else:
                    connection.rset()
                    time.sleep(0.01)
            except FAULTS:
                connection = None
                time.sleep(0.02)

    def append(self, me):
        connection, number = None, 0
        while self.running:
            number += 1
            try:
                if connection is None:
                    connection = self.server.imap("alice")
                token, message = self.begin("append", number)
                typ, _ = connection.append("INBOX", "(\\Seen)", None, message)
                self.outcome(token, typ == "OK" or (False if typ == "NO" else None))
            except FAULTS:
                connection = None
                time.sleep(0.02)


def service_works(server):
    """One delivery and one login each by IMAP and POP3."""
    try:
        if server.deliver(b"From: probe@client.example\r\nSubject: probe\r\n\r\nx\r\n", rcpt="bob",
                          sender="probe@client.example")[0] != 250:
            return False
        c = server.imap("alice")
        ok = c.select("INBOX")[0] == "OK"
        c.logout()
        p = server.pop3("bob")
        p.stat()
        p.quit()
        return ok
    except FAULTS + (Exception,):
        return False


class TestKill(unittest.TestCase):
    def setUp(self):
        self.server = harness.Server()
        self.server.allow(r"level=(warn|error)")  # dying roles are reported
        self.addCleanup(self.end)

    def end(self):
        wrong = self.server.close()
        self.assertEqual(wrong, [])

    def test_every_role(self):
        slow = []
        loads = {}
        for role in ROLES:
            keep = self.server.imap("alice")  # a worker and a keeper exist
            keep.select("INBOX")
            pop = self.server.pop3("alice")  # not bob's, whose maildrop service_works() needs
            load = Load(self.server, role)
            time.sleep(0.3)
            pids = self.server.processes().get(role, [])
            self.assertTrue(pids, "%s does not run" % role)
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            killed = time.time()
            while not service_works(self.server):
                self.assertLess(time.time() - killed, 20, "%s: no service any more\n%s" % (role, self.server.log()[-3000:]))
            took = time.time() - killed
            if took > BACK_SECONDS_MAX:
                slow.append((role, round(took, 2)))
            time.sleep(0.2)
            load.stop()
            loads[role] = load.sent
            for c in (keep, pop):
                try:
                    c.logout() if c is keep else c.quit()
                except Exception:
                    pass
        self.check(loads)
        self.assertEqual(slow, [], "service was not back in time")

    def check(self, loads):
        harness.wait_for(lambda: service_works(self.server))
        c = self.server.imap("alice")
        c.select("INBOX", readonly=True)
        seen = {}
        for item in c.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (X-Token)])")[1]:
            if isinstance(item, tuple):
                token = re.search(rb"X-Token: (\S+)", item[1])
                if token:
                    seen[token.group(1).decode()] = seen.get(token.group(1).decode(), 0) + 1
        c.logout()
        lost, doubled, acknowledged = [], [], 0
        for sent in loads.values():
            for token, ok in sent.items():
                count = seen.get(token, 0)
                acknowledged += ok is True
                if ok and count == 0:
                    lost.append(token)
                if count > 1:
                    doubled.append((token, count, ok))
        print("kill: %d roles killed, %d transactions acknowledged of %d" % (
            len(loads), acknowledged, sum(len(s) for s in loads.values())))
        self.assertEqual(lost, [], "acknowledged and lost")
        self.assertEqual(doubled, [], "stored more than once")
        self.assertGreater(acknowledged, 100)


class TestKeeperKilledAgainAndAgain(unittest.TestCase):
    """A keeper that is killed from outside has not failed: the account is not set aside, and its session goes on."""

    def test_session_goes_on(self):
        server = harness.Server()
        server.allow(r"level=(warn|error)")
        self.addCleanup(lambda: self.assertEqual(server.close(), []))
        c = server.imap("alice")
        c.select("INBOX")
        kills, end = 0, time.time() + 2
        while time.time() < end:
            for pid in server.processes().get("store-keeper", []):
                try:
                    os.kill(pid, signal.SIGKILL)
                    kills += 1
                except ProcessLookupError:
                    pass
            time.sleep(0.005)
        began = time.time()
        self.assertEqual(c.append("INBOX", None, None, b"Subject: after\r\n\r\nx\r\n")[0], "OK")
        self.assertEqual(c.status("INBOX", "(MESSAGES)")[1], [b"INBOX (MESSAGES 1)"])
        took = time.time() - began
        print("kill: a keeper killed %d times, its session goes on after %.2f s" % (kills, took))
        self.assertLess(took, BACK_SECONDS_MAX)
        c.logout()

    def test_deliveries(self):
        """No keeper lives long: what is answered 250 is there once, what is answered 4yz is not there."""
        server = harness.Server(settings={"queue.retry": "1s"})
        server.allow(r"level=(warn|error)")
        self.addCleanup(lambda: self.assertEqual(server.close(), []))
        answers, end = {}, time.time() + 4

        def deliver(me):
            number = 0
            while time.time() < end:
                number += 1
                token = "%d-%d" % (me, number)
                answers[token] = server.deliver("From: x@client.example\r\nX-Token: %s\r\n\r\nx\r\n" % token)[0]

        def kill():
            while time.time() < end:
                for pid in server.processes().get("store-keeper", []):
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        pass
                time.sleep(0.03)

        harness.in_threads([lambda n=n: deliver(n) for n in range(6)] + [kill])
        harness.wait_for(lambda: server.run("queue", "list").stdout.count("@") == 0 or server.run("queue", "retry") is None, 30, 0.5)
        c = server.imap("alice")
        c.select("INBOX", readonly=True)
        found = re.findall(r"X-Token: (\S+)", str(c.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (X-Token)])")[1]).replace("\\r", " "))
        c.logout()
        print("kill: %d deliveries, %d answered 250" % (len(answers), sum(a == 250 for a in answers.values())))
        self.assertEqual(sorted(found), sorted(t for t, a in answers.items() if a == 250))


if __name__ == "__main__":
    unittest.main()
