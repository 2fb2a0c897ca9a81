"""Whole servers for tests: a temporary directory, free ports, a real DNS server, start, run, stop, and the checks at the end.

    class TestX(harness.InstanceTest):
        zones = {"example.test": '@ IN TXT "v=spf1 -all"'}
        def test_y(self):
            with self.server.smtp() as s: ...

Environment: MAILSTEAD_BUILD (build directory, default build), MAILSTEAD_CORPUS (default ../shared/corpus), MAILSTEAD_KEEP=1 keeps the
directories.
"""

import ctypes
import glob
import imaplib
import os
import poplib
import pty
import re
import shutil
import signal
import smtplib
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import dnsserver  # noqa: E402
import ports  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.abspath(os.environ.get("MAILSTEAD_BUILD", os.path.join(ROOT, "build")))
CORPUS = os.path.abspath(os.environ.get("MAILSTEAD_CORPUS", os.path.join(ROOT, "..", "shared", "corpus")))
MAILSTEAD = os.path.join(BUILD, "bin", "mailstead")
INSTRUMENTED = os.environ.get("MAILSTEAD_INSTRUMENTED") == "1"
BASE_PORTS = {"smtp": 2525, "submission": 2587, "submissions": 2465, "imap": 2143, "imaps": 2993,
              "pop3": 2110, "pop3s": 2995}
DOMAIN = "demo.test"
START_SECONDS_MAX = 60 if INSTRUMENTED else 20
STOP_SECONDS_MAX = 40 if INSTRUMENTED else 20
CLONE_NEWNET = 0x40000000


def free_offset():
    """A port offset with which all ports of a demo instance are free, and stay ours until this process ends."""
    return ports.take_offset(tuple(BASE_PORTS.values()))


def client_tls():
    """It reads no certificates, since nothing is checked against them: that takes longer than a login."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def own_network(*addresses):
    """From now on this thread, and what it starts, have a network of their own: loopback, with these addresses besides. Needs root."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    for command in ("link set lo up", *("address add %s/32 dev lo" % a for a in addresses)):
        subprocess.run(["ip", *command.split()], check=True)


class Server:
    """One running Mailstead in demo mode. settings: {"name": "value"} for its mailstead.conf."""

    def __init__(self, zones=None, settings=None, dns_rules=None, directory=None):
        self.directory = directory or tempfile.mkdtemp(prefix="mailstead-test-")
        self.dns = dnsserver.DnsServer(self.directory + "/dns", zones or {})
        self.proxy = dnsserver.FaultProxy(self.dns.port, dns_rules) if dns_rules else None
        self.demo = self.directory + "/demo"
        self.log_path = self.directory + "/log"
        self.allowed = []
        self.offset = free_offset()
        self.ports = {name: port + self.offset for name, port in BASE_PORTS.items()}
        os.makedirs(self.demo, exist_ok=True)
        self.settings = {"dns.server": (self.proxy or self.dns).address}
        self.settings.update(settings or {})
        with open(self.demo + "/mailstead.conf", "w", encoding="utf-8") as f:
            for name, value in self.settings.items():
                f.write("%s = %s\n" % (name, value if re.fullmatch(r"[\w.@:/-]+", str(value)) else '"%s"' % value))
        self.process = None
        self.start()

    # The life of the server.

    def start(self):
        with open(self.log_path, "ab") as log:
            log_start = log.tell()
            self.process = subprocess.Popen(
                [MAILSTEAD, "run", "--demo", self.demo, "--port-offset", str(self.offset)], stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True)
        deadline = time.time() + START_SECONDS_MAX
        while not self._ready(log_start):
            if self.process.poll() is not None or time.time() > deadline:
                raise RuntimeError("the server did not start:\n" + self.log()[-6000:])
            time.sleep(0.02)
        with open(self.demo + "/passwords", encoding="utf-8") as f:
            self.passwords = dict(line.split() for line in f if line.strip() and not line.startswith("#"))

    def _ready(self, log_start):
        """The server prints how to connect once it is ready; the line has the IMAPS port."""
        with open(self.log_path, "rb") as f:
            f.seek(log_start)
            return b"is ready" in f.read() and os.path.exists(self.demo + "/passwords")

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def allow(self, pattern):
        """Announces a warning or error line that the test provokes."""
        self.allowed.append(re.compile(pattern))

    def processes(self):
        """{role name: [pid, ...]} of the running tree."""
        found = {}
        for path in glob.glob("/proc/[0-9]*/stat"):
            try:
                pid = int(path.split("/")[2])
                if os.getsid(pid) != self.process.pid or pid == self.process.pid:
                    continue
                program = os.path.basename(os.readlink("/proc/%d/exe" % pid).removesuffix(" (deleted)"))
                found.setdefault(program, []).append(pid)
            except (OSError, ValueError):
                continue
        return found

    def stop(self):
        """Stops it and returns a list of what was wrong."""
        wrong = []
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                wrong.append("it did not stop within %d s" % STOP_SECONDS_MAX)
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        if self.process.returncode != 0:
            wrong.append("exit status %d" % self.process.returncode)
        left = self.processes()
        if left:
            wrong.append("processes left behind: %r" % left)
            for pids in left.values():
                for pid in pids:
                    os.kill(pid, signal.SIGKILL)
        for line in self.log().splitlines():
            bad = re.search(r"\blevel=(warn|error|bug)\b", line) or "AddressSanitizer" in line \
                or "runtime error:" in line or "LeakSanitizer" in line or "Assertion" in line
            if bad and not any(a.search(line) for a in self.allowed):
                wrong.append("unexpected log line: " + line[:500])
        return wrong

    def close(self):
        wrong = self.stop() if self.process else []
        if self.proxy:
            self.proxy.stop()
        self.dns.stop()
        if not os.environ.get("MAILSTEAD_KEEP"):
            shutil.rmtree(self.directory, ignore_errors=True)
        return wrong

    # The command.

    def run(self, *args, stdin=None, check=True):
        """mailstead --config ... args; the CompletedProcess with text output."""
        done = subprocess.run([MAILSTEAD, "--config", self.demo + "/mailstead.conf", *args], input=stdin,
                              capture_output=True, text=True, timeout=60)
        if check and done.returncode != 0:
            raise AssertionError("mailstead %s: exit %d\n%s%s" % (" ".join(args), done.returncode, done.stdout, done.stderr))
        return done

    def run_on_terminal(self, *args):
        """The same where stderr is a terminal: (status, text of stdout, octets that the terminal got)."""
        ours, theirs = pty.openpty()
        command = [MAILSTEAD, "--config", self.demo + "/mailstead.conf", *args]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, text=True, timeout=60)
        os.close(theirs)
        shown = b""
        try:
            while True:  # a read gives no more than one write
                shown += os.read(ours, 65536)
        except OSError:
            os.close(ours)
        return done.returncode, done.stdout, shown

    def queued(self, queue_id):
        """The text of a message that waits in the queue, from its file (smtpd/queue_files.h)."""
        where = self.demo + "/state/queue/messages/"
        if os.path.exists(where + queue_id + ".msg"):
            with open(where + queue_id + ".msg", "rb") as f:
                return f.read()
        for name in os.listdir(where):
            with open(where + name, "rb") as f:
                octets = f.read()
            batch = 0
            while octets[batch:batch + 8] == b"MSQBATC1":
                count, length = struct.unpack(">II", octets[batch + 8:batch + 16])
                for i in range(count):
                    row = octets[batch + 20 + 33 * i:batch + 20 + 33 * (i + 1)]
                    if row[5:21] == queue_id.encode() and row[0] == 1:
                        at, meta, text = struct.unpack(">III", row[21:])
                        return octets[at + meta:at + meta + text]
                batch += length
        raise AssertionError("no message %s in %s" % (queue_id, where))

    # Clients.

    def address(self, user):
        return user if "@" in user else user + "@" + DOMAIN

    def password(self, user):
        return self.passwords[self.address(user)]

    def smtp(self, **kw):
        return smtplib.SMTP("127.0.0.1", self.ports["smtp"], local_hostname="client.example", timeout=60, **kw)

    def submission(self, user="alice"):
        s = smtplib.SMTP_SSL("127.0.0.1", self.ports["submissions"], local_hostname="client.example", timeout=60,
                             context=client_tls())
        if user:
            s.login(self.address(user), self.password(user))
        return s

    def imap(self, user="alice", cls=imaplib.IMAP4_SSL, utf8=False):
        """utf8: with UTF8=ACCEPT, which shows every message octet for octet."""
        c = cls("127.0.0.1", self.ports["imaps"], ssl_context=client_tls(), timeout=60)
        if user:
            c.login(self.address(user), self.password(user))
        if utf8:
            c.enable("UTF8=ACCEPT")
            c.utf8_enabled = False  # imaplib's append() would put the words of the extension into the message
        return c

    def pop3(self, user="alice"):
        c = poplib.POP3_SSL("127.0.0.1", self.ports["pop3s"], timeout=60, context=client_tls())
        if user:
            c.user(self.address(user))
            c.pass_(self.password(user))
        return c

    def raw(self, service, tls=False, timeout=20):
        """A Wire to a port, in clear or over TLS."""
        s = socket.create_connection(("127.0.0.1", self.ports[service]), timeout=timeout)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            s = client_tls().wrap_socket(s, server_hostname="localhost")
        return Wire(s)

    def deliver(self, message, rcpt="alice", sender="sender@example.org"):
        """Sends one message over port 25 and returns the reply's text."""
        with self.smtp() as s:
            s.ehlo()
            code, text = s.mail(sender)
            if code == 250:
                code, text = s.rcpt(self.address(rcpt))
            if code == 250:
                code, text = s.data(message)
            return code, text.decode("utf-8", "replace")


class Wire:
    """A client by octets."""

    def __init__(self, s):
        self.s = s
        self.buffer = b""

    def send(self, data):
        self.s.sendall(data if isinstance(data, bytes) else data.encode())
        return self

    def send_slowly(self, data):
        for i in range(len(data)):
            self.s.sendall(data[i:i + 1])
        return self

    def line(self):
        while b"\n" not in self.buffer:
            more = self.s.recv(65536)
            if not more:
                left, self.buffer = self.buffer, b""
                return left
            self.buffer += more
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line + b"\n"

    def read(self, n):
        while len(self.buffer) < n:
            more = self.s.recv(65536)
            if not more:
                break
            self.buffer += more
        data, self.buffer = self.buffer[:n], self.buffer[n:]
        return data

    def reply(self):
        """One SMTP reply, all its lines."""
        lines = [self.line()]
        while lines[-1][3:4] == b"-":
            lines.append(self.line())
        return b"".join(lines)

    def until(self, tag):
        """IMAP lines up to the tagged one; literals are joined in."""
        lines = []
        while True:
            line = self.line()
            if not line:
                return lines
            while True:
                literal = re.search(rb"\{(\d+)\}\r\n$", line)
                if not literal:
                    break
                line += self.read(int(literal.group(1))) + self.line()
            lines.append(line)
            if line.startswith(tag + b" ") or line.startswith(b"+ "):
                return lines

    def command(self, tag, text):
        self.send(tag + b" " + text + b"\r\n")
        return self.until(tag)

    def starttls(self):
        assert not self.buffer
        self.s = client_tls().wrap_socket(self.s, server_hostname="localhost")
        return self

    def at_end(self, timeout=10):
        """True when the server closes within the time."""
        self.s.settimeout(timeout)
        try:
            while True:
                data = self.s.recv(65536)
                if not data:
                    return True
                self.buffer += data
        except socket.timeout:
            return False
        except OSError:
            return True

    def close(self):
        self.s.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


class InstanceTest(unittest.TestCase):
    """One server per class."""

    zones = {}
    settings = {}
    dns_rules = None

    @classmethod
    def setUpClass(cls):
        cls.server = Server(cls.zones, cls.settings, cls.dns_rules)

    @classmethod
    def tearDownClass(cls):
        wrong = cls.server.close()
        if wrong:
            raise AssertionError("at the end of %s:\n%s" % (cls.__name__, "\n".join(wrong)))


def corpus(kind):
    """Paths of the corpus, sorted; it must be there."""
    paths = sorted(p for p in glob.glob(os.path.join(CORPUS, kind, "**"), recursive=True) if os.path.isfile(p))
    if not paths:
        raise AssertionError("the corpus is not at %s (MAILSTEAD_CORPUS)" % CORPUS)
    return paths


def talk_early(connect, octets):
    """Speaks before the greeting; the connection, and what it is told. On a busy machine the octets may come behind the greeting:
    then another connection tries it."""
    for _ in range(50):
        w = connect()
        w.send(octets)
        line = w.line()
        if not line.startswith(b"220"):
            return w, line
        w.close()
    raise AssertionError("the greeting came first each time")


def wait_for(condition, seconds=10, step=0.02):
    deadline = time.time() + seconds
    while time.time() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(step)
    raise AssertionError("waited %s s in vain" % seconds)


def in_threads(functions):
    """Runs them all at once and raises the first error."""
    errors = []

    def guard(f):
        try:
            f()
        except BaseException as e:  # reported to the caller below
            errors.append(e)

    threads = [threading.Thread(target=guard, args=(f,)) for f in functions]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if errors:
        raise errors[0]


def each_in_threads(items, workers, fn):
    """fn of each item, so many of them at once; raises the first error."""
    waiting = list(items)

    def work():
        while True:
            try:
                item = waiting.pop()
            except IndexError:
                return
            fn(item)

    in_threads([work] * min(workers, len(waiting)))
