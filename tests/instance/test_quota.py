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
    body = (b"x" * 76 + b"\r\n") * (octets // 78 + 1)
    return head + body[:octets - len(head) - 2] + b"\r\n"


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


if __name__ == "__main__":
    unittest.main()
