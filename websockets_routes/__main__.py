"""``python -m websockets_routes``: the command, without its script."""

import sys

from .cli import main

sys.exit(main())
