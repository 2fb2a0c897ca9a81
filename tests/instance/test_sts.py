"""MTA-STS (RFC 8461): what a domain's policy says of its servers binds, and is remembered."""

import os
import tempfile
import time

import harness
import ports
import receiver
import test_outbound
from policyhost import POLICY, PolicyHost

# How long a policy host is waited for.
WAIT = "10s" if harness.INSTRUMENTED else "4s"


class TestPolicies(test_outbound.OutboundTest):
    """The first server of each domain has a certificate of its name, the second one has not."""

    # Records of these change, and nobody between remembers them.
    CHANGING = ("changed", "unfetched", "gone", "ended", "old", "oldslow")

    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.mkdtemp(prefix="mailstead-sts-")
        ca, issue = receiver.authority(cls.directory)
        cls.https = ports.take()
        names = ["good", "testing", "none", "other", "redirect", "html", "plainer", "long", "missing", "broken", "wildcard",
                 "later", "twice", "lax", "brief", "subject", "noid", "followed", "behind", "bare",
                 "slow", "strict", "unstrict", *cls.CHANGING, "ill", "fair"]
        cls.host = PolicyHost("127.0.0.1", cls.https, receiver.context(issue(*["mta-sts.%s.sts.example" % n for n in names])))
        cls.common = PolicyHost("127.0.0.4", cls.https, receiver.context(issue("mta-sts.common.sts.example", common=True)))
        cls.expired = PolicyHost("127.0.0.5", cls.https, receiver.context(issue("mta-sts.expired.sts.example", expired=True)))
        zone = "a.good IN A %s\nb.good IN A %s\n" % (test_outbound.FIRST, test_outbound.SECOND)
        hosts = {"common": "127.0.0.4", "expired": "127.0.0.5"}
        mx = {"behind": "%s IN MX 10 c.good\n", "bare": "%%s IN A %s\n" % test_outbound.FIRST}
        record = {"noid": "_mta-sts.%s IN TXT \"v=STSv1; not=id;\"\n", "followed": "_mta-sts.%s IN CNAME _mta-sts.good\n"}
        for n in names + ["wrongname", *hosts]:
            zone += mx.get(n, "%s IN MX 10 b.good\n{0} IN MX 20 a.good\n".replace("{0}", n)) % n
            zone += "mta-sts.%s IN A %s\n" % (n, hosts.get(n, "127.0.0.1"))
            zone += record.get(n, "_mta-sts.%%s IN TXT \"v=STSv1; id=%s1;\"\n" % n) % n
        zone += "_mta-sts.twice IN TXT \"v=STSv1; id=second;\"\nc.good IN CNAME a.good\n"
        cls.more_zones = {"sts.example": zone}
        # At the fallback nobody is there.
        cls.more_settings = {"tls.authorities": ca, "sts.port": cls.https, "sts.timeout": WAIT, "transport.fallback": "127.0.0.8@%d" % ports.take()}
        super().setUpClass()
        cls.first.context = receiver.context(issue("a.good.sts.example", "c.good.sts.example", "bare.sts.example"))
        cls.second.context = receiver.context(issue("else.example"))
        cls.issue = staticmethod(issue)

    @classmethod
    def tearDownClass(cls):
        try:
            super().tearDownClass()
        finally:
            cls.host.close()
            cls.common.close()
            cls.expired.close()

    def policy(self, name, mode="enforce", mx=("a.good.sts.example",), age=86400, status=200, kind="text/plain", wait=0, text=None):
        body = text if text is not None else POLICY % (mode, "".join("mx: %s\r\n" % m for m in mx), age)
        self.host.answers["mta-sts.%s.sts.example" % name] = (status, kind, body, wait)

    def server_of(self, name, state="done"):
        """Which of the two got a message for that domain."""
        self.first.reset()
        self.second.reset()
        queue_id = self.submit("x@%s.sts.example" % name)
        self.assertEqual(self.results(queue_id)["x"][0], state)
        return "first" if self.first.messages else "second" if self.second.messages else None, queue_id

    def test_enforced(self):
        """The second server comes first in the list, but is not named, and could not prove its name."""
        self.policy("good", mx=("a.good.sts.example", "b.elsewhere.example"))
        where, queue_id = self.server_of("good")
        self.assertEqual(where, "first")
        said = self.server.run("explain", queue_id).stdout
        self.assertRegex(said, r"sts-policy .*mode=enforce")
        self.assertRegex(said, r"remote-tls .*proof=ca")
        self.assertIn("MTA-STS policy of the domain does not name this server", said)
        # Named, but with a certificate of another name: not in clear either.
        self.policy("wildcard", mx=("*.good.sts.example",))
        where, queue_id = self.server_of("wildcard")
        self.assertEqual(where, "first")
        self.assertFalse([c for s in self.second.sessions for c in s.commands if c.startswith("MAIL")])

    def test_no_fallback(self):
        """A policy that binds leaves no other way, whoever has refused the message; one that does not leaves it."""
        for mode, name, state in (("enforce", "ill", "failed"), ("testing", "fair", "pending")):
            with self.subTest(mode=mode):
                self.policy(name, mode=mode, mx=("a.good.sts.example", "b.good.sts.example"))
                self.first.reset(mail=test_outbound.BLOCKED)
                self.second.reset(greeting=test_outbound.CLOSE)
                queue_id = self.submit("x@%s.sts.example" % name)
                self.assertEqual(self.results(queue_id)["x"][0], state)
                self.assertEqual(len(self.events(queue_id, "fallback")), mode == "testing")

    def test_names(self):
        """The record may be behind a CNAME (3.1); what is proved is the name that the MX record has, not one behind that (4.1), and without MX
        records the domain's own."""
        self.policy("followed")
        self.assertEqual(self.server_of("followed")[0], "first")
        for name, mx in (("behind", "c.good.sts.example"), ("bare", "bare.sts.example")):
            self.policy(name, mx=(mx,))
            where, queue_id = self.server_of(name)
            self.assertEqual(where, "first", name)
            self.assertRegex(self.server.run("explain", queue_id).stdout, r"remote-tls .*proof=ca")
            self.assertEqual(self.first.sessions[0].sni, mx)

    def test_nobody_is_good(self):
        """No server that the policy lets in: the message waits."""
        self.policy("other", mx=("mx.elsewhere.example",))
        where, queue_id = self.server_of("other", "pending")
        self.assertIsNone(where)
        self.assertEqual(self.results(queue_id)["x"], ("pending", "4.7.5"))

    def test_tls_optional(self):
        """RFC 8689 4.2.2: the policy does not hold it back, even when it cannot be looked up; TLS is used all the same."""
        self.policy("lax", mx=("mx.elsewhere.example",))
        self.first.reset()
        self.second.reset()
        queue_id = self.submit("x@lax.sts.example", message=test_outbound.MESSAGE.replace(b"Subject", b"TLS-Required: No\r\nSubject"))
        self.assertEqual(self.results(queue_id)["x"][0], "done")
        (_, _, _, session), = self.second.messages
        self.assertTrue(session.tls)
        self.assertEqual(self.server_of("lax", "pending")[0], None)

    def test_certificates(self):
        """A name in the subject's common name proves nothing, neither of a server (RFC 8461 4.2) nor of the policy host (3.3); nor does a
        certificate whose time is over."""
        self.policy("subject", mx=("*.good.sts.example",))
        before = self.second.context
        self.second.context = receiver.context(self.issue("b.good.sts.example", common=True))
        try:
            self.assertEqual(self.server_of("subject")[0], "first")
        finally:
            self.second.context = before
        for name, host in (("common", self.common), ("expired", self.expired)):
            host.answers["mta-sts.%s.sts.example" % name] = (200, "text/plain", POLICY % ("enforce", "mx: a.good.sts.example\r\n", 86400), 0)
            self.assertEqual(self.server_of(name)[0], "second")
            self.assertEqual(host.asked, [])
            self.assertRegex(self.server.log(), "sts-fetch-failed domain=%s.sts.example .*certificate" % name)

    def test_not_kept(self):
        """max_age 0: it binds those for whom it was fetched, and is fetched for each."""
        self.policy("brief", age=0)
        for n in (1, 2):
            self.assertEqual(self.server_of("brief")[0], "first")
            self.assertEqual(len([h for h, _ in self.host.asked if h == "mta-sts.brief.sts.example"]), n)
            self.first.end_sessions()

    def test_not_enforced(self):
        for name, mode in (("testing", "testing"), ("none", "none")):
            self.policy(name, mode, mx=("mx.elsewhere.example",))
            self.assertEqual(self.server_of(name)[0], "second", name)

    def test_no_policy(self):
        """What is none binds nobody, and is looked for again only after a while."""
        self.policy("redirect", status=301)
        self.policy("html", kind="text/html")
        self.policy("plainer", kind="text/plainer; charset=utf-8")
        self.policy("long", text=POLICY % ("enforce", "mx: mx.elsewhere.example\r\n", 86400) + "x: " + "y" * 70000 + "\r\n")
        self.policy("broken", text="version: STSv1\r\nmode: enforce\r\nmax_age: 86400\r\n")
        self.policy("noid", mx=("mx.elsewhere.example",))
        self.policy("twice", mx=("mx.elsewhere.example",))
        for name in ("redirect", "html", "plainer", "long", "broken", "missing", "wrongname", "twice", "noid"):
            self.host.asked.clear()
            where, queue_id = self.server_of(name)
            self.assertEqual(where, "second", name)
            asked = len(self.host.asked)
            self.assertEqual(self.server_of(name)[0], "second", name)
            self.assertEqual(len(self.host.asked), asked, name)

    def asked(self, name):
        return len([h for h, _ in self.host.asked if h == "mta-sts.%s.sts.example" % name])

    def test_slow_host(self):
        """A policy host that hangs holds mail back as long as it is waited for. Then there is no policy (RFC 8461 3.3), also for who comes
        after that."""
        self.policy("slow", wait=60)
        for n, least, most in ((1, 3, 30), (2, 0, 3)):
            began = time.monotonic()
            self.assertEqual(self.server_of("slow")[0], "second")
            took = time.monotonic() - began
            self.assertGreaterEqual(took, least, n)
            self.assertLess(took, most * (3 if harness.INSTRUMENTED else 1), n)
            self.assertEqual(self.asked("slow"), 1)
        self.assertRegex(self.server.log(), "sts-fetch-failed domain=slow.sts.example ")

    def test_requiretls(self):
        """RFC 8689 4.2: a policy in force proves the server as well as DANE does; one that is only tried does not."""
        self.policy("strict")
        self.policy("unstrict", mode="testing", mx=("*.good.sts.example",))
        offers = self.first.offers
        try:
            for r in (self.first, self.second):
                r.reset()
                r.offers = offers + ["REQUIRETLS"]
            queue_id = self.submit("x@strict.sts.example", options=["REQUIRETLS"])
            self.assertEqual(self.results(queue_id)["x"], ("done", "2.0.0"))
            said, = [c for s in self.first.sessions for c in s.commands if c.startswith("MAIL")]
            self.assertRegex(said, r"^MAIL FROM:<alice@demo\.test>.* REQUIRETLS( |$)")
            self.assertEqual([r["proof"] for r in self.events(queue_id, "remote-tls")], ["ca"])
            queue_id = self.submit("x@unstrict.sts.example", options=["REQUIRETLS"])
            self.assertEqual(self.results(queue_id)["x"], ("failed", "5.7.10"))
            self.assertEqual((len(self.first.messages), len(self.second.messages)), (1, 0))
        finally:
            for r in (self.first, self.second):
                r.offers = offers

    def keep(self, name, **changes):
        """Changes what is kept of a policy (smtpd/sts_cache.h)."""
        path = "%s/state/sts/%s.sts.example" % (self.server.demo, name)
        with open(path, encoding="ascii") as f:
            head, text = f.read().split("\n", 1)
        word = dict(zip(("form", "id", "fetched", "expires"), head.split()))
        word.update((k, int(word[k]) + v) for k, v in changes.items())
        with open(path, "w", encoding="ascii") as f:
            f.write(" ".join(str(w) for w in word.values()) + "\n" + text)

    def test_changes(self):
        """Another id: fetched again. No record, or no policy to be had: the one that is kept binds, until its own end. A day old: fetched
        again, and followed meanwhile."""
        for name in self.CHANGING:
            self.policy(name)
            self.assertEqual(self.server_of(name)[0], "first", name)
            self.assertEqual(self.asked(name), 1, name)
        self.assertEqual(self.server.stop(), [])
        for name in ("old", "oldslow"):
            self.keep(name, fetched=-86401)
        self.keep("ended", expires=-86400)
        zone = self.zones["sts.example"]
        for name, record in (("changed", "another"), ("unfetched", "another"), ("gone", None), ("ended", None)):
            line = "_mta-sts.%s IN TXT \"v=STSv1; id=%s1;\"\n" % (name, name)
            self.assertIn(line, zone)
            zone = zone.replace(line, line.replace(name + "1", record) if record else "")
        self.server.dns.change({"sts.example": zone})
        for name in self.CHANGING:
            self.policy(name, mode="none", mx=())
        self.policy("unfetched", status=404)
        self.policy("oldslow", mode="none", mx=(), wait=60)
        self.host.asked.clear()
        self.server.start()
        # The message that the known policy is told, and how often the host is asked; then the next one.
        for name, first, second, asked in (("changed", "second", "second", 1), ("unfetched", "first", "first", 1),
                                           ("gone", "first", "first", 0), ("ended", "second", "second", 0),
                                           ("old", "first", "second", 1), ("oldslow", "first", "first", 1)):
            with self.subTest(name=name):
                began = time.monotonic()
                self.assertEqual(self.server_of(name)[0], first)
                harness.wait_for(lambda: self.asked(name) == asked)
                if name == "old":
                    harness.wait_for(lambda: "sts-fetched domain=old.sts.example id=old1 mode=none" in self.server.log())
                self.assertEqual(self.server_of(name)[0], second)
                self.assertEqual(self.asked(name), asked)
                # Who follows a known policy does not wait for a host that hangs.
                if name == "oldslow" and not harness.INSTRUMENTED:
                    self.assertLess(time.monotonic() - began, 3.5)

    def test_remembered(self):
        """A policy binds as long as it says, when its host is gone, and when the role or the server was started again."""
        self.server.allow(r"(role-ended|restart-later).*sts|ipc|edge")
        self.policy("later")
        self.assertEqual(self.server_of("later")[0], "first")
        asked = len(self.host.asked)
        self.host.answers.pop("mta-sts.later.sts.example")
        for pid in self.server.processes()["smtpd-sts"]:
            os.kill(pid, 9)
        harness.wait_for(lambda: self.server.processes().get("smtpd-sts"))
        time.sleep(0.5)
        self.assertEqual(self.server_of("later")[0], "first")
        self.assertEqual(len(self.host.asked), asked)
        kept = os.listdir(self.server.demo + "/state/sts")
        self.assertIn("later.sts.example", kept)


if __name__ == "__main__":
    import unittest
    unittest.main()
