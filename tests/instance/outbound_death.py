#!/usr/bin/python3
"""kill -9 on the way out: queue, transport, deliver and the submission front at random moments, while users send to other servers.

What a client was told 250 of must reach the receiver, once; or as often again as the time line says that a reply to the end of the message was
lost. What the client got no answer for, or was told to come again with, may be there once, or not at all. The receiver is slow now and then, and takes its time with the
reply to the end, so that deaths meet every part of the dialogue.

    outbound_death.py [--rounds N] [--seed N]
"""

import argparse
import collections
import os
import random
import re
import smtplib
import socket
import socketserver
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import harness  # noqa: E402
import ports  # noqa: E402

# A role that is killed again sooner after it came back is restarted with a pause.
PACED_SECONDS = 2.5
CLIENTS = 4
DOMAINS = ["one.example", "two.example", "three.example", "four.example"]
VICTIMS = ["smtpd-queue", "smtpd-transport", "smtpd-submission", "smtpd-deliver"]
SETTLE_SECONDS = 120
EXPLAINED = 5


class Failure(Exception):
    pass


class Receiver:
    """Takes everything, and counts how often each token came to its end."""

    def __init__(self):
        self.port = ports.take((socket.SOCK_STREAM,))
        self.lock = threading.Lock()
        self.arrived = collections.Counter()
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                try:
                    outer.talk(self.rfile, self.wfile)
                except OSError:
                    pass

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True
            request_queue_size = 128

        self.server = Server(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def talk(self, read, write):
        slow = random.random() < 0.2
        write.write(b"220 receiver\r\n")
        while True:
            line = read.readline()
            if not line:
                return
            verb = line.split(None, 1)[0].upper() if line.strip() else b""
            if slow:
                time.sleep(random.random() * 0.05)
            if verb == b"EHLO":
                write.write(b"250-receiver\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
            elif verb == b"DATA":
                write.write(b"354 go on\r\n")
                if not self.take(read):
                    return
                if slow:
                    time.sleep(random.random() * 0.1)
                write.write(b"250 taken\r\n")
            elif verb == b"QUIT":
                write.write(b"221 bye\r\n")
                return
            else:
                write.write(b"250 fine\r\n")

    def take(self, read):
        token = None
        while True:
            line = read.readline()
            if not line:
                return False
            if line.startswith(b"Subject: token-"):
                token = line.split(b"-", 1)[1].strip().decode()
            if line == b".\r\n":
                break
        with self.lock:
            self.arrived[token] += 1
        return True

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Run:
    def __init__(self, rounds, seed):
        self.rounds = rounds
        self.random = random.Random(seed)
        self.receiver = Receiver()
        self.server = harness.Server(zones={d: "@ IN MX 10 mx\nmx IN A 127.0.0.1\n" for d in DOMAINS}, settings={
            "transport.enabled": "yes", "transport.loopback": "yes", "transport.port": self.receiver.port, "queue.remote_retry": "1s", "trace.bytes": "16G",
            "login.connections_per_address": "100", "submission.day_messages": "0", "submission.day_recipients": "0",
            "submission.day_addresses": "0"})
        self.server.allow(r"(role-ended|restart-later).*|ipc|edge|garbage|unsent|reply-lost|append-unanswered|session-lost")
        self.lock = threading.Lock()
        self.told = {}  # token: queue id
        self.unknown = set()  # answered later, or not at all
        self.ending = False
        self.kills = collections.Counter()
        self.back_at = {}

    # The users.

    def send(self, session, token):
        to = "you@" + random.choice(DOMAINS)
        text = "From: alice@demo.test\r\nTo: %s\r\nSubject: token-%s\r\n\r\n%s\r\n" % (to, token, "text " * random.randrange(400))
        session.mail("alice@demo.test")
        session.rcpt(to)
        with self.lock:
            self.unknown.add(token)
        code, answer = session.data(text.encode())
        with self.lock:
            if code == 250 or code >= 500:
                self.unknown.discard(token)
            if code == 250:
                self.told[token] = answer.split()[-1].decode()

    def user(self, number):
        count = 0
        while not self.ending:
            try:
                with self.server.submission() as session:
                    for _ in range(10):
                        if self.ending:
                            return
                        count += 1
                        self.send(session, "%d.%d" % (number, count))
            except (OSError, smtplib.SMTPException):
                time.sleep(0.05)

    # Death.

    def strike(self):
        now = time.monotonic()
        ready = [v for v in VICTIMS if now - self.back_at.get(v, 0) > PACED_SECONDS]
        if not ready:
            time.sleep(0.05)
            return False
        victim = self.random.choice(ready)
        pids = self.server.processes().get(victim)
        if not pids:
            time.sleep(0.02)
            return False
        try:
            os.kill(pids[0], 9)
        except ProcessLookupError:
            return False
        self.kills[victim] += 1
        # The next one dies when this one is back, and the queue has heard what transport still has: when both are dead nobody knows.
        harness.wait_for(lambda: [p for p in self.server.processes().get(victim, []) if p not in pids], 40)
        harness.wait_for(lambda: self.server.run("queue", "retry", "0" * 16, check=False).returncode == 1, 40)
        self.back_at[victim] = time.monotonic()
        time.sleep(0.2 + self.random.random() * 0.4)
        return True

    # What came of it.

    def settled(self):
        self.server.run("queue", "flush", check=False)
        return self.server.run("queue", "list", "--json", check=False).stdout.split() == ["[]"]

    def lost_replies(self):
        """{queue id: how often the reply to its end was lost}, of the log, which says what the time line says."""
        return collections.Counter(re.findall(r"event=reply-lost .*?\bid=(\w+)", self.server.log()))

    def judge(self):
        arrived = self.receiver.arrived
        lost = self.lost_replies()
        asked = 0
        for token, queue_id in self.told.items():
            if arrived[token] == 0:
                raise Failure("%s (%s) was answered 250 and never arrived" % (token, queue_id))
            if arrived[token] < 2:
                continue
            # Each message has one recipient.
            if lost[queue_id] < arrived[token] - 1:
                raise Failure("%s (%s) arrived %d times, and nothing says why:\n%s" % (
                    token, queue_id, arrived[token], self.server.run("explain", queue_id, check=False).stdout))
            # Each takes a look through all of the time line.
            asked += 1
            if asked <= EXPLAINED and "reply-lost" not in self.server.run("explain", queue_id).stdout:
                raise Failure("%s (%s) arrived %d times, and its time line does not say so" % (token, queue_id, arrived[token]))
        # Nobody knows their ids: all of them together have no more copies than others' ends were lost.
        copies = sum(arrived[token] - 1 for token in self.unknown if arrived[token] > 1)
        others = sum(n for queue_id, n in lost.items() if queue_id not in self.told.values())
        if copies > others:
            raise Failure("those without an answer arrived %d times too often, and only %d replies were lost" % (copies, others))
        strange = set(arrived) - set(self.told) - self.unknown
        if strange:
            raise Failure("these arrived although they were refused: %s" % sorted(strange))

    def run(self):
        users = [threading.Thread(target=self.user, args=(i,)) for i in range(CLIENTS)]
        for u in users:
            u.start()
        try:
            done = 0
            while done < self.rounds:
                done += self.strike()
        finally:
            self.ending = True
            for u in users:
                u.join()
        harness.wait_for(self.settled, SETTLE_SECONDS, 0.5)
        time.sleep(0.5)  # the recorder has all of it
        self.judge()
        twice = sum(1 for n in self.receiver.arrived.values() if n > 1)
        # Two deaths may meet one message.
        more = sum(1 for n in self.receiver.arrived.values() if n > 2)
        print("outbound: %d killed (%s), %d messages told 250, %d arrived, %d of them more than once and told so (%d more than twice), "
              "%d without an answer" % (
            sum(self.kills.values()), ", ".join("%s %d" % k for k in sorted(self.kills.items())), len(self.told),
            len(self.receiver.arrived), twice, more, len(self.unknown)), flush=True)

    def close(self):
        wrong = self.server.stop()
        self.server.close()
        self.receiver.close()
        if wrong:
            raise Failure("\n".join(wrong))


def run(rounds, seed):
    r = Run(rounds, seed)
    try:
        r.run()
    except BaseException:
        print(r.server.log()[-8000:], file=sys.stderr)
        r.server.close()
        raise
    r.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    options = parser.parse_args()
    print("seed %d" % options.seed, flush=True)
    try:
        run(options.rounds, options.seed)
    except Failure as e:
        print("outbound: %s" % e, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
