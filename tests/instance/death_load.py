"""The clients of death.py and soak.py: they work on through every death, and each knows what it was answered.

A client that owns its mailboxes knows exactly what must be in them: after an answer OK the command happened, after NO it did
not, and when the connection ended before the answer it happened wholly or not at all. What it was shown is compared with
what a new session sees. Deliveries and the maildrop are booked by the token that each message carries.
"""

import random
import re
import threading
import time

import harness

DOMAIN = harness.DOMAIN
# A session that says nothing for so long is hung: a keeper is back much sooner.
ANSWER_SECONDS_MAX = 25
BOX_MESSAGES_MAX = 24
# A connection has 1000 transactions.
MESSAGES_PER_CONNECTION = 500
FLAGS = ["\\Seen", "\\Deleted", "\\Flagged", "\\Answered", "\\Draft", "blue"]
DELIVER_LOST = b"451 4.3.0 Not possible for the moment, try again later\r\n"
FETCH_ALL = "(UID FLAGS BODY.PEEK[HEADER.FIELDS (X-TOKEN)])"


class Ended(Exception):
    """The connection ended before the answer, or none was to be had."""


class Untold(Ended):
    """A session ended, and had not been told BYE."""


class Failure(AssertionError):
    """The server broke a promise."""


def message(token):
    return ("From: x@client.example\r\nSubject: death\r\nX-Token: %s\r\n\r\nbody\r\n" % token).encode()


def uid_set(uids):
    return ",".join(str(u) for u in sorted(uids))


def uid_list(text):
    uids = []
    for part in text.split(","):
        first, _, last = part.partition(":")
        uids += range(int(first), int(last or first) + 1)
    return uids


class Imap:
    """A connection, and what it has been told of its mailbox: UIDs by number (None: not told yet) and flags."""

    def __init__(self, server, user):
        self.tags = 0
        self.view = []
        self.flags = {}
        self.wire = None
        self.in_session = False
        try:
            self.wire = server.raw("imaps", tls=True, timeout=ANSWER_SECONDS_MAX)
            if not self.wire.line().startswith(b"* OK"):
                raise Ended("greeting")
        except OSError as e:
            self.close()
            raise Ended("connect: %s" % e) from e
        status, line, _ = self.command("LOGIN %s %s" % (server.address(user), server.password(user)))
        if status != "OK":
            self.close()
            raise Ended(line)
        self.in_session = True

    def close(self):
        if self.wire:
            self.wire.close()

    def send(self, text):
        try:
            self.wire.send(text)
        except OSError as e:
            raise Ended(str(e)) from e

    def until(self, tag):
        try:
            lines = self.wire.until(tag)
        except TimeoutError as e:
            raise Failure("a session hangs: no answer in %d s" % ANSWER_SECONDS_MAX) from e
        except OSError as e:
            raise (Untold if self.in_session else Ended)(str(e)) from e
        for line in lines:
            self.take(line.decode())
        if not lines or not lines[-1].startswith((tag, b"+ ")):
            told = not self.in_session or any(line.startswith(b"* BYE") for line in lines)
            raise (Ended if told else Untold)(repr(lines[-1:]))
        return lines

    def tag(self):
        self.tags += 1
        return b"t%d" % self.tags

    def command(self, text, literal=None):
        """(status, tagged line, untagged lines)."""
        tag = self.tag()
        self.send(tag + b" " + text.encode() + b"\r\n")
        lines = self.until(tag)
        if lines[-1].startswith(b"+") and literal is not None:
            self.send(literal + b"\r\n")
            lines = lines[:-1] + self.until(tag)
        words = lines[-1].decode().split(" ")
        return words[1], lines[-1].decode().strip(), [x.decode() for x in lines[:-1]]

    def take(self, line):
        found = re.match(r"\* (\d+) (EXISTS|EXPUNGE|FETCH)(.*)", line, re.S)
        if not found:
            return
        n, what, rest = int(found.group(1)), found.group(2), found.group(3)
        if what == "EXISTS":
            if n < len(self.view):
                raise Failure("EXISTS %d, but %d were told" % (n, len(self.view)))
            self.view += [None] * (n - len(self.view))
            return
        if not 1 <= n <= len(self.view):
            raise Failure("%r, but there are %d" % (line, len(self.view)))
        if what == "EXPUNGE":
            self.flags.pop(self.view.pop(n - 1), None)
            return
        uid = re.search(r"UID (\d+)", rest)
        if uid:
            if self.view[n - 1] not in (None, int(uid.group(1))):
                raise Failure("message %d was UID %d and is UID %s" % (n, self.view[n - 1], uid.group(1)))
            self.view[n - 1] = int(uid.group(1))
        flags = re.search(r"FLAGS \(([^)]*)\)", rest)
        if flags and self.view[n - 1] is not None:
            self.flags[self.view[n - 1]] = frozenset(flags.group(1).split()) - {"\\Recent"}

    def select(self, name, verb="SELECT"):
        """(UIDVALIDITY, UIDNEXT), or None when there is no such mailbox."""
        self.view, self.flags = [], {}
        status, line, lines = self.command('%s "%s"' % (verb, name))
        if status != "OK":
            if "UNAVAILABLE" in line:
                raise Ended(line)
            return None
        text = "".join(lines)
        return int(re.search(r"UIDVALIDITY (\d+)", text).group(1)), int(re.search(r"UIDNEXT (\d+)", text).group(1))

    def contents(self):
        """{uid: (token, flags)} of the selected mailbox."""
        if not self.view:
            return {}
        status, line, lines = self.command("FETCH 1:* " + FETCH_ALL)
        if status != "OK":
            raise Ended(line)
        return parse_contents(lines)


def parse_contents(lines):
    found = {}
    for line in lines:
        uid = re.search(r"UID (\d+)", line)
        flags = re.search(r"FLAGS \(([^)]*)\)", line)
        token = re.search(r"X-Token: (\S+)", line)
        if uid and flags and token:
            found[int(uid.group(1))] = (token.group(1), frozenset(flags.group(1).split()) - {"\\Recent"})
    return found


class Ledger:
    """Every message that was sent by SMTP: to whom, and what was answered."""

    def __init__(self):
        self.lock = threading.Lock()
        self.sent = {}  # token -> [accounts, outcome], outcome: True, False or None (no answer)
        self.fates = {}  # kind -> {fate: number}

    def begin(self, token, accounts):
        with self.lock:
            self.sent[token] = [accounts, None]

    def outcome(self, token, ok):
        with self.lock:
            self.sent[token][1] = ok

    def fate(self, kind, fate):
        with self.lock:
            of = self.fates.setdefault(kind, {})
            of[fate] = of.get(fate, 0) + 1


class Actor(threading.Thread):
    """One client. step() until the end; at a barrier come_to_rest(), and at_rest() when all have, then it waits."""

    def __init__(self, control, name, number):
        super().__init__(name=name, daemon=True)
        self.control = control
        self.server = control.server
        self.ledger = control.ledger
        self.random = random.Random("%d %s" % (control.seed, name))
        self.number = number
        self.count = 0

    def token(self):
        self.count += 1
        return "%s-%s-%d" % (self.control.run_name, self.name, self.count)

    def run(self):
        try:
            while self.control.go_on(self):
                try:
                    self.step()
                except Ended as e:
                    self.control.lost(self, e)
                    self.ended()
                    time.sleep(0.02)
        except BaseException as e:  # reported by the main thread
            self.control.fail(self, e)

    def ended(self):
        """The connection is gone."""

    def come_to_rest(self):
        """The last step before a barrier."""

    def at_rest(self):
        """Everything is quiet: what must be true now?"""


class Sender(Actor):
    """SMTP: each message to one, two or all of the accounts."""

    smtp = None
    last = b""
    messages = 0

    def step(self):
        self.messages += 1
        if self.messages % MESSAGES_PER_CONNECTION == 0:
            self.ended()
        if self.smtp is None:
            try:
                self.smtp = self.server.raw("smtp", timeout=ANSWER_SECONDS_MAX)
            except OSError as e:
                raise Ended(str(e)) from e
            self.say(None)
            self.say("EHLO client.example")
        accounts = self.random.sample(self.control.recipients, self.random.choice([1, 1, 2, len(self.control.recipients)]))
        token = self.token()
        if self.say("MAIL FROM:<s@client.example>") != 250:
            raise Ended("MAIL")
        accounts = [a for a in accounts if self.say("RCPT TO:<%s>" % self.server.address(a)) == 250]
        if not accounts or self.say("DATA") != 354:
            raise Ended("RCPT or DATA")
        self.ledger.begin(token, accounts)
        try:
            code = self.say(message(token).decode() + ".")
        except Ended:
            self.ledger.fate("delivery", "unanswered")
            raise
        # deliver died over it: the front does not know either.
        unknown = self.last == DELIVER_LOST
        self.ledger.outcome(token, None if unknown else code == 250)
        self.ledger.fate("delivery", "acknowledged" if code == 250 else "unanswered" if unknown else "refused")
        if code != 250:
            raise Ended("DATA answered %d" % code)
        time.sleep(self.random.random() * 0.03)

    def say(self, text):
        try:
            if text is not None:
                self.smtp.send(text + "\r\n")
            reply = self.last = self.smtp.reply()
        except TimeoutError as e:
            raise Failure("SMTP hangs after %r" % text) from e
        except OSError as e:
            raise Ended(str(e)) from e
        if not reply[:3].isdigit():
            raise Ended("the connection ended")
        return int(reply[:3])

    def ended(self):
        if self.smtp:
            self.smtp.close()
        self.smtp = None


class Box:
    def __init__(self, validity, uidnext, messages):
        self.validity = validity
        self.uidnext = uidnext
        self.messages = messages  # {uid: (token, flags)}

    def __repr__(self):
        return "%d/%d %r" % (self.validity, self.uidnext, sorted(self.messages.items()))


class Expect:
    """What a mailbox must be: these messages, then new ones with UIDs not known yet, in this order."""

    def __init__(self, box, kept=None, new=()):
        self.validity = box.validity if box else None
        self.uidnext = box.uidnext if box else 1
        self.kept = dict(box.messages if kept is None and box else kept or {})
        self.new = list(new)

    def difference(self, box):
        """None, or what is not as it must be."""
        if self.validity is not None and box.validity != self.validity:
            return "UIDVALIDITY %d became %d" % (self.validity, box.validity)
        if box.uidnext < self.uidnext:
            return "UIDNEXT %d went back to %d" % (self.uidnext, box.uidnext)
        fresh = [u for u in sorted(box.messages) if u not in self.kept]
        for uid, is_ in self.kept.items():
            if box.messages.get(uid) != is_:
                return "UID %d: %r is %r" % (uid, is_, box.messages.get(uid))
        if [box.messages[u] for u in fresh] != self.new:
            return "new messages: %r are %r" % (self.new, [(u, box.messages[u]) for u in fresh])
        if fresh and fresh[0] < self.uidnext:
            return "UID %d given again, UIDNEXT was %d" % (fresh[0], self.uidnext)
        return None


class Owner(Actor):
    """An IMAP session with two mailboxes of its own, which it fills, changes, renames and deletes."""

    def __init__(self, control, number, user):
        super().__init__(control, "owner%d" % number, number)
        self.user = user
        self.session = None
        self.boxes = {}  # name -> Box
        self.selected = None
        self.names = 0
        self.rounds_seen = 0
        self.validity_max = 0
        self.begun = False

    def prefix(self):
        return "%s-" % self.name

    # What is there.

    def look(self, session):
        """{name: Box} of its mailboxes by a session of its own, or Ended."""
        status, line, lines = session.command('LIST "" "%s*"' % self.prefix())
        if status != "OK":
            raise Ended(line)
        boxes = {}
        for name in re.findall(r'LIST \([^)]*\) "/" "?([^"\r\n]+)"?', "".join(lines)):
            marks = session.select(name, "EXAMINE")
            if marks is None:
                raise Failure("%s is listed, but cannot be opened" % name)
            boxes[name] = Box(marks[0], marks[1], session.contents())
        return boxes

    def fresh(self):
        session = Imap(self.server, self.user)
        try:
            return self.look(session)
        finally:
            session.close()

    @staticmethod
    def difference(boxes, expected):
        if set(boxes) != set(expected):
            return "mailboxes %r are %r" % (sorted(expected), sorted(boxes))
        for name, expect in expected.items():
            wrong = expect.difference(boxes[name])
            if wrong:
                return "%s: %s" % (name, wrong)
        return None

    def expected(self):
        return {name: Expect(box) for name, box in self.boxes.items()}

    def check_fresh(self, when):
        boxes = self.fresh()
        wrong = self.difference(boxes, self.expected())
        if wrong:
            raise Failure("%s, %s: %s" % (self.name, when, wrong))
        self.boxes = boxes

    def check_view(self):
        """What the session was told is what is there."""
        box = self.boxes[self.selected]
        status, line, _ = self.session.command("NOOP")
        if status != "OK":
            raise Failure("NOOP: " + line)
        status, line, lines = self.session.command("FETCH 1:* (UID FLAGS)") if self.session.view else ("OK", "", [])
        if status != "OK":
            raise Ended(line)
        if self.session.view != sorted(box.messages):
            raise Failure("%s sees UIDs %r, there are %r" % (self.name, self.session.view, sorted(box.messages)))
        for uid, (_, flags) in box.messages.items():
            if self.session.flags.get(uid) != flags:
                raise Failure("%s sees UID %d with %r, it has %r" % (self.name, uid, self.session.flags.get(uid), flags))

    # Commands.

    def act(self, kind, text, expected, literal=None, renamed=None):
        """One command after which its mailboxes are as expected, or as they were."""
        before = self.expected()
        try:
            status, line, lines = self.session.command(text, literal)
        except Ended:
            self.session.close()
            self.session = None
            self.resolve(kind, text, before, expected)
            raise
        if status == "OK":
            self.ledger.fate(kind, "acknowledged")
            self.adopt(text, expected, "".join(lines) + line)
            if renamed:
                self.selected = renamed
        else:
            self.ledger.fate(kind, "refused")
            if status == "BAD":
                raise Failure("%s: %s" % (text, line))
            # What was refused did not happen.
            self.control.patiently(lambda: self.check_fresh("after %s: %s" % (text, line)))
            time.sleep(0.02)

    def resolve(self, kind, text, before, expected):
        """No answer: it happened wholly, or not at all."""
        boxes = self.control.patiently(self.fresh)
        was, became = self.difference(boxes, before), self.difference(boxes, expected)
        if was and became:
            raise Failure("%s, unanswered %s: neither as before (%s) nor done (%s)" % (self.name, text, was, became))
        self.ledger.fate(kind, "unanswered, not done" if was is None else "unanswered, done")
        self.boxes = boxes

    def adopt(self, text, expected, answer):
        boxes = {}
        for name, expect in expected.items():
            known = self.boxes.get(name)
            box = Box(expect.validity or 0, expect.uidnext, dict(expect.kept))
            if expect.new:
                code = re.search(r"\[(?:APPENDUID (\d+)|COPYUID (\d+) \S+) ([\d:,]+)\]", answer)
                if not code:
                    raise Failure("%s: no UIDs in %r" % (text, answer))
                uids = uid_list(code.group(3))
                if len(uids) != len(expect.new) or min(uids) < expect.uidnext:
                    raise Failure("%s: UIDs %r, UIDNEXT was %d" % (text, uids, expect.uidnext))
                if int(code.group(1) or code.group(2)) != expect.validity:
                    raise Failure("%s: UIDVALIDITY %d in %r" % (text, expect.validity, answer))
                box.messages.update(zip(uids, expect.new))
                box.uidnext = max(uids) + 1
            if known is None or expect.validity is None:
                marks = self.control.patiently(self.fresh).get(name)
                if marks is None:
                    raise Failure("%s was answered OK, and %s is not there" % (text, name))
                box.validity, box.uidnext = marks.validity, max(box.uidnext, marks.uidnext)
            boxes[name] = box
        self.boxes = boxes

    def connect(self):
        self.session = Imap(self.server, self.user)
        if not self.begun:
            self.boxes = self.look(self.session)
            if any(b.messages for b in self.boxes.values()):
                raise Failure("%s begins with %r" % (self.name, self.boxes))
            self.begun = True
        self.selected = None

    def step(self):
        if self.session is None:
            self.connect()
        while len(self.boxes) < 2:
            self.create()
        if self.selected not in self.boxes:
            self.selected = self.random.choice(sorted(self.boxes))
            marks = self.session.select(self.selected)
            if marks is None:
                raise Failure("%s cannot be opened" % self.selected)
            self.session.contents()
        if self.rounds_seen != self.control.round:
            self.rounds_seen = self.control.round
            self.check_view()
            self.check_fresh("after round %d" % self.rounds_seen)
        self.random.choice([self.append] * 4 + [self.store] * 4 + [self.copy, self.copy, self.move, self.move, self.expunge,
                                                                   self.expunge, self.rename, self.delete, self.idle])()

    def create(self):
        self.names += 1
        name = "%s%d" % (self.prefix(), self.names)
        self.act("CREATE", 'CREATE "%s"' % name, {**self.expected(), name: Expect(None)})

    def some(self):
        uids = sorted(self.boxes[self.selected].messages)
        return self.random.sample(uids, self.random.randint(1, min(6, len(uids)))) if uids else []

    def other(self):
        return self.random.choice([n for n in self.boxes if n != self.selected])

    def append(self):
        name = self.random.choice(sorted(self.boxes))
        box = self.boxes[name]
        if len(box.messages) >= BOX_MESSAGES_MAX:
            return self.expunge()
        flags = frozenset(self.random.sample(FLAGS, self.random.randrange(3)))
        body = message(self.token())
        token = re.search(rb"X-Token: (\S+)", body).group(1).decode()
        return self.act("APPEND", 'APPEND "%s" (%s) {%d}' % (name, " ".join(flags), len(body)),
                        {**self.expected(), name: Expect(box, new=[(token, flags)])}, body)

    def store(self):
        uids, box = self.some(), self.boxes[self.selected]
        if not uids:
            return self.append()
        flags = frozenset(self.random.sample(FLAGS, self.random.randint(1, 3)))
        mode = self.random.choice(["+FLAGS", "-FLAGS", "FLAGS", "+FLAGS.SILENT"])
        kept = dict(box.messages)
        for u in uids:
            token, had = kept[u]
            kept[u] = (token, had | flags if mode[0] == "+" else had - flags if mode[0] == "-" else flags)
        return self.act("STORE", "UID STORE %s %s (%s)" % (uid_set(uids), mode, " ".join(flags)),
                        {**self.expected(), self.selected: Expect(box, kept)})

    def copy(self, move=False):
        uids, box, name = self.some(), self.boxes[self.selected], self.other()
        if not uids or len(self.boxes[name].messages) >= BOX_MESSAGES_MAX:
            return self.expunge()
        expected = self.expected()
        expected[name].new = [box.messages[u] for u in sorted(uids)]
        if move:
            for u in uids:
                del expected[self.selected].kept[u]
        verb = "MOVE" if move else "COPY"
        return self.act(verb, 'UID %s %s "%s"' % (verb, uid_set(uids), name), expected)

    def move(self):
        return self.copy(True)

    def expunge(self):
        box = self.boxes[self.selected]
        uids = self.some()
        whole = not uids or self.random.random() < 0.5
        gone = {u for u, (_, flags) in box.messages.items() if "\\Deleted" in flags and (whole or u in uids)}
        kept = {u: m for u, m in box.messages.items() if u not in gone}
        return self.act("EXPUNGE", "EXPUNGE" if whole else "UID EXPUNGE " + uid_set(uids),
                        {**self.expected(), self.selected: Expect(box, kept)})

    def rename(self):
        """The session stays in its mailbox, whatever that is called."""
        old = self.random.choice(sorted(self.boxes))
        self.names += 1
        new = "%s%d" % (self.prefix(), self.names)
        expected = self.expected()
        expected[new] = expected.pop(old)
        expected[new].validity = None
        self.act("RENAME", 'RENAME "%s" "%s"' % (old, new), expected, renamed=new if old == self.selected else None)

    def delete(self):
        name = self.other()
        if self.random.random() < 0.6:
            return
        expected = self.expected()
        del expected[name]
        self.act("DELETE", 'DELETE "%s"' % name, expected)

    def idle(self):
        tag = self.session.tag()
        self.session.send(tag + b" IDLE\r\n")
        lines = self.session.until(tag)
        if not lines[-1].startswith(b"+"):
            raise Failure("IDLE: %r" % lines)
        time.sleep(self.random.random() * 0.1)
        self.session.send(b"DONE\r\n")
        self.session.until(tag)

    def ended(self):
        if self.session:
            self.session.close()
        self.session = None

    def at_rest(self):
        if self.session is None:
            self.connect()
        if self.selected in self.boxes:
            self.check_view()
        self.check_fresh("at rest")


class Reader(Actor):
    """A session that watches an INBOX; at rest it must see what a new session sees, and flags are its own to set."""

    def __init__(self, control, number, user):
        super().__init__(control, "reader%d" % number, number)
        self.user = user
        self.session = None
        self.uidnext = 1
        self.validity = None

    def step(self):
        if self.session is None:
            self.session = Imap(self.server, self.user)
            self.open(self.session, "SELECT")
            self.session.contents()
        what = self.random.choice(["idle", "idle", "NOOP", "UID FETCH 1:* (FLAGS)", "UID SEARCH UNSEEN", "store"])
        if what == "idle":
            Owner.idle(self)
        elif what == "store":
            known = [u for u in self.session.view[-20:] if u is not None]
            if known:
                self.session.command("UID STORE %d +FLAGS (\\Seen)" % self.random.choice(known))
        else:
            self.session.command(what)
        time.sleep(0.01)

    def open(self, session, verb):
        marks = session.select("INBOX", verb)
        if marks is None:
            raise Ended("INBOX")
        if self.validity not in (None, marks[0]):
            raise Failure("INBOX of %s: UIDVALIDITY %d became %d" % (self.user, self.validity, marks[0]))
        if marks[1] < self.uidnext:
            raise Failure("INBOX of %s: UIDNEXT %d went back to %d" % (self.user, self.uidnext, marks[1]))
        self.validity, self.uidnext = marks

    def ended(self):
        if self.session:
            self.session.close()
        self.session = None

    def come_to_rest(self):
        if self.session is None:
            self.step()

    def views(self):
        """What this session and a new one see."""
        fresh = Imap(self.server, self.user)
        try:
            self.open(fresh, "EXAMINE")
            for session in (fresh, self.session):
                session.command("NOOP")
                if session.view:
                    session.command("FETCH 1:* (UID FLAGS)")
        finally:
            fresh.close()
        return (self.session.view, self.session.flags), (fresh.view, fresh.flags)

    def at_rest(self):
        if self.session is None:
            self.step()
        # The queue may still deliver something, but not for long.
        for _ in range(20):
            mine, fresh = self.views()
            if mine == fresh:
                return
            time.sleep(0.05)
        raise Failure("%s sees %r, a new session %r" % (self.name, mine, fresh))


class Maildrop(Actor):
    """POP3: reads what is there and deletes some; QUIT does all of it or nothing."""

    def __init__(self, control, user):
        super().__init__(control, "maildrop", 0)
        self.user = user
        self.wire = None
        self.most = 6  # looked at in one session
        self.taken = set()  # tokens that are gone for good
        self.uncertain = []  # those of a QUIT without an answer
        self.commands = 0

    def say(self, text):
        try:
            if text is not None:
                self.commands += 1
                self.wire.send(text + "\r\n")
            line = self.wire.line()
        except TimeoutError as e:
            raise Failure("POP3 hangs after %r" % text) from e
        except OSError as e:
            raise Ended(str(e)) from e
        if not line.endswith(b"\n"):
            raise Ended("the connection ended")
        return line.decode()

    def lines(self, text):
        if not self.say(text).startswith("+OK"):
            raise Ended(text)
        got = []
        while True:
            line = self.say(None)
            if line == ".\r\n":
                return got
            got.append(line)

    def step(self):
        try:
            self.wire = self.server.raw("pop3s", tls=True, timeout=ANSWER_SECONDS_MAX)
        except OSError as e:
            raise Ended(str(e)) from e
        self.say(None)
        self.say("USER " + self.server.address(self.user))
        if not self.say("PASS " + self.server.password(self.user)).startswith("+OK"):
            raise Ended("PASS")
        count = int(self.say("STAT").split()[1])
        # Those that a QUIT without an answer may have deleted were the first.
        tokens = []
        for n in range(1, min(count, max(len(self.uncertain), self.most)) + 1):
            head = "".join(self.lines("TOP %d 0" % n))
            tokens.append(re.search(r"X-Token: (\S+)", head).group(1))
        again = self.taken & set(tokens)
        if again:
            raise Failure("deleted by POP3 and back: %r" % again)
        self.settle(tokens)
        doomed = tokens[:self.random.randrange(self.most)]
        for n in range(len(doomed)):
            if not self.say("DELE %d" % (n + 1)).startswith("+OK"):
                raise Ended("DELE")
        self.quit(doomed)
        time.sleep(0.05)

    def settle(self, tokens):
        there = [t for t in self.uncertain if t in tokens]
        if there and len(there) != len(self.uncertain):
            raise Failure("an unanswered QUIT deleted part: %r of %r are left" % (there, self.uncertain))
        if self.uncertain:
            self.ledger.fate("QUIT", "unanswered, " + ("not done" if there else "done"))
        if not there:
            self.taken.update(self.uncertain)
        self.uncertain = []

    def quit(self, doomed):
        self.uncertain = doomed
        answer = self.say("QUIT")
        if answer.startswith("-ERR") and "not known" in answer:
            raise Ended(answer)
        self.uncertain = []
        if answer.startswith("+OK"):
            self.taken.update(doomed)
            self.ledger.fate("QUIT", "acknowledged")
        else:
            self.ledger.fate("QUIT", "refused")
        self.ended()

    def ended(self):
        if self.wire:
            self.wire.close()
        self.wire = None

    def come_to_rest(self):
        """What is still uncertain is looked up."""
        if self.uncertain:
            self.step()
