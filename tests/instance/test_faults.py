"""A call of the file layer fails in a real keeper or queue (tests/fault/daemon_fault.c), a sync that fails losing what it was to make
durable: who was answered has what he was told, once; who was refused, or not answered, may come again; and the successor goes on.

Here a few of these cases run; `make daemon-fault` runs many.
"""

import glob
import imaplib
import os
import shutil
import signal
import subprocess
import sys
import threading
import unittest

import harness

ALL = os.environ.get("MAILSTEAD_FAULTS") == "all"
AGAIN_SECONDS_MAX = 120 if harness.INSTRUMENTED else 60
STEADY_SECONDS = 3
FAULTY = ("store-keeper", "smtpd-queue")
EXPECTED = (r"event=(role-ended|process-ended|restart-later|keeper-\S+|queue-\S+|append-unanswered|connect-refused|start-failed|reserve-given|"
            r"upkeep-failed|sync-failed|deferred|spool-\S+|copy-\S+|index-\S+|object-\S+|account-\S+|idle-\S+|env-\S+|db-\S+|request-\S+|limits-untold)")


def message(token):
    return ("From: s@client.example\r\nSubject: %s\r\n\r\n%s\r\n" % (token, "body " * 200)).encode()


class Acts:
    """What is done while the fault is there; what was answered."""

    def __init__(self, server, name):
        self.server = server
        self.name = name
        self.acked = []    # (mailbox, token): there once
        self.refused = []  # there not at all
        self.again = []    # there or not
        self.seen = []     # UIDs with $Told
        self.errors = []
        self.session = self.login()
        self.session.select("INBOX")

    def login(self):
        def one():
            try:
                return self.server.imap()
            except (OSError, imaplib.IMAP4.error):
                return None
        return harness.wait_for(one, AGAIN_SECONDS_MAX, 0.2)

    def deliver(self, token, rcpts=("alice",)):
        try:
            with self.server.smtp() as s:
                s.ehlo()
                s.mail("sender@client.example")
                if any(s.rcpt(self.server.address(r))[0] != 250 for r in rcpts):
                    return False
                code, text = s.data(message(token))
        except OSError:
            return False
        assert code // 100 in (2, 4), "%d %s" % (code, text)
        # Who is refused for one recipient's sake sends it again to all; it is there already for the others.
        where = self.acked if code == 250 else self.refused if len(rcpts) == 1 else self.again
        where.extend((r, "INBOX", token) for r in rcpts)
        return code == 250

    def imap(self):
        """A session goes on with the successor, or is told BYE; what it is answered holds."""
        c = self.session
        try:
            token = self.name + "-append"
            ok, text = c.append("INBOX", None, None, message(token))
            (self.acked if ok == "OK" else self.refused).append(("alice", "INBOX", token))
            assert ok == "OK" or b"UNAVAILABLE" in text[0], text
            uid = c.uid("SEARCH", "SUBJECT", self.name + "-before")[1][0].split()[0]
            if c.uid("STORE", uid, "+FLAGS", "($Told)")[0] == "OK":
                self.seen.append(uid)
            where = self.acked if c.uid("COPY", uid, "Archive")[0] == "OK" else self.refused
            where.append(("alice", "Archive", self.name + "-before"))
        except (OSError, imaplib.IMAP4.error):
            pass  # it was told BYE

    def run(self, functions):
        def guard(f):
            try:
                f()
            except BaseException as e:  # reported below
                self.errors.append(e)
        threads = [threading.Thread(target=guard, args=(f,), daemon=True) for f in functions]
        for t in threads:
            t.start()
        for t in threads:
            t.join(AGAIN_SECONDS_MAX * 2)
            assert not t.is_alive(), "no answer"
        if self.errors:
            raise self.errors[0]

    def found(self):
        """{(user, mailbox, token): how often}"""
        found = {}
        for user, box in (("alice", "INBOX"), ("alice", "Archive"), ("bob", "INBOX")):
            def fetch(user=user, box=box):
                try:
                    c = self.server.imap(user)
                    c.select(box, readonly=True)
                    data = c.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]
                    c.logout()
                    return [p[1].decode().split("Subject: ")[1].strip() for p in data if isinstance(p, tuple)] or [""]
                except (OSError, imaplib.IMAP4.error):
                    return None
            for token in harness.wait_for(fetch, AGAIN_SECONDS_MAX, 0.2):
                found[user, box, token] = found.get((user, box, token), 0) + 1
        return found

    def wrong(self):
        """After the queue has had its time."""
        def settled():
            found = self.found()
            return found if all(found.get(k) for k in self.acked) else None
        try:
            found = harness.wait_for(settled, AGAIN_SECONDS_MAX, 0.3)
        except AssertionError:
            found = self.found()
        wrong = ["%r is there %d times" % (k, found.get(k, 0)) for k in self.acked if found.get(k) != 1]
        wrong += ["%r was refused and is there" % (k,) for k in self.refused if k in found and k not in self.acked]
        c = self.login()
        c.select("INBOX", readonly=True)
        for uid in self.seen:
            if b"$Told" not in c.uid("FETCH", uid, "(FLAGS)")[1][0]:
                wrong.append("the flag of %s" % uid)
        c.logout()
        return wrong


class TestFaults(unittest.TestCase):
    def setUp(self):
        self.libexec = os.path.join(harness.tempfile.mkdtemp(prefix="mailstead-faults-"), "libexec")
        os.makedirs(self.libexec)
        for name in os.listdir(os.path.join(harness.BUILD, "libexec")):
            place = os.path.join(harness.BUILD, "tests", "fault") if name in FAULTY else os.path.join(harness.BUILD, "libexec")
            os.symlink(os.path.join(place, name), os.path.join(self.libexec, name))
        os.environ["MAILSTEAD_LIBEXEC"] = self.libexec
        self.addCleanup(os.environ.pop, "MAILSTEAD_LIBEXEC", None)
        self.addCleanup(shutil.rmtree, os.path.dirname(self.libexec))
        self.server = harness.Server(settings={"queue.retry": "1s", "store.keeper_linger": "1s"})
        self.server.allow(EXPECTED)
        self.server.allow(r"[Ii]nput/output error|[Nn]o space left|NO_SPACE|temporary failure|ipc|edge|BDB\d+|directory-db")
        self.addCleanup(self.end)
        c = self.server.imap()
        c.create("Archive")
        c.logout()
        self.account = min(int(os.path.basename(p)) for p in glob.glob(self.server.demo + "/state/accounts/*"))

    def end(self):
        wrong = self.server.stop()
        self.server.dns.stop()
        for account in glob.glob(self.server.demo + "/state/accounts/*"):
            subprocess.run([harness.BUILD + "/tests/crash/account_check", account], check=True, stdout=subprocess.DEVNULL)
        shutil.rmtree(self.server.directory, ignore_errors=True)
        self.assertEqual(wrong, [])

    def file(self, place):
        return os.path.join(self.server.demo, "state", place, "fault")

    def arm(self, program, place, fault):
        """The next process of that program in that directory fails so; it is told by a file that is there in one step."""
        path = self.file(place)
        with open(path + ".new", "w", encoding="ascii") as f:
            f.write(fault + "\n")
        os.rename(path + ".new", path)
        for pid in self.server.processes().get(program, []):
            os.kill(pid, signal.SIGKILL)

    def wait_steady(self, program):
        """Whose end then is not one of many, after which the supervisor pauses longer and longer (admin/supervisor_child.c)."""
        def steady():
            with open("/proc/uptime", encoding="ascii") as f:
                now = float(f.read().split()[0])
            for pid in self.server.processes().get(program, []):
                with open("/proc/%d/stat" % pid, encoding="ascii") as f:
                    began = int(f.read().rsplit(")", 1)[1].split()[19]) / os.sysconf("SC_CLK_TCK")
                return now - began > STEADY_SECONDS
            return False
        harness.wait_for(steady, AGAIN_SECONDS_MAX, 0.1)

    def keepers(self, account):
        place = os.path.realpath(os.path.dirname(self.file(account)))
        return [p for p in self.server.processes().get("store-keeper", []) if os.path.realpath("/proc/%d/cwd" % p) == place]

    def without_room(self, acts, account):
        """The keeper of that account goes on, and has no room for anything; as long as this session lasts."""
        self.arm("store-keeper", account, "edquot 1 1 later")
        session = acts.login()
        session.select("INBOX", readonly=True)
        harness.wait_for(lambda: not os.path.exists(self.file(account)), AGAIN_SECONDS_MAX, 0.1)
        for pid in self.keepers(account):
            os.kill(pid, signal.SIGUSR1)
        return session

    def disarm(self, program, place, fault, told):
        """It goes on after its fault, or has still to begin: it ends, and says which that was, and loses what was lost."""
        def of_it(line):
            # A keeper may have been told the same, and its files are in its own directory.
            return line.startswith(fault) and ("fired=no" in line or ("/state/queue/" in line) == (place == "queue"))

        def said():
            if any(of_it(line) for line in self.told()[told:]):
                return True
            # Before it took the file it would end without a word.
            for pid in [] if os.path.exists(self.file(place)) else self.server.processes().get(program, []):
                os.kill(pid, signal.SIGTERM)
            return False
        harness.wait_for(said, AGAIN_SECONDS_MAX, 0.1)

    def told(self):
        return [line for line in self.server.log().splitlines() if line.startswith("fault: ")]

    def case(self, program, kind, at, then):
        name = "%s-%s-%d-%d" % (program, kind, at, then)
        acts = Acts(self.server, name)
        harness.wait_for(lambda: acts.deliver(name + "-before"), AGAIN_SECONDS_MAX, 0.2)
        told = len(self.told())
        account = "accounts/%d" % self.account
        place = account if program == "store-keeper" else "queue"
        fault = "fault: %s %d %d" % (kind, at, then)
        if program == "store-keeper":
            self.arm(program, place, "%s %d %d" % (kind, at, then))
            acts.run([acts.imap] + [lambda i=i: acts.deliver("%s-%d" % (name, i)) for i in range(3)])
        else:
            self.wait_steady(program)
            # Her keeper has no room until the queue has ended: all that is taken for her meanwhile is in the queue, and only there.
            held = self.without_room(acts, account)
            self.arm(program, place, "%s %d %d" % (kind, at, then))
            harness.wait_for(lambda: not os.path.exists(self.file(place)), AGAIN_SECONDS_MAX, 0.1)
            acts.run([lambda i=i: acts.deliver("%s-%d" % (name, i), ("bob", "alice")) for i in range(3)])
        self.disarm(program, place, fault, told)
        if program != "store-keeper":
            for pid in self.keepers(account):
                os.kill(pid, signal.SIGTERM)
            held.shutdown()
        fired = [line for line in self.told()[told:] if line.startswith(fault) and "fired=no" not in line]
        harness.wait_for(lambda: acts.deliver(name + "-after"), AGAIN_SECONDS_MAX, 0.2)
        wrong = acts.wrong()
        print("%-32s acknowledged %d, refused %d, wrong %d, %s" % (name, len(acts.acked), len(acts.refused + acts.again), len(wrong),
                                                                     "; ".join(fired) or "nothing failed"), file=sys.stderr, flush=True)
        self.assertEqual(wrong, [])
        return bool(fired)

    def test_faults(self):
        if ALL:
            cases = [("store-keeper", kind, at, then) for kind, last in (("sync", 24), ("eio", 200), ("enospc", 60))
                     for at in range(1, last, max(1, last // 20)) for then in (0, 1)]
            cases += [("smtpd-queue", kind, at, then) for kind, last in (("sync", 28), ("eio", 130), ("enospc", 50))
                      for at in range(1, last, max(1, last // 12)) for then in (0, 1)]
        else:
            cases = [("store-keeper", "sync", 14, 0), ("store-keeper", "eio", 90, 0), ("store-keeper", "enospc", 12, 1),
                     ("smtpd-queue", "sync", 14, 0)]
        fired = 0
        for args in cases:
            with self.subTest(args=args):
                fired += self.case(*args)
        self.assertGreaterEqual(fired, len(cases) * 3 / 4)

    def test_told(self):
        """Her keeper and the queue have no room: who sends is told so, and she reads on. Others are served."""
        acts = Acts(self.server, "told")
        harness.wait_for(lambda: acts.deliver("told-before"), AGAIN_SECONDS_MAX, 0.2)
        account = "accounts/%d" % self.account
        session = self.without_room(acts, account)
        told = len(self.told())
        self.arm("smtpd-queue", "queue", "edquot 1 1 later")
        harness.wait_for(lambda: not os.path.exists(self.file("queue")), AGAIN_SECONDS_MAX, 0.1)
        for pid in self.server.processes()["smtpd-queue"]:
            os.kill(pid, signal.SIGUSR1)
        queues = self.server.processes()["smtpd-queue"]
        said = [self.server.deliver(message("told-%d" % i)) for i in range(3)]
        # A queue that cannot write may end, and its successor has room.
        took = [i for i, (code, _) in enumerate(said) if code == 250]
        self.assertTrue(took == [] or self.server.processes()["smtpd-queue"] != queues, said)
        self.assertEqual([code for code, _ in said], [250 if i in took else 452 for i in range(3)])
        self.assertEqual(said[0][0], 452)
        self.assertTrue(all("4.3.1" in text for code, text in said if code == 452), said)
        acts.acked += [("alice", "INBOX", "told-%d" % i) for i in took]
        self.assertIn(b"told-before", session.fetch("1", "(BODY.PEEK[])")[1][0][1])
        bob = self.server.imap("bob")
        self.assertEqual(self.server.deliver(message("told-bob"), rcpt="bob")[0], 250)
        bob.select("INBOX")
        self.assertEqual(bob.store("1", "+FLAGS", "(\\Deleted)")[0], "OK")
        self.assertEqual(bob.expunge(), ("OK", [b"1"]))
        # What only the queue can keep waits for it, or for its successor, which has room; he has it meanwhile.
        both = threading.Thread(target=acts.deliver, args=("told-both", ("bob", "alice")), daemon=True)
        both.start()
        harness.wait_for(lambda: bob.noop() and bob.search(None, "SUBJECT", "told-both")[1] != [b""], AGAIN_SECONDS_MAX)
        bob.logout()
        self.disarm("smtpd-queue", "queue", "fault: edquot 1 1 later", told)
        for pid in self.keepers(account):
            os.kill(pid, signal.SIGTERM)
        session.shutdown()
        both.join(AGAIN_SECONDS_MAX)
        self.assertIn(("alice", "INBOX", "told-both"), acts.acked)
        acts.refused += [("alice", "INBOX", "told-%d" % i) for i in range(3) if i not in took]
        harness.wait_for(lambda: acts.deliver("told-after"), AGAIN_SECONDS_MAX, 0.2)
        self.assertEqual(acts.wrong(), [])


if __name__ == "__main__":
    unittest.main()
