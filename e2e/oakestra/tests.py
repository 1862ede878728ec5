#!/usr/bin/env python3
"""All tests of the double: python3 -m e2e.oakestra.tests [NAME...]"""

import sys
import unittest

MODULES = ("schema_test", "scheduler_test", "double_test")


def main() -> int:
    names = sys.argv[1:] or [f"e2e.oakestra.{it}" for it in MODULES]
    result = unittest.TextTestRunner(verbosity=1).run(unittest.defaultTestLoader.loadTestsFromNames(names))
    failed = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - failed} passed, {failed} failed")
    return 0 if result.wasSuccessful() and result.testsRun else 1


if __name__ == "__main__":
    sys.exit(main())
