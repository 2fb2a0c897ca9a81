"""A real authoritative DNS server (nsd) on loopback, with zones given as text, and a proxy that makes faults."""

import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time

import ports

SOA = "@ 60 IN SOA ns.invalid. hostmaster.invalid. 1 3600 600 86400 60\n@ 60 IN NS ns.invalid.\n"


def txt(text):
    """TXT RDATA of any length, as character-strings of at most 255 octets."""
    parts = [text[i:i + 255] for i in range(0, len(text), 255)] or [""]
    return " ".join('"%s"' % p.replace("\\", "\\\\").replace('"', '\\"') for p in parts)


class DnsServer:
    """zones: {"example.test": "@ IN TXT \\"...\\"\\n..."}; SOA and NS are added. What no zone has is NXDOMAIN from the root zone."""

    def __init__(self, directory, zones, port=None):
        self.directory = os.path.abspath(directory)
        self.port = port or ports.take()
        self.process = None
        shutil.rmtree(self.directory, ignore_errors=True)
        os.makedirs(self.directory)
        self.zones = {".": ""}
        self.zones.update({name.lower().rstrip("."): text for name, text in zones.items()})
        self._start()

    @property
    def address(self):
        return "127.0.0.1@%d" % self.port

    def _start(self):
        conf = ["server:", '  ip-address: 127.0.0.1', "  port: %d" % self.port, "  server-count: 1",
                '  username: ""', '  chroot: ""', '  database: ""', '  zonesdir: "%s"' % self.directory,
                '  pidfile: "%s/nsd.pid"' % self.directory, '  logfile: "%s/nsd.log"' % self.directory,
                '  xfrdfile: "%s/xfrd.state"' % self.directory, '  zonelistfile: "%s/zone.list"' % self.directory,
                '  xfrdir: "%s"' % self.directory, "  rrl-ratelimit: 0", "  hide-version: yes",
                "remote-control:", "  control-enable: no"]
        for number, (name, text) in enumerate(self.zones.items()):
            with open("%s/zone%d" % (self.directory, number), "w", encoding="utf-8") as f:
                f.write(text if isinstance(text, Whole) else "$ORIGIN %s\n$TTL 60\n%s%s\n" % (name if name == "." else name + ".", SOA, text))
            conf += ["zone:", '  name: "%s"' % name, '  zonefile: "zone%d"' % number]
        path = self.directory + "/nsd.conf"
        with open(path, "w", encoding="ascii") as f:
            f.write("\n".join(conf) + "\n")
        nsd = shutil.which("nsd") or "/usr/sbin/nsd"
        self.process = subprocess.Popen([nsd, "-d", "-c", path], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, start_new_session=True)
        query = struct.pack(">HHHHHH", 1, 0, 1, 0, 0, 0) + b"\0" + struct.pack(">HH", 6, 1)
        deadline = time.time() + 10
        while True:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                s.settimeout(0.2)
                try:
                    s.sendto(query, ("127.0.0.1", self.port))
                    s.recv(4096)
                    return
                except OSError:
                    pass
            if self.process.poll() is not None or time.time() > deadline:
                log = self.directory + "/nsd.log"
                raise RuntimeError("nsd did not start: " + (open(log).read() if os.path.exists(log) else ""))
            time.sleep(0.05)

    def change(self, zones):
        """Other zones, on the same port."""
        self.stop()
        self.zones.update({name.lower().rstrip("."): text for name, text in zones.items()})
        self._start()

    def stop(self):
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


class Whole(str):
    """The text of a zone that has its SOA already."""


def alter(line):
    """A record of a zone file with other data."""
    owner, ttl, family, kind, data = line.split(None, 4)
    other = {"A": "127.6.6.6", "TXT": data + ' "altered"', "MX": "7 " + data.split(None, 1)[-1]}
    return " ".join((owner, ttl, family, kind, other.get(kind, data)))


def sign(directory, zone, text, altered):
    """A zone signed with new keys, and the file with its trust anchor. Records of owners for which altered() is true get other
    data after that."""
    os.makedirs(directory, exist_ok=True)

    def tool(*arguments):
        return subprocess.run(arguments, cwd=directory, check=True, capture_output=True, text=True).stdout.strip()

    zsk = tool("ldns-keygen", "-a", "ECDSAP256SHA256", zone)
    ksk = tool("ldns-keygen", "-k", "-a", "ECDSAP256SHA256", zone)
    with open(directory + "/zone", "w", encoding="utf-8") as f:
        f.write("$ORIGIN %s.\n$TTL 60\n%s%s\n" % (zone, SOA, text))
    tool("ldns-signzone", "-f", "signed", "zone", ksk, zsk)
    with open(directory + "/signed", encoding="utf-8") as f:
        lines = f.read().splitlines()
    lines = [alter(line) if line[:1] not in ("", ";") and altered(line.split()[0]) else line for line in lines]
    return Whole("\n".join(lines) + "\n"), "%s/%s.key" % (directory, ksk)


# What is wrong with every answer. A function of (query, what the real server says) gives the octets that are sent.
RCODES = {"formerr": 1, "servfail": 2, "nxdomain": 3, "notimp": 4, "refused": 5}
MUTATIONS = {
    "garbage": lambda query, answer: query[:2] + b"\x81\x80" + b"\xff" * 40,
    "short": lambda query, answer: query[:2] + b"\x81\x80",
    "cut-off": lambda query, answer: answer[:-1],
    "wrong-id": lambda query, answer: bytes((answer[0] ^ 1,)) + answer[1:],
    "wrong-question": lambda query, answer: answer[:13] + bytes((answer[13] ^ 1,)) + answer[14:],
    "nodata": lambda query, answer: query[:2] + b"\x85\x80" + query[4:],
}


def mutate_types(query, answer):
    """Records of the name, of a type that was not asked for."""
    at = 12
    while query[at]:
        at += 1 + query[at]
    asked = struct.unpack(">H", query[at + 1:at + 3])[0]
    wrong = b"\xc0\x0c" + struct.pack(">HHIH", 99 if asked != 99 else 98, 1, 60, 4) + b"\3abc"
    return query[:2] + b"\x85\x80" + struct.pack(">HHHH", 1, 2, 0, 0) + query[12:at + 5] + 2 * wrong


MUTATIONS["wrong-type"] = mutate_types


class FaultProxy:
    """Forwards UDP and TCP queries to a DnsServer, but names that match a rule fail: rules is a list of (regular expression, what),
    what is one of RCODES and MUTATIONS, "drop", or "truncate", which answers by UDP that TCP has more: and so it is, but for
    "truncate-reset" (TCP ends at once) and "truncate-hang" (it never answers). tcp=False: nobody listens there."""

    def __init__(self, upstream_port, rules, tcp=True):
        self.upstream = ("127.0.0.1", upstream_port)
        self.rules = [(re.compile(pattern, re.I), what) for pattern, what in rules]
        self.port = ports.take()
        self.queries = []
        self.hung = []  # connections that stay open
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", self.port))
        self.tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if tcp:
            self.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.tcp.bind(("127.0.0.1", self.port))
            self.tcp.listen(32)
        self.running = True
        for target in (self._serve_udp, self._serve_tcp) if tcp else (self._serve_udp,):
            threading.Thread(target=target, daemon=True).start()

    @property
    def address(self):
        return "127.0.0.1@%d" % self.port

    def stop(self):
        self.running = False
        for s in (self.udp, self.tcp, *self.hung):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            s.close()

    @staticmethod
    def _name(query):
        labels, at = [], 12
        while at < len(query) and query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode("latin-1"))
            at += 1 + query[at]
        return ".".join(labels).lower()

    def _fault(self, query, stream):
        """The octets to send, nothing to say nothing, None for the real answer. stream: the connection, None by UDP."""
        name = self._name(query)
        self.queries.append(name)
        for pattern, what in self.rules:
            if pattern.search(name):
                if what in RCODES:
                    return query[:2] + bytes((0x81, 0x80 | RCODES[what])) + query[4:]
                if what in MUTATIONS:
                    return MUTATIONS[what](query, self._ask(query, stream))
                if what.startswith("truncate") and not stream:
                    return query[:2] + b"\x83\x80" + query[4:]
                if what == "truncate-hang":
                    self.hung.append(stream)
                if what != "truncate":
                    return b""
        return None

    def _ask(self, query, stream):
        if stream:
            with socket.create_connection(self.upstream, 3) as s:
                s.sendall(struct.pack(">H", len(query)) + query)
                return self._read_framed(s)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(3)
            s.sendto(query, self.upstream)
            return s.recv(65535)

    @staticmethod
    def _read_framed(s):
        data = b""
        while len(data) < 2 or len(data) < 2 + struct.unpack(">H", data[:2])[0]:
            more = s.recv(65537)
            if not more:
                return b""
            data += more
        return data[2:]

    def _serve_udp(self):
        while self.running:
            try:
                query, peer = self.udp.recvfrom(4096)
            except OSError:
                return
            if query:
                threading.Thread(target=self._answer_udp, args=(query, peer), daemon=True).start()

    def _answer_udp(self, query, peer):
        try:
            answer = self._fault(query, None)
            if answer is None:
                answer = self._ask(query, False)
            if answer:
                self.udp.sendto(answer, peer)
        except OSError:
            pass

    def _serve_tcp(self):
        while self.running:
            try:
                s, _ = self.tcp.accept()
            except OSError:
                return
            threading.Thread(target=self._answer_tcp, args=(s,), daemon=True).start()

    def _answer_tcp(self, s):
        try:
            s.settimeout(5)
            query = self._read_framed(s)
            answer = self._fault(query, s) if query else b""
            if answer is None:
                answer = self._ask(query, True)
            if answer:
                s.sendall(struct.pack(">H", len(answer)) + answer)
        except OSError:
            pass
        if s not in self.hung:
            s.close()
