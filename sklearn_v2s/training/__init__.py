# SPDX-License-Identifier: Apache-2.0
"""Training of perturbations by gradient: the skorch net, its callbacks, checkpoints."""
