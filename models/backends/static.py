"""One part at one bucket on a device: fixed buffers, and a launch that was captured once and is replayed.

Shared by the CUDA graph and TensorRT backends. How a launch is captured is passed in: `captured_graph` on a GPU, and
`called_again` where there is none, so that all but the capture itself runs (and is tested) on a CPU.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.backends.parts import BackendUnavailable
from models.inputs import Inputs
from models.predictor import F32

Launch = Callable[[], Tensor]
"""Runs the part on its fixed input buffers, and gives the output buffer."""

Capture = Callable[[Launch], tuple[Tensor, Callable[[], None]]]
"""The fixed output buffer of a launch, and what fills it again."""

WARM_UPS = 3
"""Launches before a capture, as torch's notes on CUDA graphs ask for: libraries allocate and choose kernels in them."""


def require_cuda(backend: str) -> torch.device:
    """The GPU, or `BackendUnavailable` with the reason."""
    if not torch.cuda.is_available():
        raise BackendUnavailable(f"{backend} needs an NVIDIA GPU, and torch {torch.__version__} finds none here")
    return torch.device("cuda", torch.cuda.current_device())


def captured_graph(launch: Launch) -> tuple[Tensor, Callable[[], None]]:
    """Captures a launch as one CUDA graph; a replay is one call to the driver. Needs a GPU."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UPS):
            launch()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = launch()
    return output, graph.replay


def called_again(launch: Launch) -> tuple[Tensor, Callable[[], None]]:
    """No capture: every replay launches anew. Runs on any device."""
    output = launch()

    def again() -> None:
        output.copy_(launch())

    return output, again


class Buffers:
    """Fixed inputs of one part at one bucket: page-locked on the host where that helps, and on the device.

    `fill` copies in stream order; the reader of the output waits for the stream, so the host side is free again by then.
    """

    def __init__(self, examples: Mapping[str, NDArray[Any]], bucket: int, device: torch.device) -> None:
        def empty(array: NDArray[Any], where: torch.device, pinned: bool = False) -> Tensor:
            dtype = torch.from_numpy(array[:0]).dtype
            return torch.zeros((bucket, *array.shape[1:]), dtype=dtype, device=where, pin_memory=pinned)

        on_gpu = device.type == "cuda"
        self._host = {name: empty(array, torch.device("cpu"), on_gpu) for name, array in examples.items()}
        self.inputs = {name: empty(array, device) for name, array in examples.items()}

    def fill(self, given: Inputs) -> None:
        """[bucket, ...] of every input."""
        for name, host in self._host.items():
            host.copy_(torch.from_numpy(given[name]))
            self.inputs[name].copy_(host, non_blocking=True)


class Static:
    """A captured launch and its buffers: arrays in, array out."""

    def __init__(self, buffers: Buffers, launch: Launch, capture: Capture) -> None:
        self._buffers = buffers
        self._launch = launch  # what was captured points into the memory of weights and contexts that only it holds
        with torch.no_grad():
            self._output, self._replay = capture(launch)

    def __call__(self, given: Inputs) -> F32:
        with torch.no_grad():
            self._buffers.fill(given)
            self._replay()
            return np.array(self._output.cpu(), np.float32)  # `cpu` waits; the copy outlives the next replay
