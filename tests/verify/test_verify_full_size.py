"""Every registered model passes verify as ``saccade verify NAME`` runs it: full width, at the size of its card."""

import pytest

from saccade.models import list_models
from saccade.verify.targets import verify_target


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models())
def test_registered_models_pass_at_the_size_of_their_card(name):
    found = verify_target(name)
    assert found.passed, found.table()
    assert not [check.name for check in found.checks if check.status == "FAIL"]
