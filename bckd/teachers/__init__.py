"""The teacher: matched to its student, tried before it teaches, asked once or at each step."""
