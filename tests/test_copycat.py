"""The front door: what ``import copycat`` offers, and what it costs."""

import subprocess
import sys

import pytest

import copycat


@pytest.mark.parametrize("name", copycat.__all__)
def test_public_names_load(name: str) -> None:
    """Every promised name has a home that can be imported."""
    assert getattr(copycat, name) is getattr(copycat, name)


def test_unknown_names_are_attribute_errors() -> None:
    """The lazy loader refuses what it does not know as any module does."""
    name = "nothing"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        getattr(copycat, name)


def test_names_are_listed_before_they_are_loaded() -> None:
    """Completion in a shell shows everything at once."""
    assert set(copycat.__all__) <= set(dir(copycat))


def test_the_import_loads_nothing_else() -> None:
    """A program that imports copycat pays for no part that it does not use."""
    program = "import copycat, sys; print(*(n for n in sys.modules if n.startswith('copycat.')))"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == []


def test_local_is_a_function_after_any_import() -> None:
    """No submodule has the name of a public function, which importing it would replace."""
    import copycat.local_cluster

    assert callable(copycat.local)
