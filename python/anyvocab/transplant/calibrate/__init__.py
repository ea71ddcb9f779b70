"""Calibrating the output side of a plan: new rows that the model predicts as often as it should.

See :func:`calibrate` and docs/concepts/calibration.md.
"""

from anyvocab.transplant.calibrate.pipeline import (
    MODES,
    Calibration,
    Mode,
    calibrate,
    calibrate_plan,
    fitted_ids,
)

__all__ = ["MODES", "Calibration", "Mode", "calibrate", "calibrate_plan", "fitted_ids"]
