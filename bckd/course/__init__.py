"""What only the notebooks and the book use: data, figures of each lesson, pages."""
