"""How images are brought to size: part of what a detector needs to see as it was trained to."""

from __future__ import annotations

from dataclasses import dataclass

from bckd.system.values import Pixels, Side


@dataclass(frozen=True)
class ImageSize:
    """How images are brought to size; the defaults are the official COCO recipe's."""

    short_side: Side = 800  # pixels of the shorter side, unless the longer would exceed its limit
    long_side: Side = 1333  # limit of the longer side, in pixels
    pad_multiple: Pixels = 32  # each side is zero-padded to a multiple of this
    centred: bool = False  # pad with black on all sides (NanoDet), not on the right and bottom

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Height and width after resizing, aspect ratio kept (mmcv's rounding)."""
        scale = min(self.long_side / max(height, width), self.short_side / min(height, width))
        return max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)

    def padded(self, side: int) -> int:
        """A side in pixels, rounded up to the padding multiple."""
        return -(-side // self.pad_multiple) * self.pad_multiple

    def canvas(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of an image of that size once resized and padded."""
        resized_height, resized_width = self.resized(height, width)
        return self.padded(resized_height), self.padded(resized_width)

    def largest_canvas(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of a canvas for every image that is wide, or not, as one of that size.

        Wide is wider than high.
        """
        short, long = self.padded(self.short_side), self.padded(self.long_side)
        return (short, long) if width > height else (long, short)

    def margins(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Black pixels left, above, right and below of a resized image; none unless centred."""
        if not self.centred:
            return 0, 0, 0, 0
        across, down = self.padded(width) - width, self.padded(height) - height
        return across // 2, down // 2, across - across // 2, down - down // 2
