"""Clients that want to keep a server from serving others, each kind in a process of its own.

    with Attack(silent, port, 10000) as a:
        ...            # honest clients
    a.told()           # {name: number} of what it saw
"""

import errno
import itertools
import json
import multiprocessing
import os
import resource
import select
import signal
import socket
import time

# 127.1.0.1 and on: one host has as many addresses as a botnet.
ADDRESSES = ["127.1.%d.%d" % (a, b) for a in range(40) for b in range(1, 251)]
# New connections a second: an attacker is not to be stopped by the machine's own limits.
CONNECTS_PER_SECOND = 1000


class Attack:
    def __init__(self, kind, *args):
        self.ours, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("fork").Process(target=self.main, args=(theirs, kind, args), daemon=True)

    @staticmethod
    def main(pipe, kind, args):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.nice(5)
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        kind(lambda told: pipe.send_bytes(json.dumps(told).encode()), *args)

    def __enter__(self):
        self.process.start()
        return self

    def told(self, seconds=60):
        """What it says next."""
        if not self.ours.poll(seconds):
            raise AssertionError("an attacker says nothing")
        return json.loads(self.ours.recv_bytes())

    def latest(self):
        told = self.told()
        while self.ours.poll(0):
            told = json.loads(self.ours.recv_bytes())
        return told

    def __exit__(self, *exc):
        self.process.kill()
        self.process.join()


class Crowd:
    """count connections that are kept up: who is thrown out comes again, at most CONNECTS_PER_SECOND of them."""

    def __init__(self, port, count, per_address):
        self.port, self.count = port, count
        self.addresses = itertools.cycle(ADDRESSES[:(count + per_address - 1) // per_address])
        self.poll = select.epoll()
        self.sockets = {}
        self.opened = self.ended = self.failed = 0
        self.allowance = 0.0
        self.at = time.monotonic()

    def open_one(self):
        s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        s.setblocking(False)
        try:
            s.bind((next(self.addresses), 0))
            s.connect(("127.0.0.1", self.port))
        except OSError as e:
            if e.errno != errno.EINPROGRESS:
                s.close()
                self.failed += 1
                return
        self.sockets[s.fileno()] = s
        self.poll.register(s.fileno(), select.EPOLLIN)
        self.opened += 1

    def open_missing(self):
        now = time.monotonic()
        self.allowance = min(self.allowance + (now - self.at) * CONNECTS_PER_SECOND, CONNECTS_PER_SECOND)
        self.at = now
        while len(self.sockets) < self.count and self.allowance >= 1:
            self.allowance -= 1
            self.open_one()

    def end(self, fd):
        self.poll.unregister(fd)
        self.sockets.pop(fd).close()
        self.ended += 1

    def take(self, heard):
        """What the server says goes to heard(socket, octets)."""
        for fd, _ in self.poll.poll(0.05, 1000):
            try:
                data = self.sockets[fd].recv(65536)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if data:
                heard(self.sockets[fd], data)
            else:
                self.end(fd)

    def state(self):
        return {"open": len(self.sockets), "opened": self.opened, "ended": self.ended, "failed": self.failed}


def silent(tell, port, count, per_address):
    """They never say a word."""
    crowd = Crowd(port, count, per_address)
    last = 0.0
    while True:
        crowd.open_missing()
        crowd.take(lambda s, data: None)
        if time.monotonic() - last > 0.5:
            tell(crowd.state())
            last = time.monotonic()


DIALOGUE = (b"EHLO slow.example\r\nMAIL FROM:<slow@slow.example>\r\nRCPT TO:<alice@demo.test>\r\nDATA\r\n"
            b"From: slow@slow.example\r\nSubject: slow\r\n\r\n" + b"x" * 100000)


def slow(tell, port, count, per_address, seconds_per_octet=1.0):
    """One octet a second each, of a message that never ends; a third of them of its text from the first octet on."""
    crowd = Crowd(port, count, per_address)
    at = {}
    last = begin = time.monotonic()

    def heard(s, data):
        # The text may come only when it is asked for; what is before it comes at once from a third of them.
        if s.fileno() % 3 == 0 and data.startswith(b"220") and s not in at:
            at[s] = DIALOGUE.index(b"DATA") + 6
            s.send(DIALOGUE[:at[s]])
    while True:
        crowd.open_missing()
        crowd.take(heard)
        now = time.monotonic()
        if now - last >= seconds_per_octet:
            last = now
            for s in list(crowd.sockets.values()):
                n = at.get(s, 0)
                try:
                    at[s] = n + s.send(DIALOGUE[n:n + 1])
                except OSError:
                    pass
            living = set(crowd.sockets.values())
            at = {s: n for s, n in at.items() if s in living}
            tell(dict(crowd.state(), seconds=now - begin))


def stalling(tell, port, count, per_address):
    """Messages of domains whose DNS says nothing, each of another one: the server has to wait for it."""
    crowd = Crowd(port, count, per_address)
    number = itertools.count()
    answers = {}
    last = 0.0

    def begin():
        return (b"EHLO stall.example\r\nMAIL FROM:<a@n%d.silent.example>\r\nRCPT TO:<alice@demo.test>\r\nDATA\r\n" % next(number))

    def heard(s, data):
        if data.startswith(b"220"):
            s.send(begin())
        elif b"\r\n354" in data or data.startswith(b"354"):
            s.send(b"From: a@n%d.silent.example\r\nSubject: stall\r\n\r\nx\r\n.\r\n" % next(number))
        elif data[:1] in (b"2", b"4", b"5") and b"EHLO" not in data and not data.startswith(b"250-"):
            answers[data[:9].decode("latin-1")] = answers.get(data[:9].decode("latin-1"), 0) + 1
            if not data.startswith((b"250 2.1", b"421")):
                s.send(begin())
    while True:
        crowd.open_missing()
        crowd.take(heard)
        if time.monotonic() - last > 0.5:
            tell(dict(crowd.state(), answers=answers))
            last = time.monotonic()


class Speaker:
    """A client that looks at what it is answered."""

    def __init__(self, port, address):
        self.s = socket.create_connection(("127.0.0.1", port), 60, source_address=(address, 0))
        self.buffer = b""
        self.reply()

    def line(self):
        while b"\n" not in self.buffer:
            data = self.s.recv(65536)
            if not data:
                raise ConnectionResetError
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line

    def reply(self):
        line = self.line()
        while line[3:4] == b"-":
            line = self.line()
        return int(line[:3])

    def say(self, *lines):
        self.s.sendall(b"".join(line + b"\r\n" for line in lines))
        return [self.reply() for _ in lines]

    def begin(self, mail=b"MAIL FROM:<big@big.example>"):
        return self.say(b"EHLO big.example") + self.say(mail, b"RCPT TO:<alice@demo.test>")

    def pour(self, octets, block):
        """Sends so many octets; those that went before the server had enough, and its last words."""
        sent = 0
        try:
            while sent < octets:
                self.s.sendall(block)
                sent += len(block)
        except OSError:
            pass
        code = 0
        try:
            self.s.settimeout(30)
            while True:
                code = self.reply()
        except (OSError, ValueError):
            pass
        self.s.close()
        return {"sent": sent, "code": code}


TEXT = (b"x" * 76 + b"\r\n") * 1000
GIGABYTE = 1 << 30


def big(tell, port):
    """A message of 1 GB in each of the ways there are, over and over."""
    address = ADDRESSES[-1]
    while True:
        told = {}
        s = Speaker(port, address)
        told["declared"] = s.begin(b"MAIL FROM:<big@big.example> SIZE=%d" % GIGABYTE)[1]
        s.s.close()
        s = Speaker(port, address)
        s.begin()
        s.say(b"DATA")
        told["data"] = s.pour(GIGABYTE, TEXT)
        s = Speaker(port, address)
        s.begin()
        s.s.sendall(b"BDAT %d LAST\r\n" % GIGABYTE)
        told["chunk"] = s.pour(GIGABYTE, TEXT)
        s = Speaker(port, address)
        s.begin()
        told["chunks"] = s.pour(GIGABYTE, b"BDAT %d\r\n" % len(TEXT) + TEXT)
        tell(told)


def recipients(tell, port, count):
    """So many recipients in one transaction, and as many in transactions of a hundred; sessions begin anew when they are ended."""
    address = ADDRESSES[-2]
    while True:
        told = {}
        for name, per_transaction in (("one", count), ("many", 100)):
            codes, sent, sessions = {}, 0, 0
            while sent < count and sessions < 1000:
                sessions += 1
                try:
                    s = Speaker(port, address)
                    s.say(b"EHLO many.example")
                    while sent < count:
                        s.say(b"MAIL FROM:<many@many.example>")
                        for _ in range(0, per_transaction, 100):
                            got = s.say(*(b"RCPT TO:<alice+%d@demo.test>" % (sent + n) for n in range(100)))
                            sent += 100
                            for code in got:
                                codes[str(code)] = codes.get(str(code), 0) + 1
                        s.say(b"RSET")
                except (OSError, ValueError):
                    sent += 100
            told[name] = dict(codes, sessions=sessions)
        tell(told)
