"""A disk that fills up, with the real daemons: tests/instance/full_disk.py on a file system of its own.

The file system is a tmpfs of 64 MiB in a mount namespace that ends with the test: root makes one, anybody else makes one
within a user namespace and goes back to himself.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest

import harness

SIZE = "64m"
SECONDS_MAX = 900 if harness.INSTRUMENTED else 300


def command(mount_point, argv):
    mount = 'mount -t tmpfs -o size=%s,mode=700 tmpfs "$0" && ' % SIZE
    if os.getuid() == 0:
        return ["unshare", "-m", "sh", "-c", mount + 'exec "$@"', mount_point] + argv
    back = 'exec unshare -U --map-user=%d --map-group=%d "$@"' % (os.getuid(), os.getgid())
    return ["unshare", "-Urm", "sh", "-c", mount + back, mount_point] + argv


class TestFullDisk(unittest.TestCase):
    def test_it_fills_up(self):
        self.run_scenario("fills-up")

    def test_purge(self):
        self.run_scenario("purge")

    def run_scenario(self, name):
        directory = tempfile.mkdtemp(prefix="mailstead-full-")
        try:
            state = directory + "/demo/state"
            os.makedirs(state)
            here = os.path.dirname(os.path.abspath(__file__))
            done = subprocess.run(command(state, [sys.executable, here + "/full_disk.py", directory, name]),
                                  capture_output=True, text=True, timeout=SECONDS_MAX)
            self.assertEqual(done.returncode, 0, done.stdout[-4000:] + done.stderr[-8000:])
            self.assertIn("full disk: passed", done.stdout)
        finally:
            shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    unittest.main()
