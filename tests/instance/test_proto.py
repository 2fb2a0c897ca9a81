"""Runs the scripts of tests/proto, each with an account of its own, against one server."""

import base64
import glob
import os
import re
import unittest

import harness

SCRIPTS = sorted(glob.glob(os.path.join(harness.ROOT, "tests", "proto", "*.txt")))


def unescape(text):
    return re.sub(r"\\(x[0-9a-fA-F]{2}|.)", lambda m: {"r": "\r", "n": "\n", "0": "\0", "\\": "\\"}.get(
        m.group(1), chr(int(m.group(1)[1:], 16)) if m.group(1)[0] == "x" and len(m.group(1)) == 3 else m.group(0)), text)


class Script:
    def __init__(self, server, path, address, password):
        self.server, self.path, self.address, self.password = server, path, address, password
        self.wires, self.services, self.forbidden = {}, {}, {}
        self.values = {"$ADDRESS": address, "$PASSWORD": password, "$PLAIN": base64.b64encode(
            ("\0%s\0%s" % (address, password)).encode()).decode()}

    def fail(self, number, text):
        raise AssertionError("%s:%d: %s" % (os.path.relpath(self.path, harness.ROOT), number, text))

    def substitute(self, text):
        for name, value in self.values.items():
            text = text.replace(name, value)
        return text

    def run(self):
        with open(self.path, encoding="utf-8") as f:
            for number, line in enumerate(f, 1):
                line = line.rstrip("\n")
                if line.strip() and not line.startswith("#"):
                    self.step(number, line)
        for wire in self.wires.values():
            wire.close()

    def step(self, number, line):
        m = re.match(r"([CS])(\d*)([:+~!]) ?(.*)$", line)
        if m:
            which = m.group(2) or "1"
            getattr(self, "send" if m.group(1) == "C" else "expect")(number, which, m.group(3), m.group(4))
            return
        word, _, rest = line.partition(" ")
        getattr(self, "do_" + word)(number, rest)

    def send(self, number, which, mark, text):
        data = unescape(self.substitute(text)).encode("latin-1") + (b"" if mark == "+" else b"\r\n")
        self.wires[which].send(data)

    def expect(self, number, which, mark, pattern):
        pattern = self.substitute(pattern)
        if mark == "!":
            self.forbidden.setdefault(which, []).append(pattern)
            return
        seen = []
        while True:
            try:
                raw = self.wires[which].line()
            except OSError as e:
                self.fail(number, "%s while waiting for %s after %r" % (e, pattern, seen))
            line = raw.decode("utf-8", "surrogateescape").rstrip("\r\n")
            seen.append(line)
            if not raw:
                self.fail(number, "closed while waiting for %s after %r" % (pattern, seen))
            for bad in self.forbidden.get(which, []):
                if re.fullmatch(bad, line):
                    self.fail(number, "forbidden line %r" % line)
            if re.fullmatch(pattern, line):
                break
            if mark == ":":
                self.fail(number, "%r does not match %s" % (line, pattern))
        self.forbidden.pop(which, None)

    def do_open(self, number, rest):
        which, service = rest.split()
        tls = service in ("imaps", "pop3s", "submissions")
        self.wires[which] = self.server.raw(service, tls=tls)
        self.services[which] = service

    def do_login(self, number, rest):
        which = rest.strip()
        service = self.services[which]
        if service.startswith("imap"):
            self.expect(number, which, ":", r"\* OK .*")
            self.send(number, which, ":", 'login LOGIN "$ADDRESS" "$PASSWORD"')
            self.expect(number, which, "~", "login OK .*")
        elif service.startswith("pop3"):
            self.expect(number, which, ":", r"\+OK .*")
            self.send(number, which, ":", "AUTH PLAIN $PLAIN")
            self.expect(number, which, ":", r"\+OK.*")
        else:
            self.expect(number, which, ":", "220 .*")
            self.send(number, which, ":", "EHLO client.example")
            self.expect(number, which, "~", "250 .*")
            self.send(number, which, ":", "AUTH PLAIN $PLAIN")
            self.expect(number, which, ":", "235 .*")

    def do_tls(self, number, rest):
        self.wires[rest.strip()].starttls()

    def do_deliver(self, number, rest):
        message = "From: Sender <sender@client.example>\r\nTo: %s\r\nSubject: %s\r\nMessage-ID: <%d.%d@client.example>\r\n\r\nBody of %s.\r\n" % (
            self.address, rest, os.getpid(), number, rest)
        code, text = self.server.deliver(message.encode(), rcpt=self.address, sender="sender@client.example")
        if code != 250:
            self.fail(number, "delivery refused: %d %s" % (code, text))

    def do_closed(self, number, rest):
        if not self.wires[rest.strip()].at_end():
            self.fail(number, "the connection is still open")


class TestProto(harness.InstanceTest):
    pass


def add(path):
    name = os.path.splitext(os.path.basename(path))[0]

    def test(self):
        address = "%s@%s" % (re.sub(r"[^a-z0-9]", "-", name.lower())[:60].strip("-"), harness.DOMAIN)
        self.server.run("account", "add", address, "--password-stdin", stdin="a good password\n")
        Script(self.server, path, address, "a good password").run()

    setattr(TestProto, "test_" + re.sub(r"\W", "_", name), test)


for script in SCRIPTS:
    add(script)

if __name__ == "__main__":
    unittest.main()
