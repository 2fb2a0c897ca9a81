"""What was expunged and deleted, from outside: it is listed, comes back to its mailbox, watchers see it; or goes for good."""

import base64
import json
import os
import re
import signal
import subprocess
import time

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


    def fetch(self, client, mailbox):
        """{UID: (flags, subject)}"""
        typ, data = client.select(mailbox, readonly=True)
        self.assertEqual(typ, "OK", data)
        found = {}
        for d in client.uid("FETCH", "1:*", "(FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]:
            if isinstance(d, tuple):
                head = d[0].decode()
                flags = set(re.search(r"FLAGS \(([^)]*)\)", head).group(1).split()) - {"\\Recent"}
                found[int(re.search(r"UID (\d+)", head).group(1))] = (flags, d[1].decode().split(": ", 1)[1].strip())
        return found

    def validity(self, client, mailbox):
        return int(re.search(rb"UIDVALIDITY (\d+)", client.status(mailbox, "(UIDVALIDITY)")[1][0]).group(1))

    def objects(self):
        """Files of messages on the disk."""
        rows = json.loads(self.server.run("account", "list", "demo.test", "--json").stdout)
        number = next(r["id"] for r in rows if r["address"] == self.me)
        top = os.path.join(self.server.demo, "state", "accounts", str(number), "mail")
        return sum(len(files) for _, _, files in os.walk(top))

    def check_sound(self):
        self.server.run("store", "check", self.me, "--deep")

    def usage(self, words, status):
        self.assertEqual(self.server.run(*words, check=False).returncode, status, words)


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
        # An imported message has no summary before a client wants it.
        path = self.server.directory + "/texts"
        with open(path, "wb") as f:
            f.write(b"From a@client.example Thu Feb 13 23:32:54 2003\n" + octets.replace(b"\r\n", b"\n"))
        self.server.run("import", self.me, "mbox", path, "--mailbox", "Sent")
        self.expunge(client, "Sent")
        self.assertEqual([(m["subject"], m["from"]) for m in self.listed("--mailbox", "Sent")["messages"]],
                         [("\u65e5\u672c", "\u041f\u0440\u0438\u0432\u0435\u0442 <x@client.example>")])
        self.assertEqual(len(self.listed("--mailbox", "inbox")["messages"]), 2)
        client.logout()

    def test_mailbox(self):
        """A deleted mailbox comes back as it was; its UIDVALIDITY stays only while nobody can take its UIDs for another's."""
        client = self.account("box")
        client.create("Work")
        client.subscribe("Work")
        for i in range(4):
            self.append(client, "Work", "w%d" % i, flags=(r"(\Flagged $Label%d)" % i if i % 2 else None))
        self.expunge(client, "Work", "1")
        before, validity = self.fetch(client, "Work"), self.validity(client, "Work")
        client.select("INBOX")
        client.delete("Work")
        self.assertEqual([(b["mailbox"], b["messages"]) for b in self.listed()["mailboxes"]], [("Work", 3)])
        self.assertEqual(sorted(self.ids("--mailbox", "Work")), ["w0", "w1", "w2", "w3"])
        shown = self.run_json("undelete", "mailbox", self.me, "Work", "--dry-run")
        self.assertEqual(([b["mailbox"] for b in shown["mailboxes"]], sorted(m["subject"] for m in shown["messages"])),
                         (["Work"], ["w1", "w2", "w3"]))
        self.assertEqual(self.run_json("undelete", "mailbox", self.me, "Work"), {"messages": 3, "uidvalidity": validity})
        self.assertEqual((self.fetch(client, "Work"), self.validity(client, "Work")), (before, validity))
        self.assertIn(b"Work", b" ".join(client.lsub()[1]))
        # What was expunged from it before is there still, and goes back into it.
        self.assertEqual(list(self.ids()), ["w0"])
        self.server.run("undelete", "search", self.me, "--mailbox", "Work")
        self.assertEqual(sorted(subject for _, subject in self.fetch(client, "Work").values()), ["w0", "w1", "w2", "w3"])
        client.select("INBOX")
        # Another mailbox of that name: the deleted one needs another name; of several it is the last one, or the one before a time.
        client.delete("Work")
        time.sleep(1.1)
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        client.create("Work")
        self.append(client, "Work", "new")
        self.assertIn("--as", self.refused("undelete", "mailbox", self.me, "Work"))
        client.delete("Work")
        done = self.run_json("undelete", "mailbox", self.me, "Work")
        self.assertEqual((done["messages"], self.subjects(client, "Work")), (1, ["new"]))
        done = self.run_json("undelete", "mailbox", self.me, "Work", "--as", "Old/Work", "--before", moment)
        # A mailbox of that name had a higher UIDVALIDITY meanwhile.
        self.assertEqual(done["messages"], 4)
        self.assertGreater(done["uidvalidity"], validity)
        self.assertEqual(done["uidvalidity"], self.validity(client, '"Old/Work"'))
        self.assertEqual(len(self.fetch(client, '"Old/Work"')), 4)
        self.assertIn("no deleted mailbox", self.refused("undelete", "mailbox", self.me, "Work"))
        # Single messages of a deleted mailbox: one of its name is made.
        client.select("INBOX")
        client.delete("Work")
        self.assertEqual(self.run_json("undelete", "message", self.me, self.ids()["new"]), {"messages": 1})
        self.assertEqual(self.subjects(client, "Work"), ["new"])
        self.check_sound()
        client.logout()

    def test_search_and_purge(self):
        client = self.account("find")
        for i in range(6):
            self.append(client, "INBOX", "number %d" % i, "text %d" % i, "Boss" if i % 2 else "Ann")
        self.append(client, "Sent", "sent")
        self.append(client, "INBOX", "stays")
        self.expunge(client, "INBOX", "1:6")
        self.expunge(client, "Sent")
        self.usage(("undelete", "search", self.me), USAGE)
        self.usage(("undelete", "search", self.me, "--since", "soon"), USAGE)
        self.assertIn("nothing was found", self.refused("undelete", "search", self.me, "--from", "nobody"))
        self.assertIn("nothing was found", self.refused("undelete", "search", self.me, "--before", "1h"))
        found = ("undelete", "search", self.me, "--from", "bOSS", "--text", "TEXT 3", "--since", "2h")
        self.assertEqual([m["subject"] for m in self.run_json(*found, "--dry-run")["messages"]], ["number 3"])
        self.assertEqual(self.run_json(*found), {"messages": 1})
        self.assertEqual(self.run_json("undelete", "search", self.me, "--from", "boss"), {"messages": 2})
        self.assertEqual(self.subjects(client, "INBOX"), ["stays", "number 3", "number 1", "number 5"])
        # For good: only with --yes, only what is said, never what is in mailboxes.
        self.usage(("purge", self.me), USAGE)
        self.assertEqual(self.run_json("purge", self.me, "--before", "1h", "--yes"), {"messages": 0, "bytes": 0})
        left = self.ids()
        self.assertEqual(sorted(left), ["number 0", "number 2", "number 4", "sent"])
        self.assertEqual([m["subject"] for m in self.run_json("purge", self.me, left["number 0"], "--dry-run")["messages"]], ["number 0"])
        self.assertEqual(self.run_json("purge", self.me, left["number 0"], "--yes")["messages"], 1)
        self.assertEqual(self.run_json("purge", self.me, "--mailbox", "Sent", "--yes")["messages"], 1)
        self.assertEqual(sorted(self.ids()), ["number 2", "number 4"])
        self.assertEqual(self.objects(), 6)
        client.create("Gone")
        self.append(client, "Gone", "gone")
        client.delete("Gone")
        self.assertEqual(self.run_json("purge", self.me, "--yes")["messages"], 3)
        self.assertEqual((self.listed(), self.objects()), ({"messages": [], "mailboxes": []}, 4))
        self.assertEqual(len(self.subjects(client, "INBOX")), 4)
        self.check_sound()
        client.logout()

    def test_purge_of_both(self):
        """Ids and which: a message is purged when it is named and is one of those, as --dry-run shows it."""
        client = self.account("both")
        for subject in ("first", "second"):
            self.append(client, "INBOX", subject)
        self.append(client, "Sent", "sent")
        self.expunge(client, "INBOX")
        self.expunge(client, "Sent")
        ids = self.ids()
        words = ("purge", self.me, ids["first"], ids["sent"], "--mailbox", "Sent")
        self.assertEqual([m["subject"] for m in self.run_json(*words, "--dry-run")["messages"]], ["sent"])
        self.assertEqual(self.run_json(*words, "--yes")["messages"], 1)
        self.assertEqual(sorted(self.ids()), ["first", "second"])
        self.assertEqual(self.run_json("purge", self.me, ids["first"], "--subject", "second", "--yes")["messages"], 0)
        self.assertEqual(self.run_json("purge", self.me, ids["first"], "--subject", "first", "--yes")["messages"], 1)
        self.assertEqual(sorted(self.ids()), ["second"])
        client.logout()

    def test_empty_words(self):
        """What is contained in everything, such as a script's variable that is not set, does not mean all."""
        client = self.account("empty")
        self.append(client, "INBOX", "here")
        self.expunge(client, "INBOX")
        for option in ("--mailbox", "--from", "--subject", "--search", "--text"):
            for words in (("purge", self.me, "--yes"), ("undelete", "search", self.me), ("undelete", "list", self.me)):
                self.usage((*words, option, ""), USAGE)
        self.assertEqual(sorted(self.ids()), ["here"])
        client.logout()

    def test_quota(self):
        """What is retained does not count; coming back is refused past the limit, all of it, and let in up to it."""
        client = self.account("quota")
        self.server.run("quota", "set", self.me, "--messages", "5")
        for i in range(4):
            self.append(client, "INBOX", "old %d" % i)
        self.expunge(client, "INBOX")
        client.create("Box")
        for i in range(2):
            self.append(client, "Box", "boxed %d" % i)
        client.delete("Box")
        for i in range(3):
            self.append(client, "INBOX", "new %d" % i)
        ids = self.ids()
        self.assertIn("over quota", self.refused("undelete", "search", self.me, "--subject", "old"))
        self.assertIn("over quota", self.refused("undelete", "message", self.me, *[ids["old %d" % i] for i in range(3)]))
        self.assertEqual((self.ids(), len(self.subjects(client, "INBOX"))), (ids, 3))
        self.assertEqual(self.run_json("undelete", "message", self.me, ids["old 1"]), {"messages": 1})
        self.assertIn("over quota", self.refused("undelete", "mailbox", self.me, "Box"))
        self.assertEqual([b["messages"] for b in self.listed()["mailboxes"]], [2])
        self.assertEqual(self.run_json("undelete", "message", self.me, ids["old 3"]), {"messages": 1})
        self.assertIn("over quota", self.refused("undelete", "message", self.me, ids["old 2"]))
        self.assertEqual(client.append("INBOX", None, None, b"Subject: x\r\n\r\nx\r\n")[0], "NO")
        self.expunge(client, "INBOX", "1:2")
        self.assertEqual(self.run_json("undelete", "mailbox", self.me, "Box")["messages"], 2)
        self.assertEqual(self.subjects(client, "INBOX") + self.subjects(client, "Box"), ["new 2", "old 1", "old 3", "boxed 0", "boxed 1"])
        self.check_sound()
        client.logout()

    def keeper(self):
        """The process of this account's keeper."""
        for pid in self.server.processes().get("store-keeper", []):
            with open("/proc/%d/comm" % pid, encoding="utf-8") as f:
                if f.read().strip() == "keeper.%d" % self.number:
                    return pid
        return None

    def killed(self, delay, *words):
        """Runs a command, and kills the keeper so long after it could begin to answer it: it must be done all the same."""
        victim = self.keeper()
        os.kill(victim, signal.SIGSTOP)
        p = subprocess.Popen([harness.MAILSTEAD, "--config", self.server.demo + "/mailstead.conf", *words, "--json"],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        time.sleep(0.03)
        os.kill(victim, signal.SIGCONT)
        until = time.perf_counter() + delay
        while time.perf_counter() < until:
            pass
        during = p.poll() is None
        os.kill(victim, signal.SIGKILL)
        out, errors = p.communicate(timeout=60)
        self.assertEqual(p.returncode, 0, errors)
        return json.loads(out), during

    def test_killed_keeper(self):
        """Whenever the keeper dies, what was asked for is done once and as a whole."""
        self.server.allow(r"event=(process-ended|role-ended) .*(signal=9|status=137)|event=(connect|keeper)-refused")
        client = self.account("kill")
        rows = json.loads(self.server.run("account", "list", "demo.test", "--json").stdout)
        self.number = next(r["id"] for r in rows if r["address"] == self.me)
        for i in range(10):
            self.append(client, "INBOX", "m%d" % i)
        client.select("INBOX")
        for _ in range(6):
            client.copy("1:*", "INBOX")
        client.logout()
        count, during = 640, 0
        for delay in (0.001, 0.004, 0.01):
            client = self.server.imap(self.me)
            self.expunge(client, "INBOX")
            self.assertEqual(len(self.listed()["messages"]), count)
            done, in_time = self.killed(delay, "undelete", "search", self.me, "--mailbox", "INBOX")
            during += in_time
            self.assertEqual(done, {"messages": count})
            self.assertEqual((len(self.listed()["messages"]), int(client.select("INBOX")[1][0])), (0, count))
            client.logout()
        client = self.server.imap(self.me)
        client.select("INBOX")
        for delay in (0.001, 0.005):
            client.copy("1:160", "Archive")
            self.expunge(client, "Archive")
            done, in_time = self.killed(delay, "purge", self.me, "--yes")
            during += in_time
            self.assertEqual(done["messages"], 160)
            self.assertEqual((self.listed()["messages"], int(client.select("INBOX")[1][0])), ([], count))
        self.assertGreater(during, 1)
        self.assertEqual(self.objects(), 10)
        self.check_sound()
        client.logout()


class TestBound(UndeleteTest):
    BYTES = 1 << 20
    settings = {"store.retention_bytes": "1M"}

    def test_oldest_go_first(self):
        """Appending and expunging without end: what is kept stays under the limit, and is what went last."""
        client = self.account("loop")
        for i in range(24):
            self.append(client, "INBOX", "%02d" % i, "x" * 70000)
            self.expunge(client, "INBOX")
            if i % 4 == 3:
                kept = self.listed()["messages"]
                subjects = [m["subject"] for m in kept]
                self.assertEqual(subjects, ["%02d" % n for n in range(i + 1 - len(subjects), i + 1)])
                # The limit, and what one request let go.
                self.assertLess(sum(m["bytes"] for m in kept), self.BYTES + 71000)
                self.assertGreaterEqual(len(kept), min(i + 1, 13))
                self.assertLessEqual(self.objects(), len(kept) + 2)
        # Deleted mailboxes count too, and the oldest of all goes.
        client.create("Box")
        for i in range(6):
            self.append(client, "Box", "box %d" % i, "x" * 70000)
        client.delete("Box")
        self.append(client, "INBOX", "last", "x" * 70000)
        self.expunge(client, "INBOX")
        found = self.listed()
        self.assertLess(sum(m["bytes"] for m in found["messages"]), self.BYTES + 6 * 71000)
        self.assertEqual([b["messages"] for b in found["mailboxes"]], [6])
        self.assertIn("last", [m["subject"] for m in found["messages"]])
        self.assertNotIn("12", [m["subject"] for m in found["messages"]])
        self.check_sound()
        client.logout()
