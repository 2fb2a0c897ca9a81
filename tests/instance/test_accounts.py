"""Accounts, aliases and domains on a running server: the command, logins, live sessions, what the time line says."""

import imaplib
import json
import os
import poplib
import pty
import select
import signal
import smtplib
import statistics
import subprocess
import threading
import time
import unittest

import harness
from harness import wait_for

REFUSED, USAGE, UNREACHABLE, TEMPORARY = 1, 2, 3, 4
MESSAGE = "From: a@client.example\r\nTo: %s\r\nMessage-ID: <%s@client.example>\r\nSubject: test\r\n\r\ntext\r\n"


class TestOutside(harness.InstanceTest):
    """Aliases that lead to other servers, as the command tells and as a client is answered."""
    settings = {"transport.enabled": "yes"}

    def test_alias(self):
        self.server.run("alias", "add", "out@demo.test", "Bob.X@elsewhere.example")
        self.server.run("alias", "add", "both@demo.test", "alice@demo.test", "out@demo.test")
        row, = json.loads(self.server.run("alias", "resolve", "both@demo.test", "--json").stdout)
        self.assertEqual((row["answer"], row["accounts"], row["outside"]), ("local", ["alice@demo.test"], ["Bob.X@elsewhere.example"]))
        with self.server.smtp() as s:
            s.ehlo()
            s.mail("a@client.example")
            self.assertEqual(s.rcpt("out@demo.test")[0], 250)
            self.assertEqual(s.rcpt("both@demo.test")[0], 250)
            # What looks like a bounce address, but is none of ours, from whomever.
            made_up = "SRS0=abcdefgh=aa=client.example=a@demo.test"
            self.assertEqual(s.rcpt(made_up)[0], 550)
            self.assertEqual(s.rcpt("SRS0=%s=a@demo.test" % ("x" * 200))[0], 550)
            s.rset()
            s.mail("")
            self.assertEqual(s.rcpt(made_up)[0], 550)
            self.assertEqual(s.rcpt(made_up.replace("demo.test", "elsewhere.example"))[0], 550)
        self.server.run("alias", "delete", "both@demo.test", "Bob.X@elsewhere.example", check=False)
        self.server.run("alias", "delete", "out@demo.test", "Bob.X@elsewhere.example")
        row, = json.loads(self.server.run("alias", "resolve", "out@demo.test", "--json").stdout)
        self.assertEqual((row["answer"], row["outside"]), ("unknown", []))


class AccountTest(harness.InstanceTest):
    def add(self, address, password="first password"):
        self.server.run("account", "add", address, "--password-stdin", stdin=password + "\n")
        self.server.passwords[address] = password

    def rows(self, *words):
        return json.loads(self.server.run(*words, "--json").stdout)

    def status(self, *words, stdin=""):
        return self.server.run(*words, stdin=stdin, check=False).returncode

    def login_error(self, user, password):
        """The text that the login is refused with, and how long it took."""
        client = self.server.imap(user=None)
        began = time.time()
        try:
            client.login(user, password)
        except imaplib.IMAP4.error as e:
            return str(e), time.time() - began
        finally:
            client.shutdown()
        return None, time.time() - began

    def inbox_count(self, address):
        client = self.server.imap(address)
        try:
            return int(client.select("INBOX", readonly=True)[1][0])
        finally:
            client.logout()


class TestCommand(AccountTest):
    def test_life_of_an_account(self):
        self.server.run("domain", "add", "life.test")
        self.add("Carol@life.test")
        rows = self.rows("account", "list", "life.test")
        self.assertEqual([(r["address"], r["state"]) for r in rows], [("carol@life.test", "active")])
        self.assertGreater(rows[0]["id"], 0)
        self.assertIn("carol@life.test", self.server.run("account", "list").stdout)
        self.server.imap("Carol@life.test").logout()
        self.server.run("account", "passwd", "carol@life.test", stdin="second password\n")
        self.assertIsNotNone(self.login_error("carol@life.test", "first password")[0])
        self.assertIsNone(self.login_error("carol@life.test", "second password")[0])
        self.server.run("account", "delete", "carol@life.test")
        self.assertIsNotNone(self.login_error("carol@life.test", "second password")[0])
        self.assertEqual(self.rows("account", "list", "life.test"), [])
        # Made again, it is another account: empty, with a number of its own.
        self.add("carol@life.test")
        self.assertGreater(self.rows("account", "list", "life.test")[0]["id"], rows[0]["id"])
        self.assertEqual(self.inbox_count("carol@life.test"), 0)

    def test_mailboxes_of_an_account(self):
        self.add("rows@demo.test")
        client = self.server.imap("rows@demo.test")
        client.create("Caf&AOk-")
        client.append("INBOX", None, None, b"Subject: x\r\n\r\nx\r\n")
        rows = {r["mailbox"]: r for r in self.rows("mailbox", "list", "rows@demo.test")}
        self.assertEqual(rows["INBOX"]["messages"], 1)
        self.assertEqual(rows["INBOX"]["bytes"], 17)
        self.assertEqual(rows["Sent"]["special_use"], ["\\Sent"])
        self.assertIn("Caf\u00e9", rows)
        client.logout()
        self.assertEqual(self.status("mailbox", "list", "nobody@demo.test"), REFUSED)
        self.assertEqual(self.status("mailbox", "list"), USAGE)

    def test_rebuild(self):
        """Made anew while a session is open: the session ends, the mail is there, the next one goes on."""
        self.add("anew@demo.test")
        client = self.server.imap("anew@demo.test")
        client.append("INBOX", "(\\Flagged)", None, b"Subject: x\r\n\r\nx\r\n")
        client.select("INBOX")
        self.assertIn("1 messages, 17 octets", self.server.run("store", "rebuild", "anew@demo.test").stdout)
        with self.assertRaises(imaplib.IMAP4.abort):
            while True:
                client.noop()
        client = self.server.imap("anew@demo.test")
        client.select("INBOX")
        self.assertIn(b"\\Flagged", client.fetch("1", "FLAGS")[1][0])
        client.logout()

    def test_deleted_mail_is_gone(self):
        self.add("gone@demo.test")
        self.assertEqual(self.server.deliver(MESSAGE % ("gone@demo.test", "gone1"), "gone@demo.test")[0], 250)
        number = [r["id"] for r in self.rows("account", "list") if r["address"] == "gone@demo.test"][0]
        state = self.server.demo + "/state/accounts"
        path = [p for p in (state, self.server.demo + "/accounts") if os.path.isdir(p)][0] + "/%d" % number
        self.assertTrue(os.path.isdir(path))
        self.server.run("account", "delete", "gone@demo.test")
        # The lock outlives what it guarded.
        wait_for(lambda: not os.path.exists(path) or os.listdir(path) == ["lock"])
        self.assertEqual(self.server.deliver(MESSAGE % ("gone@demo.test", "gone2"), "gone@demo.test")[0], 550)

    def test_refusals(self):
        self.server.run("domain", "add", "refuse.test")
        self.add("x@refuse.test")
        for words, want in (
                (("domain", "add", "refuse.test"), REFUSED),
                (("domain", "add", "not a domain"), REFUSED),
                (("domain", "delete", "refuse.test"), REFUSED),
                (("domain", "delete", "unknown.test"), REFUSED),
                (("account", "add", "x@refuse.test"), REFUSED),
                (("account", "add", "x@unknown.test"), REFUSED),
                (("account", "add", "x"), REFUSED),
                (("account", "add", "a+b@refuse.test"), REFUSED),
                (("account", "passwd", "nobody@refuse.test"), REFUSED),
                (("account", "delete", "nobody@refuse.test"), REFUSED),
                (("account", "list", "unknown.test"), REFUSED),
                (("alias", "add", "a@refuse.test", "x@elsewhere.example"), REFUSED),
                (("alias", "add", "a@refuse.test", "nobody@refuse.test"), REFUSED),
                (("alias", "delete", "a@refuse.test"), REFUSED),
                (("account", "add"), USAGE),
                (("account", "add", "y@refuse.test", "password"), USAGE),
                (("account", "add", "y@refuse.test", "--password=secret"), USAGE),
                (("account", "add", "y@refuse.test", "--name"), USAGE),
                (("alias", "add", "a@refuse.test"), USAGE),
                (("domain", "list", "x"), USAGE),
                (("explain",), USAGE),
                (("explain", "x", "--since", "yesterday"), USAGE),
                (("explain", "no-such-key-anywhere"), REFUSED),
        ):
            done = self.server.run(*words, stdin="some password\n", check=False)
            self.assertEqual(done.returncode, want, (words, done.stderr))
            self.assertTrue(done.stderr.strip(), words)
            self.assertNotIn("some password", done.stdout + done.stderr)
        self.assertEqual(self.status("account", "add", "y@refuse.test", stdin=""), USAGE)
        self.assertEqual(self.status("account", "add", "y@refuse.test", stdin="\n"), USAGE)
        self.server.run("domain", "delete", "refuse.test", "--with-accounts")
        self.assertNotIn("refuse.test", [r["domain"] for r in self.rows("domain", "list")])

    def test_answers_that_cannot_be_written(self):
        """Whoever reads only the exit status knows that there was no answer."""
        self.server.deliver(MESSAGE % ("alice@demo.test", "full"))
        for words in (("--help",), ("--version",), ("status",), ("config", "show"), ("config", "man"), ("account", "list"),
                      ("account", "list", "--json"), ("explain", "alice@demo.test"), ("store", "check", "--all"),
                      ("store", "dump", "alice@demo.test"), ("store", "rebuild", "alice@demo.test"), ("queue", "list"), ("queue", "flush"),
                      ("undelete", "list", "alice@demo.test"), ("dkim", "show")):
            with open("/dev/full", "w", encoding="utf-8") as full:
                done = subprocess.run([harness.MAILSTEAD, "--config", self.server.demo + "/mailstead.conf", *words], stdout=full,
                                      stderr=subprocess.PIPE, text=True, timeout=60)
            self.assertEqual(done.returncode, TEMPORARY, (words, done.stderr))
            self.assertEqual(done.stderr.count("cannot write the answer"), 1, (words, done.stderr))

    def prompted(self, *answers):
        """`account add` at a terminal, given these answers: its exit status and all that the terminal showed."""
        pid, terminal = pty.fork()
        if pid == 0:
            os.execv(harness.MAILSTEAD, [harness.MAILSTEAD, "--config", self.server.demo + "/mailstead.conf", "account", "add",
                                         "typed@demo.test"])
        shown = b""
        for answer in answers:
            while not shown.rstrip(b" ").endswith(b":"):
                self.assertTrue(select.select([terminal], [], [], 10)[0], shown)
                shown += os.read(terminal, 1024)
            os.write(terminal, answer + b"\n")
            shown += b"\n"
        try:
            while select.select([terminal], [], [], 10)[0]:
                more = os.read(terminal, 1024)
                if not more:
                    break
                shown += more
        except OSError:  # the other side of the terminal is gone
            pass
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.close(terminal)
        return status, shown.decode()

    def test_prompt(self):
        status, shown = self.prompted(b"typed secret", b"mistyped secret")
        self.assertEqual(status, USAGE, shown)
        self.assertNotIn("secret", shown)
        status, shown = self.prompted(b"typed secret", b"typed secret")
        self.assertEqual(status, 0, shown)
        self.assertNotIn("secret", shown)
        self.assertIsNone(self.login_error("typed@demo.test", "typed secret")[0])

    def test_help_and_unreachable(self):
        for words in (("domain", "add"), ("domain", "delete"), ("domain", "list"), ("account", "add"), ("account", "passwd"),
                      ("account", "suspend"), ("account", "resume"), ("account", "delete"), ("account", "list"),
                      ("alias", "add"), ("alias", "delete"), ("alias", "list"), ("explain",)):
            done = self.server.run(*words, "--help")
            self.assertIn("mailstead", done.stdout)
            self.assertIn(" ".join(words), done.stdout)
        path = self.server.directory + "/other.conf"
        with open(self.server.demo + "/mailstead.conf", encoding="utf-8") as f:
            lines = [line for line in f if not line.startswith("run.directory")]
        with open(path, "w", encoding="utf-8") as f:
            f.writelines(lines + ["run.directory = \"/nonexistent\"\n"])
        done = subprocess.run([harness.MAILSTEAD, "--config", path, "domain", "list"], capture_output=True, text=True)
        self.assertEqual(done.returncode, UNREACHABLE, done.stderr)

    def test_control_sockets_are_ours_alone(self):
        for base, _, names in os.walk(self.server.demo):
            for name in names:
                path = os.path.join(base, name)
                if name in ("directory", "recorder") and not os.path.isdir(path):
                    self.assertEqual(os.stat(path).st_mode & 0o777, 0o600, path)


class TestAddresses(AccountTest):
    def test_where_mail_goes(self):
        self.server.run("domain", "add", "where.test")
        for name in ("one", "two"):
            self.add(name + "@where.test")
        self.server.run("alias", "add", "both@where.test", "one@where.test", "two@where.test")
        self.server.run("alias", "add", "chain@where.test", "both@where.test")
        self.assertEqual([r["targets"] for r in self.rows("alias", "list", "where.test")],
                         [["one@where.test", "two@where.test"], ["both@where.test"]])
        one = two = 0
        for i, (rcpt, to_one, to_two) in enumerate((
                ("one@where.test", 1, 0), ("ONE@Where.Test", 1, 0), ("one+detail@where.test", 1, 0), ("both@where.test", 1, 1),
                ("chain@where.test", 1, 1), ("postmaster@where.test", 1, 0), ("abuse@where.test", 1, 0))):
            code, text = self.server.deliver(MESSAGE % (rcpt, "where%d" % i), rcpt)
            self.assertEqual(code, 250, (rcpt, text))
            one, two = one + to_one, two + to_two
            self.assertEqual((self.inbox_count("one@where.test"), self.inbox_count("two@where.test")), (one, two), rcpt)
        self.assertEqual(self.server.deliver("x", "nobody@where.test")[0], 550)
        self.server.run("alias", "add", "@where.test", "two@where.test")
        self.assertEqual(self.server.deliver(MESSAGE % ("nobody", "where-all"), "nobody@where.test")[0], 250)
        self.assertEqual(self.inbox_count("two@where.test"), two + 1)
        self.server.run("alias", "delete", "@where.test")
        self.assertEqual(self.server.deliver("x", "nobody@where.test")[0], 550)

    def leads(self, address):
        row, = self.rows("alias", "resolve", address)
        return row["answer"], row["accounts"], row["detail"]

    def test_rules_of_a_domain(self):
        """What a domain says of separators, dots and letters: over SMTP, at login, and as the command tells."""
        self.server.run("domain", "add", "rules.test")
        self.add("ann.lee@rules.test")
        self.add("j\u00f6rg@rules.test")
        self.server.run("domain", "add", "plain.test")
        self.add("ann.lee@plain.test")
        asked = ("ann.lee-x@rules.test", "annlee@rules.test", "A.N.N.Lee+y=z@rules.test", "annlee@plain.test")
        self.assertEqual([self.server.deliver(MESSAGE % (a, "r"), a)[0] for a in asked], [550, 550, 550, 550])
        self.server.run("domain", "set", "rules.test", "--separators", "-+", "--dots", "ignore", "--case", "unicode")
        row, = [r for r in self.rows("domain", "list") if r["domain"] == "rules.test"]
        self.assertEqual((row["separators"], row["dots"], row["case"]), ("-+", "ignore", "unicode"))
        self.assertEqual([self.server.deliver(MESSAGE % (a, "r"), a)[0] for a in asked], [250, 250, 250, 550])
        self.assertEqual(self.inbox_count("ann.lee@rules.test"), 3)
        self.assertEqual(self.leads("A.N.N.Lee+y=z@rules.test"), ("local", ["ann.lee@rules.test"], "y=z"))
        self.assertEqual(self.leads("J\u00d6RG-a@RULES.test"), ("local", ["j\u00f6rg@rules.test"], "a"))
        self.assertEqual(self.leads("jorg@rules.test"), ("unknown", [], ""))
        self.assertEqual(self.leads("abuse-x@rules.test"), ("local", ["ann.lee@rules.test"], "x"))
        self.assertEqual(self.leads("x@elsewhere.test"), ("not ours", [], ""))
        client = self.server.imap(user=None)
        client.login("AnnLee@rules.test", "first password")
        client.logout()
        self.assertEqual(self.status("account", "add", "an.nlee@rules.test", "--password-stdin", stdin="pw of some length\n"), REFUSED)
        self.assertEqual(self.status("domain", "set", "rules.test"), USAGE)
        self.assertEqual(self.status("domain", "set", "rules.test", "--dots", "none"), REFUSED)
        self.server.run("domain", "set", "rules.test", "--separators", "", "--dots", "keep")
        self.assertEqual([self.server.deliver(MESSAGE % (a, "r"), a)[0] for a in asked[:2]], [550, 550])

    def test_bare_postmaster(self):
        with self.server.smtp() as s:
            s.ehlo()
            s.mail("a@client.example")
            s.putcmd("rcpt", "TO:<postmaster>")
            self.assertEqual(s.getreply()[0], 250)


class TestSenders(AccountTest):
    """Addresses that are not one's own."""

    def send(self, envelope, author, user="bob"):
        """The first reply that is no 250, or the last."""
        with self.server.submission(user) as s:
            s.ehlo()
            code, text = s.mail(envelope)
            if code == 250:
                code, text = s.rcpt("alice@demo.test")
            if code == 250:
                code, text = s.data("From: <%s>\r\nTo: alice@demo.test\r\nSubject: as %s\r\n\r\nx\r\n" % (author, author))
        return code, text.decode()

    def test_delegated(self):
        self.server.run("alias", "add", "office@demo.test", "alice@demo.test")
        self.assertEqual(self.send("office@demo.test", "office@demo.test")[0], 550)
        self.server.run("sender", "grant", "office@demo.test", "bob@demo.test")
        self.assertEqual([(r["address"], r["targets"]) for r in self.rows("sender", "list", "demo.test")], [("office@demo.test", ["bob@demo.test"])])
        self.assertIn("office@demo.test", self.server.run("sender", "list").stdout)
        # Both the reverse-path and the author, in any mixture with one's own.
        for envelope, author in (("office@demo.test", "office@demo.test"), ("bob@demo.test", "Office+x@demo.test"), ("office@demo.test", "bob@demo.test")):
            code, text = self.send(envelope, author)
            self.assertEqual(code, 250, (envelope, author, text))
        events = [r["fields"] for r in json.loads(self.server.run("--json", "explain", text.split()[-1]).stdout) if r["event"] == "sender"]
        self.assertEqual([(r["what"], r["allowed"]) for r in events], [("envelope", "2"), ("author", "1")])
        # Not her own address.
        self.assertEqual(self.send("alice@demo.test", "office@demo.test")[0], 550)
        self.assertEqual(self.send("office@demo.test", "alice@demo.test")[1], "5.7.1 The address in From is not yours")
        # In the midst of a session.
        with self.server.submission("bob") as s:
            s.ehlo()
            self.assertEqual(s.mail("office@demo.test")[0], 250)
            s.rset()
            self.server.run("sender", "revoke", "office@demo.test", "bob@demo.test")
            self.assertEqual(s.mail("office@demo.test")[0], 550)
        self.assertEqual(self.rows("sender", "list"), [])

    def test_refusals(self):
        self.server.run("alias", "add", "team@demo.test", "bob@demo.test")
        for words, want in ((("grant", "nobody@demo.test", "bob@demo.test"), REFUSED), (("grant", "alice@demo.test", "bob@elsewhere.example"), REFUSED),
                            (("revoke", "alice@demo.test"), REFUSED), (("grant", "alice@demo.test"), USAGE), (("revoke",), USAGE), (("list", "x.test"), REFUSED)):
            self.assertEqual(self.status("sender", *words), want, words)
        self.server.run("sender", "grant", "alice@demo.test", "team@demo.test")
        self.assertEqual(self.send("alice@demo.test", "alice@demo.test")[0], 250)
        self.server.run("sender", "revoke", "alice@demo.test")
        self.assertEqual(self.send("alice@demo.test", "alice@demo.test")[0], 550)


class TestLogins(AccountTest):
    def test_same_words_for_every_failure(self):
        self.add("mallory@demo.test")
        self.server.run("account", "suspend", "mallory@demo.test")
        texts = {self.login_error(user, password)[0] for user, password in (
            ("nobody@demo.test", "x"), ("nobody@unknown.test", "x"), ("alice@demo.test", "wrong"), ("alice", "x"),
            ("mallory@demo.test", "first password"), ("mallory@demo.test", "wrong"))}
        self.assertEqual(len(texts), 1, texts)
        self.server.run("account", "resume", "mallory@demo.test")
        self.assertIsNone(self.login_error("mallory@demo.test", "first password")[0])

    def test_suspended(self):
        self.add("dave@demo.test")
        client = self.server.imap("dave@demo.test")
        client.select("INBOX")
        self.server.run("account", "suspend", "dave@demo.test")
        self.assertEqual([r["state"] for r in self.rows("account", "list") if r["address"] == "dave@demo.test"], ["suspended"])
        self.assertEnds(client)
        self.assertEqual(self.server.deliver("x", "dave@demo.test")[0], 550)
        with self.assertRaises(poplib.error_proto):
            self.server.pop3("dave@demo.test")
        with self.assertRaises(smtplib.SMTPAuthenticationError):
            self.server.submission("dave@demo.test")
        self.server.run("account", "resume", "dave@demo.test")
        self.assertEqual(self.server.deliver(MESSAGE % ("dave", "back"), "dave@demo.test")[0], 250)

    def assertEnds(self, client):
        """The server ends this IMAP session soon, with BYE or without."""
        def gone():
            try:
                return client.noop()[0] != "OK"
            except (imaplib.IMAP4.error, OSError):
                return True
        wait_for(gone, 5)

    def test_password_change_ends_sessions(self):
        self.add("erin@demo.test")
        sessions = [self.server.imap("erin@demo.test") for _ in range(2)]
        idler = self.server.imap("erin@demo.test")
        idler.select("INBOX")
        idler.send(b"x IDLE\r\n")
        idler.readline()
        other = self.server.imap("alice")
        pop = self.server.pop3("erin@demo.test")
        self.server.run("account", "passwd", "erin@demo.test", stdin="another\n")
        for client in sessions:
            self.assertEnds(client)
        idler.sock.settimeout(5)
        while idler.readline():
            pass
        with self.assertRaises((poplib.error_proto, OSError, EOFError)):
            for _ in range(50):
                pop.noop()
                time.sleep(0.1)
        self.assertEqual(other.noop()[0], "OK")
        other.logout()
        self.server.passwords["erin@demo.test"] = "another"
        self.server.imap("erin@demo.test").logout()

    def test_submission_ends_with_the_password(self):
        self.add("frank@demo.test")
        s = self.server.submission("frank@demo.test")
        self.server.run("account", "passwd", "frank@demo.test", stdin="another\n")
        with self.assertRaises(smtplib.SMTPException):
            s.sendmail("frank@demo.test", ["alice@demo.test"], MESSAGE % ("alice", "too-late"))
        s.close()

    def test_plain_and_login_on_the_wire(self):
        user, password = "alice@demo.test", self.server.password("alice")
        for plain, want in ((b"\0%s\0%s", "OK"), (b"%s\0%s\0%s", "OK"), (b"bob@demo.test\0%s\0%s", "NO"), (b"%s\0%s", "NO"),
                            (b"\0%s\0%s\0", "NO"), (b"\0%s\0", "NO")):
            values = [user.encode()] * (plain.count(b"%s") - 1) + [password.encode()]
            if plain == b"\0%s\0":
                values = [user.encode()]
            client = self.server.imap(user=None)
            try:
                got = client.authenticate("PLAIN", lambda _, text=plain % tuple(values): text)[0]
            except imaplib.IMAP4.error:
                got = "NO"
            client.shutdown()
            self.assertEqual(got, want, plain)

    def test_second_login_is_quick(self):
        self.add("gina@demo.test")
        took = [self.login_error("gina@demo.test", "first password") for _ in range(3)]
        self.assertEqual([t[0] for t in took], [None] * 3)
        self.assertLess(min(took[1][1], took[2][1]), took[0][1])


class TestTimes(AccountTest):
    def test_same_time_for_every_failure(self):
        times = {"nobody@demo.test": [], "alice@demo.test": []}
        for i in range(5):
            for user, took in times.items():
                with self.server.submission(user=None) as client:
                    client.ehlo()
                    began = time.time()
                    with self.assertRaises(smtplib.SMTPAuthenticationError):
                        client.login(user, "wrong %d" % i)
                    took.append(time.time() - began)
        unknown, known = (statistics.median(t) for t in times.values())
        self.assertLess(abs(unknown - known), 0.1 * max(unknown, known) + 0.02, times)


class TestExplain(AccountTest):
    def test_by_message_id_and_address(self):
        self.assertEqual(self.server.deliver(MESSAGE % ("alice", "explained"), "alice")[0], 250)
        rows = wait_for(lambda: json.loads(self.server.run("explain", "<explained@client.example>", "--json").stdout))
        self.assertGreaterEqual(len({r["role"] for r in rows}), 2)
        self.assertEqual(rows, sorted(rows, key=lambda r: r["time"]))
        text = self.server.run("explain", "alice@demo.test", "--since", "1h").stdout
        self.assertIn(rows[0]["session"], text)
        self.assertEqual(self.rows("explain", "explained@elsewhere.example"), [])

    def test_replay(self):
        """What is recorded of a decision comes to the same decision again: taken, put into Junk, refused."""
        two = (MESSAGE % ("alice", "two-authors")).replace("\r\n\r\n", "\r\nFrom: other@client.example\r\n\r\n", 1)
        self.assertEqual(self.server.deliver(MESSAGE % ("alice", "one-author"), "alice")[0], 250)
        self.assertEqual(self.server.deliver(two, "alice")[0], 550)
        for token, action in (("one-author", "accept"), ("two-authors", "refuse")):
            key = "<%s@client.example>" % token
            wait_for(lambda: any(r["event"] == "decision" for r in self.rows("explain", key)))
            rows = [r for r in self.rows("explain", key, "--replay") if r["event"] == "decision"]
            self.assertEqual([r["fields"]["action"] for r in rows], [action])
            self.assertIs(rows[0]["again"]["same"], True, rows)
            self.assertIn("judged again: the same", self.server.run("explain", key, "--replay").stdout)
        self.assertEqual(self.server.run("explain", "nobody@elsewhere.example", "--replay", check=False).returncode, 1)

    def test_sessions_of_another_run(self):
        """A session's id is not given again after a restart: two time lines never mix."""
        def logins():
            rows = self.rows("explain", "alice@demo.test")
            return [r["session"] for r in rows if r["event"] == "login"]

        self.server.imap("alice").logout()
        self.server.pop3("alice").quit()
        before = wait_for(lambda: len(logins()) >= 2 and logins())
        self.assertEqual(self.server.stop(), [])
        self.server.start()
        self.server.imap("alice").logout()
        self.server.pop3("alice").quit()
        after = wait_for(lambda: len(logins()) >= len(before) + 2 and logins())
        self.assertEqual(len(after), len(set(after)), after)

    def test_survives_the_recorder(self):
        self.assertEqual(self.server.deliver(MESSAGE % ("bob", "before-kill"), "bob")[0], 250)
        wait_for(lambda: self.rows("explain", "before-kill@client.example"))
        self.server.allow(r"role=supervisor level=(warn|error)")
        pid = self.server.processes()["traced-recorder"][0]
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: self.server.processes().get("traced-recorder", [pid]) != [pid])
        wait_for(lambda: self.server.run("explain", "before-kill@client.example", check=False).returncode == 0)


class TestKilledDirectory(AccountTest):
    """Every account whose addition was acknowledged is there after kill -9 of the directory."""

    def test_kill(self):
        self.server.allow(r"level=(warn|error)")
        added, stop = [], threading.Event()

        def adder(n):
            i = 0
            while not stop.is_set():
                address = "k%d-%d@demo.test" % (n, i)
                if self.status("account", "add", address, stdin="p\n") == 0:
                    added.append(address)
                i += 1

        threads = [threading.Thread(target=adder, args=(n,)) for n in range(2)]
        for t in threads:
            t.start()
        for _ in range(4):
            time.sleep(0.5)
            pid = self.server.processes()["authd-directory"][0]
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda: self.server.processes().get("authd-directory", [pid])[0] != pid)
        stop.set()
        for t in threads:
            t.join()
        self.assertGreater(len(added), 5)
        wait_for(lambda: self.status("account", "list") == 0)
        listed = {r["address"] for r in self.rows("account", "list")}
        self.assertEqual(set(added) - listed, set())
        ids = [r["id"] for r in self.rows("account", "list")]
        self.assertEqual(len(ids), len(set(ids)))
        self.server.imap("alice").logout()


if __name__ == "__main__":
    unittest.main()
