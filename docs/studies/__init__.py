# SPDX-License-Identifier: Apache-2.0
"""Studies: scripts with their results beside them, run from a clone."""
