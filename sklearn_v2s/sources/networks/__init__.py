# SPDX-License-Identifier: Apache-2.0
"""Networks of source models, one architecture a file."""
