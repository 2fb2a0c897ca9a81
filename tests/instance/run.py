#!/usr/bin/python3
"""Runs the instance tests named (test_imap, test_smtp.TestX.test_y) or all, and prints one closing line.

The tests wait more than they compute: their classes run side by side, INSTANCE_JOBS at a time (default: two more than there are
processors), each in a process and a directory for temporary files of its own. What a class prints is shown in one piece when it
has ended. The classes of ALONE come last, one after the other. A class has failed as well when its process dies, when it runs
for more than INSTANCE_SECONDS, or when it leaves something running. Nothing is run twice. However this program ends, all
that it has started ends too, and its directories are removed; those of a failed class that keeps something stay.
"""

import contextlib
import ctypes
import faulthandler
import glob
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
JOBS = int(os.environ.get("INSTANCE_JOBS", len(os.sched_getaffinity(0)) + 2))
SECONDS_MAX = int(os.environ.get("INSTANCE_SECONDS", "900"))
# What a class has ended, but not waited for, may take so long.
LEFT_SECONDS_MAX = 5
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

# These measure times within which something must happen, or load the machine until others would be late.
ALONE = ["test_events.TestEvents", "test_kill.TestKill", "test_kill.TestKeeperKilledAgainAndAgain", "test_soak.TestSoak",
         "test_dos.TestCrowds", "test_dos.TestManyPlaces", "test_accounts.TestTimes"]
# The long ones, longest first: what begins late is short, so that all end at about the same time.
FIRST = ["test_tls_scan.TestTestssl", "test_accounts.TestLogins", "test_death.TestDeath", "test_dns_faults.TestFaults", "test_quota.TestCrowd",
         "test_import.TestRoundTrip", "test_corpus.TestCorpus", "test_abuse.TestAbuse", "test_pop3.Pop3Test", "test_pop3.Pop3LimitsTest", "test_import_dovecot.TestDovecot",
         "test_outbound.TestDialogue", "test_outbound.TestSlow", "test_dsn.TestLate", "test_signing.TestMessages", "test_dsn.TestOutside",
         "test_smtp.TestQueue", "test_spf_cases.TestCases", "test_receivers.TestOpenSmtpd", "test_leaving.TestLeaving", "test_full_disk.TestFullDisk"]


class Ended(Exception):
    """Somebody wants this process to end."""


class Result(unittest.TextTestResult):
    def startTest(self, test):
        super().startTest(test)
        self.began = time.time()

    def stopTest(self, test):
        super().stopTest(test)
        took = time.time() - self.began
        if took > 5:
            self.stream.writeln("  (%.1f s)" % took)


def tests_of(suite):
    for t in suite:
        if isinstance(t, unittest.TestSuite):
            yield from tests_of(t)
        else:
            yield t


def classes(names):
    """{name of a class: its tests}, in the order in which they are to begin."""
    found = {}
    for t in tests_of(unittest.defaultTestLoader.loadTestsFromNames(names)):
        found.setdefault(t.id().rpartition(".")[0], []).append(t)
    others = sorted((n for n in found if n not in FIRST), key=lambda n: -len(found[n]))
    return {n: found[n] for n in FIRST + others if n in found}


def prctl(option, value):
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def fork(function, *args):
    """function is the whole of the child's life, and returns its exit status."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = function(*args)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)
    return pid


def end_when_told(*_):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
    raise Ended


# The process of a class, and the one above it.

def run_class(tests, place, pipe):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    tempfile.tempdir = os.environ["TMPDIR"] = place
    faulthandler.dump_traceback_later(SECONDS_MAX, exit=True)
    result = unittest.TextTestRunner(verbosity=2, resultclass=Result).run(unittest.TestSuite(tests))
    failed = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
    os.write(pipe, b"%d %d" % (max(0, result.testsRun - failed), failed))
    return 1 if failed or result.testsRun == 0 else 0


def program_of(pid):
    try:
        with open("/proc/%d/cmdline" % pid, encoding="utf-8", errors="replace") as f:
            return f.read().replace("\0", " ").strip()
    except OSError:
        return "process %d" % pid


def end_children(patience):
    """Waits for those that this process has or inherits, and in the end kills them; returns what it killed."""
    killed = {}
    deadline = time.time() + patience
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] != 0:
                continue
        except ChildProcessError:
            return list(killed.values())
        if time.time() >= deadline:
            with open("/proc/self/task/%d/children" % os.getpid(), encoding="ascii") as f:
                for pid in map(int, f.read().split()):
                    killed.setdefault(pid, program_of(pid))
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def wait_for_class(pid):
    """Its exit status, or 1 with a word about what was wrong with its end."""
    ended, status = os.waitpid(-1, 0)
    while ended != pid:
        ended, status = os.waitpid(-1, 0)
    left = end_children(LEFT_SECONDS_MAX)
    if left:
        print("left running: " + "; ".join(left))
    if os.WIFSIGNALED(status):
        print("its process died of signal %d" % os.WTERMSIG(status))
    return 1 if left or status != 0 else 0


def keep(tests, output, pipe, runner):
    """What the class leaves behind becomes a child of this process."""
    signal.signal(signal.SIGTERM, end_when_told)
    os.setsid()  # the terminal's Ctrl-C is the runner's
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != runner:
        return 1
    if output is not None:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    place = tempfile.mkdtemp(prefix="mailstead-")
    os.chmod(place, 0o711)  # some of what is tested has a user of its own
    keeps = False
    try:
        status = wait_for_class(fork(run_class, tests, place, pipe))
        keeps = status != 0 or bool(os.environ.get("MAILSTEAD_KEEP"))
        return status
    except Ended:
        return 1
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        end_children(0)
        if keeps and os.listdir(place):
            print("kept: " + place)
        else:
            shutil.rmtree(place, ignore_errors=True)


# The runner.

class Running:
    def __init__(self, name, tests, apart):
        self.name = name
        self.output = tempfile.TemporaryFile() if apart else None
        self.pipe, theirs = os.pipe()
        sys.stdout.flush()
        self.pid = fork(keep, tests, self.output, theirs, os.getpid())
        os.close(theirs)

    def show(self):
        if self.output:
            self.output.seek(0)
            print("== " + self.name)
            print(self.output.read().decode("utf-8", "replace"), flush=True)

    def counts(self, status):
        """(passed, failed)"""
        told = os.read(self.pipe, 100).split()
        os.close(self.pipe)
        if not told:
            return 0, 1
        passed, failed = map(int, told)
        return passed, failed if status == 0 else max(failed, 1)


class Runner:
    def __init__(self, apart):
        self.apart = apart
        self.running = {}
        self.passed = self.failed = 0
        self.failures = []

    def run(self, todo, jobs):
        todo = list(todo.items())
        while todo or self.running:
            while todo and len(self.running) < jobs:
                r = Running(*todo.pop(0), self.apart)
                self.running[r.pid] = r
            pid, status = os.wait()
            r = self.running.pop(pid)
            r.show()
            passed, failed = r.counts(status)
            self.passed += passed
            self.failed += failed
            if failed:
                self.failures.append(r.name)

    def end(self):
        """The signal may come when one has been waited for and is not taken out yet."""
        for pid in self.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        for r in self.running.values():
            with contextlib.suppress(ChildProcessError):
                os.waitpid(r.pid, 0)
            r.show()


def main():
    sys.stdout.reconfigure(line_buffering=True)
    signal.signal(signal.SIGTERM, end_when_told)
    todo = classes(sys.argv[1:] or sorted(os.path.basename(p)[:-3] for p in glob.glob(HERE + "/test_*.py")))
    runner = Runner(len(todo) > 1)
    try:
        runner.run({n: t for n, t in todo.items() if n not in ALONE}, JOBS)
        runner.run({n: t for n, t in todo.items() if n in ALONE}, 1)
    except (KeyboardInterrupt, Ended):
        runner.end()
        print("instance: ended before all had run")
        return 1
    if runner.failures:
        print("instance: failures in " + ", ".join(runner.failures))
    print("instance: %d passed, %d failed" % (runner.passed, runner.failed))
    return 1 if runner.failed or runner.passed == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
