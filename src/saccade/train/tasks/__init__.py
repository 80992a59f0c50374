"""What a network learns: one file a task. Whatever follows training asks the task, and knows none by name."""

from saccade.plugins import load_files_of
from saccade.train.tasks.base import TASKS, Metrics, Score, Task, TaskConfig
from saccade.train.tasks.classification import Classification

__all__ = ["TASKS", "Classification", "Metrics", "Score", "Task", "TaskConfig"]

load_files_of(__name__)
