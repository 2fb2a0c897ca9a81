#!/usr/bin/python3
"""Mailstead beside Debian's Postfix + Dovecot, set up by this script on the same disk, in one run: delivery, reading, memory.

Every figure is printed for both with their ratio; the limit of the disk (synced writes a second) is measured in the same run. Needs root, as
Postfix and Dovecot do. Postfix + Dovecot run as packaged (sdbox, LMTP), without SPF, DKIM and DMARC checks: Mailstead makes them for every message.
"""

import glob
import os
import re
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "instance"))
import harness  # noqa: E402
import ports  # noqa: E402

MESSAGES = int(os.environ.get("BENCH_MESSAGES", "2000"))
SESSIONS = int(os.environ.get("BENCH_SESSIONS", "20"))
BYTES = int(os.environ.get("BENCH_BYTES", "4096"))
IDLERS = int(os.environ.get("BENCH_IDLERS", "50"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))


class Rival:
    """Postfix and Dovecot in a directory of their own, or Dovecot alone."""

    name = "Postfix + Dovecot"

    def __init__(self, postfix=True):
        self.directory = tempfile.mkdtemp(prefix="bench-rival-", dir="/var/tmp")
        os.chmod(self.directory, 0o755)
        self.smtp_port = ports.take((socket.SOCK_STREAM,))
        self.imaps_port = ports.take((socket.SOCK_STREAM,))
        self.rcpt, self.login, self.password = "alice@demo.test", "alice@demo.test", "secret"
        self.with_postfix = postfix
        self.dovecot()
        if postfix:
            self.postfix()
        harness.wait_for(lambda: (not postfix or self.answers(self.smtp_port)) and self.answers(self.imaps_port), 30)

    @staticmethod
    def answers(port):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        except OSError:
            return False

    def dovecot(self):
        d = self.directory
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout",
                        d + "/key.pem", "-out", d + "/cert.pem", "-subj", "/CN=bench", "-days", "2"], check=True, capture_output=True)
        os.makedirs(d + "/run", mode=0o755)
        os.makedirs(d + "/mail")
        shutil.chown(d + "/mail", "mail", "mail")
        conf = """
base_dir = %(d)s/run
log_path = %(d)s/dovecot.log
protocols = imap lmtp
listen = 127.0.0.1
ssl = yes
ssl_cert = <%(d)s/cert.pem
ssl_key = <%(d)s/key.pem
mail_location = sdbox:%(d)s/mail/%%u
mail_uid = mail
mail_gid = mail
first_valid_uid = 1
auth_username_format = %%Lu
passdb {
  driver = static
  args = password=secret
}
userdb {
  driver = static
  args = uid=mail gid=mail home=%(d)s/mail/%%u allow_all_users=yes
}
service imap-login {
  inet_listener imap {
    port = 0
  }
  inet_listener imaps {
    port = %(port)d
    ssl = yes
  }
  process_limit = 300
}
service auth {
  client_limit = 3000
}
service anvil {
  client_limit = 3000
}
service imap {
  process_limit = 1000
}
service lmtp {
  unix_listener lmtp {
    mode = 0666
  }
}
mail_max_userip_connections = 1000
""" % {"d": d, "port": self.imaps_port}
        with open(d + "/dovecot.conf", "w", encoding="ascii") as f:
            f.write(conf)
        subprocess.run(["dovecot", "-c", d + "/dovecot.conf"], check=True, stderr=subprocess.DEVNULL)

    # A subclass changes them.

    @staticmethod
    def main_cf(text):
        return text

    @staticmethod
    def master_cf(text):
        return text

    def postfix(self):
        d = self.directory
        for sub in ("conf", "queue", "data"):
            os.makedirs(d + "/" + sub)
        shutil.chown(d + "/data", "postfix", "postfix")
        shutil.copy("/etc/postfix/master.cf", d + "/conf/master.cf") if os.path.exists("/etc/postfix/master.cf") else \
            shutil.copy("/usr/share/postfix/master.cf.dist", d + "/conf/master.cf")
        with open(d + "/conf/master.cf", encoding="ascii") as f:
            master = f.read()
        master = re.sub(r"^smtp +inet.*$", "127.0.0.1:%d inet n - n - - smtpd" % self.smtp_port, master, flags=re.M)
        master = re.sub(r"^(\S+ +\S+ +\S+ +\S+ +)y( )", r"\1n\2", master, flags=re.M)
        with open(d + "/conf/master.cf", "w", encoding="ascii") as f:
            f.write(self.master_cf(master))
        with open(d + "/conf/main.cf", "w", encoding="ascii") as f:
            f.write(self.main_cf("""compatibility_level = 3.6
queue_directory = %(d)s/queue
data_directory = %(d)s/data
myhostname = bench.demo.test
mydestination =
virtual_mailbox_domains = demo.test
virtual_transport = lmtp:unix:%(d)s/run/lmtp
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
maillog_file = /var/log/bench-postfix.log
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
lmtp_destination_concurrency_limit = 20
""" % {"d": d}))
        subprocess.run(["postfix", "-c", d + "/conf", "start"], check=True, capture_output=True)

    def pids(self):
        found = []
        for path in glob.glob("/proc/[0-9]*"):
            try:
                exe = os.readlink(path + "/exe")
            except OSError:
                continue
            if "/postfix/" in exe or "/dovecot" in exe:
                found.append(int(path.split("/")[2]))
        return found

    def close(self):
        if self.with_postfix:
            subprocess.run(["postfix", "-c", self.directory + "/conf", "stop"], capture_output=True)
        subprocess.run(["doveadm", "-c", self.directory + "/dovecot.conf", "stop"], capture_output=True)
        time.sleep(1)
        shutil.rmtree(self.directory, ignore_errors=True)


class Ours:
    name = "Mailstead"

    def __init__(self, settings=None):
        self.server = harness.Server(settings={"smtp.connections_per_address": "500", "login.connections_per_address": "500",
                                               **(settings or {})},
                                     directory=tempfile.mkdtemp(prefix="bench-ours-", dir="/var/tmp"))
        self.smtp_port = self.server.ports["smtp"]
        self.imaps_port = self.server.ports["imaps"]
        self.rcpt = self.login = "alice@demo.test"
        self.password = self.server.password("alice")

    def pids(self):
        return [self.server.process.pid] + [p for pids in self.server.processes().values() for p in pids]

    def close(self):
        self.server.close()


class Imap:
    def __init__(self, side):
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        raw = socket.create_connection(("127.0.0.1", side.imaps_port), 60)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.s = context.wrap_socket(raw)
        self.tag = 0
        self.s.recv(4096)
        self.run('LOGIN %s "%s"' % (side.login, side.password))

    def run(self, command):
        """Sends it and reads to the tagged answer; returns the octets read."""
        self.tag += 1
        tag = b"t%d " % self.tag
        self.s.sendall(tag + command.encode() + b"\r\n")
        end = b"\r\n" + tag
        last, total, first = b"", 0, True
        while True:
            data = self.s.recv(1 << 18)
            if not data:
                raise RuntimeError("connection lost in " + command)
            total += len(data)
            window = (b"\r\n" if first else last) + data
            first = False
            at = window.rfind(end)
            if at >= 0 and window.endswith(b"\r\n") and window.count(b"\r\n", at + 2) == 1:
                if not window[at + len(end):].startswith(b"OK"):
                    raise RuntimeError(command + ": " + window[at:].decode())
                return total, window
            last = window[-200:]

    def exists(self, box="INBOX"):
        _, window = self.run("STATUS %s (MESSAGES)" % box)
        return int(re.search(rb"MESSAGES (\d+)", window).group(1))


def pss_mb(pids):
    total = 0
    for pid in pids:
        try:
            with open("/proc/%d/smaps_rollup" % pid, encoding="ascii") as f:
                total += int(re.search(r"^Pss:\s+(\d+)", f.read(), re.M).group(1))
        except OSError:
            pass
    return total / 1024


def fsync_rate(directory):
    path = directory + "/fsync-probe"
    with open(path, "wb") as f:
        began, n = time.time(), 0
        while time.time() - began < 1:
            f.write(b"x" * BYTES)
            f.flush()
            os.fdatasync(f.fileno())
            n += 1
    os.unlink(path)
    return n / (time.time() - began)


def deliver(side, count):
    """Seconds until all messages are in the mailbox."""
    watch = Imap(side)
    before = watch.exists()
    began = time.time()
    subprocess.run(["smtp-source", "-s", str(SESSIONS), "-m", str(count), "-l", str(BYTES), "-f", "bench@client.example", "-t",
                    side.rcpt, "127.0.0.1:%d" % side.smtp_port], check=True)
    accepted = time.time() - began
    while watch.exists() < before + count:
        if time.time() - began > 300:
            raise RuntimeError("only %d of %d arrived" % (watch.exists() - before, count))
        time.sleep(0.02)
    return accepted, time.time() - began


def timed(function):
    times = []
    for _ in range(ROUNDS):
        began = time.time()
        function()
        times.append(time.time() - began)
    return statistics.median(times)


def measure(side):
    figures = {}
    time.sleep(2)
    figures["memory idle, MB (PSS)"] = pss_mb(side.pids())
    accepted, delivered = deliver(side, MESSAGES)
    figures["delivery, messages/s accepted"] = MESSAGES / accepted
    figures["delivery, messages/s in the mailbox"] = MESSAGES / delivered
    c = Imap(side)
    figures["SELECT, ms"] = timed(lambda: c.run("SELECT INBOX")) * 1000
    for title, command in (("FETCH 1:* FLAGS, ms", "FETCH 1:* (UID FLAGS)"),
                           ("FETCH 1:* ENVELOPE and BODYSTRUCTURE, ms", "FETCH 1:* (ENVELOPE BODYSTRUCTURE RFC822.SIZE INTERNALDATE)"),
                           ("FETCH 1:* BODY.PEEK[], ms", "FETCH 1:* (BODY.PEEK[])"),
                           ("SEARCH TEXT, ms", "SEARCH TEXT nothinglikeit"),
                           ("STORE 1:* +FLAGS, ms", "STORE 1:* +FLAGS.SILENT (\\Seen)")):
        figures[title] = timed(lambda command=command: c.run(command)) * 1000
    idlers = []
    before = pss_mb(side.pids())
    for _ in range(IDLERS):
        i = Imap(side)
        i.run("SELECT INBOX")
        i.s.sendall(b"i IDLE\r\n")
        idlers.append(i)
    time.sleep(2)
    figures["memory with %d IDLE sessions, MB (PSS)" % IDLERS] = pss_mb(side.pids())
    figures["memory for each IDLE session, KB (PSS)"] = (pss_mb(side.pids()) - before) * 1024 / IDLERS
    return figures


def main():
    if os.geteuid() != 0:
        print("make bench needs root: Postfix and Dovecot do", file=sys.stderr)
        return 2
    print("%d messages of %d octets, %d SMTP sessions, %d rounds (medians)" % (MESSAGES, BYTES, SESSIONS, ROUNDS))
    results = []
    for kind in (Ours, Rival):
        side = kind()
        try:
            results.append(measure(side))
        finally:
            side.close()
    print("synced writes of %d octets a second on this disk: %.0f" % (BYTES, fsync_rate("/var/tmp")))
    print("%-48s %12s %20s %8s" % ("", Ours.name, Rival.name, "ratio"))
    for title, ours in results[0].items():
        theirs = results[1][title]
        print("%-48s %12.1f %20.1f %8.2f" % (title, ours, theirs, ours / theirs if theirs else float("nan")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
