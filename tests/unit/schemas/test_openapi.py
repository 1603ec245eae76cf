"""The description of the gateway is OpenAPI 3.1."""

from __future__ import annotations

from pathlib import Path

import yaml
from openapi_spec_validator import OpenAPIV31SpecValidator

import schemas
from schemas import openapi


def test_it_is_valid() -> None:
    assert [f"{'/'.join(map(str, e.absolute_path))}: {e.message}" for e in OpenAPIV31SpecValidator(openapi.document()).iter_errors()] == []


def test_the_committed_file_says_the_same() -> None:
    text = (Path(schemas.__file__).parent / "openapi.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text) == openapi.document()
