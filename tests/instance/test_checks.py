"""SPF, DKIM and DMARC through the real processes: signatures of both kinds, answers by TCP, and DNS servers that do not answer."""

import base64
import subprocess
import threading
import time
import unittest

import dkim
import nacl.signing

import dnsserver
import harness

# What a message may wait while others wait for the DNS; without that it takes 0.05 s.
BESIDE_SECONDS_MAX = 8


def record(name, text):
    return "%s IN TXT %s\n" % (name, dnsserver.txt(text))


def openssl(*arguments, data=b""):
    return subprocess.run(["openssl", *arguments], input=data, capture_output=True, check=True).stdout


RSA = openssl("genrsa", "-traditional", "2048")
RSA_SHORT = openssl("genrsa", "-traditional", "512")
ED25519 = nacl.signing.SigningKey.generate()


def rsa_record(key):
    public = openssl("rsa", "-pubout", "-outform", "DER", data=key)
    return "v=DKIM1; k=rsa; p=" + base64.b64encode(public).decode()


class TestChecks(harness.InstanceTest):
    zones = {
        "signed.test": record("@", "v=spf1 -all") + record("_dmarc", "v=DMARC1; p=reject") +
        record("rsa._domainkey", rsa_record(RSA)) + record("short._domainkey", rsa_record(RSA_SHORT)) +
        record("ed._domainkey", "v=DKIM1; k=ed25519; p=" + base64.b64encode(bytes(ED25519.verify_key)).decode()) +
        record("gone._domainkey", "v=DKIM1; p="),
        # More than a UDP answer holds: the record is the last of many.
        "large.test": "".join(record("@", "filler %02d %s" % (i, "x" * 180)) for i in range(20)) +
        record("@", "v=spf1 ip4:127.0.0.1 -all"),
        "cut.test": record("@", "v=spf1 ip4:127.0.0.1 -all"),
        "fast.test": record("@", "v=spf1 ip4:127.0.0.1 -all") + record("_dmarc", "v=DMARC1; p=none"),
        "silent.test": record("@", "v=spf1 a:x.silent.test -all"),
    }
    dns_rules = [(r"\bx\.silent\.test$", "drop"), (r"^_dmarc\.silent\.test$", "drop"), (r"^cut\.test$", "truncate")]
    settings = {"dns.timeout": "2s", "verify.timeout": "10s"}

    def deliver(self, message, domain="signed.test"):
        code, text = self.server.deliver(message, sender="a@" + domain)
        if code != 250:
            return code, text
        c = self.server.imap()
        try:
            c.select("INBOX", readonly=True)
            number = c.search(None, "ALL")[1][0].split()[-1]
            field = c.fetch(number, "(BODY.PEEK[HEADER.FIELDS (Authentication-Results)])")[1][0][1]
        finally:
            c.logout()
        return code, " ".join(field.decode().split())

    @staticmethod
    def message(domain="signed.test"):
        return b"From: a@%s\r\nSubject: check\r\n\r\nbody  \r\n\r\n" % domain.encode()

    def sign(self, selector, key, **kw):
        message = self.message()
        return dkim.sign(message, selector, b"signed.test", key, canonicalize=(b"relaxed", b"simple"), **kw) + message

    def test_rsa(self):
        code, text = self.deliver(self.sign(b"rsa", RSA))
        self.assertEqual(code, 250, text)
        self.assertRegex(text, r"dkim=pass header\.d=signed\.test header\.s=rsa header\.a=rsa-sha256")
        self.assertIn("dmarc=pass (p=reject) header.from=signed.test policy.dmarc=reject", text)

    def test_ed25519(self):
        code, text = self.deliver(self.sign(b"ed", base64.b64encode(bytes(ED25519)), signature_algorithm=b"ed25519-sha256"))
        self.assertEqual(code, 250, text)
        self.assertRegex(text, r"dkim=pass header\.d=signed\.test header\.s=ed header\.a=ed25519-sha256")

    def test_one_good_signature_is_enough(self):
        both = self.sign(b"gone", RSA).split(b"From:")[0] + self.sign(b"rsa", RSA)
        code, text = self.deliver(both)
        self.assertEqual(code, 250, text)
        self.assertIn('dkim=permerror reason="key is revoked"', text)
        self.assertIn("dkim=pass", text)

    def test_bad_signatures_do_not_authenticate(self):
        for message in (self.message(), self.sign(b"rsa", RSA)[:-4] + b"x\r\n", self.sign(b"gone", RSA),
                        self.sign(b"absent", RSA), self.sign(b"short", RSA_SHORT)):
            code, text = self.deliver(message)
            self.assertEqual(code, 550, text)

    def test_appended_text_does_not_authenticate(self):
        """RFC 6376 8.2: what follows l= octets is not signed."""
        message = self.sign(b"rsa", RSA, length=True)
        self.assertEqual(self.deliver(message)[0], 250)
        self.assertEqual(self.deliver(message + b"appended\r\n")[0], 550)

    def test_large_answers(self):
        for domain in ("large.test", "cut.test"):
            code, text = self.deliver(self.message(domain), domain)
            self.assertEqual(code, 250, text)
            self.assertIn('spf=pass reason="ip4:127.0.0.1" smtp.mailfrom=' + domain, text)

    def test_silent_servers_hold_up_nobody_else(self):
        codes = []

        def send():
            codes.append(self.server.deliver(self.message("silent.test"), sender="a@silent.test")[0])

        threads = [threading.Thread(target=send) for _ in range(12)]
        for t in threads:
            t.start()
        time.sleep(0.5)
        began = time.time()
        code, text = self.deliver(self.message("fast.test"), "fast.test")
        took = time.time() - began
        for t in threads:
            t.join()
        self.assertEqual(code, 250, text)
        self.assertLess(took, BESIDE_SECONDS_MAX)
        self.assertEqual(codes, [451] * 12)


if __name__ == "__main__":
    unittest.main()
