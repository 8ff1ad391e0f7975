"""Trainings behind the released weights: `python -m training.release NAME --data FOLDER`."""
