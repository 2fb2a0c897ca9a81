"""All cases of the RFC 7208 suite (../shared/spf) through the running server: each scenario's zone data by DNS, the client's address by the
PROXY protocol, HELO and MAIL FROM by SMTP; the result and the explanation are those that `mailstead explain` tells.

Scenarios have the same names with other records. So one DNS server shows one scenario after the other, with a TTL of 0, and the next one only
when no answer of the last is good any more; that each was asked for anew is checked."""

import ipaddress
import json
import os
import re
import shutil
import socket
import struct
import tempfile
import threading
import time
import unittest

import harness
import ports

SUITE = os.path.join(harness.ROOT, "..", "shared", "spf", "rfc7208-cases.json")
CASES = 135
WORKERS, JUDGES = 8, 4
RELAY = "127.0.0.2"  # may say XCLIENT; others speak the PROXY protocol
# TTLs are of whole seconds: what came with 0 is good until the second is over.
FORGET_SECONDS = 1.1
A, CNAME, SOA, PTR, MX, TXT, AAAA, SPF = 1, 5, 6, 12, 15, 16, 28, 99
KINDS = {"A": A, "CNAME": CNAME, "PTR": PTR, "MX": MX, "TXT": TXT, "AAAA": AAAA, "SPF": SPF}
UDP_OCTETS_MAX = 1232

# What SMTP has no way to say: {case: (the command that is refused, why)}. tests/unit/test_spf.c has these.
REFUSED = {
    "emptylabel": ("MAIL", "no label of the sender's domain is empty (RFC 5321 4.1.2)"),
    "invalid-hello-macro": ("XCLIENT", "a HELO with a space is none, neither a client's nor a relay's word (RFC 5321 4.1.1.1)"),
}


def wire_name(name):
    labels = [label.encode("latin-1") for label in name.rstrip(".").split(".") if label]
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"


def rdata(kind, value):
    if kind in ("A", "AAAA"):
        return ipaddress.ip_address(value).packed
    if kind == "MX":
        return struct.pack(">H", value[0]) + wire_name(value[1])
    if kind in ("CNAME", "PTR"):
        return wire_name(value)
    # Code points up to 255 stand for octets. A TXT record has one string at least.
    strings = [s.encode("latin-1") for s in ([value] if isinstance(value, str) else value or [""])]
    pieces = [s[i:i + 255] for s in strings for i in range(0, len(s), 255) or [0]]
    return b"".join(bytes((len(s),)) + s for s in pieces)


class ZoneData:
    """Of one scenario. A record of kind SPF stands at TXT, too, if nothing else is said of TXT there."""

    def __init__(self, data):
        self.records, self.silent = {}, set()
        for owner, records in data.items():
            name = owner.lower()
            rows = self.records.setdefault(name, [])
            said = {kind for r in records if r != "TIMEOUT" for kind in r}
            for r in records:
                if r == "TIMEOUT":
                    self.silent.add(name)
                    continue
                for kind, value in r.items():
                    if kind == "TXT" and value == "NONE":
                        continue
                    rows.append((KINDS[kind], rdata(kind, value)))
                    if kind == "SPF" and "TXT" not in said:
                        rows.append((TXT, rdata(kind, value)))

    def exists(self, name):
        return any(n == name or n.endswith("." + name) for n in self.records)


class SwitchedDns:
    """Answers by UDP for all names there are, from the zone data that it shows now."""

    def __init__(self):
        self.port = ports.take((socket.SOCK_DGRAM,))
        self.zone = ZoneData({})
        self.asked = set()
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", self.port))
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def address(self):
        return "127.0.0.1@%d" % self.port

    def show(self, zone):
        time.sleep(FORGET_SECONDS)
        self.zone, self.asked = zone, set()

    def stop(self):
        try:
            self.socket.shutdown(socket.SHUT_RDWR)  # wakes the thread, and says that it is not connected
        except OSError:
            pass
        self.socket.close()

    def _serve(self):
        while True:
            try:
                query, peer = self.socket.recvfrom(4096)
                answer = self._answer(query) if query else b""
                if answer:
                    self.socket.sendto(answer, peer)
            except OSError:
                if self.socket.fileno() < 0:
                    return

    def _answer(self, query):
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode("latin-1"))
            at += 1 + query[at]
        kind = struct.unpack(">H", query[at + 1:at + 3])[0]
        name = ".".join(labels).lower()
        zone = self.zone
        self.asked.add((name, kind))
        rows = [row for row in zone.records.get(name, []) if row[0] in (kind, CNAME)]
        if not rows and name in zone.silent:
            return b""
        code = 0 if rows or not name or zone.exists(name) else 3
        answers = b"".join(b"\xc0\x0c" + struct.pack(">HHIH", row[0], 1, 0, len(row[1])) + row[1] for row in rows)
        soa = b"\2ns\7invalid\0\1x\0" + struct.pack(">IIIII", 1, 3600, 600, 86400, 0)
        authority = b"" if rows else b"\0" + struct.pack(">HHIH", SOA, 1, 0, len(soa)) + soa
        answer = query[:2] + bytes((0x85, 0x80 | code)) + struct.pack(">HHHH", 1, len(rows), 0 if rows else 1, 0) + query[12:at + 5] + answers + authority
        assert len(answer) <= UDP_OCTETS_MAX, name
        return answer


class Case:
    def __init__(self, name, test):
        self.name, self.test = name, test
        self.ip = ipaddress.ip_address(test["host"])
        self.wanted = [test["result"]] if isinstance(test["result"], str) else test["result"]
        self.explanation = test.get("explanation")
        self.id = "<%s@cases.invalid>" % name

    def header(self):
        """Of the PROXY protocol, in octets: an IPv4-mapped address stays one."""
        v6 = self.ip.version == 6
        body = self.ip.packed + ipaddress.ip_address("::1" if v6 else "127.0.0.1").packed + struct.pack(">HH", 40000, 25)
        return b"\r\n\r\n\0\r\nQUIT\n\x21" + (b"\x21" if v6 else b"\x11") + struct.pack(">H", len(body)) + body

    def commands(self):
        local, at, domain = self.test["mailfrom"].rpartition("@")
        if not re.fullmatch(r"[\w!#$%&'*+/=?^`{|}~.-]*", local):
            local = '"%s"' % local
        yield "EHLO", "EHLO " + self.test["helo"]
        yield "MAIL", "MAIL FROM:<%s%s%s>" % (local, at, domain)
        yield "RCPT", "RCPT TO:<alice@demo.test>"
        yield "DATA", "DATA"
        yield ".", "From: a@cases.invalid\r\nMessage-ID: %s\r\nSubject: %s\r\n\r\nx\r\n." % (self.id, self.name)

    def send(self, server):
        """The verb that was refused and its reply, or None and the last reply. HELO is said by a relay when no client may say it."""
        with server.raw("smtp", timeout=60) as w:
            w.send(self.header())
            refused = self.talk(w, self.commands())
        if refused[0] != "EHLO":
            return refused
        with socket.create_connection(("127.0.0.1", server.ports["smtp"]), 60, source_address=(RELAY, 0)) as s:
            address = ("IPV6:" if self.ip.version == 6 else "") + str(self.ip)
            helo = "".join(c if c.isalnum() else "+%02X" % ord(c) for c in self.test["helo"])
            again = ("EHLO", "EHLO relay.example")
            words = ("XCLIENT", "XCLIENT ADDR=%s HELO=%s" % (address, helo))
            return self.talk(harness.Wire(s), [again, words, again, *list(self.commands())[1:]])

    @staticmethod
    def talk(w, commands):
        reply = w.reply()
        assert reply.startswith(b"220"), reply
        for verb, line in commands:
            reply = w.send(line + "\r\n").reply()
            if reply[:1] not in b"23":
                return verb, reply.decode()
        return None, reply.decode()

    def domain(self):
        return (self.test["mailfrom"].rpartition("@")[2] or self.test["helo"]).lower()

    def judge(self, spf):
        """What is wrong, or None."""
        if spf["result"] not in self.wanted:
            return "%s: wanted %s: %r" % (self.name, self.wanted, spf)
        if self.explanation is not None and spf["result"] == "fail":
            text = "" if self.explanation == "DEFAULT" else self.explanation
            if spf["explanation"] != text:
                return "%s: wanted the explanation %r: %r" % (self.name, text, spf)
        return None


class TestCases(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with open(SUITE, encoding="utf-8") as f:
            suite = json.load(f)
        cls.scenarios = [(ZoneData(s["zonedata"]), [Case(name, test) for name, test in s["tests"].items()]) for s in suite]
        cls.cases = [c for _, cases in cls.scenarios for c in cases]
        cls.directory = tempfile.mkdtemp(prefix="mailstead-test-")
        with open(cls.directory + "/unbound.conf", "w", encoding="ascii") as f:
            f.write("server:\n  unblock-lan-zones: yes\n")  # the reverse zones of private and documentation addresses
        cls.dns = SwitchedDns()
        cls.server = harness.Server({}, {"dns.server": cls.dns.address, "dns.settings": cls.directory + "/unbound.conf", "dns.timeout": "2s",
                                         "smtp.proxy_from": "127.0.0.1", "smtp.xclient_from": RELAY})

    @classmethod
    def tearDownClass(cls):
        wrong = cls.server.close()
        cls.dns.stop()
        shutil.rmtree(cls.directory, ignore_errors=True)
        if wrong:
            raise AssertionError("\n".join(wrong))

    def run_scenario(self, zone, cases):
        self.dns.show(zone)

        def send(case):
            case.end = case.send(self.server)

        harness.each_in_threads(cases, WORKERS, send)
        for case in cases:
            # Of a domain without a name that can be asked nothing is.
            if case.end[0] is None and case.wanted != ["none"]:
                self.assertIn((case.domain(), TXT), self.dns.asked, case.name)

    def spf(self, case):
        """The fields of its event for MAIL FROM, or HELO when that is null."""
        def told():
            rows = json.loads(self.server.run("--json", "explain", case.id, check=False).stdout or "[]")
            found = [r["fields"] for r in rows if r["event"] == "spf"]
            return found if len(found) == 2 else None

        helo, mail_from = sorted(harness.wait_for(told), key=lambda f: f["identity"])
        self.assertEqual((helo["identity"], mail_from["identity"]), ("helo", "mailfrom"))
        self.assertEqual(helo["helo"], case.test["helo"])
        return mail_from

    def test_cases(self):
        for zone, cases in self.scenarios:
            self.run_scenario(zone, cases)
        refused = {c.name: c.end for c in self.cases if c.end[0]}
        self.assertEqual({name: end[0] for name, end in refused.items()}, {name: verb for name, (verb, _) in REFUSED.items()}, refused)
        for _, reply in refused.values():
            self.assertRegex(reply, r"^5\d\d 5\.")
        wrong = []

        def judge(cases):
            wrong.extend(filter(None, (c.judge(self.spf(c)) for c in cases)))

        sent = [c for c in self.cases if not c.end[0]]
        harness.in_threads([lambda n=n: judge(sent[n::JUDGES]) for n in range(JUDGES)])
        self.assertEqual(wrong, [], "\n".join(wrong))
        self.assertEqual((len(sent), len(refused)), (CASES - len(REFUSED), len(REFUSED)))


if __name__ == "__main__":
    unittest.main()
