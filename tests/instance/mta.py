"""Debian's mail servers, each in namespaces of its own: Postfix, Exim and OpenSMTPD take messages by their sendmail command, or on a
port of their own, and relay them all to one port of 127.0.0.1. On the port of their own a recipient's name says what becomes of it:
later@ and never@ are refused at RCPT, later-data@ and never-data@ at DATA (but not by Exim), later-end@ and never-end@ at the end of the
message, and grey@ the first time.

Their packages are not installed: etc/unpack.sh has put them below BUILD/packages. In the mount namespace these appear as /mnt and
the server's directory as /srv; its users are in a passwd file of its own. All its processes end with the namespace. Needs root.
"""

import os
import shutil
import signal
import subprocess
import tempfile

import harness

PACKAGES = os.path.join(harness.BUILD.removesuffix("/san"), "packages")
USERS = {"postfix": 64901, "opensmtpd": 64902, "opensmtpq": 64903, "Debian-exim": 64904}
GROUPS = dict(USERS, postdrop=64905)
HOSTNAME = "mta.example"
COMMAND_SECONDS_MAX = 60


class Mta:
    """Subclasses say how it is made: files() writes its files to self.directory, and what follows are commands inside."""

    name = ""
    daemon = []  # in the foreground
    sendmail = []
    flush = []  # all that waits is tried now
    queue = []  # prints what waits
    directories = {}  # below the root: what lies there is its own
    environment = {}

    def __init__(self, port, listen=None, plain=None, pair=None):
        """Relays to that port. listen: (address, port) to take messages at; pair: paths of a certificate and its key for that; plain:
        another such, where TLS is not offered."""
        if not os.path.isdir(PACKAGES):
            raise RuntimeError("%s is not there: make deps makes it" % PACKAGES)
        self.listen, self.plain = listen, plain
        self.directory = tempfile.mkdtemp(prefix="mailstead-mta-")
        os.chmod(self.directory, 0o755)
        self.port = port
        for path, name in zip(pair or (), ("cert.pem", "key.pem")):
            with open(path, encoding="ascii") as f:
                self.write(name, f.read(), 0o600)
        self.write("passwd", self.users())
        self.write("group", self.groups())
        self.files()
        self.log = open(self.directory + "/output", "wb")
        self.process = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc", "--propagation", "private", "sh", "-ec",
             self.mounts() + 'exec "$@"', "sh", *self.daemon],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=self.env(), start_new_session=True)
        harness.wait_for(self.ready, 30, 0.05)

    # What the namespace has.

    @staticmethod
    def users():
        with open("/etc/passwd", encoding="utf-8") as f:
            kept = [line for line in f if line.split(":")[0] not in USERS]
        return "".join(kept) + "".join("%s:x:%d:%d::/nonexistent:/usr/sbin/nologin\n" % (u, n, n) for u, n in USERS.items())

    @staticmethod
    def groups():
        with open("/etc/group", encoding="utf-8") as f:
            kept = [line for line in f if line.split(":")[0] not in GROUPS]
        return "".join(kept) + "".join("%s:x:%d:\n" % (g, n) for g, n in GROUPS.items())

    def mounts(self):
        lines = ["mount --bind %s /mnt" % PACKAGES, "mount --bind %s /srv" % self.directory,
                 "mount --bind /srv/passwd /etc/passwd", "mount --bind /srv/group /etc/group"]
        for path, own in self.directories.items():
            os.makedirs(self.directory + "/" + own, exist_ok=True)
            lines.append("mount --bind /srv/%s %s" % (own, path))
        return "\n".join(lines) + "\n"

    def env(self):
        return dict(os.environ, **self.environment)

    def write(self, name, text, mode=0o644):
        path = os.path.join(self.directory, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        os.chmod(path, mode)

    def make(self, name, user="root", group="root", mode=0o755):
        path = os.path.join(self.directory, name)
        os.makedirs(path, exist_ok=True)
        os.chown(path, USERS.get(user, 0), GROUPS.get(group, 0))
        os.chmod(path, mode)

    def files(self):
        raise NotImplementedError

    # Its life.

    def ready(self):
        if self.process.poll() is not None:
            raise RuntimeError("%s ended:\n%s" % (self.name, self.output()))
        return bool(self.first()) and self.run(self.queue, check=False).returncode == 0

    def first(self):
        """The pid of the first process inside, or None."""
        try:
            with open("/proc/%d/task/%d/children" % (self.process.pid, self.process.pid), encoding="ascii") as f:
                return (f.read().split() or [None])[0]
        except OSError:
            return None

    def run(self, command, stdin=b"", check=True):
        done = subprocess.run(["nsenter", "--target", self.first(), "--mount", "--pid", *command], input=stdin, capture_output=True,
                              env=self.env(), timeout=COMMAND_SECONDS_MAX)
        if check and done.returncode != 0:
            raise AssertionError("%s: %s: exit %d\n%s\n%s" % (self.name, " ".join(command), done.returncode,
                                                            (done.stdout + done.stderr).decode(), self.output()))
        return done

    def send(self, message, recipients, sender):
        """Queues it by its sendmail command, which may ask to be called again while the server starts; message has LF line ends."""
        command = [*self.sendmail, "-i", "-f", sender, *recipients]
        harness.wait_for(lambda: self.run(command, message, check=False).returncode != os.EX_TEMPFAIL, 20, 0.2)

    def waiting(self):
        return self.run(self.queue).stdout.decode()

    def retry(self):
        self.run(self.flush)

    def output(self):
        """What it has said, for a test that fails."""
        said = []
        for base, _, files in os.walk(self.directory):
            for name in files:
                if name in ("output", "mainlog", "paniclog", "maillog"):
                    with open(os.path.join(base, name), encoding="utf-8", errors="replace") as f:
                        said.append(f.read()[-4000:])
        return "\n".join(said)

    def close(self):
        # Postfix's first process no longer ends with its parent: it has changed its user.
        if self.process.poll() is None and self.first():
            os.kill(int(self.first()), signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        self.log.close()
        if not os.environ.get("MAILSTEAD_KEEP"):
            shutil.rmtree(self.directory, ignore_errors=True)


class Postfix(Mta):
    name = "postfix"
    daemon = ["/mnt/postfix/usr/lib/postfix/sbin/master", "-c", "/srv/conf", "-i"]
    sendmail = ["/mnt/postfix/usr/sbin/sendmail", "-C", "/srv/conf"]
    flush = ["/mnt/postfix/usr/sbin/postqueue", "-c", "/srv/conf", "-f"]
    queue = ["/mnt/postfix/usr/sbin/postqueue", "-c", "/srv/conf", "-p"]
    environment = {"LD_LIBRARY_PATH": "/mnt/postfix/usr/lib/postfix"}

    def files(self):
        self.write("conf/main.cf", """compatibility_level = 3.6
queue_directory = /srv/queue
data_directory = /srv/data
command_directory = /mnt/postfix/usr/sbin
daemon_directory = /mnt/postfix/usr/lib/postfix/sbin
shlib_directory = /mnt/postfix/usr/lib/postfix
import_environment = MAIL_CONFIG TZ LD_LIBRARY_PATH=/mnt/postfix/usr/lib/postfix
export_environment = MAIL_CONFIG TZ LANG LD_LIBRARY_PATH=/mnt/postfix/usr/lib/postfix
maillog_file = /srv/data/maillog
maillog_file_prefixes = /srv
myhostname = %s
mydestination =
relayhost = [127.0.0.1]:%d
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
smtp_tls_security_level = may
smtpd_tls_security_level = may
smtpd_tls_cert_file = /srv/cert.pem
smtpd_tls_key_file = /srv/key.pem
mynetworks = 127.0.0.0/8, 192.0.2.0/24
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_recipient_restrictions = check_recipient_access regexp:/srv/conf/refused, permit
smtpd_restriction_classes = greylisting
greylisting = check_policy_service unix:private/grey
smtpd_data_restrictions = check_recipient_access regexp:/srv/conf/refused-data, permit
smtpd_end_of_data_restrictions = check_recipient_access regexp:/srv/conf/refused-end, permit
alias_maps =
alias_database =
""" % (HOSTNAME, self.port))
        for name in ("", "-data", "-end"):
            self.write("conf/refused" + name, "/^never%s@/ 550 5.1.1 not here\n/^later%s@/ 450 4.2.1 come again\n" % (name, name) +
                       "/^grey@/ greylisting\n" * (not name))
        self.write("grey", """#!/bin/sh
while read -r line; do
    if [ -z "$line" ]; then
        if mkdir /srv/known/it 2>&-; then printf 'action=450 4.2.0 greylisted\\n\\n'; else printf 'action=dunno\\n\\n'; fi
    fi
done
""", 0o755)
        self.make("known", mode=0o777)
        listens = "grey unix - n n - 0 spawn user=nobody argv=/srv/grey\n"
        if self.listen:
            listens += "%s:%d inet n - n - - smtpd\n" % self.listen
            listens += "%s:%d inet n - n - - smtpd -o smtpd_tls_security_level=none\n" % self.plain
        # Nothing is in a chroot.
        self.write("conf/master.cf", listens + """pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
""")
        self.make("data", "postfix", "postfix", 0o700)
        for name in ("incoming", "active", "bounce", "defer", "deferred", "flush", "saved", "corrupt", "hold", "trace", "private"):
            self.make("queue/" + name, "postfix", mode=0o700)
        self.make("queue/maildrop", "postfix", "postdrop", 0o1730)
        self.make("queue/public", "postfix", "postdrop", 0o710)
        self.make("queue/pid")


class Exim(Mta):
    name = "exim"
    program = "/mnt/exim4-daemon-light/usr/sbin/exim4"
    daemon = ["sleep", "infinity"]  # each message has a process of its own at first; retry() does the rest
    sendmail = [program, "-C", "/srv/exim.conf"]
    flush = [program, "-C", "/srv/exim.conf", "-qff"]
    queue = [program, "-C", "/srv/exim.conf", "-bp"]

    def __init__(self, port, listen=None, plain=None, pair=None):
        if listen:
            self.daemon = [self.program, "-C", "/srv/exim.conf", "-bdf", "-q2s", "-oX", "%s.%d : %s.%d" % (*listen, *plain)]
        super().__init__(port, listen, plain, pair)

    def files(self):
        self.make("spool", "Debian-exim", "Debian-exim", 0o750)
        self.make("log", "Debian-exim", "Debian-exim", 0o750)
        if self.listen:
            for name in ("cert.pem", "key.pem"):
                os.chown(self.directory + "/" + name, USERS["Debian-exim"], -1)
        self.write("exim.conf", """exim_path = %s
spool_directory = /srv/spool
log_file_path = /srv/log/%%slog
primary_hostname = %s
qualify_domain = %s
trusted_users = root
disable_ipv6
keep_environment =
add_environment =
acl_smtp_rcpt = check_rcpt
acl_smtp_data = check_end
tls_advertise_hosts = ${if eq{$received_ip_address}{%s}{}{*}}
tls_certificate = /srv/cert.pem
tls_privatekey = /srv/key.pem
smtputf8_advertise_hosts = *
dsn_advertise_hosts = *
begin acl
check_rcpt:
  deny local_parts = never
       message = 5.1.1 not here
  defer local_parts = later
       message = 4.2.1 come again
  defer local_parts = grey
       condition = ${run{/usr/bin/mkdir /srv/spool/known}{yes}{no}}
       message = 4.2.0 greylisted
  accept
check_end:
  deny condition = ${if match{$recipients}{^never-end@}}
       message = 5.1.1 not here
  defer condition = ${if match{$recipients}{^later-end@}}
       message = 4.2.1 come again
  accept
begin routers
all:
  driver = manualroute
  route_list = * 127.0.0.1
  self = send
  transport = relay
begin transports
relay:
  driver = smtp
  port = %d
  allow_localhost
begin retry
* * F,1h,10s
""" % (self.program, HOSTNAME, HOSTNAME, self.plain and self.plain[0], self.port))


# A filter of OpenSMTPD (smtpd-filters(7)); each session has one recipient that matters.
REFUSING_FILTER = """#!/usr/bin/python3
import sys
rcpt, known = {}, set()
for line in sys.stdin:
    words = line.rstrip("\\n").split("|", 7)
    if words[:2] == ["config", "ready"]:
        print("register|filter|smtp-in|rcpt-to\\nregister|filter|smtp-in|data\\nregister|filter|smtp-in|commit\\nregister|ready", flush=True)
    if words[0] != "filter":
        continue
    phase, session, token = words[4:7]
    if phase == "rcpt-to":
        rcpt[session] = words[7].split("@")[0]
    to = rcpt.get(session, "")
    word, _, where = to.partition("-")
    answer = None
    if where == {"rcpt-to": "", "data": "data", "commit": "end"}[phase]:
        answer = {"never": "550 5.1.1 not here", "later": "450 4.2.1 come again"}.get(word)
    if (phase, to) == ("rcpt-to", "grey") and to not in known:
        known.add(to)
        answer = "450 4.2.0 greylisted"
    print("filter-result|%s|%s|%s" % (session, token, "reject|" + answer if answer else "proceed"), flush=True)
"""


class OpenSmtpd(Mta):
    name = "opensmtpd"
    daemon = ["/mnt/opensmtpd/usr/sbin/smtpd", "-d", "-f", "/srv/smtpd.conf"]
    as_queue = ["setpriv", "--regid=opensmtpq", "--clear-groups"]  # its package has the program set-gid
    sendmail = [*as_queue, "bash", "-c", 'exec -a sendmail /mnt/opensmtpd/usr/sbin/smtpctl "$@"', "sh"]
    flush = [*as_queue, "/mnt/opensmtpd/usr/sbin/smtpctl", "schedule", "all"]
    queue = [*as_queue, "/mnt/opensmtpd/usr/sbin/smtpctl", "show", "queue"]
    directories = {"/run": "run", "/var/spool": "spool", "/var/lib": "lib"}

    def files(self):
        listens = ""
        if self.listen:
            listens = ('pki {0} cert "/srv/cert.pem"\npki {0} key "/srv/key.pem"\nfilter "refused" proc-exec "/srv/refused"\n'
                       'listen on {1} port {2} tls pki "{0}" hostname "{0}" filter "refused"\n'
                       'listen on {3} port {4} hostname "{0}" filter "refused"\n').format(HOSTNAME, *self.listen, *self.plain)
            self.write("refused", REFUSING_FILTER, 0o755)
        self.write("smtpd.conf", """%slisten on socket
action "out" relay helo "%s" host "smtp://127.0.0.1:%d"
match from any for any action "out"
""" % (listens, HOSTNAME, self.port))
        for name, user, group, mode in (("", "root", "root", 0o711), ("/offline", "root", "opensmtpq", 0o770),
                                        ("/purge", "opensmtpq", "root", 0o700), ("/queue", "opensmtpq", "root", 0o700)):
            self.make("spool/smtpd" + name, user, group, mode)
        self.make("lib/opensmtpd/empty")


ALL = (Postfix, Exim, OpenSmtpd)
