"""What scanners of TLS servers say of the default configuration: sslscan of every service and both kinds of key, testssl.sh of port 25
(of all services, and in all that it looks for, with MAILSTEAD_TLS=all: make tls-scan, which takes some minutes). Nothing may be left to complain about but that the certificate of a
demo is its own."""

import json
import os
import subprocess
import unittest
import xml.etree.ElementTree

import harness

SERVICES = {"smtp": "smtp", "submission": "smtp", "submissions": None, "imap": "imap", "imaps": None, "pop3": "pop3", "pop3s": None}
# Of the demo's certificate, and of the machine that scans.
OF_THE_CERTIFICATE = {"cert_chain_of_trust", "cert_validityPeriod", "cert_revocation", "DNS_CAArecord", "engine_problem"}
ALL = os.environ.get("MAILSTEAD_TLS") == "all"
CHECKS = ["-p", "-f", "-S", *(["-s", "-P", "-H", "-I", "-T", "-R", "-C", "-O", "-Z", "-W", "-F", "-D", "-J", "-A", "-L", "-4"] if ALL else [])]
TESTSSL_SECONDS_MAX = 800
# On a busy machine a connection of it is cut short by its own signals; after the second it gives up, unless told otherwise.
PATIENT = {"MAX_SOCKET_FAIL": "50", "MAX_OSSL_FAIL": "50"}


class TestSslscan(harness.InstanceTest):
    def scan(self, service):
        starttls = ["--starttls-" + SERVICES[service]] if SERVICES[service] else []
        done = subprocess.run(["sslscan", "--no-colour", "--xml=-", *starttls, "127.0.0.1:%d" % self.server.ports[service]],
                              capture_output=True, check=True, timeout=120)
        return xml.etree.ElementTree.fromstring(done.stdout).find("ssltest")

    def check(self, service, key):
        found = self.scan(service)
        self.assertIsNotNone(found, service)
        enabled = {p.get("type") + p.get("version") for p in found.iter("protocol") if p.get("enabled") == "1"}
        self.assertEqual(enabled, {"tls1.2", "tls1.3"}, service)
        self.assertEqual(found.find("renegotiation").get("supported"), "0", service)
        self.assertEqual({h.get("vulnerable") for h in found.iter("heartbleed")}, {"0"}, service)
        ciphers = {c.get("cipher"): c for c in found.iter("cipher")}
        self.assertGreaterEqual(len(ciphers), 6, service)
        for name, c in ciphers.items():
            self.assertIn(c.get("strength"), ("strong", "acceptable"), (service, name))
            self.assertTrue(name.endswith(("-GCM-SHA256", "-GCM-SHA384", "_GCM_SHA256", "_GCM_SHA384", "POLY1305", "POLY1305_SHA256")), name)
        self.assertEqual({k.get("type") for k in found.iter("pk")}, {key}, service)

    def test_every_service(self):
        for service in SERVICES:
            self.check(service, "EC")

    def test_rsa(self):
        tls = self.server.demo + "/tls"
        saved = {name: open(tls + "/" + name, "rb").read() for name in ("key.pem", "cert.pem")}
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", tls + "/key.pem", "-out", tls + "/cert.pem",
                        "-days", "2", "-subj", "/CN=rsa.test"], check=True, capture_output=True)
        try:
            self.server.run("reload")
            harness.wait_for(lambda: any(k.get("type") == "RSA" for k in self.scan("imaps").iter("pk")), 20)
            self.check("smtp", "RSA")
            self.check("imaps", "RSA")
        finally:
            for name, octets in saved.items():
                with open(tls + "/" + name, "wb") as f:
                    f.write(octets)
            self.server.run("reload")
            harness.wait_for(lambda: any(k.get("type") == "EC" for k in self.scan("imaps").iter("pk")), 20)


class TestTestssl(harness.InstanceTest):
    def test_nothing_to_complain_about(self):
        services = ("smtp", "submission", "submissions", "imaps", "pop3s") if ALL else ("smtp",)
        for service in services:
            findings = self.findings(service)
            self.assertIn("TLS1_3", findings)
            # Whether a ticket is taken again it often cannot tell, for want of a second connection in its time; what it asks is no weakness.
            if "connect problem" in findings.get("sessionresumption_ticket", {}).get("finding", ""):
                del findings["sessionresumption_ticket"]
            wrong = {i: f for i, f in findings.items() if f["severity"] not in ("OK", "INFO", "DEBUG") and i not in OF_THE_CERTIFICATE}
            self.assertEqual(wrong, {}, service)

    def findings(self, service):
        path = "%s/testssl-%s.json" % (self.server.directory, service)
        starttls = ["--starttls", SERVICES[service]] if SERVICES[service] else []
        done = subprocess.run(["testssl", "--quiet", "--color", "0", "--warnings", "batch", "--jsonfile", path, *CHECKS, *starttls,
                               "127.0.0.1:%d" % self.server.ports[service]], stdin=subprocess.DEVNULL, capture_output=True,
                              timeout=TESTSSL_SECONDS_MAX, env={**os.environ, **PATIENT})
        with open(path, encoding="utf-8") as f:
            text = f.read()
        self.assertTrue(text.strip(), done.stdout.decode()[-3000:])
        return {f["id"]: f for f in json.loads(text)}


if __name__ == "__main__":
    unittest.main()
