"""The main job on real input: all of the corpus through SMTP under zones with every kind of verdict, read back by IMAP and POP3."""

import email
import email.utils
import os
import re
import subprocess
import tempfile
import unittest
import zlib

import dkim

import dnsserver
import harness

# What a sender's domain is like; chosen by a checksum of the domain's last two labels.
KINDS = ["no-dmarc", "spf-pass-reject", "spf-fail-reject", "spf-fail-quarantine", "dkim-pass-reject", "spf-pass-none",
         "dkim-broken-quarantine"]
SPF = {"no-dmarc": "v=spf1 ?all", "spf-pass-reject": "v=spf1 ip4:127.0.0.0/8 -all", "spf-fail-reject": "v=spf1 -all",
       "spf-fail-quarantine": "v=spf1 ~all", "dkim-pass-reject": "v=spf1 -all", "spf-pass-none": "v=spf1 ip4:127.0.0.1 -all",
       "dkim-broken-quarantine": "v=spf1 -all"}
SPF_RESULT = {"no-dmarc": "neutral", "spf-pass-reject": "pass", "spf-fail-reject": "fail", "spf-fail-quarantine": "softfail",
              "dkim-pass-reject": "fail", "spf-pass-none": "pass", "dkim-broken-quarantine": "fail"}
DMARC_RESULT = {"no-dmarc": "none", "spf-pass-reject": "pass", "spf-fail-reject": "fail", "spf-fail-quarantine": "fail",
                "dkim-pass-reject": "pass", "spf-pass-none": "pass", "dkim-broken-quarantine": "fail"}


def from_domain(message):
    return email.utils.getaddresses([str(email.message_from_bytes(message)["from"])])[0][1].rpartition("@")[2].lower()


def base_of(domain):
    return ".".join(domain.split(".")[-2:])


def kind_of(domain):
    return KINDS[zlib.crc32(base_of(domain).encode()) % len(KINDS)]


def make_key():
    with tempfile.TemporaryDirectory() as d:
        subprocess.run(["openssl", "genrsa", "-traditional", "-out", d + "/k", "2048"], check=True, capture_output=True)
        public = subprocess.run(["openssl", "rsa", "-in", d + "/k", "-pubout", "-outform", "DER"], check=True,
                                capture_output=True).stdout
        with open(d + "/k", "rb") as f:
            return f.read(), __import__("base64").b64encode(public).decode()


def zones_for(domains, public):
    zones = {}
    for domain in sorted(domains):
        kind = kind_of(domain)
        base = base_of(domain)
        text = "%s. IN TXT %s\n" % (domain, dnsserver.txt(SPF[kind]))
        policy = kind.rpartition("-")[2]
        if policy in ("reject", "quarantine", "none"):
            text += "_dmarc.%s. IN TXT %s\n" % (domain, dnsserver.txt("v=DMARC1; p=%s" % policy))
        text += "s1._domainkey.%s. IN TXT %s\n" % (domain, dnsserver.txt("v=DKIM1; k=rsa; p=" + public))
        zones[base] = zones.get(base, "") + text
    return zones


class TestCorpus(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        private, public = make_key()
        cls.messages = []
        for path in harness.corpus("ham") + harness.corpus("list"):
            if not path.endswith(".eml"):
                continue
            with open(path, "rb") as f:
                message = f.read()
            domain = from_domain(message)
            kind = kind_of(domain)
            if kind.startswith("dkim-"):
                message = dkim.sign(message, b"s1", domain.encode(), private, canonicalize=(b"relaxed", b"relaxed")) + message
                if kind.startswith("dkim-broken"):
                    message += b"An addition after the signature.\r\n"
            cls.messages.append((os.path.relpath(path, harness.CORPUS), domain, kind, message))
        cls.server = harness.Server(zones_for({m[1] for m in cls.messages}, public))

    @classmethod
    def tearDownClass(cls):
        wrong = cls.server.close()
        if wrong:
            raise AssertionError("\n".join(wrong))

    def send_share(self, share, results):
        connection = self.server.smtp()
        connection.ehlo()
        for name, domain, kind, message in share:
            code, text = connection.mail("sender@" + domain)
            self.assertEqual(code, 250, (name, text))
            code, text = connection.rcpt(self.server.address("alice"))
            self.assertEqual(code, 250, (name, text))
            results[name] = connection.data(message)
        connection.quit()

    def test_corpus(self):
        results = {}
        shares = [self.messages[i::4] for i in range(4)]
        harness.in_threads([lambda s=s: self.send_share(s, results) for s in shares])

        expected = {"INBOX": {}, "Junk": {}}
        for name, domain, kind, message in self.messages:
            code, text = results[name]
            if kind == "spf-fail-reject":
                self.assertEqual(code, 550, (name, kind, text))
                self.assertIn(b"5.7.1", text)
            else:
                self.assertEqual(code, 250, (name, kind, text))
                box = "Junk" if kind.endswith("quarantine") else "INBOX"
                expected[box][name] = (domain, kind, message)
        stored = {"INBOX": self.read_imap("INBOX"), "Junk": self.read_imap("Junk")}
        for box, wanted in expected.items():
            self.assertEqual(len(stored[box]), len(wanted), box)
            self.check_all(stored[box], wanted)
        pop = self.read_pop3()
        self.assertEqual(sorted(pop), sorted(stored["INBOX"]), "POP3 and IMAP disagree")
        print("corpus: %d messages sent, %d in INBOX, %d in Junk, %d refused" % (
            len(self.messages), len(expected["INBOX"]), len(expected["Junk"]),
            len(self.messages) - len(expected["INBOX"]) - len(expected["Junk"])))

    def check_all(self, stored, wanted):
        """Each original is the end of exactly one stored message, and the trace headers above it tell its verdicts."""
        by_size = {}
        for body in stored:
            by_size.setdefault(len(body), []).append(body)
        left = list(stored)
        by_tail = {}
        for body in left:
            by_tail.setdefault(body[-200:], []).append(body)
        for name, (domain, kind, message) in wanted.items():
            hits = [b for b in by_tail.get(message[-200:], []) if b.endswith(message)]
            hits = [b for b in hits if ("<sender@%s>" % domain).encode() in b[:400]]
            self.assertTrue(hits, "%s is not stored as it was sent" % name)
            hit = hits[0]
            by_tail[message[-200:]].remove(hit)
            self.check_trace(name, domain, kind, hit[:len(hit) - len(message)])

    def check_trace(self, name, domain, kind, trace):
        fields = email.message_from_bytes(trace + b"\r\n")
        self.assertEqual(fields["return-path"], "<sender@%s>" % domain, name)
        self.assertRegex(fields["received"], r"(?s)from client\.example .*by .*with ESMTP", name)
        results = fields.get_all("authentication-results")
        self.assertEqual(len(results), 1, name)
        text = re.sub(r"\s+", " ", results[0])
        self.assertRegex(text, r"\bspf=%s\b[^;]*smtp\.mailfrom=\S*%s" % (SPF_RESULT[kind], re.escape(domain)), name)
        self.assertRegex(text, r"\bdmarc=%s\b[^;]*header\.from=%s" % (DMARC_RESULT[kind], re.escape(domain)), name)
        if kind == "dkim-pass-reject":
            self.assertRegex(text, r"\bdkim=pass\b[^;]*header\.d=%s" % re.escape(domain), name)
        if kind == "dkim-broken-quarantine":
            self.assertRegex(text, r"\bdkim=fail\b[^;]*header\.d=%s" % re.escape(domain), name)

    def read_imap(self, box):
        c = self.server.imap(utf8=True)
        typ, count = c.select(box, readonly=True)
        self.assertEqual(typ, "OK")
        bodies = []
        if int(count[0]):
            typ, data = c.fetch("1:*", "(UID BODY.PEEK[])")
            self.assertEqual(typ, "OK")
            bodies = [item[1] for item in data if isinstance(item, tuple)]
        c.logout()
        return bodies

    def read_pop3(self):
        c = self.server.pop3(user=None)
        c.utf8()
        c.user(self.server.address("alice"))
        c.pass_(self.server.password("alice"))
        bodies = []
        for number in range(1, c.stat()[0] + 1):
            _, lines, octets = c.retr(number)
            bodies.append(b"\r\n".join(lines) + b"\r\n")
            self.assertEqual(octets, len(bodies[-1]))
        c.quit()
        return bodies


class TestMime(harness.InstanceTest):
    """Hard and broken MIME, APPENDed as it is, served without a fault."""

    def test_mime(self):
        c = self.server.imap(utf8=True)
        c.create("Mime")
        paths = [p for p in harness.corpus("mime")]
        messages = []
        for path in paths:
            with open(path, "rb") as f:
                message = f.read()
            if not message:
                continue
            c.literal = message  # imaplib's append() would change line ends
            typ, data = c._simple_command("APPEND", "Mime")
            self.assertEqual(typ, "OK", (path, data))
            messages.append(message)
        self.assertEqual(int(c.select("Mime")[1][0]), len(messages))
        for number, message in enumerate(messages, 1):
            typ, data = c.fetch(str(number), "(BODY.PEEK[] RFC822.SIZE)")
            self.assertEqual(typ, "OK")
            if b"\0" not in message:
                self.assertEqual(data[0][1], message)
            typ, data = c.fetch(str(number), "(ENVELOPE BODYSTRUCTURE BODY.PEEK[HEADER] BODY.PEEK[1] BODY.PEEK[TEXT])")
            self.assertEqual(typ, "OK")
            self.assertTrue(data and data[0], number)
        typ, data = c.search(None, "TEXT", "the")
        self.assertEqual(typ, "OK")
        c.logout()
        self.check_without_utf8(len(messages))

    def check_without_utf8(self, count):
        """A client without UTF8=ACCEPT sees no octet over 127 in a header, nor in what is told of one, and true sizes."""
        c = self.server.imap()
        c.select("Mime")
        for number in range(1, count + 1):
            typ, data = c.fetch(str(number), "(RFC822.SIZE BODY.PEEK[])")
            self.assertEqual(typ, "OK")
            whole = next((item[1] for item in data if isinstance(item, tuple)), b"")
            self.assertIn(b"RFC822.SIZE %d" % len(whole), data[0][0] if isinstance(data[0], tuple) else data[0])
            for item in ("BODY.PEEK[HEADER]", "ENVELOPE", "BODYSTRUCTURE"):
                typ, data = c.fetch(str(number), "(%s)" % item)
                self.assertEqual(typ, "OK")
                for part in data:
                    self.assertTrue(b"".join(part if isinstance(part, tuple) else [part]).isascii(), (number, item, part))
        c.logout()


if __name__ == "__main__":
    unittest.main()
