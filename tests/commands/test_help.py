"""What the command line says of itself: pages no wider than the terminal, and unknown options."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bckd.commands.evaluate import SHORT as EVAL
from bckd.commands.help import Short, columns_of, options_of, shortened
from bckd.commands.main import COMMANDS, main
from bckd.commands.option_names import unknown_option
from bckd.recipes.presets import PRESETS

# Every command, with what it needs before its options; the rest have none.
BEFORE = {"data": ["coco"], "train": ["custom"], "study": ["base"]}
WITHOUT_WORD = ("data", "train", "study", "eval", "export", "predict")
PAGES = [
    [],
    *([name] for name in (*WITHOUT_WORD, "detectors")),
    *(
        [name, *BEFORE.get(name, []), option]
        for name in COMMANDS
        for option in ("--help", "--help-all")
    ),
    *(["train", preset, "--help"] for preset in PRESETS),
    *(["data", word, "--help"] for word in ("check", "convert", "label")),
    ["study", "hypotheses", "--help"],
]


@pytest.fixture
def said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str]]:
    """Calls `bckd` in an empty folder; exit code, and all that is said."""
    monkeypatch.chdir(tmp_path)

    def said(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["bckd", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        out, error = capsys.readouterr()
        assert not list(tmp_path.iterdir())
        return int(caught.value.code or 0), out + error

    return said


@pytest.mark.parametrize("arguments", PAGES, ids=" ".join)
def test_no_page_is_wider_than_the_terminal(
    said: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, text = said(*arguments)
    assert code == 0 and text.strip()
    assert [line for line in text.splitlines() if len(line) > 80] == []


def test_the_short_help_has_an_example_and_is_a_part(
    said: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for columns in ("80", "200"):  # where tyro would set its boxes side by side
        monkeypatch.setenv("COLUMNS", columns)
        short, whole = (said("train", "custom", x)[1] for x in ("--help", "--help-all"))
        assert "For example:\n  bckd train custom --data.root data/custom" in short
        options = options_of(whole)
        names = [name for option in options for name in option.names]
        assert len(names) == len(set(names)) > 100
        assert {"--weights.binary", "--no-compile", "--start", "--data.size.short-side"} <= {*names}
        assert f"lists all {len(options)} options" in short
        assert len(short.splitlines()) < 60 < len(whole.splitlines())
        (rate,) = [x for x in options if x.names == ("--optimisation.learning-rate",)]
        assert rate.text.endswith("with the batch size (default: 0.001)")


def test_what_the_data_choose_has_no_number(said: Callable[..., tuple[int, str]]) -> None:
    small, coco = (
        " ".join(said("train", preset, "--help")[1].split())
        for preset in ("custom-small", "coco-r50")
    )
    assert small.count("(default: chosen by the data)") == 3  # steps, and the sides
    assert "chosen by the data" not in coco and "(default: 800)" in coco


def test_a_command_offers_no_option_that_it_does_not_use(
    said: Callable[..., tuple[int, str]],
) -> None:
    for command in ("eval", "report", "export", "protocols"):
        text = said(command, "--help-all")[1]
        assert "--data.root" in text and "--data.first-val" in text
        for unused in ("train", "flip", "augment", "unreadable", "canvases", "cache", "prefetch"):
            assert f"--data.{unused}" not in text and f"--data.{unused}-" not in text
    assert "--data.size" not in said("protocols", "--help-all")[1]
    assert "--data.size.short-side" in said("eval", "--help-all")[1]


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("train custom --lr .1", "here it is --optimisation.learning-rate"),
        ("train custom --imgsz 320", "here it is --data.size.short-side with --data.size.long"),
        ("train custom --batch 4", "here it is --batch-size"),
        ("train custom --name x", "here it is --out"),
        ("train custom --project x", "here it is --out"),
        ("train custom --work-dir x", "here it is --out"),
        ("train custom --data x", "here it is --data.root"),
        ("train custom --weights x", "here it is --start (what the student starts from) or --tea"),
        ("train custom --load-from x", "here it is --start"),
        ("train custom --cfg x", "here it is the preset after the command; `bckd train` lists"),
        ("train custom --resume-from x", "here it is --resume, with the --out of the run"),
        ("train custom --workers 2", "did you mean --data.workers?"),
        ("train custom --num_workers 2", "here it is --data.workers"),
        ("train custom --conf .3", "here it is --model.postprocess.score-threshold"),
        ("train custom --iou .6", "here it is --model.postprocess.nms-iou"),
        ("train custom --amp", "here it is --precision"),
        ("train custom --data.rot x", "did you mean --data.root?"),
        ("train custom --stepz=3", "did you mean --steps?"),
        ("train custom --backbone resnet18", "did you mean --model.backbone?"),
        ("train custom --colour red", "is unknown; `bckd train custom --help-all` lists them"),
        ("predict nanodet_m x --conf .3", "here it is --threshold"),
        ("predict nanodet_m x --imgsz 3", "here it is not set: images come at the size"),
        ("predict nanodet_m --source x", "here it is the words after the run"),
        ("predict nanodet_m a.jpg --out x y.jpg", "'y.jpg' is no option, and one word too many"),
        ("predict nanodet_m", "needs images behind it"),
        ("export nanodet_m --weights x", "here it is the word after the command"),
        ("trian", "command 'trian' is unknown; did you mean train? `bckd` lists all"),
        ("train custmo", "preset 'custmo' is unknown; did you mean custom? `bckd train` lists"),
        ("study bsae", "study 'bsae' is unknown; did you mean base? `bckd study` lists all"),
        ("eval nanodet", "nanodet does not exist; did you mean nanodet_m? expected a run's"),
        ("bench scenez", "preset 'scenez' is unknown; did you mean scenes"),
    ],
)
def test_what_may_have_been_meant(
    said: Callable[..., tuple[int, str]], words: str, meant: str
) -> None:
    code, text = said(*words.split())
    assert code == 2
    assert len(text.splitlines()) == 1 and meant in text


def test_answers_are_options_of_the_command() -> None:
    """--lr is answered where there is a learning rate, and nowhere else."""
    assert "here it is" not in unknown_option("--lr", ["--out"], "predict x")
    assert "here it is --out" in unknown_option("--work_dir=x", ["--out"], "demo")


def test_every_option_of_a_short_help_is_one(
    said: Callable[..., tuple[int, str]],
) -> None:
    assert isinstance(EVAL, Short)
    text = said("eval", "--help")[1]
    assert all(f"  {name}" in text for name in EVAL.options)


def test_columns_of_letters() -> None:
    assert [columns_of(x) for x in ("abc", "ねこ", "e\u0301")] == [3, 4, 1]
    assert shortened("abcdefgh", 6) == "...fgh"
    assert columns_of(shortened("ねこねこねこ.jpg", 10)) <= 10
