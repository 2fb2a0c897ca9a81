"""Two of these servers write to each other, as two strangers do: MX, DNSSEC with TLSA records, SPF, DKIM and DMARC p=reject."""

import json
import re
import shutil
import tempfile
import unittest

import dnsserver
import harness
import receiver

MESSAGE = "From: %s\r\nTo: %s\r\nSubject: from one to the other\r\n\r\nhello\r\n"


class One:
    """A server for the users of a domain of its own, where the other one is to be found by the DNS alone."""

    def __init__(self, domain, dns):
        self.domain = domain
        self.user = "user@" + domain
        self.server = harness.Server(settings={"dns.server": dns, "hostname": "mx." + domain, "transport.enabled": "yes",
                                               "transport.loopback": "yes"})
        self.server.run("domain", "add", domain)
        self.server.run("account", "add", self.user, stdin="secret of %s\n" % domain)
        self.server.passwords[self.user] = "secret of " + domain

    def zone(self):
        """What its operator publishes."""
        self.server.run("--json", "dkim", "create", self.domain)
        rows = json.loads(self.server.run("--json", "dkim", "show", self.domain).stdout)
        text = "@ IN MX 10 mx\nmx IN A 127.0.0.1\n@ IN TXT \"v=spf1 ip4:127.0.0.1 -all\"\n_dmarc IN TXT \"v=DMARC1; p=reject; adkim=s\"\n"
        text += "_%d._tcp.mx IN TLSA %s\n" % (self.server.ports["smtp"], receiver.tlsa(3, 1, self.server.demo + "/tls/cert.pem"))
        for row in rows:
            text += "%s. IN TXT %s\n" % (row["name"], dnsserver.txt(row["record"]))
        return text

    def set(self, **settings):
        with open(self.server.demo + "/mailstead.conf", "a", encoding="utf-8") as f:
            for name, value in settings.items():
                f.write("%s = %s\n" % (name.replace("__", "."), value if not re.search(r"[^\w.@:/-]", str(value)) else '"%s"' % value))

    def keys_in_use(self):
        return self.server.run("dkim", "check", self.domain, check=False).returncode == 0


class TestTwo(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="mailstead-two-")
        self.dns = dnsserver.DnsServer(self.directory + "/dns", {"a.example": "", "b.example": ""})
        self.ones = [One(d, self.dns.address) for d in ("a.example", "b.example")]
        signed, anchors = {}, ""
        for one in self.ones:
            signed[one.domain], anchor = dnsserver.sign("%s/%s" % (self.directory, one.domain), one.domain, one.zone(), lambda owner: False)
            with open(anchor, encoding="ascii") as f:
                anchors += f.read()
        path = self.directory + "/anchors"
        with open(path, "w", encoding="ascii") as f:
            f.write(anchors)
        port = self.dns.port
        self.dns.stop()
        self.dns = dnsserver.DnsServer(self.directory + "/dns2", signed, port)
        for one, other in zip(self.ones, reversed(self.ones)):
            self.assertEqual(one.server.stop(), [])
            one.set(dns__trust_anchor=path, transport__port=other.server.ports["smtp"])
            one.server.start()
            one.server.passwords[one.user] = "secret of " + one.domain

    def tearDown(self):
        for one in self.ones:
            one.server.close()
        self.dns.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def send(self, one, other):
        with one.server.submission(one.user) as s:
            s.ehlo()
            s.mail(one.user, ["RET=HDRS", "ENVID=e1"])
            self.assertEqual(s.rcpt(other.user, ["NOTIFY=SUCCESS,FAILURE"])[0], 250)
            code, text = s.data((MESSAGE % (one.user, other.user)).encode())
        self.assertEqual(code, 250, text)
        return text.split()[-1].decode()

    def fetch(self, one, subject):
        def found():
            with one.server.imap(one.user) as m:
                m.select()
                numbers = m.search(None, "SUBJECT", '"%s"' % subject)[1][0].split()
                return m.fetch(numbers[-1], "(BODY.PEEK[])")[1][0][1].decode() if numbers else None
        return harness.wait_for(found, 30, 0.2)

    def test_both_ways(self):
        for one in self.ones:
            harness.wait_for(one.keys_in_use, 30, 0.2)
        for one, other in (self.ones, reversed(self.ones)):
            queue_id = self.send(one, other)
            text = self.fetch(other, "from one to the other")
            results = re.sub(r"\s+", " ", text[:text.index("\r\n\r\n")])
            self.assertIn("dkim=pass", results)
            self.assertIn("spf=pass", results)
            self.assertIn("dmarc=pass", results)
            said = one.server.run("explain", queue_id).stdout
            self.assertRegex(said, r"remote-tls .*proof=dane-ee")
            # The other server has taken over what is to be reported, and tells, with signatures that its policy demands.
            report = self.fetch(one, "Delivered: " + other.user)
            self.assertIn("Action: delivered", report)
            self.assertIn("Original-Envelope-Id: e1", report)
            harness.wait_for(lambda: one.server.run("queue", "list", "--json").stdout.split() == ["[]"], 20, 0.2)


if __name__ == "__main__":
    unittest.main()
