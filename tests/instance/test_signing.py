"""DKIM signing (RFC 6376, 8301, 8463) through the real daemons: keys, their records in the DNS, and what is signed; verified by dkimpy,
by opendkim and by this server's own port 25."""

import datetime
import json
import os
import re
import signal
import shutil
import ssl
import stat
import subprocess
import threading
import time

import dkim
import dnsserver
import harness
import ports
import receiver

REMOTE = "you@else.example"
RECEIVER = "127.0.0.4"
OPENDKIM = shutil.which("opendkim") or "/usr/sbin/opendkim"
HEAD = (b"From: Alice <alice@demo.test>\r\nTo: bob@demo.test,\r\n\tyou@else.example\r\nSubject: %s\r\n"
        b"Date: Mon, 01 Jan 2024 00:00:00 +0000\r\nMessage-ID: <%s@demo.test>\r\n")
MESSAGES = {
    "plain": HEAD + b"\r\nhello\r\n",
    "empty": HEAD + b"\r\n",
    "blank": HEAD + b"\r\n\r\n\r\n \r\n\r\n",
    "white": HEAD + b"\r\n a  b \t \r\n\t\r\nend  \r\n\r\n\r\n",
    "folded": HEAD + b"X-A: b=1\r\nReferences: <a@b>\r\n  <c@d>\r\n\t<e@f>\r\nIn-Reply-To:\r\n <a@b>\r\n\r\nx\r\n",
    "bcc": HEAD + b"Bcc: secret@demo.test\r\nReply-To: alice@demo.test\r\nList-Id: <l.demo.test>\r\n\r\nx\r\n",
    "mime": HEAD + b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n",
    "8bit": HEAD + b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\ngr\xc3\xbcn\r\n",
    "dots": HEAD + b"\r\n.\r\n..\r\n.end\r\n",
    "big": HEAD + b"\r\n" + b"0123456789 abcdefghijklmnopqrstuvwxyz\r\n" * 60000,
}


class SigningTest(harness.InstanceTest):
    zones = {"demo.test": "", "bare.test": "", "else.example": "@ IN MX 10 a\na IN A %s\n" % RECEIVER}

    @classmethod
    def setUpClass(cls):
        port = ports.take()
        cls.receiver = receiver.Receiver(RECEIVER, port, offers=("PIPELINING", "8BITMIME", "SMTPUTF8"))
        cls.receiver.reset()
        cls.settings = {"transport.enabled": "yes", "transport.loopback": "yes", "transport.port": port}
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        try:
            super().tearDownClass()
        finally:
            cls.receiver.close()

    def dkim(self, *words, code=0):
        done = self.server.run("--json", "dkim", *words, check=False)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return json.loads(done.stdout) if done.stdout else done.stderr

    @classmethod
    def publish(cls, rows, zone="demo.test"):
        """The zone has just these records now. What the resolver remembers stays."""
        cls.put_zone(zone, "".join("%s. IN TXT %s\n" % (r["name"], dnsserver.txt(r["record"])) for r in rows))

    @classmethod
    def put_zone(cls, zone, text):
        dns = cls.server.dns
        dns.stop()
        cls.server.dns = dnsserver.DnsServer(dns.directory, {**{n: t for n, t in dns.zones.items() if n != "."}, zone: text}, dns.port)

    def submission(self, user):
        """While the key role is being replaced, handshakes fail."""
        for _ in range(100):
            try:
                return self.server.submission(user)
            except ssl.SSLError:
                time.sleep(0.05)
        return self.server.submission(user)

    def submit(self, message, *to, user="alice"):
        with self.submission(user) as s:
            s.ehlo()
            code, text = s.mail(self.server.address(user))
            for one in to:
                self.assertEqual(s.rcpt(one)[0], 250, one)
            code, text = s.data(message)
        return code, text.decode()

    def copy(self, user="bob"):
        """The only message of an account, which has none then."""
        with self.server.imap(user, utf8=True) as m:
            harness.wait_for(lambda: m.select()[1] == [b"1"], 30)
            message = m.fetch("1", "(BODY.PEEK[])")[1][0][1]
            m.store("1", "+FLAGS", r"(\Deleted)")
            m.expunge()
        return message

    def sent(self, message, *to, **kw):
        """What leaves, as the recipient here has it as well."""
        code, text = self.submit(message, "bob@demo.test", *(to or (REMOTE,)), **kw)
        self.assertEqual(code, 250, text)
        return self.copy()

    def signatures(self, message):
        """{selector: tags} of the fields that stand between Return-Path and Received."""
        header = message.partition(b"\r\n\r\n")[0] + b"\r\n"
        found = {}
        for field in re.findall(rb"(?ims)^dkim-signature:(.*?)\r\n(?![ \t])", header):
            tags = dict((k.strip().decode(), re.sub(rb"\s+", b"", v).decode()) for k, v in
                        (t.split(b"=", 1) for t in field.split(b";")))
            found[tags["s"]] = tags
        return found

    def check(self, message, records, domain="demo.test"):
        """dkimpy verifies every signature with those records."""
        texts = {r["name"] + ".": r["record"].encode() for r in records}
        found = self.signatures(message)
        for i in range(len(found)):
            d = dkim.DKIM(message)
            self.assertTrue(d.verify(idx=i, dnsfunc=lambda name, timeout=5: texts.get(name.decode() if isinstance(name, bytes) else name)), message[:3000])
            self.assertEqual(d.domain.decode(), domain)
        return found

    def check_by_opendkim(self, message, records):
        """It tells of one signature, so each is alone in the message that it is shown."""
        base = self.server.directory + "/opendkim"
        with open(base + ".keys", "w", encoding="ascii") as f:
            f.writelines("%s %s\n" % (r["name"], r["record"]) for r in records)
        with open(base + ".conf", "w", encoding="ascii") as f:
            f.write("Mode v\nTestDNSData file:%s.keys\n" % base)
        header, end, body = message.partition(b"\r\n\r\n")
        fields = re.findall(rb"(?is)(?:\A|(?<=\r\n))dkim-signature:.*?\r\n(?![ \t])", header + b"\r\n")
        for one in fields:
            alone = header + b"\r\n"
            for other in fields:
                alone = alone if other == one else alone.replace(other, b"")
            with open(base + ".eml", "wb") as f:
                f.write(alone + end[2:] + body)
            done = subprocess.run([OPENDKIM, "-x", base + ".conf", "-t", base + ".eml"], capture_output=True, text=True, timeout=60)
            self.assertRegex(done.stdout + done.stderr, r"verification \(s=\S+,? d=demo.test, .*\) succeeded")
        return len(fields)

    def tearDown(self):
        for row in json.loads(self.server.run("--json", "queue", "list").stdout):
            self.server.run("queue", "hold", row["id"], check=False)
        harness.wait_for(lambda: self.server.run("queue", "delete", "id=*", check=False).returncode in (0, 1) and
                         self.server.run("--json", "queue", "list").stdout.strip() == "[]", 20, 0.2)
        self.receiver.messages.clear()


class TestMessages(SigningTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.records = json.loads(cls.server.run("--json", "dkim", "create", "demo.test", "--force").stdout)
        cls.publish(cls.records)

    def test_messages(self):
        """Both signatures of every message pass, by dkimpy; and here, when it comes back in through port 25."""
        for name, text in MESSAGES.items():
            with self.subTest(name):
                message = self.sent(text % (name.encode(), name.encode()))
                self.assertRegex(message, rb"\AReturn-Path: [^\r]*\r\nDKIM-Signature: ")
                found = self.check(message, self.records)
                self.assertEqual({t["a"] for t in found.values()}, {"rsa-sha256", "ed25519-sha256"})
                for tags in found.values():
                    self.assertEqual((tags["d"], tags["c"]), ("demo.test", "relaxed/relaxed"))
                    self.assertTrue(abs(int(tags["t"]) - time.time()) < 60)
                    self.assertFalse({"l", "i", "z"} & set(tags), tags)
                    names = tags["h"].lower().split(":")
                    self.assertEqual([names.count(n) for n in ("from", "to", "subject", "date", "message-id", "bcc", "received")],
                                     [2, 2, 2, 2, 2, 0, 0])
                self.assertNotIn(b"secret@", message)
                # The other server gets it octet for octet, without Return-Path.
                harness.wait_for(lambda: self.receiver.messages, 20)
                (_, rcpts, octets, _), = self.receiver.messages
                self.assertEqual((rcpts, octets), (["<%s>" % REMOTE], message.split(b"\r\n", 1)[1]))
                self.receiver.messages.clear()
                with self.assertRaisesRegex(AssertionError, "verification"):
                    self.check_by_opendkim(octets + b"more\r\n", self.records)
                self.check(octets, self.records)
                self.assertEqual(self.check_by_opendkim(octets, self.records), 2)
                code, reply = self.server.deliver(message.split(b"\r\n", 1)[1], sender="alice@demo.test")
                self.assertEqual(code, 250, reply)
                results = re.sub(rb"\s+", b" ", self.copy("alice").partition(b"\r\n\r\n")[0])
                self.assertEqual(results.count(b"dkim=pass"), 2, results)

    def test_summary_agrees(self):
        """The stored copy's sizes and structure count the fields before it."""
        self.sent(MESSAGES["mime"] % (b"s", b"s"))
        self.assertEqual(self.submit(MESSAGES["mime"] % (b"s", b"s"), "bob@demo.test", REMOTE)[0], 250)
        with self.server.imap("bob") as m:
            harness.wait_for(lambda: m.select()[1] == [b"1"])
            data = m.fetch("1", "(RFC822.SIZE BODY.PEEK[])")[1]
            self.assertEqual(int(re.search(rb"RFC822.SIZE (\d+)", data[0][0]).group(1)), len(data[0][1]))
            self.assertIn(b"\r\nx\r\n--b--\r\n", data[0][1])
            self.assertEqual(m.fetch("1", "(BODY.PEEK[1])")[1][0][1], b"x")
        self.copy()

    def test_smtputf8(self):
        text = "From: Älice <alice@demo.test>\r\nTo: jörg@else.example\r\nSubject: grün\r\n\r\nx\r\n".encode()
        with self.server.submission() as s:
            s.ehlo()
            self.assertEqual(s.docmd("MAIL FROM:<alice@demo.test> SMTPUTF8 BODY=8BITMIME")[0], 250)
            for to in ("bob@demo.test", REMOTE):
                self.assertEqual(s.docmd("RCPT TO:<%s>" % to)[0], 250)
            self.assertEqual(s.data(text)[0], 250)
        message = self.copy()
        self.assertEqual(len(self.check(message, self.records)), 2)

    def test_what_does_not_leave_is_not_signed(self):
        self.assertEqual(self.submit(MESSAGES["plain"] % (b"l", b"l"), "bob@demo.test")[0], 250)
        self.assertEqual(self.signatures(self.copy()), {})

    def test_completed(self):
        """Date and Message-ID that are added are signed."""
        message = self.sent(b"From: alice@demo.test\r\nSubject: bare\r\n\r\nx\r\n")
        self.assertEqual(len(self.check(message, self.records)), 2)
        self.assertRegex(message, rb"\r\nDate: ")

    def test_parent(self):
        """An author of a domain below has the signatures of the nearest domain that has keys; another domain has none."""
        for domain in ("sub.demo.test", "bare.test"):
            self.server.run("domain", "add", domain)
            self.server.run("account", "add", "carol@" + domain, "--password-stdin", stdin="long enough a word\n")
            self.server.passwords["carol@" + domain] = "long enough a word"
        message = self.sent(b"From: carol@sub.demo.test\r\nSubject: x\r\n\r\nx\r\n", user="carol@sub.demo.test")
        self.assertEqual(len(self.check(message, self.records)), 2)
        message = self.sent(b"From: carol@bare.test\r\nSubject: x\r\n\r\nx\r\n", user="carol@bare.test")
        self.assertEqual(self.signatures(message), {})
        events = self.server.run("--json", "explain", "carol@bare.test").stdout
        self.assertIn("no key for this domain", events)

    def test_sign_ends(self):
        """A sign process that dies with a message is asked again in its successor."""
        self.server.allow("event=role-ended name=sign|event=restart-later name=sign")
        for _ in range(2):
            pid = self.server.processes()["smtpd-sign"][0]
            os.kill(pid, signal.SIGSTOP)
            answer = []
            thread = threading.Thread(target=lambda: answer.append(self.submit(MESSAGES["plain"] % (b"k", b"k"), "bob@demo.test", REMOTE)))
            thread.start()
            time.sleep(1)
            os.kill(pid, signal.SIGKILL)
            thread.join(30)
            self.assertEqual(answer[0][0], 250, answer)
            self.assertEqual(len(self.check(self.copy(), self.records)), 2)

    def test_key_ends(self):
        """A key process that dies with questions: its successor answers them."""
        self.server.allow("event=role-ended name=key|event=restart-later name=key")
        pid = self.server.processes()["authd-key"][0]
        with self.server.submission() as s:
            os.kill(pid, signal.SIGSTOP)
            s.mail("alice@demo.test")
            for to in ("bob@demo.test", REMOTE):
                s.rcpt(to)
            killer = threading.Timer(1, os.kill, (pid, signal.SIGKILL))
            killer.start()
            code, text = s.data(MESSAGES["plain"] % (b"k", b"k"))
            killer.join()
        self.assertEqual(code, 250, text)
        self.assertEqual(len(self.check(self.copy(), self.records)), 2)

    def test_key_stops(self):
        """One that does not answer: the message is neither lost nor sent without its signatures."""
        self.server.allow("event=sign-failed")
        pid = self.server.processes()["authd-key"][0]
        with self.server.submission() as s:
            os.kill(pid, signal.SIGSTOP)
            try:
                s.mail("alice@demo.test")
                s.rcpt(REMOTE)
                self.assertEqual(s.data(MESSAGES["plain"] % (b"k", b"k"))[0], 451)
            finally:
                os.kill(pid, signal.SIGCONT)


class TestKeys(SigningTest):
    def test_life(self):
        """created, seen in the DNS, active; the next ones; retired."""
        self.assertEqual(self.dkim("show", "demo.test"), [])
        self.assertIn("no key", self.dkim("rotate", "demo.test", code=1))
        rows = self.dkim("create", "demo.test", "--selector", "one")
        self.assertEqual([(r["selector"], r["algorithm"], r["state"]) for r in rows],
                         [("one-rsa", "rsa-sha256", "created"), ("one-ed25519", "ed25519-sha256", "created")])
        self.assertIn("has a key", self.dkim("create", "demo.test", code=1))
        self.assertIn("still to be published", self.dkim("rotate", "demo.test", code=1))
        plain = MESSAGES["plain"] % (b"1", b"1")
        self.assertEqual(self.signatures(self.sent(plain)), {})
        # Its record is there: it signs. The other's is not yet.
        self.publish(rows[1:])
        checked = {r["selector"]: r for r in self.dkim("check", "demo.test", code=1)}
        self.assertEqual({s: (r["dns"], r["state"]) for s, r in checked.items()},
                         {"one-rsa": ("missing", "created"), "one-ed25519": ("right", "active")})
        harness.wait_for(lambda: set(self.check(self.sent(plain), rows)) == {"one-ed25519"}, 10)
        # What was not there is remembered for as long as the zone says: 60 s. Another key of the same algorithm need not wait.
        self.dkim_lines("retire", "demo.test", "one-rsa")
        two = self.dkim("create", "demo.test", "--selector", "two", "--algorithm", "rsa")
        rows = two + rows[1:]
        self.publish(rows)
        self.assertEqual({r["selector"]: r["state"] for r in self.dkim("check", "demo.test")}, {"two-rsa": "active", "one-ed25519": "active"})
        harness.wait_for(lambda: set(self.check(self.sent(plain), rows)) == {"two-rsa", "one-ed25519"}, 10)
        # The next ones take over a day after they were seen.
        three = self.dkim("rotate", "demo.test", "--selector", "three")
        self.assertEqual([r["selector"] for r in three], ["three-rsa", "three-ed25519"])
        self.publish(rows + three)
        checked = {r["selector"]: r for r in self.dkim("check", "demo.test")}
        self.assertEqual({s: r["state"] for s, r in checked.items()},
                         {"two-rsa": "active", "one-ed25519": "active", "three-rsa": "published", "three-ed25519": "published"})
        self.assertEqual(checked["two-rsa"]["retire_at"], checked["three-rsa"]["use_from"])
        seen, use, gone = (datetime.datetime.strptime(t, "%Y-%m-%dT%H:%M:%SZ") for t in
                           (checked["three-rsa"]["published"], checked["three-rsa"]["use_from"], checked["two-rsa"]["remove_at"]))
        self.assertEqual(((use - seen).days, (gone - use).days), (1, 30))
        self.assertEqual(set(self.check(self.sent(plain), rows)), {"two-rsa", "one-ed25519"})
        # A pending key that is dropped leaves the one before in place; with --force the next ones sign at once.
        self.dkim_lines("retire", "demo.test", "three-rsa")
        self.assertIsNone({r["selector"]: r for r in self.dkim("show", "demo.test")}["two-rsa"]["retire_at"])
        four = self.dkim("rotate", "demo.test", "--selector", "four", "--force")
        harness.wait_for(lambda: set(self.check(self.sent(plain), four)) == {"four-rsa", "four-ed25519"}, 10)
        states = {r["selector"]: r["state"] for r in self.dkim("show", "demo.test")}
        self.assertEqual((states["two-rsa"], states["one-ed25519"], states["three-ed25519"]), ("retired",) * 3)

    def dkim_lines(self, *words):
        return self.server.run("dkim", *words).stdout

    def test_files(self):
        """Keys are the key role's alone; damaged ones leave mail unsigned, and the log says so."""
        self.dkim("create", "files.test", "--force")
        directory = self.server.demo + "/state/keys/dkim/files.test"
        for name in os.listdir(directory):
            self.assertEqual(stat.S_IMODE(os.stat(directory + "/" + name).st_mode), 0o600, name)
        self.assertEqual(stat.S_IMODE(os.stat(directory).st_mode), 0o700)
        self.assertIn("PRIVATE KEY", open(directory + "/" + [n for n in os.listdir(directory) if n.endswith("rsa.pem")][0]).read())
        first, second = (r["selector"] for r in self.dkim("show", "files.test"))
        self.dkim_lines("retire", "files.test", first)
        self.assertIn("last one that signs", self.server.run("dkim", "retire", "files.test", second, check=False).stderr)
        self.dkim_lines("retire", "files.test", second, "--force")
        self.assertEqual({r["state"] for r in self.dkim("show", "files.test")}, {"retired"})
        self.server.allow("event=dkim-key-unusable")
        with open(directory + "/selectors", "a", encoding="ascii") as f:
            f.write("nonsense\n")
        self.server.run("reload")
        harness.wait_for(lambda: "event=dkim-key-unusable" in self.server.log(), 10)
        self.assertIn("no list of selectors", self.server.run("dkim", "show", check=False).stderr)
        os.remove(directory + "/selectors")

    def test_wrong_records(self):
        """Each kind of record that a receiver would not take is told."""
        (row,) = self.dkim("create", "wrong.test", "--algorithm", "ed25519", "--selector", "w")
        right = row["record"]
        other = re.sub("p=.*", "p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=", right)
        texts = {"a": [right.replace("ed25519", "rsa")], "b": [other], "c": ["v=DKIM1; k=ed25519; p="], "d": [right + "; t=y"],
                 "e": [right, other], "f": ["v=spf1 -all"]}
        self.assertEqual(right.count("p="), 1)
        for name, records in texts.items():
            zone = "%s.wrong.test" % name
            (own,) = self.dkim("create", zone, "--algorithm", "ed25519", "--selector", "w")
            records = [r.replace(right.split("p=")[1], own["record"].split("p=")[1]) for r in records]
            self.put_zone(zone, "".join("w-ed25519._domainkey.%s. IN TXT %s\n" % (zone, dnsserver.txt(r)) for r in records))
            (checked,) = self.dkim("check", zone, code=1)
            self.assertEqual((checked["dns"], checked["state"]), ("wrong", "created"), (name, checked))
            self.assertTrue(checked["reason"], name)

    def edit(self, domain, change):
        """Other times in the file of selectors: {selector: {place: seconds}}."""
        path = self.server.demo + "/state/keys/dkim/%s/selectors" % domain
        with open(path, encoding="ascii") as f:
            lines = [line.split() for line in f]
        for fields in lines[1:]:
            for place, seconds in change.get(fields[0], {}).items():
                fields[["created", "published", "use_from", "retire_at", "remove_at"].index(place) + 2] = str(int(seconds))
        with open(path, "w", encoding="ascii") as f:
            f.write("".join(" ".join(fields) + "\n" for fields in lines))

    def test_take_over(self):
        """The next key takes over at its time, without anybody's doing."""
        self.server.run("domain", "add", "over.test")
        self.server.run("account", "add", "carol@over.test", "--password-stdin", stdin="long enough a word\n")
        self.server.passwords["carol@over.test"] = "long enough a word"
        rows = self.dkim("create", "over.test", "--algorithm", "ed25519", "--selector", "old", "--force")
        rows += self.dkim("rotate", "over.test", "--selector", "new")
        at = time.time() + 4
        self.edit("over.test", {"old-ed25519": {"retire_at": at, "remove_at": at + 60}, "new-ed25519": {"published": 1, "use_from": at}})
        self.server.run("reload")
        text = b"From: carol@over.test\r\nSubject: x\r\n\r\nx\r\n"
        seen = []
        while time.time() < at + 20 and seen[-1:] != [["new-ed25519"]]:
            began = time.time()
            found = sorted(self.check(self.sent(text, user="carol@over.test"), rows, "over.test"))
            if int(at) <= began or time.time() < int(at):
                self.assertEqual(found, ["old-ed25519" if began < int(at) else "new-ed25519"])
            seen.append(found)
        self.assertEqual((seen[0], seen[-1]), (["old-ed25519"], ["new-ed25519"]))

    def test_record_gone_before_it_is_used(self):
        """A new key whose record was seen, and has gone again before it takes over, waits; the one before goes on."""
        old, = self.dkim("create", "back.test", "--algorithm", "ed25519", "--selector", "old", "--force")
        self.dkim("rotate", "back.test", "--selector", "new")
        self.put_zone("back.test", "old-ed25519._domainkey.back.test. IN TXT %s\n" % dnsserver.txt(old["record"]))
        at = time.time() + 3600
        self.edit("back.test", {"old-ed25519": {"retire_at": at, "remove_at": at + 60}, "new-ed25519": {"published": 1, "use_from": at}})
        self.assertEqual({r["selector"]: r["state"] for r in self.dkim("show", "back.test")}, {"old-ed25519": "active", "new-ed25519": "published"})
        checked = {r["selector"]: (r["dns"], r["state"], r["use_from"] is None, r["retire_at"]) for r in self.dkim("check", "back.test", code=1)}
        self.assertEqual(checked, {"old-ed25519": ("right", "active", False, None), "new-ed25519": ("missing", "created", True, None)})
        self.assertEqual({r["selector"]: r["state"] for r in self.dkim("show", "back.test")}, {"old-ed25519": "active", "new-ed25519": "created"})

    def test_forgotten(self):
        """A retired key goes when its time is over and its record is gone; not before."""
        rows = self.dkim("create", "gone.test", "--force", "--selector", "g")
        self.put_zone("gone.test", "g-rsa._domainkey.gone.test. IN TXT %s\n" % dnsserver.txt(rows[0]["record"]))
        for row in rows:
            self.dkim_lines("retire", "gone.test", row["selector"], "--force")
        checked = {r["selector"]: r["advice"] for r in self.dkim("check", "gone.test", code=1)}
        self.assertEqual(checked, {"g-rsa": "keep the record until it may go", "g-ed25519": "publish the record again until it may go"})
        past = {"retire_at": time.time() - 10, "remove_at": time.time() - 5}
        self.edit("gone.test", {"g-rsa": past, "g-ed25519": past})
        checked = {r["selector"]: r["advice"] for r in self.dkim("check", "gone.test")}
        self.assertEqual(checked, {"g-rsa": "remove the record", "g-ed25519": "forgotten"})
        self.assertEqual([r["selector"] for r in self.dkim("show", "gone.test")], ["g-rsa"])
        directory = self.server.demo + "/state/keys/dkim/gone.test"
        self.assertEqual(sorted(os.listdir(directory)), ["g-rsa.rsa.pem", "selectors"])

    def test_u_labels(self):
        """A domain outside ASCII signs in its A-labels (RFC 8616 3)."""
        self.server.run("domain", "add", "gr\u00fcn.test")
        self.server.run("account", "add", "carol@gr\u00fcn.test", "--password-stdin", stdin="long enough a word\n")
        self.server.passwords["carol@xn--grn-ioa.test"] = "long enough a word"
        rows = self.dkim("create", "gr\u00fcn.test", "--force")
        self.assertEqual({r["domain"] for r in rows}, {"xn--grn-ioa.test"})
        with self.submission("carol@xn--grn-ioa.test") as s:
            s.ehlo()
            self.assertEqual(s.docmd("MAIL FROM:<carol@xn--grn-ioa.test> SMTPUTF8 BODY=8BITMIME")[0], 250)
            for to in ("bob@demo.test", REMOTE):
                self.assertEqual(s.docmd("RCPT TO:<%s>" % to)[0], 250)
            code, text = s.data("From: carol@gr\u00fcn.test\r\nSubject: x\r\n\r\nx\r\n".encode())
            self.assertEqual(code, 250, text)
        self.assertEqual(len(self.check(self.copy(), rows, "xn--grn-ioa.test")), 2)

    def test_words(self):
        for words, code in ((["create"], 2), (["create", "a b.test"], 1), (["create", "x.test", "--algorithm", "dsa"], 2),
                            (["create", "x.test", "--selector", "Not_Good"], 1), (["create", "x.test", "--selector"], 2),
                            (["retire", "x.test", "none"], 1), (["show", "../../etc"], 1)):
            done = self.server.run("dkim", *words, check=False)
            self.assertEqual(done.returncode, code, (words, done.stderr))
        text = self.server.run("dkim", "create", "words.test").stdout
        self.assertRegex(text, r"(?m)^\d{8}-rsa\._domainkey\.words\.test\. IN TXT \( \"v=DKIM1; k=rsa; p=")
        for string in re.findall(r'"([^"]*)"', text):
            self.assertLessEqual(len(string), 255)
        self.assertIn("mailstead dkim check words.test", text)
