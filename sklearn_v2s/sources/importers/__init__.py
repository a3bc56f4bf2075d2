# SPDX-License-Identifier: Apache-2.0
"""Published weights of other frameworks, read into the networks here."""
