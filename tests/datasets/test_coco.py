"""Images of a COCO data set as samples and batches."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from bckd.datasets.annotations import read_annotations
from bckd.datasets.coco import CocoDataset, collate
from bckd.datasets.image_files import repeated, shared
from bckd.image_size import ImageSize
from bckd.normalisation import IMAGENET
from bckd.system.errors import InputError

SIZE = ImageSize(short_side=48, long_side=80, pad_multiple=32)
AS_IT_IS = ImageSize(short_side=64, long_side=96)  # leaves wide.png and flat.png alone


def dataset(root: Path, size: ImageSize = SIZE, **options: object) -> CocoDataset:
    annotations = read_annotations(root / "annotations" / "instances_train.json")
    return CocoDataset(root / "train", annotations, size, **options)


def position(data: CocoDataset, file_name: str) -> int:
    return [image.file_name for image in data.images].index(file_name)


class TestImageSize:
    @pytest.mark.parametrize(
        ("original", "resized"),
        [
            ((480, 640), (800, 1067)),
            ((427, 640), (800, 1199)),
            ((640, 427), (1199, 800)),
            ((612, 612), (800, 800)),
            ((100, 1000), (133, 1333)),
            ((375, 1242), (402, 1333)),
            ((1080, 1920), (750, 1333)),
        ],
    )
    def test_official_sizes(self, original: tuple[int, int], resized: tuple[int, int]) -> None:
        assert ImageSize().resized(*original) == resized

    def test_sides_stay_in_their_limits(self) -> None:
        size = ImageSize(short_side=100, long_side=160)
        for height in range(20, 400, 17):
            for width in range(20, 400, 13):
                low, high = sorted(size.resized(height, width))
                assert low <= 100 and high <= 160
                assert low == 100 or high == 160
                assert low / high == pytest.approx(
                    min(height, width) / max(height, width), abs=0.5 / high + 0.5 / low
                )

    def test_a_hair_keeps_a_pixel(self) -> None:
        assert ImageSize(48, 80).resized(1, 2000) == (1, 80)

    @pytest.mark.parametrize(("side", "padded"), [(1, 32), (32, 32), (33, 64), (800, 800)])
    def test_padding(self, side: int, padded: int) -> None:
        assert ImageSize().padded(side) == padded

    @pytest.mark.parametrize(
        ("sides", "margins"),
        [((48, 72), (12, 24, 12, 24)), ((31, 95), (0, 32, 1, 33)), ((96, 96), (0, 0, 0, 0))],
    )
    def test_margins(self, sides: tuple[int, int], margins: tuple[int, int, int, int]) -> None:
        assert ImageSize(pad_multiple=96, centred=True).margins(*sides) == margins
        assert ImageSize(pad_multiple=96).margins(*sides) == (0, 0, 0, 0)


class TestSample:
    def test_an_image_of_the_right_size_is_the_files(self, custom_root: Path) -> None:
        data = dataset(custom_root, AS_IT_IS)
        sample = data.sample(position(data, "wide.png"), flipped=False)
        expected = np.array(Image.open(custom_root / "train" / "wide.png"))
        assert torch.equal(sample.image.permute(1, 2, 0), torch.tensor(expected))
        assert sample.boxes.tolist() == [[8, 8, 38, 48], [50, 20, 90, 50]]
        assert type(sample.image) is Tensor and type(sample.boxes) is Tensor

    def test_boxes_are_scaled_with_the_image(self, custom_root: Path) -> None:
        data = dataset(custom_root)
        for index, entry in enumerate(data.images):
            sample = data.sample(index, flipped=False)
            height, width = SIZE.resized(entry.height, entry.width)
            assert sample.image.shape == (3, height, width)
            assert sample.original_size == (entry.height, entry.width)
            x, y = width / entry.width, height / entry.height
            expected = data.annotations.objects_of(entry.id).boxes * torch.tensor([x, y, x, y])
            torch.testing.assert_close(sample.boxes, expected)

    def test_resizing_looks_at_the_four_nearest_pixels(self, tmp_path: Path) -> None:
        """Bilinear, as OpenCV's in the official pipeline: what lies between is passed over."""
        pixels = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "image.png")
        data = one_image(tmp_path, "image.png", ImageSize(10, 80))()
        found = data.sample(0, False).image
        assert found.shape == (3, 10, 13)
        at_row, at_column = (np.arange(10) + 0.5) * 3 - 0.5, (np.arange(13) + 0.5) * 40 / 13 - 0.5
        top, left = np.floor(at_row).astype(int), np.floor(at_column).astype(int)
        down, right = (at_row - top)[:, None, None], (at_column - left)[None, :, None]
        corners = [pixels[np.ix_(top + y, left + x)] for y in (0, 1) for x in (0, 1)]
        upper = corners[0] * (1 - right) + corners[1] * right
        lower = corners[2] * (1 - right) + corners[3] * right
        expected = upper * (1 - down) + lower * down
        assert np.abs(found.permute(1, 2, 0).numpy() - expected).max() <= 1

    @pytest.mark.parametrize("size", [SIZE, AS_IT_IS])
    def test_flip_turns_pixels_and_boxes_together(self, custom_root: Path, size: ImageSize) -> None:
        data = dataset(custom_root, size)
        for index in range(len(data)):
            plain, flipped = data.sample(index, False), data.sample(index, True)
            assert (plain.flipped, flipped.flipped) == (False, True)
            assert torch.equal(flipped.image, plain.image.flip(-1))
            width = plain.image.shape[-1]
            back = flipped.boxes[:, [2, 1, 0, 3]] * torch.tensor([-1.0, 1, -1, 1])
            back += torch.tensor([width, 0, width, 0])
            torch.testing.assert_close(back, plain.boxes)
            assert torch.equal(flipped.labels, plain.labels)
            assert torch.equal(flipped.crowd, plain.crowd)

    @pytest.mark.parametrize("flipped", [False, True])
    def test_centred_the_picture_lies_in_black_margins(
        self, custom_root: Path, flipped: bool
    ) -> None:
        size = replace(SIZE, pad_multiple=80)
        plain_data, data = (dataset(custom_root, s) for s in (size, replace(size, centred=True)))
        for index in range(len(data)):
            plain, sample = (x.sample(index, flipped) for x in (plain_data, data))
            left, top, right, bottom = sample.frame
            height, width = plain.image.shape[1:]
            assert (left, top) == ((80 - width) // 2, (80 - height) // 2)
            assert sample.image.shape == (3, 80, 80)
            assert torch.equal(sample.image[:, top:bottom, left:right], plain.image)
            pixels = sample.image.clone()
            pixels[:, top:bottom, left:right] = 0
            assert not pixels.any()
            shifted = plain.boxes + torch.tensor([left, top, left, top])
            torch.testing.assert_close(sample.boxes, shifted)
            assert plain.frame == (0, 0, width, height)

    def test_the_drawn_object_lies_in_its_box(self, custom_root: Path) -> None:
        data = dataset(custom_root, AS_IT_IS)
        sample = data.sample(position(data, "flat.png"), flipped=True)
        bright = sample.image[20 % 3] == 250
        rows, columns = bright.nonzero(as_tuple=True)
        extent = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert sample.boxes[0].tolist() == [int(side) for side in extent]

    def test_depends_on_seed_epoch_and_index_alone(self, custom_root: Path) -> None:
        keys = [(epoch, index) for epoch in range(6) for index in range(5)]
        first, second = (
            dataset(custom_root, flip=0.5, seed=1),
            dataset(custom_root, flip=0.5, seed=1),
        )
        forwards = {key: first[key] for key in keys}
        backwards = {key: second[key] for key in reversed(keys)}
        for key in keys:
            assert torch.equal(forwards[key].image, backwards[key].image)
            assert torch.equal(forwards[key].boxes, backwards[key].boxes)
        other = dataset(custom_root, flip=0.5, seed=2)
        flips = [forwards[key].flipped for key in keys]
        assert flips != [other[key].flipped for key in keys]
        assert flips[:5] != flips[5:10] or flips[5:10] != flips[10:15]
        assert 5 < sum(flips) < 25

    @pytest.mark.parametrize("flip", [0.0, 1.0])
    def test_never_and_always(self, custom_root: Path, flip: float) -> None:
        data = dataset(custom_root, flip=flip)
        assert {data[epoch, 0].flipped for epoch in range(8)} == {bool(flip)}

    def test_cached_images_are_the_same_and_read_once(self, custom_root: Path) -> None:
        plain, cached = dataset(custom_root), dataset(custom_root, cache=True)
        for _ in range(2):
            assert torch.equal(cached[0, 0].image, plain[0, 0].image)
        (custom_root / "train" / plain.images[0].file_name).unlink()
        assert cached[0, 0].image.shape[0] == 3

    def test_one_size(self, custom_root: Path, scenes_root: Path) -> None:
        assert not dataset(custom_root).one_size
        assert dataset(scenes_root).one_size


class TestModes:
    @pytest.mark.parametrize(
        ("mode", "suffix"),
        [
            ("L", "jpg"),
            ("CMYK", "jpg"),
            ("RGB", "jpg"),
            ("RGBA", "png"),
            ("P", "png"),
            ("1", "png"),
        ],
    )
    def test_every_mode_becomes_rgb(self, tmp_path: Path, mode: str, suffix: str) -> None:
        data = one_image(tmp_path, f"image.{suffix}")
        picture = Image.new("RGB", (40, 30), (255, 255, 255)).convert(mode)
        picture.save(tmp_path / f"image.{suffix}")
        pixels = data().pixels(0)
        assert pixels.shape == (3, 30, 40) and pixels.dtype == torch.uint8
        assert (pixels >= 250).all()


def one_image(folder: Path, name: str, size: ImageSize = SIZE) -> Callable[[], CocoDataset]:
    content = {
        "images": [{"id": 1, "file_name": name, "width": 40, "height": 30}],
        "annotations": [],
        "categories": [{"id": 1, "name": "thing"}],
    }
    path = folder / "one.json"
    path.write_text(json.dumps(content))
    return lambda: CocoDataset(folder, read_annotations(path), size)


class TestErrors:
    def error_of(self, action: Callable[[], object], *words: object) -> None:
        with pytest.raises(InputError) as caught:
            action()
        for word in words:
            assert str(word) in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_no_folder(self, custom_root: Path) -> None:
        (custom_root / "train").rename(custom_root / "pictures")
        self.error_of(lambda: dataset(custom_root), custom_root / "train", "does not exist")

    def test_images_are_absent(self, custom_root: Path) -> None:
        folder = custom_root / "train"
        (folder / "cam").mkdir()
        for name in ("wide.png", "tall.png"):
            (folder / name).rename(folder / "cam" / name)
        words = ("instances_train.json: image files that are listed but absent (2): ",)
        places = f"files of such names lie in {folder / 'cam'}: expected file_name relative to"
        self.error_of(lambda: dataset(custom_root), *words, folder / "tall.png", places)
        for file in (folder / "cam").iterdir():
            file.unlink()
        self.error_of(lambda: dataset(custom_root), *words, "; expected file_name relative to")
        Image.new("RGB", (9, 9)).save(folder / "Tall.JPG")
        alike = "names differ by case, spaces or ending (there is 'Tall.JPG'); expected"
        self.error_of(lambda: dataset(custom_root), *words, alike)

    def test_all_files_that_cannot_be_used_are_told_at_once(self, custom_root: Path) -> None:
        folder = custom_root / "train"
        (folder / "wide.png").write_bytes(b"")
        (folder / "tall.png").write_text("<!doctype html>")
        (folder / "flat.png").write_text("version https://git-lfs.github.com/spec/v1")
        Image.fromarray(np.full((70, 90), 3000, np.uint16)).save(folder / "crowd.png")
        (folder / "empty.png").write_text("not pixels")
        what = "instances_train.json: image files that can't be used (5): "
        words = ("wide.png is empty", "tall.png cannot be decoded: it is a web page", "and 2 more")
        self.error_of(lambda: dataset(custom_root), what, *words)
        for name, size in (("wide.png", (96, 64)), ("tall.png", (60, 90))):
            Image.new("RGB", size).save(folder / name)
        words = ("empty.png cannot be decoded: it is no image", "more than 8 bits", "Git LFS")
        self.error_of(lambda: dataset(custom_root), "can't be used (3)", *words)

    @pytest.mark.parametrize(
        "suffix", ["jpg", "png", "gif", "bmp", "tif", "ppm", "webp", "jp2", "tga"]
    )
    def test_an_image_is_cut_short(self, tmp_path: Path, suffix: str) -> None:
        """It is told before any image is drawn, whatever kind of file it is."""
        path = tmp_path / f"image.{suffix}"
        noise = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)
        Image.fromarray(noise).save(path)
        whole = path.read_bytes()
        path.write_bytes(whole + b"what some phones append")
        one_image(tmp_path, path.name)()
        path.write_bytes(whole[: len(whole) // 2])
        self.error_of(one_image(tmp_path, path.name), path, "cannot be decoded")

    def test_pixels_that_cannot_be_decoded_are_told_as_they_come(self, tmp_path: Path) -> None:
        path = tmp_path / "image.png"
        noise = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)
        Image.fromarray(noise).save(path)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content)
        data = one_image(tmp_path, path.name)()
        self.error_of(lambda: data[0, 0], path, "cannot be decoded")

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
    def test_a_pipe_is_not_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "image.png")
        self.error_of(one_image(tmp_path, "image.png"), "image.png is no regular file")

    def test_an_image_is_turned_and_its_annotation_is_not(self, custom_root: Path) -> None:
        path = custom_root / "train" / "wide.png"
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6
        Image.new("RGB", (96, 64)).save(path, exif=exif)
        words = (path, "is 64x96 pixels, turned by its EXIF orientation 6, listed as 96x64")
        self.error_of(lambda: dataset(custom_root), *words)

    def test_an_image_is_of_another_size(self, custom_root: Path) -> None:
        path = custom_root / "train" / "wide.png"
        Image.new("RGB", (64, 96)).save(path)
        words = ("of another size than listed (1)", path, "is 64x96 pixels, listed as 96x64")
        self.error_of(lambda: dataset(custom_root), *words)

    def test_an_image_that_changes_later(self, custom_root: Path) -> None:
        data = dataset(custom_root)
        path = custom_root / "train" / "wide.png"
        Image.new("RGB", (64, 96)).save(path)
        self.error_of(lambda: data[0, 0], path, "is 64x96 pixels", "says 96x64")


class TestDoubles:
    def test_equal_files_whatever_they_are_called(self, custom_root: Path) -> None:
        data = dataset(custom_root)
        assert repeated(data.files) == []
        assert len(shared(data.files, data.files)) == len(data)
        wide, flat = (custom_root / "train" / name for name in ("wide.png", "copy.png"))
        flat.write_bytes(wide.read_bytes())
        copied = replace(data.files[position(data, "wide.png")], path=flat)
        assert repeated([*data.files, copied]) == [(flat, wide)]
        assert shared([copied], data.files) == [(flat, wide)]

    def test_an_equal_mark_is_not_enough(self, custom_root: Path) -> None:
        first, second, *_ = dataset(custom_root).files
        assert repeated([first, replace(second, mark=first.mark)]) == []


class TestSkipEmpty:
    def names(self, root: Path) -> list[str]:
        return [image.file_name for image in dataset(root, skip_empty=True).images]

    def change(self, root: Path, keep: Callable[[dict], bool]) -> None:
        path = root / "annotations" / "instances_train.json"
        content = json.loads(path.read_text())
        content["annotations"] = [row for row in content["annotations"] if keep(row)]
        path.write_text(json.dumps(content))

    def test_an_image_without_boxes_is_left_out(self, custom_root: Path) -> None:
        assert self.names(custom_root) == ["wide.png", "tall.png", "crowd.png", "flat.png"]
        assert len(dataset(custom_root)) == 5

    def test_a_crowd_or_a_flat_box_alone_is_nothing_to_learn(self, custom_root: Path) -> None:
        self.change(custom_root, lambda row: row.get("iscrowd") == 1 or row["bbox"][2] == 0)
        with pytest.raises(InputError, match="instances_train.json: no image has a box"):
            self.names(custom_root)
        assert len(dataset(custom_root)) == 5


class TestCollate:
    def test_padding(self, custom_root: Path) -> None:
        data = dataset(custom_root)
        samples = [data[0, index] for index in range(len(data))]
        batch = collate(samples, SIZE)
        assert batch.images.shape == (5, 3, 96, 96)
        for n, sample in enumerate(samples):
            height, width = sample.image.shape[1:]
            assert torch.equal(batch.pixels[n, :, :height, :width], sample.image)
            expected = IMAGENET.apply(F.to_dtype(sample.image, scale=True))
            assert torch.equal(batch.images[n, :, :height, :width], expected)
            for padded in (batch.pixels, batch.images):
                assert not padded[n, :, height:].any() and not padded[n, :, :, width:].any()
            assert batch.sizes[n].tolist() == [height, width]
            assert batch.padded_sizes[n].tolist() == [SIZE.padded(height), SIZE.padded(width)]
        assert (batch.padded_sizes % 32 == 0).all()

    def test_everything_else_follows(self, custom_root: Path) -> None:
        data = dataset(custom_root, flip=0.5)
        batch = collate([data[2, index] for index in (3, 2, 0)], SIZE)
        assert batch.indices == (3, 2, 0)
        assert batch.file_names == ("crowd.png", "empty.png", "wide.png")
        assert batch.image_ids == (14, 13, 11)
        assert batch.original_sizes.tolist() == [[70, 90], [60, 80], [64, 96]]
        assert batch.frames.tolist() == [[0, 0, 62, 48], [0, 0, 64, 48], [0, 0, 72, 48]]
        assert batch.flipped == tuple(data[2, index].flipped for index in (3, 2, 0))
        truth = batch.ground_truth
        assert truth.labels.tolist() == [[0, 0], [-1, -1], [0, 1]]
        assert truth.crowd.tolist() == [[True, False], [False, False], [False, False]]
        assert truth.objects.tolist() == [[False, True], [False, False], [True, True]]

    def test_images_without_any_box(self, custom_root: Path) -> None:
        data = dataset(custom_root)
        batch = collate([data[0, position(data, "empty.png")]] * 2, SIZE)
        assert batch.ground_truth.boxes.shape == (2, 0, 4)

    def test_another_multiple(self, custom_root: Path) -> None:
        size = replace(SIZE, pad_multiple=1)
        data = dataset(custom_root, size)
        sample = data[0, 0]
        assert torch.equal(collate([sample], size).pixels[0], sample.image)
