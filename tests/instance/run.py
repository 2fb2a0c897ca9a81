#!/usr/bin/python3
"""Runs the instance tests named (test_imap, test_smtp.TestX.test_y) or all, and prints one closing line."""

import glob
import os
import sys
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
# The roles drop to nothing, but the supervisor of a demo may run as anyone; many descriptors are needed for load tests.


class Result(unittest.TextTestResult):
    def startTest(self, test):
        super().startTest(test)
        self.began = time.time()

    def stopTest(self, test):
        super().stopTest(test)
        took = time.time() - self.began
        if took > 5:
            self.stream.writeln("  (%.1f s)" % took)


def main():
    names = sys.argv[1:] or sorted(os.path.basename(p)[:-3] for p in glob.glob(HERE + "/test_*.py"))
    suite = unittest.defaultTestLoader.loadTestsFromNames(names)
    result = unittest.TextTestRunner(verbosity=2, resultclass=Result).run(suite)
    failed = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
    print("instance: %d passed, %d failed" % (max(0, result.testsRun - failed), failed))
    return 1 if failed or result.testsRun == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
