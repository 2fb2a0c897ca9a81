"""The runner of these tests itself: whatever becomes of a class is counted, and nothing is left of it."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
CLASSES = '''
import os, signal, subprocess, tempfile, time, unittest

def start_sleeper():
    os.makedirs(tempfile.mkdtemp() + "/some/thing")
    subprocess.Popen(["sh", "-c", "sleep 1234.%s & sleep 1234.%s" % ((os.environ["MARK"],) * 2)], start_new_session=True)

class Passes(unittest.TestCase):
    def test_one(self): tempfile.mkdtemp()
    def test_two(self): pass
class Fails(unittest.TestCase):
    def test_one(self): self.fail("on purpose")
    def test_two(self): pass
class FailsAtTheEnd(unittest.TestCase):
    @classmethod
    def tearDownClass(cls): raise AssertionError("at the end")
    def test_one(self): pass
class Dies(unittest.TestCase):
    def test_one(self): print("last words")
    def test_two(self): os.kill(os.getpid(), signal.SIGSEGV)
class Leaves(unittest.TestCase):
    def test_one(self): os._exit(0)
class LeavesSomething(unittest.TestCase):
    def test_one(self): start_sleeper()
class Hangs(unittest.TestCase):
    def test_one(self):
        start_sleeper()
        time.sleep(600)
'''


class TestRunner(unittest.TestCase):
    def setUp(self):
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.temporary = place.name + "/tmp"
        os.mkdir(self.temporary)
        with open(place.name + "/classes.py", "w", encoding="ascii") as f:
            f.write(CLASSES)
        self.mark = "%d" % time.time_ns()
        self.environment = dict(os.environ, PYTHONPATH=place.name, TMPDIR=self.temporary, MARK=self.mark, INSTANCE_JOBS="4",
                                INSTANCE_SECONDS="5")

    def start(self, *names):
        return subprocess.Popen([sys.executable, HERE + "/run.py", *names], env=self.environment, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # a shell's job behind & ignores it

    def sleepers(self):
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open("/proc/%s/cmdline" % pid, "rb") as f:
                    if b"1234." + self.mark.encode() in f.read():
                        found.append(pid)
            except OSError:
                continue
        return found

    def wait_for_sleepers(self):
        deadline = time.time() + 30
        while len(self.sleepers()) < 2 and time.time() < deadline:
            time.sleep(0.05)
        self.assertGreaterEqual(len(self.sleepers()), 2)

    def test_every_end_is_counted(self):
        p = self.start("classes")
        output = p.communicate(timeout=120)[0]
        self.assertEqual(p.returncode, 1, output)
        failed = re.search(r"(?m)^instance: failures in (.*)$", output).group(1).split(", ")
        self.assertEqual(sorted(failed), ["classes." + n for n in (
            "Dies", "Fails", "FailsAtTheEnd", "Hangs", "Leaves", "LeavesSomething")], output)
        # Of Fails one passed; of FailsAtTheEnd and LeavesSomething one passed, and the class failed.
        self.assertEqual(output.splitlines()[-1], "instance: 4 passed, 6 failed", output)
        for words in ("last words", "its process died of signal 11", "left running: sh -c sleep 1234.", "Timeout (0:00:05)"):
            self.assertIn(words, output)
        self.assertEqual(self.sleepers(), [])
        kept = re.findall(r"(?m)^kept: (.*)$", output)
        self.assertEqual(sorted(kept), sorted(self.temporary + "/" + n for n in os.listdir(self.temporary)), output)

    def test_success(self):
        p = self.start("classes.Passes")
        output = p.communicate(timeout=60)[0]
        self.assertEqual((p.returncode, output.splitlines()[-1]), (0, "instance: 2 passed, 0 failed"), output)
        self.assertEqual(os.listdir(self.temporary), [])

    def test_nothing_to_run(self):
        p = self.start("classes.TestNone")
        self.assertEqual(p.communicate(timeout=60)[0].splitlines()[-1], "instance: 0 passed, 1 failed")
        self.assertEqual(p.returncode, 1)

    def test_it_ends_all_when_it_is_ended(self):
        self.environment["INSTANCE_SECONDS"] = "600"
        for how in (signal.SIGINT, signal.SIGTERM):
            p = self.start("classes.Hangs", "classes.Passes")
            self.wait_for_sleepers()
            p.send_signal(how)
            output = p.communicate(timeout=60)[0]
            self.assertEqual(p.returncode, 1)
            self.assertIn("instance: ended before all had run", output)
            self.assertEqual((self.sleepers(), os.listdir(self.temporary)), ([], []), output)

    def test_it_ends_all_when_it_is_killed(self):
        self.environment["INSTANCE_SECONDS"] = "600"
        p = self.start("classes.Hangs", "classes.Passes")
        self.wait_for_sleepers()
        p.kill()
        p.communicate(timeout=60)
        deadline = time.time() + 30
        while (self.sleepers() or os.listdir(self.temporary)) and time.time() < deadline:
            time.sleep(0.05)
        self.assertEqual((self.sleepers(), os.listdir(self.temporary)), ([], []))


if __name__ == "__main__":
    unittest.main()
