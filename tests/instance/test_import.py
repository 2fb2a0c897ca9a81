"""Moving in and out: Maildir and mbox into accounts and out of them, while the server runs."""

import calendar
import glob
import gzip
import imaplib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

import harness

REFUSED, USAGE, UNREACHABLE, TEMPORARY = 1, 2, 3, 4


def crlf(octets):
    return re.sub(rb"(?<!\r)\n", b"\r\n", octets)


def message(number, text=b""):
    return b"From: a@client.example\nMessage-ID: <%d@client.example>\nSubject: number %d\n\ntext %s\n" % (number, number, text)


class TransferTest(harness.InstanceTest):
    # What a new account has, and is subscribed to.
    DEFAULT = {"INBOX", "Archive", "Drafts", "Junk", "Sent", "Trash"}

    def setUp(self):
        super().setUp()
        self.place = tempfile.mkdtemp(prefix="mailstead-move-")
        self.addCleanup(shutil.rmtree, self.place, True)

    def account(self, name):
        self.server.run("account", "add", name + "@demo.test", "--password-stdin", stdin="the password\n")
        self.server.passwords[name + "@demo.test"] = "the password"
        return name + "@demo.test"

    def maildir(self, name):
        path = os.path.join(self.place, name)
        for part in "cur", "new", "tmp":
            os.makedirs(os.path.join(path, part))
        return path

    def put(self, maildir, name, octets, date=1000000000, where="cur"):
        path = os.path.join(maildir, where, name)
        with open(path, "wb") as f:
            f.write(octets)
        os.utime(path, (date, date))

    def do_import(self, address, *words, status=0):
        done = self.server.run("import", address, *words, "--json", check=False)
        self.assertEqual(done.returncode, status, done.stderr)
        return json.loads(done.stdout), done.stderr

    def mailboxes(self, address):
        return {r["mailbox"]: r for r in json.loads(self.server.run("mailbox", "list", address, "--json").stdout)}

    def read(self, address, mailbox="INBOX"):
        """[(uid, set of flags, date, octets)]"""
        client = self.server.imap(address, utf8=True)
        try:
            self.assertEqual(client.select('"%s"' % mailbox, readonly=True)[0], "OK", mailbox)
            found = []
            _, data = client.uid("FETCH", "1:*", "(UID FLAGS INTERNALDATE BODY.PEEK[])")
            for item in data:
                if not isinstance(item, tuple):
                    continue
                head = item[0].decode()
                date = re.search(r'INTERNALDATE "([^"]*)"', head).group(1)
                flags = set(re.search(r"FLAGS \(([^)]*)\)", head).group(1).split()) - {"\\Recent"}
                found.append((int(re.search(r"UID (\d+)", head).group(1)), flags, self.seconds(date), item[1]))
            return found
        finally:
            client.logout()

    @staticmethod
    def seconds(date):
        m = re.match(r" ?(\d+)-(\w+)-(\d+) (\d+):(\d+):(\d+) ([+-])(\d\d)(\d\d)", date)
        month = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split().index(m.group(2)) + 1
        at = calendar.timegm((int(m.group(3)), month, int(m.group(1)), int(m.group(4)), int(m.group(5)), int(m.group(6))))
        zone = (int(m.group(8)) * 60 + int(m.group(9))) * 60
        return at - zone if m.group(7) == "+" else at + zone


class TestMaildir(TransferTest):
    def test_plain(self):
        """Flags, keywords, dates, order, line ends; the same message twice stays twice."""
        address = self.account("plain")
        path = self.maildir("Maildir")
        self.put(path, "1000000300.M3P1.host:2,FRS", message(3), 1000000300)
        self.put(path, "1000000100.M1P1.host:2,", crlf(message(1)), 1000000100)
        self.put(path, "1000000200.M2P1.host:2,DTab", message(2), 1000000200)
        self.put(path, "1000000400.M4P1.host", message(4), 1000000400, "new")
        self.put(path, "1000000500.copied:2,PS", message(4), 1700000000)
        self.put(path, "1700000000.appended:2,z", message(5), 1000000600)
        self.put(path, "1.half", message(9), where="tmp")
        os.symlink("/etc/passwd", path + "/cur/1000000001.link:2,")
        os.mkfifo(path + "/cur/1000000002.fifo:2,")
        with open(path + "/dovecot-keywords", "w", encoding="utf-8") as f:
            f.write("0 $Label1\n1 urgent\n2 not(a)keyword\n")
        counts, _ = self.do_import(address, "maildir", path)
        self.assertEqual(counts, {"mailboxes": 1, "messages": 6, "present": 0, "failed": 0, "keywords_lost": 1, "uids_kept": 0,
                                  "bytes": sum(len(crlf(message(i))) for i in (1, 2, 3, 4, 4, 5))})
        wanted = [
            (1, set(), 1000000100, crlf(message(1))),
            (2, {"\\Draft", "\\Deleted", "$Label1", "urgent"}, 1000000200, crlf(message(2))),
            (3, {"\\Flagged", "\\Answered", "\\Seen"}, 1000000300, crlf(message(3))),
            (4, set(), 1000000400, crlf(message(4))),
            (5, {"\\Seen", "$Forwarded"}, 1000000500, crlf(message(4))),
            (6, set(), 1000000600, crlf(message(5))),
        ]
        self.assertEqual(self.read(address), wanted)
        # Again: nothing is doubled. What came since is put in.
        self.put(path, "1000000700.M7P1.host:2,S", message(4), 1000000700)
        counts, _ = self.do_import(address, "maildir", path)
        self.assertEqual((counts["messages"], counts["present"]), (1, 6))
        self.assertEqual([m[3] for m in self.read(address)], [w[3] for w in wanted] + [crlf(message(4))])

    def test_maildir_plus_plus(self):
        """Folders, names in modified UTF-7 and UTF-8, subscriptions, special uses, the order of the uidlist."""
        address = self.account("plus")
        path = self.maildir("Maildir")
        for folder in (".Sent", ".Caf&AOk-.Inner", ".Caf\u00e9s", ".A &- B", ".Trash", ".Bad..Name"):
            self.maildir("Maildir/" + folder)
            self.put(path + "/" + folder, "1000000000.x:2,S", message(1))
            with open(path + "/" + folder + "/maildirfolder", "w", encoding="utf-8"):
                pass
        os.makedirs(path + "/.NoMaildir")
        os.makedirs(path + "/sieve")
        os.symlink(path + "/.Sent", path + "/.Link")
        with open(path + "/subscriptions", "w", encoding="utf-8") as f:
            f.write("Caf&AOk-.Inner\nNot.There\n")
        for number, base in ((7, "1000000001.a"), (3, "1000000002.b,S=1"), (5, "1000000003.c")):
            self.put(path, base + ":2,", message(number), 1000000000 + number)
        self.put(path, "1000000000.unlisted", message(9), 999999999, "new")
        with open(path + "/dovecot-uidlist", "w", encoding="utf-8") as f:
            f.write("3 V1234567890 N9 G0123456789abcdef\n3 W10 S9 :1000000002.b,S=1\n5 :1000000003.c\nnonsense\n"
                    "6 :1000000099.gone\n8 G1 :1000000001.a\n")
        counts, errors = self.do_import(address, "maildir", path, status=REFUSED)
        self.assertEqual((counts["messages"], counts["failed"]), (9, 1))
        self.assertIn("Bad//Name", errors)
        rows = self.mailboxes(address)
        filled = {name: r["messages"] for name, r in rows.items() if r["messages"]}
        self.assertEqual(filled, {"INBOX": 4, "Sent": 1, "Caf\u00e9/Inner": 1, "Caf\u00e9s": 1, "A & B": 1, "Trash": 1})
        self.assertEqual({n for n, r in rows.items() if r["subscribed"]} - self.DEFAULT, {"Caf\u00e9/Inner"})
        self.assertEqual(rows["Sent"]["special_use"], ["\\Sent"])
        self.assertEqual([m[3] for m in self.read(address)], [crlf(message(n)) for n in (3, 5, 7, 9)])

    def uidlist(self, path, count, uidvalidity, uidnext, step=2):
        """That many messages; their UIDs are the multiples of step."""
        for i in range(1, count + 1):
            self.put(path, "%d.n%d:2," % (1000000000 + i, i), message(i), 1000000000 + i)
        with open(path + "/dovecot-uidlist", "w", encoding="utf-8") as f:
            f.write("3 V%d N%d G0123456789abcdef\n" % (uidvalidity, uidnext))
            f.writelines("%d :%d.n%d\n" % (i * step, 1000000000 + i, i) for i in range(1, count + 1))

    def test_uids_kept(self):
        """A mailbox that never had a message gets UIDs and UIDVALIDITY of the source; whoever looks at it meanwhile is not misled."""
        address = self.account("kept")
        path = self.maildir("Maildir")
        self.uidlist(path, 5, 1234567890, 20)
        self.put(path, "1000000100.unlisted", message(9), 1000000100, "new")
        # A folder of the same UIDVALIDITY, and one whose numbers can be nobody's.
        self.uidlist(self.maildir("Maildir/.Lists"), 2, 1234567890, 9)
        self.uidlist(self.maildir("Maildir/.Trash"), 2, 4294967295, 9)
        watcher = self.server.imap(address)
        watcher.select("INBOX")
        counts, _ = self.do_import(address, "maildir", path)
        self.assertEqual((counts["messages"], counts["uids_kept"]), (10, 2))
        with self.assertRaises(imaplib.IMAP4.abort):
            for _ in range(50):
                watcher.noop()
                time.sleep(0.1)
        watcher.shutdown()
        rows = self.mailboxes(address)
        self.assertEqual((rows["INBOX"]["uidvalidity"], rows["INBOX"]["uidnext"]), (1234567890, 21))
        self.assertEqual((rows["Lists"]["uidvalidity"], rows["Lists"]["uidnext"]), (1234567890, 9))
        self.assertEqual([m[0] for m in self.read(address)], [2, 4, 6, 8, 10, 20])
        self.assertEqual([m[0] for m in self.read(address, "Trash")], [1, 2])
        self.assertEqual(set(rows), self.DEFAULT | {"Lists"})
        self.assertEqual(rows["Trash"]["special_use"], ["\\Trash"])
        self.server.deliver(crlf(message(7)), rcpt=address)
        self.assertEqual(self.read(address)[-1][0], 21)
        counts, _ = self.do_import(address, "maildir", path)
        self.assertEqual((counts["messages"], counts["present"]), (0, 10))

    def test_uids_not_kept(self):
        """Mail came first: the import goes behind it."""
        address = self.account("late")
        path = self.maildir("Maildir")
        self.uidlist(path, 3, 1234567890, 20)
        self.server.deliver(crlf(message(7)), rcpt=address)
        before = self.mailboxes(address)["INBOX"]["uidvalidity"]
        counts, _ = self.do_import(address, "maildir", path)
        self.assertEqual((counts["messages"], counts["uids_kept"]), (3, 0))
        self.assertEqual(self.mailboxes(address)["INBOX"]["uidvalidity"], before)
        self.assertEqual([m[0] for m in self.read(address)], [1, 2, 3, 4])

    def test_uids_interrupted(self):
        """Mail comes while an interrupted import waits to be run again: both are there once, and no UID means two things."""
        for deliver in (False, True):
            address = self.account("halt%d" % deliver)
            path = self.maildir("Maildir%d" % deliver)
            self.uidlist(path, 400, 1234567890, 2000)
            p = subprocess.Popen([harness.MAILSTEAD, "--config", self.server.demo + "/mailstead.conf", "import", address,
                                  "maildir", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            stage = "INBOX (being imported)"
            harness.wait_for(lambda: self.mailboxes(address).get(stage, {"messages": 0})["messages"] > 0 or p.poll() is not None)
            p.send_signal(signal.SIGKILL)
            p.wait()
            rows = self.mailboxes(address)
            if stage not in rows:
                continue  # it was faster than this test
            self.assertEqual(rows["INBOX"]["messages"], 0)
            if deliver:
                self.server.deliver(crlf(message(7)), rcpt=address)
            counts, _ = self.do_import(address, "maildir", path)
            self.assertEqual((counts["messages"] + counts["present"], counts["uids_kept"]), (400, not deliver))
            rows = self.mailboxes(address)
            self.assertNotIn(stage, rows)
            self.assertEqual(rows["INBOX"]["uidvalidity"] == 1234567890, not deliver)
            got = self.read(address)
            self.assertEqual([m[3] for m in got[deliver:]], [crlf(message(i)) for i in range(1, 401)])
            self.assertEqual([m[0] for m in got], list(range(1, 402)) if deliver else list(range(2, 801, 2)))

    def test_nested(self):
        """The other layout; subscriptions of version 2; one directory into a mailbox that is named."""
        address = self.account("nested")
        path = self.maildir("mail/INBOX")
        self.put(path, "1000000000.x:2,", message(1))
        self.put(self.maildir("mail/Lists/dev.v2"), "1000000000.y:2,", message(2))
        self.put(self.maildir("mail/Lists/dev.v2/old"), "1000000000.z:2,", message(3))
        with open(self.place + "/mail/subscriptions", "w", encoding="utf-8") as f:
            f.write("V\t2\n\nLists\tdev.v2\n")
        self.do_import(address, "maildir", self.place + "/mail")
        rows = self.mailboxes(address)
        self.assertEqual({n: r["messages"] for n, r in rows.items() if r["messages"]},
                         {"INBOX": 1, "Lists/dev.v2": 1, "Lists/dev.v2/old": 1})
        self.assertEqual({n for n, r in rows.items() if r["subscribed"]} - self.DEFAULT, {"Lists/dev.v2"})
        counts, _ = self.do_import(address, "maildir", self.place + "/mail/Lists/dev.v2", "--mailbox", "Elsewhere/x")
        self.assertEqual((counts["messages"], counts["mailboxes"]), (1, 1))
        self.assertEqual([m[3] for m in self.read(address, "Elsewhere/x")], [crlf(message(2))])

    def test_interrupted(self):
        """Killed at any moment and run again: every message once."""
        address = self.account("again")
        path = self.maildir("Maildir")
        texts = [message(i % 550, b"x" * (i % 550)) for i in range(600)]
        for i, text in enumerate(texts):
            self.put(path, "%d.n%d:2," % (1000000000 + i, i), text, 1000000000 + i)
        before = 0
        for _ in range(3):
            p = subprocess.Popen([harness.MAILSTEAD, "--config", self.server.demo + "/mailstead.conf", "import", address,
                                  "maildir", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            harness.wait_for(lambda: p.poll() is not None or self.mailboxes(address)["INBOX"]["messages"] > before)
            p.send_signal(signal.SIGKILL)
            p.wait()
            before = self.mailboxes(address)["INBOX"]["messages"]
        counts, _ = self.do_import(address, "maildir", path)
        self.assertEqual(counts["messages"] + counts["present"], 600)
        self.assertEqual([m[3] for m in self.read(address)], [crlf(text) for text in texts])

    def test_two_at_once(self):
        """Each would find that what the other puts in is not there yet: the second one is told to wait; another account's goes on."""
        address, other = self.account("twice"), self.account("meanwhile")
        path, small = self.maildir("Much"), self.maildir("Little")
        for i in range(1500):
            self.put(path, "%d.n%d:2," % (1000000000 + i, i), message(i))
        self.put(small, "1000000000.n:2,", message(1))
        command = [harness.MAILSTEAD, "--config", self.server.demo + "/mailstead.conf", "import", address, "maildir", path]
        first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        harness.wait_for(lambda: first.poll() is not None or sum(r["messages"] for r in self.mailboxes(address).values()))
        self.assertIsNone(first.poll())
        second = self.server.run("import", address, "maildir", path, check=False)
        self.assertEqual(second.returncode, TEMPORARY, second.stdout + second.stderr)
        self.assertIn("another import", second.stderr)
        self.assertEqual(self.do_import(other, "maildir", small)[0]["messages"], 1)
        said = first.communicate()[0]
        self.assertEqual(first.returncode, 0, said)
        self.assertEqual(self.mailboxes(address)["INBOX"]["messages"], 1500)
        self.assertEqual(self.do_import(address, "maildir", path)[0]["present"], 1500)

    def test_limits(self):
        """Long messages; those that cannot be read; a mailbox with no room for more keywords."""
        address = self.account("limits")
        path = self.maildir("Maildir")
        long = message(1) + b"0123456789abcdef" * 4 * (40 << 10)
        self.put(path, "1.long:2,a", long)
        self.put(path, "2.empty:2,", b"")
        with open(path + "/dovecot-keywords", "w", encoding="utf-8") as f:
            f.write("0 last\n")
        client = self.server.imap(address)
        client.append("INBOX", "(%s)" % " ".join("k%d" % i for i in range(64)), None, crlf(message(2)))
        client.logout()
        counts, errors = self.do_import(address, "maildir", path, status=REFUSED)
        self.assertEqual((counts["messages"], counts["failed"], counts["keywords_lost"]), (1, 1, 1))
        self.assertIn("2.empty", errors)
        self.assertEqual(self.read(address)[1][3], crlf(long))

    def test_odd(self):
        """What no message can be is told, with its name, and stops nothing; UIDs that cannot be kept are not said to be."""
        address = self.account("odd")
        path = self.maildir("Maildir")
        for name, octets in (("1.gz,S=99:2,S", gzip.compress(message(1))), ("2.crypt", b"CRYPTED\x03\x07\x02x"), ("3.zst", b"\x28\xb5\x2f\xfdx"),
                             ("4.size,S=1,W=9:2,S", message(4)), ("5.old:1,abc", message(5))):
            self.put(path, name, octets)
        os.link(path + "/cur/5.old:1,abc", path + "/cur/6.link:2,F")
        with open(path + "/cur/7.huge", "wb") as f:
            f.truncate(1 << 40)
        # The last possible UID: what has none cannot get one behind it.
        with open(path + "/dovecot-uidlist", "w", encoding="utf-8") as f:
            f.write("3 V1234567890 N5\n1 :4.size,S=1,W=9\n3 :5.old\n4294967295 :6.link\n")
        os.makedirs(path + "/x" * 60)
        self.maildir("Maildir/.a\tb")
        for part in "new", "tmp":
            os.rmdir(os.path.join(path, part))
        counts, errors = self.do_import(address, "maildir", path, status=REFUSED)
        self.assertEqual((counts["messages"], counts["failed"], counts["uids_kept"]), (3, 6, 0))
        for name in "1.gz", "2.crypt", "3.zst":
            self.assertRegex(errors, name + r".*: it is compressed or encrypted")
        self.assertIn("7.huge: too big", errors)
        self.assertRegex(errors, r"x: its name can be no mailbox's")
        self.assertIn("a?b: not a valid mailbox name", errors)
        self.assertEqual([m[:2] + m[3:] for m in self.read(address)],
                         [(1, {"\\Seen"}, crlf(message(4))), (2, set(), crlf(message(5))), (3, {"\\Flagged"}, crlf(message(5)))])
        self.assertNotEqual(self.mailboxes(address)["INBOX"]["uidvalidity"], 1234567890)

    def test_terminal(self):
        """A bar on a terminal; nothing of it elsewhere."""
        address = self.account("bar")
        path = self.maildir("Maildir")
        for i in range(50):
            self.put(path, "%d.x:2," % i, message(i))
        status, said, shown = self.server.run_on_terminal("import", address, "maildir", path)
        self.assertEqual(status, 0)
        self.assertIn(b"INBOX", shown)
        self.assertIn(b" of 50", shown)
        self.assertTrue(shown.endswith(b"\r\033[K"), shown[-20:])
        self.assertIn("50 messages", said)
        self.assertEqual(self.server.run("import", address, "maildir", path).stderr, "")

    def test_words(self):
        address = self.account("words")
        for words, status in ((("import", address, "zip", self.place), USAGE), (("import", address, "maildir"), USAGE),
                              (("import", address, "maildir", self.place, "--mailbox"), USAGE),
                              (("import", address, "maildir", self.place), REFUSED),
                              (("import", address, "maildir", self.place + "/none"), REFUSED),
                              (("import", address, "mbox", self.place + "/none"), REFUSED),
                              (("import", "nobody@demo.test", "maildir", self.place), REFUSED)):
            done = self.server.run(*words, check=False)
            self.assertEqual(done.returncode, status, (words, done.stderr))
            self.assertTrue(done.stderr.startswith("mailstead: "), done.stderr)


class TestQuota(TransferTest):
    settings = {"quota.messages": "10"}

    def test_over_quota(self):
        """It stops at the limit and says so; what is there is there, and there is more room later."""
        address = self.account("full")
        path = self.maildir("Maildir")
        for i in range(200):
            self.put(path, "%d.x:2," % (1000000000 + i), message(i), 1000000000 + i)
        counts, errors = self.do_import(address, "maildir", path, status=REFUSED)
        self.assertEqual(counts["messages"], 10)
        self.assertLess(counts["failed"], 100)
        self.assertIn("over quota", errors)
        self.assertEqual([m[3] for m in self.read(address)], [crlf(message(i)) for i in range(10)])


FROM = b"From a@client.example Thu Feb 13 23:32:54 2003\n"


class TestMbox(TransferTest):
    def test_plain(self):
        address = self.account("mbox")
        path = self.place + "/mbox"
        with open(path, "wb") as f:
            f.write(FROM + b"Subject: FOLDER INTERNAL DATA\nX-IMAP: 1234567890 7 one\n\ndata\n\n" +
                    FROM + b"Status: RO\n" + message(1) + b">From here\n\n" +
                    FROM.replace(b"2003", b"2003 +0100") + b"X-Keywords: one two\nX-Status: AF\nX-UID: 7\n" + message(2) + b"\n")
        counts, _ = self.do_import(address, "mbox", path)
        self.assertEqual((counts["messages"], counts["failed"]), (2, 0))
        wanted = [(1, {"\\Seen"}, 1045179174, crlf(message(1) + b"From here\n")),
                  (2, {"\\Answered", "\\Flagged", "one", "two"}, 1045175574, crlf(message(2)))]
        self.assertEqual(self.read(address), wanted)
        counts, _ = self.do_import(address, "mbox", path)
        self.assertEqual((counts["messages"], counts["present"]), (0, 2))
        counts, _ = self.do_import(address, "mbox", path, "--mailbox", "Old/2003")
        self.assertEqual(self.read(address, "Old/2003"), wanted)

    def test_directory(self):
        address = self.account("mboxes")
        os.makedirs(self.place + "/mail/Lists")
        os.makedirs(self.place + "/mail/.imap")
        os.makedirs(self.place + "/mail/Work.sbd/Old.sbd")
        for name in "inbox", "Sent.mbox", "Lists/dev", "Lists/Caf&AOk-.mbox", ".imap/hidden", "Work.sbd/Old", "Work.sbd/Old.sbd/x":
            with open(self.place + "/mail/" + name, "wb") as f:
                f.write(FROM + message(1) + b"\n")
        with open(self.place + "/mail/Empty.mbox", "wb"):
            pass
        with open(self.place + "/mail/index.msf", "wb") as f:
            f.write(b"something else")
        os.symlink("/etc/passwd", self.place + "/mail/link")
        counts, _ = self.do_import(address, "mbox", self.place + "/mail")
        self.assertEqual((counts["messages"], counts["failed"]), (6, 0))
        rows = self.mailboxes(address)
        self.assertEqual({n: r["messages"] for n, r in rows.items() if r["messages"]},
                         {"INBOX": 1, "Sent": 1, "Lists/dev": 1, "Lists/Caf\u00e9": 1, "Work/Old": 1, "Work/Old/x": 1})
        self.assertIn("Empty", rows)
        with open(self.place + "/none", "wb") as f:
            f.write(FROM + message(1) + b"\nFrom now on it is no mbox any more\n")
        counts, _ = self.do_import(address, "mbox", self.place + "/none", "--mailbox", "None")
        self.assertEqual((counts["messages"], counts["failed"]), (1, 0))
        with open(self.place + "/none", "wb") as f:
            f.write(b"no mbox\n")
        counts, errors = self.do_import(address, "mbox", self.place + "/none", status=REFUSED)
        self.assertIn("no From_ line at octet 0", errors)


    def test_odd(self):
        """CRLF, lengths that are true and false, NULs, no end of the last line, what other programs write."""
        body = b"one\n\n" + FROM + b"inner\n>From kept\n"
        rows = (
            (FROM + b"Subject: x\n\nbody\n\n" + FROM + b"Subject: y\n\nno end",
             [b"Subject: x\r\n\r\nbody\r\n", b"Subject: y\r\n\r\nno end"]),
            (crlf(FROM + b"Subject: x\n\nbody\n>From me\n\n" + FROM + b"Subject: y\n\nbody\n"),
             [b"Subject: x\r\n\r\nbody\r\nFrom me\r\n", b"Subject: y\r\n\r\nbody\r\n"]),
            (FROM + b"Subject: x\nContent-Length: %d\n\n" % len(body) + body + b"\n" + FROM + b"Content-Length: 99999999999999999999\n\nb\n\n" +
             FROM + b"Content-Length: -1\nSubject: z\n\nc\n",
             [b"Subject: x\r\n\r\n" + crlf(body), b"\r\nb\r\n", b"Subject: z\r\n\r\nc\r\n"]),
            # IMAP has no NUL: it gives 0x80 for it.
            (FROM + b"Subject: n\0ul\n\nbo\0dy\n", [b"Subject: n\x80ul\r\n\r\nbo\x80dy\r\n"]),
            (b"\n\nFrom - Thu Feb 13 23:32:54 2003\nSubject: x\n\nbody\n\nFrom 1234@xxx Thu Feb 13 23:32:54 +0000 2003\r\nSubject: y\r\n\r\n",
             [b"Subject: x\r\n\r\nbody\r\n", b"Subject: y\r\n\r\n"]),
        )
        address = self.account("mboxodd")
        for i, (octets, wanted) in enumerate(rows):
            with open(self.place + "/odd", "wb") as f:
                f.write(octets)
            counts, _ = self.do_import(address, "mbox", self.place + "/odd", "--mailbox", "odd%d" % i)
            self.assertEqual((counts["failed"], [m[3] for m in self.read(address, "odd%d" % i)]), (0, wanted), octets)

    def command(self, *words):
        return subprocess.Popen([harness.MAILSTEAD, "--config", self.server.demo + "/mailstead.conf", *words],
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def child_of(self, process):
        """What the kernel says of the one child of a command at work, which is stopped; the caller lets it go on."""
        def children():
            with open("/proc/%d/task/%d/children" % (process.pid, process.pid), encoding="utf-8") as f:
                return f.read().split()

        def status():
            with open("/proc/%s/status" % child[0], encoding="utf-8") as f:
                return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)

        child = harness.wait_for(children, step=0.0005)
        process.send_signal(signal.SIGSTOP)
        # Its start may not be over, and it cannot end while nobody takes what it reads. An instrumented one has no seccomp.
        last = ("CapPrm", "0000000000000000") if harness.INSTRUMENTED else ("Seccomp", "2")
        harness.wait_for(lambda: status()[last[0]] == last[1] and status()["NoNewPrivs"] == "1")
        return status()

    def assert_confined(self, status):
        self.assertEqual(status["NoNewPrivs"], "1")
        self.assertNotIn("0", status["Uid"].split())
        self.assertNotIn("0", status["Gid"].split())
        self.assertEqual(int(status["CapPrm"], 16), 0)

    def test_who_reads(self):
        """Octets of others are read by a child without rights; a killed export leaves nothing and can be run again."""
        address = self.account("confined")
        path = self.place + "/large"
        texts = [message(i, b"\nFrom me\n>From\n" + b"y" * 76 * 400) for i in range(400)]
        with open(path, "wb") as f:
            f.writelines(FROM + text.replace(b"\nFrom me", b"\n>From me") + b"\n" for text in texts)
        p = self.command("import", address, "mbox", path)
        self.assert_confined(self.child_of(p))
        p.send_signal(signal.SIGCONT)
        self.assertEqual(p.wait(60), 0)
        os.mkdir(self.place + "/out")
        p = self.command("export", address, "mbox", self.place + "/out/file", "--mailbox", "INBOX")
        self.assert_confined(self.child_of(p))
        p.kill()
        p.wait()
        self.assertEqual(os.listdir(self.place + "/out"), [])
        self.server.run("export", address, "mbox", self.place + "/out/file", "--mailbox", "INBOX")
        self.assertEqual(os.listdir(self.place + "/out"), ["file"])
        counts, _ = self.do_import(address, "mbox", self.place + "/out/file")
        self.assertEqual((counts["messages"], counts["present"], counts["failed"]), (0, 400, 0))


class TestRoundTrip(TransferTest):
    """The corpus in by IMAP, out, into another account: the same."""

    FLAGS = ["\\Seen", "\\Answered", "\\Flagged", "\\Deleted", "\\Draft"]

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.messages = []
        paths = [p for kind in ("ham", "list", "mime") for p in harness.corpus(kind) if p.endswith(".eml")]
        # A share of it, which takes a few seconds.
        for path in paths[3::10]:
            with open(path, "rb") as f:
                # What the wire has: no bare LF or CR.
                cls.messages.append(re.sub(rb"\r\n|\n|\r", b"\r\n", f.read()))

    def fill(self, address):
        boxes = ["INBOX", "Archive", "Lists/dev", "Caf\u00e9 & Co", "Trash"]
        client = self.server.imap(address, utf8=True)
        for box in boxes[2:4]:
            self.assertEqual(client.create('"%s"' % box)[0], "OK")
        for i, octets in enumerate(self.messages):
            box = boxes[i % len(boxes)]
            flags = [f for k, f in enumerate(self.FLAGS) if i >> k & 1 and i % 3]
            flags += ["k%d" % (i % 20)] if i % 2 else []
            flags += ["$Forwarded"] if i % 5 == 0 else []
            date = time.strftime('"%d-%b-%Y %H:%M:%S +0000"', time.gmtime(1000000000 + i * 12345))
            self.assertEqual(client.append('"%s"' % box, "(%s)" % " ".join(flags), date, octets)[0], "OK")
        # Gaps in the UIDs.
        client.select("INBOX")
        client.store("2,5", "+FLAGS", "\\Deleted")
        client.uid("STORE", "1", "-FLAGS", "\\Deleted")
        client.expunge()
        client.subscribe("Lists/dev")
        client.logout()
        return boxes

    def snapshot(self, address, boxes):
        return {box: [m[1:] for m in self.read(address, box)] for box in boxes}

    def test_maildir(self):
        one, two = self.account("one"), self.account("two")
        boxes = self.fill(one)
        before = self.snapshot(one, boxes)
        done = self.server.run("export", one, "maildir", self.place + "/out", "--json")
        self.assertEqual(json.loads(done.stdout)["messages"], sum(len(b) for b in before.values()))
        self.do_import(two, "maildir", self.place + "/out")
        self.assertEqual(self.snapshot(two, boxes), before)
        self.assertIn("Lists/dev", [n for n, r in self.mailboxes(two).items() if r["subscribed"]])
        self.assertEqual(glob.glob(self.place + "/out/tmp/*"), [])
        # Nothing is overwritten.
        done = self.server.run("export", one, "maildir", self.place + "/out", check=False)
        self.assertEqual(done.returncode, REFUSED)

    def test_mbox(self):
        one, two = self.account("three"), self.account("four")
        boxes = self.fill(one)
        before = self.snapshot(one, boxes)
        self.server.run("export", one, "mbox", self.place + "/out")
        counts, _ = self.do_import(two, "mbox", self.place + "/out")
        self.assertEqual(counts["messages"], sum(len(b) for b in before.values()))
        after = self.snapshot(two, boxes)
        for box in boxes:
            for was, now in zip(before[box], after[box]):
                self.assertEqual(was[:2], now[:2])
                self.assertEqual(self.without_marks(was[2]), self.without_marks(now[2]))
        # One mailbox as one file.
        self.server.run("export", one, "mbox", self.place + "/file", "--mailbox", "Archive")
        self.do_import(two, "mbox", self.place + "/file", "--mailbox", "Copy")
        self.assertEqual(self.snapshot(two, ["Copy"])["Copy"], after["Archive"])
        done = self.server.run("export", one, "mbox", self.place + "/file", "--mailbox", "Archive", "--json", check=False)
        self.assertEqual({k: json.loads(done.stdout)[k] for k in ("mailboxes", "messages", "bytes", "failed")},
                         {"mailboxes": 0, "messages": 0, "bytes": 0, "failed": 1})
        self.assertEqual(done.returncode, REFUSED)
        self.assertIn("File exists", done.stderr)

    @staticmethod
    def without_marks(octets):
        """As an mbox can hold it: without fields that would be marks, with a last line that ends."""
        head, empty, body = octets.partition(b"\r\n\r\n")
        lines = re.sub(rb"\r\n(?=[ \t])", b"\0", head).split(b"\r\n")
        lines = [n for n in lines if not re.match(rb"(?i)(Status|X-Status|X-Keywords|X-UID|X-IMAP|X-IMAPbase|Content-Length|X-Mozilla-(Status2?|Keys)):", n)]
        return b"\r\n".join(lines).replace(b"\0", b"\r\n") + empty + body.rstrip(b"\r\n")


if __name__ == "__main__":
    unittest.main()
