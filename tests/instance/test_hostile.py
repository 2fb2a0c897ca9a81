"""What a hostile or unlucky client does to a running server: each case once led, or could lead, to a lie or a stuck session."""

import base64
import glob
import json
import os
import re
import resource
import signal
import time
import unittest

import harness


class TestMailboxes(harness.InstanceTest):
    def imap(self, user="alice"):
        w = self.server.raw("imaps", tls=True, timeout=60)
        self.addCleanup(w.close)
        w.line()
        w.send("l LOGIN %s %s\r\n" % (self.server.address(user), self.server.password(user)))
        self.assertIn(b"l OK", w.until(b"l")[-1])
        return w

    def ok(self, w, text):
        lines = w.command(b"t", text)
        self.assertTrue(lines[-1].startswith(b"t OK"), lines[-1:])
        return b"".join(lines)

    def test_uidvalidity_after_rename(self):
        """A new name's UIDVALIDITY is the new one, also while somebody has the mailbox open (RFC 3501 2.3.1.1)."""
        holder, other = self.imap(), self.imap()
        for name in (b"one", b"two"):
            self.ok(other, b"CREATE " + name)
        self.ok(holder, b"SELECT one")
        self.ok(other, b"DELETE two")
        self.ok(other, b"RENAME one two")
        appended = self.ok(other, b"APPEND two {3+}\r\na\r\n")
        selected = self.ok(other, b"SELECT two")
        status = self.ok(other, b"STATUS two (UIDVALIDITY)")
        values = {re.search(rb"APPENDUID (\d+)", appended).group(1), re.search(rb"\[UIDVALIDITY (\d+)", selected).group(1),
                  re.search(rb"\(UIDVALIDITY (\d+)", status).group(1)}
        self.assertEqual(len(values), 1, values)
        self.assertIn(b"* 1 EXISTS", self.ok(holder, b"NOOP"))

    def test_below_inbox_in_any_case(self):
        """INBOX has no case, so neither has the first level of what is below it (RFC 3501 5.1)."""
        w = self.imap()
        self.ok(w, b"CREATE inbox/Letters")
        self.assertIn(b"(\\HasChildren) \"/\" INBOX\r\n", self.ok(w, b"LIST \"\" %"))
        self.assertIn(b"INBOX/Letters", self.ok(w, b"LIST \"\" INBOX/*"))
        self.ok(w, b"SELECT InBox/Letters")
        self.ok(w, b"DELETE iNBOX/Letters")

    def test_select_while_the_keeper_starts(self):
        """Who selects a mailbox while it is opened anew for another session gets it too."""
        self.server.allow("keeper|process-ended|connect|peer|edge|role-ended")
        holder, other = self.imap("bob"), self.imap("bob")
        self.ok(holder, b"SELECT INBOX")
        for _ in range(3):
            for pid in self.server.processes()["store-keeper"]:
                os.kill(pid, signal.SIGKILL)
            end = time.time() + 1.5
            while time.time() < end:
                self.assertIn(b"[UIDVALIDITY", self.ok(other, b"SELECT INBOX"))
                self.ok(other, b"UNSELECT")
        self.ok(holder, b"NOOP")

    def test_refused_append_leaves_nothing(self):
        """A message that the index refuses after it was written takes no room that no quota counts."""
        w = self.imap("bob")
        keywords = b" ".join(b"k%d" % i for i in range(100))
        text = b"Subject: x\r\n\r\n" + b"y" * 20000 + b"\r\n"
        before = self.objects()
        for _ in range(5):
            lines = w.command(b"a", b"APPEND INBOX (%s) {%d+}\r\n%s" % (keywords, len(text), text))
            self.assertIn(b"a NO [LIMIT]", lines[-1])
        self.assertEqual(self.objects(), before)
        self.ok(w, b"APPEND INBOX {%d+}\r\n%s" % (len(text), text))
        self.assertEqual(len(self.objects()), len(before) + 1)

    def objects(self):
        return [f for f in glob.glob(self.server.demo + "/**/mail/*/*", recursive=True) if os.path.isfile(f)]


class TestLogins(harness.InstanceTest):
    def test_again_after_a_failure_of_ours(self):
        """A login that failed for want of a descriptor succeeds when there is one again, on the same connection."""
        self.server.allow("attach-refused")
        login = "LOGIN %s %s" % (self.server.address("bob"), self.server.password("bob"))
        store = self.server.processes()["store-parent"][0]
        limits = resource.prlimit(store, resource.RLIMIT_NOFILE)
        w = self.server.raw("imaps", tls=True)
        self.addCleanup(w.close)
        w.line()
        used = {int(x) for x in os.listdir("/proc/%d/fd" % store)}
        free = next(i for i in range(65536) if i not in used)
        resource.prlimit(store, resource.RLIMIT_NOFILE, (free, limits[1]))
        try:
            self.assertIn(b"NO [UNAVAILABLE]", w.command(b"a", login.encode())[-1])
        finally:
            resource.prlimit(store, resource.RLIMIT_NOFILE, limits)
        self.assertIn(b"OK", w.command(b"b", login.encode())[-1])

    def test_gone_before_the_answer(self):
        """A client that leaves while it is logged in leaves no lease behind: their number is bounded for all."""
        logins = {"imaps": "a LOGIN %s %s\r\n", "pop3s": "USER %s\r\nPASS %s\r\n",
                  "submissions": "EHLO x\r\nAUTH PLAIN %s\r\n"}
        user, password = self.server.address("alice"), self.server.password("alice")
        plain = base64.b64encode(("\0%s\0%s" % (user, password)).encode()).decode()
        self.server.imap().logout()  # from now on the password is known, and an answer takes a millisecond
        for i in range(180):
            service = sorted(logins)[i % 3]
            w = self.server.raw(service, tls=True)
            w.line()
            w.send(logins[service] % ((plain,) if service == "submissions" else (user, password)))
            time.sleep(i / 3 * 0.00005)
            w.close()
        harness.wait_for(lambda: json.loads(self.server.run("status", "--json").stdout)["store"]["leases"] == 0)


if __name__ == "__main__":
    unittest.main()
