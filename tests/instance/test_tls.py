"""TLS on whole servers: certificates replaced while running, a key file that is broken, many handshakes at once, tickets off."""

import socket
import ssl
import subprocess
import threading
import unittest

import harness

MESSAGE = "From: sender@example.org\r\nTo: alice@demo.test\r\nSubject: in clear\r\n\r\nbody\r\n"
SERVICES = ("pop3s", "imaps", "submissions")


class TlsTest(harness.InstanceTest):
    def certificate(self, service):
        with self.server.raw(service, tls=True) as c:
            c.line()
            return c.s.getpeercert(True)

    def replace(self, algorithm):
        tls = self.server.demo + "/tls"
        subprocess.run(["openssl", "req", "-x509", "-newkey", *algorithm, "-nodes", "-keyout", tls + "/key.pem", "-out",
                        tls + "/cert.pem", "-days", "2", "-subj", "/CN=new.test"], check=True, capture_output=True)
        self.server.run("reload")

    def served_everywhere(self, old):
        """Every front has the new certificate soon."""
        def all_new():
            try:
                return all(self.certificate(s) != old for s in SERVICES)
            except (ssl.SSLError, OSError):
                return False  # the handshakes of a few milliseconds fail
        harness.wait_for(all_new)

    def test_reload_replaces_certificates(self):
        held = self.server.pop3()
        for algorithm in (["rsa:2048"], ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]):
            old = self.certificate("pop3s")
            self.replace(algorithm)
            self.served_everywhere(old)
        # Connections that are up do not notice.
        self.assertEqual(held.noop(), b"+OK")
        held.quit()

    def test_broken_key_turns_tls_off_until_it_is_mended(self):
        self.server.allow("event=tls-no-certificate")
        with open(self.server.demo + "/tls/key.pem", "w", encoding="ascii") as f:
            f.write("no key\n")
        self.server.run("reload")

        def offered():
            with self.server.raw("smtp") as c:
                c.reply()
                c.send("EHLO x\r\n")
                return b"STARTTLS" in c.reply()
        harness.wait_for(lambda: not offered())
        code, text = self.server.deliver(MESSAGE)
        self.replace(["rsa:2048"])
        self.served_everywhere(None)
        self.assertEqual(code, 250, text)
        harness.wait_for(offered)

    def test_many_handshakes_at_once(self):
        context = harness.client_tls()
        failed = []

        def shake():
            for _ in range(5):
                try:
                    with socket.create_connection(("127.0.0.1", self.server.ports["pop3s"]), timeout=20) as s:
                        with context.wrap_socket(s) as t:
                            if not t.recv(100).startswith(b"+OK"):
                                failed.append("greeting")
                except OSError as e:
                    failed.append(e)
        threads = [threading.Thread(target=shake) for _ in range(20)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(failed, [])


class TicketsOffTest(harness.InstanceTest):
    settings = {"tls.tickets": "no"}

    def test_nothing_resumes(self):
        context = harness.client_tls()
        session = None
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", self.server.ports["pop3s"]), timeout=10) as s:
                with context.wrap_socket(s, session=session) as t:
                    t.recv(100)
                    self.assertFalse(t.session_reused)
                    t.sendall(b"QUIT\r\n")
                    while t.recv(100):
                        pass
                    session = t.session if t.session and t.session.has_ticket else None
        self.assertIsNone(session)


if __name__ == "__main__":
    unittest.main()
