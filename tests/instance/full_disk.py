"""Run by test_full_disk.py with a directory in which demo/state is a small file system of its own, and a scenario's name.

Deliveries go on until they are refused; then a stranger takes what is left, to the last octet. All the while reading,
flags, deletion, logins and the recovery of a killed keeper go on; and when there is room again, new mail is taken without anybody's help.
"""

import glob
import json
import os
import signal
import subprocess
import sys
import time

import harness

OCTETS = 700000
MiB = 1 << 20


class Disk:
    def __init__(self, state):
        self.state = state
        self.alien = state + "/of-a-stranger"

    def left(self):
        s = os.statvfs(self.state)
        return s.f_bavail * s.f_frsize

    def fill(self):
        """A stranger's file takes all that is left, and goes on until there is nothing for a while."""
        with open(self.alien, "ab", buffering=0) as f:
            quiet = 0
            while quiet < 5:
                try:
                    f.write(b"x" * min(max(self.left(), 4096), MiB))
                    quiet = 0
                except OSError:
                    quiet += 1
                    time.sleep(0.02)

    def empty(self):
        os.unlink(self.alien)


def expect(what, got, wanted):
    print("%-72s %s" % (what, got if isinstance(got, (str, int, bool)) else repr(got)[:100]), flush=True)
    if not wanted:
        raise AssertionError("%s: %r" % (what, got))


class Mail:
    """What was acknowledged, by token."""

    def __init__(self, server):
        self.server = server
        self.acked = {}
        self.number = 0

    def deliver(self, size, rcpt="alice"):
        self.number += 1
        token = "token-%d" % self.number
        line = b"x" * 70 + b"\r\n"
        message = ("From: s@client.example\r\nSubject: %s\r\n\r\n" % token).encode() + line * (size // len(line))
        code, text = self.server.deliver(message, rcpt=rcpt)
        if code == 250:
            self.acked[token] = rcpt
        return code, text

    def until_refused(self, size):
        for _ in range(400):
            code, text = self.deliver(size)
            if code != 250:
                return code, text
        raise AssertionError("never refused")

    def missing(self, user="alice"):
        """Tokens that were acknowledged and cannot be read."""
        c = self.server.imap(user)
        c.select("INBOX", readonly=True)
        _, data = c.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
        found = {part[1].decode().split("Subject: ")[1].strip() for part in data if isinstance(part, tuple)}
        c.logout()
        return sorted(t for t, rcpt in self.acked.items() if rcpt == user and t not in found)


def expunge(server, mail, count):
    """Deletes the oldest messages; what was expunged is no longer owed."""
    c = server.imap()
    c.select("INBOX")
    _, data = c.fetch("1:%d" % count, "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
    tokens = [part[1].decode().split("Subject: ")[1].strip() for part in data if isinstance(part, tuple)]
    ok, said = c.store("1:%d" % count, "+FLAGS.SILENT", "(\\Deleted)")
    expect("STORE +FLAGS (\\Deleted)", ok + " " + repr(said)[:60], ok == "OK")
    ok, said = c.expunge()
    expect("EXPUNGE", ok + " %d" % len(said), ok == "OK" and len(said) == count)
    c.logout()
    for token in tokens:
        mail.acked.pop(token, None)


def reads_and_changes(server, mail, when):
    expect("acknowledged and not there, " + when, mail.missing(), mail.missing() == [])
    c = server.imap()
    c.select("INBOX")
    ok, _ = c.store("1:2", "+FLAGS", "(\\Seen $Full)")
    expect("STORE, " + when, ok, ok == "OK")
    ok, data = c.fetch("1", "(BODY.PEEK[])")
    expect("FETCH of a whole message, " + when, ok, ok == "OK" and len(data[0][1]) > 10)
    c.logout()


def append_is_refused(server, size, when):
    c = server.imap()
    line = b"y" * 70 + b"\r\n"
    ok, said = c.append("INBOX", None, None, b"Subject: appended\r\n\r\n" + line * (size // len(line)))
    expect("APPEND, " + when, ok + " " + said[0].decode(), ok == "NO" and b"UNAVAILABLE" in said[0])
    c.logout()


def killed_keeper(server, mail, when):
    """Its successor recovers the account, which writes."""
    before = server.processes().get("store-keeper", [])
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    expect("keepers killed, " + when, len(before), len(before) > 0)
    harness.wait_for(lambda: not set(before) & set(server.processes().get("store-keeper", [])), 10)
    expect("acknowledged and not there, recovered, " + when, mail.missing(), mail.missing() == [])


def reserves(state):
    return sorted(os.path.relpath(p, state) for p in glob.glob(state + "/**/reserve", recursive=True))


def accepted_again(mail, seconds):
    def one():
        return mail.deliver(1000)[0] == 250
    harness.wait_for(one, seconds, 0.5)


def scenario(server, disk):
    mail = Mail(server)
    for user in ("alice", "bob"):
        code, text = mail.deliver(2000, user)
        expect("delivery to " + user, text, code == 250)
    expect("reserves", " ".join(reserves(disk.state)), "queue/reserve" in reserves(disk.state))

    code, text = mail.until_refused(OCTETS)
    expect("deliveries until %d MiB were left" % (disk.left() // MiB), text, code == 452 and "4.3.1" in text)
    expect("messages acknowledged", len(mail.acked), len(mail.acked) > 20)
    append_is_refused(server, OCTETS, "refused for want of room")
    reads_and_changes(server, mail, "refused for want of room")

    disk.fill()
    expect("octets left", disk.left(), disk.left() < 65536)
    for size in (1000, OCTETS, 2 * MiB):
        code, text = mail.deliver(size)
        expect("delivery of %d octets, full" % size, text, code == 452 and "4.3.1" in text)
    append_is_refused(server, 100, "full")
    reads_and_changes(server, mail, "full")
    killed_keeper(server, mail, "full")
    disk.fill()
    reads_and_changes(server, mail, "full, after recovery")
    expunge(server, mail, 20)
    expect("account passwd, full", server.run("account", "list").returncode, True)

    # Retention is over at once here, so the purge frees what was expunged: the stranger keeps what he has.
    accepted_again(mail, 60)
    expect("accepted again with the stranger's file in place, MiB left", disk.left() // MiB, True)
    reads_and_changes(server, mail, "after the purge")

    disk.fill()
    restart(server, mail, disk)
    disk.empty()
    accepted_again(mail, 30)
    expect("reserves at the end", " ".join(reserves(disk.state)), any(r.startswith("accounts/") for r in reserves(disk.state)))
    expect("acknowledged and not there, at the end", mail.missing() + mail.missing("bob"), not mail.missing() + mail.missing("bob"))


def restart(server, mail, disk):
    """The whole server ends and starts on a full disk, and serves what can be served."""
    wrong = server.stop()
    expect("stopped on a full disk", wrong, wrong == [])
    disk.fill()
    expect("octets left for the start", disk.left(), disk.left() < 65536)
    server.start()
    code, text = mail.deliver(1000)
    expect("delivery after a start on a full disk", text, code in (451, 452))
    reads_and_changes(server, mail, "started full")


def purge(server, disk):
    """What was expunged is retained, and its room comes back when the operator takes it for good, on the full disk."""
    mail = Mail(server)
    mail.until_refused(OCTETS)
    expunge(server, mail, 20)
    disk.fill()
    expect("octets left", disk.left(), disk.left() < 65536)
    code, text = mail.deliver(OCTETS)
    expect("delivery, full", text, code == 452 and "4.3.1" in text)
    listed = json.loads(server.run("undelete", "list", "alice@demo.test", "--json").stdout)
    expect("retained", len(listed["messages"]), len(listed["messages"]) == 20)
    back = server.run("undelete", "message", "alice@demo.test", listed["messages"][0]["id"], check=False)
    expect("undelete, full", back.stdout + back.stderr, back.returncode in (0, 4))
    done = json.loads(server.run("purge", "alice@demo.test", "--yes", "--json").stdout)
    expect("purged", done, done["messages"] == 20 - (back.returncode == 0) and done["bytes"] > 19 * OCTETS * 0.99)
    expect("octets left", disk.left(), disk.left() > 19 * OCTETS * 0.99 - 8 * MiB)
    accepted_again(mail, 10)
    reads_and_changes(server, mail, "after the purge")
    disk.empty()


SCENARIOS = {"fills-up": (scenario, {"store.retention": "1s", "store.keeper_linger": "5s"}), "purge": (purge, {})}


def main():
    directory = sys.argv[1]
    run, settings = SCENARIOS[sys.argv[2]]
    disk = Disk(directory + "/demo/state")
    server = harness.Server(settings=settings, directory=directory)
    server.allow(r"event=(reserve-given|keeper-refused|upkeep-failed|trace-\S+|directory-checkpoint|directory-db|queue-\S+|deferred)\b")
    server.allow(r"event=(role-ended|process-ended)\b.*\b(signal=9|status=137)")
    server.allow(r"event=ceiling-untold")
    server.allow(r"No space left on device|no space left|NO_SPACE|the disk is nearly full")
    try:
        run(server, disk)
    finally:
        wrong = server.stop()
        server.dns.stop()
    accounts = glob.glob(disk.state + "/accounts/*")
    for account in accounts:
        subprocess.run([harness.BUILD + "/tests/crash/account_check", account], check=True, stdout=subprocess.DEVNULL)
    expect("accounts that index_check finds sound", len(accounts), len(accounts) >= 1)
    expect("wrong at the end", wrong, wrong == [])
    print("full disk: passed")


if __name__ == "__main__":
    main()
