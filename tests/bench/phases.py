"""Where the time of a cold build goes; run as a program in a project's folder, prints JSON.

Third-party imports, which a build makes where it first needs them, are made and timed at the
beginning; what follows is without them.
"""

from __future__ import annotations

import functools
import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

spent: dict[str, float] = {}


def add(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, whose time is added to `name`'s."""

    @functools.wraps(function)
    def timed(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            spent[name] = spent.get(name, 0) + time.perf_counter() - began

    return timed


def main(hosts: list[str]) -> None:
    """Build `hosts` of the project in the working folder."""
    began = time.perf_counter()
    add("import invoke", importlib.import_module)("invoke.main")
    for name in ("jsonschema", "jinja2"):
        add(f"import {name}", importlib.import_module)(name)
    add("import the builder", importlib.import_module)("builder.commands")
    building = add("import the builder", importlib.import_module)("builder.build")

    import jinja2

    from builder import commands, fresh, memo, schema, store

    schema.compiled = add("compiling the schemas", schema.compiled)
    jinja2.BaseLoader.load = add("loading the templates", jinja2.BaseLoader.load)  # type: ignore[method-assign]
    building.load = add("reading and checking configs/", building.load)
    building.plan = add("planning: rendering, packing, hashing", building.plan)
    fresh.observe = add("observing what is read", fresh.observe)
    fresh.keep = add("stamp and memo", fresh.keep)
    memo.write = add("stamp and memo", memo.write)
    memo.code = add("hashing the builder", memo.code)
    store.Transaction._commit = add("flushing and renaming", store.Transaction._commit)  # type: ignore[method-assign]
    store.Transaction.put = add("writing objects", store.Transaction.put)  # type: ignore[method-assign]
    store.Transaction.put_file = add("writing objects", store.Transaction.put_file)  # type: ignore[method-assign]
    commands._build(hosts, False)
    whole = time.perf_counter() - began
    spent["reading and checking configs/"] -= spent["compiling the schemas"]
    spent["planning: rendering, packing, hashing"] -= spent["loading the templates"]
    spent["the rest"] = whole - sum(spent.values())
    json.dump(spent, sys.stdout)


if __name__ == "__main__":
    sys.path[0] = str(Path.cwd())
    main(sys.argv[1:])
