"""Says whether a .tflite file runs sparse on phones: apps/inspect_tflite.py, from any folder."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from apps.inspect_tflite import main

if __name__ == "__main__":
    sys.exit(main())
