"""The tree of processes: start, restart, reload, drain, and that nothing outlives the supervisor."""

import imaplib
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import tempfile
import time
import unittest

import harness
import ports


def status(server):
    return json.loads(server.run("status", "--json").stdout)


def rows(server, role):
    return [r for r in status(server)["roles"] if r["role"] == role]


class TestTree(harness.InstanceTest):
    settings = {"smtp.recipients": "150", "listen.address": "127.0.0.1 ::1"}

    def test_status(self):
        harness.wait_for(lambda: all(r["state"] == "running" for r in status(self.server)["roles"]))
        all_ = status(self.server)
        self.assertEqual(all_["state"], "running")
        names = [r["role"] for r in all_["roles"]]
        for role, count in {"recorder": 1, "directory": 1, "verifier": 2, "key": 1, "resolver": 1, "store": 1, "queue": 1, "transport": 1, "sts": 1, "sign": 1,
                            "verify": 2, "deliver": 1, "smtp-front": 1, "submission": 1, "imap-front": 1,
                            "pop3-front": 1}.items():
            self.assertEqual(names.count(role), count, role)
        self.assertTrue(all(r["pid"] > 0 and r["rss_kb"] > 0 for r in all_["roles"]))
        text = self.server.run("status").stdout
        self.assertRegex(text, r"(?m)^smtp-front +0 ")

    def test_settings_by_hand_are_kept(self):
        shown = self.server.run("config", "show").stdout
        self.assertIn("smtp.recipients = 150\n", shown)
        self.assertIn("dns.server = %s\n" % self.server.dns.address, shown)

    def test_both_internets(self):
        with socket.create_connection(("::1", self.server.ports["smtp"]), timeout=10) as s:
            self.assertTrue(s.recv(100).startswith(b"220 "))
        with socket.create_connection(("127.0.0.1", self.server.ports["smtp"]), timeout=10) as s:
            self.assertTrue(s.recv(100).startswith(b"220 "))

    def test_sandboxed(self):
        if harness.INSTRUMENTED:
            self.skipTest("no seccomp in an instrumented build")
        for pids in self.server.processes().values():
            for pid in pids:
                with open("/proc/%d/status" % pid, encoding="ascii") as f:
                    text = f.read()
                self.assertRegex(text, r"(?m)^Seccomp:\t2$")
                self.assertRegex(text, r"(?m)^NoNewPrivs:\t1$")

    def test_files_are_private(self):
        for name, mode in {"passwords": 0o600, "tls/key.pem": 0o600, "state": 0o700, "run/supervisor": 0o600,
                           "run/directory": 0o600}.items():
            self.assertEqual(os.stat(os.path.join(self.server.demo, name)).st_mode & 0o777, mode, name)

    def test_reload(self):
        path = self.server.demo + "/mailstead.conf"
        with open(path, encoding="utf-8") as f:
            before = f.read()
        try:
            with open(path, "a", encoding="utf-8") as f:
                f.write("smtp.recipients = 160\nlisten.smtp = 1\n")
            done = self.server.run("reload")
            self.assertIn("a restart is needed for listen.smtp", done.stdout)
            with open(path, "a", encoding="utf-8") as f:
                f.write("smtp.recipients = many\n")
            self.server.allow("event=reload-refused")
            done = self.server.run("reload", check=False)
            self.assertEqual(done.returncode, 1)
            self.assertRegex(done.stderr, r"mailstead.conf:\d+: smtp.recipients takes a whole number, from 100 to 10000")
            # What is there cannot be read: the server goes on.
            os.rename(path, path + ".aside")
            os.mkdir(path)
            self.server.process.send_signal(signal.SIGHUP)
            harness.wait_for(lambda: "mailstead.conf: Is a directory" in self.server.log())
            self.assertIsNone(self.server.process.poll())
        finally:
            if os.path.isdir(path):
                os.rmdir(path)
            with open(path, "w", encoding="utf-8") as f:
                f.write(before)
        self.server.process.send_signal(signal.SIGHUP)
        harness.wait_for(lambda: self.server.log().count("event=reloaded") >= 2)

    def test_second_supervisor_is_refused(self):
        done = subprocess.run([harness.MAILSTEAD, "--config", self.server.demo + "/mailstead.conf", "run"],
                              capture_output=True, text=True, timeout=30)
        self.assertEqual(done.returncode, 1)
        self.assertIn("another mailstead runs on", done.stderr)
        self.assertEqual(status(self.server)["state"], "running")

    def test_an_edge_is_replaced_on_both_sides(self):
        """A directory that died is found again by its old peers, whether it or they are asked first."""
        self.server.allow(r"level=(warn|error)")
        for role in ("directory", "verifier", "key", "smtp-front"):
            old = rows(self.server, role)[0]
            os.kill(old["pid"], signal.SIGKILL)
            harness.wait_for(lambda: rows(self.server, role)[0]["state"] == "running" and
                             rows(self.server, role)[0]["pid"] != old["pid"])
            self.assertEqual(rows(self.server, role)[0]["restarts"], old["restarts"] + 1)
            with self.server.imap() as c:
                self.assertEqual(c.noop()[0], "OK")

    def test_connections_wait_for_a_new_front(self):
        """The listening socket outlives the front: nobody is refused meanwhile."""
        self.server.allow(r"level=(warn|error)")
        pid = rows(self.server, "smtp-front")[0]["pid"]
        os.kill(pid, signal.SIGSTOP)
        with socket.create_connection(("127.0.0.1", self.server.ports["smtp"]), timeout=10) as s:
            os.kill(pid, signal.SIGKILL)
            self.assertTrue(s.recv(100).startswith(b"220 "))


class TestEnds(unittest.TestCase):
    def setUp(self):
        self.server = harness.Server()

    def tearDown(self):
        self.server.close()

    def test_second_start_reuses_all(self):
        with open(self.server.demo + "/passwords", encoding="utf-8") as f:
            first = f.read()
        with open(self.server.demo + "/tls/cert.pem", encoding="utf-8") as f:
            certificate = f.read()
        self.assertEqual(self.server.stop(), [])
        self.server.start()
        with open(self.server.demo + "/passwords", encoding="utf-8") as f:
            self.assertEqual(f.read(), first)
        with open(self.server.demo + "/tls/cert.pem", encoding="utf-8") as f:
            self.assertEqual(f.read(), certificate)
        self.assertEqual(len(json.loads(self.server.run("account", "list", "--json").stdout)), 2)
        self.assertEqual(self.server.stop(), [])

    def test_nothing_outlives_the_supervisor(self):
        pids = [r["pid"] for r in status(self.server)["roles"]]
        self.server.process.kill()
        self.server.process.wait()
        harness.wait_for(lambda: not any(alive(p) for p in pids), 5)

    def test_sigterm_ends_quickly_and_cleanly(self):
        began = time.time()
        self.assertEqual(self.server.stop(), [])
        self.assertLess(time.time() - began, 30 if harness.INSTRUMENTED else 5)
        self.assertEqual(self.server.run("status", check=False).returncode, 3)

    def test_a_new_store_keeps_what_it_has_started(self):
        """The keepers and workers of a store that died are ended, and those alone."""
        server = harness.Server()
        server.allow(r"level=(warn|error)")
        self.addCleanup(lambda: self.assertEqual(server.close(), []))
        before = server.imap("alice")
        before.select("INBOX")
        old = set(server.processes()["imapd-worker"] + server.processes()["store-keeper"])
        os.kill(server.processes()["store-parent"][0], signal.SIGKILL)

        def again():
            try:
                c = server.imap("bob")
                return c if c.select("INBOX")[0] == "OK" else None
            except (imaplib.IMAP4.error, OSError):
                return None

        c = harness.wait_for(again)
        new = set(server.processes()["imapd-worker"] + server.processes()["store-keeper"]) - old
        time.sleep(1)
        left = set(pid for pids in server.processes().values() for pid in pids)
        self.assertTrue(new <= left and not old & left)
        self.assertEqual(c.append("INBOX", None, None, b"Subject: x\r\n\r\nx\r\n")[0], "OK")
        c.logout()

    def test_a_role_that_keeps_dying_is_restarted_with_pauses(self):
        killed = []
        for _ in range(3):
            pid = harness.wait_for(lambda: [r["pid"] for r in rows(self.server, "resolver")
                                            if r["state"] == "running" and r["pid"] not in killed])[0]
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
        harness.wait_for(lambda: re.search(r"event=restart-later name=resolver pause_ms=[12]000", self.server.log()))
        harness.wait_for(lambda: rows(self.server, "resolver")[0]["state"] == "running")


class TestSystemd(unittest.TestCase):
    def test_notify(self):
        """READY, RELOADING and STOPPING reach the socket that systemd names. (The DNS server of the test says READY there too.)"""
        def told(what):
            text = s.recv(1000)
            while b"MONOTONIC_USEC=" not in text:
                text = s.recv(1000)
            self.assertTrue(text.startswith(what + b"\n"), text)

        with tempfile.TemporaryDirectory() as d, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.bind(d + "/notify")
            s.settimeout(harness.START_SECONDS_MAX)
            os.environ["NOTIFY_SOCKET"] = d + "/notify"
            try:
                server = harness.Server()
            finally:
                del os.environ["NOTIFY_SOCKET"]
            try:
                told(b"READY=1")
                server.run("reload")
                told(b"RELOADING=1")
                told(b"READY=1")
                self.assertEqual(server.stop(), [])
                told(b"STOPPING=1")
            finally:
                server.close()


class TestRenewal(harness.InstanceTest):
    clients = 50
    messages_each = 80

    @classmethod
    def setUpClass(cls):
        cls.port = ports.take()
        cls.settings = {"lmtp.listen": "127.0.0.1@%d" % cls.port, "smtp.connections_per_address": str(cls.clients)}
        super().setUpClass()

    def client(self, number):
        """All at once (RFC 3030 4.2), so that the server never waits for the client."""
        message = b"From: sender@example.org\r\nSubject: %d\r\n\r\n.\r\n" % number
        transaction = b"MAIL FROM:<sender@example.org>\r\nRCPT TO:<%s>\r\nBDAT %d LAST\r\n%s" % (
            self.server.address("alice").encode(), len(message), message)
        with harness.Wire(socket.create_connection(("127.0.0.1", self.port), timeout=60)) as w:
            w.reply()
            w.send(b"LHLO client.example\r\n").reply()
            w.send(transaction * self.messages_each)
            for _ in range(3 * self.messages_each):
                self.assertEqual(w.reply()[:3], b"250")

    def test_a_process_is_renewed_and_no_message_notices(self):
        """verify ends after 1,000 messages; the next ones may be on their way to it already."""
        before = {r["pid"] for r in rows(self.server, "verify")}
        harness.in_threads([lambda n=n: self.client(n) for n in range(self.clients)])
        harness.wait_for(lambda: len(rows(self.server, "verify")) == 2)
        self.assertFalse(before & {r["pid"] for r in rows(self.server, "verify")})
        self.assertNotIn("event=verify-lost", self.server.log())


class TestRefusals(unittest.TestCase):
    def run_command(self, *args):
        return subprocess.run([harness.MAILSTEAD, *args], capture_output=True, text=True, timeout=30)

    def test_exit_statuses(self):
        self.assertEqual(self.run_command().returncode, 2)
        self.assertEqual(self.run_command("nonsense").returncode, 2)
        self.assertEqual(self.run_command("run", "--demo").returncode, 2)
        self.assertEqual(self.run_command("run", "--demo", "/tmp/x", "--port-offset", "x").returncode, 2)
        self.assertEqual(self.run_command("--config", "/nonexistent/x.conf", "status").returncode, 1)
        self.assertEqual(self.run_command("--help").returncode, 0)
        for command in re.findall(r"(?m)^  ([a-z]+(?: [a-z]+)?)  ", self.run_command("--help").stdout):
            done = self.run_command(*command.split(), "--help")
            self.assertEqual(done.returncode, 0)
            self.assertIn("Usage: mailstead", done.stdout)

    def test_roles_do_not_start_alone(self):
        done = subprocess.run([os.path.join(harness.BUILD, "libexec", "authd-key")], capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=30)
        self.assertEqual(done.returncode, 2)
        self.assertIn("mailstead run", done.stderr)


class TestTerminal(unittest.TestCase):
    def test_a_closed_terminal_ends_a_demo(self):
        """SIGHUP from a terminal that is gone is no reload: nobody could end such a server."""
        with tempfile.TemporaryDirectory(prefix="ms-tty-") as place:
            pid, terminal = pty.fork()
            if pid == 0:
                os.execv(harness.MAILSTEAD, [harness.MAILSTEAD, "run", "--demo", place + "/d", "--port-offset",
                                             str(harness.free_offset())])
            printed = b""
            while b"Admin:" not in printed:
                self.assertTrue(select.select([terminal], [], [], harness.START_SECONDS_MAX)[0], printed)
                printed += os.read(terminal, 65536)
            os.kill(pid, signal.SIGHUP)
            while b"event=reloaded" not in printed:
                self.assertTrue(select.select([terminal], [], [], 10)[0], printed)
                printed += os.read(terminal, 65536)
            os.close(terminal)
            ended = []
            try:
                harness.wait_for(lambda: ended.append(os.waitpid(pid, os.WNOHANG)) or ended[-1][0] == pid)
            finally:
                if ended[-1][0] != pid:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
            self.assertEqual(os.waitstatus_to_exitcode(ended[-1][1]), 0)


def alive(pid):
    try:
        with open("/proc/%d/stat" % pid, encoding="ascii") as f:
            return f.read().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


if __name__ == "__main__":
    unittest.main()
