"""Records whose fields can be read by name too, so that a row serves as a mapping."""

from dataclasses import fields


class Record:
    """A dataclass whose fields are also items: ``row["effect"]``, ``dict(row)``."""

    def __getitem__(self, name: str) -> object:
        if name not in self.names():
            raise KeyError(name)
        return getattr(self, name)

    @classmethod
    def names(cls) -> list[str]:
        """Return the names of the fields."""
        return [item.name for item in fields(cls)]  # type: ignore[arg-type]

    def keys(self) -> list[str]:
        """Return the names of the fields, so that ``dict(row)`` works."""
        return self.names()
