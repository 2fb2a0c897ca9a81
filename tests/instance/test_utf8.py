"""Internationalised mail (RFC 6531, 6532) in IMAP (RFC 6855) and POP3 (RFC 6856): as it is for clients that take UTF-8, as surrogates for others."""

import base64
import email
import email.policy
import re
import unittest

import harness

PASSWORD = "Schlüssel ö"
LOGIN = "ädmin@bücher.example"
SURROGATE = b"invalid@internationalized-address.invalid"
MESSAGE = ("From: Jörg Ü <jörg@bücher.test>\r\nTo: ädmin@bücher.example, Bob <bob@demo.test>, x@bücher.example\r\nSubject: Grüße – 你好\r\n"
           "X-Note: ö\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\npreämble\r\n"
           "--x\r\nContent-Type: text/plain; charset=utf-8; name=\"résumé.txt\"\r\nContent-Transfer-Encoding: 8bit\r\n\r\nKörper\r\n"
           "--x\r\nContent-Type: message/global\r\n\r\nFrom: ö@b.example\r\nSubject: innén\r\n\r\ninnér\r\n--x--\r\n").encode()
PLAIN = b"From: a@b.example\r\nSubject: plain\r\n\r\nplain\r\n"


class Imap:
    def __init__(self, server, utf8=False, login=LOGIN):
        self.wire = server.raw("imaps", tls=True, timeout=25)
        self.wire.line()
        plain = base64.b64encode(("\0%s\0%s" % (login, PASSWORD)).encode())
        last = self.wire.command(b"a", b"AUTHENTICATE PLAIN " + plain)[-1]
        assert last.startswith(b"a OK"), last
        if utf8:
            self.ok("ENABLE UTF8=ACCEPT")

    def command(self, text):
        lines = self.wire.command(b"t", text if isinstance(text, bytes) else text.encode())
        return lines[:-1], lines[-1][2:]

    def ok(self, text):
        lines, last = self.command(text)
        assert last.startswith(b"OK"), (text, last)
        return lines

    def no(self, text):
        last = self.command(text)[1]
        assert not last.startswith(b"OK"), (text, last)
        return last

    def fetch(self, number, item):
        """The one literal or word that the item has."""
        (line,) = self.ok("FETCH %d (%s)" % (number, item))
        literal = re.search(rb" \{(\d+)\}\r\n", line)
        if literal:
            return line[literal.end():literal.end() + int(literal.group(1))]
        return re.fullmatch(rb"\* %d FETCH \(\S+ (.*)\)\r\n" % number, line, re.S).group(1)


class Utf8Test(harness.InstanceTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server.run("domain", "add", "bücher.example")
        cls.server.run("account", "add", LOGIN, "--password-stdin", stdin=PASSWORD + "\n")

    def setUp(self):
        super().setUp()
        self.new = self.open(True)
        self.old = self.open()
        self.new.ok("SELECT INBOX")
        if self.new.ok("SEARCH ALL") != [b"* SEARCH\r\n"]:
            self.new.ok("STORE 1:* +FLAGS.SILENT (\\Deleted)")
            self.new.ok("EXPUNGE")
        self.old.ok("SELECT INBOX")

    def open(self, utf8=False):
        c = Imap(self.server, utf8)
        self.addCleanup(c.wire.close)
        return c

    def append(self, c, message, box="INBOX", plus="+"):
        return c.command(("APPEND %s UTF8 (~{%d%s}\r\n" % (box, len(message), plus)).encode() + message + b")")[1]

    def send(self, message, rcpt=LOGIN):
        with self.server.smtp() as s:
            s.ehlo()
            s.command_encoding = "utf-8"
            self.assertEqual(s.docmd("MAIL FROM:<jörg@bücher.test> SMTPUTF8 BODY=8BITMIME")[0], 250)
            self.assertEqual(s.docmd("RCPT TO:<%s>" % rcpt)[0], 250)
            self.assertEqual(s.data(message)[0], 250)


class TestImapUtf8(Utf8Test):
    def test_enable(self):
        """RFC 6855 3, RFC 5161 3.1, 3.2."""
        c = self.open()
        self.assertIn(b" UTF8=ACCEPT", c.ok("CAPABILITY")[0])
        self.assertEqual(c.ok("ENABLE X-NONE"), [b"* ENABLED\r\n"])
        self.assertEqual(c.ok("ENABLE X-NONE utf8=accept"), [b"* ENABLED UTF8=ACCEPT\r\n"])
        c.ok("SELECT INBOX")
        self.assertTrue(c.no("ENABLE UTF8=ACCEPT").startswith(b"BAD"))
        with self.server.imap() as client:
            self.assertEqual(client.enable("UTF8=ACCEPT")[0], "OK")
            self.assertEqual(client.create('"Größe"')[0], "OK")
            self.assertIn('"Größe"'.encode(), b"".join(client.list()[1]))
            self.assertEqual(client.delete('"Größe"')[0], "OK")

    def test_names(self):
        """UTF-8 names once enabled, modified UTF-7 before; a name with octets over 127 is UTF-8 in both (RFC 6855 3)."""
        self.new.ok('CREATE "Entwürfe/&-"')
        self.assertIn('* LIST (\\HasNoChildren) "/" "Entwürfe/&-"\r\n'.encode(), self.new.ok('LIST "" "Entwürfe/%"'))
        self.assertIn(b'* LIST (\\HasNoChildren) "/" Entw&APw-rfe/&--\r\n', self.old.ok('LIST "" Entw&APw-rfe/*'))
        self.assertIn(b'* LIST (\\HasNoChildren) "/" Entw&APw-rfe/&--\r\n', self.old.ok('LIST "" "Entwürfe/*"'))
        self.assertEqual(self.new.ok('STATUS "Entwürfe/&-" (MESSAGES)'), ['* STATUS "Entwürfe/&-" (MESSAGES 0)\r\n'.encode()])
        self.assertEqual(self.old.ok('STATUS "Entwürfe/&-" (MESSAGES)'), [b"* STATUS Entw&APw-rfe/&-- (MESSAGES 0)\r\n"])
        self.old.ok("SUBSCRIBE Entw&APw-rfe")
        self.assertIn('* LSUB () "/" "Entwürfe"\r\n'.encode(), self.new.ok('LSUB "" *'))
        self.new.ok('RENAME "Entwürfe" {7+}\r\nÜbung'.replace("7", str(len("Übung".encode()))))
        self.new.ok('SELECT "Übung/&-"')
        self.new.ok('SELECT INBOX')
        self.assertTrue(self.new.no('CREATE "\u0075\u0308"').startswith(b"NO [CANNOT]"))  # not NFC (RFC 9051 5.1)
        self.assertTrue(self.old.no('CREATE "u&Awg-"').startswith(b"NO [CANNOT]"))
        self.assertTrue(self.new.no('CREATE "a\u2028b"').startswith(b"NO"))
        self.assertTrue(self.new.no('RENAME "Übung" "e\u0301"').startswith(b"NO [CANNOT]"))
        self.assertIn(b"control characters", self.new.no('CREATE "a\u0085b"'))
        for bad in (b'CREATE "a\xfc"', b'CREATE "a\xc3"', b'CREATE "\xed\xa0\x80"', b'CREATE "\xc0\xaf"', b"CREATE a\xc3\xbc"):
            self.assertTrue(self.new.no(bad).startswith(b"BAD"), bad)
            self.assertTrue(self.old.no(bad).startswith(b"BAD"), bad)
        self.assertTrue(self.new.no(b"CREATE {2+}\r\na\xfc").startswith(b"NO [CANNOT]"))
        for name in ("Übung/&-", "Übung"):
            self.new.ok('DELETE "%s"' % name)

    def test_append(self):
        """RFC 6855 4: the UTF8 data extension; a header with octets over 127 only when enabled; bodies have them always."""
        self.assertRegex(self.append(self.new, MESSAGE), rb"^OK \[APPENDUID ")
        self.assertRegex(self.append(self.old, PLAIN), rb"^OK \[APPENDUID ")
        self.assertTrue(self.append(self.old, MESSAGE).startswith(b"NO [CANNOT]"))
        body = "Subject: x\r\n\r\nö\r\n".encode()
        for c, message, word in ((self.old, MESSAGE, b"NO [CANNOT]"), (self.new, MESSAGE, b"OK"), (self.old, body, b"OK"), (self.new, body, b"OK")):
            self.assertTrue(c.command(b"APPEND INBOX {%d+}\r\n" % len(message) + message)[1].startswith(word), message)
        self.new.wire.send(b"u APPEND INBOX (\\Seen) UTF8 (~{%d}\r\n" % len(MESSAGE))
        self.assertTrue(self.new.wire.line().startswith(b"+ "))
        self.new.wire.send_slowly(MESSAGE[:40])
        self.new.wire.send(MESSAGE[40:] + b")\r\n")
        self.assertRegex(self.new.wire.until(b"u")[-1], rb"^u OK \[APPENDUID ")
        for tail in (b"", b"))", b") x", b" )"):
            self.assertTrue(self.new.command(b"APPEND INBOX UTF8 (~{3+}\r\nabc" + tail)[1].startswith(b"BAD"), tail)
        self.assertTrue(self.new.no(b"APPEND INBOX UTF8 ({3+}\r\nabc)").startswith(b"BAD"))
        self.assertEqual(self.new.fetch(1, "BODY.PEEK[]"), MESSAGE)
        self.assertEqual(len(self.new.ok("FETCH 1:* (UID)")), 6)

    def test_search(self):
        """All strings are UTF-8; CHARSET conflicts with that (RFC 6855 3)."""
        self.append(self.new, MESSAGE)
        self.new.ok("NOOP")
        for key in ('SUBJECT "GRÜSSE"', 'FROM "jörg"', 'TEXT "你好"', 'BODY "körper"', 'HEADER X-Note "ö"', 'TO {6+}\r\nädmin'):
            self.assertEqual(self.new.ok("SEARCH " + key), [b"* SEARCH 1\r\n"], key)
        self.assertTrue(self.new.no("SEARCH CHARSET UTF-8 ALL").startswith(b"BAD"))
        self.old.ok("NOOP")
        self.assertEqual(self.old.ok('SEARCH CHARSET UTF-8 SUBJECT "GRÜSSE"'), [b"* SEARCH 1\r\n"])
        self.assertTrue(self.new.no(b'SEARCH SUBJECT "\xfc"').startswith(b"BAD"))

    def check_surrogate(self, whole):
        """What RFC 6858 says of the message above, by a parser that is not ours."""
        header = whole.partition(b"\r\n\r\n")[0]
        self.assertTrue(header.isascii(), header)
        for line in whole.split(b"\r\n"):
            self.assertLessEqual(len(line), 78 if b"=?" in line else 998)
        m = email.message_from_bytes(whole, policy=email.policy.SMTP)
        self.assertEqual(m["Subject"], "Grüße – 你好")
        self.assertEqual(m["From"].addresses[0].addr_spec.encode(), SURROGATE)
        self.assertEqual(m["From"].addresses[0].display_name, "Jörg Ü <jörg@bücher.test>")
        self.assertEqual([a.addr_spec for a in m["To"].addresses], [SURROGATE.decode(), "bob@demo.test", "x@xn--bcher-kva.example"])
        self.assertNotIn("X-Note", m)
        text, inner = m.get_payload()
        self.assertEqual(text.get_filename(), "résumé.txt")
        self.assertEqual(inner.get_content_type(), "message/rfc822")
        self.assertEqual(inner.get_payload(0)["Subject"], "innén")
        for kept in ("preämble\r\n--x\r\n", "\r\n\r\nKörper\r\n--x\r\n", "\r\n\r\ninnér\r\n--x--\r\n"):
            self.assertIn(kept.encode(), whole)

    def test_fetch(self):
        """The same UID: as it was sent where UTF-8 is taken; elsewhere one surrogate, of which every item tells the same."""
        self.append(self.new, PLAIN)
        self.send(MESSAGE)
        self.append(self.new, PLAIN)
        for c in (self.new, self.old):
            c.ok("NOOP")
        whole = self.new.fetch(2, "BODY.PEEK[]")
        self.assertTrue(whole.endswith(MESSAGE))
        self.assertIn("\tfor <ädmin@bücher.example>".encode(), whole)
        self.assertEqual(int(self.new.fetch(2, "RFC822.SIZE")), len(whole))
        self.assertIn("{%d}\r\n" % len("Grüße – 你好".encode()), self.new.ok("FETCH 2 (ENVELOPE)")[0].decode())

        whole = self.old.fetch(2, "BODY.PEEK[]")
        self.check_surrogate(whole)
        self.assertEqual(int(self.old.fetch(2, "RFC822.SIZE")), len(whole))
        self.assertEqual(self.open_selected().fetch(2, "BODY.PEEK[]"), whole)
        header, text = self.old.fetch(2, "BODY.PEEK[HEADER]"), self.old.fetch(2, "BODY.PEEK[TEXT]")
        self.assertEqual(header + text, whole)
        self.assertEqual(b"".join(self.old.fetch(2, "BODY.PEEK[]<%d.100>" % at) for at in range(0, len(whole), 100)), whole)
        self.assertEqual(self.old.fetch(2, "BODY.PEEK[HEADER.FIELDS (SUBJECT X-Note)]"), b"Subject: =?UTF-8?B?R3LDvMOfZSDigJMg5L2g5aW9?=\r\n\r\n")
        self.assertEqual(self.old.fetch(2, "BODY.PEEK[1.MIME]").partition(b"\r\n")[0], b"Content-Type: text/plain;")
        self.assertEqual(self.old.fetch(2, "BODY.PEEK[1]"), "Körper".encode())
        self.assertEqual(self.old.fetch(2, "BODY.PEEK[2.HEADER]").count(SURROGATE), 1)
        for item in ("ENVELOPE", "BODYSTRUCTURE", "BODY"):
            (line,) = self.old.ok("FETCH 2 (%s)" % item)
            self.assertTrue(line.isascii(), line)
        structure = self.old.ok("FETCH 2 (BODYSTRUCTURE)")[0]
        self.assertIn(b'("name*" "UTF-8\'\'r%C3%A9sum%C3%A9.txt")', structure.replace(b'"charset" "utf-8" ', b""))
        inner = self.old.fetch(2, "BODY.PEEK[2]")
        self.assertIn(b'("message" "rfc822" NIL NIL NIL "7BIT" %d (' % len(inner), structure)
        self.assertIn(b'"invalid" "internationalized-address.invalid"', structure)
        # The messages beside it are as they are; all three in one command, and by the keeper's records alone.
        lines = self.old.ok("FETCH 1:* (RFC822.SIZE BODY.PEEK[])")
        self.assertEqual([int(re.search(rb"RFC822.SIZE (\d+)", line).group(1)) for line in lines], [len(PLAIN), len(whole), len(PLAIN)])
        self.assertTrue(PLAIN in lines[0] and whole in lines[1] and PLAIN in lines[2])
        lines = self.old.ok("FETCH 1:* (UID ENVELOPE RFC822.SIZE)")
        self.assertEqual([int(re.search(rb"RFC822.SIZE (\d+)", line).group(1)) for line in lines], [len(PLAIN), len(whole), len(PLAIN)])
        # A copy is the same message; \Seen goes on.
        (line,) = self.old.ok("FETCH 2 (BODY[])")
        self.assertTrue(line.startswith(b"* 2 FETCH (FLAGS (\\Seen"), line)
        self.assertIn(whole, line)
        self.assertIn(b"\\Seen", self.new.ok("FETCH 2 (FLAGS)")[0])
        self.old.ok("COPY 2 Archive")
        self.new.ok("SELECT Archive")
        self.assertTrue(self.new.fetch(1, "BODY.PEEK[]").endswith(MESSAGE))
        self.new.ok("STORE 1 +FLAGS (\\Deleted)")
        self.new.ok("EXPUNGE")

    def open_selected(self):
        c = self.open()
        c.ok("SELECT INBOX")
        return c

    def test_broken_headers(self):
        """Octets over 127 that are no UTF-8, and headers that nobody should write: no client without UTF-8 sees one, and sizes are true."""
        messages = [
            b"Subject: Gr\xfc\xdfe\r\nFrom: J\xf6rg <a@b.example>\r\n\r\nx\r\n", b"\xff\xfe: x\r\n\xc3\r\n\r\n", b"Subject: \xc3", b"\xe9",
            b"Subject: x\r\n\xc3\xb6 folded\r\n \xc3\xb6\r\n\r\n\xc3\xb6", "From: ö@ö, ö, <>, \"ö, (ö), :ö;, @ö:ö@ö\r\n\r\nx".encode(),
            b"To: " + b"\xc3\xb6@x.example, " * 1100 + b"\r\n\r\nx", b"Subject: " + "ö".encode() * 30000 + b"\r\n\r\nx\r\n",
            ("Content-Type: multipart/mixed; boundary=\"ö\"\r\n\r\n--ö\r\nX: ö\r\n\r\nö\r\n--ö--\r\n").encode(),
            b"Content-Type: text/plain; name=\"" + "ö".encode() * 5000 + b"\"; x=\xff\r\n\r\nx\r\n",
            b"X: \xc3\xb6\r\n" * 12000 + b"\r\nx\r\n", b"X: \xc3\xb6\0\r\n\r\n\0x\r\n"]
        for message in messages:
            self.assertRegex(self.append(self.new, message), rb"^OK ", message[:80])
        self.old.ok("NOOP")
        for number, message in enumerate(messages, 1):
            self.assertEqual(self.new.fetch(number, "BODY.PEEK[]"), message.replace(b"\0", b"\x80"))
            whole = self.old.fetch(number, "BODY.PEEK[]")
            header = self.old.fetch(number, "BODY.PEEK[HEADER]").strip(b'"')
            self.assertTrue(header.isascii(), (message[:80], header[:200]))
            self.assertEqual(int(self.old.fetch(number, "RFC822.SIZE")), 0 if whole == b'""' else len(whole), message[:80])
            self.assertTrue(self.old.ok("FETCH %d (ENVELOPE BODYSTRUCTURE)" % number)[0].isascii())


class TestPop3Utf8(Utf8Test):
    def setUp(self):
        super().setUp()
        self.append(self.new, PLAIN)
        self.send(MESSAGE)
        self.new.ok("NOOP")
        self.old.ok("NOOP")

    def pop3(self, utf8, user=LOGIN, password=PASSWORD):
        c = self.server.pop3(user=None)
        c.encoding = "utf-8"
        self.addCleanup(c.close)
        if utf8:
            self.assertTrue(c.utf8().startswith(b"+OK"))
        c.user(user)
        c.pass_(password)
        return c

    def test_both_modes(self):
        """RFC 6856 2.1: sizes are those of what RETR sends; unique-ids do not depend on the mode."""
        seen = {}
        for utf8, imap in ((True, self.new), (False, self.old)):
            c = self.pop3(utf8)
            self.assertIn(b"UTF8", b" ".join(x.encode() for x in c.capa()))
            self.assertEqual(c.capa()["UTF8"], ["USER"])
            whole = imap.fetch(2, "BODY.PEEK[]")
            answer, lines, _ = c.retr(2)
            self.assertEqual(b"".join(line + b"\r\n" for line in lines), whole)
            self.assertEqual(answer, b"+OK %d octets" % len(whole))
            sizes = [int(line.split()[1]) for line in c.list()[1]]
            self.assertEqual(sizes, [len(PLAIN), len(whole)])
            self.assertEqual(c.stat(), (2, sum(sizes)))
            self.assertEqual(c.top(2, 1)[1][-1], "preämble".encode())
            self.assertEqual(b"".join(line + b"\r\n" for line in c.retr(1)[1]), PLAIN)
            seen[utf8] = c.uidl()[1]
            c.quit()
        self.assertEqual(seen[True], seen[False])

    def test_command(self):
        w = self.server.raw("pop3")
        self.addCleanup(w.close)
        w.line()
        w.send(b"CAPA\r\n")
        while (line := w.line()) != b".\r\n":
            if line.startswith(b"UTF8"):
                self.assertEqual(line, b"UTF8 USER\r\n")  # in both states, with and without TLS (RFC 6856 2)
                found = True
        self.assertTrue(found)
        for text, want in ((b"UTF8 x", b"-ERR"), (b"utf8", b"+OK"), (b"UTF8", b"+OK"), (b"STLS", b"-ERR")):
            w.send(text + b"\r\n")
            self.assertTrue(w.line().startswith(want), text)
        c = self.pop3(False)
        self.assertRaises(Exception, c.utf8)

    def test_logins(self):
        """Names and passwords in UTF-8, whatever their normal form and the domain's (RFC 6856 2.2, RFC 8265); no UTF-8 is refused."""
        for user in (LOGIN, "a\u0308dmin@BÜCHER.example", "ädmin@xn--bcher-kva.example"):
            for password in (PASSWORD, "Schlu\u0308ssel o\u0308"):
                self.pop3(False, user, password).quit()
                Imap(self.server, login=user).wire.close()
                with self.server.raw("imaps", tls=True) as c:
                    c.line()
                    self.assertTrue(c.command(b"a", ('LOGIN "%s" "%s"' % (user, password)).encode())[-1].startswith(b"a OK"))
        w = self.server.raw("pop3s", tls=True)
        self.addCleanup(w.close)
        w.line()
        for user, password in ((b"\xe4dmin@xn--bcher-kva.example", PASSWORD.encode()), (LOGIN.encode(), b"Schl\xfcssel \xf6")):
            w.send(b"USER " + user + b"\r\n")
            self.assertEqual(w.line(), b"+OK\r\n")
            w.send(b"PASS " + password + b"\r\n")
            self.assertTrue(w.line().startswith(b"-ERR"))


class TestRecipients(Utf8Test):
    def test_aliases_and_case(self):
        """Aliases in UTF-8; letters beyond ASCII fold where the domain's rule says so; U-labels and A-labels are one domain."""
        run = self.server.run
        run("alias", "add", "größe@bücher.example", LOGIN)
        run("alias", "add", "info@xn--bcher-kva.example", LOGIN)
        rows = [("größe@bücher.example", 250), ("gro\u0308ße@xn--bcher-kva.example", 250), ("GRößE@BÜCHER.example", 250),
                ("info@bücher.example", 250), ("GRÖSSE@bücher.example", 550), ("grösse@bücher.example", 550), ("grosse@bücher.example", 550)]
        for folds in (False, True):
            if folds:
                run("domain", "set", "bücher.example", "--case", "unicode")
                rows = [(rcpt, 550 if rcpt.startswith("grosse") else 250) for rcpt, _ in rows]
            with self.server.smtp() as s:
                s.ehlo()
                s.command_encoding = "utf-8"
                for rcpt, code in rows:
                    s.docmd("MAIL FROM:<> SMTPUTF8")
                    self.assertEqual(s.docmd("RCPT TO:<%s>" % rcpt)[0], code, (rcpt, folds))
                    s.docmd("RSET")

    def test_shown_to_whom(self):
        """A client that did not ask for SMTPUTF8 reaches the account by its alias, and sees no UTF-8: in no reply, and not in Received."""
        self.server.run("alias", "add", "ascii@demo.test", LOGIN)
        w = self.server.raw("smtp")
        self.addCleanup(w.close)
        w.reply()
        for line in (b"EHLO client.example", b"MAIL FROM:<a@client.example>", b"RCPT TO:<ascii@demo.test>", b"DATA"):
            w.send(line + b"\r\n")
            reply = w.reply()
            self.assertRegex(reply, rb"^[23]")
            self.assertTrue(reply.isascii())
        w.send(PLAIN + b".\r\n")
        reply = w.reply()
        self.assertTrue(reply.startswith(b"250") and reply.isascii(), reply)
        self.new.ok("NOOP")
        whole = self.new.fetch(1, "BODY.PEEK[]")
        self.assertTrue(whole.isascii() and b"\tfor <ascii@demo.test>" in whole, whole)


if __name__ == "__main__":
    unittest.main()
