"""Class keywords of supervisors: `class Sub(Supervisor, restart="transient")` sets defaults of its child spec."""

from __future__ import annotations

from typing import Any, ClassVar


class SpecOptions:
    """What `Supervisor` and `DynamicSupervisor` have in common: the keywords of a subclass, kept for `child_spec`."""

    _spec_overrides: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        # A subclass of a subclass inherits the manner of supervision, but not the id: two children need two ids.
        overrides = {name: value for name, value in cls._spec_overrides.items() if name != "id"}
        for name in ("id", "restart", "shutdown", "significant"):
            if name in options:
                overrides[name] = options.pop(name)
        super().__init_subclass__(**options)
        cls._spec_overrides = overrides
