# SPDX-License-Identifier: Apache-2.0
"""What of the Voice2Series paper can be reproduced, and what cannot."""
