"""The operator's tools on accounts, with a server that runs and without: dump and load, seen from IMAP."""

import json
import os
import shutil
import subprocess
import time
import unittest

import harness
from harness import wait_for

REFUSED, TEMPORARY = 1, 4


class ToolTest(harness.InstanceTest):
    def add(self, address, password="first password"):
        self.server.run("account", "add", address, "--password-stdin", stdin=password + "\n")
        self.server.passwords[address] = password

    def path(self, name):
        return os.path.join(self.server.directory, name)

    def account_id(self, address):
        rows = json.loads(self.server.run("account", "list", address.split("@")[1], "--json").stdout)
        return next(r["id"] for r in rows if r["address"] == address)

    def account_dir(self, address):
        return os.path.join(self.server.demo, "state", "accounts", str(self.account_id(address)))

    def fill(self, address, messages=12):
        """Mail, flags, keywords, expunged UIDs, more mailboxes, a subscription without a mailbox."""
        client = self.server.imap(address)
        for i in range(messages):
            client.append("INBOX", None, '"%02d-Nov-2023 22:13:20 +0530"' % (i % 28 + 1),
                          b"Subject: number %d\r\n\r\ntext %d\r\n" % (i, i))
        client.create('"Work/Plans &AOQ-"')
        client.create("Gone")
        client.subscribe('"only a name"')
        client.select("INBOX")
        client.uid("STORE", "2:4", "+FLAGS", "(\\Seen $Forwarded)")
        client.uid("STORE", "5,7", "+FLAGS", "(\\Flagged label,1)")
        client.uid("COPY", "2:3", '"Work/Plans &AOQ-"')
        client.uid("COPY", "4", "Gone")
        client.uid("MOVE", "8", '"Work/Plans &AOQ-"')
        client.uid("STORE", "6,9", "+FLAGS", "(\\Deleted)")
        client.expunge()
        client.delete("Gone")
        client.logout()

    def seen(self, address):
        """All that a client sees, by mailbox, and the figures that a client with QRESYNC goes by."""
        with self.server.raw("imaps", tls=True) as w:
            def ok(text):
                lines = w.command(b"t", text)
                self.assertTrue(lines[-1].startswith(b"t OK"), lines)
                return lines

            w.line()
            ok(b'LOGIN "%s" "%s"' % (address.encode(), self.server.passwords[address].encode()))
            found = {"list": ok(b'LIST "" "*"'), "lsub": ok(b'LSUB "" "*"')}
            for name in (b"INBOX", b'"Work/Plans &AOQ-"', b"Sent"):
                found[name] = (ok(b"EXAMINE " + name), ok(b"UID FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])"))
            ok(b"LOGOUT")
        found["figures"] = json.loads(self.server.run("mailbox", "list", address, "--json").stdout)
        return found


class TestDumpLoad(ToolTest):
    settings = {"store.keeper_linger": "1s", "worker.linger": "1s"}

    def test_identical_and_no_new_download(self):
        self.add("from@demo.test")
        self.add("to@demo.test")
        self.fill("from@demo.test")
        before = self.seen("from@demo.test")
        out = self.server.run("store", "dump", "from@demo.test", self.path("dump"), "--with-messages", self.path("copy"))
        self.assertEqual("12 messages\n", out.stdout)
        with open(self.path("dump"), encoding="utf-8") as f:
            text = f.read()
        self.assertTrue(text.startswith("mailstead-dump 1\n") and "\nend " in text)
        self.assertEqual(text, self.server.run("store", "dump", "from@demo.test").stdout)
        out = self.server.run("store", "load", "to@demo.test", self.path("dump"), "--messages", self.path("copy"))
        self.assertIn("12 messages", out.stdout)
        self.assertEqual(before, self.seen("to@demo.test"))
        figures = {"messages": 12, "bytes": sum(r["bytes"] for r in before["figures"])}
        for words, wanted in ((("dump", "from@demo.test", self.path("dump2")), {"messages": 12}),
                              (("load", "to@demo.test", self.path("dump2"), "--replace"), figures),
                              (("rebuild", "to@demo.test"), figures)):
            self.assertEqual(wanted, json.loads(self.server.run("store", *words, "--json").stdout))
        self.assertEqual(text, self.server.run("store", "dump", "to@demo.test").stdout)
        # And mail goes on arriving.
        self.assertEqual(250, self.server.deliver("From: a@b.example\r\n\r\nnew\r\n", rcpt="to@demo.test")[0])
        self.assertIn(b"* 10 EXISTS\r\n", self.seen("to@demo.test")[b"INBOX"][0])

    def test_other_octets_in_place(self):
        """What a load that was cut short left under a message's name is not taken for it: it is refused, or brought again."""
        address = "torn@demo.test"
        self.add(address)
        self.fill(address)
        before = self.seen(address)
        self.server.run("store", "dump", address, self.path("torn"), "--with-messages", self.path("torn-copy"))
        top, _, files = next(row for row in os.walk(os.path.join(self.account_dir(address), "mail")) if row[2])
        path = os.path.join(top, sorted(files)[0])
        size = os.path.getsize(path)
        with open(path, "wb") as f:
            f.write(b"\0" * size)
        done = self.server.run("store", "load", address, self.path("torn"), "--replace", check=False)
        self.assertEqual(REFUSED, done.returncode)
        self.assertIn("1 of 12 messages of the dump are missing or damaged; nothing was changed", done.stderr)
        self.server.run("store", "load", address, self.path("torn"), "--replace", "--messages", self.path("torn-copy"))
        after = self.seen(address)
        self.assertEqual(before[b"INBOX"][1], after[b"INBOX"][1])
        self.assertIn("0 contradictions", self.server.run("store", "check", "--deep", address).stdout)

    def test_refusals(self):
        self.add("full@demo.test")
        self.fill("full@demo.test", 9)
        self.server.run("store", "dump", "full@demo.test", self.path("full"))
        done = self.server.run("store", "load", "full@demo.test", self.path("full"), check=False)
        self.assertEqual(REFUSED, done.returncode)
        self.assertIn("not empty", done.stderr)
        self.add("empty@demo.test")
        done = self.server.run("store", "load", "empty@demo.test", self.path("full"), check=False)
        self.assertEqual(REFUSED, done.returncode)
        self.assertIn("missing", done.stderr)
        with open(self.path("full"), "rb") as f:
            octets = f.read()
        with open(self.path("cut"), "wb") as f:
            f.write(octets[:len(octets) // 2])
        done = self.server.run("store", "load", "empty@demo.test", self.path("cut"), check=False)
        self.assertEqual(REFUSED, done.returncode)
        rows = json.loads(self.server.run("mailbox", "list", "empty@demo.test", "--json").stdout)
        self.assertEqual([0] * 6, [r["messages"] for r in rows])

    def test_dump_replaces_files_only(self):
        """A device, a pipe or a link of that name stays what it is; so does a file when the dump fails."""
        self.add("dump@demo.test")
        os.mkfifo(self.path("pipe"))
        os.symlink("/dev/null", self.path("link"))
        os.mkdir(self.path("directory"))
        for name in ("pipe", "link", "directory"):
            before = os.lstat(self.path(name))
            done = self.server.run("store", "dump", "dump@demo.test", self.path(name), check=False)
            self.assertEqual(REFUSED, done.returncode, done.stderr)
            self.assertIn(self.path(name), done.stderr)
            after = os.lstat(self.path(name))
            self.assertEqual((before.st_ino, before.st_mode), (after.st_ino, after.st_mode), name)
        with open(self.path("file"), "w", encoding="utf-8") as f:
            f.write("old")
        done = self.server.run("store", "dump", "nobody@demo.test", self.path("file"), check=False)
        self.assertEqual(REFUSED, done.returncode)
        self.assertEqual(3, os.path.getsize(self.path("file")))
        self.server.run("store", "dump", "dump@demo.test", self.path("file"))
        with open(self.path("file"), encoding="utf-8") as f:
            self.assertTrue(f.read().startswith("mailstead-dump 1\n"))
        self.assertEqual([], [n for n in os.listdir(self.server.directory) if n.endswith(".part")])

    def test_dump_messages_nowhere(self):
        """Where no copy can be: it is named, and trying again is no help."""
        self.add("dump2@demo.test")
        with open(self.path("plain"), "w", encoding="utf-8"):
            pass
        for where in (self.path("plain"), self.path("none/copy"), ""):
            done = self.server.run("store", "dump", "dump2@demo.test", self.path("dump2"), "--with-messages", where, check=False)
            self.assertEqual(REFUSED, done.returncode, (where, done.stderr))
            self.assertIn("mailstead: %s:" % where, done.stderr)
            self.assertFalse(os.path.exists(self.path("dump2")))

    @unittest.skipUnless(os.getuid() == 0, "only root can be somebody else")
    def test_owner_may_read_nothing_else(self):
        """Root's files are read and written for an account that belongs to another user, who can see none of them."""
        self.add("root@demo.test")
        self.add("other@demo.test")
        self.fill("root@demo.test")
        text = self.server.run("store", "dump", "root@demo.test").stdout
        numbers = [str(self.account_id(a)) for a in ("root@demo.test", "other@demo.test")]
        self.server.run("mailbox", "list", "other@demo.test")
        self.assertEqual([], self.server.stop())

        def own(user):
            for number in numbers:
                subprocess.run(["chown", "-R", user, os.path.join(self.server.demo, "state", "accounts", number)], check=True)

        own("nobody:nogroup")
        try:
            out = self.server.run("store", "dump", numbers[0], self.path("roots"), "--with-messages", self.path("roots-copy"))
            self.assertEqual("12 messages\n", out.stdout)
            with open(self.path("roots"), encoding="utf-8") as f:
                self.assertEqual(text, f.read())
            os.chmod(self.path("roots-copy"), 0o700)
            out = self.server.run("store", "load", numbers[1], self.path("roots"), "--messages", self.path("roots-copy"))
            self.assertIn("12 messages", out.stdout)
            done = self.server.run("store", "load", numbers[1], self.path("roots"), "--messages", self.path("none"), check=False)
            self.assertEqual(REFUSED, done.returncode)
            self.assertIn("none/mail: No such file", done.stderr)
        finally:
            own("root:root")
            self.server.start()
        self.assertEqual(text, self.server.run("store", "dump", "other@demo.test").stdout)
        self.assertEqual(0, self.server.run("store", "check", "other@demo.test", "--deep").returncode)


class TestAccountDump(ToolTest):
    settings = {"store.keeper_linger": "1s", "worker.linger": "1s"}

    def test_written_when_quiet(self):
        self.add("quiet@demo.test")
        self.fill("quiet@demo.test", 9)
        path = os.path.join(self.account_dir("quiet@demo.test"), "account.dump")
        keepers = lambda: len(self.server.processes().get("store-keeper", []))
        wait_for(lambda: keepers() == 0)
        with open(path, encoding="utf-8") as f:
            text = f.read()
        self.assertEqual(text, self.server.run("store", "dump", "quiet@demo.test").stdout)
        self.assertFalse(os.path.exists(path + ".new"))
        # Unchanged it stays, changed it is written anew, and with the account it goes.
        wait_for(lambda: keepers() == 0)
        written = os.stat(path).st_mtime_ns
        self.server.run("mailbox", "list", "quiet@demo.test")
        wait_for(lambda: keepers() == 0)
        self.assertEqual(written, os.stat(path).st_mtime_ns)
        time.sleep(1)
        self.server.deliver("From: a@b.example\r\n\r\nnew\r\n", rcpt="quiet@demo.test")
        wait_for(lambda: os.stat(path).st_mtime_ns != written)
        # A keeper that is leaving just now makes the directory ask once more, which it says.
        wait_for(lambda: keepers() == 0)
        self.server.run("account", "delete", "quiet@demo.test")
        wait_for(lambda: not os.path.exists(path))


class TestCheck(ToolTest):
    settings = {"store.keeper_linger": "1s", "worker.linger": "1s"}

    def check(self, *words):
        done = self.server.run("store", "check", *words, "--json", check=False)
        return done.returncode, json.loads(done.stdout)

    def objects(self, address):
        found = []
        for top, _, files in os.walk(os.path.join(self.account_dir(address), "mail")):
            found += [os.path.join(top, f) for f in files]
        return sorted(found)

    def test_sound_and_damaged(self):
        self.add("check@demo.test")
        self.fill("check@demo.test")
        for words in ((), ("--deep",)):
            status, rows = self.check("check@demo.test", *words)
            self.assertEqual((0, 12, []), (status, rows[0]["messages"], rows[0]["findings"]))
        objects = self.objects("check@demo.test")
        # One is gone, one has another octet, one nobody knows.
        os.unlink(objects[0])
        with open(objects[1], "r+b") as f:
            octet = f.read(1)
            f.seek(0)
            f.write(bytes([octet[0] ^ 1]))
        with open(os.path.join(os.path.dirname(objects[0]), "0" * 16 + "1" * 16), "wb") as f:
            f.write(b"stray")
        self.server.allow("event=check contradictions=")
        status, rows = self.check("check@demo.test")
        self.assertEqual((REFUSED, ["object-missing"]), (status, [f["code"] for f in rows[0]["findings"]]))
        self.assertEqual(("INBOX", 1), (rows[0]["findings"][0]["mailbox"], rows[0]["findings"][0]["uid"]))
        status, rows = self.check("check@demo.test", "--deep")
        self.assertEqual(["file-unknown", "object-damaged", "object-missing"], sorted(f["code"] for f in rows[0]["findings"]))
        text = self.server.run("store", "check", "check@demo.test", "--deep", check=False).stdout
        self.assertIn("check@demo.test: INBOX: UID 1: ", text)
        self.assertIn("check@demo.test: 12 messages, 3 contradictions", text)
        os.rename(objects[1], objects[0])
        with open(objects[0], "r+b") as f:
            f.write(octet)
        status, rows = self.check("check@demo.test", "--deep")
        # Now what was the second is the first one's file: of the same length, with other octets.
        self.assertIn("object-damaged", [f["code"] for f in rows[0]["findings"]])

    def test_all_while_clients_change_everything(self):
        """No false alarm, and no client waits."""
        for i in range(3):
            self.add("busy%d@demo.test" % i)
            self.fill("busy%d@demo.test" % i, 9)
        stop, longest = [], [0.0]

        def client(address):
            c = self.server.imap(address)
            c.select("INBOX")
            n = 0
            while not stop:
                n += 1
                began = time.time()
                c.append("INBOX", None, None, b"Subject: %d\r\n\r\n%s\r\n" % (n, b"x" * (n * 37 % 5000)))
                c.uid("STORE", "1:*", "+FLAGS" if n % 2 else "-FLAGS", "(\\Seen $Label%d)" % (n % 5))
                c.uid("COPY", "*", "Sent")
                if n % 3 == 0:
                    c.uid("STORE", "%d" % n, "+FLAGS", "(\\Deleted)")
                    c.expunge()
                longest[0] = max(longest[0], time.time() - began)
            c.logout()

        def checker():
            try:
                for _ in range(12):
                    for words in (("--all",), ("--all", "--deep")):
                        status, rows = self.check(*words)
                        self.assertEqual(0, status, rows)
                        self.assertLessEqual(3, len(rows))
            finally:
                stop.append(True)

        harness.in_threads([checker] + [lambda a="busy%d@demo.test" % i: client(a) for i in range(3)])
        self.assertLess(longest[0], 10)

    def test_offline(self):
        self.add("off@demo.test")
        self.fill("off@demo.test", 9)
        number = str(self.account_id("off@demo.test"))
        online = self.server.run("store", "dump", "off@demo.test").stdout
        self.assertEqual([], self.server.stop())
        try:
            status, rows = self.check(number, "--deep")
            self.assertEqual((0, []), (status, rows[0]["findings"]))
            self.assertEqual(online, self.server.run("store", "dump", number).stdout)
        finally:
            self.server.start()


class TestSalvage(ToolTest):
    settings = {"store.keeper_linger": "1s", "worker.linger": "1s"}

    def quiet(self):
        wait_for(lambda: not self.server.processes().get("store-keeper"))

    def salvage(self, address):
        done = self.server.run("store", "salvage", address, "--json", check=False)
        return done.returncode, json.loads(done.stdout)

    def test_the_database_is_gone(self):
        self.add("db@demo.test")
        self.fill("db@demo.test")
        before = self.seen("db@demo.test")
        self.quiet()
        os.unlink(os.path.join(self.account_dir("db@demo.test"), "index", "index.db"))
        status, found = self.salvage("db@demo.test")
        self.assertEqual((0, True, 12, []), (status, found["sound"], found["messages"], found["notes"]))
        self.assertEqual(before, self.seen("db@demo.test"))
        self.assertEqual(0, self.server.run("store", "check", "db@demo.test", "--deep").returncode)

    def test_everything_but_messages_is_gone(self):
        """A server does not take an account that lost its index for a new one; salvage brings its mail back."""
        self.add("bare@demo.test")
        self.fill("bare@demo.test")
        self.quiet()
        top = self.account_dir("bare@demo.test")
        shutil.rmtree(os.path.join(top, "index"))
        os.unlink(os.path.join(top, "account.dump"))
        for pattern in ("there are messages and no index: salvage", "event=keeper-failed", "event=process-ended .*status=65",
                        "event=role-ended name=keeper .*status=65"):
            self.server.allow(pattern)
        self.assertNotEqual(0, self.server.run("mailbox", "list", "bare@demo.test", check=False).returncode)
        self.assertTrue(os.listdir(os.path.join(top, "mail", "00")))
        status, found = self.salvage("bare@demo.test")
        self.assertEqual((REFUSED, False, 12), (status, found["sound"], found["recovered"]))
        client = self.server.imap("bare@demo.test")
        self.assertEqual([b"12"], client.select("Recovered")[1])
        self.assertEqual(250, self.server.deliver("From: a@b.example\r\n\r\nnew\r\n", rcpt="bare@demo.test")[0])
        self.assertEqual([b"1"], client.select("INBOX")[1])
        client.logout()
        self.assertEqual(0, self.server.run("store", "check", "bare@demo.test", "--deep").returncode)
        self.quiet()
        self.server.run("account", "delete", "bare@demo.test")
        wait_for(lambda: not [x for x in os.listdir(top) if x != "lock"])

    def test_index_gone_dump_there(self):
        self.add("dump@demo.test")
        self.fill("dump@demo.test")
        before = self.seen("dump@demo.test")
        self.quiet()
        top = self.account_dir("dump@demo.test")
        shutil.rmtree(os.path.join(top, "index"))
        objects = sorted(os.listdir(os.path.join(top, "mail", "00")))
        os.unlink(os.path.join(top, "mail", "00", objects[0]))
        done = self.server.run("store", "salvage", "dump@demo.test", check=False)
        self.assertEqual(REFUSED, done.returncode)
        self.assertIn("11 messages, 0 of them in Recovered by this", done.stdout)
        after = self.seen("dump@demo.test")
        # The same messages with their UIDs, flags and dates, but the one whose file is gone.
        self.assertEqual([x.split(b"FETCH")[1] for x in before[b"INBOX"][1][1:-1]],
                         [x.split(b"FETCH")[1] for x in after[b"INBOX"][1][:-1]])
        self.assertEqual(before[b'"Work/Plans &AOQ-"'][1], after[b'"Work/Plans &AOQ-"'][1])
        self.assertEqual(before["lsub"], after["lsub"])


if __name__ == "__main__":
    unittest.main()
