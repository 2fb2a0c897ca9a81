"""A slice of soak.py: 64 client processes, most of them on one account."""

import os
import unittest

import harness
import soak


class TestSoak(unittest.TestCase):
    def test_together(self):
        soak.run(float(os.environ.get("SOAK_SECONDS", "30" if harness.INSTRUMENTED else "15")))


if __name__ == "__main__":
    unittest.main()
