"""What the checks find decides, and the message tells it: results, dispositions, forged fields, DNS that fails."""

import email
import json
import smtplib
import re
import time
import unittest

import dkim

import dnsserver
import harness
from test_checks import RSA, rsa_record

SERVFAIL_SECONDS_MAX = 60


def record(name, text):
    return "%s IN TXT %s\n" % (name, dnsserver.txt(text))


class TestVerdicts(harness.InstanceTest):
    zones = {
        "pass.test": record("@", "v=spf1 ip4:127.0.0.0/8 -all") + record("_dmarc", "v=DMARC1; p=reject"),
        "fail.test": record("@", "v=spf1 -all") + record("_dmarc", "v=DMARC1; p=reject"),
        "junk.test": record("@", "v=spf1 -all") + record("_dmarc", "v=DMARC1; p=quarantine"),
        "none.test": record("@", "v=spf1 -all"),
        "monitor.test": record("@", "v=spf1 -all") + record("_dmarc", "v=DMARC1; p=none"),
        "testing.test": record("@", "v=spf1 -all") + record("_dmarc", "v=DMARC1; p=reject; t=y"),
        "sub.test": record("@", "v=spf1 -all") + record("_dmarc", "v=DMARC1; p=none; sp=reject; np=reject") +
        record("real", "v=spf1 -all"),
        "strict.test": record("@", "v=spf1 ip4:127.0.0.0/8 -all") + record("_dmarc", "v=DMARC1; p=reject; aspf=s") +
        record("mail", "v=spf1 ip4:127.0.0.0/8 -all"),
        "many.test": record("@", "v=spf1 -all") + record("@", "v=spf1 +all"),
        "loop.test": record("@", "v=spf1 include:loop.test -all"),
        "twice.test": record("@", "v=spf1 -all") + record("_dmarc", "v=DMARC1; p=reject") + record("_dmarc", "v=DMARC1; p=none"),
        "broken.test": record("@", "v=spf1 include:servfail.broken.test -all"),
        "nodmarc.test": record("@", "v=spf1 -all"),
        "silent.test": record("@", "v=spf1 -all"),
    }
    dns_rules = [(r"servfail", "servfail"), (r"^_dmarc\.nodmarc\.test$", "servfail"), (r"^_dmarc\.silent\.test$", "drop"),
                 (r"^_dmarc\.cut\.test", "truncate")]
    settings = {"dns.timeout": "2s", "verify.timeout": "10s"}

    def send(self, domain, header_from=None, extra="", mail_from=None):
        header_from = header_from or "a@" + domain
        token = "t%d" % time.monotonic_ns()
        message = "From: %s\r\nX-Token: %s\r\n%sSubject: verdict\r\n\r\nx\r\n" % (header_from, token, extra)
        code, text = self.server.deliver(message.encode(), sender="a@" + domain if mail_from is None else mail_from)
        return code, text, token

    def find(self, token):
        """(mailbox, header fields) of the message with the token."""
        c = self.server.imap()
        try:
            for box in ("INBOX", "Junk"):
                c.select(box, readonly=True)
                hits = c.search(None, "HEADER", "X-Token", token)[1][0].split()
                if hits:
                    data = c.fetch(hits[0], "(BODY.PEEK[HEADER])")[1]
                    return box, email.message_from_bytes(data[0][1])
            return None, None
        finally:
            c.logout()

    def expect(self, domain, code, box=None, spf=None, dmarc=None, **kw):
        got, text, token = self.send(domain, **kw)
        self.assertEqual(got, code, text)
        where, fields = self.find(token)
        self.assertEqual(where, box)
        if box:
            results = fields.get_all("authentication-results")
            self.assertEqual(len([r for r in results if r.split(";")[0].strip() == results[0].split(";")[0].strip()]), 1)
            if spf:
                self.assertRegex(results[0], r"\bspf=%s\b" % spf)
            if dmarc:
                self.assertRegex(results[0], r"\bdmarc=%s\b" % dmarc)
        return fields

    def test_dispositions(self):
        self.expect("pass.test", 250, "INBOX", "pass", "pass")
        self.expect("fail.test", 550)
        self.expect("junk.test", 250, "Junk", "fail", "fail")
        self.expect("none.test", 250, "INBOX", "fail", "none")
        self.expect("monitor.test", 250, "INBOX", "fail", "fail")
        self.expect("testing.test", 250, "Junk", "fail", "fail")
        self.expect("nosuchdomain.invalid", 250, "INBOX", "none", "none")

    def test_subdomains(self):
        """RFC 9989: the organizational domain's sp for names that exist, np for those that do not."""
        self.expect("real.sub.test", 550)
        self.expect("absent.sub.test", 550)
        self.expect("sub.test", 250, "INBOX", "fail", "fail")

    def test_alignment(self):
        self.expect("strict.test", 250, "INBOX", "pass", "pass")
        self.expect("strict.test", 550, header_from="a@mail.strict.test")
        self.expect("mail.strict.test", 550, header_from="a@strict.test")
        self.expect("pass.test", 550, header_from="a@fail.test")

    def test_record_faults(self):
        self.expect("many.test", 250, "INBOX", "permerror")
        self.expect("loop.test", 250, "INBOX", "permerror")
        self.expect("twice.test", 250, "INBOX", "fail", "none")

    def test_several_or_no_from(self):
        """Not evaluated, refused by local policy."""
        for header_from in ("a@pass.test, b@fail.test", "a@pass.test\r\nFrom: b@fail.test", "<a@pass.test> b@fail.test"):
            code, text, _ = self.send("pass.test", header_from=header_from)
            self.assertEqual(code, 550, text)
        code, text = self.server.deliver(b"Subject: no author\r\n\r\nx\r\n", sender="a@pass.test")
        self.assertEqual(code, 550, text)

    def test_author_without_a_domain_name(self):
        """Of what stands behind the @ there can be no policy, and some readers show it as another domain: it is not for the inbox."""
        for author in ("a@fail.test>", "a@=?utf-8?q?fail?=.test", "a@fail..test", "a@[fail.test]", "a", '"a@fail.test"@pass.test', "a@fail.test a@pass.test"):
            with self.subTest(author=author):
                self.expect("pass.test", 250, "Junk", "pass", header_from=author)
        # What only looks odd is the domain that it is.
        for author in ("a@fai\u00adl.test", "a@fail\u200b.test", 'a@"fail.test"', "a@fail.test.", "a@ fail . (c) test"):
            with self.subTest(author=author):
                self.expect("pass.test", 550, header_from=author)
        for author in ("a@[127.0.0.1]", "a@[IPv6:::1]", "a@none.test.", "a@my_host.none.test"):
            with self.subTest(author=author):
                self.expect("pass.test", 250, "INBOX", "pass", header_from=author)

    def test_forged_results_are_removed(self):
        """R-16 (RFC 8601 5): a field that claims to be ours never survives, another's does."""
        own = self.expect("pass.test", 250, "INBOX")["authentication-results"].split(";")[0].strip()
        forged = ("Authentication-Results: %s; spf=pass smtp.mailfrom=bank.example\r\n"
                  "authentication-results : (c) %s 1 ; dkim=pass\r\n"
                  "Authentication-Results: other.example; spf=pass\r\n") % (own, own.upper())
        fields = self.expect("fail.test", 250, "INBOX", extra=forged, mail_from="a@pass.test",
                             header_from="a@none.test")
        results = fields.get_all("authentication-results")
        self.assertEqual(len(results), 2, results)
        self.assertNotIn("bank.example", results[0])
        self.assertIn("other.example", results[1])

    def test_temporary_dns_failures(self):
        self.expect("broken.test", 250, "INBOX", "temperror")
        code, text, _ = self.send("nodmarc.test")
        self.assertEqual(code, 451, text)
        began = time.time()
        code, text, _ = self.send("silent.test")
        self.assertEqual(code, 451, text)
        self.assertLess(time.time() - began, SERVFAIL_SECONDS_MAX)

    def test_null_reverse_path(self):
        """RFC 7208 2.4: postmaster@HELO is checked; Return-Path is <>."""
        fields = self.expect("pass.test", 250, "INBOX", mail_from="", header_from="a@none.test")
        self.assertEqual(fields["return-path"], "<>")

    def test_explain_tells_the_time_line(self):
        _, text, token = self.send("junk.test")
        queue_id = re.search(r"\b([0-9a-z]{16,32})\b", text)
        self.assertTrue(queue_id, "no id in: " + text)
        told = harness.wait_for(lambda: self.server.run("explain", queue_id.group(1), check=False).stdout)
        for word in ("connect", "dmarc", "junk"):
            self.assertIn(word, told.lower())


class TestExceptions(harness.InstanceTest):
    zones = {name: record("@", "v=spf1 -all") + record("_dmarc", "v=DMARC1; p=reject") for name in ("wrong.test", "right.test")}
    settings = {"policy.dmarc_except": "127.55.0.0/16 wrong.test 127.0.0.0/33"}

    def sent(self, author, client="127.0.0.1"):
        with smtplib.SMTP("127.0.0.1", self.server.ports["smtp"], local_hostname="client.example", source_address=(client, 0)) as s:
            s.ehlo()
            s.mail("a@" + author)
            s.rcpt("alice@demo.test")
            return s.data(b"From: a@%s\r\nSubject: exception\r\n\r\nx\r\n" % author.encode())[0]

    def test_exceptions(self):
        """policy.dmarc_except: what the results are is shown; they decide nothing. A word that is neither network nor domain is told of."""
        self.server.allow("no-exception")
        self.assertIn("event=no-exception setting=policy.dmarc_except word=127.0.0.0/33", self.server.log())
        self.assertEqual(self.sent("right.test"), 550)
        self.assertEqual(self.sent("right.test", "127.55.1.2"), 250)
        self.assertEqual(self.sent("sub.wrong.test"), 250)
        done = harness.wait_for(lambda: [r for r in json.loads(self.server.run("--json", "explain", "a@sub.wrong.test", "--replay", check=False).stdout or "[]")
                                         if r["event"] in ("verdict", "decision")])
        self.assertEqual([r["fields"]["override"] for r in done if r["event"] == "verdict"], ["local"])
        self.assertTrue(all(r["again"]["same"] for r in done if r["event"] == "decision"), done)
        c = self.server.imap()
        c.select("INBOX", readonly=True)
        for _, field in (i for i in c.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (Authentication-Results)])")[1] if isinstance(i, tuple)):
            self.assertIn(b"dmarc=fail", field)
        c.logout()


class TestEvidence(harness.InstanceTest):
    """What signatures are judged from is recorded up to a limit, and says so past it."""
    BYTES_MAX = 24 * 1024  # escaped: CR and LF are three octets each

    @staticmethod
    def signature(octets):
        """A field of which so many octets are recorded. What it signs does not matter."""
        head = " v=1; a=rsa-sha256; d=none.test; s=s; h=from; bh=AAAA; b=AAAA; z="
        lines, rest = divmod(octets - len(head), 907)
        return "DKIM-Signature:" + head + "x" * rest + ("\r\n " + "x" * 900) * lines + "\r\n"

    def replayed(self, octets):
        token = "<%d.%d@client.example>" % (octets, time.monotonic_ns())
        head = self.signature(self.BYTES_MAX // 2) + self.signature(octets - self.BYTES_MAX // 2)
        code, text = self.server.deliver(("%sFrom: a@none.test\r\nMessage-ID: %s\r\n\r\nx\r\n" % (head, token)).encode())
        self.assertEqual(code, 250, text)

        def judged():
            done = self.server.run("--json", "explain", token, "--replay", check=False)
            rows = json.loads(done.stdout or "[]")
            return (done, rows) if any(r["event"] == "decision" for r in rows) else None

        done, rows = harness.wait_for(judged)
        self.assertEqual(done.returncode, 0, done.stderr)
        return [r["again"] for r in rows if r["event"] == "dkim"], len([r for r in rows if r["event"] == "dkim-input"])

    def test_limit(self):
        again, inputs = self.replayed(self.BYTES_MAX)
        self.assertEqual(again, [{"same": True, "result": "permerror", "reason": "no key"}] * 2)
        self.assertEqual(inputs, 12)
        again, inputs = self.replayed(self.BYTES_MAX + 1)
        self.assertEqual(again, [{"why": "not all that it was judged from is recorded"}] * 2)
        self.assertEqual(inputs, 0)


class MatrixTest(harness.InstanceTest):
    """DKIM x SPF x DMARC: for each cell where the message goes, and what its header says."""
    # (name, what the author's domain asks for: the record of DMARC)
    policies = {"nodmarc": None, "pnone": "none", "quar": "quarantine", "rej": "reject"}
    # the sender's domain: its SPF result, and whether that is the author's own domain or below it
    senders = {"ok": ("pass", True), "bad": ("fail", True), "norecord": ("none", True), "elsewhere": ("pass", False)}
    signers = ("none", "aligned", "elsewhere", "broken")
    zones = {
        "elsewhere.test": record("@", "v=spf1 ip4:127.0.0.0/8 -all") + record("k._domainkey", rsa_record(RSA)),
        **{name + ".test": record("k._domainkey", rsa_record(RSA)) + record("ok", "v=spf1 ip4:127.0.0.0/8 -all") +
           record("bad", "v=spf1 -all") + "norecord IN A 192.0.2.1\n" + (record("_dmarc", "v=DMARC1; p=" + p) if p else "")
           for name, p in policies.items()},
    }

    @classmethod
    def setUpClass(cls):
        if cls is MatrixTest:
            raise unittest.SkipTest("the cells are in its children")
        super().setUpClass()

    def message(self, policy, signer, token):
        text = b"From: a@%s.test\r\nSubject: matrix\r\nX-Token: %s\r\n\r\nx\r\n" % (policy.encode(), token.encode())
        if signer == "none":
            return text
        domain = "elsewhere.test" if signer == "elsewhere" else policy + ".test"
        signed = dkim.sign(text, b"k", domain.encode(), RSA, include_headers=[b"from", b"subject"]) + text
        return signed.replace(b"Subject: matrix", b"Subject: changed") if signer == "broken" else signed

    def headers(self):
        """{token: (mailbox, Authentication-Results)} of all that came."""
        found = {}
        c = self.server.imap()
        for box in ("INBOX", "Junk"):
            c.select(box, readonly=True)
            for part in c.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (X-Token Authentication-Results)])")[1]:
                if isinstance(part, tuple):
                    fields = email.message_from_bytes(part[1])
                    found[fields["x-token"]] = box, " ".join(fields["authentication-results"].split())
        c.logout()
        return found

    def expected(self, policy, sender, signer):
        """(where, dmarc=)"""
        spf, own = self.senders[sender]
        if self.policies[policy] is None:
            where, dmarc = "INBOX", "none"
        elif signer == "aligned" or (spf == "pass" and own):
            where, dmarc = "INBOX", "pass"
        else:
            where, dmarc = {"none": "INBOX", "quarantine": "Junk", "reject": 550}[self.policies[policy]], "fail"
        if self.spf_reject and spf == "fail" and where != 550:
            where = 550
        return where, dmarc

    def check_replay(self, decisions, signatures):
        """Each decision, and each signature that led to it, comes to the same from what was recorded."""
        def judged():
            done = self.server.run("--json", "explain", "alice@demo.test", "--replay", check=False)
            rows = json.loads(done.stdout or "[]")
            return (done, rows) if sum(r["event"] == "decision" and r["fields"]["table"] == "incoming" for r in rows) == decisions else None

        done, rows = harness.wait_for(judged)
        self.assertEqual(done.returncode, 0, done.stderr)
        signed = [r for r in rows if r["event"] == "dkim"]
        self.assertEqual(len(signed), signatures)
        self.assertEqual([r for r in signed if not r["again"]["same"]], [])

    def check_all(self):
        cells = [(p, s, k) for p in self.policies for s in self.senders for k in self.signers]
        codes = {}
        with self.server.smtp() as s:
            s.ehlo()
            for policy, sender, signer in cells:
                domain = "elsewhere.test" if sender == "elsewhere" else "%s.%s.test" % (sender, policy)
                s.mail("a@" + domain)
                s.rcpt("alice@demo.test")
                token = "-".join((policy, sender, signer))
                codes[token] = s.data(self.message(policy, signer, token))
        self.check_replay(len(cells), sum(signer != "none" for _, _, signer in cells))
        came = self.headers()
        for policy, sender, signer in cells:
            token = "-".join((policy, sender, signer))
            where, dmarc = self.expected(policy, sender, signer)
            if where == 550:
                self.assertEqual(codes[token][0], 550, (token, codes[token]))
                self.assertNotIn(token, came)
                continue
            self.assertEqual((codes[token][0], came[token][0]), (250, where), (token, codes[token]))
            results = came[token][1]
            self.assertRegex(results, r"\bspf=%s\b[^;]* smtp\.mailfrom=" % self.senders[sender][0], token)
            self.assertRegex(results, r"\bdkim=%s\b" % {"none": "none", "broken": "fail"}.get(signer, "pass"), token)
            self.assertRegex(results, r"\bdmarc=%s\b" % dmarc, token)
            if dmarc in ("pass", "fail"):
                self.assertIn("(p=%s) " % self.policies[policy], results, token)


class TestMatrix(MatrixTest):
    spf_reject = False

    def test_cells(self):
        self.check_all()


class TestMatrixStrictSpf(MatrixTest):
    spf_reject = True
    settings = {"policy.spf_reject": "yes"}

    def test_cells(self):
        self.check_all()


if __name__ == "__main__":
    unittest.main()
