"""`mailstead lab`: a message against a zone that is not published, through the real processes."""

import glob
import json
import os
import shutil
import subprocess
import tempfile
import unittest

import dnsserver
import harness

ZONE = """$ORIGIN lab.test.
@ IN TXT "v=spf1 ip4:192.0.2.1 ip6:2001:db8::/32 include:other.example -all"
_dmarc IN TXT "v=DMARC1; p=reject"
"""
MESSAGE = "From: Ann <ann@lab.test>\nTo: alice@demo.test\nSubject: lab\nMessage-ID: <1@lab.test>\n\n.\n.dot\n"


class TestLab(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        """What the zones do not have is asked of this server."""
        directory = tempfile.mkdtemp(prefix="mailstead-test-")
        cls.addClassCleanup(shutil.rmtree, directory)
        cls.dns = dnsserver.DnsServer(directory, {"other.example": '@ IN TXT "v=spf1 ip4:203.0.113.5 -all"\n'})
        cls.addClassCleanup(cls.dns.stop)

    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="mailstead-test-")
        self.addCleanup(shutil.rmtree, self.directory)
        self.zone = self.write("zone", ZONE)
        self.message = self.write("message", MESSAGE)

    def write(self, name, text):
        path = os.path.join(self.directory, name)
        with open(path, "w", encoding="ascii") as f:
            f.write(text)
        return path

    def run_lab(self, *words):
        environment = dict(os.environ, TMPDIR=self.directory)
        r = subprocess.run([harness.MAILSTEAD, "lab", "--dns", self.dns.address, *words], capture_output=True, text=True, timeout=60, env=environment,
                           stdin=subprocess.DEVNULL)
        self.assertEqual(glob.glob(self.directory + "/mailstead-lab-*"), [], "it leaves nothing behind")
        return r

    def lab(self, *words):
        r = self.run_lab("--json", self.zone, self.message, *words)
        self.assertEqual(r.returncode, 0, r.stderr)
        return json.loads(r.stdout)

    def event(self, answer, name):
        return [e["fields"] for e in answer["events"] if e["event"] == name]

    def test_allowed(self):
        for address in ("192.0.2.1", "2001:db8::1"):
            answer = self.lab("--from", address)
            self.assertRegex(answer["answer"], r"^250 ")
            self.assertEqual(self.event(answer, "connect")[0]["peer"], address)
            self.assertEqual([e["result"] for e in self.event(answer, "spf") if e["identity"] == "mailfrom"], ["pass"])
            self.assertEqual(self.event(answer, "verdict")[0]["dmarc"], "pass")
            self.assertEqual(answer["libspf2"], {"result": "pass", "reason": ""})

    def test_not_allowed(self):
        r = self.run_lab(self.zone, self.message, "--from", "198.51.100.1", "--helo", "h.lab.test")
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertIn("EHLO h.lab.test", r.stdout)
        self.assertIn("rule=dmarc-reject", r.stdout)
        self.assertRegex(r.stdout, r"The answer: 550 5\.7\.1 ")

    def test_other_names(self):
        answer = self.lab("--from", "203.0.113.5")
        self.assertEqual([e["result"] for e in self.event(answer, "spf") if e["identity"] == "mailfrom"], ["pass"])

    def test_libspf2_reads_it_otherwise(self):
        """A prefix length of 0 is good by RFC 7208 5.6, and an error to libspf2."""
        zone = self.write("other", '$ORIGIN lab.test.\n@ IN TXT "v=spf1 ip4:192.0.2.1/0 -all"\n')
        r = self.run_lab(zone, self.message, "--json")
        self.assertEqual(r.returncode, 0, r.stderr)
        answer = json.loads(r.stdout)
        self.assertEqual([e["result"] for e in self.event(answer, "spf") if e["identity"] == "mailfrom"], ["pass"])
        self.assertEqual(answer["libspf2"]["result"], "permerror")

    def test_null_sender(self):
        answer = self.lab("--sender", "", "--helo", "mail.lab.test")
        self.assertEqual(answer["sender"], "")
        self.assertRegex(answer["answer"], r"^550 5\.7\.1 ")

    def test_words(self):
        for words, code in (((self.zone,), 2), ((self.zone, self.message, "--from", "here"), 2),
                            ((self.zone, self.directory + "/none"), 1), ((self.message, self.message), 1)):
            r = self.run_lab(*words)
            self.assertEqual(r.returncode, code, r.stderr)
            self.assertNotEqual(r.stderr, "")

    def test_wrong_zone(self):
        """Trying it again is no help; what the library says of it is shown."""
        zone = self.write("wrong", "$ORIGIN lab.test.\n@ IN NONSENSE here\n")
        r = self.run_lab(zone, self.message)
        self.assertEqual(r.returncode, 1, r.stderr)
        self.assertIn("Syntax error", r.stderr)
        self.assertIn("mailstead: no server starts with " + zone, r.stderr)


if __name__ == "__main__":
    unittest.main()
