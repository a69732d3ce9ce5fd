"""The most memory that tensors hold at once, by their storages."""

import weakref
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _Storages(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what operators return, for as long as it lives; not what is inside a kernel."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.held: int = 0
        self.peak: int = 0
        self._alive: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._count(leaf.untyped_storage())
        return result

    def _count(self, storage: Any) -> None:
        key, n_bytes = storage._cdata, storage.nbytes()
        if key in self._alive:
            return

        def forget(_: object) -> None:
            del self._alive[key]
            self.held -= n_bytes

        self._alive[key] = weakref.ref(storage, forget)
        self.held += n_bytes
        self.peak = max(self.peak, self.held)


def peak_bytes(run: Callable[[], object]) -> int:
    """Of tensors made by `run`."""
    with _Storages() as storages:
        run()
    peak: int = storages.peak
    return peak
