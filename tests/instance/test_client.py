"""What the DNS says of a client's address, and how much comes from it, through the real processes. Clients are told apart by their
addresses, all of 127.0.0.0/8: 127.0.0.1 has the name localhost, the others have none."""

import smtplib
import time
import unittest

import harness

MESSAGE = b"From: a@sender.test\r\nSubject: client\r\n\r\nx\r\n"


def listed(*addresses, answer="127.0.0.2"):
    return "".join("%s IN A %s\n" % (".".join(reversed(a.split("."))), answer) for a in addresses)


class ClientTest(harness.InstanceTest):
    def connect(self, source):
        s = smtplib.SMTP("127.0.0.1", self.server.ports["smtp"], local_hostname="client.example", timeout=60, source_address=(source, 0))
        s.ehlo()
        return s

    def send(self, source, message=MESSAGE, rcpt="alice@demo.test"):
        """(code, text) of the command that was refused, or of the data."""
        with self.connect(source) as s:
            for code, text in (s.mail("a@sender.test"), s.rcpt(rcpt)):
                if code != 250:
                    return code, text.decode()
            code, text = s.data(message)
            return code, text.decode()

    def newest(self):
        """(mailbox, the header) of the one message that is there; it is removed."""
        c = self.server.imap()
        try:
            for box in ("INBOX", "Junk"):
                if int(c.select(box)[1][0]) > 0:
                    header = c.fetch("1", "(BODY.PEEK[HEADER])")[1][0][1].decode()
                    c.store("1", "+FLAGS", "\\Deleted")
                    c.expunge()
                    return box, " ".join(header.split())
        finally:
            c.logout()
        self.fail("not delivered")


class TestNames(ClientTest):
    def test_iprev(self):
        """RFC 8601 2.7.3, and the name in Received."""
        self.assertEqual(self.send("127.0.0.1")[0], 250)
        header = self.newest()[1]
        self.assertIn("iprev=pass policy.iprev=127.0.0.1 (localhost)", header)
        self.assertIn("(localhost [127.0.0.1])", header)
        self.assertEqual(self.send("127.0.0.7")[0], 250)
        header = self.newest()[1]
        self.assertIn("iprev=permerror policy.iprev=127.0.0.7;", header)
        self.assertNotIn("localhost [127", header)


class TestRates(ClientTest):
    settings = {"smtp.rate_messages": "5", "smtp.rate_recipients": "4", "smtp.rate_unknown": "3"}

    def test_messages(self):
        with self.connect("127.1.0.1") as s:
            self.assertEqual([s.mail("a@sender.test")[0] if s.rset() else 0 for _ in range(6)], [250] * 5 + [450])
        # Another of that network has room, until the network has had four times as many.
        for n in (2, 3, 4):
            with self.connect("127.1.0.%d" % n) as s:
                self.assertEqual([s.mail("a@sender.test")[0] if s.rset() else 0 for _ in range(6)], [250] * 5 + [450])
        with self.connect("127.1.0.5") as s:
            code, text = s.mail("a@sender.test")
            self.assertEqual((code, text[:5]), (450, b"4.7.0"))
        self.assertEqual(self.send("127.1.1.1")[0], 250)

    def test_recipients(self):
        with self.connect("127.2.0.1") as s:
            s.mail("a@sender.test")
            self.assertEqual([s.rcpt("alice@demo.test")[0] for _ in range(5)], [250] * 4 + [450])
            self.assertEqual(s.data(MESSAGE)[0], 250)

    def test_unknown(self):
        with self.connect("127.3.0.1") as s:
            s.mail("a@sender.test")
            self.assertEqual([s.rcpt("nobody@demo.test")[0] for _ in range(3)], [550] * 3)
            code, text = s.rcpt("alice@demo.test")
            self.assertEqual((code, text[:5]), (421, b"4.7.0"))
        with self.connect("127.3.0.1") as s:
            self.assertEqual(s.mail("a@sender.test")[0], 421)
        self.assertEqual(self.send("127.3.0.2")[0], 250)


if __name__ == "__main__":
    unittest.main()
