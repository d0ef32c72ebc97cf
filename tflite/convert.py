"""Writes a saved Keras model as a TFLite file: apps/convert.py, from any folder."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from apps.convert import main

if __name__ == "__main__":
    sys.exit(main())
