"""What developers and operators start by hand. All of it may import the layer."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "layers" / "common"))
