#!/usr/bin/python3
"""Process death: kill -9 of keepers, workers, deliver, queue, the store's parent and the supervisor at random moments under load.

    death.py [--rounds N] [--seed S] [--segment N]

A round kills one process or two, or a keeper and its successor while that starts and recovers, or a keeper that leaves
or writes its base copy; then a delivery, a login by IMAP and one by POP3 must be answered within two seconds. After each round
the clients (death_load.py) compare what they were told with what is there; now and then all pause and the deliveries are counted.
A watcher sees to it that no account ever has two keepers. Every segment ends with the server stopped and
every account checked. The seed gives the same choices again; the moment of a kill within a process is never the same twice.
"""

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time

import harness
from death_load import Ended, Failure, Imap, Ledger, Maildrop, Owner, Reader, Sender, Untold, message

# As test_kill.py has it, on a machine that answers the same questions at once when nobody died; the slower it does, the more
# it is given. A run that is long enough to tell may have one slower round of so many, a short one is judged by its median.
BACK_SECONDS_MAX = 6 if harness.INSTRUMENTED else 2
CALM_FACTOR = 5
SLOW_OF = 50
LONG_ROUNDS = 1000
GONE_SECONDS_MAX = 20
# A process of the supervisor's own list that ends within 2 s of being ready is given a pause.
PACED_SECONDS = 2.2
ROUNDS_PER_BARRIER = 20
FINISH_SECONDS_MAX = 30
ACCOUNTS = ["alice", "bob", "carol"]
PASSWORD = "carol-password-1"
CHECK = os.path.join(harness.BUILD, "tests", "crash", "account_check")
SETTINGS = {"queue.retry": "1s", "store.keeper_linger": "1s", "worker.linger": "100ms", "login.connections_per_address": "200",
            "smtp.connections_per_address": "200"}
# A client may notice so late that its connection has ended.
UNTOLD_SECONDS = 2
# What a round kills, and how often of 100.
ROUNDS = [
    (28, "keeper"),
    (10, "imap worker"),
    (6, "pop3 worker"),
    (8, "store"),
    (8, "deliver"),
    (4, "queue"),
    (10, "keeper, then its successor"),
    (6, "store, then a keeper that leaves"),
    (3, "store, with a keeper that hangs"),
    (4, "keeper and deliver"),
    (4, "keeper and worker"),
    (3, "keeper and queue"),
    (2, "deliver and store"),
    (3, "keeper that writes its base copy"),
    (1, "supervisor"),
]


class Processes:
    """The children of the supervisor, by program."""

    def __init__(self, server):
        self.server = server
        self.known = {}  # pid -> (program, account)

    def all(self):
        """[(pid, program, account or None)]"""
        pid = self.server.process.pid
        try:
            with open("/proc/%d/task/%d/children" % (pid, pid), encoding="ascii") as f:
                pids = [int(p) for p in f.read().split()]
        except OSError:
            return []
        self.known = {p: self.known[p] for p in pids if p in self.known}
        for p in pids:
            if p not in self.known:
                what = self.look(p)
                if what:
                    self.known[p] = what
        return [(p, *self.known[p]) for p in pids if p in self.known]

    @staticmethod
    def look(pid):
        try:
            program = os.path.basename(os.readlink("/proc/%d/exe" % pid))
            if program == "mailstead":
                return None  # not yet what it will be
            if program != "store-keeper":
                return program, None
            account = re.search(r"/accounts/(\d+)$", os.readlink("/proc/%d/cwd" % pid))
            return (program, int(account.group(1))) if account else None
        except OSError:
            return None

    def of(self, program):
        return [p for p, what, _ in self.all() if what == program]


def index_files(pid, account):
    """How many files of the account's index that process has open."""
    try:
        return sum("/accounts/%d/index/" % account in os.readlink("/proc/%d/fd/%s" % (pid, fd))
                   for fd in os.listdir("/proc/%d/fd" % pid))
    except OSError:
        return 0


class Watcher(threading.Thread):
    """Two processes that have one account's index open at the same time: one held it before and after the other was seen."""

    def __init__(self, control):
        super().__init__(name="watcher", daemon=True)
        self.control = control
        self.processes = Processes(control.server)
        self.looks = 0

    def run(self):
        while not self.control.ended:
            by_account = {}
            for pid, program, account in self.processes.all():
                if program == "store-keeper":
                    by_account.setdefault(account, []).append(pid)
            self.looks += 1
            for account, pids in by_account.items():
                if len(pids) > 1:
                    self.compare(account, pids)
            time.sleep(0.005)

    def compare(self, account, pids):
        for a in pids:
            for b in pids:
                if a != b and index_files(a, account) and index_files(b, account) and index_files(a, account):
                    self.control.fail(self, Failure("two keepers on account %d: %d and %d" % (account, a, b)))


class Control:
    """What the clients share, and the one who kills."""

    def __init__(self, rounds, seed):
        self.rounds = rounds
        self.seed = seed
        self.random = random.Random(seed)
        self.server = harness.Server(settings=SETTINGS)
        self.server.allow(r"level=(warn|error)")  # dying roles are reported
        self.server.passwords["carol@" + harness.DOMAIN] = PASSWORD
        self.server.run("account", "add", "carol@" + harness.DOMAIN, "--password-stdin", stdin=PASSWORD + "\n")
        self.ledger = Ledger()
        self.recipients = ACCOUNTS
        self.round = 0
        self.kills = {}
        self.sessions_struck = time.time()  # when a process was last killed, or was being replaced, with which sessions end
        self.back_times = []  # (seconds, of which so much more than allowed, who was killed)
        self.calm = [0.1]
        self.back_since = {}  # program -> when service was back after its death
        self.marks = {}
        self.segments = 0
        self.seen = {a: {} for a in ACCOUNTS}  # account -> {token: times seen}
        self.condition = threading.Condition()
        self.verbose = bool(os.environ.get("DEATH_VERBOSE"))
        self.ended = False
        self.error = None
        self.actors = []

    # The clients.

    def begin(self):
        self.segments += 1
        self.run_name = "s%d" % self.segments
        self.ended = False
        self.pausing = False
        self.resting = self.waves = 0
        self.processes = Processes(self.server)
        owners = [Owner(self, 10 * self.segments + i, user) for i, user in enumerate(["alice", "alice", "bob"])]
        readers = [Reader(self, i, user) for i, user in enumerate(ACCOUNTS)]
        senders = [Sender(self, "smtp%d" % i, i) for i in range(2)]
        taken = self.actors[-1].taken if self.actors else set()
        self.actors = owners + readers + senders + [Maildrop(self, "carol")]
        self.actors[-1].taken = taken
        self.watcher = Watcher(self)
        for a in self.actors + [self.watcher]:
            a.start()

    def go_on(self, actor):
        """Waits while there is a barrier. False at the end."""
        if not self.pausing:
            return not self.ended
        for what in (actor.come_to_rest, actor.at_rest):
            self.patiently(what, actor.ended)
            with self.condition:
                self.resting += 1
                wave = -(-self.resting // len(self.actors))
                self.condition.notify_all()
                self.condition.wait_for(lambda w=wave: self.waves >= w or self.ended)
            if self.ended:
                return False
        return True

    def patiently(self, fn, ended=lambda: None):
        """fn, again and again until the server lets it through; ended after each time that it does not."""
        deadline = time.time() + FINISH_SECONDS_MAX
        while True:
            try:
                return fn()
            except Ended as e:
                ended()
                if time.time() > deadline:
                    raise Failure("no service for %d s: %s" % (FINISH_SECONDS_MAX, e)) from e
                time.sleep(0.03)

    def lost(self, actor, error):
        """Connections end here. While nobody but keepers dies (or who has no sessions), each session goes on or is told BYE."""
        if isinstance(error, Untold) and time.time() - self.sessions_struck > UNTOLD_SECONDS:
            raise Failure("%s: a session ended without BYE though no process of its own was killed: %s" % (actor.name, error))

    def fail(self, actor, error):
        with self.condition:
            if self.error is None:
                self.error = (actor.name, error)
            self.ended = True
            self.condition.notify_all()

    # Killing.

    def kill(self, pid, role):
        try:
            os.kill(pid, signal.SIGKILL)
            self.say("killed %s %d" % (role, pid))
            self.kills[role] = self.kills.get(role, 0) + 1
        except ProcessLookupError:
            pass

    def victim(self, program):
        pids = self.processes.of(program)
        return self.random.choice(pids) if pids else None

    def kill_one(self, program, role):
        pid = self.victim(program)
        if pid:
            self.kill(pid, role)
        return pid

    def paced(self, program):
        """A role of the supervisor's own list: not again before it counts as stable."""
        if time.time() - self.back_since.get(program, 0) < PACED_SECONDS:
            return False
        self.back_since[program] = None
        return True

    def strike(self, what):
        """False when that cannot be now."""
        if "store" in what and not self.paced("store-parent") or "deliver" in what and not self.paced("smtpd-deliver") or \
                "queue" in what and not self.paced("smtpd-queue"):
            return False
        keepers = [p for p, program, _ in self.processes.all() if program == "store-keeper"]
        keeper = self.random.choice(keepers) if keepers else None
        if "keeper" in what and keeper is None:
            return False
        if what == "keeper that writes its base copy":
            return self.strike_base()
        if what == "supervisor":
            return self.strike_supervisor()
        if what == "store, with a keeper that hangs":
            os.kill(keeper, signal.SIGSTOP)
        elif "keeper" in what and not what.startswith("store"):
            self.kill(keeper, "keeper")
        for word, program in (("imap worker", "imapd-worker"), ("pop3 worker", "pop3d-worker"), ("store", "store-parent"),
                              ("deliver", "smtpd-deliver"), ("queue", "smtpd-queue"), ("and worker", "imapd-worker")):
            if word in what and self.kill_one(program, word.removeprefix("and ").removeprefix("imap ")) is None:
                return False
        if what == "store, then a keeper that leaves":
            time.sleep(self.random.random() * 0.02)
            self.kill(keeper, "leaving keeper")
        elif what == "keeper, then its successor":
            self.strike_successors(keeper)
        return True

    def strike_successors(self, before):
        """Once or twice more, while it starts and recovers."""
        for _ in range(self.random.choice([1, 1, 2])):
            account = self.processes.known.get(before, (None, None))[1]
            deadline = time.time() + 0.5
            after = None
            while after is None and time.time() < deadline:
                after = next((p for p, what, a in self.processes.all()
                              if what == "store-keeper" and a == account and p != before), None)
            if after is None:
                return
            time.sleep(self.random.random() * 0.03)
            self.kill(after, "starting keeper")
            before = after

    def strike_base(self):
        """A keeper that leaves writes it when its log has grown enough; who looks closely finds it at that."""
        keepers = [(pid, account) for pid, program, account in self.processes.all() if program == "store-keeper"]
        if not self.paced("store-parent") or self.kill_one("store-parent", "store") is None:
            return False
        deadline = time.time() + 0.1
        while time.time() < deadline:
            for pid, account in keepers:
                if os.path.exists("%s/state/accounts/%d/index/base.new" % (self.server.demo, account)):
                    time.sleep(self.random.random() * 0.004)
                    self.kill(pid, "keeper at its base copy")
                    return True
        return True

    def strike_supervisor(self):
        self.server.process.kill()
        self.server.process.wait()
        self.kills["supervisor"] = self.kills.get("supervisor", 0) + 1
        # As a service manager does: again and again, since the ports are taken until the last role has ended.
        for _ in range(10):
            try:
                self.start_server()
                return True
            except RuntimeError:
                time.sleep(0.1)
        raise Failure("the server does not start again")

    def start_server(self):
        self.server.start()
        self.server.passwords["carol@" + harness.DOMAIN] = PASSWORD

    # Is it back?

    def probe(self):
        """A delivery to all and logins by IMAP and POP3, each answered."""
        token = "probe-%d-%d" % (self.round, time.time_ns())
        with self.server.raw("smtp", timeout=20) as s:
            s.reply()
            for line in ["EHLO client.example", "MAIL FROM:<p@client.example>"] + \
                    ["RCPT TO:<%s>" % self.server.address(a) for a in ACCOUNTS] + ["DATA"]:
                if not s.send(line + "\r\n").reply().startswith((b"2", b"3")):
                    raise Ended(line)
            self.ledger.begin(token, ACCOUNTS)
            ok = s.send(message(token) + b".\r\n").reply().startswith(b"250")
            self.ledger.outcome(token, ok)
            if not ok:
                raise Ended("DATA")
        self.say("probe: SMTP answered")
        for account in ACCOUNTS:
            c = Imap(self.server, account)
            self.say("probe: IMAP login of " + account)
            try:
                if c.select("INBOX", "EXAMINE") is None:
                    raise Ended("EXAMINE")
            finally:
                c.close()

    def look_calmly(self):
        """How long the questions take when nobody has died."""
        time.sleep(0.3)
        began = time.time()
        self.probe()
        self.calm = self.calm[-4:] + [time.time() - began]

    def back(self, what, since):
        while not self.ended:
            try:
                self.probe()
                break
            except (Ended, OSError) as e:
                self.say("probe: %r" % e)
                if time.time() - since > GONE_SECONDS_MAX:
                    raise Failure("no service any more after the death of %s" % what) from None
                time.sleep(0.02)
        took = time.time() - since
        self.say("back after %.2f s" % took)
        for program in self.back_since:
            self.back_since[program] = self.back_since[program] or time.time()
        self.back_times.append((took, took - BACK_SECONDS_MAX - CALM_FACTOR * sorted(self.calm)[len(self.calm) // 2], what))

    # Rounds.

    def say(self, text):
        if self.verbose:
            print("death: %.3f %s" % (time.time(), text), flush=True)

    def a_round(self):
        what = self.random.choices([w for _, w in ROUNDS], [n for n, _ in ROUNDS])[0]
        time.sleep(self.random.random() * 0.12)
        ends_sessions = any(word in what for word in ("worker", "store", "base copy", "supervisor"))
        if ends_sessions:
            self.sessions_struck = time.time() + GONE_SECONDS_MAX
        if not self.strike(what):
            what = "keeper"
            self.kill_one("store-keeper", "keeper")
        since = time.time()
        self.back(what, since)
        if ends_sessions:
            self.sessions_struck = time.time()
        self.round += 1
        if self.round % ROUNDS_PER_BARRIER == 0:
            self.barrier()
            self.look_calmly()

    def segment(self, rounds):
        self.begin()
        try:
            for _ in range(rounds):
                if not self.ended:
                    self.a_round()
            if not self.ended:
                self.barrier()
        except BaseException as e:
            self.fail(threading.current_thread(), e)
        with self.condition:
            self.ended = True
            self.condition.notify_all()
        for a in self.actors + [self.watcher]:
            a.join(60)
        if self.error:
            raise self.error[1]

    def barrier(self):
        """All pause; when everything is quiet each looks whether what it sees is right; then the deliveries are counted."""
        first = self.waves + 1
        self.pausing = True
        for wave in (first, first + 1):
            with self.condition:
                done = self.condition.wait_for(lambda w=wave: self.resting >= w * len(self.actors) or self.ended, 120)
                if self.ended:
                    return
                if not done:
                    raise Failure("a client does not come to rest: %d of %d did" % (self.resting, wave * len(self.actors)))
                if wave > first:
                    break
                self.waves = wave
                self.condition.notify_all()
        self.count()
        with self.condition:
            self.pausing = False
            self.waves = first + 1
            self.condition.notify_all()

    def take_inbox(self, account):
        """Notes the tokens of an INBOX, then empties it."""
        c = Imap(self.server, account)
        try:
            if c.select("INBOX") is None:
                raise Ended("INBOX")
            found = c.contents()
            there = dict(self.seen[account])
            for token, _ in found.values():
                there[token] = there.get(token, 0) + 1
                if self.ledger.sent[token][1] is False:
                    raise Failure("%s has %s, which was refused" % (account, token))
                if there[token] > 1:
                    raise Failure("%s has %s more than once (answered: %r)" % (account, token, self.ledger.sent.get(token)))
            if found and c.command("UID STORE 1:* +FLAGS.SILENT (\\Deleted)")[0] != "OK":
                raise Ended("STORE")
            self.seen[account] = there
            if found and c.command("EXPUNGE")[0] != "OK":
                raise Failure("EXPUNGE at rest")
        finally:
            c.close()

    def missing(self):
        taken = self.actors[-1].taken
        lost = []
        for token, (accounts, outcome) in self.ledger.sent.items():
            if outcome:
                lost += [(token, a) for a in accounts
                         if token not in self.seen[a] and not (a == "carol" and token in taken)]
        return lost

    def count(self):
        deadline = time.time() + FINISH_SECONDS_MAX
        while True:
            for account in ACCOUNTS:
                self.patiently(lambda a=account: self.take_inbox(a))
            lost = self.missing()
            if not lost:
                break
            if time.time() > deadline:
                raise Failure("acknowledged and lost: %r" % lost[:10])
            self.server.run("queue", "retry", check=False)
            time.sleep(0.1)
        twice = [t for t in self.seen["carol"] if t in self.actors[-1].taken]
        if twice:
            raise Failure("deleted by POP3, and there: %r" % twice[:10])

    # The end of a segment: every account as it lies on the disk.

    def check_accounts(self):
        root = self.server.demo + "/state/accounts"
        for name in sorted(os.listdir(root)):
            done = subprocess.run([CHECK, os.path.join(root, name)], capture_output=True, text=True, timeout=120)
            if done.returncode != 0:
                raise Failure("account %s: %s%s" % (name, done.stdout[-500:], done.stderr[-500:]))
            for line in done.stdout.splitlines():
                key, *values = line.split()
                mark = self.marks.get((name, key))
                values = [int(v) for v in values]
                if mark and (mark[0] != values[0] or any(a > b for a, b in zip(mark, values))):
                    raise Failure("account %s: %s went back from %r to %r" % (name, key, mark, values))
                self.marks[name, key] = values

    def report(self):
        print("death: %d rounds in %d segments, %d kills: %s" % (
            self.round, self.segments, sum(self.kills.values()), ", ".join("%s %d" % k for k in sorted(self.kills.items()))))
        for kind, fates in sorted(self.ledger.fates.items()):
            print("death: %s: %s" % (kind, ", ".join("%s %d" % f for f in sorted(fates.items()))))
        unanswered = [(t, a) for t, (accounts, outcome) in self.ledger.sent.items() if outcome is None for a in accounts]
        stored = sum(t in self.seen[a] or t in self.actors[-1].taken for t, a in unanswered)
        print("death: of the unanswered deliveries %d are stored once, %d are not" % (stored, len(unanswered) - stored))
        times = sorted(self.back_times)
        slow = ["%.1f s (%s)" % (took, what) for took, more, what in times if more > 0]
        print("death: service was back after %.2f s (median), at most %.2f s (%s); in %d rounds after more than %d s; without a "
              "death %.2f s" % (times[len(times) // 2][0], times[-1][0], times[-1][2],
                                sum(t[0] > BACK_SECONDS_MAX for t in times), BACK_SECONDS_MAX, sorted(self.calm)[len(self.calm) // 2]))
        if len(slow) > (self.rounds // SLOW_OF if self.rounds >= LONG_ROUNDS else self.rounds // 2):
            raise Failure("service was not back in %d s: %s" % (BACK_SECONDS_MAX, ", ".join(slow)))

    def run(self, segment):
        began = time.time()
        while self.round < self.rounds:
            self.segment(min(segment, self.rounds - self.round))
            wrong = self.server.stop()
            if wrong:
                raise Failure("at the end: " + "\n".join(wrong[:20]))
            self.check_accounts()
            print("death: %d rounds, %.0f s" % (self.round, time.time() - began), flush=True)
            if self.round < self.rounds:
                self.start_server()
        self.report()
        print("death: %.1f s" % (time.time() - began), flush=True)

    def close(self):
        if self.server.process.poll() is None:
            self.server.stop()
        self.server.process = None
        if self.error:
            os.environ["MAILSTEAD_KEEP"] = "1"
        self.server.close()


def run(rounds, seed, segment=250):
    """Raises what went wrong."""
    control = Control(rounds, seed)
    try:
        control.run(segment)
    except BaseException as e:
        who = control.error[0] if control.error else "main"
        control.error = control.error or (who, e)
        print("death: FAILED in round %d (%s): %s\n  again: tests/instance/death.py --rounds %d --seed %d\n  kept: %s" % (
            control.round, who, e, rounds, seed, control.server.directory), flush=True)
        raise
    finally:
        control.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--segment", type=int, default=250)
    args = parser.parse_args()
    print("death: seed %d, %d rounds" % (args.seed, args.rounds), flush=True)
    try:
        run(args.rounds, args.seed, args.segment)
    except Exception as e:
        if not isinstance(e, Failure):
            raise
        sys.exit(1)


if __name__ == "__main__":
    main()
