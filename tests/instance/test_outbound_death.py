"""A slice of outbound_death.py (`make outbound-death`). MAILSTEAD_SEED gives the same choices again."""

import os
import random
import unittest

import harness
import outbound_death

SEED = int(os.environ.get("MAILSTEAD_SEED", random.SystemRandom().randrange(1 << 32)))
ROUNDS = int(os.environ.get("MAILSTEAD_ROUNDS", "8" if harness.INSTRUMENTED else "16"))


class TestDeath(unittest.TestCase):
    def test_rounds(self):
        print("seed %d, %d rounds" % (SEED, ROUNDS), flush=True)
        outbound_death.run(ROUNDS, SEED)


if __name__ == "__main__":
    unittest.main()
