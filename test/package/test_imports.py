import subprocess
import sys

import pytest

FOREIGN = ("sklearn", "keras", "torch", "jax", "tensorflow", "scipy", "pandas", "grpc", "pydantic", "yaml")


def loaded_by(statement: str) -> set[str]:
    script = f"import sys\n{statement}\nprint('\\n'.join(sys.modules))"
    return set(
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    )


@pytest.mark.parametrize("module", ["package", "package.sklearn", "package.keras", "package.pytorch"])
def test_importing_the_authors_side_loads_nothing_else_of_ours_and_no_learning_library(module: str) -> None:
    loaded = loaded_by(f"import fedn_py.{module}")
    ours = {name for name in loaded if name.startswith("fedn_py.")}
    assert all(name == "fedn_py.errors" or name.startswith("fedn_py.package") for name in ours)
    assert not loaded & set(FOREIGN)
