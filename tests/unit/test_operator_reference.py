"""The generated reference of the operators is that of the present code."""

from __future__ import annotations

import re

from scripts.operator_reference import PAGE, Documented, page


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == page(), "Run `make reference`."


def test_it_names_and_describes_every_argument() -> None:
    rows = re.findall(r"^\| `(\w+)`(?: †)? \| (.+?) \| (.+?) \| (.*) \|$", page(), re.MULTILINE)

    assert {"path", "deadline", "wait_policy", "min_hot_fraction", "poll_interval"} <= {row[0] for row in rows}
    assert [row for row in rows if not row[3].strip()] == []


def test_docstrings_become_markdown() -> None:
    class Example:
        """Does ``this`` as :class:`~some.module.Other` does.

        See `Fluid <https://fluid.io>`_,
        and more.

        Args:
            one: the first, which
                goes on.
            kwargs: all others.

        Raises:
            ValueError: never.
        """

    documented = Documented.of(Example)

    assert documented.text == "Does `this` as `Other` does.\n\nSee [Fluid](https://fluid.io), and more."
    assert documented.arguments == {"one": "the first, which goes on."}
    assert documented.more == "all others."
