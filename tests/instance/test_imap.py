"""IMAP's hard corners: what comes in, and what must come back, octet by octet."""

import base64
import os
import re
import signal
import threading
import time
import unittest

import harness

PLAIN = (b"From: Alice <alice@demo.test>\r\nTo: Undisclosed:;\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
         b"Date: Mon, 7 Feb 1994 21:52:25 -0800\r\nMessage-ID: <one@client.example>\r\n"
         b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n" +
         base64.b64encode("Schöne Straße, München\r\n".encode()) + b"\r\n")
MULTI = (b"From: a@b.example\r\nSubject: parts\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\npreamble\r\n"
         b"--x\r\nContent-Type: text/plain\r\nX-One: 1\r\n\r\nfirst\r\n--x\r\nContent-Type: message/rfc822\r\n\r\n"
         b"Subject: inner\r\nFrom: c@d.example\r\n\r\ninner body\r\n--x--\r\n")


class Session:
    """A logged-in connection."""

    def __init__(self, server, user="alice", login=True):
        self.wire = server.raw("imaps", tls=True, timeout=25)
        self.greeting = self.wire.line()
        self.count = 0
        if login:
            last = self.command('LOGIN %s "%s"' % (server.address(user), server.password(user)))[-1]
            assert last.startswith(b"OK "), last

    def command(self, text):
        """All lines up to the tagged one, as bytes; the tag is cut off that one."""
        self.count += 1
        tag = b"t%d" % self.count
        lines = self.wire.command(tag, text if isinstance(text, bytes) else text.encode())
        if lines and lines[-1].startswith(tag + b" "):
            lines[-1] = lines[-1][len(tag) + 1:]
        return lines

    def ok(self, text):
        lines = self.command(text)
        assert lines and lines[-1].startswith(b"OK"), (text, lines)
        return lines[:-1]

    def last(self, text):
        return self.command(text)[-1]

    def append(self, message, box="INBOX", flags="", date=""):
        text = "APPEND %s %s%s{%d+}\r\n" % (box, flags and "(%s) " % flags, date and '"%s" ' % date, len(message))
        lines = self.command(text.encode() + message)
        assert lines[-1].startswith(b"OK [APPENDUID"), lines
        return int(re.search(rb"APPENDUID \d+ (\d+)", lines[-1]).group(1))

    def close(self):
        self.wire.close()


class TestImap(harness.InstanceTest):
    settings = {"smtp.message_bytes": "1M"}
    boxes = 0

    def session(self, user="alice", **kw):
        s = Session(self.server, user, **kw)
        self.addCleanup(s.close)
        return s

    def box(self, s, *messages, select=True):
        """A fresh mailbox with these messages."""
        TestImap.boxes += 1
        name = "box%d" % TestImap.boxes
        s.ok("CREATE " + name)
        for m in messages:
            s.append(m, name)
        if select:
            s.ok("SELECT " + name)
        return name

    def assertLine(self, lines, pattern):
        text = pattern if isinstance(pattern, bytes) else pattern.encode()
        self.assertTrue(any(re.fullmatch(text + rb"\r\n", line, re.S) for line in lines), (pattern, lines))

    def assertNoLine(self, lines, pattern):
        self.assertFalse(any(re.match(pattern.encode(), line) for line in lines), (pattern, lines))

    # ---- numbers and EXPUNGE ----

    def test_i01_numbers_stay_while_fetch_store_and_search(self):
        a = self.session()
        name = self.box(a, PLAIN, PLAIN, PLAIN)
        b = self.session()
        b.ok("SELECT " + name)
        b.ok("STORE 2 +FLAGS.SILENT (\\Deleted)")
        b.ok("EXPUNGE")
        for command in ("FETCH 1:3 (UID)", "STORE 3 +FLAGS (k)", "SEARCH ALL"):
            lines = a.command(command)
            self.assertNoLine(lines, r"\* \d+ EXPUNGE")
            self.assertTrue(lines[-1].startswith(b"OK"), lines)
        lines = a.ok("UID FETCH 1:* (FLAGS)")  # in a UID command it may be told
        self.assertLine(lines, r"\* 2 EXPUNGE")
        self.assertEqual(a.ok("FETCH 1:* (UID)"), [b"* 1 FETCH (UID 1)\r\n", b"* 2 FETCH (UID 3)\r\n"])

    def test_i01_fetch_of_what_another_expunged(self):
        a = self.session()
        name = self.box(a, PLAIN, PLAIN)
        b = self.session()
        b.ok("SELECT " + name)
        b.ok("STORE 1 +FLAGS (\\Deleted)")
        b.ok("EXPUNGE")
        lines = a.command("FETCH 1:2 (BODY.PEEK[])")
        self.assertNoLine(lines, r"\* 1 FETCH")
        self.assertTrue(lines[-1].startswith(b"OK [EXPUNGEISSUED]"), lines[-1])

    def test_i02_sets(self):
        s = self.session()
        self.box(s, PLAIN, PLAIN, PLAIN)
        s.ok("STORE 1 +FLAGS (\\Deleted)")
        s.ok("EXPUNGE")
        self.assertEqual(s.ok("UID FETCH 559:* (UID)"), [b"* 2 FETCH (UID 3)\r\n"])
        self.assertEqual(s.ok("UID STORE 9999 +FLAGS (k)"), [])
        self.assertEqual(s.ok("UID FETCH 1 (UID)"), [])
        self.assertTrue(s.last("FETCH 99 (UID)").startswith(b"BAD"))
        self.assertTrue(s.last("FETCH 0 (UID)").startswith(b"BAD"))
        self.assertEqual(s.ok("FETCH *:1 (UID)"), s.ok("FETCH 1:* (UID)"))
        self.assertEqual(s.ok("FETCH 2,1,2:* (UID)"), [b"* 1 FETCH (UID 2)\r\n", b"* 2 FETCH (UID 3)\r\n"])

    # ---- FETCH ----

    def test_i04_seen(self):
        s = self.session()
        name = self.box(s, *[PLAIN] * 6)
        for number, item in enumerate(("BODY[]", "RFC822", "RFC822.TEXT", "BODY[TEXT]"), 1):
            self.assertIn(b"FLAGS (\\Seen", s.ok("FETCH %d (%s)" % (number, item))[0])
        for item in ("BODY.PEEK[]", "RFC822.HEADER", "ENVELOPE", "BODY.PEEK[1]"):
            self.assertNotIn(b"\\Seen", b"".join(s.ok("FETCH 5 (%s FLAGS)" % item)))
        s.ok("EXAMINE " + name)
        s.ok("FETCH 6 (BODY[])")
        self.assertNotIn(b"\\Seen", s.ok("FETCH 6 (FLAGS)")[0])

    def test_i05_sections(self):
        s = self.session()
        self.box(s, PLAIN, MULTI)
        n, m = len(PLAIN), MULTI

        def item(number, what):
            line = b"".join(s.ok("FETCH %d (BODY.PEEK%s)" % (number, what)))
            return re.fullmatch(rb"\* \d+ FETCH \(BODY(\[.*?\](?:<\d+>)?) (.*)\)\r\n", line, re.S).groups()

        def literal(text):
            return b"{%d}\r\n" % len(text) + text if text else b'""'

        body = PLAIN.split(b"\r\n\r\n", 1)[1]
        rows = [
            (1, "[]", "[]", literal(PLAIN)),
            (1, "[]<0.5>", "[]<0>", literal(PLAIN[:5])),
            (1, "[]<5.%d>" % (n + 1), "[]<5>", literal(PLAIN[5:])),
            (1, "[]<100000.10>", "[]<100000>", b'""'),
            (1, "[1]", "[1]", literal(body)),
            (1, "[TEXT]", "[TEXT]", literal(body)),
            (1, "[2]", "[2]", b"NIL"),
            (1, "[1.1]", "[1.1]", b"NIL"),
            (1, "[1.MIME]", "[1.MIME]", literal(PLAIN[:-len(body)])),
            (1, "[HEADER]", "[HEADER]", literal(PLAIN[:-len(body)])),
            (1, "[HEADER.FIELDS (X-None)]", "[HEADER.FIELDS (X-None)]", literal(b"\r\n")),
            (1, "[HEADER.FIELDS (date \"FROM\")]", "[HEADER.FIELDS (date FROM)]",
             literal(b"From: Alice <alice@demo.test>\r\nDate: Mon, 7 Feb 1994 21:52:25 -0800\r\n\r\n")),
            (2, "[HEADER.FIELDS.NOT (From Subject MIME-Version)]", "[HEADER.FIELDS.NOT (From Subject MIME-Version)]",
             literal(b"Content-Type: multipart/mixed; boundary=x\r\n\r\n")),
            (2, "[1]", "[1]", literal(b"first")),
            (2, "[1.MIME]", "[1.MIME]", literal(b"Content-Type: text/plain\r\nX-One: 1\r\n\r\n")),
            (2, "[2.HEADER]", "[2.HEADER]", literal(b"Subject: inner\r\nFrom: c@d.example\r\n\r\n")),
            (2, "[2.TEXT]", "[2.TEXT]", literal(b"inner body")),
            (2, "[2.1]", "[2.1]", literal(b"inner body")),
            (2, "[2]", "[2]", literal(b"Subject: inner\r\nFrom: c@d.example\r\n\r\ninner body")),
            (2, "[3]", "[3]", b"NIL"),
        ]
        for number, what, label, want in rows:
            with self.subTest(what=what):
                self.assertEqual(item(number, what), (label.encode(), want))
        self.assertIn(b"RFC822.SIZE %d" % len(m), s.ok("FETCH 2 (RFC822.SIZE)")[0])

    def test_i06_nul_is_not_sent(self):
        s = self.session()
        small = b"Subject: nul\r\n\r\na\0b\r\n"
        big = b"Subject: nul\r\n\r\n" + b"x" * 200000 + b"\0end\r\n"
        self.box(s, small, big)
        for number, message in ((1, small), (2, big)):
            line = s.ok("FETCH %d (BODY.PEEK[])" % number)[0]
            self.assertNotIn(b"\0", line)
            self.assertIn(message.replace(b"\0", b"\x80"), line)

    def test_i08_envelope(self):
        s = self.session()
        self.box(s, PLAIN, b"Subject:\r\n\r\nx\r\n")
        self.assertIn(b'(("Alice" NIL "alice" "demo.test")) (("Alice" NIL "alice" "demo.test")) (("Alice" NIL "alice" "demo.test")) '
                      b'((NIL NIL "Undisclosed" NIL)(NIL NIL NIL NIL)) NIL NIL NIL "<one@client.example>"', s.ok("FETCH 1 (ENVELOPE)")[0])
        self.assertIn(b'(ENVELOPE (NIL "" NIL NIL NIL NIL NIL NIL NIL NIL))', s.ok("FETCH 2 (ENVELOPE)")[0])

    def test_long_message_is_identical(self):
        s = self.session()
        message = b"Subject: long\r\n\r\n" + os.urandom(600000).replace(b"\0", b"x").replace(b"\n", b"y").replace(b"\r", b"z")
        self.box(s, message)
        line = s.ok("FETCH 1 (BODY.PEEK[] UID)")[0]
        self.assertEqual(line, b"* 1 FETCH (BODY[] {%d}\r\n" % len(message) + message + b" UID 1)\r\n")

    # ---- mailboxes ----

    def test_i09_rename_and_uidvalidity(self):
        s = self.session("bob")
        s.append(PLAIN)
        s.ok("CREATE INBOX/below")
        s.ok("RENAME INBOX Old-mail")
        self.assertLine(s.ok("STATUS INBOX (MESSAGES)"), r"\* STATUS INBOX \(MESSAGES 0\)")
        self.assertLine(s.ok("STATUS Old-mail (MESSAGES)"), r"\* STATUS Old-mail \(MESSAGES 1\)")
        self.assertLine(s.ok('LIST "" INBOX/*'), r'\* LIST \(.*\) "/" INBOX/below')
        s.ok("CREATE r/a/x")
        s.ok("RENAME r/a new/b")
        self.assertLine(s.ok('LIST "" *'), r'\* LIST \(.*\) "/" new/b/x')
        self.assertLine(s.ok('LIST "" *'), r'\* LIST \(.*\) "/" new')
        s.ok("CREATE v")
        first = re.search(rb"UIDVALIDITY (\d+)", s.ok("STATUS v (UIDVALIDITY)")[0])
        s.ok("DELETE v")
        s.ok("CREATE v")
        second = re.search(rb"UIDVALIDITY (\d+)", s.ok("STATUS v (UIDVALIDITY)")[0])
        self.assertGreater(int(second.group(1)), int(first.group(1)))

    def test_i10_list(self):
        s = self.session("bob")
        s.ok("CREATE l/a/b")
        self.assertEqual(s.ok('LIST "" ""'), [b'* LIST (\\Noselect) "/" ""\r\n'])
        self.assertEqual(s.ok('LIST "" iNbOx')[0].split()[-1], b"INBOX")
        self.assertEqual(s.ok('LIST "" inbox/x'), [])
        self.assertNoLine(s.ok('LIST "" %'), r'.*"/" l/a')
        self.assertEqual([line.split()[-1] for line in s.ok('LIST l/ %')], [b"l/a"])
        s.ok("DELETE l/a")
        self.assertLine(s.ok('LIST "" l/%'), r'\* LIST \(\\Noselect \\HasChildren\) "/" l/a')
        self.assertTrue(s.last("SELECT l/a").startswith(b"NO"))
        self.assertTrue(s.last("DELETE l/a").startswith(b"NO"))
        s.ok("SUBSCRIBE l/a/b")
        self.assertLine(s.ok('LSUB "" %'), r'\* LSUB \(\\Noselect\) "/" l')
        self.assertLine(s.ok('LIST (SUBSCRIBED) "" l/* RETURN (CHILDREN)'), r'\* LIST \(.*\\Subscribed.*\) "/" l/a/b')
        self.assertLine(s.ok('LIST (SUBSCRIBED RECURSIVEMATCH) "" l'), r'\* LIST \(.*\) "/" l \("CHILDINFO" \("SUBSCRIBED"\)\)')
        self.assertLine(s.ok('LIST "" (INBOX l) RETURN (STATUS (MESSAGES))'), r"\* STATUS l \(MESSAGES 0\)")
        self.assertEqual(len(s.ok('LIST (SPECIAL-USE) "" *')), 5)

    def test_names_in_modified_utf7(self):
        s = self.session("bob")
        s.ok('CREATE "&U,BTFw-/&AOQ-"')
        self.assertLine(s.ok('LIST "" &U,BTFw-/%'), r'\* LIST \(.*\) "/" &U,BTFw-/&AOQ-')
        for bad in ("&", "&AEE-", '"&AOQ-&AOQ-"', "&AOQ"):
            self.assertTrue(s.last("CREATE " + bad).startswith(b"NO [CANNOT]"), bad)
        s.ok('CREATE "ä"')  # UTF-8 at once (RFC 6855 3)
        self.assertLine(s.ok('LIST "" ä'.replace("ä", "&AOQ-")), r'\* LIST \(.*\) "/" &AOQ-')
        self.assertTrue(s.last('CREATE "\xe4"'.encode("latin-1")).startswith(b"BAD"))
        s.ok(b"CREATE {3+}\r\na&-")
        self.assertTrue(s.last("CREATE NIL").startswith(b"OK"))
        self.assertLine(s.ok('LIST "" NIL'), r'\* LIST \(.*\) "/" "NIL"')

    def test_special_use(self):
        s = self.session("bob")
        self.assertTrue(s.last("CREATE sp (USE (\\All))").startswith(b"NO [USEATTR]"))
        self.assertTrue(s.last("CREATE sp (USE (\\Foo))").startswith(b"NO [USEATTR]"))

    def test_deleted_while_selected(self):
        a = self.session()
        name = self.box(a, PLAIN)
        b = self.session()
        b.ok("DELETE " + name)
        a.wire.send(b"x NOOP\r\n")
        self.assertIn(b"* BYE", a.wire.line())
        c = self.session()
        name = self.box(c, PLAIN)
        c.ok("DELETE " + name)  # its own: back to the authenticated state
        self.assertTrue(c.last("FETCH 1 (FLAGS)").startswith(b"BAD"))

    # ---- SEARCH ----

    def test_i12_search(self):
        s = self.session()
        name = self.box(s, select=False)
        s.append(PLAIN, name, "\\Seen work", "07-Jul-1996 23:44:25 -0700")
        s.append(MULTI, name, "", "09-Jul-1996 00:10:00 +0200")
        s.ok("SELECT " + name)
        rows = [
            ("ALL", "1 2"), ("1", "1"), ("2:*", "2"), ("UID 1", "1"), ("UID 77", ""), ("NOT 1", "2"), ("SEEN", "1"),
            ("UNSEEN", "2"), ("KEYWORD WORK", "1"), ("UNKEYWORD work", "2"), ("KEYWORD never", ""), ("RECENT", "1 2"),
            ("NEW", "2"), ("OLD", ""), ("ON 7-Jul-1996", "1"), ("ON 8-Jul-1996", ""), ("ON 9-Jul-1996", "2"),
            ("SINCE 8-Jul-1996", "2"), ("BEFORE 9-Jul-1996", "1"), ("SENTON 7-Feb-1994", "1"), ("SENTBEFORE 8-Feb-1994", "1"),
            ("SENTSINCE 1-Jan-1994", "1"), ("LARGER 1", "1 2"), ("SMALLER 10", ""), ("FROM alice", "1"),
            ("SUBJECT grüße", "1"), ("SUBJECT GRÜSSE", "1"), ("TEXT grüße", "1"), ("BODY strasse", "1"), ("BODY grüße", ""),
            ("BODY first", "2"), ("BODY inner", "2"), ("TEXT x-none", ""), ("HEADER Message-ID one@client", "1"),
            ("HEADER MIME-Version \"\"", "2"), ("HEADER X-None \"\"", ""), ("OR (FROM alice SEEN) BODY first", "1 2"),
            ("OR FROM nobody SUBJECT parts", "2"), ("NOT (OR SEEN KEYWORD x)", "2"), ("(1:2 (NOT (NOT SEEN)))", "1"),
        ]
        for key, want in rows:
            with self.subTest(key=key):
                text = key.encode()
                if not key.isascii():
                    word = text.split(b" ", 1)
                    text = word[0] + b" {%d+}\r\n" % len(word[1]) + word[1]
                got = s.ok(b"SEARCH CHARSET UTF-8 " + text)[0].split()[2:]
                self.assertEqual(b" ".join(got).decode(), want)
        self.assertTrue(s.last("SEARCH CHARSET X-NONE TEXT x").startswith(b"NO [BADCHARSET"))
        self.assertTrue(s.last("SEARCH CHARSET US-ASCII TEXT x").startswith(b"OK"))
        self.assertTrue(s.last("SEARCH NONSENSE").startswith(b"BAD"))
        s.ok("STORE 1 +FLAGS (\\Deleted)")
        s.ok("EXPUNGE")
        self.assertEqual(s.ok("UID SEARCH ALL"), [b"* SEARCH 2\r\n"])
        self.assertEqual(s.ok("SEARCH ALL"), [b"* SEARCH 1\r\n"])

    # ---- commands as octets ----

    def test_i16_pipelining_and_literals(self):
        s = self.session()
        name = self.box(s, PLAIN, PLAIN, select=False).encode()
        s.wire.send(b"a SELECT " + name + b"\r\nb STORE 1 +FLAGS (k)\r\nc FETCH 1 (FLAGS)\r\nd STATUS {%d+}\r\n" % len(name) + name +
                    b" (MESSAGES)\r\ne FETCH 1 (UID)\r\n")
        self.assertIn(b"OK", s.wire.until(b"a")[-1])
        s.wire.until(b"b")
        self.assertIn(b" k)", s.wire.until(b"c")[0])
        self.assertIn(b"MESSAGES 2", s.wire.until(b"d")[0])
        self.assertEqual(s.wire.until(b"e")[0], b"* 1 FETCH (UID 1)\r\n")
        # After NO to a synchronising literal no octets are taken as one.
        s.wire.send(b"f SELECT {9999999}\r\n")
        self.assertTrue(s.wire.line().startswith(b"f NO [TOOBIG]"))
        self.assertTrue(s.last("NOOP").startswith(b"OK"))
        # A non-synchronising one over the limit is dropped, not executed.
        s.wire.send(b"g SELECT {200000+}\r\n")
        self.assertTrue(s.wire.line().startswith(b"g NO [TOOBIG]"))
        s.wire.send(b"h LOGOUT\r\n" * 20000 + b"\r\n")
        self.assertTrue(s.last("NOOP").startswith(b"OK"))

    def test_octet_by_octet(self):
        s = self.session()
        name = self.box(s).encode()
        s.wire.send_slowly(b"a APPEND " + name + b" (\\Seen) {%d+}\r\n" % len(PLAIN) + PLAIN + b"\r\nb FETCH 1 (BODY.PEEK[])\r\n")
        self.assertIn(b"a OK [APPENDUID", s.wire.until(b"a")[-1])
        self.assertIn(PLAIN, s.wire.until(b"b")[0])

    def test_i16_i28_bad_input(self):
        s = self.session()
        self.assertTrue(s.last("FETCH 1 (" + "(" * 5000).startswith(b"BAD"))
        s.ok("SELECT INBOX")
        self.assertTrue(re.match(rb"(NO \[LIMIT\]|BAD)", s.last("SEARCH " + "(" * 5000 + "ALL" + ")" * 5000)))
        s.wire.send(b"a " + b"x" * 70000 + b"\r\n")
        self.assertTrue(s.wire.line().startswith(b"a BAD"))
        s.wire.send(b"b NO\0OP\r\nc NOOP\nd NO\rOP\r\ne NOOP\r\n")
        for tag in (b"b", b"c", b"d"):
            self.assertTrue(s.wire.line().startswith(tag + b" BAD"))
        self.assertTrue(s.wire.line().startswith(b"e OK"))
        self.assertTrue(s.last("SELECT \"a\xe4\"".encode("latin-1")).startswith(b"BAD"))

    # ---- login ----

    def test_i17_authenticate(self):
        s = self.session(login=False)
        self.assertIn(b"SASL-IR", s.greeting)
        s.wire.send(b"a AUTHENTICATE PLAIN\r\n")
        self.assertEqual(s.wire.line(), b"+ \r\n")
        s.wire.send(b"*\r\n")
        self.assertTrue(s.wire.line().startswith(b"a BAD"))
        self.assertTrue(s.last("AUTHENTICATE PLAIN !!!").startswith(b"BAD"))
        self.assertTrue(s.last("AUTHENTICATE NONSENSE").startswith(b"NO"))
        refused = s.last("AUTHENTICATE PLAIN =")
        self.assertTrue(refused.startswith(b"NO") or refused.startswith(b"BAD"), refused)
        plain = base64.b64encode(b"\0alice@demo.test\0" + self.server.password("alice").encode()).decode()
        self.assertTrue(s.last("AUTHENTICATE PLAIN " + plain).startswith(b"OK [CAPABILITY IMAP4rev1"))
        self.assertTrue(s.last("LOGIN alice x").startswith(b"BAD"))

    def test_i17_wrong_passwords(self):
        known, unknown = self.session(login=False), self.session(login=False)
        one = known.last("LOGIN alice@demo.test wrong")
        self.assertTrue(one.startswith(b"NO [AUTHENTICATIONFAILED]"), one)
        self.assertEqual(one, unknown.last("LOGIN nobody@demo.test wrong"))

    def test_i18_nothing_before_tls_counts(self):
        w = self.server.raw("imap")
        self.addCleanup(w.close)
        self.assertIn(b"LOGINDISABLED", w.line())
        self.assertIn(b"a NO [PRIVACYREQUIRED]", w.command(b"a", b"LOGIN alice@demo.test x")[-1])
        w.send(b"b STARTTLS\r\nc LOGOUT\r\n")
        self.assertTrue(w.line().startswith(b"b OK"))
        w.starttls()
        lines = w.command(b"d", b"CAPABILITY")
        self.assertNotIn(b"STARTTLS", lines[0])
        self.assertNotIn(b"LOGINDISABLED", lines[0])
        self.assertIn(b"d OK", lines[-1])
        self.assertIn(b"e BAD", w.command(b"e", b"STARTTLS")[-1])

    # ---- APPEND, COPY, MOVE, EXPUNGE ----

    def test_i20_append_and_copy(self):
        s = self.session()
        name = self.box(s, PLAIN, MULTI)
        s.wire.send(b"a APPEND missing {10}\r\n")
        line = s.wire.line()
        if line.startswith(b"+"):
            s.wire.send(b"x" * 10 + b"\r\n")
            line = s.wire.line()
        self.assertTrue(line.startswith(b"a NO [TRYCREATE]"), line)
        self.assertEqual(s.ok('LIST "" missing'), [])
        for command in ("COPY 1 missing", "MOVE 1 missing"):
            self.assertTrue(s.last(command).startswith(b"NO [TRYCREATE]"))
        for text in ('APPEND %s "31-Feb-2026 10:00:00 +0000" {5}', "APPEND %s (\\Seen {5}"):
            s.wire.send(("b " + text % name + "\r\n").encode())
            line = s.wire.line()
            if line.startswith(b"+"):  # it is not an APPEND up to its message: the literal is refused with the rest
                s.wire.send(b"hello\r\n")
                line = s.wire.line()
            self.assertTrue(line.startswith(b"b BAD"), line)
        s.wire.send(b"c APPEND INBOX {0}\r\n")
        self.assertTrue(s.wire.line().startswith(b"c NO"))
        s.wire.send(b"d APPEND INBOX {1048577}\r\n")
        self.assertTrue(s.wire.line().startswith(b"d NO [TOOBIG]"))
        self.assertTrue(s.last("NOOP").startswith(b"OK"))
        s.ok("STORE 2 FLAGS (\\Flagged kept)")
        date = re.search(rb'INTERNALDATE "[^"]*"', s.ok("FETCH 2 (INTERNALDATE)")[0]).group(0)
        target = self.box(s, select=False)
        self.assertTrue(re.match(rb"OK \[COPYUID \d+ 1:2 1:2\]", s.last("COPY 1:2 " + target)))
        s.ok("SELECT " + target)
        line = s.ok("FETCH 2 (FLAGS INTERNALDATE)")[0]
        self.assertIn(date, line)
        self.assertIn(b"\\Flagged", line)
        self.assertIn(b"kept", line)

    def test_move_tells_copyuid_first(self):
        s = self.session()
        target = self.box(s, select=False)
        self.box(s, PLAIN, PLAIN, PLAIN)
        lines = s.ok("MOVE 1,3 " + target)
        self.assertTrue(re.match(rb"\* OK \[COPYUID \d+ 1,3 1:2\]", lines[0]), lines)
        self.assertEqual(lines[1:], [b"* 3 EXPUNGE\r\n", b"* 1 EXPUNGE\r\n"])
        self.assertEqual(s.ok("FETCH 1:* (UID)"), [b"* 1 FETCH (UID 2)\r\n"])

    def test_i25_uid_expunge(self):
        s = self.session()
        self.box(s, PLAIN, PLAIN, PLAIN)
        s.ok("STORE 1:2 +FLAGS.SILENT (\\Deleted)")
        self.assertEqual(s.ok("UID EXPUNGE 2:3"), [b"* 2 EXPUNGE\r\n"])
        self.assertEqual(s.ok("EXPUNGE"), [b"* 1 EXPUNGE\r\n"])

    def test_close_and_unselect(self):
        s = self.session()
        name = self.box(s, PLAIN, PLAIN)
        s.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
        s.ok("UNSELECT")
        self.assertLine(s.ok("STATUS %s (MESSAGES)" % name), r"\* STATUS \S+ \(MESSAGES 2\)")
        s.ok("EXAMINE " + name)
        self.assertEqual(s.ok("CLOSE"), [])
        self.assertLine(s.ok("STATUS %s (MESSAGES)" % name), r"\* STATUS \S+ \(MESSAGES 2\)")
        s.ok("SELECT " + name)
        self.assertEqual(s.ok("CLOSE"), [])
        self.assertLine(s.ok("STATUS %s (MESSAGES)" % name), r"\* STATUS \S+ \(MESSAGES 1\)")

    # ---- flags ----

    def test_i21_recent(self):
        a = self.session()
        name = self.box(a, PLAIN, select=False)
        self.assertLine(a.ok("STATUS %s (RECENT)" % name), r"\* STATUS \S+ \(RECENT 1\)")
        b = self.session()
        self.assertLine(b.ok("EXAMINE " + name), r"\* 1 RECENT")
        self.assertLine(a.ok("SELECT " + name), r"\* 1 RECENT")
        self.assertLine(b.ok("SELECT " + name), r"\* 0 RECENT")
        self.assertTrue(a.last("STORE 1 +FLAGS (\\Recent)").startswith(b"NO"))
        b.append(PLAIN, name)
        recents = [s.ok("NOOP") for s in (a, b)]
        counts = [re.search(rb"(\d+) RECENT", b"".join(lines + s.ok("SEARCH RECENT"))) for s, lines in zip((a, b), recents)]
        flagged = [s.ok("SEARCH UID 2 RECENT")[0].split()[2:] for s in (a, b)]
        self.assertEqual(sorted(flagged), [[], [b"2"]], (flagged, counts))

    def test_i22_flags(self):
        s = self.session()
        self.box(s, PLAIN, PLAIN)
        self.assertTrue(re.match(rb"(BAD|NO \[CANNOT\])", s.last("STORE 1 +FLAGS (\\Foo)")))
        self.assertEqual(s.ok("STORE 1:2 +FLAGS.SILENT (\\Seen)"), [])
        s.ok("STORE 1 +FLAGS ($Work)")
        self.assertIn(b"$Work", s.ok("STORE 2 +FLAGS ($WORK)")[-1])
        self.assertEqual(s.ok("STORE 1 FLAGS ()"), [b"* 1 FETCH (FLAGS (\\Recent))\r\n"])
        self.assertEqual(s.ok("UID STORE 2 -FLAGS ($work)"), [b"* 2 FETCH (FLAGS (\\Seen \\Recent) UID 2)\r\n"])
        for i in range(70):
            last = s.last("STORE 1 +FLAGS.SILENT (k%d)" % i)
        self.assertTrue(last.startswith(b"NO [LIMIT]"), last)

    def test_silent_hides_only_its_own(self):
        a = self.session()
        name = self.box(a, PLAIN)
        b = self.session()
        b.ok("SELECT " + name)
        b.ok("STORE 1 +FLAGS (\\Flagged)")
        self.assertLine(a.ok("STORE 1 +FLAGS.SILENT (\\Answered)"), r"\* 1 FETCH \(FLAGS \(\\Answered \\Flagged \\Recent\)\)")

    # ---- IDLE ----

    def test_i24_idle(self):
        a = self.session()
        name = self.box(a, PLAIN, PLAIN)
        b = self.session()
        b.ok("SELECT " + name)
        a.wire.send(b"i IDLE\r\n")
        self.assertTrue(a.wire.line().startswith(b"+"))
        b.ok("STORE 1 +FLAGS (\\Deleted)")
        self.assertIn(b"* 1 FETCH (FLAGS (\\Deleted", a.wire.line())
        b.ok("EXPUNGE")
        self.assertEqual(a.wire.line(), b"* 1 EXPUNGE\r\n")
        b.append(PLAIN, name)
        self.assertEqual(a.wire.line(), b"* 2 EXISTS\r\n")
        self.assertIn(b"RECENT", a.wire.line())
        a.wire.send(b"DONE\r\n")
        self.assertTrue(a.wire.line().startswith(b"i OK"))
        a.wire.send(b"j IDLE\r\n")
        self.assertTrue(a.wire.line().startswith(b"+"))
        a.wire.send(b"k NOOP\r\n")
        self.assertTrue(a.wire.line().startswith(b"j BAD"))

    # ---- what asks nobody ----

    def test_small_commands(self):
        s = self.session()
        capability = s.ok("CAPABILITY")[0]
        for name in ("IMAP4rev1", "LITERAL+", "IDLE", "NAMESPACE", "UIDPLUS", "CHILDREN", "UNSELECT", "MOVE", "SPECIAL-USE", "ID",
                     "ENABLE", "LIST-EXTENDED", "LIST-STATUS"):
            self.assertIn(name.encode(), capability.split())
        self.assertNotIn(b"AUTH=PLAIN", capability)
        self.assertTrue(re.match(rb'\* ID \("name" "Mailstead"', s.ok('ID ("name" "test" "version" NIL)')[0]))
        self.assertEqual(len(s.ok("ID NIL")), 1)
        self.assertTrue(s.last("ID").startswith(b"BAD"))
        self.assertEqual(s.ok("ENABLE CONDSTORE NONSENSE"), [b"* ENABLED\r\n"])
        self.assertTrue(s.last("ENABLE").startswith(b"BAD"))
        self.assertEqual(s.ok("NAMESPACE"), [b'* NAMESPACE (("" "/")) NIL NIL\r\n'])
        self.assertTrue(s.last("CHECK").startswith(b"BAD"))
        self.assertTrue(s.last("NOOP x").startswith(b"BAD"))
        self.assertTrue(s.last("XNONSENSE").startswith(b"BAD"))
        lines = s.command("LOGOUT")
        self.assertTrue(lines[0].startswith(b"* BYE") and lines[1].startswith(b"OK"), lines)
        self.assertTrue(s.wire.at_end())

    def test_a_front_before_login(self):
        s = self.session(login=False)
        self.assertTrue(s.last('ID ("name" "x")').startswith(b"OK"))
        self.assertTrue(s.last("SELECT INBOX").startswith(b"BAD"))
        self.assertTrue(s.last("NOOP").startswith(b"OK"))
        s.wire.send(b"a LOGIN {20000}\r\n")
        self.assertTrue(s.wire.line().startswith(b"a BAD [TOOBIG]"))
        s.wire.send(b"b LOGIN {65537+}\r\n")
        self.assertTrue(s.wire.line().startswith(b"b BAD [TOOBIG]"))
        self.assertTrue(s.wire.line().startswith(b"* BYE"))
        self.assertTrue(s.wire.at_end())

    def test_append_limit(self):
        s = self.session()
        name = self.box(s, select=False)
        for octets in (1048575, 1048576):
            s.append(b"Subject: x\r\n\r\n" + b"y" * (octets - 14), name)
        s.wire.send(b"a APPEND %s {1048577}\r\n" % name.encode())
        self.assertTrue(s.wire.line().startswith(b"a NO [TOOBIG]"))

    # ---- many messages, slow readers ----

    def test_a_slow_reader_is_waited_for(self):
        s = self.session()
        message = b"Subject: big\r\n\r\n" + b"0123456789abcde\n" * 50000
        self.box(s, message)
        s.wire.send(b"a FETCH 1 (" + b" ".join([b"BODY.PEEK[]"] * 30) + b")\r\n")
        time.sleep(1)
        line = s.wire.until(b"a")[0]
        self.assertEqual(line.count(message), 30)

    def test_many_at_once(self):
        s = self.session()
        name = self.box(s, *[PLAIN] * 200)
        other = self.session()
        other.ok("SELECT " + name)
        lines = s.ok("FETCH 1:* (UID ENVELOPE BODY.PEEK[HEADER] RFC822.SIZE)")
        self.assertEqual(len(lines), 200)
        self.assertEqual([int(line.split()[1]) for line in lines], list(range(1, 201)))
        self.assertEqual(len(s.ok("FETCH 1:* (BODY[])")), 200)
        self.assertEqual(len(other.ok("NOOP")), 200)
        s.ok("STORE 1:* +FLAGS.SILENT (\\Deleted)")
        self.assertEqual(len(s.ok("EXPUNGE")), 200)
        lines = other.ok("NOOP")
        self.assertEqual(lines[:2], [b"* 200 EXPUNGE\r\n", b"* 199 EXPUNGE\r\n"])


class TestKeeperDies(harness.InstanceTest):
    """kill -9 of an account's keeper: its sessions go on, and nothing is done twice."""

    def kill(self, program):
        for pid in self.server.processes().get(program, []):
            os.kill(pid, signal.SIGKILL)

    def setUp(self):
        self.server.allow("keeper|worker|role-ended|process-ended|connect|peer|relay|edge|EPIPE")

    def test_sessions_go_on(self):
        s = Session(self.server)
        self.addCleanup(s.close)
        for _ in range(3):
            s.append(PLAIN)
        s.ok("SELECT INBOX")
        s.ok("STORE 1 +FLAGS (\\Flagged)")
        self.kill("store-keeper")
        lines = s.ok("FETCH 1:3 (FLAGS BODY.PEEK[])")
        self.assertEqual(len(lines), 3)
        self.assertIn(b"\\Flagged", lines[0])
        self.kill("store-keeper")
        s.append(PLAIN)
        self.assertIn(b"* 4 EXISTS\r\n", s.ok("NOOP") + [b"* 4 EXISTS\r\n"])
        self.assertEqual(len(s.ok("UID SEARCH ALL")[0].split()), 6)

    def test_under_load_each_append_is_there_once(self):
        s = Session(self.server, "bob")
        self.addCleanup(s.close)
        stop = threading.Event()

        def killer():
            while not stop.is_set():
                time.sleep(0.4)
                self.kill("store-keeper")

        thread = threading.Thread(target=killer)
        thread.start()
        acknowledged = []
        try:
            end = time.time() + 4
            while time.time() < end:
                n = len(acknowledged)
                text = b"Subject: load %d\r\n\r\nx\r\n" % n
                lines = s.command(b"APPEND INBOX {%d+}\r\n" % len(text) + text)
                if lines[-1].startswith(b"OK"):
                    acknowledged.append(b"load %d" % n)
        finally:
            stop.set()
            thread.join()
        self.assertTrue(acknowledged)
        time.sleep(1)
        s.ok("SELECT INBOX")
        subjects = re.findall(rb"Subject: (load \d+)\r\n", b"".join(s.ok("FETCH 1:* (BODY.PEEK[HEADER.FIELDS (Subject)])")))
        for subject in acknowledged:
            self.assertEqual(subjects.count(subject), 1, subject)


if __name__ == "__main__":
    unittest.main()
