import pytest

# What they assert is shown with its values, as a test's own.
for _each in ("handle", "steps", "traffic", "walk"):
    pytest.register_assert_rewrite(f"{__name__}.{_each}")
