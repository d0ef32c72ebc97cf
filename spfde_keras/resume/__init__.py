"""Killed runs that go on, whenever they were killed and whatever became of their files."""

from spfde_keras.resume.callback import Resume

__all__ = ["Resume"]
