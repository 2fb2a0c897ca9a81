"""ARC through the real processes: chains that dkimpy makes, the same verdict as dkimpy's of whole and broken ones, and what policy makes of it."""

import json
import re
import types
import unittest

import dkim

import harness
from test_checks import RSA, record, rsa_record



class Results:
    """As much of the module authres as dkimpy's sealer needs: whose results they are, and what they say of ARC."""
    core = types.SimpleNamespace(SyntaxError=ValueError)

    class AuthenticationResultsHeader:
        @classmethod
        def parse(cls, field):
            words = re.findall(r"[^\s;]+", field.split(":", 1)[1])
            arc = [types.SimpleNamespace(method="arc", result=w[4:]) for w in words if w.startswith("arc=")]
            return types.SimpleNamespace(authserv_id=words[0], results=arc)


dkim.authres = Results
FORWARDERS = ("list.test", "other.test", "evil.test")
ZONE = record("k._domainkey", rsa_record(RSA)) + record("gone._domainkey", "v=DKIM1; p=")


class ArcTest(harness.InstanceTest):
    zones = {
        "author.test": record("@", "v=spf1 -all") + record("_dmarc", "v=DMARC1; p=reject"),
        "junk.test": record("@", "v=spf1 -all") + record("_dmarc", "v=DMARC1; p=quarantine"),
        "plain.test": record("@", "v=spf1 -all"),
        **{d: ZONE for d in FORWARDERS},
    }
    dns_rules = [(r"^late\._domainkey", "servfail")]
    settings = {"policy.arc_trusted": "list.test other.test", "dns.timeout": "2s", "verify.timeout": "10s"}

    @classmethod
    def dns(cls, name, timeout=5):
        """The keys as dkimpy asks for them."""
        selector, _, domain = name.rstrip(b".").decode().partition("._domainkey.")
        if domain in FORWARDERS and selector in ("k", "late"):
            return rsa_record(RSA).encode()
        return b"v=DKIM1; p=" if selector == "gone" else None

    def seal(self, message, domain, results="dmarc=pass header.from=author.test", selector="k"):
        """The message with one more ARC set, as that domain would forward it."""
        head = b"Authentication-Results: %s; %s\r\n" % (domain.encode(), results.encode())
        made = dkim.arc_sign(head + message, selector.encode(), domain.encode(), RSA, domain.encode(),
                             include_headers=[b"from", b"subject", b"to"])
        self.assertEqual(len(made), 3)
        return b"".join(made) + message

    @staticmethod
    def message(domain="author.test"):
        return b"From: a@%s\r\nTo: alice@demo.test\r\nSubject: arc\r\n\r\nbody of it  \r\n\r\n" % domain.encode()

    def judged(self, message, domain="plain.test"):
        """(code, mailbox, Authentication-Results without folding)"""
        code, text = self.server.deliver(message, sender="a@" + domain)
        if code != 250:
            return code, None, text
        c = self.server.imap()
        try:
            for box in ("INBOX", "Junk"):
                if int(c.select(box)[1][0]) > 0:
                    field = c.fetch("1", "(BODY.PEEK[HEADER.FIELDS (Authentication-Results)])")[1][0][1]
                    c.store("1", "+FLAGS", "\\Deleted")
                    c.expunge()
                    return code, box, " ".join(field.decode().split())
        finally:
            c.logout()
        self.fail("not delivered")


    def check_replay(self):
        """Each chain, and each decision, comes to the same from what was recorded."""
        def judged():
            done = self.server.run("--json", "explain", "alice@demo.test", "--replay", check=False)
            rows = json.loads(done.stdout or "[]")
            whole = len([r for r in rows if r["event"] == "decision"]) >= len([r for r in rows if r["event"] == "message"]) > 0
            return (done, [r for r in rows if r["event"] == "arc"]) if whole else None

        done, rows = harness.wait_for(judged)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual([r for r in rows if not r["again"].get("same")], [])
        return {r["fields"]["result"] for r in rows}


class TestChains(ArcTest):
    def chain(self):
        m = self.seal(self.message("plain.test"), "evil.test")
        return self.seal(self.seal(m, "list.test", "arc=pass"), "other.test", "arc=pass")

    def check(self, message, name):
        """Ours and dkimpy's; dkimpy calls a chain that ends in cv=fail neither."""
        cv = dkim.ARC(message).verify(dnsfunc=self.dns)[0]
        theirs = {dkim.CV_Pass: "pass", dkim.CV_Fail: "fail", None: "fail", dkim.CV_None: None}[cv]
        ours = re.search(r"\barc=(\w+)", self.judged(message)[2])
        self.assertEqual(ours.group(1) if ours else None, theirs, name)
        return theirs

    def test_passes(self):
        self.assertEqual(self.check(self.message("plain.test"), "no chain"), None)
        one = self.seal(self.message("plain.test"), "list.test")
        self.assertEqual(self.check(one, "one set"), "pass")
        self.assertEqual(self.check(self.chain(), "three sets"), "pass")
        text = self.judged(self.chain())[2]
        self.assertIn("arc=pass (i=3) header.oldest-pass=0 header.d=other.test", text)

    def test_changed_by_a_forwarder(self):
        """A list that adds a footer and seals anew: the older signature does not hold, the chain does."""
        m = self.seal(self.message("plain.test"), "evil.test")
        m = self.seal(m + b"-- \r\nfooter\r\n", "list.test", "arc=pass")
        self.assertEqual(self.check(m, "footer"), "pass")
        self.assertIn("header.oldest-pass=2", self.judged(m)[2])
        self.assertLessEqual({"pass"}, self.check_replay())

    def test_broken(self):
        """Every one of these is what dkimpy says, and it is fail."""
        whole = self.chain()

        def without(field, n):
            return re.sub(rb"(?ms)^%s: i=%d;.*?\r\n(?=\S)" % (field, n), b"", whole)

        changed = {
            "body": whole.replace(b"body of it", b"body of us"),
            "appended": whole + b"more\r\n",
            "signed field": whole.replace(b"Subject: arc", b"Subject: ark"),
            "results": whole.replace(b"dmarc=pass", b"dmarc=fail"),
            "seal of 2": re.sub(rb"(ARC-Seal: i=2;.*?\bt=)\d", rb"\g<1>9", whole, flags=re.S),
            "domain of the newest": whole.replace(b"d=other.test", b"d=evil.test"),
            "instance": re.sub(rb"i=2;", b"i=4;", whole),
            "cv of the first": re.sub(rb"(ARC-Seal: i=1;.*?)cv=none", rb"\1cv=pass", whole, flags=re.S),
            "cv of the last": re.sub(rb"(ARC-Seal: i=3;.*?)cv=pass", rb"\1cv=fail", whole, flags=re.S),
        }
        for field in (b"ARC-Seal", b"ARC-Message-Signature", b"ARC-Authentication-Results"):
            for n in (1, 2, 3):
                changed["%s %d missing" % (field.decode(), n)] = without(field, n)
        for name, message in changed.items():
            self.assertNotEqual(message, whole, name)
            self.assertEqual(self.check(message, name), "fail", name)
        self.assertLessEqual({"fail"}, self.check_replay())

    def test_stricter_than_dkimpy(self):
        """RFC 8617 4.2.1, 5.2: 50 sets, each field once; dkimpy lets these through or stumbles."""
        whole = self.chain()
        seal = re.search(rb"(?ms)^ARC-Seal: i=1;.*?\r\n(?=\S)", whole).group(0)
        for name, message in (("twice", seal + whole), ("51", re.sub(rb"i=3;", b"i=51;", whole)), ("0", re.sub(rb"i=1;", b"i=0;", whole)),
                              ("alone", b"ARC-Seal: nonsense\r\n" + self.message("plain.test"))):
            self.assertIn("arc=fail", self.judged(message)[2], name)
        gone = self.seal(self.message("plain.test"), "list.test", selector="gone")
        self.assertIn('arc=fail (i=1) reason="key is revoked"', self.judged(gone)[2])


class TestPolicy(ArcTest):
    def test_override(self):
        """A trusted sealer's word is believed where DMARC fails, and as far as only trusted ones have had the message since."""
        m, passed = self.message(), "dmarc=pass (p=reject) header.from=author.test"
        rows = [
            ("no chain", m, 550),
            ("trusted", self.seal(m, "list.test", passed), 250),
            ("not trusted", self.seal(m, "evil.test", passed), 550),
            ("says fail", self.seal(m, "list.test", "dmarc=fail header.from=author.test"), 550),
            ("says pass of another", self.seal(m, "list.test", "dmarc=pass header.from=other.test"), 550),
            ("only quoted", self.seal(m, "list.test", 'spf=fail reason="; dmarc=pass header.from=author.test"'), 550),
            ("only a comment", self.seal(m, "list.test", "spf=fail (; dmarc=pass header.from=author.test)"), 550),
            ("two trusted", self.seal(self.seal(m, "list.test", passed), "other.test", "arc=pass"), 250),
            ("trusted behind another", self.seal(self.seal(m, "list.test", passed), "evil.test", "arc=pass"), 550),
            ("other behind trusted", self.seal(self.seal(m, "evil.test", passed), "list.test", "arc=pass"), 550),
            ("broken", self.seal(m, "list.test", passed) + b"x\r\n", 550),
            ("changed and sealed anew", self.seal(self.seal(m, "list.test", passed) + b"footer\r\n", "other.test", "arc=pass"), 250),
            ("key is late", self.seal(m, "list.test", passed, selector="late"), 451),
        ]
        for name, message, want in rows:
            code, box, text = self.judged(message, "author.test")
            self.assertEqual((code, box), (want, "INBOX" if want == 250 else None), (name, text))
        self.assertRegex(self.judged(rows[1][1], "author.test")[2], r"arc=pass .*dmarc=fail")
        self.assertLessEqual({"pass", "fail", "temperror"}, self.check_replay())

    def test_no_reason_on_its_own(self):
        """It neither helps nor harms what DMARC says nothing against."""
        passed = "dmarc=pass header.from=junk.test"
        self.assertEqual(self.judged(self.message("junk.test"), "junk.test")[:2], (250, "Junk"))
        self.assertEqual(self.judged(self.seal(self.message("junk.test"), "list.test", passed), "junk.test")[:2], (250, "INBOX"))
        self.assertEqual(self.judged(self.seal(self.message("junk.test"), "evil.test", passed), "junk.test")[:2], (250, "Junk"))
        self.assertEqual(self.judged(self.seal(self.message("plain.test"), "list.test") + b"broken\r\n")[:2], (250, "INBOX"))

    def test_explained(self):
        code, text = self.server.deliver(self.seal(self.message(), "list.test"), rcpt="bob", sender="a@author.test")
        self.assertEqual(code, 250, text)
        told = harness.wait_for(lambda: self.server.run("explain", text.split()[-1], check=False).stdout)
        self.assertIn("list.test+", told)
        self.assertRegex(told, r"override.?arc")


if __name__ == "__main__":
    unittest.main()
