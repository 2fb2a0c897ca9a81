"""Debian's mail servers as receivers: what a user submits goes from the queue to Postfix, Exim or OpenSMTPD, and on from there to a
server of ours (tests/instance/receiver.py), which must get it once, octet for octet but for trace fields at the top. All of a class are
in a network of their own: SMTP is on port 25, policies are on port 443, and what leaves is read on the wire. There are a signed zone with
TLSA records and domains with MTA-STS policies. What servers do that these cannot be made to do is in test_outbound.py."""

import contextlib
import email
import json
import os
import socket
import tempfile
import unittest

import dnsserver
import harness
import mta
import policyhost
import ports
import receiver
from test_senders import BODIES, without_trace

# The server with TLS, the same one where it offers none, and the host of policies.
ADDRESS, PLAIN, POLICIES = "192.0.2.2", "192.0.2.3", "192.0.2.4"
HEADER = "From: <alice@demo.test>\nTo: you@mta.example\nSubject: %s\nDate: Sun, 22 Nov 2026 12:00:00 +0000\n" \
    "Message-ID: <%s@demo.test>\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n"
WIRE_BYTES = 64 << 20
ETH_P_IP = 0x0800
SO_RCVBUFFORCE = 33

only_root = unittest.skipUnless(os.getuid() == 0, "only root can make namespaces with users of their own")


class Wire:
    """What this network carries to port 25."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP))
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, WIRE_BYTES)
        self.socket.setblocking(False)

    def read(self):
        """The octets since it was read last."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                packet = self.socket.recv(1 << 17)
                tcp = packet[(packet[0] & 15) * 4:]
                if packet[9] == socket.IPPROTO_TCP and tcp[2:4] == b"\0\x19":
                    found.append(tcp[(tcp[12] >> 4) * 4:])
        return b"".join(found)


class Receivers:
    """The tests, for the classes below."""

    server_class = None
    stages = ("", "-data", "-end")
    tls_comes_about = True

    @classmethod
    def setUpClass(cls):
        harness.own_network(ADDRESS, PLAIN, POLICIES)
        cls.wire = Wire()
        place = tempfile.mkdtemp(prefix="mailstead-mta-ca-")
        ca, issue = receiver.authority(place)
        # OpenSMTPD knows no other kind of key.
        pair = issue("mail.mta.example", "mail.good.sts.example", "mail.silent.sts.example", kind=["rsa:2048"])
        right, wrong = (receiver.tlsa(3, 1, p[0]) for p in (pair, issue("mail.wrong.dane.example")))
        cls.zones = {"mta.example": "@ IN MX 10 mail\nmail IN A %s\nclear IN MX 10 mail.clear\nmail.clear IN A %s\n" % (ADDRESS, PLAIN)}
        host = "{0} IN MX 10 mail.{0}\nmail.{0} IN A {1}\n"
        dane, sts = "", ""
        for name, address, record in (("good", ADDRESS, right), ("wrong", ADDRESS, wrong), ("silent", PLAIN, right)):
            dane += (host + "_25._tcp.mail.{0} IN TLSA {2}\n").format(name, address, record)
            sts += (host + "mta-sts.{0} IN A {2}\n_mta-sts.{0} IN TXT \"v=STSv1; id=1;\"\n").format(name, address, POLICIES)
        cls.zones["dane.example"], anchor = dnsserver.sign(place + "/keys", "dane.example", dane, lambda owner: False)
        cls.zones["sts.example"] = sts
        names = ["%s.sts.example" % n for n in ("good", "wrong", "silent")]
        cls.policies = policyhost.PolicyHost(POLICIES, 443, receiver.context(issue(*["mta-sts." + n for n in names])))
        for n in names:
            cls.policies.answers["mta-sts." + n] = (200, "text/plain", policyhost.POLICY % ("enforce", "mx: mail.%s\r\n" % n, 86400), 0)
        cls.settings = {"transport.enabled": "yes", "tls.authorities": ca, "queue.remote_retry": "1s", "dns.trust_anchor": anchor}
        behind = ports.take()
        cls.behind = receiver.Receiver("127.0.0.1", behind, offers=("8BITMIME", "PIPELINING", "SMTPUTF8"))
        cls.mta = cls.server_class(behind, (ADDRESS, 25), (PLAIN, 25), pair)
        try:
            super().setUpClass()
        except BaseException:
            cls.mta.close()
            raise

    @classmethod
    def tearDownClass(cls):
        cls.behind.close()
        cls.mta.close()
        cls.policies.close()
        super().tearDownClass()

    def setUp(self):
        self.wire.read()

    def tearDown(self):
        """Nothing is doubled, whichever test it was of."""
        ids = [email.message_from_bytes(m[2])["Message-ID"] for m in self.behind.messages]
        self.assertEqual(len(ids), len(set(ids)), ids)

    def submit(self, octets, *to):
        with self.server.submission() as s:
            s.ehlo()
            self.assertEqual(s.mail("alice@demo.test", ["BODY=8BITMIME"])[0], 250)
            for one in to:
                self.assertEqual(s.rcpt(one)[0], 250)
            code, text = s.data(octets.replace(b"\n", b"\r\n"))
        self.assertEqual(code, 250, text)
        return text.split()[-1].decode()

    def events(self, queue_id, event):
        rows = json.loads(self.server.run("--json", "explain", queue_id).stdout)
        return [r["fields"] for r in rows if r["event"] == event]

    def compare(self, got, sent):
        """Octet for octet; but what leaves has been made 7 bits (RFC 6376 5.3)."""
        if sent.isascii():
            self.assertEqual(got, sent)
            return
        self.assertTrue(got.isascii())
        got, sent = (email.message_from_bytes(m) for m in (got, sent))
        self.assertEqual(got.get_payload(decode=True), sent.get_payload(decode=True))
        del got["Content-Transfer-Encoding"], sent["Content-Transfer-Encoding"]
        self.assertEqual(got.items(), sent.items())

    def wait_for(self, condition, queue_id):
        try:
            return harness.wait_for(condition, 30, 0.05)
        except AssertionError:
            raise AssertionError("in vain:\n%s\n%s" % (self.server.run("explain", queue_id).stdout, self.mta.output())) from None

    def results(self, queue_id, count=1):
        def known():
            found = self.events(queue_id, "remote-result")
            return found if len(found) >= count else None
        return self.wait_for(known, queue_id)

    def arrived(self, name):
        return [m for m in self.behind.messages if b"\r\nMessage-ID: <%s@demo.test>\r\n" % name.encode() in m[2]]

    def arrives(self, name, queue_id):
        return self.wait_for(lambda: self.arrived(name), queue_id)

    def send(self, to):
        """A short message, whose name is its recipient's address with a dash."""
        name = to.replace("@", "-")
        return name, self.submit((HEADER % (name, name) + "x\n").encode(), to)

    def queued(self, queue_id):
        done = self.server.run("--json", "queue", "list", queue_id, check=False)
        return done.returncode == 0 and json.loads(done.stdout) != []

    def reported(self, to):
        """Whether alice has been told that it failed."""
        with self.server.imap() as c:
            c.select("INBOX", readonly=True)
            return c.search(None, "HEADER", "Content-Type", "multipart/report", "TEXT", '"%s"' % to)[1][0]

    def test_octet_for_octet(self):
        for name, body in BODIES.items():
            with self.subTest(body=name):
                octets = (HEADER % (name, name) + body).encode()
                queue_id = self.submit(octets, "you@mta.example")
                (_, rcpts, got, _), = self.arrives(name, queue_id)
                self.assertEqual(rcpts[0].split()[0], "<you@mta.example>")
                self.compare(without_trace(got), without_trace(octets).replace(b"\n", b"\r\n"))
                result, = self.results(queue_id)
                self.assertEqual((result["state"], result["mta"]), ("done", "mail.mta.example[%s]" % ADDRESS))
                self.assertEqual([t["proof"] for t in self.events(queue_id, "remote-tls")], ["ca"] if self.tls_comes_about else [])
                self.assertEqual(b"MAIL FROM" in self.wire.read(), not self.tls_comes_about)

    def test_refused(self):
        octets = (HEADER % ("refused", "refused") + "x\n").encode()
        queue_id = self.submit(octets, "never@mta.example", "you2@mta.example")
        self.assertEqual({r["to"].split("@")[0]: r["state"] for r in self.results(queue_id, 2)}, {"never": "failed", "you2": "done"})
        self.arrives("refused", queue_id)

    def test_stages(self):
        """4yz waits and is tried again, 5yz is final and is reported."""
        sent = {stage: (self.send("later%s@mta.example" % stage), self.send("never%s@mta.example" % stage)) for stage in self.stages}
        for stage, ((later, later_id), (never, never_id)) in sent.items():
            with self.subTest(stage=stage):
                self.assertEqual({(r["state"], r["status"]) for r in self.results(later_id, 2)}, {("pending", "4.2.1")})
                self.assertTrue(self.queued(later_id))
                self.assertEqual([(r["state"], r["status"]) for r in self.results(never_id)], [("failed", "5.1.1")])
                self.wait_for(lambda: self.reported("never%s@mta.example" % stage), never_id)
                self.wait_for(lambda: not self.queued(never_id), never_id)
                self.assertEqual(self.arrived(later) + self.arrived(never), [])
                self.server.run("queue", "delete", later_id)

    def test_greylisted(self):
        name, queue_id = self.send("grey@mta.example")
        self.assertEqual([(r["state"], r["status"]) for r in self.results(queue_id, 2)], [("pending", "4.2.0"), ("done", "2.0.0")])
        self.arrives(name, queue_id)
        self.wait_for(lambda: not self.queued(queue_id), queue_id)

    def test_demands_met(self):
        for domain, proof in (("good.dane.example", "dane-ee"), ("good.sts.example", "ca")):
            with self.subTest(domain=domain):
                name, queue_id = self.send("you@" + domain)
                self.arrives(name, queue_id)
                self.assertEqual([r["state"] for r in self.results(queue_id)], ["done"])
                self.assertEqual([t["proof"] for t in self.events(queue_id, "remote-tls")], [proof])
                octets = self.wire.read()
                self.assertTrue(b"STARTTLS\r\n" in octets)
                self.assertFalse(b"MAIL FROM" in octets)
                self.assertFalse(b"@" + domain.encode() in octets)

    def held(self, domain, status):
        """The message waits, and nothing of it leaves."""
        name, queue_id = self.send("you@" + domain)
        self.assertEqual({(r["state"], r["status"]) for r in self.results(queue_id, 2)}, {("pending", status)})
        self.assertTrue(self.queued(queue_id))
        self.assertEqual(self.events(queue_id, "remote-tls"), [])
        self.assertEqual(self.arrived(name), [])
        octets = self.wire.read()
        self.assertTrue(b"EHLO" in octets)
        self.assertFalse(b"MAIL FROM" in octets)
        self.assertFalse(b"@" + domain.encode() in octets)

    def test_demands_not_met(self):
        """A key or a name that is not the right one, and a server that offers no TLS."""
        for domain, status in (("wrong.dane.example", "4.7.5"), ("silent.dane.example", "4.7.4"), ("wrong.sts.example", "4.7.5"),
                               ("silent.sts.example", "4.7.4")):
            with self.subTest(domain=domain):
                self.held(domain, status)

    def test_no_demand(self):
        """The server without TLS is as good as the other one where nothing demands it; and what is in clear is seen on the wire."""
        name, queue_id = self.send("you@clear.mta.example")
        self.arrives(name, queue_id)
        octets = self.wire.read()
        self.assertTrue(b"MAIL FROM" in octets)
        self.assertTrue(b"@clear.mta.example" in octets)


@only_root
class TestPostfix(Receivers, harness.InstanceTest):
    server_class = mta.Postfix


@only_root
class TestExim(Receivers, harness.InstanceTest):
    server_class = mta.Exim
    stages = ("", "-end")  # DATA is never said to it, which takes chunks


@only_root
class TestOpenSmtpd(Receivers, harness.InstanceTest):
    """Debian 12's offers TLS, and its part of each handshake fails, with every kind of key: it is not made for OpenSSL 3 (its issue 1171). To such
    a server mail goes in clear where nothing demands TLS, and else not at all."""
    server_class = mta.OpenSmtpd
    tls_comes_about = False

    def test_demands_met(self):
        for domain in ("good.dane.example", "good.sts.example"):
            with self.subTest(domain=domain):
                self.held(domain, "4.7.5")
