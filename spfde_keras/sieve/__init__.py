"""Data sieving: train on the samples that are still hard, and set the others aside."""

from spfde_keras.sieve.data_sieve import DataSieve
from spfde_keras.sieve.epochs import SieveEpochs
from spfde_keras.sieve.identified import Identified
from spfde_keras.sieve.inputs import with_ids
from spfde_keras.sieve.mapping import without_ids
from spfde_keras.sieve.policies import SievePolicy
from spfde_keras.sieve.records import tfds_split, tfrecord_files
from spfde_keras.sieve.sources import Source

__all__ = [
    "DataSieve",
    "Identified",
    "SieveEpochs",
    "SievePolicy",
    "Source",
    "tfds_split",
    "tfrecord_files",
    "with_ids",
    "without_ids",
]
