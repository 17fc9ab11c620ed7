"""The description of the routes holds: whatever is sent, no fault of the server, and every answer as it is described."""

from __future__ import annotations

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from review_ui.app import described
from tests.review_ui.conftest import Served

_CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_headers_conformance,
           response_schema_conformance, unsupported_method]




@schemathesis.openapi.from_dict(described().openapi()).parametrize()
@settings(max_examples=20, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_answer_is_as_described(case: schemathesis.Case, shared: Served) -> None:
    case.call_and_validate(base_url=shared.url, checks=_CHECKS)
