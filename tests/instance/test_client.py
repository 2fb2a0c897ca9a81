"""What the DNS says of a client's address, and how much comes from it, through the real processes. Clients are told apart by their
addresses, all of 127.0.0.0/8: 127.0.0.1 has the name localhost, the others have none."""

import signal
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


class TestLists(ClientTest):
    """Weights: 2 when nothing is said; 1 is Junk, 2 is refused, what good lists weigh is taken away."""
    zones = {
        "bl.test": listed("127.9.0.1", "127.9.0.5") + listed("127.9.0.2", answer="127.0.0.9") + listed("127.9.0.3", answer="127.255.255.254") +
        listed("127.9.0.4", answer="192.0.2.1"),
        "soft.test": listed("127.9.0.6", "127.9.0.7"),
        "soft2.test": listed("127.9.0.7"),
        "slow.test": "",
        "wl.test": listed("127.9.0.5", answer="127.0.10.3"),
    }
    dns_rules = [(r"\.slow\.test$", "drop")]
    settings = {"policy.dnsbl": "bl.test=2-8 soft.test:1 soft2.test:1 slow.test", "policy.dnswl": "wl.test=3:2", "policy.client_timeout": "400ms",
                "dns.timeout": "3s"}

    def test_lists(self):
        rows = [("127.9.0.1", 550, None), ("127.9.0.2", 250, "INBOX"), ("127.9.0.3", 250, "INBOX"), ("127.9.0.4", 250, "INBOX"),
                ("127.9.0.5", 250, "INBOX"), ("127.9.0.6", 250, "Junk"), ("127.9.0.7", 550, None)]
        for source, code, box in rows:
            got, text = self.send(source)
            self.assertEqual(got, code, (source, text))
            if box:
                self.assertEqual(self.newest()[0], box, source)
        self.assertEqual(self.send("127.9.0.7")[1], "5.7.1 The address of your server is on a block list: soft.test soft2.test")

    def test_postmaster_stays_reachable(self):
        self.assertEqual(self.send("127.9.0.1", rcpt="postmaster@demo.test")[0], 250)

    def test_recorded(self):
        """Who asks sees the lists, the row that decided, and what it was decided from."""
        self.send("127.9.0.7")
        text = harness.wait_for(lambda: self.told("soft2.test"))
        for word in ("rule=dnsbl-refuse", "black=2", "from_fields=1", "dnsbl_refuse=2"):
            self.assertIn(word, text.replace('"', ""))

    def told(self, word):
        out = self.server.run("explain", "a@sender.test", check=False).stdout
        return out if word in out and "dnsbl-refuse" in out else ""


class TestTime(ClientTest):
    zones = {"slow.test": ""}
    dns_rules = [(r"\.slow\.test$", "drop")]
    settings = {"policy.dnsbl": "slow.test", "policy.client_timeout": "4s", "dns.timeout": "9s"}

    def test_time(self):
        """A list that does not answer costs a message its time from connect, once."""
        with self.connect("127.9.0.9") as s:
            time.sleep(4.1)
            began = time.time()
            s.mail("a@sender.test")
            s.rcpt("bob@demo.test")
            self.assertEqual(s.data(MESSAGE)[0], 250)
            self.assertLess(time.time() - began, 3.8)


class TestDrain(ClientTest):
    zones = {"slow.test": ""}
    dns_rules = [(r"\.slow\.test$", "drop")]
    settings = {"policy.dnsbl": "slow.test", "policy.client_timeout": "3s", "dns.timeout": "9s"}

    def test_end_while_a_message_waits(self):
        """The server ends while a complete message waits for a list: 421, and nothing is taken."""
        w = self.server.raw("smtp")
        w.line()
        for command in ("EHLO client.example", "MAIL FROM:<a@sender.test>", "RCPT TO:<bob@demo.test>", "DATA"):
            w.send(command + "\r\n")
            while w.line()[3:4] == b"-":
                pass
        w.send(MESSAGE + b".\r\n")
        time.sleep(0.3)
        self.server.process.send_signal(signal.SIGTERM)
        self.assertEqual(w.line()[:4], b"421 ")
        self.server.process.wait(harness.STOP_SECONDS_MAX)


class TestHelo(ClientTest):
    def test_our_own_name(self):
        for source, code in (("127.4.0.1", 550), ("127.0.0.1", 250)):
            with smtplib.SMTP("127.0.0.1", self.server.ports["smtp"], local_hostname="MAIL.demo.test", timeout=60, source_address=(source, 0)) as s:
                s.ehlo()
                s.mail("a@sender.test")
                s.rcpt("bob@demo.test")
                got, text = s.data(MESSAGE)
                self.assertEqual(got, code, text)


class TestForm(ClientTest):
    settings = {"policy.iprev_junk": "yes"}

    def test_broken_header(self):
        self.assertEqual(self.send("127.0.0.1", b"From: a@sender.test\r\nthis is no field\r\nSubject: x\r\n\r\nx\r\n")[0], 250)
        self.assertEqual(self.newest()[0], "Junk")

    def test_nameless(self):
        self.assertEqual(self.send("127.5.0.1")[0], 250)
        self.assertEqual(self.newest()[0], "Junk")
        self.assertEqual(self.send("127.0.0.1")[0], 250)
        self.assertEqual(self.newest()[0], "INBOX")


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
