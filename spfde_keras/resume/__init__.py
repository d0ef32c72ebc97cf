"""Killed runs that go on, whenever they were killed and whatever became of their files."""

from spfde_keras.resume.callback import Resume
from spfde_keras.resume.folder import OwnFolder
from spfde_keras.resume.states import States

__all__ = ["OwnFolder", "Resume", "States"]
