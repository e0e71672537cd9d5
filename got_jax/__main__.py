"""`python -m got_jax` is the command `got-jax`."""

import sys

from got_jax.cli import main

sys.exit(main())
