"""A residual network of convolutions (He et al. 2015, arXiv:1512.03385) with frozen batch norms, as detectors take their features from.

Source: transformers 5.24 `modeling_resnet.py`, and `DetrFrozenBatchNorm2d`, which replaces its norms: four buffers a channel, none trained.
"""

from __future__ import annotations

from dataclasses import dataclass

from planner.workload.graph import BYTES, Kernel, Tensor
from planner.workload.writer import Writer

NORM_BUFFERS = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True)
class ResNet:
    """Stages of residual layers behind a stem.

    widths, depths: of the stages · stem: width of the first convolution · bottleneck: three convolutions a layer (1, 3, 1), else two of 3 ·
    early: the first stage halves the image too · reduces_first: the 1 × 1 convolution has the stride, not the 3 × 3 one ·
    trained: else no weight of it is, whatever the method · timm: names as timm gives them.
    """

    path: str
    channels: int
    stem: int
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    bottleneck: bool
    trained: bool
    activation: str = "relu"
    early: bool = False
    reduces_first: bool = False
    timm: bool = False

    def side(self, size: int) -> int:
        """Rows (or columns) of the last stage's output for an image of `size` [pixel]."""
        halvings = 2 + len(self.widths) - 1 + self.early
        for _ in range(halvings):
            size = -(-size // 2)
        return size

    def write(self, w: Writer, x: Tensor) -> Tensor:
        """x: pixels [b, channels, height, width]. The last stage's output."""
        g = w.graph
        stem, pooled = ("conv1", "bn1") if self.timm else ("embedder.embedder.convolution", "embedder.embedder.normalization")
        x = self._layer(w, stem, pooled, x, self.stem, 7, 2)
        x = self._pool(w, x)
        stages = [x]
        for stage, (width, depth) in enumerate(zip(self.widths, self.depths, strict=True)):
            for layer in range(depth):
                stride = 2 if not layer and (stage or self.early) else 1
                x = self._residual(w, stage, layer, x, width, stride)
            stages.append(x)
        g.release(*stages)
        return x

    def _residual(self, w: Writer, stage: int, layer: int, x: Tensor, width: int, stride: int) -> Tensor:
        g, names = w.graph, self._names(stage, layer)
        reduced = width // 4
        if self.bottleneck:
            strides = (stride, 1) if self.reduces_first else (1, stride)
            parts: tuple[tuple[int, int, int], ...] = ((reduced, 1, strides[0]), (reduced, 3, strides[1]), (width, 1, 1))
        else:
            parts = ((width, 3, stride), (width, 3, 1))
        y = x
        for number, (out, kernel, step) in enumerate(parts):
            last = number == len(parts) - 1
            y = self._layer(w, *names[number], y, out, kernel, step, active=not last)
        shortcut = self._layer(w, *names[-1], x, width, 1, stride, active=False) if stride > 1 or x.shape[1] != width else x
        total = Tensor(y.shape, y.dtype, y.storage, y.requires_grad or shortcut.requires_grad)
        moved = (Kernel("elementwise", 2 * y.bytes + shortcut.bytes),)
        g.add_operation("residual", "elementwise", (y, shortcut), (total,), (), moved, (), alias=True)
        g.release(x, shortcut)
        return self._active(w, total)

    def _names(self, stage: int, layer: int) -> list[tuple[str, str]]:
        """Paths of convolution and norm of each part, the shortcut's last."""
        count = 3 if self.bottleneck else 2
        if self.timm:
            prefix = f"layer{stage + 1}.{layer}"
            parts = [(f"{prefix}.conv{i + 1}", f"{prefix}.bn{i + 1}") for i in range(count)]
            return [*parts, (f"{prefix}.downsample.0", f"{prefix}.downsample.1")]
        prefix = f"encoder.stages.{stage}.layers.{layer}"
        paths = [*(f"{prefix}.layer.{i}" for i in range(count)), f"{prefix}.shortcut"]
        return [(f"{path}.convolution", f"{path}.normalization") for path in paths]

    def _layer(
        self, w: Writer, path: str, norm: str, x: Tensor, out: int, kernel: int, stride: int, *, active: bool = True
    ) -> Tensor:
        """Convolution, frozen norm, activation."""
        g = w.graph
        shape = (float(out), x.shape[1], float(kernel), float(kernel))
        make = w.weight if self.trained else w.fixed
        weight = make(f"{self.path}.{path}.weight", shape)
        height, width = (-(-size // stride) for size in x.shape[2:])
        y = g.convolution(x, weight, None, (x.shape[0], out, height, width))
        normed = self._normed(w, f"{self.path}.{norm}", y)
        g.release(y)
        return self._active(w, normed) if active else normed

    def _normed(self, w: Writer, path: str, x: Tensor) -> Tensor:
        """`x · scale + bias` in the wider type of x and the buffers."""
        g = w.graph
        buffers = [w.buffer(f"{path}.{name}", (x.shape[1],)) for name in NORM_BUFFERS]
        wide = max(x.dtype, buffers[0].dtype, key=BYTES.__getitem__)
        for name in ("scale", "shift"):
            y = g.new(x.shape, wide, x.requires_grad, name)
            moved = (Kernel("elementwise", x.bytes + y.bytes),)
            g.add_operation(name, "elementwise", (x,), (y,), (), moved, moved if name == "scale" else (), alias=name == "shift")
            x = y
        return x

    def _active(self, w: Writer, x: Tensor) -> Tensor:
        return w.graph.unary(self.activation, x, save="output" if self.activation == "relu" else "input")

    def _pool(self, w: Writer, x: Tensor) -> Tensor:
        """Maxima of 3 × 3 squares, every second one; keeps its input and the places of the maxima."""
        g = w.graph
        height, width = (-(-size // 2) for size in x.shape[2:])
        y = g.new((*x.shape[:2], height, width), x.dtype, x.requires_grad, "max_pool")
        places = g.new(y.shape, "int64", False, "places")
        moved = (Kernel("elementwise", x.bytes + y.bytes + places.bytes),)
        saved = (x, places) if x.requires_grad else ()
        g.add_operation("max_pool", "elementwise", (x,), (y, places), saved, moved, moved)
        return y
