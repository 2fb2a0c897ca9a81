#!/usr/bin/python3
"""64 client processes at work for SOAK_SECONDS (default 600), most of them on one account: nobody's change is lost, nobody waits for
long while others write, and no process of the server grows.

What is looked at: markers set and take a keyword of their own on the same messages, and at the end every message has exactly
the last of each; owners (death_load.py) know what must be in their mailboxes after each step; readers note how long the keeper
lets them wait, beside the time of a sync measured meanwhile; memory and descriptors of every role process are
sampled; at the end every account is checked.
"""

import multiprocessing
import os
import random
import re
import subprocess
import sys
import threading
import time

import death
import harness
from death_load import Actor, Ended, Failure, Imap, Ledger, Maildrop, Owner, Reader, Sender, message

SECONDS = float(os.environ.get("SOAK_SECONDS", "600"))
SEED = int(os.environ.get("MAILSTEAD_SEED", random.SystemRandom().randrange(1 << 32)))
MAILDROPS = 6
BOARD_MESSAGES = 120
# Of processes that have warmed up: what they may have more at the end than after a third of the time.
RSS_GROWTH_MAX = 1.25
RSS_GROWTH_KIB = 4096
DESCRIPTORS_LEFT_MAX = 8
INDEX_BYTES_MAX = 96 << 20
# The slowest client of a kind does so much of what the median one does.
PROGRESS_MIN = 0.2
SETTINGS = {"login.connections_per_address": "500", "smtp.connections_per_address": "500", "store.retention": "0s"}


class Control:
    """What an actor of death_load.py wants to know, in a process of its own."""

    def __init__(self, server, seed, until, recipients):
        self.server = server
        self.seed = seed
        self.until = until
        self.recipients = recipients
        self.ledger = Ledger()
        self.run_name = "soak"
        self.round = 0
        self.error = None

    def go_on(self, actor):
        actor.steps = getattr(actor, "steps", -1) + 1
        self.round = actor.steps // 50  # owners look at everything anew
        return self.error is None and time.time() < self.until

    def patiently(self, fn):
        return fn()

    def lost(self, actor, error):
        raise Failure("%s: nobody died, and yet: %s" % (actor.name, error))

    def fail(self, actor, error):
        self.error = "%s: %s: %s" % (actor.name, type(error).__name__, error)


class Timed(Actor):
    """A session on the board."""

    def __init__(self, control, kind, number):
        super().__init__(control, "%s%d" % (kind, number), number)
        self.session = None
        self.times = []

    def uids(self):
        return [u for u in self.session.view if u is not None]

    def begin(self):
        self.session = Imap(self.server, "alice")
        self.session.select("board")
        self.session.contents()
        if len(self.uids()) != BOARD_MESSAGES:
            raise Failure("the board has %d messages" % len(self.uids()))

    def timed(self, text):
        began = time.time()
        status, line, lines = self.session.command(text)
        self.times.append(time.time() - began)
        if status != "OK":
            raise Failure("%s: %s" % (text, line))
        return lines

    def step(self):
        if self.session is None:
            self.begin()
        self.do()
        time.sleep(self.random.random() * 0.05)


class BoardReader(Timed):
    """Each question is one that the keeper answers."""

    def do(self):
        uid = self.random.choice(self.uids())
        lines = self.timed("UID FETCH %d (BODY.PEEK[])" % uid)
        if "X-Token: board-%d\r\n" % uid not in "".join(lines):
            raise Failure("UID %d is %r" % (uid, lines))
        if self.random.random() < 0.1:
            self.session.command(self.random.choice(["NOOP", "FETCH 1:* (FLAGS)", "UID SEARCH KEYWORD m1"]))


class Marker(Timed):
    """Sets and takes its own keyword, and remembers what was answered OK."""

    def __init__(self, control, number):
        super().__init__(control, "marker", number)
        self.keyword = "m%d" % number
        self.marked = {}

    def do(self):
        uids = self.random.sample(self.uids(), self.random.choice([1, 1, 1, 5]))
        on = self.random.random() < 0.5
        self.timed("UID STORE %s %sFLAGS (%s)" % (",".join(map(str, uids)), "+" if on else "-", self.keyword))
        for u in uids:
            self.marked[u] = on
            if (self.keyword in self.session.flags.get(u, ())) != on:
                raise Failure("%s set %s of UID %d to %s and sees %r" % (
                    self.name, self.keyword, u, on, self.session.flags.get(u)))


def make(kind, number, control):
    if kind == "reader":
        return BoardReader(control, "reader", number)
    if kind == "marker":
        return Marker(control, number)
    if kind == "owner":
        return Owner(control, number, "alice" if number % 3 else "bob")
    if kind == "sender":
        return Sender(control, "smtp%d" % number, number)
    if kind == "watcher":
        return Reader(control, number, control.recipients[number])
    drop = Maildrop(control, control.recipients[number])
    drop.name, drop.most = "maildrop%d" % number, 200
    return drop


KINDS = [("reader", 16), ("marker", 16), ("owner", 12), ("sender", 8), ("watcher", MAILDROPS), ("maildrop", MAILDROPS)]


def client(kind, number, server, until, recipients, pipe):
    control = Control(server, SEED, until, recipients)
    actor = make(kind, number, control)
    actor.run()
    if control.error is None and kind == "owner":
        try:
            actor.at_rest()
        except (Ended, Failure) as e:
            control.fail(actor, e)
    # A maildrop's session is as long as its mailbox: what it was answered is its commands.
    pipe.send({"kind": kind, "steps": getattr(actor, "commands", actor.steps), "error": control.error, "times": getattr(actor, "times", []),
               "marked": getattr(actor, "marked", {}), "sent": control.ledger.sent, "taken": getattr(actor, "taken", set()),
               "sessions": actor.steps})
    pipe.close()


class Sampler(threading.Thread):
    """Memory and descriptors of every role process, and the time of a sync beside the accounts."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.processes = death.Processes(server)
        self.path = server.demo + "/sync-time"
        self.stopped = False
        self.began = time.time()
        self.samples = {}  # (pid, program) -> [(time, KiB, descriptors)]
        self.syncs = []

    @staticmethod
    def look(pid):
        with open("/proc/%d/status" % pid, encoding="ascii") as f:
            kib = int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1))
        return kib, len(os.listdir("/proc/%d/fd" % pid))

    def take(self):
        for pid, program, _ in self.processes.all():
            try:
                self.samples.setdefault((pid, program), []).append((time.time() - self.began, *self.look(pid)))
            except (OSError, AttributeError):
                continue

    def run(self):
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        number = 0
        while not self.stopped:
            os.pwrite(fd, b"x" * 512, number % 1000 * 512)
            began = time.time()
            os.fdatasync(fd)
            self.syncs.append(time.time() - began)
            if number % 20 == 0:
                self.take()
            number += 1
            time.sleep(0.05)
        os.close(fd)

    def descriptors(self):
        """{program: most that one of its processes has open now}"""
        most = {}
        for pid, program, _ in self.processes.all():
            try:
                most[program] = max(most.get(program, 0), self.look(pid)[1])
            except (OSError, AttributeError):
                continue
        return most

    def growth(self, seconds):
        """What has grown too much since a third of the time."""
        wrong, worst = [], (0, "nothing")
        for (pid, program), rows in self.samples.items():
            early = [kib for at, kib, _ in rows if seconds / 6 <= at <= seconds / 3]
            late = [kib for at, kib, _ in rows if at > seconds * 2 / 3]
            if not early or not late:
                continue
            before, after = max(early), min(late)
            worst = max(worst, (after - before, "%s from %d to %d KiB" % (program, before, after)))
            if after > before * RSS_GROWTH_MAX + RSS_GROWTH_KIB:
                wrong.append("%s (%d) grew from %d to %d KiB" % (program, pid, before, after))
        return wrong, worst[1]


def percentiles(times):
    s = sorted(times)
    return tuple(1000 * s[int(p * (len(s) - 1))] for p in (0.5, 0.99, 1)) if s else (0, 0, 0)


class Soak:
    def __init__(self, seconds):
        self.seconds = seconds
        self.server = harness.Server(settings=SETTINGS)
        self.recipients = []
        for n in range(MAILDROPS):
            address = "drop%d@%s" % (n, harness.DOMAIN)
            self.server.run("account", "add", address, "--password-stdin", stdin="drop-password\n")
            self.server.passwords[address] = "drop-password"
            self.recipients.append("drop%d" % n)

    def prepare(self):
        c = Imap(self.server, "alice")
        if c.command('CREATE "board"')[0] != "OK":
            raise Failure("no board")
        for uid in range(1, BOARD_MESSAGES + 1):
            text = message("board-%d" % uid)
            if c.command('APPEND "board" {%d}' % len(text), text)[0] != "OK":
                raise Failure("no message on the board")
        c.close()

    def work(self):
        """The results of all clients."""
        until = time.time() + self.seconds
        clients = []
        for kind, count in KINDS:
            for number in range(count):
                ours, theirs = multiprocessing.Pipe(False)
                p = multiprocessing.Process(target=client, args=(kind, number, self.server, until, self.recipients, theirs))
                p.start()
                theirs.close()
                clients.append((p, ours))
        results = []
        for p, pipe in clients:
            if not pipe.poll(max(1, until - time.time()) + 120):
                raise Failure("a client does not end")
            results.append(pipe.recv())
            p.join()
        return results

    def check_board(self, results):
        c = Imap(self.server, "alice")
        c.select("board")
        there = c.contents()
        c.close()
        for r in results:
            if r["kind"] != "marker":
                continue
        markers = [r for r in results if r["kind"] == "marker"]
        for uid, (_, flags) in there.items():
            want = {"m%d" % n for n, r in enumerate(markers) if r["marked"].get(uid)}
            found = {f for f in flags if re.fullmatch(r"m\d+", f)}
            if want != found:
                raise Failure("a lost update: UID %d has %r, the last answers were %r" % (uid, sorted(found), sorted(want)))
        return sum(r["steps"] for r in markers)

    def check_deliveries(self, results):
        """Each acknowledged delivery is in its maildrop, or was taken out of it, once."""
        sent, taken = {}, {}
        for r in results:
            sent.update(r["sent"])
        for n, r in enumerate([r for r in results if r["kind"] == "maildrop"]):
            taken[self.recipients[n]] = r["taken"]
        for account in self.recipients:
            c = Imap(self.server, account)
            c.select("INBOX", "EXAMINE")
            tokens = [t for t, _ in c.contents().values()]
            c.close()
            if len(set(tokens)) != len(tokens) or set(tokens) & taken[account]:
                raise Failure("%s has a message twice" % account)
            for token, (accounts, outcome) in sent.items():
                if outcome and account in accounts and token not in tokens and token not in taken[account]:
                    raise Failure("acknowledged and lost: %s of %s" % (token, account))
        return sum(outcome is True for _, outcome in sent.values())

    def check_progress(self, results):
        for kind, _ in KINDS:
            steps = sorted(r["steps"] for r in results if r["kind"] == kind)
            print("soak: %s: %d clients, %d to %d steps" % (kind, len(steps), steps[0], steps[-1]))
            if steps[0] < steps[len(steps) // 2] * PROGRESS_MIN:
                raise Failure("a %s is starved: %r" % (kind, steps))

    def check_times(self, results, sampler):
        reads = percentiles([t for r in results if r["kind"] == "reader" for t in r["times"]])
        writes = percentiles([t for r in results if r["kind"] == "marker" for t in r["times"]])
        syncs = percentiles(sampler.syncs)
        print("soak: ms (median, 99 %%, worst): a read %.1f %.1f %.1f, a synced change %.1f %.1f %.1f, a sync %.1f %.1f %.1f" % (
            *reads, *writes, *syncs))
        # Both wait for the machine; a read waits for the disk once, a change of flags at least once.
        if reads[0] > writes[0] + syncs[0] or reads[1] > writes[1] + syncs[2]:
            raise Failure("readers wait longer than one sync more than writers")

    def check_index(self):
        root = self.server.demo + "/state/accounts"
        for name in os.listdir(root):
            files = [os.path.join(root, name, "index", f) for f in os.listdir(os.path.join(root, name, "index"))]
            octets = sum(os.path.getsize(f) for f in files)
            if octets > INDEX_BYTES_MAX:
                raise Failure("the index of account %s has %d octets: its log is not trimmed" % (name, octets))

    def check_accounts(self):
        root = self.server.demo + "/state/accounts"
        for name in sorted(os.listdir(root)):
            done = subprocess.run([death.CHECK, os.path.join(root, name)], capture_output=True, text=True, timeout=120)
            if done.returncode != 0:
                raise Failure("account %s: %s" % (name, done.stderr[-500:]))

    def run(self):
        self.prepare()
        sampler = Sampler(self.server)
        before = sampler.descriptors()
        sampler.start()
        results = self.work()
        sampler.stopped = True
        sampler.join()
        errors = [r["error"] for r in results if r["error"]]
        if errors:
            raise Failure("%d clients failed: %s" % (len(errors), errors[0]))
        self.check_progress(results)
        changes, deliveries = self.check_board(results), self.check_deliveries(results)
        print("soak: %d changes of flags on the same messages, none lost; %d deliveries, each once" % (changes, deliveries))
        self.check_times(results, sampler)
        self.check_index()
        wrong, worst = sampler.growth(self.seconds)
        print("soak: memory: most growth: %s" % worst)
        if wrong and self.seconds >= 60:
            raise Failure("; ".join(wrong))
        self.check_descriptors(sampler, before)
        ended = self.server.stop()
        if ended:
            raise Failure("at the end: " + "\n".join(ended[:10]))
        self.check_accounts()

    @staticmethod
    def check_descriptors(sampler, before):
        """The clients are gone: nothing is left of their connections."""
        left = {}

        def gone():
            left.clear()
            left.update({p: (before[p], n) for p, n in sampler.descriptors().items()
                         if p in before and n > before[p] + DESCRIPTORS_LEFT_MAX})
            return not left

        try:
            harness.wait_for(gone, 20, 0.5)
        except AssertionError:
            raise Failure("descriptors left behind: %r" % left) from None

    def close(self):
        if self.server.process.poll() is None:
            self.server.stop()
        self.server.process = None
        self.server.close()


def run(seconds):
    print("soak: %d client processes for %.0f s, MAILSTEAD_SEED=%d" % (sum(n for _, n in KINDS), seconds, SEED), flush=True)
    soak = Soak(seconds)
    try:
        soak.run()
    finally:
        soak.close()


if __name__ == "__main__":
    try:
        run(SECONDS)
    except Failure as failure:
        print("soak: FAILED: %s" % failure)
        sys.exit(1)
