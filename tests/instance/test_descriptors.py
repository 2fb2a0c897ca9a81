"""Processes that have no descriptor left: what they cannot do waits or is refused for the moment, nothing acknowledged is lost
or doubled, nobody spins, and all goes on by itself when there are some again.

Of each program in turn, and of all at once, so many descriptors stay free that the next ones fail at another place; and of the
supervisor, while it has to replace a process. Here a few of these cases run; `make descriptors` runs all.
"""

import imaplib
import os
import resource
import signal
import sys
import threading
import time
import unittest

import harness

PROGRAMS = ["store-keeper", "store-parent", "smtpd-deliver", "smtpd-queue", "smtpd-verify", "smtpd-front", "imapd-front",
            "imapd-worker", "authd-directory", "authd-verifier", "authd-key", "dnsd-resolver", "traced-recorder", "mailstead"]
ALL = os.environ.get("MAILSTEAD_DESCRIPTORS") == "all"
WITHOUT_SECONDS = 1.0 if ALL else 0.5
AGAIN_SECONDS_MAX = 120 if harness.INSTRUMENTED else 60
EXPECTED = (r"Too many open files|event=(descriptors-spent|keeper-failed|keeper-broken|process-ended|role-ended|start-failed|"
            r"restart-later|trace-lost|accept-paused|connect-refused|attach-refused|keeper-refused|fetch-failed|spool-full|"
            r"login-failed-internally|no-edge|no-control-edge|spawn-refused|limits-untold|append-unanswered|deferred)\b")


def message(token):
    return ("From: s@client.example\r\nSubject: %s\r\n\r\nbody\r\n" % token).encode()


def processor_seconds(pid):
    with open("/proc/%d/stat" % pid, encoding="ascii") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Without:
    """Takes the free descriptors but `room` away from these processes, for a while."""

    def __init__(self, pids, room):
        self.old = []
        self.used = {}
        for pid in pids:
            try:
                limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
                resource.prlimit(pid, resource.RLIMIT_NOFILE, (self.limit(pid, room), limits[1]))
                self.old.append((pid, limits))
            except (ProcessLookupError, FileNotFoundError):
                pass  # a keeper or worker that left meanwhile

    @staticmethod
    def limit(pid, room):
        """The limit under which so many numbers are free."""
        taken = {int(n) for n in os.listdir("/proc/%d/fd" % pid)}
        n = 0
        while room > 0 or n in taken:
            room -= n not in taken
            n += 1
        return n

    def __enter__(self):
        self.before = {pid: processor_seconds(pid) for pid, _ in self.old}
        return self

    def __exit__(self, *exc):
        for pid, limits in self.old:
            try:
                self.used[pid] = processor_seconds(pid) - self.before[pid]
                resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
            except (ProcessLookupError, FileNotFoundError):
                pass  # it ended: its successor has its own


class Mail:
    """Deliveries and APPENDs at once, and which were acknowledged."""

    def __init__(self, server):
        self.server = server
        self.acked = []
        self.refused = []
        self.threads = []
        self.session = login(server)

    def deliver(self, token):
        try:
            code, text = self.server.deliver(message(token))
        except OSError:
            return False  # the connection was not served to its end
        assert code // 100 in (2, 4), "%d %s" % (code, text)
        (self.acked if code == 250 else self.refused).append(token)
        return code == 250

    def append(self, session, token):
        try:
            ok, text = session().append("INBOX", None, None, message(token))
        except OSError:
            return
        except Exception as e:
            assert "BYE" in str(e) or "EOF" in str(e) or "UNAVAILABLE" in str(e), str(e)
            return
        assert ok == "OK" or b"UNAVAILABLE" in text[0] or b"SERVERBUG" not in text[0], text
        if ok == "OK":
            self.acked.append(token)

    def begin(self, name):
        acts = [lambda i=i: self.deliver("%s-smtp-%d" % (name, i)) for i in range(3)]
        acts.append(lambda: self.append(lambda: self.session, "%s-append" % name))
        acts.append(lambda: self.append(self.server.imap, "%s-login" % name))
        self.errors = []
        self.threads = [threading.Thread(target=self.guard, args=(act,), daemon=True) for act in acts]
        for t in self.threads:
            t.start()

    def guard(self, act):
        try:
            act()
        except BaseException as e:  # reported by end()
            self.errors.append(e)

    def end(self):
        deadline = time.time() + AGAIN_SECONDS_MAX
        for t in self.threads:
            t.join(max(0, deadline - time.time()))
            assert not t.is_alive(), "a client got no answer"
        if self.errors:
            raise self.errors[0]

    def again(self, token):
        harness.wait_for(lambda: self.deliver(token), AGAIN_SECONDS_MAX, 0.2)


def login(server):
    """A session; what it needs may still be starting."""
    def one():
        try:
            return server.imap()
        except (OSError, imaplib.IMAP4.error):
            return None
    return harness.wait_for(one, AGAIN_SECONDS_MAX, 0.2)


def subjects(server):
    c = login(server)
    c.select("INBOX", readonly=True)
    _, data = c.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
    found = [part[1].decode().split("Subject: ")[1].strip() for part in data if isinstance(part, tuple)]
    c.logout()
    return found


def missing(server, tokens):
    """Those that are not there exactly once. What was acknowledged while no keeper could be had waits in the queue for a second."""
    deadline = time.time() + AGAIN_SECONDS_MAX
    while True:
        found = subjects(server)
        if all(found.count(t) > 0 for t in tokens) or time.time() > deadline:
            return ["%s is there %d times" % (t, found.count(t)) for t in tokens if found.count(t) != 1]
        time.sleep(0.2)


def pids_of(server, programs):
    running = server.processes()
    running["mailstead"] = [server.process.pid]
    return [pid for p in programs for pid in running.get(p, [])]


def case(server, programs, room, killed=None):
    name = "%s-%d" % (programs[0] if len(programs) == 1 else "all", room) + ("-%s" % killed if killed else "")
    began = time.time()
    mail = Mail(server)
    mail.again(name + "-before")
    without = Without(pids_of(server, programs), room)
    assert without.old, name
    with without:
        for pid in pids_of(server, [killed]):
            os.kill(pid, signal.SIGKILL)
        mail.begin(name)
        time.sleep(WITHOUT_SECONDS)
    mail.end()
    answered = time.time()
    mail.again(name + "-after")
    wrong = missing(server, mail.acked)
    spun = max(without.used.values(), default=0)
    if spun > WITHOUT_SECONDS / 5:
        wrong.append("a process spun: %r" % without.used)
    print("%-32s refused %d, lost %d, answers %.1f s, again %.1f s, most processor %.2f s" %
          (name, len(mail.refused), len(wrong), answered - began, time.time() - answered, spun), file=sys.stderr, flush=True)
    assert not wrong, wrong


class TestDescriptors(harness.InstanceTest):
    settings = {"queue.retry": "1s"}

    def test_without(self):
        self.server.allow(EXPECTED)
        if ALL:
            cases = [([p], room, None) for room in (0, 1, 2, 3, 5) for p in PROGRAMS]
            cases += [(PROGRAMS, room, None) for room in range(8)]
            cases += [(["mailstead"], room, p) for room in (0, 1, 2, 3, 4) for p in PROGRAMS if p != "mailstead"]
        else:
            cases = [(PROGRAMS, 0, None), (PROGRAMS, 2, None), (["mailstead"], 1, "smtpd-deliver"), (["mailstead"], 1, "store-keeper")]
        for args in cases:
            with self.subTest(args=args):
                case(self.server, *args)


if __name__ == "__main__":
    unittest.main()
