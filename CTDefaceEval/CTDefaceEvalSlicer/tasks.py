"""What runs in the background of the CTDefaceEval panel, one at a time."""

import enum


class Task(enum.Enum):
    SCALE = "scale"
    SWEEP = "sweep"
    ATTACK = "attack"
    COHORT = "cohort"
