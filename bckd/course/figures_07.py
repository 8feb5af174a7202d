"""Figures of the notebook on COCO: the learning rate of a recipe."""

from __future__ import annotations

from matplotlib.figure import Figure

from bckd.recipes import Recipe
from bckd.training.schedule import learning_rate
from bckd.viz.style import colour, figure

DASHES = ("-", "--", ":")


def learning_rates(recipes: dict[str, Recipe], warm_up: int = 1000) -> Figure:
    """The learning rate over a whole run, and over its first steps.

    Args:
        recipes: by name.
        warm_up: steps of the right panel.
    """
    drawing = figure(9.5, 2.9)
    panels = drawing.subplots(1, 2, width_ratios=(1.6, 1))
    for number, (name, recipe) in enumerate(recipes.items()):
        style = {"color": colour(number), "linestyle": DASHES[number % 3], "label": name}
        for axes, last in zip(panels, (recipe.steps, warm_up), strict=True):
            steps = range(0, last, max(last // 2000, 1))
            rates = [
                learning_rate(recipe.optimisation, step, recipe.steps, recipe.batch_size)
                for step in steps
            ]
            axes.plot(steps, rates, linewidth=1.8, **style)
    panels[0].set_yscale("log")
    panels[0].set_title("the whole run (logarithmic scale)", fontsize=9)
    panels[1].set_title("its warm-up (linear scale)", fontsize=9)
    panels[0].set_ylabel("learning rate")
    panels[0].ticklabel_format(axis="x", style="plain")
    for axes in panels:
        axes.set_xlabel("step", fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
    panels[0].legend(fontsize=8)
    return drawing
