"""SMTP servers for the other end of what Mailstead sends: each does at each stage what its script says."""

import base64
import hashlib
import os
import socket
import ssl
import struct
import subprocess
import threading
import time

HANG, RESET, CLOSE = "hang", "reset", "close"
# auth_name and auth_password follow the answers to the questions of AUTH LOGIN.
STAGES = ("greeting", "ehlo", "helo", "starttls", "auth", "auth_name", "auth_password", "mail", "rcpt", "data", "dot", "rset", "quit")
# Stages without a reply: the script says HANG, RESET or CLOSE there, or nothing. A server that hangs at connect is a Deaf one.
SILENT_STAGES = ("handshake", "body")
BODY_READ = 10000  # so much of a message is read before the stage "body"


class Gone(Exception):
    pass


class Session:
    """One connection, and what was said on it."""

    def __init__(self, receiver, conn, number):
        self.receiver, self.conn, self.number = receiver, conn, number
        self.file = conn.makefile("rb")
        self.commands, self.tls, self.sni = [], None, None
        self.peer = conn.getpeername()
        self.mail, self.rcpts = None, []
        self.login = None

    def say(self, stage, default):
        """Gives the code that was said. A script's entry is a reply, one of HANG, RESET and CLOSE, or a function of the session."""
        what = self.receiver.script.get(stage, default)
        if callable(what):
            what = what(self)
        if what is None:
            what = default
        if what is None:
            return 0
        if what == HANG:
            self.receiver.ended.wait(60)
            raise Gone()
        if what == RESET:
            self.conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raise Gone()
        if what == CLOSE:
            raise Gone()
        self.conn.sendall((what + "\r\n").encode())
        return int(what[:3])

    def run(self):
        if self.receiver.tls_first:
            self.begin_tls()
        self.say("greeting", "220 receiver.example ESMTP")
        while True:
            line = self.file.readline()
            if not line.endswith(b"\r\n"):
                return
            text = line[:-2].decode("utf-8", "replace")
            self.commands.append(text)
            verb = text.split(" ")[0].split(":")[0].upper()
            if verb == "QUIT":
                self.say("quit", "221 bye")
                return
            getattr(self, "on_" + verb.lower())(text)

    def on_ehlo(self, text):
        offers = [o for o in self.receiver.offers if o != "STARTTLS" or (self.receiver.context and not self.tls)]
        lines = ["receiver.example"] + offers
        self.say("ehlo", "\r\n".join("250%s%s" % ("-" if n + 1 < len(lines) else " ", one) for n, one in enumerate(lines)))

    def on_helo(self, text):
        self.say("helo", "250 receiver.example")

    def on_starttls(self, text):
        if self.say("starttls", "220 go") == 220:
            self.begin_tls()

    def begin_tls(self):
        self.say("handshake", None)
        self.receiver.context.sni_callback = lambda s, name, c: setattr(self, "sni", name)
        self.conn = self.receiver.context.wrap_socket(self.conn, server_side=True)
        self.file = self.conn.makefile("rb")
        self.tls = self.conn.version()

    def on_auth(self, text):
        if text.split()[1:] == ["LOGIN"]:
            self.say("auth", "334 " + base64.b64encode(b"Username:").decode())
            name = base64.b64decode(self.file.readline())
            self.say("auth_name", "334 " + base64.b64encode(b"Password:").decode())
            self.login, stage = (name.decode(), base64.b64decode(self.file.readline()).decode()), "auth_password"
        else:
            _, _, given = text.split()
            self.login, stage = tuple(w.decode() for w in base64.b64decode(given).split(b"\0")[1:]), "auth"
        self.say(stage, "235 2.7.0 welcome" if self.login == self.receiver.login else "535 5.7.8 no")

    def on_mail(self, text):
        if self.say("mail", "250 2.1.0 ok") == 250:
            self.mail, self.rcpts = text[10:], []

    def on_rcpt(self, text):
        if self.say("rcpt", "250 2.1.5 ok") == 250:
            self.rcpts.append(text[8:])

    def on_data(self, text):
        if self.say("data", "354 go" if self.rcpts else "503 no recipients") != 354:
            return
        lines, count = [], 0
        while True:
            time.sleep(self.receiver.line_seconds)
            line = self.file.readline()
            if not line:
                raise Gone()
            if line == b".\r\n":
                break
            count += len(line)
            if count > BODY_READ:
                self.say("body", None)
            lines.append(line[1:] if line[:1] == b"." else line)
        self.taken(b"".join(lines))

    def taken(self, octets):
        if self.say("dot", "250 2.0.0 taken") == 250:
            self.receiver.messages.append((self.mail, list(self.rcpts), octets, self))
        self.mail, self.rcpts = None, []

    chunks = b""

    def on_bdat(self, text):
        _, size, *last = text.split()
        octets = b""
        while len(octets) < int(size):
            time.sleep(self.receiver.line_seconds)
            if len(octets) > BODY_READ:
                self.say("body", None)
            some = self.file.read(min(int(size) - len(octets), 64 if self.receiver.line_seconds else 65536))
            if not some:
                raise Gone()
            octets += some
        self.chunks += octets
        if not last:
            self.conn.sendall(b"250 chunk\r\n")
            return
        octets, self.chunks = self.chunks, b""
        self.taken(octets)

    def on_rset(self, text):
        self.mail, self.rcpts = None, []
        self.say("rset", "250 ok")


class Receiver:
    """Listens on address (of 127.0.0.0/8, or ::1) and port. script and offers may be changed between messages."""

    def __init__(self, address, port, context=None, offers=("PIPELINING", "8BITMIME", "STARTTLS"), script=None, tls_first=False):
        self.tls_first, self.login = tls_first, None
        self.line_seconds = 0  # rests so long before each line of a message
        self.script, self.offers, self.context = script or {}, list(offers), context
        self.sessions, self.messages = [], []
        self.ended = threading.Event()
        self.listener = socket.create_server((address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
        # As much as the network holds is written at once, however slowly it is read.
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        self.address = address
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                conn, _ = self.listener.accept()
            except OSError:
                return
            conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            session = Session(self, conn, len(self.sessions))
            self.sessions.append(session)
            threading.Thread(target=self._serve, args=(session,), daemon=True).start()

    def _serve(self, session):
        try:
            session.run()
        except (Gone, OSError):
            pass
        finally:
            for thing in (session.file, session.conn):
                try:
                    thing.close()
                except OSError:
                    pass

    def end_sessions(self):
        """What comes next comes over a new connection."""
        for session in self.sessions:
            try:
                session.conn.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def reset(self, **script):
        """Ends and forgets what was, and follows this script from now on."""
        self.end_sessions()
        self.script = script
        self.sessions, self.messages = [], []

    def close(self):
        self.ended.set()
        try:
            self.listener.shutdown(socket.SHUT_RDWR)  # it listens as long as somebody is in accept()
        except OSError:
            pass
        self.listener.close()


class Deaf:
    """Listens, and takes no connection: those that would come have no answer, since as many wait as may. filled: whether that is so."""

    def __init__(self, address, port):
        self.listener = socket.create_server((address, port), backlog=1)
        self.waiting = []
        self.filled = False
        while not self.filled and len(self.waiting) < 20:
            s = socket.socket()
            s.settimeout(0.3)
            self.waiting.append(s)
            try:
                s.connect((address, port))
            except TimeoutError:
                self.filled = True

    def close(self):
        for s in (self.listener, *self.waiting):
            s.close()


def authority(directory):
    """A certificate authority: (path of its certificate, function that makes (certificate, key) for names)."""
    os.makedirs(directory, exist_ok=True)

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)

    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2",
            "-subj", "/CN=test authority")

    def issue(*names, expired=False, common=False, kind=("ec", "-pkeyopt", "ec_paramgen_curve:P-256")):
        """common: the name is the subject's common name alone."""
        base = names[0].replace("*", "_") + (".expired" if expired else "") + (".common" if common else "")
        with open("%s/%s.ext" % (directory, base), "w", encoding="ascii") as f:
            f.write("basicConstraints=CA:FALSE\n" if common else "subjectAltName=" + ",".join("DNS:" + n for n in names) + "\n")
        openssl("req", "-new", "-newkey", *kind, "-nodes", "-keyout", base + ".key", "-out", base + ".csr",
                "-subj", "/CN=" + names[0])
        openssl("x509", "-req", "-in", base + ".csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", base + ".pem",
                "-days", "-1" if expired else "2", "-extfile", base + ".ext")
        return "%s/%s.pem" % (directory, base), "%s/%s.key" % (directory, base)

    return directory + "/ca.pem", issue


def context(pair, chain=None):
    """A server's TLS with a (certificate, key)."""
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    path, key = pair
    if chain:
        whole = path + ".chain"
        with open(whole, "w", encoding="ascii") as out:
            for one in (path, chain):
                with open(one, encoding="ascii") as f:
                    out.write(f.read())
        path = whole
    c.load_cert_chain(path, key)
    return c


def tlsa(usage, selector, path):
    """A TLSA record's data with the SHA-256 of a certificate (selector 0) or of its key (1)."""
    der = ["-outform", "DER"]
    if selector == 0:
        octets = subprocess.run(["openssl", "x509", "-in", path, *der], check=True, capture_output=True).stdout
    else:
        pem = subprocess.run(["openssl", "x509", "-in", path, "-pubkey", "-noout"], check=True, capture_output=True).stdout
        octets = subprocess.run(["openssl", "pkey", "-pubin", *der], input=pem, check=True, capture_output=True).stdout
    return "%d %d 1 %s" % (usage, selector, hashlib.sha256(octets).hexdigest())

