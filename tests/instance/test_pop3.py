"""POP3 on whole servers: RFC 1939, 2449, 2595, 3206, 5034, and what happens when processes die."""

import base64
import os
import poplib
import signal
import socket
import ssl
import time
import unittest

import harness


def b64(text):
    return base64.b64encode(text.encode()).decode()


class Pop3Test(harness.InstanceTest):
    def setUp(self):
        super().setUp()
        self.imap = self.server.imap("alice")
        self.empty()

    def tearDown(self):
        self.empty()
        self.imap.logout()
        super().tearDown()

    def empty(self):
        """Removes all mail of the account."""
        self.imap.select("INBOX")
        if self.imap.search(None, "ALL")[1] != [b""]:
            self.imap.store("1:*", "+FLAGS.SILENT", r"(\Deleted)")
            self.imap.expunge()

    def fill(self, *messages):
        for message in messages:
            self.assertEqual(self.imap.append("INBOX", "", None, message)[0], "OK")

    def connect(self, service="pop3s"):
        c = self.server.raw(service, tls=service == "pop3s")
        self.assertRegex(c.line(), rb"^\+OK .*\r\n$")
        return c

    def say(self, c, text):
        c.send(text + "\r\n")
        return c.line().decode().rstrip("\r\n")

    def multi(self, c):
        lines = []
        while True:
            line = c.line()
            self.assertTrue(line, "closed in a listing")
            if line == b".\r\n":
                return lines
            lines.append(line)

    def login(self, c, user="alice"):
        self.assertEqual(self.say(c, "USER " + self.server.address(user)), "+OK")
        return self.say(c, "PASS " + self.server.password(user))

    def in_turn(self, *lines):
        """Logged in: whoever has closed his connection keeps the maildrop until the server has seen that."""
        def one():
            c = self.connect()
            said = [self.say(c, line) for line in lines]
            self.assertTrue(all(s.startswith("+ ") for s in said[:-1]), said)
            if not said[-1].startswith("-ERR [IN-USE]"):
                self.assertTrue(said[-1].startswith("+OK"), said)
                return c
            c.close()
            return None
        return harness.wait_for(one, 10)

    def plain(self, password=None):
        return b64("\0%s\0%s" % (self.server.address("alice"), password or self.server.password("alice")))

    # Before login.

    def test_capabilities_in_each_state(self):
        """RFC 2449 5; RFC 2595 2.3: no way to send a password is offered in clear; STLS only there."""
        c = self.connect("pop3")
        self.assertTrue(self.say(c, "CAPA").startswith("+OK"))
        clear = self.multi(c)
        self.assertIn(b"STLS\r\n", clear)
        self.assertNotIn(b"USER\r\n", clear)
        self.assertFalse([x for x in clear if x.startswith(b"SASL")])
        self.assertTrue(self.say(c, "STLS").startswith("+OK"))
        c.starttls()
        self.assertTrue(self.say(c, "CAPA").startswith("+OK"))
        tls = self.multi(c)
        for name in (b"USER", b"SASL PLAIN LOGIN", b"TOP", b"UIDL", b"RESP-CODES", b"AUTH-RESP-CODE", b"PIPELINING"):
            self.assertIn(name + b"\r\n", tls)
        self.assertNotIn(b"STLS\r\n", tls)
        self.assertTrue(self.say(c, "STLS").startswith("-ERR"))
        self.assertTrue(self.login(c).startswith("+OK"))
        self.assertTrue(self.say(c, "CAPA").startswith("+OK"))
        self.assertIn(b"SASL PLAIN LOGIN\r\n", self.multi(c))
        self.assertTrue(self.say(c, "STLS").startswith("-ERR"))
        c.close()

    def test_languages(self):
        """RFC 6856 3: in both states; English is all there is."""
        c = self.connect("pop3s")
        for logged_in in (False, True):
            if logged_in:
                self.login(c)
            self.assertTrue(self.say(c, "CAPA").startswith("+OK"))
            self.assertIn(b"LANG\r\n", self.multi(c))
            self.assertTrue(self.say(c, "LANG").startswith("+OK"))
            self.assertEqual([line.rstrip() for line in self.multi(c)], [b"en English"])
            for wanted in ("en", "EN", "*"):
                self.assertTrue(self.say(c, "LANG " + wanted).startswith("+OK en "), wanted)
            for wanted in ("en-GB", "MUL", "i", "\u00f6"):
                self.assertTrue(self.say(c, "LANG " + wanted).startswith("-ERR"), wanted)
        c.close()

    def test_no_password_in_clear(self):
        c = self.connect("pop3")
        self.assertTrue(self.say(c, "USER alice@demo.test").startswith("-ERR [AUTH]"))
        self.assertTrue(self.say(c, "AUTH PLAIN " + self.plain()).startswith("-ERR [AUTH]"))
        c.close()

    def test_stls_drops_what_came_in_clear(self):
        """RFC 2595 4: a command injected behind STLS is never run."""
        c = self.server.raw("pop3")
        c.line()
        c.send("STLS\r\nCAPA\r\n")
        self.assertTrue(c.line().startswith(b"+OK"))
        self.assertEqual(c.buffer, b"")
        try:
            c.starttls()
            c.s.settimeout(1)
            with self.assertRaises(socket.timeout):
                c.s.recv(100)
        except (ssl.SSLError, OSError):
            pass  # the octets met the handshake: as good
        c.close()

    def test_commands_before_login(self):
        c = self.connect()
        for command in ("STAT", "LIST", "RETR 1", "NOOP", "RSET", "DELE 1", "APOP a b", "XYZ"):
            self.assertTrue(self.say(c, command).startswith("-ERR"), command)
        self.assertTrue(self.say(c, "QUIT").startswith("+OK"))
        self.assertTrue(c.at_end())

    def test_pass_comes_right_after_user(self):
        """P-06: any name is welcome, PASS needs it just before."""
        c = self.connect()
        self.assertTrue(self.say(c, "PASS x").startswith("-ERR"))
        self.assertEqual(self.say(c, "USER nobody@nowhere.test"), "+OK")
        self.say(c, "CAPA")
        self.multi(c)
        self.assertTrue(self.say(c, "PASS x").startswith("-ERR"))
        c.close()

    def test_wrong_password_and_unknown_user_look_the_same(self):
        """RFC 3206: [AUTH]; the same words for both, and the connection ends after three."""
        c = self.connect()
        answers = []
        for user in ("alice@demo.test", "nobody@demo.test", "x"):
            self.assertEqual(self.say(c, "USER " + user), "+OK")
            answers.append(self.say(c, "PASS wrong"))
        self.assertEqual(set(answers), {answers[0]})
        self.assertTrue(answers[0].startswith("-ERR [AUTH]"), answers[0])
        self.assertTrue(c.at_end())

    def test_auth(self):
        """P-08, RFC 5034 4."""
        c = self.connect()
        self.assertEqual(self.say(c, "AUTH PLAIN"), "+ ")
        self.assertTrue(self.say(c, "*").startswith("-ERR"))
        self.assertEqual(self.say(c, "AUTH PLAIN"), "+ ")
        self.assertTrue(self.say(c, "=AAA").startswith("-ERR"))
        self.assertTrue(self.say(c, "AUTH PLAIN AAA=BBB").startswith("-ERR"))
        self.assertTrue(self.say(c, "AUTH PLAIN =").startswith("-ERR"))
        self.assertTrue(self.say(c, "AUTH NOSUCH").startswith("-ERR"))
        self.assertTrue(self.say(c, "AUTH").startswith("-ERR"))
        self.assertEqual(self.say(c, "AUTH plain"), "+ ")
        self.assertTrue(self.say(c, self.plain()).startswith("+OK"))
        self.assertTrue(self.say(c, "AUTH PLAIN").startswith("-ERR"))
        c.close()
        c = self.in_turn("AUTH PLAIN " + self.plain())
        c.close()
        c = self.in_turn("AUTH LOGIN", b64(self.server.address("alice")), b64(self.server.password("alice")))
        c.close()

    def test_too_many_errors_end_it(self):
        c = self.connect()
        c.send("garbage\r\n" * 20)
        self.assertTrue(c.at_end())
        self.assertLessEqual(c.buffer.count(b"-ERR"), 12)

    def test_everything_in_one_packet(self):
        """RFC 2449 6.6: login and all, pipelined."""
        self.fill(b"Subject: a\r\n\r\none\r\n")
        c = self.connect()
        c.send("USER %s\r\nPASS %s\r\nSTAT\r\nRETR 1\r\nDELE 1\r\nRSET\r\nQUIT\r\n" %
               (self.server.address("alice"), self.server.password("alice")))
        self.assertTrue(c.at_end())
        self.assertRegex(c.buffer.decode(), r"^\+OK\r\n\+OK .*\r\n\+OK 1 19\r\n\+OK 19 octets\r\nSubject: a\r\n\r\none\r\n"
                                            r"\.\r\n\+OK .*\r\n\+OK .*\r\n\+OK .*\r\n$")

    def test_old_tls_is_refused(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # not the one that all share
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")
        with self.assertRaises((ssl.SSLError, OSError)):
            poplib.POP3_SSL("127.0.0.1", self.server.ports["pop3s"], timeout=10, context=context)

    def test_tls_sessions_resume(self):
        context = harness.client_tls()
        session = None
        for turn in range(2):
            s = context.wrap_socket(socket.create_connection(("127.0.0.1", self.server.ports["pop3s"]), timeout=10),
                                    session=session)
            s.recv(100)
            self.assertEqual(s.session_reused, turn == 1)
            s.sendall(b"QUIT\r\n")
            while s.recv(100):
                pass
            session = s.session
            s.close()

    # After login.

    def test_messages_come_as_they_are(self):
        messages = [b"Subject: plain\r\n\r\nbody\r\n", b"Subject: dots\r\n\r\n.\r\n..\r\n.x\r\n", b"Subject: none\r\n\r\n",
                    b"Subject: big\r\n\r\n" + b"".join(b".%07d%s\r\n" % (i, b"x" * (i % 70)) for i in range(60000)),
                    b"Subject: no end of line\r\n\r\nend"]
        self.fill(*messages)
        c = self.connect()
        self.assertRegex(self.login(c), r"^\+OK 5 ")
        self.assertEqual(self.say(c, "STAT"), "+OK 5 %d" % sum(map(len, messages)))
        self.say(c, "LIST")
        self.assertEqual(self.multi(c), [b"%d %d\r\n" % (i + 1, len(m)) for i, m in enumerate(messages)])
        for i, message in enumerate(messages):
            self.assertEqual(self.say(c, "RETR %d" % (i + 1)), "+OK %d octets" % len(message))
            got = b"".join(line[1:] if line.startswith(b".") else line for line in self.multi(c))
            self.assertEqual(got, message if message.endswith(b"\r\n") else message + b"\r\n")
        self.assertTrue(self.say(c, "TOP 4 2").startswith("+OK"))
        self.assertEqual(b"".join(self.multi(c)), b"Subject: big\r\n\r\n..0000000\r\n..0000001x\r\n")
        self.assertTrue(self.say(c, "QUIT").startswith("+OK"))

    def test_deleted_only_at_quit(self):
        """P-02."""
        self.fill(b"Subject: 1\r\n\r\n", b"Subject: 2\r\n\r\n", b"Subject: 3\r\n\r\n")
        c = self.connect()
        self.login(c)
        self.assertTrue(self.say(c, "DELE 2").startswith("+OK"))
        self.assertTrue(self.say(c, "DELE 2").startswith("-ERR"))
        self.assertTrue(self.say(c, "RETR 2").startswith("-ERR"))
        self.assertTrue(self.say(c, "STAT").startswith("+OK 2 "))
        c.close()  # lost: no UPDATE
        time.sleep(0.2)
        c = self.connect()
        self.assertRegex(self.login(c), r"^\+OK 3 ")
        self.say(c, "DELE 1")
        self.say(c, "DELE 3")
        self.assertTrue(self.say(c, "QUIT").startswith("+OK"))
        self.imap.noop()
        self.assertEqual(self.imap.search(None, "SUBJECT", "2")[1], [b"1"])
        self.assertEqual(self.imap.search(None, "ALL")[1], [b"1"])

    def test_unique_ids_stay(self):
        """P-04: over sessions and whatever IMAP does; P-10: new mail is for the next session."""
        self.fill(b"Subject: 1\r\n\r\n", b"Subject: 2\r\n\r\n", b"Subject: 3\r\n\r\n")
        c = self.connect()
        self.login(c)
        self.say(c, "UIDL")
        first = [line.split()[1] for line in self.multi(c)]
        self.assertEqual(len(set(first)), 3)
        for uidl in first:
            self.assertRegex(uidl, rb"^[!-~]{1,70}$")
        self.fill(b"Subject: 4\r\n\r\n")
        self.assertTrue(self.say(c, "STAT").startswith("+OK 3 "))
        self.say(c, "QUIT")
        self.imap.select("INBOX")
        self.imap.store("1", "+FLAGS", r"(\Seen \Flagged)")
        self.imap.store("2", "+FLAGS", r"(\Deleted)")
        self.imap.expunge()
        self.imap.copy("1", "INBOX")
        c = self.connect()
        self.login(c)
        self.say(c, "UIDL")
        second = [line.split()[1] for line in self.multi(c)]
        self.assertEqual(second[:2], [first[0], first[2]])
        self.assertEqual(len(set(second)), 4)
        self.say(c, "QUIT")

    def test_one_session_at_a_time(self):
        """P-01; a maildrop is free at once after QUIT."""
        c = self.connect()
        self.assertTrue(self.login(c).startswith("+OK"))
        other = self.connect()
        self.assertTrue(self.login(other).startswith("-ERR [IN-USE]"))
        for _ in range(10):
            self.assertTrue(self.say(c, "QUIT").startswith("+OK"))
            # The old connection is still open at our end.
            again = self.connect()
            self.assertTrue(self.login(again).startswith("+OK"))
            c.close()
            c = again
        c.close()
        other.close()

    def test_pipelined_by_the_hundred(self):
        """P-13."""
        self.fill(*[b"Subject: %d\r\n\r\nbody %d\r\n" % (i, i) for i in range(100)])
        c = self.connect()
        self.login(c)
        c.send("".join("RETR %d\r\nDELE %d\r\n" % (i, i) for i in range(1, 101)) + "QUIT\r\n")
        for i in range(100):
            self.assertRegex(c.line(), rb"^\+OK \d+ octets\r\n")
            self.assertEqual(self.multi(c)[0], b"Subject: %d\r\n" % i)
            self.assertTrue(c.line().startswith(b"+OK"))
        self.assertTrue(c.line().startswith(b"+OK"))
        self.imap.noop()
        self.assertEqual(self.imap.search(None, "ALL")[1], [b""])

    def test_removed_by_imap_meanwhile(self):
        self.fill(b"Subject: 1\r\n\r\n", b"Subject: 2\r\n\r\n")
        c = self.connect()
        self.login(c)
        self.empty()
        self.assertTrue(self.say(c, "RETR 1").startswith("-ERR"))
        self.assertTrue(self.say(c, "STAT").startswith("+OK 2 "))
        self.assertTrue(self.say(c, "DELE 1").startswith("+OK"))
        self.assertTrue(self.say(c, "QUIT").startswith("+OK"))

    def test_wrong_lines(self):
        c = self.connect()
        self.login(c)
        for line in (b"NOOP\n", b"NO\0OP\r\n", b"NO\rOP\r\n", b"x" * 300 + b"\r\n", b"RETR 99999999999999999999\r\n", b"LIST -1\r\n",
                     b"TOP 1\r\n", b"\r\n"):
            c.send(line)
            self.assertTrue(c.line().startswith(b"-ERR"), line[:20])
            self.assertEqual(self.say(c, "NOOP"), "+OK")
        c.close()

    # Processes that die, leases that end.

    def kill(self, program):
        for pid in self.server.processes()[program]:
            os.kill(pid, signal.SIGKILL)

    def test_keeper_dies(self):
        self.server.allow("role=supervisor|keeper|store")
        self.fill(b"Subject: 1\r\n\r\nbody\r\n", b"Subject: 2\r\n\r\nbody\r\n")
        c = self.connect()
        self.login(c)
        self.kill("store-keeper")
        self.assertTrue(self.say(c, "RETR 1").startswith("+OK"))
        self.assertEqual(self.multi(c)[0], b"Subject: 1\r\n")
        self.say(c, "DELE 1")
        self.kill("store-keeper")
        self.assertTrue(self.say(c, "QUIT").startswith("+OK"))
        c = self.connect()
        self.assertRegex(self.login(c), r"^\+OK 1 ")
        self.say(c, "QUIT")

    def test_worker_dies(self):
        self.server.allow("role=supervisor|pop3|store")
        c = self.connect()
        self.login(c)
        self.kill("pop3d-worker")
        self.assertTrue(c.at_end())
        c = self.connect()
        self.assertTrue(self.login(c).startswith("+OK"))
        self.say(c, "QUIT")

    def test_key_role_dies(self):
        """Sessions go on; new handshakes work again within two seconds."""
        self.server.allow("role=supervisor|key|certificates|connection-failed")
        c = self.connect()
        self.login(c)
        self.kill("authd-key")
        self.assertEqual(self.say(c, "NOOP"), "+OK")
        deadline = time.time() + 2
        while True:
            try:
                other = self.connect()
                break
            except (ssl.SSLError, OSError, AssertionError):
                self.assertLess(time.time(), deadline)
                time.sleep(0.05)
        self.assertTrue(self.say(other, "QUIT").startswith("+OK"))
        self.say(c, "QUIT")

    def test_new_password_ends_the_session(self):
        self.server.run("account", "add", "carol@demo.test", stdin="first password 1\n")
        c = self.connect()
        self.say(c, "USER carol@demo.test")
        self.assertTrue(self.say(c, "PASS first password 1").startswith("+OK"))
        self.server.run("account", "passwd", "carol@demo.test", stdin="second password 2\n")
        self.assertTrue(c.at_end())
        c = self.connect()
        self.say(c, "USER carol@demo.test")
        self.assertTrue(self.say(c, "PASS second password 2").startswith("+OK"))
        c.close()


class Pop3LimitsTest(harness.InstanceTest):
    settings = {"login.timeout": "2s", "login.connections_per_address": "5", "worker.linger": "500ms",
                "store.keeper_linger": "1s"}

    def test_idle_processes_leave(self):
        """A worker without sessions and a keeper without peers go; the next login finds new ones."""
        for _ in range(3):
            p = self.server.pop3()
            self.assertIn("pop3d-worker", self.server.processes())
            p.quit()
            harness.wait_for(lambda: "pop3d-worker" not in self.server.processes(), seconds=5)
        harness.wait_for(lambda: "store-keeper" not in self.server.processes(), seconds=5)
        self.server.pop3().quit()

    def test_logins_while_the_worker_leaves(self):
        """A session that arrives just when its worker asks to leave is served."""
        for i in range(12):
            self.server.pop3().quit()
            time.sleep(0.44 + 0.01 * i)

    def test_login_timeout(self):
        for service in ("pop3", "pop3s"):
            c = self.server.raw(service, tls=service == "pop3s")
            began = time.time()
            self.assertTrue(c.at_end())
            self.assertGreater(time.time() - began, 1.5)
            self.assertIn(b"-ERR", c.buffer)

    def test_silence_instead_of_a_handshake(self):
        c = self.server.raw("pop3s")
        self.assertTrue(c.at_end())

    def test_connections_per_address(self):
        held = [self.server.raw("pop3") for _ in range(5)]
        for c in held:
            self.assertTrue(c.line().startswith(b"+OK"))
        c = self.server.raw("pop3")
        self.assertTrue(c.line().startswith(b"-ERR [SYS/TEMP]"))
        self.assertTrue(c.at_end())
        for c in held:
            c.close()
        time.sleep(0.3)
        c = self.server.raw("pop3")
        self.assertTrue(c.line().startswith(b"+OK"))
        c.close()


if __name__ == "__main__":
    unittest.main()
