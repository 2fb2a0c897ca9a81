#!/usr/bin/python3
"""The way out beside Debian's Postfix, in one run: BENCH_MESSAGES messages (100,000) of 2 KB to 1,000 destinations, of which 20 % are dead, from
the first one submitted until the last one for a living destination has arrived; and the memory that all processes had at most meanwhile.

Each side takes the messages by the same BENCH_CLIENTS clients (50) at once, over connections of their own, from a user who need not log in: Postfix over TCP from a network
that it trusts, Mailstead over its socket for programs of the machine. A dead destination's server is an address that never answers (half of
them) or refuses connections. The living ones are one smtp-sink. Both ask the same nsd, and neither signs.

Everything runs in namespaces of its own. Needs root."""

import multiprocessing
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "instance"))
sys.path.insert(0, HERE)
import bench  # noqa: E402
import dnsserver  # noqa: E402

MESSAGES = int(os.environ.get("BENCH_MESSAGES", "100000"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "1"))
DESTINATIONS = int(os.environ.get("BENCH_DESTINATIONS", "1000"))
CLIENTS = int(os.environ.get("BENCH_CLIENTS", "50"))
MESSAGES_A_CONNECTION = 100
SECONDS_MAX = int(os.environ.get("BENCH_SECONDS", "1800"))
ADDRESS = "192.0.2.1"
# Nothing listens there; nobody answers there.
REFUSING = "192.0.2.9"
SILENT = "198.51.100.2"
WANTED_SPEED = 2.0
WANTED_MEMORY = 0.5


def inside():
    """The rest runs in new namespaces."""
    if os.environ.get("MAILSTEAD_BENCH_INSIDE") != "1":
        os.environ["MAILSTEAD_BENCH_INSIDE"] = "1"
        os.execvp("unshare", ["unshare", "--mount", "--net", "--propagation", "private", sys.executable, os.path.abspath(__file__)])
    # What is sent to that machine is gone: at the other end of the cable nobody has its address.
    for command in ("ip link set lo up", "ip address add %s/24 dev lo" % ADDRESS, "ip address add %s/32 dev lo" % REFUSING,
                    "ip link add silent type veth peer name gone", "ip address add 198.51.100.1/24 dev silent",
                    "ip link set silent up", "ip link set gone up",
                    "ip neighbour add %s lladdr 02:00:00:00:00:02 dev silent" % SILENT):
        subprocess.run(command.split(), check=True)


def name(number):
    return "d%04d.example" % number


def is_dead(number):
    return number % 5 == 4


def zones():
    found = {"demo.test": "", "hosts.example": "live IN A %s\nrefusing IN A %s\nsilent IN A %s\n" % (ADDRESS, REFUSING, SILENT)}
    for i in range(DESTINATIONS):
        host = ("silent" if i % 10 == 4 else "refusing") if is_dead(i) else "live"
        found[name(i)] = "@ IN MX 10 %s.hosts.example.\n" % host
    return found


class Sink:
    """smtp-sink on port 25, and how many messages it has got."""

    def __init__(self, directory):
        self.path = directory + "/sink"
        with open(self.path, "wb") as out:
            self.process = subprocess.Popen(["smtp-sink", "-u", "nobody", "-c", "%s:25" % ADDRESS, "1000"], stdout=out, stderr=subprocess.STDOUT)

    def count(self):
        with open(self.path, "rb") as f:
            f.seek(max(0, os.path.getsize(self.path) - 200))
            found = re.findall(rb"mesg=(\d+)|dot=(\d+)", f.read())
        return int(next(filter(None, found[-1]))) if found else 0

    def close(self):
        self.process.terminate()
        self.process.wait()


def body(number):
    text = ("From: Bench <alice@demo.test>\r\nTo: you@%s\r\nSubject: out %d\r\nDate: Sun, 22 Nov 2026 12:00:00 +0000\r\n"
            "Message-ID: <%d@demo.test>\r\n\r\n" % (name(number % DESTINATIONS), number, number)).encode()
    return text + b"A line of the text of this message, as long as lines are.\r\n" * 30 + b".\r\n"


class Connection:
    def __init__(self, where):
        self.socket = socket.socket(socket.AF_UNIX if isinstance(where, str) else socket.AF_INET)
        self.socket.connect(where)
        self.file = self.socket.makefile("rb")
        self.reply(b"220")
        self.socket.sendall(b"EHLO client.demo.test\r\n")
        self.reply(b"250")

    def reply(self, code):
        line = self.file.readline()
        while line[3:4] == b"-":
            line = self.file.readline()
        if not line.startswith(code):
            raise RuntimeError(line.decode())

    def send(self, number):
        self.socket.sendall(b"MAIL FROM:<alice@demo.test>\r\nRCPT TO:<you@%s>\r\nDATA\r\n" % name(number % DESTINATIONS).encode())
        for code in (b"250", b"250", b"354"):
            self.reply(code)
        self.socket.sendall(body(number))
        self.reply(b"250")

    def close(self):
        self.socket.sendall(b"QUIT\r\n")
        self.file.close()
        self.socket.close()


def client(where, first, step):
    """Sends its share, some messages over each connection."""
    connection = None
    for n, number in enumerate(range(first, MESSAGES, step)):
        if n % MESSAGES_A_CONNECTION == 0:
            if connection:
                connection.close()
            connection = Connection(where)
        connection.send(number)
    if connection:
        connection.close()


class Ours(bench.Ours):
    def __init__(self, dns):
        super().__init__({"dns.server": dns.address, "transport.enabled": "yes", "submission.local": "*=alice@demo.test",
                          "submission.day_messages": "0", "submission.day_recipients": "0", "submission.day_addresses": "0"})
        self.where = self.server.demo + "/run/submit"

    def pids(self):
        return [p for p in super().pids() if p]


class Rival(bench.Rival):
    name = "Postfix"

    def __init__(self, dns):
        del dns
        super().__init__()
        self.where = ("127.0.0.1", self.smtp_port)

    @staticmethod
    def main_cf(text):
        return text + "smtp_tls_security_level = may\n"


def measure(kind, dns, directory):
    """(messages a second to the living, seconds until all were taken, MB at most)."""
    sink = Sink(directory)
    side = kind(dns)
    living = sum(not is_dead(i % DESTINATIONS) for i in range(MESSAGES))
    most = [0.0]
    done = threading.Event()

    def watch():
        while not done.wait(1):
            most[0] = max(most[0], bench.pss_mb(side.pids()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        began = time.monotonic()
        clients = [multiprocessing.Process(target=client, args=(side.where, i, CLIENTS)) for i in range(CLIENTS)]
        for c in clients:
            c.start()
        for c in clients:
            c.join()
            if c.exitcode != 0:
                raise RuntimeError("%s: a client failed" % side.name)
        taken = time.monotonic() - began
        while sink.count() < living:
            if time.monotonic() - began > SECONDS_MAX or sink.process.poll() is not None:
                raise RuntimeError("%s: only %d of %d arrived" % (side.name, sink.count(), living))
            time.sleep(0.05)
        return living / (time.monotonic() - began), taken, most[0]
    finally:
        done.set()
        watcher.join()
        side.close()
        sink.close()


def main():
    if os.geteuid() != 0:
        print("make bench-queue needs root: Postfix does", file=sys.stderr)
        return 2
    inside()
    directory = tempfile.mkdtemp(prefix="bench-queue-", dir="/var/tmp")
    os.chmod(directory, 0o755)
    dns = dnsserver.DnsServer(directory + "/dns", zones(), port=53)
    with open(directory + "/resolv.conf", "w", encoding="ascii") as f:
        f.write("nameserver 127.0.0.1\n")
    subprocess.run(["mount", "--bind", directory + "/resolv.conf", "/etc/resolv.conf"], check=True)
    try:
        print("synced writes of %d octets a second on this disk: %.0f" % (bench.BYTES, bench.fsync_rate("/var/tmp")))
        print("%d messages to %d destinations, %d %% of them dead" % (MESSAGES, DESTINATIONS, 20), flush=True)
        figures = {Ours: [], Rival: []}
        for _ in range(ROUNDS):
            for kind, found in figures.items():
                found.append(measure(kind, dns, directory))
                print("  %-10s %8.1f messages/s to the living, all taken after %.1f s, %.1f MB at most" % (kind.name, *found[-1]), flush=True)
        ours, theirs = ([statistics.median(f[k] for f in figures[kind]) for k in range(3)] for kind in (Ours, Rival))
        fast, small = ours[0] / theirs[0] >= WANTED_SPEED, ours[2] / theirs[2] <= WANTED_MEMORY
        print("  messages to the living: ratio %.2f   wanted %.1f: %s" % (ours[0] / theirs[0], WANTED_SPEED, "met" if fast else "NOT MET"))
        print("  memory: ratio %.2f   wanted at most %.1f: %s" % (ours[2] / theirs[2], WANTED_MEMORY, "met" if small else "NOT MET"))
    finally:
        dns.stop()
        subprocess.run(["umount", "/etc/resolv.conf"], check=False)
        shutil.rmtree(directory, ignore_errors=True)
    return 0 if fast and small else 1


if __name__ == "__main__":
    sys.exit(main())
