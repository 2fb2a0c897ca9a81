"""Summaries that are not there: made by whoever wants one first, given back to the keeper, and there for the next one."""

import glob
import os
import time
import unittest

import harness

MESSAGE = b"From: a@client.example\r\nSubject: findable %s\r\nMessage-ID: <%s@client.example>\r\n\r\ntext\r\n"


class TestLostSummaries(harness.InstanceTest):
    def setUp(self):
        super().setUp()
        # An environment that lacks a file is made anew from base copy and log.
        self.server.allow(r"event=index-rebuil")
        self.client = self.server.imap()
        self.client.create("Box")
        for name in b"one", b"two", b"three":
            self.client.append("Box", None, None, MESSAGE % (name, name))
        self.accounts = glob.glob(self.server.demo + "/*/accounts/*") + glob.glob(self.server.demo + "/accounts/*")

    def tearDown(self):
        self.client.select("INBOX")
        self.client.delete("Box")
        self.client.logout()

    def lose(self):
        """Stops the server, takes away all summaries, starts it again."""
        self.client.logout()
        self.assertEqual(self.server.stop(), [])
        lost = [p + "/index/summary.db" for p in self.accounts if os.path.exists(p + "/index/summary.db")]
        self.assertTrue(lost)
        for path in lost:
            os.unlink(path)
        self.server.start()
        self.client = self.server.imap()
        self.client.select("Box")

    def hide(self, hidden):
        """Without the messages' files nothing can be made from them."""
        for path in self.accounts:
            a, b = path + "/mail", path + "/mail.hidden"
            if os.path.isdir(a if hidden else b):
                os.rename(a if hidden else b, b if hidden else a)

    def without_objects(self, *command):
        self.hide(True)
        try:
            return self.client.uid(*command)
        finally:
            self.hide(False)

    def ask(self, *command):
        status, data = self.client.uid(*command)
        self.assertEqual(status, "OK")
        return data

    def settle(self):
        """What is given back is not answered; a change that comes behind it is."""
        self.ask("STORE", "1", "+FLAGS", "(settled%d)" % time.monotonic_ns())

    def check(self, *command):
        first = self.ask(*command)
        self.settle()
        status, second = self.without_objects(*command)
        self.assertEqual((status, second), ("OK", first))
        return first

    def test_fetch(self):
        self.lose()
        data = self.check("FETCH", "1:*", "(ENVELOPE BODYSTRUCTURE)")
        self.assertEqual(len(data), 3)
        self.assertIn(b"findable three", data[2])
        # And after a restart of everything.
        self.client.logout()
        self.assertEqual(self.server.stop(), [])
        self.server.start()
        self.client = self.server.imap()
        self.client.select("Box")
        self.assertEqual(self.without_objects("FETCH", "1:*", "(ENVELOPE BODYSTRUCTURE)"), ("OK", data))

    def test_search(self):
        self.lose()
        found = self.check("SEARCH", "SUBJECT", '"findable two"')
        self.assertEqual(found, [b"2"])

    def test_section(self):
        """Only one message is asked for, with its octets: its summary is given back, those of the others are not there."""
        self.lose()
        self.ask("FETCH", "2", "(BODY.PEEK[1])")
        self.settle()
        self.assertEqual(self.without_objects("FETCH", "2", "(ENVELOPE)")[0], "OK")


if __name__ == "__main__":
    unittest.main()
