"""The connection to another server ends after each octet of the dialogue: of what that server says, and of what it is told; by a reset and by an
orderly end. Whoever that server takes has the message in the end: once, or twice where the time line says that it may be so; whom it refuses
is reported once.

A slice in `make check`; all of it by `make cuts` (MAILSTEAD_CUTS=all). MAILSTEAD_SEED gives the same choices again."""

import collections
import email
import json
import os
import random
import re
import select
import socket
import struct
import tempfile
import threading
import unittest

import harness
import ports
import receiver
import test_outbound

ALL = os.environ.get("MAILSTEAD_CUTS") == "all"
SEED = int(os.environ.get("MAILSTEAD_SEED", random.SystemRandom().randrange(1 << 32)))
SLICE = 10 if harness.INSTRUMENTED else 24  # cuts of each dialogue
AT_ONCE = 40  # of them in one message
CUTS_MAX = 20000
UP, DOWN = "up", "down"  # what is cut: what the server is told, what it says
RESET, END = "reset", "end"
# The second octet of the address that a dialogue's first servers have.
DIALOGUES = {2: ("plain", ["8BITMIME"]), 3: ("PIPELINING", ["PIPELINING", "8BITMIME"]), 4: ("CHUNKING", ["CHUNKING", "PIPELINING", "8BITMIME"]),
             5: ("STARTTLS", ["PIPELINING", "8BITMIME", "STARTTLS"])}
TLS, CLEAR = 5, 150  # of that dialogue more octets than go in clear
Cut = collections.namedtuple("Cut", "way octets how")


class Cutter:
    """Stands before the receivers of all dialogues, at every address of this machine. The first connection to an address ends where its cut says."""

    def __init__(self, port, receivers):
        self.receivers, self.cuts = receivers, {}
        self.lengths = {}  # of what went through, by address: octets up and down
        self.listener = socket.create_server(("0.0.0.0", port), backlog=128)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                conn, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    def _serve(self, client):
        address = client.getsockname()[0]
        there = self.receivers[int(address.split(".")[1])]
        try:
            with client, socket.create_connection(there.listener.getsockname()) as server:
                for s in (client, server):
                    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._carry(address, client, server, self.cuts.pop(address, None))
        except OSError:
            pass

    def _carry(self, address, client, server, cut):
        left = {UP: -1, DOWN: -1}
        count = self.lengths[address] = {UP: 0, DOWN: 0}
        if cut:
            left[cut.way] = cut.octets
        while 0 not in left.values():
            ready, _, _ = select.select([client, server], [], [])
            for way, source, target in ((UP, client, server), (DOWN, server, client)):
                if source not in ready or left[way] == 0:
                    continue
                octets = source.recv(left[way] if left[way] > 0 else 65536)
                if not octets:
                    return
                target.sendall(octets)
                count[way] += len(octets)
                left[way] -= len(octets) if cut and cut.way == way else 0
        if cut.way == UP:
            self._answer(client, server)
        self._end(client, cut.how)

    @staticmethod
    def _answer(client, server):
        """What the server says to what has come so far."""
        server.shutdown(socket.SHUT_WR)
        while octets := server.recv(65536):
            client.sendall(octets)

    @staticmethod
    def _end(client, how):
        if how == RESET:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            client.shutdown(socket.SHUT_WR)
            client.settimeout(5)
            while client.recv(65536):
                pass

    def close(self):
        self.listener.close()


def host(dialogue, number):
    return "127.%d.%d.%d" % (dialogue, number // 250, number % 250 + 1)


def domain(dialogue, number):
    return "c%d-%05d.cuts.example" % (dialogue, number)


def zone():
    """Of each domain the first server is where the cut is; nothing is cut at the second."""
    lines = []
    for dialogue in DIALOGUES:
        lines.append("b%d IN A 127.%d.255.1" % (dialogue, dialogue))
        for number in range(CUTS_MAX if ALL else SLICE + 1):
            name = domain(dialogue, number).split(".")[0]
            lines += ["%s IN MX 10 h-%s" % (name, name), "%s IN MX 20 b%d" % (name, dialogue), "h-%s IN A %s" % (name, host(dialogue, number))]
    return "\n".join(lines) + "\n"


class TestCuts(harness.InstanceTest):
    @classmethod
    def setUpClass(cls):
        ca, issue = receiver.authority(tempfile.mkdtemp(prefix="mailstead-cuts-"))
        context = receiver.context(issue("receiver.example"))
        port = ports.take()
        cls.receivers = {n: receiver.Receiver("127.0.0.1", ports.take(), context=context, offers=offers, script={"rcpt": cls.answer_rcpt})
                         for n, (_, offers) in DIALOGUES.items()}
        cls.cutter = Cutter(port, cls.receivers)
        cls.zones = {"cuts.example": zone()}
        cls.settings = {**test_outbound.FAST, "transport.port": port, "queue.remote_retry": "1s", "tls.authorities": ca,
                        **{"transport.timeout_" + what: "20s" for what in ("connect", "command", "data", "dot")},
                        **{"submission.day_" + what: "0" for what in ("messages", "recipients", "addresses")}}
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        try:
            super().tearDownClass()
        finally:
            for one in (cls.cutter, *cls.receivers.values()):
                one.close()

    @staticmethod
    def answer_rcpt(session):
        return "550 5.1.1 nobody" if "<nobody@" in session.commands[-1] else None

    def submit(self, domains):
        with self.server.submission() as s:
            s.ehlo()
            self.assertEqual(s.mail("alice@demo.test")[0], 250)
            for one in domains:
                for who in ("you", "nobody"):
                    self.assertEqual(s.rcpt("%s@%s" % (who, one))[0], 250)
            code, text = s.data(test_outbound.MESSAGE)
        self.assertEqual(code, 250, text)
        return text.split()[-1].decode()

    def settled(self):
        return json.loads(self.server.run("--json", "queue", "list").stdout) == []

    def results(self, queue_id, count):
        """What was tried of each of so many recipients, once the time line has the end of all."""
        def ended():
            found = self.tries(queue_id)
            return found if len(found) == count and all(r[-1]["state"] != "pending" for r in found.values()) else None
        return harness.wait_for(ended, 20, 0.1)

    def tries(self, queue_id):
        rows = json.loads(self.server.run("--json", "explain", queue_id).stdout)
        found = collections.defaultdict(list)
        for r in rows:
            if r["event"] == "remote-result" and r["fields"]["id"] == queue_id:
                found[r["fields"]["to"]].append(r["fields"])
        return found

    def reported(self):
        """How often reports in the sender's mailbox name an address as failed; they are removed."""
        count = collections.Counter()
        with self.server.imap() as m:
            _, n = m.select()
            for i in range(int(n[0])):
                report = email.message_from_bytes(m.fetch(str(i + 1), "(BODY.PEEK[])")[1][0][1])
                for group in report.get_payload()[1].get_payload()[1:]:
                    self.assertEqual(group["Action"], "failed", report)
                    count[group["Final-Recipient"].split(";")[1].strip()] += 1
            if int(n[0]):
                m.store("1:*", "+FLAGS", r"(\Deleted)")
                m.expunge()
        return count

    def arrivals(self, dialogue):
        return collections.Counter(re.search(r"<(.*?)>", to).group(1) for _, rcpts, _, _ in self.receivers[dialogue].messages for to in rcpts)

    def judge(self, dialogue, queue_id, cuts, reported):
        results, arrived = self.results(queue_id, 2 * len(cuts)), self.arrivals(dialogue)
        for number, cut in cuts.items():
            you, nobody = ("%s@%s" % (who, domain(dialogue, number)) for who in ("you", "nobody"))
            with self.subTest(cut=cut, id=queue_id, to=you):
                self.assertEqual([r["state"] for r in results[you] if r["state"] != "pending"], ["done"])
                self.assertIn(arrived[you], (1, 1 + sum(r["unsure"] == "1" for r in results[you])))
                self.assertEqual([r["state"] for r in results[nobody] if r["state"] != "pending"], ["failed"])
                self.assertEqual((arrived[nobody], reported[nobody], reported[you]), (0, 1, 0))

    def send(self, cuts):
        """One message of each dialogue, to a domain for each of its {number: cut}."""
        for there in self.receivers.values():
            there.messages.clear()
        for dialogue, some in cuts.items():
            self.cutter.cuts.update((host(dialogue, number), cut) for number, cut in some.items() if cut)
        sent = {dialogue: self.submit([domain(dialogue, n) for n in some]) for dialogue, some in cuts.items() if some}
        harness.wait_for(self.settled, 120, 0.1)
        reported = self.reported()
        for dialogue, queue_id in sent.items():
            self.judge(dialogue, queue_id, cuts[dialogue], reported)

    def all_cuts(self, dialogue):
        lengths = self.cutter.lengths[host(dialogue, 0)]
        # In TLS it is records that are cut: some of their octets are enough.
        octets = {way: [n for n in range(1, lengths[way] + 1) if dialogue != TLS or n <= CLEAR or (n + SEED) % 5 == 0] for way in (UP, DOWN)}
        every = [Cut(way, n, how) for way in (UP, DOWN) for n in octets[way] for how in (RESET, END)]
        if not ALL:
            # The last octets are those of the reply to the end.
            last = [c for c in every if c.way == DOWN and c.octets > lengths[DOWN] - 20]
            every = random.Random(SEED + dialogue).sample(every, SLICE - 6) + random.Random(SEED).sample(last, 6)
        self.assertLess(len(every), CUTS_MAX)
        print("%s: %d cuts" % (DIALOGUES[dialogue][0], len(every)), flush=True)
        return dict(enumerate(every, 1))

    def test_cuts(self):
        print("MAILSTEAD_SEED=%d" % SEED, flush=True)
        # What goes each way when nothing is cut, to a domain of the same length.
        self.send({dialogue: {0: None} for dialogue in DIALOGUES})
        cuts = {dialogue: self.all_cuts(dialogue) for dialogue in DIALOGUES}
        for first in range(1, max(map(len, cuts.values())) + 1, AT_ONCE):
            self.send({d: {n: cuts[d][n] for n in range(first, first + AT_ONCE) if n in cuts[d]} for d in DIALOGUES})


if __name__ == "__main__":
    unittest.main()
