#!/usr/bin/python3
"""Reception beside Debian's Postfix with Dovecot's LMTP, in one run: messages of 4 KB, each over a connection of its own, from connect to
visible in IMAP, durable; at 50 connections and at one.

With checks: a signed message of a domain with SPF and DMARC records, from a client with a name, and every check on: on Postfix's side
opendkim, opendmarc and postfix-policyd-spf-python are attached as their documentation says. Without: Postfix has none of them, and the
message nothing to check; Mailstead, which cannot leave the checks out, looks for it all the same. Both ask the same nsd.

Everything runs in namespaces of its own: a network with the client's address, and a resolv.conf. Needs root. BENCH_ROUNDS rounds, in turn,
and medians of them; BENCH_MESSAGES messages at 50 connections, a tenth at one."""

import base64
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "instance"))
sys.path.insert(0, HERE)
import bench  # noqa: E402
import dkim  # noqa: E402
import dnsserver  # noqa: E402
import harness  # noqa: E402

MESSAGES = int(os.environ.get("BENCH_MESSAGES", "1000"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
SESSIONS = int(os.environ.get("BENCH_SESSIONS", "50"))
BYTES = 4096
# The server is there too: whoever connects to it has it as its own address, which no program takes for local.
ADDRESS = "192.0.2.1"
WANTED = {"with": (5.0, 2.0), "without": (3.0, 3.0)}


def inside():
    """The rest runs in new namespaces."""
    if os.environ.get("MAILSTEAD_BENCH_INSIDE") != "1":
        os.environ["MAILSTEAD_BENCH_INSIDE"] = "1"
        os.execvp("unshare", ["unshare", "--mount", "--net", "--propagation", "private", sys.executable, os.path.abspath(__file__)])
    for command in ("ip link set lo up", "ip address add %s/24 dev lo" % ADDRESS):
        subprocess.run(command.split(), check=True)


class Dns:
    """nsd with the client's zones, where resolv.conf says it is: port 53 of the new network."""

    def __init__(self, directory):
        key = directory + "/dkim.key"
        subprocess.run(["openssl", "genrsa", "-traditional", "-out", key, "2048"], check=True, capture_output=True)
        public = subprocess.run(["openssl", "rsa", "-in", key, "-pubout", "-outform", "DER"], check=True, capture_output=True).stdout
        with open(key, "rb") as f:
            self.key = f.read()
        zone = "client IN A %s\n@ IN TXT %s\nk._domainkey IN TXT %s\n_dmarc IN TXT %s\n" % (
            ADDRESS, dnsserver.txt("v=spf1 ip4:%s -all" % ADDRESS),
            dnsserver.txt("v=DKIM1; k=rsa; p=" + base64.b64encode(public).decode()), dnsserver.txt("v=DMARC1; p=reject"))
        self.server = dnsserver.DnsServer(directory + "/dns", {
            "bench.example": zone, "plain.example": "", "demo.test": "", "2.0.192.in-addr.arpa": "1 IN PTR client.bench.example.\n"},
            port=53)
        with open(directory + "/resolv.conf", "w", encoding="ascii") as f:
            f.write("nameserver 127.0.0.1\n")
        subprocess.run(["mount", "--bind", directory + "/resolv.conf", "/etc/resolv.conf"], check=True)

    def close(self):
        self.server.stop()


def message(key):
    """What smtp-source sends, LF line ends: about BYTES octets, signed when there is a key."""
    domain = "bench.example" if key else "plain.example"
    text = ("From: Bench <bench@%s>\nTo: alice@demo.test\nSubject: %s\nDate: Sun, 22 Nov 2026 12:00:00 +0000\n"
            "Message-ID: <1@%s>\nMIME-Version: 1.0\nContent-Type: text/plain\n\n" % (domain, "reception", domain)).encode()
    text += b"A line of the text of this message, as long as lines are.\n" * ((BYTES - len(text) - (700 if key else 0)) // 58)
    if key:
        octets = text.replace(b"\n", b"\r\n")
        text = dkim.sign(octets, b"k", b"bench.example", key, canonicalize=(b"relaxed", b"relaxed"),
                         include_headers=[b"from", b"to", b"subject", b"date", b"message-id"]).replace(b"\r\n", b"\n") + text
    return text


class Ours(bench.Ours):
    def __init__(self, dns, checks):
        del checks
        super().__init__({"listen.address": "127.0.0.1 " + ADDRESS, "dns.server": dns.server.address, "login.connections_per_address": "500"})


class Rival(bench.Rival):
    """Postfix + Dovecot, with the three filters or without."""

    def __init__(self, dns, checks):
        del dns
        self.checks = checks
        self.filters = []
        super().__init__()

    def postfix(self):
        if self.checks:
            self.start_filters()
        super().postfix()

    def main_cf(self, text):
        text = text.replace("inet_interfaces = 127.0.0.1", "inet_interfaces = 127.0.0.1 " + ADDRESS).replace("smtpd_peername_lookup = no\n", "")
        text += "lmtp_destination_recipient_limit = 1\n"
        if self.checks:
            text += textwrap.dedent("""\
                smtpd_milters = unix:%s/opendkim.sock unix:%s/opendmarc.sock
                milter_default_action = tempfail
                smtpd_recipient_restrictions = reject_unauth_destination check_policy_service unix:private/policyd-spf
                policyd-spf_time_limit = 3600
                """ % (self.directory, self.directory))
        return text

    def master_cf(self, text):
        text = re.sub(r"^127\.0\.0\.1:(\d+) inet", r"\1 inet", text, flags=re.M)
        if self.checks:
            text += "policyd-spf unix - n n - 0 spawn\n  user=nobody argv=/usr/bin/policyd-spf %s/policyd-spf.conf\n" % self.directory
        return text

    def start_filters(self):
        d = self.directory
        files = {
            "opendkim.conf": "Mode v\nSocket local:%s/opendkim.sock\nInternalHosts %s/nobody\nAlwaysAddARHeader yes\nSyslog no\nNameservers 127.0.0.1\n"
                             "AuthservID bench.demo.test\nUMask 000\n" % (d, d),
            "opendmarc.conf": "Socket local:%s/opendmarc.sock\nUMask 000\nIgnoreHosts %s/nobody\nRejectFailures true\nSyslog false\nAuthservID bench.demo.test\n"
                              "TrustedAuthservIDs bench.demo.test\nPublicSuffixList /usr/share/publicsuffix/public_suffix_list.dat\n" % (d, d),
            "nobody": "203.0.113.99\n",
            "policyd-spf.conf": "debugLevel = 0\nTestOnly = 1\nHELO_reject = Fail\nMail_From_reject = Fail\nPermError_reject = False\n"
                                "TempError_Defer = False\nskip_addresses = 203.0.113.99\nHeader_Type = AR\nAuthserv_Id = bench.demo.test\n",
        }
        for name, text in files.items():
            with open(d + "/" + name, "w", encoding="ascii") as f:
                f.write(text)
        for command in (["opendkim", "-f", "-x", d + "/opendkim.conf"], ["opendmarc", "-f", "-c", d + "/opendmarc.conf"]):
            self.filters.append(subprocess.Popen(command, stdin=subprocess.DEVNULL))

    def close(self):
        super().close()
        for p in self.filters:
            p.terminate()
            p.wait()


def deliver(side, path, sender, sessions, count):
    """Seconds from the first connect until all messages are in the mailbox."""
    watch = bench.Imap(side)
    before = watch.exists()
    began = time.monotonic()
    subprocess.run(["smtp-source", "-s", str(sessions), "-m", str(count), "-F", path, "-f", sender, "-M", "client.bench.example", "-t",
                    side.rcpt, "%s:%d" % (ADDRESS, side.smtp_port)], check=True)
    accepted = time.monotonic() - began
    while watch.exists() < before + count:
        if time.monotonic() - began > 300:
            raise RuntimeError("only %d of %d arrived" % (watch.exists() - before, count))
        time.sleep(0.005)
    return accepted, time.monotonic() - began


def check_results(side, checks):
    """That what is compared was done."""
    c = bench.Imap(side)
    c.run("SELECT INBOX")
    _, header = c.run("FETCH 1 (BODY.PEEK[HEADER])")
    for result in (b"dkim=pass", b"spf=pass", b"dmarc=pass") if checks else ():
        if result not in header.lower():
            raise RuntimeError("%s: no %s in\n%s" % (side.name, result.decode(), header.decode()))
    found = b"dkim=" in header.lower()
    if isinstance(side, Rival) and found != checks:
        raise RuntimeError("%s: the filters are not as they should be:\n%s" % (side.name, header.decode()))


def measure(kind, dns, checks, path, sender):
    """{connections: (messages a second accepted, in the mailbox)} of one round."""
    side = kind(dns, checks)
    figures = {}
    try:
        deliver(side, path, sender, SESSIONS, 4 * SESSIONS)  # processes are started
        check_results(side, checks)
        for sessions, count in ((SESSIONS, MESSAGES), (1, max(MESSAGES // 10, 50))):
            accepted, visible = deliver(side, path, sender, sessions, count)
            figures[sessions] = (count / accepted, count / visible)
    finally:
        side.close()
    return figures


def compare(dns, checks, directory):
    """How many of what is wanted is not met."""
    name = "with" if checks else "without"
    path = "%s/message-%s" % (directory, name)
    with open(path, "wb") as f:
        f.write(message(dns.key if checks else None))
    sender = "bench@" + ("bench.example" if checks else "plain.example")
    rounds = {Ours: [], Rival: []}
    for _ in range(ROUNDS):
        for kind, figures in rounds.items():
            figures.append(measure(kind, dns, checks, path, sender))
    print("%s checks, messages of %d octets, medians of %d rounds" % (name.capitalize(), os.path.getsize(path), ROUNDS))
    missed = 0
    for sessions, wanted in zip((SESSIONS, 1), WANTED[name]):
        for at, what in enumerate(("accepted", "in the mailbox")):
            ours, theirs = (statistics.median(f[sessions][at] for f in rounds[kind]) for kind in (Ours, Rival))
            each = ", ".join("%.2f" % (a[sessions][at] / b[sessions][at]) for a, b in zip(rounds[Ours], rounds[Rival]))
            missed += at == 1 and ours / theirs < wanted
            verdict = "" if at == 0 else "   wanted %.0f: %s" % (wanted, "met" if ours / theirs >= wanted else "NOT MET")
            print("  %2d connections, messages/s %-15s %8.1f %8.1f   ratio %5.2f (%s)%s" %
                  (sessions, what, ours, theirs, ours / theirs, each, verdict), flush=True)
    return missed


def main():
    if os.geteuid() != 0:
        print("make bench-smtp needs root: Postfix and Dovecot do", file=sys.stderr)
        return 2
    inside()
    directory = tempfile.mkdtemp(prefix="bench-smtp-", dir="/var/tmp")
    os.chmod(directory, 0o755)
    dns = Dns(directory)
    try:
        print("synced writes of %d octets a second on this disk: %.0f" % (BYTES, bench.fsync_rate("/var/tmp")))
        print("%48s %s" % ("", "Mailstead  Postfix + Dovecot"))
        missed = sum(compare(dns, checks, directory) for checks in (True, False))
    finally:
        dns.close()
        subprocess.run(["umount", "/etc/resolv.conf"], check=False)
        shutil.rmtree(directory, ignore_errors=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
