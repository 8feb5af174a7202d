"""A module of one's own as student or teacher: its forward gives a dense output, no more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from bckd.assigners import AssignmentRules, assign_fcos
from bckd.datasets.scene_drawing import class_names
from bckd.geometry import distances_to_boxes, grid
from bckd.losses.options import LossOptions
from bckd.models.dense import DenseDetector
from bckd.models.detector import Detector
from bckd.models.heads import HEADS
from bckd.models.heads.head import SupervisedTerm
from bckd.models.postprocess import PostProcess
from bckd.models.supervision import supervised_losses
from bckd.recipes import LossWeights, Recipe
from bckd.structures import Assignment, DenseOutput, GroundTruth
from bckd.system.errors import InputError, NonFiniteLossError
from bckd.training.run_log import read_log
from bckd.training.trainer import RunResult, train
from bckd.zoo.checkpoints import load_detector, load_module
from bckd.zoo.unfinished import STUDENT


class Points(nn.Module):
    """A whole detector in twenty lines: a few convolutions, and a point a cell as FCOS has it."""

    def __init__(self, num_classes: int = 6, channels: int = 8) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, channels, 8, stride=8), nn.ReLU())
        self.deeper = nn.Sequential(nn.Conv2d(channels, channels, 3, 2, padding=1), nn.ReLU())
        self.predict = nn.Conv2d(channels, num_classes + 5, 3, padding=1)

    def forward(self, images: Tensor) -> DenseOutput:
        fine = self.stem(images)
        pyramid = (fine, self.deeper(fine))
        rows = [self.predict(x).flatten(2).transpose(1, 2) for x in pyramid]
        logits, sides, quality = torch.cat(rows, dim=1).split_with_sizes([6, 4, 1], dim=-1)
        places = grid([tuple(x.shape[-2:]) for x in pyramid], (8, 16), images.device, offset=0.5)
        distances = sides.clamp(max=4).exp() * places.strides[:, None]
        boxes = distances_to_boxes(places.centres.expand(len(images), -1, -1), distances)
        return DenseOutput(logits, boxes, places, quality=quality[..., 0], features=pyramid)


class Supervised(Points):
    """The same with losses of its own from labels."""

    class supervision:
        terms = {"objects": SupervisedTerm(0.5, "cross-entropy of the classes")}

        @staticmethod
        def assign(
            output: DenseOutput, truth: GroundTruth, padded_sizes: Tensor, rules: AssignmentRules
        ) -> Assignment:
            return assign_fcos(output.locations, truth, output.cls_logits.shape[-1])

        @staticmethod
        def losses(
            output: DenseOutput, assignment: Assignment, options: LossOptions
        ) -> dict[str, Tensor]:
            wanted = nn.functional.one_hot(assignment.labels, 7)[..., :6].float()
            return {
                "objects": nn.functional.binary_cross_entropy_with_logits(output.cls_logits, wanted)
            }


class Weighing(nn.Module):
    """The losses of `Supervised`, with a factor that learns."""

    terms = Supervised.supervision.terms
    assign = staticmethod(Supervised.supervision.assign)

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def losses(
        self, output: DenseOutput, assignment: Assignment, options: LossOptions
    ) -> dict[str, Tensor]:
        plain = Supervised.supervision.losses(output, assignment, options)
        return {name: self.scale * x for name, x in plain.items()}


@pytest.fixture
def recipe(tiny_recipe: Recipe) -> Recipe:
    """Of the family by which the module above learns from labels."""
    return replace(tiny_recipe, model=replace(tiny_recipe.model, head="fcos"))


def made(kind: type[nn.Module] = Points, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return kind()


def run(recipe: Recipe, **modules: nn.Module) -> RunResult:
    return train(recipe, progress=False, **modules)


def terms_of(recipe: Recipe) -> set[str]:
    return set(next(x for x in read_log(recipe.out) if "unweighted" in x)["unweighted"])


class TestStudent:
    def test_it_learns_by_the_family_of_the_recipe(self, recipe: Recipe) -> None:
        student = made()
        before = {name: x.clone() for name, x in student.state_dict().items()}
        result = run(recipe, student=student)
        assert terms_of(recipe) == {"focal", "log_iou", "centerness"}
        assert all(not torch.equal(before[name], x) for name, x in student.state_dict().items())
        assert result.detector.strides == (8, 16) and 0 <= result.metrics.AP <= 1

    def test_its_own_settings_take_what_they_leave_open_from_the_family(
        self, recipe: Recipe
    ) -> None:
        student = made()
        student.settings = PostProcess(nms_iou=None, max_detections=7)
        settings = run(recipe, student=student).detector.settings
        assert settings == PostProcess(nms_iou=HEADS["fcos"].defaults.nms_iou, max_detections=7)

    def test_it_learns_by_losses_of_its_own(self, recipe: Recipe) -> None:
        run(recipe, student=made(Supervised))
        assert terms_of(recipe) == {"objects"}
        line = next(x for x in read_log(recipe.out) if "unweighted" in x)
        assert line["weighted"]["objects"] == pytest.approx(0.5 * line["unweighted"]["objects"])

    def test_it_is_distilled(self, recipe: Recipe, tiny_teacher: Path) -> None:
        taught = replace(recipe, teacher=tiny_teacher, teacher_check=0)
        run(taught, student=made())
        assert {"binary", "iou"} < terms_of(taught)

    def test_what_is_saved_goes_back_into_such_a_module(self, recipe: Recipe) -> None:
        student = made()
        result = run(recipe, student=student)
        assert load_file(recipe.out / STUDENT).keys() == student.state_dict().keys()
        again = made(seed=1)
        loaded = load_module(recipe.out, again)
        images = torch.zeros(1, 3, 64, 64)
        assert torch.allclose(again(images).cls_logits, student.eval()(images).cls_logits)
        assert loaded.detector.class_names == result.detector.class_names
        assert loaded.size == recipe.data.size
        with pytest.raises(InputError, match="weights of a module of your own; load them into it"):
            load_detector(recipe.out)
        with pytest.raises(InputError, match="holds weights of another module"):
            load_module(recipe.out, Points(channels=4))

    def test_a_resumed_run_ends_with_the_same_weights(
        self, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from bckd.training import run as running

        recipe = replace(recipe, steps=6, checkpoint_every=3)
        run(recipe, student=made())
        other = replace(recipe, out=tmp_path / "resumed")
        compute, count = running.compute_terms, []

        def killed(*arguments: object) -> object:
            count.append(1)
            if len(count) == 5:
                raise KeyboardInterrupt
            return compute(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(running, "compute_terms", killed)
            with pytest.raises(KeyboardInterrupt):
                run(other, student=made())
        train(other, resume=True, progress=False, student=made(seed=9))
        whole, resumed = (load_file(x.out / STUDENT) for x in (recipe, other))
        assert all(torch.equal(whole[name], resumed[name]) for name in whole)

    def test_no_dense_output(self, recipe: Recipe) -> None:
        with pytest.raises(InputError, match="student gives Tensor of an image; expected a"):
            run(recipe, student=nn.Conv2d(3, 8, 3))

    @pytest.mark.parametrize(
        ("spoiled", "sentence"),
        [
            (lambda x: {"boxes": x.boxes[..., :3]}, r"student's boxes is \(1, 320, 3\); expected"),
            (lambda x: {"quality": x.quality[:, 1:]}, r"quality is \(1, 319\); .* have 320 locat"),
            (
                lambda x: {"cls_logits": x.cls_logits.half()},
                "cls_logits is of float16; expected f",
            ),
            (lambda x: {"boxes": x.boxes / 0}, "student's boxes is not finite on a black image"),
            (
                lambda x: {"locations": grid([(16, 16), (8, 8)], (16, 32))},
                "has 16 x 16 cells on its level of stride 16, of .* expected 8 x 8",
            ),
        ],
    )
    def test_an_output_that_is_not_what_it_should_be(
        self,
        recipe: Recipe,
        spoiled: Callable[[DenseOutput], dict[str, object]],
        sentence: str,
    ) -> None:
        class Spoiled(Points):
            def forward(self, images: Tensor) -> DenseOutput:
                output = super().forward(images)
                return replace(output, **spoiled(output))

        model = replace(recipe.model, strides=(8, 16, 32, 64))
        for who in ("student", "teacher"):
            modules = {"student": made(), who: made(Spoiled)}
            with pytest.raises(InputError, match=sentence.replace("student's", f"{who}'s")):
                run(replace(recipe, model=model), **modules)
        assert not (recipe.out / "log.jsonl").exists()

    def test_half_precision_of_the_recipe(self, recipe: Recipe) -> None:
        with pytest.raises(InputError, match="cls_logits is of bfloat16; expected float32, under"):
            run(replace(recipe, precision="bf16"), student=made())

    def test_a_module_that_gives_no_numbers_in_training_is_named(self, recipe: Recipe) -> None:
        class Broken(Points):
            def forward(self, images: Tensor) -> DenseOutput:
                output = super().forward(images)
                return replace(output, boxes=output.boxes / 0) if self.training else output

        with pytest.raises(
            NonFiniteLossError, match=r"at step 0 \(.* a Broken, gives as boxes\).*no w"
        ):
            run(recipe, student=made(Broken))

    def test_a_loss_of_its_own_with_the_name_of_a_familys(self, recipe: Recipe) -> None:
        student = made(Supervised)
        student.supervision = SimpleNamespace(terms={"focal": SupervisedTerm(0.5, "mine")})
        with pytest.raises(InputError, match="give focal the weight 0.5, a family .* gives it 1.0"):
            run(recipe, student=student)

    def test_losses_of_its_own_that_are_a_module_learn_with_it(self, recipe: Recipe) -> None:
        """Their parameters are the student's, once; the average of it has its own."""
        student = made()
        student.supervision = Weighing()
        recipe = replace(recipe, optimisation=replace(recipe.optimisation, ema=0.5))
        averaged = run(recipe, student=student).detector
        assert terms_of(recipe) == {"objects"}
        scales = {name: x for name, x in averaged.named_parameters() if "scale" in name}
        assert [*scales] == ["network.supervision.scale"]
        assert averaged.supervision is averaged.network.supervision
        assert (
            len({1.0, scales["network.supervision.scale"].item(), student.supervision.scale.item()})
            == 3
        )

    def test_a_detector_whose_losses_are_a_module(self, recipe: Recipe) -> None:
        class Whole(Points, DenseDetector):
            class_names, strides = class_names("standard"), (8, 16)
            settings = PostProcess(nms_iou=0.6)

            def __init__(self) -> None:
                super().__init__()
                self.supervision = Weighing()

        run(recipe, student=made(Whole))
        assert terms_of(recipe) == {"objects"}

    def test_other_classes(self, recipe: Recipe) -> None:
        student = made()
        student.class_names = ("a", "b", "c", "d", "e", "f")
        with pytest.raises(InputError, match="student has the classes a, b, c and 3 more; expect"):
            run(recipe, student=student)
        student.class_names = ("a", "b")
        with pytest.raises(InputError, match="logits of 6 classes; expected 2"):
            run(recipe, student=student)

    def test_a_start_beside_it(self, recipe: Recipe, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="start is .*; expected none"):
            run(replace(recipe, start=tmp_path), student=made())

    def test_a_loss_that_nothing_weighs(self, recipe: Recipe) -> None:
        student = made(Supervised)
        student.supervision = Supervised.supervision()
        student.supervision.terms = {"boxes": SupervisedTerm(0.5, "mine")}
        with pytest.raises(InputError, match="losses give 'objects'; expected a name that .*boxes"):
            run(recipe, student=student)

    def test_a_family_whose_losses_need_what_it_does_not_give(self, tiny_recipe: Recipe) -> None:
        with pytest.raises(InputError, match="gives no anchors, which GFL learns by"):
            run(tiny_recipe, student=made())


class TestTeacher:
    def test_it_teaches(self, tiny_recipe: Recipe) -> None:
        model = replace(tiny_recipe.model, strides=(8, 16, 32))
        recipe = replace(tiny_recipe, model=model, teacher_check=0)
        teacher = made()
        with pytest.raises(InputError, match="has strides 8, 16 and the student 8, 16, 32"):
            run(recipe, teacher=teacher)

    def test_beside_the_recipes_own(self, recipe: Recipe, tiny_teacher: Path) -> None:
        with pytest.raises(InputError, match="teacher is .*; expected none beside a module that"):
            run(replace(recipe, teacher=tiny_teacher), student=made(), teacher=made(seed=3))

    def test_it_teaches_a_module(self, recipe: Recipe) -> None:
        teacher = made(seed=3)
        before = {name: x.clone() for name, x in teacher.state_dict().items()}
        run(replace(recipe, teacher_check=0), student=made(), teacher=teacher)
        assert {"binary", "iou"} < terms_of(recipe)
        assert all(torch.equal(before[name], x) for name, x in teacher.state_dict().items())

    def test_it_may_not_change_before_a_run_is_resumed(self, recipe: Recipe) -> None:
        recipe = replace(recipe, teacher_check=0)
        run(recipe, student=made(), teacher=made(seed=3))
        with pytest.raises(InputError, match="another content of teacher"):
            train(recipe, True, False, student=made(), teacher=made(seed=4))
        train(recipe, True, False, student=made(), teacher=made(seed=3))

    def test_nothing_is_distilled(self, recipe: Recipe) -> None:
        nothing = replace(recipe, weights=LossWeights(binary=0, iou=0))
        with pytest.raises(InputError, match="teacher is given, but every"):
            run(nothing, student=made(), teacher=made())

    def test_no_better_than_chance(self, recipe: Recipe) -> None:
        with pytest.raises(InputError, match="^teacher is no better than chance"):
            run(replace(recipe, teacher_check=8), student=made(), teacher=made(seed=3))


def test_a_detector_of_ours_is_taken_as_it_is(
    tiny_recipe: Recipe, tiny_detector: Callable[..., Detector]
) -> None:
    student = tiny_detector()
    student.class_names = tuple(SimpleNamespace(n=n).n for n in student.class_names)
    result = run(tiny_recipe, student=student)
    assert result.detector is student


def test_the_family_is_looked_up(recipe: Recipe) -> None:
    output = made()(torch.zeros(1, 3, 64, 64))
    truth = GroundTruth.from_lists([torch.tensor([[8.0, 8, 40, 40]])], [torch.tensor([2])])
    assignment = assign_fcos(output.locations, truth, 6)
    assert set(supervised_losses("fcos", output, assignment)) == {"focal", "log_iou", "centerness"}
