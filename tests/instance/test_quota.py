"""Limits of accounts and domains on a running server: set by the command, in force at once, exact whoever appends and whatever dies."""

import imaplib
import json
import os
import random
import re
import signal
import smtplib
import threading
import time
import unittest

import harness

UNIT = 1000  # octets of every message that is appended here


def message(token, octets=UNIT):
    head = b"From: a@client.example\r\nSubject: %s\r\n\r\n" % token.encode()
    body = ((b"x" * 76 + b"\r\n") * (octets // 78 + 1))[:octets - len(head) - 2]
    return head + (body[:-1] + b"x" if body.endswith(b"\r") else body) + b"\r\n"


class QuotaTest(harness.InstanceTest):
    def add(self, address):
        self.server.run("account", "add", address, "--password-stdin", stdin="a good password\n")
        self.server.passwords[address] = "a good password"

    def limit(self, name, *words):
        self.server.run("quota", "set", name, *words)

    def listed(self, *words):
        rows = json.loads(self.server.run("quota", "list", *words, "--json").stdout)
        return {r["name"]: r for r in rows}

    def append(self, client, n=UNIT, mailbox="INBOX"):
        """The response code of an APPEND: "OK", "OVERQUOTA"."""
        typ, data = client.append(mailbox, None, None, message("m", n))
        return "OK" if typ == "OK" else re.search(rb"\[([A-Z]+)", data[0]).group(1).decode()

    def clear(self, user, *mailboxes):
        c = self.server.imap(user)
        for box in mailboxes or ("INBOX",):
            c.select(box)
            c.store("1:*", "+FLAGS.SILENT", "(\\Deleted)")
            c.expunge()
        c.logout()


class TestRefusal(QuotaTest):
    settings = {"policy.quota_refuse": "yes"}

    def test_refused_at_once(self):
        """At RCPT from what is known, and from the keeper's word at the end."""
        self.limit("alice@demo.test", "--messages", "1")
        with self.server.smtp() as s:
            s.ehlo()
            s.mail("a@client.example")
            self.assertEqual(s.rcpt("alice@demo.test")[0], 250)
            self.assertEqual(self.server.deliver(message("two"))[0], 250)
            self.assertEqual(s.data(message("three")), (552, b"5.2.2 Mailbox full"))
            s.mail("a@client.example")
            self.assertEqual((s.rcpt("alice@demo.test")), (552, b"5.2.2 Mailbox full"))


class TestAccount(QuotaTest):
    settings = {"quota.messages": "50"}

    def tearDown(self):
        self.limit("alice@demo.test", "--bytes", "default", "--messages", "default")
        self.clear("alice", "INBOX", "Archive")

    def test_octets_at_the_edge(self):
        c = self.server.imap()
        self.limit("alice@demo.test", "--bytes", "3000")
        self.assertEqual([self.append(c), self.append(c)], ["OK", "OK"])
        self.assertEqual(self.append(c, 1001), "OVERQUOTA")
        self.assertEqual(self.append(c, 1000), "OK")
        self.assertEqual(self.append(c, 100), "OVERQUOTA")
        row = self.listed("demo.test")["alice@demo.test"]
        self.assertEqual((row["bytes"], row["limit_bytes"], row["messages"], row["percent"]), (3000, 3000, 3, 100))
        self.limit("alice@demo.test", "--bytes", "2999")
        c.select("INBOX")
        c.store("1", "+FLAGS.SILENT", "(\\Deleted)")
        c.expunge()
        self.assertEqual(self.append(c, 1000), "OVERQUOTA")
        self.assertEqual(self.append(c, 999), "OK")
        self.limit("alice@demo.test", "--bytes", "none")
        self.assertEqual(self.append(c, 5000), "OK")
        c.logout()

    def test_messages_at_the_edge(self):
        c = self.server.imap()
        self.limit("alice@demo.test", "--messages", "3")
        self.assertEqual([self.append(c, 100) for _ in range(4)], ["OK", "OK", "OK", "OVERQUOTA"])
        c.select("INBOX")
        self.assertEqual(c.copy("1", "Archive")[0], "NO")
        self.assertIn(b"[OVERQUOTA]", c.copy("1", "Archive")[1][0])
        c.create("Moved")
        self.assertEqual(c.uid("MOVE", "1:3", "Moved")[0], "OK")
        c.select("Moved")
        self.assertEqual(c.uid("MOVE", "1:*", "INBOX")[0], "OK")
        c.select("INBOX")
        self.limit("alice@demo.test", "--messages", "4")
        self.assertEqual(c.copy("1", "Archive")[0], "OK")
        self.assertEqual(self.append(c, 100), "OVERQUOTA")
        self.limit("alice@demo.test", "--messages", "default")
        self.assertEqual(self.append(c, 100), "OK")
        self.assertEqual(self.listed()["alice@demo.test"]["limit_messages"], 50)
        c.logout()

    def test_delivery(self):
        self.limit("alice@demo.test", "--messages", "1")
        self.assertEqual(self.server.deliver(message("one"))[0], 250)
        code, text = self.server.deliver(message("two"))
        self.assertEqual((code, text[:5]), (452, "4.2.2"))
        self.limit("alice@demo.test", "--messages", "2")
        self.assertEqual(self.server.deliver(message("two"))[0], 250)
        with self.server.smtp() as s:
            self.limit("alice@demo.test", "--bytes", "9000", "--messages", "none")
            s.ehlo()
            self.assertEqual(s.mail("a@client.example", ["SIZE=9000"])[0], 250)
            self.assertEqual(s.rcpt("alice@demo.test")[0], 452)
            # Of several, one with room is enough; who is full is asked again by the queue.
            self.server.run("alias", "add", "both@demo.test", "alice@demo.test", "bob@demo.test")
            self.assertEqual(s.rcpt("both@demo.test")[0], 250)
            self.limit("bob@demo.test", "--bytes", "9000")
            self.server.deliver(message("three"), "bob")
            self.assertEqual(s.rcpt("both@demo.test")[0], 452)
        self.server.run("alias", "delete", "both@demo.test")
        self.limit("bob@demo.test", "--bytes", "default")

    def test_survives_restarts(self):
        self.limit("alice@demo.test", "--messages", "1")
        self.server.allow(r"level=(warn|error)")
        c = self.server.imap()
        self.assertEqual(self.append(c), "OK")
        c.logout()
        for role in ("store-keeper", "store-parent", "authd-directory"):
            for pid in self.server.processes().get(role, []):
                os.kill(pid, signal.SIGKILL)
            self.assertEqual(harness.wait_for(self.answer, 15), "OVERQUOTA", role)
        self.assertEqual(self.server.stop(), [])
        self.server.start()
        c = self.server.imap()
        self.assertEqual(self.append(c), "OVERQUOTA")
        c.logout()

    def answer(self):
        """What an APPEND is answered; None when the session ends, or cannot begin, for something that was killed."""
        try:
            c = self.server.imap()
            return self.append(c)
        except (imaplib.IMAP4.error, OSError):
            return None

    def test_words(self):
        for words in (("nobody@demo.test", "--bytes", "1"), ("nowhere.test", "--bytes", "1")):
            self.assertEqual(self.server.run("quota", "set", *words, check=False).returncode, 1, words)
        for words in (("alice@demo.test",), ("alice@demo.test", "--bytes", "many"), ("alice@demo.test", "--messages", "1K")):
            self.assertEqual(self.server.run("quota", "set", *words, check=False).returncode, 2, words)
        self.limit("alice@demo.test", "--bytes", "2M")
        self.assertEqual(self.listed()["alice@demo.test"]["limit_bytes"], 2 << 20)
        self.assertEqual(json.loads(self.server.run("account", "list", "--json").stdout)[0]["quota_bytes"], 2 << 20)


class DomainTest(QuotaTest):
    """Accounts of a domain of their own; what is acknowledged is counted."""

    people = 6

    def domain(self, name, people=None):
        self.server.run("domain", "add", name)
        users = ["u%d@%s" % (i, name) for i in range(people or self.people)]
        for user in users:
            self.add(user)
        return users

    def held(self, user):
        """Number and octets of an account's messages, by IMAP."""
        c = self.server.imap(user)
        number = octets = 0
        for box in ("INBOX", "Archive"):
            n = int(c.select(box, readonly=True)[1][0])
            number += n
            if n:
                octets += sum(int(re.search(rb"RFC822.SIZE (\d+)", x).group(1)) for x in c.fetch("1:*", "(RFC822.SIZE)")[1])
        c.logout()
        return number, octets

    def total(self, users):
        held = [self.held(u) for u in users]
        return sum(h[0] for h in held), sum(h[1] for h in held)

    def figures_agree(self, domain, users):
        """What `quota list` says, what IMAP finds, and what the index checks to."""
        rows = self.listed(domain)
        for user in users:
            self.assertEqual((rows[user]["messages"], rows[user]["bytes"]), self.held(user), user)
            self.server.run("store", "check", user)
        self.assertEqual((rows[domain]["messages"], rows[domain]["bytes"]), self.total(users))
        return rows[domain]


class TestDomain(DomainTest):
    def test_at_the_edge(self):
        users = self.domain("edge.test", 3)
        a, b, c = (self.server.imap(u) for u in users)
        self.limit("edge.test", "--bytes", "4000")
        self.assertEqual([self.append(x) for x in (a, b, c)], ["OK"] * 3)
        self.assertEqual(self.append(a, 1001), "OVERQUOTA")
        self.assertEqual(self.append(b, 999), "OK")
        self.assertEqual(self.append(c, 100), "OVERQUOTA")
        self.assertEqual(self.server.deliver(message("x", 900), rcpt=users[2])[1][:5], "4.2.2")
        # An account's own limit counts beside it.
        self.limit("edge.test", "--bytes", "none", "--messages", "6")
        self.limit(users[0], "--messages", "2")
        self.assertEqual([self.append(a, 100), self.append(a, 100)], ["OK", "OVERQUOTA"])
        self.assertEqual([self.append(b, 100), self.append(b, 100)], ["OK", "OVERQUOTA"])
        # Room that one makes, another has at once; copies count, moves do not.
        a.select("INBOX")
        a.store("1", "+FLAGS.SILENT", "(\\Deleted)")
        a.expunge()
        self.assertEqual([self.append(c, 100), self.append(c, 100)], ["OK", "OVERQUOTA"])
        c.select("INBOX")
        self.assertIn(b"[OVERQUOTA]", c.copy("1", "Archive")[1][0])
        self.assertEqual(c.uid("MOVE", "1", "Archive")[0], "OK")
        row = self.figures_agree("edge.test", users)
        self.assertEqual((row["messages"], row["limit_messages"], row["percent"]), (6, 6, 100))
        for x in (a, b, c):
            x.logout()
        # Below what is used nothing goes, and nothing comes.
        self.limit("edge.test", "--messages", "3")
        self.assertEqual(self.server.deliver(message("x", 300), rcpt=users[0])[0], 452)
        self.assertEqual(self.total(users)[0], 6)
        # An account that goes makes room.
        self.limit("edge.test", "--messages", "6")
        self.server.run("account", "delete", users[1])
        harness.wait_for(lambda: self.server.deliver(message("x", 300), rcpt=users[0])[0] == 250)

    def test_limit_survives_and_usage_is_learnt_again(self):
        users = self.domain("again.test", 4)
        self.limit("again.test", "--messages", "8")
        for user in users:
            for _ in range(2):
                self.assertEqual(self.server.deliver(message("x"), rcpt=user)[0], 250)
        self.server.allow(r"level=(warn|error)")
        for role in ("store-parent", "authd-directory", None):
            if role is None:
                passwords = dict(self.server.passwords)
                self.assertEqual(self.server.stop(), [])
                self.server.start()
                self.server.passwords.update(passwords)
            for pid in self.server.processes().get(role, []):
                os.kill(pid, signal.SIGKILL)
            code, text = harness.wait_for(lambda: self.deliver(users[3]), 20)
            self.assertEqual((code, text[:5]), (452, "4.2.2"), role)
            row = self.figures_agree("again.test", users)
            self.assertEqual(row["messages"], 8)

    def deliver(self, user):
        """The answer, unless something is still starting."""
        try:
            code, text = self.server.deliver(message("x"), rcpt=user)
        except (smtplib.SMTPException, OSError):
            return None
        return None if code in (421, 451) else (code, text)


class Crowd:
    """Appends and deliveries to all of a domain's accounts at once, until each client is refused for good or is told to stop."""

    def __init__(self, test, users, refusals):
        self.test, self.users, self.refusals = test, users, refusals
        self.lock = threading.Lock()
        self.sure, self.maybe, self.others = 0, 0, []
        self.running = True
        self.threads = [threading.Thread(target=f, args=(u,)) for u in users for f in (self.imap, self.smtp)]
        for t in self.threads:
            t.start()

    def note(self, outcome):
        with self.lock:
            if outcome == "OK":
                self.sure += 1
            elif outcome is None:
                self.maybe += 1
            elif outcome not in ("OVERQUOTA", "UNAVAILABLE"):
                self.others.append(outcome)

    def work(self, once):
        left = self.refusals
        while self.running and left > 0:
            outcome = None
            try:
                outcome = once()
            except (imaplib.IMAP4.error, smtplib.SMTPException, OSError, EOFError):
                time.sleep(0.05)
            self.note(outcome)
            left -= outcome == "OVERQUOTA"

    def imap(self, user):
        client = []

        def once():
            if not client:
                client.append(self.test.server.imap(user))
            try:
                return self.test.append(client[0], random.randrange(200, 3000))
            except (imaplib.IMAP4.error, OSError):
                client.clear()
                raise

        self.work(once)

    def smtp(self, user):
        def once():
            code, text = self.test.server.deliver(message("d", random.randrange(200, 3000)), rcpt=user)
            return {250: "OK", 452: "OVERQUOTA", 451: "UNAVAILABLE", 421: "UNAVAILABLE"}.get(code, text)

        self.work(once)

    def join(self):
        for t in self.threads:
            t.join()
        self.test.assertEqual(self.others, [])


class TestCrowd(DomainTest):
    def test_messages(self):
        users = self.domain("crowd.test")
        self.limit("crowd.test", "--messages", "150")
        crowd = Crowd(self, users, 3)
        crowd.join()
        self.assertEqual(crowd.maybe, 0)
        self.assertEqual((crowd.sure, self.total(users)[0]), (150, 150))
        self.figures_agree("crowd.test", users)

    def test_octets(self):
        users = self.domain("octets.test")
        self.limit("octets.test", "--bytes", "200000")
        Crowd(self, users, 3).join()
        held = self.total(users)[1]
        self.assertLessEqual(held, 200000)
        # What is left is taken to the last octet.
        c = self.server.imap(users[0])
        while 200000 - held >= 100:
            size = min(200000 - held, 1000)
            size = size if 200000 - held - size in (0, *range(100, 200000)) else size - 100
            self.assertEqual(self.append(c, size), "OK")
            held += size
        self.assertEqual(self.append(c, 200000 - held + 100), "OVERQUOTA")
        c.logout()
        self.assertGreater(self.figures_agree("octets.test", users)["bytes"], 199900)

    def test_everything_dies(self):
        users = self.domain("dies.test")
        self.limit("dies.test", "--messages", "400")
        self.server.allow(r"level=(warn|error)")
        crowd = Crowd(self, users, 6)
        kills, end = {}, time.time() + 12
        while time.time() < end and any(t.is_alive() for t in crowd.threads):
            role = random.choice(["store-keeper"] * 4 + ["store-parent", "authd-directory"])
            pids = self.server.processes().get(role, [])
            if pids:
                kills[role] = kills.get(role, 0) + 1
                try:
                    os.kill(random.choice(pids), signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(random.uniform(0.02, 0.4))
        crowd.join()
        held = harness.wait_for(lambda: self.count(users), 20)
        # A delivery whose keeper died before it answered is answered 250 and waits in the queue, also for room.
        queued = sum(r["state"] == "pending" for row in json.loads(self.server.run("queue", "list", "--json").stdout)
                     for r in row["recipients"])
        print("quota: %r killed, %d acknowledged, %d in doubt, %d held, %d in the queue" % (
            kills, crowd.sure, crowd.maybe, held, queued))
        self.assertLessEqual(held, 400)
        self.assertGreaterEqual(held + queued, crowd.sure)
        self.assertLessEqual(held + queued, crowd.sure + crowd.maybe)
        c = self.server.imap(users[0])
        self.assertEqual([self.append(c, 200) for _ in range(400 - held)], ["OK"] * (400 - held))
        self.assertEqual(self.append(c, 200), "OVERQUOTA")
        c.logout()
        self.figures_agree("dies.test", users)

    def count(self, users):
        try:
            return self.total(users)[0]
        except (imaplib.IMAP4.error, OSError):
            return None


if __name__ == "__main__":
    unittest.main()
