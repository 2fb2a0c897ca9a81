"""Debian's Dovecot as a program: its imap process over stdin and stdout, on a Maildir or mbox, without a server."""

import imaplib
import os
import shutil
import subprocess
import tempfile

IMAP = "/usr/lib/dovecot/imap"
NOBODY = 65534


class Dovecot:
    """location: of its mail below directory, such as "maildir:%s/Maildir"; the files are there for it to use."""

    def __init__(self, location):
        self.directory = tempfile.mkdtemp(prefix="mailstead-dovecot-")
        self.mail = self.directory + "/mail"
        os.mkdir(self.mail)
        with open(self.directory + "/conf", "w", encoding="ascii") as f:
            f.write("protocols = imap\nbase_dir = %s/run\nlog_path = %s/log\nssl = no\nmail_location = %s\n"
                    "default_internal_user = nobody\nmail_fsync = never\n" %
                    (self.directory, self.directory, location % self.mail))

    def client(self):
        """An imaplib client that is logged in. Dovecot refuses to be root."""
        command = "exec env HOME=%s USER=nobody " % self.mail
        if os.geteuid() == 0:
            subprocess.run(["chown", "-R", str(NOBODY), self.directory], check=True)
            os.chmod(self.directory, 0o755)
            command += "setpriv --reuid=%d --regid=%d --clear-groups " % (NOBODY, NOBODY)
        client = imaplib.IMAP4_stream("%s %s -c %s/conf 2>>%s/errors" % (command, IMAP, self.directory, self.directory))
        assert client.state == "AUTH", client.welcome
        return client

    def take(self, path, name):
        """Moves what lies at path into its mail under that name."""
        os.makedirs(os.path.dirname(self.mail + "/" + name), exist_ok=True)
        shutil.move(path, self.mail + "/" + name)

    def close(self):
        shutil.rmtree(self.directory, ignore_errors=True)
