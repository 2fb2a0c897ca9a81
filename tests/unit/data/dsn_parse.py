#!/usr/bin/python3
"""Reads reports with Python's email package and holds them against RFC 3464, 6522 and 6533. Exit 1 when one is wrong.

Standard input: of each report a line "8 LENGTH" or "7 LENGTH", and its octets; after 7 there is none over 127 among them.
"""

import email
import email.errors
import email.policy
import re
import sys
import traceback
import unicodedata

FIELDS = {"original-envelope-id", "reporting-mta", "arrival-date", "future-release-request"}
RECIPIENT_FIELDS = {"original-recipient", "final-recipient", "action", "status", "remote-mta", "diagnostic-code", "last-attempt-date",
                    "will-retry-until"}
HIDDEN = {"Cc", "Cf", "Zl", "Zp"}
TYPES = [{"text/plain"}, {"message/delivery-status", "message/global-delivery-status"},
         {"text/rfc822-headers", "message/global-headers", "message/rfc822", "message/global"}]


def groups(text):
    """[{name: value}] of the blank-separated groups of fields; each name once, unfolded."""
    found = []
    for group in text.strip("\r\n").split("\r\n\r\n"):
        fields = {}
        for line in re.sub(r"\r\n[ \t]", " ", group).split("\r\n"):
            name, colon, value = line.partition(": ")
            assert colon and name.lower() not in fields, "not a field, or twice: %r" % line
            fields[name.lower()] = value
        found.append(fields)
    return found


def check_status(octets, utf8):
    text = octets.decode("utf-8" if utf8 else "ascii")
    message, *recipients = groups(text)
    assert set(message) <= FIELDS and "reporting-mta" in message, message
    assert message["reporting-mta"].startswith("dns; "), message
    assert recipients
    for r in recipients:
        assert set(r) <= RECIPIENT_FIELDS and {"final-recipient", "action", "status"} <= set(r), r
        assert re.fullmatch(r"[245]\.(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})", r["status"]), r
        assert r["action"] in ("failed", "delayed", "delivered", "relayed", "expanded"), r
        allowed = {"failed": "45", "delayed": "4"}.get(r["action"], "2")
        assert r["status"][0] in allowed, r
        kind, _, address = r["final-recipient"].partition(";")
        assert kind == "rfc822" and address.isascii() or kind == "utf-8" and ("\\x{" in address or not address.isascii()), r
        assert ("will-retry-until" not in r) or r["action"] == "delayed", r
        if "diagnostic-code" in r and r["diagnostic-code"].startswith("smtp;"):
            assert "remote-mta" in r and re.match(r"smtp; [2-5]\d\d", r["diagnostic-code"]), r


def check_lines(raw):
    assert raw.endswith(b"\r\n") and b"\0" not in raw
    assert b"\n" not in raw.replace(b"\r\n", b"") and b"\r" not in raw.replace(b"\r\n", b"")
    for line in raw.split(b"\r\n"):
        assert len(line) <= 998, line


def check(bits, raw):
    check_lines(raw)
    m = email.message_from_bytes(raw, policy=email.policy.default)
    assert not m.defects, m.defects
    parts = m.get_payload()
    assert m.get_content_type() == "multipart/report" and len(parts) == 3
    utf8 = parts[1].get_content_subtype() == "global-delivery-status"
    for part, types in zip(parts, TYPES):
        assert not part.defects, part.defects
        assert part.get_content_type() in types, part.get_content_type()
    assert m["content-type"].params["report-type"] == parts[1].get_content_subtype()
    assert m["auto-submitted"] == "auto-replied" and m["mime-version"] == "1.0"
    assert not m["from"].defects and not m["date"].defects
    ours = (email.errors.NonASCIILocalPartDefect, email.errors.UndecodableBytesDefect)  # what Python says of RFC 6532
    assert all(isinstance(d, ours) and utf8 for d in m["to"].defects), m["to"].defects
    assert len(m["from"].addresses) == 1 and len(m["to"].addresses) == 1
    assert m["message-id"] and m["subject"]
    text = parts[0].get_content()
    assert text.strip() and not any(unicodedata.category(c) in HIDDEN for c in text if c not in "\r\n"), repr(text)
    # As the message has it: between the boundaries.
    boundary = ("\r\n--" + m.get_boundary()).encode()
    whole = raw.split(boundary)
    assert len(whole) == 5 and whole[4] == b"--\r\n"
    head, _, fields = whole[2].partition(b"\r\n\r\n")
    assert b"Encoding: quoted-printable" not in head
    check_status(fields, utf8)
    if bits == b"7":
        assert raw.isascii() and b"Encoding: 8bit" not in raw
    for piece in whole[1:4]:
        head, _, octets = piece.partition(b"\r\n\r\n")
        assert octets.isascii() or b"Content-Transfer-Encoding: 8bit" in head, head


def main():
    number, failed = 0, 0
    while head := sys.stdin.buffer.readline():
        bits, length = head.split()
        raw = sys.stdin.buffer.read(int(length))
        number += 1
        try:
            assert len(raw) == int(length)
            check(bits, raw)
        except Exception as e:  # whatever it is, it is a fault of that report
            where = traceback.extract_tb(e.__traceback__)[-1]
            print("report %d: %s: %s: %s\n%s" % (number, where.line, type(e).__name__, str(e)[:1000], raw[:3000].decode("utf-8", "replace")))
            failed += 1
    print("dsn_parse.py: %d reports read, %d wrong" % (number, failed))
    return 1 if failed or number == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
