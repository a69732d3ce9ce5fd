"""`python -m sweeper`, the same as the command `sweeper`."""

import sys
from pathlib import Path

if __name__ == "__main__":
    # Python puts the working folder first on the import path, where a user's `queue.py` would be
    # taken for the library, here and in Ray's workers, which get the same path.
    if not sys.flags.safe_path and Path(sys.path[0]) != Path(__file__).parents[1]:
        del sys.path[0]
    from sweeper.cli import main

    main()
