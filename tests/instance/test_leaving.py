"""Idle keepers and workers leave soon here: whoever comes at that moment never notices."""

import time
import unittest

import harness

ROUNDS = 20


class TestLeaving(harness.InstanceTest):
    settings = {"worker.linger": "0s", "store.keeper_linger": "1s"}

    def test_login_after_login(self):
        for number in range(ROUNDS):
            c = self.server.imap("alice")
            self.assertEqual(c.select()[0], "OK", number)
            c.logout()
            p = self.server.pop3("alice")
            p.stat()
            p.quit()

    def test_delivery_while_the_keeper_leaves(self):
        """deliver keeps its edge to a keeper, which does not keep the keeper."""
        pauses = [0.9 + 0.02 * n for n in range(10)]
        for number, pause in enumerate(pauses):
            code, text = self.server.deliver(b"From: a@client.example\r\nSubject: x\r\n\r\nx\r\n", rcpt="bob")
            self.assertEqual(code, 250, (number, text))
            time.sleep(pause)
        c = self.server.imap("bob")
        self.assertEqual(int(c.select()[1][0]), len(pauses))
        c.logout()


if __name__ == "__main__":
    unittest.main()
