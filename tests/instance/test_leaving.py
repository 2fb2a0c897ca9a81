"""Idle keepers and workers leave at once here: whoever comes at that moment never notices."""

import unittest

import harness

ROUNDS = 20 if harness.INSTRUMENTED else 60


class TestLeaving(harness.InstanceTest):
    settings = {"worker.linger": "0s", "store.keeper_linger": "0s"}

    def test_login_after_login(self):
        for number in range(ROUNDS):
            c = self.server.imap("alice")
            self.assertEqual(c.select()[0], "OK", number)
            c.logout()
            p = self.server.pop3("alice")
            p.stat()
            p.quit()

    def test_delivery_after_delivery(self):
        for number in range(ROUNDS):
            code, text = self.server.deliver(b"From: a@client.example\r\nSubject: x\r\n\r\nx\r\n", rcpt="bob")
            self.assertEqual(code, 250, (number, text))
        c = self.server.imap("bob")
        self.assertEqual(int(c.select()[1][0]), ROUNDS)
        c.logout()


if __name__ == "__main__":
    unittest.main()
