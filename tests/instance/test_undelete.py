"""What was expunged and deleted, from outside: it is listed, comes back to its mailbox, watchers see it; or goes for good."""

import base64
import json

import harness

REFUSED, USAGE = 1, 2
MESSAGE = "From: %s <a@client.example>\r\nTo: me@demo.test\r\nSubject: %s\r\nDate: Fri, 3 Jul 2026 10:00:00 +0200\r\n\r\n%s\r\n"


class UndeleteTest(harness.InstanceTest):
    settings = {"store.keeper_linger": "1s"}

    def account(self, name):
        """A new account, logged in."""
        self.me = name + "@demo.test"
        self.server.run("account", "add", self.me, "--password-stdin", stdin="a password\n")
        self.server.passwords[self.me] = "a password"
        return self.server.imap(self.me)

    def append(self, client, mailbox, subject, text="text", sender="Ann", flags=None):
        typ, data = client.append(mailbox, flags, None, (MESSAGE % (sender, subject, text)).encode())
        self.assertEqual(typ, "OK", data)

    def expunge(self, client, mailbox, which="1:*"):
        client.select(mailbox)
        client.store(which, "+FLAGS", r"(\Deleted)")
        self.assertEqual(client.expunge()[0], "OK")

    def subjects(self, client, mailbox):
        typ, data = client.select(mailbox, readonly=True)
        self.assertEqual(typ, "OK", data)
        typ, data = client.fetch("1:*", "(UID FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])") if int(data[0]) else ("OK", [])
        return [d[1].decode().split(": ", 1)[1].strip() for d in data if isinstance(d, tuple)]

    def listed(self, *words):
        return json.loads(self.server.run("undelete", "list", self.me, *words, "--json").stdout)

    def ids(self, *words):
        return {m["subject"]: m["id"] for m in self.listed(*words)["messages"]}

    def run_json(self, *words):
        return json.loads(self.server.run(*words, "--json").stdout)

    def refused(self, *words):
        done = self.server.run(*words, check=False)
        self.assertEqual(done.returncode, REFUSED, done.stdout + done.stderr)
        return done.stderr


class TestUndelete(UndeleteTest):
    def test_one_message(self):
        client = self.account("one")
        for subject in ("first", "second", "third"):
            self.append(client, "INBOX", subject, flags=r"(\Flagged $Work)")
        watcher = self.server.imap(self.me)
        self.expunge(client, "INBOX", "1:2")
        watcher.select("INBOX")
        messages = self.listed()["messages"]
        self.assertEqual([(m["subject"], m["from"], m["mailbox"], m["mailbox_deleted"]) for m in messages],
                         [("first", "Ann <a@client.example>", "INBOX", False), ("second", "Ann <a@client.example>", "INBOX", False)])
        self.assertEqual(messages[0]["date"], "2026-07-03T08:00:00Z")
        self.assertEqual(messages[0]["flags"], ["\\Flagged", "\\Deleted", "$Work"])
        self.assertRegex(self.server.run("undelete", "list", self.me).stdout, r"(?m)^1\.1 +INBOX .* Ann .* first$")
        self.assertEqual(self.run_json("undelete", "message", self.me, messages[1]["id"], "--dry-run")["messages"], messages[1:])
        self.assertEqual(self.run_json("undelete", "message", self.me, messages[1]["id"]), {"messages": 1})
        # The session that watches is told.
        watcher.noop()
        self.assertEqual(watcher.response("EXISTS")[1][-1], b"2")
        flags = watcher.fetch("2", "(UID FLAGS INTERNALDATE)")[1][0].decode()
        self.assertIn("UID 4 ", flags)
        self.assertIn("\\Flagged", flags)
        self.assertIn("$Work", flags)
        self.assertNotIn("\\Deleted", flags)
        self.assertEqual(self.subjects(client, "INBOX"), ["third", "second"])
        self.assertIn("1 of 2", self.refused("undelete", "message", self.me, messages[0]["id"], messages[1]["id"]))
        self.assertEqual(self.listed()["messages"], [])
        self.assertEqual(self.server.run("undelete", "message", self.me, "x", check=False).returncode, USAGE)
        self.refused("undelete", "message", self.me, "99.1")
        watcher.logout()
        client.logout()

    def test_pop3_and_move(self):
        client = self.account("pop")
        self.append(client, "INBOX", "by pop3")
        self.append(client, "INBOX", "moved")
        client.select("INBOX")
        client.uid("MOVE", "2", "Archive")
        pop3 = self.server.pop3(self.me)
        pop3.dele(1)
        pop3.quit()
        self.assertEqual(list(self.ids()), ["by pop3"])
        self.server.run("undelete", "message", self.me, self.ids()["by pop3"])
        self.assertEqual(self.subjects(client, "INBOX"), ["by pop3"])
        client.logout()

    def test_texts(self):
        """What is looked for may be in any charset and encoding; a summary that is not there yet is made."""
        client = self.account("texts")
        body = "\u041f\u0440\u0438\u0432\u0435\u0442".encode("koi8-r")
        octets = (b"From: =?koi8-r?B?" + base64.b64encode(body) + b"?= <x@client.example>\r\nSubject: =?iso-2022-jp?B?GyRCRnxLXBsoQg==?=\r\n"
                  b"Content-Type: text/plain; charset=koi8-r\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.b64encode(body + b" world") + b"\r\n")
        self.assertEqual(client.append("INBOX", None, None, octets)[0], "OK")
        self.append(client, "INBOX", "other", "nothing of it")
        self.expunge(client, "INBOX")
        for words in (("--from", "\u043f\u0440\u0438\u0432\u0435\u0442"), ("--subject", "\u65e5\u672c"), ("--text", "\u041f\u0420\u0418\u0412\u0415\u0422 W"),
                      ("--search", "\u043f\u0440\u0438"), ("--text", "\u65e5\u672c")):
            self.assertEqual(list(self.ids(*words)), ["\u65e5\u672c"], words)
        self.assertEqual(list(self.ids("--text", "nothing OF")), ["other"])
        self.assertEqual(self.ids("--text", "nowhere"), {})
        client.logout()
