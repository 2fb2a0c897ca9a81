"""The clients that people use, against a whole server over TLS: curl, mutt, mbsync, offlineimap, fetchmail, getmail, swaks, msmtp, s-nail, and
smtp-source."""

import os
import re
import subprocess
import tempfile
import textwrap
import unittest

import harness
import mta

MESSAGE = ("From: Alice <alice@demo.test>\r\nTo: Bob <bob@demo.test>\r\nSubject: %s\r\n"
           "Date: Sun, 22 Nov 2026 12:00:00 +0000\r\nMessage-ID: <%s@client.example>\r\n\r\nHello, %s.\r\n")


class TestClients(harness.InstanceTest):
    def setUp(self):
        self.home = tempfile.TemporaryDirectory()
        self.addCleanup(self.home.cleanup)
        for user in ("alice", "bob"):
            c = self.server.imap(user)
            for box in ("INBOX", "Sent", "Synced"):
                status, count = c.select(box)
                if status == "OK" and int(count[0]) > 0:
                    c.store("1:*", "+FLAGS.SILENT", "\\Deleted")
                    c.expunge()
            c.logout()

    def path(self, name, text=None, mode=0o600):
        path = os.path.join(self.home.name, name)
        if text is not None:
            with open(path, "w", encoding="utf-8") as f:
                f.write(textwrap.dedent(text))
            os.chmod(path, mode)
        return path

    def client(self, *command, stdin=None, ok=(0,), timeout=120, term="dumb"):
        environment = dict(os.environ, HOME=self.home.name, LC_ALL="C.UTF-8", TERM=term)
        done = subprocess.run(command, input=stdin, capture_output=True, env=environment, timeout=timeout,
                              cwd=self.home.name)
        output = (done.stdout + done.stderr).decode("utf-8", "replace")
        self.assertIn(done.returncode, ok, "%s\n%s\n--- log\n%s" % (" ".join(command), output, self.server.log()[-3000:]))
        return output

    def fill(self, user, *subjects):
        for subject in subjects:
            code, text = self.server.deliver((MESSAGE % (subject, subject, user)).encode(), rcpt=user,
                                             sender="alice@client.example")
            self.assertEqual(code, 250, text)

    def inbox(self, user):
        c = self.server.imap(user)
        count = int(c.select("INBOX")[1][0])
        bodies = [i[1] for i in c.fetch("1:*", "(BODY.PEEK[])")[1] if isinstance(i, tuple)] if count else []
        c.logout()
        return bodies

    def test_curl_sends_and_reads(self):
        message = self.path("m", MESSAGE % ("curl-one", "curl-one", "bob"))
        login = "alice@demo.test:" + self.server.password("alice")
        self.client("curl", "-sS", "-k", "--url", "smtps://127.0.0.1:%d" % self.server.ports["submissions"], "-u", login,
                    "--mail-from", "alice@demo.test", "--mail-rcpt", "bob@demo.test", "-T", message)
        login = "bob@demo.test:" + self.server.password("bob")
        for url in ("imaps://127.0.0.1:%d/INBOX;MAILINDEX=1" % self.server.ports["imaps"],
                    "pop3s://127.0.0.1:%d/1" % self.server.ports["pop3s"]):
            self.assertIn("Subject: curl-one", self.client("curl", "-sS", "-k", "-u", login, url))
        for service, scheme in (("imap", "imap"), ("pop3", "pop3")):
            url = "%s://127.0.0.1:%d/" % (scheme, self.server.ports[service])
            self.client("curl", "-sS", "-k", "--ssl-reqd", "-u", login, url)
        listing = self.client("curl", "-sS", "-k", "-u", login, "imaps://127.0.0.1:%d/" % self.server.ports["imaps"])
        for box in ("INBOX", "Sent", "Drafts", "Junk", "Trash", "Archive"):
            self.assertIn(box, listing)
        found = self.client("curl", "-sS", "-k", "-u", login, "imaps://127.0.0.1:%d/INBOX" % self.server.ports["imaps"],
                            "-X", "SEARCH SUBJECT curl-one")
        self.assertRegex(found, r"\* SEARCH 1\b")

    def test_swaks_sends(self):
        common = ["swaks", "--server", "127.0.0.1", "--h-Subject", "by swaks"]
        self.client(*common, "--port", str(self.server.ports["smtp"]), "--to", "bob@demo.test", "--from", "x@client.example",
                    "--tls")
        for port, tls in (("submission", "--tls"), ("submissions", "--tls-on-connect")):
            for mechanism in ("PLAIN", "LOGIN"):
                self.client(*common, "--port", str(self.server.ports[port]), tls, "--auth", mechanism, "--auth-user",
                            "alice@demo.test", "--auth-password", self.server.password("alice"), "--from",
                            "alice@demo.test", "--to", "bob@demo.test")
        self.client(*common, "--port", str(self.server.ports["smtp"]), "--to", "nobody@demo.test", "--from",
                    "x@client.example", ok=(24,))
        self.client(*common, "--port", str(self.server.ports["smtp"]), "--to", "someone@elsewhere.example", "--from",
                    "x@client.example", ok=(24,))
        self.assertEqual(len(self.inbox("bob")), 5)

    def test_msmtp_sends(self):
        self.path("secret", self.server.password("alice"))
        self.path(".msmtprc", """\
            defaults
            tls on
            tls_certcheck off
            auth on
            user alice@demo.test
            passwordeval cat %s
            from alice@demo.test
            host 127.0.0.1
            account starttls
            port %d
            account implicit
            port %d
            tls_starttls off
            """ % (self.path("secret"), self.server.ports["submission"], self.server.ports["submissions"]))
        for account in ("starttls", "implicit"):
            self.client("msmtp", "-a", account, "bob@demo.test", stdin=(MESSAGE % ("msmtp", account, "bob")).encode())
        self.assertEqual(len(self.inbox("bob")), 2)

    def test_s_nail_sends(self):
        common = ["s-nail", "-:/", "-Sv15-compat", "-Stls-verify=ignore", "-Shostname=client.example"]
        plain = ["-Ssmtp-auth=none", "-Sfrom=x@client.example", "-Smta=smtp://127.0.0.1:%d" % self.server.ports["smtp"]]
        login = "alice%%40demo.test:%s@127.0.0.1:%d" % (self.server.password("alice"), self.server.ports["submissions"])
        for subject, options in (("in-clear", plain), ("starttls", ["-Ssmtp-use-starttls", *plain]),
                                 ("logged-in", ["-Sfrom=alice@demo.test", "-Smta=smtps://" + login])):
            self.client(*common, *options, "-s", subject, "bob@demo.test", stdin=b"hello\n.\n..\nend\n")
        got = self.inbox("bob")
        self.assertEqual(len(got), 3)
        for octets in got:
            self.assertTrue(octets.endswith(b"\r\n\r\nhello\r\n.\r\n..\r\nend\r\n"), octets)
        self.assertIn(b" with ESMTPS ", got[1])

    def test_smtp_source_sends(self):
        """Postfix's load generator: many connections at once."""
        postfix = mta.PACKAGES + "/postfix/usr"
        for options, count in (([], 100), (["-d"], 200)):  # -d: several messages in a connection
            before = len(self.inbox("bob"))
            self.client("env", "LD_LIBRARY_PATH=%s/lib/postfix" % postfix, postfix + "/sbin/smtp-source", "-s", "20", "-m", str(count),
                        "-l", "3000", "-f", "x@client.example", "-t", "bob@demo.test", *options,
                        "127.0.0.1:%d" % self.server.ports["smtp"])
            self.assertEqual(len(self.inbox("bob")), before + count)

    def test_fetchmail_takes_all(self):
        self.fill("alice", "f1", "f2")
        for protocol, port in (("imap", "imaps"), ("pop3", "pop3s")):
            delivered = self.path("got-" + protocol)
            self.path(".fetchmailrc", """\
                poll 127.0.0.1 protocol %s port %d
                  user "alice@demo.test" password "%s" ssl sslproto '' no sslcertck keep fetchall
                  mda "cat >> %s"
                """ % (protocol, self.server.ports[port], self.server.password("alice"), delivered))
            self.client("fetchmail", "-f", self.path(".fetchmailrc"), "--nosyslog", "--pidfile", self.path("pid"),
                        "-i", self.path("ids-" + protocol))
            with open(delivered, encoding="utf-8") as f:
                text = f.read()
            self.assertIn("Subject: f1", text)
            self.assertIn("Subject: f2", text)

    def test_getmail_takes_new_only(self):
        self.fill("alice", "g1", "g2")
        mda = self.path("mda", '#!/bin/sh\ncat > "$1/$$"\n', 0o700)
        for kind, port in (("SimpleIMAPSSLRetriever", "imaps"), ("SimplePOP3SSLRetriever", "pop3s")):
            box, data = self.path("box-" + kind), self.path("data-" + kind)
            os.makedirs(box)
            os.makedirs(data)
            rc = self.path("rc-" + kind, """\
                [retriever]
                type = %s
                server = 127.0.0.1
                port = %d
                username = alice@demo.test
                password = %s
                [destination]
                type = MDA_external
                path = %s
                arguments = ("%s",)
                allow_root_commands = true
                [options]
                read_all = false
                """ % (kind, self.server.ports[port], self.server.password("alice"), mda, box))
            for _ in range(2):
                self.client("getmail", "--getmaildir", data, "--rcfile", rc)
                self.assertEqual(len(os.listdir(box)), 2, kind)

    def test_mbsync_two_way_twice(self):
        self.fill("alice", "s1", "s2", "s3")
        c = self.server.imap("alice")
        c.select("INBOX")
        c.store("2", "+FLAGS", "(\\Seen \\Flagged)")
        c.logout()
        self.path("secret", self.server.password("alice"))
        maildir = self.path("Mail")
        os.makedirs(maildir)
        rc = self.path("mbsyncrc", """\
            IMAPAccount a
            Host localhost
            Port %d
            User alice@demo.test
            PassCmd "cat %s"
            SSLType IMAPS
            CertificateFile %s

            IMAPStore remote
            Account a

            MaildirStore local
            Path %s/
            Inbox %s/INBOX
            SubFolders Verbatim

            Channel c
            Far :remote:
            Near :local:
            Patterns *
            Create Both
            Expunge Both
            SyncState *
            """ % (self.server.ports["imaps"], self.path("secret"), self.certificate(), maildir, maildir))
        self.client("mbsync", "-c", rc, "c")
        self.assertEqual(self.count_maildir(maildir + "/INBOX"), 3)
        # A message and a folder of ours go up.
        os.makedirs(maildir + "/Synced/new", exist_ok=True)
        for sub in ("cur", "tmp"):
            os.makedirs(maildir + "/Synced/" + sub, exist_ok=True)
        with open(maildir + "/Synced/new/1.local", "w", encoding="utf-8") as f:
            f.write((MESSAGE % ("up", "up", "alice")).replace("\r\n", "\n"))
        self.client("mbsync", "-c", rc, "c")
        c = self.server.imap("alice")
        self.assertEqual(int(c.select("Synced")[1][0]), 1)
        c.logout()
        before = self.snapshot(maildir)
        self.client("mbsync", "-c", rc, "c")
        self.assertEqual(self.snapshot(maildir), before, "a second run changed something")

    def certificate(self):
        """The demo's own certificate, as the file mbsync and offlineimap trust."""
        done = subprocess.run(["openssl", "s_client", "-connect", "127.0.0.1:%d" % self.server.ports["imaps"]],
                              input=b"", capture_output=True, timeout=30)
        pem = re.search(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n", done.stdout, re.S).group(0)
        return self.path("cert.pem", pem.decode())

    @staticmethod
    def count_maildir(path):
        return sum(len(os.listdir(os.path.join(path, sub))) for sub in ("cur", "new"))

    @staticmethod
    def snapshot(path):
        """All messages and flags of the maildirs: names without the state files."""
        return sorted(os.path.relpath(os.path.join(base, f), path) for base, _, files in os.walk(path) for f in files
                      if not f.startswith("."))

    def test_offlineimap_syncs_twice(self):
        self.fill("alice", "o1", "o2")
        maildir = self.path("Mail")
        rc = self.path("offlineimaprc", """\
            [general]
            accounts = A
            ui = basic
            metadata = %s
            [Account A]
            localrepository = L
            remoterepository = R
            [Repository L]
            type = Maildir
            localfolders = %s
            [Repository R]
            type = IMAP
            remotehost = localhost
            remoteport = %d
            remoteuser = alice@demo.test
            remotepass = %s
            ssl = yes
            sslcacertfile = %s
            ssl_version = tls1_2
            tls_level = tls_compat
            """ % (self.path("meta"), maildir, self.server.ports["imaps"], self.server.password("alice"), self.certificate()))
        self.client("offlineimap", "-c", rc, "-o")
        self.assertEqual(self.count_maildir(maildir + "/INBOX"), 2)
        before = self.snapshot(maildir)
        self.client("offlineimap", "-c", rc, "-o")
        self.assertEqual(self.snapshot(maildir), before)

    def test_mutt_sends_and_reads(self):
        url = "imaps://127.0.0.1:%d" % self.server.ports["imaps"]
        rc = self.path("muttrc", """\
            set realname="Alice" from="alice@demo.test" use_from=yes envelope_from=yes
            set ssl_starttls=no ssl_verify_host=no ssl_verify_dates=no certificate_file=%s
            set imap_user="alice@demo.test" imap_pass="%s"
            set smtp_url="smtps://alice@demo.test@127.0.0.1:%d/" smtp_pass="%s"
            set folder="%s/" spoolfile="%s/INBOX" record="%s/Sent" copy=yes
            set quit=yes move=no delete=yes confirmappend=no confirmcreate=no sleep_time=0
            """ % (self.certificate(), self.server.password("alice"), self.server.ports["submissions"],
                   self.server.password("alice"), url, url, url))
        self.client("mutt", "-n", "-F", rc, "-s", "from mutt", "bob@demo.test", stdin=b"Hello Bob\n")
        got = self.inbox("bob")
        self.assertEqual(len(got), 1)
        self.assertIn(b"Subject: from mutt", got[0])
        c = self.server.imap("alice")
        self.assertEqual(int(c.select("Sent")[1][0]), 1, "mutt's copy in Sent")
        c.logout()
        # Reading: mutt opens the mailbox, saves the first message elsewhere, deletes it and leaves.
        self.fill("alice", "m1", "m2")
        command = "mutt -n -F %s -e \"push '<save-message>=Archive<enter><sync-mailbox><quit>'\" -f %s/INBOX" % (rc, url)
        self.client("script", "-qec", command, "/dev/null", stdin=b"", term="xterm")
        c = self.server.imap("alice")
        self.assertEqual(int(c.select("INBOX")[1][0]), 1)
        self.assertGreaterEqual(int(c.select("Archive")[1][0]), 1)
        c.logout()

    def test_python_libraries(self):
        with self.server.submission() as s:
            s.sendmail("alice@demo.test", ["bob@demo.test"], (MESSAGE % ("py", "py", "bob")).encode())
        c = self.server.imap("bob")
        c.select("INBOX")
        self.assertEqual(c.search(None, "SUBJECT", "py")[1][0], b"1")
        typ, data = c.fetch("1", "(FLAGS ENVELOPE)")
        self.assertIn(b'"py"', data[0])
        c.store("1", "+FLAGS", "\\Deleted")
        c.close()
        c.logout()
        p = self.server.pop3("bob")
        self.assertEqual(p.stat()[0], 0)
        p.quit()


if __name__ == "__main__":
    unittest.main()
