"""IMAP against a model: several sessions of one account, compared after every step.

A step is one random command of one session, a delivery or a POP3 session. The model knows what each mailbox must hold, and what each session has
been told of its mailbox: an EXPUNGE must name a message that is gone and never comes while FETCH, STORE or SEARCH run,
an EXISTS counts what is there, flags are those last told, a UID is never given twice. In every second stretch of steps every
session is looked at after each step; in the others they lag behind, so that much is to be told at once. MAILSTEAD_SEED replays a run, MAILSTEAD_STEPS makes it longer.
"""

import os
import random
import re
import unittest

import harness

SEED = int(os.environ.get("MAILSTEAD_SEED", random.SystemRandom().randrange(1 << 32)))
STEPS = int(os.environ.get("MAILSTEAD_STEPS", "300" if harness.INSTRUMENTED else "700"))
SESSIONS = 4
NAMES = ["INBOX", "a", "b", "a/c", "Entw&APw-rfe"]
FLAGS = ["\\Seen", "\\Deleted", "\\Flagged", "\\Answered", "\\Draft", "blue", "$Forwarded"]
MESSAGES_MAX = 60
STRETCH = 40


class Mailbox:
    def __init__(self):
        self.uidnext = 1
        self.uidvalidity = None
        self.messages = {}  # uid -> set of flags

    def add(self, flags):
        self.messages[self.uidnext] = set(flags)
        self.uidnext += 1


class Session:
    """One connection and what it has been told."""

    def __init__(self, test, number):
        self.test = test
        self.number = number
        self.tags = 0
        self.connect()

    def connect(self):
        server = self.test.server
        self.wire = server.raw("imaps", tls=True, timeout=60)
        self.mailbox = None
        self.readonly = False
        self.view = []
        self.flags = {}  # UID -> the flags that it was told
        self.told = 0  # the highest UID that may be numbered
        self.wire.line()
        self.wire.send("l LOGIN %s %s\r\n" % (server.address("alice"), server.password("alice")))
        self.test.assertIn(b"l OK", self.wire.until(b"l")[-1])

    def __repr__(self):
        return "session %d" % self.number

    def tag(self):
        self.tags += 1
        return b"%d.%d" % (self.number, self.tags)

    def command(self, text, literal=None):
        """(status, the tagged line, untagged lines); the untagged lines are checked against the model."""
        tag = self.tag()
        self.test.say("%r: %s" % (self, text))
        self.wire.send(tag + b" " + text.encode() + b"\r\n")
        lines = self.wire.until(tag)
        if literal is not None and lines[-1].startswith(b"+"):
            self.wire.send(literal + b"\r\n")
            lines = lines[:-1] + self.wire.until(tag)
        if not lines or not lines[-1].startswith(tag):
            raise AssertionError("%r ended: %r" % (self, lines))
        words = text.split(" ")
        quiet = words[0] in ("FETCH", "STORE", "SEARCH")
        return lines[-1].split(b" ")[1].decode(), lines[-1].decode(), [x.decode() for x in lines[:-1]], quiet

    def take(self, lines, quiet):
        """Applies untagged lines in order."""
        for line in lines:
            number = re.match(r"\* (\d+) (EXISTS|EXPUNGE|FETCH)(.*)", line, re.S)
            if number:
                getattr(self, "on_" + number.group(2).lower())(int(number.group(1)), number.group(3), quiet)

    def on_exists(self, n, _rest, _quiet):
        live = [u for u in sorted(self.mailbox.messages) if u > self.told]
        self.test.assertEqual(n, len(self.view) + len(live), "EXISTS of %r, which knows %r" % (self, self.view))
        self.view += live
        if live:
            self.told = live[-1]

    def on_expunge(self, n, _rest, quiet):
        self.test.assertFalse(quiet, "an EXPUNGE in FETCH, STORE or SEARCH")
        self.test.assertTrue(1 <= n <= len(self.view), "EXPUNGE %d of %d" % (n, len(self.view)))
        uid = self.view.pop(n - 1)
        self.flags.pop(uid, None)
        self.test.assertNotIn(uid, self.mailbox.messages, "%r: EXPUNGE of a message that is there" % self)

    def on_fetch(self, n, rest, _quiet):
        self.test.assertTrue(1 <= n <= len(self.view), "FETCH %d of %d" % (n, len(self.view)))
        uid = self.view[n - 1]
        named = re.search(r"UID (\d+)", rest)
        if named:
            self.test.assertEqual(int(named.group(1)), uid, "the UID of message %d" % n)
        flags = re.search(r"FLAGS \(([^)]*)\)", rest)
        if flags:
            self.flags[uid] = set(flags.group(1).split()) - {"\\Recent"}
        if flags and uid in self.mailbox.messages:
            self.test.assertEqual(self.flags[uid], self.mailbox.messages[uid], "the flags of UID %d" % uid)

    def settled(self, quiet):
        """After a command all is told, but what FETCH, STORE and SEARCH may not tell."""
        if self.mailbox is None:
            return
        there = sorted(self.mailbox.messages)
        seen = [u for u in self.view if u in self.mailbox.messages] if quiet else self.view
        self.test.assertEqual(seen, there, "%r after its command" % self)
        for uid, flags in self.flags.items():
            if uid in self.mailbox.messages:
                self.test.assertEqual(flags, self.mailbox.messages[uid], "%r: the flags of UID %d" % (self, uid))


def compact(uids):
    """{2, 3, 4, 7} -> "2:4,7"."""
    parts = []
    for u in sorted(uids):
        if parts and parts[-1][1] == u - 1:
            parts[-1][1] = u
        else:
            parts.append([u, u])
    return ",".join("%d" % a if a == b else "%d:%d" % (a, b) for a, b in parts)


def expand(text):
    uids = []
    for part in text.split(","):
        first, _, last = part.partition(":")
        uids += range(int(first), int(last or first) + 1)
    return uids


class TestModel(harness.InstanceTest):
    def say(self, text):
        self.story.append(text)

    def setUp(self):
        self.random = random.Random(SEED)
        self.story = []
        self.boxes = {"INBOX": Mailbox()}
        self.sessions = [Session(self, i) for i in range(SESSIONS)]

    def test_sessions_beside_each_other(self):
        print("seed %d, %d steps " % (SEED, STEPS), end="", flush=True)
        try:
            for number in range(STEPS):
                self.step()
                if number // STRETCH % 2:
                    self.look_at_all()
            for s in self.sessions:
                self.plain(s, "NOOP")
                if s.mailbox:
                    self.plain(s, "FETCH 1:* (FLAGS UID)")
        except BaseException:
            print("\n".join(["MAILSTEAD_SEED=%d; the last steps:" % SEED] + self.story[-25:]))
            raise

    def look_at_all(self):
        for s in self.sessions:
            if s.mailbox:
                self.plain(s, "NOOP")

    def step(self):
        s = self.random.choice(self.sessions)
        if s.mailbox is None:
            do = self.random.choice([self.select, self.select, self.append, self.create])
        else:
            do = self.random.choice([
                self.append, self.append, self.append, self.store, self.store, self.store, self.fetch, self.fetch,
                self.search, self.copy, self.copy, self.move, self.expunge, self.uid_expunge, self.noop, self.noop,
                self.select, self.close, self.status, self.create, self.delete, self.rename, self.idle, self.deliver,
                self.pop3])
        do(s)

    def plain(self, s, text, literal=None, change=None, may_fail=False):
        """One command whose change to the model, when it succeeds, is known before. True when it was OK."""
        status, line, lines, quiet = s.command(text, literal)
        if not may_fail:
            self.assertEqual(status, "OK", line)
        if status == "OK" and change:
            change(line, lines)
        s.take(lines, quiet)
        s.settled(quiet)
        return status == "OK"

    def a_set(self, s, by_uid):
        """A random set of the session's messages: its text and its UIDs."""
        if not s.view:
            return None, []
        chosen = self.random.sample(range(len(s.view)), self.random.randint(1, min(8, len(s.view))))
        uids = [s.view[i] for i in sorted(chosen)]
        if self.random.random() < 0.1:
            return "1:*", list(s.view)
        return compact(uids) if by_uid else compact(i + 1 for i in chosen), uids

    # Commands. Each says to the model what must have happened.

    def noop(self, s):
        self.plain(s, self.random.choice(["NOOP", "CHECK"]))

    def append(self, s):
        name = self.random.choice(sorted(self.boxes))
        box = self.boxes[name]
        flags = self.random.sample(FLAGS, self.random.randint(0, 3))
        text = b"Subject: %d\r\n\r\n" % self.random.randrange(1000) + b"x" * self.random.randrange(300)
        if len(box.messages) >= MESSAGES_MAX:
            return

        def change(line, _lines):
            validity, uid = re.search(r"\[APPENDUID (\d+) (\d+)\]", line).groups()
            self.assertEqual(int(uid), box.uidnext, line)
            self.assertIn(box.uidvalidity, (None, int(validity)))
            box.uidvalidity = int(validity)
            box.add(flags)

        self.plain(s, 'APPEND "%s" (%s) {%d}' % (name, " ".join(flags), len(text)), text, change)

    def store(self, s):
        by_uid = self.random.random() < 0.5
        text, uids = self.a_set(s, by_uid)
        if not text or s.readonly:
            return
        flags = set(self.random.sample(FLAGS, self.random.randint(0, 2)))
        mode = self.random.choice(["+", "-", ""])
        silent = self.random.choice(["", ".SILENT"])

        def change(_line, _lines):
            for uid in uids:
                old = s.mailbox.messages.get(uid)
                if old is not None:
                    s.mailbox.messages[uid] = old | flags if mode == "+" else old - flags if mode == "-" else set(flags)

        text = "%sSTORE %s %sFLAGS%s (%s)" % ("UID " if by_uid else "", text, mode, silent, " ".join(flags))
        if not silent:
            self.plain(s, text, change=change)
            return

        def silent_change(line, lines):
            # What it did itself it is not told, and knows.
            change(line, lines)
            s.flags.update({u: s.mailbox.messages[u] for u in uids if u in s.mailbox.messages and u in s.flags})

        self.plain(s, text, change=silent_change)

    def fetch(self, s):
        by_uid = self.random.random() < 0.5
        text, uids = self.a_set(s, by_uid)
        if not text:
            return
        there = [u for u in uids if u in s.mailbox.messages]

        def change(_line, lines):
            got = [int(x) for x in re.findall(r"^\* \d+ FETCH \([^\r\n]*?UID (\d+)", "".join(lines), re.M)]
            self.assertTrue(set(there) <= set(got), "FETCH gave %r of %r" % (got, there))

        self.plain(s, "%sFETCH %s (UID FLAGS RFC822.SIZE)" % ("UID " if by_uid else "", text), change=change)

    def search(self, s):
        by_uid = self.random.random() < 0.5
        flag, key = self.random.choice([("\\Seen", "SEEN"), ("\\Deleted", "DELETED"), ("\\Flagged", "FLAGGED"),
                                        ("blue", "KEYWORD blue")])
        text, uids = self.a_set(s, False)
        if not text:
            return

        def change(_line, lines):
            found = [x for x in lines if x.startswith("* SEARCH")]
            self.assertEqual(len(found), 1)
            got = [int(x) for x in found[0].split()[2:]]
            got = got if by_uid else [s.view[i - 1] for i in got]
            want = [u for u in uids if u in s.mailbox.messages and flag not in s.mailbox.messages[u]]
            self.assertEqual([u for u in got if u in s.mailbox.messages], want)

        self.plain(s, "%sSEARCH %s NOT %s" % ("UID " if by_uid else "", text, key), change=change)

    def copy(self, s, move=False):
        by_uid = self.random.random() < 0.5
        text, uids = self.a_set(s, by_uid)
        name = self.random.choice(sorted(self.boxes))
        target = self.boxes[name]
        source = s.mailbox
        if not text or (move and s.readonly) or len(target.messages) + len(uids) > 2 * MESSAGES_MAX:
            return

        def change(line, lines):
            code = re.search(r"\[COPYUID (\d+) (\S+) (\S+)\]", line + "".join(lines))
            there = [u for u in uids if u in source.messages]
            if not code:
                self.assertFalse(there, "no COPYUID in %r" % line)
                return
            self.assertEqual(expand(code.group(2)), there)
            self.assertEqual(expand(code.group(3)), list(range(target.uidnext, target.uidnext + len(there))))
            for uid in there:
                target.add(source.messages[uid])
                if move:
                    del source.messages[uid]

        gone = any(u not in source.messages for u in uids)
        self.plain(s, '%s%s %s "%s"' % ("UID " if by_uid else "", "MOVE" if move else "COPY", text, name),
                   change=change, may_fail=gone)

    def move(self, s):
        self.copy(s, True)

    def drop_deleted(self, box, uids=None):
        for uid in [u for u, flags in box.messages.items() if "\\Deleted" in flags and (uids is None or u in uids)]:
            del box.messages[uid]

    def expunge(self, s):
        if not s.readonly:
            self.plain(s, "EXPUNGE", change=lambda _line, _lines: self.drop_deleted(s.mailbox))

    def uid_expunge(self, s):
        text, uids = self.a_set(s, True)
        if text and not s.readonly:
            self.plain(s, "UID EXPUNGE " + text, change=lambda _line, _lines: self.drop_deleted(s.mailbox, uids))

    def status(self, s):
        name = self.random.choice(sorted(self.boxes))
        box = self.boxes[name]

        def change(_line, lines):
            got = dict(re.findall(r"(MESSAGES|UIDNEXT|UNSEEN) (\d+)", [x for x in lines if "STATUS" in x][0]))
            unseen = len([f for f in box.messages.values() if "\\Seen" not in f])
            self.assertEqual({k: int(v) for k, v in got.items()},
                             {"MESSAGES": len(box.messages), "UIDNEXT": box.uidnext, "UNSEEN": unseen})

        self.plain(s, 'STATUS "%s" (MESSAGES UIDNEXT UNSEEN)' % name, change=change)

    def select(self, s):
        name = self.random.choice(sorted(self.boxes))
        box = self.boxes[name]
        verb = self.random.choice(["SELECT", "SELECT", "SELECT", "EXAMINE"])
        s.mailbox = None
        status, line, lines, _quiet = s.command('%s "%s"' % (verb, name))
        self.assertEqual(status, "OK", line)
        text = "".join(lines)
        self.assertEqual(int(re.search(r"\* (\d+) EXISTS", text).group(1)), len(box.messages))
        self.assertEqual(int(re.search(r"\[UIDNEXT (\d+)\]", text).group(1)), box.uidnext)
        validity = int(re.search(r"\[UIDVALIDITY (\d+)\]", text).group(1))
        self.assertIn(box.uidvalidity, (None, validity))
        box.uidvalidity = validity
        s.mailbox = box
        s.readonly = verb == "EXAMINE"
        s.view = sorted(box.messages)
        s.flags = {}
        s.told = box.uidnext - 1

    def close(self, s):
        verb = self.random.choice(["CLOSE", "UNSELECT"])
        status, line, lines, _quiet = s.command(verb)
        self.assertEqual(status, "OK", line)
        self.assertFalse([x for x in lines if "EXPUNGE" in x], "CLOSE tells no EXPUNGE")
        if verb == "CLOSE" and not s.readonly:
            self.drop_deleted(s.mailbox)
        s.mailbox = None

    def create(self, s):
        name = self.random.choice(NAMES)
        known = name in self.boxes
        ok = self.plain(s, 'CREATE "%s"' % name, may_fail=True)
        self.assertEqual(ok, not known)
        if not ok:
            return
        self.boxes[name] = Mailbox()
        for i in range(len(name)):
            if name[i] == "/":
                self.boxes.setdefault(name[:i], Mailbox())

    def delete(self, s):
        """Who has the mailbox selected is told so and loses the connection."""
        name = self.random.choice(NAMES)
        known = name in self.boxes
        box = self.boxes.get(name)
        children = any(n.startswith(name + "/") for n in self.boxes)
        if not known or name == "INBOX" or children or s.mailbox is box or self.random.random() < 0.5:
            return

        def change(_line, _lines):
            del self.boxes[name]

        self.plain(s, 'DELETE "%s"' % name, change=change)
        for other in self.sessions:
            if other.mailbox is box:
                self.assertIn(b"* BYE", other.wire.until(b"* BYE")[-1] or b"")
                self.assertTrue(other.wire.at_end())
                other.wire.close()
                other.connect()

    def rename(self, s):
        """A session stays in the mailbox, whatever it is called now."""
        old, new = self.random.sample(NAMES, 2)
        if old not in self.boxes or new in self.boxes or old == "INBOX" or "/" in new or \
                any(n.startswith(old + "/") for n in self.boxes):
            return
        self.plain(s, 'RENAME "%s" "%s"' % (old, new))
        box = self.boxes.pop(old)
        box.uidvalidity = None
        self.boxes[new] = box

    def deliver(self, _s):
        box = self.boxes["INBOX"]
        if len(box.messages) >= MESSAGES_MAX:
            return
        self.say("a delivery")
        code, text = self.server.deliver(b"From: s@client.example\r\nSubject: in\r\n\r\nx\r\n")
        self.assertEqual(code, 250, text)
        box.add([])

    def pop3(self, _s):
        """All of INBOX is its maildrop; what it marks goes at QUIT."""
        box = self.boxes["INBOX"]
        there = sorted(box.messages)
        maildrop = self.server.pop3()
        self.assertEqual(maildrop.stat()[0], len(there))
        gone = [i for i in range(len(there)) if self.random.random() < 0.2]
        self.say("POP3 deletes %r" % [there[i] for i in gone])
        for i in gone:
            maildrop.dele(i + 1)
        maildrop.quit()
        for i in gone:
            del box.messages[there[i]]

    def idle(self, s):
        """Changes of others come by themselves. What was untold before is told first, to know who tells what."""
        box = s.mailbox
        self.plain(s, "NOOP")
        tag = s.tag()
        self.say("%r: IDLE" % s)
        s.wire.send(tag + b" IDLE\r\n")
        lines = s.wire.until(tag)
        self.assertTrue(lines[-1].startswith(b"+"), lines)
        s.take([x.decode() for x in lines], False)
        other = self.random.choice([x for x in self.sessions if x is not s])
        if other.mailbox is box:
            self.random.choice([self.append, self.store, self.expunge])(other)
        else:
            self.append(other)
        s.wire.send("DONE\r\n")
        s.take([x.decode() for x in s.wire.until(tag)], False)
        s.settled(False)


class Client:
    """A session that knows of the mailbox only what it was told."""

    def __init__(self, server, number):
        self.number = number
        self.random = random.Random(SEED + number)
        self.wire = server.raw("imaps", tls=True, timeout=120)
        self.view = []  # UIDs, None where it was not told yet
        self.uids_seen = {}  # UID -> the text that it stands for
        self.tags = 0
        self.wire.line()
        self.wire.send("l LOGIN %s %s\r\n" % (server.address("bob"), server.password("bob")))
        assert b"l OK" in self.wire.until(b"l")[-1]
        self.do("SELECT INBOX")

    def do(self, text, literal=None):
        self.tags += 1
        tag = b"%d.%d" % (self.number, self.tags)
        self.wire.send(tag + b" " + text.encode() + b"\r\n")
        lines = self.wire.until(tag)
        if lines and lines[-1].startswith(b"+") and literal is not None:
            self.wire.send(literal + b"\r\n")
            lines = lines[:-1] + self.wire.until(tag)
        assert lines and lines[-1].startswith(tag), "%s: the session ended: %r" % (text, lines)
        for line in lines[:-1]:
            self.take(line.decode(), text)
        return lines[-1].decode()

    def take(self, line, text):
        found = re.match(r"\* (\d+) (EXISTS|EXPUNGE|FETCH)(.*)", line, re.S)
        if not found:
            return
        n = int(found.group(1))
        if found.group(2) == "EXISTS":
            assert n >= len(self.view), "EXISTS %d of %d in %s" % (n, len(self.view), text)
            self.view += [None] * (n - len(self.view))
            return
        assert 1 <= n <= len(self.view), "%r of %d in %s" % (line, len(self.view), text)
        if found.group(2) == "EXPUNGE":
            assert text.split()[0] not in ("FETCH", "STORE", "SEARCH"), "%s in %s" % (line, text)
            self.view.pop(n - 1)
            return
        uid = re.search(r"UID (\d+)", found.group(3))
        if uid:
            self.learn(n, int(uid.group(1)), re.search(r"Subject: (\S+)", found.group(3)))

    def learn(self, n, uid, subject):
        assert self.view[n - 1] in (None, uid), "message %d was UID %r and is %d" % (n, self.view[n - 1], uid)
        self.view[n - 1] = uid
        known = [u for u in self.view if u is not None]
        assert known == sorted(set(known)), "UIDs do not rise: %r" % known
        if subject:
            assert self.uids_seen.setdefault(uid, subject.group(1)) == subject.group(1), "UID %d given twice" % uid

    def step(self):
        body = "BODY.PEEK[HEADER.FIELDS (SUBJECT)]"
        last = len(self.view)
        low = self.random.randint(1, last) if last else 0
        some = "%d:%d" % (low, min(last, low + self.random.randrange(4)))
        message = b"Subject: %d-%d\r\n\r\nx\r\n" % (self.number, self.tags)
        choices = ["NOOP", "EXPUNGE", "UID SEARCH ALL", "SEARCH UNSEEN"]
        if last < MESSAGES_MAX:
            choices += ["APPEND"] * 6
        if last:
            choices += ["FETCH %s (UID %s)" % (some, body), "FETCH 1:* (UID FLAGS)", "UID FETCH 1:* (FLAGS %s)" % body,
                        "STORE %s +FLAGS (\\Deleted)" % some, "STORE %s FLAGS (\\Seen)" % some,
                        "COPY %s INBOX" % some, "MOVE %s INBOX" % some]
        text = self.random.choice(choices)
        if text == "APPEND":
            self.do("APPEND INBOX {%d}" % len(message), message)
        else:
            line = self.do(text)
            # Who numbers what another has expunged may be refused, and nothing else.
            assert " OK " in line or (text[:4] in ("COPY", "MOVE") and " NO " in line), "%s: %s" % (text, line)


class TestTogether(harness.InstanceTest):
    """The same without waiting for each other: numbers must hold in every interleaving."""

    def test_at_once(self):
        print("seed %d " % SEED, end="", flush=True)
        clients = [Client(self.server, i) for i in range(SESSIONS)]
        stop = []

        def deliver():
            while not stop:
                code, text = self.server.deliver("From: s@example.org\r\nSubject: in\r\n\r\nx\r\n", rcpt="bob")
                self.assertEqual(code, 250, text)

        def pop():
            while not stop:
                maildrop = self.server.pop3("bob")
                if maildrop.stat()[0]:
                    maildrop.dele(1)
                maildrop.quit()

        def run(client):
            try:
                for _ in range(STEPS // 2):
                    client.step()
            finally:
                stop.append(1)

        harness.in_threads([lambda c=c: run(c) for c in clients] + [deliver, pop])
        for c in clients:
            c.do("NOOP")
            c.do("FETCH 1:* (UID)")
        self.assertEqual([c.view for c in clients], [clients[0].view] * SESSIONS)


if __name__ == "__main__":
    unittest.main()
