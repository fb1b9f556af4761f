"""What `drconv train` runs, usable alone: data whose items depend on (seed, epoch, index), and what trains on it."""

from drconv.training.evaluation import ClassAccuracies, EvaluationReport, evaluation_report
from drconv.training.options import TrainingOptions
from drconv.training.recipes import RECIPES
from drconv.training.report import TrainingPlan, TrainingReport
from drconv.training.run import RunFiles, run_training
from drconv.training.tally import Tally
from drconv.training.team import Team, join_team
from drconv.training.trainer import Trainer
from drconv.training.validate import validate

__all__ = [
    "RECIPES",
    "ClassAccuracies",
    "EvaluationReport",
    "RunFiles",
    "Tally",
    "Team",
    "Trainer",
    "TrainingOptions",
    "TrainingPlan",
    "TrainingReport",
    "evaluation_report",
    "join_team",
    "run_training",
    "validate",
]
