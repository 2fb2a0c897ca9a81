"""Attacks on the whole server while honest clients are served: their latency, and the memory and the answers of every role.

A slice in `make check`; all of it by `make dos` (MAILSTEAD_DOS=all), which prints the figures too."""

import os
import re
import resource
import smtplib
import socket
import statistics
import threading
import time
import unittest

import attackers
import harness

ALL = os.environ.get("MAILSTEAD_DOS") == "all"
HARD_FILES = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
# What the machine lets a process have; the attackers and the front under attack each have as many connections.
CONNECTIONS = min(10000 if ALL else 2000, HARD_FILES - 1000)
SECONDS = 30 if ALL else 3
# An attack may make the machine itself slow, and others may; the figures printed say more than these bounds do.
SLOWER_MAX = 10
SLOWER_MS = 2000
HONEST = (b"From: honest@client.example\r\nTo: bob@demo.test\r\nSubject: honest\r\nDate: Sun, 22 Nov 2026 12:00:00 +0000\r\n\r\n"
          + b"An honest line of text.\r\n" * 100)


def memory_kb(pid):
    with open("/proc/%d/status" % pid, encoding="ascii") as f:
        return int(re.search(r"VmHWM:\s+(\d+)", f.read()).group(1))


class DosTest(harness.InstanceTest):
    """What all have: the honest clients and the bounds."""

    # Kilobytes that the greatest of a role's processes may have had at most.
    memory_max = 40 * 1024

    memory_max_of = {}

    def setUp(self):
        self.server.imap("bob").logout()  # the worker is there
        self.send_honestly()
        self.usual = self.latencies(20)
        self.before = self.server.processes()

    def send_honestly(self):
        """Milliseconds from connect to the last answer; every answer must be the good one."""
        began = time.monotonic()
        w = self.server.raw("smtp", timeout=60)
        self.assertTrue(w.reply().startswith(b"220"))
        for command, code in ((b"EHLO client.example\r\n", b"250"), (b"MAIL FROM:<honest@client.example>\r\n", b"250"),
                              (b"RCPT TO:<bob@demo.test>\r\n", b"250"), (b"DATA\r\n", b"354"), (HONEST + b".\r\n", b"250"),
                              (b"QUIT\r\n", b"221")):
            answer = w.send(command).reply()
            self.assertTrue(answer.startswith(code), (command[:40], answer))
        w.close()
        return (time.monotonic() - began) * 1000

    def latencies(self, count=1, seconds=0):
        """At least so many, for at least so long."""
        end, took = time.monotonic() + seconds, []
        while len(took) < count or time.monotonic() < end:
            took.append(self.send_honestly())
            time.sleep(0.02)
        return took

    def check(self, name, latencies):
        usual, now = statistics.median(self.usual), statistics.median(latencies)
        memory = {role: max(map(memory_kb, pids)) for role, pids in self.server.processes().items() if role != "store-keeper"}
        print("%s: %d honest messages, median %.1f ms (%.1f ms without), worst %.0f ms (%.0f); most memory of a process, MB: %s"
              % (name, len(latencies), now, usual, max(latencies), max(self.usual),
                 ", ".join("%s %.0f" % (role, kb / 1024) for role, kb in sorted(memory.items()))))
        self.assertLess(now, SLOWER_MAX * usual + SLOWER_MS, "honest clients wait")
        if not harness.INSTRUMENTED:
            for role, kb in memory.items():
                self.assertLess(kb, self.memory_max_of.get(role, self.memory_max), role)
        self.assertEqual(self.lasting(self.server.processes()), self.lasting(self.before), "a process died")

    @staticmethod
    def lasting(processes):
        """Those that do not end by themselves, as keepers and workers do, and a verifier after many messages."""
        return {role: pids for role, pids in processes.items() if not role.endswith(("-worker", "-keeper", "-verify"))}


class TestCrowds(DosTest):
    """The default places: more connections than that."""

    # A handshake that does not go on holds OpenSSL's buffers: 2000 places.
    memory_max_of = {"imapd-front": 40 * 1024 + 2000 * 50}

    def test_silent(self):
        with attackers.Attack(attackers.silent, self.server.ports["smtp"], CONNECTIONS, 40) as a:
            harness.wait_for(lambda: a.told()["opened"] >= CONNECTIONS, 60)
            self.check("%d silent connections" % CONNECTIONS, self.latencies(10, SECONDS))
            told = a.latest()
        self.assertGreater(told["ended"], 0, told)

    def test_silent_one_each(self):
        """From as many addresses as there are connections: nobody is in a crowd."""
        with attackers.Attack(attackers.silent, self.server.ports["smtp"], CONNECTIONS, 1) as a:
            harness.wait_for(lambda: a.told()["opened"] >= CONNECTIONS, 60)
            self.check("%d silent connections, each from an address of its own" % CONNECTIONS, self.latencies(10, SECONDS))

    def test_slow(self):
        with attackers.Attack(attackers.slow, self.server.ports["smtp"], CONNECTIONS, 40) as a:
            harness.wait_for(lambda: a.told()["opened"] >= CONNECTIONS, 60)
            self.check("%d senders of an octet a second" % CONNECTIONS, self.latencies(10, SECONDS))

    def test_silent_logins(self):
        """The services with a login: who is logged in stays, and others can log in."""
        idle = self.server.imap("alice")
        services = ("imaps", "pop3", "submission") if ALL else ("imaps",)
        for service in services:
            with attackers.Attack(attackers.silent, self.server.ports[service], max(CONNECTIONS, 3000), 40) as a:
                harness.wait_for(lambda a=a: a.told()["opened"] >= 3000, 60)
                took = []
                for _ in range(10):
                    began = time.monotonic()
                    if service == "imaps":
                        self.server.imap("bob").logout()
                    elif service == "pop3":
                        with self.server.raw("pop3", timeout=60) as w:
                            self.assertTrue(w.line().startswith(b"+OK"))
                    else:
                        with self.server.raw("submission", timeout=60) as w:
                            self.assertTrue(w.reply().startswith(b"220"))
                    took.append((time.monotonic() - began) * 1000)
                print("%s: median %.0f ms, worst %.0f ms" % (service, statistics.median(took), max(took)))
                self.assertLess(statistics.median(took), 5000)
        self.assertEqual(idle.noop()[0], "OK")
        idle.logout()


@unittest.skipUnless(ALL, "it takes a minute")
class TestStalling(harness.InstanceTest):
    dns_rules = [(r"silent\.example$", "drop")]

    def test_stalling(self):
        """Messages of domains whose DNS says nothing are all at work; who has few connections is not ended for them."""
        good = bad = 0
        with attackers.Attack(attackers.stalling, self.server.ports["smtp"], 700, 40) as a:
            end = time.monotonic() + 60
            while time.monotonic() < end:
                try:
                    good += self.server.deliver(HONEST, rcpt="bob", sender="honest@client.example")[0] == 250
                except (OSError, smtplib.SMTPException):
                    bad += 1
            told = a.latest()
        print("700 stalling senders: %d honest messages, %d put off; %s" % (good, bad, told))
        self.assertGreater(good, 4 * bad)


@unittest.skipUnless(HARD_FILES >= CONNECTIONS + 2000, "the machine lets a process have too few descriptors")
class TestManyPlaces(DosTest):
    """As many places as connections: all are held."""

    settings = {"smtp.connections": str(CONNECTIONS + 500)}
    memory_max_of = {"smtpd-front": 40 * 1024 + CONNECTIONS * 5}

    def test_silent(self):
        front = self.server.processes()["smtpd-front"][0]
        before = memory_kb(front)
        with attackers.Attack(attackers.silent, self.server.ports["smtp"], CONNECTIONS, 40) as a:
            harness.wait_for(lambda: a.told()["open"] >= CONNECTIONS, 60)
            self.check("%d silent connections, all of them held" % CONNECTIONS, self.latencies(10, SECONDS))
            told = a.latest()
            after = memory_kb(front)
        print("  %.1f KB for each" % ((after - before) / CONNECTIONS))
        self.assertEqual(told["ended"], 0, told)


class TestPlaces(harness.InstanceTest):
    """Who is ended when another client waits and all places are taken."""

    settings = {"smtp.connections": "12", "login.connections": "3", "policy.client_timeout": "1s"}

    def client(self, address="127.2.0.1", service="smtp", tls=False):
        s = socket.create_connection(("127.0.0.1", self.server.ports[service]), 60, source_address=(address, 0))
        if tls:
            s = harness.client_tls().wrap_socket(s)
        w = harness.Wire(s)
        self.addCleanup(w.close)
        return w

    def greeted(self, address="127.2.0.1"):
        w = self.client(address)
        self.assertTrue(w.reply().startswith(b"220"))
        return w

    def is_there(self, w):
        return w.send(b"NOOP\r\n").reply().startswith(b"250")

    def test_the_longest_silent_one(self):
        oldest = self.greeted("127.2.1.0")
        others = [self.greeted("127.2.1.%d" % n) for n in range(1, 12)]
        for w in [oldest, *others]:
            self.assertTrue(self.is_there(w))  # twelve are there at once
        # Each octet counts for a millisecond.
        oldest.send(b"NOOP " + b"x" * 3000 + b"\r\n").reply()
        self.greeted("127.2.1.20")
        self.assertRegex(others[0].reply(), rb"^421 4\.3\.2 ")
        self.assertTrue(others[0].at_end())
        for w in [oldest, *others[1:]]:
            self.assertTrue(self.is_there(w))

    def test_of_a_crowd(self):
        alone = self.greeted("127.2.2.1")
        crowd = [self.greeted("127.2.2.2") for _ in range(11)]
        time.sleep(0.5)
        self.greeted("127.2.2.3")
        self.assertRegex(crowd[0].reply(), rb"^421 4\.3\.2 ")
        self.assertTrue(self.is_there(alone))

    def test_before_login(self):
        """IMAP and POP3: who is logged in stays, however long he is silent; TLS that does not go on has no last words."""
        inside = self.server.imap("alice")
        silent = self.client("127.2.3.1", "imap")
        silent.line()
        shaking = self.client("127.2.3.2", "imaps")
        self.server.imap("bob").logout()
        self.assertRegex(silent.line(), rb"^\* BYE \[UNAVAILABLE\]")
        self.assertTrue(silent.at_end())
        more = self.client("127.2.3.3", "imap")
        more.line()
        self.server.imap("bob").logout()
        self.assertEqual(shaking.line(), b"")
        self.assertEqual(inside.noop()[0], "OK")
        inside.logout()
        pop3 = [self.client("127.2.4.%d" % n, "pop3") for n in range(4)]
        for w in pop3[1:]:
            self.assertTrue(w.line().startswith(b"+OK"))
        pop3[0].line()
        self.assertRegex(pop3[0].line(), rb"^-ERR \[SYS/TEMP\]")

    def test_all_logged_in(self):
        """Nobody may be ended: who comes waits until somebody goes."""
        inside = [self.server.imap("alice") for _ in range(3)]
        waits = self.client("127.2.5.1", "imap")
        waits.s.settimeout(1)
        self.assertRaises(TimeoutError, waits.line)
        inside[0].logout()
        waits.s.settimeout(20)
        self.assertIn(b"OK", waits.line())
        for c in inside[1:]:
            self.assertEqual(c.noop()[0], "OK")
            c.logout()


class TestSizes(DosTest):
    def test_gigabytes(self):
        # Twice the limit (chunks: kept, then refused), what is read beyond, what is thrown away while closing, what sockets hold.
        most = (2 * 25 + 64 + 16 + 20) << 20
        before = len(self.held())
        with attackers.Attack(attackers.big, self.server.ports["smtp"]) as a:
            took = self.latencies(10, SECONDS)
            told = a.told(120)
            self.check("messages of 1 GB", took)
        self.assertEqual(told["declared"], 552)
        for how in ("data", "chunk", "chunks"):
            self.assertIn(told[how]["code"], (421, 0), told)  # the last word may be lost with the connection
            self.assertLess(told[how]["sent"], most, told)
        print("  " + str(told))
        harness.wait_for(lambda: len(self.held()) <= before, 20)

    def held(self):
        """What the front has of messages: files that have no name any more."""
        directory = "/proc/%d/fd/" % self.server.processes()["smtpd-front"][0]
        links = []
        for fd in os.listdir(directory):
            try:
                links.append(os.readlink(directory + fd))
            except FileNotFoundError:
                continue  # closed since
        return [link for link in links if "(deleted)" in link]

    def test_recipients(self):
        count = 100000 if ALL else 10000
        with attackers.Attack(attackers.recipients, self.server.ports["smtp"], count) as a:
            took = self.latencies(10, SECONDS)
            told = a.told(300)
            self.check("%d recipients" % count, took)
        print("  " + str(told))
        self.assertLessEqual(told["one"].get("250", 0), 100 * told["one"]["sessions"])
        self.assertEqual(set(told["one"]) - {"sessions"}, {"250", "452"})


class TestBombs(DosTest):
    """Messages whose form is the attack. Each is answered in a bounded time, and what was taken can be read."""

    zones = {"bomb.example": "\n".join('k%d._domainkey IN TXT "v=DKIM1; p="' % n for n in range(20))}
    memory_max = 120 * 1024
    seconds_max = 60

    def send(self, octets):
        return self.server.deliver(octets, rcpt="alice", sender="bomb@bomb.example")

    BASE = b"From: bomb@bomb.example\r\nTo: alice@demo.test\r\nSubject: bomb\r\n"

    def bombs(self):
        base, n = self.BASE, 10 if ALL else 1
        signature = (b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=bomb.example; s=k%d;\r\n"
                     b"\th=from:to:subject; bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=;\r\n\tb=" + b"A" * 172 + b"\r\n")
        yield "a header line of 1 MB", base + b"X-Long: " + b"x" * 1000000 + b"\r\n\r\nx\r\n"
        yield "a folded header field of 900 KB", base + b"X-Long: x\r\n" + b"\tfolded\r\n" * 100000 + b"\r\nx\r\n"
        yield "many header fields", base + b"".join(b"X-%d: y\r\n" % i for i in range(9000 * n)) + b"\r\nx\r\n"
        yield "many Received fields", base + b"Received: by x; Sun, 22 Nov 2026 12:00:00 +0000\r\n" * 2000 * n + b"\r\nx\r\n"
        yield "many signatures", b"".join(signature % (i % 20) for i in range(500 * n)) + base + b"\r\nx\r\n"
        yield "many ARC sets", b"".join(
            b"ARC-Seal: i=%d; a=rsa-sha256; cv=pass; d=bomb.example; s=k1; b=AAAA\r\n"
            b"ARC-Message-Signature: i=%d; a=rsa-sha256; d=bomb.example; s=k1; h=from; bh=AAAA; b=AAAA\r\n"
            b"ARC-Authentication-Results: i=%d; bomb.example; none\r\n" % (i, i, i) for i in range(300 * n, 0, -1)) + base + b"\r\nx\r\n"
        yield "many Authentication-Results", b"Authentication-Results: mail.demo.test; none\r\n" * 1000 * n + base + b"\r\nx\r\n"
        yield "many addresses", base.replace(b"alice@demo.test", b",\r\n ".join(b"a%d@x.example" % i for i in range(5000 * n))) + b"\r\nx\r\n"
        yield "nested comments", base + b"Sender: " + b"(" * 50000 + b"x@y.example\r\n\r\nx\r\n"
        yield "many encoded words", base + b"Comments:" + b"\r\n =?utf-8?q?=C3=BC?=" * 5000 * n + b"\r\n\r\nx\r\n"
        yield "many References", base + b"References:" + b"".join(b"\r\n <%d@x.example>" % i for i in range(5000 * n)) + b"\r\n\r\nx\r\n"
        yield "many RFC 2231 pieces", base + b"MIME-Version: 1.0\r\nContent-Type: text/plain" + b"".join(
            b";\r\n x*%d*=%%41" % i for i in range(5000 * n)) + b"\r\n\r\nx\r\n"
        yield "many parameters", base + b"MIME-Version: 1.0\r\nContent-Type: text/plain" + b"".join(
            b";\r\n p%d=x" % i for i in range(5000 * n)) + b"\r\n\r\nx\r\n"
        yield "many parts", (base + b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" +
                             b"--b\r\n\r\n\r\n" * 20000 * n + b"--b--\r\n")
        yield "deep parts", base + b"MIME-Version: 1.0\r\n" + b"".join(
            b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (i, i) for i in range(2000 * n)) + b"\r\nx\r\n"
        yield "deep messages", base + b"MIME-Version: 1.0\r\n" + b"Content-Type: message/rfc822\r\n\r\n" * 2000 * n + b"x\r\n"
        yield "boundaries that nearly match", (
            base + b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=" + b"b" * 70 + b"\r\n\r\n" +
            (b"--" + b"b" * 69 + b"\r\n") * 20000 * n + b"\r\n")

    def explode(self):
        """Each in turn; the slowest."""
        slowest = (0.0, "")
        for name, octets in self.bombs():
            began = time.monotonic()
            code, text = self.send(octets)
            seconds = time.monotonic() - began
            print("  %-30s %9d octets: %d %s, %.2f s" % (name, len(octets), code, text.splitlines()[0][:60], seconds))
            self.assertIn(code, (250, 421, 521, 550, 552, 554), (name, text))
            self.assertLess(seconds, self.seconds_max, name)
            slowest = max(slowest, (seconds, name))
        return slowest

    def test_bombs(self):
        took, slowest, ended = [], [], threading.Event()

        def honest():
            while not ended.is_set():
                took.append(self.send_honestly())

        def attack():
            try:
                slowest.append(self.explode())
            finally:
                ended.set()
        harness.in_threads([honest, attack])
        slowest = slowest[0]
        began = time.monotonic()
        c = self.server.imap("alice")
        for box in ("INBOX", "Junk"):
            count = int(c.select(box)[1][0])
            for n in range(1, count + 1):
                status, _ = c.fetch(str(n), "(ENVELOPE BODYSTRUCTURE RFC822.SIZE)")
                self.assertEqual(status, "OK", (box, n))
            c.search(None, "TEXT", '"nothing like it"')
        c.logout()
        seconds = time.monotonic() - began
        print("  slowest: %s, %.2f s; all of them read by IMAP: %.2f s" % (slowest[1], slowest[0], seconds))
        self.assertLess(seconds, self.seconds_max)
        self.check("bombs", took)


if __name__ == "__main__":
    unittest.main()
