#!/usr/bin/python3
"""The store by itself: each figure beside the limit of the machine, or Dovecot's (sdbox, warm index), measured in the same run.

tests/bench/store_bench.c drives real keeper processes; this script gives it its commands, sets up a Dovecot and a whole Mailstead on the
same disk, alternates between them, and says of each target whether it is met. Figures are medians of rounds; ratios are of the same rounds.
Needs root, as Dovecot does. BENCH_LARGE and BENCH_SMALL are the sizes of the two mailboxes.
"""

import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bench  # noqa: E402
import harness  # noqa: E402

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "7"))
SMALL = int(os.environ.get("BENCH_SMALL", "100000"))
LARGE = int(os.environ.get("BENCH_LARGE", "1000000"))
BYTES = 4096
WRITERS = 50
SOURCES = 40
EMPTY_ACCOUNT, SMALL_ACCOUNT, LARGE_ACCOUNT, SPREAD_ACCOUNT = 1, 2, 3, 100
TRASH = 4
FLAGGED = 4
ENTRY_BYTES, CHUNK_BYTES = 24, 872


class Store:
    """The C half, and its keepers."""

    def __init__(self, state):
        program = os.path.join(harness.BUILD, "tests", "bench", "store_bench")
        self.process = subprocess.Popen([program, state], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, verb, *numbers):
        self.process.stdin.write(" ".join([verb] + [str(n) for n in numbers]) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("store_bench ended at: %s %s" % (verb, numbers))
        return float(line)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Login:
    """What bench.Imap wants to know of a user of the whole server."""

    def __init__(self, server, user):
        self.imaps_port = server.ports["imaps"]
        self.login = user + "@" + harness.DOMAIN
        self.password = server.password(user)


class Table:
    """Figures of the rounds, and what is to be printed of them."""

    def __init__(self):
        self.values = {}
        self.failed = 0

    def add(self, name, value):
        self.values.setdefault(name, []).append(value)

    def median(self, name):
        return statistics.median(self.values[name])

    def ratio(self, name, other):
        return statistics.median(a / b for a, b in zip(self.values[name], self.values[other]))

    def figure(self, title, name, unit, other=None, other_title="", scale=1.0):
        """Without a target."""
        line = "  %-58s %12.1f %-9s" % (title, self.median(name) * scale, unit)
        if other is not None:
            line += " %s %.1f, ratio %.2f" % (other_title, self.median(other) * scale, self.ratio(name, other))
        print(line)

    def target(self, title, value, most=None, least=None, unit="", note=""):
        met = value <= most if most is not None else value >= least
        self.failed += not met
        print("  %-66s %10.2f %-9s %s %-6g %s%s" % (title, value, unit, "<=" if most is not None else ">=", most if most is not None
                                                    else least, "met" if met else "NOT MET", "  (" + note + ")" if note else ""))


def wait_until(condition, seconds=60):
    deadline = time.time() + seconds
    while not condition():
        if time.time() > deadline:
            raise RuntimeError("waited in vain")
        time.sleep(0.1)


# The three that are compared, each with the same mailboxes.

def append(c, box):
    message = b"From: a@b.example\r\nSubject: bench\r\n\r\n" + b"x" * 70 + b"\r\n"
    c.s.sendall(b"a APPEND %s {%d+}\r\n%s\r\n" % (box.encode(), len(message), message))
    answer = b""
    while b"\r\na " not in b"\r\n" + answer or not answer.endswith(b"\r\n"):
        answer += c.s.recv(4096)


def fill_dovecot(c, box, count):
    """A few messages so many times, by COPY, which makes links: a file system has a limit of them for each."""
    c.run("CREATE %s" % box)
    for _ in range(SOURCES):
        append(c, box)
    c.run("SELECT %s" % box)
    have = SOURCES
    while have < count:
        step = min(have, count - have, 50000)
        c.run("COPY 1:%d %s" % (step, box))
        have += step
    for _ in range(3):
        c.run("SELECT %s" % box)


def fill_ours(server, user, count):
    """Gives the user's INBOX that many messages, while no keeper of it runs."""
    c = bench.Imap(Login(server, user))
    c.run("SELECT INBOX")
    account = os.readlink("/proc/%d/cwd" % server.processes()["store-keeper"][0])
    c.run("LOGOUT")
    wait_until(lambda: "store-keeper" not in server.processes())
    store = Store(os.path.dirname(os.path.dirname(account)))
    store("fill", int(os.path.basename(account)), count, 0)
    store.close()


def syncs_of(pid, action):
    """How many sync calls the process makes in the action."""
    with tempfile.NamedTemporaryFile(mode="r") as out:
        tracer = subprocess.Popen(["strace", "-f", "-qq", "-e", "trace=fsync,fdatasync,sync_file_range,syncfs", "-o", out.name, "-p",
                                   str(pid)], stderr=subprocess.DEVNULL)
        wait_until(lambda: re.search(r"TracerPid:\s+[1-9]", open("/proc/%d/status" % pid, encoding="ascii").read()))
        action()
        tracer.send_signal(signal.SIGINT)
        tracer.wait()
        return len(re.findall(r"sync\(", out.read()))


def memory_kb(pids):
    return bench.pss_mb(pids) * 1024


# The rounds.

def measure_limits(t, store):
    t.add("sync", store("syncs", 300))
    t.add("trip", store("trip", 3000))
    t.add("memory", store("memory"))
    t.add("read", store("read", 64 << 20))


def measure_keeper(t, store):
    for name, account in (("empty", EMPTY_ACCOUNT), ("large", LARGE_ACCOUNT)):
        t.add("deliver-" + name, store("deliver", account, 50, BYTES) / 50)
    t.add("batch", store("batch", EMPTY_ACCOUNT, 50, BYTES) / 50)
    t.add("hop", store("hop", EMPTY_ACCOUNT, 3000))
    t.add("fetch", store("fetch", EMPTY_ACCOUNT, 1, 50) / 50)
    t.add("store-ours", store("store", SMALL_ACCOUNT, FLAGGED, 1, SMALL))
    store("store", SMALL_ACCOUNT, -FLAGGED, 1, SMALL)
    t.add("copy-ours", store("copy", SMALL_ACCOUNT, TRASH, 1, 10000))
    store("expunge", SMALL_ACCOUNT, TRASH)


def opened(store, account):
    """After a message came, like select()."""
    times = []
    for _ in range(3):
        store("deliver", account, 1, BYTES)
        times.append(store("open", account))
    return min(times)


def opened_anew(store, account):
    """By a keeper that has just come: its first opening."""
    store("stop", account)
    store("start", account)
    return store("open", account)


def imap_us(c, command):
    began = time.perf_counter()
    c.run(command)
    return (time.perf_counter() - began) * 1e6


def select(side, box, changer):
    """
    SELECT as the first command of a session, after a message came, as in a mailbox in use; and again in the same session without a
    change. (Dovecot maps its index when there is nothing to be applied to it, and reads nothing then.)
    """
    append(changer, box)
    c = bench.Imap(side)
    first, again = imap_us(c, "SELECT " + box), imap_us(c, "SELECT " + box)
    c.run("LOGOUT")
    return first, again


def measure_select(t, name, side, box, changer):
    pairs = [select(side, box, changer) for _ in range(3)]
    t.add("select-" + name, min(p[0] for p in pairs))
    t.add("reselect-" + name, min(p[1] for p in pairs))


def measure_beside(t, store, rival, dovecot, logins, ours):
    """One round of what Dovecot is compared in."""
    for size, account in (("small", SMALL_ACCOUNT), ("large", LARGE_ACCOUNT)):
        t.add("open-" + size, opened(store, account))
        measure_select(t, "dovecot-" + size, rival, "box" + size, dovecot)
        measure_select(t, "ours-" + size, logins[size], "INBOX", ours[size])
        t.add("open-anew-" + size, opened_anew(store, account))
    for side, c, box in (("dovecot", dovecot, "boxsmall"), ("whole", ours["small"], "INBOX")):
        c.run("SELECT " + box)
        t.add("store-" + side, imap_us(c, "STORE 1:%d +FLAGS.SILENT (\\Flagged)" % SMALL))
        c.run("STORE 1:%d -FLAGS.SILENT (\\Flagged)" % SMALL)
        t.add("copy-" + side, imap_us(c, "COPY 1:10000 Trash"))
        c.run("SELECT Trash")


def measure_spread(t, store):
    count = 40
    t.add("spread", WRITERS * count * 1e6 / store("spread", SPREAD_ACCOUNT, WRITERS, count, BYTES))
    t.add("writers", store("writers", WRITERS, count, BYTES))


def measure_memory(server, logins):
    """Octets a message of worker and keeper above what they take with an empty mailbox selected."""
    workers = lambda: server.processes().get("imapd-worker", [])  # noqa: E731
    keepers = lambda: server.processes().get("store-keeper", [])  # noqa: E731
    wait_until(lambda: not workers() and not keepers())
    c = bench.Imap(logins["large"])
    c.run("SELECT Drafts")
    base = memory_kb(workers()), memory_kb(keepers())
    c.run("SELECT INBOX")
    full = memory_kb(workers()), memory_kb(keepers())
    c.run("LOGOUT")
    return [(f - b) * 1024 / LARGE for f, b in zip(full, base)]


def print_all(t, memory, syncs):
    print("\nLimits of this machine, in this run:")
    t.figure("synced writes of one block, one after the other", "sync", "/s")
    t.figure("create + fsync + fsync of the directory, %d writers" % WRITERS, "writers", "/s")
    t.figure("round trip between two processes", "trip", "us")
    t.figure("memory bandwidth (copying)", "memory", "MB/s", scale=1e-6)
    t.figure("sequential read from the page cache", "read", "MB/s", scale=1e-6)
    print("\nThe store's figures (time for each unless said), beside them:")
    sync_us = 1e6 / t.median("sync")
    for title, name in (("delivery into an empty mailbox, one by one", "deliver-empty"), ("delivery in batches of 50", "batch")):
        print("  %-58s %12.1f us        %.1f syncs of one block" % (title, t.median(name), t.median(name) / sync_us))
    for size, count in (("small", SMALL), ("large", LARGE)):
        octets = count * ENTRY_BYTES
        rate = octets * 1e6 / t.median("open-" + size)
        print("  %-58s %12.1f us        %.2f of copying, %.2f of reading" % (
            "opening %d messages (%d MB)" % (count, octets >> 20), t.median("open-" + size), rate / t.median("memory"),
            rate / t.median("read")))
        t.figure("the first opening by a new keeper", "open-anew-" + size, "us", "select-dovecot-" + size, "Dovecot SELECT")
        t.figure("IMAP SELECT, end to end, in a new session", "select-ours-" + size, "us", "select-dovecot-" + size, "Dovecot")
        t.figure("IMAP SELECT again in the same session", "reselect-ours-" + size, "us", "reselect-dovecot-" + size, "Dovecot")
    t.figure("FETCH of a record with its summary", "fetch", "us")
    print("  %-58s %12.1f octets" % ("memory of the keeper for each message of %d" % LARGE, memory[1]))

    print("\nTargets:")
    t.target("delivery into %d messages, to an empty mailbox's" % LARGE, t.ratio("deliver-large", "deliver-empty"), most=1.3,
             note="%.0f us, %.0f us" % (t.median("deliver-large"), t.median("deliver-empty")))
    for size, count in (("small", SMALL), ("large", LARGE)):
        t.target("opening %d messages, to Dovecot's SELECT" % count, t.ratio("open-" + size, "select-dovecot-" + size), most=0.5,
                 note="%.2f ms, %.2f ms" % (t.median("open-" + size) / 1e3, t.median("select-dovecot-" + size) / 1e3))
    t.target("memory of the worker for each message of %d" % LARGE, memory[0], most=40, unit="octets")
    for side, where in (("ours", "the keeper's part"), ("whole", "IMAP, end to end")):
        t.target("STORE 1:%d +FLAGS, synced, to Dovecot's: %s" % (SMALL, where), t.ratio("store-" + side, "store-dovecot"), most=1,
                 note="%.1f ms, %.1f ms" % (t.median("store-" + side) / 1e3, t.median("store-dovecot") / 1e3))
        t.target("COPY of 10000, to Dovecot's: %s" % where, t.ratio("copy-" + side, "copy-dovecot"), most=0.2,
                 note="%.1f ms, %.1f ms" % (t.median("copy-" + side) / 1e3, t.median("copy-dovecot") / 1e3))
    t.target("%d concurrent deliveries, to as many synced files" % WRITERS, t.ratio("spread", "writers"), least=0.6,
             note="%.0f/s, %.0f/s" % (t.median("spread"), t.median("writers")))
    t.target("sync calls of a single delivery", syncs[0], most=3)
    t.target("sync calls of a batch of 50", syncs[1], most=2 + 50)
    t.target("a hop, to a bare round trip", t.ratio("hop", "trip"), most=2.5, note="it adds at most 1.5: %.1f us, %.1f us" % (
        t.median("hop"), t.median("trip")))


def start_store(directory):
    store = Store(directory)
    store("fill", EMPTY_ACCOUNT, 1, 0)
    store("fill", SMALL_ACCOUNT, SMALL, 0)
    store("fill", LARGE_ACCOUNT, LARGE, LARGE)
    for account in [EMPTY_ACCOUNT, SMALL_ACCOUNT, LARGE_ACCOUNT] + list(range(SPREAD_ACCOUNT, SPREAD_ACCOUNT + WRITERS)):
        store("start", account)
    return store


def run(directory, server, rival):
    t = Table()
    store = start_store(directory)
    dovecot = bench.Imap(rival)
    dovecot.run("CREATE Trash")
    fill_dovecot(dovecot, "boxsmall", SMALL)
    fill_dovecot(dovecot, "boxlarge", LARGE)
    logins = {"small": Login(server, "alice"), "large": Login(server, "bob")}
    fill_ours(server, "alice", SMALL)
    fill_ours(server, "bob", LARGE)
    ours = {size: bench.Imap(login) for size, login in logins.items()}
    for _ in range(ROUNDS):
        measure_limits(t, store)
        measure_keeper(t, store)
        measure_beside(t, store, rival, dovecot, logins, ours)
        measure_spread(t, store)
    syncs = [syncs_of(int(store("pid", EMPTY_ACCOUNT)), lambda n=n: store("batch", EMPTY_ACCOUNT, n, BYTES)) for n in (1, 50)]
    store.close()
    for c in ours.values():
        c.run("LOGOUT")
    print_all(t, measure_memory(server, logins), syncs)
    return t.failed


def main():
    if os.geteuid() != 0:
        print("make bench-store needs root: Dovecot does", file=sys.stderr)
        return 2
    print("mailboxes of %d and %d messages, %d rounds (medians)" % (SMALL, LARGE, ROUNDS))
    directory = tempfile.mkdtemp(prefix="bench-store-", dir="/var/tmp")
    server = rival = None
    try:
        server = harness.Server(settings={"store.keeper_linger": "1s", "worker.linger": "1s"}, directory=directory + "/server")
        rival = bench.Rival(postfix=False)
        failed = run(directory, server, rival)
    finally:
        if server:
            server.close()
        if rival:
            rival.close()
        shutil.rmtree(directory, ignore_errors=True)
    print("\n%d targets not met" % failed if failed else "\nall targets met")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
