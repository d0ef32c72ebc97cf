"""Compiles the kernels for the TensorFlow that is installed: python -m spfde_keras.kernels.build.

Nothing imports this module, so that it can be run by its name.
"""

from spfde_keras.kernels.compilation import main

if __name__ == "__main__":
    main()
