# SPDX-License-Identifier: Apache-2.0
"""A study: see ``__main__.py``."""
