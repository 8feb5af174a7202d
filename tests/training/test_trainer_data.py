"""The data of a run: what it learns from, what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from bckd.datasets.coco import collate
from bckd.evaluation.average_precision import evaluate
from bckd.image_size import ImageSize
from bckd.models.detector import Detector
from bckd.normalisation import Normalisation
from bckd.recipes import Recipe
from bckd.structures import Batch
from bckd.training import run as running
from bckd.training.data import training_data, validation_data
from bckd.training.terms import compute_terms
from tests.training.runs import (
    refusal,
    run,
)


class TestData:
    """What the student sees: the recipe's images as the recipe says, in training as after it."""

    @pytest.fixture
    def seen(self, monkeypatch: pytest.MonkeyPatch) -> list[Batch]:
        """The batches of every step."""
        batches: list[Batch] = []
        compute = running.compute_terms

        def recorded(student: Detector, teaching: object, batch: Batch, *more: object) -> object:
            batches.append(batch)
            return compute(student, teaching, batch, *more)

        monkeypatch.setattr(running, "compute_terms", recorded)
        return batches

    def custom(self, recipe: Recipe, root: Path, **data: object) -> Recipe:
        return replace(recipe, data=replace(recipe.data, root=root, **data), steps=12)

    @pytest.mark.parametrize(("flip", "low", "high"), [(0.0, 0, 0), (0.5, 9, 39), (1.0, 48, 48)])
    def test_images_are_flipped_as_often_as_the_recipe_says(
        self, tiny_recipe: Recipe, seen: list[Batch], flip: float, low: int, high: int
    ) -> None:
        data = replace(tiny_recipe.data, flip=flip)
        run(replace(tiny_recipe, data=data, steps=12))
        assert low <= sum(sum(batch.flipped) for batch in seen) <= high

    def test_the_order_is_shuffled_anew_each_epoch(
        self, tiny_recipe: Recipe, seen: list[Batch]
    ) -> None:
        run(replace(tiny_recipe, steps=12))
        epochs = [sum((b.indices for b in seen[n : n + 6]), ()) for n in (0, 6)]
        assert all(sorted(epoch) == list(range(24)) for epoch in epochs)
        assert epochs[0] != epochs[1]
        assert all(list(epoch) != sorted(epoch) for epoch in epochs)

    def test_images_without_a_box_are_left_out(
        self, tiny_recipe: Recipe, custom_root: Path, seen: list[Batch]
    ) -> None:
        run(self.custom(tiny_recipe, custom_root))
        names = {name for batch in seen for name in batch.file_names}
        assert names == {"wide.png", "tall.png", "crowd.png", "flat.png"}

    def test_images_are_normalised_as_the_model_says(
        self, tiny_recipe: Recipe, custom_root: Path, seen: list[Batch]
    ) -> None:
        normalisation = Normalisation((0.1, 0.2, 0.3), (0.5, 0.6, 0.7), bgr=True)
        model = replace(tiny_recipe.model, normalisation=normalisation)
        size = ImageSize(short_side=64, long_side=96)  # leaves wide.png as it is
        recipe = self.custom(tiny_recipe, custom_root, size=size, flip=0.0)
        run(replace(recipe, model=model))
        found = next(b for b in seen if "wide.png" in b.file_names)
        image = found.images[found.file_names.index("wide.png"), :, :64, :96]
        pixels = np.array(Image.open(custom_root / "train" / "wide.png")) / 255
        expected = (pixels[..., ::-1] - [0.1, 0.2, 0.3]) / [0.5, 0.6, 0.7]
        torch.testing.assert_close(image.permute(1, 2, 0), torch.tensor(expected).float())

    def test_groups_are_the_recipes(
        self, tiny_recipe: Recipe, mixed_root: Path, seen: list[Batch]
    ) -> None:
        """Of two images each: on a canvas of their own, all wide or all tall."""
        size = ImageSize(short_side=48, long_side=96)
        recipe = self.custom(tiny_recipe, mixed_root, val_images="train", size=size)
        run(replace(recipe, images_per_group=2))
        mixed = 0
        for batch in seen:
            pairs = [slice(0, 2), slice(2, 4)]
            for pair in pairs:
                height, width = batch.padded_sizes[pair].amax(dim=0).tolist()
                assert set(batch.canvases[pair]) == {(height, width)}
                sizes = batch.original_sizes[pair]
                assert len(set((sizes[:, 1] > sizes[:, 0]).tolist())) == 1
            mixed += len(set(batch.canvases)) > 1
        assert mixed > 2

    def test_two_canvases_are_padding_alone(
        self, tiny_recipe: Recipe, mixed_root: Path, seen: list[Batch]
    ) -> None:
        """The losses are those of the same images, padded further by hand."""
        size = ImageSize(short_side=48, long_side=160)
        recipe = self.custom(
            tiny_recipe, mixed_root, val_images="train", size=size, two_canvases=True, flip=0.0
        )
        recipe = replace(recipe, images_per_group=2)
        run(recipe)
        assert {tuple(batch.pixels.shape[2:]) for batch in seen} == {(64, 160), (160, 64)}
        assert all(set(b.canvases) == {tuple(b.pixels.shape[2:])} for b in seen)
        training = training_data(recipe.data, recipe.seed)
        first = seen[0]
        plain = collate([training.sample(n, False) for n in first.indices], size)
        missing = [a - b for a, b in zip(first.pixels.shape, plain.pixels.shape, strict=True)]
        pixels = F.pad(plain.pixels, (0, missing[3], 0, missing[2]))
        by_hand = replace(plain, pixels=pixels, canvases=first.canvases)
        assert any(missing), "there is something to pad"
        detector = Detector(recipe.model, training.annotations.class_names)
        ours, theirs = (
            compute_terms(detector, None, batch, recipe, recipe.weights).values
            for batch in (first, by_hand)
        )
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)

    def test_it_is_evaluated_on_the_validation_images(
        self, tiny_recipe: Recipe, custom_root: Path
    ) -> None:
        result = run(self.custom(tiny_recipe, custom_root, val_images="val"))
        expected, _ = evaluate(
            result.detector,
            validation_data(replace(tiny_recipe.data, root=custom_root)),
            1,
            progress=False,
        )
        assert repr(result.metrics) == repr(expected)


class TestSingleCells:
    """A BatchNorm that learns has no statistics of one image that is one cell."""

    @pytest.mark.parametrize("change", [{"batch_size": 1}, {"images_per_group": 1}])
    def test_they_are_refused(self, tiny_recipe: Recipe, change: dict) -> None:
        data = replace(tiny_recipe.data, size=ImageSize(32, 32))
        message = refusal(replace(tiny_recipe, data=data, **change))
        assert "images that are 32 pixels or less" in message and "--model.norm-eval" in message

    @pytest.mark.parametrize("why", ["larger", "more", "fixed"])
    def test_what_is_expected_runs(self, tiny_recipe: Recipe, why: str) -> None:
        side = 64 if why == "larger" else 32
        recipe = replace(
            tiny_recipe,
            data=replace(tiny_recipe.data, size=ImageSize(side, side)),
            model=replace(tiny_recipe.model, norm_eval=why == "fixed"),
            batch_size=2 if why == "more" else 1,
            steps=1,
        )
        run(recipe)
