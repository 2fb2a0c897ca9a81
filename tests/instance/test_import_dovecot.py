"""Moving between Debian's Dovecot and Mailstead: what one says of a mailbox, the other says too."""

import json
import re
import time
import unittest

import dovecot
import harness
import test_import

BOXES = ["INBOX", "Lists.dev", "Caf&AOk-", "Archive"]


class TestDovecot(test_import.TransferTest):
    messages = []

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        paths = [p for kind in ("ham", "list", "mime") for p in harness.corpus(kind) if p.endswith(".eml")]
        for path in paths[7::20]:
            with open(path, "rb") as f:
                cls.messages.append(re.sub(rb"\r\n|\n|\r", b"\r\n", f.read()))

    def dovecot(self, location):
        d = dovecot.Dovecot(location)
        self.addCleanup(d.close)
        return d

    def fill(self, client, boxes):
        """Messages with flags, keywords, dates, and gaps in the UIDs."""
        flags = ["\\Seen", "\\Answered", "\\Flagged", "\\Draft"]
        for box in boxes:
            if box != "INBOX":
                client.create(box)
        for i, octets in enumerate(self.messages):
            words = [f for k, f in enumerate(flags) if i >> k & 1 and i % 3] + (["k%d" % (i % 7)] if i % 2 else [])
            date = time.strftime('"%d-%b-%Y %H:%M:%S +0000"', time.gmtime(1000000000 + i * 12345))
            self.assertEqual(client.append(boxes[i % len(boxes)], "(%s)" % " ".join(words), date, octets)[0], "OK")
        for box in boxes:
            self.assertEqual(client.select(box)[0], "OK")
            client.store("2,4", "+FLAGS", "\\Deleted")
            client.expunge()
            client.store("1", "+FLAGS", "\\Deleted")
            client.unselect() if hasattr(client, "unselect") else client.select("Archive")

    def tell(self, client, boxes, separator):
        """{mailbox: (uidvalidity, uidnext, [(uid, flags, date, octets)])}"""
        told = {}
        for box in boxes:
            name = box.replace(".", separator)
            self.assertEqual(client.select(name, readonly=True)[0], "OK", name)
            status = client.status(name, "(UIDVALIDITY UIDNEXT)")[1][0].decode()
            messages = []
            for item in client.uid("FETCH", "1:*", "(UID FLAGS INTERNALDATE BODY.PEEK[])")[1]:
                if isinstance(item, tuple):
                    head = item[0].decode()
                    messages.append((int(re.search(r"UID (\d+)", head).group(1)),
                                     set(re.search(r"FLAGS \(([^)]*)\)", head).group(1).split()) - {"\\Recent"},
                                     self.seconds(re.search(r'INTERNALDATE "([^"]*)"', head).group(1)), item[1]))
            told[box] = (int(re.search(r"UIDVALIDITY (\d+)", status).group(1)),
                         int(re.search(r"UIDNEXT (\d+)", status).group(1)), messages)
        client.logout()
        return told

    def compare(self, one, other):
        """All but UIDs, as far as an mbox can hold it."""
        for box, (_, _, messages) in one.items():
            self.assertEqual([m[1:3] for m in messages], [m[1:3] for m in other[box][2]], box)
            for a, b in zip(messages, other[box][2]):
                self.assertEqual(self.as_mbox(a[3]), self.as_mbox(b[3]), box)

    @staticmethod
    def as_mbox(octets):
        """Dovecot leaves the ">" of a quoted "From " where it is."""
        return re.sub(rb"(?m)^>*From ", b"From ", test_import.TestRoundTrip.without_marks(octets))

    def test_maildir_in(self):
        d = self.dovecot("maildir:%s/Maildir")
        client = d.client()
        self.fill(client, BOXES)
        client.subscribe("Lists.dev")
        client.logout()
        # One that nobody has looked at, and that Dovecot does not know yet.
        with open(d.mail + "/Maildir/new/1100000000.x.host", "wb") as f:
            f.write(test_import.message(1))
        address = self.account("din")
        self.do_import(address, "maildir", d.mail + "/Maildir")
        ours = self.tell(self.server.imap(address), BOXES, "/")
        theirs = self.tell(d.client(), BOXES, ".")
        # A file's time, which is when it was put there, and the seconds of its name.
        theirs["INBOX"][2][-1] = (*theirs["INBOX"][2][-1][:2], 1100000000, theirs["INBOX"][2][-1][3])
        self.assertEqual(ours, theirs)
        self.assertTrue(self.mailboxes(address)["Lists/dev"]["subscribed"])

    def test_maildir_out(self):
        address = self.account("dout")
        client = self.server.imap(address)
        self.fill(client, [b.replace(".", "/") for b in BOXES])
        client.logout()
        ours = self.tell(self.server.imap(address), BOXES, "/")
        done = self.server.run("export", address, "maildir", self.place + "/out", "--json")
        self.assertEqual(json.loads(done.stdout)["messages"], sum(len(t[2]) for t in ours.values()))
        d = self.dovecot("maildir:%s/Maildir")
        d.take(self.place + "/out", "Maildir")
        theirs = self.tell(d.client(), BOXES, ".")
        self.assertEqual(theirs, ours)
        # It goes on from there.
        client = d.client()
        self.assertEqual(client.append("INBOX", None, None, self.messages[0])[0], "OK")
        self.assertEqual(client.lsub()[1], [n for n in client.lsub()[1] if n])
        client.logout()
        self.assertEqual(self.tell(d.client(), ["INBOX"], ".")["INBOX"][2][-1][0], ours["INBOX"][1])
        with open(d.directory + "/errors", encoding="utf-8") as f:
            self.assertNotRegex(f.read(), "Error|Warning|Panic")

    def test_mbox(self):
        """There and back; an mbox has no dates but in its From_ lines, and no message's own marks."""
        address, again = self.account("dmbox"), self.account("dmbox2")
        client = self.server.imap(address)
        self.fill(client, ["Archive"])
        client.logout()
        ours = self.tell(self.server.imap(address), ["Archive"], "/")
        self.server.run("export", address, "mbox", self.place + "/mbox", "--mailbox", "Archive")
        d = self.dovecot("mbox:%s/boxes")
        d.take(self.place + "/mbox", "boxes/Archive")
        theirs = self.tell(d.client(), ["Archive"], "/")
        self.assertEqual(theirs["Archive"][:2], ours["Archive"][:2])
        self.assertEqual([m[0] for m in theirs["Archive"][2]], [m[0] for m in ours["Archive"][2]])
        self.compare(ours, theirs)
        # What Dovecot wrote, its own way.
        client = d.client()
        self.fill(client, ["Own"])
        client.logout()
        theirs = self.tell(d.client(), ["Own"], "/")
        self.do_import(again, "mbox", d.mail + "/boxes/Own", "--mailbox", "Own")
        ours = self.tell(self.server.imap(again), ["Own"], "/")
        self.assertEqual(ours["Own"][:2], theirs["Own"][:2])
        self.assertEqual([m[0] for m in ours["Own"][2]], [m[0] for m in theirs["Own"][2]])
        self.compare(theirs, ours)


if __name__ == "__main__":
    unittest.main()
