"""Programs of this machine: the Unix socket of the submission front, and mailstead-sendmail, as it is called."""

import getpass
import os
import re
import socket
import subprocess
import unittest

import harness

SENDMAIL = os.path.join(os.path.dirname(harness.MAILSTEAD), "mailstead-sendmail")
USER = getpass.getuser()
EX_OK, EX_USAGE, EX_DATAERR, EX_NOUSER, EX_UNAVAILABLE, EX_TEMPFAIL, EX_NOPERM = 0, 64, 65, 67, 69, 75, 77
TEXT = "From: alice@demo.test\nTo: bob@demo.test\nSubject: x\n\nbody\n"


class LocalTest(harness.InstanceTest):
    settings = {"submission.local": USER + "=alice@demo.test"}

    def path(self):
        return self.server.demo + "/run/submit"

    def sendmail(self, *args, text=TEXT, name="sendmail", path=None, **kw):
        return subprocess.run([name, *args], executable=SENDMAIL, input=text if isinstance(text, bytes) else text.encode(), capture_output=True,
                              timeout=60, env={"MAILSTEAD_SUBMIT": path or self.path(), "PATH": os.environ["PATH"]}, **kw)

    def sent(self, *args, text=TEXT, status=EX_OK, **kw):
        done = self.sendmail(*args, text=text, **kw)
        self.assertEqual(done.returncode, status, done.stderr)
        return done

    def messages(self, user="bob"):
        """What came last, and takes it away."""
        client = self.server.imap(user, utf8=True)
        client.select()
        numbers = client.search(None, "ALL")[1][0].split()
        found = [client.fetch(n, "(BODY.PEEK[])")[1][0][1] for n in numbers]
        for n in numbers:
            client.store(n, "+FLAGS", r"(\Deleted)")
        client.expunge()
        client.logout()
        return found

    def message(self, user="bob"):
        found, = self.messages(user)
        return found

    def wire(self):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(20)
        s.connect(self.path())
        return harness.Wire(s)


class TestSocket(LocalTest):
    def test_dialogue(self):
        """Who connects is logged in: no AUTH, no STARTTLS, and the account's rights."""
        w = self.wire()
        self.assertRegex(w.reply(), rb"^220 ")
        said = w.send("EHLO x\r\n").reply()
        self.assertIn(b"250-XACCOUNT alice@demo.test\r\n", said)
        self.assertNotIn(b"STARTTLS", said)
        self.assertNotIn(b"AUTH", said)
        self.assertRegex(w.send("STARTTLS\r\n").reply(), rb"^502 ")
        self.assertRegex(w.send("MAIL FROM:<bob@demo.test>\r\n").reply(), rb"^550 5\.7\.1")
        self.assertRegex(w.send("MAIL FROM:<alice@demo.test>\r\n").reply(), rb"^250")
        self.assertRegex(w.send("RCPT TO:<x@elsewhere.example>\r\n").reply(), rb"^550 5\.7\.1")
        self.assertRegex(w.send("RCPT TO:<bob@demo.test>\r\n").reply(), rb"^250")
        self.assertRegex(w.send("DATA\r\n").reply(), rb"^354")
        self.assertRegex(w.send("From: bob@demo.test\r\n\r\nx\r\n.\r\n").reply(), rb"^550 5\.7\.1")
        told = harness.wait_for(lambda: self.server.run("explain", "bob@demo.test", check=False).stdout)
        self.assertIn("local", told)

    def test_suspended(self):
        """A session ends with the account, and no new one begins."""
        self.server.run("account", "suspend", "alice@demo.test")
        try:
            w = self.wire()
            self.assertRegex(w.reply(), rb"^554 5\.7\.1")
            self.sent("bob@demo.test", status=EX_NOPERM)
        finally:
            self.server.run("account", "resume", "alice@demo.test")
        self.sent("bob@demo.test")
        self.message()


class TestSendmail(LocalTest):
    def test_plain(self):
        self.sent("bob@demo.test")
        found = self.message()
        self.assertIn(b"Return-Path: <alice@demo.test>\r\n", found)
        self.assertIn(b"\r\nSubject: x\r\n\r\nbody\r\n", found)
        self.assertRegex(found, rb"\r\nDate: .*\r\nMessage-ID: <")

    def test_nothing_in_the_header(self):
        """What a program leaves out is the account's; a text without a header is a text."""
        self.sent("-F", "Alice \"the\" First", "bob@demo.test", text="no header at all\nsecond line\n")
        found = self.message()
        self.assertIn(b'\r\nFrom: "Alice \\"the\\" First" <alice@demo.test>\r\n', found)
        self.assertTrue(found.endswith(b"\r\n\r\nno header at all\r\nsecond line\r\n"), found)
        self.sent("bob@demo.test", text="")
        self.assertIn(b"From: <alice@demo.test>\r\n", self.message())
        self.sent("bob@demo.test", text="From nobody Thu Jan  1 00:00:00 1970\nSubject: mbox\n\nx\n")
        self.assertNotIn(b"From nobody", self.message())

    def test_names_without_a_domain(self):
        """As cron writes: the user's name is the account, others are in its domain."""
        self.sent("bob", text="From: %s (Cron Daemon)\nTo: bob, \"A. B.\" <alice>,\n carol@client.example\nSubject: y\n\nx\n" % USER)
        found = self.message()
        self.assertIn(b"\r\nFrom: Cron Daemon <alice@demo.test>\r\n", found)
        self.assertIn(b"\r\nTo: bob@demo.test,\r\n\t\"A. B.\" <alice@demo.test>,\r\n\tcarol@client.example\r\nSubject: y\r\n", found)

    def test_nobody(self):
        """An address that is none stays as it is, and nobody is made of it."""
        self.sent("-t", text="From: alice@demo.test\nTo: nobody <>, bob@demo.test\nReply-To: <>\n\nx\n")
        self.assertIn(b"\r\nTo: nobody <>, bob@demo.test\r\nReply-To: <>\r\n", self.message())

    def test_recipients_from_the_header(self):
        """-t: To, Cc and Bcc, each once; nobody sees Bcc. Without -t only who is named."""
        text = "To: Bob <bob@demo.test>,\n bob@demo.test\nCc: group: alice@demo.test;\nBcc: alice+hidden@demo.test\nSubject: t\n\nx\n"
        self.sent("-t", "-oi", text=text)
        found = self.message()
        self.assertNotIn(b"hidden", found)
        self.assertIn(b"\r\nCc: group: alice@demo.test;\r\n", found)
        self.assertEqual(len(self.messages("alice")), 1)
        self.sent("bob@demo.test", text=text)
        self.assertNotIn(b"hidden", self.message())
        self.assertEqual(self.messages("alice"), [])
        self.sent("-t", "alice@demo.test", text=text.replace("Cc:", "X-Cc:"))
        self.assertEqual(len(self.messages("alice")), 1)
        self.message()

    def test_sent_once_more(self):
        """-t of a message that has Resent- fields: it goes to whom they name (RFC 5322 3.6.6), not once more to those in To."""
        self.sent("-t", text="Resent-From: alice@demo.test\nResent-To: bob@demo.test\nFrom: alice@demo.test\nTo: alice@demo.test\n\nx\n")
        self.message()
        self.assertEqual(self.messages("alice"), [])

    def test_dots(self):
        """A line with a dot alone ends the message, unless -i."""
        text = TEXT + ".\n..x\n.\nafter\n"
        self.sent("bob@demo.test", text=text)
        self.assertTrue(self.message().endswith(b"\r\n\r\nbody\r\n"))
        for flag in ("-i", "-oi"):
            self.sent(flag, "--", "bob@demo.test", text=text)
            self.assertTrue(self.message().endswith(b"\r\n\r\nbody\r\n.\r\n..x\r\n.\r\nafter\r\n"))

    def test_big(self):
        text = TEXT + "".join("%07d .. and so on\n.\n" % i for i in range(60000))
        self.sent("-i", "bob@demo.test", text=text)
        self.assertTrue(self.message().endswith(text.replace("\n", "\r\n").encode()[-100000:]))

    def test_sender(self):
        self.sent("-f", "alice+x@demo.test", "bob@demo.test")
        self.assertIn(b"Return-Path: <alice+x@demo.test>\r\n", self.message())
        self.sent("-falice", "bob@demo.test")
        self.assertIn(b"Return-Path: <alice@demo.test>\r\n", self.message())
        for null in ("<>", ""):
            self.sent("-f", null, "bob@demo.test")
            self.assertIn(b"Return-Path: <>\r\n", self.message())

    def test_no_more_rights_than_the_account(self):
        self.assertIn(b"not yours", self.sent("-f", "bob@demo.test", "bob@demo.test", status=EX_NOPERM).stderr)
        self.assertIn(b"not yours", self.sent("bob@demo.test", text=TEXT.replace("alice@", "bob@"), status=EX_DATAERR).stderr)
        self.assertEqual(self.messages(), [])

    def test_refused_recipients(self):
        """The others get it; what is wrong is said, and in the status."""
        done = self.sent("nobody@demo.test", "bob@demo.test", "x@elsewhere.example", status=EX_NOUSER)
        self.assertIn(b"nobody@demo.test: 550 5.1.1", done.stderr)
        self.assertIn(b"x@elsewhere.example: 550 5.7.1", done.stderr)
        self.message()
        self.sent("nobody@demo.test", status=EX_NOUSER)

    def test_many_recipients(self):
        """More than one transaction takes."""
        self.sent(*("bob+%d@demo.test" % i for i in range(150)))
        self.assertEqual(len(self.messages()), 2)

    def test_injection(self):
        """No line of an argument becomes a command or a field."""
        self.sent("bob@demo.test\r\nRCPT TO:<alice@demo.test>", status=EX_DATAERR)
        self.sent("-f", "alice@demo.test> SIZE=1\r\nRSET", "bob@demo.test", status=EX_DATAERR)
        self.sent("-N", "never\r\nRSET", "bob@demo.test", status=EX_USAGE)
        self.sent("-V", "a b", "bob@demo.test", status=EX_USAGE)
        self.sent("-F", "x\r\nBcc: alice@demo.test", "bob@demo.test", text="\nx\n")
        self.assertIn(b"\r\nFrom: <alice@demo.test>\r\n", self.message())
        self.assertEqual(self.messages("alice"), [])
        self.assertEqual(self.messages(), [])

    def test_letters_of_other_scripts(self):
        self.sent("bob@demo.test", text="From: alice@demo.test\nSubject: gr\u00fc\u00dfe\n\n\u00e4\n")
        self.assertIn("Subject: gr\u00fc\u00dfe".encode(), self.message())
        self.sent("bob@demo.test", text=b"From: alice@demo.test\nSubject: x\n\n\xe4\xff\n")
        self.assertIn(b"\xe4\xff", self.message())

    def test_command_line(self):
        """What others have is passed over; what cannot be meant is told."""
        self.sent("-oem", "-odi", "-om", "-m", "-n", "-v", "-B", "8BITMIME", "-O", "DeliveryMode=b", "-G", "-bm", "-R", "hdrs", "-N", "never",
                  "-V", "envid", "bob@demo.test")
        self.message()
        self.sent(status=EX_USAGE)
        self.sent("-t", text="Subject: x\n\nx\n", status=EX_DATAERR)
        self.sent("-bd", status=EX_USAGE)
        self.sent("-Z", status=EX_USAGE)
        self.sent("-bi")
        self.sent("-I")
        self.sent("-q")
        self.sent(name="newaliases")
        self.assertEqual(self.messages(), [])

    def test_dialogue_by_hand(self):
        """-bs"""
        done = self.sent("-bs", text="EHLO x\r\nMAIL FROM:<alice@demo.test>\r\nRCPT TO:<bob@demo.test>\r\nDATA\r\n" +
                         TEXT.replace("\n", "\r\n") + ".\r\nQUIT\r\n")
        self.assertTrue(done.stdout.startswith(b"220 "), done.stdout)
        self.assertRegex(done.stdout, rb"\r\n354 .*\r\n250 .*\r\n221 .*\r\n$")
        self.message()

    def test_server_away(self):
        done = self.sent("bob@demo.test", path="/nonexistent/submit", status=EX_TEMPFAIL)
        self.assertIn(b"cannot reach the mail server", done.stderr)
        self.sent("-bs", path="/nonexistent/submit", status=EX_TEMPFAIL)

    @unittest.skipUnless(os.getuid() == 0, "needs root, to be somebody else")
    def test_somebody_else(self):
        """A user who is not named may not send, and cannot say that he is another."""
        paths = [self.server.directory, self.server.demo, self.server.demo + "/run"]
        for path in paths:
            os.chmod(path, 0o755)
        done = self.sendmail("bob@demo.test", user=65534, group=65534, extra_groups=[])
        self.assertEqual(done.returncode, EX_NOPERM, done.stderr)
        self.assertIn(b"You may not send mail here", done.stderr)


class TestEverybody(LocalTest):
    settings = {"submission.local": "no-such-user-here=bob@demo.test *=alice@demo.test"}

    def test_everybody(self):
        self.server.allow("event=no-such-user setting=submission.local user=no-such-user-here")
        self.sent("bob@demo.test")
        self.assertIn(b"Return-Path: <alice@demo.test>\r\n", self.message())


class TestTurnedOff(LocalTest):
    settings = {}

    def test_no_socket(self):
        self.assertFalse(os.path.exists(self.path()))
        self.sent("bob@demo.test", status=EX_TEMPFAIL)

    def test_setting(self):
        for value in ("alice", "=a@b", "x=", "x=y", "x=@y", "x=y@", "a=b@c  d"):
            with open(self.server.directory + "/other.conf", "w", encoding="utf-8") as f:
                f.write('hostname = mail.demo.test\nsubmission.local = "%s"\n' % value)
            done = subprocess.run([harness.MAILSTEAD, "--config", f.name, "config", "check"], capture_output=True, text=True, timeout=60)
            self.assertNotEqual(done.returncode, 0, value)
            self.assertRegex(done.stdout + done.stderr, re.compile("submission.local takes"), value)
