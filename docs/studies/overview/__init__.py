# SPDX-License-Identifier: Apache-2.0
"""The figure of README: a series on its way to a class."""
