from __future__ import annotations

import torch
from torch import nn

from bckd.bench.flop import counted, flop_of_a_step, flop_of_an_image
from bckd.bench.options import BenchOptions
from bckd.bench.subject import subject_of


def test_a_convolution_is_counted_as_by_hand() -> None:
    conv = nn.Conv2d(3, 5, kernel_size=3, padding=1)
    flop, output = counted(lambda: conv(torch.zeros(2, 3, 8, 9)))
    assert output.shape == (2, 5, 8, 9)
    assert flop == 2 * (2 * 8 * 9) * 5 * (3 * 3 * 3)


def test_a_step_of_the_coco_recipe() -> None:
    """A backward pass is two forward passes, but for what is frozen at the network's beginning."""
    options = BenchOptions(device="cpu", height=128, width=160, teacher="coco-r18")
    subject = subject_of("coco-r18", options)
    flop = flop_of_a_step(subject)
    assert 1.5 * flop.forward < flop.backward < 2 * flop.forward
    assert flop.teacher == flop.forward == flop_of_an_image(subject)
    assert flop.step == 2 * flop.forward + flop.backward
