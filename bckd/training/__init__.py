"""Training: from a recipe to a student, with its log, its states and its checks."""
