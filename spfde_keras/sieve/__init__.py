"""Data sieving: train on the samples that are still hard, and set the others aside."""

from spfde_keras.sieve.data_sieve import DataSieve
from spfde_keras.sieve.epochs import SieveEpochs
from spfde_keras.sieve.identified import Identified
from spfde_keras.sieve.inputs import with_ids
from spfde_keras.sieve.mapping import without_ids
from spfde_keras.sieve.policies import SievePolicy

__all__ = ["DataSieve", "Identified", "SieveEpochs", "SievePolicy", "with_ids", "without_ids"]
