"""What every optimizer says of itself: what it remembers per parameter, its scratch during the step, the bytes, kernels and products of the step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from planner.errors import PlanError
from planner.words import nearest
from planner.workload.graph import BYTES, Kernel, Parameter

BLOCKWISE = 256
SMALL = 4096
PAGED = 100_000
TENSORS_PER_LAUNCH = 64


class Trained(NamedTuple):
    """A trained parameter, how often it occurs, and where it stands: embedding, block or head."""

    parameter: Parameter
    times: float = 1.0
    place: str = "block"


@dataclass(frozen=True)
class Task:
    """What the optimizer updates.

    trained: the parameters · master: type of the values that it works on, "" for each parameter's own ·
    fused: whether the stack runs AdamW in one kernel · wide_embeddings: 8-bit states of embeddings stay in 32 bits (transformers' Trainer) ·
    hidden, heads: of the model, for blocks of Adam-mini · product: type of fp32 matrix products (fp32 or tf32) ·
    rank, every: of low-rank and preconditioned optimizers, None for the implementation's default ·
    single: torch updates one tensor after the other (its default on a processor) · operators: the update is written out in single
    operators of a graph, tensor after tensor (TensorFlow 1).
    """

    trained: Sequence[Trained]
    master: str = ""
    fused: bool = False
    wide_embeddings: bool = False
    hidden: int = 1
    heads: int = 1
    product: str = "fp32"
    rank: int | None = None
    every: int | None = None
    single: bool = False
    operators: bool = False

    def dtype(self, p: Parameter) -> str:
        """Type of the values that the optimizer works on."""
        return self.master or p.dtype

    def size(self, p: Parameter) -> float:
        """Bytes of one parameter's values [bytes]."""
        return p.numel * BYTES[self.dtype(p)]

    @property
    def bytes(self) -> float:
        """Bytes of all values [bytes]."""
        return sum(self.size(t.parameter) * t.times for t in self.trained)

    @property
    def tensors(self) -> float:
        return sum(t.times for t in self.trained)

    @property
    def widest(self) -> float:
        """Bytes of the largest tensor's values [bytes]."""
        return max((self.size(t.parameter) for t in self.trained), default=0.0)

    def of(self, trained: Iterable[Trained]) -> Task:
        """The same for a part of the parameters."""
        return replace(self, trained=tuple(trained))


class Decomposition(NamedTuple):
    """Dense eigendecomposition (`eigh`) or orthogonalisation (`qr`) or singular values (`svd`) of a rows × columns matrix, so many times a step."""

    kind: str
    rows: float
    columns: float
    times: float


@dataclass(frozen=True)
class Step:
    """One optimizer step.

    states: name to bytes · temporaries: peak scratch during the step [bytes] · moved: DRAM traffic [bytes] · kernels: launches ·
    products: matrix products with how often a step runs them · decompositions: the same for factorisations ·
    paged: bytes of states in managed memory, which the driver moves to the host when the device is full; they are
    no part of `states` · gradients: further forward and backward passes of one micro step, on average · name: of the optimizer,
    by which a calibration knows its step.
    """

    states: Mapping[str, float]
    temporaries: float
    moved: float
    kernels: float
    products: tuple[tuple[Kernel, float], ...] = ()
    decompositions: tuple[Decomposition, ...] = ()
    paged: Mapping[str, float] = field(default_factory=dict)
    gradients: float = 0.0
    name: str = ""

    def share(self, part: float) -> Step:
        """The step of one rank that owns this part of all states; launches stay as they are."""
        return replace(
            self,
            states={name: size * part for name, size in self.states.items()},
            temporaries=self.temporaries * part,
            moved=self.moved * part,
            products=tuple((kernel, times * part) for kernel, times in self.products),
            decompositions=tuple(d._replace(times=d.times * part) for d in self.decompositions),
            paged={name: size * part for name, size in self.paged.items()},
        )

    def beside(self, other: Step) -> Step:
        """Both one after the other on different parameters."""
        names = dict.fromkeys((*self.states, *other.states))
        pages = dict.fromkeys((*self.paged, *other.paged))
        return Step(
            {name: self.states.get(name, 0.0) + other.states.get(name, 0.0) for name in names},
            max(self.temporaries, other.temporaries),
            self.moved + other.moved,
            self.kernels + other.kernels,
            self.products + other.products,
            self.decompositions + other.decompositions,
            {name: self.paged.get(name, 0.0) + other.paged.get(name, 0.0) for name in pages},
            self.gradients + other.gradients,
        )


Stepper = Callable[[Task], Step]


@dataclass(frozen=True)
class Optimizer:
    """A registered optimizer. options: which of the run's optimizer options it reads."""

    name: str
    label: str
    help: str
    reference: str
    step: Stepper
    options: tuple[str, ...] = ()


OPTIMIZERS: dict[str, Optimizer] = {}


def register(
    name: str, label: str, help_text: str, reference: str, options: tuple[str, ...] = ()
) -> Callable[[Stepper], Stepper]:
    """Add an optimizer under `name`; its function gets the `Task`."""

    def add(function: Stepper) -> Stepper:
        if name in OPTIMIZERS:
            raise RuntimeError(f"optimizer {name} is registered twice")
        OPTIMIZERS[name] = Optimizer(name, label, help_text, reference, function, options)
        return function

    return add


def find_optimizer(name: str) -> Optimizer:
    """A registered optimizer. Raises `PlanError` for another name."""
    if name not in OPTIMIZERS:
        raise PlanError("optimizer", name, "is not a known optimizer", f"{nearest(name, OPTIMIZERS)}Use one of {', '.join(OPTIMIZERS)}.")
    return OPTIMIZERS[name]


def launches(passes: int, tensors: float) -> float:
    """Launches of `passes` foreach operations over all tensors."""
    return passes * max(1.0, tensors / TENSORS_PER_LAUNCH)


def blockwise(p: Parameter) -> float:
    """8-bit values with one fp32 scale per block of 256 [bytes]; bitsandbytes keeps tensors under 4096 elements in fp32."""
    return p.numel + 4.0 * -(-p.numel // BLOCKWISE) if p.numel >= SMALL else 4.0 * p.numel


def is_matrix(p: Parameter) -> bool:
    """Whether the tensor is a matrix (or a stack of them)."""
    return len(p.shape) >= 2
