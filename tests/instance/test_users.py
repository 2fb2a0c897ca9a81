"""The server as it is installed: started as root, each role as a user of its own that may reach no more than what is its own.

It runs in a mount namespace in which /etc/passwd and /etc/group have the users of etc/mailstead.sysusers, and everything else that
it needs lies where all users may pass.
"""

import os
import re
import shutil
import signal
import smtplib
import subprocess
import tempfile
import unittest

import harness

SCRIPT = 'mount --bind "$0/passwd" /etc/passwd && mount --bind "$0/group" /etc/group && exec "$@"'
SETTINGS = """hostname = mail.example.org
state.directory = %(top)s/state
run.directory = %(top)s/run
tls.certificate = %(top)s/cert.pem
tls.key = %(top)s/key.pem
listen.address = 127.0.0.1
dns.server = "%(dns)s"
listen.smtp = %(smtp)d
listen.imaps = %(imaps)d
""" + "".join("listen.%s = 0\n" % name for name in ("submission", "submissions", "imap", "pop3", "pop3s"))


def users():
    with open(os.path.join(harness.ROOT, "etc", "mailstead.sysusers"), encoding="utf-8") as f:
        return re.findall(r"^u (\S+)", f.read(), re.M)


def add_lines(top, name, form):
    with open("/etc/" + name, encoding="utf-8") as f:
        text = f.read()
    lines = [form.format(user, 61000 + i) for i, user in enumerate(users())]
    with open(os.path.join(top, name), "w", encoding="utf-8") as f:
        f.write(text + "\n".join(lines) + "\n")


@unittest.skipUnless(os.getuid() == 0, "only root can give roles users of their own")
class TestUsers(unittest.TestCase):
    starts = 0

    def setUp(self):
        self.top = tempfile.mkdtemp(prefix="mailstead-users-")
        os.chmod(self.top, 0o755)
        self.addCleanup(shutil.rmtree, self.top)
        for name in ("bin", "libexec"):
            shutil.copytree(os.path.join(harness.BUILD, name), os.path.join(self.top, name))
        add_lines(self.top, "passwd", "{0}:x:{1}:{1}::/:/usr/sbin/nologin")
        add_lines(self.top, "group", "{0}:x:{1}:")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", self.top + "/key.pem", "-out",
                        self.top + "/cert.pem", "-days", "2", "-subj", "/CN=localhost"], check=True, capture_output=True)
        os.chmod(self.top + "/key.pem", 0o644)
        dns = harness.dnsserver.DnsServer(self.top + "/dns", {})
        self.addCleanup(dns.stop)
        offset = harness.free_offset()
        self.ports = {name: harness.BASE_PORTS[name] + offset for name in ("smtp", "imaps")}
        with open(self.top + "/mailstead.conf", "w", encoding="utf-8") as f:
            f.write(SETTINGS % dict(self.ports, top=self.top, dns=dns.address))

    def start(self):
        log = open(self.top + "/log", "ab")
        self.addCleanup(log.close)
        self.process = subprocess.Popen(["unshare", "-m", "sh", "-c", SCRIPT, self.top, self.top + "/bin/mailstead", "--config",
                                         self.top + "/mailstead.conf", "run"], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                        start_new_session=True)
        self.addCleanup(self.stop)
        self.starts += 1
        harness.wait_for(lambda: self.log().count(b"event=serving") == self.starts or self.process.poll() is not None, 20)
        self.assertIsNone(self.process.poll(), self.log().decode())

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def log(self):
        with open(self.top + "/log", "rb") as f:
            return f.read()

    def run_command(self, *args, **kw):
        return subprocess.run([self.top + "/bin/mailstead", "--config", self.top + "/mailstead.conf", *args], check=True,
                              capture_output=True, text=True, timeout=60, **kw).stdout

    def owners(self):
        """{user: programs that run as it}"""
        found = {}
        names = dict((61000 + i, user) for i, user in enumerate(users()))
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.getsid(int(pid)) == self.process.pid and int(pid) != self.process.pid:
                    uid = os.stat("/proc/" + pid).st_uid
                    with open("/proc/%s/status" % pid, encoding="ascii") as f:
                        uid = int(re.search(r"^Uid:\s+(\d+)", f.read(), re.M).group(1))
                    found.setdefault(names.get(uid, uid), set()).add(os.path.basename(os.readlink("/proc/%s/exe" % pid)))
            except OSError:
                continue
        return found

    def test_it_serves(self):
        self.start()
        self.run_command("domain", "add", "one.test")
        self.run_command("account", "add", "alice@one.test", "--password-stdin", input="correct horse\n")
        with smtplib.SMTP("127.0.0.1", self.ports["smtp"], local_hostname="client.example", timeout=30) as s:
            s.sendmail("s@client.example", ["alice@one.test"], b"From: s@client.example\r\nSubject: x\r\n\r\nbody\r\n")
        owners = self.owners()
        self.assertNotIn(0, owners)
        self.assertEqual(owners["mailstead-keeper"], {"store-keeper"})
        self.assertEqual(owners["mailstead-queue"], {"smtpd-queue"})
        self.assertGreaterEqual(len(owners), 13, owners)
        # DKIM keys are made by root, and read by the key role, to whom they belong.
        self.run_command("dkim", "create", "one.test", "--force")
        harness.wait_for(lambda: b"event=dkim-keys keys=2" in self.log())
        for path, _, names in os.walk(self.top + "/state/keys"):
            for name in [path] + [os.path.join(path, n) for n in names if n != ".lock"]:
                st = os.stat(name)
                self.assertEqual((st.st_uid, st.st_mode & 0o077), (61000 + users().index("mailstead-key"), 0), name)
        self.assertEqual(self.stop(), 0)
        self.start()
        self.assertIn("alice@one.test", self.run_command("account", "list"))
        self.assertEqual(self.stop(), 0)
        self.assertNotRegex(self.log().decode(), r"level=(error|bug)")


if __name__ == "__main__":
    unittest.main()
