"""A slice of death.py: kill -9 at random moments under load. MAILSTEAD_SEED gives the same choices again."""

import os
import random
import unittest

import death
import harness

SEED = int(os.environ.get("MAILSTEAD_SEED", random.SystemRandom().randrange(1 << 32)))
ROUNDS = int(os.environ.get("MAILSTEAD_ROUNDS", "30" if harness.INSTRUMENTED else "60"))


class TestDeath(unittest.TestCase):
    def test_rounds(self):
        print("seed %d, %d rounds" % (SEED, ROUNDS), flush=True)
        death.run(ROUNDS, SEED, ROUNDS // 2)


if __name__ == "__main__":
    unittest.main()
