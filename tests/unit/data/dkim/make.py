#!/usr/bin/python3
"""Signs the messages of this directory with Debian's python3-dkim: run once, the results are kept.

NAME.eml: a message with CRLF line ends; keys.txt: lines "name<TAB>text" of the DNS.
"""

import base64
import os
import subprocess
import time

import dkim
import nacl.signing

time.time = lambda: 1700000000.0  # the library compares t= with the clock of whoever tests
os.chdir(os.path.dirname(os.path.abspath(__file__)))
RSA = subprocess.run(["openssl", "genrsa", "-traditional", "2048"], capture_output=True, check=True).stdout
SPKI = subprocess.run(["openssl", "rsa", "-pubout", "-outform", "DER"], input=RSA, capture_output=True, check=True).stdout
ED = nacl.signing.SigningKey.generate()
BODIES = {
    "plain": b"One  line \r\n\r\nof\ttext \r\n",
    "empty": b"",
    "blank": b"\r\n\r\n\r\n",
    "nofinal": b"no end of line",
    "dots": b".\r\n..\r\n \t \r\ntrailing   \r\n\r\n",
}
HEADER = (b"Received: from a.example by b.example;\r\n\tMon, 01 Jan 2024 00:00:00 +0000\r\n"
          b"From: Joe <joe@example.com>\r\nTo: suzie@example.net,\r\n  bob@example.net\r\n"
          b"suBject:  Folded\r\n\t subject  \r\nDate: Mon, 01 Jan 2024 00:00:00 +0000\r\n\r\n")

for body_name, body in BODIES.items():
    for header_c in (b"simple", b"relaxed"):
        for body_c in (b"simple", b"relaxed"):
            message = HEADER + body
            rsa = dkim.sign(message, b"rsa", b"example.com", RSA, canonicalize=(header_c, body_c),
                            include_headers=[b"from", b"to", b"subject", b"date", b"from"])
            ed = dkim.sign(message, b"ed", b"example.com", base64.b64encode(bytes(ED)), canonicalize=(header_c, body_c),
                           signature_algorithm=b"ed25519-sha256", include_headers=[b"from", b"to", b"date", b"cc"])
            name = "%s-%s-%s.eml" % (body_name, header_c.decode(), body_c.decode())
            with open(name, "wb") as f:
                f.write(ed.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") + rsa.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") + message)
with open("keys.txt", "w") as f:
    f.write("rsa._domainkey.example.com\tv=DKIM1; k=rsa; p=%s\n" % base64.b64encode(SPKI).decode())
    f.write("ed._domainkey.example.com\tv=DKIM1; k=ed25519; p=%s\n" % base64.b64encode(bytes(ED.verify_key)).decode())
