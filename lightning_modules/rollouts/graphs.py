"""Steps that are captured as CUDA graphs, one for each shape, and replayed."""

from collections.abc import Callable

import torch

Step = Callable[[], None]
Shape = tuple[int, int]


class EveryStep:
    """Steps that are run as they are."""

    def run(self, shape: Shape, make: Callable[[Shape], Step]) -> None:
        """One step of a bucket of this shape, which `make` makes."""
        make(shape)()


class Graphs:
    """The steps of one rollout, by the shapes of their buckets.

    The first step of a shape is run as it is, which makes what is made lazily; the second is
    captured, which takes about as long; all later ones are replayed. So a bucket that serves for
    one step costs nothing more. Graphs do not outlive their rollout: its memory is for the update,
    and the weights that they read are those of the rollout.
    """

    def __init__(self):
        self.steps: dict[Shape, Step] = {}
        self.graphs: dict[Shape, torch.cuda.CUDAGraph] = {}
        self.pool: tuple[int, int] | None = None

    def run(self, shape: Shape, make: Callable[[Shape], Step]) -> None:
        """One step of a bucket of this shape, which `make` makes."""
        if shape not in self.steps:
            self.steps[shape] = make(shape)
            self.steps[shape]()
            return
        if shape not in self.graphs:
            self.graphs[shape] = self._captured(self.steps[shape])
        self.graphs[shape].replay()

    def _captured(self, step: Step) -> torch.cuda.CUDAGraph:
        self.pool = self.pool or torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        # Other threads, such as a tracker's, may use the device meanwhile.
        with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
            step()
        return graph
