"""A sampler on one screen."""

from diffexplain_fast.engine.backend import Record
from diffexplain_fast.engine.memory.plan import Plan
from diffexplain_fast.views import View, Viewed


class ViewedSampler(Viewed):
    """A sampler that shows what decides its images and, after a call, what its plan keeps."""

    def identity(self) -> Record:
        """Return what decides the images and their gradient."""
        raise NotImplementedError

    @property
    def plan(self) -> Plan | None:
        """The plan of the last call, None without one."""
        raise NotImplementedError

    def _view(self) -> View:
        rows: dict[str, object] = {name.replace("_", " "): value for name, value in self.identity().items()}
        try:
            plan = self.plan
        except ValueError as error:  # models that cannot be counted
            plan, rows["plan"] = None, error
        if plan is not None:
            rows |= {"plan": plan.summary, "predicted peak": f"{plan.peak / 2**20:.1f} MiB"}
        return View(type(self).__name__, rows)
