"""Images of any shape cut into tiles of the tower's size, beside a small copy of the whole (AnyRes: Liu et al. 2024, LLaVA-NeXT).

Source: transformers 5.24 `modeling_llava_next.py` (`pack_image_features`, `unpad_image`, `select_best_resolution`).
"""

from __future__ import annotations

from dataclasses import dataclass

from planner.run import Batch
from planner.workload.graph import Tensor
from planner.workload.merging import Pictures, with_images
from planner.workload.projector import Projector
from planner.workload.writer import Writer


@dataclass(frozen=True)
class Tiles(Pictures):
    """Tiles of square images. pinpoints: resolutions (height, width) that images are scaled to, padded, and cut."""

    pinpoints: tuple[tuple[int, int], ...] = ()
    note: str = "Images are squares; the config's grid decides into how many tiles each is cut."

    def resolve(self, batch: Batch) -> Batch:
        batch = with_images(batch)
        return batch.model_copy(update={"image_size": batch.image_size or 2 * self.image[0]})

    def size(self, batch: Batch) -> tuple[int, int]:
        return self.image

    def resolution(self, batch: Batch) -> tuple[int, int]:
        """The pinpoint that keeps most of the image, then wastes least."""
        side = batch.image_size or 2 * self.image[0]

        def fit(point: tuple[int, int]) -> tuple[int, int]:
            kept = min(int(side * min(point[0] / side, point[1] / side)) ** 2, side * side)
            return kept, kept - point[0] * point[1]

        return max(self.pinpoints, key=fit)

    def tiles(self, batch: Batch) -> tuple[int, int]:
        """Rows and columns of tiles of an image."""
        height, width = self.resolution(batch)
        return height // self.image[0], width // self.image[0]

    def sequences(self, batch: Batch) -> int:
        rows, columns = self.tiles(batch)
        return super().sequences(batch) * (1 + rows * columns)

    def grid_features(self, batch: Batch) -> tuple[int, int]:
        """Rows and columns of features of the tiles, without those that lie in the padding of a square."""
        side = self.image[0] // self.patch[0]
        rows, columns = (side * n for n in self.tiles(batch))
        if columns < rows:
            return rows - 2 * ((rows - columns) // 2), columns
        return rows, columns - 2 * ((columns - rows) // 2)

    def features(self, batch: Batch) -> int:
        rows, columns = self.grid_features(batch)
        return super().features(batch) + rows * (columns + 1)


@dataclass(frozen=True)
class TiledProjector(Projector):
    """Projected tiles put together row by row, each row ended by a learned feature, behind the small copy's."""

    newline: str = ""

    def write(self, w: Writer, x: Tensor) -> Tensor:
        g, front, given = w.graph, w.arch.front, w.s.given
        assert isinstance(front, Tiles)
        y = super().write(w, x)
        images, each = Pictures.sequences(front, given), Pictures.features(front, given)
        rows, columns = front.grid_features(given)
        small, tiles = g.split(y, [(images, each, self.width), (images, y.numel / self.width / images - each, self.width)])
        picture = g.copy(tiles, name="arrange")
        parts = [picture, w.weight(self.newline, (self.width,))]
        lined = g.cat(parts, (images, rows * (columns + 1), self.width), name="newlines")
        return g.cat([small, lined], (images, each + rows * (columns + 1), self.width), name="pack")
