"""What only the notebooks and the book use: data, figures of each lesson, checks, pages."""

from bckd.course.checks import check
from bckd.course.lesson import scenes

__all__ = ["check", "scenes"]
