"""Training any task: the engine, its settings, tasks, losses, checkpoints. It knows models and data, and no recipe."""

from saccade.train.engine import launch, main_process, train
from saccade.train.evaluate import Evaluation, evaluate
from saccade.train.loop import Interrupted, TrainingError, checkpoint_path
from saccade.train.losses import LOSSES, loss_function
from saccade.train.reporter import Reporter
from saccade.train.schedule import learning_rate
from saccade.train.settings import TrainSettings
from saccade.train.tasks import TASKS, Classification, Metrics, Score, Task, TaskConfig

__all__ = [
    "LOSSES",
    "TASKS",
    "Classification",
    "Evaluation",
    "Interrupted",
    "Metrics",
    "Reporter",
    "Score",
    "Task",
    "TaskConfig",
    "TrainSettings",
    "TrainingError",
    "checkpoint_path",
    "evaluate",
    "launch",
    "learning_rate",
    "loss_function",
    "main_process",
    "train",
]
