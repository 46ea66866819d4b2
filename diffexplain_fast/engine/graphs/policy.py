"""When a call is recorded and when it is replayed."""

from collections.abc import Callable, Hashable

import torch

from diffexplain_fast.engine.graphs.kernel_settings import kernel_settings
from diffexplain_fast.engine.graphs.recorder import CudaRecorder, Recorder
from diffexplain_fast.engine.graphs.recording import Agreement, Recording
from diffexplain_fast.engine.search import AlgorithmSearch
from diffexplain_fast.errors import NonFiniteError, wrong_value

NO_CALL = "no call yet"


class Graphs:
    """Decides which calls are recorded and replayed: the second of two calls of one kind is recorded, once.

    Only one recording is held at a time, because it holds the memory of a whole call.

    Args:
        wanted: True, False, or "auto" for the calls that can be recorded.
        recorder: the class that records.

    Attributes:
        state: text that says what the last call did, and why.
        agreement: result of the last recording's trial, whether the recording is used or not; None before.
    """

    def __init__(self, wanted: bool | str = "auto", recorder: type[Recorder] = CudaRecorder) -> None:
        self._wanted, self._recorder = wanted, recorder
        self.state = NO_CALL
        self.clear()

    def clear(self) -> None:
        """Forget everything, because the models changed or memory ran out."""
        self._recording: Recording | None = None
        self.agreement: Agreement | None = None
        self._kind: Hashable = None
        self._failed: dict[Hashable, str] = {}

    def obstacle(self, device: torch.device) -> str:
        """Return why no call on a device is recorded, empty if calls may be recorded."""
        if self._wanted is False:
            return "switched off"
        if device.type not in self._recorder.devices:
            return f"graphs need tensors on a CUDA device, not on {device}"
        return ""

    def recording(
        self, device: torch.device, obstacle: str, kind: Callable[[], Hashable], record: Callable[[Recorder], Recording]
    ) -> Recording | None:
        """Return a recording that a call replays, None if the call runs operation by operation.

        Args:
            device: device of the call's tensors.
            obstacle: why this call cannot be recorded, on this device or at all; empty if it can.
            kind: returns everything that a recording fixes; calls of equal kind differ only in the contents of tensors.
            record: records a call of this kind.

        Raises:
            ValueError: ``wanted`` is True, and this call cannot be recorded.
        """
        if obstacle:
            self._eager(obstacle)
            return None
        this_kind = (kernel_settings(device), kind())
        if this_kind != self._kind:
            self._recording, self.agreement, self._kind = None, None, this_kind
            self.state = "eager: the first call of its kind"
            return None
        if self._recording is None and this_kind not in self._failed:
            try:
                with AlgorithmSearch.on(device):
                    self._recording = self._tried(record(self._recorder(device)))
            except (RuntimeError, NonFiniteError) as problem:  # also when memory runs out
                self._failed[this_kind] = f"recording failed: {str(problem).strip().partition(chr(10))[0]}"
        if self._recording is None:
            self._eager(self._failed[this_kind])
        elif self._recording.busy:
            self.state = "eager: the call before may still go backward through the recording"
        else:
            self.state = "replayed"
            return self._recording
        return None

    def ready(self, device: torch.device, kind: Callable[[], Hashable]) -> Recording | None:
        """Return a recording that can replay a repeated call of a kind now, or None; such a call is never recorded.

        Args:
            device: device of the call's tensors.
            kind: as in ``recording``.
        """
        if self._recording is None or self._recording.busy or (kernel_settings(device), kind()) != self._kind:
            return None
        return self._recording

    def _tried(self, recording: Recording) -> Recording:
        """Return a recording whose replay agrees with the call itself.

        Raises:
            RuntimeError: it does not agree.
        """
        self.agreement = recording.agreement
        for name, compared in zip(("forward", "gradient"), self.agreement, strict=True):
            if not compared.agree:
                raise RuntimeError(f"its replay gave something else than the call itself, the {name} is {compared}")
        return recording

    def _eager(self, obstacle: str) -> None:
        if self._wanted is True:
            raise wrong_value("cuda_graphs", "a call that can be recorded, or 'auto'", obstacle)
        self.state = f"eager: {obstacle}"
