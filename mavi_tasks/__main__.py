"""`python -m mavi_tasks` is `mavi`."""

import sys

from mavi_tasks.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
