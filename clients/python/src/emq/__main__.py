"""`python -m emq work MODULE:APP` does the tasks of an app."""

import sys

from ._command import main

if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        # Before the worker handles signals itself.
        sys.exit(130)
