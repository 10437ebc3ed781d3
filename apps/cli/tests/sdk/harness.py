"""What the scripts in this folder share: arguments, checks, and running every `test_` function.

A script is started as `SCRIPT BASE_URL API_KEY MODEL`, prints a line per test and exits with 1 if
one failed. BASE_URL ends in `/v1`.
"""

import inspect
import sys
import traceback

BASE_URL, API_KEY, MODEL = sys.argv[1:4]


def equal(actual, expected):
    assert actual == expected, f"{actual!r} is not {expected!r}"


def one_of(actual, expected):
    assert actual in expected, f"{actual!r} is none of {expected!r}"


def raises(kind, call, **attributes):
    """Returns the exception of `kind` that `call` raises, and compares its attributes."""
    try:
        result = call()
    except kind as error:
        for name, expected in attributes.items():
            actual = getattr(error, name)
            assert actual == expected, f"{name} is {actual!r}, not {expected!r}: {error}"
        return error
    raise AssertionError(f"expected {kind.__name__}, got {result!r}")


def main():
    script = inspect.currentframe().f_back.f_globals
    tests = [(name, it) for name, it in script.items() if name.startswith("test_")]
    failed = 0
    for name, test in tests:
        try:
            test()
            print(f"ok {name}")
        except Exception:
            failed += 1
            print(f"FAILED {name}\n{traceback.format_exc()}")
    print(f"{len(tests) - failed} of {len(tests)} passed")
    sys.exit(1 if failed or not tests else 0)
