"""Base class of all specs."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from snn_fusion.tables import html_text


class Spec(BaseModel):
    """Frozen data without unknown fields, NaN or inf; a field's docstring is its help text."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False
    )

    def __str__(self) -> str:
        """Return YAML with every field, as `dump_spec` writes it."""
        # PyYAML takes as long to import as everything else here together.
        from snn_fusion.specs.document import to_yaml

        return to_yaml(self.model_dump(mode="json")).rstrip("\n")

    def _repr_html_(self) -> str:
        return html_text(str(self))
