"""Rewrites models to equal ones that phones run sparse."""

from spfde_keras.export.rewriting.mobile import make_mobile_ready, rewrite_for_phones

__all__ = ["make_mobile_ready", "rewrite_for_phones"]
