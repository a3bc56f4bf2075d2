# SPDX-License-Identifier: Apache-2.0
"""``python -m sklearn_v2s``: the command line."""

import sys

from sklearn_v2s.cli import main

if __name__ == "__main__":
    sys.exit(main())
