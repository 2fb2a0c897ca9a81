"""Debian's mail servers as receivers: what a user submits goes from the queue to Postfix, Exim or OpenSMTPD over TLS, and on from there to a
server of ours (tests/instance/receiver.py), which must get it octet for octet but for trace fields at the top."""

import email
import json
import os
import tempfile
import unittest

import harness
import mta
import ports
import receiver
from test_senders import BODIES, without_trace

ADDRESS = "127.0.0.2"
HEADER = "From: <alice@demo.test>\nTo: you@mta.example\nSubject: %s\nDate: Sun, 22 Nov 2026 12:00:00 +0000\n" \
    "Message-ID: <%s@demo.test>\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n"

only_root = unittest.skipUnless(os.getuid() == 0, "only root can make namespaces with users of their own")


class Receivers:
    """The tests, for the classes below."""

    server_class = None
    zones = {"mta.example": "@ IN MX 10 mail\nmail IN A %s\n" % ADDRESS}

    @classmethod
    def setUpClass(cls):
        port = ports.take()
        ca, issue = receiver.authority(tempfile.mkdtemp(prefix="mailstead-mta-ca-"))
        cls.settings = {"transport.enabled": "yes", "transport.loopback": "yes", "transport.port": port, "tls.authorities": ca,
                        "queue.remote_retry": "1s"}
        behind = ports.take()
        cls.behind = receiver.Receiver("127.0.0.1", behind, offers=("8BITMIME", "PIPELINING", "SMTPUTF8"))
        # OpenSMTPD knows no other kind of key.
        cls.mta = cls.server_class(behind, (ADDRESS, port), issue("mail.mta.example", kind=["rsa:2048"]))
        try:
            super().setUpClass()
        except BaseException:
            cls.mta.close()
            raise

    @classmethod
    def tearDownClass(cls):
        cls.behind.close()
        cls.mta.close()
        super().tearDownClass()

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

    def test_octet_for_octet(self):
        for name, body in BODIES.items():
            with self.subTest(body=name):
                octets = (HEADER % (name, name) + body).encode()
                self.behind.messages = []
                queue_id = self.submit(octets, "you@mta.example")
                harness.wait_for(lambda: self.behind.messages, 30)
                (_, rcpts, got, _), = self.behind.messages
                self.assertEqual(rcpts[0].split()[0], "<you@mta.example>")
                self.compare(without_trace(got), without_trace(octets).replace(b"\n", b"\r\n"))
                result, = harness.wait_for(lambda: self.events(queue_id, "remote-result"))
                self.assertEqual((result["state"], result["mta"]), ("done", "mail.mta.example[%s]" % ADDRESS))
                # A connection that waited has told it of the message before.
                self.assertIn([t["proof"] for t in self.events(queue_id, "remote-tls")], (["ca"], []))

    def test_refused(self):
        octets = (HEADER % ("refused", "refused") + "x\n").encode()
        queue_id = self.submit(octets, "never@mta.example", "you2@mta.example")
        results = harness.wait_for(lambda: (lambda r: r if len(r) == 2 else None)(self.events(queue_id, "remote-result")))
        self.assertEqual({r["to"].split("@")[0]: r["state"] for r in results}, {"never": "failed", "you2": "done"})


@only_root
class TestPostfix(Receivers, harness.InstanceTest):
    server_class = mta.Postfix


@only_root
class TestExim(Receivers, harness.InstanceTest):
    server_class = mta.Exim


@only_root
class TestOpenSmtpd(Receivers, harness.InstanceTest):
    server_class = mta.OpenSmtpd
